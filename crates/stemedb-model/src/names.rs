//! Canonical names of the model's enumerations.

/// Gives an enum its canonical names: `ALL`, the name of one, the one with a name, `Display`.
macro_rules! names {
    ($type:ident, $as_str:ident, { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every one, in the order of declaration.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The canonical name.
            pub fn $as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }

            /// The one with this canonical name; names are case-sensitive.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.$as_str())
            }
        }
    };
}

pub(crate) use names;
