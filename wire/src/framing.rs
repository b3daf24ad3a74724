//! Whole protobuf messages on a byte stream: four bytes of length (big-endian), then the message.
//!
//! Bounded, because the length comes from the other side and is believed before anything else is known.

use std::io;

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest message between an agent and a manager. An inventory or a certificate is a few KiB.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Why a message was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FramingError {
    /// The stream ended between two messages.
    #[error("reading a message: the stream has ended")]
    Ended,
    /// The message is larger than the reader or writer allows.
    #[error("a message of {bytes} bytes is larger than the {bytes_max} bytes that are allowed")]
    TooLarge {
        /// The size of the message.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The bytes are not the expected message.
    #[error("reading a message: its bytes make no sense")]
    Malformed(#[from] prost::DecodeError),
    /// The stream failed.
    #[error("reading or writing a message: {0}")]
    Io(#[from] io::Error),
}

/// Reads one message of at most `bytes_max`.
pub async fn read_message<M, R>(reader: &mut R, bytes_max: usize) -> Result<M, FramingError>
where
    M: Message + Default,
    R: AsyncRead + Unpin,
{
    let mut length = [0; 4];
    // Only an end before the first byte is an orderly one.
    if reader.read(&mut length[..1]).await? == 0 {
        return Err(FramingError::Ended);
    }
    reader.read_exact(&mut length[1..]).await?;
    let bytes = u32::from_be_bytes(length) as usize;
    if bytes > bytes_max {
        return Err(FramingError::TooLarge { bytes, bytes_max });
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).await?;
    Ok(M::decode(body.as_slice())?)
}

/// Writes one message of at most `bytes_max` and flushes it.
pub async fn write_message<M, W>(writer: &mut W, message: &M, bytes_max: usize) -> Result<(), FramingError>
where
    M: Message,
    W: AsyncWrite + Unpin,
{
    let bytes = message.encoded_len();
    if bytes > bytes_max {
        return Err(FramingError::TooLarge { bytes, bytes_max });
    }
    let mut frame = Vec::with_capacity(4 + bytes);
    frame.extend_from_slice(&(bytes as u32).to_be_bytes());
    // A `Vec` grows, so encoding into it cannot fail.
    frame.extend_from_slice(&message.encode_to_vec());
    writer.write_all(&frame).await?;
    writer.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::agent::Refused;

    fn message() -> Refused {
        Refused { code: "NO".into(), message: "x".repeat(1000) }
    }

    #[tokio::test]
    async fn messages_come_out_as_they_went_in_and_then_the_stream_ends() {
        let (mut left, mut right) = tokio::io::duplex(64);
        let writer = tokio::spawn(async move {
            for _ in 0..3 {
                write_message(&mut left, &message(), MESSAGE_BYTES_MAX).await.expect("written");
            }
        });
        for _ in 0..3 {
            let read: Refused = read_message(&mut right, MESSAGE_BYTES_MAX).await.expect("read");
            assert_eq!(read, message());
        }
        writer.await.expect("the writer ends");
        let end = read_message::<Refused, _>(&mut right, MESSAGE_BYTES_MAX).await;
        assert!(matches!(end, Err(FramingError::Ended)), "{end:?}");
    }

    #[tokio::test]
    async fn a_message_above_the_bound_is_refused_on_both_sides() {
        let (mut left, mut right) = tokio::io::duplex(4096);
        let refused = write_message(&mut left, &message(), 100).await;
        assert!(matches!(refused, Err(FramingError::TooLarge { bytes_max: 100, .. })), "{refused:?}");

        write_message(&mut left, &message(), MESSAGE_BYTES_MAX).await.expect("written");
        let refused = read_message::<Refused, _>(&mut right, 100).await;
        assert!(matches!(refused, Err(FramingError::TooLarge { bytes_max: 100, .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn a_message_cut_off_in_the_middle_is_not_an_orderly_end() {
        let (mut left, mut right) = tokio::io::duplex(4096);
        left.write_all(&[0, 0]).await.expect("half a length");
        drop(left);
        let cut = read_message::<Refused, _>(&mut right, 100).await;
        assert!(matches!(cut, Err(FramingError::Io(_))), "{cut:?}");
    }
}
