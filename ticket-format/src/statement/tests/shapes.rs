//! Each act's body and result, member by member.

use super::*;

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
        },
        &[],
        &[],
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
        name: "maps".into(),
        tags: tags(),
        policy: "permit(principal, action, resource);".into(),
        producers: vec![key(1)],
        kems: vec![Kem::XWing],
        max_budget: 1,
        max_life: 1,
    };
    strict(&create, &[], &[2, 4]);
    let mut doubled = create.clone();
    doubled.kems = vec![Kem::XWing, Kem::XWing];
    assert!(
        DatasetCreate::from_cbor(&doubled.to_cbor(), usize::MAX).is_err(),
        "a KEM twice"
    );
    let (dataset, kek, public_key) = (DatasetId([1; 16]), KekId([2; 16]), sealing(Kem::XWing));
    strict(
        &DatasetCreated {
            dataset,
            kek,
            kek_version: 1,
            public_key: public_key.clone(),
            server_key: key(1),
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
        row,
        kek,
        kek_version: 1,
        public_key,
        producers: vec![key(1)],
        kems: vec![Kem::XWing],
        max_budget: 1,
        max_life: 1,
        policy: Some("permit(principal, action, resource);".into()),
        record: Some(StatementDigest([1; 32])),
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
    strict(&PolicySet { text: "x".into() }, &[], &[]);
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
