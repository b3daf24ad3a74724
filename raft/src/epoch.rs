//! The epoch of this replica's data, and keeping apart replicas of different epochs.
//!
//! A new epoch begins when a person decides history anew: `skep cluster recover` or a restored backup. Replicas of the
//! older epoch know things that the newer one never will, so they must neither vote nor serve beside it. Every message
//! between managers says its epoch in a header; whoever is asked by another epoch refuses and says its own, and whoever
//! learns in either way that there is a newer one stops for good:
//!
//! ```text
//!   epoch 1 ── asks ──► epoch 2     refused; the asker learns of epoch 2 and stops
//!   epoch 2 ── asks ──► epoch 1     refused; the one that was asked learns of epoch 2 and stops
//! ```
//!
//! Why a header of the transport and not a field of each message: it cannot be forgotten in the next message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use skep_storage::{StorageError, Store};
use tokio::sync::watch;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::founding;

/// A cluster that was never recovered or restored.
pub(crate) const FIRST: u64 = 1;

/// A replica that has no data yet and is about to be sent some: it belongs to whatever epoch speaks to it first.
const NONE_YET: u64 = 0;

/// The header with the sender's epoch.
const HEADER: &str = "skep-epoch";

/// This replica's epoch, shared by everything that sends or answers for it.
#[derive(Clone)]
pub(crate) struct Epoch(Arc<Inner>);

struct Inner {
    own: AtomicU64,
    store: Store,
    /// The newest epoch that another manager was seen in, if it is newer than ours.
    newer: watch::Sender<Option<u64>>,
}

impl Epoch {
    /// The epoch of the data in a store. A founder has one before it has data; others are told theirs.
    pub(crate) fn load(store: &Store, founder: bool) -> Result<Epoch, StorageError> {
        let unsaid = if founder || !founding::is_empty(store)? { FIRST } else { NONE_YET };
        let own = AtomicU64::new(store.epoch()?.unwrap_or(unsaid));
        Ok(Epoch(Arc::new(Inner { own, store: store.clone(), newer: watch::Sender::new(None) })))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.own.load(Ordering::Acquire)
    }

    /// Says when another manager was seen in a newer epoch.
    pub(crate) fn newer(&self) -> watch::Receiver<Option<u64>> {
        self.0.newer.subscribe()
    }

    fn saw(&self, theirs: u64) {
        let own = self.get();
        if own != NONE_YET && theirs > own {
            self.0.newer.send_if_modified(|known| {
                let news = known.is_none_or(|known| known < theirs);
                if news {
                    *known = Some(theirs);
                }
                news
            });
        }
    }

    /// May a message of this epoch be answered?
    fn admit(&self, theirs: u64) -> Result<(), Status> {
        let own = self.get();
        if own == NONE_YET {
            return self.adopt(theirs);
        }
        if theirs == own || theirs == NONE_YET {
            return Ok(());
        }
        self.saw(theirs);
        let mut metadata = MetadataMap::new();
        metadata.insert(HEADER, MetadataValue::from(own));
        Err(Status::with_metadata(tonic::Code::FailedPrecondition, refusal(own, theirs), metadata))
    }

    /// Kept before the first message is acted on, so that no data is ever without its epoch.
    fn adopt(&self, theirs: u64) -> Result<(), Status> {
        if theirs != NONE_YET {
            self.0.store.begin_epoch(theirs).map_err(|error| Status::internal(error.to_string()))?;
            self.0.own.store(theirs, Ordering::Release);
        }
        Ok(())
    }
}

/// What the one that was asked says. The asker may be the older or the newer one.
fn refusal(own: u64, theirs: u64) -> String {
    let older = if theirs < own { "the manager that asked" } else { "the manager that was asked" };
    format!(
        "asked in epoch {theirs}, but this manager's data is of epoch {own}: the cluster was recovered or restored \
         since, and {older} has older data. On its machine run: skep server --reset-from-peers"
    )
}

/// Why a replica of an older epoch does not go on.
pub(crate) fn outdated(own: u64, newer: u64) -> String {
    format!(
        "its data is of epoch {own}, but the cluster is in epoch {newer}: it was recovered or restored without this \
         manager, which may hold what the others do not. Keep its data folder if you may need that, then run: skep \
         server --reset-from-peers"
    )
}

/// Refuses requests of other epochs; for the server.
#[derive(Clone)]
pub struct EpochGuard(pub(crate) Epoch);

impl Interceptor for EpochGuard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let said = request
            .metadata()
            .get(HEADER)
            .map(|value| value.to_str().ok().and_then(|text| text.parse().ok()));
        match said {
            // The first version said nothing; it knew no other epoch.
            None => self.0.admit(FIRST)?,
            Some(Some(theirs)) => self.0.admit(theirs)?,
            Some(None) => return Err(Status::invalid_argument("the header skep-epoch is not a number")),
        }
        Ok(request)
    }
}

/// A channel to another manager on which every request says this replica's epoch.
#[derive(Clone)]
pub(crate) struct EpochChannel {
    pub(crate) channel: Channel,
    pub(crate) epoch: Epoch,
}

impl Service<http::Request<tonic::body::Body>> for EpochChannel {
    type Response = http::Response<tonic::body::Body>;
    type Error = tonic::transport::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> Self::Future {
        request.headers_mut().insert(HEADER, http::HeaderValue::from(self.epoch.get()));
        let (answering, epoch) = (self.channel.call(request), self.epoch.clone());
        Box::pin(async move {
            let answer = answering.await?;
            let said = answer.headers().get(HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
            if let Some(theirs) = said {
                epoch.saw(theirs);
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use skep_storage::Identity;

    use super::*;

    fn epoch(founder: bool) -> (tempfile::TempDir, Epoch) {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path(), &Identity { cluster: "c1".into(), node: 1 }).expect("opened");
        let epoch = Epoch::load(&store, founder).expect("loaded");
        (dir, epoch)
    }

    #[test]
    fn another_epoch_is_refused_and_both_are_named() {
        let (_dir, epoch) = epoch(true);
        assert!(epoch.admit(1).is_ok());
        let refused = epoch.admit(3).expect_err("refused");
        assert!(refused.message().contains("epoch 3") && refused.message().contains("epoch 1"), "{refused}");
        assert_eq!(refused.metadata().get(HEADER).expect("said"), "1");
        assert_eq!(*epoch.newer().borrow(), Some(3));
    }

    #[test]
    fn an_older_epoch_is_refused_and_does_not_stop_us() {
        let (_dir, epoch) = epoch(true);
        epoch.adopt(4).expect("adopted");
        assert!(epoch.admit(2).is_err());
        assert_eq!(*epoch.newer().borrow(), None);
    }

    #[test]
    fn who_has_no_data_takes_the_epoch_of_the_first_who_speaks_and_keeps_it() {
        let (_dir, epoch) = epoch(false);
        assert!(epoch.admit(5).is_ok());
        assert_eq!((epoch.get(), epoch.0.store.epoch().expect("read")), (5, Some(5)));
        assert!(epoch.admit(4).is_err());
    }
}
