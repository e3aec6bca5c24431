//! How often others' digests are the reference's: ours always, those of `SpamAssassin`'s Perl digester as often as they are. The
//! README states the figures; `cargo test -p pyzor-tests digest::agreement -- --nocapture` prints them.

use pyzor::digester;

use super::oracle::Verdict;
use super::spamassassin::SpamAssassin;
use super::{generated_messages, real_messages, start_oracle};
use crate::harness::programs::workspace;

/// Generated messages are those of this seed.
const SEED: u64 = 1;

/// So many messages the reference digests, and so many digests are the same.
#[derive(Debug, Default)]
struct Agreement {
    digested: usize,
    ours: usize,
    spamassassins: usize,
}

#[test]
fn all_our_digests_are_the_references_and_some_of_spamassassins() {
    needs!(DigestOracle, Mails, SpamAssassin);
    let generated = agreement(generated_messages(SEED));
    let real = agreement(real_messages());
    println!(
        "{:10}{:>9}{:>16}{:>16}",
        "messages", "digested", "pyzor", "SpamAssassin"
    );
    let stated = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    assert!(
        stated.contains(&row(&generated)),
        "README does not state {}",
        row(&generated)
    );
    for (name, agreement) in [("generated", generated), ("real", real)] {
        println!(
            "{name:10}{:>9}{:>16}{:>16}",
            agreement.digested,
            share(agreement.ours, agreement.digested),
            share(agreement.spamassassins, agreement.digested)
        );
        assert_eq!(agreement.ours, agreement.digested);
        // None would mean that the comparison is broken, not the digester: plain messages are no trouble to it.
        assert!(agreement.spamassassins > 0);
    }
}

fn agreement(messages: impl Iterator<Item = (String, Vec<u8>)>) -> Agreement {
    let mut oracle = start_oracle();
    let mut spamassassin = SpamAssassin::start();
    let mut agreement = Agreement::default();
    for (_, message) in messages {
        let Verdict::Digest(expected) = oracle.ask(&message) else {
            continue;
        };
        let is_same = |digest: String| usize::from(digest == expected.digest);
        agreement.digested += 1;
        agreement.ours += is_same(digester::digest_of(&message).to_string());
        agreement.spamassassins += is_same(spamassassin.digest(&message));
    }
    agreement
}

/// The figures as the README has them. Those of real messages depend on what the distribution's packages hold.
fn row(agreement: &Agreement) -> String {
    let Agreement {
        digested,
        ours,
        spamassassins,
    } = *agreement;
    let [ours, spamassassins] = [ours, spamassassins].map(|part| share(part, digested));
    let row = format!("| {} | {ours} | {spamassassins} |", grouped(digested));
    row.replace(".0 %", " %")
}

fn share(part: usize, whole: usize) -> String {
    let tenths = part * 1_000 / whole.max(1);
    format!("{} ({}.{} %)", grouped(part), tenths / 10, tenths % 10)
}

/// With a comma before the last three digits.
fn grouped(number: usize) -> String {
    match (number / 1_000, number % 1_000) {
        (0, ones) => ones.to_string(),
        (thousands, ones) => format!("{thousands},{ones:03}"),
    }
}
