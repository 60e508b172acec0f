//! One entry with its proof, in files that anybody can check with the log's public keys: `audit prove`
//! and `audit check-proof`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use clap::Args;
use client::cli::output::Printed;
use serde_json::{Map, Value, json};
use ticket_format::cbor::Decode as _;
use ticket_format::limits;
use ticket_format::messages::Receipt;
use ticket_format::report::{Report, exit};
use ticket_format::tlog::{Checkpoint, LogKey, Proof, Verifier, WitnessPolicy};

use super::cursor::proven;
use super::which::{Which, Witnessed};
use crate::admin::Context;
use crate::admin::view::{self, object, text};

/// Most bytes of a file that is checked: a receipt, or both parts in JSON.
const MOST: u64 = 256 * 1024;
/// How a proof begins.
const PROOF: &[u8] = b"c2sp.org/tlog-proof@";

/// Write an entry and the proof that it stands in the log.
#[derive(Debug, Args)]
pub struct Prove {
    /// The entry's index in the log
    index: u64,
    /// Which log
    #[command(flatten)]
    which: Which,
    /// Where to: PREFIX.entry, PREFIX.tlog-proof and PREFIX.json, new files [default: entry-INDEX]
    #[arg(long, value_name = "PREFIX")]
    out: Option<PathBuf>,
}

/// Check entries and their proofs, with public keys and nothing else.
#[derive(Debug, Args)]
pub struct Check {
    /// A proof in JSON, a receipt, or an entry and its .tlog-proof; each may be repeated
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Whose log
    #[command(flatten)]
    which: Which,
    /// Whether witnesses must have cosigned
    #[command(flatten)]
    witnessed: Witnessed,
}

/// Writes them.
pub(super) fn prove(context: &Context, args: &Prove) -> Printed {
    let log = args.which.one(context)?;
    let found = proven(&log, args.index).map_err(|fault| fault.report(&log.place()))?;
    let (record, proof) = found.ok_or_else(|| {
        Report::new(
            exit::NOT_FOUND,
            format!("the log has no entry {}", args.index),
        )
        .why("it was not written yet, or it went with its shard, as retention does it")
        .next("see `postern-admin audit verify` for what the log has")
    })?;
    let prefix = args
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("entry-{}", args.index)));
    let named = |ending: &str| {
        let mut name = prefix.clone().into_os_string();
        name.push(ending);
        PathBuf::from(name)
    };
    let mut all = object! {
        "v": 1,
        "log": text(&log.key().origin),
        "shard": record.shard,
        "index": record.index,
        "shard_index": record.place,
        "entry": BASE64URL.encode(&record.bytes),
        "proof": proof,
    };
    if let Some(entry) = &record.entry {
        all.insert("decoded".to_owned(), Value::Object(view::entry(entry)));
    }
    let (entry_file, proof_file, json_file) =
        (named(".entry"), named(".tlog-proof"), named(".json"));
    write(&entry_file, &record.bytes)?;
    write(&proof_file, proof.as_bytes())?;
    write(&json_file, format!("{:#}\n", Value::Object(all)).as_bytes())?;
    context.output.object(object! {
        "index": record.index,
        "entry": text(entry_file.display()),
        "proof": text(proof_file.display()),
        "both": text(json_file.display()),
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Report> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| {
        let code = if error.kind() == ErrorKind::AlreadyExists {
            exit::CONFLICT
        } else {
            exit::LOCAL
        };
        Report::new(code, format!("{} was not written", path.display()))
            .why(error)
            .next("give another --out")
    })
}

/// What stands in a file.
enum Part {
    Whole(Receipt),
    Entry(Vec<u8>),
    Proof(String),
}

fn part(path: &Path) -> Result<Part, Report> {
    let bytes = store::files::read_bounded(path, MOST).map_err(|error| {
        let code = if path.exists() {
            exit::LOCAL
        } else {
            exit::NOT_FOUND
        };
        Report::new(code, format!("cannot read {}", path.display())).why(error)
    })?;
    let unusable = |why: &str| {
        Report::new(
            exit::INTEGRITY,
            format!("{} is no proof and no entry", path.display()),
        )
        .why(why)
    };
    let utf8 = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8"));
    if bytes.starts_with(PROOF) {
        return utf8(bytes).map(Part::Proof);
    }
    if bytes.first() == Some(&b'{') {
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|error| unusable(&error.to_string()))?;
        let entry = value["entry"].as_str().map(|text| BASE64URL.decode(text));
        let (Some(Ok(entry)), Some(proof)) = (entry, value["proof"].as_str()) else {
            return Err(unusable("it has not the members entry and proof"));
        };
        return Ok(Part::Whole(Receipt {
            entry,
            proof: proof.to_owned(),
        }));
    }
    // A receipt is an array of two, an entry a map.
    if bytes.first() == Some(&0x82) {
        return Receipt::from_cbor(&bytes, limits::ENTRY + limits::NOTE + 16)
            .map(Part::Whole)
            .map_err(|error| unusable(&error.to_string()));
    }
    Ok(Part::Entry(bytes))
}

/// The receipts in these files, each with the file that it came from.
fn receipts(files: &[PathBuf]) -> Result<Vec<(PathBuf, Receipt)>, Report> {
    let (mut all, mut entry, mut proof) = (Vec::new(), None, None);
    for path in files {
        match part(path)? {
            Part::Whole(receipt) => all.push((path.clone(), receipt)),
            Part::Entry(bytes) => entry = Some((path, bytes)),
            Part::Proof(text) => proof = Some(text),
        }
        if let (Some((path, bytes)), Some(text)) = (&entry, &proof) {
            let receipt = Receipt {
                entry: bytes.clone(),
                proof: text.clone(),
            };
            all.push(((*path).clone(), receipt));
            (entry, proof) = (None, None);
        }
    }
    if entry.is_some() || proof.is_some() {
        return Err(Report::new(exit::USAGE, "an entry or a proof stands alone")
            .next("give both: the entry and its .tlog-proof"));
    }
    Ok(all)
}

/// Checks them.
pub(super) fn check(context: &Context, args: &Check) -> Printed {
    let keys = args.which.keys(context)?;
    let policy = args.witnessed.policy()?;
    let mut rows = Vec::new();
    for (path, receipt) in receipts(&args.files)? {
        rows.push(judged(&path, &receipt, &keys, policy.as_ref())?);
    }
    rows.into_iter()
        .try_for_each(|row| context.output.object(row))
}

/// What a receipt proves.
pub(super) fn judged(
    path: &Path,
    receipt: &Receipt,
    keys: &[LogKey],
    policy: Option<&WitnessPolicy>,
) -> Result<Map<String, Value>, Report> {
    let refused = |why: String| {
        Report::new(
            exit::INTEGRITY,
            format!("{} proves nothing", path.display()),
        )
        .why(why)
        .next("do not rely on the entry; ask whoever gave it to you for another proof")
    };
    let proof: Proof = receipt
        .proof
        .parse()
        .map_err(|error| refused(format!("{error}")))?;
    let claimed = Checkpoint::of_note_unverified(&proof.checkpoint)
        .map_err(|error| refused(error.to_string()))?;
    let key = keys
        .iter()
        .find(|key| key.origin == claimed.shard.origin)
        .ok_or_else(|| {
            refused(format!(
                "it is of the log {}, whose keys were not given",
                claimed.shard.origin
            ))
        })?;
    let verifier = Verifier::new(key.clone(), policy.cloned());
    let logged = verifier
        .verify(receipt)
        .map_err(|error| refused(error.to_string()))?;
    Ok(object! {
        "file": text(path.display()),
        "verified": true,
        "log": text(&key.origin),
        "shard": claimed.shard.number,
        "shard_index": logged.index,
        "size": logged.checkpoint.checkpoint().size,
        "signed": text(logged.checkpoint.time()),
        "witnessed": json!(policy.map(|_| true)),
        "entry": Value::Object(view::entry(&logged.entry)),
    })
}
