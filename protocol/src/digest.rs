//! The SHA-1 that stands for a message.

use std::fmt;
use std::str::FromStr;

/// The SHA-1 that names a message in the network: 20 bytes, written as 40 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; Self::BYTES]);

/// The text was not 40 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 40 lower-case hexadecimal digits")]
pub struct InvalidDigest;

impl Digest {
    /// Length in memory, in bytes.
    pub const BYTES: usize = 20;
    /// Length on the wire, in hex digits.
    pub const HEX_DIGITS: usize = 40;

    /// Wraps the 20 bytes of a SHA-1.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The 20 bytes of the SHA-1.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Reads exactly 40 lower-case hex digits.
    ///
    /// # Errors
    /// [`InvalidDigest`] for anything else.
    pub fn from_hex(text: &[u8]) -> Result<Self, InvalidDigest> {
        let text: &[u8; Self::HEX_DIGITS] = text.try_into().map_err(|_| InvalidDigest)?;
        let mut bytes = [0; Self::BYTES];
        let mut seen = 0;
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
            seen |= high | low;
            *byte = (high << 4) | (low & 0x0f);
        }
        if seen & NOT_HEX == 0 {
            Ok(Self(bytes))
        } else {
            Err(InvalidDigest)
        }
    }

    /// The 40 hex digits as sent on the wire.
    pub fn to_hex(self) -> [u8; Self::HEX_DIGITS] {
        let mut text = [0; Self::HEX_DIGITS];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX_DIGITS[usize::from(byte >> 4)];
            pair[1] = HEX_DIGITS[usize::from(byte & 0x0f)];
        }
        text
    }
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Set in [`NIBBLES`] for every byte that is not a lower-case hex digit.
const NOT_HEX: u8 = 0x80;

/// The value of each byte as a lower-case hex digit. A table, because the `hex` crate takes upper case too and
/// branches on every digit; this runs once a request.
static NIBBLES: [u8; 256] = {
    let mut table = [NOT_HEX; 256];
    let mut value = 0;
    while value < 16 {
        table[HEX_DIGITS[value as usize] as usize] = value;
        value += 1;
    }
    table
};

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        Self::from_hex(text.as_bytes())
    }
}
