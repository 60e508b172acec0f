//! The verifier against real documents that AWS has signed, and against what can be done to them.
#![allow(missing_docs)]

mod iid_support;

use std::collections::BTreeMap;
use std::fs;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use iid_support::{REAL, fixtures, lines, real, real_blob};
use sha2::{Digest, Sha256};
use ticket_format::iid::{
    IidRefusal, MAX_PROOF_BYTES, MAX_PROOF_TEXT_BYTES, RegionKeys, VerifiedDocument, verify,
};

fn verify_blob(blob: &[u8], keys: &RegionKeys) -> Result<VerifiedDocument, IidRefusal> {
    verify(lines(blob, 76).as_bytes(), keys)
}

fn name_of(result: Result<VerifiedDocument, IidRefusal>) -> &'static str {
    match result {
        Ok(_) => "accepted",
        Err(refusal) => refusal.name(),
    }
}

#[test]
fn every_real_rsa2048_proof_verifies_and_yields_its_document() {
    let keys = RegionKeys::built_in();
    let mut seen = 0;
    for (folder, region) in REAL {
        let document = verify(&real(folder, "rsa2048.b64"), &keys).expect(folder);
        let expected = real(folder, "document.json");
        assert_eq!(document.text().as_bytes(), expected, "{folder}");
        let json: serde_json::Value = serde_json::from_slice(&expected).expect("JSON");
        for (name, value) in [
            ("accountId", document.account_id()),
            ("instanceId", document.instance_id()),
            ("region", document.region()),
            ("availabilityZone", document.availability_zone()),
            ("imageId", document.image_id()),
            ("instanceType", document.instance_type()),
            ("architecture", document.architecture()),
            ("version", document.version()),
        ] {
            assert_eq!(json[name], value, "{folder} {name}");
        }
        let ip = document.private_ip().expect("an address").to_string();
        assert_eq!(json["privateIp"], ip, "{folder}");
        let launched = jiff::Timestamp::from_second(document.pending_time() as i64)
            .expect("a time")
            .to_string();
        assert_eq!(json["pendingTime"], launched, "{folder}");
        assert_eq!(document.region(), region);
        let hash: [u8; 32] = Sha256::digest(real_blob(folder)).into();
        assert_eq!(document.proof_hash(), &hash, "{folder}");
        seen += 1;
    }
    let with_proof = fs::read_dir(fixtures())
        .expect("fixtures")
        .filter(|entry| {
            let path = entry.as_ref().expect("an entry").path();
            path.join("rsa2048.b64").exists()
        })
        .count();
    assert_eq!(seen, with_proof, "every fixture with this proof is tested");
}

#[test]
fn the_other_kinds_of_proof_are_refused() {
    let keys = RegionKeys::built_in();
    let mut refused = BTreeMap::new();
    for entry in fs::read_dir(fixtures()).expect("fixtures") {
        for (file, name) in [("pkcs7.b64", "iid-shape"), ("signature.b64", "iid-not-cms")] {
            let path = entry.as_ref().expect("an entry").path().join(file);
            if let Ok(proof) = fs::read(&path) {
                assert_eq!(name_of(verify(&proof, &keys)), name, "{}", path.display());
                *refused.entry(file).or_insert(0) += 1;
            }
        }
    }
    assert_eq!(refused["pkcs7.b64"], 7);
    assert_eq!(refused["signature.b64"], 6);
    // The plain document is no proof either.
    let document = real("metaphor-2026", "document.json");
    assert_eq!(name_of(verify(&document, &keys)), "iid-not-base64");
    assert_eq!(name_of(verify_blob(&document, &keys)), "iid-not-cms");
}

/// Where the signer's issuer and serial stand: the only bytes that are neither signed nor checked.
fn unsigned_name(blob: &[u8]) -> std::ops::Range<usize> {
    let start = blob
        .windows(4)
        .position(|w| w == [0x30, 0x69, 0x30, 0x5c])
        .expect("issuerAndSerialNumber of 105 bytes");
    start..start + 2 + 0x69
}

/// Runs a check for each real proof at the same time: some of them verify ten thousand times.
fn for_each_real(check: impl Fn(&str, &[u8], &RegionKeys) + Sync) {
    let (check, keys) = (&check, &RegionKeys::built_in());
    std::thread::scope(|scope| {
        for (folder, _) in REAL {
            scope.spawn(move || check(folder, &real_blob(folder), keys));
        }
    });
}

#[test]
fn every_flipped_byte_is_refused_unless_it_names_the_signer() {
    for_each_real(|folder, blob, keys| {
        let whole = verify_blob(blob, keys).expect(folder);
        let name = unsigned_name(blob);
        let mut refusals = BTreeMap::new();
        for at in 0..blob.len() {
            for change in [1, 2, 4, 8, 16, 32, 64, 128, 0x0a] {
                let mut spoiled = blob.to_vec();
                spoiled[at] ^= change;
                match verify_blob(&spoiled, keys) {
                    Err(refusal) => *refusals.entry(refusal.name()).or_insert(0) += 1,
                    Ok(document) => {
                        // rsaEncryption and sha256WithRSAEncryption differ in one byte and mean
                        // the same here, where no algorithm protection says which it was.
                        let other_spelling = folder == "taskcluster-2018"
                            && change == 0x0a
                            && blob[..=at].ends_with(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1]);
                        assert!(
                            name.contains(&at) || other_spelling,
                            "{folder}: byte {at} ^ {change:#04x} was accepted"
                        );
                        assert_eq!(document.text(), whole.text());
                        assert_ne!(document.proof_hash(), whole.proof_hash());
                    }
                }
            }
        }
        for name in ["iid-shape", "iid-bad-signature", "iid-digest-mismatch"] {
            assert!(refusals.contains_key(name), "{folder}: {refusals:?}");
        }
    });
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    for_each_real(|folder, blob, keys| {
        for length in 0..blob.len() {
            assert!(
                verify_blob(&blob[..length], keys).is_err(),
                "{folder} {length}"
            );
        }
        for byte in 0..=255 {
            let longer = [blob, &[byte]].concat();
            assert_eq!(name_of(verify_blob(&longer, keys)), "iid-trailing-bytes");
        }
        let twice = [blob, blob].concat();
        assert_eq!(name_of(verify_blob(&twice, keys)), "iid-trailing-bytes");
        // A byte more at every place inside.
        let name = unsigned_name(blob);
        for at in (0..blob.len()).filter(|at| !name.contains(at)) {
            for byte in [0, 0x30] {
                let mut longer = blob.to_vec();
                longer.insert(at, byte);
                assert!(verify_blob(&longer, keys).is_err(), "{folder} {at} {byte}");
            }
        }
    });
}

#[test]
fn a_genuine_signature_over_another_document_is_refused() {
    // Two real proofs of one region: both documents are genuine, each with the other's signature.
    let keys = RegionKeys::built_in();
    let split = |folder| {
        let blob = real_blob(folder);
        let document = real(folder, "document.json");
        let start = blob
            .windows(document.len())
            .position(|w| w == document)
            .expect("the document");
        let end = start + document.len();
        // Behind the four bytes of the segment's header.
        (
            blob[..start - 4].to_vec(),
            blob[start - 4..end].to_vec(),
            blob[end..].to_vec(),
        )
    };
    let (head, content, tail) = split("teleport-2021-a");
    let (_, other, _) = split("taskcluster-2018");
    let whole = [head.as_slice(), &content, &tail].concat();
    assert_eq!(name_of(verify_blob(&whole, &keys)), "accepted");
    let mixed = [head.as_slice(), &other, &tail].concat();
    assert_eq!(name_of(verify_blob(&mixed, &keys)), "iid-digest-mismatch");
}

// rule: IID-3
#[test]
fn another_regions_key_does_not_do_and_an_unknown_region_has_no_fallback() {
    let pem = |region: &str| {
        let file = format!(
            "{}/src/iid/certs/rsa2048/{region}.pem",
            env!("CARGO_MANIFEST_DIR")
        );
        fs::read_to_string(file).expect("a certificate")
    };
    let proof = real("teleport-2021-a", "rsa2048.b64");
    let swapped = RegionKeys::from_pems([
        ("us-west-2", pem("us-east-1")),
        ("us-east-1", pem("us-west-2")),
    ])
    .expect("a table");
    assert_eq!(
        verify(&proof, &swapped),
        Err(IidRefusal::BadSignature("us-west-2".into()))
    );
    let without = RegionKeys::from_pems([("us-east-1", pem("us-west-2"))]).expect("a table");
    let refusal = verify(&proof, &without).expect_err("no key for this region");
    assert_eq!(refusal.name(), "iid-unknown-region");
    assert_eq!(
        refusal.to_string(),
        "no key is pinned for region us-west-2; add its rsa2048 certificate to the region key table"
    );
    let own = RegionKeys::from_pems([("us-west-2", pem("us-west-2"))]).expect("a table");
    assert!(verify(&proof, &own).is_ok());
}

// rule: IID-1
#[test]
fn the_text_may_be_folded_anyhow_but_must_be_strict_base64() {
    let keys = RegionKeys::built_in();
    let blob = real_blob("metaphor-2026");
    let one_line = STANDARD.encode(&blob);
    let folded = lines(&blob, 76);
    for good in [
        one_line.clone(),
        lines(&blob, 1),
        folded.replace('\n', "\r\n") + "\n",
        folded.replace('\n', " \t\n"),
    ] {
        assert_eq!(name_of(verify(good.as_bytes(), &keys)), "accepted");
    }
    assert!(one_line.ends_with("=="), "the fixture needs padding");
    let unpadded = STANDARD_NO_PAD.encode(&blob);
    // The last sextet's low bits are not part of any byte and must be zero.
    let mut loose_bits = unpadded.clone().into_bytes();
    let last = loose_bits.len() - 1;
    loose_bits[last] += 1;
    let loose_bits = String::from_utf8(loose_bits).expect("ASCII") + "==";
    for bad in [
        unpadded,
        loose_bits,
        URL_SAFE.encode(&blob),
        one_line.clone() + "=",
        one_line.clone() + "\0",
        one_line.clone() + "AAAA",
        format!("-----BEGIN PKCS7-----\n{folded}\n-----END PKCS7-----\n"),
        folded.replace('\n', "\u{a0}"),
        folded.replace('\n', "\x0b"),
    ] {
        assert_eq!(
            name_of(verify(bad.as_bytes(), &keys)),
            "iid-not-base64",
            "{bad}"
        );
    }
    assert_eq!(name_of(verify(b"", &keys)), "iid-not-cms");
}

#[test]
fn oversized_proofs_are_refused_before_they_are_read() {
    let keys = RegionKeys::built_in();
    let blanks = [
        real("metaphor-2026", "rsa2048.b64"),
        vec![b'\n'; MAX_PROOF_TEXT_BYTES],
    ]
    .concat();
    assert_eq!(name_of(verify(&blanks, &keys)), "iid-too-large");
    let blob = STANDARD.encode(vec![0x30; MAX_PROOF_BYTES + 1]);
    assert!(blob.len() < MAX_PROOF_TEXT_BYTES);
    assert_eq!(name_of(verify(blob.as_bytes(), &keys)), "iid-too-large");
    let largest = lines(&vec![0x30; MAX_PROOF_BYTES], 76).replace('\n', "\r\n");
    assert_eq!(name_of(verify(largest.as_bytes(), &keys)), "iid-not-cms");
}

#[test]
fn deep_nesting_is_refused_in_a_small_stack() {
    let task = || {
        let keys = RegionKeys::built_in();
        let head = real_blob("metaphor-2026")[..50].to_vec();
        let openers: [&[u8]; 5] = [
            &[0x24, 0x80],
            &[0x30, 0x80],
            &[0xa0, 0x80],
            &[0x31, 0x80],
            &[0x30, 0x82, 0x0f, 0xff],
        ];
        for opener in openers {
            for size in [MAX_PROOF_BYTES, 64 * 1024] {
                let bomb = opener.repeat(size / opener.len());
                assert!(verify_blob(&bomb, &keys).is_err());
                let inside = [head.as_slice(), &bomb].concat();
                assert!(verify_blob(&inside, &keys).is_err());
                let fitting = [head.as_slice(), &bomb[..bomb.len().min(4000)]].concat();
                assert!(verify_blob(&fitting, &keys).is_err());
                // Properly closed.
                let half = opener.repeat(1000);
                let closed = [head.as_slice(), &half, &[0; 2000]].concat();
                assert!(verify_blob(&closed, &keys).is_err());
            }
        }
    };
    std::thread::Builder::new()
        .stack_size(128 * 1024)
        .spawn(task)
        .expect("a thread")
        .join()
        .expect("no overflow and no panic");
}

#[test]
fn the_built_in_certificates_are_the_ones_that_sources_md_lists() {
    let folder = format!("{}/src/iid/certs/rsa2048", env!("CARGO_MANIFEST_DIR"));
    let sources = fs::read_to_string(format!("{folder}/SOURCES.md")).expect("SOURCES.md");
    let mut listed = Vec::new();
    for row in sources.lines().filter(|row| row.contains("| rsa 2048 |")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (region, fingerprint) = (cells[1], cells[7]);
        let pem = fs::read_to_string(format!("{folder}/{region}.pem")).expect(region);
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let certificate = STANDARD.decode(base64).expect(region);
        let hash: String = Sha256::digest(certificate)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hash, fingerprint, "{region}");
        listed.push(region.to_owned());
    }
    assert_eq!(listed.len(), 39);
    let built_in = RegionKeys::built_in();
    let regions: Vec<&str> = built_in.regions().collect();
    assert_eq!(regions, listed);
}
