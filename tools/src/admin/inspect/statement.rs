//! `inspect statement`.

use std::path::PathBuf;

use clap::Args;
use client::cli::output::{Printed, base64url};
use serde_json::{Map, Value, json};
use ticket_format::cbor::{Decode, Reader};
use ticket_format::ids::StatementDigest;
use ticket_format::keys::AdminKey;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{
    Act, Audience, DatasetCreate, DatasetPolicySet, DatasetRecord, DenyBody, LaunchClose,
    LaunchCreate, LaunchView, NodeUnfreeze, Payload, PolicySet, ProducerAdd, ReceivedStatement,
};

use crate::admin::Context;
use crate::admin::now;
use crate::admin::view::{self, object, text, texts};

/// An admin's statement.
#[derive(Debug, Args)]
pub struct Statement {
    /// The statement's bytes, such as NAME.record; `-` for stdin
    file: PathBuf,
    /// Public key of an admin, in hexadecimal; may be repeated. Without it nothing is verified
    #[arg(long = "admin", value_name = "HEX")]
    admins: Vec<AdminKey>,
}

pub(super) fn run(context: &Context, args: &Statement) -> Printed {
    let bytes = super::read(&args.file, limits::STATEMENT)?;
    let refused = |error: ticket_format::statement::StatementRefusal| {
        let refusal = error.refusal();
        let mut report = Report::new(
            exit::INTEGRITY,
            format!("{}: {}: {error}", args.file.display(), refusal.name()),
        );
        report.refusal = Some(refusal);
        report
    };
    let received = ReceivedStatement::parse(&bytes).map_err(refused)?;
    let payload = payload(&bytes).map_err(super::malformed(&args.file, "a statement"))?;
    let verified = if args.admins.is_empty() {
        let _ = std::io::Write::write_all(
            &mut anstream::stderr().lock(),
            b"UNVERIFIED: no --admin was given, so anybody may have written this statement\n",
        );
        None
    } else {
        let server = match &payload.audience {
            Audience::Server(key) => Some(key),
            Audience::Everyone => None,
        };
        // Signatures are what is asked here; whether it is over by now is told beside them.
        Some(
            received
                .verify(&args.admins, &payload.realm, server, payload.not_before)
                .map_err(refused)?,
        )
    };
    let signers = verified
        .as_ref()
        .map(|statement| texts(statement.signers()));
    let audience = match payload.audience {
        Audience::Server(key) => text(key),
        Audience::Everyone => text("everyone"),
    };
    let time = now();
    super::print(
        context,
        object! {
            "verified": verified.is_some(),
            "signers": json!(signers),
            "digest": text(StatementDigest::of(&bytes)),
            "id": text(payload.id),
            "realm": payload.realm,
            "audience": audience,
            "not_before": text(payload.not_before),
            "expires": text(payload.expires),
            "live": payload.not_before <= time.plus(limits::SKEW) && time < payload.expires,
            "act": payload.act.name(),
            "body": body(&payload),
        },
    )
}

/// The payload of what `ReceivedStatement::parse` found to have the shape.
fn payload(statement: &[u8]) -> Result<Payload, ticket_format::cbor::DecodeError> {
    let mut reader = Reader::new(statement);
    reader.tag(98)?;
    reader.array(4..=4)?;
    reader.bytes(..)?;
    reader.map(0)?.end()?;
    Payload::from_cbor(reader.bytes(..)?, limits::STATEMENT)
}

/// The act's body as JSON; as bytes where it is of no shape known here.
fn body(payload: &Payload) -> Value {
    fn of<T: Decode>(payload: &Payload, shown: impl Fn(&T) -> Map<String, Value>) -> Option<Value> {
        T::from_cbor(&payload.body, ticket_format::statement::BODY)
            .ok()
            .map(|body| Value::Object(shown(&body)))
    }
    let shown = match payload.act {
        Act::LaunchCreate => of(payload, |launch: &LaunchCreate| {
            let digest = StatementDigest([0; 32]);
            let mut object = view::launch(&LaunchView {
                launch: launch.clone(),
                digest,
                used: 0,
                nodes: Vec::new(),
                closed: false,
            });
            for not_said in ["digest", "used", "nodes", "closed"] {
                object.remove(not_said);
            }
            object
        }),
        Act::LaunchClose => of(payload, |close: &LaunchClose| {
            object! { "launch": text(close.launch), "deny": close.deny, "reason": close.reason }
        }),
        Act::DatasetRecord => of(payload, |record: &DatasetRecord| view::record(record)),
        Act::DatasetCreate => of(payload, |create: &DatasetCreate| {
            object! { "name": create.name, "tags": create.tags, "policy": create.policy, "producers": texts(&create.producers),
            "max_budget": create.max_budget, "max_life": create.max_life }
        }),
        Act::DatasetPolicySet => of(
            payload,
            |set: &DatasetPolicySet| object! { "name": set.name, "policy": set.text },
        ),
        Act::ProducerAdd => of(
            payload,
            |add: &ProducerAdd| object! { "name": add.name, "producer": text(add.producer) },
        ),
        Act::PolicySet => of(payload, |set: &PolicySet| object! { "policy": set.text }),
        Act::NodeUnfreeze => of(
            payload,
            |one: &NodeUnfreeze| object! { "node": text(&one.node), "node_key": text(one.node_key) },
        ),
        Act::Deny => of(
            payload,
            |deny: &DenyBody| object! { "selector": view::selector(&deny.selector), "reason": deny.reason },
        ),
        _ => None,
    };
    shown.unwrap_or_else(|| json!(base64url(&payload.body)))
}
