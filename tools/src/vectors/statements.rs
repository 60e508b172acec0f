//! Statements: admin sets, records, acts, and the bodies and results of every act.

use ticket_format::cbor::Encode;
use ticket_format::denial::{CHAIN_START, Denial, Link, Selector, chain_next};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{DenialDigest, ItemDigest, PolicyDigest, StatementDigest, StatementId};
use ticket_format::keys::{TicketKey, TicketSecret};
use ticket_format::messages::feed::Numbered;
use ticket_format::messages::{Request, Verb};
use ticket_format::seal::Kem;
use ticket_format::sign::Proof;
use ticket_format::statement::{
    Acknowledgement, Act, AdminSet, AdminSetPage, AdminSetShow, Audience, Canary, CanarySet,
    Changed, DatasetCreate, DatasetCreated, DatasetOwnersSet, DatasetPage, DatasetPolicySet,
    DatasetRow, DatasetSet, DatasetShow, DatasetView, DenialPage, Denied, DenyBody, DenyList,
    EntryShow, EntryView, Exposed, ExposurePage, ExposureShow, FeedShow, FeedView, LaunchClose,
    LaunchPage, LaunchShow, LaunchView, LogRecover, LogShow, LogState, LogView, NodePage, NodeShow,
    NodeState, NodeUnfreeze, NodeView, Payload, PolicySet, PolicyText, PolicyTextSet, ProducerAdd,
    ProducerAdded, ProposalPage, ProposalRow, ProposalShow, ProposalView, ProposalWithdraw,
    Propose, Role, Status, StatusShow, Subscriber, TicketKeyList, TicketKeyMade, TicketKeyMake,
    TicketKeyRow, TicketKeyRows, TicketKeySet, TicketShow, TicketView, Undeny, WhatIf, WhatIfPage,
    WitnessMode, WitnessRow, WitnessState, Witnessing, policy_digest,
};
use ticket_format::ticket::Action;
use ticket_format::time::Timestamp;

use super::admins::{self, ALL, OPERATOR, OWNERS, SECURITY};
use super::case::Case;
use super::feed::feed_request;
use super::log;
use super::world::{
    ACT, AUTHENTICATOR, DATASET, DATASET_TICKET, DEK, KEK, LAUNCH, NODE_TICKET, POLICY, REALM,
    World, at,
};

pub(super) fn cases(world: &World) -> Vec<Case> {
    vec![
        first_set(),
        next_set(),
        launch(world),
        record(world),
        deny(world),
        undeny(world),
        ticket_key(world),
        bodies(world),
    ]
}

pub(super) fn statement(case: Case, rule: &'static str, payload: &Payload, names: &[&str]) -> Case {
    let bytes = admins::signed(payload, names);
    let mut case = case
        .input("keys", "world.json")
        .input("signers", names.to_vec())
        .given("id", payload.id.0)
        .input("not_before", payload.not_before.seconds())
        .input("expires", payload.expires.seconds())
        .gives_item("body", rule, &payload.body)
        .gives_item("payload", "statement-payload", payload.to_cbor());
    for name in names {
        let keys = admins::named(name);
        let (kind, payload) = (keys.admin.kind, payload.to_cbor());
        let structure = admins::structure(&payload, &keys.admin, kind.alg());
        let input = admins::input(&structure, kind, admins::APPLICATION, 1);
        case = case
            .gives(&format!("sig_structure {name}"), &structure)
            .gives(&format!("signed {name}"), input)
            .gives(
                &format!("signature {name}"),
                admins::signature(&keys, &payload),
            );
    }
    case.gives_item("statement", "statement", &bytes)
        .gives("digest", StatementDigest::of(&bytes).0)
}

fn first_set() -> Case {
    let payload = admins::first_payload();
    let set = AdminSet::first(&admins::signed(&payload, ALL), REALM, at(0));
    assert_eq!(set.as_ref(), Ok(&admins::set()));
    let case = Case::new(
        "statement/admin-set-first",
        "SET-3, SET-7: the first admin set, signed by all its admins, in all three forms.",
    );
    statement(case, "admin-set", &payload, ALL).gives("set_digest", admins::set().digest().0)
}

fn next_set() -> Case {
    let payload = admins::next_payload();
    let statement_bytes = admins::signed(&payload, SECURITY);
    let next = admins::set().next(&statement_bytes, REALM, at(0));
    assert_eq!(next.map(|set| set.version()), Ok(2));
    let case = Case::new(
        "statement/admin-set-next",
        "SET-3: the second admin set, signed by the first one's quorum of security.",
    )
    .given("follows", admins::set().digest().0);
    statement(case, "admin-set", &payload, SECURITY)
}

fn launch(world: &World) -> Case {
    let case = Case::new(
        "statement/launch-create",
        "ADM-3: a launch's record, a statement for everyone.",
    );
    let payload = world.launch_payload();
    statement(case, "launch-create", &payload, &[OPERATOR])
}

fn record(world: &World) -> Case {
    let case = Case::new(
        "statement/dataset-record",
        "ADM-3, SET-5: a dataset's record, a statement for everyone, signed by its owners.",
    );
    statement(case, "dataset-record", &world.record_payload(), OWNERS)
}

pub(super) fn deny_body(world: &World) -> DenyBody {
    DenyBody {
        selector: Selector::node(world.attributes.node.clone()),
        reason: "disk cloned".to_owned(),
    }
}

fn deny(world: &World) -> Case {
    let payload = Payload::act(
        StatementId([0x2c; 16]),
        REALM,
        world.broker_tls.public(),
        at(0),
        300,
        &deny_body(world),
    );
    let request = Request {
        verb: Verb::Administer,
        body: admins::signed(&payload, &[OPERATOR]),
        proofs: Vec::new(),
    };
    let case = Case::new(
        "statement/deny",
        "ADM-1: an act for one server, and the request that carries it.",
    );
    statement(case, "deny-body", &payload, &[OPERATOR]).gives_item(
        "request",
        "request",
        request.to_bytes(),
    )
}

/// The denial that the vectors lift.
pub(super) fn denial(world: &World) -> Vec<u8> {
    let statement = StatementDigest([0x2d; 32]);
    let deny = deny_body(world);
    Denial::new(
        deny.selector,
        deny.reason,
        statement,
        at(0),
        OPERATOR.to_owned(),
    )
    .to_cbor()
}

pub(super) fn undeny_payload(world: &World) -> Payload {
    let body = Undeny {
        denials: vec![(1, DenialDigest::of(&denial(world)))],
        reason: "it was a restored snapshot".to_owned(),
    };
    admins::record(0xb3, &body)
}

/// The record of the next ticket key.
pub(super) fn ticket_key_payload(world: &World) -> Payload {
    admins::record(0xb4, &ticket_key_record(world))
}

fn ticket_key_record(world: &World) -> TicketKeySet {
    TicketKeySet {
        number: 2,
        follows: TicketKeySet::NOTHING,
        key: next_ticket_key(),
        old: world.ticket.public(),
        from: at(3_600),
        until: at(32_400),
    }
}

fn next_ticket_key() -> TicketKey {
    TicketSecret::from_seed(&[0xb5; 32]).public()
}

fn ticket_key(world: &World) -> Case {
    let case = Case::new(
        "statement/ticket-key",
        "KEY-1: the record of the next ticket key, a statement for everyone that the feed carries whole.",
    );
    let case = statement(case, "ticket-key", &ticket_key_payload(world), SECURITY);
    let row = |number, key, signs| TicketKeyRow {
        number,
        key,
        from: (number == 2).then(|| at(3_600)),
        to: (number == 1).then(|| at(3_600)),
        until: (number == 1).then(|| at(32_400)),
        signs,
        held: true,
    };
    let rows = TicketKeyRows {
        rows: vec![
            row(1, world.ticket.public(), true),
            row(2, next_ticket_key(), false),
            row(0, TicketSecret::from_seed(&[0xb6; 32]).public(), false),
        ],
        records: vec![admins::signed(&ticket_key_payload(world), SECURITY)],
        overlap: 28_800,
    };
    let made = TicketKeyMade {
        key: next_ticket_key(),
    };
    let case = case.gives("ticket-key-make", TicketKeyMake {}.to_cbor());
    let case = case.gives("ticket-key-list", TicketKeyList {}.to_cbor());
    let case = item(case, "ticket-key-made", &made);
    let case = item(case, "ticket-key-rows", &rows);
    let mut entry = Entry::new(ACT, Kind::TicketKey, at(3_600))
        .subject("signs")
        .count(2);
    entry.proof = Some(next_ticket_key().thumbprint().0);
    item(case, "entry", &entry)
}

fn undeny(world: &World) -> Case {
    let case = Case::new(
        "statement/undeny",
        "DEN-9: a lifting, a statement for everyone that the feed carries whole.",
    )
    .given("denial", denial(world));
    statement(case, "undeny", &undeny_payload(world), SECURITY)
}

/// Every act's body and result that is not in another file, as items of their rules.
fn bodies(world: &World) -> Case {
    let case = Case::new(
        "statement/bodies",
        "The body and the result of each act that no other file has, by their rules' names.",
    )
    .input("keys", "world.json");
    let case = sets_and_proposals(world, case);
    let case = launches_and_nodes(world, case);
    let case = datasets(world, case);
    let case = denials(world, case);
    let case = logs(world, case);
    exposure_and_drafts(world, case)
}

fn logs(world: &World, case: Case) -> Case {
    let log = &world.broker_log;
    let shard = log.with(&world.entry(Kind::Issue));
    let (older, head) = (shard.at(5), shard.head());
    let recover = LogRecover {
        shard: older.shard.to_string(),
        size: older.size,
        root: older.root,
    };
    assert_eq!(recover.checkpoint(), Some(older));
    let row = |name: &str, size, ago_ms, state| WitnessRow {
        name: name.to_owned(),
        size,
        ago_ms,
        state,
    };
    let good = row("w1", Some(head.size), Some(150), WitnessState::Good);
    let view = |state, wrong: &str, witness| LogView {
        key: log.key.clone(),
        checkpoint: log::cosigned_note(log, &head),
        state,
        wrong: wrong.to_owned(),
        witnesses: vec![good.clone(), witness],
    };
    let silent = row("w2", None, None, WitnessState::Silent);
    let ahead = row("w2", Some(21), Some(3_000), WitnessState::Ahead);
    let rolled_back = view(
        LogState::RolledBack,
        "witness w2 has seen 21 entries",
        ahead,
    );
    let case = item(case, "log-recover", &recover);
    let case = case.gives_item("log-view, rolled back", "log-view", rolled_back.to_cbor());
    let case = item(case, "log-view", &view(LogState::Good, "", silent));
    let case = case.gives("log-show", LogShow {}.to_cbor());
    item(case, "witness", &good)
}

pub(super) fn item(case: Case, rule: &'static str, value: &impl Encode) -> Case {
    case.gives_item(rule, rule, value.to_cbor())
}

fn sets_and_proposals(world: &World, case: Case) -> Case {
    let statement = admins::signed(&undeny_payload(world), &["security"]);
    let row = ProposalRow {
        id: undeny_payload(world).id,
        act: Act::Undeny,
        audience: Audience::Everyone,
        signers: vec!["security".to_owned()],
        counting: 1,
        needed: 2,
        until: at(86_400),
    };
    let id = row.id;
    let page = ProposalPage {
        rows: vec![row.clone()],
        more: false,
    };
    let view = ProposalView {
        row: row.clone(),
        statement: statement.clone(),
    };
    let sets = AdminSetPage {
        statements: vec![admins::signed(&admins::next_payload(), SECURITY)],
        more: false,
    };
    let case = item(case, "admin-set-show", &AdminSetShow { after: 1 });
    let case = item(case, "admin-set-page", &sets);
    let case = item(case, "propose", &Propose { statement });
    let case = item(case, "proposal-row", &row);
    let case = item(case, "proposal-page", &page);
    let case = item(case, "proposal-show", &ProposalShow { id });
    let case = item(case, "proposal-view", &view);
    item(case, "proposal-withdraw", &ProposalWithdraw { id })
}

fn launches_and_nodes(world: &World, case: Case) -> Case {
    let node = world.attributes.node.clone();
    let view = LaunchView {
        launch: world.launch_create(),
        digest: world.launch_digest(),
        used: 1,
        nodes: vec![node.clone()],
        closed: false,
    };
    let page = LaunchPage {
        rows: vec![view.clone()],
        more: false,
    };
    let close = LaunchClose {
        launch: LAUNCH,
        deny: true,
        reason: "done".to_owned(),
    };
    let node_view = NodeView {
        attributes: world.attributes.clone(),
        launch: LAUNCH,
        state: NodeState::Frozen,
        node_key: world.node.public(),
        logged_in: at(0),
        renewed: at(1),
        until: at(2),
        reason: "fork".to_owned(),
    };
    let nodes = NodePage {
        rows: vec![node_view.clone()],
        more: false,
    };
    let unfreeze = NodeUnfreeze {
        node: node.clone(),
        node_key: world.node.public(),
    };
    let ticket = TicketView {
        ticket: DATASET_TICKET,
        node: node.clone(),
        launch: LAUNCH,
        dataset: Some(DATASET),
        parent: Some(NODE_TICKET),
        issued: at(0),
        expires: at(3_600),
        budget: 1_000,
        denied: false,
    };
    let status = Status {
        role: Role::KeyServer,
        version: "0.1.0".to_owned(),
        started: at(0),
        now: at(1),
        epoch: 2,
        chain: CHAIN_START,
        entries: 3,
        lease_ms: Some(4_000),
        datasets: 5,
        holders: 6,
    };
    let case = item(case, "launch-view", &view);
    let case = item(case, "launch-page", &page);
    let case = item(case, "launch-show", &LaunchShow { launch: LAUNCH });
    let case = item(case, "launch-close", &close);
    let case = item(case, "node-view", &node_view);
    let case = item(case, "node-page", &nodes);
    let case = item(case, "node-show", &NodeShow { node });
    let case = item(case, "node-unfreeze", &unfreeze);
    let show = TicketShow {
        ticket: DATASET_TICKET,
    };
    let case = item(case, "ticket-show", &show);
    let case = item(case, "ticket-view", &ticket);
    item(case, "status-result", &status)
}

fn datasets(world: &World, case: Case) -> Case {
    let record = world.record();
    let name = record.name.clone();
    let (tags, owners) = (record.tags.clone(), record.owners.clone());
    let create = DatasetCreate {
        rotation: Default::default(),
        class: Default::default(),
        exportable: false,
        name: name.clone(),
        tags: tags.clone(),
        policy: POLICY.to_owned(),
        producers: record.producers.clone(),
        kems: record.kems.clone(),
        max_budget: record.max_budget,
        max_life: record.max_life,
        owners: owners.clone(),
        lease: 5,
        evidence: true,
        canary: Canary::No,
        witnessing: record.witnessing.clone(),
    };
    let created = DatasetCreated {
        dataset: DATASET,
        kek: KEK,
        kek_version: 1,
        public_key: world.dataset.public(),
        server_key: world.server.public(),
        log_key: world.server_log.key.clone(),
    };
    let row = DatasetRow {
        dataset: DATASET,
        name: name.clone(),
        tags,
    };
    let page = DatasetPage {
        rows: vec![row.clone()],
        more: true,
    };
    let view = |policy: Option<&str>, statement, canary| DatasetView {
        rotation: Some(Default::default()),
        class: Default::default(),
        exportable: policy.map(|_| false),
        row: row.clone(),
        kek: KEK,
        kek_version: 1,
        public_key: world.dataset.public(),
        producers: record.producers.clone(),
        kems: record.kems.clone(),
        max_budget: record.max_budget,
        max_life: record.max_life,
        policy: policy.map(str::to_owned),
        record: statement,
        owners: owners.clone(),
        lease: 5,
        evidence: true,
        canary,
        witnessing: record.witnessing.clone(),
        log_key: world.server_log.key.clone(),
    };
    let set = DatasetSet {
        rotation: Default::default(),
        class: Default::default(),
        name: name.clone(),
        max_budget: 10_000,
        max_life: 600,
        kems: vec![Kem::XWing],
        lease: 1,
        evidence: true,
        canary: Canary::Alarm,
        witnessing: Witnessing {
            mode: WitnessMode::Watch,
            policy: record.witnessing.policy.clone(),
        },
    };
    let owners_set = DatasetOwnersSet {
        name: name.clone(),
        owners: owners.clone(),
    };
    let canary = CanarySet {
        name: name.clone(),
        dek: DEK,
        canary: Canary::Deny,
    };
    let policy_set = DatasetPolicySet {
        name: name.clone(),
        text: POLICY.to_owned(),
        replaces: PolicyDigest([0x55; 32]),
    };
    let producer = ProducerAdd {
        name: name.clone(),
        producer: world.producer.public(),
    };
    let added = ProducerAdded {
        producer: world.producer.public().id(),
    };
    let case = item(case, "dataset-create", &create);
    let case = item(case, "dataset-created", &created);
    let case = item(case, "dataset-row", &row);
    let case = item(case, "dataset-page", &page);
    let case = item(case, "dataset-show", &DatasetShow { name });
    let at_key_server = view(Some(POLICY), None, Some(Canary::No)).to_cbor();
    let at_broker = view(None, Some(world.record_statement()), None).to_cbor();
    let case = case
        .gives_item("dataset-view, key server", "dataset-view", at_key_server)
        .gives_item("dataset-view, broker", "dataset-view", at_broker);
    let case = item(case, "dataset-set", &set);
    let case = item(case, "dataset-owners-set", &owners_set);
    let case = item(case, "canary-set", &canary);
    let case = item(case, "dataset-policy-set", &policy_set);
    let case = item(case, "producer-add", &producer);
    item(case, "producer-added", &added)
}

fn denials(world: &World, case: Case) -> Case {
    let denial = denial(world);
    let forget = Timestamp::LAST;
    let denied = Denied {
        epoch: 1,
        chain: chain_next(CHAIN_START, forget, &denial),
        before: CHAIN_START,
        record: denial.clone(),
    };
    let closed = Denied {
        chain: denied.chain,
        before: denied.chain,
        epoch: 1,
        record: Vec::new(),
    };
    let page = DenialPage {
        rows: vec![Numbered {
            epoch: 1,
            denial: denial.clone(),
        }],
        more: false,
    };
    let (body, proof) = feed_request(world, Vec::new());
    let subscriber = |last: Option<(Vec<u8>, Proof)>| Subscriber {
        key: world.server.public(),
        datasets: vec!["faces".to_owned()],
        lease: 5,
        silent_ms: last.as_ref().map(|_| 12),
        lease_ms: last.as_ref().map(|_| 4_988),
        applied_ms: None,
        last: last.map(|(body, proof)| Acknowledgement {
            body,
            exporter: AUTHENTICATOR,
            proof,
        }),
    };
    let heard = subscriber(Some((body, proof)));
    let broker = world.broker_tls.public();
    let verified = heard
        .last
        .as_ref()
        .map(|last| last.verify(REALM, &broker, &world.server.public()));
    assert!(matches!(verified, Some(Ok(_))), "an acknowledgement proves");
    let view = FeedView {
        epoch: 1,
        chain: denied.chain,
        subscribers: vec![heard.clone()],
        links: vec![Link {
            forget,
            record: DenialDigest::of(&denial),
        }],
    };
    let show = FeedShow {
        epoch: 1,
        hold_ms: 5_000,
    };
    let list = DenyList {
        after: 0,
        rows: 500,
    };
    let case = case
        .gives_item("denied", "denied", denied.to_cbor())
        .gives_item("denied, nobody", "denied", closed.to_cbor())
        .gives_item(
            "subscriber, silent",
            "subscriber",
            subscriber(None).to_cbor(),
        );
    let case = item(case, "deny-list", &list);
    let case = item(case, "denial-page", &page);
    let case = item(case, "feed-show", &show);
    let case = item(case, "subscriber", &heard);
    item(case, "feed-view", &view)
}

fn exposure_and_drafts(world: &World, case: Case) -> Case {
    let node = world.attributes.node.clone();
    let show = ExposureShow {
        selector: Selector::ticket(DATASET_TICKET),
        since: at(0),
        from: 0,
        rows: 500,
    };
    let exposed = Exposed {
        entry: 7,
        act: ACT,
        time: at(1),
        kind: Kind::Redeem,
        node: node.clone(),
        ticket: DATASET_TICKET,
        launch: Some(LAUNCH),
        dataset: DATASET,
        name: "faces".to_owned(),
        item: ItemDigest([0x53; 32]),
        dek: Some(DEK),
        context: Some(World::context()),
    };
    let forgotten = Exposed {
        launch: None,
        dek: None,
        context: None,
        ..exposed.clone()
    };
    let page = ExposurePage {
        rows: vec![exposed.clone(), forgotten],
        withheld: vec![ACT],
        next: Some(8),
    };
    let entry = EntryView {
        receipt: world.server_log.receipt(&world.entry(Kind::Redeem)),
    };
    let what_if = WhatIf {
        draft: POLICY.to_owned(),
        dataset: Some("faces".to_owned()),
        since: at(0),
        from: 0,
    };
    let changed = Changed {
        node,
        dataset: "faces".to_owned(),
        action: Action::Decrypt,
        gains: true,
        times: 3,
        recorded: Vec::new(),
        drafted: vec!["all".to_owned()],
    };
    let drafted = WhatIfPage {
        decisions: 12,
        changed: vec![changed.clone()],
        next: None,
    };
    let digest = policy_digest(POLICY);
    let set = PolicySet {
        text: POLICY.to_owned(),
        replaces: Some(digest),
    };
    let first = PolicySet {
        text: POLICY.to_owned(),
        replaces: None,
    };
    let text = PolicyText {
        text: POLICY.to_owned(),
        digest,
    };
    let case = item(case, "exposure", &show);
    let case = item(case, "exposed", &exposed);
    let case = item(case, "exposure-page", &page);
    let case = item(case, "entry-show", &EntryShow { index: 7 });
    let case = item(case, "entry-view", &entry);
    let case = item(case, "what-if", &what_if);
    let case = item(case, "changed", &changed);
    let case = item(case, "what-if-page", &drafted);
    let case = item(case, "policy-set", &set);
    let case = case.gives_item("policy-set, the first", "policy-set", first.to_cbor());
    let case = item(case, "policy-set-result", &PolicyTextSet { digest });
    item(case, "policy-text", &text)
}

/// Reading acts are statements too (ADM-4).
pub(super) fn status_payload(world: &World, id: u8) -> Payload {
    Payload::act(
        StatementId([id; 16]),
        REALM,
        world.broker_tls.public(),
        at(0),
        300,
        &StatusShow {},
    )
}
