//! The admins of the tests: seeds 1 and 2 are operators, 3 and 4 own datasets, 5 and 6 are security.

use super::*;

pub(super) fn admin(seed: u8, name: &str, role: AdminRole) -> Admin {
    Admin {
        name: name.into(),
        kind: AdminKeyKind::File,
        key: key(seed),
        roles: vec![role],
        application: None,
    }
}

pub(super) fn body() -> AdminSetBody {
    let mut admins = vec![
        admin(1, "operator-1", AdminRole::Operator),
        admin(2, "operator-2", AdminRole::Operator),
        admin(3, "owner-1", AdminRole::DatasetOwner),
        admin(4, "owner-2", AdminRole::DatasetOwner),
        admin(5, "security-1", AdminRole::Security),
        admin(6, "security-2", AdminRole::Security),
    ];
    admins.sort_by_key(|admin| admin.key);
    AdminSetBody {
        version: 1,
        follows: AdminSetBody::NOTHING,
        admins,
        quorums: AdminSetBody::usual_quorums(2),
    }
}

pub(super) fn set() -> AdminSet {
    AdminSet::new(body()).unwrap()
}

/// The set with another admin in the place of the one with this seed.
pub(super) fn without(seed: u8) -> AdminSet {
    AdminSet::new(replacing(body(), seed, 60)).unwrap()
}

pub(super) fn replacing(mut body: AdminSetBody, seed: u8, with: u8) -> AdminSetBody {
    for admin in &mut body.admins {
        if admin.key == key(seed) {
            admin.key = key(with);
            admin.name = format!("new-{with}");
        }
    }
    body.admins.sort_by_key(|admin| admin.key);
    body
}

/// The set after `before`, with `edit` done to its body.
pub(super) fn after(before: &AdminSet, edit: impl FnOnce(&mut AdminSetBody)) -> AdminSetBody {
    let mut body = before.body().clone();
    body.version += 1;
    body.follows = before.digest();
    edit(&mut body);
    body.admins.sort_by_key(|admin| admin.key);
    body
}

/// A record of `body`, signed by the keys of these seeds.
pub(super) fn record<B: ActBody>(body: &B, seeds: &[u8]) -> Vec<u8> {
    let payload = Payload::record(StatementId([8; 16]), "realm", at(0), body);
    signed(&payload, seeds)
}

pub(super) fn signed(payload: &Payload, seeds: &[u8]) -> Vec<u8> {
    let secrets: Vec<AdminSecret> = seeds.iter().map(|seed| secret(*seed)).collect();
    let secrets: Vec<&AdminSecret> = secrets.iter().collect();
    payload.sign(&secrets).unwrap()
}

/// An act for the server of the tests, signed by the keys of these seeds.
pub(super) fn act<B: ActBody>(body: &B, seeds: &[u8]) -> Vec<u8> {
    let payload = Payload::act(StatementId([7; 16]), "realm", key(9), at(0), 600, body);
    signed(&payload, seeds)
}
