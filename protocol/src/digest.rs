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
        let mut wrong = 0;
        let fours = bytes.as_chunks_mut().0.iter_mut();
        for (four, eight) in fours.zip(text.as_chunks().0) {
            let wrong_bits;
            (*four, wrong_bits) = eight_digits(*eight);
            wrong |= wrong_bits;
        }
        if wrong == 0 {
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

/// The same value in each byte.
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The four bytes that eight digits stand for, and bits that are all 0 if each was a lower-case hex digit.
///
/// The eight are worked on at once in one register, because this runs for every digest of every request and is much
/// of what reading one costs. Going back from each value to its digit is what tells whether it was one.
const fn eight_digits(text: [u8; 8]) -> ([u8; 4], u64) {
    let digits = u64::from_le_bytes(text);
    // '0' to '9' are 0x30 to 0x39, 'a' to 'f' are 0x61 to 0x66: bit 6 tells them apart.
    let values = (digits & each(0x0f)) + ((digits >> 6) & each(1)) * 9;
    let is_letter = ((values + each(6)) >> 4) & each(1);
    let expected = values + each(b'0') + is_letter * 0x27;
    let wrong = (expected ^ digits) | (values & each(0xf0));
    // Bytes, then pairs of them, move together to the low end.
    let bytes = ((values << 4) | (values >> 8)) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes | (bytes >> 8)) & 0x0000_ffff_0000_ffff;
    let [first, second, third, fourth, ..] = (pairs | (pairs >> 16)).to_le_bytes();
    ([first, second, third, fourth], wrong)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8; Digest::HEX_DIGITS] = b"0123456789abcdef9876543210fedcba01248ace";

    #[test]
    fn text_and_bytes_stand_for_each_other() {
        let digest = Digest::from_hex(TEXT);
        assert_eq!(digest.map(Digest::to_hex), Ok(*TEXT));
        assert_eq!(
            digest.map(|digest| digest.0[..4].to_vec()),
            Ok(vec![0x01, 0x23, 0x45, 0x67])
        );
        assert_eq!(
            digest.map(|digest| digest.to_string().into_bytes()),
            Ok(TEXT.to_vec())
        );
    }

    #[test]
    fn every_byte_in_every_place_is_a_digit_or_refused() {
        for place in 0..TEXT.len() {
            for byte in 0..=u8::MAX {
                let mut text = *TEXT;
                text[place] = byte;
                let expected = HEX_DIGITS.contains(&byte).then_some(text);
                assert_eq!(Digest::from_hex(&text).ok().map(Digest::to_hex), expected);
            }
        }
    }

    #[test]
    fn the_length_must_be_right() {
        for text in [&b""[..], &TEXT[1..], &[*TEXT, *TEXT].concat()] {
            assert_eq!(Digest::from_hex(text), Err(InvalidDigest));
        }
    }
}
