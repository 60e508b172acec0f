//! The audit log as the exchanges use it.

use std::sync::{Mutex, PoisonError};

use audit_log::{AuditLog, SideFile};
use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::Entry;
use ticket_format::ids::ActId;
use ticket_format::limits;
use ticket_format::messages::Receipt;

use super::alarms::Alarms;
use super::directory::Directory;
use crate::Refused;
use crate::state::keys;

/// The log and its side file, and the outbox keys whose entries stand in the log.
pub(crate) struct Audit {
    log: AuditLog,
    side: SideFile,
    alarms: Alarms,
    drained: Mutex<Vec<String>>,
}

fn unwritten(error: audit_log::AppendError) -> Refused {
    // rule: AUD-4
    Refused::stranger(Refusal::AuditUnavailable, error)
}

impl Audit {
    pub(crate) fn new(log: AuditLog, side: SideFile, alarms: Alarms) -> Self {
        Self {
            log,
            side,
            alarms,
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
    pub(crate) async fn append(&self, entry: &Entry) -> Result<Receipt, Refused> {
        // rule: AUD-1
        let bytes = entry.to_cbor();
        let appended = self.log.append(bytes.clone()).await.map_err(unwritten)?;
        self.alarms.recorded(appended.index, entry);
        Ok(Receipt {
            index: appended.index,
            chain: appended.chain,
            entry: bytes,
        })
    }

    /// Appends entries that a commit put into the outbox, once each; gives the first one's receipt.
    pub(crate) async fn drain(&self, entries: &[Entry]) -> Result<Option<Receipt>, Refused> {
        // rule: AUD-2
        let mut first = None;
        for entry in entries {
            let receipt = self.append_once(entry.act, entry.to_cbor()).await?;
            self.alarms.recorded(receipt.index, entry);
            first.get_or_insert(receipt);
        }
        Ok(first)
    }

    async fn append_once(&self, act: ActId, entry: Vec<u8>) -> Result<Receipt, Refused> {
        let appended = self
            .log
            .append_once(act.0, entry.clone())
            .await
            .map_err(unwritten)?;
        self.drained
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(keys::outbox(act));
        Ok(Receipt {
            index: appended.index,
            chain: appended.chain,
            entry,
        })
    }

    /// Removes outbox keys whose entries stand in the log.
    pub(crate) async fn sweep(&self, directory: &Directory) -> Result<(), Refused> {
        let drained =
            std::mem::take(&mut *self.drained.lock().unwrap_or_else(PoisonError::into_inner));
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
                let receipt = self.append_once(act, bytes).await?;
                // An alarm of an act whose answer never left was told nobody.
                if let Ok(entry) = Entry::from_cbor(&receipt.entry, limits::ENTRY) {
                    self.alarms.recorded(receipt.index, &entry);
                }
            }
            self.sweep(directory).await?;
        }
    }

    /// Calls `seen` with every entry. Reads the whole log.
    pub(crate) async fn replay(
        &self,
        mut seen: impl FnMut(Entry) + Send + 'static,
    ) -> Result<(), Refused> {
        let log = self.log.clone();
        let read = tokio::task::spawn_blocking(move || {
            for record in log.read(0) {
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
