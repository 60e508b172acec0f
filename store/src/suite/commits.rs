//! Transactions: bounds, compares, atomicity, concurrency, durability.

use std::sync::Arc;

use super::{LONG, Place, commit, put};
use crate::{
    Error, Invalid, KeyRange, MAX_COMPARES, MAX_KEY_BYTES, MAX_PAGE_ENTRIES, MAX_TRANSACTION_BYTES,
    MAX_VALUE_BYTES, MAX_WRITES, Outcome, Revision, Store, Transaction,
};

/// Every bound is refused with its own error, and the store stays as it was.
pub async fn bounds_are_refused_before_anything_is_tried(place: &dyn Place) {
    let store = place.open(LONG).await;
    let long_key = vec![b'k'; MAX_KEY_BYTES + 1];
    let many = |count: usize| (0..count).map(|n| format!("k{n:05}"));
    let cases: Vec<(Transaction, Invalid)> = vec![
        (Transaction::new(), Invalid::NoWrite),
        (Transaction::new().absent("a"), Invalid::NoWrite),
        (Transaction::new().put("", "v"), Invalid::EmptyKey),
        (
            Transaction::new().absent("").put("a", "v"),
            Invalid::EmptyKey,
        ),
        (
            Transaction::new().put(long_key.clone(), "v"),
            Invalid::KeyTooLong {
                found: MAX_KEY_BYTES + 1,
            },
        ),
        (
            Transaction::new().present(long_key.clone()).put("a", "v"),
            Invalid::KeyTooLong {
                found: MAX_KEY_BYTES + 1,
            },
        ),
        (
            Transaction::new().put("a", vec![0; MAX_VALUE_BYTES + 1]),
            Invalid::ValueTooLong {
                found: MAX_VALUE_BYTES + 1,
            },
        ),
        (
            Transaction::new().put("a", "1").delete("a"),
            Invalid::KeyWrittenTwice { key: b"a".to_vec() },
        ),
        (
            many(MAX_WRITES + 1).fold(Transaction::new(), |all, key| all.put(key, "")),
            Invalid::TooManyWrites {
                found: MAX_WRITES + 1,
            },
        ),
        (
            many(MAX_COMPARES + 1).fold(Transaction::new().put("a", ""), Transaction::absent),
            Invalid::TooManyCompares {
                found: MAX_COMPARES + 1,
            },
        ),
        (
            many(17).fold(Transaction::new(), |all, key| {
                all.put(key, vec![0; MAX_VALUE_BYTES - 6])
            }),
            Invalid::TransactionTooLong {
                found: 17 * MAX_VALUE_BYTES,
            },
        ),
    ];
    for (transaction, expected) in cases {
        assert_eq!(
            store.commit(transaction).await,
            Err(Error::Invalid(expected))
        );
    }
    assert_eq!(store.get(b"").await, Err(Invalid::EmptyKey.into()));
    assert_eq!(
        store.get(&long_key).await,
        Err(Invalid::KeyTooLong {
            found: MAX_KEY_BYTES + 1
        }
        .into())
    );
    for limit in [0, MAX_PAGE_ENTRIES + 1] {
        assert_eq!(
            store.range(KeyRange::all(), limit).await,
            Err(Invalid::Limit { found: limit }.into())
        );
    }
    assert_eq!(store.revision().await, Ok(Revision::ZERO));
    store.close().await;
}

/// Bounds are inclusive.
pub async fn the_largest_transaction_that_is_allowed_commits(place: &dyn Place) {
    let store = place.open(LONG).await;
    let value = MAX_TRANSACTION_BYTES / MAX_WRITES - MAX_KEY_BYTES;
    let transaction = (0..MAX_WRITES).fold(Transaction::new(), |all, n| {
        all.put(
            format!("{n:0width$}", width = MAX_KEY_BYTES),
            vec![7; value],
        )
    });
    assert_eq!(commit(&store, transaction).await, Revision(1));
    let longest = vec![8; MAX_VALUE_BYTES];
    commit(&store, Transaction::new().put("z", longest.clone())).await;
    let entry = store.get(b"z").await.expect("reads").expect("is there");
    assert!(entry.value == longest);
    store.close().await;
}

/// Absent, present and at, on a key that is absent, present, rewritten, deleted.
pub async fn each_compare_holds_exactly_when_it_should(place: &dyn Place) {
    let store = place.open(LONG).await;
    let probe = |compare: Transaction| {
        let store = Arc::clone(&store);
        async move {
            // The key written differs from the key compared.
            let outcome = store
                .commit(compare.put("probe", ""))
                .await
                .expect("is tried");
            matches!(outcome, Outcome::Committed(_))
        }
    };
    assert!(probe(Transaction::new().absent("k")).await);
    assert!(!probe(Transaction::new().present("k")).await);
    assert!(!probe(Transaction::new().at("k", Revision::ZERO)).await);
    let first = put(&store, "k", "1").await;
    let second = put(&store, "k", "2").await;
    assert!(!probe(Transaction::new().absent("k")).await);
    assert!(probe(Transaction::new().present("k")).await);
    assert!(!probe(Transaction::new().at("k", first)).await);
    assert!(probe(Transaction::new().at("k", second)).await);
    assert!(!probe(Transaction::new().at("k", second.next())).await);
    commit(&store, Transaction::new().delete("k")).await;
    assert!(probe(Transaction::new().absent("k")).await);
    assert!(!probe(Transaction::new().at("k", second)).await);
    store.close().await;
}

/// All or nothing; the first failing compare in the order given is the one named.
pub async fn a_conflict_names_the_first_key_and_writes_nothing(place: &dyn Place) {
    let store = place.open(LONG).await;
    let revision = put(&store, "a", "1").await;
    let transaction = Transaction::new()
        .at("a", revision)
        .present("missing-1")
        .present("missing-2")
        .put("b", "2")
        .delete("a");
    assert_eq!(
        store.commit(transaction).await,
        Ok(Outcome::Conflict {
            key: b"missing-1".to_vec()
        })
    );
    assert_eq!(store.revision().await, Ok(revision));
    assert_eq!(store.get(b"b").await, Ok(None));
    assert!(store.get(b"a").await.expect("reads").is_some());
    store.close().await;
}

/// A launch's single use: of 100 who claim a key at once exactly one gets it, the others are told.
pub async fn one_of_a_hundred_parallel_claims_succeeds(place: &dyn Place) {
    let store = place.open(LONG).await;
    let start = Arc::new(tokio::sync::Barrier::new(100));
    let claims: Vec<_> = (0..100)
        .map(|n| {
            let (store, start) = (Arc::clone(&store), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                let claim = Transaction::new().absent("use").put("use", format!("{n}"));
                (n, store.commit(claim).await.expect("is tried"))
            })
        })
        .collect();
    let mut winners = Vec::new();
    for claim in claims {
        match claim.await.expect("ends") {
            (n, Outcome::Committed(revision)) => {
                assert_eq!(revision, Revision(1));
                winners.push(n);
            }
            (_, Outcome::Conflict { key }) => assert_eq!(key, b"use"),
        }
    }
    assert_eq!(winners.len(), 1, "winners: {winners:?}");
    let entry = store.get(b"use").await.expect("reads").expect("is there");
    assert_eq!(entry.value, winners[0].to_string().into_bytes());
    store.close().await;
}

/// Compare-at in a retry loop: every increment counts once.
pub async fn a_hundred_parallel_increments_lose_none(place: &dyn Place) {
    let store = place.open(LONG).await;
    put(&store, "n", "0").await;
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..10 {
                    increment(&store).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("ends");
    }
    let entry = store.get(b"n").await.expect("reads").expect("is there");
    assert_eq!(entry.value, b"100");
    assert_eq!(store.revision().await, Ok(Revision(101)));
    store.close().await;
}

async fn increment(store: &Arc<dyn Store>) {
    loop {
        let entry = store.get(b"n").await.expect("reads").expect("is there");
        let text = String::from_utf8(entry.value).expect("is a number");
        let next = text.parse::<u32>().expect("is a number") + 1;
        let transaction = Transaction::new()
            .at("n", entry.revision)
            .put("n", next.to_string());
        if let Outcome::Committed(_) = store.commit(transaction).await.expect("is tried") {
            return;
        }
    }
}

/// Deleting what is not there is a success without a new revision.
pub async fn a_commit_that_changes_nothing_keeps_the_revision(place: &dyn Place) {
    let store = place.open(LONG).await;
    let revision = put(&store, "a", "1").await;
    assert_eq!(
        commit(&store, Transaction::new().delete("b")).await,
        revision
    );
    assert_eq!(store.revision().await, Ok(revision));
    // The same value again is a change: its revision is new.
    assert_eq!(put(&store, "a", "1").await, revision.next());
    store.close().await;
}

/// What was acknowledged is there after close and open, with its revisions.
pub async fn reopening_keeps_everything(place: &dyn Place) {
    let store = place.open(LONG).await;
    for n in 0..50 {
        put(&store, &format!("k{n}"), "v").await;
    }
    commit(&store, Transaction::new().delete("k7")).await;
    let before = store.range(KeyRange::all(), 100).await.expect("reads");
    store.close().await;
    let store = place.open(LONG).await;
    assert_eq!(store.range(KeyRange::all(), 100).await, Ok(before));
    assert_eq!(put(&store, "next", "").await, Revision(52));
    store.close().await;
}

/// Requests after close are refused, not hung; closing twice is allowed.
pub async fn a_closed_store_says_so(place: &dyn Place) {
    let store = place.open(LONG).await;
    put(&store, "a", "1").await;
    store.close().await;
    store.close().await;
    assert_eq!(store.get(b"a").await, Err(Error::Closed));
    assert_eq!(store.revision().await, Err(Error::Closed));
    assert_eq!(store.range(KeyRange::all(), 1).await, Err(Error::Closed));
    assert_eq!(
        store.commit(Transaction::new().put("a", "2")).await,
        Err(Error::Closed)
    );
    assert!(matches!(
        store.watch(b"", Revision::ZERO).await,
        Err(Error::Closed)
    ));
}

/// Whoever commits while the store is closed is either served or told that it is closed.
pub async fn closing_under_load_serves_or_refuses_each(place: &dyn Place) {
    let store = place.open(LONG).await;
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut kept = Vec::new();
                for n in 0.. {
                    let key = format!("{task}-{n}");
                    match store.commit(Transaction::new().put(key.clone(), "")).await {
                        Ok(Outcome::Committed(_)) => kept.push(key),
                        Err(Error::Closed) => break,
                        other => panic!("{other:?}"),
                    }
                }
                kept
            })
        })
        .collect();
    while store.revision().await.expect("reads") < Revision(100) {
        tokio::task::yield_now().await;
    }
    store.close().await;
    let mut kept = 0;
    let store = place.open(LONG).await;
    for task in tasks {
        for key in task.await.expect("ends") {
            kept += 1;
            assert!(store.get(key.as_bytes()).await.expect("reads").is_some());
        }
    }
    assert_eq!(store.revision().await, Ok(Revision(kept)));
    store.close().await;
}
