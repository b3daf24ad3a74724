//! Durations, sizes, CPU shares and commands, as compose writes them.
//!
//! Decimal numbers are read exactly, in billionths: `0.1` CPUs are 100 000 000 nano CPUs and not one less.

use std::time::Duration;

use super::deploy::Ratio;

/// Why a text is not what it should be, and what would be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Misfit {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Misfit {
        Misfit { message: message.into(), hint: hint.into() }
    }
}

const NANOS: u128 = 1_000_000_000;

const DURATION_UNITS: &[(&str, u128)] =
    &[("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", NANOS), ("m", 60 * NANOS), ("h", 3600 * NANOS)];

/// `90s`, `1m30s`, `1.5h`, `0`.
pub(super) fn duration(text: &str) -> Result<Duration, Misfit> {
    let misfit = || {
        Misfit::new(
            format!("'{text}' is not a duration"),
            "write it with units, such as 500ms, 10s, 1m30s or 2h",
        )
    };
    let nanos = if text == "0" { 0 } else { duration_nanos(text).ok_or_else(misfit)? };
    // The engine counts nanoseconds in a signed 64-bit number.
    let nanos = u64::try_from(nanos).ok().filter(|nanos| i64::try_from(*nanos).is_ok()).ok_or_else(misfit)?;
    Ok(Duration::from_nanos(nanos))
}

fn duration_nanos(text: &str) -> Option<u128> {
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(number_end);
        let unit_end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(billionths(number)?.checked_mul(*factor)? / NANOS)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(nanos)
}

/// `64M`, `1.5g`, `512KiB`, `1048576`. Units are powers of 1024, as everywhere in Docker.
pub(super) fn size(text: &str) -> Result<u64, Misfit> {
    size_bytes(text).ok_or_else(|| {
        Misfit::new(
            format!("'{text}' is not a size"),
            "write bytes, or use K, M, G or T, such as 64M or 1.5G",
        )
    })
}

fn size_bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let number_end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let factor: u128 = match unit.trim_start() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    // The engine counts bytes in a signed 64-bit number.
    let bytes = billionths(number)?.checked_mul(factor)? / NANOS;
    i64::try_from(bytes).ok().and_then(|bytes| u64::try_from(bytes).ok())
}

/// `0.5` CPUs in billionths of one.
pub(super) fn cpu_nanos(text: &str) -> Result<u64, Misfit> {
    billionths(text)
        .and_then(|nanos| i64::try_from(nanos).ok())
        .and_then(|nanos| u64::try_from(nanos).ok())
        .ok_or_else(|| Misfit::new(format!("'{text}' is not a number of CPUs"), "write it like '0.5' or '2'"))
}

/// A share between 0 and 1.
pub(super) fn ratio(text: &str) -> Result<Ratio, Misfit> {
    match billionths(text).filter(|part| *part <= NANOS).and_then(|part| u32::try_from(part).ok()) {
        Some(billionths) => Ok(Ratio { billionths }),
        None => {
            Err(Misfit::new(format!("'{text}' is not a ratio"), "write a number from 0 to 1, such as 0.25"))
        }
    }
}

/// A whole number from 0.
pub(crate) fn whole(text: &str) -> Result<u64, Misfit> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| Misfit::new(format!("'{text}' is not a whole number"), "write digits only, such as 3"))
}

/// `true` or `false`.
pub(crate) fn boolean(text: &str) -> Result<bool, Misfit> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Misfit::new(format!("'{text}' is neither true nor false"), "write true or false")),
    }
}

/// A decimal number times a billion. More than nine digits behind the point are refused rather than rounded.
fn billionths(text: &str) -> Option<u128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !digits(whole) || !digits(part) || part.len() > 9 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: u64 = format!("{part:0<9}").parse().ok()?;
    Some(u128::from(whole) * NANOS + u128::from(part))
}

/// Splits a command into words as a shell does, with quotes and backslashes but without running anything.
pub(super) fn words(text: &str) -> Result<Vec<String>, Misfit> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    let open = |what: &str| {
        Misfit::new(format!("the command ends inside {what}"), "close it, or write the command as a list")
    };
    while let Some(letter) = letters.next() {
        match letter {
            _ if letter.is_whitespace() => words.extend(word.take()),
            '\'' => quoted(&mut letters, word.get_or_insert_default(), '\'').ok_or_else(|| open("quotes"))?,
            '"' => quoted(&mut letters, word.get_or_insert_default(), '"').ok_or_else(|| open("quotes"))?,
            '\\' => {
                let escaped = letters.next().ok_or_else(|| open("a backslash escape"))?;
                word.get_or_insert_default().push(escaped);
            }
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Takes letters up to the closing quote. Between double quotes a backslash protects `"`, `\`, `$` and a backtick.
fn quoted(letters: &mut std::str::Chars<'_>, word: &mut String, quote: char) -> Option<()> {
    loop {
        match letters.next()? {
            letter if letter == quote => return Some(()),
            '\\' if quote == '"' => {
                let escaped = letters.next()?;
                if !matches!(escaped, '"' | '\\' | '$' | '`') {
                    word.push('\\');
                }
                word.push(escaped);
            }
            letter => word.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("0", 0),
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("500ms", 500_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            (".5s", 500_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "10", "s", "1x", "-1s", "1 s", "1s ", "1..5s", "9999999999h", "1.5"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_cpus() {
        for (text, bytes) in [("64M", 64 << 20), ("1.5g", 3 << 29), ("512KiB", 512 << 10), ("1 gb", 1 << 30)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(size("1048576"), Ok(1 << 20));
        for text in ["", "M", "64X", "-1", "9999999999T", "1e3", "64MM"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(cpu_nanos("0.1"), Ok(100_000_000));
        assert_eq!(cpu_nanos("2"), Ok(2_000_000_000));
        assert!(cpu_nanos("0.1234567891").is_err());
        assert_eq!(ratio("0.25").map(Ratio::as_f64), Ok(0.25));
        assert_eq!(ratio("1").map(Ratio::as_f64), Ok(1.0));
        assert!(ratio("1.1").is_err());
        assert!(whole("+3").is_err());
    }

    #[test]
    fn commands() {
        for (text, wanted) in [
            ("httpd -f -p 80", vec!["httpd", "-f", "-p", "80"]),
            (r#"sh -c "echo \"a b\" \n; exit""#, vec!["sh", "-c", r#"echo "a b" \n; exit"#]),
            (r"sh -c 'a \b' c\ d", vec!["sh", "-c", r"a \b", "c d"]),
            ("a''b \"\"", vec!["ab", ""]),
            ("  ", vec![]),
        ] {
            assert_eq!(words(text), Ok(wanted.into_iter().map(str::to_owned).collect()), "{text}");
        }
        for text in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(words(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "[0-9.hmsnuKMG'\"\\\\ ]{0,30}|\\PC{0,30}") {
            let _ = (duration(&text), size(&text), cpu_nanos(&text), ratio(&text), whole(&text), words(&text));
        }

        #[test]
        fn seconds_and_milliseconds_come_back(seconds in 0u64..1_000_000, millis in 0u64..1000) {
            let wanted = Duration::from_millis(seconds * 1000 + millis);
            prop_assert_eq!(duration(&format!("{seconds}s{millis}ms")), Ok(wanted));
            prop_assert_eq!(duration(&format!("{seconds}.{millis:03}s")), Ok(wanted));
        }
    }
}
