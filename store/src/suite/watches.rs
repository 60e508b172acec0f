//! Watches: order, past, compaction, end.

use std::sync::Arc;

use super::{LONG, Place, commit, put};
use crate::{Change, Error, Invalid, KeyRange, Revision, Transaction, Watch, WatchEvent};

fn change(key: &str, value: &str) -> Change {
    Change::Put {
        key: key.into(),
        value: value.into(),
    }
}

fn committed(revision: Revision, changes: Vec<Change>) -> WatchEvent {
    WatchEvent::Committed { revision, changes }
}

async fn next(watch: &mut Watch) -> WatchEvent {
    watch.next().await.expect("works").expect("has not ended")
}

/// One event per commit, only watched keys, writes in order, no event for what changed nothing.
pub async fn a_watch_gives_commits_whole_and_in_order(place: &dyn Place) {
    let store = place.open(LONG).await;
    let mut watch = store.watch(b"w/", Revision::ZERO).await.expect("starts");
    let first = commit(
        &store,
        Transaction::new()
            .put("w/b", "1")
            .put("v", "")
            .put("w/a", "2"),
    )
    .await;
    put(&store, "v", "not watched").await;
    commit(&store, Transaction::new().delete("w/none")).await;
    let second = commit(
        &store,
        Transaction::new()
            .delete("w/b")
            .delete("w/none")
            .put("w", ""),
    )
    .await;
    assert_eq!(
        next(&mut watch).await,
        committed(first, vec![change("w/b", "1"), change("w/a", "2")])
    );
    let deleted = Change::Delete {
        key: b"w/b".to_vec(),
    };
    assert_eq!(next(&mut watch).await, committed(second, vec![deleted]));
    // A watcher that already waits is woken.
    let waiting = tokio::spawn(async move { next(&mut watch).await });
    tokio::task::yield_now().await;
    let third = put(&store, "w/c", "3").await;
    assert_eq!(
        waiting.await.expect("ends"),
        committed(third, vec![change("w/c", "3")])
    );
    store.close().await;
}

/// A long past comes complete, and live commits follow it without a gap or a repetition.
pub async fn a_watch_from_the_past_misses_nothing(place: &dyn Place) {
    let store = place.open(LONG).await;
    let writer = |from: u64, to: u64| {
        let store = Arc::clone(&store);
        async move {
            for n in from..=to {
                // Several writes each, so that a long history is read in several pieces.
                let all = (0..20).fold(Transaction::new(), |all, k| {
                    all.put(format!("{k}"), format!("{n}"))
                });
                assert_eq!(commit(&store, all).await, Revision(n));
            }
        }
    };
    writer(1, 150).await;
    let mut watch = store.watch(b"", Revision(30)).await.expect("starts");
    let live = tokio::spawn(writer(151, 200));
    for n in 31..=200 {
        let changes = (0..20)
            .map(|k| change(&k.to_string(), &n.to_string()))
            .collect();
        assert_eq!(next(&mut watch).await, committed(Revision(n), changes));
    }
    live.await.expect("ends");
    store.close().await;
}

/// The history is durable too.
pub async fn a_watch_survives_reopening(place: &dyn Place) {
    let store = place.open(LONG).await;
    put(&store, "a", "1").await;
    let second = put(&store, "b", "2").await;
    store.close().await;
    let store = place.open(LONG).await;
    let mut watch = store.watch(b"", Revision(1)).await.expect("starts");
    assert_eq!(
        next(&mut watch).await,
        committed(second, vec![change("b", "2")])
    );
    let third = put(&store, "c", "3").await;
    assert_eq!(
        next(&mut watch).await,
        committed(third, vec![change("c", "3")])
    );
    store.close().await;
}

/// Never a silent gap: history no longer kept gives one "compacted", then the end.
pub async fn a_watch_of_compacted_history_says_resync(place: &dyn Place) {
    let store = place.open(5).await;
    let mut slow = store.watch(b"", Revision::ZERO).await.expect("starts");
    for n in 1..=20 {
        put(&store, "k", &n.to_string()).await;
    }
    let oldest = match next(&mut slow).await {
        WatchEvent::Compacted { oldest } => oldest,
        other => panic!("history of 5 still gave {other:?}"),
    };
    assert_eq!(oldest, Revision(15));
    assert_eq!(slow.next().await, Ok(None));
    let mut watch = store.watch(b"", oldest).await.expect("starts");
    for n in 16..=20 {
        assert_eq!(
            next(&mut watch).await,
            committed(Revision(n), vec![change("k", &n.to_string())])
        );
    }
    let mut past = store.watch(b"", Revision(14)).await.expect("starts");
    assert_eq!(next(&mut past).await, WatchEvent::Compacted { oldest });
    store.close().await;
}

/// A store that went back in time is noticed by whoever saw more.
pub async fn a_watch_after_a_revision_not_reached_is_refused(place: &dyn Place) {
    let store = place.open(LONG).await;
    let current = put(&store, "a", "1").await;
    let asked = current.next();
    match store.watch(b"", asked).await {
        Err(error) => assert_eq!(
            error,
            Error::Invalid(Invalid::FromTheFuture { asked, current })
        ),
        Ok(_) => panic!("a watch after {asked} started at {current}"),
    }
    store.close().await;
}

/// `next` may be raced in a select.
pub async fn a_dropped_wait_loses_no_event(place: &dyn Place) {
    let store = place.open(LONG).await;
    let mut watch = store.watch(b"", Revision::ZERO).await.expect("starts");
    for n in 1..=30 {
        let revision = put(&store, "k", &n.to_string()).await;
        // Poll the call a varying number of times, then drop it in the middle.
        let mut polls = n % 4;
        let early = {
            let call = watch.next();
            tokio::pin!(call);
            std::future::poll_fn(|context| {
                if polls == 0 {
                    return std::task::Poll::Ready(None);
                }
                polls -= 1;
                call.as_mut().poll(context).map(Some)
            })
            .await
        };
        let event = match early {
            Some(event) => event.expect("works").expect("has not ended"),
            None => next(&mut watch).await,
        };
        assert_eq!(
            event,
            committed(revision, vec![change("k", &n.to_string())])
        );
    }
    store.close().await;
}

/// A waiting watcher learns of the end.
pub async fn closing_ends_the_watches(place: &dyn Place) {
    let store = place.open(LONG).await;
    let mut watch = store.watch(b"", Revision::ZERO).await.expect("starts");
    let waiting = tokio::spawn(async move { watch.next().await });
    tokio::task::yield_now().await;
    store.close().await;
    assert_eq!(waiting.await.expect("ends"), Ok(None));
}

/// The feed's pattern: read everything, then follow; a copy kept so equals the store.
pub async fn a_page_and_a_watch_after_it_leave_no_gap(place: &dyn Place) {
    let store = place.open(LONG).await;
    let writers: Vec<_> = (0..4)
        .map(|w| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..40 {
                    let key = format!("k{}", (n * 7 + w) % 13);
                    let transaction = match n % 5 {
                        0 => Transaction::new().delete(key),
                        _ => Transaction::new().put(key, format!("{w}-{n}")),
                    };
                    commit(&store, transaction).await;
                }
            })
        })
        .collect();
    let page = store.range(KeyRange::all(), 100).await.expect("reads");
    let mut copy: std::collections::BTreeMap<_, _> = page
        .entries
        .into_iter()
        .map(|(key, entry)| (key, entry.value))
        .collect();
    let mut watch = store.watch(b"", page.revision).await.expect("starts");
    for writer in writers {
        writer.await.expect("ends");
    }
    let last = put(&store, "end", "").await;
    loop {
        let WatchEvent::Committed { revision, changes } = next(&mut watch).await else {
            panic!("compacted");
        };
        for change in changes {
            match change {
                Change::Put { key, value } => copy.insert(key, value),
                Change::Delete { key } => copy.remove(&key),
            };
        }
        if revision == last {
            break;
        }
    }
    let page = store.range(KeyRange::all(), 100).await.expect("reads");
    let now: std::collections::BTreeMap<_, _> = page
        .entries
        .into_iter()
        .map(|(key, entry)| (key, entry.value))
        .collect();
    assert_eq!(copy, now);
    store.close().await;
}
