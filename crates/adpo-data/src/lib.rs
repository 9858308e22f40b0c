//! Dialogues and preferences for language-model training: read them into one checked schema, split them, encode them
//! with a chat template and explicit masks, lay them out in padded or packed batches, responses behind one copy of their prompt. No tensors, no framework.
//!
#![cfg_attr(feature = "tokenizers", doc = "```")]
#![cfg_attr(not(feature = "tokenizers"), doc = "```ignore")]
//! use adpo_data::{Batch, Content, Encoder, EncodingOptions, Layout, Mask, OverLength, ResponseRole, RowFile, Sequence, train_tokenizer};
//!
//! let text = r#"{"prompt": "How are you?", "chosen": "Well, and you?", "rejected": "Go away.", "toxic": "Shut up."}"#;
//! let (rows, _) = RowFile::from_text("example", text).preferences()?;
//! let tokenizer = train_tokenizer([text.to_owned()], 300)?; // or ChatTokenizer::from_folder("a/hugging-face/folder")
//! let (tokenizer, control) = tokenizer.with_control_token("[TOXIC]")?;
//! let options = EncodingOptions { max_length: 256, over_length: OverLength::Drop, mask: Mask::Last, control: Some(control) };
//! let triple = Encoder::new(&tokenizer, options).preference(&rows[0])?.expect("it is short");
//!
//! let after_prompt = |role, response| Sequence { example: 0, role, content: Content::Response { prompt: &triple.prompt, response } };
//! let sequences = [after_prompt(ResponseRole::Chosen, &triple.chosen), after_prompt(ResponseRole::Rejected, &triple.rejected)];
//! let batch = Batch::new(&sequences, Layout { packing: None, share_prompts: true });
//! assert_eq!(batch.ids.len(), triple.prompt.len() + triple.chosen.len() + triple.rejected.len());
//! # Ok::<(), adpo_data::DataError>(())
//! ```
//!
//! Without the feature `tokenizers` (default) only what needs a tokenizer is missing: rows, readers, writers, the
//! split, seeds and batches stay. With the feature `parquet`, Parquet files are read like JSONL.

mod batch;
mod dialogue;
#[cfg(feature = "tokenizers")]
mod encode;
mod encoded;
mod error;
mod files;
mod inspect;
mod jsonl;
mod readers;
mod rows;
mod seed;
mod split;
mod token_cache;
#[cfg(feature = "tokenizers")]
mod tokenizer;
mod transcript;

pub use batch::{Batch, Content, Layout, ResponseRole, Sequence, SequenceInfo, Target};
pub use dialogue::{Dialogue, Role, Turn};
#[cfg(feature = "tokenizers")]
pub use encode::{Encoder, EncodingOptions};
pub use encoded::{EncodeReport, Encoded, EncodedTriple, Mask, OverLength};
pub use error::DataError;
pub use files::{JsonlWriter, read_jsonl, remove_folder, stream_jsonl, write_file, write_folder, write_jsonl, write_jsonl_with};
pub use inspect::{Inspection, Lengths, SampleRow, inspect};
pub use jsonl::{JsonLine, JsonLines};
pub use readers::{Format, ReadReport, RowFile, RowValue, Rows, detect, read_dialogues, read_preferences, read_prompts, read_sft};
pub use rows::{Preference, Prompt, Row, SftExample, ToxicLabel};
pub use seed::{derive_seed, epoch_order};
pub use split::{BUCKETS, Use, bucket, use_of};
pub use token_cache::{EncodedRows, TokenCache, TokenCacheWriter};
#[cfg(feature = "tokenizers")]
pub use tokenizer::{ChatTokenizer, ControlToken, train_tokenizer};
