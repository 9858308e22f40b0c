//! A tokenizer and a small Llama from scratch, with held-out bits per byte beside three n-gram models.

mod ngram;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use adpo_data::{ChatTokenizer, Dialogue, Encoded, Role, Row, RowFile, Turn, bucket, derive_seed, write_folder};
use adpo_model::{Dtype, Llama, LlamaConfig, SaveOptions};
use adpo_train::{SftExample, TrainOptions, mean_nll, train_sft};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::manifest::{Inputs, Made, finished, hash_file, make, write_json};
use crate::recipe::leads_out;
use ngram::NgramCounts;

/// How to make a base model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseRecipe {
    /// Names the model in messages.
    pub name: String,
    /// Rules the weights' initial values and the order of the rows.
    pub seed: u64,
    /// Which dialogues.
    pub data: BaseData,
    /// The tokenizer, trained on the same dialogues.
    pub tokenizer: BaseTokenizer,
    /// The model's shape.
    pub model: BaseShape,
    /// The training options; `packing` is also the longest window.
    pub train: TrainOptions,
}

/// Which dialogues a base model learns from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseData {
    /// Split buckets to train on.
    pub train_buckets: Vec<u8>,
    /// Split buckets for the perplexity.
    pub held_out_buckets: Vec<u8>,
    /// Files below `--data-dir`.
    pub sources: Vec<String>,
}

/// The tokenizer's size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseTokenizer {
    /// Tokens, special ones included.
    pub vocab_size: usize,
}

/// The model's shape, in the names of `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseShape {
    /// Width.
    pub hidden_size: usize,
    /// Width of the feed-forward part.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// One matrix for embedding and head.
    pub tie_word_embeddings: bool,
}

/// What the finished base model is worth on held-out dialogues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaseEvaluation {
    /// Parameters of the model.
    pub parameters: usize,
    /// Tokens trained on, all epochs.
    pub trained_tokens: u64,
    /// Tokens of the held-out dialogues that are predicted.
    pub held_out_tokens: usize,
    /// The model's mean negative log-likelihood, in nats per token.
    pub nll: f64,
    /// Exponential of `nll`.
    pub perplexity: f64,
    /// UTF-8 bytes of the held-out dialogues' text, without the tokens that mark turns.
    pub held_out_bytes: usize,
    /// What the model and three n-gram models on the same tokens need for it.
    pub bits_per_byte: BitsPerByte,
}

/// Bits per byte of held-out text, marks of turns included in the bits: comparable across tokenizers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BitsPerByte {
    /// The model.
    pub model: f64,
    /// Add-one unigram model.
    pub unigram: f64,
    /// Witten–Bell bigram model.
    pub bigram: f64,
    /// Interpolated Kneser–Ney trigram model.
    pub trigram: f64,
}

impl BaseRecipe {
    /// Reads and checks a recipe file.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] names file, field and fix.
    pub fn from_file(path: &Path) -> Result<Self, PipelineError> {
        let text = adpo_data::read_text(path)?;
        let problem = |problem: String| PipelineError::Recipe { recipe: path.display().to_string(), problem };
        let recipe: Self = toml::from_str(&text).map_err(|e| problem(e.to_string()))?;
        recipe.train.validate().map_err(|e| problem(format!("[train] {e}")))?;
        if recipe.train.packing.is_none() {
            return Err(problem("[train] `packing` is missing; it is the length of the rows".into()));
        }
        let held_out: BTreeSet<_> = recipe.data.held_out_buckets.iter().collect();
        if recipe.data.train_buckets.iter().any(|b| held_out.contains(b)) {
            return Err(problem("[data] a bucket is both trained on and held out".into()));
        }
        Ok(recipe)
    }
}

/// Trains the base model into `folder`: `model/` in Hugging Face format (bf16), `metrics.jsonl`, `evaluation.json`.
///
/// # Errors
/// [`PipelineError`] if data, training or files fail; what was done stays, and the next call goes on from it.
pub fn pretrain(recipe: &BaseRecipe, data_dir: &Path, folder: &Path, device: &Device) -> Result<BaseEvaluation, PipelineError> {
    let _lock = crate::lock::take(folder)?;
    let mut inputs = Inputs::new().value("recipe", recipe);
    for id in &recipe.data.sources {
        let file = find(data_dir, id)?;
        inputs = inputs.hash(id, hash_file(&file)?);
    }
    if finished(folder, &inputs)?.is_none() {
        make("pretrain", folder, inputs, device, |folder| work(recipe, data_dir, folder, device))?;
    }
    crate::manifest::read_json(&folder.join("evaluation.json"))
}

fn work(recipe: &BaseRecipe, data_dir: &Path, folder: &Path, device: &Device) -> Result<Made, PipelineError> {
    let mut dialogues = Vec::new();
    for id in &recipe.data.sources {
        dialogues.extend(RowFile::new(find(data_dir, id)?).dialogues()?.0);
    }
    let of = |buckets: &[u8]| -> Vec<&Row<Dialogue>> {
        dialogues.iter().filter(|row| buckets.contains(&bucket(row.value.split_key()))).collect()
    };
    let (train, held_out) = (of(&recipe.data.train_buckets), of(&recipe.data.held_out_buckets));
    let texts = train.iter().flat_map(|row| row.value.turns.iter().map(|turn| turn.content.clone()));
    let tokenizer = adpo_data::train_tokenizer(texts, recipe.tokenizer.vocab_size)?;
    let width = recipe.train.packing.unwrap_or(recipe.model.max_position_embeddings);
    let train = windows(&tokenizer, &train, width)?;
    let held_out = windows(&tokenizer, &held_out, width)?;

    let config = shape(recipe, &tokenizer)?;
    let options = TrainOptions { seed: derive_seed(recipe.seed, "order"), ..recipe.train.clone() };
    let model = Llama::init(&config, derive_seed(recipe.seed, "weights"), device);
    let trained = train_sft(model, &train, &options, folder)?;

    let model_folder = folder.join("model");
    write_folder(&model_folder, |folder| {
        trained.model.save(folder, &SaveOptions { dtype: Dtype::Bfloat16, ..SaveOptions::default() })?;
        Ok::<_, PipelineError>(tokenizer.save(folder)?)
    })?;
    // What is measured is what was written, bf16 rounding included.
    let saved = Llama::load(&model_folder, device)?;
    let (nll, held_out_tokens) = mean_nll(&saved, &held_out, recipe.train.batch_size, device);
    let mut counts = NgramCounts::new(tokenizer.vocab_size());
    for example in &train {
        counts.observe(&example.encoded.ids);
    }
    let ngrams = counts.mean_nll(held_out.iter().map(|e| e.encoded.ids.as_slice()));
    let held_out_bytes = held_out.iter().map(|e| tokenizer.decode(&e.encoded.ids).len()).sum::<usize>();
    let bits_per_byte = |nats: f64| nats * held_out_tokens as f64 / std::f64::consts::LN_2 / held_out_bytes.max(1) as f64;
    let trained_tokens = trained.history.last().and_then(|s| s.get("num_tokens")).unwrap_or(0.0) as u64;
    let evaluation = BaseEvaluation {
        parameters: saved.num_parameters(),
        trained_tokens,
        held_out_tokens,
        nll,
        perplexity: nll.exp(),
        held_out_bytes,
        bits_per_byte: BitsPerByte {
            model: bits_per_byte(nll),
            unigram: bits_per_byte(ngrams.unigram),
            bigram: bits_per_byte(ngrams.bigram),
            trigram: bits_per_byte(ngrams.trigram),
        },
    };
    write_json(&folder.join("evaluation.json"), &evaluation)?;
    let counts = serde_json::json!({"dialogues": dialogues.len(), "train_windows": train.len(), "held_out_windows": held_out.len()});
    Ok(Made { outputs: vec!["model", "metrics.jsonl", "evaluation.json"], counts })
}

fn shape(recipe: &BaseRecipe, tokenizer: &ChatTokenizer) -> Result<LlamaConfig, PipelineError> {
    let shape = &recipe.model;
    let json = serde_json::json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.vocab_size(),
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "max_position_embeddings": shape.max_position_embeddings,
        "tie_word_embeddings": shape.tie_word_embeddings,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "bos_token_id": tokenizer.bos_id(),
        "eos_token_id": tokenizer.eos_id(),
        "torch_dtype": "bfloat16",
    });
    Ok(LlamaConfig::from_json(&json.to_string(), &format!("recipe {}", recipe.name))?)
}

fn find(data_dir: &Path, id: &str) -> Result<PathBuf, PipelineError> {
    if leads_out(id) {
        return Err(PipelineError::Data { id: id.to_owned(), problem: "leads out of the folder of data; name a file below it".into() });
    }
    let path = data_dir.join(id);
    if path.is_file() {
        Ok(path)
    } else {
        Err(PipelineError::Data {
            id: id.to_owned(),
            problem: format!("{} is not there; pass --data-dir or set ADPO_DATA", path.display()),
        })
    }
}

/// Cuts dialogues into windows of whole turns, each beginning with a user turn, and trains every token of them.
fn windows(tokenizer: &ChatTokenizer, dialogues: &[&Row<Dialogue>], width: usize) -> Result<Vec<SftExample>, PipelineError> {
    let encode = |turns: &[Turn]| -> Result<Vec<u32>, PipelineError> {
        let text = tokenizer.render(&Dialogue { turns: turns.to_vec() }, false)?;
        Ok(tokenizer.encode_text(&text)?)
    };
    let mut examples = Vec::new();
    for row in dialogues {
        let turns = &row.value.turns;
        let mut start = 0;
        while start < turns.len() {
            if turns[start].role != Role::User {
                start += 1;
                continue;
            }
            let mut end = start + 1;
            let mut ids = encode(&turns[start..end])?;
            while end < turns.len() {
                let longer = encode(&turns[start..=end])?;
                if longer.len() > width {
                    break;
                }
                ids = longer;
                end += 1;
            }
            if ids.len() <= width && end > start + 1 {
                let trained = (0..ids.len()).map(|i| i > 0).collect();
                examples.push(SftExample { row: format!("{}@{start}", row.id), encoded: Encoded { ids, trained } });
            }
            start = end;
        }
    }
    Ok(examples)
}
