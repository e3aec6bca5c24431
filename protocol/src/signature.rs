//! Signatures: `hex(sha1(sha1(message) ":" time ":" key))`.
//!
//! The message is the request without `Sig`, as the reference writes it down after parsing it, stripped of
//! surrounding white space. `key` is hexadecimal itself, see [`AccountKey`].

use sha1::{Digest as _, Sha1};

use crate::account::AccountKey;
use crate::digest::Digest;
use crate::message::{Message, is_white_space};

/// Bytes in a SHA-1.
const SHA1_BYTES: usize = Digest::BYTES;

/// Hex digits of a signature.
pub(crate) const SIGNATURE_DIGITS: usize = Digest::HEX_DIGITS;

/// The signature of `message` at `time` (seconds since the epoch) with `key`.
///
/// `message` is what is sent before the `Sig` line, without the line end there.
pub fn sign(message: &[u8], time: u64, key: &AccountKey) -> [u8; SIGNATURE_DIGITS] {
    signature(&Sha1::digest(message).into(), time, key)
}

/// What a received request's signature speaks of.
pub(crate) enum SignedText<'d> {
    /// The datagram holds it as it stands.
    Verbatim(&'d [u8]),
    /// It has to be put together.
    Serialized(Message<'d>),
}

impl SignedText<'_> {
    /// The signature it should have.
    pub(crate) fn sign(&self, time: u64, key: &AccountKey) -> [u8; SIGNATURE_DIGITS] {
        match self {
            Self::Verbatim(text) => sign(text, time, key),
            Self::Serialized(message) => signature(&hash_stripped(message), time, key),
        }
    }
}

fn signature(
    message_sha1: &[u8; SHA1_BYTES],
    time: u64,
    key: &AccountKey,
) -> [u8; SIGNATURE_DIGITS] {
    let mut hash = Sha1::new();
    hash.update(message_sha1);
    hash.update(b":");
    hash.update(itoa::Buffer::new().format(time));
    hash.update(b":");
    hash.update(key.as_hex());
    Digest::from_bytes(hash.finalize().into()).to_hex()
}

/// The text starts with the name of a header (`User` at least), so white space can only be at its end. Where that
/// begins takes a pass of its own, because the text exists only in pieces.
fn hash_stripped(message: &Message<'_>) -> [u8; SHA1_BYTES] {
    let mut left = stripped_length(message);
    let mut hash = Sha1::new();
    message.serialize_unsigned(&mut |piece| {
        let taken = piece.len().min(left);
        hash.update(&piece[..taken]);
        left -= taken;
    });
    hash.finalize().into()
}

fn stripped_length(message: &Message<'_>) -> usize {
    let (mut length, mut stripped) = (0, 0);
    message.serialize_unsigned(&mut |piece| {
        if let Some(last) = piece.iter().rposition(|&byte| !is_white_space(byte)) {
            stripped = length + last + 1;
        }
        length += piece.len();
    });
    stripped
}
