//! Aliases by real processes: given, used by jobs, moved to another dataset.

use std::fs;

use tests::home::Home;
use tests::house::{DATASET, House, Said};
use tests::node::Iid;

#[test]
fn jobs_that_ask_by_an_alias_follow_it_to_the_next_dataset() {
    // rule: ALI-1, ALI-2
    let house = House::start();
    let policy = house.dir.path().join("next.cedar");
    fs::write(
        &policy,
        r#"@id("restricted") permit (principal, action, resource) when { resource.class == 4 };"#,
    )
    .expect("a policy");
    let policy = policy.display().to_string();
    let out = house.dir.path().join("next.record").display().to_string();
    let create = [
        "dataset",
        "create",
        "next",
        "--policy",
        &policy,
        "--out",
        &out,
        "--class",
        "restricted",
    ];
    house.admin_does(&create).ok();
    house.admin_does(&create).ok();
    let shown = house.as_admin("operator", &["dataset", "show", "next"]);
    assert!(shown.text().contains("restricted"), "{}", shown.text());

    let iid = Iid::real(0);
    let user_data = house.launch(&iid.account).to_cloud_config();
    let home = Home::new(&house, "node", &iid, &user_data);
    home.run(&["login"]).ok();
    let path = |name: &str| home.dir.join(name).display().to_string();
    let (before, after) = (path("before"), path("after"));
    let generate = |out: &str| {
        let arguments = ["dek", "generate", "--dataset", "current", "--out", out];
        home.run(&arguments)
    };
    let unknown = generate(&before);
    assert_eq!(unknown.code, Some(6), "{}", unknown.stderr);
    house
        .admin_does(&["dataset", "alias", "set", "current", DATASET])
        .ok();
    generate(&before).ok();
    house
        .admin_does(&["dataset", "alias", "set", "current", "next"])
        .ok();
    let listed = house.as_admin("operator", &["dataset", "alias", "list"]);
    assert!(listed.text().contains("next"), "{}", listed.text());
    // The ticket that was got by the alias stays with its dataset; the next one does not.
    let issue = ["issue", "current", "--action", "decrypt,encrypt"];
    home.run(&issue).ok();
    generate(&after).ok();
    let dataset = |path: &str| {
        let bytes = fs::read(path).expect("a wrap");
        let wrap = ticket_format::wrapped::Wrapped::parse(&bytes).expect("a wrap");
        wrap.header().dataset
    };
    assert_ne!(dataset(&before), dataset(&after));
    let redeem =
        |name: &str, file: &str| home.run(&["dek", "redeem", "--dataset", name, file]).code;
    assert_eq!(redeem("current", &after), Some(0));
    assert_eq!(redeem(DATASET, &before), Some(0));
    assert_eq!(redeem("current", &before), Some(4));
    // Twice the same, and what is not there.
    let again = house.as_admin("owner-1", &["dataset", "alias", "set", "current", "next"]);
    assert_eq!(again.code, Some(7), "{}", again.stderr);
    let gone = house.as_admin("owner-1", &["dataset", "alias", "rm", "nothing"]);
    assert_eq!(gone.code, Some(7), "{}", gone.stderr);
}

/// The id of what this proposes.
fn proposed(said: &Said) -> String {
    let text = said.text();
    let id = text.lines().find_map(|line| {
        let rest = line.strip_prefix("proposed ")?;
        rest.split(':').next()
    });
    id.unwrap_or_else(|| panic!("{text}{}", said.stderr))
        .to_owned()
}

/// A dataset's id, as `dataset list` shows it.
fn id_of(house: &House, name: &str) -> String {
    let said = house.as_admin("operator", &["dataset", "show", name, "--format", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    shown["dataset"].as_str().expect("an id").to_owned()
}

#[test]
fn who_approves_an_alias_reads_which_dataset_it_names_now_and_which_it_will() {
    // rule: PRO-3, ALI-1, ADM-5
    let house = House::start();
    let policy = house.policy_file(r#"@id("all") permit (principal, action, resource);"#);
    let (policy, out) = (
        policy.display().to_string(),
        house.dir.path().join("next.record").display().to_string(),
    );
    let create = [
        "dataset", "create", "next", "--policy", &policy, "--out", &out,
    ];
    house.admin_does(&create).ok();
    house.admin_does(&create).ok();
    let ids = [DATASET, "next"].map(|name| id_of(&house, name));
    let alias = |arguments: &[&str]| {
        let arguments = [&["dataset", "alias"], arguments].concat();
        proposed(&house.as_admin("owner-1", &arguments))
    };
    let approve = |id: &str, more: &[&str]| {
        let arguments = [&["approve", id], more].concat();
        house.as_admin("owner-2", &arguments)
    };
    let reads = |said: &Said, lines: &[String]| {
        for line in lines {
            assert!(said.stderr.contains(line), "{line}: {}", said.stderr);
        }
    };
    let will = |name: &str, id: &str| {
        format!(r#"whoever asks for "current" gets dataset "{name}" ({id}) from now on"#)
    };
    let named =
        |name: &str, id: &str| format!(r#"until now "current" names dataset "{name}" ({id})"#);

    let first = alias(&["set", "current", DATASET]);
    let said = approve(&first, &["--dry-run"]);
    let lines = [
        will(DATASET, &ids[0]),
        r#"so far "current" names no dataset"#.to_owned(),
    ];
    reads(&said, &lines);
    // It was shown, and not signed.
    let unconfirmed = approve(&first, &[]);
    assert_eq!(unconfirmed.code, Some(2), "{}", unconfirmed.stderr);
    reads(&unconfirmed, &lines);
    approve(&first, &["--yes"]).ok();

    let swap = alias(&["set", "current", "next"]);
    let anew = alias(&["set", "current", DATASET, "--anew"]);
    let removal = alias(&["rm", "current"]);
    reads(
        &approve(&anew, &["--dry-run"]),
        &[
            will(DATASET, &ids[0]),
            "it names that dataset already".to_owned(),
        ],
    );
    reads(
        &approve(&removal, &["--dry-run"]),
        &[
            r#"takes the alias "current" away"#.to_owned(),
            named(DATASET, &ids[0]),
        ],
    );
    let said = approve(&swap, &["--yes"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    reads(&said, &[will("next", &ids[1]), named(DATASET, &ids[0])]);
    // What was proposed before the swap does not follow it: nobody signs it any more.
    for stale in [&removal, &anew] {
        let said = approve(stale, &["--yes"]);
        assert_eq!(said.code, Some(7), "{}", said.stderr);
        assert!(
            said.stderr.contains("another record of that alias"),
            "{}",
            said.stderr
        );
    }
    let listed = house.as_admin("operator", &["dataset", "alias", "list"]);
    assert!(listed.text().contains("next"), "{}", listed.text());
}
