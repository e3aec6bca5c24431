//! Creating, checking and opening a store's files, and bringing memory to where it was.
//!
//! **Creating.** The journal is created first and says "being created"; then come the shards, several at a time, in any
//! order; then it says "complete". A crash in between leaves a store that says it was never used: the next start clears it
//! away and begins again. An import says "being loaded" meanwhile, and what it leaves is refused, because it holds half of
//! somebody's data. A shard without a journal is refused too: only the journal is there from the beginning.
//!
//! **Opening.** Every file must carry the same store id and its own place. All shards are read once, in parallel, for the
//! filter and the number of digests. Then every batch of the journal that some shard lacks enters memory
//! just as if it had been committed now; what a shard has folded already is skipped by its watermark. So a batch counts
//! once, wherever the crash came.

use std::io;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};
use std::time::Instant;

use redb::Database;
use tracing::{info, warn};

use super::clock::Clock;
use super::database_handle::{DatabaseHandle, builder, guarded_file};
use super::disk::Disk;
use super::hot_set::HotSet;
use super::journal;
use super::keyed_hash::random;
use super::memory::{Memory, is_unfolded};
use super::options::{MAX_SHARDS, RedbOptions};
use super::schema::{
    Identity, Role, State, read_identity, read_state, read_time, read_truncated, write_identity,
    write_state,
};
use super::seen_filter::Filter;
use super::shard::Shard;
use super::time::{StoreTime, WallTimes};
use crate::error::StoreError;
use crate::record::EpochSeconds;

/// A store whose files are open and whose memory is filled.
pub(super) struct Recovered {
    pub(super) journal: DatabaseHandle,
    pub(super) memory: Memory,
    pub(super) time: StoreTime,
    /// The journal's oldest row, or the number the next one will have.
    pub(super) oldest_row: u64,
    /// The journal's last row, or 0.
    pub(super) last_row: u64,
    /// Above every number that the journal and the shards know of.
    pub(super) next_seq: u64,
    /// Changes that are not folded.
    pub(super) unfolded: usize,
}

/// Opens the store on `disk`, creating it when there is none.
pub(super) fn recover(
    disk: &dyn Disk,
    options: &RedbOptions,
    clock: &Arc<dyn Clock>,
) -> Result<Recovered, StoreError> {
    let started = Instant::now();
    let files = match find(disk)? {
        Found::Store(identity) => open(disk, options, identity)?,
        Found::Nothing => create(disk, options)?,
        Found::Unfinished => {
            return Err(StoreError::Unfinished {
                store: disk.describe(),
            });
        }
    };
    let recovered = fill_memory(files, options, clock)?;
    info!(
        "opened the store: {} digests, {} changes to fold, in {} ms",
        recovered.memory.digests(),
        recovered.unfolded,
        started.elapsed().as_millis()
    );
    Ok(recovered)
}

/// What is on a disk.
pub(super) enum Found {
    /// Nothing, or only what a creation left that did not get to its end.
    Nothing,
    /// A store.
    Store(Identity),
    /// An import that did not get to its end.
    Unfinished,
}

/// Looks what is on `disk`, and clears away what an unfinished creation has left.
pub(super) fn find(disk: &dyn Disk) -> Result<Found, StoreError> {
    let files = database_files(disk)?;
    let journal = Role::Journal.file();
    if !files.contains(&journal) {
        return match files.first() {
            None => Ok(Found::Nothing),
            Some(_) => Err(StoreError::Missing { file: journal }),
        };
    }
    let state = match look_at_journal(disk) {
        Ok(state) => state,
        // Without shards it cannot have been in use.
        Err(error) if files.len() == 1 && is_half_made(&error) => None,
        Err(error) => return Err(error),
    };
    match state {
        Some((identity, State::Complete)) => Ok(Found::Store(identity)),
        Some((_, State::Loading)) => Ok(Found::Unfinished),
        Some((_, State::Creating)) => clear(disk, &files),
        None if files.len() == 1 => clear(disk, &files),
        None => Err(StoreError::Foreign {
            file: journal,
            detail: "it carries no store id",
        }),
    }
}

/// Whether the file is none of redb's: redb makes a file one as the last step of creating it.
fn is_half_made(error: &StoreError) -> bool {
    let StoreError::Database { source, .. } = error else {
        return false;
    };
    matches!(source.as_ref(), redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData)
}

/// Refuses a store that lacks a shard or has one too many, before anything is opened.
fn check_shards(disk: &dyn Disk, shards: usize) -> Result<(), StoreError> {
    let files = database_files(disk)?;
    for index in 0..shards.max(MAX_SHARDS) {
        let file = Role::Shard(index).file();
        match (index < shards, files.contains(&file)) {
            (true, false) => return Err(StoreError::Missing { file }),
            (false, true) => {
                let detail = "the store has fewer shards";
                return Err(StoreError::Foreign { file, detail });
            }
            _ => {}
        }
    }
    Ok(())
}

fn database_files(disk: &dyn Disk) -> Result<Vec<String>, StoreError> {
    let mut files = disk.list().map_err(StoreError::io(disk.describe()))?;
    files.retain(|file| is_database(file));
    Ok(files)
}

fn is_database(file: &str) -> bool {
    Path::new(file)
        .extension()
        .is_some_and(|extension| extension == "redb")
}

fn look_at_journal(disk: &dyn Disk) -> Result<Option<(Identity, State)>, StoreError> {
    let file = Role::Journal.file();
    disk.forget_cached(&file).map_err(StoreError::io(&file))?;
    guarded_file(&file, || {
        let journal = disk
            .open(&file, &builder(LOOK_CACHE_BYTES))
            .map_err(StoreError::database(&file))?;
        match read_identity(&journal, Role::Journal)? {
            Some(identity) => Ok(Some((identity, read_state(&journal)?))),
            None => Ok(None),
        }
    })
}

fn clear(disk: &dyn Disk, files: &[String]) -> Result<Found, StoreError> {
    warn!("the store's creation was cut off before it was used: creating it anew");
    // The journal goes last: as long as it is there, it says that the rest is worth nothing.
    let journal = Role::Journal.file();
    let shards = files.iter().filter(|file| **file != journal);
    for file in shards {
        disk.remove(file).map_err(StoreError::io(file))?;
    }
    sync_directory(disk)?;
    disk.remove(&journal).map_err(StoreError::io(&journal))?;
    sync_directory(disk)?;
    Ok(Found::Nothing)
}

/// Digests that are put into the filter at a time when all are read.
const DIGESTS_AT_A_TIME: usize = 1024;
/// Cache of a database that is only looked at, in bytes.
const LOOK_CACHE_BYTES: usize = 1 << 20;
/// Shards that are created at a time: that is waiting for the disk, which serves many as fast as one.
const CREATING_THREADS: usize = 8;

/// Creates a store without any record. Its files stay open: opening nine of them anew would take as many syncs again.
fn create(disk: &dyn Disk, options: &RedbOptions) -> Result<Files, StoreError> {
    let cache_bytes = cache_bytes_a_file(options, options.shards);
    let created = create_files(disk, options.shards, cache_bytes, State::Creating)?;
    complete(&created.journal)?;
    let identity = created.identity;
    let handle = |role, database| DatabaseHandle::new(disk, identity, role, cache_bytes, database);
    Ok(Files {
        journal: handle(Role::Journal, created.journal),
        shards: (created.shards.into_iter().enumerate())
            .map(|(index, shard)| Shard::new(handle(Role::Shard(index), shard)))
            .collect::<Result<_, _>>()?,
    })
}

/// The files of a store that has just been created, open.
pub(super) struct CreatedFiles {
    identity: Identity,
    pub(super) journal: Database,
    pub(super) shards: Vec<Database>,
}

/// Creates the files of a store. It must be [completed](complete) before it can be opened.
pub(super) fn create_files(
    disk: &dyn Disk,
    shards: usize,
    cache_bytes: usize,
    state: State,
) -> Result<CreatedFiles, StoreError> {
    let store = random().map_err(StoreError::io("random numbers"))?;
    let store = u128::from_le_bytes(store);
    let identity = Identity { store, shards };
    let create = |role| create_file(disk, identity, role, cache_bytes, state);
    let journal = create(Role::Journal)?;
    sync_directory(disk)?;
    let shards = in_parallel(CREATING_THREADS, shards, |index| create(Role::Shard(index)))?;
    sync_directory(disk)?;
    Ok(CreatedFiles {
        identity,
        journal,
        shards,
    })
}

/// Makes a store that has been created one that can be opened.
pub(super) fn complete(journal: &Database) -> Result<(), StoreError> {
    write_state(journal, State::Complete).map_err(StoreError::database(&Role::Journal.file()))
}

fn create_file(
    disk: &dyn Disk,
    identity: Identity,
    role: Role,
    cache_bytes: usize,
    state: State,
) -> Result<Database, StoreError> {
    let file = role.file();
    let database = disk
        .create(&file, &builder(cache_bytes))
        .map_err(StoreError::database(&file))?;
    write_identity(&database, identity, role, state).map_err(StoreError::database(&file))?;
    Ok(database)
}

fn sync_directory(disk: &dyn Disk) -> Result<(), StoreError> {
    disk.sync_directory()
        .map_err(StoreError::io(disk.describe()))
}

/// The files of a store, open.
struct Files {
    journal: DatabaseHandle,
    shards: Box<[Shard]>,
}

fn open(disk: &dyn Disk, options: &RedbOptions, identity: Identity) -> Result<Files, StoreError> {
    check_shards(disk, identity.shards)?;
    let cache_bytes = cache_bytes_a_file(options, identity.shards);
    let open = |role| DatabaseHandle::open(disk, identity, role, cache_bytes);
    Ok(Files {
        journal: open(Role::Journal)?,
        shards: (0..identity.shards)
            .map(|index| Shard::new(open(Role::Shard(index))?))
            .collect::<Result<_, _>>()?,
    })
}

fn cache_bytes_a_file(options: &RedbOptions, shards: usize) -> usize {
    options.cache_bytes / (shards + 1)
}

fn fill_memory(
    files: Files,
    options: &RedbOptions,
    clock: &Arc<dyn Clock>,
) -> Result<Recovered, StoreError> {
    let Files { journal, shards } = files;
    let now = clock.now();
    let (filter, mut times) = read_shards(&shards, now)?;
    let hot = HotSet::new(options.hot_set_bytes, options.cleanup_age)
        .map_err(StoreError::io("random numbers"))?;
    let memory = Memory::new(hot, filter, shards, options.cleanup_age);
    let rows = journal.while_opening(|database| {
        journal::bounds(database).map_err(StoreError::database(journal.file()))
    })?;
    let truncated = journal.while_opening(read_truncated)?;
    for shard in &memory.shards {
        shard.check_age(shard.watermark(), truncated)?;
    }
    let mut latest_change = 0;
    let unfolded = replay(&journal, &memory, |time| {
        latest_change = latest_change.max(time);
        times.note(time, now);
    })?;
    let clock = Arc::clone(clock);
    let time = match journal.while_opening(read_time)? {
        Some(saved) => StoreTime::resume(clock, saved, latest_change),
        None => StoreTime::begin(clock, times),
    };
    let last_row = rows.map_or(0, |(_, last)| last);
    let watermarks = memory.shards.iter().map(Shard::watermark);
    let next_seq = 1 + watermarks.fold(last_row, u64::max);
    Ok(Recovered {
        oldest_row: rows.map_or(next_seq, |(first, _)| first),
        journal,
        memory,
        time,
        last_row,
        next_seq,
        unfolded,
    })
}

/// Lets memory take in every batch that some shard lacks. Returns how many changes these have. `note` is shown the time of
/// every change that the journal holds.
fn replay(
    journal: &DatabaseHandle,
    memory: &Memory,
    mut note: impl FnMut(EpochSeconds),
) -> Result<usize, StoreError> {
    let watermark = memory.lowest_watermark();
    let mut unfolded = 0;
    journal.while_opening(|database| {
        journal::visit(database, journal.file(), 0..=u64::MAX, |batch| {
            batch.changes().for_each(|change| note(change.time));
            if is_unfolded(batch.seq, watermark) {
                unfolded += batch.len();
                memory.recover(batch);
            }
            Ok(())
        })
    })?;
    Ok(unfolded)
}

/// Reads every record once. Returns a filter that knows all digests, and what there is to know of the records' times.
fn read_shards(shards: &[Shard], now: EpochSeconds) -> Result<(Filter, WallTimes), StoreError> {
    let digests = shards.iter().map(Shard::digests).sum();
    let filter = Filter::for_digests(digests).map_err(StoreError::io("random numbers"))?;
    let threads = available_parallelism().map_or(1, usize::from);
    let read = |index: usize| read_shard(&shards[index], &filter, now);
    let mut times = WallTimes::default();
    for of_shard in in_parallel(threads, shards.len(), read)? {
        times.merge(of_shard);
    }
    Ok((filter, times))
}

fn read_shard(shard: &Shard, filter: &Filter, now: EpochSeconds) -> Result<WallTimes, StoreError> {
    let mut times = WallTimes::default();
    let mut digests = Vec::with_capacity(DIGESTS_AT_A_TIME);
    shard.handle.while_opening(|database| {
        Shard::visit(database, None, usize::MAX, |digest, record| {
            digests.push(digest);
            if digests.len() == DIGESTS_AT_A_TIME {
                filter.insert_all(&digests);
                digests.clear();
            }
            times.note(record.last_updated(), now);
        })
        .map_err(StoreError::database(shard.handle.file()))
    })?;
    filter.insert_all(&digests);
    Ok(times)
}

/// Does `work` with every number below `count`, in at most so many threads. Returns what comes of it, in order.
fn in_parallel<T: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> Result<T, StoreError> + Sync,
) -> Result<Vec<T>, StoreError> {
    let next = AtomicUsize::new(0);
    let work_on = || {
        let mut done = Vec::new();
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                number if number < count => done.push((number, work(number))),
                _ => return done,
            }
        }
    };
    let mut done = scope(|scope| {
        let helpers: Vec<_> = (1..threads.min(count))
            .map(|_| scope.spawn(work_on))
            .collect();
        let mut done = work_on();
        for helper in helpers {
            done.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}
