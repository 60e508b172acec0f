//! CPU time of the processes.

use std::time::Duration;

use ticket_format::report::{Report, exit};
use tools::floods::Usage;

/// What a process has used until now.
pub(crate) fn usage(pid: u32) -> Result<Usage, Report> {
    Usage::of(pid).ok_or_else(|| Report::new(exit::LOCAL, format!("process {pid} is gone")))
}

/// What this process has used until now.
pub(crate) fn own() -> Result<Usage, Report> {
    usage(std::process::id())
}

/// Microseconds of each.
#[allow(clippy::cast_precision_loss)] // counts far below 2^52
pub(crate) fn per(spent: Duration, count: u64) -> f64 {
    spent.as_secs_f64() * 1e6 / count.max(1) as f64
}
