//! What is wrong with a line of the passwd, access or accounts file.

use std::fmt;

/// A line the operator should look at. Says where and what, never what stands there: it may be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineProblem {
    /// The line, from 1.
    pub line: usize,
    /// What is the matter with it.
    pub problem: Problem,
}

/// What can be the matter with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not two fields, or no user name. The line is skipped.
    #[error("expected `user : key`; skipped")]
    NotAnAccount,
    /// The account exists, and is open to everybody.
    #[error("the key is empty: anybody can sign as this user")]
    EmptyKey,
    /// Not the four fields of a client's account, or one that cannot be meant. The line is skipped.
    #[error("expected `host : port : user : salt,key`; skipped")]
    NotAClientAccount,
    /// Not three fields, or the third is neither `allow` nor `deny`. The line is skipped.
    #[error("expected `operations : users : allow` or `operations : users : deny`; skipped")]
    NotARule,
    /// A name among the operations is none; requests for it get a 501 where it is allowed. The rest of the line
    /// holds.
    #[error(
        "there is no such operation; expected ping, pong, check, info, report, whitelist, or `all` alone"
    )]
    UnknownOperation,
}

impl fmt::Display for LineProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

/// The lines of a passwd or access file that say something, each with its number, split into `N` trimmed fields;
/// `None` for one with more or fewer.
///
/// `#` starts a comment in the first column only.
pub(crate) fn field_lines<const N: usize>(
    text: &[u8],
) -> impl Iterator<Item = (usize, Option<[&[u8]; N]>)> {
    lines(text)
        .zip(1..)
        .filter(|(line, _)| !line.trim_ascii().is_empty() && !line.starts_with(b"#"))
        .map(|(line, number)| (number, fields(line)))
}

/// The lines of a text file as Python reads it: they end with LF, CRLF or CR.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let length = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (line, end) = rest.split_at(length.unwrap_or(rest.len()));
        let was_last = rest.is_empty();
        rest = match end {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => &[],
        };
        (!was_last).then_some(line)
    })
}

fn fields<const N: usize>(line: &[u8]) -> Option<[&[u8]; N]> {
    let mut parts = line.split(|&byte| byte == b':').map(<[u8]>::trim_ascii);
    let mut fields = [&b""[..]; N];
    for field in &mut fields {
        *field = parts.next()?;
    }
    parts.next().is_none().then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_python_reads_text_files() {
        let all: Vec<_> = lines(b"a\nb\r\nc\rd\n\n\x0be").collect();
        assert_eq!(all, [&b"a"[..], b"b", b"c", b"d", b"", b"\x0be"]);
        assert_eq!(lines(b"").count(), 0);
        assert_eq!(lines(b"x\n").count(), 1);
    }

    #[test]
    fn comments_and_empty_lines_are_counted_and_skipped() {
        let text = b"# no : no\n \t\n #a : b \nc\nd:e:f";
        let all: Vec<_> = field_lines::<2>(text).collect();
        assert_eq!(all, [(3, Some([&b"#a"[..], b"b"])), (4, None), (5, None)]);
    }

    #[test]
    fn a_problem_names_its_line() {
        let problem = LineProblem {
            line: 3,
            problem: Problem::NotAnAccount,
        };
        assert_eq!(
            problem.to_string(),
            "line 3: expected `user : key`; skipped"
        );
    }
}
