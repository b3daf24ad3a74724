//! A whole state on its way from one replica to another.
//!
//! ```text
//!   sender                                    receiver
//!     how far are you with this snapshot? ──►   staged rows of an interrupted transfer, if it is the same one
//!     header, from that row on            ──►   goes on, or begins anew with an empty table
//!     rows, rows, rows … (paced)          ──►   each chunk's checksum is tested, then it is staged
//!     total of rows                       ──►   complete? installed in one batch; reads saw the old state until then
//! ```
//! Each step has a deadline of its own and the whole has none: a large state over a slow line takes as long as it takes,
//! and silence is noticed at the next chunk.
//!
//! A snapshot is recognised by who sends it and what it goes up to. If the sender has taken a newer one meanwhile, the
//! transfer begins anew, because rows of two moments must not be mixed.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{Stream, StreamExt as _};
use openraft::raft::SnapshotResponse;
use serde::{Deserialize, Serialize};
use skep_storage::{Checkpoint, Staging, StorageError, Store};
use skep_wire::channels::Purpose;
use skep_wire::proto::peer::{Rows, SnapshotChunk, snapshot_chunk::Part};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tonic::Status;

use crate::codec;
use crate::digest::Digest;
use crate::network::Network;
use crate::state_machine::StateFiles;
use crate::types::{SnapshotMeta, TypeConfig, Vote};

/// Rows per message: large enough to be efficient, small enough to be one of many.
const CHUNK_BYTES: usize = 512 * 1024;

/// Chunks read ahead of the network.
const CHUNKS_AHEAD_MAX: usize = 4;

/// A snapshot is never urgent enough to take the network from heartbeats and log entries: half a gigabit.
const BYTES_PER_SEC_MAX: u64 = 64 << 20;

/// Either end gives up when no chunk has moved for so long. Longer than a full disk cache takes to be written.
const CHUNK_IDLE_MAX: Duration = Duration::from_secs(20);

/// After the last chunk the receiver installs and makes a checkpoint of its own.
const INSTALL_MAX: Duration = Duration::from_secs(120);

/// Asking how far the receiver is must not hold up a transfer that can also begin anew.
const PROGRESS_ANSWER_MAX: Duration = Duration::from_secs(2);

/// What arrived of an interrupted transfer is kept for so long; it occupies the disk.
const INTERRUPTED_KEPT_MAX: Duration = Duration::from_secs(600);

/// Between two lines in the log about one transfer.
const TOLD_EVERY: Duration = Duration::from_secs(5);

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, StateFiles>;

/// What a snapshot's header says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    pub(crate) from: u64,
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    /// Recognises the snapshot when a transfer is taken up again; absent from the first version, which never did.
    #[serde(default)]
    id: String,
    /// The rows begin behind this key.
    #[serde(default)]
    after: Option<Vec<u8>>,
    /// What the sender's replica had applied until then; see `digest.rs`.
    pub(crate) digest: Digest,
}

/// How far a receiver is with a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    id: String,
    after: Option<Vec<u8>>,
    rows: u64,
}

/// Sends a snapshot to a replica, or the rest of it if it has a part already.
pub(crate) async fn send(
    network: &Network,
    to: u64,
    vote: Vote,
    snapshot: Snapshot,
) -> io::Result<SnapshotResponse<TypeConfig>> {
    let StateFiles::Ours(checkpoint) = snapshot.snapshot else {
        return Err(io::Error::other("a received state is not sent on before it is installed"));
    };
    let id = id(network.node, &snapshot.meta);
    let done = progress_of(network, to, &id).await;
    tracing::info!(manager = to, snapshot = id, rows.there = done.rows, "a whole state is being sent");
    let header = SnapshotHeader {
        from: network.node,
        vote,
        meta: snapshot.meta,
        id,
        after: done.after.clone(),
        digest: codec::position_from_bytes(checkpoint.position())?.digest,
    };
    let (parts, receiver) = mpsc::channel(CHUNKS_AHEAD_MAX);
    let (moved, moving) = watch::channel(0);
    let reading = tokio::task::spawn_blocking(move || {
        Reader { parts, moved, pace: Pace::new(BYTES_PER_SEC_MAX), to }.run(&header, &checkpoint, done)
    });
    let mut client = network.client(to, Purpose::Bulk)?;
    let sent = tokio::select! {
        sent = client.snapshot(receiver) => sent,
        why = stalled(moving) => return Err(io::Error::new(io::ErrorKind::TimedOut, why)),
    };
    match sent {
        Ok(reply) => {
            reading.await.map_err(io::Error::other)??;
            codec::from_json(&reply.into_inner().body)
        }
        Err(status) => {
            // If reading failed here, the receiver only noticed that something is missing.
            if let Ok(Err(error)) = reading.await
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                return Err(error);
            }
            Err(io::Error::other(status))
        }
    }
}

fn id(from: u64, meta: &SnapshotMeta) -> String {
    match &meta.last_log_id {
        Some(log_id) => format!("{from}-{}-{}", log_id.committed_leader_id().term, log_id.index()),
        None => format!("{from}-0-0"),
    }
}

/// Where to go on; at the beginning if that cannot be found out.
async fn progress_of(network: &Network, to: u64, id: &str) -> Progress {
    let ask = async {
        let mut client = network.client(to, Purpose::Bulk)?;
        let payload = network.payload(to, id.as_bytes().to_vec());
        let asked = timeout(PROGRESS_ANSWER_MAX, client.snapshot_progress(payload)).await?;
        codec::from_json::<Progress>(&asked.map_err(io::Error::other)?.into_inner().body)
    };
    match ask.await {
        Ok(progress) if progress.id == id => progress,
        _ => Progress::default(),
    }
}

/// Resolves when a transfer does not move any more.
async fn stalled(mut moving: watch::Receiver<u64>) -> &'static str {
    loop {
        match timeout(CHUNK_IDLE_MAX, moving.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                tokio::time::sleep(INSTALL_MAX).await;
                return "the receiver has all rows and does not finish";
            }
            Err(_) => return "the receiver takes no more rows",
        }
    }
}

/// Reads the rows and hands them to the network. Blocks.
struct Reader {
    parts: mpsc::Sender<SnapshotChunk>,
    moved: watch::Sender<u64>,
    pace: Pace,
    to: u64,
}

impl Reader {
    fn run(mut self, header: &SnapshotHeader, checkpoint: &Checkpoint, done: Progress) -> io::Result<()> {
        self.hand_over(Part::Header(codec::to_json(header)?))?;
        let mut total_rows = done.rows;
        let mut told = Instant::now();
        for rows in checkpoint.chunks_after(done.after, CHUNK_BYTES).map_err(io::Error::other)? {
            let rows = rows.map_err(io::Error::other)?;
            total_rows += rows.len() as u64;
            let bytes = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
            self.hand_over(Part::Rows(Rows::sealed(rows)))?;
            self.pace.spent(bytes);
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                tracing::info!(manager = self.to, rows = total_rows, "a whole state is on its way");
            }
        }
        self.hand_over(Part::TotalRows(total_rows))
    }

    fn hand_over(&mut self, part: Part) -> io::Result<()> {
        let chunk = SnapshotChunk { part: Some(part) };
        futures::executor::block_on(futures::SinkExt::send(&mut self.parts, chunk))
            .map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))?;
        self.moved.send_modify(|chunks| *chunks += 1);
        Ok(())
    }
}

/// Keeps a transfer below a rate.
struct Pace {
    bytes_per_sec_max: u64,
    since: std::time::Instant,
    bytes: u64,
}

impl Pace {
    fn new(bytes_per_sec_max: u64) -> Pace {
        Pace { bytes_per_sec_max, since: std::time::Instant::now(), bytes: 0 }
    }

    fn spent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        std::thread::sleep(self.due().saturating_sub(self.since.elapsed()));
    }

    /// How long what was sent should have taken.
    fn due(&self) -> Duration {
        Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_sec_max as f64)
    }
}

/// The transfer that is arriving at this replica, or what is left of the last one.
#[derive(Clone, Default)]
pub(crate) struct Arrivals(Arc<Slot>);

#[derive(Default)]
struct Slot {
    interrupted: Mutex<Option<Arrival>>,
    rows: watch::Sender<Option<u64>>,
}

/// Rows that have arrived, staged beside the state in use.
struct Arrival {
    id: String,
    staging: Arc<Staging>,
    after: Option<Vec<u8>>,
    rows: u64,
}

impl Arrivals {
    /// What a sender is told who asks how far this replica is with a snapshot.
    pub(crate) fn progress(&self, id: &str) -> io::Result<Vec<u8>> {
        let progress = match &*self.interrupted() {
            Some(arrival) if arrival.id == id => {
                Progress { id: id.into(), after: arrival.after.clone(), rows: arrival.rows }
            }
            _ => Progress::default(),
        };
        codec::to_json(&progress)
    }

    /// Rows of a whole state that have arrived so far; none while nothing is on its way.
    pub(crate) fn rows(&self) -> Option<u64> {
        *self.0.rows.borrow()
    }

    /// Takes in a snapshot up to its end. If it breaks off, what has arrived is kept for the next try.
    pub(crate) async fn receive<S>(
        &self,
        store: &Store,
        chunks: &mut S,
    ) -> Result<(SnapshotHeader, Staging), Status>
    where
        S: Stream<Item = Result<SnapshotChunk, Status>> + Unpin,
    {
        let Some(Part::Header(header)) = next(chunks).await? else {
            return Err(Status::invalid_argument("a snapshot begins with its header"));
        };
        let header: SnapshotHeader = codec::from_json(&header).map_err(internal)?;
        let mut receiving = self.begin(store, &header).await?;
        loop {
            match next(chunks).await? {
                Some(Part::Rows(rows)) => receiving.stage(rows).await?,
                Some(Part::TotalRows(total)) => return Ok((header, receiving.complete(total)?)),
                Some(Part::Header(_)) => return Err(Status::invalid_argument("a second header")),
                None => {
                    let rows = receiving.arrival().map_or(0, |arrival| arrival.rows);
                    return Err(Status::data_loss(format!("broken off after {rows} rows")));
                }
            }
        }
    }

    async fn begin(&self, store: &Store, header: &SnapshotHeader) -> Result<Receiving, Status> {
        let kept = self.interrupted().take();
        let kept = kept.filter(|arrival| arrival.id == header.id && arrival.after == header.after);
        let arrival = match (kept, &header.after) {
            (Some(arrival), Some(_)) => arrival,
            (_, Some(_)) => return Err(Status::aborted("that part of the snapshot is not here any more")),
            (kept, None) => {
                drop(kept);
                let store = store.clone();
                let staging = tokio::task::spawn_blocking(move || store.stage()).await.map_err(internal)?;
                let staging = Arc::new(staging.map_err(|error| match error {
                    StorageError::Busy => Status::unavailable(error.to_string()),
                    error => internal(error),
                })?);
                Arrival { id: header.id.clone(), staging, after: None, rows: 0 }
            }
        };
        tracing::info!(
            from = header.from,
            snapshot = header.id,
            rows = arrival.rows,
            "a whole state is arriving"
        );
        self.0.rows.send_replace(Some(arrival.rows));
        Ok(Receiving { arrivals: self.clone(), arrival: Some(arrival), told: Instant::now() })
    }

    /// Gives the space of an interrupted transfer back if nobody goes on with it.
    fn forget_later(&self) {
        let slot = Arc::downgrade(&self.0);
        // Without a runtime the process is ending, and the next start empties the table.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            tokio::time::sleep(INTERRUPTED_KEPT_MAX).await;
            if let Some(slot) = slot.upgrade() {
                slot.interrupted.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        });
    }

    fn interrupted(&self) -> MutexGuard<'_, Option<Arrival>> {
        self.0.interrupted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transfer while its stream is open. Dropped before its end, also because the sender is gone, it leaves what has
/// arrived behind.
struct Receiving {
    arrivals: Arrivals,
    arrival: Option<Arrival>,
    told: Instant,
}

impl Receiving {
    fn arrival(&mut self) -> Option<&mut Arrival> {
        self.arrival.as_mut()
    }

    async fn stage(&mut self, rows: Rows) -> Result<(), Status> {
        let rows = rows.verified().map_err(internal)?;
        let (Some(last), count) = (rows.last().map(|(key, _)| key.clone()), rows.len() as u64) else {
            return Ok(());
        };
        let Some(arrival) = self.arrival.as_mut() else { return Ok(()) };
        let staging = arrival.staging.clone();
        tokio::task::spawn_blocking(move || staging.put(rows)).await.map_err(internal)?.map_err(internal)?;
        arrival.after = Some(last);
        arrival.rows += count;
        self.arrivals.0.rows.send_replace(Some(arrival.rows));
        if self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            tracing::info!(snapshot = arrival.id, rows = arrival.rows, "a whole state is arriving");
        }
        Ok(())
    }

    fn complete(mut self, total: u64) -> Result<Staging, Status> {
        let Some(arrival) = self.arrival.take() else {
            return Err(Status::internal("a snapshot was completed twice"));
        };
        if arrival.rows != total {
            // Not kept: it is not known which rows are missing.
            return Err(Status::data_loss(format!("{} of {total} rows have arrived", arrival.rows)));
        }
        Arc::try_unwrap(arrival.staging).map_err(|_| Status::internal("rows are still being staged"))
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.arrivals.0.rows.send_replace(None);
        if let Some(arrival) = self.arrival.take() {
            tracing::info!(
                snapshot = arrival.id,
                rows = arrival.rows,
                "a whole state stopped arriving; what is here is kept for the next try"
            );
            *self.arrivals.interrupted() = Some(arrival);
            self.arrivals.forget_later();
        }
    }
}

async fn next<S>(chunks: &mut S) -> Result<Option<Part>, Status>
where
    S: Stream<Item = Result<SnapshotChunk, Status>> + Unpin,
{
    match timeout(CHUNK_IDLE_MAX, chunks.next()).await {
        Ok(chunk) => Ok(chunk.transpose()?.and_then(|chunk| chunk.part)),
        Err(_) => Err(Status::deadline_exceeded("no more rows came")),
    }
}

fn internal(error: impl std::error::Error) -> Status {
    Status::internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use skep_storage::{Identity, RowChange};

    use super::*;
    use crate::types::LogId;

    const ROWS: u64 = 1000;

    struct Bench {
        _dirs: [tempfile::TempDir; 2],
        checkpoint: Checkpoint,
        receiver: Store,
        arrivals: Arrivals,
    }

    impl Bench {
        fn new() -> Bench {
            let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
            let open = |dir: &tempfile::TempDir, node| {
                Store::open(dir.path(), &Identity { cluster: "c1".into(), node }).expect("opened")
            };
            let (sender, receiver) = (open(&dirs[0], 1), open(&dirs[1], 2));
            let rows = (0..ROWS).map(|n| RowChange::Put(n.to_be_bytes().to_vec(), vec![n as u8; 2048]));
            sender.apply(rows.collect(), b"{}").expect("applied");
            receiver.apply(vec![RowChange::Put(b"old".to_vec(), b"1".to_vec())], b"{}").expect("applied");
            let checkpoint = sender.checkpoint().expect("made");
            Bench { _dirs: dirs, checkpoint, receiver, arrivals: Arrivals::default() }
        }

        /// What a sender would send now.
        fn parts(&self, id: &str) -> Vec<SnapshotChunk> {
            let done: Progress =
                codec::from_json(&self.arrivals.progress(id).expect("asked")).expect("decodes");
            let meta =
                SnapshotMeta { last_log_id: Some(LogId::new_term_index(1, 9)), ..SnapshotMeta::default() };
            let header = SnapshotHeader {
                from: 1,
                vote: Vote::new(1, 1),
                meta,
                id: id.into(),
                after: done.after.clone(),
                digest: Digest::default(),
            };
            let (parts, receiver) = mpsc::channel(ROWS as usize);
            let (moved, _moving) = watch::channel(0);
            let reader = Reader { parts, moved, pace: Pace::new(u64::MAX), to: 2 };
            reader.run(&header, &self.checkpoint, done).expect("read");
            futures::executor::block_on(receiver.collect())
        }

        async fn receive(&self, parts: Vec<SnapshotChunk>) -> Result<(SnapshotHeader, Staging), Status> {
            let mut stream = stream::iter(parts.into_iter().map(Ok));
            self.arrivals.receive(&self.receiver, &mut stream).await
        }

        fn rows(&self) -> usize {
            self.receiver.view().scan_prefix(b"").count()
        }
    }

    #[tokio::test]
    async fn an_interrupted_transfer_goes_on_where_it_broke_off() {
        let bench = Bench::new();
        let all = bench.parts("1-1-9");
        assert!(all.len() > 4, "several chunks");
        let broken = bench.receive(all[..3].to_vec()).await.expect_err("broken off");
        assert_eq!(broken.code(), tonic::Code::DataLoss);
        assert_eq!(bench.rows(), 1, "the old state is read meanwhile");

        let rest = bench.parts("1-1-9");
        assert_eq!(rest.len(), all.len() - 2, "two chunks of rows need not be sent again");
        let (_, staging) = bench.receive(rest).await.expect("complete");
        assert_eq!(bench.rows(), 1, "not installed yet");
        staging.install(b"{}").expect("installed");
        assert_eq!(bench.rows(), ROWS as usize);
    }

    #[tokio::test]
    async fn another_snapshot_begins_anew() {
        let bench = Bench::new();
        let all = bench.parts("1-1-9");
        bench.receive(all[..3].to_vec()).await.expect_err("broken off");
        let other = bench.parts("3-1-9");
        assert_eq!(other.len(), all.len());
        bench.receive(other).await.expect("complete");
    }

    #[tokio::test]
    async fn a_rest_whose_beginning_is_gone_is_refused() {
        let bench = Bench::new();
        let all = bench.parts("1-1-9");
        bench.receive(all[..3].to_vec()).await.expect_err("broken off");
        let rest = bench.parts("1-1-9");
        bench.arrivals.interrupted().take();
        let refused = bench.receive(rest).await.expect_err("refused");
        assert_eq!(refused.code(), tonic::Code::Aborted);
    }

    #[tokio::test]
    async fn a_chunk_that_is_not_what_was_sent_is_refused_and_what_was_before_it_is_kept() {
        let bench = Bench::new();
        let mut all = bench.parts("1-1-9");
        if let Some(Part::Rows(rows)) = &mut all[2].part {
            rows.rows[0].value[0] ^= 1;
        }
        bench.receive(all.clone()).await.expect_err("refused");
        assert_eq!(bench.parts("1-1-9").len(), all.len() - 1);
    }

    #[test]
    fn a_transfer_takes_at_least_as_long_as_its_rate_says() {
        let mut pace = Pace::new(1000);
        pace.bytes = 500;
        assert_eq!(pace.due(), Duration::from_millis(500));
    }
}
