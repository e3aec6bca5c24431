//! `SpamAssassin`'s Perl digester as a process: one message at a time goes in, and its digest comes out.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::harness::programs::workspace;

/// A running digester.
#[derive(Debug)]
pub(crate) struct SpamAssassin {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl SpamAssassin {
    /// Starts Debian's, in Debian's Perl.
    pub(crate) fn start() -> Self {
        let mut child = Command::new("/usr/bin/perl")
            .arg(workspace().join("tests/digest/spamassassin.pl"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Perl starts");
        Self {
            input: child.stdin.take().expect("it is piped"),
            output: BufReader::new(child.stdout.take().expect("it is piped")),
            child,
        }
    }

    /// The digest of a message in hexadecimal, or what the digester died of.
    pub(crate) fn digest(&mut self, message: &[u8]) -> String {
        let length = u32::try_from(message.len()).expect("messages are small");
        let request = [&length.to_be_bytes(), message].concat();
        self.input.write_all(&request).expect("it listens");
        self.input.flush().expect("it listens");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it answers");
        line.trim_end().to_owned()
    }
}

impl Drop for SpamAssassin {
    fn drop(&mut self) {
        // It is ours, and has nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
