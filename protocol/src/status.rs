//! Why a request is refused: one variant, one status code, one `Diag` text each.

use std::fmt;

/// A refusal, in the order the checks are made.
///
/// The texts are the reference's, where it has one: clients and log readers match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The request names a user without an account.
    UnknownUser,
    /// `Time` is missing or no integer. The reference answers 500.
    BadTime,
    /// `Time` lies too far from the server's clock.
    StaleTime,
    /// The signature is missing or wrong.
    BadSignature,
    /// There is no `PV`.
    VersionMissing,
    /// `PV` is no finite number.
    VersionInvalid,
    /// The integer part of `PV` is not 2.
    VersionUnsupported,
    /// The access file does not grant this operation to this user.
    Forbidden,
    /// The access file grants an operation that does not exist.
    NotImplemented,
    /// A digest the operation uses is not 40 lower-case hex digits. The reference takes any text.
    BadDigest,
    /// The store cannot take or answer this now; whether an update will count is unknown.
    Unavailable,
}

impl Refusal {
    /// Every refusal, in the order of their discriminants.
    pub const ALL: [Self; 11] = [
        Self::UnknownUser,
        Self::BadTime,
        Self::StaleTime,
        Self::BadSignature,
        Self::VersionMissing,
        Self::VersionInvalid,
        Self::VersionUnsupported,
        Self::Forbidden,
        Self::NotImplemented,
        Self::BadDigest,
        Self::Unavailable,
    ];

    /// The value of `Code`.
    pub const fn code(self) -> u16 {
        match self {
            Self::UnknownUser | Self::BadTime | Self::StaleTime | Self::BadSignature => 401,
            Self::VersionMissing | Self::VersionInvalid | Self::BadDigest => 400,
            Self::VersionUnsupported => 505,
            Self::Forbidden => 403,
            Self::NotImplemented => 501,
            Self::Unavailable => 503,
        }
    }

    /// The value of `Diag`.
    pub const fn diag(self) -> &'static str {
        match self {
            Self::UnknownUser => "Unauthorized: Signature Error: Unknown user.",
            Self::BadTime => "Unauthorized: Signature Error: Time is missing or not a number.",
            Self::StaleTime => "Unauthorized: Signature Error: Timestamp not within allowed range.",
            Self::BadSignature => "Unauthorized: Signature Error: Invalid signature.",
            Self::VersionMissing => "Bad request: Protocol Version not specified in request",
            Self::VersionInvalid => "Bad request: Invalid Protocol Version",
            Self::VersionUnsupported => "Version Not Supported: ",
            Self::Forbidden => "Forbidden: User is not authorized to request the operation.",
            Self::NotImplemented => "Not implemented: Requested operation is not implemented.",
            Self::BadDigest => "Bad request: Op-Digest is not 40 lower-case hexadecimal digits",
            Self::Unavailable => "Service Unavailable: The digest store is not available now.",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.diag())
    }
}

impl std::error::Error for Refusal {}
