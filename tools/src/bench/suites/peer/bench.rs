//! Both sides of each row, one right after the other.

use std::sync::Arc;
use std::time::Duration;

use ticket_format::report::Report;

use super::json::{DECRYPT, DECRYPT_DURABLY};
use super::json_callers::{Callers, Process};
use super::kdc::{Ask, Kdc};
use super::{ADDRESSES, SINGLE};
use crate::cpu;
use crate::drive::Tally;
use crate::realm::Realm;
use crate::rows::Row;
use crate::suites::keys::load::{Items, Load};
use crate::suites::main::{TASKS, issue, login};

/// Everything that is measured, running.
pub(super) struct Bench {
    kdc: Kdc,
    json: Process,
    callers: Arc<Callers>,
    login: login::Bench,
    issue: issue::Bench,
    load: Load,
    items: Items,
    span: Duration,
    // Stopped last.
    realm: Arc<Realm>,
}

/// A tally, and what it cost the servers for each, in microseconds of CPU time.
type Cost = (Tally, f64);

impl Bench {
    /// Starts Postern's servers and the HTTP service beside this KDC.
    pub(super) async fn new(realm: Realm, kdc: Kdc, span: Duration) -> Result<Self, Report> {
        let realm = Arc::new(realm);
        // Its log lies on the disk that the servers' logs lie on.
        let (json, callers) = Process::start(realm.servers.dir(), SINGLE.0).await?;
        let login = login::Bench::new(&realm).await?;
        let issue = issue::Bench::new(&realm, &login).await?;
        let load = Load::new(&realm, &issue, SINGLE.1, ADDRESSES).await?;
        let items = load.generate("peer").await?;
        Ok(Self {
            kdc,
            json,
            callers,
            login,
            issue,
            load,
            items,
            span,
            realm,
        })
    }

    /// One round of logins.
    pub(super) async fn logins(&self, round: u32, rows: &mut [Row]) -> Result<(), Report> {
        let [broker, _] = self.realm.servers.pids();
        let pkinit = self.ask(Ask::Pkinit, TASKS)?;
        let ours = costing(broker, self.login.logins(round, self.span)).await?;
        beside(rows, "peer_login_per_s_beside_pkinit", ours, pkinit);
        costs(rows, "peer_login_cpu_us_beside_pkinit", ours, pkinit);
        Ok(())
    }

    /// One round of tickets.
    pub(super) async fn tickets(&self, rows: &mut [Row]) -> Result<(), Report> {
        let [broker, _] = self.realm.servers.pids();
        let (tgs, logins) = (self.ask(Ask::Tgs, TASKS)?, self.ask(Ask::As, TASKS)?);
        let ours = costing(broker, self.issue.tickets(self.span)).await?;
        beside(rows, "peer_issue_per_s_beside_tgs", ours, tgs);
        beside(rows, "peer_issue_per_s_beside_as", ours, logins);
        costs(rows, "peer_issue_cpu_us_beside_tgs", ours, tgs);
        Ok(())
    }

    /// One round of redemptions; `shape` is callers at a time and connections.
    pub(super) async fn redemptions(
        &self,
        batch: usize,
        shape: (usize, usize),
        rows: &mut [Row],
    ) -> Result<(), Report> {
        let [_, key_server] = self.realm.servers.pids();
        let rate = format!("peer_redeem_deks_per_s_batch_{batch}_beside");
        let json = self.json(DECRYPT, batch, shape.0).await?;
        let durable = self.json(DECRYPT_DURABLY, batch, shape.0).await?;
        let ours = self.load.redemptions(&self.items, batch, shape, self.span);
        let ours = costing(key_server, ours).await?;
        if batch == 1 {
            let tgs = self.ask(Ask::Tgs, shape.0)?;
            beside(rows, &format!("{rate}_tgs"), ours, tgs);
        }
        beside(rows, &format!("{rate}_json"), ours, json);
        beside(rows, &format!("{rate}_durable_json"), ours, durable);
        let cost = format!("peer_redeem_cpu_us_batch_{batch}_beside_json");
        costs(rows, &cost, ours, json);
        Ok(())
    }

    fn ask(&self, ask: Ask, callers: usize) -> Result<Cost, Report> {
        tokio::task::block_in_place(|| self.kdc.load(ask, callers, self.span))
    }

    async fn json(&self, path: &'static str, batch: usize, tasks: usize) -> Result<Cost, Report> {
        let loaded = self.json.load(&self.callers, path, batch, tasks, self.span);
        loaded.await
    }
}

/// What it costs a server's process.
async fn costing(
    pid: u32,
    work: impl Future<Output = Result<Tally, Report>>,
) -> Result<Cost, Report> {
    let before = cpu::usage(pid)?.cpu;
    let tally = work.await?;
    let spent = cpu::usage(pid)?.cpu.saturating_sub(before);
    Ok((tally, cpu::per(spent, tally.count)))
}

fn beside(rows: &mut [Row], name: &str, ours: Cost, theirs: Cost) {
    add(rows, name, ours.0.per_s(), theirs.0.per_s());
}

fn costs(rows: &mut [Row], name: &str, ours: Cost, theirs: Cost) {
    add(rows, name, ours.1, theirs.1);
}

/// To a row that is wanted.
fn add(rows: &mut [Row], name: &str, value: f64, floor: f64) {
    if let Some(row) = rows.iter_mut().find(|row| row.name() == name) {
        row.add(value, floor);
    }
}
