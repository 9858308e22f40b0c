//! Models that are loaded, and completion, in bf16.

mod common;

use std::path::PathBuf;

use adpo_model::{Dtype, Llama, ParameterVisitor, SampleRequest, SamplingOptions, SaveOptions, TokenInput, sample};
use burn::module::Param;
use burn::tensor::{DType, Device, Tensor};
use common::{model, parameters, saved};

/// f32 on disk; bf16 on disk, in shards, with grouped keys and a tied head.
const FIXTURES: [&str; 2] = ["llama2-mha", "llama3-gqa-tied-sharded-bf16"];

/// How far a logit of either fixture may be from that of f32: they lie within ±3, were 0.05 off, and bf16 has 8 bits.
const BAND: f32 = 0.1;

fn load(name: &str, dtype: Dtype) -> Llama {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name);
    Llama::load_as(&folder, dtype, &Device::flex()).expect("the fixture loads")
}

fn prompts() -> Vec<Vec<u32>> {
    (0..6).map(|row| (0..4 + 3 * row).map(|i| 3 + (row * 31 + i * 17) % 250).collect()).collect()
}

fn draw(model: &Llama, options: &SamplingOptions) -> Vec<Vec<u32>> {
    let prompts = prompts();
    let requests: Vec<SampleRequest<'_>> = prompts.iter().zip(0..).map(|(prompt, row)| SampleRequest { prompt, row }).collect();
    sample(model, &requests, options).expect("sampling works").completions.into_iter().map(|completion| completion.ids).collect()
}

/// Of each of `ids`: what the model says of the next one.
fn logits(model: &Llama, ids: &[u32]) -> Vec<Vec<f32>> {
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let hidden = model.hidden(&TokenInput::new(1, ids.len(), ids, &positions, &vec![1; ids.len()], &Device::flex()));
    let width = hidden.dims()[2];
    let values: Vec<f32> = model.logits(hidden.reshape([ids.len(), width])).into_data().iter::<f32>().collect();
    values.chunks(model.config().vocab_size).map(<[f32]>::to_vec).collect()
}

fn dtypes(model: &Llama) -> Vec<DType> {
    struct Types(Vec<DType>);
    impl ParameterVisitor for Types {
        fn visit<const D: usize>(&mut self, _: &str, param: &Param<Tensor<D>>) {
            self.0.push(param.val().dtype());
        }
    }
    let mut types = Types(Vec::new());
    model.visit_parameters(&mut types);
    types.0
}

#[test]
fn weights_loaded_as_bf16_are_those_of_f32_rounded() {
    for name in FIXTURES {
        let (loaded, wide) = (load(name, Dtype::Bfloat16), load(name, Dtype::Float32));
        assert!(dtypes(&loaded).iter().all(|dtype| *dtype == DType::BF16), "{name}");
        assert_eq!(
            parameters(&loaded.clone().with_dtype(Dtype::Float32)),
            parameters(&wide.clone().with_dtype(Dtype::Bfloat16).with_dtype(Dtype::Float32))
        );
        // What was bf16 on disk loses nothing.
        assert_eq!(parameters(&loaded.with_dtype(Dtype::Float32)) == parameters(&wide), name.ends_with("bf16"), "{name}");
    }
}

#[test]
fn a_new_token_in_bf16_starts_as_the_mean_of_all_others() {
    let folder = saved(&model(false), &SaveOptions::default());
    let narrow = Llama::load_as(folder.path(), Dtype::Bfloat16, &Device::flex()).expect("loads");
    let vocab = narrow.config().vocab_size;
    let rows = &parameters(&narrow.clone().with_dtype(Dtype::Float32))["model.embed_tokens.weight"].1.clone();
    let grown = &parameters(&narrow.with_new_token(vocab as u32).with_dtype(Dtype::Float32))["model.embed_tokens.weight"].1.clone();
    let width = rows.len() / vocab;
    for (column, found) in grown[rows.len()..].iter().enumerate() {
        let mean = (0..vocab).map(|row| f64::from(rows[row * width + column])).sum::<f64>() / vocab as f64;
        assert_eq!(*found, half::bf16::from_f32(mean as f32).to_f32(), "column {column}");
    }
}

#[test]
fn logits_in_bf16_are_within_the_band_of_f32() {
    for name in FIXTURES {
        let (narrow, wide) = (load(name, Dtype::Bfloat16), load(name, Dtype::Float32));
        let (mut furthest, mut largest) = (0.0_f32, 0.0_f32);
        for prompt in prompts() {
            for (narrow, wide) in logits(&narrow, &prompt).iter().flatten().zip(logits(&wide, &prompt).iter().flatten()) {
                furthest = furthest.max((narrow - wide).abs());
                largest = largest.max(wide.abs());
            }
        }
        println!("{name}: {furthest} of {largest}");
        assert!(furthest > 0.0 && furthest < BAND, "{name}: {furthest} of {largest}");
    }
}

#[test]
fn greedy_completions_in_bf16_leave_those_of_f32_only_where_two_tokens_are_close() {
    let greedy = SamplingOptions { temperature: 0.0, max_new_tokens: 24, batch_size: 4, ..SamplingOptions::default() };
    for name in FIXTURES {
        let (narrow, wide) = (load(name, Dtype::Bfloat16), load(name, Dtype::Float32));
        let mut same = 0;
        for ((prompt, narrow), expected) in prompts().into_iter().zip(draw(&narrow, &greedy)).zip(draw(&wide, &greedy)) {
            let agreed = narrow.iter().zip(&expected).take_while(|(a, b)| a == b).count();
            same += agreed;
            let (Some(other), Some(best)) = (narrow.get(agreed), expected.get(agreed)) else { continue };
            let seen = [&prompt[..], &expected[..agreed]].concat();
            let of_next = logits(&wide, &seen).pop().expect("a prompt is not empty");
            let margin = of_next[*best as usize] - of_next[*other as usize];
            assert!(margin < 2.0 * BAND, "{name}: token {other} instead of {best}, which f32 prefers by {margin}");
        }
        println!("{name}: {same} of {} tokens before the first other one", 6 * 24);
        assert!(same > 6 * 24 / 3, "{name}: {same} tokens");
    }
}

#[test]
fn completions_in_bf16_are_deterministic_and_do_not_depend_on_their_batch() {
    let options = |batch_size| SamplingOptions { temperature: 1.0, max_new_tokens: 16, batch_size, seed: 5, ..SamplingOptions::default() };
    for name in FIXTURES {
        let model = load(name, Dtype::Bfloat16);
        let together = draw(&model, &options(6));
        assert_eq!(together, draw(&model, &options(6)), "{name}");
        for batch_size in [1, 2, 4] {
            assert_eq!(together, draw(&model, &options(batch_size)), "{name}, batches of {batch_size}");
        }
    }
}
