//! MEM-2: what a process in the sandbox attempts is refused, and what it needs is not. Each attempt is
//! this test program again, as a child that enters the sandbox and says by its exit code how it went.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use store::sandbox::{Entered, Paths, Sandbox};

const ATTEMPT: &str = "POSTERN_TEST_ATTEMPT";
const DIR: &str = "POSTERN_TEST_DIR";
const DONE: i32 = 40;
const REFUSED: i32 = 41;
const OTHERWISE: i32 = 42;
/// The signal that seccomp ends a process with.
const SIGSYS: i32 = 31;

/// What a child does in the sandbox.
fn attempt(what: &str, dir: &Path) -> std::io::Result<()> {
    let inside = dir.join("data");
    match what {
        "nothing" => Ok(()),
        "read-inside" => fs::read(inside.join("there")).map(drop),
        "write-inside" => {
            fs::write(inside.join("new.tmp"), b"x")?;
            fs::rename(inside.join("new.tmp"), inside.join("new"))?;
            fs::create_dir(inside.join("sub"))?;
            fs::remove_file(inside.join("new"))
        }
        "read-shadow" => fs::read("/etc/shadow").map(drop),
        "read-outside" => fs::read(dir.join("outside")).map(drop),
        "list-outside" => fs::read_dir(dir).map(drop),
        "write-outside" => fs::write(dir.join("outside"), b"x"),
        "remove-outside" => fs::remove_file(dir.join("outside")),
        "write-what-is-read" => fs::write(dir.join("read-only"), b"x"),
        "read-what-is-read" => fs::read(dir.join("read-only")).map(drop),
        "resolve" => fs::read("/etc/hosts").map(drop),
        "connect" => {
            let port = fs::read_to_string(inside.join("port"))?;
            TcpStream::connect(("127.0.0.1", port.parse().expect("a port"))).map(drop)
        }
        "listen" => TcpListener::bind(("127.0.0.1", 0)).map(drop),
        "thread-outside" => std::thread::scope(|threads| {
            let read = threads.spawn(|| fs::read(dir.join("outside")).map(drop));
            read.join().expect("the thread ends")
        }),
        "run" => match Command::new("/bin/true").status()?.success() {
            true => Ok(()),
            false => Err(std::io::ErrorKind::PermissionDenied.into()),
        },
        "signal-outside" => {
            let parent = rustix::process::getppid().expect("a parent");
            Ok(rustix::process::test_kill_process(parent)?)
        }
        "chroot" => Ok(rustix::process::chroot("/")?),
        "odd-socket" => {
            let family = rustix::net::AddressFamily::from_raw(17);
            let kind = rustix::net::SocketType::DGRAM;
            Ok(rustix::net::socket(family, kind, None).map(drop)?)
        }
        other => panic!("no attempt {other}"),
    }
}

/// The child. Without the variable, as when all tests are run, it has nothing to do.
#[test]
fn child() {
    let Ok(what) = std::env::var(ATTEMPT) else {
        return;
    };
    let dir = std::path::PathBuf::from(std::env::var(DIR).expect("a directory"));
    let (what, programs) = match what.strip_prefix("programs:") {
        Some(what) => (what.to_owned(), true),
        None => (what, false),
    };
    let mut sandbox = Sandbox {
        read: vec![dir.join("read-only")],
        write: vec![dir.join("data")],
        programs,
        ..Sandbox::default()
    };
    if let Some(port) = what.strip_prefix("allowed-") {
        let known = fs::read_to_string(dir.join("data/port")).expect("a port");
        sandbox = sandbox.reaching([&*format!("http://127.0.0.1:{known}/")]);
        sandbox.listen.insert(0);
        sandbox.enter();
        leave(attempt(port, &dir));
    }
    let entered = sandbox.enter();
    if what == "kernel" {
        std::process::exit(50 + i32::from(entered.calls) + 2 * level(entered));
    }
    leave(attempt(&what, &dir));
}

fn level(entered: Entered) -> i32 {
    match entered.paths {
        Paths::Whole => 2,
        Paths::Partly => 1,
        Paths::Open => 0,
    }
}

fn leave(outcome: std::io::Result<()>) -> ! {
    std::process::exit(match outcome {
        Ok(()) => DONE,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => REFUSED,
        Err(_) => OTHERWISE,
    })
}

struct Place(
    tempfile::TempDir,
    /// Listens as long as the place is there.
    #[expect(dead_code, reason = "held open")]
    TcpListener,
);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        for (name, text) in [
            ("data/there", "x"),
            ("data/port", &*port),
            ("outside", "x"),
            ("read-only", "x"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        Self(dir, listener)
    }

    fn run(&self, what: &str) -> ExitStatus {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "child", "--test-threads", "1"]);
        child.env(ATTEMPT, what).env(DIR, self.0.path());
        child.output().unwrap().status
    }
}

/// What this kernel has: how far Landlock goes (2: whole), and whether calls are filtered.
fn kernel(place: &Place) -> (i32, bool) {
    let code = place.run("kernel").code().expect("an exit code") - 50;
    (code / 2, code % 2 == 1)
}

#[test]
fn in_the_sandbox_only_what_was_given_is_reached_by_path() {
    // rule: MEM-2
    let place = Place::new();
    for what in [
        "nothing",
        "read-inside",
        "write-inside",
        "read-what-is-read",
        "resolve",
    ] {
        assert_eq!(place.run(what).code(), Some(DONE), "{what}");
    }
    // A kernel without Landlock refuses nothing of it, and that was said.
    let confined = kernel(&place).0 > 0;
    for what in [
        "read-outside",
        "list-outside",
        "write-outside",
        "write-what-is-read",
        "thread-outside",
        "read-shadow",
        "remove-outside",
    ] {
        let code = place.run(what).code();
        if confined {
            assert_eq!(code, Some(REFUSED), "{what}");
        } else {
            assert_ne!(code, None, "{what}");
        }
    }
    assert_eq!(place.0.path().join("outside").exists(), confined);
}

#[test]
fn in_the_sandbox_tcp_goes_only_where_it_was_allowed_to() {
    // rule: MEM-2
    let place = Place::new();
    for what in ["allowed-connect", "allowed-listen", "programs:connect"] {
        assert_eq!(place.run(what).code(), Some(DONE), "{what}");
    }
    let expected = if kernel(&place).0 == 2 { REFUSED } else { DONE };
    for what in ["connect", "listen", "signal-outside"] {
        let code = place.run(what).code();
        // rustix says EPERM for a signal, Landlock EACCES for TCP: both are a refusal.
        assert_eq!(code, Some(expected), "{what}");
    }
}

#[test]
fn in_the_sandbox_a_call_that_no_server_makes_ends_the_process() {
    // rule: MEM-2
    let place = Place::new();
    let filtered = kernel(&place).1;
    assert!(
        filtered,
        "this kernel has no seccomp: every kernel that Postern runs on has it"
    );
    for what in ["chroot", "odd-socket", "programs:chroot"] {
        assert_eq!(place.run(what).signal(), Some(SIGSYS), "{what}");
    }
    assert_eq!(place.run("programs:run").code(), Some(DONE));
    // The child that was to become the program is ended, before it became it.
    assert_ne!(place.run("run").code(), Some(DONE));
}
