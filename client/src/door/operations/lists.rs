//! What keys there are.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use getrandom::SysRng;
use rand_core::TryRng as _;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Call, JobKeys, base64, metadata, object};
use crate::door::fault::Fault;
use crate::door::members::Members;
use crate::door::names::uuid;

/// Items of a list, unless the caller wants fewer.
const PAGE: u64 = 100;
/// Most random bytes of one request.
const RANDOM: u64 = 1_024;

impl<K: JobKeys> Call<'_, K> {
    pub(super) async fn describe_key(mut self) -> Result<Value, Fault> {
        let key_id = Members::needed("KeyId", self.members.text("KeyId")?)?;
        self.read()?;
        let dataset = self.dataset(&key_id).await?;
        let metadata = metadata(self.names, &dataset, self.keys.node().account());
        Ok(object([("KeyMetadata", metadata)]))
    }

    pub(super) async fn list_keys(mut self) -> Result<Value, Fault> {
        let page = self.page()?;
        self.read()?;
        let datasets = self.keys.datasets().await?;
        let keys = datasets.iter().map(|dataset| {
            object([
                ("KeyId", uuid(dataset.id).into()),
                ("KeyArn", self.arn(dataset.id)),
            ])
        });
        Ok(page.of("Keys", keys.collect()))
    }

    pub(super) async fn list_aliases(mut self) -> Result<Value, Fault> {
        let page = self.page()?;
        let key_id = self.members.text("KeyId")?;
        self.read()?;
        let only = match key_id {
            Some(key_id) => Some(self.dataset(&key_id).await?.id),
            None => None,
        };
        let datasets = self.keys.datasets().await?;
        let wanted = datasets
            .iter()
            .filter(|dataset| only.is_none_or(|only| dataset.id == only));
        let aliases = wanted.map(|dataset| {
            object([
                ("AliasName", format!("alias/{}", dataset.name).into()),
                ("AliasArn", self.names.alias(&dataset.name).into()),
                ("TargetKeyId", uuid(dataset.id).into()),
            ])
        });
        Ok(page.of("Aliases", aliases.collect()))
    }

    pub(super) fn generate_random(mut self) -> Result<Value, Fault> {
        let bytes = Members::needed("NumberOfBytes", self.members.number("NumberOfBytes")?)?;
        self.read()?;
        if !(1..=RANDOM).contains(&bytes) {
            return Err(Fault::invalid("NumberOfBytes is not from 1 to 1,024"));
        }
        let mut random = Zeroizing::new(vec![0; bytes as usize]);
        let filled = SysRng.try_fill_bytes(&mut random);
        filled.map_err(|error| Fault::internal(error.to_string()))?;
        Ok(object([("Plaintext", base64(&random))]))
    }

    fn page(&mut self) -> Result<Page, Fault> {
        let limit = self.members.number("Limit")?.unwrap_or(PAGE);
        if !(1..=1_000).contains(&limit) {
            return Err(Fault::invalid("Limit is not from 1 to 1,000"));
        }
        let invalid = || Fault::invalid("Marker is none that was given out");
        let marker = self.members.text("Marker")?;
        let from = marker.map(|marker| {
            let bytes = URL_SAFE_NO_PAD.decode(marker).ok()?;
            bytes.try_into().ok().map(u32::from_be_bytes)
        });
        Ok(Page {
            from: from.map_or(Some(0), |from| from).ok_or_else(invalid)? as usize,
            limit: limit as usize,
        })
    }
}

/// Which part of a list.
struct Page {
    from: usize,
    limit: usize,
}

impl Page {
    fn of(&self, name: &str, all: Vec<Value>) -> Value {
        let (count, next) = (all.len(), self.from.saturating_add(self.limit));
        let items: Vec<Value> = all.into_iter().skip(self.from).take(self.limit).collect();
        let items = (name, Value::Array(items));
        // What a job has is counted in datasets of one table: far below 2^32.
        match u32::try_from(next).ok().filter(|_| next < count) {
            Some(next) => object([
                items,
                ("Truncated", true.into()),
                (
                    "NextMarker",
                    URL_SAFE_NO_PAD.encode(next.to_be_bytes()).into(),
                ),
            ]),
            None => object([items, ("Truncated", false.into())]),
        }
    }
}
