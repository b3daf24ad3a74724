//! How Docker finds out whether a container works. Swarm replaces a task that does not.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::node::{Node, Value};
use super::quantity::{Misfit, boolean, duration, whole};
use super::reader::{Key, Reader, read};

/// The engine refuses shorter times, and only when a task starts.
const TIME_MIN: Duration = Duration::from_millis(1);

/// The check of a container. What is None is taken from the image, then from the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `NONE`; or `CMD` and words; or `CMD-SHELL` and a line. Empty: the image's own test.
    pub test: Vec<String>,
    /// Time between two checks.
    pub interval: Option<Duration>,
    /// How long one check may take.
    pub timeout: Option<Duration>,
    /// Failures in a row after which the container counts as broken.
    pub retries: Option<u64>,
    /// Time after the start in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between two checks during the start period.
    pub start_interval: Option<Duration>,
}

/// A health check.
pub(super) const HEALTHCHECK_KEYS: &[Key<Healthcheck>] = &[
    read("test", "a shell line, or a list that begins with `NONE`, `CMD` or `CMD-SHELL`", read_test),
    read("interval", "time between two checks", |cx, node, check| check.interval = cx.value(node, time)),
    read("timeout", "how long one check may take", |cx, node, check| check.timeout = cx.value(node, time)),
    read("retries", "failures in a row until the container counts as broken", |cx, node, check| {
        check.retries = cx.value(node, whole);
    }),
    read("start_period", "time after the start in which failures do not count", |cx, node, check| {
        check.start_period = cx.value(node, time);
    }),
    read("start_interval", "time between two checks during the start period", |cx, node, check| {
        check.start_interval = cx.value(node, time);
    }),
    read("disable", "`true` switches off the check of the image", read_disable),
];

impl Healthcheck {
    pub(super) fn read(cx: &mut Reader<'_>, node: &Node) -> Healthcheck {
        let mut check = Healthcheck::default();
        cx.keys(node, HEALTHCHECK_KEYS, &mut check);
        check
    }
}

fn read_test(cx: &mut Reader<'_>, node: &Node, check: &mut Healthcheck) {
    let test = match node.value {
        Value::List(_) => cx.texts(node),
        _ => match cx.text(node) {
            Some(line) => vec!["CMD-SHELL".to_owned(), line],
            None => return,
        },
    };
    let complete = match test.first().map(String::as_str) {
        Some("NONE") => test.len() == 1,
        Some("CMD") => test.len() > 1,
        Some("CMD-SHELL") => test.len() == 2,
        _ => false,
    };
    if !complete {
        return cx.fail_hint(
            node,
            "is not a test",
            "write a shell line, [CMD, program, arguments…], [CMD-SHELL, line] or [NONE]",
        );
    }
    set_test(cx, node, check, test);
}

fn read_disable(cx: &mut Reader<'_>, node: &Node, check: &mut Healthcheck) {
    if cx.value(node, boolean) == Some(true) {
        set_test(cx, node, check, vec!["NONE".to_owned()]);
    }
}

fn set_test(cx: &mut Reader<'_>, node: &Node, check: &mut Healthcheck, test: Vec<String>) {
    if !check.test.is_empty() && check.test != test {
        return cx.fail_hint(
            node,
            "a check cannot have a test and be disabled",
            "keep one of 'test' and 'disable'",
        );
    }
    check.test = test;
}

fn time(text: &str) -> Result<Duration, Misfit> {
    duration(text).and_then(|time| {
        let too_short = || Misfit::new(format!("'{text}' is too short"), "write at least 1ms");
        (time >= TIME_MIN || time.is_zero()).then_some(time).ok_or_else(too_short)
    })
}
