//! What came of each kind of request, and which invariants were broken.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ticket_format::report::{Report, exit};

/// The most that is told of one invariant.
const TOLD: usize = 5;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    name: &'static str,
    what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.what)
    }
}

/// Requests of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    done: u64,
    shed: u64,
    slowest: Duration,
    took: Duration,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    honest: Mutex<BTreeMap<&'static str, Tally>>,
    hostile: Mutex<BTreeMap<String, tools::floods::Tally>>,
    broken: Mutex<Vec<Broken>>,
}

impl Tallies {
    /// Counts an honest request that began then. Its answer when it was done; none when it was refused so
    /// that another try may cure it. Anything else breaks an invariant.
    pub(crate) fn honest<T>(
        &self,
        name: &'static str,
        begun: Instant,
        result: Result<T, Report>,
    ) -> Option<T> {
        let took = begun.elapsed();
        let mut honest = locked(&self.honest);
        let tally = honest.entry(name).or_default();
        match result {
            Ok(answer) => {
                tally.done += 1;
                tally.took += took;
                tally.slowest = tally.slowest.max(took);
                Some(answer)
            }
            Err(report) if report.exit == exit::RETRY => {
                tally.shed += 1;
                None
            }
            Err(report) => {
                drop(honest);
                self.breaks("honest-refused", format!("{name}: {report}"));
                None
            }
        }
    }

    /// Adds what came of a flood.
    pub(crate) fn hostile(&self, name: String, tally: tools::floods::Tally) {
        let mut hostile = locked(&self.hostile);
        let all = hostile.entry(name).or_default();
        all.acts += tally.acts;
        all.sent += tally.sent;
        all.received += tally.received;
        all.served += tally.served;
        all.refused += tally.refused;
    }

    /// An invariant is broken.
    pub(crate) fn breaks(&self, name: &'static str, what: String) {
        let mut broken = locked(&self.broken);
        if broken.iter().filter(|broken| broken.name == name).count() < TOLD {
            broken.push(Broken { name, what });
        }
    }

    /// What was broken.
    pub(crate) fn broken(&self) -> Vec<Broken> {
        let mut broken = locked(&self.broken).clone();
        for (name, tally) in locked(&self.honest).iter() {
            if tally.done < tally.shed || tally.done == 0 {
                let what = format!(
                    "{name}: {} done, {} told to come again",
                    tally.done, tally.shed
                );
                broken.push(Broken {
                    name: "honest-starved",
                    what,
                });
            }
        }
        broken
    }

    /// The table of both sides.
    pub(crate) fn table(&self) -> String {
        let mut text =
            "| honest | done | to come again | mean ms | slowest ms |\n|---|---|---|---|---|\n"
                .to_owned();
        for (name, tally) in locked(&self.honest).iter() {
            let mean = tally.took.as_secs_f64() * 1e3 / f64_of(tally.done.max(1));
            let slowest = tally.slowest.as_secs_f64() * 1e3;
            text += &format!(
                "| {name} | {} | {} | {mean:.1} | {slowest:.0} |\n",
                tally.done, tally.shed
            );
        }
        text += "\n| hostile | acts | went along | broken off |\n|---|---|---|---|\n";
        for (name, tally) in locked(&self.hostile).iter() {
            text += &format!(
                "| {name} | {} | {} | {} |\n",
                tally.acts, tally.served, tally.refused
            );
        }
        text + "\n"
    }
}

/// Counts far below 2^52.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn f64_of(count: u64) -> f64 {
    count as f64
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_no_other_try_cures_breaks_an_invariant_and_busy_does_not() {
        let tallies = Tallies::default();
        let report = |code| Err::<(), _>(Report::new(code, "no"));
        tallies.honest("one", Instant::now(), Ok(()));
        tallies.honest("one", Instant::now(), report(exit::RETRY));
        assert_eq!(tallies.broken(), []);
        tallies.honest("one", Instant::now(), report(exit::DENIED));
        assert_eq!(tallies.broken()[0].name, "honest-refused");
        tallies.honest("two", Instant::now(), report(exit::RETRY));
        let names: Vec<_> = tallies.broken().iter().map(|broken| broken.name).collect();
        assert_eq!(names, ["honest-refused", "honest-starved"]);
    }
}
