//! The wraps under a KEK version that its key server knows (INV-1).

use clap::Args;
use client::cli::output::{Format, Printed};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use ticket_format::Context as Pairs;
use ticket_format::ids::ItemDigest;
use ticket_format::report::{Report, exit};
use ticket_format::statement::keks::WRAP_ROWS;
use ticket_format::statement::{KekRow, WrapList, WrapRow};

use super::keks::{Version, numbered, versions};
use super::name_fits;
use crate::admin::remote::Remote;
use crate::admin::view::{maybe, object, text};
use crate::admin::{Context, block_on};

/// List the wraps under a KEK version.
#[derive(Debug, Args)]
pub struct Wraps {
    #[command(flatten)]
    which: Version,
    /// Go on behind this wrap, the last one of the list before
    #[arg(long, value_name = "DIGEST")]
    after: Option<ItemDigest>,
    /// Most wraps to list
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    limit: u64,
}

const COLUMNS: [&str; 5] = ["digest", "seen", "object", "dek", "context"];

/// One page; its digests must go up, or its reader would go in a circle.
async fn page(
    server: &mut Remote<'_>,
    name: &str,
    row: &KekRow,
    after: Option<ItemDigest>,
    most: u64,
) -> Result<(Vec<WrapRow>, bool), Report> {
    let page = server
        .ask(&WrapList {
            name: name.to_owned(),
            kek: row.kek,
            after,
            rows: most,
        })
        .await?;
    if ordered(after, &page.rows, most, page.more) {
        return Ok((page.rows, page.more));
    }
    Err(
        Report::new(exit::INTEGRITY, "the key server's pages are not in order")
            .why("its digests do not go up, or it sent more than was asked for")
            .next("use nothing of this list"),
    )
}

/// Whether a page goes on behind the one before, and leads on where it says so.
fn ordered(after: Option<ItemDigest>, rows: &[WrapRow], most: u64, more: bool) -> bool {
    let mut last = after.map(|digest| digest.0);
    let up = rows.iter().all(|row| {
        let before = last.replace(row.digest.0);
        before.is_none_or(|before| before < row.digest.0)
    });
    up && rows.len() as u64 <= most && (!more || !rows.is_empty())
}

/// The first wraps under a version. Where they are all of them they must be those that the version's
/// row counts and names.
pub(crate) async fn first(
    server: &mut Remote<'_>,
    name: &str,
    row: &KekRow,
) -> Result<Vec<WrapRow>, Report> {
    let (rows, more) = page(server, name, row, None, WRAP_ROWS).await?;
    if counted(row, &rows, more) {
        return Ok(rows);
    }
    Err(Report::new(
        exit::CONFLICT,
        "the wraps that the key server lists are not those that it counts",
    )
    .why("somebody made, opened or replaced wraps meanwhile, or the server does not tell the truth")
    .next("run it again; if it stays so, find out why"))
}

/// Whether the first page is of the wraps that the row counts and names.
fn counted(row: &KekRow, rows: &[WrapRow], more: bool) -> bool {
    // rule: INV-1
    let (count, dependants) = named(rows);
    if more {
        count < row.wraps
    } else {
        (count, dependants) == (row.wraps, row.dependants)
    }
}

/// How many wraps these are, and which (INV-1): their digests go up.
fn named(rows: &[WrapRow]) -> (u64, [u8; 32]) {
    let all = rows
        .iter()
        .fold(Sha256::new(), |all, row| all.chain_update(row.digest.0));
    (rows.len() as u64, all.finalize().into())
}

fn cells(row: WrapRow) -> Vec<Value> {
    let pairs = row.context.as_ref();
    vec![
        text(row.digest),
        text(row.seen),
        maybe(pairs.and_then(|pairs| pairs.get(Pairs::NAME))),
        maybe(row.dek),
        json!(pairs.map(Pairs::pairs)),
    ]
}

/// Lists them.
///
/// # Errors
/// There is no such version, or the key server cannot be reached or refused.
pub(super) fn list(context: &Context, args: &Wraps) -> Printed {
    let (name, version) = (args.which.name(), args.which.number());
    name_fits(name)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(args.which.key_server())?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    block_on(async {
        let mut server = admin.at(keys.server());
        let rows = versions(&mut server, name).await?;
        let row = numbered(&rows, version)?;
        let (mut all, mut after, mut more) = (Vec::new(), args.after, true);
        while more && all.len() < limit {
            let most = WRAP_ROWS.min((limit - all.len()) as u64);
            let rows;
            (rows, more) = page(&mut server, name, row, after, most).await?;
            after = rows.last().map(|row| row.digest).or(after);
            all.extend(rows.into_iter().map(cells));
        }
        server.close().await;
        if context.output.format == Format::Json {
            let members = |row: Vec<Value>| -> Value {
                let named = COLUMNS.map(str::to_owned).into_iter().zip(row);
                Value::Object(named.collect())
            };
            let wraps: Value = all.into_iter().map(members).collect();
            return context.output.object(object! {
                "dataset": name,
                "version": row.version,
                "kek": text(row.kek),
                "wraps_left": row.wraps,
                "wraps": wraps,
                "after": maybe(after.filter(|_| more)),
            });
        }
        context.output.rows("wraps", &COLUMNS, all)?;
        if let Some(after) = after.filter(|_| more) {
            context.talk(format_args!(
                "There are more, {} in all: go on with --after {after}",
                row.wraps
            ));
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use ticket_format::ids::KekId;
    use ticket_format::statement::{KekOrigin, KekState};
    use ticket_format::time::Timestamp;

    use super::*;

    #[test]
    fn pages_that_go_in_a_circle_are_not_followed() {
        // rule: INV-1
        let wrap = |byte| WrapRow {
            digest: ItemDigest([byte; 32]),
            seen: Timestamp::from_seconds(1),
            dek: None,
            context: None,
        };
        let rows = [wrap(1), wrap(2)];
        assert!(ordered(None, &rows, 2, true));
        assert!(ordered(None, &[], 2, false));
        assert!(!ordered(None, &[], 2, true));
        assert!(!ordered(None, &rows, 1, false));
        assert!(!ordered(Some(ItemDigest([1; 32])), &rows, 2, true));
        assert!(!ordered(None, &[wrap(2), wrap(1)], 2, false));
    }

    #[test]
    fn a_list_that_is_not_what_the_version_counts_is_not_shown_as_its_wraps() {
        // rule: INV-1
        let wrap = |byte| WrapRow {
            digest: ItemDigest([byte; 32]),
            seen: Timestamp::from_seconds(1),
            dek: None,
            context: None,
        };
        let wraps = [wrap(1), wrap(2)];
        let (count, dependants) = named(&wraps);
        let row = |wraps, dependants| KekRow {
            kek: KekId([1; 16]),
            version: 1,
            state: KekState::DecryptOnly,
            origin: KekOrigin::Generated,
            provenance: None,
            expiry: None,
            created: Timestamp::from_seconds(1),
            public_key: None,
            wraps,
            dependants,
            last_used: None,
            destroyed: None,
            since: None,
        };
        assert!(counted(&row(count, dependants), &wraps, false));
        assert!(!counted(&row(count, [0; 32]), &wraps, false));
        assert!(!counted(&row(3, dependants), &wraps, false));
        assert!(counted(&row(3, [0; 32]), &wraps, true));
        assert!(!counted(&row(2, dependants), &wraps, true));
    }

    #[test]
    fn wraps_are_named_by_the_hash_of_their_digests() {
        // rule: INV-1
        let row = |byte| WrapRow {
            digest: ItemDigest([byte; 32]),
            seen: Timestamp::from_seconds(1),
            dek: None,
            context: None,
        };
        let nothing: [u8; 32] = Sha256::digest([]).into();
        let two: [u8; 32] = Sha256::digest([[1; 32], [2; 32]].concat()).into();
        assert_eq!(named(&[]), (0, nothing));
        assert_eq!(named(&[row(1), row(2)]), (2, two));
        assert_ne!(named(&[row(1), row(2)]), named(&[row(1), row(3)]));
    }
}
