//! Whom a denial must reach: the key servers that admin-signed dataset records name (DEN-8).

use ticket_format::keys::ServerKey;
use ticket_format::report::Report;
use ticket_format::statement::{
    AdminSet, DatasetList, DatasetRecord, DatasetShow, ReceivedStatement,
};

use crate::admin::now;
use crate::admin::remote::Remote;

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

/// A dataset whose record proves nothing: which key server must apply denials for it is not known, and
/// so it counts as one that has not.
#[derive(Clone, Debug)]
pub(super) struct Unproven {
    pub(super) dataset: String,
    pub(super) why: String,
}

/// All of them, by the broker's records, each verified by the admin set in force.
///
/// # Errors
/// The broker cannot be asked.
pub(super) async fn expected(
    remote: &mut Remote<'_>,
    set: &AdminSet,
    realm: &str,
) -> Result<(Vec<Expected>, Vec<Unproven>), Report> {
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
    let (mut all, mut unproven) = (Vec::new(), Vec::new());
    for name in names {
        let shown = remote.find(&DatasetShow { name: name.clone() }).await?;
        let record = shown.and_then(|shown| shown.record);
        match record.map(|statement| believed(&statement, set, realm, &name)) {
            // Gone since it was listed.
            None => {}
            Some(Ok(record)) => add(&mut all, &record),
            Some(Err(why)) => unproven.push(Unproven { dataset: name, why }),
        }
    }
    Ok((all, unproven))
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
