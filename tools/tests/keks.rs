//! Commands on KEK versions: what is refused before anything is asked, and what is said of their acts.

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Place, now, secret};
use ticket_format::ids::{AttemptId, ItemDigest, KekId, RootId, StatementId};
use ticket_format::keys::TlsSecret;
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::statement::{
    ActBody, Canary, DatasetSet, KekDestroy, KekKeep, KekList, KekRotate, KekSet, Payload, Rekey,
    RootShow, Rotation, SEALED_SHARE, SealServer, ShareGive, ShareHolder, SharePurpose, Witnessing,
    WrapList,
};

/// Beyond the arguments the configuration is missing.
const GOOD: u8 = 10;
const USAGE: u8 = 2;

fn codes(cases: &[(&[&str], u8)]) {
    let place = Place::new();
    place.write(
        "policy",
        "@id(\"all\") permit (principal, action, resource);",
    );
    for (arguments, code) in cases {
        let said = place.run(&[&["dataset"], *arguments].concat());
        assert_eq!(said.code, i32::from(*code), "{arguments:?}: {}", said.err);
        assert_eq!(said.out, "", "{arguments:?}");
        assert!(
            !said.err.contains("panicked"),
            "{arguments:?}: {}",
            said.err
        );
    }
}

#[test]
fn a_version_is_named_by_its_number_and_nothing_is_done_without_one() {
    for command in ["wraps", "disable-kek", "enable-kek", "destroy", "keep"] {
        codes(&[
            (&[command, "faces", "--version", "1"], GOOD),
            (&[command, "faces"], USAGE),
            (&[command], USAGE),
            (&[command, "faces", "--version", "v1"], USAGE),
            (&[command, "faces", "--version", "-1"], USAGE),
            (&[command, "", "--version", "1"], USAGE),
            (&[command, &"x".repeat(129), "--version", "1"], USAGE),
            (&[command, "fa\u{1b}ces", "--version", "1"], USAGE),
        ]);
    }
}

#[test]
fn a_rotation_follows_a_version_by_its_number() {
    // rule: KEK-2
    codes(&[
        (&["rotate", "faces"], GOOD),
        (&["rotate", "faces", "--after", "3"], GOOD),
        (&["rotate", "faces", "--after", "three"], USAGE),
        (&["rotate"], USAGE),
        (&["rotate", ""], USAGE),
        (&["keks", "faces"], GOOD),
        (&["keks"], USAGE),
        (&["keks", ""], USAGE),
    ]);
}

#[test]
fn a_destruction_waits_7_to_90_days() {
    // rule: KEK-4
    let days = |days: &'static str| ["destroy", "faces", "--version", "1", "--days", days];
    for (wait, code) in [
        ("7", GOOD),
        ("90", GOOD),
        ("6", USAGE),
        ("91", USAGE),
        ("0", USAGE),
        ("30d", USAGE),
    ] {
        codes(&[(&days(wait), code)]);
    }
}

#[test]
fn a_list_of_wraps_goes_on_behind_a_digest() {
    // rule: INV-1
    let wraps = ["wraps", "faces", "--version", "1"];
    let digest = "ab".repeat(32);
    for (more, code) in [
        (["--after", digest.as_str()], GOOD),
        (["--after", "ab"], USAGE),
        (["--limit", "1"], GOOD),
        (["--limit", "0"], USAGE),
        (["--limit", "1000001"], USAGE),
    ] {
        codes(&[(&[&wraps[..], &more].concat(), code)]);
    }
}

#[test]
fn a_rotation_rule_is_taken_in_times_and_numbers_or_never() {
    // rule: KEK-3
    let create = ["create", "faces", "--policy", "policy"];
    for (rule, code) in [
        (&["--rotate-after", "90d"][..], GOOD),
        (&["--rotate-after", "1d", "--rotate-wraps", "1000"], GOOD),
        (&["--rotate-after", "never"], GOOD),
        (&["--rotate-on-denial"], GOOD),
        (&["--rotate-on-denial=false"], GOOD),
        (&["--rotate-after", "23h"], USAGE),
        (&["--rotate-after", "90"], USAGE),
        (&["--rotate-after", "often"], USAGE),
        (&["--rotate-wraps", "999"], USAGE),
        (&["--rotate-wraps", "many"], USAGE),
        (&["--rotate-on-denial=perhaps"], USAGE),
    ] {
        codes(&[(&[&create[..], rule].concat(), code)]);
    }
    let often = Place::new();
    often.write(
        "policy",
        "@id(\"all\") permit (principal, action, resource);",
    );
    let said = often.run(&[&["dataset"], &create[..], &["--rotate-wraps", "999"]].concat());
    assert!(
        said.err.contains("rotated too often") && said.err.contains("1000"),
        "{}",
        said.err
    );
}

/// What is said of a statement, without asking a server: its words and its body.
fn inspected<B: ActBody>(body: &B) -> (String, Value) {
    let place = Place::new();
    let server = TlsSecret::from_seed(&[1; 32]).public();
    let payload = Payload::act(StatementId([5; 16]), "example", server, now(), 300, body);
    place.write("statement", payload.sign(&[&secret("second")]).unwrap());
    let shown = place.run(&["inspect", "statement", "statement", "--format", "json"]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    let shown = shown.json();
    assert_eq!(shown["v"], 1);
    let words = shown["words"].as_array().unwrap().iter();
    let words: Vec<&str> = words.map(|line| line.as_str().unwrap()).collect();
    assert!(words.len() > 1, "{words:?}");
    (words.join("\n"), shown["body"].clone())
}

fn kek() -> KekId {
    KekId([0x2d; 16])
}

fn name() -> String {
    "faces".to_owned()
}

#[test]
fn each_act_on_a_kek_version_is_said_in_words() {
    // rule: PRO-3, KEK-1, KEK-2, KEK-4
    let (words, body) = inspected(&KekRotate {
        name: name(),
        replaces: kek(),
    });
    assert!(
        words.contains("makes the next KEK version of dataset \"faces\""),
        "{words}"
    );
    assert_eq!(body["replaces"], kek().to_string());
    for (usable, wanted) in [(true, "takes back into use"), (false, "TAKES OUT OF USE")] {
        let (words, body) = inspected(&KekSet {
            name: name(),
            kek: kek(),
            usable,
        });
        assert!(words.contains(wanted), "{words}");
        assert_eq!(body["usable"], usable);
    }
    let (words, body) = inspected(&KekDestroy {
        name: name(),
        kek: kek(),
        days: 30,
        wraps: 12,
        dependants: [7; 32],
    });
    for wanted in [
        "DESTROYS the KEK version of dataset \"faces\"",
        "30 days later",
        "12 known wrap(s)",
    ] {
        assert!(words.contains(wanted), "{words}");
    }
    assert_eq!(body["dependants"], "07".repeat(32));
    let (words, body) = inspected(&KekKeep {
        name: name(),
        kek: kek(),
    });
    assert!(words.contains("it is disabled then"), "{words}");
    assert_eq!(body["kek"], kek().to_string());
    let (words, body) = inspected(&KekList { name: name() });
    assert!(words.contains("asks for the KEK versions"), "{words}");
    assert_eq!(body["name"], "faces");
    let (words, body) = inspected(&WrapList {
        name: name(),
        kek: kek(),
        after: Some(ItemDigest([1; 32])),
        rows: 200,
    });
    assert!(words.contains("which wraps are known"), "{words}");
    assert_eq!(body["after"], "01".repeat(32));
}

#[test]
fn each_act_on_a_root_key_is_said_in_words() {
    // rule: PRO-3, ROOT-4, ROOT-5, ROOT-7
    let root = RootId([0x2f; 16]);
    let (words, _) = inspected(&RootShow {});
    assert!(words.contains("who has a share"), "{words}");
    for (purpose, wanted) in [
        (SharePurpose::Unseal, "to open a sealed key server"),
        (SharePurpose::Drill, "which changes nothing"),
    ] {
        let (words, body) = inspected(&ShareGive {
            attempt: AttemptId([0x30; 16]),
            purpose,
            number: 2,
            sealed: vec![9; SEALED_SHARE],
        });
        assert!(
            words.contains("gives share 2") && words.contains(wanted),
            "{words}"
        );
        assert_eq!(body["purpose"], purpose.name());
        assert!(body.get("sealed").is_none());
    }
    let (words, body) = inspected(&SealServer { root });
    assert!(words.contains("SEALS THE KEY SERVER"), "{words}");
    assert_eq!(body["root"], root.to_string());
    let key = SealingSecret::generate(Kem::XWing, &mut tools::admin::rng()).public();
    let (words, body) = inspected(&Rekey {
        replaces: root,
        threshold: 1,
        holders: vec![ShareHolder {
            name: "second".to_owned(),
            key: key.clone(),
        }],
    });
    let hash = key.hash().to_string();
    assert!(
        words.contains("1 of 1 shares") && words.contains(&hash),
        "{words}"
    );
    assert_eq!(body["holders"][0]["key_hash"], hash);
}

#[test]
fn a_rotation_rule_is_said_where_it_is_set() {
    // rule: PRO-3, KEK-3
    let set = |rotation| DatasetSet {
        class: Default::default(),
        rotation,
        name: name(),
        max_budget: 1,
        max_life: 60,
        kems: vec![Kem::XWing],
        lease: 5,
        evidence: false,
        canary: Canary::No,
        witnessing: Witnessing::none(),
    };
    let (words, body) = inspected(&set(Rotation {
        age: Some(90 * 86_400),
        wraps: None,
        on_denial: true,
    }));
    assert!(
        words.contains("its KEK is rotated: every 90d, on a denial"),
        "{words}"
    );
    assert_eq!(body["rotation"]["age"], "90d");
    let (words, body) = inspected(&set(Rotation::default()));
    assert!(
        words.contains("its KEK is rotated: never by itself"),
        "{words}"
    );
    assert_eq!(body["rotation"]["wraps"], Value::Null);
}

#[test]
fn the_vector_of_a_destruction_is_verified_and_said() {
    // rule: KEK-4, INV-1, SET-2
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/statement");
    let part = |case: &str, part: &str| {
        let text = std::fs::read_to_string(vectors.join(case)).unwrap();
        let case: Value = serde_json::from_str(&text).unwrap();
        let hex = case["expect"][part].as_str().unwrap().to_owned();
        let bytes = (0..hex.len()).step_by(2);
        let bytes = bytes.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        bytes.collect::<Vec<_>>()
    };
    let place = Place::new();
    place.write("set", part("admin-set-first.json", "statement"));
    place.write("destroy", part("kek-destroy.json", "statement"));
    let said = place.run(&[
        "inspect",
        "statement",
        "destroy",
        "--admin-set",
        "set",
        "--format",
        "json",
    ]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let said = said.json();
    assert_eq!(said["verified"], true);
    assert_eq!(said["quorum"]["have"], said["quorum"]["need"]);
    assert_eq!(said["body"]["wraps"], 2);
}
