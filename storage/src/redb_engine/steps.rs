//! The work of the store's threads, done step by step by whoever calls: for simulations, where the order of things is
//! chosen and not left to chance.

use std::sync::Arc;

use super::committer::{Committer, Step};
use super::evict::{evict, evict_surplus};
use super::folder::Folder;
use super::lookup::{BaseRead, Question, Reader};
use super::store::Store;

/// The work of a store's threads. Drop it, and the engine, to close the store without committing what is pending.
pub struct Steps {
    store: Arc<Store>,
    committer: Committer,
    folder: Folder,
    reader: Reader,
}

/// A deferred lookup whose record has been read, and which is not answered yet.
pub struct HalfLookup {
    question: Question,
    read: BaseRead,
}

impl Steps {
    pub(super) fn new(
        store: Arc<Store>,
        committer: Committer,
        folder: Folder,
        reader: Reader,
    ) -> Self {
        Self {
            store,
            committer,
            folder,
            reader,
        }
    }

    /// Commits the open batch, if there is one and updates are taken; else looks whether they can be taken again.
    /// Returns whether something was committed or deleted.
    pub fn commit(&mut self) -> bool {
        self.committer.step() == Step::Done
    }

    /// Folds everything that has been committed. Returns whether every shard has it.
    pub fn fold(&mut self) -> bool {
        self.folder.reopen_failed();
        self.folder.fold()
    }

    /// Does what the folder's thread would do now by itself.
    pub fn maintain(&mut self) {
        self.folder.step();
    }

    /// Sweeps all shards once.
    pub fn sweep(&mut self) {
        self.folder.sweep();
    }

    /// Builds a new filter.
    pub fn rebuild_filter(&mut self) {
        self.folder.rebuild();
    }

    /// Evicts up to `count` entries from memory, as far as they may go. Returns how many went.
    pub fn evict(&mut self, count: usize) -> usize {
        evict(&self.store, count)
    }

    /// Evicts what is too many in memory.
    pub fn evict_surplus(&mut self) {
        evict_surplus(&self.store);
    }

    /// Answers all deferred lookups. Returns how many there were.
    pub fn answer_lookups(&mut self) -> usize {
        self.reader.drain()
    }

    /// Does the first half of a deferred lookup: reads the record from its shard.
    pub fn begin_lookup(&mut self) -> Option<HalfLookup> {
        let question = self.reader.next()?;
        match self.reader.read_base(question.digest()) {
            Ok(read) => Some(HalfLookup { question, read }),
            Err(unavailable) => {
                self.reader.reply(&question, Err(unavailable));
                None
            }
        }
    }

    /// Does the second half. Returns whether the record that was read could be used; if not, it was read anew.
    pub fn finish_lookup(&mut self, half: &HalfLookup) -> bool {
        let digest = half.question.digest();
        let completed = self.reader.complete(digest, &half.read);
        let record = completed.map_or_else(|| self.reader.look_up(digest), Ok);
        self.reader.reply(&half.question, record);
        completed.is_some()
    }
}
