//! The frames in which a command that runs on a host and whoever has asked for it exchange what is said and read.
//!
//! ```text
//!   kind: 1 byte │ length of the content: 4 bytes, big-endian │ content
//! ```
//! A part of the API (`docs/reference/terminal.md`): clients speak them with agents, managers pass them on unread.

/// Of one frame; larger outputs are several.
pub const CONTENT_BYTES_MAX: usize = 32 * 1024;

/// To the host: standard input; empty: its end.
pub const INPUT: u8 = 0;
/// From the host: standard output; with a terminal, everything.
pub const OUTPUT: u8 = 1;
/// From the host: standard error.
pub const ERROR: u8 = 2;
/// From the host, the last one: the exit code, signed, or 128 and the signal.
pub const EXIT: u8 = 3;
/// To the host: the terminal's lines and characters in a line, 2 bytes each.
pub const SIZE: u8 = 4;
