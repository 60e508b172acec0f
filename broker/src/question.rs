//! The question that an issue is to a policy: the same when it is asked for and when it is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ticket_format::ids::LaunchId;
use ticket_format::statement::DatasetRecord;
use ticket_format::ticket::{Action, Attributes};
use ticket_format::time::Timestamp;

/// A dataset, as a policy decides on it.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    /// Its record.
    pub record: &'a DatasetRecord,
    /// Its other names.
    pub aliases: &'a BTreeSet<String>,
}

/// May this node, which came in by that launch, do this with the dataset?
pub(crate) fn question(
    node: &Attributes,
    launch: LaunchId,
    Resource { record, aliases }: Resource<'_>,
    action: Action,
    source: Option<IpAddr>,
    at: Timestamp,
    pairs: &BTreeMap<String, String>,
) -> policy::Request {
    // rule: ISS-3
    policy::Request {
        node: policy::Node {
            account: node.node.account().to_owned(),
            region: node.node.region().to_owned(),
            availability_zone: node.availability_zone.clone(),
            image: node.image.clone(),
            instance_type: node.instance_type.clone(),
            instance: node.node.instance().to_owned(),
            launch: launch.to_string(),
            launched_at_unix: node.launched_at.seconds(),
        },
        action: match action {
            Action::Decrypt => policy::Action::Decrypt,
            Action::Encrypt => policy::Action::Encrypt,
            Action::Rewrap => policy::Action::Rewrap,
        },
        dataset: policy::Dataset {
            id: record.dataset.to_string(),
            name: record.name.clone(),
            tags: record.tags.clone(),
            class: record.class.number(),
            aliases: Some(aliases.clone()),
        },
        time_unix: at.seconds(),
        source,
        pairs: pairs.clone(),
    }
}
