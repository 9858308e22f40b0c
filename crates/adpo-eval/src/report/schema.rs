//! `assets/report.schema.json` describes the JSON of a report, and is made from the types of this module and their
//! docstrings. After changing one of them, write it anew and raise [`SCHEMA`](super::SCHEMA):
//!
//! ```text
//! ADPO_WRITE_SCHEMA=1 cargo test --release -p adpo-eval --lib schema
//! ```

use adpo_data::{Dialogue, Prompt, Row};
use serde_json::{Value, json};

use super::{Fluency, KlByRole, Report, ReportBuilder, ResponseNats, SCHEMA};
use crate::agreement::Agreement;
use crate::error::EvalError;
use crate::judge::{Exchange, Judge, Judgement, Scores, ToxicityHeads};
use crate::response::Response;
use crate::token_form::TokenForm;

/// The schema as committed.
const COMMITTED: &str = include_str!("../../assets/report.schema.json");

fn generated() -> Value {
    let mut schema = schemars::schema_for!(Report);
    schema.insert("title".to_owned(), format!("ADPO report, format {SCHEMA}").into());
    schema.to_value()
}

/// Long responses are toxic.
struct Lengths(&'static str);

impl Judge for Lengths {
    fn name(&self) -> String {
        "lengths".to_owned()
    }

    fn fingerprint(&self) -> String {
        self.0.to_owned()
    }

    fn judge(&self, exchanges: &[Exchange<'_>]) -> Vec<Judgement> {
        let score = |exchange: &Exchange<'_>| {
            let toxicity = if exchange.response.len() > 20 { 0.9 } else { 0.1 };
            let heads = ToxicityHeads { abuse: toxicity, ..ToxicityHeads::default() };
            Judgement::Scored(Scores { toxicity, heads, evasiveness: 0.2, evasion: None, coherence: 0.7, degenerate: false })
        };
        exchanges.iter().map(score).collect()
    }

    fn agreement(&self) -> Vec<Agreement> {
        let figure = |measure: &str, data: &str, rows: usize| {
            let at = json!({"estimate": 0.8, "low": 0.7, "high": 0.9});
            json!({
                "judge": "lengths", "measure": measure, "data": data, "rows": rows, "prompts": rows, "auc": at, "accuracy": at,
                "kappa": at, "macro_f1": at, "sensitivity": at, "specificity": at, "threshold": 0.5
            })
        };
        let figures = [figure("toxicity", "Set", 200), figure("toxicity", "Set, one", 100), figure("toxicity", "Set, two", 100)];
        figures.into_iter().filter_map(|figure| serde_json::from_value(figure).ok()).collect()
    }
}

/// A language model to which every byte costs one nat.
struct Reader;

impl Fluency for Reader {
    fn name(&self) -> String {
        "bytes".to_owned()
    }

    fn nats(&self, exchanges: &[Exchange<'_>]) -> Result<Vec<ResponseNats>, EvalError> {
        let read = |exchange: &Exchange<'_>| ResponseNats { nats: exchange.response.len() as f64, tokens: exchange.response.len() };
        Ok(exchanges.iter().map(read).collect())
    }
}

/// A report in which no list and no option is empty.
fn example() -> Report {
    let responses = |text: &str| {
        let one = |i: usize| {
            let value = Prompt {
                dialogue: Dialogue::from_user(format!("request {i}")),
                harmful: Some(i.is_multiple_of(2)),
                category: Some("any".to_owned()),
                reference: Some("A reference.".to_owned()),
            };
            let prompt = Row { id: format!("p{i}"), source: String::new(), licence: None, value };
            Response { prompt: prompt.into(), text: text.to_owned() }
        };
        (0..30).map(one).collect::<Vec<Response>>()
    };
    let builder = ReportBuilder::new("Example")
        .fluency(&Reader)
        .system("short", responses("Well."))
        .system("long", responses("A response of more than twenty letters."))
        .with_token("short", TokenForm::Control, responses("With the token it grows longer."))
        .kl("long", KlByRole { chosen: 1.0, rejected: -1.0, toxic: Some(-2.0) })
        .kl_policy("long", 0.1)
        .baseline("short")
        .annotator(&Lengths("0"))
        .second_judge(&Lengths("1"))
        .dropped("annotate: no_margin", 1)
        .note("an example");
    builder.build(&Lengths("0")).expect("a report")
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let text = serde_json::to_string_pretty(&generated()).expect("JSON") + "\n";
    if std::env::var_os("ADPO_WRITE_SCHEMA").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/report.schema.json");
        std::fs::write(path, &text).expect("the schema is written");
    }
    assert!(text == COMMITTED || std::env::var_os("ADPO_WRITE_SCHEMA").is_some(), "the types have changed; see the top of schema.rs");
}

#[test]
fn a_report_has_every_required_field_and_none_that_is_not_described() {
    let schema: Value = serde_json::from_str(COMMITTED).expect("the schema is JSON");
    let report: Value = serde_json::from_str(&example().json().expect("JSON")).expect("JSON");
    let problems = |value: &Value| {
        let mut problems = Vec::new();
        check(&schema, &schema, value, "report", &mut problems);
        problems
    };
    assert_eq!(problems(&report), Vec::<String>::new());
    let broken = |change: fn(&mut Value)| {
        let mut report = report.clone();
        change(&mut report);
        problems(&report)
    };
    assert_eq!(broken(|r| r["systems"][0]["mystery"] = 1.into()), ["report.systems[].mystery is not described"]);
    assert_eq!(broken(|r| r["baseline"] = 1.into()), ["report.baseline is of no type that is allowed"]);
    assert_eq!(
        broken(|r| r["comparisons"][0]["verdict"] = "better".into()),
        ["report.comparisons[].verdict is of no type that is allowed"]
    );
    assert_eq!(broken(|r| drop(r.as_object_mut().expect("object").remove("judge"))), ["report.judge is missing"]);
}

/// The part of JSON Schema that schemars writes for these types.
fn check(root: &Value, schema: &Value, value: &Value, at: &str, problems: &mut Vec<String>) {
    let schema = resolve(root, schema);
    let fits = |option: &Value| {
        let mut inner = Vec::new();
        check(root, option, value, at, &mut inner);
        inner.is_empty()
    };
    for choice in ["anyOf", "oneOf"].iter().filter_map(|key| schema[*key].as_array()) {
        if !choice.iter().any(fits) {
            problems.push(format!("{at} is of no type that is allowed"));
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is_const = schema["const"].is_null() || schema["const"] == *value;
    let is_listed = schema["enum"].as_array().is_none_or(|list| list.contains(value));
    if !(is_const && is_listed && (types.is_empty() || types.iter().any(|name| is(value, name)))) {
        problems.push(format!("{at} is of no type that is allowed"));
        return;
    }
    for item in value.as_array().into_iter().flatten() {
        check(root, &schema["items"], item, &format!("{at}[]"), problems);
    }
    let Some(fields) = value.as_object().filter(|_| types.contains(&"object")) else { return };
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(required) {
            problems.push(format!("{at}.{required} is missing"));
        }
    }
    for (name, field) in fields {
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Null) => problems.push(format!("{at}.{name} is not described")),
            (Value::Null, of_all) => check(root, of_all, field, &format!("{at}.{name}"), problems),
            (own, _) => check(root, own, field, &format!("{at}.{name}"), problems),
        }
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str().and_then(|path| root.pointer(path.trim_start_matches('#')));
    reference.unwrap_or(schema)
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}
