//! The commands that ask servers.

use pyzor_protocol::{DigestText, Operation};

use super::Runner;
use crate::digester::EMPTY_TEXT_DIGEST;
use crate::error::Error;
use crate::exchange::{self, Question};
use crate::input::Style;
use crate::output::{self, Tally};
use crate::session::Session;

/// Bytes of answers that wait for those of the local whitelist, which come first.
const MAX_HELD_BYTES: usize = 16 * 1024 * 1024;

impl Runner<'_> {
    /// Asks about each digest of standard input, or once if it is a ping.
    pub(super) fn ask(&mut self, operation: Operation, session: &Session) -> Result<bool, Error> {
        let mut tally = Tally::default();
        if operation == Operation::Ping {
            let lines = ask(operation, None, session, &mut tally);
            self.printer.print(lines.as_bytes())?;
            return Ok(tally.is_success(operation));
        }
        // With an empty whitelist nothing has to come first.
        let holds = operation == Operation::Check
            && self.config.style != Style::Msg
            && !session.local_whitelist.is_empty();
        let mut held = String::new();
        let mut all_sent = true;
        let all_usable = self.for_each_digest(|runner, number, digest| {
            if exchange::is_update(operation) && digest.as_bytes() == EMPTY_TEXT_DIGEST.as_bytes() {
                runner.refuse_empty(operation, number);
                all_sent = false;
                return Ok(());
            }
            if let Some(lines) = local_answer(operation, digest, session) {
                return runner.print_now(&lines);
            }
            let lines = ask(operation, Some(digest), session, &mut tally);
            if holds && held.len() + lines.len() <= MAX_HELD_BYTES {
                held.push_str(&lines);
                return Ok(());
            }
            runner.print_now(&std::mem::take(&mut held))?;
            runner.print_now(&lines)
        })?;
        self.print_now(&held)?;
        Ok(all_usable && all_sent && tally.is_success(operation))
    }

    /// Says that the digest of an empty text does not go to a server, which would count against, or for, everybody's messages
    /// without text.
    fn refuse_empty(&mut self, operation: Operation, number: usize) {
        let place = match self.config.style {
            Style::Mbox => format!("standard input, message {number}: "),
            Style::Msg | Style::Digests => String::new(),
        };
        let name = operation.name();
        self.printer.hide_progress();
        self.log.critical(&format!(
            "{place}{EMPTY_TEXT_DIGEST} is the digest of every message without text: no {name} of it is sent"
        ));
    }

    /// Prints lines that somebody may be waiting for.
    fn print_now(&mut self, lines: &str) -> Result<(), Error> {
        self.printer.print(lines.as_bytes())?;
        self.printer.flush()
    }
}

/// The lines with which the local whitelist answers for every server.
fn local_answer(operation: Operation, digest: &DigestText, session: &Session) -> Option<String> {
    let answers = operation == Operation::Check && session.local_whitelist.contains(digest);
    let names = session.servers.iter().map(|server| &server.name);
    answers.then(|| {
        names
            .map(|name| output::locally_whitelisted(&name.to_string(), digest, session.json))
            .collect()
    })
}

/// Asks every server, and returns the lines of their answers: in the order of the answers, as the reference prints them, and
/// for a ping in the order of the servers.
fn ask(
    operation: Operation,
    digest: Option<&DigestText>,
    session: &Session,
    tally: &mut Tally,
) -> String {
    let question = Question { operation, digest };
    let mut answers = exchange::ask(&session.servers, &question, session.patience, &session.log);
    if operation == Operation::Ping {
        answers.sort_by_key(|answer| answer.position);
    }
    for answer in &answers {
        tally.add(operation, answer, session);
    }
    answers
        .iter()
        .map(|answer| {
            let name = answer.server.name.to_string();
            output::line(operation, digest, &name, &answer.outcome, session.json)
        })
        .collect()
}
