//! What a decision wants to change: committed whole, or not at all.

use ticket_format::cbor::Encode;
use ticket_format::entry::Entry;

use super::StoredEpoch;

/// Writes of one transaction, with the audit entries that go with it (AUD-2). They are committed only
/// if every record that the decision was made on still stands as it was gathered.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Keys and their new values.
    pub puts: Vec<(String, Vec<u8>)>,
    /// Keys that go.
    pub deletes: Vec<String>,
    /// Audit entries; the first is the act's own, whose receipt the answer brings.
    pub entries: Vec<Entry>,
    /// Denials and liftings among the changes, in order, to be applied when they are durable.
    pub epochs: Vec<StoredEpoch>,
}

impl Changes {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a record.
    pub fn put(&mut self, key: String, record: &impl Encode) -> &mut Self {
        self.puts.push((key, record.to_cbor()));
        self
    }

    /// Adds an audit entry.
    pub fn record(&mut self, entry: Entry) -> &mut Self {
        self.entries.push(entry);
        self
    }
}
