//! Everything a command can fail with, and the one shape in which people and scripts get to see it.
//!
//! On a terminal: what happened in one sentence, what was asked, the fix, what state the system is in now, the request's id.
//! With `-o json`: the manager's problem object, or one of the same form for what the client found out by itself.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use serde_json::{Map, Value, json};
use skep_codes::Code;
use thiserror::Error;
use uuid::Uuid;

use crate::document;
use crate::exit::{self, Exit};
use crate::flags::Output;
use crate::progress::waits_for_somebody;
use crate::value::{clean, list_at, text_at};

/// Width of the labels in front of the details.
const LABEL_WIDTH: usize = 11;

/// Why a command did not do what was asked.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The command line, a setting or a file is wrong; found here, nothing was sent.
    #[error("{what}")]
    Usage { what: String, fix: String },
    /// A local file could not be used.
    #[error("cannot {doing}: {source}")]
    File { doing: String, source: io::Error },
    /// A local file is not what it should be.
    #[error("{what}")]
    BadFile { code: Code, what: String, fix: &'static str },
    /// A manager answered with a problem.
    #[error("{}", .0.sentence())]
    Refused(Box<Refusal>),
    /// No manager answered.
    #[error("no manager answers")]
    Unreachable { tried: Vec<String> },
    /// A write was sent and its answer was lost, on every manager that was tried.
    #[error("the outcome is unknown: the request was sent, its answer was lost")]
    OutcomeUnknown { request: String, key: Uuid, last: String },
    /// The answer is not what the API promises.
    #[error("cannot read the answer to {request}: {detail}")]
    Unreadable { request: String, detail: String },
    /// The answer is there and cannot be printed as it was asked for; what the command did is done.
    #[error("{what}")]
    Unprinted { what: String, fix: &'static str },
    /// The operation ended badly.
    #[error("{}", operation_sentence(.0))]
    OperationFailed(Box<Value>),
    /// The waiting ended before the operation.
    #[error("waited {} for {}", seconds(*.after), .operations.join(", "))]
    WaitedTooLong { after: Duration, operations: Vec<String> },
    /// The waiting ended before a thing was as it was waited for.
    #[error("waited {} for {what}", seconds(*.after))]
    NotYet { after: Duration, what: String },
    /// What was waited for cannot come any more.
    #[error("{reference} is {state}{}", if .message.is_empty() { String::new() } else { format!(": {}", clean(.message)) })]
    WentWrong { reference: String, state: String, message: String },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted { running: Vec<String>, write_under_way: Option<Uuid> },
    /// Some of several targets failed; each was reported already.
    #[error("{failed} of {total} failed")]
    Partly { failed: usize, total: usize },
    /// All of several targets failed; each was reported already.
    #[error("all {total} failed")]
    EachFailed { total: usize, exit: Exit },
    /// A check has found errors; each was told already.
    #[error("{errors} {} found", if *.errors == 1 { "error was" } else { "errors were" })]
    Unwell {
        /// The command that checks it again.
        again: String,
        errors: usize,
    },
    /// A command on a host has ended, with this code; it has said itself what is to be said.
    #[error("the command ended with {0}")]
    Ended(u8),
    /// The person said no.
    #[error("not confirmed")]
    Declined,
}

/// A manager's refusal, as it came.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) problem: Value,
    /// Whether the request would have changed something.
    pub(crate) write: bool,
    /// The manager that answered, if it said so.
    pub(crate) node: Option<String>,
}

impl Failure {
    pub(crate) fn usage(what: impl Into<String>, fix: impl Into<String>) -> Failure {
        Failure::Usage { what: what.into(), fix: fix.into() }
    }

    /// What is done on this machine, nobody rehearses.
    pub(crate) fn no_dry_run() -> Failure {
        Failure::usage("this command has no dry run", "leave --dry-run out; nothing was done")
    }

    /// The process's exit code as a number: that of a command on a host is passed on.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Ended(code) => *code,
            failure => failure.exit() as u8,
        }
    }

    /// The class of the process's exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::Usage { .. } | Failure::File { .. } | Failure::BadFile { .. } => Exit::Usage,
            Failure::Refused(refusal) => refusal.exit(),
            Failure::Unreachable { .. } => Exit::Unreachable,
            Failure::OutcomeUnknown { .. } => Exit::Unknown,
            Failure::Unreadable { .. }
            | Failure::Unprinted { .. }
            | Failure::Unwell { .. }
            | Failure::Ended(_)
            | Failure::Declined => Exit::Failed,
            Failure::OperationFailed(_) => Exit::OperationFailed,
            Failure::WentWrong { .. } => Exit::OperationFailed,
            Failure::WaitedTooLong { .. } | Failure::NotYet { .. } => Exit::WaitedTooLong,
            Failure::Interrupted { .. } => Exit::Interrupted,
            Failure::Partly { .. } => Exit::Partly,
            Failure::EachFailed { exit, .. } => *exit,
        }
    }

    /// Whether trying again later, unchanged, can help. Used while following an operation, which outlives any manager.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Failure::Unreachable { .. } => true,
            Failure::Refused(refusal) => refusal.status == 429 || refusal.status >= 500,
            Failure::Usage { .. }
            | Failure::File { .. }
            | Failure::BadFile { .. }
            | Failure::OutcomeUnknown { .. }
            | Failure::Unreadable { .. }
            | Failure::Unprinted { .. }
            | Failure::OperationFailed(_)
            | Failure::WaitedTooLong { .. }
            | Failure::NotYet { .. }
            | Failure::WentWrong { .. }
            | Failure::Interrupted { .. }
            | Failure::Partly { .. }
            | Failure::EachFailed { .. }
            | Failure::Unwell { .. }
            | Failure::Ended(_)
            | Failure::Declined => false,
        }
    }

    /// The failure in the form that was asked for.
    pub(crate) fn shown(&self, output: Option<Output>) -> String {
        match output {
            Some(Output::Json | Output::Ndjson) => self.problem().to_string(),
            Some(Output::Yaml) => document::yaml(&self.problem())
                .map_or_else(|_| self.text(), |text| text.trim_end().to_owned()),
            _ => self.text(),
        }
    }

    /// What people see.
    pub(crate) fn text(&self) -> String {
        match self {
            // Not an error: the person stopped looking, the cluster goes on.
            Failure::Interrupted { running, write_under_way: None } if !running.is_empty() => {
                let commands: Vec<String> = running.iter().map(|id| format!("skep op watch {id}")).collect();
                format!("Still running: {}. Resume: {}", running.join(", "), commands.join("; "))
            }
            _ => self.report().render(),
        }
    }

    /// What programs see: an RFC 9457 object.
    pub(crate) fn problem(&self) -> Value {
        match self {
            Failure::Refused(refusal) => refusal.problem.clone(),
            Failure::OperationFailed(operation) if operation["error"].is_object() => {
                operation["error"].clone()
            }
            _ => {
                let report = self.report();
                let mut problem = Map::new();
                if let Some(code) = &report.code {
                    problem.insert("code".into(), json!(code));
                }
                problem.insert("title".into(), json!(report.sentence));
                problem.insert("hint".into(), json!(report.fix));
                problem.insert("outcome".into(), json!(self.outcome()));
                problem.insert("exit_code".into(), json!(self.exit() as u8));
                Value::Object(problem)
            }
        }
    }

    /// The words of the API for what became of the request.
    fn outcome(&self) -> Option<&'static str> {
        match self {
            Failure::Usage { .. }
            | Failure::File { .. }
            | Failure::BadFile { .. }
            | Failure::Unreachable { .. }
            | Failure::Declined => Some("not_started"),
            Failure::OutcomeUnknown { .. } | Failure::Interrupted { write_under_way: Some(_), .. } => {
                Some("unknown")
            }
            _ => None,
        }
    }

    fn report(&self) -> Report {
        let mut report = Report::new(self.to_string());
        match self {
            Failure::Usage { fix, .. } => report.fix = Some(fix.clone()),
            Failure::File { .. } => report.state = Some("nothing was sent".into()),
            Failure::BadFile { code, fix, .. } => {
                report.code = Some(code.to_string());
                report.fix = Some((*fix).into());
                report.state = Some("nothing was changed".into());
            }
            Failure::Refused(refusal) => refusal.fill(&mut report),
            Failure::Unreachable { tried } => fill_unreachable(&mut report, tried),
            Failure::OutcomeUnknown { request, key, last } => {
                report.details =
                    vec![("request".into(), request.clone()), ("last seen".into(), last.clone())];
                report.fix = Some(format!(
                    "repeat the same command with --idempotency-key {key} (safe for 24 h: it is done at most once)"
                ));
                report.state = Some("it is not known whether anything was changed".into());
            }
            Failure::Unreadable { .. } => report.fix = Some("compare the versions: skep version".into()),
            Failure::Unprinted { fix, .. } => {
                report.fix = Some((*fix).into());
                report.state = Some("only printing has failed; what the command does is done".into());
            }
            Failure::OperationFailed(operation) => fill_operation(&mut report, operation),
            Failure::WaitedTooLong { operations, .. } => {
                report.fix = Some(resume(operations));
                report.state = Some("the operation continues in the cluster".into());
            }
            Failure::NotYet { .. } => report.fix = Some("wait longer, with --timeout".into()),
            Failure::WentWrong { reference, .. } => {
                report.fix = Some(format!("see what happened: skep inspect {reference}"));
            }
            Failure::Interrupted { running, write_under_way } => {
                report.fix = (!running.is_empty()).then(|| resume(running));
                report.state = Some(match write_under_way {
                    Some(key) => format!("a request was under way; repeat it with --idempotency-key {key}"),
                    None if running.is_empty() => "nothing was sent that changes anything".into(),
                    None => "the operation continues in the cluster".into(),
                });
            }
            Failure::Partly { .. } | Failure::EachFailed { .. } => {}
            // The command has said itself what there is to say.
            Failure::Ended(_) => {}
            Failure::Unwell { again, .. } => {
                report.fix = Some(format!("do what stands with each of them, then check again: {again}"));
            }
            Failure::Declined => report.state = Some("nothing was changed".into()),
        }
        report
    }
}

impl Refusal {
    pub(crate) fn outcome(&self) -> Option<&str> {
        self.problem["outcome"].as_str()
    }

    fn exit(&self) -> Exit {
        exit::of_answer(self.status, self.outcome())
    }

    fn sentence(&self) -> String {
        let first = |name: &str| text_at(&self.problem, name).filter(|text| !text.is_empty());
        let sentence = first("/detail").or_else(|| first("/title"));
        clean(&sentence.unwrap_or_else(|| format!("the manager answered {}", self.status)))
    }

    fn fill(&self, report: &mut Report) {
        report.take_problem(&self.problem);
        if report.fix.is_none() && self.status == 401 {
            report.fix =
                Some("give a token: --token-file FILE, SKEP_TOKEN_FILE, or a context with token_file".into());
        }
        report.state = self.state_now().map(str::to_owned);
        if let Some(node) = &self.node {
            report.origin.push(format!("manager {node}"));
        }
    }

    /// A refusal below 500 is made before anything is written; above, only the manager's word counts.
    fn state_now(&self) -> Option<&'static str> {
        match (self.write, self.outcome(), self.status) {
            (false, ..) => None,
            (true, Some("not_started"), _) | (true, None, ..500) => Some("nothing was changed"),
            (true, ..) => Some("it is not known whether anything was changed"),
        }
    }
}

/// The fixed shape.
#[derive(Default)]
struct Report {
    code: Option<String>,
    sentence: String,
    details: Vec<(String, String)>,
    fix: Option<String>,
    state: Option<String>,
    more: Option<String>,
    origin: Vec<String>,
}

impl Report {
    fn new(sentence: String) -> Report {
        Report { sentence, ..Report::default() }
    }

    fn take_problem(&mut self, problem: &Value) {
        self.code = text_at(problem, "/code").map(|code| clean(&code));
        for error in list_at(problem, "/errors") {
            let place = text_at(error, "/pointer").unwrap_or_default();
            let place = match error["line"].as_u64() {
                Some(line) => format!("{place} line {line}"),
                None => place,
            };
            self.details.push((place.trim().to_owned(), text_at(error, "/detail").unwrap_or_default()));
        }
        // Parameters mostly stand in the sentence already; only what is new is worth a line.
        for (name, value) in problem["params"].as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if !self.sentence.contains(&value) {
                self.details.push((name.clone(), value));
            }
        }
        self.fix = text_at(problem, "/hint").filter(|hint| !hint.is_empty());
        self.more = text_at(problem, "/type").filter(|page| page.starts_with("https://"));
        self.origin.extend(text_at(problem, "/request_id").map(|id| format!("request {id}")));
    }

    fn render(&self) -> String {
        let mut text = match &self.code {
            Some(code) => format!("error[{code}]: {}", self.sentence),
            None => format!("error: {}", self.sentence),
        };
        let mut line = |label: &str, what: &str| {
            let _ = write!(text, "\n  {:<LABEL_WIDTH$} {}", clean(label), clean(what));
        };
        for (label, what) in &self.details {
            line(label, what);
        }
        if let Some(fix) = &self.fix {
            line("fix", fix);
        }
        if let Some(state) = &self.state {
            line("now", state);
        }
        let more: Vec<&str> = self.more.iter().chain(&self.origin).map(String::as_str).collect();
        if !more.is_empty() {
            line("more", &more.join(" · "));
        }
        text
    }
}

fn fill_unreachable(report: &mut Report, tried: &[String]) {
    report.details = tried.iter().map(|attempt| ("tried".to_owned(), attempt.clone())).collect();
    let distrusted = tried.iter().any(|attempt| attempt.contains("certificate"));
    report.fix = Some(if distrusted {
        "name the cluster's certificate authority: --ca-file FILE or SKEP_CA_FILE".to_owned()
    } else {
        "check the address (--url, SKEP_URL, or the context) and that a manager runs there".to_owned()
    });
    report.state = Some("nothing was changed".into());
}

fn operation_sentence(operation: &Value) -> String {
    let what = format!(
        "{} {} {}",
        text_at(operation, "/type").unwrap_or_else(|| "the operation".into()),
        text_at(operation, "/target").unwrap_or_default(),
        if waits_for_somebody(operation) { "has paused" } else { "failed" }
    );
    let why = (text_at(operation, "/error/detail"))
        .or_else(|| text_at(operation, "/error/title"))
        .or_else(|| text_at(operation, "/message"))
        .filter(|text| !text.is_empty());
    clean(&match why {
        Some(why) => format!("{what}: {why}"),
        None => what,
    })
}

fn fill_operation(report: &mut Report, operation: &Value) {
    report.take_problem(&operation["error"]);
    let id = text_at(operation, "/id").unwrap_or_default();
    for (state, label) in [("failed", "failed step"), ("undone", "undone"), ("done", "stays done")] {
        let steps: Vec<String> = list_at(operation, "/steps")
            .iter()
            .filter(|step| step["state"] == state)
            .filter_map(|step| text_at(step, "/name"))
            .collect();
        if !steps.is_empty() {
            report.details.push((label.to_owned(), steps.join(", ")));
        }
    }
    if waits_for_somebody(operation) {
        report.fix = Some(format!("let it go on: skep op resume {id}; or give it up: skep op cancel {id}"));
        report.state = Some("nothing more is done until then".into());
    }
    report.fix.get_or_insert_with(|| format!("see what happened: skep op inspect {id}"));
    report.origin.insert(0, format!("operation {id}"));
}

fn resume(operations: &[String]) -> String {
    let commands: Vec<String> = operations.iter().map(|id| format!("skep op watch {id}")).collect();
    format!("resume watching: {}", commands.join("; "))
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, problem: Value) -> Failure {
        Failure::Refused(Box::new(Refusal { status, problem, write: true, node: Some("m2".into()) }))
    }

    #[test]
    fn a_refusal_has_the_fixed_shape() {
        let failure = refusal(
            422,
            json!({
                "type": "https://docs.example/errors/SKP-1201", "title": "Not valid", "status": 422,
                "detail": "The host 'Web' is not valid.", "code": "SKP-1201", "reason": "INVALID",
                "params": {"name": "Web", "allowed": "a-z, 0-9, -"},
                "errors": [{"pointer": "/name", "line": 3, "detail": "capital letters\u{1b}[31m"}],
                "hint": "use 'web'", "request_id": "0198"
            }),
        );
        assert_eq!(
            failure.text(),
            "error[SKP-1201]: The host 'Web' is not valid.\n\
             \x20 /name line 3 capital letters [31m\n\
             \x20 allowed     a-z, 0-9, -\n\
             \x20 fix         use 'web'\n\
             \x20 now         nothing was changed\n\
             \x20 more        https://docs.example/errors/SKP-1201 · request 0198 · manager m2"
        );
        assert_eq!(failure.problem()["code"], "SKP-1201");
    }

    #[test]
    fn an_unknown_outcome_says_how_to_repeat_safely() {
        let key = Uuid::from_u128(7);
        let failure = Failure::OutcomeUnknown {
            request: "POST /v1/environments".into(),
            key,
            last: "connection closed".into(),
        };
        assert_eq!(failure.exit(), Exit::Unknown);
        assert!(failure.text().contains(&format!("--idempotency-key {key}")), "{}", failure.text());
        assert_eq!(failure.problem()["outcome"], "unknown");
    }

    #[test]
    fn a_server_error_on_a_write_does_not_promise_that_nothing_changed() {
        let text = refusal(500, json!({"title": "Bug"})).text();
        assert!(text.contains("it is not known whether anything was changed"), "{text}");
    }

    #[test]
    fn a_failed_operation_tells_what_is_done_and_what_was_undone() {
        let failure = Failure::OperationFailed(Box::new(json!({
            "id": "op_1", "type": "create-host", "target": "host/web-1", "state": "failed",
            "steps": [{"name": "reserve", "state": "done"}, {"name": "machine", "state": "undone"},
                      {"name": "join", "state": "failed"}],
            "error": {"code": "SKP-2001", "detail": "No room left."}
        })));
        assert_eq!(
            failure.text(),
            "error[SKP-2001]: create-host host/web-1 failed: No room left.\n\
             \x20 failed step join\n\
             \x20 undone      machine\n\
             \x20 stays done  reserve\n\
             \x20 fix         see what happened: skep op inspect op_1\n\
             \x20 more        operation op_1"
        );
    }

    #[test]
    fn every_failure_of_the_client_itself_has_its_exit_code() {
        let ids = || vec!["op_1".to_owned()];
        let table = [
            (Failure::usage("a", "b"), 2),
            (Failure::File { doing: "read x".into(), source: io::Error::other("gone") }, 2),
            (Failure::Unreachable { tried: ids() }, 8),
            (Failure::OutcomeUnknown { request: "r".into(), key: Uuid::nil(), last: "l".into() }, 9),
            (Failure::Unreadable { request: "r".into(), detail: "d".into() }, 1),
            (Failure::OperationFailed(Box::new(json!({}))), 7),
            (Failure::WaitedTooLong { after: Duration::from_secs(1), operations: ids() }, 6),
            (Failure::Interrupted { running: ids(), write_under_way: None }, 130),
            (Failure::Partly { failed: 1, total: 2 }, 11),
            (Failure::EachFailed { total: 2, exit: Exit::Conflict }, 5),
            (Failure::Declined, 1),
        ];
        for (failure, code) in table {
            assert_eq!(failure.exit() as u8, code, "{failure:?}");
        }
    }
}
