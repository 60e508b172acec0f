//! `witness.toml`, and the flags that go before it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use store::files;
use ticket_format::report::{Report, exit};
use ticket_format::tlog::{LogKey, Vkey, VkeyKind};

use super::args::From;

/// Largest file of vkeys, in bytes: about thirty logs.
const VKEYS: u64 = 64 * 1024;

/// The configuration as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    /// Where to listen (TCP).
    listen: Option<SocketAddr>,
    /// Keys and state.
    data_dir: Option<PathBuf>,
    /// Vkeys of logs, two for each.
    #[serde(default)]
    logs: Vec<String>,
    /// Files of such vkeys.
    #[serde(default)]
    log_files: Vec<PathBuf>,
    /// A file that gets the bound address once the witness serves.
    ready_file: Option<PathBuf>,
}

/// A configuration that holds.
#[derive(Debug)]
pub struct Setup {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Keys and state.
    pub data_dir: PathBuf,
    /// The logs to follow.
    pub logs: Vec<LogKey>,
    /// A file that gets the bound address.
    pub ready_file: Option<PathBuf>,
}

fn bad(why: impl std::fmt::Display) -> Report {
    Report::new(exit::CONFIG, "the configuration does not hold")
        .why(why)
        .next("mend it; `postern-witness check-config` says whether it holds")
}

impl Setup {
    /// Reads the file, if one is named, and what flags say before it. Logs of both are followed.
    ///
    /// # Errors
    /// [`Report`]: what is missing or does not hold.
    pub fn read(from: &From) -> Result<Self, Report> {
        let file = match &from.config {
            None => File::default(),
            Some(path) => {
                let mut file: File = store::config::read(path).map_err(bad)?;
                // Relative paths are relative to the file's directory.
                let base = path.parent().unwrap_or(Path::new("."));
                let single = [&mut file.data_dir, &mut file.ready_file];
                let paths = single.into_iter().flatten().chain(&mut file.log_files);
                for path in paths {
                    *path = base.join(&*path);
                }
                file
            }
        };
        let listen = from.listen.or(file.listen);
        let data_dir = from.data_dir.clone().or(file.data_dir);
        let mut vkeys: Vec<String> = file.logs;
        vkeys.extend(from.logs.iter().cloned());
        for path in file.log_files.iter().chain(&from.log_files) {
            vkeys.extend(vkeys_of(path)?);
        }
        let logs = logs(&vkeys)?;
        if logs.is_empty() {
            return Err(bad("no log is named").next(
                "name each log's two vkeys with --log, --log-file or `logs` in witness.toml",
            ));
        }
        let missing = |what: &str, flag: &str| {
            bad(format!("{what} is missing"))
                .next(format!("give {flag}, or set it in witness.toml"))
        };
        Ok(Self {
            listen: listen.ok_or_else(|| missing("the address to listen on", "--listen"))?,
            data_dir: data_dir.ok_or_else(|| missing("the data directory", "--data-dir"))?,
            logs,
            ready_file: file.ready_file,
        })
    }
}

fn vkeys_of(path: &Path) -> Result<Vec<String>, Report> {
    let bytes = files::read_bounded(path, VKEYS).map_err(bad)?;
    let text =
        String::from_utf8(bytes).map_err(|_| bad(format!("{} is not text", path.display())))?;
    let lines = text.lines().map(str::trim);
    Ok(lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

/// Joins vkeys to logs by their names.
fn logs(vkeys: &[String]) -> Result<Vec<LogKey>, Report> {
    let mut named: BTreeMap<String, Vec<Vkey>> = BTreeMap::new();
    for (number, text) in vkeys.iter().enumerate() {
        let vkey: Vkey = text.parse().map_err(|error| {
            bad(format!("log vkey {}: {error}", number + 1))
                .next("copy the line as the log's operator gave it, `<name>+<id>+<key>`")
        })?;
        let of_name = named.entry(vkey.name().to_owned()).or_default();
        // Named in a flag and in the file: the same.
        if !of_name.contains(&vkey) {
            of_name.push(vkey);
        }
    }
    let joined = named.into_iter().map(|(name, vkeys)| {
        let of = |kind| vkeys.iter().find(|vkey| vkey.kind() == kind);
        let pair = (of(VkeyKind::Ed25519), of(VkeyKind::CosignatureMlDsa44));
        let ((Some(ed25519), Some(ml_dsa)), 2) = (pair, vkeys.len()) else {
            return Err(bad(format!(
                "log {name} has {} vkeys; it needs two, one Ed25519 and one ML-DSA-44",
                vkeys.len()
            ))
            .next("the log's operator gives both; name each with --log or in a file"));
        };
        LogKey::from_vkeys(&ed25519.to_string(), &ml_dsa.to_string())
            .map_err(|error| bad(format!("log {name}: {error}")))
    });
    joined.collect()
}
