//! `skep doctor`: an environment, the managers, or this machine, checked now.
//!
//! Of an environment: its hosts and the network between them, in two parts on the screen: who reaches whom, at a glance; then
//! what is wrong, with cause and fix, the worst first.

pub(crate) mod checks;
mod client;
mod managers;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::env::ENV;
use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::flags::{Output, ProgressStyle};
use crate::session::Session;
use crate::table::{self, Column, Look, Show, color_of};
use crate::value::{clean, list_at, text_at};
use checks::Check;

/// The hosts that were asked.
const HOSTS: &[Column] = &[
    Column::new("HOST", Show::Text("/name")),
    Column::new("ADDRESS", Show::Text("/address")),
    Column::new("AGENT", Show::State("/agent")),
    Column::new("ENGINE", Show::Text("/engine_version")),
    Column::new("CLOCK", Show::With(clock)),
    Column::new("SENDS", Show::Text("/sends")),
    Column::new("HEARS", Show::Text("/hears")),
    Column::new("PACKETS", Show::Text("/packets")),
];

/// A matrix of more hosts would be wider than a screen; the table above it says for each host how many it reaches.
const MATRIX_HOSTS_MAX: usize = 30;

/// What a doctor can end with.
const EXITS: &[Exit] = &[
    Exit::Done,
    Exit::Failed,
    Exit::Usage,
    Exit::NotFound,
    Exit::NotAllowed,
    Exit::Conflict,
    Exit::Unreachable,
    Exit::Unknown,
    Exit::Interrupted,
];

/// Checks.
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check the hosts of an environment and the network between them
    #[command(
        long_about = "Check the hosts of an environment and the network between them\n\nAll hosts send to each other for a \
                      moment, on the ports that a swarm needs (2377/tcp to its managers, 7946/tcp, 7946/udp, 4789/udp), and \
                      say what arrives and how large packets may be. Besides: clocks, names, addresses, free space, kernel \
                      features, versions of engines. Nothing is changed, and nothing has to be stopped. Warnings alone are \
                      exit code 0, an error is 1.",
        before_long_help = "Examples:\n  skep doctor env prod\n  skep doctor env prod -o json",
        after_long_help = exit::help(EXITS)
    )]
    Env {
        /// The environment's name or id
        name: String,
    },
    /// Check the managers, each by itself
    #[command(
        long_about = "Check the managers, each by itself\n\nIs there a leader, how many may fail, have all the same state; and of each \
                      manager: what it says of itself, how far it is behind, its version and its certificate. Warnings \
                      alone are exit code 0, an error is 1.",
        visible_alias = "cluster",
        before_long_help = "Examples:\n  skep doctor server\n  skep doctor server -o json",
        after_long_help = exit::help(EXITS)
    )]
    Server,
    /// Check what this machine needs to talk to managers: settings, token, address, clock, version
    #[command(
        before_long_help = "Examples:\n  skep doctor client\n  skep doctor client --context lab",
        after_long_help = exit::help(EXITS)
    )]
    Client,
    /// On a host: check what its agent has and needs: membership, certificate, key, process, managers, engine
    #[command(
        long_about = "On a host: check what its agent has and needs\n\nIs this machine a host and of which cluster, is its \
                      certificate valid, does the agent run, which managers does it reach, and does the engine answer. Nothing is \
                      changed, and the agent may run. Only root may read all of it; no context is needed. Warnings alone \
                      are exit code 0, an error is 1.",
        before_long_help = "Examples:\n  skep doctor agent\n  skep doctor agent --state-dir /srv/skep-agent -o json",
        after_long_help = exit::help(EXITS)
    )]
    Agent(AgentPlaces),
}

/// Where the agent of this machine has its things.
#[derive(Debug, Clone, Args)]
pub struct AgentPlaces {
    /// Where the agent keeps its key, its certificate and what it remembers
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep-agent", env = "SKEP_AGENT_STATE_DIR")]
    pub state_dir: PathBuf,
    /// The engine's socket
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/var/run/docker.sock",
        env = "SKEP_AGENT_DOCKER_SOCKET"
    )]
    pub docker_socket: PathBuf,
    /// What was found there.
    #[arg(skip)]
    pub found: Option<Vec<Check>>,
}

impl Doctor {
    /// If it is the agent that is to be checked.
    pub(crate) fn agent(&mut self) -> Option<&mut AgentPlaces> {
        match &mut self.verb {
            Verb::Agent(places) => Some(places),
            _ => None,
        }
    }
}

pub(crate) async fn run(command: Doctor, session: &Session) -> Result<(), Failure> {
    match command.verb {
        Verb::Env { name } => check(ENV.named(&name)?, session).await,
        Verb::Server => managers::check(session).await,
        Verb::Client => client::check(session).await,
        Verb::Agent(AgentPlaces { found: Some(checks), .. }) => {
            checks::tell(&checks, "skep doctor agent", session)
        }
        Verb::Agent(_) => Err(Failure::usage(
            "this program has no agent",
            "use the skep that the host's agent was started from",
        )),
    }
}

async fn check(name: &str, session: &Session) -> Result<(), Failure> {
    let path = ENV.at(&[name, "actions", "diagnose"], session)?;
    if !session.settings.quiet
        && !matches!(session.settings.progress, ProgressStyle::Json | ProgressStyle::None)
    {
        session.screen.note(&format!("Checking the hosts of env/{name} and the network between them…"));
    }
    let diagnosis = session.client()?.write(Method::POST, &path, &[], Payload::Patience).await?;
    match session.output(Output::Table) {
        Output::Json => session.print_json(&diagnosis),
        Output::Name => session.screen.result(&names(&diagnosis)),
        output => {
            let look = session.screen.look(session.settings.color, output == Output::Wide);
            session.screen.result(&report(&diagnosis, &look));
        }
    }
    match errors(&diagnosis) {
        0 => Ok(()),
        errors => Err(Failure::Unwell { again: format!("skep doctor env {name}"), errors }),
    }
}

fn errors(diagnosis: &Value) -> usize {
    list_at(diagnosis, "/findings").iter().filter(|finding| finding["severity"] == "error").count()
}

/// Code and host of each finding.
fn names(diagnosis: &Value) -> String {
    let line = |finding: &Value| format!("{} {}\n", text(finding, "/code"), text(finding, "/host"));
    list_at(diagnosis, "/findings").iter().map(line).collect()
}

fn report(diagnosis: &Value, look: &Look) -> String {
    let hosts: Vec<Value> =
        list_at(diagnosis, "/hosts").iter().map(|host| with_ways(host, diagnosis)).collect();
    if hosts.is_empty() {
        return format!("No host to check.\n{}", unchecked(diagnosis));
    }
    let mut report = table::render(HOSTS, &hosts, look);
    report.push_str(&matrix(diagnosis, &hosts, look));
    report.push_str(&findings(diagnosis, look));
    report.push_str(&unchecked(diagnosis));
    report.push_str(&summary(diagnosis, &hosts));
    report
}

/// The host with how many of its ways are well, and the largest packet that passes on all of them.
fn with_ways(host: &Value, diagnosis: &Value) -> Value {
    let ways = |end: &str| -> Vec<Value> {
        let all = list_at(diagnosis, "/ways").iter();
        all.filter(|way| way[end] == host["name"]).cloned().collect()
    };
    let count = |ways: &[Value]| {
        let well = ways.iter().filter(|way| passes(way) == Some(true)).count();
        (!ways.is_empty()).then(|| format!("{well}/{}", ways.len()))
    };
    let (sends, hears) = (ways("from"), ways("to"));
    let packets = hears.iter().filter_map(|way| way["packet_bytes"].as_u64()).min();
    json!({
        "name": host["name"],
        "address": host["address"],
        "agent": if host["reached"] == true { "ready" } else { "unreachable" },
        "engine_version": host["engine_version"],
        "clock_ahead_ms": host["clock_ahead_ms"],
        "sends": count(&sends),
        "hears": count(&hears),
        "packets": packets,
    })
}

/// Whether everything passes; `None` if something is not known, and nothing is known to be blocked.
fn passes(way: &Value) -> Option<bool> {
    let ports: Vec<Option<bool>> =
        list_at(way, "/ports").iter().map(|port| port["passes"].as_bool()).collect();
    match ports {
        ports if ports.contains(&Some(false)) => Some(false),
        ports if ports.contains(&None) => None,
        _ => Some(true),
    }
}

/// `+0.012 s`: how far the clock is ahead of the manager's.
fn clock(host: &Value) -> Option<String> {
    let ahead_ms = host["clock_ahead_ms"].as_i64()?;
    let sign = if ahead_ms < 0 { '-' } else { '+' };
    let off = ahead_ms.unsigned_abs();
    Some(format!("{sign}{}.{:03} s", off / 1000, off % 1000))
}

/// One row for each sender, one column for each receiver. On a pipe in letters, so that every tool can read it.
fn matrix(diagnosis: &Value, hosts: &[Value], look: &Look) -> String {
    if diagnosis["all_pairs"] != true || hosts.len() < 2 || hosts.len() > MATRIX_HOSTS_MAX {
        return String::new();
    }
    let label = |at: usize| format!("{} {}", at + 1, text(&hosts[at], "/name"));
    let widest = (0..hosts.len()).map(|at| label(at).chars().count()).max().unwrap_or_default();
    let widest = widest.max("FROM / TO".len());
    let mut lines = format!("\n{:<widest$}", "FROM / TO");
    for at in 0..hosts.len() {
        let _ = write!(lines, " {:>3}", at + 1);
    }
    lines.push('\n');
    for from in 0..hosts.len() {
        let _ = write!(lines, "{:<widest$}", label(from));
        for to in 0..hosts.len() {
            let way = list_at(diagnosis, "/ways")
                .iter()
                .find(|way| way["from"] == hosts[from]["name"] && way["to"] == hosts[to]["name"]);
            let cell = if from == to { Cell::Itself } else { Cell::of(way) };
            let _ = write!(lines, " {}", cell.shown(look));
        }
        lines.push('\n');
    }
    lines
}

/// One way, at a glance.
enum Cell {
    Itself,
    Passes,
    Blocked,
    Unknown,
}

impl Cell {
    fn of(way: Option<&Value>) -> Cell {
        match way.and_then(passes) {
            Some(true) => Cell::Passes,
            Some(false) => Cell::Blocked,
            None => Cell::Unknown,
        }
    }

    fn shown(&self, look: &Look) -> String {
        // What people look at may have signs; the same as in progress.
        let (sign, word, state) = match self {
            Cell::Itself => ("-", "-", "-"),
            Cell::Passes => ("✓", "ok", "done"),
            Cell::Blocked => ("✗", "NO", "failed"),
            Cell::Unknown => ("?", "?", "pending"),
        };
        let cell = format!("{:>3}", if look.relative { sign } else { word });
        match color_of(state).filter(|_| look.color) {
            Some(color) => format!("\u{1b}[{color}m{cell}\u{1b}[0m"),
            None => cell,
        }
    }
}

fn findings(diagnosis: &Value, look: &Look) -> String {
    let mut lines = String::new();
    let mut all = list_at(diagnosis, "/findings").iter().peekable();
    let mut first_of_code = true;
    while let Some(finding) = all.next() {
        let severity = text(finding, "/severity");
        let host = match list_at(finding, "/from") {
            // What was seen of the network names both ends.
            [] => format!("{}: ", text(finding, "/host")),
            _ => String::new(),
        };
        let heading = match color_of(&severity).filter(|_| look.color) {
            Some(color) => format!("\u{1b}[{color}m{severity}\u{1b}[0m"),
            None => severity,
        };
        let gap = if first_of_code { "\n" } else { "" };
        let _ =
            writeln!(lines, "{gap}{heading}[{}]: {host}{}", text(finding, "/code"), text(finding, "/seen"));
        // What many hosts have in common is explained once.
        first_of_code = all.peek().is_none_or(|next| text(next, "/code") != text(finding, "/code"));
        if first_of_code {
            let _ = writeln!(lines, "  cause: {}", text(finding, "/cause"));
            let _ = writeln!(lines, "  fix:   {}", text(finding, "/fix"));
        }
    }
    lines
}

fn unchecked(diagnosis: &Value) -> String {
    let gaps = list_at(diagnosis, "/unchecked");
    let mut lines = String::from(if gaps.is_empty() { "" } else { "\nNot checked:\n" });
    for gap in gaps {
        let _ = writeln!(lines, "  {}: {}: {}", text(gap, "/host"), text(gap, "/what"), text(gap, "/why"));
    }
    lines
}

fn summary(diagnosis: &Value, hosts: &[Value]) -> String {
    let (ways, errors) = (list_at(diagnosis, "/ways").len(), errors(diagnosis));
    let warnings = list_at(diagnosis, "/findings").len() - errors;
    let chosen = match diagnosis["all_pairs"] == true {
        true => "",
        false => " (of many hosts only ways to and from swarm managers and between neighbours)",
    };
    let found = match (errors, warnings) {
        (0, 0) => "nothing is wrong".to_owned(),
        (errors, warnings) => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
    };
    format!("\n{}, {}{chosen}: {found}\n", counted(hosts.len(), "host"), counted(ways, "way"))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn text(value: &Value, pointer: &str) -> String {
    clean(&text_at(value, pointer).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(passes: &[Value], look: &Look) -> String {
        let ports: Vec<Value> = passes.iter().map(|passes| json!({"passes": passes})).collect();
        Cell::of(Some(&json!({"ports": ports}))).shown(look)
    }

    #[test]
    fn what_is_blocked_outweighs_what_is_not_known() {
        let now = "2026-11-20T10:00:00Z".parse().expect("a time");
        let pipe = Look { now, relative: false, width: None, color: false, wide: false };
        let terminal = Look { relative: true, ..pipe };
        let colored = Look { color: true, ..terminal };
        let (yes, no, unknown) = (json!(true), json!(false), json!(null));
        for (ports, on_pipe, on_terminal) in [
            (vec![yes.clone(), yes.clone()], " ok", "  ✓"),
            (vec![yes.clone(), unknown.clone()], "  ?", "  ?"),
            (vec![no, unknown, yes.clone()], " NO", "  ✗"),
        ] {
            assert_eq!(
                (cell(&ports, &pipe).as_str(), cell(&ports, &terminal).as_str()),
                (on_pipe, on_terminal)
            );
        }
        assert_eq!(cell(&[yes], &colored), "\u{1b}[32m  ✓\u{1b}[0m");
        assert_eq!(Cell::of(None).shown(&pipe), "  ?");
    }

    #[test]
    fn clocks_are_shown_with_their_direction() {
        for (ahead, shown) in [(12, "+0.012 s"), (-61_500, "-61.500 s"), (0, "+0.000 s")] {
            assert_eq!(clock(&json!({"clock_ahead_ms": ahead})).as_deref(), Some(shown));
        }
        assert_eq!(clock(&json!({"clock_ahead_ms": null})), None);
    }
}
