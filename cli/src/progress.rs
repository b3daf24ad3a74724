//! What people see while an operation runs.
//!
//! The middle is pure: two documents of an operation give the list of [`Change`]s between them, several documents give a
//! picture for a terminal. Because only differences are printed, a stream that is read again after a reconnect repeats nothing.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::flags::ProgressStyle;
use crate::screen::Screen;
use crate::table::{color_of, cut};
use crate::value::{clean, list_at, text_at};

/// A picture higher than this pushes the rest of the screen away.
const PICTURE_LINES_MAX: usize = 20;

/// Job runners kill what is silent; a line now and then tells them that we live.
const HEARTBEAT_AFTER: Duration = Duration::from_secs(30);

/// Width of a picture if the terminal does not tell its own.
const WIDTH_DEFAULT: usize = 80;

const SPINNER: &[char] = &['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// Something that moved in an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    at: String,
    operation: String,
    kind: String,
    target: String,
    /// `None`: the operation itself.
    step: Option<String>,
    state: String,
    attempt: u64,
    owner: Option<String>,
    message: String,
}

/// What moved between two documents of one operation; with no earlier one, everything that is not still to come.
pub(crate) fn changes(before: Option<&Value>, after: &Value, now: Timestamp) -> Vec<Change> {
    let mut found = Vec::new();
    let earlier = before.map_or(&[][..], |before| list_at(before, "/steps"));
    for step in list_at(after, "/steps") {
        let before = earlier.iter().find(|earlier| earlier["name"] == step["name"]);
        let moved = match before {
            Some(before) => ["state", "attempt", "owner"].iter().any(|field| before[*field] != step[*field]),
            None => step["state"] != "pending",
        };
        if moved {
            found.push(Change::of_step(after, step, now));
        }
    }
    if before.is_none_or(|before| before["state"] != after["state"]) {
        let own = Change::of_operation(after, now);
        // The end comes after what led to it, every other state before what it leads to.
        let place = if is_final(after) { found.len() } else { 0 };
        found.insert(place, own);
    }
    found
}

/// Whether nothing more will happen to the operation.
pub(crate) fn is_final(operation: &Value) -> bool {
    matches!(operation["state"].as_str(), Some("succeeded" | "failed" | "cancelled"))
}

/// Whether the operation has paused by itself: it goes on only when somebody has looked.
pub(crate) fn waits_for_somebody(operation: &Value) -> bool {
    operation["state"] == "paused" && operation["paused"]["by"] == "skep"
}

impl Change {
    fn of_operation(operation: &Value, now: Timestamp) -> Change {
        let time = match operation["state"].as_str() {
            Some("queued") => "/created_at",
            Some("succeeded" | "failed" | "cancelled") => "/ended_at",
            _ => "/started_at",
        };
        Change::new(operation, operation, None, time, now)
    }

    fn of_step(operation: &Value, step: &Value, now: Timestamp) -> Change {
        let time = if step["state"] == "running" { "/started_at" } else { "/ended_at" };
        Change::new(operation, step, text_at(step, "/name"), time, now)
    }

    fn new(operation: &Value, subject: &Value, step: Option<String>, time: &str, now: Timestamp) -> Change {
        let text = |value: &Value, pointer: &str| clean(&text_at(value, pointer).unwrap_or_default());
        let at = text_at(subject, time).and_then(|at| at.parse().ok()).unwrap_or(now);
        Change {
            at: format!("{at:.0}"),
            operation: text(operation, "/id"),
            kind: text(operation, "/type"),
            target: text(operation, "/target"),
            step: step.map(|step| clean(&step)),
            state: text(subject, "/state"),
            attempt: subject["attempt"].as_u64().unwrap_or(0),
            owner: text_at(subject, "/owner").map(|owner| clean(&owner)),
            message: text(subject, "/message"),
        }
    }

    fn json(&self) -> Value {
        json!({
            "at": self.at, "operation": self.operation, "type": self.kind, "target": self.target, "step": self.step,
            "state": self.state, "attempt": self.attempt, "owner": self.owner, "message": self.message,
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.operation)?;
        match &self.step {
            Some(step) => write!(f, "{} {step} {}", self.target, self.state)?,
            None => write!(f, "{} {} {}", self.kind, self.target, self.state)?,
        }
        let attempt = (self.attempt > 1).then(|| format!("attempt {}", self.attempt));
        let facts: Vec<&str> = attempt.as_deref().into_iter().chain(self.owner.as_deref()).collect();
        if !facts.is_empty() {
            write!(f, " ({})", facts.join(", "))?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// An operation that is shown, and how deep.
#[derive(Debug)]
pub(crate) struct Shown {
    document: Value,
    child: bool,
}

/// Shows operations on standard error while they run.
pub(crate) struct Progress {
    style: ProgressStyle,
    screen: Screen,
    color: bool,
    shown: Vec<Shown>,
    /// Lines of the picture that stand on the terminal now.
    drawn: usize,
    frame: usize,
    spoke: Instant,
}

impl Progress {
    pub(crate) fn new(style: ProgressStyle, screen: Screen, color: bool) -> Progress {
        let style = match style {
            ProgressStyle::Auto if screen.is_watched() => ProgressStyle::Tty,
            ProgressStyle::Auto => ProgressStyle::Plain,
            other => other,
        };
        Progress { style, screen, color, shown: Vec::new(), drawn: 0, frame: 0, spoke: Instant::now() }
    }

    /// Takes the newest document of an operation. Children come below the operation they belong to.
    pub(crate) fn see(&mut self, document: &Value, child: bool) {
        let known = self.shown.iter().position(|shown| shown.document["id"] == document["id"]);
        let before = known.map(|index| &self.shown[index].document);
        let changes = changes(before, document, Timestamp::now());
        match known {
            Some(index) => self.shown[index].document = document.clone(),
            None => {
                let place = self.place(document, child);
                self.shown.insert(place, Shown { document: document.clone(), child });
            }
        }
        match self.style {
            ProgressStyle::Plain => changes.iter().for_each(|change| {
                let indent = if child { "  " } else { "" };
                self.say(&format!("{} {indent}{change}", change.at));
            }),
            ProgressStyle::Json => changes.iter().for_each(|change| self.say(&change.json().to_string())),
            ProgressStyle::Tty => self.draw(),
            ProgressStyle::Auto | ProgressStyle::None => {}
        }
    }

    /// Time has passed: the spinner turns, or a long silence is broken.
    pub(crate) fn tick(&mut self) {
        self.frame += 1;
        match self.style {
            ProgressStyle::Tty => self.draw(),
            ProgressStyle::Plain if self.spoke.elapsed() >= HEARTBEAT_AFTER => {
                let now = Timestamp::now();
                let waiting: Vec<String> = (self.shown.iter())
                    .filter(|shown| !shown.child && !is_final(&shown.document))
                    .map(|shown| {
                        format!(
                            "{} {}",
                            Change::of_operation(&shown.document, now).operation,
                            doing(&shown.document)
                        )
                    })
                    .collect();
                self.say(&format!("{now:.0} still waiting: {}", waiting.join("; ")));
            }
            _ => {}
        }
    }

    /// A remark between the changes.
    pub(crate) fn remark(&mut self, text: &str) {
        match self.style {
            ProgressStyle::Tty => {
                self.erase();
                self.screen.note(text);
                self.draw();
            }
            ProgressStyle::Plain => self.say(text),
            ProgressStyle::Json => self.say(&json!({"message": text}).to_string()),
            ProgressStyle::Auto | ProgressStyle::None => {}
        }
    }

    fn place(&self, document: &Value, child: bool) -> usize {
        let parent = self.shown.iter().position(|shown| child && shown.document["id"] == document["parent"]);
        match parent {
            Some(parent) => {
                let siblings = self.shown[parent + 1..].iter().take_while(|shown| shown.child).count();
                parent + 1 + siblings
            }
            None => self.shown.len(),
        }
    }

    fn say(&mut self, line: &str) {
        self.spoke = Instant::now();
        self.screen.note(line);
    }

    fn draw(&mut self) {
        let lines =
            picture(&self.shown, Timestamp::now(), self.screen.width().unwrap_or(WIDTH_DEFAULT), self.frame);
        self.erase();
        let mut text = String::new();
        for line in &lines {
            text.push_str(&if self.color { colored(line) } else { line.clone() });
            text.push('\n');
        }
        self.screen.draw(&text);
        self.drawn = lines.len();
    }

    fn erase(&mut self) {
        if self.drawn > 0 {
            self.screen.draw(&format!("\u{1b}[{}A\r\u{1b}[J", self.drawn));
            self.drawn = 0;
        }
    }
}

/// The operations as lines, each short enough not to wrap: a wrapped line could not be drawn over.
fn picture(shown: &[Shown], now: Timestamp, width: usize, frame: usize) -> Vec<String> {
    let roots = shown.iter().filter(|shown| !shown.child).count();
    let mut lines = Vec::new();
    for operation in shown {
        let document = &operation.document;
        if operation.child {
            let sign = sign(document["state"].as_str().unwrap_or_default(), frame);
            lines.push(format!("    {sign} {} {}", title(document), doing(document)));
            continue;
        }
        let sign = sign(document["state"].as_str().unwrap_or_default(), frame);
        let id = text_at(document, "/id").unwrap_or_default();
        lines.push(format!(
            "{sign} {id}  {}  {}  {}",
            title(document),
            clock(document, now),
            doing(document)
        ));
        // Steps of many operations at once are too much to look at; their current step stands in the line already.
        if roots == 1 {
            lines.extend(list_at(document, "/steps").iter().map(|step| step_line(step, frame)));
            lines.extend(children_line(document, shown));
        }
    }
    if lines.len() > PICTURE_LINES_MAX {
        let more = lines.len() - (PICTURE_LINES_MAX - 1);
        lines.truncate(PICTURE_LINES_MAX - 1);
        lines.push(format!("  … and {more} more"));
    }
    lines.iter().map(|line| cut(clean(line).trim_end(), Some(width.saturating_sub(1))).into_owned()).collect()
}

fn title(document: &Value) -> String {
    format!(
        "{} {}",
        text_at(document, "/type").unwrap_or_default(),
        text_at(document, "/target").unwrap_or_default()
    )
}

fn step_line(step: &Value, frame: usize) -> String {
    let mut line = format!(
        "  {} {:<24}",
        sign(step["state"].as_str().unwrap_or_default(), frame),
        text_at(step, "/name").unwrap_or_default()
    );
    if let Some(attempt) = step["attempt"].as_u64().filter(|attempt| *attempt > 1) {
        let _ = write!(line, " attempt {attempt}");
    }
    if step["state"] == "running"
        && let Some(owner) = text_at(step, "/owner")
    {
        let _ = write!(line, " on {owner}");
    }
    if let Some(message) = text_at(step, "/message").filter(|message| !message.is_empty()) {
        let _ = write!(line, " {message}");
    }
    line
}

/// How many children there are and how far they are; those not followed count as unknown.
fn children_line(document: &Value, shown: &[Shown]) -> Option<String> {
    let children = list_at(document, "/children");
    if children.is_empty() {
        return None;
    }
    let mut states: Vec<(String, usize)> = Vec::new();
    for child in children {
        let known = shown.iter().find(|shown| shown.document["id"] == *child);
        let state =
            known.and_then(|shown| text_at(&shown.document, "/state")).unwrap_or_else(|| "not shown".into());
        match states.iter_mut().find(|(word, _)| *word == state) {
            Some((_, count)) => *count += 1,
            None => states.push((state, 1)),
        }
    }
    let states: Vec<String> = states.iter().map(|(word, count)| format!("{count} {word}")).collect();
    Some(format!("  {} operations below: {}", children.len(), states.join(", ")))
}

/// What an operation is at: its own message, or its current step and that step's message.
fn doing(document: &Value) -> String {
    let current = list_at(document, "/steps")
        .iter()
        .find(|step| step["state"] == "running" || step["state"] == "failed");
    let text = |value: &Value, pointer: &str| text_at(value, pointer).filter(|text| !text.is_empty());
    let own = || text(document, "/message").or_else(|| text(document, "/state")).unwrap_or_default();
    match current {
        Some(step) if !is_final(document) => {
            let name = text(step, "/name").unwrap_or_default();
            text(step, "/message").map_or(name.clone(), |message| format!("{name}: {message}"))
        }
        _ => own(),
    }
}

fn sign(state: &str, frame: usize) -> char {
    match state {
        "succeeded" | "done" => '✓',
        "failed" | "cancelled" => '✗',
        "undone" => '↶',
        "kept" => '=',
        "paused" => '⏸',
        "pending" | "queued" => '·',
        _ => SPINNER[frame % SPINNER.len()],
    }
}

/// Minutes and seconds since the operation began.
fn clock(document: &Value, now: Timestamp) -> String {
    let time = |pointer: &str| text_at(document, pointer).and_then(|text| text.parse::<Timestamp>().ok());
    let Some(began) = time("/started_at").or_else(|| time("/created_at")) else {
        return String::new();
    };
    let seconds = time("/ended_at").unwrap_or(now).duration_since(began).as_secs().max(0);
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

/// Colours the sign in front of a line.
fn colored(line: &str) -> String {
    let state = match line.trim_start().chars().next() {
        Some('✓') => "done",
        Some('✗') => "failed",
        _ => return line.to_owned(),
    };
    let code = color_of(state).unwrap_or_default();
    let indent = line.len() - line.trim_start().len();
    let (sign, rest) = line[indent..].split_at('✓'.len_utf8());
    format!("{}\u{1b}[{code}m{sign}\u{1b}[0m{rest}", &line[..indent])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T10:00:30Z".parse().expect("a time")
    }

    /// An operation of two steps; steps as (state, attempt, owner, message).
    fn operation(state: &str, machine: (&str, u64, &str, &str), join: (&str, u64, &str, &str)) -> Value {
        let step = |name: &str, (state, attempt, owner, message): (&str, u64, &str, &str)| {
            json!({"name": name, "state": state, "attempt": attempt, "owner": owner, "message": message,
                   "started_at": "2026-11-20T10:00:05Z", "ended_at": "2026-11-20T10:00:09Z"})
        };
        json!({"id": "op_1", "type": "create-host", "target": "host/web-1", "state": state, "message": "",
               "created_at": "2026-11-20T10:00:00Z", "started_at": "2026-11-20T10:00:01Z",
               "ended_at": if state == "succeeded" { json!("2026-11-20T10:00:21Z") } else { Value::Null },
               "steps": [step("machine", machine), step("join", join)], "children": []})
    }

    fn documents() -> Vec<Value> {
        let still = ("pending", 0, "", "");
        vec![
            operation("queued", still, still),
            operation("running", ("running", 1, "m1", "starting"), still),
            operation("running", ("running", 1, "m1", "still starting"), still),
            operation("running", ("running", 2, "m2", "found it"), still),
            operation("running", ("running", 2, "m2", "found it"), still),
            operation("succeeded", ("done", 2, "m2", ""), ("done", 1, "m2", "manager")),
        ]
    }

    #[test]
    fn each_change_is_one_line_and_what_is_repeated_is_none() {
        let mut before = None;
        let mut lines = Vec::new();
        for document in documents() {
            lines.extend(
                changes(before.as_ref(), &document, now()).iter().map(|line| format!("{} {line}", line.at)),
            );
            before = Some(document);
        }
        assert_eq!(
            lines,
            [
                "2026-11-20T10:00:00Z op_1 create-host host/web-1 queued",
                "2026-11-20T10:00:01Z op_1 create-host host/web-1 running",
                "2026-11-20T10:00:05Z op_1 host/web-1 machine running (m1): starting",
                "2026-11-20T10:00:05Z op_1 host/web-1 machine running (attempt 2, m2): found it",
                "2026-11-20T10:00:09Z op_1 host/web-1 machine done (attempt 2, m2)",
                "2026-11-20T10:00:09Z op_1 host/web-1 join done (m2): manager",
                "2026-11-20T10:00:21Z op_1 create-host host/web-1 succeeded",
            ]
        );
    }

    #[test]
    fn whoever_comes_late_sees_what_has_been_done() {
        let late = changes(None, &documents()[3], now());
        let lines: Vec<String> = late.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "op_1 create-host host/web-1 running",
                "op_1 host/web-1 machine running (attempt 2, m2): found it",
            ]
        );
    }

    #[test]
    fn the_picture_of_one_operation_shows_its_steps_and_children() {
        let mut parent = documents()[3].clone();
        parent["children"] = json!(["op_2", "op_3"]);
        let child = json!({"id": "op_2", "type": "create-host", "target": "host/a", "state": "running", "parent": "op_1",
                           "steps": [{"name": "machine", "state": "running", "message": "\u{1b}[2Jpulling"}]});
        let shown = [Shown { document: parent, child: false }, Shown { document: child, child: true }];
        assert_eq!(
            picture(&shown, now(), 70, 0),
            [
                "⠋ op_1  create-host host/web-1  00:29  machine: found it",
                "  ⠋ machine                  attempt 2 on m2 found it",
                "  · join",
                "  2 operations below: 1 running, 1 not shown",
                "    ⠋ create-host host/a machine:  [2Jpulling",
            ]
        );
    }

    #[test]
    fn a_large_picture_is_cut_in_both_directions() {
        let shown: Vec<Shown> =
            (0..30).map(|_| Shown { document: documents()[1].clone(), child: false }).collect();
        let lines = picture(&shown, now(), 30, 0);
        assert_eq!(lines.len(), PICTURE_LINES_MAX);
        assert_eq!(lines.last().map(String::as_str), Some("  … and 11 more"));
        assert!(lines.iter().all(|line| line.chars().count() < 30), "{lines:?}");
    }
}
