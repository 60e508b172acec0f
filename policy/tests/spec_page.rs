//! `spec/policy.md` is true: its schema is the one in use, and each of its examples decides each of
//! its requests as the page says.

use std::collections::BTreeMap;

use policy::{Dataset, Node, Policy, Request};
use serde_json::Value;

const PAGE: &str = include_str!("../../spec/policy.md");

/// The fenced blocks of the page: what stands after the fence, and the body.
fn blocks() -> Vec<(&'static str, &'static str)> {
    PAGE.split("```")
        .skip(1)
        .step_by(2)
        .map(|block| block.split_once('\n').expect("a fence ends with its line"))
        .collect()
}

#[test]
fn the_schema_on_the_page_is_the_one_in_use() {
    let schemas: Vec<_> = blocks()
        .into_iter()
        .filter(|(kind, _)| *kind == "cedarschema")
        .collect();
    assert_eq!(schemas, [("cedarschema", policy::SCHEMA)]);
}

#[test]
fn every_example_decides_its_requests_as_the_page_says() {
    let mut base = Value::Null;
    let mut example = None;
    let (mut examples, mut cases) = (0, 0);
    for (kind, body) in blocks() {
        match kind {
            "json base" => base = serde_json::from_str(body).expect("the base is JSON"),
            "cedar" => {
                example = Some(Policy::parse(body).unwrap_or_else(|e| panic!("{e}\n{body}")));
                examples += 1;
            }
            "json cases" => {
                let policy = example.take().expect("cases follow a policy");
                let listed: Vec<BTreeMap<String, Value>> =
                    serde_json::from_str(body).expect("the cases are JSON");
                for case in listed {
                    check(&policy, &base, case);
                    cases += 1;
                }
            }
            _ => {}
        }
    }
    assert_eq!((examples, cases), (4, 27));
}

fn check(policy: &Policy, base: &Value, mut case: BTreeMap<String, Value>) {
    let shown = format!("{case:?}");
    let allowed = case.remove("allowed").expect("a case says what comes out");
    let deciding = case.remove("deciding").expect("a case says what decides");
    let mut request = base.clone();
    for (path, value) in case {
        let pointer = format!("/{}", path.replace('.', "/"));
        let place = request
            .pointer_mut(&pointer)
            .unwrap_or_else(|| panic!("no member {path}"));
        *place = value;
    }
    let decision = policy.decide(&to_request(&request));
    assert_eq!(decision.errors, [""; 0], "{shown}");
    assert_eq!(Value::from(decision.allowed), allowed, "{shown}");
    assert_eq!(Value::from(decision.deciding), deciding, "{shown}");
}

fn to_request(json: &Value) -> Request {
    let text = |pointer: &str| {
        let value = json.pointer(pointer).and_then(Value::as_str);
        value
            .unwrap_or_else(|| panic!("no text at {pointer}"))
            .to_owned()
    };
    let time = |pointer: &str| {
        let time: jiff::Timestamp = text(pointer).parse().expect("RFC 3339");
        u64::try_from(time.as_second()).expect("after 1970")
    };
    let pairs = |pointer: &str| {
        let value = json.pointer(pointer).expect("a map").clone();
        serde_json::from_value(value).expect("a map of texts")
    };
    Request {
        node: Node {
            account: text("/node/account"),
            region: text("/node/region"),
            availability_zone: text("/node/availability_zone"),
            image: text("/node/image"),
            instance_type: text("/node/instance_type"),
            instance: text("/node/instance"),
            launch: text("/node/launch"),
            launched_at_unix: time("/node/launched_at"),
        },
        action: text("/action").parse().expect("an action"),
        dataset: Dataset {
            id: text("/dataset/id"),
            name: text("/dataset/name"),
            tags: pairs("/dataset/tags"),
            class: 3,
            aliases: None,
        },
        time_unix: time("/time"),
        source: json["source"]
            .as_str()
            .map(|address| address.parse().expect("an address")),
        pairs: pairs("/pairs"),
    }
}
