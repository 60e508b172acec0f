//! Rewrap: wrapped DEKs in, wraps under the current KEK version out (REW-1). No plaintext leaves.

use rand_core::CryptoRng;
use store::locked::Scratch;
use ticket_format::Refusal;
use ticket_format::messages::Verdict;
use ticket_format::messages::batch::{RewrapBody, RewrapItem, item_digest};

use crate::generate::named_pair;
use crate::items::{Done, Items, OpenedItem};
use crate::vault::Wrapping;

/// Opens each item and wraps it anew, with the same DEK id and origin.
pub fn run<'a>(
    scratch: &Scratch,
    body: &RewrapBody<'a>,
    items: &mut Items<'a>,
    wrapping: &Wrapping,
    rng: &mut impl CryptoRng,
) -> Done {
    let mut done = Done::with_room(body.items.len(), false);
    let mut wraps = Vec::with_capacity(body.items.len());
    for item in &body.items {
        done.digests.push(item.digest());
        match anew(scratch, item, items, wrapping, rng) {
            Ok((wrap, opened)) => {
                let context = item.new_context.unwrap_or(item.context);
                done.ids.push(Some(opened.id));
                done.under.push(Some(opened.kek));
                done.moved.push(Some(item_digest(&wrap, context.bytes())));
                done.verdicts.push(Verdict::Done(opened.origin));
                wraps.push(Some(wrap));
            }
            Err(refusal) => {
                done.ids.push(None);
                done.under.push(None);
                done.moved.push(None);
                done.verdicts.push(Verdict::Refused(refusal));
                wraps.push(None);
            }
        }
    }
    done.wraps = Some(wraps);
    done
}

fn anew<'a>(
    scratch: &Scratch,
    item: &RewrapItem<'a>,
    items: &mut Items<'a>,
    wrapping: &Wrapping,
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, OpenedItem), Refusal> {
    let opened = items.open(scratch, item.wrapped, item.context)?;
    let context = item.new_context.unwrap_or(item.context);
    // rule: REW-1 — the new context must satisfy what the old one had to.
    items.admit(context)?;
    // rule: GEN-2
    if named_pair(context)? != named_pair(item.context)? {
        return Err(Refusal::Context);
    }
    // rule: ORG-1
    let wrap = wrapping.wrap(
        scratch,
        opened.id,
        opened.origin,
        context.bytes(),
        &opened.dek,
        rng,
    )?;
    Ok((wrap, opened))
}
