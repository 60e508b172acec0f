//! The store as the exchanges use it: typed reads that are remembered, and commits that fail when
//! anything that was read has changed.

use std::sync::Arc;

use store::{KeyRange, MAX_PAGE_ENTRIES, MAX_VALUE_BYTES, Outcome, Store, Transaction};
use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::ids::{ActId, Thumbprint};
use ticket_format::time::Timestamp;

use crate::Refused;
use crate::state::{Changes, KeyRole, KeyUse, keys};

/// The store.
#[derive(Clone)]
pub(crate) struct Directory {
    store: Arc<dyn Store>,
    /// The broker's own keys, which no one else may use.
    own: Arc<Vec<Thumbprint>>,
}

/// How a commit ended.
pub(crate) enum Committed {
    Done,
    /// Something that was read has changed: gather again.
    Conflict,
}

pub(crate) fn unavailable(error: store::Error) -> Refused {
    Refused::stranger(Refusal::StoreUnavailable, error)
}

fn damaged(key: &str, error: impl std::fmt::Display) -> Refused {
    Refused::stranger(
        Refusal::Internal,
        format!("the record {key} cannot be read: {error}"),
    )
}

impl Directory {
    pub(crate) fn new(store: Arc<dyn Store>, own: Vec<Thumbprint>) -> Self {
        Self {
            store,
            own: Arc::new(own),
        }
    }

    /// Starts gathering.
    pub(crate) fn reads(&self) -> Reads<'_> {
        Reads {
            directory: self,
            seen: Vec::new(),
        }
    }

    pub(crate) async fn get<T: Decode>(&self, key: &str) -> Result<Option<T>, Refused> {
        self.reads().get(key).await
    }

    /// The same, and where there is none the stand-in is read in its place, to be thrown away.
    pub(crate) async fn get_or_as_if<T: Decode>(
        &self,
        key: &str,
        stand_in: &[u8],
    ) -> Result<Option<T>, Refused> {
        let kept = self.reads().raw(key).await?;
        let there = kept.is_some();
        let value = kept.unwrap_or_else(|| stand_in.to_vec());
        let record = T::from_cbor(&value, MAX_VALUE_BYTES).map_err(|error| damaged(key, error))?;
        Ok(there.then_some(record))
    }

    /// All records under a prefix.
    pub(crate) async fn all<T: Decode>(&self, prefix: &str) -> Result<Vec<T>, Refused> {
        let parse = |name: &str, value: &[u8]| {
            T::from_cbor(value, MAX_VALUE_BYTES).map_err(|error| damaged(name, error))
        };
        self.each(prefix, parse).await
    }

    /// All values under a prefix.
    pub(crate) async fn values(&self, prefix: &str) -> Result<Vec<Vec<u8>>, Refused> {
        self.each(prefix, |_, value| Ok(value.to_vec())).await
    }

    async fn each<T>(
        &self,
        prefix: &str,
        read: impl Fn(&str, &[u8]) -> Result<T, Refused>,
    ) -> Result<Vec<T>, Refused> {
        let mut range = KeyRange::prefix(prefix);
        let mut records = Vec::new();
        loop {
            let page = self
                .store
                .range(range.clone(), MAX_PAGE_ENTRIES)
                .await
                .map_err(unavailable)?;
            for (key, entry) in &page.entries {
                records.push(read(&String::from_utf8_lossy(key), &entry.value)?);
            }
            match page.entries.last() {
                Some((last, _)) if page.more => range = range.after(last),
                _ => return Ok(records),
            }
        }
    }

    /// Keys and values under a prefix after a key, at most so many; and whether there are more.
    pub(crate) async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<(Vec<(String, Vec<u8>)>, bool), Refused> {
        let mut range = KeyRange::prefix(prefix);
        if let Some(after) = after {
            range = range.after(format!("{prefix}{after}").as_bytes());
        }
        let page = self
            .store
            .range(range, most.clamp(1, MAX_PAGE_ENTRIES))
            .await
            .map_err(unavailable)?;
        let rows = page.entries.into_iter();
        Ok((
            rows.map(|(key, entry)| (String::from_utf8_lossy(&key).into_owned(), entry.value))
                .collect(),
            page.more,
        ))
    }

    /// Commits changes with their entries in the outbox (AUD-2), if all that was read still stands.
    pub(crate) async fn commit(
        &self,
        seen: Vec<(String, Option<u64>)>,
        changes: &Changes,
        latest: Timestamp,
    ) -> Result<Committed, Refused> {
        let mut transaction = Transaction::new();
        for (key, revision) in seen {
            transaction = match revision {
                Some(revision) => transaction.at(key, store::Revision(revision)),
                None => transaction.absent(key),
            };
        }
        for (key, value) in &changes.puts {
            transaction = transaction.put(key.as_bytes(), value.clone());
        }
        for key in &changes.deletes {
            transaction = transaction.delete(key.as_bytes());
        }
        // rule: AUD-2
        for entry in &changes.entries {
            transaction = transaction.put(keys::outbox(entry.act), entry.to_cbor());
        }
        // rule: TIM-1
        transaction = transaction.put(keys::TIME, latest.to_cbor());
        match self.store.commit(transaction).await.map_err(unavailable)? {
            Outcome::Committed(_) => Ok(Committed::Done),
            Outcome::Conflict { .. } => Ok(Committed::Conflict),
        }
    }

    /// Removes keys; what is gone already is no fault.
    pub(crate) async fn remove(&self, keys: &[String]) -> Result<(), Refused> {
        for keys in keys.chunks(store::MAX_WRITES) {
            let transaction = keys
                .iter()
                .fold(Transaction::new(), |all, key| all.delete(key.as_bytes()));
            self.store.commit(transaction).await.map_err(unavailable)?;
        }
        Ok(())
    }

    /// Persists the latest time seen (TIM-1).
    pub(crate) async fn keep_time(&self, latest: Timestamp) -> Result<(), Refused> {
        let transaction = Transaction::new().put(keys::TIME, latest.to_cbor());
        self.store
            .commit(transaction)
            .await
            .map(drop)
            .map_err(unavailable)
    }

    /// Audit entries that wait for the log.
    pub(crate) async fn outbox(&self) -> Result<Vec<(ActId, Vec<u8>)>, Refused> {
        let (rows, _) = self.page(keys::OUTBOX, None, 1_000).await?;
        let parsed = rows.into_iter().map(|(key, entry)| {
            let act = key
                .trim_start_matches(keys::OUTBOX)
                .parse::<ActId>()
                .map_err(|error| damaged(&key, error))?;
            Ok((act, entry))
        });
        parsed.collect()
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

/// Reads for one decision, each with the revision that it was read at.
pub(crate) struct Reads<'a> {
    directory: &'a Directory,
    seen: Vec<(String, Option<u64>)>,
}

impl Reads<'_> {
    /// A record's bytes.
    pub(crate) async fn raw(&mut self, key: &str) -> Result<Option<Vec<u8>>, Refused> {
        let entry = self
            .directory
            .store
            .get(key.as_bytes())
            .await
            .map_err(unavailable)?;
        self.seen
            .push((key.to_owned(), entry.as_ref().map(|entry| entry.revision.0)));
        Ok(entry.map(|entry| entry.value))
    }

    /// A record.
    pub(crate) async fn get<T: Decode>(&mut self, key: &str) -> Result<Option<T>, Refused> {
        let value = self.raw(key).await?;
        value
            .map(|value| T::from_cbor(&value, MAX_VALUE_BYTES).map_err(|error| damaged(key, error)))
            .transpose()
    }

    /// Who uses a key.
    pub(crate) async fn key(&mut self, thumbprint: Thumbprint) -> Result<Option<KeyUse>, Refused> {
        if self.directory.own.contains(&thumbprint) {
            return Ok(Some(KeyUse {
                role: KeyRole::Broker,
                owner: "broker".to_owned(),
            }));
        }
        self.get(&keys::key(thumbprint)).await
    }

    /// What was read, as conditions of the commit.
    pub(crate) fn seen(self) -> Vec<(String, Option<u64>)> {
        let mut seen = self.seen;
        seen.sort();
        seen.dedup();
        seen
    }
}
