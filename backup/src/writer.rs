//! Writing a backup as a stream: no more than one frame of it is in memory.

use std::io::Write;

use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;

use crate::error::{BackupError, Result};
use crate::format::{FORMAT, FRAME_BYTES, Header, Kind, MAGIC, Secrets, Totals, hex};
use crate::key::Recipient;
use crate::seal::SealWriter;

/// A backup that is being written. Without [`Writer::finish`] it is not whole, and readers see that.
pub struct Writer<W: Write> {
    output: SealWriter<W>,
    digest: Context,
    totals: Totals,
    /// The table of the rows that wait, and the rows.
    table: String,
    waiting: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a backup that each of the recipients can read.
    ///
    /// # Errors
    /// If there is no recipient, or the output fails.
    pub fn begin(
        output: W,
        recipients: &[Recipient],
        header: &Header,
        secrets: &Secrets,
    ) -> Result<Writer<W>> {
        Writer::begin_as(FORMAT, output, recipients, header, secrets)
    }

    pub(crate) fn begin_as(
        format: u8,
        output: W,
        recipients: &[Recipient],
        header: &Header,
        secrets: &Secrets,
    ) -> Result<Writer<W>> {
        let output = SealWriter::begin(output, recipients)?;
        let (digest, totals) = (Context::new(&SHA256), Totals::default());
        let mut writer = Writer { output, digest, totals, table: String::new(), waiting: vec![] };
        writer.write(MAGIC)?;
        writer.write(&[format])?;
        writer.frame(Kind::Header, &json(header)?)?;
        writer.frame(Kind::Secrets, &json(secrets)?)?;
        Ok(writer)
    }

    /// Adds a row. Rows come in the order of their keys; `table` is for people who look into the backup.
    ///
    /// # Errors
    /// If the output fails.
    pub fn put(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<()> {
        if self.waiting.len() >= FRAME_BYTES || self.table != table {
            self.write_rows()?;
            table.clone_into(&mut self.table);
        }
        for part in [key, value] {
            self.waiting.extend(length(part)?);
            self.waiting.extend(part);
        }
        self.totals.count(table, key, value);
        Ok(())
    }

    /// Ends it, and says what is in it.
    ///
    /// # Errors
    /// If the output fails.
    pub fn finish(mut self) -> Result<(W, Totals)> {
        self.write_rows()?;
        self.totals.sha256 = hex(self.digest.clone().finish().as_ref());
        let trailer = json(&self.totals)?;
        self.frame(Kind::Trailer, &trailer)?;
        Ok((self.output.finish()?, self.totals))
    }

    fn write_rows(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut frame = length(self.table.as_bytes())?.to_vec();
        frame.extend(self.table.as_bytes());
        frame.append(&mut self.waiting);
        self.frame(Kind::Rows, &frame)
    }

    fn frame(&mut self, kind: Kind, bytes: &[u8]) -> Result<()> {
        self.write(&[kind as u8])?;
        self.write(&length(bytes)?)?;
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.digest.update(bytes);
        Ok(self.output.write_all(bytes)?)
    }
}

fn length(bytes: &[u8]) -> Result<[u8; 4]> {
    let length = u32::try_from(bytes.len());
    length.map(u32::to_be_bytes).map_err(|_| BackupError::damaged("a row is larger than 4 GiB"))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| BackupError::Io(error.into()))
}
