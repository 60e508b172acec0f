//! What login and renew share: freezing a node's record, and making a node ticket.

use rand_core::CryptoRng;
use ticket_format::denial::{Denial, Selector};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{ActId, EvidenceHash, LaunchId, StatementDigest, TicketId};
use ticket_format::keys::{NodeKey, ProofKey};
use ticket_format::limits;
use ticket_format::seal::SealingKey;
use ticket_format::ticket::{Attributes, Common, NodeClaims};
use ticket_format::time::Timestamp;

use crate::Refused;
use crate::realm::Realm;
use crate::state::{Changes, FeedHead, Frozen, NodeRecord, StoredEpoch, keys};

/// A ticket that is being made while its node is frozen may be this many seconds newer than the freeze;
/// after an admin's decision the node waits for as long at most.
const UNDER_WAY: u64 = 3;

/// The author of the denials that a broker makes by itself.
pub(crate) const BROKER: &str = "broker";

/// Freezes a node's record and denies its tickets, in one transaction with the alarm (LOG-8, REN-3):
/// all that were given, also those that begin ahead of the clock since an earlier freeze.
pub(crate) fn freeze(
    node: &NodeRecord,
    frozen: Frozen,
    head: FeedHead,
    act: ActId,
    changes: &mut Changes,
    rng: &mut impl CryptoRng,
) {
    // rule: LOG-8, REN-3
    let name = node.attributes.node.clone();
    let (at, alarm) = (frozen.at, frozen.alarm);
    let mut record = node.clone();
    record.frozen = Some(frozen);
    record.from = record
        .from
        .max(at.plus(UNDER_WAY))
        .max(record.issued.plus(1));
    changes.put(keys::node(&name), &record);

    let selector = Selector::node(name.clone()).issued_before(record.from);
    let reason = format!("two holders of one node: {alarm}");
    let statement = StatementDigest([0; 32]);
    let denial = Denial::new(selector, reason, statement, at, BROKER.to_owned());
    let denied = StoredEpoch::denial(head, denial);
    let epoch = denied.number;
    denied.make(changes);
    changes.record(
        Entry::new(ActId::random(rng), Kind::Denial, at)
            .subject(&name)
            .epoch(epoch)
            .follows(act),
    );
    changes.record(
        raise(alarm, at, act, rng)
            .subject(&name)
            .launch(node.claim.launch),
    );
}

/// An alarm that follows up an act.
pub(crate) fn raise(alarm: Alarm, at: Timestamp, act: ActId, rng: &mut impl CryptoRng) -> Entry {
    Entry::alarm(ActId::random(rng), alarm, at).follows(act)
}

/// What a node ticket is made from.
pub(crate) struct NewTicket<'a> {
    pub(crate) attributes: &'a Attributes,
    pub(crate) launch: LaunchId,
    pub(crate) node_key: NodeKey,
    pub(crate) proof_key: ProofKey,
    pub(crate) sealing_key: &'a SealingKey,
    pub(crate) evidence: EvidenceHash,
    pub(crate) issued: Timestamp,
    /// It never lives longer than this.
    pub(crate) until: Timestamp,
}

/// A signed node ticket with what the record keeps of it.
pub(crate) struct MadeTicket {
    pub(crate) id: TicketId,
    pub(crate) expires: Timestamp,
    pub(crate) bytes: Vec<u8>,
}

impl NewTicket<'_> {
    /// Signs it; none when no life is left.
    ///
    /// # Errors
    /// Refusal 5: it cannot be signed.
    pub(crate) fn make(
        self,
        realm: &Realm,
        rng: &mut impl CryptoRng,
    ) -> Result<Option<MadeTicket>, Refused> {
        // rule: REN-5, KEY-2
        let expires = self.issued.plus(limits::NODE_TICKET_LIFE);
        let expires = expires.min(self.until).min(realm.tickets.end(self.issued));
        if expires <= self.issued {
            return Ok(None);
        }
        let id = TicketId::random(rng);
        let common = Common {
            realm: realm.name.clone(),
            audience: realm.audience(),
            expires,
            issued: self.issued,
            id,
            proof_key: self.proof_key,
            sealing_key: self.sealing_key.clone(),
            launch: self.launch,
            attributes: self.attributes.clone(),
            evidence: self.evidence,
        };
        let bytes = realm.tickets.sign(&NodeClaims {
            common,
            node_key: self.node_key,
        })?;
        Ok(Some(MadeTicket { id, expires, bytes }))
    }
}
