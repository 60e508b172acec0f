//! Redeem: wrapped DEKs in, DEKs out (spec/protocol.md, section 7).

use store::locked::Scratch;
use ticket_format::messages::Verdict;
use ticket_format::messages::batch::RedeemBody;

use crate::items::{Done, Items};

/// Opens each item; one bad item spoils no other (RED-3).
pub fn run<'a>(scratch: &Scratch, body: &RedeemBody<'a>, items: &mut Items<'a>) -> Done {
    let mut done = Done::with_room(body.items.len(), true);
    for item in &body.items {
        done.digests.push(item.digest());
        // rule: RED-3
        let opened = items.open(scratch, item.wrapped, item.context);
        done.ids.push(opened.as_ref().ok().map(|opened| opened.id));
        done.under
            .push(opened.as_ref().ok().map(|opened| opened.kek));
        done.verdicts.push(match opened {
            Ok(opened) => {
                done.deks.extend_from_slice(opened.dek.expose());
                Verdict::Done(opened.origin)
            }
            Err(refusal) => Verdict::Refused(refusal),
        });
    }
    done
}
