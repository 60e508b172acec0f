//! A request that every test starts from.

#![allow(
    dead_code,
    reason = "each test program takes in all of this and uses some"
)]

use std::collections::BTreeMap;

use policy::{Action, Dataset, Node, Policy, PolicyError, Request};

/// 2026-11-22T12:00:00Z.
pub(crate) const NOON: u64 = 1_795_348_800;

pub(crate) fn request() -> Request {
    Request {
        node: Node {
            account: "123456789012".into(),
            region: "eu-west-1".into(),
            availability_zone: "eu-west-1a".into(),
            image: "ami-0123456789abcdef0".into(),
            instance_type: "m7i.large".into(),
            instance: "i-0123456789abcdef0".into(),
            launch: "launch-1".into(),
            launched_at_unix: NOON - 600,
        },
        action: Action::Decrypt,
        dataset: Dataset {
            id: "d-6f1c".into(),
            name: "faces".into(),
            tags: BTreeMap::from([("sensitivity".into(), "high".into())]),
            class: 3,
            aliases: Some(["current".to_owned()].into()),
        },
        time_unix: NOON,
        source: Some("10.1.2.3".parse().expect("an address")),
        pairs: BTreeMap::from([("purpose".into(), "train".into())]),
    }
}

pub(crate) fn policy(text: &str) -> Policy {
    Policy::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[allow(
    dead_code,
    reason = "each test program takes in this module, not all parse bad texts"
)]
pub(crate) fn refused(text: &str) -> PolicyError {
    match Policy::parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error,
    }
}

/// One permit under the given condition.
pub(crate) fn permit_when(condition: &str) -> Policy {
    policy(&format!(
        r#"@id("p") permit (principal, action, resource) when {{ {condition} }};"#
    ))
}
