//! A check of hosts and of the network between them, made by their agents all at the same time.
//!
//! ```text
//!   1  how are you?   ─► facts        every host
//!   2  listen         ─► listening    every host; whoever is not ready in time takes no part
//!   3  send           ─► sent         every host that takes part, to others that do
//!   4  (end)          ─► heard
//! ```
//! 2 to 4 are done quickly first. Where everything has arrived, that was it; otherwise they are done again, with patience for
//! what is late or gets lost on good lines too.
//!
//! A host that does not answer is an observation, not an error. What the observations mean is decided elsewhere.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream::{self, StreamExt};
use skep_wire::proto::agent::agent_reply::Reply;
use skep_wire::proto::agent::agent_request::Request;
use skep_wire::proto::agent::{
    FactsRequest, Heard, HostFacts, ListenRequest, ProbePeer, ProbeProtocol, SendRequest, Sent, SentTo,
    TcpAttempt, TcpOutcome,
};
use skep_wire::random;
use tokio::time::{Instant, timeout, timeout_at};

use crate::Hub;
use crate::request::{AskError, Asked};

/// Agents asked at the same time: as many as an environment can have hosts, because all of them must listen at once. Each
/// holds a stream or two for as long.
const HOSTS_AT_ONCE_MAX: usize = 1_000;

/// An agent asks its engine, which may take its time, before it tells how the host is.
const FACTS_MAX: Duration = Duration::from_secs(8);

/// All hosts must listen before the first one sends; whoever is not ready by then does not hold up the others.
const LISTENING_MAX: Duration = Duration::from_secs(3);

/// An agent that sends to a thousand hosts, none of which answers, takes six seconds; to a few it takes one or two.
const SENT_MAX: Duration = Duration::from_secs(7);

/// An agent listens on for a moment, and tells.
const HEARD_MAX: Duration = Duration::from_secs(3);

/// How long agents are asked to listen: until all have sent, should each phase take all its time. No agent listens for
/// longer than ten seconds.
const LISTEN_FOR: Duration = LISTENING_MAX.saturating_add(SENT_MAX);

/// What is to be checked.
#[derive(Debug, Clone)]
pub struct ProbePlan {
    /// The hosts.
    pub hosts: Vec<ProbeHost>,
    /// Ports that take datagrams, on every host.
    pub udp_ports: Vec<u16>,
    /// The one of them to which large packets are sent.
    pub sizes_port: u16,
    /// Sizes of packets, with all headers.
    pub sizes: Vec<u32>,
}

/// One host of a probe.
#[derive(Debug, Clone)]
pub struct ProbeHost {
    /// Its id.
    pub id: String,
    /// Where other hosts reach it.
    pub address: String,
    /// Ports to which others try to connect.
    pub tcp_ports: Vec<u16>,
    /// To whom it sends: places in the plan's list.
    pub targets: Vec<usize>,
}

/// What was found out about one host. Indices of peers and senders are places in the plan's list.
#[derive(Debug)]
pub struct HostProbed {
    /// How it is.
    pub facts: Result<HostFactsAt, AskError>,
    /// What has arrived there.
    pub heard: Result<Heard, AskError>,
    /// What became of what it sent.
    pub sent: Result<Sent, AskError>,
}

/// What has arrived at a host, and what became of what it sent.
type NetworkProbed = (Result<Heard, AskError>, Result<Sent, AskError>);

/// How a host is, and what its clock said.
#[derive(Debug)]
pub struct HostFactsAt {
    /// As the agent told it.
    pub facts: HostFacts,
    /// How far the host's clock is ahead of this manager's; negative: behind.
    pub clock_ahead_ms: i64,
    /// By how much that may be wrong: half of the time that question and answer were on their way.
    pub clock_uncertain_ms: u64,
}

impl Hub {
    /// Makes the check. Takes less than a second where nothing is wrong, otherwise a few; about as long for many hosts as for
    /// two.
    pub async fn probe(&self, plan: &ProbePlan) -> Vec<HostProbed> {
        let network = async {
            let quickly = self.probe_network(plan, true).await;
            match misses_something(plan, &quickly) {
                false => quickly,
                true => self.probe_network(plan, false).await,
            }
        };
        let (facts, network) = tokio::join!(self.facts(plan), network);
        let pairs = facts.into_iter().zip(network);
        pairs.map(|(facts, (heard, sent))| HostProbed { facts, heard, sent }).collect()
    }

    /// Can this host connect to that port?
    pub async fn connects(&self, host: &str, address: &str, port: u16) -> Result<bool, AskError> {
        let peer =
            ProbePeer { address: address.to_owned(), tcp_ports: wide(&[port]), ..ProbePeer::default() };
        let request =
            SendRequest { run: random::bytes::<8>().into(), peers: vec![peer], ..SendRequest::default() };
        let deadline = Instant::now() + SENT_MAX;
        let sent = by(deadline, SENT_MAX, self.send_probes(host, Some(request))).await?;
        let connected = |attempt: &TcpAttempt| attempt.outcome() == TcpOutcome::Connected;
        Ok(sent.peers.iter().flat_map(|peer| &peer.connections).any(connected))
    }

    async fn facts(&self, plan: &ProbePlan) -> Vec<Result<HostFactsAt, AskError>> {
        let deadline = Instant::now() + FACTS_MAX;
        let asking = plan.hosts.iter().map(|host| by(deadline, FACTS_MAX, self.facts_of(&host.id)));
        all(asking.collect()).await
    }

    async fn facts_of(&self, host: &str) -> Result<HostFactsAt, AskError> {
        let stream = self.agent(host, None).await?;
        // Only now: finding the way to the agent, perhaps over another manager, takes longer than asking it.
        let asked_at = milliseconds_since_1970();
        let mut asked = Asked::on(stream, Request::Facts(FactsRequest {})).await?;
        match asked.reply().await? {
            Reply::Facts(facts) => Ok(compare_clocks(facts, asked_at, milliseconds_since_1970())),
            _ => Err(AskError::OutOfPlace),
        }
    }

    async fn probe_network(&self, plan: &ProbePlan, quick: bool) -> Vec<NetworkProbed> {
        let run = random::bytes::<8>();
        let deadline = Instant::now() + LISTENING_MAX;
        let listen = listen_request(plan, run, quick);
        let listening =
            plan.hosts.iter().map(|host| by(deadline, LISTENING_MAX, self.listen(&host.id, &listen)));
        let ears = all(listening.collect()).await;
        let takes_part: Vec<bool> = ears.iter().map(takes_part).collect();

        let deadline = Instant::now() + SENT_MAX;
        let sending = plan.hosts.iter().enumerate().map(|(at, host)| {
            let request = takes_part[at].then(|| send_request(plan, run, at, &takes_part, quick));
            by(deadline, SENT_MAX, self.send_probes(&host.id, request))
        });
        let sent = all(sending.collect()).await;

        let hearing = ears
            .into_iter()
            .map(|ear| async { timeout(HEARD_MAX, hear(ear?)).await.unwrap_or(Err(silent(HEARD_MAX))) });
        let heard = all(hearing.collect()).await;
        heard.into_iter().zip(sent).collect()
    }

    async fn listen(&self, host: &str, request: &ListenRequest) -> Result<Asked, AskError> {
        let mut asked = self.ask(host, Request::Listen(request.clone())).await?;
        match asked.reply().await? {
            Reply::Listening(_) => Ok(asked),
            _ => Err(AskError::OutOfPlace),
        }
    }

    async fn send_probes(&self, host: &str, request: Option<SendRequest>) -> Result<Sent, AskError> {
        let request = request.ok_or(AskError::NotAsked)?;
        match self.ask(host, Request::Send(request)).await?.reply().await? {
            Reply::Sent(sent) => Ok(sent),
            _ => Err(AskError::OutOfPlace),
        }
    }
}

/// The answers in the order of the questions, so many of which are asked at once.
async fn all<T>(asking: Vec<impl Future<Output = T>>) -> Vec<T> {
    stream::iter(asking).buffered(HOSTS_AT_ONCE_MAX).collect().await
}

async fn hear(mut ear: Asked) -> Result<Heard, AskError> {
    ear.end().await?;
    match ear.reply().await? {
        Reply::Heard(heard) => Ok(heard),
        _ => Err(AskError::OutOfPlace),
    }
}

/// A host that cannot listen can still send and be connected to, as long as its agent answers.
fn takes_part(ear: &Result<Asked, AskError>) -> bool {
    match ear {
        Ok(_) => true,
        Err(error) => error.is_its_answer(),
    }
}

fn listen_request(plan: &ProbePlan, run: [u8; 8], quick: bool) -> ListenRequest {
    let mut tcp_ports: Vec<u16> = plan.hosts.iter().flat_map(|host| host.tcp_ports.clone()).collect();
    tcp_ports.sort_unstable();
    tcp_ports.dedup();
    ListenRequest {
        run: run.into(),
        udp_ports: wide(&plan.udp_ports),
        tcp_ports: wide(&tcp_ports),
        duration_ms: LISTEN_FOR.as_millis() as u32,
        quick,
    }
}

fn send_request(
    plan: &ProbePlan,
    run: [u8; 8],
    sender: usize,
    takes_part: &[bool],
    quick: bool,
) -> SendRequest {
    let targets = plan.hosts[sender].targets.iter().copied();
    let peers = targets.filter(|target| takes_part[*target]).map(|target| {
        let host = &plan.hosts[target];
        ProbePeer {
            peer: target as u32,
            address: host.address.clone(),
            tcp_ports: wide(&host.tcp_ports),
            udp_ports: wide(&plan.udp_ports),
            sizes_port: plan.sizes_port.into(),
            sizes: plan.sizes.clone(),
        }
    });
    SendRequest { run: run.into(), sender: sender as u32, peers: peers.collect(), quick }
}

/// Is there a way on which anything was sent that did not arrive, as far as both ends tell?
fn misses_something(plan: &ProbePlan, probed: &[NetworkProbed]) -> bool {
    probed.iter().enumerate().any(|(from, (_, sent))| {
        sent.iter().flat_map(|sent| &sent.peers).any(|sent| {
            let there = probed.get(sent.peer as usize);
            there
                .and_then(|(heard, _)| heard.as_ref().ok())
                .is_some_and(|heard| lacks(plan, from, sent, heard))
        })
    })
}

fn lacks(plan: &ProbePlan, from: usize, sent: &SentTo, heard: &Heard) -> bool {
    let largest = |port: u16| {
        let of_it = heard.packets.iter().filter(|packet| {
            packet.protocol() == ProbeProtocol::Udp
                && packet.sender as usize == from
                && packet.port == u32::from(port)
        });
        of_it.flat_map(|packet| &packet.sizes).max().copied()
    };
    let answered =
        |attempt: &TcpAttempt| matches!(attempt.outcome(), TcpOutcome::Connected | TcpOutcome::Refused);
    !sent.datagram_error.is_empty()
        || !sent.connections.iter().all(answered)
        || plan.udp_ports.iter().any(|port| largest(*port).is_none())
        || largest(plan.sizes_port).unwrap_or_default() < sent.largest_sent
}

fn wide(ports: &[u16]) -> Vec<u32> {
    ports.iter().map(|port| u32::from(*port)).collect()
}

/// Half of the time on the way is taken for each direction. The time that the agent needed for its answer does not
/// count, because it tells when it was asked and when it answered.
fn compare_clocks(facts: HostFacts, asked_at: i64, answered_at: i64) -> HostFactsAt {
    let (there, back) = (facts.asked_at_ms as i64 - asked_at, facts.answered_at_ms as i64 - answered_at);
    HostFactsAt {
        clock_ahead_ms: (there.saturating_add(back)) / 2,
        clock_uncertain_ms: there.saturating_sub(back).unsigned_abs() / 2,
        facts,
    }
}

fn milliseconds_since_1970() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

async fn by<T>(
    deadline: Instant,
    patience: Duration,
    asking: impl Future<Output = Result<T, AskError>>,
) -> Result<T, AskError> {
    timeout_at(deadline, asking).await.unwrap_or(Err(silent(patience)))
}

fn silent(patience: Duration) -> AskError {
    AskError::Silent { seconds: patience.as_secs() }
}

#[cfg(test)]
mod tests {
    use skep_wire::proto::agent::HeardPackets;

    use super::*;

    #[test]
    fn a_second_probe_is_made_if_anything_that_was_sent_has_not_arrived() {
        let host =
            |targets| ProbeHost { id: String::new(), address: String::new(), tcp_ports: vec![], targets };
        let plan = ProbePlan {
            hosts: vec![host(vec![1]), host(vec![])],
            udp_ports: vec![4789, 7946],
            sizes_port: 4789,
            sizes: vec![1400, 1500],
        };
        let missed = |change: &dyn Fn(&mut SentTo, &mut Vec<HeardPackets>)| {
            let attempt =
                TcpAttempt { port: 7946, outcome: TcpOutcome::Refused.into(), ..TcpAttempt::default() };
            let mut sent =
                SentTo { peer: 1, connections: vec![attempt], largest_sent: 1500, ..SentTo::default() };
            let arrived = |port: u32, sizes: &[u32]| HeardPackets {
                protocol: ProbeProtocol::Udp.into(),
                port,
                sizes: sizes.into(),
                ..HeardPackets::default()
            };
            let mut packets = vec![arrived(4789, &[1400, 1500]), arrived(7946, &[48])];
            change(&mut sent, &mut packets);
            let probed = [
                (Ok(Heard::default()), Ok(Sent { peers: vec![sent] })),
                (Ok(Heard { packets }), Ok(Sent::default())),
            ];
            misses_something(&plan, &probed)
        };
        assert!(!missed(&|_, _| {}));
        assert!(missed(&|sent, _| sent.connections[0].outcome = TcpOutcome::TimedOut.into()));
        assert!(missed(&|sent, _| sent.datagram_error = "no way".into()));
        assert!(missed(&|_, packets| drop(packets.pop())), "nothing has arrived at one of the ports");
        assert!(
            missed(&|_, packets| packets[0].sizes = vec![1400]),
            "a smaller packet than the largest sent"
        );
        assert!(missed(&|_, packets| packets[0].sender = 1), "it was somebody else's");
        let silent = || Err(AskError::OutOfPlace);
        let deaf = [
            (Ok(Heard::default()), Ok(Sent { peers: vec![SentTo { peer: 1, ..SentTo::default() }] })),
            (silent(), Ok(Sent::default())),
        ];
        assert!(!misses_something(&plan, &deaf), "who does not tell would not tell the second time");
    }

    #[test]
    fn clocks_are_compared_without_the_time_that_the_agent_took() {
        let facts =
            |asked_at_ms, answered_at_ms| HostFacts { asked_at_ms, answered_at_ms, ..HostFacts::default() };
        // 20 ms there, 20 ms back, 3 s for the answer; the host is 7 s ahead.
        let seen = compare_clocks(facts(107_020, 110_020), 100_000, 103_040);
        assert_eq!((seen.clock_ahead_ms, seen.clock_uncertain_ms), (7_000, 20));
        let behind = compare_clocks(facts(93_020, 93_020), 100_000, 100_040);
        assert_eq!((behind.clock_ahead_ms, behind.clock_uncertain_ms), (-7_000, 20));
    }
}
