//! Encrypted objects: the body in one go, in pieces and by ranges, the file's header, S3's metadata.

use std::sync::LazyLock;

use client::object::metadata::ObjectMetadata;
use client::object::{Decryptor, Encryptor, ObjectContext, RangePlan, container, recovery};
use ticket_format::recovery::Recovery;

use super::{DECIDES, Target, all_have_one_encoding};
use crate::mutate::Form;
use crate::vectors;

/// An object's body, under the key and context of the vectors.
pub const OBJECT: Target = Target {
    name: "object",
    form: Form::Bytes,
    runs: 8_000,
    room: (512 * 1024, 8),
    seeds: || vectors::all_bytes(|file, member, _| file.starts_with("object/") && member == "body"),
    run: object,
};

fn key() -> ([u8; 32], ObjectContext) {
    (
        vectors::array("object/short", "key"),
        ObjectContext::new(vectors::bytes("object/short", "context")),
    )
}

/// What the key's owner has encrypted.
fn known(plaintext: &[u8]) -> bool {
    plaintext
        .iter()
        .zip(0u32..)
        .all(|(byte, at)| u32::from(*byte) == at % 251)
}

fn object(data: &[u8]) {
    let (dek, context) = key();
    let whole = in_pieces(&dek, &context, data, data.len().max(1));
    let pieces = in_pieces(&dek, &context, data, 4_097);
    // rule: OBJ-8
    assert_eq!(
        whole.is_some(),
        pieces.is_some(),
        "how a body is cut decides whether it is good"
    );
    let ranged = ranged(&dek, &context, data);
    if let Some(plaintext) = whole {
        // rule: OBJ-5, OBJ-6
        assert!(
            known(&plaintext) && bodies().contains(&data.to_vec()),
            "an object's body was forged"
        );
        assert_eq!(pieces.as_ref(), Some(&plaintext));
        assert_eq!(
            ranged.as_ref(),
            Some(&plaintext),
            "by range it is another object"
        );
        // And what was encrypted is opened again, whatever it is.
        round(data);
    }
    let cut = data.len().min(70_000);
    round(&data[..cut]);
}

fn bodies() -> &'static Vec<Vec<u8>> {
    static BODIES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (OBJECT.seeds)());
    &BODIES
}

fn in_pieces(dek: &[u8; 32], context: &ObjectContext, body: &[u8], size: usize) -> Option<Vec<u8>> {
    let (mut opener, mut out) = (Decryptor::new(dek, context), Vec::new());
    for piece in body.chunks(size) {
        opener.update(piece, &mut out).ok()?;
    }
    let length = opener.finish(&mut out).ok()?;
    assert_eq!(length, out.len() as u64);
    Some(out)
}

fn ranged(dek: &[u8; 32], context: &ObjectContext, body: &[u8]) -> Option<Vec<u8>> {
    let plan = RangePlan::whole(body.len() as u64).ok()?;
    let part = |range: std::ops::Range<u64>| {
        let at = |place: u64| usize::try_from(place).expect("within the body");
        body.get(at(range.start)..at(range.end))
            .expect("a plan stays within the body")
    };
    let mut opener = plan
        .open(dek, context, part(plan.header()), part(plan.tail()))
        .ok()?;
    let mut out = Vec::new();
    opener.update(part(plan.chunks()), &mut out).ok()?;
    opener.finish(&mut out).ok()?;
    assert_eq!(out.len() as u64, plan.plaintext_len());
    Some(out)
}

fn round(plaintext: &[u8]) {
    let (dek, context) = key();
    let mut body = Vec::new();
    let mut sealer = Encryptor::start(&dek, &context, [7; 24], &mut body).expect("a key");
    sealer
        .update(plaintext, &mut body)
        .expect("it is not too long");
    sealer.finish(&mut body).expect("it is not too long");
    assert_eq!(
        in_pieces(&dek, &context, &body, 8_191).as_deref(),
        Some(plaintext)
    );
}

/// What stands before a body in a file, and beside it in S3.
pub const METADATA: Target = Target {
    name: "metadata",
    form: Form::Cbor,
    runs: 80_000,
    room: DECIDES,
    seeds: || {
        let metadata = ObjectMetadata {
            wrapped: vectors::bytes("wrapped/local", "wrapped"),
            kek_version: 1,
            stored_context: [("team".to_owned(), "maps".to_owned())].into(),
            recoveries: Vec::new(),
        };
        let file = container::encode(&metadata).expect("a header");
        let pairs = metadata.encode().expect("it fits");
        let lines: Vec<_> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        vec![
            file[container::PREFIX_LEN..].to_vec(),
            file,
            lines.concat().into_bytes(),
        ]
    },
    run: metadata,
};

fn metadata(data: &[u8]) {
    all_have_one_encoding!(data; Recovery);
    if let Ok(read) = container::parse(data) {
        let again = container::encode(&read).expect("what was read is written");
        // rule: OBJ-12
        assert_eq!(
            &again[container::PREFIX_LEN..],
            data,
            "a file's header has two encodings"
        );
        let _ = read.context_for("a");
    }
    if let Ok(length) = container::map_len(data) {
        assert!(length <= container::MAX_MAP_LEN);
    }
    if let Ok(read) = recovery::from_bytes(data) {
        assert_eq!(
            recovery::to_bytes(&read),
            data,
            "recoveries have two encodings"
        );
    }
    let text = String::from_utf8_lossy(data);
    let pairs = || text.lines().filter_map(|line| line.split_once('='));
    if let Ok(read) = ObjectMetadata::parse(pairs()) {
        // rule: OBJ-10
        let again = read.encode().expect("what was read is written");
        let mut before: Vec<_> = pairs()
            .filter(|(name, _)| client::object::metadata::is_ours(name))
            .collect();
        before.sort_by_key(|(name, _)| name.to_ascii_lowercase());
        let mut after: Vec<_> = again
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        after.sort_unstable();
        let values = |all: &[(&str, &str)]| {
            all.iter()
                .map(|(_, value)| (*value).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            values(&before),
            values(&after),
            "metadata has two encodings"
        );
    }
}
