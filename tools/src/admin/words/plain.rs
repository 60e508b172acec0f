//! Statements in words by their own content alone.

use ticket_format::cbor::{Decode, DecodeError};
use ticket_format::keys::AdminKey;
use ticket_format::statement::{
    Act, AdminSet, AdminSetBody, Audience, CanarySet, DatasetCreate, DatasetOwnersSet,
    DatasetPolicySet, DatasetRecord, DatasetSet, DatasetView, DenyBody, LaunchClose, LaunchCreate,
    NodeUnfreeze, Payload, PolicySet, ProducerAdd, Undeny,
};

use super::who;
use crate::admin::deny::said;
use crate::admin::span::Span;
use crate::admin::view::kem;

/// What the statement would do, as far as it says itself. Its text is others': print it escaped.
///
/// # Errors
/// The body is none of the act's.
pub fn describe(payload: &Payload, set: Option<&AdminSet>) -> Result<Vec<String>, DecodeError> {
    let mut lines = vec![match payload.audience {
        Audience::Everyone => format!(
            "{}, for everyone, in realm {:?}",
            payload.act, payload.realm
        ),
        Audience::Server(key) => format!(
            "{}, for the server with TLS key {key}, in realm {:?}",
            payload.act, payload.realm
        ),
    }];
    fn body<T: Decode>(payload: &Payload) -> Result<T, DecodeError> {
        T::from_cbor(&payload.body, ticket_format::statement::BODY)
    }
    match payload.act {
        Act::LaunchCreate => lines.extend(launch(&body(payload)?)),
        Act::LaunchClose => {
            let close: LaunchClose = body(payload)?;
            lines.push(format!(
                "launch {} lets nobody in any more; its nodes {} ({})",
                close.launch,
                if close.deny {
                    "are denied"
                } else {
                    "stay as they are"
                },
                close.reason
            ));
        }
        Act::PolicySet => {
            let policy: PolicySet = body(payload)?;
            lines.push(format!(
                "replaces the broker's policy: who may have tickets, and for what ({} lines)",
                policy.text.lines().count()
            ));
        }
        Act::DatasetCreate => {
            let create: DatasetCreate = body(payload)?;
            lines.push(format!(
                "makes dataset {:?}: lease {}, evidence {}, canary {}, most {} DEKs and {} for a ticket",
                create.name,
                Span(create.lease),
                wanted(create.evidence),
                create.canary,
                create.max_budget,
                Span(create.max_life)
            ));
            lines.push(format!("owners: {}", names(&create.owners, set)));
            lines.extend(kems(&create.kems));
        }
        Act::DatasetRecord => {
            let record: DatasetRecord = body(payload)?;
            lines.push(format!(
                "nodes and producers believe from now on that dataset {:?} ({}) is at {} with signing key {} and public key {}",
                record.name,
                record.dataset,
                record.addresses.join(", "),
                record.server_key,
                record.public_key.hash()
            ));
            lines.push(format!(
                "owners: {}; producers: {}; lease {}, evidence {}, most {} DEKs and {} for a ticket",
                names(&record.owners, set),
                record.producers.len(),
                Span(record.lease),
                wanted(record.evidence),
                record.max_budget,
                Span(record.max_life)
            ));
            lines.extend(kems(&record.kems));
        }
        Act::DatasetPolicySet => {
            let policy: DatasetPolicySet = body(payload)?;
            lines.push(format!("replaces the policy of dataset {:?}", policy.name));
        }
        Act::ProducerAdd => {
            let add: ProducerAdd = body(payload)?;
            lines.push(format!(
                "wraps by the producer with key {} count for dataset {:?}",
                add.producer, add.name
            ));
        }
        Act::DatasetSet => {
            let set: DatasetSet = body(payload)?;
            lines.push(format!("sets the options of dataset {:?}", set.name));
            lines.extend(kems(&set.kems));
        }
        Act::DatasetOwnersSet => {
            let owners: DatasetOwnersSet = body(payload)?;
            lines.push(format!(
                "the owners of dataset {:?} are from now on: {}",
                owners.name,
                names(&owners.owners, set)
            ));
        }
        Act::CanarySet => {
            let canary: CanarySet = body(payload)?;
            lines.push(format!(
                "DEK {} of dataset {:?} is a canary: {}",
                canary.dek, canary.name, canary.canary
            ));
        }
        Act::NodeUnfreeze => {
            let one: NodeUnfreeze = body(payload)?;
            lines.push(format!(
                "lets frozen node {} go on with node key {}",
                one.node, one.node_key
            ));
        }
        Act::Deny => {
            let deny: DenyBody = body(payload)?;
            lines.push(format!("denies {} ({})", said(&deny.selector), deny.reason));
        }
        Act::Undeny => {
            let lifted: Undeny = body(payload)?;
            lines.push(format!(
                "LIFTS {} denial(s): whom they hit is let in again ({})",
                lifted.denials.len(),
                lifted.reason
            ));
        }
        Act::AdminSet => {
            let new: AdminSetBody = body(payload)?;
            lines.push(format!(
                "version {} of the admin set: who may do what, and how many must sign",
                new.version
            ));
        }
        _ => lines.push("changes nothing in the realm".to_owned()),
    }
    Ok(lines)
}

fn wanted(yes: bool) -> &'static str {
    if yes { "wanted" } else { "not wanted" }
}

fn kems(list: &[ticket_format::seal::Kem]) -> Option<String> {
    let weak = list.contains(&ticket_format::seal::Kem::X25519);
    weak.then(|| {
        format!(
            "tickets may be sealed by {}, which a quantum computer will open",
            kem(ticket_format::seal::Kem::X25519)
        )
    })
}

fn names(keys: &[AdminKey], set: Option<&AdminSet>) -> String {
    let all: Vec<String> = keys.iter().map(|key| who(key, set)).collect();
    all.join(", ")
}

fn any(list: &[String]) -> String {
    if list.is_empty() {
        "any".to_owned()
    } else {
        list.join(", ")
    }
}

fn launch(launch: &LaunchCreate) -> Vec<String> {
    vec![
        format!(
            "lets {} node(s) log in from {} until {}{}",
            launch.uses,
            launch.from,
            launch.until,
            if launch.group {
                ", which share one secret"
            } else {
                ""
            }
        ),
        format!(
            "accounts: {}; regions: {}; images: {}; nodes may renew for {}",
            launch.accounts.join(", "),
            any(&launch.regions),
            any(&launch.images),
            Span(launch.node_life)
        ),
    ]
}

/// One line for each option that changes.
fn differences<const N: usize>(members: [(&str, String, String); N]) -> Vec<String> {
    let mut lines: Vec<String> = members
        .into_iter()
        .filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| format!("{name}: from {old} to {new}"))
        .collect();
    if lines.is_empty() {
        lines.push("nothing differs from what stands now".to_owned());
    }
    lines
}

/// What a change of a dataset's options would change.
pub(super) fn options(old: &DatasetView, new: &DatasetSet) -> Vec<String> {
    let kems = |list: &[ticket_format::seal::Kem]| {
        list.iter()
            .map(|one| kem(*one))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let canary = old
        .canary
        .map_or_else(|| "unknown".to_owned(), |canary| canary.to_string());
    differences([
        (
            "most DEKs for a ticket",
            old.max_budget.to_string(),
            new.max_budget.to_string(),
        ),
        (
            "longest ticket",
            Span(old.max_life).to_string(),
            Span(new.max_life).to_string(),
        ),
        ("KEMs", kems(&old.kems), kems(&new.kems)),
        (
            "lease",
            Span(old.lease).to_string(),
            Span(new.lease).to_string(),
        ),
        (
            "evidence",
            wanted(old.evidence).to_owned(),
            wanted(new.evidence).to_owned(),
        ),
        ("canary", canary, new.canary.to_string()),
    ])
}

/// Who becomes an owner, and who is none any more.
pub(super) fn owners(old: &[AdminKey], new: &[AdminKey], set: Option<&AdminSet>) -> Vec<String> {
    let added = new.iter().filter(|key| !old.contains(key));
    let gone = old.iter().filter(|key| !new.contains(key));
    let mut lines: Vec<String> = added
        .map(|key| format!("ADDS owner {}", who(key, set)))
        .collect();
    lines.extend(gone.map(|key| format!("REMOVES owner {}", who(key, set))));
    lines
}

/// What another record of a dataset would change.
pub(super) fn records(
    old: &DatasetRecord,
    new: &DatasetRecord,
    set: Option<&AdminSet>,
) -> Vec<String> {
    let kems = |record: &DatasetRecord| {
        let all: Vec<&str> = record.kems.iter().map(|one| kem(*one)).collect();
        all.join(", ")
    };
    let producers = |record: &DatasetRecord| {
        let all: Vec<String> = record.producers.iter().map(ToString::to_string).collect();
        all.join(", ")
    };
    let mut lines = differences([
        (
            "key server's TLS key",
            old.tls_key.to_string(),
            new.tls_key.to_string(),
        ),
        (
            "key server's signing key",
            old.server_key.to_string(),
            new.server_key.to_string(),
        ),
        (
            "addresses",
            old.addresses.join(", "),
            new.addresses.join(", "),
        ),
        (
            "KEK version",
            old.kek_version.to_string(),
            new.kek_version.to_string(),
        ),
        (
            "public key",
            old.public_key.hash().to_string(),
            new.public_key.hash().to_string(),
        ),
        ("tags", format!("{:?}", old.tags), format!("{:?}", new.tags)),
        ("producers", producers(old), producers(new)),
        ("KEMs", kems(old), kems(new)),
        (
            "most DEKs for a ticket",
            old.max_budget.to_string(),
            new.max_budget.to_string(),
        ),
        (
            "longest ticket",
            Span(old.max_life).to_string(),
            Span(new.max_life).to_string(),
        ),
        (
            "lease",
            Span(old.lease).to_string(),
            Span(new.lease).to_string(),
        ),
        (
            "evidence",
            wanted(old.evidence).to_owned(),
            wanted(new.evidence).to_owned(),
        ),
    ]);
    lines.extend(owners(&old.owners, &new.owners, set));
    lines
}
