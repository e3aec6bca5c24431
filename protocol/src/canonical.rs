//! The fast reader: the layouts that real clients send.
//!
//! ```text
//! Op: check
//! Op-Digest: b2c27325a034c581df0c9ef37e4a0d63208a3e7e     any number of these, also none
//! Op-Spec: 20,3,60,3                                      may be absent
//! Thread: 49005
//! PV: 2.1
//! User: anonymous                                         may be absent
//! Time: 1697468672
//! Sig: 9cf4571b85d3887fdd0d4f444fd0c164e0290722
//!                                                         an empty line, or none
//! ```
//!
//! Names are exactly these, one blank follows each colon, and values are printable ASCII without blanks. So there
//! is nothing to fold, to trim or to rewrite, and the signed text is the datagram up to `Sig`. The general reader
//! makes the same of such a datagram, slower; everything else is left to it.

use crate::digest::Digest;
use crate::request::Fields;

/// What precedes the digits of a digest.
const DIGEST_NAME: &[u8] = b"Op-Digest: ";

/// Name, digits and line feed.
pub(crate) const DIGEST_LINE_BYTES: usize = DIGEST_NAME.len() + Digest::HEX_DIGITS + 1;

/// The SHA-1 in `Sig` has as many digits as one that names a message.
const SIG_DIGITS: usize = Digest::HEX_DIGITS;

/// A datagram in a canonical layout.
pub(crate) struct Canonical<'d> {
    pub(crate) fields: Fields<'d>,
    /// A multiple of [`DIGEST_LINE_BYTES`].
    pub(crate) digest_lines: &'d [u8],
    /// What `Sig` signs.
    pub(crate) signed: &'d [u8],
}

/// Reads a datagram; `None` if its layout is not canonical.
pub(crate) fn read(datagram: &[u8]) -> Option<Canonical<'_>> {
    let mut lines = Lines { rest: datagram };
    let op = lines.value(b"Op: ")?;
    let digest_lines = lines.digest_lines();
    let _ = lines.value(b"Op-Spec: ");
    let thread = lines.value(b"Thread: ")?;
    let pv = lines.value(b"PV: ")?;
    let user = lines.value(b"User: ");
    let time = lines.value(b"Time: ")?;
    let signed = &datagram[..datagram.len() - lines.rest.len() - 1];
    let sig = lines.value_of::<SIG_DIGITS>(b"Sig: ")?;
    matches!(lines.rest, b"" | b"\n").then_some(Canonical {
        fields: Fields {
            op: Some(op),
            thread: Some(thread),
            pv: Some(pv),
            user,
            time: Some(time),
            sig: Some(sig),
            has_code: false,
        },
        digest_lines,
        signed,
    })
}

/// The digits in one of the lines of [`Canonical::digest_lines`].
pub(crate) fn digits(digest_line: &[u8]) -> &[u8] {
    &digest_line[DIGEST_NAME.len()..DIGEST_LINE_BYTES - 1]
}

struct Lines<'d> {
    rest: &'d [u8],
}

impl<'d> Lines<'d> {
    /// The value of the next line if it is `name`'s.
    #[inline]
    fn value(&mut self, name: &[u8]) -> Option<&'d [u8]> {
        let after = self.rest.strip_prefix(name)?;
        let length = after.iter().position(|byte| !byte.is_ascii_graphic())?;
        let (value, end) = after.split_at(length);
        let rest = end.strip_prefix(b"\n")?;
        if value.is_empty() {
            return None;
        }
        self.rest = rest;
        Some(value)
    }

    /// The same for a value of `LENGTH` bytes, which are looked at all at once.
    #[inline]
    fn value_of<const LENGTH: usize>(&mut self, name: &[u8]) -> Option<&'d [u8]> {
        let after = self.rest.strip_prefix(name)?;
        let (value, end) = after.split_first_chunk::<LENGTH>()?;
        let graphic = value
            .iter()
            .fold(true, |graphic, byte| graphic & byte.is_ascii_graphic());
        let rest = end.strip_prefix(b"\n")?;
        if !graphic {
            return None;
        }
        self.rest = rest;
        Some(value)
    }

    fn digest_lines(&mut self) -> &'d [u8] {
        let from_here = self.rest;
        while self
            .value_of::<{ Digest::HEX_DIGITS }>(DIGEST_NAME)
            .is_some()
        {}
        &from_here[..from_here.len() - self.rest.len()]
    }
}
