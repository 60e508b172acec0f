//! What servers and nodes keep and read again: a disk may lie as well as a stranger.

use audit_log::guard::{Contradiction, Recovery};
use broker::state::{
    AdminSetHead, AliasEntry, DatasetEntry, FeedHead, KeyUse, LaunchRecord, NodeRecord, PolicyHead,
    Proposals, Proposed, StoredEpoch, UsedStatement,
};
use client::chain::Chain;
use client::state::{Aliases, NodeState};
use client::wallet::{DatasetSession, NodeSession};
use key_server::broker_log::{Fork, Known, Remembered};
use key_server::dataset::DatasetState;
use key_server::kek_record::KekRecord;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::ticket::TicketKeys;

use super::{DECIDES, Target, items, one_encoding};
use crate::mutate::Form;
use crate::world::{fresh, world};

/// Records of the stores.
pub const RECORDS: Target = Target {
    name: "records",
    form: Form::Cbor,
    runs: 30_000,
    room: DECIDES,
    seeds: || {
        let world = world();
        let mut seeds = vec![
            world.node.to_cbor(),
            world.launch.to_cbor(),
            world.dataset.to_cbor(),
            FeedHead::START.to_cbor(),
            fresh(&world.launch).head.to_cbor(),
            TicketKeys::first(world.keys.ticket.public()).to_cbor(),
            Remembered::default().to_cbor(),
        ];
        seeds.extend(super::server::records());
        seeds.extend(items());
        seeds
    },
    run: records,
};

/// Records have one newest form, and older ones that are read still (FMT-1): what is read is read again of what is
/// written.
fn is_kept<T: Decode + Encode>(data: &[u8]) {
    if let Ok(value) = T::from_cbor(data, data.len()) {
        let written = value.to_cbor();
        let again = T::from_cbor(&written, written.len());
        assert!(
            again.is_ok_and(|again| again.to_cbor() == written),
            "{} is not kept",
            std::any::type_name::<T>()
        );
    }
}

fn records(data: &[u8]) {
    macro_rules! of_one_form {
        ($($type:ty),*) => {$( let _ = one_encoding::<$type>(data); )*};
    }
    macro_rules! of_more_forms {
        ($($type:ty),*) => {$( is_kept::<$type>(data); )*};
    }
    of_one_form!(
        LaunchRecord,
        NodeRecord,
        DatasetEntry,
        FeedHead,
        KeyUse,
        AliasEntry,
        PolicyHead,
        UsedStatement,
        AdminSetHead,
        Proposed,
        Proposals,
        Contradiction,
        Recovery,
        Known,
        Remembered,
        Fork,
        Aliases,
        TicketKeys
    );
    of_more_forms!(
        StoredEpoch,
        DatasetState,
        KekRecord,
        NodeState,
        Chain,
        DatasetSession,
        NodeSession
    );
}
