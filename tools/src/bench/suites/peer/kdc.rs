//! MIT krb5's KDC in a directory of its own, and the callers that load it.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use ticket_format::report::{Report, exit};

use crate::cpu;
use crate::realm::memory_dir;

/// The callers' program; compiled for the run, since libkrb5 is C.
const DRIVER: &str = include_str!("../../peer/krb5_driver.c");
/// What makes everything here available.
const INSTALL: &str = "install it: sudo apt-get install -y krb5-kdc krb5-user libkrb5-dev gcc";
/// Callers at a time, as many as Postern's rows have.
const CALLERS: &str = "32";
/// How long a KDC may take to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the callers ask for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    /// AS-REQ with an encrypted timestamp.
    As,
    /// TGS-REQ.
    Tgs,
}

/// What one span showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    /// Answers in a second.
    pub(super) per_s: f64,
    /// Microseconds that 99 in 100 took at most.
    pub(super) p99_us: f64,
    /// Answers.
    pub(super) count: u64,
}

/// A running KDC.
pub(super) struct Kdc {
    process: Child,
    dir: tempfile::TempDir,
}

impl Kdc {
    /// Makes a database with a node and a service, compiles the callers and starts the KDC with 2 workers.
    pub(super) fn start() -> Result<Self, Report> {
        let dir = memory_dir()?;
        let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let port = probe.local_addr().map_err(failed)?.port();
        drop(probe);
        let at = dir.path();
        let write = |name: &str, text: &str| fs::write(at.join(name), text).map_err(failed);
        write("krb5.conf", &client_config(port))?;
        write("kdc.conf", &kdc_config(at, port))?;
        write("driver.c", DRIVER)?;
        run(at, "cc", &["-O2", "-o", "driver", "driver.c", "-lkrb5"])?;
        run(at, "kdb5_util", &["create", "-s", "-P", "throwaway"])?;
        for query in [
            "addprinc -randkey +requires_preauth node",
            "addprinc -randkey service",
            "ktadd -k node.keytab -norandkey node",
        ] {
            run(at, "kadmin.local", &["-q", query])?;
        }
        let process = command(at, "krb5kdc")
            .args(["-n", "-w", "2"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| missing("krb5kdc", error))?;
        let kdc = Self { process, dir };
        let asked = Instant::now();
        loop {
            match kdc.drive(Ask::As, "1", Duration::from_millis(20)) {
                Ok(_) => return Ok(kdc),
                Err(report) if asked.elapsed() > PATIENCE => return Err(report),
                Err(_) => {}
            }
        }
    }

    /// Loads it for a span; the second figure is its own CPU time in microseconds for each answer.
    pub(super) fn load(&self, ask: Ask, span: Duration) -> Result<(Load, f64), Report> {
        let before = self.cpu()?;
        let load = self.drive(ask, CALLERS, span)?;
        let spent = self.cpu()?.saturating_sub(before);
        Ok((load, cpu::per(spent, load.count)))
    }

    fn drive(&self, ask: Ask, callers: &str, span: Duration) -> Result<Load, Report> {
        let ask = match ask {
            Ask::As => "as",
            Ask::Tgs => "tgs",
        };
        let program = self.dir.path().join("driver");
        let (program, span) = (program.to_string_lossy(), span.as_millis().to_string());
        let arguments = [ask, callers, &span, "node", "FILE:node.keytab", "service"];
        let output = run(self.dir.path(), &program, &arguments)?;
        let told = String::from_utf8_lossy(&output.stdout);
        parse(&told).ok_or_else(|| failed(format!("the driver told {:?}", told.trim())))
    }

    /// CPU time of the KDC and its workers.
    fn cpu(&self) -> Result<Duration, Report> {
        let pid = self.process.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let mut cpu = cpu::usage(pid)?.cpu;
        for worker in children.map_err(failed)?.split_whitespace() {
            cpu += cpu::usage(worker.parse().map_err(failed)?)?.cpu;
        }
        Ok(cpu)
    }
}

impl Drop for Kdc {
    fn drop(&mut self) {
        // The first process ends its workers when it is asked to end, not when it is killed.
        let pid = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let _ = self.process.wait();
    }
}

fn client_config(port: u16) -> String {
    format!(
        "[libdefaults]\n default_realm = BENCH.TEST\n dns_lookup_kdc = false\n dns_lookup_realm = false\n \
         dns_canonicalize_hostname = false\n rdns = false\n\
         [realms]\n BENCH.TEST = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
    )
}

/// Without the two records of each login that the KDC would wait for the disk with.
fn kdc_config(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n\
         [realms]\n BENCH.TEST = {{\n  database_module = own\n  key_stash_file = {dir}/stash\n  \
         acl_file = {dir}/acl\n }}\n\
         [dbmodules]\n own = {{\n  db_library = db2\n  database_name = {dir}/principal\n  \
         disable_last_success = true\n  disable_lockout = true\n }}\n\
         [logging]\n kdc = FILE:{dir}/kdc.log\n admin_server = FILE:{dir}/admin.log\n"
    )
}

fn command(dir: &Path, program: &str) -> Command {
    // Debian keeps a server's programs where a user's PATH does not look.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let mut command = Command::new(program);
    command.current_dir(dir).stdin(Stdio::null());
    command.env("PATH", path);
    command.env("KRB5_CONFIG", dir.join("krb5.conf"));
    command.env("KRB5_KDC_PROFILE", dir.join("kdc.conf"));
    command
}

fn run(dir: &Path, program: &str, arguments: &[&str]) -> Result<Output, Report> {
    let output = command(dir, program).args(arguments).output();
    let output = output.map_err(|error| missing(program, error))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{program}: {}", said.trim())).next(INSTALL))
}

fn missing(program: &str, error: std::io::Error) -> Report {
    Report::new(exit::NOT_FOUND, format!("{program} cannot be run"))
        .why(error)
        .next(INSTALL)
}

fn failed(why: impl std::fmt::Display) -> Report {
    Report::new(exit::LOCAL, "the KDC cannot be measured").why(why)
}

/// `COUNT ELAPSED_US P50_US P99_US`.
#[allow(clippy::cast_precision_loss)] // counts far below 2^52
fn parse(told: &str) -> Option<Load> {
    let numbers: Result<Vec<u64>, _> = told.split_whitespace().map(str::parse).collect();
    match numbers.ok()?[..] {
        [count, elapsed, _, p99] if count > 0 && elapsed > 0 => Some(Load {
            per_s: count as f64 * 1e6 / elapsed as f64,
            p99_us: p99 as f64,
            count,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_tells_is_a_rate_and_a_time() {
        let load = parse("3000 1500000 11599 92303\n").unwrap();
        assert_eq!(
            (load.per_s, load.p99_us, load.count),
            (2_000.0, 92_303.0, 3_000)
        );
    }

    #[test]
    fn a_driver_that_tells_anything_else_is_not_believed() {
        for told in [
            "",
            "1 2 3",
            "1 2 3 4 5",
            "0 1 1 1",
            "1 0 1 1",
            "a b c d",
            "-1 1 1 1",
        ] {
            assert_eq!(parse(told), None, "{told}");
        }
    }
}
