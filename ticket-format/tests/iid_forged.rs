//! The verifier against proofs that a test key has signed: everything behind a good signature.
#![allow(missing_docs)]

mod iid_support;

use iid_support::*;
use proptest::prelude::*;
use ticket_format::iid::{
    CertificateFault, DocumentFault, IidRefusal, RegionKeys, RegionKeysError, verify,
};

fn outcome(proof: &Proof) -> &'static str {
    match verify(proof.text().as_bytes(), &test_keys()) {
        Ok(document) => {
            assert_eq!(document.text().as_bytes(), proof.content);
            "accepted"
        }
        Err(refusal) => refusal.name(),
    }
}

/// A good proof after one change.
fn changed(change: impl FnOnce(&mut Proof)) -> Proof {
    let mut proof = Proof::of(DOCUMENT);
    change(&mut proof);
    proof
}

#[test]
fn a_proof_in_each_known_encoding_verifies() {
    for form in [
        Form::Der,
        Form::Primitive,
        Form::Segments(1000),
        Form::Segments(100),
        Form::Segments(1),
    ] {
        assert_eq!(outcome(&changed(|p| p.form = form)), "accepted");
    }
    // 2016 to mid 2021: NULL parameters, three attributes, rsaEncryption.
    let old = changed(|p| {
        p.digest_algorithms = vec![algorithm(SHA_256)];
        p.digest_algorithm = algorithm(SHA_256);
        p.attributes.remove(2);
        p.signature_algorithm = algorithm(RSA);
    });
    assert_eq!(outcome(&old), "accepted");
    // Parameters absent here and NULL there are one algorithm.
    let mixed = changed(|p| {
        p.digest_algorithm = algorithm(SHA_256);
        p.signature_algorithm = bare_algorithm(RSA_SHA_256);
    });
    assert_eq!(outcome(&mixed), "accepted");
    let bare = changed(|p| p.attributes = vec![content_type(), digest_of(&p.content)]);
    assert_eq!(outcome(&bare), "accepted");
}

#[test]
fn a_document_with_unknown_members_a_local_zone_and_no_address_is_read() {
    let document = verify(Proof::of(DOCUMENT).text().as_bytes(), &test_keys()).expect("good");
    assert_eq!(document.account_id(), "012345678901");
    assert_eq!(document.availability_zone(), "xx-test-1-lax-1a");
    assert_eq!(document.private_ip(), None);
    assert_eq!(document.pending_time(), 1_771_202_307);
}

/// Which check of the shape refused.
fn shape_fault(proof: &Proof) -> &'static str {
    match verify(proof.text().as_bytes(), &test_keys()) {
        Err(IidRefusal::Shape(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

// rule: IID-2
#[test]
fn rustsec_2026_0046_every_other_cms_shape_is_refused_although_the_signature_is_good() {
    let sets: Vec<(&str, Proof)> = vec![
        (
            "the content type is not signed data",
            changed(|p| p.outer_type = ENVELOPED_DATA),
        ),
        (
            "the SignedData version is not 1",
            changed(|p| p.version = 3),
        ),
        (
            "there is not exactly one digest algorithm",
            changed(|p| p.digest_algorithms.clear()),
        ),
        (
            "there is not exactly one digest algorithm",
            changed(|p| p.digest_algorithms.push(algorithm(SHA_256))),
        ),
        (
            "the digest algorithm is not SHA-256",
            changed(|p| p.digest_algorithms = vec![algorithm(SHA_1)]),
        ),
        (
            "the inner content type is not data",
            changed(|p| p.inner_type = SIGNED_DATA),
        ),
        (
            "the content is detached",
            changed(|p| p.form = Form::Detached),
        ),
        (
            "its encoding is not one that is known",
            changed(|p| p.form = Form::DefiniteSegments),
        ),
        (
            "the content's segments are not octet strings",
            changed(|p| p.form = Form::NestedSegments),
        ),
        (
            "the content is not an octet string",
            changed(|p| p.form = Form::Utf8String),
        ),
        (
            "it embeds certificates",
            changed(|p| p.extra = vec![0xa0, 0]),
        ),
        (
            "it embeds revocation lists",
            changed(|p| p.extra = vec![0xa1, 0]),
        ),
        (
            "there is not exactly one signer",
            changed(|p| p.signers = 0),
        ),
        (
            "there is not exactly one signer",
            changed(|p| p.signers = 2),
        ),
        (
            "the SignerInfo version is not 1",
            changed(|p| p.signer_version = 3),
        ),
        (
            "the signer is not named by issuer and serial",
            changed(|p| p.sid = der(0x80, &[&[1, 2, 3, 4]])),
        ),
        (
            "the signer's digest algorithm is not SHA-256",
            changed(|p| p.digest_algorithm = algorithm(SHA_1)),
        ),
        (
            "the signature algorithm is not RSA with SHA-256",
            changed(|p| p.signature_algorithm = algorithm(RSA_PSS)),
        ),
        (
            "the signer's digest algorithm is not SHA-256",
            changed(|p| {
                p.digest_algorithm = der(0x30, &[&oid(SHA_256), &der(4, &[&[1]])]);
            }),
        ),
        (
            "it has unsigned attributes",
            changed(|p| p.unsigned = der(0xa1, &[&signing_time()])),
        ),
        (
            "it has no signed attributes",
            changed(|p| p.attributes.clear()),
        ),
    ];
    for (fault, mut proof) in sets {
        assert_eq!(shape_fault(&proof), fault);
        if matches!(proof.form, Form::Segments(_)) {
            proof.form = Form::Der;
            assert_eq!(shape_fault(&proof), fault, "in DER");
        }
    }
}

#[test]
fn embedded_certificates_are_refused_even_a_matching_one() {
    use base64::Engine;
    let pem: String = test_certificate()
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let certificate = base64::engine::general_purpose::STANDARD
        .decode(pem)
        .expect("base64");
    let proof = changed(|p| p.extra = der(0xa0, &[&certificate]));
    assert_eq!(shape_fault(&proof), "it embeds certificates");
}

#[test]
fn signed_attributes_are_a_closed_list_each_once_with_one_value() {
    let base = Proof::of(DOCUMENT);
    let digest = digest_of(&base.content);
    let protection_for = |digest: &str, signature: &str| {
        vec![
            content_type(),
            protection(&algorithm(digest), signature),
            digest_of(&base.content),
        ]
    };
    let mac = der(0xa2, &[&oid(SHA_256)]);
    let sets: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("no content type", vec![digest.clone()]),
        ("no digest", vec![content_type(), signing_time()]),
        (
            "content type twice",
            vec![content_type(), content_type(), digest.clone()],
        ),
        (
            "digest twice",
            vec![content_type(), digest.clone(), digest.clone()],
        ),
        (
            "another digest too",
            vec![content_type(), digest.clone(), digest_of(b"other")],
        ),
        (
            "time twice",
            vec![
                content_type(),
                signing_time(),
                signing_time(),
                digest.clone(),
            ],
        ),
        (
            "content type changed",
            vec![
                attribute(CONTENT_TYPE, &[&oid(SIGNED_DATA)]),
                digest.clone(),
            ],
        ),
        (
            "two content types in one",
            vec![
                attribute(CONTENT_TYPE, &[&oid(DATA), &oid(SIGNED_DATA)]),
                digest.clone(),
            ],
        ),
        (
            "no value",
            vec![attribute(CONTENT_TYPE, &[]), digest.clone()],
        ),
        (
            "digest of another type",
            vec![
                content_type(),
                attribute(MESSAGE_DIGEST, &[&der(0x0c, &[&[7; 32]])]),
            ],
        ),
        (
            "time of another type",
            vec![
                content_type(),
                attribute(SIGNING_TIME, &[&[5, 0]]),
                digest.clone(),
            ],
        ),
        (
            "unknown attribute",
            vec![
                content_type(),
                attribute("1.2.3.4", &[&[5, 0]]),
                digest.clone(),
            ],
        ),
        (
            "protection: other digest",
            protection_for(SHA_1, RSA_SHA_256),
        ),
        ("protection: other signature", protection_for(SHA_256, RSA)),
        (
            "protection without signature",
            vec![
                content_type(),
                attribute(PROTECTION, &[&der(0x30, &[&algorithm(SHA_256)])]),
                digest.clone(),
            ],
        ),
        (
            "protection with a MAC",
            vec![
                content_type(),
                attribute(PROTECTION, &[&der(0x30, &[&algorithm(SHA_256), &mac])]),
                digest.clone(),
            ],
        ),
    ];
    for (what, attributes) in sets {
        let proof = changed(|p| p.attributes = attributes);
        assert_eq!(outcome(&proof), "iid-shape", "{what}");
    }
}

#[test]
fn rustsec_2026_0047_digest_and_signature_both_have_to_fit() {
    let other = changed(|p| p.attributes = vec![content_type(), digest_of(b"another document")]);
    assert_eq!(outcome(&other), "iid-digest-mismatch");
    let short = changed(|p| {
        p.attributes = vec![
            content_type(),
            attribute(MESSAGE_DIGEST, &[&der(4, &[&[]])]),
        ];
    });
    assert_eq!(outcome(&short), "iid-digest-mismatch");
    // Signed over the content, or over the attributes under their transport tag.
    let content = changed(|p| p.signed_instead = Some(p.content.clone()));
    assert_eq!(outcome(&content), "iid-bad-signature");
    let tagged = changed(|p| p.signed_instead = Some(der(0xa0, &[&p.attributes.concat()])));
    assert_eq!(outcome(&tagged), "iid-bad-signature");
}

#[test]
fn attributes_sent_as_content_are_refused() {
    // A true signature value over somebody's attributes, presented as a signature over content
    // that happens to be those attributes.
    let attributes = der(0x31, &[&Proof::of(DOCUMENT).attributes.concat()]);
    let proof = changed(|p| {
        p.content = attributes.clone();
        p.attributes.clear();
        p.signed_instead = Some(attributes);
    });
    assert_eq!(outcome(&proof), "iid-shape");
}

#[test]
fn every_length_has_one_spelling_only() {
    let blob = Proof::of(DOCUMENT).blob();
    // The DER of the inner parts in long form or with indefinite length.
    let short = der(0x31, &[&bare_algorithm(SHA_256)]);
    let at = blob
        .windows(short.len())
        .position(|w| w == short)
        .expect("the digest algorithms");
    for other in [
        [&[0x31, 0x81, short[1]], &short[2..]].concat(),
        [&[0x31, 0x80], &short[2..], &[0, 0]].concat(),
    ] {
        let spoiled = [&blob[..at], &other, &blob[at + short.len()..]].concat();
        let result = verify(lines(&spoiled, 76).as_bytes(), &test_keys());
        let name = result.expect_err("another spelling").name();
        assert!(["iid-shape", "iid-not-cms"].contains(&name), "{name}");
    }
}

fn document_fault(document: &str) -> DocumentFault {
    match verify(Proof::of(document).text().as_bytes(), &test_keys()) {
        Err(IidRefusal::BadDocument(fault)) => fault,
        other => panic!("{document}\n{other:?}"),
    }
}

// rule: IID-4
#[test]
fn a_duplicate_member_in_a_signed_document_is_refused() {
    let twice = DOCUMENT.replace("\"kernelId\" : null", "\"accountId\" : \"999999999999\"");
    assert_eq!(document_fault(&twice), DocumentFault::DuplicateMember);
    let inside = DOCUMENT.replace("{ }", "{ \"x\" : 1, \"x\" : 1 }");
    assert_eq!(document_fault(&inside), DocumentFault::DuplicateMember);
}

#[test]
fn required_members_are_required_and_names_are_exact() {
    for name in [
        "accountId",
        "architecture",
        "availabilityZone",
        "imageId",
        "instanceId",
        "instanceType",
        "pendingTime",
        "region",
        "version",
    ] {
        let quoted = format!("\"{name}\"");
        for other in [format!("\"x{name}\""), quoted.to_uppercase()] {
            let document = DOCUMENT.replace(&quoted, &other);
            assert_eq!(document_fault(&document), DocumentFault::Missing(name));
        }
        let start = DOCUMENT.find(&format!("{quoted} : ")).expect(name) + quoted.len() + 3;
        let end = start
            + DOCUMENT[start..]
                .find(",\n")
                .unwrap_or_else(|| DOCUMENT[start..].find("\n}").expect("the last member"));
        let value = &DOCUMENT[start..end];
        for other in [
            "null",
            "7",
            "true",
            "{}",
            "[]",
            "\"\"",
            &format!("[{value}]"),
        ] {
            let document = [&DOCUMENT[..start], other, &DOCUMENT[end..]].concat();
            assert_eq!(
                document_fault(&document),
                DocumentFault::Malformed(name),
                "{other}"
            );
        }
    }
}

#[test]
fn formats_are_exact() {
    let cases: [(&str, &str, &[&str]); 9] = [
        (
            "accountId",
            "012345678901",
            &[
                "12345678901",
                "0123456789012",
                "01234567890a",
                " 12345678901",
                "٠١٢٣٤٥",
            ],
        ),
        (
            "instanceId",
            "i-0c5541936caf78c12",
            &[
                "0c5541936caf78c12",
                "i-",
                "i-0c5541936caf78c1",
                "i-0C5541936CAF78C12",
                "i-0c5541936caf78c1g",
                "i-0c5541936caf78c12 ",
                "I-0c5541936caf78c12",
                "i-../../etc",
                "i-0c5541936caf78c12/x",
            ],
        ),
        (
            "imageId",
            "ami-0cbde744623b7506b",
            &[
                "0cbde744623b7506b",
                "ami-0cbde744623b7506",
                "i-0cbde744623b7506b",
            ],
        ),
        (
            "region",
            "xx-test-1",
            &["XX-TEST-1", "xx_test_1", "1x-test", "xx test", "../xx"],
        ),
        (
            "availabilityZone",
            "xx-test-1-lax-1a",
            &["xx/test", "xx test-1a", "XX-1A"],
        ),
        (
            "instanceType",
            "u-6tb1.112xlarge",
            &["T2.micro", "t2 micro", "t2/micro"],
        ),
        (
            "architecture",
            "arm64",
            &["ARM64", "arm-64", "arm64\\u0000"],
        ),
        (
            "version",
            "2017-09-30",
            &["2017-9-30", "2017-13-30", "2017-02-30", "20170930"],
        ),
        (
            "pendingTime",
            "2026-02-16T00:38:27Z",
            &[
                "2026-02-16T00:38:27",
                "2026-02-16T00:38:27.5Z",
                "2026-02-16T00:38:27+00:00",
                "2026-02-16 00:38:27Z",
                "2026-02-30T00:38:27Z",
                "2026-02-16T24:00:00Z",
                "2026-02-16T00:38:60Z",
                "2026-02-16t00:38:27z",
                "1969-12-31T23:59:59Z",
                "1771202307",
                "Mon, 16 Feb 2026 00:",
            ],
        ),
    ];
    for (name, good, bads) in cases {
        let member = format!("\"{name}\" : \"{good}\"");
        assert!(DOCUMENT.contains(&member), "{member}");
        for bad in bads {
            let document = DOCUMENT.replace(&member, &format!("\"{name}\" : \"{bad}\""));
            assert_eq!(
                document_fault(&document),
                DocumentFault::Malformed(name),
                "{bad}"
            );
        }
    }
    for bad in [
        "\"10.0.0\"",
        "\"10.0.0.256\"",
        "\"\"",
        "7",
        "[]",
        "\"host\"",
    ] {
        let document = DOCUMENT.replace("\"privateIp\" : null", &format!("\"privateIp\" : {bad}"));
        assert_eq!(
            document_fault(&document),
            DocumentFault::Malformed("privateIp")
        );
    }
}

#[test]
fn content_that_is_not_one_json_object_is_refused() {
    for document in [
        "",
        "[]",
        "{",
        "\u{feff}{}",
        &format!("{DOCUMENT}{DOCUMENT}"),
    ] {
        assert_eq!(document_fault(document), DocumentFault::NotAnObject);
    }
    let deep = DOCUMENT.replace("{ }", &"[".repeat(500));
    assert_eq!(document_fault(&deep), DocumentFault::TooDeep);
}

#[test]
fn a_region_outside_the_table_is_named_in_the_refusal() {
    let elsewhere = DOCUMENT.replace("\"region\" : \"xx-test-1\"", "\"region\" : \"us-east-1\"");
    assert_eq!(
        verify(Proof::of(&elsewhere).text().as_bytes(), &test_keys()),
        Err(IidRefusal::UnknownRegion("us-east-1".into()))
    );
    // A test key does not pass for a region of the built-in table.
    assert_eq!(
        verify(
            Proof::of(&elsewhere).text().as_bytes(),
            &RegionKeys::built_in()
        ),
        Err(IidRefusal::BadSignature("us-east-1".into()))
    );
}

// rule: IID-5 (the test certificate's dates are long over)
#[test]
fn a_table_of_keys_is_refused_with_the_region_at_fault() {
    let good = test_certificate();
    let empty: [(&str, &str); 0] = [];
    assert_eq!(
        RegionKeys::from_pems(empty).unwrap_err(),
        RegionKeysError::Empty
    );
    assert_eq!(
        RegionKeys::from_pems([("xx-1", &good), ("xx-1", &good)]).unwrap_err(),
        RegionKeysError::Twice("xx-1".into())
    );
    assert_eq!(
        RegionKeys::from_pems([("../x", &good)]).unwrap_err(),
        RegionKeysError::BadRegionName("../x".into())
    );
    let rsa1024 = short_certificate();
    let not_rsa = certificate(&der(
        0x30,
        &[&algorithm("1.2.840.10040.4.1"), &der(3, &[&[0, 2, 1, 5]])],
    ));
    for (pem, fault) in [
        (String::new(), CertificateFault::NotPem),
        ("rubbish".into(), CertificateFault::NotPem),
        (
            good.replace("CERTIFICATE", "PUBLIC KEY"),
            CertificateFault::NotPem,
        ),
        (format!("{good}{good}"), CertificateFault::SeveralBlocks),
        (
            format!("{good}{}", " ".repeat(20_000)),
            CertificateFault::TooLarge,
        ),
        (
            format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                lines(&der(0x30, &[&[5, 0]]), 64)
            ),
            CertificateFault::NotACertificate,
        ),
        (not_rsa, CertificateFault::NotRsa),
        (rsa1024, CertificateFault::TooShort),
    ] {
        assert_eq!(
            RegionKeys::from_pems([("xx-1", &pem)]).unwrap_err(),
            RegionKeysError::BadCertificate {
                region: "xx-1".into(),
                fault
            },
            "{pem}"
        );
    }
}

/// A certificate around a 1,024-bit modulus (of any numbers: only its length is looked at).
fn short_certificate() -> String {
    let modulus = [&[0, 0xc1][..], &[0x55; 126], &[0x57]].concat();
    let key = der(0x30, &[&der(2, &[&modulus]), &der(2, &[&[1, 0, 1]])]);
    certificate(&der(0x30, &[&algorithm(RSA), &der(3, &[&[0], &key])]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_verifier_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let keys = test_keys();
        let _ = verify(&bytes, &keys);
        prop_assert!(verify(lines(&bytes, 76).as_bytes(), &keys).is_err());
    }

    #[test]
    fn no_splice_of_a_good_proof_makes_the_verifier_panic_or_changes_the_document(
        folder in 0..4usize,
        start in 0..1100usize,
        length in 0..40usize,
        filling in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let keys = RegionKeys::built_in();
        let folder = REAL[folder].0;
        let mut blob = real_blob(folder);
        let start = start.min(blob.len());
        let end = (start + length).min(blob.len());
        blob.splice(start..end, filling);
        if let Ok(document) = verify(lines(&blob, 76).as_bytes(), &keys) {
            prop_assert_eq!(document.text().as_bytes(), real(folder, "document.json"));
        }
    }
}
