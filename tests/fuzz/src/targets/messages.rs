//! Envelopes and bodies of all exchanges, as either end reads them.

use ticket_format::Context;
use ticket_format::cbor::Encode;
use ticket_format::limits;
use ticket_format::messages::administer::{AdministerAnswer, SealedAnswer};
use ticket_format::messages::alias::{AliasAnswer, AliasBody};
use ticket_format::messages::batch::{
    GenerateBody, RawContext, RedeemBody, RewrapBody, named_ticket,
};
use ticket_format::messages::consistency::{ConsistencyAnswer, ConsistencyBody};
use ticket_format::messages::feed::{Epoch, FeedAnswer, FeedBody, Numbered, Report};
use ticket_format::messages::issue::{IssueAnswer, IssueBody};
use ticket_format::messages::login::{LoginAnswer, LoginBody};
use ticket_format::messages::present::{Evidence, Link, PresentAnswer, PresentBody};
use ticket_format::messages::renew::{RenewAnswer, RenewBody};
use ticket_format::messages::watch::{WatchAnswer, WatchBody};
use ticket_format::messages::wipe::{WipeAnswer, WipeBody};
use ticket_format::messages::{
    Answer, AnswerView, BatchAnswer, Clear, Receipt, RequestView, Verdict,
};
use ticket_format::sign::Proof;
use ticket_format::statement::AdminSetBody;
use ticket_format::ticket::{Action, Actions, Attributes};
use ticket_format::tlog::{Checkpoint, LogKey};

use super::{READS, Target, all_have_one_encoding, items, members, refusal};
use crate::mutate::Form;

/// What stands around a request and around an answer.
pub const ENVELOPES: Target = Target {
    name: "envelopes",
    form: Form::Cbor,
    runs: 40_000,
    room: READS,
    seeds: || members(&["request", "answer", "bare", "detailed", "envelope"]),
    run: envelopes,
};

fn envelopes(data: &[u8]) {
    match RequestView::parse(data) {
        Ok(request) => {
            // rule: ENC-1
            assert!(
                request.to_owned().to_bytes() == data,
                "a request has two encodings"
            );
            // rule: ENC-2
            assert!(
                data.len() <= limits::MESSAGE && request.body.len() <= request.verb.body_limit()
            );
            assert!(request.proofs.len() <= 8);
        }
        Err(error) => {
            let told = error.refusal();
            refusal(told, &told.into(), false);
        }
    }
    if let Ok(answer) = AnswerView::parse(data) {
        let owned = Answer::parse(data).expect("what is read as a view is read");
        assert!(owned.to_bytes() == data, "an answer has two encodings");
        if let AnswerView::Refused(notice) = answer {
            assert_eq!(Answer::from(notice), owned);
        }
    }
}

/// The body of each request, and of each answer.
pub const BODIES: Target = Target {
    name: "bodies",
    form: Form::Cbor,
    runs: 25_000,
    room: READS,
    seeds: items,
    run: bodies,
};

fn bodies(data: &[u8]) {
    all_have_one_encoding!(data;
        LoginBody, LoginAnswer, RenewBody, RenewAnswer, IssueBody, IssueAnswer, PresentBody, PresentAnswer, Evidence,
        Link, FeedBody, FeedAnswer, Epoch, Numbered, Report, WatchBody, WatchAnswer, WipeBody, WipeAnswer, AliasBody,
        AliasAnswer, ConsistencyBody, ConsistencyAnswer, AdministerAnswer, SealedAnswer, BatchAnswer, Clear, Verdict,
        Receipt, Proof, Context, Action, Actions, Attributes, Checkpoint, LogKey, AdminSetBody,
    );
    batches(data);
}

/// The three bodies that are read without copying: what they say is written again as it came.
fn batches(data: &[u8]) {
    let named = named_ticket(data);
    let context = |raw: &RawContext<'_>| {
        let context = raw.parse().expect("a context was checked when it was read");
        // rule: ENC-4
        assert!(
            context.to_cbor() == raw.bytes(),
            "a context has two encodings"
        );
        for (key, value) in context.pairs() {
            assert_eq!(raw.get(key), Ok(Some(value.as_str())));
        }
        context
    };
    if let Ok(body) = RedeemBody::parse(data) {
        assert_eq!(named, Ok((body.head.handle, body.head.ticket)));
        let contexts: Vec<_> = body
            .items
            .iter()
            .map(|item| context(&item.context))
            .collect();
        let pairs = body.items.iter().zip(&contexts);
        let items: Vec<_> = pairs
            .map(|(item, context)| (item.wrapped, context))
            .collect();
        assert!(
            RedeemBody::encode(&body.head, &items) == data,
            "a redeem has two encodings"
        );
    }
    if let Ok(body) = GenerateBody::parse(data) {
        assert_eq!(named, Ok((body.head.handle, body.head.ticket)));
        let contexts: Vec<_> = body.contexts.iter().map(context).collect();
        let contexts: Vec<_> = contexts.iter().collect();
        let again = GenerateBody::encode(&body.head, &contexts, body.sealed_copy, body.key_pair);
        assert!(again == data, "a generate has two encodings");
    }
    if let Ok(body) = RewrapBody::parse(data) {
        assert_eq!(named, Ok((body.head.handle, body.head.ticket)));
        let both = body.items.iter().map(|item| {
            (
                context(&item.context),
                item.new_context.as_ref().map(context),
            )
        });
        let contexts: Vec<_> = both.collect();
        let pairs = body.items.iter().zip(&contexts);
        let items: Vec<_> = pairs
            .map(|(item, (old, new))| (item.wrapped, old, new.as_ref()))
            .collect();
        assert!(
            RewrapBody::encode(&body.head, &items, &body.confirms) == data,
            "a rewrap has two encodings"
        );
    }
}
