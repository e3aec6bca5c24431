//! Accounts: who may sign, and with what.

use std::collections::HashMap;
use std::fmt;

use crate::line_problem::LineProblem;

/// The secret an account signs with: the hash of user name and key.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountKey([u8; 40]);

impl AccountKey {
    /// The key of `user`, from the key in the passwd or accounts file.
    pub fn new(user: &[u8], key: &[u8]) -> Self {
        let _ = (user, key);
        Self([0; 40])
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountKey(..)")
    }
}

/// The passwd file. The default has no accounts: only the anonymous user exists.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    keys: HashMap<Box<[u8]>, AccountKey>,
}

impl Accounts {
    /// Reads a passwd file; invalid lines are skipped and told.
    pub fn parse(text: &[u8]) -> (Self, Vec<LineProblem>) {
        let _ = text;
        (Self::default(), Vec::new())
    }

    /// The key of `user`, if there is such an account.
    pub fn get(&self, user: &[u8]) -> Option<&AccountKey> {
        self.keys.get(user)
    }
}
