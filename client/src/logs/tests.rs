//! A client at servers whose logs it remembers: what it believes, and what it notices.

#[path = "../../tests/cli_support/log.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
mod log;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use ticket_format::Refusal;
use ticket_format::entry::Kind;
use ticket_format::keys::TlsSecret;
use ticket_format::messages::{Answer, Receipt, RefusalNotice, RequestView, Verb};
use ticket_format::report::exit;
use ticket_format::statement::Role;
use ticket_format::tlog::{Verifier, WitnessPolicy};
use transport::{Handler, Peer, ServerIdentity, ServerLimits};

use super::*;
use crate::link::Server;
use log::{TestLog, entry, policy, shown};

const REALM: &str = "example.org";
const TLS: [u8; 32] = [9; 32];
const WAIT: Duration = Duration::from_secs(20);

/// A server that answers about its log and nothing else.
struct Shows {
    address: SocketAddr,
    /// What is shown; scripted answers go first.
    log: Mutex<TestLog>,
    script: Mutex<VecDeque<Answer>>,
    /// What it was asked about: shard and size.
    asked: Mutex<Vec<(u64, u64)>>,
    /// Grows by so many entries before each answer.
    busy: Mutex<VecDeque<u8>>,
}

impl Handler for Shows {
    type Connection = ();

    fn connected(&self, _peer: Peer) {}

    async fn exchange(&self, _connection: &(), message: Bytes) -> Bytes {
        let request = RequestView::parse(&message).unwrap();
        assert_eq!(request.verb, Verb::Consistency);
        let about = shown(request.body);
        self.asked
            .lock()
            .unwrap()
            .push((about.shard.number, about.size));
        if let Some(answer) = self.script.lock().unwrap().pop_front() {
            return answer.to_bytes().into();
        }
        let mut log = self.log.lock().unwrap();
        let more = self.busy.lock().unwrap().pop_front();
        log.grow(more.unwrap_or(0));
        log.answer(request.body).to_bytes().into()
    }
}

fn test_log() -> TestLog {
    TestLog::new(
        REALM,
        Role::KeyServer,
        &TlsSecret::from_seed(&TLS).public(),
        1,
    )
}

impl Shows {
    fn start(log: TestLog) -> Arc<Self> {
        let identity = ServerIdentity::new(&SigningKey::from_bytes(&TLS)).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = transport::Server::bind(any, &identity, ServerLimits::default()).unwrap();
        let shows = Arc::new(Self {
            address: server.local_addr(),
            log: Mutex::new(log),
            script: Mutex::default(),
            asked: Mutex::default(),
            busy: Mutex::default(),
        });
        tokio::spawn(server.run(Arc::clone(&shows), std::future::pending()));
        shows
    }

    /// A new connection of a process that remembers in this directory.
    async fn link(&self, dir: &Path) -> LoggedLink {
        self.link_of(&Logs::at(dir)).await
    }

    async fn link_of(&self, logs: &Logs) -> LoggedLink {
        let server = Server {
            word: "key server",
            realm: REALM.to_owned(),
            addresses: vec![self.address.to_string()],
            tls_key: TlsSecret::from_seed(&TLS).public(),
        };
        let key = self.log.lock().unwrap().key();
        LoggedLink::connect(&server, &key, logs, WAIT)
            .await
            .unwrap()
    }

    fn append(&self, number: u8) -> Receipt {
        let entry = entry(number, Kind::Redeem);
        self.log.lock().unwrap().append(&entry)
    }

    /// One act over a connection of its own.
    async fn visit(&self, dir: &Path, number: u8) -> Result<(), Error> {
        let link = self.link(dir).await;
        let believed = link.believe(&self.append(number), None).await;
        let closed = link.close().await;
        believed.map(drop).and(closed)
    }

    fn asked(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/checkpoints");
    (dir, path)
}

/// Shard and size of what is remembered, newest first named.
fn remembered(dir: &Path) -> Option<(u64, u64)> {
    let list = Logs::at(dir).list().unwrap();
    assert!(list.len() <= 1);
    let newest = list.into_iter().next()?.newest?;
    Some((newest.shard.number, newest.size))
}

fn link_origin(shows: &Shows) -> Origin {
    shows.log.lock().unwrap().key().origin
}

fn failure(error: Error) -> LogFailure {
    assert_eq!(error.report().exit, exit::INTEGRITY);
    assert!(!error.worth_retrying());
    match error {
        Error::Log(failure) => *failure,
        other => panic!("{other:?}"),
    }
}

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
async fn the_first_checkpoint_is_on_disk_before_its_receipt_is_believed_and_later_ones_in_time() {
    // rule: TLOG-5
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    let logs = Logs::at(&dir);
    let link = shows.link_of(&logs).await;
    link.believe(&shows.append(1), None).await.unwrap();
    assert_eq!(remembered(&dir), Some((1, 1)));
    assert!(shows.asked().is_empty(), "what comes first is believed");
    let file = logs.list().unwrap().remove(0).path;
    let (stat, parent) = (file.metadata().unwrap(), dir.metadata().unwrap());
    assert_eq!((stat.mode() & 0o777, parent.mode() & 0o777), (0o600, 0o700));
    // A redemption costs no sync: the next ones are written down together.
    for number in 2..20 {
        link.believe(&shows.append(number), None).await.unwrap();
    }
    assert_eq!(file.metadata().unwrap().ino(), stat.ino());
    link.close().await.unwrap();
    assert_eq!(remembered(&dir), Some((1, 19)));
    assert_ne!(file.metadata().unwrap().ino(), stat.ino());
}

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

    // One that is always a commit further when it is asked about the second of two.
    let link = shows.link(&dir).await;
    link.believe(&shows.append(7), None).await.unwrap();
    link.believe(&shows.append(8), None).await.unwrap();
    link.close().await.unwrap();
    let store = super::store::Store::new(dir.clone());
    let origin = link_origin(&shows);
    let earlier = super::log::TRIES - 40;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_job_at_an_honest_server_never_ends_as_a_fork() {
    // rule: TLOG-5, TLOG-6
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    let link = shows.link(&dir).await;
    link.believe(&shows.append(0), None).await.unwrap();
    let store = super::store::Store::new(dir.clone());
    let earlier = super::log::TRIES - 9;
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
async fn what_is_remembered_must_be_whole_private_and_signed_by_the_pinned_keys() {
    // rule: TLOG-6
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    shows.visit(&dir, 1).await.unwrap();
    // The same name under other keys is another log: somebody has exchanged them.
    let other = shows.log.lock().unwrap().signed_by(2);
    *shows.log.lock().unwrap() = other;
    let failed = failure(shows.link(&dir).await.proven().await.unwrap_err());
    assert!(failed.why.contains("pinned keys"), "{failed}");
    let back = shows.log.lock().unwrap().signed_by(1);
    *shows.log.lock().unwrap() = back;
    shows.link(&dir).await.proven().await.unwrap();

    let file = Logs::at(&dir).list().unwrap().remove(0).path;
    let good = std::fs::read(&file).unwrap();
    for bad in [
        &good[..good.len() - 1],
        &good[..0],
        &[&good[..], &[0]].concat(),
    ] {
        ::store::files::write_private(&file, bad).unwrap();
        let error = shows.link(&dir).await.proven().await.unwrap_err();
        assert!(matches!(error, Error::Checkpoints(_)), "{error:?}");
        assert!(Logs::at(&dir).list().is_err());
    }
    // A note that nobody signed.
    let text = String::from_utf8_lossy(&good).into_owned();
    let at = text.find("\u{2014} ").unwrap();
    let mut forged = good.clone();
    let letter = good[..]
        .windows(3)
        .rposition(|w| w == b"AAA")
        .unwrap_or(at + 200);
    forged[letter] = if forged[letter] == b'B' { b'C' } else { b'B' };
    ::store::files::write_private(&file, &forged).unwrap();
    assert!(shows.link(&dir).await.proven().await.is_err());
    ::store::files::write_private(&file, &good).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&file, open).unwrap();
    let error = shows.link(&dir).await.proven().await.unwrap_err();
    assert!(matches!(error, Error::File(_)), "{error:?}");
}

#[tokio::test]
async fn so_many_logs_are_remembered_and_no_more() {
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    ::store::files::private_dir(&dir).unwrap();
    for number in 0..super::store::LOGS {
        std::fs::write(dir.join(format!("{number:032x}")), b"").unwrap();
    }
    let error = shows.visit(&dir, 1).await.unwrap_err();
    assert!(matches!(error, Error::TooManyLogs(_)), "{error:?}");
    std::fs::remove_file(dir.join(format!("{:032x}", 0))).unwrap();
    shows.visit(&dir, 1).await.unwrap();
}

#[tokio::test]
async fn a_log_that_a_person_forgets_while_a_job_runs_stays_forgotten() {
    // rule: TLOG-6
    let (_keep, dir) = place();
    let shows = Shows::start(test_log());
    shows.log.lock().unwrap().grow(4);
    let logs = Logs::at(&dir);
    let link = shows.link_of(&logs).await;
    link.believe(&shows.append(1), None).await.unwrap();
    let origin = Logs::at(&dir).list().unwrap().remove(0).origin;
    assert!(Logs::at(&dir).forget(&origin).unwrap());
    link.close().await.unwrap();
    // Its server has begun anew.
    *shows.log.lock().unwrap() = test_log();
    let link = shows.link_of(&logs).await;
    link.believe(&shows.append(2), None).await.unwrap();
    link.close().await.unwrap();
    assert_eq!(remembered(&dir), Some((1, 1)));
}

#[test]
fn the_largest_file_of_a_log_can_be_read_back() {
    use ticket_format::cbor::{Decode as _, Encode as _};
    let mut log = test_log();
    let mut kept = super::store::Kept::nothing(log.key().origin.clone());
    log.grow(1);
    let one = super::tips::Known::of(&log.checkpoint());
    for size in 0..super::tips::MOST as u64 {
        let note = one.note.replace("\n1\n", &format!("\n{size}\n"));
        let known = super::tips::Known::of_file(&note).unwrap();
        assert_eq!(known.checkpoint.size, size);
        kept.tips.add(known).unwrap();
    }
    kept.failed = Some(super::store::Failed {
        why: "x".repeat(1_024),
        shown: Some("x".repeat(ticket_format::limits::NOTE)),
    });
    let (_keep, dir) = place();
    let store = super::store::Store::new(dir);
    let origin = kept.origin.clone();
    store.change(&origin, |file| *file = kept.clone()).unwrap();
    assert_eq!(store.read(&origin).unwrap(), kept);
    let bytes = kept.to_cbor();
    for cut in (0..bytes.len()).step_by(997) {
        assert!(super::store::Kept::from_cbor(&bytes[..cut], cut).is_err());
    }
}
