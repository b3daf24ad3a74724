//! One client, several managers: what happens when they refuse, vanish, or lose answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use serde_json::json;
use support::{Manager, Reply, operation, problem, put, skep, skep_with};

/// An address where nobody listens: bound, noted, given back.
fn dead_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_refused_connection_moves_on_to_the_next_manager() {
    let manager = Manager::start(|_, _| Reply::Json(200, json!({"items": [], "revision": 1}))).await;
    let outcome = skep(&[dead_url(), manager.url()], "env ls -v").await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(manager.requests(), ["GET /v1/environments?limit=1000"]);
    assert_eq!(manager.seen()[0].token.as_deref(), Some("Bearer skp_secret"));
    assert!(outcome.err.contains("-> 200 in"), "-v shows requests: {}", outcome.err);
    assert!(!outcome.err.contains("skp_"), "and no token: {}", outcome.err);
}

#[tokio::test]
async fn nobody_there_is_told_with_every_address_that_was_tried() {
    let (first, second) = (dead_url(), dead_url());
    let outcome = skep(&[first.clone(), second.clone()], "env ls").await;
    assert_eq!(outcome.code, 8);
    assert!(outcome.err.contains(&first) && outcome.err.contains(&second), "{}", outcome.err);
    assert!(outcome.err.contains("nothing was changed"), "{}", outcome.err);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_repeated_with_the_same_key() {
    let first = Manager::start(|_, _| Reply::Drop).await;
    let second =
        Manager::start(|_, _| Reply::Json(202, operation("op_1", "host/a", "succeeded", "done", 5))).await;
    let outcome = skep(&[first.url(), second.url()], "host create a --driver local").await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(outcome.out, "host/a created\n");
    let (lost, repeated) = (first.seen(), second.seen());
    assert!(lost[0].key.is_some());
    assert_eq!(lost[0].key, repeated[0].key);
    assert_eq!(lost[0].body, repeated[0].body);
}

#[tokio::test]
async fn an_answer_that_stays_lost_is_an_unknown_outcome() {
    let manager = Manager::start(|_, _| Reply::Drop).await;
    let outcome = skep(&[manager.url()], "env create prod -t swarm").await;
    assert_eq!(outcome.code, 9, "{outcome:?}");
    let key = manager.seen()[0].key.clone().unwrap();
    assert!(manager.seen().iter().all(|seen| seen.key.as_ref() == Some(&key)));
    assert!(outcome.err.contains(&format!("--idempotency-key {key}")), "{}", outcome.err);

    let line = format!("env create prod -t swarm --idempotency-key {key}");
    let manager = Manager::start(|_, _| Reply::Json(409, problem(409, None))).await;
    let outcome = skep(&[manager.url()], &line).await;
    assert_eq!(outcome.code, 5);
    assert_eq!(manager.seen()[0].key, Some(key));
}

#[tokio::test]
async fn what_a_manager_calls_unknown_stays_unknown() {
    let manager = Manager::start(|_, _| Reply::Json(503, problem(503, Some("unknown")))).await;
    let outcome = skep(&[manager.url()], "env create prod -t swarm").await;
    assert_eq!(outcome.code, 9, "{outcome:?}");
}

#[tokio::test]
async fn a_request_that_was_not_started_is_tried_again_until_there_is_a_leader() {
    let manager = Manager::start(|number, _| match number {
        0 | 1 => Reply::Json(503, problem(503, Some("not_started"))),
        _ => Reply::Json(200, json!({"items": [], "revision": 1})),
    })
    .await;
    let outcome = skep(&[manager.url()], "env ls").await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(manager.requests().len(), 3);
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_given_up_in_the_end() {
    let manager = Manager::start(|_, _| Reply::Json(503, problem(503, Some("not_started")))).await;
    let outcome = skep(&[manager.url()], "env create prod -t swarm").await;
    assert_eq!(outcome.code, 8, "{outcome:?}");
    assert!(outcome.err.contains("nothing was changed"), "{}", outcome.err);
    assert!(manager.requests().len() > 1);
}

#[tokio::test]
async fn the_status_of_a_cluster_without_a_leader_is_one_managers_own_view() {
    let manager = Manager::start(|_, seen| match seen.target.contains("consistency=stale") {
        false => Reply::Json(503, problem(503, Some("not_started"))),
        true => Reply::Json(
            200,
            json!({"cluster": "c1", "leader": null, "term": 7, "voters": 3, "quorum": 2, "failure_tolerance": 0,
                   "revision": 9, "members": [{"name": "m1", "role": "voter", "state": "unknown"}]}),
        ),
    })
    .await;
    let outcome = skep(&[manager.url()], "cluster status").await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.out.starts_with("Failure tolerance  0:"), "{}", outcome.out);
    assert!(outcome.err.contains("no leader answers"), "{}", outcome.err);
}

#[tokio::test]
async fn refusals_become_exit_codes() {
    for (status, code) in [(400, 2), (401, 4), (403, 4), (404, 3), (409, 5), (412, 5), (422, 2), (500, 1)] {
        let manager = Manager::start(move |_, _| Reply::Json(status, problem(status, None))).await;
        let outcome = skep(&[manager.url()], "host inspect web-1").await;
        assert_eq!(outcome.code, code, "{status}: {outcome:?}");
        assert!(
            outcome.err.starts_with(&format!("error[SKP-1301]: Refused with {status}.\n")),
            "{}",
            outcome.err
        );
        assert!(outcome.err.contains("do otherwise"), "{}", outcome.err);
        assert!(outcome.err.contains("request 0198 · manager m2"), "{}", outcome.err);
        assert_eq!(outcome.out, "");
    }
}

#[tokio::test]
async fn programs_get_the_problem_itself() {
    let manager = Manager::start(|_, _| Reply::Json(404, problem(404, None))).await;
    let outcome = skep(&[manager.url()], "host inspect web-1 -o json").await;
    let printed: serde_json::Value = serde_json::from_str(&outcome.err).unwrap();
    assert_eq!(printed, problem(404, None));
}

#[tokio::test]
async fn an_answer_of_something_else_than_skep_is_shown() {
    let manager = Manager::start(|_, _| Reply::Text(404, "nginx: no such page")).await;
    let outcome = skep(&[manager.url()], "env ls").await;
    assert_eq!(outcome.code, 3);
    assert!(outcome.err.contains("nginx: no such page"), "{}", outcome.err);
}

#[tokio::test]
async fn without_an_address_or_an_environment_nothing_is_sent() {
    let outcome = skep_with(&[], "env ls").await;
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("SKEP_URL"), "{}", outcome.err);
    let outcome = skep_with(&[("SKEP_URL", "https://127.0.0.1:1")], "host ls").await;
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("SKEP_ENV"), "{}", outcome.err);
}

#[tokio::test]
async fn the_version_is_told_with_or_without_a_server() {
    let outcome = skep(&[dead_url()], "version").await;
    assert_eq!(outcome.code, 0);
    assert!(outcome.out.contains("server  - (no manager answers)"), "{}", outcome.out);
    let manager =
        Manager::start(|_, _| Reply::Json(200, json!({"version": "0.1.0", "cluster": "c1", "node": "m2"})))
            .await;
    let outcome = skep(&[manager.url()], "version").await;
    assert!(outcome.out.contains("server  0.1.0 (cluster c1, manager m2)"), "{}", outcome.out);
    let version = env!("CARGO_PKG_VERSION");
    let outcome = skep(&[manager.url()], "version -o csv").await;
    assert_eq!(
        outcome.out,
        format!("CLIENT,SERVER,CLUSTER,MANAGER,REVISION,MESSAGE\n{version},0.1.0,c1,m2,,\n")
    );
    let outcome = skep(&[dead_url()], "version -o csv").await;
    assert!(outcome.out.ends_with(&format!("{version},,,,,no manager answers\n")), "{}", outcome.out);
}

#[tokio::test]
async fn who_one_is_can_be_a_table() {
    let whoami = json!({"principal": "ann", "groups": ["dev", "ops"], "permissions": [], "environments": {},
                        "token": {"id": "t1", "kind": "key", "expires_at": null}});
    let manager = Manager::start(move |_, _| Reply::Json(200, whoami.clone())).await;
    for (line, printed) in [
        ("whoami", "ann\n"),
        ("whoami -o csv", "PRINCIPAL,GROUPS,PERMISSIONS,TOKEN,ID,ENDS\nann,dev ops,,key,t1,\n"),
        (
            "whoami -o wide",
            "PRINCIPAL   GROUPS    PERMISSIONS   TOKEN   ID   ENDS\nann         dev ops   -             key     t1\n",
        ),
    ] {
        let outcome = skep(&[manager.url()], line).await;
        assert_eq!((outcome.code, outcome.out.as_str()), (0, printed), "{line}");
    }
}

#[tokio::test]
async fn only_the_given_authority_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (key, authority) = authority();
    let (_, stranger) = self::authority();
    let ca = |name: &str, pem: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let (ours, theirs) = (ca("ours.pem", authority.pem()), ca("theirs.pem", stranger.pem()));
    let params = authority_params();
    let tls = acceptor(&rcgen::Issuer::from_params(&params, key));
    let manager =
        Manager::start_with(Some(tls), |_, _| Reply::Json(200, json!({"principal": "admin"}))).await;
    let url = format!("https://{}", manager.address);

    let outcome = skep_with(&[("SKEP_URL", &url), ("SKEP_CA_FILE", &ours)], "whoami").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "admin\n"), "{outcome:?}");
    let outcome = skep_with(&[("SKEP_URL", &url), ("SKEP_CA_FILE", &theirs)], "whoami").await;
    assert_eq!(outcome.code, 8);
    assert!(outcome.err.contains("certificate") && outcome.err.contains("--ca-file"), "{}", outcome.err);
    assert_eq!(manager.requests().len(), 1, "nothing was sent to a manager that is not trusted");
}

fn authority_params() -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
}

fn authority() -> (rcgen::KeyPair, rcgen::Certificate) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = authority_params().self_signed(&key).unwrap();
    (key, certificate)
}

fn acceptor(issuer: &rcgen::Issuer<'_, rcgen::KeyPair>) -> tokio_rustls::TlsAcceptor {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    std::sync::Arc::new(config).into()
}

#[tokio::test]
async fn a_first_try_that_still_runs_is_waited_for() {
    let manager = Manager::start(|number, _| match number {
        0 => Reply::Drop,
        1 => {
            let mut busy = problem(409, None);
            busy["retryable"] = json!(true);
            Reply::Json(409, busy)
        }
        _ => Reply::Json(202, operation("op_1", "host/a", "running", "running", 5)),
    })
    .await;
    let outcome = skep(&[manager.url()], "host create a --driver local --detach").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "op_1\n"), "{outcome:?}");
}

#[tokio::test]
async fn the_manager_that_answers_is_kept() {
    let done = operation("op_1", "host/a", "succeeded", "done", 9);
    let manager = Manager::start(move |_, seen| match seen.wants_events {
        true => Reply::Events(vec![put(&done)]),
        false => Reply::Json(202, operation("op_1", "host/a", "running", "running", 5)),
    })
    .await;
    let outcome = skep(&[dead_url(), manager.url()], "host create a --driver local -v").await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let refused = outcome.err.lines().filter(|line| line.contains("efused")).count();
    assert_eq!(refused, 1, "the dead one is asked once only: {}", outcome.err);
}
