//! No two things share a key of the store, and no node of one account or region is taken for another's
//! (CVE-2025-11621, CVE-2025-59048).
#![allow(missing_docs)]

use std::collections::BTreeMap;

use broker::state::keys;
use ticket_format::ids::{ActId, DatasetId, LaunchId, NodeId, StatementId, Thumbprint};

/// Nodes that agree in all but one part, or run into each other where parts are put together.
fn nodes() -> Vec<NodeId> {
    let mut nodes = Vec::new();
    for account in ["111111111111", "111111111112", "211111111111"] {
        for region in [
            "eu-west-1",
            "eu-west-11",
            "eu-west-1-i-01234567",
            "i-01234567",
        ] {
            for instance in ["i-01234567", "i-01234567012345670", "i-01234567012345671"] {
                nodes.push(NodeId::new(account, region, instance).unwrap());
            }
        }
    }
    nodes
}

/// The keys of all kinds of records, each with what it is of. The same bytes are the id of one of each kind.
fn all() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut put = |what: &str, of: &dyn std::fmt::Debug, key: String| {
        all.push((key, format!("{what} {of:?}")));
    };
    let constants = [
        keys::FEED_HEAD,
        keys::ADMIN_SET_HEAD,
        keys::PROPOSALS,
        keys::POLICY,
        keys::POLICY_TEXT,
        keys::TICKET_KEY_SIGNS,
        keys::TICKET_KEY_ERASED,
        keys::TIME,
        keys::ROLLED_BACK,
        keys::RECOVERY,
    ];
    for constant in constants {
        put("constant", &constant, constant.to_owned());
    }
    for node in nodes() {
        put("node", &node, keys::node(&node));
        for launch in [LaunchId([1; 16]), LaunchId([2; 16])] {
            put("use", &(launch, &node), keys::launch_use(launch, &node));
        }
    }
    for id in [[1; 16], [2; 16]] {
        put("launch", &id, keys::launch(LaunchId(id)));
        put("dataset", &id, keys::dataset(DatasetId(id)));
        put("report", &id, keys::report(ActId(id)));
        put("statement", &id, keys::statement(StatementId(id)));
        put("outbox", &id, keys::outbox(ActId(id)));
        put("key", &id, keys::key(Thumbprint([id[0]; 32])));
        for part in [0, 1, 11] {
            let key = keys::proposal_part(StatementId(id), part);
            put("proposal", &(id, part), key);
        }
    }
    for number in [0, 1, 11, u64::MAX] {
        put("epoch", &number, keys::epoch(number));
        put("admin set", &number, keys::admin_set(number));
        put("ticket key", &number, keys::ticket_key(number));
    }
    for part in [0, 1, 11] {
        put("policy part", &part, keys::policy_part(part));
    }
    for name in [
        "", "a", "A", "a/b", "a/", "text", "current", "\u{e9}", "e\u{301}", "61",
    ] {
        put("name", &name, keys::dataset_name(name));
        put("alias", &name, keys::alias(name));
    }
    all
}

#[test]
fn cve_2025_11621_no_two_things_share_a_key_of_the_store() {
    let mut known = BTreeMap::new();
    let all = all();
    assert!(all.len() > 150);
    for (key, what) in &all {
        if let Some(other) = known.insert(key, what) {
            panic!("{key} is the key of {other} and of {what}");
        }
    }
    // Who reads all of one kind reads none of another.
    let kinds = [
        (keys::LAUNCHES, "launch"),
        (keys::NODES, "node"),
        (keys::KEYS, "key"),
        (keys::EPOCHS, "epoch"),
        (keys::REPORTS, "report"),
        (keys::DATASETS, "dataset"),
        (keys::DATASET_NAMES, "name"),
        (keys::ALIASES, "alias"),
        (keys::ADMIN_SETS, "admin set"),
        (keys::STATEMENTS, "statement"),
        (keys::OUTBOX, "outbox"),
        (keys::TICKET_KEYS, "ticket key"),
    ];
    for (prefix, kind) in kinds {
        for (key, what) in &all {
            let of_it = what
                .strip_prefix(kind)
                .is_some_and(|rest| rest.starts_with(' '));
            assert_eq!(key.starts_with(prefix), of_it, "{prefix}: {key}, {what}");
        }
    }
    for launch in [LaunchId([1; 16]), LaunchId([2; 16])] {
        let prefix = keys::launch_uses(launch);
        let uses = all.iter().filter(|(key, _)| key.starts_with(&prefix));
        assert_eq!(uses.count(), nodes().len());
    }
}

#[test]
fn cve_2025_59048_a_nodes_name_is_read_back_as_its_parts_and_no_others() {
    let nodes = nodes();
    for (at, node) in nodes.iter().enumerate() {
        let read: NodeId = node.to_string().parse().unwrap();
        let same: Vec<usize> = (0..nodes.len())
            .filter(|other| nodes[*other] == read)
            .collect();
        assert_eq!(same, [at], "{node}");
        let parts = (read.account(), read.region(), read.instance());
        assert_eq!(parts, (node.account(), node.region(), node.instance()));
    }
    for odd in [
        "ec2/111111111111/eu-west-1//i-01234567",
        "ec2/111111111111/../i-01234567",
        "ec2/11111111111/1eu-west-1/i-01234567/",
        "EC2/111111111111/eu-west-1/i-01234567",
        "ec2/111111111111/eu-west-1/I-01234567",
        "ec2/ 111111111111/eu-west-1/i-01234567",
        "ec2/111111111111/eu-west-1/i-01234567\n",
        "111111111111/eu-west-1/i-01234567",
    ] {
        assert!(odd.parse::<NodeId>().is_err(), "{odd:?}");
    }
}
