//! From a whole message to its answer: the digest first, after which the message is gone, and then what the servers say.
//!
//! Both block a thread, so both take turns. Digesting is short and asks nobody; long messages have turns of their own,
//! fewer than there are cores, so that no short one waits behind a hostile one. Asking takes as long as the servers do, up
//! to their time-out. When they are dead, [`Limits::max_lookups`] messages each time-out learn so by having asked; what
//! has waited that long for its turn is told so without.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pyzor_protocol::{DigestText, ReplyNumbers};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::answer;
use super::counters::Counters;
use super::limits::Limits;
use super::receive::Message;
use crate::digester::digest_of;
use crate::exchange::{Failure, Response};
use crate::session::Session;

/// The code of a message that is over the limit.
const TOO_LONG: i64 = 413;

/// Threads besides those that digest and ask: one reads files, one looks up addresses.
const OTHER_THREADS: usize = 2;

/// Digests messages and asks servers.
#[derive(Debug)]
pub(super) struct Scanner {
    session: RefCell<Arc<Session>>,
    short_digests: Semaphore,
    long_digests: Semaphore,
    lookups: Semaphore,
    counters: Rc<Counters>,
}

/// How many threads all that takes at most.
pub(super) fn max_threads(limits: &Limits) -> usize {
    let cores = cores();
    let digests = Limits::short_digesters(cores) + Limits::long_digesters(cores);
    limits
        .max_lookups
        .get()
        .saturating_add(digests + OTHER_THREADS)
}

fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

impl Scanner {
    /// A scanner whose turns follow from `limits`.
    pub(super) fn new(limits: &Limits, session: Session, counters: Rc<Counters>) -> Self {
        let cores = cores();
        Self {
            session: RefCell::new(Arc::new(session)),
            short_digests: Semaphore::new(Limits::short_digesters(cores)),
            long_digests: Semaphore::new(Limits::long_digesters(cores)),
            lookups: Semaphore::new(limits.max_lookups.get()),
            counters,
        }
    }

    /// Whom it asks and how, now.
    pub(super) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session.borrow())
    }

    /// Asks as `session` says from now on. What is being asked goes on as before.
    pub(super) fn replace_session(&self, session: Session) {
        self.session.replace(Arc::new(session));
    }

    /// How long servers may take to answer.
    pub(super) fn timeout(&self) -> Duration {
        self.session.borrow().patience.timeout
    }

    /// The answer to `message`; none if a thread failed, which would be a mistake of ours.
    pub(super) async fn answer(&self, message: Message) -> Option<String> {
        let digest = self.digest(message).await?;
        let session = self.session();
        if let Some(line) = answer::from_local_whitelist(&digest, &session) {
            self.counters.answered.add_one();
            return Some(line);
        }
        let Ok(_turn) = timeout(session.patience.timeout, self.lookups.acquire()).await else {
            self.counters.no_turn.add_one();
            let timed_out = Err(Failure::TimedOut);
            return Some(answer::without_asking(Some(&digest), &timed_out, &session));
        };
        let asked = spawn_blocking(move || answer::to_check(&digest, &session)).await;
        self.counters.answered.add_one();
        asked.ok()
    }

    /// The answer to a message over the limit: a refusal, as if by the servers.
    pub(super) fn too_long(&self) -> String {
        self.counters.too_long.add_one();
        let refusal = Ok(Response {
            code: TOO_LONG,
            diag: b"Message too long.".to_vec(),
            numbers: ReplyNumbers::default(),
        });
        answer::without_asking(None, &refusal, &self.session.borrow())
    }

    async fn digest(&self, message: Message) -> Option<DigestText> {
        let Message { bytes, long_seat } = message;
        let turns = match long_seat {
            None => &self.short_digests,
            Some(_) => &self.long_digests,
        };
        let _turn = turns.acquire().await.ok()?;
        let digest = spawn_blocking(move || digest_of(&bytes)).await;
        drop(long_seat);
        digest.ok().map(DigestText::from)
    }
}
