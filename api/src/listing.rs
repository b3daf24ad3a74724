//! The grammar of lists, the same for every collection.
//!
//! ```text
//!   ?state=active&label=rack=b&name=edge-*&spec.driver=local&q=text    which   (a key again: or; another key: and)
//!   ?sort=-created_at,name                                              in which order
//!   ?limit=100&cursor=…                                                 how many, from where on
//!   ?fields=metadata.name,status.state&count=true                       what of them is told
//! ```
//!
//! A cursor is the place of the last item in the order of the list, not a number of items: what comes and goes between two
//! pages moves nothing, and whatever is there all the time is told exactly once. It is signed, and worth something only
//! to whoever got it, for the same question, for a while.

use std::cmp::Ordering;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderValue, header};
use serde::de::{DeserializeOwned, IntoDeserializer as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use skep_ledger::{ReadError, Revision, View};
use skep_model::access::Caller;
use utoipa::IntoParams;

use crate::Api;
use crate::extract::{Consistency, Reading};
use crate::problem::{Code, Problem, Reply};
use crate::rest::List;

/// Items of one answer, if nothing else is said.
const PAGE_DEFAULT: usize = 100;

/// The most in one answer; whoever asks for more gets this many, and a cursor (AIP-158).
const PAGE_MAX: usize = 1_000;

/// How long a cursor leads on.
const CURSOR_SECONDS: i64 = 15 * 60;

/// Conditions, and fields to sort by or to show, of one question.
const TERMS_MAX: usize = 32;

/// Of the signature of a cursor.
const MARK_BYTES: usize = 16;

/// What may be another on the next page.
const CHANGES_WITH_THE_PAGE: [&str; 3] = ["cursor", "limit", "consistency"];

/// The parts of a document. A field that is named without its part is looked for in each.
const PARTS: [&str; 3] = ["metadata", "spec", "status"];

/// What every list takes.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes a query; it is read in `Listing::read`")]
pub(crate) struct Paging {
    /// At most so many: 100, if left out; never more than 1000.
    #[param(required = false, minimum = 1)]
    limit: usize,
    /// Where an earlier answer to the same question ended: its `next_cursor`, for 15 minutes.
    #[param(required = false)]
    cursor: String,
    /// Fields to sort by, separated by commas; with `-` the other way round.
    #[param(required = false)]
    sort: String,
    /// Fields to show of each, separated by commas, instead of all.
    #[param(required = false)]
    fields: String,
    /// Count all that match, whatever the limit.
    #[param(required = false)]
    count: bool,
    /// Only those of this name; `*` stands for anything.
    #[param(required = false, style = Form, explode)]
    name: Vec<String>,
    /// Only those in this state.
    #[param(required = false, style = Form, explode)]
    state: Vec<String>,
    /// Only those with this label, `KEY` or `KEY=VALUE`.
    #[param(required = false, style = Form, explode)]
    label: Vec<String>,
    /// Only those in which this text occurs, in whatever field.
    #[param(required = false, style = Form, explode)]
    q: Vec<String>,
}

/// One question for a list.
pub(crate) struct Listing {
    api: Api,
    path: String,
    query: Vec<(String, String)>,
    who: String,
    consistency: Consistency,
    limit: usize,
    cursor: Option<String>,
    sort: Vec<(String, Direction)>,
    fields: Vec<String>,
    count: bool,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// One key with all that was said about it; any of it will do.
#[derive(Debug)]
struct Condition {
    key: String,
    any_of: Vec<String>,
}

/// Where a page ended.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    /// What the last item is sorted by.
    after: Vec<Value>,
    /// Seconds since the epoch.
    until: i64,
}

/// An answer that is a page of a list.
pub(crate) struct Page {
    list: List<Value>,
    next: Option<String>,
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = self.list.answer().into_response();
        if let Some(link) =
            self.next.and_then(|path| HeaderValue::try_from(format!("<{path}>; rel=\"next\"")).ok())
        {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

/// The question, and the state to answer it from, as fresh as it asks for.
pub(crate) struct ReadList(pub(crate) View, pub(crate) Listing);

impl FromRequestParts<Api> for ReadList {
    type Rejection = Box<Problem>;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Reply<ReadList> {
        let listing = Listing::from_request_parts(parts, api).await?;
        Ok(ReadList(api.read(listing.consistency).await?, listing))
    }
}

impl FromRequestParts<Api> for Listing {
    type Rejection = Box<Problem>;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Reply<Listing> {
        let query = parts.uri.query().unwrap_or_default();
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let who = parts.extensions.get::<Caller>().map(|caller| caller.principal.clone()).unwrap_or_default();
        Listing::read(api.clone(), parts.uri.path().to_owned(), query, who)
    }
}

fn wrong(detail: String) -> Box<Problem> {
    Problem::new(Code::MalformedRequest, detail)
}

impl Listing {
    fn read(api: Api, path: String, query: Vec<(String, String)>, who: String) -> Reply<Listing> {
        let mut listing = Listing {
            api,
            path,
            who,
            consistency: Consistency::Default,
            limit: PAGE_DEFAULT,
            cursor: None,
            sort: vec![],
            fields: vec![],
            count: false,
            conditions: vec![],
            query: vec![],
        };
        for (key, value) in &query {
            listing.take(key, value)?;
        }
        let conditions = listing.conditions.iter().map(|condition| condition.any_of.len());
        let terms = conditions.sum::<usize>() + listing.sort.len() + listing.fields.len();
        if terms > TERMS_MAX {
            return Err(wrong(format!(
                "{terms} conditions and fields are named; at most {TERMS_MAX} are read"
            )));
        }
        listing.query = query;
        Ok(listing)
    }

    fn take(&mut self, key: &str, value: &str) -> Reply<()> {
        let words = || value.split(',').map(str::trim).filter(|word| !word.is_empty());
        match key {
            "consistency" => self.consistency = Reading::consistency(value)?,
            "limit" => {
                let limit = value.parse::<u128>().ok().filter(|limit| *limit > 0);
                let limit =
                    limit.ok_or_else(|| wrong(format!("limit is no number above zero: '{value}'")))?;
                self.limit = usize::try_from(limit).unwrap_or(PAGE_MAX).min(PAGE_MAX);
            }
            "cursor" => self.cursor = Some(value.to_owned()),
            "sort" => self.sort.extend(words().map(directed)),
            "fields" => self.fields.extend(words().map(str::to_owned)),
            "count" => {
                self.count = value
                    .parse()
                    .map_err(|_| wrong(format!("count is neither true nor false: '{value}'")))?;
            }
            "name" | "state" | "label" | "q" => self.condition(key, value),
            _ if is_path(key) => self.condition(key, value),
            _ => {
                return Err(wrong(format!("'{key}' is no parameter of a list")).hinting(
                    "there are limit, cursor, sort, fields, count, consistency; to choose: name, state, label, q, \
                     or the path of a field such as spec.driver",
                ));
            }
        }
        Ok(())
    }

    fn condition(&mut self, key: &str, value: &str) {
        match self.conditions.iter_mut().find(|condition| condition.key == key) {
            Some(condition) => condition.any_of.push(value.to_owned()),
            None => self.conditions.push(Condition { key: key.to_owned(), any_of: vec![value.to_owned()] }),
        }
    }

    /// The part of a list that was asked for. `by`: the fields of an item by which the list is sorted if nothing else is
    /// said, and which together are no other item's.
    pub(crate) fn page<T: Serialize>(self, revision: Revision, all: Vec<T>, by: &[&str]) -> Reply<Page> {
        let all =
            all.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>().map_err(ReadError::new)?;
        self.check_fields(&all)?;
        let order = Order(self.sort.iter().cloned().chain(by.iter().map(|by| directed(by))).collect());
        let matching = all.into_iter().filter(|item| self.chooses(item));
        let mut matching: Vec<_> = matching.map(|item| (order.place(&item), item)).collect();
        let count = self.count.then_some(matching.len());
        matching.sort_by(|(a, _), (b, _)| order.compared(a, b));
        if let Some(cursor) = &self.cursor {
            let after = self.opened(cursor)?;
            matching.retain(|(place, _)| order.compared(place, &after).is_gt());
        }
        let more = matching.len() > self.limit;
        matching.truncate(self.limit);
        let last = matching.last().filter(|_| more).map(|(place, _)| place.clone());
        let next_cursor = last.map(|after| self.sealed(after)).transpose()?;
        let next = next_cursor.as_ref().map(|cursor| self.link(cursor));
        let items = matching.into_iter().map(|(_, item)| self.shown(item)).collect();
        Ok(Page { list: List { items, revision, next_cursor, count }, next })
    }

    /// Refuses what is said about `key` if it is none of the words that are known there.
    pub(crate) fn check_values<T: DeserializeOwned>(&self, key: &str) -> Reply<()> {
        let said = self.conditions.iter().filter(|condition| condition.key == key);
        for value in said.flat_map(|condition| &condition.any_of) {
            T::deserialize(value.as_str().into_deserializer())
                .map_err(|error: serde::de::value::Error| wrong(format!("{key}: {error}")))?;
        }
        Ok(())
    }

    /// A field that no item has is a mistake, not a wish for nothing.
    fn check_fields(&self, all: &[Value]) -> Reply<()> {
        let named = self.sort.iter().map(|(field, _)| field).chain(&self.fields);
        for field in named {
            // Deeper ones may be missing in all of them by chance.
            let first = field.split('.').next().unwrap_or_default();
            if !all.is_empty() && all.iter().all(|item| found(item, first).is_none()) {
                return Err(wrong(format!("nothing in this list has a field '{field}'")).hinting(
                    "write a field as in the answer, such as name, status.state or metadata.created_at",
                ));
            }
        }
        Ok(())
    }

    fn chooses(&self, item: &Value) -> bool {
        self.conditions
            .iter()
            .all(|condition| condition.any_of.iter().any(|value| fulfils(item, &condition.key, value)))
    }

    fn shown(&self, item: Value) -> Value {
        if self.fields.is_empty() {
            return item;
        }
        let mut shown = Value::Object(Map::new());
        for field in &self.fields {
            if let Some((path, value)) = located(&item, field) {
                put(&mut shown, &path, value.clone());
            }
        }
        shown
    }

    // ---- cursors ----

    fn sealed(&self, after: Vec<Value>) -> Reply<String> {
        let until = self.api.ledger().now().as_second() + CURSOR_SECONDS;
        let place = serde_json::to_vec(&Place { after, until }).map_err(ReadError::new)?;
        let mark = self.mark(&place);
        Ok(BASE64_URL_SAFE_NO_PAD.encode([&mark, place.as_slice()].concat()))
    }

    fn opened(&self, cursor: &str) -> Reply<Vec<Value>> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).unwrap_or_default();
        let (mark, place) = bytes.split_at_checked(MARK_BYTES).unwrap_or_default();
        if verify_slices_are_equal(mark, &self.mark(place)).is_err() {
            return Err(wrong("the cursor is none of this list with these conditions and this order".into())
                .hinting("use the next_cursor of an answer to the same question, and change nothing else but the limit"));
        }
        let Place { after, until } = serde_json::from_slice(place).map_err(ReadError::new)?;
        if until < self.api.ledger().now().as_second() {
            let detail = format!("the cursor is older than {} minutes", CURSOR_SECONDS / 60);
            return Err(Problem::new(Code::CursorExpired, detail).hinting("begin again, without a cursor"));
        }
        Ok(after)
    }

    /// Binds a place to what was asked, by whom.
    fn mark(&self, place: &[u8]) -> [u8; MARK_BYTES] {
        let question = self.query.iter().filter(|(key, _)| !CHANGES_WITH_THE_PAGE.contains(&key.as_str()));
        let question: Vec<_> = question.collect();
        let said =
            serde_json::to_vec(&("cursor", &self.who, &self.path, question, place)).unwrap_or_default();
        let mut mark = [0; MARK_BYTES];
        mark.copy_from_slice(&self.api.parts.sealing.fingerprint(&said)[..MARK_BYTES]);
        mark
    }

    fn link(&self, cursor: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query
            .extend_pairs(self.query.iter().filter(|(key, _)| key != "cursor"))
            .append_pair("cursor", cursor);
        format!("{}?{}", self.path, query.finish())
    }
}

/// Fields to sort by, the last ones so that no two items are equal.
struct Order(Vec<(String, Direction)>);

impl Order {
    fn place(&self, item: &Value) -> Vec<Value> {
        self.0.iter().map(|(field, _)| found(item, field).cloned().unwrap_or_default()).collect()
    }

    fn compared(&self, a: &[Value], b: &[Value]) -> Ordering {
        let each = self.0.iter().zip(a.iter().zip(b)).map(|((_, direction), (a, b))| match direction {
            Direction::Up => compared(a, b),
            Direction::Down => compared(b, a),
        });
        each.fold(Ordering::Equal, Ordering::then)
    }
}

/// Nothing before numbers, numbers before words.
fn compared(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) | Value::Object(_) => 4,
    };
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default()),
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Array(_) | Value::Object(_), Value::Array(_) | Value::Object(_)) => {
            a.to_string().cmp(&b.to_string())
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

/// `-FIELD`: the other way round.
fn directed(word: &str) -> (String, Direction) {
    match word.strip_prefix('-') {
        Some(field) => (field.to_owned(), Direction::Down),
        None => (word.to_owned(), Direction::Up),
    }
}

fn is_path(key: &str) -> bool {
    key.split_once('.').is_some_and(|(part, field)| PARTS.contains(&part) && !field.is_empty())
}

fn found<'a>(item: &'a Value, field: &str) -> Option<&'a Value> {
    located(item, field).map(|(_, value)| value)
}

/// A field by its path, or without its part.
fn located<'a>(item: &'a Value, field: &str) -> Option<(String, &'a Value)> {
    let paths = [field.to_owned()].into_iter().chain(PARTS.map(|part| format!("{part}.{field}")));
    paths.into_iter().find_map(|path| {
        let value = path.split('.').try_fold(item, |at, segment| at.get(segment))?;
        Some((path, value))
    })
}

fn put(into: &mut Value, path: &str, value: Value) {
    let mut at = into;
    for segment in path.split('.') {
        at = &mut at[segment];
    }
    *at = value;
}

fn fulfils(item: &Value, key: &str, wanted: &str) -> bool {
    match key {
        "q" => occurs(item, &wanted.to_lowercase()),
        "label" => has_label(item, wanted),
        _ => found(item, key).is_some_and(|value| is(value, wanted)),
    }
}

fn is(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => matches(text, wanted),
        Value::Array(values) => values.iter().any(|value| is(value, wanted)),
        Value::Null => wanted == "null",
        Value::Bool(truth) => wanted == if *truth { "true" } else { "false" },
        Value::Number(number) => number.to_string() == wanted,
        Value::Object(_) => false,
    }
}

/// `*` stands for anything.
fn matches(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut middle: Vec<_> = rest.split('*').collect();
    let last = middle.pop().unwrap_or_default();
    for part in middle {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

fn occurs(value: &Value, text: &str) -> bool {
    match value {
        Value::String(here) => here.to_lowercase().contains(text),
        Value::Array(values) => values.iter().any(|value| occurs(value, text)),
        Value::Object(fields) => fields.values().any(|value| occurs(value, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn has_label(item: &Value, wanted: &str) -> bool {
    let (key, value) = wanted.split_once('=').map_or((wanted, None), |(key, value)| (key, Some(value)));
    // Keys have dots of their own.
    let label = found(item, "labels").and_then(|labels| labels.get(key));
    label.is_some_and(|label| value.is_none_or(|value| label.as_str() == Some(value)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (text, pattern, expected) in [
            ("edge-1", "edge-*", true),
            ("edge-1", "*", true),
            ("edge-1", "*-1", true),
            ("edge-1", "e*e*1", true),
            ("edge", "edge*e", false),
            ("edge-1", "edge", false),
            ("edge", "e*ge*dge", false),
            ("", "*", true),
            ("", "**", true),
        ] {
            assert_eq!(matches(text, pattern), expected, "{text} {pattern}");
        }
    }

    #[test]
    fn a_field_is_found_by_its_path_and_without_its_part() {
        let item = json!({"metadata": {"name": "a"}, "status": {"state": "active", "cpus": 2}});
        assert_eq!(found(&item, "name"), Some(&json!("a")));
        assert_eq!(found(&item, "status.cpus"), Some(&json!(2)));
        assert_eq!(found(&item, "spec.name"), None);
        assert!(
            fulfils(&item, "state", "active")
                && fulfils(&item, "status.cpus", "2")
                && fulfils(&item, "q", "ACT")
        );
    }

    #[test]
    fn nothing_comes_before_numbers_and_numbers_before_words() {
        let sorted = [json!(null), json!(false), json!(-1), json!(2), json!(10), json!("10"), json!("2")];
        for (a, b) in sorted.iter().zip(&sorted[1..]) {
            assert_eq!(compared(a, b), Ordering::Less, "{a} {b}");
        }
    }
}
