//! The life of KEK versions: rotation, states, destruction, and what a crash or a restart makes of them.

use std::path::PathBuf;

use key_server::service::StartError;
use key_server::vault::LoadError;
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::denial::Selector;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{DatasetId, KekId, TicketId};
use ticket_format::messages::RefusalNotice;
use ticket_format::messages::batch::item_digest;
use ticket_format::statement::{
    DatasetCreate, DatasetCreated, KekDestroy, KekKeep, KekList, KekRotate, KekRow, KekSet,
    KekState, Rotation,
};

use crate::job::{Batch, Opened};
use crate::rig::{Rig, World, manager, named, operator, refusal, rig, wanted};

const DAY: u64 = 86_400;

impl Rig {
    pub(crate) async fn keks(&self) -> Vec<KekRow> {
        let name = "faces".into();
        self.administer(&KekList { name }).await.unwrap().rows
    }

    pub(crate) async fn version(&self, version: u64) -> KekRow {
        let found = self
            .keks()
            .await
            .into_iter()
            .find(|row| row.version == version);
        found.unwrap()
    }

    pub(crate) async fn rotate(&self) -> Result<DatasetCreated, RefusalNotice> {
        let replaces = self.keks().await[0].kek;
        let name = "faces".into();
        self.administer(&KekRotate { name, replaces }).await
    }

    async fn usable(&self, kek: KekId, usable: bool) -> Result<KekRow, RefusalNotice> {
        let name = "faces".into();
        self.administer(&KekSet { name, kek, usable }).await
    }

    /// A destruction of what stands under the version now.
    pub(crate) async fn destruction(&self, version: u64, days: u64) -> KekDestroy {
        let row = self.version(version).await;
        KekDestroy {
            name: "faces".into(),
            kek: row.kek,
            days,
            wraps: row.wraps,
            dependants: row.dependants,
        }
    }

    async fn keep(&self, kek: KekId) -> Result<KekRow, RefusalNotice> {
        let name = "faces".into();
        self.administer(&KekKeep { name, kek }).await
    }

    async fn states(&self) -> Vec<(u64, KekState)> {
        let rows = self.keks().await;
        rows.iter().map(|row| (row.version, row.state)).collect()
    }

    /// Where key material stands.
    fn key_file(&self, kek: KekId) -> PathBuf {
        let (ways, _) = self.world.root_key();
        let dir = ways.sealed().join("kek");
        let dataset = self.dataset().dataset;
        dir.join(dataset.to_string()).join(format!("{kek}.sealed"))
    }

    fn files(&self) -> usize {
        let path = self.key_file(KekId([0; 16]));
        std::fs::read_dir(path.parent().unwrap()).unwrap().count()
    }

    fn by_itself(&self) -> Vec<Entry> {
        let mut entries = self.entries();
        entries.retain(|entry| entry.kind == Kind::Kek);
        entries
    }

    fn alarms(&self, alarm: Alarm) -> Vec<Entry> {
        let mut entries = self.entries();
        entries.retain(|entry| entry.alarm == Some(alarm));
        entries
    }
}

fn usual() -> DatasetCreate {
    wanted("faces")
}

/// A server whose dataset has this rule.
async fn rig_with(rotation: Rotation) -> Rig {
    let mut rig = World::new().start().await;
    let wanted = DatasetCreate {
        rotation,
        ..usual()
    };
    rig.dataset = Some(rig.administer(&wanted).await.unwrap());
    rig
}

fn one(batch: Result<Batch, RefusalNotice>) -> Option<Refusal> {
    batch.unwrap().refusals()[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_makes_the_next_version_and_old_wraps_open_as_before() {
    // rule: KEK-2
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let old = rig.wraps(&opened, &context, 1).await.remove(0);
    let made = rig.rotate().await.unwrap();
    assert_eq!(made.kek_version, 2);
    let new = rig.wraps(&opened, &context, 1).await.remove(0);
    assert_eq!(
        rig.states().await,
        [(2, KekState::Enabled), (1, KekState::DecryptOnly)]
    );
    let rig = rig.restart().await;
    assert_eq!(
        rig.states().await,
        [(2, KekState::Enabled), (1, KekState::DecryptOnly)]
    );
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    let items = [(&*old.0, &context), (&*new.0, &context)];
    let got = rig.redeem(&opened, &items).await.unwrap();
    assert_eq!(*got.deks, [old.1, new.1].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_names_the_version_that_it_follows_and_is_its_owners_to_make() {
    // rule: KEK-2, ADM-5, SET-5
    let rig = rig().await;
    let (name, replaces) = ("faces".to_owned(), rig.dataset().kek);
    let rotate = KekRotate { name, replaces };
    assert_eq!(
        refusal(rig.administer_by(&rotate, &[&operator()]).await),
        Refusal::Quorum
    );
    rig.administer(&rotate).await.unwrap();
    assert_eq!(refusal(rig.administer(&rotate).await), Refusal::Stale);
    assert_eq!(rig.states().await.len(), 2);
    assert_eq!(rig.files(), 2, "nothing is left of what was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_taken_out_of_use_and_back_and_only_the_newest_wraps() {
    // rule: KEK-1
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let old = rig.wraps(&opened, &context, 1).await.remove(0).0;
    rig.rotate().await.unwrap();
    let (first, second) = (rig.version(1).await.kek, rig.version(2).await.kek);
    rig.usable(first, false).await.unwrap();
    assert_eq!(
        one(rig.redeem(&opened, &[(&old, &context)]).await),
        Some(Refusal::KekState)
    );
    rig.usable(second, false).await.unwrap();
    assert_eq!(
        refusal(rig.generate(&opened, &[&context], true).await),
        Refusal::KekState
    );
    // A new version does not bring one back that was taken out of use.
    rig.rotate().await.unwrap();
    assert_eq!(
        rig.states().await,
        [
            (3, KekState::Enabled),
            (2, KekState::Disabled),
            (1, KekState::Disabled)
        ]
    );
    assert_eq!(
        rig.usable(first, true).await.unwrap().state,
        KekState::DecryptOnly
    );
    let rig = rig.restart().await;
    let (_, opened) = rig.opened(|_| {}).await;
    assert_eq!(one(rig.redeem(&opened, &[(&old, &context)]).await), None);
    let unknown = rig.usable(KekId([9; 16]), false).await;
    assert_eq!(refusal(unknown), Refusal::KekUnknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destruction_names_what_would_be_lost_as_it_stands() {
    // rule: KEK-4, INV-1, ADM-5
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let wraps = rig.wraps(&opened, &context, 3).await;
    let newest = rig.destruction(1, 7).await;
    assert_eq!(refusal(rig.administer(&newest).await), Refusal::Invalid);
    rig.rotate().await.unwrap();
    let asked = rig.destruction(1, 7).await;
    assert_eq!(asked.wraps, 3);
    let alone = rig.administer_by(&asked, &[&manager(0)]).await;
    assert_eq!(refusal(alone), Refusal::Quorum);
    for other in [
        KekDestroy {
            wraps: 2,
            ..asked.clone()
        },
        KekDestroy {
            dependants: [1; 32],
            ..asked.clone()
        },
    ] {
        assert_eq!(refusal(rig.administer(&other).await), Refusal::Stale);
    }
    // One wrap is replaced while the statement is signed.
    let items = [(&wraps[0].0[..], &context, None)];
    let new = rig.rewrap(&opened, &items).await.unwrap();
    let new = new.clear.wraps.unwrap().remove(0).unwrap();
    assert_eq!(
        rig.destruction(1, 7).await,
        asked,
        "not before it is in place"
    );
    let placed = [item_digest(&new, &context.to_cbor())];
    rig.rewrap_and_confirm(&opened, &[], &placed).await.unwrap();
    assert_eq!(refusal(rig.administer(&asked).await), Refusal::Stale);
    let asked = rig.destruction(1, 7).await;
    assert_eq!(asked.wraps, 2);
    let row = rig.administer(&asked).await.unwrap();
    assert_eq!(row.state, KekState::PendingDestruction);
    assert_eq!(row.destroyed, Some(rig.now().plus(7 * DAY)));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_needs_a_version_that_waits_for_its_destruction_raises_an_alarm_and_it_can_be_kept()
{
    // rule: KEK-4
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let old = rig.wraps(&opened, &context, 1).await.remove(0).0;
    rig.rotate().await.unwrap();
    let first = rig.version(1).await.kek;
    rig.administer(&rig.destruction(1, 30).await).await.unwrap();
    for _ in 0..3 {
        let got = rig.redeem(&opened, &[(&old, &context)]).await;
        assert_eq!(one(got), Some(Refusal::KekState));
    }
    let got = rig.rewrap(&opened, &[(&old, &context, None)]).await;
    assert_eq!(one(got), Some(Refusal::KekState));
    let alarms = rig.alarms(Alarm::KekUse);
    assert_eq!(alarms.len(), 1, "of one node and version once a minute");
    assert_eq!(
        (alarms[0].kek, alarms[0].dataset),
        (Some(first), Some(rig.dataset().dataset))
    );
    rig.service.each_minute().await;
    rig.redeem(&opened, &[(&old, &context)]).await.unwrap();
    assert_eq!(rig.alarms(Alarm::KekUse).len(), 2);
    // Neither is it put into use, nor destroyed a second time.
    assert_eq!(refusal(rig.usable(first, true).await), Refusal::KekState);
    let again = rig.destruction(1, 7).await;
    assert_eq!(refusal(rig.administer(&again).await), Refusal::KekState);
    assert_eq!(rig.keep(first).await.unwrap().state, KekState::Disabled);
    assert_eq!(refusal(rig.keep(first).await), Refusal::KekState);
    rig.usable(first, true).await.unwrap();
    assert_eq!(one(rig.redeem(&opened, &[(&old, &context)]).await), None);
    assert_eq!(rig.alarms(Alarm::KekUse).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_time_a_version_is_destroyed_and_its_file_gone() {
    // rule: KEK-4, KEK-5
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let old = rig.wraps(&opened, &context, 1).await.remove(0).0;
    rig.rotate().await.unwrap();
    let first = rig.version(1).await.kek;
    rig.administer(&rig.destruction(1, 7).await).await.unwrap();
    rig.world.clock.set(7 * DAY - 1);
    rig.service.each_minute().await;
    assert!(rig.key_file(first).exists());
    rig.world.clock.set(7 * DAY);
    // Its time has come: it cannot be kept, even if it is there still.
    assert_eq!(refusal(rig.keep(first).await), Refusal::KekState);
    rig.service.each_minute().await;
    assert!(!rig.key_file(first).exists());
    let entries = rig.by_itself();
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (&entries[0].keks, entries[0].count, entries[0].kek),
        (&Some(vec![first]), Some(1), None)
    );
    let rig = rig.restart().await;
    let row = rig.version(1).await;
    assert_eq!(
        (row.state, row.kek, row.destroyed, row.public_key),
        (KekState::Destroyed, first, Some(rig.now()), None)
    );
    let count = |state| rig.service.state.vault.count(state);
    assert_eq!(
        [
            count(KekState::Enabled),
            count(KekState::Destroyed),
            count(KekState::Disabled)
        ],
        [1, 1, 0]
    );
    let (_, opened) = rig.opened(|_| {}).await;
    let got = rig.redeem(&opened, &[(&old, &context)]).await;
    assert_eq!(one(got), Some(Refusal::KekState));
    assert_eq!(rig.by_itself().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_due_while_the_server_was_off_is_done_at_its_start() {
    // rule: KEK-3, KEK-4
    let age = Some(90 * DAY);
    let rule = Rotation {
        age,
        ..Rotation::default()
    };
    let rig = rig_with(rule).await;
    rig.rotate().await.unwrap();
    rig.administer(&rig.destruction(1, 7).await).await.unwrap();
    rig.world.clock.set(90 * DAY);
    let rig = rig.restart().await;
    assert_eq!(
        rig.states().await,
        [
            (3, KekState::Enabled),
            (2, KekState::DecryptOnly),
            (1, KekState::Destroyed)
        ]
    );
    let entries = rig.by_itself();
    let rotated = entries.iter().find(|entry| entry.kek.is_some()).unwrap();
    let third = rig.version(3).await;
    assert_eq!((rotated.kek, rotated.count), (Some(third.kek), Some(3)));
    assert_eq!(entries.len(), 2);
    // Not again before its time.
    rig.service.each_minute().await;
    assert_eq!(rig.keks().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_wraps_bring_the_next_version() {
    // rule: KEK-3
    let wraps = Some(1_000);
    let rule = Rotation {
        wraps,
        ..Rotation::default()
    };
    let rig = rig_with(rule).await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    rig.wraps(&opened, &context, 999).await;
    rig.keks().await;
    rig.service.each_minute().await;
    assert_eq!(rig.keks().await.len(), 1);
    rig.wraps(&opened, &context, 1).await;
    rig.keks().await;
    rig.service.each_minute().await;
    assert_eq!(rig.keks().await.len(), 1, "not within the day");
    rig.world.clock.set(DAY);
    rig.service.each_minute().await;
    rig.service.each_minute().await;
    assert_eq!(rig.keks().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_that_can_hit_a_ticket_for_the_dataset_brings_the_next_version_once_a_day() {
    // rule: KEK-3
    let rule = Rotation {
        on_denial: true,
        ..Rotation::default()
    };
    let rig = rig_with(rule).await;
    let dataset = rig.dataset().dataset;
    let count = |rig: &Rig| rig.service.state.vault.versions(dataset).len();
    rig.world.clock.set(DAY);
    rig.deny(Selector::dataset(DatasetId([9; 16]))).await;
    rig.service.each_minute().await;
    assert_eq!(count(&rig), 1, "another dataset's");
    rig.deny(Selector::dataset(dataset)).await;
    // It is not forgotten by a crash before it is done.
    let rig = rig.restart().await;
    assert_eq!(count(&rig), 2);
    rig.world.clock.set(DAY + 60);
    rig.deny(Selector::ticket(TicketId([3; 16]))).await;
    rig.service.each_minute().await;
    assert_eq!(count(&rig), 2, "not within the day");
    rig.world.clock.set(2 * DAY);
    rig.service.each_minute().await;
    rig.world.clock.set(4 * DAY);
    rig.service.each_minute().await;
    assert_eq!(count(&rig), 3, "and then once");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_rotates_by_itself_that_is_disabled_or_has_no_rule() {
    // rule: KEK-3
    let age = Some(DAY);
    let rule = Rotation {
        age,
        ..Rotation::default()
    };
    let rig = rig_with(rule).await;
    rig.usable(rig.dataset().kek, false).await.unwrap();
    rig.world.clock.set(2 * DAY);
    rig.service.each_minute().await;
    assert_eq!(rig.keks().await.len(), 1);
    let other = rig_with(Rotation::default()).await;
    other.deny(Selector::dataset(other.dataset().dataset)).await;
    other.world.clock.set(900 * DAY);
    other.service.each_minute().await;
    assert_eq!(other.keks().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_or_destroyed_by_a_clock_that_went_back() {
    // rule: KEK-4, TIM-1
    let rig = rig().await;
    rig.rotate().await.unwrap();
    rig.administer(&rig.destruction(1, 7).await).await.unwrap();
    rig.world.clock.set(9 * DAY);
    rig.service.state.latest.see(rig.now()).unwrap();
    rig.world.clock.set(8 * DAY);
    rig.service.each_minute().await;
    assert!(rig.key_file(rig.dataset().kek).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_misses_key_material_does_not_start_and_what_its_store_does_not_name_stays() {
    // rule: KEK-5
    let rig = rig().await;
    rig.rotate().await.unwrap();
    let (first, second) = (rig.version(1).await.kek, rig.version(2).await.kek);
    let stray = rig.key_file(KekId([7; 16]));
    std::fs::write(&stray, "left by a crash").unwrap();
    let rig = rig.restart().await;
    assert!(stray.exists());
    let (one, two) = (rig.key_file(first), rig.key_file(second));
    let kept = std::fs::read(&one).unwrap();
    rig.service.close().await;
    let world = rig.world;
    store::files::write_private(&one, &std::fs::read(&two).unwrap()).unwrap();
    let refused = |started: Result<_, StartError>| match started {
        Err(StartError::Kek(LoadError::File(path))) => path.ends_with(&first.to_string()),
        Err(error) => panic!("{error}"),
        Ok(_) => false,
    };
    assert!(refused(world.try_start().await.map(drop)), "another");
    std::fs::remove_file(&one).unwrap();
    assert!(refused(world.try_start().await.map(drop)), "missing");
    store::files::create_private(&one, &kept).unwrap();
    let started = world.try_start().await.map(drop);
    assert!(started.is_ok(), "{started:?}");
}

/// Dies after `commits` commits of what `act` does, and says what a restart finds.
pub(crate) async fn crash<F: Future<Output = ()>>(
    rig: Rig,
    commits: u64,
    act: impl FnOnce(std::sync::Arc<key_server::service::Service>) -> F,
) -> Rig {
    rig.world.cut_off.die_after(Some(commits));
    act(std::sync::Arc::clone(&rig.service)).await;
    rig.world.cut_off.die_after(None);
    rig.restart().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_commit_of_a_rotation_leaves_one_that_is_whole() {
    // rule: KEK-2, KEK-5
    for commits in 0..4 {
        let rig = rig().await;
        let (job, opened) = rig.opened(|_| {}).await;
        let context = named("a");
        let old = rig.wraps(&opened, &context, 1).await.remove(0);
        let statement = rig.statement(&KekRotate {
            name: "faces".into(),
            replaces: rig.dataset().kek,
        });
        rig.world.cut_off.die_after(Some(commits));
        let _ = rig.send_statement(&statement).await;
        rig.world.cut_off.die_after(None);
        let rig = rig.restart().await;
        let states = rig.states().await;
        let whole = [
            vec![(1, KekState::Enabled)],
            vec![(2, KekState::Enabled), (1, KekState::DecryptOnly)],
        ];
        assert!(whole.contains(&states), "{commits}: {states:?}");
        assert!(rig.files() >= states.len(), "{commits}");
        let opened = rig.present(&rig.connect(1), &job).await.unwrap();
        let got = rig.redeem(&opened, &[(&old.0, &context)]).await.unwrap();
        assert_eq!(*got.deks, old.1, "{commits}");
        rig.wraps(&opened, &context, 1).await;
        rig.rotate().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_commit_of_what_the_server_does_by_itself_is_made_up_for() {
    // rule: KEK-3, KEK-4, KEK-5
    for commits in 0..6 {
        let age = Some(30 * DAY);
        let rule = Rotation {
            age,
            ..Rotation::default()
        };
        let rig = rig_with(rule).await;
        rig.rotate().await.unwrap();
        rig.administer(&rig.destruction(1, 7).await).await.unwrap();
        rig.world.clock.set(30 * DAY);
        let rig = crash(rig, commits, |service| async move {
            service.each_minute().await;
        })
        .await;
        assert_eq!(
            rig.states().await,
            [
                (3, KekState::Enabled),
                (2, KekState::DecryptOnly),
                (1, KekState::Destroyed)
            ],
            "{commits}"
        );
        assert!(rig.files() >= 2, "{commits}");
        assert!(!rig.key_file(rig.dataset().kek).exists(), "{commits}");
        assert_eq!(rig.by_itself().len(), 2, "{commits}: each is recorded once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_redemption_and_rewrap_go_on_together_without_a_wrong_or_failed_answer() {
    // rule: KEK-1, KEK-2
    let rig = std::sync::Arc::new(rig().await);
    let context = named("a");
    let (job, opened) = rig.opened(|_| {}).await;
    let made = rig.wraps(&opened, &context, 20).await;
    let rotating = async {
        for _ in 0..20 {
            rig.rotate().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let redeeming = async |byte: u8| {
        let opened: Opened = rig.present(&rig.connect(byte), &job).await.unwrap();
        for _ in 0..10 {
            let items: Vec<_> = made.iter().map(|(wrap, _)| (&wrap[..], &context)).collect();
            let got = rig.redeem(&opened, &items).await.unwrap();
            assert!(got.refusals().iter().all(Option::is_none));
            let deks: Vec<_> = made.iter().flat_map(|(_, dek)| *dek).collect();
            assert_eq!(*got.deks, deks);
        }
    };
    let rewrapping = async {
        let opened: Opened = rig.present(&rig.connect(9), &job).await.unwrap();
        let mut wraps: Vec<_> = made.iter().map(|(wrap, _)| wrap.clone()).collect();
        for _ in 0..10 {
            let items: Vec<_> = wraps
                .iter()
                .map(|wrap| (&wrap[..], &context, None))
                .collect();
            let got = rig.rewrap(&opened, &items).await.unwrap();
            assert!(got.refusals().iter().all(Option::is_none));
            wraps = got
                .clear
                .wraps
                .unwrap()
                .into_iter()
                .map(Option::unwrap)
                .collect();
        }
        let items: Vec<_> = wraps.iter().map(|wrap| (&wrap[..], &context)).collect();
        let got = rig.redeem(&opened, &items).await.unwrap();
        let deks: Vec<_> = made.iter().flat_map(|(_, dek)| *dek).collect();
        assert_eq!(*got.deks, deks);
    };
    tokio::join!(rotating, redeeming(2), redeeming(3), rewrapping);
    assert_eq!(rig.keks().await[0].version, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_store_takes_no_key_material_along() {
    // rule: KEK-5
    let rig = rig().await;
    let store = rig.world.dir.path().join("store.redb");
    let copy = rig.world.dir.path().join("copy");
    rig.service.close().await;
    std::fs::copy(&store, &copy).unwrap();
    let rig = rig.restart().await;
    let second = rig.rotate().await.unwrap().kek;
    let (job, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&opened, &context, 1).await.remove(0);
    rig.service.close().await;
    let newest = rig.world.dir.path().join("newest");
    std::fs::copy(&store, &newest).unwrap();
    std::fs::copy(&copy, &store).unwrap();
    let rig = rig.restart().await;
    assert_eq!(rig.keks().await.len(), 1);
    assert!(rig.key_file(second).exists());
    rig.service.close().await;
    std::fs::copy(&newest, &store).unwrap();
    let rig = rig.restart().await;
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    let got = rig.redeem(&opened, &[(&made.0, &context)]).await.unwrap();
    assert_eq!(*got.deks, made.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_taken_out_of_use_while_its_wraps_are_recorded_gives_none_away() {
    // rule: KEK-1, RED-2
    let rig = std::sync::Arc::new(rig().await);
    let (_, opened) = rig.opened(|_| {}).await;
    let first = rig.dataset().kek;
    let service = std::sync::Arc::clone(&rig.service);
    // Decided under the first version; rotated and disabled before it is released.
    rig.world.clock.before_reading(2, move || {
        let dataset = service.state.vault.versions(rig_dataset(&service, first))[0].dataset;
        let now = ticket_format::time::Timestamp::from_seconds(1_800_000_000);
        let next = service
            .state
            .vault
            .create_kek(dataset, 2, now, &mut crate::rig::rng());
        service.state.vault.install(next);
        let old = service.state.vault.versions(dataset).pop().unwrap();
        service
            .state
            .vault
            .update(&old.in_state(KekState::Disabled));
    });
    let refused = rig.generate(&opened, &[&named("a")], true).await;
    assert_eq!(refusal(refused.map(drop)), Refusal::KekState);
    assert!(
        rig.entries()
            .iter()
            .any(|entry| entry.kind == Kind::Withheld)
    );
}

fn rig_dataset(service: &key_server::service::Service, kek: KekId) -> DatasetId {
    let (datasets, _) = service.state.datasets.page("", 10);
    let of = |dataset: &DatasetId| {
        let versions = service.state.vault.versions(*dataset);
        versions.iter().any(|version| version.kek == kek)
    };
    let mut ids = datasets.iter().map(|dataset| dataset.id);
    ids.find(of).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn key_material_that_could_not_be_erased_is_erased_a_minute_later() {
    // rule: KEK-5
    let rig = rig().await;
    rig.rotate().await.unwrap();
    let file = rig.key_file(rig.dataset().kek);
    rig.administer(&rig.destruction(1, 7).await).await.unwrap();
    let kept = std::fs::read(&file).unwrap();
    // What cannot be erased like a file.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    rig.world.clock.set(7 * DAY);
    rig.service.each_minute().await;
    assert_eq!(rig.version(1).await.state, KekState::Destroyed);
    std::fs::remove_dir(&file).unwrap();
    store::files::create_private(&file, &kept).unwrap();
    rig.service.each_minute().await;
    assert!(!file.exists());
}
