//! What a policy decides (POL-5 to POL-9), and that it fails closed.

mod common;

use std::net::IpAddr;
use std::sync::Arc;

use common::{NOON, permit_when, policy, request};
use policy::{Action, PairsRead, Policy, Prepared};

const PERMIT_ALL: &str = r#"@id("all") permit (principal, action, resource);"#;

#[test]
fn an_empty_policy_refuses_everything() {
    for text in ["", "  \n// nothing\n"] {
        let decision = policy(text).decide(&request());
        assert!(!decision.allowed);
        assert!(decision.deciding.is_empty());
        assert!(decision.errors.is_empty());
    }
}

#[test]
fn a_permit_that_does_not_match_refuses() {
    assert!(
        !permit_when(r#"principal.region == "us-east-1""#)
            .decide(&request())
            .allowed
    );
}

#[test]
fn a_matching_permit_allows_and_is_named() {
    let decision = policy(PERMIT_ALL).decide(&request());
    assert!(decision.allowed);
    assert_eq!(decision.deciding, ["all"]);
}

#[test]
fn every_permit_that_matches_is_named_in_order() {
    let text = format!(r#"@id("z") permit (principal, action, resource); {PERMIT_ALL}"#);
    assert_eq!(policy(&text).decide(&request()).deciding, ["all", "z"]);
}

#[test]
fn a_forbid_wins_over_every_permit_and_is_named() {
    let text = format!(
        r#"{PERMIT_ALL}
        @id("not-there") forbid (principal, action, resource)
        when {{ principal.account == "123456789012" }};"#
    );
    let decision = policy(&text).decide(&request());
    assert!(!decision.allowed);
    assert_eq!(decision.deciding, ["not-there"]);
}

/// An entity that is named but does not exist passes validation and fails evaluation.
const FAILS: &str = r#"Postern::Dataset::"no-such".name == "x""#;

#[test]
fn a_forbid_that_cannot_be_evaluated_refuses_instead_of_being_skipped() {
    let text = format!(
        r#"{PERMIT_ALL} @id("broken") forbid (principal, action, resource) when {{ {FAILS} }};"#
    );
    let decision = policy(&text).decide(&request());
    assert!(!decision.allowed);
    assert_eq!(decision.deciding, ["broken"]);
    assert_eq!(decision.errors.len(), 1);
    assert!(
        decision.errors[0].contains("broken"),
        "{:?}",
        decision.errors
    );
    assert!(
        decision.errors[0].contains("no-such"),
        "{:?}",
        decision.errors
    );
}

#[test]
fn a_permit_that_cannot_be_evaluated_refuses_even_beside_one_that_matches() {
    let text = format!(
        r#"{PERMIT_ALL} @id("broken") permit (principal, action, resource) when {{ {FAILS} }};"#
    );
    assert!(!policy(&text).decide(&request()).allowed);
}

#[test]
fn a_forbid_that_matches_is_named_before_one_that_cannot_be_evaluated() {
    let text = format!(
        r#"{PERMIT_ALL} @id("no") forbid (principal, action, resource);
        @id("broken") forbid (principal, action, resource) when {{ {FAILS} }};"#
    );
    let explained = policy(&text).explain(&request());
    assert!(!explained.decision.allowed);
    assert_eq!(explained.decision.deciding, ["no"]);
    assert_eq!(explained.decision.errors.len(), 1);
    assert_eq!(
        explained.reason,
        r#"decrypt of dataset "faces" is forbidden by no"#
    );
}

#[test]
fn every_attribute_of_the_schema_carries_what_the_request_says() {
    for condition in [
        r#"principal == Postern::Node::"ec2/123456789012/eu-west-1/i-0123456789abcdef0""#,
        r#"principal.account == "123456789012""#,
        r#"principal.region == "eu-west-1""#,
        r#"principal.availability_zone == "eu-west-1a""#,
        r#"principal.image == "ami-0123456789abcdef0""#,
        r#"principal.instance_type == "m7i.large""#,
        r#"principal.instance == "i-0123456789abcdef0""#,
        r#"principal.launch == "launch-1""#,
        r#"principal.launched_at == datetime("2026-11-22T11:50:00Z")"#,
        r#"resource == Postern::Dataset::"d-6f1c""#,
        r#"resource.id == "d-6f1c""#,
        r#"resource.name == "faces""#,
        r#"resource.hasTag("sensitivity") && resource.getTag("sensitivity") == "high""#,
        r#"action == Postern::Action::"decrypt""#,
        r#"context.time == datetime("2026-11-22T12:00:00Z")"#,
        r#"context has source && context.source == ip("10.1.2.3")"#,
        r#"context.pairs.hasTag("purpose") && context.pairs.getTag("purpose") == "train""#,
    ] {
        let decision = permit_when(condition).decide(&request());
        assert!(decision.allowed, "{condition}: {:?}", decision.errors);
    }
}

#[test]
fn each_action_is_itself_and_in_the_group_use() {
    for action in Action::ALL {
        let mut asked = request();
        asked.action = action;
        assert!(
            permit_when(r#"action in Postern::Action::"use""#)
                .decide(&asked)
                .allowed
        );
        let scoped =
            policy(r#"@id("p") permit (principal, action in Postern::Action::"use", resource);"#);
        assert!(scoped.decide(&asked).allowed);
        for other in Action::ALL {
            let one = format!(r#"action == Postern::Action::"{other}""#);
            assert_eq!(permit_when(&one).decide(&asked).allowed, other == action);
        }
    }
}

#[test]
fn a_pair_that_is_absent_is_a_plain_no() {
    let mut asked = request();
    asked.pairs.clear();
    let decision = permit_when(
        r#"context.pairs.hasTag("purpose") && context.pairs.getTag("purpose") == "train""#,
    )
    .decide(&asked);
    assert!(!decision.allowed);
    assert!(decision.errors.is_empty());
}

#[test]
fn an_unknown_source_is_absent() {
    let mut asked = request();
    asked.source = None;
    let inside = permit_when(r#"context has source && context.source.isInRange(ip("10.0.0.0/8"))"#);
    assert!(inside.decide(&request()).allowed);
    let decision = inside.decide(&asked);
    assert!(!decision.allowed);
    assert!(decision.errors.is_empty());
}

#[test]
fn an_ipv4_source_seen_through_an_ipv6_socket_is_still_in_its_ipv4_range() {
    let mut asked = request();
    let mapped: IpAddr = "::ffff:10.1.2.3".parse().expect("an address");
    asked.source = Some(mapped);
    let inside = permit_when(r#"context has source && context.source.isInRange(ip("10.0.0.0/8"))"#);
    assert!(inside.decide(&asked).allowed);
    asked.source = Some("2001:db8::1".parse().expect("an address"));
    assert!(!inside.decide(&asked).allowed);
}

#[test]
fn a_node_can_be_too_old() {
    let young =
        permit_when(r#"context.time.durationSince(principal.launched_at) < duration("1h")"#);
    let mut asked = request();
    assert!(young.decide(&asked).allowed);
    asked.time_unix = NOON + 3_000;
    assert!(!young.decide(&asked).allowed);
}

#[test]
fn a_time_beyond_the_calendar_refuses_and_says_so() {
    for (time, launched) in [(u64::MAX, 0), (NOON, u64::MAX), (i64::MAX as u64, 0)] {
        let mut asked = request();
        asked.time_unix = time;
        asked.node.launched_at_unix = launched;
        let decision = policy(PERMIT_ALL).decide(&asked);
        assert!(!decision.allowed);
        assert!(
            decision.errors[0].contains("calendar"),
            "{:?}",
            decision.errors
        );
    }
}

#[test]
fn the_last_second_of_the_calendar_can_be_decided() {
    let mut asked = request();
    asked.time_unix = 253_402_207_200;
    let decision = policy(PERMIT_ALL).decide(&asked);
    assert!(decision.allowed, "{:?}", decision.errors);
}

#[test]
fn two_nodes_cannot_share_a_name_by_putting_the_separator_into_a_part() {
    for (account, region) in [("1/2", "3"), ("1", "2/3"), ("", "3")] {
        let mut asked = request();
        asked.node.account = account.into();
        asked.node.region = region.into();
        let decision = policy(PERMIT_ALL).decide(&asked);
        assert!(!decision.allowed);
        assert_eq!(decision.errors.len(), 1);
    }
}

#[test]
fn values_cannot_break_out_of_their_quotes() {
    let mut asked = request();
    asked.node.image = r#"x" || true || "x"#.into();
    asked
        .pairs
        .insert("purpose".into(), "train\" == \"\0*".into());
    assert!(
        !permit_when(r#"principal.image == "ami-1""#)
            .decide(&asked)
            .allowed
    );
    assert!(
        permit_when(r#"principal.image like "x*x""#)
            .decide(&asked)
            .allowed
    );
}

#[test]
fn explain_decides_the_same_and_gives_one_line() {
    let mut asked = request();
    asked.dataset.name = "two\nlines".into();
    for (text, reason) in [
        (PERMIT_ALL.to_owned(), "is allowed by all"),
        (
            String::new(),
            "is refused because none of 0 policies permits it",
        ),
        (
            format!(r#"{PERMIT_ALL} @id("no") forbid (principal, action, resource);"#),
            "is forbidden by no",
        ),
        (
            format!(r#"@id("broken") forbid (principal, action, resource) when {{ {FAILS} }};"#),
            "is refused because it cannot be decided: error while evaluating policy `broken`",
        ),
    ] {
        let policy = policy(&text);
        let explained = policy.explain(&asked);
        assert_eq!(explained.decision, policy.decide(&asked));
        assert!(explained.reason.contains(reason), "{}", explained.reason);
        assert_eq!(explained.to_string().lines().count(), 1);
    }
}

#[test]
fn a_prepared_request_decides_each_item_as_a_whole_request_would() {
    let policy = permit_when(
        r#"context.pairs.hasTag("purpose") && context.pairs.getTag("purpose") == "train""#,
    );
    let mut asked = request();
    let prepared = Prepared::new(
        &asked.node,
        asked.action,
        &asked.dataset,
        asked.time_unix,
        asked.source,
    );
    for purpose in ["train", "sell"] {
        asked.pairs.insert("purpose".into(), purpose.into());
        let decision = policy.decide_prepared(&prepared, &asked.pairs);
        assert_eq!(decision, policy.decide(&asked));
        assert_eq!(decision.allowed, purpose == "train");
    }
}

#[test]
fn the_pairs_that_a_policy_reads_are_known_from_its_text() {
    let keys = |text: &str| match policy(text).pairs_read() {
        PairsRead::Keys(keys) => Some(keys.iter().cloned().collect::<Vec<_>>().join(",")),
        PairsRead::Any => None,
    };
    assert_eq!(keys(PERMIT_ALL).as_deref(), Some(""));
    let of = |condition: &str| {
        keys(&format!(
            r#"@id("p") permit (principal, action, resource) when {{ {condition} }};"#
        ))
    };
    // Reading the dataset's tags, the time or the source reads no pair.
    assert_eq!(of(r#"resource.hasTag("x")"#).as_deref(), Some(""));
    assert_eq!(
        of(r#"context has source && context.source.isIpv4()"#).as_deref(),
        Some("")
    );
    assert_eq!(of(r#"principal.image == "context""#).as_deref(), Some(""));
    assert_eq!(of(r#"context.pairs.hasTag("b")"#).as_deref(), Some("b"));
    assert_eq!(
        of(r#"if context.pairs.hasTag("b") then context.pairs.getTag("b") == "1" else !(context.pairs.hasTag("a"))"#)
            .as_deref(),
        Some("a,b")
    );
    // Record members named like operators hide nothing.
    assert_eq!(
        of(r#"{Value: context.pairs.hasTag("a")}.Value"#).as_deref(),
        Some("a")
    );
    assert_eq!(
        of(r#"{Var: context.pairs.hasTag("a")}.Var"#).as_deref(),
        Some("a")
    );
    // Computed keys and other uses of the pairs read all.
    assert_eq!(of("context.pairs.hasTag(resource.name)"), None);
    assert_eq!(of(r#"context.pairs == Postern::Pairs::"request""#), None);
    assert_eq!(of(r#"{c: context}.c.pairs.hasTag("a")"#), None);
}

#[test]
fn one_policy_is_shared_between_threads() {
    fn assert_shared<T: Send + Sync + 'static>() {}
    assert_shared::<Policy>();
    assert_shared::<Prepared>();
    let policy = Arc::new(policy(PERMIT_ALL));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let policy = Arc::clone(&policy);
            std::thread::spawn(move || policy.decide(&request()).allowed)
        })
        .collect();
    assert!(
        threads
            .into_iter()
            .all(|thread| thread.join().expect("no panic"))
    );
}
