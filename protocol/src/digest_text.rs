//! What a client may send as a digest although it may be none.

use crate::digest::Digest;

/// What can be written behind `Op-Digest`.
pub trait OpDigest {
    /// The value: printable ASCII on one line.
    fn text(&self) -> impl AsRef<[u8]>;
}

impl OpDigest for Digest {
    fn text(&self) -> impl AsRef<[u8]> {
        self.to_hex()
    }
}

/// A text that somebody calls a digest: what it is worth is for the server to say. The reference's client sends whatever it
/// is given, and so scripts see the server's refusal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DigestText(Box<[u8]>);

/// The text cannot stand in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a digest: 40 lower-case hexadecimal digits")]
pub struct UnusableText;

impl DigestText {
    /// Longer texts are refused. Ten of this length fit into a datagram.
    pub const MAX_BYTES: usize = 512;

    /// Wraps a text of 1 to [`Self::MAX_BYTES`] bytes of printable ASCII; blanks and tabs inside are fine.
    ///
    /// # Errors
    /// [`UnusableText`] for anything else, which could end the header it stands in, or be taken for another.
    pub fn new(text: &[u8]) -> Result<Self, UnusableText> {
        let is_short = (1..=Self::MAX_BYTES).contains(&text.len());
        let is_printable = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
        let is_trimmed = text.trim_ascii().len() == text.len();
        if is_short && is_trimmed && text.iter().all(is_printable) {
            Ok(Self(text.into()))
        } else {
            Err(UnusableText)
        }
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Digest> for DigestText {
    fn from(digest: Digest) -> Self {
        Self(digest.to_hex().into())
    }
}

impl OpDigest for DigestText {
    fn text(&self) -> impl AsRef<[u8]> {
        self.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_break_a_request_is_refused() {
        for fine in ["x", "a b\tc", "# no digest", "Op: report"] {
            let text = DigestText::new(fine.as_bytes()).unwrap();
            assert_eq!(text.as_bytes(), fine.as_bytes());
        }
        for wrong in [
            "",
            " x",
            "x\n",
            "a\nOp: report",
            "a\rb",
            "a\x0bb",
            "a\0b",
            "é",
        ] {
            assert_eq!(DigestText::new(wrong.as_bytes()), Err(UnusableText));
        }
        assert!(DigestText::new(&[b'x'; DigestText::MAX_BYTES]).is_ok());
        assert!(DigestText::new(&[b'x'; DigestText::MAX_BYTES + 1]).is_err());
    }

    #[test]
    fn a_digest_is_its_digits() {
        let digest = Digest::from_bytes([0xab; Digest::BYTES]);
        assert_eq!(DigestText::from(digest).as_bytes(), digest.to_hex());
        assert_eq!(digest.text().as_ref(), digest.to_hex());
    }
}
