//! A realm to measure in: admins, a policy, datasets, launches, nodes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::link::{Link, Server};
use client::login::{self, Evidence};
use client::logs::{LoggedLink, Logs};
use client::state::{NodeState, Pins};
use client::wallet::{DatasetSession, NodeSession};
use ticket_format::Refusal;
use ticket_format::bootstrap::{Bootstrap, launch_secret};
use ticket_format::ids::LaunchId;
use ticket_format::report::{Report, exit};
use ticket_format::seal::Kem;
use ticket_format::secret::BootstrapSecret;
use ticket_format::statement::{
    ActBody, Canary, DatasetCreate, DatasetRecord, LaunchCreate, PolicySet, Witnessing,
};
use ticket_format::ticket::{Action, Actions};
use ticket_format::tlog::LogKey;
pub(crate) use tools::admin::{now, rng};

use crate::admins::{self, Admins};
use crate::documents::{self, ACCOUNT};
use crate::servers::{REALM, Servers};

/// The dataset of every bench.
pub(crate) const DATASET: &str = "bench";
/// The broker's policy and the dataset's: as an operator would write one for a fleet of one account.
pub(crate) const POLICY: &str = r#"@id("bench") permit (principal, action, resource)
when { principal.account == "123456789012" };"#;
/// More than any load redeems.
const BUDGET: u64 = 10_000_000;
/// The longest life of a dataset ticket, in seconds.
const LIFE: u64 = 3_600;
/// A dataset's lease, in seconds: the default.
const LEASE: u64 = 5;
/// Patience with a server.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Servers with a policy and a dataset.
pub(crate) struct Realm {
    /// The processes.
    pub(crate) servers: Servers,
    /// The admins.
    pub(crate) admins: Admins,
    instances: std::sync::atomic::AtomicU64,
    nodes: tempfile::TempDir,
}

/// A node that has not logged in yet.
pub(crate) struct Newcomer {
    /// Its state directory.
    pub(crate) dir: PathBuf,
    state: NodeState,
    /// What it proves itself by.
    pub(crate) evidence: Evidence,
}

/// A node with a ticket.
pub(crate) struct Node {
    /// What it trusts.
    pins: Pins,
    /// Its state, which an issue may bring forward; each node is asked by one task at a time.
    pub(crate) state: tokio::sync::Mutex<NodeState>,
    /// What it remembers of logs.
    logs: Logs,
    /// The broker's log.
    broker_log: LogKey,
    /// Its ticket.
    pub(crate) session: NodeSession,
}

impl Realm {
    /// Starts the servers and sets them up.
    pub(crate) async fn start(binaries: &Path) -> Result<Self, Report> {
        let admins = Admins::new()?;
        let servers = Servers::start(binaries, admins.first()).await?;
        let realm = Self {
            nodes: memory_dir()?,
            instances: 0.into(),
            servers,
            admins,
        };
        let policy = PolicySet {
            text: POLICY.to_owned(),
            replaces: None,
        };
        realm.act(&realm.servers.broker, &policy).await?;
        let key_server = realm.servers.key_server.clone();
        realm.dataset(&key_server, DATASET).await?;
        Ok(realm)
    }

    /// Makes a dataset at a key server and makes it known to the broker.
    pub(crate) async fn dataset(
        &self,
        key_server: &Server,
        name: &str,
    ) -> Result<DatasetRecord, Report> {
        let kems = vec![Kem::X25519, Kem::XWing];
        let create = DatasetCreate {
            rotation: Default::default(),
            class: Default::default(),
            exportable: false,
            name: name.to_owned(),
            tags: Default::default(),
            policy: POLICY.to_owned(),
            producers: Vec::new(),
            kems: kems.clone(),
            max_budget: BUDGET,
            max_life: LIFE,
            owners: self.admins.owners(),
            lease: LEASE,
            evidence: false,
            canary: Canary::No,
            witnessing: Witnessing::none(),
        };
        let created = self.act(key_server, &create).await?;
        let record = DatasetRecord {
            recipients: Default::default(),
            class: Default::default(),
            dataset: created.dataset,
            name: create.name,
            tags: create.tags,
            tls_key: key_server.tls_key,
            server_key: created.server_key,
            addresses: key_server.addresses.clone(),
            kek: created.kek,
            kek_version: created.kek_version,
            public_key: created.public_key,
            producers: create.producers,
            kems,
            max_budget: BUDGET,
            max_life: LIFE,
            owners: create.owners,
            lease: LEASE,
            evidence: false,
            follows: DatasetRecord::FIRST,
            log_key: created.log_key,
            witnessing: create.witnessing,
        };
        let statement = self.admins.record(&record)?;
        let link = self.admin_link(&self.servers.broker).await?;
        admins::send::<DatasetRecord>(&link, &statement).await?;
        link.close().await;
        Ok(record)
    }

    /// One act, over a connection of its own.
    async fn act<B: ActBody>(&self, server: &Server, body: &B) -> Result<B::Result, Report> {
        let statement = self.admins.act(server, body)?;
        let link = self.admin_link(server).await?;
        let result = admins::send::<B>(&link, &statement).await;
        link.close().await;
        result
    }

    /// A connection for statements.
    pub(crate) async fn admin_link(&self, server: &Server) -> Result<Link, Report> {
        let link = Link::connect(server, TIMEOUT).await;
        link.map_err(|error| error.report())
    }

    /// Registers a launch for as many nodes as there can be, and gives its bootstrap.
    pub(crate) async fn launch(&self) -> Result<Bootstrap, Report> {
        let (launch, secret) = (
            LaunchId::random(&mut rng()),
            BootstrapSecret::random(&mut rng()),
        );
        let body = LaunchCreate {
            launch,
            key: launch_secret(&secret, launch).public(),
            accounts: vec![ACCOUNT.to_owned()],
            regions: vec![documents::REGION.to_owned()],
            images: Vec::new(),
            uses: 1_000_000,
            group: true,
            from: now().minus(600),
            until: now().plus(LIFE),
            max_age: 900,
            node_life: 24 * LIFE,
            comment: String::new(),
        };
        let statement = self.admins.record(&body)?;
        let link = self.admin_link(&self.servers.broker).await?;
        admins::send::<LaunchCreate>(&link, &statement).await?;
        link.close().await;
        Ok(Bootstrap {
            realm: REALM.to_owned(),
            launch,
            secret,
            brokers: self.servers.broker.addresses.clone(),
            broker_key: self.servers.broker.tls_key,
            admin_set: self.admins.pinned(),
            launch_digest: ticket_format::ids::StatementDigest::of(&statement),
            ticket_key: self.servers.ticket_key,
            log_key: self.servers.broker_log.clone(),
        })
    }

    /// Boots so many instances of a launch: each reads user-data and identity proof, makes its keys
    /// and writes its state.
    pub(crate) async fn boot(
        self: &Arc<Self>,
        bootstrap: &Bootstrap,
        count: usize,
    ) -> Result<Vec<Newcomer>, Report> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let user_data = Arc::new(bootstrap.to_cloud_config());
        let mut booting = tokio::task::JoinSet::new();
        for core in 0..cores {
            let (realm, user_data) = (Arc::clone(self), Arc::clone(&user_data));
            booting.spawn_blocking(move || {
                let mine = count / cores + usize::from(core < count % cores);
                (0..mine)
                    .map(|_| realm.boot_one(user_data.as_bytes()))
                    .collect::<Result<Vec<_>, _>>()
            });
        }
        let mut booted = Vec::with_capacity(count);
        while let Some(ended) = booting.join_next().await {
            booted.extend(
                ended.map_err(|error| Report::new(exit::LOCAL, "booting ended").why(error))??,
            );
        }
        Ok(booted)
    }

    fn boot_one(&self, user_data: &[u8]) -> Result<Newcomer, Report> {
        let instance = self
            .instances
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let proof = documents::proof(instance, now());
        let evidence = Evidence::read(user_data, proof, &documents::region_keys())
            .map_err(|error| error.report())?;
        let dir = self.nodes.path().join(instance.to_string());
        let state = login::prepare(&dir, &evidence, &mut rng()).map_err(|error| error.report())?;
        Ok(Newcomer {
            dir,
            state,
            evidence,
        })
    }

    /// A new connection to the broker.
    pub(crate) async fn broker(&self, from: &transport::ClientEndpoint) -> Result<Link, Report> {
        link(&self.servers.broker, from).await
    }

    /// A new connection to the broker, bare.
    pub(crate) async fn broker_connection(
        &self,
        from: &transport::ClientEndpoint,
    ) -> Result<transport::Connection, Report> {
        connection(&self.servers.broker, from).await
    }

    /// The same, and the connection under it, which counts its bytes.
    pub(crate) async fn key_server_and_connection(
        &self,
        from: &transport::ClientEndpoint,
    ) -> Result<(Link, transport::Connection), Report> {
        let server = &self.servers.key_server;
        let connection = connection(server, from).await?;
        let link = Link::over(server, connection.clone()).map_err(|error| error.report())?;
        Ok((link, connection))
    }

    /// A new connection to the key server.
    pub(crate) async fn key_server(
        &self,
        from: &transport::ClientEndpoint,
    ) -> Result<Link, Report> {
        link(&self.servers.key_server, from).await
    }
}

impl Newcomer {
    /// Logs in.
    pub(crate) async fn login(mut self, link: &Link) -> Result<Node, Report> {
        let session = self.try_login(link).await;
        let session = session.map_err(|error| error.report())?;
        Ok(Node {
            logs: Logs::of_state(&self.dir),
            broker_log: self.evidence.bootstrap.log_key.clone(),
            pins: self.state.pins.clone(),
            state: self.state.into(),
            session,
        })
    }
}

impl Newcomer {
    /// Logs in; who is turned away may try again.
    pub(crate) async fn try_login(&mut self, link: &Link) -> Result<NodeSession, client::Error> {
        let broker_log = &self.evidence.bootstrap.log_key;
        let logs = Logs::of_state(&self.dir);
        let link = LoggedLink::over(link.clone(), logs.log("broker", broker_log));
        let (state, evidence) = (&mut self.state, &self.evidence);
        login::login(&link, &self.dir, state, evidence, now(), &mut rng()).await
    }
}

impl Node {
    /// A connection to the broker, which this node holds to what it remembers of its log.
    pub(crate) fn to_broker(&self, link: &Link) -> LoggedLink {
        LoggedLink::over(link.clone(), self.logs.log("broker", &self.broker_log))
    }

    /// Gets a dataset ticket for a job that decrypts and encrypts.
    pub(crate) async fn issue(
        &self,
        link: &LoggedLink,
        budget: u64,
    ) -> Result<DatasetSession, Report> {
        let actions = Actions::new(&[Action::Decrypt, Action::Encrypt]);
        let wanted = client::issue::Wanted {
            dataset: DATASET.to_owned(),
            actions: actions.ok_or_else(|| Report::new(exit::LOCAL, "no action"))?,
            required: Default::default(),
            life: LIFE,
            budget,
            kem: Kem::XWing,
        };
        let state = &mut *self.state.lock().await;
        let session =
            client::issue::issue(link, state, &self.session, &wanted, now(), &mut rng()).await;
        session.map_err(|error| error.report())
    }

    /// Presents a dataset ticket on a connection to the key server. Waits for as long as the key
    /// server has not heard from the broker since the dataset was made known there.
    pub(crate) async fn present(
        &self,
        session: &DatasetSession,
        link: &Link,
    ) -> Result<client::redeem::Presented, Report> {
        let asked = Instant::now();
        loop {
            let opened = client::issue::Opened::check(session, &self.pins, now());
            let opened = opened.map_err(|error| error.report())?;
            let log = self.logs.log("key server", opened.log_key());
            let link = LoggedLink::over(link.clone(), log);
            match client::redeem::Presented::present(link, session, opened).await {
                Ok(presented) => return Ok(presented),
                Err(error)
                    if error.refusal() == Some(Refusal::Lease) && asked.elapsed() < TIMEOUT =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error.report()),
            }
        }
    }
}

async fn link(server: &Server, from: &transport::ClientEndpoint) -> Result<Link, Report> {
    let connection = connection(server, from).await?;
    Link::over(server, connection).map_err(|error| error.report())
}

async fn connection(
    server: &Server,
    from: &transport::ClientEndpoint,
) -> Result<transport::Connection, Report> {
    let address = server
        .addresses
        .first()
        .and_then(|address| address.parse().ok());
    let address = address.ok_or_else(|| Report::new(exit::LOCAL, "a server has no address"))?;
    crate::floor::connect(from, address, server.tls_key.to_bytes()).await
}

/// A directory in memory if there is one: every node of a fleet has a disk of its own, and here a
/// thousand of them would wait for the one that the broker writes to.
pub(crate) fn memory_dir() -> Result<tempfile::TempDir, Report> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("postern-bench-nodes.");
    let dir = builder
        .tempdir_in("/dev/shm")
        .or_else(|_| builder.tempdir());
    dir.map_err(|error| Report::new(exit::LOCAL, "no temporary directory").why(error))
}
