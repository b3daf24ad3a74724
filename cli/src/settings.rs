//! From "as written" to "as meant": flags, environment variables, the project's file and the user's, in that order.
//!
//! [`Settings::resolve`] is pure; the process's variables and files come in as arguments, so that precedence can be tested as
//! a table.
//!
//! A context is one unit: if the server's address comes from a flag or a variable, the context's token, CA and environment are
//! left out. Otherwise one changed variable would send a token to a server that it was not made for.

mod origins;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use jiff::SignedDuration;
use reqwest::Url;
use serde::Deserialize;
use uuid::Uuid;

pub(crate) use self::origins::Origins;
use crate::document::Form;
use crate::failure::Failure;
use crate::flags::{Consistency, GlobalFlags, Output, ProgressStyle};
use crate::project::{PROJECT_FILE, Project};

/// How long a command waits for an operation if nobody says otherwise: buying a machine takes minutes, ten is rare.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10 * 60);

/// What one invocation goes by.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Base addresses of the managers, in the order to try them. Empty if none is known.
    pub(crate) managers: Vec<Url>,
    pub(crate) token: Option<TokenSource>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) env: Option<String>,
    /// `None`: each command's own default.
    pub(crate) output: Option<Output>,
    /// How whole objects are printed.
    pub(crate) form: Form,
    pub(crate) quiet: bool,
    pub(crate) detach: bool,
    /// Nothing is to be changed: managers only say what they would do.
    pub(crate) dry_run: bool,
    /// `None`: for ever.
    pub(crate) timeout: Option<Duration>,
    pub(crate) progress: ProgressStyle,
    pub(crate) yes: bool,
    pub(crate) confirm: Option<String>,
    pub(crate) color: bool,
    pub(crate) verbose: bool,
    pub(crate) consistency: Option<Consistency>,
    pub(crate) idempotency_key: Option<Uuid>,
    /// Whether a person may be asked; never in CI.
    pub(crate) may_ask: bool,
    /// The context that is in effect.
    pub(crate) context: Option<String>,
    /// The user's configuration file, whether or not it is there.
    pub(crate) config: Option<PathBuf>,
    /// Where the values come from, in words.
    pub(crate) origins: Origins,
    /// What the working tree says of itself.
    pub(crate) project: Project,
    /// Opens backups; a flag of the commands that need it comes first.
    pub(crate) recovery_key_file: Option<PathBuf>,
}

/// Where the token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenSource {
    File(PathBuf),
    Value(Secret),
}

/// Text that must not be shown, not in traces and not by accident.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Secret {
        Secret(text)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

/// The user's configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigFile {
    current: Option<String>,
    /// What was chosen before, as `CONTEXT/ENVIRONMENT`.
    previous: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
    /// Where the file lies; relative paths in it start there.
    #[serde(skip)]
    path: Option<PathBuf>,
}

/// A server and who one is there.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    url: String,
    env: Option<String>,
    ca_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads the user's file; a missing one is an empty one.
    pub(crate) fn load(variables: &Variables) -> Result<ConfigFile, Failure> {
        match config_path(variables) {
            Some(path) => ConfigFile::at(&path),
            None => Ok(ConfigFile::default()),
        }
    }

    /// Reads a file; a missing one is an empty one.
    pub(crate) fn at(path: &Path) -> Result<ConfigFile, Failure> {
        match std::fs::read_to_string(path) {
            Ok(text) => ConfigFile::parse(&text, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(ConfigFile { path: Some(path.to_owned()), ..ConfigFile::default() })
            }
            Err(source) => Err(Failure::File { doing: format!("read {}", path.display()), source }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<ConfigFile, Failure> {
        let mut file: ConfigFile = toml::from_str(text).map_err(|error| {
            Failure::usage(
                format!(
                    "{} is not a valid configuration file: {}",
                    path.display(),
                    error.to_string().trim_end()
                ),
                "allowed are: current, previous, and for each [contexts.NAME]: url, env, ca_file, token_file",
            )
        })?;
        file.path = Some(path.to_owned());
        Ok(file)
    }

    /// The name of the context that is chosen.
    pub(crate) fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// What was chosen before.
    pub(crate) fn previous(&self) -> Option<&str> {
        self.previous.as_deref()
    }

    /// What is chosen now, in the form of [`ConfigFile::previous`].
    pub(crate) fn chosen(&self) -> Option<String> {
        let name = self.current()?;
        let env = self.contexts.get(name).and_then(|context| context.env.as_deref());
        Some(format!("{name}/{}", env.unwrap_or_default()))
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        self.contexts.contains_key(name)
    }

    /// All contexts, for a table.
    pub(crate) fn listed(&self) -> Vec<serde_json::Value> {
        let shown = |(name, context): (&String, &Context)| {
            serde_json::json!({
                "name": name,
                "chosen": self.current() == Some(name),
                "url": context.url,
                "env": context.env,
                "ca_file": context.ca_file,
                "token_file": context.token_file,
            })
        };
        self.contexts.iter().map(shown).collect()
    }

    fn folder(&self) -> &Path {
        self.path.as_deref().and_then(Path::parent).unwrap_or(Path::new(""))
    }

    pub(crate) fn context(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Failure::usage(
                format!("there is no context named '{name}'"),
                format!(
                    "known contexts: {known}; contexts stand in the configuration file as [contexts.NAME]"
                ),
            )
        })
    }
}

/// `$SKEP_CONFIG_HOME`, else `$XDG_CONFIG_HOME/skep`, else `~/.config/skep`.
fn config_path(variables: &Variables) -> Option<PathBuf> {
    let folder = match variables.get("SKEP_CONFIG_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => match variables.get("XDG_CONFIG_HOME") {
            Some(folder) => PathBuf::from(folder).join("skep"),
            None => PathBuf::from(variables.get("HOME")?).join(".config").join("skep"),
        },
    };
    Some(folder.join("config.toml"))
}

/// The environment variables of the process, or of a test.
#[derive(Debug, Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Those of this process. Names and values that are not Unicode are none of ours.
    pub fn of_process() -> Variables {
        Variables(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        )
    }

    /// Exactly these.
    pub fn of(pairs: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Variables {
        Variables(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// A variable that is set to nothing counts as not set, as shells have no other way to take one back.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl Settings {
    /// Puts the sources together.
    pub(crate) fn resolve(
        flags: &GlobalFlags,
        variables: &Variables,
        project: &Project,
        file: &ConfigFile,
    ) -> Result<Settings, Failure> {
        let mut server = Server::resolve(flags, variables, project, file)?;
        server.origins.of_the_rest(flags, variables);
        let output = choice(flags.output, variables, "SKEP_OUTPUT")?;
        Ok(Settings {
            managers: server.managers,
            token: server.token,
            ca_file: server.ca_file,
            env: server.env,
            context: server.context,
            config: file.path.clone(),
            origins: server.origins,
            project: project.clone(),
            output,
            form: Form::of(output, flags.output, flags.format.as_deref(), flags.jq.as_deref())?,
            quiet: flags.quiet,
            detach: flags.detach || (!flags.wait && switched_off(variables, "SKEP_WAIT")),
            dry_run: flags.dry_run,
            timeout: timeout(flags, variables)?,
            progress: choice(flags.progress, variables, "SKEP_PROGRESS")?
                .unwrap_or_else(|| progress(variables)),
            yes: flags.yes,
            confirm: flags.confirm.clone(),
            color: !flags.no_color
                && variables.get("NO_COLOR").is_none()
                && variables.get("TERM") != Some("dumb"),
            verbose: flags.verbose > 0,
            consistency: choice(flags.consistency, variables, "SKEP_CONSISTENCY")?,
            idempotency_key: flags.idempotency_key,
            recovery_key_file: variables.get("SKEP_RECOVERY_KEY_FILE").map(PathBuf::from),
            may_ask: variables.get("CI").is_none_or(|value| value == "false"),
        })
    }
}

impl Settings {
    /// The same, as somebody else.
    pub(crate) fn with_token(&self, token: TokenSource) -> Settings {
        Settings { token: Some(token), ..self.clone() }
    }

    /// The same, as nobody.
    pub(crate) fn without_token(&self) -> Settings {
        Settings { token: None, ..self.clone() }
    }
}

/// The part of the settings that belongs together: whom to talk to, as whom, about which environment.
struct Server {
    managers: Vec<Url>,
    token: Option<TokenSource>,
    ca_file: Option<PathBuf>,
    env: Option<String>,
    context: Option<String>,
    origins: Origins,
}

impl Server {
    fn resolve(
        flags: &GlobalFlags,
        variables: &Variables,
        project: &Project,
        file: &ConfigFile,
    ) -> Result<Server, Failure> {
        let url = flags.url.as_deref().or(variables.get("SKEP_URL"));
        // A context named on this very command line is meant, whatever else is set.
        let (name, named_by) = match (&flags.context, url) {
            (Some(name), _) => (Some(name.as_str()), "flag --context".to_owned()),
            (None, Some(_)) => (None, "left out: the server is named".to_owned()),
            (None, None) => chosen(variables, project, file),
        };
        let context = name.map(|name| file.context(name)).transpose()?;
        let in_folder = |path: &PathBuf| file.folder().join(path);
        // A flag for the context beats a variable for the address, not a flag for the address.
        let url = match (&flags.url, &flags.context, context) {
            (Some(url), _, _) => Some(url.as_str()),
            (None, Some(_), Some(context)) => Some(context.url.as_str()),
            _ => url.or(context.map(|context| context.url.as_str())),
        };
        Ok(Server {
            origins: Origins::of_server(flags, variables, project, name.zip(context), named_by),
            context: name.map(str::to_owned),
            managers: url.map(managers).transpose()?.unwrap_or_default(),
            token: (flags.token_file.clone().map(TokenSource::File))
                .or_else(|| variables.get("SKEP_TOKEN_FILE").map(|path| TokenSource::File(path.into())))
                .or_else(|| {
                    variables.get("SKEP_TOKEN").map(|text| TokenSource::Value(Secret::new(text.to_owned())))
                })
                .or_else(|| context?.token_file.as_ref().map(|path| TokenSource::File(in_folder(path)))),
            ca_file: (flags.ca_file.clone())
                .or_else(|| variables.get("SKEP_CA_FILE").map(PathBuf::from))
                .or_else(|| context?.ca_file.as_ref().map(in_folder)),
            env: (flags.env.clone())
                .or_else(|| variables.get("SKEP_ENV").map(str::to_owned))
                .or_else(|| project.env.clone())
                .or_else(|| context?.env.clone()),
        })
    }
}

/// The context that is chosen beforehand, and by what.
fn chosen<'a>(
    variables: &'a Variables,
    project: &'a Project,
    file: &'a ConfigFile,
) -> (Option<&'a str>, String) {
    if let Some(name) = variables.get("SKEP_CONTEXT") {
        return (Some(name), "variable SKEP_CONTEXT".to_owned());
    }
    if let Some(name) = project.context.as_deref() {
        return (Some(name), PROJECT_FILE.to_owned());
    }
    match file.current() {
        Some(name) => (Some(name), "skep use".to_owned()),
        None => (None, "not set".to_owned()),
    }
}

/// Parses `https://m1:8443,https://m2:8443`.
pub(crate) fn managers(list: &str) -> Result<Vec<Url>, Failure> {
    let managers = list
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(manager)
        .collect::<Result<Vec<Url>, Failure>>()?;
    if managers.is_empty() {
        return Err(Failure::usage("the server's address is empty", "give it as https://HOST:8443"));
    }
    Ok(managers)
}

/// One address, which must not send the token in clear.
pub(crate) fn manager(text: &str) -> Result<Url, Failure> {
    let url = Url::parse(text).map_err(|error| {
        Failure::usage(format!("'{text}' is not an address: {error}"), "give it as https://HOST:8443")
    })?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(Failure::usage(
            format!("'{text}' would send the token in clear"),
            "use https://; http:// is for this machine only (127.0.0.1, [::1], localhost)",
        )),
        _ => Err(Failure::usage(format!("'{text}' is not an https address"), "give it as https://HOST:8443")),
    }
}

/// Whether the address can only be this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn choice<T: ValueEnum>(flag: Option<T>, variables: &Variables, name: &str) -> Result<Option<T>, Failure> {
    if flag.is_some() {
        return Ok(flag);
    }
    let Some(text) = variables.get(name) else {
        return Ok(None);
    };
    T::from_str(text, true).map(Some).map_err(|_| {
        let known: Vec<String> = T::value_variants()
            .iter()
            .filter_map(|variant| Some(variant.to_possible_value()?.get_name().to_owned()))
            .collect();
        Failure::usage(format!("{name} is '{text}'"), format!("allowed are: {}", known.join(", ")))
    })
}

/// A dumb terminal cannot draw in place.
fn progress(variables: &Variables) -> ProgressStyle {
    if variables.get("TERM") == Some("dumb") { ProgressStyle::Plain } else { ProgressStyle::Auto }
}

fn switched_off(variables: &Variables, name: &str) -> bool {
    matches!(variables.get(name), Some("0" | "false" | "no"))
}

fn timeout(flags: &GlobalFlags, variables: &Variables) -> Result<Option<Duration>, Failure> {
    let (text, origin) = match (&flags.timeout, variables.get("SKEP_TIMEOUT")) {
        (Some(text), _) => (text.as_str(), "--timeout"),
        (None, Some(text)) => (text, "SKEP_TIMEOUT"),
        (None, None) => return Ok(Some(TIMEOUT_DEFAULT)),
    };
    match duration(text) {
        Some(Duration::ZERO) => Ok(None),
        Some(duration) => Ok(Some(duration)),
        None => Err(Failure::usage(
            format!("{origin} is '{text}', which is not a duration"),
            "examples: 30s, 10m, 1h30m; 0 waits for ever",
        )),
    }
}

/// `90` are seconds; everything else carries its units.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    text.parse::<SignedDuration>().ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        current = "prod"
        [contexts.prod]
        url = "https://prod:8443"
        env = "shop"
        ca_file = "prod-ca.pem"
        token_file = "/secrets/prod"
        [contexts.lab]
        url = "https://lab1:8443, https://lab2:8443"
    "#;

    fn resolve(flags: GlobalFlags, variables: &[(&str, &str)]) -> Result<Settings, Failure> {
        resolve_in(&Project::default(), flags, variables)
    }

    fn resolve_in(
        project: &Project,
        flags: GlobalFlags,
        variables: &[(&str, &str)],
    ) -> Result<Settings, Failure> {
        let file = ConfigFile::parse(FILE, Path::new("/home/ann/.config/skep/config.toml"))?;
        Settings::resolve(&flags, &Variables::of(variables.iter().copied()), project, &file)
    }

    fn hosts(settings: &Settings) -> Vec<&str> {
        settings.managers.iter().filter_map(Url::host_str).collect()
    }

    #[test]
    fn a_flag_beats_a_variable_beats_the_file() {
        let from_file = resolve(GlobalFlags::default(), &[]).expect("the file alone is enough");
        assert_eq!(hosts(&from_file), ["prod"]);
        assert_eq!(from_file.env.as_deref(), Some("shop"));
        assert_eq!(from_file.ca_file.as_deref(), Some(Path::new("/home/ann/.config/skep/prod-ca.pem")));
        assert_eq!(from_file.token, Some(TokenSource::File("/secrets/prod".into())));

        let variables =
            [("SKEP_ENV", "test"), ("SKEP_OUTPUT", "json"), ("SKEP_TIMEOUT", "30"), ("SKEP_WAIT", "0")];
        let from_variables = resolve(GlobalFlags::default(), &variables).expect("valid");
        assert_eq!(from_variables.env.as_deref(), Some("test"));
        assert_eq!(from_variables.output, Some(Output::Json));
        assert_eq!(from_variables.timeout, Some(Duration::from_secs(30)));
        assert!(from_variables.detach);

        let flags = GlobalFlags {
            env: Some("mine".into()),
            output: Some(Output::Wide),
            timeout: Some("1h30m".into()),
            wait: true,
            ..GlobalFlags::default()
        };
        let from_flags = resolve(flags, &variables).expect("valid");
        assert_eq!(from_flags.env.as_deref(), Some("mine"));
        assert_eq!(from_flags.output, Some(Output::Wide));
        assert_eq!(from_flags.timeout, Some(Duration::from_secs(90 * 60)));
        assert!(!from_flags.detach);
    }

    #[test]
    fn the_projects_file_stands_between_the_variables_and_the_users_file() {
        let project = Project { context: Some("lab".into()), env: Some("mine".into()), ..Project::default() };
        let settings = resolve_in(&project, GlobalFlags::default(), &[]).expect("valid");
        assert_eq!(
            (hosts(&settings).as_slice(), settings.env.as_deref()),
            (["lab1", "lab2"].as_slice(), Some("mine"))
        );
        assert_eq!(
            (settings.origins.context.as_str(), settings.origins.env.as_str()),
            (".skep.toml", ".skep.toml")
        );
        let variables = [("SKEP_CONTEXT", "prod"), ("SKEP_ENV", "test")];
        let settings = resolve_in(&project, GlobalFlags::default(), &variables).expect("valid");
        assert_eq!(
            (hosts(&settings).as_slice(), settings.env.as_deref()),
            (["prod"].as_slice(), Some("test"))
        );
        assert_eq!(settings.origins.url, "context prod");
        let nowhere = Project { context: Some("nowhere".into()), ..Project::default() };
        assert!(resolve_in(&nowhere, GlobalFlags::default(), &[]).is_err());
    }

    #[test]
    fn the_contexts_token_does_not_follow_another_address() {
        let settings =
            resolve(GlobalFlags::default(), &[("SKEP_URL", "https://elsewhere:8443")]).expect("valid");
        assert_eq!(hosts(&settings), ["elsewhere"]);
        assert_eq!(settings.token, None);
        assert_eq!(settings.ca_file, None);
        assert_eq!(settings.env, None);
    }

    #[test]
    fn a_context_named_by_flag_beats_the_address_in_the_environment() {
        let flags = GlobalFlags { context: Some("lab".into()), ..GlobalFlags::default() };
        let settings = resolve(flags, &[("SKEP_URL", "https://elsewhere:8443")]).expect("valid");
        assert_eq!(hosts(&settings), ["lab1", "lab2"]);
        let settings = resolve(GlobalFlags::default(), &[("SKEP_CONTEXT", "lab")]).expect("valid");
        assert_eq!(hosts(&settings), ["lab1", "lab2"]);
    }

    #[test]
    fn the_token_file_is_preferred_and_tokens_are_never_shown() {
        let both = [("SKEP_TOKEN", "skp_clear"), ("SKEP_TOKEN_FILE", "/run/token")];
        let settings = resolve(GlobalFlags::default(), &both).expect("valid");
        assert_eq!(settings.token, Some(TokenSource::File("/run/token".into())));
        let settings = resolve(GlobalFlags::default(), &both[..1]).expect("valid");
        assert!(!format!("{settings:?}").contains("skp_clear"));
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_name() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[("SKEP_OUTPUT", "xml")], "SKEP_OUTPUT is 'xml'"),
            (&[("SKEP_TIMEOUT", "soon")], "SKEP_TIMEOUT is 'soon'"),
            (&[("SKEP_URL", "http://10.0.0.1:8443")], "would send the token in clear"),
            (&[("SKEP_URL", "ftp://m1")], "not an https address"),
            (&[("SKEP_CONTEXT", "nowhere")], "no context named 'nowhere'"),
        ];
        for (variables, wanted) in cases {
            let failure = resolve(GlobalFlags::default(), variables).expect_err("must be refused");
            assert!(failure.to_string().contains(wanted), "{failure}");
            assert_eq!(failure.exit() as u8, 2);
        }
        let failure = ConfigFile::parse("colour = true", Path::new("/c.toml")).expect_err("unknown key");
        assert!(failure.to_string().contains("colour"), "{failure}");
    }

    #[test]
    fn zero_waits_for_ever_and_ci_is_never_asked() {
        let settings =
            resolve(GlobalFlags::default(), &[("SKEP_TIMEOUT", "0"), ("CI", "true")]).expect("valid");
        assert_eq!(settings.timeout, None);
        assert!(!settings.may_ask);
        assert!(settings.color);
        assert!(!resolve(GlobalFlags::default(), &[("NO_COLOR", "1")]).expect("valid").color);
    }
}
