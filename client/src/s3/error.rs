//! What can go wrong at a place.

use std::path::PathBuf;

use ticket_format::ids::DatasetId;

use crate::object::BodyError;
use crate::object::container::ContainerError;
use crate::object::metadata::MetadataError;

use super::location::LocationError;

/// Kinds of failure, as coarse as exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This machine: disk, permissions (exit code 1).
    Local,
    /// The caller asked for what cannot be (2).
    Usage,
    /// The store refuses us (4).
    Refused,
    /// There is no such object (6).
    NotFound,
    /// The object changed while it was read (7).
    Conflict,
    /// The store cannot be reached or is busy (8).
    Unreachable,
    /// The bytes are not what was encrypted (9).
    Integrity,
    /// Endpoint or credentials are set wrongly (10).
    Configuration,
}

/// Why a place could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The place has an impossible name.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The operation has no sense at this place.
    #[error("{0}")]
    Unsupported(&'static str),
    /// There is nothing there.
    #[error("{0} does not exist")]
    NotFound(String),
    /// Credentials are missing, wrong or not enough.
    #[error("the store refused access to {place}: {why}")]
    Refused {
        /// The place.
        place: String,
        /// The store's words.
        why: String,
    },
    /// The object is another one than at the first look (`OBJ-13`).
    #[error("{0} was replaced while it was read; run the command again")]
    Changed(String),
    /// The store answered something that makes no sense.
    #[error("the store's answer for {place} is wrong: {why}")]
    Answer {
        /// The place.
        place: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The store did not answer, or failed.
    #[error("the store failed at {place}: {why}")]
    Unreachable {
        /// The place.
        place: String,
        /// The last failure.
        why: String,
    },
    /// Endpoint, region or credentials are set wrongly.
    #[error("{0}")]
    Configuration(String),
    /// More parts than an upload can have.
    #[error("{0} is longer than the 10,000 parts of an S3 upload allow")]
    TooLong(String),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The metadata of the object at this place was refused.
    #[error("{place}: {source}")]
    Metadata {
        /// The place.
        place: String,
        /// Why.
        source: MetadataError,
    },
    /// The object at this place is no encrypted object: it holds the recoveries of one (`RCP-3`).
    #[error("{place} holds recoveries of {of}, and nothing else: ask for that object itself")]
    Recoveries {
        /// The place.
        place: String,
        /// The object that they are of.
        of: String,
    },
    /// The object is of the S3 Encryption Client's format, and the operation is not for it (`AMZ-11`).
    #[error(
        "{place} is in the S3 Encryption Client's format, whose wraps are not changed in place: decrypt it and encrypt \
         it again"
    )]
    S3ec {
        /// The place.
        place: String,
        /// The dataset, as its metadata say.
        dataset: DatasetId,
    },
    /// The object is longer than what is held until it is verified (`AMZ-8`).
    #[error(
        "{0} is longer than the 64 MiB that are held until they are verified: decrypt it to a file, or say \
         --release-unverified to get it before that"
    )]
    Unverified(String),
    /// The place has a name that recoveries have (`RCP-3`).
    #[error(
        "{0} is a name of recoveries, and no object is written under it: copy recoveries as they are, next to their object"
    )]
    RecoveryName(String),
    /// The file is not a container, or a damaged one.
    #[error("{place}: {source}")]
    Container {
        /// The place.
        place: String,
        /// Why.
        source: ContainerError,
    },
    /// The length of the body is impossible.
    #[error("{place}: {source}")]
    Body {
        /// The place.
        place: String,
        /// Why.
        source: BodyError,
    },
}

impl StoreError {
    /// Which kind of failure this is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Location(_)
            | Self::Unsupported(_)
            | Self::TooLong(_)
            | Self::Recoveries { .. }
            | Self::S3ec { .. }
            | Self::Unverified(_)
            | Self::RecoveryName(_) => Fault::Usage,
            Self::NotFound(_) => Fault::NotFound,
            Self::Refused { .. } => Fault::Refused,
            Self::Changed(_) => Fault::Conflict,
            Self::Unreachable { .. } => Fault::Unreachable,
            Self::Configuration(_) => Fault::Configuration,
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Fault::NotFound
            }
            Self::Io { .. } => Fault::Local,
            Self::Metadata {
                source: MetadataError::TooLarge { .. },
                ..
            }
            | Self::Metadata {
                source: MetadataError::ContextLimit,
                ..
            } => Fault::Usage,
            Self::Body { source, .. } if !source.is_integrity() => Fault::Usage,
            Self::Answer { .. }
            | Self::Metadata { .. }
            | Self::Container { .. }
            | Self::Body { .. } => Fault::Integrity,
        }
    }

    pub(super) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + use<'_> {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Names the place in an error of the S3 client.
    pub(super) fn s3(place: &str, error: object_store::Error) -> Self {
        use object_store::Error as E;
        let place = place.to_owned();
        match error {
            E::NotFound { .. } => Self::NotFound(place),
            E::Precondition { .. } | E::NotModified { .. } => Self::Changed(place),
            E::PermissionDenied { source, .. } | E::Unauthenticated { source, .. } => {
                Self::Refused {
                    place,
                    why: source.to_string(),
                }
            }
            E::InvalidPath { .. } => Self::Location(LocationError::Key(place)),
            E::NotSupported { source } => Self::Configuration(source.to_string()),
            E::UnknownConfigurationKey { key, .. } => {
                Self::Configuration(format!("{key} is not a setting of S3"))
            }
            other => {
                let why = other.to_string();
                match client_error(&why) {
                    Some("404") => Self::NotFound(place),
                    Some(_) => Self::Refused { place, why },
                    None => Self::Unreachable { place, why },
                }
            }
        }
    }
}

/// The status in an error that the S3 client leaves unsorted, if the store says that the request
/// itself is at fault; too slow (408) and too many (429) are not.
fn client_error(text: &str) -> Option<&str> {
    let (_, status) = text.split_once("status code: ")?;
    let status = status.get(..3)?;
    (status.starts_with('4') && status != "408" && status != "429").then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_the_client_leaves_unsorted_are_sorted_by_status() {
        let fault = |text: &str| {
            let error = object_store::Error::Generic {
                store: "S3",
                source: text.into(),
            };
            StoreError::s3("s3://bucket/", error).fault()
        };
        assert_eq!(
            fault("Server returned non-2xx status code: 404 Not Found: x"),
            Fault::NotFound
        );
        assert_eq!(
            fault("Server returned non-2xx status code: 400 Bad Request"),
            Fault::Refused
        );
        for busy in [
            "408 Request Timeout",
            "429 Too Many Requests",
            "503 Slow Down",
            "5",
        ] {
            let text = format!("Server returned non-2xx status code: {busy}");
            assert_eq!(fault(&text), Fault::Unreachable, "{busy}");
        }
        assert_eq!(fault("error sending request"), Fault::Unreachable);
    }
}
