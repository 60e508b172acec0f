//! `broker.toml`.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use audit_log::guard::{LogSection, SectionError, WitnessSection};
use serde::Deserialize;
use store::config::ConfigError;
use store::files::{self, FileError};
use store::hooks::{self, HooksConfig};
use store::root::Pkcs11Means;
use store::sandbox::SandboxSection;
use ticket_format::iid::{RegionKeys, RegionKeysError};
use ticket_format::limits;
use ticket_format::time::Timestamp;

use super::limits::Limits;
use super::secrets::RootKeyConfig;
use crate::admins::trusted;

/// Largest certificate file, in bytes.
const PEM: u64 = 16 * 1024;

/// The configuration as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The realm's name.
    pub realm: String,
    /// Where to listen (UDP); port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Store, log and sealed keys.
    pub data_dir: PathBuf,
    /// The admin set: the first one, or any later one of its history, as its admins signed it.
    pub admin_set: PathBuf,
    /// Where the root key comes from.
    pub root_key: RootKeyConfig,
    /// Where the keys that sign tickets are made.
    #[serde(default)]
    pub ticket_key: TicketKeySection,
    /// A directory of `<region>.pem` in place of the built-in keys of AWS's regions.
    #[serde(default)]
    pub region_keys_dir: Option<PathBuf>,
    /// Where to serve `/metrics` and `/healthz` (loopback HTTP).
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// A file that gets the bound address once the broker serves.
    #[serde(default)]
    pub ready_file: Option<PathBuf>,
    /// Programs that are told of alarms and proposals.
    #[serde(default)]
    pub hooks: HooksConfig,
    /// The audit log and its witnesses.
    #[serde(default)]
    pub log: LogSection,
    /// Whose logs this broker witnesses.
    #[serde(default)]
    pub witness: Option<WitnessSection>,
    /// What the server may reach beyond what this configuration names.
    #[serde(default)]
    pub sandbox: SandboxSection,
    /// Bounds.
    #[serde(default)]
    pub limits: LimitsConfig,
}

/// `[ticket-key]`: without it the keys are sealed under the root key in the data directory.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TicketKeySection {
    /// They are made in this PKCS#11 token (KEY-4); `key` is the label of them all, and of no other key.
    pub pkcs11: Option<Pkcs11Means>,
}

/// `[limits]`: what differs from the defaults.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitsConfig {
    /// See [`Limits::logins_at_once`].
    pub logins_at_once: Option<NonZeroU32>,
    /// See [`Limits::logins_per_second`].
    pub logins_per_second: Option<NonZeroU32>,
    /// See [`Limits::login_burst`].
    pub login_burst: Option<NonZeroU32>,
    /// See [`Limits::statements_per_second`].
    pub statements_per_second: Option<NonZeroU32>,
    /// See [`Limits::statement_burst`].
    pub statement_burst: Option<NonZeroU32>,
    /// See [`Limits::issues_per_second`].
    pub issues_per_second: Option<NonZeroU32>,
    /// See [`Limits::issue_burst`].
    pub issue_burst: Option<NonZeroU32>,
    /// See [`Limits::dataset_issues_per_second`].
    pub dataset_issues_per_second: Option<NonZeroU32>,
    /// See [`Limits::dataset_issue_burst`].
    pub dataset_issue_burst: Option<NonZeroU32>,
    /// See [`Limits::budget_window`]; here in hours.
    pub budget_window_hours: Option<NonZeroU32>,
    /// See [`Limits::budget_tickets`].
    pub budget_tickets: Option<NonZeroU32>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file that it names.
    #[error(transparent)]
    File(#[from] FileError),
    /// The log's sections.
    #[error(transparent)]
    Log(#[from] SectionError),
    /// The region keys.
    #[error("region-keys-dir: {0}")]
    Regions(#[from] RegionKeysError),
    /// A value.
    #[error("{0}")]
    Value(String),
}

/// A configuration that holds.
#[derive(Debug)]
pub struct Checked {
    /// As written, paths resolved against the file's directory.
    pub config: Config,
    /// The admin set's statement.
    pub admin_set: Vec<u8>,
    /// The region keys.
    pub regions: RegionKeys,
    /// The bounds.
    pub limits: Limits,
}

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to its directory.
    ///
    /// # Errors
    /// [`Fault`]: file, line, what was expected.
    pub fn read(path: &Path) -> Result<Checked, Fault> {
        let mut config: Self = store::config::read(path)?;
        let base = path.parent().unwrap_or(Path::new("."));
        let root = &mut config.root_key;
        let optional = [
            &mut root.credential,
            &mut root.passphrase_file,
            &mut config.region_keys_dir,
            &mut config.ready_file,
        ];
        let witness = config.witness.as_mut();
        let witness_ready = witness.and_then(|witness| witness.ready_file.as_mut());
        let given = [&mut config.data_dir, &mut config.admin_set];
        let optional = optional.into_iter().flatten().chain(witness_ready);
        let token = config.ticket_key.pkcs11.as_mut();
        let token = token.map(|token| [&mut token.module, &mut token.pin_file]);
        for path in optional.chain(given).chain(token.into_iter().flatten()) {
            *path = base.join(&*path);
        }
        config.check().map_err(|fault| match fault {
            Fault::Value(text) => Fault::Value(format!("{}: {text}", path.display())),
            Fault::Log(error) => Fault::Value(format!("{}: {error}", path.display())),
            other => other,
        })
    }

    fn check(self) -> Result<Checked, Fault> {
        if !(1..=limits::NAME).contains(&self.realm.len()) {
            return Err(Fault::Value("realm must have 1 to 128 bytes".to_owned()));
        }
        let admin_set = files::read_bounded(&self.admin_set, limits::RECORD as u64)
            .map_err(|why| Fault::Value(format!("admin-set: {why}")))?;
        admin_set_holds(&admin_set, &self.realm).map_err(|why| {
            Fault::Value(format!("admin-set: {}: {why}", self.admin_set.display()))
        })?;
        for (name, argv) in [
            ("alarm", &self.hooks.alarm),
            ("proposal", &self.hooks.proposal),
        ] {
            hooks::check(argv).map_err(|error| Fault::Value(format!("[hooks] {name}: {error}")))?;
        }
        if self.root_key.credential.is_some() == self.root_key.passphrase_file.is_some() {
            return Err(Fault::Value(
                "[root-key] needs exactly one of credential and passphrase-file".to_owned(),
            ));
        }
        self.log.options(audit_log::witness::system_clock())?;
        self.log.witnesses()?;
        if let Some(witness) = &self.witness {
            witness.log_keys()?;
        }
        if let Some(metrics) = self
            .metrics_listen
            .filter(|address| !address.ip().is_loopback())
        {
            return Err(Fault::Value(format!(
                "metrics-listen: {metrics} is not a loopback address; the page has no access control"
            )));
        }
        let regions = match &self.region_keys_dir {
            Some(dir) => region_keys(dir)?,
            None => RegionKeys::built_in(),
        };
        let defaults = Limits::default();
        let limits = Limits {
            logins_per_second: self
                .limits
                .logins_per_second
                .unwrap_or(defaults.logins_per_second),
            login_burst: self.limits.login_burst.unwrap_or(defaults.login_burst),
            statements_per_second: self
                .limits
                .statements_per_second
                .unwrap_or(defaults.statements_per_second),
            statement_burst: self
                .limits
                .statement_burst
                .unwrap_or(defaults.statement_burst),
            issues_per_second: self
                .limits
                .issues_per_second
                .unwrap_or(defaults.issues_per_second),
            issue_burst: self.limits.issue_burst.unwrap_or(defaults.issue_burst),
            logins_at_once: self
                .limits
                .logins_at_once
                .unwrap_or(defaults.logins_at_once),
            dataset_issues_per_second: self
                .limits
                .dataset_issues_per_second
                .unwrap_or(defaults.dataset_issues_per_second),
            dataset_issue_burst: self
                .limits
                .dataset_issue_burst
                .unwrap_or(defaults.dataset_issue_burst),
            budget_window: self
                .limits
                .budget_window_hours
                .map_or(defaults.budget_window, |hours| {
                    u64::from(hours.get()) * 3_600
                }),
            budget_tickets: self
                .limits
                .budget_tickets
                .map_or(defaults.budget_tickets, |tickets| tickets.get().into()),
        };
        Ok(Checked {
            config: self,
            admin_set,
            regions,
            limits,
        })
    }
}

/// Whether a file is an admin set that can be trusted. A record has no end, and what it begins at is for
/// the start to judge, so the time is the last there is.
///
/// # Errors
/// Why it is none.
pub(super) fn admin_set_holds(statement: &[u8], realm: &str) -> Result<(), String> {
    let late = Timestamp::from_seconds(Timestamp::LAST.seconds().saturating_sub(1));
    trusted(statement, realm, late)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Reads every `<region>.pem` of a directory.
fn region_keys(dir: &Path) -> Result<RegionKeys, Fault> {
    let unreadable = |source| {
        Fault::File(FileError::Io {
            path: dir.to_owned(),
            source,
        })
    };
    let mut pems = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            let text = String::from_utf8(files::read_bounded(&path, PEM)?)
                .map_err(|_| Fault::Value(format!("{} is not text", path.display())))?;
            let region = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            pems.push((region, text));
        }
    }
    Ok(RegionKeys::from_pems(pems)?)
}
