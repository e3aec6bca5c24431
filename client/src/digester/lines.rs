//! A message as lines, and the ends of parts among them.
//!
//! A part ends before a line that one of the matchers in force knows: a boundary of any multipart around it, or an empty
//! line inside a delivery status. Boundaries are known by number, so that a line costs one look-up however many multiparts
//! it is nested in, and a line that ends many of them is looked up once.

use std::collections::HashMap;

use memchr::memchr2;

/// The number of a boundary among those a message uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boundary(usize);

/// What a line is to a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delimiter {
    /// It parts two parts.
    Separates,
    /// It ends the multipart.
    Closes,
}

/// A line and the boundaries it belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// With its line end.
    pub(super) text: &'a [u8],
    separates: Option<Boundary>,
    closes: Option<Boundary>,
}

impl Line<'_> {
    /// What it is to this boundary, if anything.
    pub(super) fn delimiter(&self, boundary: Boundary) -> Option<Delimiter> {
        if self.separates == Some(boundary) {
            Some(Delimiter::Separates)
        } else if self.closes == Some(boundary) {
            Some(Delimiter::Closes)
        } else {
            None
        }
    }

    /// Whether it is empty but for its line end.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.text, [b'\r' | b'\n', ..])
    }
}

/// Reads lines until one ends the current part.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    message: &'a [u8],
    at: usize,
    /// A line that comes again, before the one at `at`.
    returned: Option<&'a [u8]>,
    /// The line at `at`, once it was looked at.
    current: Option<Line<'a>>,
    boundaries: HashMap<Vec<u8>, Boundary>,
    /// How many matchers are in force, by boundary.
    in_force: Vec<usize>,
    empty_lines_in_force: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self {
            message,
            at: 0,
            returned: None,
            current: None,
            boundaries: HashMap::new(),
            in_force: Vec::new(),
            empty_lines_in_force: 0,
        }
    }

    /// The next line, unless the part ends before it.
    pub(super) fn next(&mut self) -> Option<Line<'a>> {
        if let Some(text) = self.returned.take() {
            return Some(Line {
                text,
                separates: None,
                closes: None,
            });
        }
        let line = self.current()?;
        if self.is_end(line) {
            return None;
        }
        self.at += line.text.len();
        self.current = None;
        Some(line)
    }

    /// Goes back to the line just read.
    pub(super) fn back(&mut self, line: Line<'a>) {
        self.at -= line.text.len();
        self.current = Some(line);
    }

    /// Has this line, which was read before, come again before all others. It can be no delimiter.
    pub(super) fn give_back(&mut self, line: &'a [u8]) {
        self.returned = Some(line);
    }

    /// What is left of the part: a line that came again, and the rest.
    pub(super) fn rest(&mut self) -> [&'a [u8]; 2] {
        let returned = self.returned.take().unwrap_or_default();
        let start = self.at;
        while self.next().is_some() {}
        [returned, &self.message[start..self.at]]
    }

    /// What stands before the next delimiter of a boundary, as [`Self::rest`] says it, and the delimiter, which is read
    /// too; or before the end of the part.
    pub(super) fn until(&mut self, boundary: Boundary) -> ([&'a [u8]; 2], Option<Delimiter>) {
        let returned = self.returned.take().unwrap_or_default();
        let start = self.at;
        loop {
            let end = self.at;
            let line = self.next();
            let delimiter = line.and_then(|line| line.delimiter(boundary));
            if line.is_none() || delimiter.is_some() {
                return ([returned, &self.message[start..end]], delimiter);
            }
        }
    }

    /// The number of a boundary, before any line is compared with it.
    pub(super) fn boundary(&mut self, name: Vec<u8>) -> Boundary {
        let next = Boundary(self.in_force.len());
        let boundary = *self.boundaries.entry(name).or_insert(next);
        if boundary == next {
            self.in_force.push(0);
            self.current = None;
        }
        boundary
    }

    /// From now on parts end before the boundary.
    pub(super) fn end_at(&mut self, boundary: Boundary) {
        self.in_force[boundary.0] += 1;
    }

    /// Takes back one [`Self::end_at`].
    pub(super) fn no_end_at(&mut self, boundary: Boundary) {
        self.in_force[boundary.0] -= 1;
    }

    /// From now on parts end before an empty line.
    pub(super) fn end_at_empty_lines(&mut self) {
        self.empty_lines_in_force += 1;
    }

    /// Takes back one [`Self::end_at_empty_lines`].
    pub(super) fn no_end_at_empty_lines(&mut self) {
        self.empty_lines_in_force -= 1;
    }

    fn is_end(&self, line: Line<'_>) -> bool {
        let in_force = |boundary: Option<Boundary>| {
            boundary.is_some_and(|boundary| self.in_force[boundary.0] > 0)
        };
        in_force(line.separates)
            || in_force(line.closes)
            || (self.empty_lines_in_force > 0 && line.is_empty())
    }

    fn current(&mut self) -> Option<Line<'a>> {
        if self.current.is_none() && self.at < self.message.len() {
            let rest = &self.message[self.at..];
            self.current = Some(self.recognise(&rest[..line_length(rest)]));
        }
        self.current
    }

    /// A delimiter is two hyphens, the boundary, two more if it is the last, and blanks.
    fn recognise(&self, text: &'a [u8]) -> Line<'a> {
        let name = text.strip_prefix(b"--").map(without_blanks_at_end);
        let known = |name: Option<&[u8]>| name.and_then(|name| self.boundaries.get(name).copied());
        Line {
            text,
            separates: known(name),
            closes: known(name.and_then(|name| name.strip_suffix(b"--"))),
        }
    }
}

/// Without the line end, and blanks before it.
fn without_blanks_at_end(line: &[u8]) -> &[u8] {
    let mut line = without_line_end(line);
    while let [rest @ .., b' ' | b'\t'] = line {
        line = rest;
    }
    line
}

/// Without one line end, if there is one: LF, CR or both.
pub(super) fn without_line_end(text: &[u8]) -> &[u8] {
    match text {
        [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n' | b'\r'] => rest,
        _ => text,
    }
}

/// The length of the first line, with its line end.
fn line_length(text: &[u8]) -> usize {
    match memchr2(b'\r', b'\n', text) {
        None => text.len(),
        Some(at) if text[at..].starts_with(b"\r\n") => at + 2,
        Some(at) => at + 1,
    }
}
