//! Where a log's published files are read: a directory, or an http(s) prefix that serves it as static
//! files (c2sp.org/tlog-tiles). What comes is hostile: bounded before it is kept, and believed by nobody
//! but who verifies it.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, StatusCode, redirect};
use rustix::fs::OFlags;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use tokio::runtime::Runtime;
use url::Url;

/// Longest published checkpoint, in bytes.
pub const CHECKPOINT: u64 = limits::NOTE as u64;
/// Longest tile: 256 hashes.
pub const TILE: u64 = 8_192;
/// Longest entry bundle: 256 entries at their longest, each after its length.
pub const BUNDLE: u64 = 256 * (limits::ENTRY as u64 + 2);

/// Why a file could not be had. A file that is not there is no error.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The operating system refused.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// A device, a directory, a pipe.
    #[error("{path} is not a plain file")]
    NotAFile {
        /// The file.
        path: String,
    },
    /// More bytes than such a file can have.
    #[error("{path} has more than {most} bytes")]
    TooLong {
        /// The file.
        path: String,
        /// The bound.
        most: u64,
    },
    /// No answer, or half of one.
    #[error("{path} was not answered: {why}")]
    Unreachable {
        /// The address.
        path: String,
        /// Why.
        why: String,
    },
    /// Another answer than the file or that there is none.
    #[error("{path} was answered with HTTP status {status}")]
    Status {
        /// The address.
        path: String,
        /// The status.
        status: u16,
    },
}

impl SourceError {
    /// As an error in three parts.
    #[must_use]
    pub fn report(self) -> Report {
        let (code, next) = match &self {
            Self::Unreachable { .. } => (exit::RETRY, "try again"),
            Self::Status { status, .. } if *status == 429 || *status >= 500 => {
                (exit::RETRY, "try again")
            }
            Self::Status { .. } => (
                exit::LOCAL,
                "give the address under which the log's shards are served (redirects are not followed)",
            ),
            Self::TooLong { .. } => (
                exit::INTEGRITY,
                "it is no file of a log: find out who put it there",
            ),
            Self::NotAFile { .. } | Self::Io { .. } => {
                (exit::LOCAL, "give the log's directory, readable for you")
            }
        };
        Report::new(code, "the log cannot be read")
            .why(self)
            .next(next)
    }
}

/// A log's published files.
#[derive(Debug)]
pub enum Source {
    /// The directory of a log, or a copy of one.
    Directory(PathBuf),
    /// A prefix.
    Http(Box<Http>),
}

/// A prefix and what asks there. Each request has its own bound of time and size; redirects are answers.
#[derive(Debug)]
pub struct Http {
    base: Url,
    client: Client,
    runtime: Runtime,
}

impl Source {
    /// The source of this text: an address when it begins with `http://` or `https://`, else a directory.
    ///
    /// # Errors
    /// There is no such directory, or the address cannot be one.
    pub fn open(place: &str, timeout: Duration) -> Result<Self, Report> {
        if place.starts_with("http://") || place.starts_with("https://") {
            return Http::new(place, timeout).map(|http| Self::Http(Box::new(http)));
        }
        let path = PathBuf::from(place);
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => Ok(Self::Directory(path)),
            Ok(_) => Err(Report::new(exit::USAGE, format!("{place} is not a log's directory"))
                .why("a log is a directory with one directory for each shard")
                .next("give the directory (`audit` in the server's data directory), or an http(s) address")),
            Err(error) => {
                let code = if error.kind() == io::ErrorKind::NotFound {
                    exit::NOT_FOUND
                } else {
                    exit::LOCAL
                };
                Err(Report::new(code, format!("cannot read the log {place}"))
                    .why(error)
                    .next("give the log's directory, or an http(s) address"))
            }
        }
    }

    /// Where it is, for people.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Directory(path) => path.display().to_string(),
            Self::Http(http) => http.base.to_string(),
        }
    }

    /// A file by its path below the log, with `/` between its parts; none when it is not there.
    ///
    /// # Errors
    /// [`SourceError`]; also when it is longer than `most`.
    pub fn get(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, SourceError> {
        match self {
            Self::Directory(base) => read(&base.join(path), most),
            Self::Http(http) => http.get(path, most),
        }
    }

    /// The numbers of the shards' directories, ascending; none where they cannot be listed.
    #[must_use]
    pub fn listed(&self) -> Option<Vec<u64>> {
        let Self::Directory(path) = self else {
            return None;
        };
        let mut numbers: Vec<u64> = std::fs::read_dir(path)
            .ok()?
            .filter_map(|item| item.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        numbers.sort_unstable();
        Some(numbers)
    }
}

fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, SourceError> {
    let named = || path.display().to_string();
    let failed = |source| SourceError::Io {
        path: named(),
        source,
    };
    // NONBLOCK: a pipe that somebody put there must not hang us.
    let flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(SourceError::NotAFile { path: named() });
    }
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(SourceError::TooLong {
            path: named(),
            most,
        });
    }
    Ok(Some(bytes))
}

impl Http {
    fn new(place: &str, timeout: Duration) -> Result<Self, Report> {
        let wrong = |why: String| {
            Report::new(exit::USAGE, format!("{place} is no address of a log"))
                .why(why)
                .next("give the prefix below which its shards are served, such as https://logs.example/broker/")
        };
        let mut base = Url::parse(place).map_err(|error| wrong(error.to_string()))?;
        if base.query().is_some() || base.fragment().is_some() || !base.username().is_empty() {
            return Err(wrong(
                "it has a user name, a query or a fragment".to_owned(),
            ));
        }
        // Joining appends only behind a slash.
        base.set_path(&format!("{}/", base.path().trim_end_matches('/')));
        let local = |error: &dyn std::fmt::Display| {
            Report::new(exit::LOCAL, "no HTTP client can be made").why(error)
        };
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(timeout)
            .user_agent("postern-admin")
            .build()
            .map_err(|error| local(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| local(&error))?;
        Ok(Self {
            base,
            client,
            runtime,
        })
    }

    fn get(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let address = self
            .base
            .join(path)
            .map_err(|error| SourceError::Unreachable {
                path: format!("{}{path}", self.base),
                why: error.to_string(),
            })?;
        let named = address.to_string();
        let unreachable = |error: reqwest::Error| {
            let mut reason: &dyn std::error::Error = &error;
            while let Some(cause) = reason.source() {
                reason = cause;
            }
            SourceError::Unreachable {
                path: named.clone(),
                why: reason.to_string(),
            }
        };
        let long = || SourceError::TooLong {
            path: named.clone(),
            most,
        };
        self.runtime.block_on(async {
            let mut answer = self
                .client
                .get(address.clone())
                .send()
                .await
                .map_err(unreachable)?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
                other => {
                    return Err(SourceError::Status {
                        path: named.clone(),
                        status: other.as_u16(),
                    });
                }
            }
            if answer.content_length().is_some_and(|length| length > most) {
                return Err(long());
            }
            let mut bytes = Vec::new();
            while let Some(piece) = answer.chunk().await.map_err(unreachable)? {
                if (bytes.len() + piece.len()) as u64 > most {
                    return Err(long());
                }
                bytes.extend_from_slice(&piece);
            }
            Ok(Some(bytes))
        })
    }
}
