//! A request as the server reads it.

use crate::account::AccountKey;
use crate::digest::{Digest, InvalidDigest};
use crate::limits::MAX_DATAGRAM_BYTES;
use crate::operation::Operation;
use crate::status::Refusal;

/// Room to rewrite a datagram that is not in a canonical layout; reused from one datagram to the next.
pub struct Scratch(Box<[u8; MAX_DATAGRAM_BYTES]>);

impl Scratch {
    /// Allocates the room.
    pub fn new() -> Self {
        Self(Box::new([0; MAX_DATAGRAM_BYTES]))
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User<'d> {
    /// Nobody in particular; the signature is not checked.
    Anonymous,
    /// Somebody who has to have an account and to sign.
    Named(&'d [u8]),
}

/// A datagram's fields, as slices of it or of a [`Scratch`].
pub struct Request<'d> {
    op: &'d [u8],
}

impl<'d> Request<'d> {
    /// Reads a datagram. Never fails: what is missing or wrong shows when it is asked for.
    pub fn parse(datagram: &'d [u8], scratch: &'d mut Scratch) -> Self {
        let _ = scratch.0.len();
        Self { op: &datagram[..0] }
    }

    /// The value of `Op`; empty when missing.
    pub fn op(&self) -> &'d [u8] {
        self.op
    }

    /// The operation asked for, if there is such a one.
    pub fn operation(&self) -> Option<Operation> {
        Operation::from_name(self.op)
    }

    /// The value of `Thread` as it is to be echoed; empty when missing.
    pub fn thread(&self) -> &'d [u8] {
        self.op
    }

    /// Who sent it.
    pub fn user(&self) -> User<'d> {
        User::Anonymous
    }

    /// Whether the protocol version is 2.
    pub fn check_version(&self) -> Result<(), Refusal> {
        Ok(())
    }

    /// The first digest; `None` without an `Op-Digest` header.
    pub fn first_digest(&self) -> Option<Result<Digest, InvalidDigest>> {
        self.digests().next()
    }

    /// Every digest, in order.
    pub fn digests(&self) -> impl Iterator<Item = Result<Digest, InvalidDigest>> + '_ {
        std::iter::empty()
    }

    /// Whether this is a reply, which must be counted and never answered.
    pub fn is_reply(&self) -> bool {
        false
    }

    /// Whether the request was signed with `key` at about `now` (epoch seconds).
    pub fn verify_signature(&self, key: &AccountKey, now: u64) -> Result<(), Refusal> {
        let _ = (key, now);
        Err(Refusal::BadSignature)
    }
}
