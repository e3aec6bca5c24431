//! The access file: who may ask for what.

use std::collections::HashMap;

use crate::account::Accounts;
use crate::line_problem::LineProblem;
use crate::operation::{Operation, OperationSet};
use crate::request::User;

/// Grants of operations to users. The default is what holds without an access file.
#[derive(Clone, Debug, Default)]
pub struct AccessList {
    anonymous: OperationSet,
    named: HashMap<Box<[u8]>, OperationSet>,
}

impl AccessList {
    /// Reads an access file; invalid lines are skipped and told.
    pub fn parse(text: &[u8], accounts: &Accounts) -> (Self, Vec<LineProblem>) {
        let _ = (text, accounts);
        (Self::default(), Vec::new())
    }

    /// Whether `user` may ask for `operation`.
    pub fn permits(&self, user: User<'_>, operation: Operation) -> bool {
        match user {
            User::Anonymous => self.anonymous.contains(operation),
            User::Named(name) => self
                .named
                .get(name)
                .is_some_and(|granted| granted.contains(operation)),
        }
    }

    /// Whether `user` was granted an operation of this name that does not exist: that is a
    /// [`crate::Refusal::NotImplemented`] instead of a [`crate::Refusal::Forbidden`].
    pub fn grants_unknown(&self, user: User<'_>, op: &[u8]) -> bool {
        let _ = (user, op);
        false
    }
}
