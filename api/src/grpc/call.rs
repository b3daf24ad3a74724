//! A message as a request of REST, and the answer of REST as a message.

use axum::body::Body;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Request, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _,
    SerializeOptions, Value,
};
use serde_json::{Map, Number, Value as Json};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::rpc::Rpc;
use super::status;
use crate::problem::{Code, Problem, Reply};

/// Metadata of a call that become headers of every request.
const PASSED_ON: &[&str] = &["authorization", "idempotency-key", "if-match", "skep-min-revision"];
/// Only changes: there is no cache at this door that an answer could be spared for.
const PASSED_ON_TO_CHANGES: &str = "if-none-match";
/// Only streams are gone on with.
const PASSED_ON_TO_STREAMS: &str = "last-event-id";

/// Fields whose values are separated by commas in the query.
const IN_ONE_WORD: &[&str] = &["topics"];

/// Headers of an answer that become its metadata, beside all that begin with [`OWN`].
const TOLD: &[&str] = &["etag", "idempotency-replayed", "location"];
const OWN: &str = "skep-";

/// Whole numbers up to this are the same as a double.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The request that a call means.
pub(super) fn request(rpc: &Rpc, metadata: &HeaderMap, message: &DynamicMessage) -> Reply<Request<Body>> {
    everything_is_known(message)?;
    let mut fields = match json(message, true)? {
        Json::Object(fields) => fields,
        _ => Map::new(),
    };
    let path = path(&rpc.route, &mut fields)?;
    let body = match &rpc.body {
        Some(field) => {
            fields.remove(field.name());
            body(message, field)?
        }
        None => vec![],
    };
    let query = query(&fields);
    let uri = if query.is_empty() { path } else { format!("{path}?{query}") };
    let mut request = Request::builder().method(rpc.method.clone()).uri(uri);
    if rpc.body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    if rpc.streams {
        request = request.header(ACCEPT, "text/event-stream");
    }
    let of_changes = (!rpc.method.is_safe()).then_some(PASSED_ON_TO_CHANGES);
    let of_streams = rpc.streams.then_some(PASSED_ON_TO_STREAMS);
    for name in PASSED_ON.iter().copied().chain(of_changes).chain(of_streams) {
        for value in metadata.get_all(name) {
            request = request.header(name, value);
        }
    }
    request.body(Body::from(body)).map_err(|error| malformed(format!("the request cannot be asked: {error}")))
}

/// What a route has answered, as the procedure answers it.
pub(super) fn answer(rpc: &Rpc, status: StatusCode, body: &[u8]) -> Result<DynamicMessage, Status> {
    let document: Json = serde_json::from_slice(body).map_err(|error| status::unfit(&error.to_string()))?;
    if rpc.by_status.is_empty() {
        return read(&rpc.output, document);
    }
    let field = rpc.by_status.iter().find(|(of, _)| *of == status.as_u16());
    let (_, field) = field.ok_or_else(|| status::unfit(&format!("nothing is said about {status}")))?;
    within(&rpc.output, field, document)
}

/// A message with a document in one of its fields.
pub(super) fn within(
    output: &MessageDescriptor,
    field: &FieldDescriptor,
    document: Json,
) -> Result<DynamicMessage, Status> {
    let Kind::Message(kind) = field.kind() else {
        return Err(status::unfit(&format!("{} is no message", field.full_name())));
    };
    let mut message = DynamicMessage::new(output.clone());
    message.set_field(field, Value::Message(read(&kind, document)?));
    Ok(message)
}

/// A document as a message. That messages lack no field of a document is for a test to say; a client must not suffer.
pub(super) fn read(kind: &MessageDescriptor, document: Json) -> Result<DynamicMessage, Status> {
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    DynamicMessage::deserialize_with_options(kind.clone(), document, &options)
        .map_err(|error| status::unfit(&format!("{}: {error}", kind.full_name())))
}

/// What the headers of an answer say about it.
pub(super) fn told(headers: &HeaderMap) -> MetadataMap {
    let told =
        headers.iter().filter(|(name, _)| TOLD.contains(&name.as_str()) || name.as_str().starts_with(OWN));
    MetadataMap::from_headers(told.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Protobuf would skip what it does not know, and a wish would be fulfilled in part.
fn everything_is_known(message: &DynamicMessage) -> Reply<()> {
    if let Some(field) = message.unknown_fields().next() {
        let (kind, number) = (message.descriptor(), field.number());
        let detail = format!("this manager knows no field {number} of {}", kind.full_name());
        let problem = Problem::new(Code::InvalidBody, detail);
        return Err(
            problem.hinting("leave it out, or ask a manager of the client's version: skep cluster status")
        );
    }
    message.fields().try_for_each(|(_, value)| everything_within_is_known(value))
}

fn everything_within_is_known(value: &Value) -> Reply<()> {
    match value {
        Value::Message(message) => everything_is_known(message),
        Value::List(values) => values.iter().try_for_each(everything_within_is_known),
        Value::Map(values) => values.values().try_for_each(everything_within_is_known),
        _ => Ok(()),
    }
}

fn json(message: &DynamicMessage, without_defaults: bool) -> Reply<Json> {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(without_defaults);
    let document = message.serialize_with_options(serde_json::value::Serializer, &options);
    document.map_err(|error| malformed(format!("the message cannot be read: {error}")))
}

fn path(route: &str, fields: &mut Map<String, Json>) -> Reply<String> {
    let mut path = String::new();
    for part in route.split('/').skip(1) {
        path.push('/');
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            None => path.push_str(part),
            Some(name) => match fields.remove(name) {
                Some(Json::String(text)) if !text.is_empty() => path.push_str(&encoded(&text)),
                _ => {
                    return Err(malformed(format!(
                        "the field {name} is empty: it says what the call is about"
                    )));
                }
            },
        }
    }
    Ok(path)
}

/// Several values of one field come one by one, except where the route takes them in one word.
fn query(fields: &Map<String, Json>) -> String {
    let mut pairs = vec![];
    for (name, value) in fields {
        let mut words: Vec<String> = match value {
            Json::Array(values) => values.iter().map(word).collect(),
            value => vec![word(value)],
        };
        if IN_ONE_WORD.contains(&name.as_str()) {
            words = vec![words.join(",")];
        }
        pairs.extend(words.iter().map(|word| format!("{name}={}", encoded(word))));
    }
    pairs.join("&")
}

fn word(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A body that is left out is one in which nothing is said: the route names what is missing.
fn body(message: &DynamicMessage, field: &FieldDescriptor) -> Reply<Vec<u8>> {
    let value = message.has_field(field).then(|| message.get_field(field));
    let mut document = match value.as_ref().and_then(|value| value.as_message()) {
        Some(wish) => json(wish, false)?,
        None => Json::Object(Map::new()),
    };
    whole(&mut document);
    // A document that is made of a message can be written.
    Ok(serde_json::to_vec(&document).unwrap_or_default())
}

/// Numbers within a `Struct` are doubles; whole ones were meant as whole ones.
fn whole(document: &mut Json) {
    match document {
        Json::Number(number) => {
            let value = number.as_f64().filter(|value| number.is_f64() && value.fract() == 0.0);
            if let Some(value) = value.filter(|value| value.abs() <= WHOLE_MAX) {
                *number = Number::from(value as i64);
            }
        }
        Json::Array(values) => values.iter_mut().for_each(whole),
        Json::Object(fields) => fields.values_mut().for_each(whole),
        _ => {}
    }
}

fn malformed(detail: String) -> Box<Problem> {
    Problem::new(Code::MalformedRequest, detail)
}
