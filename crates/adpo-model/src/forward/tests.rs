//! Gradients with recompute beside gradients without it, bit for bit.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{Dtype, Llama, LlamaConfig, LoraConfig, ParameterVisitor, TargetModules, TokenInput, TrainableTokens};

const VOCAB: usize = 61;

/// `[hidden, layers, heads, kv_heads, ffn]`.
fn model([hidden, layers, heads, kv_heads, ffn]: [usize; 5], tied: bool) -> Llama {
    let json = serde_json::json!({
        "model_type": "llama", "vocab_size": VOCAB, "hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "max_position_embeddings": 128,
        "tie_word_embeddings": tied, "initializer_range": 0.2,
    });
    Llama::init(&LlamaConfig::from_json(&json.to_string(), "the test's config").expect("a valid configuration"), 3, &Device::flex())
}

/// Rows of cells: (segment, branch, position) each.
struct Layout {
    name: &'static str,
    rows: usize,
    cells: Vec<(u32, u32, u32)>,
}

fn layouts() -> Vec<Layout> {
    let run = |segment: u32, branch: u32, from: u32, length: u32| (from..from + length).map(move |at| (segment, branch, at));
    vec![
        Layout { name: "one row", rows: 1, cells: run(1, 0, 0, 7).collect() },
        // Segment 0 is padding.
        Layout {
            name: "padded rows",
            rows: 3,
            cells: [run(1, 0, 0, 33), run(2, 0, 0, 20), run(0, 0, 0, 13), run(3, 0, 0, 33)].into_iter().flatten().collect(),
        },
        Layout {
            name: "packed rows",
            rows: 2,
            cells: [run(1, 0, 0, 30), run(2, 0, 0, 10), run(3, 0, 0, 21), run(4, 0, 0, 19)].into_iter().flatten().collect(),
        },
        Layout {
            name: "a prompt with three completions, and another with one",
            rows: 1,
            cells: [run(1, 0, 0, 25), run(1, 1, 25, 12), run(1, 2, 25, 9), run(1, 3, 25, 17), run(2, 0, 0, 5), run(2, 1, 5, 20)]
                .into_iter()
                .flatten()
                .collect(),
        },
    ]
}

/// Every parameter's gradient by name, as bits, of a loss that weighs the log-probs of all cells differently.
fn gradients(model: &Llama, layout: &Layout, recompute: bool) -> BTreeMap<String, Vec<u32>> {
    struct Collect(GradientsParams, BTreeMap<String, Vec<u32>>);
    impl ParameterVisitor for Collect {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                let bits = gradient.into_data().iter::<f32>().map(f32::to_bits).collect();
                self.1.insert(name.to_owned(), bits);
            }
        }
    }
    let model = model.clone().train();
    let device = model.device();
    let (n, column) = (layout.cells.len(), |pick: fn(&(u32, u32, u32)) -> u32| layout.cells.iter().map(pick).collect::<Vec<u32>>());
    let ids: Vec<u32> = (0..n as u32).map(|i| (i * i * 7 + 3 * i + 1) % VOCAB as u32).collect();
    let tokens = TokenInput::new(layout.rows, n / layout.rows, &ids, &column(|c| c.2), &column(|c| c.0), &device);
    let tokens = tokens.with_branches(&column(|c| c.1));
    let targets: Vec<i32> = (0..n as i32).map(|i| (i * 5 + 2) % VOCAB as i32).collect();
    let weights: Vec<f32> = (0..n).map(|i| if layout.cells[i].0 == 0 { 0.0 } else { 0.3 + (i % 5) as f32 }).collect();

    let forward = model.forward(&tokens, recompute);
    let hidden = forward.hidden().reshape([n, model.config().hidden_size]);
    let scores = model.token_log_probs(hidden, Tensor::<1, Int>::from_data(TensorData::new(targets, [n]), &device));
    let loss = (scores.log_probs * Tensor::from_data(TensorData::new(weights, [n]), &device)).sum();
    let mut collect = Collect(forward.backward(loss), BTreeMap::new());
    model.visit_parameters(&mut collect);
    collect.1
}

fn assert_equal(model: &Llama, what: &str, trained: usize) {
    for layout in layouts() {
        let (kept, recomputed) = (gradients(model, &layout, false), gradients(model, &layout, true));
        assert_eq!(kept.len(), trained, "{what}: these have a gradient: {:?}", kept.keys());
        assert!(kept.values().flatten().any(|bits| f32::from_bits(*bits).abs() > 1e-2), "{what}: nothing was compared");
        assert_eq!(kept.keys().collect::<Vec<_>>(), recomputed.keys().collect::<Vec<_>>(), "{what}, {}", layout.name);
        for (name, expected) in &kept {
            assert!(recomputed[name] == *expected, "{what}, {}: {name} differs", layout.name);
        }
    }
}

/// Weights of a model of so many layers, the head's own included.
fn weights(layers: usize) -> usize {
    9 * layers + 3
}

const GROUPED: [usize; 5] = [32, 3, 4, 2, 48];

#[test]
fn recomputed_gradients_are_those_of_kept_activations_bit_for_bit() {
    for (what, shape) in [("one layer", [16, 1, 2, 2, 24]), ("many heads", [48, 2, 6, 6, 100]), ("grouped queries", GROUPED)] {
        assert_equal(&model(shape, false), what, weights(shape[1]));
    }
}

#[test]
fn so_are_those_of_an_embedding_that_is_the_head_as_well() {
    assert_equal(&model(GROUPED, true), "tied", weights(3) - 1);
}

#[test]
fn so_are_those_of_a_model_in_bf16() {
    for tied in [false, true] {
        let model = model(GROUPED, tied).with_dtype(Dtype::Bfloat16);
        assert_equal(&model, "bf16", weights(3) - usize::from(tied));
    }
}

#[test]
fn so_are_those_of_adapters_and_of_trained_rows() {
    let tokens = |embed_tokens: &[u32], lm_head: &[u32]| TrainableTokens { embed_tokens: embed_tokens.to_vec(), lm_head: lm_head.to_vec() };
    let all = "all-linear";
    let cases = [
        ("all layers", all, tokens(&[], &[]), false, 2 * 7 * 3),
        ("all layers and two rows", all, tokens(&[8, 12], &[8, 12]), false, 2 * 7 * 3 + 2),
        ("a tied row", all, tokens(&[8], &[8]), true, 2 * 7 * 3 + 1),
        // The first block has nothing to train.
        ("the second block", r"model\.layers\.1\..*", tokens(&[], &[]), false, 2 * 7),
    ];
    for (what, targets, trainable_token_indices, tied, trained) in cases {
        let config = LoraConfig {
            r: 4,
            lora_alpha: 8.0,
            use_rslora: false,
            target_modules: TargetModules::Pattern(targets.into()),
            trainable_token_indices,
            base_model_name_or_path: None,
        };
        for dtype in [Dtype::Float32, Dtype::Bfloat16] {
            let model = model(GROUPED, tied).with_lora(&config, 1).expect("it fits").with_dtype(dtype);
            assert_equal(&model, &format!("{what}, {dtype:?}"), trained);
        }
    }
}
