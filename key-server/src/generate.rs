//! Generate: new DEKs, wrapped under the current KEK version (GEN-1).

use rand_core::CryptoRng;
use ticket_format::Refusal;
use ticket_format::ids::{DekId, ItemDigest};
use ticket_format::messages::Verdict;
use ticket_format::messages::batch::{GenerateBody, RawContext, item_digest};
use ticket_format::secret::Dek;
use ticket_format::wrapped::Origin;

use crate::items::{Done, Items};
use crate::vault::Wrapping;

/// Makes a DEK for each context.
pub fn run<'a>(
    body: &GenerateBody<'a>,
    items: &mut Items<'a>,
    wrapping: &Wrapping,
    rng: &mut impl CryptoRng,
) -> Done {
    let mut done = Done::with_room(body.contexts.len(), body.sealed_copy);
    let mut wraps = Vec::with_capacity(body.contexts.len());
    for context in &body.contexts {
        match make(*context, items, wrapping, rng) {
            Ok((id, dek, wrap)) => {
                done.ids.push(Some(id));
                done.digests.push(item_digest(&wrap, context.bytes()));
                // rule: GEN-1
                if body.sealed_copy {
                    done.deks.extend_from_slice(dek.expose());
                }
                done.verdicts.push(Verdict::Done(Origin::Generated));
                wraps.push(Some(wrap));
            }
            Err(refusal) => {
                done.ids.push(None);
                done.digests.push(refused_digest(*context));
                done.verdicts.push(Verdict::Refused(refusal));
                wraps.push(None);
            }
        }
    }
    done.wraps = Some(wraps);
    done
}

fn make<'a>(
    context: RawContext<'a>,
    items: &mut Items<'a>,
    wrapping: &Wrapping,
    rng: &mut impl CryptoRng,
) -> Result<(DekId, Dek, Vec<u8>), Refusal> {
    items.admit(context)?;
    let (id, dek) = (DekId::random(rng), Dek::random(rng));
    // rule: GEN-1, ORG-1
    let wrap = wrapping.wrap(id, Origin::Generated, context.bytes(), &dek, rng)?;
    Ok((id, dek, wrap))
}

/// A refused item has no wrap: its record names the context with an empty one.
fn refused_digest(context: RawContext<'_>) -> ItemDigest {
    item_digest(&[], context.bytes())
}
