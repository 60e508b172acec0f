//! The broker, the admins and the node of the vectors, with their keys: what the targets' requests are sent to.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use broker::admins::Admins;
use broker::login;
use broker::realm::{Caller, Realm};
use broker::state::{DatasetEntry, FeedHead, KeyRole, KeyUse, LaunchRecord, NodeRecord, keys};
use broker::tickets::{KeyKeeper, TicketRing};
use policy::Policy;
use ticket_format::cbor::Decode;
use ticket_format::ids::{StatementDigest, Thumbprint};
use ticket_format::iid::RegionKeys;
use ticket_format::keys::{
    AdminSecret, FeedSecret, LaunchSecret, NodeSecret, ProofSecret, ServerSecret, TicketKey,
    TicketSecret, TlsSecret,
};
use ticket_format::limits;
use ticket_format::messages::{Request, RequestView};
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::secret::{PairsKey, SealingSeed};
use ticket_format::sign::{Channel, Exporter};
use ticket_format::statement::{AdminSet, ReceivedStatement, Role as LogOf};
use ticket_format::ticket::TicketSigner;
use ticket_format::time::Timestamp;
use ticket_format::tlog::{LogSecret, Origin};

use crate::rng::Chance;
use crate::vectors;

/// The seed of a key of `world.json`.
fn seed(name: &str) -> [u8; 32] {
    vectors::array("world", &format!("{name}.seed"))
}

/// A realm of one broker, as the vectors have it.
#[derive(Debug)]
pub struct World {
    /// The broker.
    pub realm: Realm,
    /// The connection that everything comes on.
    pub caller: Caller,
    /// The time.
    pub now: Timestamp,
    /// The first admin set.
    pub set: Arc<AdminSet>,
    /// The launch of the vectors' node, with nothing used of it.
    pub launch: LaunchRecord,
    /// The node as its login leaves it.
    pub node: NodeRecord,
    /// The dataset as the broker knows it.
    pub dataset: DatasetEntry,
    /// The broker's policy: everything.
    pub policy: Policy,
    /// The node's keys, and the job's.
    pub keys: Keys,
}

/// Everybody's keys.
#[derive(Debug)]
#[allow(missing_docs)] // by the names that world.json has
pub struct Keys {
    pub broker_tls: TlsSecret,
    pub server_tls: TlsSecret,
    pub ticket: TicketSecret,
    pub feed: FeedSecret,
    pub server: ServerSecret,
    pub launch: LaunchSecret,
    pub node: NodeSecret,
    pub next_node: NodeSecret,
    pub node_proof: ProofSecret,
    pub job_proof: ProofSecret,
    pub job_sealing: SealingSecret,
    pub operator: AdminSecret,
    pub owner: AdminSecret,
    pub security: AdminSecret,
    pub broker_log: LogSecret,
    pub server_log: LogSecret,
}

impl Keys {
    fn read() -> Self {
        let tls = |name| TlsSecret::from_seed(&seed(name));
        let (broker_tls, server_tls) = (tls("broker_tls"), tls("server_tls"));
        let log = |of, tls: &TlsSecret, name: &str| {
            let origin = Origin::new(&vectors::text("world", "realm"), of, &tls.public());
            let half = |which: &str| vectors::array("world", &format!("{name}.{which}_seed"));
            LogSecret::from_seeds(origin, &half("ed25519"), &half("ml_dsa_44"))
                .expect("seeds of a log")
        };
        let sealing = SealingSeed::from_bytes(vectors::array("world", "job_sealing.seed"));
        let admin = |name: &str| AdminSecret::from_seed(&seed(&format!("admins.{name}")));
        Self {
            broker_log: log(LogOf::Broker, &broker_tls, "broker_log"),
            server_log: log(LogOf::KeyServer, &server_tls, "server_log"),
            broker_tls,
            server_tls,
            ticket: TicketSecret::from_seed(&seed("ticket")),
            feed: FeedSecret::from_seed(&seed("feed")),
            server: ServerSecret::from_seed(&seed("server_signing")),
            launch: LaunchSecret::from_seed(&seed("launch")),
            node: NodeSecret::from_seed(&seed("node")),
            next_node: NodeSecret::from_seed(&seed("next_node")),
            node_proof: ProofSecret::from_seed(&seed("node_proof")),
            job_proof: ProofSecret::from_seed(&seed("job_proof")),
            job_sealing: SealingSecret::from_seed(Kem::XWing, sealing),
            operator: admin("operator"),
            owner: admin("owner"),
            security: admin("security"),
        }
    }
}

/// Keeps nothing: no target makes a ticket key.
#[derive(Debug)]
struct NoKeeper;

impl KeyKeeper for NoKeeper {
    fn make(&self) -> Result<Arc<dyn TicketSigner>, String> {
        Err("no key is made here".to_owned())
    }

    fn erase(&self, _: &TicketKey, _: bool) -> Result<(), String> {
        Ok(())
    }
}

/// The world, made once.
pub fn world() -> &'static World {
    static WORLD: LazyLock<World> = LazyLock::new(World::new);
    &WORLD
}

impl World {
    fn new() -> Self {
        let keys = Keys::read();
        let name = vectors::text("world", "realm");
        // `world.json` has it as a number; the vectors begin in it.
        let now = Timestamp::from_seconds(1_771_202_607);
        let first = vectors::bytes("statement/admin-set-first", "statement");
        let admins = Admins::configured(&first, &name, now).expect("the first admin set");
        let set = admins.current();
        let ticket: Arc<dyn TicketSigner> = Arc::new(TicketSecret::from_seed(&keys.ticket.seed()));
        let realm = Realm {
            name,
            tls: keys.broker_tls.public(),
            tickets: TicketRing::new(Some(ticket), Vec::new(), Arc::new(NoKeeper))
                .expect("a ticket key"),
            feed: FeedSecret::from_seed(&keys.feed.seed()),
            pairs: PairsKey::from_bytes(vectors::array("world", "pairs_key")),
            others: Vec::new(),
            admins,
            regions: RegionKeys::built_in(),
            nobody: Realm::nobody(&mut Chance::new(1)),
        };
        let caller = Caller {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            exporter: Exporter(vectors::array("world", "exporter_authenticator")),
        };
        let launch = launch(now);
        let dataset = dataset(now);
        let policy = Policy::parse(&vectors::text("world", "policy")).expect("a policy");
        let node = logged_in(&realm, &caller, &launch, now);
        Self {
            realm,
            caller,
            now,
            set,
            launch,
            node,
            dataset,
            policy,
            keys,
        }
    }

    /// What proofs to the broker are bound to.
    #[must_use]
    pub fn to_broker(&self) -> Channel {
        self.realm.channel(&self.caller)
    }

    /// What proofs to the key server are bound to.
    #[must_use]
    pub fn to_server(&self) -> Channel {
        Channel {
            server: self.keys.server_tls.public(),
            ..self.to_broker()
        }
    }

    /// Who has a key, once the node has logged in.
    #[must_use]
    pub fn key_use(&self, key: Thumbprint) -> Option<KeyUse> {
        let keys = &self.keys;
        (key == keys.node.public().thumbprint()).then(|| KeyUse {
            role: KeyRole::Node,
            owner: self.node.attributes.node.to_string(),
        })
    }
}

/// The launch, as the broker keeps it.
fn launch(now: Timestamp) -> LaunchRecord {
    let statement = vectors::bytes("statement/launch-create", "statement");
    let received = ReceivedStatement::parse(&statement).expect("a statement");
    LaunchRecord {
        digest: StatementDigest::of(&statement),
        terms: received.body().expect("a launch"),
        statement,
        created: now,
        closed: None,
        used: 0,
    }
}

fn dataset(now: Timestamp) -> DatasetEntry {
    let statement = vectors::bytes("statement/dataset-record", "statement");
    let received = ReceivedStatement::parse(&statement).expect("a statement");
    DatasetEntry {
        digest: StatementDigest::of(&statement),
        record: received.body().expect("a dataset's record"),
        statement,
        recorded: now,
    }
}

/// The node's record that comes of the vectors' login.
fn logged_in(realm: &Realm, caller: &Caller, launch: &LaunchRecord, now: Timestamp) -> NodeRecord {
    let request = vectors::bytes("exchange/login", "request");
    let request = RequestView::parse(&request).expect("a request");
    let asked = login::parse(&request).expect("a login");
    let proven = login::authenticate(asked, Some(launch), realm, caller).expect("signatures");
    let login = login::identify(proven, realm).expect("an identity");
    let decision = login::decide(
        &login,
        fresh(launch),
        realm,
        caller,
        now,
        &mut Chance::new(2),
    );
    decision.result.expect("the vectors' login is let in");
    let name = keys::node(login.node());
    let record = decision.changes.puts.iter().find(|(key, _)| *key == name);
    let (_, record) = record.expect("a login leaves a node's record");
    NodeRecord::from_cbor(record, store::MAX_VALUE_BYTES).expect("a node's record")
}

/// A broker that has seen nobody yet.
#[must_use]
pub fn fresh(launch: &LaunchRecord) -> login::View {
    login::View {
        launch: launch.clone(),
        node: None,
        used_by_node: false,
        node_key: None,
        proof_key: None,
        head: FeedHead::START,
        denied: None,
    }
}

/// A vector's request, as its parts.
#[must_use]
pub fn request(file: &str) -> Request {
    let bytes = vectors::bytes(file, "request");
    assert!(bytes.len() <= limits::MESSAGE);
    RequestView::parse(&bytes)
        .expect("a vector's request")
        .to_owned()
}
