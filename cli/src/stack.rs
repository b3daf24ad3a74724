//! `skep stack` and `skep up`: recipes and what they became.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::client::Payload;
use crate::failure::Failure;
use crate::noun::{CHOSEN, Noun, Verbs};
use crate::project::{PROJECT_FILE, Project};
use crate::session::{Session, Started};
use crate::table::{Column, Show};
use crate::value::{list_at, text_at};
use crate::{exit, input, options, targets, task};

pub(crate) const STACK: Noun = Noun {
    word: "stack",
    path: &["environments", CHOSEN, "stacks"],
    name: "/metadata/name",
    columns: &[
        Column::new("NAME", Show::Text("/metadata/name")),
        Column::wide("ID", Show::Text("/metadata/id")),
        Column::new("STATE", Show::State("/status/state")),
        Column::new("SERVICES", Show::With(services)),
        Column::new("TASKS", Show::With(tasks)),
        Column::new("PORTS", Show::With(ports)),
        Column::wide("OPERATION", Show::Text("/status/operation")),
        Column::new("AGE", Show::Age("/metadata/created_at")),
        Column::new("MESSAGE", Show::Free("/status/message")),
    ],
    when_none: "No stacks in this environment yet. Deploy one: skep up -f compose.yml --stack NAME",
};

/// What can be done with stacks.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the stacks of the environment (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep stack ls\n  skep stack ls -e prod",
        after_long_help = exit::help(exit::READS)
    )]
    Ls,
    /// Deploy a compose file as a stack: as skep up
    #[command(
        visible_alias = "create",
        before_long_help = "Examples:\n  skep stack deploy -f compose.yml --stack shop",
        after_long_help = exit::help(exit::WAITS)
    )]
    Deploy(Up),
    /// List the tasks of a stack
    #[command(
        before_long_help = "Examples:\n  skep stack ps shop\n  skep stack ps shop -o wide",
        after_long_help = exit::help(exit::READS)
    )]
    Ps {
        /// The stack's name or id
        name: String,
    },
    /// Show everything about a stack
    #[command(
        before_long_help = "Examples:\n  skep stack inspect shop",
        after_long_help = exit::help(exit::READS)
    )]
    Inspect {
        /// The stack's name or id
        name: String,
    },
    /// Remove stacks with their services
    #[command(
        before_long_help = "Examples:\n  skep stack rm shop\n  skep stack rm shop blog --yes\n  skep stack rm     that of .skep.toml",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Rm {
        /// The stacks' names or ids [default: that of .skep.toml]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Deploying a recipe.
#[derive(Debug, Args)]
pub struct Up {
    /// The compose file; - reads standard input. Without it: that of .skep.toml, or compose.yml of this folder
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The stack's name [default: that of .skep.toml]
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,
    /// A variable of the recipe; repeatable, wins over --env-file
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = options::pair)]
    variables: Vec<(String, String)>,
    /// A file of KEY=VALUE lines with variables of the recipe
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
}

impl Up {
    /// Which stack, from which file.
    fn meant(&self, project: &Project) -> Result<(String, PathBuf), Failure> {
        let name = named_or_of_project(self.stack.as_deref(), project, "--stack NAME")?;
        let file = match (&self.file, project.files.as_slice()) {
            (Some(file), _) => file.clone(),
            (None, [file]) => file.clone(),
            (None, []) => usual_file(&project.here)?,
            (None, files) => {
                return Err(Failure::usage(
                    format!("{PROJECT_FILE} names {} files, and a stack is deployed from one", files.len()),
                    "put them together, or choose one: --file FILE",
                ));
            }
        };
        Ok((name, file))
    }
}

/// The stack that is named, or the one that the working tree belongs to.
fn named_or_of_project(name: Option<&str>, project: &Project, how: &str) -> Result<String, Failure> {
    let name = name.map(str::to_owned).or_else(|| project.stack.clone());
    name.ok_or_else(|| {
        Failure::usage(
            "the stack has no name",
            format!("add {how}, or write stack = \"NAME\" into {PROJECT_FILE}"),
        )
    })
}

/// The compose file of a folder, by the names that Docker Compose looks for, in its order.
/// See <https://docs.docker.com/compose/intro/compose-application-model/#the-compose-file>.
fn usual_file(folder: &Path) -> Result<PathBuf, Failure> {
    const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
    let found = NAMES.iter().map(|name| folder.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| {
        Failure::usage(
            format!("{} has no compose file: {}", folder.display(), NAMES.join(", ")),
            format!("name it: --file FILE; or write files = [\"FILE\"] into {PROJECT_FILE}"),
        )
    })
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => STACK.list(&[], session).await,
        Verb::Deploy(wish) => up(wish, session).await,
        Verb::Ps { name } => task::list_of(Some(&name), session).await,
        Verb::Inspect { name } => STACK.inspect(&name, session).await,
        Verb::Rm { names } if names.is_empty() => {
            let name = named_or_of_project(None, &session.settings.project, "NAME")?;
            targets::remove(&STACK, &[name], about, session).await
        }
        Verb::Rm { names } => targets::remove(&STACK, &names, about, session).await,
    }
}

/// `skep up`.
pub(crate) async fn up(wish: Up, session: &Session) -> Result<(), Failure> {
    let (name, file) = wish.meant(&session.settings.project)?;
    let name = STACK.named(&name)?;
    let path = STACK.at(&[name], session)?;
    let mut variables = match &wish.env_file {
        Some(file) => variables_of(&input::text(file).await?, &input::name_of(file))?,
        None => Map::new(),
    };
    variables.extend(wish.variables.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))));
    let body = json!({"recipe": input::text(&file).await?, "variables": variables});
    let operation = session.client()?.write(Method::PUT, &path, &[], Payload::Json(&body)).await;
    session.finish(&STACK, "deployed", vec![Started { name: name.to_owned(), operation }]).await
}

/// What a person should know before the stack goes.
fn about(name: &str, stack: &Value) -> String {
    let services = list_at(stack, "/spec/services").iter().filter_map(|service| text_at(service, "/name"));
    format!("{name}: services {}", services.collect::<Vec<String>>().join(", "))
}

/// The lines of an env file: `KEY=VALUE`, comments, empty lines; quotes around a value are not part of it.
fn variables_of(text: &str, file: &str) -> Result<Map<String, Value>, Failure> {
    let mut variables = Map::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        // Not the line itself: it may hold a password.
        let (key, value) = options::pair(line).map_err(|_| {
            Failure::usage(
                format!("{file}, line {}: expected KEY=VALUE", number + 1),
                "comments begin with #",
            )
        })?;
        variables.insert(key.trim().to_owned(), Value::String(unquoted(value.trim()).to_owned()));
    }
    Ok(variables)
}

fn unquoted(value: &str) -> &str {
    ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value)
}

fn services(stack: &Value) -> Option<String> {
    let wished = list_at(stack, "/spec/services").len();
    let seen = list_at(stack, "/status/services").len();
    Some(wished.max(seen).to_string())
}

/// Running of desired tasks, over all services.
fn tasks(stack: &Value) -> Option<String> {
    let services = list_at(stack, "/status/services");
    let sum = |field: &str| services.iter().filter_map(|service| service[field].as_u64()).sum::<u64>();
    (!services.is_empty()).then(|| format!("{}/{}", sum("running"), sum("desired")))
}

/// The published ports, the way in.
fn ports(stack: &Value) -> Option<String> {
    let ports: Vec<String> = list_at(stack, "/spec/services")
        .iter()
        .flat_map(|service| list_at(service, "/ports"))
        .filter_map(task::port)
        .collect();
    (!ports.is_empty()).then(|| ports.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_env_file_is_read_line_by_line() {
        let text = "# comment\n\nexport A=1\n B = \"two words\" \nC='x=y'\nD=\n";
        let variables = variables_of(text, "vars.env").expect("valid");
        assert_eq!(Value::Object(variables), json!({"A": "1", "B": "two words", "C": "x=y", "D": ""}));
        let failure = variables_of("A=1\ntop-secret\n", "vars.env").expect_err("no pair");
        assert!(failure.to_string().contains("vars.env, line 2"), "{failure}");
        assert!(!failure.text().contains("top-secret"));
    }

    #[test]
    fn the_cells_of_a_stack() {
        let stack = json!({
            "spec": {"services": [{"name": "web", "ports": [{"published": 80, "target": 8080, "protocol": "tcp"}]},
                                  {"name": "db", "ports": []}]},
            "status": {"services": [{"name": "web", "running": 2, "desired": 3}, {"name": "db", "running": 1, "desired": 1}]}
        });
        assert_eq!(services(&stack).as_deref(), Some("2"));
        assert_eq!(tasks(&stack).as_deref(), Some("3/4"));
        assert_eq!(ports(&stack).as_deref(), Some("80->8080/tcp"));
        assert_eq!(tasks(&json!({})), None);
    }
}
