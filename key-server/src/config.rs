//! `key-server.toml`: what an operator says. Paths are relative to the file's directory.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use audit_log::Options;
use audit_log::guard::{LogSection, SectionError, WitnessSection};
use serde::{Deserialize, Deserializer};
use store::config::{self, ConfigError};
use store::files::{self, FileError};
use store::root::{Means, Pkcs11Means, RootDir, RootError, Tpm2Means, Ways};
use store::sandbox::SandboxSection;
use store::sealed::{RootKey, SealedError};
use ticket_format::iid::RegionKeys;
use ticket_format::keys::{FeedKey, ServerSecret, TicketKey, TlsKey, TlsSecret};
use ticket_format::limits;
use ticket_format::statement::Role;
use ticket_format::time::Timestamp;
use ticket_format::tlog::{BadSeed, LogKey, LogSecret, NotAVkey, Origin, WitnessSecret};
use zeroize::Zeroizing;

use crate::admins;
use crate::habit::BurstLimits;

/// Longest certificate of a region, in bytes.
const PEM: u64 = 64 * 1024;
/// Longest sealed key, in bytes.
const SEALED_KEY: u64 = 512;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The realm.
    pub realm: String,
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// How nodes reach this server, `host:port`.
    pub addresses: Vec<String>,
    /// State: store, audit log, sealed keys.
    pub data_dir: PathBuf,
    /// Where to serve `/metrics` and `/healthz`, on loopback.
    pub metrics_listen: Option<SocketAddr>,
    /// Written when the server listens: its address, one line.
    pub ready_file: Option<PathBuf>,
    /// The statement of an admin set, the first or a later one, which this configuration vouches for.
    pub admin_set: PathBuf,
    /// A directory of `<region>.pem` in place of the built-in keys of AWS's regions, for evidence.
    pub region_keys_dir: Option<PathBuf>,
    /// The broker's public keys, as its `init` writes them.
    pub broker_keys: Option<PathBuf>,
    /// The same, written out.
    pub broker: Option<BrokerKeys>,
    /// Opens the keys at rest.
    pub root_key: RootKeySource,
    /// Stricter limits than the defaults.
    #[serde(default)]
    pub limits: Limits,
    /// When an alarm is raised.
    #[serde(default)]
    pub alarms: Alarms,
    /// Programs that are told.
    #[serde(default)]
    pub hooks: Hooks,
    /// The audit log and its witnesses.
    #[serde(default)]
    pub log: LogSection,
    /// Whom this server witnesses.
    pub witness: Option<WitnessSection>,
    /// What the server may reach beyond what this configuration names.
    #[serde(default)]
    pub sandbox: SandboxSection,
}

/// When a burst is one (EXP-3).
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Alarms {
    /// By how much a node's minute must pass its habit.
    pub burst_factor: Option<NonZeroU64>,
    /// Below this many DEKs a minute is never a burst.
    pub burst_least: Option<NonZeroU64>,
}

impl Alarms {
    /// With the defaults for what is not said.
    #[must_use]
    pub fn bursts(&self) -> BurstLimits {
        let default = BurstLimits::default();
        BurstLimits {
            factor: self.burst_factor.map_or(default.factor, NonZeroU64::get),
            least: self.burst_least.map_or(default.least, NonZeroU64::get),
        }
    }
}

/// Programs that are told, each by its absolute path and its arguments (EXP-4).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hooks {
    /// Told of every alarm, one JSON line on its standard input.
    #[serde(default)]
    pub alarm: Vec<String>,
}

/// The automatic way to the root key (ROOT-2): one of these.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RootKeySource {
    /// 32 bytes, or 64 hexadecimal digits.
    pub credential: Option<PathBuf>,
    /// A passphrase, one line.
    pub passphrase_file: Option<PathBuf>,
    /// A key in a PKCS#11 token.
    pub pkcs11: Option<Pkcs11Means>,
    /// A TPM 2.0.
    pub tpm2: Option<Tpm2Source>,
}

/// A TPM 2.0.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tpm2Source {
    /// How it is reached; without it, as its tools do by themselves.
    pub tcti: Option<String>,
    /// The PCRs that must be as they were, for example `sha256:0,2,4,7`.
    pub pcrs: String,
}

impl RootKeySource {
    /// The one way that is named, its paths taken from this file's directory.
    fn means(&self, file: &Path) -> Option<Means> {
        // rule: ROOT-2
        match self {
            Self {
                credential: Some(path),
                passphrase_file: None,
                pkcs11: None,
                tpm2: None,
            } => Some(Means::Credential(beside(file, path))),
            Self {
                credential: None,
                passphrase_file: Some(path),
                pkcs11: None,
                tpm2: None,
            } => Some(Means::Passphrase(beside(file, path))),
            Self {
                credential: None,
                passphrase_file: None,
                pkcs11: Some(token),
                tpm2: None,
            } => Some(Means::Pkcs11(Pkcs11Means {
                module: beside(file, &token.module),
                token: token.token.clone(),
                key: token.key.clone(),
                pin_file: beside(file, &token.pin_file),
            })),
            Self {
                credential: None,
                passphrase_file: None,
                pkcs11: None,
                tpm2: Some(tpm),
            } => Some(Means::Tpm2(Tpm2Means {
                tcti: tpm.tcti.clone(),
                pcrs: tpm.pcrs.clone(),
            })),
            _ => None,
        }
    }
}

/// The broker, as its `broker-keys.toml` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BrokerKeys {
    /// Its realm; may be left out in `[broker]`.
    pub realm: Option<String>,
    /// Its addresses, `host:port`.
    pub addresses: Vec<String>,
    /// Its identity.
    #[serde(deserialize_with = "key")]
    pub tls_key: TlsKey,
    /// Signs tickets.
    #[serde(deserialize_with = "key")]
    pub ticket_key: TicketKey,
    /// Signs the feed.
    #[serde(deserialize_with = "key")]
    pub feed_key: FeedKey,
    /// Signs the checkpoints of its log: two vkeys, Ed25519 and ML-DSA-44.
    #[serde(rename = "log-keys", deserialize_with = "log_key")]
    pub log_key: LogKey,
}

/// Limits of the transport that an operator may change.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Connections at a time.
    pub connections: Option<usize>,
    /// Connections at a time from one source.
    pub connections_per_source: Option<usize>,
    /// Exchanges at a time.
    pub exchanges: Option<usize>,
    /// Request bytes held at a time.
    pub buffered_bytes: Option<usize>,
    /// Request bytes held at a time for one source.
    pub buffered_bytes_per_source: Option<usize>,
}

/// What is wrong with the configuration, or with a file that it names.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The configuration itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The root key, or the ways to it.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A sealed key.
    #[error("{path}: {error}")]
    Sealed {
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: SealedError,
    },
    /// What does not fit together.
    #[error("{path}: {message}")]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What was found and what was expected.
        message: String,
    },
}

/// A configuration that was checked, with its paths resolved.
#[derive(Debug)]
pub struct Setup {
    /// As it is written.
    pub config: Config,
    /// The broker.
    pub broker: BrokerKeys,
    /// The automatic way to the root key.
    pub means: Means,
    path: PathBuf,
}

impl Setup {
    /// Reads and checks a configuration and the broker's keys.
    ///
    /// # Errors
    /// [`SetupError`]: file, line, what was expected.
    pub fn read(path: &Path) -> Result<Self, SetupError> {
        let config: Config = config::read(path)?;
        let wrong = |message: &str| SetupError::Wrong {
            path: path.to_owned(),
            message: message.to_owned(),
        };
        if config.realm.is_empty() || config.realm.len() > ticket_format::limits::NAME {
            return Err(wrong("realm must have 1 to 128 bytes"));
        }
        if config.addresses.is_empty() || config.addresses.len() > 8 {
            return Err(wrong("addresses must name 1 to 8 addresses, host:port"));
        }
        if config
            .metrics_listen
            .is_some_and(|address| !address.ip().is_loopback())
        {
            return Err(wrong(
                "metrics-listen must be a loopback address: it has no access control",
            ));
        }
        store::hooks::check(&config.hooks.alarm).map_err(|error| wrong(&error.to_string()))?;
        let means = config.root_key.means(path).ok_or_else(|| {
            wrong("[root-key] needs one of credential, passphrase-file, pkcs11 and tpm2")
        })?;
        let broker = match (&config.broker_keys, &config.broker) {
            (Some(file), None) => config::read(&beside(path, file))?,
            (None, Some(broker)) => broker.clone(),
            _ => {
                return Err(wrong(
                    "either broker-keys or a [broker] section is needed, and not both",
                ));
            }
        };
        if broker
            .realm
            .as_ref()
            .is_some_and(|realm| *realm != config.realm)
        {
            return Err(wrong("the broker's keys are of another realm"));
        }
        if broker.addresses.is_empty() {
            return Err(wrong("the broker has no address"));
        }
        // rule: SIG-5
        let roles = [
            broker.tls_key.to_bytes(),
            broker.ticket_key.to_bytes(),
            broker.feed_key.to_bytes(),
            *broker.log_key.ed25519(),
        ];
        let twice = |role: &[u8; 32]| roles.iter().filter(|other| *other == role).count() > 1;
        if roles.iter().any(twice) {
            return Err(wrong(
                "the broker's TLS, ticket, feed and log keys must differ",
            ));
        }
        let origin = Origin::new(&config.realm, Role::Broker, &broker.tls_key);
        if broker.log_key.origin != origin {
            return Err(wrong("the broker's log-keys are of another broker's log"));
        }
        let section = |error: SectionError| wrong(&error.to_string());
        config
            .log
            .options(Options::default().clock)
            .map_err(section)?;
        config.log.witnesses().map_err(section)?;
        if let Some(witness) = &config.witness {
            let logs = witness.log_keys().map_err(section)?;
            if logs.is_empty() || logs.len() > audit_log::witness::MAX_LOGS {
                return Err(wrong("[witness] logs must name one log at least"));
            }
        }
        Ok(Self {
            config,
            broker,
            means,
            path: path.to_owned(),
        })
    }

    /// The configuration's own file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.path
    }

    /// A path of the configuration, from its directory.
    #[must_use]
    pub fn resolve(&self, named: &Path) -> PathBuf {
        beside(&self.path, named)
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.resolve(&self.config.data_dir)
    }

    /// The statement of the configured admin set.
    ///
    /// # Errors
    /// Its file is missing or too large, or it is no admin set of this realm that holds.
    pub fn admin_set(&self, now: Timestamp) -> Result<Vec<u8>, SetupError> {
        admin_set(
            &self.resolve(&self.config.admin_set),
            &self.config.realm,
            now,
        )
    }

    /// AWS's keys by region: those of a directory, or built in.
    ///
    /// # Errors
    /// A file cannot be read or holds no usable certificate.
    pub fn regions(&self) -> Result<RegionKeys, SetupError> {
        // rule: IID-5
        match &self.config.region_keys_dir {
            Some(dir) => region_keys(&self.resolve(dir)),
            None => Ok(RegionKeys::built_in()),
        }
    }

    /// Where the root key's wraps stand, and all that is sealed under it.
    #[must_use]
    pub fn root_dir(&self) -> RootDir {
        RootDir::at(&self.data_dir())
    }

    /// The door key, by which a sealed server is known (ROOT-4).
    ///
    /// # Errors
    /// Its file is missing, readable by others, or of another length.
    pub fn door(&self) -> Result<TlsSecret, SetupError> {
        let path = self.data_dir().join(DOOR);
        let bytes = Zeroizing::new(files::read_private(&path, 32)?);
        let seed = <[u8; 32]>::try_from(bytes.as_slice()).map(Zeroizing::new);
        let seed = seed.map_err(|_| SetupError::Wrong {
            path,
            message: "the seed of the door key has 32 bytes".to_owned(),
        })?;
        Ok(TlsSecret::from_seed(&seed))
    }

    /// The server's own keys.
    ///
    /// # Errors
    /// A sealed file is missing, or another root key sealed it.
    pub fn secrets(&self, ways: &Ways, root: &RootKey) -> Result<Secrets, SetupError> {
        secrets(&self.config.realm, ways, root)
    }
}

/// The own keys of a key server of this realm.
///
/// # Errors
/// As [`Setup::secrets`].
pub fn secrets(realm: &str, ways: &Ways, root: &RootKey) -> Result<Secrets, SetupError> {
    let seed = |name: &str| seed(ways, root, name);
    let wrong = |name: &str, error: &dyn std::fmt::Display| SetupError::Wrong {
        path: sealed_key(ways, name),
        message: error.to_string(),
    };
    let tls = TlsSecret::from_seed(&*seed(TLS)?);
    let log = log_secret(realm, &tls, &*seed(LOG_ED25519)?, &*seed(LOG_ML_DSA)?);
    let witness = witness_secret(
        realm,
        &tls,
        &*seed(WITNESS_ED25519)?,
        &*seed(WITNESS_ML_DSA)?,
    );
    Ok(Secrets {
        signing: ServerSecret::from_seed(&*seed(SIGNING)?),
        log: log.map_err(|error| wrong(LOG_ML_DSA, &error))?,
        witness: witness.map_err(|error| wrong(WITNESS_ML_DSA, &error))?,
        tls,
    })
}

fn seed(ways: &Ways, root: &RootKey, name: &str) -> Result<Zeroizing<[u8; 32]>, SetupError> {
    let path = sealed_key(ways, name);
    let sealed = files::read_private(&path, SEALED_KEY)?;
    let wrong = |error| SetupError::Sealed {
        path: path.clone(),
        error,
    };
    let opened = root.open(&sealed_name(name), &sealed).map_err(wrong)?;
    let seed = <[u8; 32]>::try_from(opened.as_slice());
    seed.map(Zeroizing::new)
        .map_err(|_| wrong(SealedError::Open))
}

/// A server's own secrets.
pub struct Secrets {
    /// Its identity.
    pub tls: TlsSecret,
    /// Signs encapsulations and acknowledgements.
    pub signing: ServerSecret,
    /// Signs its log's checkpoints.
    pub log: LogSecret,
    /// Cosigns others' checkpoints.
    pub witness: WitnessSecret,
}

/// The secret keys of a key server's log.
///
/// # Errors
/// [`BadSeed`].
pub fn log_secret(
    realm: &str,
    tls: &TlsSecret,
    ed25519: &[u8; 32],
    ml_dsa: &[u8; 32],
) -> Result<LogSecret, BadSeed> {
    let origin = Origin::new(realm, Role::KeyServer, &tls.public());
    LogSecret::from_seeds(origin, ed25519, ml_dsa)
}

/// The secret keys of a key server as a witness: its name is its log's origin, and `/witness`.
///
/// # Errors
/// [`NotAVkey`]: a seed makes no key.
pub fn witness_secret(
    realm: &str,
    tls: &TlsSecret,
    ed25519: &[u8; 32],
    ml_dsa: &[u8; 32],
) -> Result<WitnessSecret, NotAVkey> {
    let origin = Origin::new(realm, Role::KeyServer, &tls.public());
    WitnessSecret::from_seeds(&format!("{origin}/witness"), ed25519, ml_dsa)
}

/// The door key's seed, in the data directory; sealed under nothing, since it speaks while nothing opens.
pub const DOOR: &str = "door.seed";
/// Name of the log's Ed25519 key among the sealed keys.
pub const LOG_ED25519: &str = "log-ed25519";
/// Name of the log's ML-DSA-44 key among the sealed keys.
pub const LOG_ML_DSA: &str = "log-ml-dsa";
/// Name of the witness's Ed25519 key among the sealed keys.
pub const WITNESS_ED25519: &str = "witness-ed25519";
/// Name of the witness's ML-DSA-44 key among the sealed keys.
pub const WITNESS_ML_DSA: &str = "witness-ml-dsa";
/// The directory of what was cosigned, in the data directory.
pub const WITNESS_DIR: &str = "witness";
/// The directory of the audit log, in the data directory.
pub const LOG_DIR: &str = "audit";
/// The inventory's file, in the data directory.
pub const INVENTORY: &str = "inventory.redb";
/// Name of the TLS key among the sealed keys.
pub const TLS: &str = "tls";
/// Name of the signing key among the sealed keys.
pub const SIGNING: &str = "signing";

/// The file of a sealed key, beside all that is sealed under the same root key.
#[must_use]
pub fn sealed_key(ways: &Ways, name: &str) -> PathBuf {
    ways.sealed().join("keys").join(format!("{name}.sealed"))
}

/// Associated data of a sealed key (REST-1): its path among what is sealed.
#[must_use]
pub fn sealed_name(name: &str) -> String {
    format!("keys/{name}")
}

/// Reads the statement of an admin set that the operator vouches for.
///
/// # Errors
/// [`SetupError`].
pub fn admin_set(path: &Path, realm: &str, now: Timestamp) -> Result<Vec<u8>, SetupError> {
    let statement = files::read_bounded(path, limits::RECORD as u64)?;
    match admins::trusted(&statement, realm, now) {
        Ok(_) => Ok(statement),
        Err(error) => Err(SetupError::Wrong {
            path: path.to_owned(),
            message: format!("no admin set that can be believed: {error}"),
        }),
    }
}

/// Reads every `<region>.pem` of a directory.
fn region_keys(dir: &Path) -> Result<RegionKeys, SetupError> {
    let unreadable = |source| FileError::Io {
        path: dir.to_owned(),
        source,
    };
    let wrong = |path: &Path, message: String| SetupError::Wrong {
        path: path.to_owned(),
        message,
    };
    let mut pems = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            let text = String::from_utf8(files::read_bounded(&path, PEM)?)
                .map_err(|_| wrong(&path, "a certificate in PEM is text".to_owned()))?;
            let region = path.file_stem().unwrap_or_default().to_string_lossy();
            pems.push((region.into_owned(), text));
        }
    }
    RegionKeys::from_pems(pems).map_err(|error| wrong(dir, error.to_string()))
}

fn beside(file: &Path, named: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new(".")).join(named)
}

fn key<'de, D: Deserializer<'de>, K: FromStr>(deserializer: D) -> Result<K, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text)
}

fn log_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LogKey, D::Error> {
    use serde::de::Error as _;
    let [ed25519, ml_dsa] = <[String; 2]>::deserialize(deserializer)?;
    LogKey::from_vkeys(&ed25519, &ml_dsa).map_err(|error| {
        D::Error::custom(format!(
            "expected the log's two vkeys, Ed25519 and ML-DSA-44: {error}"
        ))
    })
}

fn parse<K: FromStr, E: serde::de::Error>(text: &str) -> Result<K, E> {
    text.parse()
        .map_err(|_| E::custom("expected an Ed25519 public key: 64 hexadecimal digits"))
}
