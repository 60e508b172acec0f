//! What every command works with: settings, output, state, wallet, patience.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use serde_json::{Map, Value};
use std::io::Write as _;
use ticket_format::iid::RegionKeys;
use ticket_format::report::{Printable, Report, exit};
use ticket_format::time::Timestamp;

use super::output::{Output, Printed};
use super::settings::{Setting, Settings, duration};
use crate::Error;
use crate::logs::Logs;
use crate::s3::Stores;
use crate::state::NodeState;
use crate::wallet::{Wallet, WalletFile};

/// Largest file with a certificate.
const KEY_FILE: u64 = 64 * 1024;
/// Longest wait for one attempt to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// A command's surroundings.
pub struct App {
    /// Where results go.
    pub out: Output,
    /// What was set.
    pub settings: Settings<'static>,
    logs: OnceLock<Logs>,
}

/// How a command ended: its exit code, or an error to be shown.
pub type Ended = Result<u8, Report>;

impl From<Error> for Report {
    fn from(error: Error) -> Self {
        error.report()
    }
}

/// The generator of everything random.
#[must_use]
pub fn rng() -> rand_core::UnwrapErr<getrandom::SysRng> {
    rand_core::UnwrapErr(getrandom::SysRng)
}

/// The clock.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_seconds(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default())
}

/// Says something beside the result, on stderr.
pub fn talk(text: impl std::fmt::Display) {
    let text = text.to_string();
    // Where stderr is gone nobody is left to tell.
    let _ = writeln!(anstream::stderr().lock(), "{}", Printable(&text));
}

/// How long a command may go on trying.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    until: Instant,
}

impl Patience {
    /// From now on.
    #[must_use]
    pub fn of(duration: Duration) -> Self {
        // A century is for ever, and no instant overflows.
        let duration = duration.min(Duration::from_secs(100 * 365 * 86_400));
        Self {
            until: Instant::now() + duration,
        }
    }

    /// What is left.
    #[must_use]
    pub fn left(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Tries until it works, fails for good, or time is over. `attempt` is told how long it may
    /// take to connect. With `say`, the first failure is told while the wait goes on.
    ///
    /// # Errors
    /// The last attempt's.
    pub async fn keep_trying<T>(
        self,
        say: bool,
        mut attempt: impl AsyncFnMut(Duration) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(10))
            .with_jitter()
            .without_max_times()
            .build();
        let mut told = !say;
        loop {
            // At least once, and with a chance to succeed.
            let connect = self.left().clamp(Duration::from_millis(200), CONNECT);
            let error = match attempt(connect).await {
                Err(error) if error.worth_retrying() => error,
                other => return other,
            };
            let delay = delays.next().unwrap_or(CONNECT);
            if delay >= self.left() {
                return Err(error);
            }
            if !told {
                talk(format!(
                    "waiting up to {} s: {error}",
                    self.left().as_secs()
                ));
                told = true;
            }
            tracing::info!(%error, wait_ms = delay.as_millis() as u64, "trying again");
            tokio::time::sleep(delay).await;
        }
    }

    /// Waits for a lock.
    ///
    /// # Errors
    /// Somebody else held it to the end, or the file system refused.
    pub async fn lock<T>(self, take: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
        loop {
            match take() {
                Err(Error::Locked(_)) if !self.left().is_zero() => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => return other,
            }
        }
    }
}

impl App {
    /// With these settings.
    #[must_use]
    pub fn new(out: Output, settings: Settings<'static>) -> Self {
        Self {
            out,
            settings,
            logs: OnceLock::new(),
        }
    }

    /// The servers' logs, remembered beside the node's state.
    ///
    /// # Errors
    /// No place for the state is known.
    pub fn logs(&self) -> Result<&Logs, Report> {
        let dir = self.state_dir()?;
        Ok(self.logs.get_or_init(|| Logs::of_state(&dir)))
    }

    /// How long to go on trying: as set, or `default`.
    ///
    /// # Errors
    /// The setting cannot be read.
    pub fn patience(&self, default: Duration) -> Result<Patience, Report> {
        let set = self.settings.parse(Setting::Timeout, duration)?;
        Ok(Patience::of(set.unwrap_or(default)))
    }

    /// The directory of the node's state.
    ///
    /// # Errors
    /// None is known.
    pub fn state_dir(&self) -> Result<PathBuf, Report> {
        let found = self.settings.effective(Setting::State);
        let missing = || {
            Report::new(exit::CONFIG, "no directory for the node's state is known")
                .why("neither XDG_STATE_HOME nor HOME is set")
                .next("say --state DIR")
        };
        found.map(|found| found.value.into()).ok_or_else(missing)
    }

    /// The wallet.
    ///
    /// # Errors
    /// None is known, or it is of another type.
    pub fn wallet_file(&self) -> Result<WalletFile, Report> {
        let file = self
            .settings
            .parse(Setting::Wallet, WalletFile::from_spec)?;
        let missing = || {
            Report::new(exit::CONFIG, "no place for the wallet is known")
                .why("XDG_RUNTIME_DIR is not set")
                .next("say --wallet FILE:PATH, best on a file system in memory")
        };
        file.ok_or_else(missing)
    }

    /// The node's state.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn state(&self) -> Result<NodeState, Report> {
        let state = NodeState::load(&self.state_dir()?)?;
        Ok(state.ok_or(Error::NoTicket("this node has never logged in"))?)
    }

    /// State and wallet.
    ///
    /// # Errors
    /// As [`App::state`]; the wallet cannot be used.
    pub fn open(&self) -> Result<(NodeState, Wallet), Report> {
        let state = self.state()?;
        let wallet = self.wallet_file()?.load(&state.wallet_key)?;
        Ok((state, wallet))
    }

    /// Changes the wallet under its lock. One that does not open was another node's, and is
    /// replaced when `anew` says so.
    ///
    /// # Errors
    /// The wallet cannot be read, locked or written.
    pub async fn change_wallet(
        &self,
        patience: Patience,
        key: &[u8; 32],
        anew: bool,
        change: impl FnOnce(&mut Wallet),
    ) -> Result<(), Report> {
        let file = self.wallet_file()?;
        let lock = patience.lock(|| file.lock()).await?;
        let mut wallet = match file.load(key) {
            Err(Error::Damaged { path, reason }) if anew => {
                tracing::warn!(path = %path.display(), reason, "the wallet is replaced");
                Wallet::default()
            }
            other => other?,
        };
        change(&mut wallet);
        file.save(&lock, &wallet, key, &mut rng())?;
        Ok(())
    }

    /// AWS's keys: from a directory, or built in.
    ///
    /// # Errors
    /// A file cannot be read or holds no usable certificate.
    pub fn region_keys(&self) -> Result<RegionKeys, Report> {
        let Some(found) = self.settings.find(Setting::RegionKeys) else {
            return Ok(RegionKeys::built_in());
        };
        let dir = Path::new(&found.value);
        let failed = |why: String| {
            Report::new(
                exit::CONFIG,
                format!("the region keys in {} cannot be used", dir.display()),
            )
            .why(why)
            .next("give a directory of <region>.pem files")
        };
        let mut pems = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|error| failed(error.to_string()))? {
            let path = entry.map_err(|error| failed(error.to_string()))?.path();
            if path.extension().is_some_and(|extension| extension == "pem") {
                let region = path
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let pem = store::files::read_bounded(&path, KEY_FILE);
                let pem = pem.map_err(|error| failed(error.to_string()))?;
                let pem = String::from_utf8(pem).map_err(|error| failed(error.to_string()))?;
                pems.push((region, pem));
            }
        }
        RegionKeys::from_pems(pems).map_err(|error| failed(error.to_string()))
    }

    /// S3.
    ///
    /// # Errors
    /// Its endpoint cannot be used.
    pub fn stores(&self) -> Result<Stores, Report> {
        let endpoint = self.settings.find(Setting::S3).map(|found| found.value);
        let failed = |error| Report::new(exit::CONFIG, "S3 cannot be used").why(error);
        Stores::from_env(endpoint.as_deref()).map_err(failed)
    }

    /// Prints one result: a line in text, an object in JSON.
    ///
    /// # Errors
    /// Stdout failed.
    pub fn done(&self, text: impl std::fmt::Display, object: Value) -> Printed {
        self.out.line(text)?;
        if self.out.format == super::output::Format::Text {
            return Ok(());
        }
        match object {
            Value::Object(object) => self.out.object(object),
            other => self
                .out
                .object(Map::from_iter([("result".to_owned(), other)])),
        }
    }
}

/// Writes public bytes, whole or not at all.
///
/// # Errors
/// The file system refused.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Report> {
    store::files::write_private(path, bytes).map_err(Error::from)?;
    Ok(())
}
