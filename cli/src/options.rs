//! Arguments with a form of their own: `KEY=VALUE`, and times.

use std::time::Duration;

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

/// A time with its unit: `30s`, `20m`, `2h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no time: write 30s, 20m, 2h or 7d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// What turns a setting off.
pub(crate) const OFF: &str = "off";

/// A time with its unit, or nothing of it.
pub(crate) fn duration_or_off(text: &str) -> Result<Duration, String> {
    match text {
        OFF | "0" => Ok(Duration::ZERO),
        text => duration(text).map_err(|wrong| format!("{wrong}, or {OFF}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_takes_a_time_can_be_off() {
        assert_eq!(duration_or_off("10m"), Ok(Duration::from_secs(600)));
        assert_eq!((duration_or_off("off"), duration_or_off("0")), (Ok(Duration::ZERO), Ok(Duration::ZERO)));
        assert!(duration_or_off("soon").is_err_and(|wrong| wrong.contains("or off")));
    }

    #[test]
    fn only_the_first_equals_sign_separates() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("=b").is_err() && pair("ab").is_err());
    }
}
