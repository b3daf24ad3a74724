//! What was measured, for people and for programs: lines as they come, a summary, a chart.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::chart::{self, Bar};
use crate::load::Round;
use crate::statistics::{median, rounded};

/// Everything that is known so far.
#[derive(Default)]
pub(crate) struct Report {
    findings: Vec<Finding>,
    bars: Vec<Bar>,
}

/// What came of one target.
pub(crate) struct Finding {
    /// As the targets are numbered.
    pub(crate) id: &'static str,
    /// `null` if it could not be measured.
    pub(crate) measured: Value,
    pub(crate) target: Value,
    pub(crate) pass: bool,
    pub(crate) detail: Value,
}

impl Finding {
    /// It could not be measured.
    pub(crate) fn failed(id: &'static str, error: &anyhow::Error) -> Finding {
        let detail = json!({ "error": format!("{error:#}") });
        Finding { id, measured: Value::Null, target: Value::Null, pass: false, detail }
    }
}

impl Report {
    /// Adds what came of a target, and says so.
    pub(crate) fn add(&mut self, finding: Finding) {
        let verdict = match (&finding.measured, finding.pass) {
            (Value::Null, _) => format!("not measured: {}", finding.detail["error"].as_str().unwrap_or("?")),
            (_, true) => "met".to_owned(),
            (_, false) => "MISSED".to_owned(),
        };
        println!("{}: {verdict} · measured {} · target {}\n", finding.id, finding.measured, finding.target);
        self.findings.push(finding);
    }

    /// Adds a row to the chart.
    pub(crate) fn bar(&mut self, bar: Bar) {
        self.bars.push(bar);
    }

    /// Writes `summary.json`, `machine.json` and `ratios.svg`. What only some targets were measured for is put beside
    /// what an earlier run has found about the others.
    pub(crate) fn write(&self, out: &Path, machine: &Value, only_some: bool) -> Result<()> {
        fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
        let json = |value: &Value| format!("{value:#}\n");
        let mut summary = if only_some { earlier(out) } else { Map::new() };
        summary.extend(self.summary());
        for (name, text) in [
            ("summary.json", json(&Value::Object(summary))),
            ("machine.json", json(machine)),
            ("ratios.svg", chart::svg("Skep beside etcd 3.5.1, same run, same disk", &self.bars)),
        ] {
            let path = out.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// The targets that could not be measured.
    pub(crate) fn unmeasured(&self) -> Vec<&'static str> {
        self.findings.iter().filter(|finding| finding.measured.is_null()).map(|finding| finding.id).collect()
    }

    /// The targets that were missed.
    pub(crate) fn missed(&self) -> Vec<&'static str> {
        let missed = self.findings.iter().filter(|finding| !finding.measured.is_null() && !finding.pass);
        missed.map(|finding| finding.id).collect()
    }

    fn summary(&self) -> Map<String, Value> {
        let entry = |finding: &Finding| {
            let entry = json!({
                "measured": finding.measured,
                "target": finding.target,
                "pass": finding.pass,
                "detail": finding.detail,
            });
            (finding.id.to_owned(), entry)
        };
        self.findings.iter().map(entry).collect()
    }
}

/// The summary of an earlier run, if there is one that can be read.
fn earlier(out: &Path) -> Map<String, Value> {
    let text = fs::read_to_string(out.join("summary.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// The medians over rounds, for the summary.
pub(crate) fn rounds(rounds: &[Round]) -> Value {
    let of = |field: fn(&Round) -> f64| median(&rounds.iter().map(field).collect::<Vec<_>>());
    json!({
        "per_second": of(|round| round.per_second).map(|value| rounded(value, 0)),
        "p50_ms": of(|round| round.p50_ms).map(|value| rounded(value, 3)),
        "p99_ms": of(|round| round.p99_ms).map(|value| rounded(value, 3)),
        "rounds": rounds.iter().map(|round| rounded(round.per_second, 0)).collect::<Vec<_>>(),
    })
}

/// Seconds for people and programs.
pub(crate) fn seconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64(), 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        for (id, pass) in [("P1", true), ("P2", false)] {
            let (measured, target) = (json!(1.25), json!(1.0));
            report.add(Finding { id, measured, target, pass, detail: json!({ "clients": 64 }) });
        }
        report.add(Finding::failed("P3", &anyhow::anyhow!("no leader")));
        report
    }

    #[test]
    fn the_summary_has_an_entry_for_every_target_with_the_same_four_keys() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let out = dir.path().join("bench");
        report().write(&out, &json!({ "processors": 2 }), false).expect("writes");
        let text = fs::read_to_string(out.join("summary.json")).expect("reads");
        let summary: Value = serde_json::from_str(&text).expect("is JSON");
        assert_eq!(
            summary["P1"],
            json!({ "measured": 1.25, "target": 1.0, "pass": true, "detail": { "clients": 64 } })
        );
        assert_eq!(summary["P2"]["pass"], json!(false));
        assert_eq!(summary["P3"]["measured"], Value::Null);
        assert!(out.join("ratios.svg").exists() && out.join("machine.json").exists());
    }

    #[test]
    fn measuring_only_some_targets_keeps_what_is_known_of_the_others() {
        let dir = tempfile::tempdir().expect("makes a folder");
        report().write(dir.path(), &json!({}), false).expect("writes");
        let mut again = Report::default();
        again.add(Finding { id: "P2", measured: json!(2), target: json!(1), pass: true, detail: json!({}) });
        again.write(dir.path(), &json!({}), true).expect("writes");
        let summary = earlier(dir.path());
        assert_eq!(
            (summary["P2"]["pass"].clone(), summary["P1"]["pass"].clone()),
            (json!(true), json!(true))
        );
        again.write(dir.path(), &json!({}), false).expect("writes");
        assert_eq!(earlier(dir.path()).len(), 1, "a whole run says everything that it says");
    }

    #[test]
    fn what_was_missed_is_told_apart_from_what_was_not_measured() {
        assert_eq!((report().missed(), report().unmeasured()), (vec!["P2"], vec!["P3"]));
    }
}
