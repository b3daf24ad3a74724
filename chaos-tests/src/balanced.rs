//! Managers behind a real load balancer, and clients that go on asking while managers stop and die.
//!
//! Each client has one request under way and repeats what failed, a change with the same key each time; so whatever was
//! acknowledged must be there, and once.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Certificate, Client, ClientBuilder, Method};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::balancer::Balancer;
use crate::managers::Managers;

/// Every so many requests of a client one is a change.
const CHANGE_EVERY: usize = 10;

/// The load balancer asks every second, and believes the second answer.
const NOTICE_SECONDS: u32 = 4;

/// A client that has heard nothing for so long asks again.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Before a client repeats what failed.
const PAUSE: Duration = Duration::from_millis(20);

/// What a phase needs to mean something.
const REQUESTS_PER_PHASE: usize = 500;

/// Three managers, HAProxy before them, and clients that ask through it.
pub struct Balanced {
    /// The managers.
    pub managers: Managers,
    seen: Arc<Seen>,
    clients: Runtime,
    running: Vec<JoinHandle<Result<()>>>,
    balancer: Balancer,
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
    made: Mutex<BTreeSet<String>>,
    stop: AtomicBool,
}

/// What the clients were told in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Requests that were answered as wished.
    pub answered: usize,
    /// Changes among them; each was made once.
    pub changes: usize,
}

impl Balanced {
    /// Starts everything, and waits until clients are answered. Each client makes at most `changes` changes.
    pub fn start(clients: usize, changes: usize) -> Result<Balanced> {
        let managers = Managers::found_with_notice(3, NOTICE_SECONDS)?;
        let balancer = Balancer::haproxy(&managers, &[])?;
        let mut balanced = Balanced {
            managers,
            seen: Arc::default(),
            clients: Runtime::new().context("starting the clients")?,
            running: vec![],
            balancer,
        };
        for number in 0..clients {
            let client = client(&balanced.managers)?.build().context("making a client")?;
            let load = load(number, changes, client, balanced.balancer.url(), balanced.seen.clone());
            balanced.running.push(balanced.clients.spawn(load));
        }
        balanced.phase()?;
        // Until the load balancer has seen all of them for the first time, it may not know any.
        balanced.failures();
        balanced.phase()?;
        Ok(balanced)
    }

    /// Waits until so many more requests were answered that it means something.
    pub fn phase(&self) -> Result<()> {
        let until = self.answered() + REQUESTS_PER_PHASE;
        self.managers
            .wait_for("enough requests to be answered", || Ok((self.answered() >= until).then_some(())))
    }

    /// What has failed since this was asked last.
    pub fn failures(&self) -> Vec<String> {
        std::mem::take(&mut *held(&self.seen.failures))
    }

    /// The manager that leads.
    pub fn leader(&self) -> Result<usize> {
        self.managers.wait_for("a leader", || self.managers.leader())
    }

    /// Lets a manager stop as planned.
    pub fn stop(&mut self, number: usize) -> Result<()> {
        let pid = Pid::from_raw(self.managers.pid(number)?.try_into().context("its number does not fit")?);
        kill(pid, Signal::SIGTERM).context("telling a manager to stop")?;
        let ended = self.managers.ended(number)?;
        ensure!(ended.success(), "m{number} ended with {ended}");
        Ok(())
    }

    /// Lets a manager come back.
    pub fn come_back(&mut self, number: usize) -> Result<()> {
        self.managers.start(number)?;
        self.managers.all_caught_up()
    }

    /// Lets the clients finish and compares what they were told with what there is.
    pub fn end(mut self) -> Result<Told> {
        self.seen.stop.store(true, Ordering::Relaxed);
        for client in self.running.drain(..) {
            self.clients.block_on(client).context("a client stopped")??;
        }
        let made = held(&self.seen.made).clone();
        each_was_made_once(&self.managers, &made)?;
        Ok(Told { answered: self.seen.answered.load(Ordering::Relaxed), changes: made.len() })
    }

    fn answered(&self) -> usize {
        self.seen.answered.load(Ordering::Relaxed)
    }
}

fn held<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client of the administrator's, that knows the managers' authority.
pub fn client(managers: &Managers) -> Result<ClientBuilder> {
    let token = fs::read_to_string(managers.admin_token()).context("reading the token")?;
    let authority = fs::read(managers.authority()).context("reading the authority")?;
    let bearer = format!("Bearer {}", token.trim()).parse().context("the token is no header")?;
    let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
    let authority = Certificate::from_pem(&authority).context("reading the authority")?;
    let client = Client::builder().tls_certs_only([authority]).default_headers(headers).no_proxy();
    Ok(client.timeout(ANSWER_MAX))
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
        let failure = match request.send().await {
            Ok(answer) if answer.status().is_success() => {
                seen.answered.fetch_add(1, Ordering::Relaxed);
                if let Some(name) = change {
                    held(&seen.made).insert(name.to_owned());
                }
                return;
            }
            Ok(answer) => format!("{} {}", answer.status(), answer.text().await.unwrap_or_default()),
            Err(error) => format!("{error:?}"),
        };
        held(&seen.failures).push(format!("{method} {url}: {failure}"));
        tokio::time::sleep(PAUSE).await;
    }
}

async fn load(number: usize, most: usize, client: Client, url: String, seen: Arc<Seen>) -> Result<()> {
    let mut changes = 0;
    for request in 1.. {
        if seen.stop.load(Ordering::Relaxed) {
            break;
        }
        if request % CHANGE_EVERY == 0 && changes < most {
            changes += 1;
            let name = format!("t-{number}-{changes}");
            ask(&client, &seen, Method::POST, &format!("{url}/v1/templates"), Some(&name)).await;
        } else {
            ask(&client, &seen, Method::GET, &format!("{url}/v1/roles/member"), None).await;
        }
    }
    Ok(())
}

/// What the clients were told is so, and the audit tells of each change once.
fn each_was_made_once(managers: &Managers, made: &BTreeSet<String>) -> Result<()> {
    let listed = |words: &[&str]| -> Result<Vec<Value>> {
        let text = managers.succeed(&[words, &["-o", "json"]].concat())?;
        let listed: Value = serde_json::from_str(&text).context("reading a list")?;
        Ok(listed["items"].as_array().cloned().unwrap_or_default())
    };
    let templates = listed(&["template", "ls"])?;
    let names = templates.iter().filter_map(|template| template["metadata"]["name"].as_str());
    let there: BTreeSet<String> = names.filter(|name| name.starts_with("t-")).map(str::to_owned).collect();
    ensure!(
        there == *made,
        "acknowledged and not there: {:?}; there and not acknowledged: {:?}",
        made.difference(&there).collect::<Vec<_>>(),
        there.difference(made).collect::<Vec<_>>()
    );
    let audit = listed(&["audit", "ls", "--outcome", "done"])?;
    let makings = audit.iter().filter(|entry| entry["call"] == "POST /v1/templates").count();
    ensure!(makings == made.len(), "{makings} were made, {} were acknowledged", made.len());
    Ok(())
}

/// Managers that stop and die in turn, for as long as that is asked for: what failed meanwhile, and what of it may have.
pub fn storm(clients: usize, rounds: usize, round: Duration) -> Result<Value> {
    let mut balanced = Balanced::start(clients, usize::MAX)?;
    let (mut on_stop, mut on_kill) = (vec![], vec![]);
    for number in 0..rounds {
        let began = std::time::Instant::now();
        let leader = balanced.leader()?;
        balanced.stop(leader)?;
        balanced.come_back(leader)?;
        balanced.phase()?;
        on_stop.push(balanced.failures());
        let victim = if number % 2 == 0 { balanced.leader()? } else { balanced.leader()? % 3 + 1 };
        balanced.managers.kill(victim)?;
        balanced.phase()?;
        balanced.come_back(victim)?;
        balanced.phase()?;
        on_kill.push(balanced.failures());
        println!(
            "round {}: {} failed on stop, {} on kill",
            number + 1,
            on_stop[number].len(),
            on_kill[number].len()
        );
        std::thread::sleep(round.saturating_sub(began.elapsed()));
    }
    let told = balanced.end()?;
    let count = |all: &[Vec<String>]| all.iter().map(Vec::len).collect::<Vec<_>>();
    Ok(json!({
        "clients": clients,
        "answered": told.answered,
        "changes_each_made_once": told.changes,
        "failed_on_stop": count(&on_stop),
        "failed_on_kill": count(&on_kill),
        "examples": on_stop.iter().chain(&on_kill).flatten().take(5).collect::<Vec<_>>(),
    }))
}
