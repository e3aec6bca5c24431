//! An answer as a line, as the reference writes it or as JSON, and what all answers add up to.

use std::fmt::Write as _;

use pyzor_protocol::{DigestText, Operation, ReplyNumbers};
use serde::Serialize;

use crate::exchange::{Answer, Failure, OK, Response};
use crate::local_time::ctime;
use crate::session::Session;

/// Time-outs are told with the code of a gateway's.
const TIMED_OUT: i64 = 504;

/// The code of a request that could not be sent.
const NOT_SENT: i64 = 400;

/// A time that never was.
const NEVER: i64 = -1;

/// What all answers of a command add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Whether something did not work or was refused.
    pub has_failures: bool,
    /// Whether a count was above the report threshold.
    pub is_reported: bool,
    /// Whether a whitelist count was above its threshold.
    pub is_whitelisted: bool,
}

impl Tally {
    /// Adds an answer.
    pub fn add(&mut self, operation: Operation, answer: &Answer<'_>, session: &Session) {
        let response = answer.outcome.as_ref().ok();
        self.has_failures |= response.is_none_or(|response| response.code != OK);
        if !has_counts(operation) {
            return;
        }
        let counts = response.and_then(Response::counts);
        self.has_failures |= counts.is_none();
        if let Some((count, wl_count)) = counts {
            self.is_reported |= count > session.report_threshold;
            self.is_whitelisted |= wl_count > session.whitelist_threshold;
        }
    }

    /// Whether the command succeeded, which its exit status says.
    pub const fn is_success(self, operation: Operation) -> bool {
        let is_hit = self.is_reported && !self.is_whitelisted;
        !self.has_failures && (is_hit || !has_counts(operation))
    }
}

/// Whether an answer is a count, which thresholds are for.
const fn has_counts(operation: Operation) -> bool {
    matches!(operation, Operation::Check | Operation::Pong)
}

/// What is printed of one answer: a line, and of `info` several, each ended.
pub fn line(
    operation: Operation,
    digest: Option<&DigestText>,
    name: &str,
    outcome: &Result<Response, Failure>,
    is_json: bool,
) -> String {
    if is_json {
        return json_answer(operation, digest, name, outcome);
    }
    match outcome {
        Err(failure) => {
            let (code, diag) = tuple_of(failure, name);
            format!("{name}\t{}\n", python_tuple(code, &diag))
        }
        Ok(response) => {
            let diag = String::from_utf8_lossy(&response.diag);
            let tuple = python_tuple(response.code, &diag);
            format!("{name}\t{tuple}{}\n", details(operation, response))
        }
    }
}

/// The line of a digest that the local whitelist answers in the place of `name`.
pub(crate) fn locally_whitelisted(name: &str, digest: &DigestText, is_json: bool) -> String {
    if is_json {
        let tuple = (OK, "OK".to_owned());
        let numbers = ReplyNumbers {
            count: Some(0),
            wl_count: Some(0),
            ..ReplyNumbers::default()
        };
        return json_line(&JsonAnswer {
            locally_whitelisted: true,
            ..JsonAnswer::new(Operation::Check, Some(digest), name, tuple, numbers)
        });
    }
    format!("{name}\t{}\t0\t0\n", python_tuple(OK, "OK"))
}

/// What a JSON value prints as, on a line.
pub(crate) fn json_line(value: &impl Serialize) -> String {
    // Only maps with keys that are no strings, and types that fail by themselves, cannot be serialized.
    let mut line = serde_json::to_string(value).unwrap_or_default();
    line.push('\n');
    line
}

/// What stands behind the tuple.
fn details(operation: Operation, response: &Response) -> String {
    match operation {
        Operation::Check | Operation::Pong => {
            let counts = response.counts();
            let counts = counts.map(|(count, wl_count)| format!("{count}\t{wl_count}"));
            format!("\t{}", counts.unwrap_or_default())
        }
        Operation::Info => {
            let mut lines = String::from("\n");
            for (name, value) in info_lines(response) {
                // Writing to a string cannot fail.
                let _ = writeln!(lines, "\t{name}: {value}");
            }
            lines
        }
        Operation::Ping | Operation::Report | Operation::Whitelist => String::new(),
    }
}

/// What an answer to `info` has, as far as it has it; nothing of a refusal.
fn info_lines(response: &Response) -> impl Iterator<Item = (&'static str, String)> {
    let numbers = &response.numbers;
    let number = |value: Option<i64>| value.map(|value| value.to_string());
    let time = |value: Option<i64>| value.map(time_in_words);
    [
        ("Count", number(numbers.count)),
        ("Entered", time(numbers.entered)),
        ("Updated", time(numbers.updated)),
        ("WL-Count", number(numbers.wl_count)),
        ("WL-Entered", time(numbers.wl_entered)),
        ("WL-Updated", time(numbers.wl_updated)),
    ]
    .into_iter()
    .filter(|_| response.code == OK)
    .filter_map(|(name, value)| Some((name, value?)))
}

fn time_in_words(second: i64) -> String {
    if second == NEVER {
        return "Never".to_owned();
    }
    ctime(second).unwrap_or_else(|| format!("{second} seconds after 1970"))
}

/// Code and words for a request without a reply: the reference's where it has some.
fn tuple_of(failure: &Failure, name: &str) -> (i64, String) {
    match failure {
        Failure::TimedOut | Failure::NobodyThere => {
            (TIMED_OUT, "Reading response timed-out.".to_owned())
        }
        Failure::NotSent(_) => (NOT_SENT, format!("Unable to send to {name}")),
        Failure::NoAddress(_) | Failure::CannotWait(_) => (TIMED_OUT, failure.to_string()),
    }
}

/// A pair as Python prints it.
fn python_tuple(code: i64, diag: &str) -> String {
    let quote = if diag.contains('\'') && !diag.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut text = format!("({code}, {quote}");
    diag.chars().for_each(|c| push_python(&mut text, c, quote));
    text.push(quote);
    text.push(')');
    text
}

/// Appends a character as it stands in a Python string's representation.
fn push_python(text: &mut String, c: char, quote: char) {
    match c {
        '\\' => text.push_str("\\\\"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        c if c == quote => {
            text.push('\\');
            text.push(c);
        }
        // A server must not be able to write control characters to a terminal.
        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
            let code = u32::from(c);
            let width = if code <= 0xff { 2 } else { 4 };
            let letter = if width == 2 { 'x' } else { 'u' };
            // Writing to a string cannot fail.
            let _ = write!(text, "\\{letter}{code:0width$x}");
        }
        c => text.push(c),
    }
}

/// An answer as a script reads it. Times are in seconds since the epoch.
#[derive(Serialize)]
struct JsonAnswer<'a> {
    server: String,
    operation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<std::borrow::Cow<'a, str>>,
    code: i64,
    diag: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    locally_whitelisted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wl_count: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entered: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wl_entered: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wl_updated: Option<i64>,
}

impl<'a> JsonAnswer<'a> {
    fn new(
        operation: Operation,
        digest: Option<&'a DigestText>,
        name: &str,
        (code, diag): (i64, String),
        numbers: ReplyNumbers,
    ) -> Self {
        Self {
            server: name.to_string(),
            operation: operation.name(),
            digest: digest.map(|digest| String::from_utf8_lossy(digest.as_bytes())),
            code,
            diag,
            locally_whitelisted: false,
            count: numbers.count,
            wl_count: numbers.wl_count,
            entered: numbers.entered,
            updated: numbers.updated,
            wl_entered: numbers.wl_entered,
            wl_updated: numbers.wl_updated,
        }
    }
}

fn json_answer(
    operation: Operation,
    digest: Option<&DigestText>,
    name: &str,
    outcome: &Result<Response, Failure>,
) -> String {
    let (tuple, numbers) = match outcome {
        Err(failure) => (tuple_of(failure, name), ReplyNumbers::default()),
        Ok(response) => {
            let diag = String::from_utf8_lossy(&response.diag).into_owned();
            ((response.code, diag), response.numbers)
        }
    };
    json_line(&JsonAnswer::new(operation, digest, name, tuple, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_are_quoted_as_python_does() {
        for (diag, expected) in [
            ("OK", "(200, 'OK')"),
            ("it's", "(200, \"it's\")"),
            ("say \"x\"", "(200, 'say \"x\"')"),
            ("say \"it's\"", "(200, 'say \"it\\'s\"')"),
            ("a\\b\tc\nd\re", "(200, 'a\\\\b\\tc\\nd\\re')"),
            ("\x1b[2J\u{85}é", "(200, '\\x1b[2J\\x85é')"),
        ] {
            assert_eq!(python_tuple(200, diag), expected);
        }
    }

    fn response(code: i64) -> Response {
        Response {
            code,
            diag: b"D".to_vec(),
            numbers: ReplyNumbers {
                count: Some(7),
                wl_count: Some(1),
                entered: Some(NEVER),
                wl_entered: Some(i64::MAX),
                ..ReplyNumbers::default()
            },
        }
    }

    #[test]
    fn what_follows_the_tuple_depends_on_the_operation() {
        let response = response(200);
        assert_eq!(details(Operation::Check, &response), "\t7\t1");
        assert_eq!(details(Operation::Report, &response), "");
        assert_eq!(
            details(Operation::Info, &response),
            "\n\tCount: 7\n\tEntered: Never\n\tWL-Count: 1\n\tWL-Entered: 9223372036854775807 seconds after 1970\n"
        );
    }

    #[test]
    fn a_refusal_and_an_answer_without_counts_have_a_tab_and_no_counts() {
        let mut halved = response(200);
        halved.numbers.wl_count = None;
        for response in [response(403), halved] {
            assert_eq!(details(Operation::Pong, &response), "\t");
        }
    }

    #[test]
    fn one_whitelisting_beats_every_report_and_one_failure_both() {
        let hit = Tally {
            is_reported: true,
            ..Tally::default()
        };
        assert!(hit.is_success(Operation::Check));
        let whitelisted = Tally {
            is_whitelisted: true,
            ..hit
        };
        assert!(!whitelisted.is_success(Operation::Check));
        assert!(whitelisted.is_success(Operation::Info));
        let failed = Tally {
            has_failures: true,
            ..hit
        };
        assert!(!failed.is_success(Operation::Check));
        assert!(!failed.is_success(Operation::Report));
        assert!(!Tally::default().is_success(Operation::Pong));
        assert!(Tally::default().is_success(Operation::Ping));
    }
}
