//! What the door does: KMS's operations on one job's keys (DOOR-4 to DOOR-8).

mod data_keys;
mod lists;
mod payload;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use ticket_format::Context;
use ticket_format::ids::DatasetId;
use ticket_format::ticket::Action;

use super::JobKeys;
use super::fault::Fault;
use super::keys::JobDataset;
use super::members::{KMS, Members};
use super::names::{Names, uuid};

/// The one algorithm there is.
const SYMMETRIC: &str = "SYMMETRIC_DEFAULT";

/// Operations that use no key.
const WITHOUT_GRANT_TOKENS: [&str; 3] = ["ListKeys", "ListAliases", "GenerateRandom"];

/// One request.
pub(super) struct Call<'a, K> {
    pub(super) keys: &'a K,
    pub(super) names: &'a Names,
    pub(super) members: Members,
}

/// Does what `X-Amz-Target` names.
pub(super) async fn perform<K: JobKeys>(
    operation: &str,
    keys: &K,
    body: &[u8],
) -> Result<Value, Fault> {
    let names = Names::of(keys.node());
    let mut call = Call {
        keys,
        names: &names,
        members: Members::read(body)?,
    };
    // rule: DOOR-10
    if !WITHOUT_GRANT_TOKENS.contains(&operation) {
        for token in call.members.grant_tokens()? {
            if !keys.holds(&token) {
                return Err(Fault::grant_token());
            }
        }
    }
    // rule: DOOR-4
    match operation {
        "GenerateDataKey" => call.generate_data_key(true).await,
        "GenerateDataKeyWithoutPlaintext" => call.generate_data_key(false).await,
        "GenerateDataKeyPair" => call.generate_data_key_pair(true).await,
        "GenerateDataKeyPairWithoutPlaintext" => call.generate_data_key_pair(false).await,
        "Encrypt" => call.encrypt().await,
        "Decrypt" => call.decrypt().await,
        "ReEncrypt" => call.re_encrypt().await,
        "DescribeKey" => call.describe_key().await,
        "ListKeys" => call.list_keys().await,
        "ListAliases" => call.list_aliases().await,
        "GenerateRandom" => call.generate_random(),
        other => Err(Fault::unsupported(other)),
    }
}

impl<K: JobKeys> Call<'_, K> {
    async fn dataset(&self, key_id: &str) -> Result<JobDataset, Fault> {
        // rule: DOOR-5
        let named = self.names.parse(key_id).ok_or_else(Fault::not_found)?;
        let found = self.keys.dataset(&named).await?;
        found.ok_or_else(Fault::not_found)
    }

    /// The dataset that a member names, for something.
    async fn key(&mut self, member: &str, action: Action) -> Result<JobDataset, Fault> {
        let key_id = Members::needed(member, self.members.text(member)?)?;
        let dataset = self.dataset(&key_id).await?;
        allowed(&dataset, action)?;
        Ok(dataset)
    }

    fn arn(&self, dataset: DatasetId) -> Value {
        self.names.key(dataset).into()
    }

    /// Ends the reading of a request.
    fn read(&mut self) -> Result<(), Fault> {
        std::mem::replace(&mut self.members, Members::empty()).end()
    }

    /// The same of an operation on a key; one that is only tried ends here.
    fn read_or_tried(&mut self) -> Result<(), Fault> {
        let dry = self.members.flag("DryRun")?;
        self.read()?;
        match dry {
            true => Err(Fault::dry_run()),
            false => Ok(()),
        }
    }
}

/// Whether the job may do this with a dataset.
fn allowed(dataset: &JobDataset, action: Action) -> Result<(), Fault> {
    match dataset.actions.contains(action) {
        true => Ok(()),
        false => Err(Fault::denied(format!(
            "the agent's rules do not give this job {} on {}; ask the node's administrator",
            action.name(),
            dataset.name
        ))),
    }
}

/// The context of a wrap: the caller's pairs and the door's own (DOOR-6).
fn context_of(mut pairs: BTreeMap<String, String>, own: (&str, &str)) -> Result<Context, Fault> {
    pairs.insert(own.0.to_owned(), own.1.to_owned());
    let beyond = |_| {
        Fault::invalid("the encryption context has more than 15 pairs, or one that is too long")
    };
    Context::new(pairs).map_err(beyond)
}

fn of_form(pairs: BTreeMap<String, String>, form: &str) -> Result<Context, Fault> {
    context_of(pairs, (KMS, form))
}

fn base64(bytes: &[u8]) -> Value {
    STANDARD.encode(bytes).into()
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.map(|(name, value)| (name.to_owned(), value));
    Value::Object(Map::from_iter(members))
}

/// What KMS says of a key.
fn metadata(names: &Names, dataset: &JobDataset, account: &str) -> Value {
    json!({
        "AWSAccountId": account,
        "KeyId": uuid(dataset.id),
        "Arn": names.key(dataset.id),
        "CreationDate": dataset.created.seconds(),
        "Enabled": true,
        "Description": format!("Postern dataset {}", dataset.name),
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": "Enabled",
        "Origin": "EXTERNAL_KEY_STORE",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": SYMMETRIC,
        "KeySpec": SYMMETRIC,
        "EncryptionAlgorithms": [SYMMETRIC],
        "MultiRegion": false,
    })
}
