//! Tickets, bootstrap and launch key, denials, entries.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use ticket_format::Refusal;
use ticket_format::bootstrap::launch_secret;
use ticket_format::cbor::{Encode, Writer};
use ticket_format::denial::{CHAIN_START, Denial, Link, Members, Selector, chain_next};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{EvidenceHash, ItemDigest, RequestHash, StatementDigest};
use ticket_format::keys::TicketKey;
use ticket_format::messages::feed::Event;
use ticket_format::side::pairs_digest;
use ticket_format::ticket::{self, Claims};
use ticket_format::time::Timestamp;

use super::admins;
use super::case::Case;
use super::log;
use super::statements::{denial, deny_body, undeny_payload};
use super::world::{ACT, LAUNCH, POLICY, REALM, World, at, bootstrap_secret, ed25519};

pub(super) const EVIDENCE: EvidenceHash = EvidenceHash([0x41; 32]);

pub(super) fn cases(world: &World) -> Vec<Case> {
    vec![
        ticket(
            world,
            "ticket/node",
            "A node ticket: a CWT for the broker itself.",
            "node-claims",
            &world.node_claims(EVIDENCE),
        ),
        ticket(
            world,
            "ticket/dataset",
            "A dataset ticket: a CWT for one dataset at its key server.",
            "dataset-claims",
            &world.dataset_claims(EVIDENCE, &world.job_sealing),
        ),
        ticket(
            world,
            "ticket/dataset-x25519",
            "A dataset ticket whose answers are sealed to an X25519 key.",
            "dataset-claims",
            &world.dataset_claims(EVIDENCE, &world.job_x25519),
        ),
        launch_key(),
        bootstrap(world),
        denials(world),
        entry(world),
    ]
}

/// COSE's Sig_structure (RFC 9052, 4.4) of a COSE_Sign1 without external data.
pub(super) fn sig_structure(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer
        .array(4)
        .text("Signature1")
        .bytes(protected)
        .bytes(&[])
        .bytes(payload);
    writer.into_bytes()
}

/// The protected header of a ticket (TKT-2).
pub(super) fn protected(key: &TicketKey, typ: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer
        .map(3)
        .int(1)
        .int(-8)
        .int(4)
        .bytes(&key.thumbprint().0)
        .int(16)
        .text(typ);
    writer.into_bytes()
}

fn ticket<C: Claims>(
    world: &World,
    path: &str,
    about: &str,
    rule: &'static str,
    claims: &C,
) -> Case {
    let mut payload = Writer::new();
    claims.encode(&mut payload);
    let (payload, protected) = (
        payload.into_bytes(),
        protected(&world.ticket.public(), C::TYP),
    );
    let input = sig_structure(&protected, &payload);
    let signature = ed25519(&world.ticket.seed(), &input);
    let mut built = Writer::new();
    built
        .tag(18)
        .array(4)
        .bytes(&protected)
        .map(0)
        .bytes(&payload)
        .bytes(&signature);
    let bytes = ticket::sign(claims, &world.ticket);
    assert_eq!(
        bytes,
        built.into_bytes(),
        "{path}: the ticket is what RFC 9052 makes of its parts"
    );
    Case::new(path, about)
        .input("keys", "world.json")
        .given("evidence_hash", EVIDENCE.0)
        .gives("protected", &protected)
        .gives_item("payload", rule, &payload)
        .gives("sig_structure", &input)
        .gives("signature", &signature)
        .gives("ticket", &bytes)
        .gives("ticket_hash", ticket::hash(&bytes).0)
}

fn launch_key() -> Case {
    let key = launch_secret(&bootstrap_secret(), LAUNCH);
    Case::new(
        "bootstrap/launch-key",
        "BOOT-2: the launch key that a bootstrap secret makes.",
    )
    .given("secret", bootstrap_secret().expose())
    .given("launch_id", LAUNCH.0)
    .gives("seed", key.seed().as_slice())
    .gives("public", key.public().to_bytes())
}

fn bootstrap(world: &World) -> Case {
    let bootstrap = world.bootstrap();
    Case::new(
        "bootstrap/line",
        "BOOT-1: a bootstrap and the line of user-data that carries it.",
    )
    .input("realm", REALM)
    .given("launch_id", LAUNCH.0)
    .given("secret", bootstrap_secret().expose())
    .input("brokers", bootstrap.brokers.clone())
    .gives_item("log_key", "log-key", bootstrap.log_key.to_cbor())
    .given("broker_tls", world.broker_tls.public().to_bytes())
    .gives_item("admin_set", "admin-set", &bootstrap.admin_set)
    .given("launch_digest", world.launch_digest().0)
    .given("ticket", world.ticket.public().to_bytes())
    .gives_item("bootstrap", "bootstrap", bootstrap.to_cbor())
    .expect("line", bootstrap.to_user_data_line().as_str())
    .expect("cloud_config", bootstrap.to_cloud_config().as_str())
}

fn denials(world: &World) -> Case {
    let by_admin = StatementDigest([0x2d; 32]);
    let everything = Members {
        ticket: Some(super::world::NODE_TICKET),
        node: Some(world.attributes.node.clone()),
        launch: Some(LAUNCH),
        account: Some(world.attributes.node.account().to_owned()),
        region: Some(world.attributes.node.region().to_owned()),
        image: Some(world.attributes.image.clone()),
        dataset: Some(super::world::DATASET),
        issued_before: Some(at(60)),
    };
    // One member at least is there, so it is a selector.
    let everything = Selector::new(everything).unwrap_or(deny_body(world).selector);
    let whole = Denial::new(
        everything,
        String::new(),
        by_admin,
        at(1),
        "operator".to_owned(),
    );
    let by_broker = Denial::new(
        Selector::launch(LAUNCH).issued_before(at(2)),
        "fork".to_owned(),
        StatementDigest([0; 32]),
        at(2),
        String::new(),
    );
    let lifting = admins::signed(&undeny_payload(world), admins::SECURITY);
    let mut case = Case::new(
        "denial/chain",
        "DEN-1, DEN-9: three denials, the lifting of the first, and the chain digest after each.",
    )
    .given("chain_0", CHAIN_START.0)
    .input("keys", "world.json");
    let mut chain = CHAIN_START;
    let denials = [denial(world), whole.to_cbor(), by_broker.to_cbor()];
    for (bytes, epoch) in denials.iter().zip(1u64..) {
        // What was just written is read again.
        let forget = Link::of(&Event::Denial(bytes.clone())).map(|link| link.forget);
        let forget = forget.unwrap_or_default();
        chain = chain_next(chain, forget, bytes);
        case = case
            .gives_item(&format!("denial_{epoch}"), "denial", bytes)
            .expect(&format!("forget_{epoch}"), forget.seconds())
            .gives(&format!("chain_{epoch}"), chain.0);
    }
    chain = chain_next(chain, Timestamp::LAST, &lifting);
    case.gives_item("lifting_4", "statement", &lifting)
        .expect("forget_4", Timestamp::LAST.seconds())
        .gives("chain_4", chain.0)
}

fn entry(world: &World) -> Case {
    let entry = world
        .entry(Kind::Redeem)
        .source("192.0.2.1:4433")
        .policies(["all".to_owned()])
        .ticket_hash(ticket_format::ids::TicketHash([0x51; 32]))
        .evidence(EVIDENCE)
        .request(RequestHash([0x52; 32]))
        .policy(ticket_format::statement::policy_digest(POLICY))
        .epoch(3)
        .dataset(super::world::DATASET)
        .items(vec![
            (ItemDigest([0x53; 32]), Ok(())),
            (ItemDigest([0x54; 32]), Err(Refusal::Context)),
        ])
        .ticket(super::world::DATASET_TICKET)
        .expires(at(3_600));
    let alarm = Entry::alarm(ACT, Alarm::Fork, at(0))
        .subject(&world.attributes.node)
        .follows(ACT);
    let statement = world
        .entry(Kind::Statement)
        .proof(world.launch_digest().0)
        .signers(["operator".to_owned()]);
    let pairs = pairs_digest(&world.pairs, &World::required());
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(world.pairs.expose());
    let mac = mac.map(|mac| mac.chain_update(World::required().to_cbor()));
    assert!(mac.is_ok_and(|mac| mac.finalize().into_bytes()[..] == pairs.0));
    let issue = world
        .entry(Kind::Issue)
        .actions(World::actions())
        .pairs(pairs);
    let (log, other) = (&world.broker_log, &world.server_log);
    let shard = log.with(&issue);
    let (head, older) = (shard.head(), shard.at(5));
    let opened = log::opened(&head, 13);
    let recovered = log::opened(&older, 5)
        .proof(world.launch_digest().0)
        .signers(admins::SECURITY.iter().map(|name| (*name).to_owned()))
        .seen(head.clone());
    let closed = Entry::new(ACT, Kind::ShardClosed, at(0));
    let fork = Entry::alarm(ACT, Alarm::LogFork, at(0))
        .log(older)
        .seen(head);
    let unlogged = Entry::alarm(ACT, Alarm::UnloggedTicket, at(0))
        .subject(&world.attributes.node)
        .ticket(super::world::DATASET_TICKET);
    Case::new(
        "audit/entry",
        "AUD-3, AUD-5, TLOG-4: an entry of a redeem of two items, alarms, a statement, an issue, a shard that ends and the one after it, also after a recovery; and a receipt.",
    )
    .input("keys", "world.json")
    .given("required", World::required().to_cbor())
    .given("act", ACT.0)
    .gives_item("entry", "entry", entry.to_cbor())
    .gives_item("alarm", "entry", alarm.to_cbor())
    .gives_item("statement", "entry", statement.to_cbor())
    .gives_item("issue", "entry", issue.to_cbor())
    .gives("pairs_digest", pairs.0)
    .gives_item("closed", "entry", closed.to_cbor())
    .gives_item("opened", "entry", opened.to_cbor())
    .gives_item("opened_by_recovery", "entry", recovered.to_cbor())
    .gives_item("alarm_log_fork", "entry", fork.to_cbor())
    .gives_item("alarm_unlogged_ticket", "entry", unlogged.to_cbor())
    .gives_item("receipt", "receipt", other.receipt(&entry).to_cbor())
}
