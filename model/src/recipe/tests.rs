//! What is understood and what is refused, as text: recipes in, transcripts out.
//!
//! A case in `testdata/` is a title, perhaps variables, a recipe and, below `----`, every error or everything that
//! differs from a service with nothing but defaults. `SKEP_UPDATE=1` writes the transcripts and the tables of the
//! reference page anew; then read the difference.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::levels::LEVELS;
use super::{Network, Recipe, Service, Volume, parse, reference};

const REFERENCE: &str = include_str!("../../../docs/reference/recipe.md");
const REFERENCE_PATH: &str = "../docs/reference/recipe.md";

const SCRIPTS: &[(&str, &str)] = &[
    ("src/recipe/testdata/understood.txt", include_str!("testdata/understood.txt")),
    ("src/recipe/testdata/refused.txt", include_str!("testdata/refused.txt")),
];

const EXAMPLES: &[(&str, &str)] = &[
    ("whoami", include_str!("../../../examples/whoami/compose.yml")),
    ("two-tier", include_str!("../../../examples/two-tier/compose.yml")),
];

#[test]
fn scripts_say_what_is_understood() {
    for (path, script) in SCRIPTS {
        let replayed: Vec<String> = script.split_inclusive("\n\n\n").map(replay).collect();
        compare_or_update(path, script, &replayed.concat());
    }
}

/// One case again, with what is understood today.
fn replay(case: &str) -> String {
    let (input, rest) = case.split_once("----\n").expect("a case has a line of four dashes");
    let end = &rest[rest.trim_end().len()..];
    let (heading, recipe): (Vec<&str>, Vec<&str>) = input.lines().partition(|line| line.starts_with("# "));
    let variables = heading.iter().filter_map(|line| line.strip_prefix("# set ")?.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let transcript = match parse(&recipe.join("\n"), &variables) {
        Ok(recipe) => understood(&recipe),
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    format!("{input}----\n{transcript}{end}")
}

/// What differs from the defaults, one line each.
fn understood(recipe: &Recipe) -> String {
    let json = |value: Result<Value, serde_json::Error>| value.expect("recipes are plain data");
    let mut lines = Vec::new();
    for service in &recipe.services {
        let defaults = json(serde_json::to_value(Service::default()));
        differences(&service.name, &json(serde_json::to_value(service)), &defaults, &mut lines);
    }
    for network in &recipe.networks {
        let defaults = json(serde_json::to_value(Network::default()));
        let title = format!("network {}", network.name);
        differences(&title, &json(serde_json::to_value(network)), &defaults, &mut lines);
    }
    for volume in &recipe.volumes {
        let defaults = json(serde_json::to_value(Volume::default()));
        let title = format!("volume {}", volume.name);
        differences(&title, &json(serde_json::to_value(volume)), &defaults, &mut lines);
    }
    lines.join("\n")
}

fn differences(pointer: &str, value: &Value, default: &Value, lines: &mut Vec<String>) {
    match (value, default) {
        (Value::Object(fields), Value::Object(defaults)) if !defaults.is_empty() => {
            for (name, field) in fields {
                let default = defaults.get(name).unwrap_or(&Value::Null);
                differences(&format!("{pointer}.{name}"), field, default, lines);
            }
        }
        _ if value == default => {}
        _ => lines.push(format!("{pointer} = {value}")),
    }
}

#[test]
fn the_reference_page_lists_every_key() {
    let (head, _) = REFERENCE.split_once("## Keys\n").expect("the page has a section 'Keys'");
    compare_or_update(REFERENCE_PATH, REFERENCE, &format!("{head}## Keys\n{}", reference()));
}

fn compare_or_update(path: &str, written: &str, wanted: &str) {
    if std::env::var_os("SKEP_UPDATE").is_some() {
        let path = format!("{}/{path}", std::env::var("CARGO_MANIFEST_DIR").expect("is set for tests"));
        return std::fs::write(&path, wanted).unwrap_or_else(|error| panic!("write {path}: {error}"));
    }
    for (line, (written, wanted)) in written.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(written, wanted, "{path}:{}", line + 1);
    }
    assert_eq!(written, wanted, "{path}");
}

#[test]
fn no_level_has_a_key_twice() {
    for level in LEVELS {
        let mut names: Vec<&str> = (level.rows)().iter().map(|row| row.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{}: {names:?}", level.place);
    }
}

#[test]
fn examples_are_recipes() {
    for (name, text) in EXAMPLES {
        let recipe = parse(text, &BTreeMap::new()).unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        assert!(text.contains("skep up -f"), "{name} says how to run it");
        assert!(recipe.services.iter().all(|service| service.command.is_some()), "{name}");
    }
}

#[test]
fn the_first_example_answers_on_three_hosts() {
    let recipe = parse(EXAMPLES[0].1, &BTreeMap::new()).expect("the example is a recipe");
    let whoami = recipe.service("whoami").expect("the service exists");
    assert_eq!(whoami.mode, super::Mode::Replicated(3));
    assert_eq!(whoami.ports.first().and_then(|port| port.published), Some(8080));
    assert_eq!(whoami.swarm_name("demo"), "demo_whoami");
    let command = whoami.command.as_ref().and_then(|words| words.last()).expect("the command has a line");
    assert!(command.contains("$GREETING $HOSTNAME"), "the shell in the container fills it in: {command}");
}

#[test]
fn networks_are_named_as_docker_names_them() {
    let network = Network { name: "front".into(), ..Network::default() };
    assert_eq!(network.swarm_name("shop"), "shop_front");
    let external = Network { external: true, ..network.clone() };
    assert_eq!(external.swarm_name("shop"), "front");
    let named = Network { name_in_swarm: Some("public".into()), ..network };
    assert_eq!(named.swarm_name("shop"), "public");
}

#[test]
fn a_stored_recipe_comes_back_equal_and_may_lack_newer_fields() {
    let recipe = parse(EXAMPLES[0].1, &BTreeMap::new()).expect("the example is a recipe");
    let stored = serde_json::to_string(&recipe).expect("recipes are plain data");
    assert_eq!(serde_json::from_str::<Recipe>(&stored).expect("what was stored can be read"), recipe);
    let old = r#"{"services":[{"name":"web","image":"nginx","mode":{"replicated":2}}]}"#;
    let old: Recipe = serde_json::from_str(old).expect("an older recipe can be read");
    assert_eq!(old.services[0].mode, super::Mode::Replicated(2));
}

#[test]
fn hostile_texts_are_refused_and_not_suffered() {
    let variables = BTreeMap::from([("BIG".to_owned(), "x".repeat(100_000))]);
    let command = "$BIG".repeat(50);
    let laughs: String = (1..9)
        .map(|level| format!("x-{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(",")))
        .collect();
    for (text, wanted) in [
        ("x".repeat(super::TEXT_BYTES_MAX + 1), "at most"),
        (format!("services: {}", "[".repeat(10_000)), "not valid YAML"),
        (format!("x-0: &a0 [lol]\n{laughs}"), "not valid YAML"),
        (format!("services: {{web: {{image: a, command: '{command}'}}}}"), "grows too long"),
        ("services:\n  web: {image: a}\n  web: {image: b}".into(), "given twice"),
        ("services: {web: {image: a}}\n---\nservices: {}".into(), "not valid YAML"),
    ] {
        let errors = parse(&text, &variables).expect_err("hostile");
        assert!(errors[0].message.contains(wanted), "{errors:?}");
    }
    let many: String = (0..5_000).map(|number| format!("key{number}: 1\n")).collect();
    assert_eq!(parse(&many, &variables).expect_err("unknown keys").len(), 100);
    let wanted: Vec<String> = (0..8_000).map(|number| format!("wanted-{number}")).collect();
    let declared: String = (0..8_000).map(|number| format!("  declared-{number}: {{}}\n")).collect();
    let text =
        format!("services: {{web: {{image: a, networks: [{}]}}}}\nnetworks:\n{declared}", wanted.join(","));
    assert_eq!(parse(&text, &variables).expect_err("undeclared networks").len(), 100);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(services:\n|  web:\n|    image: a\n|[a-z:{}\\[\\]&*<$'\"|>#!-]{1,4}|[ \n]{1,3}){0,12}") {
        let _ = parse(&text, &BTreeMap::new());
    }

    /// Whatever stands under whichever known key: an answer, and a line in every error.
    #[test]
    fn every_key_survives_every_value(
        level in 0..LEVELS.len(),
        value in "[0-9.:/a-zA-Z$={}-]{0,12}|\\[[a-z0-9, ]{0,8}\\]|\\{[a-z]{1,3}: [a-z0-9]{1,3}\\}",
    ) {
        for row in (LEVELS[level].rows)() {
            let text = nested(LEVELS[level].place, &format!("{}: {value}", row.name));
            if let Err(errors) = parse(&text, &BTreeMap::new()) {
                prop_assert!(errors.iter().all(|error| error.line.is_some()), "{text}\n{errors:?}");
            }
        }
    }
}

/// A recipe with this line at this level.
fn nested(place: &str, line: &str) -> String {
    let mut text = String::new();
    let mut depth = 0;
    for segment in place.split('.').filter(|segment| *segment != "top level") {
        let key = segment.trim_end_matches("[]").to_lowercase();
        text.push_str(&format!("{}{key}:\n", "  ".repeat(depth)));
        depth += 1;
        if segment.ends_with("[]") {
            text.push_str(&format!("{}-\n", "  ".repeat(depth)));
            depth += 1;
        }
    }
    format!("{text}{}{line}\n", "  ".repeat(depth))
}
