//! Files that are not what they should be: a store that is incomplete, mixed, newer or in use refuses to open, and says
//! what is wrong; and a store that was filled at once holds what was put in.

use std::path::Path;
use std::sync::Arc;

use pyzor_storage::redb_engine::{BulkLoad, RedbEngine, RedbOptions, SystemClock};
use pyzor_storage::{CleanupAge, Engine, Lookup, Record, StoreError, Wanted};
use redb::{Database, TableDefinition};
use tempfile::TempDir;

use crate::simulation::{Driver, Fate, SimClock, SimDisk, digest, new_store, small_options};

fn refusal(disk: &SimDisk, clock: &Arc<SimClock>) -> StoreError {
    match Driver::open(disk, small_options(), clock) {
        Ok(_) => panic!("the store opens"),
        Err(error) => error,
    }
}

#[test]
fn a_missing_file_is_named() {
    for file in ["journal.redb", "shard-000.redb", "shard-001.redb"] {
        let (disk, clock) = new_store();
        disk.lose(file);
        let message = refusal(&disk, &clock).to_string();
        assert!(message.contains(file), "{message}");
    }
}

#[test]
fn files_of_two_stores_are_not_mixed() {
    let (disk, clock) = new_store();
    let (other, _) = new_store();
    for file in ["journal.redb", "shard-001.redb"] {
        let mixed = disk.duplicate(0);
        mixed.take_from(&other, file, file);
        let error = refusal(&mixed, &clock);
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    }
    disk.take_from(&disk.duplicate(0), "shard-000.redb", "shard-001.redb");
    let message = refusal(&disk, &clock).to_string();
    assert!(message.contains("under another name"), "{message}");
}

#[test]
fn a_store_keeps_the_shards_it_was_created_with() {
    let (disk, clock) = new_store();
    let mut driver = Driver::open(&disk, small_options(), &clock).unwrap();
    assert_eq!(driver.report(&[1, 2, 3]), Fate::Counts);
    driver.steps.fold();
    drop(driver);
    let options = RedbOptions {
        shards: 16,
        ..small_options()
    };
    let mut driver = Driver::open(&disk, options, &clock).unwrap();
    assert!((1..=3).all(|number| driver.check(number).unwrap().r_count == 1));
}

fn open(directory: &Path) -> Result<RedbEngine, StoreError> {
    RedbEngine::open(directory, small_options(), Arc::new(SystemClock))
}

/// What a store of files says when a number in `file` is another.
fn refusal_with(file: &str, key: &str, number: u128) -> String {
    const META: TableDefinition<'_, &str, u128> = TableDefinition::new("meta");
    let directory = TempDir::new().unwrap();
    open(directory.path()).unwrap().close();
    let database = Database::open(directory.path().join(file)).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut meta = transaction.open_table(META).unwrap();
    meta.insert(key, number).unwrap();
    drop(meta);
    transaction.commit().unwrap();
    drop(database);
    open(directory.path()).err().unwrap().to_string()
}

#[test]
fn a_newer_format_is_refused() {
    for file in ["journal.redb", "shard-000.redb"] {
        let message = refusal_with(file, "format", 2);
        assert!(
            message.contains(file) && message.contains("newer version"),
            "{message}"
        );
    }
}

#[test]
fn an_impossible_number_of_shards_is_refused() {
    for number in [0, 3, 512, u128::MAX] {
        let message = refusal_with("journal.redb", "shards", number);
        assert!(
            message.contains("journal.redb") && message.contains("number of shards"),
            "{number}: {message}"
        );
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let wrong = [
        RedbOptions {
            shards: 3,
            ..small_options()
        },
        RedbOptions {
            hot_set_bytes: 1000,
            ..small_options()
        },
        RedbOptions {
            reader_threads: 0,
            ..small_options()
        },
    ];
    for options in wrong {
        let directory = TempDir::new().unwrap();
        let opened = RedbEngine::open(directory.path(), options, Arc::new(SystemClock));
        assert!(matches!(opened.err(), Some(StoreError::Option { .. })));
        assert!(!RedbEngine::exists(directory.path()));
    }
}

fn record(count: u64) -> Record {
    Record {
        r_count: count,
        r_entered: 1,
        r_updated: 2,
        ..Record::EMPTY
    }
}

#[test]
fn a_filled_store_holds_what_was_put_in() {
    let directory = TempDir::new().unwrap();
    let store = directory.path().join("store");
    let options = RedbOptions {
        cleanup_age: CleanupAge::from_seconds(0),
        ..small_options()
    };
    let mut load = BulkLoad::create(&store, &options).unwrap();
    for number in 0..10_000 {
        load.push(digest(number), record(1)).unwrap();
    }
    for number in 0..100 {
        load.push(digest(number), record(7)).unwrap();
    }
    assert_eq!(load.finish().unwrap(), 10_000);

    let again = BulkLoad::create(&store, &options);
    assert!(matches!(again.err(), Some(StoreError::Exists { .. })));
    let clock = Arc::new(SystemClock);
    let engine = RedbEngine::open(&store, options, clock).unwrap();
    assert_eq!(engine.stats().digests, 10_000);
    assert_eq!(
        engine.lookup(&digest(5), Wanted::Times, 3),
        Lookup::Deferred
    );
    let unknown = engine.lookup(&digest(20_000), Wanted::Times, 3);
    assert_eq!(unknown, Lookup::Found(Record::EMPTY));
    let mut asker = crate::store_threads::Asker::new(&engine);
    assert_eq!(asker.check(&digest(5)), record(7), "the later one");
    assert_eq!(asker.check(&digest(9_999)), record(1));
}

#[test]
fn half_an_import_is_refused() {
    let directory = TempDir::new().unwrap();
    let mut load = BulkLoad::create(directory.path(), &small_options()).unwrap();
    load.push(digest(1), record(1)).unwrap();
    drop(load);
    assert!(RedbEngine::exists(directory.path()));
    let message = open(directory.path()).err().unwrap().to_string();
    assert!(message.contains("did not finish"), "{message}");
    let again = BulkLoad::create(directory.path(), &small_options());
    assert!(matches!(again.err(), Some(StoreError::Unfinished { .. })));
}
