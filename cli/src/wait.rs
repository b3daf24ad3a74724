//! Following operations to their end.
//!
//! Each operation is followed on an event stream of its own; one loop owns the display and knows everything that can happen.
//! An operation outlives managers: a stream that breaks off is opened again at the next one, after the revision seen last, for
//! as long as the person is willing to wait.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

use crate::client::{Client, EventStream, Pauses};
use crate::failure::Failure;
use crate::progress::{Progress, is_final, waits_for_somebody};
use crate::session::Session;
use crate::sse;
use crate::value::{list_at, text_at};

/// Events between the streams and the display; a slow terminal makes the streams wait, nothing is dropped.
const EVENTS_AHEAD_MAX: usize = 64;

/// Children followed with a stream each; HTTP/2 carries them on one connection, but a terminal shows no more anyway.
const CHILDREN_FOLLOWED_MAX: usize = 32;

/// How long the last words of children are waited for after their parent has ended: they only complete the picture.
const CHILDREN_GRACE: Duration = Duration::from_secs(2);

/// Reconnecting within this time is not worth a word.
const SILENCE_UNNOTICED: Duration = Duration::from_secs(2);

/// How often the display may turn its spinner.
const TICK: Duration = Duration::from_millis(200);

/// Everything that can happen while waiting.
enum Event {
    /// A newer document of an operation.
    Seen(Value),
    /// A stream is back after a silence that was noticed; the manager's name.
    Reconnected(Option<String>),
    /// An operation cannot be followed any more.
    Broken(String, Failure),
}

/// Waits until all the operations have ended, or wait for somebody, and returns their last documents, in the same order.
pub(crate) async fn until_ended(session: &Session, operations: Vec<Value>) -> Result<Vec<Value>, Failure> {
    let mut waiting = Waiting::new(session, operations)?;
    let deadline = session.settings.timeout.map(|limit| (limit, Instant::now() + limit));
    let mut tick = interval(TICK);
    while waiting.is_unfinished() {
        tokio::select! {
            Some(event) = waiting.events.recv() => waiting.happened(event)?,
            _ = tick.tick() => waiting.progress.tick(),
            () = until(deadline), if deadline.is_some() => return Err(waiting.too_long(deadline)),
        }
    }
    let grace = Instant::now() + CHILDREN_GRACE;
    while waiting.children.values().any(|ended| !ended) {
        tokio::select! {
            Some(event) = waiting.events.recv() => waiting.happened(event)?,
            () = sleep_until(grace) => break,
        }
    }
    Ok(waiting.roots)
}

async fn until(deadline: Option<(Duration, Instant)>) {
    if let Some((_, at)) = deadline {
        sleep_until(at).await;
    }
}

struct Waiting<'a> {
    session: &'a Session,
    client: Client,
    /// What was asked for; children are shown, but only these are waited for.
    roots: Vec<Value>,
    /// The children that are followed, and whether each has ended.
    children: BTreeMap<String, bool>,
    progress: Progress,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    /// Ends with this value.
    streams: JoinSet<()>,
}

impl<'a> Waiting<'a> {
    fn new(session: &'a Session, roots: Vec<Value>) -> Result<Waiting<'a>, Failure> {
        let (sender, events) = mpsc::channel(EVENTS_AHEAD_MAX);
        let mut waiting = Waiting {
            session,
            client: session.client()?.clone(),
            roots: Vec::new(),
            children: BTreeMap::new(),
            progress: session.progress(),
            events,
            sender,
            streams: JoinSet::new(),
        };
        for root in roots {
            waiting.progress.see(&root, false);
            if !is_final(&root) {
                let id = id_of(&root);
                session.watched.add(&id);
                waiting.follow(id);
            }
            waiting.follow_children(&root);
            waiting.roots.push(root);
        }
        Ok(waiting)
    }

    fn is_unfinished(&self) -> bool {
        !self.roots.iter().all(|root| is_final(root) || waits_for_somebody(root))
    }

    fn happened(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Seen(document) => self.seen(document),
            Event::Reconnected(Some(node)) => self.progress.remark(&format!("(reconnected to {node})")),
            Event::Reconnected(None) => self.progress.remark("(reconnected)"),
            // A child that cannot be shown does no harm: its parent tells the end.
            Event::Broken(id, _) if self.children.contains_key(&id) => {
                self.children.insert(id, true);
            }
            Event::Broken(_, failure) => return Err(failure),
        }
        Ok(())
    }

    fn seen(&mut self, document: Value) {
        let id = id_of(&document);
        let root = self.roots.iter_mut().find(|root| root["id"] == document["id"]);
        self.progress.see(&document, root.is_none());
        if is_final(&document) {
            self.session.watched.remove(&id);
            self.children.entry(id).and_modify(|ended| *ended = true);
        }
        self.follow_children(&document);
        if let Some(root) = self.roots.iter_mut().find(|root| root["id"] == document["id"]) {
            *root = document;
        }
    }

    fn follow_children(&mut self, parent: &Value) {
        for child in list_at(parent, "/children").iter().filter_map(Value::as_str) {
            if self.children.len() < CHILDREN_FOLLOWED_MAX && !self.children.contains_key(child) {
                self.children.insert(child.to_owned(), false);
                self.follow(child.to_owned());
            }
        }
    }

    fn follow(&mut self, id: String) {
        let follower = Follower { client: self.client.clone(), id, seen: None, sender: self.sender.clone() };
        self.streams.spawn(follower.run());
    }

    fn too_long(&self, deadline: Option<(Duration, Instant)>) -> Failure {
        Failure::WaitedTooLong {
            after: deadline.map(|(limit, _)| limit).unwrap_or_default(),
            operations: self.roots.iter().filter(|root| !is_final(root)).map(id_of).collect(),
        }
    }
}

fn id_of(operation: &Value) -> String {
    text_at(operation, "/id").unwrap_or_default()
}

/// Follows one operation over as many streams as it takes.
struct Follower {
    client: Client,
    id: String,
    /// Revision of the last event, the cursor for the next stream.
    seen: Option<u64>,
    sender: mpsc::Sender<Event>,
}

/// How a stream ended.
enum End {
    /// The operation ended, or nobody listens any more.
    Done,
    /// The stream broke off; whether it had brought anything.
    Cut { useful: bool },
    /// The operation cannot be followed.
    Broken(Failure),
}

impl Follower {
    async fn run(mut self) {
        let mut silent_since = None;
        let mut pauses = Pauses::new();
        loop {
            let end = self.one_stream(&mut silent_since).await;
            let useful = match end {
                End::Done => return,
                End::Broken(failure) => {
                    let _ = self.sender.send(Event::Broken(self.id.clone(), failure)).await;
                    return;
                }
                End::Cut { useful } => useful,
            };
            silent_since.get_or_insert_with(Instant::now);
            pauses.wait(useful).await;
        }
    }

    async fn one_stream(&mut self, silent_since: &mut Option<Instant>) -> End {
        let cursor = self.seen.map(|revision| revision.to_string());
        let stream = match self.client.events(&["v1", "operations", &self.id], &[], cursor.as_deref()).await {
            Ok(stream) => stream,
            Err(failure) if failure.may_pass() => return End::Cut { useful: false },
            Err(failure) => return End::Broken(failure),
        };
        if silent_since.take().is_some_and(|since| since.elapsed() > SILENCE_UNNOTICED) {
            let _ = self.sender.send(Event::Reconnected(stream.node.clone())).await;
        }
        let end = self.read(stream).await;
        if matches!(end, End::Cut { .. }) {
            // The manager that let us down may be about to stop; another one knows as much.
            self.client.move_on();
        }
        end
    }

    async fn read(&mut self, mut stream: EventStream) -> End {
        let mut useful = false;
        loop {
            let events = match stream.next().await {
                Ok(Some(events)) => events,
                Ok(None) => return End::Cut { useful },
                Err(failure) => return End::Broken(failure),
            };
            for event in events {
                useful = true;
                if let Some(end) = self.take(&stream, &event).await {
                    return end;
                }
            }
        }
    }

    async fn take(&mut self, stream: &EventStream, event: &sse::Event) -> Option<End> {
        match event.name.as_str() {
            "put" => {}
            // The history was lost or restored: take whatever comes next, whatever its revision.
            "reset" => {
                self.seen = None;
                return None;
            }
            "delete" => {
                return Some(End::Broken(
                    stream.unreadable("the operation has been removed from the history"),
                ));
            }
            _ => return None,
        }
        let document = match stream.document(event) {
            Ok(document) => document,
            Err(failure) => return Some(End::Broken(failure)),
        };
        let revision =
            event.id.as_deref().and_then(|id| id.parse().ok()).or_else(|| document["revision"].as_u64());
        if revision.is_some() && revision <= self.seen && !is_final(&document) {
            // Seen already, on another manager that is ahead of this one.
            return None;
        }
        self.seen = revision.or(self.seen);
        let ended = is_final(&document);
        let listening = self.sender.send(Event::Seen(document)).await.is_ok();
        (ended || !listening).then_some(End::Done)
    }
}
