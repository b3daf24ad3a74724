//! The part of Docker's templates that people use: `{{.Name}}`, `{{.status.state}}`, `{{json .}}`, `table …`.
//!
//! Own code, because the rest of Go's template language (loops, conditions, pipes) is what `--jq` is for.

use serde_json::Value;

use crate::failure::Failure;
use crate::table;
use crate::value::clean;

/// Go says it in the same words; a field that was mistyped is seen.
const NOTHING: &str = "<no value>";

/// Where a short name is looked for besides the object itself: `{{.Name}}` means `metadata.name`, `{{.State}}` `status.state`.
const PARTS: &[&str] = &["metadata", "spec", "status"];

/// A template that was understood.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
    /// With a header, and columns where the tabs are.
    table: bool,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    /// The fields on the way to a value; none is the object itself.
    Field(Vec<String>, How),
}

/// What is made of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Plain,
    Json,
    Upper,
    Lower,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Template, Failure> {
        let (table, text) = match text.strip_prefix("table ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, inside)) = rest.split_once("{{") {
            let (action, after) = inside
                .split_once("}}")
                .ok_or_else(|| wrong(format!("the template has '{{{{{inside}' without its '}}}}'")))?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(field(action.trim())?);
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Template { pieces, table })
    }

    /// A line for each of them.
    pub(crate) fn render(&self, items: &[Value]) -> String {
        let lines: Vec<String> =
            items.iter().map(|item| self.line(|path, how| shown(item, path, how))).collect();
        if !self.table {
            return lines.iter().map(|line| format!("{line}\n")).collect();
        }
        let header = self.line(|path, _| path.last().map_or_else(String::new, |name| name.to_uppercase()));
        let cells = |line: &String| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
        table::aligned(&std::iter::once(&header).chain(&lines).map(cells).collect::<Vec<_>>())
    }

    fn line(&self, value: impl Fn(&[String], How) -> String) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Field(path, how) => value(path, *how),
        };
        self.pieces.iter().map(piece).collect()
    }
}

fn field(action: &str) -> Result<Piece, Failure> {
    let (how, path) = match action.split_once(char::is_whitespace) {
        None => (How::Plain, action),
        Some(("json", path)) => (How::Json, path.trim()),
        Some(("upper", path)) => (How::Upper, path.trim()),
        Some(("lower", path)) => (How::Lower, path.trim()),
        Some((other, _)) => return Err(wrong(format!("the template's '{other}' is not known here"))),
    };
    let fields = path
        .strip_prefix('.')
        .filter(|fields| {
            fields.is_empty() || !fields.split('.').any(|field| field.is_empty() || field.contains(' '))
        })
        .ok_or_else(|| wrong(format!("the template's '{{{{{action}}}}}' names no field")))?;
    let fields = fields.split('.').filter(|field| !field.is_empty()).map(str::to_owned).collect();
    Ok(Piece::Field(fields, how))
}

fn wrong(what: String) -> Failure {
    Failure::usage(
        what,
        "templates know {{.Name}}, {{.status.state}}, {{json .}}, {{upper .Name}}, {{lower .Name}} and a leading 'table '; \
         for more use --jq",
    )
}

fn shown(item: &Value, path: &[String], how: How) -> String {
    let value = found(item, path);
    match (how, value) {
        (How::Json, value) => value.unwrap_or(&Value::Null).to_string(),
        (_, None | Some(Value::Null)) => NOTHING.to_owned(),
        (how, Some(value)) => {
            let text = clean(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            match how {
                How::Upper => text.to_uppercase(),
                How::Lower => text.to_lowercase(),
                How::Plain | How::Json => text,
            }
        }
    }
}

fn found<'a>(item: &'a Value, path: &[String]) -> Option<&'a Value> {
    let below = |start: &'a Value| path.iter().try_fold(start, |at, name| member(at, name));
    below(item).or_else(|| PARTS.iter().find_map(|part| below(item.get(part)?)))
}

/// A field as the API writes it, or as Go's habits do: `Name`, `CreatedAt`.
fn member<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let members = object.as_object()?;
    let same = |key: &str| key.replace('_', "").eq_ignore_ascii_case(&name.replace('_', ""));
    members.get(name).or_else(|| members.iter().find(|(key, _)| same(key)).map(|(_, value)| value))
}
