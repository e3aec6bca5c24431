//! The one line that a peer gets, in the form in which `pyzor check` prints one server's answer.
//!
//! rspamd reads no more than one line. With one server it is that server's, whatever it says. With several, the counts of all that
//! answered are added up, as SpamAssassin does with the lines of `check`, and the line begins with the names of those servers,
//! joined by commas. Where none answered, it is the first refusal, or else a time-out. That SpamAssassin ignores sums from 1,000,000
//! reports or 10,000 whitelist reports on is its own decision: like `check`, this tells what the servers say.

use pyzor_protocol::{DigestText, Operation, ReplyNumbers};

use crate::exchange::{self, Answer, Failure, OK, Question, Response};
use crate::output;
use crate::session::Session;

/// What the servers say about a digest. Takes as long as the slowest one, and at most the session's time-out.
pub(super) fn to_check(digest: &DigestText, session: &Session) -> String {
    let question = Question {
        operation: Operation::Check,
        digest: Some(digest),
    };
    let mut answers = exchange::ask(&session.servers, &question, session.patience, &session.log);
    answers.sort_by_key(|answer| answer.position);
    let (names, outcome) = sum(answers);
    line(Some(digest), &names, &outcome, session)
}

/// The answer to a digest of the local whitelist.
pub(super) fn from_local_whitelist(digest: &DigestText, session: &Session) -> Option<String> {
    let is_listed = session.local_whitelist.contains(digest);
    is_listed.then(|| output::locally_whitelisted(&all_names(session), digest, session.json))
}

/// The answer where no server was asked, as if each had come to this outcome.
pub(super) fn without_asking(
    digest: Option<&DigestText>,
    outcome: &Result<Response, Failure>,
    session: &Session,
) -> String {
    line(digest, &all_names(session), outcome, session)
}

fn line(
    digest: Option<&DigestText>,
    names: &str,
    outcome: &Result<Response, Failure>,
    session: &Session,
) -> String {
    output::line(Operation::Check, digest, names, outcome, session.json)
}

fn all_names(session: &Session) -> String {
    joined(session.servers.iter().map(|server| server.name.to_string()))
}

fn joined(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(",")
}

/// One outcome of at least one answer, and whose it is.
fn sum(mut answers: Vec<Answer<'_>>) -> (String, Result<Response, Failure>) {
    let name = |answer: &Answer<'_>| answer.server.name.to_string();
    let counts = |answer: &Answer<'_>| answer.outcome.as_ref().ok().and_then(Response::counts);
    let counted: Vec<_> = answers.iter().filter_map(counts).collect();
    if answers.len() == 1 || counted.is_empty() {
        // The first of the best.
        answers.sort_by_key(|answer| rank(&answer.outcome));
        let answer = answers.swap_remove(0);
        return (name(&answer), answer.outcome);
    }
    let names = answers.iter().filter(|&answer| counts(answer).is_some());
    let add = |sums: (i64, i64), counts: (i64, i64)| {
        (
            sums.0.saturating_add(counts.0),
            sums.1.saturating_add(counts.1),
        )
    };
    let (count, wl_count) = counted.into_iter().fold((0, 0), add);
    let response = Response {
        code: OK,
        diag: b"OK".to_vec(),
        numbers: ReplyNumbers {
            count: Some(count),
            wl_count: Some(wl_count),
            ..ReplyNumbers::default()
        },
    };
    (joined(names.map(name)), Ok(response))
}

/// Which of several failures to tell: a refusal says most.
const fn rank(outcome: &Result<Response, Failure>) -> u8 {
    match outcome {
        Ok(_) => 0,
        Err(Failure::TimedOut | Failure::NobodyThere) => 1,
        Err(_) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addresses::Addresses;
    use crate::home_files::ServerName;
    use crate::session::{self, Server};

    fn servers() -> Vec<Server> {
        let names = ["a", "b", "c"].map(|host| ServerName {
            host: host.to_owned(),
            port: 1,
        });
        names
            .into_iter()
            .map(|name| Server {
                name,
                addresses: Addresses::known(Ok(Vec::new())),
                account: session::anonymous(),
            })
            .collect()
    }

    fn response(code: i64, counts: Option<(i64, i64)>) -> Response {
        Response {
            code,
            diag: b"x".to_vec(),
            numbers: ReplyNumbers {
                count: counts.map(|counts| counts.0),
                wl_count: counts.map(|counts| counts.1),
                ..ReplyNumbers::default()
            },
        }
    }

    fn summed(outcomes: impl IntoIterator<Item = Result<Response, Failure>>) -> String {
        let servers = servers();
        let answers = servers.iter().zip(outcomes).enumerate();
        let answers = answers.map(|(position, (server, outcome))| Answer {
            server,
            position,
            outcome,
        });
        let (names, outcome) = sum(answers.collect());
        output::line(Operation::Check, None, &names, &outcome, false)
    }

    #[test]
    fn counts_are_added_up_and_what_is_none_is_left_out() {
        let answers = [
            Ok(response(200, Some((3, 1)))),
            Ok(response(200, Some((i64::MAX, 2)))),
            Err(Failure::TimedOut),
        ];
        let expected = format!("a:1,b:1\t(200, 'OK')\t{}\t3\n", i64::MAX);
        assert_eq!(summed(answers), expected);
        let answers = [
            Ok(response(403, None)),
            Ok(response(200, None)),
            Ok(response(200, Some((0, 0)))),
        ];
        assert_eq!(summed(answers), "c:1\t(200, 'OK')\t0\t0\n");
    }

    #[test]
    fn where_none_answered_a_refusal_is_told_or_else_a_time_out() {
        let not_sent = || Err(Failure::NotSent(std::io::ErrorKind::Other.into()));
        let timed_out = "b:1\t(504, 'Reading response timed-out.')\n";
        assert_eq!(summed([not_sent(), Err(Failure::TimedOut)]), timed_out);
        let answers = [Err(Failure::TimedOut), Ok(response(403, None))];
        assert_eq!(summed(answers), "b:1\t(403, 'x')\t\n");
    }

    #[test]
    fn one_server_speaks_for_itself() {
        for (outcome, expected) in [
            (Ok(response(200, Some((7, 1)))), "a:1\t(200, 'x')\t7\t1\n"),
            (Ok(response(200, None)), "a:1\t(200, 'x')\t\n"),
            (
                Err(Failure::TimedOut),
                "a:1\t(504, 'Reading response timed-out.')\n",
            ),
        ] {
            assert_eq!(summed([outcome]), expected);
        }
    }
}
