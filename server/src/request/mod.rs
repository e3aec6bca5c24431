//! What a datagram is answered: pure of sockets and clocks.
//!
//! The steps run in the order in which the reference checks: the signature ([`authenticate`]), the protocol version,
//! the right to ask ([`authorize`]), then the operation itself ([`execute`]). The first refusal ends it. [`respond`]
//! writes the outcome as a reply.

mod authenticate;
mod authorize;
mod execute;
mod respond;

use pyzor_protocol::{Digest, MAX_REPLY_BYTES, Operation, Refusal, Request, Scratch};
use pyzor_storage::{CommitNumber, Engine, EpochSeconds};

pub use respond::{respond_to_commit, respond_to_lookup};

use crate::access_files::Access;
use execute::Execution;

/// All that an answer depends on besides the datagram.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Accounts and permissions.
    pub access: &'a Access,
    /// The store.
    pub engine: &'a dyn Engine,
    /// The server's clock.
    pub now: EpochSeconds,
    /// Whether the caller can hold one more reply back; if not, what would need it is refused with 503.
    pub may_wait: bool,
}

/// Ports of the datagram, for the rule against endless conversations between servers.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The sender's.
    pub peer: u16,
    /// The one it was sent to.
    pub local: u16,
}

/// A datagram that was looked at, and what became of it.
pub struct Handled<'d> {
    /// What was asked.
    pub request: Request<'d>,
    /// What to do about it.
    pub outcome: Outcome,
}

/// What the caller must do with a datagram's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Send `reply[..length]` now.
    Reply {
        /// Whether the request was carried out, or why it was refused.
        status: Result<(), Refusal>,
        /// Bytes of the reply.
        length: usize,
    },
    /// Acknowledge when this commit is durable, or refuse with 503 if it fails.
    AfterCommit(Operation, CommitNumber),
    /// Ask the store for this digest and answer with [`respond_to_lookup`].
    AfterLookup(Operation, Digest),
    /// Count it and send nothing.
    Silent(Silence),
}

/// Why a datagram is never answered: an answer could be answered in turn, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It is itself a reply.
    IsReply,
    /// It comes from port 0, where nobody listens.
    FromPortZero,
    /// It comes from the port that servers listen on.
    FromOwnPort,
}

/// Decides about one datagram and writes the reply, if one is due at once, into `reply`.
pub fn handle<'d>(
    context: Context<'_>,
    ports: Ports,
    datagram: &'d [u8],
    scratch: &'d mut Scratch,
    reply: &mut [u8; MAX_REPLY_BYTES],
) -> Handled<'d> {
    let request = Request::parse(datagram, scratch);
    let outcome = match silence(&request, ports) {
        Some(silence) => Outcome::Silent(silence),
        None => respond::outcome(decide(context, &request), request.thread(), reply),
    };
    Handled { request, outcome }
}

fn silence(request: &Request<'_>, ports: Ports) -> Option<Silence> {
    if ports.peer == 0 {
        Some(Silence::FromPortZero)
    } else if ports.peer == ports.local {
        Some(Silence::FromOwnPort)
    } else if request.is_reply() {
        Some(Silence::IsReply)
    } else {
        None
    }
}

fn decide(context: Context<'_>, request: &Request<'_>) -> Result<Execution, Refusal> {
    authenticate::authenticate(context, request)?;
    request.check_version()?;
    let operation = authorize::authorize(context, request)?;
    execute::execute(context, operation, request)
}

#[cfg(test)]
mod tests {
    use pyzor_storage::{
        ChangeKind, CommitNumber, Completions, Lookup, Record, Ticket, Unavailable, Update, Wanted,
    };

    use super::*;

    /// Answers every lookup and update the same way.
    struct Steady(Lookup, Update);

    impl Engine for Steady {
        fn lookup(&self, _: &Digest, _: Wanted, _: EpochSeconds) -> Lookup {
            self.0
        }

        fn lookup_deferred(
            &self,
            _: &Digest,
            _: EpochSeconds,
            _: Ticket,
            _: &Completions,
        ) -> Result<(), Unavailable> {
            Err(Unavailable)
        }

        fn update(&self, _: ChangeKind, _: &[Digest], _: EpochSeconds) -> Update {
            self.1
        }

        fn subscribe(&self, _: Completions) {}
    }

    const DIGEST: &str = "b2c27325a034c581df0c9ef37e4a0d63208a3e7e";
    const PORTS: Ports = Ports {
        peer: 50_000,
        local: 24_441,
    };
    const COMMIT: CommitNumber = CommitNumber(7);
    const BUSY: Steady = Steady(Lookup::Deferred, Update::AfterCommit(COMMIT));

    fn outcome(engine: &Steady, may_wait: bool, ports: Ports, datagram: &str) -> (Outcome, String) {
        let context = Context {
            access: &Access::default(),
            engine,
            now: 1_700_000_000,
            may_wait,
        };
        let mut reply = [0; MAX_REPLY_BYTES];
        let mut scratch = Scratch::new();
        let outcome = handle(
            context,
            ports,
            datagram.as_bytes(),
            &mut scratch,
            &mut reply,
        )
        .outcome;
        let length = match outcome {
            Outcome::Reply { length, .. } => length,
            _ => 0,
        };
        (
            outcome,
            String::from_utf8_lossy(&reply[..length]).into_owned(),
        )
    }

    fn asked(op: &str) -> String {
        format!("Op: {op}\nOp-Digest: {DIGEST}\nThread: 2001\nPV: 2.1\n\n")
    }

    #[test]
    fn what_memory_knows_is_answered_at_once() {
        let record = Record {
            r_count: 5,
            wl_count: 2,
            ..Record::EMPTY
        };
        let engine = Steady(Lookup::Found(record), Update::Done);
        let (_, reply) = outcome(&engine, true, PORTS, &asked("check"));
        assert_eq!(
            reply,
            "Code: 200\nDiag: OK\nPV: 2.1\nThread: 2001\nCount: 5\nWL-Count: 2\n\n"
        );
    }

    #[test]
    fn what_takes_longer_waits() {
        let digest = Digest::from_hex(DIGEST.as_bytes()).unwrap();
        assert_eq!(
            outcome(&BUSY, true, PORTS, &asked("check")).0,
            Outcome::AfterLookup(Operation::Check, digest)
        );
        assert_eq!(
            outcome(&BUSY, true, PORTS, &asked("report")).0,
            Outcome::AfterCommit(Operation::Report, COMMIT)
        );
    }

    #[test]
    fn what_can_neither_be_answered_nor_wait_is_refused() {
        let down = Steady(Lookup::Unavailable, Update::Unavailable);
        for (engine, may_wait) in [(&BUSY, false), (&down, true)] {
            for op in ["check", "info", "report"] {
                let (_, reply) = outcome(engine, may_wait, PORTS, &asked(op));
                assert!(reply.starts_with("Code: 503\n"), "{op}: {reply}");
            }
        }
    }

    #[test]
    fn what_could_be_answered_for_ever_is_not_answered() {
        let from = |peer| Ports { peer, ..PORTS };
        let silences = [
            (
                PORTS,
                "Code: 200\nThread: 2001\nPV: 2.1\n\n",
                Silence::IsReply,
            ),
            (from(0), &asked("ping"), Silence::FromPortZero),
            (from(24_441), &asked("ping"), Silence::FromOwnPort),
        ];
        for (ports, datagram, silence) in silences {
            assert_eq!(
                outcome(&BUSY, true, ports, datagram).0,
                Outcome::Silent(silence)
            );
        }
    }

    #[test]
    fn one_bad_digest_refuses_them_all() {
        let datagram = format!("Op: report\nOp-Digest: {DIGEST}\nOp-Digest: x\nPV: 2.1\n\n");
        let (_, reply) = outcome(&BUSY, true, PORTS, &datagram);
        assert!(reply.starts_with("Code: 400\n"), "{reply}");
    }
}
