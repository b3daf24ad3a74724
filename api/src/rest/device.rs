//! Signing in on a machine without a browser: it shows a short code, and somebody who is signed in approves it elsewhere (RFC 8628).
//!
//! Both codes are derived from the login's id, so that a repeated request shows the same ones, and any manager recognizes them;
//! what is stored is a hash of the long one and a keyed one of the short one, which could be guessed otherwise.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::request::Parts;
use http::{StatusCode, uri};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use skep_ledger::{Request, Tx, transact};
use skep_model::Refusal;
use skep_model::access::{
    self, ActsAs, Approval, Caller, DEVICE_CODE_PREFIX, DEVICE_LOGIN_LIFE, DeviceLogin, DeviceWish, Token,
    TokenKind,
};
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::attempts::Door;
use crate::change::{Change, Changing, Keyed, Knocked};
use crate::dress::At;
use crate::extract::{Place, Read, Reading, Reference};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::rest::session::SESSION_SECONDS;
use crate::rest::token::ApiKey;
use crate::{Api, cookie};

/// How long a device waits before it asks again, and by how much longer whenever it did not (RFC 8628, 3.2 and 3.5).
const INTERVAL: SignedDuration = SignedDuration::from_secs(5);

/// A device that is told to slow down all the time asks once a minute in the end.
const INTERVAL_MAX: SignedDuration = SignedDuration::from_secs(60);

/// What a clock and a network may take away from an interval.
const INTERVAL_SLACK: SignedDuration = SignedDuration::from_secs(1);

/// Letters of a short code: no vowels, so no words, and none that looks like a digit (RFC 8628, 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// Letters in a short code: one in 25 thousand millions, and it lives for ten minutes.
const USER_CODE_CHARS: usize = 8;

/// What cannot be written in time is left to the next time.
const WRITING_MAX: Duration = Duration::from_secs(10);

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(ask))
        .routes(routes!(exchange))
        .routes(routes!(show))
        .routes(routes!(approve))
        .routes(routes!(deny))
}

/// A device that wants to come in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DeviceAsking {
    /// How it calls itself; shown to whoever is to approve it.
    #[serde(default = "unnamed")]
    #[schema(example = "skep on build-7")]
    client: String,
}

fn unnamed() -> String {
    "an unnamed device".into()
}

/// The two codes, in the words of RFC 8628.
#[derive(Debug, Serialize, ToSchema)]
struct DeviceCodes {
    /// The device's secret: with it the session is fetched.
    device_code: String,
    /// What the device shows.
    #[schema(example = "WDJB-MJHT")]
    user_code: String,
    /// Where a person approves it.
    verification_uri: String,
    /// The same with the code in it.
    verification_uri_complete: String,
    /// Seconds for which both are valid.
    expires_in: i64,
    /// Seconds to wait before asking again.
    interval: i64,
}

/// A device that has the long code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DeviceComing {
    /// The long code.
    device_code: String,
}

/// A device that waits, as it is shown to whoever is to approve it.
#[derive(Debug, Serialize, ToSchema)]
struct DeviceRequest {
    /// What the device shows.
    #[schema(example = "WDJB-MJHT")]
    user_code: String,
    /// How it calls itself. It may lie.
    client: String,
    /// From where it has asked; empty if that is not known.
    address: String,
    /// `open`, `approved` or `denied`.
    #[schema(example = "open")]
    state: &'static str,
    /// When it has asked.
    created_at: Timestamp,
    /// When its codes end.
    expires_at: Timestamp,
}

impl DeviceRequest {
    fn new(login: &DeviceLogin, user_code: &str) -> DeviceRequest {
        DeviceRequest {
            user_code: user_code.to_owned(),
            client: login.client.clone(),
            address: login.address.clone(),
            state: match login.approval {
                Approval::Open => "open",
                Approval::Granted(_) => "approved",
                Approval::Denied => "denied",
            },
            created_at: login.created_at,
            expires_at: login.expires_at,
        }
    }
}

/// A short code as it was typed: in capitals, with its dash, and with what recognizes it.
struct UserCode {
    text: String,
    mark: Vec<u8>,
}

/// Where clients reach this manager, or whatever stands before it.
struct Here(Option<uri::Authority>);

impl FromRequestParts<Api> for Here {
    type Rejection = Box<Problem>;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Reply<Here> {
        Ok(Here(cookie::host(parts)))
    }
}

/// Gives a device its codes.
#[utoipa::path(post, path = "/v1/device-codes", operation_id = "ask_for_device_code", params(Changing, Keyed),
    request_body = DeviceAsking,
    responses((status = 201, body = DeviceCodes, description = "The codes; the device waits"),
        (status = 200, body = DeviceCodes, description = "Dry run: codes that open nothing"), Refused))]
async fn ask(
    State(api): State<Api>,
    Here(here): Here,
    Knocked { change, wish }: Knocked<DeviceAsking>,
) -> Reply<Response> {
    let now = api.ledger().now();
    api.attempts.may_try(&Door::NewDevice, change.from(), now)?;
    api.attempts.failed(&Door::NewDevice, change.from(), now);
    let id = skep_wire::random::name()[..16].to_owned();
    let (_, hash) = access::parse_device_code(&api.device_code(&id)).unwrap_or_default();
    let minted = DeviceWish {
        hash,
        user_code: api.user_code(&api.user_code_text(&id))?.mark,
        id,
        client: wish.client,
        address: change.from().map(|address| address.to_string()).unwrap_or_default(),
    };
    let base = match here {
        Some(here) => format!("https://{here}"),
        None => api.parts.cluster.invitation("").api_url,
    };
    let shown = |login: &DeviceLogin, _| {
        let user_code = api.user_code_text(&login.id);
        let codes = DeviceCodes {
            device_code: api.device_code(&login.id),
            verification_uri: format!("{base}/device"),
            verification_uri_complete: format!("{base}/device?code={user_code}"),
            user_code,
            expires_in: login.expires_at.duration_since(now).as_secs().max(0),
            interval: INTERVAL.as_secs(),
        };
        (StatusCode::CREATED, codes)
    };
    api.done(&change, |tx| access::ask_for_device(tx, &minted), shown).await
}

/// Shows which device has a short code, before one approves it.
#[utoipa::path(get, path = "/v1/device-codes/{user_code}", operation_id = "show_device",
    params(Reading, ("user_code" = String, Path, description = "The short code")),
    responses((status = 200, body = DeviceRequest, description = "As it is"), Refused))]
async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Place(code): Place<Reference>,
    Read(view): Read,
) -> Reply<At<Json<DeviceRequest>>> {
    let code = api.typed(&caller, &code)?;
    let found = access::find_device_login(&view, &code.text, &code.mark, api.ledger().now());
    let found = api.counted(&caller, found.map_err(Into::into))?;
    let document = DeviceRequest::new(&found, &code.text);
    Ok(At(view.revision(), Json(document)))
}

/// Lets a device come in: it may what the caller may, until its session ends.
#[utoipa::path(post, path = "/v1/device-codes/{user_code}/actions/approve", operation_id = "approve_device",
    params(Changing, Keyed, ("user_code" = String, Path, description = "The short code")),
    responses((status = 200, body = DeviceRequest, description = "Approved"), Refused))]
async fn approve(State(api): State<Api>, Place(code): Place<Reference>, change: Change) -> Reply<Response> {
    if matches!(change.caller().acts_as, ActsAs::Environment { .. }) {
        let detail = "a key of an environment lets nobody in";
        return Err(Problem::new(Code::Forbidden, detail).hinting("sign in as a user first: skep login"));
    }
    api.decide(&change, &code, true).await
}

/// Keeps a device out.
#[utoipa::path(post, path = "/v1/device-codes/{user_code}/actions/deny", operation_id = "deny_device",
    params(Changing, Keyed, ("user_code" = String, Path, description = "The short code")),
    responses((status = 200, body = DeviceRequest, description = "Denied"), Refused))]
async fn deny(State(api): State<Api>, Place(code): Place<Reference>, change: Change) -> Reply<Response> {
    api.decide(&change, &code, false).await
}

/// Exchanges the long code for a session, once, as soon as somebody has approved it.
///
/// Until then the answer is the problem `AUTHORIZATION_PENDING`, or `SLOW_DOWN` for who asks more often than `interval` says; in the end
/// `ACCESS_DENIED` or `EXPIRED`.
#[utoipa::path(post, path = "/v1/device-codes/actions/exchange", operation_id = "exchange_device_code",
    params(Changing, Keyed), request_body = DeviceComing,
    responses(
    (status = 201, body = ApiKey, description = "Signed in; the token is shown this once"),
    (status = 200, body = ApiKey, description = "Dry run: what would be made, without the token"),
    Refused,
))]
async fn exchange(
    State(api): State<Api>,
    Knocked { change, wish }: Knocked<DeviceComing>,
) -> Reply<Response> {
    let (id, hash) = access::parse_device_code(&wish.device_code).ok_or(Refusal::DeviceCodeUseless)?;
    let now = api.ledger().now();
    let quiet = |problem| {
        if let Some(trail) = change.trail() {
            trail.is_no_news();
        }
        Err(problem)
    };
    if let Err(problem) = api.polls.may_ask(&id, now) {
        return quiet(problem);
    }
    // Whom it speaks for is decided by whoever has approved it.
    let minted = api.new_token(ActsAs::Cluster, TokenKind::Session, String::new(), Some(SESSION_SECONDS));
    let rule = |tx: &mut Tx<'_>| access::exchange_device(tx, &id, &hash, &minted);
    let secret = |token: &Token| (!change.is_dry_run()).then(|| api.token_text(&token.id, token.generation));
    let shown = |token: &Token, _| (StatusCode::CREATED, ApiKey::new(token, secret(token)));
    match api.done(&change, rule, shown).await {
        Err(problem) if problem.code == Code::AuthorizationPending.number() => {
            api.polls.has_asked(&id, now);
            quiet(problem)
        }
        Err(problem) => Err(problem),
        Ok(session) => {
            api.polls.forget(&id);
            Ok(session)
        }
    }
}

impl Api {
    fn device_code(&self, id: &str) -> String {
        let of = self.parts.sealing.fingerprint(format!("device-code/{id}").as_bytes());
        format!("{DEVICE_CODE_PREFIX}{id}_{}", skep_wire::random::hex(&of[..24]))
    }

    fn user_code_text(&self, id: &str) -> String {
        let of = self.parts.sealing.fingerprint(format!("user-code/{id}").as_bytes());
        let letter = |bytes: &[u8]| {
            let number = bytes.iter().fold(0_usize, |number, byte| number * 256 + usize::from(*byte));
            char::from(LETTERS[number % LETTERS.len()])
        };
        let letters: String = of.chunks(of.len() / USER_CODE_CHARS).map(letter).collect();
        dashed(&letters)
    }

    /// What somebody has typed; refused if it cannot be a code.
    fn user_code(&self, typed: &str) -> Result<UserCode, Refusal> {
        let letters: String = typed.chars().filter(|c| *c != '-' && !c.is_whitespace()).collect();
        let letters = letters.to_ascii_uppercase();
        if letters.len() != USER_CODE_CHARS || !letters.bytes().all(|byte| LETTERS.contains(&byte)) {
            let name = typed.chars().take(2 * USER_CODE_CHARS).collect();
            return Err(Refusal::NotFound { what: "device code", name, scope: None });
        }
        let mark = self.parts.sealing.fingerprint(format!("shown-code/{letters}").as_bytes()).to_vec();
        Ok(UserCode { text: dashed(&letters), mark })
    }

    /// As [`Api::user_code`], for somebody who has not tried too many that nobody has.
    fn typed(&self, caller: &Caller, typed: &str) -> Reply<UserCode> {
        self.attempts.may_try(&Door::Device(caller.principal.clone()), None, self.ledger().now())?;
        self.counted(caller, self.user_code(typed).map_err(Into::into))
    }

    /// Counts a short code that nobody has.
    fn counted<T>(&self, caller: &Caller, found: Reply<T>) -> Reply<T> {
        if found.as_ref().is_err_and(|problem| problem.status == StatusCode::NOT_FOUND.as_u16()) {
            self.attempts.failed(&Door::Device(caller.principal.clone()), None, self.ledger().now());
        }
        found
    }

    async fn decide(&self, change: &Change, typed: &str, may_come_in: bool) -> Reply<Response> {
        let code = self.typed(change.caller(), typed)?;
        let rule = |tx: &mut Tx<'_>| {
            access::decide_about_device(tx, change.caller(), (&code.text, &code.mark), may_come_in)
        };
        let shown = |login: &DeviceLogin, _| (StatusCode::OK, DeviceRequest::new(login, &code.text));
        self.counted(change.caller(), self.done(change, rule, shown).await)
    }

    /// Forgets the devices whose time is over.
    pub(crate) async fn forget_devices(&self) {
        let over = access::device_logins_are_over(&self.ledger().view(), self.ledger().now());
        if !matches!(over, Ok(true)) {
            return;
        }
        let sweeping = transact(self.ledger(), Request::new(), access::sweep_device_logins);
        if !matches!(timeout(WRITING_MAX, sweeping).await, Ok(Ok(_))) {
            tracing::debug!("devices that wait no more could not be forgotten; they will be");
        }
    }
}

/// `WDJBMJHT` as it is read aloud.
fn dashed(letters: &str) -> String {
    let (left, right) = letters.split_at(letters.len() / 2);
    format!("{left}-{right}")
}

/// When devices have asked this manager last. Each manager counts by itself: a write for every time would cost more than the asking.
#[derive(Debug, Clone, Default)]
pub(crate) struct Polls(Arc<Mutex<HashMap<String, Poll>>>);

#[derive(Debug)]
struct Poll {
    last: Timestamp,
    interval: SignedDuration,
}

impl Polls {
    /// Has it waited for long enough? Only devices that wait are known here, so others are told by the ledger.
    fn may_ask(&self, id: &str, now: Timestamp) -> Reply<()> {
        let mut polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(poll) = polls.get_mut(id) else { return Ok(()) };
        if now.duration_since(poll.last) >= poll.interval - INTERVAL_SLACK {
            return Ok(());
        }
        poll.interval = (poll.interval + INTERVAL).min(INTERVAL_MAX);
        poll.last = now;
        let detail = format!("the device asks too often: once in {} s is enough", poll.interval.as_secs());
        Err(Problem::new(Code::SlowDown, detail))
    }

    /// It has, and waits on.
    fn has_asked(&self, id: &str, now: Timestamp) {
        let mut polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        polls.retain(|_, poll| now.duration_since(poll.last) < DEVICE_LOGIN_LIFE);
        let poll = polls.entry(id.to_owned()).or_insert(Poll { last: now, interval: INTERVAL });
        poll.last = now;
    }
    /// It waits no more. If the answer is lost, it asks again at once.
    fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}
