//! `postern-admin unseal`, `seal`, `rekey` and `drill` without a server: what is refused before anything is
//! sent.

mod support;

use support::{Place, Said};

/// An admin, and the share keys `a`, `b` and `c`.
fn place() -> Place {
    let place = Place::new();
    place.init();
    for name in ["a", "b", "c"] {
        let made = place.run(&[
            "share-key",
            "new",
            "--realm=example",
            "--passphrase-file=passphrase",
            "--out",
            name,
        ]);
        assert_eq!(made.code, 0, "{}", made.err);
    }
    place
}

fn as_admin(place: &Place, arguments: &[&str]) -> Said {
    let own = ["--config=admin/admin.toml", "--passphrase-file=passphrase"];
    place.run(&[arguments, &own[..]].concat())
}

#[test]
fn shares_that_cannot_be_given_out_so_are_refused_before_anything_is_sent() {
    // rule: ROOT-7
    let place = place();
    place.write("none.pub", "postern-share-key/1:AAAA\n");
    let rekey = |arguments: &[&str]| as_admin(&place, &[&["rekey"][..], arguments].concat());
    let two = ["--share=ann=a.pub", "--share=bob=b.pub"];
    for (wrong, why) in [
        (&["--threshold=3", two[0], two[1]][..], "3 of 2"),
        (&["--threshold=0", two[0], two[1]], "0 of 2"),
        (&["--threshold=1", two[0], "--share=ann=b.pub"], "twice"),
        (
            &["--threshold=2", two[0], "--share=bob=a.pub"],
            "same share key",
        ),
        (&["--threshold=1", "--share=ann"], "NAME=FILE"),
        (&["--threshold=1", "--share=a,b=a.pub"], "a name has"),
        (&["--threshold=1", "--share==a.pub"], "a name has"),
        (&["--threshold=1", "--share=ann="], "no share key"),
        (&["--threshold=1"], "--share"),
        (&[two[0]], "--threshold"),
    ] {
        let said = rekey(wrong);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{wrong:?}");
        assert!(said.err.contains(why), "{wrong:?}: {}", said.err);
    }
    // A secret file is no public one, and what is no key gets no share.
    for file in ["a", "none.pub", "absent.pub"] {
        let said = rekey(&["--threshold=1", &format!("--share=ann={file}")]);
        assert_eq!(said.code, 10, "{file}: {}", said.err);
    }
    let many: Vec<String> = (0..17).map(|at| format!("--share=n{at}=a.pub")).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    many.push("--threshold=2");
    assert_eq!(rekey(&many).code, 2);
}
