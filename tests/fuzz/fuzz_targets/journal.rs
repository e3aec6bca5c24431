//! A batch in the store's journal, found when the store is opened after a crash: it is taken or refused, whole. What was
//! taken is counted as the record's rules say, before it is folded into its shard and after.
//!
//! Every input is decoded; opening a whole store takes a hundred times as long, and some inputs, chosen by their hash so
//! that they stay the same ones, get that.
#![no_main]

#[path = "../../../storage/src/redb_engine/change.rs"]
#[allow(dead_code, reason = "the store needs more of it than this target")]
mod change;
mod record {
    //! Where `change` looks for them.
    pub use pyzor_storage::{ChangeKind, EpochSeconds};
}

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pyzor_fuzz::{MemoryDisk, NOW};
use pyzor_protocol::Digest;
use pyzor_storage::redb_engine::{Clock, Disk, MIN_HOT_SET_BYTES, RedbEngine, RedbOptions, Steps};
use pyzor_storage::{
    ChangeKind, CleanupAge, Completions, Engine, EpochSeconds, Lookup, Record, StoreError, Ticket,
    Wanted,
};
use redb::{Builder, TableDefinition};

const BATCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("batches");

/// Kind, time, digest.
const CHANGE_BYTES: usize = 1 + 4 + Digest::BYTES;

/// One input in so many is found by a store.
const INPUTS_A_STORE: u64 = 32;

/// Whatever the fuzzer's times are, nothing expires.
const KEPT: CleanupAge = CleanupAge::from_seconds(0);

/// A clock in the last second there is: no batch is from later, and its times are shown as they are.
struct LastSecond;

impl Clock for LastSecond {
    fn now(&self) -> EpochSeconds {
        EpochSeconds::MAX
    }

    fn uptime(&self) -> Duration {
        Duration::ZERO
    }
}

static NEW_STORE: LazyLock<MemoryDisk> = LazyLock::new(|| {
    let disk = Arc::new(MemoryDisk::default());
    let _ = open(&disk).expect("a new store");
    disk.copy()
});

fn open(disk: &Arc<MemoryDisk>) -> Result<(RedbEngine, Steps), StoreError> {
    let options = RedbOptions {
        cleanup_age: KEPT,
        shards: 1,
        // Little to set up and tear down in each run.
        hot_set_bytes: MIN_HOT_SET_BYTES,
        cache_bytes: MIN_HOT_SET_BYTES,
        reader_threads: 1,
        ..RedbOptions::default()
    };
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    RedbEngine::open_stepped(disk, options, Arc::new(LastSecond))
}

fn write_batch(disk: &MemoryDisk, batch: &[u8]) {
    let journal = disk.open("journal.redb", &Builder::new()).unwrap();
    let transaction = journal.begin_write().unwrap();
    let mut batches = transaction.open_table(BATCHES).unwrap();
    batches.insert(1, batch).unwrap();
    drop(batches);
    transaction.commit().unwrap();
}

/// The records that the batch makes, or `None` when it is none.
fn expected(batch: &[u8]) -> Option<HashMap<Digest, Record>> {
    let (changes, rest) = batch.as_chunks::<CHANGE_BYTES>();
    let mut records = HashMap::<Digest, Record>::new();
    for change in changes {
        let kind = match change[0] {
            1 => ChangeKind::Report,
            2 => ChangeKind::Whitelist,
            _ => return None,
        };
        let time = u32::from_le_bytes(change[1..5].try_into().unwrap());
        let digest = Digest::from_bytes(change[5..].try_into().unwrap());
        records.entry(digest).or_default().apply(kind, time, KEPT);
    }
    rest.is_empty().then_some(records)
}

fn look_up(engine: &RedbEngine, steps: &mut Steps, digest: &Digest) -> Record {
    match engine.lookup(digest, Wanted::Times, NOW) {
        Lookup::Found(record) => record,
        Lookup::Deferred => {
            let answers = Completions::new(|| {});
            let asked = engine.lookup_deferred(digest, NOW, Ticket(1), &answers);
            asked.expect("nobody else asks");
            steps.answer_lookups();
            let answer = answers.next_answer().expect("it was answered");
            answer.record.expect("nothing is wrong with the disk")
        }
        Lookup::Unavailable => panic!("nothing is wrong with the disk"),
    }
}

/// What the store's own reading of the batch makes of it, as [`expected`].
fn decoded(bytes: &[u8]) -> Option<HashMap<Digest, Record>> {
    let batch = change::Batch::decode(1, bytes)?;
    let mut encoded = Vec::new();
    let mut records = HashMap::<Digest, Record>::new();
    for change in batch.changes() {
        change.encode(&mut encoded);
        let record = records.entry(change.digest).or_default();
        record.apply(change.kind, change.time, KEPT);
    }
    assert_eq!(encoded, bytes);
    Some(records)
}

fn is_for_a_store(batch: &[u8]) -> bool {
    let mut hasher = DefaultHasher::new();
    batch.hash(&mut hasher);
    hasher.finish().is_multiple_of(INPUTS_A_STORE)
}

fn find_in_journal(batch: &[u8]) {
    let disk = Arc::new(NEW_STORE.copy());
    write_batch(&disk, batch);
    match (open(&disk), expected(batch)) {
        (Ok((engine, mut steps)), Some(records)) => {
            check_counts(&engine, &mut steps, &records);
            assert!(steps.fold());
            steps.evict(records.len());
            check_counts(&engine, &mut steps, &records);
            assert_eq!(engine.stats().digests, records.len() as u64);
        }
        (Err(error), None) => assert!(error.to_string().contains("batch 1"), "{error}"),
        (opened, _) => panic!("taken: {}", opened.is_ok()),
    }
}

fn check_counts(engine: &RedbEngine, steps: &mut Steps, records: &HashMap<Digest, Record>) {
    for (digest, record) in records {
        assert_eq!(look_up(engine, steps, digest), *record);
    }
}

fuzz_target!(|batch: &[u8]| {
    assert_eq!(decoded(batch), expected(batch));
    if is_for_a_store(batch) {
        find_in_journal(batch);
    }
});
