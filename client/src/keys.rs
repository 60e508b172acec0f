//! Data keys of one dataset, from its key server: what objects are encrypted and decrypted with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use ticket_format::ids::{DatasetId, ItemDigest};
use ticket_format::key_pair::KeyPairKind;
use ticket_format::recovery::{NotOpened, Recoverer, Recovery};
use ticket_format::report::{Report, exit};
use ticket_format::seal::SealError;
use ticket_format::secret::Dek;
use ticket_format::statement::DatasetRecord;
use ticket_format::wrapped::{Origin, Wrapped, object_context};
use ticket_format::{Context, Refusal, limits};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::issue::Opened;
use crate::logs::{LoggedLink, Logs};
use crate::object::ObjectContext;
use crate::object::keys::{
    KeySource, NewItem, NewKey, NewWrap, OpenedKey, Verdicts, WrapItem, WrapSource,
};
use crate::object::metadata;
use crate::redeem::{Generated, Presented, Released, raw_context};
use crate::wallet::DatasetSession;
use crate::watch::Watched;

/// Longest wait for one attempt to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// Why a data key is not there.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key server refused this item.
    #[error("key server refused ({refusal}): {meaning}", refusal = .0, meaning = .0.meaning())]
    Refused(Refusal),
    /// The exchange as a whole failed.
    #[error(transparent)]
    Exchange(#[from] Error),
    /// The encryption context passes a bound.
    #[error(transparent)]
    Context(#[from] ticket_format::NotPairs),
    /// The wrapped data key is none.
    #[error("not a wrapped data key: {0}")]
    Wrap(#[from] ticket_format::cbor::DecodeError),
    /// A recovery is not of this object, or a recipient's key cannot be used.
    #[error(transparent)]
    Recovery(#[from] NotOpened),
    /// A recovery recipient's public key takes no encapsulation.
    #[error("a recovery recipient's public key cannot be used: {0}")]
    Recipient(#[from] SealError),
    /// The cryptographic library refused a call that cannot fail on valid lengths.
    #[error(transparent)]
    Body(#[from] crate::object::BodyError),
    /// Nobody signed the wrap: anybody who knows the dataset's public key could have made it.
    #[error("nobody signed for its data key (public-unsigned)")]
    Unsigned,
    /// The node's agent refused, or did not answer.
    #[error("the agent did not give it: {}", .0.what)]
    Agent(Box<Report>),
    /// Who has only public keys opens nothing.
    #[error("a producer's keys open nothing: name the dataset to decrypt")]
    Producer,
}

impl KeyError {
    /// The refusal, where it is of one item and says nothing of the others.
    #[must_use]
    pub fn of_item(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(*refusal),
            Self::Wrap(_) => Some(Refusal::WrapMalformed),
            Self::Unsigned => Some(Refusal::Producer),
            _ => None,
        }
    }

    /// The error as a person reads it.
    #[must_use]
    pub fn report(&self) -> Report {
        match self {
            Self::Refused(refusal) => Report::refused("key server", *refusal, None),
            Self::Exchange(error) => error.report(),
            Self::Agent(report) => (**report).clone(),
            Self::Context(error) => {
                Report::new(exit::USAGE, "the context cannot be used").why(error)
            }
            Self::Wrap(_) => Report::refused("client", Refusal::WrapMalformed, None),
            Self::Body(error) => Report::new(exit::LOCAL, "no data key could be used").why(error),
            Self::Recovery(_) => Report::new(exit::INTEGRITY, "the data key was not recovered")
                .why(self)
                .next("do not use the object"),
            Self::Recipient(_) => Report::new(exit::INTEGRITY, "no data key was made")
                .why(self)
                .next("have the dataset's record name its recipients anew"),
            // rule: ORG-1
            Self::Unsigned => Report::new(exit::INTEGRITY, "the object's origin was not accepted")
                .why(self)
                .next("if such objects are meant to be read, say --accept-unsigned"),
            Self::Producer => Report::new(exit::USAGE, "no data key can be opened").why(self),
        }
    }
}

/// The data keys of one dataset.
#[derive(Debug)]
pub struct DatasetKeys {
    session: DatasetSession,
    opened: Opened,
    logs: Logs,
    accept_unsigned: bool,
    patience: Duration,
    presented: Mutex<Option<Arc<Presented>>>,
    released: AtomicU64,
}

impl DatasetKeys {
    /// Uses a checked session; connects when the first key is asked for. What the key server's log shows
    /// is remembered in `logs`. `patience` bounds how long one batch is tried again while the key server
    /// is busy or away.
    #[must_use]
    pub fn new(session: DatasetSession, opened: Opened, logs: Logs, patience: Duration) -> Self {
        Self {
            session,
            opened,
            logs,
            accept_unsigned: false,
            patience,
            presented: Mutex::default(),
            released: AtomicU64::new(0),
        }
    }

    /// Accepts keys that anybody who knows the dataset's public key could have wrapped (ORG-1).
    #[must_use]
    pub fn accept_unsigned(mut self, accept: bool) -> Self {
        self.accept_unsigned = accept;
        self
    }

    /// The ticket and the record behind it.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The ticket, as it can be watched.
    #[must_use]
    pub fn watched(&self) -> Watched {
        Watched::dataset(&self.session, &self.opened, &self.logs)
    }

    /// How many data keys came by this ticket so far.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.released.load(Ordering::Relaxed)
    }

    fn count(&self, deks: usize) {
        self.released.fetch_add(deks as u64, Ordering::Relaxed);
    }

    /// Ends the connection, if there is one, and tells the key server.
    ///
    /// # Errors
    /// As [`LoggedLink::close`]: what came over it is not to be used.
    pub async fn close(self) -> Result<(), Error> {
        let presented = self.presented.into_inner();
        match presented.and_then(Arc::into_inner) {
            Some(presented) => presented.close().await,
            None => Ok(()),
        }
    }

    /// The presented ticket; connects and presents it when the connection is gone.
    ///
    /// # Errors
    /// The key server cannot be reached, or refused.
    pub async fn presented(&self) -> Result<Arc<Presented>, Error> {
        let mut slot = self.presented.lock().await;
        if let Some(presented) = slot.as_ref().filter(|presented| presented.is_open()) {
            return Ok(Arc::clone(presented));
        }
        *slot = None;
        let timeout = self.patience.min(CONNECT);
        let (server, key) = (self.opened.server(), self.opened.log_key());
        let link = LoggedLink::connect(&server, key, &self.logs, timeout).await?;
        let presented = Presented::present(link, &self.session, self.opened.clone()).await?;
        let presented = Arc::new(presented.accept_unsigned(self.accept_unsigned));
        *slot = Some(Arc::clone(&presented));
        Ok(presented)
    }

    /// Runs one exchange, and again while that may help and `patience` lasts. It lasts from the
    /// first failure on: that a connection is dead shows only after its idle time. A repeated
    /// generate leaves unused wraps behind and uses budget twice, which harms less than to stop.
    async fn exchange<T, F>(&self, mut ask: impl FnMut(Arc<Presented>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut deadline = None;
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(2))
            .with_jitter()
            .without_max_times()
            .build();
        loop {
            let error = match self.presented().await {
                Ok(presented) => match ask(presented).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if error.refusal() == Some(Refusal::HandleUnknown) {
                // The server has forgotten the presentation: present again on a new connection.
                *self.presented.lock().await = None;
            } else if !error.worth_retrying() {
                return Err(error);
            }
            let delay = delays.next().unwrap_or(Duration::from_secs(2));
            let end = *deadline.get_or_insert_with(|| Instant::now() + self.patience);
            if Instant::now() + delay >= end {
                return Err(error);
            }
            tracing::info!(%error, "trying again");
            tokio::time::sleep(delay).await;
        }
    }

    /// Redeems 1 to 1,000 wrapped data keys; one verdict each, in order.
    ///
    /// # Errors
    /// The exchange as a whole failed.
    pub async fn redeem(
        &self,
        items: &[(&[u8], &Context)],
    ) -> Result<Vec<Result<Released, KeyError>>, Error> {
        let answers = self.exchange(|presented| async move {
            presented.redeem(items, &mut UnwrapErr(SysRng)).await
        });
        let verdict = |(answer, (wrapped, _)): (Result<Released, Refusal>, &(&[u8], &Context))| {
            answer.map_err(|refusal| refused(wrapped, refusal))
        };
        let answers = answers.await?;
        self.count(answers.iter().filter(|answer| answer.is_ok()).count());
        Ok(answers.into_iter().zip(items).map(verdict).collect())
    }

    /// Has 1 to 1,000 data keys made, one for each context; or key pairs of a kind, which each context names.
    ///
    /// # Errors
    /// The exchange as a whole failed.
    pub async fn make(
        &self,
        contexts: &[&Context],
        with_deks: bool,
        key_pair: Option<KeyPairKind>,
    ) -> Result<Vec<Result<Generated, KeyError>>, Error> {
        let answers = self.exchange(|presented| async move {
            presented
                .generate(contexts, with_deks, key_pair, &mut UnwrapErr(SysRng))
                .await
        });
        let verdict = |answer: Result<Generated, Refusal>| answer.map_err(KeyError::Refused);
        let answers = answers.await?;
        if with_deks {
            self.count(answers.iter().filter(|answer| answer.is_ok()).count());
        }
        Ok(answers.into_iter().map(verdict).collect())
    }

    /// Has up to 500 wrapped data keys wrapped anew.
    ///
    /// # Errors
    /// The exchange as a whole failed.
    pub async fn rewrap(
        &self,
        items: &[(&[u8], &Context, Option<&Context>)],
    ) -> Result<Vec<Result<Vec<u8>, KeyError>>, Error> {
        let answers = self.exchange(|presented| async move {
            presented.rewrap(items, &[], &mut UnwrapErr(SysRng)).await
        });
        let verdict = |answer: Result<Vec<u8>, Refusal>| answer.map_err(KeyError::Refused);
        Ok(answers.await?.into_iter().map(verdict).collect())
    }

    /// Tells the key server that up to 500 new wraps stand where they were made for, so that what they
    /// replaced counts no more (REW-2); each as [`item_digest`](ticket_format::messages::batch::item_digest)
    /// names it.
    ///
    /// # Errors
    /// The exchange failed: they may be told of again.
    async fn told(&self, placed: &[ItemDigest]) -> Result<(), Error> {
        // rule: REW-2
        let told = self.exchange(|presented| async move {
            presented.rewrap(&[], placed, &mut UnwrapErr(SysRng)).await
        });
        told.await.map(drop)
    }

    fn object_context(&self, wrapped: &[u8], context: &Context) -> Result<ObjectContext, KeyError> {
        context_of(&self.opened.claims.common.realm, wrapped, context)
    }
}

/// What the body is bound to whose data key a wrap is.
pub(crate) fn context_of(
    realm: &str,
    wrapped: &[u8],
    context: &Context,
) -> Result<ObjectContext, KeyError> {
    let wrapped = Wrapped::parse(wrapped)?;
    let context = object_context(realm, wrapped.header(), &raw_context(context));
    Ok(ObjectContext::new(context))
}

/// A data key, with what its wrap says of the body.
pub(crate) fn opened_key(
    realm: &str,
    wrapped: &[u8],
    context: &Context,
    dek: &[u8; 32],
) -> Result<OpenedKey, KeyError> {
    let signed_commitment = match Wrapped::parse(wrapped)? {
        Wrapped::Public {
            producer: Some(claim),
            ..
        } => Some(claim.body_commitment),
        _ => None,
    };
    Ok(OpenedKey {
        dek: Zeroizing::new(*dek),
        context: context_of(realm, wrapped, context)?,
        signed_commitment,
    })
}

impl WrapSource for DatasetKeys {
    async fn wrap_anew(&self, items: Vec<WrapItem>) -> Verdicts<NewWrap, KeyError> {
        let contexts = contexts(items.iter().map(|item| item.context.clone()));
        let good: Vec<(&[u8], &Context, Option<&Context>)> = items
            .iter()
            .zip(&contexts)
            .filter_map(|(item, context)| Some((&item.wrapped[..], context.as_ref().ok()?, None)))
            .collect();
        let mut answers = Vec::with_capacity(good.len());
        for some in good.chunks(limits::REWRAPS) {
            answers.extend(self.rewrap(some).await?);
        }
        Ok(spread(contexts, answers, |_, answer| {
            let wrapped = answer?;
            let kek_version = Wrapped::parse(&wrapped)?.header().kek_version;
            Ok(NewWrap {
                wrapped,
                kek_version,
            })
        }))
    }

    async fn confirm(&self, placed: Vec<ItemDigest>) -> Result<(), KeyError> {
        for some in placed.chunks(limits::REWRAPS) {
            self.told(some).await?;
        }
        Ok(())
    }
}

/// Checks the bounds of each context.
pub(crate) fn contexts(
    items: impl Iterator<Item = metadata::Context>,
) -> Vec<Result<Context, KeyError>> {
    items.map(|context| Ok(Context::new(context)?)).collect()
}

/// Puts the answers to the good items back between the errors of the others.
pub(crate) fn spread<C, A, T>(
    items: Vec<Result<C, KeyError>>,
    answers: Vec<A>,
    mut finish: impl FnMut(C, A) -> Result<T, KeyError>,
) -> Vec<Result<T, KeyError>> {
    let mut answers = answers.into_iter();
    items
        .into_iter()
        .filter_map(|item| match item {
            Ok(item) => answers.next().map(|answer| finish(item, answer)),
            Err(error) => Some(Err(error)),
        })
        .collect()
}

/// A refusal of one wrap: the key server's, or this side's of an origin that was not accepted.
pub(crate) fn refused(wrapped: &[u8], refusal: Refusal) -> KeyError {
    let origin = Wrapped::parse(wrapped).map(|wrapped| wrapped.claimed_origin());
    match origin {
        Ok(Origin::PublicUnsigned) if refusal == Refusal::Producer => KeyError::Unsigned,
        _ => KeyError::Refused(refusal),
    }
}

/// What is asked of the key server for one object.
struct Asked {
    /// The object's own wrap.
    own: Vec<u8>,
    /// What is opened in its place: the ticket is to a recovery recipient.
    recovery: Option<Recovery>,
}

impl Asked {
    fn new(item: WrapItem, dataset: DatasetId) -> Self {
        // rule: RCP-2
        let own = Wrapped::parse(&item.wrapped).map(|wrapped| wrapped.header().dataset);
        let elsewhere = own.is_ok_and(|own| own != dataset);
        let mut recoveries = item.recoveries.into_iter();
        let recovery = recoveries.find(|one| elsewhere && one.dataset() == Some(dataset));
        Self {
            own: item.wrapped,
            recovery,
        }
    }

    fn wrapped(&self) -> &[u8] {
        self.recovery.as_ref().map_or(&self.own, |one| &one.wrapped)
    }
}

/// Opens a data key by the key that the recipient's key server gave. Nobody signs it.
fn recovered(
    recovery: &Recovery,
    own: &[u8],
    context: &Context,
    key: &Dek,
) -> Result<OpenedKey, KeyError> {
    // rule: RCP-2
    let wrapped = Wrapped::parse(own)?;
    let raw = raw_context(context);
    let dek = recovery.open(wrapped.header(), &raw, key)?;
    let context = object_context(&recovery.realm, wrapped.header(), &raw);
    Ok(OpenedKey {
        dek: Zeroizing::new(*dek.expose()),
        context: ObjectContext::new(context),
        signed_commitment: None,
    })
}

/// Wraps data keys to the recovery recipients of a dataset.
pub(crate) struct Recoverers(Vec<Recoverer>);

impl Recoverers {
    /// One encapsulation to each.
    ///
    /// # Errors
    /// A recipient's key cannot be used.
    pub(crate) fn begin(record: &DatasetRecord) -> Result<Self, KeyError> {
        let all = record.recipients.all().iter();
        let all = all.map(|one| Recoverer::begin(one, &mut UnwrapErr(SysRng)));
        Ok(Self(all.collect::<Result<_, _>>()?))
    }

    /// The recoveries of one data key.
    ///
    /// # Errors
    /// [`KeyError::Recovery`]: none could be made.
    pub(crate) fn wrap(
        &self,
        realm: &str,
        wrapped: &[u8],
        context: &Context,
        dek: &Dek,
    ) -> Result<Vec<Recovery>, KeyError> {
        // rule: RCP-1
        let wrapped = Wrapped::parse(wrapped)?;
        let (raw, rng) = (raw_context(context), &mut UnwrapErr(SysRng));
        let all = self.0.iter();
        all.map(|one| one.wrap(realm, wrapped.header(), &raw, dek.expose(), rng))
            .collect::<Option<_>>()
            .ok_or(KeyError::Recovery(NotOpened))
    }
}

impl KeySource for DatasetKeys {
    type Error = KeyError;

    async fn unwrap(&self, items: Vec<WrapItem>) -> Verdicts<OpenedKey, KeyError> {
        let contexts = contexts(items.iter().map(|item| item.context.clone()));
        let asked: Vec<(Asked, Result<Context, KeyError>)> = items
            .into_iter()
            .map(|item| Asked::new(item, self.opened.claims.dataset))
            .zip(contexts)
            .collect();
        let good: Vec<(&[u8], &Context)> = asked
            .iter()
            .filter_map(|(asked, context)| Some((asked.wrapped(), context.as_ref().ok()?)))
            .collect();
        let answers = if good.is_empty() {
            Vec::new()
        } else {
            self.redeem(&good).await?
        };
        let items = asked
            .into_iter()
            .map(|(asked, context)| context.map(|context| (asked, context)))
            .collect();
        Ok(spread(items, answers, |(asked, context), answer| {
            let released = answer?;
            let Asked { own, recovery } = asked;
            let wrapped = own;
            if let Some(recovery) = recovery {
                return recovered(&recovery, &wrapped, &context, &released.dek);
            }
            let realm = &self.opened.claims.common.realm;
            opened_key(realm, &wrapped, &context, released.dek.expose())
        }))
    }

    fn opens(&self, dataset: DatasetId) -> bool {
        self.opened.claims.dataset == dataset
    }

    async fn generate(&self, items: Vec<NewItem>) -> Verdicts<NewKey, KeyError> {
        let recoverers = Recoverers::begin(&self.opened.record)?;
        let contexts = contexts(items.into_iter().map(|item| item.context));
        let good: Vec<&Context> = contexts
            .iter()
            .filter_map(|context| context.as_ref().ok())
            .collect();
        let answers = if good.is_empty() {
            Vec::new()
        } else {
            self.make(&good, true, None).await?
        };
        Ok(spread(contexts, answers, |context, answer| {
            let generated = answer?;
            let missing = || Error::answer("key server", "a DEK that was asked for is missing");
            let dek = generated.dek.ok_or_else(missing)?;
            let kek_version = Wrapped::parse(&generated.wrapped)?.header().kek_version;
            let realm = &self.opened.claims.common.realm;
            let recoveries = recoverers.wrap(realm, &generated.wrapped, &context, &dek)?;
            let context = self.object_context(&generated.wrapped, &context)?;
            Ok(NewKey {
                dek: Zeroizing::new(*dek.expose()),
                wrapped: generated.wrapped,
                kek_version,
                context,
                recoveries,
            })
        }))
    }
}
