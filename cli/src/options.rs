//! `KEY=VALUE` arguments.

use serde_json::{Map, Value};

/// Parses one. Only the first `=` separates, so that values may contain more.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// All of them as a JSON object; a later one wins over an earlier one of the same key.
pub(crate) fn object(pairs: &[(String, String)]) -> Value {
    let object: Map<String, Value> =
        pairs.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect();
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_equals_sign_separates() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("=b").is_err() && pair("ab").is_err());
    }
}
