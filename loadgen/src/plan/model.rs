//! The arithmetic of a capacity plan. Every number that is assumed and not measured is named, with where it comes from.

use crate::result::RunResult;

/// Where the numbers below were measured: 10 million digests, on the machine that the run names.
pub(crate) const STORE_RUN: &str = "ops/runs/2026-11-21-vm-scale";
/// "hot set: room for …, 91 bytes each".
pub(crate) const HOT_SET_BYTES_A_DIGEST: f64 = 91.0;
/// "filter: 28 MiB" for 10 million digests.
pub(crate) const FILTER_BYTES_A_DIGEST: f64 = 28.0 * MIB / 1e7;
/// A filter is built anew beside the old one.
pub(crate) const FILTERS_AT_ONCE: f64 = 2.0;
/// The server's default `HotSetMemory` and `StoreCache`.
const BUDGET_BYTES: f64 = 256.0 * MIB;
/// Resident were 919 MiB with 2,306,198 digests in the hot set (200 MiB), a full page cache (256) and the filter (28): the rest.
const OTHER_BYTES: f64 = 435.0 * MIB;
/// "the store: 1438 MiB", right after an import of 10 million digests.
const DISK_BYTES_A_DIGEST: f64 = 1438.0 * MIB / 1e7;
/// Files grow while pages are written anew before the old ones are free; at most all of them at once. Not measured.
pub(crate) const DISK_COPIES: f64 = 2.0;

const MIB: f64 = 1_048_576.0;
const DAYS_PER_MONTH: f64 = 30.4375;

/// What the plan is for.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    pub(crate) target_rate_per_s: f64,
    /// Share of a host's capacity that is kept free.
    pub(crate) headroom: f64,
    /// Relative growth a month.
    pub(crate) growth_a_month: f64,
    pub(crate) cores_a_host: f64,
    /// Digests stored at a time; derived from reports and the age at which they go where it is not given.
    pub(crate) digests: Option<f64>,
    pub(crate) cleanup_age_days: f64,
    pub(crate) store: StoreCosts,
}

/// What a server's store takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StoreCosts {
    /// The server's `HotSetMemory`.
    pub(crate) hot_set_bytes: f64,
    /// Its `StoreCache`.
    pub(crate) cache_bytes: f64,
    /// What the process takes beside hot set, cache and filter.
    pub(crate) other_bytes: f64,
    pub(crate) disk_bytes_a_digest: f64,
}

/// What was measured, as far as the plan needs it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    /// The highest rate that a run kept up without breaking the objectives, or was answered.
    pub(crate) rate_per_s: f64,
    /// Cores of the server at that rate.
    pub(crate) cores: f64,
    /// Reports of all requests: 0 to 1.
    pub(crate) report_share: f64,
    /// By rate.
    pub(crate) loads: Vec<Load>,
    /// Whether the cores were measured, or one is assumed.
    pub(crate) has_cores: bool,
    /// Runs that count, and those of them in which requests were sent late.
    pub(crate) runs: usize,
    pub(crate) late_runs: usize,
}

/// Latency at one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) rate_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: f64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) rate_a_core_per_s: f64,
    /// What one host may be given, with the headroom kept.
    pub(crate) rate_a_host_per_s: f64,
    /// Whole cores, over all hosts.
    pub(crate) cores: f64,
    pub(crate) hosts: f64,
    /// Of the rate that one core answers at most: 0 to 1.
    pub(crate) utilisation: f64,
    /// At the planned rate on each host; `None` where no run came near.
    pub(crate) latency: Option<Load>,
    pub(crate) digests: f64,
    /// Resident, on each host that holds all digests.
    pub(crate) memory_bytes: f64,
    pub(crate) disk_bytes: f64,
    /// Months until the hosts are too few; `None` without growth.
    pub(crate) next_host_months: Option<f64>,
}

impl StoreCosts {
    /// As measured, with the server's default budgets.
    pub(crate) const MEASURED: Self = Self {
        hot_set_bytes: BUDGET_BYTES,
        cache_bytes: BUDGET_BYTES,
        other_bytes: OTHER_BYTES,
        disk_bytes_a_digest: DISK_BYTES_A_DIGEST,
    };

    fn memory_bytes(&self, digests: f64) -> f64 {
        let hot = (digests * HOT_SET_BYTES_A_DIGEST).min(self.hot_set_bytes);
        let filters = digests * FILTER_BYTES_A_DIGEST * FILTERS_AT_ONCE;
        hot + filters + self.cache_bytes + self.other_bytes
    }

    fn disk_bytes(&self, digests: f64) -> f64 {
        digests * self.disk_bytes_a_digest * DISK_COPIES
    }
}

impl Measured {
    /// From runs that say something of the server, by the same rule as a search goes by: those that are not void, and those
    /// that only sent late and kept their rate all the same. `knee_per_s` is the rate a search found, if one was made. `None`
    /// without an answer.
    pub(crate) fn of(runs: &[RunResult], knee_per_s: Option<f64>) -> Option<Self> {
        let usable: Vec<&RunResult> = runs
            .iter()
            .filter(|run| run.void.is_none() || run.is_only_late())
            .filter(|run| run.answered > 0 && run.rate_per_s > 0.0)
            .collect();
        let fits = |run: &&&RunResult| knee_per_s.is_none_or(|knee| run.rate_per_s <= knee * 1.02);
        let candidates = usable.iter().filter(fits);
        let best = candidates.max_by(|a, b| a.rate_per_s.total_cmp(&b.rate_per_s))?;
        let sent: u64 = usable.iter().map(|run| run.sent).sum();
        let reports = usable.iter().flat_map(|run| &run.operations);
        let reports = reports.filter(|each| ["report", "whitelist"].contains(&&each.operation[..]));
        let rate_per_s = knee_per_s.unwrap_or(best.rate_per_s);
        Some(Self {
            rate_per_s,
            // A core that was not full did no more within the objectives: its rest is not counted on.
            cores: best.server.as_ref().map_or(1.0, |server| {
                (server.cores * rate_per_s / best.rate_per_s).max(1.0)
            }),
            report_share: crate::cpu::share(reports.map(|each| each.sent).sum(), sent),
            loads: loads(&usable),
            has_cores: best.server.is_some(),
            runs: usable.len(),
            late_runs: usable.iter().filter(|run| run.void.is_some()).count(),
        })
    }
}

/// Each run's latency, from the intended time where there is one, by rate.
fn loads(runs: &[&RunResult]) -> Vec<Load> {
    let load = |run: &&RunResult| {
        let points = run
            .intended()
            .unwrap_or_else(|| run.service())
            .percentiles();
        Load {
            rate_per_s: run.rate_per_s,
            p50_us: points.p50_us,
            p99_us: points.p99_us,
            p99_9_us: points.p99_9_us,
        }
    };
    let mut loads: Vec<Load> = runs.iter().map(load).collect();
    loads.sort_by(|a, b| a.rate_per_s.total_cmp(&b.rate_per_s));
    loads
}

impl Plan {
    pub(crate) fn of(measured: &Measured, demand: &Demand) -> Self {
        // A host cannot answer more a core than its measured cores did.
        let rate_a_core_per_s = measured.rate_per_s / measured.cores.max(f64::MIN_POSITIVE);
        let usable = 1.0 - demand.headroom;
        let rate_a_host_per_s = rate_a_core_per_s * demand.cores_a_host * usable;
        let hosts = (demand.target_rate_per_s / rate_a_host_per_s)
            .ceil()
            .max(1.0);
        let cores = (demand.target_rate_per_s / (rate_a_core_per_s * usable))
            .ceil()
            .max(1.0);
        let digests = demand.digests.unwrap_or_else(|| stored(measured, demand));
        let share = demand.target_rate_per_s / (hosts * rate_a_core_per_s * demand.cores_a_host);
        Self {
            rate_a_core_per_s,
            rate_a_host_per_s,
            cores,
            hosts,
            utilisation: share,
            latency: latency_at(&measured.loads, measured.rate_per_s * share),
            digests,
            memory_bytes: demand.store.memory_bytes(digests),
            disk_bytes: demand.store.disk_bytes(digests),
            next_host_months: months_until(
                demand.target_rate_per_s,
                hosts * rate_a_host_per_s,
                demand.growth_a_month,
            ),
        }
    }
}

/// As if every report named a new digest, until it is as old as it may get.
fn stored(measured: &Measured, demand: &Demand) -> f64 {
    const S_PER_DAY: f64 = 86_400.0;
    demand.target_rate_per_s * measured.report_share * demand.cleanup_age_days * S_PER_DAY
}

/// Between the two runs around the rate, linearly; below the slowest run as that one, as latency does not fall with less
/// load to speak of. `None` above the fastest.
fn latency_at(loads: &[Load], rate_per_s: f64) -> Option<Load> {
    let above = loads
        .iter()
        .position(|load| load.rate_per_s >= rate_per_s * 0.999)?;
    let high = loads[above];
    let Some(low) = above.checked_sub(1).map(|below| loads[below]) else {
        return Some(Load { rate_per_s, ..high });
    };
    let span = high.rate_per_s - low.rate_per_s;
    let part = ((rate_per_s - low.rate_per_s) / span).clamp(0.0, 1.0);
    let between = |low: f64, high: f64| low + (high - low) * part;
    Some(Load {
        rate_per_s,
        p50_us: between(low.p50_us, high.p50_us),
        p99_us: between(low.p99_us, high.p99_us),
        p99_9_us: between(low.p99_9_us, high.p99_9_us),
    })
}

/// Until `rate` has grown to `capacity`.
fn months_until(rate: f64, capacity: f64, growth_a_month: f64) -> Option<f64> {
    (growth_a_month > 0.0).then(|| ((capacity / rate).ln() / growth_a_month.ln_1p()).max(0.0))
}

/// Bytes as in the server's configuration: 256M, 1G, 65536.
pub(crate) fn bytes(text: &str) -> Result<f64, String> {
    const UNITS: [(&str, f64); 4] = [
        ("K", 1024.0),
        ("M", MIB),
        ("G", 1024.0 * MIB),
        ("T", 1_048_576.0 * MIB),
    ];
    let (number, unit) = UNITS
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))
        .unwrap_or((text, 1.0));
    match number.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number * unit),
        _ => Err("expected bytes such as 256M, 1G or 65536".to_owned()),
    }
}

/// A growth such as "5%/month", as a share a month.
pub(crate) fn growth(text: &str) -> Result<f64, String> {
    const MONTHS_PER_YEAR: f64 = 12.0;
    let expected = "expected a percentage a month or a year, such as 5%/month".to_owned();
    let (number, period) = text.split_once('/').ok_or(expected.clone())?;
    let share = crate::flags::percentage(number).map_err(|_| expected.clone())?;
    match period.trim() {
        "month" => Ok(share),
        "year" => Ok((share.ln_1p() / MONTHS_PER_YEAR).exp_m1()),
        _ => Err(expected),
    }
}

/// A time such as "4month", "120d", "10w", or seconds as in the server's configuration; in days.
pub(crate) fn age_days(text: &str) -> Result<f64, String> {
    const UNITS: [(&str, f64); 5] = [
        ("months", DAYS_PER_MONTH),
        ("month", DAYS_PER_MONTH),
        ("w", 7.0),
        ("d", 1.0),
        ("s", 1.0 / 86_400.0),
    ];
    let (number, days) = UNITS
        .iter()
        .find_map(|(unit, days)| Some((text.strip_suffix(unit)?, *days)))
        .unwrap_or((text, 1.0 / 86_400.0));
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number * days),
        _ => Err("expected an age such as 120d, 4months, or seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::{example, scheduled};

    fn near(found: f64, expected: f64) -> bool {
        (found / expected - 1.0).abs() < 1e-6
    }

    fn load(rate_per_s: f64, p50_us: f64) -> Load {
        Load {
            rate_per_s,
            p50_us,
            p99_us: 10.0 * p50_us,
            p99_9_us: 100.0 * p50_us,
        }
    }

    fn measured() -> Measured {
        Measured {
            rate_per_s: 200_000.0,
            cores: 2.0,
            report_share: 0.1,
            loads: vec![load(50_000.0, 100.0), load(150_000.0, 300.0)],
            has_cores: true,
            runs: 2,
            late_runs: 0,
        }
    }

    fn demand() -> Demand {
        Demand {
            target_rate_per_s: 500_000.0,
            headroom: 0.30,
            growth_a_month: 0.05,
            cores_a_host: 4.0,
            digests: None,
            cleanup_age_days: 10.0,
            store: StoreCosts::MEASURED,
        }
    }

    #[test]
    fn hosts_and_cores_keep_the_headroom() {
        let plan = Plan::of(&measured(), &demand());
        assert!(near(plan.rate_a_core_per_s, 100_000.0));
        assert!(near(plan.rate_a_host_per_s, 280_000.0));
        // 500,000 over 70,000 a core is 7.14; over 280,000 a host 1.79.
        assert!(near(plan.cores, 8.0) && near(plan.hosts, 2.0));
        // Of 800,000 that both could answer at most.
        assert!(near(plan.utilisation, 0.625));
        // 125,000 of the measured 200,000: three quarters from 50,000 to 150,000.
        assert!(
            near(plan.latency.unwrap().p50_us, 250.0),
            "{:?}",
            plan.latency
        );
        // 560,000 over 500,000 at 5 % a month.
        assert!(near(
            plan.next_host_months.unwrap(),
            1.12f64.ln() / 1.05f64.ln()
        ));
    }

    #[test]
    fn digests_follow_from_reports_and_their_age() {
        let plan = Plan::of(&measured(), &demand());
        assert!(near(plan.digests, 50_000.0 * 864_000.0));
        assert!(near(
            plan.disk_bytes,
            plan.digests * 2.0 * DISK_BYTES_A_DIGEST
        ));
        let few = Plan::of(
            &measured(),
            &Demand {
                digests: Some(1e6),
                ..demand()
            },
        );
        let filters = 2.0 * 2.8 * MIB;
        let expected = 91e6 + filters + 256.0 * MIB + 435.0 * MIB;
        assert!(near(few.memory_bytes, expected));
    }

    #[test]
    fn the_run_that_was_measured_has_what_it_was_measured_to_have() {
        // Of the 256 MiB for the hot set 200 were in use then, and one filter was in memory.
        let memory_mib = StoreCosts::MEASURED.memory_bytes(1e7) / MIB;
        assert!(near(memory_mib, 919.0 + 56.0 + 28.0), "{memory_mib}");
        assert!(near(
            StoreCosts::MEASURED.disk_bytes(1e7),
            2.0 * 1438.0 * MIB
        ));
    }

    #[test]
    fn latency_beyond_what_was_measured_is_not_made_up() {
        let loads = measured().loads;
        assert_eq!(
            latency_at(&loads, 10_000.0).unwrap().p50_us.to_bits(),
            100f64.to_bits()
        );
        assert_eq!(
            latency_at(&loads, 150_001.0).unwrap().p50_us.to_bits(),
            300f64.to_bits()
        );
        assert_eq!(latency_at(&loads, 160_000.0), None);
        assert_eq!(months_until(1.0, 2.0, 0.0), None);
    }

    #[test]
    fn void_runs_are_left_out_and_a_knee_bounds_the_rate() {
        let mut faster = example(1_700.0);
        faster.rate_per_s = 99_000.0;
        faster.void = Some("fell behind".to_owned());
        let runs = [example(1_700.0), faster];
        let found = Measured::of(&runs, None).unwrap();
        assert!(near(found.rate_per_s, 10_000.4) && near(found.cores, 1.0));
        let knee = Measured::of(&runs, Some(20_000.8)).unwrap();
        assert!(near(knee.rate_per_s, 20_000.8) && near(knee.cores, 1.98));
        assert_eq!(Measured::of(&runs[1..], None), None);
    }

    #[test]
    fn a_run_counts_that_was_sent_late_and_met_its_rate_as_it_does_for_a_search() {
        let mut late = scheduled(example(1_700.0), 10_000.0);
        late.void = Some("the generator fell behind".to_owned());
        let found = Measured::of(&[late.clone()], Some(10_000.0)).unwrap();
        assert!(near(found.rate_per_s, 10_000.0));
        assert_eq!((found.runs, found.late_runs), (1, 1));
        late.losses.unsent = 1;
        assert_eq!(Measured::of(&[late], None), None);
    }

    #[test]
    fn growth_and_ages_are_read() {
        assert!(near(growth("5%/month").unwrap(), 0.05));
        assert!(near((1.0 + growth("60%/year").unwrap()).powi(12), 1.6));
        assert!(near(age_days("4months").unwrap(), 121.75));
        assert!(near(age_days("864000").unwrap(), 10.0));
        for wrong in ["5%", "x/month", "5%/week"] {
            assert!(growth(wrong).is_err(), "{wrong}");
        }
        assert!(age_days("-1d").is_err() && age_days("soon").is_err());
        assert!(near(bytes("1.5G").unwrap(), 1536.0 * MIB) && near(bytes("7").unwrap(), 7.0));
        assert!(bytes("-1M").is_err() && bytes("1P").is_err() && bytes("infG").is_err());
    }
}
