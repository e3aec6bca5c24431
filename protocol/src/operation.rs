//! The six operations, and sets of them.

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Is anybody there? Answered without a count.
    Ping,
    /// Is anybody there? Answered with the largest possible count, to test what a client does with a hit.
    Pong,
    /// How often was a digest reported and whitelisted?
    Check,
    /// As [`Operation::Check`], with the first and latest times of both.
    Info,
    /// Count digests as spam.
    Report,
    /// Count digests as not spam.
    Whitelist,
}

impl Operation {
    /// Every operation, in the order of their discriminants.
    pub const ALL: [Self; 6] = [
        Self::Ping,
        Self::Pong,
        Self::Check,
        Self::Info,
        Self::Report,
        Self::Whitelist,
    ];

    /// The name on the wire and in the access file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Check => "check",
            Self::Info => "info",
            Self::Report => "report",
            Self::Whitelist => "whitelist",
        }
    }

    /// The operation of this name, which is case-sensitive on the wire.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"ping" => Some(Self::Ping),
            b"pong" => Some(Self::Pong),
            b"check" => Some(Self::Check),
            b"info" => Some(Self::Info),
            b"report" => Some(Self::Report),
            b"whitelist" => Some(Self::Whitelist),
            _ => None,
        }
    }
}

/// A set of operations, one bit each. The default is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OperationSet(u8);

impl OperationSet {
    /// Every operation.
    pub const ALL: Self = Self((1 << Operation::ALL.len()) - 1);

    /// Whether `operation` is in the set.
    pub const fn contains(self, operation: Operation) -> bool {
        self.0 & Self::bit(operation) != 0
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    const fn bit(operation: Operation) -> u8 {
        1 << operation as u8
    }
}

impl FromIterator<Operation> for OperationSet {
    fn from_iter<I: IntoIterator<Item = Operation>>(operations: I) -> Self {
        let bits = operations.into_iter().map(Self::bit);
        Self(bits.fold(0, |set, bit| set | bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        for operation in Operation::ALL {
            assert_eq!(
                Operation::from_name(operation.name().as_bytes()),
                Some(operation)
            );
        }
        for other in [&b""[..], b"PING", b"ping ", b"frobnicate", b"all"] {
            assert_eq!(Operation::from_name(other), None);
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in_and_not_taken_out() {
        let set: OperationSet = [Operation::Ping, Operation::Whitelist]
            .into_iter()
            .collect();
        let checks: OperationSet = [Operation::Check].into_iter().collect();
        let pings: OperationSet = [Operation::Ping, Operation::Pong].into_iter().collect();
        let set = set.union(checks).without(pings);
        let held: Vec<_> = Operation::ALL
            .into_iter()
            .filter(|&operation| set.contains(operation))
            .collect();
        assert_eq!(held, [Operation::Check, Operation::Whitelist]);
        assert_eq!(
            Operation::ALL.into_iter().collect::<OperationSet>(),
            OperationSet::ALL
        );
    }
}
