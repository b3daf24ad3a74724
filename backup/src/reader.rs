//! Reading a backup as a stream, with everything checked that can be checked on the way.

use std::io::{BufReader, ErrorKind, Read};

use aws_lc_rs::digest::{Context, SHA256};
use serde::de::DeserializeOwned;

use crate::error::{BackupError, Result};
use crate::format::{FORMAT, FRAME_BYTES_MAX, Header, Kind, MAGIC, Secrets, Totals, hex};
use crate::key::RecoveryKey;
use crate::seal::{SealHeader, SealReader};

/// To how many keys a file is encrypted. Needs no key.
///
/// # Errors
/// If it is no backup.
pub fn recipients_of(input: impl Read) -> Result<usize> {
    Ok(SealHeader::read(&mut BufReader::new(input))?.recipients())
}

/// A backup that is being read. It is whole only when [`Reader::next_rows`] has answered that there are no more.
pub struct Reader<R: Read> {
    input: SealReader<BufReader<R>>,
    digest: Context,
    header: Header,
    secrets: Secrets,
    counted: Totals,
    last_key: Vec<u8>,
    ended: bool,
}

/// Rows of one table, in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRows {
    /// The table's name, for people.
    pub table: String,
    /// Keys and values.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> Reader<R> {
    /// Opens a backup and reads what stands before the rows.
    ///
    /// # Errors
    /// A variant of its own for each reason: not a backup, another key, a newer format, damaged.
    pub fn open(input: R, key: &RecoveryKey) -> Result<Reader<R>> {
        let mut input = SealReader::open(BufReader::new(input), key)?;
        let mut digest = Context::new(&SHA256);
        let mut magic = [0; MAGIC.len() + 1];
        input.read_exact(&mut magic).map_err(|error| match error.kind() {
            // The encryption says that this is all there is.
            ErrorKind::UnexpectedEof => not_ours(),
            _ => error.into(),
        })?;
        digest.update(&magic);
        let (begin, format) = magic.split_at(MAGIC.len());
        if begin != MAGIC {
            return Err(not_ours());
        }
        let format = format.first().copied().unwrap_or_default();
        if format > FORMAT {
            return Err(BackupError::NewerFormat { found: format, supported: FORMAT });
        }
        let header = expect(&mut input, &mut digest, Kind::Header)?;
        let secrets = expect(&mut input, &mut digest, Kind::Secrets)?;
        let counted = Totals::default();
        Ok(Reader { input, digest, header, secrets, counted, last_key: vec![], ended: false })
    }

    /// Whose state it is.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What a new cluster needs.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// More rows; none when all were read, counted and compared with what the writer had counted.
    ///
    /// # Errors
    /// If the backup is damaged; nothing that was read from it may be used then.
    pub fn next_rows(&mut self) -> Result<Option<TableRows>> {
        if self.ended {
            return Ok(None);
        }
        let before = self.digest.clone();
        let (kind, bytes) = frame(&mut self.input, &mut self.digest)?;
        match kind {
            Kind::Rows => self.rows(&bytes).map(Some),
            Kind::Trailer => {
                self.counted.sha256 = hex(before.finish().as_ref());
                self.compare(&json(Kind::Trailer, &bytes)?)?;
                self.ended = true;
                Ok(None)
            }
            kind => Err(BackupError::damaged(format!("a {kind:?} stands among the rows"))),
        }
    }

    /// What was in it, once all of it was read.
    pub fn totals(&self) -> Option<&Totals> {
        self.ended.then_some(&self.counted)
    }

    /// Reads to the end and forgets the rows.
    ///
    /// # Errors
    /// Those of [`Reader::next_rows`].
    pub fn verify(mut self) -> Result<Totals> {
        while self.next_rows()?.is_some() {}
        Ok(self.counted)
    }

    fn rows(&mut self, bytes: &[u8]) -> Result<TableRows> {
        let mut rest = bytes;
        let table = part(&mut rest)?;
        let table = str::from_utf8(table).map_err(|_| BackupError::damaged("a table's name is no text"))?;
        let mut rows = vec![];
        while !rest.is_empty() {
            let (key, value) = (part(&mut rest)?, part(&mut rest)?);
            if self.counted.rows > 0 && key <= &*self.last_key {
                return Err(BackupError::damaged("its rows are not in order"));
            }
            key.clone_into(&mut self.last_key);
            self.counted.count(table, key, value);
            rows.push((key.to_vec(), value.to_vec()));
        }
        Ok(TableRows { table: table.to_owned(), rows })
    }

    /// Everything was read, nothing follows, and both have counted the same.
    fn compare(&mut self, written: &Totals) -> Result<()> {
        if *written != self.counted {
            return Err(BackupError::damaged(format!(
                "{} rows were written and {} were read, or their checksums differ",
                written.rows, self.counted.rows
            )));
        }
        match self.input.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(BackupError::damaged("something follows on its end")),
        }
    }
}

fn not_ours() -> BackupError {
    BackupError::NotABackup("the key opens it, but something else is in it".into())
}

fn expect<T: DeserializeOwned>(input: &mut impl Read, digest: &mut Context, kind: Kind) -> Result<T> {
    let (found, bytes) = frame(input, digest)?;
    match found == kind {
        true => json(kind, &bytes),
        false => Err(BackupError::damaged(format!("a {found:?} stands where the {kind:?} should be"))),
    }
}

fn frame(input: &mut impl Read, digest: &mut Context) -> Result<(Kind, Vec<u8>)> {
    let mut begin = [0; 5];
    input.read_exact(&mut begin)?;
    let [kind, length @ ..] = begin;
    let kind = Kind::of(kind).ok_or_else(|| BackupError::damaged(format!("a frame of kind {kind}")))?;
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(BackupError::damaged(format!("a frame of {length} bytes")));
    }
    let mut bytes = Vec::new();
    input.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(BackupError::damaged("it ends within a frame"));
    }
    digest.update(&begin);
    digest.update(&bytes);
    Ok((kind, bytes))
}

fn json<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| BackupError::damaged(format!("its {kind:?}: {error}")))
}

/// Splits a part off that begins with its length.
fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let cut = || BackupError::damaged("a row is cut off");
    let (length, following) = rest.split_first_chunk().ok_or_else(cut)?;
    let length = u32::from_be_bytes(*length) as usize;
    let (part, following) = following.split_at_checked(length).ok_or_else(cut)?;
    *rest = following;
    Ok(part)
}
