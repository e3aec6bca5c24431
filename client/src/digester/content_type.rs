//! `Content-Type`: the type, and parameters as Python's `email` package reads them, in RFC 2231's forms too.
//!
//! A value is ASCII text, and U+FFFD for each byte beyond it. There are no comments; quotes only protect a semicolon.

use std::collections::HashMap;

use super::Unreadable;
use super::charset::{self, Failure, OnError};
use super::text;

/// Python refuses to read a decimal number of more digits.
pub(super) const MAX_DECIMAL_DIGITS: usize = 4_300;

/// The type of a part, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind(String);

impl Kind {
    /// That of a part with this `Content-Type`. One without any is text, or a message inside a digest; one that is not made
    /// of two words is text.
    pub(super) fn of(content_type: Option<&str>, default_is_message: bool) -> Self {
        let kind = match content_type {
            None if default_is_message => "message/rfc822".to_owned(),
            None => TEXT.to_owned(),
            Some(value) => {
                let (kind, _) = value.split_once(';').unwrap_or((value, ""));
                trim(kind).to_ascii_lowercase()
            }
        };
        if kind.bytes().filter(|byte| *byte == b'/').count() == 1 {
            Self(kind)
        } else {
            Self(TEXT.to_owned())
        }
    }

    fn has_main(&self, main: &str) -> bool {
        self.0.split('/').next() == Some(main)
    }

    pub(super) fn is_text(&self) -> bool {
        self.has_main("text")
    }

    pub(super) fn is_html(&self) -> bool {
        self.0 == "text/html"
    }

    pub(super) fn is_message(&self) -> bool {
        self.has_main("message")
    }

    pub(super) fn is_delivery_status(&self) -> bool {
        self.0 == "message/delivery-status"
    }

    pub(super) fn is_multipart(&self) -> bool {
        self.has_main("multipart")
    }

    pub(super) fn is_digest(&self) -> bool {
        self.0 == "multipart/digest"
    }
}

const TEXT: &str = "text/plain";

/// The boundary of a multipart, as bytes that may stand in a line; none if it has no such parameter.
///
/// A boundary with a character that no byte of a message stands for is returned as one that no line holds.
pub(super) fn boundary(content_type: Option<&str>) -> Result<Option<Vec<u8>>, Unreadable> {
    let text = match parameter(content_type, "boundary")? {
        None => return Ok(None),
        Some(Parameter::Plain(value)) => unquote(&value).into_bytes(),
        Some(Parameter::Extended { charset, text }) => {
            let charset = charset.as_deref().unwrap_or(ASCII);
            match charset::decode(charset, &escaped(&text), OnError::Replace) {
                Ok(text) => text,
                Err(Failure::UnknownCharset) => unquote(&text).into_bytes(),
                Err(Failure::Undecodable | Failure::Crash) => return Err(Unreadable),
            }
        }
    };
    Ok(Some(bytes_of(text::trim_end(&text))))
}

const ASCII: &str = "us-ascii";

/// The bytes of a line that reads as this text. The reader takes a byte beyond ASCII for a surrogate from U+DC80 on.
fn bytes_of(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let end = text::end_of_char(text, at);
        match text[at..end] {
            [byte] => bytes.push(byte),
            [0xED, 0xB2, low] => bytes.push(low),
            [0xED, 0xB3, low] => bytes.push(low | 0x40),
            // A line end stands in no line but at its end.
            _ => return b"\n".to_vec(),
        }
        at = end;
    }
    bytes
}

/// The charset of a text part, in lower case; none if it has none, or one that is not ASCII.
pub(super) fn charset(content_type: Option<&str>) -> Result<Option<String>, Unreadable> {
    let name = match parameter(content_type, "charset")? {
        None => return Ok(None),
        Some(Parameter::Plain(value)) => value,
        Some(Parameter::Extended { charset, text }) => {
            let charset = charset.filter(|name| !name.is_empty());
            let charset = charset.as_deref().unwrap_or(ASCII);
            match charset::decode(charset, &escaped(&text), OnError::Strict) {
                Ok(name) => match String::from_utf8(name) {
                    Ok(name) => name,
                    Err(_) => return Ok(None),
                },
                Err(Failure::UnknownCharset | Failure::Undecodable) => text,
                Err(Failure::Crash) => return Err(Unreadable),
            }
        }
    };
    Ok(name.is_ascii().then(|| name.to_ascii_lowercase()))
}

/// The charset of a part that is not text, as written; none if it has none.
pub(super) fn plain_charset(content_type: Option<&str>) -> Result<Option<String>, Unreadable> {
    match parameter(content_type, "charset")? {
        None => Ok(None),
        Some(Parameter::Plain(value)) => Ok(Some(value)),
        Some(Parameter::Extended { .. }) => Err(Unreadable),
    }
}

/// The value of a parameter, without quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Parameter {
    Plain(String),
    /// RFC 2231's form; the text holds bytes, as characters up to U+00FF.
    Extended {
        charset: Option<String>,
        text: String,
    },
}

/// The first parameter of a name. The type itself is one too if it holds an equals sign.
fn parameter(content_type: Option<&str>, name: &str) -> Result<Option<Parameter>, Unreadable> {
    let Some(value) = content_type else {
        return Ok(None);
    };
    let mut extended = Extended::of_name(name);
    let mut plain = None;
    for (place, parameter) in split(value).enumerate() {
        let (found, value) = name_and_value(parameter);
        let is_section = place > 0 && extended.add(&found, &value)?;
        if !is_section && plain.is_none() && found.eq_ignore_ascii_case(name) {
            plain = Some(Parameter::Plain(unquote(&value)));
        }
    }
    let joined = extended.join()?;
    Ok(plain.or(joined))
}

/// What is between semicolons that no quotes protect.
fn split(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let value = rest?;
        let Some(end) = first_semicolon(value) else {
            return rest.take();
        };
        rest = Some(&value[end + 1..]);
        Some(&value[..end])
    })
}

fn first_semicolon(value: &str) -> Option<usize> {
    let mut quotes = 0_usize;
    let bytes = value.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' if at == 0 || bytes[at - 1] != b'\\' => quotes += 1,
            b';' if quotes.is_multiple_of(2) => return Some(at),
            _ => {}
        }
    }
    None
}

/// A parameter as it is written. A name without a value keeps its case.
fn name_and_value(parameter: &str) -> (String, String) {
    match parameter.split_once('=') {
        Some((name, value)) => (trim(name).to_ascii_lowercase(), trim(value).to_owned()),
        None => (trim(parameter).to_owned(), String::new()),
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches(text::is_white_space)
}

/// Without quotes and their escapes, or without angle brackets.
fn unquote(value: &str) -> String {
    let inside = |open, close| {
        let inner = value.strip_prefix(open)?;
        inner.strip_suffix(close)
    };
    if let Some(quoted) = inside('"', '"') {
        // Two passes, each over the whole: so a backslash may escape twice.
        quoted.replace("\\\\", "\\").replace("\\\"", "\"")
    } else {
        inside('<', '>').unwrap_or(value).to_owned()
    }
}

fn quote(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The parameters in RFC 2231's forms: `name*`, `name*0`, `name*0*`.
#[derive(Debug)]
struct Extended<'n> {
    /// The one that is asked for, in lower case.
    name: &'n str,
    /// The first that is called so, as it is written, and its sections.
    found: Option<String>,
    sections: Vec<Section>,
    /// Of each parameter whether its sections have numbers.
    are_numbered: HashMap<String, bool>,
    /// Whether one has sections both with and without.
    is_mixed: bool,
}

/// Sorted as Python sorts them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Section {
    /// The digits' count, then the digits, without leading zeros: numbers of any size in their order.
    number: Option<(usize, String)>,
    value: String,
    is_encoded: bool,
}

impl<'n> Extended<'n> {
    fn of_name(name: &'n str) -> Self {
        Self {
            name,
            found: None,
            sections: Vec::new(),
            are_numbered: HashMap::new(),
            is_mixed: false,
        }
    }

    /// Takes the section in, if that is what it is.
    fn add(&mut self, name: &str, value: &str) -> Result<bool, Unreadable> {
        let Some((base, rest)) = name.split_once('*') else {
            return Ok(false);
        };
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let digits = rest.strip_suffix('*').unwrap_or(rest);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if base.is_empty() || !base.bytes().all(is_word) || !(rest.is_empty() || is_number) {
            return Ok(false);
        }
        if digits.len() > MAX_DECIMAL_DIGITS {
            return Err(Unreadable);
        }
        let first = *self
            .are_numbered
            .entry(base.to_owned())
            .or_insert(is_number);
        self.is_mixed |= first != is_number;
        if self.found.is_none() && base.eq_ignore_ascii_case(self.name) {
            self.found = Some(base.to_owned());
        }
        if self.found.as_deref() == Some(base) {
            let significant = digits.trim_start_matches('0');
            self.sections.push(Section {
                number: is_number.then(|| (significant.len(), significant.to_owned())),
                value: unquote(value),
                is_encoded: name.ends_with('*'),
            });
        }
        Ok(true)
    }

    /// The parameter that is asked for, put together; none of them can be read if one is mixed.
    fn join(self) -> Result<Option<Parameter>, Unreadable> {
        if self.is_mixed {
            return Err(Unreadable);
        }
        Ok(self.found.map(|_| join_sections(self.sections)))
    }
}

fn join_sections(mut sections: Vec<Section>) -> Parameter {
    sections.sort();
    let joined: String = sections
        .iter()
        .map(|section| {
            if section.is_encoded {
                percent_decoded(&section.value)
            } else {
                section.value.clone()
            }
        })
        .collect();
    if !sections.iter().any(|section| section.is_encoded) {
        return Parameter::Plain(joined);
    }
    match joined.splitn(3, '\'').collect::<Vec<_>>()[..] {
        [charset, _, text] => Parameter::Extended {
            // The charset's name alone keeps the quoting that the whole gets in between.
            charset: Some(quote(charset)),
            text: text.to_owned(),
        },
        _ => Parameter::Extended {
            charset: None,
            text: joined,
        },
    }
}

/// Each `%` with two digits is a byte, and so a character up to U+00FF.
fn percent_decoded(value: &str) -> String {
    let mut decoded = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let byte = after
            .get(..2)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = byte {
            decoded.push(char::from(byte));
            rest = &after[2..];
        } else {
            decoded.push('%');
            rest = after;
        }
    }
    decoded + rest
}

/// The bytes that characters up to U+00FF stand for; others as Python's `raw_unicode_escape` writes them.
fn escaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for char in text.chars() {
        match u8::try_from(char) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend(format!("\\u{:04x}", u32::from(char)).bytes()),
        }
    }
    bytes
}
