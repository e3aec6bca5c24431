//! What is wrong with a line of the passwd or access file.

use std::fmt;

/// A line that was skipped, or that the operator should look at.
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
    /// Skipped.
    #[error("expected `user : key`")]
    NotAnAccount,
    /// Taken as it stands.
    #[error("the key is empty: anybody can sign as this user")]
    EmptyKey,
    /// Skipped.
    #[error("expected `operations : users : allow` or `... : deny`")]
    NotARule,
}

impl fmt::Display for LineProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}
