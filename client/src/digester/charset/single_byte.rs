//! Charsets of one byte a character, from tables that Python was asked for.

use super::Sink;

/// 256 code points of 16 bits each, little-endian, one table after the other.
const TABLES: &[u8] = include_bytes!("../tables/single_byte.bin");

const TABLE_BYTES: usize = 512;

/// Stands for a byte without a meaning.
const UNDEFINED: u16 = 0xFFFE;

/// Decodes with the table of this number.
pub(super) fn decode(table: usize, bytes: &[u8], sink: &mut Sink) {
    let (code_points, _) = TABLES[table * TABLE_BYTES..][..TABLE_BYTES].as_chunks();
    for byte in bytes {
        match u16::from_le_bytes(code_points[usize::from(*byte)]) {
            UNDEFINED => sink.error(),
            code_point => sink.push(code_point.into()),
        }
    }
}
