//! Logins and renewals.

use broker::state::FeedHead;
use broker::{login, renew};
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::ids::ProofHash;
use ticket_format::iid;
use ticket_format::messages::Verb;
use ticket_format::messages::login::LoginBody;
use ticket_format::messages::renew::RenewBody;
use ticket_format::{labels, limits};

use super::{asked, frozen, node_ticket, not_forged, recorded, refused, signed_request};
use crate::mutate::Form;
use crate::rng::Chance;
use crate::targets::{DECIDES, Target};
use crate::vectors;
use crate::world::{World, fresh, world};

/// A login.
pub const LOGIN: Target = Target {
    name: "login",
    form: Form::Cbor,
    runs: 6_000,
    room: DECIDES,
    seeds: || {
        vec![
            vectors::bytes("exchange/login", "request"),
            vectors::bytes("exchange/login", "body"),
        ]
    },
    run: login,
};

fn login(data: &[u8]) {
    log_in(data, false);
    let Ok(mut body) = LoginBody::from_cbor(data, limits::SMALL_MESSAGE) else {
        return;
    };
    log_in(&signed_login(data), true);
    // With what no bending keeps in order put in order again.
    let keys = &world().keys;
    (body.node_key, body.proof_key) = (keys.node.public(), keys.node_proof.public());
    if let Ok(document) = iid::verify(&body.iid_proof, &world().realm.regions) {
        let signed = body.evidence(ProofHash(*document.proof_hash()));
        body.evidence = signed.sign(&keys.launch, &world().realm.name, &world().realm.tls);
        log_in(&signed_login(&body.to_cbor()), true);
    }
}

fn signed_login(body: &[u8]) -> Vec<u8> {
    let (keys, channel, label) = (&world().keys, world().to_broker(), labels::LOGIN_REQUEST);
    let proofs = [
        channel.sign_with(&keys.launch, label, None, body),
        channel.sign_with(&keys.node, label, None, body),
        channel.sign_with(&keys.node_proof, label, None, body),
    ];
    signed_request(Verb::Login, body, &proofs)
}

fn log_in(data: &[u8], ours: bool) {
    let world = world();
    let Some(request) = asked(data, Verb::Login) else {
        return;
    };
    let identified = login::parse(&request).and_then(|asked| {
        let launch = (asked.launch() == world.launch.terms.launch).then_some(&world.launch);
        let proven = login::authenticate(asked, launch, &world.realm, &world.caller)?;
        not_forged(data, ours);
        login::identify(proven, &world.realm)
    });
    let login = match identified {
        Ok(login) => login,
        Err(error) => return refused(&error),
    };
    for view in login_views(world) {
        let ends = world.now.plus(view.launch.terms.node_life);
        let decision = login::decide(
            &login,
            view,
            &world.realm,
            &world.caller,
            world.now,
            &mut Chance::new(3),
        );
        recorded(&decision.changes);
        match &decision.result {
            Ok(ticket) => {
                let claims = node_ticket(ticket, world, ends);
                // rule: TKT-2 — nobody is let in as somebody else.
                assert_eq!(claims.common.node(), login.node());
                assert_eq!(claims.node_key, login.body().node_key);
            }
            Err(error) => {
                refused(error);
                assert!(error.proven);
            }
        }
    }
}

/// Nobody was here; this node was; it is frozen; all uses are claimed; a denial hits it; the launch is closed.
fn login_views(world: &World) -> Vec<login::View> {
    let base = || fresh(&world.launch);
    let node = || login::View {
        node: Some(world.node.clone()),
        used_by_node: true,
        ..base()
    };
    let frozen = || login::View {
        node: Some(frozen(world)),
        ..node()
    };
    let mut used = base();
    used.launch.used = used.launch.terms.uses;
    let denied = login::View {
        denied: Some("stolen".to_owned()),
        ..base()
    };
    let mut closed = base();
    closed.launch.closed = Some(world.now);
    vec![base(), node(), frozen(), used, denied, closed]
}

/// A renewal.
pub const RENEW: Target = Target {
    name: "renew",
    form: Form::Cbor,
    runs: 8_000,
    room: DECIDES,
    seeds: || {
        vec![
            vectors::bytes("exchange/renew", "request"),
            vectors::bytes("exchange/renew", "body"),
        ]
    },
    run: renewal,
};

fn renewal(data: &[u8]) {
    renew_with(data, false);
    let Ok(mut body) = RenewBody::from_cbor(data, limits::SMALL_MESSAGE) else {
        return;
    };
    renew_with(&signed_renewal(data), true);
    let keys = &world().keys;
    (body.old_key, body.new_key, body.proof_key) = (
        keys.node.public(),
        keys.next_node.public(),
        keys.node_proof.public(),
    );
    body.evidence = body
        .evidence()
        .sign(&keys.node, &world().realm.name, &world().realm.tls);
    renew_with(&signed_renewal(&body.to_cbor()), true);
}

fn signed_renewal(body: &[u8]) -> Vec<u8> {
    let (keys, channel, label) = (&world().keys, world().to_broker(), labels::RENEW_REQUEST);
    let proofs = [
        channel.sign_with(&keys.node, label, None, body),
        channel.sign_with(&keys.next_node, label, None, body),
        channel.sign_with(&keys.node_proof, label, None, body),
    ];
    signed_request(Verb::Renew, body, &proofs)
}

fn renew_with(data: &[u8], ours: bool) {
    let world = world();
    let Some(request) = asked(data, Verb::Renew) else {
        return;
    };
    let verified =
        renew::parse(&request).and_then(|asked| renew::verify(asked, &world.realm, &world.caller));
    let renewal = match verified {
        Ok(renewal) => renewal,
        Err(error) => return refused(&error),
    };
    not_forged(data, ours);
    let body = renewal.body();
    let known = body.node == world.node.attributes.node;
    let mut other = world.node.clone();
    other.current = world.keys.next_node.public();
    for node in [world.node.clone(), frozen(world), other] {
        let view = renew::View {
            node: known.then(|| node.clone()),
            old_key: world.key_use(body.old_key.thumbprint()),
            new_key: world.key_use(body.new_key.thumbprint()),
            proof_key: None,
            head: FeedHead::START,
            denied: None,
        };
        match renew::decide(
            &renewal,
            view,
            &world.realm,
            &world.caller,
            world.now,
            &mut Chance::new(4),
        ) {
            Ok(decision) => {
                recorded(&decision.changes);
                match &decision.result {
                    Ok(ticket) => {
                        let claims = node_ticket(ticket, world, node.claim.life_ends);
                        assert_eq!(
                            (claims.common.node(), claims.node_key),
                            (&body.node, body.new_key)
                        );
                        // rule: REN-2 — from the current key only.
                        assert_eq!(body.old_key, node.current);
                    }
                    Err(error) => refused(error),
                }
            }
            Err(error) => refused(&error),
        }
    }
}
