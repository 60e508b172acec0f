//! The admin's configuration and the public-key files that servers hand out.

use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use client::link::Server;
use client::logs::Logs;
use serde::{Deserialize, Deserializer};
use store::config::ConfigError;
use ticket_format::keys::{FeedKey, ServerKey, TicketKey, TlsKey};
use ticket_format::report::{Report, exit};
use ticket_format::statement::Role;
use ticket_format::tlog::{LogKey, Origin};

use super::agent::AgentKey;
use super::args::Global;

/// What `admin.toml` may say. Relative paths are relative to the file's directory.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    realm: Option<String>,
    broker: Option<PathBuf>,
    #[serde(default)]
    key_servers: Vec<PathBuf>,
    admin_key: Option<PathBuf>,
    agent_key: Option<String>,
    admin_set: Option<PathBuf>,
    share_key: Option<PathBuf>,
    #[serde(default)]
    logs: Vec<String>,
}

/// Where the admin's key is.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// In a file, sealed by a passphrase.
    File(PathBuf),
    /// In an OpenSSH agent.
    Agent(Box<AgentKey>),
}

/// The admin set's file, unless the configuration names another.
pub const ADMIN_SET: &str = "admin-set.cose";

/// The admin's configuration: flag, variable, user file, system file.
#[derive(Clone, Debug)]
pub struct Config {
    /// The realm that is administered.
    pub realm: String,
    /// The admin's key.
    pub key: KeySource,
    /// The admin set: the first of the realm, or a later one that is believed as it stands there.
    pub admin_set: PathBuf,
    /// Where published logs are read: directories, or http(s) addresses.
    pub logs: Vec<String>,
    /// The admin's share key.
    pub share_key: Option<PathBuf>,
    broker: PathBuf,
    key_servers: Vec<PathBuf>,
}

/// The broker as others know it: `broker-keys.toml`, which `broker init` writes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BrokerKeys {
    /// Its realm.
    pub realm: String,
    /// `host:port`.
    pub addresses: Vec<String>,
    /// The pin (TR-2).
    #[serde(deserialize_with = "from_text")]
    pub tls_key: TlsKey,
    /// Verifies tickets.
    #[serde(deserialize_with = "from_text")]
    pub ticket_key: TicketKey,
    /// Verifies feed answers.
    #[serde(deserialize_with = "from_text")]
    pub feed_key: FeedKey,
    /// Its log: receipts are believed by it (TLOG-5). Two verifier keys, Ed25519 first.
    #[serde(deserialize_with = "vkeys", rename = "log-keys")]
    pub log_key: LogKey,
}

/// A key server as others know it: `server-keys.toml`, which `key-server init` writes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServerKeys {
    /// Its realm.
    pub realm: String,
    /// `host:port`.
    pub addresses: Vec<String>,
    /// The pin (TR-2).
    #[serde(deserialize_with = "from_text")]
    pub tls_key: TlsKey,
    /// Signs presentation answers and acknowledges denials.
    #[serde(deserialize_with = "from_text")]
    pub signing_key: ServerKey,
    /// The pin while it is sealed (ROOT-4).
    #[serde(default, deserialize_with = "maybe_from_text")]
    pub door_key: Option<TlsKey>,
    /// Its log: receipts are believed by it (TLOG-5). Two verifier keys, Ed25519 first.
    #[serde(deserialize_with = "vkeys", rename = "log-keys")]
    pub log_key: LogKey,
}

/// A server to connect to, and the log that its receipts are of.
#[derive(Clone, Debug)]
pub struct Place {
    /// The server.
    pub server: Server,
    /// Its log.
    pub log_key: LogKey,
}

impl BrokerKeys {
    /// As a server to connect to.
    #[must_use]
    pub fn server(&self) -> Place {
        Place {
            server: Server {
                word: "broker",
                realm: self.realm.clone(),
                addresses: self.addresses.clone(),
                tls_key: self.tls_key,
            },
            log_key: self.log_key.clone(),
        }
    }
}

impl ServerKeys {
    /// As a server to connect to.
    #[must_use]
    pub fn server(&self) -> Place {
        Place {
            server: Server {
                word: "key server",
                realm: self.realm.clone(),
                addresses: self.addresses.clone(),
                tls_key: self.tls_key,
            },
            log_key: self.log_key.clone(),
        }
    }
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// There is none, it does not hold, or it leaves something out.
    pub fn load(global: &Global) -> Result<Self, Report> {
        let path = global.config.clone().or_else(found);
        let file = match &path {
            Some(path) => store::config::read::<File>(path).map_err(unusable)?,
            None => File::default(),
        };
        let base = path
            .as_deref()
            .and_then(Path::parent)
            .unwrap_or(Path::new(""))
            .to_owned();
        let missing = |what: &str| {
            let place = path.as_ref().map_or_else(
                || format!("there is no configuration file ({})", user_file().display()),
                |path| format!("{} does not say it", path.display()),
            );
            Report::new(exit::CONFIG, format!("{what} is not configured"))
                .why(place)
                .next("run `postern-admin init`, or give --config FILE")
        };
        let at = |path: PathBuf| base.join(path);
        Ok(Self {
            broker: global
                .broker
                .clone()
                .or(file.broker.map(at))
                .ok_or_else(|| missing("the broker"))?,
            key: match (&global.admin_key, file.admin_key, file.agent_key) {
                (Some(path), _, _) => KeySource::File(path.clone()),
                (None, Some(path), None) => KeySource::File(at(path)),
                (None, None, Some(line)) => KeySource::Agent(Box::new(agent_key(&line)?)),
                (None, Some(_), Some(_)) => {
                    return Err(Report::new(
                        exit::CONFIG,
                        "where the admin's key is, is said twice",
                    )
                    .why("the configuration has both admin-key and agent-key")
                    .next("keep one of them"));
                }
                (None, None, None) => return Err(missing("the admin's key")),
            },
            admin_set: global
                .admin_set
                .clone()
                .unwrap_or_else(|| at(file.admin_set.unwrap_or_else(|| ADMIN_SET.into()))),
            realm: file.realm.ok_or_else(|| missing("the realm"))?,
            share_key: file.share_key.map(at),
            logs: file
                .logs
                .into_iter()
                .map(|log| match log.contains("://") {
                    true => log,
                    false => at(log.into()).display().to_string(),
                })
                .collect(),
            key_servers: file.key_servers.into_iter().map(at).collect(),
        })
    }

    /// The broker.
    ///
    /// # Errors
    /// Its file cannot be used, or is of another realm.
    pub fn broker(&self) -> Result<BrokerKeys, Report> {
        let keys: BrokerKeys = store::config::read(&self.broker).map_err(unusable)?;
        self.same_realm(&self.broker, &keys.realm)?;
        own_log(
            &self.broker,
            &keys.log_key,
            &keys.realm,
            Role::Broker,
            &keys.tls_key,
        )?;
        Ok(keys)
    }

    /// The key server of this file, or the only one that is configured.
    ///
    /// # Errors
    /// None or several are configured and no file is given; or the file cannot be used.
    pub fn key_server(&self, file: Option<&Path>) -> Result<ServerKeys, Report> {
        let path = match (file, self.key_servers.as_slice()) {
            (Some(path), _) => path,
            (None, [only]) => only,
            (None, several) => {
                return Err(Report::new(exit::USAGE, "which key server is not said")
                    .why(format!("{} are configured", several.len()))
                    .next(
                        "give --key-server FILE (server-keys.toml, as `key-server init` wrote it)",
                    ));
            }
        };
        let keys: ServerKeys = store::config::read(path).map_err(unusable)?;
        self.same_realm(path, &keys.realm)?;
        own_log(
            path,
            &keys.log_key,
            &keys.realm,
            Role::KeyServer,
            &keys.tls_key,
        )?;
        Ok(keys)
    }

    /// All configured key servers.
    ///
    /// # Errors
    /// As [`Config::key_server`].
    pub fn key_servers(&self) -> Result<Vec<ServerKeys>, Report> {
        self.key_servers
            .iter()
            .map(|path| self.key_server(Some(path)))
            .collect()
    }

    /// What was seen of servers' logs: remembered beside the admin set.
    #[must_use]
    pub fn logs_seen(&self) -> Logs {
        let mut directory = self.admin_set.clone().into_os_string();
        directory.push(".logs");
        Logs::at(directory)
    }

    /// The keys of all configured servers' logs.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn log_keys(&self) -> Result<Vec<LogKey>, Report> {
        let mut keys = vec![self.broker()?.log_key];
        keys.extend(self.key_servers()?.into_iter().map(|keys| keys.log_key));
        Ok(keys)
    }

    /// The configured server with this TLS key.
    ///
    /// # Errors
    /// None is configured, or a file cannot be used.
    pub fn server_of(&self, key: &TlsKey) -> Result<Place, Report> {
        let broker = self.broker()?;
        if broker.tls_key == *key {
            return Ok(broker.server());
        }
        let servers = self.key_servers()?;
        let found = servers.iter().find(|keys| keys.tls_key == *key);
        found.map(ServerKeys::server).ok_or_else(|| {
            Report::new(
                exit::CONFIG,
                "the statement is for a server that is not configured here",
            )
            .why(format!("its TLS key is {key}"))
            .next("name its server-keys.toml in `key-servers` of the configuration")
        })
    }

    fn same_realm(&self, path: &Path, realm: &str) -> Result<(), Report> {
        if realm == self.realm {
            return Ok(());
        }
        Err(Report::new(
            exit::CONFIG,
            format!("{} is of realm {realm:?}", path.display()),
        )
        .why(format!("realm {:?} is administered here", self.realm))
        .next("give the file of the right realm, or another --config"))
    }
}

/// The log keys in a server's file must be of that server's log.
fn own_log(
    path: &Path,
    key: &LogKey,
    realm: &str,
    role: Role,
    server: &TlsKey,
) -> Result<(), Report> {
    let own = Origin::new(realm, role, server);
    if key.origin == own {
        return Ok(());
    }
    Err(Report::new(
        exit::CONFIG,
        format!("the log keys in {} are of another log", path.display()),
    )
    .why(format!(
        "they are of {}, and the server's log is {own}",
        key.origin
    ))
    .next("copy the file anew from the server that `init` wrote it for"))
}

/// `$XDG_CONFIG_HOME/postern/admin.toml`.
#[must_use]
pub fn user_file() -> PathBuf {
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let base = env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(home);
    base.unwrap_or_default().join("postern/admin.toml")
}

fn found() -> Option<PathBuf> {
    [user_file(), PathBuf::from("/etc/postern/admin.toml")]
        .into_iter()
        .find(|path| path.exists())
}

fn unusable(error: ConfigError) -> Report {
    Report::new(exit::CONFIG, "a configuration file cannot be used").why(error)
}

fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|error| {
        serde::de::Error::custom(format!("{error}: expected 64 hexadecimal digits"))
    })
}

fn maybe_from_text<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    from_text(deserializer).map(Some)
}

fn vkeys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LogKey, D::Error> {
    let [ed25519, ml_dsa] = <[String; 2]>::deserialize(deserializer)?;
    LogKey::from_vkeys(&ed25519, &ml_dsa).map_err(serde::de::Error::custom)
}

/// A line of `ssh-add -L`.
///
/// # Errors
/// It is none.
pub fn agent_key(line: &str) -> Result<AgentKey, Report> {
    line.parse().map_err(|error: super::agent::NotAnAgentKey| {
        Report::new(
            exit::CONFIG,
            "the agent's key is none that signs statements",
        )
        .why(error)
        .next("give one line of `ssh-add -L`")
    })
}
