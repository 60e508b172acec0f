//! `inspect ticket`.

use std::path::PathBuf;

use clap::Args;
use client::cli::output::{Printed, base64url};
use serde_json::{Map, Value, json};
use ticket_format::Refusal;
use ticket_format::cbor::Reader;
use ticket_format::keys::TicketKey;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::ticket::{self, Claims, Common, DatasetClaims, NodeClaims, TicketError};
use ticket_format::time::Timestamp;

use crate::admin::Context;
use crate::admin::now;
use crate::admin::span::instant;
use crate::admin::view::{self, object, text};

/// A ticket's claims.
#[derive(Debug, Args)]
pub struct Ticket {
    /// The ticket's bytes; `-` for stdin
    file: PathBuf,
    /// The broker's ticket-signing key, a COSE_Key file: without it nothing is verified
    #[arg(long, value_name = "COSE_KEY_FILE")]
    broker_key: Option<PathBuf>,
    /// When it is to be live [default: now]
    #[arg(long, value_name = "RFC3339", value_parser = instant)]
    at: Option<Timestamp>,
}

enum Read {
    Node(NodeClaims),
    Dataset(DatasetClaims),
}

pub(super) fn run(context: &Context, args: &Ticket) -> Printed {
    let bytes = super::read(&args.file, limits::TICKET)?;
    let key = args
        .broker_key
        .as_ref()
        .map(|file| broker_key(file))
        .transpose()?;
    let refused = |error: TicketError| {
        let refusal = Refusal::from(error);
        let mut report = Report::new(
            refusal.exit_code(),
            format!("{}: {}: {error}", args.file.display(), refusal.name()),
        );
        report.refusal = Some(refusal);
        report
    };
    let claims = read(&bytes, key.as_ref()).map_err(refused)?;
    if key.is_none() {
        let _ = std::io::Write::write_all(
            &mut anstream::stderr().lock(),
            b"UNVERIFIED: no --broker-key was given, so anybody may have written this ticket\n",
        );
    }
    let at = args.at.unwrap_or_else(now);
    let mut object = match &claims {
        Read::Node(claims) => {
            object! { "kind": "node", "verified": key.is_some(), "life": life(&claims.common, at) }
        }
        Read::Dataset(claims) => {
            object! { "kind": "dataset", "verified": key.is_some(), "life": life(&claims.common, at) }
        }
    };
    object.insert("ticket_hash".to_owned(), text(ticket::hash(&bytes)));
    object.extend(match &claims {
        Read::Node(claims) => node(claims),
        Read::Dataset(claims) => dataset(claims),
    });
    super::print(context, object)
}

fn broker_key(file: &std::path::Path) -> Result<TicketKey, Report> {
    let bytes = super::read(file, 1_024)?;
    let mut reader = Reader::new(&bytes);
    let key = TicketKey::decode_cose_key(&mut reader).and_then(|key| reader.finish().map(|()| key));
    key.map_err(|error| {
        Report::new(
            exit::CONFIG,
            format!("{} is not an Ed25519 COSE_Key", file.display()),
        )
        .why(error)
        .next("give the broker's ticket key as `broker init` wrote it (broker-key.cose)")
    })
}

/// Either kind of ticket: the other one is tried when the first is told to be of the other kind.
fn read(bytes: &[u8], key: Option<&TicketKey>) -> Result<Read, TicketError> {
    fn one<C: Claims + Clone>(bytes: &[u8], key: Option<&TicketKey>) -> Result<C, TicketError> {
        match key {
            Some(key) => {
                ticket::verify_for_anyone::<C>(bytes, key).map(|verified| verified.claims().clone())
            }
            None => ticket::read_unverified(bytes),
        }
    }
    match one::<NodeClaims>(bytes, key) {
        Ok(claims) => Ok(Read::Node(claims)),
        Err(TicketError::Kind) => one::<DatasetClaims>(bytes, key).map(Read::Dataset),
        Err(error) => Err(error),
    }
}

fn life(common: &Common, at: Timestamp) -> &'static str {
    if at >= common.expires {
        "expired"
    } else if at.plus(limits::SKEW) < common.issued {
        "not-yet-valid"
    } else {
        "live"
    }
}

fn common(claims: &Common) -> Map<String, Value> {
    object! {
        "iss": format!("postern:{}", claims.realm),
        "sub": text(claims.node()),
        "aud": text(claims.audience),
        "exp": text(claims.expires),
        "nbf": text(claims.issued),
        "iat": text(claims.issued),
        "cti": text(claims.id),
        "proof_key": text(claims.proof_key),
        "sealing_key": base64url(claims.sealing_key.as_bytes()),
        "kem": view::kem(claims.sealing_key.kem()),
        "launch": text(claims.launch),
        "attributes": view::attributes(&claims.attributes),
        "evidence": text(claims.evidence),
    }
}

fn node(claims: &NodeClaims) -> Map<String, Value> {
    let mut all = common(&claims.common);
    all.insert("node_key".to_owned(), text(claims.node_key));
    all
}

fn dataset(claims: &DatasetClaims) -> Map<String, Value> {
    let mut all = common(&claims.common);
    let actions: Vec<String> = ticket::Action::ALL
        .iter()
        .filter(|action| claims.actions.contains(**action))
        .map(ToString::to_string)
        .collect();
    all.extend(object! {
        "dataset": text(claims.dataset),
        "dataset_name": claims.dataset_name,
        "actions": actions,
        "required": json!(claims.required.pairs()),
        "budget": claims.budget,
        "policy": text(claims.policy),
        "parent": text(claims.parent),
    });
    all
}
