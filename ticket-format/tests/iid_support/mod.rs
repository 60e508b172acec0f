//! A CMS writer for tests, on purpose not built on the library that the verifier reads with.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test program uses its own part

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use const_oid::ObjectIdentifier;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::LazyLock;
use ticket_format::iid::RegionKeys;

pub const DATA: &str = "1.2.840.113549.1.7.1";
pub const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
pub const ENVELOPED_DATA: &str = "1.2.840.113549.1.7.3";
pub const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
pub const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
pub const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";
pub const PROTECTION: &str = "1.2.840.113549.1.9.52";
pub const SHA_256: &str = "2.16.840.1.101.3.4.2.1";
pub const SHA_1: &str = "1.3.14.3.2.26";
pub const RSA: &str = "1.2.840.113549.1.1.1";
pub const RSA_PSS: &str = "1.2.840.113549.1.1.10";
pub const RSA_SHA_256: &str = "1.2.840.113549.1.1.11";

/// The region whose key the tests hold.
pub const REGION: &str = "xx-test-1";

pub const DOCUMENT: &str = r#"{
  "accountId" : "012345678901",
  "architecture" : "arm64",
  "availabilityZone" : "xx-test-1-lax-1a",
  "billingProducts" : [ "bp-63a5400a" ],
  "devpayProductCodes" : null,
  "imageId" : "ami-0cbde744623b7506b",
  "instanceId" : "i-0c5541936caf78c12",
  "instanceType" : "u-6tb1.112xlarge",
  "kernelId" : null,
  "pendingTime" : "2026-02-16T00:38:27Z",
  "privateIp" : null,
  "region" : "xx-test-1",
  "somethingNew" : { "a" : [ 1, 2.5, true, { } ] },
  "version" : "2017-09-30"
}"#;

pub fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let mut out = vec![tag];
    match value.len() {
        n @ 0..=0x7f => out.push(n as u8),
        n @ 0x80..=0xff => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend(value);
    out
}

pub fn indefinite(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[tag, 0x80], parts.concat().as_slice(), &[0, 0]].concat()
}

pub fn oid(dotted: &str) -> Vec<u8> {
    der(6, &[ObjectIdentifier::new_unwrap(dotted).as_bytes()])
}

/// An AlgorithmIdentifier with NULL parameters.
pub fn algorithm(dotted: &str) -> Vec<u8> {
    der(0x30, &[&oid(dotted), &[5, 0]])
}

/// An AlgorithmIdentifier without parameters.
pub fn bare_algorithm(dotted: &str) -> Vec<u8> {
    der(0x30, &[&oid(dotted)])
}

pub fn attribute(dotted: &str, values: &[&[u8]]) -> Vec<u8> {
    der(0x30, &[&oid(dotted), &der(0x31, values)])
}

pub fn content_type() -> Vec<u8> {
    attribute(CONTENT_TYPE, &[&oid(DATA)])
}

pub fn signing_time() -> Vec<u8> {
    attribute(SIGNING_TIME, &[&der(0x17, &[b"260216003828Z"])])
}

pub fn digest_of(content: &[u8]) -> Vec<u8> {
    attribute(MESSAGE_DIGEST, &[&der(4, &[&Sha256::digest(content)])])
}

pub fn protection(digest: &[u8], signature: &str) -> Vec<u8> {
    let signature = der(0xa1, &[&oid(signature), &[5, 0]]);
    attribute(PROTECTION, &[&der(0x30, &[digest, &signature])])
}

static KEY: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).expect("a test key"));

/// A certificate for any SubjectPublicKeyInfo. Its own signature is rubbish, its dates are over.
pub fn certificate(spki: &[u8]) -> String {
    let name = der(0x30, &[]);
    let dates = der(
        0x30,
        &[
            &der(0x17, &[b"990101000000Z"]),
            &der(0x17, &[b"990102000000Z"]),
        ],
    );
    let tbs = der(
        0x30,
        &[
            &der(2, &[&[7]]),
            &algorithm(RSA_SHA_256),
            &name,
            &dates,
            &name,
            spki,
        ],
    );
    let whole = der(
        0x30,
        &[&tbs, &algorithm(RSA_SHA_256), &der(3, &[&[0, 1, 2]])],
    );
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines(&whole, 64)
    )
}

pub fn test_certificate() -> String {
    let spki: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
        KEY.public_key().as_der().expect("the test key in DER");
    certificate(spki.as_ref())
}

pub fn test_keys() -> RegionKeys {
    RegionKeys::from_pems([(REGION, test_certificate())]).expect("a table of one key")
}

pub fn sign(message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; KEY.public_modulus_len()];
    KEY.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        message,
        &mut signature,
    )
    .expect("a signature");
    signature
}

/// Base64 in lines of `width`, as the metadata service serves it (76).
pub fn lines(bytes: &[u8], width: usize) -> String {
    let text = STANDARD.encode(bytes);
    let rows: Vec<&str> = (0..text.len())
        .step_by(width)
        .map(|at| &text[at..text.len().min(at + width)])
        .collect();
    rows.join("\n")
}

#[derive(Clone, Copy)]
pub enum Form {
    /// DER throughout.
    Der,
    /// Indefinite lengths, primitive content.
    Primitive,
    /// Indefinite lengths, content in segments of so many bytes.
    Segments(usize),
    /// Indefinite lengths, `eContent` left out.
    Detached,
    /// Indefinite lengths, the constructed content has a definite length.
    DefiniteSegments,
    /// Indefinite lengths, segments in a segment.
    NestedSegments,
    /// Indefinite lengths, the content is of another type than octet string.
    Utf8String,
}

/// Everything about a proof that a test may want to spoil.
#[derive(Clone)]
pub struct Proof {
    pub form: Form,
    pub outer_type: &'static str,
    pub version: u8,
    pub digest_algorithms: Vec<Vec<u8>>,
    pub inner_type: &'static str,
    pub content: Vec<u8>,
    /// Whole encoded fields between content and SignerInfos: certificates, CRLs.
    pub extra: Vec<u8>,
    pub signers: usize,
    pub signer_version: u8,
    pub sid: Vec<u8>,
    pub digest_algorithm: Vec<u8>,
    /// The encoded attributes; empty list: field left out.
    pub attributes: Vec<Vec<u8>>,
    pub signature_algorithm: Vec<u8>,
    /// Signs this instead of the attributes.
    pub signed_instead: Option<Vec<u8>>,
    /// Whole encoded field behind the signature: unsigned attributes.
    pub unsigned: Vec<u8>,
}

impl Proof {
    /// The encoding of 2026.
    pub fn of(document: &str) -> Self {
        let content = document.as_bytes().to_vec();
        let attributes = vec![
            content_type(),
            signing_time(),
            protection(&bare_algorithm(SHA_256), RSA_SHA_256),
            digest_of(&content),
        ];
        Self {
            form: Form::Segments(1000),
            outer_type: SIGNED_DATA,
            version: 1,
            digest_algorithms: vec![bare_algorithm(SHA_256)],
            inner_type: DATA,
            content,
            extra: Vec::new(),
            signers: 1,
            signer_version: 1,
            sid: der(0x30, &[&der(0x30, &[]), &der(2, &[&[0x15]])]),
            digest_algorithm: bare_algorithm(SHA_256),
            attributes,
            signature_algorithm: algorithm(RSA_SHA_256),
            signed_instead: None,
            unsigned: Vec::new(),
        }
    }

    fn signer_info(&self, number: usize) -> Vec<u8> {
        let attributes = self.attributes.concat();
        let covered = match (&self.signed_instead, self.attributes.is_empty()) {
            (Some(other), _) => other.clone(),
            (None, true) => self.content.clone(),
            (None, false) => der(0x31, &[&attributes]),
        };
        let field = if self.attributes.is_empty() {
            Vec::new()
        } else {
            der(0xa0, &[&attributes])
        };
        let mut sid = self.sid.clone();
        if let Some(last) = sid.last_mut() {
            *last += number as u8;
        }
        der(
            0x30,
            &[
                &der(2, &[&[self.signer_version]]),
                &sid,
                &self.digest_algorithm,
                &field,
                &self.signature_algorithm,
                &der(4, &[&sign(&covered)]),
                &self.unsigned,
            ],
        )
    }

    fn content_field(&self) -> Vec<u8> {
        let primitive = der(4, &[&self.content]);
        let segments = |size: usize| -> Vec<u8> {
            let each: Vec<Vec<u8>> = self.content.chunks(size).map(|c| der(4, &[c])).collect();
            each.concat()
        };
        let inner = match self.form {
            Form::Der | Form::Primitive => primitive,
            Form::Segments(size) => indefinite(0x24, &[&segments(size)]),
            Form::Detached => return Vec::new(),
            Form::DefiniteSegments => der(0x24, &[&segments(100)]),
            Form::NestedSegments => indefinite(0x24, &[&indefinite(0x24, &[&segments(100)])]),
            Form::Utf8String => der(0x0c, &[&self.content]),
        };
        self.wrap(0xa0, &[&inner])
    }

    fn wrap(&self, tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        match self.form {
            Form::Der => der(tag, parts),
            _ => indefinite(tag, parts),
        }
    }

    pub fn blob(&self) -> Vec<u8> {
        let algorithms = der(0x31, &[&self.digest_algorithms.concat()]);
        let inner = self.wrap(0x30, &[&oid(self.inner_type), &self.content_field()]);
        let signers: Vec<Vec<u8>> = (0..self.signers).map(|n| self.signer_info(n)).collect();
        let signed = self.wrap(
            0x30,
            &[
                &der(2, &[&[self.version]]),
                &algorithms,
                &inner,
                &self.extra,
                &der(0x31, &[&signers.concat()]),
            ],
        );
        let field = self.wrap(0xa0, &[&signed]);
        self.wrap(0x30, &[&oid(self.outer_type), &field])
    }

    pub fn text(&self) -> String {
        lines(&self.blob(), 76)
    }
}

/// The four real proofs: folder and region.
pub const REAL: [(&str, &str); 4] = [
    ("taskcluster-2018", "us-west-2"),
    ("teleport-2021-a", "us-west-2"),
    ("ansible-2022-a", "ap-northeast-2"),
    ("metaphor-2026", "ap-southeast-2"),
];

pub fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/aws/iid"))
}

pub fn real(folder: &str, file: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(folder).join(file)).expect("a fixture")
}

/// A fixture's proof, decoded.
pub fn real_blob(folder: &str) -> Vec<u8> {
    let text = String::from_utf8(real(folder, "rsa2048.b64")).expect("base64 text");
    STANDARD
        .decode(text.replace('\n', ""))
        .expect("base64 text")
}
