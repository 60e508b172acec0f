//! Shares: split, sealed, given, joined.

use std::collections::BTreeSet;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use ticket_format::keys::TlsSecret;
use ticket_format::secret::SealingSeed;
use ticket_format::statement::SEALED_SHARE;

use super::*;
use crate::root::{Collection, Progress};

fn holder(seed: u8) -> SealingSecret {
    SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([seed; 32]))
}

fn named(seed: u8) -> ShareHolder {
    ShareHolder {
        name: format!("holder-{seed}"),
        key: holder(seed).public(),
    }
}

fn holders(threshold: u64, count: u8) -> Holders {
    Holders::new(threshold, (1..=count).map(named).collect()).unwrap()
}

fn place(seed: u8) -> Place {
    Place {
        realm: "realm".to_owned(),
        server: TlsSecret::from_seed(&[seed; 32]).public(),
    }
}

const ROOT: RootId = RootId([9; 16]);

/// A share that nobody split: this number and these bytes.
fn made(number: u8, byte: u8) -> Share {
    Share(Locked::fill(|share| {
        share.fill(byte);
        share[0] = number;
    }))
}

fn copy(share: &Share) -> Share {
    Share(share.0.clone())
}

/// `a * b` in GF(2^8) as FIPS 197, 4.2 has it, bit by bit: not the library's.
fn times(a: u8, b: u8) -> u8 {
    (0..8).fold(0, |sum, bit| {
        let mut power = a;
        for _ in 0..bit {
            power = (power << 1) ^ if power & 0x80 == 0 { 0 } else { 0x1b };
        }
        sum ^ if b >> bit & 1 == 1 { power } else { 0 }
    })
}

fn inverse(a: u8) -> u8 {
    (1..=u8::MAX).find(|b| times(a, *b) == 1).unwrap()
}

#[test]
fn any_threshold_of_the_shares_join_to_the_secret_and_fewer_do_not() {
    // rule: ROOT-3
    let rng = &mut UnwrapErr(SysRng);
    let secret = [0x5a; SECRET];
    for count in 1..=5u8 {
        for need in 1..=u64::from(count) {
            let shares = split(&secret, &holders(need, count), rng).unwrap();
            let numbers: Vec<u64> = shares.iter().map(Share::number).collect();
            assert_eq!(numbers, (1..=u64::from(count)).collect::<Vec<_>>());
            for chosen in 1u32..1 << count {
                let some: Vec<Share> = shares
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| chosen >> at & 1 == 1)
                    .map(|(_, share)| copy(share))
                    .collect();
                let joined = join(&some, need);
                if some.len() as u64 >= need {
                    assert_eq!(joined.unwrap().expose(), &secret, "{chosen:b} of {count}");
                } else {
                    let have = some.len() as u64;
                    assert_eq!(joined.unwrap_err(), ShareError::TooFew { have, need });
                    // Nor as if fewer were enough.
                    assert_ne!(join(&some, have).unwrap().expose(), &secret);
                }
            }
        }
    }
}

#[test]
fn shares_are_points_of_a_polynomial_over_the_field_of_aes() {
    // rule: ROOT-3
    let rng = &mut UnwrapErr(SysRng);
    let secret: [u8; SECRET] = std::array::from_fn(|at| at as u8);
    let shares = split(&secret, &holders(3, 16), rng).unwrap();
    let some = [&shares[1], &shares[7], &shares[15]];
    for (at, byte) in secret.iter().enumerate() {
        // Lagrange at 0, by another multiplication than the library's.
        let value = some.iter().fold(0, |sum, share| {
            let x = share.0[0];
            let others = some.iter().map(|other| other.0[0]).filter(|y| *y != x);
            let factor = others.fold(1, |f, y| times(f, times(y, inverse(x ^ y))));
            sum ^ times(share.0[at + 1], factor)
        });
        assert_eq!(value, *byte, "byte {at}");
    }
    // Degree 2: no two agree by chance in all bytes, and two splits are never the same.
    let again = split(&secret, &holders(3, 16), rng).unwrap();
    assert!(!shares[0].same(&again[0]));
    let different: BTreeSet<Vec<u8>> = shares.iter().map(|s| s.0[1..].to_vec()).collect();
    assert_eq!(different.len(), 16);
}

#[test]
fn one_share_twice_is_one_share() {
    // rule: ROOT-3
    let shares = split(&[1; SECRET], &holders(2, 3), &mut UnwrapErr(SysRng)).unwrap();
    let twice = [copy(&shares[0]), copy(&shares[0])];
    assert_eq!(
        join(&twice, 2).unwrap_err(),
        ShareError::TooFew { have: 1, need: 2 }
    );
}

#[test]
fn a_share_opens_for_its_holder_server_root_key_and_number_only() {
    // rule: ROOT-3
    let rng = &mut UnwrapErr(SysRng);
    let rows = deal(&[3; SECRET], &holders(2, 3), &place(1), ROOT, rng).unwrap();
    let open = |row: &ShareRow, secret: u8, place: &Place, root| {
        Share::open(row, &holder(secret), place, root).map(|share| share.number())
    };
    for (row, seed) in rows.iter().zip(1..) {
        assert_eq!(row.sealed.len(), SEALED_SHARE);
        assert_eq!(open(row, seed, &place(1), ROOT), Ok(row.number));
        assert_eq!(open(row, 9, &place(1), ROOT), Err(ShareError::Open));
        assert_eq!(open(row, seed, &place(2), ROOT), Err(ShareError::Open));
        let mut realm = place(1);
        realm.realm.push('2');
        assert_eq!(open(row, seed, &realm, ROOT), Err(ShareError::Open));
        let other = RootId([8; 16]);
        assert_eq!(open(row, seed, &place(1), other), Err(ShareError::Open));
        for at in [0, 31, 1_119, 1_120, 1_152, SEALED_SHARE - 1] {
            let mut damaged = row.clone();
            damaged.sealed[at] ^= 1;
            assert_eq!(open(&damaged, seed, &place(1), ROOT), Err(ShareError::Open));
        }
        let mut short = row.clone();
        short.sealed.truncate(1_119);
        assert_eq!(open(&short, seed, &place(1), ROOT), Err(ShareError::Open));
    }
    // One row's share under another's number.
    let mut moved = rows[0].clone();
    moved.number = 2;
    assert_eq!(open(&moved, 1, &place(1), ROOT), Err(ShareError::Open));
    // A share that says another number inside than its `info` does.
    let info = held(&place(1), ROOT, 2);
    let sealed = made(1, 7).seal(&holder(1).public(), &info, rng).unwrap();
    let opened = Share::unseal(&holder(1), &info, &sealed, 2);
    assert_eq!(opened.unwrap_err(), ShareError::Number);
}

#[test]
fn two_holders_are_two_people_with_two_keys() {
    // rule: ROOT-3
    assert_eq!(Holders::new(1, vec![]), Err(HoldersError::Count(0)));
    let many = (1..=17).map(named).collect();
    assert_eq!(Holders::new(1, many), Err(HoldersError::Count(17)));
    for threshold in [0, 3] {
        let error = HoldersError::Threshold {
            threshold,
            holders: 2,
        };
        assert_eq!(
            Holders::new(threshold, vec![named(1), named(2)]),
            Err(error)
        );
    }
    let mut twin = named(2);
    twin.name = named(1).name;
    assert_eq!(
        Holders::new(1, vec![named(1), twin]),
        Err(HoldersError::SameName("holder-1".to_owned()))
    );
    let mut twin = named(1);
    twin.name = "other".to_owned();
    assert_eq!(
        Holders::new(1, vec![named(1), twin]),
        Err(HoldersError::SameKey("other".to_owned()))
    );
    let mut old = named(1);
    old.key = SealingSecret::from_seed(Kem::X25519, SealingSeed::from_bytes([1; 32])).public();
    assert_eq!(
        Holders::new(1, vec![old]),
        Err(HoldersError::Key("holder-1".to_owned()))
    );
}

fn given(purpose: SharePurpose) -> Given {
    let Place { realm, server } = place(5);
    Given {
        realm,
        server,
        root: ROOT,
        purpose,
    }
}

#[test]
fn an_attempt_is_complete_with_as_many_different_shares_as_needed() {
    // rule: ROOT-4
    let rng = &mut UnwrapErr(SysRng);
    let to = given(SharePurpose::Unseal);
    let shares = split(&[4; SECRET], &holders(2, 3), rng).unwrap();
    let mut collection = Collection::new(to.clone(), 2, rng);
    let attempt = collection.attempt();
    let waiting = Ok(Progress::Waiting { have: 1, need: 2 });
    let first = shares[0].give(&attempt, &to, rng).unwrap();
    assert_eq!(collection.take(&first), waiting);
    assert_eq!(collection.take(&first), waiting, "again is nothing new");
    assert_eq!(collection.attempt().shares, 1);
    let third = shares[2].give(&attempt, &to, rng).unwrap();
    assert_eq!(collection.take(&third), Ok(Progress::Complete));
    let joined = join(collection.shares(), 2).unwrap();
    assert_eq!(joined.expose(), &[4; SECRET]);
    let second = shares[1].give(&attempt, &to, rng).unwrap();
    assert_eq!(collection.take(&second), Err(ShareError::Enough));
    assert_eq!(collection.shares().len(), 2);
}

#[test]
fn a_share_is_taken_for_its_attempt_purpose_server_and_number_only() {
    // rule: ROOT-4
    let rng = &mut UnwrapErr(SysRng);
    let to = given(SharePurpose::Unseal);
    let mut collection = Collection::new(to.clone(), 3, rng);
    let attempt = collection.attempt();
    let share = made(1, 7);

    let other = Collection::new(to.clone(), 3, rng).attempt();
    let elsewhere = share.give(&other, &to, rng).unwrap();
    assert_eq!(collection.take(&elsewhere), Err(ShareError::Attempt));
    // One that only says that it is for this attempt.
    let mut renamed = elsewhere.clone();
    renamed.attempt = attempt.id;
    assert_eq!(collection.take(&renamed), Err(ShareError::Open));

    let drill = given(SharePurpose::Drill);
    let mut drilled = share.give(&attempt, &drill, rng).unwrap();
    assert_eq!(collection.take(&drilled), Err(ShareError::Purpose));
    drilled.purpose = SharePurpose::Unseal;
    assert_eq!(collection.take(&drilled), Err(ShareError::Open));

    let mut server = to.clone();
    server.server = place(6).server;
    let mut root = to.clone();
    root.root = RootId([1; 16]);
    let mut realm = to.clone();
    realm.realm.push('2');
    for wrong in [server, root, realm] {
        let give = share.give(&attempt, &wrong, rng).unwrap();
        assert_eq!(collection.take(&give), Err(ShareError::Open));
    }
    let mut numbered = share.give(&attempt, &to, rng).unwrap();
    numbered.number = 2;
    assert_eq!(collection.take(&numbered), Err(ShareError::Open));
    assert!(collection.shares().is_empty());

    let good = share.give(&attempt, &to, rng).unwrap();
    assert!(collection.take(&good).is_ok());
    let differs = made(1, 8).give(&attempt, &to, rng).unwrap();
    assert_eq!(collection.take(&differs), Err(ShareError::Differs));
}

#[test]
fn a_share_prints_nothing_of_itself() {
    assert_eq!(format!("{:?}", made(3, 0xa5)), "Share(3, ..)");
}
