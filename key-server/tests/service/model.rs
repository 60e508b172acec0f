//! KEK versions against a model: whatever is asked in whatever order, with restarts between, the server does
//! what the table of states says (KEK-1) and nothing else.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ticket_format::Refusal;
use ticket_format::statement::{KekDestroy, KekKeep, KekSet, KekState};

use crate::rig::{Rig, named, rig};

const DAY: u64 = 86_400;

#[derive(Clone, Debug)]
enum Op {
    Rotate,
    /// Of a version, by its place: whether it may be used.
    Set(usize, bool),
    /// Of a version, with a wait in days.
    Destroy(usize, u64),
    Keep(usize),
    Wrap,
    /// One of the wraps made so far.
    Open(usize),
    /// So many hours go by.
    Wait(u64),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let place = 0..6_usize;
    prop_oneof![
        2 => Just(Op::Rotate),
        3 => (place.clone(), any::<bool>()).prop_map(|(place, usable)| Op::Set(place, usable)),
        3 => (place.clone(), 7..=20_u64).prop_map(|(place, days)| Op::Destroy(place, days)),
        2 => place.prop_map(Op::Keep),
        3 => Just(Op::Wrap),
        4 => (0..20_usize).prop_map(Op::Open),
        2 => (1..400_u64).prop_map(Op::Wait),
        1 => Just(Op::Restart),
    ]
}

/// What the table of states says.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    /// Each version's state, and when it is destroyed; the oldest first.
    versions: Vec<(KekState, u64)>,
    /// Of each wrap the place of its version.
    wraps: Vec<usize>,
}

impl Model {
    fn newest(&self) -> usize {
        self.versions.len() - 1
    }

    fn rotate(&mut self) {
        let newest = self.newest();
        if self.versions[newest].0 == KekState::Enabled {
            self.versions[newest].0 = KekState::DecryptOnly;
        }
        self.versions.push((KekState::Enabled, 0));
    }

    fn set(&mut self, place: usize, usable: bool) -> Result<(), Refusal> {
        let newest = self.newest();
        let state = &mut self.versions[place].0;
        *state = match *state {
            KekState::PendingDestruction | KekState::Destroyed => return Err(Refusal::KekState),
            _ if !usable => KekState::Disabled,
            _ if place == newest => KekState::Enabled,
            _ => KekState::DecryptOnly,
        };
        Ok(())
    }

    fn destroy(&mut self, place: usize, days: u64) -> Result<(), Refusal> {
        if place == self.newest() {
            return Err(Refusal::Invalid);
        }
        let (state, then) = &mut self.versions[place];
        if !matches!(state, KekState::DecryptOnly | KekState::Disabled) {
            return Err(Refusal::KekState);
        }
        (*state, *then) = (KekState::PendingDestruction, self.now + days * DAY);
        Ok(())
    }

    fn keep(&mut self, place: usize) -> Result<(), Refusal> {
        let state = &mut self.versions[place].0;
        if *state != KekState::PendingDestruction {
            return Err(Refusal::KekState);
        }
        *state = KekState::Disabled;
        Ok(())
    }

    fn wait(&mut self, hours: u64) {
        self.now += hours * 3_600;
        for (state, then) in &mut self.versions {
            if *state == KekState::PendingDestruction && *then <= self.now {
                *state = KekState::Destroyed;
            }
        }
    }

    fn wrap(&mut self) -> Result<(), Refusal> {
        let newest = self.newest();
        if self.versions[newest].0 != KekState::Enabled {
            return Err(Refusal::KekState);
        }
        self.wraps.push(newest);
        Ok(())
    }

    fn open(&self, wrap: usize) -> Result<(), Refusal> {
        match self.versions[self.wraps[wrap]].0 {
            KekState::Enabled | KekState::DecryptOnly => Ok(()),
            _ => Err(Refusal::KekState),
        }
    }
}

async fn run(ops: Vec<Op>) {
    let (name, context) = ("faces".to_owned(), named("a"));
    let mut rig = rig().await;
    let mut model = Model::default();
    model.versions.push((KekState::Enabled, 0));
    let mut wraps = Vec::<(Vec<u8>, [u8; 32])>::new();
    for op in ops {
        let kek = |rig: &Rig, place: usize| {
            let versions = rig.service.state.vault.versions(rig.dataset().dataset);
            versions[versions.len() - 1 - place].kek
        };
        let place = |place: usize| place % model.versions.len();
        let said = format!("{op:?} {model:?}");
        let (got, expected) = match op {
            Op::Rotate => {
                model.rotate();
                (rig.rotate().await.map(drop), Ok(()))
            }
            Op::Set(at, usable) => {
                let (at, name) = (place(at), name.clone());
                let set = KekSet {
                    name,
                    kek: kek(&rig, at),
                    usable,
                };
                (rig.administer(&set).await.map(drop), model.set(at, usable))
            }
            Op::Destroy(at, days) => {
                let at = place(at);
                let destroy: KekDestroy = rig.destruction(at as u64 + 1, days).await;
                let done = rig.administer(&destroy).await.map(drop);
                (done, model.destroy(at, days))
            }
            Op::Keep(at) => {
                let (at, name) = (place(at), name.clone());
                let kek = kek(&rig, at);
                let done = rig.administer(&KekKeep { name, kek }).await.map(drop);
                (done, model.keep(at))
            }
            Op::Wrap => {
                let (_, opened) = rig.opened(|_| {}).await;
                let made = rig.generate(&opened, &[&context], true).await;
                let made = made.map(|made| {
                    let wrap = made.clear.wraps.unwrap().remove(0).unwrap();
                    wraps.push((wrap, made.deks[..].try_into().unwrap()));
                });
                (made, model.wrap())
            }
            Op::Open(_) if wraps.is_empty() => (Ok(()), Ok(())),
            Op::Open(at) => {
                let at = at % wraps.len();
                let (_, opened) = rig.opened(|_| {}).await;
                let got = rig.redeem(&opened, &[(&wraps[at].0, &context)]).await;
                let got = got.unwrap();
                let opened = match got.refusals()[0] {
                    Some(refusal) => Err(refusal),
                    None => {
                        assert_eq!(*got.deks, wraps[at].1, "{said}");
                        Ok(())
                    }
                };
                assert_eq!(opened, model.open(at), "{said}");
                continue;
            }
            Op::Wait(hours) => {
                model.wait(hours);
                rig.world.clock.set(model.now);
                rig.service.each_minute().await;
                (Ok(()), Ok(()))
            }
            Op::Restart => {
                rig = rig.restart().await;
                (Ok(()), Ok(()))
            }
        };
        assert_eq!(got.map_err(|notice| notice.refusal), expected, "{said}");
        let versions = rig.service.state.vault.versions(rig.dataset().dataset);
        let states: Vec<_> = versions.iter().rev().map(|kek| kek.state).collect();
        let expected: Vec<_> = model.versions.iter().map(|(state, _)| *state).collect();
        assert_eq!(states, expected, "{said}");
    }
}

#[test]
fn versions_do_what_the_table_of_states_says_whatever_is_asked_in_whatever_order() {
    // rule: KEK-1
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&proptest::collection::vec(op(), 5..40), |ops| {
            runtime.block_on(run(ops));
            Ok(())
        })
        .unwrap();
}
