//! Following one operation: a stream of server-sent events.
//!
//! A wake-up from the feed carries no data: whatever it says, the stream looks at the rows and sends what is news to
//! this client. So start, change, reset and reconnection at another manager are one path.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use http::header::ACCEPT;
use jiff::Timestamp;
use serde::Serialize;
use skep_ledger::{Filter, Key, Ledger, Record, Revision, Topic, View, Watch};
use skep_model::access::Caller;
use skep_model::ids::OperationId;
use skep_model::{CLUSTER, Ruling, operation};
use utoipa::ToSchema;

use super::Operation;
use crate::Api;
use crate::limits::Seat;
use crate::problem::Reply;
use crate::rest::event::{LAST_EVENT_ID, RECONNECT_AFTER, served};
use crate::watches::{Kind, Place as WatchPlace};

/// One thing that happened in an operation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperationLine {
    /// Counted from 0 over the operation's whole life.
    number: u64,
    /// When.
    at: Timestamp,
    /// In which step; null if in none.
    step: Option<String>,
    /// At which manager; null if nobody in particular did it.
    node: Option<String>,
    /// What.
    #[schema(example = "attempt 1 began: ask local for machine web-1")]
    text: String,
}

impl OperationLine {
    pub(crate) fn new(line: &operation::Line) -> OperationLine {
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        OperationLine {
            number: line.number,
            at: line.at,
            step: some(&line.step),
            node: some(&line.node),
            text: line.text.clone(),
        }
    }
}

/// Everything that becomes of an operation from now on, or since what the client has seen.
pub(super) fn stream(
    api: &Api,
    caller: &Caller,
    view: &View,
    id: &OperationId,
    lines: bool,
    headers: &HeaderMap,
) -> Reply<Response> {
    let only_it = Filter::of([Topic::object(&Key::new(operation::Operation::TABLE, CLUSTER, id.as_str()))]);
    let follower = Follower {
        _place: api.watch_place(caller, Kind::Operation)?,
        watch: api.ledger().feed().watch_matching(view.revision(), only_it),
        ledger: api.parts.ledger.clone(),
        id: id.clone(),
        lines,
        sent: last_seen(headers, view),
        unsent: VecDeque::new(),
        over: false,
    };
    Ok(served(follower.events()).into_response())
}

/// Waits until an operation has ended, within reason: as it is then, or `None` if it takes longer.
pub(crate) async fn ended(
    api: &Api,
    id: &OperationId,
    begun: Revision,
    wait: Duration,
) -> Reply<Option<(Revision, Operation)>> {
    let only_it = Filter::of([Topic::object(&Key::new(operation::Operation::TABLE, CLUSTER, id.as_str()))]);
    let waiting = async {
        api.reached(begun).await?;
        let mut watch = api.ledger().feed().watch_matching(begun, only_it);
        loop {
            let view = api.ledger().view();
            if let Some(stored) =
                view.get::<operation::Operation>(CLUSTER, id.as_str())?.filter(|stored| stored.ended())
            {
                return Ok((view.revision(), Operation::of(&view, &stored)?));
            }
            watch.next().await;
        }
    };
    tokio::time::timeout(wait, waiting).await.ok().transpose()
}

/// Does the answer have to be a stream of server-sent events?
pub(crate) fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/event-stream"))
}

/// A client that has seen more than there is comes from before a restoration: it must start over.
fn last_seen(headers: &HeaderMap, view: &View) -> Revision {
    let seen = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    seen.filter(|seen| *seen <= view.revision()).unwrap_or(0)
}

/// One client that follows one operation.
struct Follower {
    ledger: Arc<dyn Ledger>,
    id: OperationId,
    /// Of this operation alone.
    watch: Watch,
    /// Does it want the log too?
    lines: bool,
    /// The operation's newest revision that the client has seen.
    sent: Revision,
    /// What has been found and not sent yet.
    unsent: VecDeque<Event>,
    /// Nothing comes after what is unsent.
    over: bool,
    _place: (WatchPlace, Seat<String>),
}

impl Follower {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.unsent.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            if let Err(refusal) = self.look() {
                tracing::error!(operation.id = %self.id, error = %refusal, "following an operation broke off");
                return None;
            }
            if self.unsent.is_empty() {
                // Whatever it says: look again.
                self.watch.next().await;
            }
        }
    }

    /// Finds what the client has not seen yet. The final state is always told, because it ends the stream.
    fn look(&mut self) -> Ruling<()> {
        let view = self.ledger.view();
        let Some(stored) = view.get::<operation::Operation>(CLUSTER, self.id.as_str())? else {
            self.over = true;
            let gone = Event::default().id(view.revision().to_string()).event("delete");
            self.unsent.push_back(gone.data(format!(r#"{{"id":"{}"}}"#, self.id)));
            return Ok(());
        };
        if stored.revision <= self.sent && !stored.ended() {
            return Ok(());
        }
        if self.lines {
            // A line is written together with the change that it tells.
            for line in operation::log(&view, &stored)?.iter().filter(|line| line.revision > self.sent) {
                let event = Event::default().event("line");
                self.unsent.push_back(event.data(json(&OperationLine::new(line))?));
            }
        }
        self.sent = stored.revision;
        self.over = stored.ended();
        let event = Event::default().id(stored.revision.to_string()).event("put").retry(RECONNECT_AFTER);
        self.unsent.push_back(event.data(json(&Operation::of(&view, &stored)?)?));
        Ok(())
    }
}

fn json(document: &impl Serialize) -> Ruling<String> {
    Ok(serde_json::to_string(document).map_err(skep_ledger::ReadError::new)?)
}
