//! Data keys made offline, with only the public key of an admin-signed dataset record (WRAP-3).

use getrandom::SysRng;
use rand_core::UnwrapErr;
use ticket_format::Context;
use ticket_format::ids::DatasetId;
use ticket_format::keys::ProducerSecret;
use ticket_format::seal::SealError;
use ticket_format::statement::{
    Act, AdminSet, AdminSetRefusal, DatasetRecord, ReceivedStatement, StatementRefusal,
    VerifiedStatement,
};
use ticket_format::time::Timestamp;
use ticket_format::wrapped::object_context;
use ticket_format::wrapped::public::Upload;
use zeroize::Zeroizing;

use crate::keys::{KeyError, Recoverers};
use crate::object::keys::{KeySource, NewItem, NewKey, OpenedKey, Verdicts, WrapItem};
use crate::object::{BodyHeader, ObjectContext};
use crate::redeem::raw_context;

/// Why a dataset record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is no statement, or its signatures are not what the admin set demands.
    #[error("the dataset record is not believed: {0}")]
    Refused(#[from] StatementRefusal),
    /// Its public key takes no encapsulation.
    #[error("the dataset's public key cannot be used: {0}")]
    Key(#[from] SealError),
    /// A recovery recipient's public key takes no encapsulation.
    #[error("a recovery recipient's public key cannot be used")]
    Recipient,
    /// Objects signed by this producer would be refused.
    #[error("the dataset record does not name the producer {0}")]
    Unregistered(ticket_format::ids::ProducerId),
}

/// Believes a dataset record that as many of the dataset's owners signed as the admin set demands,
/// whatever its realm: who trusts an admin set trusts it for the realms that its admins speak for.
///
/// # Errors
/// [`RecordError::Refused`].
pub fn verify_record(
    record: &[u8],
    admins: &AdminSet,
    now: Timestamp,
) -> Result<(String, DatasetRecord), RecordError> {
    let statement = ReceivedStatement::parse(record)?;
    let realm = statement.payload().realm.clone();
    let verified = statement.verify(admins, &realm, None, now)?;
    let record = checked(&verified, admins)?;
    Ok((realm, record))
}

/// A dataset record whose signatures were checked, once the owners that it names are found to have
/// signed it (SET-5).
pub(crate) fn checked(
    verified: &VerifiedStatement,
    admins: &AdminSet,
) -> Result<DatasetRecord, StatementRefusal> {
    // rule: SET-5
    let record: DatasetRecord = verified.body()?;
    let need = admins.quorum(Act::DatasetRecord);
    let need = need.ok_or(StatementRefusal::NoQuorum(Act::DatasetRecord))?;
    verified.by_owners(&record.owners, need)?;
    Ok(record)
}

/// Reads the admin set that a producer trusts: the set itself, or the statement that it came with.
/// Nobody's signature makes it true; the one who names the file does.
///
/// # Errors
/// It is neither, or no set that could be in force (SET-4).
pub fn trusted_set(bytes: &[u8]) -> Result<AdminSet, AdminSetRefusal> {
    match ReceivedStatement::parse(bytes) {
        Ok(statement) if statement.payload().act == Act::AdminSet => {
            AdminSet::pinned(&statement.payload().body)
        }
        _ => AdminSet::pinned(bytes),
    }
}

/// One upload: its objects share an encapsulation to the dataset's public key.
pub struct ProducerKeys {
    realm: String,
    kek_version: u64,
    upload: Upload,
    recoverers: Recoverers,
    producer: Option<ProducerSecret>,
}

impl ProducerKeys {
    /// Begins an upload. Without `producer` anybody could have made its wraps, and readers refuse
    /// them unless told otherwise (ORG-1).
    ///
    /// # Errors
    /// [`RecordError::Unregistered`], [`RecordError::Key`].
    pub fn begin(
        realm: String,
        record: &DatasetRecord,
        producer: Option<ProducerSecret>,
    ) -> Result<Self, RecordError> {
        if let Some(producer) = &producer
            && !record.producers.contains(&producer.public())
        {
            return Err(RecordError::Unregistered(producer.public().id()));
        }
        let upload = Upload::begin(
            &realm,
            record.dataset,
            record.kek,
            record.kek_version,
            &record.public_key,
            &mut UnwrapErr(SysRng),
        )?;
        let recoverers = Recoverers::begin(record).map_err(|_| RecordError::Recipient)?;
        Ok(Self {
            realm,
            kek_version: record.kek_version,
            upload,
            recoverers,
            producer,
        })
    }

    fn key(&self, item: NewItem) -> Result<NewKey, KeyError> {
        let whole = Context::new(item.context)?;
        let raw = raw_context(&whole);
        let (dek, pending) = self.upload.object(raw.clone(), &mut UnwrapErr(SysRng));
        let context = ObjectContext::new(object_context(&self.realm, pending.header(), &raw));
        // rule: WRAP-4
        let header = BodyHeader::derive(dek.expose(), &context, item.salt)?;
        let wrapped = self
            .upload
            .finish(&pending, header.commitment, self.producer.as_ref());
        let recoveries = self.recoverers.wrap(&self.realm, &wrapped, &whole, &dek)?;
        Ok(NewKey {
            dek: Zeroizing::new(*dek.expose()),
            wrapped,
            kek_version: self.kek_version,
            context,
            recoveries,
        })
    }
}

impl KeySource for ProducerKeys {
    type Error = KeyError;

    fn opens(&self, _dataset: DatasetId) -> bool {
        false
    }

    async fn unwrap(&self, _items: Vec<WrapItem>) -> Verdicts<OpenedKey, KeyError> {
        Err(KeyError::Producer)
    }

    async fn generate(&self, items: Vec<NewItem>) -> Verdicts<NewKey, KeyError> {
        Ok(items.into_iter().map(|item| self.key(item)).collect())
    }
}

impl std::fmt::Debug for ProducerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProducerKeys")
            .field("realm", &self.realm)
            .field("producer", &self.producer)
            .finish_non_exhaustive()
    }
}
