//! Objects of the Amazon S3 Encryption Client, on vectors that it made itself (`spec/vectors/s3ec`; how:
//! `tests/foreign/s3ec.py vectors`).

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::door::blob::Blob;
use client::object::BodyError;
use client::object::metadata::{Context, MetadataError, NameMismatch};
use client::object::s3ec::{
    Decryptor, Encryptor, NotThisOne, S3ecError, S3ecMetadata, Version, new_context, plaintext_len,
};

#[derive(Clone)]
struct Vector {
    name: String,
    dek: [u8; 32],
    plaintext: Vec<u8>,
    wrap_context: Context,
    metadata: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn vectors() -> Vec<Vector> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/s3ec");
    let mut all: Vec<Vector> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            let len = json["plaintext_len"].as_u64().unwrap();
            Vector {
                name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
                dek: hex(json["dek"].as_str().unwrap()).try_into().unwrap(),
                plaintext: (0..len).map(|at| (at % 251) as u8).collect(),
                wrap_context: serde_json::from_value(json["wrap_context"].clone()).unwrap(),
                metadata: serde_json::from_value(json["metadata"].clone()).unwrap(),
                body: hex(json["body"].as_str().unwrap()),
            }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(all.len(), 7);
    all
}

fn vector(name: &str) -> Vector {
    vectors().into_iter().find(|one| one.name == name).unwrap()
}

fn parse(metadata: &BTreeMap<String, String>) -> Result<Option<S3ecMetadata>, S3ecError> {
    S3ecMetadata::parse(metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())))
}

fn open(
    dek: &[u8; 32],
    version: &Version,
    body: &[u8],
    piece: usize,
) -> Result<Vec<u8>, BodyError> {
    let mut decryptor = Decryptor::new(dek, version)?;
    let mut out = Vec::new();
    for piece in body.chunks(piece) {
        decryptor.update_unverified(piece, &mut out)?;
    }
    assert_eq!(decryptor.verify()?, out.len() as u64);
    Ok(out)
}

/// rule: AMZ-2
/// rule: AMZ-3
/// rule: AMZ-4
#[test]
fn what_amazons_client_writes_is_read() {
    for vector in vectors() {
        let metadata = parse(&vector.metadata).unwrap().unwrap();
        let v3 = matches!(metadata.version, Version::V3 { .. });
        assert_eq!(v3, vector.name.starts_with("v3"), "{}", vector.name);
        for piece in [1, 7, 15, 16, 17, 10_000] {
            let opened = open(&vector.dek, &metadata.version, &vector.body, piece);
            assert_eq!(
                opened.as_ref(),
                Ok(&vector.plaintext),
                "{} {piece}",
                vector.name
            );
        }
        let len = plaintext_len(vector.body.len() as u64);
        assert_eq!(len, Ok(vector.plaintext.len() as u64));
    }
}

/// rule: AMZ-5
#[test]
fn the_wraps_context_is_the_one_that_was_asked_with_and_the_doors_pair() {
    for vector in vectors() {
        let metadata = parse(&vector.metadata).unwrap().unwrap();
        let mut expected = vector.wrap_context.clone();
        assert_eq!(metadata.stored, expected, "{}", vector.name);
        expected.insert("kms".to_owned(), "data-key/32".to_owned());
        let whole = metadata.context_for(Some("s3://bucket/a"), None);
        assert_eq!(whole, Ok(expected), "{}", vector.name);
    }
}

/// rule: AMZ-2
#[test]
fn what_is_written_is_byte_for_byte_what_amazons_client_writes() {
    for vector in vectors() {
        let metadata = parse(&vector.metadata).unwrap().unwrap();
        let Version::V3 {
            message_id,
            commitment,
        } = metadata.version
        else {
            // rule: AMZ-3 — version 2 is not written.
            assert_eq!(metadata.encode(), Err(S3ecError::Uncommitted));
            continue;
        };
        let (mut encryptor, derived) = Encryptor::start(&vector.dek, &message_id).unwrap();
        assert_eq!(derived, commitment, "{}", vector.name);
        let mut body = Vec::new();
        for piece in vector.plaintext.chunks(11) {
            encryptor.update(piece, &mut body).unwrap();
        }
        encryptor.finish(&mut body);
        assert_eq!(body, vector.body, "{}", vector.name);
        let encoded = metadata.encode().unwrap();
        for (name, value) in &encoded {
            let theirs = &vector.metadata[*name];
            if *name == "x-amz-t" {
                let read = |text: &str| serde_json::from_str::<Context>(text).unwrap();
                assert_eq!(read(value), read(theirs));
            } else {
                assert_eq!(value, theirs, "{} {name}", vector.name);
            }
        }
        assert_eq!(encoded.len(), vector.metadata.len());
    }
}

/// rule: AMZ-2
#[test]
fn the_commitment_of_another_key_or_message_is_refused_before_anything_is_decrypted() {
    let vector = vector("v3-context");
    let metadata = parse(&vector.metadata).unwrap().unwrap();
    let Version::V3 {
        message_id,
        commitment,
    } = metadata.version
    else {
        panic!("version 3");
    };
    let mut other = vector.dek;
    other[31] ^= 1;
    let begun = Decryptor::new(&other, &metadata.version);
    assert_eq!(begun.unwrap_err(), BodyError::WrongCommitment);
    for bit in 0..28 * 8 {
        let mut flipped = commitment;
        flipped[bit / 8] ^= 1 << (bit % 8);
        let version = Version::V3 {
            message_id,
            commitment: flipped,
        };
        let begun = Decryptor::new(&vector.dek, &version);
        assert_eq!(begun.unwrap_err(), BodyError::WrongCommitment);
    }
    let mut moved = message_id;
    moved[0] ^= 1;
    let version = Version::V3 {
        message_id: moved,
        commitment,
    };
    let begun = Decryptor::new(&vector.dek, &version);
    assert_eq!(begun.unwrap_err(), BodyError::WrongCommitment);
}

/// rule: AMZ-8
#[test]
fn a_body_that_was_altered_cut_off_or_made_longer_is_refused() {
    for vector in vectors() {
        let version = parse(&vector.metadata).unwrap().unwrap().version;
        for at in 0..vector.body.len() {
            let mut body = vector.body.clone();
            body[at] ^= 0x80;
            let opened = open(&vector.dek, &version, &body, 64);
            assert_eq!(opened, Err(BodyError::WholeRefused), "{} {at}", vector.name);
        }
        for len in 0..vector.body.len() {
            let opened = open(&vector.dek, &version, &vector.body[..len], 64).unwrap_err();
            let expected = match len {
                0..16 => BodyError::Truncated { have: len as u64 },
                _ => BodyError::WholeRefused,
            };
            assert_eq!(opened, expected, "{} {len}", vector.name);
        }
        let longer = [&vector.body[..], &[0]].concat();
        let opened = open(&vector.dek, &version, &longer, 64);
        assert_eq!(opened, Err(BodyError::WholeRefused), "{}", vector.name);
    }
}

/// What a change of the metadata leads to.
fn refused(name: &str, change: impl FnOnce(&mut BTreeMap<String, String>)) -> S3ecError {
    let mut metadata = vector(name).metadata;
    change(&mut metadata);
    parse(&metadata).unwrap_err()
}

fn set(name: &str, value: &str) -> impl FnOnce(&mut BTreeMap<String, String>) {
    move |metadata| drop(metadata.insert(name.to_owned(), value.to_owned()))
}

/// rule: AMZ-5
#[test]
fn metadata_of_one_version_do_not_pass_as_the_others() {
    // Version 3, told as version 2 with everything that version 2 has, and the wrap's own context.
    let down = |context: Option<&str>| {
        let context = context.map(str::to_owned);
        refused("v3-context", move |metadata| {
            let old = std::mem::take(metadata);
            let told = context.unwrap_or_else(|| old["x-amz-t"].clone());
            set("x-amz-key-v2", &old["x-amz-3"])(metadata);
            set("x-amz-wrap-alg", "kms+context")(metadata);
            set("x-amz-matdesc", &told)(metadata);
            set("x-amz-iv", "AQEBAQEBAQEBAQEB")(metadata);
            set("x-amz-cek-alg", "AES/GCM/NoPadding")(metadata);
            set("x-amz-tag-len", "128")(metadata);
        })
    };
    assert_eq!(down(None), S3ecError::OtherAlgorithm);
    assert_eq!(down(Some("{}")), S3ecError::OtherAlgorithm);
    // And with a context that says what version 2 would: then the wrap does not open, for it is another one.
    let up = refused("v2-context", |metadata| {
        let old = std::mem::take(metadata);
        set("x-amz-3", &old["x-amz-key-v2"])(metadata);
        set("x-amz-w", "12")(metadata);
        set("x-amz-t", &old["x-amz-matdesc"])(metadata);
        set("x-amz-c", "115")(metadata);
        set("x-amz-d", &STANDARD.encode([0; 28]))(metadata);
        set("x-amz-i", &STANDARD.encode([0; 28]))(metadata);
    });
    assert_eq!(up, S3ecError::OtherAlgorithm);
}

/// rule: AMZ-4
#[test]
fn names_of_two_formats_are_refused() {
    for other in ["x-amz-key-v2", "x-amz-iv", "X-Amz-Tag-Len", "x-amz-matdesc"] {
        assert_eq!(
            refused("v3-short", set(other, "AAAA")),
            S3ecError::Mixed,
            "{other}"
        );
    }
    for other in ["x-amz-3", "x-amz-m", "X-AMZ-C", "x-amz-d"] {
        assert_eq!(
            refused("v2-short", set(other, "115")),
            S3ecError::Mixed,
            "{other}"
        );
    }
    for ours in ["postern-format", "Postern-Dek"] {
        assert_eq!(
            refused("v3-short", set(ours, "1")),
            S3ecError::Mixed,
            "{ours}"
        );
        assert_eq!(
            refused("v2-short", set(ours, "1")),
            S3ecError::Mixed,
            "{ours}"
        );
    }
    assert_eq!(
        refused("v3-short", set("X-Amz-C", "115")),
        S3ecError::Doubled("x-amz-c")
    );
    let none = BTreeMap::from([("x-amz-other".to_owned(), "1".to_owned())]);
    assert_eq!(parse(&none), Ok(None));
    let mut more = vector("v3-short").metadata;
    set("x-amz-m", "{}")(&mut more);
    set("x-amz-other", "1")(&mut more);
    assert!(parse(&more).unwrap().is_some());
}

/// rule: AMZ-3
/// rule: AMZ-4
#[test]
fn every_value_must_be_there_and_well_formed() {
    for (name, key) in [("v3-short", "x-amz-3"), ("v2-short", "x-amz-key-v2")] {
        let required: Vec<String> = vector(name).metadata.keys().cloned().collect();
        for missing in required.iter().filter(|missing| *missing != key) {
            let error = refused(name, |metadata| drop(metadata.remove(missing)));
            assert!(
                matches!(error, S3ecError::Missing(is) if is == missing),
                "{missing}: {error:?}"
            );
        }
    }
    for (name, key, value) in [
        ("v3-short", "x-amz-c", "116"),
        ("v3-short", "x-amz-c", "0115"),
        ("v3-short", "x-amz-w", "02"),
        ("v3-short", "x-amz-w", "22"),
        ("v2-short", "x-amz-cek-alg", "AES/CBC/PKCS5Padding"),
        ("v2-short", "x-amz-wrap-alg", "kms"),
        ("v2-short", "x-amz-tag-len", "96"),
        ("v2-short", "x-amz-key", "AAAA"),
    ] {
        let error = refused(name, set(key, value));
        assert!(
            matches!(error, S3ecError::Algorithm(is) if is == key),
            "{key}: {error:?}"
        );
    }
    let short = STANDARD.encode([1; 27]);
    for (name, key, value) in [
        ("v3-short", "x-amz-d", short.as_str()),
        ("v3-short", "x-amz-i", &short),
        ("v3-short", "x-amz-i", "?"),
        ("v3-short", "x-amz-3", "?"),
        ("v3-short", "x-amz-t", "{"),
        (
            "v3-short",
            "x-amz-t",
            r#"{"aws:x-amz-cek-alg":"115","aws:x-amz-cek-alg":"115"}"#,
        ),
        ("v2-short", "x-amz-iv", &short),
        ("v2-short", "x-amz-matdesc", "[]"),
    ] {
        let error = refused(name, set(key, value));
        assert!(
            matches!(error, S3ecError::Malformed(is) if is == key),
            "{key}: {error:?}"
        );
    }
    let long = " ".repeat(3000);
    assert_eq!(
        refused("v3-short", set("x-amz-m", &long)),
        S3ecError::Malformed("x-amz-m")
    );
    let door = r#"{"aws:x-amz-cek-alg":"115","kms":"data-key/32"}"#;
    assert_eq!(
        refused("v3-short", set("x-amz-t", door)),
        S3ecError::Pair("kms".to_owned())
    );
}

/// rule: AMZ-6
#[test]
fn a_data_key_in_an_instruction_file_is_never_looked_for() {
    for (name, key) in [("v3-short", "x-amz-3"), ("v2-short", "x-amz-key-v2")] {
        let taken = refused(name, |metadata| drop(metadata.remove(key)));
        assert_eq!(taken, S3ecError::InstructionFile);
        let mark = refused(name, set("x-amz-crypto-instr-file", ""));
        assert_eq!(mark, S3ecError::InstructionFile);
    }
    // As Amazon's client leaves an object of version 3 whose key is in an instruction file.
    let without = refused("v3-short", |metadata| {
        metadata.retain(|name, _| ["x-amz-c", "x-amz-d", "x-amz-i"].contains(&name.as_str()));
    });
    assert_eq!(without, S3ecError::InstructionFile);
}

/// rule: AMZ-4
/// rule: AMZ-10
#[test]
fn only_a_data_key_of_32_bytes_that_a_key_server_of_ours_made_will_do() {
    let blob = |change: fn(&mut Blob)| {
        refused("v3-short", |metadata| {
            let bytes = STANDARD.decode(&metadata["x-amz-3"]).unwrap();
            let mut blob = Blob::parse(&bytes).unwrap();
            change(&mut blob);
            set("x-amz-3", &STANDARD.encode(blob.to_bytes()))(metadata);
        })
    };
    assert_eq!(
        blob(|blob| blob.form = "data-key/16".to_owned()),
        S3ecError::Form
    );
    assert_eq!(
        blob(|blob| blob.form = "payload".to_owned()),
        S3ecError::Form
    );
    assert_eq!(
        blob(|blob| blob.sealed = Some(vec![1; 20])),
        S3ecError::Form
    );
    assert_eq!(
        blob(|blob| blob.dataset.0[0] ^= 1),
        S3ecError::Malformed("x-amz-3")
    );
    assert_eq!(
        blob(|blob| blob.wrapped[0] ^= 1),
        S3ecError::Malformed("x-amz-3")
    );
    // A producer's wrap: to the dataset's public key.
    let public = blob(|blob| {
        let mut writer = ticket_format::cbor::Writer::new();
        writer
            .array(9)
            .uint(1)
            .uint(2)
            .bytes(&blob.dataset.0)
            .bytes(&[2; 16])
            .uint(1);
        writer
            .bytes(&[3; 16])
            .bytes(&[4; 1120])
            .bytes(&[5; 32])
            .null();
        blob.wrapped = writer.into_bytes();
    });
    assert_eq!(public, S3ecError::Producer);
    let theirs = STANDARD.encode(b"what another key service made");
    assert_eq!(
        refused("v3-short", set("x-amz-3", &theirs)),
        S3ecError::NotOurs
    );
}

/// rule: AMZ-7
#[test]
fn a_name_in_the_context_is_compared_and_one_that_is_asked_for_must_be_there() {
    let place = Some("s3://bucket/a");
    let bound = parse(&vector("v3-named").metadata).unwrap().unwrap();
    assert!(bound.context_for(place, None).is_ok());
    assert!(bound.context_for(Some("s3://bucket/b"), place).is_ok());
    let elsewhere = bound.context_for(Some("s3://bucket/b"), None).unwrap_err();
    let mismatch = NameMismatch {
        stored: "s3://bucket/a".to_owned(),
        asked: "s3://bucket/b".to_owned(),
    };
    assert_eq!(elsewhere, NotThisOne::Name(mismatch));

    let unbound = parse(&vector("v3-short").metadata).unwrap().unwrap();
    assert!(unbound.context_for(place, None).is_ok());
    let unnamed = unbound.context_for(place, place).unwrap_err();
    let expected = S3ecError::Unnamed("s3://bucket/a".to_owned());
    assert_eq!(unnamed, NotThisOne::Refused(expected));
}

/// rule: AMZ-4
#[test]
fn metadata_that_do_not_fit_are_not_written() {
    let mut metadata = parse(&vector("v3-short").metadata).unwrap().unwrap();
    let pairs = Context::from([
        ("a".to_owned(), "x".repeat(1024)),
        ("b".to_owned(), "x".repeat(900)),
    ]);
    let (stored, whole) = new_context(pairs, Some("n".to_owned())).unwrap();
    assert_eq!(
        (stored["name"].as_str(), whole["kms"].as_str()),
        ("n", "data-key/32")
    );
    metadata.stored = stored;
    let Err(S3ecError::TooLarge(over)) = metadata.encode() else {
        panic!("it fits");
    };
    metadata
        .stored
        .insert("b".to_owned(), "x".repeat(900 - over));
    let encoded = metadata.encode().unwrap();
    let len: usize = encoded
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    assert_eq!(len, 2048);
    let told = MetadataError::from(S3ecError::TooLarge(over));
    assert_eq!(told, MetadataError::TooLarge { over });
}

/// rule: AMZ-1
#[test]
fn wycheproof_aes_gcm_opens_exactly_what_is_valid_without_associated_data() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/wycheproof/aes_gcm_test.json");
    let file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in file["testGroups"].as_array().unwrap() {
        if group["keySize"] != 256 || group["ivSize"] != 96 || group["tagSize"] != 128 {
            continue;
        }
        for case in group["tests"].as_array().unwrap() {
            let bytes = |name: &str| hex(case[name].as_str().unwrap());
            if !bytes("aad").is_empty() {
                continue;
            }
            let version = Version::V2 {
                nonce: bytes("iv").try_into().unwrap(),
            };
            let body = [bytes("ct"), bytes("tag")].concat();
            let opened = open(&bytes("key").try_into().unwrap(), &version, &body, 5);
            if case["result"] == "valid" {
                assert_eq!(opened, Ok(bytes("msg")), "{}", case["tcId"]);
                valid += 1;
            } else {
                assert_eq!(opened, Err(BodyError::WholeRefused), "{}", case["tcId"]);
                invalid += 1;
            }
        }
    }
    assert_eq!((valid, invalid), (10, 15));
}
