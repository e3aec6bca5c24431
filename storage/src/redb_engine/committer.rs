//! Makes updates durable, many at a time.
//!
//! One thread takes the open batch, which memory has taken in already, writes it to the journal, and only then tells the
//! workers (invariants 1 and 3).
//!
//! A commit that failed is *undecided*: the batch may be found in the journal later. Memory takes it back, and the open
//! batch with it, before their updates get 503; what was shown of them meanwhile had been acknowledged to nobody. Until the
//! journal is in service again no update is taken. Then the undecided batch is looked for: if it is there it counts, from
//! then on and once (invariant 2). Numbers are never used twice, so there is no doubt which it is.
//!
//! A nearly full disk is treated alike, without letting it come to an error: redb would have to be opened anew.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redb::Database;
use tracing::{info, warn};

use super::change::Batch;
use super::database_handle::DatabaseHandle;
use super::faults::{PlantedBug, planted};
use super::interleave::switch_point;
use super::journal;
use super::pending_commits::Taken;
use super::store::Store;
use super::time::Unsaved;
use crate::engine::{CommitNumber, CommitOutcome};
use crate::error::StoreError;
use crate::trouble::Trouble;

/// Updates are refused while the disk has less room than this, in bytes: the folder needs some to make more.
pub(super) const RESERVED_BYTES: u64 = 32 << 20;
/// And are taken again from this on, so that it does not go back and forth.
const ROOMY_BYTES: u64 = RESERVED_BYTES + (8 << 20);
/// With less than this, in bytes, not even folded rows are deleted: that writes some pages first.
const TRUNCATION_BYTES: u64 = 1 << 20;
/// Pause between two looks at whether things are well again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Folded rows deleted with each commit: more than one, so that the journal shrinks even under load.
const ROWS_DELETED_A_COMMIT: u64 = 64;
/// Folded rows deleted at a time when there is nothing to commit.
const ROWS_DELETED_IDLE: u64 = 4096;

/// Makes updates durable.
pub(super) struct Committer {
    store: Arc<Store>,
    journal: DatabaseHandle,
    /// The first and the last row that the journal holds, or held before some were deleted.
    oldest_row: u64,
    last_row: u64,
    /// A batch of which it is not known whether it is in the journal.
    undecided: Option<Arc<Batch>>,
    refusing: bool,
    refusal: Trouble,
    /// Memory of an earlier batch, for another one.
    spare: Vec<u8>,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something was done: there may be more.
    Done,
    /// There is nothing to do.
    Idle,
    /// Updates are refused; look again after this pause.
    Refusing(Duration),
    /// There will never be anything to do again.
    Stopped,
}

impl Committer {
    pub(super) fn new(
        store: Arc<Store>,
        journal: DatabaseHandle,
        oldest_row: u64,
        last_row: u64,
    ) -> Self {
        let committer = Self {
            store,
            journal,
            oldest_row,
            last_row,
            undecided: None,
            refusing: false,
            refusal: Trouble::default(),
            spare: Vec::new(),
        };
        committer.count_rows();
        committer
    }

    pub(super) fn step(&mut self) -> Step {
        self.journal.check_in_place(self.store.disk.as_ref(), true);
        if self.refusing && !self.is_well_again() {
            self.say_refusal();
            if self.store.is_stopping() {
                self.save_time();
                return Step::Stopped;
            }
            // Deleting what is folded makes room.
            return match self.has_free(TRUNCATION_BYTES).then(|| self.tidy()) {
                Some(Step::Done) => Step::Done,
                _ => Step::Refusing(RETRY_PAUSE),
            };
        }
        match self.store.pending.take(&mut self.spare) {
            Taken::Batch(batch) => self.commit(batch),
            Taken::Nothing => self.tidy(),
            Taken::Stop => {
                self.save_time();
                Step::Stopped
            }
        }
    }

    fn commit(&mut self, batch: Arc<Batch>) -> Step {
        let number = CommitNumber(batch.seq);
        if planted(PlantedBug::ReplyBeforeCommit) {
            self.publish(number, true);
        }
        if self.journal.is_failed() || !self.has_free(RESERVED_BYTES) {
            self.refuse();
            return Step::Refusing(RETRY_PAUSE);
        }
        let folded = self.folded_rows(ROWS_DELETED_A_COMMIT);
        let time = self.store.time.unsaved();
        let written = self.write(Some(&batch), time.as_ref(), folded);
        // A file that was removed meanwhile keeps nothing.
        self.journal.check_in_place(self.store.disk.as_ref(), true);
        if !written || self.journal.is_failed() {
            self.undecided = Some(batch);
            self.refuse();
            return Step::Refusing(RETRY_PAUSE);
        }
        switch_point();
        let (pending, memory) = (&self.store.pending, &self.store.memory);
        let durable = batch.compact();
        if planted(PlantedBug::UncommittedHidden) {
            let changes = durable.changes();
            changes.for_each(|change| memory.take_in(&change, durable.seq));
        }
        pending.committed(|| memory.keep(durable));
        self.spare = Arc::into_inner(batch)
            .map(Batch::into_memory)
            .unwrap_or_default();
        switch_point();
        self.store.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.publish(number, true);
        self.store.wake_folder_if_due();
        Step::Done
    }

    fn write(&mut self, batch: Option<&Batch>, time: Option<&Unsaved>, folded: Range<u64>) -> bool {
        let next_oldest = folded.end;
        let write = |database: &Database| journal::write(database, batch, time, folded);
        if self.journal.with(write).is_err() {
            return false;
        }
        self.oldest_row = next_oldest;
        self.last_row = batch.map_or(self.last_row, |batch| batch.seq);
        self.count_rows();
        if let Some(time) = time {
            self.store.time.saved(time);
        }
        true
    }

    /// Lets the store's time go on from here when the store is opened again.
    fn save_time(&mut self) {
        if let Some(time) = self.store.time.unsaved_at_all() {
            let nothing = self.folded_rows(0);
            self.write(None, Some(&time), nothing);
        }
    }

    fn refuse(&mut self) {
        self.refusing = true;
        self.store
            .counters
            .commit_failures
            .fetch_add(1, Ordering::Relaxed);
        self.note_health();
        self.say_refusal();
        let memory = &self.store.memory;
        // What is undecided may come to count, on a record that must not be swept until then.
        let undecided = self.undecided.as_ref().map(|batch| batch.seq);
        let last = self.store.pending.refuse(|change, seq| {
            let may_count = undecided == Some(seq);
            memory.take_back(change, if may_count { seq } else { self.last_row });
        });
        self.publish(last, false);
    }

    fn publish(&self, through: CommitNumber, durable: bool) {
        for completions in self.store.subscribers.lock().iter() {
            completions.push_commit(CommitOutcome { through, durable });
        }
    }

    /// Deletes folded rows, and saves the time, while there is nothing better to do.
    fn tidy(&mut self) -> Step {
        let folded = self.folded_rows(ROWS_DELETED_IDLE);
        let time = if folded.is_empty() {
            self.store.time.unsaved()
        } else {
            self.store.time.unsaved_at_all()
        };
        if self.journal.is_failed() {
            if !self.refusing {
                self.refuse();
            }
            return Step::Refusing(RETRY_PAUSE);
        }
        if folded.is_empty() && time.is_none() {
            return Step::Idle;
        }
        if self.write(None, time.as_ref(), folded) {
            Step::Done
        } else {
            self.refuse();
            Step::Refusing(RETRY_PAUSE)
        }
    }

    /// The oldest rows that every shard has folded, at most `count`.
    fn folded_rows(&self, count: u64) -> Range<u64> {
        let unfolded = self.store.memory.lowest_watermark() + 1;
        self.oldest_row..unfolded.clamp(self.oldest_row, self.oldest_row + count)
    }

    fn count_rows(&self) {
        let rows = (self.last_row + 1).saturating_sub(self.oldest_row);
        self.store
            .counters
            .journal_rows
            .store(rows, Ordering::Relaxed);
    }

    fn note_health(&self) {
        let counters = &self.store.counters;
        let failed = self.journal.is_failed();
        counters.journal_failed.store(failed, Ordering::Relaxed);
        let refusing = self.refusing;
        counters.refusing_updates.store(refusing, Ordering::Relaxed);
    }

    /// Says why updates are refused, now and then.
    fn say_refusal(&mut self) {
        if !self.refusal.is_news() {
            return;
        }
        if self.journal.is_failed() {
            warn!(
                "updates are refused: {} is out of service",
                self.journal.file()
            );
            return;
        }
        match self.store.disk.free_bytes() {
            Ok(free) => warn!(
                "updates are refused: the disk has {} MiB left and has to have {}",
                free >> 20,
                ROOMY_BYTES >> 20
            ),
            Err(error) => {
                warn!("updates are refused: the disk does not say how much room it has: {error}");
            }
        }
    }

    fn has_free(&self, bytes: u64) -> bool {
        let free = self.store.disk.free_bytes();
        free.is_ok_and(|free| free >= bytes)
    }

    /// Whether updates can be taken again; takes them if so.
    fn is_well_again(&mut self) -> bool {
        let in_service = !self.journal.is_failed() || self.reopen();
        let well = in_service && self.has_free(ROOMY_BYTES);
        if well {
            if self.refusal.is_over() {
                warn!("updates are taken again");
            }
            self.refusing = false;
            self.note_health();
            self.store.pending.accept();
        }
        well
    }

    fn reopen(&mut self) -> bool {
        let (store, file) = (&self.store, self.journal.file());
        let uptime = store.clock.uptime();
        let undecided = self.undecided.as_ref().map(|batch| batch.seq);
        // What is folded may be deleted: the deletion may be what failed.
        let kept = store.memory.lowest_watermark() + 1..=self.last_row;
        let mut counts = false;
        let reopened = self
            .journal
            .reopen_if_due(store.disk.as_ref(), uptime, |database| {
                check_rows(database, file, &kept)?;
                counts = settle(store, database, file, undecided)?;
                Ok(())
            });
        if reopened {
            match self.undecided.take() {
                Some(batch) if counts => self.last_row = batch.seq,
                Some(batch) => {
                    let changes = batch.changes();
                    changes.for_each(|change| store.memory.take_back(&change, self.last_row));
                }
                None => {}
            }
            self.note_health();
        }
        reopened
    }
}

/// Refuses a journal that lacks rows which it had and that some shard still needs: somebody has put an older one in its place.
fn check_rows(
    journal: &Database,
    file: &str,
    kept: &RangeInclusive<u64>,
) -> Result<(), StoreError> {
    let rows = journal::bounds(journal).map_err(StoreError::database(file))?;
    let last = rows.map_or(0, |(_, last)| last);
    if kept.is_empty() || last >= *kept.end() {
        return Ok(());
    }
    Err(StoreError::Damaged {
        file: file.to_owned(),
        detail: format!(
            "it is older: its last batch is {last}, and was {}",
            kept.end()
        ),
    })
}

/// Lets a batch that was undecided count if it is in the journal after all. Returns whether it is.
fn settle(
    store: &Store,
    journal: &Database,
    file: &str,
    undecided: Option<u64>,
) -> Result<bool, StoreError> {
    let Some(seq) = undecided else {
        return Ok(false);
    };
    let Some(batch) = journal::batch(journal, file, seq)? else {
        return Ok(false);
    };
    info!(
        "{} updates that were refused are in the journal and count",
        batch.len()
    );
    let memory = &store.memory;
    store.pending.admit(batch.len(), || memory.recover(batch));
    Ok(true)
}
