//! Reading documents: what stands in them, where, and everything that is wrong, all at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

use super::kind::{KINDS, Kind};
use crate::failure::Failure;
use crate::input;
use crate::noun::CHOSEN;
use crate::session::Session;

/// Names of files in a folder that hold documents.
const ENDINGS: &[&str] = &["yaml", "yml", "json"];

/// The most documents of one file: more than people write, and what is asked about one by one.
const DOCUMENTS_MAX: usize = 10_000;

/// What may stand beside `spec`. What the manager says of a thing is read over, so that what was shown can be applied.
const TOP_FIELDS: &[&str] = &["kind", "metadata", "spec", "status"];
const METADATA_FIELDS: &[&str] = &["name", "env", "id", "revision", "created_at", "updated_at"];

/// A thing as a document says it.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) kind: &'static Kind,
    pub(crate) name: String,
    /// Set for what is in an environment.
    pub(crate) env: Option<String>,
    /// What the document wishes; nothing that the API only shows.
    pub(crate) spec: Map<String, Value>,
    /// `users.yaml, document 2`.
    pub(crate) place: String,
    /// Where files that it names are looked for.
    folder: PathBuf,
}

impl Object {
    /// Its path in the API.
    pub(crate) fn path(&self) -> Vec<String> {
        // Members have two names: whether they are users or groups, and which.
        let mut path = self.list_path();
        path.extend(self.name.split('/').map(str::to_owned));
        path
    }

    /// Where the API has all of them.
    pub(crate) fn list_path(&self) -> Vec<String> {
        let segment = |segment: &&str| match (*segment, &self.env) {
            (CHOSEN, Some(env)) => env.clone(),
            (segment, _) => segment.to_owned(),
        };
        std::iter::once("v1".to_owned()).chain(self.kind.noun.path.iter().map(segment)).collect()
    }

    /// A text of the spec; nothing if it is not said.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.spec.get(field).and_then(Value::as_str)
    }

    /// The file that a field names, seen from the document's own folder.
    pub(crate) fn file(&self, field: &str) -> Option<PathBuf> {
        self.text(field).map(|file| self.folder.join(file))
    }

    /// The reference, with the environment.
    pub(crate) fn shown(&self) -> String {
        let reference = self.kind.noun.reference(&self.name);
        self.env.as_ref().map_or(reference.clone(), |env| format!("{reference} in {env}"))
    }
}

/// Everything that the files say, in the order in which it is to be made; or everything that is wrong with them.
pub(crate) async fn read(files: &[PathBuf], session: &Session) -> Result<Vec<Object>, Failure> {
    let (mut objects, mut faults) = (Vec::new(), Vec::new());
    for file in all_of(files)? {
        let (name, text) = (input::name_of(&file), input::text(&file).await?);
        let folder =
            if input::is_stdin(&file) { Path::new("") } else { file.parent().unwrap_or(Path::new("")) };
        match documents(&text) {
            Err(error) => faults.push(format!("{name}: {error}")),
            Ok(documents) => {
                for (number, document) in documents.into_iter().enumerate() {
                    let place = format!("{name}, document {}", number + 1);
                    let chosen = session.settings.env.as_deref();
                    match object(document, chosen, &place, folder) {
                        Ok(object) => objects.push(object),
                        Err(found) => {
                            faults.extend(found.into_iter().map(|fault| format!("{place}: {fault}")))
                        }
                    }
                }
            }
        }
    }
    let mut places = BTreeMap::new();
    for object in &objects {
        if let Some(before) = places.insert(object.path(), &object.place) {
            faults.push(format!("{}: {} stands in {before} already", object.place, object.shown()));
        }
    }
    refuse(&faults, session)?;
    if objects.is_empty() {
        return Err(Failure::usage("the files have no documents", "see docs/how-to/apply.md"));
    }
    let rank = |object: &Object| KINDS.iter().position(|kind| kind.name == object.kind.name);
    objects.sort_by_key(rank);
    Ok(objects)
}

/// Ends the command if something is wrong, and says everything that is.
pub(crate) fn refuse(faults: &[String], session: &Session) -> Result<(), Failure> {
    let fix = "nothing was sent; correct the documents and apply them again";
    match faults {
        [] => Ok(()),
        [fault] => Err(Failure::usage(fault, fix)),
        faults => {
            faults.iter().for_each(|fault| session.report(&Failure::usage(fault, fix)));
            Err(Failure::usage(format!("{} mistakes in the documents", faults.len()), fix))
        }
    }
}

/// The files that are named, with those in folders in the order of their names.
fn all_of(files: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for file in files {
        if input::is_stdin(file) || !file.is_dir() {
            all.push(file.clone());
            continue;
        }
        let failed = |source| Failure::File { doing: format!("read {}", file.display()), source };
        let entries =
            std::fs::read_dir(file).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?;
        let ends_well = |path: &PathBuf| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            path.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending))
        };
        let mut inside: Vec<PathBuf> =
            entries.iter().map(std::fs::DirEntry::path).filter(ends_well).collect();
        if inside.is_empty() {
            return Err(Failure::usage(
                format!("the folder {} has no documents", file.display()),
                format!("files of documents end in: {}", ENDINGS.join(", ")),
            ));
        }
        inside.sort();
        all.extend(inside);
    }
    Ok(all)
}

/// The documents of a text. JSON is YAML, too; empty documents do not count.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_documents: DOCUMENTS_MAX },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options::<Value>(text, options)
        .map_err(|error| format!("this is not valid YAML: {}", error.without_snippet()))
}

/// What a document says, or everything that is wrong with it.
fn object(document: Value, chosen: Option<&str>, place: &str, folder: &Path) -> Result<Object, Vec<String>> {
    let Value::Object(mut top) = document else {
        return Err(vec!["a document is an object with kind, metadata and spec".into()]);
    };
    let kinds = || KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
    let said = top.get("kind").and_then(Value::as_str);
    let Some(kind) = said.and_then(|said| KINDS.iter().find(|kind| kind.name == said)) else {
        let what = said.map_or("kind is missing".to_owned(), |said| format!("kind '{said}' is not known"));
        return Err(vec![format!("{what}; there are: {}", kinds())]);
    };
    let mut faults = unknown(&top, TOP_FIELDS, "");
    let metadata = taken(&mut top, "metadata", &mut faults);
    let mut spec = taken(&mut top, "spec", &mut faults);
    faults.extend(unknown(&metadata, METADATA_FIELDS, "metadata."));
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    faults.extend(name_fault(kind, &name));
    let said = metadata.get("env").filter(|env| !env.is_null());
    let env = match (kind.is_in_environment(), said.map(|env| env.as_str()), chosen) {
        (false, None, _) => None,
        (false, Some(_), _) => {
            faults.push(format!("metadata.env has no meaning: a {} is in no environment", kind.name));
            None
        }
        (true, Some(Some(env)), _) | (true, None, Some(env)) => Some(env.to_owned()),
        (true, Some(None), _) => {
            faults.push("metadata.env takes a text".into());
            None
        }
        (true, None, None) => {
            faults.push("metadata.env is missing, and no environment is chosen with -e".into());
            None
        }
    };
    if env.as_deref().is_some_and(|env| !is_plain(env)) {
        faults.push("metadata.env is not a name".into());
    }
    faults.extend(kind.faults(&spec));
    spec.retain(|field, _| !kind.only_shows(field));
    match faults.is_empty() {
        true => Ok(Object { kind, name, env, spec, place: place.to_owned(), folder: folder.to_owned() }),
        false => Err(faults),
    }
}

fn taken(top: &mut Map<String, Value>, part: &str, faults: &mut Vec<String>) -> Map<String, Value> {
    match top.remove(part) {
        Some(Value::Object(members)) => members,
        None | Some(Value::Null) => Map::new(),
        Some(_) => {
            faults.push(format!("{part} takes an object"));
            Map::new()
        }
    }
}

fn unknown(members: &Map<String, Value>, known: &[&str], before: &str) -> Vec<String> {
    let unknown = members.keys().filter(|name| !known.contains(&name.as_str()));
    unknown.map(|name| format!("{before}{name} is not known; there are: {}", known.join(", "))).collect()
}

fn name_fault(kind: &Kind, name: &str) -> Option<String> {
    let member = matches!(kind.name, "Member" | "RoleBinding");
    match (member, name.split_once('/')) {
        (true, Some(("user" | "group", name))) if is_plain(name) => None,
        (true, _) => Some("metadata.name takes user/NAME or group/NAME".into()),
        (false, None) if is_plain(name) => None,
        (false, _) => Some("metadata.name is missing, or is not a name".into()),
    }
}

/// As a segment of a path anything else would name something else.
fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Object>, Vec<String>> {
        let documents = documents(text).map_err(|error| vec![error])?;
        documents
            .into_iter()
            .map(|document| object(document, Some("prod"), "a.yaml", Path::new("x")))
            .collect()
    }

    #[test]
    fn a_document_says_a_kind_a_name_and_wishes() {
        let text = "kind: Group\nmetadata: {name: dev}\nspec:\n  members: [ann]\n---\n---\n\
                    kind: Member\nmetadata: {name: group/dev, env: test}\nspec: {role: owner}\n";
        let objects = read(text).expect("valid");
        let paths: Vec<String> = objects.iter().map(|object| object.path().join("/")).collect();
        assert_eq!(paths, ["v1/groups/dev", "v1/environments/test/members/group/dev"]);
        let json = r#"{"kind": "Registry", "metadata": {"name": "r:5000"}, "spec": {"user": "a", "password_file": "pw"}}"#;
        let objects = read(json).expect("valid");
        assert_eq!(objects[0].path().join("/"), "v1/environments/prod/registries/r:5000");
        assert_eq!(objects[0].file("password_file"), Some(PathBuf::from("x/pw")));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        for (text, fault) in [
            ("[]", "a document is an object"),
            ("metadata: {name: a}", "kind is missing; there are: Role,"),
            ("kind: Pod\nmetadata: {name: a}", "kind 'Pod' is not known"),
            ("kind: Group\nmetadata: {name: a}\nspecs: {}", "specs is not known"),
            ("kind: Group\nmetadata: {nam: a}", "metadata.nam is not known"),
            ("kind: Group\nmetadata: {name: a, env: b}", "metadata.env has no meaning"),
            ("kind: Group\nmetadata: {name: 1}", "metadata.name is missing"),
            ("kind: Group\nmetadata: {name: a/b}", "metadata.name is missing, or is not a name"),
            ("kind: Member\nmetadata: {name: ann}\nspec: {role: owner}", "user/NAME or group/NAME"),
            ("kind: Member\nmetadata: {name: user/ann}", "spec.role is missing"),
            (
                "kind: Group\nmetadata: {name: a}\nspec: {member: [x]}",
                "spec.member is not known; Group has: description, members",
            ),
            ("kind: Group\nmetadata: {name: a}\nspec: {members: x}", "spec.members takes a list of texts"),
            (
                "kind: Environment\nmetadata: {name: a}\nspec: {template: t, mtu: large}",
                "spec.mtu takes a whole number or null",
            ),
            (
                "kind: Environment\nmetadata: {name: a}\nspec: {template: t, nfs: {host: x}}",
                "spec.nfs.host is not known",
            ),
            ("kind: Group\nkind: Group", "not valid YAML"),
        ] {
            let faults = read(text).expect_err(text);
            assert!(faults.iter().any(|found| found.contains(fault)), "{text}: {faults:?}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let faults =
            read("kind: Environment\nmetadata: {nam: a}\nspec: {mtu: large, size: 3}").expect_err("wrong");
        assert_eq!(faults.len(), 5, "{faults:?}");
    }

    #[test]
    fn what_the_api_shows_can_be_applied() {
        let shown = serde_json::json!({"kind": "Stack",
            "metadata": {"id": "stack_1", "name": "shop", "env": "prod", "revision": 7, "created_at": "x", "updated_at": "y"},
            "spec": {"recipe": "services: {}", "services": []}, "status": {"state": "active"}});
        let objects = read(&shown.to_string()).expect("valid");
        assert_eq!(objects[0].spec.keys().collect::<Vec<_>>(), ["recipe"]);
    }
}
