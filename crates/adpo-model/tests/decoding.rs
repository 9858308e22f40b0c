//! Completions drawn token by token: rows that join and leave, and log-probs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use adpo_model::{Decoding, Drawn, Dtype, Finish, Joining, Llama, SampleRequest, SamplingOptions, sample};
use burn::tensor::Device;

/// Multi-head, and grouped keys with a tied head.
const FIXTURES: [&str; 2] = ["llama2-mha", "llama3-gqa-tied-sharded-bf16"];

fn load(name: &str, dtype: Dtype) -> Llama {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name);
    Llama::load_as(&folder, dtype, &Device::flex()).expect("the fixture loads")
}

/// Prompts of different lengths, so that rows have to be moved when others join.
fn prompts() -> Vec<Vec<u32>> {
    [5, 2, 17, 1, 9, 30, 3].iter().zip(0..).map(|(length, row)| (0..*length).map(|i| 3 + (row * 31 + i * 17) % 250).collect()).collect()
}

fn options() -> Arc<SamplingOptions> {
    let options =
        SamplingOptions { temperature: 1.0, top_p: Some(0.9), max_new_tokens: 14, stop: vec![2], seed: 5, ..SamplingOptions::default() };
    Arc::new(options)
}

fn alone(model: &Llama, options: &SamplingOptions) -> Vec<Vec<u32>> {
    let one = |(row, prompt): (usize, &Vec<u32>)| {
        sample(model, &[SampleRequest { prompt, row: row as u64 }], options).expect("sampled").completions.remove(0).ids
    };
    prompts().iter().enumerate().map(one).collect()
}

fn joining<'a>(prompts: &'a [Vec<u32>], row: usize, options: &'a Arc<SamplingOptions>) -> Joining<'a> {
    Joining { ticket: row as u64, request: SampleRequest { prompt: &prompts[row], row: row as u64 }, options, log_probs: None }
}

fn step(decoding: &mut Decoding, found: &mut BTreeMap<u64, Vec<u32>>) {
    let take = |drawn: Drawn| {
        let ids = found.entry(drawn.ticket).or_default();
        if !matches!(drawn.finish, Some(Finish::Stop(_))) {
            ids.push(drawn.token);
        }
        true
    };
    decoding.step(take).expect("the model gives numbers");
}

#[test]
fn rows_that_join_between_steps_draw_what_they_draw_alone() {
    let (prompts, options) = (prompts(), options());
    for name in FIXTURES {
        for dtype in [Dtype::Float32, Dtype::Bfloat16] {
            let model = load(name, dtype);
            let mut decoding = Decoding::new(&model);
            let mut found = BTreeMap::new();
            // Two at once, then one after every third step; the last ones meet rows that have left gaps behind.
            decoding.join(&[joining(&prompts, 0, &options), joining(&prompts, 1, &options)]).expect("they fit");
            for row in 2..prompts.len() {
                (0..3).for_each(|_| step(&mut decoding, &mut found));
                decoding.join(&[joining(&prompts, row, &options)]).expect("it fits");
            }
            while !decoding.is_empty() {
                step(&mut decoding, &mut found);
            }
            assert_eq!(found.into_values().collect::<Vec<_>>(), alone(&model, &options), "{name}, {}", dtype.name());
        }
    }
}

#[test]
fn each_row_has_options_of_its_own() {
    let (prompts, model) = (prompts(), load(FIXTURES[0], Dtype::Float32));
    let greedy = Arc::new(SamplingOptions { temperature: 0.0, max_new_tokens: 6, ..SamplingOptions::default() });
    let drawn = options();
    let mut decoding = Decoding::new(&model);
    let mut found = BTreeMap::new();
    decoding.join(&[joining(&prompts, 0, &greedy), joining(&prompts, 2, &drawn)]).expect("they fit");
    while !decoding.is_empty() {
        step(&mut decoding, &mut found);
    }
    assert_eq!(found[&0], alone(&model, &greedy)[0]);
    assert_eq!(found[&2], alone(&model, &drawn)[2]);
}

#[test]
fn a_row_that_is_sent_away_leaves_and_the_others_go_on() {
    let (prompts, options, model) = (prompts(), options(), load(FIXTURES[0], Dtype::Float32));
    let mut decoding = Decoding::new(&model);
    let rows: Vec<Joining<'_>> = (0..3).map(|row| joining(&prompts, row, &options)).collect();
    decoding.join(&rows).expect("they fit");
    let mut found: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    while !decoding.is_empty() {
        let take = |drawn: Drawn| {
            if !matches!(drawn.finish, Some(Finish::Stop(_))) {
                found.entry(drawn.ticket).or_default().push(drawn.token);
            }
            drawn.ticket != 1
        };
        decoding.step(take).expect("the model gives numbers");
    }
    let alone = alone(&model, &options);
    assert_eq!((&found[&0], &found[&1][..], &found[&2]), (&alone[0], &alone[1][..1], &alone[2]));
}

#[test]
fn log_probs_of_drawn_tokens_are_those_of_the_same_tokens_as_a_prompt() {
    let (prompt, model) = (prompts().remove(4), load(FIXTURES[1], Dtype::Float32));
    let vocab = model.config().vocab_size;
    let options = options();
    let mut decoding = Decoding::new(&model);
    let request = SampleRequest { prompt: &prompt, row: 4 };
    decoding.join(&[Joining { ticket: 0, request, options: &options, log_probs: Some(vocab) }]).expect("it fits");
    let mut drawn = Vec::new();
    while !decoding.is_empty() {
        decoding
            .step(|token| {
                drawn.push(token);
                true
            })
            .expect("the model gives numbers");
    }
    let all: Vec<u32> = prompt.iter().copied().chain(drawn.iter().map(|token| token.token)).collect();
    let read = model.prompt_log_probs(&all, 3).expect("it fits");
    assert_eq!(read.len(), all.len() - 1);
    for (token, read) in drawn.iter().zip(&read[prompt.len() - 1..]) {
        let given = token.log_probs.as_ref().expect("asked for");
        assert!((given.chosen - read.chosen).abs() < 1e-4, "{} and {}", given.chosen, read.chosen);
        assert_eq!(given.top.len(), vocab);
        assert!((given.top.iter().map(|(_, log_prob)| log_prob.exp()).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(given.top.is_sorted_by(|a, b| a.1 >= b.1));
        assert_eq!(given.top.iter().find(|(id, _)| *id == token.token).map(|(_, log_prob)| *log_prob), Some(given.chosen));
        assert_eq!(read.top.len(), 3);
    }
}

#[test]
fn what_cannot_be_drawn_is_refused_before_anything_joins() {
    let (model, options) = (load(FIXTURES[0], Dtype::Float32), options());
    let nothing = Arc::new(SamplingOptions { max_new_tokens: 0, ..SamplingOptions::default() });
    let mut decoding = Decoding::new(&model);
    let long = vec![3; 5000];
    let cases: [(&[u32], &Arc<SamplingOptions>, &str); 4] =
        [(&[], &options, "empty prompt"), (&[3, 100_000], &options, "100000"), (&long, &options, "5000"), (&[3], &nothing, "is 0")];
    for (prompt, options, told) in cases {
        let request = SampleRequest { prompt, row: 0 };
        let error = decoding.join(&[Joining { ticket: 0, request, options, log_probs: None }]).expect_err(told).to_string();
        assert!(error.contains(told), "{error}");
        assert!(decoding.is_empty());
    }
    assert!(model.prompt_log_probs(&[3, 100_000], 0).is_err());
}
