//! Recovery recipients by real processes: what is encrypted for one dataset opens with another's ticket.

use std::fs;

use tests::home::Home;
use tests::house::{DATASET, House};
use tests::node::Iid;

/// A second dataset, its record file, and a node that may use both.
fn two_datasets() -> (House, Home, String) {
    let house = House::start();
    let policy = house.policy_file(r#"@id("all") permit (principal, action, resource);"#);
    let policy = policy.display().to_string();
    let out = house
        .dir
        .path()
        .join("vaulted.record")
        .display()
        .to_string();
    let create = [
        "dataset", "create", "vaulted", "--policy", &policy, "--out", &out,
    ];
    house.admin_does(&create).ok();
    house.admin_does(&create).ok();
    let iid = Iid::real(0);
    let user_data = house.launch(&iid.account).to_cloud_config();
    let home = Home::new(&house, "node", &iid, &user_data);
    home.run(&["login"]).ok();
    (house, home, out)
}

#[test]
fn what_is_encrypted_for_a_dataset_opens_with_its_recipients_ticket() {
    // rule: RCP-1, RCP-2, RCP-3
    let (house, home, recipient) = two_datasets();
    let path = |name: &str| home.dir.join(name).display().to_string();
    let (plain, before, after, out) = (
        path("plain"),
        path("before.postern"),
        path("after.postern"),
        path("out"),
    );
    fs::write(&plain, vec![7; 100_000]).expect("written");
    let encrypt =
        |to: &str| home.run(&["encrypt", "--dataset", DATASET, "--name", "a", &plain, to]);
    encrypt(&before).ok();
    house
        .admin_does(&["dataset", "record", DATASET, "--recipient", &recipient])
        .ok();
    let shown = house.as_admin("operator", &["dataset", "show", DATASET]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    // The record that the ticket brought names no recipient yet: the next ticket's does.
    home.run(&["issue", DATASET, "--action", "decrypt,encrypt"])
        .ok();
    encrypt(&after).ok();
    home.run(&["issue", "vaulted", "--action", "decrypt"]).ok();
    let decrypt = |dataset: &str, from: &str, more: &[&str]| {
        let _ = fs::remove_file(&out);
        let arguments = ["decrypt", "--dataset", dataset, "--name", "a", from, &out];
        home.run(&[&arguments, more].concat())
    };
    decrypt(DATASET, &after, &[]).ok();
    // Nobody signs a recovery.
    let unsigned = decrypt("vaulted", &after, &[]);
    assert_eq!(unsigned.code, Some(9), "{}", unsigned.stderr);
    assert!(
        unsigned.stderr.contains("--accept-unsigned"),
        "{}",
        unsigned.stderr
    );
    decrypt("vaulted", &after, &["--accept-unsigned"]).ok();
    assert_eq!(fs::read(&out).expect("decrypted"), vec![7; 100_000]);
    // What was encrypted before has none.
    let none = decrypt("vaulted", &before, &["--accept-unsigned"]);
    assert_eq!(none.code, Some(4), "{}", none.stderr);
    // A recovery is of its own object: another's does not open it.
    let header = |bytes: &[u8]| 10 + usize::from(u16::from_be_bytes([bytes[8], bytes[9]]));
    let other = path("other.postern");
    encrypt(&other).ok();
    let (a, b) = (fs::read(&after).expect("it"), fs::read(&other).expect("it"));
    let list = |bytes: &[u8]| {
        let (map, end) = (&bytes[..header(bytes)], header(bytes));
        // The recoveries are the map's last member: from their realm's array on.
        let at = map.windows(3).rposition(|w| w == [0x04, 0x81, 0x83]);
        at.expect("a recovery") + 1..end
    };
    let mut mixed = a[..list(&a).start].to_vec();
    mixed.extend_from_slice(&b[list(&b)]);
    mixed.extend_from_slice(&a[header(&a)..]);
    fs::write(&other, mixed).expect("written");
    let mixed = decrypt("vaulted", &other, &["--accept-unsigned"]);
    assert_eq!(mixed.code, Some(9), "{}", mixed.stderr);
    assert!(mixed.stderr.contains("recover"), "{}", mixed.stderr);
    // And taken away again.
    house
        .admin_does(&["dataset", "record", DATASET, "--no-recipients"])
        .ok();
    home.run(&["issue", DATASET, "--action", "decrypt,encrypt"])
        .ok();
    encrypt(&other).ok();
    let none = decrypt("vaulted", &other, &["--accept-unsigned"]);
    assert_eq!(none.code, Some(4), "{}", none.stderr);
}
