//! Evidence beside the ticket (EVD-1): the broker signs tickets, but where a dataset wants evidence its
//! word is compared with what the launch's admins, AWS and the node's keys have signed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ticket_format::evidence::{self, EvidenceError, Trust};
use ticket_format::ids::TicketHash;
use ticket_format::iid::RegionKeys;
use ticket_format::keys::TlsKey;
use ticket_format::messages::present::Evidence;
use ticket_format::statement::AdminSet;
use ticket_format::ticket::{DatasetClaims, Live};
use ticket_format::time::Timestamp;

use crate::refused::Refused;

/// Most tickets that are remembered as proven.
const REMEMBERED: usize = 8_192;

/// Checks evidence, and remembers which tickets were proven under which admin set: a job that connects
/// again costs no second walk over its chain. The ticket's hash stands for all that was compared.
#[derive(Debug)]
pub struct Checker {
    broker: TlsKey,
    regions: RegionKeys,
    proven: Mutex<HashMap<TicketHash, Remembered>>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    admin_set: u64,
    expires: Timestamp,
}

/// The version of the admin set under which a ticket was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvenUnder(u64);

impl ProvenUnder {
    /// Whether this is still the set in force: a launch counts for as long as who signed it does.
    #[must_use]
    pub fn is(self, admin_set: u64) -> bool {
        self.0 == admin_set
    }
}

impl Checker {
    /// A checker of what was signed for this broker, by nodes in these regions.
    #[must_use]
    pub fn new(broker: TlsKey, regions: RegionKeys) -> Self {
        Self {
            broker,
            regions,
            proven: Mutex::default(),
        }
    }

    /// The broker's TLS key, which evidence names.
    #[must_use]
    pub fn broker(&self) -> TlsKey {
        self.broker
    }

    /// Checks that `evidence` proves what the ticket says; `dataset` is the name that this server knows
    /// the ticket's dataset by. A ticket that was proven under this admin set is not walked again.
    ///
    /// # Errors
    /// [`Refused::NoEvidence`], or [`Refused::Evidence`] with the first thing that does not fit.
    pub fn check(
        &self,
        ticket: &Live<DatasetClaims>,
        evidence: Option<&Evidence>,
        dataset: &str,
        realm: &str,
        admins: &AdminSet,
        now: Timestamp,
    ) -> Result<ProvenUnder, Refused> {
        // rule: EVD-1
        let evidence = evidence.ok_or(Refused::NoEvidence)?;
        let (hash, claims) = (ticket.hash(), ticket.claims());
        let proven = ProvenUnder(admins.version());
        let before = self.lock().get(&hash).copied();
        if before.is_some_and(|before| proven.is(before.admin_set)) {
            return Ok(proven);
        }
        let trust = Trust {
            realm,
            broker: self.broker,
            admins,
            regions: &self.regions,
            now,
        };
        evidence::verify(evidence, claims, dataset, &trust).map_err(refused)?;
        self.remember(hash, proven, claims.common.expires, now);
        Ok(proven)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TicketHash, Remembered>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, hash: TicketHash, proven: ProvenUnder, expires: Timestamp, now: Timestamp) {
        let mut remembered = self.lock();
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, ticket| ticket.expires > now && proven.is(ticket.admin_set));
        }
        if remembered.len() >= REMEMBERED {
            // So many live ones: to prove one of them again costs less than to hold them all.
            remembered.clear();
        }
        let admin_set = proven.0;
        remembered.insert(hash, Remembered { admin_set, expires });
    }
}

fn refused(error: EvidenceError) -> Refused {
    Refused::Evidence(Box::new(error))
}
