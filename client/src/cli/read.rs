//! `cat` and `ls`.

use std::sync::Arc;

use futures::stream::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use ticket_format::report::{Report, exit};
use ticket_format::ticket::Action;
use ticket_format::wrapped::{Origin, Wrapped};

use super::app::{App, Ended};
use super::args::{Cat, Ls};
use super::copy::{is_broken_pipe, report};
use super::issue::{Need, by_agent, keys};
use super::plan::store_report;
use super::watch::unless_denied;
use crate::object::metadata::MetadataError;
use crate::object::plaintext_len;
use crate::object::s3ec::{self, S3ecError};
use crate::s3::copy::{ByteRange, Quiet, cat_range_as};
use crate::s3::recovery::Standing;
use crate::s3::{Listed, Location, StoreError, Stores};

/// Metadata of this many objects is read at one time.
const HEADS_IN_FLIGHT: usize = 16;

/// `postern cat`.
pub async fn cat(app: &App, args: &Cat) -> Ended {
    let stores = app.stores()?;
    let need = Need {
        dataset: args.dataset.as_deref(),
        action: Action::Decrypt,
        budget: 1,
        accept_unsigned: args.accept_unsigned,
    };
    let (name, range, reading) = (args.name.as_deref(), args.range, args.read.reading());
    let mut out = tokio::io::stdout();
    let done = match by_agent(app, &need).await? {
        Some(keys) => {
            cat_range_as(&stores, &keys, &args.from, name, range, reading, &mut out).await
        }
        None => {
            let keys = keys(app, &need).await?;
            unless_denied(app, keys, Arc::new(Quiet), async |keys, _| {
                cat_range_as(&stores, keys, &args.from, name, range, reading, &mut out).await
            })
            .await?
        }
    };
    match done {
        Ok(_) => Ok(exit::DONE),
        // Who reads has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(exit::DONE),
        Err(error) => Err(report(&error)),
    }
}

/// Reads `a-b`, `a-` or `-n` as in an HTTP range.
///
/// # Errors
/// Another form.
pub fn byte_range(text: &str) -> Result<ByteRange, String> {
    let wrong = || "expected A-B (B included), A- or -N".to_owned();
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    match text.split_once('-') {
        Some(("", last)) => Ok(ByteRange::Last(number(last)?)),
        Some((start, "")) => Ok(ByteRange::From(number(start)?)),
        Some((start, end)) => {
            let (start, end) = (number(start)?, number(end)?);
            let past = end.checked_add(1).filter(|past| start < *past);
            Ok(ByteRange::Between(start, past.ok_or_else(wrong)?))
        }
        None => Err(wrong()),
    }
}

/// `recovery_of`: the object whose recoveries it holds.
const COLUMNS: [&str; 6] = [
    "name",
    "size",
    "dataset",
    "kek_version",
    "kind",
    "recovery_of",
];

/// `postern ls`.
pub async fn ls(app: &App, args: &Ls) -> Ended {
    let Location::S3 { bucket, key } = &args.place else {
        return Err(Report::new(exit::USAGE, "nothing was listed")
            .why("only s3://bucket/prefix can be listed"));
    };
    let stores = app.stores()?;
    let rows = stores
        .list(bucket, key)
        .map(|listed| async {
            let listed = listed?;
            row(&stores, bucket, listed).await
        })
        .buffered(HEADS_IN_FLIGHT)
        .try_collect::<Vec<_>>()
        .await
        .map_err(|error| store_report("nothing was listed", &error))?;
    let rows = rows.into_iter().flatten().collect();
    app.out.rows("objects", &COLUMNS, rows)?;
    Ok(exit::DONE)
}

/// One object; none for one that went away meanwhile. What it says of itself is not proven before
/// its key is redeemed.
async fn row(
    stores: &Stores,
    bucket: &str,
    listed: Listed,
) -> Result<Option<Vec<Value>>, StoreError> {
    let head = match stores.head(bucket, &listed.key).await {
        Err(StoreError::NotFound(_)) => return Ok(None),
        other => other?,
    };
    let name = json!(format!("s3://{bucket}/{}", listed.key));
    let bare = |kind: &str, recovery_of: Value| {
        let (size, kind) = (json!(head.size), json!(kind));
        vec![
            name.clone(),
            size,
            Value::Null,
            Value::Null,
            kind,
            recovery_of,
        ]
    };
    let metadata = match Standing::of(&listed.key, &head) {
        Standing::Encrypted(metadata) => metadata,
        // rule: AMZ-11
        Standing::S3ec(metadata) => {
            let version = Wrapped::parse(&metadata.wrapped).map(|wrap| wrap.header().kek_version);
            return Ok(Some(vec![
                name,
                s3ec::plaintext_len(head.size).map_or(Value::Null, |len| json!(len)),
                json!(metadata.dataset.to_string()),
                version.map_or(Value::Null, |version| json!(version)),
                json!("s3ec"),
                Value::Null,
            ]));
        }
        Standing::Refused(MetadataError::S3ec(S3ecError::NotOurs)) => {
            return Ok(Some(bare("s3ec", Value::Null)));
        }
        // rule: RCP-3
        Standing::Recoveries(of) => {
            return Ok(Some(bare("recovery", json!(format!("s3://{bucket}/{of}")))));
        }
        Standing::Refused(MetadataError::NotEncrypted) => {
            return Ok(Some(bare("plain", Value::Null)));
        }
        Standing::Refused(_) => return Ok(Some(bare("damaged", Value::Null))),
    };
    let size = plaintext_len(head.size).map_or(Value::Null, |len| json!(len));
    Ok(Some(match Wrapped::parse(&metadata.wrapped) {
        Ok(wrapped) => {
            let header = wrapped.header();
            let kind = match (&wrapped, wrapped.claimed_origin()) {
                (Wrapped::Local { .. }, _) => "local",
                (Wrapped::Public { .. }, Origin::PublicSigned(_)) => "public-signed",
                (Wrapped::Public { .. }, _) => "public-unsigned",
            };
            vec![
                name,
                size,
                json!(header.dataset.to_string()),
                json!(header.kek_version),
                json!(kind),
                Value::Null,
            ]
        }
        Err(_) => vec![
            name,
            size,
            Value::Null,
            Value::Null,
            json!("damaged"),
            Value::Null,
        ],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_ranges_are_read_as_in_http() {
        assert_eq!(byte_range("0-0"), Ok(ByteRange::Between(0, 1)));
        assert_eq!(byte_range("10-19"), Ok(ByteRange::Between(10, 20)));
        assert_eq!(byte_range("10-"), Ok(ByteRange::From(10)));
        assert_eq!(byte_range("-7"), Ok(ByteRange::Last(7)));
        for wrong in ["", "-", "5", "9-8", "a-b", "0-18446744073709551615"] {
            assert!(byte_range(wrong).is_err(), "{wrong:?}");
        }
    }
}
