//! The ticket-signing keys of the running broker: made, put in force by the clock, erased.

use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::keys::TicketKey;
use ticket_format::statement::{TicketKeyMade, TicketKeyRows};
use ticket_format::time::Timestamp;

use super::service::{Broker, Failed};
use crate::Refused;
use crate::administer::Opened;
use crate::state::{Changes, keys};
use crate::tickets::{Bounds, UNNAMED};

impl Broker {
    /// Makes the next key, once for a statement: what it is decided on may change meanwhile.
    pub(super) async fn make_ticket_key(&self, opened: &Opened) -> Result<TicketKeyMade, Refused> {
        let id = opened.statement().id();
        let mut made = self.making.lock().await;
        if let Some((before, key)) = *made
            && before == id
        {
            return Ok(TicketKeyMade { key });
        }
        let ring = &self.realm.tickets;
        if ring.unnamed().len() >= UNNAMED {
            let why =
                format!("{UNNAMED} keys are made already and named by no record: name one of them");
            return Err(opened.refuse(Refusal::Exists, why));
        }
        // rule: KEY-1 — it is kept before anybody hears of it.
        let keeper = ring.keeper();
        let signer = tokio::task::spawn_blocking(move || keeper.make()).await;
        let signer = signer.unwrap_or_else(|error| Err(error.to_string()));
        let signer = signer.map_err(|why| {
            tracing::error!(%why, "a ticket key could not be made");
            Refused::stranger(Refusal::Internal, why)
        })?;
        let key = signer.public();
        ring.add(signer);
        *made = Some((id, key));
        tracing::info!(%key, "a ticket key is made; it signs nothing before a statement says so");
        Ok(TicketKeyMade { key })
    }

    /// What a record of the next key is held to.
    pub(super) fn ticket_bounds(&self) -> Bounds {
        let (datasets, _) = self.datasets("", usize::MAX);
        let records = datasets.iter().map(|entry| &entry.record);
        Bounds::of(records.map(|record| (record.lease, record.max_life)))
    }

    /// The keys, for people and for who has to verify.
    pub(super) fn ticket_key_rows(&self, now: Timestamp) -> TicketKeyRows {
        let ring = &self.realm.tickets;
        TicketKeyRows {
            rows: ring.rows(now),
            records: ring.newest(),
            overlap: self.ticket_bounds().life,
        }
    }

    /// The statements that a node needs to follow the ticket keys: admin sets, then records. None where
    /// the first key stands.
    pub(super) fn ticket_key_records(&self) -> Vec<Vec<u8>> {
        // rule: KEY-3
        let records = self.realm.tickets.newest();
        if records.is_empty() {
            return records;
        }
        let most = ticket_format::messages::issue::TICKET_KEYS;
        let current = self.realm.admins.current().version();
        let sets = self
            .realm
            .admins
            .after(current.saturating_sub(most as u64), most);
        sets.into_iter().chain(records).collect()
    }

    /// Takes the records that the store holds.
    pub(super) async fn load_ticket_keys(&self) -> Result<(), Refused> {
        let known = self.realm.tickets.keys().number();
        let next = keys::ticket_key(known.saturating_add(1));
        if self.directory.reads().raw(&next).await?.is_none() && known > 1 {
            return Ok(());
        }
        let statements = self.directory.values(keys::TICKET_KEYS).await?;
        let loaded = self.realm.tickets.load(statements);
        loaded.map_err(|why| {
            Refused::stranger(Refusal::Internal, format!("the store's ticket keys: {why}"))
        })
    }

    /// Records which key signs, and erases what counts no more. To be called every second or so: which one
    /// signs is said by the time of issue alone (KEY-2), and needs nobody.
    ///
    /// # Errors
    /// The store, the log, or a key that could not be erased: the next call tries again.
    pub(super) async fn turn_ticket_keys(&self) -> Result<(), Refused> {
        self.load_ticket_keys().await?;
        let now = self.time.now()?;
        let ring = &self.realm.tickets;
        let (number, key) = ring.signing(now);
        let told = self.told(keys::TICKET_KEY_SIGNS).await?;
        // rule: KEY-2
        if number > told {
            self.tell(keys::TICKET_KEY_SIGNS, "signs", number, key, now)
                .await?;
            tracing::info!(number, %key, "tickets are signed with another key from now on");
        }
        let erased = self.told(keys::TICKET_KEY_ERASED).await?;
        for over in ring.over(erased, now) {
            let (keeper, key, first) = (ring.keeper(), over.key, over.number == 1);
            let gone = tokio::task::spawn_blocking(move || keeper.erase(&key, first)).await;
            let gone = gone.unwrap_or_else(|error| Err(error.to_string()));
            gone.map_err(|why| Refused::stranger(Refusal::Internal, why))?;
            ring.forget(&over.key);
            self.tell(
                keys::TICKET_KEY_ERASED,
                "erased",
                over.number,
                over.key,
                now,
            )
            .await?;
            tracing::info!(number = over.number, key = %over.key, "a ticket key that counts no more is erased");
        }
        Ok(())
    }

    async fn told(&self, key: &str) -> Result<u64, Refused> {
        let told = self.directory.get::<Number>(key).await?;
        Ok(told.map_or(
            match key {
                keys::TICKET_KEY_SIGNS => 1,
                _ => 0,
            },
            |number| number.0,
        ))
    }

    async fn tell(
        &self,
        marker: &str,
        what: &str,
        number: u64,
        key: TicketKey,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let settled = self.settle(|| async {
            let mut reads = self.directory.reads();
            reads.raw(marker).await?;
            let mut changes = Changes::new();
            changes.put(marker.to_owned(), &Number(number));
            let mut entry = Entry::new(ActId::random(&mut self.rng()), Kind::TicketKey, now)
                .subject(what)
                .count(number);
            entry.proof = Some(key.thumbprint().0);
            changes.record(entry);
            Ok((reads.seen(), changes, ()))
        });
        match settled.await {
            Ok(_) => Ok(()),
            Err(Failed::Recorded(refused) | Failed::Unrecorded(refused)) => Err(refused),
        }
    }
}

struct Number(u64);

impl Encode for Number {
    fn encode(&self, writer: &mut ticket_format::cbor::Writer) {
        writer.uint(self.0);
    }
}

impl ticket_format::cbor::Decode for Number {
    fn decode(
        reader: &mut ticket_format::cbor::Reader<'_>,
    ) -> Result<Self, ticket_format::cbor::DecodeError> {
        reader.uint().map(Self)
    }
}
