#![cfg_attr(feature = "tokenizers", doc = include_str!("../README.md"))]
#![cfg_attr(not(feature = "tokenizers"), doc = "Dialogues and preferences for language-model training, without a tokenizer.")]
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
mod limits;
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
pub use files::{
    JsonlWriter, read_bytes, read_jsonl, read_text, remove_folder, remove_unfinished, stream_jsonl, write_file, write_folder, write_jsonl,
    write_jsonl_with,
};
pub use inspect::{Inspection, Lengths, SampleRow, inspect};
pub use jsonl::{JsonLine, JsonLines};
pub use limits::ReadLimits;
pub use readers::{Format, ReadReport, RowFile, RowValue, Rows, detect, read_dialogues, read_preferences, read_prompts, read_sft};
pub use rows::{Preference, Prompt, Row, SftExample, ToxicLabel};
pub use seed::{derive_seed, epoch_order};
pub use split::{BUCKETS, Use, bucket, use_of};
pub use token_cache::{EncodedRows, TokenCache, TokenCacheWriter};
#[cfg(feature = "tokenizers")]
pub use tokenizer::{ChatTokenizer, ControlToken, PlainEncoder, SentenceTokenizer, TextStream, train_tokenizer};
