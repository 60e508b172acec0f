//! Aliases by real processes: given, used by jobs, moved to another dataset.

use std::fs;

use tests::home::Home;
use tests::house::{DATASET, House};
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
