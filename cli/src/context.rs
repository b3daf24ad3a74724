//! `skep login`, `logout`, `use` and `context`: which server, and who one is there.
//!
//! Contexts stand in the user's configuration file, which people edit too: what is changed here leaves the rest of it as it
//! is, comments included. Tokens lie beside it, one file each, readable by their owner only.

mod files;
mod portable;

use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};
use toml_edit::{Item, Table, value};

use self::files::{
    change, config, context_of, forget_authority, forget_token, keep_private, plain, token_file, writing,
};
use crate::client::{Client, Payload};
use crate::device;
use crate::exit;
use crate::failure::Failure;
use crate::flags::{GlobalFlags, Output};
use crate::input;
use crate::noun::{Noun, Verbs};
use crate::project::Project;
use crate::session::Session;
use crate::settings::{ConfigFile, Secret, Settings, TokenSource, Variables};
use crate::setup;
use crate::table::{Column, Show};
use crate::value::text_at;

const CONTEXT: Noun = Noun {
    word: "context",
    // They are this user's, not the API's.
    path: &[],
    name: "/name",
    columns: &[
        Column::new("NAME", Show::Text("/name")),
        Column::new("CHOSEN", Show::Text("/chosen")),
        Column::new("SERVER", Show::Text("/url")),
        Column::new("ENVIRONMENT", Show::Text("/env")),
        Column::wide("CA FILE", Show::Text("/ca_file")),
        Column::wide("TOKEN FILE", Show::Text("/token_file")),
    ],
    when_none: "No contexts yet. Sign in to make one: skep login URL",
};

/// Signing in.
#[derive(Debug, Default, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Login {
    #[command(subcommand)]
    verb: Option<LoginVerb>,
    /// The server's address; several managers separated by commas. Without it: that of the context
    #[arg(value_name = "URL[,URL]")]
    server: Option<String>,
    /// The user
    #[arg(long, alias = "username", value_name = "NAME")]
    user: Option<String>,
    /// A file with the password, - for standard input. It is no argument, because others on this machine could read it
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The first time: a file with the setup code that the managers have printed; the user becomes administrator
    #[arg(long, value_name = "FILE")]
    setup_code_file: Option<PathBuf>,
    /// Show a code that is to be approved where you are signed in already: skep login approve CODE
    #[arg(long, conflicts_with_all = ["user", "password_file", "setup_code_file"])]
    device: bool,
}

/// What somebody who is signed in says to a machine that shows a code.
#[derive(Debug, Subcommand)]
pub(crate) enum LoginVerb {
    /// Let the machine that shows this code come in as you
    #[command(
        before_long_help = "Examples:\n  skep login approve WDJB-MJHT\n  skep login approve WDJB-MJHT --yes",
        after_long_help = exit::help(exit::WRITES)
    )]
    Approve {
        /// The code
        code: String,
    },
    /// Keep the machine that shows this code out
    #[command(
        before_long_help = "Examples:\n  skep login deny WDJB-MJHT",
        after_long_help = exit::help(exit::WRITES)
    )]
    Deny {
        /// The code
        code: String,
    },
}

/// Signing out.
#[derive(Debug, Args)]
pub struct Logout {
    /// The context; the chosen one if nothing is said
    #[arg(value_name = "CONTEXT")]
    name: Option<String>,
}

/// Choosing.
#[derive(Debug, Args)]
pub struct Use {
    /// CONTEXT, CONTEXT/ENVIRONMENT or /ENVIRONMENT; - for what was chosen before
    #[arg(value_name = "CONTEXT[/ENVIRONMENT]")]
    what: Option<String>,
}

/// What can be done with contexts.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the contexts (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep context ls\n  skep context ls -o wide",
        after_long_help = exit::help(&[exit::Exit::Done, exit::Exit::Usage])
    )]
    Ls,
    /// Keep a server and a token as a context, as skep login does, and choose it
    #[command(
        before_long_help = "Examples:\n  skep context create prod --url https://skep.example.com:8443 --token-file key.txt",
        after_long_help = exit::help(exit::WRITES)
    )]
    Create {
        /// Its name
        name: String,
    },
    /// Show where what is in effect comes from
    #[command(
        before_long_help = "Examples:\n  skep context show\n  skep context show --url https://other:8443",
        after_long_help = exit::help(&[exit::Exit::Done, exit::Exit::Usage])
    )]
    Show {
        /// Also where it comes from: what is shown in any case; scripts may say it
        #[arg(long, hide = true)]
        origin: bool,
    },
    /// Give a context another name
    #[command(
        before_long_help = "Examples:\n  skep context rename 10-0-0-11 prod",
        after_long_help = exit::help(&[exit::Exit::Done, exit::Exit::Usage])
    )]
    Rename {
        /// Its name
        name: String,
        /// The name it is to have
        to: String,
    },
    /// Print a context as one file, the certificate authority included, for skep context import elsewhere
    #[command(
        long_about = "Print a context as one file, the certificate authority included, for skep context import elsewhere\n\nThe token \
                      stays here unless it is asked for: whoever has it is you. Without it, whoever imports the file \
                      signs in with skep login.",
        before_long_help = "Examples:\n  skep context export > prod.toml\n  skep context export prod --with-token > prod.toml",
        after_long_help = exit::help(&[exit::Exit::Done, exit::Exit::Usage])
    )]
    Export {
        /// Its name; the chosen one if nothing is said
        name: Option<String>,
        /// The token, too: as secret as the token itself
        #[arg(long)]
        with_token: bool,
    },
    /// Keep a context that skep context export has printed; the chosen one stays chosen
    #[command(
        before_long_help = "Examples:\n  skep context import prod.toml\n  skep context import prod.toml lab\n  ssh desk skep context export prod | skep context import -",
        after_long_help = exit::help(&[exit::Exit::Done, exit::Exit::Usage])
    )]
    Import {
        /// The file, - for standard input
        file: PathBuf,
        /// The name it is to have here; its own if nothing is said
        name: Option<String>,
    },
    /// Forget a context and its token; the session goes on where it is known. To end it: skep logout
    #[command(
        before_long_help = "Examples:\n  skep context rm prod",
        after_long_help = exit::help(&[exit::Exit::Done, exit::Exit::Usage])
    )]
    Rm {
        /// Its name
        name: String,
    },
}

impl Login {
    /// The settings to sign in with: the server's address may be new, and so may be the context's name.
    pub(crate) fn settings(
        &self,
        flags: &GlobalFlags,
        variables: &Variables,
        project: &Project,
        file: &ConfigFile,
    ) -> Result<Settings, Failure> {
        if self.verb.is_some() {
            return Settings::resolve(flags, variables, project, file);
        }
        let mut flags = flags.clone();
        let named = flags.context.take_if(|name| !file.knows(name));
        if let Some(server) = &self.server {
            flags.url = Some(server.clone());
        } else if let Some(name) = &named {
            return Err(Failure::usage(
                format!("there is no context named '{name}'"),
                format!("to make it, name its server: skep login https://HOST:8443 --context {name}"),
            ));
        }
        let context = flags.context.clone().or(named);
        let settings = Settings::resolve(&flags, variables, project, file)?;
        Ok(Settings { context: context.or(settings.context), ..settings })
    }
}

/// Signs in and remembers where, as whom.
pub(crate) async fn login(wish: Login, session: &Session) -> Result<(), Failure> {
    match &wish.verb {
        Some(LoginVerb::Approve { code }) => return device::approve(code, session).await,
        Some(LoginVerb::Deny { code }) => return device::deny(code, session).await,
        None => {}
    }
    let settings = &session.settings;
    let as_somebody = wish.user.is_some() || wish.password_file.is_some() || wish.setup_code_file.is_some();
    let token = match &settings.token {
        Some(TokenSource::File(file)) if !as_somebody && !wish.device => input::secret(file).await?,
        Some(TokenSource::Value(secret)) if !as_somebody && !wish.device => secret.expose().to_owned(),
        _ => signed_in(&wish, session).await?,
    };
    let source = TokenSource::Value(Secret::new(token.clone()));
    let client = Client::new(&settings.with_token(source), session.screen.clone())?;
    let whoami = client.get(&["v1", "whoami"], &[]).await?;
    let Some(config) = &settings.config else {
        return Err(Failure::usage(
            "there is no home directory to keep a context in",
            "set SKEP_CONFIG_HOME",
        ));
    };
    let name = match &settings.context {
        Some(name) => name.clone(),
        None => settings
            .managers
            .first()
            .and_then(|url| url.host_str())
            .unwrap_or("default")
            .replace(['.', ':'], "-"),
    };
    plain(&name)?;
    keep_private(&token_file(config, &name), &token).map_err(writing(config))?;
    change(config, |document| {
        let context = context_of(document, &name);
        context["url"] = value(shown_urls(settings));
        context["token_file"] = value(format!("tokens/{name}"));
        match &settings.ca_file {
            Some(file) => {
                let file = file.canonicalize().unwrap_or_else(|_| file.clone());
                context["ca_file"] = value(file.display().to_string());
            }
            None => drop(context.remove("ca_file")),
        }
        document["current"] = value(&name);
    })?;
    let principal = text_at(&whoami, "/principal").unwrap_or_default();
    match session.output(Output::Table) {
        Output::Json => session.print_json(&json!({"context": name, "principal": principal})),
        _ => session.screen.result(&format!("context/{name} signed in as {principal}\n")),
    }
    Ok(())
}

/// The token of a session that is new; of the first administrator's, if the cluster waits for one.
async fn signed_in(wish: &Login, session: &Session) -> Result<String, Failure> {
    // Whatever token there is belongs to somebody else.
    let client = Client::new(&session.settings.without_token(), session.screen.clone())?;
    if wish.device {
        return device::come_in(&client, session).await;
    }
    let is_first = wish.setup_code_file.is_some() || setup::is_awaited(&client).await?;
    let code = match is_first {
        true => Some(setup::code(wish.setup_code_file.as_deref(), session).await?),
        false => None,
    };
    let user = match &wish.user {
        Some(user) => user.clone(),
        None if session.may_ask() => session.ask("User: ").await?,
        None => {
            return Err(Failure::usage(
                "nobody is named",
                "give --user NAME (with --password-file FILE), an API key with --token-file FILE, or --device",
            ));
        }
    };
    let file = wish.password_file.as_deref();
    let password = match (&code, file) {
        (Some(_), _) => setup::new_password(file, session).await?,
        (None, Some(file)) => input::secret(file).await?,
        (None, None) if session.may_ask() => session.ask_for_secret(&format!("Password of {user}: ")).await?,
        (None, None) => {
            return Err(Failure::usage(
                "the password is missing",
                "give --password-file FILE, or - for standard input",
            ));
        }
    };
    if let Some(code) = code {
        setup::set_up(&client, &code, &user, &password).await?;
    }
    let body = json!({"user": user, "password": password});
    let made = client.write(Method::POST, &["v1", "sessions"], &[], Payload::Json(&body)).await?;
    Ok(text_at(&made, "/token").unwrap_or_default())
}

/// Ends the session and forgets its token. A server that is away cannot be told, and the session ends by itself.
pub(crate) async fn logout(wish: Logout, session: &Session) -> Result<(), Failure> {
    let config = config(session)?;
    let (name, settings) = kept(wish.name, "skep logout CONTEXT", session)?;
    let client = Client::new(&settings, session.screen.clone())?;
    let whoami = client.get_at_once(&["v1", "whoami"]).await;
    // A key is for programs too; only a session ends here.
    let is_session =
        whoami.as_ref().is_ok_and(|whoami| text_at(whoami, "/token/kind").as_deref() == Some("session"));
    if is_session {
        client.write(Method::DELETE, &["v1", "tokens", "current"], &[], Payload::Nothing).await?;
    }
    forget_token(config, &name)?;
    change(config, |document| drop(context_of(document, &name).remove("token_file")))?;
    session.print_done(&CONTEXT, &json!({"name": name}), "signed out");
    Ok(())
}

/// Shows or changes what is chosen.
pub(crate) fn choose(wish: &Use, session: &Session) -> Result<(), Failure> {
    let Some(what) = &wish.what else {
        let settings = &session.settings;
        let chosen = json!({"name": settings.context, "url": shown_urls(settings), "env": settings.env});
        match session.output(Output::Table) {
            Output::Json => session.print_json(&chosen),
            _ => {
                let (context, env) = (settings.context.as_deref(), settings.env.as_deref());
                session.screen.result(&format!("{}/{}\n", or_none(context), or_none(env)));
            }
        }
        return Ok(());
    };
    let config = config(session)?;
    let file = ConfigFile::at(config)?;
    let what = match (what.as_str(), file.previous()) {
        ("-", Some(previous)) => previous,
        ("-", None) => return Err(Failure::usage("nothing was chosen before", "name it: skep use CONTEXT")),
        (what, _) => what,
    };
    let (context, environment) = match what.split_once('/') {
        Some((context, environment)) => (context, Some(environment)),
        None => (what, None),
    };
    let name = match context {
        "" => file
            .current()
            .ok_or_else(|| Failure::usage("no context is chosen", "name one: skep use CONTEXT"))?,
        name => name,
    };
    file.context(name)?;
    change(config, |document| {
        if let Some(chosen) = file.chosen() {
            document["previous"] = value(chosen);
        }
        document["current"] = value(name);
        match environment {
            Some("") => drop(context_of(document, name).remove("env")),
            Some(environment) => context_of(document, name)["env"] = value(environment),
            None => {}
        }
    })?;
    session.print_done(&CONTEXT, &json!({"name": name}), "chosen");
    Ok(())
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => {
            let items = ConfigFile::at(config(session)?)?.listed();
            session.print_list(&CONTEXT, &json!({"items": items}));
            Ok(())
        }
        Verb::Create { name } => {
            let settings = Settings { context: Some(name), ..session.settings.clone() };
            login(Login::default(), &Session::new(settings, session.screen.clone())).await
        }
        Verb::Show { .. } => {
            show(session);
            Ok(())
        }
        Verb::Rename { name, to } => rename(&name, &to, session),
        Verb::Export { name, with_token } => portable::export(name, with_token, session),
        Verb::Import { file, name } => portable::import(&file, name, session).await,
        Verb::Rm { name } => {
            let config = config(session)?;
            ConfigFile::at(config)?.context(&name)?;
            forget_token(config, &name)?;
            let mut authority = None;
            change(config, |document| {
                if let Some(contexts) = document["contexts"].as_table_like_mut() {
                    let context = contexts.remove(&name);
                    authority =
                        context.and_then(|context| Some(context.get("ca_file")?.as_str()?.to_owned()));
                }
                if document.get("current").and_then(Item::as_str) == Some(&name) {
                    document.remove("current");
                }
            })?;
            authority.map_or(Ok(()), |file| forget_authority(config, &file))?;
            session.print_done(&CONTEXT, &json!({"name": name}), "forgotten");
            Ok(())
        }
    }
}

/// Every value and where it comes from; of the token only where it is.
pub(crate) fn shown_settings(session: &Session) -> Value {
    let shown = values(session)
        .into_iter()
        .map(|(what, is, from)| (what.to_owned(), json!({"value": is, "origin": from})));
    Value::Object(shown.collect())
}

fn show(session: &Session) {
    if session.output(Output::Table) == Output::Json {
        return session.print_json(&shown_settings(session));
    }
    let lines = values(session).into_iter().map(|(what, is, from)| format!("{what:<12}{is}  ({from})\n"));
    session.screen.result(&lines.collect::<String>());
}

fn values(session: &Session) -> Vec<(&'static str, String, &str)> {
    let settings = &session.settings;
    let token = match &settings.token {
        Some(TokenSource::File(file)) => file.display().to_string(),
        Some(TokenSource::Value(_)) => "(a value)".into(),
        None => "-".into(),
    };
    let ca_file = settings.ca_file.as_ref().map(|file| file.display().to_string());
    let timeout = settings.timeout.map_or("none".into(), |limit| format!("{} s", limit.as_secs()));
    vec![
        ("context", or_none(settings.context.as_deref()), &settings.origins.context),
        ("server", shown_urls(settings), &settings.origins.url),
        ("token", token, &settings.origins.token),
        ("ca-file", or_none(ca_file.as_deref()), &settings.origins.ca_file),
        ("environment", or_none(settings.env.as_deref()), &settings.origins.env),
        ("output", shown(settings.output), &settings.origins.output),
        ("progress", shown(Some(settings.progress)), &settings.origins.progress),
        ("timeout", timeout, &settings.origins.timeout),
        ("wait", if settings.detach { "no" } else { "yes" }.into(), &settings.origins.detach),
        ("consistency", shown(settings.consistency), &settings.origins.consistency),
    ]
}

/// A context as it stands in the user's file, whatever flags and variables say; the chosen one if none is named.
fn kept(name: Option<String>, named_like: &str, session: &Session) -> Result<(String, Settings), Failure> {
    let file = ConfigFile::at(config(session)?)?;
    let name = name
        .or_else(|| session.settings.context.clone())
        .ok_or_else(|| Failure::usage("no context is chosen", format!("name one: {named_like}")))?;
    let flags = GlobalFlags { context: Some(name.clone()), ..GlobalFlags::default() };
    Settings::resolve(&flags, &Variables::default(), &Project::default(), &file)
        .map(|settings| (name, settings))
}

/// Fails if there is a context of that name, or could not be.
fn must_be_free(name: &str, file: &ConfigFile, otherwise: &str) -> Result<(), Failure> {
    plain(name)?;
    match file.knows(name) {
        true => Err(Failure::usage(format!("there is a context named '{name}' already"), otherwise)),
        false => Ok(()),
    }
}

fn rename(name: &str, to: &str, session: &Session) -> Result<(), Failure> {
    let config = config(session)?;
    let file = ConfigFile::at(config)?;
    file.context(name)?;
    must_be_free(to, &file, "choose another name")?;
    let (from, into) = (token_file(config, name), token_file(config, to));
    let has_token = from.exists();
    if has_token {
        fs::rename(&from, &into).map_err(writing(&into))?;
    }
    change(config, |document| {
        let context = document["contexts"].as_table_like_mut().and_then(|contexts| contexts.remove(name));
        let mut context = context.unwrap_or_else(|| Item::Table(Table::new()));
        if has_token {
            context["token_file"] = value(format!("tokens/{to}"));
        }
        document["contexts"][to] = context;
        if document.get("current").and_then(Item::as_str) == Some(name) {
            document["current"] = value(to);
        }
    })?;
    session.print_done(&CONTEXT, &json!({"name": to}), &format!("was {name}"));
    Ok(())
}

fn or_none(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// As one writes it after its flag.
fn shown<T: ValueEnum>(value: Option<T>) -> String {
    let value = value.and_then(|value| value.to_possible_value());
    value.map_or("-".into(), |value| value.get_name().to_owned())
}

fn shown_urls(settings: &Settings) -> String {
    let urls: Vec<_> = settings.managers.iter().map(|url| url.as_str().trim_end_matches('/')).collect();
    if urls.is_empty() { "-".into() } else { urls.join(",") }
}
