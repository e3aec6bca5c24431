//! Bounds: messages built to be dear cost no more work than their length. What memory they take, `client/tests/bounds.rs` says.
//!
//! Work is counted in instructions, by valgrind, since time says little on a busy machine: messages of some families and four
//! times as long ones are digested in a process of their own each.

use std::env;
use std::process::Command;

use pyzor::digester;

use super::dear_messages::families;

/// Set in a process that only digests: the group of families, and the length of each message in bytes.
const ALONE_VARIABLE: &str = "PYZOR_TESTS_DEAR_MESSAGES";

/// Families that one process is for: where work grows too fast, they are who is to blame.
const FAMILIES_A_GROUP: usize = 13;

const BYTES: usize = 16 << 10;

/// Instructions for messages `LONGER` times as long: linear work is so many times as much, and has to be measured
/// with little noise for a search of few instructions a byte to be seen above it.
const LONGER: usize = 4;
const MAX_MORE_INSTRUCTIONS: f64 = 4.5;

/// Where there is no valgrind: lets a search that goes over the same bytes for each piece run for very long.
const LONG_BYTES: usize = 256 << 10;

#[test]
fn long_messages_are_digested_soon() {
    for (_, message) in families() {
        digester::digest_of(&message(LONG_BYTES));
    }
}

#[test]
fn work_grows_with_the_length_of_messages() {
    if let Ok(task) = env::var(ALONE_VARIABLE) {
        return digest_group(&task);
    }
    needs!(Valgrind);
    let groups = families().len().div_ceil(FAMILIES_A_GROUP);
    for group in 0..groups {
        let [start, short, long] =
            [0, BYTES, LONGER * BYTES].map(|bytes| instructions(group, bytes));
        let more = count_ratio(long - start, short - start);
        println!(
            "group {group}: {short} instructions, {more:.2} times as many for messages {LONGER} times as long"
        );
        assert!(
            more < MAX_MORE_INSTRUCTIONS,
            "{more:.1} times the work for {LONGER} times the bytes: {:#?}",
            names(group)
        );
    }
}

fn count_ratio(long: u64, short: u64) -> f64 {
    // Ratios need no more than a few digits.
    f64::from(u32::try_from(long >> 8).unwrap()) / f64::from(u32::try_from(short >> 8).unwrap())
}

/// The names of a group's families.
fn names(group: usize) -> Vec<String> {
    let names = families().into_iter().map(|(name, _)| name);
    names
        .skip(group * FAMILIES_A_GROUP)
        .take(FAMILIES_A_GROUP)
        .collect()
}

/// Instructions that a process takes for the messages of a group.
fn instructions(group: usize, bytes: usize) -> u64 {
    let output = Command::new("valgrind")
        .args([
            "--tool=cachegrind",
            "--cache-sim=no",
            "--cachegrind-out-file=/dev/null",
        ])
        .arg(env::current_exe().unwrap())
        .args([
            "digest::bounds::work_grows_with_the_length_of_messages",
            "--exact",
        ])
        .env(ALONE_VARIABLE, format!("{group} {bytes}"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let count = said.lines().find_map(|line| line.split_once("I   refs:"));
    let (_, count) = count.unwrap_or_else(|| panic!("no count of instructions: {said}"));
    count.trim().replace(',', "").parse().unwrap()
}

fn digest_group(task: &str) {
    let (group, bytes) = task.split_once(' ').unwrap();
    let [group, bytes]: [usize; 2] = [group, bytes].map(|number| number.parse().unwrap());
    for (_, message) in families()
        .into_iter()
        .skip(group * FAMILIES_A_GROUP)
        .take(FAMILIES_A_GROUP)
    {
        digester::digest_of(&message(bytes));
    }
}
