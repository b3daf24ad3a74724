//! `skep apply` and `skep delete` over an API that remembers what was sent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::{Manager, Reply, Seen, operation, problem, put, skep};

/// What there is, under the paths of the API.
#[derive(Clone, Default)]
struct World(Arc<Mutex<BTreeMap<String, Value>>>);

impl World {
    async fn start(&self) -> Manager {
        let world = self.clone();
        Manager::start(move |_, seen| world.answer(seen)).await
    }

    fn put(&self, path: &str, object: Value) -> Value {
        self.0.lock().unwrap().insert(path.to_owned(), object.clone());
        object
    }

    fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().get(path).cloned()
    }

    fn answer(&self, seen: &Seen) -> Reply {
        let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        if seen.wants_events {
            return Reply::Events(vec![put(&operation("op_1", "x", "succeeded", "done", 8))]);
        }
        match (seen.method.as_str(), parts.as_slice()) {
            ("GET", ["role-bindings"] | ["environments", _, "members"]) => {
                let all = self.0.lock().unwrap();
                let items: Vec<_> =
                    all.range(format!("{path}/")..format!("{path}0")).map(|(_, item)| item).collect();
                Reply::Json(200, json!({"items": items, "revision": 5}))
            }
            ("GET", _) => {
                self.get(path).map_or(Reply::Json(404, problem(404, None)), |found| Reply::Json(200, found))
            }
            ("DELETE", ["groups", group, "members", user]) => self.member(group, user, false),
            ("PUT", ["groups", group, "members", user]) => self.member(group, user, true),
            ("DELETE", [kind, ..]) => {
                let gone = self.0.lock().unwrap().remove(path).unwrap();
                match *kind {
                    "environments" => Reply::Json(202, operation("op_1", "x", "queued", "pending", 5)),
                    _ => Reply::Json(200, gone),
                }
            }
            ("POST", ["templates"]) => {
                let document: Value = serde_json::from_str(body["document"].as_str().unwrap()).unwrap();
                let template = json!({"kind": "Template", "metadata": {"name": body["name"]}, "spec": {
                    "description": document["description"].as_str().unwrap_or("").replace("$$", "$"),
                    "swarm_managers": document["swarm"]["managers"].as_u64().unwrap_or(3),
                    "document": body["document"]}});
                if query.is_empty() {
                    self.put(&format!("{path}/{}", body["name"].as_str().unwrap()), template.clone());
                }
                Reply::Json(200, template)
            }
            ("POST", ["environments"]) => {
                let mut spec = json!({"template": body["template"], "swarm_managers": 3});
                spec.as_object_mut().unwrap().extend(body["spec"].as_object().cloned().unwrap_or_default());
                self.put(&format!("{path}/{}", body["name"].as_str().unwrap()), json!({"spec": spec}));
                Reply::Json(202, operation("op_1", "x", "queued", "pending", 5))
            }
            ("PATCH", ["environments", _]) => {
                let mut environment = self.get(path).unwrap();
                environment["spec"]
                    .as_object_mut()
                    .unwrap()
                    .extend(body["spec"].as_object().cloned().unwrap());
                self.put(path, environment);
                Reply::Json(202, operation("op_1", "x", "queued", "pending", 5))
            }
            ("POST", [_]) if body["name"] == "refused" => Reply::Json(409, problem(409, None)),
            ("POST", [kind]) => {
                let name = body["name"].as_str().unwrap();
                let spec = json!({"description": body["description"], "members": []});
                let object = json!({"kind": kind, "metadata": {"name": name}, "spec": spec});
                Reply::Json(201, self.put(&format!("{path}/{name}"), object))
            }
            ("PUT", [.., "members", kind, name] | ["role-bindings", kind, name]) => {
                let binding = json!({"member": format!("{kind}/{name}"), "role": body["role"]});
                Reply::Json(200, self.put(path, binding))
            }
            ("PUT", ["roles", name]) => {
                let role = json!({"metadata": {"name": name, "revision": 4}, "spec": body["spec"]});
                Reply::Json(200, self.put(path, role))
            }
            ("PUT", ["environments", _, "registries", server]) => {
                Reply::Json(201, self.put(path, json!({"server": server, "user": body["user"]})))
            }
            ("PUT", ["environments", _, "stacks", _]) => {
                self.put(path, json!({"spec": {"recipe": body["recipe"]}}));
                Reply::Json(202, operation("op_1", "x", "queued", "pending", 5))
            }
            _ => Reply::Json(405, problem(405, None)),
        }
    }

    fn member(&self, group: &str, user: &str, is: bool) -> Reply {
        let path = format!("/v1/groups/{group}");
        let mut object = self.get(&path).unwrap();
        let members = object["spec"]["members"].as_array_mut().unwrap();
        members.retain(|member| member != user);
        if is {
            members.push(json!(user));
        }
        self.put(&path, object);
        Reply::Json(200, json!({}))
    }
}

const EVERYTHING: &str = r"
kind: Stack
metadata: {name: shop, env: test}
spec:
  recipe: |
    services:
      web: {image: nginx}
---
kind: Registry
metadata: {name: 'registry.example.com:5000', env: test}
spec: {user: ci, password_file: pw.txt, check: false}
---
kind: Member
metadata: {name: group/dev, env: test}
spec: {role: owner}
---
kind: Environment
metadata: {name: test}
spec: {template: small, mtu: 1400}
---
kind: RoleBinding
metadata: {name: user/ann}
spec: {role: deployer}
---
kind: Group
metadata: {name: dev}
spec: {description: developers, members: [ann]}
---
kind: User
metadata: {name: ann}
spec: {password_file: pw.txt}
---
kind: Template
metadata: {name: small}
spec: {description: costs $1, swarm_managers: 1}
---
kind: Role
metadata: {name: deployer}
spec: {permissions: ['view:stack', 'manage:stack']}
";

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn changes(manager: &Manager) -> Vec<String> {
    let changes = manager.requests().into_iter();
    changes.filter(|request| !request.starts_with("GET") && !request.contains("dry_run=true")).collect()
}

#[tokio::test]
async fn what_files_say_is_made_in_an_order_that_works_and_the_second_time_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "all.yaml", EVERYTHING);
    write(folder.path(), "pw.txt", "secret\n");
    let world = World::default();

    let manager = world.start().await;
    let rehearsed = skep(&[manager.url()], &format!("apply -f {file} --dry-run")).await;
    assert_eq!(rehearsed.code, 0, "{rehearsed:?}");
    assert_eq!(rehearsed.out.matches("would be created").count(), 9, "{}", rehearsed.out);
    assert_eq!(changes(&manager), Vec::<String>::new(), "a rehearsal changes nothing");

    let applied = skep(&[manager.url()], &format!("apply -f {file} --progress none")).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(
        applied.out,
        "role/deployer created\ntemplate/small created\nuser/ann created\ngroup/dev created\n\
         role-binding/user/ann created\nenv/test created\nmember/group/dev in test created\n\
         registry/registry.example.com:5000 in test created\nstack/shop in test created\n"
    );
    assert_eq!(
        changes(&manager),
        [
            "PUT /v1/roles/deployer",
            "POST /v1/templates",
            "POST /v1/users",
            "POST /v1/groups",
            "PUT /v1/groups/dev/members/ann",
            "PUT /v1/role-bindings/user/ann",
            "POST /v1/environments",
            "PUT /v1/environments/test/members/group/dev",
            "PUT /v1/environments/test/registries/registry.example.com:5000",
            "PUT /v1/environments/test/stacks/shop",
        ]
    );
    let sent = manager.seen();
    let sent = |method: &str, target: &str| {
        let seen = sent.iter().find(|seen| seen.method == method && seen.target == target).unwrap();
        serde_json::from_slice::<Value>(&seen.body).unwrap()
    };
    assert_eq!(sent("POST", "/v1/users"), json!({"name": "ann", "password": "secret", "admin": false}));
    let template: Value =
        serde_json::from_str(sent("POST", "/v1/templates")["document"].as_str().unwrap()).unwrap();
    assert_eq!(template["description"], "costs $$1", "in a template a dollar sign is written twice");
    assert_eq!(
        sent("POST", "/v1/environments"),
        json!({"name": "test", "template": "small", "spec": {"mtu": 1400}})
    );

    let again = world.start().await;
    let applied = skep(&[again.url()], &format!("apply -f {file} -o json")).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(changes(&again), Vec::<String>::new());
    let printed: Value = serde_json::from_str(&applied.out).unwrap();
    assert!(
        printed["items"].as_array().unwrap().iter().all(|item| item["result"] == "unchanged"),
        "{printed}"
    );
}

#[tokio::test]
async fn only_what_differs_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::default();
    world.put("/v1/groups/dev", json!({"spec": {"description": "", "members": ["ben", "cid"]}}));
    world.put("/v1/environments/test", json!({"spec": {"template": "t", "swarm_managers": 3, "mtu": null}}));
    world.put("/v1/environments/test/members/user/ann", json!({"member": "user/ann", "role": "member"}));
    let manager = world.start().await;
    let text = "kind: Group\nmetadata: {name: dev}\nspec: {members: [ann, ben]}\n---\n\
                kind: Environment\nmetadata: {name: test}\nspec: {template: t, swarm_managers: 5, mtu: null}\n---\n\
                kind: Member\nmetadata: {name: user/ann, env: test}\nspec: {role: owner}\n";
    let file = write(folder.path(), "some.yaml", text);
    let planned = skep(&[manager.url()], &format!("apply -f {file} --dry-run")).await;
    assert_eq!(
        planned.out,
        "group/dev would be updated (ann is in, cid is not in)\n\
         env/test would be updated (swarm_managers: 3 -> 5)\n\
         member/user/ann in test would be updated (role: \"member\" -> \"owner\")\n"
    );
    let applied = skep(&[manager.url()], &format!("apply -f {file} --progress none -o name")).await;
    assert_eq!(
        (applied.code, applied.out.as_str()),
        (0, "group/dev\nenv/test\nmember/user/ann\n"),
        "{applied:?}"
    );
    assert_eq!(
        changes(&manager),
        [
            "PUT /v1/groups/dev/members/ann",
            "DELETE /v1/groups/dev/members/cid",
            "PATCH /v1/environments/test",
            "PUT /v1/environments/test/members/user/ann",
        ]
    );
    assert_eq!(world.get("/v1/environments/test").unwrap()["spec"]["swarm_managers"], 5);
}

#[tokio::test]
async fn nothing_is_sent_if_a_document_is_wrong_and_every_mistake_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let manager = World::default().start().await;
    write(
        folder.path(),
        "a.yaml",
        "kind: Group\nmetadata: {name: dev}\n---\nkind: Group\nmetadata: {name: ops}\nspec: {size: 3}\n",
    );
    write(folder.path(), "b.yml", "kind: Pod\n");
    write(folder.path(), "c.json", r#"{"kind": "Group", "metadata": {"name": "dev"}}"#);
    write(folder.path(), "ignored.txt", "kind: Pod\n");
    let outcome = skep(&[manager.url()], &format!("apply -f {}", folder.path().display())).await;
    assert_eq!(outcome.code, 2, "{outcome:?}");
    for told in [
        "a.yaml, document 2: spec.size is not known; Group has: description, members",
        "b.yml, document 1: kind 'Pod' is not known",
        "c.json, document 1: group/dev stands in",
        "3 mistakes in the documents",
    ] {
        assert!(outcome.err.contains(told), "{told}: {}", outcome.err);
    }
    assert_eq!(manager.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_is_told_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::default();
    world.put("/v1/environments/test", json!({"spec": {"template": "large"}}));
    let manager = world.start().await;
    let text = "kind: Group\nmetadata: {name: dev}\n---\n\
                kind: Environment\nmetadata: {name: test}\nspec: {template: small}\n---\n\
                kind: User\nmetadata: {name: ann}\n";
    let file = write(folder.path(), "x.yaml", text);
    let outcome = skep(&[manager.url()], &format!("apply -f {file}")).await;
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.err.contains("document 2: spec.template is \"small\""), "{}", outcome.err);
    assert!(outcome.err.contains("document 3: spec.password_file is missing"), "{}", outcome.err);
    let file = write(
        folder.path(),
        "y.yaml",
        "kind: Member\nmetadata: {name: user/ann, env: nowhere}\nspec: {role: owner}\n",
    );
    let outcome = skep(&[manager.url()], &format!("apply -f {file}")).await;
    assert_eq!(outcome.code, 3, "{outcome:?}");
    assert_eq!(changes(&manager), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_done_in_part_is_exit_code_11_with_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let manager = World::default().start().await;
    let text = "kind: Group\nmetadata: {name: refused}\n---\nkind: Group\nmetadata: {name: dev}\n";
    let file = write(folder.path(), "x.yaml", text);
    let outcome = skep(&[manager.url()], &format!("apply -f {file}")).await;
    assert_eq!(outcome.code, 11, "{outcome:?}");
    assert_eq!(
        outcome.out,
        "NAME            ENV   RESULT    MESSAGE\n\
         group/refused   -     failed    Refused with 409.\n\
         group/dev       -     created\n"
    );
    assert!(outcome.err.contains("error: 1 of 2 failed"), "{}", outcome.err);
}

#[tokio::test]
async fn the_rest_of_a_command_that_is_repeated_has_the_same_keys() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(
        folder.path(),
        "x.yaml",
        "kind: Group\nmetadata: {name: a}\n---\nkind: Member\nmetadata: {name: user/ann}\nspec: {role: owner}\n",
    );
    let line = format!("apply -f {file} --idempotency-key 0198f2c1-0000-7000-8000-000000000000");
    let world = World::default();
    world.put("/v1/environments/prod", json!({"spec": {}}));
    let key = |manager: &Manager| {
        let seen = manager.seen();
        seen.iter().find(|seen| seen.method == "PUT").unwrap().key.clone().unwrap()
    };
    let first = world.start().await;
    assert_eq!(skep(&[first.url()], &line).await.code, 0);
    // The answer of the last write was lost, and so was what it did.
    world.0.lock().unwrap().remove("/v1/environments/prod/members/user/ann");
    let second = world.start().await;
    assert_eq!(skep(&[second.url()], &line).await.code, 0);
    assert_eq!(key(&first), key(&second));
}

#[tokio::test]
async fn what_files_say_is_removed_in_the_other_order_and_only_when_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "all.yaml", EVERYTHING);
    write(folder.path(), "pw.txt", "secret\n");
    let world = World::default();
    let manager = world.start().await;
    assert_eq!(skep(&[manager.url()], &format!("apply -f {file} --progress none")).await.code, 0);

    let manager = world.start().await;
    for (flags, code) in [("", 2), ("--yes", 2), ("--dry-run", 0), ("--yes --confirm test", 0)] {
        let outcome = skep(&[manager.url()], &format!("delete -f {file} --progress none {flags}")).await;
        assert_eq!(outcome.code, code, "{flags}: {outcome:?}");
        let removed = !changes(&manager).is_empty();
        assert_eq!(removed, flags.contains("--confirm"), "{flags}");
    }
    let removed = changes(&manager);
    assert_eq!(removed.first().unwrap(), "DELETE /v1/environments/test/stacks/shop");
    assert_eq!(removed.last().unwrap(), "DELETE /v1/roles/deployer");
    assert_eq!(removed.len(), 9);
    let again = skep(&[manager.url()], &format!("delete -f {file} --yes")).await;
    assert_eq!((again.code, again.out.matches("not there").count()), (0, 9), "{again:?}");
}
