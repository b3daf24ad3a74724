//! Probes between real network namespaces, with a filter that drops one way and a line that carries less than the
//! interfaces promise. Needs root, `ip` and `iptables`, as the driver for local machines does.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, setns};
use skep_wire::proto::agent::{
    Heard, ListenRequest, ProbePeer, ProbeProtocol, SendRequest, Sent, SentTo, TcpOutcome,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{NotProbed, Probes};

const RUN: [u8; 8] = *b"a-probe!";
const SIZES: [u32; 4] = [1300, 1400, 1450, 1500];

/// Namespaces on one bridge that hangs in a namespace of its own; gone with this value.
struct Net {
    switch: String,
    hosts: Vec<String>,
}

impl Net {
    fn of(hosts: usize) -> Net {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::SeqCst);
        let name = |what: String| format!("skdoc-{}-{number}-{what}", std::process::id());
        let net =
            Net { switch: name("switch".into()), hosts: (0..hosts).map(|at| name(at.to_string())).collect() };
        run(&format!("ip netns add {}", net.switch));
        run(&format!("ip -n {} link add br0 type bridge", net.switch));
        run(&format!("ip -n {} link set br0 up", net.switch));
        for (at, host) in net.hosts.iter().enumerate() {
            run(&format!("ip netns add {host}"));
            run(&format!("ip -n {host} link add eth0 type veth peer name port{at} netns {}", net.switch));
            run(&format!("ip -n {} link set port{at} master br0 up", net.switch));
            run(&format!("ip -n {host} link set lo up"));
            run(&format!("ip -n {host} addr add {}/24 dev eth0", address(at)));
            run(&format!("ip -n {host} link set eth0 up"));
        }
        net
    }

    /// What reaches this host may be no larger, although the others' interfaces send more.
    fn narrow(&self, at: usize, mtu: u32) {
        run(&format!("ip -n {} link set port{at} mtu {mtu}", self.switch));
        run(&format!("ip -n {} link set eth0 mtu {mtu}", self.hosts[at]));
    }

    /// The kernel holds the port of overlay networks, as on a host whose engine has made one.
    fn hold_overlay_port(&self, at: usize) {
        let host = &self.hosts[at];
        run(&format!("ip -n {host} link add vx0 type vxlan id 4097 dstport 4789 dev eth0"));
        run(&format!("ip -n {host} link set vx0 up"));
    }

    fn filter(&self, at: usize, rule: &str) {
        run(&format!("ip netns exec {} iptables -w {rule}", self.hosts[at]));
    }

    /// Runs on a thread inside of this host, with a runtime of its own.
    fn inside<T: Send + 'static, F: Future<Output = T>>(
        &self,
        at: usize,
        what: impl FnOnce() -> F + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let path = format!("/run/netns/{}", self.hosts[at]);
        thread::spawn(move || {
            setns(File::open(path).expect("a namespace"), CloneFlags::CLONE_NEWNET).expect("entered");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(what())
        })
    }

    /// Every host hears, every host sends to all others; what each heard and sent.
    fn probe(&self, quick: bool) -> Vec<(Heard, Sent)> {
        let (ready, all_ready) = mpsc::channel();
        let hosts: Vec<_> = (0..self.hosts.len())
            .map(|at| {
                let (ready, others) = (ready.clone(), self.others(at));
                let (go, begin) = oneshot::channel::<()>();
                let (enough, end) = oneshot::channel::<()>();
                let (tell_sent, sent) = mpsc::channel();
                let host = self.inside(at, move || async move {
                    // The engine's gossip, to which others connect.
                    let _gossip = TcpListener::bind("0.0.0.0:7946").await.expect("a port");
                    let probes = Probes::default();
                    let (ears, _alone) =
                        probes.listen(&ListenRequest { quick, ..listening() }).expect("it hears");
                    ready.send(()).expect("the test waits");
                    let (heard, ()) = tokio::join!(
                        ears.hear_until(async {
                            let _ = end.await;
                        }),
                        async {
                            begin.await.expect("the test goes on");
                            let request =
                                SendRequest { run: RUN.into(), sender: at as u32, peers: others, quick };
                            tell_sent
                                .send(probes.send(&request).await.expect("sent"))
                                .expect("the test waits");
                        }
                    );
                    heard
                });
                (host, go, sent, enough)
            })
            .collect();
        for _ in &hosts {
            all_ready.recv().expect("every host hears");
        }
        let (mut waiting, mut ends) = (vec![], vec![]);
        for (host, go, sent, enough) in hosts {
            go.send(()).expect("it waits");
            waiting.push((host, sent));
            ends.push(enough);
        }
        let sent: Vec<Sent> = waiting.iter().map(|(_, sent)| sent.recv().expect("it has sent")).collect();
        for enough in ends {
            // A host that has heard for long enough by itself does not wait for it.
            let _ = enough.send(());
        }
        waiting.into_iter().map(|(host, _)| host.join().expect("it has heard")).zip(sent).collect()
    }

    fn others(&self, at: usize) -> Vec<ProbePeer> {
        (0..self.hosts.len())
            .filter(|other| *other != at)
            .map(|other| ProbePeer {
                peer: other as u32,
                address: address(other).to_string(),
                tcp_ports: vec![2377, 7946],
                udp_ports: vec![4789, 7946],
                sizes_port: 4789,
                sizes: SIZES.into(),
            })
            .collect()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&self.switch]) {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn address(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 7, at as u8 + 1)
}

fn run(command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let done = Command::new(words[0]).args(&words[1..]).output().expect("it can be started");
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

fn listening() -> ListenRequest {
    ListenRequest {
        run: RUN.into(),
        udp_ports: vec![4789, 7946],
        tcp_ports: vec![2377, 7946],
        duration_ms: 10_000,
        quick: false,
    }
}

/// The sizes that arrived from a host at a port; `None` if nothing did.
fn heard(heard: &Heard, from: usize, protocol: ProbeProtocol, port: u32) -> Option<Vec<u32>> {
    let is_it = |packets: &&skep_wire::proto::agent::HeardPackets| {
        packets.protocol() == protocol && packets.port == port && packets.address == address(from).to_string()
    };
    heard.packets.iter().find(is_it).map(|packets| packets.sizes.clone())
}

fn outcome(sent: &SentTo, port: u32) -> TcpOutcome {
    sent.connections.iter().find(|attempt| attempt.port == port).expect("it was tried").outcome()
}

#[test]
fn what_is_dropped_and_what_is_too_large_is_not_heard_and_all_else_is() {
    let net = Net::of(3);
    net.filter(1, "-A INPUT -s 10.77.7.1 -p udp --dport 4789 -j DROP");
    net.filter(1, "-A INPUT -s 10.77.7.3 -p tcp --dport 7946 -j DROP");
    net.filter(2, "-A OUTPUT -p tcp --sport 7946 -d 10.77.7.1 -j DROP");
    net.narrow(2, 1400);
    net.hold_overlay_port(0);
    net.hold_overlay_port(2);
    let hosts = net.probe(false);
    let (of_second, of_third) = (&hosts[1].0, &hosts[2].0);

    // The filter of the second host drops this way, and not the other one.
    assert_eq!(heard(of_second, 0, ProbeProtocol::Udp, 4789), None);
    assert!(heard(of_second, 0, ProbeProtocol::Udp, 7946).is_some(), "{of_second:?}");
    let back = heard(&hosts[0].0, 1, ProbeProtocol::Udp, 4789).expect("the other way passes");
    assert_eq!(back.last(), Some(&1500));

    // The way to the third host carries less than the first one's interface takes.
    let arrived = heard(of_third, 0, ProbeProtocol::Udp, 4789).expect("small packets pass");
    assert_eq!(arrived.last(), Some(&1400), "{arrived:?}");
    let (sent_by_first, sent_by_third) = (&hosts[0].1.peers, &hosts[2].1.peers);
    assert_eq!(sent_by_first[1].largest_sent, 1500);
    // The third host itself knows better.
    assert_eq!(sent_by_third[0].largest_sent, 1400);

    // Connections: accepted; refused because nobody is there; without an answer because it, or the question, is lost.
    assert_eq!(outcome(&sent_by_first[0], 7946), TcpOutcome::Connected);
    assert_eq!(outcome(&sent_by_first[0], 2377), TcpOutcome::Refused);
    assert_eq!(outcome(&sent_by_third[1], 7946), TcpOutcome::TimedOut);
    assert_eq!(heard(of_second, 2, ProbeProtocol::Tcp, 7946), None);
    assert_eq!(outcome(&sent_by_first[1], 7946), TcpOutcome::TimedOut);
    assert!(heard(of_third, 0, ProbeProtocol::Tcp, 7946).is_some(), "the question came, its answer is lost");
}

/// What makes a second, patient probe unnecessary.
#[test]
fn where_nothing_is_lost_a_quick_probe_hears_everything() {
    let net = Net::of(2);
    let hosts = net.probe(true);
    for (at, other) in [(0, 1), (1, 0)] {
        let (heard_here, sent) = (&hosts[at].0, &hosts[at].1.peers[0]);
        for port in [4789, 7946] {
            assert!(heard(heard_here, other, ProbeProtocol::Udp, port).is_some(), "{heard_here:?}");
        }
        let sizes = heard(heard_here, other, ProbeProtocol::Udp, 4789).expect("was heard");
        assert_eq!((sizes.last(), sent.largest_sent), (Some(&1500), 1500));
        assert_eq!(outcome(sent, 7946), TcpOutcome::Connected);
        assert_eq!(outcome(sent, 2377), TcpOutcome::Refused);
    }
}

#[test]
fn datagrams_are_heard_at_a_port_that_somebody_else_holds_and_of_this_probe_only() {
    let net = Net::of(2);
    let (told, heard_at) = mpsc::channel();
    let hearing = net.inside(1, move || async move {
        let vxlan = tokio::net::UdpSocket::bind("0.0.0.0:4789").await.expect("a port");
        let (ears, _alone) = Probes::default().listen(&listening()).expect("it hears");
        told.send(()).expect("the test waits");
        // Whoever holds the port gets what is sent there, as ever; then the last one has arrived.
        let mut buffer = [0; 2048];
        let all = async { while vxlan.recv(&mut buffer).await.expect("received") != 100 {} };
        ears.hear_until(all).await
    });
    heard_at.recv().expect("the host hears");
    let sending = net.inside(0, || async {
        let request = |run: &[u8], sender| SendRequest {
            run: run.into(),
            sender,
            quick: false,
            peers: vec![ProbePeer {
                peer: 1,
                address: address(1).to_string(),
                udp_ports: vec![4789],
                ..ProbePeer::default()
            }],
        };
        let probes = Probes::default();
        probes.send(&request(b"another!", 8)).await.expect("sent");
        probes.send(&request(&RUN, 9)).await.expect("sent");
        let last = tokio::net::UdpSocket::bind("0.0.0.0:0").await.expect("a socket");
        last.send_to(&[1; 100], (address(1), 4789)).await.expect("sent");
    });
    sending.join().expect("sent");
    let heard = hearing.join().expect("heard");
    let senders: Vec<u32> = heard.packets.iter().map(|packets| packets.sender).collect();
    assert_eq!(senders, [9], "{heard:?}");
}

#[test]
fn a_host_takes_part_in_one_probe_at_a_time_and_in_none_that_is_senseless() {
    let net = Net::of(1);
    let asked = net.inside(0, || async {
        let probes = Probes::default();
        let kind = |answer: Result<(), NotProbed>| answer.expect_err("refused").kind;
        let first = probes.listen(&listening()).expect("it hears");
        let second = kind(probes.listen(&listening()).map(drop));
        drop(first);
        let senseless = kind(probes.listen(&ListenRequest { run: vec![1], ..listening() }).map(drop));
        let to = |address: &str| SendRequest {
            run: RUN.into(),
            sender: 0,
            quick: false,
            peers: vec![ProbePeer { address: address.into(), ..ProbePeer::default() }],
        };
        (second, senseless, kind(probes.send(&to("somewhere")).await.map(drop)))
    });
    use skep_wire::proto::agent::AgentFailureKind::{Busy, Invalid};
    assert_eq!(asked.join().expect("asked"), (Busy, Invalid, Invalid));
}
