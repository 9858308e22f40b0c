//! The project's own rows: one request, three responses.

use crate::readers::parsed::{Kind, Parsed, Reader};
use crate::readers::record::{Fault, Record};

pub(super) const READER: Reader = Reader {
    name: "quickstart",
    example: r#"{"request": "Flat pancakes?", "tone": "safe", "good": "Rest the batter.", "evasive": "I cannot say.", "rude": "Fool."}"#,
    becomes: "three dialogues to fine-tune on, of which the rude one is toxic",
    kind: Kind::Sft,
    matches: |record| record.has_all(&["request", "good", "rude"]),
    parse,
};

fn parse(record: &mut Record) -> Result<Parsed, Fault> {
    let tone = record.text("tone")?;
    if tone != "safe" && tone != "harsh" {
        return Err(record.error(format!("field `tone` is `{tone}`; `safe` or `harsh` is needed")).into());
    }
    // Topics describe the collection; nothing is reported by them.
    record.take("topic");
    let mut said = |field: &str| -> Result<String, Fault> {
        let text = record.text(field)?.trim().to_owned();
        if text.is_empty() {
            Err(Fault::Error(record.error(format!("field `{field}` is empty; all of them say something"))))
        } else {
            Ok(text)
        }
    };
    Ok(Parsed::Quickstart { request: said("request")?, good: said("good")?, evasive: said("evasive")?, rude: said("rude")?, tone })
}
