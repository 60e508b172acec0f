//! `exec`: a program, and a door for as long as it runs.

use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use ticket_format::report::{Report, exit};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::app::{App, Ended, talk};
use super::args::Exec;
use super::settings::{Origin, SYSTEM_SOCKET, Setting};
use crate::agent::asked::{self, WAIT};
use crate::door::Doorway;

/// The program could not be started, for a reason of ours. 126 and 127 are those of env(1).
const NOT_STARTED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// How long a program may take to end that is ended with its door.
const GRACE: Duration = Duration::from_secs(5);
/// Between two tries to have the door opened again: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// `postern exec`.
pub async fn exec(app: &App, args: &Exec) -> Ended {
    let wait = app.patience(WAIT)?.left();
    let path = socket(app)?;
    let not_started = |mut report: Report| {
        report.exit = NOT_STARTED;
        report
    };
    let no_port = |error| Report::new(NOT_STARTED, "no port could be had").why(error);
    let door = Wanted {
        agent: &path,
        datasets: &args.dataset,
        doorway: Doorway::make().map_err(no_port)?,
        wait,
    };
    let stream = door.open().await.map_err(not_started)?;
    let mut signals = Signals::new()
        .map_err(|error| Report::new(NOT_STARTED, "cannot watch for signals").why(error))?;
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]);
    // The instance's own AWS credentials stay as they are: SDKs sign with them, and the door does not look.
    command.env("AWS_ENDPOINT_URL_KMS", door.doorway.url().as_str());
    command.env(Setting::Agent.variable(), &path);
    // rule: AGT-12
    command.env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "false");
    for name in ["NO_PROXY", "no_proxy"] {
        command.env(name, without_proxy(std::env::var(name).ok().as_deref()));
    }
    // The program has the door's socket too: its port is nobody else's while one of its processes lives.
    fcntl_setfd(&door.doorway, FdFlags::empty()).map_err(|error| no_port(error.into()))?;
    let mut child = command
        .spawn()
        .map_err(|error| cannot_start(args, &error))?;
    let status = tokio::select! {
        status = signals.forward(&mut child) => status,
        // rule: AGT-10
        // Dropped, the door closes.
        refused = door.keep(stream) => return Err(end(&mut child, refused).await),
    };
    let lost = |error| Report::new(NOT_STARTED, "the program's end was not seen").why(error);
    Ok(code(status.map_err(lost)?))
}

/// The door that the program is to have.
struct Wanted<'a> {
    agent: &'a Path,
    datasets: &'a [String],
    doorway: Doorway,
    /// For the agent's answer.
    wait: Duration,
}

impl Wanted<'_> {
    /// Has it opened; it stands as long as what is returned.
    async fn open(&self) -> Result<UnixStream, Report> {
        let mut stream = asked::connect(self.agent).await?;
        asked::open(&mut stream, &self.doorway, self.datasets, self.wait).await?;
        Ok(stream)
    }

    /// Has it opened again whenever the agent has ended and is back; returns when an agent refuses.
    async fn keep(&self, mut stream: UnixStream) -> Report {
        // rule: AGT-12
        loop {
            // The agent says nothing more: what comes is its end.
            ended(&mut stream).await;
            talk("the agent has ended; the program's requests wait until it is back");
            let [mut pause, longest] = PAUSES;
            stream = loop {
                match self.open().await {
                    Ok(stream) => break stream,
                    Err(report) if report.exit == exit::RETRY => {}
                    Err(refused) => return refused,
                }
                tokio::time::sleep(pause).await;
                pause = longest.min(pause * 2);
            };
            talk("the agent is back");
        }
    }
}

/// Until the other side has ended.
async fn ended(stream: &mut UnixStream) {
    let mut rest = [0; 64];
    while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

/// Nobody answers at the door any more, and nobody will: the program would wait for nothing.
async fn end(child: &mut Child, refused: Report) -> Report {
    // rule: AGT-12
    let mut gone = Report::new(NOT_STARTED, "the program was ended: its door stays shut");
    gone.why = Some(match refused.why {
        Some(why) => format!("{}: {why}", refused.what),
        None => refused.what,
    });
    gone.next = refused.next;
    let pid = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        // What it can still do is not told apart from what it did.
        let _ = child.kill().await;
    }
    gone
}

/// Loopback is reached without a proxy, which would be told the token and the plaintexts.
fn without_proxy(before: Option<&str>) -> String {
    let own = "127.0.0.1,localhost";
    match before {
        None | Some("") => own.to_owned(),
        Some(before) => format!("{before},{own}"),
    }
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
