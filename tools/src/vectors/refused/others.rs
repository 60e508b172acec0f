//! User-data, identity documents, denials.

use ticket_format::Refusal;
use ticket_format::bootstrap::Bootstrap;
use ticket_format::cbor::{Decode, Writer};
use ticket_format::denial::Denial;
use ticket_format::iid::{self, RegionKeys};
use ticket_format::ticket::{self, Audience, DatasetClaims};

use super::super::case::Case;
use super::super::tickets::EVIDENCE;
use super::super::world::{IID_PROOF, NOW, REALM, World};
use super::{malformed, refused};

pub(super) fn cases(world: &World) -> Vec<Case> {
    let user_data = |path: &str, about: &str, text: &str| {
        let got = Bootstrap::find(text.as_bytes())
            .map(|_| ())
            .map_err(|error| (Refusal::Invalid, error.to_string()));
        refused(path, "user-data", about, Refusal::Invalid, got).input("user_data", text)
    };
    let line = world.bootstrap().to_user_data_line();
    let document = |path: &str, about: &str, text: &str| {
        let got = iid::verify(text.as_bytes(), &RegionKeys::built_in());
        let got = got.map(|_| ()).map_err(|error| {
            (
                Refusal::IdentityRefused,
                format!("{}: {error}", error.name()),
            )
        });
        refused(path, "iid", about, Refusal::IdentityRefused, got).input("proof", text)
    };
    let proof: String = IID_PROOF.chars().filter(|c| !c.is_whitespace()).collect();
    let empty = {
        let mut writer = Writer::new();
        writer
            .map(6)
            .int(1)
            .map(0)
            .int(2)
            .text("")
            .int(3)
            .bytes(&[0; 32])
            .int(4)
            .uint(NOW)
            .int(5)
            .uint(NOW + 1)
            .int(6)
            .text("");
        writer.into_bytes()
    };
    let denial = Denial::from_cbor(&empty, 2_048)
        .map(|_| ())
        .map_err(malformed);
    let present = {
        let got = ticket::verify::<DatasetClaims>(
            &ticket::sign(&world.node_claims(EVIDENCE), &world.ticket),
            &world.ticket.public(),
            REALM,
            Audience::KeyServer(world.server_tls.public()),
        );
        let bytes = ticket::sign(&world.node_claims(EVIDENCE), &world.ticket);
        let got = got
            .map(|_| ())
            .map_err(|error| (error.into(), error.to_string()));
        refused(
            "present-node-ticket",
            "dataset-ticket",
            "TKT-3: a node ticket where a dataset ticket is wanted.",
            Refusal::TicketKind,
            got,
        )
        .given("ticket", bytes)
    };
    vec![
        user_data(
            "bootstrap-missing",
            "BOOT-1: no line begins with the marker.",
            "#cloud-config\n",
        ),
        user_data(
            "bootstrap-twice",
            "BOOT-1: two lines begin with the marker.",
            &format!("{0}\n{0}\n", line.as_str()),
        ),
        user_data(
            "bootstrap-padded",
            "BOOT-1: base64url with padding.",
            &format!("{}=\n", line.as_str()),
        ),
        user_data(
            "bootstrap-cut",
            "BOOT-1: the last four characters are missing.",
            line.get(..line.len() - 4).unwrap_or_default(),
        ),
        document(
            "iid-not-base64",
            "IID-1: a character that is none of base64.",
            &format!("!{proof}"),
        ),
        document(
            "iid-cut",
            "IID-2: the last group is missing.",
            proof.get(..proof.len() - 4).unwrap_or_default(),
        ),
        document(
            "iid-signature-only",
            "IID-2: the value of .../signature instead of .../rsa2048.",
            include_str!(
                "../../../../ticket-format/tests/data/aws/iid/metaphor-2026/signature.b64"
            ),
        ),
        document(
            "iid-pkcs7",
            "IID-2: the value of .../pkcs7 instead of .../rsa2048.",
            include_str!("../../../../ticket-format/tests/data/aws/iid/chalk-2023/pkcs7.b64"),
        ),
        refused(
            "denial-empty",
            "denial",
            "DEN-2: a selector without a member would hit everything.",
            Refusal::Malformed,
            denial,
        )
        .given("denial", &empty),
        present,
    ]
}
