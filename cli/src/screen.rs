//! Standard output and standard error, and what is known about them.
//!
//! Results go to `out`, everything else (progress, questions, hints, errors) to `err`, so that `skep … > file` never mixes them.
//! Tests hand in buffers instead.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::table::Look;

/// The two streams. Clones write to the same ones.
#[derive(Clone)]
pub struct Screen {
    streams: Arc<Mutex<Streams>>,
    out_is_terminal: bool,
    err_is_terminal: bool,
    in_is_terminal: bool,
    width: Option<usize>,
}

struct Streams {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
}

impl Screen {
    /// Those of the process.
    pub fn of_process() -> Screen {
        Screen {
            streams: Arc::new(Mutex::new(Streams {
                out: Box::new(io::stdout()),
                err: Box::new(io::stderr()),
            })),
            out_is_terminal: io::stdout().is_terminal(),
            err_is_terminal: io::stderr().is_terminal(),
            in_is_terminal: io::stdin().is_terminal(),
            width: terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)),
        }
    }

    /// Two writers that are no terminals.
    pub fn of(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Screen {
        Screen {
            streams: Arc::new(Mutex::new(Streams { out: Box::new(out), err: Box::new(err) })),
            out_is_terminal: false,
            err_is_terminal: false,
            in_is_terminal: false,
            width: None,
        }
    }

    /// Writes a result. A reader that has gone away (`skep … | head`) is no error of ours.
    pub(crate) fn result(&self, text: &str) {
        self.result_bytes(text.as_bytes());
    }

    /// As [`Screen::result`], for what need not be text.
    pub(crate) fn result_bytes(&self, bytes: &[u8]) {
        let mut streams = self.streams();
        let _ = streams.out.write_all(bytes).and_then(|()| streams.out.flush());
    }

    /// Writes a line for the person who watches.
    pub(crate) fn note(&self, line: &str) {
        self.draw(&format!("{line}\n"));
    }

    /// Writes to standard error as it is; for progress in place and questions.
    pub(crate) fn draw(&self, text: &str) {
        let mut streams = self.streams();
        let _ = streams.err.write_all(text.as_bytes()).and_then(|()| streams.err.flush());
    }

    /// Whether a person sees standard error.
    pub(crate) fn is_watched(&self) -> bool {
        self.err_is_terminal
    }

    /// Whether a person can be asked.
    pub(crate) fn can_ask(&self) -> bool {
        self.in_is_terminal && self.err_is_terminal
    }

    pub(crate) fn width(&self) -> Option<usize> {
        self.width
    }

    /// How tables are to look on standard output.
    pub(crate) fn look(&self, color: bool, wide: bool) -> Look {
        Look {
            now: Timestamp::now(),
            relative: self.out_is_terminal,
            width: if self.out_is_terminal { self.width } else { None },
            color: color && self.out_is_terminal,
            wide,
        }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        // A writer that panicked left at worst half a line.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
