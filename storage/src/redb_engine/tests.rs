//! The engine step by step, on a disk that fails when told.

use std::fs::{File, OpenOptions};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pyzor_protocol::Digest;
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageBackend};
use tempfile::TempDir;

use super::committer::RESERVED_BYTES;
use super::disk::DirectoryDisk;
use super::schema::META;
use super::*;
use crate::engine::Wanted;
use crate::record::{CleanupAge, Record};

const START: EpochSeconds = 1_800_000_000;

/// What a test says of a disk, and what the disk tells.
struct Conditions {
    free_bytes: AtomicU64,
    journal_fails: AtomicBool,
    open_files: AtomicUsize,
    /// Files that were open when the disk was let go.
    left_open: AtomicUsize,
}

/// A directory under such conditions.
struct FaultyDisk {
    disk: DirectoryDisk,
    path: std::path::PathBuf,
    conditions: Arc<Conditions>,
}

#[derive(Debug)]
struct FaultyFile {
    file: FileBackend,
    is_journal: bool,
    conditions: Arc<Conditions>,
}

impl std::fmt::Debug for Conditions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("conditions")
    }
}

impl FaultyDisk {
    fn wrap(&self, name: &str, file: File) -> Result<FaultyFile, DatabaseError> {
        self.conditions.open_files.fetch_add(1, Ordering::SeqCst);
        Ok(FaultyFile {
            file: FileBackend::new(file)?,
            is_journal: name == Role::Journal.file(),
            conditions: Arc::clone(&self.conditions),
        })
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        let open = self.conditions.open_files.load(Ordering::SeqCst);
        self.conditions.left_open.store(open, Ordering::SeqCst);
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        self.conditions.open_files.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Disk for FaultyDisk {
    fn describe(&self) -> String {
        self.disk.describe()
    }

    fn create(&self, file: &str, builder: &Builder) -> Result<Database, DatabaseError> {
        let created = File::create_new(self.path.join(file))?;
        drop(created);
        self.open(file, builder)
    }

    fn open(&self, file: &str, builder: &Builder) -> Result<Database, DatabaseError> {
        let path = self.path.join(file);
        let opened = OpenOptions::new().read(true).write(true).open(path)?;
        let wrapped = self.wrap(file, opened)?;
        wrapped.check()?;
        builder.create_with_backend(wrapped)
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        self.disk.remove(file)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.conditions.free_bytes.load(Ordering::SeqCst))
    }

    fn forget_cached(&self, file: &str) -> io::Result<()> {
        self.disk.forget_cached(file)
    }

    fn check_in_place(&self, _file: &str) -> io::Result<()> {
        Ok(())
    }
}

impl FaultyFile {
    fn check(&self) -> io::Result<()> {
        if self.is_journal && self.conditions.journal_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("a disk error, as told"));
        }
        Ok(())
    }
}

impl StorageBackend for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()
    }
}

/// Time that stands still until it is moved.
#[derive(Default)]
struct StoppedClock {
    passed_seconds: AtomicU32,
}

impl StoppedClock {
    fn advance(&self, seconds: u32) {
        self.passed_seconds.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> EpochSeconds {
        START + self.passed_seconds.load(Ordering::SeqCst)
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(self.passed_seconds.load(Ordering::SeqCst).into())
    }
}

/// A stepped engine, and everything round it.
struct Bench {
    engine: RedbEngine,
    steps: Steps,
    clock: Arc<StoppedClock>,
    conditions: Arc<Conditions>,
    _directory: TempDir,
}

const AGE_SECONDS: u32 = 1_000_000;

fn digest(number: u32) -> Digest {
    // Spread over all shards.
    let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0; Digest::BYTES];
    bytes[..8].copy_from_slice(&spread.to_be_bytes());
    bytes[8..12].copy_from_slice(&number.to_be_bytes());
    Digest::from_bytes(bytes)
}

fn options() -> RedbOptions {
    RedbOptions {
        cleanup_age: CleanupAge::from_seconds(AGE_SECONDS),
        hot_set_bytes: 8 << 20,
        cache_bytes: 16 << 20,
        shards: 2,
        ..RedbOptions::default()
    }
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let conditions = Arc::new(Conditions {
            free_bytes: AtomicU64::new(u64::MAX),
            journal_fails: AtomicBool::new(false),
            open_files: AtomicUsize::new(0),
            left_open: AtomicUsize::new(usize::MAX),
        });
        let disk = FaultyDisk {
            disk: DirectoryDisk::lock(directory.path()).unwrap(),
            path: directory.path().to_owned(),
            conditions: Arc::clone(&conditions),
        };
        let clock = Arc::new(StoppedClock::default());
        let time: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let (engine, steps) = RedbEngine::open_stepped(Arc::new(disk), options(), time).unwrap();
        Self {
            engine,
            steps,
            clock,
            conditions,
            _directory: directory,
        }
    }

    /// Reports digests in one commit. Returns whether that worked.
    fn report(&mut self, numbers: impl IntoIterator<Item = u32>) -> bool {
        for number in numbers {
            let now = self.clock.now();
            let update = self
                .engine
                .update(ChangeKind::Report, &[digest(number)], now);
            if update == Update::Unavailable {
                return false;
            }
        }
        self.steps.commit()
    }

    fn look_up(&mut self, number: u32) -> Record {
        let (digest, now) = (digest(number), self.clock.now());
        if let Lookup::Found(record) = self.engine.lookup(&digest, Wanted::Times, now) {
            return record;
        }
        let completions = Completions::new(|| {});
        self.engine
            .lookup_deferred(&digest, now, Ticket(1), &completions)
            .unwrap();
        self.steps.answer_lookups();
        completions.next_answer().unwrap().record.unwrap()
    }

    fn set_free_bytes(&self, bytes: u64) {
        self.conditions.free_bytes.store(bytes, Ordering::SeqCst);
    }

    fn set_journal_fails(&self, fails: bool) {
        self.conditions.journal_fails.store(fails, Ordering::SeqCst);
    }
}

/// A change whose commit is undecided still counts on the record that it found fresh.
#[test]
fn the_record_below_an_undecided_change_is_not_swept() {
    let mut bench = Bench::new();
    assert!(bench.report([1, 1, 1, 1, 1]));
    for _ in 0..3 {
        bench.clock.advance(AGE_SECONDS / 4);
        assert!(bench.report([2]));
    }
    assert!(bench.steps.fold());
    bench.clock.advance(AGE_SECONDS / 4 - 10);
    bench.set_journal_fails(true);
    assert!(!bench.report([1]));
    bench.clock.advance(2 * 3600);
    bench.steps.sweep();
    bench.set_journal_fails(false);
    for _ in 0..10 {
        bench.clock.advance(10);
        bench.steps.commit();
    }
    assert_eq!(bench.engine.stats().failed_files, 0);
    assert_eq!(bench.look_up(1).r_count, 6);

    bench.clock.advance(2 * AGE_SECONDS / 3);
    assert!(bench.report([3]));
    bench.clock.advance(AGE_SECONDS / 2);
    assert!(bench.report([3]));
    assert!(bench.steps.fold());
    while bench.steps.commit() {}
    bench.steps.sweep();
    assert_eq!(bench.engine.stats().swept, 2, "sweeping goes on");
}

#[test]
fn nothing_leaves_memory_while_there_is_room() {
    let mut bench = Bench::new();
    assert!(bench.report(0..3000));
    assert!(bench.steps.fold());
    for _ in 0..3 {
        bench.steps.evict_surplus();
    }
    assert_eq!(bench.engine.stats().hot_entries, 3000);
}

/// What opening the store in a directory says.
fn open(directory: &Path) -> Result<(), StoreError> {
    RedbEngine::open(directory, options(), Arc::new(SystemClock)).map(RedbEngine::close)
}

fn number_of(journal: &Path, key: &str) -> Option<u128> {
    let database = Database::open(journal).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    meta.get(key).unwrap().map(|number| number.value())
}

#[test]
fn a_journal_that_cannot_be_opened_is_not_cleared_away() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).unwrap();
    for index in 0..options().shards {
        std::fs::remove_file(directory.path().join(Role::Shard(index).file())).unwrap();
    }
    let journal = directory.path().join(Role::Journal.file());
    let store = number_of(&journal, "store");
    let held = Database::open(&journal).unwrap();
    assert!(matches!(
        open(directory.path()),
        Err(StoreError::Database { .. })
    ));
    let transaction = held.begin_write().unwrap();
    transaction
        .open_table(META)
        .unwrap()
        .insert("format", 2)
        .unwrap();
    transaction.commit().unwrap();
    drop(held);
    assert!(matches!(
        open(directory.path()),
        Err(StoreError::Newer { .. })
    ));
    assert_eq!(number_of(&journal, "store"), store);
}

#[test]
fn a_journal_that_was_never_made_is_cleared_away() {
    for content in [0, 100, 1 << 20] {
        let directory = tempfile::tempdir().unwrap();
        let journal = directory.path().join(Role::Journal.file());
        std::fs::write(&journal, vec![0; content]).unwrap();
        open(directory.path()).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    Database::create(directory.path().join(Role::Journal.file())).unwrap();
    open(directory.path()).unwrap();
}

#[test]
fn the_directory_is_let_go_after_its_files() {
    let bench = Bench::new();
    let conditions = Arc::clone(&bench.conditions);
    drop(bench);
    assert_eq!(conditions.left_open.load(Ordering::SeqCst), 0);
}

#[test]
fn a_fold_goes_as_far_as_the_disk_has_room() {
    const CHANGES: u32 = 20_000;
    const COMMITS: u32 = 10;
    let mut bench = Bench::new();
    for start in 0..COMMITS {
        assert!(bench.report((start..CHANGES).step_by(COMMITS as usize)));
    }
    bench.set_free_bytes(1 << 20);
    assert!(!bench.steps.fold(), "there is no room at all");
    assert_eq!(bench.engine.stats().folds, 0);
    bench.set_free_bytes(3 << 20);
    assert!(!bench.steps.fold());
    let begun = bench.engine.stats();
    assert_eq!(begun.folds, 2, "some batches in each shard");
    bench.set_free_bytes(RESERVED_BYTES);
    assert!(bench.steps.fold());
    let stats = bench.engine.stats();
    assert_eq!(stats.unfolded_changes, 0);
    assert!(0 < begun.digests && begun.digests < stats.digests);
    assert_eq!(stats.digests, u64::from(CHANGES));
    for number in [0, 7, CHANGES - 1] {
        assert_eq!(bench.look_up(number).r_count, 1);
    }
}

#[test]
fn the_journal_shrinks_while_updates_are_refused() {
    let mut bench = Bench::new();
    assert!(bench.report(0..10));
    bench.set_free_bytes(RESERVED_BYTES - 1);
    assert!(!bench.report([1]));
    assert!(bench.steps.fold());
    assert!(bench.steps.commit());
    assert!(!bench.report([1]), "updates are still refused");
    assert_eq!(bench.engine.stats().journal_rows, 0);
}

#[test]
fn the_journal_comes_back_though_the_disk_is_full() {
    let mut bench = Bench::new();
    assert!(bench.report([1]));
    bench.set_journal_fails(true);
    assert!(!bench.report([1]));
    bench.set_journal_fails(false);
    bench.set_free_bytes(RESERVED_BYTES - 1);
    for _ in 0..10 {
        bench.clock.advance(10);
        bench.steps.commit();
    }
    assert_eq!(bench.engine.stats().failed_files, 0);
    assert!(bench.engine.stats().refusing_updates);
    assert_eq!(bench.look_up(1).r_count, 2);
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message<'l>(&'l Lines);
        impl tracing::field::Visit for Message<'_> {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.0.lock().push(format!("{value:?}"));
            }
        }
        event.record(&mut Message(self));
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// A full disk was logged eight times per second, once for each file, in Rust's words.
#[test]
fn a_full_disk_is_logged_when_it_begins_and_when_it_is_over() {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let mut bench = Bench::new();
        assert!(bench.report(0..10));
        lines.0.lock().clear();
        bench.set_free_bytes(1 << 19);
        for _ in 0..100 {
            assert!(!bench.report([1]));
            assert!(!bench.steps.fold());
        }
        bench.set_free_bytes(u64::MAX);
        while bench.steps.commit() {}
        assert!(bench.report([1]) && bench.steps.fold());
    });
    assert_eq!(
        *lines.0.lock(),
        [
            "updates are refused: the disk has 0 MiB left and has to have 40",
            "shard-000.redb cannot be brought up to date: the disk has only 512 KiB left",
            "updates are taken again",
            "the store's files are brought up to date again",
        ]
    );
}

#[test]
fn a_file_that_fails_again_and_again_is_logged_no_more_than_once_a_minute() {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let mut bench = Bench::new();
        lines.0.lock().clear();
        for _ in 0..20 {
            bench.set_journal_fails(true);
            assert!(!bench.report([1]));
            bench.set_journal_fails(false);
            while bench.engine.stats().refusing_updates {
                bench.clock.advance(10);
                bench.steps.commit();
            }
        }
    });
    let about_updates = |line: &&String| line.starts_with("updates are ");
    let lines = lines.0.lock();
    assert_eq!(lines.iter().filter(about_updates).count(), 2, "{lines:#?}");
    let about_the_file = |line: &&String| line.contains("journal.redb") && line.contains("service");
    assert_eq!(lines.iter().filter(about_the_file).count(), 3, "{lines:#?}");
}

#[test]
fn a_shard_too_few_or_too_many_is_named() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).unwrap();
    let shard = |index| directory.path().join(Role::Shard(index).file());
    std::fs::copy(shard(0), shard(2)).unwrap();
    let refused = open(directory.path()).unwrap_err();
    assert!(
        matches!(refused, StoreError::Foreign { file, .. } if file.ends_with(&Role::Shard(2).file()))
    );
    std::fs::remove_file(shard(2)).unwrap();
    std::fs::remove_file(shard(1)).unwrap();
    let refused = open(directory.path()).unwrap_err();
    assert!(
        matches!(refused, StoreError::Missing { file } if file.ends_with(&Role::Shard(1).file()))
    );
}

/// Changes that lie further apart than records live are applied to the stored record one by one.
#[test]
fn changes_far_apart_are_replayed_from_the_list_of_batches() {
    for by_folder in [false, true] {
        let mut bench = Bench::new();
        assert!(bench.report([1]));
        assert!(bench.steps.fold());
        // The first time takes the second chance away.
        assert_eq!((bench.steps.evict(1), bench.steps.evict(1)), (0, 1));
        assert!(bench.report([1, 1]));
        bench.clock.advance(AGE_SECONDS + 1);
        assert!(bench.report([1]));
        assert!(bench.report([2]));
        if by_folder {
            assert!(bench.steps.fold());
        }
        assert_eq!(bench.look_up(1).r_count, 1);
        assert_eq!(bench.look_up(1).r_entered, START + AGE_SECONDS + 1);
    }
}

/// Every commit fails, and updates are taken again each time: what was refused does not stay in memory for ever.
#[test]
fn what_was_refused_takes_no_room_in_memory() {
    const CHANGES: u32 = 5000;
    let mut bench = Bench::new();
    for round in 0..40 {
        bench.set_free_bytes(0);
        let numbers = round * CHANGES..(round + 1) * CHANGES;
        assert!(!bench.report(numbers), "round {round}");
        bench.set_free_bytes(u64::MAX);
        while bench.engine.stats().refusing_updates {
            bench.clock.advance(10);
            bench.steps.commit();
        }
        bench.steps.evict_surplus();
        let stats = bench.engine.stats();
        assert_eq!(stats.unfolded_changes, 0);
        assert!(stats.hot_entries <= stats.hot_capacity, "{stats:?}");
    }
}
