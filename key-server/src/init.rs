//! `init`: makes a server's keys and files, and overwrites nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use audit_log::witness::Witness;
use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use store::files::{self, FileError};
use store::root::{Holders, Means, Place, RootDir};
use ticket_format::keys::{ServerSecret, TlsSecret};
use ticket_format::time::Timestamp;
use zeroize::Zeroizing;

use crate::config::{
    self, BrokerKeys, DOOR, LOG_ED25519, LOG_ML_DSA, SIGNING, SetupError, TLS, WITNESS_DIR,
    WITNESS_ED25519, WITNESS_ML_DSA,
};

/// The automatic way to the root key.
#[derive(Clone, Debug)]
pub enum Root {
    /// Make a credential and write it here.
    New(PathBuf),
    /// Take what is there.
    There(Means),
}

/// What `init` needs to know.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where the configuration goes.
    pub dir: PathBuf,
    /// The realm.
    pub realm: String,
    /// Where to listen.
    pub listen: SocketAddr,
    /// How nodes reach the server.
    pub addresses: Vec<String>,
    /// Where to serve metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// The statement of the admin set.
    pub admin_set: PathBuf,
    /// The broker's public keys.
    pub broker_keys: PathBuf,
    /// The automatic way to the root key (ROOT-2).
    pub root: Root,
    /// Who gets a share of it (ROOT-3).
    pub holders: Holders,
}

/// What `init` made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The configuration.
    pub config: PathBuf,
    /// The public keys, for admins.
    pub server_keys: PathBuf,
}

/// Makes the files.
///
/// # Errors
/// [`SetupError`]; what exists already is left as it is.
pub fn init(wanted: &Wanted, now: Timestamp) -> Result<Made, SetupError> {
    let Wanted {
        dir,
        realm,
        listen,
        addresses,
        metrics_listen,
        admin_set,
        broker_keys,
        root,
        holders,
    } = wanted;
    let (data, config_path, server_keys, kept_set) = (
        dir.join("data"),
        dir.join("key-server.toml"),
        dir.join("server-keys.toml"),
        dir.join("admin-set.cose"),
    );
    let (roots, door_path) = (RootDir::at(&data), data.join(DOOR));
    for path in [&config_path, &server_keys, &door_path] {
        if path.exists() {
            return Err(FileError::Exists(path.clone()).into());
        }
    }
    if roots.exists() {
        return Err(FileError::Exists(data.join("root")).into());
    }
    // Read before anything is made: a wrong file is the operator's most likely mistake.
    let _: BrokerKeys = store::config::read(broker_keys)?;
    // rule: SET-3
    let set = config::admin_set(admin_set, realm, now)?;
    files::private_dir(dir)?;
    files::private_dir(&data)?;
    let rng = &mut UnwrapErr(SysRng);
    let (tls, signing) = (TlsSecret::generate(rng), ServerSecret::generate(rng));
    // rule: ROOT-4 — of its own, and in no wrap: it proves where shares go, and opens nothing.
    let door = TlsSecret::generate(rng);
    let (means, root_section) = means(root)?;
    let place = Place {
        realm: realm.clone(),
        server: tls.public(),
    };
    // rule: ROOT-1
    let (ways, root_key) = roots.create(&place, &means, holders, rng)?;
    files::private_dir(&ways.sealed().join("keys"))?;
    files::create_private(&door_path, door.seed().as_slice())?;
    let seed = || {
        let mut seed = Zeroizing::new([0_u8; 32]);
        UnwrapErr(SysRng).fill_bytes(seed.as_mut());
        seed
    };
    // rule: SIG-5
    let (log_seeds, witness_seeds) = ([seed(), seed()], [seed(), seed()]);
    let wrong = |error: &dyn std::fmt::Display| SetupError::Wrong {
        path: ways.sealed().join("keys"),
        message: error.to_string(),
    };
    let log = config::log_secret(realm, &tls, &log_seeds[0], &log_seeds[1]);
    let log = log.map_err(|error| wrong(&error))?;
    let [ed25519, ml_dsa] = log.key().vkeys();
    let [log_ed25519, log_ml_dsa] = log_seeds;
    let [witness_ed25519, witness_ml_dsa] = witness_seeds;
    let seeds = [
        (TLS, tls.seed()),
        (SIGNING, signing.seed()),
        (LOG_ED25519, log_ed25519),
        (LOG_ML_DSA, log_ml_dsa),
        (WITNESS_ED25519, witness_ed25519),
        (WITNESS_ML_DSA, witness_ml_dsa),
    ];
    for (name, seed) in seeds {
        let sealed = root_key.seal(&config::sealed_name(name), seed.as_slice(), rng);
        files::create_private(&config::sealed_key(&ways, name), &sealed)?;
    }
    // Made with the keys and never again: a witness that forgot what it cosigned would cosign otherwise.
    // rule: TLOG-9
    Witness::create(&data.join(WITNESS_DIR)).map_err(|error| wrong(&error))?;
    let kept = dir.join("broker-keys.toml");
    if absolute(broker_keys) != absolute(&kept) {
        files::write_private(&kept, &files::read_bounded(broker_keys, 64 * 1024)?)?;
    }
    if absolute(admin_set) != absolute(&kept_set) {
        files::write_private(&kept_set, &set)?;
    }
    let public = format!(
        "# Public keys of a key server of realm {realm}. Nothing here is secret; give it to admins.\n\
         realm = {realm:?}\naddresses = {addresses:?}\ntls-key = \"{}\"\nsigning-key = \"{}\"\n\
         # By which it is known while it is sealed.\n\
         door-key = \"{}\"\n\
         # Of its audit log: Ed25519, ML-DSA-44.\n\
         log-keys = [\"{ed25519}\", \"{ml_dsa}\"]\n",
        tls.public(),
        signing.public(),
        door.public()
    );
    files::create_private(&server_keys, public.as_bytes())?;
    let metrics = match metrics_listen {
        Some(address) => format!("metrics-listen = \"{address}\""),
        None => "# metrics-listen = \"127.0.0.1:9465\"".to_owned(),
    };
    let text = format!(
        "# Configuration of a key server. Paths are relative to this file's directory.\n\
         realm = {realm:?}\n\
         # Where to listen (UDP); port 0 lets the system choose.\n\
         listen = \"{listen}\"\n\
         # How nodes reach this server; goes into dataset records.\n\
         addresses = {addresses:?}\n\
         # Store, audit log and sealed keys.\n\
         data-dir = \"data\"\n\
         # /metrics and /healthz over HTTP, on loopback only.\n\
         {metrics}\n\
         # Written when the server listens: its address.\n\
         # ready-file = \"ready\"\n\
         # The admin set whose statements count, as its admins signed it; later ones come by statement.\n\
         admin-set = \"admin-set.cose\"\n\
         # The broker's public keys and addresses.\n\
         broker-keys = \"broker-keys.toml\"\n\
         \n\
         # How the root key opens without people; never stored here. Where that fails the server is sealed,\n\
         # until shares are given: `postern-admin unseal`.\n\
         {root_section}\n\
         \n\
         # A burst: a node's minute of released DEKs passes its habit by a factor, and a least number.\n\
         [alarms]\n\
         burst-factor = 10\n\
         burst-least = 10000\n\
         \n\
         # A program that is told of each alarm, as one JSON line on its standard input.\n\
         [hooks]\n\
         # alarm = [\"/usr/local/bin/tell\", \"security\"]\n\
         \n\
         # The audit log: when a shard is closed, and for how long closed shards are kept (default: for ever).\n\
         [log]\n\
         shard-bytes = 268435456\n\
         # keep-days = 400\n\
         \n\
         # Who cosigns its checkpoints; up to 8.\n\
         # [[log.witness]]\n\
         # name = \"w1\"\n\
         # url = \"http://127.0.0.1:4444\"\n\
         # keys = [\"<vkey>\", \"<vkey>\"]\n\
         \n\
         # Whose logs this server witnesses; `postern-key-server witness-keys` prints its own vkeys.\n\
         # [witness]\n\
         # listen = \"127.0.0.1:4445\"\n\
         # logs = [[\"<vkey>\", \"<vkey>\"]]\n"
    );
    files::create_private(&config_path, text.as_bytes())?;
    Ok(Made {
        config: config_path,
        server_keys,
    })
}

/// The automatic way, and its section of the configuration.
fn means(root: &Root) -> Result<(Means, String), SetupError> {
    let means = match root {
        Root::New(path) => {
            let mut key = Zeroizing::new([0_u8; 32]);
            UnwrapErr(SysRng).fill_bytes(key.as_mut());
            // Room for all of it: a buffer that grows leaves a copy behind that nobody erases.
            let mut text = Zeroizing::new(String::with_capacity(65));
            for byte in key.iter() {
                for digit in [byte >> 4, byte & 15] {
                    text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
                }
            }
            text.push('\n');
            files::create_private(path, text.as_bytes())?;
            Means::Credential(path.clone())
        }
        Root::There(means) => means.clone(),
    };
    let text = |path: &Path| format!("{:?}", absolute(path).display().to_string());
    let section = match &means {
        Means::Credential(path) => format!("[root-key]\ncredential = {}", text(path)),
        Means::Passphrase(path) => format!("[root-key]\npassphrase-file = {}", text(path)),
        Means::Pkcs11(token) => format!(
            "[root-key.pkcs11]\nmodule = {}\ntoken = {:?}\nkey = {:?}\npin-file = {}",
            text(&token.module),
            token.token,
            token.key,
            text(&token.pin_file)
        ),
        Means::Tpm2(tpm) => {
            let tcti = tpm.tcti.as_ref();
            let tcti = tcti.map_or_else(String::new, |tcti| format!("tcti = {tcti:?}\n"));
            format!("[root-key.tpm2]\n{tcti}pcrs = {:?}", tpm.pcrs)
        }
    };
    Ok((means, section))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
