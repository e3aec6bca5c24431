//! Awkward messages and what the reference makes of them, or of what it does not fail on. `tests/digest` asks it again.

use super::*;

/// A message a line, and after it, parted by tabs, what goes into its digest; with `\n`, `\r`, `\t`, `\\` and `\xNN`.
const CASES: &str = include_str!("awkward_cases.txt");

#[test]
fn awkward_messages_are_read_as_the_reference_reads_them() {
    let differences: Vec<String> = CASES
        .lines()
        .filter_map(|case| {
            let mut fields = case.split('\t').map(unescaped);
            let message = fields.next().unwrap();
            let expected: Vec<Vec<u8>> = fields.collect();
            let found = predigest(&message);
            let shown = || found.iter().map(|line| line.escape_ascii().to_string());
            (found != expected).then(|| format!("{case}\n  {:?}", shown().collect::<Vec<_>>()))
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().unwrap() {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                escaped => escaped,
            },
            byte => byte,
        });
    }
    bytes
}

#[test]
fn messages_without_text_share_the_digest_of_nothing() {
    let empty = digest_of(b"Subject: nothing\n\n").to_string();
    assert_eq!(empty, EMPTY_TEXT_DIGEST);
}
