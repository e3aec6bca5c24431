//! The store's threads: thin loops round the steps that do the work.

use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};

use rustix::process::nice;
use tracing::debug;

use super::committer::{Committer, Step};
use super::evict::evict_surplus;
use super::folder::Folder;
use super::options::Durability;
use super::store::Store;
use crate::error::StoreError;

/// Shortest time between the beginnings of two commits. A commit costs the same however large it is.
const COMMIT_INTERVAL: Duration = Duration::from_millis(1);
/// The same where nobody waits for the commit.
const RELAXED_COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// How long the evictor sleeps when nobody wakes it.
const EVICTOR_SLEEP: Duration = Duration::from_secs(60);

/// How long it waits in any case when nothing could leave.
const EVICTOR_PAUSE: Duration = Duration::from_millis(100);

/// Added to the niceness of threads that somebody waits for, so that they come after the workers whatever theirs is.
pub(super) const NICE_SERVING: i32 = 5;
/// The same for threads that nobody waits for.
pub(super) const NICE_BACKGROUND: i32 = 10;

/// Starts a thread of lower priority than the workers.
pub(super) fn spawn(
    name: &'static str,
    niceness: i32,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StoreError> {
    let lowered = move || {
        // Linux keeps a niceness for each thread, and "this process" means the calling thread.
        if let Err(error) = nice(niceness) {
            debug!("{name} keeps its priority: {error}");
        }
        run();
    };
    Builder::new()
        .name(name.to_owned())
        .spawn(lowered)
        .map_err(|source| StoreError::Thread { name, source })
}

/// Commits until there is nothing left and never will be.
pub(super) fn commit(mut committer: Committer, store: &Store) {
    let interval = match store.durability {
        Durability::Group => COMMIT_INTERVAL,
        Durability::Relaxed => RELAXED_COMMIT_INTERVAL,
    };
    loop {
        let started = Instant::now();
        match committer.step() {
            Step::Done => {
                let pause = interval.saturating_sub(started.elapsed());
                store.pending.wait_until_urgent(pause);
            }
            Step::Idle => store.pending.wait_for_work(),
            Step::Refusing(pause) => store.pending.wait_until_urgent(pause),
            Step::Stopped => return,
        }
    }
}

/// Folds, sweeps and builds filters until the store stops.
pub(super) fn fold(mut folder: Folder, store: &Store) {
    while !store.is_stopping() {
        let pause = folder.step();
        store.folder_wake.wait(pause);
    }
}

/// Makes room in the hot set until the store stops.
pub(super) fn evict(store: &Store) {
    while !store.is_stopping() {
        if !evict_surplus(store) {
            sleep(EVICTOR_PAUSE);
        }
        store.evictor_wake.wait(EVICTOR_SLEEP);
    }
}
