//! Server-sent events as messages.
//!
//! Why not another stream beside that of REST: what is told to whom, in which order, and when a client is sent elsewhere
//! is said once, by the routes. The text in between costs little beside the documents that it carries.

use axum::body::{Body, BodyDataStream};
use futures::StreamExt as _;
use futures::stream::{self, Stream};
use prost_reflect::{DynamicMessage, Value};
use serde_json::{Map, Value as Json};
use tonic::Status;

use super::rpc::Rpc;
use super::{call, status};

/// The field of a message that names the event.
const NAME: &str = "event";

/// What a comment in the stream becomes: it is there so that nobody takes the connection for dead.
const HEARTBEAT: &str = "heartbeat";

/// An empty line ends an event.
const END: &[u8] = b"\n\n";

/// The events of a stream, each as the procedure answers it.
pub(super) fn messages(
    rpc: &'static Rpc,
    body: Body,
) -> impl Stream<Item = Result<DynamicMessage, Status>> + Send {
    let reader = Reader { rpc, body: body.into_data_stream(), unread: vec![], broken: false };
    stream::unfold(reader, |mut reader| async move {
        let message = reader.next().await?;
        reader.broken = message.is_err();
        Some((message, reader))
    })
}

struct Reader {
    rpc: &'static Rpc,
    body: BodyDataStream,
    /// What has arrived and is no whole event yet.
    unread: Vec<u8>,
    broken: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<DynamicMessage, Status>> {
        if self.broken {
            return None;
        }
        loop {
            if let Some(end) = self.unread.windows(END.len()).position(|bytes| bytes == END) {
                let event: Vec<u8> = self.unread.drain(..end + END.len()).collect();
                return Some(message(self.rpc, &String::from_utf8_lossy(&event)));
            }
            match self.body.next().await? {
                Ok(bytes) => self.unread.extend_from_slice(&bytes),
                Err(error) => {
                    return Some(Err(Status::unavailable(format!("the stream broke off: {error}"))));
                }
            }
        }
    }
}

fn message(rpc: &Rpc, event: &str) -> Result<DynamicMessage, Status> {
    let (name, data) = fields(event);
    let document = match data.is_empty() {
        true => Json::Object(Map::new()),
        false => serde_json::from_str(&data).map_err(|error| status::unfit(&error.to_string()))?,
    };
    let field = rpc.by_event.iter().find(|(of, _)| of == name);
    let mut message = match field {
        Some((_, field)) => call::within(&rpc.output, field, document)?,
        None => call::read(&rpc.output, document)?,
    };
    if rpc.output.get_field_by_name(NAME).is_some() {
        message.set_field_by_name(NAME, Value::String(name.to_owned()));
    }
    Ok(message)
}

/// Name and data of an event (WHATWG, "Server-sent events", as far as our own routes write them).
fn fields(event: &str) -> (&str, String) {
    let (mut name, mut data) = (HEARTBEAT, String::new());
    for line in event.lines() {
        match line.split_once(':').map(|(field, value)| (field, value.strip_prefix(' ').unwrap_or(value))) {
            Some(("event", value)) => name = value,
            Some(("data", value)) => data.push_str(value),
            _ => {}
        }
    }
    (name, data)
}

#[cfg(test)]
mod tests {
    use super::super::rpc;
    use super::*;

    async fn read(pieces: &[&'static str]) -> Vec<(String, u64)> {
        let rpc = rpc::all().iter().find(|rpc| rpc.path.ends_with("/Watch")).expect("is there");
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok::<_, std::io::Error>(*piece)).collect();
        let messages = messages(rpc, Body::from_stream(stream::iter(pieces)));
        let read = messages.map(|message| {
            let message = message.expect("fits");
            let field = |name| message.get_field_by_name(name).expect("is there").into_owned();
            (field("event").as_str().unwrap_or_default().to_owned(), field("revision").as_u64().unwrap_or(0))
        });
        read.collect().await
    }

    #[tokio::test]
    async fn events_are_whole_however_they_arrive() {
        let expected = [("bookmark".to_owned(), 7), ("heartbeat".to_owned(), 0), ("put".to_owned(), 9)];
        let text = "id: 7\nevent: bookmark\nretry: 2000\ndata: {\"revision\":7,\"epoch\":2}\n\n: heartbeat\n\n\
                    event: put\ndata: {\"event\":\"put\",\"kind\":\"Host\",\"revision\":9,\"object\":null}\nid: 9\n\n";
        assert_eq!(read(&[text]).await, expected);
        for cut in 1..text.len() {
            let (first, second) = text.split_at(cut);
            assert_eq!(read(&[first, second]).await, expected, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn what_is_no_whole_event_is_not_told() {
        assert_eq!(read(&["event: put\ndata: {\"revision\":9}\n"]).await, []);
    }
}
