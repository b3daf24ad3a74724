//! One invocation: its settings, its client, its screen, and how results get out.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};

use crate::client::Client;
use crate::document::Form;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::flags::{Output, ProgressStyle};
use crate::noun::Noun;
use crate::progress::{Progress, is_final, waits_for_somebody};
use crate::screen::Screen;
use crate::settings::Settings;
use crate::table::{self, Column, Show};
use crate::value::{items, text_at};
use crate::{input, wait};

/// What every command gets.
pub(crate) struct Session {
    pub(crate) settings: Settings,
    pub(crate) screen: Screen,
    pub(crate) watched: Watched,
    client: OnceLock<Client>,
    /// Why something could not be printed as it was asked for.
    unprinted: OnceLock<Failure>,
}

/// Operations that are being waited for; what to name when a person interrupts the waiting.
#[derive(Clone, Default)]
pub(crate) struct Watched(Arc<Mutex<BTreeSet<String>>>);

impl Watched {
    pub(crate) fn add(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    }

    pub(crate) fn remove(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// A change that was asked for, and what came of the request.
pub(crate) struct Started {
    pub(crate) name: String,
    pub(crate) operation: Result<Value, Failure>,
}

/// The table of a command with several targets.
const TARGETS: &[Column] = &[
    Column::new("NAME", Show::Text("/name")),
    Column::new("RESULT", Show::State("/result")),
    Column::new("OPERATION", Show::Text("/operation")),
    Column::new("MESSAGE", Show::Free("/message")),
];

impl Session {
    pub(crate) fn new(settings: Settings, screen: Screen) -> Session {
        Session {
            settings,
            screen,
            watched: Watched::default(),
            client: OnceLock::new(),
            unprinted: OnceLock::new(),
        }
    }

    /// The client; made when first needed, so that a command that needs no server needs no address either.
    pub(crate) fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::new(&self.settings, self.screen.clone())?;
        Ok(self.client.get_or_init(|| client))
    }

    /// The managers, for connections that become frames.
    pub(crate) fn frames_client(&self) -> Result<Client, Failure> {
        Client::for_frames(&self.settings, self.screen.clone())
    }

    /// The environment to work in.
    pub(crate) fn environment(&self) -> Result<&str, Failure> {
        match self.settings.env.as_deref() {
            Some(".") | Some("..") => {
                Err(Failure::usage("'.' and '..' name no environment", "see: skep env ls"))
            }
            Some(name) => Ok(name),
            None => Err(Failure::usage(
                "no environment is chosen",
                "add -e NAME, set SKEP_ENV, or give the context an env; see them with: skep env ls",
            )),
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        let style = if self.settings.quiet { ProgressStyle::None } else { self.settings.progress };
        Progress::new(style, self.screen.clone(), self.settings.color)
    }

    /// What Ctrl-C interrupts just now.
    pub(crate) fn interrupted(&self) -> Failure {
        Failure::Interrupted {
            running: self.watched.all(),
            write_under_way: self.client.get().and_then(Client::write_under_way),
        }
    }

    /// Prints a failure.
    pub(crate) fn report(&self, failure: &Failure) {
        self.screen.note(&failure.shown(self.settings.output));
    }

    /// Prints a list as the API sent it, or as a table of its items.
    pub(crate) fn print_list(&self, noun: &Noun, answer: &Value) {
        match self.output(Output::Table) {
            Output::Json => self.print_json(answer),
            Output::Name => items(answer).iter().for_each(|item| self.print_name(noun, &noun.name_of(item))),
            output => {
                self.print_table(noun.columns, items(answer), output);
                if items(answer).is_empty() && !noun.when_none.is_empty() {
                    self.screen.note(noun.when_none);
                }
            }
        }
    }

    /// Prints one object; the whole of it unless a table was asked for.
    pub(crate) fn print_one(&self, noun: &Noun, object: &Value) {
        match self.output(Output::Json) {
            Output::Json => self.print_json(object),
            Output::Name => self.print_name(noun, &noun.name_of(object)),
            output => self.print_table(noun.columns, std::slice::from_ref(object), output),
        }
    }

    pub(crate) fn print_json(&self, value: &Value) {
        self.print_text(self.settings.form.text(value));
    }

    /// One of many objects that come by and by.
    pub(crate) fn print_next(&self, value: &Value) {
        self.print_text(self.settings.form.next(value));
    }

    fn print_text(&self, text: Result<String, Failure>) {
        match text {
            Ok(text) => self.screen.result(&text),
            // The first says enough.
            Err(failure) => drop(self.unprinted.set(failure)),
        }
    }

    /// Why something could not be printed, if so. What the command did is done.
    pub(crate) fn unprinted(&mut self) -> Option<Failure> {
        self.unprinted.take()
    }

    pub(crate) fn print_table(&self, columns: &[Column], rows: &[Value], output: Output) {
        if output == Output::Csv {
            return self.screen.result(&table::comma_separated(columns, rows));
        }
        let look = self.screen.look(self.settings.color, output == Output::Wide);
        self.screen.result(&table::render(columns, rows, &look));
    }

    /// `-q` prints the name alone, `-o name` with its type.
    fn print_name(&self, noun: &Noun, name: &str) {
        let line = if self.settings.quiet { name.to_owned() } else { noun.reference(name) };
        self.screen.result(&format!("{line}\n"));
    }

    /// The output that was asked for, by flag or variable; `-q` means names.
    pub(crate) fn output(&self, default: Output) -> Output {
        // To commands an object is an object, whatever its form.
        let asked = match self.settings.form {
            Form::Json => self.settings.output,
            _ => Some(Output::Json),
        };
        match asked {
            _ if self.settings.quiet && asked != Some(Output::Json) => Output::Name,
            Some(output) => output,
            None => default,
        }
    }

    /// Prints that something was done at once.
    pub(crate) fn print_done(&self, noun: &Noun, object: &Value, done: &str) {
        let done = self.done(done);
        match self.output(Output::Table) {
            Output::Json => self.print_json(object),
            Output::Name => self.print_name(noun, &noun.name_of(object)),
            _ => self.screen.result(&format!("{} {done}\n", noun.reference(&noun.name_of(object)))),
        }
    }

    /// What was done, or would have been.
    fn done<'d>(&self, done: &'d str) -> Cow<'d, str> {
        match self.settings.dry_run {
            true => format!("{done} (dry run)").into(),
            false => done.into(),
        }
    }

    /// Waits for what was started (or prints its ids, with `--detach`) and prints what was done.
    pub(crate) async fn finish(&self, noun: &Noun, done: &str, started: Vec<Started>) -> Result<(), Failure> {
        if self.settings.dry_run {
            return self.print_rehearsed(noun, done, started);
        }
        if self.settings.detach {
            return self.detach(started);
        }
        let alone = started.len() == 1;
        let mut accepted = Vec::new();
        let mut targets = Vec::new();
        for Started { name, operation } in started {
            match operation {
                Ok(operation) => {
                    accepted.push(operation);
                    targets.push(Ended { name, failure: None, operation: None });
                }
                Err(failure) if alone => return Err(failure),
                Err(failure) => {
                    self.report(&failure);
                    targets.push(Ended { name, failure: Some(failure), operation: None });
                }
            }
        }
        let ended = wait::until_ended(self, accepted).await?;
        let open = targets.iter_mut().filter(|target| target.failure.is_none());
        for (target, operation) in open.zip(ended) {
            target.operation = Some(operation.clone());
            if operation["state"] != "succeeded" {
                let failure = Failure::OperationFailed(Box::new(operation));
                if !alone {
                    self.report(&failure);
                }
                target.failure = Some(failure);
            }
        }
        self.print_ended(noun, done, targets)
    }

    /// The answers of managers that have started nothing: what would be there, or the operation that would work on it.
    fn print_rehearsed(&self, noun: &Noun, done: &str, started: Vec<Started>) -> Result<(), Failure> {
        let (total, mut failures) = (started.len(), Vec::new());
        for Started { name, operation } in started {
            match (operation, self.output(Output::Table)) {
                (Ok(answer), Output::Json) => self.print_json(&answer),
                (Ok(_), Output::Name) => self.print_name(noun, &name),
                (Ok(_), _) => {
                    self.screen.result(&format!("{} {}\n", noun.reference(&name), self.done(done)));
                }
                (Err(failure), _) => failures.push(failure),
            }
        }
        verdict(total, failures, |failure| self.report(failure))
    }

    fn detach(&self, started: Vec<Started>) -> Result<(), Failure> {
        let (total, mut failures) = (started.len(), Vec::new());
        for Started { operation, .. } in started {
            match operation {
                Ok(operation) => match self.output(Output::Table) {
                    Output::Json => self.print_json(&operation),
                    Output::Name => self.print_name(&crate::operation::OPERATION, &id_of(&operation)),
                    _ => self.screen.result(&format!("{}\n", id_of(&operation))),
                },
                Err(failure) => failures.push(failure),
            }
        }
        verdict(total, failures, |failure| self.report(failure))
    }

    fn print_ended(&self, noun: &Noun, done: &str, targets: Vec<Ended>) -> Result<(), Failure> {
        let all_well = targets.iter().all(|target| target.failure.is_none());
        match self.output(Output::Table) {
            Output::Json => {
                let mut operations: Vec<Value> =
                    targets.iter().filter_map(|target| target.operation.clone()).collect();
                match (targets.len(), operations.len()) {
                    (1, 1) => self.print_json(&operations.remove(0)),
                    _ => self.print_json(&json!({"items": operations})),
                }
            }
            Output::Name => targets
                .iter()
                .filter(|target| target.failure.is_none())
                .for_each(|target| self.print_name(noun, &target.name)),
            output if targets.len() > 1 && !all_well => {
                let rows: Vec<Value> = targets.iter().map(|target| target.row(noun, done)).collect();
                self.print_table(TARGETS, &rows, output);
            }
            _ => targets
                .iter()
                .filter(|target| target.failure.is_none())
                .for_each(|target| self.screen.result(&format!("{} {done}\n", noun.reference(&target.name)))),
        }
        let total = targets.len();
        verdict(total, targets.into_iter().filter_map(|target| target.failure).collect(), |_| {})
    }

    /// A y/N question, with what is about to happen. `--yes` answers it; a script that did not is told so.
    pub(crate) async fn confirm(&self, what: &str) -> Result<(), Failure> {
        if self.settings.yes || self.settings.dry_run {
            return Ok(());
        }
        if !self.may_ask() {
            return Err(Failure::usage(format!("{what}: this needs a confirmation"), "add --yes"));
        }
        self.screen.draw(&format!("{what}\nGo on? [y/N] "));
        match self.answer().await?.as_deref() {
            Some("y" | "Y" | "yes") => Ok(()),
            _ => Err(Failure::Declined),
        }
    }

    /// The question before something that cannot be taken back: the name has to be typed, or given with `--confirm`.
    pub(crate) async fn confirm_by_name(&self, what: &str, name: &str) -> Result<(), Failure> {
        if self.settings.dry_run {
            return Ok(());
        }
        match self.settings.confirm.as_deref() {
            Some(given) if given == name => return Ok(()),
            Some(given) => {
                return Err(Failure::usage(
                    format!("--confirm says '{given}', but this is about '{name}'"),
                    "give the name of what is to be destroyed",
                ));
            }
            None => {}
        }
        if !self.may_ask() {
            let why =
                if self.settings.yes { "--yes is not enough here" } else { "this needs a confirmation" };
            return Err(Failure::usage(format!("{what}: {why}"), format!("add --confirm {name}")));
        }
        self.screen.draw(&format!("{what}\nThis cannot be undone. Type '{name}' to go on: "));
        match self.answer().await? {
            Some(given) if given == name => Ok(()),
            _ => Err(Failure::Declined),
        }
    }

    pub(crate) fn may_ask(&self) -> bool {
        self.settings.may_ask && self.screen.can_ask()
    }

    /// An answer to a question, as it was typed.
    pub(crate) async fn ask(&self, question: &str) -> Result<String, Failure> {
        self.screen.draw(question);
        self.answer().await?.filter(|answer| !answer.is_empty()).ok_or(Failure::Declined)
    }

    /// A password, which does not show while it is typed.
    pub(crate) async fn ask_for_secret(&self, question: &str) -> Result<String, Failure> {
        self.screen.draw(question);
        let answer = input::hidden_line().await;
        self.screen.draw("\n");
        let failed = |source| Failure::File { doing: "read the answer".into(), source };
        answer.map_err(failed)?.ok_or(Failure::Declined)
    }

    async fn answer(&self) -> Result<Option<String>, Failure> {
        input::line().await.map_err(|source| Failure::File { doing: "read the answer".into(), source })
    }
}

/// What became of a target.
struct Ended {
    name: String,
    failure: Option<Failure>,
    operation: Option<Value>,
}

impl Ended {
    fn row(&self, noun: &Noun, done: &str) -> Value {
        json!({
            "name": noun.reference(&self.name),
            "result": if self.failure.is_some() { "failed" } else { done },
            "operation": self.operation.as_ref().map(id_of),
            "message": self.failure.as_ref().map(ToString::to_string),
        })
    }
}

/// One target fails as itself; of several, some or all have failed, each already reported.
pub(crate) fn verdict(
    total: usize,
    mut failures: Vec<Failure>,
    report: impl Fn(&Failure),
) -> Result<(), Failure> {
    let failed = failures.len();
    match (failed, total) {
        (0, _) => Ok(()),
        (1, 1) => Err(failures.remove(0)),
        _ => {
            failures.iter().for_each(report);
            let exit = failures.first().map_or(Exit::Failed, Failure::exit);
            Err(if failed == total {
                Failure::EachFailed { total, exit }
            } else {
                Failure::Partly { failed, total }
            })
        }
    }
}

/// Waits for an operation that was not started here.
pub(crate) async fn watch(session: &Session, operation: Value) -> Result<Value, Failure> {
    let mut ended = wait::until_ended(session, vec![operation]).await?;
    let operation = ended.pop().unwrap_or_default();
    debug_assert!(is_final(&operation) || waits_for_somebody(&operation), "waiting ends with the operation");
    Ok(operation)
}

fn id_of(operation: &Value) -> String {
    text_at(operation, "/id").unwrap_or_default()
}
