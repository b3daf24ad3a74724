//! What a connection to the API port begins with, before TLS: for whom it is, and whether it is TLS at all.
//!
//! The first byte tells: TLS begins with a handshake, a PROXY header with one of two others, and HTTP without TLS with a
//! letter. It is looked at and left where it is, so that TLS finds it.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxies::{Proxies, ProxyProtocol};
use crate::proxy_protocol::{self, HEAD_BYTES, LINE_BYTES_MAX, Malformed, SIGNATURE, WORD};

/// The kind of the record that a handshake is (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// What whoever speaks HTTP without TLS is told.
const TOLD: &str = "this port speaks TLS: write https:// instead of http://\n";

/// What such a client has sent is read for so long, so that it gets the answer rather than a reset.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// No more of it than that.
const UNREAD_BYTES_MAX: u64 = 64 * 1024;

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unwelcome {
    #[error("it ended at once: {0}")]
    Gone(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("a trusted proxy must begin with a PROXY header")]
    HeaderMissing,
    #[error("it begins with a PROXY header, and does not come from a trusted proxy that may send one")]
    HeaderNotTrusted,
    #[error("it speaks HTTP without TLS")]
    PlainHttp,
    #[error("it does not speak TLS")]
    NotTls,
}

/// For whom a connection is that came from `from`. What follows in it is TLS.
pub(crate) async fn client_of(
    tcp: &mut TcpStream,
    from: IpAddr,
    proxies: &Proxies,
) -> Result<IpAddr, Unwelcome> {
    let (mut client, mut first) = (from, first_byte(tcp).await?);
    let protocol = proxies.protocol_of(from);
    if protocol != ProxyProtocol::Off {
        let named = match first {
            _ if first == SIGNATURE[0] => Some(named_in_header(tcp).await?),
            _ if first == WORD[0] => Some(named_in_line(tcp).await?),
            _ if protocol == ProxyProtocol::Required => return Err(Unwelcome::HeaderMissing),
            _ => None,
        };
        if let Some(named) = named {
            client = named.unwrap_or(from);
            first = first_byte(tcp).await?;
        }
    }
    match first {
        HANDSHAKE => Ok(client),
        _ if first == SIGNATURE[0] => Err(Unwelcome::HeaderNotTrusted),
        b'A'..=b'Z' => {
            explain(tcp).await;
            Err(Unwelcome::PlainHttp)
        }
        _ => Err(Unwelcome::NotTls),
    }
}

async fn first_byte(tcp: &TcpStream) -> io::Result<u8> {
    let mut first = [0];
    match tcp.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0]),
    }
}

async fn named_in_header(tcp: &mut TcpStream) -> Result<Option<IpAddr>, Unwelcome> {
    let mut head = [0; HEAD_BYTES];
    tcp.read_exact(&mut head).await?;
    let head = proxy_protocol::head(&head)?;
    let mut rest = vec![0; head.rest_bytes];
    tcp.read_exact(&mut rest).await?;
    Ok(head.client(&rest)?)
}

/// Byte by byte, because what follows the line is not to be read: there are few, and they are here.
async fn named_in_line(tcp: &mut TcpStream) -> Result<Option<IpAddr>, Unwelcome> {
    let mut line = Vec::with_capacity(LINE_BYTES_MAX);
    while line.len() < LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        line.push(tcp.read_u8().await?);
    }
    Ok(proxy_protocol::client_of_line(&line)?)
}

/// Says it in the words of whoever has asked without TLS, as other servers do.
async fn explain(tcp: &mut TcpStream) {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{TOLD}",
        TOLD.len()
    );
    let telling = async {
        tcp.write_all(answer.as_bytes()).await?;
        tcp.shutdown().await?;
        let mut rest = (&mut *tcp).take(UNREAD_BYTES_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // A client that does not listen is closed all the same.
    let _ = timeout(LINGER_MAX, telling).await;
}
