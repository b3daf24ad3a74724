//! Runs a command on this host for somebody who is signed in at a manager: with a terminal, or with pipes.
//!
//! The command ends with the stream: when the client goes away, or the way to it breaks, its whole process group is
//! killed. So nothing that nobody sees any more goes on.

mod frames;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::termios;
use skep_wire::frames::CONTENT_BYTES_MAX;
use skep_wire::mux::MuxStream;
use skep_wire::proto::agent::{LogSource, LogsRequest, RunRequest};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::Entrance;
use frames::{FromClient, ToClient};

/// Outputs that wait for the way to the client: a slow client slows the command, it does not fill the host's memory.
const OUTPUTS_WAITING_MAX: usize = 4;

/// A terminal without a size is as large as terminals were.
const SIZE_USUAL: (u16, u16) = (24, 80);

/// Where the logs of a host are that has no journal.
#[derive(Clone, Debug, Default)]
pub struct LogFiles {
    /// The engine's.
    pub engine: Option<PathBuf>,
    /// This agent's.
    pub agent: Option<PathBuf>,
}

/// A command that was started.
pub(crate) struct Run {
    child: Child,
    group: Pid,
    terminal: Option<OwnedFd>,
}

/// What the command has said; `None` when one of its outputs has ended.
enum Said {
    Output(Vec<u8>),
    Error(Vec<u8>),
}

impl Run {
    /// Starts a command as root, or whoever the agent runs as.
    pub(crate) fn start(request: &RunRequest, entrance: Entrance) -> io::Result<Run> {
        let [program, arguments @ ..] = request.command.as_slice() else {
            return Err(io::Error::other("no command is named"));
        };
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
        let prepared = |mut command: Command| {
            command.env("HOME", &home).current_dir(if home.is_dir() {
                home.as_path()
            } else {
                Path::new("/")
            });
            // What is meant for the agent is not meant for what it runs; the token least of all.
            for (name, _) in
                std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SKEP_"))
            {
                command.env_remove(name);
            }
            command
        };
        if !request.terminal {
            let mut command = prepared(entrance.command(program).into());
            command.args(arguments).process_group(0);
            return Run::spawn(command, None);
        }
        let size = match (request.rows, request.columns) {
            (0, _) | (_, 0) => SIZE_USUAL,
            (rows, columns) => (rows.min(u16::MAX.into()) as u16, columns.min(u16::MAX.into()) as u16),
        };
        let size = Winsize { ws_row: size.0, ws_col: size.1, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None)?;
        // Makes the terminal the command's own, so that Ctrl-C reaches it; then becomes the command.
        let mut command = prepared(entrance.command("setsid").into());
        command.arg("--ctty").arg(program).args(arguments);
        command.env("TERM", if request.term.is_empty() { "xterm" } else { &request.term });
        let ends = [pair.slave.try_clone()?, pair.slave.try_clone()?, pair.slave];
        Run::spawn(command, Some((ends, pair.master)))
    }

    /// Follows a log of this host, or shows its end.
    pub(crate) fn logs(request: &LogsRequest, files: &LogFiles, entrance: Entrance) -> io::Result<Run> {
        let (file, unit) = match request.source() {
            LogSource::Engine => (&files.engine, "docker.service"),
            LogSource::Agent => (&files.agent, "skep-agent.service"),
            LogSource::Unspecified => return Err(io::Error::other("this agent does not know the log")),
        };
        let lines = request.lines.to_string();
        let mut command = match file {
            Some(file) => {
                let mut tail = Command::new("tail");
                tail.args(["-n", &lines]).args(request.follow.then_some("-F")).arg(file);
                tail
            }
            None => {
                let mut journal = Command::from(entrance.command("journalctl"));
                journal.args(["--no-pager", "-o", "short-iso", "-u", unit, "-n", &lines]);
                journal.args(request.follow.then_some("-f"));
                journal
            }
        };
        command.process_group(0);
        Run::spawn(command, None)
    }

    fn spawn(mut command: Command, terminal: Option<([OwnedFd; 3], OwnedFd)>) -> io::Result<Run> {
        let (ends, terminal) = match terminal {
            Some((ends, master)) => (ends.map(Stdio::from), Some(master)),
            None => ([Stdio::piped(), Stdio::piped(), Stdio::piped()], None),
        };
        let [input, output, error] = ends;
        let child = command.stdin(input).stdout(output).stderr(error).kill_on_drop(true).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
        Ok(Run { child, group: Pid::from_raw(id), terminal })
    }

    /// Passes bytes both ways until the command has ended and everything it said was sent, or the client has gone.
    pub(crate) async fn relay(mut self, stream: &mut MuxStream) -> io::Result<()> {
        let (mut from_client, mut to_client) = tokio::io::split(stream);
        let (saying, mut said) = mpsc::channel(OUTPUTS_WAITING_MAX);
        let mut input = self.connect(saying)?;
        let terminal = self.terminal.take();
        let mut status = None;
        let mut reading = std::pin::pin!(async {
            while let Some(frame) = frames::read(&mut from_client).await? {
                match frame {
                    FromClient::Input(bytes) => {
                        if let Some(input) = &mut input {
                            // A command that reads no more is no reason to break off.
                            let _ = input.write_all(&bytes).await;
                            let _ = input.flush().await;
                        }
                    }
                    FromClient::EndOfInput => input = None,
                    FromClient::Size { rows, columns } => {
                        if let Some(terminal) = &terminal {
                            let size = termios::Winsize {
                                ws_row: rows,
                                ws_col: columns,
                                ws_xpixel: 0,
                                ws_ypixel: 0,
                            };
                            let _ = termios::tcsetwinsize(terminal, size);
                        }
                    }
                }
            }
            io::Result::Ok(())
        });
        loop {
            tokio::select! {
                gone = &mut reading => return gone,
                frame = said.recv() => match frame {
                    Some(Said::Output(bytes)) => frames::write(&mut to_client, &ToClient::Output(&bytes)).await?,
                    Some(Said::Error(bytes)) => frames::write(&mut to_client, &ToClient::Error(&bytes)).await?,
                    None => break,
                },
                ended = self.child.wait(), if status.is_none() => {
                    status = Some(ended?);
                    // Whoever it has started may still hold its outputs, and would be waited for.
                    self.kill();
                }
            }
        }
        let status = match status {
            Some(status) => status,
            None => self.child.wait().await?,
        };
        frames::write(&mut to_client, &ToClient::Exit(code(status))).await
    }

    /// Starts to listen to what the command says; answers where its input goes.
    fn connect(
        &mut self,
        saying: mpsc::Sender<Said>,
    ) -> io::Result<Option<Box<dyn AsyncWrite + Send + Unpin>>> {
        if let Some(terminal) = &self.terminal {
            let open = || Ok::<_, io::Error>(File::from_std(terminal.try_clone()?.into()));
            tokio::spawn(listen(open()?, saying, Said::Output));
            return Ok(Some(Box::new(open()?)));
        }
        if let (Some(output), Some(error)) = (self.child.stdout.take(), self.child.stderr.take()) {
            tokio::spawn(listen(output, saying.clone(), Said::Output));
            tokio::spawn(listen(error, saying, Said::Error));
        }
        Ok(self.child.stdin.take().map(|input| Box::new(input) as _))
    }

    fn kill(&self) {
        // Mostly there is nobody left.
        let _ = killpg(self.group, Signal::SIGKILL);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.group.as_raw() > 0 {
            self.kill();
        }
    }
}

/// A terminal without anybody on it ends with an error, which is its end like any other.
async fn listen(mut from: impl AsyncRead + Unpin, to: mpsc::Sender<Said>, said: fn(Vec<u8>) -> Said) {
    let mut buffer = vec![0; CONTENT_BYTES_MAX];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if to.send(said(buffer[..read].to_vec())).await.is_err() {
            return;
        }
    }
}

/// As shells count it.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
