//! Alpaca: `instruction`, `input`, `output`, and earlier turns in `history`.

use serde_json::Value;

use crate::dialogue::{Dialogue, Role};
use crate::readers::parsed::{Kind, Parsed, Reader, checked};
use crate::readers::record::{Fault, Record};
use crate::rows::SftExample;

pub(super) const READER: Reader = Reader {
    name: "alpaca",
    example: r#"{"instruction": "Translate into French.", "input": "Good day.", "output": "Bonjour.", "history": [["Hi.", "Hello!"]]}"#,
    becomes: "a dialogue to fine-tune on: the turns of `history`, then `instruction` with `input` below it, then `output`",
    kind: Kind::Sft,
    matches: |record| record.has_all(&["instruction", "output"]),
    parse,
};

fn parse(record: &mut Record) -> Result<Parsed, Fault> {
    let (instruction, output) = (record.text("instruction")?, record.text("output")?);
    let input = record.optional_text("input")?.unwrap_or_default();
    let mut dialogue = Dialogue::default();
    for pair in record.take("history").map_or(Ok(Vec::new()), |history| pairs(history).map_err(|problem| record.error(problem)))? {
        let [asked, answered] = pair;
        dialogue = dialogue.with(Role::User, asked).with(Role::Assistant, answered);
    }
    let request = [instruction.trim(), input.trim()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n");
    let dialogue = checked(dialogue.with(Role::User, request).with(Role::Assistant, output.trim()))?;
    let category = record.optional_text("category")?;
    Ok(Parsed::Sft(SftExample { dialogue, toxic: None, category }))
}

fn pairs(history: Value) -> Result<Vec<[String; 2]>, String> {
    serde_json::from_value(history).map_err(|e| format!("field `history` is no list of [request, response] ({e})"))
}
