//! Lookups that need a file.
//!
//! A worker asks for one when memory does not know the digest, or could not say so without waiting: then memory is asked
//! once more, by a thread that can wait.
//!
//! Workers put them into a bounded queue; reader threads answer them, and sleep when there are none (`sleepers`). A reader
//! reads the record from the shard and then puts it together with what memory says, under the lock of the digest's entry.
//!
//! Between the two, the shard may have been folded, and the entry with the folded changes may have left memory. The
//! record that was read is stale then, and neither remembered nor answered (invariant 5): the shard's generation, noted
//! before reading, tells.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use pyzor_protocol::Digest;

use super::hot_set::{Completed, Hot, Remember};
use super::interleave::switch_point;
use super::shard::{Shard, is_settled};
use super::stats::count;
use super::store::Store;
use crate::engine::{Completions, LookupAnswer, Ticket, Unavailable};
use crate::record::{EpochSeconds, Record};

/// Lookups that may wait for a reader, of all workers together.
const QUEUED_LOOKUPS: usize = 8192;
/// Places in the queue. A worker that comes to a place which a reader is still emptying would wait for that reader: with
/// twice as many places as are used, it has been emptied long before.
const QUEUE_PLACES: usize = 2 * QUEUED_LOOKUPS;
/// Times a record is read again because its shard has changed meanwhile. Folds take longer than reads, so that once is
/// already rare.
const READ_ATTEMPTS: usize = 8;

/// A lookup that needs a file.
pub(super) struct Question {
    digest: Digest,
    /// When it was asked, in the store's time.
    time: EpochSeconds,
    ticket: Ticket,
    to: Completions,
}

impl Question {
    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// A record as read from its shard.
pub(super) struct BaseRead {
    base: Record,
    /// The last batch that is in it.
    watermark: u64,
    generation: u64,
}

/// The two ends of the queue of lookups.
pub(super) fn queue() -> (Sender<Question>, Receiver<Question>) {
    bounded(QUEUE_PLACES)
}

/// Queues a lookup for the readers.
pub(super) fn enqueue(
    store: &Store,
    digest: &Digest,
    now: EpochSeconds,
    ticket: Ticket,
    to: &Completions,
) -> Result<(), Unavailable> {
    let question = Question {
        digest: *digest,
        time: store.time.at(now),
        ticket,
        to: to.clone(),
    };
    let has_room = store.lookups.len() < QUEUED_LOOKUPS;
    if has_room && store.lookups.try_send(question).is_ok() {
        count(&store.counters.deferred_lookups);
        store.sleepers.wake_one();
        Ok(())
    } else {
        count(&store.counters.unavailable);
        Err(Unavailable)
    }
}

/// Answers lookups.
pub(super) struct Reader {
    store: Arc<Store>,
    questions: Receiver<Question>,
}

impl Reader {
    pub(super) fn new(store: Arc<Store>, questions: Receiver<Question>) -> Self {
        Self { store, questions }
    }

    /// Answers, as reader `number`, until the store stops.
    pub(super) fn run(&self, number: usize) {
        loop {
            self.drain();
            if self.store.is_stopping() {
                return;
            }
            let is_needed = || !self.questions.is_empty() || self.store.is_stopping();
            self.store.sleepers.sleep(number, is_needed);
        }
    }

    /// Answers what is in the queue. Returns how many there were.
    pub(super) fn drain(&self) -> usize {
        let mut answered = 0;
        while let Some(question) = self.next() {
            self.answer(&question);
            answered += 1;
        }
        answered
    }

    /// Takes a lookup out of the queue without answering it.
    pub(super) fn next(&self) -> Option<Question> {
        self.questions.try_recv().ok()
    }

    fn answer(&self, question: &Question) {
        let record = if self.store.is_stopping() {
            Err(Unavailable)
        } else {
            self.look_up(&question.digest)
        };
        self.reply(question, record);
    }

    /// Sends the answer to who asked.
    pub(super) fn reply(&self, question: &Question, record: Result<Record, Unavailable>) {
        if record.is_err() {
            count(&self.store.counters.failed_lookups);
        }
        let store = &self.store;
        let visible = |record: Record| {
            store
                .time
                .shown(record.visible_at(store.memory.age, question.time))
        };
        question.to.push_answer(LookupAnswer {
            ticket: question.ticket,
            record: record.map(visible),
        });
        self.store.wake_evictor_if_due();
    }

    /// Both halves, as often as it takes; neither when memory knows it after all.
    pub(super) fn look_up(&self, digest: &Digest) -> Result<Record, Unavailable> {
        if let Hot::Known(record) = self.store.memory.hot.wait_for(digest) {
            return Ok(record);
        }
        for _ in 0..READ_ATTEMPTS {
            let read = self.read_base(digest)?;
            if let Some(record) = self.complete(digest, &read) {
                return Ok(record);
            }
        }
        Err(Unavailable)
    }

    /// First half of a lookup: what the shard says.
    pub(super) fn read_base(&self, digest: &Digest) -> Result<BaseRead, Unavailable> {
        let shard = self.store.memory.shard(digest);
        let generation = shard.generation();
        switch_point();
        let (base, watermark) = shard
            .handle
            .with(|database| Shard::read(database, digest))
            .map_err(|_| Unavailable)?;
        switch_point();
        Ok(BaseRead {
            base,
            watermark,
            generation,
        })
    }

    /// Second half: the record, unless the shard has changed since.
    pub(super) fn complete(&self, digest: &Digest, read: &BaseRead) -> Option<Record> {
        let memory = &self.store.memory;
        let shard = memory.shard(digest);
        let remember = if is_settled(read.generation) {
            Remember::Yes
        } else {
            Remember::No
        };
        let current = || shard.generation() == read.generation;
        let (base, pending) = ((read.base, read.watermark), &self.store.pending);
        match memory.complete(digest, base, remember, pending, current) {
            Completed::Record(record) => Some(record),
            Completed::Stale | Completed::Replay => None,
        }
    }
}
