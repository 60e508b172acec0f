//! A whole key server in one process: real store, log, vault and policies; the test holds the clock,
//! the broker's keys and the connections' exporter values.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use audit_log::guard::Shards;
use audit_log::witness::Endpoint;
use audit_log::{AuditLog, SideFile, SideOptions};
use bytes::Bytes;
use getrandom::SysRng;
use key_server::clock::Clock;
use key_server::feed::{Happened, News, Received};
use key_server::habit::BurstLimits;
use key_server::sealed::Opened;
use key_server::service::{Identity, Parts, Service, StartError};
use key_server::state::Connection;
use rand_core::UnwrapErr;
use store::hooks::{Hook, HookLimits};
use store::root::{Holders, Means, Place, RootDir, Ways};
use store::sealed::RootKey;
use store::{Options, RedbStore};
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::{Denial, Selector, chain_next};
use ticket_format::entry::Entry;
use ticket_format::ids::{AdminSetDigest, StatementDigest, StatementId};
use ticket_format::iid::RegionKeys;
use ticket_format::keys::{AdminKey, AdminSecret, ServerSecret, TicketSecret, TlsKey, TlsSecret};
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::messages::{Answer, Receipt, RefusalNotice, Request, Verb};
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::sign::{Channel, Exporter};
use ticket_format::statement::{
    ActBody, Admin, AdminKeyKind, AdminRole, AdminSet, AdminSetBody, Canary, DatasetCreate,
    DatasetCreated, Payload, ShareHolder,
};
use ticket_format::statement::{Role, Witnessing};
use ticket_format::time::Timestamp;
use ticket_format::tlog::{LogSecret, Origin, Proof};
use ticket_format::{Context, Refusal, limits};

use crate::cut_off::{CutOff, CutOffStore};
use crate::issuer::Issuer;

pub(crate) const REALM: &str = "test";
pub(crate) const START: u64 = 1_800_000_000;
pub(crate) const POLICY: &str = r#"
@id("team") permit (principal, action in Postern::Action::"use", resource) when { principal.account == "123456789012" };
@id("no-selling") forbid (principal, action, resource)
when { context.pairs.hasTag("purpose") && context.pairs.getTag("purpose") == "sell" };
"#;

pub(crate) fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

type Due = (u64, Box<dyn FnOnce() + Send>);

/// Stands still unless told otherwise; can do something between two readings.
#[derive(Default)]
pub(crate) struct TestClock {
    seconds: AtomicU64,
    millis: AtomicU64,
    hook: Mutex<Option<Due>>,
    monotonic_hook: Mutex<Option<Due>>,
    held: AtomicBool,
    waiting: AtomicUsize,
}

impl TestClock {
    /// Sets civil time, in seconds after the start.
    pub(crate) fn set(&self, seconds: u64) {
        self.seconds.store(START + seconds, Ordering::SeqCst);
    }

    /// Sets monotonic time.
    pub(crate) fn set_monotonic(&self, millis: u64) {
        self.millis.store(millis, Ordering::SeqCst);
    }

    /// Does this just before the `n`th reading of monotonic time from now.
    pub(crate) fn before_monotonic(&self, n: u64, hook: impl FnOnce() + Send + 'static) {
        *self.monotonic_hook.lock().unwrap() = Some((n, Box::new(hook)));
    }

    /// Whoever reads civil time from now on waits until it is let go.
    pub(crate) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    /// How many wait for the time.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Does this just before the `n`th reading of civil time from now.
    pub(crate) fn before_reading(&self, n: u64, hook: impl FnOnce() + Send + 'static) {
        *self.hook.lock().unwrap() = Some((n, Box::new(hook)));
    }
}

/// Counts a reading, and does what is due before it.
fn read(hook: &Mutex<Option<Due>>) {
    let due = {
        let mut hook = hook.lock().unwrap();
        match &mut *hook {
            Some((1, _)) => hook.take(),
            Some((n, _)) => {
                *n -= 1;
                None
            }
            None => None,
        }
    };
    if let Some((_, hook)) = due {
        hook();
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        read(&self.hook);
        if self.held.load(Ordering::SeqCst) {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            while self.held.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        Timestamp::from_seconds(self.seconds.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        read(&self.monotonic_hook);
        Duration::from_millis(self.millis.load(Ordering::SeqCst))
    }
}

/// Opens a file. A hook of another test that is being started has copies of all open files for a moment,
/// with their locks.
pub(crate) async fn patiently<T, E: std::fmt::Debug>(open: impl Fn() -> Result<T, E>) -> T {
    let begun = std::time::Instant::now();
    loop {
        match open() {
            Err(error)
                if format!("{error:?}").starts_with("InUse")
                    && begun.elapsed() < Duration::from_secs(10) =>
            {
                tokio::task::yield_now().await;
            }
            opened => return opened.unwrap(),
        }
    }
}

/// What outlives a restart.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) broker: TicketSecret,
    pub(crate) tls: TlsSecret,
    /// The admin set that the operator configured.
    pub(crate) admin_set: Vec<u8>,
    /// The program that is told of alarms.
    pub(crate) hook: Vec<String>,
    pub(crate) bursts: BurstLimits,
    /// What the next commit answers, though it is kept.
    pub(crate) cut_off: CutOff,
    pub(crate) signing: ServerSecret,
    /// The broker's log.
    pub(crate) issuer: Arc<Issuer>,
    /// Who witnesses this server's log.
    pub(crate) witnesses: Vec<(String, Endpoint)>,
    /// Who holds shares of the root key: two of three open it.
    pub(crate) shares: Vec<SealingSecret>,
    /// How the root key was opened.
    pub(crate) opened: Opened,
}

impl World {
    pub(crate) fn new() -> Self {
        let rng = &mut rng();
        let clock = Arc::new(TestClock::default());
        clock.set(0);
        clock.set_monotonic(10_000);
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock,
            broker: TicketSecret::generate(rng),
            admin_set: first_set(),
            hook: Vec::new(),
            bursts: BurstLimits::default(),
            tls: TlsSecret::generate(rng),
            cut_off: CutOff::default(),
            signing: ServerSecret::generate(rng),
            issuer: Arc::new(Issuer::new()),
            witnesses: Vec::new(),
            shares: (0..3)
                .map(|_| SealingSecret::generate(Kem::XWing, rng))
                .collect(),
            opened: Opened::Automatic,
        }
    }

    /// The keys of this server's log.
    pub(crate) fn log_secret(&self) -> LogSecret {
        let origin = Origin::new(REALM, Role::KeyServer, &self.tls.public());
        LogSecret::from_seeds(origin, &[0x31; 32], &[0x32; 32]).unwrap()
    }

    pub(crate) fn server(&self) -> TlsKey {
        self.tls.public()
    }

    /// The automatic way to the root key.
    pub(crate) fn means(&self) -> Means {
        Means::Credential(self.dir.path().join("credential"))
    }

    /// The root key and the ways to it, made the first time.
    pub(crate) fn root_key(&self) -> (Ways, RootKey) {
        let roots = RootDir::at(self.dir.path());
        if roots.exists() {
            let ways = roots.ways().unwrap();
            let root = ways.open_auto(&self.means()).unwrap();
            return (ways, root);
        }
        store::files::create_private(&self.dir.path().join("credential"), &[7; 32]).unwrap();
        let place = self.place();
        let holders = self
            .shares
            .iter()
            .enumerate()
            .map(|(n, secret)| ShareHolder {
                name: format!("holder-{n}"),
                key: secret.public(),
            });
        let holders = Holders::new(2, holders.collect()).unwrap();
        let made = roots.create(&place, &self.means(), &holders, &mut rng());
        made.unwrap()
    }

    /// What shares are bound to.
    pub(crate) fn place(&self) -> Place {
        Place {
            realm: REALM.into(),
            server: self.server(),
        }
    }

    pub(crate) async fn try_start(&self) -> Result<(Arc<Service>, AuditLog), StartError> {
        let path = self.dir.path();
        let store =
            patiently(|| RedbStore::open(path.join("store.redb"), Options::default())).await;
        let options = audit_log::Options {
            shard_entries: Some(Arc::new(Shards {
                clock: Arc::new(|| Timestamp::from_seconds(START)),
            })),
            clock: Arc::new(|| Timestamp::from_seconds(START)),
            ..audit_log::Options::default()
        };
        let open = || AuditLog::open(path.join("audit"), self.log_secret(), &options);
        let (log, _) = patiently(open).await;
        let identity = Identity {
            realm: REALM.into(),
            tls_key: self.tls.public(),
            signing: ServerSecret::from_seed(&self.signing.seed()),
            ticket_key: self.broker.public(),
            broker: broker_identity(),
            broker_log: self.issuer.secret.key().clone(),
            regions: RegionKeys::built_in(),
            admin_set: self.admin_set.clone(),
        };
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        if RootDir::at(path).exists() {
            let ways = key_server::service::root_ways(&store, RootDir::at(path)).await;
            ways.expect("a root key");
        }
        let (ways, root) = self.root_key();
        let open = || SideFile::open(path.join("audit.side"), &SideOptions::default());
        let (side, _) = patiently(open).await;
        let hook = Hook::new(self.hook.clone(), HookLimits::default()).unwrap();
        let parts = Parts {
            identity,
            root,
            ways,
            means: self.means(),
            opened: self.opened.clone(),
            store: Arc::new(CutOffStore(store.clone(), self.cut_off.clone())),
            log: log.clone(),
            witnesses: self.witnesses.clone(),
            side: side.clone(),
            clock,
            hook,
            bursts: self.bursts,
            inventory: path.join("inventory.redb"),
            data: path.to_owned(),
        };
        let started = Service::start(parts).await;
        if started.is_err() {
            // What is not closed keeps its lock for a while.
            store::Store::close(&store).await;
            log.close().await;
            side.close().await;
        }
        Ok((started?, log))
    }

    /// Starts, with a lease.
    pub(crate) async fn start(self) -> Rig {
        let (service, log) = self.try_start().await.unwrap();
        service.state.lease.heard(self.clock.monotonic());
        Rig {
            world: self,
            service,
            log,
            dataset: None,
        }
    }
}

pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) service: Arc<Service>,
    pub(crate) log: AuditLog,
    pub(crate) dataset: Option<DatasetCreated>,
}

/// The broker's TLS key, which evidence names.
pub(crate) fn broker_identity() -> TlsKey {
    TlsSecret::from_seed(&[0x62; 32]).public()
}

/// What an admin wants of the test's dataset.
pub(crate) fn wanted(name: &str) -> DatasetCreate {
    DatasetCreate {
        rotation: Default::default(),
        class: Default::default(),
        exportable: false,
        name: name.into(),
        tags: BTreeMap::new(),
        policy: POLICY.into(),
        producers: Vec::new(),
        kems: vec![Kem::XWing],
        max_budget: 10_000,
        max_life: 7_200,
        owners: owners(&[0, 1]),
        lease: 5,
        evidence: false,
        canary: Canary::No,
        witnessing: Witnessing::none(),
    }
}

/// Lets in nodes, and manages nothing.
pub(crate) fn operator() -> AdminSecret {
    AdminSecret::from_seed(&[0x4f; 32])
}

/// Managers 0, 1 and 2 are dataset-owners and security; the test's datasets belong to 0 and 1.
pub(crate) fn manager(n: u8) -> AdminSecret {
    AdminSecret::from_seed(&[0x40 + n; 32])
}

/// The keys of these managers, ascending.
pub(crate) fn owners(managers: &[u8]) -> Vec<AdminKey> {
    let mut keys: Vec<_> = managers.iter().map(|n| manager(*n).public()).collect();
    keys.sort();
    keys
}

pub(crate) const MANAGES: [AdminRole; 2] = [AdminRole::DatasetOwner, AdminRole::Security];

pub(crate) fn admin(name: &str, key: AdminKey, roles: &[AdminRole]) -> Admin {
    Admin {
        name: name.into(),
        kind: AdminKeyKind::File,
        key,
        roles: roles.to_vec(),
        application: None,
    }
}

/// A set of the operator and these managers; two must sign where a quorum is asked for.
pub(crate) fn set_of(version: u64, follows: AdminSetDigest, managers: &[u8]) -> AdminSetBody {
    let mut admins = vec![admin(
        "operator",
        operator().public(),
        &[AdminRole::Operator],
    )];
    let named = |n: &u8| admin(&format!("manager-{n}"), manager(*n).public(), &MANAGES);
    admins.extend(managers.iter().map(named));
    admins.sort_by_key(|admin| admin.key);
    AdminSetBody {
        version,
        follows,
        admins,
        quorums: AdminSetBody::usual_quorums(2),
    }
}

/// The statement that brings a set.
pub(crate) fn set_statement(body: &AdminSetBody, signers: &[&AdminSecret]) -> Vec<u8> {
    let (id, now) = (StatementId::random(&mut rng()), Timestamp::from_seconds(1));
    Payload::record(id, REALM, now, body).sign(signers).unwrap()
}

/// The first set: the operator and the three managers.
pub(crate) fn first_set() -> Vec<u8> {
    let body = set_of(1, AdminSetBody::NOTHING, &[0, 1, 2]);
    let signers = [operator(), manager(0), manager(1), manager(2)];
    set_statement(&body, &signers.each_ref())
}

/// What the first set is followed by.
pub(crate) fn first_digest() -> AdminSetDigest {
    let body = set_of(1, AdminSetBody::NOTHING, &[0, 1, 2]);
    AdminSet::new(body).unwrap().digest()
}

/// A server with one dataset, `faces`.
pub(crate) async fn rig() -> Rig {
    let mut rig = World::new().start().await;
    let created = rig.administer(&wanted("faces")).await.unwrap();
    rig.dataset = Some(created);
    rig
}

impl Rig {
    pub(crate) fn dataset(&self) -> &DatasetCreated {
        self.dataset.as_ref().unwrap()
    }

    pub(crate) async fn restart(self) -> Self {
        self.service.close().await;
        drop(self.service);
        let mut rig = self.world.start().await;
        rig.dataset = self.dataset;
        rig
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// A connection whose exporter values are made of this byte.
    pub(crate) fn connect(&self, byte: u8) -> Arc<Connection> {
        self.service
            .connected([byte; 32], [byte ^ 0xff; 32], Some([10, 0, 0, 1].into()))
    }

    pub(crate) async fn exchange(&self, connection: &Arc<Connection>, request: Vec<u8>) -> Answer {
        Answer::parse(
            &self
                .service
                .exchange(connection, Bytes::from(request))
                .await,
        )
        .unwrap()
    }

    /// A statement that two managers sign, the owners of the test's datasets.
    pub(crate) fn statement<B: ActBody>(&self, body: &B) -> Vec<u8> {
        self.statement_by(body, &[&manager(0), &manager(1)])
    }

    pub(crate) fn statement_by<B: ActBody>(&self, body: &B, signers: &[&AdminSecret]) -> Vec<u8> {
        let id = StatementId::random(&mut rng());
        Payload::act(id, REALM, self.world.server(), self.now(), 600, body)
            .sign(signers)
            .unwrap()
    }

    pub(crate) async fn administer_by<B: ActBody>(
        &self,
        body: &B,
        signers: &[&AdminSecret],
    ) -> Result<B::Result, RefusalNotice> {
        let (result, _) = self
            .send_statement(&self.statement_by(body, signers))
            .await?;
        Ok(B::Result::from_cbor(&result, limits::MESSAGE).unwrap())
    }

    pub(crate) async fn send_statement(
        &self,
        statement: &[u8],
    ) -> Result<(Vec<u8>, Receipt), RefusalNotice> {
        let request = Request::encode_parts(Verb::Administer, statement, &[]);
        match self.exchange(&self.connect(200), request).await {
            Answer::Done { body, .. } => {
                let answer = AdministerAnswer::from_cbor(&body, limits::MESSAGE).unwrap();
                Ok((answer.result, answer.receipt))
            }
            Answer::Refused(notice) => Err(notice),
        }
    }

    pub(crate) async fn administer<B: ActBody>(
        &self,
        body: &B,
    ) -> Result<B::Result, RefusalNotice> {
        let (result, _) = self.send_statement(&self.statement(body)).await?;
        Ok(B::Result::from_cbor(&result, limits::MESSAGE).unwrap())
    }

    /// Denies, as the broker's feed would.
    pub(crate) async fn deny(&self, selector: Selector) {
        let news = self.news(selector);
        self.service
            .apply(news, self.world.clock.monotonic())
            .await
            .unwrap();
    }

    pub(crate) fn news(&self, selector: Selector) -> News {
        let permit = self.service.state.gate.permit();
        let (number, chain) = (permit.epoch().number(), permit.epoch().chain());
        let denial = Denial::new(
            selector,
            "test".into(),
            StatementDigest([0; 32]),
            self.now(),
            "test".into(),
        );
        let bytes = denial.to_cbor();
        let epoch = number + 1;
        News {
            after: (number, chain),
            epoch,
            chain: chain_next(chain, denial.forget, &bytes),
            epochs: vec![Received {
                epoch,
                happened: Happened::Denied {
                    denial: Box::new(denial),
                    bytes,
                },
            }],
            now: self.now(),
            admin_set: 1,
            whole: true,
        }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        let records = self.log.read(0).map(Result::unwrap);
        records
            .map(|record| Entry::from_cbor(&record.entry, limits::ENTRY).unwrap())
            .collect()
    }
}

pub(crate) fn named(name: &str) -> Context {
    Context::named(name).unwrap()
}

pub(crate) fn pairs(pairs: &[(&str, &str)]) -> Context {
    Context::new(
        pairs
            .iter()
            .map(|(key, value)| (String::from(*key), String::from(*value)))
            .collect(),
    )
    .unwrap()
}

/// The number of a refusal, for short assertions.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, RefusalNotice>) -> Refusal {
    result.unwrap_err().refusal
}

/// Another connection's channel.
pub(crate) fn other_channel(channel: &Channel) -> Channel {
    Channel {
        exporter: Exporter([0xee; 32]),
        ..channel.clone()
    }
}

/// The index that a receipt's proof names.
pub(crate) fn place(receipt: &Receipt) -> u64 {
    let proof: Proof = receipt.proof.parse().unwrap();
    proof.index
}
