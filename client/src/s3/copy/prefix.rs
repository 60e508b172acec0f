//! A new wrap for every object under a prefix whose wrap is not of the current KEK version.
//!
//! Objects go by in windows: their metadata is read, those of older versions are wrapped anew in one
//! exchange, what came of it is kept, and then put beside the bodies, while the metadata of the next
//! window is being read. What is kept lets a later run put the very wraps there that this one asked for.
//! Of what stands in its place the key server is told (REW-2), so that old versions come to no wraps left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use ticket_format::cbor::Encode as _;
use ticket_format::ids::{DatasetId, ItemDigest, KekId};
use ticket_format::limits;
use ticket_format::messages::batch::item_digest;
use ticket_format::wrapped::{Header, Wrapped};

use super::rewrite::named;
use super::wrap::put_wrap;
use super::{CopyError, Job, Quiet};
use crate::object::keys::{NewWrap, WrapItem};
use crate::object::metadata::{Context, MetadataError, NAME};
use crate::s3::{Listed, Location, ObjectSource, StoreError, Stores};

/// Objects that are looked at together, and at most wrapped in one exchange.
const WINDOW: usize = limits::REWRAPS;
/// Metadata of this many objects is read at one time.
const LOOKS: usize = 32;
/// More failed objects than this are not remembered: then something is wrong with all.
pub const FAILED: usize = 10_000;
/// KEK versions that are told apart; a dataset has fewer.
const VERSIONS: usize = 1_024;
/// How often all is gone through when the current version changes meanwhile.
const PASSES: usize = 3;

/// Which objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// The bucket.
    pub bucket: String,
    /// What their keys begin with.
    pub prefix: String,
    /// The dataset whose wraps are meant.
    pub dataset: DatasetId,
    /// Objects that get their wraps at one time.
    pub parallel: usize,
}

/// How far a run is: with it another goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// The KEK version that was current.
    pub kek: Option<KekId>,
    /// Every key up to this one is done, or left.
    pub after: Option<String>,
    /// Keys that are to be looked at again.
    pub left: BTreeSet<String>,
    /// Wraps that were made and are perhaps not with their objects yet.
    pub made: Vec<Made>,
}

/// A wrap that was made for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The object's key.
    pub key: String,
    /// The wrap and context that it takes the place of.
    pub old: ItemDigest,
    /// The new wrap.
    pub wrapped: Vec<u8>,
}

/// Where wraps come from, and where the position is kept.
pub trait Rewrapper {
    /// Why one object has no new wrap.
    type Error: std::error::Error + Send + Sync + 'static;
    /// Why it cannot go on.
    type Stop;

    /// Has at most 500 data keys wrapped anew: one verdict each, in order.
    fn wrap_anew(
        &mut self,
        items: Vec<WrapItem>,
    ) -> impl Future<Output = Result<Vec<Result<NewWrap, Self::Error>>, Self::Stop>>;

    /// Tells that at most 500 wraps stand with their objects (REW-2).
    fn confirm(&mut self, placed: Vec<ItemDigest>) -> impl Future<Output = Result<(), Self::Stop>>;

    /// Keeps the position, durably: only then the wraps in it are put beside their objects.
    ///
    /// # Errors
    /// It cannot.
    fn keep(&mut self, position: &Position) -> Result<(), Self::Stop>;

    /// Is told how it goes on, after each window.
    fn tell(&mut self, tally: &Tally<Self::Error>) {
        let _ = tally;
    }
}

/// Objects, and the bytes of their bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub objects: u64,
    /// Together.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What was found and done.
#[derive(Debug)]
pub struct Tally<E> {
    /// Objects that were looked at.
    pub looked: u64,
    /// Objects with a new wrap.
    pub done: Count,
    /// Objects that had a wrap of the current version.
    pub current: u64,
    /// Objects that are not encrypted by postern.
    pub plain: u64,
    /// Recoveries beside their objects, which no rewrap changes.
    pub recoveries: u64,
    /// Objects of other datasets.
    pub others: u64,
    /// Objects that went away meanwhile.
    pub gone: u64,
    /// The dataset's objects by the version that they were found under: number and id.
    pub versions: BTreeMap<(u64, KekId), Count>,
    /// The current version, as the key server's answers showed it.
    pub kek: Option<(u64, KekId)>,
    /// Objects that failed.
    pub failed: Vec<(Job, CopyError<E>)>,
    /// The current version kept changing: there may be more to do.
    pub unsteady: bool,
}

impl<E> Default for Tally<E> {
    fn default() -> Self {
        Self {
            looked: 0,
            done: Count::default(),
            current: 0,
            plain: 0,
            recoveries: 0,
            others: 0,
            gone: 0,
            versions: BTreeMap::new(),
            kek: None,
            failed: Vec::new(),
            unsteady: false,
        }
    }
}

/// Why a run ended early. What it had kept stands.
#[derive(Debug)]
pub enum Stopped<S> {
    /// The prefix cannot be listed.
    List(StoreError),
    /// The [`Rewrapper`] cannot go on.
    Rewrapper(S),
    /// More than [`FAILED`] objects failed.
    TooManyFailed,
}

/// An object of the dataset, looked at.
struct Found {
    key: String,
    job: Job,
    source: ObjectSource,
    item: WrapItem,
    digest: ItemDigest,
    header: Header,
    public: bool,
}

enum Looked<E> {
    Ours(Box<Found>),
    Plain,
    Recoveries,
    Other,
    Gone,
    Failed(String, Box<(Job, CopyError<E>)>),
}

/// Looks at each object under a prefix, and counts.
///
/// # Errors
/// The prefix cannot be listed.
pub async fn survey<E: std::error::Error + Send + Sync + 'static>(
    stores: &Stores,
    prefix: &Prefix,
    mut tell: impl FnMut(&Tally<E>),
) -> Result<Tally<E>, StoreError> {
    let mut tally = Tally::default();
    let mut windows = std::pin::pin!(windows::<E>(stores, prefix, None));
    while let Some(window) = windows.next().await {
        for looked in window?.0 {
            if let Some(found) = tally.count(looked) {
                tally.versions(&found);
            }
        }
        tell(&tally);
    }
    Ok(tally)
}

/// Gives a new wrap to every object under a prefix whose wrap is not of the current KEK version, from a
/// position on. Which version is current the answers tell: the first wrap is asked for by itself.
/// One refused object does not stop the others.
pub async fn rewrap_prefix<R: Rewrapper>(
    stores: &Stores,
    prefix: &Prefix,
    position: Position,
    rewrapper: &mut R,
) -> (Tally<R::Error>, Result<(), Stopped<R::Stop>>) {
    let mut run = Run {
        stores,
        prefix,
        rewrapper,
        position,
        changed: false,
        ordered: true,
        spare: None,
        placed: Vec::new(),
        tally: Tally::default(),
    };
    let ended = run.run().await;
    (run.tally, ended)
}

struct Run<'a, R: Rewrapper> {
    stores: &'a Stores,
    prefix: &'a Prefix,
    rewrapper: &'a mut R,
    position: Position,
    /// The current version is another one than when the pass began.
    changed: bool,
    /// Keys come in order, so that a position means something.
    ordered: bool,
    /// An object of the version that an earlier run found current: where no other is asked for, it
    /// shows whether that still is so.
    spare: Option<Box<Found>>,
    /// Wraps that stand with their objects, and of which the key server is to be told.
    placed: Vec<ItemDigest>,
    tally: Tally<R::Error>,
}

type Ended<T, R> = Result<T, Stopped<<R as Rewrapper>::Stop>>;

impl<R: Rewrapper> Run<'_, R> {
    async fn run(&mut self) -> Ended<(), R> {
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

impl<E> Tally<E> {
    /// Counts what an object was found to be; gives back one of the dataset.
    fn count(&mut self, looked: Looked<E>) -> Option<Found> {
        self.looked += 1;
        match looked {
            Looked::Ours(found) => return Some(*found),
            Looked::Plain => self.plain += 1,
            Looked::Recoveries => self.recoveries += 1,
            Looked::Other => self.others += 1,
            Looked::Gone => self.gone += 1,
            Looked::Failed(_, failed) => self.failed.push(*failed),
        }
        None
    }

    fn versions(&mut self, found: &Found) {
        let version = (found.header.kek_version, found.header.kek);
        if self.versions.len() < VERSIONS || self.versions.contains_key(&version) {
            let bytes = found.source.body_len().unwrap_or_default();
            self.versions.entry(version).or_default().add(bytes);
        }
    }

    /// Forgets what is found out anew.
    fn again(&mut self) {
        let before = std::mem::take(self);
        self.done = before.done;
        self.kek = before.kek;
    }
}

/// The object that is wrapped anew first, to learn which version is current: most likely of an older
/// one, and none whose producer's signature it would lose where another will do.
fn probe(found: &[Found]) -> Option<usize> {
    let likely = |(_, found): &(usize, &Found)| (found.public, found.header.kek_version);
    let first = found.iter().enumerate().min_by_key(likely);
    first.map(|(at, _)| at)
}

type Window<E> = (Vec<Looked<E>>, Option<String>);

/// The listed objects, looked at; with each window its last key.
fn windows<'a, E: std::error::Error + Send + Sync + 'static>(
    stores: &'a Stores,
    prefix: &'a Prefix,
    after: Option<&str>,
) -> impl stream::Stream<Item = Result<Window<E>, StoreError>> + use<'a, E> {
    let listed = stores.list_after(&prefix.bucket, &prefix.prefix, after);
    // Keys that came before an error are looked at with the next run.
    listed.chunks(WINDOW).then(move |window| async move {
        let window: Vec<Listed> = window.into_iter().collect::<Result<_, _>>()?;
        let keys: Vec<String> = window.into_iter().map(|listed| listed.key).collect();
        let ascending = keys.is_sorted();
        let last = keys.last().cloned().filter(|_| ascending);
        Ok((look_at_all(stores, prefix, keys).await, last))
    })
}

async fn look_at_all<E>(stores: &Stores, prefix: &Prefix, keys: Vec<String>) -> Vec<Looked<E>> {
    stream::iter(keys)
        .map(|key| look_at(stores, prefix, key))
        .buffered(LOOKS)
        .collect()
        .await
}

async fn look_at<E>(stores: &Stores, prefix: &Prefix, key: String) -> Looked<E> {
    let place = Location::S3 {
        bucket: prefix.bucket.clone(),
        key: key.clone(),
    };
    let job = Job {
        from: place.clone(),
        to: place.clone(),
        name: None,
        context: Context::new(),
    };
    let failed = |key, job, error| Looked::Failed(key, Box::new((job, error)));
    let source = match ObjectSource::open(stores, &place).await {
        Ok(source) => source,
        Err(StoreError::NotFound(_)) => return Looked::Gone,
        Err(StoreError::Metadata {
            source: MetadataError::NotEncrypted,
            ..
        }) => return Looked::Plain,
        // rule: RCP-3
        Err(StoreError::Recoveries { .. }) => return Looked::Recoveries,
        Err(error) => return failed(key, job, error.into()),
    };
    let wrapped = source.metadata.wrapped.clone();
    let (header, public) = match Wrapped::parse(&wrapped) {
        Ok(wrap) => (*wrap.header(), matches!(wrap, Wrapped::Public { .. })),
        Err(error) => {
            let error = CopyError::Wrap {
                place: place.to_string(),
                source: error,
            };
            return failed(key, job, error);
        }
    };
    if header.dataset != prefix.dataset {
        return Looked::Other;
    }
    // The wrap stays bound to the name that it has, whether or not it is that of the place: who reads
    // the object is the one to compare it (OBJ-11).
    let mut context = source.metadata.stored_context.clone();
    if let Some(name) = place.name() {
        context.entry(NAME.to_owned()).or_insert(name);
    }
    let digest = match ticket_format::Context::new(context.clone()) {
        Ok(pairs) => item_digest(&wrapped, &pairs.to_cbor()),
        Err(_) => {
            let error = CopyError::Context {
                place: place.to_string(),
                source: MetadataError::ContextLimit,
            };
            return failed(key, job, error);
        }
    };
    Looked::Ours(Box::new(Found {
        key,
        job,
        source,
        item: WrapItem {
            wrapped,
            context,
            recoveries: Vec::new(),
        },
        digest,
        header,
        public,
    }))
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
