//! Statements in words by their own content alone.

use sha2::{Digest as _, Sha256};
use ticket_format::cbor::{Decode, DecodeError};
use ticket_format::ids::ProofHash;
use ticket_format::keys::AdminKey;
use ticket_format::statement::{
    Act, AdminSet, AdminSetBody, AliasSet, AliasTarget, Audience, BackupBegin, BackupPart,
    CanarySet, DatasetCreate, DatasetOwnersSet, DatasetPolicySet, DatasetRecord, DatasetSet,
    DatasetView, DenyBody, ImportBegin, KekDestroy, KekExport, KekImport, KekKeep, KekList,
    KekRotate, KekSet, LaunchClose, LaunchCreate, LogRecover, NodeUnfreeze, Payload, PolicySet,
    ProducerAdd, Rekey, Restore, RootShow, SealServer, ShareGive, TicketKeyMake, TicketKeySet,
    Undeny, WitnessMode, Witnessing, WrapList,
};
use ticket_format::tlog::{LogKey, Vkey};

use super::{imports, vault, who};
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
                "makes dataset {:?} ({}): lease {}, evidence {}, canary {}, most {} DEKs and {} for a ticket",
                create.name,
                create.class,
                Span(create.lease),
                wanted(create.evidence),
                create.canary,
                create.max_budget,
                Span(create.max_life)
            ));
            lines.push(format!("owners: {}", names(&create.owners, set)));
            lines.push(witnessed(&create.witnessing));
            lines.push(format!(
                "its KEK is rotated: {}",
                vault::rotation(&create.rotation)
            ));
            if create.exportable {
                lines.push(
                    "its KEK versions CAN BE EXPORTED by security's quorum; this never changes"
                        .to_owned(),
                );
            }
            lines.extend(kems(&create.kems));
        }
        Act::DatasetRecord => {
            let record: DatasetRecord = body(payload)?;
            lines.push(format!(
                "nodes and producers believe from now on that dataset {:?} ({}) is at {} with signing key {}, and wrap to KEK version {} with public key {}",
                record.name,
                record.dataset,
                record.addresses.join(", "),
                record.server_key,
                record.kek_version,
                record.public_key.hash()
            ));
            lines.push(format!(
                "owners: {}; class {}; producers: {}; lease {}, evidence {}, most {} DEKs and {} for a ticket",
                names(&record.owners, set),
                record.class,
                record.producers.len(),
                Span(record.lease),
                wanted(record.evidence),
                record.max_budget,
                Span(record.max_life)
            ));
            lines.push(format!(
                "receipts of its key server are believed by the log {} with the keys {}",
                record.log_key.origin,
                log_key(&record.log_key)
            ));
            lines.push(witnessed(&record.witnessing));
            lines.extend(record.recipients.all().iter().map(|one| {
                format!(
                    "what is encrypted from now on CAN ALSO BE OPENED with dataset {:?} ({}) of realm {:?}, KEK version {}, public key {}",
                    one.name, one.dataset, one.realm, one.kek_version, one.public_key.hash()
                )
            }));
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
            lines.push(witnessed(&set.witnessing));
            lines.push(format!(
                "its KEK is rotated: {}",
                vault::rotation(&set.rotation)
            ));
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
        Act::AliasSet => lines.push(alias(&body::<AliasSet>(payload)?)),
        Act::CanarySet => {
            let canary: CanarySet = body(payload)?;
            lines.push(format!(
                "DEK {} of dataset {:?} is a canary: {}",
                canary.dek, canary.name, canary.canary
            ));
        }
        Act::KekRotate => lines.push(vault::rotate(&body::<KekRotate>(payload)?)),
        Act::KekSet => lines.push(vault::set(&body::<KekSet>(payload)?)),
        Act::KekDestroy => lines.extend(vault::destroy(&body::<KekDestroy>(payload)?)),
        Act::KekKeep => lines.push(vault::keep(&body::<KekKeep>(payload)?)),
        Act::KekList => lines.push(vault::list(&body::<KekList>(payload)?)),
        Act::WrapList => lines.push(vault::wraps(&body::<WrapList>(payload)?)),
        Act::ImportBegin => lines.push(imports::begin(&body::<ImportBegin>(payload)?)),
        Act::KekImport => lines.extend(imports::import(&body::<KekImport>(payload)?)),
        Act::KekExport => lines.extend(imports::export(&body::<KekExport>(payload)?)),
        Act::RootShow => {
            let RootShow {} = body(payload)?;
            lines.push("asks how the root key is kept, and who has a share".to_owned());
        }
        Act::ShareGive => lines.push(vault::give(&body::<ShareGive>(payload)?)),
        Act::SealServer => {
            let seal: SealServer = body(payload)?;
            lines.push(format!(
                "SEALS THE KEY SERVER: it forgets root key {} and every key under it, and serves nobody until shares are given or it is started anew",
                seal.root
            ));
        }
        Act::Rekey => lines.extend(vault::rekey(&body::<Rekey>(payload)?)),
        Act::BackupBegin => {
            let BackupBegin {} = body(payload)?;
            lines.push("has the key server make a backup of itself, which the root key opens: by shares, or by its automatic way".to_owned());
        }
        Act::BackupPart => {
            let part: BackupPart = body(payload)?;
            lines.push(format!(
                "fetches part {} of backup {}",
                part.number, part.id
            ));
        }
        Act::Restore => lines.extend(vault::restore(&body::<Restore>(payload)?)),
        Act::TicketKeyMake => {
            let TicketKeyMake {} = body(payload)?;
            lines.push(
                "has the broker make its next ticket-signing key; it signs nothing yet".to_owned(),
            );
        }
        Act::TicketKeySet => {
            let set: TicketKeySet = body(payload)?;
            lines.push(format!(
                "the broker signs tickets from {} on with {} (number {}); those that {} signed before count until {}, and then that key is erased",
                set.from, set.key, set.number, set.old, set.until
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
        Act::LogRecover => {
            let recover: LogRecover = body(payload)?;
            lines.push(format!(
                "says on record that the log goes on behind {} entries of {} with root {}",
                recover.size,
                recover.shard,
                ProofHash(recover.root)
            ));
            lines.push("WHATEVER ELSE WAS SEEN OF THAT LOG COUNTS NO MORE: entries beyond are lost, and tickets and keys that they told of are on record nowhere".to_owned());
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

/// How a dataset is witnessed, in words; the policy itself is shown as a difference.
fn witnessed(of: &Witnessing) -> String {
    let who = || match of.read() {
        Ok(Some(policy)) => {
            let mut names: Vec<&str> = policy.witnesses().iter().map(Vkey::name).collect();
            names.dedup();
            names.join(", ")
        }
        Ok(None) => "nobody".to_owned(),
        Err(error) => format!("a policy that does not hold ({error})"),
    };
    match of.mode {
        WitnessMode::None => "no witness is asked about its records".to_owned(),
        WitnessMode::Watch => format!(
            "witnesses cosign its records afterwards, and nothing waits for them: {}",
            who()
        ),
        WitnessMode::Require => format!(
            "no key leaves, and no ticket is taken, before enough witnesses have cosigned: {}",
            who()
        ),
    }
}

/// A log's keys, short: by the hash of both.
fn log_key(key: &LogKey) -> String {
    let digest = Sha256::new()
        .chain_update(key.ed25519())
        .chain_update(key.ml_dsa())
        .finalize();
    ProofHash(digest.into()).to_string()
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
        ("class", old.class.to_string(), new.class.to_string()),
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
        (
            "KEK rotation",
            old.rotation
                .as_ref()
                .map_or_else(|| "unknown".to_owned(), vault::rotation),
            vault::rotation(&new.rotation),
        ),
        (
            "witnesses",
            old.witnessing.mode.to_string(),
            new.witnessing.mode.to_string(),
        ),
        (
            "witness policy",
            policy_hash(&old.witnessing),
            policy_hash(&new.witnessing),
        ),
    ])
}

/// A witness policy by its hash; how it differs is shown line by line.
fn policy_hash(of: &Witnessing) -> String {
    if of.policy.is_empty() {
        return "none".to_owned();
    }
    ProofHash(Sha256::digest(&of.policy).into()).to_string()
}

/// How a witness policy differs, line by line.
pub(super) fn witness_policies(old: &Witnessing, new: &Witnessing) -> Vec<String> {
    if old.policy == new.policy {
        return Vec::new();
    }
    crate::admin::diff::unified(&old.policy, &new.policy)
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
        (
            "key server's log",
            old.log_key.origin.to_string(),
            new.log_key.origin.to_string(),
        ),
        (
            "keys of that log",
            log_key(&old.log_key),
            log_key(&new.log_key),
        ),
        (
            "witnesses",
            old.witnessing.mode.to_string(),
            new.witnessing.mode.to_string(),
        ),
        (
            "witness policy",
            policy_hash(&old.witnessing),
            policy_hash(&new.witnessing),
        ),
    ]);
    lines.extend(witness_policies(&old.witnessing, &new.witnessing));
    lines.extend(owners(&old.owners, &new.owners, set));
    lines
}

/// What an alias names from now on.
fn alias(set: &AliasSet) -> String {
    match &set.target {
        Some(target) => format!(
            "whoever asks for {:?} gets dataset {:?} ({}) from now on, and wraps for it",
            set.alias, target.name, target.dataset
        ),
        None => format!("takes the alias {:?} away", set.alias),
    }
}

/// What an alias has named so far, where one that follows is to be signed.
pub(super) fn until_now(new: &AliasSet, names: Option<&AliasTarget>) -> String {
    let alias = &new.alias;
    match names {
        None => format!("so far {alias:?} names no dataset"),
        Some(old) if new.target.as_ref() == Some(old) => {
            format!(
                "it names that dataset already: the record is signed anew, and {alias:?} stays where it is"
            )
        }
        Some(old) => format!(
            "until now {alias:?} names dataset {:?} ({}): its owners have a say in this too",
            old.name, old.dataset
        ),
    }
}

#[cfg(test)]
mod tests {
    use ticket_format::tlog::WitnessSecret;

    use super::*;

    fn witnessing(mode: WitnessMode, name: &str) -> Witnessing {
        let secret = WitnessSecret::from_seeds(name, &[7; 32], &[8; 32]).unwrap();
        let [vkey, _] = secret.vkeys();
        Witnessing {
            mode,
            policy: format!("witness w {vkey}\nquorum w\n"),
        }
    }

    #[test]
    fn what_a_dataset_wants_of_witnesses_is_said_and_its_policy_shown_as_a_difference() {
        // rule: PRO-3, TLOG-8
        let require = witnessing(WitnessMode::Require, "house/broker/1/witness");
        assert!(witnessed(&require).contains("house/broker/1/witness"));
        assert!(witnessed(&require).contains("no key leaves"));
        assert!(witnessed(&Witnessing::none()).contains("no witness"));
        let other = witnessing(WitnessMode::Require, "elsewhere");
        let lines = witness_policies(&require, &other).join("\n");
        assert!(
            lines.contains("elsewhere") && lines.contains("house/broker/1/witness"),
            "{lines}"
        );
        assert!(witness_policies(&require, &require).is_empty());
        assert_ne!(policy_hash(&require), policy_hash(&other));
    }
}
