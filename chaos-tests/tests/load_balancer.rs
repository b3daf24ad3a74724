//! Clients behind a real load balancer notice nothing of a manager that stops as planned, and repeat what a dead one did not answer.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Certificate, Client, Method, StatusCode};
use serde_json::{Value, json};
use skep_chaos_tests::managers::Managers;
use skep_chaos_tests::process::Process;
use tokio::runtime::Runtime;

/// Clients at once; each has one request under way.
const CLIENTS: usize = 16;

/// Changes of each client.
const CHANGES_PER_CLIENT: usize = 50;

/// Every so many requests of a client one is a change.
const CHANGE_EVERY: usize = 10;

/// The load balancer asks every second, and believes the second answer.
const NOTICE_SECONDS: u32 = 4;

/// What a phase needs to mean something.
const REQUESTS_PER_PHASE: usize = 500;

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
    made: Mutex<BTreeSet<String>>,
    stop: AtomicBool,
}

/// Asks until there is an answer that is one; the same change has the same key each time.
async fn ask(client: &Client, seen: &Seen, method: Method, url: &str, change: Option<&str>) {
    loop {
        let mut request = client.request(method.clone(), url);
        if let Some(name) = change {
            request = request
                .header("idempotency-key", name)
                .json(&json!({"document": format!("name: {name}\nswarm:\n  managers: 1\n")}));
        }
        match request.send().await {
            Ok(answer) if answer.status().is_success() => {
                seen.answered.fetch_add(1, Ordering::Relaxed);
                if let Some(name) = change {
                    assert_eq!(answer.status(), StatusCode::CREATED);
                    seen.made.lock().expect("nobody has panicked").insert(name.to_owned());
                }
                return;
            }
            Ok(answer) => {
                let status = answer.status();
                let failure = format!("{method} {url}: {status} {}", answer.text().await.unwrap_or_default());
                seen.failures.lock().expect("nobody has panicked").push(failure);
            }
            Err(error) => {
                seen.failures.lock().expect("nobody has panicked").push(format!("{method} {url}: {error:?}"))
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn load(number: usize, client: Client, url: String, seen: Arc<Seen>) {
    let mut changes = 0;
    for request in 1.. {
        if seen.stop.load(Ordering::Relaxed) {
            return;
        }
        if request % CHANGE_EVERY == 0 && changes < CHANGES_PER_CLIENT {
            changes += 1;
            let name = format!("t-{number}-{changes}");
            ask(&client, &seen, Method::POST, &format!("{url}/v1/templates"), Some(&name)).await;
        } else {
            ask(&client, &seen, Method::GET, &format!("{url}/v1/roles/member"), None).await;
        }
    }
}

fn succeeds(command: &mut Command) {
    let ran = command.output().expect("is installed by deploy/setup.sh");
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// nginx takes what is printed for it.
fn nginx_takes(folder: &Path, config: &str) {
    let file = folder.join("nginx.conf");
    let module = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;";
    let own =
        format!("{module}\npid {}/nginx.pid;\nerror_log stderr;\nevents {{}}\n{config}", folder.display());
    fs::write(&file, own).expect("is written");
    succeeds(Command::new("/usr/sbin/nginx").arg("-t").arg("-c").arg(&file));
}

/// What the clients were told is so, and the audit tells of each change once.
fn each_was_made_once(managers: &Managers, made: &BTreeSet<String>) {
    let listed = |words: &[&str]| -> Vec<Value> {
        let text = managers.succeed(&[words, &["-o", "json"]].concat()).expect("is listed");
        serde_json::from_str::<Value>(&text).expect("is JSON")["items"].as_array().expect("is a list").clone()
    };
    let named = |template: &Value| template["metadata"]["name"].as_str().expect("has one").to_owned();
    let there = listed(&["template", "ls"])
        .iter()
        .map(named)
        .filter(|name| name.starts_with("t-"))
        .collect::<BTreeSet<_>>();
    assert_eq!(there, *made, "what was acknowledged is there, and nothing else");
    let audit = listed(&["audit", "ls", "--outcome", "done"]);
    let makings = audit.iter().filter(|entry| entry["call"] == "POST /v1/templates").count();
    assert_eq!(makings, made.len(), "each was made once");
}

#[test]
fn a_manager_that_stops_behind_haproxy_fails_no_request_and_one_that_dies_loses_no_change() {
    let mut managers = Managers::found_with_notice(3, NOTICE_SECONDS).expect("three managers");
    let folder = tempfile::tempdir().expect("a folder");
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("has one").port();
    let listen = format!("127.0.0.1:{port}");
    let ca = managers.data_dir(1).join("identity/ca.pem");
    let ca = ca.to_str().expect("is text");
    let config = folder.path().join("haproxy.cfg");
    let printed = managers.succeed(&["lb-config", "haproxy", "--listen", &listen, "--balancer-ca-file", ca]);
    fs::write(&config, printed.expect("is printed")).expect("is written");
    succeeds(Command::new("/usr/sbin/haproxy").arg("-c").arg("-f").arg(&config));
    let printed = managers.succeed(&["lb-config", "nginx", "--listen", &listen]).expect("is printed");
    nginx_takes(folder.path(), &printed);

    let mut haproxy = Command::new("/usr/sbin/haproxy");
    haproxy.arg("-db").arg("-f").arg(&config);
    let balancer = Process::start(haproxy, &folder.path().join("haproxy.log")).expect("starts");
    let seen = Arc::new(Seen::default());
    let token = fs::read_to_string(managers.data_dir(1).join("../admin-token")).expect("a token");
    let clients = Runtime::new().expect("a runtime");
    let mut running = vec![];
    for number in 0..CLIENTS {
        let authority = Certificate::from_pem(&fs::read(ca).expect("reads")).expect("is one");
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", token.trim()).parse().expect("is a header"));
        let client = Client::builder().tls_certs_only([authority]).default_headers(headers).no_proxy();
        let client = client.timeout(Duration::from_secs(15)).build().expect("is built");
        running.push(clients.spawn(load(number, client, format!("https://{listen}"), seen.clone())));
    }
    let failures = || seen.failures.lock().expect("nobody has panicked").clone();
    let phase = |managers: &Managers| {
        let until = seen.answered.load(Ordering::Relaxed) + REQUESTS_PER_PHASE;
        let enough = || Ok((seen.answered.load(Ordering::Relaxed) >= until).then_some(()));
        managers.wait_for("enough requests to be answered", enough).expect("requests are answered");
    };
    phase(&managers);
    // Until the load balancer has seen all of them for the first time, it may not know any.
    seen.failures.lock().expect("nobody has panicked").clear();
    phase(&managers);

    let leader = managers.leader().expect("asks").expect("there is one");
    let pid = Pid::from_raw(managers.pid(leader).expect("runs").try_into().expect("fits"));
    kill(pid, Signal::SIGTERM).expect("is sent");
    assert!(managers.ended(leader).expect("ends").success());
    phase(&managers);
    assert_eq!(failures(), Vec::<String>::new(), "the leader stopped as planned");
    managers.start(leader).expect("starts");
    managers.all_caught_up().expect("catches up");
    phase(&managers);
    assert_eq!(failures(), Vec::<String>::new(), "it came back");

    let leader = managers.leader().expect("asks").expect("there is one");
    managers.kill(leader).expect("is killed");
    phase(&managers);
    let failed = failures();
    assert!(failed.len() <= CLIENTS, "more than what was under way: {failed:#?}");
    managers.start(leader).expect("starts");
    managers.all_caught_up().expect("catches up");

    seen.stop.store(true, Ordering::Relaxed);
    for client in running {
        clients.block_on(client).expect("has not panicked");
    }
    balancer.kill().expect("ends");
    let made = seen.made.lock().expect("nobody has panicked").clone();
    each_was_made_once(&managers, &made);
    println!(
        "{} requests, {} failed when a manager was killed",
        seen.answered.load(Ordering::Relaxed),
        failed.len()
    );
}
