//! Nodes: show, and decide on a frozen one.

use ticket_format::Refusal;
use ticket_format::statement::{NodeState, NodeUnfreeze, NodeView};
use ticket_format::time::Timestamp;

use super::{Done, Opened};
use crate::Refused;
use crate::state::{Changes, Claim, KeyRole, KeyUse, NodeRecord, keys};

/// Lets a frozen node go on with the key that the admin names: the recorded one, or that of the other
/// holder.
///
/// # Errors
/// Refusals 20, 76 and 77.
pub fn unfreeze(
    opened: &Opened,
    body: &NodeUnfreeze,
    node: Option<&NodeRecord>,
    key: Option<&KeyUse>,
    denied: Option<&str>,
    now: Timestamp,
    mut changes: Changes,
) -> Result<Done, Refused> {
    let Some(found) = node else {
        return Err(opened.refuse(Refusal::NotFound, format!("there is no node {}", body.node)));
    };
    let mut record = found.clone();
    // rule: REN-5
    let Some(frozen) = record.frozen.take() else {
        return Err(opened.refuse(Refusal::Invalid, format!("{} is not frozen", body.node)));
    };
    let name = body.node.to_string();
    let chains = frozen.other_chain.into_iter().collect::<Vec<_>>();
    if body.node_key == record.current {
        // The record stands as it is.
    } else if Some(body.node_key) == frozen.other_old {
        (record.current, record.previous) = (body.node_key, None);
        (record.chains, record.previous_chains) = (chains, Vec::new());
    } else if body.node_key == frozen.other_key {
        if key.is_some_and(|key| key.role != KeyRole::Node || key.owner != name) {
            return Err(opened.refuse(
                Refusal::KeyReused,
                "this key has another role or is another node's",
            ));
        }
        match frozen.other_login {
            // Its login, sent again, is answered as a retry (LOG-7).
            Some((login, launch)) => {
                record.claim = Claim {
                    launch,
                    login,
                    node_key: body.node_key,
                    at: now,
                    ..record.claim
                };
                (record.current, record.previous) = (body.node_key, None);
                (record.chains, record.previous_chains) = (Vec::new(), Vec::new());
            }
            // Its renewal, sent again, is answered as a retry (REN-2).
            None => {
                (record.current, record.previous) = (body.node_key, frozen.other_old);
                (record.chains, record.previous_chains) = (Vec::new(), chains);
            }
        }
        if key.is_none() {
            let thumbprint = keys::key(body.node_key.thumbprint());
            changes.put(
                thumbprint,
                &KeyUse {
                    role: KeyRole::Node,
                    owner: name,
                },
            );
        }
    } else {
        let why = format!(
            "the key must be {}, or the other holder's: {}",
            record.current, frozen.other_key
        );
        return Err(opened.refuse(Refusal::Invalid, why));
    }
    changes.put(keys::node(&body.node), &record);
    Ok(Done::new::<NodeUnfreeze>(
        changes,
        &view(&record, denied, now),
    ))
}

/// A node for people.
#[must_use]
pub fn view(record: &NodeRecord, denied: Option<&str>, now: Timestamp) -> NodeView {
    let frozen = record.frozen.map(|frozen| {
        format!(
            "{} at {}; the other holder's key: {}",
            frozen.alarm, frozen.at, frozen.other_key
        )
    });
    let (state, reason) = match (denied, frozen) {
        (Some(reason), _) => (NodeState::Denied, reason.chars().take(200).collect()),
        (None, Some(why)) => (NodeState::Frozen, why),
        (None, None) if now >= record.claim.life_ends => (NodeState::Expired, String::new()),
        (None, None) => (NodeState::Live, String::new()),
    };
    let mut reason: String = reason;
    while reason.len() > 256 {
        reason.pop();
    }
    NodeView {
        attributes: record.attributes.clone(),
        launch: record.claim.launch,
        state,
        node_key: record.current,
        logged_in: record.claim.at,
        renewed: record.issued,
        until: record.claim.life_ends,
        reason,
    }
}
