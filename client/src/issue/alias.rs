//! What an alias names: the broker says it, and the owners of the dataset bear it out (ALI-2).

use ticket_format::cbor::{Decode, Encode};
use ticket_format::ids::TicketHash;
use ticket_format::messages::Verb;
use ticket_format::messages::alias::{AliasAnswer, AliasBody};
use ticket_format::statement::{
    Act, AliasSet, AliasTarget, BODY, DatasetRecord, ReceivedStatement,
};
use ticket_format::time::Timestamp;
use ticket_format::{labels, limits};

use crate::error::Error;
use crate::logs::LoggedLink;
use crate::state::Pins;
use crate::wallet::NodeSession;

/// What an alias names, as the broker says it, and the statement that must bear it out.
pub(super) struct Alias {
    pub(super) statement: Vec<u8>,
    pub(super) dataset: String,
}

/// Asks the broker what an alias names.
pub(super) async fn ask(
    logged: &LoggedLink,
    node: &NodeSession,
    name: &str,
) -> Result<Alias, Error> {
    let link = logged.link();
    let broker = link.word();
    let body = AliasBody {
        ticket: node.ticket.clone(),
        alias: name.to_owned(),
    }
    .to_cbor();
    let (ticket, proof) = (Some(TicketHash::of(&node.ticket)), &node.secrets.proof);
    let channel = link.channel();
    let proof = channel.sign_with(proof, labels::ALIAS_REQUEST, ticket, &body);
    let (answer, _) = link.call(Verb::Alias, &body, &[proof]).await?;
    let answer =
        AliasAnswer::from_cbor(&answer, limits::SMALL_MESSAGE).map_err(Error::malformed(broker))?;
    // Who signed it is checked with the dataset's record, which names the owners.
    let said = ReceivedStatement::parse(&answer.statement)
        .ok()
        .and_then(|received| AliasSet::from_cbor(&received.payload().body, BODY).ok());
    let target = said.and_then(|said| said.target);
    let target = target.ok_or(Error::answer(
        broker,
        "what it says of the alias is no record of one",
    ))?;
    Ok(Alias {
        statement: answer.statement,
        dataset: target.name,
    })
}

/// The time of the record by which the owners of a dataset have signed that this alias names it.
pub(super) fn names(
    statement: &[u8],
    alias: &str,
    record: &DatasetRecord,
    pins: &Pins,
    now: Timestamp,
) -> Option<Timestamp> {
    // rule: ALI-2
    let verified = ReceivedStatement::parse(statement)
        .and_then(|received| received.verify(&pins.admins, &pins.broker.realm, None, now));
    let target = AliasTarget {
        dataset: record.dataset,
        name: record.name.clone(),
    };
    let need = pins.admins.quorum(Act::AliasSet).unwrap_or(u64::MAX);
    let verified = verified.ok()?;
    verified.by_owners(&record.owners, need).ok()?;
    let said = verified.body::<AliasSet>().ok()?;
    (said.alias == alias && said.target == Some(target)).then(|| verified.not_before())
}

/// Holds an alias to the latest record of it that this node has seen, and remembers this one.
///
/// # Errors
/// It is an earlier one, or names another dataset.
pub(super) fn latest(
    statement: &[u8],
    alias: &str,
    record: &DatasetRecord,
    pins: &mut Pins,
    now: Timestamp,
) -> Result<(), Error> {
    // rule: ALI-2
    let of = names(statement, alias, record, pins, now);
    if of.is_some_and(|of| pins.aliases.take(alias, of)) {
        return Ok(());
    }
    Err(Error::answer(
        pins.broker.word,
        "it says what the alias named before: this node has seen a later record of it",
    ))
}
