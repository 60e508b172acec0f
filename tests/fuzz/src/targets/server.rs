//! The key server's handlers: a ticket presented, keys redeemed, made and wrapped anew, and what it believes of the
//! broker's feed. Its pure core, on one dataset with a vault of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use audit_log::guard::Standing;
use key_server::admins::Admins;
use key_server::batch;
use key_server::broker_log::{BrokerLog, Remembered};
use key_server::budget::Budgets;
use key_server::clock::Latest;
use key_server::dataset::{Dataset, DatasetState, Datasets};
use key_server::evidence::Checker;
use key_server::feed;
use key_server::gate::Gate;
use key_server::issued::NotIssued;
use key_server::lease::Lease;
use key_server::present;
use key_server::refused::Refused;
use key_server::state::{Connection, Moment, State};
use key_server::ticket_keys::TicketRing;
use key_server::vault::Vault;
use store::Revision;
use store::sealed::RootKey;
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::denial::CHAIN_START;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{
    ActId, DatasetId, EvidenceHash, PolicyDigest, RequestId, StatementId, TicketId,
};
use ticket_format::key_pair::KeyPairKind;
use ticket_format::keys::ServerSecret;
use ticket_format::messages::batch::{BatchHead, GenerateBody, RedeemBody, RewrapBody};
use ticket_format::messages::feed::FeedAnswer;
use ticket_format::messages::present::{PresentAnswer, PresentBody};
use ticket_format::messages::{
    Answer, AnswerView, BatchAnswer, Clear, Receipt, RefusalNotice, Request, RequestView, Verb,
};
use ticket_format::seal::{AnswerId, Kem, Session, session_info};
use ticket_format::sign::{Exporter, Proof};
use ticket_format::statement::{Canary, DatasetCreate};
use ticket_format::ticket::{self, Action, Actions, Audience, Common, DatasetClaims};
use ticket_format::time::Timestamp;
use ticket_format::tlog::{Checkpoint, LogSecret, merkle, proof};
use ticket_format::{Context, labels, limits};

use super::{DECIDES, Target, members, refusal, vectors_bytes};
use crate::mutate::Form;
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
    let answer = present_with(state, connection, &request, chance).expect("a good ticket is taken");
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

/// A ticket, presented: as it comes, and under the proof that its key makes of what comes.
pub const PRESENT: Target = Target {
    name: "present",
    form: Form::Cbor,
    runs: 5_000,
    room: DECIDES,
    seeds: || {
        let mut seeds = with_rig(|rig| {
            vec![
                present_request(&rig.present, &rig.ticket, &rig.connection),
                rig.present.clone(),
            ]
        });
        seeds.extend(members(&["present_request"]));
        seeds.extend(vectors::all_bytes(|file, member, _| {
            matches!(member, "request" | "body")
                && (file.contains("present") || file.contains("session"))
        }));
        seeds
    },
    run: present,
};

fn present(data: &[u8]) {
    with_rig(|rig| {
        give_present(rig, data, false);
        if let Ok(body) = PresentBody::from_cbor(data, limits::PRESENT) {
            let request = present_request(data, &body.ticket, &rig.connection);
            give_present(rig, &request, true);
        }
    });
}

fn give_present(rig: &mut Rig, data: &[u8], ours: bool) {
    // Nor is what was seen of the broker's log kept: the vectors' trees are not all of one log.
    rig.state.broker_log = BrokerLog::new(
        world().keys.broker_log.key().clone(),
        Remembered::default(),
        None,
    );
    // A connection of its own: what is presented is kept there.
    let connection = connection(world());
    let known = present_request(&rig.present, &rig.ticket, &connection);
    if let Ok(Answer::Done { .. }) =
        present_with(&rig.state, &connection, data, &mut rig.chance.clone())
    {
        // rule: PRE-1, PRE-5
        let body = RequestView::parse(data)
            .map(|request| request.body.to_vec())
            .unwrap_or_default();
        let read = PresentBody::from_cbor(&body, limits::PRESENT).expect("it was read");
        assert!(
            read.ticket == rig.ticket || vectors_bytes().contains(&read.ticket),
            "a ticket was forged"
        );
        assert!(
            ours || data == known || vectors_bytes().contains(data),
            "a presentation was forged"
        );
        assert_eq!(connection.len(), 1);
    } else {
        assert!(connection.is_empty(), "a refused ticket was kept");
    }
}

fn present_with(
    state: &State,
    connection: &Connection,
    data: &[u8],
    chance: &mut Chance,
) -> Result<Answer, ()> {
    let (world, permit) = (world(), state.gate.permit());
    let moment = moment(world);
    let request = RequestView::parse(data).map_err(drop)?;
    if request.verb != Verb::Present {
        return Err(());
    }
    let identified = present::identify(state, connection, &request, moment)
        .map_err(|error| refused(&error, false))?;
    let entry = identified.entry(state, connection, ActId([1; 16]), moment, &permit);
    fits(&entry);
    let proven = identified
        .prove(state, moment)
        .map_err(|error| match error {
            NotIssued::Refused(error) => refused(&error, true),
            NotIssued::Forked(fork) => panic!("no input forks a log: {fork}"),
        })?;
    let opened = present::decide(
        state, connection, identified, proven, moment, &permit, chance,
    );
    let opened = opened.map_err(|error| refused(&error, true))?;
    fits(&opened.complete(entry));
    opened
        .release(state, connection, moment, &permit)
        .map_err(|error| refused(&error, true))
}

/// Redeem, generate and rewrap: as they come, and under the MAC of the presented ticket.
pub const BATCH: Target = Target {
    name: "batch",
    form: Form::Cbor,
    runs: 6_000,
    room: (2 * 1024 * 1024, 256),
    seeds: || {
        let mut seeds = with_rig(batches);
        seeds.extend(vectors::all_bytes(|file, member, _| {
            file.starts_with("session/") && member == "body"
        }));
        seeds
    },
    run: batch,
};

/// A good request of each verb, as body and as request.
fn batches(rig: &mut Rig) -> Vec<Vec<u8>> {
    let pairs = |more: &[(&str, &str)]| {
        let pairs = [("team", "maps"), ("name", "a")].iter().chain(more);
        let pairs = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Context::new(pairs.collect()).expect("pairs")
    };
    let (plain, sold) = (pairs(&[]), pairs(&[("purpose", "sell")]));
    let pair = pairs(&[(Context::KEY_PAIR, KeyPairKind::ALL[0].name())]);
    let generate = GenerateBody::encode(&rig.head, &[&plain, &plain, &sold], true, None);
    let key_pair = GenerateBody::encode(&rig.head, &[&pair], true, Some(KeyPairKind::ALL[0]));
    let wraps = serve(rig, &rig.request(Verb::Generate, &generate))
        .and_then(|clear| clear.wraps)
        .unwrap_or_default();
    let wraps: Vec<_> = wraps.into_iter().flatten().collect();
    let local = vectors::bytes("wrapped/local", "wrapped");
    let mut items: Vec<(&[u8], &Context)> =
        wraps.iter().map(|wrap| (wrap.as_slice(), &plain)).collect();
    items.push((&local, &plain));
    let redeem = RedeemBody::encode(&rig.head, &items);
    let anew: Vec<_> = items
        .iter()
        .map(|(wrap, context)| (*wrap, *context, Some(&sold)))
        .collect();
    let rewrap = RewrapBody::encode(&rig.head, &anew[..1], &[]);
    let moved: Vec<_> = items
        .iter()
        .map(|(wrap, context)| (*wrap, *context, None))
        .collect();
    let moved = RewrapBody::encode(&rig.head, &moved, &[]);
    let bodies = [
        (Verb::Redeem, redeem),
        (Verb::Generate, generate),
        (Verb::Generate, key_pair),
        (Verb::Rewrap, rewrap),
        (Verb::Rewrap, moved),
    ];
    let requests = bodies.map(|(verb, body)| [rig.request(verb, &body), body]);
    requests.into_iter().flatten().collect()
}

fn batch(data: &[u8]) {
    static KNOWN: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        std::thread::spawn(|| with_rig(batches))
            .join()
            .expect("a rig")
    });
    with_rig(|rig| {
        if serve(rig, data).is_some() {
            // rule: RED-1, SEAL-3 — the same seed makes the same requests.
            assert!(
                KNOWN.iter().any(|known| known == data),
                "a batch was forged"
            );
        }
        for verb in [Verb::Redeem, Verb::Generate, Verb::Rewrap] {
            if data.len() <= verb.body_limit() {
                serve(rig, &rig.request(verb, data));
            }
        }
    });
}

/// Does what a request asks for, and opens the answer as the job does.
fn serve(rig: &Rig, data: &[u8]) -> Option<Clear> {
    let (world, permit, chance) = (world(), rig.state.gate.permit(), &mut rig.chance.clone());
    let (state, connection, moment) = (&rig.state, &rig.connection, moment(world));
    let request = RequestView::parse(data).ok()?;
    if !matches!(request.verb, Verb::Redeem | Verb::Generate | Verb::Rewrap) {
        return None;
    }
    let proven = batch::prove(connection, &request)
        .map_err(|error| refused(&error, false))
        .ok()?;
    let identified = proven
        .identify(&request)
        .map_err(|error| refused(&error, true))
        .ok()?;
    let entry = identified.entry(state, connection, ActId([2; 16]), moment, &permit);
    let decided = batch::decide(state, connection, &identified, moment, &permit, chance);
    let decided = decided.map_err(|error| refused(&error, true)).ok()?;
    let entry = decided.complete(entry);
    fits(&entry);
    let count = decided.count();
    let contexts = decided.contexts(&identified, <[[u8; 32]]>::to_vec);
    assert!(contexts.len() <= 2 * limits::ITEMS);
    let receipt = receipt(&world.keys.server_log, &entry, world.now);
    let released = decided.release(state, moment, &permit, receipt, chance);
    let answer = released.map_err(|error| refused(&error, true)).ok()?;
    assert!(answer.len() <= limits::MESSAGE, "an answer is too long");
    let AnswerView::Done { body, .. } = AnswerView::parse(&answer).expect("our own answer is read")
    else {
        panic!("an answer that was released is a refusal");
    };
    let answer = BatchAnswer::from_cbor(body, limits::MESSAGE).expect("our own answer is read");
    let clear = Clear::from_cbor(&answer.clear, limits::MESSAGE).expect("our own answer is read");
    // rule: RED-3 — each item has its verdict, and only what is done has a key.
    let done = clear
        .verdicts
        .iter()
        .filter(|verdict| verdict.refusal().is_none())
        .count();
    assert_eq!(done, count);
    let id = AnswerId {
        verb: request.verb,
        request: clear.request,
        salt: clear.salt,
    };
    if !answer.sealed.is_empty() {
        let deks = rig
            .job
            .open(&id, &answer.clear, &answer.sealed)
            .expect("it is sealed to the job");
        assert_eq!(deks.len(), done * 32);
    }
    Some(clear)
}

/// What the broker answers to who asks for its feed.
pub const FOLLOW: Target = Target {
    name: "follow",
    form: Form::Cbor,
    runs: 10_000,
    room: DECIDES,
    seeds: || {
        let mut seeds = vectors::all_bytes(|file, member, _| {
            file.contains("feed") && matches!(member, "answer" | "answer_body")
        });
        seeds.extend(members(&["feed_answer"]));
        seeds
    },
    run: follow,
};

fn follow(data: &[u8]) {
    heard(data, false);
    if FeedAnswer::from_cbor(data, limits::MESSAGE).is_ok() {
        let proof: Proof =
            world()
                .to_broker()
                .sign_with(&world().keys.feed, labels::FEED_ANSWER, None, data);
        heard(
            &Answer::Done {
                verb: Verb::Feed,
                body: data.to_vec(),
                proof: Some(proof),
            }
            .to_bytes(),
            true,
        );
    }
}

fn heard(data: &[u8], ours: bool) {
    let world = world();
    let asked = feed::Asked {
        nonce: vectors::array("exchange/feed", "nonce"),
        epoch: 0,
        chain: CHAIN_START,
        reports: Vec::new(),
    };
    match feed::accept(
        &world.to_broker(),
        &world.keys.feed.public(),
        &asked,
        data,
        world.now,
    ) {
        Ok(news) => {
            assert!(
                ours || vectors_bytes().contains(data),
                "the feed was forged"
            );
            // rule: DEN-4 — without a gap, and never back.
            let numbers: Vec<_> = news.epochs.iter().map(|epoch| epoch.epoch).collect();
            assert!(numbers.iter().copied().eq(1..=news.epoch));
            // rule: DEN-1, DEN-4 — and its chain is the one that was signed for.
            let said = AnswerView::parse(data).map(|answer| match answer {
                AnswerView::Done { body, .. } => FeedAnswer::from_cbor(body, limits::MESSAGE),
                AnswerView::Refused(_) => panic!("a refusal was believed"),
            });
            assert!(
                matches!(said, Ok(Ok(said)) if (said.epoch, said.chain) == (news.epoch, news.chain))
            );
            for received in &news.epochs {
                if let feed::Happened::Denied { denial, bytes } = &received.happened {
                    assert!(denial.is_kept() && denial.to_cbor() == *bytes);
                }
            }
        }
        Err(error) => {
            let _ = (error.is_alarming(), error.to_string());
        }
    }
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
