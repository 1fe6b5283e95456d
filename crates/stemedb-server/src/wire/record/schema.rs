//! Schemas that the derive cannot say.

use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, ObjectBuilder, Ref, Schema, SchemaType, Type,
};

use super::super::scalar::{Id, PredicateText, Role, TieRule, string};
use super::SourceKey;

/// The one kind that a body of this type can have.
pub(super) fn kind_schema<const TAG: u8>() -> Schema {
    let name = stemedb_model::Kind::from_tag(u64::from(TAG)).map_or("", |kind| kind.name());
    string().enum_values(Some([name])).into()
}

fn set_of<T: ToSchema>(min: usize, max: usize) -> Schema {
    ArrayBuilder::new()
        .items(RefOr::Ref(Ref::from_schema_name(T::name())))
        .min_items(Some(min))
        .max_items(Some(max))
        .unique_items(true)
        .into()
}

pub(super) fn ids_schema() -> Schema {
    set_of::<Id>(0, 64)
}

pub(super) fn opposites_schema() -> Schema {
    set_of::<PredicateText>(0, 64)
}

pub(super) fn source_keys_schema() -> Schema {
    set_of::<SourceKey>(1, 64)
}

pub(super) fn roles_schema() -> Schema {
    set_of::<Role>(0, 4)
}

pub(super) fn ties_schema() -> Schema {
    set_of::<TieRule>(0, 3)
}

pub(super) fn vector_schema() -> Schema {
    string()
        .pattern(Some("^([0-9a-f]{8}){1,4096}$"))
        .description(Some("1 to 4096 finite numbers, each a little-endian f32, as hex"))
        .examples([json!("0000803e0000c0bf")])
        .into()
}

pub(super) fn visual_hash_schema() -> Schema {
    string()
        .pattern(Some("^[0-9a-f]{16}$"))
        .description(Some("8 bytes as hex"))
        .examples([json!("00ff00ff00ff00ff")])
        .into()
}

pub(super) fn meta_schema() -> Schema {
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Object))
        .property_names(Some(Schema::from(
            string()
                .min_length(Some(1))
                .max_length(Some(4096))
                .pattern(Some(super::super::scalar::LINE)),
        )))
        .additional_properties(Some(AdditionalProperties::RefOr(
            string().max_length(Some(4096)).pattern(Some(super::super::scalar::LINES)).into(),
        )))
        .max_properties(Some(32))
        .description(Some("Free pairs of texts, together at most 4 KiB"))
        .examples([json!({"page": "12"})])
        .into()
}
