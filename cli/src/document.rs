//! How whole objects are printed: as JSON, as YAML, a line each, through a template, or through a filter.
//!
//! Commands only decide between a table, names and "the object"; everything here is said once, for all of them.

mod filter;
mod template;

use serde_json::Value;

use self::template::Template;
use crate::failure::Failure;
use crate::flags::Output;

/// The form of a printed object.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// Indented.
    Json,
    Yaml,
    /// One line of JSON for each item of a list.
    Lines,
    /// Docker's templates.
    Template(Template),
    /// The expression of `--jq`, which has been checked.
    Filter(String),
}

impl Form {
    /// What the flags ask for.
    pub(crate) fn of(
        output: Option<Output>,
        said: Option<Output>,
        format: Option<&str>,
        jq: Option<&str>,
    ) -> Result<Form, Failure> {
        if let (Some(_), Some(_)) = (format, said) {
            return Err(Failure::usage(
                "--format and --output say different things",
                "give one of them; a table is --format 'table {{.Name}}'",
            ));
        }
        if jq.is_some() && said.is_some_and(|output| output != Output::Json) {
            return Err(Failure::usage("--jq filters JSON", "leave --output out, or give -o json"));
        }
        match (jq, format) {
            (Some(expression), _) => {
                filter::check(expression)?;
                Ok(Form::Filter(expression.to_owned()))
            }
            // As `docker … --format json`.
            (None, Some("json")) => Ok(Form::Lines),
            (None, Some(text)) => Ok(Form::Template(Template::parse(text)?)),
            (None, None) => Ok(match output {
                Some(Output::Yaml) => Form::Yaml,
                Some(Output::Ndjson) => Form::Lines,
                _ => Form::Json,
            }),
        }
    }

    /// The object, or the list of objects, with the end of its last line.
    pub(crate) fn text(&self, document: &Value) -> Result<String, Failure> {
        match self {
            Form::Json => Ok(format!("{document:#}\n")),
            Form::Lines => Ok(each(document).iter().map(|item| format!("{item}\n")).collect()),
            Form::Yaml => yaml(document),
            Form::Template(template) => Ok(template.render(each(document))),
            Form::Filter(expression) => filter::run(expression, document),
        }
    }

    /// One of many that come by and by: a line each, or what marks where the next one begins.
    pub(crate) fn next(&self, document: &Value) -> Result<String, Failure> {
        match self {
            Form::Json => Ok(format!("{document}\n")),
            Form::Yaml => Ok(format!("---\n{}", yaml(document)?)),
            other => other.text(document),
        }
    }
}

/// YAML, as it is read again by everything that reads YAML 1.2.
pub(crate) fn yaml(document: &Value) -> Result<String, Failure> {
    let text = serde_saphyr::to_string(document).map_err(|error| Failure::Unprinted {
        what: format!("this is not to be said in YAML: {error}"),
        fix: "use -o json",
    })?;
    Ok(format!("{}\n", text.trim_end_matches('\n')))
}

/// The items of a list; an object is the only one of its own.
fn each(document: &Value) -> &[Value] {
    match document.get("items").and_then(Value::as_array) {
        Some(items) if document.get("metadata").is_none() => items,
        _ => std::slice::from_ref(document),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list() -> Value {
        json!({"items": [
            {"kind": "Host", "metadata": {"name": "web-1", "labels": {"zone": "a"}}, "status": {"state": "active"}},
            {"kind": "Host", "metadata": {"name": "edge"}, "status": {"state": "joining", "message": "on\nits way"}},
        ], "revision": 7})
    }

    fn text(output: Option<Output>, format: Option<&str>, jq: Option<&str>) -> String {
        Form::of(output, output, format, jq).and_then(|form| form.text(&list())).expect("a text")
    }

    #[test]
    fn yaml_says_the_same() {
        let text = text(Some(Output::Yaml), None, None);
        assert_eq!(serde_saphyr::from_str::<Value>(&text).expect("YAML"), list(), "{text}");
        let odd = json!({"version": "1.10", "yes": "no", "empty": "", "text": "a\nb\n", "none": null, "n": 3, "t": true,
                         "colon": "a: b", "dash": "- x", "list": [], "object": {}, "sharp": "x #y"});
        let text = yaml(&odd).expect("YAML");
        assert_eq!(serde_saphyr::from_str::<Value>(&text).expect("YAML"), odd, "{text}");
    }

    #[test]
    fn each_item_has_its_line() {
        let lines = text(Some(Output::Ndjson), None, None);
        let names: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["metadata"]["name"].clone())
            .collect();
        assert_eq!(names, ["web-1", "edge"]);
        assert_eq!(text(None, Some("json"), None), lines, "as docker says it");
    }

    #[test]
    fn templates_are_those_of_docker() {
        for (template, printed) in [
            ("{{.Name}}", "web-1\nedge\n"),
            ("{{.metadata.name}} is {{ .status.state }}", "web-1 is active\nedge is joining\n"),
            (r"{{.Name}}\t{{upper .State}}", "web-1\tACTIVE\nedge\tJOINING\n"),
            ("{{json .status.state}}", "\"active\"\n\"joining\"\n"),
            ("table {{.Name}}\\t{{.State}}", "NAME    STATE\nweb-1   active\nedge    joining\n"),
            // What moves the cursor is not printed; what is not there is seen.
            ("{{.Message}}", "<no value>\non its way\n"),
            ("{{.metadata.labels.zone}}", "a\n<no value>\n"),
        ] {
            assert_eq!(text(None, Some(template), None), printed, "{template}");
        }
        let whole = text(None, Some("{{json .}}"), None);
        assert_eq!(whole, text(Some(Output::Ndjson), None, None));
        for (wrong, why) in
            [("{{.Name", "}}"), ("{{range .}}", "range"), ("{{}}", "{{.Name}}"), ("{{join .a}}", "join")]
        {
            let failure = Form::of(None, None, Some(wrong), None).expect_err(wrong);
            assert!(failure.text().contains(why) && failure.exit() as u8 == 2, "{}", failure.text());
        }
    }

    #[test]
    fn filters_are_those_of_jq() {
        for (filter, printed) in [
            (".items[].metadata.name", "web-1\nedge\n"),
            (".items | length", "2\n"),
            (".revision", "7\n"),
            ("[.items[] | select(.status.state == \"active\") | .metadata.name]", "[\"web-1\"]\n"),
            (".items[] | .metadata.name + \" \" + .status.state", "web-1 active\nedge joining\n"),
            ("empty", ""),
        ] {
            assert_eq!(text(None, None, Some(filter)), printed, "{filter}");
        }
        for wrong in [".items[", "nosuchfunction", "$unset", "halt", "halt_error", "halt(1)"] {
            let failure = Form::of(None, None, None, Some(wrong)).expect_err(wrong);
            assert!(failure.text().contains(wrong) && failure.exit() as u8 == 2, "{}", failure.text());
        }
        let failure = Form::of(None, None, None, Some(".items.x")).and_then(|form| form.text(&list()));
        // The answer is there, and only printing it has failed.
        assert!(
            failure.is_err_and(|failure| failure.text().contains(".items.x") && failure.exit() as u8 == 1)
        );
    }

    #[test]
    fn a_list_becomes_a_row() {
        for (filter, printed) in [
            (
                ".items[] | [.metadata.name, .status.state] | @csv",
                "\"web-1\",\"active\"\n\"edge\",\"joining\"\n",
            ),
            (".items[] | [.metadata.name, .status.message] | @tsv", "web-1\t\nedge\ton\\nits way\n"),
            ("[1, 2.5, true, false, null, \"a\\\"b,c\"] | @csv", "1,2.5,true,false,,\"a\"\"b,c\"\n"),
            ("[1, \"a\\tb\\\\c\\rd\"] | @tsv", "1\ta\\tb\\\\c\\rd\n"),
            ("@csv \"names: \\([.items[].metadata.name])\"", "names: \"web-1\",\"edge\"\n"),
            ("[] | @csv", "\n"),
        ] {
            assert_eq!(text(None, None, Some(filter)), printed, "{filter}");
        }
        for (wrong, why) in [(".items | @csv", "cannot stand in a row"), (".revision | @tsv", "is no list")] {
            let failure = Form::of(None, None, None, Some(wrong)).and_then(|form| form.text(&list()));
            assert!(failure.is_err_and(|failure| failure.text().contains(why)), "{wrong}");
        }
    }

    #[test]
    fn what_contradicts_is_refused() {
        assert!(Form::of(Some(Output::Yaml), Some(Output::Yaml), None, Some(".")).is_err());
        assert!(Form::of(Some(Output::Json), Some(Output::Json), Some("{{.Name}}"), None).is_err());
        // A variable is only a habit.
        assert!(Form::of(Some(Output::Yaml), None, None, Some(".")).is_ok());
    }
}
