//! The realm's admins: an operator, and two who own the datasets and answer for security.

use client::link::{Link, Server};
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::ids::{AdminSetDigest, StatementId};
use ticket_format::keys::{AdminKey, AdminSecret};
use ticket_format::limits;
use ticket_format::messages::Verb;
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{
    Act, ActBody, Admin, AdminKeyKind, AdminRole, AdminSetBody, Payload,
};
use tools::admin::{now, rng};

use crate::servers::REALM;

/// For how long an act is good, in seconds.
const LIFE: u64 = 300;

/// Three admins and the set that names them.
pub(crate) struct Admins {
    operator: AdminSecret,
    owners: [AdminSecret; 2],
    set: AdminSetBody,
    first: Vec<u8>,
}

impl Admins {
    /// Three new ones. Acts that owners or security do take two signatures.
    pub(crate) fn new() -> Result<Self, Report> {
        let operator = AdminSecret::generate(&mut rng());
        let owners = [(); 2].map(|()| AdminSecret::generate(&mut rng()));
        let admin = |name: &str, secret: &AdminSecret, roles: &[AdminRole]| Admin {
            name: name.to_owned(),
            kind: AdminKeyKind::File,
            key: secret.public(),
            roles: roles.to_vec(),
            application: None,
        };
        let manages = [AdminRole::DatasetOwner, AdminRole::Security];
        let mut quorums = AdminSetBody::usual_quorums(2);
        // There is one operator.
        for (act, quorum) in &mut quorums {
            if act.role() == Some(AdminRole::Operator) {
                *quorum = 1;
            }
        }
        let mut admins = vec![
            admin("operator", &operator, &[AdminRole::Operator]),
            admin("owner-1", &owners[0], &manages),
            admin("owner-2", &owners[1], &manages),
        ];
        admins.sort_unstable_by_key(|admin| admin.key);
        let set = AdminSetBody {
            version: 1,
            follows: AdminSetDigest([0; 32]),
            admins,
            quorums,
        };
        let payload = Payload::record(StatementId::random(&mut rng()), REALM, now(), &set);
        let first = signed(&payload, &[&operator, &owners[0], &owners[1]])?;
        Ok(Self {
            operator,
            owners,
            set,
            first,
        })
    }

    /// The first set's statement, signed by all.
    pub(crate) fn first(&self) -> &[u8] {
        &self.first
    }

    /// The set's bytes, for bootstraps.
    pub(crate) fn pinned(&self) -> Vec<u8> {
        self.set.to_cbor()
    }

    /// The owners' keys, ascending, for dataset records.
    pub(crate) fn owners(&self) -> Vec<AdminKey> {
        let mut owners = self.owners.each_ref().map(AdminSecret::public).to_vec();
        owners.sort_unstable();
        owners
    }

    /// Signs a record for everyone.
    pub(crate) fn record<B: ActBody>(&self, body: &B) -> Result<Vec<u8>, Report> {
        let id = StatementId::random(&mut rng());
        self.sign::<B>(&Payload::record(id, REALM, now(), body))
    }

    /// Signs an act for one server.
    pub(crate) fn act<B: ActBody>(&self, server: &Server, body: &B) -> Result<Vec<u8>, Report> {
        let id = StatementId::random(&mut rng());
        self.sign::<B>(&Payload::act(id, REALM, server.tls_key, now(), LIFE, body))
    }

    fn sign<B: ActBody>(&self, payload: &Payload) -> Result<Vec<u8>, Report> {
        let act: Act = B::ACT;
        match act.role() {
            Some(AdminRole::DatasetOwner | AdminRole::Security) => {
                signed(payload, &self.owners.each_ref())
            }
            Some(AdminRole::Operator) | None => signed(payload, &[&self.operator]),
        }
    }
}

fn signed(payload: &Payload, by: &[&AdminSecret]) -> Result<Vec<u8>, Report> {
    let signed = payload.sign(by);
    signed.map_err(|error| Report::new(exit::LOCAL, "a statement cannot be made").why(error))
}

/// Sends a statement and gives what it came to.
pub(crate) async fn send<B: ActBody>(link: &Link, statement: &[u8]) -> Result<B::Result, Report> {
    let answer = link.call(Verb::Administer, statement, &[]).await;
    let (body, _) = answer.map_err(|error| error.report())?;
    let result = AdministerAnswer::from_cbor(&body, limits::MESSAGE)
        .and_then(|answer| B::Result::from_cbor(&answer.result, limits::MESSAGE));
    result
        .map_err(|error| Report::new(exit::INTEGRITY, "a server's answer is malformed").why(error))
}
