//! What is in the store's files, and how to tell that a file is the one it should be.
//!
//! Every file is a redb database with a table `meta` of numbers:
//!
//! ```text
//! format      1; a higher one belongs to a newer version
//! store       random, the same in every file of a store
//! role        0 journal, 1 + n shard n
//! shards      number of shards
//! state       journal only: 1 being created, 2 being loaded, 3 complete
//! time        journal only: how far the store's own time has come, see `time`; missing before version 0.2
//! truncated   journal only: the last batch whose row was deleted, as all shards had it; missing before version 0.2
//! watermark   shard only: the last batch that has been folded into it
//! ```
//!
//! The journal has a table `batches` (number -> changes, see `change`), and a table `clock` (the store's time -> what the
//! wall clock showed then; missing before version 0.2). A shard has a table `records`:
//!
//! ```text
//! key         digest, 20 bytes
//! value       bytes  0..8    times reported       u64
//!             bytes  8..16   times whitelisted    u64
//!             bytes 16..20   first report         u32, seconds of the store's own time, 0 = never
//!             bytes 20..24   latest report        u32
//!             bytes 24..28   first whitelisting   u32
//!             bytes 28..32   latest whitelisting  u32
//! ```
//!
//! Numbers are little endian.
//!
//! Version 0.1 opens a store that later ones have used: it passes over the store's time and its clock, and takes the times
//! of records for the wall clock's. They are earlier by as long as the server was down since, so that it forgets records so
//! much earlier.

use pyzor_protocol::Digest;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::options::is_number_of_shards;
use super::time::{Reading, Saved, Unsaved};
use crate::error::StoreError;
use crate::record::{EpochSeconds, Record};

/// The newest format this program reads, and the one it writes.
pub(super) const FORMAT: u128 = 1;

/// Length of a stored record.
pub(super) const RECORD_BYTES: usize = 32;
/// A record as it is stored, and as it is kept in memory.
pub(super) type PackedRecord = [u8; RECORD_BYTES];

pub(super) const RECORDS: TableDefinition<'_, &[u8; Digest::BYTES], &PackedRecord> =
    TableDefinition::new("records");
pub(super) const BATCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("batches");
pub(super) const CLOCK: TableDefinition<'_, EpochSeconds, EpochSeconds> =
    TableDefinition::new("clock");
pub(super) const META: TableDefinition<'_, &str, u128> = TableDefinition::new("meta");

const FORMAT_KEY: &str = "format";
const STORE_KEY: &str = "store";
const ROLE_KEY: &str = "role";
const SHARDS_KEY: &str = "shards";
const STATE_KEY: &str = "state";
const TIME_KEY: &str = "time";
const TRUNCATED_KEY: &str = "truncated";
const WATERMARK_KEY: &str = "watermark";

/// What a file is within its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Journal,
    Shard(usize),
}

impl Role {
    /// The file's name.
    pub(super) fn file(self) -> String {
        match self {
            Self::Journal => "journal.redb".to_owned(),
            Self::Shard(index) => format!("shard-{index:03}.redb"),
        }
    }

    fn number(self) -> u128 {
        match self {
            Self::Journal => 0,
            Self::Shard(index) => 1 + index as u128,
        }
    }
}

/// How far the making of a store has come; kept in its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Files are being created. Nobody has used the store yet.
    Creating,
    /// An import is filling it.
    Loading,
    /// In use.
    Complete,
}

impl State {
    fn number(self) -> u128 {
        match self {
            Self::Creating => 1,
            Self::Loading => 2,
            Self::Complete => 3,
        }
    }

    fn from_number(number: u128) -> Option<Self> {
        [Self::Creating, Self::Loading, Self::Complete]
            .into_iter()
            .find(|state| state.number() == number)
    }
}

/// What every file of a store agrees on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) store: u128,
    pub(super) shards: usize,
}

/// Makes an empty database one of the store's files. The state goes into the journal.
pub(super) fn write_identity(
    database: &Database,
    identity: Identity,
    role: Role,
    state: State,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT_KEY, FORMAT)?;
        meta.insert(STORE_KEY, identity.store)?;
        meta.insert(ROLE_KEY, role.number())?;
        meta.insert(SHARDS_KEY, identity.shards as u128)?;
    }
    match role {
        Role::Journal => {
            transaction.open_table(BATCHES)?;
            write_number(&transaction, STATE_KEY, state.number())?;
        }
        Role::Shard(_) => {
            transaction.open_table(RECORDS)?;
            write_watermark(&transaction, 0)?;
        }
    }
    Ok(transaction.commit()?)
}

/// Reads what store the file belongs to, or `None` when it has never been made part of one.
pub(super) fn read_identity(
    database: &Database,
    role: Role,
) -> Result<Option<Identity>, StoreError> {
    let file = role.file();
    let Some(format) = number(database, &file, FORMAT_KEY)? else {
        return Ok(None);
    };
    if format > FORMAT {
        return Err(StoreError::Newer {
            file,
            found: format,
            known: FORMAT,
        });
    }
    if required(database, &file, ROLE_KEY)? != role.number() {
        return Err(StoreError::Foreign {
            file,
            detail: "it belongs under another name",
        });
    }
    let shards = usize::try_from(required(database, &file, SHARDS_KEY)?).ok();
    let shards = shards.filter(|shards| is_number_of_shards(*shards));
    Ok(Some(Identity {
        store: required(database, &file, STORE_KEY)?,
        shards: shards.ok_or_else(|| damaged(&file, "number of shards"))?,
    }))
}

/// Refuses a file that is not the one it should be.
pub(super) fn check_identity(
    database: &Database,
    expected: Identity,
    role: Role,
) -> Result<(), StoreError> {
    let detail = match read_identity(database, role)? {
        Some(found) if found == expected => return Ok(()),
        Some(found) if found.store == expected.store => "it states another number of shards",
        Some(_) => "it carries the id of another store",
        None => "it carries no store id",
    };
    Err(StoreError::Foreign {
        file: role.file(),
        detail,
    })
}

/// Reads how far the making of the store has come.
pub(super) fn read_state(journal: &Database) -> Result<State, StoreError> {
    let file = Role::Journal.file();
    let number = required(journal, &file, STATE_KEY)?;
    State::from_number(number).ok_or_else(|| damaged(&file, STATE_KEY))
}

/// Records how far the making of the store has come.
pub(super) fn write_state(journal: &Database, state: State) -> Result<(), redb::Error> {
    let mut transaction = journal.begin_write()?;
    transaction.set_quick_repair(true);
    write_number(&transaction, STATE_KEY, state.number())?;
    Ok(transaction.commit()?)
}

/// Reads the number of the last batch folded into the shard.
pub(super) fn read_watermark(database: &Database, file: &str) -> Result<u64, StoreError> {
    let number = required(database, file, WATERMARK_KEY)?;
    u64::try_from(number).map_err(|_| damaged(file, WATERMARK_KEY))
}

/// The same as `transaction` sees it; 0 where it makes no sense, which opening the file has ruled out.
pub(super) fn watermark_in(transaction: &ReadTransaction) -> Result<u64, redb::Error> {
    let meta = transaction.open_table(META)?;
    let number = meta.get(WATERMARK_KEY)?.map_or(0, |number| number.value());
    Ok(u64::try_from(number).unwrap_or(0))
}

/// Records, as a part of `transaction`, the number of the last batch folded into the shard.
pub(super) fn write_watermark(
    transaction: &WriteTransaction,
    watermark: u64,
) -> Result<(), redb::Error> {
    write_number(transaction, WATERMARK_KEY, watermark.into())
}

/// Reads the number of the last batch that the journal has no more, as every shard has it.
pub(super) fn read_truncated(journal: &Database) -> Result<u64, StoreError> {
    let file = Role::Journal.file();
    let number = number(journal, &file, TRUNCATED_KEY)?.unwrap_or(0);
    u64::try_from(number).map_err(|_| damaged(&file, TRUNCATED_KEY))
}

/// Records, as a part of `transaction`, the last batch whose row is deleted.
pub(super) fn write_truncated(
    transaction: &WriteTransaction,
    truncated: u64,
) -> Result<(), redb::Error> {
    write_number(transaction, TRUNCATED_KEY, truncated.into())
}

/// Reads how far the store's time had come and what the clock showed, or `None` in a journal that never knew.
pub(super) fn read_time(journal: &Database) -> Result<Option<Saved>, StoreError> {
    let file = Role::Journal.file();
    let Some(time) = number(journal, &file, TIME_KEY)? else {
        return Ok(None);
    };
    let time = EpochSeconds::try_from(time).map_err(|_| damaged(&file, TIME_KEY))?;
    let read = || -> Result<Vec<Reading>, redb::Error> {
        let clock = journal.begin_read()?.open_table(CLOCK)?;
        clock
            .iter()?
            .map(|entry| {
                let (time, wall) = entry?;
                let (time, wall) = (time.value(), wall.value());
                Ok(Reading { time, wall })
            })
            .collect()
    };
    let readings = read().map_err(StoreError::database(&file))?;
    Ok(Some(Saved { time, readings }))
}

/// Records, as a part of `transaction`, how far the store's time has come and what is new of the clock.
pub(super) fn write_time(
    transaction: &WriteTransaction,
    unsaved: &Unsaved,
) -> Result<(), redb::Error> {
    write_number(transaction, TIME_KEY, unsaved.time.into())?;
    let mut clock = transaction.open_table(CLOCK)?;
    for reading in &unsaved.readings {
        clock.insert(reading.time, reading.wall)?;
    }
    clock.retain(|time, _| time >= unsaved.first)?;
    Ok(())
}

fn write_number(
    transaction: &WriteTransaction,
    key: &str,
    number: u128,
) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(key, number)?;
    Ok(())
}

fn required(database: &Database, file: &str, key: &str) -> Result<u128, StoreError> {
    number(database, file, key)?.ok_or_else(|| damaged(file, key))
}

fn number(database: &Database, file: &str, key: &str) -> Result<Option<u128>, StoreError> {
    let read = || -> Result<Option<u128>, redb::Error> {
        let meta = match database.begin_read()?.open_table(META) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            meta => meta?,
        };
        Ok(meta.get(key)?.map(|number| number.value()))
    };
    read().map_err(StoreError::database(file))
}

fn damaged(file: &str, what: &str) -> StoreError {
    StoreError::Damaged {
        file: file.to_owned(),
        detail: format!("its {what} is missing or makes no sense"),
    }
}

/// Lays a record out as above.
pub(super) fn pack(record: &Record) -> PackedRecord {
    let mut bytes = [0; RECORD_BYTES];
    bytes[0..8].copy_from_slice(&record.r_count.to_le_bytes());
    bytes[8..16].copy_from_slice(&record.wl_count.to_le_bytes());
    bytes[16..20].copy_from_slice(&record.r_entered.to_le_bytes());
    bytes[20..24].copy_from_slice(&record.r_updated.to_le_bytes());
    bytes[24..28].copy_from_slice(&record.wl_entered.to_le_bytes());
    bytes[28..32].copy_from_slice(&record.wl_updated.to_le_bytes());
    bytes
}

/// Reads a record laid out as above; every value is one.
pub(super) fn unpack(bytes: &PackedRecord) -> Record {
    Record {
        r_count: u64::from_le_bytes(part(bytes, 0)),
        wl_count: u64::from_le_bytes(part(bytes, 8)),
        r_entered: u32::from_le_bytes(part(bytes, 16)),
        r_updated: u32::from_le_bytes(part(bytes, 20)),
        wl_entered: u32::from_le_bytes(part(bytes, 24)),
        wl_updated: u32::from_le_bytes(part(bytes, 28)),
    }
}

fn part<const N: usize>(bytes: &PackedRecord, start: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[start + index])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_value_is_a_record_and_every_record_a_value(bytes: PackedRecord) {
            prop_assert_eq!(pack(&unpack(&bytes)), bytes);
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let record = Record {
            r_count: 1,
            wl_count: 2,
            r_entered: 3,
            r_updated: 4,
            wl_entered: 5,
            wl_updated: 6,
        };
        let mut expected = [0; RECORD_BYTES];
        for (position, value) in [(0, 1), (8, 2), (16, 3), (20, 4), (24, 5), (28, 6)] {
            expected[position] = value;
        }
        assert_eq!(pack(&record), expected);
    }
}
