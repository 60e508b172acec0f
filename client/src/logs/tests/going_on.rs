//! That a server proves its log, and what it may not show.

use super::*;

#[tokio::test]
async fn on_a_new_connection_the_server_proves_first_that_its_log_goes_on() {
    // rule: TLOG-6
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    shows.visit(&dir, 1).await.unwrap();
    shows.log.lock().unwrap().grow(30);
    assert!(shows.asked().is_empty());
    let link = shows.link(&dir).await;
    link.proven().await.unwrap();
    link.proven().await.unwrap();
    assert_eq!(shows.asked(), [(1, 1)], "once on a connection");
    assert_eq!(link.log().newest().unwrap().size, 31);
    link.close().await.unwrap();
    assert_eq!(remembered(&dir), Some((1, 31)));
    // A receipt is not believed before that, whoever forgets to ask.
    let link = shows.link(&dir).await;
    link.believe(&shows.append(2), None).await.unwrap();
    assert_eq!(shows.asked()[0], (1, 31));
}

#[tokio::test]
async fn a_server_that_was_rolled_back_or_refuses_is_not_used_until_it_can_prove_its_log() {
    // rule: TLOG-6
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    shows.log.lock().unwrap().grow(9);
    shows.visit(&dir, 1).await.unwrap();
    let whole = shows.log.lock().unwrap().clone();
    shows.log.lock().unwrap().roll_back(4);
    let link = shows.link(&dir).await;
    let failed = failure(link.proven().await.unwrap_err());
    assert!(failed.why.contains("rollback"), "{failed}");
    assert_eq!(failed.remembered.as_ref().unwrap().size, 10);
    let report = failed.report();
    let origin = failed.origin.to_string();
    assert!(report.what.contains("key server") && report.what.contains(&origin));
    assert!(report.why.unwrap().contains("10 entries"));
    assert!(report.next.unwrap().contains("postern logs forget"));
    // Nothing that comes over such a connection is believed.
    failure(link.believe(&shows.append(2), None).await.unwrap_err());
    assert_eq!(remembered(&dir), Some((1, 10)));
    for refusal in [Refusal::NotFound, Refusal::Unsupported, Refusal::Malformed] {
        let refused = RefusalNotice::bare(refusal).into();
        shows.script.lock().unwrap().push_back(refused);
        failure(shows.link(&dir).await.proven().await.unwrap_err());
    }
    // One that sheds load is asked again, and its answers are not used meanwhile.
    let busy = RefusalNotice::bare(Refusal::Busy).into();
    shows.script.lock().unwrap().push_back(busy);
    *shows.log.lock().unwrap() = whole;
    let link = shows.link(&dir).await;
    assert!(link.proven().await.unwrap_err().worth_retrying());
    link.proven().await.unwrap();
}

#[tokio::test]
async fn a_server_that_shows_an_older_checkpoint_or_another_history_is_used_no_more() {
    // rule: TLOG-6
    type Lie = fn(&TestLog) -> Answer;
    let lies: [(&str, u64, Lie); 5] = [
        ("older", 6, |log| {
            let mut older = log.clone();
            older.roll_back(4);
            let newest = log.checkpoint();
            Answer::done(Verb::Consistency, &older.proof_from(newest.checkpoint()))
        }),
        ("fork of the same size", 10, |log| {
            let mut fork = log.clone();
            fork.roll_back(4);
            (0..4).for_each(|n| drop(fork.append(&entry(200 + n, Kind::Redeem))));
            Answer::done(
                Verb::Consistency,
                &fork.proof_from(log.checkpoint().checkpoint()),
            )
        }),
        ("fork that is larger", 14, |log| {
            let mut fork = log.clone();
            fork.roll_back(4);
            (0..8).for_each(|n| drop(fork.append(&entry(200 + n, Kind::Redeem))));
            Answer::done(
                Verb::Consistency,
                &fork.proof_from(log.checkpoint().checkpoint()),
            )
        }),
        ("a proof of nothing", 14, |log| {
            let mut grown = log.clone();
            grown.grow(4);
            let mut answer = grown.proof_from(log.checkpoint().checkpoint());
            answer.path.pop();
            Answer::done(Verb::Consistency, &answer)
        }),
        ("another key's signature", 14, |log| {
            let mut grown = log.signed_by(2);
            grown.grow(4);
            let answer = grown.proof_from(log.checkpoint().checkpoint());
            Answer::done(Verb::Consistency, &answer)
        }),
    ];
    for (what, size, lie) in lies {
        let (_keep, dir) = place();
        let shows = Shows::start(test_log());
        shows.log.lock().unwrap().grow(9);
        shows.visit(&dir, 1).await.unwrap();
        let answer = lie(&shows.log.lock().unwrap());
        shows.script.lock().unwrap().push_back(answer);
        let link = shows.link(&dir).await;
        let failed = failure(link.proven().await.unwrap_err());
        assert_eq!(failed.remembered.unwrap().size, 10, "{what}");
        assert_eq!(failed.shown.unwrap().size, size, "{what}");
        link.close().await.unwrap_err();
        // It would prove its log now, to this process or another: a person decides.
        let logs = Logs::at(&dir);
        let listed = logs.list().unwrap().remove(0);
        assert!(listed.failed.is_some(), "{what}");
        shows.asked();
        let again = shows.link(&dir).await;
        let failed = failure(again.proven().await.unwrap_err());
        assert_eq!(failed.shown.unwrap().size, size, "{what}");
        assert!(shows.asked().is_empty(), "{what}");
        assert!(logs.forget(&listed.origin).unwrap());
        assert!(!logs.forget(&listed.origin).unwrap());
        again.proven().await.unwrap();
        shows.visit(&dir, 2).await.unwrap();
        assert_eq!(remembered(&dir), Some((1, 11)));
    }
}

#[tokio::test]
async fn a_log_is_followed_over_its_shards_and_over_no_other_ones() {
    // rule: TLOG-6, TLOG-4
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    shows.log.lock().unwrap().grow(3);
    shows.visit(&dir, 1).await.unwrap();
    {
        let mut log = shows.log.lock().unwrap();
        log.grow(2);
        // More than one answer leads over.
        for _ in 0..40 {
            log.begin_shard();
            log.grow(2);
        }
    }
    let link = shows.link(&dir).await;
    link.proven().await.unwrap();
    assert_eq!(shows.asked(), [(1, 4), (17, 3), (33, 3)]);
    link.believe(&shows.append(2), None).await.unwrap();
    link.close().await.unwrap();
    assert_eq!(remembered(&dir), Some((41, 4)));

    let before = shows.log.lock().unwrap().clone();
    let mut grown = before.clone();
    grown.grow(1);
    let mut other = before.clone();
    other.roll_back(1);
    let newest = usize::try_from(before.size()).unwrap() - 1;
    for wrong in [before.checkpoint(), other.checkpoint()] {
        let (_keep, dir) = place();
        let shows = Shows::start(before.clone());
        let link = shows.link(&dir).await;
        link.believe(&before.receipt(newest), None).await.unwrap();
        link.close().await.unwrap();
        let mut log = grown.clone();
        log.begin_shard_after(wrong.checkpoint());
        *shows.log.lock().unwrap() = log;
        let failed = failure(shows.link(&dir).await.proven().await.unwrap_err());
        assert!(failed.why.contains("another tree"), "{failed}");
    }
    // One that is left out shows in the next one, which goes on from another.
    let (_keep, dir) = place();
    let shows = Shows::start(before.clone());
    let link = shows.link(&dir).await;
    link.believe(&before.receipt(newest), None).await.unwrap();
    link.close().await.unwrap();
    let mut log = grown.clone();
    log.begin_shard();
    log.begin_shard();
    let mut answer = log.proof_from(before.checkpoint().checkpoint());
    answer.links.remove(0);
    *shows.log.lock().unwrap() = log;
    let answer = Answer::done(Verb::Consistency, &answer);
    shows.script.lock().unwrap().push_back(answer);
    let failed = failure(shows.link(&dir).await.proven().await.unwrap_err());
    assert!(failed.why.contains("another tree"), "{failed}");
}

#[tokio::test]
async fn a_log_that_grows_between_questions_is_one_log_and_one_that_never_meets_is_none() {
    // rule: TLOG-5, TLOG-6
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    let link = shows.link(&dir).await;
    for number in 1..=3 {
        link.believe(&shows.append(number), None).await.unwrap();
    }
    link.close().await.unwrap();
    let untied = || Logs::at(&dir).list().unwrap().remove(0).untied;
    assert_eq!(untied(), 2);
    *shows.busy.lock().unwrap() = [1; 7].into();
    let link = shows.link(&dir).await;
    link.proven().await.unwrap();
    link.close().await.unwrap();
    assert_eq!(untied(), 0);

    // One that proves nothing together, and is always a commit further when it is asked about the second of two.
    shows.log.lock().unwrap().together = false;
    let link = shows.link(&dir).await;
    link.believe(&shows.append(7), None).await.unwrap();
    link.believe(&shows.append(8), None).await.unwrap();
    link.close().await.unwrap();
    let store = super::super::store::Store::new(dir.clone());
    let origin = link_origin(&shows);
    let earlier = super::super::log::TRIES - 40;
    store.change(&origin, |kept| kept.rounds = earlier).unwrap();
    *shows.busy.lock().unwrap() = vec![1; 10_000].into();
    let mut visits = 0;
    let failed = loop {
        let link = shows.link(&dir).await;
        let ended = link.proven().await.and(link.close().await);
        visits += 1;
        match ended {
            Ok(()) => assert!(visits < 100, "it goes on for ever"),
            Err(error) => break failure(error),
        }
    };
    assert!((4..8).contains(&visits), "a busy server is given time");
    assert!(failed.why.contains("never become one log"), "{failed}");
}

#[tokio::test]
async fn checkpoints_of_one_shard_are_asked_about_together_and_each_is_proven() {
    // rule: TLOG-6
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    let link = shows.link(&dir).await;
    for number in 1..=9 {
        link.believe(&shows.append(number), None).await.unwrap();
    }
    shows.log.lock().unwrap().grow(5);
    shows.asked();
    link.close().await.unwrap();
    let link = shows.link(&dir).await;
    link.proven().await.unwrap();
    assert_eq!(shows.asked(), [(1, 9)]);
    link.close().await.unwrap();
    let listed = Logs::at(&dir).list().unwrap().remove(0);
    assert_eq!((listed.newest.unwrap().size, listed.untied), (14, 0));

    // One of the others is of another tree than the one that they are proven to lead to.
    let whole = shows.log.lock().unwrap().clone();
    let mut fork = whole.clone();
    fork.roll_back(4);
    (0..2).for_each(|n| drop(fork.append(&entry(200 + n, Kind::Redeem))));
    let link = shows.link(&dir).await;
    link.proven().await.unwrap();
    *shows.log.lock().unwrap() = fork;
    link.believe(&shows.append(20), None).await.unwrap();
    shows.log.lock().unwrap().grow(3);
    link.close().await.unwrap();
    let failed = failure(shows.link(&dir).await.proven().await.unwrap_err());
    assert_eq!(failed.remembered.unwrap().size, 14);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_job_at_an_honest_server_never_ends_as_a_fork() {
    // rule: TLOG-5, TLOG-6
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    let link = shows.link(&dir).await;
    link.believe(&shows.append(0), None).await.unwrap();
    let store = super::super::store::Store::new(dir.clone());
    let earlier = super::super::log::TRIES - 9;
    store
        .change(&link_origin(&shows), |kept| kept.rounds = earlier)
        .unwrap();
    let link = shows.link(&dir).await;
    let mut jobs = tokio::task::JoinSet::new();
    for job in 0..4 {
        let (shows, link) = (Arc::clone(&shows), link.clone());
        jobs.spawn(async move {
            for number in 0..50 {
                let receipt = shows.append(job * 50 + number);
                link.believe(&receipt, None).await.unwrap();
            }
        });
    }
    while let Some(ended) = jobs.join_next().await {
        ended.unwrap();
    }
    assert!(!shows.asked().is_empty());
    assert!(link.log().untied() < 100);
    link.close().await.unwrap();
    assert_eq!(remembered(&dir), Some((1, 201)));
}

#[tokio::test]
async fn a_server_that_is_too_busy_to_be_asked_holds_no_receipt_up() {
    // rule: TLOG-5
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    let link = shows.link(&dir).await;
    let busy = || RefusalNotice::bare(Refusal::Busy).into();
    let script = std::iter::repeat_with(busy).take(200);
    shows.script.lock().unwrap().extend(script);
    for number in 0..=33 {
        link.believe(&shows.append(number), None).await.unwrap();
    }
    assert!(!shows.asked().is_empty());
    assert_eq!(link.log().untied(), 33, "nothing is lost");
    shows.script.lock().unwrap().clear();
    link.close().await.unwrap();
    let listed = Logs::at(&dir).list().unwrap().remove(0);
    assert_eq!((listed.newest.unwrap().size, listed.untied), (34, 0));
}
