//! `inspect statement`.

use std::path::PathBuf;

use clap::Args;
use client::cli::output::{Printed, base64url};
use serde_json::{Map, Value, json};
use ticket_format::cbor::Decode;
use ticket_format::ids::{ProofHash, StatementDigest};
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{
    Act, AdminSetBody, AliasSet, Audience, BackupBegin, BackupPart, CanarySet, DatasetCreate,
    DatasetOwnersSet, DatasetPolicySet, DatasetRecord, DatasetSet, DenyBody, ImportBegin,
    KekDestroy, KekExport, KekImport, KekKeep, KekList, KekRotate, KekSet, LaunchClose,
    LaunchCreate, LaunchView, LogRecover, NodeUnfreeze, Payload, PolicySet, ProducerAdd,
    ReceivedStatement, Rekey, Restore, RootShow, SealServer, ShareGive, ShareHolder,
    StatementRefusal, TicketKeyMake, TicketKeySet, Undeny, WrapList,
};

use crate::admin::span::Span;
use crate::admin::view::{self, object, text, texts};
use crate::admin::{Context, now, ticket_key, trust, words};

/// An admin's statement.
#[derive(Debug, Args)]
pub struct Statement {
    /// The statement's bytes, such as NAME.record; `-` for stdin. Its signatures are verified by the set
    /// of --admin-set; without it nothing is verified
    file: PathBuf,
}

pub(super) fn run(context: &Context, args: &Statement) -> Printed {
    let bytes = super::read(&args.file, limits::STATEMENT)?;
    let refused = |error: StatementRefusal| {
        let refusal = error.refusal();
        let mut report = Report::new(
            exit::INTEGRITY,
            format!("{}: {}: {error}", args.file.display(), refusal.name()),
        );
        report.refusal = Some(refusal);
        report
    };
    let received = ReceivedStatement::parse(&bytes).map_err(refused)?;
    let payload = received.payload();
    let set = match &context.global.admin_set {
        None => {
            let _ = std::io::Write::write_all(
                &mut anstream::stderr().lock(),
                b"UNVERIFIED: no --admin-set was given, so anybody may have written this statement\n",
            );
            None
        }
        Some(file) => {
            let bytes = super::read(file, limits::STATEMENT)?;
            Some(trust::set_in(file, &bytes, &payload.realm)?)
        }
    };
    let verified = set
        .as_ref()
        .map(|set| received.signed_by(set).map_err(refused))
        .transpose()?;
    let counting = set.as_ref().zip(verified.as_ref()).map(|(set, signers)| {
        json!({ "have": set.counting(payload.act, signers), "need": set.quorum(payload.act) })
    });
    let signatures: Vec<Value> = received
        .claimed_signers()
        .iter()
        .map(|(thumbprint, kind)| {
            let mut all = verified.iter().flatten();
            let signer = all.find(|signer| signer.key.thumbprint() == *thumbprint);
            json!({
                "thumbprint": thumbprint.to_string(),
                "kind": kind.name(),
                "signer": signer.map(|signer| &signer.name),
                "key": signer.map(|signer| signer.key.to_string()),
            })
        })
        .collect();
    let audience = match payload.audience {
        Audience::Server(key) => text(key),
        Audience::Everyone => text("everyone"),
    };
    let time = now();
    super::print(
        context,
        object! {
            "verified": verified.is_some(),
            "signatures": signatures,
            "quorum": counting,
            "digest": text(received.digest()),
            "id": text(payload.id),
            "realm": payload.realm,
            "audience": audience,
            "not_before": text(payload.not_before),
            "expires": text(payload.expires),
            "live": payload.not_before <= time.plus(limits::SKEW) && time < payload.expires,
            "act": payload.act.name(),
            "words": words::describe(payload, set.as_ref()).unwrap_or_default(),
            "body": body(payload),
        },
    )
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
            "max_budget": create.max_budget, "max_life": text(Span(create.max_life)), "owners": texts(&create.owners),
            "lease": text(Span(create.lease)), "evidence": create.evidence, "canary": text(create.canary),
            "witnessing": view::witnessing(&create.witnessing), "rotation": view::rotation(&create.rotation) }
        }),
        Act::DatasetPolicySet => of(
            payload,
            |set: &DatasetPolicySet| object! { "name": set.name, "policy": set.text, "replaces": text(set.replaces) },
        ),
        Act::ProducerAdd => of(
            payload,
            |add: &ProducerAdd| object! { "name": add.name, "producer": text(add.producer) },
        ),
        Act::PolicySet => of(
            payload,
            |set: &PolicySet| object! { "policy": set.text, "replaces": view::maybe(set.replaces) },
        ),
        Act::DatasetSet => of(payload, |set: &DatasetSet| {
            object! { "name": set.name, "max_budget": set.max_budget, "max_life": text(Span(set.max_life)),
            "kems": set.kems.iter().map(|one| view::kem(*one)).collect::<Vec<_>>(), "lease": text(Span(set.lease)),
            "evidence": set.evidence, "canary": text(set.canary), "witnessing": view::witnessing(&set.witnessing),
            "rotation": view::rotation(&set.rotation), "class": text(set.class) }
        }),
        Act::DatasetOwnersSet => of(
            payload,
            |set: &DatasetOwnersSet| object! { "name": set.name, "owners": texts(&set.owners) },
        ),
        Act::AliasSet => of(payload, |set: &AliasSet| {
            let target = set.target.as_ref();
            object! { "alias": set.alias, "dataset": target.map(|target| target.name.clone()),
            "dataset_id": view::maybe(target.map(|target| target.dataset)), "follows": text(set.follows) }
        }),
        Act::CanarySet => of(
            payload,
            |set: &CanarySet| object! { "name": set.name, "dek": text(set.dek), "canary": text(set.canary) },
        ),
        Act::Undeny => of(payload, |lifted: &Undeny| {
            let denials: Vec<Value> = lifted
                .denials
                .iter()
                .map(|(epoch, digest)| json!({ "epoch": epoch, "digest": digest.to_string() }))
                .collect();
            object! { "denials": denials, "reason": lifted.reason }
        }),
        Act::AdminSet => of(payload, |set: &AdminSetBody| {
            crate::admin::admin_set::json_of(set)
        }),
        Act::NodeUnfreeze => of(
            payload,
            |one: &NodeUnfreeze| object! { "node": text(&one.node), "node_key": text(one.node_key) },
        ),
        Act::LogRecover => of(payload, |recover: &LogRecover| {
            object! { "shard": recover.shard, "size": recover.size, "root": text(ProofHash(recover.root)) }
        }),
        Act::KekRotate => of(
            payload,
            |rotate: &KekRotate| object! { "name": rotate.name, "replaces": text(rotate.replaces) },
        ),
        Act::KekSet => of(
            payload,
            |set: &KekSet| object! { "name": set.name, "kek": text(set.kek), "usable": set.usable },
        ),
        Act::KekDestroy => of(payload, |destroy: &KekDestroy| {
            object! { "name": destroy.name, "kek": text(destroy.kek), "days": destroy.days, "wraps": destroy.wraps,
            "dependants": text(ProofHash(destroy.dependants)) }
        }),
        Act::KekKeep => of(
            payload,
            |keep: &KekKeep| object! { "name": keep.name, "kek": text(keep.kek) },
        ),
        Act::KekList => of(payload, |list: &KekList| object! { "name": list.name }),
        Act::WrapList => of(payload, |list: &WrapList| {
            object! { "name": list.name, "kek": text(list.kek), "after": view::maybe(list.after), "rows": list.rows }
        }),
        Act::ImportBegin => of(
            payload,
            |begin: &ImportBegin| object! { "name": begin.name },
        ),
        Act::KekImport => of(payload, |import: &KekImport| {
            object! { "name": import.name, "import": text(import.import), "how": import.how.name(),
            "replaces": text(import.replaces), "expiry": view::maybe(import.expiry),
            "commitment": text(ProofHash(import.commitment)) }
        }),
        Act::KekExport => of(payload, |export: &KekExport| {
            object! { "name": export.name, "kek": text(export.kek), "threshold": export.threshold,
            "holders": holders(&export.holders) }
        }),
        Act::RootShow => of(payload, |_: &RootShow| Map::new()),
        Act::ShareGive => of(payload, |give: &ShareGive| {
            object! { "attempt": text(give.attempt), "purpose": give.purpose.name(), "number": give.number }
        }),
        Act::SealServer => of(
            payload,
            |seal: &SealServer| object! { "root": text(seal.root) },
        ),
        Act::Rekey => of(payload, |rekey: &Rekey| {
            object! { "replaces": text(rekey.replaces), "threshold": rekey.threshold,
            "holders": holders(&rekey.holders) }
        }),
        Act::BackupBegin => of(payload, |_: &BackupBegin| Map::new()),
        Act::BackupPart => of(
            payload,
            |part: &BackupPart| object! { "id": text(part.id), "number": part.number },
        ),
        Act::Restore => of(payload, |restore: &Restore| {
            object! { "id": text(restore.id), "digest": text(ProofHash(restore.digest)), "reason": restore.reason }
        }),
        Act::TicketKeyMake => of(payload, |_: &TicketKeyMake| Map::new()),
        Act::TicketKeySet => of(payload, |set: &TicketKeySet| ticket_key::said(set)),
        Act::Deny => of(
            payload,
            |deny: &DenyBody| object! { "selector": view::selector(&deny.selector), "reason": deny.reason },
        ),
        _ => None,
    };
    shown.unwrap_or_else(|| json!(base64url(&payload.body)))
}

/// Who gets a share.
fn holders(holders: &[ShareHolder]) -> Vec<Value> {
    let one =
        |one: &ShareHolder| json!({ "name": one.name, "key_hash": one.key.hash().to_string() });
    holders.iter().map(one).collect()
}
