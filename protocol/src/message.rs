//! The general reader: a datagram in whatever layout the reference's parser accepts.
//!
//! The reference replaces each `"\n\n"` by `"\n"`, for the sake of clients that put an empty line in the middle, and hands
//! the rest to Python's `email` package. What that makes of it is: headers as long as lines look like headers, then an
//! empty line or whatever else, then a body. After [`normalize`] lines end in LF alone, and slices of the text can stand
//! for values.

use crate::limits::MAX_DATAGRAM_BYTES;

/// A line that an mbox puts before a message; never a header, wherever it stands.
const MBOX_SEPARATOR: &[u8] = b"From ";

/// Copies `datagram` to the front of `text` with each `"\n\n"` replaced by `"\n"`, once, from left to right, and
/// after that each CRLF or CR by LF. Says how many bytes it took, which is never more than `datagram` has.
pub(crate) fn normalize(datagram: &[u8], text: &mut [u8; MAX_DATAGRAM_BYTES]) -> usize {
    let mut length = 0;
    let mut after_cr = false;
    let mut bytes = datagram.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let is_lf = byte == b'\n';
        if is_lf {
            bytes.next_if_eq(&b'\n');
        }
        if !(is_lf && after_cr) {
            text[length] = if byte == b'\r' { b'\n' } else { byte };
            length += 1;
        }
        after_cr = byte == b'\r';
    }
    length
}

/// A normalized datagram, split where its headers end. The default is empty.
#[derive(Clone, Copy, Default)]
pub(crate) struct Message<'t> {
    /// Lines of which each is a header, continues one, or is to be skipped.
    headers: &'t [u8],
    /// The body, in two pieces: a line taken back from the headers, and what follows them.
    body: [&'t [u8]; 2],
}

impl<'t> Message<'t> {
    /// Splits `text`, which must come from [`normalize`].
    pub(crate) fn split(text: &'t [u8]) -> Self {
        let end = header_block_length(text);
        let (block, rest) = text.split_at(end);
        let last = last_line_start(block);
        // An mbox separator is skipped among the headers, but where it ends them it belongs to the body.
        let headers_end = if last > 0 && block[last..].starts_with(MBOX_SEPARATOR) {
            last
        } else {
            end
        };
        Self {
            headers: &block[..headers_end],
            body: [
                &block[headers_end..],
                rest.strip_prefix(b"\n").unwrap_or(rest),
            ],
        }
    }

    /// The headers, in order.
    pub(crate) fn headers(&self) -> Headers<'t> {
        Headers { rest: self.headers }
    }

    /// Hands `sink` the message as the reference writes it down, without `Sig` headers, piece by piece.
    ///
    /// Nobody signs these, so they differ: values with bytes beyond ASCII, which the reference puts into encoded words,
    /// and bodies that `Content-Type` declares to be multipart, which it takes apart.
    pub(crate) fn serialize_unsigned(&self, sink: &mut impl FnMut(&[u8])) {
        for header in self.headers().filter(|header| !header.is(b"Sig")) {
            sink(header.name);
            sink(b": ");
            fold(header.value, sink);
            sink(b"\n");
        }
        sink(b"\n");
        self.body.iter().for_each(|piece| sink(piece));
    }
}

/// One header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header<'t> {
    /// Printable ASCII without colon, never empty.
    pub(crate) name: &'t [u8],
    /// Without leading blanks and without trailing line ends, but with what folding put between its lines.
    pub(crate) value: &'t [u8],
}

impl Header<'_> {
    /// Whether this is the header `name`, whatever its case.
    pub(crate) fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Iterates over a block of header lines.
#[derive(Clone, Default)]
pub(crate) struct Headers<'t> {
    rest: &'t [u8],
}

impl<'t> Headers<'t> {
    fn take_line(&mut self) -> &'t [u8] {
        let (line, rest) = self.rest.split_at(line_length(self.rest));
        self.rest = rest;
        line
    }
}

impl<'t> Iterator for Headers<'t> {
    type Item = Header<'t>;

    fn next(&mut self) -> Option<Header<'t>> {
        while !self.rest.is_empty() {
            let from_here = self.rest;
            let line = self.take_line();
            // Continuations get here only where there is nothing to continue.
            let Some(colon @ 1..) = colon_position(line) else {
                continue;
            };
            while self.rest.first().copied().is_some_and(is_blank) {
                self.take_line();
            }
            let value = &from_here[colon + 1..from_here.len() - self.rest.len()];
            return Some(Header {
                name: &line[..colon],
                value: trim_value(value),
            });
        }
        None
    }
}

/// Hands `sink` a header's value as the reference writes it down.
///
/// That is the value itself, unless it is folded. Then a single blank at a line's end goes, and a line of nothing but
/// white space joins the one before. A value whose lines would not read back as one header stays as it is: the
/// reference answers nothing then.
pub(crate) fn fold(value: &[u8], sink: &mut impl FnMut(&[u8])) {
    let mut lines = value
        .split_inclusive(|&byte| ends_line(byte))
        .map(without_line_end);
    let Some(first) = lines.next() else { return };
    if lines.clone().next().is_none() {
        return sink(first);
    }
    let lines = lines.map(without_single_blank);
    if !lines
        .clone()
        .all(|line| is_white(line) || is_blank(line[0]))
    {
        return sink(value);
    }
    sink(without_single_blank(first));
    for line in lines {
        if !is_white(line) {
            sink(b"\n");
        }
        sink(line);
    }
}

/// Whether [`fold`] may change the value.
pub(crate) fn is_folded(value: &[u8]) -> bool {
    value.iter().any(|&byte| ends_line(byte))
}

/// What Python's strings take for white space, as far as it is ASCII: U+001C to U+001F are, NUL is not.
pub(crate) const fn is_white_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | 0x1c..=0x1f | b' ')
}

fn header_block_length(text: &[u8]) -> usize {
    let mut length = 0;
    while is_header_line(&text[length..]) {
        length += line_length(&text[length..]);
    }
    length
}

/// Whether the line that `text` starts with belongs to a header block.
fn is_header_line(text: &[u8]) -> bool {
    text.first().copied().is_some_and(is_blank)
        || text.starts_with(MBOX_SEPARATOR)
        || colon_position(text).is_some()
}

/// Where a header's name ends: everything before the colon must be printable ASCII.
fn colon_position(line: &[u8]) -> Option<usize> {
    let end = line
        .iter()
        .position(|byte| *byte == b':' || !byte.is_ascii_graphic())?;
    (line[end] == b':').then_some(end)
}

fn line_length(text: &[u8]) -> usize {
    text.iter()
        .position(|&byte| byte == b'\n')
        .map_or(text.len(), |at| at + 1)
}

fn last_line_start(block: &[u8]) -> usize {
    let before_last_end = block.len().saturating_sub(1);
    block[..before_last_end]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1)
}

fn trim_value(value: &[u8]) -> &[u8] {
    let start = value.iter().take_while(|&&byte| is_blank(byte)).count();
    let value = &value[start..];
    let ends = value
        .iter()
        .rev()
        .take_while(|&&byte| byte == b'\n')
        .count();
    &value[..value.len() - ends]
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_white(line: &[u8]) -> bool {
    line.iter().all(|&byte| is_white_space(byte))
}

/// Python's `str.splitlines` also ends lines at VT, FF, FS, GS and RS.
const fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\n' | 0x0b | 0x0c | 0x1c..=0x1e)
}

fn without_line_end(line: &[u8]) -> &[u8] {
    match line.split_last() {
        Some((&end, rest)) if ends_line(end) => rest,
        _ => line,
    }
}

fn without_single_blank(line: &[u8]) -> &[u8] {
    match line {
        [.., b' ' | b'\t', b' '] => line,
        [rest @ .., b' '] => rest,
        _ => line,
    }
}
