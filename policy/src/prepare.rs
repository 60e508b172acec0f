//! From a request to what the engine evaluates.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityUid, Request as CedarRequest, RestrictedExpression,
};

use crate::error::one_line;
use crate::literals::{datetime, ip, string};
use crate::request::{Action, Dataset, Node, Request};
use crate::schema::{Vocabulary, vocabulary};

/// Everything of a request but its pairs, compiled once for many decisions.
///
/// For a batch: the node, dataset, action and time are those of the ticket and the request, and
/// only the pairs differ from item to item. One of these serves several policies too.
#[derive(Clone, Debug)]
pub struct Prepared(Result<Compiled, String>);

#[derive(Clone, Debug)]
struct Compiled {
    principal: EntityUid,
    action: EntityUid,
    resource: EntityUid,
    /// The node, the dataset and the action.
    entities: Entities,
    context: Context,
}

impl Prepared {
    /// Compiles the parts of a request that do not change from item to item.
    ///
    /// A request that cannot be expressed (a time that no calendar has, a node name with a
    /// separator in it) makes every decision on it a refusal that says so.
    #[must_use]
    pub fn new(
        node: &Node,
        action: Action,
        dataset: &Dataset,
        time_unix: u64,
        source: Option<IpAddr>,
    ) -> Self {
        Self(Compiled::new(node, action, dataset, time_unix, source))
    }

    pub(crate) fn of(request: &Request) -> Self {
        let Request {
            node,
            action,
            dataset,
            time_unix,
            source,
            pairs: _,
        } = request;
        Self::new(node, *action, dataset, *time_unix, *source)
    }

    /// The engine's request and entities for one set of pairs (POL-8), or why there are none.
    pub(crate) fn with_pairs(
        &self,
        pairs: &BTreeMap<String, String>,
    ) -> Result<(CedarRequest, Entities), String> {
        let compiled = self.0.as_ref().map_err(Clone::clone)?;
        let entity = Entity::new_with_tags(vocabulary().pairs.clone(), [], [], tags(pairs))
            .map_err(|error| refused(&error))?;
        // No schema: what is built here has its shape by construction (a test holds it to the
        // schema), and checking it again would double the cost of a decision.
        let entities = compiled
            .entities
            .clone()
            .add_entities([entity], None)
            .map_err(|error| refused(&error))?;
        let request = CedarRequest::new(
            compiled.principal.clone(),
            compiled.action.clone(),
            compiled.resource.clone(),
            compiled.context.clone(),
            None,
        )
        .map_err(|error| refused(&error))?;
        Ok((request, entities))
    }
}

impl Compiled {
    fn new(
        node: &Node,
        action: Action,
        dataset: &Dataset,
        time_unix: u64,
        source: Option<IpAddr>,
    ) -> Result<Self, String> {
        let words: &'static Vocabulary = vocabulary();
        let principal =
            EntityUid::from_type_name_and_id(words.node.clone(), EntityId::new(node_name(node)?));
        let resource = EntityUid::from_type_name_and_id(
            words.dataset.clone(),
            EntityId::new(dataset.id.as_str()),
        );
        let node_entity = Entity::new(
            principal.clone(),
            [
                ("account", &node.account),
                ("region", &node.region),
                ("availability_zone", &node.availability_zone),
                ("image", &node.image),
                ("instance_type", &node.instance_type),
                ("instance", &node.instance),
                ("launch", &node.launch),
            ]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), string(value)))
            .chain([("launched_at".to_owned(), datetime(node.launched_at_unix)?)])
            .collect(),
            HashSet::new(),
        )
        .map_err(|error| refused(&error))?;
        let class = i64::try_from(dataset.class).map_err(|error| refused(&error))?;
        let aliases = dataset.aliases.as_ref().map(|aliases| {
            let names = aliases.iter().map(|name| string(name));
            ("aliases".to_owned(), RestrictedExpression::new_set(names))
        });
        let dataset_entity = Entity::new_with_tags(
            resource.clone(),
            [
                ("id".to_owned(), string(&dataset.id)),
                ("name".to_owned(), string(&dataset.name)),
                ("class".to_owned(), RestrictedExpression::new_long(class)),
            ]
            .into_iter()
            .chain(aliases),
            [],
            tags(&dataset.tags),
        )
        .map_err(|error| refused(&error))?;
        let mut entities = vec![node_entity, dataset_entity];
        entities.extend(words.action_entity(action));
        let entities = Entities::from_entities(entities, None).map_err(|error| refused(&error))?;
        let context = Context::from_pairs(
            [
                ("time".to_owned(), datetime(time_unix)?),
                (
                    "pairs".to_owned(),
                    RestrictedExpression::new_entity_uid(words.pairs.clone()),
                ),
            ]
            .into_iter()
            .chain(source.map(|address| ("source".to_owned(), ip(address)))),
        )
        .map_err(|error| refused(&error))?;
        let action = words.action(action).clone();
        Ok(Self {
            principal,
            action,
            resource,
            entities,
            context,
        })
    }
}

/// `ec2/<account>/<region>/<instance>` (POL-6). The parts are compared here because the name joins
/// them: were a separator let through, two different nodes could be given one name.
fn node_name(node: &Node) -> Result<String, String> {
    let parts = [&node.account, &node.region, &node.instance];
    if parts
        .iter()
        .any(|part| part.is_empty() || part.contains('/'))
    {
        return Err("the node's account, region or instance is empty or holds a '/'".to_owned());
    }
    Ok(format!(
        "ec2/{}/{}/{}",
        node.account, node.region, node.instance
    ))
}

fn tags(
    pairs: &BTreeMap<String, String>,
) -> impl Iterator<Item = (String, RestrictedExpression)> + '_ {
    pairs
        .iter()
        .map(|(key, value)| (key.clone(), string(value)))
}

fn refused(error: &dyn std::error::Error) -> String {
    one_line(&error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `with_pairs` skips on every decision, done here once: the shapes that this file
    /// builds are those of the schema.
    #[test]
    fn the_entities_and_context_that_are_built_conform_to_the_schema() {
        let schema = &vocabulary().schema;
        let node = Node {
            account: "123456789012".into(),
            region: "eu-west-1".into(),
            availability_zone: "eu-west-1a".into(),
            image: "ami-0abc".into(),
            instance_type: "m7i.large".into(),
            instance: "i-0abc".into(),
            launch: "l-1".into(),
            launched_at_unix: 1_795_000_000,
        };
        let tags = BTreeMap::from([("key".to_owned(), "value".to_owned())]);
        let dataset = Dataset {
            id: "d-1".into(),
            name: "faces".into(),
            tags: tags.clone(),
            class: 4,
            aliases: Some(["current".to_owned()].into()),
        };
        for action in Action::ALL {
            for source in [None, Some(IpAddr::from([10, 0, 0, 1]))] {
                let prepared = Prepared::new(&node, action, &dataset, 1_795_000_600, source);
                let (request, entities) = prepared.with_pairs(&tags).unwrap();
                assert_eq!(entities.len(), 4);
                Entities::from_entities(entities, Some(schema)).unwrap();
                CedarRequest::new(
                    request.principal().unwrap().clone(),
                    request.action().unwrap().clone(),
                    request.resource().unwrap().clone(),
                    request.context().unwrap().clone(),
                    Some(schema),
                )
                .unwrap();
            }
        }
    }
}
