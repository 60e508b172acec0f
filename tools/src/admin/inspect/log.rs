//! `inspect receipt` and `inspect entry`.

use std::path::{Path, PathBuf};

use clap::Args;
use client::cli::output::Printed;
use serde_json::Value;
use ticket_format::cbor::Decode;
use ticket_format::entry::Entry;
use ticket_format::ids::ChainDigest;
use ticket_format::limits;
use ticket_format::messages::Receipt;
use ticket_format::report::Report;

use crate::admin::Context;
use crate::admin::view::{self, object, text};

/// A file of the audit log's.
#[derive(Debug, Args)]
pub struct File {
    /// Its bytes; `-` for stdin
    file: PathBuf,
}

pub(super) fn receipt(context: &Context, args: &File) -> Printed {
    let bytes = super::read(&args.file, limits::ENTRY + 64)?;
    let receipt = Receipt::from_cbor(&bytes, limits::ENTRY + 64)
        .map_err(super::malformed(&args.file, "a receipt"))?;
    let entry = read(&args.file, &receipt.entry)?;
    super::print(
        context,
        object! {
            "index": receipt.index,
            "chain": text(ChainDigest(receipt.chain)),
            "entry": Value::Object(view::entry(&entry)),
        },
    )
}

pub(super) fn entry(context: &Context, args: &File) -> Printed {
    let bytes = super::read(&args.file, limits::ENTRY)?;
    super::print(context, view::entry(&read(&args.file, &bytes)?))
}

fn read(path: &Path, bytes: &[u8]) -> Result<Entry, Report> {
    Entry::from_cbor(bytes, limits::ENTRY).map_err(super::malformed(path, "an audit entry"))
}
