//! `skep host stats`: how busy hosts and their containers are, and were in the last hour.
//!
//! Hosts are asked at the same time and each answers for itself: one that is silent costs its line, not the command.

use clap::Args;
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::flags::Output;
use crate::host::HOST;
use crate::session::{self, Session};
use crate::table::{Column, Show};
use crate::value::{bytes, items, list_at, text_at};

/// What asking hosts can end with.
pub(crate) const EXITS: &[Exit] = &[
    Exit::Done,
    Exit::Failed,
    Exit::Usage,
    Exit::NotFound,
    Exit::NotAllowed,
    Exit::Unreachable,
    Exit::Partly,
    Exit::Interrupted,
];

/// Hosts that are asked at the same time: enough that a few silent ones hold nobody up.
const HOSTS_AT_ONCE_MAX: usize = 16;

/// Cells of a line that shows the last hour.
const CELLS: usize = 30;

/// Two minutes, so that all cells are one hour.
const CELL_SECONDS: usize = 3600 / CELLS;

/// From idle to busy; for terminals, and for pipes in letters that every tool can read.
const BLOCKS: &[char] = &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const LETTERS: &[char] = &['.', ':', '-', '=', '+', '*', '#', '@'];

/// One line for each host.
const HOSTS: &[Column] = &[
    Column::new("HOST", Show::Text("/host")),
    Column::new("CPU", Show::Text("/cpu")),
    Column::new("MEM", Show::Text("/memory")),
    Column::new("DISK", Show::Text("/disk")),
    Column::new("IN/S", Show::Text("/received")),
    Column::new("OUT/S", Show::Text("/sent")),
    Column::new("CPU, LAST HOUR", Show::Text("/history")),
    Column::new("MESSAGE", Show::Free("/message")),
];

/// One line for each container.
const CONTAINERS: &[Column] = &[
    Column::new("CONTAINER", Show::Text("/name")),
    Column::new("HOST", Show::Text("/host")),
    Column::new("SERVICE", Show::Text("/service")),
    Column::wide("ID", Show::Text("/id")),
    Column::wide("TASK", Show::Text("/task")),
    Column::new("CPU", Show::Text("/cpu")),
    Column::new("MEM", Show::Text("/memory")),
    Column::new("IN/S", Show::Text("/received")),
    Column::new("OUT/S", Show::Text("/sent")),
    Column::new("CPU, LAST HOUR", Show::Text("/history")),
    Column::new("MESSAGE", Show::Free("/message")),
];

/// Which hosts, and what of them.
#[derive(Debug, Args)]
pub struct Stats {
    /// The hosts' names or ids; all hosts of the environment if none is given
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// One line for each container instead of one for each host
    #[arg(long)]
    containers: bool,
}

/// A host, and what it answered.
struct Told {
    name: String,
    answer: Result<Value, Failure>,
}

pub(crate) async fn run(command: Stats, session: &Session) -> Result<(), Failure> {
    let names = match command.names.is_empty() {
        true => all_hosts(session).await?,
        false => command.names.clone(),
    };
    if names.is_empty() {
        session.screen.note(HOST.when_none);
    }
    let asking = names.iter().map(|name| ask(name, command.containers, session));
    let told: Vec<Told> = stream::iter(asking).buffered(HOSTS_AT_ONCE_MAX).collect().await;
    print(&told, &command, session);
    let total = told.len();
    let failures = told.into_iter().filter_map(|told| told.answer.err()).collect();
    // In a table each reason stands in its host's line.
    let in_lines = matches!(session.output(Output::Table), Output::Table | Output::Wide);
    session::verdict(total, failures, |failure| {
        if !in_lines {
            session.report(failure);
        }
    })
}

async fn all_hosts(session: &Session) -> Result<Vec<String>, Failure> {
    let hosts = session.client()?.list(&HOST.at(&[], session)?, &[]).await?;
    Ok(items(&hosts).iter().map(|host| HOST.name_of(host)).collect())
}

async fn ask(name: &str, containers: bool, session: &Session) -> Told {
    let answer = async {
        let path = HOST.at(&[HOST.named(name)?, "stats"], session)?;
        let query = [("containers", if containers { "true" } else { "false" })];
        session.client()?.get(&path, &query).await
    };
    Told { answer: answer.await, name: name.to_owned() }
}

fn print(told: &[Told], command: &Stats, session: &Session) {
    let answers = || told.iter().filter_map(|told| told.answer.as_ref().ok());
    match session.output(Output::Table) {
        Output::Json => match (command.names.len(), answers().next()) {
            (1, Some(only)) => session.print_json(only),
            (1, None) => {}
            _ => session.print_json(&json!({"items": answers().collect::<Vec<_>>()})),
        },
        Output::Name => {
            let line = |answer: &Value| {
                let name = text_at(answer, "/host").unwrap_or_default();
                if session.settings.quiet { name } else { HOST.reference(&name) }
            };
            answers().for_each(|answer| session.screen.result(&format!("{}\n", line(answer))));
        }
        output => {
            // One host that does not answer is told as any failure is; a table would only repeat it.
            if told.is_empty() || (told.len() == 1 && answers().next().is_none()) {
                return;
            }
            let signs = if session.screen.look(false, false).relative { BLOCKS } else { LETTERS };
            let (columns, rows) = match command.containers {
                false => (HOSTS, told.iter().map(|told| host_row(told, signs)).collect()),
                true => (CONTAINERS, told.iter().flat_map(|told| container_rows(told, signs)).collect()),
            };
            let rows: Vec<Value> = rows;
            session.print_table(columns, &rows, output);
            answers().for_each(|answer| note_left_out(answer, session));
        }
    }
}

fn note_left_out(answer: &Value, session: &Session) {
    if let Some(left_out) = answer["containers_left_out"].as_u64().filter(|left_out| *left_out > 0) {
        let host = text_at(answer, "/host").unwrap_or_default();
        session
            .screen
            .note(&format!("host/{host} runs {left_out} more containers than its agent keeps statistics of"));
    }
}

fn host_row(told: &Told, signs: &[char]) -> Value {
    match &told.answer {
        Err(failure) => json!({"host": told.name, "message": failure.to_string()}),
        Ok(answer) => {
            let series = &answer["series"];
            json!({
                "host": answer["host"],
                "cpu": percent_now(series),
                "memory": used(now(series, "memory_used_bytes"), now(series, "memory_total_bytes")),
                "disk": used(now(series, "disk_used_bytes"), now(series, "disk_total_bytes")),
                "received": now(series, "network_received_bytes_per_second").map(bytes),
                "sent": now(series, "network_sent_bytes_per_second").map(bytes),
                "history": history(list_at(answer, "/at"), list_at(series, "/cpu_percent"), signs),
            })
        }
    }
}

fn container_rows(told: &Told, signs: &[char]) -> Vec<Value> {
    let answer = match &told.answer {
        Err(failure) => return vec![json!({"host": told.name, "message": failure.to_string()})],
        Ok(answer) => answer,
    };
    let mut containers: Vec<&Value> = list_at(answer, "/containers").iter().collect();
    containers.sort_by_key(|container| text_at(container, "/name"));
    let row = |container: &Value| {
        let series = &container["series"];
        let memory = now(series, "memory_used_bytes");
        json!({
            "name": container["name"],
            "host": answer["host"],
            "service": container["service"],
            "id": container["id"],
            "task": container["task"],
            "cpu": percent_now(series),
            "memory": used(memory, container["memory_limit_bytes"].as_u64()),
            "received": now(series, "network_received_bytes_per_second").map(bytes),
            "sent": now(series, "network_sent_bytes_per_second").map(bytes),
            "history": history(list_at(answer, "/at"), list_at(series, "/cpu_percent"), signs),
            "message": memory.is_none().then_some("has ended, or did not answer just now"),
        })
    };
    containers.into_iter().map(row).collect()
}

/// The newest value of a series; `None` if it is a gap, because an older one is not how it is now.
fn now(series: &Value, name: &str) -> Option<u64> {
    series[name].as_array()?.last()?.as_u64()
}

fn percent_now(series: &Value) -> Option<String> {
    Some(format!("{:.1}%", series["cpu_percent"].as_array()?.last()?.as_f64()?))
}

/// `1.0 GiB/4.0 GiB`.
fn used(used: Option<u64>, total: Option<u64>) -> Option<String> {
    let used = bytes(used?);
    Some(total.map_or_else(|| used.clone(), |total| format!("{used}/{}", bytes(total))))
}

/// The last hour up to the newest sample, a cell for each two minutes: the mean of what is known, blank where nothing is. The
/// scale goes to 100 %, or to as many whole processors as were busy.
fn history(at: &[Value], percent: &[Value], signs: &[char]) -> Option<String> {
    let time = |at: &Value| Some(at.as_str()?.parse::<Timestamp>().ok()?.as_second());
    let newest = time(at.last()?)?;
    let mut cells = [(0.0, 0_u32); CELLS];
    for (at, percent) in at.iter().zip(percent) {
        let (Some(at), Some(percent)) = (time(at), percent.as_f64()) else { continue };
        let Ok(age) = usize::try_from(newest.saturating_sub(at)) else { continue };
        if let Some((sum, count)) = CELLS.checked_sub(1 + age / CELL_SECONDS).map(|cell| &mut cells[cell]) {
            *sum += percent;
            *count += 1;
        }
    }
    let means = cells.map(|(sum, count)| (count > 0).then(|| sum / f64::from(count)));
    let peak = means.iter().flatten().fold(0.0, |peak: f64, mean| peak.max(*mean));
    let scale = (peak / 100.0).ceil().max(1.0) * 100.0;
    let sign = |mean: &Option<f64>| {
        let level = mean.map(|mean| (mean / scale * signs.len() as f64) as usize);
        level.map_or(' ', |level| signs[level.min(signs.len() - 1)])
    };
    Some(means.iter().map(sign).collect()).filter(|line: &String| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(count: i64) -> Vec<Value> {
        let start: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let at = |number: i64| start + jiff::SignedDuration::from_secs(number * 10);
        (0..count).map(|number| json!(at(number).to_string())).collect()
    }

    #[test]
    fn the_last_hour_is_drawn_up_to_the_newest_sample() {
        let draw = |percent: &[Value], signs| history(&times(percent.len() as i64), percent, signs);
        let repeated = |percent: Value| vec![percent; 12];
        // Two minutes each of idle, nothing known, half busy, busy.
        let busy = [repeated(json!(0)), repeated(json!(null)), repeated(json!(50.0)), repeated(json!(100.0))];
        let busy = busy.concat();
        let blanks = " ".repeat(CELLS - 4);
        assert_eq!(draw(&busy, BLOCKS), Some(format!("{blanks}▁ ▅█")));
        assert_eq!(draw(&busy, LETTERS), Some(format!("{blanks}. +@")));
        // Four processors: the scale is theirs.
        let container = [repeated(json!(100.0)), repeated(json!(400.0))].concat();
        assert_eq!(draw(&container, BLOCKS), Some(format!("{}▃█", " ".repeat(CELLS - 2))));
        assert_eq!(draw(&vec![json!(1); 360], LETTERS), Some(".".repeat(CELLS)));
        assert_eq!((draw(&[json!(null)], BLOCKS), draw(&[], BLOCKS)), (None, None));
    }

    #[test]
    fn what_is_not_known_now_is_not_taken_from_before() {
        let series = json!({"cpu_percent": [1.0, null], "memory_used_bytes": [5, null], "sent": [null, 0]});
        assert_eq!((percent_now(&series), now(&series, "memory_used_bytes")), (None, None));
        assert_eq!((now(&series, "sent"), now(&series, "other")), (Some(0), None));
        assert_eq!(used(Some(1024), Some(4096)).as_deref(), Some("1.0 KiB/4.0 KiB"));
        assert_eq!((used(Some(1024), None).as_deref(), used(None, Some(1))), (Some("1.0 KiB"), None));
    }
}
