//! What a client is still sending when its request has been answered.
//!
//! A request may be answered before all of it was read: its sender may not do that, it is too large, there is no such route.
//! Over HTTP/1 the connection is of no more use then, and a client that is still writing may find it closed before it has
//! read the answer. So a moderate rest is read and thrown away first; nginx lingers for the same reason
//! (<https://nginx.org/en/docs/http/ngx_http_core_module.html#lingering_close>). Over HTTP/2 each request ends by itself.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::header::EXPECT;
use axum::http::{Request, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A rest that is longer costs more than a new connection.
const UNREAD_BYTES_MAX: u64 = 1024 * 1024;

/// The body of a request; whoever is done with it before its end gives back what was not read.
pub(crate) struct Lent {
    body: Option<Incoming>,
    back: Option<oneshot::Sender<Incoming>>,
}

/// Where the rest of a body comes back.
pub(crate) struct Unread(Option<oneshot::Receiver<Incoming>>);

/// The request with a body that comes back.
pub(crate) fn lend(request: Request<Incoming>) -> (Request<Lent>, Unread) {
    // Who expects to be asked for the body does not send it unasked.
    let comes_back = request.version() <= Version::HTTP_11 && !request.headers().contains_key(EXPECT);
    let (back, unread) = oneshot::channel();
    let lent = |body| Lent { body: Some(body), back: comes_back.then_some(back) };
    (request.map(lent), Unread(comes_back.then_some(unread)))
}

impl Unread {
    /// Reads what is left of an answered request, for as long as `max`.
    pub(crate) async fn discard(self, max: Duration) {
        let Some(Ok(mut rest)) = self.0.map(|mut unread| unread.try_recv()) else { return };
        let mut read = 0;
        let _ = timeout(max, async {
            while read + rest.size_hint().lower() <= UNREAD_BYTES_MAX
                && let Some(Ok(frame)) = rest.frame().await
            {
                read += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
        })
        .await;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(back) = self.back.take()
            && let Some(body) = self.body.take().filter(|body| !body.is_end_stream())
        {
            // Nobody waits for it if the connection has ended.
            let _ = back.send(body);
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}
