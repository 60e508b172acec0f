//! `inspect receipt`, `inspect checkpoint` and `inspect entry`.

use std::path::{Path, PathBuf};

use clap::Args;
use client::cli::output::Printed;
use serde_json::{Map, Value, json};
use ticket_format::cbor::Decode;
use ticket_format::entry::Entry;
use ticket_format::limits;
use ticket_format::messages::Receipt;
use ticket_format::report::{Report, exit};
use ticket_format::tlog::{Checkpoint, LogKey, Proof, Verifier, note};

use crate::admin::Context;
use crate::admin::audit::which::log_keys;
use crate::admin::view::{self, object, text};

/// Most bytes of a receipt.
const RECEIPT: usize = limits::ENTRY + limits::NOTE + 16;

/// A file of the audit log's.
#[derive(Debug, Args)]
pub struct File {
    /// Its bytes; `-` for stdin
    file: PathBuf,
}

/// One that the log has signed.
#[derive(Debug, Args)]
pub struct Signed {
    /// Its bytes; `-` for stdin
    file: PathBuf,
    /// A key of the log, twice; without them nothing is verified
    #[arg(long = "log-key", value_name = "VKEY")]
    keys: Vec<String>,
}

impl Signed {
    /// The log's key; none where none is given, which is said.
    fn key(&self) -> Result<Option<LogKey>, Report> {
        let key = log_keys(&self.keys)?.into_iter().next();
        if key.is_none() {
            let _ = std::io::Write::write_all(
                &mut anstream::stderr().lock(),
                b"UNVERIFIED: no --log-key was given, so anybody may have written this\n",
            );
        }
        Ok(key)
    }
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Report {
    Report::new(
        exit::INTEGRITY,
        format!("{} does not verify", path.display()),
    )
    .why(why)
    .next("do not use it; ask for it again where it came from")
}

pub(super) fn receipt(context: &Context, args: &Signed) -> Printed {
    let bytes = super::read(&args.file, RECEIPT)?;
    let receipt =
        Receipt::from_cbor(&bytes, RECEIPT).map_err(super::malformed(&args.file, "a receipt"))?;
    let entry = read(&args.file, &receipt.entry)?;
    let refused = |why: &dyn std::fmt::Display| refused(&args.file, why);
    let proof: Proof = receipt.proof.parse().map_err(|error| refused(&error))?;
    let key = args.key()?;
    if let Some(key) = &key {
        let verified = Verifier::new(key.clone(), None).verify(&receipt);
        verified.map_err(|error| refused(&error))?;
    }
    let mut shown = object! {
        "verified": key.is_some(),
        "shard_index": proof.index,
        "hashes": proof.path.len(),
        "checkpoint": Value::Object(of_note(&args.file, &proof.checkpoint)?),
    };
    shown.insert("entry".to_owned(), Value::Object(view::entry(&entry)));
    super::print(context, shown)
}

pub(super) fn checkpoint(context: &Context, args: &Signed) -> Printed {
    let bytes = super::read(&args.file, limits::NOTE)?;
    let note = String::from_utf8(bytes).map_err(|_| refused(&args.file, "it is not text"))?;
    let shown = of_note(&args.file, &note)?;
    let key = args.key()?;
    let mut all = object! { "verified": key.is_some() };
    if let Some(key) = &key {
        let signed = key.verify(&note);
        let signed = signed.map_err(|error| refused(&args.file, error))?;
        all.insert("signed".to_owned(), text(signed.time()));
    }
    all.extend(shown);
    super::print(context, all)
}

/// A note as it stands there, whoever signed it.
fn of_note(path: &Path, text_of: &str) -> Result<Map<String, Value>, Report> {
    let checkpoint =
        Checkpoint::of_note_unverified(text_of).map_err(|error| refused(path, error))?;
    let (_, lines) = note::split(text_of).map_err(|error| refused(path, error))?;
    let signatures: Vec<Value> = lines
        .iter()
        .map(|line| {
            let id = u32::from_be_bytes(line.id);
            json!({ "name": line.name, "key_id": format!("{id:08x}") })
        })
        .collect();
    let mut shown = view::checkpoint(&checkpoint);
    shown.insert("signatures".to_owned(), json!(signatures));
    Ok(shown)
}

pub(super) fn entry(context: &Context, args: &File) -> Printed {
    let bytes = super::read(&args.file, limits::ENTRY)?;
    super::print(context, view::entry(&read(&args.file, &bytes)?))
}

fn read(path: &Path, bytes: &[u8]) -> Result<Entry, Report> {
    Entry::from_cbor(bytes, limits::ENTRY).map_err(super::malformed(path, "an audit entry"))
}
