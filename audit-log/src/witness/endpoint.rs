//! One witness, as a log sees it: where it is, its keys, and what it answers. The answer is hostile
//! input: bounded, read strictly, and believed only where a configured key signed.

use std::time::Duration;

use reqwest::{Client, Response, redirect};
use ticket_format::tlog::{Checkpoint, LogKey, ShardName, SignedCheckpoint, Vkey, VkeyKind, note};
use url::Url;

use super::hub::Lines;
use super::judge::digest;
use super::request::decimal;

/// For a request to a witness as a whole.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer of a witness, in bytes.
pub(crate) const MAX_ANSWER: usize = 64 * 1024;
/// Shorter than a witness keeps a silent connection, so that none is used in the moment it ends.
const IDLE: Duration = Duration::from_secs(5);

/// A witness to which a log submits its checkpoints.
#[derive(Clone, Debug)]
pub struct Endpoint {
    url: Url,
    keys: Vec<Vkey>,
}

/// Why something cannot be a witness's configuration.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address.
    #[error(
        "{url} is not a witness's address: {reason}; give its submission prefix, such as https://witness.example/postern"
    )]
    Url {
        /// As given.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A key.
    #[error(
        "a key of the witness at {url} is no vkey of a cosignature: {reason}; `postern-witness vkeys` prints them"
    )]
    Key {
        /// The witness.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// No key, or keys of several names.
    #[error("the witness at {url} needs one or two keys, of one name")]
    Keys {
        /// The witness.
        url: String,
    },
    /// Two witnesses share a name.
    #[error("two witnesses are called {name}; their cosignatures could not be told apart")]
    Twice {
        /// The name.
        name: String,
    },
    /// More than [`ticket_format::limits::WITNESSES`].
    #[error(
        "{found} witnesses are configured; a log has at most {}",
        ticket_format::limits::WITNESSES
    )]
    TooMany {
        /// How many.
        found: usize,
    },
    /// No HTTP client could be made.
    #[error("no HTTP client can be made: {0}")]
    Client(String),
}

impl Endpoint {
    /// A witness at a submission prefix, with the vkeys (one or both kinds) that its cosignatures are
    /// verified by.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn new(url: &str, keys: &[impl AsRef<str>]) -> Result<Self, EndpointError> {
        let wrong = |reason: &str| EndpointError::Url {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        let mut base = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(wrong("it is neither http nor https"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(wrong("it has a query or a fragment"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(wrong("it has a user name or a password"));
        }
        // Joining appends only behind a slash.
        let path = format!("{}/", base.path().trim_end_matches('/'));
        base.set_path(&path);
        let mut vkeys: Vec<Vkey> = Vec::new();
        for key in keys {
            let wrong = |reason: String| EndpointError::Key {
                url: url.to_owned(),
                reason,
            };
            let key: Vkey = key
                .as_ref()
                .parse()
                .map_err(|error| wrong(format!("{error}")))?;
            if key.kind() == VkeyKind::Ed25519 {
                return Err(wrong("it signs notes, not cosignatures".to_owned()));
            }
            vkeys.push(key);
        }
        let one_name = vkeys.iter().all(|key| key.name() == vkeys[0].name());
        let kinds = vkeys.len() < 2 || vkeys[0].kind() != vkeys[1].kind();
        if !(1..=2).contains(&vkeys.len()) || !one_name || !kinds {
            return Err(EndpointError::Keys {
                url: url.to_owned(),
            });
        }
        Ok(Self {
            url: base,
            keys: vkeys,
        })
    }

    /// The witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.keys.first().map_or("", Vkey::name)
    }

    /// Its submission prefix.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The keys that its cosignatures are verified by.
    #[must_use]
    pub fn keys(&self) -> &[Vkey] {
        &self.keys
    }

    /// That a set of witnesses can serve one log.
    pub(crate) fn check(witnesses: &[Self]) -> Result<(), EndpointError> {
        if witnesses.len() > ticket_format::limits::WITNESSES {
            return Err(EndpointError::TooMany {
                found: witnesses.len(),
            });
        }
        for (at, witness) in witnesses.iter().enumerate() {
            if witnesses[..at]
                .iter()
                .any(|other| other.name() == witness.name())
            {
                return Err(EndpointError::Twice {
                    name: witness.name().to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// What a witness answered to a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// 200: lines that a configured key signed over this checkpoint, at least one.
    Cosigned(Lines),
    /// 409: the size that it cosigned last, as it says, if it says one.
    Conflict(Option<u64>),
    /// 422.
    Inconsistent,
    /// Another status, or an answer that does not hold.
    Refused { status: u16, why: String },
    /// None.
    Unreachable(String),
}

/// An HTTP client for one witness.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    http: Client,
    witness: Endpoint,
}

impl Caller {
    pub(crate) fn new(witness: Endpoint) -> Result<Self, EndpointError> {
        let mut http = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(2)
            .http1_only()
            .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")));
        if witness.url.scheme() == "http" {
            // No TLS is spoken here: do not ask a bare machine for root certificates.
            http = http.tls_certs_only([]);
        }
        let http = http
            .build()
            .map_err(|error| EndpointError::Client(deepest(&error)))?;
        Ok(Self { http, witness })
    }

    /// Submits a checkpoint: `body` is the request, `checkpoint` what it asks cosignatures for.
    pub(crate) async fn add(&self, body: String, checkpoint: &Checkpoint) -> Reply {
        let Ok(url) = self.witness.url.join("add-checkpoint") else {
            return Reply::Unreachable("its address takes no path".to_owned());
        };
        let kind = "text/plain; charset=utf-8";
        let sent = self.http.post(url).header("content-type", kind).body(body);
        let answer = match sent.send().await {
            Ok(answer) => answer,
            Err(error) => return Reply::Unreachable(deepest(&error)),
        };
        let status = answer.status().as_u16();
        let refused = |why: &str| Reply::Refused {
            status,
            why: why.to_owned(),
        };
        let kind = answer.headers().get("content-type");
        let names_size = kind.is_some_and(|kind| kind.as_bytes() == b"text/x.tlog.size");
        let text = match bounded(answer).await {
            Ok(text) => text,
            Err(Broken::Off(why)) => return Reply::Unreachable(why),
            Err(Broken::Answer(why)) => return refused(why),
        };
        match status {
            200 => match cosignatures(&text, self.witness.keys(), checkpoint) {
                Ok(lines) => Reply::Cosigned(lines),
                Err(why) => refused(why),
            },
            409 => {
                let size = text.strip_suffix('\n').and_then(decimal);
                Reply::Conflict(size.filter(|_| names_size))
            }
            422 => Reply::Inconsistent,
            _ => refused("it does not take the checkpoint"),
        }
    }

    /// The checkpoint that the witness cosigned last of the log's newest shard that it knows, or else of
    /// this one, if it shows it and `key` signed it. Nobody but the log can make one, so it
    /// proves what a bare size only claims.
    pub(crate) async fn shown(&self, key: &LogKey, shard: &ShardName) -> Option<SignedCheckpoint> {
        let newest = self.show(key, key.origin.as_str()).await;
        match newest.filter(|newest| newest.checkpoint().shard.number > shard.number) {
            Some(newest) => Some(newest),
            None => {
                let shown = self.show(key, &shard.to_string()).await;
                shown.filter(|shown| shown.checkpoint().shard == *shard)
            }
        }
    }

    /// The checkpoint that the witness shows for an origin, if `key` signed it.
    pub(crate) async fn show(&self, key: &LogKey, origin: &str) -> Option<SignedCheckpoint> {
        let path = format!("checkpoint/{}", digest(origin));
        let url = self.witness.url.join(&path).ok()?;
        let answer = self.http.get(url).send().await.ok()?;
        if answer.status().as_u16() != 200 {
            return None;
        }
        let note = bounded(answer).await.ok()?;
        key.verify(&note).ok()
    }
}

enum Broken {
    /// The connection.
    Off(String),
    /// What came.
    Answer(&'static str),
}

/// Reads an answer piece by piece and stops as soon as it is over its bound.
async fn bounded(mut answer: Response) -> Result<String, Broken> {
    let mut bytes = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(piece)) if bytes.len() + piece.len() <= MAX_ANSWER => {
                bytes.extend_from_slice(&piece);
            }
            Ok(Some(_)) => return Err(Broken::Answer("its answer is too long")),
            Ok(None) => break,
            Err(error) => return Err(Broken::Off(deepest(&error))),
        }
    }
    String::from_utf8(bytes).map_err(|_| Broken::Answer("its answer is not text"))
}

/// What lies at the bottom of an error.
fn deepest(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let mut reason: &dyn std::error::Error = error;
    while let Some(cause) = reason.source() {
        reason = cause;
    }
    reason.to_string()
}

/// The lines of an answer that the configured keys signed, one for each key. Lines of other keys are passed
/// over; a line that names a configured key and does not verify spoils the answer.
// rule: TLOG-8
pub(crate) fn cosignatures(
    text: &str,
    keys: &[Vkey],
    checkpoint: &Checkpoint,
) -> Result<Lines, &'static str> {
    let lines = note::signature_lines(text)
        .map_err(|_| "its answer holds a line that is no signature, or too many")?;
    let mut found = Lines::new();
    for key in keys {
        let mut of_key = None;
        for line in lines.iter().filter(|line| line.is_of(key)) {
            if key.verify(checkpoint, &line.signature).is_err() {
                return Err("a signature by one of its keys does not verify");
            }
            of_key = Some(line.line.to_owned());
        }
        found.extend(of_key.map(|line| (key.to_string(), line)));
    }
    if found.is_empty() {
        return Err("its answer holds no signature by the configured keys");
    }
    Ok(found)
}
