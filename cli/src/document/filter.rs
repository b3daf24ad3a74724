//! `--jq`: an object through a filter, in process.

use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars, data, unwrap_valr};
use jaq_json::{Val, read};
use serde_json::Value;

use crate::failure::Failure;

type Compiled = Filter<data::JustLut<Val>>;

/// What jaq does not have: as jq prints a list as a row.
const OURS: &str = r#"
def _row(quoted):
  if isarray | not then error("\(tojson) is no list, and only a list becomes a row") end
  | map(
      if . == null then ""
      elif isstring then quoted
      elif . >= [] then error("\(tojson) cannot stand in a row: only texts, numbers, truth values and null can")
      else tojson end
    );
def @csv: _row("\"" + gsub("\""; "\"\"") + "\"") | join(",");
def @tsv:
  _row(gsub("\\\\"; "\\\\") | gsub("\t"; "\\t") | gsub("\r"; "\\r") | gsub("\n"; "\\n")) | join("\t");
"#;

/// They would end the process with a code of their own, and codes have a meaning here (see `exit`).
const LEFT_OUT: &[&str] = &["halt", "halt_error"];

/// Whether the expression is one.
pub(crate) fn check(expression: &str) -> Result<(), Failure> {
    compiled(expression).map(drop)
}

/// Every result on its line; a text without quotes, as it is mostly wanted by a script.
pub(crate) fn run(expression: &str, document: &Value) -> Result<String, Failure> {
    let filter = compiled(expression)?;
    let failed = |why: String| Failure::Unprinted {
        what: format!("--jq '{expression}' does not fit the answer: {why}"),
        fix: "see the answer with: -o json",
    };
    let input =
        read::parse_single(document.to_string().as_bytes()).map_err(|error| failed(error.to_string()))?;
    let context = Ctx::<data::JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let mut text = String::new();
    for result in filter.id.run((context, input)).map(unwrap_valr) {
        let result = result.map_err(|error| failed(error.to_string()))?.to_string();
        match serde_json::from_str(&result) {
            Ok(Value::String(raw)) => text.push_str(&raw),
            _ => text.push_str(&result),
        }
        text.push('\n');
    }
    Ok(text)
}

fn compiled(expression: &str) -> Result<Compiled, Failure> {
    let wrong = |why: String| {
        Failure::usage(
            format!("--jq '{expression}' is no filter: {why}"),
            "filters are those of jq without halt and halt_error, such as .items[].metadata.name",
        )
    };
    let ours = load::parse(OURS, |parser| parser.defs()).unwrap_or_default();
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).chain(ours);
    let definitions = definitions.filter(|definition| !LEFT_OUT.contains(&definition.name));
    let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let functions = functions.filter(|(name, ..)| !LEFT_OUT.contains(name));
    let arena = Arena::default();
    let modules = Loader::new(definitions)
        .load(&arena, File { code: expression, path: () })
        .map_err(|_| wrong("it cannot be read".to_owned()))?;
    Compiler::default().with_funs(functions).compile(modules).map_err(|errors| {
        let unknown = errors.into_iter().flat_map(|(_, errors)| errors).map(|(name, _)| format!("'{name}'"));
        wrong(format!("it does not know {}", unknown.collect::<Vec<_>>().join(", ")))
    })
}
