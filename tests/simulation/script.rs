//! A script that chance writes: updates, folds, evictions and checks.

use std::sync::Arc;

use pyzor_storage::ChangeKind;

use super::{Driver, Oracle, Random, SimClock, SimDisk, small_options};

/// Things that happen in a script.
const STEPS: usize = 40;
/// Digests in play.
const DIGESTS: usize = 12;

/// A store that has just been created, and the time.
pub(crate) fn new_store() -> (SimDisk, Arc<SimClock>) {
    let disk = SimDisk::new(0);
    let clock = Arc::new(SimClock::new());
    drop(Driver::open(&disk, small_options(), &clock).unwrap());
    (disk, clock)
}

/// Plays a script until it ends, or it is enough.
pub(crate) fn play(
    driver: &mut Driver,
    oracle: &mut Oracle,
    random: &mut Random,
    is_enough: impl Fn() -> bool,
) -> Result<(), String> {
    for _ in 0..STEPS {
        match random.below(10) {
            0..=4 => report(driver, oracle, random)?,
            5 => {
                driver.steps.fold();
            }
            6 => {
                // The first time only takes second chances away.
                driver.steps.evict(DIGESTS);
                driver.steps.evict(DIGESTS);
            }
            7 => {
                driver.steps.commit();
            }
            8 => driver.clock.advance(1),
            _ => oracle.check(driver, number(random))?,
        }
        if is_enough() {
            return Ok(());
        }
    }
    Ok(())
}

/// One commit with up to three updates of up to three digests, which are checked once before it.
fn report(driver: &mut Driver, oracle: &mut Oracle, random: &mut Random) -> Result<(), String> {
    let updates: Vec<_> = (0..=random.below(3))
        .map(|_| {
            let numbers: Vec<_> = (0..=random.below(3)).map(|_| number(random)).collect();
            let sent = driver.send(ChangeKind::Report, &numbers);
            (numbers, sent)
        })
        .collect();
    let taken = updates.iter().filter(|(_, sent)| sent.is_some());
    let under_way: Vec<_> = taken.flat_map(|(numbers, _)| numbers.clone()).collect();
    for number in &under_way {
        let reports = under_way.iter().filter(|other| *other == number).count();
        oracle.check_with(driver, *number, reports as u64)?;
    }
    driver.steps.commit();
    for (numbers, sent) in updates {
        oracle.note(&numbers, driver.fate(sent));
    }
    Ok(())
}

fn number(random: &mut Random) -> u32 {
    u32::try_from(random.below(DIGESTS)).unwrap()
}
