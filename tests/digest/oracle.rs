//! The reference's digester as a process: one message at a time goes in, and its answer comes out.

use std::io::{self, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The SHA-256 of the `html.parser` of `CPython` 3.11.0 to 3.11.13; later ones read tags and CDATA differently.
const HTML_PARSER: &str = "2fc512ae95bed2746b5ba3fabb14fcebf3114ff808ce97d96214ddd613b253da";

/// A running oracle.
#[derive(Debug)]
pub(crate) struct Oracle {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    version: String,
}

/// A digest and what went into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digested {
    /// In hexadecimal.
    pub(crate) digest: String,
    /// The lines that were hashed.
    pub(crate) lines: Vec<Vec<u8>>,
}

/// What the reference says of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its digest.
    Digest(Digested),
    /// The error it ends with, and its digest without the parts it fails on, unless it fails on the whole.
    Failure(String, Option<Digested>),
}

impl Oracle {
    /// Starts `script` in the Python at `python`, into which the reference is installed.
    ///
    /// # Panics
    /// If it cannot be started, or if its `html.parser` is another than the one this project goes by.
    pub(crate) fn start(python: &Path, script: &Path) -> Self {
        let mut child = Command::new(python)
            // It warns of escapes it does not know in messages that claim to be Python's source.
            .args(["-W", "ignore"])
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", python.display()));
        let mut oracle = Self {
            input: child.stdin.take().expect("it is piped"),
            output: BufReader::new(child.stdout.take().expect("it is piped")),
            child,
            version: String::new(),
        };
        let (kind, text) = oracle.read().expect("it says what it is");
        let text = String::from_utf8(text).expect("a version is text");
        let (version, parser) = text.split_once(' ').expect("two words");
        assert_eq!(kind, b'V');
        assert_eq!(
            parser, HTML_PARSER,
            "Python {version} reads HTML in another way: tests/install.sh installs the one to go by"
        );
        version.clone_into(&mut oracle.version);
        oracle
    }

    /// The version of its Python.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Asks for the digest of a message.
    ///
    /// # Panics
    /// If it has died, or dies of it.
    pub(crate) fn ask(&mut self, message: &[u8]) -> Verdict {
        self.try_ask(message).expect("the oracle answers")
    }

    /// The same.
    ///
    /// # Errors
    /// If it has died, or dies of it.
    pub(crate) fn try_ask(&mut self, message: &[u8]) -> io::Result<Verdict> {
        let length = u32::try_from(message.len()).expect("messages are small");
        let request = [&length.to_be_bytes(), message].concat();
        self.input.write_all(&request)?;
        self.input.flush()?;
        Ok(match self.read()? {
            (b'D', text) => Verdict::Digest(digested(&text)),
            (_, error) => {
                let (kind, text) = self.read()?;
                let without = (kind == b'D').then(|| digested(&text));
                Verdict::Failure(String::from_utf8_lossy(&error).into_owned(), without)
            }
        })
    }

    fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.output.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        self.output.read_exact(&mut text)?;
        Ok((kind, text))
    }
}

fn digested(text: &[u8]) -> Digested {
    // No line that is hashed holds a line end.
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    let digest = lines.next().unwrap_or_default();
    Digested {
        digest: String::from_utf8(digest).expect("it is hexadecimal"),
        lines: lines.collect(),
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It is ours, and has nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
