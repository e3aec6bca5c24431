//! A request as the server reads it.
//!
//! Nothing is judged while parsing: what is missing or wrong shows when it is asked for, so that the server can
//! refuse in the reference's order. Nothing here allocates, and nothing fails on any datagram.

use subtle::ConstantTimeEq as _;

use crate::account::AccountKey;
use crate::canonical::{self, Canonical, DIGEST_LINE_BYTES};
use crate::digest::{Digest, InvalidDigest};
use crate::limits::{MAX_CLOCK_SKEW_SECONDS, MAX_DATAGRAM_BYTES};
use crate::message::{self, Header, Headers, Message};
use crate::numbers;
use crate::operation::Operation;
use crate::signature::SignedText;
use crate::status::Refusal;

/// Room to rewrite a datagram that is not in a canonical layout; reused from one datagram to the next.
pub struct Scratch(Box<Buffers>);

struct Buffers {
    text: [u8; MAX_DATAGRAM_BYTES],
    thread: [u8; MAX_DATAGRAM_BYTES],
}

impl Scratch {
    /// Allocates the room: 16 KiB.
    pub fn new() -> Self {
        Self(Box::new(Buffers {
            text: [0; MAX_DATAGRAM_BYTES],
            thread: [0; MAX_DATAGRAM_BYTES],
        }))
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
    /// Nobody in particular: `User` is absent, empty or `anonymous`, and the signature is not checked.
    Anonymous,
    /// Somebody who has to have an account and to sign.
    Named(&'d [u8]),
}

/// What the anonymous user is called.
pub const ANONYMOUS_USER: &[u8] = b"anonymous";

/// A datagram's fields, as slices of it or of a [`Scratch`].
pub struct Request<'d> {
    fields: Fields<'d>,
    /// Digests of a canonical datagram.
    digest_lines: &'d [u8],
    /// Headers of any other.
    headers: Headers<'d>,
    signed: SignedText<'d>,
}

/// The first header of each name that matters.
#[derive(Default)]
pub(crate) struct Fields<'d> {
    pub(crate) op: Option<&'d [u8]>,
    pub(crate) thread: Option<&'d [u8]>,
    pub(crate) pv: Option<&'d [u8]>,
    pub(crate) user: Option<&'d [u8]>,
    pub(crate) time: Option<&'d [u8]>,
    pub(crate) sig: Option<&'d [u8]>,
    pub(crate) has_code: bool,
}

impl<'d> Request<'d> {
    /// Reads the first [`MAX_DATAGRAM_BYTES`] of a datagram.
    pub fn parse(datagram: &'d [u8], scratch: &'d mut Scratch) -> Self {
        let datagram = &datagram[..datagram.len().min(MAX_DATAGRAM_BYTES)];
        match canonical::read(datagram) {
            Some(canonical) => Self::from_canonical(canonical),
            None => Self::parse_general(datagram, scratch),
        }
    }

    fn from_canonical(canonical: Canonical<'d>) -> Self {
        Self {
            fields: canonical.fields,
            digest_lines: canonical.digest_lines,
            headers: Headers::default(),
            signed: SignedText::Verbatim(canonical.signed),
        }
    }

    /// Without a look at the layout; `datagram` must have been cut.
    #[cold]
    pub(crate) fn parse_general(datagram: &[u8], scratch: &'d mut Scratch) -> Self {
        let Buffers { text, thread } = &mut *scratch.0;
        let length = message::normalize(datagram, text);
        let message = Message::split(&text[..length]);
        let mut fields = Fields::collect(message.headers());
        fields.thread = fields.thread.map(|value| refold(value, thread));
        Self {
            fields,
            digest_lines: &[],
            headers: message.headers(),
            signed: SignedText::Serialized(message),
        }
    }

    /// The value of `Op`; empty when missing.
    pub fn op(&self) -> &'d [u8] {
        self.fields.op.unwrap_or_default()
    }

    /// The operation asked for, if there is such a one.
    pub fn operation(&self) -> Option<Operation> {
        Operation::from_name(self.op())
    }

    /// The value of `Thread` as it is to be echoed; empty when missing.
    pub fn thread(&self) -> &'d [u8] {
        self.fields.thread.unwrap_or_default()
    }

    /// Who sent it.
    pub fn user(&self) -> User<'d> {
        match self.fields.user {
            None | Some(b"" | ANONYMOUS_USER) => User::Anonymous,
            Some(name) => User::Named(name),
        }
    }

    /// Whether the integer part of the protocol version is 2.
    ///
    /// # Errors
    /// [`Refusal::VersionMissing`], [`Refusal::VersionInvalid`] (also when infinite),
    /// [`Refusal::VersionUnsupported`].
    pub fn check_version(&self) -> Result<(), Refusal> {
        match self.fields.pv {
            Some(b"2.1") => Ok(()),
            Some(pv) => check_version_number(pv),
            None => Err(Refusal::VersionMissing),
        }
    }

    /// The first digest; `None` without an `Op-Digest` header.
    pub fn first_digest(&self) -> Option<Result<Digest, InvalidDigest>> {
        self.digests().next()
    }

    /// Every digest, in order.
    pub fn digests(&self) -> impl Iterator<Item = Result<Digest, InvalidDigest>> + '_ {
        let canonical = self
            .digest_lines
            .chunks_exact(DIGEST_LINE_BYTES)
            .map(canonical::digits);
        let general = self
            .headers
            .clone()
            .filter(|header| header.is(b"Op-Digest"))
            .map(|header| header.value);
        canonical.chain(general).map(Digest::from_hex)
    }

    /// Whether this is a reply (it has `Code` and no `Op`), which must be counted and never answered.
    pub fn is_reply(&self) -> bool {
        self.fields.has_code && self.fields.op.is_none()
    }

    /// What `Sig` has to be when the request is sent with `key` and its `Time` says `time`, in seconds since the epoch.
    pub fn signature(&self, time: u64, key: &AccountKey) -> [u8; Digest::HEX_DIGITS] {
        self.signed.sign(time, key)
    }

    /// Whether the request was signed with `key` at about `now`, in seconds since the epoch.
    ///
    /// # Errors
    /// [`Refusal::BadTime`], [`Refusal::StaleTime`], then [`Refusal::BadSignature`].
    pub fn verify_signature(&self, key: &AccountKey, now: u64) -> Result<(), Refusal> {
        let time = self.fields.time.and_then(numbers::integer);
        let time = recent(time.ok_or(Refusal::BadTime)?, now).ok_or(Refusal::StaleTime)?;
        let expected = self.signed.sign(time, key);
        let sent = self.fields.sig.unwrap_or_default();
        if expected.ct_eq(sent).into() {
            Ok(())
        } else {
            Err(Refusal::BadSignature)
        }
    }
}

impl<'d> Fields<'d> {
    fn collect(headers: Headers<'d>) -> Self {
        let mut fields = Self::default();
        headers.for_each(|header| fields.note(header));
        fields
    }

    fn note(&mut self, header: Header<'d>) {
        let field = match header.name.len() {
            2 if header.is(b"Op") => &mut self.op,
            2 if header.is(b"PV") => &mut self.pv,
            3 if header.is(b"Sig") => &mut self.sig,
            4 if header.is(b"User") => &mut self.user,
            4 if header.is(b"Time") => &mut self.time,
            6 if header.is(b"Thread") => &mut self.thread,
            _ => {
                self.has_code |= header.is(b"Code");
                return;
            }
        };
        field.get_or_insert(header.value);
    }
}

/// The value as the reference would write it into the reply, which is no longer.
fn refold<'d>(value: &'d [u8], buffer: &'d mut [u8; MAX_DATAGRAM_BYTES]) -> &'d [u8] {
    if !message::is_folded(value) {
        return value;
    }
    let mut length = 0;
    message::fold(value, &mut |piece| {
        buffer[length..length + piece.len()].copy_from_slice(piece);
        length += piece.len();
    });
    &buffer[..length]
}

fn check_version_number(pv: &[u8]) -> Result<(), Refusal> {
    match numbers::float(pv) {
        Some(version) if (2.0..3.0).contains(&version) => Ok(()),
        Some(version) if version.is_finite() => Err(Refusal::VersionUnsupported),
        _ => Err(Refusal::VersionInvalid),
    }
}

/// `time`, if it is close enough to `now`.
fn recent(time: i64, now: u64) -> Option<u64> {
    let time = u64::try_from(time).ok()?;
    (time.abs_diff(now) <= u64::from(MAX_CLOCK_SKEW_SECONDS)).then_some(time)
}

/// For `parser_model`.
#[cfg(test)]
impl<'d> Request<'d> {
    /// `PV`, `User`, `Time` and `Sig` as they stand.
    pub(crate) fn signed_fields(&self) -> [Option<&'d [u8]>; 4] {
        let fields = &self.fields;
        [fields.pv, fields.user, fields.time, fields.sig]
    }

    /// What `Sig` should be.
    pub(crate) fn signature_at(&self, time: u64, key: &AccountKey) -> [u8; Digest::HEX_DIGITS] {
        self.signed.sign(time, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn parsed(datagram: &[u8], look: impl FnOnce(Request<'_>)) {
        look(Request::parse(datagram, &mut Scratch::new()));
    }

    /// Asked of the reference.
    #[test]
    fn threads_are_echoed_as_the_reference_does() {
        for (sent, echoed) in [
            ("a ", "a "),
            ("12\r\n 34", "12\n 34"),
            ("12\x0b 34", "12\n 34"),
            ("12\x1f34", "12\x1f34"),
            ("1\n \n 2", "1\n 2"),
            ("1\n  \n\t\n 2", "1  \t\n 2"),
            ("1 \n 2", "1\n 2"),
            ("1  \n 2", "1  \n 2"),
            ("\n  1", "\n  1"),
            ("1 \x0b ", "1"),
            ("1\n ", "1"),
            // The reference answers nothing here, because this would start a new header.
            ("12\x0b34", "12\x0b34"),
        ] {
            let datagram = format!("Op: ping\nThread: {sent}\nPV: 2.1\n\n");
            parsed(datagram.as_bytes(), |request| {
                assert_eq!(request.thread(), echoed.as_bytes(), "{sent:?}");
            });
        }
    }

    /// Signatures by the reference, over what it makes of layouts that nobody sends.
    #[test]
    fn signatures_are_over_what_the_reference_writes_down() {
        let key = AccountKey::new(b"bob", b"secret");
        for (datagram, signature) in [
            (
                "Op: ping\r\nThread:7\r\nUser: bob\r\nTime: 1700000000\r\nSig: @\r\n\r\n",
                "192c19b164d59c3f6b982a44299776e084c59dfb",
            ),
            (
                "Op: ping\n\nX-F: a \n  b\n \n\t\nUser: bob\nTime: +1700000000 \nsig: @\nX-E:\n\n\nbody\r\nmore \n\x1f\n",
                "b0a67b5e9b3550482b133ba1f7423f16c9519b95",
            ),
            (
                "From x\nUser: bob\n y\n:z\nTime: 1700000000\nSIG: @\nno header\nOp: ping\n",
                "1f30bdb5ec91d7740c07349140bd8b951fbe563d",
            ),
            (
                "User: bob\nTime: 1700000000\nSig: @\nFrom tail\n\n\nbody",
                "cc68cf2633881141c7e00f7abb0f037398771dab",
            ),
        ] {
            let signed = datagram.replace('@', signature);
            parsed(signed.as_bytes(), |request| {
                assert_eq!(request.verify_signature(&key, NOW), Ok(()), "{datagram:?}");
            });
            let upper = datagram.replace('@', &signature.to_uppercase());
            parsed(upper.as_bytes(), |request| {
                assert_eq!(
                    request.verify_signature(&key, NOW),
                    Err(Refusal::BadSignature)
                );
            });
        }
    }

    #[test]
    fn the_time_is_looked_at_before_the_signature() {
        let key = AccountKey::anonymous();
        for (time, refusal) in [
            ("", Refusal::BadTime),
            ("Time:\n", Refusal::BadTime),
            ("Time: yesterday\n", Refusal::BadTime),
            ("Time: -5\n", Refusal::StaleTime),
            ("Time: 99999999999999999999\n", Refusal::StaleTime),
            ("Time: 1699999699\n", Refusal::StaleTime),
            ("Time: 1699999700\n", Refusal::BadSignature),
            ("Time: 1700000300\n", Refusal::BadSignature),
            ("Time: 1700000301\n", Refusal::StaleTime),
        ] {
            parsed(format!("Op: ping\n{time}").as_bytes(), |request| {
                assert_eq!(
                    request.verify_signature(&key, NOW),
                    Err(refusal),
                    "{time:?}"
                );
            });
        }
    }

    #[test]
    fn versions_are_2_point_something() {
        for (pv, expected) in [
            ("", Err(Refusal::VersionMissing)),
            ("PV: 2.1\n", Ok(())),
            ("PV: +2e0\nPV: 3\n", Ok(())),
            (
                "PV: 2.999999999999999999\n",
                Err(Refusal::VersionUnsupported),
            ),
            ("PV: -2.1\n", Err(Refusal::VersionUnsupported)),
            ("PV:\n", Err(Refusal::VersionInvalid)),
            ("PV: nan\n", Err(Refusal::VersionInvalid)),
            ("PV: 1e400\n", Err(Refusal::VersionInvalid)),
        ] {
            parsed(format!("Op: ping\n{pv}").as_bytes(), |request| {
                assert_eq!(request.check_version(), expected, "{pv:?}");
            });
        }
    }

    #[test]
    fn users_without_a_name_are_anonymous() {
        for (user, expected) in [
            ("", User::Anonymous),
            ("User: \n", User::Anonymous),
            ("User: anonymous\nUser: bob\n", User::Anonymous),
            ("User: Anonymous\n", User::Named(b"Anonymous")),
            ("User: bob \n", User::Named(b"bob ")),
        ] {
            parsed(format!("Op: ping\n{user}").as_bytes(), |request| {
                assert_eq!(request.user(), expected, "{user:?}");
            });
        }
    }

    #[test]
    fn a_reply_is_known_by_its_code() {
        for (datagram, expected) in [
            ("Code: 200\nDiag: OK\n\n", true),
            ("code:\n", true),
            ("Code: 200\nOp:\n\n", false),
            ("Op: ping\n", false),
            ("", false),
        ] {
            parsed(datagram.as_bytes(), |request| {
                assert_eq!(request.is_reply(), expected, "{datagram:?}");
            });
        }
    }
}
