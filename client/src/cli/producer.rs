//! `producer`: keys of those who encrypt without any server.

use std::path::Path;

use serde_json::json;
use ticket_format::keys::ProducerSecret;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::statement::AdminSet;
use zeroize::Zeroizing;

use super::app::{App, Ended, now, rng};
use super::args::{self, KeyArgs};
use crate::producer::{ProducerKeys, trusted_set, verify_record};

/// `postern producer …`.
pub fn producer(app: &App, command: &args::Producer) -> Ended {
    let args::Producer::Init { out } = command;
    let secret = ProducerSecret::generate(&mut rng());
    store::files::create_private(out, &*secret.seed()).map_err(|error| {
        let code = match error {
            store::files::FileError::Exists(_) => exit::CONFLICT,
            _ => exit::LOCAL,
        };
        Report::new(code, "no producer's key was made")
            .why(error)
            .next("choose another place for it")
    })?;
    let (key, id) = (secret.public(), secret.public().id());
    app.done(
        key,
        json!({ "key": key.to_string(), "producer": id.to_string() }),
    )?;
    Ok(exit::DONE)
}

/// The keys of one upload with a dataset record.
///
/// # Errors
/// The record or the producer's secret cannot be used.
pub fn upload(record: &Path, args: &KeyArgs) -> Result<ProducerKeys, Report> {
    let admins = admin_set(args)?;
    let bytes = store::files::read_bounded(record, limits::STATEMENT as u64).map_err(|error| {
        Report::new(exit::CONFIG, "the dataset record cannot be read").why(error)
    })?;
    let refused = |error: crate::producer::RecordError| {
        Report::new(exit::INTEGRITY, "nothing was encrypted")
            .why(error)
            .next("ask the dataset's owner for the record, and an admin for the admin set in force")
    };
    let (realm, record) = verify_record(&bytes, &admins, now()).map_err(refused)?;
    let producer = args.producer.as_deref().map(secret).transpose()?;
    ProducerKeys::begin(realm, &record, producer).map_err(|error| match error {
        crate::producer::RecordError::Unregistered(_) => {
            Report::new(exit::CONFIG, "nothing was encrypted")
                .why(error)
                .next("have an admin register it, then take the new record")
        }
        other => refused(other),
    })
}

/// The admin set that the producer trusts.
fn admin_set(args: &KeyArgs) -> Result<AdminSet, Report> {
    let failed = |why: String| {
        Report::new(exit::CONFIG, "the admin set cannot be used")
            .why(why)
            .next("ask an admin for the admin set in force, and name its file")
    };
    let path = args
        .admin_set
        .as_deref()
        .ok_or_else(|| failed("--admin-set is missing".to_owned()))?;
    let bytes = store::files::read_bounded(path, limits::RECORD as u64)
        .map_err(|error| failed(error.to_string()))?;
    trusted_set(&bytes).map_err(|error| failed(format!("{}: {error}", path.display())))
}

fn secret(path: &Path) -> Result<ProducerSecret, Report> {
    let failed = |why: String| {
        Report::new(exit::CONFIG, "the producer's secret cannot be used")
            .why(why)
            .next("give a file that `postern producer init` made")
    };
    let bytes = store::files::read_private(path, 32).map_err(|error| failed(error.to_string()))?;
    let bytes = Zeroizing::new(bytes);
    let seed = <&[u8; 32]>::try_from(&bytes[..]);
    seed.map(ProducerSecret::from_seed)
        .map_err(|_| failed(format!("{} does not have 32 bytes", path.display())))
}
