//! The admin set, replaced and shown (SET-3, SET-6).

use std::sync::Arc;

use store::Transaction;
use ticket_format::cbor::Encode;
use ticket_format::entry::{Alarm, Entry};
use ticket_format::statement::{
    AdminSet, AdminSetPage, AdminSetRefusal, AdminSetShow, Nothing, admins::SETS,
};

use super::Service;
use super::administer::{Asked, Change, Plan};
use crate::admins::no_other_role;
use crate::records;
use crate::refused::Refused;
use crate::state::State;

impl From<AdminSetRefusal> for Refused {
    fn from(refused: AdminSetRefusal) -> Self {
        match refused {
            AdminSetRefusal::Statement(refused) => Self::Statement(refused),
            other => Self::AdminSet(other.refusal(), other.to_string()),
        }
    }
}

impl Service {
    pub(super) fn set_admins(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        // rule: SET-3, ADM-5
        let now = self.state.latest.get();
        let set = asked.set.next(asked.bytes, &self.state.realm, now)?;
        no_key_of_ours(&set, &self.state)?;
        let key = records::admin_set(set.version());
        Ok(Plan {
            transaction: Transaction::new().put(key, asked.bytes),
            result: Nothing {}.to_cbor(),
            change: Change::Admins {
                set: Arc::new(set),
                statement: asked.bytes.to_vec(),
            },
        })
    }

    pub(super) fn show_admins(&self, body: &AdminSetShow) -> Result<Plan, Refused> {
        let (statements, more) = self.state.admins.after(body.after, SETS);
        Ok(Plan::reading(&AdminSetPage { statements, more }))
    }

    /// The alarm that comes with a change: somebody else decides from now on.
    pub(super) fn alarm_of(&self, change: &Change, entry: &Entry) -> Option<Entry> {
        // rule: SET-6
        let Change::Admins { .. } = change else {
            return None;
        };
        let mut alarm = Entry::alarm(self.act(), Alarm::AdminSet, entry.time).follows(entry.act);
        alarm.subject.clone_from(&entry.subject);
        alarm.signers.clone_from(&entry.signers);
        (alarm.proof, alarm.source) = (entry.proof, entry.source.clone());
        Some(alarm)
    }
}

/// Holds a set to the keys that this server knows in other roles: its own, the broker's, producers'.
pub(super) fn no_key_of_ours(set: &AdminSet, state: &State) -> Result<(), Refused> {
    let mut others = vec![
        state.tls_key.to_bytes(),
        state.signing.public().to_bytes(),
        state.evidence.broker().to_bytes(),
        *state.log_key.ed25519(),
        *state.broker_log.key().ed25519(),
    ];
    others.extend(state.ticket_keys.get().all().map(|key| key.to_bytes()));
    others.extend(state.datasets.producers());
    no_other_role(set, &others).map_err(|_| Refused::AdminsKey)
}
