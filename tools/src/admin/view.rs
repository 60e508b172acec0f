//! What servers answer, as JSON objects: ids and keys in hexadecimal, times in RFC 3339.

use serde_json::{Map, Value, json};
use ticket_format::Refusal;
use ticket_format::denial::Selector;
use ticket_format::entry::Entry;
use ticket_format::ids::{ProofHash, StatementDigest};
use ticket_format::seal::Kem;
use ticket_format::statement::{
    DatasetRecord, DatasetView, LaunchView, NodeView, Rotation, Status, TicketView, Witnessing,
};
use ticket_format::ticket::Attributes;
use ticket_format::tlog::{Checkpoint, LogKey};

use client::cli::output::base64url;

use super::span::Span;

/// A JSON object from `name: value` pairs, in that order.
macro_rules! object {
    ($($name:literal: $value:expr),* $(,)?) => {
        ::serde_json::Map::from_iter([$(($name.to_owned(), ::serde_json::json!($value))),*])
    };
}
pub(crate) use object;

/// Anything by its text.
pub(crate) fn text(value: impl ToString) -> Value {
    Value::String(value.to_string())
}

/// Anything by its text, or null.
pub(crate) fn maybe(value: Option<impl ToString>) -> Value {
    value.map_or(Value::Null, text)
}

/// Each by its text.
pub(crate) fn texts<T: ToString>(values: &[T]) -> Value {
    values.iter().map(|value| text(value.to_string())).collect()
}

/// A KEM by the name that the command line takes.
#[must_use]
pub fn kem(kem: Kem) -> &'static str {
    match kem {
        Kem::X25519 => "x25519",
        Kem::XWing => "x-wing",
    }
}

fn kems(list: &[Kem]) -> Value {
    list.iter().map(|one| json!(kem(*one))).collect()
}

/// A node's attributes.
#[must_use]
pub fn attributes(of: &Attributes) -> Map<String, Value> {
    object! {
        "node": text(&of.node),
        "account": of.node.account(),
        "region": of.node.region(),
        "availability_zone": of.availability_zone,
        "image": of.image,
        "instance_type": of.instance_type,
        "instance": of.node.instance(),
        "launched_at": text(of.launched_at),
    }
}

/// A dataset as a server has it.
#[must_use]
pub fn dataset(view: &DatasetView) -> Map<String, Value> {
    object! {
        "name": view.row.name,
        "dataset": text(view.row.dataset),
        "tags": view.row.tags,
        "class": text(view.class),
        "kek": text(view.kek),
        "kek_version": view.kek_version,
        "public_key_hash": text(view.public_key.hash()),
        "public_key": base64url(view.public_key.as_bytes()),
        "producers": texts(&view.producers),
        "kems": kems(&view.kems),
        "max_budget": view.max_budget,
        "max_life": text(Span(view.max_life)),
        "policy": view.policy,
        "record": maybe(view.record.as_ref().map(|bytes| StatementDigest::of(bytes))),
        "owners": texts(&view.owners),
        "lease": text(Span(view.lease)),
        "evidence": view.evidence,
        "canary": maybe(view.canary),
        "witnessing": witnessing(&view.witnessing),
        "rotation": view.rotation.as_ref().map(rotation),
        "log": text(&view.log_key.origin),
        "log_keys": log_key(&view.log_key),
    }
}

/// A dataset record.
#[must_use]
pub fn record(record: &DatasetRecord) -> Map<String, Value> {
    object! {
        "name": record.name,
        "dataset": text(record.dataset),
        "tags": record.tags,
        "class": text(record.class),
        "tls_key": text(record.tls_key),
        "server_key": text(record.server_key),
        "addresses": record.addresses,
        "kek": text(record.kek),
        "kek_version": record.kek_version,
        "public_key": base64url(record.public_key.as_bytes()),
        "producers": texts(&record.producers),
        "recipients": record.recipients.all().iter().map(|one| {
            format!("{} ({}) of realm {}", one.name, one.dataset, one.realm)
        }).collect::<Vec<_>>(),
        "kems": kems(&record.kems),
        "max_budget": record.max_budget,
        "max_life": text(Span(record.max_life)),
        "owners": texts(&record.owners),
        "lease": text(Span(record.lease)),
        "evidence": record.evidence,
        "log": text(&record.log_key.origin),
        "log_keys": log_key(&record.log_key),
        "witnessing": witnessing(&record.witnessing),
    }
}

/// A launch.
#[must_use]
pub fn launch(view: &LaunchView) -> Map<String, Value> {
    let launch = &view.launch;
    object! {
        "launch": text(launch.launch),
        "key": text(launch.key),
        "accounts": launch.accounts,
        "regions": launch.regions,
        "images": launch.images,
        "uses": launch.uses,
        "used": view.used,
        "group": launch.group,
        "from": text(launch.from),
        "until": text(launch.until),
        "max_age": text(Span(launch.max_age)),
        "node_life": text(Span(launch.node_life)),
        "comment": launch.comment,
        "closed": view.closed,
        "nodes": texts(&view.nodes),
        "digest": text(view.digest),
    }
}

/// A node.
#[must_use]
pub fn node(view: &NodeView) -> Map<String, Value> {
    let mut all = attributes(&view.attributes);
    all.extend(object! {
        "launch": text(view.launch),
        "state": view.state.name(),
        "node_key": text(view.node_key),
        "logged_in": text(view.logged_in),
        "renewed": text(view.renewed),
        "until": text(view.until),
        "reason": view.reason,
    });
    all
}

/// A ticket that the broker issued.
#[must_use]
pub fn ticket(view: &TicketView) -> Map<String, Value> {
    object! {
        "ticket": text(view.ticket),
        "node": text(&view.node),
        "launch": text(view.launch),
        "dataset": maybe(view.dataset),
        "parent": maybe(view.parent),
        "issued": text(view.issued),
        "expires": text(view.expires),
        "budget": view.budget,
        "denied": view.denied,
    }
}

/// A server's status.
#[must_use]
pub fn status(status: &Status) -> Map<String, Value> {
    object! {
        "role": status.role.name(),
        "version": status.version,
        "started": text(status.started),
        "now": text(status.now),
        "epoch": status.epoch,
        "chain": text(status.chain),
        "entries": status.entries,
        "lease_ms": status.lease_ms,
        "datasets": status.datasets,
        "holders": status.holders,
    }
}

/// What a denial hits; members that are not said are left out.
#[must_use]
pub fn selector(selector: &Selector) -> Map<String, Value> {
    let members = selector.members();
    let all = [
        ("ticket", maybe(members.ticket)),
        ("node", maybe(members.node.as_ref())),
        ("launch", maybe(members.launch)),
        ("account", maybe(members.account.as_ref())),
        ("region", maybe(members.region.as_ref())),
        ("image", maybe(members.image.as_ref())),
        ("dataset", maybe(members.dataset)),
        ("issued_before", maybe(members.issued_before)),
    ];
    all.into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// An outcome: `done`, or the refusal's name.
#[must_use]
pub fn outcome(outcome: Result<(), Refusal>) -> &'static str {
    outcome.map_or_else(Refusal::name, |()| "done")
}

/// A shard of a log at some size.
#[must_use]
pub fn checkpoint(of: &Checkpoint) -> Map<String, Value> {
    object! {
        "shard": text(&of.shard),
        "size": of.size,
        "root": text(ProofHash(of.root)),
    }
}

/// How a dataset is witnessed.
#[must_use]
pub fn witnessing(of: &Witnessing) -> Map<String, Value> {
    object! {
        "mode": of.mode.name(),
        "policy": Some(&of.policy).filter(|policy| !policy.is_empty()),
    }
}

/// When a dataset's KEK is rotated by itself.
#[must_use]
pub fn rotation(of: &Rotation) -> Map<String, Value> {
    object! {
        "age": maybe(of.age.map(Span)),
        "wraps": of.wraps,
        "on_denial": of.on_denial,
    }
}

/// A log's keys, as files and `--log-key` have them.
#[must_use]
pub fn log_key(key: &LogKey) -> Value {
    texts(&key.vkeys())
}

/// An audit entry; members that it does not have are left out.
#[must_use]
pub fn entry(entry: &Entry) -> Map<String, Value> {
    let items = entry.items.as_ref().map(|items| {
        items
            .iter()
            .map(
                |(digest, verdict)| json!({ "digest": text(digest), "verdict": outcome(*verdict) }),
            )
            .collect::<Value>()
    });
    let hex = |hash: [u8; 32]| ProofHash(hash).to_string();
    let all = object! {
        "act": text(entry.act),
        "kind": entry.kind.name(),
        "time": text(entry.time),
        "result": outcome(entry.outcome),
        "result_number": entry.outcome.map_or_else(Refusal::number, |()| 0),
        "alarm": entry.alarm.map(|alarm| alarm.name()),
        "subject": entry.subject,
        "source": entry.source,
        "launch": maybe(entry.launch),
        "dataset": maybe(entry.dataset),
        "ticket": maybe(entry.ticket),
        "ticket_hash": maybe(entry.ticket_hash),
        "expires": maybe(entry.expires),
        "request": maybe(entry.request),
        "evidence": maybe(entry.evidence),
        "policy": maybe(entry.policy),
        "policies": entry.policies,
        "epoch": entry.epoch,
        "count": entry.count,
        "proof": entry.proof.map(hex),
        "follows": maybe(entry.follows),
        "actions": entry.actions.map(|actions| actions.iter().map(|one| json!(one.name())).collect::<Value>()),
        "pairs": maybe(entry.pairs),
        "signers": entry.signers,
        "log": entry.log.as_ref().map(checkpoint),
        "seen": entry.seen.as_ref().map(checkpoint),
        "items": items,
        "kek": maybe(entry.kek),
        "keks": entry.keks.as_ref().map(|keks| texts(keks)),
        "kek_of": entry.kek_of,
        "moved": entry.moved.as_ref().map(|moved| texts(moved)),
        "confirmed": entry.confirmed.as_ref().map(|confirmed| texts(confirmed)),
    };
    all.into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect()
}
