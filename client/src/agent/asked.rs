//! Data keys by the node's agent, for who has no ticket of its own (`spec/agent.md`, AGT-11).

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use ticket_format::ids::DatasetId;
use ticket_format::key_pair::KeyPairKind;
use ticket_format::report::{Report, exit};
use ticket_format::wrapped::Wrapped;
use ticket_format::{Context, Refusal};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::wire::{self, Answer, ITEMS, Request, Verdict};
use crate::door::Doorway;
use crate::keys::{KeyError, context_of, contexts, opened_key, refused, spread};
use crate::object::keys::{KeySource, NewItem, NewKey, OpenedKey, Verdicts, WrapItem};

/// How long the agent may take for its answer: tickets may have to be issued first.
pub const WAIT: Duration = Duration::from_secs(60);
/// Most bytes of wraps and contexts in one request.
const BYTES: usize = wire::MESSAGE / 2;

/// Connects to an agent.
///
/// # Errors
/// None listens there.
pub async fn connect(path: &Path) -> Result<UnixStream, Report> {
    let none = |error| {
        let what = format!("no agent listens at {}", path.display());
        Report::new(exit::RETRY, what)
            .why(error)
            .next("have `postern agent` started on this node, or say its socket by --agent PATH")
    };
    UnixStream::connect(path).await.map_err(none)
}

fn no_answer(why: impl std::fmt::Display) -> Report {
    Report::new(exit::RETRY, "the agent gave no answer")
        .why(why)
        .next("look into the agent's log; it is safe to retry")
}

/// That the answer is to another question.
#[must_use]
pub fn other() -> Report {
    no_answer("the answer is to another question")
}

/// Asks an agent, and waits so long for its answer.
///
/// # Errors
/// It did not answer, or what it said is no answer.
pub async fn ask(
    stream: &mut UnixStream,
    request: &Request,
    wait: Duration,
) -> Result<Answer, Report> {
    let written = wire::write(stream, request, wait).await;
    answer(stream, written, wait).await
}

/// Asks an agent for a door to these datasets, and waits so long for its answer. It stands until the connection ends.
///
/// # Errors
/// It did not answer, or refused.
pub async fn open(
    stream: &mut UnixStream,
    doorway: &Doorway,
    datasets: &[String],
    wait: Duration,
) -> Result<(), Report> {
    let request = Request::Open {
        datasets: datasets.to_vec(),
        token: doorway.token().clone(),
    };
    // rule: AGT-10
    let written = wire::hand(stream, &request, doorway.as_fd(), wait).await;
    match answer(stream, written, wait).await? {
        Answer::Open => Ok(()),
        Answer::Failed(report) => Err(report),
        _ => Err(other()),
    }
}

/// The answer to what was written, or was to be.
async fn answer(
    stream: &mut UnixStream,
    written: io::Result<()>,
    wait: Duration,
) -> Result<Answer, Report> {
    let exchange = async {
        // The agent may have refused before it was asked, and closed; its answer is there all the same.
        let read = wire::read(stream, wait).await.map_err(no_answer)?;
        match (read, written) {
            (Some(message), _) => wire::parse(&message).map_err(no_answer),
            (None, Err(error)) => Err(no_answer(error)),
            (None, Ok(())) => Err(no_answer("it closed the connection")),
        }
    };
    let answered = tokio::time::timeout(wait, exchange).await;
    answered.map_err(|_| no_answer("it took too long"))?
}

/// A new data key.
#[derive(Debug)]
pub struct Made {
    /// Its wrap.
    pub wrapped: Vec<u8>,
    /// The DEK, where it was asked for.
    pub dek: Option<Zeroizing<[u8; 32]>>,
    /// Of a key pair, the public key.
    pub public: Option<Vec<u8>>,
}

/// The data keys of one dataset, by the agent.
#[derive(Debug)]
pub struct AgentKeys {
    /// None once an answer did not come: it could still come, as the next one's.
    stream: Mutex<Option<UnixStream>>,
    wait: Duration,
    name: String,
    id: DatasetId,
    realm: String,
    recipients: bool,
}

impl AgentKeys {
    /// Those of a name in the job's table.
    ///
    /// # Errors
    /// The agent does not listen, or does not serve this job with it.
    pub async fn of(path: &Path, name: &str, wait: Duration) -> Result<Self, Report> {
        let mut stream = connect(path).await?;
        let request = Request::Dataset(name.to_owned());
        match ask(&mut stream, &request, wait).await? {
            Answer::Dataset {
                id,
                realm,
                recipients,
            } => Ok(Self {
                stream: Mutex::new(Some(stream)),
                wait,
                name: name.to_owned(),
                id,
                realm,
                recipients,
            }),
            Answer::Failed(report) => Err(report),
            _ => Err(other()),
        }
    }

    async fn asked(&self, request: &Request) -> Result<Answer, KeyError> {
        let mut kept = self.stream.lock().await;
        let failed = |report| KeyError::Agent(Box::new(report));
        let gone = || failed(no_answer("it gave none to the request before"));
        let mut stream = kept.take().ok_or_else(gone)?;
        let answer = ask(&mut stream, request, self.wait).await.map_err(failed)?;
        *kept = Some(stream);
        match answer {
            Answer::Failed(report) => Err(failed(report)),
            answer => Ok(answer),
        }
    }

    /// Opens wraps; one verdict each, in their order.
    ///
    /// # Errors
    /// The agent as a whole refused, or did not answer.
    pub async fn redeem(
        &self,
        mut items: &[(Context, Vec<u8>)],
    ) -> Result<Vec<Result<Zeroizing<[u8; 32]>, KeyError>>, KeyError> {
        let mut opened = Vec::with_capacity(items.len());
        while !items.is_empty() {
            let (some, rest) = items.split_at(fitting(items));
            items = rest;
            let request = Request::Redeem {
                dataset: self.name.clone(),
                items: some.to_vec(),
            };
            let Answer::Opened(verdicts) = self.asked(&request).await? else {
                return Err(KeyError::Agent(Box::new(other())));
            };
            if verdicts.len() != some.len() {
                return Err(KeyError::Agent(Box::new(other())));
            }
            let verdict = |((_, wrapped), verdict): (&(Context, Vec<u8>), Verdict)| {
                verdict.map_err(|refusal| refused(wrapped, refusal))
            };
            opened.extend(some.iter().zip(verdicts).map(verdict));
        }
        Ok(opened)
    }

    /// Has one data key made, or a key pair of a kind, which the context names.
    ///
    /// # Errors
    /// It was refused, or the agent did not answer.
    pub async fn make(
        &self,
        context: &Context,
        with_dek: bool,
        pair: Option<KeyPairKind>,
    ) -> Result<Made, KeyError> {
        let request = Request::Generate {
            dataset: self.name.clone(),
            context: context.clone(),
            with_dek,
            pair,
        };
        match self.asked(&request).await? {
            Answer::Key {
                wrapped,
                dek,
                public,
            } if dek.is_some() == with_dek && public.is_some() == pair.is_some() => Ok(Made {
                wrapped,
                dek,
                public,
            }),
            _ => Err(KeyError::Agent(Box::new(other()))),
        }
    }
}

/// How many of the first of them fit one request; at least one.
fn fitting(items: &[(Context, Vec<u8>)]) -> usize {
    let mut bytes = 0;
    let fit = items.iter().take(ITEMS).take_while(|(context, wrapped)| {
        let pairs = context.pairs().iter();
        let pairs: usize = pairs.map(|(key, value)| key.len() + value.len() + 8).sum();
        bytes += pairs + wrapped.len() + 16;
        bytes <= BYTES
    });
    fit.count().max(1)
}

impl KeySource for AgentKeys {
    type Error = KeyError;

    fn opens(&self, dataset: DatasetId) -> bool {
        self.id == dataset
    }

    async fn unwrap(&self, items: Vec<WrapItem>) -> Verdicts<OpenedKey, KeyError> {
        let contexts = contexts(items.iter().map(|item| item.context.clone()));
        let items = items.into_iter().zip(contexts).map(|(item, context)| {
            // rule: AGT-11
            match Wrapped::parse(&item.wrapped)?.header().dataset {
                dataset if dataset == self.id => Ok((context?, item.wrapped)),
                _ => Err(KeyError::Refused(Refusal::WrapDataset)),
            }
        });
        let items: Vec<Result<(Context, Vec<u8>), KeyError>> = items.collect();
        let good: Vec<(Context, Vec<u8>)> = items.iter().flatten().cloned().collect();
        let answers = self.redeem(&good).await?;
        Ok(spread(items, answers, |(context, wrapped), dek| {
            opened_key(&self.realm, &wrapped, &context, &*dek?)
        }))
    }

    async fn generate(&self, items: Vec<NewItem>) -> Verdicts<NewKey, KeyError> {
        // rule: AGT-11
        if self.recipients {
            let what = format!("dataset {} has recovery recipients", self.name);
            let report = Report::new(exit::REFUSED, what)
                .why("the agent makes no data keys for them")
                .next("ask for a ticket of this user's own: `postern login` and `postern issue`");
            return Err(KeyError::Agent(Box::new(report)));
        }
        let mut made = Vec::with_capacity(items.len());
        for context in contexts(items.into_iter().map(|item| item.context)) {
            made.push(match context {
                Ok(context) => self.new_key(&context).await,
                Err(error) => Err(error),
            });
        }
        Ok(made)
    }
}

impl AgentKeys {
    async fn new_key(&self, context: &Context) -> Result<NewKey, KeyError> {
        let made = self.make(context, true, None).await?;
        let dek = made.dek.ok_or_else(|| KeyError::Agent(Box::new(other())))?;
        let header = *Wrapped::parse(&made.wrapped)?.header();
        if header.dataset != self.id {
            return Err(KeyError::Refused(Refusal::WrapDataset));
        }
        Ok(NewKey {
            dek,
            kek_version: header.kek_version,
            context: context_of(&self.realm, &made.wrapped, context)?,
            wrapped: made.wrapped,
            recoveries: Vec::new(),
        })
    }
}
