//! Renew: the next node ticket, by the node key alone (`spec/protocol.md`, section 5).

use std::path::Path;

use rand_core::CryptoRng;
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::entry::Kind;
use ticket_format::keys::NodeSecret;
use ticket_format::labels;
use ticket_format::messages::Verb;
use ticket_format::messages::present::Link as EvidenceLink;
use ticket_format::messages::renew::RenewBody;
use ticket_format::seal::Kem;
use ticket_format::sign::{ALG_EDDSA, Proof};
use ticket_format::time::Timestamp;

use crate::chain::Chain;
use crate::error::Error;
use crate::login::{Sent, accept};
use crate::logs::LoggedLink;
use crate::state::NodeState;
use crate::wallet::{NodeSession, SessionSecrets};

/// Renews over an open connection: makes the next node key, writes it down, sends, and puts it in
/// force once the ticket has come. After a lost answer or a crash the next call sends the same next
/// key, which the broker takes for a retry (REN-2).
///
/// # Errors
/// [`Error::NoTicket`] before the first login; the exchange failed, the broker refused, its answer
/// does not hold, or the state cannot be written.
pub async fn renew(
    link: &LoggedLink,
    dir: &Path,
    state: &mut NodeState,
    now: Timestamp,
    rng: &mut impl CryptoRng,
) -> Result<NodeSession, Error> {
    if state.chains.is_empty() {
        return Err(Error::NoTicket("this node has never logged in"));
    }
    link.is_of(&state.pins.log_key)?;
    link.proven().await?;
    if state.next.is_none() {
        state.next = Some(NodeSecret::generate(rng));
        // rule: REN-1
        state.save(dir)?;
    }
    let mut failure = Error::NoTicket("this node has never logged in");
    // More than one only after logins without an answer: which of them the broker knows, it says.
    for chain in state.chains.clone().into_iter().rev() {
        match renew_from(link, state, &chain, now, rng).await {
            Ok((session, renewed, launch)) => {
                if let Some(next) = state.next.take() {
                    state.key = next;
                }
                // rule: EVD-3
                state.chains = vec![renewed];
                state.launch_statement = Some(launch);
                state.known = true;
                state.save(dir)?;
                return Ok(session);
            }
            Err(error) if error.refusal() == Some(Refusal::NotAuthenticated) => failure = error,
            Err(error) => return Err(error),
        }
    }
    Err(failure)
}

async fn renew_from(
    logged: &LoggedLink,
    state: &mut NodeState,
    chain: &Chain,
    now: Timestamp,
    rng: &mut impl CryptoRng,
) -> Result<(NodeSession, Chain, Vec<u8>), Error> {
    let next = state
        .next
        .as_ref()
        .ok_or(Error::NoTicket("the next node key is missing"))?;
    let next_public = next.public();
    let link = logged.link();
    let secrets = SessionSecrets::generate(Kem::XWing, rng);
    let mut body = RenewBody {
        node: state.node.clone(),
        old_key: state.key.public(),
        new_key: next_public,
        proof_key: secrets.proof.public(),
        sealing_key: secrets.sealing.public(),
        chain: chain.end,
        evidence: Proof {
            alg: ALG_EDDSA,
            value: vec![0],
        },
    };
    // rule: REN-6
    let signed = body.evidence();
    let signature = signed.sign(&state.key, &link.channel().realm, &link.channel().server);
    let linked = signed.link(Some(chain.end), &signature);
    let renewed = chain.renewed(
        linked,
        EvidenceLink {
            node_key: signed.new_key,
            proof_key: signed.proof_key,
            sealing_key: signed.sealing_key,
            proof: signature.clone(),
        },
    );
    body.evidence = signature;
    let bytes = body.to_cbor();
    // rule: SIG-3
    let channel = link.channel();
    let proofs = [
        channel.sign_with(&state.key, labels::RENEW_REQUEST, None, &bytes),
        channel.sign_with(next, labels::RENEW_REQUEST, None, &bytes),
        channel.sign_with(&secrets.proof, labels::RENEW_REQUEST, None, &bytes),
    ];
    let (answer, _) = link.call(Verb::Renew, &bytes, &proofs).await?;
    let sent = Sent {
        secrets,
        node_key: next_public,
        chain: linked,
        kind: Kind::Renew,
    };
    let (session, launch) = accept(logged, state, &answer, sent, now).await?;
    Ok((session, renewed, launch))
}
