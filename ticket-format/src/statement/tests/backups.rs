//! Acts on backups.

use crate::cbor::{Decode, Encode};
use crate::ids::BackupId;
use crate::messages::mutate::strict;
use crate::statement::{
    Act, AdminRole, BACKUP_PART, BackupBegin, BackupMade, BackupPart, BackupPiece, Restore,
};

fn read<T: Encode + Decode>(body: &T) -> bool {
    T::from_cbor(&body.to_cbor(), 2 * BACKUP_PART).is_ok()
}

#[test]
fn acts_on_backups_hold_to_their_shapes() {
    // rule: ENC-3, BAK-1, BAK-4
    let id = BackupId([4; 16]);
    strict(&BackupBegin {}, &[], &[]);
    let made = BackupMade {
        id,
        size: 3,
        parts: 1,
        digest: [5; 32],
    };
    strict(&made, &[], &[]);
    assert!(!read(&BackupMade { parts: 0, ..made }));
    strict(&BackupPart { id, number: 0 }, &[], &[]);
    strict(&BackupPiece { bytes: vec![6; 3] }, &[], &[]);
    for length in [0, BACKUP_PART + 1] {
        let bytes = vec![6; length];
        assert!(!read(&BackupPiece { bytes }), "a part of {length} bytes");
    }
    let restore = Restore {
        id,
        digest: [5; 32],
        reason: "the machine is gone".into(),
    };
    strict(&restore, &[], &[]);
    for length in [0, 257] {
        let reason = "r".repeat(length);
        assert!(!read(&Restore {
            reason,
            ..restore.clone()
        }));
    }
}

#[test]
fn security_makes_backups_and_two_of_it_put_one_in_place() {
    // rule: SET-1, SET-4, BAK-1, BAK-4
    for act in [Act::BackupBegin, Act::Restore] {
        assert_eq!(act.role(), Some(AdminRole::Security));
        assert!(!act.is_record());
    }
    assert!(Act::BackupPart.only_reads());
    assert_eq!((Act::BackupBegin.floor(), Act::Restore.floor()), (1, 2));
}
