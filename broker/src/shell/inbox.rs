//! The inbox in the store: one record of what waits, and the statements in parts (PRO-2).

use ticket_format::cbor::Encode;
use ticket_format::ids::StatementId;
use ticket_format::statement::{
    ProposalList, ProposalShow, ProposalWithdraw, Propose, ReceivedStatement,
};
use ticket_format::time::Timestamp;

use super::directory::{Committed, Reads};
use super::service::Broker;
use crate::Refused;
use crate::administer::proposals::{self, Inbox, Standing};
use crate::administer::{Done, Opened};
use crate::state::{Changes, Proposals, Proposed, UsedStatement, keys};

/// Most proposals forgotten in one commit: a transaction has a bound.
const AT_ONCE: usize = 16;

async fn all(reads: &mut Reads<'_>) -> Result<Proposals, Refused> {
    Ok(reads.get(keys::PROPOSALS).await?.unwrap_or_default())
}

/// A proposal's statement. One that was replaced while its parts were read does not parse.
async fn statement(reads: &mut Reads<'_>, proposed: &Proposed) -> Result<Vec<u8>, Refused> {
    let mut whole = Vec::new();
    for part in 0..usize::try_from(proposed.parts).unwrap_or_default() {
        let key = keys::proposal_part(proposed.id, part);
        whole.extend(reads.raw(&key).await?.unwrap_or_default());
    }
    Ok(whole)
}

impl Broker {
    pub(super) async fn propose(
        &self,
        opened: &Opened,
        reads: &mut Reads<'_>,
        now: Timestamp,
        changes: Changes,
    ) -> Result<Done, Refused> {
        let body = opened.body::<Propose>()?;
        let received = proposals::read(opened, &body)?;
        let id = received.payload().id;
        let all = all(reads).await?;
        let inbox = Inbox {
            same: match all.get(id) {
                Some(proposed) => Some(statement(reads, proposed).await?),
                None => None,
            },
            used: reads.get::<UsedStatement>(&keys::statement(id)).await?,
            all,
        };
        proposals::propose(opened, &body, &received, inbox, &self.realm, now, changes)
    }

    pub(super) async fn withdraw(
        &self,
        opened: &Opened,
        reads: &mut Reads<'_>,
        changes: Changes,
    ) -> Result<Done, Refused> {
        let body = opened.body::<ProposalWithdraw>()?;
        let all = all(reads).await?;
        let standing = match all.get(body.id) {
            Some(proposed) => {
                let bytes = statement(reads, proposed).await?;
                proposals::standing(proposed, &bytes, opened.set())
            }
            None => None,
        };
        proposals::withdraw(opened, &body, all, standing.as_ref(), changes)
    }

    /// Takes a statement that is used now out of the inbox, in the same commit. One signature alone
    /// never waited there.
    pub(super) async fn forget_proposal(
        opened: &Opened,
        reads: &mut Reads<'_>,
        changes: &mut Changes,
    ) -> Result<(), Refused> {
        if opened.statement().signers().len() > 1 && opened.act().role().is_some() {
            let mut all = all(reads).await?;
            proposals::forget(&mut all, &[opened.statement().id()], changes);
        }
        Ok(())
    }

    pub(super) async fn proposal_list(
        &self,
        opened: &Opened,
        now: Timestamp,
    ) -> Result<Vec<u8>, Refused> {
        let page = opened.body::<ProposalList>()?;
        let mut standing = Vec::new();
        for proposed in &all(&mut self.directory.reads()).await?.rows {
            standing.extend(self.standing(opened, proposed, now).await?);
        }
        let most = usize::try_from(page.rows).unwrap_or(usize::MAX);
        Ok(proposals::page(standing, &page.after, most).to_cbor())
    }

    pub(super) async fn proposal_show(
        &self,
        opened: &Opened,
        now: Timestamp,
    ) -> Result<Vec<u8>, Refused> {
        let id = opened.body::<ProposalShow>()?.id;
        let all = all(&mut self.directory.reads()).await?;
        let standing = match all.get(id) {
            Some(proposed) => self.standing(opened, proposed, now).await?,
            None => None,
        };
        Ok(proposals::view(opened, id, standing)?.to_cbor())
    }

    /// A proposal by the set in force; none when it is over.
    async fn standing(
        &self,
        opened: &Opened,
        proposed: &Proposed,
        now: Timestamp,
    ) -> Result<Option<Standing>, Refused> {
        if proposed.until <= now {
            return Ok(None);
        }
        let bytes = statement(&mut self.directory.reads(), proposed).await?;
        Ok(proposals::standing(proposed, &bytes, opened.set()))
    }

    /// Tells the hook of a statement that was left in the inbox by this act.
    pub(super) async fn tell_proposal(&self, opened: &Opened) -> Result<(), Refused> {
        let body = opened.body::<Propose>()?;
        let Ok(received) = ReceivedStatement::parse(&body.statement) else {
            return Ok(());
        };
        let mut reads = self.directory.reads();
        let all = all(&mut reads).await?;
        if let Some(proposed) = all.get(received.payload().id) {
            let bytes = statement(&mut reads, proposed).await?;
            if let Some(standing) = proposals::standing(proposed, &bytes, opened.set()) {
                self.audit.alarms().proposed(&standing.row);
            }
        }
        self.show_proposals().await
    }

    /// Counts what waits.
    pub(super) async fn show_proposals(&self) -> Result<(), Refused> {
        let waiting = all(&mut self.directory.reads()).await?.rows.len();
        self.metrics.proposals(waiting);
        Ok(())
    }

    /// Forgets proposals that are over: their time, their last signature that counts, or their
    /// statement, which was used.
    pub(super) async fn tidy_proposals(&self, now: Timestamp) -> Result<(), Refused> {
        // rule: PRO-2
        loop {
            let set = self.realm.admins.current();
            let mut over: Vec<StatementId> = Vec::new();
            for proposed in &all(&mut self.directory.reads()).await?.rows {
                let used = self
                    .directory
                    .get::<UsedStatement>(&keys::statement(proposed.id))
                    .await?;
                let bytes = statement(&mut self.directory.reads(), proposed).await?;
                let stands = proposals::standing(proposed, &bytes, &set).is_some();
                if proposed.until <= now || used.is_some() || !stands {
                    over.push(proposed.id);
                }
                if over.len() == AT_ONCE {
                    break;
                }
            }
            if over.is_empty() {
                return self.show_proposals().await;
            }
            let (mut reads, mut changes) = (self.directory.reads(), Changes::new());
            let mut left = all(&mut reads).await?;
            proposals::forget(&mut left, &over, &mut changes);
            let latest = self.time.latest();
            if let Committed::Conflict = self
                .directory
                .commit(reads.seen(), &changes, latest)
                .await?
            {
                // Somebody was quicker; the next minute looks again.
                tracing::debug!("the inbox changed while it was tidied");
                return Ok(());
            }
        }
    }
}
