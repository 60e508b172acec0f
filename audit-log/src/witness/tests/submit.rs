//! The submitter, with logs and witnesses as they are, over HTTP.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use ticket_format::tlog::{
    Checkpoint, Proof, SignedCheckpoint, Vkey, WitnessPolicy, WitnessSecret, merkle,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::{
    AddCheckpoint, Compared, Endpoint, EndpointError, ServeLimits, State, Status, Submitter,
    Unwitnessed, Witness, compare_at_start, router, serve,
};
use super::{log_secret, now, witness_secret};
use crate::{AuditLog, Options, ShardEntries};

const LONG: Duration = Duration::from_secs(20);

struct House {
    dir: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn log(&self, dir: &str) -> AuditLog {
        self.log_with(dir, &Options::default())
    }

    /// The same keys and origin wherever it lies.
    fn log_with(&self, dir: &str, options: &Options) -> AuditLog {
        let path = self.dir.path().join(dir);
        AuditLog::open(path, log_secret("submit"), options)
            .unwrap()
            .0
    }

    fn witness(&self, name: &str) -> Arc<Witness> {
        let state = self.dir.path().join(name.replace('/', "-"));
        if !state.exists() {
            Witness::create(&state).unwrap();
        }
        let key = log_secret("submit").key().clone();
        Arc::new(Witness::open(&state, witness_secret(name), [key]).unwrap())
    }
}

struct Up {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Up {
    fn endpoint(&self, name: &str) -> Endpoint {
        endpoint(self.address, name)
    }
}

fn endpoint(address: SocketAddr, name: &str) -> Endpoint {
    let keys = witness_secret(name)
        .vkeys()
        .clone()
        .map(|key| key.to_string());
    Endpoint::new(&format!("http://{address}"), &keys).unwrap()
}

async fn up(witness: Arc<Witness>) -> Up {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let never = std::future::pending();
        let served = serve(
            listener,
            witness,
            Arc::new(now),
            ServeLimits::default(),
            never,
        );
        served.await.unwrap();
    });
    Up { address, task }
}

async fn up_with(routes: Router) -> Up {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        axum::serve(listener, routes).await.unwrap();
    });
    Up { address, task }
}

/// A witness behind a line that delays each request.
async fn slow(witness: Arc<Witness>, delay: Duration) -> Up {
    let routes = router(witness, Arc::new(now), &ServeLimits::default());
    let slowed = axum::middleware::from_fn(
        move |request: axum::extract::Request, next: axum::middleware::Next| async move {
            tokio::time::sleep(delay).await;
            next.run(request).await
        },
    );
    up_with(routes.layer(slowed)).await
}

/// A server that signs whatever it is given, with these keys.
async fn signs_all(secret: WitnessSecret) -> Up {
    let secret = Arc::new(secret);
    let sign = move |body: axum::body::Bytes| {
        let secret = Arc::clone(&secret);
        async move {
            let asked = AddCheckpoint::parse(&body).unwrap();
            let checkpoint = Checkpoint::of_note_unverified(asked.note).unwrap();
            secret.cosign(&checkpoint, now())
        }
    };
    up_with(Router::new().route("/add-checkpoint", post(sign))).await
}

/// Nobody listens there.
async fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

fn policy(needed: &str, names: &[&str]) -> WitnessPolicy {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (at, name) in names.iter().enumerate() {
        let key = witness_secret(name).vkeys()[1].clone();
        writeln!(text, "witness w{at} {key}").unwrap();
    }
    let members: Vec<String> = (0..names.len()).map(|at| format!("w{at}")).collect();
    writeln!(text, "group g {needed} {}\nquorum g", members.join(" ")).unwrap();
    text.parse().unwrap()
}

/// That the proof holds for the entry, under a checkpoint of this log that the policy accepts.
fn assert_proves(proof: &str, entry: &[u8], policy: &WitnessPolicy) -> SignedCheckpoint {
    let proof: Proof = proof.parse().unwrap();
    let signed = log_secret("submit")
        .key()
        .verify(&proof.checkpoint)
        .unwrap();
    policy.check(&signed).unwrap();
    let of = signed.checkpoint();
    let leaf = merkle::leaf_hash(entry);
    merkle::verify_inclusion(&leaf, proof.index, of.size, &proof.path, &of.root).unwrap();
    signed
}

async fn fill(log: &AuditLog, what: &str, count: usize) {
    for number in 0..count {
        log.append(format!("{what} {number}").into_bytes())
            .await
            .unwrap();
    }
}

async fn until(submitter: &Submitter, at: usize, is: impl Fn(&State) -> bool) -> Status {
    let mut status = submitter.status();
    let reached = status.wait_for(|all| is(&all[at].state));
    let reached = tokio::time::timeout(LONG, reached).await;
    match reached {
        Ok(reached) => reached.unwrap()[at].clone(),
        Err(_) => panic!("{:?}", submitter.status().borrow()[at]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_witnesses_are_enough_when_one_is_down() {
    // rule: TLOG-8
    let house = House::new();
    let log = house.log("log");
    let (one, two) = (
        up(house.witness("w/1")).await,
        up(house.witness("w/2")).await,
    );
    let witnesses = vec![
        one.endpoint("w/1"),
        endpoint(nowhere().await, "w/3"),
        two.endpoint("w/2"),
    ];
    let submitter = Submitter::start(&log, witnesses).unwrap();
    let enough = policy("2", &["w/1", "w/2", "w/3"]);
    for number in 0..5 {
        let entry = format!("entry {number}").into_bytes();
        let index = log.append(entry.clone()).await.unwrap().index;
        let proof = log.witnessed(index, &enough, LONG).await.unwrap();
        let signed = assert_proves(&proof, &entry, &enough);
        // Only what the policy names is carried along.
        let lines = signed.note().matches("\u{2014} w/").count();
        assert_eq!(lines, 2, "{}", signed.note());
    }
    // What was cosigned is published.
    let published = log.cosigned().borrow().clone().unwrap();
    assert!(enough.check(&published).is_ok());
    // All three are not.
    let all = policy("all", &["w/1", "w/2", "w/3"]);
    let index = log.append(b"more".to_vec()).await.unwrap().index;
    let late = log.witnessed(index, &all, Duration::from_millis(700)).await;
    assert!(matches!(late, Err(Unwitnessed::TooLate { .. })), "{late:?}");
    until(&submitter, 0, |state| matches!(state, State::Follows)).await;
    // An entry that is not there, and a log that has no witnesses any more.
    let absent = log.witnessed(1_000, &enough, LONG).await;
    assert!(matches!(absent, Err(Unwitnessed::Unproven { .. })));
    drop(submitter);
    let index = log.append(b"unwitnessed".to_vec()).await.unwrap().index;
    let nobody = log.witnessed(index, &enough, LONG).await;
    assert!(matches!(nobody, Err(Unwitnessed::NoWitness)), "{nobody:?}");
    let none: WitnessPolicy = "quorum none\n".parse().unwrap();
    let proof = log.witnessed(index, &none, LONG).await.unwrap();
    assert_proves(&proof, b"unwitnessed", &none);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lies_counts_for_nothing_and_who_is_slow_holds_nobody_up() {
    // rule: TLOG-8
    let house = House::new();
    let log = house.log("log");
    let good = up(house.witness("w/1")).await;
    // Answers 200 with signatures of keys that nobody configured.
    let liar = signs_all(witness_secret("w/other")).await;
    let late = slow(house.witness("w/3"), Duration::from_millis(900)).await;
    let witnesses = vec![
        good.endpoint("w/1"),
        liar.endpoint("w/2"),
        late.endpoint("w/3"),
    ];
    let submitter = Submitter::start(&log, witnesses).unwrap();
    let one = policy("1", &["w/1", "w/2", "w/3"]);
    let both = policy("2", &["w/1", "w/2", "w/3"]);
    let liars = policy("1", &["w/2"]);
    // Begun by the first appends, and the slow one is at it.
    for number in 0..10 {
        let entry = format!("entry {number}").into_bytes();
        let index = log.append(entry.clone()).await.unwrap().index;
        let begun = std::time::Instant::now();
        let proof = log.witnessed(index, &one, LONG).await.unwrap();
        assert_proves(&proof, &entry, &one);
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(850), "{number}: {took:?}");
    }
    let index = log.append(b"for two".to_vec()).await.unwrap().index;
    let proof = log.witnessed(index, &both, LONG).await.unwrap();
    let signed = assert_proves(&proof, b"for two", &both);
    assert!(!signed.note().contains("w/other"));
    let lied = log
        .witnessed(index, &liars, Duration::from_millis(400))
        .await;
    assert!(matches!(lied, Err(Unwitnessed::TooLate { .. })));
    let status = until(&submitter, 1, |state| {
        matches!(state, State::Refuses { .. })
    })
    .await;
    assert!(status.cosigned.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn witnesses_of_different_speed_meet_on_one_checkpoint() {
    let house = House::new();
    let log = house.log("log");
    let one = slow(house.witness("w/1"), Duration::from_millis(230)).await;
    let two = slow(house.witness("w/2"), Duration::from_millis(610)).await;
    let witnesses = vec![one.endpoint("w/1"), two.endpoint("w/2")];
    let _submitter = Submitter::start(&log, witnesses).unwrap();
    let all = policy("all", &["w/1", "w/2"]);
    let mut waiting = Vec::new();
    for number in 0..20 {
        let (log, all) = (log.clone(), all.clone());
        // They come while rounds are under way.
        waiting.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(number * 90)).await;
            let entry = format!("entry {number}").into_bytes();
            let index = log.append(entry.clone()).await.unwrap().index;
            let proof = log.witnessed(index, &all, Duration::from_secs(5)).await;
            assert_proves(&proof.unwrap(), &entry, &all);
        }));
    }
    for waiting in waiting {
        waiting.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anybody_who_waits_cosignatures_still_follow() {
    // rule: TLOG-8
    let house = House::new();
    let log = house.log("log");
    let one = up(house.witness("w/1")).await;
    let _submitter = Submitter::start(&log, vec![one.endpoint("w/1")]).unwrap();
    let mut cosigned = log.cosigned();
    for size in [3, 6] {
        fill(&log, "quiet", 3).await;
        let reached = cosigned.wait_for(|note| {
            note.as_ref()
                .is_some_and(|note| note.checkpoint().size == size)
        });
        tokio::time::timeout(LONG, reached).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_comes_back_is_taken_up_again_where_it_was() {
    let house = House::new();
    let log = house.log("log");
    let address = nowhere().await;
    let submitter = Submitter::start(&log, vec![endpoint(address, "w/1")]).unwrap();
    fill(&log, "before", 4).await;
    let witness = house.witness("w/1");
    let listener = TcpListener::bind(address).await.unwrap();
    let task = tokio::spawn(async move {
        let never = std::future::pending();
        serve(
            listener,
            witness,
            Arc::new(now),
            ServeLimits::default(),
            never,
        )
        .await
        .unwrap();
    });
    let mut status = submitter.status();
    let all = status.wait_for(|all| all[0].cosigned.as_ref().is_some_and(|(_, size)| *size == 4));
    tokio::time::timeout(LONG, all).await.unwrap().unwrap();
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_told_ten_seconds_after_there_is_something_to_cosign() {
    // rule: TLOG-8
    let house = House::new();
    let log = house.log("log");
    let submitter = Submitter::start(&log, vec![endpoint(nowhere().await, "w/1")]).unwrap();
    log.append(b"entry".to_vec()).await.unwrap();
    let appended = std::time::Instant::now();
    let status = until(&submitter, 0, |state| !matches!(state, State::Starting)).await;
    assert!(matches!(status.state, State::Silent { .. }), "{status:?}");
    let after = appended.elapsed();
    assert!(after > Duration::from_millis(9_500), "{after:?}");
    assert!(after < Duration::from_secs(14), "{after:?}");
    // What is appended is not held up by it.
    let begun = std::time::Instant::now();
    fill(&log, "more", 10).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_rolled_back_is_told_so_at_start_and_at_the_next_cosignature() {
    // rule: TLOG-10
    let house = House::new();
    let served = up(house.witness("w/1")).await;
    let witnesses = vec![served.endpoint("w/1"), endpoint(nowhere().await, "w/2")];
    let one = policy("1", &["w/1"]);
    let log = house.log("log");
    fill(&log, "entry", 4).await;
    log.close().await;
    copy(
        &house.dir.path().join("log"),
        &house.dir.path().join("copy"),
    );
    let log = house.log("log");
    let submitter = Submitter::start(&log, witnesses.clone()).unwrap();
    fill(&log, "later", 4).await;
    log.witnessed(7, &one, LONG).await.unwrap();
    let compared = compare(&log, &witnesses).await;
    assert!(matches!(compared[0], Compared::Fits), "{compared:?}");
    assert!(matches!(compared[1], Compared::Unreachable { .. }));
    drop(submitter);
    log.close().await;

    // The copy is the machine as it was.
    let old = house.log("copy");
    let compared = compare(&old, &witnesses).await;
    let Compared::Ahead {
        size: 8,
        proof: Some(proof),
    } = &compared[0]
    else {
        panic!("{compared:?}");
    };
    assert_eq!(proof.checkpoint().size, 8);
    assert!(compared[0].contradicts() && !compared[1].contradicts());
    let submitter = Submitter::start(&old, witnesses.clone()).unwrap();
    let status = until(&submitter, 0, State::contradicts).await;
    assert!(matches!(
        status.state,
        State::Behind {
            size: 8,
            proof: Some(_)
        }
    ));
    drop(submitter);

    // It went on instead: of the same size, then larger. Either way it is another tree.
    fill(&old, "other", 4).await;
    let compared = compare(&old, &witnesses).await;
    assert!(
        matches!(compared[0], Compared::OtherRoot { proof: Some(_) }),
        "{compared:?}"
    );
    fill(&old, "other", 3).await;
    let compared = compare(&old, &witnesses).await;
    assert!(
        matches!(compared[0], Compared::OtherRoot { proof: Some(_) }),
        "{compared:?}"
    );
    let submitter = Submitter::start(&old, witnesses.clone()).unwrap();
    until(&submitter, 0, |state| {
        matches!(state, State::Forked { proof: Some(_) })
    })
    .await;

    // A recovery goes on in another shard, which the witness follows.
    let recovered = old
        .recover([7; 16], 2, |_, _| b"recovered".to_vec())
        .await
        .unwrap();
    let proof = old.witnessed(recovered.index, &one, LONG).await.unwrap();
    assert_proves(&proof, b"recovered", &one);
    until(&submitter, 0, |state| matches!(state, State::Follows)).await;
    assert!(matches!(compare(&old, &witnesses).await[0], Compared::Fits));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_logs_of_one_key_cannot_both_be_witnessed() {
    // rule: TLOG-10
    let house = House::new();
    let served = up(house.witness("w/1")).await;
    let witnesses = vec![served.endpoint("w/1")];
    let one = policy("1", &["w/1"]);
    let (first, second) = (house.log("first"), house.log("second"));
    fill(&first, "to one client", 5).await;
    fill(&second, "to another", 5).await;
    let submitter = Submitter::start(&first, witnesses.clone()).unwrap();
    first.witnessed(4, &one, LONG).await.unwrap();
    let other = Submitter::start(&second, witnesses).unwrap();
    let told = until(&other, 0, State::contradicts).await;
    let State::Forked { proof: Some(proof) } = told.state else {
        panic!("{told:?}");
    };
    // The evidence: two checkpoints of one size, signed by one log.
    assert_eq!(proof.checkpoint().size, 5);
    assert_ne!(
        proof.checkpoint().root,
        second.head().checkpoint.checkpoint().root
    );
    let late = second.witnessed(4, &one, Duration::from_millis(500)).await;
    assert!(matches!(late, Err(Unwitnessed::TooLate { .. })));
    assert!(matches!(
        submitter.status().borrow()[0].state,
        State::Follows
    ));
}

struct Between;

impl ShardEntries for Between {
    fn closed(&self, _last: &Checkpoint) -> Vec<u8> {
        b"closed".to_vec()
    }

    fn opened(&self, previous: &Checkpoint, before: u64) -> Vec<u8> {
        format!("opened after {} and {before}", previous.shard).into_bytes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_shard_is_cosigned_as_well_as_the_next_one() {
    let house = House::new();
    let served = up(house.witness("w/1")).await;
    let options = Options {
        shard_bytes: 40 * 1024,
        shard_entries: Some(Arc::new(Between)),
        ..Options::default()
    };
    let log = house.log_with("log", &options);
    let _submitter = Submitter::start(&log, vec![served.endpoint("w/1")]).unwrap();
    let one = policy("1", &["w/1"]);
    let mut waiting = Vec::new();
    for number in 0..40 {
        let (log, one) = (log.clone(), one.clone());
        let entry = vec![number; 4_000];
        let index = log.append(entry.clone()).await.unwrap().index;
        waiting.push(tokio::spawn(async move {
            let proof = log.witnessed(index, &one, LONG).await.unwrap();
            assert_proves(&proof, &entry, &one)
                .checkpoint()
                .shard
                .number
        }));
    }
    let mut shards = std::collections::BTreeSet::new();
    for waiting in waiting {
        shards.insert(waiting.await.unwrap());
    }
    assert!(shards.len() > 1, "{shards:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_a_whole_shard_is_told_so_though_the_witness_takes_the_one_before() {
    // rule: TLOG-10
    let house = House::new();
    let served = up(house.witness("w/1")).await;
    let witnesses = [served.endpoint("w/1")];
    let log = house.log("log");
    fill(&log, "entry", 4).await;
    assert!(matches!(compare(&log, &witnesses).await[0], Compared::Fits));
    log.close().await;
    let dir = house.dir.path();
    copy(&dir.join("log"), &dir.join("copy"));
    let log = house.log("log");
    log.recover([7; 16], 2, |_, _| b"next".to_vec())
        .await
        .unwrap();
    assert!(matches!(compare(&log, &witnesses).await[0], Compared::Fits));
    log.close().await;

    let compared = compare(&house.log("copy"), &witnesses).await;
    assert!(
        matches!(compared[0], Compared::Ahead { proof: Some(_), .. }),
        "{compared:?}"
    );
}

async fn compare(log: &AuditLog, witnesses: &[Endpoint]) -> Vec<Compared> {
    compare_at_start(log, witnesses, Duration::from_secs(5))
        .await
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
        }
    }
}

fn conflict(size: &str) -> axum::response::Response {
    let kind = [(header::CONTENT_TYPE, "text/x.tlog.size")];
    (StatusCode::CONFLICT, kind, size.to_owned()).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_that_names_no_size_proves_nothing_of_a_size_that_was_guessed() {
    // rule: TLOG-10
    let house = House::new();
    let log = house.log("log");
    fill(&log, "entry", 3).await;
    let bare = || async { StatusCode::CONFLICT };
    let up = up_with(Router::new().route("/add-checkpoint", post(bare))).await;
    let compared = compare(&log, &[up.endpoint("w.example/1")]).await;
    assert!(
        matches!(compared[0], Compared::Refuses { .. }),
        "{compared:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_answers_are_refused_and_never_taken_for_cosignatures() {
    // rule: TLOG-8
    let house = House::new();
    let log = house.log("log");
    fill(&log, "entry", 3).await;
    let real = up(house.witness("w/1")).await;
    let elsewhere = format!("http://{}/add-checkpoint", real.address);
    let bent = {
        let lines = witness_secret("w/1").cosign(log.head().checkpoint.checkpoint(), now());
        lines.replacen("AAAA", "AAAB", 1)
    };
    let mut sizes = 0_u64;
    type Made = Box<dyn FnMut() -> axum::response::Response + Send>;
    let answers: Vec<(&str, Made)> = vec![
        ("empty", Box::new(|| "".into_response())),
        ("no lines", Box::new(|| "thanks\n".into_response())),
        ("too long", Box::new(|| "x".repeat(70_000).into_response())),
        ("not text", Box::new(|| vec![0xff_u8; 10].into_response())),
        (
            "bad signature",
            Box::new(move || bent.clone().into_response()),
        ),
        (
            "elsewhere",
            Box::new(move || {
                let to = [(header::LOCATION, elsewhere.clone())];
                (StatusCode::TEMPORARY_REDIRECT, to).into_response()
            }),
        ),
        (
            "forbidden",
            Box::new(|| StatusCode::FORBIDDEN.into_response()),
        ),
        (
            "no size",
            Box::new(|| (StatusCode::CONFLICT, "conflict\n").into_response()),
        ),
        (
            "size of another type",
            Box::new(|| (StatusCode::CONFLICT, "2\n").into_response()),
        ),
        (
            "size with a leading zero",
            Box::new(move || conflict("02\n")),
        ),
        ("always the same", Box::new(move || conflict("0\n"))),
        (
            "always another",
            Box::new(move || {
                sizes = (sizes + 1) % 3;
                conflict(&format!("{sizes}\n"))
            }),
        ),
    ];
    for (what, answer) in answers {
        let answer = Arc::new(std::sync::Mutex::new(answer));
        let reply = move || {
            let made = (answer.lock().unwrap())();
            async move { made }
        };
        let served = up_with(Router::new().route("/add-checkpoint", post(reply))).await;
        let submitter = Submitter::start(&log, vec![served.endpoint("w/1")]).unwrap();
        let status = until(&submitter, 0, |state| !matches!(state, State::Starting)).await;
        let State::Refuses { .. } = status.state else {
            panic!("{what}: {status:?}");
        };
        assert!(log.cosigned().borrow().is_none(), "{what}");
    }
    // A larger size is only a claim, unless there is a checkpoint of ours to it.
    let claim = move || async move { conflict("1000\n") };
    let served = up_with(Router::new().route("/add-checkpoint", post(claim))).await;
    let compared = compare(&log, &[served.endpoint("w/1")]).await;
    assert!(
        matches!(
            compared[0],
            Compared::Ahead {
                size: 1000,
                proof: None
            }
        ),
        "{compared:?}"
    );
}

#[test]
fn a_witness_is_configured_by_an_address_and_cosignature_keys_of_one_name() {
    let [ed25519, ml_dsa] = witness_secret("w/1")
        .vkeys()
        .clone()
        .map(|key| key.to_string());
    let other = witness_secret("w/2").vkeys()[1].to_string();
    let log = log_secret("submit").key().vkeys()[0].to_string();
    let url = "https://witness.example/postern";
    for keys in [vec![&ed25519], vec![&ml_dsa], vec![&ml_dsa, &ed25519]] {
        let witness = Endpoint::new(url, &keys).unwrap();
        assert_eq!((witness.name(), witness.keys().len()), ("w/1", keys.len()));
        assert_eq!(witness.url(), "https://witness.example/postern/");
    }
    for keys in [vec![], vec![&ed25519, &ed25519], vec![&ed25519, &other]] {
        assert!(matches!(
            Endpoint::new(url, &keys),
            Err(EndpointError::Keys { .. })
        ));
    }
    for key in [&log, &"w/1+00000000+AAAA".to_owned()] {
        assert!(matches!(
            Endpoint::new(url, &[key]),
            Err(EndpointError::Key { .. })
        ));
    }
    for url in [
        "witness.example",
        "ftp://w/",
        "http://w/?q",
        "http://w/#f",
        "http://u:p@w/",
        "http://u@w/",
        "",
    ] {
        let refused = Endpoint::new(url, &[&ed25519]);
        assert!(matches!(refused, Err(EndpointError::Url { .. })), "{url}");
    }
    let vkey: Vkey = ed25519.parse().unwrap();
    let one = Endpoint::new(url, &[vkey.to_string()]).unwrap();
    assert!(matches!(
        Endpoint::check(&[one.clone(), one.clone()]),
        Err(EndpointError::Twice { .. })
    ));
}
