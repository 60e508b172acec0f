//! A key server's service in this process, behind its real transport; and the same without its log.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use audit_log::guard::Shards;
use audit_log::{AuditLog, Options, SideFile, SideOptions};
use client::link::{Link, Server};
use ed25519_dalek::SigningKey;
use key_server::batch;
use key_server::clock::Clock as _;
use key_server::habit::BurstLimits;
use key_server::net::SystemClock;
use key_server::refused::Refused;
use key_server::sealed::Opened;
use key_server::service::{Identity, Parts, Service};
use key_server::state::{Connection, Moment};
use store::RedbStore;
use store::hooks::Hook;
use store::root::{Holders, Means, Place, RootDir};
use ticket_format::cbor::Encode as _;
use ticket_format::ids::ActId;
use ticket_format::iid::RegionKeys;
use ticket_format::keys::{ServerSecret, TicketSecret, TlsSecret};
use ticket_format::messages::{Receipt, RequestView, Verb};
use ticket_format::report::{Report, exit};
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::statement::{
    Canary, DatasetCreate, DatasetCreated, KekRotate, Role, ShareHolder, Witnessing,
};
use ticket_format::tlog::{LogSecret, Origin};
use tokio::sync::{Semaphore, oneshot};
use transport::{Bytes, ExporterUse, Handler, Peer, ServerIdentity, ServerLimits};

use crate::admins::{self, Admins};
use crate::floor::{self, GroupCommit};
use crate::realm::{DATASET, POLICY, rng};
use crate::servers::REALM;

/// As the service has it: larger requests are decided on a thread of their own.
const HEAVY: usize = 16 * 1024;
/// As the service has it: patience with the side file.
const SIDE: Duration = Duration::from_millis(250);
/// The longest there is: nobody feeds this key server.
const LEASE: u64 = 300;

/// How redemptions are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// By the service.
    Logged = 0,
    /// Without an append.
    Unlogged = 1,
    /// With a bare append.
    Bare = 2,
}

/// The key server, its dataset and whose tickets it takes.
pub(crate) struct KeyServer {
    door: Arc<Door>,
    /// Where it listens.
    pub(crate) server: Server,
    /// Its dataset.
    pub(crate) dataset: DatasetCreated,
    /// Signs tickets for it.
    pub(crate) ticket: TicketSecret,
    /// The broker's log, of which it wants receipts.
    pub(crate) broker_log: AuditLog,
    admins: Admins,
    _stop: oneshot::Sender<()>,
}

struct Door {
    service: Arc<Service>,
    side: SideFile,
    bare: GroupCommit,
    heavy: Arc<Semaphore>,
    how: AtomicU8,
}

fn failed(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Report {
    move |error| Report::new(exit::LOCAL, what).why(error)
}

/// A log in a new directory.
pub(crate) fn open_log(path: &Path, role: Role, server: &TlsSecret) -> Result<AuditLog, Report> {
    let failed = failed("cannot open a log");
    let origin = Origin::new(REALM, role, &server.public());
    let secret = LogSecret::from_seeds(origin, &[1; 32], &[2; 32]);
    let secret = secret.map_err(|error| failed(&error))?;
    let options = Options::default();
    let clock = options.clock.clone();
    let options = Options {
        shard_entries: Some(Arc::new(Shards { clock })),
        ..options
    };
    let opened = AuditLog::open(path, secret, &options);
    opened.map(|(log, _)| log).map_err(|error| failed(&error))
}

fn moment() -> Moment {
    Moment {
        now: SystemClock.now(),
        monotonic: SystemClock.monotonic(),
    }
}

impl KeyServer {
    /// Starts it, its files in this directory, and makes the dataset.
    pub(crate) async fn start(dir: &Path) -> Result<Self, Report> {
        let (admins, tls) = (Admins::new()?, TlsSecret::generate(&mut rng()));
        let (broker, ticket) = (
            TlsSecret::generate(&mut rng()),
            TicketSecret::generate(&mut rng()),
        );
        let broker_log = open_log(&dir.join("broker"), Role::Broker, &broker)?;
        let opens = failed("cannot open a file of a key server");
        let store = RedbStore::open(dir.join("store.redb"), store::Options::default());
        let side = SideFile::open(dir.join("audit.side"), &SideOptions::default());
        let (side, _) = side.map_err(|error| opens(&error))?;
        let credential = dir.join("root-credential");
        store::files::create_private(&credential, &[7; 32]).map_err(|error| opens(&error))?;
        let means = Means::Credential(credential);
        let place = Place {
            realm: REALM.to_owned(),
            server: tls.public(),
        };
        let holder = ShareHolder {
            name: "nobody".to_owned(),
            key: SealingSecret::generate(Kem::XWing, &mut rng()).public(),
        };
        let holders = Holders::new(1, vec![holder]).map_err(|error| opens(&error))?;
        let made = RootDir::at(dir).create(&place, &means, &holders, &mut rng());
        let (ways, root) = made.map_err(|error| opens(&error))?;
        let parts = Parts {
            identity: Identity {
                realm: REALM.to_owned(),
                tls_key: tls.public(),
                signing: ServerSecret::generate(&mut rng()),
                ticket_key: ticket.public(),
                broker: broker.public(),
                broker_log: broker_log.key().clone(),
                regions: RegionKeys::built_in(),
                admin_set: admins.first().to_vec(),
            },
            root,
            ways,
            means,
            opened: Opened::Automatic,
            store: Arc::new(store.map_err(|error| opens(&error))?),
            log: open_log(&dir.join("audit"), Role::KeyServer, &tls)?,
            witnesses: Vec::new(),
            side: side.clone(),
            clock: Arc::new(SystemClock),
            hook: Hook::none(),
            bursts: BurstLimits::default(),
            inventory: dir.join("inventory.redb"),
            data: dir.to_owned(),
        };
        let service = Service::start(parts).await;
        let service = service.map_err(|error| failed("a key server does not start")(&error))?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let door = Arc::new(Door {
            service,
            side,
            bare: GroupCommit::create(&dir.join("bare")).map_err(|error| opens(&error))?,
            heavy: Arc::new(Semaphore::new(cores)),
            how: AtomicU8::new(How::Logged as u8),
        });
        let (server, stop) = listen(Arc::clone(&door), &tls)?;
        let link = connect(&server).await?;
        let create = admins.act(&server, &wanted(&admins))?;
        let dataset = admins::send::<DatasetCreate>(&link, &create).await?;
        link.close().await;
        Ok(Self {
            door,
            server,
            dataset,
            ticket,
            broker_log,
            admins,
            _stop: stop,
        })
    }

    /// Answers redemptions so from now on, with a lease for as long as there is one.
    pub(crate) fn answers(&self, how: How) {
        let lease = &self.door.service.state.lease;
        lease.heard(SystemClock.monotonic());
        self.door.how.store(how as u8, Ordering::Release);
    }

    /// The service.
    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.door.service
    }

    /// Has its owners rotate the dataset's KEK.
    pub(crate) async fn rotate(&self) -> Result<(), Report> {
        let link = self.connect().await?;
        let current = self.service().state.vault.current(self.dataset.dataset);
        let current = current.map_err(|error| failed("there is no KEK")(&error))?;
        let rotate = KekRotate {
            name: DATASET.to_owned(),
            replaces: current.id,
        };
        let statement = self.admins.act(&self.server, &rotate)?;
        admins::send::<KekRotate>(&link, &statement).await?;
        link.close().await;
        Ok(())
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Link, Report> {
        connect(&self.server).await
    }
}

async fn connect(server: &Server) -> Result<Link, Report> {
    let socket = floor::socket(Ipv4Addr::LOCALHOST)?;
    let address = server.addresses.first().and_then(|at| at.parse().ok());
    let address = address.ok_or_else(|| Report::new(exit::LOCAL, "a server has no address"))?;
    let connection = floor::connect(&socket, address, server.tls_key.to_bytes()).await?;
    Link::over(server, connection).map_err(|error| error.report())
}

fn wanted(admins: &Admins) -> DatasetCreate {
    DatasetCreate {
        rotation: Default::default(),
        class: Default::default(),
        exportable: false,
        name: DATASET.to_owned(),
        tags: Default::default(),
        policy: POLICY.to_owned(),
        producers: Vec::new(),
        kems: vec![Kem::XWing],
        max_budget: u64::MAX,
        max_life: 24 * 3_600,
        owners: admins.owners(),
        lease: LEASE,
        evidence: false,
        canary: Canary::No,
        witnessing: Witnessing::none(),
    }
}

fn listen(door: Arc<Door>, tls: &TlsSecret) -> Result<(Server, oneshot::Sender<()>), Report> {
    let failed = failed("cannot start a key server in this process");
    let identity = ServerIdentity::new(&SigningKey::from_bytes(&tls.seed()));
    let identity = identity.map_err(|error| failed(&error))?;
    let limits = ServerLimits {
        new_connections_per_second: NonZeroU32::MAX,
        new_connections_burst: NonZeroU32::MAX,
        // Connections are opened before the round in which they are first used.
        first_exchange_timeout: Duration::from_secs(24 * 3_600),
        ..ServerLimits::default()
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listening = transport::Server::bind(address, &identity, limits);
    let listening = listening.map_err(|error| failed(&error))?;
    let server = Server {
        word: "key server",
        realm: REALM.to_owned(),
        addresses: vec![listening.local_addr().to_string()],
        tls_key: tls.public(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        // Ends when the sender is dropped; one that failed shows at its callers.
        let _ = listening.run(door, async { drop(stopped.await) }).await;
    });
    Ok((server, stop))
}

impl Handler for Door {
    type Connection = Option<Arc<Connection>>;

    fn connected(&self, peer: Peer) -> Self::Connection {
        let authenticator = peer.exporter(ExporterUse::Authenticator).ok()?;
        let hpke = peer.exporter(ExporterUse::Hpke).ok()?;
        let source = Some(peer.address().ip());
        Some(self.service.connected(authenticator, hpke, source))
    }

    async fn exchange(&self, connection: &Self::Connection, message: Bytes) -> Bytes {
        // An empty answer is an error at the caller.
        let Some(connection) = connection else {
            return Bytes::new();
        };
        let redeems =
            RequestView::parse(&message).is_ok_and(|request| request.verb == Verb::Redeem);
        let how = self.how.load(Ordering::Acquire);
        if !redeems || how == How::Logged as u8 {
            return self.service.exchange(connection, message).await;
        }
        let answered = self.unlogged(connection, message, how == How::Bare as u8);
        answered.await.map(Bytes::from).unwrap_or_default()
    }
}

impl Door {
    /// A redemption as the service answers it, without its log.
    async fn unlogged(
        &self,
        connection: &Arc<Connection>,
        message: Bytes,
        bare: bool,
    ) -> Result<Vec<u8>, Refused> {
        let proven = {
            let request = RequestView::parse(&message)?;
            batch::prove(connection, &request)?
        };
        let (decided, entry, written) = if message.len() < HEAVY {
            decide(&self.service, &self.side, connection, &message, proven)?
        } else {
            let turn = Arc::clone(&self.heavy).acquire_owned().await;
            let (service, side) = (Arc::clone(&self.service), self.side.clone());
            let connection = Arc::clone(connection);
            let task = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                decide(&service, &side, &connection, &message, proven)
            });
            task.await
                .map_err(|_| Refused::Internal("a decision did not finish"))??
        };
        if bare {
            let appended = self.bare.append(entry).await;
            appended.map_err(|_| Refused::Internal("a bare append failed"))?;
        }
        let _ = written.wait(SIDE).await;
        let state = &self.service.state;
        let permit = state.gate.permit();
        // In the place of a receipt as little as its shape has room for.
        let nothing = Receipt {
            entry: vec![0],
            proof: "-".to_owned(),
        };
        decided.release(state, moment(), &permit, nothing, &mut rng())
    }
}

type Decision = (batch::Decided, Vec<u8>, audit_log::Written);

/// What the service does before it appends, with the entry's bytes.
fn decide(
    service: &Service,
    side: &SideFile,
    connection: &Connection,
    message: &[u8],
    proven: batch::Proven,
) -> Result<Decision, Refused> {
    let request = RequestView::parse(message)?;
    let (state, moment, permit) = (&service.state, moment(), service.state.gate.permit());
    let identified = proven.identify(&request)?;
    let act = ActId::random(&mut rng());
    let entry = identified.entry(state, connection, act, moment, &permit);
    let decided = batch::decide(state, connection, &identified, moment, &permit, &mut rng())?;
    let entry = decided.complete(entry);
    let contexts = decided.contexts(&identified, |digests| side.missing(digests));
    Ok((decided, entry.to_cbor(), side.put_all(contexts)))
}
