//! Server-sent events: bytes in, events out.
//!
//! Pure, so that every way a network can split a stream is a test. Follows the WHATWG form: `field: value` lines, an empty line
//! ends an event, a line that begins with a colon is a comment (the managers' heartbeat).

/// An event larger than this is not one of ours; an Operation document is a few kilobytes.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// `event:`; "message" if there was none.
    pub(crate) name: String,
    pub(crate) data: String,
    /// The last `id:` seen, in this event or an earlier one.
    pub(crate) id: Option<String>,
}

/// The stream grew beyond what one event may take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Collects bytes until they make events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed right after it belongs to the same line end.
    after_return: bool,
    name: String,
    data: String,
    has_data: bool,
    id: Option<String>,
}

impl Parser {
    /// Takes the next bytes as they came and returns the events they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let second_half = std::mem::take(&mut self.after_return) && byte == b'\n';
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    events.extend(self.end_of_line());
                }
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
                return Err(TooLong);
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self) -> Option<Event> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        if line.is_empty() {
            return self.end_of_event();
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "id" => self.id = Some(value.to_owned()),
            // Comments (an empty field name), `retry` (we have our own pauses) and what later versions may add.
            _ => {}
        }
        None
    }

    fn end_of_event(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        let complete = std::mem::take(&mut self.has_data);
        let name = if name.is_empty() { "message".to_owned() } else { name };
        complete.then(|| Event { name, data, id: self.id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": heartbeat\n\nid: 7\nevent: put\ndata: {\"a\":\ndata:  \"ü\"}\n\n\
                          retry: 2000\r\ndata:x\r\n\r\n: again\n\nevent: nothing\n\ndata: unfinished\n";

    fn wanted() -> Vec<Event> {
        vec![
            Event { name: "put".into(), data: "{\"a\":\n \"ü\"}".into(), id: Some("7".into()) },
            Event { name: "message".into(), data: "x".into(), id: Some("7".into()) },
        ]
    }

    #[test]
    fn comments_ids_names_and_several_lines_of_data() {
        assert_eq!(Parser::default().push(STREAM.as_bytes()), Ok(wanted()));
    }

    #[test]
    fn it_does_not_matter_where_the_stream_is_split() {
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for chunk in STREAM.as_bytes().chunks(size) {
                events.extend(parser.push(chunk).expect("short enough"));
            }
            assert_eq!(events, wanted(), "chunks of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; EVENT_BYTES_MAX + 1]), Err(TooLong));
    }
}
