//! Managers and an agent as they are in production, over real TLS on the loopback interface: two hubs
//! with tunnels between them, one agent, and behind it an HTTP server on a unix socket that speaks as
//! much of the engine's API as it takes to prove the byte stream (versions, uploads, downloads,
//! hijacked connections with half-close).

#![allow(clippy::unwrap_used, reason = "a failed step of a test may panic")]

mod running;
mod support;

use std::time::Duration;

use bollard::exec::StartExecResults;
use bollard::query_parameters::ImportImageOptions;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use skep_agent::AgentError;
use skep_hub::{AskError, Hub, HubError, ProbeHost, ProbePlan, hub_error};
use skep_wire::framing::{FramingError, MESSAGE_BYTES_MAX, read_message, write_message};
use skep_wire::pki::{self, ALPN_AGENT, Identity};
use skep_wire::proto::agent::{
    AgentFailureKind, AgentReply, AgentRequest, FactsRequest, ProbeProtocol, StatisticsRequest,
    agent_reply::Reply, agent_request::Request,
};
use support::{CLUSTER, DEADLINE, Engine, HOST, Manager, RunningAgent, checksum, pattern};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BODY_BYTES: usize = 50 * 1024 * 1024;

/// What an agent asks of its engine by itself.
const AGENTS_OWN: &[&str] = &["/version", "/info", "/containers/json", "/containers/c1/stats"];

/// The whole way of an agent: it registers at one manager, and its engine is reached through both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_is_reached_through_every_manager() {
    let (first, second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    let report = first.connected().await;
    let inventory = report.inventory.unwrap();
    assert!(report.engine_up, "{}", report.engine_error);
    assert_eq!((inventory.engine_version.as_str(), inventory.engine_api.as_str()), ("20.10.24", "1.41"));
    assert_eq!(inventory.address, "127.0.0.1");
    assert!(inventory.mtu > 1000 && inventory.cpus > 0 && inventory.memory_bytes > 0, "{inventory:?}");
    assert_eq!(first.hub.local_hosts(), [HOST]);
    assert!(second.hub.local_hosts().is_empty());
    assert_eq!(first.hub.local_hosts(), [HOST]);

    for manager in [&first, &second] {
        let docker = manager.hub.docker(HOST, None);
        assert_eq!(docker.version().await.unwrap().version.as_deref(), Some("20.10.24"));
        upload(&docker).await;
        download(&docker).await;
        converse(&docker).await;
    }
    assert!(
        engine.paths().iter().all(|path| path.starts_with("/v1.41/") || AGENTS_OWN.contains(&path.as_str())),
        "{:?}",
        engine.paths()
    );
    agent.stop().await;
}

/// Requests to the agent itself go the same ways, and a lower term is refused for them as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_asked_through_every_manager() {
    let (first, second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    first.connected().await;
    first.hub_has(HOST).await;
    for manager in [&first, &second] {
        let Reply::Facts(facts) = asked(&manager.hub, Some(Request::Facts(FactsRequest {}))).await else {
            panic!("not the host's facts");
        };
        assert_eq!(facts.engine_version, "20.10.24");
        assert!(facts.asked_at_ms > 0 && facts.answered_at_ms >= facts.asked_at_ms, "{facts:?}");
        assert!(!facts.hostname.is_empty() && facts.disks.len() == 2, "{facts:?}");
    }
    first.hub.agent(HOST, Some(5)).await.unwrap();
    for manager in [&first, &second] {
        let refused = manager.hub.agent(HOST, Some(4)).await.err();
        assert_eq!(refused, Some(HubError::StaleTerm { host: HOST.into(), term: 4, obeyed: 5 }));
    }
    agent.stop().await;
}

/// How busy the host was is told by any manager, also of containers that ended before anybody asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_are_told_through_every_manager() {
    let (first, second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    first.connected().await;
    first.hub_has(HOST).await;
    let sampled = async {
        loop {
            let statistics = second.hub.statistics(HOST, StatisticsRequest::default()).await.unwrap();
            if !statistics.times_ms.is_empty() {
                return statistics;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let statistics = tokio::time::timeout(DEADLINE, sampled).await.expect("the agent takes its first sample");
    let host = &statistics.host;
    assert!(host.memory_used_bytes[0] < host.memory_total_bytes[0], "{host:?}");
    assert!(host.disk_used_bytes[0] <= host.disk_total_bytes[0] && host.disk_total_bytes[0].is_some());
    assert_eq!((host.cpu[0], host.sent_bytes_per_second[0]), (None, None), "a rate needs two samples");
    let [container] = &statistics.containers[..] else { panic!("{statistics:?}") };
    assert_eq!((container.name.as_str(), container.service.as_str()), ("shop_web.1.t1", "shop_web"));
    assert_eq!((container.memory_used_bytes[0], container.memory_limit_bytes), (Some(700), Some(4000)));

    let last = statistics.times_ms.last().copied().and_then(|last| u64::try_from(last).ok());
    let later = StatisticsRequest { since_ms: last, host_only: true };
    let later = first.hub.statistics(HOST, later).await.unwrap();
    assert!(later.containers.is_empty() && later.times_ms.iter().all(|at| Some(*at as u64) > last));
    let nobody = first.hub.statistics("nobody", StatisticsRequest::default()).await;
    assert!(matches!(nobody, Err(AskError::Unreached(HubError::NoAgent { .. }))), "{nobody:?}");
    agent.stop().await;
}

/// A newer manager may ask for what this agent has never heard of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_says_that_it_does_not_know_a_request_and_serves_the_next_one() {
    let (first, second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    first.connected().await;
    first.hub_has(HOST).await;
    let Reply::Failure(failure) = asked(&second.hub, None).await else { panic!("it was answered") };
    assert_eq!(failure.kind(), AgentFailureKind::UnknownRequest, "{}", failure.message);
    let next = asked(&second.hub, Some(Request::Facts(FactsRequest {}))).await;
    assert!(matches!(next, Reply::Facts(_)), "{next:?}");
    agent.stop().await;
}

/// A host that sends to itself, and one that nobody knows: the one is checked, the other does not hold it up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_are_probed_through_every_manager_as_far_as_they_answer() {
    let (first, second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    first.connected().await;
    first.hub_has(HOST).await;
    let host = |id: &str| ProbeHost {
        id: id.into(),
        address: "127.0.0.1".into(),
        tcp_ports: vec![7946],
        targets: vec![0, 1],
    };
    let plan = ProbePlan {
        hosts: vec![host(HOST), host("nobody")],
        udp_ports: vec![4789, 7946],
        sizes_port: 4789,
        sizes: vec![1500],
    };
    for manager in [&first, &second] {
        let probed = manager.hub.probe(&plan).await;
        let facts = probed[0].facts.as_ref().unwrap();
        assert!(facts.clock_ahead_ms.unsigned_abs() <= facts.clock_uncertain_ms + 1, "{facts:?}");
        let heard = &probed[0].heard.as_ref().unwrap().packets;
        let at = |protocol: ProbeProtocol, port: u32| {
            heard.iter().find(|packets| packets.protocol() == protocol && packets.port == port)
        };
        assert_eq!(at(ProbeProtocol::Udp, 4789).unwrap().sizes.last(), Some(&1500), "{heard:?}");
        assert!(
            at(ProbeProtocol::Udp, 7946).is_some() && at(ProbeProtocol::Tcp, 7946).is_some(),
            "{heard:?}"
        );
        let sent = &probed[0].sent.as_ref().unwrap().peers;
        let peers: Vec<u32> = sent.iter().map(|sent| sent.peer).collect();
        assert_eq!(peers, [0], "nothing is sent to hosts that do not answer");
        let unknown = probed[1].facts.as_ref().unwrap_err();
        assert!(matches!(unknown, AskError::Unreached(HubError::NoAgent { .. })), "{unknown}");
    }
    agent.stop().await;
}

/// One request to the agent, whose answer is one reply.
async fn asked(hub: &Hub, request: Option<Request>) -> Reply {
    let mut stream = hub.agent(HOST, None).await.unwrap();
    write_message(&mut stream, &AgentRequest { request }, MESSAGE_BYTES_MAX).await.unwrap();
    let answer: AgentReply = read_message(&mut stream, MESSAGE_BYTES_MAX).await.unwrap();
    let end = read_message::<AgentReply, _>(&mut stream, MESSAGE_BYTES_MAX).await;
    assert!(matches!(end, Err(FramingError::Ended)), "{end:?}");
    answer.reply.unwrap()
}

async fn upload(docker: &bollard::Docker) {
    let body = futures::stream::iter(pattern(BODY_BYTES)).map(Ok::<Bytes, std::io::Error>);
    let answers = docker.import_image_stream(ImportImageOptions::default(), body, None);
    let answers: Vec<_> = answers.try_collect().await.unwrap();
    let sum = pattern(BODY_BYTES).fold(0, |sum, chunk| checksum(sum, &chunk));
    assert_eq!(answers[0].stream.as_deref(), Some(format!("{BODY_BYTES} bytes, {sum:x}").as_str()));
}

async fn download(docker: &bollard::Docker) {
    let (bytes, sum) = docker
        .export_image("any")
        .try_fold((0, 0), async |(bytes, sum), chunk| Ok((bytes + chunk.len(), checksum(sum, &chunk))))
        .await
        .unwrap();
    let expected = pattern(BODY_BYTES).fold(0, |sum, chunk| checksum(sum, &chunk));
    assert_eq!((bytes, sum), (BODY_BYTES, expected));
}

/// A hijacked connection that ends our direction first and still gets the rest of the answer.
async fn converse(docker: &bollard::Docker) {
    let StartExecResults::Attached { mut output, mut input } = docker.start_exec("any", None).await.unwrap()
    else {
        panic!("not attached");
    };
    let greeting = output.next().await.unwrap().unwrap().to_string();
    assert_eq!(greeting, "hello\n");
    input.write_all(b"some input").await.unwrap();
    input.shutdown().await.unwrap();
    let mut rest = String::new();
    while let Some(line) = output.next().await {
        rest.push_str(&line.unwrap().to_string());
    }
    assert_eq!(rest, "got: some input, bye\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_lost_its_manager_goes_to_another_and_streams_break_with_an_error() {
    let (first, second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    first.connected().await;
    let mut stream = first.hub.open(HOST, None).await.unwrap();
    let mut tunnelled = second.hub.open(HOST, None).await.unwrap();
    // The join file does not name the second manager: its address comes with a reply.
    first.tells_agents_about(&second);
    agent.has_learnt_of(&second).await;

    first.stop();
    let lost = tokio::time::timeout(DEADLINE, tunnelled.read(&mut [0])).await.unwrap();
    lost.expect_err("a lost tunnel is not an orderly end");
    let lost = tokio::time::timeout(DEADLINE, stream.read(&mut [0])).await.unwrap();
    lost.expect_err("a lost link is not an orderly end");

    second.connected().await;
    second.hub.docker(HOST, None).ping().await.unwrap();
    first.disconnected().await;
    agent.stop().await;
}

/// A manager that is cut off from the others is of no use to its agents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_are_sent_away_go_to_another_manager_although_the_first_still_answers() {
    let (first, second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    first.connected().await;
    first.tells_agents_about(&second);
    agent.has_learnt_of(&second).await;
    first.hub_has(HOST).await;

    assert_eq!(first.hub.disconnect_all(), 1);
    first.disconnected().await;
    let session = second.connected().await.session;
    second.hub.docker(HOST, None).ping().await.unwrap();
    let held = std::collections::BTreeSet::from([(HOST.to_owned(), session)]);
    assert_eq!(second.hub.roll_call().await.held, held, "it is held once");
    agent.stop().await;
}

/// What cannot be written down is good for as long as the agent runs, and its host is served all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_can_write_nothing_any_more_goes_on_and_finds_the_managers_that_it_was_told() {
    let (first, second) = Manager::two().await;
    let engine = Engine::absent();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    first.connected().await;
    first.hub_has(HOST).await;
    agent.can_write_nothing();
    first.tells_agents_about(&second);
    // A report is answered with the managers there are, and an engine that is there again is reported at once.
    engine.begin();
    first.reported(|report| report.engine_up).await;
    for _ in 0..3 {
        first.hub.docker(HOST, None).ping().await.unwrap();
    }
    assert!(!agent.has_written_down(&second), "nothing could be written");

    first.stop();
    second.connected().await;
    second.hub.docker(HOST, None).ping().await.unwrap();
    agent.stop().await;
}

/// A manager that dies together with its agent tells nobody that the agent is gone: the others do not hold it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_manager_learns_who_holds_which_agent_and_the_dead_hold_none() {
    let (first, second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    let session = first.connected().await.session;
    first.hub_has(HOST).await;
    let held = std::collections::BTreeSet::from([(HOST.to_owned(), session)]);
    for manager in [&first, &second] {
        let call = manager.hub.roll_call().await;
        assert_eq!((call.held, call.incomplete), (held.clone(), false));
    }
    first.stop();
    agent.stop().await;
    let call = second.hub.roll_call().await;
    assert_eq!((call.held.len(), call.incomplete), (0, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_known_again_after_a_restart_without_its_join_file() {
    let (first, _second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    let session = first.connected().await.session;
    let agent = agent.restart_without_join_file().await;
    first.connected_other_than(&session).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lower_term_is_refused_through_every_manager() {
    let (first, second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    let session = first.connected().await.session;
    second.hub.docker(HOST, Some(5)).ping().await.unwrap();
    for manager in [&first, &second] {
        let expected = HubError::StaleTerm { host: HOST.into(), term: 4, obeyed: 5 };
        assert_eq!(refusal(&manager.hub, Some(4)).await, expected);
        let error = manager.hub.docker(HOST, Some(4)).ping().await.unwrap_err();
        assert_eq!(hub_error(&error), Some(&expected), "{error}");
        manager.hub.docker(HOST, Some(5)).ping().await.unwrap();
        manager.hub.docker(HOST, None).ping().await.unwrap();
    }
    let agent = agent.restart_without_join_file().await;
    first.connected_other_than(&session).await;
    first.hub_has(HOST).await;
    assert!(matches!(refusal(&first.hub, Some(4)).await, HubError::StaleTerm { obeyed: 5, .. }));
    agent.stop().await;
}

async fn refusal(hub: &Hub, term: Option<u64>) -> HubError {
    match hub.open(HOST, term).await {
        Ok(_) => panic!("the stream was opened"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_an_agent_is_a_clear_error() {
    let (first, second) = Manager::two().await;
    assert_eq!(refusal(&first.hub, None).await, HubError::NoAgent { host: HOST.into() });
    second.stop();
    assert_eq!(refusal(&first.hub, None).await, HubError::NoAgent { host: HOST.into() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_down_is_reported_and_comes_back() {
    let (first, second) = Manager::two().await;
    let engine = Engine::absent();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    let report = first.connected().await;
    assert!(!report.engine_up && report.engine_error.contains("docker.sock"), "{report:?}");
    for manager in [&first, &second] {
        assert!(matches!(refusal(&manager.hub, None).await, HubError::Engine { .. }));
    }
    engine.begin();
    first.reported(|report| report.engine_up).await;
    second.hub.docker(HOST, None).ping().await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_and_a_wrong_cluster_are_refused_for_good() {
    let (first, _second) = Manager::two().await;
    let engine = Engine::start();
    let mut join = first.join_file(&[&first]);
    join.token = pki::registration_token(&first.identity.registration_key, CLUSTER, "another-host");
    let ended = RunningAgent::start(&engine, join).ended().await;
    assert!(matches!(&ended, Err(AgentError::Refused { code, .. }) if code == "TOKEN_INVALID"), "{ended:?}");
    assert!(first.hub.local_hosts().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_cannot_be_decided_is_tried_again() {
    let (first, _second) = Manager::two().await;
    first.refuse_as_unavailable(2);
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    first.connected().await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_certificates_are_refused() {
    let (first, _second) = Manager::two().await;
    let foreign = Identity::create(CLUSTER, 2, &[]).unwrap();

    // A host of another authority.
    let key_pem = pki::generate_key().unwrap();
    let csr = pki::certificate_request(&key_pem, HOST).unwrap();
    let certificate_pem = foreign.authority().unwrap().sign_host_csr(&csr, HOST).unwrap();
    let tls = pki::client_config(&first.identity.ca_pem, Some((&certificate_pem, &key_pem)), &[ALPN_AGENT])
        .unwrap();
    let tcp = tokio::net::TcpStream::connect(&first.address).await.unwrap();
    let name = pki::managers_server_name(CLUSTER).unwrap();
    let mut link = tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await.unwrap();
    link.read(&mut [0]).await.expect_err("the handshake is refused");

    // A manager of another authority.
    let intruder = Manager::start(foreign, 2).await;
    intruder.knows(&first);
    first.knows(&intruder);
    assert_eq!(refusal(&intruder.hub, None).await, HubError::NoAgent { host: HOST.into() });
    assert_eq!(refusal(&first.hub, None).await, HubError::NoAgent { host: HOST.into() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnected_agent_dials_again() {
    let (first, _second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    let session = first.connected().await.session;
    first.hub_has(HOST).await;
    first.hub.disconnect(HOST);
    first.disconnected().await;
    first.connected_other_than(&session).await;
    agent.stop().await;
}

/// An agent whose manager has silently gone may be back elsewhere long before the silence is noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_session_does_not_hide_a_living_one_elsewhere() {
    let (first, second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&second]);
    second.connected().await;
    let _silent = support::silent_agent(&first).await;
    first.hub_has(HOST).await;
    let opened = tokio::time::timeout(Duration::from_secs(8), first.hub.docker(HOST, None).ping()).await;
    opened.expect("the living session answers before the dead one is given up").unwrap();
    agent.stop().await;
}
