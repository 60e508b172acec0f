//! Import and export on the command line: what is refused before anything is asked, what works offline, and
//! what is said of their acts.

mod support;

use serde_json::Value;
use support::{Place, now, secret};
use ticket_format::ids::{ImportId, KekId, StatementId};
use ticket_format::keys::TlsSecret;
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::statement::{
    ActBody, ImportBegin, ImportHow, KekExport, KekImport, Payload, ShareHolder,
};

/// Beyond the arguments a file or the configuration is missing.
const GOOD: u8 = 10;
const USAGE: u8 = 2;

fn codes(cases: &[(&[&str], u8)]) {
    let place = Place::new();
    for (arguments, code) in cases {
        let said = place.run(&[&["dataset"], *arguments].concat());
        assert_eq!(said.code, i32::from(*code), "{arguments:?}: {}", said.err);
        assert_eq!(said.out, "", "{arguments:?}");
    }
}

#[test]
fn an_import_is_begun_wrapped_and_finished_with_files_that_are_named() {
    // rule: IMP-1, IMP-2
    codes(&[
        (&["import", "begin", "faces", "--out", "keys"], GOOD),
        (&["import", "begin", "faces"], USAGE),
        (&["import", "begin", "", "--out", "keys"], USAGE),
        (
            &[
                "import",
                "wrap",
                "--key",
                "keys",
                "--material",
                "m",
                "--out",
                "w",
            ],
            GOOD,
        ),
        (&["import", "wrap", "--key", "keys", "--out", "w"], USAGE),
        (
            &["import", "finish", "faces", "--key", "k", "--wrapped", "w"],
            GOOD,
        ),
        (&["import", "finish", "faces", "--wrapped", "w"], USAGE),
        (
            &[
                "import",
                "finish",
                "faces",
                "--key",
                "k",
                "--wrapped",
                "w",
                "--expires",
                "soon",
            ],
            USAGE,
        ),
        (
            &[
                "import",
                "finish",
                "faces",
                "--key",
                "k",
                "--wrapped",
                "w",
                "--commitment",
                "ab",
            ],
            USAGE,
        ),
    ]);
}

#[test]
fn an_export_names_its_recipients_and_as_many_as_can_open_it() {
    // rule: IMP-4
    let make = ["export", "make", "faces", "--version", "1", "--out", "e"];
    let with = |more: &[&'static str]| [&make[..], more].concat();
    codes(&[
        (&with(&["--to", "zoe=zoe.pub"]), GOOD),
        (&with(&[]), USAGE),
        (&with(&["--to", "zoe"]), USAGE),
        (&with(&["--to", "zoe=zoe.pub", "--threshold", "0"]), USAGE),
        (&with(&["--to", "zoe=zoe.pub", "--threshold", "2"]), USAGE),
        (&["export", "open", "e", "--out", "m"], GOOD),
        (&["export", "open", "e"], USAGE),
        (&["export", "share", "e", "--out", "s"], GOOD),
        (&["export", "share", "e"], USAGE),
    ]);
}

#[test]
fn nothing_is_written_over_and_nothing_is_asked_before_that_is_known() {
    // rule: IMP-1, IMP-4
    let place = Place::new();
    place.write("there", "kept");
    for arguments in [
        &["dataset", "import", "begin", "faces", "--out", "there"][..],
        &["dataset", "export", "open", "e", "--out", "there"],
        &["dataset", "export", "share", "e", "--out", "there"],
    ] {
        let said = place.run(arguments);
        assert_eq!(said.code, 7, "{arguments:?}: {}", said.err);
    }
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
    let words = shown["words"].as_array().unwrap().iter();
    let words: Vec<&str> = words.map(|line| line.as_str().unwrap()).collect();
    (words.join("\n"), shown["body"].clone())
}

#[test]
fn each_act_of_import_and_export_is_said_in_words_and_nothing_that_is_wrapped_is_shown() {
    // rule: PRO-3, IMP-1, IMP-2, IMP-4
    let name = || "faces".to_owned();
    let (words, body) = inspected(&ImportBegin { name: name() });
    assert!(
        words.contains("material for dataset \"faces\" is wrapped to"),
        "{words}"
    );
    assert_eq!(body["name"], "faces");
    let (words, body) = inspected(&KekImport {
        name: name(),
        import: ImportId([6; 16]),
        how: ImportHow::Hpke,
        wrapped: vec![9; 1_168],
        replaces: KekId([1; 16]),
        expiry: None,
        commitment: [7; 32],
    });
    for wanted in [
        "OF MATERIAL FROM ELSEWHERE, usable for good",
        &"07".repeat(32),
        "HPKE",
    ] {
        assert!(words.contains(wanted), "{words}");
    }
    assert_eq!(body["commitment"], "07".repeat(32));
    assert_eq!(body["how"], "hpke-x-wing");
    assert!(body.get("wrapped").is_none());
    let key = SealingSecret::generate(Kem::XWing, &mut tools::admin::rng()).public();
    let (words, body) = inspected(&KekExport {
        name: name(),
        kek: KekId([1; 16]),
        threshold: 1,
        holders: vec![ShareHolder {
            name: "zoe".to_owned(),
            key: key.clone(),
        }],
    });
    assert!(
        words.contains("GIVES OUT") && words.contains("1 of 1"),
        "{words}"
    );
    assert_eq!(body["holders"][0]["key_hash"], key.hash().to_string());
}
