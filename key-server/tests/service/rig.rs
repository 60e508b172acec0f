//! A whole key server in one process: real store, log, vault and policies; the test holds the clock,
//! the broker's keys and the connections' exporter values.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use audit_log::AuditLog;
use bytes::Bytes;
use getrandom::SysRng;
use key_server::clock::Clock;
use key_server::feed::{News, Received};
use key_server::service::{Identity, Parts, Service, StartError};
use key_server::state::Connection;
use rand_core::UnwrapErr;
use store::sealed::RootKey;
use store::{Options, RedbStore};
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::{Denial, Selector, chain_next};
use ticket_format::entry::Entry;
use ticket_format::ids::{StatementDigest, StatementId};
use ticket_format::keys::{AdminSecret, ServerSecret, TicketSecret, TlsKey, TlsSecret};
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::messages::{Answer, Receipt, RefusalNotice, Request, Verb};
use ticket_format::seal::Kem;
use ticket_format::sign::{Channel, Exporter};
use ticket_format::statement::{ActBody, DatasetCreate, DatasetCreated, Payload};
use ticket_format::time::Timestamp;
use ticket_format::{Context, Refusal, limits};

use crate::cut_off::{CutOff, CutOffStore};

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

type Hook = (u64, Box<dyn FnOnce() + Send>);

/// Stands still unless told otherwise; can do something between two readings.
#[derive(Default)]
pub(crate) struct TestClock {
    seconds: AtomicU64,
    millis: AtomicU64,
    hook: Mutex<Option<Hook>>,
    monotonic_hook: Mutex<Option<Hook>>,
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
fn read(hook: &Mutex<Option<Hook>>) {
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

/// What outlives a restart.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) broker: TicketSecret,
    pub(crate) admin: AdminSecret,
    tls: TlsSecret,
    /// What the next commit answers, though it is kept.
    pub(crate) cut_off: CutOff,
    pub(crate) signing: ServerSecret,
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
            admin: AdminSecret::generate(rng),
            tls: TlsSecret::generate(rng),
            cut_off: CutOff::default(),
            signing: ServerSecret::generate(rng),
        }
    }

    pub(crate) fn server(&self) -> TlsKey {
        self.tls.public()
    }

    pub(crate) async fn try_start(&self) -> Result<(Arc<Service>, AuditLog), StartError> {
        let path = self.dir.path();
        let store = RedbStore::open(path.join("store.redb"), Options::default()).unwrap();
        let (log, _) =
            AuditLog::open(path.join("audit.log"), &audit_log::Options::default()).unwrap();
        let identity = Identity {
            realm: REALM.into(),
            tls_key: self.tls.public(),
            signing: ServerSecret::from_seed(&self.signing.seed()),
            ticket_key: self.broker.public(),
            admins: vec![self.admin.public()],
        };
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let root = RootKey::from_credential(&[7; 32]).unwrap();
        let lease = Duration::from_secs(5);
        let parts = Parts {
            identity,
            root,
            store: Arc::new(CutOffStore(store.clone(), self.cut_off.clone())),
            log: log.clone(),
            clock,
            lease,
        };
        let started = Service::start(parts).await;
        if started.is_err() {
            // What is not closed keeps its lock for a while.
            store::Store::close(&store).await;
            log.close().await;
        }
        Ok((started?, log))
    }

    /// Starts, with a lease.
    pub(crate) async fn start(self) -> Rig {
        let (service, log) = self.try_start().await.unwrap();
        service.state.lease.extend(self.clock.monotonic());
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

/// What an admin wants of the test's dataset.
pub(crate) fn wanted(name: &str) -> DatasetCreate {
    DatasetCreate {
        name: name.into(),
        tags: BTreeMap::new(),
        policy: POLICY.into(),
        producers: Vec::new(),
        kems: vec![Kem::XWing],
        max_budget: 10_000,
        max_life: 7_200,
    }
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

    pub(crate) fn statement<B: ActBody>(&self, body: &B) -> Vec<u8> {
        let id = StatementId::random(&mut rng());
        Payload::act(id, REALM, self.world.server(), self.now(), 600, body)
            .sign(&[&self.world.admin])
            .unwrap()
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
        let denial = Denial::new(
            selector,
            "test".into(),
            StatementDigest([0; 32]),
            self.now(),
        );
        let bytes = denial.to_cbor();
        let (epoch, chain) = (
            permit.epoch().number() + 1,
            chain_next(permit.epoch().chain(), &bytes),
        );
        News {
            epoch,
            chain,
            snapshot: false,
            denials: vec![Received {
                epoch,
                denial,
                bytes,
            }],
            now: self.now(),
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
