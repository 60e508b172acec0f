//! What one decision costs, by how much of the request is prepared beforehand.
//!
//! `cargo run --release -p postern-policy --example measure`

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use policy::{Action, Dataset, Node, Policy, PolicyError, Prepared, Request};

const TYPICAL: &str = r#"
@id("train-decrypt")
permit (principal, action in [Postern::Action::"decrypt", Postern::Action::"rewrap"], resource)
when {
    principal.account == "123456789012" &&
    ["eu-west-1", "eu-central-1"].contains(principal.region) &&
    resource.name == "faces" &&
    context.pairs.hasTag("purpose") && context.pairs.getTag("purpose") == "train"
};

@id("young-nodes-only")
forbid (principal, action, resource)
when { context.time.durationSince(principal.launched_at) > duration("12h") };

@id("inside-only")
forbid (principal, action, resource)
unless { context has source && context.source.isInRange(ip("10.0.0.0/8")) };
"#;

fn main() -> Result<(), PolicyError> {
    let policy = Policy::parse(TYPICAL)?;
    let request = request();
    let prepared = Prepared::new(
        &request.node,
        request.action,
        &request.dataset,
        request.time_unix,
        request.source,
    );
    assert!(
        policy.decide(&request).allowed,
        "the measured request is an allowed one"
    );

    measure("parse and validate", || {
        Policy::parse(black_box(TYPICAL)).is_ok()
    });
    measure("decide", || policy.decide(black_box(&request)).allowed);
    measure("decide, prepared", || {
        policy.decide_prepared(&prepared, &request.pairs).allowed
    });
    let empty = Policy::parse("")?;
    measure("decide by an empty policy", || {
        empty.decide(black_box(&request)).allowed
    });

    let many: String = (0..100)
        .map(|n| {
            format!("@id(\"n{n}\") permit (principal, action, resource) when {{ resource.name == \"{n}\" }};")
        })
        .collect();
    let many = Policy::parse(&many)?;
    measure("decide by 100 policies, prepared", || {
        many.decide_prepared(&prepared, &request.pairs).allowed
    });
    Ok(())
}

fn measure(what: &str, mut act: impl FnMut() -> bool) {
    let started = Instant::now();
    let mut rounds = 0u32;
    while started.elapsed() < Duration::from_millis(500) {
        for _ in 0..10 {
            black_box(act());
        }
        rounds += 10;
    }
    let micros = started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
    println!("{what:36} {micros:10.1} us");
}

fn request() -> Request {
    Request {
        node: Node {
            account: "123456789012".into(),
            region: "eu-west-1".into(),
            availability_zone: "eu-west-1a".into(),
            image: "ami-0123456789abcdef0".into(),
            instance_type: "m7i.large".into(),
            instance: "i-0123456789abcdef0".into(),
            launch: "launch-1".into(),
            launched_at_unix: 1_795_348_200,
        },
        action: Action::Decrypt,
        dataset: Dataset {
            id: "d-6f1c".into(),
            name: "faces".into(),
            tags: BTreeMap::from([("sensitivity".into(), "high".into())]),
            class: 3,
            aliases: None,
        },
        time_unix: 1_795_348_800,
        source: Some(std::net::Ipv4Addr::new(10, 1, 2, 3).into()),
        pairs: BTreeMap::from([
            ("object".into(), "2026/11/22/000017.tar".into()),
            ("purpose".into(), "train".into()),
        ]),
    }
}
