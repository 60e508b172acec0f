//! The programs of the workspace as processes: found, started, stopped, killed.

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Long enough for a debug build on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A program of the workspace, beside the test that runs.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this program's path");
    // target/debug/deps/test-hash -> target/debug/name
    let path = test
        .parent()
        .and_then(Path::parent)
        .expect("a target directory")
        .join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace` first",
        path.display()
    );
    path
}

/// A command that sees nothing of the environment but what it needs to run.
#[must_use]
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    command.env_clear().stdin(Stdio::null());
    for kept in ["PATH", "LD_LIBRARY_PATH", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command.env("RUST_BACKTRACE", "1");
    command
}

/// What a command that ended said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code; none: a signal.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// Its standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output, after holding that it ended well.
    ///
    /// # Panics
    /// When it did not.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.text(), self.stderr);
        self.text()
    }
}

/// Reads what a ready file must say.
type Is = fn(&str) -> Option<SocketAddr>;

fn open(text: &str) -> Option<SocketAddr> {
    text.trim().parse().ok()
}

fn sealed(text: &str) -> Option<SocketAddr> {
    open(text.trim().strip_suffix(" sealed")?)
}

/// Waits until a ready file says this.
fn ready(file: &Path, child: &mut Child, is: Is) -> Result<SocketAddr, String> {
    let deadline = Instant::now() + START;
    loop {
        if let Some(address) = fs::read_to_string(file).ok().and_then(|text| is(&text)) {
            return Ok(address);
        }
        if let Some(status) = child.try_wait().expect("a child") {
            return Err(format!("ended with {status}"));
        }
        if Instant::now() >= deadline {
            return Err("does not come up".to_owned());
        }
        // The server is another process: its file is all there is to wait for.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One server process and its files.
#[derive(Debug)]
pub struct Daemon {
    /// The program's name.
    pub(crate) program: &'static str,
    config: PathBuf,
    ready: PathBuf,
    /// Everything it wrote to stderr, over all its starts.
    pub log: PathBuf,
    child: Option<Child>,
    /// Further variables for its environment.
    pub environment: Vec<(String, String)>,
}

impl Daemon {
    pub(crate) fn new(program: &'static str, dir: &Path, config: &str) -> Self {
        Self {
            program,
            config: dir.join(config),
            ready: dir.join("ready"),
            log: dir.join("log"),
            child: None,
            environment: Vec::new(),
        }
    }

    /// The command that starts it.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = command(self.program);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .arg("run")
            .arg("--config")
            .arg(&self.config)
            .arg("--ready-file")
            .arg(&self.ready);
        command
    }

    /// Starts it and waits until it listens; returns where.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(&mut self) -> SocketAddr {
        let command = self.command();
        self.start_as(command)
    }

    /// Starts it by another command line.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_as(&mut self, command: Command) -> SocketAddr {
        self.start_until(command, open)
    }

    fn start_until(&mut self, mut command: Command, is: Is) -> SocketAddr {
        assert!(self.child.is_none(), "{} runs already", self.program);
        let _ = fs::remove_file(&self.ready);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("a log file");
        command
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program));
        match ready(&self.ready, &mut child, is) {
            Ok(address) => {
                self.child = Some(child);
                address
            }
            Err(why) => panic!("{} {why}:\n{}", self.program, self.log()),
        }
    }

    /// Starts it, if it does start, open or sealed: else what it said as it ended.
    ///
    /// # Errors
    /// It ended by itself.
    ///
    /// # Panics
    /// When it neither comes up nor ends.
    pub fn tries(&mut self) -> Result<(), Said> {
        assert!(self.child.is_none(), "{} runs already", self.program);
        let _ = fs::remove_file(&self.ready);
        let said = self.log.with_extension("try");
        let log = File::create(&said).expect("a log file");
        let mut child = self
            .command()
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program));
        match ready(&self.ready, &mut child, |text| open(text).or(sealed(text))) {
            Ok(_) => {
                self.child = Some(child);
                Ok(())
            }
            Err(why) => {
                let stderr =
                    fs::read(&said).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                let stderr = stderr.unwrap_or_default();
                let ended = child.try_wait().expect("a child");
                let _ = child.kill();
                let status = ended.unwrap_or_else(|| panic!("{} {why}:\n{stderr}", self.program));
                Err(Said {
                    code: status.code(),
                    stdout: Vec::new(),
                    stderr,
                })
            }
        }
    }

    /// Starts it and waits until it says that it is sealed; returns where.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_sealed(&mut self) -> SocketAddr {
        let command = self.command();
        self.start_until(command, sealed)
    }

    /// Waits until it listens with its root key; returns where.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn opens(&mut self) -> SocketAddr {
        self.comes_to(open)
    }

    /// Waits until it is sealed; returns where.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn seals(&mut self) -> SocketAddr {
        self.comes_to(sealed)
    }

    fn comes_to(&mut self, is: Is) -> SocketAddr {
        let child = self.child.as_mut().expect("it runs");
        match ready(&self.ready, child, is) {
            Ok(address) => address,
            Err(why) => panic!("{} {why}:\n{}", self.program, self.log()),
        }
    }

    /// Runs it until it ends by itself, for starts that must fail.
    ///
    /// # Panics
    /// When it runs on.
    #[must_use]
    pub fn fails(&self) -> Said {
        let _ = fs::remove_file(&self.ready);
        ended(self.command())
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Whether its process is there.
    pub fn runs(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Memory that it holds, in KiB.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("a size");
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number")
    }

    /// Ends it as an operator would.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM)
    }

    /// Ends it in the middle of whatever it does.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    /// Stops it where it stands; its clocks go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self) {
        self.tell(Signal::STOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self) {
        self.tell(Signal::CONT);
    }

    fn tell(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("a process");
    }

    fn signal(&mut self, signal: Signal) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).expect("a process");
        child.wait().expect("it ended")
    }

    /// Kills and starts it again; the address stays.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        self.start();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command to its end, at most a minute.
///
/// # Panics
/// When it runs on.
#[must_use]
pub fn ended(mut command: Command) -> Said {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let deadline = Instant::now() + START;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = |stream: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                let _ = stream.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let out = read(out.map(|stream| Box::new(stream) as _));
    let err = read(err.map(|stream| Box::new(stream) as _));
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            let (stdout, stderr) = (out.join().expect("read"), err.join().expect("read"));
            return Said {
                code: status.code(),
                stdout,
                stderr: String::from_utf8_lossy(&stderr).into_owned(),
            };
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
