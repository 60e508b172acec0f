//! The admin set in force and the sets before it (SET-3).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use ticket_format::statement::{
    Act, AdminSet, AdminSetRefusal, ReceivedStatement, StatementRefusal,
};
use ticket_format::time::Timestamp;

/// The history of admin sets, from the one that the operator configured on. Shared: the newest set is
/// put in force while requests are being decided.
#[derive(Debug)]
pub struct Admins(RwLock<History>);

#[derive(Debug)]
struct History {
    current: Arc<AdminSet>,
    /// The statements by version.
    statements: BTreeMap<u64, Vec<u8>>,
}

/// Reads a set that the operator vouches for: of version 1 all its admins must have signed it, a later
/// one is taken as it stands, because its quorum was of a set that is not here.
///
/// # Errors
/// [`AdminSetRefusal`].
pub fn trusted(statement: &[u8], realm: &str, now: Timestamp) -> Result<AdminSet, AdminSetRefusal> {
    // rule: SET-3
    let received = ReceivedStatement::parse(statement)?;
    let payload = received.payload();
    if payload.act != Act::AdminSet {
        return Err(StatementRefusal::OtherAct.into());
    }
    if payload.realm != realm {
        return Err(StatementRefusal::Realm.into());
    }
    let set = AdminSet::pinned(&payload.body)?;
    if set.version() == 1 {
        return AdminSet::first(statement, realm, now);
    }
    Ok(set)
}

impl Admins {
    /// A history of one set, that of the configuration.
    ///
    /// # Errors
    /// [`AdminSetRefusal`].
    pub fn configured(
        statement: &[u8],
        realm: &str,
        now: Timestamp,
    ) -> Result<Self, AdminSetRefusal> {
        let set = trusted(statement, realm, now)?;
        Ok(Self(RwLock::new(History {
            statements: BTreeMap::from([(set.version(), statement.to_vec())]),
            current: Arc::new(set),
        })))
    }

    /// A history as a store keeps it: each set is followed by the next.
    ///
    /// # Errors
    /// [`AdminSetRefusal`]: the first one that does not hold. None stands in an empty history.
    pub fn history(
        statements: &[Vec<u8>],
        realm: &str,
        now: Timestamp,
    ) -> Result<Option<Self>, AdminSetRefusal> {
        let Some((first, rest)) = statements.split_first() else {
            return Ok(None);
        };
        let all = Self::configured(first, realm, now)?;
        for statement in rest {
            all.follow(statement, realm, now)?;
        }
        Ok(Some(all))
    }

    /// The set in force.
    #[must_use]
    pub fn current(&self) -> Arc<AdminSet> {
        let history = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&history.current)
    }

    /// Puts the next set in force.
    ///
    /// # Errors
    /// [`AdminSetRefusal`]: it does not follow.
    pub fn follow(
        &self,
        statement: &[u8],
        realm: &str,
        now: Timestamp,
    ) -> Result<(), AdminSetRefusal> {
        // rule: SET-3
        let mut history = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let next = history.current.next(statement, realm, now)?;
        history
            .statements
            .insert(next.version(), statement.to_vec());
        history.current = Arc::new(next);
        Ok(())
    }

    /// Puts a whole history in the place of this one.
    pub fn replace(&self, other: Self) {
        let other = other.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = other;
    }

    /// The statements of the sets after a version, ascending, at most so many.
    #[must_use]
    pub fn after(&self, version: u64, most: usize) -> Vec<Vec<u8>> {
        let history = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let later = history.statements.range(version.saturating_add(1)..);
        later
            .take(most)
            .map(|(_, statement)| statement.clone())
            .collect()
    }

    /// The statement of one version.
    #[must_use]
    pub fn statement(&self, version: u64) -> Option<Vec<u8>> {
        let history = self.0.read().unwrap_or_else(PoisonError::into_inner);
        history.statements.get(&version).cloned()
    }
}
