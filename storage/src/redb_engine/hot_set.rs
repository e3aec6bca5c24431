//! Digests in memory.
//!
//! An entry is there because its digest was looked up lately, or because it has changes that no shard has folded yet.
//!
//! What an entry knows ([`Base`]): usually the whole truth. But when a change arrives for a digest that memory does not
//! hold, only the change is known, and the stored record (the *base*) has to be read before anybody can be answered.
//! Until then the entry holds what its changes make of an empty record. The two are put together by [`Slot::with_base`]
//! exactly as if the changes had been applied one by one to the base.
//!
//! Invariants:
//! - An entry with a change that is not folded never leaves.
//! - An entry that does not know its base holds every change that its shard has not folded, and no other. For that,
//!   the folder lets every entry it touches know its base before it commits the fold ([`HotSet::teach`]). Where the entry's
//!   record says too little ([`Base::Replay`]) it is made anew from a base and the batches that this base lacks, by the
//!   watermark that was read together with it.
//! - A record read from a shard is remembered only if the shard did not change since before it was read.
//! - The table never takes more memory than it was given. Each of its parts doubles, under its own lock, until it has
//!   [`PLACES_PER_PART`] places: a small table lies in few pages of memory, and is asked faster.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use dashmap::try_result::TryResult;
use dashmap::{DashMap, SharedValue};
use parking_lot::Mutex;
use pyzor_protocol::Digest;

use super::change::Change;
use super::faults::{PlantedBug, planted};
use super::keyed_hash::{KeyedHash, keyed_hash};
use super::schema::{PackedRecord, pack, unpack};
use crate::record::{ChangeKind, CleanupAge, MAX_COUNT, Record};

/// Memory that one place in the table takes: the entry, and the table's control byte.
const PLACE_BYTES: usize = size_of::<(Digest, Slot)>() + 1;
/// Places in one part of the table. Small enough that going through a part under its lock takes microseconds, large
/// enough that chance does not fill one part well before the others.
const PLACES_PER_PART: usize = 2048;
/// Entries that the table may hold, in percent of its places: leaves six standard deviations for the fullest part.
const MAX_LOAD_PERCENT: usize = 70;
/// Of those, entries that may have unfolded changes: these cannot make room for others.
const MAX_UNFOLDED_PERCENT: usize = 35;
/// Unfolded changes beyond this bring nothing: a fold is as cheap a record as it gets, and a start has to read them.
const MAX_UNFOLDED: usize = 1_000_000;
/// Room made at a time once the table is full, as a part of all entries it may hold.
const EVICTION_PART: usize = 32;

/// What an entry knows of the stored record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// Everything: the entry's record is the truth.
    Known,
    /// Nothing. The entry's record is what its changes make of an empty one.
    Unknown {
        /// What the first of the changes was: its time is when the base had to be fresh to count on.
        first: ChangeKind,
    },
    /// Nothing, and the entry's record says too little: the changes have to be applied one by one. They lie further apart
    /// than records live, or some of them did not come to be ([`HotSet::distrust`]).
    Replay,
}

/// One entry. Everything is bytes, so that nothing is lost to alignment.
struct Slot {
    record: PackedRecord,
    /// Number of the batch that the latest change came with.
    changed_in: [u8; 8],
    base: Base,
    /// Looked up since the evictor last passed.
    referenced: AtomicBool,
}

/// What memory says of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hot {
    /// Its record.
    Known(Record),
    /// It has changes, but the stored record is needed too.
    BaseNeeded,
    /// Nothing; or nothing that can be said without waiting.
    Absent,
}

/// What became of a record that was read from a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completed {
    /// The digest's record, unfolded changes included.
    Record(Record),
    /// The shard has changed meanwhile: read again.
    Stale,
    /// The digest's changes have to be applied one by one: see [`HotSet::resolve`].
    Replay,
}

/// Whether a record read from a shard may be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remember {
    Yes,
    No,
}

/// Digests in memory.
pub(super) struct HotSet {
    map: DashMap<Digest, Slot, KeyedHash>,
    entries: AtomicUsize,
    evicted: AtomicU64,
    capacity: usize,
    age: CleanupAge,
    /// Where the evictor stopped in each part, counted in entries.
    hands: Mutex<Box<[usize]>>,
}

impl HotSet {
    /// A table that takes at most `bytes` of memory.
    pub(super) fn new(bytes: usize, age: CleanupAge) -> io::Result<Self> {
        let parts = (bytes / PLACE_BYTES / PLACES_PER_PART).max(2);
        let parts = 1 << parts.ilog2();
        Ok(Self {
            map: DashMap::with_hasher_and_shard_amount(keyed_hash()?, parts),
            entries: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            capacity: parts * PLACES_PER_PART / 100 * MAX_LOAD_PERCENT,
            age,
            hands: Mutex::new(vec![0; parts].into()),
        })
    }

    /// Entries that the table may hold.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes that may be unfolded at a time.
    pub(super) fn unfolded_limit(&self) -> usize {
        (self.capacity / 100 * MAX_UNFOLDED_PERCENT).min(MAX_UNFOLDED)
    }

    pub(super) fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Whether a record may be remembered that was only looked up. What has to be held for its changes' sake always may.
    fn has_room(&self) -> bool {
        self.entries() < self.capacity - self.unfolded_limit()
    }

    /// Entries to evict, so that lookups can be remembered for a while.
    pub(super) fn surplus(&self) -> usize {
        if self.has_room() {
            return 0;
        }
        let wanted = self.capacity - self.unfolded_limit() - self.capacity / EVICTION_PART;
        self.entries().saturating_sub(wanted)
    }

    /// What memory knows of `digest`. For workers, which must not wait for a thread of lower priority: while somebody
    /// changes that part of memory, nothing is known.
    pub(super) fn get(&self, digest: &Digest) -> Hot {
        match self.map.try_get(digest) {
            TryResult::Present(slot) => slot.know(),
            TryResult::Absent | TryResult::Locked => Hot::Absent,
        }
    }

    /// The same for those who have the time to wait.
    pub(super) fn wait_for(&self, digest: &Digest) -> Hot {
        let slot = self.map.get(digest);
        slot.map_or(Hot::Absent, |slot| slot.know())
    }

    /// Applies a change out of batch `seq`. `stored` says whether a shard may hold a record of the digest.
    pub(super) fn apply(&self, change: &Change, seq: u64, stored: bool) {
        self.visit(
            &change.digest,
            |slot| slot.apply(change, seq, self.age),
            || {
                let slot = Slot::of_change(change, seq, stored, self.age);
                (Some(slot), ())
            },
        );
    }

    /// Puts together what a shard says of `digest` and what memory says.
    ///
    /// `current` says whether the shard is unchanged since before `base` was read; it is asked under the entry's lock.
    pub(super) fn complete(
        &self,
        digest: &Digest,
        base: Record,
        remember: Remember,
        current: impl Fn() -> bool,
    ) -> Completed {
        let current = || planted(PlantedBug::StaleBaseCached) || current();
        self.visit(
            digest,
            |slot| {
                slot.touch();
                if slot.base == Base::Known {
                    return Completed::Record(unpack(&slot.record));
                }
                if !current() {
                    return Completed::Stale;
                }
                match slot.with_base(base, self.age) {
                    Some(record) if remember == Remember::Yes => slot.learn(record),
                    Some(record) => Completed::Record(record),
                    None => Completed::Replay,
                }
            },
            || {
                if !current() {
                    return (None, Completed::Stale);
                }
                let remembered = remember == Remember::Yes && self.has_room();
                let slot = remembered.then(|| Slot::of_record(base));
                (slot, Completed::Record(base))
            },
        )
    }

    /// Does one thing or another under the lock of `digest`'s entry, whether there is one or not. Of `vacant` comes an
    /// entry to put there, or none.
    fn visit<R>(
        &self,
        digest: &Digest,
        occupied: impl FnOnce(&mut Slot) -> R,
        vacant: impl FnOnce() -> (Option<Slot>, R),
    ) -> R {
        let hash_of = |digest: &Digest| self.map.hash_usize(digest) as u64;
        let hash = self.map.hash_usize(digest);
        let number = self.map.determine_shard(hash);
        let hash = hash as u64;
        let mut part = self.map.shards()[number].write();
        if let Some((_, slot)) = part.get_mut(hash, |(key, _)| key == digest) {
            return occupied(slot.get_mut());
        }
        let (slot, result) = vacant();
        if let Some(slot) = slot {
            if part.len() == part.capacity() && part.buckets() >= PLACES_PER_PART {
                // Places of entries that have left cannot all be used again. Left alone, the part would grow beyond
                // its share; instead it is filled anew, which takes some 30 microseconds every thousand entries.
                let entries: Vec<_> = part.drain().collect();
                for entry in entries {
                    part.insert(hash_of(&entry.0), entry, |(key, _)| hash_of(key));
                }
            }
            part.insert(hash, (*digest, SharedValue::new(slot)), |(key, _)| {
                hash_of(key)
            });
            self.entries.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Lets the entry of `digest`, if there is one, know what its shard holds. For the folder, which has read `base` in
    /// the transaction that will replace it. One whose changes have to be applied one by one learns nothing from that.
    pub(super) fn teach(&self, digest: &Digest, base: Record) {
        if let Some(mut slot) = self.map.get_mut(digest)
            && slot.base != Base::Known
            && let Some(record) = slot.with_base(base, self.age)
        {
            slot.learn(record);
        }
    }

    /// Gives an entry that needs it a record made from its base and all its changes, one by one.
    pub(super) fn resolve(&self, digest: &Digest, record: Record) {
        if let Some(mut slot) = self.map.get_mut(digest)
            && slot.base == Base::Replay
        {
            slot.learn(record);
        }
    }

    /// Takes what the entry of `digest` says for wrong: a change that was applied to it does not count after all. The next
    /// who wants to know makes its record anew from the stored one and the changes that do.
    ///
    /// The entry may leave when batch `kept` is folded, the last one that may hold a change of it that counts.
    pub(super) fn distrust(&self, digest: &Digest, kept: u64) {
        if let Some(mut slot) = self.map.get_mut(digest) {
            slot.base = Base::Replay;
            slot.changed_in = kept.to_le_bytes();
        }
    }

    /// Removes the entry of `digest`, unless it has changes after batch `watermark`. Returns whether it is gone.
    pub(super) fn forget(&self, digest: &Digest, watermark: u64) -> bool {
        let mut stays = false;
        let removed = self.map.remove_if(digest, |_, slot| {
            stays = slot.is_unfolded(watermark);
            !stays
        });
        if removed.is_some() {
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
        !stays
    }

    /// Removes about `count` entries that were not looked up since the last time round and have no change after their
    /// shard's watermark. Returns how many went.
    ///
    /// All parts are left with the same number of entries, as far as they can: new entries go everywhere alike, and no
    /// part may overflow.
    pub(super) fn evict(&self, count: usize, watermark: impl Fn(&Digest) -> u64) -> usize {
        let goal = self.entries().saturating_sub(count) / self.map.shards().len();
        let mut hands = self.hands.lock();
        let mut evicted = 0;
        for (number, hand) in hands.iter_mut().enumerate() {
            evicted += self.evict_from(number, hand, goal, &watermark);
        }
        self.entries.fetch_sub(evicted, Ordering::Relaxed);
        self.evicted.fetch_add(evicted as u64, Ordering::Relaxed);
        evicted
    }

    /// Goes round one part, from where the hand stands, until `goal` entries are left. All that stays is put in anew,
    /// which makes every other place usable again.
    fn evict_from(
        &self,
        number: usize,
        hand: &mut usize,
        goal: usize,
        watermark: impl Fn(&Digest) -> u64,
    ) -> usize {
        let hash_of = |digest: &Digest| self.map.hash_usize(digest) as u64;
        let mut part = self.map.shards()[number].write();
        let quota = part.len().saturating_sub(goal);
        if quota == 0 {
            return 0;
        }
        let mut entries: Vec<_> = part.drain().collect();
        let start = *hand % entries.len();
        entries.rotate_left(start);
        let mut evicted = 0;
        for (position, (digest, mut slot)) in entries.into_iter().enumerate() {
            if evicted < quota && slot.get_mut().may_leave(watermark(&digest)) {
                evicted += 1;
                *hand = start + position + 1 - evicted;
            } else {
                part.insert(hash_of(&digest), (digest, slot), |(key, _)| hash_of(key));
            }
        }
        evicted
    }
}

impl Slot {
    fn of_record(record: Record) -> Self {
        Self {
            record: pack(&record),
            changed_in: [0; 8],
            base: Base::Known,
            referenced: AtomicBool::new(true),
        }
    }

    fn of_change(change: &Change, seq: u64, stored: bool, age: CleanupAge) -> Self {
        let mut slot = Self::of_record(Record::EMPTY);
        slot.apply(change, seq, age);
        if stored {
            slot.base = Base::Unknown { first: change.kind };
        }
        slot
    }

    fn know(&self) -> Hot {
        self.touch();
        match self.base {
            Base::Known => Hot::Known(unpack(&self.record)),
            Base::Unknown { .. } | Base::Replay => Hot::BaseNeeded,
        }
    }

    /// Notes that somebody wants the entry. Reads first: a shared cache line is cheaper than one that moves.
    fn touch(&self) {
        if !self.referenced.load(Ordering::Relaxed) {
            self.referenced.store(true, Ordering::Relaxed);
        }
    }

    fn is_unfolded(&self, watermark: u64) -> bool {
        u64::from_le_bytes(self.changed_in) > watermark
    }

    fn may_leave(&mut self, watermark: u64) -> bool {
        let unfolded = self.is_unfolded(watermark) && !planted(PlantedBug::UnfoldedEvicted);
        !unfolded && !std::mem::take(self.referenced.get_mut())
    }

    fn apply(&mut self, change: &Change, seq: u64, age: CleanupAge) {
        let mut record = unpack(&self.record);
        if self.base != Base::Known && record.is_expired(age, change.time) {
            self.base = Base::Replay;
        }
        record.apply(change.kind, change.time, age);
        self.record = pack(&record);
        self.changed_in = seq.to_le_bytes();
    }

    fn learn(&mut self, record: Record) -> Completed {
        self.record = pack(&record);
        self.base = Base::Known;
        Completed::Record(record)
    }

    /// The entry's record, were its changes applied to `base` and not to an empty record.
    ///
    /// No change but the first can have found the record past its age, or the entry would need a replay. So either
    /// `base` was past its age at the first change, and all that counts are the changes; or it counts in full.
    fn with_base(&self, base: Record, age: CleanupAge) -> Option<Record> {
        let changes = unpack(&self.record);
        let first_change = match self.base {
            Base::Known => return Some(changes),
            Base::Replay => return None,
            Base::Unknown {
                first: ChangeKind::Report,
            } => changes.r_entered,
            Base::Unknown {
                first: ChangeKind::Whitelist,
            } => changes.wl_entered,
        };
        Some(sum(base.visible_at(age, first_change), changes))
    }
}

/// The record that has the counts of both, where everything in `later` happened after everything in `earlier`.
fn sum(earlier: Record, later: Record) -> Record {
    let entered = |earlier, later| if earlier == 0 { later } else { earlier };
    let updated = |earlier, later| if later == 0 { earlier } else { later };
    Record {
        r_count: earlier.r_count.saturating_add(later.r_count).min(MAX_COUNT),
        wl_count: earlier
            .wl_count
            .saturating_add(later.wl_count)
            .min(MAX_COUNT),
        r_entered: entered(earlier.r_entered, later.r_entered),
        r_updated: updated(earlier.r_updated, later.r_updated),
        wl_entered: entered(earlier.wl_entered, later.wl_entered),
        wl_updated: updated(earlier.wl_updated, later.wl_updated),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const AGE: CleanupAge = CleanupAge::from_seconds(100);

    fn digest(number: u32) -> Digest {
        let mut bytes = [0; Digest::BYTES];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        Digest::from_bytes(bytes)
    }

    fn report(number: u32, time: u32) -> Change {
        Change {
            kind: ChangeKind::Report,
            time,
            digest: digest(number),
        }
    }

    fn changes() -> impl Strategy<Value = Vec<(bool, u32)>> {
        vec((any::<bool>(), 1..400_u32), 1..6)
    }

    fn record() -> impl Strategy<Value = Record> {
        (
            prop_oneof![0..3_u64, Just(MAX_COUNT - 1)],
            0..3_u64,
            vec(0..400_u32, 4),
        )
            .prop_map(|(r_count, wl_count, times)| Record {
                r_count,
                wl_count,
                r_entered: times[0],
                r_updated: times[1],
                wl_entered: times[2],
                wl_updated: times[3],
            })
    }

    proptest! {
        /// Putting base and changes together late is the same as applying the changes one by one, in any order of
        /// times, or it is refused.
        #[test]
        fn a_base_learnt_late_gives_what_applying_one_by_one_gives(base in record(), changes in changes()) {
            let changes: Vec<_> = changes.iter().map(|&(report, time)| Change {
                kind: if report { ChangeKind::Report } else { ChangeKind::Whitelist },
                time,
                digest: digest(1),
            }).collect();
            let mut expected = base;
            let mut slot = Slot::of_change(&changes[0], 1, true, AGE);
            expected.apply(changes[0].kind, changes[0].time, AGE);
            for change in &changes[1..] {
                slot.apply(change, 1, AGE);
                expected.apply(change.kind, change.time, AGE);
            }
            if let Some(merged) = slot.with_base(base, AGE) {
                prop_assert_eq!(merged, expected);
            } else {
                let spread = changes.windows(2).any(|pair| pair[1].time > pair[0].time + 100);
                prop_assert!(spread, "a replay was asked for without need");
            }
        }
    }

    #[test]
    fn an_entry_fits_its_budget() {
        assert_eq!(size_of::<(Digest, Slot)>(), 62);
        let bytes_an_entry = PLACE_BYTES * 100 / MAX_LOAD_PERCENT;
        assert!(bytes_an_entry <= 130, "{bytes_an_entry} bytes an entry");
    }

    #[test]
    fn a_table_never_grows_beyond_its_memory() {
        let hot = HotSet::new(16 << 20, AGE).unwrap();
        let places = || {
            let parts = hot.map.shards().iter();
            parts.map(|part| part.read().buckets()).collect::<Vec<_>>()
        };
        assert!(places().iter().all(|&places| places <= 1), "empty");
        for number in 0..hot.capacity() {
            hot.apply(&report(u32::try_from(number).unwrap(), 1), 1, false);
        }
        // Many generations of entries come and go, as they do in a year.
        for generation in 0..20_u32 {
            let evicted = hot.evict(hot.capacity() / 4, |_| u64::MAX);
            for number in 0..evicted {
                let number = (generation + 1) << 20 | u32::try_from(number).unwrap();
                hot.apply(&report(number, 1), 1, false);
            }
        }
        assert!(places().iter().all(|&places| places == PLACES_PER_PART));
        assert!(places().len() * PLACES_PER_PART * PLACE_BYTES <= 16 << 20);
        assert_eq!(hot.map.len(), hot.entries());
    }

    #[test]
    fn only_what_is_folded_and_not_wanted_leaves() {
        let hot = HotSet::new(1 << 20, AGE).unwrap();
        (0..10).for_each(|number| hot.apply(&report(number, 1), u64::from(number), false));
        assert_eq!(hot.evict(10, |_| 4), 0, "everything is new");
        hot.get(&digest(3));
        assert_eq!(hot.evict(10, |_| 4), 4);
        assert_eq!(hot.get(&digest(2)), Hot::Absent);
        assert!(matches!(hot.get(&digest(3)), Hot::Known(_)));
        assert!(matches!(hot.get(&digest(9)), Hot::Known(_)));
        assert_eq!(hot.entries(), 6);
    }

    #[test]
    fn a_worker_does_not_wait_for_who_changes_memory() {
        let hot = HotSet::new(1 << 20, AGE).unwrap();
        hot.apply(&report(1, 1), 1, false);
        let parts = hot.map.shards().iter();
        let locked: Vec<_> = parts.map(|part| part.write()).collect();
        assert_eq!(hot.get(&digest(1)), Hot::Absent);
        drop(locked);
        assert!(matches!(hot.get(&digest(1)), Hot::Known(_)));
        assert_eq!(hot.wait_for(&digest(1)), hot.get(&digest(1)));
    }

    #[test]
    fn every_part_is_left_with_the_same_number() {
        let hot = HotSet::new(1 << 20, AGE).unwrap();
        (0..8000).for_each(|number| hot.apply(&report(number, 1), 1, false));
        assert_eq!(hot.evict(8000, |_| 1), 0, "everything was new");
        let lengths = || {
            let parts = hot.map.shards().iter();
            parts.map(|part| part.read().len()).collect::<Vec<_>>()
        };
        assert!(lengths().iter().any(|&length| length != 1000));
        let evicted = hot.evict(1600, |_| 1);
        assert_eq!(lengths(), [800; 8]);
        let wanted = |number: &u32| hot.get(&digest(*number)) != Hot::Absent;
        assert_eq!((0..8000).filter(wanted).count(), 8000 - evicted);
        assert_eq!(hot.evict(8000, |_| 1), 0, "everything was looked up");
        assert_eq!(hot.evict(8000, |_| 1), 8000 - evicted);
        assert_eq!(hot.entries(), 0);
    }
}
