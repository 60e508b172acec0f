//! Whom a denial must reach: the key servers that admin-signed dataset records name (DEN-8).

use ticket_format::keys::ServerKey;
use ticket_format::report::{Printable, Report};
use ticket_format::statement::{
    AdminSet, DatasetList, DatasetRecord, DatasetShow, ReceivedStatement,
};

use crate::admin::remote::Remote;
use crate::admin::{Context, now};

/// A key server that must apply denials.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// Its signing key, from a record that the admin set authorises.
    pub(super) key: ServerKey,
    /// Its addresses, for people.
    pub(super) name: String,
    /// The datasets that it keeps.
    pub(super) datasets: Vec<String>,
    /// Its longest lease, in seconds.
    pub(super) lease: u64,
}

/// All of them, by the broker's records, each verified by the admin set in force.
///
/// # Errors
/// The broker cannot be asked.
pub(super) async fn expected(
    remote: &mut Remote<'_>,
    set: &AdminSet,
    realm: &str,
    context: &Context,
) -> Result<Vec<Expected>, Report> {
    let (mut names, mut page) = (Vec::new(), DatasetList::first());
    loop {
        let answer = remote.ask(&page).await?;
        let Some(last) = answer.rows.last() else {
            break;
        };
        page = DatasetList::after(&last.name);
        names.extend(answer.rows.into_iter().map(|row| row.name));
        if !answer.more {
            break;
        }
    }
    let mut all: Vec<Expected> = Vec::new();
    for name in names {
        let shown = remote.find(&DatasetShow { name: name.clone() }).await?;
        let record = shown.and_then(|shown| shown.record);
        match record.map(|statement| believed(&statement, set, realm, &name)) {
            // Gone since it was listed.
            None => {}
            Some(Ok(record)) => add(&mut all, &record),
            Some(Err(why)) => context.talk(Printable(&format!(
                "The record of dataset {name:?} proves nothing ({why}): its key server is not waited for. Let its owners sign it anew: postern-admin dataset record"
            ))),
        }
    }
    Ok(all)
}

/// The record, if the admin set authorises it.
fn believed(
    statement: &[u8],
    set: &AdminSet,
    realm: &str,
    name: &str,
) -> Result<DatasetRecord, String> {
    // rule: DEN-10, PRE-4
    let verified = ReceivedStatement::parse(statement)
        .and_then(|received| received.verify(set, realm, None, now()))
        .map_err(|error| error.to_string())?;
    let record: DatasetRecord = verified.body().map_err(|error| error.to_string())?;
    if record.name == name {
        Ok(record)
    } else {
        Err(format!("it is of {:?}", record.name))
    }
}

fn add(all: &mut Vec<Expected>, record: &DatasetRecord) {
    if let Some(known) = all.iter_mut().find(|known| known.key == record.server_key) {
        known.datasets.push(record.name.clone());
        known.lease = known.lease.max(record.lease);
        return;
    }
    all.push(Expected {
        key: record.server_key,
        name: record.addresses.join(","),
        datasets: vec![record.name.clone()],
        lease: record.lease,
    });
}
