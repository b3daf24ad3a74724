//! Changes: who asked, with which key, and what the ledger made of it.
//!
//! The key of a request and the change it causes are one entry of the log, so a repeated request cannot change
//! things twice, whichever manager it reaches. What the ledger remembers of a request is its answer together with a
//! hash of its body; a key that comes back with another body is a mistake that is told.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request as HttpRequest};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skep_ledger::{Committed, ReadError, Request, RequestId, Revision, Tx, transact};
use skep_model::access::{Caller, Grants};
use skep_model::ids::OperationId;
use skep_model::{CLUSTER, Refusal, Ruling, audit, operation};
use skep_sealing::SealingKey;
use tokio::time::timeout;
use utoipa::{IntoParams, IntoResponses, ToSchema};

use crate::Api;
use crate::audit::Trail;
use crate::dress::At;
use crate::extract::{Params, json};
use crate::precondition::Precondition;
use crate::problem::{Code, Problem, Reply};
use crate::rest::List;
use crate::rest::event::WAIT_MAX;
use crate::rest::operation::{Operation, follow};
use crate::rest::session::ClientAddress;

/// Names a request, so that it can be repeated safely.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What the client would like (RFC 7240).
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// What of it was done.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// The answer is that of an earlier request with the same key.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A UUID has 36 characters; there is room for whatever else a client numbers its requests with.
const KEY_BYTES_MAX: usize = 255;

/// A JSON body of 1 MiB is here by then over any line that somebody would manage a cluster through.
const BODY_READ_MAX: Duration = Duration::from_secs(30);

/// What every change takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Changing {
    /// Only say what would be done, or why it would be refused.
    #[serde(default)]
    #[param(required = false)]
    dry_run: bool,
}

/// The headers of a change.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes headers; they are read in `Change::of`")]
pub(crate) struct Keyed {
    /// Repeating a request with the same key changes things once, for 24 hours.
    #[param(
        rename = "Idempotency-Key",
        required = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]([ -~]*[!-~])?$"
    )]
    key: String,
    /// Only if the object that the path names is still of this revision, in quotes; `*`: only if it is there.
    #[param(rename = "If-Match", required = false, pattern = r#"^(\*|"[0-9]{1,18}"(, ?"[0-9]{1,18}")*)$"#)]
    matching: String,
    /// `*`: only if the object that the path names is not there yet.
    #[param(rename = "If-None-Match", required = false, inline)]
    absent: Absent,
    /// `wait=SECONDS`: if an operation begins, answer when it has ended, with 200, or with 202 if it takes longer.
    #[param(rename = "Prefer", required = false)]
    preference: String,
}

/// What `If-None-Match` of a change can say.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the header")]
enum Absent {
    #[schema(rename = "*")]
    Anything,
}

/// What a wish is answered with, for the description of the API.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only describes what `Api::start` answers")]
pub(crate) enum Begun {
    /// Accepted: follow the operation
    #[response(status = 202)]
    Accepted(Operation),
    /// Dry run: what would be started. Or the operation at its end, if it was to be waited for
    #[response(status = 200)]
    Known(Known),
    /// Refused
    #[response(status = "default", content_type = "application/problem+json")]
    Refused(Problem),
}

/// What is known at once.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "only describes what `Api::start` answers")]
pub(crate) enum Known {
    /// What would be started.
    Rehearsed(List<Operation>),
    /// As it is now that it has ended.
    Ended(Operation),
}

/// One change as it was asked for.
pub(crate) struct Change {
    /// Made from its key. Without a key nobody could ask for the same again.
    id: Option<RequestId>,
    dry_run: bool,
    body: BodyHash,
    by: Caller,
    from: Option<IpAddr>,
    trail: Option<Arc<Trail>>,
    precondition: Option<Precondition>,
    /// How long the answer may take, if the operation ends meanwhile.
    wait: Option<Duration>,
}

pub(crate) type BodyHash = [u8; SHA256_OUTPUT_LEN];

/// A change together with its body, read as a wish.
pub(crate) struct Asked<T> {
    pub(crate) change: Change,
    pub(crate) wish: T,
}

/// What an operation was started with, remembered for a repetition of the request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Started {
    operation: operation::Operation,
    children: Vec<OperationId>,
}

/// What the ledger remembers of a request.
#[derive(Serialize, Deserialize)]
struct Remembered<A> {
    body: BodyHash,
    answer: A,
}

/// What a rehearsed rule would have done.
pub(crate) struct Rehearsed<A> {
    pub(crate) answer: A,
    pub(crate) revision: Revision,
    operations: Vec<operation::Operation>,
}

impl<T: DeserializeOwned> FromRequest<Api> for Asked<T> {
    type Rejection = Box<Problem>;

    async fn from_request(request: HttpRequest, api: &Api) -> Reply<Asked<T>> {
        let (mut parts, bytes) = read(request, api).await?;
        let change = Change::of(&mut parts, api, &bytes).await?;
        let wish = json(&parts.headers, &bytes)?;
        Ok(Asked { change, wish })
    }
}

/// A change that whoever reaches the port may ask for: what is in the body says whether it is done. There is a secret in it, so
/// nothing is remembered of it that could be guessed at.
pub(crate) struct Knocked<T> {
    pub(crate) change: Change,
    pub(crate) wish: T,
}

impl<T: DeserializeOwned> FromRequest<Api> for Knocked<T> {
    type Rejection = Box<Problem>;

    async fn from_request(request: HttpRequest, api: &Api) -> Reply<Knocked<T>> {
        let (mut parts, bytes) = read(request, api).await?;
        let nobody = Caller { grants: Grants::default(), ..Caller::administrator("") };
        parts.extensions.insert(nobody);
        let change = Change::of(&mut parts, api, &bytes).await?.concealed(&api.parts.sealing);
        let wish = json(&parts.headers, &bytes)?;
        Ok(Knocked { change, wish })
    }
}

/// A question with a body: nothing is changed by it.
pub(crate) struct Question<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Api> for Question<T> {
    type Rejection = Box<Problem>;

    async fn from_request(request: HttpRequest, api: &Api) -> Reply<Question<T>> {
        let (parts, bytes) = read(request, api).await?;
        json(&parts.headers, &bytes).map(Question)
    }
}

async fn read(request: HttpRequest, api: &Api) -> Reply<(Parts, Bytes)> {
    let (parts, body) = request.into_parts();
    let bytes = whole(HttpRequest::from_parts(parts.clone(), body), api, BODY_READ_MAX).await?;
    Ok((parts, bytes))
}

/// The whole body, if it arrives within that time.
async fn whole<S: Send + Sync>(request: HttpRequest, state: &S, within: Duration) -> Reply<Bytes> {
    let arrived = timeout(within, Bytes::from_request(request, state)).await;
    Ok(arrived.map_err(|_| too_slow(within))??)
}

/// A change without a body.
impl FromRequestParts<Api> for Change {
    type Rejection = Box<Problem>;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Reply<Change> {
        Change::of(parts, api, &[]).await
    }
}

/// A change whose handler reads its query, and its body, by itself.
pub(crate) struct Bare(pub(crate) Change);

impl FromRequestParts<Api> for Bare {
    type Rejection = Box<Problem>;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Reply<Bare> {
        Change::with(parts, false, &[]).await.map(Bare)
    }
}

impl Change {
    async fn of(parts: &mut Parts, api: &Api, body: &[u8]) -> Reply<Change> {
        let Params(Changing { dry_run }) = Params::from_request_parts(parts, api).await?;
        Change::with(parts, dry_run, body).await
    }

    async fn with(parts: &mut Parts, dry_run: bool, body: &[u8]) -> Reply<Change> {
        // Auth stands before every handler of a change; without it nobody has asked.
        let by = parts.extensions.get::<Caller>().cloned().ok_or_else(Problem::unauthenticated)?;
        let from = parts.extensions.get::<ClientAddress>().map(|ClientAddress(address)| *address);
        let precondition = Precondition::of(parts).await?;
        let trail = parts.extensions.get::<Arc<Trail>>().cloned();
        let id = key(parts)?
            .map(|key| request_id(&[&by.principal, parts.method.as_str(), parts.uri.path(), &key]));
        let wait = preferred_wait(&parts.headers)?;
        Ok(Change { id, dry_run, body: hash(body), by, from, trail, precondition, wait })
    }

    /// Who asks.
    pub(crate) fn caller(&self) -> &Caller {
        &self.by
    }

    /// The name of whoever asks.
    pub(crate) fn by(&self) -> &str {
        &self.by.principal
    }

    /// From where.
    pub(crate) fn from(&self) -> Option<IpAddr> {
        self.from
    }

    /// With a body that was not read into memory.
    pub(crate) fn with_body(self, body: BodyHash) -> Change {
        Change { body, ..self }
    }

    /// What is written down about it.
    pub(crate) fn trail(&self) -> Option<&Trail> {
        self.trail.as_deref()
    }

    /// With nothing remembered of its body that could be guessed at: there is a secret in it.
    pub(crate) fn concealed(self, sealing: &SealingKey) -> Change {
        Change { body: sealing.fingerprint(&self.body), ..self }
    }

    /// Has whoever asks said what the object must be like?
    pub(crate) fn has_precondition(&self) -> bool {
        self.precondition.is_some()
    }

    fn insist(&self, tx: &mut Tx<'_>) -> Ruling<()> {
        self.precondition.as_ref().map_or(Ok(()), |precondition| precondition.insist(tx))
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

fn too_slow(within: Duration) -> Box<Problem> {
    let detail = format!("the body did not arrive within {} s", within.as_secs());
    Problem::new(Code::BodyTooSlow, detail)
}

/// `wait=SECONDS` among the preferences (RFC 7240, section 4.3). Others are left alone, as the RFC says; `respond-async`,
/// because that is what happens anyway.
fn preferred_wait(headers: &HeaderMap) -> Reply<Option<Duration>> {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';'])).map(str::trim);
    let Some(seconds) = preferences.find_map(|preference| preference.strip_prefix("wait=")) else {
        return Ok(None);
    };
    let wait = seconds.trim_matches('"').parse().map(Duration::from_secs).map_err(|_| {
        let detail = format!("Prefer: wait={seconds} is no number of seconds");
        Problem::new(Code::MalformedRequest, detail).hinting("write Prefer: wait=20")
    })?;
    Ok(Some(wait.min(WAIT_MAX)))
}

fn key(parts: &Parts) -> Reply<Option<String>> {
    let Some(value) = parts.headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    // What counts as a string of HTTP may have tabs in it.
    let is_visible = |key: &str| key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match value.to_str().map(str::trim) {
        Ok(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) && is_visible(key) => Ok(Some(key.to_owned())),
        _ => {
            let detail = format!("an Idempotency-Key has 1 to {KEY_BYTES_MAX} visible characters");
            Err(Problem::new(Code::MalformedRequest, detail))
        }
    }
}

/// The first half of a hash over all parts, each with its length, so that no two lists of parts look alike.
fn request_id(parts: &[&str]) -> RequestId {
    let mut bytes = vec![];
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hash(&bytes)[..16]);
    RequestId::from_bytes(id)
}

pub(crate) fn hash(bytes: &[u8]) -> BodyHash {
    let mut hash = [0; SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

impl Started {
    /// An operation with those that it waits for.
    pub(crate) fn with_children(operation: operation::Operation, children: Vec<OperationId>) -> Started {
        Started { operation, children }
    }
}

impl From<operation::Operation> for Started {
    fn from(operation: operation::Operation) -> Started {
        Started { operation, children: vec![] }
    }
}

impl Api {
    /// Brings a wish through and answers with the operation that fulfils it; a dry run answers with the operations
    /// that would have been started.
    pub(crate) async fn start(
        &self,
        change: &Change,
        rule: impl FnMut(&mut Tx<'_>) -> Ruling<Started> + Send,
    ) -> Reply<Response> {
        if change.dry_run {
            let rehearsed = self.rehearse(change, rule).await?;
            let shown = |operation| Operation::new(operation, 0, rehearsed.children_of(&operation.id));
            let items = rehearsed.operations.iter().map(shown).collect();
            return Ok(List::at(rehearsed.revision, items).into_response());
        }
        let committed = self.commit(change, rule).await?;
        let Started { operation, children } = &committed.answer;
        if let Some(wait) = change.wait
            && let Some((revision, ended)) =
                follow::ended(self, &operation.id, committed.revision, wait).await?
        {
            let applied = format!("wait={}", wait.as_secs());
            let answer = ([(PREFERENCE_APPLIED, applied)], At(revision, Json(ended)));
            return Ok(answered(&committed, answer));
        }
        let document = Operation::new(operation, committed.revision, children.clone());
        let location = [(header::LOCATION, format!("/v1/operations/{}", operation.id))];
        let answer = (StatusCode::ACCEPTED, location, Json(document));
        Ok(answered(&committed, answer))
    }

    /// Brings about what needs no operation, and answers with what came of it; a dry run answers with what would have.
    pub(crate) async fn done<A, D>(
        &self,
        change: &Change,
        rule: impl FnMut(&mut Tx<'_>) -> Ruling<A> + Send,
        shown: impl Fn(&A, Revision) -> (StatusCode, D),
    ) -> Reply<Response>
    where
        A: Serialize + DeserializeOwned + Send,
        D: Serialize,
    {
        if change.dry_run {
            let rehearsed = self.rehearse(change, rule).await?;
            let (_, document) = shown(&rehearsed.answer, 0);
            return Ok(At(rehearsed.revision, Json(document)).into_response());
        }
        let committed = self.commit(change, rule).await?;
        let (status, document) = shown(&committed.answer, committed.revision);
        Ok(answered(&committed, (status, Json(document))))
    }

    /// Lets a rule decide and commits what it wrote, once per key.
    pub(crate) async fn commit<A>(
        &self,
        change: &Change,
        mut rule: impl FnMut(&mut Tx<'_>) -> Ruling<A> + Send,
    ) -> Reply<Committed<A>>
    where
        A: Serialize + DeserializeOwned + Send,
    {
        let request = change.id.map_or_else(Request::new, Request::repeatable);
        let decide = |tx: &mut Tx<'_>| -> Ruling<_> {
            change.insist(tx)?;
            let answer = rule(tx)?;
            if let Some(trail) = &change.trail {
                let entry = trail.entry_about(self.parts.cluster.node_name(), tx.now(), &answer)?;
                audit::record(tx, &entry);
            }
            Ok(Remembered { body: change.body, answer })
        };
        let committed = transact(self.ledger(), request, decide).await?;
        if let Some(trail) = &change.trail {
            trail.is_written();
        }
        let Remembered { body, answer } = committed.answer;
        if body != change.body {
            let detail = "this Idempotency-Key was used for a request with another body";
            return Err(Problem::new(Code::IdempotencyKeyReused, detail).hinting("use a new key"));
        }
        Ok(Committed { answer, revision: committed.revision, replayed: committed.replayed })
    }

    /// Brings about something outside of the state, once per key: what came of it is remembered with the key when it is
    /// done. A repetition that comes while it is being done does it again, so it must be harmless twice.
    pub(crate) async fn once<A>(
        &self,
        change: &Change,
        effect: impl Future<Output = Reply<A>>,
    ) -> Reply<Committed<A>>
    where
        A: Clone + Serialize + DeserializeOwned + Send + Sync,
    {
        let view = self.ledger().fresh_view().await?;
        let done = change.id.map(|id| view.answered(id)).transpose()?.flatten().is_some();
        if !done {
            change.insist(&mut Tx::new(&view, self.ledger().now()))?;
            let answer = effect.await?;
            return self.commit(change, |_| Ok(answer.clone())).await;
        }
        // The ledger answers with what it remembers; the rule is not asked.
        self.commit(change, |_| Err(Refusal::from(ReadError::new("a remembered request was forgotten"))))
            .await
    }

    /// Lets a rule decide on the newest state and forgets what it wrote.
    pub(crate) async fn rehearse<A>(
        &self,
        change: &Change,
        mut rule: impl FnMut(&mut Tx<'_>) -> Ruling<A> + Send,
    ) -> Reply<Rehearsed<A>> {
        let view = self.ledger().fresh_view().await?;
        let mut tx = Tx::new(&view, self.ledger().now());
        change.insist(&mut tx)?;
        let answer = rule(&mut tx)?;
        let all = tx.list::<operation::Operation>(CLUSTER)?;
        let written_here = all.into_iter().filter(|stored| stored.revision == 0);
        let operations = written_here.map(|stored| stored.record).collect();
        Ok(Rehearsed { answer, revision: view.revision(), operations })
    }
}

impl<A> Rehearsed<A> {
    fn children_of(&self, id: &OperationId) -> Vec<OperationId> {
        let children = self.operations.iter().filter(|operation| operation.parent.as_ref() == Some(id));
        children.map(|operation| operation.id.clone()).collect()
    }
}

/// An answer with the headers of a change.
pub(crate) fn answered<A>(committed: &Committed<A>, answer: impl IntoResponse) -> Response {
    let mut response = At(committed.revision, answer).into_response();
    if committed.replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let silent = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let refused = whole(HttpRequest::new(silent), &(), Duration::from_millis(1)).await;
        assert_eq!(refused.expect_err("nothing has come").code, "SKP-1009");
        let whole = whole(HttpRequest::new(Body::from("{}")), &(), BODY_READ_MAX).await;
        assert_eq!(whole.expect("is there"), "{}");
    }

    #[test]
    fn no_two_lists_of_parts_are_one_request() {
        assert_ne!(request_id(&["ab", "c"]), request_id(&["a", "bc"]));
        assert_ne!(request_id(&["ab"]), request_id(&["ab", ""]));
        assert_eq!(request_id(&["ab", "c"]), request_id(&["ab", "c"]));
    }
}
