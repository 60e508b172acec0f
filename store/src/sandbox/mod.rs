//! What a server can still do when somebody else's code runs in it: reach the paths that it was given,
//! and nothing else by path (Landlock); make the system calls that a server makes (seccomp) (MEM-2).
//!
//! Entered by the program's first thread while it is the only one: what a thread may is inherited by
//! those that it starts, and Landlock before its eighth version knows no other way to bind them all.
//! It is also inherited by the programs that a server runs: [`Sandbox::programs`] leaves such a server
//! what programs in general need.

mod calls;
mod paths;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Names that do not fit a datagram are asked for by TCP.
const DNS: u16 = 53;

/// `[sandbox]`: what the operator gives beyond what the rest of the configuration names, such as what a
/// hook reads and writes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SandboxSection {
    /// Files and directories to read, absolute.
    #[serde(default)]
    pub read: Vec<PathBuf>,
    /// Files and directories to read and write, absolute.
    #[serde(default)]
    pub write: Vec<PathBuf>,
}

/// What a server may do from now on.
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    /// Files and directories that it reads.
    pub read: Vec<PathBuf>,
    /// Files and directories that it reads and writes.
    pub write: Vec<PathBuf>,
    /// TCP ports that it listens on; 0 is whatever the system chooses.
    pub listen: BTreeSet<u16>,
    /// TCP ports that it connects to.
    pub connect: BTreeSet<u16>,
    /// Whether it runs programs (hooks, tpm2-tools). TCP is open to them, and the system's programs are.
    pub programs: bool,
}

/// What the kernel gave of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// By path.
    pub paths: Paths,
    /// Whether system calls are filtered.
    pub calls: bool,
}

/// How far Landlock goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// All that was asked for.
    Whole,
    /// What an older kernel has of it.
    Partly,
    /// The kernel has none.
    Open,
}

impl Sandbox {
    /// Lets it connect to where these URLs lead, and ask for names by TCP.
    #[must_use]
    pub fn reaching<'a>(mut self, urls: impl IntoIterator<Item = &'a str>) -> Self {
        for port in urls.into_iter().filter_map(port_of) {
            self.connect.extend([port, DNS]);
        }
        self
    }

    /// Lets it write a file by putting it in place: it needs the file's directory for that.
    #[must_use]
    pub fn replacing<'a>(mut self, files: impl IntoIterator<Item = &'a Path>) -> Self {
        for file in files {
            let parent = file.parent().filter(|dir| !dir.as_os_str().is_empty());
            self.write.push(parent.unwrap_or(Path::new(".")).to_owned());
        }
        self
    }

    /// With the operator's section.
    #[must_use]
    pub fn with(mut self, section: &SandboxSection) -> Self {
        self.read.extend(section.read.iter().cloned());
        self.write.extend(section.write.iter().cloned());
        self
    }

    /// Enters it, for ever. What the kernel does not have of it is said in the log, and the server
    /// serves all the same. A path that does not exist is left out.
    pub fn enter(&self) -> Entered {
        // rule: MEM-2
        let paths = paths::confine(self).unwrap_or_else(|error| {
            tracing::warn!(%error, "paths are not confined");
            Paths::Open
        });
        match paths {
            Paths::Whole => {}
            Paths::Partly => tracing::warn!(
                "this kernel has an older Landlock: paths are confined as far as it goes"
            ),
            Paths::Open => tracing::warn!(
                "this kernel has no Landlock: the server can reach every path that its user can"
            ),
        }
        let calls = match calls::filter(self.programs) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "system calls are not filtered");
                false
            }
        };
        tracing::info!(
            paths = ?paths,
            calls,
            secrets = ?crate::locked::room(),
            programs = self.programs,
            "confined"
        );
        Entered { paths, calls }
    }
}

/// The port of `scheme://host[:port]/...`.
fn port_of(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
    match behind.rsplit_once(':') {
        Some((_, port)) => port.parse().ok(),
        None if scheme.eq_ignore_ascii_case("https") => Some(443),
        None => Some(80),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_url_is_what_it_says_or_its_schemes() {
        for (url, port) in [
            ("http://127.0.0.1:8080/x", Some(8080)),
            ("https://witness.example/", Some(443)),
            ("http://witness.example", Some(80)),
            ("http://[::1]:99/a:b", Some(99)),
            ("http://[::1]/a:1", Some(80)),
            ("http://u:p@h:7", Some(7)),
            ("http://h:x/", None),
            ("h:7", None),
        ] {
            assert_eq!(port_of(url), port, "{url}");
        }
    }
}
