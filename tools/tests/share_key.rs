//! `postern-admin share-key`: made, shown, bound to realm and passphrase, and made by `init` too.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::{PASSPHRASE, Place};
use ticket_format::share_key;

fn new(place: &Place, extra: &[&str]) -> support::Said {
    let mut arguments = vec!["share-key", "new", "--passphrase-file", "passphrase"];
    arguments.extend(extra);
    place.run(&arguments)
}

#[test]
fn a_share_key_is_a_private_file_and_a_line_to_hand_over() {
    // rule: ROOT-3
    let place = Place::new();
    place.write("passphrase", PASSPHRASE);
    let made = new(
        &place,
        &["--out", "mine", "--realm", "example", "--format", "json"],
    );
    assert_eq!(made.code, 0, "{}", made.err);
    let line = fs::read_to_string(place.path("mine.pub")).unwrap();
    let key = share_key::read(&line).unwrap();
    assert_eq!(made.json()["key_hash"], key.hash().to_string());
    assert_eq!(made.json()["public"], "mine.pub");
    let secret = fs::metadata(place.path("mine")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o777, 0o600);
    for (file, holds) in [
        ("mine", "a share key"),
        ("mine.pub", "a share key's public half"),
    ] {
        let shown = place.run(&["share-key", "show", file, "--format", "json"]);
        assert_eq!(shown.code, 0, "{}", shown.err);
        assert_eq!(shown.json()["key_hash"], key.hash().to_string(), "{file}");
        assert_eq!(shown.json()["holds"], holds);
    }
}

#[test]
fn a_share_key_is_never_overwritten() {
    let place = Place::new();
    place.write("passphrase", PASSPHRASE);
    let make = || new(&place, &["--out", "mine", "--realm", "example"]).code;
    assert_eq!(make(), 0);
    let secret = fs::read(place.path("mine")).unwrap();
    assert_eq!(make(), 7);
    // Half of one is not completed by half of another.
    fs::remove_file(place.path("mine")).unwrap();
    assert_eq!(make(), 7);
    assert!(!place.path("mine").exists());
    place.write("mine", &secret);
    fs::remove_file(place.path("mine.pub")).unwrap();
    assert_eq!(make(), 7);
    assert!(!place.path("mine.pub").exists());
    assert_eq!(fs::read(place.path("mine")).unwrap(), secret);
}

#[test]
fn what_is_no_share_key_is_told_in_one_line() {
    let place = Place::new();
    place.init();
    place.write("line", "postern-share-key/1:AAAA\n");
    place.write("huge.pub", vec![b'x'; 5_000]);
    let nobody = place.path("nobody");
    let nobody = nobody.to_str().unwrap();
    for (file, code) in [("line", 10), ("huge.pub", 10), (nobody, 10)] {
        let shown = place.run(&["share-key", "show", file]);
        assert_eq!((shown.code, shown.out.as_str()), (code, ""), "{file}");
        assert!(shown.err.contains("next:"), "{file}: {}", shown.err);
    }
    assert_eq!(
        new(&place, &["--out", "mine", "--realm", ""]).code,
        2,
        "no realm is called so"
    );
    assert_eq!(
        place
            .run(&["share-key", "new", "--out", "mine", "--realm", "example"])
            .code,
        2,
        "no passphrase came"
    );
    assert!(!place.path("mine").exists());
}

#[test]
fn init_makes_a_share_key_when_asked_and_is_as_ever_when_not() {
    let place = Place::new();
    place.init();
    let config = fs::read_to_string(place.path("admin/admin.toml")).unwrap();
    assert!(!config.contains("share-key"), "{config}");
    assert!(!place.path("admin/share-key").exists());
    let made = place.run(&[
        "init",
        "--realm",
        "example",
        "--name",
        "me",
        "--out",
        "other",
        "--passphrase-file",
        "passphrase",
        "--share-key",
    ]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.out.starts_with("postern-admin-card/1:me:file:"));
    assert_eq!(made.out.lines().count(), 1, "the card and nothing else");
    let line = fs::read_to_string(place.path("other/share-key.pub")).unwrap();
    let hash = share_key::read(&line).unwrap().hash().to_string();
    assert!(made.err.contains(&hash), "{}", made.err);
    let config = fs::read_to_string(place.path("other/admin.toml")).unwrap();
    assert!(config.contains("share-key = \"share-key\"\n"), "{config}");
    // A file that stands there already stops it before anything is made.
    for name in ["admin-key", "admin.toml"] {
        fs::remove_file(place.path("other").join(name)).unwrap();
    }
    let again = place.run(&[
        "init",
        "--realm",
        "example",
        "--name",
        "me",
        "--out",
        "other",
        "--passphrase-file",
        "passphrase",
        "--share-key",
    ]);
    assert_eq!(again.code, 7, "{}", again.err);
    assert!(!place.path("other/admin-key").exists());
}
