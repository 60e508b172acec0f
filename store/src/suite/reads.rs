//! Reads: entries, ranges, pages.

use super::{LONG, Place, commit, put};
use crate::{Entry, Error, KeyRange, MAX_PAGE_BYTES, MAX_VALUE_BYTES, Page, Revision, Transaction};

/// Nothing is there before the first commit.
pub async fn an_empty_store_is_at_revision_zero(place: &dyn Place) {
    let store = place.open(LONG).await;
    assert_eq!(store.revision().await, Ok(Revision::ZERO));
    assert_eq!(store.get(b"a").await, Ok(None));
    assert_eq!(
        store.range(KeyRange::all(), 10).await,
        Ok(Page {
            revision: Revision::ZERO,
            entries: Vec::new(),
            more: false
        })
    );
    store.close().await;
}

/// Values are bytes, may be empty, and carry the revision of the commit that wrote them.
pub async fn a_put_is_read_back_with_its_revision(place: &dyn Place) {
    let store = place.open(LONG).await;
    let first = commit(&store, Transaction::new().put("a", [0, 255]).put("b", "")).await;
    let second = put(&store, "a", "x").await;
    assert_eq!((first, second), (Revision(1), Revision(2)));
    let entry = |value: &[u8], revision| {
        Some(Entry {
            value: value.to_vec(),
            revision,
        })
    };
    assert_eq!(store.get(b"a").await, Ok(entry(b"x", second)));
    assert_eq!(store.get(b"b").await, Ok(entry(b"", first)));
    commit(&store, Transaction::new().delete("b")).await;
    assert_eq!(store.get(b"b").await, Ok(None));
    store.close().await;
}

/// Byte order, half-open bounds, prefixes with the highest byte, pages by `after`.
pub async fn a_range_is_ordered_bounded_and_pages_to_the_end(place: &dyn Place) {
    let store = place.open(LONG).await;
    let mut keys: Vec<Vec<u8>> = vec![
        b"a".to_vec(),
        b"a/".to_vec(),
        b"a/1".to_vec(),
        vec![b'a', b'/', 0xff],
        vec![b'a', b'/', 0xff, 0xff, 1],
        b"a0".to_vec(),
        vec![0],
        vec![0xff],
        vec![0xff, 0xff],
    ];
    for key in &keys {
        commit(&store, Transaction::new().put(key.clone(), "v")).await;
    }
    keys.sort();
    let cases = [
        KeyRange::all(),
        KeyRange::prefix("a/"),
        KeyRange::prefix([b'a', b'/', 0xff]),
        KeyRange::prefix([0xff]),
        KeyRange::prefix("none"),
        KeyRange::between("a/", "a0"),
        KeyRange::between("a0", "a/"),
        KeyRange::between("b", "b"),
    ];
    for range in cases {
        let expected: Vec<_> = keys
            .iter()
            .filter(|key| range.contains(key))
            .cloned()
            .collect();
        for limit in [1, 2, 100] {
            let (mut rest, mut found) = (range.clone(), Vec::new());
            loop {
                let page = store.range(rest.clone(), limit).await.expect("reads");
                assert!(page.entries.len() <= limit);
                assert_eq!(page.revision, Revision(9));
                found.extend(page.entries.iter().map(|(key, _)| key.clone()));
                let Some((last, _)) = page.entries.last().filter(|_| page.more) else {
                    break;
                };
                rest = rest.after(last);
            }
            assert_eq!(found, expected, "{range:?} by {limit}");
        }
    }
    store.close().await;
}

/// A page holds bounded memory whatever the limit.
pub async fn a_page_ends_early_when_it_holds_many_bytes(place: &dyn Place) {
    let store = place.open(LONG).await;
    let count = MAX_PAGE_BYTES / MAX_VALUE_BYTES + 5;
    for n in 0..count {
        let value = vec![1; MAX_VALUE_BYTES];
        commit(&store, Transaction::new().put(format!("{n:04}"), value)).await;
    }
    let page = store.range(KeyRange::all(), 10_000).await.expect("reads");
    assert!(page.more);
    assert!(page.entries.len() * MAX_VALUE_BYTES <= MAX_PAGE_BYTES + MAX_VALUE_BYTES);
    let (last, _) = page.entries.last().expect("is not empty");
    let rest = store
        .range(KeyRange::all().after(last), 10_000)
        .await
        .expect("reads");
    assert_eq!(page.entries.len() + rest.entries.len(), count);
    assert!(!rest.more);
    store.close().await;
}

/// A snapshot is one state, whole, whatever is committed while it is read.
pub async fn a_snapshot_stays_as_it_was_while_others_commit(place: &dyn Place) {
    let store = place.open(LONG).await;
    for n in 0..8 {
        put(&store, &format!("a/{n:02}"), "old").await;
    }
    put(&store, "b", "old").await;
    let snapshot = store.snapshot().await.expect("is taken");
    let then = store.revision().await.expect("reads");
    assert_eq!(snapshot.revision(), then);
    for n in 0..8 {
        commit(
            &store,
            Transaction::new()
                .put(format!("a/{n:02}"), "new")
                .delete("b"),
        )
        .await;
        put(&store, "c", "new").await;
    }
    let first = snapshot.range(&KeyRange::prefix("a/"), 5).expect("reads");
    assert!(first.more && first.entries.len() == 5 && first.revision == then);
    let mut all = Vec::new();
    snapshot
        .each(KeyRange::all(), |key, entry| {
            assert_eq!(entry.value, b"old");
            assert!(entry.revision <= then);
            all.push(key);
            Ok::<_, Error>(())
        })
        .expect("reads");
    assert_eq!(all.len(), 9);
    assert!(all.is_sorted());
    assert_eq!(snapshot.get(b"a/0"), Ok(None));
    assert_eq!(snapshot.get(b"c"), Ok(None));
    let b = snapshot.get(b"b").expect("reads").expect("is there still");
    assert_eq!((b.value, b.revision), (b"old".to_vec(), then));
    assert!(snapshot.range(&KeyRange::all(), 0).is_err());
    drop(snapshot);
    let later = store.snapshot().await.expect("is taken");
    assert_eq!(later.get(b"b"), Ok(None));
    drop(later);
    store.close().await;
}

/// A store that is closed has no state to show.
pub async fn a_snapshot_after_the_end_is_refused(place: &dyn Place) {
    let store = place.open(LONG).await;
    put(&store, "a", "x").await;
    store.close().await;
    assert_eq!(store.snapshot().await.unwrap_err(), Error::Closed);
}
