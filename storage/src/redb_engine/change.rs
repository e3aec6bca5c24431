//! Changes as the journal holds them.
//!
//! A batch is changes one after the other, in the order in which they were made:
//!
//! ```text
//! byte  0       1 for a report, 2 for a whitelisting
//! bytes 1..5    time, seconds of the store's own time (`time`), little endian
//! bytes 5..25   digest
//! ```

use pyzor_protocol::Digest;

use crate::record::{ChangeKind, EpochSeconds};

/// Length of one change in a batch.
pub(super) const CHANGE_BYTES: usize = 1 + TIME_BYTES + Digest::BYTES;
const TIME_BYTES: usize = size_of::<EpochSeconds>();

const REPORT: u8 = 1;
const WHITELIST: u8 = 2;

/// One report or whitelisting of one digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) kind: ChangeKind,
    pub(super) time: EpochSeconds,
    pub(super) digest: Digest,
}

impl Change {
    /// Appends the change to an encoded batch.
    pub(super) fn encode(&self, batch: &mut Vec<u8>) {
        let mut bytes = [0; CHANGE_BYTES];
        bytes[0] = match self.kind {
            ChangeKind::Report => REPORT,
            ChangeKind::Whitelist => WHITELIST,
        };
        bytes[1..=TIME_BYTES].copy_from_slice(&self.time.to_le_bytes());
        bytes[1 + TIME_BYTES..].copy_from_slice(self.digest.as_bytes());
        batch.extend_from_slice(&bytes);
    }

    fn decode(bytes: &[u8; CHANGE_BYTES]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (time, digest) = rest.split_first_chunk()?;
        Some(Self {
            kind: match *kind {
                REPORT => ChangeKind::Report,
                WHITELIST => ChangeKind::Whitelist,
                _ => return None,
            },
            time: EpochSeconds::from_le_bytes(*time),
            digest: Digest::from_bytes(digest.try_into().ok()?),
        })
    }
}

/// The changes of one commit, under the number that the journal keeps them at.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) seq: u64,
    bytes: Vec<u8>,
}

/// The changes that were encoded into `bytes`, in the order in which they were made.
pub(super) fn changes_in(bytes: &[u8]) -> impl Iterator<Item = Change> {
    bytes.as_chunks().0.iter().filter_map(Change::decode)
}

impl Batch {
    /// A batch of changes that were encoded one after the other.
    pub(super) fn of_encoded(seq: u64, bytes: Vec<u8>) -> Self {
        Self { seq, bytes }
    }

    /// The batch in `bytes`, or `None` when they are not an encoded batch.
    pub(super) fn decode(seq: u64, bytes: &[u8]) -> Option<Self> {
        let (changes, rest) = bytes.as_chunks();
        let whole = rest.is_empty() && changes.iter().all(|bytes| Change::decode(bytes).is_some());
        whole.then(|| Self::of_encoded(seq, bytes.to_vec()))
    }

    /// The changes in the order in which they were made.
    pub(super) fn changes(&self) -> impl Iterator<Item = Change> {
        changes_in(&self.bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same in no more memory than it takes.
    pub(super) fn compact(&self) -> Self {
        Self::of_encoded(self.seq, self.bytes.clone())
    }

    /// The memory of the batch, for another one.
    pub(super) fn into_memory(self) -> Vec<u8> {
        let mut bytes = self.bytes;
        bytes.clear();
        bytes
    }

    /// Number of changes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() / CHANGE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: ChangeKind, byte: u8) -> Change {
        Change {
            kind,
            time: 0x0102_0304,
            digest: Digest::from_bytes([byte; Digest::BYTES]),
        }
    }

    #[test]
    fn a_batch_comes_back_as_it_was_written() {
        let changes = [
            change(ChangeKind::Report, 7),
            change(ChangeKind::Whitelist, 0xff),
        ];
        let mut bytes = Vec::new();
        for change in &changes {
            change.encode(&mut bytes);
        }
        assert_eq!(bytes.len(), 2 * CHANGE_BYTES);
        assert_eq!(bytes[..6], [1, 4, 3, 2, 1, 7]);
        let batch = Batch::decode(9, &bytes).unwrap();
        assert_eq!(batch.changes().collect::<Vec<_>>(), changes);
        assert_eq!((batch.seq, batch.len()), (9, 2));
    }

    #[test]
    fn bytes_that_are_no_batch_are_refused() {
        let mut bytes = Vec::new();
        change(ChangeKind::Report, 7).encode(&mut bytes);
        assert!(Batch::decode(1, &bytes[..CHANGE_BYTES - 1]).is_none());
        bytes[0] = 3;
        assert!(Batch::decode(1, &bytes).is_none());
    }
}
