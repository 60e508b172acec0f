//! The admin sets of the realm, as this server has followed them (SET-3).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use ticket_format::Refusal;
use ticket_format::statement::{
    Act, AdminSet, AdminSetRefusal, ReceivedStatement, StatementRefusal,
};
use ticket_format::time::Timestamp;

/// The set in force, and the statements from the configured set on. The newest set is put in force
/// while requests are being decided: who decides by one asks for it once.
#[derive(Debug)]
pub struct Admins(RwLock<History>);

#[derive(Debug)]
struct History {
    current: Arc<AdminSet>,
    statements: BTreeMap<u64, Vec<u8>>,
}

/// Why the server has no admins that it could believe.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The set that the operator names.
    #[error("the admin set of the configuration is refused: {0}")]
    Configured(AdminSetRefusal),
    /// A set in the store does not follow the one before.
    #[error("admin set {version} in the store is refused: {refused}")]
    Stored {
        /// Which.
        version: u64,
        /// Why.
        refused: AdminSetRefusal,
    },
    /// A version is missing, or stands in another's place.
    #[error("the history of admin sets in the store has version {found} where {expected} belongs")]
    Gap {
        /// What stands there.
        found: u64,
        /// What should.
        expected: u64,
    },
    /// Configuration and history contradict each other.
    #[error(
        "the admin set of the configuration, version {version}, is none of this server's history, versions {first} to {last}: name one of them, and bring a newer one by a statement"
    )]
    Contradiction {
        /// The version in the configuration.
        version: u64,
        /// The first version in the store.
        first: u64,
        /// The last.
        last: u64,
    },
}

/// Reads a set that the operator vouches for: of version 1 all its admins must have signed it; a later
/// one is taken as it stands, since the set that authorised it is not here.
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
    /// The history that the store has, ascending by version, which the configured set must be of; where
    /// the store has none, it begins with that set.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn open(
        configured: &[u8],
        stored: BTreeMap<u64, Vec<u8>>,
        realm: &str,
        now: Timestamp,
    ) -> Result<Self, HistoryError> {
        // rule: SET-3
        let named = trusted(configured, realm, now).map_err(HistoryError::Configured)?;
        let (mut current, mut same) = (None::<AdminSet>, stored.is_empty());
        let mut statements = stored;
        if statements.is_empty() {
            statements.insert(named.version(), configured.to_vec());
        }
        for (version, statement) in &statements {
            let refused = |refused| HistoryError::Stored {
                version: *version,
                refused,
            };
            let set = match &current {
                None => trusted(statement, realm, now).map_err(refused)?,
                Some(before) => before.next(statement, realm, now).map_err(refused)?,
            };
            if set.version() != *version {
                return Err(HistoryError::Gap {
                    found: set.version(),
                    expected: *version,
                });
            }
            same |= set.version() == named.version() && set.digest() == named.digest();
            current = Some(set);
        }
        let current = current.unwrap_or_else(|| named.clone());
        if !same {
            return Err(HistoryError::Contradiction {
                version: named.version(),
                first: statements.keys().next().copied().unwrap_or_default(),
                last: current.version(),
            });
        }
        Ok(Self(RwLock::new(History {
            current: Arc::new(current),
            statements,
        })))
    }

    /// The set in force.
    #[must_use]
    pub fn current(&self) -> Arc<AdminSet> {
        let history = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&history.current)
    }

    /// The sets that this server has followed, the one in force first.
    #[must_use]
    pub fn all(&self) -> Vec<AdminSet> {
        let history = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let before = history.statements.range(..history.current.version()).rev();
        let before = before.filter_map(|(_, statement)| {
            let received = ReceivedStatement::parse(statement).ok()?;
            AdminSet::pinned(&received.payload().body).ok()
        });
        std::iter::once((*history.current).clone())
            .chain(before)
            .collect()
    }

    /// Puts in force a set that was checked against the one before and committed; an older one changes
    /// nothing.
    pub fn put(&self, set: Arc<AdminSet>, statement: Vec<u8>) {
        let mut history = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if set.version() > history.current.version() {
            history.statements.insert(set.version(), statement);
            history.current = set;
        }
    }

    /// The statements of the sets after a version, ascending, at most so many; and whether there are
    /// more.
    #[must_use]
    pub fn after(&self, version: u64, most: usize) -> (Vec<Vec<u8>>, bool) {
        let history = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut later = history.statements.range(version.saturating_add(1)..);
        let page = later.by_ref().take(most).map(|(_, set)| set.clone());
        (page.collect(), later.next().is_some())
    }

    /// The statement of the set in force, and its version: what a store without a history begins with.
    #[must_use]
    pub fn head(&self) -> (u64, Vec<u8>) {
        let history = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let version = history.current.version();
        let statement = history.statements.get(&version).cloned();
        (version, statement.unwrap_or_default())
    }
}

/// The refusal of a set that names a key which has another role here (SET-4).
///
/// # Errors
/// [`Refusal::KeyReused`].
pub fn no_other_role(set: &AdminSet, others: &[[u8; 32]]) -> Result<(), Refusal> {
    // rule: SET-4, SIG-5
    let reused = |key: [u8; 32]| others.contains(&key);
    if set
        .admins()
        .iter()
        .any(|admin| reused(admin.key.to_bytes()))
    {
        Err(Refusal::KeyReused)
    } else {
        Ok(())
    }
}
