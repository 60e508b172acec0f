//! `postern-admin inspect`, on real and on damaged input.

#[path = "support/logs.rs"]
mod logs;
mod support;

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use support::{Place, repository, said};
use ticket_format::Refusal;
use ticket_format::cbor::Encode as _;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, ItemDigest};
use ticket_format::messages::Receipt;
use ticket_format::statement::Role;

const REAL: [&str; 4] = [
    "ansible-2022-a",
    "metaphor-2026",
    "taskcluster-2018",
    "teleport-2021-a",
];
const NAMES: [&str; 9] = [
    "iid-too-large",
    "iid-not-base64",
    "iid-trailing-bytes",
    "iid-not-cms",
    "iid-shape",
    "iid-unknown-region",
    "iid-bad-signature",
    "iid-digest-mismatch",
    "iid-bad-document",
];

fn real(name: &str, file: &str) -> std::path::PathBuf {
    repository(&format!("ticket-format/tests/data/aws/iid/{name}/{file}"))
}

fn hex(bytes: &str) -> Vec<u8> {
    (0..bytes.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&bytes[at..at + 2], 16).unwrap())
        .collect()
}

/// A byte string of a vector.
fn vector(path: &str, part: &str, name: &str) -> Vec<u8> {
    let text = fs::read_to_string(repository(&format!("spec/vectors/{path}.json"))).unwrap();
    let vector: Value = serde_json::from_str(&text).unwrap();
    hex(vector[part][name].as_str().unwrap())
}

#[test]
fn every_real_identity_document_verifies_and_shows_what_aws_signed() {
    // rule: IID-1, IID-3, IID-4
    for name in REAL {
        let place = Place::new();
        let shown = place.run(&[
            "inspect",
            "iid",
            "--proof",
            real(name, "rsa2048.b64").to_str().unwrap(),
        ]);
        assert_eq!((shown.code, shown.err.as_str()), (0, ""), "{name}");
        let (shown, signed) = (
            shown.json(),
            fs::read_to_string(real(name, "document.json")).unwrap(),
        );
        let signed: Value = serde_json::from_str(&signed).unwrap();
        for (member, value) in signed.as_object().unwrap() {
            assert_eq!(shown[member], *value, "{name}: {member}");
        }
        assert_eq!(shown["v"], 1);
    }
}

#[test]
fn a_changed_identity_document_is_refused_by_name_in_one_line() {
    let place = Place::new();
    let text = fs::read_to_string(real("metaphor-2026", "rsa2048.b64")).unwrap();
    let packed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let blob = STANDARD.decode(&packed).unwrap();
    let refused = |proof: Vec<u8>, what: &str| {
        place.write("proof", STANDARD.encode(proof));
        let said = place.run(&["inspect", "iid", "--proof", "proof"]);
        assert_eq!((said.code, said.out.as_str()), (4, ""), "{what}");
        assert_eq!(said.err.lines().count(), 1, "{what}: {}", said.err);
        assert!(
            NAMES
                .iter()
                .any(|name| said.err.starts_with(&format!("error: {name}: "))),
            "{what}: {}",
            said.err
        );
    };
    // The issuer and serial of the signer are the one part that nothing covers; the shape still
    // holds them to one form, and the verifier reads neither (IID-5), so flips there are let pass.
    let unsigned = place_of_issuer(&blob);
    let mut tried = 0;
    for at in (0..blob.len())
        .step_by(7)
        .filter(|at| !unsigned.contains(at))
    {
        let mut changed = blob.clone();
        changed[at] ^= 1;
        refused(changed, &format!("byte {at} flipped"));
        tried += 1;
    }
    assert!(tried > 100, "{tried}");
    for end in (0..blob.len()).step_by(97) {
        refused(blob[..end].to_vec(), &format!("cut at {end}"));
    }
    refused([&blob[..], &[0]].concat(), "a byte behind it");
}

/// Where the signer's issuer and serial number stand: after the content, before the digest algorithm.
fn place_of_issuer(blob: &[u8]) -> std::ops::Range<usize> {
    let find = |needle: &[u8], from: usize| {
        from + blob[from..]
            .windows(needle.len())
            .position(|bytes| bytes == needle)
            .unwrap()
    };
    // countryName's OID begins the issuer; SHA-256's OID follows the serial.
    let issuer = find(&[0x06, 0x03, 0x55, 0x04, 0x06], 0);
    issuer
        ..find(
            &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
            issuer,
        )
}

#[test]
fn the_error_of_a_bad_signature_is_told_in_json_too() {
    let place = Place::new();
    let text = fs::read_to_string(real("metaphor-2026", "rsa2048.b64")).unwrap();
    let packed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let mut blob = STANDARD.decode(&packed).unwrap();
    let last = blob.len() - 40;
    blob[last] ^= 1;
    place.write("proof", STANDARD.encode(blob));
    let said = place.run(&["inspect", "iid", "--proof", "proof", "--format", "json"]);
    let error: Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!(said.code, 4);
    assert!(
        error["error"]["what"]
            .as_str()
            .unwrap()
            .starts_with("iid-bad-signature: "),
        "{error}"
    );
    assert_eq!(error["error"]["refusal"]["name"], "identity-refused");
}

#[test]
fn a_table_of_certificates_replaces_the_built_in_one() {
    // rule: IID-5
    let place = Place::new();
    let proof = real("metaphor-2026", "rsa2048.b64");
    let inspect = |place: &Place| {
        place.run(&[
            "inspect",
            "iid",
            "--proof",
            proof.to_str().unwrap(),
            "--certs",
            "certs",
        ])
    };
    assert_eq!(inspect(&place).code, 10, "no directory");
    fs::create_dir(place.path("certs")).unwrap();
    assert_eq!(inspect(&place).code, 10, "no certificate in it");
    let certificates = repository("ticket-format/src/iid/certs/rsa2048");
    let copy = |region: &str, name: &str| {
        fs::copy(
            certificates.join(format!("{region}.pem")),
            place.path(&format!("certs/{name}.pem")),
        )
        .unwrap()
    };
    copy("us-east-1", "us-east-1");
    let said = inspect(&place);
    assert_eq!(said.code, 4);
    assert!(
        said.err.starts_with("error: iid-unknown-region: "),
        "{}",
        said.err
    );
    copy("us-east-1", "ap-southeast-2");
    let said = inspect(&place);
    assert!(
        said.err.starts_with("error: iid-bad-signature: "),
        "another region's key: {}",
        said.err
    );
    copy("ap-southeast-2", "ap-southeast-2");
    assert_eq!(inspect(&place).code, 0);
    fs::write(place.path("certs/eu-west-1.pem"), "no certificate").unwrap();
    let said = inspect(&place);
    assert_eq!(said.code, 10);
    assert!(said.err.contains("eu-west-1"), "{}", said.err);
}

#[test]
fn the_age_is_judged_at_the_time_that_is_given() {
    let place = Place::new();
    let proof = real("metaphor-2026", "rsa2048.b64");
    let at = |time: &str| {
        place.run(&[
            "inspect",
            "iid",
            "--proof",
            proof.to_str().unwrap(),
            "--at",
            time,
            "--max-age",
            "15m",
        ])
    };
    assert_eq!(at("2026-02-16T00:53:27Z").code, 0);
    let old = at("2026-02-16T00:53:28Z");
    assert_eq!(old.code, 4);
    assert!(
        old.err
            .starts_with("error: iid-too-old: document too old, launched at 2026-02-16T00:38:27Z"),
        "{}",
        old.err
    );
    assert!(
        at("2026-02-16T00:37:26Z")
            .err
            .starts_with("error: iid-from-the-future: ")
    );
    assert_eq!(at("yesterday").code, 2);
}

#[test]
fn a_ticket_without_a_key_is_said_to_be_unverified() {
    // rule: TKT-4
    let place = Place::new();
    place.write("ticket", vector("ticket/node", "expect", "ticket"));
    place.write("key", vector("world", "expect", "cose_key_ticket"));
    let bare = place.run(&["inspect", "ticket", "ticket"]);
    assert_eq!(bare.code, 0);
    assert!(bare.err.starts_with("UNVERIFIED: "), "{}", bare.err);
    assert_eq!(bare.json()["verified"], false);
    let verified = place.run(&[
        "inspect",
        "ticket",
        "ticket",
        "--broker-key",
        "key",
        "--at",
        "2026-02-16T01:00:00Z",
    ]);
    assert_eq!((verified.code, verified.err.as_str()), (0, ""));
    let claims = verified.json();
    assert_eq!(
        (&claims["verified"], &claims["life"], &claims["kind"]),
        (&true.into(), &"live".into(), &"node".into())
    );
    assert_eq!(claims["iss"], "postern:example");
    assert_eq!(claims["exp"], "2026-02-16T08:43:27Z");
}

#[test]
fn a_ticket_by_another_key_is_refused_by_name() {
    // rule: TKT-4
    let place = Place::new();
    place.write("key", vector("world", "expect", "cose_key_ticket"));
    for (path, code, name) in [
        ("ticket-signer-other", 3, "ticket-signature"),
        ("ticket-trailing", 3, "ticket-malformed"),
        ("ticket-signature-flipped", 3, "ticket-signature"),
    ] {
        place.write(
            "ticket",
            vector(&format!("refused/{path}"), "input", "ticket"),
        );
        let said = place.run(&["inspect", "ticket", "ticket", "--broker-key", "key"]);
        assert_eq!((said.code, said.out.as_str()), (code, ""), "{path}");
        assert!(said.err.contains(name), "{path}: {}", said.err);
    }
    let dataset = vector("ticket/dataset", "expect", "ticket");
    place.write("ticket", &dataset);
    let shown = place
        .run(&["inspect", "ticket", "ticket", "--broker-key", "key"])
        .json();
    assert_eq!(
        (&shown["kind"], &shown["dataset_name"]),
        (&"dataset".into(), &"faces".into())
    );
    place.write("key", "no key");
    assert_eq!(
        place
            .run(&["inspect", "ticket", "ticket", "--broker-key", "key"])
            .code,
        10
    );
    assert_eq!(place.run(&["inspect", "ticket", "absent"]).code, 6);
}

#[test]
fn a_wrap_is_shown_from_its_bytes_and_from_metadata_text() {
    let place = Place::new();
    let bytes = vector("wrapped/public-signed", "expect", "wrapped");
    place.write("raw", &bytes);
    place.write(
        "text",
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes) + "\n",
    );
    let (raw, text) = (
        place.run(&["inspect", "wrapped", "raw"]),
        place.run(&["inspect", "wrapped", "text"]),
    );
    assert_eq!((raw.code, &raw.out), (0, &text.out));
    let shown = raw.json();
    assert_eq!(shown["kind"], "public");
    assert!(
        shown["claimed_origin"]
            .as_str()
            .unwrap()
            .starts_with("public-signed:")
    );
    place.write("cut", &bytes[..bytes.len() - 1]);
    assert_eq!(place.run(&["inspect", "wrapped", "cut"]).code, 9);
}

#[test]
fn a_bootstrap_is_shown_without_its_secret() {
    // rule: BOOT-1
    let place = Place::new();
    let text = fs::read_to_string(repository("spec/vectors/bootstrap/line.json")).unwrap();
    let line = serde_json::from_str::<Value>(&text).unwrap()["expect"]["line"]
        .as_str()
        .unwrap()
        .to_owned();
    place.write("user-data", format!("#!/bin/sh\n{line}\n"));
    for format in ["text", "json", "jsonl"] {
        let shown = place.run(&["inspect", "bootstrap", "user-data", "--format", format]);
        assert_eq!(shown.code, 0);
        assert_eq!(shown.json()["realm"], "example");
        // The secret is 32 bytes of 0x10, in whatever form.
        for form in ["1010101010", "EBAQEBAQ", "16,16,16", "16, 16, 16"] {
            assert!(
                !shown.out.contains(form) && !shown.err.contains(form),
                "{}",
                shown.out
            );
        }
    }
    place.write("user-data", "#!/bin/sh\n");
    assert_eq!(place.run(&["inspect", "bootstrap", "user-data"]).code, 10);
}

#[test]
fn a_statement_is_verified_by_the_admin_set_that_is_given() {
    // rule: ADM-1, SET-2, SET-7
    let place = Place::new();
    let file = |name: &str, case: &str| {
        place.write(
            name,
            vector(&format!("statement/{case}"), "expect", "statement"),
        );
    };
    file("record", "dataset-record");
    file("set", "admin-set-first");
    file("lifting", "undeny");
    let bare = place.run(&["inspect", "statement", "record"]);
    assert!(
        bare.code == 0 && bare.err.starts_with("UNVERIFIED: "),
        "{}",
        bare.err
    );
    assert_eq!(bare.json()["signatures"][0]["signer"], Value::Null);
    let verified = place.run(&["inspect", "statement", "record", "--admin-set", "set"]);
    assert_eq!((verified.code, verified.err.as_str()), (0, ""));
    let verified = verified.json();
    assert_eq!(
        (&verified["verified"], &verified["body"]["name"]),
        (&true.into(), &"faces".into())
    );
    assert_eq!(verified["quorum"]["have"], verified["quorum"]["need"]);
    let kinds = |shown: &Value| -> Vec<String> {
        let all = shown["signatures"].as_array().unwrap().iter();
        all.map(|one| one["kind"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(kinds(&verified).contains(&"agent".to_owned()), "{verified}");
    let lifting = place.run(&["inspect", "statement", "lifting", "--admin-set", "set"]);
    let lifting = lifting.json();
    assert!(
        kinds(&lifting).contains(&"security-key".to_owned()),
        "{lifting}"
    );
    assert!(
        lifting["words"].to_string().contains("LIFTS 1 denial"),
        "{lifting}"
    );
    // A record whose signature is changed, and a set that is none.
    let mut bytes = fs::read(place.path("record")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    place.write("changed", bytes);
    let other = place.run(&["inspect", "statement", "changed", "--admin-set", "set"]);
    assert_eq!((other.code, other.out.as_str()), (9, ""));
    assert!(other.err.contains("statement-signature"), "{}", other.err);
    let none = place.run(&["inspect", "statement", "record", "--admin-set", "record"]);
    assert_eq!((none.code, none.out.as_str()), (10, ""), "{}", none.err);
}

#[test]
fn an_admin_set_is_shown_from_its_statement_and_from_its_body() {
    let place = Place::new();
    for part in ["statement", "body"] {
        place.write("set", vector("statement/admin-set-first", "expect", part));
        let shown = place.run(&["inspect", "admin-set", "set"]);
        assert_eq!(shown.code, 0, "{part}: {}", shown.err);
        let shown = shown.json();
        assert_eq!(
            (&shown["version"], &shown["quorums"]["deny"]),
            (&1.into(), &1.into())
        );
        let told = place.run(&["admin-set", "show", "set"]);
        assert!(
            told.code == 0 && told.out.contains("admin-set: 2 admins"),
            "{}",
            told.out
        );
    }
    place.write("set", [1, 2, 3]);
    let damaged = place.run(&["inspect", "admin-set", "set"]);
    assert_eq!((damaged.code, damaged.out.as_str()), (9, ""));
}

#[test]
fn entries_receipts_and_checkpoints_are_shown_and_verified_by_the_logs_keys() {
    // rule: TLOG-2, TLOG-5
    let place = Place::new();
    let secret = logs::secret(Role::Broker, 1);
    let entry = Entry::new(ActId([1; 16]), Kind::Redeem, logs::at(0))
        .items(vec![(ItemDigest([2; 32]), Err(Refusal::Context))]);
    logs::append(
        &place.path("log"),
        logs::secret(Role::Broker, 1),
        u64::MAX,
        std::slice::from_ref(&entry),
    );
    let note = fs::read_to_string(place.path("log/1/checkpoint")).unwrap();
    let receipt = Receipt {
        entry: entry.to_cbor(),
        proof: ticket_format::tlog::proof::text(0, &[], &note),
    };
    place.write("entry", entry.to_cbor());
    place.write("receipt", receipt.to_cbor());
    place.write("checkpoint", &note);
    let shown = place.run(&["inspect", "entry", "entry"]).json();
    assert_eq!(
        (&shown["kind"], &shown["items"][0]["verdict"]),
        (&"redeem".into(), &"context".into())
    );
    let keys = logs::keys(&secret);
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let others = logs::keys(&logs::secret(Role::Broker, 2));
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    for what in ["receipt", "checkpoint"] {
        let unverified = place.run(&["inspect", what, what]);
        assert!(unverified.err.contains("UNVERIFIED"), "{}", unverified.err);
        assert_eq!(unverified.json()["verified"], false);
        let verified = place.run(&[&["inspect", what, what][..], &keys].concat());
        assert_eq!(verified.json()["verified"], true, "{}", verified.err);
        let wrong = place.run(&[&["inspect", what, what][..], &others].concat());
        assert_eq!((wrong.code, wrong.out.as_str()), (9, ""), "{}", wrong.err);
    }
    let shown = place.run(&["inspect", "receipt", "receipt"]).json();
    assert_eq!(shown["entry"]["kind"], "redeem");
    let shown = place.run(&["inspect", "checkpoint", "checkpoint"]).json();
    assert_eq!(
        (
            &shown["size"],
            shown["signatures"].as_array().unwrap().len()
        ),
        (&1.into(), 2)
    );
    assert_eq!(place.run(&["inspect", "receipt", "entry"]).code, 9);
}

#[test]
fn a_file_may_come_from_stdin() {
    let place = Place::new();
    let proof = fs::read(real("metaphor-2026", "rsa2048.b64")).unwrap();
    let shown = said(
        place
            .command()
            .args(["inspect", "iid", "--proof", "-"])
            .write_stdin(proof),
    );
    assert_eq!(shown.code, 0, "{}", shown.err);
}
