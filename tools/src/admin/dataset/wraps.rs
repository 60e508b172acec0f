//! The wraps under a KEK version that its key server knows (INV-1).

use clap::Args;
use client::cli::output::Printed;
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
use crate::admin::view::{maybe, text};
use crate::admin::{Context, block_on};

/// List the wraps under a KEK version.
#[derive(Debug, Args)]
pub struct Wraps {
    #[command(flatten)]
    which: Version,
    /// Most wraps to list
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    limit: u64,
}

const COLUMNS: [&str; 5] = ["digest", "seen", "object", "dek", "context"];

/// One page; its digests must go up, or its reader would go in a circle.
async fn page(
    server: &mut Remote<'_>,
    name: &str,
    row: &KekRow,
    after: Option<ItemDigest>,
) -> Result<(Vec<WrapRow>, bool), Report> {
    let page = server
        .ask(&WrapList {
            name: name.to_owned(),
            kek: row.kek,
            after,
            rows: WRAP_ROWS,
        })
        .await?;
    let mut last = after.map(|digest| digest.0);
    let up = page.rows.iter().all(|row| {
        let before = last.replace(row.digest.0);
        before.is_none_or(|before| before < row.digest.0)
    });
    if up && (!page.more || !page.rows.is_empty()) {
        return Ok((page.rows, page.more));
    }
    Err(Report::new(
        exit::INTEGRITY,
        "the key server's pages go in a circle",
    ))
}

/// The first wraps under a version. Where they are all of them they must be those that the version's
/// row counts and names.
pub(crate) async fn first(
    server: &mut Remote<'_>,
    name: &str,
    row: &KekRow,
) -> Result<Vec<WrapRow>, Report> {
    // rule: INV-1
    let (rows, more) = page(server, name, row, None).await?;
    if more || named(&rows) == (row.wraps, row.dependants) {
        return Ok(rows);
    }
    Err(Report::new(
        exit::CONFLICT,
        "the wraps that the key server lists are not those that it counts",
    )
    .why("somebody made, opened or replaced wraps meanwhile, or the server does not tell the truth")
    .next("run it again; if it stays so, find out why"))
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
    block_on(async {
        let mut server = admin.at(keys.server());
        let rows = versions(&mut server, name).await?;
        let row = numbered(&rows, version)?;
        let (mut all, mut after, mut left) = (Vec::new(), None, true);
        while left && (all.len() as u64) < args.limit {
            let (rows, more) = page(&mut server, name, row, after).await?;
            after = rows.last().map(|row| row.digest);
            left = more;
            all.extend(rows.into_iter().map(cells));
        }
        server.close().await;
        let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
        left |= all.len() > limit;
        all.truncate(limit);
        context.output.rows("wraps", &COLUMNS, all)?;
        if left {
            context.talk(format_args!(
                "There are more: {} in all; --limit says how many are listed",
                row.wraps
            ));
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use ticket_format::time::Timestamp;

    use super::*;

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
