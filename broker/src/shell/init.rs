//! `postern-broker init`: keys, configuration, and the public files that others read.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit_log::witness::{StateError, Witness};
use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use serde::{Deserialize, Serialize};
use store::files::{self, FileError};
use store::pkcs11::SigningToken;
use store::root::Pkcs11Means;

use super::config::admin_set_holds;
use super::secrets::{self, RootKeyConfig, Secrets, SecretsError};

/// `broker-keys.toml`: what key servers, admins and clients need to know of a broker.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BrokerKeys {
    /// The realm's name.
    pub realm: String,
    /// Addresses, `host:port`.
    pub addresses: Vec<String>,
    /// Its TLS key: its identity. Hexadecimal, as the others.
    pub tls_key: String,
    /// Verifies tickets.
    pub ticket_key: String,
    /// Verifies feed answers.
    pub feed_key: String,
    /// Verify the log's checkpoints: the vkeys of its origin, Ed25519 and ML-DSA-44.
    pub log_keys: [String; 2],
}

/// Where a broker keeps what it has cosigned, in its data directory.
pub(super) const WITNESS: &str = "witness";

/// What a new broker is made from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where everything goes.
    pub dir: PathBuf,
    /// The realm's name.
    pub realm: String,
    /// Where it will listen.
    pub listen: SocketAddr,
    /// Addresses that others reach it at.
    pub addresses: Vec<String>,
    /// The admin set, as its admins signed it.
    pub admin_set: Vec<u8>,
    /// Where the root key is.
    pub root: RootKeyConfig,
    /// A credential file to be made first, with a fresh root key.
    pub new_credential: Option<PathBuf>,
    /// Where to serve metrics.
    pub metrics: Option<SocketAddr>,
    /// Where the ticket keys are made, if not in the data directory.
    pub ticket_token: Option<Pkcs11Means>,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The state as a witness.
    #[error(transparent)]
    Witness(#[from] StateError),
    /// A value.
    #[error("{0}")]
    Value(String),
}

fn create_public(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let wrap = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
        _ => FileError::Io {
            path: path.to_owned(),
            source,
        },
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(wrap)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(wrap)
}

/// Makes a broker's directory: `broker.toml`, `admin-set.cose`, `broker-keys.toml`, `broker-key.cose`,
/// `data/`. Replaces nothing.
///
/// # Errors
/// [`InitError`].
pub fn init(plan: &Plan) -> Result<BrokerKeys, InitError> {
    let rng = &mut UnwrapErr(SysRng);
    let config = plan.dir.join("broker.toml");
    if config.exists() {
        return Err(FileError::Exists(config).into());
    }
    admin_set_holds(&plan.admin_set, &plan.realm)
        .map_err(|why| InitError::Value(format!("the admin set: {why}")))?;
    if plan.new_credential.is_none() {
        // Before anything is made: what cannot be finished is not begun.
        plan.root.check()?;
    }
    let token = plan.ticket_token.as_ref().map(SigningToken::open);
    let token = token.transpose().map_err(SecretsError::Token)?;
    files::private_dir(&plan.dir)?;
    if let Some(path) = &plan.new_credential {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        rng.fill_bytes(key.as_mut());
        files::create_private(path, key.as_ref())?;
    }
    let data = plan.dir.join("data");
    secrets::prepare(&data, rng)?;
    let root = plan.root.open(&data)?;
    let made = Secrets::create(&data, &root, token.map(Arc::new), rng)?;
    // What it has cosigned, should it ever witness others: without it it could sign backwards.
    Witness::create(&data.join(WITNESS))?;
    let ticket = made.tickets.first().ok_or(SecretsError::NoTicketKey)?;
    let keys = BrokerKeys {
        realm: plan.realm.clone(),
        addresses: plan.addresses.clone(),
        tls_key: made.tls.public().to_string(),
        ticket_key: ticket.to_string(),
        feed_key: made.feed.public().to_string(),
        log_keys: made
            .log(&plan.realm)?
            .key()
            .vkeys()
            .map(|key| key.to_string()),
    };
    let text = toml::to_string(&keys).map_err(|error| InitError::Value(error.to_string()))?;
    let heading = "# Public: what key servers, admins and clients need to know of this broker.\n";
    create_public(
        &plan.dir.join("broker-keys.toml"),
        format!("{heading}{text}").as_bytes(),
    )?;
    create_public(&plan.dir.join("broker-key.cose"), &ticket.to_cose_key())?;
    create_public(&plan.dir.join("admin-set.cose"), &plan.admin_set)?;
    // Last: a directory with a configuration is a whole one.
    create_public(&config, configuration(plan)?.as_bytes())?;
    Ok(keys)
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn configuration(plan: &Plan) -> Result<String, InitError> {
    let path = |path: &Path| {
        let absolute = std::path::absolute(path).map_err(|source| FileError::Io {
            path: path.to_owned(),
            source,
        })?;
        let text = absolute
            .to_str()
            .ok_or_else(|| InitError::Value(format!("{} is not UTF-8", absolute.display())))?;
        Ok::<_, InitError>(quoted(text))
    };
    let root = match (&plan.root.credential, &plan.root.passphrase_file) {
        (Some(file), None) => format!("credential = {}", path(file)?),
        (None, Some(file)) => format!("passphrase-file = {}", path(file)?),
        _ => return Err(SecretsError::RootKeySource.into()),
    };
    let token = match &plan.ticket_token {
        Some(token) => format!(
            "[ticket-key.pkcs11]\nmodule = {}\ntoken = {}\nkey = {}\npin-file = {}",
            path(&token.module)?,
            quoted(&token.token),
            quoted(&token.key),
            path(&token.pin_file)?
        ),
        None => "# [ticket-key.pkcs11]\n\
                 # module = \"/usr/lib/softhsm/libsofthsm2.so\"\n\
                 # token = \"postern\"\n\
                 # key = \"tickets\"         # the label of all of them, and of no other key\n\
                 # pin-file = \"pin\""
            .to_owned(),
    };
    let metrics = plan.metrics.map_or_else(
        || "# metrics-listen = \"127.0.0.1:9464\"".to_owned(),
        |at| format!("metrics-listen = \"{at}\""),
    );
    Ok(format!(
        "# Configuration of a Postern broker. Relative paths are relative to this file.\n\
         realm = {realm}\n\
         # UDP. Port 0 lets the system choose; the address is printed at start.\n\
         listen = \"{listen}\"\n\
         # Store, audit log and sealed keys.\n\
         data-dir = \"data\"\n\
         # The admin set: the first one, or any later one of its history, as its admins signed it.\n\
         admin-set = \"admin-set.cose\"\n\
         # Loopback HTTP with /metrics and /healthz.\n\
         {metrics}\n\
         # A file that gets the bound address once the broker serves.\n\
         # ready-file = \"broker.ready\"\n\
         # A directory of <region>.pem in place of the built-in keys of AWS's regions.\n\
         # region-keys-dir = \"region-keys\"\n\
         \n\
         # Where the key comes from that seals this broker's secrets: credential or passphrase-file.\n\
         [root-key]\n\
         {root}\n\
         \n\
         # The keys that sign tickets are sealed in data-dir, or made in a PKCS#11 token that they never\n\
         # leave. What its library reads and writes is to be named in [sandbox], as read and write.\n\
         {token}\n\
         \n\
         # Programs with arguments, run without a shell: each gets one JSON line on its standard input.\n\
         [hooks]\n\
         # alarm = [\"/usr/local/bin/tell\", \"alarm\"]       # of every alarm\n\
         # proposal = [\"/usr/local/bin/tell\", \"proposal\"] # of a statement that waits for signatures\n\
         \n\
         # The audit log, in data-dir/audit. Each witness cosigns its checkpoints.\n\
         [log]\n\
         # shard-bytes = 268435456   # entries of one shard\n\
         # keep-days = 400           # closed shards are kept whole so long; all when it is not said\n\
         # [[log.witness]]\n\
         # name = \"w1\"\n\
         # url = \"http://127.0.0.1:4444\"\n\
         # keys = [\"<vkey>\", \"<vkey>\"] # as `postern-witness vkeys` prints them\n\
         \n\
         # Witness others' logs; `postern-broker witness-keys` prints the keys by which it cosigns.\n\
         # [witness]\n\
         # listen = \"127.0.0.1:4444\"  # HTTP\n\
         # logs = [[\"<vkey>\", \"<vkey>\"]] # of each log the two of its server's public file\n\
         \n\
         # Bounds; these are the defaults.\n\
         [limits]\n\
         # logins-at-once = 256       # under way, from all sources; the next one is told to wait\n\
         # logins-per-second = 50     # of one source, in the long run\n\
         # login-burst = 1024         # of one source, at once\n\
         # statements-per-second = 200 # of one source, in the long run\n\
         # statement-burst = 10000    # of one source, at once\n\
         # issues-per-second = 200    # dataset tickets for one node, in the long run\n\
         # issue-burst = 1000         # dataset tickets for one node, at once\n\
         # dataset-issues-per-second = 10000 # dataset tickets for one dataset, in the long run\n\
         # dataset-issue-burst = 100000 # dataset tickets for one dataset, at once\n\
         # budget-window-hours = 24   # a node's budgets for one dataset are summed over this time\n\
         # budget-tickets = 24        # to at most so many times the dataset record's own most\n",
        realm = quoted(&plan.realm),
        listen = plan.listen,
    ))
}
