//! Punycode, as a charset: ASCII up to the last hyphen, and after it where to insert which other characters.

use super::{Failure, Sink};

/// Characters begin above ASCII.
const FIRST_CODE_POINT: u128 = 0x80;

const MAX_CODE_POINT: u128 = 0x10_FFFF;

const BASE: u128 = 36;
const INITIAL_BIAS: u128 = 72;

/// Decodes punycode. What follows a broken number is left out, as is one that fills more than 128 bits.
pub(super) fn decode(bytes: &[u8], sink: &mut Sink) -> Result<(), Failure> {
    let hyphen = memchr::memrchr(b'-', bytes);
    let basic = &bytes[..hyphen.unwrap_or(0)];
    let numbers = &bytes[hyphen.map_or(0, |at| at + 1)..];
    if !numbers.is_ascii() {
        return Err(Failure::Undecodable);
    }
    let mut decoded = Sink::new(sink.on_error, basic.len());
    super::unicode::decode_ascii(basic, &mut decoded);
    sink.has_error |= decoded.has_error;
    let basic: Vec<char> = String::from_utf8_lossy(&decoded.text).chars().collect();
    let insertions = read_insertions(numbers, basic.len(), sink);
    for code_point in inserted(&basic, &insertions) {
        sink.push(code_point);
    }
    Ok(())
}

/// A code point, and before which place of the text so far it goes.
struct Insertion {
    place: usize,
    code_point: u32,
}

fn read_insertions(mut numbers: &[u8], basic: usize, sink: &mut Sink) -> Vec<Insertion> {
    let mut insertions = Vec::new();
    let (mut code_point, mut next, mut bias) = (FIRST_CODE_POINT, 0, INITIAL_BIAS);
    let mut is_first = true;
    while !numbers.is_empty() {
        let length = (basic + insertions.len()) as u128 + 1;
        let Some((delta, rest)) = number(numbers, bias) else {
            sink.has_error = true;
            break;
        };
        let Some(place) = delta.checked_add(next) else {
            sink.has_error = true;
            break;
        };
        code_point = code_point.saturating_add(place / length);
        if code_point > MAX_CODE_POINT {
            sink.has_error = true;
            code_point = u128::from(b'?');
        }
        let (Ok(at), Ok(found)) = (usize::try_from(place % length), u32::try_from(code_point))
        else {
            break;
        };
        insertions.push(Insertion {
            place: at,
            code_point: found,
        });
        next = place % length + 1;
        bias = adapted(delta, is_first, length);
        is_first = false;
        numbers = rest;
    }
    insertions
}

/// A number of digits that each tell whether it is the last, and what stands after it.
fn number(digits: &[u8], bias: u128) -> Option<(u128, &[u8])> {
    let (mut number, mut weight) = (0_u128, 1_u128);
    for (place, digit) in (1..).zip(digits) {
        let value = match digit.to_ascii_uppercase() {
            letter @ b'A'..=b'Z' => letter - b'A',
            figure @ b'0'..=b'9' => figure - b'0' + 26,
            _ => return None,
        };
        let value = u128::from(value);
        let threshold = (BASE * place).saturating_sub(bias).clamp(1, 26);
        number = number.checked_add(weight.checked_mul(value)?)?;
        if value < threshold {
            return Some((number, &digits[usize::try_from(place).ok()?..]));
        }
        weight = weight.checked_mul(BASE - threshold)?;
    }
    None
}

fn adapted(delta: u128, is_first: bool, length: u128) -> u128 {
    let mut delta = delta / if is_first { 700 } else { 2 };
    delta += delta / length;
    let mut divisions = 0;
    while delta > 455 {
        delta /= 35;
        divisions += BASE;
    }
    divisions + BASE * delta / (delta + 38)
}

/// The text with everything inserted. The last insertion's place is final, so they are placed from the last to the first, each
/// in the free place of its number: a tree of sums finds it without moving any.
fn inserted(basic: &[char], insertions: &[Insertion]) -> Vec<u32> {
    let length = basic.len() + insertions.len();
    let mut free = FreePlaces::new(length);
    let mut text = vec![None; length];
    for insertion in insertions.iter().rev() {
        text[free.take(insertion.place)] = Some(insertion.code_point);
    }
    let mut basic = basic.iter().map(|char| u32::from(*char));
    text.into_iter()
        .filter_map(|code_point| code_point.or_else(|| basic.next()))
        .collect()
}

/// Which places are free, as a Fenwick tree.
struct FreePlaces(Vec<usize>);

impl FreePlaces {
    fn new(places: usize) -> Self {
        Self(
            (0..=places)
                .map(|node| node & node.wrapping_neg())
                .collect(),
        )
    }

    /// Takes the free place that has so many before it.
    fn take(&mut self, before: usize) -> usize {
        let (mut node, mut left) = (0, before);
        let mut step = self.0.len().next_power_of_two();
        while step > 0 {
            if node + step < self.0.len() && self.0[node + step] <= left {
                node += step;
                left -= self.0[node];
            }
            step /= 2;
        }
        let taken = node;
        node += 1;
        while node < self.0.len() {
            self.0[node] -= 1;
            node += node & node.wrapping_neg();
        }
        taken
    }
}
