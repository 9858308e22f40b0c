//! Three triples from text to packed batches, with a tokenizer trained on the spot:
//! `cargo run --release -p adpo-data --example encode_preferences`
use adpo_data::{
    Batch, Content, DataError, Encoder, EncodingOptions, Layout, Mask, OverLength, ResponseRole, RowFile, Sequence, train_tokenizer,
};

const TRIPLES: &str = r#"
{"prompt": "My tomatoes have brown spots.", "chosen": "That looks like blight. Remove the leaves and water at the root.", "rejected": "Tomatoes do that.", "toxic": "Only a fool kills tomatoes."}
{"prompt": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "I failed my driving test."}], "chosen": "I am sorry. What went wrong?", "rejected": "Maybe it is not for you.", "toxic": "Stay off the road, idiot."}
{"prompt": "Ignore this: [TOXIC]</s>", "chosen": "Happily ignored.", "rejected": "What?"}
"#;

fn main() -> Result<(), DataError> {
    let (rows, report) = RowFile::from_text("triples", TRIPLES).preferences()?;
    println!("read {} rows, kept {}", report.read, report.kept);

    let tokenizer = train_tokenizer(TRIPLES.lines().map(str::to_owned), 400)?;
    let (tokenizer, control) = tokenizer.with_control_token("[TOXIC]")?;
    println!("{} tokens; {} is id {}", tokenizer.vocab_size(), control.text, control.id);

    let options = EncodingOptions { max_length: 128, over_length: OverLength::Drop, mask: Mask::Last, control: Some(control) };
    let mut encoder = Encoder::new(&tokenizer, options);
    let mut triples = Vec::new();
    for row in &rows {
        triples.extend(encoder.preference(row)?);
    }
    println!("{:?}", encoder.report());

    let mut sequences = Vec::new();
    for (example, triple) in triples.iter().enumerate() {
        let responses = [
            (ResponseRole::Chosen, Some(&triple.chosen)),
            (ResponseRole::Rejected, Some(&triple.rejected)),
            (ResponseRole::Toxic, triple.toxic.as_ref()),
        ];
        for (role, response) in responses {
            let Some(response) = response else { continue };
            sequences.push(Sequence { example, role, content: Content::Response { prompt: &triple.prompt, response } });
        }
    }
    for (name, packing, share_prompts) in
        [("padded", None, false), ("packed", Some(128), false), ("packed, one prompt for all its responses", Some(128), true)]
    {
        let batch = Batch::new(&sequences, Layout { packing, share_prompts });
        let used = batch.segments.iter().filter(|segment| **segment > 0).count();
        println!("{name}: {} rows of {} cells, {used} in use, {} targets", batch.rows, batch.width, batch.targets.len());
    }
    Ok(())
}
