//! Tables: constant columns in, aligned text out.
//!
//! Own code instead of a table library because the rules are few and exact: one line per item, first column NAME, on a
//! terminal the last column is cut to the width, on a pipe nothing is ever cut.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;

use crate::value::{bytes, clean, text_at};

/// Space between two columns.
const GAP: &str = "   ";

/// One column of a noun's table.
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) show: Show,
    /// Only with `-o wide`.
    pub(crate) wide: bool,
}

/// Where a cell comes from, as a JSON pointer or a function.
pub(crate) enum Show {
    Text(&'static str),
    /// Free text, last in the row; empty where there is none.
    Free(&'static str),
    /// The same, put together.
    FreeWith(fn(&Value) -> String),
    /// A state word, the only thing that is ever coloured.
    State(&'static str),
    Age(&'static str),
    Bytes(&'static str),
    With(fn(&Value) -> Option<String>),
}

impl Column {
    pub(crate) const fn new(title: &'static str, show: Show) -> Column {
        Column { title, show, wide: false }
    }

    pub(crate) const fn wide(title: &'static str, show: Show) -> Column {
        Column { title, show, wide: true }
    }
}

/// How the table is to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) now: Timestamp,
    /// Ages as `3m`; otherwise the time itself.
    pub(crate) relative: bool,
    /// Width of the terminal; `None` cuts nothing.
    pub(crate) width: Option<usize>,
    pub(crate) color: bool,
    pub(crate) wide: bool,
}

/// Draws the table, header first, one line per item, each ended by a line feed.
pub(crate) fn render(columns: &[Column], items: &[Value], look: &Look) -> String {
    let columns: Vec<&Column> = columns.iter().filter(|column| look.wide || !column.wide).collect();
    let header: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    let mut rows = vec![header];
    rows.extend(items.iter().map(|item| columns.iter().map(|column| column.cell(item, look)).collect()));
    let widths: Vec<usize> = (0..columns.len())
        .map(|index| rows.iter().map(|row| width(&row[index])).max().unwrap_or(0))
        .collect();

    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let line = Line { columns: &columns, widths: &widths, colored: number > 0 && look.color };
        text.push_str(&line.render(row, look.width));
        text.push('\n');
    }
    text
}

/// All columns as comma-separated values (RFC 4180 says how to quote), with times as they are.
pub(crate) fn comma_separated(columns: &[Column], items: &[Value]) -> String {
    let look = Look { now: Timestamp::UNIX_EPOCH, relative: false, width: None, color: false, wide: true };
    let quoted = |cell: &str| match cell {
        "-" => String::new(),
        cell if cell.contains([',', '"']) => format!("\"{}\"", cell.replace('"', "\"\"")),
        cell => cell.to_owned(),
    };
    let line = |cells: Vec<String>| format!("{}\n", cells.join(","));
    let header = line(columns.iter().map(|column| quoted(column.title)).collect());
    let row = |item| line(columns.iter().map(|column| quoted(&column.cell(item, &look))).collect());
    std::iter::once(header).chain(items.iter().map(row)).collect()
}

/// Rows of cells, one under the other; the last one of a row is as long as it is.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let wide = |index: usize| rows.iter().filter_map(|row| row.get(index)).map(|cell| width(cell)).max();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if index + 1 < row.len() {
                let missing = wide(index).unwrap_or_default() - width(cell);
                line.push_str(&" ".repeat(missing + GAP.len()));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

impl Column {
    fn cell(&self, item: &Value, look: &Look) -> String {
        let missing = || "-".to_owned();
        let cell = match self.show {
            Show::Text(pointer) | Show::State(pointer) => text_at(item, pointer).unwrap_or_else(missing),
            Show::Free(pointer) => text_at(item, pointer).unwrap_or_default(),
            Show::FreeWith(text) => text(item),
            Show::Age(pointer) => text_at(item, pointer).map_or_else(missing, |time| age(&time, look)),
            Show::Bytes(pointer) => item.pointer(pointer).and_then(Value::as_u64).map_or_else(missing, bytes),
            Show::With(cell) => cell(item).unwrap_or_else(missing),
        };
        clean(&cell)
    }
}

struct Line<'a> {
    columns: &'a [&'a Column],
    widths: &'a [usize],
    colored: bool,
}

impl Line<'_> {
    fn render(&self, row: &[String], width_max: Option<usize>) -> String {
        let mut line = String::new();
        let mut used = 0;
        for (index, cell) in row.iter().enumerate() {
            let last = index + 1 == row.len();
            let room = width_max.map(|width_max| width_max.saturating_sub(used));
            let cell = cut(cell, room);
            let state = matches!(self.columns[index].show, Show::State(_));
            match (self.colored && state).then(|| color_of(&cell)).flatten() {
                Some(color) => line.push_str(&format!("\u{1b}[{color}m{cell}\u{1b}[0m")),
                None => line.push_str(&cell),
            }
            used += width(&cell);
            if !last {
                let padding = self.widths[index].saturating_sub(width(&cell)) + GAP.len();
                let padding =
                    width_max.map_or(padding, |width_max| padding.min(width_max.saturating_sub(used)));
                line.push_str(&" ".repeat(padding));
                used += padding;
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Characters stand for columns: names, states and times are ASCII; a wide character in a message only shifts its own line's end.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// Cuts to the room there is, and shows that something is missing.
pub(crate) fn cut(text: &str, room: Option<usize>) -> Cow<'_, str> {
    match room {
        Some(0) => Cow::Borrowed(""),
        Some(room) if width(text) > room => {
            Cow::Owned(text.chars().take(room - 1).chain(std::iter::once('…')).collect())
        }
        _ => Cow::Borrowed(text),
    }
}

/// ANSI colour of a state word; the word itself says everything, colour is only faster to see.
pub(crate) fn color_of(state: &str) -> Option<u8> {
    const GREEN: u8 = 32;
    const YELLOW: u8 = 33;
    const RED: u8 = 31;
    match state {
        "active" | "running" | "ready" | "succeeded" | "leader" | "follower" | "done" | "complete" => {
            Some(GREEN)
        }
        "failed" | "error" | "unreachable" | "engine-down" | "swarm-down" | "swarm-locked" | "down"
        | "rejected" | "lost" | "orphaned" => Some(RED),
        "-" | "unknown" | "shutdown" | "remove" | "removed" => None,
        _ => Some(YELLOW),
    }
}

fn age(time: &str, look: &Look) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) if look.relative => elapsed(look.now.duration_since(time).as_secs()),
        Ok(time) => format!("{time:.0}"),
        Err(_) => time.to_owned(),
    }
}

/// `40s`, `12m`, `3h`, `6d`: one unit is enough to see how old something is.
pub(crate) fn elapsed(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ ..120 => format!("{seconds}s"),
        seconds @ ..7_200 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const COLUMNS: &[Column] = &[
        Column::new("NAME", Show::Text("/name")),
        Column::wide("ID", Show::Text("/id")),
        Column::new("STATE", Show::State("/state")),
        Column::new("MEM", Show::Bytes("/memory")),
        Column::new("AGE", Show::Age("/at")),
        Column::new("MESSAGE", Show::Free("/message")),
    ];

    fn items() -> Vec<Value> {
        vec![
            json!({"name": "web-1", "id": "host_1", "state": "active", "memory": 2_147_483_648_u64,
                   "at": "2026-11-14T10:00:00Z", "message": ""}),
            json!({"name": "edge", "id": "host_2", "state": "joining", "at": "2026-11-20T09:59:20Z",
                   "message": "waiting for\nswarm join"}),
        ]
    }

    fn look() -> Look {
        let now = "2026-11-20T10:00:00Z".parse().expect("a time");
        Look { now, relative: false, width: None, color: false, wide: false }
    }

    #[test]
    fn on_a_pipe_everything_is_there() {
        assert_eq!(
            render(COLUMNS, &items(), &look()),
            "NAME    STATE     MEM       AGE                    MESSAGE\n\
             web-1   active    2.0 GiB   2026-11-14T10:00:00Z\n\
             edge    joining   -         2026-11-20T09:59:20Z   waiting for swarm join\n"
        );
    }

    #[test]
    fn values_separated_by_commas_have_all_columns_and_no_dashes() {
        let mut items = items();
        items[0]["message"] = json!("says \"no\", again");
        assert_eq!(
            comma_separated(COLUMNS, &items),
            "NAME,ID,STATE,MEM,AGE,MESSAGE\n\
             web-1,host_1,active,2.0 GiB,2026-11-14T10:00:00Z,\"says \"\"no\"\", again\"\n\
             edge,host_2,joining,,2026-11-20T09:59:20Z,waiting for swarm join\n"
        );
    }

    #[test]
    fn on_a_terminal_ages_are_short_and_the_end_is_cut() {
        let look = Look { relative: true, width: Some(44), ..look() };
        assert_eq!(
            render(COLUMNS, &items(), &look),
            "NAME    STATE     MEM       AGE   MESSAGE\n\
             web-1   active    2.0 GiB   6d\n\
             edge    joining   -         40s   waiting f…\n"
        );
    }

    #[test]
    fn wide_adds_columns_and_colour_marks_states_only() {
        let look = Look { relative: true, color: true, wide: true, ..look() };
        let text = render(COLUMNS, &items()[..1], &look);
        assert_eq!(
            text,
            "NAME    ID       STATE    MEM       AGE   MESSAGE\n\
             web-1   host_1   \u{1b}[32mactive\u{1b}[0m   2.0 GiB   6d\n"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width_max in 1..80 {
            let look = Look { width: Some(width_max), ..look() };
            for line in render(COLUMNS, &items(), &look).lines() {
                assert!(width(line) <= width_max, "{width_max}: {line:?}");
            }
        }
    }
}
