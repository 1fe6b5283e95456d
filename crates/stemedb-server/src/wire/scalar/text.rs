//! Texts, each with its bounds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::string;

/// Texts on one line: what `is_control` calls a control character is refused.
pub(crate) const LINE: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";
/// Texts of several lines: tab, line feed and carriage return are allowed as well.
pub(crate) const LINES: &str = "^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f]*$";

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $min:literal, $max:literal, $pattern:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The text, not yet checked.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                string()
                    .min_length(Some($min))
                    .max_length(Some($max))
                    .pattern(Some($pattern))
                    .description(Some(concat!(
                        "UTF-8 in Normalization Form C, ", $min, " to ", $max, " bytes"
                    )))
                    .into()
            }
        }

        impl ToSchema for $name {}
    };
}

text_type!(
    /// A namespace.
    SpaceText, 1, 64, "^[a-z0-9._-]{1,64}$"
);
text_type!(
    /// An entity; `/` makes a path.
    SubjectText, 1, 512, LINE
);
text_type!(
    /// A property or relation.
    PredicateText, 1, 256, LINE
);
text_type!(
    /// A name, title, unit or operator.
    NameText, 1, 512, LINE
);
text_type!(
    /// A source's address, as written.
    UriText, 1, 2048, LINE
);
text_type!(
    /// A reason or description; may have several lines.
    ReasonText, 0, 4096, LINES
);
text_type!(
    /// A CEL expression.
    ExpressionText, 1, 4096, LINES
);
text_type!(
    /// A claimed text; may have several lines.
    ValueText, 0, 65536, LINES
);

/// Free pairs of texts. A key that comes twice is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta(pub BTreeMap<Arc<str>, Arc<str>>);

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key.as_ref(), value.as_ref())))
    }
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Meta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Meta, A::Error> {
                let mut pairs = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if pairs.insert(Arc::from(key.as_str()), Arc::from(value)).is_some() {
                        return Err(de::Error::custom(format!("duplicate key {key:?}")));
                    }
                }
                Ok(Meta(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
