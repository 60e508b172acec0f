//! What one log's entries owe to another's: laws that need nothing but the entries (section 10 of the
//! protocol). What needs a node's attributes, pairs, or a denial's whole selector is told by no log.

use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, DatasetId, LaunchId, TicketHash};
use ticket_format::limits;
use ticket_format::statement::datasets::LONGEST_LEASE;
use ticket_format::ticket::Actions;
use ticket_format::time::Timestamp;

/// An entry, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    /// The log's origin.
    pub(super) log: &'a str,
    /// The entry's index in the log.
    pub(super) index: u64,
    /// The entry.
    pub(super) entry: &'a Entry,
}

/// A law that an entry breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Breach {
    /// The alarm's name.
    pub(super) alarm: &'static str,
    /// In which log.
    pub(super) log: String,
    /// At which entry.
    pub(super) index: u64,
    /// Of which act.
    pub(super) act: ActId,
    /// When.
    pub(super) time: Timestamp,
    /// In words.
    pub(super) why: String,
}

impl Breach {
    /// Whether an entry that is still to be read could show that the law was kept.
    #[must_use]
    pub(super) fn may_come_right(&self) -> bool {
        matches!(
            self.alarm,
            "use-without-issue" | "unknown-epoch" | "unknown-policy"
        )
    }
}

impl Said<'_> {
    fn breach(&self, alarm: &'static str, why: impl Into<String>) -> Breach {
        Breach {
            alarm,
            log: self.log.to_owned(),
            index: self.index,
            act: self.entry.act,
            time: self.entry.time,
            why: why.into(),
        }
    }
}

/// A ticket as the entry of its issue tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The node.
    pub(super) node: String,
    /// SHA-256 of the ticket.
    pub(super) hash: TicketHash,
    /// The dataset.
    pub(super) dataset: DatasetId,
    /// The launch.
    pub(super) launch: Option<LaunchId>,
    /// When it was issued.
    pub(super) issued: Timestamp,
    /// When it expires.
    pub(super) expires: Timestamp,
    /// How many DEKs it may open.
    pub(super) budget: u64,
    /// What for; none where the entry does not say.
    pub(super) actions: Option<Actions>,
}

impl Ticket {
    /// The ticket of an issue; none where the entry leaves out what every issue tells.
    #[must_use]
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        Some(Self {
            node: entry.subject.clone()?,
            hash: entry.ticket_hash?,
            dataset: entry.dataset?,
            launch: entry.launch,
            issued: entry.time,
            expires: entry.expires?,
            budget: entry.count?,
            actions: entry.actions,
        })
    }
}

/// What is known of denials: how far the broker's log has come, and the newest epoch that was made well
/// before some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    /// The newest of all.
    pub(super) newest: u64,
    /// The newest that whoever decided must have known.
    pub(super) owed: u64,
}

/// How long after a denial a broker may not know it: it makes them itself.
pub(super) const BROKER_LAG: u64 = limits::SKEW;
/// How long after a denial a key server may not know it: the longest lease (DEN-6).
pub(super) const SERVER_LAG: u64 = LONGEST_LEASE + limits::SKEW;

fn epochs(said: &Said<'_>, known: Epochs) -> Vec<Breach> {
    let Some(epoch) = said.entry.epoch else {
        return vec![said.breach(
            "no-epoch",
            "it does not say under which denials it was decided",
        )];
    };
    if epoch > known.newest {
        let why = format!(
            "it was decided under denial epoch {epoch}, and the broker's log knows none after {}",
            known.newest
        );
        return vec![said.breach("unknown-epoch", why)];
    }
    if epoch < known.owed {
        let why = format!(
            "it was decided under denial epoch {epoch}, when {} had been made long before",
            known.owed
        );
        return vec![said.breach("stale-epoch", why)];
    }
    Vec::new()
}

/// Looks at an issue that was done. `policy`: whether its digest is of a policy that was set, where
/// that is known.
#[must_use]
pub(super) fn issue(said: &Said<'_>, known: Epochs, policy: Option<bool>) -> Vec<Breach> {
    let entry = said.entry;
    let mut all = Vec::new();
    match Ticket::of(entry) {
        None => all.push(said.breach(
            "issue-incomplete",
            "it leaves out node, ticket, dataset, expiry or budget",
        )),
        Some(ticket) => {
            if ticket.expires <= entry.time
                || ticket.expires > entry.time.plus(limits::LONGEST_TICKET_LIFE)
            {
                let why = format!("the ticket expires {}", ticket.expires);
                all.push(said.breach("ticket-life", why));
            }
        }
    }
    all.extend(epochs(said, known));
    if policy == Some(false) {
        all.push(said.breach(
            "unknown-policy",
            "the policy that decided it is none that was in force by a recorded statement",
        ));
    }
    all
}

/// Looks at a presentation or a release of keys that was done. `spent`: how many distinct items its
/// ticket has opened, with it.
#[must_use]
pub(super) fn use_of(
    said: &Said<'_>,
    ticket: Option<&Ticket>,
    known: Epochs,
    spent: u64,
) -> Vec<Breach> {
    let entry = said.entry;
    let Some(ticket) = ticket else {
        return vec![said.breach(
            "use-without-issue",
            format!(
                "{} by a ticket whose issue stands in no broker's log",
                entry.kind.name()
            ),
        )];
    };
    let mut all = Vec::new();
    let mut differs = |what: &str, other: bool| {
        if other {
            let why = format!("its {what} is another than the ticket was issued for");
            all.push(said.breach("ticket-mismatch", why));
        }
    };
    differs("ticket hash", entry.ticket_hash != Some(ticket.hash));
    differs("node", entry.subject.as_ref() != Some(&ticket.node));
    differs("dataset", entry.dataset != Some(ticket.dataset));
    differs("launch", entry.launch != ticket.launch);
    differs("expiry", entry.expires != Some(ticket.expires));
    let more = |granted: Actions| {
        let asked = entry
            .actions
            .into_iter()
            .flat_map(|actions| actions.iter().collect::<Vec<_>>());
        asked.into_iter().any(|action| !granted.contains(action))
    };
    differs("action", ticket.actions.is_some_and(more));
    if entry.time >= ticket.expires.plus(limits::SKEW)
        || entry.time.plus(limits::SKEW) < ticket.issued
    {
        let why = format!(
            "the ticket was good from {} to {}",
            ticket.issued, ticket.expires
        );
        all.push(said.breach("ticket-time", why));
    }
    let releases = matches!(entry.kind, Kind::Redeem | Kind::Generate | Kind::Rewrap);
    if releases && spent > ticket.budget {
        let why = format!(
            "the ticket has opened {spent} keys, and {} were granted",
            ticket.budget
        );
        all.push(said.breach("over-budget", why));
    }
    all.extend(epochs(said, known));
    all
}

#[cfg(test)]
mod tests {
    use ticket_format::ids::TicketId;
    use ticket_format::ticket::Action;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(1_795_372_800 + seconds)
    }

    fn entry(kind: Kind, time: u64) -> Entry {
        Entry::new(ActId([1; 16]), kind, at(time))
            .subject("ec2/123456789012/eu-west-1/i-0123456789abcdef0")
            .ticket_hash(TicketHash([2; 32]))
            .dataset(DatasetId([3; 16]))
            .ticket(TicketId([4; 16]))
            .launch(LaunchId([5; 16]))
            .expires(at(600))
            .epoch(7)
            .actions(Actions::new(&[Action::Decrypt]).unwrap())
    }

    fn names(breaches: Vec<Breach>) -> Vec<&'static str> {
        breaches.into_iter().map(|breach| breach.alarm).collect()
    }

    fn said(entry: &Entry) -> Said<'_> {
        Said {
            log: "house/broker/00",
            index: 1,
            entry,
        }
    }

    const KNOWN: Epochs = Epochs { newest: 7, owed: 6 };

    #[test]
    fn an_issue_is_held_to_its_life_its_epoch_and_a_policy_on_record() {
        let good = entry(Kind::Issue, 0).count(5);
        assert!(issue(&said(&good), KNOWN, Some(true)).is_empty());
        assert!(issue(&said(&good), KNOWN, None).is_empty());
        assert_eq!(
            names(issue(&said(&good), KNOWN, Some(false))),
            ["unknown-policy"]
        );
        let long = good.clone().expires(at(limits::LONGEST_TICKET_LIFE + 1));
        assert_eq!(names(issue(&said(&long), KNOWN, None)), ["ticket-life"]);
        let ahead = good.clone().epoch(8);
        assert_eq!(names(issue(&said(&ahead), KNOWN, None)), ["unknown-epoch"]);
        let stale = good.clone().epoch(5);
        assert_eq!(names(issue(&said(&stale), KNOWN, None)), ["stale-epoch"]);
        let bare = entry(Kind::Issue, 0);
        assert_eq!(
            names(issue(&said(&bare), KNOWN, None)),
            ["issue-incomplete"]
        );
    }

    #[test]
    fn a_use_is_held_to_the_issue_of_its_ticket() {
        let ticket = Ticket::of(&entry(Kind::Issue, 0).count(5)).unwrap();
        let good = entry(Kind::Redeem, 10);
        let judged =
            |entry: &Entry, spent| names(use_of(&said(entry), Some(&ticket), KNOWN, spent));
        assert!(judged(&good, 5).is_empty());
        assert_eq!(judged(&good, 6), ["over-budget"]);
        assert!(judged(&entry(Kind::Present, 10), 6).is_empty());
        assert_eq!(
            names(use_of(&said(&good), None, KNOWN, 0)),
            ["use-without-issue"]
        );
        for other in [
            good.clone().ticket_hash(TicketHash([9; 32])),
            good.clone()
                .subject("ec2/123456789012/eu-west-1/i-0123456789abcdef1"),
            good.clone().dataset(DatasetId([9; 16])),
            good.clone().launch(LaunchId([9; 16])),
            good.clone().expires(at(601)),
            good.clone()
                .actions(Actions::new(&[Action::Encrypt]).unwrap()),
        ] {
            assert_eq!(judged(&other, 1), ["ticket-mismatch"], "{other:?}");
        }
        assert_eq!(
            judged(&entry(Kind::Redeem, 600 + limits::SKEW), 1),
            ["ticket-time"]
        );
        assert_eq!(judged(&good.clone().epoch(8), 1), ["unknown-epoch"]);
        assert_eq!(judged(&good.epoch(5), 1), ["stale-epoch"]);
    }
}
