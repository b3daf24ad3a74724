//! What `skep snapshot` says of the schedule, and how it writes files.

use super::*;

fn schedule(recipients: Value, enabled: bool, error: Value) -> Value {
    json!({
        "spec": {"enabled": enabled, "every_minutes": 720, "keep": 5, "directory": null, "recipients": recipients},
        "status": {"last_attempt_at": "2026-11-20T10:00:00Z", "last_success_at": "2026-11-19T22:00:00Z",
                   "last_success_revision": 81240, "error": error},
    })
}

#[test]
fn a_schedule_that_does_not_work_is_warned_of() {
    let cases = [
        (schedule(json!([]), true, Value::Null), Some("no recovery key")),
        (schedule(json!(["age1a"]), false, Value::Null), Some("--on")),
        (schedule(json!(["age1a"]), true, json!("no space left")), Some("no space left")),
        (schedule(json!(["age1a"]), true, Value::Null), None),
    ];
    for (schedule, expected) in cases {
        let warning = warning(&schedule);
        match expected {
            None => assert_eq!(warning, None),
            Some(words) => assert!(warning.expect("is warned of").contains(words)),
        }
    }
}

#[test]
fn a_schedule_is_described_in_four_lines() {
    assert_eq!(
        described(&schedule(json!(["age1a", "age1b"]), true, Value::Null)),
        "Schedule       on, every 12 h, 5 are kept\n\
         Directory      snapshots-out in each manager's data folder\n\
         Recovery keys  age1a, age1b\n\
         Last verified  2026-11-19T22:00:00Z, revision 81240\n"
    );
}

#[test]
fn times_are_whole_minutes() {
    assert_eq!(minutes("12h").expect("is a time"), 720);
    assert_eq!(minutes("90m").expect("is a time"), 90);
    for wrong in ["30s", "90s", "often", "0m"] {
        assert_eq!(minutes(wrong).expect_err("is refused").exit(), Exit::Usage, "{wrong}");
    }
}

#[test]
fn a_file_gets_its_name_when_it_is_complete_and_replaces_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let wished = folder.path().join("skep.backup");
    let names = || fs::read_dir(folder.path()).expect("is read").count();
    drop(Part::beside(&wished).expect("begins"));
    assert_eq!(names(), 0, "what was not completed is removed");
    Part::beside(&wished).expect("begins").keep(&wished).expect("is kept");
    assert_eq!(names(), 1);
    refuse_existing(&wished).expect_err("is refused");
    let late = Part::beside(&wished).expect("begins");
    late.keep(&wished).expect_err("another file has come meanwhile");
    assert_eq!(names(), 1);
}
