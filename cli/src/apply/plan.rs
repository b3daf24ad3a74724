//! What is so already, and what has to be sent for the rest.
//!
//! Asking and deciding are apart: `now` and `rehearsed` ask, everything else is a function of what they found.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::manifest::{self, Object};
use crate::client::{DRY_RUN, Payload};
use crate::env::ENV;
use crate::failure::Failure;
use crate::input;
use crate::session::Session;
use crate::value::{items, list_at, text_at};

/// What is to be done about a thing.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) object: Object,
    pub(crate) verdict: Verdict,
    /// What becomes different, in words.
    pub(crate) changes: Vec<String>,
    /// What is sent, in this order.
    pub(crate) steps: Vec<Step>,
}

/// Whether a thing is as it is wished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Create,
    Update,
    Same,
}

impl Verdict {
    pub(crate) fn done(self) -> &'static str {
        match self {
            Verdict::Create => "created",
            Verdict::Update => "updated",
            Verdict::Same => "unchanged",
        }
    }

    pub(crate) fn would(self) -> &'static str {
        match self {
            Verdict::Create => "would be created",
            Verdict::Update => "would be updated",
            Verdict::Same => "unchanged",
        }
    }
}

/// A request.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) method: Method,
    pub(crate) path: Vec<String>,
    pub(crate) body: Option<Value>,
    /// Only if the object is still of this revision, or still not there.
    pub(crate) condition: Option<Option<u64>>,
}

impl Step {
    fn new(method: Method, path: Vec<String>, body: Value) -> Step {
        Step { method, path, body: Some(body), condition: None }
    }
}

/// What was found out about a thing.
#[derive(Debug, Default)]
struct Found {
    /// As it is; nothing if it is not there.
    now: Option<Value>,
    /// As a template would be, which only the manager can say.
    would_be: Option<Value>,
    /// The contents of the file that the document names: a password or a recipe.
    file: Option<String>,
}

/// What it takes to make a thing as it is wished: the changes in words, and the requests. No request: it is so already.
type Decision = Result<(Vec<String>, Vec<Step>), String>;

/// The plans for all of them. Everything that cannot be done is told before anything is sent.
pub(crate) async fn of_all(objects: Vec<Object>, session: &Session) -> Result<Vec<Plan>, Failure> {
    environments_are_there(&objects, session).await?;
    let (mut plans, mut faults) = (Vec::new(), Vec::new());
    for object in objects {
        let found = found(&object, session).await?;
        match decide(&object, &found) {
            Err(fault) => faults.push(format!("{}: {fault}", object.place)),
            Ok((changes, steps)) => {
                let verdict = match (found.now.is_some(), steps.is_empty()) {
                    (true, true) => Verdict::Same,
                    (true, false) => Verdict::Update,
                    (false, _) => Verdict::Create,
                };
                plans.push(Plan { object, verdict, changes, steps });
            }
        }
    }
    manifest::refuse(&faults, session)?;
    Ok(plans)
}

/// Environments that are named must be there, or among what is made.
async fn environments_are_there(objects: &[Object], session: &Session) -> Result<(), Failure> {
    let made =
        |name: &str| objects.iter().any(|object| object.kind.noun.word == ENV.word && object.name == name);
    let named: BTreeSet<&str> = objects.iter().filter_map(|object| object.env.as_deref()).collect();
    for name in named.into_iter().filter(|name| !made(name)) {
        session.client()?.get(&["v1", "environments", name], &[]).await?;
    }
    Ok(())
}

async fn found(object: &Object, session: &Session) -> Result<Found, Failure> {
    let now = now(object, session).await?;
    let field = match object.kind.name {
        "Stack" => Some("recipe_file"),
        // Who is there keeps their password.
        "User" if now.is_none() => Some("password_file"),
        "Registry"
            if now.as_ref().is_none_or(|now| text_at(now, "/user").as_deref() != object.text("user")) =>
        {
            Some("password_file")
        }
        _ => None,
    };
    let file = match field.and_then(|field| Some((field, object.file(field)?))) {
        Some(("password_file", file)) => Some(input::secret(&file).await?),
        Some((_, file)) => Some(input::text(&file).await?),
        None => None,
    };
    let would_be = match object.kind.name {
        "Template" => Some(rehearsed(object, session).await?),
        _ => None,
    };
    Ok(Found { now, would_be, file })
}

/// A thing as it is now.
pub(crate) async fn now(object: &Object, session: &Session) -> Result<Option<Value>, Failure> {
    let client = session.client()?;
    let is_binding = matches!(object.kind.name, "Member" | "RoleBinding");
    let path = if is_binding { object.list_path() } else { object.path() };
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let answer = match is_binding {
        true => client.list(&path, &[]).await,
        false => client.get(&path, &[]).await,
    };
    match answer {
        Ok(list) if is_binding => {
            let binding = items(&list).iter().find(|binding| binding["member"] == object.name.as_str());
            Ok(binding.cloned())
        }
        Ok(object) => Ok(Some(object)),
        Err(Failure::Refused(refusal)) if refusal.status == 404 => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// A template as the manager would have it.
async fn rehearsed(object: &Object, session: &Session) -> Result<Value, Failure> {
    let (path, body) = (object.list_path(), template_body(object));
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let client = session.client()?;
    client.begin_part(&format!("rehearse {}", object.name));
    client.write(Method::POST, &path, &[DRY_RUN], Payload::Json(&body)).await
}

fn decide(object: &Object, found: &Found) -> Decision {
    match object.kind.name {
        "Template" => template(object, found),
        "User" => user(object, found),
        "Group" => group(object, found.now.as_ref()),
        "Role" => role(object, found.now.as_ref()),
        "Environment" => environment(object, found.now.as_ref()),
        "Registry" => registry(object, found),
        "Stack" => stack(object, found),
        // A member of an environment, or who has a role in the cluster.
        _ => binding(object, found.now.as_ref()),
    }
}

/// The fields of a template as its document says them (see `docs/how-to/templates.md`).
fn template_body(object: &Object) -> Value {
    let said = |field: &str| object.spec.get(field).filter(|value| !value.is_null());
    // In a document a dollar sign begins a variable; two are one.
    let text =
        |value: &Value| value.as_str().map_or_else(|| value.clone(), |text| json!(text.replace('$', "$$")));
    let part = |fields: &[(&str, &str)]| {
        let said = fields.iter().filter_map(|(field, key)| Some(((*key).to_owned(), text(said(field)?))));
        Value::Object(said.collect())
    };
    let document = match object.text("document") {
        Some(document) => document.to_owned(),
        None => {
            let mut document = part(&[("description", "description"), ("public", "isPublic")]);
            document["name"] = json!(object.name);
            document["swarm"] = part(&[("swarm_managers", "managers"), ("spread_over", "spread")]);
            document["network"] = part(&[
                ("mtu", "mtu"),
                ("encrypted", "encrypted"),
                ("address_pools", "addressPools"),
                ("subnet_size", "subnetSize"),
            ]);
            if let Some(nfs) = said("nfs").and_then(Value::as_object) {
                document["nfs"] = nfs.iter().map(|(key, value)| (key.clone(), text(value))).collect();
            }
            // JSON is YAML.
            document.to_string()
        }
    };
    json!({"document": document, "name": object.name, "replace": true})
}

fn template(object: &Object, found: &Found) -> Decision {
    let would_be = found.would_be.as_ref().unwrap_or(&Value::Null);
    if would_be["metadata"]["name"] != object.name.as_str() {
        let named = text_at(would_be, "/metadata/name").unwrap_or_default();
        return Err(format!("metadata.name is '{}', but spec.document says '{named}'", object.name));
    }
    let differs = |(field, value): &(&String, &Value)| {
        *field != "document" && !same(value, &would_be["spec"][field.as_str()])
    };
    if let Some((field, value)) = object.spec.iter().find(differs) {
        let other = &would_be["spec"][field.as_str()];
        return Err(format!(
            "spec.{field} is {value}, but spec.document makes it {other}: change one of them"
        ));
    }
    let changes = match &found.now {
        Some(now) => {
            let (before, after) = (&now["spec"], would_be["spec"].as_object().cloned().unwrap_or_default());
            let fields = after
                .iter()
                .filter(|(field, value)| *field != "document" && before[field.as_str()] != **value);
            fields.map(|(field, value)| change(field, &before[field.as_str()], value)).collect()
        }
        None => Vec::new(),
    };
    match found.now.is_some() && changes.is_empty() {
        true => Ok(none()),
        false => Ok((changes, vec![Step::new(Method::POST, object.list_path(), template_body(object))])),
    }
}

fn user(object: &Object, found: &Found) -> Decision {
    match (&found.now, &found.file) {
        (Some(_), _) => Ok(none()),
        (None, None) => Err("spec.password_file is missing, which a new user needs".into()),
        (None, Some(password)) => {
            let body = json!({"name": object.name, "password": password, "admin": false});
            Ok((Vec::new(), vec![Step::new(Method::POST, object.list_path(), body)]))
        }
    }
}

fn group(object: &Object, now: Option<&Value>) -> Decision {
    let (mut changes, mut steps) = (Vec::new(), Vec::new());
    let description = object.text("description");
    match now {
        None => {
            let body = json!({"name": object.name, "description": description.unwrap_or_default()});
            steps.push(Step::new(Method::POST, object.list_path(), body));
        }
        Some(now) => {
            let before = text_at(now, "/spec/description").unwrap_or_default();
            if description.is_some_and(|wished| wished != before) {
                return Err(format!("spec.description cannot be changed; the group says '{before}'"));
            }
        }
    }
    if let Some(wished) = object.spec.get("members") {
        let wished = set(list_at(wished, ""));
        let before = now.map(|now| set(list_at(now, "/spec/members"))).unwrap_or_default();
        let member = |method: Method, user: &str| {
            let path = [object.path(), vec!["members".into(), user.to_owned()]].concat();
            Step { method, path, body: None, condition: None }
        };
        for user in wished.difference(&before) {
            changes.push(format!("{user} is in"));
            steps.push(member(Method::PUT, user));
        }
        for user in before.difference(&wished) {
            changes.push(format!("{user} is not in"));
            steps.push(member(Method::DELETE, user));
        }
    }
    Ok((changes, steps))
}

fn role(object: &Object, now: Option<&Value>) -> Decision {
    let before = now.map(|now| text_at(now, "/spec/description").unwrap_or_default()).unwrap_or_default();
    let description = object.text("description").unwrap_or(&before);
    let permissions = set(object.spec.get("permissions").map_or(&[], |wished| list_at(wished, "")));
    let allowed = now.map(|now| set(list_at(now, "/spec/permissions"))).unwrap_or_default();
    let mut changes: Vec<String> = permissions.difference(&allowed).map(|new| format!("+{new}")).collect();
    changes.extend(allowed.difference(&permissions).map(|gone| format!("-{gone}")));
    if now.is_some() && description != before {
        changes.push(change("description", &json!(before), &json!(description)));
    }
    if now.is_some() && changes.is_empty() {
        return Ok(none());
    }
    let body = json!({"spec": {"description": description, "permissions": permissions}});
    let mut step = Step::new(Method::PUT, object.path(), body);
    // Somebody else may change it at the same moment; then they are not overwritten unseen.
    step.condition = Some(now.and_then(|now| now["metadata"]["revision"].as_u64()));
    Ok((changes, vec![step]))
}

fn binding(object: &Object, now: Option<&Value>) -> Decision {
    let role = &object.spec["role"];
    let before = now.map_or(&Value::Null, |now| &now["role"]);
    if before == role {
        return Ok(none());
    }
    let changes = now.map(|_| change("role", before, role)).into_iter().collect();
    Ok((changes, vec![Step::new(Method::PUT, object.path(), json!({"role": role}))]))
}

fn environment(object: &Object, now: Option<&Value>) -> Decision {
    let mut spec = object.spec.clone();
    let template = spec.remove("template").unwrap_or_default();
    let Some(now) = now else {
        let mut body = json!({"name": object.name, "template": template});
        if !spec.is_empty() {
            body["spec"] = spec.into();
        }
        return Ok((Vec::new(), vec![Step::new(Method::POST, object.list_path(), body)]));
    };
    let before = &now["spec"];
    if before["template"] != template {
        return Err(format!(
            "spec.template is {template}, but the environment was made from {}, and that does not change",
            before["template"]
        ));
    }
    spec.retain(|field, value| !same(value, &before[field.as_str()]));
    if spec.is_empty() {
        return Ok(none());
    }
    let changes = spec.iter().map(|(field, value)| change(field, &before[field.as_str()], value)).collect();
    Ok((changes, vec![Step::new(Method::PATCH, object.path(), json!({"spec": spec}))]))
}

fn registry(object: &Object, found: &Found) -> Decision {
    let user = object.text("user").unwrap_or_default();
    let before = found.now.as_ref().and_then(|now| text_at(now, "/user"));
    if before.as_deref() == Some(user) {
        return Ok(none());
    }
    let changes = before.map(|before| change("user", &json!(before), &json!(user))).into_iter().collect();
    let check = object.spec.get("check").and_then(Value::as_bool).unwrap_or(true);
    let body = json!({"user": user, "password": found.file, "check": check});
    Ok((changes, vec![Step::new(Method::PUT, object.path(), body)]))
}

fn stack(object: &Object, found: &Found) -> Decision {
    let recipe = match (object.text("recipe"), &found.file) {
        (Some(recipe), None) => recipe,
        (None, Some(recipe)) => recipe.as_str(),
        _ => return Err("spec takes one of recipe (the compose file itself) and recipe_file".into()),
    };
    let before = found.now.as_ref().and_then(|now| text_at(now, "/spec/recipe"));
    if before.as_deref() == Some(recipe) {
        return Ok(none());
    }
    let changes = before.map(|_| "recipe".to_owned()).into_iter().collect();
    let body = json!({"recipe": recipe, "variables": {}});
    Ok((changes, vec![Step::new(Method::PUT, object.path(), body)]))
}

fn none() -> (Vec<String>, Vec<Step>) {
    (Vec::new(), Vec::new())
}

fn change(field: &str, before: &Value, after: &Value) -> String {
    format!("{field}: {before} -> {after}")
}

fn set(list: &[Value]) -> BTreeSet<&str> {
    list.iter().filter_map(Value::as_str).collect()
}

/// Whether a wish is so. What is not said in an object, such as the options of an NFS server, is empty.
fn same(wished: &Value, shown: &Value) -> bool {
    let said = |object: &Map<String, Value>| {
        let said = object.iter().filter(|(_, value)| **value != "");
        said.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>()
    };
    match (wished, shown) {
        (Value::Object(wished), Value::Object(shown)) => said(wished) == said(shown),
        (wished, shown) => wished == shown,
    }
}
