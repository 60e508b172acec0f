//! The admin set as this admin knows it: one that is believed because of where it stands, and those
//! that followed it, each held to the one before (SET-3). The later ones are kept beside it, so that
//! a broker that goes back, or lies, is noticed.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use store::files::{self, FileError};
use ticket_format::cbor::Encode as _;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{
    AdminSet, AdminSetBody, AdminSetRefusal, AdminSetShow, ReceivedStatement,
};

use super::now;
use super::remote::Remote;

/// Most bytes of the file of later sets: some hundreds of the largest.
const LATER: u64 = 8 * 1024 * 1024;

/// Where the set is found.
#[derive(Clone, Debug)]
pub struct Trust {
    path: PathBuf,
    realm: String,
}

/// The set, and the statements that led to it from the one in the file.
#[derive(Clone, Debug)]
pub struct Known {
    /// The last of them.
    pub set: AdminSet,
    /// The first of them.
    first: AdminSet,
    /// The version in the file.
    pub base: u64,
    /// The sets after it, ascending.
    pub later: Vec<Vec<u8>>,
}

/// A statement that makes no set, or none that follows.
pub(crate) fn refused(what: String, error: &AdminSetRefusal) -> Report {
    let mut report = Report::new(exit::INTEGRITY, what)
        .why(error)
        .next("do not sign anything; ask the other admins which set is in force");
    report.refusal = Some(error.refusal());
    report
}

/// The set in these bytes: a realm's first one by its signatures, a later one because it stands there.
///
/// # Errors
/// It is no admin set's statement, or does not hold.
pub fn set_in(path: &Path, bytes: &[u8], realm: &str) -> Result<AdminSet, Report> {
    let what = || format!("{} holds no admin set that can be believed", path.display());
    let unusable = |why: String| {
        Report::new(exit::CONFIG, what()).why(why).next(
        "copy the realm's first admin set there, signed by all its admins (`postern-admin admin-set draft`)",
    )
    };
    let received = ReceivedStatement::parse(bytes).map_err(|error| unusable(error.to_string()))?;
    let body: AdminSetBody = received
        .body()
        .map_err(|error| unusable(error.to_string()))?;
    if received.payload().realm != realm {
        return Err(unusable(format!(
            "it is of realm {:?}",
            received.payload().realm
        )));
    }
    let set = if body.version == 1 {
        AdminSet::first(bytes, realm, now())
    } else {
        AdminSet::pinned(&body.to_cbor())
    };
    set.map_err(|error| refused(what(), &error))
}

impl Known {
    /// All of them, the newest first.
    #[must_use]
    pub fn sets(&self) -> Vec<AdminSet> {
        let later = self.later.iter().rev().filter_map(|statement| {
            let received = ReceivedStatement::parse(statement).ok()?;
            AdminSet::pinned(&received.payload().body).ok()
        });
        later.chain([self.first.clone()]).collect()
    }
}

impl Trust {
    /// The set of this file.
    #[must_use]
    pub fn new(path: PathBuf, realm: String) -> Self {
        Self { path, realm }
    }

    fn later(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".later");
        name.into()
    }

    /// What is known without asking anybody.
    ///
    /// # Errors
    /// There is no set, or it does not hold.
    pub fn load(&self) -> Result<Known, Report> {
        let bytes = files::read_bounded(&self.path, limits::STATEMENT as u64).map_err(|error| {
            Report::new(exit::CONFIG, "the admin set is not known here")
                .why(error)
                .next(format!(
                    "copy the realm's first admin set, signed by all its admins, to {}, or give --admin-set FILE",
                    self.path.display()
                ))
        })?;
        let base = set_in(&self.path, &bytes, &self.realm)?;
        let later = self.read_later()?;
        let set = base.follow(&later, &self.realm, now()).map_err(|error| {
            refused(
                format!(
                    "{} does not follow the set in force",
                    self.later().display()
                ),
                &error,
            )
        })?;
        Ok(Known {
            set,
            base: base.version(),
            first: base,
            later,
        })
    }

    fn read_later(&self) -> Result<Vec<Vec<u8>>, Report> {
        let path = self.later();
        let unusable = |why: String| {
            Report::new(exit::CONFIG, format!("{} cannot be used", path.display()))
                .why(why)
                .next("move it away: the sets are fetched from the broker anew")
        };
        let bytes = match files::read_bounded(&path, LATER) {
            Ok(bytes) => bytes,
            Err(_) if fs::symlink_metadata(&path).is_err() => return Ok(Vec::new()),
            Err(error) => return Err(unusable(error.to_string())),
        };
        let text = String::from_utf8(bytes).map_err(|error| unusable(error.to_string()))?;
        text.lines()
            .map(|line| {
                BASE64URL
                    .decode(line)
                    .map_err(|error| unusable(error.to_string()))
            })
            .collect()
    }

    /// Asks a server for the sets after the one that is known, verifies and keeps them.
    ///
    /// # Errors
    /// It cannot be reached, or what it says does not follow.
    pub async fn follow(&self, mut known: Known, remote: &mut Remote<'_>) -> Result<Known, Report> {
        // rule: SET-3
        let before = known.later.len();
        loop {
            let after = known.set.version();
            let page = remote.ask(&AdminSetShow { after }).await?;
            if page.statements.is_empty() {
                break;
            }
            known.set = known
                .set
                .follow(&page.statements, &self.realm, now())
                .map_err(|error| {
                    refused(
                        format!(
                            "the server shows an admin set that does not follow version {after}"
                        ),
                        &error,
                    )
                })?;
            known.later.extend(page.statements);
            if !page.more {
                break;
            }
        }
        if known.later.len() > before {
            self.keep(&known.later)?;
        }
        Ok(known)
    }

    fn keep(&self, later: &[Vec<u8>]) -> Result<(), Report> {
        let mut text = String::new();
        for statement in later {
            BASE64URL.encode_string(statement, &mut text);
            text.push('\n');
        }
        let kept: Result<(), FileError> = files::write_private(&self.later(), text.as_bytes());
        kept.map_err(|error| {
            Report::new(exit::LOCAL, "the newer admin set cannot be kept")
                .why(error)
                .next("make the directory of the admin set writable")
        })
    }
}
