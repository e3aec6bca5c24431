//! Who knows what must be in the store: every update with what its sender was told.

use std::collections::BTreeMap;

use super::{Driver, Fate};

/// Who knows what must be in the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    reports: BTreeMap<u32, Reports>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reports {
    acknowledged: u64,
    /// Refused or not answered; each may count once.
    unknown: u64,
}

impl Oracle {
    /// Notes what the sender of a report was told.
    pub(crate) fn note(&mut self, numbers: &[u32], fate: Fate) {
        for &number in numbers {
            let reports = self.reports.entry(number).or_default();
            match fate {
                Fate::Counts => reports.acknowledged += 1,
                Fate::Unknown => reports.unknown += 1,
                Fate::DoesNot => {}
            }
        }
    }

    /// Checks one digest: nothing that was acknowledged is missing, nothing counts twice. A store in trouble may have no
    /// answer.
    pub(crate) fn check(&self, driver: &mut Driver, number: u32) -> Result<(), String> {
        self.check_with(driver, number, 0)
    }

    /// The same, with so many reports under way that have been taken up: they count already.
    pub(crate) fn check_with(
        &self,
        driver: &mut Driver,
        number: u32,
        under_way: u64,
    ) -> Result<(), String> {
        let reports = self.reports.get(&number).copied().unwrap_or_default();
        let Ok(record) = driver.check(number) else {
            return Ok(());
        };
        let least = reports.acknowledged + under_way;
        let most = least + reports.unknown;
        if (least..=most).contains(&record.r_count) {
            Ok(())
        } else {
            Err(format!(
                "digest {number} counts {}, which is not in {least}..={most}",
                record.r_count
            ))
        }
    }

    /// Checks every digest, and that the store has an answer for each.
    pub(crate) fn check_all(&self, driver: &mut Driver) -> Result<(), String> {
        for &number in self.reports.keys() {
            driver
                .check(number)
                .map_err(|_| format!("no answer for digest {number}"))?;
            self.check(driver, number)?;
        }
        Ok(())
    }

    /// Takes what the store says for the truth: after a restart nothing is unknown any more.
    pub(crate) fn settle(&mut self, driver: &mut Driver) -> Result<(), String> {
        self.check_all(driver)?;
        for (&number, reports) in &mut self.reports {
            let record = driver.check(number).map_err(|error| error.to_string())?;
            *reports = Reports {
                acknowledged: record.r_count,
                unknown: 0,
            };
        }
        Ok(())
    }
}
