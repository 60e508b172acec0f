//! A house: broker, key server, admin and nodes as real processes in a directory of its own.
//!
//! Servers listen on ports that the system chose. The first start tells which; from then on they
//! stand in the configuration, so that a restarted server is found where tickets and records say.
//! Everything ends with the house.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ciborium::Value;
use client::link::Server;
use store::root::{Means, RootDir, Ways};
use store::sealed::RootKey;
use ticket_format::bootstrap::Bootstrap;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::{Alarm, Entry};
use ticket_format::ids::{LaunchId, StatementDigest};
use ticket_format::keys::{FeedKey, ServerKey, ServerSecret, TicketKey, TlsKey};
use ticket_format::limits;
use ticket_format::seal::Kem;
use ticket_format::secret::BootstrapSecret;
use ticket_format::statement::{
    Canary, DatasetCreate, DatasetRecord, LaunchCreate, PolicySet, Witnessing,
};
use ticket_format::time::Timestamp;
use ticket_format::tlog::LogKey;

use crate::admins::Admins;
pub use crate::daemon::{Daemon, Said, command, ended, program};
use crate::softhsm::Token;
use crate::wire::{self, Wire, now, rng};

/// The realm of every house.
pub const REALM: &str = "test-realm";
/// The dataset that every house has.
pub const DATASET: &str = "faces";
/// Permits every node every action.
pub const OPEN_POLICY: &str = "@id(\"all\")\npermit(principal, action, resource);\n";
/// The passphrase of the admin's key; a canary that must turn up nowhere.
pub const PASSPHRASE: &str = "canary passphrase eleven herons";

/// Writes a file that only its owner may read.
///
/// # Panics
/// When it cannot be written.
pub fn private(path: &Path, bytes: &[u8]) {
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(bytes))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The value of `name = "value"` in one of the servers' public files.
fn quoted(path: &Path, name: &str) -> String {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='));
    let line = line.unwrap_or_else(|| panic!("{} has no {name}", path.display()));
    line.trim().trim_matches('"').to_owned()
}

/// Replaces what stands behind `name =` at the start of a line.
///
/// # Panics
/// When the file cannot be changed, or has no such line.
pub fn set(path: &Path, name: &str, value: &str) {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut found = false;
    let lines: Vec<String> = text
        .lines()
        .map(|line| match line.strip_prefix(name).map(str::trim_start) {
            Some(rest) if rest.starts_with('=') => {
                found = true;
                format!("{name} = {value}")
            }
            _ => line.to_owned(),
        })
        .collect();
    assert!(found, "{} has no {name}", path.display());
    let mode = fs::metadata(path).expect("a file").permissions();
    fs::write(path, lines.join("\n") + "\n").expect("written");
    fs::set_permissions(path, mode).expect("a mode");
}

/// Writes more at the end of a configuration.
///
/// # Panics
/// When it cannot be written.
pub fn add(path: &Path, text: &str) {
    let file = OpenOptions::new().append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// A running house.
#[derive(Debug)]
pub struct House {
    /// The broker.
    pub broker: Daemon,
    /// The key server.
    pub key_server: Daemon,
    /// The admins.
    pub admins: Admins,
    /// Everything on disk.
    pub dir: tempfile::TempDir,
    launches: std::cell::Cell<usize>,
}

impl House {
    /// Starts both servers, and makes policy and dataset.
    ///
    /// # Panics
    /// When anything of it fails.
    #[must_use]
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// As [`House::start`], with something changed of the dataset.
    ///
    /// # Panics
    /// When anything of it fails.
    #[must_use]
    pub fn with(change: impl FnOnce(&mut DatasetCreate)) -> Self {
        Self::bare().furnished(change)
    }

    /// As [`House::start`], with the broker's ticket keys in a token, under the label `tickets`.
    ///
    /// # Panics
    /// When anything of it fails.
    #[must_use]
    pub fn with_token(token: &Token) -> Self {
        Self::built(Some(token)).furnished(|_| {})
    }

    fn furnished(self, change: impl FnOnce(&mut DatasetCreate)) -> Self {
        let house = self;
        let mut wanted = DatasetCreate {
            rotation: Default::default(),
            class: Default::default(),
            exportable: false,
            name: DATASET.to_owned(),
            tags: BTreeMap::new(),
            policy: OPEN_POLICY.to_owned(),
            producers: Vec::new(),
            kems: vec![Kem::XWing],
            max_budget: 1_000_000,
            max_life: 3_600,
            owners: house.admins.owner_keys(),
            lease: 5,
            evidence: false,
            canary: Canary::No,
            witnessing: Witnessing::none(),
        };
        change(&mut wanted);
        let (broker, key_server) = (house.broker_server(), house.key_server_server());
        let admins = &house.admins;
        let record = apart(furnish(admins, &broker, &key_server, wanted));
        fs::write(house.record(), record).expect("written");
        house
    }

    /// Both servers, without policy or dataset.
    ///
    /// # Panics
    /// When anything of it fails.
    #[must_use]
    pub fn bare() -> Self {
        Self::built(None)
    }

    fn built(token: Option<&Token>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("postern-house-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .expect("a directory");
        let root = dir.path();
        private(&root.join("passphrase"), PASSPHRASE.as_bytes());
        let at = |name: &str| root.join(name);
        let (broker_dir, server_dir) = (at("broker"), at("key-server"));
        let admins = Admins::fresh();
        admins.move_in(root);

        let mut init = command("postern-broker");
        init.args([
            "init",
            "--realm",
            REALM,
            "--listen",
            "127.0.0.1:0",
            "--address",
            "127.0.0.1:1",
            "--dir",
        ])
        .arg(&broker_dir);
        init.arg("--admin-set").arg(at("admin-set.cose"));
        init.arg("--new-root-credential").arg(at("broker-root"));
        let mut broker = Daemon::new("postern-broker", &broker_dir, "broker.toml");
        if let Some(token) = token {
            init.args(token.arguments("tickets"));
            init.envs([token.variable()]);
            broker.environment.push(token.variable());
        }
        ended(init).ok();
        if let Some(token) = token {
            add(&broker_dir.join("broker.toml"), &token.sandbox());
        }
        let address = broker.start();
        set(
            &broker_dir.join("broker-keys.toml"),
            "addresses",
            &format!("[\"{address}\"]"),
        );
        set(
            &broker_dir.join("broker.toml"),
            "listen",
            &format!("\"{address}\""),
        );

        let mut init = command("postern-key-server");
        init.args([
            "init",
            "--realm",
            REALM,
            "--listen",
            "127.0.0.1:0",
            "--address",
            "127.0.0.1:1",
            "--dir",
        ])
        .arg(&server_dir);
        init.arg("--admin-set").arg(at("admin-set.cose"));
        init.arg("--broker-keys")
            .arg(broker_dir.join("broker-keys.toml"));
        init.arg("--new-root-credential").arg(at("key-server-root"));
        init.args(Self::shares(root));
        ended(init).ok();
        let mut key_server = Daemon::new("postern-key-server", &server_dir, "key-server.toml");
        let address = key_server.start();
        set(
            &server_dir.join("server-keys.toml"),
            "addresses",
            &format!("[\"{address}\"]"),
        );
        set(
            &server_dir.join("key-server.toml"),
            "listen",
            &format!("\"{address}\""),
        );
        Self {
            broker,
            key_server,
            admins,
            dir,
            launches: std::cell::Cell::new(0),
        }
    }

    /// What `init` of a key server gets to know of shares: two of the three admins' open its root key.
    #[must_use]
    pub fn shares(house: &Path) -> Vec<String> {
        let mut arguments = vec!["--threshold".to_owned(), "2".to_owned()];
        for name in ["operator", "owner-1", "owner-2"] {
            let file = house.join(format!("admin-{name}/share-key.pub"));
            arguments.extend(["--share".to_owned(), format!("{name}={}", file.display())]);
        }
        arguments
    }

    /// A path in the house.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The dataset's record, as producers get it.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.path("faces.record")
    }

    /// A file with a policy.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn policy_file(&self, text: &str) -> PathBuf {
        let path = self.path("policy.cedar");
        fs::write(&path, text).expect("written");
        path
    }

    /// Runs `postern-admin` to its end, as one of the admins by name.
    pub fn as_admin(&self, name: &str, arguments: &[&str]) -> Said {
        let mut admin = command("postern-admin");
        admin
            .args(arguments)
            .arg("--config")
            .arg(self.path(&format!("admin-{name}/admin.toml")));
        admin.arg("--passphrase-file").arg(self.path("passphrase"));
        ended(admin)
    }

    /// Runs `postern-admin` as an admin whose act it is; what needs two is approved by the second.
    pub fn admin_does(&self, arguments: &[&str]) -> Said {
        let managed = matches!(
            arguments,
            [
                "dataset" | "policy" | "undeny" | "admin-set" | "ticket-key",
                ..
            ] | ["node", "unfreeze", ..]
        );
        if !managed {
            return self.as_admin("operator", arguments);
        }
        let said = self.as_admin("owner-1", arguments);
        let proposed = said.text();
        let Some(id) = proposed.lines().find_map(|line| {
            let rest = line.strip_prefix("proposed ")?;
            rest.split(':').next()
        }) else {
            return said;
        };
        // Where the record goes: the file that the proposer named.
        let out = arguments.iter().position(|argument| *argument == "--out");
        let out = out.and_then(|at| arguments.get(at..at + 2));
        let approve = [&["approve", id, "--yes"][..], out.unwrap_or_default()].concat();
        self.as_admin("owner-2", &approve)
    }

    /// Where the broker listens.
    ///
    /// # Panics
    /// When its public file does not say.
    #[must_use]
    pub fn broker_address(&self) -> SocketAddr {
        let address = &self.broker_server().addresses[0];
        address.parse().expect("an address")
    }

    /// Restarts the key server so that it reaches the broker by another address.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn key_server_hears_by(&mut self, address: SocketAddr) {
        let keys = self.path("key-server/broker-keys.toml");
        fs::copy(self.path("broker/broker-keys.toml"), &keys).expect("a copy");
        set(&keys, "addresses", &format!("[\"{address}\"]"));
        let config = self.path("key-server/key-server.toml");
        set(&config, "broker-keys", "\"broker-keys.toml\"");
        self.key_server.restart();
    }

    /// The broker, as callers know it.
    #[must_use]
    pub fn broker_server(&self) -> Server {
        server("broker", &self.path("broker/broker-keys.toml"))
    }

    /// The key server, as callers know it.
    #[must_use]
    pub fn key_server_server(&self) -> Server {
        server("key server", &self.path("key-server/server-keys.toml"))
    }

    /// The broker's ticket key.
    #[must_use]
    pub fn ticket_key(&self) -> TicketKey {
        key(&self.path("broker/broker-keys.toml"), "ticket-key")
    }

    /// The broker's feed key.
    #[must_use]
    pub fn feed_key(&self) -> FeedKey {
        key(&self.path("broker/broker-keys.toml"), "feed-key")
    }

    /// The keys of a server's log, `broker` or `key-server`.
    ///
    /// # Panics
    /// When its public file does not say.
    #[must_use]
    pub fn log_key(&self, server: &str) -> LogKey {
        let file = match server {
            "broker" => "broker/broker-keys.toml",
            _ => "key-server/server-keys.toml",
        };
        let keys = quoted(&self.path(file), "log-keys");
        let keys: Vec<&str> = keys
            .split(['[', ']', '"', ',', ' '])
            .filter(|part| !part.is_empty())
            .collect();
        LogKey::from_vkeys(keys[0], keys[1]).expect("a log's keys")
    }

    /// The key server's signing key.
    #[must_use]
    pub fn signing_key(&self) -> ServerKey {
        key(&self.path("key-server/server-keys.toml"), "signing-key")
    }

    /// A launch made by `postern-admin`, for instances of an account that AWS launched at any time;
    /// returns its user-data.
    ///
    /// # Panics
    /// When it is refused.
    pub fn user_data(&self, account: &str, more: &[&str]) -> String {
        let number = self.launches.get();
        self.launches.set(number + 1);
        let out = self.path(&format!("user-data-{number}"));
        let mut create = vec![
            "launch",
            "create",
            "--account",
            account,
            "--not-before",
            "2015-01-01T00:00:00Z",
        ];
        create.extend([
            "--expires",
            "2099-01-01T00:00:00Z",
            "--max-age",
            "20000d",
            "--out",
            out.to_str().expect("text"),
        ]);
        create.extend(more);
        self.admin_does(&create).ok();
        let text = fs::read_to_string(&out).expect("user-data");
        fs::remove_file(&out).expect("it is gone: the secret is for the node alone");
        text
    }

    /// A launch of the same terms, made over the wire.
    ///
    /// # Panics
    /// When it is refused.
    pub fn launch(&self, account: &str) -> Bootstrap {
        let (admins, server) = (&self.admins, self.broker_server());
        let mut bootstrap = Bootstrap {
            realm: REALM.to_owned(),
            launch: LaunchId::random(&mut rng()),
            secret: BootstrapSecret::random(&mut rng()),
            brokers: server.addresses.clone(),
            broker_key: server.tls_key,
            admin_set: admins.first_set().body().to_cbor(),
            launch_digest: StatementDigest([0; 32]),
            ticket_key: self.ticket_key(),
            log_key: self.log_key("broker"),
        };
        let terms = LaunchCreate {
            launch: bootstrap.launch,
            key: bootstrap.launch_secret().public(),
            accounts: vec![account.to_owned()],
            regions: Vec::new(),
            images: Vec::new(),
            uses: 1,
            group: false,
            from: Timestamp::from_seconds(1_420_070_400),
            until: now().plus(86_400),
            max_age: 20_000 * 86_400,
            node_life: 86_400,
            comment: String::new(),
        };
        let message = wire::record(admins, REALM, &terms);
        bootstrap.launch_digest = StatementDigest::of(&message.body);
        apart(async move {
            let wire = Wire::connect(&server).await;
            let _ = wire.send(&message).await.done();
        });
        bootstrap
    }

    /// The key server's signing key itself: what somebody with disk and root credential would have.
    ///
    /// # Panics
    /// When it does not open.
    #[must_use]
    pub fn signing_secret(&self) -> ServerSecret {
        ServerSecret::from_seed(&self.sealed_seed("key-server", "key-server-root", "signing"))
    }

    /// A seed sealed in a server's data directory, opened with the root credential.
    ///
    /// # Panics
    /// When it does not open.
    #[must_use]
    pub fn sealed_seed(&self, server: &str, credential: &str, name: &str) -> [u8; 32] {
        let credential = self.path(credential);
        // What it was sealed for (REST-1).
        let (root, path, place) = match server {
            "broker" => {
                let credential = fs::read(credential).expect("a credential");
                let root = RootKey::from_credential(&credential).expect("a root key");
                let path = self.path(&format!("broker/data/keys/{name}.sealed"));
                (root, path, format!("broker/keys/{name}"))
            }
            _ => {
                let (ways, root) = self.root_key(&credential);
                let path = ways.sealed().join(format!("keys/{name}.sealed"));
                (root, path, format!("keys/{name}"))
            }
        };
        let sealed = fs::read(path).expect("a sealed key");
        let seed = root.open(&place, &sealed).expect("it opens");
        seed.as_slice().try_into().expect("32 bytes")
    }

    /// The key server's root key, opened with its credential, and the ways to it.
    ///
    /// # Panics
    /// When it does not open.
    #[must_use]
    pub fn root_key(&self, credential: &Path) -> (Ways, RootKey) {
        let ways = RootDir::at(&self.path("key-server/data")).ways();
        let ways = ways.expect("ways to a root key");
        let root = ways.open_auto(&Means::Credential(credential.to_owned()));
        (ways, root.expect("it opens"))
    }

    /// A server's log directory, `broker` or `key-server`.
    #[must_use]
    pub fn log(&self, server: &str) -> PathBuf {
        self.path(server).join("data/audit")
    }

    /// The journal of the shard that is open in a server's log.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn journal(&self, server: &str) -> PathBuf {
        let mut journals = journals(&self.log(server));
        journals.pop().expect("an open shard")
    }

    /// The entries of a server's log, `broker` or `key-server`, also while it runs; of the shards that
    /// have their journals.
    ///
    /// # Panics
    /// When it has not its shape.
    #[must_use]
    pub fn entries(&self, server: &str) -> Vec<Entry> {
        let mut entries = Vec::new();
        for journal in journals(&self.log(server)) {
            let bytes = fs::read(journal).expect("a journal");
            let mut rest = bytes.as_slice();
            // An item that is being written does not parse yet.
            while let Ok(item) = ciborium::from_reader::<Value, _>(&mut rest) {
                if let Some([Value::Integer(_), _, Value::Bytes(entry)]) =
                    item.as_array().map(Vec::as_slice)
                {
                    entries.push(Entry::from_cbor(entry, limits::ENTRY).expect("an entry"));
                }
            }
        }
        entries
    }

    /// How often an alarm stands in a server's audit log.
    #[must_use]
    pub fn alarms(&self, server: &str, alarm: Alarm) -> usize {
        let entries = self.entries(server);
        entries
            .iter()
            .filter(|entry| entry.alarm == Some(alarm))
            .count()
    }

    /// Holds that nobody panicked and both servers run.
    ///
    /// # Panics
    /// When that is not so.
    pub fn is_sound(&mut self) {
        for daemon in [&mut self.broker, &mut self.key_server] {
            assert!(
                daemon.runs(),
                "{} is gone:\n{}",
                daemon.program,
                daemon.log()
            );
            let log = daemon.log();
            assert!(
                !log.contains("panicked"),
                "{} panicked:\n{log}",
                daemon.program
            );
        }
    }
}

/// The journals of a log's shards, ascending.
fn journals(log: &Path) -> Vec<PathBuf> {
    let mut shards: Vec<u64> = fs::read_dir(log)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    shards.sort_unstable();
    let journals = shards
        .iter()
        .map(|shard| log.join(shard.to_string()).join("journal"));
    journals.filter(|journal| journal.exists()).collect()
}

/// Does something over the wire in a runtime of its own: callers may be in one of theirs.
fn apart<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(work)
        });
        thread.join().expect("it is done")
    })
}

/// Sets the broker's policy, and makes a dataset; gives its record.
async fn furnish(
    admins: &Admins,
    broker: &Server,
    key_server: &Server,
    wanted: DatasetCreate,
) -> Vec<u8> {
    let broker = Wire::connect(broker).await;
    let server = Wire::connect(key_server).await;
    let policy = PolicySet {
        text: OPEN_POLICY.to_owned(),
        replaces: None,
    };
    broker.act(admins, &policy).await.expect("a policy");
    let created = server.act(admins, &wanted).await.expect("a dataset");
    let record = DatasetRecord {
        recipients: Default::default(),
        class: Default::default(),
        dataset: created.dataset,
        name: wanted.name,
        tags: wanted.tags,
        tls_key: key_server.tls_key,
        server_key: created.server_key,
        addresses: key_server.addresses.clone(),
        kek: created.kek,
        kek_version: created.kek_version,
        public_key: created.public_key,
        producers: wanted.producers,
        kems: wanted.kems,
        max_budget: wanted.max_budget,
        max_life: wanted.max_life,
        owners: wanted.owners,
        lease: wanted.lease,
        evidence: wanted.evidence,
        follows: DatasetRecord::FIRST,
        log_key: created.log_key,
        witnessing: wanted.witnessing,
    };
    let statement = wire::record(admins, REALM, &record);
    let signed = statement.body.clone();
    let _ = broker.send(&statement).await.done();
    signed
}

fn key<K: std::str::FromStr>(path: &Path, name: &str) -> K {
    quoted(path, name)
        .parse()
        .unwrap_or_else(|_| panic!("{name} of {} is no key", path.display()))
}

fn server(word: &'static str, path: &Path) -> Server {
    let tls_key: TlsKey = key(path, "tls-key");
    let address = quoted(path, "addresses");
    let address = address.trim_matches(['[', ']', '"', ' ']).to_owned();
    Server {
        word,
        realm: REALM.to_owned(),
        addresses: vec![address],
        tls_key,
    }
}

/// Every file below a directory, with its bytes.
#[must_use]
pub fn files_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(path),
                Ok(kind) if kind.is_file() => {
                    let bytes = File::open(&path).and_then(|mut file| {
                        let mut bytes = Vec::new();
                        std::io::Read::read_to_end(&mut file, &mut bytes).map(|_| bytes)
                    });
                    found.push((path, bytes.unwrap_or_default()));
                }
                _ => {}
            }
        }
    }
    found
}

/// Copies a directory with its modes.
///
/// # Panics
/// When it cannot be copied.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    fs::set_permissions(to, fs::metadata(from).expect("a directory").permissions())
        .expect("a mode");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&source, &target);
        } else {
            fs::copy(&source, &target)
                .unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        }
    }
}
