//! The journal: every batch, as one row, in one synced commit.
//!
//! A commit writes the row, its tree pages and the header, and syncs once; should the power go in between, redb finds by
//! its checksums that the commit is not whole and takes the one before. Rows that every shard has folded are deleted as
//! part of later commits.

use std::ops::{Range, RangeInclusive};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, Table};

use super::change::Batch;
use super::faults::{PlantedBug, planted};
use super::schema::{BATCHES, write_time, write_truncated};
use super::time::Unsaved;
use crate::error::StoreError;

/// Writes `batch`, if there is one, and the store's time, if that is to be saved, and deletes the rows in `folded`:
/// durably, all or nothing.
pub(super) fn write(
    database: &Database,
    batch: Option<&Batch>,
    time: Option<&Unsaved>,
    folded: Range<u64>,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    if planted(PlantedBug::SyncSkipped) {
        transaction.set_durability(Durability::None)?;
    }
    {
        let mut batches = transaction.open_table(BATCHES)?;
        if let Some(batch) = batch {
            batches.insert(batch.seq, batch.as_bytes())?;
        }
        delete(&mut batches, folded.clone())?;
    }
    if let Some(last) = folded.last() {
        write_truncated(&transaction, last)?;
    }
    if let Some(time) = time {
        write_time(&transaction, time)?;
    }
    Ok(transaction.commit()?)
}

fn delete(batches: &mut Table<'_, u64, &[u8]>, rows: Range<u64>) -> Result<(), redb::Error> {
    for seq in rows {
        batches.remove(seq)?;
    }
    Ok(())
}

/// Numbers of the oldest and the latest row.
pub(super) fn bounds(database: &Database) -> Result<Option<(u64, u64)>, redb::Error> {
    let batches = database.begin_read()?.open_table(BATCHES)?;
    let first = batches.first()?.map(|(seq, _)| seq.value());
    let last = batches.last()?.map(|(seq, _)| seq.value());
    Ok(first.zip(last))
}

/// The batch in row `seq`, if there is one.
pub(super) fn batch(
    database: &Database,
    file: &str,
    seq: u64,
) -> Result<Option<Batch>, StoreError> {
    let mut found = None;
    visit(database, file, seq..=seq, |batch| {
        found = Some(batch);
        Ok(())
    })?;
    Ok(found)
}

/// Shows every batch in `rows`, oldest first.
pub(super) fn visit(
    database: &Database,
    file: &str,
    rows: RangeInclusive<u64>,
    mut see: impl FnMut(Batch) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = |error: redb::Error| StoreError::database(file)(error);
    let open = || -> Result<_, redb::Error> { Ok(database.begin_read()?.open_table(BATCHES)?) };
    let batches = open().map_err(failed)?;
    let rows = batches.range(rows).map_err(|error| failed(error.into()))?;
    for row in rows {
        let (seq, changes) = row.map_err(|error| failed(error.into()))?;
        let seq = seq.value();
        let batch = Batch::decode(seq, changes.value()).ok_or_else(|| StoreError::Damaged {
            file: file.to_owned(),
            detail: format!("batch {seq} is not one"),
        })?;
        see(batch)?;
    }
    Ok(())
}
