//! The walk over a message's parts, in the order they stand in it, as Python's `email.feedparser` divides them.
//!
//! What holds other parts (a multipart with a boundary, `message/*`) is entered and contributes nothing itself, so that a
//! message comes down to its leaves in order. Nesting is kept on a stack of our own, never on the thread's.
//!
//! Peculiar to that parser, and kept: a header block ends at the first line that cannot be one, which then belongs to the
//! body; so does a `From ` line at its end, before all that follows. A delimiter may have blanks after it. Delimiters that
//! follow each other at once are one, closing ones too. A multipart without its first delimiter has the text before
//! its closing one for a payload. The last line end of a part belongs to the delimiter after it, and is taken from
//! whichever leaf was the last one made.

use std::borrow::Cow;
use std::mem;

use super::content_type::{self, Kind};
use super::lines::{Boundary, Delimiter, Lines, without_line_end};

/// Hands on the leaves of a message, each once it is known where it ends: one at a time is kept.
pub(super) fn for_each_part<'a>(message: &'a [u8], visit: impl FnMut(&Part<'a>)) {
    let mut walk = Walk {
        lines: Lines::new(message),
        containers: Vec::new(),
        leaf: None,
        ends_at_delimiter: false,
        visit,
    };
    walk.run();
    walk.hand_on();
}

/// A part that holds no others.
#[derive(Debug)]
pub(super) struct Part<'a> {
    headers: Headers<'a>,
    /// A line that was given back to the body, and the body.
    payload: [&'a [u8]; 2],
}

impl Part<'_> {
    /// Its type.
    pub(super) fn kind(&self) -> Kind {
        // A leaf without a type is text: the other default, message/rfc822, would have been entered.
        self.headers.kind(false)
    }

    /// The value of `Content-Type`.
    pub(super) fn content_type(&self) -> Option<&str> {
        self.headers.content_type.as_deref()
    }

    /// The value of `Content-Transfer-Encoding`, in lower case.
    pub(super) fn transfer_encoding(&self) -> &str {
        self.headers
            .transfer_encoding
            .as_deref()
            .unwrap_or_default()
    }

    /// The body as it was sent.
    pub(super) fn payload(&self) -> Cow<'_, [u8]> {
        match self.payload {
            [[], body] => Cow::Borrowed(body),
            pieces => Cow::Owned(pieces.concat()),
        }
    }

    fn drop_last_line_end(&mut self) {
        let [returned, body] = &mut self.payload;
        match (&**returned, &**body) {
            (_, []) => *returned = without_line_end(returned),
            ([before @ .., b'\r'], b"\n") => (*returned, *body) = (before, &[]),
            _ => *body = without_line_end(body),
        }
    }
}

/// The headers that matter, each the first of its name.
#[derive(Debug, Default)]
struct Headers<'a> {
    content_type: Option<Cow<'a, str>>,
    transfer_encoding: Option<String>,
}

impl Headers<'_> {
    fn kind(&self, default_is_message: bool) -> Kind {
        Kind::of(self.content_type.as_deref(), default_is_message)
    }
}

impl<'a> Headers<'a> {
    /// Takes the header in if it matters: its first line, and those that continue it.
    fn add(&mut self, first: &'a [u8], continuations: &[&'a [u8]]) {
        if is_continuation(first) || first.starts_with(ENVELOPE) {
            return;
        }
        let Some(colon) = first.iter().position(|byte| *byte == b':') else {
            return;
        };
        let (name, text) = (&first[..colon], &first[colon + 1..]);
        if name.eq_ignore_ascii_case(b"content-type") {
            self.content_type
                .get_or_insert_with(|| value(text, continuations));
        } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            self.transfer_encoding
                .get_or_insert_with(|| value(text, continuations).to_ascii_lowercase());
        }
    }
}

/// Something that holds parts, and is being read.
#[derive(Clone, Copy, Debug)]
enum Container {
    /// `message/*`: one message.
    Message,
    /// `message/delivery-status`: a message in each block between empty lines.
    DeliveryStatus,
    Multipart {
        boundary: Boundary,
        is_digest: bool,
    },
}

/// What comes next.
enum Step {
    /// A part begins.
    Enter,
    /// A part has ended.
    Leave,
}

struct Walk<'a, V> {
    lines: Lines<'a>,
    containers: Vec<Container>,
    /// The leaf read last.
    leaf: Option<Part<'a>>,
    /// Whether its last line end goes to a delimiter, if one follows.
    ends_at_delimiter: bool,
    visit: V,
}

impl<'a, V: FnMut(&Part<'a>)> Walk<'a, V> {
    fn run(&mut self) {
        let mut step = Step::Enter;
        loop {
            step = match step {
                Step::Enter => self.enter(),
                Step::Leave => match self.containers.pop() {
                    Some(container) => self.go_on(container),
                    None => return,
                },
            };
        }
    }

    /// Reads headers, and the body if it holds no parts.
    fn enter(&mut self) -> Step {
        let in_digest = matches!(
            self.containers.last(),
            Some(Container::Multipart {
                is_digest: true,
                ..
            })
        );
        let headers = self.read_headers();
        let kind = headers.kind(in_digest);
        if kind.is_delivery_status() {
            self.containers.push(Container::DeliveryStatus);
            self.lines.end_at_empty_lines();
            Step::Enter
        } else if kind.is_message() {
            self.containers.push(Container::Message);
            Step::Enter
        } else if kind.is_multipart() {
            self.enter_multipart(headers, kind.is_digest())
        } else {
            let payload = self.lines.rest();
            self.begin(Part { headers, payload });
            self.ends_at_delimiter = true;
            Step::Leave
        }
    }

    /// Takes in a leaf, and hands on the one before it.
    fn begin(&mut self, leaf: Part<'a>) {
        self.hand_on();
        self.leaf = Some(leaf);
    }

    fn hand_on(&mut self) {
        if let Some(leaf) = self.leaf.take() {
            (self.visit)(&leaf);
        }
    }

    fn enter_multipart(&mut self, headers: Headers<'a>, is_digest: bool) -> Step {
        self.ends_at_delimiter = false;
        let boundary = match content_type::boundary(headers.content_type.as_deref()) {
            Ok(Some(name)) => self.lines.boundary(name),
            Ok(None) => {
                let payload = self.lines.rest();
                self.begin(Part { headers, payload });
                return Step::Leave;
            }
            Err(_) => {
                self.lines.rest();
                return Step::Leave;
            }
        };
        let (preamble, delimiter) = self.lines.until(boundary);
        if delimiter == Some(Delimiter::Separates) {
            let container = Container::Multipart {
                boundary,
                is_digest,
            };
            return self.enter_next_of(container, boundary);
        }
        let payload = preamble;
        self.begin(Part { headers, payload });
        self.lines.rest();
        Step::Leave
    }

    /// Enters the part after a delimiter and those that follow it at once.
    fn enter_next_of(&mut self, container: Container, boundary: Boundary) -> Step {
        while let Some(line) = self.lines.next() {
            if line.delimiter(boundary).is_none() {
                self.lines.back(line);
                break;
            }
        }
        self.containers.push(container);
        self.lines.end_at(boundary);
        Step::Enter
    }

    /// Goes on in a container of which a part has ended.
    fn go_on(&mut self, container: Container) -> Step {
        match container {
            Container::Message => Step::Leave,
            Container::DeliveryStatus => self.go_on_in_delivery_status(),
            Container::Multipart { boundary, .. } => self.go_on_in_multipart(container, boundary),
        }
    }

    fn go_on_in_delivery_status(&mut self) -> Step {
        self.lines.no_end_at_empty_lines();
        // The empty line, and one more to see whether there is a further block.
        self.lines.next();
        match self.lines.next() {
            None => Step::Leave,
            Some(line) => {
                self.lines.back(line);
                self.containers.push(Container::DeliveryStatus);
                self.lines.end_at_empty_lines();
                Step::Enter
            }
        }
    }

    fn go_on_in_multipart(&mut self, container: Container, boundary: Boundary) -> Step {
        if mem::take(&mut self.ends_at_delimiter)
            && let Some(leaf) = &mut self.leaf
        {
            leaf.drop_last_line_end();
        }
        self.lines.no_end_at(boundary);
        match self.lines.next().and_then(|line| line.delimiter(boundary)) {
            Some(Delimiter::Separates) => self.enter_next_of(container, boundary),
            Some(Delimiter::Closes) => {
                self.lines.rest();
                Step::Leave
            }
            None => Step::Leave,
        }
    }

    fn read_headers(&mut self) -> Headers<'a> {
        let mut block = Vec::new();
        while let Some(line) = self.lines.next() {
            if is_header(line.text) {
                block.push(line.text);
                continue;
            }
            if !line.is_empty() {
                self.lines.back(line);
            }
            break;
        }
        // One that is alone is an envelope, not a line of the body.
        if let [_, .., last] = block[..]
            && last.starts_with(ENVELOPE)
        {
            self.lines.give_back(last);
            block.pop();
        }
        headers_of(&block)
    }
}

/// What a line of an mbox file's envelope begins with.
const ENVELOPE: &[u8] = b"From ";

/// A whole header line: an envelope's, one with a name, even an empty one, or a continuation.
fn is_header(line: &[u8]) -> bool {
    let name_end = line
        .iter()
        .position(|byte| !matches!(byte, b'!'..=b'9' | b';'..=b'~'));
    let has_name = name_end.is_some_and(|end| line[end] == b':');
    has_name || is_continuation(line) || line.starts_with(ENVELOPE)
}

/// The headers of a block of header lines. Continuations of what is no header are none either.
fn headers_of<'a>(block: &[&'a [u8]]) -> Headers<'a> {
    let mut headers = Headers::default();
    let mut at = 0;
    while at < block.len() {
        let continuations = block[at + 1..]
            .iter()
            .take_while(|line| is_continuation(line));
        let end = at + 1 + continuations.count();
        headers.add(block[at], &block[at + 1..end]);
        at = end;
    }
    headers
}

fn is_continuation(line: &[u8]) -> bool {
    matches!(line, [b' ' | b'\t', ..])
}

/// The value of a header, with line ends inside it kept.
fn value<'a>(first: &'a [u8], continuations: &[&[u8]]) -> Cow<'a, str> {
    let blanks = first.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
    let first = &first[blanks.count()..];
    if continuations.is_empty() {
        return ascii_or_replaced(without_line_ends(first));
    }
    let whole = [first, &continuations.concat()].concat();
    Cow::Owned(ascii_or_replaced(without_line_ends(&whole)).into_owned())
}

fn without_line_ends(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r' | b'\n'] = text {
        text = rest;
    }
    text
}

/// Each byte beyond ASCII is one U+FFFD.
fn ascii_or_replaced(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => bytes
            .iter()
            .map(|byte| {
                if byte.is_ascii() {
                    char::from(*byte)
                } else {
                    char::REPLACEMENT_CHARACTER
                }
            })
            .collect(),
    }
}
