//! GGUF files hold the model that they were made from: to the bit of ggml's own package, and to the logits of transformers.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adpo_model::{Dtype, GgufFile, Llama, LlamaConfig};
use burn::tensor::Device;
use common::{logits, parameters};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

fn load(path: &Path) -> Llama {
    let file = GgufFile::open(path).expect("opens");
    file.contents().expect("is whole").load_as(Dtype::Float32, &Device::flex()).expect("loads")
}

fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("tiny-gguf/expected.json")).expect("is there")).expect("is JSON")
}

#[test]
fn every_type_is_dequantised_to_the_bit() {
    let expected = expected();
    let hashes = expected["tensors"].as_object().expect("hashes by name");
    let found = parameters(&load(&fixture("tiny-gguf/tiny.gguf")));
    assert_eq!(found.keys().collect::<Vec<_>>(), hashes.keys().collect::<Vec<_>>());
    for (name, (_, numbers)) in &found {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(hex::encode(Sha256::digest(bytes)), hashes[name].as_str().expect("a hash"), "{name}: {:?}", &numbers[..4]);
    }
}

#[test]
fn the_logits_are_those_of_transformers() {
    let expected = expected();
    let ids: Vec<u32> = serde_json::from_value(expected["ids"].clone()).expect("ids");
    let last: Vec<f32> = serde_json::from_value(expected["last_logits"].clone()).expect("numbers");
    let model = load(&fixture("tiny-gguf/tiny.gguf"));
    let found = logits(&model, &ids);
    let furthest = found[found.len() - last.len()..].iter().zip(&last).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(last.iter().any(|x| x.abs() > 0.1) && furthest < 1e-5, "{furthest}");
}

/// A value of a key, as it lies in a file.
#[derive(Clone)]
enum Meta {
    U32(u32),
    F32(f32),
    Text(&'static str),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

impl Meta {
    fn bytes(&self) -> Vec<u8> {
        let list = |kind: u32, len: usize| [9_u32.to_le_bytes().as_slice(), &kind.to_le_bytes(), &(len as u64).to_le_bytes()].concat();
        match self {
            Self::U32(x) => [4_u32.to_le_bytes(), x.to_le_bytes()].concat(),
            Self::F32(x) => [6_u32.to_le_bytes(), x.to_le_bytes()].concat(),
            Self::Text(x) => [8_u32.to_le_bytes().as_slice(), &text(x)].concat(),
            Self::Texts(all) => list(8, all.len()).into_iter().chain(all.iter().flat_map(|x| text(x))).collect(),
            Self::I32s(all) => list(5, all.len()).into_iter().chain(all.iter().flat_map(|x| x.to_le_bytes())).collect(),
        }
    }
}

fn text(x: &str) -> Vec<u8> {
    [(x.len() as u64).to_le_bytes().as_slice(), x.as_bytes()].concat()
}

/// What a GGUF file is made of: keys, and tensors in f32, rows first.
#[derive(Clone, Default)]
struct Draft {
    keys: BTreeMap<String, Meta>,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Draft {
    /// As llama.cpp's converter makes one of a Hugging Face folder.
    fn of(model: &Llama) -> Self {
        let config = model.config();
        let mut draft = Self::default();
        let sizes = [
            ("block_count", config.num_hidden_layers),
            ("context_length", config.max_position_embeddings),
            ("embedding_length", config.hidden_size),
            ("feed_forward_length", config.intermediate_size),
            ("attention.head_count", config.num_attention_heads),
            ("attention.head_count_kv", config.num_key_value_heads),
            ("rope.dimension_count", config.head_dim),
            ("vocab_size", config.vocab_size),
        ];
        draft.keys.extend(sizes.map(|(key, size)| (format!("llama.{key}"), Meta::U32(size as u32))));
        draft.set("general.architecture", Meta::Text("llama"));
        draft.set("llama.attention.layer_norm_rms_epsilon", Meta::F32(config.rms_norm_eps as f32));
        draft.set("llama.rope.freq_base", Meta::F32(config.rope_theta as f32));
        draft.set("tokenizer.ggml.bos_token_id", Meta::U32(1));
        draft.set("tokenizer.ggml.eos_token_id", Meta::U32(2));
        for (name, (shape, numbers)) in parameters(model) {
            let heads = match name.rsplit('.').nth(1) {
                Some("q_proj") => Some(config.num_attention_heads),
                Some("k_proj") => Some(config.num_key_value_heads),
                _ => None,
            };
            let numbers = match heads {
                Some(heads) => interleaved(&numbers, shape[1], shape[0] / heads),
                None => numbers,
            };
            draft.tensors.insert(gguf_name(&name), (shape, numbers));
        }
        if let Some(scaling) = &config.rope_scaling {
            let factor = |i: usize| {
                let frequency = config.rope_theta.powf(-2.0 * i as f64 / config.head_dim as f64);
                let length = 2.0 * std::f64::consts::PI / frequency;
                let context = scaling.original_max_position_embeddings;
                if length < context / scaling.high_freq_factor {
                    1.0
                } else if length > context / scaling.low_freq_factor {
                    scaling.factor
                } else {
                    let smooth = (context / length - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
                    1.0 / ((1.0 - smooth) / scaling.factor + smooth)
                }
            };
            let factors: Vec<f32> = (0..config.head_dim / 2).map(|i| factor(i) as f32).collect();
            draft.tensors.insert("rope_freqs.weight".into(), (vec![factors.len()], factors));
        }
        draft
    }

    fn set(&mut self, key: &str, value: Meta) {
        self.keys.insert(key.to_owned(), value);
    }

    fn write(&self, path: &Path) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        self.keys.iter().for_each(|(key, value)| bytes.extend([text(key), value.bytes()].concat()));
        let mut data = Vec::new();
        for (name, (shape, numbers)) in &self.tensors {
            bytes.extend(text(name));
            bytes.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|length| bytes.extend((*length as u64).to_le_bytes()));
            bytes.extend(0_u32.to_le_bytes());
            bytes.extend((data.len() as u64).to_le_bytes());
            data.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
            data.resize(data.len().next_multiple_of(32), 0);
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        std::fs::write(path, [bytes, data].concat()).expect("writable");
    }
}

/// Rows of heads as llama.cpp has them: row 2i from the first half of a head, row 2i + 1 from the second.
fn interleaved(numbers: &[f32], columns: usize, width: usize) -> Vec<f32> {
    let row = |at: usize| &numbers[at * columns..][..columns];
    let heads = numbers.len() / columns / width;
    (0..heads)
        .flat_map(|head| (0..width / 2).flat_map(move |i| [head * width + i, head * width + width / 2 + i]))
        .flat_map(row)
        .copied()
        .collect()
}

fn gguf_name(name: &str) -> String {
    let pairs = [
        ("model.layers.", "blk."),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    pairs.iter().fold(name.to_owned(), |name, (theirs, ours)| name.replace(theirs, ours))
}

#[test]
fn a_file_in_f32_is_the_folder_that_it_was_made_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    for name in ["llama2-mha", "llama3-gqa-tied-sharded-bf16"] {
        let original = Llama::load(&fixture(name), &Device::flex()).expect("the fixture loads");
        Draft::of(&original).write(&path);
        let model = load(&path);
        // GGUF does not say how fresh weights were drawn.
        let initializer_range = model.config().initializer_range;
        assert_eq!(*model.config(), LlamaConfig { initializer_range, ..original.config().clone() }, "{name}");
        let ids: Vec<u32> = (3..60).collect();
        assert_eq!(logits(&model, &ids), logits(&original, &ids), "{name}");
    }
}

/// A small model whose frequencies are not rescaled.
fn small() -> Draft {
    let mut draft = Draft::of(&common::model(false));
    draft.tensors.remove("rope_freqs.weight");
    draft
}

fn problem(draft: &Draft) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    draft.write(&path);
    let file = GgufFile::open(&path).expect("opens");
    file.contents().expect("is whole").load_as(Dtype::Float32, &Device::flex()).expect_err("this should not load").to_string()
}

#[test]
fn what_is_not_supported_is_refused_by_its_name() {
    for (key, value, told) in [
        ("general.architecture", Meta::Text("qwen2"), "is \"qwen2\"; supported: llama"),
        ("llama.rope.scaling.type", Meta::Text("yarn"), "is \"yarn\"; supported: none"),
        ("llama.rope.dimension_count", Meta::U32(2), "is not the width of a head, 4"),
        ("llama.attention.value_length", Meta::U32(8), "is not the width of a head, 4"),
        ("llama.expert_count", Meta::U32(8), "mixtures of experts"),
        ("llama.logit_scale", Meta::F32(2.0), "may change what the model computes"),
        ("llama.attention.sliding_window", Meta::U32(16), "may change what the model computes"),
        ("llama.attention.head_count_kv", Meta::I32s(vec![2, 2]), "must be one whole number"),
        ("llama.attention.layer_norm_rms_epsilon", Meta::F32(f32::NAN), "must be a finite number"),
    ] {
        let mut draft = small();
        draft.set(key, value);
        let problem = problem(&draft);
        assert!(problem.contains(&format!("`{key}`")) && problem.contains(told), "{key}: {problem}");
    }
    for key in ["general.architecture", "llama.block_count", "llama.embedding_length", "llama.attention.layer_norm_rms_epsilon"] {
        let mut draft = small();
        draft.keys.remove(key);
        let problem = problem(&draft);
        assert!(problem.contains(&format!("`{key}` is missing")), "{problem}");
    }
}

#[test]
fn sizes_that_fit_no_model_are_refused_before_anything_is_allocated() {
    for key in
        ["embedding_length", "feed_forward_length", "attention.head_count", "attention.head_count_kv", "block_count", "context_length"]
    {
        for size in [0, 3, 4095, u32::MAX] {
            let mut draft = small();
            draft.set(&format!("llama.{key}"), Meta::U32(size));
            if key != "context_length" || size == 0 || size == u32::MAX {
                problem(&draft);
            }
        }
    }
}

#[test]
fn tensors_that_are_no_llama_s_are_one_error() {
    let mut draft = small();
    draft.tensors.remove("blk.1.ffn_up.weight");
    draft.tensors.insert("blk.0.attn_q.bias".into(), (vec![16], vec![0.0; 16]));
    draft.tensors.insert("blk.0.attn_q.weight".into(), (vec![8, 16], vec![0.0; 128]));
    let problem = problem(&draft);
    for part in [
        "`model.layers.1.mlp.up_proj.weight` is missing",
        "`blk.0.attn_q.bias` is unexpected",
        "`model.layers.0.self_attn.q_proj.weight` is [8, 16], not [16, 16]",
    ] {
        assert!(problem.contains(part), "`{part}` is not in: {problem}");
    }
}

#[test]
fn frequencies_that_no_llama_3_has_are_refused() {
    let mut draft = small();
    draft.tensors.insert("rope_freqs.weight".into(), (vec![2], vec![1.5, 4.0]));
    let problem = problem(&draft);
    assert!(problem.contains("`rope_freqs.weight` rescales rotary frequencies as no Llama 3 does"), "{problem}");
}

/// The small model with a byte-level tokenizer of 32 tokens.
fn with_tokenizer() -> Draft {
    let mut draft = small();
    let tokens = ["<e>", "<b>", "</s>"].map(str::to_owned).into_iter().chain(('a'..='z').map(String::from));
    let tokens: Vec<String> = tokens.chain(["ab", "abc", "Ġ"].map(str::to_owned)).collect();
    draft.set("tokenizer.ggml.token_type", Meta::I32s((0..32).map(|id| if id < 3 { 3 } else { 1 }).collect()));
    draft.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    draft.set("tokenizer.ggml.merges", Meta::Texts(vec!["a b".into(), "ab c".into()]));
    draft.set("tokenizer.ggml.model", Meta::Text("gpt2"));
    draft.set("tokenizer.ggml.pre", Meta::Text("llama-bpe"));
    draft.set("tokenizer.chat_template", Meta::Text("{{ messages[0].content }}"));
    draft
}

#[test]
fn a_tokenizer_that_could_not_be_exact_is_refused_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    let told = |draft: &Draft| {
        draft.write(&path);
        let file = GgufFile::open(&path).expect("opens");
        file.contents().expect("is whole").tokenizer().map_err(|problem| problem.to_string())
    };
    told(&with_tokenizer()).expect("is supported");
    let texts = |texts: &[&str]| Meta::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
    for (key, value, part) in [
        ("tokenizer.ggml.model", Meta::Text("llama"), "SentencePiece"),
        ("tokenizer.ggml.model", Meta::Text("t5"), "is \"t5\"; byte-level BPE"),
        ("tokenizer.ggml.pre", Meta::Text("tekken"), "is \"tekken\"; how it splits text is known for"),
        ("tokenizer.ggml.pre", Meta::U32(3), "must be a string"),
        ("tokenizer.ggml.tokens", texts(&["a", "a"]), "has `a` twice, as 0 and 1"),
        ("tokenizer.ggml.tokens", Meta::Texts((0..33).map(|id| id.to_string()).collect()), "the model rows for 32"),
        ("tokenizer.ggml.tokens", Meta::I32s(vec![1]), "must be a list of strings"),
        ("tokenizer.ggml.token_type", Meta::I32s(vec![1]), "has 1 values for 32 tokens"),
        ("tokenizer.ggml.merges", texts(&["ab"]), "has `ab`, which is no pair"),
        ("tokenizer.ggml.merges", texts(&["a z"]), "has `a z`, which is not made of tokens, or makes none"),
        ("tokenizer.ggml.eos_token_id", Meta::U32(32), "is 32, and there are 32 tokens"),
    ] {
        let mut draft = with_tokenizer();
        draft.set(key, value);
        let problem = told(&draft).expect_err(key);
        assert!(problem.contains(&format!("`{key}`")) && problem.contains(part), "{key}: {problem}");
    }
    for key in ["tokenizer.ggml.pre", "tokenizer.ggml.token_type", "tokenizer.chat_template", "tokenizer.ggml.tokens"] {
        let mut draft = with_tokenizer();
        draft.keys.remove(key);
        assert!(told(&draft).expect_err(key).contains(&format!("`{key}` is missing")));
    }
}
