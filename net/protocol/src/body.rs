//! The JSON bodies of requests and responses, typed. One row per member, in the order in which fastjson writes them.
//!
//! Reading is lenient: absent and null members take their defaults, unknown ones are ignored, numbers may be strings and
//! enums ordinals. What is written is what every known client reads. See [`crate::json`] for the text itself.

macro_rules! bodies {
    ($($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty => $key:literal $(= $default:expr)?;)*
    })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($field: bodies!(@default $($default)?),)* }
            }
        }

        impl $name {
            /// Reads a body.
            pub fn parse(body: &[u8]) -> Result<$name, $crate::json::JsonError> {
                $crate::json::FromJson::from_json(&$crate::json::parse(body)?, stringify!($name))
            }

            /// The body as text.
            pub fn to_vec(&self) -> Vec<u8> {
                $crate::json::to_vec(self)
            }
        }

        impl $crate::json::FromJson for $name {
            fn from_json(json: &$crate::json::Json, name: &'static str) -> Result<$name, $crate::json::JsonError> {
                let $crate::json::Json::Object(members) = json else {
                    return Err($crate::json::JsonError::Type(name));
                };
                let mut body = $name::default();
                for (key, value) in members {
                    match key.as_str() {
                        $($key => body.$field = $crate::json::FromJson::from_json(value, $key)?,)*
                        _ => {}
                    }
                }
                Ok(body)
            }
        }

        impl $crate::json::ToJson for $name {
            fn write(&self, out: &mut Vec<u8>) {
                let mut members = $crate::json::Members::begin(out);
                $(members.member($key, &self.$field);)*
                members.end();
            }
        }
    )*};
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
}

macro_rules! enums {
    ($($(#[$meta:meta])* $name:ident { $($variant:ident => $text:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($variant,)*
        }

        impl $name {
            /// In the order of their ordinals.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)*
                }
            }

            /// The value of that name, or of that ordinal as C++ clients write it.
            pub fn from_text(text: &str) -> Option<$name> {
                let named = $name::ALL.iter().copied().find(|value| value.name() == text);
                named.or_else(|| $name::ALL.get(text.parse::<usize>().ok()?).copied())
            }
        }

        impl $crate::json::FromJson for $name {
            fn from_json(json: &$crate::json::Json, name: &'static str) -> Result<$name, $crate::json::JsonError> {
                let value = match json {
                    $crate::json::Json::Str(text) => $name::from_text(text),
                    $crate::json::Json::Int(ordinal) => {
                        usize::try_from(*ordinal).ok().and_then(|ordinal| $name::ALL.get(ordinal).copied())
                    }
                    _ => None,
                };
                value.ok_or($crate::json::JsonError::Type(name))
            }
        }

        impl $crate::json::ToJson for $name {
            fn write(&self, out: &mut Vec<u8>) {
                $crate::json::ToJson::write(self.name(), out);
            }
        }
    )*};
}

mod client;
mod group;
mod register;
mod route;
mod running;
mod stats;
mod topic;

pub use self::client::*;
pub use self::group::*;
pub use self::register::*;
pub use self::route::*;
pub use self::running::*;
pub use self::stats::*;
pub use self::topic::*;

#[cfg(test)]
mod tests;
