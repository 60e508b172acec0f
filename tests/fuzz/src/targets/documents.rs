//! Other texts that we are given: user-data, certificates, keys and names in one line.

use ticket_format::bootstrap::Bootstrap;
use ticket_format::ids::{DatasetId, NodeId, TicketId};
use ticket_format::iid::RegionKeys;
use ticket_format::statement::AdminSet;
use ticket_format::ticket::{Action, Audience};
use ticket_format::tlog::LogKey;
use ticket_format::{limits, share_key};

use super::{DECIDES, READS, Target, one_encoding};
use crate::mutate::Form;
use crate::vectors;
use crate::world::world;

/// What EC2 hands an instance as user-data.
pub const USER_DATA: Target = Target {
    name: "user_data",
    form: Form::Text,
    runs: 12_000,
    room: READS,
    seeds: || {
        let mut seeds = vectors::all_texts(|file, member, _| {
            file.starts_with("bootstrap/") || member == "user_data"
        });
        seeds.extend(vectors::all_bytes(|_, member, _| {
            matches!(member, "user_data" | "bootstrap")
        }));
        seeds
    },
    run: user_data,
};

fn user_data(data: &[u8]) {
    // What stands in the line, without the base64 around it.
    if let Some(bootstrap) = one_encoding::<Bootstrap>(data) {
        let line = bootstrap.to_user_data_line();
        let found =
            Bootstrap::find(line.as_bytes()).map(|found| *found.to_user_data_line() == *line);
        // rule: BOOT-1
        assert!(data.len() > limits::USER_DATA / 2 || found == Ok(true));
    }
    match Bootstrap::find(data) {
        Ok(bootstrap) => {
            assert!(data.len() <= limits::USER_DATA);
            let line = bootstrap.to_user_data_line();
            let text = std::str::from_utf8(data).unwrap_or_default();
            // rule: BOOT-1
            assert!(
                text.is_empty()
                    || text
                        .lines()
                        .any(|one| without_blanks(one) == without_blanks(&line)),
                "a bootstrap has two encodings"
            );
            let _ = (
                bootstrap.launch_secret(),
                AdminSet::pinned(&bootstrap.admin_set),
            );
        }
        Err(error) => {
            let told = error.to_string();
            assert!(
                told.len() <= 512 && !told.contains(['\n', '\0']),
                "not one clear line: {told:?}"
            );
        }
    }
}

/// Blanks around the marker and around what follows it do not matter.
fn without_blanks(line: &str) -> String {
    line.split_whitespace().collect()
}

/// Certificates of AWS's regions that an operator puts in place of ours.
pub const CERTIFICATE: Target = Target {
    name: "certificate",
    form: Form::Der,
    runs: 15_000,
    room: DECIDES,
    seeds: || {
        let directory = vectors::project().join("ticket-format/src/iid/certs/rsa2048");
        let files = std::fs::read_dir(directory).expect("the regions' certificates");
        let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        files.sort();
        files
            .iter()
            .take(6)
            .map(|file| std::fs::read(file).expect("a certificate"))
            .collect()
    },
    run: certificate,
};

fn certificate(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match RegionKeys::from_pems([("eu-west-1", &text)]) {
        Ok(keys) => assert_eq!(keys.regions().collect::<Vec<_>>(), ["eu-west-1"]),
        Err(error) => assert!(error.to_string().len() <= 512),
    }
}

/// Names, keys and actions of one line, and the object locations that people type.
pub const LINES: Target = Target {
    name: "lines",
    form: Form::Text,
    runs: 4_000,
    room: READS,
    seeds: || {
        let world = world();
        let mut seeds = vec![
            share_key::write(&world.keys.job_sealing.public()),
            world.node.attributes.node.to_string(),
            Audience::Broker(world.realm.tls).to_string(),
            "decrypt".to_owned(),
            "00112233445566778899aabbccddeeff".to_owned(),
            "s3://bucket/dir/a.jpg".to_owned(),
            "/var/lib/object.postern".to_owned(),
            "a.00112233445566778899aabbccddeeff.postern-recovery".to_owned(),
        ];
        seeds.extend(
            world
                .keys
                .broker_log
                .key()
                .vkeys()
                .iter()
                .map(ToString::to_string),
        );
        seeds.into_iter().map(String::into_bytes).collect()
    },
    run: lines,
};

fn lines(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(key) = share_key::read(text) {
        assert_eq!(
            share_key::write(&key).trim_end(),
            text.trim_end_matches('\n'),
            "a share key has two texts"
        );
    }
    // What is read is written again as it was; people may write an id in capitals.
    macro_rules! one_text {
        ($($type:ty),*) => {$(
            if let Ok(value) = text.parse::<$type>() {
                assert_eq!(value.to_string(), text, "{} has two texts", stringify!($type));
            }
        )*};
    }
    one_text!(NodeId, Audience, Action);
    if let Ok(id) = text.parse::<TicketId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
        assert_eq!(text.parse(), Ok(DatasetId(id.0)));
    }
    let halves = text.split_once('\n').unwrap_or((text, text));
    if let Ok(key) = LogKey::from_vkeys(halves.0, halves.1) {
        assert_eq!(key.vkeys()[0].to_string(), halves.0);
    }
    let _ = text.parse::<client::s3::Location>();
    if let Some((of, dek)) = client::object::recovery::of(text) {
        assert_eq!(client::object::recovery::key(of, dek), text);
    }
    let shown = ticket_format::report::Printable(text).to_string();
    // rule: AUD-3 — nothing that a terminal would act on.
    assert!(
        !shown.chars().any(ticket_format::report::hides),
        "{shown:?} is not fit for a terminal"
    );
}
