//! Admins and the sets that name them, as they travel. What a set must hold to is in
//! [`super::admin_set`].

use std::collections::BTreeMap;

use crate::cbor::{DecodeError, Encode, Reader, Writer};
use crate::ids::AdminSetDigest;
use crate::keys::AdminKey;
use crate::limits;
use crate::messages::shape::{
    Ascending, Bool, Bytes, List, Maybe, Shape, Text, UINT, Uint, closed_map, item, numbered,
};

use super::acts::{Act, Nothing, act};
use super::signing::AdminSigner;

numbered! {
    /// What an admin's signature counts for (SET-1).
    pub enum AdminRole("admin role") {
        /// Launches and denials: lets in those who use keys.
        Operator = 1, "operator";
        /// Datasets and their policies.
        DatasetOwner = 2, "dataset-owner";
        /// The admin set, the broker's policy, liftings, owners.
        Security = 3, "security";
    }
}

numbered! {
    /// Where an admin's key is, and so what its signatures look like (SET-7).
    pub enum AdminKeyKind("admin key kind") {
        /// In a file that a passphrase encrypts.
        File = 1, "file";
        /// In an OpenSSH agent: `ssh-ed25519`.
        Agent = 2, "agent";
        /// In a security key behind an OpenSSH agent: `sk-ssh-ed25519@openssh.com`.
        SecurityKey = 3, "security-key";
    }
}

impl AdminKeyKind {
    /// The COSE algorithm id of its signatures (SET-7); the last two are of COSE's private range.
    #[must_use]
    pub fn alg(self) -> i64 {
        match self {
            Self::File => crate::sign::ALG_EDDSA,
            Self::Agent => -70_101,
            Self::SecurityKey => -70_102,
        }
    }
}

/// Longest name of an admin or application, in bytes.
pub const ADMIN_NAME: usize = 64;

closed_map! {
    /// One admin.
    ///
    /// ```cddl
    /// admin = { 1: tstr .size (1..64), 2: 1..3, 3: ed-key, 4: [1*3 (1 / 2 / 3)], ? 5: tstr .size (1..64) }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Admin {
        /// For people, and in entries.
        1 name: String = Text(1..=ADMIN_NAME);
        /// Where its key is.
        2 kind: AdminKeyKind = item();
        /// Its public key.
        3 key: AdminKey = item();
        /// What its signatures count for, ascending.
        4 roles: Vec<AdminRole> = Ascending(1..=3, item());
        /// A security key's application: OpenSSH's is `ssh:` or begins so.
        5 application: Option<String> = Maybe(Text(1..=ADMIN_NAME));
    }
}

impl Admin {
    /// Whether its signature counts for this act (SET-2): it holds the act's role, or the act needs none.
    #[must_use]
    pub fn may(&self, act: Act) -> bool {
        // rule: SET-2, ADM-4
        act.role().is_none_or(|role| self.roles.contains(&role))
    }

    /// How its signatures are made and verified.
    #[must_use]
    pub fn signer(&self) -> AdminSigner {
        AdminSigner {
            key: self.key,
            kind: self.kind,
            application: self.application.clone(),
        }
    }
}

closed_map! {
    /// An admin set as it travels: the body of the act that replaces one, and what a bootstrap pins.
    ///
    /// `admin-set = { 1: uint .ge 1, 2: hash, 3: [2*16 admin], 4: { + act => 1..16 } }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AdminSetBody {
        /// 1, 2, 3, …
        1 version: u64 = Uint(1..=u64::MAX);
        /// The set that it follows; zeros for version 1.
        2 follows: AdminSetDigest = item();
        /// Ascending by key.
        3 admins: Vec<Admin> = List(2..=limits::ADMINS, item());
        /// How many admins must sign each act that changes something.
        4 quorums: BTreeMap<Act, u64> = Quorums;
    }
}
act!(AdminSetBody, AdminSet, Nothing);

impl AdminSetBody {
    /// What version 1 follows.
    pub const NOTHING: AdminSetDigest = AdminSetDigest([0; 32]);

    /// A number for each act that changes something: `k`, but no less than the act's floor, for those
    /// that could widen who reads; 1 for those that let in a node, make a dataset or deny.
    #[must_use]
    pub fn usual_quorums(k: u64) -> BTreeMap<Act, u64> {
        Act::ALL
            .iter()
            .filter(|act| act.role().is_some())
            .map(|act| match act.floor() {
                1 => (*act, 1),
                floor => (*act, k.max(floor)),
            })
            .collect()
    }
}

struct Quorums;

impl Shape for Quorums {
    type Value = BTreeMap<Act, u64>;

    fn write(&self, value: &Self::Value, writer: &mut Writer) {
        writer.map(value.len());
        for (act, quorum) in value {
            act.encode(writer);
            writer.uint(*quorum);
        }
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Self::Value, DecodeError> {
        let mut map = reader.map(Act::ALL.len())?;
        let mut quorums = BTreeMap::new();
        for act in Act::ALL {
            let number = i64::try_from(act.number()).map_err(|_| DecodeError::OutOfRange("act"))?;
            let quorum = map.optional(number, |reader| {
                Uint(1..=limits::ADMINS as u64).read(reader)
            })?;
            quorums.extend(quorum.map(|quorum| (*act, quorum)));
        }
        map.end()?;
        if quorums.is_empty() {
            return Err(DecodeError::OutOfRange("map length"));
        }
        Ok(quorums)
    }
}

/// Most sets in one page of their history.
pub const SETS: usize = 16;

closed_map! {
    /// Shows the sets after a version (SET-3).
    ///
    /// `admin-set-show = { 1: uint }`
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AdminSetShow {
        /// The last version that is known; 0 for the whole history.
        1 after: u64 = UINT;
    }
}
act!(AdminSetShow, AdminSetShow, AdminSetPage);

closed_map! {
    /// `admin-set-page = { 1: [*16 bstr .size (1..16384)], 2: bool }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AdminSetPage {
        /// Statements, ascending by version.
        1 statements: Vec<Vec<u8>> = List(0..=SETS, Bytes(1..=limits::RECORD));
        /// Whether there are more.
        2 more: bool = Bool;
    }
}
