//! What the servers use, sampled all the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tools::floods::Usage;

use crate::realm::Realm;
use crate::tally::{Tallies, f64_of};

/// Between samples.
const EVERY: Duration = Duration::from_secs(1);
/// Memory may be more at the end than when the servers were warm by one part in so many.
const MEMORY: u64 = 20;
/// Descriptors may be more by so many: a log's shard or the store's file that happens to be open twice.
const DESCRIPTORS: u64 = 4;
/// Names of the two servers.
const SERVERS: [&str; 2] = ["broker", "key server"];

/// Samples of both servers.
pub(crate) struct Watched {
    samples: [Vec<Usage>; 2],
}

impl Watched {
    /// Samples from when they are warm until the time is over.
    pub(crate) async fn over(
        realm: &Arc<Realm>,
        tallies: &Tallies,
        warm: Instant,
        until: Instant,
    ) -> Self {
        let mut samples: [Vec<Usage>; 2] = Default::default();
        tokio::time::sleep_until(warm.into()).await;
        while Instant::now() < until {
            for (number, pid) in realm.servers.pids().into_iter().enumerate() {
                match Usage::of(pid) {
                    Some(usage) => samples[number].push(usage),
                    None => {
                        tallies.breaks("server-gone", SERVERS[number].to_owned());
                        return Self { samples };
                    }
                }
            }
            tokio::time::sleep(EVERY).await;
        }
        Self { samples }
    }

    /// Holds the last quarter of the samples to the first.
    pub(crate) fn judge(&self, tallies: &Tallies) {
        for (name, samples) in SERVERS.into_iter().zip(&self.samples) {
            let [first, last] = ends(samples);
            if last.resident > first.resident + first.resident / MEMORY {
                let what = format!("{name}: {} KiB, then {} KiB", first.resident, last.resident);
                tallies.breaks("memory-grows", what);
            }
            if last.descriptors > first.descriptors + DESCRIPTORS {
                let what = format!("{name}: {}, then {}", first.descriptors, last.descriptors);
                tallies.breaks("descriptors-grow", what);
            }
        }
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut text = "| server | memory when warm KiB | at the end | growth | peak | descriptors | at the end | CPU s |\n|---|---|---|---|---|---|---|---|\n".to_owned();
        for (name, samples) in SERVERS.into_iter().zip(&self.samples) {
            let [first, last] = ends(samples);
            let (before, after) = (f64_of(first.resident.max(1)), f64_of(last.resident));
            text += &format!(
                "| {name} | {} | {} | {:+.1} % | {} | {} | {} | {:.0} |\n",
                first.resident,
                last.resident,
                100.0 * (after - before) / before,
                last.peak,
                first.descriptors,
                last.descriptors,
                last.cpu.as_secs_f64(),
            );
        }
        text
    }
}

/// The medians of the first quarter and of the last.
fn ends(samples: &[Usage]) -> [Usage; 2] {
    let quarter = (samples.len() / 4).max(1).min(samples.len());
    let of = |samples: &[Usage]| {
        let median = |of: fn(&Usage) -> u64| {
            let mut all: Vec<u64> = samples.iter().map(of).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        Usage {
            resident: median(|usage| usage.resident),
            peak: median(|usage| usage.peak),
            descriptors: median(|usage| usage.descriptors),
            cpu: samples.last().map(|usage| usage.cpu).unwrap_or_default(),
        }
    };
    [
        of(&samples[..quarter]),
        of(&samples[samples.len() - quarter..]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growing(by: u64) -> Watched {
        let sample = |number: u64| Usage {
            resident: 1_000 + by * number,
            descriptors: 10 + by * number / 10,
            ..Usage::default()
        };
        let samples = (0..100).map(sample).collect::<Vec<_>>();
        Watched {
            samples: [samples.clone(), samples],
        }
    }

    #[test]
    fn what_grows_is_named_and_what_does_not_is_not() {
        let tallies = Tallies::default();
        growing(0).judge(&tallies);
        assert_eq!(tallies.broken(), []);
        growing(10).judge(&tallies);
        let told: Vec<String> = tallies.broken().iter().map(ToString::to_string).collect();
        assert!(told[0].starts_with("memory-grows: broker: "), "{told:?}");
        assert!(
            told[1].starts_with("descriptors-grow: broker: "),
            "{told:?}"
        );
    }
}
