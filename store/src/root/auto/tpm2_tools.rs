//! One run of one of tpm2-tools: words, never a shell; bounded in time and output.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use zeroize::Zeroizing;

use super::tpm2::Tpm2Error;

/// How long one command may take. A TPM in hardware makes a key within a few seconds.
const TIME: Duration = Duration::from_secs(30);
/// Most bytes of what it says on either output.
const OUTPUT: usize = 4_096;
/// Where the tools are looked for when the server itself has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A child and its process group, which is killed when this goes.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let id = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let (Some(id), Ok(None)) = (id, self.0.try_wait()) {
            let _ = kill_process_group(id, Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

/// Runs a tool in `work` and answers what it wrote to its output, at most `OUTPUT` bytes.
///
/// # Errors
/// It is not installed, took too long, said too much, or failed.
pub(super) fn run(
    tool: &'static str,
    tcti: Option<&str>,
    words: &[&OsStr],
    input: &[u8],
    work: &Path,
) -> Result<Zeroizing<Vec<u8>>, Tpm2Error> {
    bounded(tool, tcti, words, input, work, TIME)
}

fn bounded(
    tool: &'static str,
    tcti: Option<&str>,
    words: &[&OsStr],
    input: &[u8],
    work: &Path,
    time: Duration,
) -> Result<Zeroizing<Vec<u8>>, Tpm2Error> {
    let failed = |error| Tpm2Error::Run { tool, error };
    let mut command = Command::new(tool);
    // The server's environment may name its credentials.
    command.env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or(PATH.into()));
    if let Some(tcti) = tcti {
        command.env("TPM2TOOLS_TCTI", tcti);
    }
    command.args(words).current_dir(work).process_group(0);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Tpm2Error::Missing(tool),
        _ => failed(error),
    })?;
    let mut group = Group(child);
    let (stdin, mut stdout, mut stderr) = (
        group.0.stdin.take(),
        group.0.stdout.take(),
        group.0.stderr.take(),
    );
    if let Some(mut stdin) = stdin {
        // Less than a pipe holds: this does not wait. A tool that reads nothing may close its end.
        let _ = stdin.write_all(input);
    }
    let until = Instant::now() + time;
    let mut out = Zeroizing::new(Vec::with_capacity(OUTPUT + 1));
    let mut err = Vec::with_capacity(OUTPUT + 1);
    while stdout.is_some() || stderr.is_some() {
        let (out_ready, err_ready) = ready(stdout.as_ref(), stderr.as_ref(), until)
            .map_err(failed)?
            .ok_or(Tpm2Error::Slow { tool, limit: time })?;
        if out_ready && !more(&mut stdout, &mut out).map_err(failed)? {
            stdout = None;
        }
        if err_ready && !more(&mut stderr, &mut err).map_err(failed)? {
            stderr = None;
        }
        if out.len() > OUTPUT || err.len() > OUTPUT {
            return Err(Tpm2Error::Loud { tool });
        }
    }
    let status = ended(&mut group.0, until)
        .map_err(failed)?
        .ok_or(Tpm2Error::Slow { tool, limit: time })?;
    if status.success() {
        Ok(out)
    } else {
        Err(Tpm2Error::Failed {
            tool,
            said: last_line(&err),
        })
    }
}

/// What is left until then; nothing once it is over.
fn left(until: Instant) -> Option<Timespec> {
    let left = until.checked_duration_since(Instant::now())?;
    Timespec::try_from(left).ok()
}

/// Waits until one of the two can be read, or it is too late.
fn ready(
    out: Option<&std::process::ChildStdout>,
    err: Option<&std::process::ChildStderr>,
    until: Instant,
) -> io::Result<Option<(bool, bool)>> {
    let mut pipes = Vec::with_capacity(2);
    pipes.extend(out.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    pipes.extend(err.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    let Some(left) = left(until) else {
        return Ok(None);
    };
    let count = rustix::io::retry_on_intr(|| poll(&mut pipes, Some(&left)))?;
    if count == 0 {
        return Ok(None);
    }
    let mut answers = pipes.iter().map(|pipe| !pipe.revents().is_empty());
    let out = out.is_some() && answers.next().unwrap_or_default();
    let err = err.is_some() && answers.next().unwrap_or_default();
    Ok(Some((out, err)))
}

/// Reads what is there; whether more may come.
fn more(pipe: &mut Option<impl Read>, into: &mut Vec<u8>) -> io::Result<bool> {
    let Some(pipe) = pipe else { return Ok(false) };
    let mut part = Zeroizing::new([0; 1_024]);
    match pipe.read(part.as_mut()) {
        Ok(0) => Ok(false),
        Ok(read) => {
            // Room for all was made before: a vector that grows leaves copies behind.
            let room = into.capacity() - into.len();
            into.extend_from_slice(&part[..read.min(room)]);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(error) => Err(error),
    }
}

/// Waits until it has ended.
fn ended(child: &mut Child, until: Instant) -> io::Result<Option<std::process::ExitStatus>> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(id) = id {
        let handle = pidfd_open(id, PidfdFlags::empty())?;
        let mut one = [PollFd::new(&handle, PollFlags::IN)];
        let Some(left) = left(until) else {
            return Ok(None);
        };
        if rustix::io::retry_on_intr(|| poll(&mut one, Some(&left)))? == 0 {
            return Ok(None);
        }
    }
    child.wait().map(Some)
}

/// What it said that an administrator can use: its last line that names an error, in one line.
fn last_line(err: &[u8]) -> String {
    let text = String::from_utf8_lossy(err);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find(|line| line.starts_with("ERROR"));
    let line = line.or_else(|| lines().next_back()).unwrap_or_default();
    let line: String = line
        .trim_start_matches("ERROR: ")
        .chars()
        .take(160)
        .collect();
    line.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, time: Duration) -> Result<Zeroizing<Vec<u8>>, Tpm2Error> {
        let words = [OsStr::new("-c"), OsStr::new(script)];
        bounded("sh", None, &words, b"in", Path::new("/"), time)
    }

    #[test]
    fn a_tool_gets_its_input_and_gives_its_output() {
        assert_eq!(**sh("cat", TIME).unwrap(), *b"in");
    }

    #[test]
    fn a_tool_that_takes_too_long_is_killed_with_its_children() {
        let short = Duration::from_millis(200);
        for script in [
            "read x; exec cat /dev/zero >&-; sleep 600",
            "sleep 600 & wait",
            "exec >&- 2>&-; sleep 600",
        ] {
            let begun = Instant::now();
            let answer = sh(script, short);
            assert!(
                matches!(
                    answer,
                    Err(Tpm2Error::Slow { .. } | Tpm2Error::Failed { .. })
                ),
                "{script}"
            );
            assert!(begun.elapsed() < Duration::from_secs(60), "{script}");
        }
    }

    #[test]
    fn a_tool_that_says_too_much_is_ended() {
        for script in ["cat /dev/zero", "cat /dev/zero >&2"] {
            let answer = sh(script, TIME);
            assert!(matches!(answer, Err(Tpm2Error::Loud { .. })), "{script}");
        }
    }

    #[test]
    fn a_tool_that_fails_is_quoted_in_one_line() {
        let answer = sh("echo 'WARN: x'; echo 'ERROR: no TPM' >&2; exit 1", TIME);
        let said = answer.unwrap_err().to_string();
        assert!(said.contains("no TPM") && !said.contains('\n'), "{said}");
    }
}
