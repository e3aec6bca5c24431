//! Standard input in its three styles: as a stream of which one message is all that is ever in memory, or kept for several
//! commands.

use std::io::{self, BufRead, Cursor, Read};
use std::rc::Rc;

use pyzor_protocol::{DigestText, UnusableText};

use crate::digester::digest_of;
use crate::error::Error;

/// What is on standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One message.
    Msg,
    /// A mailbox: messages, each after a line that begins with `From `.
    Mbox,
    /// One digest a line.
    Digests,
}

impl Style {
    /// The style of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "msg" => Some(Self::Msg),
            "mbox" => Some(Self::Mbox),
            "digests" => Some(Self::Digests),
            _ => None,
        }
    }
}

/// What begins a message in a mailbox, at the beginning of a line.
const SEPARATOR: &[u8] = b"From ";

/// Bytes of a message that are read at most. No mail server takes as much.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024 * 1024;

/// Bytes that are read of a line at a time.
const PIECE_BYTES: u64 = 64 * 1024;

/// Why there is no digest where one was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// A line that cannot be sent; counted from 1.
    #[error("standard input, line {0}: {UnusableText}; skipped")]
    Line(usize),
    /// A message of a mailbox that is longer than any mail; counted from 1.
    #[error("standard input, message {0}: expected at most {MAX_MESSAGE_BYTES} bytes; skipped")]
    Message(usize),
}

/// Standard input, which can be read once, for as many commands as want it.
pub(crate) enum Input {
    /// Not read yet; wanted by so many.
    Unread { readers: usize },
    /// What several want.
    Kept(Rc<[u8]>),
}

impl Input {
    /// For so many commands.
    pub(crate) const fn of_standard_input(readers: usize) -> Self {
        Self::Unread { readers }
    }

    /// All of it from the beginning, for one of the commands.
    ///
    /// # Errors
    /// When several want it and it cannot be read, or is larger than [`MAX_MESSAGE_BYTES`].
    pub(crate) fn reader(&mut self) -> Result<Box<dyn BufRead>, Error> {
        let kept = match self {
            Self::Unread { readers: 0 | 1 } => return Ok(Box::new(io::stdin().lock())),
            Self::Unread { .. } => {
                let most_bytes = MAX_MESSAGE_BYTES;
                let content = read_up_to(most_bytes, io::stdin().lock())?;
                content.ok_or(Error::InputTooLarge { most_bytes })?.into()
            }
            Self::Kept(content) => Rc::clone(content),
        };
        *self = Self::Kept(Rc::clone(&kept));
        Ok(Box::new(Cursor::new(kept)))
    }
}

/// The digests that `input` has or whose messages it has, one after the other.
pub(crate) fn digests(style: Style, input: Box<dyn BufRead>) -> Box<dyn Iterator<Item = Item>> {
    match style {
        Style::Msg => Box::new(std::iter::once_with(move || {
            let message = message(input)?;
            Ok(Ok(digest_of(&message).into()))
        })),
        Style::Mbox => Box::new(Mailbox::new(input)),
        Style::Digests => Box::new(DigestLines { input, line: 0 }),
    }
}

/// A digest, or why there is none; or why there is nothing more.
pub(crate) type Item = Result<Result<DigestText, Unusable>, Error>;

/// All of `input`, which is one message.
pub(crate) fn message(input: impl Read) -> Result<Vec<u8>, Error> {
    let most_bytes = MAX_MESSAGE_BYTES;
    read_up_to(most_bytes, input)?.ok_or(Error::MessageTooLarge { most_bytes })
}

/// All of `input`, unless it is more than so many bytes.
fn read_up_to(most_bytes: usize, input: impl Read) -> Result<Option<Vec<u8>>, Error> {
    let mut content = Vec::new();
    // One byte more tells what is too large from what just fits.
    input
        .take(most_bytes as u64 + 1)
        .read_to_end(&mut content)
        .map_err(Error::Input)?;
    Ok((content.len() <= most_bytes).then_some(content))
}

/// The digests of a mailbox's messages.
struct Mailbox<R> {
    pieces: Pieces<R>,
    /// Whether the separator of the next message has been read.
    is_in_message: bool,
    /// Messages so far.
    number: usize,
    max_message_bytes: usize,
}

impl<R: BufRead> Mailbox<R> {
    fn new(input: R) -> Self {
        Self {
            pieces: Pieces::new(input),
            is_in_message: false,
            number: 0,
            max_message_bytes: MAX_MESSAGE_BYTES,
        }
    }

    /// The next message without its separator; the empty line before the following one belongs to the mailbox.
    fn next_message(&mut self) -> io::Result<Option<Result<Vec<u8>, Unusable>>> {
        if !self.is_in_message && !self.skip_to_separator()? {
            return Ok(None);
        }
        self.number += 1;
        self.is_in_message = false;
        let mut message = Vec::new();
        let (mut is_too_large, mut ends_empty) = (false, false);
        while let Some(piece) = self.pieces.next()? {
            if piece.is_separator() {
                self.is_in_message = true;
                self.pieces.skip_line()?;
                break;
            }
            ends_empty = piece.begins_line && piece.text == b"\n";
            is_too_large |= message.len() + piece.text.len() > self.max_message_bytes;
            if !is_too_large {
                message.extend_from_slice(piece.text);
            }
        }
        if ends_empty {
            message.pop();
        }
        let unusable = Unusable::Message(self.number);
        Ok(Some(if is_too_large {
            Err(unusable)
        } else {
            Ok(message)
        }))
    }

    /// What stands before the first separator is no message. Whether there is a separator.
    fn skip_to_separator(&mut self) -> io::Result<bool> {
        while let Some(piece) = self.pieces.next()? {
            if piece.is_separator() {
                self.pieces.skip_line()?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Iterator for Mailbox<R> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        match self.next_message() {
            Ok(message) => {
                let digest = message?.map(|message| digest_of(&message).into());
                Some(Ok(digest))
            }
            Err(error) => Some(Err(Error::Input(error))),
        }
    }
}

/// Lines in pieces of bounded size.
struct Pieces<R> {
    input: R,
    piece: Vec<u8>,
    /// Whether the piece ends its line.
    ended_line: bool,
}

/// A line, or a piece of one.
struct Piece<'p> {
    text: &'p [u8],
    begins_line: bool,
}

impl Piece<'_> {
    fn is_separator(&self) -> bool {
        self.begins_line && self.text.starts_with(SEPARATOR)
    }
}

impl<R: BufRead> Pieces<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            piece: Vec::new(),
            ended_line: true,
        }
    }

    /// The next piece; none at the end.
    fn next(&mut self) -> io::Result<Option<Piece<'_>>> {
        let begins_line = self.ended_line;
        self.piece.clear();
        (&mut self.input)
            .take(PIECE_BYTES)
            .read_until(b'\n', &mut self.piece)?;
        self.ended_line = self.piece.ends_with(b"\n");
        Ok((!self.piece.is_empty()).then_some(Piece {
            text: &self.piece,
            begins_line,
        }))
    }

    /// Skips what is left of the line of which a piece was read.
    fn skip_line(&mut self) -> io::Result<()> {
        while !self.ended_line && self.next()?.is_some() {}
        Ok(())
    }
}

/// Digests, one a line.
struct DigestLines<R> {
    input: R,
    line: usize,
}

impl<R: BufRead> DigestLines<R> {
    /// The next line that is not empty; how much of it is too long, nobody wants to know.
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut pieces = Pieces::new(&mut self.input);
        while let Some(piece) = pieces.next()? {
            let line = piece.text.to_vec();
            pieces.skip_line()?;
            self.line += 1;
            let line = trim(&line);
            if !line.is_empty() {
                return Ok(Some(line.to_vec()));
            }
        }
        Ok(None)
    }
}

impl<R: BufRead> Iterator for DigestLines<R> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        match self.next_line() {
            Ok(line) => {
                let digest = DigestText::new(&line?);
                Some(Ok(digest.map_err(|UnusableText| Unusable::Line(self.line))))
            }
            Err(error) => Some(Err(Error::Input(error))),
        }
    }
}

/// Without what Python takes for white space at both ends, as far as it is ASCII.
fn trim(mut line: &[u8]) -> &[u8] {
    let is_white = |byte: u8| matches!(byte, b'\t'..=b'\r' | 0x1c..=0x1f | b' ');
    while let [first, rest @ ..] = line
        && is_white(*first)
    {
        line = rest;
    }
    while let [rest @ .., last] = line
        && is_white(*last)
    {
        line = rest;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(mailbox: &[u8]) -> Vec<Result<Vec<u8>, Unusable>> {
        let mut mailbox = Mailbox {
            max_message_bytes: 100,
            ..Mailbox::new(mailbox)
        };
        std::iter::from_fn(|| mailbox.next_message().unwrap()).collect()
    }

    fn texts(mailbox: &str) -> Vec<String> {
        let messages = messages(mailbox.as_bytes()).into_iter();
        messages
            .map(|message| String::from_utf8(message.unwrap()).unwrap())
            .collect()
    }

    /// What Python's `mailbox` module makes of the same.
    #[test]
    fn mailboxes_are_split_as_python_splits_them() {
        for (mailbox, expected) in [
            ("", &[][..]),
            ("no separator\n", &[]),
            ("junk\nFrom a\n\nx\n", &["\nx\n"]),
            (
                "From a\nS: a\n\nx\nFrom b\ny\n\n\nFrom c\nS: c\n\nz\n",
                &["S: a\n\nx\n", "y\n\n", "S: c\n\nz\n"],
            ),
            ("From a\r\n\r\nx\r\n\r\nFrom b\r\n", &["\r\nx\r\n\r\n", ""]),
            (
                "From a\nFrom:\nFrom\nFromage\n From b",
                &["From:\nFrom\nFromage\n From b"],
            ),
        ] {
            assert_eq!(texts(mailbox), expected, "{mailbox:?}");
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_skipped_and_the_next_one_found() {
        let mailbox = format!("From a\n{}\nFrom b\nx\n", "y".repeat(101));
        let messages = messages(mailbox.as_bytes());
        assert_eq!(messages, [Err(Unusable::Message(1)), Ok(b"x\n".to_vec())]);
    }

    #[test]
    fn long_lines_come_in_pieces_and_separate_nothing() {
        let filler = "x".repeat(usize::try_from(PIECE_BYTES).unwrap());
        let line = format!("{filler}From b\nFrom {filler}c\nz");
        let mut pieces = Pieces::new(line.as_bytes());
        assert!(!pieces.next().unwrap().unwrap().is_separator());
        assert!(!pieces.next().unwrap().unwrap().is_separator());
        assert!(pieces.next().unwrap().unwrap().is_separator());
        pieces.skip_line().unwrap();
        assert_eq!(pieces.next().unwrap().unwrap().text, b"z");
        assert!(pieces.next().unwrap().is_none());
    }

    #[test]
    fn digests_are_lines_without_white_space_around_them() {
        let text = format!("a\n\n  b c\t\r\n\x1f\n\x01\nd{}\ne", "d".repeat(600));
        let input = Cursor::new(text.into_bytes());
        let items: Vec<_> = digests(Style::Digests, Box::new(input))
            .map(Result::unwrap)
            .collect();
        let digest = |text: &[u8]| Ok(DigestText::new(text).unwrap());
        assert_eq!(
            items,
            [
                digest(b"a"),
                digest(b"b c"),
                Err(Unusable::Line(5)),
                Err(Unusable::Line(6)),
                digest(b"e")
            ]
        );
    }
}
