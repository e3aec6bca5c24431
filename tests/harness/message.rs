//! Requests and replies as text. Written from the protocol, not with the crates under test, so that a mistake there is
//! not made here as well.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sha1::{Digest as _, Sha1};

/// Threads below this are reserved for errors.
const FIRST_THREAD: u32 = 1024;
const THREADS: u32 = 65_536 - FIRST_THREAD;

/// A user and the key that signs for them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    /// The name in the `User` header.
    pub(crate) user: &'static str,
    /// The key as the passwd file has it.
    pub(crate) key: &'static str,
}

/// A request in the Python client's layout. Each has a thread of its own.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    op: String,
    digests: Vec<String>,
    thread: u32,
    account: Option<Account>,
    time: u64,
}

impl Request {
    /// An anonymous request, made now.
    pub(crate) fn new(op: &str) -> Self {
        static NEXT_THREAD: AtomicU32 = AtomicU32::new(0);
        let number = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
        Self {
            op: op.to_owned(),
            digests: Vec::new(),
            thread: FIRST_THREAD + number % THREADS,
            account: None,
            time: epoch_seconds(),
        }
    }

    /// Adds a digest.
    #[must_use]
    pub(crate) fn digest(mut self, digest: &str) -> Self {
        self.digests.push(digest.to_owned());
        self
    }

    /// Has `account` sign it.
    #[must_use]
    pub(crate) fn signed_by(mut self, account: Account) -> Self {
        self.account = Some(account);
        self
    }

    /// Sets its time, in seconds since the epoch.
    #[must_use]
    pub(crate) fn at(mut self, time: u64) -> Self {
        self.time = time;
        self
    }

    /// The thread its reply must carry.
    pub(crate) fn thread(&self) -> String {
        self.thread.to_string()
    }

    /// The datagram.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("Op: {}\n", self.op);
        for digest in &self.digests {
            writeln!(text, "Op-Digest: {digest}").unwrap();
        }
        let user = self.account.map_or("anonymous", |account| account.user);
        let (thread, time) = (self.thread, self.time);
        write!(
            text,
            "Thread: {thread}\nPV: 2.1\nUser: {user}\nTime: {time}"
        )
        .unwrap();
        let key = self.account.map_or("", |account| account.key);
        let signature = signature(user, key, &time.to_string(), text.as_bytes());
        write!(text, "\nSig: {signature}\n\n").unwrap();
        text.into_bytes()
    }
}

/// The signature over `message`, the request without its `Sig` header.
pub(crate) fn signature(user: &str, key: &str, time: &str, message: &[u8]) -> String {
    let key_hash = hex::encode(Sha1::digest(format!("{user}:{}", key.to_lowercase())));
    let mut signed = Sha1::digest(message).to_vec();
    signed.extend_from_slice(format!(":{time}:{key_hash}").as_bytes());
    hex::encode(Sha1::digest(signed))
}

/// Seconds since the epoch, now.
pub(crate) fn epoch_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_secs()
}

/// A digest nobody used before: of the process, the time and a counter.
pub(crate) fn random_digest() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = format!("{} {number} {}", std::process::id(), now.as_nanos());
    hex::encode(Sha1::digest(seed))
}

/// A reply, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply(pub(crate) Vec<u8>);

impl Reply {
    /// The value of the header `name`.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.0);
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(str::to_owned)
    }

    /// The `Code`.
    pub(crate) fn code(&self) -> u16 {
        self.number("Code").try_into().expect("a code is short")
    }

    /// `Count` and `WL-Count`.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.number("Count"), self.number("WL-Count"))
    }

    /// The number in the header `name`; the test fails when there is none.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.header(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {self}"))
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}
