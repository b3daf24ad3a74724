//! `skep host exec|ssh|logs`: what runs on a host, with this terminal or these pipes at its ends.
//!
//! The frames are described in `docs/reference/terminal.md`. Whatever happens here, the terminal is left as it was found.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use clap::{Args, ValueEnum};
use reqwest::{Method, Upgraded};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::{Value, json};
use terminal_size::{Height, Width, terminal_size};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::host::HOST;
use crate::session::Session;

/// Of one frame; the agent takes no larger ones.
const CONTENT_BYTES_MAX: usize = 32 * 1024;

/// Read from standard input at once, and read ahead of the network.
const INPUT_BYTES: usize = 4 * 1024;
const INPUTS_AHEAD_MAX: usize = 16;

/// A shell as somebody who logs in gets it.
const LOGIN_SHELL: &[&str] = &["sh", "-c", "command -v bash >/dev/null && exec bash -l || exec sh -l"];

mod kind {
    pub(super) const INPUT: u8 = 0;
    pub(super) const OUTPUT: u8 = 1;
    pub(super) const ERROR: u8 = 2;
    pub(super) const EXIT: u8 = 3;
    pub(super) const SIZE: u8 = 4;
}

/// A command to run on a host.
#[derive(Debug, Args)]
pub struct Exec {
    /// The host's name or id
    name: String,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// With a terminal, for whatever draws on the screen; passes standard input on as well
    #[arg(short, long)]
    tty: bool,
    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// A host to log in at.
#[derive(Debug, Args)]
pub struct Ssh {
    /// The host's name or id
    name: String,
    /// What to run instead of a login shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// A log of a host.
#[derive(Debug, Args)]
pub struct Logs {
    /// The host's name or id
    name: String,
    /// Whose log
    #[arg(long, value_enum, default_value_t = Source::Engine)]
    source: Source,
    /// How many of the last lines
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
    tail: u32,
    /// Go on with new lines until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

/// Whose log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    /// Docker's.
    Engine,
    /// The agent's.
    Agent,
}

pub(crate) async fn exec(wish: Exec, session: &Session) -> Result<(), Failure> {
    run(&wish.name, &wish.command, wish.interactive || wish.tty, wish.tty, session).await
}

pub(crate) async fn ssh(wish: Ssh, session: &Session) -> Result<(), Failure> {
    let shell = || LOGIN_SHELL.iter().map(|word| (*word).to_owned()).collect();
    let command = if wish.command.is_empty() { shell() } else { wish.command };
    // As ssh does: without a terminal here there is none there.
    run(&wish.name, &command, true, io::stdin().is_terminal(), session).await
}

pub(crate) async fn logs(wish: Logs, session: &Session) -> Result<(), Failure> {
    let path = HOST.at(&[HOST.named(&wish.name)?, "logs"], session)?;
    let source = if wish.source == Source::Engine { "engine" } else { "agent" };
    let lines = wish.tail.to_string();
    let mut query = vec![("source", source), ("lines", lines.as_str())];
    query.extend(wish.follow.then_some(("follow", "true")));
    let frames = session.frames_client()?.frames(Method::GET, &path, &query, None).await?;
    show(frames, None, false).await
}

async fn run(
    name: &str,
    command: &[String],
    interactive: bool,
    tty: bool,
    session: &Session,
) -> Result<(), Failure> {
    let path = HOST.at(&[HOST.named(name)?, "exec"], session)?;
    let (rows, columns) = size();
    let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
    let terminal = tty.then(|| json!({"term": term, "rows": rows, "columns": columns}));
    let body: Value = json!({"command": command, "terminal": terminal});
    let frames = session.frames_client()?.frames(Method::POST, &path, &[], Some(&body)).await?;
    let _raw = if tty { RawMode::enter() } else { None };
    show(frames, interactive.then(standard_input), tty).await
}

/// Passes frames until the last one, whose exit code becomes ours.
async fn show(
    frames: Upgraded,
    mut input: Option<mpsc::Receiver<Vec<u8>>>,
    tty: bool,
) -> Result<(), Failure> {
    let broken = |error: io::Error| Failure::File { doing: "go on with the command".into(), source: error };
    let (mut reading, mut writing) = tokio::io::split(frames);
    let mut resized = signal(SignalKind::window_change()).map_err(broken)?;
    let mut reading = std::pin::pin!(print_until_exit(&mut reading));
    loop {
        tokio::select! {
            code = &mut reading => return match code.map_err(broken)? {
                0 => Ok(()),
                // As shells do with codes that do not fit.
                code => Err(Failure::Ended((code & 0xff) as u8)),
            },
            bytes = next(&mut input) => {
                if bytes.is_empty() {
                    input = None;
                }
                send(&mut writing, kind::INPUT, &bytes).await.map_err(broken)?;
            }
            _ = resized.recv(), if tty => {
                let (rows, columns) = size();
                let content = [rows.to_be_bytes(), columns.to_be_bytes()].concat();
                send(&mut writing, kind::SIZE, &content).await.map_err(broken)?;
            }
        }
    }
}

/// What was typed; nothing at the end of input, and nobody's turn without input.
async fn next(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Vec<u8> {
    match input {
        Some(input) => input.recv().await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

async fn print_until_exit(frames: &mut ReadHalf<Upgraded>) -> io::Result<i32> {
    let mut content = Vec::new();
    loop {
        let kind = frames.read_u8().await?;
        let length = frames.read_u32().await? as usize;
        if length > CONTENT_BYTES_MAX {
            return Err(io::Error::other("the host sent a frame that is too long"));
        }
        content.resize(length, 0);
        frames.read_exact(&mut content).await?;
        match (kind, content.as_slice()) {
            (kind::OUTPUT, bytes) => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush())?,
            (kind::ERROR, bytes) => io::stderr().write_all(bytes)?,
            (kind::EXIT, [a, b, c, d]) => return Ok(i32::from_be_bytes([*a, *b, *c, *d])),
            // A newer agent may tell more.
            _ => {}
        }
    }
}

async fn send(frames: &mut WriteHalf<Upgraded>, kind: u8, content: &[u8]) -> io::Result<()> {
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    let mut frame = vec![kind];
    frame.extend(length.to_be_bytes());
    frame.extend(content);
    frames.write_all(&frame).await?;
    frames.flush().await
}

/// On a thread of its own that ends with the process: reading from a terminal cannot be given up.
fn standard_input() -> mpsc::Receiver<Vec<u8>> {
    let (sending, input) = mpsc::channel(INPUTS_AHEAD_MAX);
    std::thread::spawn(move || {
        let mut buffer = [0; INPUT_BYTES];
        while let Ok(read @ 1..) = io::stdin().read(&mut buffer) {
            if sending.blocking_send(buffer[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    input
}

fn size() -> (u16, u16) {
    terminal_size().map_or((24, 80), |(Width(columns), Height(rows))| (rows, columns))
}

/// Every key goes to the host, Ctrl-C too, as long as this lives.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> Option<RawMode> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(RawMode(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}
