//! What is said about a type of things, or about one of its fields.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use skep_codes::nearest;

use super::schema::{Field, Schema, Schemas};
use super::types::Type;
use crate::apply::kind::{KINDS, Kind};
use crate::failure::Failure;

/// How many levels of fields are listed.
const LEVELS: usize = 2;

/// Lines are broken here.
const LINE_CHARS_MAX: usize = 100;

/// A type with everything that is known about it.
struct Subject<'s> {
    /// `host`, or the API's `HostWish`.
    word: &'s str,
    /// What the API shows.
    schema: Schema<'s>,
    /// What it takes.
    wishes: Vec<Schema<'s>>,
    kind: Option<&'static Kind>,
    /// Fields that are said when one is made or changed.
    said: BTreeSet<&'s str>,
    needed: BTreeSet<&'s str>,
}

/// Who writes a field.
#[derive(Clone, Copy)]
enum Use {
    Required,
    Optional,
    ReadOnly,
}

/// The page about `TYPE` or `TYPE.FIELD…`; `None` if there is no such type.
pub(super) fn page(what: &str) -> Option<Result<String, Failure>> {
    let schemas = Schemas::of_api();
    let mut steps = what.split('.');
    let subject = Subject::named(steps.next()?, &schemas)?;
    let path: Vec<&str> = steps.collect();
    Some(if path.is_empty() { Ok(subject.of_all()) } else { subject.of_field(&path) })
}

/// The fields of a type or of a field, each with the path so far, for a shell that completes.
pub(super) fn fields(what: &str) -> Vec<String> {
    let schemas = Schemas::of_api();
    let mut steps = what.split('.');
    let Some(subject) = steps.next().and_then(|word| Subject::named(word, &schemas)) else {
        return Vec::new();
    };
    let mut schema = subject.schema;
    for step in steps {
        let Some(field) = schema.field(step) else { return Vec::new() };
        schema = field.schema;
    }
    schema.fields().iter().map(|field| format!("{what}.{}", field.name)).collect()
}

impl<'s> Subject<'s> {
    fn named(word: &str, schemas: &'s Schemas) -> Option<Subject<'s>> {
        let known = Type::named(word);
        let (name, schema) = schemas.named(known.map_or(word, |known| known.schema))?;
        let wishes = known.map_or(&[][..], |known| known.wishes);
        let kind = known.and_then(|known| known.kind);
        let mut subject = Subject {
            word: known.map_or(name, |known| known.word()),
            schema,
            wishes: wishes.iter().filter_map(|name| Some(schemas.named(name)?.1)).collect(),
            kind: KINDS.iter().find(|one| Some(one.name) == kind),
            said: BTreeSet::new(),
            needed: BTreeSet::new(),
        };
        subject.gather();
        Some(subject)
    }

    /// Some wishes have what is wished under `spec`, some beside it; to the reader it is the same.
    fn gather(&mut self) {
        let beside: Vec<Field<'s>> = self.wishes.iter().flat_map(Schema::fields).collect();
        let spec = beside.iter().filter(|field| field.name == "spec");
        let under: Vec<Field<'s>> = spec.flat_map(|spec| spec.schema.fields()).collect();
        let asked = beside.iter().chain(&under).map(|field| (field.name, field.is_needed));
        let in_files = self.kind.into_iter().flat_map(|kind| kind.fields);
        let in_files = in_files.filter(|field| !field.is_shown()).map(|field| (field.name, field.is_needed));
        for (name, is_needed) in asked.chain(in_files).filter(|(name, _)| *name != "spec") {
            self.said.insert(name);
            if is_needed {
                self.needed.insert(name);
            }
        }
    }

    fn of_all(&self) -> String {
        let mut text = String::new();
        paragraph(&mut text, 0, &format!("{}: {}", self.word, self.schema.about()));
        if self.is_thing() && self.said.is_empty() {
            text.push_str("\nManagers write it: every field is read-only.\n");
        }
        text.push_str("\nFields:\n");
        self.list(&mut text, &self.schema, &[], 1);
        let unseen = self.unseen();
        if !unseen.is_empty() {
            text.push_str("\nSaid when one is made or changed, and not shown:\n");
        }
        for field in &unseen {
            self.entry(&mut text, field, &[], 1);
        }
        if let Some(kind) = self.kind {
            text.push('\n');
            paragraph(&mut text, 0, &files(kind));
        }
        self.hint(&mut text, &self.schema, &[]);
        text
    }

    fn of_field(&self, path: &[&str]) -> Result<String, Failure> {
        let mut text = String::new();
        if let (["spec", name], Some(kind)) = (path, self.kind)
            && self.schema.field("spec").is_none_or(|spec| spec.schema.field(name).is_none())
            && let Some(field) = kind.fields.iter().find(|field| field.name == *name)
        {
            let takes = field.wanted().trim_start_matches("a ");
            let needed = if field.is_needed { ", required" } else { "" };
            let _ = writeln!(text, "{}.spec.{name}: {takes}{needed}; in files for skep apply", self.word);
            return Ok(text);
        }
        let field = self.walk(path)?;
        let mark = self.mark(path, field.is_needed);
        let _ = writeln!(text, "{}.{}: {}{mark}", self.word, path.join("."), field.schema.takes());
        paragraph(&mut text, 2, &field.schema.about());
        if !field.schema.fields().is_empty() {
            text.push_str("\nFields:\n");
            self.list(&mut text, &field.schema, path, 1);
            self.hint(&mut text, &field.schema, path);
        }
        Ok(text)
    }

    fn walk(&self, path: &[&str]) -> Result<Field<'s>, Failure> {
        let mut at: Option<Field<'s>> = None;
        for (depth, step) in path.iter().enumerate() {
            let known = match &at {
                Some(field) => field.schema.fields(),
                None => self.schema.fields().into_iter().chain(self.unseen()).collect(),
            };
            let names: Vec<&str> = known.iter().map(|field| field.name).collect();
            let Some(field) = known.into_iter().find(|field| field.name == *step) else {
                let place = std::iter::once(&self.word).chain(&path[..depth]).copied().collect::<Vec<_>>();
                return Err(unknown_field(&place.join("."), step, &names, at.as_ref()));
            };
            at = Some(field);
        }
        at.ok_or_else(|| unknown_field(self.word, "", &[], None))
    }

    /// What is said and stands nowhere in what is shown, such as passwords.
    fn unseen(&self) -> Vec<Field<'s>> {
        let spec = self.schema.field("spec");
        let is_shown = |name: &str| {
            let in_spec = spec.as_ref().is_some_and(|spec| spec.schema.field(name).is_some());
            matches!(name, "spec" | "name") || in_spec || self.schema.field(name).is_some()
        };
        let fields = self.wishes.iter().flat_map(Schema::fields);
        fields.filter(|field| !is_shown(field.name)).collect()
    }

    /// The fields below a path, and theirs.
    fn list(&self, text: &mut String, schema: &Schema<'s>, path: &[&str], level: usize) {
        for field in schema.fields() {
            self.entry(text, &field, path, level);
        }
    }

    fn entry(&self, text: &mut String, field: &Field<'s>, path: &[&str], level: usize) {
        let path: Vec<&str> = path.iter().copied().chain([field.name]).collect();
        let indent = 4 * level - 2;
        let mark = self.mark(&path, field.is_needed);
        paragraph(text, indent, &format!("{}: {}{mark}", field.name, field.schema.takes()));
        paragraph(text, indent + 2, &field.schema.about());
        if level < LEVELS {
            self.list(text, &field.schema, &path, level + 1);
        }
    }

    /// Where to go on, if there are fields that were not listed.
    fn hint(&self, text: &mut String, schema: &Schema<'s>, path: &[&str]) {
        let below = schema.fields().into_iter().flat_map(|upper| {
            let lower = upper.schema.fields().into_iter().filter(|lower| !lower.schema.fields().is_empty());
            lower.map(move |lower| [upper.name, lower.name])
        });
        if let Some(steps) = below.into_iter().next() {
            let path: Vec<&str> = [self.word].iter().chain(path).chain(&steps).copied().collect();
            let _ = writeln!(text, "\nMore about a field: skep explain {}", path.join("."));
        }
    }

    /// Whether somebody makes or changes such things; a schema that was named itself is only described.
    fn is_thing(&self) -> bool {
        Type::named(self.word).is_some()
    }

    fn mark(&self, path: &[&str], is_needed: bool) -> &'static str {
        match self.used(path, is_needed) {
            Some(Use::Required) => ", required",
            Some(Use::ReadOnly) => ", read-only",
            Some(Use::Optional) | None => "",
        }
    }

    fn used(&self, path: &[&str], is_needed: bool) -> Option<Use> {
        let as_said = |is_needed| if is_needed { Use::Required } else { Use::Optional };
        if !self.is_thing() {
            return Some(as_said(is_needed));
        }
        if self.said.is_empty() {
            return None;
        }
        let is_in_environment = self.kind.is_some_and(Kind::is_in_environment);
        Some(match path {
            ["metadata" | "spec"] => Use::Optional,
            ["kind"] if self.kind.is_some() => Use::Required,
            ["metadata", "name"] if self.kind.is_some() || self.said.contains("name") => Use::Required,
            ["metadata", "env"] if is_in_environment => Use::Optional,
            ["spec", name] | [name] if self.said.contains(name) => as_said(self.needed.contains(name)),
            ["spec", name, ..] | [name, ..] if self.said.contains(name) => as_said(is_needed),
            _ => Use::ReadOnly,
        })
    }
}

/// What a document of a file holds.
fn files(kind: &Kind) -> String {
    let metadata = if kind.is_in_environment() { "name (required), env" } else { "name (required)" };
    let said = kind.fields.iter().filter(|field| !field.is_shown());
    let name = |field: &crate::apply::kind::Field| {
        if field.is_needed { format!("{} (required)", field.name) } else { field.name.to_owned() }
    };
    let spec: Vec<String> = said.map(name).collect();
    format!("In files for skep apply: kind: {}; metadata: {metadata}; spec: {}.", kind.name, spec.join(", "))
}

fn unknown_field(place: &str, step: &str, names: &[&str], at: Option<&Field<'_>>) -> Failure {
    if let (true, Some(field)) = (names.is_empty(), at) {
        return Failure::usage(
            format!("{place} has no fields: it is of type {}", field.schema.takes()),
            format!("see it with: skep explain {place}"),
        );
    }
    Failure::usage(
        format!("{place} has no field '{step}'"),
        format!("{}there are: {}", meant(step, names.iter().copied()), names.join(", ")),
    )
}

/// The beginning of what helps against a word that is not known.
pub(super) fn meant<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(word, known).map(|near| format!("did you mean {near}? ")).unwrap_or_default()
}

/// Writes words on indented lines of [`LINE_CHARS_MAX`] at most.
fn paragraph(text: &mut String, indent: usize, words: &str) {
    let mut line = String::new();
    for word in words.split_whitespace() {
        if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > LINE_CHARS_MAX {
            let _ = writeln!(text, "{:indent$}{line}", "");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
}
