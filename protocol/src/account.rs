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
    /// Lines that are no accounts are skipped and told, and so are keys that protect nothing.
    pub fn parse(text: &[u8]) -> (Self, Vec<LineProblem>) {
        let mut accounts = Self::default();
        let problems = field_lines(text)
            .filter_map(|(line, fields)| {
                let problem = accounts.add(fields)?;
                Some(LineProblem { line, problem })
            })
            .collect();
        (accounts, problems)
    }

    /// The key of `user`, whose name is case-sensitive; `None` if there is no such account.
    pub fn get(&self, user: &[u8]) -> Option<&AccountKey> {
        self.0.get(user)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.keys().map(AsRef::as_ref)
    }

    fn add(&mut self, fields: Option<[&[u8]; 2]>) -> Option<Problem> {
        let Some([user @ [_, ..], key]) = fields else {
            return Some(Problem::NotAnAccount);
        };
        self.0.insert(user.into(), AccountKey::new(user, key));
        key.is_empty().then_some(Problem::EmptyKey)
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

    #[test]
    fn the_last_line_of_a_user_wins() {
        let (accounts, problems) =
            Accounts::parse(b"bob : one\n Two Words :t\n#x : y\nbob: two \r\n");
        assert_eq!(problems, []);
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
        let told: Vec<_> = problems
            .iter()
            .map(|told| (told.line, told.problem))
            .collect();
        assert_eq!(
            told,
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
