//! Walks the tree of a recipe along slices of known keys, and collects every error with its place.
//!
//! A level of the recipe is one constant slice of [`Key`]s. An understood key carries the function that reads it, so
//! there is no second list that could disagree: the parser, "did you mean" and the documentation walk the same one.

use std::collections::{BTreeMap, BTreeSet};

use skep_codes::nearest;

use super::error::RecipeError;
use super::interpolate::interpolate;
use super::levels;
use super::names;
use super::node::{Name, Node, Value};
use super::quantity::Misfit;

/// Nobody reads more at once, and a hostile recipe must not become a huge answer.
const ERRORS_MAX: usize = 100;
/// What all values of a recipe may hold once variables are filled in; see [`super::TEXT_BYTES_MAX`].
const VALUES_BYTES_MAX: usize = 2 * super::TEXT_BYTES_MAX;

/// A key that may stand on some level, and what becomes of it.
pub(crate) struct Key<T: 'static> {
    pub(crate) name: &'static str,
    pub(crate) treatment: Treatment<T>,
}

pub(crate) enum Treatment<T: 'static> {
    /// Understood: `about` is for the documentation, `read` puts it into what is being built.
    Read { about: &'static str, read: fn(&mut Reader<'_>, &Node, &mut T) },
    /// Will never be understood.
    Refused { because: &'static str, instead: &'static str },
    /// Means something to Swarm, but not to Skep so far.
    NotYet,
}

pub(crate) const fn read<T>(
    name: &'static str,
    about: &'static str,
    read: fn(&mut Reader<'_>, &Node, &mut T),
) -> Key<T> {
    Key { name, treatment: Treatment::Read { about, read } }
}

pub(crate) const fn refused<T>(name: &'static str, because: &'static str, instead: &'static str) -> Key<T> {
    Key { name, treatment: Treatment::Refused { because, instead } }
}

pub(crate) const fn not_yet<T>(name: &'static str) -> Key<T> {
    Key { name, treatment: Treatment::NotYet }
}

/// Where something stands: kept for checks that are made later.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pointer: String,
    line: Option<usize>,
    column: Option<usize>,
}

impl Place {
    /// `services.web.ports[0] (line 7)`
    pub(crate) fn spoken(&self) -> String {
        match self.line {
            Some(line) => format!("{} (line {line})", self.pointer),
            None => self.pointer.clone(),
        }
    }
}

pub(crate) struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    /// The value that is being read, as a person would point at it.
    pointer: String,
    room: usize,
    /// Where else a key would be understood.
    home_of: fn(&str) -> Option<&'static str>,
    errors: Vec<RecipeError>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(variables: &'a BTreeMap<String, String>) -> Reader<'a> {
        let home_of = levels::home_of;
        Reader { variables, pointer: String::new(), room: VALUES_BYTES_MAX, home_of, errors: Vec::new() }
    }

    /// For a document of another kind, whose keys have no home in a recipe.
    pub(crate) fn of_another_document(variables: &'a BTreeMap<String, String>) -> Reader<'a> {
        Reader { home_of: |_| None, ..Reader::new(variables) }
    }

    /// All errors in the order of their lines, or none.
    pub(crate) fn into_errors(mut self) -> Result<(), Vec<RecipeError>> {
        self.errors.sort_by_key(|error| (error.line, error.column));
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&'a String> {
        self.variables.get(name)
    }

    // --- errors

    pub(crate) fn place(&self, node: &Node) -> Place {
        Place { pointer: self.pointer.clone(), line: node.line, column: node.column }
    }

    pub(crate) fn fail(&mut self, node: &Node, message: impl Into<String>) {
        self.fail_at(self.place(node), message, None);
    }

    pub(crate) fn fail_hint(&mut self, node: &Node, message: impl Into<String>, hint: impl Into<String>) {
        self.fail_at(self.place(node), message, Some(hint.into()));
    }

    pub(crate) fn fail_at(&mut self, place: Place, message: impl Into<String>, hint: Option<String>) {
        if !self.is_full() {
            let Place { pointer, line, column } = place;
            self.errors.push(RecipeError { pointer, line, column, message: message.into(), hint });
        }
    }

    /// Whether further errors would be dropped, so that guessing what was meant is wasted.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= ERRORS_MAX
    }

    /// Whether something below this top level key is already known to be wrong.
    pub(crate) fn has_failed_within(&self, top: &str) -> bool {
        self.errors.iter().any(|error| error.pointer.starts_with(top))
    }

    pub(crate) fn error_count(&self) -> usize {
        self.errors.len()
    }

    /// Whether this key of the current value has been found wrong since `before` errors were known.
    pub(crate) fn has_failed_since(&self, before: usize, key: &str) -> bool {
        let pointer = format!("{}.{key}", self.pointer);
        self.errors.iter().skip(before).any(|error| error.pointer == pointer)
    }

    fn fail_name(&mut self, name: &Name, message: impl Into<String>, hint: Option<String>) {
        let place = Place { pointer: self.pointer.clone(), line: name.line, column: name.column };
        self.fail_at(place, message, hint);
    }

    fn within<R>(&mut self, segment: &str, inner: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.pointer.len();
        if before > 0 && !segment.starts_with('[') {
            self.pointer.push('.');
        }
        self.pointer.push_str(segment);
        let result = inner(self);
        self.pointer.truncate(before);
        result
    }

    // --- mappings and lists

    /// Reads a mapping whose keys are known beforehand.
    pub(crate) fn keys<T>(&mut self, node: &Node, level: &[Key<T>], into: &mut T) {
        for (name, value) in self.entries(node) {
            // Extension keys belong to the author; anchors are often kept there.
            if name.text.starts_with("x-") {
                continue;
            }
            self.within(&name.text, |cx| match level.iter().find(|key| key.name == name.text) {
                Some(key) => cx.key(name, value, key, into),
                None => cx.unknown(name, level.iter().map(|key| key.name)),
            });
        }
    }

    fn key<T>(&mut self, name: &Name, value: &Node, key: &Key<T>, into: &mut T) {
        match &key.treatment {
            Treatment::Read { read, .. } => read(self, value, into),
            Treatment::Refused { because, instead } => {
                self.fail_name(name, format!("not possible: {because}"), Some((*instead).to_owned()));
            }
            Treatment::NotYet => {
                self.fail_name(name, "not supported yet", Some("leave it out".to_owned()));
            }
        }
    }

    fn unknown(&mut self, name: &Name, known: impl Iterator<Item = &'static str>) {
        if self.is_full() {
            return;
        }
        let hint = match nearest(&name.text, known) {
            Some(near) => Some(format!("did you mean '{near}'?")),
            None => (self.home_of)(&name.text).map(|level| format!("it belongs under {level}")),
        };
        self.fail_name(name, "unknown key", hint);
    }

    /// Reads a mapping whose keys are names that the author chose.
    pub(crate) fn named(
        &mut self,
        node: &Node,
        check: fn(&str) -> Result<(), Misfit>,
        mut each: impl FnMut(&mut Self, &str, &Node),
    ) {
        for (name, value) in self.entries(node) {
            self.within(&name.text, |cx| {
                if let Err(misfit) = check(&name.text) {
                    cx.fail_name(name, misfit.message, Some(misfit.hint));
                }
                each(cx, &name.text, value);
            });
        }
    }

    pub(crate) fn each_item(&mut self, node: &Node, mut each: impl FnMut(&mut Self, &Node)) {
        for (index, item) in self.items(node).iter().enumerate() {
            self.within(&format!("[{index}]"), |cx| each(cx, item));
        }
    }

    /// For what may be a mapping or a list: says so if it is neither.
    pub(crate) fn refuse_scalar(&mut self, node: &Node) -> bool {
        let is_scalar = matches!(node.value, Value::Scalar(_));
        if is_scalar {
            self.fail_hint(node, "must be a list or a mapping", "write lines of '- value' below it");
        }
        is_scalar
    }

    fn entries<'n>(&mut self, node: &'n Node) -> &'n [(Name, Node)] {
        match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            Value::Scalar(_) | Value::List(_) => {
                self.fail_hint(node, "must be a mapping", "write lines of 'key: value' below it");
                &[]
            }
        }
    }

    fn items<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            Value::Null => &[],
            Value::Scalar(_) | Value::Map(_) => {
                self.fail_hint(node, "must be a list", "write lines of '- value' below it");
                &[]
            }
        }
    }

    // --- values

    /// A single value with its variables filled in.
    pub(crate) fn text(&mut self, node: &Node) -> Option<String> {
        let written = match &node.value {
            Value::Scalar(written) => written,
            Value::Null => {
                self.fail(node, "needs a value");
                return None;
            }
            Value::List(_) | Value::Map(_) => {
                self.fail(node, "must be a single value");
                return None;
            }
        };
        match interpolate(written, self.variables, &mut self.room) {
            Ok(text) => Some(text),
            Err(flaws) => {
                for flaw in flaws {
                    self.fail_at(self.place(node), flaw.message(), flaw.hint());
                }
                None
            }
        }
    }

    /// A single value that `parse` must understand.
    pub(crate) fn value<V>(
        &mut self,
        node: &Node,
        parse: impl FnOnce(&str) -> Result<V, Misfit>,
    ) -> Option<V> {
        let text = self.text(node)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(misfit) => {
                self.fail_hint(node, misfit.message, misfit.hint);
                None
            }
        }
    }

    /// One of a few words.
    pub(crate) fn choice<V: Copy>(&mut self, node: &Node, choices: &[(&str, V)]) -> Option<V> {
        self.value(node, |text| match choices.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(*value),
            None => {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                Err(Misfit::new(
                    format!("'{text}' is not known here"),
                    format!("write {}", words.join(" or ")),
                ))
            }
        })
    }

    /// A list of single values.
    pub(crate) fn texts(&mut self, node: &Node) -> Vec<String> {
        let mut texts = Vec::new();
        self.each_item(node, |cx, item| texts.extend(cx.text(item)));
        texts
    }

    /// `key: value` lines or `- key=value` lines. A value may be missing; a key may not come twice.
    pub(crate) fn pairs(
        &mut self,
        node: &Node,
        mut each: impl FnMut(&mut Self, &Node, String, Option<String>),
    ) {
        if self.refuse_scalar(node) {
            return;
        }
        if !matches!(node.value, Value::List(_)) {
            return self.named(node, names::pair_key, |cx, name, value| match value.value {
                Value::Null => each(cx, value, name.to_owned(), None),
                _ => {
                    if let Some(text) = cx.text(value) {
                        each(cx, value, name.to_owned(), Some(text));
                    }
                }
            });
        }
        let mut seen = BTreeSet::new();
        self.each_item(node, |cx, item| {
            let Some(text) = cx.text(item) else { return };
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (text.as_str(), None),
            };
            if let Err(misfit) = names::pair_key(key) {
                return cx.fail_hint(item, misfit.message, misfit.hint);
            }
            if !seen.insert(key.to_owned()) {
                return cx.fail_hint(item, format!("'{key}' is given twice"), "leave one out");
            }
            each(cx, item, key.to_owned(), value);
        });
    }
}
