//! The broker's handlers, from the bytes of a request to the ticket or the refusal: its pure core on the state of
//! the vectors. Each takes the bytes as a request, and as the body of one that is signed as it must be.

use std::collections::BTreeSet;

use broker::administer::{self, Opened};
use broker::state::{Changes, FeedHead, KeyRole, KeyUse, NodeRecord, StoredEpoch};
use broker::{Refused, alias, feed, issue, login, renew, watch};
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::denial::{CHAIN_START, Denial, Selector, TicketFacts};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{ActId, StatementDigest};
use ticket_format::iid;
use ticket_format::messages::alias::AliasBody;
use ticket_format::messages::feed::FeedBody;
use ticket_format::messages::issue::IssueBody;
use ticket_format::messages::login::LoginBody;
use ticket_format::messages::renew::RenewBody;
use ticket_format::messages::watch::WatchBody;
use ticket_format::messages::wipe::WipeBody;
use ticket_format::messages::{Request, RequestView, Verb};
use ticket_format::sign::Proof;
use ticket_format::statement::{
    Act, AdminSetShow, AliasSet, DatasetRecord, DenyBody, LaunchClose, LaunchCreate, NodeUnfreeze,
    Payload, PolicySet, Propose,
};
use ticket_format::ticket::{self, Audience, DatasetClaims, NodeClaims};
use ticket_format::time::Timestamp;
use ticket_format::{labels, limits};

use super::{DECIDES, Target, members, refusal, vectors_bytes};
use crate::mutate::Form;
use crate::rng::Chance;
use crate::vectors;
use crate::world::{World, fresh, world};

/// What the broker's core refuses is of the closed list; a stranger is told nothing of why.
fn refused(error: &Refused) {
    refusal(error.refusal, &error.notice(), error.proven);
}

/// What is to be written down fits and is read again as it was.
fn recorded(changes: &Changes) {
    assert!(
        !changes.entries.is_empty(),
        "something was decided, and nothing is recorded"
    );
    changes.entries.iter().for_each(fits);
    for (key, value) in &changes.puts {
        assert!(
            key.len() <= store::MAX_KEY_BYTES && value.len() <= store::MAX_VALUE_BYTES,
            "{key} does not fit the store"
        );
    }
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

/// The request of these bytes, if it is one of this verb.
fn asked(data: &[u8], verb: Verb) -> Option<RequestView<'_>> {
    RequestView::parse(data)
        .ok()
        .filter(|request| request.verb == verb)
}

fn signed_request(verb: Verb, body: &[u8], proofs: &[Proof]) -> Vec<u8> {
    Request::encode_parts(verb, body, proofs)
}

/// A request that is let in is one that the keys' owner has made.
fn not_forged(data: &[u8], ours: bool) {
    assert!(
        ours || vectors_bytes().contains(data),
        "a request was forged"
    );
}

/// A node ticket that the broker gave: of this realm, no longer than it may live, and read again.
fn node_ticket(bytes: &[u8], world: &World, ends: ticket_format::time::Timestamp) -> NodeClaims {
    let realm = &world.realm;
    let ticket =
        ticket::verify::<NodeClaims>(bytes, &*realm.tickets.keys(), &realm.name, realm.audience());
    let ticket = ticket
        .expect("a ticket that was given verifies")
        .live(world.now)
        .expect("and lives");
    let common = &ticket.claims().common;
    // rule: TKT-4
    assert!(
        common.expires <= common.issued.plus(limits::NODE_TICKET_LIFE) && common.expires <= ends
    );
    assert_eq!(common.audience, Audience::Broker(realm.tls));
    ticket.claims().clone()
}

/// A login.
pub const LOGIN: Target = Target {
    name: "login",
    form: Form::Cbor,
    runs: 6_000,
    room: DECIDES,
    seeds: || {
        vec![
            vectors::bytes("exchange/login", "request"),
            vectors::bytes("exchange/login", "body"),
        ]
    },
    run: login,
};

fn login(data: &[u8]) {
    log_in(data, false);
    let Ok(mut body) = LoginBody::from_cbor(data, limits::SMALL_MESSAGE) else {
        return;
    };
    log_in(&signed_login(data), true);
    // With what no bending keeps in order put in order again.
    let keys = &world().keys;
    (body.node_key, body.proof_key) = (keys.node.public(), keys.node_proof.public());
    if let Ok(document) = iid::verify(&body.iid_proof, &world().realm.regions) {
        let signed = body.evidence(ticket_format::ids::ProofHash(*document.proof_hash()));
        body.evidence = signed.sign(&keys.launch, &world().realm.name, &world().realm.tls);
        log_in(&signed_login(&body.to_cbor()), true);
    }
}

fn signed_login(body: &[u8]) -> Vec<u8> {
    let (keys, channel, label) = (&world().keys, world().to_broker(), labels::LOGIN_REQUEST);
    let proofs = [
        channel.sign_with(&keys.launch, label, None, body),
        channel.sign_with(&keys.node, label, None, body),
        channel.sign_with(&keys.node_proof, label, None, body),
    ];
    signed_request(Verb::Login, body, &proofs)
}

fn log_in(data: &[u8], ours: bool) {
    let world = world();
    let Some(request) = asked(data, Verb::Login) else {
        return;
    };
    let identified = login::parse(&request).and_then(|asked| {
        let launch = (asked.launch() == world.launch.terms.launch).then_some(&world.launch);
        let proven = login::authenticate(asked, launch, &world.realm, &world.caller)?;
        not_forged(data, ours);
        login::identify(proven, &world.realm)
    });
    let login = match identified {
        Ok(login) => login,
        Err(error) => return refused(&error),
    };
    for view in login_views(world) {
        let ends = world.now.plus(view.launch.terms.node_life);
        let decision = login::decide(
            &login,
            view,
            &world.realm,
            &world.caller,
            world.now,
            &mut Chance::new(3),
        );
        recorded(&decision.changes);
        match &decision.result {
            Ok(ticket) => {
                let claims = node_ticket(ticket, world, ends);
                // rule: TKT-2 — nobody is let in as somebody else.
                assert_eq!(claims.common.node(), login.node());
                assert_eq!(claims.node_key, login.body().node_key);
            }
            Err(error) => {
                refused(error);
                assert!(error.proven);
            }
        }
    }
}

/// Nobody was here; this node was; it is frozen; all uses are claimed; a denial hits it; the launch is closed.
fn login_views(world: &World) -> Vec<login::View> {
    let base = || fresh(&world.launch);
    let node = || login::View {
        node: Some(world.node.clone()),
        used_by_node: true,
        ..base()
    };
    let frozen = || login::View {
        node: Some(frozen(world)),
        ..node()
    };
    let mut used = base();
    used.launch.used = used.launch.terms.uses;
    let denied = login::View {
        denied: Some("stolen".to_owned()),
        ..base()
    };
    let mut closed = base();
    closed.launch.closed = Some(world.now);
    vec![base(), node(), frozen(), used, denied, closed]
}

fn frozen(world: &World) -> NodeRecord {
    let mut node = world.node.clone();
    node.frozen = Some(broker::state::Frozen {
        at: world.now,
        alarm: Alarm::NodeConflict,
        other_key: world.keys.next_node.public(),
        other_old: None,
        other_chain: None,
        other_login: None,
    });
    node
}

/// A renewal.
pub const RENEW: Target = Target {
    name: "renew",
    form: Form::Cbor,
    runs: 8_000,
    room: DECIDES,
    seeds: || {
        vec![
            vectors::bytes("exchange/renew", "request"),
            vectors::bytes("exchange/renew", "body"),
        ]
    },
    run: renewal,
};

fn renewal(data: &[u8]) {
    renew_with(data, false);
    let Ok(mut body) = RenewBody::from_cbor(data, limits::SMALL_MESSAGE) else {
        return;
    };
    renew_with(&signed_renewal(data), true);
    let keys = &world().keys;
    (body.old_key, body.new_key, body.proof_key) = (
        keys.node.public(),
        keys.next_node.public(),
        keys.node_proof.public(),
    );
    body.evidence = body
        .evidence()
        .sign(&keys.node, &world().realm.name, &world().realm.tls);
    renew_with(&signed_renewal(&body.to_cbor()), true);
}

fn signed_renewal(body: &[u8]) -> Vec<u8> {
    let (keys, channel, label) = (&world().keys, world().to_broker(), labels::RENEW_REQUEST);
    let proofs = [
        channel.sign_with(&keys.node, label, None, body),
        channel.sign_with(&keys.next_node, label, None, body),
        channel.sign_with(&keys.node_proof, label, None, body),
    ];
    signed_request(Verb::Renew, body, &proofs)
}

fn renew_with(data: &[u8], ours: bool) {
    let world = world();
    let Some(request) = asked(data, Verb::Renew) else {
        return;
    };
    let verified =
        renew::parse(&request).and_then(|asked| renew::verify(asked, &world.realm, &world.caller));
    let renewal = match verified {
        Ok(renewal) => renewal,
        Err(error) => return refused(&error),
    };
    not_forged(data, ours);
    let body = renewal.body();
    let known = body.node == world.node.attributes.node;
    let mut other = world.node.clone();
    other.current = world.keys.next_node.public();
    for node in [world.node.clone(), frozen(world), other] {
        let view = renew::View {
            node: known.then(|| node.clone()),
            old_key: world.key_use(body.old_key.thumbprint()),
            new_key: world.key_use(body.new_key.thumbprint()),
            proof_key: None,
            head: FeedHead::START,
            denied: None,
        };
        match renew::decide(
            &renewal,
            view,
            &world.realm,
            &world.caller,
            world.now,
            &mut Chance::new(4),
        ) {
            Ok(decision) => {
                recorded(&decision.changes);
                match &decision.result {
                    Ok(ticket) => {
                        let claims = node_ticket(ticket, world, node.claim.life_ends);
                        assert_eq!(
                            (claims.common.node(), claims.node_key),
                            (&body.node, body.new_key)
                        );
                        // rule: REN-2 — from the current key only.
                        assert_eq!(body.old_key, node.current);
                    }
                    Err(error) => refused(error),
                }
            }
            Err(error) => refused(&error),
        }
    }
}

/// An issue.
pub const ISSUE: Target = Target {
    name: "issue",
    form: Form::Cbor,
    runs: 4_000,
    room: (2 * 1024 * 1024, 64),
    seeds: || {
        vec![
            vectors::bytes("exchange/issue", "request"),
            vectors::bytes("exchange/issue", "body"),
        ]
    },
    run: issuing,
};

fn issuing(data: &[u8]) {
    issue_with(data, false);
    let Ok(mut body) = IssueBody::from_cbor(data, limits::SMALL_MESSAGE) else {
        return;
    };
    issue_with(&signed_issue(data, &body), true);
    let world = world();
    let realm = &world.realm;
    body.proof_key = world.keys.job_proof.public();
    let ticket = ticket::verify::<NodeClaims>(
        &body.node_ticket,
        &*realm.tickets.keys(),
        &realm.name,
        realm.audience(),
    );
    if let Ok(ticket) = ticket {
        // And all that there is, for as long as there is.
        let most = (u64::MAX, u64::MAX, Timestamp::LAST);
        for (life, budget, expires) in [(body.life, body.budget, body.expires), most] {
            (body.life, body.budget, body.expires) = (life, budget, expires);
            let evidence = body.evidence(ticket.claims().common.evidence);
            body.evidence = evidence.sign(&world.keys.next_node, &realm.name, &realm.tls);
            issue_with(&signed_issue(&body.to_cbor(), &body), true);
        }
    }
}

fn signed_issue(bytes: &[u8], body: &IssueBody) -> Vec<u8> {
    let (keys, channel, label) = (&world().keys, world().to_broker(), labels::ISSUE_REQUEST);
    let hash = Some(ticket::hash(&body.node_ticket));
    let proofs = [
        channel.sign_with(&keys.node_proof, label, hash, bytes),
        channel.sign_with(&keys.job_proof, label, hash, bytes),
    ];
    signed_request(Verb::Issue, bytes, &proofs)
}

/// Says why somebody is denied, who is.
type Denied = dyn Fn(&TicketFacts<'_>) -> Option<String> + Sync;

fn issue_with(data: &[u8], ours: bool) {
    let world = world();
    let Some(request) = asked(data, Verb::Issue) else {
        return;
    };
    let opened = issue::parse(&request)
        .and_then(|asked| issue::open(asked, &world.realm, &world.caller, world.now));
    let held = match opened {
        Ok(held) => held,
        Err(error) => return refused(&error),
    };
    not_forged(data, ours);
    let record = &world.dataset.record;
    let nobody = |_: &TicketFacts<'_>| None;
    let everybody = |_: &TicketFacts<'_>| Some("all".to_owned());
    let denied: [&Denied; 2] = [&nobody, &everybody];
    for denied in denied {
        let view = issue::View {
            dataset: (held.body().dataset == record.name).then_some(&world.dataset),
            aliases: BTreeSet::new(),
            policy: Some(&world.policy),
            proof_key: None,
            denied,
        };
        let entry = held.entry(ActId([1; 16]), &world.caller, world.now, 0);
        match issue::weigh(&held, &view, &world.caller, world.now) {
            Ok(weighed) => {
                let granted = issue::grant(
                    &weighed,
                    weighed.budget(),
                    entry,
                    &world.realm,
                    world.now,
                    &mut Chance::new(5),
                );
                let granted = granted.expect("what is weighed is signed");
                fits(&granted.entry);
                dataset_ticket(&granted.ticket, held.body());
                let allowed =
                    issue::still_allowed(&held, &granted, Some(&world.node), &nobody, world.now);
                assert!(allowed.is_ok());
            }
            Err(mut unmet) => {
                refused(&unmet.refused);
                fits(&unmet.complete(&held, entry, &world.realm.pairs).0);
            }
        }
    }
}

/// A dataset ticket gives no more than was asked for and than the record allows.
fn dataset_ticket(bytes: &[u8], asked: &IssueBody) {
    let world = world();
    let (realm, record) = (&world.realm, &world.dataset.record);
    let audience = Audience::KeyServer(record.tls_key);
    let ticket =
        ticket::verify::<DatasetClaims>(bytes, &*realm.tickets.keys(), &realm.name, audience);
    let ticket = ticket
        .expect("a ticket that was given verifies")
        .live(world.now)
        .expect("and lives");
    let claims = ticket.claims();
    // rule: ISS-4
    assert!(claims.common.expires <= world.now.plus(record.max_life.min(asked.life)));
    assert!(
        claims.common.expires <= asked.expires
            && claims.budget <= record.max_budget.min(asked.budget)
    );
    assert_eq!(
        (claims.actions, &claims.required),
        (asked.actions, &asked.required)
    );
    assert_eq!(
        (claims.dataset, claims.common.proof_key),
        (record.dataset, asked.proof_key)
    );
}

/// What the holder of a node ticket may ask: whether it is denied, a wipe's record, what an alias names.
pub const WATCH: Target = Target {
    name: "watch",
    form: Form::Cbor,
    runs: 10_000,
    room: DECIDES,
    seeds: || {
        let mut seeds = Vec::new();
        for file in ["exchange/watch", "exchange/wipe", "exchange/alias"] {
            seeds.extend([
                vectors::bytes(file, "request"),
                vectors::bytes(file, "body"),
            ]);
        }
        seeds
    },
    run: watching,
};

fn watching(data: &[u8]) {
    held(data, false);
    let bodies = [
        (
            Verb::Watch,
            labels::WATCH_REQUEST,
            WatchBody::from_cbor(data, limits::SMALL_MESSAGE).map(|body| body.ticket),
        ),
        (
            Verb::Wipe,
            labels::WIPE_REQUEST,
            WipeBody::from_cbor(data, limits::SMALL_MESSAGE).map(|body| body.ticket),
        ),
        (
            Verb::Alias,
            labels::ALIAS_REQUEST,
            AliasBody::from_cbor(data, limits::SMALL_MESSAGE).map(|body| body.ticket),
        ),
    ];
    for (verb, label, ticket) in bodies {
        if let Ok(ticket) = ticket {
            let proof = world().to_broker().sign_with(
                &world().keys.node_proof,
                label,
                Some(ticket::hash(&ticket)),
                data,
            );
            held(&signed_request(verb, data, &[proof]), true);
        }
    }
}

fn held(data: &[u8], ours: bool) {
    let world = world();
    let (realm, caller, now) = (&world.realm, &world.caller, world.now);
    let Ok(request) = RequestView::parse(data) else {
        return;
    };
    let done = match request.verb {
        Verb::Watch => watch::watch(&request, realm, caller, now).map(|watched| {
            assert!(watched.hold_ms <= limits::FEED_HOLD_MS);
        }),
        Verb::Wipe => watch::wipe(&request, realm, caller, now).and_then(|wiped| {
            let act = ActId([2; 16]);
            // rule: WIP-2
            assert!(wiped.entry(&None, act, caller, now, 0).is_err());
            wiped
                .entry(&Some("stolen".to_owned()), act, caller, now, 0)
                .map(|entry| fits(&entry))
        }),
        Verb::Alias => alias::ask(&request, realm, caller, now)
            .and_then(|asked| asked.answer(None, &None).map(drop)),
        _ => return,
    };
    match done {
        Ok(()) => not_forged(data, ours),
        Err(error) => {
            if error.proven {
                not_forged(data, ours);
            }
            refused(&error);
        }
    }
}

/// A key server's request for the feed, at the broker; and the answer to it, at the key server.
pub const SUBSCRIBE: Target = Target {
    name: "subscribe",
    form: Form::Cbor,
    runs: 20_000,
    room: DECIDES,
    seeds: || {
        vec![
            vectors::bytes("exchange/feed", "request"),
            vectors::bytes("exchange/feed", "body"),
        ]
    },
    run: subscribing,
};

fn subscribing(data: &[u8]) {
    subscribe(data, false);
    if FeedBody::from_cbor(data, limits::SMALL_MESSAGE).is_ok() {
        let proof =
            world()
                .to_broker()
                .sign_with(&world().keys.server, labels::FEED_REQUEST, None, data);
        subscribe(&signed_request(Verb::Feed, data, &[proof]), true);
    }
}

fn subscribe(data: &[u8], ours: bool) {
    let world = world();
    let Some(request) = asked(data, Verb::Feed) else {
        return;
    };
    let named = |key: &ticket_format::keys::ServerKey| *key == world.keys.server.public();
    let subscription = match feed::open(&request, &world.realm, &world.caller, named) {
        Ok(subscription) => subscription,
        Err(error) => return refused(&error),
    };
    not_forged(data, ours);
    let selector = Selector::node(world.node.attributes.node.clone());
    let denial = Denial::new(
        selector,
        "stolen".to_owned(),
        StatementDigest([0; 32]),
        world.now,
        "olga".to_owned(),
    );
    let epoch = StoredEpoch::denial(FeedHead::START, denial);
    let chain = (subscription.epoch() == 0).then_some(CHAIN_START);
    match feed::continues(&subscription, chain, epoch.head()) {
        Ok(()) => {
            let asked = key_server::feed::Asked {
                nonce: FeedBody::from_cbor(request.body, limits::SMALL_MESSAGE)
                    .expect("it was read")
                    .nonce,
                epoch: subscription.epoch(),
                chain: subscription.chain(),
                reports: Vec::new(),
            };
            let answer = feed::answer(
                &subscription,
                &[Box::new(epoch)],
                1,
                &world.realm,
                &world.caller,
                world.now,
            );
            let key = world.keys.feed.public();
            let news = key_server::feed::accept(
                &world.to_broker(),
                &key,
                &asked,
                &answer.to_bytes(),
                world.now,
            );
            // rule: DEN-4
            assert_eq!(news.map(|news| (news.epoch, news.epochs.len())), Ok((1, 1)));
        }
        Err(error) => refused(&error),
    }
}

/// A statement, sent to the broker: opened, and done where it asks for something that changes.
pub const ADMINISTER: Target = Target {
    name: "administer",
    form: Form::Cbor,
    runs: 3_000,
    room: (64 * 1024 * 1024, 4_096),
    seeds: || {
        let mut seeds = members(&["statement", "payload"]);
        seeds.extend(vectors::all_bytes(|file, member, _| {
            file.starts_with("statement/") && member == "request"
        }));
        seeds
    },
    run: administering,
};

fn administering(data: &[u8]) {
    if let Some(request) = asked(data, Verb::Administer) {
        administer_with(&request, false);
    }
    administer_with(&statement_request(data), false);
    let keys = &world().keys;
    if let Ok(payload) = Payload::from_cbor(data, limits::STATEMENT) {
        for admins in [
            vec![&keys.operator],
            vec![&keys.owner, &keys.security, &keys.operator],
        ] {
            if let Ok(statement) = payload.sign(&admins) {
                administer_with(&statement_request(&statement), true);
            }
        }
    }
}

fn statement_request(body: &[u8]) -> RequestView<'_> {
    RequestView {
        verb: Verb::Administer,
        body,
        proofs: Vec::new(),
    }
}

fn administer_with(request: &RequestView<'_>, ours: bool) {
    let world = world();
    let opened = administer::open(request, &world.realm, world.set.clone(), world.now);
    let done = match &opened {
        Ok(opened) => {
            assert!(
                ours || super::statement_of_vectors(opened.bytes()),
                "a statement was forged"
            );
            fits(&opened.entry(ActId([3; 16]), &world.caller, world.now));
            act(opened)
        }
        Err(error) => {
            let entry = administer::unopened(
                request,
                error,
                &world.set,
                ActId([3; 16]),
                &world.caller,
                world.now,
            );
            fits(&entry);
            return refused(error);
        }
    };
    if let Err(error) = done {
        refused(&error);
    }
}

fn act(opened: &Opened) -> Result<(), Refused> {
    let world = world();
    let (now, chance) = (world.now, &mut Chance::new(6));
    let entry = Entry::new(ActId([4; 16]), Kind::Statement, now);
    let changes = opened.begin(None)?;
    let done = match opened.act() {
        Act::LaunchCreate => {
            let body = opened.body::<LaunchCreate>()?;
            let existing = (body.launch == world.launch.terms.launch).then_some(&world.launch);
            let key = KeyUse {
                role: KeyRole::Node,
                owner: String::new(),
            };
            let used = (body.key == world.launch.terms.key).then_some(&key);
            administer::launches::create(opened, body, existing, used, now, changes)
        }
        Act::LaunchClose => {
            let body = opened.body::<LaunchClose>()?;
            administer::launches::close(
                opened,
                body,
                Some(&world.launch),
                FeedHead::START,
                &entry,
                changes,
                chance,
            )
        }
        Act::PolicySet => {
            let body = opened.body::<PolicySet>()?;
            administer::policies::set(opened, &body, None, now, changes).map(|(done, _)| done)
        }
        Act::DatasetRecord => {
            let body = opened.body::<DatasetRecord>()?;
            let uses = vec![None; administer::datasets::keys_of(&body).len()];
            let same = body.dataset == world.dataset.record.dataset;
            let known = administer::datasets::Known {
                existing: same.then_some(&world.dataset),
                named: (body.name == world.dataset.record.name)
                    .then_some(&world.dataset.record.dataset),
                alias: None,
                uses: &uses,
            };
            administer::datasets::record(opened, body, &known, &world.realm, now, changes)
        }
        Act::Deny => {
            let body = opened.body::<DenyBody>()?;
            administer::denials::deny(opened, body, FeedHead::START, &entry, changes, chance)
        }
        Act::NodeUnfreeze => {
            let body = opened.body::<NodeUnfreeze>()?;
            administer::nodes::unfreeze(
                opened,
                &body,
                Some(&frozen(world)),
                None,
                None,
                now,
                changes,
            )
        }
        Act::AliasSet => {
            let body = opened.body::<AliasSet>()?;
            let known = administer::aliases::Known {
                existing: None,
                named: None,
                target: Some(&world.dataset),
                before: None,
            };
            administer::aliases::set(opened, body, &known, changes)
        }
        Act::Propose => {
            let body = opened.body::<Propose>()?;
            return administer::proposals::read(opened, &body).map(drop);
        }
        Act::AdminSet => {
            return administer::admin_sets::successor(opened, &world.realm, now).map(drop);
        }
        Act::AdminSetShow => {
            let body = opened.body::<AdminSetShow>()?;
            let page = administer::admin_sets::page(&world.realm.admins, body.after);
            assert!(page.to_cbor().len() <= limits::MESSAGE);
            return Ok(());
        }
        _ => return Ok(()),
    }?;
    for (key, value) in &done.changes.puts {
        assert!(
            key.len() <= store::MAX_KEY_BYTES && value.len() <= limits::STATEMENT,
            "{key} does not fit the store"
        );
    }
    assert!(done.result.len() <= limits::MESSAGE);
    Ok(())
}
