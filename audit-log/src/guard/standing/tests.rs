use ticket_format::keys::TlsSecret;
use ticket_format::statement::Role;
use ticket_format::time::Timestamp;
use ticket_format::tlog::{LogSecret, Origin};

use super::*;

fn secret() -> LogSecret {
    let server = TlsSecret::from_seed(&[9; 32]).public();
    LogSecret::from_seeds(
        Origin::new("test", Role::Broker, &server),
        &[1; 32],
        &[2; 32],
    )
    .unwrap()
}

fn at(shard: u64, size: u64, root: u8) -> Checkpoint {
    Checkpoint {
        shard: secret().key().origin.shard(shard),
        size,
        root: [root; 32],
    }
}

fn proof(shard: u64, size: u64) -> Option<SignedCheckpoint> {
    Some(secret().sign(&at(shard, size, 0xee), Timestamp::from_seconds(1)))
}

fn standing() -> Standing {
    Standing::new(["one".to_owned(), "two".to_owned()], None)
}

fn contradicts(size: u64, proof: Option<SignedCheckpoint>) -> Told {
    Told::Contradicts { size, proof }
}

#[test]
fn a_signed_checkpoint_that_the_log_does_not_hold_stops_it_until_somebody_recovers() {
    // rule: TLOG-10
    let standing = standing();
    let ours = at(1, 5, 5);
    assert_eq!(standing.check(), Ok(()));
    let event = standing.told(0, contradicts(9, proof(1, 9)), &ours);
    let Some(Event::RolledBack(found)) = event else {
        panic!("{event:?}")
    };
    assert_eq!((found.by.as_str(), found.size), ("one", 9));
    assert_eq!(standing.check(), Err(NotGood));
    assert_eq!(standing.state(), LogState::RolledBack);
    assert!(standing.wrong().contains("size 9"));
    // Told again, or denied, it stands; and a restart keeps it.
    assert_eq!(standing.told(1, contradicts(9, proof(1, 9)), &ours), None);
    assert_eq!(standing.told(0, Told::Fits, &ours), None);
    assert_eq!(standing.told(1, Told::Fits, &ours), None);
    assert_eq!(standing.check(), Err(NotGood));
    let kept = Contradiction::from_cbor(&found.to_cbor(), 1_024).unwrap();
    assert_eq!(kept, found);
    let standing = Standing::new(["one".to_owned()], Some(kept));
    assert_eq!(standing.check(), Err(NotGood));
    standing.recovered(2);
    assert_eq!(standing.check(), Ok(()));
}

#[test]
fn a_claim_without_proof_stops_the_log_while_it_stands_and_alarms_once() {
    // rule: TLOG-10
    let standing = standing();
    let ours = at(1, 5, 5);
    let event = standing.told(1, contradicts(9, None), &ours);
    assert!(matches!(event, Some(Event::Claimed(_))), "{event:?}");
    assert_eq!(standing.told(1, contradicts(9, None), &ours), None);
    assert_eq!(standing.check(), Err(NotGood));
    standing.told(0, Told::Fits, &ours);
    assert_eq!(standing.check(), Err(NotGood), "another witness's word");
    standing.told(1, Told::Fits, &ours);
    assert_eq!(standing.check(), Ok(()));
}

#[test]
fn silence_is_told_of_once_until_the_witness_is_heard() {
    // rule: TLOG-8
    let standing = standing();
    let ours = at(1, 5, 5);
    let silent = Some(Event::Silent("two".to_owned()));
    assert_eq!(standing.told(1, Told::Silent, &ours), silent);
    assert_eq!(standing.told(1, Told::Silent, &ours), None);
    assert_eq!(standing.check(), Ok(()));
    standing.told(1, Told::Fits, &ours);
    assert_eq!(standing.told(1, Told::Silent, &ours), silent);
}

#[test]
fn a_recovery_names_the_open_shard_as_it_stood_since_the_contradiction_was_found() {
    // rule: TLOG-10
    let standing = standing();
    let root = |size: u64| Some([size as u8; 32]);
    let (then, now) = (at(1, 5, 5), at(1, 8, 8));
    assert_eq!(
        standing.may_recover(&then, &now, root),
        Err(NotRecovered::Good)
    );
    standing.told(0, contradicts(9, proof(3, 9)), &then);
    // A number is skipped that others know: they would take the new shard for the lost one.
    let seen = Some(at(3, 9, 0xee));
    for named in [&then, &at(1, 6, 6), &now] {
        let may = standing.may_recover(named, &now, root);
        assert_eq!(may, Ok((seen.clone(), 4)));
    }
    let elsewhere = [at(1, 4, 4), at(1, 9, 9), at(2, 6, 6), at(1, 6, 7)];
    for named in &elsewhere {
        let may = standing.may_recover(named, &now, root);
        assert_eq!(may, Err(NotRecovered::Elsewhere), "{named:?}");
    }
    standing.recovered(4);
    // What was lost is accounted for; what is lost from then on is not.
    let ours = at(4, 1, 1);
    assert_eq!(standing.told(0, contradicts(9, proof(3, 9)), &ours), None);
    assert_eq!(standing.told(1, contradicts(9, None), &ours), None);
    assert_eq!(standing.check(), Ok(()));
    standing.told(1, Told::Fits, &ours);
    assert!(standing.told(1, contradicts(9, None), &ours).is_some());
    assert_eq!(standing.check(), Err(NotGood));
    standing.told(1, Told::Fits, &ours);
    assert_eq!(standing.check(), Ok(()));
    let lost = standing.told(0, contradicts(9, proof(4, 9)), &ours);
    assert!(lost.is_some());
    assert_eq!(standing.check(), Err(NotGood));
}

#[test]
fn witnesses_are_shown_with_what_they_cosigned_of_the_open_shard() {
    let standing = standing();
    let ours = at(2, 5, 5);
    standing.told(0, Told::Fits, &ours);
    standing.told(1, Told::Fits, &ours);
    let (first, second) = (at(1, 7, 7).shard, ours.shard.clone());
    standing.cosigned(0, &first, 7, Duration::from_secs(1));
    standing.cosigned(1, &second, 5, Duration::from_secs(2));
    standing.cosigned(1, &second, 5, Duration::from_secs(3));
    let rows = standing.witnesses(&ours, Duration::from_secs(4));
    assert_eq!((rows[0].size, rows[0].ago_ms), (None, None));
    assert_eq!((rows[1].size, rows[1].ago_ms), (Some(5), Some(2_000)));
}

#[test]
fn a_log_that_was_put_back_goes_on_beyond_whatever_its_witnesses_show() {
    // rule: BAK-4, TLOG-10
    use crate::guard::Recovery;
    use crate::witness::Compared;
    let recovery = Recovery {
        act: ticket_format::ids::ActId([1; 16]),
        at_least: 5,
        time: Timestamp::from_seconds(2),
        statement: [3; 32],
        seen: None,
    };
    let nothing = [
        Compared::Fits,
        Compared::Ahead {
            size: 900,
            proof: None,
        },
    ];
    assert_eq!(recovery.clone().knowing(&nothing), recovery);
    let shown = [
        Compared::Ahead {
            size: 9,
            proof: proof(2, 9),
        },
        Compared::OtherRoot { proof: proof(7, 3) },
        Compared::Ahead {
            size: 20,
            proof: proof(2, 20),
        },
    ];
    let knowing = recovery.clone().knowing(&shown);
    assert_eq!((knowing.at_least, knowing.act), (8, recovery.act));
    let seen = knowing.seen.unwrap();
    assert_eq!((seen.shard.number, seen.size), (7, 3));
}
