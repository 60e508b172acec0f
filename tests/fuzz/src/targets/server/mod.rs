//! The key server's handlers: a ticket presented, keys redeemed, made and wrapped anew, and what it believes of the
//! broker's feed. Its pure core, on one dataset with a vault of its own.

mod batch;
mod follow;
mod present;

pub use batch::BATCH;
pub use follow::FOLLOW;
pub use present::PRESENT;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use audit_log::guard::Standing;
use key_server::admins::Admins;
use key_server::broker_log::{BrokerLog, Remembered};
use key_server::budget::Budgets;
use key_server::clock::Latest;
use key_server::dataset::{Dataset, DatasetState, Datasets};
use key_server::evidence::Checker;
use key_server::gate::Gate;
use key_server::lease::Lease;
use key_server::refused::Refused;
use key_server::state::{Connection, Moment, State};
use key_server::ticket_keys::TicketRing;
use key_server::vault::Vault;
use store::Revision;
use store::sealed::RootKey;
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{
    ActId, DatasetId, EvidenceHash, PolicyDigest, RequestId, StatementId, TicketId,
};
use ticket_format::keys::ServerSecret;
use ticket_format::messages::batch::BatchHead;
use ticket_format::messages::present::{PresentAnswer, PresentBody};
use ticket_format::messages::{Answer, Receipt, RefusalNotice, Request, Verb};
use ticket_format::seal::{Kem, Session, session_info};
use ticket_format::sign::Exporter;
use ticket_format::statement::{Canary, DatasetCreate};
use ticket_format::ticket::{self, Action, Actions, Audience, Common, DatasetClaims};
use ticket_format::time::Timestamp;
use ticket_format::tlog::{Checkpoint, LogSecret, merkle, proof};
use ticket_format::{Context, labels, limits};

use super::refusal;
use crate::rng::Chance;
use crate::vectors;
use crate::world::{World, world};

const POLICY: &str = "@id(\"team\") permit (principal, action, resource);\n\
    @id(\"no-selling\") forbid (principal, action, resource)\n\
    when { context.pairs.hasTag(\"purpose\") && context.pairs.getTag(\"purpose\") == \"sell\" };\n";

/// How many requests one presented ticket serves here, before it is presented anew: what it had is remembered.
const SERVED: u32 = 500;

/// The server, and the job that talks to it.
struct Rig {
    state: State,
    connection: Connection,
    ticket: Vec<u8>,
    present: Vec<u8>,
    /// The job's half of what was presented.
    job: Session,
    head: BatchHead,
    served: u32,
    chance: Chance,
}

fn moment(world: &World) -> Moment {
    Moment {
        now: world.now,
        monotonic: Duration::from_secs(10),
    }
}

fn what(name: &str) -> DatasetCreate {
    let record = &world().dataset.record;
    DatasetCreate {
        name: name.to_owned(),
        tags: BTreeMap::new(),
        policy: POLICY.to_owned(),
        producers: record.producers.clone(),
        kems: vec![Kem::X25519, Kem::XWing],
        max_budget: 100_000,
        max_life: 7_200,
        owners: record.owners.clone(),
        lease: 300,
        evidence: false,
        canary: Canary::No,
        witnessing: ticket_format::statement::Witnessing::none(),
        rotation: Default::default(),
        class: Default::default(),
        exportable: false,
    }
}

/// A log's receipt of one entry, the first of a shard that no vector has.
fn receipt(log: &LogSecret, entry: &Entry, now: Timestamp) -> Receipt {
    let bytes = entry.to_cbor();
    let checkpoint = Checkpoint {
        shard: log.key().origin.shard(9),
        size: 1,
        root: merkle::leaf_hash(&bytes),
    };
    let signed = log.sign(&checkpoint, now);
    Receipt {
        proof: proof::text(0, &[], signed.note()),
        entry: bytes,
    }
}

fn claims(world: &World) -> DatasetClaims {
    let required =
        Context::new(BTreeMap::from([("team".to_owned(), "maps".to_owned())])).expect("pairs");
    DatasetClaims {
        common: Common {
            realm: world.realm.name.clone(),
            audience: Audience::KeyServer(world.keys.server_tls.public()),
            expires: world.now.plus(3_600),
            issued: world.now,
            id: TicketId([0x27; 16]),
            proof_key: world.keys.job_proof.public(),
            sealing_key: world.keys.job_sealing.public(),
            launch: world.launch.terms.launch,
            attributes: world.node.attributes.clone(),
            evidence: EvidenceHash([0x41; 32]),
        },
        dataset: DATASET,
        dataset_name: "faces".to_owned(),
        actions: Actions::new(&Action::ALL).expect("some"),
        required,
        budget: u64::MAX,
        policy: PolicyDigest([0; 32]),
        parent: TicketId([0x26; 16]),
    }
}

const DATASET: DatasetId = DatasetId([0x23; 16]);

fn state(world: &World, chance: &mut Chance) -> State {
    let keys = &world.keys;
    let root = RootKey::from_bytes([7; 32]);
    let vault = Vault::open(&world.realm.name, root, []).expect("an empty vault");
    vault.install(vault.create_kek(DATASET, 1, world.now, chance));
    let first = vectors::bytes("statement/admin-set-first", "statement");
    let state = DatasetState::new(&what("faces"), StatementId([1; 16])).expect("a dataset");
    let dataset = Dataset::new(DATASET, state, POLICY, Revision::default()).expect("a dataset");
    let datasets = Datasets::default();
    datasets.put(Arc::new(dataset));
    let state = State {
        realm: world.realm.name.clone(),
        tls_key: keys.server_tls.public(),
        ticket_keys: TicketRing::open(keys.ticket.public(), None).expect("a ticket key"),
        signing: ServerSecret::from_seed(&keys.server.seed()),
        admins: Admins::open(&first, BTreeMap::new(), &world.realm.name, world.now)
            .expect("an admin set"),
        datasets,
        log_key: keys.server_log.key().clone(),
        standing: Standing::new([], None),
        broker_log: BrokerLog::new(keys.broker_log.key().clone(), Remembered::default(), None),
        evidence: Checker::new(keys.broker_tls.public(), world.realm.regions.clone()),
        vault,
        gate: Gate::default(),
        lease: Lease::new(),
        budgets: Budgets::default(),
        latest: Latest::from(Timestamp::default()),
        restored: None,
    };
    state.lease.heard(Duration::from_secs(10));
    state
}

impl Rig {
    fn new() -> Self {
        let (world, mut chance) = (world(), Chance::new(7));
        let state = state(world, &mut chance);
        let ticket = ticket::sign(&claims(world), &world.keys.ticket);
        let present = presentation(&ticket);
        let connection = connection(world);
        let (job, handle) = presented(&state, &connection, &ticket, &present, &mut chance);
        let head = BatchHead {
            handle,
            ticket: ticket::hash(&ticket),
            request: RequestId([0x28; 16]),
        };
        Self {
            state,
            connection,
            ticket,
            present,
            job,
            head,
            served: 0,
            chance,
        }
    }

    /// A request of this body with the MAC of the presented ticket.
    fn request(&self, verb: Verb, body: &[u8]) -> Vec<u8> {
        let label = verb.request_label().expect("a batch is authenticated");
        let channel = &self.connection.channel;
        let proof = self
            .job
            .mac()
            .authenticate(channel, label, self.head.ticket, body);
        Request::encode_parts(verb, body, &[proof])
    }
}

fn connection(world: &World) -> Connection {
    let exporter = |name| Exporter(vectors::array("world", name));
    Connection::new(
        &world.realm.name,
        world.keys.server_tls.public(),
        exporter("exporter_authenticator"),
        exporter("exporter_hpke"),
        Some(world.caller.address),
    )
}

/// The body that presents a ticket: with the receipt of its issue. Made once, for logs sign with chance.
fn presentation(ticket: &[u8]) -> Vec<u8> {
    static ENTRY: LazyLock<Receipt> = LazyLock::new(|| {
        let world = world();
        let claims = claims(world);
        let ticket = ticket::sign(&claims, &world.keys.ticket);
        let entry = Entry::new(ActId([0x2a; 16]), Kind::Issue, world.now)
            .subject(claims.common.node())
            .ticket(claims.common.id)
            .ticket_hash(ticket::hash(&ticket))
            .dataset(claims.dataset)
            .expires(claims.common.expires);
        receipt(&world.keys.broker_log, &entry, world.now)
    });
    PresentBody {
        ticket: ticket.to_vec(),
        receipt: Some(ENTRY.clone()),
        evidence: None,
    }
    .to_cbor()
}

fn present_request(body: &[u8], ticket: &[u8], connection: &Connection) -> Vec<u8> {
    let proof = connection.channel.sign_with(
        &world().keys.job_proof,
        labels::PRESENT_REQUEST,
        Some(ticket::hash(ticket)),
        body,
    );
    Request::encode_parts(Verb::Present, body, &[proof])
}

/// Presents a ticket and opens the answer as a job does.
fn presented(
    state: &State,
    connection: &Connection,
    ticket: &[u8],
    body: &[u8],
    chance: &mut Chance,
) -> (Session, u64) {
    let world = world();
    let request = present_request(body, ticket, connection);
    let answer =
        present::present_with(state, connection, &request, chance).expect("a good ticket is taken");
    let Answer::Done { body, proof, .. } = answer else {
        unreachable!("it was done");
    };
    let hash = ticket::hash(ticket);
    let signed = connection.channel.verify_with(
        &world.keys.server.public(),
        labels::PRESENT_ANSWER,
        Some(hash),
        &body,
        &proof.expect("the answer is signed"),
    );
    signed.expect("by the key server");
    let answer = PresentAnswer::from_cbor(&body, limits::SMALL_MESSAGE).expect("its shape");
    let info = session_info(
        Kem::XWing,
        &world.realm.name,
        &state.tls_key,
        hash,
        connection.hpke,
    );
    let exports = world
        .keys
        .job_sealing
        .decapsulate(&answer.enc, &info)
        .expect("it is for the job");
    (Session::new(exports, hash), answer.handle)
}

fn with_rig<T>(work: impl FnOnce(&mut Rig) -> T) -> T {
    thread_local! {
        static RIG: RefCell<Option<Rig>> = const { RefCell::new(None) };
    }
    RIG.with_borrow_mut(|kept| {
        let rig = kept.get_or_insert_with(Rig::new);
        rig.served += 1;
        if rig.served > SERVED {
            *rig = Rig::new();
        }
        work(rig)
    })
}

fn refused(error: &Refused, proven: bool) {
    let told = error.refusal();
    let notice = if proven {
        RefusalNotice::detailed(told, error.to_string())
    } else {
        told.into()
    };
    refusal(told, &notice, proven);
}

fn fits(entry: &Entry) {
    let bytes = entry.to_cbor();
    // rule: AUD-3
    assert!(bytes.len() <= limits::ENTRY, "an entry is too long");
    assert_eq!(
        Entry::from_cbor(&bytes, limits::ENTRY).as_ref(),
        Ok(entry),
        "an entry is not read as it was written"
    );
}

/// What this server keeps, as inputs for what reads it again.
pub(super) fn records() -> Vec<Vec<u8>> {
    let world = world();
    let state = DatasetState::new(&what("faces"), StatementId([1; 16])).expect("a dataset");
    let vault =
        Vault::open(&world.realm.name, RootKey::from_bytes([7; 32]), []).expect("an empty vault");
    let pending = vault.create_kek(DATASET, 1, world.now, &mut Chance::new(8));
    vec![state.to_cbor(), pending.record().to_cbor()]
}
