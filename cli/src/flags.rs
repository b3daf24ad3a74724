//! Flags that every client command understands, before or after its name.
//!
//! They are "as written" here; `settings` turns them, the environment variables and the user's file into "as meant".

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};
use uuid::Uuid;

/// The flags as they stood on the command line.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalFlags {
    /// The environment to work in [env: SKEP_ENV]
    #[arg(short, long, global = true, value_name = "NAME", value_parser = environment_name)]
    pub env: Option<String>,

    /// The context (server, environment, token) of the user's configuration file [env: SKEP_CONTEXT]
    #[arg(short, long, global = true, value_name = "NAME")]
    pub context: Option<String>,

    /// Address of the API; several managers separated by commas [env: SKEP_URL]
    #[arg(long, global = true, value_name = "URL[,URL]")]
    pub url: Option<String>,

    /// File that holds the token [env: SKEP_TOKEN_FILE, or the token itself in SKEP_TOKEN]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Certificate authority to trust, instead of the system's [env: SKEP_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// How to print results [env: SKEP_OUTPUT] [default: table; inspect: json]
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub output: Option<Output>,

    /// Print each object through a template of Docker's kind, such as 'table {{.Name}}\t{{.State}}'
    #[arg(long, global = true, value_name = "TEMPLATE", conflicts_with = "jq")]
    pub format: Option<String>,

    /// Print what a jq filter makes of the JSON, such as .items[].metadata.name
    #[arg(long, global = true, value_name = "FILTER")]
    pub jq: Option<String>,

    /// Print names or ids only, and no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Do not wait: print the operation's id and return [env: SKEP_WAIT=0]
    #[arg(short, long, global = true, conflicts_with = "wait")]
    pub detach: bool,

    /// Wait for the end, even if SKEP_WAIT=0 is set
    #[arg(long, global = true)]
    pub wait: bool,

    /// Only say what would be done; nothing is changed
    #[arg(long, global = true)]
    pub dry_run: bool,

    /// How long to wait (30s, 10m, 1h; 0 = for ever); the operation itself goes on [env: SKEP_TIMEOUT] [default: 10m]
    #[arg(long, global = true, value_name = "DURATION")]
    pub timeout: Option<String>,

    /// How to show progress on standard error [env: SKEP_PROGRESS] [default: auto]
    #[arg(long, global = true, value_enum, value_name = "HOW", hide_short_help = true)]
    pub progress: Option<ProgressStyle>,

    /// Answer y/N questions with yes
    #[arg(short, long, global = true)]
    pub yes: bool,

    /// Name what is to be destroyed, where --yes is not enough
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub confirm: Option<String>,

    /// No colour [env: NO_COLOR]
    #[arg(long, global = true, hide_short_help = true)]
    pub no_color: bool,

    /// Show requests and timings on standard error
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// How fresh reads must be; stale works without a leader [env: SKEP_CONSISTENCY]
    #[arg(long, global = true, value_enum, value_name = "MODE", hide_short_help = true)]
    pub consistency: Option<Consistency>,

    /// Key of a write whose outcome stayed unknown, to repeat it safely
    #[arg(long, global = true, value_name = "UUID", hide_short_help = true)]
    pub idempotency_key: Option<Uuid>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Aligned columns.
    Table,
    /// As table, with ids, addresses and versions.
    Wide,
    /// The object of the API, unchanged.
    Json,
    /// The same as YAML.
    Yaml,
    /// One line of JSON for each item.
    Ndjson,
    /// TYPE/NAME lines, usable as arguments of the next command.
    Name,
    /// All columns of the table, separated by commas.
    Csv,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressStyle {
    /// In place on a terminal, plain elsewhere.
    Auto,
    /// In place.
    Tty,
    /// One timestamped line per change of a step.
    Plain,
    /// One JSON object per change of a step.
    Json,
    /// Nothing.
    None,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Consistency {
    /// Any manager's local state.
    Stale,
    /// The manager's own choice.
    Default,
    /// Linearizable.
    Consistent,
}

impl Consistency {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Consistency::Stale => "stale",
            Consistency::Default => "default",
            Consistency::Consistent => "consistent",
        }
    }
}

/// `docker run -e KEY=VALUE` is in many fingers: say what `-e` means here instead of looking for an environment of that name.
fn environment_name(text: &str) -> Result<String, String> {
    if text.contains('=') {
        return Err("'-e' selects the environment; it does not set a variable".to_owned());
    }
    Ok(text.strip_prefix("env/").unwrap_or(text).to_owned())
}
