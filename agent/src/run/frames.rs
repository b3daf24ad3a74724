//! The frames of a command that runs on this host, as the agent reads and writes them (`skep_wire::frames`).

use std::io;

use skep_wire::frames::{CONTENT_BYTES_MAX, ERROR, EXIT, INPUT, OUTPUT, SIZE};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What the client sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromClient {
    /// Standard input.
    Input(Vec<u8>),
    /// Nothing more comes on standard input.
    EndOfInput,
    /// The terminal has this size.
    Size {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
}

/// What the client receives.
#[derive(Debug)]
pub(super) enum ToClient<'a> {
    Output(&'a [u8]),
    Error(&'a [u8]),
    /// The last frame: the exit code, or 128 and the signal.
    Exit(i32),
}

/// The next frame; nothing when the client has gone.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<FromClient>> {
    let kind = match stream.read_u8().await {
        Ok(kind) => kind,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = stream.read_u32().await?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > CONTENT_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {length} bytes; at most {CONTENT_BYTES_MAX} fit")));
    }
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await?;
    match (kind, content.as_slice()) {
        (INPUT, []) => Ok(Some(FromClient::EndOfInput)),
        (INPUT, _) => Ok(Some(FromClient::Input(content))),
        (SIZE, [a, b, c, d]) => {
            let (rows, columns) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            Ok(Some(FromClient::Size { rows, columns }))
        }
        _ => Err(io::Error::other(format!("a frame of kind {kind} that is not known"))),
    }
}

/// Sends a frame.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &ToClient<'_>) -> io::Result<()> {
    let code;
    let (kind, content) = match frame {
        ToClient::Output(bytes) => (OUTPUT, *bytes),
        ToClient::Error(bytes) => (ERROR, *bytes),
        ToClient::Exit(number) => {
            code = number.to_be_bytes();
            (EXIT, code.as_slice())
        }
    };
    stream.write_u8(kind).await?;
    // Contents are cut to size by whoever reads them from the command.
    stream.write_u32(u32::try_from(content.len()).unwrap_or(u32::MAX)).await?;
    stream.write_all(content).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_of_the_client_are_read_and_nonsense_is_an_error() {
        let mut sent: &[u8] = &[0, 0, 0, 0, 2, b'h', b'i', 4, 0, 0, 0, 4, 0, 24, 0, 80, 0, 0, 0, 0, 0];
        let mut read_next = async || read(&mut sent).await.expect("readable");
        assert_eq!(read_next().await, Some(FromClient::Input(b"hi".to_vec())));
        assert_eq!(read_next().await, Some(FromClient::Size { rows: 24, columns: 80 }));
        assert_eq!(read_next().await, Some(FromClient::EndOfInput));
        assert_eq!(read_next().await, None);
        for wrong in [&[9, 0, 0, 0, 0][..], &[0, 255, 0, 0, 0], &[4, 0, 0, 0, 1, 0], &[0, 0, 0, 0, 9, 1]] {
            let mut wrong = wrong;
            assert!(read(&mut wrong).await.is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn frames_to_the_client_carry_their_length() {
        let mut sent = vec![];
        write(&mut sent, &ToClient::Output(b"ok\n")).await.expect("written");
        write(&mut sent, &ToClient::Exit(-1)).await.expect("written");
        assert_eq!(sent, [1, 0, 0, 0, 3, b'o', b'k', b'\n', 3, 0, 0, 0, 4, 255, 255, 255, 255]);
    }
}
