//! Which log a command is about: where it is read, and the keys that it is believed by.

use std::path::PathBuf;

use clap::Args;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::tlog::{LogKey, Vkey, VkeyKind, WitnessPolicy};

use super::published::Published;
use super::source::Source;
use crate::admin::Context;
use crate::admin::config::Config;

/// One log.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// The log: its directory or a copy, or the http(s) address that serves it [default: `logs` of the configuration]
    #[arg(long = "log", value_name = "DIR|URL")]
    logs: Vec<String>,
    /// A key of the log, as `init` of its server printed it; twice, of kind 1 and 6 [default: those of the
    /// configured broker and key servers]
    #[arg(long = "log-key", value_name = "VKEY")]
    keys: Vec<String>,
}

/// The witnesses that must have cosigned.
#[derive(Clone, Debug, Args)]
pub struct Witnessed {
    /// Which witnesses must have cosigned each checkpoint (c2sp.org/tlog-policy)
    #[arg(long, value_name = "FILE")]
    witness_policy: Option<PathBuf>,
}

/// Pairs verifier keys that name the same log.
///
/// # Errors
/// One is none, or has no partner.
pub fn log_keys(vkeys: &[String]) -> Result<Vec<LogKey>, Report> {
    let wrong = |why: String| {
        Report::new(exit::USAGE, "the log's keys cannot be used")
            .why(why)
            .next("give both lines that the server's `init` printed: --log-key VKEY --log-key VKEY")
    };
    let parsed = vkeys
        .iter()
        .map(|text| {
            text.parse::<Vkey>()
                .map_err(|error| wrong(error.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut keys = Vec::new();
    for first in parsed.iter().filter(|key| key.kind() == VkeyKind::Ed25519) {
        let partner =
            |key: &&Vkey| key.kind() == VkeyKind::CosignatureMlDsa44 && key.name() == first.name();
        let second = parsed
            .iter()
            .find(partner)
            .ok_or_else(|| wrong(format!("{} has no ML-DSA-44 key", first.name())))?;
        let key = LogKey::from_vkeys(&first.to_string(), &second.to_string());
        keys.push(key.map_err(|error| wrong(error.to_string()))?);
    }
    if keys.len() * 2 != parsed.len() {
        return Err(wrong(
            "each log has one Ed25519 and one ML-DSA-44 key, of the same name".to_owned(),
        ));
    }
    Ok(keys)
}

impl Which {
    /// All logs that are meant.
    ///
    /// # Errors
    /// None is, it cannot be read, or its keys are not known.
    pub fn all(&self, context: &Context) -> Result<Vec<Published>, Report> {
        let mut config = None;
        let mut configured = || match &config {
            Some(config) => Ok::<Config, Report>(Config::clone(config)),
            None => Ok(config.insert(context.config()?).clone()),
        };
        let keys = if self.keys.is_empty() {
            configured()?.log_keys()?
        } else {
            log_keys(&self.keys)?
        };
        let places = if self.logs.is_empty() {
            configured()?.logs
        } else {
            self.logs.clone()
        };
        if places.is_empty() {
            return Err(Report::new(exit::USAGE, "which log is not said")
                .next("give --log DIR or --log URL, or name `logs` in the configuration"));
        }
        let timeout = context.global.timeout();
        places
            .iter()
            .map(|place| {
                let source = Source::open(place, timeout)?;
                let key = choose(&keys, &source)?;
                Ok(Published::new(source, key))
            })
            .collect()
    }

    /// The log that is meant.
    ///
    /// # Errors
    /// As [`Which::all`]; or there are several.
    pub fn one(&self, context: &Context) -> Result<Published, Report> {
        let mut all = self.all(context)?;
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Ok(one),
            _ => Err(Report::new(exit::USAGE, "this command reads one log").next("give one --log")),
        }
    }

    /// The keys that are given, or configured.
    ///
    /// # Errors
    /// None are, or they cannot be used.
    pub fn keys(&self, context: &Context) -> Result<Vec<LogKey>, Report> {
        if self.keys.is_empty() {
            context.config()?.log_keys()
        } else {
            log_keys(&self.keys)
        }
    }
}

/// The only key, or the one of the log that the source claims to be.
fn choose(keys: &[LogKey], source: &Source) -> Result<LogKey, Report> {
    if let [only] = keys {
        return Ok(only.clone());
    }
    let place = source.place();
    let claimed = Published::claimed(source);
    let claimed = claimed.ok_or_else(|| {
        Report::new(exit::INTEGRITY, format!("{place} is no log"))
            .why("its first shard has no checkpoint")
            .next("check the place; if it was a log, find out who removed it")
    })?;
    let found = keys.iter().find(|key| key.origin.as_str() == claimed);
    found.cloned().ok_or_else(|| {
        Report::new(
            exit::INTEGRITY,
            format!("{place} is the log of nobody who is known here"),
        )
        .why(format!("it says that it is {claimed}"))
        .next("give that log's keys (--log-key, twice), from its server's `init`, not from the log")
    })
}

impl Witnessed {
    /// The policy, where one is given.
    ///
    /// # Errors
    /// The file cannot be read, or is none.
    pub fn policy(&self) -> Result<Option<WitnessPolicy>, Report> {
        self.witness_policy
            .as_deref()
            .map(|path| witness_policy(path).map(|(policy, _)| policy))
            .transpose()
    }
}

/// Reads a witness policy; its text beside it.
///
/// # Errors
/// The file cannot be read, or is none.
pub fn witness_policy(path: &std::path::Path) -> Result<(WitnessPolicy, String), Report> {
    let unusable = |why: String| {
        Report::new(
            exit::LOCAL,
            format!("the witness policy {} cannot be used", path.display()),
        )
        .why(why)
        .next(
            "see c2sp.org/tlog-policy: `witness NAME VKEY`, `group NAME K NAME...`, `quorum NAME`",
        )
    };
    let bytes = store::files::read_bounded(path, limits::WITNESS_POLICY as u64)
        .map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8".to_owned()))?;
    let policy = text
        .parse()
        .map_err(|error: ticket_format::tlog::PolicyError| unusable(error.to_string()))?;
    Ok((policy, text))
}
