//! A batch in the store's journal, found when the store is opened after a crash: it is taken or refused, whole.
#![no_main]

use std::path::Path;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use libfuzzer_sys::fuzz_target;
use pyzor_fuzz::Scratch;
use pyzor_storage::redb_engine::{MIN_HOT_SET_BYTES, RedbEngine, RedbOptions, SystemClock};
use redb::{Database, TableDefinition};

const BATCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("batches");

static STORE: LazyLock<Scratch> = LazyLock::new(|| {
    let store = Scratch::new();
    open(store.directory()).expect("a new store");
    store
});

/// Each run writes its own batch, above all that were folded before.
static NUMBER: AtomicU64 = AtomicU64::new(1 << 32);

fn open(directory: &Path) -> Result<RedbEngine, pyzor_storage::StoreError> {
    let options = RedbOptions {
        shards: 1,
        // Little to set up and tear down in each run.
        hot_set_bytes: MIN_HOT_SET_BYTES,
        cache_bytes: MIN_HOT_SET_BYTES,
        reader_threads: 1,
        ..RedbOptions::default()
    };
    RedbEngine::open(
        &directory.join("pyzord.redb"),
        options,
        Arc::new(SystemClock),
    )
}

/// Writes the row into the journal, or takes it out.
fn set_batch(number: u64, batch: Option<&[u8]>) {
    let path = STORE.directory().join("pyzord.redb/journal.redb");
    let journal = Database::open(path).expect("the journal is intact");
    let transaction = journal.begin_write().unwrap();
    {
        let mut batches = transaction.open_table(BATCHES).unwrap();
        match batch {
            Some(batch) => batches.insert(number, batch).map(drop),
            None => batches.remove(number).map(drop),
        }
        .unwrap();
    }
    transaction.commit().unwrap();
}

fuzz_target!(|batch: &[u8]| {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    set_batch(number, Some(batch));
    match open(STORE.directory()) {
        Ok(engine) => engine.close(),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            set_batch(number, None);
        }
    }
});
