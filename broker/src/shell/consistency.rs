//! Consistency (TLOG-6): whoever remembers a checkpoint of this log is shown how it goes on.

use std::sync::Arc;
use std::time::Duration;

use audit_log::guard::{self, NotConsistent};
use ticket_format::cbor::Decode;
use ticket_format::messages::consistency::ConsistencyBody;
use ticket_format::messages::{Answer, RequestView, Verb};
use ticket_format::{Refusal, limits};

use super::service::{Broker, Failed};
use crate::Refused;
use crate::realm::Caller;

/// How many are proven something at one time: it reads files, and strangers may ask.
pub(super) const PROVING: usize = 2;
/// How long one waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// Reads a request.
fn parse(request: &RequestView<'_>) -> Result<ConsistencyBody, Refused> {
    let malformed = |why: String| Refused::stranger(Refusal::Malformed, why);
    if !request.proofs.is_empty() {
        return Err(malformed(
            "who asks for consistency proves nothing".to_owned(),
        ));
    }
    ConsistencyBody::from_cbor(request.body, limits::PRESENT)
        .map_err(|error| malformed(error.to_string()))
}

impl Broker {
    pub(super) async fn consistency(
        &self,
        request: &RequestView<'_>,
        caller: &Caller,
    ) -> Result<Answer, Failed> {
        // rule: TLOG-6
        self.rates.consistency(caller.address)?;
        let body = parse(request)?;
        let busy = |_| Refused::stranger(Refusal::Busy, "too many ask for consistency");
        let turn = Arc::clone(&self.proving).acquire_owned();
        let turn = tokio::time::timeout(TURN, turn).await.map_err(|_| ());
        let turn = turn.and_then(|turn| turn.map_err(|_| ())).map_err(busy)?;
        let log = self.audit.log().clone();
        let proven = tokio::task::spawn_blocking(move || {
            let proven = guard::consistency(&log, &body);
            drop(turn);
            proven
        });
        let proven = proven
            .await
            .map_err(|error| Refused::stranger(Refusal::Internal, error))?;
        match proven {
            Ok(answer) => Ok(Answer::done(Verb::Consistency, &answer)),
            Err(error) => {
                let refused = Refused::stranger(error.refusal(), &error);
                if let NotConsistent::Contradicted(what) = error {
                    self.contradicted(*what, caller.address).await?;
                }
                Err(refused.into())
            }
        }
    }
}
