//! Wraps by KEK version, with what the side file knows of each (INV-1).

use ticket_format::cbor::Decode;
use ticket_format::side::SideRecord;
use ticket_format::statement::{WrapList, WrapPage, WrapRow};

use super::Service;
use super::administer::Plan;
use crate::inventory::InventoryError;
use crate::refused::Refused;

impl From<InventoryError> for Refused {
    fn from(error: InventoryError) -> Self {
        tracing::error!(%error, "the inventory was asked in vain");
        Self::Inventory(error.to_string())
    }
}

impl Service {
    /// A page of the wraps under one version.
    pub(super) async fn list_wraps(&self, body: WrapList) -> Result<Plan, Refused> {
        let dataset = self.dataset_named(&body.name)?;
        let (record, _) = self.version(dataset.id, body.kek)?;
        // rule: INV-1
        self.inventory.settled().await?;
        let most = usize::try_from(body.rows).unwrap_or(1);
        let (rows, more) = self.inventory.page(record.kek, body.after, most).await?;
        let digests: Vec<_> = rows.iter().map(|row| row.digest.0).collect();
        let side = self.side.clone();
        let known = tokio::task::spawn_blocking(move || side.get_all(&digests)).await;
        let known = match known {
            Ok(Ok(known)) => known,
            Ok(Err(error)) => {
                // The digests are what counts; the contexts are a help.
                tracing::error!(%error, "the side file cannot be read");
                Default::default()
            }
            Err(_) => return Err(Refused::Internal("the side file was not read")),
        };
        let rows = rows.iter().map(|row| {
            let record = known.get(&row.digest.0);
            let record = record
                .and_then(|record| SideRecord::from_cbor(record, audit_log::MAX_SIDE_RECORD).ok());
            WrapRow {
                digest: row.digest,
                seen: row.seen,
                dek: record.as_ref().and_then(|record| record.dek),
                context: record.map(|record| record.pairs),
            }
        });
        Ok(Plan::reading(&WrapPage {
            rows: rows.collect(),
            more,
        }))
    }
}
