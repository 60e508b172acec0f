//! `inspect wrapped`.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use clap::Args;
use client::cli::output::{Printed, base64url};
use serde_json::json;
use ticket_format::limits;
use ticket_format::wrapped;

use crate::admin::Context;
use crate::admin::view::{object, text};

/// A wrapped DEK.
#[derive(Debug, Args)]
pub struct Wrapped {
    /// Its bytes, or the base64url text of an object's metadata; `-` for stdin
    file: PathBuf,
}

pub(super) fn run(context: &Context, args: &Wrapped) -> Printed {
    let read = super::read(&args.file, 2 * limits::WRAPPED)?;
    // A wrap begins with the head of an array of nine, 0x89, which is no character of base64.
    let decoded = BASE64URL.decode(read.trim_ascii()).ok();
    let bytes = decoded.as_deref().unwrap_or(&read);
    let parsed =
        wrapped::Wrapped::parse(bytes).map_err(super::malformed(&args.file, "a wrapped DEK"))?;
    let header = parsed.header();
    let mut object = object! {
        "kind": match parsed { wrapped::Wrapped::Local { .. } => "local", wrapped::Wrapped::Public { .. } => "public" },
        "bytes": bytes.len(),
        "dataset": text(header.dataset),
        "kek": text(header.kek),
        "kek_version": header.kek_version,
        "dek": text(header.dek),
        // Nothing of it is authenticated before a key server has opened it.
        "claimed_origin": text(parsed.claimed_origin()),
    };
    if let wrapped::Wrapped::Public {
        enc,
        commitment,
        producer,
        ..
    } = &parsed
    {
        object.extend(object! { "enc": base64url(enc), "commitment": base64url(commitment) });
        let producer = producer.as_ref().map(|claim| {
            json!({ "producer": text(claim.producer), "body_commitment": base64url(&claim.body_commitment) })
        });
        object.insert("producer".to_owned(), json!(producer));
    }
    super::print(context, object)
}
