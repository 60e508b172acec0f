//! Alias (`spec/protocol.md`, section 6): a node asks which dataset an alias names.

use ticket_format::Refusal;
use ticket_format::cbor::Decode;
use ticket_format::labels::ALIAS_REQUEST;
use ticket_format::limits;
use ticket_format::messages::alias::{AliasAnswer, AliasBody};
use ticket_format::messages::{Answer, RequestView, Verb};
use ticket_format::time::Timestamp;

use crate::Refused;
use crate::realm::{Caller, Realm};
use crate::state::AliasEntry;
use crate::watch::{Denied, Held};

/// A question by the holder of a live node ticket.
#[derive(Debug)]
pub struct Asked {
    /// The ticket.
    pub held: Held,
    /// The alias.
    pub alias: String,
}

/// Reads the question.
///
/// # Errors
/// Refusals 1, 30 to 36.
pub fn ask(
    request: &RequestView<'_>,
    realm: &Realm,
    caller: &Caller,
    now: Timestamp,
) -> Result<Asked, Refused> {
    let body = AliasBody::from_cbor(request.body, limits::SMALL_MESSAGE)
        .map_err(|error| Refused::stranger(Refusal::Malformed, error))?;
    // rule: ALI-2
    let held = Held::open(request, ALIAS_REQUEST, &body.ticket, realm, caller, now)?;
    Ok(Asked {
        held,
        alias: body.alias,
    })
}

impl Asked {
    /// The answer: what the owners signed.
    ///
    /// # Errors
    /// Refusals 14 and 41.
    pub fn answer(&self, entry: Option<&AliasEntry>, denied: &Denied) -> Result<Answer, Refused> {
        // rule: ALI-2
        if let Some(reason) = denied {
            return Err(self
                .held
                .refused(Refusal::Denied, &format!("denied: {reason}")));
        }
        match entry.filter(|entry| entry.body.target.is_some()) {
            Some(entry) => {
                let statement = entry.statement.clone();
                Ok(Answer::done(Verb::Alias, &AliasAnswer { statement }))
            }
            None => {
                let why = format!("there is no dataset and no alias {:?}", self.alias);
                Err(self.held.refused(Refusal::DatasetUnknown, &why))
            }
        }
    }
}
