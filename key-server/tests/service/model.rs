//! KEK versions against a model: whatever is asked in whatever order, with restarts between, the server does
//! what the table of states says (KEK-1), what is said of imports and expiries (IMP-1 to IMP-4), and nothing
//! else.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ticket_format::messages::RefusalNotice;
use ticket_format::statement::{
    DatasetCreate, DatasetCreated, ImportBegun, KekDestroy, KekImport, KekKeep, KekOrigin, KekSet,
    KekState,
};
use ticket_format::transfer::{self, Half, ImportPlace};
use ticket_format::wrapped::Wrapped;
use ticket_format::{Refusal, ids};

use crate::imports::{derived, holder, material, opened_without_a_server};
use crate::rig::{REALM, Rig, START, World, manager, named, rng, wanted};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// RSA keys take their time to make: a run makes at most so many.
const BEGUN: usize = 3;
/// Of so many materials one is brought: few, so that versions are renewed often.
const MATERIALS: u8 = 3;

#[derive(Clone, Debug)]
enum Op {
    Rotate,
    /// Of a version, by its place: whether it may be used.
    Set(usize, bool),
    /// Of a version, with a wait in days.
    Destroy(usize, u64),
    Keep(usize),
    Export(usize),
    Begin,
    Import(Bring),
    Wrap,
    /// So many hours go by, and the server does not notice yet.
    Wait(u64),
    /// It looks what is due.
    Look,
    Restart,
}

/// An import of material.
#[derive(Clone, Debug)]
struct Bring {
    /// Whether keys are made for it. Otherwise it is wrapped to one of those made before, over or not.
    fresh: bool,
    begun: usize,
    /// Which material.
    material: u8,
    /// So many hours from now.
    expiry: Option<u64>,
    flaw: Flaw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// What was wrapped does not open any more.
    Damaged,
    /// It is wrapped for another dataset.
    Elsewhere,
    /// It is other material than its signers commit to.
    Other(u8),
    /// It is one byte 32 times.
    Guessable,
    /// One owner signs alone.
    Alone,
    /// It follows a version that is not the newest.
    Stale,
}

fn bring() -> impl Strategy<Value = Bring> {
    let flaw = prop_oneof![
        8 => Just(Flaw::None),
        1 => Just(Flaw::Damaged),
        1 => Just(Flaw::Elsewhere),
        2 => (1..MATERIALS).prop_map(Flaw::Other),
        1 => Just(Flaw::Guessable),
        1 => Just(Flaw::Alone),
        1 => Just(Flaw::Stale),
    ];
    let expiry = proptest::option::weighted(0.7, 0..300_u64);
    let fresh = proptest::bool::weighted(0.6);
    (fresh, 0..BEGUN, 0..MATERIALS, expiry, flaw).prop_map(
        |(fresh, begun, material, expiry, flaw)| Bring {
            fresh,
            begun,
            material,
            expiry,
            flaw,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let place = 0..6_usize;
    prop_oneof![
        2 => Just(Op::Rotate),
        3 => (place.clone(), any::<bool>()).prop_map(|(place, usable)| Op::Set(place, usable)),
        3 => (place.clone(), 7..=20_u64).prop_map(|(place, days)| Op::Destroy(place, days)),
        2 => place.clone().prop_map(Op::Keep),
        1 => place.prop_map(Op::Export),
        1 => Just(Op::Begin),
        6 => bring().prop_map(Op::Import),
        4 => Just(Op::Wrap),
        4 => prop_oneof![1..30_u64, 1..400_u64].prop_map(Op::Wait),
        3 => Just(Op::Look),
        1 => Just(Op::Restart),
    ]
}

/// What is said of a version.
#[derive(Clone, Copy, Debug)]
struct Version {
    state: KekState,
    /// When it is destroyed.
    destroyed: u64,
    /// Of which material it was made, where it was imported.
    material: Option<u8>,
    expiry: Option<u64>,
    /// Its expiry disabled it, and nobody else did.
    lapsed: bool,
}

impl Version {
    const fn generated() -> Self {
        Self {
            state: KekState::Enabled,
            destroyed: 0,
            material: None,
            expiry: None,
            lapsed: false,
        }
    }

    fn expired(&self, now: u64) -> bool {
        self.expiry.is_some_and(|then| then <= now)
    }

    fn opens(&self) -> bool {
        matches!(self.state, KekState::Enabled | KekState::DecryptOnly)
    }
}

/// Keys of an import that the server has.
#[derive(Debug)]
struct Open {
    /// Which of those that were ever made.
    begun: usize,
    over: u64,
    failures: u8,
}

/// What the table of states says.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    exportable: bool,
    /// The oldest first.
    versions: Vec<Version>,
    /// How many imports were begun.
    begun: usize,
    open: Option<Open>,
    /// Of each wrap the place of its version.
    wraps: Vec<usize>,
}

impl Model {
    fn newest(&self) -> usize {
        self.versions.len() - 1
    }

    fn follow(&mut self, next: Version) {
        let newest = self.newest();
        let newest = &mut self.versions[newest].state;
        if *newest == KekState::Enabled {
            *newest = KekState::DecryptOnly;
        }
        self.versions.push(next);
    }

    fn in_use(&self, place: usize) -> KekState {
        if place == self.newest() {
            KekState::Enabled
        } else {
            KekState::DecryptOnly
        }
    }

    fn set(&mut self, place: usize, usable: bool) -> Result<(), Refusal> {
        let (now, in_use) = (self.now, self.in_use(place));
        let version = &mut self.versions[place];
        version.state = match version.state {
            KekState::PendingDestruction | KekState::Destroyed => return Err(Refusal::KekState),
            _ if !usable => KekState::Disabled,
            _ if version.expired(now) => return Err(Refusal::Invalid),
            _ => in_use,
        };
        version.lapsed = false;
        Ok(())
    }

    fn destroy(&mut self, place: usize, days: u64) -> Result<(), Refusal> {
        if place == self.newest() {
            return Err(Refusal::Invalid);
        }
        let version = &mut self.versions[place];
        if !matches!(version.state, KekState::DecryptOnly | KekState::Disabled) {
            return Err(Refusal::KekState);
        }
        version.state = KekState::PendingDestruction;
        version.destroyed = self.now + days * DAY;
        version.lapsed = false;
        Ok(())
    }

    fn keep(&mut self, place: usize) -> Result<(), Refusal> {
        let version = &mut self.versions[place];
        if version.state != KekState::PendingDestruction || version.destroyed <= self.now {
            return Err(Refusal::KekState);
        }
        version.state = KekState::Disabled;
        Ok(())
    }

    fn export(&self, place: usize) -> Result<(), Refusal> {
        match self.versions[place].state {
            _ if !self.exportable => Err(Refusal::Invalid),
            KekState::PendingDestruction | KekState::Destroyed => Err(Refusal::KekState),
            KekState::Enabled | KekState::DecryptOnly | KekState::Disabled => Ok(()),
        }
    }

    fn begin(&mut self) {
        self.open = Some(Open {
            begun: self.begun,
            over: self.now + DAY,
            failures: 0,
        });
        self.begun += 1;
    }

    /// The place of the version that an import makes or renews.
    fn import(&mut self, begun: usize, bring: &Bring) -> Result<usize, Refusal> {
        let expiry = bring.expiry.map(|hours| self.now + hours * HOUR);
        // What a quorum did not sign, or signed of something else, changes nothing.
        match bring.flaw {
            Flaw::Alone => return Err(Refusal::Quorum),
            Flaw::Stale => return Err(Refusal::Stale),
            _ if bring.expiry == Some(0) => return Err(Refusal::Invalid),
            _ => {}
        }
        let same = match bring.flaw {
            Flaw::Guessable => None,
            _ => Some(bring.material),
        };
        let mut places = 0..self.versions.len();
        let same = places.find(|at| same.is_some() && self.versions[*at].material == same);
        match same.map(|at| self.versions[at].state) {
            Some(KekState::PendingDestruction) => return Err(Refusal::KekState),
            Some(KekState::Destroyed) => return Err(Refusal::Invalid),
            _ => {}
        }
        let now = self.now;
        let open = self.open.as_mut();
        let open = open.filter(|open| open.begun == begun && now < open.over);
        let open = open.ok_or(Refusal::ImportUnknown)?;
        if matches!(bring.flaw, Flaw::Damaged | Flaw::Elsewhere) {
            open.failures += 1;
            if open.failures == 3 {
                self.open = None;
            }
            return Err(Refusal::Invalid);
        }
        self.open = None;
        if bring.flaw != Flaw::None {
            return Err(Refusal::Invalid);
        }
        let Some(same) = same else {
            self.follow(Version {
                material: Some(bring.material),
                expiry,
                ..Version::generated()
            });
            return Ok(self.newest());
        };
        let in_use = self.in_use(same);
        let version = &mut self.versions[same];
        version.expiry = expiry;
        if version.lapsed {
            (version.state, version.lapsed) = (in_use, false);
        }
        Ok(same)
    }

    fn look(&mut self) {
        let now = self.now;
        for version in &mut self.versions {
            if version.state == KekState::PendingDestruction && version.destroyed <= now {
                version.state = KekState::Destroyed;
            }
            if version.opens() && version.expired(now) {
                (version.state, version.lapsed) = (KekState::Disabled, true);
            }
        }
    }

    fn wrap(&mut self) -> Result<(), Refusal> {
        self.wraps_now().ok_or(Refusal::KekState)?;
        self.wraps.push(self.newest());
        Ok(())
    }

    /// The place of the version that wraps.
    fn wraps_now(&self) -> Option<usize> {
        let newest = self.newest();
        (self.versions[newest].state == KekState::Enabled).then_some(newest)
    }
}

/// A server, and what was made with it.
struct Run {
    rig: Rig,
    model: Model,
    /// Each with its DEK.
    wraps: Vec<(Vec<u8>, [u8; 32])>,
    begun: Vec<ImportBegun>,
}

impl Run {
    async fn new(exportable: bool) -> Self {
        let mut rig = World::new().start().await;
        let create = DatasetCreate {
            exportable,
            ..wanted("faces")
        };
        rig.dataset = Some(rig.administer(&create).await.unwrap());
        Self {
            rig,
            model: Model {
                exportable,
                versions: vec![Version::generated()],
                ..Model::default()
            },
            wraps: Vec::new(),
            begun: Vec::new(),
        }
    }

    /// The version at a place, the oldest first.
    fn kek(&self, place: usize) -> ids::KekId {
        let dataset = self.rig.dataset().dataset;
        let versions = self.rig.service.state.vault.versions(dataset);
        versions[versions.len() - 1 - place].kek
    }

    async fn begin(&mut self) {
        let begun = self.rig.begin().await;
        assert_eq!(begun.expires.seconds(), START + self.model.now + DAY);
        self.begun.push(begun);
        self.model.begin();
    }

    async fn import(&self, at: usize, bring: &Bring) -> Result<DatasetCreated, RefusalNotice> {
        let (begun, rig) = (&self.begun[at], &self.rig);
        let signed = material(bring.material);
        let mut import = rig.brought(begun, &signed).await;
        import.expiry = bring.expiry.map(|hours| rig.now().plus(hours * HOUR));
        let mut wrap = |dataset, material: &[u8; 32]| {
            let place = ImportPlace {
                realm: REALM,
                server: rig.world.server(),
                dataset,
                import: begun.import,
            };
            import.wrapped = place.wrap(&begun.key, material, &mut rng()).unwrap();
        };
        match bring.flaw {
            Flaw::None | Flaw::Alone => {}
            Flaw::Damaged => import.wrapped[1_150] ^= 1,
            Flaw::Elsewhere => wrap(ids::DatasetId([9; 16]), &signed),
            Flaw::Other(more) => wrap(
                begun.dataset,
                &material((bring.material + more) % MATERIALS),
            ),
            Flaw::Guessable => {
                let weak = [bring.material; 32];
                wrap(begun.dataset, &weak);
                import.commitment = transfer::commitment(&weak);
            }
            Flaw::Stale => import.replaces = ids::KekId([9; 16]),
        }
        if bring.flaw == Flaw::Alone {
            return rig
                .administer_by::<KekImport>(&import, &[&manager(0)])
                .await;
        }
        rig.administer(&import).await
    }

    async fn wrap(&mut self) -> Result<(), RefusalNotice> {
        let context = named("a");
        let (_, opened) = self.rig.opened(|_| {}).await;
        let made = self.rig.generate(&opened, &[&context], true).await?;
        let wrap = made.clear.wraps.unwrap().remove(0).unwrap();
        let dek: [u8; 32] = made.deks[..].try_into().unwrap();
        let newest = self.model.newest();
        let header = *Wrapped::parse(&wrap).unwrap().header();
        assert_eq!(header.kek, self.kek(newest));
        if let Some(of) = self.model.versions[newest].material {
            // rule: IMP-2
            let key = derived(header.dataset, &material(of), Half::Symmetric);
            assert_eq!(opened_without_a_server(&wrap, &context, &key), dek);
        }
        self.wraps.push((wrap, dek));
        Ok(())
    }

    /// Does it, and says how it ended and how the model has it end.
    async fn act(&mut self, op: &Op) -> (Result<(), RefusalNotice>, Result<(), Refusal>) {
        let name = "faces".to_owned();
        let place = |place: &usize| place % self.model.versions.len();
        match op {
            Op::Rotate => {
                let done = self.rig.rotate().await;
                self.model.follow(Version::generated());
                return (done.map(drop), Ok(()));
            }
            Op::Set(at, usable) => {
                let (at, usable) = (place(at), *usable);
                let kek = self.kek(at);
                let set = KekSet { name, kek, usable };
                let done = self.rig.administer(&set).await;
                return (done.map(drop), self.model.set(at, usable));
            }
            Op::Destroy(at, days) => {
                let at = place(at);
                let destroy: KekDestroy = self.rig.destruction(at as u64 + 1, *days).await;
                let done = self.rig.administer(&destroy).await;
                return (done.map(drop), self.model.destroy(at, *days));
            }
            Op::Keep(at) => {
                let at = place(at);
                let kek = self.kek(at);
                let done = self.rig.administer(&KekKeep { name, kek }).await;
                return (done.map(drop), self.model.keep(at));
            }
            Op::Export(at) => {
                let at = place(at);
                let kek = self.kek(at);
                let done = self.rig.export_to(kek, 1, vec![holder(1).0]).await;
                let done = done.map(|exported| assert_eq!(exported.kek, kek));
                return (done, self.model.export(at));
            }
            Op::Import(bring) => {
                if self.begun.is_empty() || bring.fresh && self.begun.len() < BEGUN {
                    self.begin().await;
                }
                let at = match bring.fresh {
                    true => self.begun.len() - 1,
                    false => bring.begun % self.begun.len(),
                };
                let done = self.import(at, bring).await;
                let expected = self.model.import(at, bring);
                let done = done.map(|made| {
                    // A renewal makes no version.
                    assert_eq!(Ok(made.kek_version), expected.map(|at| at as u64 + 1));
                });
                return (done, expected.map(drop));
            }
            Op::Wrap => {
                let done = self.wrap().await;
                return (done, self.model.wrap());
            }
            Op::Begin if self.begun.len() < BEGUN => self.begin().await,
            Op::Begin => {}
            Op::Wait(hours) => {
                self.model.now += hours * HOUR;
                self.rig.world.clock.set(self.model.now);
            }
            Op::Look => {
                self.rig.service.each_minute().await;
                self.model.look();
            }
            Op::Restart => unreachable!("a restart takes the whole server"),
        }
        (Ok(()), Ok(()))
    }

    /// A server that starts looks at once; imports that were open are forgotten.
    async fn restart(self) -> Self {
        let mut run = Self {
            rig: self.rig.restart().await,
            ..self
        };
        run.model.open = None;
        run.model.look();
        run
    }

    /// States and expiries, which version wraps, and which wraps open.
    async fn agrees(&self, said: &str) {
        let (rig, model) = (&self.rig, &self.model);
        let (vault, dataset) = (&rig.service.state.vault, rig.dataset().dataset);
        let versions = vault.versions(dataset);
        let got: Vec<_> = versions
            .iter()
            .rev()
            .map(|kek| {
                let expiry = kek.expiry.map(|then| then.seconds() - START);
                let commitment = kek.provenance.as_ref().map(|came| came.commitment);
                (kek.state, expiry, commitment, kek.origin)
            })
            .collect();
        let expected = model.versions.iter().map(|version| {
            let commitment = version.material.map(material);
            let origin = match commitment {
                Some(_) => KekOrigin::Imported,
                None => KekOrigin::Generated,
            };
            let commitment = commitment.as_ref().map(transfer::commitment);
            (version.state, version.expiry, commitment, origin)
        });
        assert_eq!(got, expected.collect::<Vec<_>>(), "{said}");
        let wraps = vault.wrapping(dataset).ok().map(|wrapping| wrapping.kek());
        assert_eq!(wraps, model.wraps_now().map(|at| self.kek(at)), "{said}");
        if self.wraps.is_empty() {
            return;
        }
        let context = named("a");
        let items = self.wraps.iter().map(|(wrap, _)| (&**wrap, &context));
        let items: Vec<(&[u8], _)> = items.collect();
        let (_, opened) = rig.opened(|_| {}).await;
        let got = rig.redeem(&opened, &items).await.unwrap();
        let opens = |at: &usize| model.versions[*at].opens();
        let refusals = model.wraps.iter();
        let refusals = refusals.map(|at| (!opens(at)).then_some(Refusal::KekState));
        assert_eq!(got.refusals(), refusals.collect::<Vec<_>>(), "{said}");
        let deks = self.wraps.iter().zip(&model.wraps);
        let deks = deks.filter(|(_, at)| opens(at)).map(|((_, dek), _)| *dek);
        assert_eq!(*got.deks, deks.collect::<Vec<_>>().concat(), "{said}");
    }
}

async fn run(exportable: bool, ops: Vec<Op>) {
    let mut run = Run::new(exportable).await;
    for op in ops {
        let said = format!("{op:?} {:?}", run.model);
        if let Op::Restart = op {
            run = run.restart().await;
        } else {
            let (got, expected) = run.act(&op).await;
            assert_eq!(got.map_err(|notice| notice.refusal), expected, "{said}");
        }
        run.agrees(&said).await;
    }
}

#[test]
fn versions_do_what_the_table_of_states_says_whatever_is_asked_in_whatever_order() {
    // rule: KEK-1, IMP-1, IMP-2, IMP-3, IMP-4
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config {
        cases: 8,
        failure_persistence: None,
        ..Config::default()
    };
    let ops = proptest::collection::vec(op(), 10..50);
    TestRunner::new(config)
        .run(&(any::<bool>(), ops), |(exportable, ops)| {
            runtime.block_on(run(exportable, ops));
            Ok(())
        })
        .unwrap();
}
