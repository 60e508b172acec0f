use ticket_format::keys::TlsSecret;
use ticket_format::statement::Role;
use ticket_format::time::Timestamp;
use ticket_format::tlog::{Hash, LogSecret, Origin, merkle};

use super::*;

fn secret(seed: u8) -> LogSecret {
    let server = TlsSecret::from_seed(&[9; 32]).public();
    let origin = Origin::new("test", Role::Broker, &server);
    LogSecret::from_seeds(origin, &[seed; 32], &[seed; 32]).unwrap()
}

/// A log of few entries, each a byte, which proves as a broker does.
struct Log {
    secret: LogSecret,
    leaves: Vec<Hash>,
}

fn subtree(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => merkle::empty_root(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len().next_power_of_two() / 2);
            merkle::node_hash(&subtree(left), &subtree(right))
        }
    }
}

/// RFC 6962, 2.1.2: SUBPROOF.
fn path(from: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if from == leaves.len() {
        return if whole {
            Vec::new()
        } else {
            vec![subtree(leaves)]
        };
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let mut hashes;
    if from <= left.len() {
        hashes = path(from, left, whole);
        hashes.push(subtree(right));
    } else {
        hashes = path(from - left.len(), right, false);
        hashes.push(subtree(left));
    }
    hashes
}

impl Log {
    fn of(entries: &[u8]) -> Self {
        let leaves = entries.iter().map(|entry| merkle::leaf_hash(&[*entry]));
        Self {
            secret: secret(1),
            leaves: leaves.collect(),
        }
    }

    fn at(&self, size: usize) -> SignedCheckpoint {
        let checkpoint = Checkpoint {
            shard: self.secret.key().origin.shard(1),
            size: size as u64,
            root: subtree(&self.leaves[..size]),
        };
        self.secret
            .sign(&checkpoint, Timestamp::from_seconds(1_800_000_000))
    }

    fn proves(&self, from: &Known, to: usize) -> Option<Said> {
        let from = usize::try_from(from.checkpoint.size).unwrap();
        if from > to {
            return Some(Said::Refused(Refusal::Rollback));
        }
        Some(Said::Answer(Box::new(ConsistencyAnswer {
            paths: None,
            path: path(from, &self.leaves[..to], true),
            checkpoint: self.at(to).note().to_owned(),
            links: Vec::new(),
        })))
    }
}

fn fresh() -> BrokerLog {
    BrokerLog::new(secret(1).key().clone(), Remembered::default(), None)
}

/// The broker answers every question from this log, which has this size.
fn round(seen: &BrokerLog, log: &Log, size: usize) -> Round {
    let asked = seen.ask();
    let said = asked.iter().map(|known| log.proves(known, size)).collect();
    seen.answered(&asked, said)
}

fn forked(round: Round) -> Box<Fork> {
    match round {
        Round::Forked(fork) => fork,
        other => panic!("{other:?}"),
    }
}

#[test]
fn checkpoints_of_one_log_are_proven_and_asked_about_no_more() {
    // rule: TLOG-7
    let (seen, log) = (fresh(), Log::of(&[0, 1, 2, 3, 4, 5, 6]));
    for size in [3, 1, 5, 5] {
        assert_eq!(seen.saw(&log.at(size)), Seen::Taken);
    }
    assert_eq!(seen.ask().len(), 3);
    assert_eq!(round(&seen, &log, 6), Round::Proven);
    assert_eq!(seen.head().map(|head| head.size), Some(6));
    assert_eq!(seen.ask().len(), 1, "the head alone");
    assert_eq!(round(&seen, &log, 7), Round::Proven);
    assert!(!seen.is_forked());
}

#[test]
fn a_receipt_of_another_log_with_the_same_keys_is_a_fork() {
    // rule: TLOG-7
    let (log, other) = (Log::of(&[0, 1, 2, 3, 4]), Log::of(&[0, 1, 9, 9, 9, 9]));
    // Of a size that was seen: it shows by itself.
    let seen = fresh();
    seen.saw(&log.at(4));
    let Seen::Forked(fork) = seen.saw(&other.at(4)) else {
        panic!("not noticed")
    };
    assert_eq!((fork.ours.size, fork.theirs.unwrap().size), (4, 4));
    assert!(seen.is_forked() && seen.ask().is_empty());
    // Of another size: the broker cannot prove both.
    let seen = fresh();
    seen.saw(&log.at(3));
    seen.saw(&other.at(5));
    let fork = forked(round(&seen, &log, 5));
    assert_eq!(fork.ours.size, 5);
    assert!(seen.is_forked());
}

#[test]
fn a_broker_that_proves_each_of_two_logs_by_itself_does_not_hide_the_fork() {
    // rule: TLOG-7
    let (log, other) = (
        Log::of(&[0, 1, 2, 3, 4, 5]),
        Log::of(&[0, 1, 9, 9, 9, 9, 9]),
    );
    let of = |known: &Known| {
        let size = usize::try_from(known.checkpoint.size).unwrap();
        let has =
            |log: &&Log| size <= log.leaves.len() && log.at(size).checkpoint() == &known.checkpoint;
        [&log, &other].into_iter().find(has).unwrap()
    };
    // Each ends at the same size.
    let seen = fresh();
    seen.saw(&log.at(4));
    assert_eq!(round(&seen, &log, 5), Round::Proven);
    seen.saw(&other.at(6));
    let asked = seen.ask();
    assert_eq!(asked.len(), 2);
    let said = vec![log.proves(&asked[0], 6), other.proves(&asked[1], 6)];
    assert!(matches!(seen.answered(&asked, said), Round::Forked(_)));
    // Each ends elsewhere, every time.
    let seen = fresh();
    seen.saw(&log.at(4));
    seen.saw(&other.at(5));
    let mut rounds = 0;
    let fork = loop {
        let asked = seen.ask();
        let said = asked
            .iter()
            .map(|known| of(known).proves(known, of(known).leaves.len()));
        match seen.answered(&asked, said.collect()) {
            Round::Forked(fork) => break fork,
            round => assert_eq!(round, Round::Again),
        }
        rounds += 1;
        assert!(rounds < 600);
    };
    assert!(fork.why.contains("never"), "{fork}");
}

#[test]
fn a_log_that_grows_between_two_questions_is_asked_again_and_is_no_fork() {
    // rule: TLOG-7
    let (seen, log) = (fresh(), Log::of(&[0, 1, 2, 3, 4, 5, 6]));
    seen.saw(&log.at(2));
    seen.saw(&log.at(3));
    let asked = seen.ask();
    let said = vec![log.proves(&asked[0], 4), log.proves(&asked[1], 5)];
    assert_eq!(seen.answered(&asked, said), Round::Again);
    assert_eq!(round(&seen, &log, 6), Round::Proven);
    assert!(!seen.is_forked());
}

#[test]
fn a_broker_that_does_not_answer_or_is_busy_has_not_forked_and_one_that_lost_entries_has() {
    // rule: TLOG-7
    let (seen, log) = (fresh(), Log::of(&[0, 1, 2, 3]));
    seen.saw(&log.at(3));
    for said in [None, Some(Said::Refused(Refusal::Busy))] {
        let asked = seen.ask();
        assert_eq!(seen.answered(&asked, vec![said]), Round::Again);
        assert_eq!(seen.waiting(), 1);
    }
    assert!(!seen.is_forked());
    let fork = forked(round(&seen, &log, 2));
    assert_eq!((fork.ours.size, fork.theirs), (3, None));
}

#[test]
fn an_answer_signed_by_other_keys_or_with_a_bent_proof_is_a_fork() {
    // rule: TLOG-7
    let mut strange = Log::of(&[0, 1, 2, 3]);
    strange.secret = secret(2);
    let log = Log::of(&[0, 1, 2, 3]);
    for bend in [true, false] {
        let seen = fresh();
        seen.saw(&log.at(3));
        let asked = seen.ask();
        let mut said = if bend { &log } else { &strange }.proves(&asked[0], 4);
        if bend && let Some(Said::Answer(answer)) = &mut said {
            answer.path[0][0] ^= 1;
        }
        forked(seen.answered(&asked, vec![said]));
    }
}

#[test]
fn what_is_remembered_outlives_a_restart_and_so_does_a_fork() {
    // rule: TLOG-7
    let (seen, log) = (fresh(), Log::of(&[0, 1, 2, 3, 4]));
    assert_eq!(seen.to_keep(), None);
    seen.saw(&log.at(2));
    round(&seen, &log, 2);
    seen.saw(&log.at(4));
    let kept = seen.to_keep().unwrap();
    seen.kept(kept.clone());
    assert_eq!(seen.to_keep(), None);
    let kept = Remembered::from_cbor(&kept.to_cbor(), 70_000).unwrap();
    let again = BrokerLog::new(secret(1).key().clone(), kept, None);
    assert_eq!(again.ask().len(), 2);
    let other = Log::of(&[0, 1, 2, 9, 9, 9]);
    let fork = forked(round(&again, &other, 6));
    let fork = Fork::from_cbor(&fork.to_cbor(), 1_024).unwrap();
    let again = BrokerLog::new(secret(1).key().clone(), Remembered::default(), Some(fork));
    assert!(again.is_forked() && again.ask().is_empty());
    assert_eq!(again.saw(&log.at(4)), Seen::Taken);
    assert!(again.ask().is_empty());
}

#[test]
fn a_recovered_log_has_to_prove_where_it_goes_on() {
    // rule: TLOG-7
    let (log, other) = (Log::of(&[0, 1, 2, 3, 4]), Log::of(&[0, 1, 9, 9, 9]));
    for (goes_on, good) in [(&log, true), (&other, false)] {
        let seen = fresh();
        seen.saw(&log.at(4));
        seen.saw(&other.at(4));
        assert!(seen.is_forked());
        seen.recovered(BrokerLog::vouched(log.at(3).checkpoint().clone()));
        assert!(!seen.is_forked());
        let asked = seen.ask();
        assert_eq!(asked.len(), 1);
        // The note is one, though nobody signed it.
        let shown = Checkpoint::of_note_unverified(&asked[0].note).unwrap();
        assert_eq!(&shown, log.at(3).checkpoint());
        assert!(log.secret.key().verify(&asked[0].note).is_err());
        assert_eq!(round(&seen, goes_on, 5) == Round::Proven, good);
        assert_eq!(seen.is_forked(), !good);
    }
}

#[test]
fn a_note_is_remembered_without_its_cosignatures() {
    let log = Log::of(&[0]);
    let signed = log.at(1);
    let line = "\u{2014} witness.example AAAAAAAA\n";
    let cosigned = signed.with_cosignatures([line]);
    assert_ne!(signed.note(), cosigned.note());
    assert_eq!(&*Known::of(&cosigned).note, signed.note());
}

#[test]
fn too_many_checkpoints_are_not_left_out_but_refused() {
    // rule: TLOG-7
    let (seen, log) = (fresh(), Log::of(&[0]));
    let mut checkpoint = log.at(1).checkpoint().clone();
    for size in 0..WAITING {
        checkpoint.size = size as u64;
        let known = Known::vouched(checkpoint.clone());
        seen.lock().waiting.insert(known.place(), (known, 0));
    }
    checkpoint.size = WAITING as u64;
    let next = log.secret.sign(&checkpoint, Timestamp::from_seconds(1));
    assert_eq!(seen.saw(&next), Seen::Full);
    assert_eq!(seen.ask().len(), ASKED);
}

#[test]
fn what_stood_in_a_lost_part_of_the_log_is_refused_and_is_no_fork() {
    // rule: TLOG-7
    let (log, lost) = (Log::of(&[0, 1, 2, 3, 4, 5]), Log::of(&[0, 1, 2, 9, 9]));
    let cut = BrokerLog::vouched(log.at(3).checkpoint().clone());
    let cut = Remembered::from_cbor(&cut.to_cbor(), 70_000).unwrap();
    let seen = BrokerLog::new(secret(1).key().clone(), Remembered::default(), None);
    seen.recovered(cut.clone());
    let again = BrokerLog::new(secret(1).key().clone(), cut, None);
    for seen in [&seen, &again] {
        assert_eq!(seen.saw(&lost.at(5)), Seen::Lost);
        assert_eq!(seen.saw(&log.at(2)), Seen::Taken);
        assert_eq!(seen.waiting(), 1, "it is not asked about");
        assert_eq!(round(seen, &log, 3), Round::Proven);
        assert_eq!(seen.saw(&lost.at(5)), Seen::Lost);
        // A shard that is proven to go on has lost nothing.
        assert_eq!(round(seen, &log, 4), Round::Proven);
        assert_eq!(seen.saw(&log.at(5)), Seen::Taken);
        assert_eq!(seen.to_keep().unwrap().cut, None);
    }
}

#[test]
fn the_evidence_of_a_fork_is_not_overwritten() {
    // rule: TLOG-7
    let (seen, log) = (fresh(), Log::of(&[0, 1, 2, 3]));
    seen.saw(&log.at(3));
    seen.kept(seen.to_keep().unwrap());
    forked(round(&seen, &log, 2));
    assert_eq!(seen.to_keep(), None);
    let fork = seen.unkept_fork().unwrap();
    seen.fork_kept(&fork);
    assert_eq!(seen.unkept_fork(), None);
}
