//! YAML as a tree in which every value knows its line.
//!
//! Why a tree and not structs with `derive`: serde stops at the first error and knows nothing of lines once it
//! buffers. A recipe's author wants all errors at once, each with its line.
//!
//! Scalars are kept as they were written. `3.10` is not the number 3.1 and `0644` is not 644 here; what a value has
//! to be is known only where it is read, and variables may still be part of it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, Spanned};

use super::error::RecipeError;

/// Compose needs about ten levels; more is an attack on the stack of whoever reads it.
const DEPTH_MAX: usize = 32;
/// Aliases may repeat parts of a recipe, but a small file must not become a huge tree.
const NODES_MAX: usize = 50_000;

/// A value and where it stands.
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) line: Option<usize>,
    pub(crate) column: Option<usize>,
}

pub(crate) enum Value {
    Null,
    /// As written, without quotes.
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Name, Node)>),
}

/// The key of a mapping and where it stands.
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) line: Option<usize>,
    pub(crate) column: Option<usize>,
}

/// Reads one YAML document.
pub(crate) fn read(text: &str) -> Result<Node, RecipeError> {
    // An empty text has no document at all; to us it is a recipe without services.
    if text.trim().is_empty() {
        return Ok(Node { value: Value::Null, line: None, column: None });
    }
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options()) {
        Ok(raw) => Ok(Node::located(raw, text)),
        Err(error) => Err(not_yaml(&error)),
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        with_snippet: false,
    }
}

fn not_yaml(error: &serde_saphyr::Error) -> RecipeError {
    let (line, column) = error.location().map_or((None, None), position);
    let pointer = String::new();
    if let serde_saphyr::Error::DuplicateMappingKey { key, .. } = error.without_snippet() {
        let message = format!("the key '{}' is given twice", key.as_deref().unwrap_or_default());
        return RecipeError { pointer, line, column, message, hint: Some("leave one out".into()) };
    }
    // The library repeats the position behind its message; ours stands in front.
    let message = error.without_snippet().to_string();
    let message = message.split(" at line ").next().unwrap_or_default().trim_end_matches([',', ':', ' ']);
    RecipeError { pointer, line, column, message: format!("this is not valid YAML: {message}"), hint: None }
}

fn position(location: Location) -> (Option<usize>, Option<usize>) {
    let known = |number: u64| usize::try_from(number).ok().filter(|number| *number > 0);
    (known(location.line()), known(location.column()))
}

impl Node {
    fn located(raw: Spanned<Raw>, source: &str) -> Node {
        let (line, column) = position(raw.referenced);
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Text(text) => Value::Scalar(text),
            Raw::Typed(text) => Value::Scalar(as_written(raw.defined, source).unwrap_or(text)),
            Raw::List(items) => {
                Value::List(items.into_iter().map(|item| Node::located(item, source)).collect())
            }
            Raw::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(name, value)| (Name::located(name), Node::located(value, source)))
                    .collect(),
            ),
        };
        Node { value, line, column }
    }
}

impl Name {
    fn located(raw: Spanned<String>) -> Name {
        let (line, column) = position(raw.referenced);
        Name { text: raw.value, line, column }
    }
}

/// The characters of a plain scalar that the library has turned into a number or a boolean.
fn as_written(location: Location, source: &str) -> Option<String> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let length = usize::try_from(location.span().byte_len()?).ok()?;
    let text = source.get(start..start.checked_add(length)?)?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// What the YAML library tells about one value.
enum Raw {
    Null,
    Text(String),
    /// A number or boolean; the text is only a stand-in for what was written.
    Typed(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
