//! etcd's side: three members with default timing and plain HTTP, as in the figures that are quoted everywhere.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::Uri;
use tonic::{Code, Status};

use crate::connection::{Http2, SendError};
use crate::process::Launch;
use crate::system::{Clients, Cluster, Failure, Freshness, Members, Session};

/// The generated messages and clients. Their documentation is in `proto/etcd.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub(crate) mod proto {
    tonic::include_proto!("etcdserverpb");
}

use proto::kv_client::KvClient;
use proto::maintenance_client::MaintenanceClient;

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// A full run writes more than the two gibibytes after which etcd refuses writes by default.
const QUOTA_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// The way to etcd's members.
#[derive(Clone)]
pub(crate) struct Etcd {
    addresses: Arc<[SocketAddr]>,
}

/// A cluster below `dir`, at `addresses`; nothing is started yet.
pub(crate) fn found(binary: &Path, dir: &Path, addresses: &[Ipv4Addr]) -> Cluster<Etcd> {
    let peer = |(ip, number): (&Ipv4Addr, u64)| format!("n{number}=http://{ip}:{PEER_PORT}");
    let cluster = addresses.iter().zip(1..).map(peer).collect::<Vec<_>>().join(",");
    let launches = addresses.iter().zip(1..).map(|(ip, number)| Launch {
        name: format!("etcd member {number}"),
        program: binary.to_owned(),
        arguments: arguments(dir, *ip, number, &cluster),
        log: dir.join(format!("n{number}.log")),
    });
    let addresses = addresses.iter().map(|ip| SocketAddr::new((*ip).into(), CLIENT_PORT)).collect();
    Cluster { members: Members::new(launches.collect()), clients: Etcd { addresses } }
}

fn arguments(dir: &Path, ip: Ipv4Addr, number: u64, cluster: &str) -> Vec<String> {
    let (client, peer) = (format!("http://{ip}:{CLIENT_PORT}"), format!("http://{ip}:{PEER_PORT}"));
    let quota = QUOTA_BYTES.to_string();
    let data = dir.join(format!("n{number}")).display().to_string();
    let pairs = [
        ("name", format!("n{number}")),
        ("data-dir", data),
        ("listen-client-urls", client.clone()),
        ("advertise-client-urls", client),
        ("listen-peer-urls", peer.clone()),
        ("initial-advertise-peer-urls", peer),
        ("initial-cluster", cluster.to_owned()),
        ("initial-cluster-state", "new".to_owned()),
        ("quota-backend-bytes", quota),
        ("log-level", "error".to_owned()),
    ];
    pairs.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect()
}

impl Clients for Etcd {
    type Session = EtcdSession;

    const NAME: &'static str = "etcd";

    async fn connect(&self, member: usize) -> Result<EtcdSession> {
        let connection = Http2::connect(self.addresses[member], None).await?;
        Ok(EtcdSession { client: KvClient::with_origin(connection, origin(self.addresses[member])?) })
    }

    async fn leads(&self, member: usize) -> Result<bool> {
        let address = self.addresses[member];
        let connection = Http2::connect(address, None).await?;
        let mut client = MaintenanceClient::with_origin(connection, origin(address)?);
        let answer = client.status(proto::StatusRequest {}).await.context("asking etcd who leads")?;
        let status = answer.into_inner();
        Ok(status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader))
    }
}

fn origin(address: SocketAddr) -> Result<Uri> {
    format!("http://{address}").parse().context("writing an address")
}

/// A client of etcd's keys.
#[derive(Clone)]
pub(crate) struct EtcdSession {
    client: KvClient<Http2>,
}

impl Session for EtcdSession {
    async fn put(&mut self, key: &str, value: Bytes) -> Result<(), Failure> {
        let request = proto::PutRequest { key: Bytes::copy_from_slice(key.as_bytes()), value };
        self.client.put(request).await.map(drop).map_err(|status| failure(&status))
    }

    async fn get(&mut self, key: &str, freshness: Freshness) -> Result<Option<Bytes>, Failure> {
        let request = proto::RangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            serializable: freshness == Freshness::Stale,
        };
        let answer = self.client.range(request).await.map_err(|status| failure(&status))?;
        Ok(answer.into_inner().kvs.into_iter().next().map(|found| found.value))
    }
}

/// etcd's "unavailable" says of a request that had begun too, so only the one text that means "not begun" counts.
fn failure(status: &Status) -> Failure {
    let never_sent = std::error::Error::source(status)
        .and_then(|source| source.downcast_ref::<SendError>())
        .is_some_and(|error| error.not_sent);
    let no_leader = status.code() == Code::Unavailable && status.message().ends_with("no leader");
    match never_sent || no_leader {
        true => Failure::NotStarted(status.to_string()),
        false => Failure::Unknown(status.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::proto::{KeyValue, PutRequest, RangeRequest, RangeResponse, ResponseHeader};
    use super::*;

    #[test]
    fn messages_have_the_field_numbers_that_etcd_publishes() {
        let put = PutRequest { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") };
        assert_eq!(put.encode_to_vec(), [0x0a, 1, b'k', 0x12, 1, b'v']);
        let read = RangeRequest { key: Bytes::from_static(b"k"), serializable: true };
        assert_eq!(read.encode_to_vec(), [0x0a, 1, b'k', 0x38, 1]);
    }

    #[test]
    fn an_answer_is_read_past_the_fields_that_are_not_described_here() {
        let answer = RangeResponse {
            header: Some(ResponseHeader { member_id: 7, revision: 9, raft_term: 2 }),
            kvs: vec![KeyValue { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") }],
        };
        let mut bytes = answer.encode_to_vec();
        // `more` (3) and `count` (4), as etcd sends them.
        bytes.extend([0x18, 0, 0x20, 1]);
        assert_eq!(RangeResponse::decode(bytes.as_slice()).expect("is read"), answer);
    }

    #[test]
    fn only_what_never_began_may_be_repeated() {
        let lost = failure(&Status::unavailable("etcdserver: request timed out"));
        assert!(matches!(lost, Failure::Unknown(_)), "{lost}");
        let refused = failure(&Status::unavailable("etcdserver: no leader"));
        assert!(matches!(refused, Failure::NotStarted(_)), "{refused}");
    }
}
