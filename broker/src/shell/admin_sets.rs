//! The admin set in force: memory follows the store, and no decision outlives its set.

use std::sync::Arc;

use ticket_format::Refusal;
use ticket_format::ids::AdminSetDigest;
use ticket_format::statement::{AdminSet, ReceivedStatement};
use ticket_format::time::Timestamp;

use super::directory::{Committed, Directory, Reads};
use super::service::{ATTEMPTS, Broker};
use super::start::StartError;
use crate::Refused;
use crate::administer::admin_sets;
use crate::admins::Admins;
use crate::realm::Realm;
use crate::state::{AdminSetHead, Changes, KeyUse, keys};

impl Broker {
    /// Begins the reads of a decision on a statement: with them the admin set in force. What is
    /// decided by it is committed only if it still is.
    pub(super) async fn reads_by_admins(&self) -> Result<(Reads<'_>, Arc<AdminSet>), Refused> {
        // rule: SET-2
        for _ in 0..ATTEMPTS {
            let mut reads = self.directory.reads();
            let head = reads.get::<AdminSetHead>(keys::ADMIN_SET_HEAD).await?;
            let set = self.realm.admins.current();
            if head.is_some_and(|head| head.digest == set.digest()) {
                return Ok((reads, set));
            }
            // Another request has put it in force, and memory does not know yet.
            self.load_admin_sets().await?;
        }
        Err(Refused::stranger(
            Refusal::Busy,
            "the admin set changed again and again",
        ))
    }

    /// Takes the sets that the store holds, unless memory knows newer ones.
    pub(super) async fn load_admin_sets(&self) -> Result<(), Refused> {
        let now = self.time.now()?;
        let history = history(&self.directory, &self.realm.name, now).await;
        let history = history.map_err(|why| Refused::stranger(Refusal::Internal, why))?;
        if let Some(history) = history
            && history.current().version() > self.realm.admins.current().version()
        {
            self.realm.admins.replace(history);
        }
        Ok(())
    }

    /// Who uses each admin's key.
    pub(super) async fn admin_keys(
        reads: &mut Reads<'_>,
        set: &AdminSet,
    ) -> Result<Vec<Option<KeyUse>>, Refused> {
        let mut uses = Vec::new();
        for admin in set.admins() {
            uses.push(reads.key(admin.key.thumbprint()).await?);
        }
        Ok(uses)
    }
}

async fn history(
    directory: &Directory,
    realm: &str,
    now: Timestamp,
) -> Result<Option<Admins>, String> {
    let statements = directory.values(keys::ADMIN_SETS).await;
    let statements = statements.map_err(|refused| refused.why)?;
    Admins::history(&statements, realm, now)
        .map_err(|error| format!("the admin sets in the store do not hold: {error}"))
}

/// What a set's statement says its digest is.
fn digest_of(statement: &[u8]) -> Option<AdminSetDigest> {
    let received = ReceivedStatement::parse(statement).ok()?;
    Some(AdminSetDigest::of(&received.payload().body))
}

/// Holds the configured set to the store's history at start (SET-3): a new store takes it as the first of
/// its history, another store must know it.
pub(super) async fn settle(
    directory: &Directory,
    realm: &Realm,
    now: Timestamp,
) -> Result<(), StartError> {
    // rule: SET-3
    let contradiction = |why: String| StartError::AdminSet(why);
    let configured = realm.admins.current();
    let Some(history) = history(directory, &realm.name, now)
        .await
        .map_err(contradiction)?
    else {
        return first(directory, realm, &configured, now).await;
    };
    let (version, newest) = (configured.version(), history.current().version());
    let known = history.statement(version);
    if known.as_deref().and_then(digest_of) != Some(configured.digest()) {
        let why = if version > newest {
            format!(
                "the configured admin set has version {version}, and this broker knows only {newest}: configure one of its history, and send the newer ones as statements"
            )
        } else {
            format!(
                "the configured admin set of version {version} is not of this broker's history: configure the one that it was made with, or a later one of the same history"
            )
        };
        return Err(StartError::AdminSet(why));
    }
    let head = directory
        .get::<AdminSetHead>(keys::ADMIN_SET_HEAD)
        .await?
        .map(|head| head.digest);
    if head != Some(history.current().digest()) {
        let why = "the store's history of admin sets does not end with the one in force";
        return Err(StartError::AdminSet(why.to_owned()));
    }
    realm.admins.replace(history);
    Ok(())
}

/// Begins the history of a new store.
async fn first(
    directory: &Directory,
    realm: &Realm,
    set: &AdminSet,
    now: Timestamp,
) -> Result<(), StartError> {
    let mut reads = directory.reads();
    reads.get::<AdminSetHead>(keys::ADMIN_SET_HEAD).await?;
    let uses = Broker::admin_keys(&mut reads, set).await?;
    let mut changes = Changes::new();
    let statement = realm.admins.statement(set.version()).unwrap_or_default();
    admin_sets::enter(&statement, set, &uses, &mut changes)
        .map_err(|why| StartError::AdminSet(format!("the configured admin set: {why}")))?;
    match directory.commit(reads.seen(), &changes, now).await? {
        Committed::Done => Ok(()),
        Committed::Conflict => Err(StartError::State(
            "the store changes while the broker starts".to_owned(),
        )),
    }
}
