//! Load: tasks that repeat one operation for a while.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ticket_format::report::{Report, exit};
use tokio::task::JoinSet;

/// How much one operation did; none when there is nothing left to do.
pub(crate) type Done = Result<Option<u64>, Report>;

/// What many did together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tally {
    /// How much.
    pub(crate) count: u64,
    /// Until the last one had ended.
    pub(crate) took: Duration,
}

impl Tally {
    /// In one second.
    #[allow(clippy::cast_precision_loss)] // counts far below 2^52
    pub(crate) fn per_s(self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }
}

/// Runs `operation` in so many tasks at a time until `span` is over, and gives what they did in one
/// second. The clock runs until the last one has ended, so nothing begun goes uncounted.
pub(crate) async fn rate<F, Fut>(tasks: usize, span: Duration, operation: F) -> Result<f64, Report>
where
    F: Fn(usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Done> + Send,
{
    tally(tasks, span, operation).await.map(Tally::per_s)
}

/// The same, and gives how much it was.
pub(crate) async fn tally<F, Fut>(
    tasks: usize,
    span: Duration,
    operation: F,
) -> Result<Tally, Report>
where
    F: Fn(usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Done> + Send,
{
    let operation = Arc::new(operation);
    let mut running = JoinSet::new();
    let started = Instant::now();
    for task in 0..tasks {
        let operation = Arc::clone(&operation);
        running.spawn(async move {
            let mut done = 0;
            while started.elapsed() < span {
                match operation(task).await? {
                    Some(count) => done += count,
                    None => break,
                }
            }
            Ok::<u64, Report>(done)
        });
    }
    let mut done = 0;
    while let Some(ended) = running.join_next().await {
        done += ended
            .map_err(|error| Report::new(exit::LOCAL, "a task of the load ended").why(error))??;
    }
    let took = started.elapsed();
    if done == 0 {
        return Err(Report::new(
            exit::LOCAL,
            "nothing was done in the time given",
        ));
    }
    Ok(Tally { count: done, took })
}

/// How long each of many took.
#[derive(Clone, Default)]
pub(crate) struct Times(Arc<Mutex<Vec<Duration>>>);

impl Times {
    /// One that began then, and has ended now.
    pub(crate) fn add(&self, begun: Instant) {
        let took = begun.elapsed();
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.push(took);
    }

    /// In milliseconds, what 1 in 100 is longer than.
    pub(crate) fn p99(&self) -> f64 {
        self.quantile(99)
    }

    /// In milliseconds, what so many in 100 are at most.
    pub(crate) fn quantile(&self, percent: usize) -> f64 {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.sort_unstable();
        let place = times.len() * percent / 100;
        times
            .get(place)
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_load_ends_when_there_is_nothing_left_to_do() {
        let left = Arc::new(AtomicU64::new(10));
        let taken = Arc::clone(&left);
        let operation = move |_| {
            let left = taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
            async move { Ok(left.ok().map(|_| 1)) }
        };
        let rate = rate(3, Duration::from_secs(60), operation).await.unwrap();
        assert!(rate > 0.0);
        assert_eq!(left.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_failure_ends_the_load_with_its_report() {
        let operation = |_| async { Err(Report::new(exit::RETRY, "down")) };
        let error = rate(2, Duration::from_secs(60), operation)
            .await
            .unwrap_err();
        assert_eq!(error.exit, exit::RETRY);
    }
}
