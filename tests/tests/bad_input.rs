//! Bytes from strangers, over the real wire to real servers (`spec/security.md`, promise 11): each
//! member of each message dropped, doubled, emptied, mistyped, oversized, in the honest caller's
//! signature and in a forged one; tickets, proofs, wraps and objects with flipped, missing and added
//! bytes; noise. Always one numbered refusal, no panic, bounded memory, and the next honest caller is
//! served.
//!
//! rule: REF-1
//! rule: ENC-3

#![allow(
    clippy::print_stdout,
    reason = "what was measured is shown with the test"
)]

use std::collections::BTreeMap;

use ciborium::Value;
use ed25519_dalek::{Signer, SigningKey};
use rand_core::Rng;
use tests::admins::Admins;
use tests::bend::{Bent, bytes_of, damaged, every_bend, value_of};
use tests::house::House;
use tests::node::{Iid, Node};
use tests::wire::{self, Message, Presented, Reply, Wire, now, rng, secrets, statement};
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::{Members, Selector};
use ticket_format::ids::{DekId, LaunchId, NodeId, StatementId};
use ticket_format::keys::{AdminKey, AdminSecret, LaunchSecret, NodeSecret, ProducerSecret};
use ticket_format::messages::batch::{GenerateBody, RedeemBody, RewrapBody};
use ticket_format::messages::{BatchAnswer, Clear, Request, Verb, Verdict};
use ticket_format::statement::{
    ActBody, AdminSetShow, Audience, Canary, CanarySet, DatasetCreate, DatasetOwnersSet,
    DatasetPolicySet, DatasetSet, DatasetShow, DenyBody, DenyList, EntryShow, ExposureShow,
    FeedShow, LaunchClose, LaunchCreate, LaunchShow, NodeShow, NodeUnfreeze, Payload, PolicySet,
    ProducerAdd, ProposalShow, ProposalWithdraw, Propose, StatusShow, TicketShow, WhatIf,
    policy_digest,
};
use ticket_format::{Context, Refusal, limits};
use transport::{Code, ExchangeError};

/// Memory that a server may grow by under all of this, in KiB.
const GROWTH: u64 = 96 * 1024;

/// What a bent message came to.
fn judge(what: &str, reply: &Reply) -> Result<(), String> {
    match reply {
        Reply::Refused { .. } => Ok(()),
        Reply::Transport(ExchangeError::Refused {
            code: Code::TooLarge,
        }) => Ok(()),
        Reply::Done { body, .. } => Err(format!("{what}: done, {} bytes", body.len())),
        other => Err(format!("{what}: {other:?}")),
    }
}

/// Whether a done batch refused at least one of its items.
fn refuses_an_item(body: &[u8]) -> bool {
    let answer = BatchAnswer::from_cbor(body, limits::MESSAGE).expect("its shape");
    let clear = Clear::from_cbor(&answer.clear, limits::MESSAGE).expect("its shape");
    let refused = |verdict: &Verdict| verdict.refusal().is_some();
    clear.verdicts.iter().any(refused)
}

/// No bend is as good as the honest one.
fn never(_: &str) -> bool {
    false
}

/// Sends every bend of a message: once under proofs made over the bent body, once under the honest
/// one's. `still_good` names the bends that give another good message.
async fn hold(wire: &Wire, message: &Message, still_good: impl Fn(&str) -> bool) -> usize {
    let mut wrong = Vec::new();
    let bends = every_bend(&message.body);
    for Bent { what, bytes } in &bends {
        let label = format!("{}{what}", message.verb.name());
        let reply = wire.raw(&message.bent(&wire.channel, bytes)).await;
        match &reply {
            Reply::Done { .. } if still_good(what) => {}
            Reply::Done { body, .. } if is_batch(message.verb) && refuses_an_item(body) => {}
            reply => wrong.extend(judge(&label, reply).err()),
        }
        if message.verb != Verb::Administer {
            let reply = wire.raw(&message.forged(&wire.channel, bytes)).await;
            wrong.extend(judge(&format!("{label}, forged"), &reply).err());
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        bends.len(),
        wrong.join("\n")
    );
    assert!(
        wire.connection.is_open(),
        "bad messages ended the connection"
    );
    bends.len()
}

fn is_batch(verb: Verb) -> bool {
    matches!(verb, Verb::Redeem | Verb::Generate | Verb::Rewrap)
}

/// The envelope and the proofs of a message, bent; with a bent envelope nothing is done either.
async fn hold_envelope(wire: &Wire, message: &Message) -> usize {
    let good = message.on(&wire.channel);
    let mut wrong = Vec::new();
    let mut bends = every_bend(&good);
    // The body as a whole is another test's.
    bends.retain(|bent| !bent.what.starts_with("/1 ") || bent.bytes.len() > limits::MESSAGE);
    let whole = value_of(&good);
    let proofs = whole
        .as_array()
        .map(|parts| parts[2].clone())
        .unwrap_or(Value::Null);
    for (index, proof) in proofs.as_array().into_iter().flatten().enumerate() {
        let value = proof
            .as_array()
            .and_then(|pair| pair[1].as_bytes())
            .cloned()
            .unwrap_or_default();
        for bent in damaged(&value, 64) {
            let mut whole = whole.clone();
            if let Some(proofs) = whole
                .as_array_mut()
                .and_then(|parts| parts[2].as_array_mut())
                && let Some(pair) = proofs[index].as_array_mut()
            {
                pair[1] = Value::Bytes(bent.bytes);
            }
            bends.push(Bent {
                what: format!("/2/{index}/1 {}", bent.what),
                bytes: bytes_of(&whole),
            });
        }
    }
    for Bent { what, bytes } in &bends {
        let reply = wire.raw(bytes).await;
        wrong.extend(judge(&format!("{} envelope{what}", message.verb.name()), &reply).err());
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        bends.len(),
        wrong.join("\n")
    );
    bends.len()
}

/// A statement whose payload is any bytes, signed by those who signed the good one all the same.
fn signed_statement(admins: &[&AdminSecret], good: &[u8], payload: &[u8]) -> Vec<u8> {
    let Value::Tag(98, inner) = value_of(good) else {
        panic!("a COSE_Sign")
    };
    let mut parts = inner.into_array().expect("four parts");
    let body_header = parts[0].clone();
    let signatures = parts[3].as_array_mut().expect("signatures");
    assert_eq!(signatures.len(), admins.len());
    for (signature, admin) in signatures.iter_mut().zip(admins) {
        let signature = signature.as_array_mut().expect("three parts");
        let to_sign = Value::Array(vec![
            Value::Text("Signature".into()),
            body_header.clone(),
            signature[0].clone(),
            Value::Bytes(Vec::new()),
            Value::Bytes(payload.to_vec()),
        ]);
        let key = SigningKey::from_bytes(&admin.seed());
        signature[2] = Value::Bytes(key.sign(&bytes_of(&to_sign)).to_bytes().to_vec());
    }
    parts[2] = Value::Bytes(payload.to_vec());
    bytes_of(&Value::Tag(98, Box::new(Value::Array(parts))))
}

/// Bends an act: its payload and its body, under a good signature of a registered admin.
async fn hold_act<B: ActBody>(
    house: &House,
    wire: &Wire,
    body: &B,
    still_good: impl Fn(&str) -> bool,
) -> usize {
    let name = B::ACT.name();
    let admins = &house.admins;
    let signers = admins.for_act(B::ACT);
    let payload = |id, body| Payload {
        id,
        not_before: now(),
        expires: now().plus(300),
        realm: wire.channel.realm.clone(),
        audience: Audience::Server(wire.channel.server),
        act: B::ACT,
        body,
    };
    let good = statement(admins, &wire.channel, body).body;
    let mut wrong = Vec::new();
    let mut sent = 0;
    let honest = payload(StatementId::random(&mut rng()), body.to_cbor()).to_cbor();
    for Bent { what, bytes } in every_bend(&honest) {
        let request = Request::encode_parts(
            Verb::Administer,
            &signed_statement(&signers, &good, &bytes),
            &[],
        );
        wrong.extend(judge(&format!("{name} payload{what}"), &wire.raw(&request).await).err());
        sent += 1;
    }
    for Bent { what, bytes } in every_bend(&body.to_cbor()) {
        let payload = payload(StatementId::random(&mut rng()), bytes);
        let request = Request::encode_parts(
            Verb::Administer,
            &signed_statement(&signers, &good, &payload.to_cbor()),
            &[],
        );
        match wire.raw(&request).await {
            Reply::Done { .. } if still_good(&what) => {}
            reply => wrong.extend(judge(&format!("{name}{what}"), &reply).err()),
        }
        sent += 1;
    }
    assert!(
        wrong.is_empty(),
        "{} of {sent}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    sent
}

fn context(name: &str) -> Context {
    let pairs = [
        ("name".to_owned(), name.to_owned()),
        ("purpose".to_owned(), "test".to_owned()),
    ];
    Context::new(BTreeMap::from(pairs)).expect("a context")
}

/// A wrapped DEK of the house's dataset.
async fn wrapped(wire: &Wire, presented: &Presented, context: &Context) -> Vec<u8> {
    let body = GenerateBody::encode(&presented.head(), &[context], false, None);
    let answer = wire
        .send(&presented.batch(Verb::Generate, body))
        .await
        .done();
    let answer = BatchAnswer::from_cbor(&answer, limits::MESSAGE).expect("its shape");
    let clear = Clear::from_cbor(&answer.clear, limits::MESSAGE).expect("its shape");
    clear.wraps.expect("wraps")[0].clone().expect("a wrap")
}

async fn redeems(
    wire: &Wire,
    presented: &Presented,
    wrapped: &[u8],
    context: &Context,
) -> Result<(), Reply> {
    let body = RedeemBody::encode(&presented.head(), &[(wrapped, context)]);
    match wire.send(&presented.batch(Verb::Redeem, body)).await {
        Reply::Done { body, .. } if refuses_an_item(&body) => Err(Reply::Refused {
            refusal: Refusal::WrapAuthentication,
            detail: None,
        }),
        Reply::Done { .. } => Ok(()),
        other => Err(other),
    }
}

struct Watch {
    broker: u64,
    key_server: u64,
}

impl Watch {
    fn begin(house: &House) -> Self {
        Self {
            broker: house.broker.resident(),
            key_server: house.key_server.resident(),
        }
    }

    /// rule: TR-5
    fn end(&self, house: &mut House) {
        house.is_sound();
        for (name, before, after) in [
            ("broker", self.broker, house.broker.resident()),
            ("key server", self.key_server, house.key_server.resident()),
        ] {
            assert!(
                after < before + GROWTH,
                "the {name} grew from {before} to {after} KiB"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_every_exchange_is_held_to_its_shape() {
    let mut house = House::start();
    let iid = Iid::real(0);
    let mut node = Node::new(&iid, &house.launch(&iid.account));
    let broker = house.to_broker().await;
    let watch = Watch::begin(&house);
    let mut sent = 0;

    let login_secrets = secrets();
    let (login, _) = node.login_message(&broker, &login_secrets);
    sent += hold(&broker, &login, never).await;
    sent += hold_envelope(&broker, &login).await;
    // rule: LOG-5 — nothing of it used the launch up.
    node.log_in(&broker).await.expect("the honest login");

    let next = NodeSecret::generate(&mut rng());
    let renew_secrets = secrets();
    let chain = node.chain.expect("a chain");
    let (renew, _) = wire::renew(
        &broker.channel,
        &iid.node,
        &node.key,
        &next,
        &renew_secrets,
        chain,
    );
    sent += hold(&broker, &renew, never).await;
    sent += hold_envelope(&broker, &renew).await;
    // rule: REN-4 — nothing of it froze the node.
    node.renew(&broker, &next)
        .await
        .expect("the honest renewal");

    let job_secrets = secrets();
    let issue = wire::issue(
        &broker.channel,
        node.ticket(),
        &node.key,
        tests::house::DATASET,
        &job_secrets,
    );
    sent += hold(&broker, &issue, never).await;
    sent += hold_envelope(&broker, &issue).await;
    let ticket = node
        .issue(&broker, tests::house::DATASET)
        .await
        .expect("the honest issue");

    let feed = wire::feed(house.signing_secret());
    sent += hold(&broker, &feed, never).await;
    sent += hold_envelope(&broker, &feed).await;
    let _ = broker.send(&feed).await.done();

    let server = house.to_key_server().await;
    let present = wire::present(&ticket);
    sent += hold(&server, &present, never).await;
    sent += hold_envelope(&server, &present).await;
    let presented = server.present_when_leased(&ticket).await;

    let context = context("s3://bucket/a");
    let wrap = wrapped(&server, &presented, &context).await;
    let redeem = presented.batch(
        Verb::Redeem,
        RedeemBody::encode(&presented.head(), &[(&wrap, &context)]),
    );
    sent += hold(&server, &redeem, |what| what == "/4 with 0 twice").await;
    sent += hold_envelope(&server, &redeem).await;
    let generate = presented.batch(
        Verb::Generate,
        GenerateBody::encode(&presented.head(), &[&context], true, None),
    );
    let other_contexts = |what: &str| {
        what == "/4 with 0 twice"
            || what == "/4/0 emptied"
            || what.starts_with("/4/0 without")
            || what.starts_with("/4/0/") && what.ends_with("emptied")
    };
    sent += hold(&server, &generate, other_contexts).await;
    sent += hold_envelope(&server, &generate).await;
    let new = self::context("s3://bucket/b");
    let rewrap = presented.batch(
        Verb::Rewrap,
        RewrapBody::encode(&presented.head(), &[(&wrap, &context, Some(&new))], &[]),
    );
    let other_contexts = |what: &str| {
        what == "/4 with 0 twice"
            || what == "/4/0/2 emptied"
            || what.starts_with("/4/0/2 without")
            || what.starts_with("/4/0/2/") && what.ends_with("emptied")
    };
    sent += hold(&server, &rewrap, other_contexts).await;
    sent += hold_envelope(&server, &rewrap).await;
    redeems(&server, &presented, &wrap, &context)
        .await
        .expect("the honest redemption");
    watch.end(&mut house);
    println!("{sent} bent messages");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_every_statement_is_held_to_its_shape() {
    let mut house = House::start();
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let watch = Watch::begin(&house);
    let mut sent = 0;
    let launch = LaunchCreate {
        launch: LaunchId::random(&mut rng()),
        key: LaunchSecret::generate(&mut rng()).public(),
        accounts: vec!["123456789012".into()],
        regions: vec!["eu-west-1".into()],
        images: vec!["ami-1".into()],
        uses: 1,
        group: false,
        from: now(),
        until: now().plus(60),
        max_age: 60,
        node_life: 60,
        comment: "none".into(),
    };
    // Lists may be empty, a comment too, and nobody minds a name twice in a list.
    let free = |what: &str| {
        let (path, done) = what.split_once(' ').unwrap_or_default();
        matches!((path, done), ("/4" | "/5" | "/12", "emptied"))
            || done.ends_with(" twice") && matches!(path, "/3" | "/4" | "/5")
            || done.starts_with("without 0") && matches!(path, "/4" | "/5")
    };
    sent += hold_act(&house, &broker, &launch, free).await;
    // One of the bends above was good, and took that id and key.
    let key = LaunchSecret::generate(&mut rng()).public();
    let launch = LaunchCreate {
        launch: LaunchId::random(&mut rng()),
        key,
        ..launch
    };
    broker
        .act(&house.admins, &launch)
        .await
        .expect("the honest launch");
    sent += hold_act(
        &house,
        &broker,
        &LaunchShow {
            launch: launch.launch,
        },
        never,
    )
    .await;
    let close = LaunchClose {
        launch: launch.launch,
        deny: false,
        reason: "over".into(),
    };
    sent += hold_act(&house, &broker, &close, |what| what == "/3 emptied").await;
    let node = NodeId::new("123456789012", "eu-west-1", "i-0123456789abcdef0").expect("a node");
    let members = Members {
        node: Some(node.clone()),
        region: Some("eu-west-1".into()),
        ..Members::default()
    };
    let deny = DenyBody {
        selector: Selector::new(members).expect("members"),
        reason: "test".into(),
    };
    sent += hold_act(&house, &broker, &deny, |what| {
        what == "/2 emptied" || what.starts_with("/1 without")
    })
    .await;
    sent += hold_act(&house, &broker, &DenyList { after: 0, rows: 10 }, never).await;
    let standing = policy_digest(tests::house::OPEN_POLICY);
    let policy = PolicySet {
        text: tests::house::OPEN_POLICY.into(),
        replaces: Some(standing),
    };
    sent += hold_act(&house, &broker, &policy, never).await;
    sent += hold_act(&house, &broker, &NodeShow { node: node.clone() }, never).await;
    let key = NodeSecret::generate(&mut rng()).public();
    sent += hold_act(
        &house,
        &broker,
        &NodeUnfreeze {
            node,
            node_key: key,
        },
        never,
    )
    .await;
    sent += hold_act(
        &house,
        &broker,
        &TicketShow {
            ticket: ticket_format::ids::TicketId([3; 16]),
        },
        never,
    )
    .await;
    sent += hold_act(&house, &broker, &StatusShow {}, never).await;

    let owners = house.admins.owner_keys();
    let dataset = DatasetCreate {
        rotation: Default::default(),
        class: Default::default(),
        exportable: false,
        name: "other".into(),
        tags: BTreeMap::from([("k".into(), "v".into())]),
        policy: tests::house::OPEN_POLICY.into(),
        producers: vec![ProducerSecret::generate(&mut rng()).public()],
        kems: vec![ticket_format::seal::Kem::XWing],
        max_budget: 1,
        max_life: 60,
        owners: owners.clone(),
        lease: 5,
        evidence: false,
        canary: Canary::No,
        witnessing: ticket_format::statement::Witnessing::none(),
    };
    let free = |what: &str| {
        matches!(
            what,
            "/2 emptied"
                | "/2 without k"
                | "/2/k emptied"
                | "/4 emptied"
                | "/4 without 0"
                | "/4 with 0 twice"
        )
    };
    sent += hold_act(&house, &server, &dataset, free).await;
    let show = DatasetShow {
        name: tests::house::DATASET.into(),
    };
    sent += hold_act(&house, &server, &show, never).await;
    let set = DatasetPolicySet {
        name: tests::house::DATASET.into(),
        text: tests::house::OPEN_POLICY.into(),
        replaces: standing,
    };
    sent += hold_act(&house, &server, &set, never).await;
    let add = ProducerAdd {
        name: tests::house::DATASET.into(),
        producer: ProducerSecret::generate(&mut rng()).public(),
    };
    sent += hold_act(&house, &server, &add, never).await;
    sent += newer_acts(&house, &broker, &server, &owners).await;

    // The statement itself, bent: nobody's signature is over that.
    for (wire, honest) in [
        (&broker, statement(&house.admins, &broker.channel, &policy)),
        (&server, statement(&house.admins, &server.channel, &set)),
    ] {
        sent += hold(wire, &honest, never).await;
        for Bent { what, bytes } in damaged(&honest.body, 300) {
            let reply = wire
                .raw(&Request::encode_parts(Verb::Administer, &bytes, &[]))
                .await;
            judge(&format!("statement {what}"), &reply).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
        let _ = wire.send(&honest).await.done();
        // rule: ADM-2
        assert_eq!(
            wire.send(&honest).await.refusal(),
            Some(Refusal::StatementReplayed)
        );
    }
    // rule: ADM-2 — an unknown signer, and the statement of another server.
    let stranger = Admins::fresh();
    let reply = broker
        .send(&statement(&stranger, &broker.channel, &policy))
        .await;
    assert_eq!(reply.refusal(), Some(Refusal::StatementSignature));
    let reply = broker
        .send(&statement(&house.admins, &server.channel, &policy))
        .await;
    assert_eq!(reply.refusal(), Some(Refusal::StatementAudience));
    watch.end(&mut house);
    println!("{sent} bent statements");
}

/// What came with admin sets: their own acts, the inbox, the feed's, and what is read from the log.
async fn newer_acts(house: &House, broker: &Wire, server: &Wire, owners: &[AdminKey]) -> usize {
    let (name, text) = (tests::house::DATASET, tests::house::OPEN_POLICY);
    let mut sent = 0;
    let options = DatasetSet {
        rotation: Default::default(),
        class: Default::default(),
        name: name.into(),
        max_budget: 1_000,
        max_life: 600,
        kems: vec![ticket_format::seal::Kem::XWing],
        lease: 5,
        evidence: false,
        canary: Canary::No,
        witnessing: ticket_format::statement::Witnessing::none(),
    };
    sent += hold_act(house, server, &options, never).await;
    let replaced = DatasetOwnersSet {
        name: name.into(),
        owners: owners.to_vec(),
    };
    // A list of one is a list; the owners come back with the honest one.
    let fewer = |what: &str| what.starts_with("/2 without");
    sent += hold_act(house, server, &replaced, fewer).await;
    let _ = server
        .act(&house.admins, &replaced)
        .await
        .expect("the owners");
    let canary = CanarySet {
        name: name.into(),
        dek: DekId([3; 16]),
        canary: Canary::Alarm,
    };
    sent += hold_act(house, server, &canary, never).await;
    let node = NodeId::new("123456789012", "eu-west-1", "i-0123456789abcdef1").expect("a node");
    let exposure = ExposureShow {
        selector: Selector::node(node),
        since: now(),
        from: 0,
        rows: 10,
    };
    sent += hold_act(house, server, &exposure, never).await;
    sent += hold_act(house, server, &EntryShow { index: 0 }, never).await;
    for wire in [broker, server] {
        sent += hold_act(house, wire, &AdminSetShow { after: 0 }, never).await;
    }
    let show = FeedShow {
        epoch: 0,
        hold_ms: 0,
    };
    sent += hold_act(house, broker, &show, never).await;
    let draft = WhatIf {
        draft: text.into(),
        dataset: None,
        since: now(),
        from: 0,
    };
    sent += hold_act(house, broker, &draft, never).await;
    let absent = StatementId([9; 16]);
    sent += hold_act(house, broker, &ProposalShow { id: absent }, never).await;
    sent += hold_act(house, broker, &ProposalWithdraw { id: absent }, never).await;
    // A proposal: a policy that one of two has signed.
    let id = StatementId::random(&mut rng());
    let policy = PolicySet {
        text: text.into(),
        replaces: Some(policy_digest(text)),
    };
    let payload = Payload::act(
        id,
        &broker.channel.realm,
        broker.channel.server,
        now(),
        300,
        &policy,
    );
    let signed = payload
        .sign(&[&house.admins.owners[0]])
        .expect("a statement");
    let propose = Propose { statement: signed };
    sent + hold_act(house, broker, &propose, never).await
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_tickets_proofs_wraps_and_noise_are_refused() {
    let mut house = House::start();
    let node = house.node(0).await;
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let ticket = node
        .issue(&broker, tests::house::DATASET)
        .await
        .expect("a ticket");
    let watch = Watch::begin(&house);
    let mut wrong = Vec::new();

    // Tickets: of the node at the broker, of the dataset at the key server, each proved honestly.
    for Bent { what, bytes } in damaged(&node.ticket().ticket, 400) {
        let bent = client::wallet::NodeSession {
            ticket: bytes,
            secrets: wire::copy(&node.ticket().secrets),
        };
        let message = issue_with(&broker, &bent, &node);
        wrong.extend(judge(&format!("node ticket {what}"), &broker.send(&message).await).err());
    }
    for Bent { what, bytes } in damaged(&ticket.ticket, 400) {
        let bent = client::wallet::DatasetSession {
            dataset: ticket.dataset.clone(),
            ticket: bytes,
            secrets: wire::copy(&ticket.secrets),
            receipt: ticket.receipt.clone(),
            record: ticket.record.clone(),
            alias: None,
            evidence: None,
        };
        wrong.extend(
            judge(
                &format!("dataset ticket {what}"),
                &server.send(&wire::present(&bent)).await,
            )
            .err(),
        );
    }

    // Wraps: the batch is done, the item is refused.
    let presented = server.present_when_leased(&ticket).await;
    let context = context("s3://bucket/a");
    let wrap = wrapped(&server, &presented, &context).await;
    for Bent { what, bytes } in damaged(&wrap, 400) {
        if redeems(&server, &presented, &bytes, &context).await.is_ok() {
            wrong.push(format!("wrapped DEK {what} opens"));
        }
    }
    for other in [
        Context::default(),
        self::context("s3://bucket/b"),
        Context::named("s3://bucket/a").expect("a name"),
    ] {
        if redeems(&server, &presented, &wrap, &other).await.is_ok() {
            wrong.push(format!("the wrap opens with {other:?}"));
        }
    }

    // Noise, of every length up to a little above what small messages may have, and some large.
    let mut rng = rng();
    for number in 0..400_usize {
        let len = if number < 300 {
            number
        } else {
            40_000 + 20_000 * (number - 300)
        };
        let mut bytes = vec![0; len];
        rng.fill_bytes(&mut bytes);
        if number % 2 == 0 && len > 2 {
            // Looks like a request at first.
            bytes[0] = 0x83;
            bytes[1] = (number / 2 % 10) as u8;
        }
        for wire in [&broker, &server] {
            match wire.raw(&bytes).await {
                // A stream without a byte is no request: the server may end it as it likes.
                Reply::Transport(ExchangeError::Refused { .. }) if len == 0 => {}
                reply => wrong.extend(judge(&format!("{len} random bytes"), &reply).err()),
            }
        }
    }
    // rule: ENC-2 — depth, declared lengths, and items without end.
    for (what, bytes) in [
        ("nested arrays", vec![0x81; 64 * 1024]),
        ("nested tags", vec![0xc1; 64 * 1024]),
        ("nested maps", [0xa1, 0x00].repeat(32 * 1024)),
        ("indefinite arrays", vec![0x9f; 64 * 1024]),
        ("an array of 2^62", [&[0x9b, 0x40][..], &[0; 7]].concat()),
        (
            "bytes of 2^62",
            [&[0x83, 0x01, 0x5b, 0x40][..], &[0; 7]].concat(),
        ),
        ("a map of 2^32", vec![0xba, 0xff, 0xff, 0xff, 0xff]),
        ("a stop", vec![0xff]),
        ("2 MiB of zeros", vec![0; limits::MESSAGE]),
        ("more than 2 MiB", vec![0; limits::MESSAGE + 1]),
    ] {
        for wire in [&broker, &server] {
            wrong.extend(judge(what, &wire.raw(&bytes).await).err());
        }
    }
    // Verbs of the other server, and of none.
    for verb in 0..=20_u8 {
        let body = [
            &[0x83][..],
            &bytes_of(&Value::Integer(verb.into())),
            &[0x41, 0xa0, 0x80],
        ]
        .concat();
        for wire in [&broker, &server] {
            wrong.extend(judge(&format!("verb {verb}"), &wire.raw(&body).await).err());
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(broker.connection.is_open() && server.connection.is_open());
    redeems(&server, &presented, &wrap, &context)
        .await
        .expect("the honest redemption");
    node.issue(&broker, tests::house::DATASET)
        .await
        .expect("the honest issue");
    watch.end(&mut house);
}

/// An issue request on a ticket that may not even parse, else honest: evidence and proofs are made
/// for the true chain and the damaged bytes.
fn issue_with(wire: &Wire, bent: &client::wallet::NodeSession, node: &Node) -> Message {
    let job = secrets();
    let honest = wire::issue(
        &wire.channel,
        node.ticket(),
        &node.key,
        tests::house::DATASET,
        &job,
    );
    let mut body = value_of(&honest.body);
    for (key, value) in body.as_map_mut().expect("a map") {
        if *key == Value::Integer(1.into()) {
            *value = Value::Bytes(bent.ticket.clone());
        }
    }
    let hash = ticket_format::ids::TicketHash::of(&bent.ticket);
    let (node_proof, job_proof) = (wire::copy(&bent.secrets).proof, wire::copy(&job).proof);
    Message::new(Verb::Issue, bytes_of(&body), move |channel, body| {
        let label = ticket_format::labels::ISSUE_REQUEST;
        vec![
            channel.sign_with(&node_proof, label, Some(hash), body),
            channel.sign_with(&job_proof, label, Some(hash), body),
        ]
    })
}
