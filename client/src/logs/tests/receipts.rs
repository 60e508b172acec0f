//! What a receipt must be, and what two of them must not say.

use super::*;

#[tokio::test]
async fn a_receipt_that_proves_nothing_is_not_believed_nor_remembered() {
    // rule: TLOG-5, TLOG-2
    let (_keep, dir) = place();
    let mut log = test_log();
    log.grow(5);
    let good = log.append(&entry(50, Kind::Redeem));
    let shows = Shows::start(log.clone());
    let link = shows.link(&dir).await;
    let without = |word: usize| {
        let own = good
            .proof
            .lines()
            .filter(|line| line.starts_with('\u{2014}'));
        let line = own.collect::<Vec<_>>()[word].to_owned() + "\n";
        Receipt {
            proof: good.proof.replace(&line, ""),
            ..good.clone()
        }
    };
    let bent = |from: &str, to: &str| Receipt {
        proof: good.proof.replace(from, to),
        ..good.clone()
    };
    let other_entry = Receipt {
        entry: log.receipt(4).entry,
        ..good.clone()
    };
    let bad = [
        ("another log's keys", log.signed_by(2).receipt(5)),
        ("no Ed25519 signature", without(0)),
        ("no ML-DSA-44 signature", without(1)),
        ("another index", bent("index 5\n", "index 4\n")),
        ("another entry", other_entry),
        ("another shard", bent("/1\n6\n", "/2\n6\n")),
        ("another size", bent("/1\n6\n", "/1\n7\n")),
        ("no proof", bent("c2sp.org", "example.org")),
    ];
    for (what, receipt) in bad {
        let error = link.believe(&receipt, None).await.unwrap_err();
        assert!(matches!(error, Error::Receipt { .. }), "{what}: {error:?}");
        assert_eq!(error.report().exit, exit::INTEGRITY);
        assert!(!error.worth_retrying());
    }
    assert_eq!((link.log().newest(), dir.exists()), (None, false));
    let logged = link.believe(&good, None).await.unwrap();
    assert_eq!((logged.index, logged.entry), (5, entry(50, Kind::Redeem)));
}

#[tokio::test]
async fn where_witnesses_are_required_a_receipt_without_them_is_not_believed() {
    // rule: TLOG-8
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    let link = shows.link(&dir).await;
    let key = shows.log.lock().unwrap().key();
    let policy: WitnessPolicy = policy(7).parse().unwrap();
    let required = Verifier::new(key, Some(policy));
    for witnesses in [vec![], vec![8]] {
        shows.log.lock().unwrap().witnesses = witnesses;
        let error = link.believe(&shows.append(1), Some(&required)).await;
        assert!(matches!(error, Err(Error::Receipt { .. })), "{error:?}");
    }
    assert_eq!(remembered(&dir), None);
    shows.log.lock().unwrap().witnesses = vec![8, 7];
    link.believe(&shows.append(1), Some(&required))
        .await
        .unwrap();
    // Cosignatures prove nothing of consistency, and are not kept.
    let stored = std::fs::read(&Logs::at(&dir).list().unwrap()[0].path).unwrap();
    assert!(!String::from_utf8_lossy(&stored).contains("witness-"));
}

#[tokio::test]
async fn two_trees_of_one_size_are_noticed_at_once() {
    // rule: TLOG-5
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    let link = shows.link(&dir).await;
    link.believe(&shows.append(1), None).await.unwrap();
    let mut fork = shows.log.lock().unwrap().clone();
    link.believe(&shows.append(2), None).await.unwrap();
    let forged = fork.append(&entry(99, Kind::Redeem));
    let failed = failure(link.believe(&forged, None).await.unwrap_err());
    assert!(failed.why.contains("two trees of one size"), "{failed}");
    // Nothing more of it, not even what is true, in this process or another.
    failure(link.believe(&shows.append(3), None).await.unwrap_err());
    failure(shows.visit(&dir, 4).await.unwrap_err());
}

#[tokio::test]
async fn a_receipt_of_another_history_is_noticed_although_larger_ones_follow() {
    // rule: TLOG-5, TLOG-6
    let forked = async |dir: &Path| {
        let shows = Shows::start(test_log());
        let link = shows.link(dir).await;
        link.believe(&shows.append(1), None).await.unwrap();
        let mut fork = shows.log.lock().unwrap().clone();
        fork.grow(1);
        let forged = fork.append(&entry(99, Kind::Redeem));
        link.believe(&forged, None).await.unwrap();
        shows.log.lock().unwrap().grow(5);
        link.believe(&shows.append(2), None).await.unwrap();
        (shows, link)
    };
    // With the next connection,
    let (_keep, dir) = place();
    let (shows, link) = forked(&dir).await;
    link.close().await.unwrap();
    let failed = failure(shows.link(&dir).await.proven().await.unwrap_err());
    assert_eq!(failed.remembered.unwrap().size, 3);
    // and soon on this one where much comes over it.
    let (_keep, dir) = place();
    let (shows, link) = forked(&dir).await;
    let mut ended = Ok(());
    for number in 10..60 {
        ended = link.believe(&shows.append(number), None).await.map(drop);
        if ended.is_err() {
            break;
        }
    }
    failure(ended.unwrap_err());
    // Or at its end.
    let (_keep, dir) = place();
    let (shows, link) = forked(&dir).await;
    for number in 10..20 {
        link.believe(&shows.append(number), None).await.unwrap();
    }
    failure(link.close().await.unwrap_err());
}

#[tokio::test]
async fn two_jobs_of_a_node_that_are_shown_two_histories_find_out() {
    // rule: TLOG-5, TLOG-6
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    shows.visit(&dir, 1).await.unwrap();
    let first = shows.link(&dir).await;
    let second = shows.link(&dir).await;
    first.proven().await.unwrap();
    second.proven().await.unwrap();
    let mut fork = shows.log.lock().unwrap().clone();
    first.believe(&shows.append(2), None).await.unwrap();
    fork.grow(2);
    let forged = fork.append(&entry(99, Kind::Redeem));
    second.believe(&forged, None).await.unwrap();
    first.close().await.unwrap();
    second.close().await.unwrap();
    let listed = Logs::at(&dir).list().unwrap().remove(0);
    assert_eq!((listed.newest.unwrap().size, listed.untied), (4, 2));
    shows.log.lock().unwrap().grow(9);
    failure(shows.link(&dir).await.proven().await.unwrap_err());
}
