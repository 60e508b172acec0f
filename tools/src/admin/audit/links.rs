//! How the shards of a log hang together (TLOG-4, TLOG-10), and what their entries' times may be (TIM-1).

use ticket_format::entry::{Entry, Kind};
use ticket_format::limits;
use ticket_format::time::Timestamp;
use ticket_format::tlog::Checkpoint;

use super::published::{Finding, What};

/// What a shard must continue: the one before it, at its end.
#[derive(Clone, Debug)]
pub struct Before {
    /// Its last checkpoint.
    pub checkpoint: Checkpoint,
    /// Entries of the log up to there.
    pub entries: u64,
    /// Whether its last entry says that it was closed; none when its entries are not there any more.
    pub closed: Option<bool>,
}

/// A log's entries in their order, as far as they were looked at.
#[derive(Clone, Debug, Default)]
pub struct Order {
    latest: Timestamp,
    /// Whether the shard's last entry so far was *closed*.
    closed: bool,
}

impl Order {
    /// Goes on after entries whose latest time was this.
    #[must_use]
    pub fn after(latest: Timestamp) -> Self {
        Self {
            latest,
            closed: false,
        }
    }

    /// Goes on where a shard was left.
    #[must_use]
    pub fn resumed(latest: Timestamp, closed: bool) -> Self {
        Self { latest, closed }
    }

    /// The latest time so far.
    #[must_use]
    pub fn latest(&self) -> Timestamp {
        self.latest
    }

    /// Whether the last entry ended its shard.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Looks at the next entry; `index` in its shard, `signed` when the shard's checkpoint was.
    pub fn next(
        &mut self,
        shard: u64,
        index: u64,
        entry: &Entry,
        signed: Timestamp,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut found = |what, why: String| findings.push(Finding::new(what, shard, why).at(index));
        // rule: TIM-1
        if entry.time.plus(limits::SKEW) < self.latest {
            found(
                What::BackDated,
                format!(
                    "its time is {}, and an entry before it says {}: it was back-dated, or recorded late",
                    entry.time, self.latest
                ),
            );
        }
        if entry.time > signed.plus(limits::SKEW) {
            found(
                What::BackDated,
                format!(
                    "its time is {}, and the checkpoint over it was signed {signed}: one of them is wrong",
                    entry.time
                ),
            );
        }
        // rule: TLOG-4
        if entry.kind == Kind::ShardOpened && index != 0 {
            found(
                What::Link,
                "it opens a shard and is not its first".to_owned(),
            );
        }
        if self.closed && index != 0 {
            found(What::Link, "it stands after the shard's end".to_owned());
        }
        self.closed = entry.kind == Kind::ShardClosed;
        self.latest = self.latest.max(entry.time);
        findings
    }
}

/// Looks at the first entry of a shard: what it says of the one before. Gives how many entries stand
/// before the shard, where that is told.
pub fn opened(
    shard: u64,
    first: &Entry,
    before: Option<&Before>,
    findings: &mut Vec<Finding>,
) -> Option<u64> {
    let mut found = |why: String| findings.push(Finding::new(What::Link, shard, why).at(0));
    if first.kind != Kind::ShardOpened {
        if shard != 1 {
            found("it does not begin with an entry that opens it".to_owned());
        }
        return None;
    }
    // A recovery names the statement that ordered it.
    let recovered = first.proof.is_some() || first.seen.is_some();
    if let Some(before) = before {
        // rule: TLOG-4, TLOG-10
        match &first.log {
            Some(named) if *named == before.checkpoint => {}
            Some(named) if named.shard == before.checkpoint.shard => found(format!(
                "it continues {} at {} entries with another root or size than the {} that are there",
                named.shard, named.size, before.checkpoint.size
            )),
            Some(named) => found(format!(
                "it continues {} and follows {}",
                named.shard, before.checkpoint.shard
            )),
            None => found("it does not say which shard it continues".to_owned()),
        }
        if first.count != Some(before.entries) {
            found(format!(
                "it says that {} entries stand before it, and {} do",
                first.count.unwrap_or(0),
                before.entries
            ));
        }
        if before.closed == Some(false) && !recovered {
            found(format!(
                "{} was not closed, and no recovery is on record",
                before.checkpoint.shard
            ));
        }
        if shard != before.checkpoint.shard.number + 1 && !recovered {
            findings.push(Finding::new(
                What::MissingShard,
                before.checkpoint.shard.number + 1,
                format!(
                    "shard {shard} follows shard {}",
                    before.checkpoint.shard.number
                ),
            ));
        }
    }
    first.count
}
