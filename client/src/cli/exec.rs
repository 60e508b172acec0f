//! `exec`: a program, and a door for as long as it runs.

use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use ticket_format::report::Report;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::app::{App, Ended};
use super::args::Exec;
use super::settings::{Origin, SYSTEM_SOCKET, Setting};
use crate::agent::asked::{self, WAIT};
use crate::agent::wire::{Answer, Request};

/// The program could not be started, for a reason of ours. 126 and 127 are those of env(1).
const NOT_STARTED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// `postern exec`.
pub async fn exec(app: &App, args: &Exec) -> Ended {
    let wait = app.patience(WAIT)?.left();
    let path = socket(app)?;
    let not_started = |mut report: Report| {
        report.exit = NOT_STARTED;
        report
    };
    let mut stream = asked::connect(&path).await.map_err(not_started)?;
    let request = Request::Open(args.dataset.clone());
    let answer = asked::ask(&mut stream, &request, wait).await;
    let url = match answer.map_err(not_started)? {
        Answer::Door(url) => url,
        Answer::Failed(report) => return Err(not_started(report)),
        _ => return Err(not_started(asked::other())),
    };
    let mut signals = Signals::new()
        .map_err(|error| Report::new(NOT_STARTED, "cannot watch for signals").why(error))?;
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]);
    // The instance's own AWS credentials stay as they are: SDKs sign with them, and the door does not look.
    command.env("AWS_ENDPOINT_URL_KMS", url.as_str());
    command.env(Setting::Agent.variable(), &path);
    let mut child = command
        .spawn()
        .map_err(|error| cannot_start(args, &error))?;
    let status = signals.forward(&mut child).await;
    // rule: AGT-10
    drop(stream);
    let lost = |error| Report::new(NOT_STARTED, "the program's end was not seen").why(error);
    Ok(code(status.map_err(lost)?))
}

fn cannot_start(args: &Exec, error: &std::io::Error) -> Report {
    let exit = match error.kind() {
        std::io::ErrorKind::NotFound => NOT_FOUND,
        std::io::ErrorKind::PermissionDenied => NOT_EXECUTABLE,
        _ => NOT_STARTED,
    };
    let program = args.command[0].to_string_lossy();
    Report::new(exit, format!("cannot start {program}"))
        .why(error)
        .next("check the program's name and that it may be executed")
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(NOT_STARTED)
}

/// Where the agent listens.
///
/// # Errors
/// Never with the defaults; the setting cannot be read.
pub fn socket(app: &App) -> Result<PathBuf, Report> {
    let found = app.settings.effective(Setting::Agent);
    let missing =
        || Report::new(NOT_STARTED, "no agent's socket is known").next("say --agent PATH");
    let found = found.ok_or_else(missing)?;
    let path = PathBuf::from(found.value);
    // A user without an agent of his own has the node's.
    match found.origin == Origin::Default && !path.exists() {
        true => Ok(SYSTEM_SOCKET.into()),
        false => Ok(path),
    }
}

/// The signals that go on to the program.
struct Signals {
    _sender: mpsc::Sender<Signal>,
    come: mpsc::Receiver<Signal>,
}

/// Those, and how the runtime names them.
const FORWARDED: [(Signal, SignalKind); 6] = [
    (Signal::TERM, SignalKind::terminate()),
    (Signal::HUP, SignalKind::hangup()),
    (Signal::INT, SignalKind::interrupt()),
    (Signal::QUIT, SignalKind::quit()),
    (Signal::USR1, SignalKind::user_defined1()),
    (Signal::USR2, SignalKind::user_defined2()),
];

impl Signals {
    fn new() -> std::io::Result<Self> {
        let (sender, come) = mpsc::channel(16);
        for (name, kind) in FORWARDED {
            let (mut signals, sender) = (signal(kind)?, sender.clone());
            tokio::spawn(async move {
                while signals.recv().await.is_some() && sender.send(name).await.is_ok() {}
            });
        }
        Ok(Self {
            _sender: sender,
            come,
        })
    }

    /// Until the child ends.
    async fn forward(&mut self, child: &mut Child) -> std::io::Result<ExitStatus> {
        // At a terminal Ctrl-C and Ctrl-\ reach the child by themselves; twice it would be another thing.
        let terminal = std::io::stdin().is_terminal();
        loop {
            let signal = tokio::select! {
                status = child.wait() => return status,
                // One sender is ours: there is always another signal to wait for.
                Some(signal) = self.come.recv() => signal,
            };
            if terminal && [Signal::INT, Signal::QUIT].contains(&signal) {
                continue;
            }
            // It has its number until it was waited for.
            let pid = child
                .id()
                .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            if let Some(pid) = pid {
                // One that has just ended is waited for next.
                let _ = kill_process(pid, signal);
            }
        }
    }
}
