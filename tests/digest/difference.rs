//! A message whose digest differs: made as small as can be, and written as a line of `awkward_cases.txt`.

use std::fmt;

use pyzor::digester;

use super::oracle::{Digested, Oracle, Verdict};

/// Questions that go into making one message smaller, so that a long one ends in time.
const MAX_QUESTIONS: usize = 5_000;

/// What the reference and we make of a message, if that differs.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    message: Vec<u8>,
    expected: Digested,
    found: Digested,
}

impl Difference {
    /// What differs between the reference's verdict and ours; nothing can where it fails on the whole.
    pub(crate) fn between(verdict: Verdict, message: &[u8]) -> Option<Self> {
        let expected = match verdict {
            Verdict::Digest(expected) | Verdict::Failure(_, Some(expected)) => expected,
            Verdict::Failure(_, None) => return None,
        };
        let found = digested(message);
        (expected != found).then(|| Self {
            message: message.to_vec(),
            expected,
            found,
        })
    }

    /// The message and what goes into its digest, as `awkward_cases.txt` has them, without the line end.
    pub(crate) fn case(&self) -> String {
        escaped(&self.message)
            + &self
                .expected
                .lines
                .iter()
                .map(|line| escaped_field(line))
                .collect::<String>()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found: String = self
            .found
            .lines
            .iter()
            .map(|line| escaped_field(line))
            .collect();
        write!(f, "{}\n  but found{found}", self.case())
    }
}

/// Ours.
fn digested(message: &[u8]) -> Digested {
    Digested {
        digest: digester::digest_of(message).to_string(),
        lines: digester::predigest(message),
    }
}

/// A message that differs, made as small as it can be made by leaving out pieces; none if it does not differ.
pub(crate) fn minimised(oracle: &mut Oracle, message: &[u8]) -> Option<Difference> {
    let mut smallest = Difference::between(oracle.ask(message), message)?;
    let mut questions = 0;
    let mut length = message.len();
    while length > 0 {
        let mut at = 0;
        while at < smallest.message.len() && questions < MAX_QUESTIONS {
            questions += 1;
            let mut less = smallest.message.clone();
            less.drain(at..less.len().min(at + length));
            match Difference::between(oracle.ask(&less), &less) {
                Some(difference) => smallest = difference,
                None => at += length,
            }
        }
        length /= 2;
    }
    Some(smallest)
}

fn escaped_field(text: &[u8]) -> String {
    format!("\t{}", escaped(text))
}

/// With `\n`, `\r`, `\t`, `\\`, and `\xNN` for bytes that are not printable ASCII.
fn escaped(text: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b' '..=b'~' => char::from(*byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    text.iter().map(escape).collect()
}

/// What was [`escaped`]; any other character behind a backslash stands for itself.
pub(crate) fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let escaped = if byte == b'\\' { rest.next() } else { None };
        bytes.push(match escaped {
            None => byte,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'x') => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).expect("two hexadecimal digits")
            }
            Some(other) => other,
        });
    }
    bytes
}
