//! `postern-admin` without a server: the key, configuration, policies, exit codes.

#[path = "support/logs.rs"]
mod logs;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::{PASSPHRASE, Place, said};
use ticket_format::statement::Role;

const NODE: &str = "ec2/123456789012/eu-west-1/i-0123456789abcdef0";

#[test]
fn init_makes_a_private_key_and_never_overwrites_it() {
    let place = Place::new();
    let card = place.init();
    let public = card.strip_prefix("postern-admin-card/1:me:file:").unwrap();
    assert!(
        public.len() == 64 && public.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{public}"
    );
    let key = fs::read_to_string(place.path("admin/admin-key")).unwrap();
    assert!(key.contains(public));
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (
            mode("admin"),
            mode("admin/admin-key"),
            mode("admin/admin.toml")
        ),
        (0o700, 0o600, 0o600)
    );
    let again = place.run(&[
        "init",
        "--realm",
        "example",
        "--name",
        "me",
        "--out",
        "admin",
        "--passphrase-file",
        "passphrase",
    ]);
    assert_eq!((again.code, again.out.as_str()), (7, ""));
    assert_eq!(
        fs::read_to_string(place.path("admin/admin-key")).unwrap(),
        key
    );
}

#[test]
fn a_passphrase_comes_from_stdin_but_not_from_a_file_that_others_read() {
    let place = Place::new();
    let made = said(
        place
            .command()
            .args(["init", "--realm", "example", "--name", "me", "--out", "a"])
            .write_stdin(format!("{PASSPHRASE}\n")),
    );
    assert_eq!(made.code, 0, "{}", made.err);
    let open = place.write("open", PASSPHRASE);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = place.run(&[
        "init",
        "--realm",
        "example",
        "--name",
        "me",
        "--out",
        "b",
        "--passphrase-file",
        "open",
    ]);
    assert_eq!(refused.code, 10, "{}", refused.err);
    assert!(!place.path("b").exists());
    assert_eq!(
        place
            .run(&["init", "--realm", "example", "--name", "me", "--out", "b"])
            .code,
        2,
        "stdin is empty"
    );
    place.write("short", "short\n");
    assert_eq!(
        place
            .run(&[
                "init",
                "--realm",
                "example",
                "--name",
                "me",
                "--out",
                "b",
                "--passphrase-file",
                "short"
            ])
            .code,
        2
    );
    assert!(!place.path("b/admin-key").exists());
}

/// Files of servers that nobody runs, for what fails before anything is sent.
fn servers(place: &Place) {
    let key = |seed: u8| tools_key(seed);
    let [ed25519, ml_dsa] = logs::secret(Role::Broker, 1).key().vkeys();
    let broker = format!(
        "realm = \"example\"\naddresses = [\"127.0.0.1:9\"]\ntls-key = \"{}\"\nticket-key = \"{}\"\nfeed-key = \"{}\"\nlog-keys = [\"{ed25519}\", \"{ml_dsa}\"]\n",
        key(1),
        key(2),
        key(3)
    );
    place.write("admin/broker-keys.toml", broker);
}

fn tools_key(seed: u8) -> String {
    ticket_format::keys::TlsSecret::from_seed(&[seed; 32])
        .public()
        .to_string()
}

#[test]
fn the_key_opens_with_its_own_passphrase_realm_and_file_only() {
    // rule: REST-1
    let place = Place::new();
    place.init();
    servers(&place);
    let list = |place: &Place, passphrase: &str| {
        place.write("other", passphrase);
        place.run(&[
            "node",
            "list",
            "--config",
            "admin/admin.toml",
            "--passphrase-file",
            "other",
            "--timeout",
            "1s",
        ])
    };
    let wrong = list(&place, "another passphrase");
    assert_eq!(wrong.code, 1, "{}", wrong.err);
    assert!(
        wrong.err.contains("passphrase") && !wrong.err.contains("another passphrase"),
        "{}",
        wrong.err
    );
    let right = list(&place, PASSPHRASE);
    assert_eq!(
        right.code, 8,
        "the key opens, and nobody answers: {}",
        right.err
    );
    // Another realm in the file: its seal does not fit.
    let key = fs::read_to_string(place.path("admin/admin-key")).unwrap();
    let config = fs::read_to_string(place.path("admin/admin.toml")).unwrap();
    let broker = fs::read_to_string(place.path("admin/broker-keys.toml")).unwrap();
    place.write("admin/admin-key", key.replace("\"example\"", "\"other\""));
    assert_eq!(
        list(&place, PASSPHRASE).code,
        10,
        "the key is of another realm than the configuration"
    );
    place.write(
        "admin/admin.toml",
        config.replace("\"example\"", "\"other\""),
    );
    place.write(
        "admin/broker-keys.toml",
        broker.replace("\"example\"", "\"other\""),
    );
    assert_eq!(list(&place, PASSPHRASE).code, 1, "the key was renamed");
    place.write("admin/admin-key", "format = 1\nreelm = \"x\"\n");
    let unknown = list(&place, PASSPHRASE);
    assert!(
        unknown.code == 10 && unknown.err.contains("reelm"),
        "{}",
        unknown.err
    );
}

#[test]
fn a_configuration_that_does_not_hold_is_told_with_its_line() {
    let place = Place::new();
    place.init();
    let list = |place: &Place| {
        place.run(&[
            "node",
            "list",
            "--config",
            "admin/admin.toml",
            "--passphrase-file",
            "passphrase",
        ])
    };
    let missing = list(&place);
    assert_eq!(
        missing.code, 10,
        "the broker's file is not there: {}",
        missing.err
    );
    place.write("admin/admin.toml", "realm = \"example\"\nbrokr = \"x\"\n");
    let unknown = list(&place);
    assert_eq!(unknown.code, 10);
    assert!(
        unknown.err.contains("line 2") && unknown.err.contains("broker"),
        "{}",
        unknown.err
    );
    let none = place.run(&["node", "list"]);
    assert_eq!(none.code, 10, "{}", none.err);
    assert_eq!(
        place.run(&["node", "list", "--config", "absent.toml"]).code,
        10
    );
}

#[test]
fn a_policy_is_checked_with_line_and_column() {
    // rule: POL-2, POL-3
    let place = Place::new();
    place.write(
        "good",
        "@id(\"all\") permit (principal, action, resource);\n",
    );
    let good = place.run(&["policy", "check", "good", "--format", "json"]);
    assert_eq!(good.code, 0, "{}", good.err);
    assert_eq!(good.json()["policies"][0], "all");
    for (text, wanted) in [
        ("permit (principal, action, resource);", "line 1, column 1"),
        (
            "@id(\"a\")\npermit (principal, action, resource)\nwhen { principal.regoin == \"x\" };",
            "line 3",
        ),
        ("@id(\"a\") permit (principal, action, resource)", "line 1"),
        (
            "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") permit (principal, action, resource);",
            "line 2, column 1",
        ),
    ] {
        place.write("bad", text);
        let bad = place.run(&["policy", "check", "bad"]);
        assert_eq!((bad.code, bad.out.as_str()), (1, ""), "{text}");
        assert!(bad.err.contains(wanted), "{text}: {}", bad.err);
    }
    place.write("bad", [0xff, 0xfe]);
    assert_eq!(place.run(&["policy", "check", "bad"]).code, 1);
    place.write("bad", vec![b' '; 64 * 1024 + 1]);
    assert_eq!(place.run(&["policy", "check", "bad"]).code, 1);
}

#[test]
fn a_request_is_explained_by_the_policies_that_decide_it() {
    // rule: POL-5
    let place = Place::new();
    place.write(
        "policy",
        "@id(\"ireland\") permit (principal, action == Postern::Action::\"decrypt\", resource) when { principal.region == \"eu-west-1\" };\n\
         @id(\"no-maps\") forbid (principal, action, resource) when { context.pairs.hasTag(\"team\") && context.pairs.getTag(\"team\") == \"maps\" };\n",
    );
    let explain = |action: &str, extra: &[&str]| {
        let mut arguments = vec![
            "policy",
            "explain",
            "--policy",
            "policy",
            "--node",
            NODE,
            "--dataset",
            "faces",
            "--format",
            "json",
            "--action",
            action,
        ];
        arguments.extend(extra);
        place.run(&arguments)
    };
    let allowed = explain("decrypt", &[]);
    assert_eq!(allowed.code, 0, "{}", allowed.err);
    assert_eq!(allowed.json()["deciding"][0], "ireland");
    let forbidden = explain("decrypt", &["--context", "team=maps"]);
    assert_eq!(
        (forbidden.code, forbidden.json()["deciding"][0].as_str()),
        (4, Some("no-maps"))
    );
    let nothing = explain("encrypt", &[]);
    assert_eq!(
        (nothing.code, nothing.json()["allowed"].as_bool()),
        (4, Some(false))
    );
    assert_eq!(explain("eat", &[]).code, 2);
}

#[test]
fn a_secret_goes_into_json_only_when_it_is_revealed() {
    let place = Place::new();
    place.init();
    servers(&place);
    let create = [
        "launch",
        "create",
        "--account",
        "123456789012",
        "--format",
        "json",
        "--config",
        "admin/admin.toml",
    ];
    let refused = place.run(&create);
    assert_eq!((refused.code, refused.out.as_str()), (2, ""));
    assert!(refused.err.contains("--reveal"), "{}", refused.err);
}

#[test]
fn a_dataset_cannot_wait_for_witnesses_that_nobody_named() {
    // rule: TLOG-8
    let place = Place::new();
    place.write(
        "policy",
        "@id(\"all\") permit (principal, action, resource);",
    );
    let witness = ticket_format::tlog::WitnessSecret::from_seeds("w1", &[7; 32], &[8; 32]).unwrap();
    let [vkey, _] = witness.vkeys();
    place.write("good", format!("witness w1 {vkey}\nquorum w1\n"));
    place.write("nobody", format!("witness w1 {vkey}\nquorum none\n"));
    place.write("no-policy", "witness w1\n");
    let create = |extra: &[&str]| {
        let mut arguments = vec!["dataset", "create", "faces", "--policy", "policy"];
        arguments.extend(extra);
        place.run(&arguments).code
    };
    // Beyond these checks the configuration is missing.
    assert_eq!(create(&["--witness=require", "--witness-policy=good"]), 10);
    assert_eq!(create(&["--witness=none"]), 10);
    assert_eq!(create(&["--witness=require"]), 2);
    assert_eq!(create(&["--witness-policy=good"]), 2);
    assert_eq!(create(&["--witness=watch", "--witness-policy=nobody"]), 2);
    assert_eq!(
        create(&["--witness=watch", "--witness-policy=no-policy"]),
        1
    );
    assert_eq!(create(&["--witness=watch", "--witness-policy=absent"]), 1);
}

#[test]
fn a_launch_or_a_denial_that_cannot_be_is_refused_before_anything_is_sent() {
    let place = Place::new();
    let create = |extra: &[&str]| {
        let mut arguments = vec!["launch", "create", "--dry-run"];
        arguments.extend(extra);
        place.run(&arguments)
    };
    assert_eq!(create(&["--account", "123456789012"]).code, 0);
    // rule: LOG-9
    let many = create(&["--account", "123456789012", "--uses", "2"]);
    assert!(many.code == 2 && many.err.contains("group"), "{}", many.err);
    assert_eq!(
        create(&["--account", "123456789012", "--uses", "2", "--group"]).code,
        0
    );
    assert_eq!(create(&["--account", "12345"]).code, 2);
    assert_eq!(
        create(&[
            "--account",
            "123456789012",
            "--expires",
            "2020-01-01T00:00:00Z"
        ])
        .code,
        2
    );
    assert_eq!(
        create(&["--account", "123456789012", "--window", "5"]).code,
        2
    );
    assert_eq!(create(&[]).code, 2, "the account is mandatory");
    // rule: DEN-2
    assert_eq!(place.run(&["deny", "--reason", "x"]).code, 2);
    assert_eq!(
        place.run(&["deny", "--node", NODE]).code,
        2,
        "the reason is mandatory"
    );
    assert_eq!(
        place
            .run(&["deny", "--node", "i-0123", "--reason", "x"])
            .code,
        2
    );
    assert_eq!(
        place
            .run(&["deny", "--node", NODE, "--reason", &"x".repeat(257)])
            .code,
        2
    );
}

#[test]
fn help_explains_every_exit_code_and_refusal() {
    let place = Place::new();
    assert!(
        place
            .run(&["help", "exit-codes"])
            .out
            .contains("130\tinterrupted")
    );
    assert!(
        place
            .run(&["help", "environment"])
            .out
            .contains("POSTERN_ADMIN_CONFIG")
    );
    assert!(place.run(&["help", "refusals"]).out.contains("fork"));
    for which in ["14", "denied"] {
        let refusal = place.run(&["help", "refusal", which]);
        assert!(
            refusal.code == 0 && refusal.out.contains("denied") && refusal.out.contains("14"),
            "{}",
            refusal.out
        );
    }
    assert!(
        place
            .run(&["help", "launch", "create"])
            .out
            .contains("--max-age")
    );
    assert_eq!(place.run(&["help", "nonsense"]).code, 2);
    assert_eq!(place.run(&["help", "refusal", "99"]).code, 2);
    assert_eq!(place.run(&["nonsense"]).code, 2);
}

#[test]
fn completions_and_man_pages_are_made() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]);
        assert!(
            script.code == 0 && script.out.contains("postern-admin"),
            "{shell}"
        );
    }
    assert_eq!(place.run(&["man", "man"]).code, 0);
    assert!(place.path("man/postern-admin.1").exists());
    assert!(place.path("man/postern-admin-launch-create.1").exists());
}

/// Makes an admin; the card.
fn make(place: &Place, name: &str) -> String {
    let made = place.run(&[
        "init",
        "--realm",
        "example",
        "--name",
        name,
        "--out",
        name,
        "--passphrase-file",
        "passphrase",
    ]);
    assert_eq!(made.code, 0, "{}", made.err);
    made.out.trim().to_owned()
}

/// A command of one of these admins.
fn by(place: &Place, name: &str, arguments: &[&str]) -> support::Said {
    let config = format!("--config={name}/admin.toml");
    let mut all = vec![config.as_str(), "--passphrase-file=passphrase"];
    all.extend(arguments);
    place.run(&all)
}

#[test]
fn a_first_admin_set_is_drafted_by_one_and_signed_by_all() {
    // rule: SET-3, SET-1
    let place = Place::new();
    place.write("passphrase", PASSPHRASE);
    let [ops, ann, ben] = ["ops", "ann", "ben"].map(|name| make(&place, name));
    let admins = [
        format!("--admin={ops}=operator"),
        format!("--admin={ann}=dataset-owner,security"),
        format!("--admin={ben}=dataset-owner,security"),
    ];
    let draft = |by_whom: &str, admins: &[String], extra: &[&str]| {
        let mut all = vec!["admin-set", "draft", "--quorum=2", "--out=set"];
        all.extend(admins.iter().map(String::as_str));
        all.extend(extra);
        by(&place, by_whom, &all)
    };
    // rule: SET-4
    let overlap = [
        format!("--admin={ops}=operator,security"),
        admins[1].clone(),
        admins[2].clone(),
    ];
    assert_eq!(draft("ann", &overlap, &[]).code, 2);
    assert_eq!(
        draft("ann", &admins[..2], &[]).code,
        2,
        "two must sign, one may"
    );
    assert_eq!(draft("ann", &admins, &["--rule=deny=2"]).code, 2);
    assert_eq!(draft("ann", &admins, &["--rule=eat=2"]).code, 2);
    assert!(!place.path("set").exists());
    let drafted = draft("ann", &admins, &[]);
    assert!(
        drafted.code == 0 && drafted.out.contains("1 of 3 signatures"),
        "{} {}",
        drafted.out,
        drafted.err
    );
    assert!(
        drafted.err.contains("locks the realm out"),
        "n = k is warned of: {}",
        drafted.err
    );
    assert_eq!(draft("ann", &admins, &[]).code, 7, "nothing is overwritten");
    let unconfirmed = by(&place, "ben", &["approve", "set"]);
    assert_eq!(unconfirmed.code, 2, "{}", unconfirmed.err);
    let second = by(&place, "ben", &["approve", "set", "--yes"]);
    assert!(
        second.code == 0 && second.out.contains("2 of 3 signatures"),
        "{} {}",
        second.out,
        second.err
    );
    let early = place.write("ops/admin-set.cose", fs::read(place.path("set")).unwrap());
    let known = by(&place, "ops", &["admin-set", "show"]);
    assert_eq!(
        known.code,
        9,
        "one has not signed {}: {}",
        early.display(),
        known.err
    );
    let last = by(
        &place,
        "ops",
        &["approve", "set", "--yes", "--format", "json"],
    );
    assert_eq!(last.code, 0, "{}", last.err);
    assert_eq!(last.json()["signers"].as_array().unwrap().len(), 3);
    place.write("ops/admin-set.cose", fs::read(place.path("set")).unwrap());
    let known = by(&place, "ops", &["admin-set", "show"]);
    assert!(
        known.code == 0 && known.out.contains("admin \"ann\": dataset-owner, security"),
        "{} {}",
        known.out,
        known.err
    );
    let again = by(&place, "ops", &["approve", "set", "--yes"]);
    assert!(
        again.code == 0 && again.err.contains("signed it already"),
        "{}",
        again.err
    );
}
