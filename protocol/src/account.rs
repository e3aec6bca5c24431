//! Accounts: who may sign, and with what.

use std::collections::HashMap;
use std::fmt;

use sha1::{Digest as _, Sha1};

use crate::digest::Digest;
use crate::line_problem::{LineProblem, Problem, field_lines};
use crate::request::ANONYMOUS_USER;

/// What an account signs with: `hex(sha1(user ":" key))`, the key in lower case. Whoever has it can sign.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountKey([u8; Digest::HEX_DIGITS]);

impl AccountKey {
    /// From the key as it stands in a passwd file, or behind the comma in a client's accounts file. Any text will do.
    pub fn new(user: &[u8], key: &[u8]) -> Self {
        let mut hash = Sha1::new();
        hash.update(user);
        hash.update(b":");
        hash.update(to_lower_case(key));
        Self(Digest::from_bytes(hash.finalize().into()).to_hex())
    }

    /// What the anonymous user signs with, although nobody checks it.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS_USER, b"")
    }

    pub(crate) const fn as_hex(&self) -> &[u8; Digest::HEX_DIGITS] {
        &self.0
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountKey(..)")
    }
}

/// The passwd file's accounts. The default has none, which holds without such a file: only the anonymous user
/// exists then.
#[derive(Clone, Debug, Default)]
pub struct Accounts(HashMap<Box<[u8]>, AccountKey>);

impl Accounts {
    /// Reads a passwd file: `user : key` on each line, `#` in the first column for comments. A later line for the
    /// same user wins.
    ///
    /// Lines that are no accounts are skipped and told. An account of the anonymous user is none: it could only make them
    /// one of all the users that a rule may speak of. Told is also what cannot have been meant: keys that protect nothing or
    /// are none, names that nobody can sign with, a second line for the same user.
    pub fn parse(text: &[u8]) -> (Self, Vec<LineProblem>) {
        let mut accounts = Self::default();
        let mut lines = HashMap::new();
        let mut problems = Vec::new();
        for (line, fields) in field_lines(text) {
            let mut tell = |problem| problems.push(LineProblem { line, problem });
            let Some([user @ [_, ..], key]) = fields else {
                tell(Problem::NotAnAccount);
                continue;
            };
            if user == ANONYMOUS_USER {
                tell(Problem::AnonymousAccount);
                continue;
            }
            accounts.0.insert(user.into(), AccountKey::new(user, key));
            if let Some(earlier) = lines.insert(user, line) {
                tell(Problem::Replaced(earlier));
            }
            if !user.is_ascii() {
                tell(Problem::BeyondAscii);
            }
            if let Some(problem) = doubt(key) {
                tell(problem);
            }
        }
        (accounts, problems)
    }

    /// The key of `user`, whose name is case-sensitive; `None` if there is no such account.
    pub fn get(&self, user: &[u8]) -> Option<&AccountKey> {
        self.0.get(user)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.keys().map(AsRef::as_ref)
    }
}

/// What is the matter with a key.
fn doubt(key: &[u8]) -> Option<Problem> {
    if key.is_empty() {
        Some(Problem::EmptyKey)
    } else if key.contains(&b',') {
        Some(Problem::SaltWithKey)
    } else if key.len() != Digest::HEX_DIGITS || !key.iter().all(u8::is_ascii_hexdigit) {
        Some(Problem::OddKey)
    } else {
        None
    }
}

/// Lower case by Unicode's rules for UTF-8, by ASCII's for anything else.
pub(crate) fn to_lower_case(text: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(text) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => text.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hashed_with_its_user_in_lower_case() {
        let key = AccountKey::new(b"bob", b"ABC");
        assert_eq!(key.as_hex(), b"72c836cefe7f597a2a1eca3d12e881a630cf3149");
        assert_eq!(key, AccountKey::new(b"bob", b"abc"));
        assert_ne!(key, AccountKey::new(b"Bob", b"abc"));
    }

    #[test]
    fn keys_are_not_shown() {
        let (accounts, _) = Accounts::parse(b"bob : secret");
        assert!(!format!("{accounts:?}").contains("72c8"));
        assert!(format!("{accounts:?}").contains("AccountKey(..)"));
    }

    fn told(problems: &[LineProblem]) -> Vec<(usize, Problem)> {
        let told = |told: &LineProblem| (told.line, told.problem.clone());
        problems.iter().map(told).collect()
    }

    #[test]
    fn what_cannot_have_been_meant_is_told() {
        let key = "0123456789abcdefABCDEF0123456789abcdef01";
        let salt = "0".repeat(40);
        let text = format!(
            "\u{feff}alice\u{a0}:\u{2028}{key}\r\nbob : {salt},{key}\ren\u{e9} : {key}\nanonymous : {key}\nal : {key}0\n"
        );
        let (accounts, problems) = Accounts::parse(text.as_bytes());
        assert_eq!(
            told(&problems),
            [
                (2, Problem::SaltWithKey),
                (3, Problem::BeyondAscii),
                (4, Problem::AnonymousAccount),
                (5, Problem::OddKey),
            ]
        );
        let alice = AccountKey::new(b"alice", key.as_bytes());
        assert_eq!(accounts.get(b"alice"), Some(&alice));
        assert_eq!(accounts.get(ANONYMOUS_USER), None);
        assert_eq!(accounts.names().count(), 4);
    }

    #[test]
    fn the_last_line_of_a_user_wins() {
        let (accounts, problems) =
            Accounts::parse(b"bob : one\n Two Words :t\n#x : y\nbob: two \r\n");
        assert_eq!(
            told(&problems),
            [
                (1, Problem::OddKey),
                (2, Problem::OddKey),
                (4, Problem::Replaced(1)),
                (4, Problem::OddKey)
            ]
        );
        assert_eq!(accounts.get(b"bob"), Some(&AccountKey::new(b"bob", b"two")));
        assert_eq!(
            accounts.get(b"Two Words"),
            Some(&AccountKey::new(b"Two Words", b"t"))
        );
        assert_eq!(accounts.names().count(), 2);
    }

    #[test]
    fn invalid_lines_are_skipped_and_told() {
        let (accounts, problems) = Accounts::parse(b"a : b : c\njust text\n\n : nobody\nopen :\n");
        assert_eq!(
            told(&problems),
            [
                (1, Problem::NotAnAccount),
                (2, Problem::NotAnAccount),
                (4, Problem::NotAnAccount),
                (5, Problem::EmptyKey),
            ]
        );
        assert_eq!(accounts.get(b"open"), Some(&AccountKey::new(b"open", b"")));
        assert_eq!(accounts.names().count(), 1);
    }
}
