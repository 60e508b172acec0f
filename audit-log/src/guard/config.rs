//! How a server's log and its witnesses are configured; the same at a broker and at a key server.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use ticket_format::limits;
use ticket_format::tlog::LogKey;

use super::Shards;
use crate::Options;
use crate::options::Clock;
use crate::witness::{Endpoint, EndpointError};

/// Least bytes of a shard: some thousands of entries.
const SHARD_BYTES: u64 = 1024 * 1024;

/// `[log]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogSection {
    /// Bytes of a journal after which its shard is closed.
    pub shard_bytes: Option<u64>,
    /// Days for which closed shards are kept whole; for ever when it is not said.
    pub keep_days: Option<u64>,
    /// Who cosigns this log's checkpoints.
    #[serde(default)]
    pub witness: Vec<WitnessEntry>,
}

/// `[[log.witness]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WitnessEntry {
    /// For messages, metrics and `log show`.
    pub name: String,
    /// Its submission prefix.
    pub url: String,
    /// Its vkeys: type 4, type 6, or both.
    pub keys: Vec<String>,
}

/// `[witness]`: this server witnesses others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WitnessSection {
    /// Where to listen (HTTP).
    pub listen: SocketAddr,
    /// Written when it listens: its address, one line.
    pub ready_file: Option<PathBuf>,
    /// The logs, each by its two vkeys, Ed25519 first.
    pub logs: Vec<WitnessedLog>,
}

/// The two vkeys of a log, Ed25519 first.
pub type WitnessedLog = [String; 2];

/// What does not hold in these sections.
#[derive(Debug, thiserror::Error)]
pub enum SectionError {
    /// A number.
    #[error("[log] shard-bytes must be at least {SHARD_BYTES}, and keep-days at least 1")]
    Number,
    /// A witness's name.
    #[error(
        "each [[log.witness]] needs a name of its own, of 1 to {} bytes",
        limits::NAME
    )]
    Name,
    /// A witness.
    #[error("[[log.witness]] {name}: {error}")]
    Witness {
        /// Its name.
        name: String,
        /// Why not.
        error: EndpointError,
    },
    /// Too many.
    #[error("a log has at most {} witnesses", limits::WITNESSES)]
    TooMany,
    /// A log to be witnessed.
    #[error("[witness] logs, number {0}: {1}")]
    Log(usize, ticket_format::tlog::NotAVkey),
}

impl LogSection {
    /// How the log is to be opened.
    ///
    /// # Errors
    /// [`SectionError::Number`].
    pub fn options(&self, clock: Clock) -> Result<Options, SectionError> {
        let default = Options::default();
        let shard_bytes = self.shard_bytes.unwrap_or(default.shard_bytes);
        if shard_bytes < SHARD_BYTES || self.keep_days == Some(0) {
            return Err(SectionError::Number);
        }
        let days = |days: u64| Duration::from_secs(days.saturating_mul(86_400));
        Ok(Options {
            shard_bytes,
            keep_for: self.keep_days.map(days),
            shard_entries: Some(Arc::new(Shards {
                clock: Arc::clone(&clock),
            })),
            clock,
            ..default
        })
    }

    /// The witnesses, by name.
    ///
    /// # Errors
    /// [`SectionError`].
    pub fn witnesses(&self) -> Result<Vec<(String, Endpoint)>, SectionError> {
        if self.witness.len() > limits::WITNESSES {
            return Err(SectionError::TooMany);
        }
        let mut names = BTreeSet::new();
        let mut found = Vec::new();
        for WitnessEntry { name, url, keys } in &self.witness {
            if name.is_empty() || name.len() > limits::NAME || !names.insert(name) {
                return Err(SectionError::Name);
            }
            let endpoint = Endpoint::new(url, keys).map_err(|error| SectionError::Witness {
                name: name.clone(),
                error,
            })?;
            found.push((name.clone(), endpoint));
        }
        Ok(found)
    }
}

impl WitnessSection {
    /// The logs to be witnessed.
    ///
    /// # Errors
    /// [`SectionError::Log`].
    pub fn log_keys(&self) -> Result<Vec<LogKey>, SectionError> {
        let numbered = self.logs.iter().zip(1..);
        let key = |([ed25519, ml_dsa], number): (&WitnessedLog, usize)| {
            LogKey::from_vkeys(ed25519, ml_dsa).map_err(|error| SectionError::Log(number, error))
        };
        numbered.map(key).collect()
    }
}
