//! Whether a client uses its connection: a request is open from its headers to the last byte of its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

/// What one connection is busy with.
#[derive(Clone, Default)]
pub(crate) struct Busy(Arc<Requests>);

#[derive(Default)]
struct Requests {
    begun: AtomicU64,
    answered: AtomicU64,
}

/// A request that is open until this is dropped.
pub(crate) struct Open(Arc<Requests>);

impl Busy {
    /// A request has come.
    pub(crate) fn begin(&self) -> Open {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        Open(self.0.clone())
    }

    /// Resolves when nothing was asked and nothing was open for as long as `max`, at most twice as long.
    pub(crate) async fn idle(&self, max: Duration) {
        let mut seen = 0;
        loop {
            tokio::time::sleep(max).await;
            if !self.was_used(&mut seen) {
                return;
            }
        }
    }

    /// Whether a request is open or has come since this was asked last; `seen` remembers how many had come then.
    fn was_used(&self, seen: &mut u64) -> bool {
        let answered = self.0.answered.load(Ordering::Relaxed);
        let before = std::mem::replace(seen, self.0.begun.load(Ordering::Relaxed));
        before != *seen || answered != *seen
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
    }
}

impl Open {
    /// The answer; the request is open until it has been given.
    pub(crate) fn until_given(self, answer: Response) -> Response {
        answer.map(|body| Body::new(Answer { body, _open: self }))
    }
}

struct Answer {
    body: Body,
    _open: Open,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_used_until_its_answers_are_given_and_then_for_one_look_more() {
        let (busy, mut seen) = (Busy::default(), 0);
        assert!(!busy.was_used(&mut seen), "nothing was ever asked");
        let answer = busy.begin().until_given(Response::new(Body::from("words")));
        let another = busy.begin();
        for _ in 0..3 {
            assert!(busy.was_used(&mut seen), "an answer is still being given");
        }
        drop(another);
        assert!(busy.was_used(&mut seen), "one of two");
        drop(answer);
        assert!(!busy.was_used(&mut seen), "nothing has come since");
        drop(busy.begin());
        assert!(busy.was_used(&mut seen), "something has come, and was answered");
        assert!(!busy.was_used(&mut seen));
    }
}
