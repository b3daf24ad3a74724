//! Round trips, and everything that must not be taken for a backup.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;
use skep_codes::Code;

use crate::seal::{SealReader, SealWriter};
use crate::{
    BackupError, FORMAT, Header, Reader, RecoveryKey, Secrets, TableRows, Totals, Writer, recipients_of,
};

fn header() -> Header {
    Header {
        cluster: "c1".into(),
        epoch: 3,
        revision: 81_240,
        term: 7,
        highest_node: 5,
        created_at: "2026-11-20T12:00:00Z".parse().expect("is a time"),
        manager: "m2".into(),
        version: "0.1.0".into(),
    }
}

fn secrets() -> Secrets {
    Secrets { ca_pem: "certificate".into(), ca_key_pem: "ca-secret".into(), registration_key: "00ff".into() }
}

fn written(key: &RecoveryKey, rows: &[(&str, Vec<u8>, Vec<u8>)]) -> (Vec<u8>, Totals) {
    let mut writer = Writer::begin(vec![], &[key.recipient()], &header(), &secrets()).expect("begins");
    for (table, key, value) in rows {
        writer.put(table, key, value).expect("takes a row");
    }
    writer.finish().expect("ends")
}

fn read(bytes: &[u8], key: &RecoveryKey) -> crate::Result<(Vec<TableRows>, Totals)> {
    let mut reader = Reader::open(bytes, key)?;
    assert_eq!((reader.header(), reader.secrets()), (&header(), &secrets()));
    let mut chunks = vec![];
    while let Some(rows) = reader.next_rows()? {
        chunks.push(rows);
    }
    Ok((chunks, reader.totals().expect("all was read").clone()))
}

/// More than one frame and more than one chunk of the encryption.
fn some_rows() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let row = |number: u32| {
        let table = if number < 300 { "environment" } else { "host" };
        (table, number.to_be_bytes().to_vec(), vec![number as u8; 1_000])
    };
    (0..600).map(row).collect()
}

#[test]
fn what_was_written_is_read_table_by_table() {
    let key = RecoveryKey::generate();
    let rows = some_rows();
    let (bytes, totals) = written(&key, &rows);
    let (chunks, read) = read(&bytes, &key).expect("reads");
    assert_eq!(read, totals);
    assert_eq!((totals.rows, totals.tables["environment"], totals.tables["host"]), (600, 300, 300));
    let again: Vec<_> = chunks
        .iter()
        .flat_map(|chunk| chunk.rows.iter().map(|(key, value)| (&*chunk.table, key.clone(), value.clone())))
        .collect();
    assert_eq!(again, rows);
    assert!(chunks.len() > 2, "rows are written in frames, not as one piece");
    assert!(!bytes.windows(9).any(|part| part == b"ca-secret"), "secrets are encrypted");
}

#[test]
fn an_empty_state_is_a_backup_too() {
    let key = RecoveryKey::generate();
    let (bytes, totals) = written(&key, &[]);
    assert_eq!(read(&bytes, &key).expect("reads"), (vec![], totals));
}

/// With which code it is not read.
#[track_caller]
fn refused(bytes: &[u8], key: &RecoveryKey) -> Code {
    let error = read(bytes, key).expect_err("is refused");
    error.code().unwrap_or_else(|| panic!("without a code: {error}"))
}

#[test]
fn every_recipient_opens_it_and_nobody_else() {
    let (ours, theirs, strange) = (RecoveryKey::generate(), RecoveryKey::generate(), RecoveryKey::generate());
    let recipients = [ours.recipient(), theirs.recipient()];
    let writer = Writer::begin(vec![], &recipients, &header(), &secrets()).expect("begins");
    let (bytes, _) = writer.finish().expect("ends");
    assert_eq!(recipients_of(&*bytes).expect("is a backup"), 2);
    for key in [&ours, &theirs] {
        read(&bytes, key).expect("opens");
    }
    assert_eq!(refused(&bytes, &strange), "SKP-3402");
    let nobody = Writer::begin(vec![], &[], &header(), &secrets());
    assert!(matches!(nobody.map(drop), Err(BackupError::NoRecipient)));
}

#[test]
fn what_is_no_backup_is_called_so() {
    let key = RecoveryKey::generate();
    for bytes in [b"".as_slice(), b"PK\x03\x04 something", b"no line end", b"another line\n", &[0xff; 300]] {
        assert_eq!(refused(bytes, &key), "SKP-3401", "{bytes:?}");
    }
    for content in [b"tiny".as_slice(), b"another file of somebody, encrypted to the same key"] {
        let mut seal = SealWriter::begin(vec![], &[key.recipient()]).expect("begins");
        seal.write_all(content).expect("writes");
        let bytes = seal.finish().expect("ends");
        assert_eq!(refused(&bytes, &key), "SKP-3401");
    }
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let key = RecoveryKey::generate();
    let writer = Writer::begin_as(FORMAT + 1, vec![], &[key.recipient()], &header(), &secrets());
    let (bytes, _) = writer.expect("begins").finish().expect("ends");
    assert_eq!(refused(&bytes, &key), "SKP-3403");
    let told = read(&bytes, &key).expect_err("is refused").to_string();
    assert!(told.contains(&format!("format {}", FORMAT + 1)), "{told}");
}

#[test]
fn rows_out_of_order_are_damage() {
    let key = RecoveryKey::generate();
    let row = |key: u8| ("host", vec![key], vec![]);
    for rows in [[row(2), row(1)], [row(1), row(1)]] {
        let (bytes, _) = written(&key, &rows);
        assert_eq!(refused(&bytes, &key), "SKP-3404");
    }
}

#[test]
fn a_key_survives_its_text_and_typing_errors_are_found() {
    let key = RecoveryKey::generate();
    let text = key.reveal();
    assert!(text.starts_with("AGE-SECRET-KEY-1"), "{text}");
    let file = format!("# keep me\n\n{text}\n");
    assert_eq!(RecoveryKey::parse_file(&file).expect("reads").recipient(), key.recipient());
    let public = key.recipient().to_string();
    assert_eq!(public.parse::<crate::Recipient>().expect("reads"), key.recipient());
    let swapped = text.replacen(&text[20..21], if &text[20..21] == "Q" { "P" } else { "Q" }, 1);
    for wrong in [public.as_str(), swapped.as_str(), "", "# only a comment", "AGE-SECRET-KEY-1"] {
        let refused = RecoveryKey::parse_file(wrong).expect_err("is refused");
        assert!(refused.code().is_some_and(|code| code == "SKP-3405"), "{wrong}");
    }
    assert!(!format!("{key:?}").contains(&text));
}

/// Made by the crate `age` 0.12.1: two recipients, the second of which is ours, and five letters.
#[test]
fn a_file_of_the_original_program_is_opened() {
    let key: RecoveryKey = AGE_KEY.parse().expect("is a key");
    assert_eq!(key.recipient().to_string(), AGE_RECIPIENT);
    let bytes = BASE64.decode(AGE_FILE.replace(['\n', ' '], "")).expect("is base64");
    let mut text = String::new();
    let mut reader = SealReader::open(&*bytes, &key).expect("opens");
    std::io::Read::read_to_string(&mut reader, &mut text).expect("reads");
    assert_eq!(text, "xxxxx");
}

const AGE_KEY: &str = "AGE-SECRET-KEY-1Z57LGJW6KLC3TSC5A5RV2JVUD5CS3H8KUCDNQ7G43UREPPT39XFSGT5SPD";
const AGE_RECIPIENT: &str = "age12hk83kznxm7vucd569uzhrw5sgyxy50qrx5xdepxyap72kmmlg5qt79v2d";
const AGE_FILE: &str = "\
    YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBYRzdMTEhRMjUraXZNVXI1c0dtRWRGVDBPbmZGRmJLanVvVHNiSXJG\
    MW04ClQ4YzJHOUh1RUR1TmV6NHBhbUhuc3BYNE5TSjlMd1BNMG1EY2ExSGFzN3cKLT4gWDI1NTE5IFFpL0pZOG4vajlDeHh3\
    Q29PYnV4bkY5cjZDaENtQkFjZmZCOUVzQTYvelkKeXk1TGl3eGhFYzVCMWVXRHJSRG44THdCRUYvUld1TmNreW1HSURJNjZG\
    OAotPiB7ZUJdPS1ncmVhc2UgeFQgOSp7aSAsKCQ8M2NmIHwKTVY0M2VBRDZiZlp1WS96QW55NlVzcTBIcFZvR0tlQVlMR3c4\
    Q1RmUW9NeU9jcWJQVWVCWDYvaTh3K3VVbFVWVgpXcExOZlA5cFlGRE5keDdwbnIyTwotLS0gNWN6ZXZhc3FkdHNnSW5FOTA2\
    M1BoSTMra1hGVSt1YUVXK3pVZlUyeUFNUQrelVmKZf/hRRZUvUdhOqyya6ixIS+x5YBZDQJkJaruikCSn+T2";

/// One backup for all cases; making one is the slow part.
fn sample() -> &'static (RecoveryKey, Vec<u8>) {
    static SAMPLE: std::sync::LazyLock<(RecoveryKey, Vec<u8>)> = std::sync::LazyLock::new(|| {
        let key = RecoveryKey::generate();
        let (bytes, _) = written(&key, &some_rows()[..120]);
        (key, bytes)
    });
    &SAMPLE
}

#[test]
fn a_flipped_bit_in_any_byte_of_the_first_lines_is_found() {
    let (key, bytes) = sample();
    let lines = bytes.windows(4).position(|part| part == b"--- ").expect("the first lines end") + 70;
    for at in 0..lines {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        read(&changed, key).expect_err("is found");
    }
}

proptest! {
    #[test]
    fn a_changed_byte_is_found_wherever_it_is(at in any::<prop::sample::Index>(), change in 1_u8..) {
        let (key, bytes) = sample();
        let mut changed = bytes.clone();
        let at = at.index(changed.len());
        changed[at] ^= change;
        prop_assert!(read(&changed, key).is_err(), "byte {at} of {} was changed by {change}", bytes.len());
    }

    #[test]
    fn a_backup_that_was_cut_off_is_found(at in any::<prop::sample::Index>()) {
        let (key, bytes) = sample();
        prop_assert!(read(&bytes[..at.index(bytes.len())], key).is_err());
    }

    #[test]
    fn a_backup_with_something_behind_it_is_found(more in prop::collection::vec(any::<u8>(), 1..200)) {
        let (key, bytes) = sample();
        prop_assert!(read(&[bytes.as_slice(), &more].concat(), key).is_err());
    }

    #[test]
    fn any_rows_survive(rows in prop::collection::btree_map(
        prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..3_000), 0..60)
    ) {
        let key = RecoveryKey::generate();
        let rows: Vec<_> = rows.into_iter().map(|(key, value)| ("t", key, value)).collect();
        let (bytes, totals) = written(&key, &rows);
        let (chunks, again) = read(&bytes, &key).expect("reads");
        prop_assert_eq!(again, totals);
        let again: Vec<_> = chunks.into_iter().flat_map(|chunk| chunk.rows).map(|(k, v)| ("t", k, v)).collect();
        prop_assert_eq!(again, rows);
    }
}
