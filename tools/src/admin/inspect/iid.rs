//! `inspect iid`: the broker's own verifier over a proof in a file.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use client::cli::output::Printed;
use serde_json::{Map, Value};
use ticket_format::Refusal;
use ticket_format::iid::{
    self, FUTURE_TOLERANCE_SECONDS, MAX_PROOF_TEXT_BYTES, RegionKeys, VerifiedDocument,
};
use ticket_format::report::{Report, exit};
use ticket_format::time::Timestamp;

use crate::admin::span::{Span, instant};
use crate::admin::view::{object, text};
use crate::admin::{Context, now};

/// Largest certificate file that is read, in bytes.
const MAX_PEM: u64 = 16 * 1_024;

/// An identity document's proof.
#[derive(Debug, Args)]
pub struct Iid {
    /// The proof: base64 text as the metadata service serves it at .../rsa2048; `-` for stdin
    #[arg(long, value_name = "FILE")]
    proof: PathBuf,
    /// Directory of <region>.pem certificates that replace the built-in table
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// When its age is judged [default: now]; judged with --max-age
    #[arg(long, value_name = "RFC3339", value_parser = instant)]
    at: Option<Timestamp>,
    /// Oldest that is accepted, measured from pendingTime [default: any age]
    #[arg(long, value_name = "TIME")]
    max_age: Option<Span>,
}

pub(super) fn run(context: &Context, args: &Iid) -> Printed {
    let keys = match &args.certs {
        Some(directory) => table(directory)?,
        None => RegionKeys::built_in(),
    };
    let proof = super::read(&args.proof, MAX_PROOF_TEXT_BYTES)?;
    let document = iid::verify(&proof, &keys)
        .map_err(|error| refused(Refusal::IdentityRefused, error.name(), &error))?;
    let at = args.at.unwrap_or_else(now).seconds();
    // Without --max-age the time is looked at for one thing: a document from the future.
    if args.max_age.is_some() || args.at.is_some() {
        let most = args.max_age.map_or(u64::MAX, |span| span.0);
        iid::check_age(document.pending_time(), at, most, FUTURE_TOLERANCE_SECONDS).map_err(
            |error| {
                let refusal = match error {
                    iid::AgeRefusal::TooOld { .. } => Refusal::DocumentTooOld,
                    iid::AgeRefusal::FromTheFuture { .. } => Refusal::DocumentFromFuture,
                };
                refused(refusal, error.name(), &error)
            },
        )?;
    }
    super::print(context, members(&document))
}

/// One line: the refusal's name first, for programs, and what it means.
fn refused(refusal: Refusal, name: &str, error: &dyn std::fmt::Display) -> Report {
    let mut report = Report::new(exit::REFUSED, format!("{name}: {error}"));
    report.refusal = Some(refusal);
    report
}

/// Every member that AWS signed, and the hash by which records name the proof. Those that Postern
/// acts on come from the verifier; the others are shown from the signed text.
fn members(document: &VerifiedDocument) -> Map<String, Value> {
    let mut all: Map<String, Value> = serde_json::from_str(document.text()).unwrap_or_default();
    all.remove("v");
    all.extend(object! {
        "accountId": document.account_id(),
        "instanceId": document.instance_id(),
        "region": document.region(),
        "availabilityZone": document.availability_zone(),
        "imageId": document.image_id(),
        "instanceType": document.instance_type(),
        "architecture": document.architecture(),
        "version": document.version(),
        "pendingTime": text(Timestamp::from_seconds(document.pending_time())),
        "proofHash": text(ticket_format::ids::ProofHash(*document.proof_hash())),
    });
    all
}

/// A table of `<region>.pem` files; other files are left alone.
fn table(directory: &Path) -> Result<RegionKeys, Report> {
    let unusable = |why: String| {
        Report::new(
            exit::CONFIG,
            format!("the certificates in {} cannot be used", directory.display()),
        )
        .why(why)
        .next("it must hold <region>.pem files, one certificate of AWS in each")
    };
    let mut pems = Vec::new();
    for item in fs::read_dir(directory).map_err(|error| unusable(error.to_string()))? {
        let path = item.map_err(|error| unusable(error.to_string()))?.path();
        let region = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default()
            .to_owned();
        if path.extension().is_none_or(|extension| extension != "pem") {
            continue;
        }
        let bytes = store::files::read_bounded(&path, MAX_PEM)
            .map_err(|error| unusable(error.to_string()))?;
        let pem = String::from_utf8(bytes)
            .map_err(|_| unusable(format!("{} is not text", path.display())))?;
        pems.push((region, pem));
    }
    pems.sort();
    RegionKeys::from_pems(pems).map_err(|error| unusable(error.to_string()))
}
