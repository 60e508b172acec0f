//! Generate: new DEKs, and private parts of key pairs, wrapped under the current KEK version (GEN-1, GEN-2).

use rand_core::CryptoRng;
use store::locked::Scratch;
use ticket_format::ids::{DekId, ItemDigest};
use ticket_format::key_pair::KeyPairKind;
use ticket_format::messages::Verdict;
use ticket_format::messages::batch::{GenerateBody, RawContext, item_digest};
use ticket_format::secret::Dek;
use ticket_format::wrapped::Origin;
use ticket_format::{Context, Refusal};

use crate::items::{Done, Items};
use crate::vault::Wrapping;

/// Makes a DEK for each context.
pub fn run<'a>(
    scratch: &Scratch,
    body: &GenerateBody<'a>,
    items: &mut Items<'a>,
    wrapping: &Wrapping,
    rng: &mut impl CryptoRng,
) -> Done {
    let mut done = Done::with_room(body.contexts.len(), body.sealed_copy);
    let mut wraps = Vec::with_capacity(body.contexts.len());
    let mut publics = body
        .key_pair
        .map(|_| Vec::with_capacity(body.contexts.len()));
    for context in &body.contexts {
        let made = make(scratch, *context, body.key_pair, items, wrapping, rng);
        if let Some(publics) = &mut publics {
            publics.push(made.as_ref().ok().and_then(|made| made.public.clone()));
        }
        match made {
            Ok(Made { id, dek, wrap, .. }) => {
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
    done.publics = publics;
    done
}

/// A DEK that was made.
struct Made {
    id: DekId,
    dek: Dek,
    /// Of a key pair.
    public: Option<Vec<u8>>,
    wrap: Vec<u8>,
}

fn make<'a>(
    scratch: &Scratch,
    context: RawContext<'a>,
    key_pair: Option<KeyPairKind>,
    items: &mut Items<'a>,
    wrapping: &Wrapping,
    rng: &mut impl CryptoRng,
) -> Result<Made, Refusal> {
    items.admit(context)?;
    // rule: GEN-2
    if named_pair(context)? != key_pair.map(KeyPairKind::name) {
        return Err(Refusal::Context);
    }
    let id = DekId::random(rng);
    let (dek, public) = match key_pair.map(|kind| kind.make(rng)) {
        Some((private, public)) => (private, Some(public)),
        None => (Dek::random(rng), None),
    };
    // rule: GEN-1, ORG-1
    let wrap = wrapping.wrap(scratch, id, Origin::Generated, context.bytes(), &dek, rng)?;
    Ok(Made {
        id,
        dek,
        public,
        wrap,
    })
}

/// What a context says of a key pair (GEN-2).
pub fn named_pair(context: RawContext<'_>) -> Result<Option<&str>, Refusal> {
    let named = context.get(Context::KEY_PAIR);
    named.map_err(|_| Refusal::Malformed)
}

/// Names the items that were refused after their wraps were made as those are that never had one: nobody gets
/// to see these wraps, and the caller compares the record with what it has (RED-5).
pub fn name_refused(body: &GenerateBody<'_>, done: &mut Done) {
    let named = done.digests.iter_mut().zip(&done.verdicts);
    for ((digest, verdict), context) in named.zip(&body.contexts) {
        if verdict.refusal().is_some() {
            *digest = refused_digest(*context);
        }
    }
}

/// A refused item has no wrap: its record names the context with an empty one.
fn refused_digest(context: RawContext<'_>) -> ItemDigest {
    item_digest(&[], context.bytes())
}
