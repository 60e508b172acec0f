//! No answer is used without a receipt that holds: over whole exchanges, and as the command tells it.

mod cli_support;

use std::path::Path;
use std::time::Duration;

use cli_support::house::{Fake, LAUNCH, Lie, WITNESS, house, launch_digest};
use cli_support::{Home, Said, evidence, now, rng, tls_key};
use client::Error;
use client::issue::{Opened, Wanted};
use client::logs::{LoggedLink, Logs};
use client::redeem::Presented;
use client::state::NodeState;
use client::wallet::{DatasetSession, NodeSession, Wallet};
use client::watch::{Denied, Watched};
use ticket_format::Context;
use ticket_format::cbor::Encode as _;
use ticket_format::messages::Verb;
use ticket_format::report::exit;
use ticket_format::seal::Kem;
use ticket_format::statement::WitnessMode;
use ticket_format::ticket::{Action, Actions};

const WAIT: Duration = Duration::from_secs(20);
/// The lies that nobody may believe, whatever the dataset wants of witnesses.
const LIES: [Lie; 3] = [Lie::OtherLog, Lie::OtherAct, Lie::NotLogged];

fn bootstrap(broker: &Fake) -> client::login::Evidence {
    let mut evidence = evidence(&broker.address.to_string(), tls_key());
    evidence.bootstrap.launch_digest = launch_digest();
    evidence
}

async fn to_broker(state: &NodeState, logs: &Logs) -> LoggedLink {
    let link = LoggedLink::connect(&state.pins.broker, &state.pins.log_key, logs, WAIT);
    link.await.unwrap()
}

async fn log_in(broker: &Fake, dir: &Path) -> Result<(NodeState, NodeSession), Error> {
    let evidence = bootstrap(broker);
    let mut state = client::login::prepare(dir, &evidence, &mut rng())?;
    let link = to_broker(&state, &Logs::of_state(dir)).await;
    let session = client::login::login(&link, dir, &mut state, &evidence, now(), &mut rng()).await;
    link.close().await?;
    Ok((state, session?))
}

fn wanted() -> Wanted {
    Wanted {
        dataset: "faces".to_owned(),
        actions: Actions::new(&[Action::Decrypt]).unwrap(),
        required: Context::default(),
        life: 600,
        budget: 10,
        kem: Kem::XWing,
    }
}

async fn issue(
    state: &mut NodeState,
    node: &NodeSession,
    dir: &Path,
) -> Result<DatasetSession, Error> {
    let wanted = wanted();
    let link = to_broker(state, &Logs::of_state(dir)).await;
    let session = client::issue::issue(&link, state, node, &wanted, now(), &mut rng()).await;
    link.close().await?;
    session
}

fn refused(lie: Lie, error: Error) {
    assert_eq!(error.report().exit, exit::INTEGRITY, "{lie:?}: {error}");
    let fits = match lie {
        Lie::OtherAct => matches!(error, Error::Answer { .. }),
        _ => matches!(error, Error::Receipt { .. }),
    };
    assert!(fits, "{lie:?}: {error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_a_receipt_that_holds_gives_no_ticket() {
    // rule: TLOG-5
    let (broker, _) = house(WitnessMode::None);
    let home = Home::new();
    let dir = home.state();
    for lie in LIES {
        broker.lies(Some((Verb::Login, lie)));
        refused(lie, log_in(&broker, &dir).await.unwrap_err());
        let state = NodeState::load(&dir).unwrap().unwrap();
        assert!(!state.known && state.launch_statement.is_none());
    }
    broker.lies(None);
    let (state, _) = log_in(&broker, &dir).await.unwrap();
    assert!(state.known);
    let kept = NodeState::load(&dir).unwrap().unwrap();
    assert_eq!(kept.pins.log_key, bootstrap(&broker).bootstrap.log_key);
    assert_eq!(kept.launch_statement.as_deref(), Some(LAUNCH));
    let seen = Logs::of_state(&dir).list().unwrap();
    assert_eq!(seen[0].origin, state.pins.log_key.origin);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_without_a_receipt_that_holds_puts_no_key_in_force() {
    // rule: TLOG-5
    let (broker, _) = house(WitnessMode::None);
    let home = Home::new();
    let dir = home.state();
    let (mut state, _) = log_in(&broker, &dir).await.unwrap();
    let (key, end) = (state.key.public(), state.chains[0].end);
    let logs = Logs::of_state(&dir);
    for lie in LIES {
        broker.lies(Some((Verb::Renew, lie)));
        let link = to_broker(&state, &logs).await;
        let renewed = client::renew::renew(&link, &dir, &mut state, now(), &mut rng()).await;
        refused(lie, renewed.unwrap_err());
        link.close().await.unwrap();
        let kept = NodeState::load(&dir).unwrap().unwrap();
        assert_eq!((kept.key.public(), kept.chains[0].end), (key, end));
    }
    broker.lies(None);
    let link = to_broker(&state, &logs).await;
    client::renew::renew(&link, &dir, &mut state, now(), &mut rng())
        .await
        .unwrap();
    link.close().await.unwrap();
    assert_ne!(state.key.public(), key);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issue_without_a_receipt_that_holds_gives_no_ticket() {
    // rule: TLOG-5, TLOG-8
    for (mode, more) in [(WitnessMode::Watch, None), (WitnessMode::Require, Some(()))] {
        let (broker, _) = house(mode);
        let home = Home::new();
        let dir = home.state();
        let (mut state, node) = log_in(&broker, &dir).await.unwrap();
        for lie in LIES.into_iter().chain(more.map(|()| Lie::Unwitnessed)) {
            broker.lies(Some((Verb::Issue, lie)));
            refused(lie, issue(&mut state, &node, &dir).await.unwrap_err());
        }
        // What is only watched is believed without witnesses.
        let fine = more.is_none().then_some((Verb::Issue, Lie::Unwitnessed));
        broker.lies(fine);
        issue(&mut state, &node, &dir).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_used_without_a_receipt_that_holds_and_present_brings_that_of_the_issue() {
    // rule: TLOG-5, TLOG-8, PRE-5
    for (mode, more) in [(WitnessMode::Watch, None), (WitnessMode::Require, Some(()))] {
        let (broker, key_server) = house(mode);
        let home = Home::new();
        let dir = home.state();
        let (mut state, node) = log_in(&broker, &dir).await.unwrap();
        let session = issue(&mut state, &node, &dir).await.unwrap();
        let issued = session.receipt.clone();
        // By way of the wallet, as another process finds it.
        let mut wallet = Wallet::default();
        wallet.put(session);
        let lock = home.wallet().lock().unwrap();
        let file = home.wallet();
        file.save(&lock, &wallet, &state.wallet_key, &mut rng())
            .unwrap();
        let wallet = file.load(&state.wallet_key).unwrap();
        let session = wallet.dataset("faces").unwrap();
        let opened = Opened::check(session, &state.pins, now()).unwrap();

        let logs = Logs::of_state(&dir);
        let present = async || {
            let key = opened.log_key();
            let link = LoggedLink::connect(&opened.server(), key, &logs, WAIT).await?;
            Presented::present(link, session, opened.clone()).await
        };
        let presented = present().await.unwrap();
        let bodies = std::mem::take(&mut *key_server.presented.lock().unwrap());
        assert_eq!(bodies[0].receipt.as_ref(), Some(&issued));
        let context = Context::default();
        let items: [(&[u8], &Context); 1] = [(b"a wrap", &context)];
        for lie in LIES.into_iter().chain(more.map(|()| Lie::Unwitnessed)) {
            key_server.lies(Some((Verb::Redeem, lie)));
            let answer = presented.redeem(&items, &mut rng()).await;
            refused(lie, answer.map(drop).unwrap_err());
        }
        key_server.lies(None);
        let answer = presented.redeem(&items, &mut rng()).await.unwrap();
        let released = answer[0].as_ref().unwrap();
        assert_eq!(released.dek.expose(), &[0xd0; 32]);
        presented.close().await.unwrap();

        // A key server that was rolled back: nothing of its present's answer is used.
        key_server.log.lock().unwrap().roll_back(1);
        let error = present().await.map(drop).unwrap_err();
        assert!(matches!(error, Error::Log(_)), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wipe_is_told_where_the_log_goes_on_and_believed_with_its_receipt() {
    // rule: TLOG-5
    let (broker, _) = house(WitnessMode::None);
    let home = Home::new();
    let dir = home.state();
    let (state, node) = log_in(&broker, &dir).await.unwrap();
    let logs = Logs::of_state(&dir);
    let denied = Denied {
        epoch: 3,
        reason: None,
    };
    let wipe = async || {
        let watched = Watched::node(&node, &state.pins, &logs).unwrap();
        watched.wipe(&denied, 1, now(), WAIT).await
    };
    for lie in LIES {
        broker.lies(Some((Verb::Wipe, lie)));
        refused(lie, wipe().await.map(drop).unwrap_err());
    }
    broker.lies(None);
    let logged = wipe().await.unwrap();
    let size = broker.log.lock().unwrap().size();
    assert_eq!(logged.index + 1, size);
    assert_eq!(logged.checkpoint.checkpoint().size, size);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_cannot_prove_its_log_is_told_nothing() {
    // rule: TLOG-6
    let (broker, _) = house(WitnessMode::None);
    let home = Home::new();
    let dir = home.state();
    let (mut state, node) = log_in(&broker, &dir).await.unwrap();
    broker.log.lock().unwrap().roll_back(1);
    let logs = Logs::of_state(&dir);
    broker.asked.lock().unwrap().clear();
    let key = state.key.public();
    let mut failed = Vec::new();
    failed.push(issue(&mut state, &node, &dir).await.map(drop).unwrap_err());
    let link = to_broker(&state, &logs).await;
    let renewed = client::renew::renew(&link, &dir, &mut state, now(), &mut rng()).await;
    failed.push(renewed.map(drop).unwrap_err());
    let evidence = bootstrap(&broker);
    let login = client::login::login(&link, &dir, &mut state, &evidence, now(), &mut rng()).await;
    failed.push(login.map(drop).unwrap_err());
    let watched = Watched::node(&node, &state.pins, &logs).unwrap();
    failed.push(watched.until_denied(now).await.map(drop).unwrap_err());
    let denied = Denied {
        epoch: 3,
        reason: None,
    };
    failed.push(watched.wipe(&denied, 1, now(), WAIT).await.unwrap_err());
    for error in failed {
        assert!(matches!(error, Error::Log(_)), "{error:?}");
    }
    let asked = broker.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|verb| *verb == Verb::Consistency));
    let kept = NodeState::load(&dir).unwrap().unwrap();
    assert_eq!((kept.key.public(), kept.next.is_none()), (key, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_another_log_checks_is_used_for_nothing() {
    // rule: TLOG-5
    let (broker, key_server) = house(WitnessMode::None);
    let home = Home::new();
    let dir = home.state();
    let (mut state, node) = log_in(&broker, &dir).await.unwrap();
    let session = issue(&mut state, &node, &dir).await.unwrap();
    let opened = Opened::check(&session, &state.pins, now()).unwrap();
    broker.asked.lock().unwrap().clear();
    let logs = Logs::at(home.path("elsewhere"));
    // The server's own name, and keys that somebody else has.
    let forged = broker.log.lock().unwrap().signed_by(99).key();
    let link = LoggedLink::connect(&state.pins.broker, &forged, &logs, WAIT);
    let link = link.await.unwrap();
    let evidence = bootstrap(&broker);
    let login = client::login::login(&link, &dir, &mut state, &evidence, now(), &mut rng()).await;
    let renewed = client::renew::renew(&link, &dir, &mut state, now(), &mut rng()).await;
    let wanted = wanted();
    let issued = client::issue::issue(&link, &mut state, &node, &wanted, now(), &mut rng()).await;
    let forged = key_server.log.lock().unwrap().signed_by(99).key();
    let server = opened.server();
    let link = LoggedLink::connect(&server, &forged, &logs, WAIT);
    let presented = Presented::present(link.await.unwrap(), &session, opened.clone()).await;
    let all = [
        login.map(drop),
        renewed.map(drop),
        issued.map(drop),
        presented.map(drop),
    ];
    for ended in all {
        assert!(matches!(ended, Err(Error::Answer { .. })), "{ended:?}");
    }
    assert!(broker.asked.lock().unwrap().is_empty());
    assert!(key_server.asked.lock().unwrap().is_empty());
}

async fn run(home: &Home, arguments: &[&str]) -> Said {
    let mut command = home.command(arguments);
    let said = tokio::task::spawn_blocking(move || Said::from(command.output().unwrap()));
    said.await.unwrap()
}

/// A home that has logged in at this broker.
fn at_home(broker: &Fake) -> Home {
    let home = Home::new();
    home.logged_in(&broker.address.to_string(), tls_key(), 3_600);
    let mut state = NodeState::load(&home.state()).unwrap().unwrap();
    state.launch_digest = launch_digest();
    state.save(&home.state()).unwrap();
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_log_ends_with_9_and_is_forgotten_only_by_a_person() {
    // rule: TLOG-6
    let (broker, _) = house(WitnessMode::None);
    let home = at_home(&broker);
    broker.log.lock().unwrap().grow(6);
    let none = run(&home, &["logs"]).await;
    assert_eq!((none.code, none.out.lines().count()), (0, 1), "{none:?}");
    let said = run(&home, &["renew"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let listed = run(&home, &["logs", "--format", "json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let row = &listed["logs"][0];
    let origin = row["origin"].as_str().unwrap().to_owned();
    assert_eq!(
        (listed["v"].as_u64(), row["entries"].as_u64()),
        (Some(1), Some(7))
    );
    assert_eq!(row["state"], "good");
    assert_eq!((&row["shard"], &row["untied"]), (&1.into(), &0.into()));
    let status = run(&home, &["status", "--format", "json"]).await;
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["log"], origin.as_str());
    assert_eq!(status["log_entries_seen"], 7);

    broker.log.lock().unwrap().roll_back(3);
    for arguments in [&["renew"][..], &["issue", "faces"]] {
        let said = run(&home, arguments).await;
        assert_eq!((said.code, said.out.as_str()), (9, ""), "{said:?}");
        let three = ["broker's log", "7 entries", "postern logs forget"];
        assert!(
            said.err.contains(&origin) && three.iter().all(|part| said.err.contains(part)),
            "{said:?}"
        );
    }
    let doctor = run(&home, &["doctor", "--timeout", "5s"]).await;
    assert!(doctor.out.contains("7 entries"), "{doctor:?}");

    let said = run(&home, &["logs", "forget", &origin]).await;
    assert_eq!(said.code, 2, "nobody can be asked: {said:?}");
    let said = run(&home, &["logs", "forget", &origin, "--dry-run"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(run(&home, &["renew"]).await.code, 9);
    let said = run(&home, &["logs", "forget", "of/nobody", "--yes"]).await;
    assert_eq!(said.code, 6, "{said:?}");
    let said = run(&home, &["logs", "forget", &origin, "--yes"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let said = run(&home, &["renew"]).await;
    assert_eq!(said.code, 0, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_histories_are_listed_as_such_and_a_job_whose_key_is_not_logged_ends_with_9() {
    // rule: TLOG-5, TLOG-6, TLOG-8
    let (broker, key_server) = house(WitnessMode::Require);
    let home = at_home(&broker);
    assert_eq!(run(&home, &["renew"]).await.code, 0);
    let wrap = home.path("wrap");
    std::fs::write(&wrap, local_wrap()).unwrap();
    let redeem = ["dek", "redeem", "--dataset", "faces", "--reveal", &wrap];
    let said = run(&home, &redeem).await;
    assert_eq!(said.code, 0, "{said:?}");
    for lie in [Lie::OtherLog, Lie::NotLogged, Lie::Unwitnessed] {
        key_server.lies(Some((Verb::Redeem, lie)));
        let said = run(&home, &redeem).await;
        assert_eq!((said.code, said.out.as_str()), (9, ""), "{lie:?}: {said:?}");
    }
    key_server.lies(None);
    assert_eq!(run(&home, &redeem).await.code, 0);
    // As many entries, but others.
    let size = usize::try_from(key_server.log.lock().unwrap().size()).unwrap();
    {
        let mut log = key_server.log.lock().unwrap();
        log.roll_back(size);
        log.witnesses = vec![WITNESS];
    }
    let said = run(&home, &redeem).await;
    assert_eq!((said.code, said.out.as_str()), (9, ""), "{said:?}");
    assert!(said.err.contains("key server's log"), "{said:?}");
}

/// The bytes of a wrap that has the right shape.
fn local_wrap() -> Vec<u8> {
    let mut writer = ticket_format::cbor::Writer::new();
    writer
        .array(9)
        .uint(1)
        .uint(1)
        .bytes(&[1; 16])
        .bytes(&[2; 16]);
    writer.uint(3).bytes(&[5; 16]);
    ticket_format::wrapped::Origin::Generated.encode(&mut writer);
    writer.bytes(&[6; 24]).bytes(&[7; 48]);
    writer.into_bytes()
}
