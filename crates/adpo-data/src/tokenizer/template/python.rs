//! What templates expect of Python, where the engine does it in another way, or without a limit.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Widths, precisions and indentations that are written.
const WIDEST: usize = 1000;

/// Lists within lists that are written as JSON.
const DEEPEST: usize = 100;

fn refuse<T>(problem: impl Into<std::borrow::Cow<'static, str>>) -> Result<T, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, problem))
}

/// Python's methods of strings, lists and maps. The engine lets them look at any text for the price of one instruction.
pub(super) fn method(state: &mut State, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let size = |value: &Value| value.as_str().map_or_else(|| value.len().unwrap_or(0), str::len);
    let bytes: usize = size(value) + arguments.iter().map(size).sum::<usize>();
    state.consume_fuel(bytes as u64 / 64)?;
    if method == "format"
        && let Some(text) = value.as_str()
    {
        check_widths(text)?;
    }
    match (value.as_str(), method, arguments) {
        // What the engine leaves out.
        (Some(text), "removeprefix", [part]) => Ok(text.strip_prefix(part.as_str().unwrap_or_default()).unwrap_or(text).into()),
        (Some(text), "removesuffix", [part]) => Ok(text.strip_suffix(part.as_str().unwrap_or_default()).unwrap_or(text).into()),
        (Some(text), "rsplit", [separator, most @ ..]) => {
            let Some(separator) = separator.as_str().filter(|separator| !separator.is_empty()) else {
                return refuse("rsplit: a separator is needed");
            };
            let most = most.first().map_or(Ok(-1), |most| i64::try_from(most.clone()))?;
            let parts = usize::try_from(most).map_or(usize::MAX, |most| most.saturating_add(1));
            let mut parts: Vec<Value> = text.rsplitn(parts, separator).map(Value::from).collect();
            parts.reverse();
            Ok(parts.into())
        }
        _ => unknown_method_callback(state, value, method, arguments),
    }
}

/// Refuses a format with numbers above the limit, or with widths that come from elsewhere: of this method the engine bounds nothing.
fn check_widths(text: &str) -> Result<(), Error> {
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty());
    let too_wide = numbers.into_iter().any(|number| number.parse::<usize>().is_ok_and(|n| n > WIDEST) || number.len() > 18);
    // Within a field, a field of its own.
    let computed = text.replace("{{", "").split('{').any(|field| field.contains(':') && !field.contains('}'));
    if too_wide || computed { refuse(format!("a format asks for a width above {WIDEST}, or for a computed one")) } else { Ok(()) }
}

/// As in Python: texts, lists, maps, and what is undefined, but not none.
pub(super) fn is_iterable(value: &Value) -> bool {
    value.is_undefined() || !value.is_none() && value.try_iter().is_ok()
}

/// `json.dumps` as transformers calls it: characters as they are, keys in their order, a space behind `,` and `:`.
pub(super) fn to_json(state: &State, value: &Value, arguments: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let indent = match arguments.first().cloned().map_or_else(|| options.get::<Option<Value>>("indent"), |first| Ok(Some(first)))? {
        None => None,
        Some(value) if value.is_none() || value.is_undefined() => None,
        Some(value) => Some(usize::try_from(value)?),
    };
    if indent.is_some_and(|indent| indent > WIDEST) {
        return refuse(format!("tojson: an indent above {WIDEST}"));
    }
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        None => [if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()],
        Some([between, behind]) => [between.clone(), behind.clone()],
        Some(_) => return refuse("tojson: `separators` has two of them"),
    };
    options.assert_all_used()?;
    let mut json = Json { state, indent, ascii, sorted, separators, text: String::new() };
    json.value(value, 0)?;
    Ok(Value::from(json.text))
}

struct Json<'a, 's> {
    state: &'a State<'s, 's>,
    indent: Option<usize>,
    ascii: bool,
    sorted: bool,
    separators: [String; 2],
    text: String,
}

impl Json<'_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let before = self.text.len();
        match value.kind() {
            ValueKind::Map => self.all(value, depth, ['{', '}'])?,
            ValueKind::Seq | ValueKind::Iterable => self.all(value, depth, ['[', ']'])?,
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::None | ValueKind::Undefined => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push_str(&value.to_string()),
            other => return refuse(format!("tojson: a value of type {other} is no JSON")),
        }
        self.state.consume_fuel(1 + (self.text.len() - before) as u64 / 64)
    }

    /// A list, or a map with its keys.
    fn all(&mut self, value: &Value, depth: usize, [open, close]: [char; 2]) -> Result<(), Error> {
        if depth >= DEEPEST {
            return refuse(format!("tojson: lists in lists deeper than {DEEPEST}"));
        }
        let mut items: Vec<Value> = value.try_iter()?.collect();
        if open == '{' && self.sorted {
            items.sort();
        }
        self.text.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.text.push_str(&self.separators[0].clone());
            }
            self.line(depth + 1);
            if open == '{' {
                self.string(&item.to_string());
                self.text.push_str(&self.separators[1].clone());
                self.value(&value.get_item(item)?, depth + 1)?;
            } else {
                self.value(item, depth + 1)?;
            }
        }
        if !items.is_empty() {
            self.line(depth);
        }
        self.text.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) {
        let quoted = serde_json::Value::from(text).to_string();
        if self.ascii {
            for unit in quoted.encode_utf16() {
                match u8::try_from(unit).ok().filter(u8::is_ascii) {
                    Some(byte) => self.text.push(byte.into()),
                    // Writing to a String does not fail.
                    None => drop(write!(self.text, "\\u{unit:04x}")),
                }
            }
        } else {
            self.text.push_str(&quoted);
        }
    }
}

/// The one day on which every dialogue takes place, 26 July 2024, at midnight; it is Llama 3's own for where it knows no date.
pub(super) fn strftime_now(format: &str) -> String {
    const CODES: [(&str, &str); 20] = [
        ("%d", "26"),
        ("%-d", "26"),
        ("%e", "26"),
        ("%b", "Jul"),
        ("%h", "Jul"),
        ("%B", "July"),
        ("%m", "07"),
        ("%-m", "7"),
        ("%Y", "2024"),
        ("%y", "24"),
        ("%a", "Fri"),
        ("%A", "Friday"),
        ("%H", "00"),
        ("%M", "00"),
        ("%S", "00"),
        ("%I", "12"),
        ("%p", "AM"),
        ("%j", "208"),
        ("%F", "2024-07-26"),
        ("%T", "00:00:00"),
    ];
    let (mut text, mut rest) = (String::new(), format);
    while let Some(c) = rest.chars().next() {
        let (written, taken) = match CODES.iter().find(|(code, _)| rest.starts_with(code)) {
            Some((code, written)) => (*written, code.len()),
            None if rest.starts_with("%%") => ("%", 2),
            None => (&rest[..c.len_utf8()], c.len_utf8()),
        };
        text.push_str(written);
        rest = &rest[taken..];
    }
    text
}
