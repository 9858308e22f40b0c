//! Three triples from text to packed batches, with a tokenizer trained on the spot:
//! `cargo run --release -p adpo-data --example encode_preferences`
use adpo_data::{Batch, DataError, Encoder, EncodingOptions, Mask, OverLength, ResponseRole, RowFile, Sequence, train_tokenizer};

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
    let mut sequences = Vec::new();
    for (example, row) in rows.iter().enumerate() {
        let Some(triple) = encoder.preference(row)? else { continue };
        let answers = [
            (ResponseRole::Chosen, Some(&triple.chosen)),
            (ResponseRole::Rejected, Some(&triple.rejected)),
            (ResponseRole::Toxic, triple.toxic.as_ref()),
        ];
        for (role, answer) in answers {
            let Some(answer) = answer else { continue };
            let ids: Vec<u32> = triple.prompt.iter().chain(answer).copied().collect();
            let trained = (0..ids.len()).map(|i| i >= triple.prompt.len()).collect();
            sequences.push(Sequence { example, role, ids, trained });
        }
    }
    println!("{:?}", encoder.report());

    for (name, batch) in [("padded", Batch::padded(&sequences)), ("packed", Batch::packed(&sequences, 128))] {
        let used: usize = batch.sequences.iter().map(|sequence| sequence.tokens).sum();
        println!("{name}: {} rows of {} cells, {used} tokens, {} targets", batch.rows, batch.width, batch.targets.len());
    }
    Ok(())
}
