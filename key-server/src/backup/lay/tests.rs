//! Bodies that are sealed under the right key and hold what no key server wrote: as who has the root key, or
//! a fault, could make them.

use std::io::Write as _;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use store::root::{Holders, Means, Place};
use ticket_format::ids::{BackupId, RootId};
use ticket_format::keys::TlsSecret;
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::secret::SealingSeed;
use ticket_format::statement::{Role, ShareHolder};
use ticket_format::time::Timestamp;
use ticket_format::tlog::{Checkpoint, Origin, ShardName};

use super::*;
use crate::backup::seal::Sealer;

const REALM: &str = "example.org";

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// A root key and what a backup of its server says of itself.
struct Rig {
    dir: tempfile::TempDir,
    means: Means,
    root: RootKey,
    header: Header,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credential = dir.path().join("credential");
        files::create_private(&credential, &[7; 32]).unwrap();
        let means = Means::Credential(credential);
        let server = TlsSecret::from_seed(&[1; 32]).public();
        let place = Place {
            realm: REALM.into(),
            server,
        };
        let holders = [2, 3].map(|seed| {
            let seed = SealingSeed::from_bytes([seed; 32]);
            ShareHolder {
                name: "holder".to_owned(),
                key: SealingSecret::from_seed(Kem::XWing, seed).public(),
            }
        });
        let [first, mut second] = holders;
        second.name = "another".to_owned();
        let holders = Holders::new(2, vec![first, second]).unwrap();
        let roots = RootDir::at(&dir.path().join("data"));
        let (ways, root) = roots.create(&place, &means, &holders, &mut rng()).unwrap();
        let kept = ways.kept();
        let log = Checkpoint {
            shard: ShardName {
                origin: Origin::new(REALM, Role::KeyServer, &server),
                number: 1,
            },
            size: 0,
            root: [0; 32],
        };
        let header = Header {
            format: 1,
            id: BackupId([1; 16]),
            realm: REALM.to_owned(),
            server,
            made: Timestamp::from_seconds(1),
            root: ways.root(),
            auto: kept.auto,
            shares: kept.shares,
            datasets: 0,
            keks: 0,
            entries: 0,
            log,
            revision: 0,
            left_out: Vec::new(),
        };
        Self {
            dir,
            means,
            root,
            header,
        }
    }

    /// A file with this header and these frames.
    fn file(&self, header: &Header, frames: &[Frame]) -> PathBuf {
        let out = Vec::new();
        let mut body = Sealer::begin(out, header.clone(), &self.root, rng()).unwrap();
        for frame in frames {
            frame.write(&mut body).unwrap();
        }
        let (bytes, ..) = body.finish().unwrap();
        let path = self.dir.path().join("backup");
        let mut file = File::create(&path).unwrap();
        file.write_all(&bytes).unwrap();
        path
    }

    fn laid_of(&self, header: &Header, frames: &[Frame]) -> Result<Laid, BackupError> {
        let path = self.file(header, frames);
        let to = self.dir.path().join("to");
        files::erase_dir(&to).unwrap();
        let means = self.means.clone();
        lay(&path, &to, |ways| ways.open_auto(&means), &mut |_| Ok(()))
    }

    fn laid(&self, frames: &[Frame]) -> Result<Laid, BackupError> {
        self.laid_of(&self.header, frames)
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// An empty store, and one file of this name.
fn with(name: &str) -> Vec<Frame> {
    vec![
        Frame::StoreEnd(0),
        Frame::File(name.to_owned()),
        Frame::Piece(b"x".to_vec()),
        Frame::FileEnd(digest(b"x")),
        Frame::End(1),
    ]
}

#[test]
fn a_file_goes_where_a_key_server_has_one_of_its_name_and_nowhere_else() {
    // rule: BAK-3
    let rig = Rig::new();
    for name in ["keys/tls", "kek/ab/cd", "audit/1/journal", DOOR, SIDE] {
        let laid = rig.laid(&with(name));
        let laid = laid.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(laid.files.get(name), Some(&digest(b"x")));
    }
    let wrong = [
        "../outside",
        "keys/../../outside",
        "keys/..",
        "keys/",
        "keys/TLS",
        "keys/a/b",
        "kek/../../x/y",
        "kek/a",
        "kek/a/b/c",
        "/etc/outside",
        "audit/../journal",
        "audit/1/../../outside",
        "audit/1/tile",
        "audit/+1/journal",
        "root/1/auto",
        STORE,
        "store.redb.restoring",
    ];
    for name in wrong {
        let error = rig.laid(&with(name)).map(drop).unwrap_err();
        assert!(matches!(error, BackupError::Shape(_)), "{name}: {error}");
    }
    let here: Vec<_> = std::fs::read_dir(rig.dir.path()).unwrap().collect();
    assert_eq!(here.len(), 4, "credential, data, backup and to: {here:?}");
}

#[test]
fn what_is_sealed_and_is_no_backup_is_refused() {
    // rule: BAK-3
    let rig = Rig::new();
    let good = with("keys/tls");
    rig.laid(&good).unwrap();
    let edited = |edit: &dyn Fn(&mut Vec<Frame>)| {
        let mut frames = good.clone();
        edit(&mut frames);
        rig.laid(&frames).map(drop).unwrap_err()
    };
    let entry = Frame::Entry {
        key: b"a".to_vec(),
        value: b"b".to_vec(),
        revision: 1,
    };
    let shape = |error: BackupError| {
        assert!(matches!(error, BackupError::Shape(_)), "{error}");
    };
    // Counts that are others, of the store and of files.
    let error = edited(&|frames| frames[0] = Frame::StoreEnd(1));
    assert!(error.to_string().contains("store belongs"), "{error}");
    shape(edited(&|frames| frames[4] = Frame::End(2)));
    // One file twice, and one that stands there.
    let twice = edited(&|frames| {
        let again: Vec<_> = frames[1..4].to_vec();
        frames.splice(4..4, again);
        frames[7] = Frame::End(2);
    });
    assert!(
        matches!(twice, BackupError::Shape(_) | BackupError::Io { .. }),
        "{twice}"
    );
    // Another file than its digest says.
    let error = edited(&|frames| frames[3] = Frame::FileEnd([0; 32]));
    assert!(matches!(error, BackupError::Content(_)), "{error}");
    // Frames in other places, or none.
    shape(edited(&|frames| frames.insert(4, entry.clone())));
    shape(edited(&|frames| frames.insert(3, Frame::End(1))));
    shape(edited(&|frames| frames.push(Frame::End(1))));
    shape(edited(&|frames| frames.truncate(4)));
    shape(edited(&|frames| frames.truncate(0)));
    // Wraps of another root key than the header says.
    let other = Header {
        root: RootId([9; 16]),
        ..rig.header.clone()
    };
    let error = rig.laid_of(&other, &good).map(drop).unwrap_err();
    assert!(error.to_string().contains("another root key"), "{error}");
}
