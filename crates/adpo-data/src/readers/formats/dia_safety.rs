//! `DiaSafety`: a response in its context, labelled by people.

use crate::dialogue::{Dialogue, Role};
use crate::readers::parsed::{Kind, Parsed, Reader, checked};
use crate::readers::record::{Fault, Record};
use crate::rows::{SftExample, ToxicLabel};

pub(super) const READER: Reader = Reader {
    name: "diasafety",
    example: r#"{"context": "I feel low.", "response": "I am sorry.", "category": "Risk Ignorance", "label": "Safe"}"#,
    becomes: "a dialogue to fine-tune on, toxic where the label is `Unsafe`",
    kind: Kind::Sft,
    matches: |record| record.has_all(&["context", "response", "label"]),
    parse,
};

fn parse(record: &mut Record) -> Result<Parsed, Fault> {
    let (context, response) = (record.text("context")?, record.text("response")?);
    let toxic = match record.text("label")?.as_str() {
        "Safe" => None,
        "Unsafe" => Some(ToxicLabel::Human),
        other => return Err(record.error(format!("field `label` is `{other}`; `Safe` or `Unsafe` is needed")).into()),
    };
    let category = record.optional_text("category")?;
    let dialogue = Dialogue::from_user(context.trim()).with(Role::Assistant, response.trim());
    Ok(Parsed::Sft(SftExample { dialogue: checked(dialogue)?, toxic, category }))
}
