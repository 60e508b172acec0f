//! The fixed schema and the names in it.

use std::sync::LazyLock;

use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, Schema};

use crate::request::Action;

/// The schema against which every policy is validated, in Cedar's schema language.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// The parsed [`SCHEMA`] with the parts that each decision needs, made once per process.
pub(crate) struct Vocabulary {
    pub(crate) schema: Schema,
    pub(crate) node: EntityTypeName,
    pub(crate) dataset: EntityTypeName,
    pub(crate) pairs: EntityUid,
    actions: Entities,
    decrypt: EntityUid,
    encrypt: EntityUid,
    rewrap: EntityUid,
}

impl Vocabulary {
    pub(crate) fn action(&self, action: Action) -> &EntityUid {
        match action {
            Action::Decrypt => &self.decrypt,
            Action::Encrypt => &self.encrypt,
            Action::Rewrap => &self.rewrap,
        }
    }

    /// The action as an entity, without which `action in Postern::Action::"use"` is false.
    pub(crate) fn action_entity(&self, action: Action) -> Option<Entity> {
        self.actions.get(self.action(action)).cloned()
    }

    fn load() -> Result<Self, Box<dyn std::error::Error>> {
        let (schema, _warnings) = Schema::from_cedarschema_str(SCHEMA)?;
        let uid = |type_name: &str, id: &str| -> Result<EntityUid, Box<dyn std::error::Error>> {
            Ok(EntityUid::from_type_name_and_id(
                type_name.parse()?,
                EntityId::new(id),
            ))
        };
        Ok(Self {
            actions: schema.action_entities()?,
            schema,
            node: "Postern::Node".parse()?,
            dataset: "Postern::Dataset".parse()?,
            pairs: uid("Postern::Pairs", "request")?,
            decrypt: uid("Postern::Action", Action::Decrypt.as_str())?,
            encrypt: uid("Postern::Action", Action::Encrypt.as_str())?,
            rewrap: uid("Postern::Action", Action::Rewrap.as_str())?,
        })
    }
}

/// The vocabulary. Its input is compiled in, so the one failure there is would be a build fault
/// that every test of this crate meets.
pub(crate) fn vocabulary() -> &'static Vocabulary {
    static VOCABULARY: LazyLock<Vocabulary> =
        LazyLock::new(|| Vocabulary::load().expect("the compiled-in schema is valid"));
    &VOCABULARY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_in_schema_parses_without_warnings_and_has_the_four_actions() {
        let (schema, warnings) = Schema::from_cedarschema_str(SCHEMA).unwrap();
        assert_eq!(warnings.count(), 0);
        assert_eq!(schema.actions().count(), 4);
        assert_eq!(vocabulary().actions.len(), 4);
    }
}
