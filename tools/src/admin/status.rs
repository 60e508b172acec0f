//! `postern-admin status`: how the servers are, and who has applied which denials.

use client::cli::output::Printed;
use serde_json::{Value, json};
use ticket_format::report::{Report, exit};
use ticket_format::statement::{Status, StatusShow, TicketKeyList};

use super::config::ServerKeys;
use super::remote::Admin;
use super::root::door;
use super::view::text;
use super::{Context, block_on};

const COLUMNS: [&str; 11] = [
    "server", "state", "version", "epoch", "lag", "lease_ms", "entries", "datasets", "holders",
    "clock", "kid",
];

/// Asks the broker and every configured key server. One that does not answer has a row that says
/// so, and the command ends with 8.
///
/// # Errors
/// The configuration, or a server that does not answer.
pub fn run(context: &Context) -> Printed {
    let (config, admin) = context.admin()?;
    let (broker, servers) = (config.broker()?, config.key_servers()?);
    block_on(async {
        let mut failed = None;
        let mut remote = admin.at(broker.server());
        let said = remote.ask(&StatusShow {}).await;
        // Of a broker that answers; the broker's word, which `ticket-key list` verifies.
        let keys = match &said {
            Ok(_) => remote.ask(&TicketKeyList {}).await.ok(),
            Err(_) => None,
        };
        remote.close().await;
        let epoch = said.as_ref().ok().map(|status| status.epoch);
        let mut rows = vec![row(&broker.addresses, &said, None)];
        let signs = keys.and_then(|keys| keys.rows.into_iter().find(|row| row.signs));
        rows[0][COLUMNS.len() - 1] = super::view::maybe(signs.map(|row| row.key.thumbprint()));
        failed = failed.or(said.err());
        for keys in &servers {
            let said = of(&admin, keys).await;
            let mut row = row(&keys.addresses, &said, epoch);
            // Under another identity than its TLS key: its door key, where it is sealed.
            let stranger = matches!(&said, Err(report) if report.exit == exit::INTEGRITY);
            if stranger && door::is_sealed(keys, admin.timeout()).await {
                row[1] = text("sealed");
            }
            rows.push(row);
            failed = failed.or(said.err());
        }
        context.output.rows("servers", &COLUMNS, rows)?;
        failed.map_or(Ok(()), |report| {
            Err(Report::new(exit::RETRY, "not every server answered").why(report.what))
        })
    })
}

/// How one key server is.
pub(crate) async fn of(admin: &Admin, keys: &ServerKeys) -> Result<Status, Report> {
    let mut remote = admin.at(keys.server());
    let said = remote.ask(&StatusShow {}).await;
    remote.close().await;
    said
}

fn row(
    addresses: &[String],
    said: &Result<Status, Report>,
    broker_epoch: Option<u64>,
) -> Vec<Value> {
    let server = text(addresses.join(","));
    let Ok(status) = said else {
        let mut row = vec![server, text("unreachable")];
        row.resize(COLUMNS.len(), Value::Null);
        return row;
    };
    let state = match status.lease_ms {
        Some(0) => "no-lease",
        _ => "up",
    };
    vec![
        server,
        text(state),
        text(&status.version),
        json!(status.epoch),
        json!(broker_epoch.map(|epoch| epoch.saturating_sub(status.epoch))),
        json!(status.lease_ms),
        json!(status.entries),
        json!(status.datasets),
        json!(status.holders),
        text(status.now),
        Value::Null,
    ]
}
