//! Aliases of datasets (ALI-1).

use clap::Subcommand;
use client::cli::output::Printed;
use ticket_format::ids::AliasDigest;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{AliasList, AliasRow, AliasSet, AliasTarget, DatasetShow};

use super::name_fits;
use crate::admin::remote::{Change, Remote};
use crate::admin::view::{object, text};
use crate::admin::{Context, block_on};

/// Other names of datasets, swapped in one act.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Give an alias to a dataset, or move it there; by the owners of both
    Set {
        /// The alias
        alias: String,
        /// The dataset's name
        dataset: String,
        /// Sign it anew where it names that dataset already: its signers may have left the admin set
        #[arg(long)]
        anew: bool,
    },
    /// Take an alias away
    Rm {
        /// The alias
        alias: String,
    },
    /// List the aliases
    List,
}

pub(super) fn run(context: &Context, command: &Command) -> Printed {
    match command {
        Command::Set {
            alias,
            dataset,
            anew,
        } => set(context, alias, Some(dataset), *anew),
        Command::Rm { alias } => set(context, alias, None, false),
        Command::List => list(context),
    }
}

/// All aliases; those that were taken away are there too.
async fn rows(broker: &mut Remote<'_>) -> Result<Vec<AliasRow>, Report> {
    let (mut all, mut page) = (Vec::new(), AliasList::first());
    loop {
        let answer = broker.ask(&page).await?;
        let last = answer.rows.last().map(|row| row.alias.clone());
        all.extend(answer.rows);
        match last.filter(|_| answer.more) {
            Some(last) => page = AliasList::after(last),
            None => return Ok(all),
        }
    }
}

/// An alias as it stands; none where there never was one of that name.
///
/// # Errors
/// The broker cannot be asked.
pub(crate) async fn standing(
    broker: &mut Remote<'_>,
    alias: &str,
) -> Result<Option<AliasRow>, Report> {
    let all = rows(broker).await?;
    Ok(all.into_iter().find(|row| row.alias == alias))
}

/// What the next record of an alias follows.
pub(crate) fn follows(standing: Option<&AliasRow>) -> AliasDigest {
    standing.map_or(AliasSet::FIRST, |row| row.record)
}

fn set(context: &Context, alias: &str, dataset: Option<&str>, anew: bool) -> Printed {
    name_fits(alias)?;
    let (_, admin) = context.admin()?;
    block_on(async {
        let mut broker = admin.broker()?;
        let standing = standing(&mut broker, alias).await?;
        let target = match dataset {
            None => None,
            Some(name) => {
                let name = name.to_owned();
                let view = broker.ask(&DatasetShow { name }).await?;
                Some(AliasTarget {
                    dataset: view.row.dataset,
                    name: view.row.name,
                })
            }
        };
        if !anew && target == standing.as_ref().and_then(|row| row.target.clone()) {
            let what = match dataset {
                Some(dataset) => format!("{alias:?} names dataset {dataset:?} already"),
                None => format!("there is no alias {alias:?}"),
            };
            return Err(Report::new(exit::CONFLICT, what)
                .next("see `postern-admin dataset alias list`; --anew signs it again"));
        }
        let body = AliasSet {
            alias: alias.to_owned(),
            target,
            follows: follows(standing.as_ref()),
        };
        let change = broker.change_record(&body).await?;
        broker.close().await;
        match change {
            Change::Proposed(proposed) => proposed.print(context),
            Change::Done(..) | Change::Before(_) => context.output.object(object! {
                "alias": alias, "dataset": dataset,
            }),
        }
    })
}

fn list(context: &Context) -> Printed {
    let (_, admin) = context.admin()?;
    block_on(async {
        let mut broker = admin.broker()?;
        let all = rows(&mut broker).await?;
        broker.close().await;
        let named = all.into_iter().filter_map(|row| {
            let target = row.target?;
            Some(vec![
                text(row.alias),
                text(target.name),
                text(target.dataset),
            ])
        });
        let columns = ["alias", "dataset", "dataset_id"];
        context.output.rows("aliases", &columns, named.collect())
    })
}
