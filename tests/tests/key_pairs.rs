//! Key pairs by real processes: made, redeemed and read by other programs.

use std::fs;
use std::process::Command;

use tests::home::Home;
use tests::house::{DATASET, House};
use tests::node::Iid;

#[test]
fn a_key_pair_is_made_and_opened_as_other_programs_read_it() {
    // rule: GEN-2
    let house = House::start();
    let iid = Iid::real(0);
    let user_data = house.launch(&iid.account).to_cloud_config();
    let home = Home::new(&house, "node", &iid, &user_data);
    home.run(&["login"]).ok();
    let issue = ["issue", DATASET, "--action", "decrypt,encrypt,rewrap"];
    home.run(&issue).ok();
    let path = |name: &str| home.dir.join(name).display().to_string();
    for kind in ["x25519", "ed25519", "p-256"] {
        let [wrapped, public, private, again] =
            ["wrapped", "public", "private", "again"].map(|what| path(&format!("{kind}.{what}")));
        home.run(&[
            "dek",
            "generate",
            "--dataset",
            DATASET,
            "--name",
            "signing",
            "--key-pair",
            kind,
            "--out",
            &wrapped,
            "--public-out",
            &public,
            "--dek-out",
            &private,
        ])
        .ok();
        // The context says of which kind it is.
        let bare = [
            "dek",
            "redeem",
            "--dataset",
            DATASET,
            "--name",
            "signing",
            &wrapped,
        ];
        assert_eq!(home.run(&bare).code, Some(9));
        let pair = format!("key-pair={kind}");
        home.run(&[
            "dek",
            "redeem",
            "--dataset",
            DATASET,
            "--name",
            "signing",
            "--context",
            &pair,
            "--out",
            &again,
            &wrapped,
        ])
        .ok();
        let read = |path: &str| fs::read_to_string(path).expect("a file");
        assert_eq!(read(&private), read(&again));
        let openssl = Command::new("openssl")
            .args(["pkey", "-in", &again, "-pubout"])
            .output()
            .expect("openssl: apt-get install openssl");
        let said = String::from_utf8_lossy(&openssl.stderr);
        assert!(openssl.status.success(), "{kind}: {said}");
        assert_eq!(
            String::from_utf8_lossy(&openssl.stdout),
            read(&public),
            "{kind}"
        );
    }
    // A plain data key has no such pair, and a rewrap does not bring it in.
    let refused = home.run(&[
        "dek",
        "generate",
        "--dataset",
        DATASET,
        "--name",
        "a",
        "--context",
        "key-pair=ed25519",
    ]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("--key-pair"), "{}", refused.stderr);
    let wrapped = path("ed25519.wrapped");
    let unmade = home.run(&[
        "dek",
        "rewrap",
        "--dataset",
        DATASET,
        "--name",
        "signing",
        "--context",
        "key-pair=ed25519",
        "--new-context",
        "name=signing",
        &wrapped,
    ]);
    assert_eq!(unmade.code, Some(4), "{}", unmade.stderr);
    assert!(unmade.stderr.contains("44"), "{}", unmade.stderr);
}
