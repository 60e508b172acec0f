//! Login, renew and issue: gather, decide, commit, record, answer.

use std::time::Duration;

use audit_log::Written;
use ticket_format::Refusal;
use ticket_format::cbor::Encode as _;
use ticket_format::denial::TicketFacts;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, LaunchId, NodeId};
use ticket_format::messages::issue::{ADMIN_SETS, IssueAnswer};
use ticket_format::messages::login::LoginAnswer;
use ticket_format::messages::renew::RenewAnswer;
use ticket_format::messages::{Answer, Receipt, RequestView, Verb};
use ticket_format::side::SideRecord;
use ticket_format::ticket::Attributes;
use ticket_format::time::Timestamp;

use super::audit::InLog;
use super::service::{Broker, Failed};
use crate::feed::Chain;
use crate::realm::Caller;
use crate::state::{LaunchRecord, NodeRecord, keys};
use crate::{Refused, issue, login, renew};

/// How long an answer waits for the side file; the entry stands in the log by then.
const PAIRS_WITHIN: Duration = Duration::from_millis(250);
/// How long an answer waits for the witnesses that its dataset requires (TLOG-8).
const COSIGNED_WITHIN: Duration = Duration::from_secs(5);

impl Broker {
    /// The reason of a denial that would hit a node ticket made now. What was denied when the record was
    /// frozen is older than any ticket to come.
    pub(crate) fn node_denied(
        &self,
        attributes: &Attributes,
        launch: LaunchId,
        record: Option<&NodeRecord>,
        now: Timestamp,
    ) -> Option<String> {
        let issued = record.map_or(now, |record| now.max(record.from));
        let (node, image) = (&attributes.node, &attributes.image);
        self.denials.check(&TicketFacts {
            ticket: None,
            parent: None,
            node,
            launch,
            image,
            dataset: None,
            issued,
        })
    }

    pub(super) async fn login(
        &self,
        request: &RequestView<'_>,
        caller: &Caller,
    ) -> Result<Answer, Failed> {
        let _under_way = self.rates.login(caller.address)?;
        self.time.now()?;
        let asked = login::parse(request)?;
        let id = asked.launch();
        // rule: LOG-2
        let launch = self
            .directory
            .get_or_as_if::<LaunchRecord>(&keys::launch(id), &self.no_launch)
            .await?;
        let proven = login::authenticate(asked, launch.as_ref(), &self.realm, caller)?;
        let statement = launch.map(|launch| launch.statement).unwrap_or_default();
        let identified = login::identify(proven, &self.realm)?;
        let (logged, result) = self
            .settle(|| async {
                // An attempt that waited for others must not decide at the time before them.
                let now = self.time.now()?;
                let mut reads = self.directory.reads();
                let head = self.head(&mut reads).await?;
                let launch = reads.get::<LaunchRecord>(&keys::launch(id)).await?;
                let launch = launch.ok_or_else(|| {
                    Refused::stranger(Refusal::NotAuthenticated, "the launch is gone")
                })?;
                let (node, body) = (identified.node(), identified.body());
                let record = reads.get::<NodeRecord>(&keys::node(node)).await?;
                let view = login::View {
                    launch,
                    denied: self.node_denied(identified.attributes(), id, record.as_ref(), now),
                    node: record,
                    used_by_node: reads.raw(&keys::launch_use(id, node)).await?.is_some(),
                    node_key: reads.key(body.node_key.thumbprint()).await?,
                    proof_key: reads.key(body.proof_key.thumbprint()).await?,
                    head,
                };
                let decision =
                    login::decide(&identified, view, &self.realm, caller, now, &mut self.rng());
                Ok((reads.seen(), decision.changes, decision.result))
            })
            .await?;
        let ticket = result.map_err(Failed::Recorded)?;
        tracing::info!(exchange = "login", node = %identified.node(), launch = %id, entry = logged.index(), "done");
        // rule: LOG-10
        let answer = LoginAnswer {
            ticket,
            receipt: logged.receipt(),
            launch: statement,
            records: self.ticket_key_records(),
        };
        Ok(Answer::done(Verb::Login, &answer))
    }

    pub(super) async fn renew(
        &self,
        request: &RequestView<'_>,
        caller: &Caller,
    ) -> Result<Answer, Failed> {
        self.rates.renewal(caller.address)?;
        self.time.now()?;
        let signed = renew::verify(renew::parse(request)?, &self.realm, caller)?;
        let body = signed.body();
        let (logged, result) = self
            .settle(|| async {
                // An attempt that waited for others must not decide at the time before them.
                let now = self.time.now()?;
                let mut reads = self.directory.reads();
                let head = self.head(&mut reads).await?;
                let node = reads.get::<NodeRecord>(&keys::node(&body.node)).await?;
                let denied = node.as_ref();
                let denied = denied.and_then(|node| {
                    self.node_denied(&node.attributes, node.claim.launch, Some(node), now)
                });
                let view = renew::View {
                    node,
                    old_key: reads.key(body.old_key.thumbprint()).await?,
                    new_key: reads.key(body.new_key.thumbprint()).await?,
                    proof_key: reads.key(body.proof_key.thumbprint()).await?,
                    head,
                    denied,
                };
                let decision =
                    renew::decide(&signed, view, &self.realm, caller, now, &mut self.rng())?;
                Ok((reads.seen(), decision.changes, decision.result))
            })
            .await?;
        let ticket = result.map_err(Failed::Recorded)?;
        tracing::info!(exchange = "renew", node = %body.node, entry = logged.index(), "done");
        let answer = RenewAnswer {
            ticket,
            receipt: logged.receipt(),
            launch: self.launch_of(&body.node).await?,
            records: self.ticket_key_records(),
        };
        Ok(Answer::done(Verb::Renew, &answer))
    }

    /// The statement of the launch that a node logged in with: whose login's answer was lost has it
    /// from the next renewal.
    async fn launch_of(&self, node: &NodeId) -> Result<Vec<u8>, Refused> {
        // rule: REN-6
        let gone = || Refused::stranger(Refusal::Internal, "a node's launch is gone");
        let node = self.directory.get::<NodeRecord>(&keys::node(node)).await?;
        let launch = keys::launch(node.ok_or_else(gone)?.claim.launch);
        let launch = self.directory.get::<LaunchRecord>(&launch).await?;
        Ok(launch.ok_or_else(gone)?.statement)
    }

    pub(super) async fn issue(
        &self,
        request: &RequestView<'_>,
        caller: &Caller,
    ) -> Result<Answer, Failed> {
        let now = self.time.now()?;
        let held = issue::open(issue::parse(request)?, &self.realm, caller, now)?;
        self.rates.issue(held.node())?;
        let epoch = self.denials.head().epoch;
        let act = ActId::random(&mut self.rng());
        let entry = held.entry(act, caller, now, epoch);
        let (dataset, policy) = (self.dataset(&held.body().dataset), self.policy());
        let view = issue::View {
            dataset: dataset.as_deref(),
            aliases: self.aliases_of(dataset.as_ref().map(|entry| entry.record.dataset)),
            policy: policy.as_deref(),
            proof_key: self
                .directory
                .reads()
                .key(held.body().proof_key.thumbprint())
                .await?,
            denied: &|facts| self.denials.check(facts),
        };
        let weighed = match issue::weigh(&held, &view, caller, now) {
            Ok(weighed) => weighed,
            Err(mut unmet) => {
                let (entry, decided) = unmet.complete(&held, entry, &self.realm.pairs);
                let pairs = decided.then(|| self.keep_pairs(&held));
                let failed = self.refuse(entry, unmet.refused).await;
                if let Some(pairs) = pairs {
                    pairs.wait(PAIRS_WITHIN).await;
                }
                return Err(failed);
            }
        };
        let record = weighed.record();
        if let Err(busy) = self.rates.dataset(record.dataset, held.node()) {
            return Err(self.refuse(entry, busy).await);
        }
        let cap = record.max_budget.saturating_mul(self.limits.budget_tickets);
        let Some(budget) =
            self.budgets
                .reserve(held.node(), record.dataset, weighed.budget(), cap, now)
        else {
            let hours = self.limits.budget_window / 3_600;
            let why = format!(
                "this node has had its {cap} DEKs of dataset {:?} within {hours} hours",
                record.name
            );
            let refused = Refused::proven(Refusal::Budget, why).of(held.node());
            return Err(self.refuse(entry, refused).await);
        };
        let granted = issue::grant(&weighed, budget, entry, &self.realm, now, &mut self.rng());
        let granted = match granted {
            Ok(granted) => granted,
            Err(refused) => {
                self.budgets.release(held.node(), record.dataset, budget);
                return Err(refused.into());
            }
        };
        // rule: ISS-7, AUD-5
        let pairs = self.keep_pairs(&held);
        let appended = self.audit.append(&granted.entry).await;
        let given_back = |failed| {
            self.budgets.release(held.node(), record.dataset, budget);
            failed
        };
        pairs.wait(PAIRS_WITHIN).await;
        let logged = appended.map_err(Failed::Recorded).map_err(given_back)?;
        let index = logged.index();
        let receipt = match self.witnessed(logged, &weighed, &held).await {
            // What was denied while the record was written, or cosigned, does not leave.
            Ok(receipt) => {
                let allowed = self.still_allowed(&held, &view, &granted).await;
                allowed.map(|()| receipt)
            }
            Err(refused) => Err(refused),
        };
        let receipt = match receipt {
            Ok(receipt) => receipt,
            Err(refused) => {
                let withheld = Entry::new(ActId::random(&mut self.rng()), Kind::Withheld, now)
                    .follows(act)
                    .subject(held.node());
                return Err(given_back(self.refuse(withheld, refused).await));
            }
        };
        self.metrics.dataset_ticket(granted.expires.since(now));
        tracing::info!(exchange = "issue", %act, node = %held.node(), dataset = %record.name, budget, entry = index, "done");
        let record = weighed.statement().to_vec();
        Ok(Answer::done(
            Verb::Issue,
            &IssueAnswer {
                ticket: granted.ticket,
                receipt,
                record,
                // rule: ISS-6
                admin_sets: self.realm.admins.after(held.body().admin_set, ADMIN_SETS),
                // rule: KEY-3
                ticket_keys: self.realm.tickets.after(held.body().ticket_key),
            },
        ))
    }

    /// The receipt, once the witnesses that the dataset requires have cosigned it.
    async fn witnessed(
        &self,
        logged: InLog,
        weighed: &issue::Weighed<'_>,
        held: &issue::Held,
    ) -> Result<Receipt, Refused> {
        // rule: TLOG-8
        let Some(policy) = weighed.witnesses()? else {
            return Ok(logged.receipt());
        };
        let log = self.audit.log();
        match log
            .witnessed(logged.index(), &policy, COSIGNED_WITHIN)
            .await
        {
            Ok(proof) => Ok(logged.under(proof)),
            Err(error) => Err(Refused::proven(Refusal::Unwitnessed, error).of(held.node())),
        }
    }

    /// Keeps the pairs that a policy decides on beside the log.
    fn keep_pairs(&self, held: &issue::Held) -> Written {
        let (key, required) = (&self.realm.pairs, &held.body().required);
        let hash = held.pairs(key).0;
        let records = match self.audit.side().missing([&hash]).as_slice() {
            [] => Vec::new(),
            _ => vec![(hash, SideRecord::of_pairs(key, required).to_cbor())],
        };
        self.audit.side().put_all(records)
    }

    async fn still_allowed(
        &self,
        held: &issue::Held,
        view: &issue::View<'_>,
        granted: &issue::Granted,
    ) -> Result<(), Refused> {
        self.good()?;
        // A freeze that is committed counts before memory knows its denial.
        let node = self
            .directory
            .get::<NodeRecord>(&keys::node(held.node()))
            .await?;
        let now = self.time.now()?;
        issue::still_allowed(held, granted, node.as_ref(), view.denied, now)
    }

    /// Records a refusal of an act that changes no state, or counts it as a repetition. What was
    /// granted and is withheld stands in the log each time.
    pub(super) async fn refuse(&self, entry: Entry, refused: Refused) -> Failed {
        if !self.oversight.is_good() {
            // rule: TLOG-10 — nothing may be appended; what was recorded as done is set right later.
            if entry.kind == Kind::Withheld {
                let entry = entry.refused(refused.refusal);
                if let Err(error) = self.record_later(entry).await {
                    tracing::error!(why = %error.why, "a withheld answer could not be recorded");
                }
            }
            return Failed::Recorded(refused);
        }
        // rule: AUD-1
        if entry.kind != Kind::Withheld && !self.repetitions.first(&entry, refused.refusal) {
            return Failed::Recorded(refused);
        }
        match self.audit.append(&entry.refused(refused.refusal)).await {
            Ok(_) => Failed::Recorded(refused),
            Err(error) => Failed::Recorded(error),
        }
    }
}
