//! The service: exchanges from bytes to bytes. It reads the clocks, asks the core, makes records
//! durable, persists what statements and denials change. It knows no socket.

mod admin_sets;
mod administer;
mod alarms;
mod backups;
mod counted;
mod datasets;
mod denials;
mod exposure;
mod imports;
mod keks;
mod key_files;
pub mod load;
mod logs;
mod record;
mod rekey;
mod reports;
mod roots;
mod rotation;
mod start;
mod watching;
mod wraps;

use std::sync::Arc;
use std::time::Duration;

use audit_log::{Appended, AuditLog, SideFile, Written};
use bytes::Bytes;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use store::hooks::{Hook, HookCounts};
use store::{Store, Transaction};
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::messages::{Answer, Receipt, RefusalNotice, RequestView, Verb};
use ticket_format::sign::Exporter;
use ticket_format::time::Timestamp;
use tokio::sync::Semaphore;

pub use denials::ApplyError;
pub use rekey::root_ways;
pub use roots::AUTOMATIC;
pub use start::{Identity, Parts, StartError, admins, readable};

use crate::batch::{self, Decided, Proven};
use crate::clock::Clock;
use crate::gate::Permit;
use crate::habit::Habits;
use crate::issued::NotIssued;
use crate::metrics::Metrics;
use crate::present;
use crate::records;
use crate::refused::Refused;
use crate::state::{Connection, Moment, State};
use counted::Counted;

/// Requests above this many bytes are decided on a thread of their own: a batch of public wraps can
/// take tenths of a second, and other connections' packets must not wait for it.
const HEAVY: usize = 16 * 1024;
/// How long an answer waits for its contexts to be written, while its record becomes durable. They
/// are in memory by then as a rule; a side file that hangs costs this once for each answer, and no more.
const SIDE: Duration = Duration::from_millis(250);

/// How long an answer waits for witnesses where the dataset requires them (TLOG-8).
const WITNESSED: Duration = Duration::from_secs(5);
/// Callers for whom the log is read at one time (TLOG-6).
const PROVING: usize = 4;

/// A running key server, but for its sockets.
pub struct Service {
    /// What all exchanges share.
    pub state: State,
    /// Counters.
    pub metrics: Metrics,
    store: Arc<dyn Store>,
    log: AuditLog,
    clock: Arc<dyn Clock>,
    side: SideFile,
    hook: Hook,
    habits: Habits,
    counted: Counted,
    started: Timestamp,
    heavy: Arc<Semaphore>,
    /// Who reads the log back: one at a time.
    reading: Semaphore,
    /// Who has the log prove what it became.
    proving: Arc<Semaphore>,
    watching: watching::Watching,
    /// One change of the denials at a time.
    applying: tokio::sync::Mutex<()>,
    reports: reports::Reports,
    roots: roots::Roots,
    key_files: key_files::KeyFiles,
    inventory: crate::inventory::Inventory,
    /// One change of the KEK versions and their files at a time.
    keks: tokio::sync::Mutex<()>,
    backups: backups::Backups,
    /// The keys that material is wrapped to.
    imports: crate::imports::Imports,
    /// Key material of a destroyed version could not be erased.
    erase_again: std::sync::atomic::AtomicBool,
}

/// An answer, and the permit that it was released under: kept until the answer is returned.
struct Released {
    bytes: Vec<u8>,
    permit: Option<Permit>,
}

impl Released {
    /// An answer that no denial can touch.
    fn freely(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            permit: None,
        }
    }
}

/// A request that is refused.
struct Failed {
    refused: Refused,
    trace: Trace,
}

/// What a refusal leaves.
enum Trace {
    /// A stranger's: it is counted, and the stranger learns the number only.
    Counted,
    /// An entry, since the caller is known.
    Listed(Box<Entry>),
    /// An alarm, though who sent it is not known, and learns the number only.
    Alarm(Box<Entry>),
    /// Nothing: the act was committed, or may have been, with its entry in the outbox.
    InOutbox,
}

impl Failed {
    fn stranger(refused: impl Into<Refused>) -> Self {
        Self {
            refused: refused.into(),
            trace: Trace::Counted,
        }
    }

    fn known(refused: impl Into<Refused>, entry: Entry) -> Self {
        Self {
            refused: refused.into(),
            trace: Trace::Listed(Box::new(entry)),
        }
    }

    fn committed(refused: Refused) -> Self {
        Self {
            refused: Refused::Committed(Box::new(refused)),
            trace: Trace::InOutbox,
        }
    }

    fn alarm(refused: impl Into<Refused>, entry: Entry) -> Self {
        Self {
            refused: refused.into(),
            trace: Trace::Alarm(Box::new(entry)),
        }
    }
}

/// Randomness of the system.
type Rng = UnwrapErr<SysRng>;

fn rng() -> Rng {
    UnwrapErr(SysRng)
}

impl Service {
    /// A new connection, from what TLS says of it.
    #[must_use]
    pub fn connected(
        &self,
        authenticator: [u8; 32],
        hpke: [u8; 32],
        source: Option<std::net::IpAddr>,
    ) -> Arc<Connection> {
        let (authenticator, hpke) = (Exporter(authenticator), Exporter(hpke));
        Arc::new(Connection::new(
            &self.state.realm,
            self.state.tls_key,
            authenticator,
            hpke,
            source,
        ))
    }

    /// Answers one request, whatever its bytes (REF-1).
    pub async fn exchange(self: &Arc<Self>, connection: &Arc<Connection>, message: Bytes) -> Bytes {
        let gone = std::future::pending();
        self.exchange_until(connection, message, gone).await
    }

    /// Answers one request of a peer that may leave: `gone` completes when nobody waits any more, and
    /// a request that is held ends with it.
    pub async fn exchange_until(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        message: Bytes,
        gone: impl Future<Output = ()> + Send,
    ) -> Bytes {
        let begun = self.clock.monotonic();
        let (verb, result) = match RequestView::parse(&message) {
            Err(error) => (None, Err(Failed::stranger(error))),
            Ok(request) => {
                let result = match request.verb {
                    // What a caller asks of consistency is answered from the log as it stands: a refusal in
                    // its place would say that the log had split, and a witness's mere claim proves no such
                    // thing.
                    Verb::Consistency => self
                        .consistency(connection, &request)
                        .await
                        .map(|answer| Released::freely(answer.to_bytes())),
                    // rule: TLOG-10 — what admins may still do, administer says.
                    verb if verb != Verb::Administer && self.state.standing.check().is_err() => {
                        Err(Failed::stranger(Refused::RolledBack))
                    }
                    // Elsewhere, as administer is: what is asked seldom must not make room for itself in every
                    // exchange.
                    Verb::Present => Box::pin(self.present(connection, &request)).await,
                    Verb::Redeem | Verb::Generate | Verb::Rewrap => {
                        self.batch(connection, message.clone()).await
                    }
                    Verb::Watch => self
                        .watch(connection, &request, gone)
                        .await
                        .map(|answer| Released::freely(answer.to_bytes())),
                    Verb::Wipe => Box::pin(self.wipe(connection, &request))
                        .await
                        .map(|answer| Released::freely(answer.to_bytes())),
                    Verb::Administer => Box::pin(self.administer(connection, &request))
                        .await
                        .map(|answer| Released::freely(answer.to_bytes())),
                    Verb::Login | Verb::Renew | Verb::Issue | Verb::Alias | Verb::Feed => {
                        Err(Failed::stranger(Refused::Verb))
                    }
                };
                (Some(request.verb), result)
            }
        };
        let (released, refusal) = match result {
            Ok(released) => (released, None),
            Err(failed) => {
                let notice = self.refuse(connection, verb, failed).await;
                let refusal = notice.refusal;
                (
                    Released::freely(Answer::from(notice).to_bytes()),
                    Some(refusal),
                )
            }
        };
        self.metrics
            .exchange(verb, refusal, self.clock.monotonic().saturating_sub(begun));
        // rule: DEN-5 — the permit goes with the return of the answer, and nothing is waited for before.
        let Released { bytes, permit } = released;
        let bytes = Bytes::from(bytes);
        drop(permit);
        bytes
    }

    /// Records a refusal and says what the peer gets.
    async fn refuse(
        &self,
        connection: &Connection,
        verb: Option<Verb>,
        failed: Failed,
    ) -> RefusalNotice {
        let Failed { refused, trace } = failed;
        let refusal = refused.refusal();
        let exchange = verb.map_or("unknown", Verb::name);
        let (entry, known) = match trace {
            Trace::Counted => {
                // rule: AUD-1, REF-2
                self.counted.add(connection.source, refusal);
                tracing::debug!(exchange, refusal = refusal.number(), why = %refused, "refused a stranger");
                return RefusalNotice::bare(refusal);
            }
            Trace::InOutbox => {
                // rule: AUD-2 — an entry that says it was refused would contradict the one to come.
                tracing::error!(exchange, refusal = refusal.number(), why = %refused, "committed, but not answered");
                return RefusalNotice::detailed(refusal, refused.to_string());
            }
            Trace::Listed(entry) => (entry, true),
            Trace::Alarm(entry) => (entry, false),
        };
        let entry = entry.refused(refusal);
        if self.state.standing.check().is_err() {
            return self.refuse_unrecorded(&entry, refusal, &refused).await;
        }
        // rule: AUD-1 — also a denied job could go on asking. What was withheld follows up a record of its
        // own, and an alarm has a bound of its own.
        let repeatable = !matches!(entry.kind, Kind::Withheld | Kind::Alarm);
        if repeatable && self.counted.again(&entry, refusal) {
            tracing::debug!(exchange, refusal = refusal.number(), why = %refused, "refused again");
            return RefusalNotice::detailed(refusal, refused.to_string());
        }
        let subject = entry.subject.as_deref().unwrap_or_default();
        tracing::info!(act = %entry.act, exchange, subject, refusal = refusal.number(), why = %refused, "refused");
        // rule: AUD-1, AUD-4
        match self.append(&entry).await {
            Ok(_) if known => RefusalNotice::detailed(refusal, refused.to_string()),
            // rule: REF-2
            Ok(_) => RefusalNotice::bare(refusal),
            Err(error) => {
                tracing::error!(%error, "a refusal could not be recorded");
                let refused = Refused::Audit(error);
                RefusalNotice::detailed(refused.refusal(), refused.to_string())
            }
        }
    }

    /// A refusal while nothing may be appended: what follows up a record, and an alarm, waits in the outbox;
    /// the others are counted as a stranger's are.
    async fn refuse_unrecorded(
        &self,
        entry: &Entry,
        refusal: Refusal,
        refused: &Refused,
    ) -> RefusalNotice {
        // rule: TLOG-10
        tracing::info!(act = %entry.act, refusal = refusal.number(), why = %refused, "refused, and not recorded: the log was rolled back");
        if !matches!(entry.kind, Kind::Withheld | Kind::Alarm) {
            let source = entry
                .source
                .as_deref()
                .and_then(|source| source.parse().ok());
            self.counted.add(source, refusal);
        } else if let Err(error) = self.put_aside(entry).await {
            tracing::error!(%error, "a refusal could not be recorded");
        }
        RefusalNotice::detailed(refusal, refused.to_string())
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.clock.now(),
            monotonic: self.clock.monotonic(),
        }
    }

    async fn present(
        self: &Arc<Self>,
        connection: &Connection,
        request: &RequestView<'_>,
    ) -> Result<Released, Failed> {
        let act = self.act();
        let identified = present::identify(&self.state, connection, request, self.moment())
            .map_err(Failed::stranger)?;
        let (identified, proven) = self.prove(identified, request.body.len()).await?;
        let proven = match proven {
            Ok(proven) => Ok(proven),
            Err(NotIssued::Refused(refused)) => Err(refused),
            Err(NotIssued::Forked(fork)) => {
                self.broker_forked(&fork).await;
                Err(Refused::Forked)
            }
        };
        let moment = self.moment();
        let (entry, opened) = {
            let permit = self.state.gate.permit();
            let entry = identified.entry(&self.state, connection, act, moment, &permit);
            let opened = proven.and_then(|proven| {
                present::decide(
                    &self.state,
                    connection,
                    identified,
                    proven,
                    moment,
                    &permit,
                    &mut rng(),
                )
            });
            (entry, opened)
        };
        let (opened, entry) = match opened {
            Ok(opened) => {
                let entry = opened.complete(entry);
                (opened, entry)
            }
            Err(refused) => {
                match refused {
                    Refused::Evidence(_) => self.raise_evidence(&entry).await,
                    Refused::NoReceipt | Refused::Receipt(_) | Refused::OtherReceipt => {
                        self.raise_unlogged(&entry).await;
                    }
                    _ => {}
                }
                return Err(Failed::known(refused, entry));
            }
        };
        // rule: AUD-1
        if let Err(error) = self.append(&entry).await {
            return Err(Failed::known(error, entry));
        }
        // Said before the permit is taken: a log that is slow must not hold up denials (DEN-5), nor the
        // answer after the permit is gone.
        let subject = entry.subject.as_deref().unwrap_or_default();
        tracing::info!(%act, exchange = "present", node = subject, dataset = %dataset_of(&entry), "recorded");
        let moment = self.moment();
        // rule: DEN-5
        let permit = self.state.gate.permit();
        match opened.release(&self.state, connection, moment, &permit) {
            Ok(answer) => Ok(Released {
                bytes: answer.to_bytes(),
                permit: Some(permit),
            }),
            Err(refused) => Err(self.withheld(&entry, refused)),
        }
    }

    /// Checks what is beside a ticket, of so many bytes together: of a long chain on a thread of its own.
    async fn prove(
        self: &Arc<Self>,
        identified: present::Identified,
        size: usize,
    ) -> Result<(present::Identified, Result<present::Proven, NotIssued>), Failed> {
        if size < HEAVY {
            let proven = identified.prove(&self.state, self.moment());
            return Ok((identified, proven));
        }
        let turn = Arc::clone(&self.heavy).acquire_owned().await;
        let service = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let proven = identified.prove(&service.state, service.moment());
            (identified, proven)
        });
        task.await
            .map_err(|_| Failed::stranger(Refused::Internal("a check did not finish")))
    }

    async fn batch(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        message: Bytes,
    ) -> Result<Released, Failed> {
        // rule: RED-1 — before anything is waited for, so that a stranger takes nobody's turn.
        let proven = {
            let request = RequestView::parse(&message).map_err(Failed::stranger)?;
            batch::prove(connection, &request).map_err(Failed::stranger)?
        };
        let (decided, entry, written) = if message.len() < HEAVY {
            self.decide(connection, &message, proven)?
        } else {
            // No more of them at a time than there are cores; the others wait here, not on a thread.
            let turn = Arc::clone(&self.heavy).acquire_owned().await;
            let (service, connection) = (Arc::clone(self), Arc::clone(connection));
            let task = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                service.decide(&connection, &message, proven)
            });
            task.await.unwrap_or_else(|_| {
                Err(Failed::stranger(Refused::Internal(
                    "a decision did not finish",
                )))
            })?
        };
        // rule: RED-6, AUD-4
        let (appended, bytes) = match self.append(&entry).await {
            Ok(appended) => appended,
            Err(error) => {
                decided.undo();
                return Err(Failed::known(error, batch::nothing_done(entry)));
            }
        };
        // rule: AUD-5 — what could not be written is counted, and holds up nothing.
        let _ = written.wait(SIDE).await;
        // rule: EXP-2 — the keys of a canary leave only when its alarm is durable, and after the denial
        // that it may bring.
        if let Err(refused) = self.raise(&decided, &entry).await {
            return Err(self.withheld(&entry, refused));
        }
        // rule: TLOG-8 — before the permit is taken: a witness that is slow must not hold up denials (DEN-5).
        let receipt = match self.witnessed(&decided, &appended, bytes).await {
            Ok(receipt) => receipt,
            Err(refused) => return Err(self.withheld(&entry, refused)),
        };
        let count = decided.count();
        let node = entry.subject.as_deref().unwrap_or_default();
        let items = entry.items.as_ref().map_or(0, Vec::len);
        // As in `present`, before the permit is taken.
        // The log tells of each; a line of text for each would cost more than the keys.
        tracing::debug!(act = %entry.act, exchange = entry.kind.name(), node, dataset = %dataset_of(&entry), items, done = count, "recorded");
        let moment = self.moment();
        // rule: DEN-5 — what is released under this permit is returned before an epoch that is applied
        // from here on is acknowledged.
        let permit = self.state.gate.permit();
        let released = decided.release(&self.state, moment, &permit, receipt, &mut rng());
        let bytes = released.map_err(|refused| self.withheld(&entry, refused))?;
        self.metrics.released(entry.kind, count);
        Ok(Released {
            bytes,
            permit: Some(permit),
        })
    }

    /// The receipt of a batch; where the dataset requires witnesses, when they have cosigned.
    async fn witnessed(
        &self,
        decided: &Decided,
        appended: &Appended,
        entry: Vec<u8>,
    ) -> Result<Receipt, Refused> {
        // rule: RED-6, TLOG-8
        let Some(policy) = decided.witnesses() else {
            return Ok(record::receipt(appended, entry));
        };
        let proof = self.log.witnessed(appended.index, policy, WITNESSED).await;
        let proof = proof.map_err(|error| Refused::Unwitnessed(error.to_string()))?;
        Ok(Receipt { entry, proof })
    }

    /// The part of a batch that needs no wait.
    fn decide(
        &self,
        connection: &Connection,
        message: &[u8],
        proven: Proven,
    ) -> Result<(Decided, Entry, Written), Failed> {
        let request = RequestView::parse(message).map_err(Failed::stranger)?;
        let (act, moment) = (self.act(), self.moment());
        let identified = proven.identify(&request).map_err(Failed::stranger)?;
        let permit = self.state.gate.permit();
        let entry = identified.entry(&self.state, connection, act, moment, &permit);
        match batch::decide(
            &self.state,
            connection,
            &identified,
            moment,
            &permit,
            &mut rng(),
        ) {
            Ok(decided) => {
                let entry = decided.complete(entry);
                // Handed over before the record is, so that it is written while that becomes durable.
                let contexts = decided.contexts(&identified, |digests| self.side.missing(digests));
                Ok((decided, entry, self.side.put_all(contexts)))
            }
            Err(refused) => Err(Failed::known(refused, entry)),
        }
    }

    /// What was decided and recorded may not leave any more: the follow-up record says so.
    fn withheld(&self, recorded: &Entry, refused: Refused) -> Failed {
        // rule: RED-2
        let mut entry =
            Entry::new(self.act(), Kind::Withheld, self.clock.now()).follows(recorded.act);
        entry.subject.clone_from(&recorded.subject);
        (entry.dataset, entry.ticket, entry.ticket_hash) =
            (recorded.dataset, recorded.ticket, recorded.ticket_hash);
        entry.launch = recorded.launch;
        entry.epoch = Some(self.state.gate.permit().epoch().number());
        Failed::known(refused, entry)
    }

    /// What is done once a minute: the outbox, counted refusals, the time, and what may be forgotten.
    pub async fn each_minute(&self) {
        let now = self.clock.now();
        self.finish_recovery().await;
        self.expire_drill();
        self.expire_backup().await;
        // rule: TLOG-10
        if self.state.standing.check().is_ok() {
            // rule: AUD-2
            if let Err(error) = self.drain_outbox().await {
                tracing::error!(%error, "the outbox could not be drained");
            }
            for entry in self.counted.drain(now, || self.act()) {
                if let Err(error) = self.append(&entry).await {
                    tracing::error!(%error, "refusals could not be recorded");
                }
            }
        }
        if self.state.latest.see(now).is_err() {
            tracing::error!(%now, latest = %self.state.latest.get(), "the clock went back");
        }
        // rule: TIM-1
        let latest = self.state.latest.get();
        if let Err(error) = self
            .store
            .commit(Transaction::new().put(records::TIME, latest.to_cbor()))
            .await
        {
            tracing::error!(%error, "the time could not be persisted");
        }
        if let Some(fork) = self.state.broker_log.unkept_fork() {
            self.broker_forked(&fork).await;
        }
        self.remember_broker_log().await;
        self.state.budgets.sweep(now);
        self.habits.sweep(now);
        self.do_what_is_due().await;
        if let Err(error) = self.forget(now).await {
            tracing::error!(%error, "expired denials and statements could not be forgotten");
        }
        if let Err(error) = self.reconsider().await {
            tracing::error!(%error, "liftings could not be looked at again");
        }
    }

    /// Finishes what is under way in store and log, and closes them.
    pub async fn close(&self) {
        self.remember_broker_log().await;
        self.hook.shutdown().await;
        self.inventory.close().await;
        self.side.close().await;
        self.log.close().await;
        self.store.close().await;
    }

    /// What became of the alarms that the hook was told of.
    #[must_use]
    pub fn hook_counts(&self) -> HookCounts {
        self.hook.counts()
    }

    /// Contexts that the side file lost.
    #[must_use]
    pub fn contexts_lost(&self) -> u64 {
        self.side.lost()
    }

    /// Entries in the audit log.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.log.head().entries
    }

    /// This server's log.
    #[must_use]
    pub fn log(&self) -> &AuditLog {
        &self.log
    }

    /// The clocks.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

fn dataset_of(entry: &Entry) -> String {
    entry.dataset.map(|id| id.to_string()).unwrap_or_default()
}
