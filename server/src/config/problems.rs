//! What is wrong with a configuration, collected so that the operator sees all of it at once.

use std::fmt;
use std::path::PathBuf;

use pyzor_protocol::configparser::Origin;

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

/// All problems of one configuration.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// In the order of the file's lines; what is not in the file comes last.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.0
            .sort_by_key(|problem| problem.line().unwrap_or(usize::MAX));
        self
    }

    /// Whether the configuration can be used.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Problem {
    fn line(&self) -> Option<usize> {
        match self {
            Self::Value {
                origin: Origin::File { line, .. },
                ..
            }
            | Self::Syntax { line, .. } => Some(*line),
            Self::Value { .. } | Self::Other(_) => None,
        }
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
                origin,
                value,
                expected,
            } => write!(f, "{}: expected {expected}", origin.with_value(value)),
            Self::Syntax {
                path,
                line,
                message,
            } => write!(f, "{}:{line}: {message}", path.display()),
            Self::Other(message) => f.write_str(message),
        }
    }
}
