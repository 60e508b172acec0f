use super::administer::AdministerAnswer;
use super::alias::{AliasAnswer, AliasBody};
use super::batch::{BatchHead, GenerateBody, RedeemBody, RewrapBody, item_digest};
use super::consistency::{ConsistencyAnswer, ConsistencyBody};
use super::feed::{Epoch, Event, FeedAnswer, FeedBody, Report};
use super::issue::{IssueAnswer, IssueBody};
use super::login::{LoginAnswer, LoginBody};
use super::mutate::{holds_to_its_shape, strict};
use super::present::{Evidence, Link, PresentAnswer, PresentBody};
use super::renew::RenewBody;
use super::samples::{at, key, node, proof, receipt, sealing};
use super::watch::{WatchAnswer, WatchBody};
use super::wipe::{WipeAnswer, WipeBody};
use super::*;
use crate::Context;
use crate::entry::Alarm;
use crate::ids::*;
use crate::key_pair::KeyPairKind;
use crate::seal::Kem;
use crate::ticket::{Action, Actions};
use crate::wrapped::Origin;

#[test]
fn a_request_is_its_envelope_and_nothing_near_it() {
    // rule: ENC-3, REF-1
    let good = Request::encode_parts(Verb::Redeem, b"body", &[proof()]);
    holds_to_its_shape(&good, &[], &[1, 2], |bytes| {
        RequestView::parse(bytes).is_ok()
    });
    let view = RequestView::parse(&good).unwrap();
    assert_eq!(
        (view.verb, view.body, view.proofs.len()),
        (Verb::Redeem, &b"body"[..], 1)
    );
    assert_eq!(view.to_owned().to_bytes(), good);
}

#[test]
fn a_request_names_its_refusal() {
    // rule: REF-1
    let mut unknown = Writer::new();
    unknown.array(3).uint(14).bytes(b"").array(0);
    assert_eq!(
        RequestView::parse(&unknown.into_bytes())
            .unwrap_err()
            .refusal(),
        Refusal::Unsupported
    );
    assert_eq!(
        RequestView::parse(b"").unwrap_err().refusal(),
        Refusal::Malformed
    );
    let large = vec![0; limits::SMALL_MESSAGE + 1];
    for verb in [
        Verb::Login,
        Verb::Renew,
        Verb::Issue,
        Verb::Feed,
        Verb::Watch,
        Verb::Wipe,
        Verb::Alias,
    ] {
        let refused = RequestView::parse(&Request::encode_parts(verb, &large, &[])).map(drop);
        assert_eq!(refused, Err(RequestError::TooLarge), "{verb}");
    }
    let evidence = vec![0; limits::PRESENT + 1];
    let present = |body: &[u8]| {
        RequestView::parse(&Request::encode_parts(Verb::Present, body, &[])).map(drop)
    };
    assert_eq!(present(&evidence), Err(RequestError::TooLarge));
    assert_eq!(present(&evidence[1..]), Ok(()));
    assert!(RequestView::parse(&Request::encode_parts(Verb::Redeem, &large, &[])).is_ok());
    let huge = vec![0; limits::MESSAGE];
    assert_eq!(
        RequestView::parse(&Request::encode_parts(Verb::Redeem, &huge, &[])),
        Err(RequestError::TooLarge)
    );
}

#[test]
fn more_proofs_than_eight_are_refused() {
    let nine = Request::encode_parts(Verb::Login, b"", &vec![proof(); 9]);
    assert!(RequestView::parse(&nine).is_err());
}

#[test]
fn an_answer_is_its_envelope_and_nothing_near_it() {
    // rule: ENC-3
    let done = Answer::Done {
        verb: Verb::Present,
        body: b"body".to_vec(),
        proof: Some(proof()),
    };
    let notice = RefusalNotice::detailed(Refusal::Policy, "no policy permits it");
    for answer in [done, Answer::Refused(notice.clone())] {
        holds_to_its_shape(&answer.to_bytes(), &[], &[1, 2], |bytes| {
            AnswerView::parse(bytes).is_ok()
        });
        assert_eq!(Answer::parse(&answer.to_bytes()), Ok(answer));
    }
    let bare = Answer::Refused(Refusal::Busy.into());
    assert_eq!(Answer::parse(&bare.to_bytes()), Ok(bare));
}

#[test]
fn a_refusal_of_an_unknown_number_is_malformed() {
    let mut writer = Writer::new();
    writer.array(3).uint(0).uint(98).null();
    assert_eq!(
        AnswerView::parse(&writer.into_bytes()),
        Err(DecodeError::OutOfRange("refusal"))
    );
}

#[test]
fn a_detail_is_cut_at_a_character() {
    let notice = RefusalNotice::detailed(Refusal::Invalid, format!("{}é", "x".repeat(511)));
    assert_eq!(notice.detail.as_ref().unwrap().len(), 511);
    assert!(Answer::parse(&Answer::from(notice).to_bytes()).is_ok());
}

fn login() -> LoginBody {
    LoginBody {
        launch: LaunchId([1; 16]),
        login: LoginId([2; 16]),
        iid_proof: b"MIAGCSqGSIb3".to_vec(),
        node_key: key(1),
        proof_key: key(2),
        sealing_key: sealing(Kem::XWing),
        launch_digest: StatementDigest([4; 32]),
        evidence: proof(),
    }
}

fn issue(kem: Kem) -> IssueBody {
    IssueBody {
        node_ticket: vec![1; 600],
        dataset: "maps".into(),
        actions: Actions::new(&[Action::Decrypt, Action::Rewrap]).unwrap(),
        required: Context::named("maps/1").unwrap(),
        proof_key: key(3),
        sealing_key: sealing(kem),
        life: 3_600,
        budget: 1_000,
        expires: at(3_600),
        evidence: proof(),
        admin_set: 3,
        ticket_key: 2,
    }
}

#[test]
fn login_and_renew_hold_to_their_shapes() {
    // rule: ENC-3
    strict(&login(), &[], &[]);
    strict(
        &LoginAnswer {
            ticket: vec![1; 300],
            receipt: receipt(),
            launch: vec![2; 300],
            records: vec![vec![3; 200], vec![4; 200]],
        },
        &[],
        &[4],
    );
    strict(&receipt(), &[], &[]);
    let renew = RenewBody {
        node: node(),
        old_key: key(1),
        new_key: key(2),
        proof_key: key(3),
        sealing_key: sealing(Kem::XWing),
        chain: EvidenceHash([7; 32]),
        evidence: proof(),
    };
    strict(&renew, &[], &[]);
}

#[test]
fn issue_holds_to_its_shape() {
    // rule: ENC-3, ISS-5
    strict(&issue(Kem::XWing), &[], &[4]);
    strict(&issue(Kem::X25519), &[], &[4]);
    strict(
        &IssueAnswer {
            ticket: vec![1; 300],
            receipt: receipt(),
            record: vec![2; 300],
            admin_sets: vec![vec![3; 200], vec![4; 200]],
            ticket_keys: vec![vec![5; 200]],
        },
        &[],
        &[4, 6],
    );
    // A key of one KEM under the other's id.
    let mut bytes = issue(Kem::X25519).to_cbor();
    let at = bytes
        .windows(4)
        .position(|window| window == [0x06, 0x18, 0x20, 0x07])
        .unwrap();
    bytes.splice(at..at + 4, [0x06, 0x19, 0x64, 0x7a, 0x07]);
    assert!(IssueBody::from_cbor(&bytes, usize::MAX).is_err());
}

fn evidence() -> Evidence {
    let link = |seed| Link {
        node_key: key(seed),
        proof_key: key(seed + 1),
        sealing_key: SealingKeyHash([seed; 32]),
        proof: proof(),
    };
    Evidence {
        launch: vec![1; 300],
        iid_proof: vec![2; 300],
        login: link(1),
        renewals: vec![link(3), link(5)],
        issue: (at(3_600), proof()),
    }
}

#[test]
fn present_holds_to_its_shape() {
    // rule: ENC-3
    strict(
        &PresentBody {
            ticket: vec![1; 300],
            receipt: Some(receipt()),
            evidence: Some(evidence()),
        },
        &[],
        &[],
    );
    strict(&evidence(), &[], &[4]);
    let mut long = evidence();
    long.renewals = vec![long.login.clone(); 129];
    assert!(Evidence::from_cbor(&long.to_cbor(), usize::MAX).is_err());
    let bare = PresentBody {
        ticket: vec![1; 300],
        receipt: None,
        evidence: None,
    };
    assert_eq!(
        PresentBody::from_cbor(&bare.to_cbor(), usize::MAX),
        Ok(bare)
    );
    let answer = PresentAnswer {
        handle: 1,
        enc: vec![1; 1_120],
        dataset: DatasetId([1; 16]),
        sealing_key: SealingKeyHash([2; 32]),
    };
    strict(&answer, &[], &[]);
}

const HEAD: BatchHead = BatchHead {
    handle: 3,
    ticket: TicketHash([1; 32]),
    request: RequestId([2; 16]),
};

#[test]
fn batch_bodies_hold_to_their_shapes_and_borrow() {
    // rule: ENC-3, ENC-4
    let context = Context::named("a").unwrap();
    let redeem = RedeemBody::encode(
        &HEAD,
        &[(&b"wrap"[..], &context), (&b"other"[..], &context)],
    );
    holds_to_its_shape(&redeem, &[], &[], |bytes| RedeemBody::parse(bytes).is_ok());
    let body = RedeemBody::parse(&redeem).unwrap();
    assert_eq!(body.head, HEAD);
    assert_eq!(
        (body.items.len(), body.items[1].wrapped),
        (2, &b"other"[..])
    );
    assert_eq!(body.items[0].context.bytes(), context.to_cbor());
    assert_eq!(body.items[0].context.parse(), Ok(context.clone()));
    assert!(
        redeem
            .as_ptr_range()
            .contains(&body.items[0].wrapped.as_ptr()),
        "borrowed"
    );

    let generate = GenerateBody::encode(&HEAD, &[&context], true, None);
    holds_to_its_shape(&generate, &[], &[], |bytes| {
        GenerateBody::parse(bytes).is_ok()
    });
    assert!(GenerateBody::parse(&generate).unwrap().sealed_copy);
    let kind = Some(KeyPairKind::P256);
    let pairs = GenerateBody::encode(&HEAD, &[&context], true, kind);
    holds_to_its_shape(&pairs, &[6], &[], |bytes| {
        GenerateBody::parse(bytes).is_ok()
    });
    assert_eq!(GenerateBody::parse(&pairs).unwrap().key_pair, kind);

    let items = [
        (&b"wrap"[..], &context, None),
        (&b"wrap"[..], &context, Some(&context)),
    ];
    let placed = [item_digest(b"new", &context.to_cbor())];
    for (items, placed) in [(&items[..], &placed[..]), (&items, &[]), (&[], &placed)] {
        let rewrap = RewrapBody::encode(&HEAD, items, placed);
        let may_drop: &[i64] = if items.is_empty() { &[] } else { &[5] };
        let may_be_empty: &[i64] = if placed.is_empty() { &[] } else { &[4] };
        holds_to_its_shape(&rewrap, may_drop, may_be_empty, |bytes| {
            RewrapBody::parse(bytes).is_ok()
        });
        let body = RewrapBody::parse(&rewrap).unwrap();
        assert_eq!((body.items.len(), &*body.confirms), (items.len(), placed));
    }
    let nothing = RewrapBody::encode(&HEAD, &[], &[]);
    assert!(RewrapBody::parse(&nothing).is_err(), "it asks for nothing");
    let rewrap = RewrapBody::encode(&HEAD, &items, &placed);
    let body = RewrapBody::parse(&rewrap).unwrap();
    assert_eq!(
        (
            body.items[0].new_context,
            body.items[1].new_context.is_some()
        ),
        (None, true)
    );
}

#[test]
fn a_batch_takes_a_thousand_items_within_their_bounds_and_no_more() {
    // rule: ENC-2, ENC-3
    let context = Context::default();
    let items = vec![(&b"wrap"[..], &context); 1_001];
    assert!(RedeemBody::parse(&RedeemBody::encode(&HEAD, &items[..1_000])).is_ok());
    assert!(RedeemBody::parse(&RedeemBody::encode(&HEAD, &items)).is_err());
    assert!(RedeemBody::parse(&RedeemBody::encode(&HEAD, &[])).is_err());
    let long = [1; limits::WRAPPED + 1];
    assert!(RedeemBody::parse(&RedeemBody::encode(&HEAD, &[(&long[..], &context)])).is_err());
    assert!(RedeemBody::parse(&RedeemBody::encode(&HEAD, &[(&[][..], &context)])).is_err());
}

#[test]
fn a_rewrap_takes_five_hundred_items_and_confirmations_together_and_no_more() {
    // rule: ENC-2, REW-1, REW-2
    let context = Context::default();
    let items = vec![(&b"wrap"[..], &context, None); limits::REWRAPS + 1];
    let placed = vec![item_digest(b"new", &context.to_cbor()); limits::REWRAPS + 1];
    let taken = |items: &[_], placed: &[_]| {
        RewrapBody::parse(&RewrapBody::encode(&HEAD, items, placed)).is_ok()
    };
    assert_eq!(limits::REWRAPS, 500);
    assert!(taken(&items[..500], &[]) && taken(&[], &placed[..500]));
    assert!(taken(&items[..250], &placed[..250]));
    assert!(!taken(&items, &[]) && !taken(&[], &placed));
    assert!(!taken(&items[..250], &placed[..251]));
}

#[test]
fn a_context_out_of_order_or_past_a_limit_is_refused_while_the_body_is_read() {
    // rule: ENC-1, ENC-2
    let body = |context: &[u8]| {
        let mut writer = head_only();
        writer.array(1).array(2).bytes(b"wrap").raw(context);
        RedeemBody::parse(&writer.into_bytes()).is_ok()
    };
    assert!(body(&[0xa2, 0x61, b'a', 0x60, 0x61, b'b', 0x60]));
    assert!(
        !body(&[0xa2, 0x61, b'b', 0x60, 0x61, b'a', 0x60]),
        "out of order"
    );
    assert!(
        !body(&[0xa2, 0x61, b'a', 0x60, 0x61, b'a', 0x60]),
        "doubled"
    );
    assert!(!body(&[0xa1, 0x60, 0x60]), "empty key");
    assert!(!body(&[0xa1, 0x61, b'a', 0x41, b'a']), "value is bytes");
    assert!(!body(&[0xf6]), "null");
    let mut many = vec![0xb1];
    (b'a'..b'a' + 17).for_each(|c| many.extend([0x61, c, 0x60]));
    assert!(!body(&many), "17 pairs");
}

fn head_only() -> Writer {
    let mut writer = Writer::new();
    writer
        .map(4)
        .uint(1)
        .uint(3)
        .uint(2)
        .bytes(&[1; 32])
        .uint(3)
        .bytes(&[2; 16])
        .uint(4);
    writer
}

#[test]
fn required_pairs_are_compared_without_making_a_map() {
    // rule: RED-3
    let pairs = |list: &[(&str, &str)]| {
        Context::new(
            list.iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
        .unwrap()
    };
    let body = RedeemBody::encode(
        &HEAD,
        &[(&b"w"[..], &pairs(&[("name", "x"), ("job", "7")]))],
    );
    let context = RedeemBody::parse(&body).unwrap().items[0].context;
    assert_eq!(context.contains_all(&pairs(&[])), Ok(true));
    assert_eq!(context.contains_all(&pairs(&[("job", "7")])), Ok(true));
    assert_eq!(context.contains_all(&pairs(&[("job", "8")])), Ok(false));
    assert_eq!(
        context.contains_all(&pairs(&[("job", "7"), ("user", "u")])),
        Ok(false)
    );
}

#[test]
fn an_item_is_named_by_wrap_and_context() {
    // rule: AUD-3
    let context = Context::named("a").unwrap();
    let mut writer = Writer::new();
    context.encode(writer.array(2).bytes(b"wrap"));
    assert_eq!(
        item_digest(b"wrap", &context.to_cbor()),
        ItemDigest::of(&writer.into_bytes())
    );
    assert_ne!(
        item_digest(b"wrap", &context.to_cbor()),
        item_digest(b"wrap", &Context::default().to_cbor())
    );
}

#[test]
fn the_answer_to_a_batch_holds_to_its_shape() {
    // rule: ENC-3
    let clear = Clear {
        verdicts: vec![
            Verdict::Done(Origin::Generated),
            Verdict::Done(Origin::PublicSigned(ProducerId([1; 16]))),
            Verdict::Refused(Refusal::Budget),
        ],
        ticket: TicketHash([1; 32]),
        request: RequestHash([2; 32]),
        salt: [3; 32],
        receipt: receipt(),
        wraps: Some(vec![Some(vec![1; 100]), Some(vec![2; 100]), None]),
        publics: Some(vec![Some(vec![1; 44]), Some(vec![2; 91]), None]),
    };
    strict(&clear, &[6, 7], &[1, 6, 7]);
    strict(
        &BatchAnswer {
            clear: clear.to_cbor(),
            sealed: vec![1; 80],
        },
        &[],
        &[2],
    );
    strict(
        &AdministerAnswer {
            result: vec![0xa0],
            receipt: receipt(),
        },
        &[],
        &[],
    );
    for bad in [
        [0x82, 0x00, 0xf6],
        [0x82, 0x01, 0x00],
        [0x82, 0x06, 0xf6],
        [0x82, 0x00, 0x02],
    ] {
        assert!(Verdict::from_cbor(&bad, 8).is_err(), "{bad:x?}");
    }
}

#[test]
fn the_largest_answer_to_a_batch_fits_a_message() {
    let clear = Clear {
        verdicts: vec![Verdict::Done(Origin::PublicSigned(ProducerId([1; 16]))); 1_000],
        ticket: TicketHash([1; 32]),
        request: RequestHash([2; 32]),
        salt: [3; 32],
        receipt: Receipt {
            entry: vec![0; limits::ENTRY],
            proof: "p".repeat(limits::NOTE),
        },
        wraps: Some(vec![Some(vec![1; limits::WRAPPED]); 1_000]),
        publics: Some(vec![Some(vec![1; 91]); 1_000]),
    };
    let answer = BatchAnswer {
        clear: clear.to_cbor(),
        sealed: vec![0; 32_016],
    };
    let bytes = Answer::done(Verb::Rewrap, &answer).to_bytes();
    assert!(
        matches!(AnswerView::parse(&bytes), Ok(AnswerView::Done { body, .. }) if BatchAnswer::from_cbor(body, usize::MAX).is_ok())
    );
}

fn feed_body() -> FeedBody {
    FeedBody {
        subscriber: key(1),
        nonce: [1; 32],
        epoch: 4,
        chain: ChainDigest([2; 32]),
        hold_ms: 30_000,
        reports: vec![Report {
            act: ActId([3; 16]),
            alarm: Alarm::Canary,
            node: node(),
            dataset: DatasetId([4; 16]),
            time: at(0),
            deny: true,
        }],
    }
}

#[test]
fn the_feed_holds_to_its_shape() {
    // rule: ENC-3
    strict(&feed_body(), &[], &[6]);
    strict(&feed_body().reports[0], &[], &[]);
    let denial = |number| Epoch {
        number,
        event: Event::Denial(vec![1; 60]),
    };
    let lifting = |number| Epoch {
        number,
        event: Event::Lifting(vec![1; 60]),
    };
    let ticket_key = |number| Epoch {
        number,
        event: Event::TicketKey(vec![1; 60]),
    };
    let gone = |number| Epoch {
        number,
        event: Event::Gone {
            forget: at(0),
            denial: DenialDigest([5; 32]),
        },
    };
    let answer = |epochs| FeedAnswer {
        nonce: [1; 32],
        epoch: 6,
        chain: ChainDigest([2; 32]),
        now: at(0),
        epochs,
        admin_set: 1,
    };
    strict(
        &answer(vec![gone(5), denial(6), lifting(7), ticket_key(8)]),
        &[],
        &[5],
    );
    // rule: DEN-4
    for wrong in [
        vec![denial(6), denial(5)],
        vec![denial(5), gone(7)],
        vec![denial(5), denial(5)],
    ] {
        assert!(FeedAnswer::from_cbor(&answer(wrong).to_cbor(), usize::MAX).is_err());
    }
    let long = FeedBody {
        hold_ms: 30_001,
        ..feed_body()
    };
    assert!(
        FeedBody::from_cbor(&long.to_cbor(), usize::MAX).is_err(),
        "held too long"
    );
    let mut other = feed_body();
    other.reports[0].alarm = Alarm::Fork;
    assert!(
        FeedBody::from_cbor(&other.to_cbor(), usize::MAX).is_err(),
        "the broker's own alarm"
    );
}

#[test]
fn watch_and_wipe_hold_to_their_shapes() {
    // rule: ENC-3
    let watch = WatchBody {
        ticket: vec![1; 300],
        hold_ms: 30_000,
    };
    strict(&watch, &[], &[]);
    let long = WatchBody {
        hold_ms: 30_001,
        ..watch
    };
    assert!(
        WatchBody::from_cbor(&long.to_cbor(), usize::MAX).is_err(),
        "held too long"
    );
    let denied = WatchAnswer {
        epoch: 3,
        denied: true,
        reason: Some("disk cloned".to_owned()),
    };
    strict(&denied, &[], &[3]);
    let wipe = WipeBody {
        ticket: vec![1; 300],
        epoch: 3,
        erased: 4,
        at: at(0),
    };
    strict(&wipe, &[], &[]);
    strict(&WipeAnswer { receipt: receipt() }, &[], &[]);
}

#[test]
fn alias_holds_to_its_shape() {
    // rule: ENC-3, ALI-2
    let body = AliasBody {
        ticket: vec![1; 300],
        alias: "current".to_owned(),
    };
    strict(&body, &[], &[]);
    let statement = vec![1; 300];
    strict(&AliasAnswer { statement }, &[], &[]);
}

#[test]
fn consistency_holds_to_its_shape() {
    // rule: ENC-3, TLOG-6
    let body = ConsistencyBody::of("c");
    strict(&body, &[], &[]);
    let answer = ConsistencyAnswer {
        paths: None,
        path: vec![[1; 32], [2; 32]],
        checkpoint: "c".into(),
        links: vec![receipt()],
    };
    strict(&answer, &[], &[1, 3]);
}
