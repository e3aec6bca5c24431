//! Makes a request that was recorded long ago one that a server accepts now: a `Thread` of ours, the time of today, and for
//! named users a new signature. Everything else stays as it was sent, mistakes included.
//!
//! Values are replaced where they stand, and the server's own parser then says whether it sees the new `Thread`. A datagram
//! for which it does not, because it has none or hides it in folds, is sent as it was recorded; so is one that would become
//! longer than a datagram can be.

use std::ops::Range;

use pyzor_protocol::{AccountKey, Digest, Operation, Request, Scratch, User};

use crate::accounts::Accounts;
use crate::request::Thread;
use crate::trace::LONGEST_DATAGRAM_BYTES;

/// Rewrites requests one after the other.
pub(crate) struct Rewriter {
    accounts: Accounts,
    scratch: Scratch,
    counts: RewriteCounts,
}

/// What could not be rewritten, in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RewriteCounts {
    /// Of named users without an account of ours: their signature is the old one, and the server will refuse it.
    pub(crate) unsigned: u64,
    /// Without a `Thread` that can be replaced: their replies are taken in order.
    pub(crate) unmarked: u64,
}

/// What is known of a request before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// `None` when it asks for no operation there is.
    pub(crate) operation: Option<Operation>,
    /// Whether it carries the `Thread` it was given.
    pub(crate) is_marked: bool,
    /// The digest whose counts its answer tells, if it is about a single one.
    pub(crate) digest: Option<Digest>,
}

impl Rewriter {
    pub(crate) fn new(accounts: Accounts) -> Self {
        Self {
            accounts,
            scratch: Scratch::new(),
            counts: RewriteCounts::default(),
        }
    }

    /// What could not be rewritten so far.
    pub(crate) fn counts(&self) -> RewriteCounts {
        self.counts
    }

    /// Appends `recorded` to `bytes`, made a request with `thread` that is sent at `time`, in seconds since 1970.
    pub(crate) fn append(
        &mut self,
        bytes: &mut Vec<u8>,
        recorded: &[u8],
        thread: Thread,
        time: u64,
    ) -> Rewritten {
        let start = bytes.len();
        let places = Places::find(recorded);
        let thread = thread.digits();
        append_with(bytes, recorded, &places, &thread, time);
        let request = Request::parse(&bytes[start..], &mut self.scratch);
        let operation = request.operation();
        let digest = counted_digest(&request);
        let is_sendable = bytes.len() - start <= LONGEST_DATAGRAM_BYTES;
        let is_marked = is_sendable && request.thread() == thread;
        if !is_marked {
            bytes.truncate(start);
            bytes.extend_from_slice(recorded);
            self.counts.unmarked += 1;
        } else if let User::Named(user) = request.user() {
            match self.accounts.key(user) {
                Some(key) => sign(&mut bytes[start..], key, time, &mut self.scratch),
                None => self.counts.unsigned += 1,
            }
        }
        Rewritten {
            operation,
            is_marked,
            digest,
        }
    }
}

fn counted_digest(request: &Request<'_>) -> Option<Digest> {
    if !matches!(request.operation()?, Operation::Check | Operation::Info) {
        return None;
    }
    let mut digests = request.digests();
    let only = digests.next()?.ok()?;
    digests.next().is_none().then_some(only)
}

/// Where the values to be replaced stand: of the first header of each name, on its own line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    thread: Option<Range<usize>>,
    time: Option<Range<usize>>,
    sig: Option<Range<usize>>,
}

impl Places {
    fn find(datagram: &[u8]) -> Self {
        let mut places = Self::default();
        let mut start = 0;
        for line in datagram.split(|&byte| ends_line(byte)) {
            places.note(line, start);
            start += line.len() + 1;
        }
        places
    }

    fn note(&mut self, line: &[u8], start: usize) {
        // The three names that matter begin with these.
        if !matches!(line.first(), Some(b'T' | b't' | b'S' | b's')) {
            return;
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            return;
        };
        let place = match &line[..colon] {
            name if name.eq_ignore_ascii_case(b"Thread") => &mut self.thread,
            name if name.eq_ignore_ascii_case(b"Time") => &mut self.time,
            name if name.eq_ignore_ascii_case(b"Sig") => &mut self.sig,
            _ => return,
        };
        let value = &line[colon + 1..];
        let blanks = value.len() - value.trim_ascii_start().len();
        let value_at = start + colon + 1 + blanks;
        place.get_or_insert(value_at..start + line.len());
    }
}

const fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn append_with(bytes: &mut Vec<u8>, recorded: &[u8], places: &Places, thread: &[u8], time: u64) {
    let time = time.to_string();
    let mut replaced = [
        (places.thread.clone(), thread),
        (places.time.clone(), time.as_bytes()),
    ];
    replaced.sort_by_key(|(place, _)| place.as_ref().map(|place| place.start));
    let mut copied = 0;
    for (place, value) in replaced {
        if let Some(place) = place {
            bytes.extend_from_slice(&recorded[copied..place.start]);
            bytes.extend_from_slice(value);
            copied = place.end;
        }
    }
    bytes.extend_from_slice(&recorded[copied..]);
}

/// Puts the right signature in the place of the old one, if that is as long.
fn sign(datagram: &mut [u8], key: &AccountKey, time: u64, scratch: &mut Scratch) {
    let signature = Request::parse(datagram, scratch).signature(time, key);
    if let Some(place) = Places::find(datagram).sig
        && place.len() == signature.len()
    {
        datagram[place].copy_from_slice(&signature);
    }
}

#[cfg(test)]
mod tests {
    use pyzor_protocol::{NewRequest, Refusal, write_request};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn accounts() -> Accounts {
        Accounts::parse(b"h : 1 : bob : salt,00ff\n").unwrap()
    }

    fn rewrite(recorded: &[u8]) -> (Vec<u8>, Rewritten, RewriteCounts) {
        let mut rewriter = Rewriter::new(accounts());
        let mut bytes = b"before".to_vec();
        let rewritten = rewriter.append(&mut bytes, recorded, Thread::nth(7), NOW);
        assert_eq!(bytes[..6], *b"before");
        (bytes.split_off(6), rewritten, rewriter.counts())
    }

    fn old_request(user: &[u8], key: &AccountKey) -> Vec<u8> {
        let digest = Digest::from_hex(&[b'a'; 40]).unwrap();
        let mut datagram = Vec::new();
        let request = NewRequest {
            operation: Operation::Report,
            digests: &[digest],
            thread: 1024,
            user,
            key,
            time: 1_000_000_000,
        };
        write_request(&mut datagram, &request);
        datagram
    }

    fn verified(datagram: &[u8], key: &AccountKey) -> Result<(), Refusal> {
        let mut scratch = Scratch::new();
        Request::parse(datagram, &mut scratch).verify_signature(key, NOW)
    }

    #[test]
    fn an_old_request_of_an_account_is_accepted_again() {
        let key = AccountKey::new(b"bob", b"00ff");
        let old = old_request(b"bob", &key);
        assert_eq!(verified(&old, &key), Err(Refusal::StaleTime));
        let (new, rewritten, counts) = rewrite(&old);
        assert_eq!(verified(&new, &key), Ok(()));
        assert_eq!(rewritten.operation, Some(Operation::Report));
        assert!(rewritten.is_marked);
        assert_eq!(counts, RewriteCounts::default());
        let lines = |text: &[u8]| {
            let text = String::from_utf8(text.to_vec()).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        for (old, new) in lines(&old).iter().zip(lines(&new)) {
            let name = new.split(':').next().unwrap();
            assert_eq!(
                old != &new,
                ["Thread", "Time", "Sig"].contains(&name),
                "{new}"
            );
        }
    }

    #[test]
    fn an_account_can_sign_in_any_layout() {
        let key = AccountKey::new(b"bob", b"00ff");
        let sig = "0".repeat(40);
        let old = format!(
            "user: bob\r\nsig:{sig}\r\ntime:\t12\r\nX: folded\r\n more\r\nthread:1\r\nop: ping\r\n\r\n"
        );
        let (new, rewritten, _) = rewrite(old.as_bytes());
        assert!(rewritten.is_marked);
        assert_eq!(verified(&new, &key), Ok(()));
    }

    #[test]
    fn a_user_without_an_account_keeps_the_old_signature() {
        let old = old_request(b"eve", &AccountKey::new(b"eve", b"1"));
        let (new, rewritten, counts) = rewrite(&old);
        assert!(rewritten.is_marked);
        assert_eq!(counts.unsigned, 1);
        assert_eq!(new[new.len() - 42..], old[old.len() - 42..]);
    }

    #[test]
    fn the_anonymous_user_needs_no_new_signature() {
        let old = old_request(b"anonymous", &AccountKey::anonymous());
        let (new, rewritten, counts) = rewrite(&old);
        assert!(rewritten.is_marked);
        assert_eq!(counts, RewriteCounts::default());
        let text = String::from_utf8(new).unwrap();
        assert!(text.contains("\nThread: 10007\nPV: 2.1\n"), "{text}");
        assert!(text.contains("\nTime: 1800000000\n"), "{text}");
    }

    #[test]
    fn what_has_no_thread_to_replace_is_sent_as_it_was() {
        for recorded in [
            &b""[..],
            b"Op: ping\n\n",
            b"no header\nThread: 12345\n",
            b"Thread:\n 12345\nOp: ping\n",
            b"\xff\xfe\x00",
        ] {
            let (new, rewritten, counts) = rewrite(recorded);
            assert_eq!(new, recorded);
            assert!(!rewritten.is_marked, "{recorded:?}");
            assert_eq!(counts.unmarked, 1);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_datagram_can_be_rewritten(recorded: Vec<u8>) {
            rewrite(&recorded);
        }
    }

    #[test]
    fn what_would_become_too_long_is_sent_as_it_was() {
        let mut recorded = b"Op: ping\nThread: 1\nTime: 1\nPad: ".to_vec();
        recorded.resize(LONGEST_DATAGRAM_BYTES, b'a');
        let (sent, rewritten, counts) = rewrite(&recorded);
        assert_eq!(sent, recorded);
        assert!(!rewritten.is_marked);
        assert_eq!(counts.unmarked, 1);
    }
}
