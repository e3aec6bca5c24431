//! One walk over all entries of a GNU dbm file.
//!
//! Buckets name their entries in the order of a hash, so that following them would hop about the whole file. A pass
//! therefore collects the slots of many buckets, sorts them by place and reads the file in ascending order; memory is that
//! of one pass. Each bucket is read once, each slot leads to one entry or one [`Damage`], so the walk ends on any file.

use std::io;
use std::os::unix::fs::FileExt;

use super::GdbmFile;
use super::layout::Slot;

/// The slots of one pass, at most a bucket more than this: 24 MiB.
const SLOTS_IN_A_PASS: usize = 1 << 20;
/// Read at a time, and the longest entry, in bytes. A Pyzor record has about 130.
const WINDOW_BYTES: usize = 64 << 10;

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// A part of a file that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// A bucket, and with it every entry that only it names.
    #[error("the bucket at byte {offset} is damaged, its entries are lost")]
    Bucket {
        /// Where the bucket starts, in bytes.
        offset: u64,
    },
    /// An entry that does not match what is said of it.
    #[error("the entry at byte {offset} is damaged")]
    Entry {
        /// Where the entry starts, in bytes.
        offset: u64,
    },
    /// An entry too long to be a Pyzor record.
    #[error("the entry at byte {offset} claims {length} bytes, more than any record has")]
    TooLong {
        /// Where the entry starts, in bytes.
        offset: u64,
        /// The length of key and value together, in bytes.
        length: u32,
    },
    /// Something lies beyond the end of the file.
    #[error("byte {offset} lies beyond the end of the file")]
    BeyondEnd {
        /// Where it should start, in bytes.
        offset: u64,
    },
    /// The system could not read it.
    #[error("cannot read from byte {offset}: {source}")]
    Io {
        /// Where the reading started, in bytes.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// Iterates over the entries of a file. See [`GdbmFile::entries`].
#[derive(Debug)]
pub struct Entries<'a> {
    from: &'a GdbmFile,
    /// This pass began with this bucket.
    first_bucket: usize,
    /// The buckets before this one have been read.
    next_bucket: usize,
    /// What this pass found to follow, in ascending order of place.
    slots: Vec<Slot>,
    /// The slots before this one have been followed.
    next_slot: usize,
    /// Buckets this pass could not read, not yet told.
    damaged: Vec<Damage>,
    window: Window,
}

impl<'a> Entries<'a> {
    pub(super) fn new(from: &'a GdbmFile) -> Self {
        Self {
            from,
            first_bucket: 0,
            next_bucket: 0,
            slots: Vec::new(),
            next_slot: 0,
            damaged: Vec::new(),
            window: Window::default(),
        }
    }

    /// How much of the file has been walked, in thousandths.
    pub fn permille_done(&self) -> usize {
        let slots_done = 1000 * self.next_slot / self.slots.len().max(1);
        let buckets_in_pass = self.next_bucket - self.first_bucket;
        let done = 1000 * self.first_bucket + slots_done * buckets_in_pass;
        done / self.from.buckets.len().max(1)
    }

    /// Reads buckets until enough slots are together.
    fn start_pass(&mut self) {
        self.slots.clear();
        self.next_slot = 0;
        self.first_bucket = self.next_bucket;
        while self.slots.len() < SLOTS_IN_A_PASS
            && let Some(&offset) = self.from.buckets.get(self.next_bucket)
        {
            self.next_bucket += 1;
            match self.read_bucket(offset) {
                Ok(slots) => self.slots.extend(slots),
                Err(damage) => self.damaged.push(damage),
            }
        }
        self.slots.sort_unstable_by_key(|slot| slot.entry);
    }

    fn read_bucket(&self, offset: u64) -> Result<Vec<Slot>, Damage> {
        let header = &self.from.header;
        self.check_place(offset, header.bucket_bytes)?;
        let mut bytes = vec![0; header.bucket_bytes as usize];
        let read = self.from.file.read_exact_at(&mut bytes, offset);
        read.map_err(|source| Damage::Io { offset, source })?;
        header.parse_bucket(&bytes).ok_or(Damage::Bucket { offset })
    }

    fn read_entry(&mut self, slot: Slot) -> Result<Entry, Damage> {
        let offset = slot.entry;
        let length = slot.key_bytes.saturating_add(slot.value_bytes);
        if length as usize > WINDOW_BYTES {
            return Err(Damage::TooLong { offset, length });
        }
        self.check_place(offset, length)?;
        let bytes = self.window.read(self.from, offset, length as usize)?;
        let (key, value) = bytes.split_at(slot.key_bytes as usize);
        if !slot.names(key) {
            return Err(Damage::Entry { offset });
        }
        Ok(Entry {
            key: key.to_vec(),
            value: value.to_vec(),
        })
    }

    fn check_place(&self, offset: u64, length: u32) -> Result<(), Damage> {
        match offset.checked_add(u64::from(length)) {
            Some(end) if end <= self.from.file_bytes => Ok(()),
            _ => Err(Damage::BeyondEnd { offset }),
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.damaged.is_empty() && self.next_slot == self.slots.len() {
            self.start_pass();
        }
        if let Some(damage) = self.damaged.pop() {
            return Some(Err(damage));
        }
        let slot = *self.slots.get(self.next_slot)?;
        self.next_slot += 1;
        Some(self.read_entry(slot))
    }
}

/// A piece of the file in memory, moved when something beyond it is asked for.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// `length` bytes from `offset` on, at most [`WINDOW_BYTES`] and within the file.
    fn read(&mut self, from: &GdbmFile, offset: u64, length: usize) -> Result<&[u8], Damage> {
        if self.find(offset, length).is_none() {
            self.move_to(from, offset)?;
        }
        let bytes = self
            .find(offset, length)
            .and_then(|range| self.bytes.get(range));
        bytes.ok_or(Damage::BeyondEnd { offset })
    }

    fn find(&self, offset: u64, length: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let end = start.checked_add(length)?;
        (end <= self.bytes.len()).then_some(start..end)
    }

    fn move_to(&mut self, from: &GdbmFile, offset: u64) -> Result<(), Damage> {
        let left = from.file_bytes.saturating_sub(offset);
        let length = usize::try_from(left).map_or(WINDOW_BYTES, |left| left.min(WINDOW_BYTES));
        self.start = offset;
        self.bytes.resize(length, 0);
        from.file
            .read_exact_at(&mut self.bytes, offset)
            .map_err(|source| {
                // Whatever it read of it is not to be found again.
                self.bytes.clear();
                Damage::Io { offset, source }
            })
    }
}
