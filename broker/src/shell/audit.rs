//! The audit log as the exchanges use it.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use audit_log::{Appended, AuditLog, SideFile};
use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::Entry;
use ticket_format::ids::ActId;
use ticket_format::limits;
use ticket_format::messages::Receipt;

use super::alarms::Alarms;
use super::directory::Directory;
use super::metrics::Metrics;
use crate::Refused;
use crate::state::keys;

/// The log and its side file, and the outbox keys whose entries stand in the log.
pub(crate) struct Audit {
    log: AuditLog,
    side: SideFile,
    alarms: Alarms,
    metrics: Metrics,
    drained: Mutex<Vec<String>>,
}

/// An entry that stands in the log, durable and under a signed checkpoint.
pub(crate) struct InLog {
    entry: Vec<u8>,
    appended: Appended,
}

impl InLog {
    /// Its index in the log.
    pub(crate) fn index(&self) -> u64 {
        self.appended.index
    }

    /// What the caller gets to prove it (TLOG-5).
    pub(crate) fn receipt(self) -> Receipt {
        // rule: TLOG-3, TLOG-5
        let proof = self.appended.proof();
        self.under(proof)
    }

    /// Its receipt by another proof of it, under a checkpoint that witnesses have cosigned.
    pub(crate) fn under(self, proof: String) -> Receipt {
        Receipt {
            entry: self.entry,
            proof,
        }
    }
}

fn unwritten(error: audit_log::AppendError) -> Refused {
    // rule: AUD-4
    Refused::stranger(Refusal::AuditUnavailable, error)
}

impl Audit {
    pub(crate) fn new(log: AuditLog, side: SideFile, alarms: Alarms, metrics: Metrics) -> Self {
        Self {
            log,
            side,
            alarms,
            metrics,
            drained: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn log(&self) -> &AuditLog {
        &self.log
    }

    /// What stands behind the hashes of entries (AUD-5).
    pub(crate) fn side(&self) -> &SideFile {
        &self.side
    }

    /// Whom alarms are told.
    pub(crate) fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Ends: what was appended is durable, files are released, hooks are stopped.
    pub(crate) async fn close(&self) {
        self.log.close().await;
        self.side.close().await;
        self.alarms.close().await;
    }

    /// Appends an entry of an act that changed no state.
    pub(crate) async fn append(&self, entry: &Entry) -> Result<InLog, Refused> {
        // rule: AUD-1
        let bytes = entry.to_cbor();
        let began = Instant::now();
        let appended = self.log.append(bytes.clone()).await.map_err(unwritten)?;
        self.metrics.committed(began.elapsed());
        self.alarms.recorded(appended.index, entry);
        Ok(InLog {
            entry: bytes,
            appended,
        })
    }

    /// Appends entries that a commit put into the outbox, once each; gives the first one.
    pub(crate) async fn drain(&self, entries: &[Entry]) -> Result<Option<InLog>, Refused> {
        // rule: AUD-2
        let mut first = None;
        for entry in entries {
            let logged = self.append_once(entry.act, entry.to_cbor()).await?;
            self.alarms.recorded(logged.index(), entry);
            first.get_or_insert(logged);
        }
        Ok(first)
    }

    async fn append_once(&self, act: ActId, entry: Vec<u8>) -> Result<InLog, Refused> {
        let began = Instant::now();
        let appended = self
            .log
            .append_once(act.0, entry.clone())
            .await
            .map_err(unwritten)?;
        self.metrics.committed(began.elapsed());
        self.drained
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(keys::outbox(act));
        Ok(InLog { entry, appended })
    }

    /// Removes outbox keys whose entries stand in the log.
    pub(crate) async fn sweep(&self, directory: &Directory) -> Result<(), Refused> {
        let mut drained =
            std::mem::take(&mut *self.drained.lock().unwrap_or_else(PoisonError::into_inner));
        // What was drained twice stands there twice.
        drained.sort();
        drained.dedup();
        let swept = directory.remove(&drained).await;
        if swept.is_err() {
            self.drained
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(drained);
        }
        swept
    }

    /// Drains everything that waits: at start, and after the log could not be written.
    pub(crate) async fn drain_all(&self, directory: &Directory) -> Result<usize, Refused> {
        // rule: AUD-2
        let mut total = 0;
        loop {
            let waiting = directory.outbox().await?;
            if waiting.is_empty() {
                return Ok(total);
            }
            total += waiting.len();
            for (act, bytes) in waiting {
                let logged = self.append_once(act, bytes).await?;
                // An alarm of an act whose answer never left was told nobody.
                if let Ok(entry) = Entry::from_cbor(&logged.entry, limits::ENTRY) {
                    self.alarms.recorded(logged.index(), &entry);
                }
            }
            self.sweep(directory).await?;
        }
    }

    /// Calls `seen` with every entry that the retention has left, across shards.
    pub(crate) async fn replay(
        &self,
        mut seen: impl FnMut(Entry) + Send + 'static,
    ) -> Result<(), Refused> {
        let log = self.log.clone();
        let read = tokio::task::spawn_blocking(move || {
            for record in log.read(log.first_kept()) {
                let record = record.map_err(|error| error.to_string())?;
                let entry = Entry::from_cbor(&record.entry, limits::ENTRY)
                    .map_err(|error| error.to_string())?;
                seen(entry);
            }
            Ok::<(), String>(())
        });
        let read = read
            .await
            .map_err(|error| error.to_string())
            .and_then(|read| read);
        read.map_err(|error| Refused::stranger(Refusal::AuditUnavailable, error))
    }
}
