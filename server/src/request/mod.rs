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
