//! One file of records, holding the digests that begin with the same bits.

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use pyzor_protocol::Digest;
use redb::{Database, ReadableDatabase, ReadableTableMetadata};

use super::database_handle::DatabaseHandle;
use super::interleave::switch_point;
use super::schema::{RECORDS, read_watermark, unpack, watermark_in};
use crate::error::StoreError;
use crate::record::Record;

/// One file of records. Only the folder changes it.
pub(super) struct Shard {
    pub(super) handle: DatabaseHandle,
    /// Counts the changes of the file: odd while records are being deleted, when nothing that is read may be remembered.
    generation: AtomicU64,
    /// The last batch that is folded for sure.
    watermark: AtomicU64,
    /// Records in the file.
    digests: AtomicU64,
}

/// Which shard a digest belongs to: its first bits, as a number.
pub(super) fn shard_of(digest: &Digest, shards: usize) -> usize {
    let [first, second, ..] = *digest.as_bytes();
    (usize::from(u16::from_be_bytes([first, second])) * shards) >> u16::BITS
}

impl Shard {
    /// Takes in what the file holds, which has just been opened.
    pub(super) fn new(handle: DatabaseHandle) -> Result<Self, StoreError> {
        let shard = Self {
            handle,
            generation: AtomicU64::new(0),
            watermark: AtomicU64::new(0),
            digests: AtomicU64::new(0),
        };
        shard
            .handle
            .while_opening(|database| shard.take_in(database))?;
        Ok(shard)
    }

    /// Reads the watermark and the number of records out of the file; for when it has just been opened.
    pub(super) fn take_in(&self, database: &Database) -> Result<(), StoreError> {
        let watermark = read_watermark(database, self.handle.file())?;
        self.check_age(watermark, self.watermark())?;
        let digests = count(database).map_err(StoreError::database(self.handle.file()))?;
        self.digests.store(digests, Ordering::Relaxed);
        self.publish(watermark);
        Ok(())
    }

    /// Refuses a file that lacks batches up to `least` which nobody has any more: it is a copy of an earlier day, or was
    /// copied while a server ran.
    pub(super) fn check_age(&self, watermark: u64, least: u64) -> Result<(), StoreError> {
        if watermark >= least {
            return Ok(());
        }
        Err(StoreError::Damaged {
            file: self.handle.file().to_owned(),
            detail: format!(
                "it is older than the rest of the store: it holds updates up to batch {watermark}, and is to hold them up to {least}"
            ),
        })
    }

    /// The record of `digest` in the file, and the last batch that is folded into the file at that moment. Others are told of
    /// that batch a little later ([`Shard::publish`]).
    pub(super) fn read(database: &Database, digest: &Digest) -> Result<(Record, u64), redb::Error> {
        let transaction = database.begin_read()?;
        let records = transaction.open_table(RECORDS)?;
        let stored = records.get(digest.as_bytes())?;
        let record = stored.map_or(Record::EMPTY, |record| unpack(record.value()));
        Ok((record, watermark_in(&transaction)?))
    }

    /// Shows up to `count` records after digest `after` to `see`, in order. Returns the last digest if there may be more.
    pub(super) fn visit(
        database: &Database,
        after: Option<Digest>,
        count: usize,
        mut see: impl FnMut(Digest, Record),
    ) -> Result<Option<Digest>, redb::Error> {
        let records = database.begin_read()?.open_table(RECORDS)?;
        let start = match &after {
            Some(after) => Bound::Excluded(after.as_bytes()),
            None => Bound::Unbounded,
        };
        let mut last = None;
        let mut seen = 0;
        let range = records.range::<&[u8; Digest::BYTES]>((start, Bound::Unbounded))?;
        for entry in range.take(count) {
            let (digest, record) = entry?;
            let digest = Digest::from_bytes(*digest.value());
            see(digest, unpack(record.value()));
            last = Some(digest);
            seen += 1;
        }
        Ok(last.filter(|_| seen == count))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn watermark(&self) -> u64 {
        self.watermark.load(Ordering::Acquire)
    }

    pub(super) fn digests(&self) -> u64 {
        self.digests.load(Ordering::Relaxed)
    }

    /// Tells everybody that the file holds everything up to batch `watermark`.
    ///
    /// First the generation, then the watermark: an entry that leaves memory because of the watermark can only be missed
    /// by somebody who then sees the new generation too.
    pub(super) fn publish(&self, watermark: u64) {
        self.generation.fetch_add(2, Ordering::AcqRel);
        switch_point();
        self.watermark.store(watermark, Ordering::Release);
    }

    /// Keeps everybody from remembering what they read, until the result is dropped.
    pub(super) fn begin_deleting(&self) -> Deleting<'_> {
        self.generation.fetch_add(1, Ordering::AcqRel);
        Deleting { shard: self }
    }

    pub(super) fn set_digests(&self, digests: u64) {
        self.digests.store(digests, Ordering::Relaxed);
    }
}

/// Whether records read at this generation may be remembered at all.
pub(super) fn is_settled(generation: u64) -> bool {
    generation.is_multiple_of(2)
}

/// See [`Shard::begin_deleting`].
pub(super) struct Deleting<'a> {
    shard: &'a Shard,
}

impl Drop for Deleting<'_> {
    fn drop(&mut self) {
        self.shard.generation.fetch_add(1, Ordering::AcqRel);
    }
}

fn count(database: &Database) -> Result<u64, redb::Error> {
    Ok(database.begin_read()?.open_table(RECORDS)?.len()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bits_choose_the_shard() {
        let digest = |first, second| {
            let mut bytes = [0; Digest::BYTES];
            (bytes[0], bytes[1]) = (first, second);
            Digest::from_bytes(bytes)
        };
        assert_eq!(shard_of(&digest(0xff, 0xff), 1), 0);
        assert_eq!(shard_of(&digest(0x7f, 0xff), 2), 0);
        assert_eq!(shard_of(&digest(0x80, 0), 2), 1);
        assert_eq!(shard_of(&digest(0xab, 0xcd), 256), 0xab);
        assert_eq!(shard_of(&digest(0xe0, 0), 8), 7);
    }
}
