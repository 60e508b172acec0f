//! Who is at the other end of the agent's socket, as the kernel tells it (`spec/agent.md`, AGT-1).

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use store::files::{self, FileError};
use tokio::net::UnixStream;

/// Longest file of `/proc` that is read here.
const PROC: u64 = 16 * 1024;

/// A caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The unit of the system's service manager, if the process is in one.
    pub unit: Option<String>,
}

/// Why nobody knows who calls.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// The kernel gave no credentials.
    #[error("the kernel does not say who calls: {0}")]
    Credentials(#[from] io::Error),
    /// The process is not there any more, or its number is another's.
    #[error("the process that called is gone")]
    Gone,
    /// The process is not the user's who connected.
    #[error("the process that called has become another user's")]
    Changed,
    /// `/proc` cannot be read.
    #[error(transparent)]
    Proc(#[from] FileError),
}

impl Caller {
    /// Who connected.
    ///
    /// # Errors
    /// [`Unknown`]: such a caller is refused.
    pub fn of(stream: &UnixStream) -> Result<Self, Unknown> {
        // rule: AGT-1
        let credentials = stream.peer_cred()?;
        // Of a process in another PID namespace the number is 0.
        let pid = credentials.pid().and_then(Pid::from_raw);
        Self::of_process(pid.ok_or(Unknown::Gone)?, credentials.uid())
    }

    fn of_process(pid: Pid, uid: u32) -> Result<Self, Unknown> {
        let held = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| Unknown::Gone)?;
        Self::of_held(held.as_fd(), pid, uid)
    }

    fn of_held(held: BorrowedFd<'_>, pid: Pid, uid: u32) -> Result<Self, Unknown> {
        let dir = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
        let owner = std::fs::metadata(&dir).map_err(|_| Unknown::Gone)?.uid();
        let cgroup = files::read_bounded(&dir.join("cgroup"), PROC);
        // Asked last: while this process lives, its number is nobody else's, and what was read of the number was
        // of this process.
        if !is_still(held)? {
            return Err(Unknown::Gone);
        }
        if owner != uid {
            return Err(Unknown::Changed);
        }
        let unit = unit(&String::from_utf8_lossy(&cgroup?));
        Ok(Self { uid, unit })
    }
}

/// Whether a pidfd's process has not ended: the kernel says of one that has that there is something to read.
fn is_still(held: BorrowedFd<'_>) -> io::Result<bool> {
    let mut asked = [PollFd::from_borrowed_fd(held, PollFlags::IN)];
    let ended = poll(&mut asked, Some(&Timespec::default()))?;
    Ok(ended == 0)
}

/// The system's unit in a `/proc/<pid>/cgroup`: of the hierarchy of the service manager, or of the unified
/// one, the first part of the path that is no slice. What is below it the unit's own processes name, who
/// are not believed.
#[must_use]
pub fn unit(cgroup: &str) -> Option<String> {
    // rule: AGT-1
    let of = |controllers: &str| {
        cgroup.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            (parts.next() == Some(controllers)).then(|| parts.next())?
        })
    };
    let path = of("name=systemd").or_else(|| of(""))?;
    let mut parts = path.strip_prefix('/')?.split('/');
    let first = parts.find(|part| !part.ends_with(".slice"))?;
    // A name that would be taken for a file of the kernel has `_` in front of it.
    let name = first.strip_prefix('_').unwrap_or(first);
    let is_unit = name.ends_with(".service") || name.ends_with(".scope");
    is_unit.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_the_first_part_that_is_no_slice() {
        // rule: AGT-1
        let named = |text: &str| unit(text);
        let is = |name: &str| Some(name.to_owned());
        assert_eq!(
            named("0::/system.slice/train.service\n"),
            is("train.service")
        );
        assert_eq!(
            named("0::/system.slice/system-job.slice/job@1.service/sub\n"),
            is("job@1.service")
        );
        let mine = "0::/user.slice/user-7.slice/user@7.service/app.slice/train.service\n";
        assert_eq!(named(mine), is("user@7.service"));
        assert_eq!(
            named("0::/system.slice/other.service/train.service\n"),
            is("other.service")
        );
        assert_eq!(
            named("0::/user.slice/user-7.slice/session-3.scope\n"),
            is("session-3.scope")
        );
        let old = "5:cpu:/x.service\n1:name=systemd:/system.slice/train.service\n0::/\n";
        assert_eq!(named(old), is("train.service"));
        assert_eq!(
            named("0::/system.slice/_cgroup.service\n"),
            is("cgroup.service")
        );
        for none in [
            "",
            "0::/\n",
            "0::/system.slice\n",
            "0::/../train.service\n",
            "0::/docker/1/train.service\n",
            "5:cpu:/system.slice/train.service\n",
            "train.service\n",
        ] {
            assert_eq!(named(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_process_that_has_ended_is_gone() {
        // rule: AGT-1
        let me = rustix::process::geteuid().as_raw();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        assert_eq!(Caller::of_process(pid, me).unwrap().uid, me);
        assert!(matches!(
            Caller::of_process(pid, me + 1),
            Err(Unknown::Changed)
        ));
        let held = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        assert!(is_still(held.as_fd()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_still(held.as_fd()).unwrap());
        assert!(matches!(Caller::of_process(pid, me), Err(Unknown::Gone)));
        // Its number may be another process's by now: this one's, say.
        let another = rustix::process::getpid();
        let found = Caller::of_held(held.as_fd(), another, me);
        assert!(matches!(found, Err(Unknown::Gone)), "{found:?}");
    }
}
