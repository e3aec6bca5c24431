//! The parser's rules in their plainest form, and property tests that hold both readers against it.
//!
//! The model copies at every step, so that each step is one rule. It shares no code with the readers.

use proptest::prelude::*;

use crate::account::AccountKey;
use crate::canonical;
use crate::digest::Digest;
use crate::limits::MAX_DATAGRAM_BYTES;
use crate::request::{Request, Scratch};
use crate::signature::sign;

/// A parsed datagram.
#[derive(Default)]
struct Model {
    headers: Vec<(String, String)>,
    body: String,
}

impl Model {
    fn parse(datagram: &[u8]) -> Self {
        let cut = &datagram[..datagram.len().min(MAX_DATAGRAM_BYTES)];
        // Each byte becomes the character of the same number, so that strings can hold them.
        let text: String = cut.iter().copied().map(char::from).collect();
        let text = text
            .replace("\n\n", "\n")
            .replace("\r\n", "\n")
            .replace('\r', "\n");
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut end = lines.iter().take_while(|line| is_header(line)).count();
        let after = end + usize::from(lines.get(end) == Some(&"\n"));
        let mut body = lines[after..].concat();
        if end > 1 && lines[end - 1].starts_with("From ") {
            end -= 1;
            body.insert_str(0, lines[end]);
        }
        let headers = collect_headers(&lines[..end]);
        Self { headers, body }
    }

    fn all(&self, name: &str) -> Vec<&str> {
        let named = |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(named)
            .map(|header| &header.1[..])
            .collect()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    fn signed_text(&self) -> String {
        let is_signed = |header: &&(String, String)| !header.0.eq_ignore_ascii_case("Sig");
        let signed = self.headers.iter().filter(is_signed);
        let lines: Vec<_> = signed
            .map(|(name, value)| format!("{name}: {}\n", refolded(value)))
            .collect();
        let text = format!("{}\n{}", lines.concat(), self.body);
        text.trim_end_matches(is_white).to_owned()
    }
}

fn is_header(line: &str) -> bool {
    let name_length = line.find(|c: char| !c.is_ascii_graphic() || c == ':');
    line.starts_with([' ', '\t'])
        || line.starts_with("From ")
        || name_length.is_some_and(|length| line[length..].starts_with(':'))
}

fn collect_headers(lines: &[&str]) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut continues = false;
    for line in lines {
        if line.starts_with([' ', '\t']) {
            if continues && let Some((_, value)) = headers.last_mut() {
                *value += line;
            }
        } else if line.starts_with("From ") || line.starts_with(':') {
            continues = false;
        } else if let Some((name, value)) = line.split_once(':') {
            let value = value.trim_start_matches([' ', '\t']);
            headers.push((name.to_owned(), value.to_owned()));
            continues = true;
        }
    }
    for (_, value) in &mut headers {
        value.truncate(value.trim_end_matches('\n').len());
    }
    headers
}

fn refolded(value: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for c in value.chars() {
        if "\n\x0b\x0c\x1c\x1d\x1e".contains(c) {
            lines.push(std::mem::take(&mut line));
        } else {
            line.push(c);
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    match &lines[..] {
        [] => String::new(),
        [line] => line.clone(),
        [first, rest @ ..] => joined(first, rest).unwrap_or_else(|| value.to_owned()),
    }
}

/// `None` if the lines would not read back as one header.
fn joined(first: &str, rest: &[String]) -> Option<String> {
    let mut text = without_single_blank(first).to_owned();
    for line in rest {
        let line = without_single_blank(line);
        if !line.chars().all(is_white) {
            if !line.starts_with([' ', '\t']) {
                return None;
            }
            text.push('\n');
        }
        text += line;
    }
    Some(text)
}

fn without_single_blank(line: &str) -> &str {
    match line.strip_suffix(' ') {
        Some(rest) if !rest.ends_with([' ', '\t']) => rest,
        _ => line,
    }
}

fn is_white(c: char) -> bool {
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f ".contains(c)
}

/// Back from characters to the bytes they stand for.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| c as u8).collect()
}

/// Everything that can be asked of a request, in a form that can be compared.
#[derive(Debug, PartialEq)]
struct Facts {
    op: Vec<u8>,
    thread: Vec<u8>,
    is_reply: bool,
    fields: Vec<Option<Vec<u8>>>,
    digests: Vec<Option<Digest>>,
    signature: String,
}

const TIME: u64 = 1_700_000_000;

fn facts_of(request: &Request<'_>, key: &AccountKey) -> Facts {
    let signature = request.signature_at(TIME, key);
    Facts {
        op: request.op().to_vec(),
        thread: request.thread().to_vec(),
        is_reply: request.is_reply(),
        fields: request
            .signed_fields()
            .map(|field| field.map(<[u8]>::to_vec))
            .into(),
        digests: request.digests().map(Result::ok).collect(),
        signature: String::from_utf8_lossy(&signature).into_owned(),
    }
}

fn facts_of_model(model: &Model, key: &AccountKey) -> Facts {
    let signature = sign(&bytes(&model.signed_text()), TIME, key);
    let fields = ["PV", "User", "Time", "Sig"].map(|name| model.get(name).map(bytes));
    Facts {
        op: bytes(model.get("Op").unwrap_or_default()),
        thread: bytes(&refolded(model.get("Thread").unwrap_or_default())),
        is_reply: model.get("Code").is_some() && model.get("Op").is_none(),
        fields: fields.into(),
        digests: model
            .all("Op-Digest")
            .into_iter()
            .map(|text| Digest::from_hex(&bytes(text)).ok())
            .collect(),
        signature: String::from_utf8_lossy(&signature).into_owned(),
    }
}

/// Both readers, where both apply, must say what the model says.
fn check(datagram: &[u8]) {
    let key = AccountKey::new(b"bob", b"secret");
    let mut scratch = Scratch::new();
    let expected = facts_of_model(&Model::parse(datagram), &key);
    let parsed = facts_of(&Request::parse(datagram, &mut scratch), &key);
    assert_eq!(parsed, expected);
    let cut = &datagram[..datagram.len().min(MAX_DATAGRAM_BYTES)];
    let general = facts_of(&Request::parse_general(cut, &mut scratch), &key);
    assert_eq!(general, expected);
}

fn one_of(choices: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    prop::sample::select(choices).prop_map(str::to_owned)
}

/// Datagrams as real clients write them.
fn canonical_datagram() -> impl Strategy<Value = String> {
    let digests = prop::collection::vec("[0-9a-f]{40}", 0..4);
    let op = one_of(&["ping", "check", "report", "frob"]);
    let spec = one_of(&["", "Op-Spec: 20,3,60,3\n"]);
    let user = one_of(&["", "User: bob\n", "User: anonymous\n"]);
    let end = one_of(&["", "\n"]);
    (op, digests, spec, 0..70_000, user, "[0-9a-f]{40}", end).prop_map(
        |(op, digests, spec, thread, user, sig, end)| {
            let digests: Vec<_> = digests.iter().map(|hex| format!("Op-Digest: {hex}\n")).collect();
            let digests = digests.concat();
            format!(
                "Op: {op}\n{digests}{spec}Thread: {thread}\nPV: 2.1\n{user}Time: {TIME}\nSig: {sig}\n{end}"
            )
        },
    )
}

/// Lines that are headers, nearly headers, or no headers, with all kinds of ends.
fn line() -> impl Strategy<Value = String> {
    let name = one_of(&[
        "Op",
        "op-DIGEST",
        "Op-Digest",
        "Thread",
        "PV",
        "User",
        "Time",
        "Sig",
        "sIG",
        "Code",
        "X",
        "From",
        "From ",
        "",
        " ",
        "\t",
        "X Y",
        "X\u{e9}",
    ]);
    let separator = one_of(&[": ", ": ", ":", ":  ", ":\t", " : ", "", ": \n "]);
    let value = prop_oneof![
        "[ -~]{0,6}",
        "[ab:\t\n\r\x0b\x0c\x1c-\x1f ]{0,8}",
        "[0-9a-f]{40}",
        "(a| |\t|\n |\n\t|\r\n |\x0b |\x1e){0,7}",
    ];
    let end = one_of(&[
        "\n", "\n", "\n", "\r\n", "\r", "\n\n", "\n\n\n", "\n ", "\n\t\n ", "",
    ]);
    (name, separator, value, end)
        .prop_map(|(name, separator, value, end)| name + &separator + &value + &end)
}

fn mutate(mut datagram: Vec<u8>, changes: Vec<(prop::sample::Index, u8)>) -> Vec<u8> {
    for (index, byte) in changes {
        let at = index.index(datagram.len() + 1);
        match byte % 3 {
            0 if at < datagram.len() => datagram[at] = byte,
            1 if at < datagram.len() => drop(datagram.remove(at)),
            _ => datagram.insert(at, byte),
        }
    }
    datagram
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    let byte = prop_oneof![
        prop::sample::select(&b"\n\r \t:\0\x0b\xff"[..]),
        any::<u8>()
    ];
    prop::collection::vec((any::<prop::sample::Index>(), byte), 0..3)
}

/// The layouts of the Python, the Perl and the Rust client, with and without what is optional.
#[test]
fn real_layouts_take_the_fast_way() {
    let digest = "b2c27325a034c581df0c9ef37e4a0d63208a3e7e";
    let rest = "Thread: 49005\nPV: 2.1\n";
    let signed = format!("Time: 1697468672\nSig: {digest}\n");
    for datagram in [
        format!("Op: ping\n{rest}User: anonymous\n{signed}\n"),
        format!("Op: check\nOp-Digest: {digest}\n{rest}User: bob\n{signed}\n"),
        format!(
            "Op: report\nOp-Digest: {digest}\nOp-Digest: {digest}\nOp-Spec: 20,3,60,3\n{rest}User: bob\n{signed}\n"
        ),
        format!("Op: check\nOp-Digest: {digest}\n{rest}{signed}\n"),
        format!("Op: check\nOp-Digest: {digest}\n{rest}User: anonymous\n{signed}"),
    ] {
        assert!(canonical::read(datagram.as_bytes()).is_some(), "{datagram}");
        check(datagram.as_bytes());
    }
}

/// Layouts that look canonical at first.
#[test]
fn what_is_nearly_canonical_is_left_to_the_general_reader() {
    let datagram = "Op: check\nOp-Digest: 21863f59fadf7bf51fbfa87ff4c61ccd7d3c6903\nThread: 7\nPV: 2.1\n\
                    Time: 5\nSig: b2c27325a034c581df0c9ef37e4a0d63208a3e7e\n";
    assert!(canonical::read(datagram.as_bytes()).is_some());
    for (from, to) in [
        ("Thread: 7", "Thread: 7 "),
        ("Thread: 7", "Thread: 7\r"),
        ("Thread: 7", "Thread: 7\n 8"),
        ("Thread: 7", "Thread: "),
        ("Thread: 7", "Thread:  7"),
        ("Thread: 7", "thread: 7"),
        ("Thread: 7", "Thread: 7\u{ff}"),
        ("PV: 2.1\n", ""),
        ("21863f", " 1863f"),
        ("21863f", "218\r3f"),
        ("7d3c6903", "7d3c690\r"),
        ("21863f", "21863f0"),
        ("b2c2", "\t2c2"),
        ("b2c2", "b2\r2"),
        ("7e\n", "7e\n\n\n"),
        ("7e\n", "7e\nX: y\n"),
        ("7e\n", "7e\n "),
        ("7e\n", "7e"),
    ] {
        let changed = datagram.replace(from, to);
        assert_ne!(changed, datagram);
        assert!(canonical::read(changed.as_bytes()).is_none(), "{changed:?}");
        check(changed.as_bytes());
    }
}

#[test]
fn long_datagrams_are_cut() {
    let mut datagram = b"Op: ping\nX: ".to_vec();
    datagram.resize(MAX_DATAGRAM_BYTES - b"\nPV: 2.".len(), b'y');
    datagram.extend_from_slice(b"\nPV: 2.1\nThread: 5\n");
    check(&datagram);
    check(&b"\n".repeat(MAX_DATAGRAM_BYTES + 1));
    check(&b"a:b\n".repeat(MAX_DATAGRAM_BYTES));
    check(&b"Thread: 1\n \n".repeat(MAX_DATAGRAM_BYTES));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn canonical_datagrams_and_their_neighbours(datagram in canonical_datagram(), changes in changes()) {
        check(&mutate(datagram.into_bytes(), changes));
    }

    #[test]
    fn lines_of_any_kind(lines in prop::collection::vec(line(), 0..10), changes in changes()) {
        check(&mutate(lines.concat().into_bytes(), changes));
    }

    #[test]
    fn any_bytes(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&datagram);
    }
}
