//! The agent's socket (`spec/agent.md`, section 3).

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use ticket_format::Context;
use ticket_format::report::{Report, exit};
use tokio::net::{UnixListener, UnixStream};
use zeroize::Zeroizing;

use super::caller::Caller;
use super::held::JobSpec;
use super::narrow::Narrow;
use super::rules::Rules;
use super::wire::{self, Answer, Request};
use crate::door::{Doorway, JobDataset, JobKeys, Named, Token};

/// What holds the jobs' keys.
pub trait Jobs: Send + Sync + 'static {
    /// The keys of one job.
    type Keys: JobKeys;

    /// What is held for a job; the same for the same job.
    fn job(&self, spec: JobSpec) -> Arc<Self::Keys>;

    /// What is held, as a JSON text without secrets: of all jobs, or of one job of one user.
    fn status(&self, of: Option<&JobSpec>) -> String;
}

/// What opens doors.
pub trait Doors: Send + Sync + 'static {
    /// A door that closes when it is dropped.
    type Door: Send;

    /// Opens a door for a user.
    ///
    /// # Errors
    /// It cannot stand there.
    fn open<K: JobKeys>(&self, doorway: Doorway, keys: Arc<K>, uid: u32) -> io::Result<Self::Door>;
}

/// Bounds (AGT-9).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections.
    pub all: usize,
    /// Connections of one user.
    pub of_user: usize,
    /// Longest time for one message, from its first byte on.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            all: 1_024,
            of_user: 128,
            silence: Duration::from_secs(15),
        }
    }
}

/// No user has this number. Whom no table serves, and of whom nothing is known, count together under it.
const NOBODY: u32 = u32::MAX;

/// How long it takes at most to see whether an agent listens.
const GLANCE: Duration = Duration::from_secs(2);

/// A socket that listens; its file goes when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // One that cannot be removed is taken for what it is at the next start: nobody listens.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Socket {
    /// Listens. A socket on which nobody listens is replaced; every user may connect, and is told by the
    /// rules what there is.
    ///
    /// # Errors
    /// Somebody listens there already, or the place cannot be used.
    pub async fn bind(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::other("something else than a socket is there"));
            }
            Ok(_) => {
                let connected = tokio::time::timeout(GLANCE, UnixStream::connect(path)).await;
                match connected {
                    Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        std::fs::remove_file(path)?;
                    }
                    _ => return Err(io::ErrorKind::AddrInUse.into()),
                }
            }
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        let path = path.to_owned();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        Ok(Self { listener, path })
    }
}

/// Serves callers.
#[derive(Debug)]
pub struct Server<J, D> {
    rules: Rules,
    jobs: J,
    doors: D,
    limits: Limits,
    open: Mutex<HashMap<u32, usize>>,
}

/// A connection that counts.
struct Counted<J: Jobs, D: Doors> {
    server: Arc<Server<J, D>>,
    uid: u32,
}

impl<J: Jobs, D: Doors> Drop for Counted<J, D> {
    fn drop(&mut self) {
        let open = self.server.open.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.uid);
            }
        }
    }
}

fn failed(code: u8, what: &str, next: &str) -> Answer {
    Answer::Failed(Report::new(code, what).next(next))
}

impl<J: Jobs, D: Doors> Server<J, D> {
    /// With these rules.
    pub fn new(rules: Rules, jobs: J, doors: D, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            rules,
            jobs,
            doors,
            limits,
            open: Mutex::default(),
        })
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// The socket cannot be listened on any more.
    pub async fn serve(self: Arc<Self>, socket: &Socket) -> io::Result<()> {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let (stream, _) = match socket.listener.accept().await {
                Ok(accepted) => accepted,
                // Want of descriptors passes; a moment's pause, or this would be a busy loop.
                Err(error) => {
                    tracing::warn!(%error, "no connection was taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let server = Arc::clone(&self);
            // rule: AGT-1
            // At once: the sooner, the less can have become of the process.
            let caller = Caller::of(&stream);
            // rule: AGT-9
            let served = caller.as_ref().ok().filter(|caller| server.serves(caller));
            let uid = served.map_or(NOBODY, |caller| caller.uid);
            let Some(counted) = server.count(uid) else {
                tracing::warn!(uid, "a connection too many was closed");
                continue;
            };
            connections.spawn(async move {
                let mut stream = stream;
                let answer = match caller {
                    Ok(caller) => return counted.server.connection(stream, &caller).await,
                    Err(error) => Report::new(exit::REFUSED, "the agent refused").why(error),
                };
                let answer = Answer::Failed(answer.next("connect again"));
                let _ = wire::write(&mut stream, &answer, counted.server.limits.silence).await;
            });
        }
    }

    /// Whether a caller may ask anything.
    fn serves(&self, caller: &Caller) -> bool {
        let me = rustix::process::geteuid().as_raw();
        caller.uid == 0 || caller.uid == me || self.rules.job(caller).is_some()
    }

    fn count(self: &Arc<Self>, uid: u32) -> Option<Counted<J, D>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // rule: AGT-9
        let all: usize = open.values().sum();
        let of_user = open.get(&uid).copied().unwrap_or_default();
        if all >= self.limits.all || of_user >= self.limits.of_user {
            return None;
        }
        *open.entry(uid).or_default() += 1;
        let server = Arc::clone(self);
        Some(Counted { server, uid })
    }

    async fn connection(&self, mut stream: UnixStream, caller: &Caller) {
        let silence = self.limits.silence;
        let spec = self.rules.job(caller);
        let served = self.serves(caller);
        // They stand until this connection ends.
        let mut doors = Vec::new();
        loop {
            // rule: AGT-9
            let read = wire::receive(&mut stream, silence);
            let message = match served {
                true => read.await,
                // Who is served nothing asks once, and soon: its place is wanted.
                false => match tokio::time::timeout(silence, read).await {
                    Ok(message) => message,
                    Err(_) => return,
                },
            };
            let (message, descriptor) = match message {
                Ok(Some(received)) => received,
                Ok(None) => return,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Default::default(),
                Err(error) => {
                    tracing::info!(%error, uid = caller.uid, "a connection ended in a message");
                    return;
                }
            };
            // rule: AGT-9
            let Ok(request) = wire::parse::<Request>(&message) else {
                let answer = failed(
                    exit::USAGE,
                    "the agent was not asked anything it knows",
                    "use a client of the agent's version",
                );
                let _ = wire::write(&mut stream, &answer, silence).await;
                return;
            };
            let answer = self
                .answer(request, descriptor, caller, spec.as_ref(), &mut doors)
                .await;
            if let Err(error) = wire::write(&mut stream, &answer, silence).await {
                tracing::info!(%error, uid = caller.uid, "an answer was not taken");
                return;
            }
            if !served {
                return;
            }
        }
    }

    async fn answer(
        &self,
        request: Request,
        descriptor: Option<OwnedFd>,
        caller: &Caller,
        spec: Option<&JobSpec>,
        doors: &mut Vec<D::Door>,
    ) -> Answer {
        let me = rustix::process::geteuid().as_raw();
        if request == Request::Status && (caller.uid == 0 || caller.uid == me) {
            return Answer::Status(self.jobs.status(None));
        }
        // rule: AGT-2
        let Some(spec) = spec else {
            tracing::warn!(uid = caller.uid, unit = caller.unit, "a caller was refused");
            return failed(
                exit::REFUSED,
                "the agent serves this user and unit nothing",
                "ask the node's administrator for a table in the agent's rules",
            );
        };
        let served = match request {
            Request::Status => Ok(Answer::Status(self.jobs.status(Some(spec)))),
            Request::Open { datasets, token } => match descriptor {
                Some(socket) => self.door(datasets, socket, token, spec, doors),
                None => Err(no_door("its socket did not come with the request")),
            },
            Request::Redeem { dataset, items } => self.redeem(spec, &dataset, items).await,
            Request::Generate {
                dataset,
                context,
                with_dek,
                pair,
            } => match self.dataset(spec, &dataset).await {
                Ok((keys, dataset)) => {
                    match keys.generate(dataset.id, &context, with_dek, pair).await {
                        Ok(made) => Ok(Answer::Key {
                            wrapped: made.wrapped,
                            dek: made.dek.map(|dek| Zeroizing::new(*dek.expose())),
                            public: made.public,
                        }),
                        Err(error) => Err(error.report()),
                    }
                }
                Err(report) => Err(report),
            },
            Request::Dataset(name) => {
                let found = self.dataset(spec, &name).await;
                found.map(|(_, dataset)| Answer::Dataset {
                    id: dataset.id,
                    realm: dataset.realm,
                    recipients: dataset.recipients,
                })
            }
        };
        served.unwrap_or_else(Answer::Failed)
    }

    /// All at once, so that they travel together (AGT-8).
    async fn redeem(
        &self,
        spec: &JobSpec,
        name: &str,
        items: Vec<(Context, Vec<u8>)>,
    ) -> Result<Answer, Report> {
        let (keys, dataset) = self.dataset(spec, name).await?;
        let opened = items.iter().map(async |(context, wrapped)| {
            match keys.open(dataset.id, wrapped, context).await {
                Ok(dek) => Ok(Ok(Zeroizing::new(*dek.expose()))),
                // rule: AGT-11
                Err(error) => error.of_item().map(Err).ok_or_else(|| error.report()),
            }
        });
        let opened = join_all(opened).await.into_iter();
        Ok(Answer::Opened(opened.collect::<Result<_, Report>>()?))
    }

    fn door(
        &self,
        names: Vec<String>,
        socket: OwnedFd,
        token: Token,
        spec: &JobSpec,
        doors: &mut Vec<D::Door>,
    ) -> Result<Answer, Report> {
        for name in &names {
            check(spec, name)?;
        }
        // rule: AGT-10
        let keys = Arc::new(Narrow::new(self.jobs.job(spec.clone()), names));
        let opened = Doorway::handed(socket, token)
            .and_then(|doorway| self.doors.open(doorway, keys, spec.uid));
        let door = opened.map_err(no_door)?;
        // One at a time: the one before closes.
        doors.clear();
        doors.push(door);
        Ok(Answer::Open)
    }

    /// A dataset of the job's table, by name.
    async fn dataset(
        &self,
        spec: &JobSpec,
        name: &str,
    ) -> Result<(Arc<J::Keys>, JobDataset), Report> {
        check(spec, name)?;
        let keys = self.jobs.job(spec.clone());
        let found = keys.dataset(&Named::Name(name.to_owned())).await;
        let found = found.map_err(|error| error.report())?;
        let missing = || {
            Report::new(
                exit::RETRY,
                format!("no ticket to dataset {name} could be had"),
            )
            .next("see the agent's log; it is safe to retry")
        };
        Ok((keys, found.ok_or_else(missing)?))
    }
}

fn no_door(why: impl std::fmt::Display) -> Report {
    Report::new(exit::LOCAL, "no door could be opened").why(why)
}

/// The name is one of the job's table; else the same is said of what exists and of what does not.
fn check(spec: &JobSpec, name: &str) -> Result<(), Report> {
    // rule: AGT-3
    if spec.datasets.iter().any(|known| known == name) {
        return Ok(());
    }
    let what = format!("dataset {name} is not one of job {}", spec.name);
    Err(Report::new(exit::REFUSED, what)
        .next("ask the node's administrator to add it to the job's table"))
}
