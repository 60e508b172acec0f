//! Audit entries (`spec/protocol.md`, section 10): what was asked, by whom, and what came of it.
//! Never a secret (AUD-3).

use crate::Refusal;
use crate::cbor::{DecodeError, Encode, Reader, Writer};
use crate::ids::{
    ActId, DatasetId, EvidenceHash, ItemDigest, KekId, LaunchId, PairsDigest, PolicyDigest,
    RequestHash, TicketHash, TicketId,
};
use crate::limits;
use crate::messages::shape::{
    Bytes, Fixed, List, Maybe, Pair, Shape, Text, UINT, closed_map, item, numbered,
};
use crate::ticket::Actions;
use crate::time::Timestamp;
use crate::tlog::Checkpoint;

numbered! {
    /// What an entry is about (AUD-3).
    pub enum Kind("kind") {
        /// A login.
        Login = 1, "login";
        /// A renewal.
        Renew = 2, "renew";
        /// A dataset ticket.
        Issue = 3, "issue";
        /// A dataset ticket presented.
        Present = 4, "present";
        /// DEKs released.
        Redeem = 5, "redeem";
        /// DEKs made.
        Generate = 6, "generate";
        /// DEKs wrapped anew.
        Rewrap = 7, "rewrap";
        /// A denial made or applied.
        Denial = 8, "denial";
        /// An admin's statement.
        Statement = 9, "statement";
        /// Somebody should look: see the alarm's number.
        Alarm = 10, "alarm";
        /// An answer that was decided and recorded, and then withheld (RED-2).
        Withheld = 11, "withheld";
        /// The server started.
        Start = 12, "start";
        /// Refusals before authentication, of one source in one minute (AUD-1).
        RefusalsCounted = 13, "refusals-counted";
        /// A denied ticket's holder says that it was erased (WIP-2).
        Wiped = 14, "wiped";
        /// A shard of the log begins: always its first entry but in the first shard (TLOG-4).
        ShardOpened = 15, "shard-opened";
        /// A shard of the log ends: nothing follows in it (TLOG-4).
        ShardClosed = 16, "shard-closed";
        /// The key server made, or destroyed, a KEK version by itself (KEK-3, KEK-4).
        Kek = 17, "kek";
        /// The root key was opened by shares, drilled or replaced (ROOT-4, ROOT-6, ROOT-7).
        Root = 18, "root";
        /// A backup was made, or put in the server's place (BAK-1, BAK-4). Its act is the backup's id, or
        /// the restore's own; the proof is the file's SHA-256.
        Backup = 19, "backup";
        /// The broker signs tickets with its next key from now on, or erased one that counts no more
        /// (KEY-2). The count is the record's number, the proof the key's thumbprint.
        TicketKey = 20, "ticket-key";
    }
}

numbered! {
    /// Why somebody should look.
    pub enum Alarm("alarm") {
        /// A launch was used once more than it may be, or by a second node.
        LaunchReused = 1, "launch-reused";
        /// A node logged in with another node key.
        NodeConflict = 2, "node-conflict";
        /// An outdated node key was used.
        Fork = 3, "fork";
        /// A feed answer below the epoch applied, or off its chain.
        FeedRollback = 4, "feed-rollback";
        /// The clock reads before the last persisted time.
        Clock = 5, "clock";
        /// The store is older than the log.
        StoreRollback = 6, "store-rollback";
        /// A statement was sent a second time.
        StatementReplayed = 7, "statement-replayed";
        /// A canary was redeemed.
        Canary = 8, "canary";
        /// A node redeems far more than it used to, or more than its ticket allows.
        Burst = 9, "burst";
        /// The admin set changed.
        AdminSet = 10, "admin-set";
        /// A subscriber of the feed fell silent.
        SubscriberSilent = 11, "subscriber-silent";
        /// A ticket, signed by the broker, says other than its evidence proves.
        Evidence = 12, "evidence";
        /// A witness, or a caller, knows more of this log than it holds, or another one (TLOG-6, TLOG-10).
        LogRollback = 13, "log-rollback";
        /// The broker's log is not one log (TLOG-7).
        LogFork = 14, "log-fork";
        /// A witness fell silent (TLOG-8).
        WitnessSilent = 15, "witness-silent";
        /// A ticket, signed by the broker, came without proof that its issue was recorded (PRE-5).
        UnloggedTicket = 16, "unlogged-ticket";
        /// A wrap was brought whose KEK version waits for its destruction (KEK-4).
        KekUse = 17, "kek-use";
        /// Shares were given that do not open the root key (ROOT-4).
        BadShares = 18, "bad-shares";
        /// An imported KEK version came to its expiry and is disabled (IMP-3).
        KekExpired = 19, "kek-expired";
    }
}

/// How an act ended: done, or refused. On the wire 0 or the refusal's number.
pub type Outcome = Result<(), Refusal>;

struct OutcomeShape;

impl Shape for OutcomeShape {
    type Value = Outcome;

    fn write(&self, value: &Outcome, writer: &mut Writer) {
        writer.uint(value.map_or_else(|refusal| refusal.number().into(), |()| 0));
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Outcome, DecodeError> {
        match reader.uint()? {
            0 => Ok(Ok(())),
            number => Refusal::from_number(number)
                .map(Err)
                .ok_or(DecodeError::OutOfRange("result")),
        }
    }
}

/// Most policies that one entry names.
const POLICIES: usize = 64;

closed_map! {
    /// One entry. Two or more entries of one act share nothing but `follows`.
    ///
    /// CDDL `entry`: members 1 to 4 are always there, the others where they mean something.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Entry {
        /// The act; the outbox drains each once (AUD-2).
        1 act: ActId = item();
        /// What kind of act.
        2 kind: Kind = item();
        /// When it was decided.
        3 time: Timestamp = item();
        /// How it ended.
        4 outcome: Outcome = OutcomeShape;
        /// Node, admin or subscriber.
        5 subject: Option<String> = Maybe(Text(1..=limits::NAME));
        /// The ticket.
        6 ticket_hash: Option<TicketHash> = Maybe(item());
        /// The evidence chain with this act.
        7 evidence: Option<EvidenceHash> = Maybe(item());
        /// The request's body.
        8 request: Option<RequestHash> = Maybe(item());
        /// The policy that decided.
        9 policy: Option<PolicyDigest> = Maybe(item());
        /// The denial epoch that it was decided under.
        10 epoch: Option<u64> = Maybe(UINT);
        /// The dataset.
        11 dataset: Option<DatasetId> = Maybe(item());
        /// Each item of a batch and what became of it.
        12 items: Option<Vec<(ItemDigest, Outcome)>> = Maybe(List(0..=limits::ITEMS, Pair(item(), OutcomeShape)));
        /// The ticket's id.
        13 ticket: Option<TicketId> = Maybe(item());
        /// The ticket's expiry.
        14 expires: Option<Timestamp> = Maybe(item());
        /// The launch.
        15 launch: Option<LaunchId> = Maybe(item());
        /// Budget granted, how many refusals were counted, the admin set's version, or how many entries
        /// stand before a shard.
        16 count: Option<u64> = Maybe(UINT);
        /// Hash of the statement or of the decoded IID proof.
        17 proof: Option<[u8; 32]> = Maybe(Fixed::<32>);
        /// Which alarm.
        18 alarm: Option<Alarm> = Maybe(item());
        /// Source address.
        19 source: Option<String> = Maybe(Text(0..=256));
        /// Policies that decided, by name.
        20 policies: Option<Vec<String>> = Maybe(List(0..=POLICIES, Text(1..=limits::NAME)));
        /// The act that this one follows up.
        21 follows: Option<ActId> = Maybe(item());
        /// The actions that were decided on.
        22 actions: Option<Actions> = Maybe(item());
        /// Digest of the pairs that were decided on; they stand in the side file (AUD-5).
        23 pairs: Option<PairsDigest> = Maybe(item());
        /// Names of the admins who signed.
        24 signers: Option<Vec<String>> = Maybe(List(1..=limits::ADMINS, Text(1..=64)));
        /// Of a shard that begins: the one before, at its end. Of an alarm about a log: as it stands here.
        25 log: Option<Checkpoint> = Maybe(item());
        /// What somebody else has seen of it: a witness, a caller, a key server.
        26 seen: Option<Checkpoint> = Maybe(item());
        /// The KEK version that the act wrapped under, made or destroyed.
        27 kek: Option<KekId> = Maybe(item());
        /// The KEK versions that the items' wraps are under (INV-1).
        28 keks: Option<Vec<KekId>> = Maybe(List(1..=limits::KEKS, item()));
        /// For each item its place in `keks`; 255 for one that is not done, or past the 255th (INV-1).
        29 kek_of: Option<Vec<u8>> = Maybe(Bytes(1..=limits::ITEMS));
        /// Of a rewrap: for each item that is done, how its new wrap is named (REW-1).
        30 moved: Option<Vec<ItemDigest>> = Maybe(List(0..=limits::REWRAPS, item()));
        /// Of a rewrap: which wraps of earlier ones stand where they were made for (REW-2).
        31 confirmed: Option<Vec<ItemDigest>> = Maybe(List(0..=limits::REWRAPS, item()));
    }
}

macro_rules! with {
    ($($(#[$meta:meta])* $name:ident: $type:ty;)*) => {
        impl Entry {$(
            $(#[$meta])*
            #[must_use]
            pub fn $name(mut self, $name: $type) -> Self {
                self.$name = Some($name);
                self
            }
        )*}
    };
}

with! {
    /// Says which ticket, by hash.
    ticket_hash: TicketHash;
    /// Says which evidence chain.
    evidence: EvidenceHash;
    /// Says which request.
    request: RequestHash;
    /// Says which policy text decided.
    policy: PolicyDigest;
    /// Says under which denial epoch it was decided.
    epoch: u64;
    /// Says which dataset.
    dataset: DatasetId;
    /// Says what became of each item.
    items: Vec<(ItemDigest, Outcome)>;
    /// Says which ticket, by id.
    ticket: TicketId;
    /// Says when the ticket expires.
    expires: Timestamp;
    /// Says which launch.
    launch: LaunchId;
    /// Says what budget was granted, or how many refusals were counted.
    count: u64;
    /// Says which statement or IID proof, by hash.
    proof: [u8; 32];
    /// Says which act this one follows up.
    follows: ActId;
    /// Says which actions were decided on.
    actions: Actions;
    /// Says which pairs were decided on, by their digest.
    pairs: PairsDigest;
    /// Says how a log stands here, or how the shard before ended.
    log: Checkpoint;
    /// Says what somebody else has seen of it.
    seen: Checkpoint;
    /// Says which KEK version the act wrapped under, made or destroyed.
    kek: KekId;
    /// Says how the new wraps of a rewrap are named.
    moved: Vec<ItemDigest>;
    /// Says which wraps of earlier rewraps stand where they were made for.
    confirmed: Vec<ItemDigest>;
}

impl Entry {
    /// An entry of an act that was done.
    #[must_use]
    pub fn new(act: ActId, kind: Kind, time: Timestamp) -> Self {
        Self {
            act,
            kind,
            time,
            outcome: Ok(()),
            subject: None,
            ticket_hash: None,
            evidence: None,
            request: None,
            policy: None,
            epoch: None,
            dataset: None,
            items: None,
            ticket: None,
            expires: None,
            launch: None,
            count: None,
            proof: None,
            alarm: None,
            source: None,
            policies: None,
            follows: None,
            actions: None,
            pairs: None,
            signers: None,
            log: None,
            seen: None,
            kek: None,
            keks: None,
            kek_of: None,
            moved: None,
            confirmed: None,
        }
    }

    /// An entry that says that somebody should look.
    #[must_use]
    pub fn alarm(act: ActId, alarm: Alarm, time: Timestamp) -> Self {
        let mut entry = Self::new(act, Kind::Alarm, time);
        entry.alarm = Some(alarm);
        entry
    }

    /// Says how it ended.
    #[must_use]
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// Says that it was refused.
    #[must_use]
    pub fn refused(self, refusal: Refusal) -> Self {
        self.outcome(Err(refusal))
    }

    /// Says who. Cut to 128 bytes.
    #[must_use]
    pub fn subject(mut self, subject: impl ToString) -> Self {
        self.subject =
            Some(cut(subject.to_string(), limits::NAME)).filter(|subject| !subject.is_empty());
        self
    }

    /// Says from where. Cut to 256 bytes.
    #[must_use]
    pub fn source(mut self, source: impl ToString) -> Self {
        self.source = Some(cut(source.to_string(), 256));
        self
    }

    /// Says which KEK versions the items' wraps are under: all of them, and for each item its place there.
    #[must_use]
    pub fn keks(mut self, keks: Vec<KekId>, of: Vec<u8>) -> Self {
        self.keks = Some(keks).filter(|keks| !keks.is_empty());
        self.kek_of = self.keks.is_some().then_some(of);
        self
    }

    /// Names the policies that decided: the first 64, each cut to 128 bytes.
    #[must_use]
    pub fn policies(mut self, policies: impl IntoIterator<Item = String>) -> Self {
        let named = policies.into_iter().filter(|policy| !policy.is_empty());
        self.policies = Some(
            named
                .take(POLICIES)
                .map(|policy| cut(policy, limits::NAME))
                .collect(),
        );
        self
    }

    /// Names the admins who signed: the first 16, each cut to 64 bytes.
    #[must_use]
    pub fn signers(mut self, names: impl IntoIterator<Item = String>) -> Self {
        let named = names.into_iter().filter(|name| !name.is_empty());
        let names: Vec<String> = named
            .take(limits::ADMINS)
            .map(|name| cut(name, 64))
            .collect();
        self.signers = Some(names).filter(|names| !names.is_empty());
        self
    }

    /// Whether its bytes stay within an entry's limit (AUD-3).
    #[must_use]
    pub fn fits(&self) -> bool {
        // rule: AUD-3
        self.to_cbor().len() <= limits::ENTRY
    }
}

fn cut(mut text: String, limit: usize) -> String {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::Decode;
    use crate::messages::mutate::strict;
    use crate::messages::samples::{at, node};
    use crate::ticket::Action;

    fn full() -> Entry {
        let mut entry = Entry::new(ActId([1; 16]), Kind::Redeem, at(0))
            .refused(Refusal::Budget)
            .subject(node())
            .source("192.0.2.1:4433")
            .policies(["default".to_owned()])
            .ticket_hash(TicketHash([2; 32]))
            .evidence(EvidenceHash([3; 32]))
            .request(RequestHash([4; 32]))
            .policy(PolicyDigest([5; 32]))
            .epoch(6)
            .dataset(DatasetId([7; 16]))
            .items(vec![
                (ItemDigest([8; 32]), Ok(())),
                (ItemDigest([9; 32]), Err(Refusal::Budget)),
            ])
            .ticket(TicketId([10; 16]))
            .expires(at(60))
            .launch(LaunchId([11; 16]))
            .count(1)
            .proof([12; 32])
            .follows(ActId([13; 16]))
            .actions(Actions::new(&[Action::Decrypt]).unwrap())
            .pairs(PairsDigest([14; 32]))
            .signers(["owner".to_owned()])
            .log(crate::messages::samples::checkpoint(7))
            .seen(crate::messages::samples::checkpoint(8))
            .kek(KekId([15; 16]))
            .keks(vec![KekId([16; 16])], vec![0, u8::MAX])
            .moved(vec![ItemDigest([17; 32])]);
        entry.alarm = Some(Alarm::Fork);
        entry
    }

    #[test]
    fn an_entry_holds_to_its_shape() {
        // rule: AUD-3, ENC-3
        let optional: Vec<i64> = (5..=30).collect();
        strict(&full(), &optional, &[12, 19, 20, 30]);
        strict(
            &Entry::alarm(ActId([1; 16]), Alarm::Clock, at(0)),
            &[18],
            &[],
        );
    }

    #[test]
    fn the_largest_batch_fits_an_entry() {
        // rule: AUD-3
        let items = vec![(ItemDigest([8; 32]), Err(Refusal::Invalid)); limits::ITEMS];
        let policies = vec!["p".repeat(limits::NAME); POLICIES];
        let entry = full()
            .items(items)
            .policies(policies)
            .source("s".repeat(300))
            .subject("t".repeat(300))
            .keks(vec![KekId([16; 16]); limits::KEKS], vec![0; limits::ITEMS]);
        let rewrap = entry
            .clone()
            .items(vec![(ItemDigest([8; 32]), Ok(())); limits::REWRAPS])
            .keks(
                vec![KekId([16; 16]); limits::KEKS],
                vec![0; limits::REWRAPS],
            )
            .moved(vec![ItemDigest([17; 32]); limits::REWRAPS]);
        let told = entry
            .clone()
            .items(Vec::new())
            .confirmed(vec![ItemDigest([18; 32]); limits::REWRAPS]);
        for entry in [entry, rewrap, told] {
            assert!(entry.fits());
            assert_eq!(Entry::from_cbor(&entry.to_cbor(), limits::ENTRY), Ok(entry));
        }
    }
}
