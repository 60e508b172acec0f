//! One's own key material by real processes: begun, wrapped here and by openssl, approved, exported, opened.
#![allow(missing_docs)]

use std::fs;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tests::house::{DATASET, House, Said, private};
use ticket_format::Context;
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::secret::SealingSeed;

fn json(said: Said) -> Value {
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    serde_json::from_slice(&said.stdout).expect("JSON")
}

fn keks(house: &House) -> Vec<Value> {
    let arguments = ["dataset", "keks", DATASET, "--format", "json"];
    let said = json(house.as_admin("operator", &arguments));
    said["keks"].as_array().expect("versions").clone()
}

/// Proposed by owner-1, approved by owner-2 with these arguments more; what the second was told.
fn by_both(house: &House, arguments: &[&str], approve: &[&str]) -> Said {
    let said = house.as_admin("owner-1", arguments);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let text = said.text();
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("proposed ")?.split(':').next())
        .unwrap_or_else(|| panic!("{text}"));
    house.as_admin("owner-2", &[&["approve", id, "--yes"], approve].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn material_is_brought_by_both_ways_and_a_version_taken_out_by_its_recipients() {
    // rule: IMP-1, IMP-2, IMP-3, IMP-4, PRO-3
    let house = House::with(|create| create.exportable = true);
    let path = |name: &str| house.path(name).display().to_string();
    let material: [u8; 32] = Sha256::digest("this test's material").into();
    private(&house.path("material"), &material);
    let commitment = ticket_format::ids::ProofHash(Sha256::digest(material).into()).to_string();

    // One owner begins; the keys are in a file, and beside it as openssl reads them.
    let keys = path("keys");
    let begin = ["dataset", "import", "begin", DATASET, "--out", &keys];
    let begun = json(house.as_admin("owner-1", &[&begin[..], &["--format", "json"]].concat()));
    assert_eq!(begun["rsa_key"], format!("{keys}.der"));
    let again = house.as_admin("owner-1", &begin);
    assert_eq!(again.code, Some(7), "{}", again.stderr);

    let (wrapped, bad) = (path("wrapped"), path("bad"));
    private(&house.path("bad"), &[7; 32]);
    let mut wrap = vec![
        "dataset",
        "import",
        "wrap",
        "--key",
        &keys,
        "--material",
        &bad,
    ];
    wrap.extend(["--out", &wrapped]);
    let refused = house.as_admin("operator", &wrap);
    assert_eq!(refused.code, Some(10), "{}", refused.stderr);
    let own = path("material");
    wrap[6] = &own;
    let said = json(house.as_admin("operator", &[&wrap[..], &["--format", "json"]].concat()));
    assert_eq!(
        (&said["how"], &said["digest"]),
        (&"hpke-x-wing".into(), &begun["digest"])
    );
    assert_eq!(said["commitment"], commitment);

    let finish = [
        "dataset",
        "import",
        "finish",
        DATASET,
        "--key",
        &keys,
        "--wrapped",
        &wrapped,
    ];
    let told = by_both(&house, &[&finish[..], &["--expires", "90d"]].concat(), &[]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(told.stderr.contains(&commitment), "{}", told.stderr);
    assert!(
        told.stderr.contains("version 2 is enabled then"),
        "{}",
        told.stderr
    );
    let rows = keks(&house);
    assert_eq!(
        (&rows[0]["version"], &rows[0]["origin"], &rows[0]["state"]),
        (&2.into(), &"imported".into(), &"enabled".into())
    );
    assert_eq!(rows[0]["commitment"], commitment);
    assert!(rows[0]["expires"].is_string(), "{}", rows[0]);
    let used = by_both(&house, &finish, &[]);
    assert_eq!(used.code, Some(7), "{}", used.stderr);
    assert!(used.stderr.contains("69"), "{}", used.stderr);

    // Another key, wrapped by openssl as an HSM does it.
    let second: [u8; 32] = Sha256::digest("this test's second material").into();
    private(&house.path("second"), &second);
    let keys = path("keys-2");
    let begin = ["dataset", "import", "begin", DATASET, "--out", &keys];
    assert_eq!(house.as_admin("owner-2", &begin).code, Some(0));
    let raw = path("raw");
    let openssl = Command::new("openssl")
        .args(["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER"])
        .args([
            "-inkey",
            &format!("{keys}.der"),
            "-in",
            &path("second"),
            "-out",
            &raw,
        ])
        .args(["-pkeyopt", "rsa_padding_mode:oaep"])
        .args(["-pkeyopt", "rsa_oaep_md:sha256"])
        .output()
        .expect("openssl: apt-get install openssl");
    assert!(openssl.status.success(), "{openssl:?}");
    let finish = [
        "dataset",
        "import",
        "finish",
        DATASET,
        "--key",
        &keys,
        "--wrapped",
        &raw,
    ];
    let unsaid = house.as_admin("owner-1", &finish);
    assert_eq!(unsaid.code, Some(2), "{}", unsaid.stderr);
    let commitment = ticket_format::ids::ProofHash(Sha256::digest(second).into()).to_string();
    let finish = [&finish[..], &["--commitment", &commitment]].concat();
    let told = by_both(&house, &finish, &[]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert_eq!(keks(&house)[0]["commitment"], commitment);

    // Two of three recipients take version 3 out.
    let to: Vec<String> = ["operator", "owner-1", "owner-2"]
        .iter()
        .map(|name| format!("{name}={}", path(&format!("admin-{name}/share-key.pub"))))
        .collect();
    let (unused, export) = (path("unused"), path("export"));
    let mut make = vec![
        "dataset",
        "export",
        "make",
        DATASET,
        "--version",
        "3",
        "--yes",
    ];
    make.extend(["--threshold", "2", "--out", &unused]);
    to.iter().for_each(|to| make.extend(["--to", to]));
    let told = by_both(&house, &make, &["--result", &export]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(told.stderr.contains("GIVES OUT"), "{}", told.stderr);
    let (share, out) = (path("share"), path("taken"));
    let open = ["dataset", "export", "open", &export, "--out", &out];
    let alone = house.as_admin("owner-1", &open);
    assert_eq!(alone.code, Some(4), "{}", alone.stderr);
    let opened = ["dataset", "export", "share", &export, "--out", &share];
    let said = house.as_admin("operator", &opened);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let open = [&open[..], &["--share", &share, "--format", "json"]].concat();
    let said = json(house.as_admin("owner-1", &open));
    let taken = fs::read(&out).expect("written");
    let mut seed = [0; 32];
    seed.copy_from_slice(&taken[32..]);
    let public = SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes(seed)).public();
    assert_eq!(taken.len(), 64);
    assert_eq!(said["public_key_hash"], public.hash().to_string());
    assert_eq!(
        keks(&house)[0]["public_key_hash"],
        public.hash().to_string()
    );

    // What it wraps under it still opens.
    let record = house.admin_does(&["dataset", "record", DATASET, "--out", &path("new.record")]);
    assert_eq!(record.code, Some(0), "{}", record.stderr);
    let node = house.node(0).await;
    let ticket = node.issue(&house.to_broker().await, DATASET).await;
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket.expect("a ticket")).await;
    let context = Context::named("a.jpg").expect("a context");
    let made = server.generate(&presented, &context).await;
    let (wrap, dek) = made.unwrap_or_else(|reply| panic!("{reply:?}"));
    let opened = server.redeem(&presented, &[(&*wrap, &context)]).await;
    let opened = opened.unwrap_or_else(|reply| panic!("{reply:?}")).remove(0);
    assert_eq!(opened.expect("opened").0, Some(dek));
}
