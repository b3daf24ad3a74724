"""What a fuzzer has to know of Skep that its description cannot say."""

import os

import schemathesis

PUBLIC = {
    "GET /join/{token}",
    "GET /join/{token}/skep",
    "GET /lbz",
    "GET /leaderz",
    "GET /livez",
    "GET /readyz",
    "GET /v1/auth-providers",
    "GET /v1/openapi.json",
    "POST /v1/device-codes",
    "POST /v1/device-codes/actions/exchange",
    "POST /v1/sessions",
    "POST /v1/setup",
}


# Whoever ends or replaces the token that they ask with learns nothing more.
OWN_TOKENS = {"current", *os.environ["SKEP_FUZZ_TOKEN"].split("_")[1:2]}
TOKEN_ENDS = {("DELETE", "/v1/tokens/{token}"), ("POST", "/v1/tokens/{token}/actions/rotate")}

PROBES = {"/leaderz", "/lbz", "/livez", "/readyz"}


@schemathesis.serializer("application/x-tar", "application/gzip")
def bytes_as_they_are(context, value):
    """Archives: whatever bytes come to mind. None is valid, and all must be answered."""
    return value if isinstance(value, bytes) else repr(value).encode()


@schemathesis.hook
def before_call(context, case, kwargs):
    # A stream has no end: what has happened within a second is asked for instead.
    if case.path == "/v1/events":
        case.query = {**(case.query or {}), "index": 0, "wait": "1s"}
        # What nobody has reached yet: a manager that is behind waits for it, and says so with 503.
        case.query.pop("since", None)
        case.headers = {name: value for name, value in (case.headers or {}).items() if name.lower() != "last-event-id"}
    # The manager that is asked would go, and with it whoever answers.
    if case.path.endswith(("/actions/remove", "/actions/drain")) and "/members/" in case.path:
        case.query = {**(case.query or {}), "dry_run": "true"}
    if (case.method.upper(), case.path) in TOKEN_ENDS and str(case.path_parameters.get("token")) in OWN_TOKENS:
        case.query = {**(case.query or {}), "dry_run": "true"}
    if case.path.startswith("/v1/operations/"):
        case.headers = {**(case.headers or {}), "Accept": "application/json"}


if os.environ.get("SKEP_FUZZ_CLOSED"):

    @schemathesis.check
    def closed_to_strangers(context, response, case):
        public = f"{case.method.upper()} {case.path}" in PUBLIC
        # That a public path does not take a method is no secret either.
        public |= response.status_code == 405 and any(known.endswith(f" {case.path}") for known in PUBLIC)
        assert public or response.status_code in (401, 403, 404), f"a stranger got {response.status_code}"
        # Probes say "not here" with 503.
        assert response.status_code < 500 or case.path in PROBES, f"a stranger brought about {response.status_code}"
