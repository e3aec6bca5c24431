//! What is wrong with a line of the passwd, access or accounts file.

use std::fmt;

use crate::text::{lines, trim};

/// A line the operator should look at. Says where and what, never what stands there, which may be a key; but for the users
/// that a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineProblem {
    /// The line, from 1.
    pub line: usize,
    /// What is the matter with it.
    pub problem: Problem,
}

/// What can be the matter with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not two fields, or no user name. The line is skipped.
    #[error("expected `user : key`; skipped")]
    NotAnAccount,
    /// The account exists, and is open to everybody.
    #[error("the key is empty: anybody can sign as this user")]
    EmptyKey,
    /// The account exists; whether anybody can sign as it is doubtful.
    #[error(
        "the key is not 40 hexadecimal digits, as `pyzor genkey` prints: see that the client has the same key"
    )]
    OddKey,
    /// What belongs into the client's file. The account exists, with the whole of it as its key.
    #[error(
        "the key has a comma: only what follows the comma of the client's `salt,key` belongs here"
    )]
    SaltWithKey,
    /// The line before counts no more.
    #[error("this user's key in line {0} is replaced")]
    Replaced(usize),
    /// The name cannot be in a request. The account exists all the same.
    #[error("requests cannot name a user beyond ASCII: nobody can sign as this one")]
    BeyondAscii,
    /// The line is skipped: it could only make the anonymous user one of `all`.
    #[error(
        "the anonymous user never signs and needs no account: the access file says what they may do; skipped"
    )]
    AnonymousAccount,
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
    /// The rule does nothing for this user.
    #[error("there is no account `{0}`: nobody is meant by it")]
    NoAccount(String),
    /// The rule does nothing for this user.
    #[error("`all` means every account only where it stands alone: nobody is meant by it here")]
    AllAmongOthers,
    /// The rule does nothing for the account that is written with capitals.
    #[error(
        "names are read in lower case here, so that nothing but `all` means the account `{0}`: rename it in the passwd file"
    )]
    Capitals(String),
    /// The rule does nothing.
    #[error("`all` are the accounts of the passwd file, and there are none: nobody is meant by it")]
    NoAccounts,
    /// The rule does nothing.
    #[error("no operation is named: the line does nothing")]
    NoOperation,
    /// The rule does nothing.
    #[error("no user is named: the line does nothing")]
    NoUser,
    /// The rule does nothing that an earlier one has not done.
    #[error("the same as line {0}")]
    Repeated(usize),
}

impl Problem {
    /// Whether the whole line counts for nothing because it cannot be read.
    fn is_unreadable(&self) -> bool {
        matches!(self, Self::NotAnAccount | Self::NotARule)
    }
}

/// Whether a passwd or access file says something, and nothing of it can be read: it is another file, or broken as a whole.
/// `problems` are those of its lines.
pub fn is_unreadable(text: &[u8], problems: &[LineProblem]) -> bool {
    let unreadable = problems.iter().filter(|told| told.problem.is_unreadable());
    let unreadable = unreadable.count();
    unreadable > 0 && unreadable == content_lines(text).count()
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
    content_lines(text).map(|(line, number)| (number, fields(line)))
}

fn content_lines(text: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    lines(text)
        .zip(1..)
        .filter(|(line, _)| !trim(line).is_empty() && !line.starts_with(b"#"))
}

fn fields<const N: usize>(line: &[u8]) -> Option<[&[u8]; N]> {
    let mut parts = line.split(|&byte| byte == b':').map(trim);
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

    #[test]
    fn a_file_without_a_line_that_can_be_read_is_unreadable() {
        let told = |problem| LineProblem { line: 1, problem };
        let one = [told(Problem::NotARule)];
        assert!(is_unreadable(b"# x\n\nnonsense\n", &one));
        assert!(!is_unreadable(b"nonsense\nall : all : allow\n", &one));
        assert!(!is_unreadable(b"# x\n\n", &[]));
        assert!(!is_unreadable(
            b"x : y : allow",
            &[told(Problem::NoOperation)]
        ));
    }
}
