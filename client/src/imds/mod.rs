//! The instance metadata service, version 2 only: user-data and the identity proof.
//!
//! Version 1 answers a plain GET, so that anything which can make this host fetch an address can
//! read the secret in user-data; there is no way back to it here, whatever the service answers.
//! Nothing goes through a proxy and no redirect is followed. Each fetch gets its own short-lived
//! token. Only constant paths are asked for, under the configured endpoint.

mod config;
mod error;

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, redirect};
use ticket_format::iid::MAX_PROOF_TEXT_BYTES;
use zeroize::Zeroizing;

use config::Config;
pub use error::ImdsError;

/// Most bytes of user-data, which is EC2's own limit before base64.
pub const MAX_USER_DATA_BYTES: usize = 16 * 1024;
/// Most bytes of a token; real ones have 56.
const MAX_TOKEN_BYTES: usize = 1024;
/// A token serves one fetch: it may run out soon.
const TOKEN_SECONDS: HeaderValue = HeaderValue::from_static("60");
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");

/// Something that is asked for: its name in messages, its path, its bound.
struct Item {
    name: &'static str,
    path: &'static str,
    limit: usize,
}

/// The undated path: the service refuses the dated ones for tokens.
const TOKEN_ITEM: Item = Item {
    name: "the token",
    path: "latest/api/token",
    limit: MAX_TOKEN_BYTES,
};
const USER_DATA: Item = Item {
    name: "user-data",
    path: "latest/user-data",
    limit: MAX_USER_DATA_BYTES,
};
const PROOF: Item = Item {
    name: "the identity proof",
    path: "latest/dynamic/instance-identity/rsa2048",
    limit: MAX_PROOF_TEXT_BYTES,
};

/// A client of one metadata service.
#[derive(Debug)]
pub struct Imds {
    http: Client,
    config: Config,
}

impl Imds {
    /// Reads the AWS SDKs' variables: `AWS_EC2_METADATA_SERVICE_ENDPOINT` (wins over the mode),
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE` (IPv4 or IPv6), `AWS_EC2_METADATA_DISABLED`,
    /// `AWS_METADATA_SERVICE_TIMEOUT` (seconds, 1), `AWS_METADATA_SERVICE_NUM_ATTEMPTS` (1).
    ///
    /// # Errors
    /// [`ImdsError::Disabled`], [`ImdsError::Config`] with the variable's name, or
    /// [`ImdsError::Client`].
    pub fn from_env(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, ImdsError> {
        let config = Config::from_env(get)?;
        let http = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(config.timeout)
            .timeout(config.timeout)
            // No TLS is spoken here: do not ask a bare machine for root certificates.
            .tls_certs_only([])
            .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ImdsError::Client)?;
        Ok(Self { http, config })
    }

    /// The user-data as it was given at launch, at most [`MAX_USER_DATA_BYTES`]. The service has
    /// undone the API's base64; a second layer, if a user made one, is left as it is.
    ///
    /// # Errors
    /// [`ImdsError`]; [`ImdsError::NoUserData`] when the instance has none.
    pub async fn user_data(&self) -> Result<Zeroizing<Vec<u8>>, ImdsError> {
        self.fetch(&USER_DATA).await
    }

    /// The `rsa2048` proof as base64 text in lines, not verified. The document travels inside it,
    /// so there is no second item that could be of another moment.
    ///
    /// # Errors
    /// [`ImdsError`].
    pub async fn identity_proof(&self) -> Result<String, ImdsError> {
        let bytes = self.fetch(&PROOF).await?;
        match core::str::from_utf8(&bytes) {
            Ok(text) if text.is_ascii() && !text.is_empty() => Ok(text.to_owned()),
            _ => Err(ImdsError::Malformed { item: PROOF.name }),
        }
    }

    async fn fetch(&self, item: &Item) -> Result<Zeroizing<Vec<u8>>, ImdsError> {
        let tries = ExponentialBuilder::default()
            .with_min_delay(core::time::Duration::from_millis(200))
            .with_max_delay(core::time::Duration::from_secs(5))
            .with_max_times(self.config.attempts - 1);
        (|| self.fetch_once(item))
            .retry(tries)
            .when(ImdsError::is_retryable)
            .await
    }

    /// One token and one read; a token that is refused is replaced once.
    async fn fetch_once(&self, item: &Item) -> Result<Zeroizing<Vec<u8>>, ImdsError> {
        match self.read(item, self.token().await?).await {
            Err(ImdsError::Unauthorized { .. }) => self.read(item, self.token().await?).await,
            other => other,
        }
    }

    async fn token(&self) -> Result<HeaderValue, ImdsError> {
        let answer = self
            .send(Method::PUT, &TOKEN_ITEM, TOKEN_TTL, TOKEN_SECONDS)
            .await
            .map_err(|error| match error {
                ImdsError::Timeout { .. } => ImdsError::TokenTimeout {
                    endpoint: self.config.base.to_string(),
                },
                other => other,
            })?;
        match answer.status() {
            StatusCode::OK => {}
            // Where botocore would go on with version 1.
            status @ (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
                return Err(ImdsError::NoVersion2 {
                    status: status.as_u16(),
                });
            }
            status => return Err(refusal(&TOKEN_ITEM, status)),
        }
        let text = body(answer, &TOKEN_ITEM).await?;
        let malformed = ImdsError::Malformed {
            item: TOKEN_ITEM.name,
        };
        if text.is_empty() || !text.iter().all(u8::is_ascii_graphic) {
            return Err(malformed);
        }
        let mut token = HeaderValue::from_bytes(&text).map_err(|_| malformed)?;
        token.set_sensitive(true);
        Ok(token)
    }

    async fn read(&self, item: &Item, token: HeaderValue) -> Result<Zeroizing<Vec<u8>>, ImdsError> {
        let answer = self.send(Method::GET, item, TOKEN, token).await?;
        match answer.status() {
            StatusCode::OK => body(answer, item).await,
            StatusCode::NOT_FOUND if item.path == USER_DATA.path => Err(ImdsError::NoUserData),
            StatusCode::NOT_FOUND => Err(ImdsError::NoProof),
            status => Err(refusal(item, status)),
        }
    }

    async fn send(
        &self,
        method: Method,
        item: &Item,
        header: HeaderName,
        value: HeaderValue,
    ) -> Result<Response, ImdsError> {
        // The base ends in a slash and the path is a constant, so joining only appends.
        let address = self
            .config
            .base
            .join(item.path)
            .map_err(|_| ImdsError::Config {
                variable: config::ENDPOINT,
                expected: "an address to which paths can be appended",
            })?;
        self.http
            .request(method, address)
            .headers(HeaderMap::from_iter([(header, value)]))
            .send()
            .await
            .map_err(|error| self.transport(item, &error))
    }

    /// A request that got no answer at all.
    fn transport(&self, item: &Item, error: &reqwest::Error) -> ImdsError {
        if error.is_timeout() && !error.is_connect() {
            return ImdsError::Timeout { item: item.name };
        }
        let mut reason: &dyn std::error::Error = error;
        while let Some(cause) = reason.source() {
            reason = cause;
        }
        if error.is_connect() {
            ImdsError::Unreachable {
                endpoint: self.config.base.to_string(),
                reason: reason.to_string(),
            }
        } else {
            ImdsError::Broken { item: item.name }
        }
    }
}

fn refusal(item: &Item, status: StatusCode) -> ImdsError {
    let (item, number) = (item.name, status.as_u16());
    match status {
        StatusCode::UNAUTHORIZED => ImdsError::Unauthorized { item },
        StatusCode::FORBIDDEN => ImdsError::Forbidden { item },
        StatusCode::TOO_MANY_REQUESTS => ImdsError::Busy {
            item,
            status: number,
        },
        status if status.is_server_error() => ImdsError::Busy {
            item,
            status: number,
        },
        _ => ImdsError::UnexpectedStatus {
            item,
            status: number,
        },
    }
}

/// Reads an answer piece by piece and stops as soon as it is over its bound.
async fn body(mut answer: Response, item: &Item) -> Result<Zeroizing<Vec<u8>>, ImdsError> {
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(item.limit));
    loop {
        match answer.chunk().await {
            Ok(Some(piece)) if bytes.len() + piece.len() <= item.limit => {
                bytes.extend_from_slice(&piece);
            }
            Ok(Some(_)) => {
                return Err(ImdsError::TooLarge {
                    item: item.name,
                    limit: item.limit,
                });
            }
            Ok(None) => return Ok(bytes),
            Err(error) if error.is_timeout() => {
                return Err(ImdsError::Timeout { item: item.name });
            }
            Err(_) => return Err(ImdsError::Broken { item: item.name }),
        }
    }
}
