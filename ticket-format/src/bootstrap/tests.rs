use super::*;
use crate::messages::mutate::strict;
use crate::messages::samples::{key, log_secret};

fn sample() -> Bootstrap {
    Bootstrap {
        realm: "example".into(),
        launch: LaunchId([1; 16]),
        secret: BootstrapSecret::from_bytes([0xa5; 32]),
        brokers: vec!["broker.example:7420".into()],
        broker_key: key(1),
        admin_set: vec![0xa4; 300],
        launch_digest: StatementDigest([4; 32]),
        ticket_key: key(5),
        log_key: log_secret().key().clone(),
    }
}

#[test]
fn a_bootstrap_holds_to_its_shape() {
    // rule: ENC-3
    strict(&sample(), &[], &[]);
}

#[test]
fn the_line_is_found_wherever_it_stands() {
    // rule: BOOT-1
    let line = sample().to_user_data_line();
    for text in [
        line.to_string(),
        format!("{}\n", *line),
        format!("#!/bin/sh\necho hello\n{}\r\nexit 0\n", *line),
        format!("#cloud-config\npackages:\n  - curl\n    {}   \n", *line),
        sample().to_cloud_config().to_string(),
    ] {
        assert_eq!(Bootstrap::find(text.as_bytes()), Ok(sample()), "{text}");
    }
}

#[test]
fn the_largest_bootstrap_fits_into_user_data() {
    // rule: BOOT-1
    let largest = Bootstrap {
        realm: "r".repeat(NAME),
        brokers: vec!["a".repeat(ADDRESS); 8],
        admin_set: vec![0xa4; ADMIN_SET],
        ..sample()
    };
    let text = largest.to_cloud_config();
    assert!(text.len() <= USER_DATA, "{} bytes", text.len());
    assert_eq!(Bootstrap::find(text.as_bytes()), Ok(largest));
}

#[test]
fn user_data_without_one_whole_line_is_refused_with_a_reason() {
    // rule: BOOT-1
    let line = sample().to_user_data_line();
    assert_eq!(
        Bootstrap::find(b"#cloud-config\n"),
        Err(BootstrapError::Missing)
    );
    assert_eq!(Bootstrap::find(b""), Err(BootstrapError::Missing));
    assert_eq!(Bootstrap::find(&[0xff; 100]), Err(BootstrapError::Missing));
    assert_eq!(
        Bootstrap::find(format!("\n{0}\n{0}\n", *line).as_bytes()),
        Err(BootstrapError::Twice(2, 3))
    );
    assert_eq!(
        Bootstrap::find(&vec![b'\n'; USER_DATA + 1]),
        Err(BootstrapError::TooLarge(USER_DATA + 1))
    );
    for end in labels::BOOTSTRAP_MARKER.len()..line.len() {
        let found = Bootstrap::find(&line.as_bytes()[..end]);
        assert!(
            matches!(found, Err(BootstrapError::Damaged { line: 1, .. })),
            "cut to {end}: {found:?}"
        );
    }
    assert!(matches!(
        Bootstrap::find(format!("{}=", *line).as_bytes()),
        Err(BootstrapError::Damaged {
            what: Damage::Base64,
            ..
        })
    ));
}

#[test]
fn neither_the_bootstrap_nor_its_errors_print_the_secret() {
    let text = format!("{:?}", sample());
    assert!(!text.contains("165") && !text.contains("a5a5"), "{text}");
    let damaged = Bootstrap::find(b"# postern/1 pSECRETp!").unwrap_err();
    assert!(!damaged.to_string().contains("SECRET"));
}

#[test]
fn the_launch_key_depends_on_secret_and_launch_alone() {
    // rule: BOOT-2
    let one = sample().launch_secret().public();
    assert_eq!(
        one,
        launch_secret(&BootstrapSecret::from_bytes([0xa5; 32]), LaunchId([1; 16])).public()
    );
    assert_ne!(
        one,
        launch_secret(&BootstrapSecret::from_bytes([0xa5; 32]), LaunchId([2; 16])).public()
    );
    assert_ne!(
        one,
        launch_secret(&BootstrapSecret::from_bytes([0xa6; 32]), LaunchId([1; 16])).public()
    );
}
