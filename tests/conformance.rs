//! The recorded cases of the reference server, replayed in order: each is answered byte for byte, or listed in the
//! table of deviations and answered as that says.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::harness::client::REPLY_LIMIT;
use crate::harness::message::{epoch_seconds, signature};
use crate::harness::programs::workspace;
use crate::harness::{Client, Io, Setup};

both_io!(default_profile, accounts_profile, anon_all_profile);

fn default_profile(io: Io) {
    replay("default", io);
}

fn accounts_profile(io: Io) {
    replay("accounts", io);
}

fn anon_all_profile(io: Io) {
    replay("anon-all", io);
}

/// Every profile there is; a test keeps the list complete.
pub(crate) const PROFILES: [&str; 3] = ["default", "accounts", "anon-all"];

/// How long a server must keep silent about what it must not answer.
const SILENCE: Duration = Duration::from_millis(300);
/// How far a time in a reply may lie from now.
const NOW_TOLERANCE_SECONDS: u64 = 3;

/// Replays a profile on a fresh server and fails with a list of the cases answered otherwise than they should be.
pub(crate) fn replay(profile: &str, io: Io) {
    let server = setup(profile, io).start();
    let client = server.client();
    let deviations = deviations();
    let failures: Vec<String> = cases(profile)
        .iter()
        .filter_map(|case| {
            let name = format!("{profile}/{}", case.name);
            let expected = deviations
                .get(&name)
                .map_or(Expected::Reference, Expected::Ours);
            let problem = judge(
                case,
                &expected,
                exchange(&client, case, &expected).as_deref(),
            );
            problem.map(|problem| format!("{name}: {problem}"))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_profile_is_replayed_and_every_deviation_has_its_case() {
    let recorded: HashSet<String> = fs::read_dir(golden(""))
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".jsonl").map(str::to_owned)
        })
        .collect();
    assert_eq!(recorded, PROFILES.map(str::to_owned).into());
    let names: HashSet<String> = PROFILES
        .iter()
        .flat_map(|profile| cases(profile).into_iter().map(move |case| (profile, case)))
        .map(|(profile, case)| format!("{profile}/{}", case.name))
        .collect();
    for name in deviations().keys() {
        assert!(names.contains(name), "{name} is no recorded case");
    }
}

#[test]
fn the_readme_has_a_row_for_every_deviation() {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    for Deviation {
        reason,
        code,
        cases,
        ..
    } in deviation_table()
    {
        let answer = code.map_or("no answer".to_owned(), |code| format!("`{code}`"));
        let row = format!("| {reason} | {answer} | {} |", cases.len());
        assert!(readme.contains(&row), "README.md lacks: {row}");
    }
}

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: Kind,
    request: String,
    reply: Option<String>,
    sign: Option<Sign>,
    #[serde(default)]
    time_offset: i64,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Reference,
    Quirk,
    Silent,
}

#[derive(Deserialize)]
struct Sign {
    user: String,
    key: String,
    text: String,
    #[serde(default)]
    upper: bool,
}

#[derive(Deserialize, Clone)]
struct Deviation {
    reason: String,
    code: Option<u16>,
    #[serde(default)]
    diag: String,
    cases: Vec<String>,
}

enum Expected<'d> {
    Reference,
    Ours(&'d Deviation),
}

fn golden(file: &str) -> PathBuf {
    workspace().join("tests/golden").join(file)
}

fn setup(profile: &str, io: Io) -> Setup {
    ["passwd", "access"]
        .into_iter()
        .fold(Setup::new(io), |setup, kind| {
            match fs::read(golden(&format!("{profile}.{kind}"))) {
                Ok(text) => setup.file(&format!("pyzord.{kind}"), text),
                Err(_) => setup,
            }
        })
}

fn cases(profile: &str) -> Vec<Case> {
    fs::read_to_string(golden(&format!("{profile}.jsonl")))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn deviation_table() -> Vec<Deviation> {
    let text = fs::read(golden("deviations.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The deviations by the case they are about.
fn deviations() -> HashMap<String, Deviation> {
    deviation_table()
        .into_iter()
        .flat_map(|mut deviation| {
            let cases = std::mem::take(&mut deviation.cases);
            cases.into_iter().map(move |case| (case, deviation.clone()))
        })
        .collect()
}

fn exchange(client: &Client, case: &Case, expected: &Expected<'_>) -> Option<Vec<u8>> {
    client.send(&case.datagram());
    let is_silent = matches!(expected, Expected::Ours(Deviation { code: None, .. }));
    client.receive(if is_silent { SILENCE } else { REPLY_LIMIT })
}

/// What is wrong with `reply`, if anything.
fn judge(case: &Case, expected: &Expected<'_>, reply: Option<&[u8]>) -> Option<String> {
    let recorded = case.reply.as_ref().map(|text| hex::decode(text).unwrap());
    let like_the_reference = match (&recorded, reply) {
        (Some(recorded), Some(reply)) => matches(recorded, reply),
        (recorded, reply) => recorded.is_none() && reply.is_none(),
    };
    let wanted = match expected {
        Expected::Reference if like_the_reference => return None,
        Expected::Reference => recorded,
        Expected::Ours(_) if like_the_reference => {
            return Some("is listed as a deviation, but is none".to_owned());
        }
        Expected::Ours(deviation) if (deviation.code.is_none()) != (case.kind == Kind::Silent) => {
            return Some("silence is for the silent cases, and for them alone".to_owned());
        }
        Expected::Ours(deviation) => deviation.reply(&case.datagram()),
    };
    (wanted.as_deref() != reply)
        .then(|| format!("wanted {}, got {}", show(wanted.as_deref()), show(reply)))
}

impl Case {
    fn datagram(&self) -> Vec<u8> {
        let time = epoch_seconds()
            .saturating_add_signed(self.time_offset)
            .to_string();
        let datagram = hex::decode(&self.request).unwrap();
        let datagram = replace(&datagram, b"@@TIME@@", time.as_bytes());
        match &self.sign {
            Some(sign) => replace(&datagram, b"@@SIG@@", sign.signature(&time).as_bytes()),
            None => datagram,
        }
    }
}

impl Sign {
    fn signature(&self, time: &str) -> String {
        let text = replace(
            &hex::decode(&self.text).unwrap(),
            b"@@TIME@@",
            time.as_bytes(),
        );
        let signature = signature(&self.user, &self.key, time, &text);
        if self.upper {
            signature.to_uppercase()
        } else {
            signature
        }
    }
}

impl Deviation {
    /// The reply wanted to `request`; none if it must not be answered.
    fn reply(&self, request: &[u8]) -> Option<Vec<u8>> {
        let head = format!(
            "Code: {}\nDiag: {}\nPV: 2.1\nThread: ",
            self.code?, self.diag
        );
        let thread = request
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(b"Thread: "))
            .unwrap_or_default();
        Some([head.as_bytes(), thread, b"\n\n"].concat())
    }
}

/// Whether `reply` is `recorded`, with a time within some seconds of now for each `@@NOW@@`.
fn matches(recorded: &[u8], reply: &[u8]) -> bool {
    let (recorded, reply) = (latin1(recorded), latin1(reply));
    let mut pieces = recorded.split("@@NOW@@");
    let Some(mut rest) = pieces.next().and_then(|piece| reply.strip_prefix(piece)) else {
        return false;
    };
    for piece in pieces {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let is_now = rest[..digits]
            .parse::<u64>()
            .is_ok_and(|time| time.abs_diff(epoch_seconds()) <= NOW_TOLERANCE_SECONDS);
        match rest[digits..].strip_prefix(piece) {
            Some(after) if is_now => rest = after,
            _ => return false,
        }
    }
    rest.is_empty()
}

/// Bytes as text, one character a byte, so that every datagram is comparable text.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

fn show(reply: Option<&[u8]>) -> String {
    reply.map_or("nothing".to_owned(), |bytes| format!("{:?}", latin1(bytes)))
}
