//! One run over a prefix: from a position on, window by window.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use ticket_format::ids::ItemDigest;
use ticket_format::limits;
use ticket_format::wrapped::Wrapped;

use super::look::{Found, Looked, WINDOW, look_at_all, windows};
use super::{FAILED, Made, Position, Prefix, Rewrapper, Stopped, Tally};
use crate::object::keys::{NewWrap, WrapItem};
use crate::s3::copy::rewrite::named;
use crate::s3::copy::wrap::put_wrap;
use crate::s3::copy::{CopyError, Job, Quiet};
use crate::s3::{StoreError, Stores};

/// How often all is gone through when the current version changes meanwhile.
const PASSES: usize = 3;

pub(super) struct Run<'a, R: Rewrapper> {
    pub(super) stores: &'a Stores,
    pub(super) prefix: &'a Prefix,
    pub(super) rewrapper: &'a mut R,
    pub(super) position: Position,
    /// The current version is another one than when the pass began.
    pub(super) changed: bool,
    /// Keys come in order, so that a position means something.
    pub(super) ordered: bool,
    /// An object of the version that an earlier run found current: where no other is asked for, it
    /// shows whether that still is so.
    pub(super) spare: Option<Box<Found>>,
    /// Wraps that stand with their objects, and of which the key server is to be told.
    pub(super) placed: Vec<ItemDigest>,
    pub(super) tally: Tally<R::Error>,
}

type Ended<T, R> = Result<T, Stopped<<R as Rewrapper>::Stop>>;

impl<R: Rewrapper> Run<'_, R> {
    pub(super) async fn run(&mut self) -> Ended<(), R> {
        self.put_made_earlier().await?;
        for _ in 0..PASSES {
            let begun = self.position.kek;
            let resumed = self.position.after.is_some();
            self.pass().await?;
            let now = self.tally.kek.map(|(_, id)| id);
            // What an earlier run found current need not be current any more.
            let other = begun.is_some() && begun != now && (resumed || now.is_some());
            if !(self.changed || other) {
                return Ok(());
            }
            tracing::info!("the KEK version is another one by now: from the beginning");
            self.changed = false;
            self.position = Position {
                kek: now,
                ..Position::default()
            };
            self.tally.again();
            self.keep()?;
        }
        self.tally.unsteady = true;
        Ok(())
    }

    /// Goes on with the wraps of an earlier run: what stands with its object already is told of; what does not
    /// is wrapped anew from the wrap that was made, which shows that it opens still, and put there. The
    /// others are looked at again in their turn.
    async fn put_made_earlier(&mut self) -> Ended<(), R> {
        let made = self.position.made.clone();
        if made.is_empty() {
            return Ok(());
        }
        self.position
            .left
            .extend(made.iter().map(|made| made.key.clone()));
        let keys = made.iter().map(|made| made.key.clone()).collect();
        let looked = look_at_all::<R::Error>(self.stores, self.prefix, keys).await;
        let old: BTreeMap<&str, &Made> = made.iter().map(|made| (&*made.key, made)).collect();
        let (mut items, mut waiting) = (Vec::new(), Vec::new());
        for looked in looked {
            let Looked::Ours(found) = looked else {
                continue;
            };
            let Some(made) = old.get(&*found.key) else {
                continue;
            };
            let Some(name) = named(&made.wrapped, found.item.context.clone()) else {
                continue;
            };
            if name == found.digest {
                self.placed.push(name);
            } else if made.old == found.digest {
                items.push(WrapItem {
                    recoveries: Vec::new(),
                    wrapped: made.wrapped.clone(),
                    context: found.item.context.clone(),
                });
                waiting.push((*found, name));
            }
        }
        let (mut puts, mut between) = (Vec::new(), BTreeMap::new());
        if !items.is_empty() {
            let answers = self.rewrapper.wrap_anew(items).await;
            let answers = answers.map_err(Stopped::Rewrapper)?;
            for ((found, name), answer) in waiting.into_iter().zip(answers) {
                // One that does not open any more is asked for again, from the wrap that the object has.
                let Ok(wrap) = answer else { continue };
                let new = Wrapped::parse(&wrap.wrapped).map(|wrapped| *wrapped.header());
                if let Ok(new) = new
                    && new.dek == found.header.dek
                    && new.dataset == found.header.dataset
                {
                    between.insert(found.key.clone(), name);
                    puts.push((found, wrap));
                }
            }
        }
        let put = put_all::<R::Error>(self.stores, self.prefix.parallel, puts).await;
        for (key, name, outcome) in put {
            if let Ok(bytes) = outcome.1 {
                // The one between was made for this place too, and is replaced with the first.
                self.placed.extend(between.remove(&key));
                self.placed.extend(name);
                self.tally.done.add(bytes);
            }
        }
        self.confirm().await?;
        self.position.made.clear();
        self.keep()
    }

    /// Goes once through what was left and what is listed.
    async fn pass(&mut self) -> Ended<(), R> {
        // What comes after the position is met in the listing.
        let after = self.position.after.clone();
        self.position.left.retain(|key| Some(key) <= after.as_ref());
        let left: Vec<String> = self.position.left.iter().cloned().collect();
        for keys in left.chunks(WINDOW) {
            let looked = look_at_all(self.stores, self.prefix, keys.to_vec()).await;
            for key in keys {
                self.position.left.remove(key);
            }
            let puts = self.wrap(looked).await?;
            let outcomes = put_all(self.stores, self.prefix.parallel, puts).await;
            self.settle(outcomes, None).await?;
        }
        let (stores, prefix) = (self.stores, self.prefix);
        let mut windows = std::pin::pin!(windows(stores, prefix, after.as_deref()));
        let mut next = windows.next().await;
        while let Some(window) = next {
            let (looked, last) = window.map_err(Stopped::List)?;
            let puts = self.wrap(looked).await?;
            // The next window is looked at while the wraps of this one are put.
            let (outcomes, following) =
                tokio::join!(put_all(stores, prefix.parallel, puts), windows.next());
            self.settle(outcomes, last).await?;
            next = following;
        }
        match self.spare.take() {
            Some(spare) if self.tally.kek.is_none() => {
                let mut puts = Vec::new();
                self.ask(vec![*spare], &mut puts).await?;
                let outcomes = put_all(stores, prefix.parallel, puts).await;
                self.settle(outcomes, None).await
            }
            _ => Ok(()),
        }
    }

    /// Has those of a window wrapped anew that are not of the current version, and keeps the wraps.
    async fn wrap(&mut self, looked: Vec<Looked<R::Error>>) -> Ended<Vec<(Found, NewWrap)>, R> {
        let mut found = Vec::new();
        for looked in looked {
            if let Looked::Failed(key, _) = &looked {
                self.position.left.insert(key.clone());
            }
            if let Some(ours) = self.tally.count(looked) {
                self.tally.versions(&ours);
                found.push(ours);
            }
        }
        let mut puts = Vec::new();
        // An earlier run's version is held for the current one, until an answer shows another.
        let known = self.tally.kek.map(|(_, kek)| kek).or(self.position.kek);
        if known.is_none()
            && let Some(probe) = probe(&found)
        {
            let probe = found.swap_remove(probe);
            self.ask(vec![probe], &mut puts).await?;
        }
        if let Some(current) = known.or(self.position.kek) {
            let (same, older): (Vec<Found>, Vec<Found>) = found
                .into_iter()
                .partition(|found| found.header.kek == current);
            self.tally.current += same.len() as u64;
            if self.tally.kek.is_none() && self.spare.is_none() {
                self.spare = same.into_iter().next().map(Box::new);
            }
            found = older;
        }
        if !found.is_empty() {
            self.ask(found, &mut puts).await?;
        }
        Ok(puts)
    }

    async fn ask(&mut self, found: Vec<Found>, puts: &mut Vec<(Found, NewWrap)>) -> Ended<(), R> {
        let items = found.iter().map(|found| found.item.clone()).collect();
        let answers = self.rewrapper.wrap_anew(items).await;
        let answers = answers.map_err(Stopped::Rewrapper)?;
        let complete = answers.len() == found.len();
        let mut answers = answers.into_iter();
        for found in found {
            let place = found.job.to.to_string();
            let error = match answers.next().filter(|_| complete) {
                Some(Ok(wrap)) => {
                    self.learn(&wrap);
                    self.position.made.push(Made {
                        key: found.key.clone(),
                        old: found.digest,
                        wrapped: wrap.wrapped.clone(),
                    });
                    puts.push((found, wrap));
                    continue;
                }
                Some(Err(source)) => CopyError::Key { place, source },
                None => CopyError::Answers(place),
            };
            self.position.left.insert(found.key);
            self.tally.failed.push((found.job, error));
        }
        if self.position.made.is_empty() {
            return Ok(());
        }
        self.keep()
    }

    /// The newest version that an answer was under is the current one.
    fn learn(&mut self, wrap: &NewWrap) {
        let Ok(header) = Wrapped::parse(&wrap.wrapped).map(|wrapped| *wrapped.header()) else {
            return;
        };
        let shown = (header.kek_version, header.kek);
        match self.tally.kek {
            Some(known) if known >= shown => return,
            Some(_) => self.changed = true,
            None => {}
        }
        self.tally.kek = Some(shown);
        // Of an earlier run it stays what it was, until all was gone through under this one.
        if self.position.kek.is_none() {
            self.position.kek = Some(header.kek);
        }
    }

    /// Notes how a window ended, and keeps that.
    async fn settle(&mut self, outcomes: Vec<Put<R::Error>>, last: Option<String>) -> Ended<(), R> {
        for (key, name, (job, outcome)) in outcomes {
            match outcome {
                Ok(bytes) => {
                    self.placed.extend(name);
                    self.tally.done.add(bytes);
                }
                Err(CopyError::Store(StoreError::NotFound(_))) => self.tally.gone += 1,
                Err(error) => {
                    self.position.left.insert(key);
                    self.tally.failed.push((job, error));
                }
            }
        }
        if let Some(last) = last {
            self.ordered &= self.position.after.as_ref() < Some(&last);
            self.position.after = Some(last).filter(|_| self.ordered);
        }
        self.confirm().await?;
        self.position.made.clear();
        self.keep()?;
        self.rewrapper.tell(&self.tally);
        if self.position.left.len() > FAILED {
            return Err(Stopped::TooManyFailed);
        }
        Ok(())
    }

    async fn confirm(&mut self) -> Ended<(), R> {
        // rule: REW-2
        let placed = std::mem::take(&mut self.placed);
        for some in placed.chunks(limits::REWRAPS) {
            let told = self.rewrapper.confirm(some.to_vec()).await;
            told.map_err(Stopped::Rewrapper)?;
        }
        Ok(())
    }

    fn keep(&mut self) -> Ended<(), R> {
        let kept = self.rewrapper.keep(&self.position);
        kept.map_err(Stopped::Rewrapper)
    }
}

/// The object that is wrapped anew first, to learn which version is current: most likely of an older
/// one, and none whose producer's signature it would lose where another will do.
fn probe(found: &[Found]) -> Option<usize> {
    let likely = |(_, found): &(usize, &Found)| (found.public, found.header.kek_version);
    let first = found.iter().enumerate().min_by_key(likely);
    first.map(|(at, _)| at)
}

/// The object's key, how its new wrap is named, and what came of it.
type Put<E> = (String, Option<ItemDigest>, (Job, Result<u64, CopyError<E>>));

async fn put_all<E: Send + 'static>(
    stores: &Stores,
    parallel: usize,
    puts: Vec<(Found, NewWrap)>,
) -> Vec<Put<E>> {
    stream::iter(puts)
        .map(|(found, wrap)| async move {
            let (stores, job) = (stores.clone(), found.job.clone());
            let name = named(&wrap.wrapped, found.item.context);
            let put = put_wrap(stores, job, found.source, wrap, Arc::new(Quiet)).await;
            (found.key, name, (found.job, put))
        })
        .buffer_unordered(parallel.max(1))
        .collect()
        .await
}
