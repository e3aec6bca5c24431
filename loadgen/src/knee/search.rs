//! One search: the rate is doubled until it fails, or halved until it does not; then each run is made at the rate that the knee is
//! as likely above as below.
//!
//! Machines are noisy, so no single run decides: one that went wrong is outvoted by later ones. Where the outcomes at a
//! rate come out now so, now so, this finds the rate that is met every other time.

use super::belief::Belief;
use crate::error::Error;
use crate::result::KneeLimit;
use crate::trials::Outcome;

/// Runs of one rate before it has failed, while the knee is not seen yet.
const TRIES: u32 = 2;
/// Those that were disturbed count half.
const DISTURBED_TRIES: u32 = 2 * TRIES;
/// Of the runs next to the knee, this share is taken to come out wrong,
const MISTAKEN: f64 = 0.2;
/// and this one of those that are disturbed. It is the same whether they meet or miss: else a machine that is always disturbed
/// would seem to do more than one that is not.
const MISTAKEN_WHEN_DISTURBED: f64 = 0.3;
/// How sure the interval is.
const LIKELY: f64 = 0.9;
/// Runs for one knee, at most. A quiet machine needs about 18.
const MAX_RUNS: u32 = 60;
/// Rates one after the other, half as high each, at which the machine must have made every run late to be given up.
const HOPELESS_RATES: u32 = 2;
/// Below this rate nothing is looked for, in requests a second.
const LOWEST_RATE_PER_S: f64 = 1.0;

/// How to search.
pub(super) struct Search {
    pub(super) from_per_s: f64,
    pub(super) to_per_s: f64,
    /// How well the knee must be known, up and down, as a share of it.
    pub(super) resolution: f64,
}

/// What came out of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) outcome: Outcome,
    /// The machine was not itself.
    pub(super) is_disturbed: bool,
    /// The machine made requests late, whatever the generator had to do: it would be late at a lower rate, too.
    pub(super) is_machines_fault: bool,
}

/// What one search found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) rate_per_s: f64,
    /// Between these it is with a likelihood of 0.9.
    pub(super) likely_per_s: (f64, f64),
    /// To the resolution that was asked for. Else the runs said now this, now that, to the last.
    pub(super) is_known: bool,
    pub(super) limit: KneeLimit,
}

impl Search {
    /// How many runs it takes at most.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are between 1e-5 and 1e8 requests a second"
    )]
    pub(super) fn most_runs(&self) -> u32 {
        let from = self.from_per_s.min(self.to_per_s);
        let octaves = |low: f64, high: f64| (high / low).log2().ceil().max(0.0) as u32;
        let up = octaves(from, self.to_per_s);
        let down = octaves(LOWEST_RATE_PER_S, from);
        DISTURBED_TRIES * (1 + up.max(down)) + MAX_RUNS
    }

    /// `attempt` runs a rate. `None` if it was stopped.
    pub(super) fn run(
        &self,
        attempt: &mut impl FnMut(f64) -> Result<Attempt, Error>,
    ) -> Result<Option<Found>, Error> {
        match self.bracket(attempt)? {
            Some((low, high, limit)) => self.narrow(low, high, limit, attempt),
            None => Ok(None),
        }
    }

    /// A rate that was met and one that was not, for this reason; or half the highest that was to be tried, and it. `None` if it was
    /// stopped.
    fn bracket(
        &self,
        attempt: &mut impl FnMut(f64) -> Result<Attempt, Error>,
    ) -> Result<Option<(f64, f64, KneeLimit)>, Error> {
        // The highest rate that was met, and the lowest that was not.
        let (mut low, mut high) = (None::<f64>, None::<(f64, KneeLimit)>);
        let mut rate = self.from_per_s.min(self.to_per_s);
        let mut hopeless = 0;
        loop {
            let Tried {
                outcome,
                is_machines_fault,
            } = several(rate, attempt)?;
            hopeless = if is_machines_fault { hopeless + 1 } else { 0 };
            if low.is_none() && hopeless >= HOPELESS_RATES {
                return Err(Error::BusyMachine { lowest_per_s: rate });
            }
            match outcome {
                Outcome::Stopped => return Ok(None),
                Outcome::Met => low = Some(rate),
                missed => high = Some((rate, limit(missed))),
            }
            rate = match (low, high) {
                (Some(low), Some((high, limit))) => return Ok(Some((low, high, limit))),
                (Some(low), None) if low >= self.to_per_s => {
                    return Ok(Some((low / 2.0, low, KneeLimit::Asked)));
                }
                (Some(low), None) => (low * 2.0).min(self.to_per_s),
                (None, Some((high, limit))) if high <= LOWEST_RATE_PER_S => {
                    return Err(Error::NoKnee {
                        lowest_per_s: high,
                        generator: limit == KneeLimit::Generator,
                    });
                }
                (None, high) => {
                    let high = high.map_or(rate, |(high, _)| high);
                    (high / 2.0).max(LOWEST_RATE_PER_S)
                }
            };
        }
    }

    fn narrow(
        &self,
        low: f64,
        high: f64,
        first_limit: KneeLimit,
        attempt: &mut impl FnMut(f64) -> Result<Attempt, Error>,
    ) -> Result<Option<Found>, Error> {
        let all = (LOWEST_RATE_PER_S, self.to_per_s);
        let mut belief = Belief::between((low, high), all, self.resolution);
        let mut limits = Vec::new();
        for _ in 0..MAX_RUNS {
            if self.is_known(&belief) {
                break;
            }
            let rate_per_s = belief.most_telling();
            let Attempt {
                outcome,
                is_disturbed,
                ..
            } = attempt(rate_per_s)?;
            let mistaken = if is_disturbed {
                MISTAKEN_WHEN_DISTURBED
            } else {
                MISTAKEN
            };
            match outcome {
                Outcome::Stopped => return Ok(None),
                Outcome::Met => belief.note(rate_per_s, true, mistaken),
                missed => {
                    belief.note(rate_per_s, false, mistaken);
                    limits.push(limit(missed));
                }
            }
        }
        let likely_per_s = likely(&belief);
        let is_known = self.is_known(&belief);
        let is_at_the_end = likely_per_s.1 >= self.to_per_s;
        // What cannot be told from the end is the end.
        let rate_per_s = if is_known && is_at_the_end {
            self.to_per_s
        } else {
            belief.quantile(0.5)
        };
        let limit = if is_at_the_end {
            KneeLimit::Asked
        } else {
            most_common(&limits).unwrap_or(first_limit)
        };
        Ok(Some(Found {
            rate_per_s,
            likely_per_s,
            is_known,
            limit,
        }))
    }

    fn is_known(&self, belief: &Belief) -> bool {
        let (low, high) = likely(belief);
        high <= low * (1.0 + 2.0 * self.resolution)
    }
}

fn likely(belief: &Belief) -> (f64, f64) {
    let outside = (1.0 - LIKELY) / 2.0;
    (belief.quantile(outside), belief.quantile(1.0 - outside))
}

fn limit(missed: Outcome) -> KneeLimit {
    match missed {
        Outcome::Void => KneeLimit::Generator,
        _ => KneeLimit::Server,
    }
}

/// The most common of them, and the most cautious of those that are as common; `None` of none.
pub(super) fn most_common(limits: &[KneeLimit]) -> Option<KneeLimit> {
    let count = |limit: &KneeLimit| limits.iter().filter(|each| *each == limit).count();
    let by_caution = [KneeLimit::Server, KneeLimit::Asked, KneeLimit::Generator];
    // The last one of several that are as common.
    let found = by_caution.into_iter().max_by_key(count);
    found.filter(|_| !limits.is_empty())
}

/// What came out of some runs of one rate.
struct Tried {
    outcome: Outcome,
    /// Of each of them.
    is_machines_fault: bool,
}

/// Runs a rate until it meets the objectives or has failed.
fn several(
    rate_per_s: f64,
    attempt: &mut impl FnMut(f64) -> Result<Attempt, Error>,
) -> Result<Tried, Error> {
    let mut failures = 0;
    let mut is_always_machines_fault = true;
    loop {
        let Attempt {
            outcome,
            is_disturbed,
            is_machines_fault,
        } = attempt(rate_per_s)?;
        is_always_machines_fault &= is_machines_fault && outcome == Outcome::Void;
        failures += if is_disturbed {
            1
        } else {
            DISTURBED_TRIES / TRIES
        };
        let is_over = matches!(outcome, Outcome::Met | Outcome::Stopped);
        if is_over || failures >= DISTURBED_TRIES {
            return Ok(Tried {
                outcome,
                is_machines_fault: is_always_machines_fault,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::SplitMix64;

    const SEARCH: Search = Search {
        from_per_s: 1000.0,
        to_per_s: 1e6,
        resolution: 0.02,
    };

    fn attempt(outcome: Outcome) -> Attempt {
        Attempt {
            outcome,
            is_disturbed: false,
            is_machines_fault: false,
        }
    }

    fn is_met(is_met: bool) -> Attempt {
        attempt(if is_met {
            Outcome::Met
        } else {
            Outcome::Missed
        })
    }

    /// A server that meets the objectives up to `knee`, and a generator that keeps up to `generator`.
    fn found(knee: f64, generator: f64) -> Result<Option<Found>, Error> {
        let mut runs = 0;
        let found = SEARCH.run(&mut |rate| {
            runs += 1;
            Ok(if rate > generator {
                attempt(Outcome::Void)
            } else {
                is_met(rate <= knee)
            })
        });
        assert!(runs <= 40, "{runs}");
        found
    }

    fn assert_near(found: &Found, knee: f64, share: f64) {
        let (rate, (low, high)) = (found.rate_per_s, found.likely_per_s);
        assert!((rate / knee - 1.0).abs() <= share, "{found:?} for {knee}");
        assert!(low <= rate && rate <= high, "{found:?}");
    }

    #[test]
    fn the_knee_is_found_to_the_resolution_from_either_side() {
        for knee in [1.5, 30.0, 999.0, 1000.0, 1001.0, 77_777.0, 654_321.0] {
            let found = found(knee, 1e9).unwrap().unwrap();
            assert_near(&found, knee, 0.02);
            assert_eq!(found.limit, KneeLimit::Server);
        }
    }

    #[test]
    fn other_limits_than_the_servers_are_told() {
        let generator = found(1e9, 5e4).unwrap().unwrap();
        assert_eq!(generator.limit, KneeLimit::Generator);
        let asked = found(1e9, 1e9).unwrap().unwrap();
        assert_near(&asked, 1e6, 0.0);
        assert_eq!(asked.limit, KneeLimit::Asked);
        let is_generators = |found| match found {
            Err(Error::NoKnee { generator, .. }) => generator,
            other => panic!("{other:?}"),
        };
        assert!(!is_generators(found(0.0, 1e9)));
        assert!(is_generators(found(0.0, 0.0)));
    }

    #[test]
    fn a_knee_that_every_run_sees_elsewhere_is_found_all_the_same() {
        let mut random = SplitMix64::new(1);
        for _ in 0..20 {
            let found = SEARCH.run(&mut |rate| {
                // By a tenth up or down, evenly.
                let noise = 0.9 + f64::from(random.below(200)) / 1000.0;
                Ok(is_met(rate <= 80_000.0 * noise))
            });
            assert_near(&found.unwrap().unwrap(), 80_000.0, 0.06);
        }
    }

    #[test]
    fn a_wrong_bracket_is_left() {
        let mut runs = 0;
        let found = SEARCH.run(&mut |rate| {
            runs += 1;
            // Two failures in a row far below the knee, as if it were between 1000 and 2000.
            Ok(is_met(rate <= 9000.0 && !(2..=3).contains(&runs)))
        });
        assert_near(&found.unwrap().unwrap(), 9000.0, 0.02);
    }

    #[test]
    fn the_highest_rate_is_the_limit_whatever_was_missed_at_first() {
        let mut runs = 0;
        let search = Search {
            to_per_s: 4000.0,
            ..SEARCH
        };
        let found = search.run(&mut |_| {
            runs += 1;
            Ok(is_met(!(3..=4).contains(&runs)))
        });
        let found = found.unwrap().unwrap();
        assert_near(&found, 4000.0, 0.0);
        assert_eq!(found.limit, KneeLimit::Asked);
    }

    #[test]
    fn what_a_cold_start_makes_of_the_first_runs_is_forgotten() {
        let mut runs = 0;
        let found = SEARCH.run(&mut |rate| {
            runs += 1;
            Ok(is_met(rate <= 90_000.0 && runs > 2))
        });
        assert_near(&found.unwrap().unwrap(), 90_000.0, 0.02);
    }

    #[test]
    fn a_machine_that_is_always_disturbed_does_not_seem_faster() {
        let mut random = SplitMix64::new(2);
        let mut runs = 0;
        let mut found = || {
            let found = SEARCH.run(&mut |rate| {
                runs += 1;
                let noise = 0.9 + f64::from(random.below(200)) / 1000.0;
                Ok(Attempt {
                    is_disturbed: true,
                    ..is_met(rate <= 80_000.0 * noise)
                })
            });
            found.unwrap().unwrap().rate_per_s
        };
        let mean = (0..20).map(|_| found()).sum::<f64>() / 20.0;
        assert!((mean / 80_000.0 - 1.0).abs() < 0.02, "{mean}");
    }

    #[test]
    fn what_never_settles_is_not_known() {
        let mut runs = 0;
        let found = SEARCH.run(&mut |rate| {
            runs += 1;
            let knee = if runs / 10 % 2 == 0 {
                20_000.0
            } else {
                200_000.0
            };
            Ok(is_met(rate <= knee))
        });
        let found = found.unwrap().unwrap();
        assert!(!found.is_known, "{found:?}");
    }

    #[test]
    fn runs_that_were_disturbed_count_less() {
        let mut runs = 0;
        let found = SEARCH.run(&mut |rate| {
            runs += 1;
            let is_disturbed = runs % 3 == 0;
            Ok(Attempt {
                is_disturbed,
                ..is_met(rate <= 5000.0 && !is_disturbed)
            })
        });
        assert_near(&found.unwrap().unwrap(), 5000.0, 0.05);
    }

    #[test]
    fn a_machine_that_is_too_busy_at_any_rate_is_given_up() {
        let mut runs = 0;
        let busy = |rate: f64, from: f64| Attempt {
            is_machines_fault: rate < from,
            ..attempt(Outcome::Void)
        };
        let error = SEARCH.run(&mut |rate| {
            runs += 1;
            Ok(busy(rate, 1e9))
        });
        let lowest = error.unwrap_err();
        assert!(
            matches!(lowest, Error::BusyMachine { lowest_per_s } if (lowest_per_s - 500.0).abs() < 1.0),
            "{lowest}"
        );
        assert_eq!(runs, 4);
        // A generator that is too slow, or late but once, goes on to lower rates.
        let mut runs = 0;
        let found = SEARCH.run(&mut |rate| {
            runs += 1;
            Ok(if rate > 100.0 {
                busy(rate, 600.0 * f64::from(runs % 2))
            } else {
                is_met(true)
            })
        });
        assert_near(&found.unwrap().unwrap(), 100.0, 0.02);
    }

    #[test]
    fn no_search_takes_more_runs_than_it_says() {
        for knee in [0.5, 1.5, 999.0, 77_777.0, 1e9] {
            let mut runs = 0;
            let _ = SEARCH.run(&mut |rate| {
                runs += 1;
                // As long as it can take: every rate but the last is tried again, and no two agree.
                let is_disturbed = true;
                Ok(Attempt {
                    is_disturbed,
                    ..is_met((rate <= knee) == (runs % 4 == 0))
                })
            });
            assert!(runs <= SEARCH.most_runs(), "{runs} for {knee}");
        }
        // 14 times twice as much, and that rate itself.
        assert_eq!(
            Search {
                from_per_s: 1000.0,
                to_per_s: 1e7,
                resolution: 0.02
            }
            .most_runs(),
            60 + 4 * 15
        );
    }

    #[test]
    fn a_stopped_search_finds_nothing() {
        assert_eq!(
            SEARCH.run(&mut |_| Ok(attempt(Outcome::Stopped))).unwrap(),
            None
        );
    }
}
