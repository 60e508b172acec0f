//! On what was measured, and what.

use std::fs;
use std::process::Command;

/// Machine, commit, versions and load, as a list in Markdown. Asked before anything is measured. `peers` are
/// the versions of others' programs that are measured too.
pub(crate) fn describe(peers: &[String]) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = first_line("/proc/sys/kernel/osrelease").unwrap_or_else(unknown);
    format!(
        "- machine: {} ({cores} cores), {}, Linux {kernel}\n- commit: {}\n- versions: postern {}, {}{}\n- load before: {}\n",
        processor().unwrap_or_else(unknown),
        memory().unwrap_or_else(unknown),
        commit().unwrap_or_else(unknown),
        env!("CARGO_PKG_VERSION"),
        output("rustc", &["--version"]).unwrap_or_else(unknown),
        peers
            .iter()
            .map(|peer| format!(", {peer}"))
            .collect::<String>(),
        load().unwrap_or_else(unknown),
    )
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// What ran in the last one, five and fifteen minutes.
fn load() -> Option<String> {
    let line = first_line("/proc/loadavg")?;
    Some(line.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

fn first_line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.to_owned())
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory() -> Option<String> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(format!("{} GiB", kib.div_ceil(1 << 20)))
}

/// The commit of the checkout that this program was built in, with a mark when files differ from it.
fn commit() -> Option<String> {
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"])?;
    let changed = output("git", &["status", "--porcelain", "--untracked-files=no"]).is_some();
    Some(if changed {
        format!("{commit}, with changes")
    } else {
        commit
    })
}

/// What a command says beside this program, if it succeeds and says something.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let place = std::env::current_exe().ok()?;
    let mut command = Command::new(program);
    let output = command
        .args(arguments)
        .current_dir(place.parent()?)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
