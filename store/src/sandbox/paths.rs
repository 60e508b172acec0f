//! Landlock: which paths, which TCP ports.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope,
};

use super::{Paths, Sandbox};

/// What is asked for: Linux 6.12. An older kernel gives what it has; what a later one adds is not
/// asked for, so that a new kernel never takes from a server what it needs.
const WANTED: ABI = ABI::V6;

/// What any program reads to find others by name, trust certificates, tell the time zone and count its
/// processors.
const ALWAYS: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/localtime",
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/usr/share/ca-certificates",
    "/run/systemd/resolve",
    "/usr/share/zoneinfo",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/vm",
    "/proc/sys/kernel",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/dev/urandom",
    "/dev/random",
];

/// What other programs need beyond that.
const PROGRAMS: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/opt",
    "/etc/alternatives",
    "/etc/passwd",
    "/etc/group",
    "/etc/crypto-policies",
    "/etc/tpm2-tss",
    "/proc",
];

/// Devices that are written.
const DEVICES: &[&str] = &["/dev/null", "/dev/tpmrm0"];

pub(super) fn confine(sandbox: &Sandbox) -> Result<Paths, RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?;
    let ruleset = if sandbox.programs {
        ruleset
    } else {
        ruleset
            .handle_access(AccessNet::from_all(WANTED))?
            .scope(Scope::Signal)?
    };
    let mut rules = ruleset.create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(WANTED)
        & !(AccessFs::Execute
            | AccessFs::MakeChar
            | AccessFs::MakeBlock
            | AccessFs::MakeFifo
            | AccessFs::IoctlDev);
    for path in ALWAYS {
        rules = allow(rules, Path::new(path), read)?;
    }
    for path in DEVICES {
        rules = allow(
            rules,
            Path::new(path),
            read | AccessFs::WriteFile | AccessFs::IoctlDev,
        )?;
    }
    if sandbox.programs {
        let run = read | AccessFs::Execute;
        for path in PROGRAMS.iter().chain(&["/lib", "/lib64"]) {
            rules = allow(rules, Path::new(path), run)?;
        }
    }
    let given = if sandbox.programs {
        read | AccessFs::Execute
    } else {
        read
    };
    for path in &sandbox.read {
        rules = allow(rules, path, given)?;
    }
    for path in &sandbox.write {
        rules = allow(rules, path, write)?;
    }
    if !sandbox.programs {
        for port in &sandbox.listen {
            rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
        }
        for port in &sandbox.connect {
            rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Paths::Whole,
        RulesetStatus::PartiallyEnforced => Paths::Partly,
        RulesetStatus::NotEnforced => Paths::Open,
    })
}

/// A rule for a path; of a file, what can be done to files. One that is not there needs no rule.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(opened) = PathFd::new(path) else {
        return Ok(rules);
    };
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(WANTED)
    };
    rules.add_rule(PathBeneath::new(opened, access))
}
