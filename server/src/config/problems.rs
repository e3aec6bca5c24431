//! What is wrong with a configuration, collected so that the operator sees all of it at once.

use std::fmt;
use std::path::PathBuf;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line, with this option.
    Flag(&'static str),
    /// In the configuration file, under this key.
    File {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
        /// The key as the documentation writes it.
        key: &'static str,
    },
}

/// One thing that must be changed before the server can start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A setting whose value means nothing.
    Value {
        /// Where it was written.
        origin: Origin,
        /// What was written.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A line of the configuration file that cannot be read.
    Syntax {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// Anything else, in whole sentences.
    Other(String),
}

/// All problems of one configuration, in the order of the settings.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Whether the configuration can be used.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        self.0.extend(problems);
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value {
                origin: Origin::Flag(flag),
                value,
                expected,
            } => write!(f, "{flag} {value}: expected {expected}"),
            Self::Value {
                origin: Origin::File { path, line, key },
                value,
                expected,
            } => write!(
                f,
                "{}:{line}: {key} = {value}: expected {expected}",
                path.display()
            ),
            Self::Syntax {
                path,
                line,
                message,
            } => write!(f, "{}:{line}: {message}", path.display()),
            Self::Other(message) => f.write_str(message),
        }
    }
}
