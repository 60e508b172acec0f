//! The admin set in force: who may do what, and how many must agree (SET-1 to SET-5).

use crate::Refusal;
use crate::cbor::{Decode, DecodeError, Encode};
use crate::ids::AdminSetDigest;
use crate::keys::AdminKey;
use crate::limits;
use crate::time::Timestamp;

use super::acts::Act;
use super::admins::{Admin, AdminKeyKind, AdminRole, AdminSetBody};
use super::{Audience, ReceivedStatement, StatementRefusal};

/// A set that holds to the rules. Only such a one authorises anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSet {
    body: AdminSetBody,
    digest: AdminSetDigest,
}

/// What a set does not hold to (SET-4): the detail of refusal 77.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminSetFault {
    /// A version 1 that follows something, or another version that follows nothing.
    #[error("version 1 follows nothing, and every other version follows a set")]
    Start,
    /// One key twice: one person would count as two.
    #[error("a key stands in the set twice")]
    DoubledKey,
    /// One name twice: entries could not say who it was.
    #[error("the name {0} stands in the set twice")]
    DoubledName(String),
    /// A set has one encoding.
    #[error("the admins are not in the order of their keys")]
    Order,
    /// Control characters, or blanks at an end, can make one name look like another.
    #[error("the name {0:?} has a control character, or a blank at its begin or end")]
    Name(String),
    /// A security key without its application, or another key with one.
    #[error("{0}: a security key has an application, and no other key has")]
    Application(String),
    /// Users of keys and managers of keys never overlap.
    #[error("{0} is operator and {1}: who lets in nodes manages no keys")]
    Overlap(String, AdminRole),
    /// A number for an act that has no role.
    #[error("{0} changes nothing that a quorum guards: it has no number")]
    NoRole(Act),
    /// A number below its least, or a denial that must wait for others.
    #[error("the number for {act} is {quorum}: it must be {}{}", if *exact { "" } else { "at least " }, act.floor())]
    Number {
        /// The act.
        act: Act,
        /// Its number.
        quorum: u64,
        /// Whether it must be exactly that number.
        exact: bool,
    },
    /// Without these a house cannot deny, or cannot ever change its admins.
    #[error("there is no number for {0}: every set has one")]
    Missing(Act),
    /// A quorum that can never be met.
    #[error("{act} needs {quorum} admins who are {role}, and there are {holders}")]
    TooFew {
        /// The act.
        act: Act,
        /// Its number.
        quorum: u64,
        /// Its role.
        role: AdminRole,
        /// How many hold it.
        holders: u64,
    },
    /// A set that follows the right one, but not as the next.
    #[error("the set has version {0}, and {1} comes next")]
    Version(u64, u64),
}

/// Why a statement makes no set, or none that follows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminSetRefusal {
    /// The statement does not hold.
    #[error("{0}")]
    Statement(#[from] StatementRefusal),
    /// The set that it brings does not.
    #[error("{0}")]
    Fault(#[from] AdminSetFault),
    /// A first set that one of its admins did not sign.
    #[error("the first admin set is signed by {signed} of its {admins} admins: all must sign")]
    NotAll {
        /// How many signed.
        signed: usize,
        /// How many there are.
        admins: usize,
    },
    /// It follows another set.
    #[error("the admin set follows {follows}, and {current} is in force")]
    Stale {
        /// What it names.
        follows: AdminSetDigest,
        /// What it should.
        current: AdminSetDigest,
    },
    /// A set that is for one server could not be shown to the others.
    #[error("the admin set is for one server: it must be for everyone")]
    OneServer,
}

impl AdminSetRefusal {
    /// The refusal that the peer gets.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Statement(refusal) => refusal.refusal(),
            Self::Fault(_) => Refusal::Invalid,
            Self::NotAll { .. } => Refusal::Quorum,
            Self::Stale { .. } => Refusal::Stale,
            Self::OneServer => Refusal::StatementAudience,
        }
    }
}

impl From<DecodeError> for AdminSetRefusal {
    fn from(error: DecodeError) -> Self {
        Self::Statement(error.into())
    }
}

impl AdminSet {
    /// Takes a body that holds to SET-4. It says nothing about who signed it: see
    /// [`AdminSet::first`], [`AdminSet::next`] and [`AdminSet::pinned`].
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn new(body: AdminSetBody) -> Result<Self, AdminSetFault> {
        check_admins(&body)?;
        check_quorums(&body)?;
        // The encoding is deterministic: these are the bytes received (ENC-4).
        let digest = AdminSetDigest::of(&body.to_cbor());
        Ok(Self { body, digest })
    }

    /// The set whose map these bytes are, believed because of where they were found: user-data, a
    /// configuration. Nothing signed is looked at.
    ///
    /// # Errors
    /// Another shape, or a set that does not hold to SET-4.
    pub fn pinned(bytes: &[u8]) -> Result<Self, AdminSetRefusal> {
        Ok(Self::new(AdminSetBody::from_cbor(
            bytes,
            limits::ADMIN_SET,
        )?)?)
    }

    /// The first set of a realm: version 1, signed by all its admins (SET-3).
    ///
    /// # Errors
    /// [`AdminSetRefusal`].
    pub fn first(statement: &[u8], realm: &str, now: Timestamp) -> Result<Self, AdminSetRefusal> {
        let received = ReceivedStatement::parse(statement)?;
        let set = Self::new(received.body()?)?;
        // rule: SET-3
        let signed = received.signed_by(&set)?.len();
        let admins = set.admins().len();
        if set.version() != 1 {
            return Err(AdminSetFault::Version(set.version(), 1).into());
        }
        if signed != admins {
            return Err(AdminSetRefusal::NotAll { signed, admins });
        }
        only_for_everyone(&received)?;
        received.verify(&set, realm, None, now)?;
        Ok(set)
    }

    /// The set that this statement puts in place of this one (SET-3).
    ///
    /// # Errors
    /// [`AdminSetRefusal`]; signatures and quorum of this set come first.
    pub fn next(
        &self,
        statement: &[u8],
        realm: &str,
        now: Timestamp,
    ) -> Result<Self, AdminSetRefusal> {
        let received = ReceivedStatement::parse(statement)?;
        only_for_everyone(&received)?;
        // rule: SET-2, SET-3
        let verified = received.verify(self, realm, None, now)?;
        let body: AdminSetBody = verified.body()?;
        // rule: ADM-5
        if body.follows != self.digest {
            return Err(AdminSetRefusal::Stale {
                follows: body.follows,
                current: self.digest,
            });
        }
        let next = self.version().saturating_add(1);
        if body.version != next {
            return Err(AdminSetFault::Version(body.version, next).into());
        }
        Ok(Self::new(body)?)
    }

    /// The last of the sets that follow this one, each as [`AdminSet::next`] of the one before.
    ///
    /// # Errors
    /// The first that does not follow: none after it is looked at.
    pub fn follow(
        &self,
        statements: impl IntoIterator<Item = impl AsRef<[u8]>>,
        realm: &str,
        now: Timestamp,
    ) -> Result<Self, AdminSetRefusal> {
        statements
            .into_iter()
            .try_fold(self.clone(), |set, statement| {
                set.next(statement.as_ref(), realm, now)
            })
    }

    /// As it travels.
    #[must_use]
    pub fn body(&self) -> &AdminSetBody {
        &self.body
    }

    /// 1, 2, 3, …
    #[must_use]
    pub fn version(&self) -> u64 {
        self.body.version
    }

    /// SHA-256 of the map.
    #[must_use]
    pub fn digest(&self) -> AdminSetDigest {
        self.digest
    }

    /// Its admins, ascending by key.
    #[must_use]
    pub fn admins(&self) -> &[Admin] {
        &self.body.admins
    }

    /// The admin of this key.
    #[must_use]
    pub fn admin(&self, key: &AdminKey) -> Option<&Admin> {
        self.admins().iter().find(|admin| admin.key == *key)
    }

    /// The admin of this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Admin> {
        self.admins().iter().find(|admin| admin.name == name)
    }

    /// How many admins must sign this act: none when nobody can authorise it (SET-2); one for what
    /// changes nothing and for the inbox (ADM-4).
    #[must_use]
    pub fn quorum(&self, act: Act) -> Option<u64> {
        // rule: SET-2, ADM-4
        match act.role() {
            None => Some(1),
            Some(_) => self.body.quorums.get(&act).copied(),
        }
    }

    /// How many of these signers count for this act.
    #[must_use]
    pub fn counting(&self, act: Act, signers: &[Admin]) -> u64 {
        signers.iter().filter(|admin| admin.may(act)).count() as u64
    }
}

/// Others follow the set too: a statement for one server would end their history.
fn only_for_everyone(received: &ReceivedStatement) -> Result<(), AdminSetRefusal> {
    match received.payload().audience {
        Audience::Everyone => Ok(()),
        Audience::Server(_) => Err(AdminSetRefusal::OneServer),
    }
}

// rule: SET-4
fn check_admins(body: &AdminSetBody) -> Result<(), AdminSetFault> {
    if (body.version == 1) != (body.follows == AdminSetBody::NOTHING) {
        return Err(AdminSetFault::Start);
    }
    for (index, admin) in body.admins.iter().enumerate() {
        let name = || admin.name.clone();
        let before = &body.admins[..index];
        if before.iter().any(|other| other.key == admin.key) {
            return Err(AdminSetFault::DoubledKey);
        }
        if before.iter().any(|other| other.name == admin.name) {
            return Err(AdminSetFault::DoubledName(name()));
        }
        if admin.name.trim() != admin.name || admin.name.chars().any(crate::report::hides) {
            return Err(AdminSetFault::Name(name()));
        }
        if (admin.kind == AdminKeyKind::SecurityKey) != admin.application.is_some() {
            return Err(AdminSetFault::Application(name()));
        }
        let manages = admin
            .roles
            .iter()
            .find(|role| **role != AdminRole::Operator);
        if let Some(role) = manages.filter(|_| admin.roles.contains(&AdminRole::Operator)) {
            return Err(AdminSetFault::Overlap(name(), *role));
        }
    }
    if !body.admins.is_sorted_by(|a, b| a.key < b.key) {
        return Err(AdminSetFault::Order);
    }
    Ok(())
}

// rule: SET-4
fn check_quorums(body: &AdminSetBody) -> Result<(), AdminSetFault> {
    for act in [Act::Deny, Act::AdminSet] {
        if !body.quorums.contains_key(&act) {
            return Err(AdminSetFault::Missing(act));
        }
    }
    for (&act, &quorum) in &body.quorums {
        let role = act.role().ok_or(AdminSetFault::NoRole(act))?;
        let exact = act == Act::Deny;
        if quorum < act.floor() || (exact && quorum != act.floor()) {
            return Err(AdminSetFault::Number { act, quorum, exact });
        }
        let holds = |admin: &&Admin| admin.roles.contains(&role);
        let holders = body.admins.iter().filter(holds).count() as u64;
        if holders < quorum {
            return Err(AdminSetFault::TooFew {
                act,
                quorum,
                role,
                holders,
            });
        }
    }
    Ok(())
}
