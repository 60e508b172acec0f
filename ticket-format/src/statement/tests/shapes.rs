//! Each act's body and result, member by member.

use super::*;
use crate::denial::Link;
use crate::entry::Kind;
use crate::ids::{ActId, DekId, DenialDigest, ItemDigest};
use crate::messages::samples::{log_secret, proof, receipt};
use crate::pairs::Context;
use crate::sign::Exporter;
use crate::ticket::Action;

#[test]
fn payload_and_launches_hold_to_their_shapes() {
    // rule: ENC-3
    strict(&payload(), &[], &[]);
    strict(&launch(), &[], &[4, 5, 12]);
    let view = LaunchView {
        launch: launch(),
        digest: StatementDigest([1; 32]),
        used: 1,
        nodes: vec![node()],
        closed: false,
    };
    strict(&view, &[], &[4]);
    strict(
        &LaunchPage {
            rows: vec![view],
            more: true,
        },
        &[],
        &[1],
    );
    strict(&LaunchList::after("x"), &[], &[1]);
    strict(
        &LaunchShow {
            launch: LaunchId([1; 16]),
        },
        &[],
        &[],
    );
    strict(
        &LaunchClose {
            launch: LaunchId([1; 16]),
            deny: true,
            reason: "done".into(),
        },
        &[],
        &[3],
    );
    strict(&deny(), &[], &[2]);
    strict(
        &Denied {
            epoch: 1,
            chain: ChainDigest([1; 32]),
            before: ChainDigest([2; 32]),
            record: vec![3],
        },
        &[],
        &[4],
    );
    strict(
        &Undeny {
            denials: vec![(1, DenialDigest([1; 32])), (2, DenialDigest([2; 32]))],
            reason: "found it".into(),
        },
        &[],
        &[2],
    );
    strict(
        &DenyList {
            after: 0,
            rows: 500,
        },
        &[],
        &[],
    );
    strict(
        &DenialPage {
            rows: vec![Numbered {
                epoch: 1,
                denial: vec![1],
            }],
            more: false,
        },
        &[],
        &[1],
    );
}

#[test]
fn datasets_policies_nodes_and_status_hold_to_their_shapes() {
    // rule: ENC-3
    let create = DatasetCreate {
        rotation: Default::default(),
        class: Default::default(),
        name: "maps".into(),
        tags: tags(),
        policy: "permit(principal, action, resource);".into(),
        producers: vec![key(1)],
        kems: vec![Kem::XWing],
        max_budget: 1,
        max_life: 1,
        owners: vec![key(3)],
        lease: 300,
        evidence: true,
        canary: Canary::Deny,
        witnessing: witnessing(),
        exportable: true,
    };
    strict(&create, &[], &[2, 4]);
    let mut doubled = create.clone();
    doubled.kems = vec![Kem::XWing, Kem::XWing];
    assert!(
        DatasetCreate::from_cbor(&doubled.to_cbor(), usize::MAX).is_err(),
        "a KEM twice"
    );
    for lease in [0, 301] {
        let other = DatasetCreate {
            lease,
            ..create.clone()
        };
        assert!(DatasetCreate::from_cbor(&other.to_cbor(), usize::MAX).is_err());
    }
    let owners = vec![key(3), key(3)];
    let doubled = DatasetCreate { owners, ..create };
    assert!(
        DatasetCreate::from_cbor(&doubled.to_cbor(), usize::MAX).is_err(),
        "an owner twice"
    );
    let (dataset, kek, public_key) = (DatasetId([1; 16]), KekId([2; 16]), sealing(Kem::XWing));
    strict(
        &DatasetCreated {
            dataset,
            kek,
            kek_version: 1,
            public_key: public_key.clone(),
            server_key: key(1),
            log_key: log_secret().key().clone(),
        },
        &[],
        &[],
    );
    strict(&record(), &[], &[3, 10]);
    let row = DatasetRow {
        dataset,
        name: "maps".into(),
        tags: tags(),
    };
    strict(&row, &[], &[3]);
    strict(
        &DatasetPage {
            rows: vec![row.clone()],
            more: false,
        },
        &[],
        &[1],
    );
    let view = DatasetView {
        rotation: Some(Default::default()),
        class: Default::default(),
        exportable: Some(true),
        row,
        kek,
        kek_version: 1,
        public_key,
        producers: vec![key(1)],
        kems: vec![Kem::XWing],
        max_budget: 1,
        max_life: 1,
        policy: Some("permit(principal, action, resource);".into()),
        record: Some(vec![1]),
        owners: vec![key(3)],
        lease: 1,
        evidence: false,
        canary: Some(Canary::No),
        witnessing: Witnessing::none(),
        log_key: log_secret().key().clone(),
    };
    strict(&view, &[], &[5]);
    strict(
        &DatasetShow {
            name: "maps".into(),
        },
        &[],
        &[],
    );
    strict(
        &DatasetPolicySet {
            name: "maps".into(),
            text: "x".into(),
            replaces: PolicyDigest([1; 32]),
        },
        &[],
        &[],
    );
    strict(
        &DatasetSet {
            rotation: Default::default(),
            class: Default::default(),
            name: "maps".into(),
            max_budget: 1,
            max_life: 2,
            kems: vec![Kem::XWing],
            lease: 5,
            evidence: true,
            canary: Canary::Alarm,
            witnessing: witnessing(),
        },
        &[],
        &[],
    );
    strict(
        &DatasetOwnersSet {
            name: "maps".into(),
            owners: vec![key(3)],
        },
        &[],
        &[],
    );
    strict(
        &CanarySet {
            name: "maps".into(),
            dek: DekId([1; 16]),
            canary: Canary::Deny,
        },
        &[],
        &[],
    );
    strict(
        &ProducerAdd {
            name: "maps".into(),
            producer: key(1),
        },
        &[],
        &[],
    );
    strict(
        &ProducerAdded {
            producer: ProducerId([1; 16]),
        },
        &[],
        &[],
    );
    strict(
        &PolicySet {
            text: "x".into(),
            replaces: Some(PolicyDigest([1; 32])),
        },
        &[],
        &[],
    );
    strict(
        &PolicyText {
            text: "x".into(),
            digest: PolicyDigest([1; 32]),
        },
        &[],
        &[1],
    );
    strict(
        &PolicyTextSet {
            digest: PolicyDigest([1; 32]),
        },
        &[],
        &[],
    );
    let attributes = Attributes {
        node: node(),
        availability_zone: "eu-west-1a".into(),
        image: "ami-1".into(),
        instance_type: "m7g.large".into(),
        launched_at: at(0),
    };
    let view = NodeView {
        attributes,
        launch: LaunchId([1; 16]),
        state: NodeState::Frozen,
        node_key: key(1),
        logged_in: at(0),
        renewed: at(1),
        until: at(2),
        reason: "fork".into(),
    };
    strict(&view, &[], &[8]);
    strict(
        &NodePage {
            rows: vec![view],
            more: false,
        },
        &[],
        &[1],
    );
    strict(
        &NodeUnfreeze {
            node: node(),
            node_key: key(1),
        },
        &[],
        &[],
    );
    let ticket = TicketView {
        ticket: TicketId([1; 16]),
        node: node(),
        launch: LaunchId([1; 16]),
        dataset: Some(dataset),
        parent: Some(TicketId([2; 16])),
        issued: at(0),
        expires: at(1),
        budget: 5,
        denied: true,
    };
    strict(&ticket, &[], &[]);
    let status = Status {
        role: Role::KeyServer,
        version: "0.1.0".into(),
        started: at(0),
        now: at(1),
        epoch: 2,
        chain: ChainDigest([1; 32]),
        entries: 3,
        lease_ms: Some(4_000),
        datasets: 5,
        holders: 6,
    };
    strict(&status, &[], &[]);
    assert_eq!(Nothing {}.to_cbor(), [0xa0]);
    assert!(Nothing::from_cbor(&[0xa1, 1, 1], 8).is_err());
}

#[test]
fn admin_sets_and_proposals_hold_to_their_shapes() {
    // rule: ENC-3, SET-1, PRO-1
    let mut body = house::body();
    strict(&body, &[], &[]);
    body.admins[0].kind = AdminKeyKind::SecurityKey;
    body.admins[0].application = Some("ssh:".into());
    strict(&body.admins[0], &[5], &[]);
    for quorum in [0, 17] {
        let quorums = BTreeMap::from([(Act::Deny, quorum)]);
        let other = AdminSetBody {
            quorums,
            ..body.clone()
        };
        assert!(AdminSetBody::from_cbor(&other.to_cbor(), usize::MAX).is_err());
    }
    strict(&AdminSetShow { after: 1 }, &[], &[]);
    strict(
        &AdminSetPage {
            statements: vec![vec![1]],
            more: false,
        },
        &[],
        &[1],
    );
    let row = ProposalRow {
        id: StatementId([1; 16]),
        act: Act::Undeny,
        audience: Audience::Everyone,
        signers: vec!["security-1".into()],
        counting: 1,
        needed: 2,
        until: at(0),
    };
    strict(&row, &[], &[]);
    strict(&Propose { statement: vec![1] }, &[], &[]);
    strict(
        &ProposalView {
            row: row.clone(),
            statement: vec![1],
        },
        &[],
        &[],
    );
    strict(
        &ProposalPage {
            rows: vec![row],
            more: true,
        },
        &[],
        &[1],
    );
    strict(&ProposalList::first(), &[], &[1]);
    let id = StatementId([1; 16]);
    strict(&ProposalShow { id }, &[], &[]);
    strict(&ProposalWithdraw { id }, &[], &[]);
}

#[test]
fn the_feeds_view_the_exposure_and_what_if_hold_to_their_shapes() {
    // rule: ENC-3
    strict(
        &FeedShow {
            epoch: 1,
            hold_ms: 30_000,
        },
        &[],
        &[],
    );
    let acknowledgement = Acknowledgement {
        body: vec![1],
        exporter: Exporter([2; 32]),
        proof: proof(),
    };
    strict(&acknowledgement, &[], &[]);
    let subscriber = Subscriber {
        key: key(1),
        datasets: vec!["maps".into()],
        lease: 5,
        last: Some(acknowledgement),
        silent_ms: Some(1),
        lease_ms: Some(2),
        applied_ms: Some(3),
    };
    strict(&subscriber, &[], &[2]);
    strict(
        &FeedView {
            epoch: 1,
            chain: ChainDigest([1; 32]),
            subscribers: vec![subscriber],
            links: vec![Link {
                forget: at(0),
                record: DenialDigest([1; 32]),
            }],
        },
        &[],
        &[3, 4],
    );
    strict(
        &ExposureShow {
            selector: Selector::node(node()),
            since: at(0),
            from: 0,
            rows: 500,
        },
        &[],
        &[],
    );
    let exposed = Exposed {
        entry: 1,
        act: ActId([1; 16]),
        time: at(0),
        kind: Kind::Rewrap,
        node: node(),
        ticket: TicketId([2; 16]),
        launch: Some(LaunchId([3; 16])),
        dataset: DatasetId([4; 16]),
        name: "maps".into(),
        item: ItemDigest([5; 32]),
        dek: Some(DekId([6; 16])),
        context: Some(Context::named("a.jpg").unwrap()),
    };
    strict(&exposed, &[], &[12]);
    let other = Exposed {
        kind: Kind::Present,
        ..exposed.clone()
    };
    assert!(Exposed::from_cbor(&other.to_cbor(), usize::MAX).is_err());
    strict(
        &ExposurePage {
            rows: vec![exposed],
            withheld: vec![ActId([1; 16])],
            next: Some(9),
        },
        &[],
        &[1, 2],
    );
    strict(&EntryShow { index: 1 }, &[], &[]);
    strict(&EntryView { receipt: receipt() }, &[], &[]);
    strict(
        &LogRecover {
            shard: "test/broker/0101010101010101/3".into(),
            size: 7,
            root: [1; 32],
        },
        &[],
        &[],
    );
    let witness = WitnessRow {
        name: "witness.example/w1".into(),
        size: Some(7),
        ago_ms: Some(100),
        state: WitnessState::Good,
    };
    strict(&witness, &[], &[]);
    strict(
        &LogView {
            key: log_secret().key().clone(),
            checkpoint: "c".into(),
            state: LogState::RolledBack,
            wrong: "a witness has seen more".into(),
            witnesses: vec![witness],
        },
        &[],
        &[4, 5],
    );
    strict(
        &WhatIf {
            draft: "x".into(),
            dataset: Some("maps".into()),
            since: at(0),
            from: 1,
        },
        &[],
        &[],
    );
    let changed = Changed {
        node: node(),
        dataset: "maps".into(),
        action: Action::Encrypt,
        gains: true,
        times: 3,
        recorded: vec!["old".into()],
        drafted: vec!["new".into()],
    };
    strict(&changed, &[], &[6, 7]);
    strict(
        &WhatIfPage {
            decisions: 5,
            changed: vec![changed],
            next: Some(1),
        },
        &[],
        &[2],
    );
}
