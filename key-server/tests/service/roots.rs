//! The root key: sealed, opened by shares, drilled, sealed again, replaced: ROOT-4 to ROOT-7.

use std::sync::Arc;
use std::time::Duration;

use key_server::sealed::{KEPT, Opened, Sealed};
use store::root::{Given, Share, Ways};
use ticket_format::Refusal;
use ticket_format::cbor::Decode as _;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::ids::{RootId, StatementId};
use ticket_format::keys::{AdminSecret, TlsKey, TlsSecret};
use ticket_format::limits;
use ticket_format::messages::administer::SealedAnswer;
use ticket_format::messages::{Answer, Request, Verb};
use ticket_format::statement::status::StatusShow;
use ticket_format::statement::{
    ActBody, AdminSet, Attempt, Payload, Rekey, RootShow, RootView, SealServer, ShareGive,
    ShareHolder, SharePurpose, Status,
};
use ticket_format::time::Timestamp;

use crate::rig::{
    REALM, Rig, START, World, first_set, manager, named, operator, refusal, rig, rng, wanted,
};

/// A sealed server, and who speaks with it.
struct Shut {
    world: World,
    ways: Ways,
    door: TlsKey,
    sealed: Sealed,
}

fn now() -> Timestamp {
    Timestamp::from_seconds(START)
}

impl Shut {
    fn new() -> Self {
        let world = World::new();
        let (ways, _) = world.root_key();
        let door = TlsSecret::generate(&mut rng()).public();
        let set = AdminSet::first(&first_set(), REALM, now()).unwrap();
        let sealed = Sealed::new(
            REALM,
            door,
            Arc::new(set),
            ways.clone(),
            "the credential is gone",
            Duration::ZERO,
            &mut rng(),
        );
        Self {
            world,
            ways,
            door,
            sealed,
        }
    }

    fn send(&self, verb: Verb, body: &[u8], after: Duration) -> Result<RootView, Refusal> {
        let request = Request::encode_parts(verb, body, &[]);
        let answer = self.sealed.exchange(&request, now(), after, &mut rng());
        match Answer::parse(&answer).unwrap() {
            Answer::Done { body, .. } => {
                let answer = SealedAnswer::from_cbor(&body, limits::MESSAGE).unwrap();
                Ok(RootView::from_cbor(&answer.result, limits::MESSAGE).unwrap())
            }
            Answer::Refused(notice) => Err(notice.refusal),
        }
    }

    fn ask_at<B: ActBody>(&self, body: &B, after: Duration) -> Result<RootView, Refusal> {
        let statement = self.signed(body, self.door, &operator());
        self.send(Verb::Administer, &statement, after)
    }

    fn ask<B: ActBody>(&self, body: &B) -> Result<RootView, Refusal> {
        self.ask_at(body, Duration::ZERO)
    }

    fn signed<B: ActBody>(&self, body: &B, server: TlsKey, signer: &AdminSecret) -> Vec<u8> {
        let id = StatementId::random(&mut rng());
        let payload = Payload::act(id, REALM, server, now(), 600, body);
        payload.sign(&[signer]).unwrap()
    }

    fn attempt(&self) -> Attempt {
        self.ask(&RootShow {}).unwrap().unseal.unwrap()
    }

    /// Holder `n`'s share, for this attempt.
    fn share(&self, n: usize, attempt: &Attempt) -> ShareGive {
        self.share_to(n, attempt, self.door, SharePurpose::Unseal)
    }

    fn share_to(
        &self,
        n: usize,
        attempt: &Attempt,
        server: TlsKey,
        purpose: SharePurpose,
    ) -> ShareGive {
        given(&self.world, &self.ways, n, attempt, server, purpose)
    }
}

fn given(
    world: &World,
    ways: &Ways,
    n: usize,
    attempt: &Attempt,
    server: TlsKey,
    purpose: SharePurpose,
) -> ShareGive {
    let (row, root) = (&ways.rows()[n], ways.root());
    let share = Share::open(row, &world.shares[n], &world.place(), root).unwrap();
    let to = Given {
        realm: REALM.into(),
        server,
        root,
        purpose,
    };
    share.give(attempt, &to, &mut rng()).unwrap()
}

#[test]
fn two_of_three_shares_open_a_sealed_server() {
    // rule: ROOT-4
    let shut = Shut::new();
    let view = shut.ask(&RootShow {}).unwrap();
    assert!(view.sealed && view.drill.is_none());
    assert_eq!(
        (view.wrong.as_str(), view.threshold),
        ("the credential is gone", 2)
    );
    let attempt = view.unseal.unwrap();
    let first = shut.share(0, &attempt);
    let view = shut.ask(&first).unwrap();
    assert_eq!(view.unseal.unwrap().shares, 1);
    // The same share twice is one.
    let view = shut.ask(&first).unwrap();
    assert!(view.sealed && view.unseal.unwrap().shares == 1);
    assert!(shut.sealed.opened().is_none());
    let view = shut.ask(&shut.share(2, &attempt)).unwrap();
    assert!(!view.sealed && view.unseal.is_none());
    let (root, how) = shut.sealed.opened().unwrap();
    let (_, same) = shut.world.root_key();
    assert!(root.same(&same));
    let Opened::Shares { givers, bad } = how else {
        panic!("opened by shares")
    };
    assert_eq!((givers.len(), bad.len()), (2, 0));
    // It is given away once.
    assert!(shut.sealed.opened().is_none());
}

#[test]
fn a_sealed_server_refuses_everything_else_and_tells_strangers_nothing() {
    // rule: ROOT-4
    let shut = Shut::new();
    for verb in [
        Verb::Present,
        Verb::Redeem,
        Verb::Generate,
        Verb::Consistency,
    ] {
        let refused = shut.send(verb, &[0xa0], Duration::ZERO);
        assert_eq!(refused, Err(Refusal::Sealed), "{}", verb.name());
    }
    assert_eq!(shut.ask(&StatusShow {}), Err(Refusal::Sealed));
    let seal = SealServer {
        root: shut.ways.root(),
    };
    assert_eq!(shut.ask(&seal), Err(Refusal::Sealed));
    let stranger = AdminSecret::generate(&mut rng());
    let statement = shut.signed(&RootShow {}, shut.door, &stranger);
    assert_eq!(
        shut.send(Verb::Administer, &statement, Duration::ZERO),
        Err(Refusal::StatementSignature)
    );
    // What was signed for the open server is not for this one.
    let statement = shut.signed(&RootShow {}, shut.world.server(), &operator());
    assert_eq!(
        shut.send(Verb::Administer, &statement, Duration::ZERO),
        Err(Refusal::StatementAudience)
    );
    let request = [0xff; 7];
    let answer = shut
        .sealed
        .exchange(&request, now(), Duration::ZERO, &mut rng());
    assert!(matches!(Answer::parse(&answer), Ok(Answer::Refused(_))));
}

#[test]
fn a_share_that_does_not_fit_begins_another_attempt() {
    // rule: ROOT-4
    let shut = Shut::new();
    let before = shut.attempt();
    shut.ask(&shut.share(0, &before)).unwrap();
    let mut bad = shut.share(1, &before);
    bad.sealed[1_150] ^= 1;
    assert_eq!(shut.ask(&bad), Err(Refusal::Invalid));
    let attempt = shut.attempt();
    assert_ne!(attempt.id, before.id);
    assert_ne!(attempt.key, before.key);
    assert_eq!(attempt.shares, 0);
    // What was given for the one before counts nowhere.
    assert_eq!(shut.ask(&shut.share(1, &before)), Err(Refusal::Stale));
    // A share sealed for another server's key does not fit, nor one for a drill.
    let other = shut.share_to(1, &attempt, shut.world.server(), SharePurpose::Unseal);
    assert_eq!(shut.ask(&other), Err(Refusal::Invalid));
    let attempt = shut.attempt();
    let drill = shut.share_to(1, &attempt, shut.door, SharePurpose::Drill);
    assert_eq!(shut.ask(&drill), Err(Refusal::Stale));
    shut.ask(&shut.share(0, &attempt)).unwrap();
    shut.ask(&shut.share(1, &attempt)).unwrap();
    let (_, how) = shut.sealed.opened().unwrap();
    let Opened::Shares { bad, .. } = how else {
        panic!("opened by shares")
    };
    assert_eq!(bad, ["operator", "operator"]);
}

#[test]
fn shares_of_another_root_key_open_nothing() {
    // rule: ROOT-4
    let (shut, other) = (Shut::new(), Shut::new());
    let attempt = shut.attempt();
    shut.ask(&shut.share(0, &attempt)).unwrap();
    // A whole share, of its number, sealed for this attempt: but of another secret.
    let row = &other.ways.rows()[1];
    let share = Share::open(
        row,
        &other.world.shares[1],
        &other.world.place(),
        other.ways.root(),
    );
    let to = Given {
        realm: REALM.into(),
        server: shut.door,
        root: shut.ways.root(),
        purpose: SharePurpose::Unseal,
    };
    let give = share.unwrap().give(&attempt, &to, &mut rng()).unwrap();
    assert_eq!(shut.ask(&give), Err(Refusal::Invalid));
    assert!(shut.sealed.opened().is_none());
    assert_ne!(shut.attempt().id, attempt.id);
}

#[test]
fn shares_are_forgotten_after_an_hour() {
    // rule: ROOT-4
    let shut = Shut::new();
    let attempt = shut.attempt();
    shut.ask(&shut.share(0, &attempt)).unwrap();
    let last = KEPT - Duration::from_secs(1);
    let view = shut.ask_at(&RootShow {}, last).unwrap();
    assert_eq!(view.unseal.unwrap().shares, 1);
    let late = shut.share(1, &attempt);
    assert_eq!(shut.ask_at(&late, KEPT), Err(Refusal::Stale));
    let view = shut.ask_at(&RootShow {}, KEPT).unwrap();
    assert_eq!(view.unseal.unwrap().shares, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_shares_opened_it_is_recorded_with_an_alarm_for_those_that_did_not() {
    // rule: ROOT-4
    let mut world = World::new();
    world.opened = Opened::Shares {
        givers: vec!["ann".into(), "bob".into()],
        bad: vec!["cid".into()],
    };
    let rig = world.start().await;
    let entries = rig.entries();
    let root: Vec<_> = entries
        .iter()
        .filter(|entry| entry.kind == Kind::Root)
        .collect();
    assert_eq!(root.len(), 1);
    let givers = ["ann".to_owned(), "bob".to_owned()];
    assert_eq!(root[0].signers.as_deref(), Some(&givers[..]));
    let alarm = entries
        .iter()
        .find(|entry| entry.alarm == Some(Alarm::BadShares));
    assert_eq!(alarm.unwrap().subject.as_deref(), Some("cid"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_proves_that_both_ways_open_the_root_key_and_changes_nothing() {
    // rule: ROOT-6
    let rig = World::new().start().await;
    let (ways, _) = rig.world.root_key();
    let server = rig.world.server();
    let give =
        |n, attempt: &Attempt| given(&rig.world, &ways, n, attempt, server, SharePurpose::Drill);
    let view = rig.administer(&RootShow {}).await.unwrap();
    assert!(!view.sealed && view.unseal.is_none() && view.wrong.is_empty());
    let attempt = view.drill.unwrap();
    let view = rig.administer(&give(0, &attempt)).await.unwrap();
    assert_eq!(view.drill.unwrap().shares, 1);
    let unseal = given(&rig.world, &ways, 1, &attempt, server, SharePurpose::Unseal);
    assert_eq!(refusal(rig.administer(&unseal).await), Refusal::Stale);
    let view = rig.administer(&give(1, &attempt)).await.unwrap();
    let next = view.drill.unwrap();
    assert_ne!(next.id, attempt.id);
    let proven = |rig: &Rig| {
        let entries = rig.entries();
        entries
            .iter()
            .filter(|entry| entry.kind == Kind::Root && entry.outcome.is_ok())
            .count()
    };
    assert_eq!(proven(&rig), 1);
    // A share that does not fit ends the drill, with an alarm.
    let mut bad = give(0, &next);
    bad.sealed[1_150] ^= 1;
    assert_eq!(refusal(rig.administer(&bad).await), Refusal::Invalid);
    let alarms = |rig: &Rig| {
        let entries = rig.entries().into_iter();
        let of = entries.filter(|entry| entry.alarm == Some(Alarm::BadShares));
        of.count()
    };
    assert_eq!(alarms(&rig), 1);
    // Who gives them in a row raises one a minute.
    for millis in [20_000, 60_000] {
        rig.world.clock.set_monotonic(millis);
        let next = rig.administer(&RootShow {}).await.unwrap().drill.unwrap();
        let mut bad = give(0, &next);
        bad.sealed[0] ^= 1;
        assert_eq!(refusal(rig.administer(&bad).await), Refusal::Invalid);
    }
    assert_eq!(alarms(&rig), 1);
    rig.world.clock.set_monotonic(70_000);
    let next = rig.administer(&RootShow {}).await.unwrap().drill.unwrap();
    let mut bad = give(0, &next);
    bad.sealed[0] ^= 1;
    assert_eq!(refusal(rig.administer(&bad).await), Refusal::Invalid);
    assert_eq!(alarms(&rig), 2);
    // The automatic way is opened afresh: where it is lost, a drill finds it.
    let next = rig.administer(&RootShow {}).await.unwrap().drill.unwrap();
    rig.administer(&give(0, &next)).await.unwrap();
    std::fs::remove_file(rig.world.dir.path().join("credential")).unwrap();
    assert_eq!(
        refusal(rig.administer(&give(2, &next)).await),
        Refusal::Invalid
    );
    assert_eq!(proven(&rig), 1);
    let status: Status = rig.administer(&StatusShow {}).await.unwrap();
    assert_eq!(status.datasets, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn security_seals_the_server_and_nobody_else() {
    // rule: ROOT-5
    let rig = World::new().start().await;
    let root = rig.administer(&RootShow {}).await.unwrap().root;
    let seal = SealServer { root };
    let refused = rig.administer_by(&seal, &[&operator()]).await;
    assert_eq!(refusal(refused), Refusal::Quorum);
    let other = SealServer {
        root: RootId([9; 16]),
    };
    let refused = rig.administer_by(&other, &[&manager(0)]).await;
    assert_eq!(refusal(refused), Refusal::Stale);
    let waiting = tokio::time::timeout(Duration::from_millis(20), rig.service.sealed());
    assert!(waiting.await.is_err());
    rig.administer_by(&seal, &[&manager(0)]).await.unwrap();
    rig.service.sealed().await;
}

/// A rekey of the root key in force: the first and the third holder keep a share each.
async fn rekey(rig: &Rig) -> Rekey {
    let holders = [(0, "ann"), (2, "cid")];
    let holders = holders.map(|(n, name)| ShareHolder {
        name: name.into(),
        key: rig.world.shares[n].public(),
    });
    Rekey {
        replaces: rig.administer(&RootShow {}).await.unwrap().root,
        threshold: 2,
        holders: holders.to_vec(),
    }
}

fn opens(rig: &Rig, ways: &Ways) -> store::sealed::RootKey {
    let by_auto = ways.open_auto(&rig.world.means()).unwrap();
    let shares: Vec<Share> = ways
        .rows()
        .iter()
        .zip([0, 2])
        .map(|(row, n)| {
            let (key, place) = (&rig.world.shares[n], rig.world.place());
            Share::open(row, key, &place, ways.root()).unwrap()
        })
        .collect();
    assert!(ways.open_shares(&shares).unwrap().same(&by_auto));
    by_auto
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_replaces_root_key_and_shares_while_everybody_goes_on() {
    // rule: ROOT-7
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&opened, &context, 1).await.remove(0);
    let (old, old_key) = rig.world.root_key();
    let body = rekey(&rig).await;

    // It is security's quorum's, and of the root key that it names.
    let refused = rig.administer_by(&body, &[&operator()]).await;
    assert_eq!(refusal(refused), Refusal::Quorum);
    let other = Rekey {
        replaces: RootId([9; 16]),
        ..body.clone()
    };
    assert_eq!(refusal(rig.administer(&other).await), Refusal::Stale);
    for wrong in [
        Rekey {
            threshold: 3,
            ..body.clone()
        },
        Rekey {
            holders: vec![body.holders[0].clone(), body.holders[0].clone()],
            ..body.clone()
        },
    ] {
        assert_eq!(refusal(rig.administer(&wrong).await), Refusal::Invalid);
    }
    let credential = rig.world.dir.path().join("credential");
    let aside = rig.world.dir.path().join("aside");
    std::fs::rename(&credential, &aside).unwrap();
    let notice = rig.administer(&body).await.unwrap_err();
    assert_eq!(notice.refusal, Refusal::Invalid);
    assert!(notice.detail.unwrap().contains("nothing changed"));
    std::fs::rename(&aside, &credential).unwrap();
    assert_eq!(rig.administer(&RootShow {}).await.unwrap().root, old.root());
    assert!(!rig.world.dir.path().join("root/2").exists());

    let drill = rig.administer(&RootShow {}).await.unwrap().drill.unwrap();
    let view: RootView = rig.administer(&body).await.unwrap();
    assert_ne!(view.root, old.root());
    assert_eq!((view.threshold, view.shares.len()), (2, 2));
    assert_ne!(view.drill.unwrap().id, drill.id, "a drill begins anew");
    let records: Vec<_> = rig
        .entries()
        .into_iter()
        .filter(|entry| entry.kind == Kind::Root)
        .collect();
    assert_eq!(records.len(), 1);
    assert!(records[0].follows.is_some() && records[0].signers.is_some());
    // The same statement body again is of a root key that is gone.
    assert_eq!(refusal(rig.administer(&body).await), Refusal::Stale);

    // The same connection, before and after a restart; old versions and new ones.
    let got = rig.redeem(&opened, &[(&made.0, &context)]).await.unwrap();
    assert_eq!(*got.deks, made.1);
    rig.rotate().await.unwrap();
    rig.administer(&wanted("voices")).await.unwrap();
    let (ways, _) = rig.world.root_key();
    assert_eq!(ways.root(), view.root);
    let key = opens(&rig, &ways);
    assert!(!key.same(&old_key));
    assert!(!rig.world.dir.path().join("root/1").exists(), "erased");
    let rig = rig.restart().await;
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    let got = rig.redeem(&opened, &[(&made.0, &context)]).await.unwrap();
    assert_eq!(*got.deks, made.1);

    // And twice more, with the records that each one changed.
    for _ in 0..2 {
        let again = rekey(&rig).await;
        rig.administer(&again).await.unwrap();
    }
    let rig = rig.restart().await;
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    let got = rig.redeem(&opened, &[(&made.0, &context)]).await.unwrap();
    assert_eq!(*got.deks, made.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_commit_of_a_rekey_leaves_one_root_key_that_opens_everything() {
    // rule: ROOT-7
    let (mut before, mut after) = (0, 0);
    for commits in 0..5 {
        let rig = rig().await;
        let (job, opened) = rig.opened(|_| {}).await;
        let context = named("a");
        let made = rig.wraps(&opened, &context, 1).await.remove(0);
        rig.rotate().await.unwrap();
        let body = rekey(&rig).await;
        rig.world.cut_off.die_after(Some(commits));
        let answer = rig.administer(&body).await;
        rig.world.cut_off.die_after(None);
        let rig = rig.restart().await;
        let root = rig.administer(&RootShow {}).await.unwrap().root;
        if root == body.replaces {
            assert!(answer.is_err(), "{commits}");
            before += 1;
        } else {
            after += 1;
            let (ways, _) = rig.world.root_key();
            opens(&rig, &ways);
        }
        let roots = rig.entries().into_iter();
        let roots = roots.filter(|entry| entry.kind == Kind::Root).count();
        assert_eq!(roots, usize::from(root != body.replaces), "{commits}");
        let opened = rig.present(&rig.connect(1), &job).await.unwrap();
        let got = rig.redeem(&opened, &[(&made.0, &context)]).await.unwrap();
        assert_eq!(*got.deks, made.1, "{commits}");
        rig.rotate().await.unwrap();
        let next = rekey(&rig).await;
        rig.administer(&next).await.unwrap();
        let rig = rig.restart().await;
        let opened = rig.present(&rig.connect(1), &job).await.unwrap();
        let got = rig.redeem(&opened, &[(&made.0, &context)]).await.unwrap();
        assert_eq!(*got.deks, made.1, "{commits}");
    }
    assert!(before > 0 && after > 0, "{before} before, {after} after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_decision_and_switch_is_made_up_for_by_the_next_start() {
    // rule: ROOT-7
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&opened, &context, 1).await.remove(0);
    let body = rekey(&rig).await;
    // The commit is kept, and nobody hears of it.
    rig.world.cut_off.keep_and_break();
    let notice = rig.administer(&body).await.unwrap_err();
    assert_eq!(notice.refusal, Refusal::StoreUnavailable);
    rig.world.cut_off.mend();
    assert_eq!(
        rig.administer(&RootShow {}).await.unwrap().root,
        body.replaces
    );
    // Whatever would be sealed under the old root key now would be lost.
    assert_eq!(refusal(rig.rotate().await), Refusal::Internal);
    assert_eq!(refusal(rig.administer(&body).await), Refusal::Internal);
    let rig = rig.restart().await;
    let root = rig.administer(&RootShow {}).await.unwrap().root;
    assert_ne!(root, body.replaces);
    let (ways, _) = rig.world.root_key();
    opens(&rig, &ways);
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    let got = rig.redeem(&opened, &[(&made.0, &context)]).await.unwrap();
    assert_eq!(*got.deks, made.1);
    let roots = rig.entries().into_iter();
    assert_eq!(roots.filter(|entry| entry.kind == Kind::Root).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_made_during_a_rekey_is_lost_with_the_old_root_key() {
    // rule: ROOT-7
    let rig = rig().await;
    for n in 0..6 {
        let (body, other) = (rekey(&rig).await, wanted(&format!("voices-{n}")));
        let (rekeyed, made) = tokio::join!(rig.administer(&body), rig.administer(&other));
        rekeyed.unwrap();
        made.unwrap();
    }
    // A version whose key material is missing or of another root key keeps it from starting.
    let rig = rig.restart().await;
    let status: Status = rig.administer(&StatusShow {}).await.unwrap();
    assert_eq!(status.datasets, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_is_refused_where_key_material_that_is_in_use_is_not_on_disk() {
    // rule: ROOT-7, KEK-5
    let rig = rig().await;
    let (ways, _) = rig.world.root_key();
    let created = rig.dataset();
    let dir = ways.sealed().join(format!("kek/{}", created.dataset));
    let file = dir.join(format!("{}.sealed", created.kek));
    let kept = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let wanted = rekey(&rig).await;
    let refused = rig.administer(&wanted).await.unwrap_err();
    assert_eq!(refused.refusal, Refusal::Invalid);
    assert!(
        format!("{refused:?}").contains("put it back"),
        "{refused:?}"
    );
    let (still, _) = rig.world.root_key();
    assert_eq!(still.root(), ways.root());
    store::files::create_private(&file, &kept).unwrap();
    rig.administer(&wanted).await.unwrap();
    let rig = rig.restart().await;
    assert_eq!(rig.keks().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_reads_what_the_next_start_will_and_a_failed_one_is_recorded() {
    // rule: ROOT-6
    let rig = rig().await;
    let (ways, _) = rig.world.root_key();
    let drill = async || {
        let mut last = None;
        for n in [0, 1] {
            let view = rig.administer(&RootShow {}).await.unwrap();
            let attempt = view.drill.unwrap();
            let server = rig.world.server();
            let give = given(&rig.world, &ways, n, &attempt, server, SharePurpose::Drill);
            last = Some(rig.administer(&give).await);
        }
        last.unwrap()
    };
    let shares = ways.sealed().with_file_name("shares");
    let kept = std::fs::read(&shares).unwrap();
    store::files::write_private(&shares, &kept[..kept.len() - 1]).unwrap();
    assert_eq!(refusal(drill().await), Refusal::Invalid);
    store::files::write_private(&shares, &kept).unwrap();
    let credential = rig.world.dir.path().join("credential");
    std::fs::rename(&credential, rig.world.dir.path().join("gone")).unwrap();
    assert_eq!(refusal(drill().await), Refusal::Invalid);
    let failed = |entry: &ticket_format::entry::Entry| {
        entry.kind == Kind::Root && entry.outcome == Err(Refusal::Invalid)
    };
    assert_eq!(
        rig.entries().iter().filter(|entry| failed(entry)).count(),
        2
    );
    std::fs::rename(rig.world.dir.path().join("gone"), &credential).unwrap();
    drill().await.unwrap();
}
