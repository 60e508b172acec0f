//! The broker's policy.

use policy::Policy;
use ticket_format::Refusal;
use ticket_format::ids::PolicyDigest;
use ticket_format::statement::{PolicySet, PolicyText, PolicyTextSet};
use ticket_format::time::Timestamp;

use super::{Done, Opened};
use crate::Refused;
use crate::state::{Changes, PolicyHead, keys};

/// Bytes of a statement in one record: a policy's statement is longer than one value may be.
pub const PART: usize = 48 * 1024;

/// Sets the policy. It is parsed and validated before it is accepted.
///
/// # Errors
/// Refusal 79 when another policy stands than the one that it replaces, 77 with line and column.
pub fn set(
    opened: &Opened,
    body: &PolicySet,
    existing: Option<&PolicyHead>,
    now: Timestamp,
    mut changes: Changes,
) -> Result<(Done, Policy), Refused> {
    // rule: ADM-5
    let stands = existing.map(|head| head.policy);
    if body.replaces != stands {
        let stands = stands.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        let why = format!("another policy stands than the one that this replaces: {stands}");
        return Err(opened.refuse(Refusal::Stale, why));
    }
    let policy =
        Policy::parse(&body.text).map_err(|error| opened.refuse(Refusal::Invalid, error))?;
    let digest = PolicyDigest(policy.digest());
    changes
        .puts
        .push((keys::POLICY_TEXT.to_owned(), body.text.as_bytes().to_vec()));
    let parts = opened.bytes().chunks(PART);
    let count = parts.len();
    for (number, part) in parts.enumerate() {
        changes
            .puts
            .push((keys::policy_part(number), part.to_vec()));
    }
    let left_over = existing.map_or(0, |found| usize::try_from(found.parts).unwrap_or_default());
    changes
        .deletes
        .extend((count..left_over).map(keys::policy_part));
    let head = PolicyHead {
        policy: digest,
        statement: opened.statement().digest(),
        set: now,
        parts: count as u64,
    };
    changes.put(keys::POLICY.to_owned(), &head);
    Ok((
        Done::new::<PolicySet>(changes, &PolicyTextSet { digest }),
        policy,
    ))
}

/// The policy for people; empty when none was set.
#[must_use]
pub fn text(policy: Option<&Policy>) -> PolicyText {
    let text = policy.map_or("", Policy::text).to_owned();
    PolicyText {
        digest: PolicyDigest::of(text.as_bytes()),
        text,
    }
}
