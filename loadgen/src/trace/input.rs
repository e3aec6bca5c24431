//! A trace file's bytes, as a window that moves over them.

use std::fs::Metadata;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decompress::decompressed;
use crate::error::Error;
use crate::patience::{Patience, PatientFile};

/// Bytes asked for at a time.
const READ_BYTES: usize = 64 * 1024;
/// The longest block or line there may be: as long as Wireshark's.
const MAX_WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// The longest line there may be.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// The bytes of a file from where its reader has got to; bounded by [`MAX_WINDOW_BYTES`].
pub(crate) struct Input {
    path: PathBuf,
    source: Box<dyn Read + Send>,
    window: Vec<u8>,
    /// Bytes of the window that the reader has left behind.
    passed: usize,
    /// Bytes of the file, decompressed, before the window.
    before: u64,
    /// The last line was given out, and has no end.
    is_last_line_open: bool,
    /// Why there is no more, to be told to whoever wants it.
    failure: Option<Error>,
}

/// What a parser makes of the coming bytes.
pub(super) enum Parsed<T> {
    /// Something, and how many bytes it takes.
    Whole(T, usize),
    /// The beginning of something.
    Partial,
    /// Nothing that may stand here; what was expected.
    Wrong(&'static str),
}

/// Whether it can be read only once: standard input, a named pipe.
pub(crate) fn is_read_once(path: &Path) -> bool {
    let is_a_pipe = |found: Metadata| !found.is_file() && !found.is_dir();
    is_standard_input(path) || path.metadata().is_ok_and(is_a_pipe)
}

/// What it is called in messages.
pub(crate) fn name(path: &Path) -> String {
    if is_standard_input(path) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// Whether a name stands for standard input.
fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl Input {
    /// Opens `path`; `-` is standard input.
    pub(crate) fn open(path: &Path, patience: Option<Arc<Patience>>) -> Result<Self, Error> {
        let failed = |source| Error::Read(path.to_owned(), source);
        let file = if is_standard_input(path) {
            PatientFile::standard_input(patience)
        } else {
            PatientFile::open(path, patience)
        };
        let source = file.and_then(decompressed).map_err(failed)?;
        Ok(Self::new(path, source))
    }

    /// The bytes of `source`, which is called `path` in errors.
    pub(crate) fn new(path: &Path, source: Box<dyn Read + Send>) -> Self {
        Self {
            path: path.to_owned(),
            source,
            window: Vec::new(),
            passed: 0,
            before: 0,
            is_last_line_open: false,
            failure: None,
        }
    }

    /// What comes next and is in memory.
    pub(super) fn coming(&self) -> &[u8] {
        &self.window[self.passed..]
    }

    /// Leaves so many of the coming bytes behind.
    pub(super) fn pass(&mut self, bytes: usize) {
        self.passed = self.window.len().min(self.passed + bytes);
    }

    /// Brings so many of the coming bytes into memory, or as many as there are. That there are no more because they cannot be read is
    /// told when more are needed.
    pub(super) fn look_ahead(&mut self, bytes: usize) -> Result<(), Error> {
        while self.coming().len() < bytes {
            match self.read_more() {
                Ok(true) => {}
                Ok(false) => break,
                Err(failure) if self.coming().is_empty() => return Err(failure),
                Err(failure) => {
                    self.failure = Some(failure);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Brings more of the file into memory; `false` at its end.
    pub(super) fn read_more(&mut self) -> Result<bool, Error> {
        self.failure.take().map_or(Ok(()), Err)?;
        self.window.drain(..self.passed);
        self.before += self.passed as u64;
        self.passed = 0;
        if self.window.len() >= MAX_WINDOW_BYTES {
            return Err(self.damaged("a block of at most 16 MiB"));
        }
        let known = self.window.len();
        self.window.resize(known + READ_BYTES, 0);
        let read = read_some(&mut *self.source, &mut self.window[known..]);
        self.window.truncate(known + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(bytes) => Ok(bytes > 0),
            Err(source) => Err(Error::ReadAt {
                path: self.path.clone(),
                offset: self.before + known as u64,
                source,
            }),
        }
    }

    /// The next thing that `parse` reads; `None` at the end of the file.
    pub(super) fn parse<T>(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Parsed<T>,
    ) -> Result<Option<T>, Error> {
        loop {
            match parse(self.coming()) {
                Parsed::Whole(value, bytes) => {
                    self.pass(bytes);
                    return Ok(Some(value));
                }
                Parsed::Partial if self.read_more()? => {}
                Parsed::Partial if self.coming().is_empty() => return Ok(None),
                Parsed::Partial => return Err(self.cut_short()),
                Parsed::Wrong(expected) => return Err(self.damaged(expected)),
            }
        }
    }

    /// The next line, without its end; `None` at the end of the file. An empty last line is none.
    pub(crate) fn line(&mut self) -> Result<Option<Vec<u8>>, Error> {
        // Where the search for the line's end goes on.
        let mut searched = 0;
        loop {
            let coming = self.coming();
            if let Some(length) = coming[searched..].iter().position(|byte| *byte == b'\n') {
                let line = coming[..searched + length].to_vec();
                self.pass(line.len() + 1);
                return Ok(Some(line));
            }
            searched = coming.len();
            if searched > MAX_LINE_BYTES {
                return Err(self.damaged("lines of at most 1 MiB"));
            }
            if !self.read_more()? {
                let rest = self.coming().to_vec();
                self.pass(rest.len());
                self.is_last_line_open = !rest.is_empty();
                return Ok((!rest.is_empty()).then_some(rest));
            }
        }
    }

    /// The error of a file whose last `line` is nothing because it was cut; `None` if it was not.
    pub(super) fn cut_in(&self, line: &[u8]) -> Option<Error> {
        self.is_last_line_open.then(|| Error::CutLine {
            path: self.path.clone(),
            offset: self.before + self.passed as u64 - line.len() as u64,
        })
    }

    /// The error of a reader that does not find what it expected where it has got to.
    pub(super) fn damaged(&self, expected: &'static str) -> Error {
        Error::DamagedTrace {
            path: self.path.clone(),
            offset: self.before + self.passed as u64,
            expected,
        }
    }

    fn cut_short(&self) -> Error {
        Error::CutTrace {
            path: self.path.clone(),
            offset: self.before + self.passed as u64,
            left: self.coming().len(),
        }
    }
}

/// Reads until there is something.
fn read_some(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endless(byte: u8) -> Input {
        Input::new(Path::new("test"), Box::new(io::repeat(byte)))
    }

    #[test]
    fn neither_blocks_nor_lines_are_read_without_end() {
        let error = endless(0).parse(|_| Parsed::<()>::Partial).unwrap_err();
        let expected = "test is damaged at byte 0: expected a block of at most 16 MiB";
        assert_eq!(error.to_string(), expected);
        let mut lines = endless(b'x');
        let error = lines.line().unwrap_err();
        let expected = "test is damaged at byte 0: expected lines of at most 1 MiB";
        assert_eq!(error.to_string(), expected);
        assert!(lines.coming().len() <= MAX_LINE_BYTES + READ_BYTES);
    }

    #[test]
    fn lines_are_those_between_their_ends() {
        let text = &b"one\n\nthree\nlast"[..];
        let mut input = Input::new(Path::new("test"), Box::new(text));
        let lines: Vec<Vec<u8>> = std::iter::from_fn(|| input.line().unwrap()).collect();
        assert_eq!(lines, [&b"one"[..], b"", b"three", b"last"]);
    }

    #[test]
    fn an_error_says_how_far_reading_got() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("worn out"))
            }
        }
        let source = (&b"12345"[..]).chain(Failing);
        let mut input = Input::new(Path::new("test"), Box::new(source));
        assert!(input.read_more().unwrap());
        input.pass(3);
        let error = input.read_more().unwrap_err().to_string();
        assert_eq!(error, "cannot read test after 5 bytes: worn out");
        assert_eq!(input.coming(), b"45");
    }
}
