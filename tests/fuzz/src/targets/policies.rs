//! Policies: Cedar text.

use policy::{Action, Dataset, Node, Policy, Request};

use super::Target;
use crate::mutate::Form;
use crate::vectors;
use crate::world::world;

/// The text of a policy, and what it decides.
pub const POLICY: Target = Target {
    name: "policy",
    form: Form::Text,
    runs: 700,
    room: (48 * 1024 * 1024, 4_096),
    seeds: || {
        let mut seeds =
            vectors::all_texts(|_, member, _| member == "policy" || member.ends_with(".policy"));
        let more = [
            "@id(\"team\") permit (principal, action in Postern::Action::\"use\", resource) when { principal.account == \"123456789012\" };",
            "@id(\"no\") forbid (principal, action, resource) when { context.pairs.hasTag(\"purpose\") && context.pairs.getTag(\"purpose\") == \"sell\" };",
            "@id(\"a\") permit (principal, action == Postern::Action::\"decrypt\", resource) when { resource.name like \"f*\" } unless { principal.region == \"us-east-1\" };",
            "@id(\"b\") permit (principal, action, resource) when { if context.time > 5 then true else context.source.isInRange(ip(\"10.0.0.0/8\")) };",
        ];
        seeds.extend(more.map(|text| text.as_bytes().to_vec()));
        seeds
    },
    run: policy,
};

fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Policy::parse(text) {
        Ok(policy) => {
            assert_eq!(policy.text(), text);
            assert_eq!(
                Policy::parse(text).map(|again| again.digest()),
                Ok(policy.digest())
            );
            for action in Action::ALL {
                let request = question(action);
                let decision = policy.decide(&request);
                // rule: POL-5
                assert!(
                    !decision.allowed || decision.errors.is_empty(),
                    "allowed though something could not be decided"
                );
                assert!(
                    !decision.allowed || !decision.deciding.is_empty(),
                    "allowed by nothing"
                );
                assert!(decision.deciding.iter().all(|id| policy.ids().contains(id)));
                let explained = policy.explain(&request);
                assert_eq!(explained.decision, decision);
                assert!(!explained.reason.contains('\n'));
            }
        }
        Err(error) => {
            let told = error.to_string();
            assert!(
                told.len() <= 2_048 && !told.contains('\n'),
                "not one clear line: {told:?}"
            );
        }
    }
}

fn question(action: Action) -> Request {
    let (attributes, record) = (&world().node.attributes, &world().dataset.record);
    Request {
        node: Node {
            account: attributes.node.account().to_owned(),
            region: attributes.node.region().to_owned(),
            availability_zone: attributes.availability_zone.clone(),
            image: attributes.image.clone(),
            instance_type: attributes.instance_type.clone(),
            instance: attributes.node.instance().to_owned(),
            launch: world().launch.terms.launch.to_string(),
            launched_at_unix: attributes.launched_at.seconds(),
        },
        action,
        dataset: Dataset {
            id: record.dataset.to_string(),
            name: record.name.clone(),
            tags: record.tags.clone(),
            class: record.class.number(),
            aliases: None,
        },
        time_unix: world().now.seconds(),
        source: Some(world().caller.address),
        pairs: [("purpose".to_owned(), "sell".to_owned())].into(),
    }
}
