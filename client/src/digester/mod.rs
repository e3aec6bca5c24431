//! From a message to its digest, bit for bit as the Python client computes it on `CPython` 3.11.0 to 3.11.13.
//!
//! The network counts nothing else than digests, so everyone has to compute the same one, from spam that is damaged on
//! purpose too. What the Python client makes of a message is what Python's `email` package, codecs and `html.parser` make
//! of it. Their rules were found by asking them, and are stated here once more.
//!
//! `html.parser` reads damaged HTML in another way from 3.11.14 on, and in newer versions of 3.12, 3.13 and 3.14; Debian's
//! 3.11.2 has a mixture of both ways since 3.11.2-6+deb12u9. The real messages of the tests have the same digest in both.
//! What the older one fails on is read as the newer one reads it.
//!
//! # Which file does what
//!
//! In the order a message visits them:
//!
//! | file | job |
//! | --- | --- |
//! | `mime_walk` | the parts of a message that hold text, in order |
//! | `lines` | the reader below it: lines, and which of them end a part |
//! | `content_type` | `Content-Type` and its parameters |
//! | `transfer_encoding` | base64, quoted-printable, uuencode |
//! | `charset/` | from bytes to characters |
//! | `html_text` | the text between HTML's tags |
//! | `html_tag` | where a start tag ends |
//! | `html5_text` | both by the rules of newer Pythons |
//! | `character_references` | `&amp;` and the like |
//! | `normalize` | the lines of a text, without what differs from one copy of a mail to the next |
//! | `select_lines` | which of a message's lines count |
//! | `text` | characters, among them those that UTF-8 has no place for |
//!
//! # Why not a library's MIME parser
//!
//! Which lines belong to which part is all that matters for a digest, and libraries differ from the reference in
//! just that: where a boundary may stand, which newline belongs to it, what a part without its end contains, which of two
//! equal headers counts, what a damaged parameter or base64 line means. Agreement is needed for the damaged ones most, as
//! nothing else varies in spam. So the walk, the parameters and the transfer encodings are our own. So are the
//! charsets' tables (`tables/generate.py` asks Python for them): `encoding_rs` implements the web's charsets, where
//! ISO-8859-1 is windows-1252, GB2312 is GBK and an undecodable byte swallows its neighbour, and knows no IBM code page.
//!
//! # Where the Python client fails
//!
//! It gives no digest for some messages. If it fails on HTML that holds a marked section of a kind it does not know
//! (`<![`, `<![foo]>`, `<![]]>`), newer Pythons do not, and the digest is theirs: all HTML of the message is read by the rules of
//! `CPython` 3.14.2. Where newer ones fail too, the part that they fail on is left out, and the others count. That is:
//!
//! - an HTML part with a numeric reference of more than 4,300 decimal digits, in its text or in an attribute;
//! - a `Content-Type` whose RFC 2231 parameter comes both with and without a section number, or with one of more than
//!   4,300 digits, where any of its parameters is asked for: for a multipart, a text part, or another part with 8-bit bytes;
//! - a multipart whose boundary is in a charset that cannot decode it (`undefined`, `idna`), or whose name holds a NUL;
//! - a part that is neither text nor multipart and has 8-bit bytes, and whose charset is an RFC 2231 parameter, holds a
//!   NUL, or is one that cannot decode it;
//! - a text part whose charset is in RFC 2231 form and itself in a charset with a NUL in its name; one in ISO-2022-JP-2 that
//!   shifts to a set it cannot.
//!
//! A message nested deeper than Python's stack allows is read to its end. A charset that Python knows and no mail
//! names, `unicode_escape`, is read without names of characters (`\N{...}` is dropped), and `punycode` up to a number of more than
//! 128 bits.
//!
//! # Bounds
//!
//! Time and memory grow with the message's length and with nothing else: no recursion, no search that is done twice over
//! the same bytes, whatever the nesting, the number of boundaries or the state of the HTML.

mod character_references;
mod charset;
mod content_type;
mod html5_text;
mod html_tag;
mod html_text;
mod lines;
mod mime_walk;
mod normalize;
mod select_lines;
mod text;
mod transfer_encoding;

use pyzor_protocol::Digest;
use sha1::{Digest as _, Sha1};

use mime_walk::Part;

/// The digest of every message without a line that counts.
pub const EMPTY_TEXT_DIGEST: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";

/// The digest of a message, given as it was received: headers, empty line, body.
///
/// Every message has one; those without any line that counts share [`EMPTY_TEXT_DIGEST`].
///
/// # Examples
///
/// ```
/// let digest = pyzor::digester::digest_of(b"Subject: greetings\n\nHello world, how are you?\n");
/// assert_eq!(digest.to_string(), "cf9d1231496bfceb445a911828b5a40cbaf90b79");
/// ```
pub fn digest_of(message: &[u8]) -> Digest {
    let mut hash = Sha1::new();
    for line in predigest(message) {
        hash.update(&line);
    }
    Digest::from_bytes(hash.finalize().into())
}

/// What goes into a message's digest: its lines that count, normalised, in UTF-8, without line ends.
pub fn predigest(message: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    if append_parts(message, html_text::text_between_tags, &mut lines).is_err() {
        lines.clear();
        // What these rules cannot read either stays out.
        let _ = append_parts(message, html5_text::text_between_tags, &mut lines);
    }
    select_lines::select(lines)
}

/// Something on which the Python client gives up. The part it stands in is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unreadable;

/// Rules for HTML.
type ReadHtml = fn(&[u8]) -> Result<Vec<u8>, Unreadable>;

/// Appends the lines of all parts that can be read; an error if HTML is not among them for what it holds.
fn append_parts(
    message: &[u8],
    read_html: ReadHtml,
    lines: &mut Vec<Vec<u8>>,
) -> Result<(), Unreadable> {
    let mut all_html = Ok(());
    mime_walk::for_each_part(message, |part| {
        let Ok(text) = part_text(part) else {
            return;
        };
        if !part.kind().is_html() {
            normalize::append_lines(&text, lines);
            return;
        }
        match read_html(&text) {
            Ok(text) => normalize::append_lines(&text, lines),
            Err(Unreadable) => all_html = Err(Unreadable),
        }
    });
    all_html
}

/// The text of a part, with its tags if it is HTML.
fn part_text(part: &Part<'_>) -> Result<Vec<u8>, Unreadable> {
    if !part.kind().is_text() {
        return opaque_text(part);
    }
    let bytes = transfer_encoding::decode(part.transfer_encoding(), part.payload());
    let charset = content_type::charset(part.content_type())?;
    charset::decode_text(charset.as_deref(), &bytes)
}

/// The text of a part that claims to be none: as it stands, whatever its transfer encoding.
fn opaque_text(part: &Part<'_>) -> Result<Vec<u8>, Unreadable> {
    let payload = part.payload();
    if payload.is_ascii() {
        return Ok(payload.into_owned());
    }
    let charset = content_type::plain_charset(part.content_type())?;
    charset::decode_opaque(charset.as_deref(), &payload)
}

#[cfg(test)]
mod tests;
