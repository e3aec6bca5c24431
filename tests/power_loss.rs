//! The power goes, at every sync of a scripted run, and with it a random part of what was written since the file was last
//! synced, reordered and torn. What was acknowledged is there afterwards, and nothing counts twice.

use std::sync::Arc;

use crate::simulation::{
    Driver, Oracle, Random, SimClock, SimDisk, new_store, play, small_options,
};

/// Scripts that are run in full, each with a power loss at every one of its syncs.
const SCRIPTS: u64 = 8;
/// Runs script `seed` with a power loss after `syncs` syncs, then on, then once more from the start.
fn lose_power(
    (disk, clock): &(SimDisk, Arc<SimClock>),
    seed: u64,
    syncs: u64,
) -> Result<bool, String> {
    let disk = disk.duplicate(seed ^ syncs);
    let open = || Driver::open(&disk, small_options(), clock).map_err(|error| error.to_string());
    let mut random = Random::new(seed);
    let mut oracle = Oracle::default();
    let mut driver = open()?;
    disk.fail_power_after(syncs);
    play(&mut driver, &mut oracle, &mut random, || {
        disk.power_failures() > 0
    })?;
    let failed = disk.power_failures() > 0;
    if !failed {
        disk.fail_power();
    }
    drop(driver);

    let mut driver = open()?;
    oracle.settle(&mut driver)?;
    play(&mut driver, &mut oracle, &mut random, || false)?;
    oracle.check_all(&mut driver)?;
    driver.steps.fold();
    drop(driver);
    oracle.settle(&mut open()?)?;
    Ok(failed)
}

/// Invariants 1, 2 and 4.
#[test]
fn acknowledged_reports_survive_a_power_loss_at_any_sync() {
    let created = new_store();
    let mut losses = 0;
    for seed in 1..=SCRIPTS {
        let mut syncs = 0;
        while lose_power(&created, seed, syncs).unwrap_or_else(|error| {
            panic!("script {seed}, power lost after {syncs} syncs: {error}")
        }) {
            syncs += 1;
        }
        losses += syncs;
    }
    assert!(
        losses > 20 * SCRIPTS,
        "the scripts sync {losses} times only"
    );
}

/// The power goes while a store is being created, then again while that is made good.
#[test]
fn a_creation_that_was_cut_off_is_begun_anew() {
    let clock = Arc::new(SimClock::new());
    for syncs in 0.. {
        let disk = SimDisk::new(syncs);
        disk.fail_power_after(syncs);
        let open = || Driver::open(&disk, small_options(), &clock);
        let cut_off = open().is_err();
        disk.fail_power_after(syncs / 2);
        drop(open());
        let mut driver = open().unwrap_or_else(|error| panic!("after {syncs} syncs: {error}"));
        let mut oracle = Oracle::default();
        oracle.note(&[1], driver.report(&[1]));
        drop(driver);
        oracle.check_all(&mut open().unwrap()).unwrap();
        if !cut_off {
            assert!(syncs > 10, "a creation syncs {syncs} times only");
            return;
        }
    }
}
