//! The inbox: statements that wait for more signatures (PRO-1 to PRO-4). It is a convenience: what
//! authorises is the statement, wherever it travelled.

use ticket_format::Refusal;
use ticket_format::ids::StatementId;
use ticket_format::statement::proposals::PROPOSAL;
use ticket_format::statement::{
    Admin, AdminRole, AdminSet, Nothing, ProposalPage, ProposalRow, ProposalView, ProposalWithdraw,
    Propose, ReceivedStatement, StatementRefusal,
};
use ticket_format::time::Timestamp;

use super::policies::PART;
use super::{Done, Opened};
use crate::Refused;
use crate::realm::Realm;
use crate::state::{Changes, PROPOSALS, Proposals, Proposed, UsedStatement, keys};

/// Most proposals that one admin may leave.
pub const OF_ONE: usize = 16;
/// How long a proposal is kept at most, in seconds.
pub const KEPT: u64 = 86_400;

/// A proposal as it stands by the set in force: with the signatures that count today.
#[derive(Debug)]
pub struct Standing {
    /// For people.
    pub row: ProposalRow,
    /// The statement.
    pub statement: Vec<u8>,
}

/// Looks at a proposal by this set: a removed admin's signature is dropped. None: no signature is left,
/// or none of its signers has a say in the act any more.
#[must_use]
pub fn standing(proposed: &Proposed, statement: &[u8], set: &AdminSet) -> Option<Standing> {
    // rule: PRO-2, SET-2
    let received = ReceivedStatement::parse(statement).ok()?;
    let (statement, signers) = received.retained(set)?;
    let row = row(&received, &signers, set, proposed.until)?;
    Some(Standing { row, statement })
}

fn row(
    received: &ReceivedStatement,
    signers: &[Admin],
    set: &AdminSet,
    until: Timestamp,
) -> Option<ProposalRow> {
    let payload = received.payload();
    Some(ProposalRow {
        id: payload.id,
        act: payload.act,
        audience: payload.audience,
        signers: signers.iter().map(|admin| admin.name.clone()).collect(),
        counting: Some(set.counting(payload.act, signers)).filter(|counting| *counting > 0)?,
        needed: set.quorum(payload.act)?,
        until,
    })
}

/// What stood in the inbox when a statement came.
#[derive(Debug)]
pub struct Inbox {
    /// All that wait.
    pub all: Proposals,
    /// The statement that stands there under the same id.
    pub same: Option<Vec<u8>>,
    /// The use of that id at this broker.
    pub used: Option<UsedStatement>,
}

/// Reads what is proposed; nothing of it is believed.
///
/// # Errors
/// Refusal 70.
pub fn read(opened: &Opened, body: &Propose) -> Result<ReceivedStatement, Refused> {
    ReceivedStatement::parse(&body.statement)
        .map_err(|error| opened.refuse(error.refusal(), format!("the proposal: {error}")))
}

/// Leaves a statement in the inbox, or joins its signatures to those that stand there.
///
/// # Errors
/// Refusals 4, 70 to 75, 77 and 78.
pub fn propose(
    opened: &Opened,
    body: &Propose,
    received: &ReceivedStatement,
    mut inbox: Inbox,
    realm: &Realm,
    now: Timestamp,
    mut changes: Changes,
) -> Result<Done, Refused> {
    let of =
        |error: StatementRefusal| opened.refuse(error.refusal(), format!("the proposal: {error}"));
    let set = opened.set();
    let payload = received.payload();
    let (id, act) = (payload.id, payload.act);
    if payload.realm != realm.name {
        return Err(of(StatementRefusal::Realm));
    }
    if now >= payload.expires {
        return Err(of(StatementRefusal::Expired));
    }
    // rule: PRO-1
    match set.quorum(act) {
        None => return Err(of(StatementRefusal::NoQuorum(act))),
        Some(needed) if needed < 2 || act.only_reads() || act.is_inbox() => {
            let why = format!("{act} needs one signature: send the statement itself");
            return Err(opened.refuse(Refusal::Invalid, why));
        }
        Some(_) => {}
    }
    if inbox.used.is_some() {
        let why = "the proposal: its statement was used already";
        return Err(opened.refuse(Refusal::StatementReplayed, why));
    }
    // rule: PRO-2
    let signers = received.signed_by(set).map_err(of)?;
    if set.counting(act, &signers) == 0 {
        let why = format!("no signer of the proposal may sign {act}");
        return Err(opened.refuse(Refusal::Quorum, why));
    }
    let standing = inbox.same.as_deref().and_then(|bytes| {
        ReceivedStatement::parse(bytes)
            .ok()
            .map(|earlier| (earlier.payload() == payload, earlier))
    });
    let (statement, by, left) = match (&standing, inbox.all.get(id)) {
        (Some((false, _)), _) => {
            let why = "another statement with this id waits here";
            return Err(opened.refuse(Refusal::Exists, why));
        }
        (Some((true, earlier)), Some(proposed)) => {
            let kept = earlier.retained(set).map(|(bytes, _)| bytes);
            let joined = match kept.as_deref().map(ReceivedStatement::parse) {
                Some(Ok(kept)) => kept.join(received).map_err(of)?,
                // None of its signatures counts any more.
                _ => body.statement.clone(),
            };
            (joined, proposed.by, proposed.until)
        }
        _ => {
            let by = opened.signer()?;
            let of_one = inbox.all.rows.iter().filter(|row| row.by == by).count();
            if inbox.all.rows.len() >= PROPOSALS || of_one >= OF_ONE {
                let why = format!(
                    "the inbox holds {PROPOSALS} proposals, {OF_ONE} of one admin: withdraw some, or send the statement as a file"
                );
                return Err(opened.refuse(Refusal::Busy, why));
            }
            let until = payload.expires.min(now.plus(KEPT));
            (body.statement.clone(), by, until)
        }
    };
    if statement.len() > PROPOSAL {
        let why = "the proposal with all its signatures is too long for the inbox";
        return Err(opened.refuse(Refusal::TooLarge, why));
    }
    let parts = statement.chunks(PART);
    let proposed = Proposed {
        id,
        by,
        until: left,
        parts: parts.len() as u64,
    };
    drop_parts(inbox.all.get(id), parts.len(), &mut changes);
    for (number, part) in parts.enumerate() {
        let key = keys::proposal_part(id, number);
        changes.puts.push((key, part.to_vec()));
    }
    let Some(standing) = self::standing(&proposed, &statement, set) else {
        return Err(opened.refuse(Refusal::Quorum, "no signature of the proposal counts"));
    };
    inbox.all.put(proposed);
    changes.put(keys::PROPOSALS.to_owned(), &inbox.all);
    Ok(Done::new::<Propose>(changes, &standing.row))
}

/// Removes the parts of a proposal beyond the first `kept`.
fn drop_parts(proposed: Option<&Proposed>, kept: usize, changes: &mut Changes) {
    let Some(proposed) = proposed else {
        return;
    };
    let parts = usize::try_from(proposed.parts).unwrap_or_default();
    changes
        .deletes
        .extend((kept..parts).map(|part| keys::proposal_part(proposed.id, part)));
}

/// Takes proposals out of the inbox, among other changes.
pub fn forget(all: &mut Proposals, ids: &[StatementId], changes: &mut Changes) {
    // rule: PRO-2
    let mut gone = false;
    for id in ids {
        if let Some(proposed) = all.take(*id) {
            drop_parts(Some(&proposed), 0, changes);
            gone = true;
        }
    }
    if gone {
        changes.put(keys::PROPOSALS.to_owned(), &*all);
    }
}

/// Withdraws a proposal: one who signed it may, and security.
///
/// # Errors
/// Refusals 76 and 78.
pub fn withdraw(
    opened: &Opened,
    body: &ProposalWithdraw,
    mut all: Proposals,
    standing: Option<&Standing>,
    mut changes: Changes,
) -> Result<Done, Refused> {
    let Some(proposed) = all.get(body.id) else {
        return Err(missing(opened, body.id));
    };
    // rule: PRO-4
    let may = opened.statement().signers().iter().any(|admin| {
        let signed = standing.is_some_and(|standing| standing.row.signers.contains(&admin.name));
        signed || proposed.by == admin.key || admin.roles.contains(&AdminRole::Security)
    });
    if !may {
        let why = "a proposal is withdrawn by one who signed it, or by security";
        return Err(opened.refuse(Refusal::Quorum, why));
    }
    forget(&mut all, &[body.id], &mut changes);
    Ok(Done::new::<ProposalWithdraw>(changes, &Nothing {}))
}

/// One proposal, whole.
///
/// # Errors
/// Refusal 76.
pub fn view(
    opened: &Opened,
    id: StatementId,
    standing: Option<Standing>,
) -> Result<ProposalView, Refused> {
    let standing = standing.ok_or_else(|| missing(opened, id))?;
    Ok(ProposalView {
        row: standing.row,
        statement: standing.statement,
    })
}

/// The proposals after a row, at most so many.
#[must_use]
pub fn page(standing: Vec<Standing>, after: &str, most: usize) -> ProposalPage {
    let mut rows = standing.into_iter().map(|standing| standing.row);
    let mut rest = rows
        .by_ref()
        .filter(|row| row.id.to_string().as_str() > after);
    let page: Vec<ProposalRow> = rest.by_ref().take(most).collect();
    ProposalPage {
        more: rest.next().is_some(),
        rows: page,
    }
}

fn missing(opened: &Opened, id: StatementId) -> Refused {
    opened.refuse(Refusal::NotFound, format!("no proposal {id} waits here"))
}
