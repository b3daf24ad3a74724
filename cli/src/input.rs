//! Reading what people give: answers, files, standard input.
//!
//! Standard input is read on threads of our own, never on the runtime's blocking pool: the runtime waits for its pool when it
//! ends, so an unanswered question would keep the process alive after Ctrl-C.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::io::ReaderStream;

use crate::failure::Failure;

/// Read from standard input at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks read ahead of the network: enough to overlap reading and sending, little memory.
const CHUNKS_AHEAD_MAX: usize = 8;

/// A text file is a recipe or a template; more than this is a mistake (and the API would refuse it).
const TEXT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The text of a file, or of standard input for `-`.
pub(crate) async fn text(path: &Path) -> Result<String, Failure> {
    let failed = |source| Failure::File { doing: format!("read {}", name_of(path)), source };
    let path = path.to_path_buf();
    off_runtime(
        move || {
            if is_stdin(&path) { bounded_text(io::stdin()) } else { bounded_text(File::open(path)?) }
        },
    )
    .await
    .map_err(failed)
}

/// A password or a key out of a file, without the end of its line.
pub(crate) async fn secret(path: &Path) -> Result<String, Failure> {
    Ok(text(path).await?.trim_end_matches(['\r', '\n']).to_owned())
}

/// The next line a person types, without its end; `None` at the end of input.
pub(crate) async fn line() -> io::Result<Option<String>> {
    off_runtime(|| {
        let mut line = String::new();
        Ok((io::stdin().read_line(&mut line)? > 0).then(|| line.trim().to_owned()))
    })
    .await
}

/// As [`line`], and what is typed does not show.
pub(crate) async fn hidden_line() -> io::Result<Option<String>> {
    off_runtime(|| {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line);
        tcsetattr(io::stdin(), OptionalActions::Flush, &before)?;
        Ok((read? > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
    })
    .await
}

/// The bytes of a file or of standard input as a request body.
pub(crate) fn body(path: &Path) -> io::Result<reqwest::Body> {
    if is_stdin(path) {
        return Ok(stdin_body());
    }
    let file = tokio::fs::File::from_std(File::open(path)?);
    Ok(reqwest::Body::wrap_stream(ReaderStream::with_capacity(file, CHUNK_BYTES)))
}

pub(crate) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// What to call the file in messages.
pub(crate) fn name_of(path: &Path) -> String {
    if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() }
}

fn stdin_body() -> reqwest::Body {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD_MAX);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let read = match stdin.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => {
                    chunk.truncate(count);
                    Ok(Bytes::from(chunk))
                }
                Err(error) => Err(error),
            };
            let failed = read.is_err();
            if sender.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    let chunks =
        futures::stream::unfold(receiver, |mut receiver: mpsc::Receiver<io::Result<Bytes>>| async move {
            receiver.recv().await.map(|chunk| (chunk, receiver))
        });
    reqwest::Body::wrap_stream(chunks)
}

fn bounded_text(reader: impl Read) -> io::Result<String> {
    let mut text = String::new();
    reader.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
    }
    Ok(text)
}

async fn off_runtime<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = sender.send(read());
    });
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the reading thread ended early")))
}
