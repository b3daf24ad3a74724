//! Encryption of a stream, in the form of `age` (age-encryption.org/v1) with X25519 recipients.
//!
//! ```text
//!   age-encryption.org/v1
//!   -> X25519 <share of a key that lives for this file>     one for each recipient
//!   <the file's key, wrapped>
//!   --- <HMAC of the lines above>
//!   nonce, then chunks of 64 KiB, each authenticated with its number; the last one says that it is the last
//! ```
//!
//! Why by hand: the only crate of `age` brings seventy more, among them three other cryptographic libraries, for a
//! page of code on the library that we have. The form is public and frozen, and a file that the original program
//! wrote is among the tests.

use std::io::{self, BufRead, Read, Write};

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

use crate::error::{BackupError, Result};
use crate::key::{KEY_BYTES, Recipient, RecoveryKey};

const VERSION_LINE: &str = "age-encryption.org/v1";
const X25519_INFO: &[u8] = b"age-encryption.org/v1/X25519";
const STANZA: &str = "-> ";
const X25519_STANZA: &str = "-> X25519 ";
const END: &str = "---";

const FILE_KEY_BYTES: usize = 16;
const NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// Fixed by the form.
const CHUNK_BYTES: usize = 64 * 1024;
/// A wrapped file key is 43 letters, and lines of a stanza are filled up to 64.
const BODY_LINE_LETTERS: usize = 64;
/// A header has a few lines per recipient; what is longer is none.
const HEADER_BYTES_MAX: u64 = 64 * 1024;

type FileKey = [u8; FILE_KEY_BYTES];

/// Encrypts what is written to it. Without [`SealWriter::finish`] the file is not whole, and readers see that.
pub(crate) struct SealWriter<W: Write> {
    output: W,
    chunks: Chunks,
    buffer: Vec<u8>,
}

/// Decrypts what it reads. The end of it is the end of the file as it was written, or an error.
pub(crate) struct SealReader<R: Read> {
    input: R,
    chunks: Chunks,
    /// Encrypted, read ahead: whether a chunk is the last one is seen by what follows.
    ahead: Vec<u8>,
    plain: Vec<u8>,
    at: usize,
    ended: bool,
}

/// Encrypts something small as a whole, for anybody with one of these keys. `age -d` opens it, and so does [`open`].
///
/// # Errors
/// If there is no recipient.
pub fn seal(content: &[u8], recipients: &[Recipient]) -> Result<Vec<u8>> {
    let mut writer = SealWriter::begin(vec![], recipients)?;
    writer.write_all(content)?;
    writer.finish()
}

/// Decrypts what [`seal`] has encrypted.
///
/// # Errors
/// A variant of its own for each reason: not encrypted like this, for another key, damaged.
pub fn open(sealed: &[u8], key: &RecoveryKey) -> Result<Vec<u8>> {
    let mut content = vec![];
    SealReader::open(sealed, key)?.read_to_end(&mut content)?;
    Ok(content)
}

impl<W: Write> SealWriter<W> {
    pub(crate) fn begin(mut output: W, recipients: &[Recipient]) -> Result<SealWriter<W>> {
        if recipients.is_empty() {
            return Err(BackupError::NoRecipient);
        }
        let file_key: FileKey = random()?;
        let mut header = format!("{VERSION_LINE}\n");
        for recipient in recipients {
            header.push_str(&stanza(&file_key, recipient)?);
        }
        header.push_str(END);
        let mac = hmac::sign(&header_key(&file_key)?, header.as_bytes());
        let nonce: [u8; NONCE_BYTES] = random()?;
        output.write_all(format!("{header} {}\n", BASE64.encode(mac)).as_bytes())?;
        output.write_all(&nonce)?;
        Ok(SealWriter {
            output,
            chunks: Chunks::new(&file_key, &nonce)?,
            buffer: Vec::with_capacity(CHUNK_BYTES),
        })
    }

    pub(crate) fn finish(mut self) -> Result<W> {
        self.write_chunk(true)?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn write_chunk(&mut self, last: bool) -> io::Result<()> {
        self.chunks.seal(&mut self.buffer, last)?;
        self.output.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl<W: Write> Write for SealWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full buffer is kept until more comes: the last chunk must not be empty.
        if self.buffer.len() == CHUNK_BYTES {
            self.write_chunk(false)?;
        }
        let taken = bytes.len().min(CHUNK_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl<R: BufRead> SealReader<R> {
    pub(crate) fn open(mut input: R, key: &RecoveryKey) -> Result<SealReader<R>> {
        let header = SealHeader::read(&mut input)?;
        let file_key = header.file_key(key)?;
        hmac::verify(&header_key(&file_key)?, header.signed.as_bytes(), &header.mac)
            .map_err(|_| BackupError::damaged("its first lines were changed"))?;
        let mut nonce = [0; NONCE_BYTES];
        input.read_exact(&mut nonce)?;
        let chunks = Chunks::new(&file_key, &nonce)?;
        let ahead = read_chunk(&mut input)?;
        Ok(SealReader { input, chunks, ahead, plain: vec![], at: 0, ended: false })
    }
}

impl<R: Read> SealReader<R> {
    fn next_chunk(&mut self) -> io::Result<()> {
        let following = match self.ahead.len() {
            CHUNK_WITH_TAG_BYTES => read_chunk(&mut self.input)?,
            _ => vec![],
        };
        let last = following.is_empty();
        let first = self.chunks.number == 0;
        self.plain = std::mem::replace(&mut self.ahead, following);
        self.chunks.open(&mut self.plain, last)?;
        if self.plain.is_empty() && !first {
            return Err(BackupError::damaged("its last part is empty").into());
        }
        self.at = 0;
        self.ended = last;
        Ok(())
    }
}

impl<R: Read> Read for SealReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() {
            if self.ended {
                return Ok(0);
            }
            self.next_chunk()?;
        }
        let taken = into.len().min(self.plain.len() - self.at);
        into[..taken].copy_from_slice(&self.plain[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

/// The lines at the beginning of a file.
pub(crate) struct SealHeader {
    /// Share and wrapped key for each recipient that we can be.
    shares: Vec<(Vec<u8>, Vec<u8>)>,
    signed: String,
    mac: Vec<u8>,
}

impl SealHeader {
    /// Reads the lines, without a key.
    pub(crate) fn read(input: &mut impl BufRead) -> Result<SealHeader> {
        let mut lines = Lines { input: input.take(HEADER_BYTES_MAX), signed: String::new() };
        let first = lines.next().map_err(|_| not_a_backup())?;
        if first != VERSION_LINE {
            return Err(not_a_backup());
        }
        let mut shares = vec![];
        loop {
            let line = lines.next()?;
            if let Some(mac) = line.strip_prefix("--- ") {
                let signed_bytes = lines.signed.len() - line.len() - 1 + END.len();
                lines.signed.truncate(signed_bytes);
                return Ok(SealHeader { shares, signed: lines.signed, mac: letters(mac)? });
            }
            if !line.starts_with(STANZA) {
                return Err(BackupError::damaged("its first lines are not those of an age file"));
            }
            let body = lines.body()?;
            // Other kinds of recipients may have been added by other programs; they are not for us.
            if let Some(share) = line.strip_prefix(X25519_STANZA) {
                shares.push((letters(share)?, body));
            }
        }
    }

    /// To how many keys the file is encrypted.
    pub(crate) fn recipients(&self) -> usize {
        self.shares.len()
    }

    fn file_key(&self, key: &RecoveryKey) -> Result<FileKey> {
        let mut found = self.shares.iter().filter_map(|(share, body)| unwrapped(key, share, body));
        found.next().ok_or(BackupError::WrongKey)
    }
}

struct Lines<R> {
    input: R,
    /// Everything that was read, with line ends.
    signed: String,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<String> {
        let mut bytes = vec![];
        self.input.read_until(b'\n', &mut bytes)?;
        if bytes.pop() != Some(b'\n') {
            return Err(BackupError::damaged("it ends within its first lines"));
        }
        let line = String::from_utf8(bytes)
            .map_err(|_| BackupError::damaged("its first lines are not those of an age file"))?;
        self.signed.push_str(&line);
        self.signed.push('\n');
        Ok(line)
    }

    /// The lines of a stanza's body; a line that is not full is the last one.
    fn body(&mut self) -> Result<Vec<u8>> {
        let mut text = String::new();
        loop {
            let line = self.next()?;
            text.push_str(&line);
            if line.len() < BODY_LINE_LETTERS {
                return letters(&text);
            }
        }
    }
}

fn not_a_backup() -> BackupError {
    BackupError::NotABackup("it does not begin as an encrypted file of the form age".into())
}

fn letters(text: &str) -> Result<Vec<u8>> {
    BASE64.decode(text).map_err(|_| BackupError::damaged("its first lines are not those of an age file"))
}

/// Wraps the file's key for a recipient.
fn stanza(file_key: &FileKey, recipient: &Recipient) -> Result<String> {
    let ours = PrivateKey::generate(&X25519).map_err(|_| crypto("making a key"))?;
    let share = ours.compute_public_key().map_err(|_| crypto("making a key"))?;
    let wrap = wrap_key(&ours, &recipient.0, share.as_ref(), &recipient.0).ok_or_else(|| {
        BackupError::InvalidKey { what: "recipient", detail: "nothing can be sent to it".into() }
    })?;
    let mut body = file_key.to_vec();
    wrap.seal_in_place_append_tag(zero_nonce(), Aad::empty(), &mut body)
        .map_err(|_| crypto("wrapping a key"))?;
    Ok(format!("{X25519_STANZA}{}\n{}\n", BASE64.encode(share), BASE64.encode(body)))
}

fn unwrapped(key: &RecoveryKey, share: &[u8], body: &[u8]) -> Option<FileKey> {
    if share.len() != KEY_BYTES || body.len() != FILE_KEY_BYTES + TAG_BYTES {
        return None;
    }
    let wrap = wrap_key(&key.private().ok()?, share, share, &key.recipient().0)?;
    let mut body = body.to_vec();
    let plain = wrap.open_in_place(zero_nonce(), Aad::empty(), &mut body).ok()?;
    (&*plain).try_into().ok()
}

/// The key that wraps the file's key between two halves of a share.
fn wrap_key(ours: &PrivateKey, theirs: &[u8], share: &[u8], recipient: &[u8]) -> Option<LessSafeKey> {
    let theirs = UnparsedPublicKey::new(&X25519, theirs);
    agree(ours, theirs, (), |secret| derived(secret, &[share, recipient].concat(), X25519_INFO).map_err(drop))
        .ok()
        .and_then(|key| cipher(&key).ok())
}

fn header_key(file_key: &FileKey) -> Result<hmac::Key> {
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &derived(file_key, b"", b"header")?))
}

/// The chunks of a file, numbered.
struct Chunks {
    key: LessSafeKey,
    number: u64,
}

const CHUNK_WITH_TAG_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

impl Chunks {
    fn new(file_key: &FileKey, nonce: &[u8]) -> Result<Chunks> {
        Ok(Chunks { key: cipher(&derived(file_key, nonce, b"payload")?)?, number: 0 })
    }

    fn seal(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<()> {
        let nonce = self.nonce(last);
        self.key.seal_in_place_append_tag(nonce, Aad::empty(), chunk).map_err(|_| crypto("encrypting"))
    }

    fn open(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<()> {
        let (number, nonce) = (self.number, self.nonce(last));
        let plain = self.key.open_in_place(nonce, Aad::empty(), chunk).map(|plain| plain.len());
        let plain = plain.map_err(|_| {
            BackupError::damaged(format!(
                "the 64 KiB from byte {} on were changed or cut off",
                number * 64 * 1024
            ))
        })?;
        chunk.truncate(plain);
        Ok(())
    }

    /// Eleven bytes of the chunk's number and one that says whether it is the last.
    fn nonce(&mut self, last: bool) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[3..11].copy_from_slice(&self.number.to_be_bytes());
        nonce[11] = u8::from(last);
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

fn read_chunk(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK_WITH_TAG_BYTES);
    input.take(CHUNK_WITH_TAG_BYTES as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

/// A key is used once with it.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn cipher(key: &[u8]) -> Result<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, key).map(LessSafeKey::new).map_err(|_| crypto("making a key"))
}

struct ThirtyTwo;

impl KeyType for ThirtyTwo {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

fn derived(secret: &[u8], salt: &[u8], info: &[u8]) -> Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[info], ThirtyTwo)
        .and_then(|derived| derived.fill(&mut key))
        .map_err(|_| crypto("deriving a key"))?;
    Ok(key)
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| crypto("asking for randomness"))?;
    Ok(bytes)
}

/// The library fails only where the operating system does.
fn crypto(doing: &'static str) -> BackupError {
    BackupError::Io(io::Error::other(format!("{doing} failed")))
}
