//! The Pyzor wire protocol.

mod access;
mod account;
mod canonical;
mod digest;
mod limits;
mod line_problem;
mod message;
mod numbers;
mod operation;
mod reply;
mod request;
mod signature;
mod status;

pub use access::AccessList;
pub use account::{AccountKey, Accounts};
pub use digest::{Digest, InvalidDigest};
pub use limits::{
    DEFAULT_PORT, MAX_CLOCK_SKEW_SECONDS, MAX_DATAGRAM_BYTES, MAX_DIGESTS, MAX_REPLY_BYTES,
};
pub use line_problem::{LineProblem, Problem};
pub use operation::{Operation, OperationSet};
pub use reply::{Body, write_reply};
pub use request::{Request, Scratch, User};
pub use signature::sign;
pub use status::Refusal;
