//! How copying goes on: a bar on a terminal, a line every ten seconds otherwise.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::app::talk;
use crate::s3::copy::{Job, Progress, Quiet};

/// Between two lines where no bar can be.
const LINES: Duration = Duration::from_secs(10);

/// What tells of a copy of `objects` objects.
#[must_use]
pub fn progress(objects: u64, quiet: bool) -> Arc<dyn Progress> {
    if quiet {
        Arc::new(Quiet)
    } else if std::io::stderr().is_terminal() {
        Arc::new(Bar::new(objects))
    } else {
        Arc::new(Lines::new(objects))
    }
}

/// How going through a prefix goes on, whose number of objects nobody knows before.
#[derive(Debug)]
pub enum Looking {
    /// Not told.
    Quiet,
    /// On a terminal.
    Spinner(ProgressBar),
    /// A line when the last is ten seconds old.
    Lines(Instant),
}

impl Looking {
    /// As the terminal allows.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Instant::now());
        }
        let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            spinner.set_style(style);
        }
        Self::Spinner(spinner)
    }

    /// Tells how many objects were looked at and are done.
    pub fn tell(&mut self, looked: u64, done: u64) {
        let text = || format!("{looked} looked at, {done} done");
        match self {
            Self::Quiet => {}
            Self::Spinner(spinner) => {
                spinner.set_message(text());
                spinner.tick();
            }
            Self::Lines(last) if last.elapsed() >= LINES => {
                *last = Instant::now();
                talk(text());
            }
            Self::Lines(_) => {}
        }
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        if let Self::Spinner(spinner) = self {
            spinner.finish_and_clear();
        }
    }
}

struct Bar {
    bar: ProgressBar,
    objects: u64,
    ended: AtomicU64,
    expected: AtomicU64,
}

impl Bar {
    fn new(objects: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(template);
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(format!("0/{objects}"));
        Self {
            bar,
            objects,
            ended: AtomicU64::new(0),
            expected: AtomicU64::new(0),
        }
    }
}

impl Progress for Bar {
    fn begin(&self, _job: &Job, len: Option<u64>) {
        let len = len.unwrap_or_default();
        let before = self.expected.fetch_add(len, Ordering::Relaxed);
        self.bar.set_length(before + len);
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn end(&self, _job: &Job, _failure: Option<&dyn std::error::Error>) {
        let ended = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        self.bar.set_message(format!("{ended}/{}", self.objects));
        if ended == self.objects {
            self.bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

struct Lines {
    objects: u64,
    ended: AtomicU64,
    bytes: AtomicU64,
    begun: Instant,
    /// Milliseconds after `begun` at which the next line is due.
    next: AtomicU64,
}

impl Lines {
    fn new(objects: u64) -> Self {
        Self {
            objects,
            ended: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            begun: Instant::now(),
            next: AtomicU64::new(LINES.as_millis() as u64),
        }
    }
}

impl Progress for Lines {
    fn advance(&self, bytes: u64) {
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let now = self.begun.elapsed().as_millis() as u64;
        let next = self.next.load(Ordering::Relaxed);
        let due = now >= next
            && self
                .next
                .compare_exchange(
                    next,
                    now + LINES.as_millis() as u64,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        if due {
            let ended = self.ended.load(Ordering::Relaxed);
            talk(format!(
                "{ended} of {} objects, {}",
                self.objects,
                HumanBytes(total)
            ));
        }
    }

    fn end(&self, _job: &Job, _failure: Option<&dyn std::error::Error>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}
