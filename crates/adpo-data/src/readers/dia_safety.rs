//! `DiaSafety`: a response in its context, labelled by people.

use super::parsed::{Parsed, checked};
use super::record::{Fault, Record};
use crate::dialogue::{Dialogue, Role};
use crate::rows::{SftExample, ToxicLabel};

pub(super) fn parse(record: &mut Record) -> Result<Parsed, Fault> {
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
