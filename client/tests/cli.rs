//! The `postern` command as a process: exit codes, output, settings, signals.

mod cli_support;

use std::io::Read as _;
use std::process::Stdio;

use cli_support::{Home, Refusing, Said, closed_port, tls_key};
use serde_json::Value;
use ticket_format::Refusal;
use ticket_format::keys::TlsSecret;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn logged_in() -> Home {
    let home = Home::new();
    home.logged_in(&closed_port(), tls_key(), 3_600);
    home
}

#[test]
fn with_a_live_ticket_status_ends_with_0_and_without_one_or_after_its_end_with_3() {
    let home = Home::new();
    for arguments in [&["status"][..], &["status", "-q"], &["tickets"]] {
        let said = home.run(arguments);
        assert_eq!((said.code, said.out.as_str()), (3, ""), "{said:?}");
    }
    let live = logged_in();
    assert_eq!(live.run(&["status"]).code, 0);
    let quiet = live.run(&["status", "-q"]);
    assert_eq!(
        (quiet.code, quiet.out.as_str(), quiet.err.as_str()),
        (0, "", "")
    );
    let expired = Home::new();
    expired.logged_in(&closed_port(), tls_key(), -10);
    assert_eq!(expired.run(&["status", "-q"]).code, 3);
    let said = expired.run(&["status"]);
    assert_eq!(said.code, 3);
    assert!(
        said.out.contains("expired") && said.err.contains("next: run `postern login`"),
        "{said:?}"
    );
}

#[test]
fn wrong_usage_ends_with_2() {
    let home = Home::new();
    for arguments in [
        &[][..],
        &["nonsense"],
        &["issue"],
        &["issue", "faces", "--action", "delete"],
        &["--timeout", "soon", "renew"],
        &["help", "nonsense"],
        &["cat", "a", "--range", "9-8"],
        &["cp", "a", "b"],
        &["encrypt", "a", "b.postern", "--record", "r"],
        &["ls", "dir"],
        &["rewrap"],
        &["rewrap", "dir", "--dataset", "faces"],
        &["rewrap", "s3://bucket/a", "--plan", "p"],
        &[
            "rewrap",
            "s3://bucket/a",
            "--dataset",
            "a",
            "--dataset",
            "b",
        ],
        &["rewrap", "--plan", "p", "--journal", "j"],
    ] {
        let said = home.run(arguments);
        assert_eq!(said.code, 2, "{arguments:?}: {said:?}");
    }
}

#[test]
fn a_broker_that_does_not_answer_ends_with_8() {
    let said = logged_in().run(&["issue", "faces", "--timeout", "1s"]);
    assert_eq!(said.code, 8, "{said:?}");
    assert!(said.err.contains("cannot reach the broker"), "{said:?}");
}

#[test]
fn a_configuration_that_cannot_be_used_ends_with_10() {
    let home = Home::new();
    home.configure("timeout = \"1s\"\nwalet = \"FILE:/x\"\n");
    let said = home.run(&["status"]);
    assert_eq!(said.code, 10, "{said:?}");
    assert!(
        said.err
            .contains("line 2: unknown key \"walet\", did you mean \"wallet\"?"),
        "{said:?}"
    );

    let home = Home::new();
    let mut command = home.command(&["status"]);
    command.env("POSTERN_WALLET", "KEYRING:postern");
    home.logged_in(&closed_port(), tls_key(), 3_600);
    let said = Said::from(command.output().unwrap());
    assert_eq!(said.code, 10, "{said:?}");
}

#[test]
fn a_failure_on_this_machine_ends_with_1_and_a_taken_place_with_7() {
    let home = logged_in();
    let wallet = home.wallet().path().to_owned();
    std::fs::write(&wallet, "not a wallet").unwrap();
    let said = home.run(&["tickets"]);
    assert_eq!(said.code, 1, "{said:?}");

    let secret = home.path("producer");
    assert_eq!(home.run(&["producer", "init", "--out", &secret]).code, 0);
    assert_eq!(home.run(&["producer", "init", "--out", &secret]).code, 7);
}

#[test]
fn a_missing_object_ends_with_6_and_a_damaged_wrap_with_9() {
    let home = logged_in();
    let missing = home.path("missing");
    let said = home.run(&["dek", "redeem", "--dataset", "faces", &missing]);
    assert_eq!(said.code, 6, "{said:?}");
    std::fs::write(home.path("wrap"), b"\x89\x01damaged").unwrap();
    let said = home.run(&["dek", "redeem", "--dataset", "faces", &home.path("wrap")]);
    assert_eq!(said.code, 9, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_ends_with_its_documented_code_and_shows_number_name_and_detail() {
    let broker = Refusing::start(|_| {});
    let home = Home::new();
    home.logged_in(&broker.address.to_string(), tls_key(), 3_600);
    for refusal in Refusal::ALL {
        *broker.refusal.lock().unwrap() = *refusal;
        let mut command =
            home.command(&["issue", "faces", "--timeout", "100ms", "--format", "json"]);
        let said = tokio::task::spawn_blocking(move || Said::from(command.output().unwrap()));
        let said = said.await.unwrap();
        assert_eq!(
            said.code,
            i32::from(refusal.exit_code()),
            "{refusal}: {said:?}"
        );
        let last = said.err.lines().last().unwrap();
        let error = json(last);
        assert_eq!(error["v"], 1);
        let error = &error["error"];
        assert_eq!(error["refusal"]["number"], refusal.number());
        assert_eq!(error["refusal"]["name"], refusal.name());
        assert_eq!(error["exit"], refusal.exit_code());
        assert_eq!(error["why"], "because of this test");
        assert_eq!(said.out, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_another_key_than_the_pinned_one_ends_with_9_and_gets_no_request() {
    let broker = Refusing::start(|_| panic!("nothing may be sent to an impostor"));
    let home = Home::new();
    let other = TlsSecret::from_seed(&[99; 32]).public();
    home.logged_in(&broker.address.to_string(), other, 3_600);
    let mut command = home.command(&["renew", "--timeout", "5s"]);
    let said = tokio::task::spawn_blocking(move || Said::from(command.output().unwrap()));
    let said = said.await.unwrap();
    assert_eq!(said.code, 9, "{said:?}");
}

#[test]
fn an_interrupted_command_ends_with_130_and_leaves_nothing_half_written() {
    let home = Home::new();
    // A metadata service that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let mut command = home.command(&["login", "--timeout", "60s"]);
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        command.env_remove("AWS_EC2_METADATA_DISABLED");
        command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint);
        command.env("AWS_METADATA_SERVICE_TIMEOUT", "60");
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Once it has connected it listens for signals, too.
        let _connection = silent.accept().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
    assert!(!home.state().exists());
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let home = logged_in();
    for arguments in [
        &["help", "refusals"][..],
        &["tickets"],
        &["completions", "bash"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = home.command(arguments);
        let said = command
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(said.status.code(), Some(0), "{arguments:?}");
        assert!(
            said.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&said.stderr)
        );
    }
}

#[test]
fn colour_is_only_where_it_is_wanted() {
    let home = logged_in();
    let arguments = ["issue", "faces", "--timeout", "1ms", "-vv"];
    let with = |more: &[&str], variable: Option<(&str, &str)>| {
        let mut command = home.command(&[&arguments[..], more].concat());
        command.envs(variable);
        Said::from(command.output().unwrap()).err.contains('\u{1b}')
    };
    assert!(!with(&[], None), "a pipe is no terminal");
    assert!(!with(&[], Some(("NO_COLOR", "1"))));
    assert!(!with(&["--color", "never"], None));
    let mut help = home.command(&["--help"]);
    let help = Said::from(help.env("NO_COLOR", "1").output().unwrap());
    assert!(!help.out.contains('\u{1b}'));
}

#[test]
fn json_has_its_version_and_jsonl_one_object_on_each_line() {
    let home = logged_in();
    let status = json(&home.run(&["status", "--format", "json"]).out);
    assert_eq!(
        (&status["v"], &status["state"]),
        (&1.into(), &"live".into())
    );
    assert_eq!(
        status["node"],
        "ec2/123456789012/eu-west-1/i-0123456789abcdef0"
    );
    let expires = status["expires"].as_str().unwrap();
    assert!(expires.parse::<jiff::Timestamp>().is_ok(), "{expires}");

    let tickets = json(&home.run(&["tickets", "--format", "json"]).out);
    assert_eq!(tickets["v"], 1);
    assert_eq!(tickets["tickets"][0]["kind"], "node");
    assert_eq!(tickets["tickets"][0]["state"], "live");

    let lines = home.run(&["help", "refusals", "--format", "jsonl"]).out;
    assert_eq!(lines.lines().count(), Refusal::ALL.len());
    assert!(lines.lines().all(|line| json(line)["v"] == 1));

    let error = json(&Home::new().run(&["tickets", "--format", "json"]).err);
    assert_eq!(error["error"]["exit"], 3);
    for part in ["what", "why", "next"] {
        assert!(error["error"][part].is_string(), "{error}");
    }
}

#[test]
fn tables_in_a_pipe_are_tab_separated_with_or_without_their_first_line() {
    let home = logged_in();
    let with = home.run(&["tickets"]).out;
    assert!(with.starts_with("KIND\tDATASET\t"), "{with}");
    let without = home.run(&["tickets", "--no-header"]).out;
    assert!(without.starts_with("node\t-\t"), "{without}");
}

#[test]
fn the_settings_in_force_are_shown_with_their_origin() {
    let home = Home::new();
    home.configure("s3 = \"http://127.0.0.1:9000\"\nparallel = 8\n");
    let said = home.run(&[
        "config",
        "show",
        "--origin",
        "--format",
        "json",
        "--timeout",
        "7s",
    ]);
    let settings = json(&said.out)["settings"].clone();
    let of = |name: &str| {
        let settings = settings.as_array().unwrap();
        let found = settings
            .iter()
            .find(|setting| setting["setting"] == name)
            .unwrap();
        (
            found["value"].clone(),
            found["origin"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(of("timeout"), ("7s".into(), "flag".to_owned()));
    assert_eq!(of("state").1, "POSTERN_STATE");
    assert!(of("s3").1.ends_with("config/postern/config.toml"));
    assert_eq!(of("parallel").0, "8");
    assert_eq!(of("color"), ("auto".into(), "default".to_owned()));
    assert_eq!(of("region-keys").1, "unset");
}

#[test]
fn no_output_holds_a_secret() {
    let home = Home::new();
    let (_, canaries) = home.logged_in(&closed_port(), tls_key(), 3_600);
    let secret = home.path("producer");
    let commands: &[&[&str]] = &[
        &["status"],
        &["tickets"],
        &["doctor", "--timeout", "200ms"],
        &["config", "show", "--origin"],
        &["issue", "faces", "--timeout", "200ms"],
        &["renew", "--timeout", "200ms"],
        &["producer", "init", "--out", &secret],
        &["logout", "--dry-run"],
    ];
    let mut said = String::new();
    for arguments in commands {
        for format in ["text", "json"] {
            let ended = home.run(&[arguments, &["-vvv", "--format", format][..]].concat());
            said += &(ended.out + &ended.err);
        }
    }
    let made = std::fs::read(&secret).unwrap().try_into().unwrap();
    for canary in canaries.into_iter().chain([made]) {
        let hex: String = canary.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!said.contains(&hex));
        assert!(!said.contains(&client::cli::output::base64url(&canary)));
        assert!(!said.contains(&format!("{canary:?}")));
    }
}

#[test]
fn logging_out_erases_the_wallet_and_the_node_key_only_when_that_is_said() {
    let home = logged_in();
    let state = client::state::NodeState::path(&home.state());
    let dry = home.run(&["logout", "--forget", "--dry-run"]);
    assert!(dry.out.contains("would erase"), "{dry:?}");
    assert!(home.wallet().path().exists() && state.exists());
    // Nobody is there to be asked.
    assert_eq!(home.run(&["logout", "--forget"]).code, 2);
    assert!(home.wallet().path().exists() && state.exists());
    assert_eq!(home.run(&["logout"]).code, 0);
    assert!(!home.wallet().path().exists() && state.exists());
    assert_eq!(home.run(&["logout", "--forget", "--yes"]).code, 0);
    assert!(!state.exists());
    assert_eq!(home.run(&["logout"]).code, 0, "again does no harm");
}

#[test]
fn a_login_without_a_metadata_service_says_so() {
    let home = Home::new();
    let said = home.run(&["login", "--timeout", "1s"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("AWS_EC2_METADATA_DISABLED"), "{said:?}");
    assert!(
        !home.state().exists(),
        "nothing is made before there is evidence"
    );
}

#[test]
fn doctor_names_each_fault_and_its_next_step() {
    let home = logged_in();
    let said = home.run(&["doctor", "--timeout", "300ms", "--format", "json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let checks = json(&said.out)["checks"].clone();
    let result = |name: &str| {
        let checks = checks.as_array().unwrap();
        let check = checks.iter().find(|check| check["check"] == name);
        check.unwrap_or_else(|| panic!("{name}"))["result"].clone()
    };
    assert_eq!(result("metadata"), "FAIL");
    assert_eq!(result("state"), "ok");
    assert_eq!(result("wallet"), "ok");
    assert_eq!(result("node ticket"), "ok");
    assert_eq!(result("broker"), "FAIL");
    // The ticket was issued two hours before the wallet was written.
    assert_eq!(result("clock"), "FAIL");
}

#[test]
fn help_topics_completions_and_man_pages_cover_every_command() {
    let home = Home::new();
    for topic in ["exit-codes", "environment", "wallet", "refusals", "login"] {
        let said = home.run(&["help", topic]);
        assert_eq!(said.code, 0);
        assert!(said.out.lines().count() > 4, "{topic}: {said:?}");
    }
    let codes = home.run(&["help", "exit-codes", "--no-header"]).out;
    for code in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130] {
        assert!(
            codes
                .lines()
                .any(|line| line.starts_with(&format!("{code}\t"))),
            "{code}"
        );
    }
    let refusal = home.run(&["help", "refusal", "14"]).out;
    assert!(refusal.starts_with("refusal 14: denied\n"), "{refusal}");
    assert_eq!(home.run(&["help", "refusal", "denied"]).out, refusal);
    let man = home.path("man");
    assert_eq!(home.run(&["man", &man]).code, 0);
    for page in ["postern.1", "postern-login.1", "postern-dek-redeem.1"] {
        assert!(std::path::Path::new(&man).join(page).exists(), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            home.run(&["completions", shell]).out.contains("postern"),
            "{shell}"
        );
    }
}

#[test]
fn a_bare_pipe_of_standard_input_is_no_wrapped_key() {
    let home = logged_in();
    let mut command = home.command(&["dek", "redeem", "--dataset", "faces", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9), "{err}");
}
