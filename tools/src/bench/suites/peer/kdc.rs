//! MIT krb5's KDC in a directory of its own, and the callers that load it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use ticket_format::report::{Report, exit};

use super::kdc_files::{self, NEWCOMER, NODE, SERVICE};
use crate::cpu;
use crate::drive::Tally;
use crate::realm::memory_dir;

/// The callers' program; compiled for the run, since libkrb5 is C.
const DRIVER: &str = include_str!("krb5_driver.c");
/// What makes everything here available.
const INSTALL: &str = "install it: sudo apt-get install -y krb5-kdc krb5-admin-server krb5-pkinit libkrb5-dev gcc openssl";
/// How long a KDC may take to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often another port is tried: somebody else may take one between the search and its use.
const PORTS: usize = 5;

/// What the callers ask for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    /// AS-REQ with an encrypted timestamp.
    As,
    /// AS-REQ with PKINIT.
    Pkinit,
    /// TGS-REQ.
    Tgs,
}

/// A running KDC. It is stopped, and its directory removed, when this is dropped.
pub(super) struct Kdc {
    // Stopped before the directory goes.
    process: Process,
    dir: tempfile::TempDir,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // The first process ends its workers when it is asked to end, not when it is killed.
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        // Fails only when it has ended, which is what is wanted.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let _ = self.0.wait();
    }
}

impl Kdc {
    /// Makes a database with nodes and a service, certificates and the callers' program, and starts the KDC with 2
    /// workers.
    pub(super) fn start() -> Result<Self, Report> {
        let dir = memory_dir()?;
        let at = dir.path();
        configure(at, free_port()?)?;
        write(at, "driver.c", DRIVER)?;
        run(at, "cc", &["-O2", "-o", "driver", "driver.c", "-lkrb5"])?;
        certify(at)?;
        run(at, "kdb5_util", &["create", "-s", "-P", "throwaway"])?;
        for query in [
            format!("addprinc -randkey +requires_preauth {NODE}"),
            format!("addprinc -nokey +requires_preauth {NEWCOMER}"),
            format!("addprinc -randkey {SERVICE}"),
            format!("ktadd -k node.keytab -norandkey {NODE}"),
        ] {
            run(at, "kadmin.local", &["-q", &query])?;
        }
        let mut tried = 1;
        loop {
            match serve(at) {
                Ok(process) => return Ok(Self { process, dir }),
                Err(report) if tried == PORTS => return Err(report),
                Err(_) => tried += 1,
            }
            configure(at, free_port()?)?;
        }
    }

    /// Loads it for a span by so many callers; the second figure is its own CPU time for each answer, in microseconds.
    pub(super) fn load(
        &self,
        ask: Ask,
        callers: usize,
        span: Duration,
    ) -> Result<(Tally, f64), Report> {
        let before = self.cpu()?;
        let tally = drive(self.dir.path(), ask, callers, span)?;
        let spent = self.cpu()?.saturating_sub(before);
        Ok((tally, cpu::per(spent, tally.count)))
    }

    /// CPU time of the KDC and its workers.
    fn cpu(&self) -> Result<Duration, Report> {
        let pid = self.process.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let mut cpu = cpu::usage(pid)?.cpu;
        for worker in children.map_err(failed)?.split_whitespace() {
            cpu += cpu::usage(worker.parse().map_err(failed)?)?.cpu;
        }
        Ok(cpu)
    }
}

/// The version of what is installed.
pub(super) fn version() -> Option<String> {
    let told = crate::machine::output("krb5-config", &["--version"])?;
    Some(format!("MIT krb5 {}", told.split_whitespace().last()?))
}

/// Starts the KDC and waits until it answers.
fn serve(dir: &Path) -> Result<Process, Report> {
    let child = command(dir, "krb5kdc")
        .args(["-n", "-w", "2"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| missing("krb5kdc", error))?;
    let mut process = Process(child);
    let asked = Instant::now();
    loop {
        let answered = drive(dir, Ask::As, 1, Duration::from_millis(20));
        let ended = process.0.try_wait().map_err(failed)?;
        match (answered, ended) {
            (Ok(_), None) => return Ok(process),
            (_, Some(status)) => return Err(failed(format!("krb5kdc ended with {status}"))),
            (Err(report), None) if asked.elapsed() > PATIENCE => return Err(report),
            (Err(_), None) => {}
        }
    }
}

fn configure(dir: &Path, port: u16) -> Result<(), Report> {
    write(dir, "krb5.conf", &kdc_files::krb5_conf(dir, port))?;
    write(dir, "kdc.conf", &kdc_files::kdc_conf(dir, port))
}

/// A CA, and certificates of the KDC and of a node by it, all with RSA-2048.
fn certify(dir: &Path) -> Result<(), Report> {
    const NEW: [&str; 4] = ["req", "-newkey", "rsa:2048", "-nodes"];
    let new = |more: &[&str]| run(dir, "openssl", &[&NEW, more].concat());
    write(dir, "extensions", &kdc_files::extensions())?;
    let named = ["-subj", "/CN=ca", "-days", "2", "-x509"];
    new(&[&named[..], &["-keyout", "ca.key", "-out", "ca.pem"]].concat())?;
    for (serial, who) in [("1", "kdc"), ("2", "node")] {
        let file = |ending: &str| format!("{who}.{ending}");
        let (key, request, certificate) = (file("key"), file("csr"), file("pem"));
        let subject = format!("/CN={who}");
        new(&["-subj", &subject, "-keyout", &key, "-out", &request])?;
        let by = [
            "x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
        ];
        let extensions = ["-extfile", "extensions", "-extensions", who];
        let files = ["-set_serial", serial, "-in", &request, "-out", &certificate];
        run(dir, "openssl", &[&by[..], &extensions, &files].concat())?;
    }
    Ok(())
}

fn drive(dir: &Path, ask: Ask, callers: usize, span: Duration) -> Result<Tally, Report> {
    let (ask, principal, secret) = match ask {
        Ask::As => ("as", NODE, "FILE:node.keytab"),
        Ask::Tgs => ("tgs", NODE, "FILE:node.keytab"),
        Ask::Pkinit => ("pkinit", NEWCOMER, "FILE:node.pem,node.key"),
    };
    let (callers, span) = (callers.to_string(), span.as_millis().to_string());
    let arguments = [ask, &callers, &span, principal, secret, SERVICE];
    let output = run(dir, &dir.join("driver").to_string_lossy(), &arguments)?;
    let told = String::from_utf8_lossy(&output.stdout);
    parse(&told).ok_or_else(|| failed(format!("the driver told {:?}", told.trim())))
}

/// `COUNT ELAPSED_US`.
fn parse(told: &str) -> Option<Tally> {
    let numbers: Result<Vec<u64>, _> = told.split_whitespace().map(str::parse).collect();
    match numbers.ok()?[..] {
        [count, elapsed] if count > 0 && elapsed > 0 => Some(Tally {
            count,
            took: Duration::from_micros(elapsed),
        }),
        _ => None,
    }
}

/// A port of loopback that is free for UDP and for TCP.
fn free_port() -> Result<u16, Report> {
    let mut last = None;
    for _ in 0..PORTS {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let port = udp.local_addr().map_err(failed)?.port();
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    Err(failed(
        last.map_or_else(String::new, |error| error.to_string()),
    ))
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), Report> {
    fs::write(dir.join(name), text).map_err(failed)
}

fn command(dir: &Path, program: &str) -> Command {
    let mut command = Command::new(found(program));
    command.current_dir(dir).stdin(Stdio::null());
    command.env("KRB5_CONFIG", dir.join("krb5.conf"));
    command.env("KRB5_KDC_PROFILE", dir.join("kdc.conf"));
    command
}

/// Where a program is: Debian keeps a server's where a user's PATH does not look.
fn found(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = places
        .map(|place| place.join(program))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| program.into())
}

fn run(dir: &Path, program: &str, arguments: &[&str]) -> Result<Output, Report> {
    let output = command(dir, program).args(arguments).output();
    let output = output.map_err(|error| missing(program, error))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or_default();
    Err(failed(format!("{program}: {said}")).next(INSTALL))
}

fn missing(program: &str, error: std::io::Error) -> Report {
    Report::new(exit::NOT_FOUND, format!("{program} cannot be run"))
        .why(error)
        .next(INSTALL)
}

fn failed(why: impl std::fmt::Display) -> Report {
    Report::new(exit::LOCAL, "the KDC cannot be measured").why(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_tells_is_a_count_and_a_time() {
        let tally = parse("3000 1500000\n").unwrap();
        assert_eq!((tally.count, tally.per_s()), (3_000, 2_000.0));
    }

    #[test]
    fn a_driver_that_tells_anything_else_is_not_believed() {
        for told in ["", "1", "1 2 3", "0 1", "1 0", "a b", "-1 1"] {
            assert_eq!(parse(told), None, "{told}");
        }
    }
}
