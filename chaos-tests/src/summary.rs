//! The benchmark's summary, which several programs write into.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

/// Puts what one target was measured as beside what is known of the others.
pub fn write(out: &Path, id: &str, finding: Value) -> Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let path = out.join("summary.json");
    let earlier = fs::read_to_string(&path).unwrap_or_default();
    let mut summary: Map<String, Value> = serde_json::from_str(&earlier).unwrap_or_default();
    summary.insert(id.into(), finding);
    fs::write(&path, format!("{:#}\n", Value::Object(summary)))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}
