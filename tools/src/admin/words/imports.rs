//! Acts that bring KEK material to a key server and take it elsewhere, in words.

use ticket_format::ids::ProofHash;
use ticket_format::report::Report;
use ticket_format::statement::{
    ImportBegin, ImportHow, KekExport, KekImport, KekRow, KekState, ShareHolder,
};

use super::stale;
use super::vault::{one, stands};

pub(super) fn begin(body: &ImportBegin) -> String {
    format!(
        "has the key server make the keys that material for dataset {:?} is wrapped to; keys that were made before for it are void",
        body.name
    )
}

/// What an import brings, by the statement alone.
pub(super) fn import(body: &KekImport) -> Vec<String> {
    // rule: IMP-2, PRO-3
    let how = match body.how {
        ImportHow::Hpke => "HPKE to its X-Wing key",
        ImportHow::RsaOaep => "RSA-OAEP to its RSA key, which a quantum computer will open",
    };
    let until = body
        .expiry
        .map_or_else(|| "for good".to_owned(), |time| format!("until {time}"));
    vec![
        format!(
            "makes the next KEK version of dataset {:?} OF MATERIAL FROM ELSEWHERE, usable {until}; it follows the one with id {}",
            body.name, body.replaces
        ),
        format!(
            "the material has SHA-256 {}, came in import {}, and is wrapped by {how}",
            ProofHash(body.commitment),
            body.import
        ),
        "whoever brought it opens everything under that version without the key server: no policy, denial or record stands before him".to_owned(),
    ]
}

/// What an import would make of the versions that stand.
///
/// # Errors
/// Another version is the newest.
pub(super) fn imported(body: &KekImport, rows: &[KekRow]) -> Result<Vec<String>, Report> {
    // rule: IMP-2, IMP-3, ADM-5
    let newest = rows.first().filter(|row| row.kek == body.replaces);
    let newest = newest.ok_or_else(|| stale("KEK version"))?;
    let same = rows.iter().find(|row| {
        let of = row.provenance.as_ref();
        of.is_some_and(|of| of.commitment == body.commitment)
    });
    let becomes = match (same, newest.state) {
        (Some(same), _) => format!(
            "VERSION {} is of the same material: it is renewed, and no version is made",
            same.version
        ),
        (None, state) => {
            let old = match state {
                KekState::Enabled => KekState::DecryptOnly,
                state => state,
            };
            format!(
                "version {} is enabled then, and version {} {old}",
                newest.version + 1,
                newest.version
            )
        }
    };
    Ok(vec![stands(newest), becomes])
}

/// Who gets what, by the statement alone.
pub(super) fn export(body: &KekExport) -> Vec<String> {
    // rule: IMP-4, PRO-3
    let mut lines = vec![format!(
        "GIVES OUT the key material of the KEK version of dataset {:?} with id {}: {} of {} recipients open together EVERYTHING under it, without the key server, for ever",
        body.name,
        body.kek,
        body.threshold,
        body.holders.len()
    )];
    let held = |holder: &ShareHolder| {
        format!("to {:?}, with share key {}", holder.name, holder.key.hash())
    };
    lines.extend(body.holders.iter().map(held));
    lines
}

/// The version that would be given out.
///
/// # Errors
/// The dataset has no such version.
pub(super) fn exported(body: &KekExport, rows: &[KekRow]) -> Result<Vec<String>, Report> {
    // rule: IMP-4
    Ok(vec![stands(one(rows, body.kek)?.0)])
}

#[cfg(test)]
mod tests {
    use ticket_format::ids::{ImportId, KekId, StatementDigest};
    use ticket_format::report::exit;
    use ticket_format::seal::{Kem, SealingSecret};
    use ticket_format::secret::SealingSeed;
    use ticket_format::statement::{KekOrigin, Provenance};
    use ticket_format::time::Timestamp;

    use super::*;

    fn body() -> KekImport {
        KekImport {
            name: "maps".to_owned(),
            import: ImportId([5; 16]),
            how: ImportHow::RsaOaep,
            wrapped: vec![1; 512],
            replaces: KekId([1; 16]),
            expiry: Some(Timestamp::from_seconds(86_400)),
            commitment: [7; 32],
        }
    }

    fn row(commitment: [u8; 32]) -> KekRow {
        KekRow {
            kek: KekId([1; 16]),
            version: 3,
            state: KekState::Enabled,
            origin: KekOrigin::Imported,
            created: Timestamp::from_seconds(1),
            public_key: None,
            wraps: 0,
            dependants: [0; 32],
            last_used: None,
            destroyed: None,
            since: None,
            provenance: Some(Provenance {
                how: ImportHow::Hpke,
                statement: StatementDigest([2; 32]),
                commitment,
            }),
            expiry: None,
        }
    }

    #[test]
    fn who_signs_an_import_reads_which_key_comes_how_and_for_how_long() {
        // rule: IMP-2, PRO-3
        let said = import(&body()).join("\n");
        assert!(said.contains(&"07".repeat(32)), "{said}");
        assert!(
            said.contains("RSA-OAEP") && said.contains("until 1970-01-02"),
            "{said}"
        );
        let made = imported(&body(), &[row([8; 32])]).unwrap().join("\n");
        assert!(
            made.contains("version 4 is enabled then, and version 3 decrypt-only"),
            "{made}"
        );
        let renewed = imported(&body(), &[row([7; 32])]).unwrap().join("\n");
        assert!(
            renewed.contains("VERSION 3 is of the same material"),
            "{renewed}"
        );
        let other = KekImport {
            replaces: KekId([2; 16]),
            ..body()
        };
        let refused = imported(&other, &[row([8; 32])]).unwrap_err();
        assert_eq!(refused.exit, exit::CONFLICT);
    }

    #[test]
    fn who_signs_an_export_reads_who_opens_everything() {
        // rule: IMP-4, PRO-3
        let key = SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([1; 32])).public();
        let export = KekExport {
            name: "maps".to_owned(),
            kek: KekId([1; 16]),
            threshold: 1,
            holders: vec![ShareHolder {
                name: "zoe".to_owned(),
                key: key.clone(),
            }],
        };
        let said = super::export(&export).join("\n");
        assert!(
            said.contains("GIVES OUT") && said.contains("EVERYTHING"),
            "{said}"
        );
        assert!(
            said.contains(&format!("to \"zoe\", with share key {}", key.hash())),
            "{said}"
        );
        assert!(exported(&export, &[row([7; 32])]).is_ok());
        let unknown = KekExport {
            kek: KekId([9; 16]),
            ..export
        };
        assert_eq!(
            exported(&unknown, &[row([7; 32])]).unwrap_err().exit,
            exit::NOT_FOUND
        );
    }
}
