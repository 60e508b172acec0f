//! Records: what must be durable before an answer leaves (AUD-1, AUD-2).

use std::time::Instant;

use audit_log::guard::NotGood;
use audit_log::{AppendError, Appended};
use store::Transaction;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::Entry;
use ticket_format::ids::ActId;
use ticket_format::limits;
use ticket_format::messages::Receipt;

use super::Service;
use super::start::StartError;
use crate::records;
use crate::refused::Refused;

impl Service {
    /// A fresh act id.
    pub(super) fn act(&self) -> ActId {
        ActId::random(&mut super::rng())
    }

    /// Appends an entry and waits until it is durable. One place for alarms: each is told of here or in
    /// [`Service::drain`], even where it cannot be recorded.
    pub(super) async fn append(&self, entry: &Entry) -> Result<(Appended, Vec<u8>), AppendError> {
        let (bytes, begun) = (entry.to_cbor(), Instant::now());
        let appended = self.log.append(bytes.clone()).await;
        self.metrics.committed(begun.elapsed());
        self.raised(appended.as_ref().ok().map(|appended| appended.index), entry);
        Ok((appended?, bytes))
    }

    /// Appends an entry that a commit left in the outbox, once, and takes it out of there.
    pub(super) async fn drain(&self, entry: &Entry) -> Result<Receipt, Refused> {
        // rule: AUD-2
        let (act, bytes) = (entry.act, entry.to_cbor());
        let appended = self.log.append_once(act.0, bytes.clone()).await?;
        if !appended.repeated {
            self.raised(Some(appended.index), entry);
        }
        // The entry stands in the log; one that stays in the outbox is drained again at start, to no effect.
        if let Err(error) = self
            .store
            .commit(Transaction::new().delete(records::outbox(act)))
            .await
        {
            tracing::warn!(%act, %error, "an entry stays in the outbox");
        }
        Ok(receipt(&appended, bytes))
    }

    /// Appends an entry that a commit left in the outbox, unless nothing may be appended now: then it waits
    /// there.
    pub(super) async fn settle(&self, entry: &Entry) -> Result<(), Refused> {
        // rule: TLOG-10 — each append to a log that was rolled back signs another history of it.
        match self.state.standing.check() {
            Ok(()) => self.drain(entry).await.map(drop),
            Err(NotGood) => {
                self.raised(None, entry);
                Ok(())
            }
        }
    }

    /// Leaves an entry in the outbox, for a log to which nothing may be appended now.
    pub(super) async fn put_aside(&self, entry: &Entry) -> Result<(), Refused> {
        let commit = Transaction::new().put(records::outbox(entry.act), entry.to_cbor());
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Drains what a crash, or a log that could not be written, left in the outbox.
    pub(super) async fn drain_outbox(&self) -> Result<(), StartError> {
        // rule: AUD-2
        for (key, value) in records::all(&*self.store, records::OUTBOX).await? {
            let entry = Entry::from_cbor(&value.value, limits::ENTRY)
                .map_err(|_| StartError::Record(lossy(&key)))?;
            self.drain(&entry).await.map_err(StartError::Outbox)?;
        }
        Ok(())
    }
}

/// What proves that an entry stands in the log.
pub(super) fn receipt(appended: &Appended, entry: Vec<u8>) -> Receipt {
    // rule: RED-6, TLOG-5
    let proof = appended.proof();
    Receipt { entry, proof }
}

/// A key of the store, for messages.
pub(super) fn lossy(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
