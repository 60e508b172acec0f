//! Hooks: a program of the operator that is told of an alarm (`spec/protocol.md`, EXP-4).
//!
//! Who tells never waits: a line goes into a bounded queue or is counted as dropped. A run has its
//! own process group, a cleared environment and a bounded time; what is left of the group when the
//! program has ended, or its time has, is killed. A program that leaves its group by `setsid`
//! outlives its run: it is the operator's own.

mod run;

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use run::{Ended, Program};

/// The table `[hooks]` of a server's configuration: for each occasion a program, by its absolute
/// path, and its arguments; an empty list is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HooksConfig {
    /// Told of every alarm.
    pub alarm: Vec<String>,
    /// Told of every proposal that waits for signatures (PRO-3).
    pub proposal: Vec<String>,
}

/// How much a hook may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookLimits {
    /// Longest run; then it is killed.
    pub run_time: Duration,
    /// How many lines wait.
    pub queue: usize,
    /// How many programs run at a time.
    pub at_once: usize,
    /// How many bytes of each of its outputs are logged.
    pub output: usize,
    /// Longest line, in bytes.
    pub line: usize,
}

impl Default for HookLimits {
    fn default() -> Self {
        Self {
            run_time: Duration::from_secs(10),
            queue: 256,
            at_once: 4,
            output: 4 * 1024,
            line: 64 * 1024,
        }
    }
}

/// What is wrong with a hook's configuration.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// A relative path would depend on where the server was started.
    #[error("hook {0:?} is no absolute path: name the program by the path from /")]
    NotAbsolute(String),
    /// An argument cannot be passed on.
    #[error("an argument of hook {0:?} has a zero byte")]
    ZeroByte(String),
    /// It is not there, or not to be looked at.
    #[error("hook {path} cannot be used: {error}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A directory, a device, or not executable.
    #[error("hook {0} is no executable file: name a program, and chmod +x it")]
    NotExecutable(PathBuf),
    /// Anybody on the machine could put in another program.
    #[error("hook {0} is writable by everybody: chmod o-w it")]
    Writable(PathBuf),
    /// There is nothing to run it on.
    #[error("a hook needs a running Tokio runtime")]
    NoRuntime,
}

/// Whether a hook could be started; the empty list, no hook, is fine.
///
/// # Errors
/// What is wrong, in one line.
pub fn check(argv: &[String]) -> Result<(), HookError> {
    let Some(name) = argv.first() else {
        return Ok(());
    };
    let path = Path::new(name);
    // rule: EXP-4 (no shell and no search: the path is the program)
    if !path.is_absolute() {
        return Err(HookError::NotAbsolute(name.clone()));
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(HookError::ZeroByte(name.clone()));
    }
    let metadata = std::fs::metadata(path).map_err(|error| HookError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let mode = metadata.permissions().mode();
    if !metadata.is_file() || mode & 0o111 == 0 {
        return Err(HookError::NotExecutable(path.to_owned()));
    }
    if mode & 0o002 != 0 {
        return Err(HookError::Writable(path.to_owned()));
    }
    Ok(())
}

/// What a hook has done so far, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookCounts {
    /// Runs that ended well.
    pub run: u64,
    /// Runs that could not start, ended otherwise than with 0, or were killed.
    pub failed: u64,
    /// Lines that were never given to the program: the queue was full, the line too long, or the
    /// hook shut down.
    pub dropped: u64,
}

#[derive(Default)]
struct Counters {
    run: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

struct Running {
    name: String,
    line: usize,
    queue: mpsc::Sender<String>,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A hook, or none. Clones are the same hook.
#[derive(Clone)]
pub struct Hook(Option<Arc<Running>>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.as_ref().map(|running| running.name.as_str());
        f.debug_tuple("Hook").field(&name).finish()
    }
}

impl Hook {
    /// Makes a hook of a program and its arguments; no words, no hook. Its runs are tasks of the
    /// Tokio runtime that this is called in.
    ///
    /// # Errors
    /// What is wrong with the program, or that there is no runtime.
    pub fn new(argv: Vec<String>, limits: HookLimits) -> Result<Self, HookError> {
        check(&argv)?;
        let Some(name) = argv.first().cloned() else {
            return Ok(Self::none());
        };
        let handle = Handle::try_current().map_err(|_| HookError::NoRuntime)?;
        let (queue, lines) = mpsc::channel(limits.queue.max(1));
        let (stop, stopped) = watch::channel(false);
        let counters = Arc::new(Counters::default());
        let program = Arc::new(Program::new(argv, limits.run_time, limits.output));
        let at_once = limits.at_once.max(1);
        let task = handle.spawn(serve(
            program,
            lines,
            stopped,
            at_once,
            Arc::clone(&counters),
        ));
        Ok(Self(Some(Arc::new(Running {
            name,
            line: limits.line,
            queue,
            counters,
            stop,
            task: Mutex::new(Some(task)),
        }))))
    }

    /// No hook: what it is told is lost, as configured.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Tells the program one line of JSON, without its line end. Returns at once, from any thread;
    /// a line that there is no room for is counted.
    pub fn tell(&self, mut line: String) {
        let Some(running) = &self.0 else { return };
        // Inside JSON's strings a line end is escaped; elsewhere it is as good as a space.
        if line.contains(['\n', '\r']) {
            line = line.replace(['\n', '\r'], " ");
        }
        // rule: EXP-4
        if line.len() > running.line || running.queue.try_send(line).is_err() {
            running.counters.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(hook = running.name, "not told: the hook's queue is full");
        }
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> HookCounts {
        let Some(running) = &self.0 else {
            return HookCounts::default();
        };
        let counters = &running.counters;
        HookCounts {
            run: counters.run.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
            dropped: counters.dropped.load(Ordering::Relaxed),
        }
    }

    /// Kills what runs, with its process groups, and returns when it is gone. Lines that wait, and
    /// those told from now on, are counted as dropped.
    pub async fn shutdown(&self) {
        let Some(running) = &self.0 else { return };
        running.stop.send_replace(true);
        let task = running
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            // It fails only where the runtime is going down, and the runs with it.
            let _ = task.await;
        }
    }
}

/// Gives the lines to runs of the program until all handles are gone, or it is stopped.
async fn serve(
    program: Arc<Program>,
    mut lines: mpsc::Receiver<String>,
    mut stopped: watch::Receiver<bool>,
    at_once: usize,
    counters: Arc<Counters>,
) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            // With the last handle the sender of this goes too; then the queue is still served.
            true = async { stopped.wait_for(|stop| *stop).await.is_ok() } => break,
            line = lines.recv(), if running.len() < at_once => match line {
                Some(line) => {
                    let (program, counters) = (Arc::clone(&program), Arc::clone(&counters));
                    running.spawn(async move { count(&counters, program.run(line).await) });
                }
                None => {
                    while running.join_next().await.is_some() {}
                    return;
                }
            },
            Some(_) = running.join_next() => {}
        }
    }
    let interrupted = running.len() as u64;
    running.shutdown().await;
    counters.failed.fetch_add(interrupted, Ordering::Relaxed);
    lines.close();
    while lines.try_recv().is_ok() {
        counters.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn count(counters: &Counters, ended: Ended) {
    let counter = match ended {
        Ended::Well => &counters.run,
        Ended::Badly => &counters.failed,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
