//! What is said on the agent's socket: `spec/agent.cddl`.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::DatasetId;
use ticket_format::key_pair::KeyPairKind;
use ticket_format::report::Report;
use ticket_format::{Context, Refusal, limits};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::descriptor;
use crate::door::Token;

/// Longest message, in bytes (AGT-9).
pub const MESSAGE: usize = 256 * 1024;
/// Most datasets of one `open`.
const DATASETS: usize = 256;
/// Most wraps of one `redeem`.
pub const ITEMS: usize = 100;

/// What a caller asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A door at the socket that comes with the message.
    Open {
        /// To which datasets, by the names of the table.
        datasets: Vec<String>,
        /// What its path begins with.
        token: Token,
    },
    /// The DEKs of wraps.
    Redeem {
        /// By the name of the table.
        dataset: String,
        /// Each wrap, behind its context.
        items: Vec<(Context, Vec<u8>)>,
    },
    /// A new wrap.
    Generate {
        /// By the name of the table.
        dataset: String,
        /// Its context.
        context: Context,
        /// Whether the DEK comes with it.
        with_dek: bool,
        /// Of a key pair, its kind.
        pair: Option<KeyPairKind>,
    },
    /// What is held.
    Status,
    /// What a name of the table names.
    Dataset(String),
}

impl Encode for Request {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Open { datasets, token } => {
                writer.map(3).uint(1).uint(1).uint(2).array(datasets.len());
                for dataset in datasets {
                    writer.text(dataset);
                }
                writer.uint(3).bytes(token.expose());
            }
            Self::Redeem { dataset, items } => {
                writer.map(3).uint(1).uint(2).uint(2).text(dataset);
                writer.uint(3).array(items.len());
                for (context, wrapped) in items {
                    context.encode(writer.array(2));
                    writer.bytes(wrapped);
                }
            }
            Self::Generate {
                dataset,
                context,
                with_dek,
                pair,
            } => {
                let members = 4 + usize::from(pair.is_some());
                writer.map(members).uint(1).uint(3).uint(2).text(dataset);
                context.encode(writer.uint(3));
                writer.uint(4).bool(*with_dek);
                if let Some(pair) = pair {
                    pair.encode(writer.uint(5));
                }
            }
            Self::Status => {
                writer.map(1).uint(1).uint(4);
            }
            Self::Dataset(name) => {
                writer.map(2).uint(1).uint(5).uint(2).text(name);
            }
        }
    }
}

impl Decode for Request {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = |reader: &mut Reader<'_>| reader.text(1..=limits::NAME).map(str::to_owned);
        let mut map = reader.map(5)?;
        let request = match map.required(1, Reader::uint)? {
            1 => Self::Open {
                datasets: map.required(2, |reader| reader.list(1..=DATASETS, name))?,
                token: Token::from_bytes(map.required(3, Reader::array_of)?),
            },
            2 => Self::Redeem {
                dataset: map.required(2, name)?,
                items: map.required(3, |reader| reader.list(1..=ITEMS, item))?,
            },
            3 => Self::Generate {
                dataset: map.required(2, name)?,
                context: map.required(3, Context::decode)?,
                with_dek: map.required(4, Reader::bool)?,
                pair: map.optional(5, KeyPairKind::decode)?,
            },
            4 => Self::Status,
            5 => Self::Dataset(map.required(2, name)?),
            _ => return Err(DecodeError::OutOfRange("request")),
        };
        map.end()?;
        Ok(request)
    }
}

fn item(reader: &mut Reader<'_>) -> Result<(Context, Vec<u8>), DecodeError> {
    reader.array(2..=2)?;
    let context = Context::decode(reader)?;
    Ok((context, reader.bytes(1..=limits::WRAPPED)?.to_vec()))
}

/// A DEK, or why there is none.
pub type Verdict = Result<Zeroizing<[u8; 32]>, Refusal>;

/// What the agent answers.
pub enum Answer {
    /// No: as a command shows it.
    Failed(Report),
    /// The door is open until the connection ends.
    Open,
    /// A new data key, as far as asked for.
    Key {
        /// Its wrap.
        wrapped: Vec<u8>,
        /// The DEK.
        dek: Option<Zeroizing<[u8; 32]>>,
        /// Of a key pair, the public key.
        public: Option<Vec<u8>>,
    },
    /// What is held, as a JSON text.
    Status(String),
    /// What a name names.
    Dataset {
        /// The dataset.
        id: DatasetId,
        /// Its realm.
        realm: String,
        /// Whether its data keys are made for recovery recipients too.
        recipients: bool,
    },
    /// One verdict on each wrap, in their order.
    Opened(Vec<Verdict>),
}

/// Without what is secret.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(report) => f.debug_tuple("Failed").field(report).finish(),
            Self::Open => f.write_str("Open"),
            Self::Key { public, .. } => {
                let mut key = f.debug_struct("Key");
                key.field("public", public).finish_non_exhaustive()
            }
            Self::Status(text) => f.debug_tuple("Status").field(text).finish(),
            Self::Dataset { id, realm, .. } => {
                let mut dataset = f.debug_struct("Dataset");
                dataset.field("id", id).field("realm", realm);
                dataset.finish_non_exhaustive()
            }
            Self::Opened(verdicts) => write!(f, "Opened({} verdicts)", verdicts.len()),
        }
    }
}

impl Encode for Answer {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Failed(report) => {
                let more = [(4, &report.why), (5, &report.next)];
                let more = more
                    .into_iter()
                    .filter_map(|(n, text)| Some((n, text.as_ref()?)));
                writer.map(3 + more.clone().count()).uint(1).uint(0);
                writer.uint(2).uint(u64::from(report.exit));
                writer.uint(3).text(&report.what);
                for (member, text) in more {
                    writer.uint(member).text(text);
                }
            }
            Self::Open => {
                writer.map(1).uint(1).uint(1);
            }
            Self::Key {
                wrapped,
                dek,
                public,
            } => {
                let dek = dek.as_ref().map(|dek| &dek[..]);
                let all = [(2, Some(&wrapped[..])), (3, dek), (4, public.as_deref())];
                let all = all.into_iter().filter_map(|(n, bytes)| Some((n, bytes?)));
                writer.map(1 + all.clone().count()).uint(1).uint(2);
                for (member, bytes) in all {
                    writer.uint(member).bytes(bytes);
                }
            }
            Self::Status(text) => {
                writer.map(2).uint(1).uint(3).uint(2).text(text);
            }
            Self::Dataset {
                id,
                realm,
                recipients,
            } => {
                writer.map(4).uint(1).uint(4).uint(2).bytes(&id.0);
                writer.uint(3).text(realm).uint(4).bool(*recipients);
            }
            Self::Opened(verdicts) => {
                writer.map(2).uint(1).uint(5).uint(2).array(verdicts.len());
                for verdict in verdicts {
                    match verdict {
                        Ok(dek) => writer.map(1).uint(1).bytes(&dek[..]),
                        Err(refusal) => {
                            let number = u64::from(refusal.number());
                            writer.map(1).uint(2).uint(number)
                        }
                    };
                }
            }
        }
    }
}

impl Decode for Answer {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let text = |reader: &mut Reader<'_>| reader.text(..=MESSAGE).map(str::to_owned);
        let bytes = |reader: &mut Reader<'_>| reader.bytes(..=MESSAGE).map(<[u8]>::to_vec);
        let mut map = reader.map(5)?;
        let answer = match map.required(1, Reader::uint)? {
            0 => {
                let code = map.required(2, Reader::uint)?;
                let code = u8::try_from(code).map_err(|_| DecodeError::OutOfRange("exit code"))?;
                let mut report = Report::new(code, map.required(3, text)?);
                report.why = map.optional(4, text)?;
                report.next = map.optional(5, text)?;
                Self::Failed(report)
            }
            1 => Self::Open,
            2 => Self::Key {
                wrapped: map.required(2, bytes)?,
                dek: map.optional(3, Reader::array_of)?.map(Zeroizing::new),
                public: map.optional(4, bytes)?,
            },
            3 => Self::Status(map.required(2, text)?),
            4 => Self::Dataset {
                id: DatasetId(map.required(2, Reader::array_of)?),
                realm: map
                    .required(3, |reader| reader.text(1..=limits::NAME).map(str::to_owned))?,
                recipients: map.required(4, Reader::bool)?,
            },
            5 => Self::Opened(map.required(2, |reader| reader.list(1..=ITEMS, verdict))?),
            _ => return Err(DecodeError::OutOfRange("answer")),
        };
        map.end()?;
        Ok(answer)
    }
}

fn verdict(reader: &mut Reader<'_>) -> Result<Verdict, DecodeError> {
    let mut map = reader.map(1)?;
    let dek = map.optional(1, Reader::array_of)?.map(Zeroizing::new);
    let refusal = map.optional(2, Reader::uint)?;
    map.end()?;
    match (dek, refusal) {
        (Some(dek), _) => Ok(Ok(dek)),
        (None, Some(number)) => {
            let refusal = Refusal::from_number(number);
            refusal.map(Err).ok_or(DecodeError::OutOfRange("refusal"))
        }
        (None, None) => Err(DecodeError::OutOfRange("verdict")),
    }
}

/// Reads one message; none where the other side has ended between two.
///
/// # Errors
/// It is too long or cut off, or did not come whole within `silence` of its first byte.
pub async fn read(
    from: &mut (impl AsyncRead + Unpin),
    silence: Duration,
) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut first = [0];
    match from.read(&mut first).await? {
        0 => Ok(None),
        _ => rest(first[0], from, silence).await.map(Some),
    }
}

/// As [`read`], with the descriptor that came with the message.
///
/// # Errors
/// As there; or there are several.
pub async fn receive(
    from: &mut UnixStream,
    silence: Duration,
) -> io::Result<Option<(Zeroizing<Vec<u8>>, Option<OwnedFd>)>> {
    match descriptor::first(from).await? {
        None => Ok(None),
        Some((first, brought)) => {
            let message = rest(first, from, silence).await?;
            let descriptor = brought.map_err(|_| io::ErrorKind::InvalidData)?;
            Ok(Some((message, descriptor)))
        }
    }
}

/// What follows a message's first byte.
async fn rest(
    first: u8,
    from: &mut (impl AsyncRead + Unpin),
    silence: Duration,
) -> io::Result<Zeroizing<Vec<u8>>> {
    let rest = async {
        let mut head = [first, 0, 0, 0];
        from.read_exact(&mut head[1..]).await?;
        // rule: AGT-9
        let len = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
        if len > MESSAGE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = Zeroizing::new(vec![0; len]);
        from.read_exact(&mut body).await?;
        Ok(body)
    };
    tokio::time::timeout(silence, rest).await?
}

/// Writes one message.
///
/// # Errors
/// The other side does not take it within `silence`.
pub async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Encode,
    silence: Duration,
) -> io::Result<()> {
    let (head, body) = framed(message)?;
    let both = async {
        to.write_all(&head).await?;
        to.write_all(&body).await
    };
    tokio::time::timeout(silence, both).await?
}

/// As [`write`], and hands a descriptor over with the message.
///
/// # Errors
/// As there.
pub async fn hand(
    to: &mut UnixStream,
    message: &impl Encode,
    descriptor: BorrowedFd<'_>,
    silence: Duration,
) -> io::Result<()> {
    let (head, body) = framed(message)?;
    let all = async {
        let sent = descriptor::send(to, &head, descriptor).await?;
        to.write_all(&head[sent..]).await?;
        to.write_all(&body).await
    };
    tokio::time::timeout(silence, all).await?
}

/// A message's head and body.
fn framed(message: &impl Encode) -> io::Result<([u8; 4], Zeroizing<Vec<u8>>)> {
    // Never moved while it is written: it may hold keys.
    let mut writer = Writer::with_capacity(MESSAGE);
    message.encode(&mut writer);
    let body = Zeroizing::new(writer.into_bytes());
    let len = u32::try_from(body.len()).ok();
    let len = len.filter(|_| body.len() <= MESSAGE);
    let head = len.ok_or(io::ErrorKind::InvalidData)?.to_be_bytes();
    Ok((head, body))
}

/// Reads a message as what it is.
///
/// # Errors
/// The first thing in which the bytes differ from the shape.
pub fn parse<T: Decode>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let item = T::decode(&mut reader)?;
    reader.finish()?;
    Ok(item)
}
