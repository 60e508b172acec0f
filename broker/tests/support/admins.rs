//! The admins of a test: an operator, and two who hold dataset-owner and security.

use ticket_format::ids::{AdminSetDigest, StatementId};
use ticket_format::keys::AdminSecret;
use ticket_format::statement::*;
use ticket_format::time::Timestamp;

use super::{NOW, REALM, rng};

/// Everybody's keys.
pub struct Admins {
    pub operator: AdminSecret,
    pub managers: [AdminSecret; 2],
    /// The first set, signed by all.
    pub first: Vec<u8>,
}

/// An admin with a key in a file.
pub fn admin(name: &str, key: &AdminSecret, roles: &[AdminRole]) -> Admin {
    Admin {
        name: name.to_owned(),
        kind: AdminKeyKind::File,
        key: key.public(),
        roles: roles.to_vec(),
        application: None,
    }
}

pub const MANAGES: [AdminRole; 2] = [AdminRole::DatasetOwner, AdminRole::Security];

/// A set of these admins, two for each act that needs a quorum.
pub fn set_of(version: u64, follows: AdminSetDigest, mut admins: Vec<Admin>) -> AdminSetBody {
    admins.sort_by_key(|admin| admin.key.to_bytes());
    AdminSetBody {
        version,
        follows,
        admins,
        quorums: AdminSetBody::usual_quorums(2),
    }
}

impl Admins {
    pub fn new() -> Self {
        let rng = &mut rng();
        let operator = AdminSecret::generate(rng);
        let managers = [AdminSecret::generate(rng), AdminSecret::generate(rng)];
        let mut admins = Self {
            operator,
            managers,
            first: Vec::new(),
        };
        let body = set_of(1, AdminSetBody::NOTHING, admins.all());
        // Earlier than any clock of these tests.
        let (id, now) = (StatementId::random(rng), Timestamp::from_seconds(1));
        let payload = Payload::record(id, REALM, now, &body);
        let [one, two] = &admins.managers;
        admins.first = payload
            .sign(&[&admins.operator, one, two])
            .expect("a statement");
        admins
    }

    pub fn all(&self) -> Vec<Admin> {
        let [one, two] = &self.managers;
        vec![
            admin("operator", &self.operator, &[AdminRole::Operator]),
            admin("manager-1", one, &MANAGES),
            admin("manager-2", two, &MANAGES),
        ]
    }

    /// The first set, checked.
    pub fn set(&self) -> AdminSet {
        AdminSet::first(&self.first, REALM, Timestamp::from_seconds(NOW)).expect("a first set")
    }

    /// As many as must sign this act.
    pub fn of(&self, act: Act) -> Vec<&AdminSecret> {
        match act.role() {
            None | Some(AdminRole::Operator) => vec![&self.operator],
            Some(_) => self.managers.iter().collect(),
        }
    }

    /// The owners of a dataset, ascending.
    pub fn owners(&self) -> Vec<ticket_format::keys::AdminKey> {
        let mut owners: Vec<_> = self.managers.iter().map(AdminSecret::public).collect();
        owners.sort();
        owners
    }
}
