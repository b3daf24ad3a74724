//! Variables in values: `$NAME`, `${NAME}`, `${NAME:-default}` and their relatives, as compose writes them.
//!
//! It runs over values after YAML was read, so the text of a variable can never become a key, a comment or a new
//! line of the file. A variable without value and without default is an error here and not an empty string:
//! `image: nginx:$TAG` must not quietly become `nginx:`.

use std::collections::BTreeMap;

/// Defaults within defaults; people write two, a stack overflow needs thousands.
const NESTING_MAX: usize = 16;

/// Why a value could not be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// No value, no default.
    Unset(String),
    /// `${NAME:?message}` without a value.
    Required { name: String, message: String },
    /// A dollar sign that begins nothing that is known.
    Malformed(String),
    /// Defaults within defaults, deeper than [`NESTING_MAX`].
    TooDeep,
    /// The recipe would grow beyond what is allowed.
    TooLong,
}

impl Flaw {
    pub(super) fn message(&self) -> String {
        match self {
            Flaw::Unset(name) => format!("the variable '{name}' is not set"),
            Flaw::Required { name, message } if message.is_empty() => {
                format!("the variable '{name}' is required")
            }
            Flaw::Required { name, message } => format!("the variable '{name}' is required: {message}"),
            Flaw::Malformed(text) => format!("'{text}' is not a variable"),
            Flaw::TooDeep => format!("variables are nested more than {NESTING_MAX} deep"),
            Flaw::TooLong => "the recipe grows too long when its variables are filled in".into(),
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Flaw::Unset(name) => Some(format!("give it a value or write ${{{name}:-default}}")),
            Flaw::Required { name, .. } => Some(format!("give '{name}' a value")),
            Flaw::Malformed(_) => Some("write $$ for a dollar sign, ${NAME} for a variable".into()),
            Flaw::TooDeep | Flaw::TooLong => None,
        }
    }
}

/// Fills in the variables of one value. `room` is how many bytes the values of one recipe may still produce.
pub(super) fn interpolate(
    text: &str,
    variables: &BTreeMap<String, String>,
    room: &mut usize,
) -> Result<String, Vec<Flaw>> {
    let mut scan = Scan { rest: text, variables, room, unmet: Vec::new() };
    let mut filled = String::new();
    let outcome = scan.text(Some(&mut filled), 0);
    let mut flaws = scan.unmet;
    flaws.extend(outcome.err());
    if flaws.is_empty() { Ok(filled) } else { Err(flaws) }
}

/// Reads from the front of `rest`. What cannot be read ends the scan; what merely has no value is collected.
struct Scan<'a> {
    rest: &'a str,
    variables: &'a BTreeMap<String, String>,
    room: &'a mut usize,
    unmet: Vec<Flaw>,
}

/// Where text goes; None where a branch is read only to find its end.
type Sink<'s> = Option<&'s mut String>;

impl<'a> Scan<'a> {
    /// Text with variables: all of it, or (nested) up to the brace that closes it.
    fn text(&mut self, mut sink: Sink<'_>, nesting: usize) -> Result<(), Flaw> {
        if nesting > NESTING_MAX {
            return Err(Flaw::TooDeep);
        }
        loop {
            let stop = self.rest.find(|c| c == '$' || (c == '}' && nesting > 0)).unwrap_or(self.rest.len());
            let plain = self.take(stop);
            self.put(&mut sink, plain)?;
            if !self.rest.starts_with('$') {
                return Ok(());
            }
            self.dollar(&mut sink, nesting)?;
        }
    }

    fn dollar(&mut self, sink: &mut Sink<'_>, nesting: usize) -> Result<(), Flaw> {
        let start = self.rest;
        self.take(1);
        if self.skip("$") {
            return self.put(sink, "$");
        }
        if self.skip("{") {
            return self.braced(sink, nesting, start);
        }
        match self.name() {
            Some(name) => self.value_or_unmet(sink, name),
            None => Err(malformed(start)),
        }
    }

    /// Behind `${`: a name, perhaps an operator with its text, the closing brace.
    fn braced(&mut self, sink: &mut Sink<'_>, nesting: usize, start: &str) -> Result<(), Flaw> {
        let name = self.name().ok_or_else(|| malformed(start))?;
        let empty_is_unset = self.skip(":");
        let value = self.variables.get(name).filter(|value| !(empty_is_unset && value.is_empty()));
        if self.skip("-") {
            match value {
                Some(value) => self.put(sink, value).and_then(|()| self.text(None, nesting + 1))?,
                None => self.text(sink.as_deref_mut(), nesting + 1)?,
            }
        } else if self.skip("+") {
            let sink = if value.is_some() { sink.as_deref_mut() } else { None };
            self.text(sink, nesting + 1)?;
        } else if self.skip("?") {
            self.required(sink, name, value.map(String::as_str), nesting)?;
        } else if empty_is_unset {
            return Err(malformed(start));
        } else {
            self.value_or_unmet(sink, name)?;
        }
        if self.skip("}") { Ok(()) } else { Err(malformed(start)) }
    }

    fn required(
        &mut self,
        sink: &mut Sink<'_>,
        name: &str,
        value: Option<&str>,
        nesting: usize,
    ) -> Result<(), Flaw> {
        if let Some(value) = value {
            self.put(sink, value)?;
            return self.text(None, nesting + 1);
        }
        let mut message = String::new();
        // In a branch that is not taken nothing is required, not even the variables of the message.
        self.text(sink.is_some().then_some(&mut message), nesting + 1)?;
        if sink.is_some() {
            self.unmet.push(Flaw::Required { name: name.to_owned(), message });
        }
        Ok(())
    }

    fn value_or_unmet(&mut self, sink: &mut Sink<'_>, name: &str) -> Result<(), Flaw> {
        match self.variables.get(name) {
            Some(value) => self.put(sink, value),
            None if sink.is_some() => {
                self.unmet.push(Flaw::Unset(name.to_owned()));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn put(&mut self, sink: &mut Sink<'_>, text: &str) -> Result<(), Flaw> {
        let Some(sink) = sink else { return Ok(()) };
        *self.room = self.room.checked_sub(text.len()).ok_or(Flaw::TooLong)?;
        sink.push_str(text);
        Ok(())
    }

    /// A letter or underscore, then letters, digits, underscores.
    fn name(&mut self) -> Option<&'a str> {
        if self.rest.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let end =
            self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        (end > 0).then(|| self.take(end))
    }

    fn skip(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }
}

/// Shows the beginning of what was not understood.
fn malformed(text: &str) -> Flaw {
    const SHOWN_CHARS_MAX: usize = 24;
    Flaw::Malformed(text.lines().next().unwrap_or_default().chars().take(SHOWN_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(text: &str) -> Result<String, Vec<Flaw>> {
        let pairs = [("TAG", "1.2"), ("EMPTY", ""), ("DOLLAR", "$TAG")];
        let variables = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        interpolate(text, &variables, &mut 1_000)
    }

    #[test]
    fn every_form_of_a_variable() {
        for (text, wanted) in [
            ("nginx:$TAG", "nginx:1.2"),
            ("${TAG}0", "1.20"),
            ("$TAG-$TAG", "1.2-1.2"),
            ("${EMPTY}", ""),
            ("${NONE:-d}${EMPTY:-d}${TAG:-d}", "dd1.2"),
            ("${NONE-d}${EMPTY-d}${TAG-d}", "d1.2"),
            ("${NONE:+r}${EMPTY:+r}${TAG:+r}", "r"),
            ("${NONE+r}${EMPTY+r}${TAG+r}", "rr"),
            ("${TAG:?needed}${EMPTY?needed}", "1.2"),
            ("${NONE:-${ALSO_NONE:-x$TAG}y}", "x1.2y"),
            ("${TAG:-$NONE ${NONE:?never}}", "1.2"),
            ("${NONE:+$NONE}", ""),
            ("$$TAG $${TAG} $$$TAG", "$TAG ${TAG} $1.2"),
            ("${NONE:-$$(id)}", "$(id)"),
            ("$DOLLAR", "$TAG"),
            ("{} } {{.Node.Hostname}}", "{} } {{.Node.Hostname}}"),
            ("${NONE:-ünïcode}", "ünïcode"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_is_named() {
        let unset = |name: &str| Flaw::Unset(name.into());
        let required =
            |name: &str, message: &str| Flaw::Required { name: name.into(), message: message.into() };
        for (text, wanted) in [
            ("$A and ${B}", vec![unset("A"), unset("B")]),
            ("${A:-$B}", vec![unset("B")]),
            ("${EMPTY:?set it}", vec![required("EMPTY", "set it")]),
            ("${A?see $TAG}", vec![required("A", "see 1.2")]),
            ("${A:?}", vec![required("A", "")]),
        ] {
            assert_eq!(filled(text), Err(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_variable_is_shown() {
        for (text, shown) in [
            ("5$", "$"),
            ("$5", "$5"),
            ("$(hostname)", "$(hostname)"),
            ("${}", "${}"),
            ("a ${TAG", "${TAG"),
            ("${TAG:x}", "${TAG:x}"),
            ("${TAG:-a", "${TAG:-a"),
            ("${TAG!}", "${TAG!}"),
        ] {
            assert_eq!(filled(text), Err(vec![Flaw::Malformed(shown.into())]), "{text}");
        }
    }

    #[test]
    fn growth_and_depth_are_bounded() {
        let variables = BTreeMap::from([("A".to_owned(), "x".repeat(600))]);
        assert_eq!(interpolate("$A$A", &variables, &mut 1_000), Err(vec![Flaw::TooLong]));
        let deep = "${N:-".repeat(10_000);
        assert_eq!(filled(&deep), Err(vec![Flaw::TooDeep]));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[$${}:?+-ABé ]{0,40}|\\PC{0,40}") {
            let _ = filled(&text);
        }

        #[test]
        fn doubled_dollars_come_back_single(text in "\\PC{0,60}") {
            prop_assert_eq!(filled(&text.replace('$', "$$")), Ok(text));
        }
    }
}
