//! Why the metadata service did not give what was asked for.

use thiserror::Error;

/// Why instance metadata could not be read. [`ImdsError::is_retryable`] says whether waiting helps.
#[derive(Debug, Error)]
pub enum ImdsError {
    /// `AWS_EC2_METADATA_DISABLED` is true.
    #[error(
        "the metadata service is disabled by AWS_EC2_METADATA_DISABLED; unset it on an EC2 instance"
    )]
    Disabled,
    /// An environment variable has a value that cannot be used. The value is not repeated.
    #[error("{variable} cannot be used: expected {expected}")]
    Config {
        /// Which variable.
        variable: &'static str,
        /// What it may hold.
        expected: &'static str,
    },
    /// The HTTP client could not be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(#[source] reqwest::Error),
    /// Nobody listens there, or there is no way to it.
    #[error("no metadata service at {endpoint} ({reason}); is this an EC2 instance?")]
    Unreachable {
        /// The endpoint in use.
        endpoint: String,
        /// The innermost cause.
        reason: String,
    },
    /// The token request got no answer: what a container sees behind a hop limit of 1.
    #[error(
        "the metadata service at {endpoint} did not answer the token request in time: this is no \
         EC2 instance, or a container behind a metadata hop limit of 1 (set it to 2)"
    )]
    TokenTimeout {
        /// The endpoint in use.
        endpoint: String,
    },
    /// A read got no answer in time.
    #[error("the metadata service did not send {item} in time")]
    Timeout {
        /// What was asked for.
        item: &'static str,
    },
    /// 403: metadata are switched off for this instance, or kept from this process.
    #[error("the metadata service refused {item} (403): it is switched off or not allowed here")]
    Forbidden {
        /// What was asked for.
        item: &'static str,
    },
    /// The endpoint has no IMDSv2 token path. Version 1 is never used.
    #[error(
        "the endpoint offers no IMDSv2 token (status {status}); IMDSv1 is not used, as any \
         request forgery could read it"
    )]
    NoVersion2 {
        /// HTTP status of the token request.
        status: u16,
    },
    /// A fresh token was refused too.
    #[error("the metadata service refused a fresh token for {item} (401)")]
    Unauthorized {
        /// What was asked for.
        item: &'static str,
    },
    /// 404 for user-data: none was given at launch.
    #[error(
        "this instance has no user-data (404); start it with the user-data that `launch create` printed"
    )]
    NoUserData,
    /// 404 for the proof.
    #[error("the metadata service has no rsa2048 identity proof (404); is this an EC2 instance?")]
    NoProof,
    /// 5xx or 429: overloaded or starting.
    #[error("the metadata service is busy ({item}: status {status})")]
    Busy {
        /// What was asked for.
        item: &'static str,
        /// HTTP status.
        status: u16,
    },
    /// Any other status; a redirect is one of them and is never followed.
    #[error("the metadata service answered {item} with status {status}")]
    UnexpectedStatus {
        /// What was asked for.
        item: &'static str,
        /// HTTP status.
        status: u16,
    },
    /// More bytes than the item can have.
    #[error("the metadata service sent more than {limit} bytes for {item}")]
    TooLarge {
        /// What was asked for.
        item: &'static str,
        /// The bound in bytes.
        limit: usize,
    },
    /// Not the kind of text that the item is.
    #[error("the metadata service sent something else than {item}")]
    Malformed {
        /// What was asked for.
        item: &'static str,
    },
    /// The connection broke in the middle of an answer.
    #[error("the connection to the metadata service broke while it sent {item}")]
    Broken {
        /// What was asked for.
        item: &'static str,
    },
}

impl ImdsError {
    /// Is it sensible to try again later without changing anything?
    ///
    /// True for what passes by itself: a service that is busy, silent or not there yet while the
    /// instance boots. False for an answer that will stay the same.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::TokenTimeout { .. }
            | Self::Timeout { .. }
            | Self::Busy { .. }
            | Self::Broken { .. } => true,
            Self::Disabled
            | Self::Config { .. }
            | Self::Client(_)
            | Self::Forbidden { .. }
            | Self::NoVersion2 { .. }
            | Self::Unauthorized { .. }
            | Self::NoUserData
            | Self::NoProof
            | Self::UnexpectedStatus { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. } => false,
        }
    }
}
