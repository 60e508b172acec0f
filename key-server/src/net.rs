//! Sockets, clocks, files: what the service runs in.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use audit_log::guard::WitnessSection;
use audit_log::witness::{self, ServeLimits, Submitter, Witness};
use audit_log::{AuditLog, SideFile, SideOptions};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use store::hooks::{Hook, HookLimits};
use store::root::Ways;
use store::sealed::RootKey;
use store::{RedbStore, files};
use ticket_format::Refusal;
use ticket_format::messages::{Answer, RefusalNotice};
use ticket_format::report::{Report, exit};
use ticket_format::time::Timestamp;
use ticket_format::tlog::WitnessSecret;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use transport::{
    ExporterUse, Handler, Peer, ServerIdentity, ServerLimits, Standing, StrangerLimits,
};

use crate::clock::Clock;
use crate::config::{INVENTORY, LOG_DIR, Secrets, Setup, WITNESS_DIR};
use crate::follower::{self, Broker};
use crate::metrics::Metrics;
use crate::sealed::{Opened, Sealed, serve};
use crate::service::{self, Identity, Parts, Service, StartError};
use crate::state::Connection;

/// How long what was under way when the server was sealed may hold its keys.
const FORGET: Duration = Duration::from_secs(10);

/// The clocks of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::from_seconds(since.map_or(0, |since| since.as_secs()))
    }

    /// Runs on while the machine is suspended: a lease does not outlive a sleep.
    fn monotonic(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(
            time.tv_sec.unsigned_abs(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        )
    }
}

/// The service behind the transport's door.
struct Door(Arc<Service>);

impl Handler for Door {
    /// No connection: TLS gave no exporter value, so nothing can be proven on it.
    type Connection = (Peer, Option<Arc<Connection>>);

    fn connected(&self, peer: Peer) -> Self::Connection {
        let exporters = (
            peer.exporter(ExporterUse::Authenticator),
            peer.exporter(ExporterUse::Hpke),
        );
        let connection = match exporters {
            (Ok(authenticator), Ok(hpke)) => Some(self.0.connected(
                authenticator,
                hpke,
                Some(peer.address().ip()),
            )),
            _ => {
                peer.close();
                None
            }
        };
        (peer, connection)
    }

    async fn exchange(&self, (peer, connection): &Self::Connection, message: Bytes) -> Bytes {
        match connection {
            Some(connection) => {
                let gone = peer.closed();
                let answer = self.0.exchange_until(connection, message, gone).await;
                // rule: TR-8 — who has presented a ticket here has proven that it is his.
                if peer.is_stranger() && !connection.is_empty() {
                    peer.stands(Standing::Known);
                }
                answer
            }
            None => Bytes::from(Answer::from(RefusalNotice::bare(Refusal::Internal)).to_bytes()),
        }
    }
}

/// Runs the server until it is asked to stop: sealed while it has no root key, open when it has.
///
/// # Errors
/// [`Report`]: why it did not start, or stopped by itself.
pub async fn run(setup: Setup, ready_file: Option<&Path>) -> Result<(), Report> {
    store::harden::process();
    let stop = asked_to_stop().map_err(|e| failed("signals cannot be heard")(&e))?;
    let (stopping, mut stop_asked) = watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        stopping.send_replace(true);
    });
    let (mut listen, mut by_admin) = (setup.config.listen, false);
    loop {
        let ground = Ground::open(&setup).await?;
        let (root, opened) = match ground.automatic(&setup, by_admin).await? {
            Ok(root) => (root, Opened::Automatic),
            Err(wrong) => {
                let place = (listen, ready_file);
                let shares = sealed(&setup, &ground, &wrong, place, &mut stop_asked).await?;
                let Some((root, opened, address)) = shares else {
                    ground.close().await;
                    return Ok(());
                };
                listen = address;
                (root, opened)
            }
        };
        let place = (listen, ready_file);
        match open(&setup, ground, (root, opened), place, &mut stop_asked).await? {
            Ended::Stopped => return Ok(()),
            Ended::Sealed(address) => (listen, by_admin) = (address, true),
        }
    }
}

/// How an open server ended.
enum Ended {
    /// It was asked to stop.
    Stopped,
    /// An admin sealed it; it listened here.
    Sealed(SocketAddr),
}

fn failed(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Report {
    move |error: &dyn std::fmt::Display| Report::new(exit::LOCAL, what).why(error)
}

fn configuration(error: &dyn std::fmt::Display) -> Report {
    Report::new(exit::CONFIG, "the key server cannot start")
        .why(error)
        .next("mend what is named, or put back an undamaged copy of it")
}

/// What a server stands on, sealed or open. The store's lock is the data directory's: it is held before
/// anything else there is touched.
struct Ground {
    store: Arc<RedbStore>,
    ways: Ways,
}

impl Ground {
    async fn open(setup: &Setup) -> Result<Self, Report> {
        let (data, roots) = (setup.data_dir(), setup.root_dir());
        files::private_dir(&data).map_err(|e| configuration(&e))?;
        let opened = tokio::task::spawn_blocking(move || {
            RedbStore::open(data.join("store.redb"), store::Options::default())
        });
        let opened = opened.await.map_err(|e| configuration(&e))?;
        let wrong = |error: &dyn std::fmt::Display| {
            configuration(error).next("stop the other process, or look after the file")
        };
        let store = Arc::new(opened.map_err(|e| wrong(&e))?);
        match service::root_ways(&*store, roots).await {
            Ok(ways) => Ok(Self { store, ways }),
            Err(error) => {
                store::Store::close(&*store).await;
                Err(wrong(&error))
            }
        }
    }

    /// The root key by the automatic way, or why it does not open.
    async fn automatic(
        &self,
        setup: &Setup,
        by_admin: bool,
    ) -> Result<Result<RootKey, String>, Report> {
        // rule: ROOT-5
        if by_admin {
            return Ok(Err("an admin sealed it".to_owned()));
        }
        let (ways, means) = (self.ways.clone(), setup.means.clone());
        let opened = tokio::task::spawn_blocking(move || ways.open_auto(&means));
        // A token that hangs is what shares are for.
        let Ok(opened) = tokio::time::timeout(service::AUTOMATIC, opened).await else {
            return Ok(Err(
                "the automatic way has not answered in a minute".to_owned()
            ));
        };
        let opened = opened.map_err(|e| configuration(&e))?;
        Ok(opened.map_err(|error| error.to_string()))
    }

    async fn close(self) {
        store::Store::close(&*self.store).await;
    }
}

/// Is sealed until shares open the root key; none: it was asked to stop.
async fn sealed(
    setup: &Setup,
    ground: &Ground,
    wrong: &str,
    (listen, ready_file): (SocketAddr, Option<&Path>),
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<(RootKey, Opened, SocketAddr)>, Report> {
    let door = setup.door().map_err(|e| configuration(&e))?;
    let now = SystemClock.now();
    let configured = setup.admin_set(now).map_err(|e| configuration(&e))?;
    let realm = &setup.config.realm;
    let admins = service::admins(&*ground.store, &configured, realm, now).await;
    let admins = admins.map_err(|e| configuration(&e))?;
    let identity = ServerIdentity::new(&ed25519_dalek::SigningKey::from_bytes(&door.seed()))
        .map_err(|e| configuration(&e))?;
    let server = serve::bind(listen, &identity, &limits(setup)).await;
    let server = server.map_err(|e| failed("cannot listen")(&e))?;
    let address = server.local_addr();
    let metrics = match setup.config.metrics_listen {
        Some(listen) => Some(
            TcpListener::bind(listen)
                .await
                .map_err(|e| failed("cannot listen for metrics")(&e))?,
        ),
        None => None,
    };
    let sealed = Arc::new(Sealed::new(
        realm,
        door.public(),
        admins.current(),
        ground.ways.clone(),
        wrong,
        SystemClock.monotonic(),
        &mut UnwrapErr(SysRng),
    ));
    announce(setup, address, ready_file, true)?;
    tracing::warn!(%address, door = %door.public(), why = wrong, threshold = ground.ways.threshold(), "sealed: shares open it");
    let stopped = async {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let served = serve::serve(server, &sealed, Arc::new(SystemClock), metrics, stopped).await;
    served.map_err(|e| failed("the server stopped")(&e))?;
    Ok(sealed.opened().map(|(root, opened)| {
        tracing::info!("shares opened the root key");
        (root, opened, address)
    }))
}

/// Serves with the root key, until it is asked to stop or sealed.
async fn open(
    setup: &Setup,
    ground: Ground,
    (root, opened): (RootKey, Opened),
    (listen, ready_file): (SocketAddr, Option<&Path>),
    stop: &mut watch::Receiver<bool>,
) -> Result<Ended, Report> {
    let Started {
        service,
        identity,
        submitter,
        witness,
    } = start(setup, ground, root, opened).await?;
    let limits = limits(setup);
    service.hold_at_most(limits.exchanges / 2);
    let server = serve::bind(listen, &identity, &limits).await;
    let server = server.map_err(|e| failed("cannot listen")(&e))?;
    let address = server.local_addr();
    let registry = Arc::new(Metrics::register(&service, server.metrics()));

    // Taken away when the server ends: a connection that asks for nothing must not keep keys in memory.
    let shown: Shown = Arc::new(RwLock::new(Some((Arc::clone(&service), registry))));
    let mut tasks = JoinSet::new();
    let broker = Broker {
        addresses: setup.broker.addresses.clone(),
        tls_key: setup.broker.tls_key,
        feed_key: setup.broker.feed_key,
    };
    tasks.spawn(follower::run(Arc::clone(&service), broker));
    tasks.spawn(each_minute(Arc::clone(&service)));
    tasks.spawn(Arc::clone(&service).follow_witnesses(submitter.status()));
    if let Some((listener, witness)) = witness {
        tasks.spawn(async move {
            let (clock, limits) = (witness::system_clock(), ServeLimits::default());
            let served =
                witness::serve(listener, witness, clock, limits, std::future::pending()).await;
            if let Err(error) = served {
                tracing::error!(%error, "others' logs are not witnessed any more");
            }
        });
    }
    if let Some(listen) = setup.config.metrics_listen {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|e| failed("cannot listen for metrics")(&e))?;
        let router = router(Arc::clone(&shown));
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "metrics are not served any more");
            }
        });
    }
    announce(setup, address, ready_file, false)?;
    tracing::info!(%address, server = %service.state.tls_key, realm = service.state.realm, "listening");
    let mut by_admin = false;
    let over = async {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = service.sealed() => by_admin = true,
        }
        service.stop();
    };
    let stopped = server.run(Arc::new(Door(Arc::clone(&service))), over).await;
    tasks.shutdown().await;
    drop(submitter);
    // rule: ROOT-5
    drop(shown.write().unwrap_or_else(PoisonError::into_inner).take());
    service.close().await;
    let stopped = stopped.map_err(|e| failed("the server stopped")(&e))?;
    if !by_admin {
        tracing::info!(unfinished = stopped.unfinished, "stopped");
        return Ok(Ended::Stopped);
    }
    forget(service).await?;
    tracing::warn!("an admin sealed the server");
    Ok(Ended::Sealed(address))
}

/// Waits until nothing uses the service any more, so that its keys are erased.
async fn forget(service: Arc<Service>) -> Result<(), Report> {
    // rule: ROOT-5
    let patience = tokio::time::Instant::now() + FORGET;
    let mut service = service;
    loop {
        service = match Arc::try_unwrap(service) {
            Ok(service) => {
                drop(service);
                return Ok(());
            }
            Err(service) => service,
        };
        if tokio::time::Instant::now() >= patience {
            // The end of the process erases what something holds on to.
            return Err(Report::new(exit::LOCAL, "the server was sealed, and ends")
                .why("something still held the keys")
                .next("start it again: it tries the automatic way then"));
        }
        // What is under way on threads of its own ends by itself.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn start(
    setup: &Setup,
    ground: Ground,
    root: RootKey,
    how: Opened,
) -> Result<Started, Report> {
    let Ground { store, ways } = ground;
    let secrets = setup.secrets(&ways, &root);
    let secrets = secrets.map_err(|e| configuration(&e))?;
    let Secrets {
        tls,
        signing,
        log: log_secret,
        witness: witness_secret,
    } = secrets;
    let options = setup.config.log.options(witness::system_clock());
    let options = options.map_err(|e| configuration(&e))?;
    let witnesses = setup.config.log.witnesses();
    let witnesses = witnesses.map_err(|e| configuration(&e))?;
    let seed = tls.seed();
    let identity = ServerIdentity::new(&ed25519_dalek::SigningKey::from_bytes(&seed))
        .map_err(|e| configuration(&e))?;
    let admin_set = setup.admin_set(SystemClock.now());
    let admin_set = admin_set.map_err(|e| configuration(&e))?;
    let data = setup.data_dir();
    let opened = tokio::task::spawn_blocking(move || {
        let (log, torn) =
            AuditLog::open(data.join(LOG_DIR), log_secret, &options).map_err(|e| e.to_string())?;
        if let Some(torn) = torn {
            tracing::warn!(
                ?torn,
                "a crash left a torn tail of the audit log, which is cut"
            );
        }
        let (side, _) = SideFile::open(data.join("audit.side"), &SideOptions::default())
            .map_err(|e| e.to_string())?;
        Ok::<_, String>((log, side))
    });
    let opened = opened.await.map_err(|e| configuration(&e))?;
    let (log, side) = opened
        .map_err(|e| configuration(&e).next("stop the other process, or look after the file"))?;
    let hook = Hook::new(setup.config.hooks.alarm.clone(), HookLimits::default())
        .map_err(|e| configuration(&e))?;
    let identity_parts = Identity {
        realm: setup.config.realm.clone(),
        tls_key: tls.public(),
        signing,
        ticket_key: setup.broker.ticket_key,
        broker: setup.broker.tls_key,
        broker_log: setup.broker.log_key.clone(),
        regions: setup.regions().map_err(|e| configuration(&e))?,
        admin_set,
    };
    let parts = Parts {
        identity: identity_parts,
        root,
        ways,
        means: setup.means.clone(),
        opened: how,
        store,
        log: log.clone(),
        witnesses: witnesses.clone(),
        side,
        clock: Arc::new(SystemClock),
        hook,
        bursts: setup.config.alarms.bursts(),
        inventory: setup.data_dir().join(INVENTORY),
        data: setup.data_dir(),
    };
    let service = Service::start(parts).await.map_err(|error| match &error {
        StartError::Clock(_) => {
            configuration(&error).next("set the clock; if it is right, ask who restored what")
        }
        _ => configuration(&error),
    })?;
    // rule: TLOG-8
    let endpoints = witnesses.into_iter().map(|(_, endpoint)| endpoint);
    let submitter = Submitter::start(&log, endpoints.collect()).map_err(|e| configuration(&e))?;
    let witness = match &setup.config.witness {
        Some(section) => Some(open_witness(setup, section, witness_secret).await?),
        None => None,
    };
    Ok(Started {
        service,
        identity,
        submitter,
        witness,
    })
}

/// What runs.
struct Started {
    service: Arc<Service>,
    identity: ServerIdentity,
    submitter: Submitter,
    witness: Option<(TcpListener, Arc<Witness>)>,
}

/// Opens this server as a witness of others (TLOG-9).
async fn open_witness(
    setup: &Setup,
    section: &WitnessSection,
    secret: WitnessSecret,
) -> Result<(TcpListener, Arc<Witness>), Report> {
    let failed = |error: &dyn std::fmt::Display| {
        Report::new(exit::CONFIG, "the key server cannot be a witness").why(error)
    };
    let logs = section.log_keys().map_err(|e| failed(&e))?;
    let dir = setup.data_dir().join(WITNESS_DIR);
    let opened = tokio::task::spawn_blocking(move || Witness::open(&dir, secret, logs));
    let opened = opened.await.map_err(|e| failed(&e))?;
    let witness = opened.map_err(|e| failed(&e))?;
    let listener = TcpListener::bind(section.listen).await;
    let listener = listener.map_err(|e| failed(&e))?;
    if let Some(path) = &section.ready_file {
        let address = listener.local_addr().map_err(|e| failed(&e))?;
        let line = format!("{address}\n");
        let written = files::write_private(&setup.resolve(path), line.as_bytes());
        written.map_err(|e| failed(&e))?;
    }
    Ok((listener, Arc::new(witness)))
}

fn limits(setup: &Setup) -> ServerLimits {
    let (mut limits, wanted) = (ServerLimits::default(), &setup.config.limits);
    let set = |limit: &mut usize, wanted: Option<usize>| *limit = wanted.unwrap_or(*limit);
    // rule: TR-8
    limits.strangers = Some(StrangerLimits::default());
    set(&mut limits.connections, wanted.connections);
    set(
        &mut limits.connections_per_source,
        wanted.connections_per_source,
    );
    set(&mut limits.exchanges, wanted.exchanges);
    set(&mut limits.buffered_bytes, wanted.buffered_bytes);
    set(
        &mut limits.buffered_bytes_per_source,
        wanted.buffered_bytes_per_source,
    );
    limits
}

/// Says where the server listens, and whether it is sealed: on stdout, in the ready file, to systemd.
fn announce(
    setup: &Setup,
    address: SocketAddr,
    ready_file: Option<&Path>,
    sealed: bool,
) -> Result<(), Report> {
    // rule: ROOT-4
    let line = match sealed {
        true => format!("{address} sealed\n"),
        false => format!("{address}\n"),
    };
    let configured = setup
        .config
        .ready_file
        .as_deref()
        .map(|path| setup.resolve(path));
    for path in configured
        .iter()
        .map(std::path::PathBuf::as_path)
        .chain(ready_file)
    {
        let written = files::write_private(path, line.as_bytes());
        written.map_err(|error| {
            Report::new(exit::LOCAL, "the ready file cannot be written").why(error)
        })?;
    }
    let mut stdout = std::io::stdout().lock();
    // A closed stdout is nobody's concern: the ready file says the same.
    let how = if sealed { "sealed" } else { "listening" };
    let _ = writeln!(stdout, "{how} {address}").and_then(|()| stdout.flush());
    let status = sd_notify::NotifyState::Status(how);
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready, status]) {
        tracing::debug!(%error, "systemd was not told");
    }
    Ok(())
}

async fn each_minute(service: Arc<Service>) {
    let mut minutes = tokio::time::interval(Duration::from_secs(60));
    minutes.tick().await;
    loop {
        minutes.tick().await;
        service.each_minute().await;
    }
}

/// Completes at the first SIGTERM or SIGINT from now on, also before it is polled.
fn asked_to_stop() -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// What metrics and health are read from; nothing once the server ends.
type Shown = Arc<RwLock<Option<(Arc<Service>, Arc<prometheus_client::registry::Registry>)>>>;

fn router(shown: Shown) -> Router {
    let read = move || {
        let shown = shown.read().unwrap_or_else(PoisonError::into_inner);
        shown.clone()
    };
    let of_metrics = read.clone();
    let metrics = move || {
        let shown = of_metrics();
        async move {
            let Some((_, registry)) = shown else {
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            };
            let mut text = String::new();
            // Writing to a string fails only if a collector does.
            let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
            Ok((
                [(
                    CONTENT_TYPE,
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                )],
                text,
            ))
        }
    };
    let health = move || {
        let shown = read();
        async move {
            let Some((service, _)) = shown else {
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            };
            let permit = service.state.gate.permit();
            let lease = service.state.lease_left(service.clock().monotonic());
            let status = match service.state.standing.check() {
                Ok(()) => StatusCode::OK,
                // rule: TLOG-10
                Err(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            let health = Json(serde_json::json!({
                "v": 1,
                "sealed": false,
                "lease_ms": u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
                "epoch": permit.epoch().number(),
                "datasets": service.state.datasets.len(),
                "entries": service.entries(),
                "log": service.state.standing.state().name(),
                "broker_log_forked": service.state.broker_log.is_forked(),
                "now": service.clock().now().to_string(),
            }));
            Ok((status, health))
        }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
}
