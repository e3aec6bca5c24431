//! From bytes to characters, as Python's codecs do it.
//!
//! | file | job |
//! | --- | --- |
//! | `names` | from a charset's name to its decoder |
//! | `single_byte` | charsets of one byte a character, from tables |
//! | `east_asian` | those of one or more bytes a character, without state |
//! | `two_byte` | the tables of both these and the next |
//! | `shifting` | ISO-2022 and HZ, which shift between sets |
//! | `unicode` | UTF-7, UTF-8, UTF-16, UTF-32 |
//! | `escapes` | Python's own notations |
//! | `punycode` | what names of hosts are written in |

mod east_asian;
mod escapes;
mod names;
mod punycode;
mod shifting;
mod single_byte;
mod two_byte;
mod unicode;

use super::{Unreadable, text};
use names::Codec;

/// What becomes of bytes that stand for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnError {
    /// They vanish.
    Ignore,
    /// Each sequence of them is one U+FFFD.
    Replace,
    /// The whole cannot be decoded.
    Strict,
}

/// Why there is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody knows this charset.
    UnknownCharset,
    /// The charset decodes nothing, or not this.
    Undecodable,
    /// The reference fails in a way it is not prepared for.
    Crash,
}

/// The text of a text part: what its charset makes of it, or else its ASCII bytes.
pub(super) fn decode_text(charset: Option<&str>, bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let name = charset.unwrap_or_default().replace('\0', "");
    let name = if name.is_empty() { ASCII } else { &name };
    or_ascii(name, bytes, OnError::Ignore, |failure| {
        failure == Failure::Crash
    })
}

/// The text of a part that is none, with 8-bit bytes.
pub(super) fn decode_opaque(charset: Option<&str>, bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let name = charset.unwrap_or(ASCII);
    or_ascii(name, bytes, OnError::Replace, |failure| {
        failure != Failure::UnknownCharset
    })
}

const ASCII: &str = "ascii";

/// What the charset makes of it, or ASCII where that fails, except with a failure that is final.
fn or_ascii(
    name: &str,
    bytes: &[u8],
    on_error: OnError,
    is_final: fn(Failure) -> bool,
) -> Result<Vec<u8>, Unreadable> {
    match decode(name, bytes, on_error) {
        Ok(text) => Ok(text),
        Err(failure) if is_final(failure) => Err(Unreadable),
        Err(_) => {
            let mut sink = Sink::new(on_error, bytes.len());
            unicode::decode_ascii(bytes, &mut sink);
            Ok(sink.text)
        }
    }
}

/// The text that these bytes are in the charset of this name.
pub(super) fn decode(name: &str, bytes: &[u8], on_error: OnError) -> Result<Vec<u8>, Failure> {
    if name.contains('\0') {
        return Err(Failure::Crash);
    }
    // Nothing is decoded before its charset is looked at.
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let codec = names::find(name).ok_or(Failure::UnknownCharset)?;
    let mut sink = Sink::new(on_error, bytes.len());
    decode_with(codec, bytes, &mut sink)?;
    if sink.has_error && on_error == OnError::Strict {
        return Err(Failure::Undecodable);
    }
    Ok(sink.text)
}

fn decode_with(codec: Codec, bytes: &[u8], sink: &mut Sink) -> Result<(), Failure> {
    match codec {
        Codec::Ascii => unicode::decode_ascii(bytes, sink),
        Codec::SingleByte(table) => single_byte::decode(table, bytes, sink),
        Codec::EastAsian(charset) => charset.decode(bytes, sink),
        Codec::Iso2022(variant) => shifting::decode_iso2022(variant, bytes, sink)?,
        Codec::Hz => shifting::decode_hz(bytes, sink),
        Codec::Utf7 => unicode::decode_utf7(bytes, sink),
        Codec::Utf8 => unicode::decode_utf8(bytes, sink),
        Codec::Utf8WithSignature => unicode::decode_utf8_with_signature(bytes, sink),
        Codec::Utf16(order) => unicode::decode_utf16(order, bytes, sink),
        Codec::Utf32(order) => unicode::decode_utf32(order, bytes, sink),
        Codec::UnicodeEscape => escapes::decode_unicode_escape(bytes, sink),
        Codec::RawUnicodeEscape => escapes::decode_raw_unicode_escape(bytes, sink),
        Codec::Punycode => punycode::decode(bytes, sink)?,
        Codec::Nothing => return Err(Failure::Undecodable),
    }
    Ok(())
}

/// Takes what a decoder finds.
#[derive(Debug)]
struct Sink {
    text: Vec<u8>,
    on_error: OnError,
    has_error: bool,
}

impl Sink {
    fn new(on_error: OnError, bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            on_error,
            has_error: false,
        }
    }

    /// A character, or a surrogate.
    fn push(&mut self, code_point: u32) {
        text::push(&mut self.text, code_point);
    }

    /// A sequence of bytes that stands for nothing.
    fn error(&mut self) {
        self.has_error = true;
        if self.on_error == OnError::Replace {
            self.push(u32::from(char::REPLACEMENT_CHARACTER));
        }
    }
}

#[cfg(test)]
mod tests;
