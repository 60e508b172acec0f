//! Random histories against a model: a `BTreeMap` and a counter.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{LONG, Place};
use crate::{
    Change, Compare, Entry, KeyRange, Outcome, Revision, Store, Transaction, WatchEvent, Write,
};

#[derive(Clone, Debug)]
enum Step {
    Commit(Transaction),
    Range { range: KeyRange, limit: usize },
    Reopen,
}

#[derive(Default)]
struct Model {
    entries: BTreeMap<Vec<u8>, Entry>,
    revision: Revision,
    history: Vec<WatchEvent>,
}

impl Model {
    fn commit(&mut self, transaction: &Transaction) -> Outcome {
        for compare in &transaction.compare {
            if !compare.holds(self.entries.get(compare.key()).map(|entry| entry.revision)) {
                return Outcome::Conflict {
                    key: compare.key().to_vec(),
                };
            }
        }
        let revision = self.revision.next();
        let mut changes = Vec::new();
        for write in transaction.write.clone() {
            match write {
                Write::Put { key, value } => {
                    self.entries.insert(
                        key.clone(),
                        Entry {
                            value: value.clone(),
                            revision,
                        },
                    );
                    changes.push(Change::Put { key, value });
                }
                Write::Delete { key } => {
                    if self.entries.remove(&key).is_some() {
                        changes.push(Change::Delete { key });
                    }
                }
            }
        }
        if !changes.is_empty() {
            self.revision = revision;
            self.history
                .push(WatchEvent::Committed { revision, changes });
        }
        Outcome::Committed(self.revision)
    }

    fn range(&self, range: &KeyRange, limit: usize) -> (Vec<(Vec<u8>, Entry)>, bool) {
        let inside = || self.entries.iter().filter(|(key, _)| range.contains(key));
        let page = inside()
            .take(limit)
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        (page, inside().count() > limit)
    }
}

// Few keys, so that transactions meet.
fn key() -> impl Strategy<Value = Vec<u8>> + Clone {
    proptest::collection::vec(prop_oneof![Just(0), Just(b'a'), Just(0xff)], 1..3)
}

fn compare() -> impl Strategy<Value = Compare> {
    prop_oneof![
        key().prop_map(|key| Compare::Absent { key }),
        key().prop_map(|key| Compare::Present { key }),
        (key(), 0..20u64).prop_map(|(key, n)| Compare::At {
            key,
            revision: Revision(n)
        }),
    ]
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let write = proptest::collection::btree_map(
        key(),
        proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), 0..20)),
        1..5,
    );
    (proptest::collection::vec(compare(), 0..2), write).prop_map(|(compare, write)| Transaction {
        compare,
        write: write
            .into_iter()
            .map(|(key, value)| match value {
                Some(value) => Write::Put { key, value },
                None => Write::Delete { key },
            })
            .collect(),
    })
}

fn step() -> impl Strategy<Value = Step> {
    let range = prop_oneof![
        Just(KeyRange::all()),
        key().prop_map(KeyRange::prefix),
        (key(), key()).prop_map(|(start, end)| KeyRange::between(start, end)),
    ];
    prop_oneof![
        10 => transaction().prop_map(Step::Commit),
        5 => (range, 1..6usize).prop_map(|(range, limit)| Step::Range { range, limit }),
        1 => Just(Step::Reopen),
    ]
}

/// Whatever the history, the engine gives the outcomes, pages and events of the model.
///
/// # Panics
/// When it does not.
pub fn follows_the_model<P: Place>(make: impl Fn() -> P) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let config = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let steps = proptest::collection::vec(step(), 1..40);
    TestRunner::new(config)
        .run(&steps, |steps| {
            runtime.block_on(check(&make(), steps));
            Ok(())
        })
        .expect("the engine follows the model");
}

async fn check(place: &dyn Place, steps: Vec<Step>) {
    let mut model = Model::default();
    let mut store: Arc<dyn Store> = place.open(LONG).await;
    for step in steps {
        match step {
            Step::Commit(transaction) => {
                let expected = model.commit(&transaction);
                assert_eq!(store.commit(transaction).await, Ok(expected));
            }
            Step::Range { range, limit } => {
                let page = store.range(range.clone(), limit).await.expect("reads");
                assert_eq!((page.entries, page.more), model.range(&range, limit));
                assert_eq!(page.revision, model.revision);
            }
            Step::Reopen => {
                store.close().await;
                store = place.open(LONG).await;
            }
        }
        assert_eq!(store.revision().await, Ok(model.revision));
    }
    let mut watch = store.watch(b"", Revision::ZERO).await.expect("starts");
    for event in model.history {
        assert_eq!(watch.next().await, Ok(Some(event)));
    }
    store.close().await;
}
