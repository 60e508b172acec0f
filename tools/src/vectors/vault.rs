//! KEK versions, wraps and the root key: the body and the result of each act, and what logs say of them.

use sha2::{Digest as _, Sha256};
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{AttemptId, ItemDigest, KekId, RootId, StatementId};
use ticket_format::statement::{
    Attempt, AutoKind, KekDestroy, KekKeep, KekList, KekOrigin, KekRotate, KekRow, KekRows, KekSet,
    KekState, Payload, Rekey, RootShow, RootView, Rotation, SEALED_SHARE, SealServer, ShareGive,
    ShareHolder, SharePurpose, ShareRow, WrapList, WrapPage, WrapRow,
};

use super::admins::SECURITY;
use super::case::Case;
use super::statements::{item, statement};
use super::world::{ACT, DATASET, DEK, KEK, REALM, World, at};

/// The version after [`KEK`].
const NEXT: KekId = KekId([0x2e; 16]);
const ROOT: RootId = RootId([0x2f; 16]);
const ATTEMPT: AttemptId = AttemptId([0x30; 16]);
/// Two known wraps, ascending.
const WRAPS: [ItemDigest; 2] = [ItemDigest([0x53; 32]), ItemDigest([0x54; 32])];

/// How wraps are named together (INV-1).
fn dependants(wraps: &[ItemDigest]) -> [u8; 32] {
    let all = wraps.iter().map(|wrap| wrap.0);
    Sha256::digest(all.collect::<Vec<_>>().concat()).into()
}

pub(super) fn cases(world: &World) -> Vec<Case> {
    vec![destroy(world), keks(world), roots(world), entries(world)]
}

fn name() -> String {
    "faces".to_owned()
}

fn kek_destroy() -> KekDestroy {
    KekDestroy {
        name: name(),
        kek: KEK,
        days: 30,
        wraps: WRAPS.len() as u64,
        dependants: dependants(&WRAPS),
    }
}

fn destroy(world: &World) -> Case {
    let id = StatementId([0x31; 16]);
    let payload = Payload::act(
        id,
        REALM,
        world.server_tls.public(),
        at(0),
        300,
        &kek_destroy(),
    );
    let case = Case::new(
        "statement/kek-destroy",
        "KEK-4, INV-1: a destruction by security's quorum; it names how many wraps would be lost, and which: the SHA-256 of their digests, ascending.",
    )
    .given("wrap_1", WRAPS[0].0)
    .given("wrap_2", WRAPS[1].0)
    .gives("dependants", dependants(&WRAPS));
    statement(case, "kek-destroy", &payload, SECURITY)
}

fn keks(world: &World) -> Case {
    let next = KekRow {
        kek: NEXT,
        version: 2,
        state: KekState::Enabled,
        origin: KekOrigin::Generated,
        provenance: None,
        expiry: None,
        created: at(60),
        public_key: Some(world.job_sealing.public()),
        wraps: 0,
        dependants: [0; 32],
        last_used: None,
        destroyed: None,
        since: None,
    };
    let pending = KekRow {
        kek: KEK,
        version: 1,
        state: KekState::PendingDestruction,
        created: at(0),
        public_key: Some(world.dataset.public()),
        wraps: WRAPS.len() as u64,
        dependants: dependants(&WRAPS),
        last_used: Some(at(30)),
        destroyed: Some(at(30 * 86_400)),
        ..next.clone()
    };
    let destroyed = KekRow {
        state: KekState::Destroyed,
        public_key: None,
        wraps: 0,
        dependants: dependants(&[]),
        ..pending.clone()
    };
    let rotate = KekRotate {
        name: name(),
        replaces: KEK,
    };
    let set = KekSet {
        name: name(),
        kek: KEK,
        usable: false,
    };
    let keep = KekKeep {
        name: name(),
        kek: KEK,
    };
    let list = WrapList {
        name: name(),
        kek: KEK,
        after: None,
        rows: 200,
    };
    let next_page = WrapList {
        after: Some(WRAPS[0]),
        ..list.clone()
    };
    let known = WrapRow {
        digest: WRAPS[0],
        seen: at(30),
        dek: Some(DEK),
        context: Some(World::context()),
    };
    let forgotten = WrapRow {
        digest: WRAPS[1],
        dek: None,
        context: None,
        ..known.clone()
    };
    let page = WrapPage {
        rows: vec![known.clone(), forgotten],
        more: false,
    };
    let rotation = Rotation {
        age: Some(90 * 86_400),
        wraps: Some(1_000_000),
        on_denial: true,
    };
    let case = Case::new(
        "statement/keks",
        "KEK-1 to KEK-4, INV-1: the body and the result of each act on KEK versions, by their rules' names.",
    )
    .input("keys", "world.json");
    let case = item(case, "kek-rotate", &rotate);
    let case = item(case, "kek-set", &set);
    let case = item(case, "kek-list", &KekList { name: name() });
    let case = item(case, "kek-keep", &keep);
    let case = item(case, "kek-row", &pending).gives_item(
        "kek-row, destroyed",
        "kek-row",
        destroyed.to_cbor(),
    );
    let rows = KekRows {
        rows: vec![next, pending],
    };
    let case = item(case, "kek-rows", &rows);
    let case = item(case, "wrap-list", &list).gives_item(
        "wrap-list, the next page",
        "wrap-list",
        next_page.to_cbor(),
    );
    let case = item(case, "wrap-row", &known);
    let case = item(case, "wrap-page", &page);
    item(case, "rotation", &rotation).gives_item(
        "rotation, never",
        "rotation",
        Rotation::default().to_cbor(),
    )
}

fn roots(world: &World) -> Case {
    let share = ShareRow {
        name: "security".to_owned(),
        key: world.job_sealing.public(),
        number: 1,
        sealed: vec![0x61; SEALED_SHARE],
    };
    let attempt = Attempt {
        id: ATTEMPT,
        key: world.job_sealing.public(),
        shares: 1,
    };
    let sealed = RootView {
        sealed: true,
        root: ROOT,
        auto: AutoKind::Pkcs11,
        wrong: "the token is not there".to_owned(),
        threshold: 1,
        shares: vec![share.clone()],
        unseal: Some(attempt.clone()),
        drill: None,
    };
    let open = RootView {
        sealed: false,
        wrong: String::new(),
        unseal: None,
        drill: Some(attempt.clone()),
        ..sealed.clone()
    };
    let give = ShareGive {
        attempt: ATTEMPT,
        purpose: SharePurpose::Unseal,
        number: 1,
        sealed: vec![0x62; SEALED_SHARE],
    };
    let holder = ShareHolder {
        name: "security".to_owned(),
        key: world.job_sealing.public(),
    };
    let rekey = Rekey {
        replaces: ROOT,
        threshold: 1,
        holders: vec![holder.clone()],
    };
    let case = Case::new(
        "statement/roots",
        "ROOT-3 to ROOT-7: the body and the result of each act on a root key, by their rules' names. Shares stand for their lengths alone.",
    )
    .input("keys", "world.json")
    .gives("root-show", RootShow {}.to_cbor());
    let case = item(case, "share-row", &share);
    let case = item(case, "attempt", &attempt);
    let case =
        item(case, "root-view", &sealed).gives_item("root-view, open", "root-view", open.to_cbor());
    let case = item(case, "share-give", &give);
    let case = item(case, "seal", &SealServer { root: ROOT });
    let case = item(case, "share-holder", &holder);
    item(case, "rekey", &rekey)
}

fn entries(world: &World) -> Case {
    let done = (WRAPS[0], Ok(()));
    let not = (WRAPS[1], Err(Refusal::KekState));
    let generate = world
        .entry(Kind::Generate)
        .dataset(DATASET)
        .items(vec![done])
        .kek(NEXT);
    let redeem = world
        .entry(Kind::Redeem)
        .dataset(DATASET)
        .items(vec![done, not])
        .keks(vec![KEK], vec![0, u8::MAX]);
    let rewrap = world
        .entry(Kind::Rewrap)
        .dataset(DATASET)
        .items(vec![done, not])
        .kek(NEXT)
        .keks(vec![KEK], vec![0, u8::MAX])
        .moved(vec![ItemDigest([0x55; 32])])
        .confirmed(vec![ItemDigest([0x56; 32])]);
    let rotated = Entry::new(ACT, Kind::Kek, at(0))
        .dataset(DATASET)
        .kek(NEXT)
        .count(2);
    let root = Entry::new(ACT, Kind::Root, at(0));
    let used = Entry::alarm(ACT, Alarm::KekUse, at(0))
        .subject(&world.attributes.node)
        .dataset(DATASET)
        .kek(KEK);
    let shares = Entry::alarm(ACT, Alarm::BadShares, at(0));
    Case::new(
        "audit/vault",
        "KEK-2 to KEK-4, INV-1, REW-2, ROOT-4: what entries say of KEK versions and of wraps under them: of two items the first is done, the second has place 255.",
    )
    .input("keys", "world.json")
    .gives_item("generate", "entry", generate.to_cbor())
    .gives_item("redeem", "entry", redeem.to_cbor())
    .gives_item("rewrap", "entry", rewrap.to_cbor())
    .gives_item("rotated", "entry", rotated.to_cbor())
    .gives_item("root", "entry", root.to_cbor())
    .gives_item("alarm_kek_use", "entry", used.to_cbor())
    .gives_item("alarm_bad_shares", "entry", shares.to_cbor())
}
