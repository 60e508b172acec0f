//! The items of a batch: what is checked of each, whichever exchange it is of (RED-3).

use std::collections::BTreeSet;

use store::locked::Scratch;
use ticket_format::Refusal;
use ticket_format::ids::{DekId, ItemDigest, KekId};
use ticket_format::messages::Verdict;
use ticket_format::messages::batch::RawContext;
use ticket_format::secret::Dek;
use ticket_format::ticket::Action;
use ticket_format::wrapped::{Origin, Wrapped};
use zeroize::Zeroizing;

use crate::dataset::Dataset;
use crate::decisions::Decisions;
use crate::present::Presented;
use crate::refused::Refused;
use crate::state::{Connection, Moment, State};
use crate::vault::{Uploads, VaultError};

/// The place of a version that is none.
const NONE: u8 = u8::MAX;

/// Length of a DEK.
pub const DEK: usize = 32;

/// What a batch came to, item by item.
pub struct Done {
    /// One for each item, in order.
    pub verdicts: Vec<Verdict>,
    /// How the record and the budget name each item.
    pub digests: Vec<ItemDigest>,
    /// The DEK of each item that was opened or made.
    pub ids: Vec<Option<DekId>>,
    /// DEKs of the items that are done, in item order; none where none are to be released.
    pub deks: Zeroizing<Vec<u8>>,
    /// Generate and rewrap: the new wraps.
    pub wraps: Option<Vec<Option<Vec<u8>>>>,
    /// Key pairs: their public keys.
    pub publics: Option<Vec<Option<Vec<u8>>>>,
    /// Under which version the wrap of each item was that was opened (INV-1).
    pub under: Vec<Option<KekId>>,
    /// Rewrap: how each new wrap is named.
    pub moved: Vec<Option<ItemDigest>>,
}

impl Done {
    /// Room for `items`, so that no buffer with a DEK in it ever moves.
    #[must_use]
    pub fn with_room(items: usize, deks: bool) -> Self {
        Self {
            verdicts: Vec::with_capacity(items),
            digests: Vec::with_capacity(items),
            ids: Vec::with_capacity(items),
            deks: Zeroizing::new(Vec::with_capacity(if deks { items * DEK } else { 0 })),
            wraps: None,
            publics: None,
            under: Vec::new(),
            moved: Vec::new(),
        }
    }

    /// Whether an item is done.
    fn is_done(&self, place: usize) -> bool {
        self.verdicts
            .get(place)
            .is_some_and(|verdict| verdict.refusal().is_none())
    }

    /// Names the versions that the wraps of the items that are done are under, and for each item which.
    #[must_use]
    pub fn versions(&self) -> (Vec<KekId>, Vec<u8>) {
        // rule: INV-1
        let mut keks = Vec::new();
        let place = |(at, under): (usize, &Option<KekId>)| {
            let kek = under.filter(|_| self.is_done(at))?;
            let known = keks.iter().position(|known| *known == kek);
            let place = u8::try_from(known.unwrap_or(keks.len())).ok()?;
            if known.is_none() && place < NONE {
                keks.push(kek);
            }
            Some(place)
        };
        let of = self.under.iter().enumerate().map(place);
        let of = of.map(|place| place.unwrap_or(NONE)).collect();
        (keks, of)
    }

    /// How the new wraps of a rewrap are named, of the items that are done.
    pub fn moved(&self) -> impl Iterator<Item = (usize, ItemDigest)> {
        // rule: REW-1
        let moved = self.moved.iter().enumerate();
        moved.filter_map(|(place, moved)| Some((place, moved.filter(|_| self.is_done(place))?)))
    }

    /// Each item that is done: its place, how the record names it, and its DEK.
    pub fn done(&self) -> impl Iterator<Item = (usize, ItemDigest, DekId)> {
        let named = self.digests.iter().zip(&self.ids).enumerate();
        named
            .zip(&self.verdicts)
            .filter(|(_, verdict)| verdict.refusal().is_none())
            .filter_map(|((place, (digest, id)), _)| Some((place, *digest, (*id)?)))
    }

    /// Takes back what a later check refuses: the verdict, the wrap and the DEK.
    pub fn refuse(&mut self, mut refused: impl FnMut(ItemDigest) -> Option<Refusal>) {
        let plain = !self.deks.is_empty();
        let (mut from, mut to) = (0, 0);
        for (index, verdict) in self.verdicts.iter_mut().enumerate() {
            if verdict.refusal().is_some() {
                continue;
            }
            match refused(self.digests[index]) {
                Some(refusal) => {
                    *verdict = Verdict::Refused(refusal);
                    for made in [&mut self.wraps, &mut self.publics].into_iter().flatten() {
                        made[index] = None;
                    }
                }
                None if plain => {
                    self.deks.copy_within(from..from + DEK, to);
                    to += DEK;
                }
                None => {}
            }
            from += DEK;
        }
        // What lies beyond is erased with the whole buffer.
        self.deks.truncate(to);
    }
}

/// Says nothing of the DEKs.
impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let deks = self.deks.len() / DEK;
        f.debug_struct("Done")
            .field("verdicts", &self.verdicts)
            .field("deks", &deks)
            .finish_non_exhaustive()
    }
}

/// Checks the items of one request.
pub struct Items<'a> {
    state: &'a State,
    presented: &'a Presented,
    dataset: &'a Dataset,
    decisions: Decisions<'a>,
    uploads: Uploads,
    keks: Vec<KekId>,
    /// Versions that wait for their destruction, and were needed.
    awaiting: Vec<KekId>,
}

/// An opened wrap.
pub struct OpenedItem {
    /// The DEK.
    pub dek: Dek,
    /// Its id, through all its wraps.
    pub id: DekId,
    /// Where it comes from, authenticated.
    pub origin: Origin,
    /// Under which version its wrap is.
    pub kek: KekId,
}

impl<'a> Items<'a> {
    /// Decides by the policy what does not depend on the items.
    ///
    /// # Errors
    /// [`Refused::Policy`]: whatever the items are.
    pub fn new(
        state: &'a State,
        presented: &'a Presented,
        dataset: &'a Dataset,
        action: Action,
        connection: &Connection,
        moment: Moment,
    ) -> Result<Self, Refused> {
        let decisions = Decisions::new(presented, dataset, action, connection, moment)?;
        Ok(Self {
            state,
            presented,
            dataset,
            decisions,
            uploads: Uploads::new(),
            keks: Vec::new(),
            awaiting: Vec::new(),
        })
    }

    /// Whether an item may have this context: the ticket's required pairs are in it, and the policy
    /// permits it.
    ///
    /// # Errors
    /// Refusal 44 or 40.
    pub fn admit(&mut self, context: RawContext<'a>) -> Result<(), Refusal> {
        // rule: RED-3
        let required = &self.presented.ticket.claims().required;
        if !required.is_empty()
            && !context
                .contains_all(required)
                .map_err(|_| Refusal::Malformed)?
        {
            return Err(Refusal::Context);
        }
        // rule: PRE-3
        if self.decisions.allow(context) {
            Ok(())
        } else {
            Err(Refusal::Policy)
        }
    }

    /// Opens a wrap.
    ///
    /// # Errors
    /// The refusal that becomes the item's verdict.
    pub fn open(
        &mut self,
        scratch: &Scratch,
        wrapped: &[u8],
        context: RawContext<'a>,
    ) -> Result<OpenedItem, Refusal> {
        // rule: RED-3
        let wrapped = Wrapped::parse(wrapped).map_err(|_| Refusal::WrapMalformed)?;
        let header = *wrapped.header();
        self.admit(context)?;
        let producers = &self.dataset.state.producers;
        let opened = self.state.vault.unwrap(
            scratch,
            self.dataset.id,
            &wrapped,
            context.bytes(),
            producers,
            &mut self.uploads,
        );
        // rule: KEK-4
        if opened == Err(VaultError::Pending) && !self.awaiting.contains(&header.kek) {
            self.awaiting.push(header.kek);
        }
        let (dek, origin) = opened?;
        if !self.keks.contains(&header.kek) {
            self.keks.push(header.kek);
        }
        Ok(OpenedItem {
            dek,
            id: header.dek,
            origin,
            kek: header.kek,
        })
    }

    /// The dataset.
    #[must_use]
    pub fn dataset(&self) -> &'a Dataset {
        self.dataset
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &'a State {
        self.state
    }

    /// The KEKs that opened a wrap, those that wait for their destruction and were needed, and the names
    /// of the policies that decided.
    #[must_use]
    pub fn into_parts(self) -> (Vec<KekId>, Vec<KekId>, BTreeSet<String>) {
        (self.keks, self.awaiting, self.decisions.into_deciding())
    }
}

#[cfg(test)]
mod tests {
    use ticket_format::limits;

    use super::*;

    fn done() -> Done {
        let mut done = Done::with_room(4, true);
        let refused = Verdict::Refused(Refusal::Context);
        let open = Verdict::Done(Origin::Generated);
        done.verdicts = vec![open, refused, open, open];
        done.digests = (0..4).map(|n| ItemDigest([n; 32])).collect();
        done.ids = (0..4).map(|n| Some(DekId([n; 16]))).collect();
        for byte in [0xa0, 0xa2, 0xa3] {
            done.deks.extend_from_slice(&[byte; 32]);
        }
        done.wraps = Some(vec![Some(vec![0]), None, Some(vec![2]), Some(vec![3])]);
        done
    }

    #[test]
    fn what_is_refused_later_takes_its_own_dek_and_wrap_along() {
        // rule: RED-3
        let mut done = done();
        done.refuse(|digest| (digest.0[0] == 2).then_some(Refusal::Budget));
        assert_eq!(*done.deks, [[0xa0; 32], [0xa3; 32]].concat());
        assert_eq!(done.verdicts[2], Verdict::Refused(Refusal::Budget));
        assert_eq!(done.verdicts[1], Verdict::Refused(Refusal::Context));
        assert_eq!(
            done.done().map(|(place, ..)| place).collect::<Vec<_>>(),
            [0, 3]
        );
        let wraps = vec![Some(vec![0]), None, None, Some(vec![3])];
        assert_eq!(done.wraps, Some(wraps));
    }

    #[test]
    fn nothing_is_said_of_the_versions_and_new_wraps_of_items_that_are_refused() {
        // rule: INV-1, REW-1
        let mut done = done();
        let kek = |n: u8| KekId([n; 16]);
        // What another check refuses after it was opened keeps both here, and neither in the entry.
        done.under = [9, 8, 7, 9].map(|n| Some(kek(n))).into();
        done.moved = (10..14).map(|n| Some(ItemDigest([n; 32]))).collect();
        let moved = |done: &Done| done.moved().map(|(place, _)| place).collect::<Vec<_>>();
        assert_eq!(done.versions(), (vec![kek(9), kek(7)], vec![0, NONE, 1, 0]));
        assert_eq!(moved(&done), [0, 2, 3]);
        done.refuse(|digest| (digest.0[0] == 0).then_some(Refusal::Budget));
        let left = (vec![kek(7), kek(9)], vec![NONE, NONE, 0, 1]);
        assert_eq!(done.versions(), left);
        assert_eq!(moved(&done), [2, 3]);
        done.refuse(|_| Some(Refusal::Budget));
        assert_eq!(done.versions(), (Vec::new(), vec![NONE; 4]));
    }

    #[test]
    fn as_many_versions_as_a_dataset_can_have_are_told_apart() {
        // rule: INV-1, KEK-2
        let mut done = Done::with_room(limits::KEKS, true);
        done.verdicts = vec![Verdict::Done(Origin::Generated); limits::KEKS];
        let keks: Vec<_> = (0..limits::KEKS)
            .map(|n| KekId([u8::try_from(n).unwrap(); 16]))
            .collect();
        done.under = keks.iter().copied().map(Some).collect();
        assert_eq!(done.versions(), (keks, (0..NONE).collect()));
    }

    #[test]
    fn a_batch_prints_no_dek() {
        let text = format!("{:?}", done());
        assert!(!text.contains("160") && text.contains("deks: 3"), "{text}");
    }
}
