//! The API's own description of its objects, as it is checked in: what stands where.

use serde_json::{Map, Value};

/// The document that managers serve under `/v1/openapi.json`.
const OPENAPI: &str = include_str!("../../../docs/reference/openapi.json");

/// Where it has its schemas.
const SCHEMAS: &str = "/components/schemas";

/// All schemas, by name.
pub(super) struct Schemas(Map<String, Value>);

/// What stands at a place.
#[derive(Clone)]
pub(super) struct Schema<'s> {
    all: &'s Schemas,
    value: &'s Value,
    about: Option<&'s str>,
    may_be_null: bool,
}

/// A field of an object.
pub(super) struct Field<'s> {
    pub(super) name: &'s str,
    pub(super) schema: Schema<'s>,
    /// Always there.
    pub(super) is_needed: bool,
}

impl Schemas {
    /// Those of the document.
    pub(super) fn of_api() -> Schemas {
        let document: Value = serde_json::from_str(OPENAPI).unwrap_or_default();
        Schemas(document.pointer(SCHEMAS).and_then(Value::as_object).cloned().unwrap_or_default())
    }

    /// The one of this name, whatever its case, with its name as the API writes it.
    pub(super) fn named(&self, name: &str) -> Option<(&str, Schema<'_>)> {
        let (name, value) = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some((name, self.followed(value)))
    }

    /// What a schema is in the end: what it refers to, and what it is if it is not null.
    fn followed<'s>(&'s self, mut value: &'s Value) -> Schema<'s> {
        let (mut about, mut may_be_null) = (None, false);
        loop {
            about = about.or(value["description"].as_str());
            let referred = value["$ref"].as_str().and_then(|path| path.rsplit('/').next());
            if let Some(next) = referred.and_then(|name| self.0.get(name)) {
                value = next;
                continue;
            }
            let is_null = |choice: &Value| choice["type"] == "null";
            match value["oneOf"].as_array().map(Vec::as_slice) {
                Some([one, null] | [null, one]) if is_null(null) && !is_null(one) => {
                    (value, may_be_null) = (one, true);
                }
                _ => break,
            }
        }
        Schema { all: self, value, about, may_be_null }
    }
}

impl<'s> Schema<'s> {
    /// What it means, on one line.
    pub(super) fn about(&self) -> String {
        self.about.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What may stand there: `string`, `list of objects`, `time or null`.
    pub(super) fn takes(&self) -> String {
        let null = if self.may_be_null() { " or null" } else { "" };
        format!("{}{null}", self.one(false))
    }

    fn may_be_null(&self) -> bool {
        let listed = self.value["type"].as_array().is_some_and(|types| types.contains(&"null".into()));
        self.may_be_null || listed
    }

    /// A type alone, or several of them.
    fn one(&self, several: bool) -> String {
        let plural = if several { "s" } else { "" };
        let time = self.value["format"] == "date-time";
        match (self.value["enum"].as_array(), self.basic()) {
            (Some(words), _) => {
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                format!("one of {}", words.join(", "))
            }
            (None, "array") => format!("list{plural} of {}", self.inner("items")),
            (None, "object") if self.value["additionalProperties"].is_object() => {
                format!("map{plural} of {}", self.inner("additionalProperties"))
            }
            (None, "string") if time => format!("time{plural}"),
            (None, basic) => format!("{basic}{plural}"),
        }
    }

    fn inner(&self, member: &str) -> String {
        self.all.followed(&self.value[member]).one(true)
    }

    /// JSON's own word for it.
    fn basic(&self) -> &'s str {
        let first =
            || self.value["type"].as_array()?.iter().filter_map(Value::as_str).find(|one| *one != "null");
        let word = self.value["type"].as_str().or_else(first);
        match word {
            Some(word) => word,
            None if self.value["allOf"].is_array() || self.value["oneOf"].is_array() => "object",
            None => "value",
        }
    }

    /// The fields of the object, of each object of the list, or of each value of the map.
    pub(super) fn fields(&self) -> Vec<Field<'s>> {
        for member in ["items", "additionalProperties"] {
            if self.value[member].is_object() {
                return self.all.followed(&self.value[member]).fields();
            }
        }
        let parts = self.value["allOf"].as_array().into_iter().flatten();
        let mut fields: Vec<Field<'_>> = parts.flat_map(|part| self.all.followed(part).fields()).collect();
        let needed = self.value["required"].as_array();
        for (name, value) in self.value["properties"].as_object().into_iter().flatten() {
            let is_needed = needed.is_some_and(|needed| needed.contains(&name.as_str().into()));
            fields.push(Field { name, schema: self.all.followed(value), is_needed });
        }
        fields
    }

    /// One field of them.
    pub(super) fn field(&self, name: &str) -> Option<Field<'s>> {
        self.fields().into_iter().find(|field| field.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::types::TYPES;

    #[test]
    fn every_schema_of_a_type_is_in_the_document() {
        let schemas = Schemas::of_api();
        for name in TYPES.iter().flat_map(|kind| kind.wishes.iter().chain([&kind.schema])) {
            let (_, schema) = schemas.named(name).unwrap_or_else(|| panic!("there is no {name}"));
            assert!(!schema.fields().is_empty() && !schema.about().is_empty(), "{name}");
        }
    }

    #[test]
    fn types_are_said_in_words() {
        let schemas = Schemas::of_api();
        let takes = |path: &str| {
            let mut steps = path.split('.');
            let (_, start) = steps.next().and_then(|name| schemas.named(name)).expect("a schema");
            steps.fold(start, |schema, step| schema.field(step).expect(step).schema).takes()
        };
        for (path, wanted) in [
            ("Host", "object"),
            ("Host.spec.role", "one of manager, auto, worker"),
            ("Host.spec.labels", "map of strings"),
            ("Host.spec.driver", "string or null"),
            ("Host.status.swarm", "object or null"),
            ("Host.metadata.created_at", "time or null"),
            ("Host.metadata.revision", "integer"),
            ("Stack.spec.services", "list of objects"),
            ("Stack.spec.services.ports.mode", "string"),
            ("Session.csrf", "string or null"),
            ("Session.id", "string"),
            ("Environment.spec.mtu", "integer or null"),
        ] {
            assert_eq!(takes(path), wanted, "{path}");
        }
    }
}
