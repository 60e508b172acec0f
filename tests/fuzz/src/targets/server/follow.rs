//! The broker's feed, as the key server hears it.

use key_server::feed;
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::denial::CHAIN_START;
use ticket_format::messages::feed::FeedAnswer;
use ticket_format::messages::{Answer, AnswerView, Verb};
use ticket_format::sign::Proof;
use ticket_format::{labels, limits};

use crate::mutate::Form;
use crate::targets::{DECIDES, Target, members, vectors_bytes};
use crate::vectors;
use crate::world::world;

/// What the broker answers to who asks for its feed.
pub const FOLLOW: Target = Target {
    name: "follow",
    form: Form::Cbor,
    runs: 10_000,
    room: DECIDES,
    seeds: || {
        let mut seeds = vectors::all_bytes(|file, member, _| {
            file.contains("feed") && matches!(member, "answer" | "answer_body")
        });
        seeds.extend(members(&["feed_answer"]));
        seeds
    },
    run: follow,
};

fn follow(data: &[u8]) {
    heard(data, false);
    if FeedAnswer::from_cbor(data, limits::MESSAGE).is_ok() {
        let proof: Proof =
            world()
                .to_broker()
                .sign_with(&world().keys.feed, labels::FEED_ANSWER, None, data);
        heard(
            &Answer::Done {
                verb: Verb::Feed,
                body: data.to_vec(),
                proof: Some(proof),
            }
            .to_bytes(),
            true,
        );
    }
}

fn heard(data: &[u8], ours: bool) {
    let world = world();
    let asked = feed::Asked {
        nonce: vectors::array("exchange/feed", "nonce"),
        epoch: 0,
        chain: CHAIN_START,
        reports: Vec::new(),
    };
    match feed::accept(
        &world.to_broker(),
        &world.keys.feed.public(),
        &asked,
        data,
        world.now,
    ) {
        Ok(news) => {
            assert!(
                ours || vectors_bytes().contains(data),
                "the feed was forged"
            );
            // rule: DEN-4 — without a gap, and never back.
            let numbers: Vec<_> = news.epochs.iter().map(|epoch| epoch.epoch).collect();
            assert!(numbers.iter().copied().eq(1..=news.epoch));
            // rule: DEN-1, DEN-4 — and its chain is the one that was signed for.
            let said = AnswerView::parse(data).map(|answer| match answer {
                AnswerView::Done { body, .. } => FeedAnswer::from_cbor(body, limits::MESSAGE),
                AnswerView::Refused(_) => panic!("a refusal was believed"),
            });
            assert!(
                matches!(said, Ok(Ok(said)) if (said.epoch, said.chain) == (news.epoch, news.chain))
            );
            for received in &news.epochs {
                if let feed::Happened::Denied { denial, bytes } = &received.happened {
                    assert!(denial.is_kept() && denial.to_cbor() == *bytes);
                }
            }
        }
        Err(error) => {
            let _ = (error.is_alarming(), error.to_string());
        }
    }
}
