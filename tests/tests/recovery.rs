//! Recovery recipients by real processes: what is encrypted for one dataset opens with another's ticket.

use std::fs;

use client::object::recovery::SUFFIX;
use client::s3::{AmazonS3Builder, Stores};
use futures::TryStreamExt;
use tests::foreign::{S3, S3_CREDENTIALS};
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

const BUCKET: &str = "bucket";

async fn s3() -> (S3, Stores) {
    let server = S3::start("moto");
    let builder = AmazonS3Builder::new()
        .with_access_key_id(S3_CREDENTIALS)
        .with_secret_access_key(S3_CREDENTIALS)
        .with_region("us-east-1");
    let stores = Stores::with_builder(builder, Some(&server.url)).expect("stores");
    stores.create_bucket(BUCKET).await.expect("a bucket");
    (server, stores)
}

/// `ls` of two objects, each with its recovery beside it.
fn are_shown_as_what_they_are(home: &Home, place: &str, recoveries: &[String]) {
    let text = home.run(&["ls", place]).ok();
    let said = home.run(&["ls", "--format", "json", place]).ok();
    let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let rows = json["objects"].as_array().expect("rows");
    assert_eq!(rows.len(), 4, "{json}");
    for key in recoveries {
        let (name, _) = key.rsplit_once('.').expect("a suffix");
        let (of, _) = name.rsplit_once('.').expect("a data key");
        let (name, of) = (
            format!("s3://{BUCKET}/{key}"),
            format!("s3://{BUCKET}/{of}"),
        );
        let of_name = |name: &str| rows.iter().find(|row| row["name"] == name);
        let row = of_name(&name).expect("a row");
        assert_eq!(
            (&row["kind"], &row["recovery_of"]),
            (&"recovery".into(), &of.as_str().into())
        );
        assert!(
            row["dataset"].is_null() && row["size"].as_u64() > Some(0),
            "{row}"
        );
        let object = of_name(&of).expect("its object");
        assert_eq!(
            (&object["kind"], object["recovery_of"].is_null()),
            (&"local".into(), true)
        );
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name}\t")));
        assert!(
            line.expect("a line")
                .ends_with(&format!("\trecovery\t{of}")),
            "{text}"
        );
    }
}

/// A recovery is neither decrypted, nor is anything encrypted to a name of one.
fn no_object_is_taken_for_one(home: &Home, place: &str, recovery: &str) {
    let back = home.dir.join("all");
    let (to, name) = (
        format!("{}/", back.display()),
        format!("s3://{BUCKET}/{recovery}"),
    );
    home.run(&["decrypt", "--dataset", DATASET, place, &to])
        .ok();
    let mut files: Vec<_> = fs::read_dir(&back)
        .expect("a directory")
        .map(|file| file.expect("a file").file_name())
        .collect();
    files.sort();
    assert_eq!(files, ["one", "two"]);
    for arguments in [
        ["decrypt", "--dataset", DATASET, &name, &to].as_slice(),
        &["cat", "--dataset", DATASET, &name],
    ] {
        let said = home.run(arguments);
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        assert!(
            said.stderr.contains("holds recoveries of"),
            "{}",
            said.stderr
        );
    }
    // A tree that recoveries were copied into: the rest is encrypted, they are not.
    let tree = home.dir.join("tree");
    let copied = tree.join(recovery.rsplit('/').next().expect("a name"));
    fs::create_dir(&tree).expect("a directory");
    fs::write(&copied, b"postern-recovery1").expect("written");
    fs::write(tree.join("one"), [9; 10]).expect("written");
    let elsewhere = format!("s3://{BUCKET}/elsewhere/");
    let tree = format!("{}/", tree.display());
    for (from, to) in [(&tree, &elsewhere), (&copied.display().to_string(), &name)] {
        let said = home.run(&["encrypt", "--dataset", DATASET, from, to]);
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        assert!(
            said.stderr.contains("is a name of recoveries"),
            "{}",
            said.stderr
        );
    }
    let said = home.run(&["ls", "--format", "json", &elsewhere]).ok();
    let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let rows = json["objects"].as_array().expect("rows").iter();
    let kinds: Vec<_> = rows.map(|row| row["kind"].as_str()).collect();
    assert_eq!(kinds, [Some("local"), Some("recovery")], "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn recoveries_stand_beside_objects_in_s3_and_outlive_a_rewrap() {
    // rule: RCP-3
    let (server, stores) = s3().await;
    let (house, mut home, recipient) = two_datasets();
    home.s3 = Some(server.url.clone());
    house
        .admin_does(&["dataset", "record", DATASET, "--recipient", &recipient])
        .ok();
    let [plain, back] = ["plain", "back"].map(|name| home.dir.join(name));
    for (name, len) in [("one", 10), ("two", 70_000)] {
        fs::create_dir_all(&plain).expect("a directory");
        fs::write(plain.join(name), vec![9; len]).expect("written");
    }
    let (from, place) = (
        format!("{}/", plain.display()),
        format!("s3://{BUCKET}/dir/"),
    );
    home.run(&["issue", DATASET, "--action", "decrypt,encrypt,rewrap"])
        .ok();
    home.run(&["encrypt", "--dataset", DATASET, &from, &place])
        .ok();
    let listed = || async {
        let all = stores.list(BUCKET, "dir/").try_collect::<Vec<_>>().await;
        let keys = all.expect("a list").into_iter().map(|object| object.key);
        keys.partition::<Vec<_>, _>(|key| key.ends_with(SUFFIX))
    };
    let (recoveries, objects) = listed().await;
    assert_eq!((recoveries.len(), objects.len()), (2, 2));
    are_shown_as_what_they_are(&home, &place, &recoveries);
    no_object_is_taken_for_one(&home, &place, &recoveries[0]);
    assert_eq!(listed().await, (recoveries, objects));
    // Another wrap of the same data key: its recovery stays.
    house.admin_does(&["dataset", "rotate", DATASET]).ok();
    let rewrap = ["--format", "json", "rewrap", &place, "--dataset", DATASET];
    let tally: serde_json::Value = serde_json::from_str(&home.run(&rewrap).ok()).expect("JSON");
    let counted = ["done", "recoveries", "plain", "looked"].map(|name| tally[name].as_u64());
    assert_eq!(counted, [2, 2, 0, 4].map(Some), "{tally}");
    home.run(&["issue", "vaulted", "--action", "decrypt"]).ok();
    let decrypt = |more: &[&str]| {
        let _ = fs::remove_dir_all(&back);
        let to = format!("{}/", back.display());
        let arguments = ["decrypt", "--dataset", "vaulted", &place, &to];
        home.run(&[&arguments, more].concat())
    };
    decrypt(&["--accept-unsigned"]).ok();
    for (name, len) in [("one", 10), ("two", 70_000)] {
        assert_eq!(fs::read(back.join(name)).expect("it"), vec![9; len]);
    }
    let part = format!("s3://{BUCKET}/dir/two");
    let cat = [
        "cat",
        "--dataset",
        "vaulted",
        "--accept-unsigned",
        "--range",
        "0-4",
        &part,
    ];
    assert_eq!(home.run(&cat).ok(), "\t\t\t\t\t");
    assert_ne!(decrypt(&[]).code, Some(0));
    // An object whose recovery was lost is one that this dataset does not open.
    let (recoveries, _) = listed().await;
    assert_eq!(recoveries.len(), 2);
    stores
        .copy(BUCKET, "dir/one", &recoveries[0])
        .await
        .expect("written over");
    let damaged = decrypt(&["--accept-unsigned"]);
    assert_ne!(damaged.code, Some(0), "{}", damaged.stderr);
    assert!(damaged.stderr.contains("recover"), "{}", damaged.stderr);
}
