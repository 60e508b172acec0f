//! Backups: the body and the result of each act, the file's header, and what logs say of them.

use ticket_format::backup::{Beginning, FILE_KEY, Header};
use ticket_format::cbor::Encode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, BackupId, RootId};
use ticket_format::statement::{
    BackupBegin, BackupMade, BackupPart, BackupPiece, Restore, SEALED_SHARE, ShareGive,
    SharePurpose,
};
use ticket_format::tlog::{Checkpoint, Origin};

use super::case::Case;
use super::statements::item;
use super::world::{ACT, REALM, World, at};

const BACKUP: BackupId = BackupId([0x61; 16]);
const DIGEST: [u8; 32] = [0x62; 32];

pub(super) fn cases(world: &World) -> Vec<Case> {
    vec![acts(world), file(world)]
}

fn stood(world: &World) -> Checkpoint {
    let server = world.server_tls.public();
    let origin = Origin::new(REALM, ticket_format::statement::Role::KeyServer, &server);
    Checkpoint {
        shard: origin.shard(1),
        size: 9,
        root: [0x63; 32],
    }
}

fn acts(world: &World) -> Case {
    let made = BackupMade {
        id: BACKUP,
        size: 1_048_577,
        parts: 2,
        digest: DIGEST,
    };
    let part = BackupPart {
        id: BACKUP,
        number: 1,
    };
    let restore = Restore {
        id: BACKUP,
        digest: DIGEST,
        reason: "the machine is gone".into(),
    };
    let give = ShareGive {
        attempt: ticket_format::ids::AttemptId([0x64; 16]),
        purpose: SharePurpose::Restore,
        number: 1,
        sealed: vec![0x65; SEALED_SHARE],
    };
    let backed_up = Entry::new(ActId(BACKUP.0), Kind::Backup, at(0))
        .follows(ACT)
        .signers(["security".to_owned()])
        .count(made.size)
        .proof(DIGEST);
    let restored = Entry::new(ACT, Kind::Backup, at(0))
        .proof(DIGEST)
        .log(stood(world));
    let case = Case::new(
        "statement/backups",
        "BAK-1, BAK-2, BAK-4: the body and the result of each act on backups, by their rules' names, a share that is given for one, and what the log says of one that was made and of one that was put back.",
    )
    .input("keys", "world.json")
    .gives("backup-begin", BackupBegin {}.to_cbor());
    let case = item(case, "backup-made", &made);
    let case = item(case, "backup-part", &part);
    let case = item(case, "backup-piece", &BackupPiece { bytes: vec![0] });
    let case = item(case, "restore", &restore);
    item(case, "share-give", &give)
        .gives_item("made", "entry", backed_up.to_cbor())
        .gives_item("restored", "entry", restored.to_cbor())
}

fn file(world: &World) -> Case {
    let header = Header {
        format: 1,
        id: BACKUP,
        realm: REALM.to_owned(),
        server: world.server_tls.public(),
        made: at(0),
        root: RootId([0x66; 16]),
        auto: vec![0x67; 4],
        shares: vec![0x68; 4],
        datasets: 1,
        keks: 2,
        entries: 9,
        log: stood(world),
        revision: 7,
        left_out: vec!["tiles".to_owned()],
    };
    let beginning = Beginning {
        header: header.clone(),
        file_key: [0x69; FILE_KEY],
    };
    Case::new(
        "audit/backup",
        "BAK-2: the header of a backup, its file up to the first chunk (wraps and sealed file key stand for their lengths alone), and what file key and chunks are sealed for.",
    )
    .input("keys", "world.json")
    .gives_item("header", "backup-header", header.to_cbor())
    .gives("file", beginning.to_bytes())
    .gives("file_key_sealed_for", header.key_path().into_bytes())
    .gives("chunk_sealed_for", header.chunk_path(0, false).into_bytes())
    .gives("last_chunk_sealed_for", header.chunk_path(1, true).into_bytes())
}
