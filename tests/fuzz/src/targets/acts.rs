//! What admins sign: statements, the bodies of all acts with their results, and admin sets.

use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::limits;
use ticket_format::statement::{
    Acknowledgement, Admin, AdminSet, AdminSetBody, AdminSetPage, AdminSetShow, AliasPage,
    AliasRow, AliasSet, AliasTarget, BackupMade, BackupPart, BackupPiece, CanarySet, Changed,
    DatasetCreate, DatasetCreated, DatasetPage, DatasetPolicySet, DatasetRecord, DatasetRow,
    DatasetSet, DatasetShow, DatasetView, DenialPage, Denied, DenyBody, DenyList, EntryShow,
    EntryView, Exposed, ExposurePage, ExposureShow, FeedShow, FeedView, ImportBegin, ImportBegun,
    KekDestroy, KekExport, KekExported, KekImport, KekKeep, KekList, KekRotate, KekRow, KekRows,
    KekSet, LaunchClose, LaunchCreate, LaunchPage, LaunchShow, LaunchView, LogRecover, LogView,
    NodePage, NodeShow, NodeUnfreeze, NodeView, Nothing, Payload, PolicySet, PolicyText,
    ProducerAdd, ProducerAdded, ProposalPage, ProposalRow, ProposalShow, ProposalView,
    ProposalWithdraw, Propose, Provenance, ReceivedStatement, Rekey, Restore, RootView, Rotation,
    ShareGive, ShareHolder, ShareRow, StatementRefusal, Status, Subscriber, TicketKeyMade,
    TicketKeyRow, TicketKeyRows, TicketKeySet, TicketShow, TicketView, Undeny, WhatIf, WhatIfPage,
    WitnessRow, Witnessing, WrapList, WrapPage, WrapRow,
};

use super::{
    DECIDES, READS, Target, all_have_one_encoding, items, members, refusal, statement_of_vectors,
};
use crate::mutate::Form;
use crate::world::world;

/// Bodies and results of acts.
pub const ACTS: Target = Target {
    name: "acts",
    form: Form::Cbor,
    runs: 25_000,
    room: READS,
    seeds: items,
    run: acts,
};

fn acts(data: &[u8]) {
    all_have_one_encoding!(data;
        Acknowledgement, Admin, AdminSetBody, AdminSetPage, AdminSetShow, AliasPage, AliasRow, AliasSet, AliasTarget,
        BackupMade, BackupPart, BackupPiece, CanarySet, Changed, DatasetCreate, DatasetCreated, DatasetPage,
        DatasetPolicySet, DatasetRecord, DatasetRow, DatasetSet, DatasetShow, DatasetView, DenialPage, Denied, DenyBody,
        DenyList, EntryShow, EntryView, Exposed, ExposurePage, ExposureShow, FeedShow, FeedView, ImportBegin, ImportBegun,
        KekDestroy, KekExport, KekExported, KekImport, KekKeep, KekList, KekRotate, KekRow, KekRows, KekSet, LaunchClose,
        LaunchCreate, LaunchPage, LaunchShow, LaunchView, LogRecover, LogView, NodePage, NodeShow, NodeUnfreeze,
        NodeView, Nothing, Payload, PolicySet, PolicyText, ProducerAdd, ProducerAdded, ProposalPage, ProposalRow,
        ProposalShow, ProposalView, ProposalWithdraw, Propose, Provenance, Rekey, Restore, RootView, Rotation,
        ShareGive, ShareHolder, ShareRow, Status, Subscriber, TicketKeyMade, TicketKeyRow, TicketKeyRows,
        TicketKeySet, TicketShow, TicketView, Undeny, WhatIf, WhatIfPage, WitnessRow, Witnessing, WrapList, WrapPage,
        WrapRow,
    );
}

/// Statements: as they come, and as admins would sign what comes.
pub const STATEMENT: Target = Target {
    name: "statement",
    form: Form::Cbor,
    runs: 6_000,
    room: DECIDES,
    seeds: || members(&["statement", "payload", "sealed_statement"]),
    run: statement,
};

fn statement(data: &[u8]) {
    let world = world();
    let server = Some(&world.realm.tls);
    match ReceivedStatement::parse(data) {
        Ok(received) => {
            assert!(data.len() <= limits::STATEMENT);
            assert!(
                crate::tree::deterministic(data),
                "a statement is not deterministic"
            );
            // Any of a proposal's signatures that are good are kept, and what is kept is all good.
            if let Some((kept, signers)) = received.retained(&world.set) {
                let kept =
                    ReceivedStatement::parse(&kept).expect("what is kept of a statement is one");
                assert_eq!(kept.signed_by(&world.set), Ok(signers));
            }
            let digest = received.digest();
            match received.verify(&world.set, &world.realm.name, server, world.now) {
                Ok(verified) => {
                    assert_eq!(verified.digest(), digest);
                    assert!(statement_of_vectors(data), "a statement was forged");
                }
                Err(error) => told(error),
            }
        }
        Err(error) => told(error),
    }
    signed(data);
}

fn told(error: StatementRefusal) {
    let told = error.refusal();
    refusal(told, &told.into(), false);
}

/// Whatever a payload says, signed by an operator, an owner and one of security.
fn signed(data: &[u8]) {
    let Ok(payload) = Payload::from_cbor(data, limits::STATEMENT) else {
        return;
    };
    let world = world();
    let admins = [
        &world.keys.operator,
        &world.keys.owner,
        &world.keys.security,
    ];
    let Ok(statement) = payload.sign(&admins) else {
        return;
    };
    let Ok(received) = ReceivedStatement::parse(&statement) else {
        return;
    };
    assert_eq!(received.payload(), &payload);
    assert_eq!(received.signed_by(&world.set).map(|all| all.len()), Ok(3));
    match received.verify(
        &world.set,
        &world.realm.name,
        Some(&world.realm.tls),
        world.now,
    ) {
        Ok(verified) => {
            // rule: ADM-2
            assert!(payload.realm == world.realm.name);
            assert!(verified.not_before() <= verified.expires());
        }
        Err(error) => told(error),
    }
    // rule: SET-3 — three of five are no first set, and no next one without security's quorum.
    let (realm, now) = (&world.realm.name, world.now);
    assert!(AdminSet::first(&statement, realm, now).is_err());
    assert!(world.set.next(&statement, realm, now).is_err());
}

/// Admin sets: pinned ones, and statements that would bring one.
pub const ADMIN_SET: Target = Target {
    name: "admin_set",
    form: Form::Cbor,
    runs: 12_000,
    room: DECIDES,
    seeds: || members(&["statement", "admin_set", "body"]),
    run: admin_set,
};

fn admin_set(data: &[u8]) {
    let world = world();
    if let Ok(set) = AdminSet::pinned(data) {
        // rule: SET-4
        assert!(
            set.body().to_cbor() == data,
            "an admin set has two encodings"
        );
        assert!((1..=limits::ADMINS).contains(&set.admins().len()));
        assert!(AdminSet::new(set.body().clone()).is_ok());
    }
    let (realm, now) = (&world.realm.name, world.now);
    let brought = [
        AdminSet::first(data, realm, now),
        world.set.next(data, realm, now),
    ];
    for set in brought {
        match set {
            Ok(_) => assert!(statement_of_vectors(data), "an admin set was forged"),
            Err(error) => {
                let told = error.refusal();
                refusal(told, &told.into(), false);
            }
        }
    }
}
