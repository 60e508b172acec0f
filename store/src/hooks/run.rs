//! One run of a hook's program.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

/// Where a program looks for others when the server itself has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is read of one output and thrown away beyond what is logged; then the pipe is closed.
const DISCARDED: u64 = 1024 * 1024;
/// For how long the outputs of a program that has ended are read.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A program, its arguments and its bounds.
pub(super) struct Program {
    argv: Vec<String>,
    run_time: Duration,
    output: usize,
}

/// How a run ended.
pub(super) enum Ended {
    /// With exit code 0.
    Well,
    /// Otherwise; it is in the log.
    Badly,
}

/// A child and its process group, which is killed when this goes, whatever the reason. The child is
/// waited for only after that: until then its id, the group's name, belongs to nobody else.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            // Fails only when nothing is left in the group, which is what is wanted.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Program {
    /// `argv` has a first word, the program's absolute path.
    pub(super) fn new(argv: Vec<String>, run_time: Duration, output: usize) -> Self {
        Self {
            argv,
            run_time,
            output,
        }
    }

    fn name(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// Runs it once with this line on its standard input, and logs how it went.
    pub(super) async fn run(&self, line: String) -> Ended {
        let hook = self.name();
        let mut outputs = (Vec::new(), Vec::new());
        // rule: EXP-4
        let ended = tokio::time::timeout(self.run_time, self.attempt(line, &mut outputs)).await;
        let (out, err) = (text(&outputs.0), text(&outputs.1));
        match ended {
            Ok(Ok(status)) if status.success() => {
                tracing::debug!(hook, out, err, "hook ran");
                return Ended::Well;
            }
            Ok(Ok(status)) => tracing::warn!(hook, %status, out, err, "hook failed"),
            Ok(Err(error)) => tracing::warn!(hook, %error, "hook could not be run"),
            Err(_) => tracing::warn!(
                hook,
                limit = ?self.run_time,
                out,
                err,
                "hook took too long and was killed"
            ),
        }
        Ended::Badly
    }

    async fn attempt(
        &self,
        line: String,
        (out, err): &mut (Vec<u8>, Vec<u8>),
    ) -> io::Result<ExitStatus> {
        let mut command = self.command();
        // Loading a program can hang on its file system: that costs a thread of its own.
        let spawned = tokio::task::spawn_blocking(move || {
            let child = command.spawn()?;
            let id = child.id().and_then(|id| i32::try_from(id).ok());
            let id = id.and_then(Pid::from_raw);
            Ok::<_, io::Error>(Group { child, id })
        });
        let mut group = spawned.await.map_err(io::Error::other)??;
        let (stdin, stdout, stderr) = (
            group.child.stdin.take(),
            group.child.stdout.take(),
            group.child.stderr.take(),
        );
        let ended = async {
            exited(group.id).await?;
            group.kill();
            group.child.wait().await
        };
        let talk = async {
            tokio::join!(
                say(stdin, line),
                listen(stdout, self.output, out),
                listen(stderr, self.output, err),
            )
        };
        tokio::pin!(ended, talk);
        let mut silent = false;
        loop {
            tokio::select! {
                status = &mut ended => {
                    if !silent {
                        // What has left the group may hold the pipes for ever.
                        let _ = tokio::time::timeout(LAST_WORDS, talk).await;
                    }
                    return status;
                }
                _ = &mut talk, if !silent => silent = true,
            }
        }
    }

    fn command(&self) -> Command {
        // rule: EXP-4 (words, never a shell)
        let mut command = Command::new(self.name());
        command.args(self.argv.iter().skip(1));
        // The server's environment may name its credentials.
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or(PATH.into()));
        if let Some(language) = std::env::var_os("LANG") {
            command.env("LANG", language);
        }
        command.current_dir(Path::new("/"));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        command
    }
}

/// Waits until the program has ended, without taking its status, so that its id stays its own. The
/// thread that waits is free at the latest when the group was killed.
async fn exited(id: Option<Pid>) -> io::Result<()> {
    let Some(id) = id else { return Ok(()) };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let waited = tokio::task::spawn_blocking(move || {
        rustix::io::retry_on_intr(|| waitid(WaitId::Pid(id), options))
    });
    waited.await.map_err(io::Error::other)??;
    Ok(())
}

/// Says the line and closes. A program that does not want to hear it may close its end.
async fn say(stdin: Option<ChildStdin>, mut line: String) {
    line.push('\n');
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(line.as_bytes()).await;
    }
}

/// Keeps the start of an output, and lets the program go on writing for a while.
async fn listen(pipe: Option<impl AsyncRead + Unpin>, limit: usize, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    // A read that fails ends the output as its end does.
    if (&mut pipe)
        .take(limit as u64)
        .read_to_end(kept)
        .await
        .is_ok()
    {
        let _ = tokio::io::copy(&mut pipe.take(DISCARDED), &mut tokio::io::sink()).await;
    }
}

/// An output as one line of a log: no line end or control character of it comes through.
fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output)
        .trim_end()
        .escape_debug()
        .to_string()
}
