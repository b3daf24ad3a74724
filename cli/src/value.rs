//! Reading out of API objects.
//!
//! Objects stay `serde_json::Value`s: `-o json` must print what the manager sent, also fields that this client does not know.
//! So every reader here takes what may be missing in its stride.

use serde_json::Value;

/// The text (or number, or truth value) at a JSON pointer; `None` if missing or null.
pub(crate) fn text_at(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(true) => Some("yes".to_owned()),
        Value::Bool(false) => Some("no".to_owned()),
        other => Some(other.to_string()),
    }
}

/// The list at a JSON pointer; empty if it is none.
pub(crate) fn list_at<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The items of a list answer.
pub(crate) fn items(answer: &Value) -> &[Value] {
    list_at(answer, "/items")
}

/// Text fit for a terminal: messages come from machines, engines and images, and must not move the cursor.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `1536 MiB` as `1.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut amount = count as f64;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{amount:.1} {}", UNITS[unit]),
    }
}

/// The members of an object as people write them: `rack=b,zone=eu-1`; nothing for an empty one.
pub(crate) fn pairs(value: &Value, pointer: &str) -> Option<String> {
    let members = value.pointer(pointer)?.as_object().filter(|members| !members.is_empty())?;
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
    Some(members.iter().map(pair).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn missing_and_null_are_the_same() {
        let value = json!({"a": null, "b": {"c": 3}, "d": true});
        assert_eq!(text_at(&value, "/a"), None);
        assert_eq!(text_at(&value, "/x/y"), None);
        assert_eq!(text_at(&value, "/b/c").as_deref(), Some("3"));
        assert_eq!(text_at(&value, "/d").as_deref(), Some("yes"));
        assert!(items(&value).is_empty());
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536 * 1024 * 1024), "1.5 GiB");
    }
}
