//! The manual page and the shells' completions, made from the flags, so that they never say anything else.

use std::io::{self, Write};

use clap::{CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use crate::flags::Flags;

/// What can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Document {
    /// The manual page, in roff
    Man,
    /// For bash, to be sourced
    Bash,
    /// For zsh, as file _pyzor in $fpath
    Zsh,
    /// For fish, to be sourced
    Fish,
}

/// Writes a document.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn write(document: Document, out: &mut impl Write) -> io::Result<()> {
    let shell = match document {
        Document::Man => return Man::new(Flags::command()).render(out),
        Document::Bash => Shell::Bash,
        Document::Zsh => Shell::Zsh,
        Document::Fish => Shell::Fish,
    };
    // Into memory first: this panics where it cannot write.
    let mut script = Vec::new();
    generate(shell, &mut Flags::command(), "pyzor", &mut script);
    out.write_all(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_knows_every_flag() {
        for document in Document::value_variants() {
            let mut out = Vec::new();
            write(*document, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap().replace('\\', "");
            for flag in Flags::command().get_arguments() {
                let long = flag.get_long().unwrap_or_default();
                assert!(text.contains(long), "{document:?} lacks {long}");
            }
        }
    }
}
