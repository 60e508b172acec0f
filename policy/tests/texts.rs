//! Which texts are policies (POL-1 to POL-4), and what the others are told.

mod common;

use common::{policy, refused};
use policy::{MAX_TEXT_LEN, Policy, PolicyError};
use proptest::prelude::*;

fn with(condition: &str) -> String {
    format!("@id(\"p\")\npermit (principal, action, resource)\nwhen {{ {condition} }};\n")
}

#[test]
fn a_text_of_exactly_the_limit_is_read_and_one_byte_more_is_not() {
    let text = "/".repeat(MAX_TEXT_LEN);
    assert!(Policy::parse(&text).is_ok());
    let error = refused(&format!("{text}/"));
    assert_eq!(
        error,
        PolicyError::TooLarge {
            len: MAX_TEXT_LEN + 1
        }
    );
    assert_eq!(error.at(), None);
}

#[test]
fn an_unknown_attribute_is_named_with_its_place_and_the_nearest_one() {
    let PolicyError::Invalid(fault) = refused(&with(r#"principal.regoin == "eu-west-1""#)) else {
        panic!("not refused as invalid");
    };
    assert_eq!((fault.at.line, fault.at.column), (3, 8));
    assert!(fault.message.contains("`regoin`"), "{fault}");
    assert!(fault.message.contains("`p`"), "{fault}");
    assert!(
        fault
            .hint
            .as_deref()
            .is_some_and(|hint| hint.contains("`region`")),
        "{fault}"
    );
}

#[test]
fn a_syntax_fault_says_what_was_expected_there() {
    let PolicyError::Syntax(fault) = refused("@id(\"p\")\npermit (principal action, resource);")
    else {
        panic!("not refused as syntax");
    };
    assert_eq!((fault.at.line, fault.at.column), (2, 19));
    assert!(
        fault
            .expected
            .as_deref()
            .is_some_and(|e| e.contains("expected")),
        "{fault}"
    );
}

#[test]
fn columns_count_characters_and_not_bytes() {
    let error = refused(&with(r#""ééé" == principal.nope"#));
    assert_eq!(error.at().map(|at| (at.line, at.column)), Some((3, 17)));
}

#[test]
fn every_word_outside_the_schema_is_refused() {
    for (condition, named) in [
        (r#"principal.nope == "x""#, "nope"),
        (r#"resource.nope == "x""#, "nope"),
        (r#"context.nope == "x""#, "nope"),
        (r#"principal == Postern::User::"x""#, "Postern::User"),
        (r#"principal == Node::"x""#, "Node"),
        (r#"action == Postern::Action::"delete""#, "delete"),
        (r#"principal.hasTag("x")"#, "impossible"),
        (r#"principal.launched_at == "2026""#, "datetime"),
        (r#"principal.account == 1"#, "String"),
    ] {
        let error = refused(&with(condition)).to_string();
        assert!(error.contains(named), "{condition}: {error}");
    }
}

#[test]
fn what_may_be_absent_must_be_asked_for_first() {
    for condition in [
        r#"context.pairs.getTag("purpose") == "train""#,
        r#"resource.getTag("x") == "y""#,
        r#"context.source.isLoopback()"#,
        r#"context.pairs.hasTag("a") && context.pairs.getTag("b") == "1""#,
    ] {
        assert!(
            matches!(refused(&with(condition)), PolicyError::Invalid(_)),
            "{condition}"
        );
    }
}

#[test]
fn a_policy_that_can_never_apply_is_refused() {
    assert!(matches!(refused(&with("false")), PolicyError::Invalid(_)));
    let text = r#"@id("p") permit (principal is Postern::Dataset, action, resource);"#;
    assert!(matches!(refused(text), PolicyError::Invalid(_)));
}

#[test]
fn text_that_reads_otherwise_than_it_is_is_refused() {
    // A direction mark, and a Cyrillic letter among Latin ones.
    for value in ["a\u{202e}b", "s\u{0430}y"] {
        let error = refused(&with(&format!("resource.name == \"{value}\"")));
        assert!(matches!(error, PolicyError::Invalid(_)), "{error}");
    }
}

#[test]
fn a_literal_that_is_no_address_or_time_is_refused() {
    for condition in [
        r#"context has source && context.source.isInRange(ip("10.0.0.0/99"))"#,
        r#"context.time < datetime("tomorrow")"#,
        r#"context.time.durationSince(principal.launched_at) < duration("soon")"#,
    ] {
        assert!(
            matches!(refused(&with(condition)), PolicyError::Invalid(_)),
            "{condition}"
        );
    }
}

#[test]
fn every_policy_has_a_name_of_its_own() {
    let body = "permit (principal, action, resource);";
    let error = refused(&format!("@id(\"a\") {body}\n  @note(\"b\") {body}"));
    assert!(
        matches!(error, PolicyError::MissingId { at } if (at.line, at.column) == (2, 3)),
        "{error:?}"
    );

    let error = refused(&format!(
        "@id(\"a\") {body}\n@id(\"b\") {body}\n @id(\"a\") {body}"
    ));
    let PolicyError::DuplicateId { at, id } = error else {
        panic!("{error:?}")
    };
    assert_eq!((at.line, at.column, id.as_str()), (3, 2, "a"));
}

#[test]
fn a_name_fits_into_a_record() {
    let body = "permit (principal, action, resource);";
    let long = "x".repeat(65);
    for name in ["", " ", "a b", "a\\nb", "é", "a/b", long.as_str()] {
        let error = refused(&format!("@id(\"{name}\") {body}"));
        assert!(
            matches!(error, PolicyError::BadId { .. }),
            "{name}: {error:?}"
        );
    }
    assert!(matches!(
        refused(&format!("@id {body}")),
        PolicyError::BadId { .. }
    ));
    policy(&format!("@id(\"{}\") {body}", "x".repeat(64)));
    policy(&format!("@id(\"Train_v1.2-a\") {body}"));
}

#[test]
fn templates_are_refused() {
    let text = "@id(\"a\") permit (principal, action, resource);\n\
                @id(\"t\") permit (principal == ?principal, action, resource);";
    let error = refused(text);
    let PolicyError::Template { at } = error else {
        panic!("{error:?}")
    };
    assert_eq!(at.line, 2);
}

#[test]
fn digest_text_and_names_are_those_of_the_received_bytes() {
    let text = "// made by hand\n@id(\"b\") permit (principal, action, resource);\r\n\
                @id(\"a\") forbid (principal, action, resource) when { resource.name == \"x\" };";
    let policy = policy(text);
    assert_eq!(policy.text(), text);
    assert_eq!(policy.ids(), ["b", "a"]);
    let other = Policy::parse(&text.replace('\r', "")).expect("the same policy");
    assert_eq!(other.ids(), policy.ids());
    assert_ne!(other.digest(), policy.digest());
}

#[test]
fn the_digest_of_the_empty_text_is_sha_256_of_nothing() {
    let hex: String = policy("")
        .digest()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hex,
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

#[test]
fn policies_keep_their_names_when_one_is_put_in_before_them() {
    let numbered = |count: usize| {
        (0..count)
            .map(|n| format!("@id(\"n{n}\") permit (principal, action, resource) when {{ resource.name == \"{n}\" }};\n"))
            .collect::<String>()
    };
    let expected: Vec<String> = (0..30).map(|n| format!("n{n}")).collect();
    assert_eq!(policy(&numbered(30)).ids(), expected);
}

/// Texts that nest in each way that Cedar can nest, `count` times.
fn nested(count: usize) -> Vec<String> {
    let times = |piece: &str| piece.repeat(count);
    let chain = |piece: &str, end: &str| with(&format!("{}{end}", times(piece)));
    let mut texts: Vec<String> = [
        "(",
        "[",
        "{",
        "!",
        "-",
        "!(",
        "{a:",
        "ip(",
        "if ",
        "if true then true else ",
    ]
    .iter()
    .flat_map(|piece| [with(&times(piece)), times(piece)])
    .collect();
    texts.extend([
        with(&format!("{}true{}", times("("), times(")"))),
        with(&format!("{}1 == 1{}", times("1+("), times(")"))),
        with(&format!("principal{}", times(".a"))),
        with(&format!("principal{}", times("[\"a\"]"))),
        with(&format!(
            "context.time{} > context.time",
            times(".offset(duration(\"1s\"))")
        )),
        with(&format!("context has {}a", times("a."))),
        with(&format!("principal == {}x::\"a\"", times("x::"))),
        chain("true&&", "true"),
        chain("true||", "true"),
        chain("resource.hasTag(\"a\")||", "true"),
        chain("if resource.hasTag(\"a\") then true else ", "true"),
        chain("1+", "1 == 1"),
        chain("1-", "1 == 1"),
        chain("1*", "1 == 1"),
        format!(
            "@id(\"p\") permit (principal, action, resource) {};",
            times("when {true} ")
        ),
        format!(
            "@id(\"p\") permit (principal, action, resource) {};",
            times("unless {resource.name==\"a\"} ")
        ),
    ]);
    texts.retain(|text| text.len() <= MAX_TEXT_LEN);
    texts
}

/// Runs on as little stack as an async worker has.
fn on_a_small_stack(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(body);
    thread.expect("a thread").join().expect("no panic");
}

#[test]
fn no_nesting_that_fits_the_limit_exhausts_a_small_stack() {
    on_a_small_stack(|| {
        // Some of these run into each limit, and some just stay below it.
        for count in [31, 90, 450, 650, 990, 1_900, 4_000, 16_000, 30_000, 65_000] {
            for text in nested(count) {
                let _ = Policy::parse(&text);
            }
        }
    });
}

#[test]
fn every_policy_that_is_accepted_is_decided_on_a_small_stack() {
    on_a_small_stack(|| {
        let mut decided = 0;
        for count in [20, 31, 60, 90, 96] {
            for text in nested(count) {
                if let Ok(policy) = Policy::parse(&text) {
                    let decision = policy.decide(&common::request());
                    assert!(
                        decision.errors.is_empty(),
                        "{count}: {:?} {text}",
                        decision.errors
                    );
                    decided += 1;
                }
            }
        }
        assert!(decided > 40, "{decided}");
    });
}

#[test]
fn a_condition_that_is_too_deep_or_too_long_says_what_to_do() {
    let long = "resource.name == \"a\" || ".repeat(200);
    let error = refused(&with(&format!("{long} false")));
    assert!(matches!(error, PolicyError::TooDeep { .. }), "{error}");
    assert!(error.to_string().contains("split"), "{error}");
    let error = refused(&with(&format!("{} false", long.repeat(5))));
    assert!(matches!(error, PolicyError::TooLong { .. }), "{error}");
    // The same as a set is flat, and fine.
    let names = "\"a\", ".repeat(1_000);
    policy(&with(&format!("[{names} \"b\"].contains(resource.name)")));
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused_or_accepted_but_never_panics(text in "\\PC{0,200}") {
        let _ = Policy::parse(&text);
    }

    #[test]
    fn a_policy_with_any_one_character_changed_never_panics(at in 0usize..200, to in any::<char>()) {
        let good = with(r#"context.pairs.hasTag("a") && context.pairs.getTag("a") like "b*""#);
        let mut chars: Vec<char> = good.chars().collect();
        let index = at % chars.len();
        chars[index] = to;
        let text: String = chars.into_iter().collect();
        if let Err(error) = Policy::parse(&text) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }
}
