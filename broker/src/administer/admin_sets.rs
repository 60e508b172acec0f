//! The admin set: who may sign what, and how it is followed by another.

use rand_core::CryptoRng;
use ticket_format::Refusal;
use ticket_format::entry::{Alarm, Entry};
use ticket_format::ids::ActId;
use ticket_format::statement::{AdminSet, AdminSetBody, AdminSetPage, Nothing};
use ticket_format::time::Timestamp;

use super::{Done, Opened};
use crate::Refused;
use crate::admins::Admins;
use crate::realm::Realm;
use crate::state::{AdminSetHead, Changes, KeyRole, KeyUse, keys};

/// Most sets in one answer.
const SETS: usize = 16;

/// Checks the set that this statement is, as the one that follows the set in force (SET-3, SET-4).
///
/// # Errors
/// Refusals 70, 77, 78 and 79.
pub fn successor(opened: &Opened, realm: &Realm, now: Timestamp) -> Result<AdminSet, Refused> {
    // rule: SET-3, SET-4, ADM-5
    let next = opened.set().next(opened.bytes(), &realm.name, now);
    next.map_err(|error| opened.refuse(error.refusal(), error))
}

/// Puts a set in force: with the commit its admins count, and nobody else.
///
/// # Errors
/// Refusal 20.
pub fn take(
    opened: &Opened,
    next: &AdminSet,
    uses: &[Option<KeyUse>],
    entry: &Entry,
    mut changes: Changes,
    rng: &mut impl CryptoRng,
) -> Result<Done, Refused> {
    enter(opened.bytes(), next, uses, &mut changes)
        .map_err(|why| opened.refuse(Refusal::KeyReused, why))?;
    // rule: SET-6
    let mut alarm = Entry::alarm(ActId::random(rng), Alarm::AdminSet, entry.time)
        .follows(entry.act)
        .subject(opened.admin())
        .signers(opened.signers())
        .count(next.version());
    alarm.proof = entry.proof;
    changes.record(alarm);
    Ok(Done::new::<AdminSetBody>(changes, &Nothing {}))
}

/// Adds a set to the history, makes it the one in force, and registers its admins' keys. Keys of admins
/// who left stay registered.
///
/// # Errors
/// Whose key is registered for another role.
pub fn enter(
    statement: &[u8],
    set: &AdminSet,
    uses: &[Option<KeyUse>],
    changes: &mut Changes,
) -> Result<(), String> {
    for (admin, registered) in set.admins().iter().zip(uses) {
        match registered {
            // rule: SET-4
            Some(registered) if registered.role != KeyRole::Admin => {
                return Err(format!(
                    "the key of {:?} is registered for another role already: an admin's key is for statements only",
                    admin.name
                ));
            }
            Some(_) => {}
            None => {
                changes.put(
                    keys::key(admin.key.thumbprint()),
                    &KeyUse {
                        role: KeyRole::Admin,
                        owner: admin.name.clone(),
                    },
                );
            }
        }
    }
    let head = AdminSetHead {
        version: set.version(),
        digest: set.digest(),
    };
    changes
        .puts
        .push((keys::admin_set(set.version()), statement.to_vec()));
    changes.put(keys::ADMIN_SET_HEAD.to_owned(), &head);
    Ok(())
}

/// The sets after a version, for people and key servers.
#[must_use]
pub fn page(admins: &Admins, after: u64) -> AdminSetPage {
    let mut statements = admins.after(after, SETS + 1);
    let more = statements.len() > SETS;
    statements.truncate(SETS);
    AdminSetPage { statements, more }
}
