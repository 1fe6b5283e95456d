//! The claimed value: a bare scalar, or a tagged object that says its type.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer};
use serde_json::json;
use serde_json::value::RawValue;
use stemedb_model::{self as model, InvalidField};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Ref, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use super::scalar::{NameText, Number, SubjectText, Time, ValueText, kind_of};

/// A value as JSON. `"rare"` is a text, `47e6` a number without unit, `true` a boolean; the tagged
/// form says the same and more: `{"type":"number","value":47e6,"unit":"USD"}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the JSON forms are told above")]
pub enum Object {
    Text(ValueText),
    Number(Number),
    Boolean(bool),
    Tagged(Tagged),
}

/// A value that says its type.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Tagged {
    /// A text, at most 64 KiB of UTF-8 in Normalization Form C.
    #[schema(title = "TextValue")]
    Text {
        /// The text.
        value: ValueText,
    },
    /// A finite number.
    #[schema(title = "NumberValue")]
    Number {
        /// The number.
        value: Number,
        /// Its unit as written; without it, the predicate's unit.
        #[serde(skip_serializing_if = "Option::is_none")]
        unit: Option<NameText>,
    },
    /// True or false.
    #[schema(title = "BooleanValue")]
    Boolean {
        /// The boolean.
        value: bool,
    },
    /// A moment.
    #[schema(title = "TimeValue")]
    Time {
        /// The moment.
        value: Time,
    },
    /// Another subject of the same space.
    #[schema(title = "ReferenceValue")]
    Reference {
        /// The subject.
        value: SubjectText,
    },
}

/// The tagged form before it is known which type it has.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTagged {
    #[serde(rename = "type")]
    value_type: super::scalar::ValueType,
    value: Box<RawValue>,
    unit: Option<NameText>,
}

impl<'de> Deserialize<'de> for Tagged {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn value<'a, T: Deserialize<'a>, E: de::Error>(raw: &'a RawValue) -> Result<T, E> {
            serde_json::from_str(raw.get()).map_err(|error| E::custom(format!("value: {error}")))
        }
        let RawTagged { value_type, value: raw, unit } = RawTagged::deserialize(deserializer)?;
        if unit.is_some() && value_type.0 != model::ValueType::Number {
            return Err(de::Error::custom("unit: only a number has one"));
        }
        Ok(match value_type.0 {
            model::ValueType::Text => Self::Text { value: value(&raw)? },
            model::ValueType::Number => Self::Number { value: value(&raw)?, unit },
            model::ValueType::Boolean => Self::Boolean { value: value(&raw)? },
            model::ValueType::Time => Self::Time { value: value(&raw)? },
            model::ValueType::Reference => Self::Reference { value: value(&raw)? },
        })
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The text is looked at as it stands: a number that went through f64 or u64 has lost what
        // says whether it can be held.
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str(text).map(Self::Text).map_err(de::Error::custom),
            Some(b'{') => serde_json::from_str(text).map(Self::Tagged).map_err(de::Error::custom),
            Some(b't' | b'f') => Ok(Self::Boolean(text == "true")),
            Some(b'-' | b'0'..=b'9') => {
                Number::parse(text).map(Self::Number).map_err(de::Error::custom)
            }
            _ => Err(de::Error::custom(format!(
                "{}, expected a string, a number, a boolean or {{\"type\": …, \"value\": …}}",
                kind_of(text)
            ))),
        }
    }
}

impl TryFrom<Object> for model::Value {
    type Error = InvalidField;

    fn try_from(object: Object) -> Result<Self, InvalidField> {
        match object {
            Object::Text(value) | Object::Tagged(Tagged::Text { value }) => {
                Self::text(value.as_str())
            }
            Object::Number(value) => Self::number(value.0, None),
            Object::Tagged(Tagged::Number { value, unit }) => {
                Self::number(value.0, unit.as_ref().map(NameText::as_str))
            }
            Object::Boolean(value) | Object::Tagged(Tagged::Boolean { value }) => {
                Ok(Self::Boolean(value))
            }
            Object::Tagged(Tagged::Time { value }) => Ok(Self::Time(value.0)),
            Object::Tagged(Tagged::Reference { value }) => Self::reference(value.as_str()),
        }
    }
}

impl From<&model::Value> for Object {
    /// The shortest form that says it all.
    fn from(value: &model::Value) -> Self {
        match value {
            model::Value::Text(text) => Self::Text(ValueText(text.to_string())),
            model::Value::Number { value, unit: None } => Self::Number(Number(*value)),
            model::Value::Number { value, unit: Some(unit) } => Self::Tagged(Tagged::Number {
                value: Number(*value),
                unit: Some(NameText(unit.to_string())),
            }),
            model::Value::Boolean(value) => Self::Boolean(*value),
            model::Value::Time(at) => Self::Tagged(Tagged::Time { value: Time(*at) }),
            model::Value::Reference(subject) => {
                Self::Tagged(Tagged::Reference { value: SubjectText(subject.to_string()) })
            }
        }
    }
}

impl PartialSchema for Object {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(Ref::from_schema_name("ValueText"))
            .item(Number::schema())
            .item(ObjectBuilder::new().schema_type(SchemaType::new(Type::Boolean)))
            .item(Ref::from_schema_name("Tagged"))
            .description(Some(
                "A bare scalar, or a tagged value. An integer that a 64-bit float cannot hold is \
                 refused.",
            ))
            .examples([
                json!("rare"),
                json!(47e6),
                json!(true),
                json!({"type": "number", "value": 47e6, "unit": "USD"}),
            ])
            .into()
    }
}

/// What fields of schemas call it: the derive takes the name `Object` for any JSON object.
pub(crate) type ClaimedValue = Object;

impl ToSchema for Object {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("ClaimedValue")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("ValueText".into(), ValueText::schema()));
        schemas.push(("Tagged".into(), Tagged::schema()));
        Tagged::schemas(schemas);
    }
}
