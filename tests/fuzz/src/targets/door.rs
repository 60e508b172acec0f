//! The agent's socket, and what the door gives to other programs: ciphertexts, and metadata of their objects.

use client::agent::wire::{Answer, Request};
use client::door::Token;
use client::door::blob::Blob;
use client::object::s3ec::{COMMITMENT_LEN, MESSAGE_ID_LEN, S3ecMetadata, Version};
use ticket_format::cbor::Encode as _;
use ticket_format::ids::DatasetId;
use ticket_format::key_pair::KeyPairKind;
use ticket_format::report::Report;
use ticket_format::{Context, Refusal};

use super::{READS, Target, all_have_one_encoding};
use crate::mutate::Form;
use crate::tree;

/// What callers say to the agent, and it to them.
pub const AGENT: Target = Target {
    name: "agent",
    form: Form::Cbor,
    runs: 80_000,
    room: READS,
    seeds: || {
        let (dataset, context) = ("faces".to_owned(), Context::default());
        let requests = [
            Request::Open {
                datasets: vec![dataset.clone(), "roads".to_owned()],
                token: Token::from_bytes([3; Token::LEN]),
            },
            Request::Redeem {
                dataset: dataset.clone(),
                items: vec![(context.clone(), vec![9; 120])],
            },
            Request::Generate {
                dataset: dataset.clone(),
                context,
                with_dek: true,
                pair: Some(KeyPairKind::ALL[0]),
            },
            Request::Status,
            Request::Dataset(dataset),
        ];
        let report = Report::new(4, "it cannot be had")
            .why("for no reason")
            .next("ask again");
        let answers = [
            Answer::Failed(report),
            Answer::Open,
            Answer::Status("{}".to_owned()),
            Answer::Opened(vec![Ok(Default::default()), Err(Refusal::Denied)]),
        ];
        let requests = requests.iter().map(|request| request.to_cbor());
        requests
            .chain(answers.iter().map(|answer| answer.to_cbor()))
            .collect()
    },
    run: agent,
};

fn agent(data: &[u8]) {
    // rule: AGT-9
    all_have_one_encoding!(data; Request, Answer);
}

/// What KMS calls a `CiphertextBlob`.
pub const BLOB: Target = Target {
    name: "blob",
    form: Form::Cbor,
    runs: 80_000,
    room: READS,
    seeds: || {
        [None, Some(vec![5; 48])]
            .map(|sealed| Blob { sealed, ..sample() }.to_bytes())
            .into()
    },
    run: blob,
};

fn sample() -> Blob {
    Blob {
        dataset: DatasetId([7; 16]),
        wrapped: vec![9; 120],
        form: "data-key/32".to_owned(),
        sealed: None,
    }
}

fn blob(data: &[u8]) {
    if let Ok(read) = Blob::parse(data) {
        // rule: DOOR-6
        assert_eq!(read.to_bytes(), data, "a ciphertext has two encodings");
        assert!(
            tree::deterministic(data),
            "a ciphertext that is not deterministic was taken"
        );
    }
}

/// The user metadata of an object of the S3 Encryption Client: a name and a value in each line.
pub const S3EC: Target = Target {
    name: "s3ec",
    form: Form::Text,
    runs: 40_000,
    room: READS,
    seeds: || {
        let stored = [("team", "maps"), ("stage", "\u{e9}\n\"")];
        let stored = stored.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let metadata = S3ecMetadata {
            version: Version::V3 {
                message_id: [1; MESSAGE_ID_LEN],
                commitment: [2; COMMITMENT_LEN],
            },
            dataset: DatasetId([7; 16]),
            wrapped: vec![9; 120],
            stored: stored.into(),
        };
        let v3 = lines(metadata.encode().expect("it fits"));
        let key = v3.lines().find_map(|line| line.strip_prefix("x-amz-3="));
        let v2 = lines([
            ("x-amz-key-v2", key.expect("its key").to_owned()),
            ("x-amz-cek-alg", "AES/GCM/NoPadding".to_owned()),
            ("x-amz-wrap-alg", "kms+context".to_owned()),
            ("x-amz-iv", "AAAAAAAAAAAAAAAA".to_owned()),
            ("x-amz-tag-len", "128".to_owned()),
            (
                "x-amz-matdesc",
                r#"{"aws:x-amz-cek-alg":"AES/GCM/NoPadding"}"#.to_owned(),
            ),
        ]);
        vec![v3.into_bytes(), v2.into_bytes()]
    },
    run: s3ec,
};

fn lines<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let lines = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}\n"));
    lines.collect()
}

fn s3ec(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(Some(read)) = S3ecMetadata::parse(text.lines().filter_map(|line| line.split_once('=')))
    else {
        return;
    };
    // rule: AMZ-4
    if let Ok(again) = read.encode() {
        let pairs = again.iter().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(
            S3ecMetadata::parse(pairs).as_ref(),
            Ok(&Some(read)),
            "metadata are others when they are written again"
        );
    }
}
