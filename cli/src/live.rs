//! Completion of names: what a shell shows while a command is typed comes from the managers.
//!
//! A shell waits for it, so it is quick or silent: managers get [`BUDGET`], and what they have said is used for [`FRESH`].

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, Command};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;

use crate::cluster::MANAGER;
use crate::driver::DRIVER;
use crate::env::ENV;
use crate::explain;
use crate::flags::GlobalFlags;
use crate::host::HOST;
use crate::noun::{NOUNS, Noun};
use crate::operation::OPERATION;
use crate::project::Project;
use crate::role::ROLE;
use crate::screen::Screen;
use crate::session::Session;
use crate::settings::{ConfigFile, Settings, Variables};
use crate::shortcut::{SHOWN, thing};
use crate::stack::STACK;
use crate::template::TEMPLATE;
use crate::value::{items, text_at};

/// How long managers may take: longer, and the shell seems to hang.
const BUDGET: Duration = Duration::from_millis(250);

/// How long what they have said is used.
const FRESH: Duration = Duration::from_secs(10);

/// The variable with which a shell asks.
const ASKED_WITH: &str = "COMPLETE";

/// Arguments that name things of one kind, wherever they stand, by the name of their value.
const BY_VALUE: &[(&str, &Noun)] = &[
    ("TEMPLATE", &TEMPLATE),
    ("DRIVER", &DRIVER),
    ("STACK", &STACK),
    ("HOST", &HOST),
    ("ROLE", &ROLE),
    ("MANAGER", &MANAGER),
];

/// Commands whose name is not the word of their things.
const BY_COMMAND: &[(&str, &Noun)] = &[("cluster", &MANAGER), ("operation", &OPERATION)];

/// Arguments of a noun's verbs that name its things.
const NAMES: &[&str] = &["name", "names", "id", "ids", "manager"];

/// Verbs whose name is a new one.
const NEW: &[&str] = &["create", "import", "register", "adopt"];

/// What an argument names.
#[derive(Clone, Copy)]
enum Wanted {
    Of(&'static Noun),
    /// A context of this user.
    Context,
    /// `TYPE/NAME`.
    Any,
    /// What can be explained; nobody is asked.
    Explained,
}

/// Answers a shell that asks what can follow, and ends the process; returns if none asks.
pub fn complete(program: impl Fn() -> Command) {
    let source = Source {
        variables: Variables::of_process(),
        words: std::env::args().collect(),
        folder: std::env::current_dir().unwrap_or_default(),
        budget: BUDGET,
    };
    CompleteEnv::with_factory(|| completable(program(), &source)).var(ASKED_WITH).complete();
}

/// The script with which a shell asks.
pub(crate) fn script(shell: &str) -> Option<String> {
    let shells = Shells::builtins();
    let mut script = Vec::new();
    shells.completer(shell)?.write_registration(ASKED_WITH, "skep", "skep", "skep", &mut script).ok()?;
    String::from_utf8(script).ok()
}

/// Where names come from.
#[derive(Clone)]
struct Source {
    variables: Variables,
    /// Of the line so far.
    words: Vec<String>,
    folder: PathBuf,
    /// How long managers may take.
    budget: Duration,
}

fn completable(root: Command, source: &Source) -> Command {
    with_names(root, None, source)
}

fn with_names(mut command: Command, noun: Option<&'static Noun>, source: &Source) -> Command {
    let is_new = NEW.contains(&command.get_name());
    let arguments: Vec<(String, Option<Wanted>)> = command
        .get_arguments()
        .map(|argument| (argument.get_id().to_string(), wanted(argument, noun, is_new)))
        .collect();
    // Each is taken out and put back at the end, so that all of them keep their order.
    for (id, wanted) in arguments {
        let source = source.clone();
        command = command.mut_arg(id, |argument| match wanted {
            Some(wanted) => {
                argument.add(ArgValueCompleter::new(move |typed: &OsStr| source.candidates(wanted, typed)))
            }
            None => argument,
        });
    }
    let verbs: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    for verb in verbs {
        let noun = noun.or_else(|| noun_of(&verb));
        command = command.mut_subcommand(verb, |verb| with_names(verb, noun, source));
    }
    command
}

fn noun_of(command: &str) -> Option<&'static Noun> {
    let other = BY_COMMAND.iter().find(|(name, _)| *name == command).map(|(_, noun)| *noun);
    other.or_else(|| NOUNS.iter().copied().find(|noun| noun.word == command))
}

fn wanted(argument: &Arg, noun: Option<&'static Noun>, is_new: bool) -> Option<Wanted> {
    let id = argument.get_id().as_str();
    let value = argument.get_value_names().and_then(|names| names.first()).map(|name| name.as_str());
    match (id, value) {
        ("env", _) if argument.is_global_set() => Some(Wanted::Of(&ENV)),
        ("context", _) => Some(Wanted::Context),
        (_, Some("TYPE/NAME")) => Some(Wanted::Any),
        (_, Some("TYPE[.FIELD]|CODE")) => Some(Wanted::Explained),
        (id, _) if argument.is_positional() && NAMES.contains(&id) && !is_new => noun.map(Wanted::Of),
        (_, Some(value)) => {
            BY_VALUE.iter().find(|(name, _)| *name == value).map(|(_, noun)| Wanted::Of(noun))
        }
        _ => None,
    }
}

impl Source {
    fn candidates(&self, wanted: Wanted, typed: &OsStr) -> Vec<CompletionCandidate> {
        let Some(typed) = typed.to_str() else { return Vec::new() };
        let found = match (wanted, typed.split_once('/')) {
            (Wanted::Of(noun), _) => self.names(noun),
            (Wanted::Context, _) => self.contexts(),
            (Wanted::Explained, _) => explain::candidates(typed),
            (Wanted::Any, None) => SHOWN.iter().map(|word| format!("{word}/")).collect(),
            (Wanted::Any, Some((word, _))) => match thing(&format!("{word}/any")) {
                Ok((noun, _)) => self.names(noun).iter().map(|name| format!("{word}/{name}")).collect(),
                Err(_) => Vec::new(),
            },
        };
        found.into_iter().filter(|name| name.starts_with(typed)).map(CompletionCandidate::new).collect()
    }

    fn contexts(&self) -> Vec<String> {
        let listed = ConfigFile::load(&self.variables).map(|file| file.listed()).unwrap_or_default();
        listed.iter().filter_map(|context| text_at(context, "/name")).collect()
    }

    /// The names of all things of a kind; none if they cannot be had at once.
    fn names(&self, noun: &'static Noun) -> Vec<String> {
        let Some(settings) = self.settings() else { return Vec::new() };
        let kept = self.kept(noun, &settings);
        if let Some(names) = kept.as_deref().and_then(read_fresh) {
            return names;
        }
        let session = Session::new(settings, Screen::of(io::sink(), io::sink()));
        // A thread of its own: the caller may be within a runtime already.
        let asked = std::thread::scope(|scope| scope.spawn(|| ask(noun, &session, self.budget)).join());
        let names = asked.ok().flatten();
        if let (Some(names), Some(file)) = (&names, &kept) {
            // Without it the next time is as slow as this one.
            let _ = keep(file, names);
        }
        names.unwrap_or_default()
    }

    fn settings(&self) -> Option<Settings> {
        let flags = GlobalFlags {
            env: self.flag("-e", "--env"),
            context: self.flag("-c", "--context"),
            url: self.flag("--url", "--url"),
            token_file: self.flag("--token-file", "--token-file").map(PathBuf::from),
            ca_file: self.flag("--ca-file", "--ca-file").map(PathBuf::from),
            ..GlobalFlags::default()
        };
        let project = Project::around(&self.folder).ok()?;
        Settings::resolve(&flags, &self.variables, &project, &ConfigFile::load(&self.variables).ok()?).ok()
    }

    /// The value of a flag on the line so far.
    fn flag(&self, short: &str, long: &str) -> Option<String> {
        let mut words = self.words.iter();
        while let Some(word) = words.next() {
            if word == short || word == long {
                return words.next().cloned();
            }
            if let Some(value) = word.strip_prefix(long).and_then(|rest| rest.strip_prefix('=')) {
                return Some(value.to_owned());
            }
        }
        None
    }

    /// The file in which names are kept; another one for another server, environment or person.
    fn kept(&self, noun: &Noun, settings: &Settings) -> Option<PathBuf> {
        let folder = match self.variables.get("XDG_CACHE_HOME") {
            Some(folder) => PathBuf::from(folder),
            None => PathBuf::from(self.variables.get("HOME")?).join(".cache"),
        };
        let mut hasher = DefaultHasher::new();
        let who = settings.token.as_ref().map(|source| format!("{source:?}"));
        (&settings.managers, &settings.env, who, noun.path).hash(&mut hasher);
        Some(folder.join("skep/completion").join(format!("{}-{:016x}", noun.word, hasher.finish())))
    }
}

fn ask(noun: &Noun, session: &Session, budget: Duration) -> Option<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let client = session.client().ok()?;
        let path = noun.at(&[], session).ok()?;
        let listed = tokio::time::timeout(budget, client.list(&path, &[])).await.ok()?.ok()?;
        Some(items(&listed).iter().map(|item| noun.name_of(item)).collect())
    })
}

fn read_fresh(file: &Path) -> Option<Vec<String>> {
    let age = fs::metadata(file).ok()?.modified().ok()?.elapsed().ok()?;
    let text = fs::read_to_string(file).ok().filter(|_| age < FRESH)?;
    Some(text.lines().map(str::to_owned).collect())
}

fn keep(file: &Path, names: &[String]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let beside = file.with_extension(format!("{}", std::process::id()));
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    io::Write::write_all(&mut out, names.join("\n").as_bytes())?;
    fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use clap::CommandFactory as _;
    use clap_complete::engine::complete;

    use super::*;
    use crate::ClientLine;

    /// A manager that knows two things of whatever kind, and how often it was asked for which.
    fn manager() -> (String, std::sync::mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, questions) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 4096];
                let length = stream.read(&mut head).unwrap();
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let path =
                    head.split_whitespace().nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
                if asked.send(path.to_owned()).is_err() {
                    return;
                }
                let body = r#"{"items":[{"metadata":{"name":"web-1"}},{"metadata":{"name":"db-1"}}]}"#;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (url, questions)
    }

    fn completed(line: &str, home: &Path, url: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let variables = [("HOME", home.display().to_string()), ("SKEP_URL", url.to_owned())];
        let source = Source {
            variables: Variables::of(variables),
            words: words.clone(),
            folder: home.to_owned(),
            // However busy the machine is.
            budget: Duration::from_secs(60),
        };
        let mut program = completable(ClientLine::command(), &source);
        let at = words.len() - 1;
        let words = words.into_iter().map(Into::into).collect();
        let found = complete(&mut program, words, at, None).unwrap();
        let found = found.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned());
        // What is completed without a server.
        found.filter(|text| !text.starts_with("--")).collect()
    }

    #[test]
    fn names_come_from_the_managers_and_are_kept_for_a_moment() {
        let home = tempfile::tempdir().unwrap();
        let (url, questions) = manager();
        for (line, found, question) in [
            ("skep -e prod host inspect w", vec!["web-1"], "/v1/environments/prod/hosts"),
            ("skep --env=prod host inspect ", vec!["web-1", "db-1"], ""),
            ("skep stack rm -e test ", vec!["web-1", "db-1"], "/v1/environments/test/stacks"),
            ("skep inspect user/d", vec!["user/db-1"], "/v1/users"),
            ("skep env create x -t w", vec!["web-1"], "/v1/templates"),
            ("skep host ls -e d", vec!["db-1"], "/v1/environments"),
        ] {
            assert_eq!(completed(line, home.path(), &url), found, "{line}");
            assert_eq!(questions.try_recv().unwrap_or_default(), question, "{line}");
        }
        assert!(completed("skep inspect sta", home.path(), &url).contains(&"stack/".to_owned()));
        assert!(completed("skep host cor", home.path(), &url).contains(&"cordon".to_owned()));
        assert_eq!(completed("skep explain env", home.path(), &url), ["env"]);
        assert_eq!(completed("skep explain host.spec.r", home.path(), &url), ["host.spec.role"]);
    }

    #[test]
    fn a_server_that_is_away_completes_nothing_and_says_nothing() {
        let home = tempfile::tempdir().unwrap();
        assert!(completed("skep -e prod host inspect w", home.path(), "http://127.0.0.1:1").is_empty());
    }
}
