//! Plans: what they count by hand, of the paper's model without its checkpoint, and what they say where something is missing.

use std::path::Path;

use adpo_data::EncodedTriple;
use adpo_model::{Dtype, LlamaConfig};
use adpo_objective::{Adpo, Objective};
use adpo_pipeline::{Knob, MemoryItem, Plan, PlanOptions, Recipe, ReferenceChoice, Resources, plan};
use adpo_tests::fixture;
use adpo_train::{TrainOptions, preference_passes};

fn resources() -> Resources {
    let dialogues = include_str!("../../crates/adpo-cli/assets/dialogues.jsonl");
    Resources { dialogues: Some(dialogues), ..Resources::default() }
}

fn recipe(name: &str) -> Recipe {
    Recipe::from_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes").join(name)).expect("the recipe parses")
}

const QUICKSTART: &str = include_str!("../../crates/adpo-cli/assets/quickstart.toml");

fn shape() -> LlamaConfig {
    let path = fixture("llama2-7b").join("config.json");
    LlamaConfig::from_json(&std::fs::read_to_string(path).expect("the fixture is there"), "7b").expect("a supported shape")
}

/// On a GPU, from the recipe alone.
fn on_gpu(recipe: &Recipe, memory: u64) -> Plan {
    let options = PlanOptions {
        shape: Some(shape()),
        read_data: false,
        memory: Some(memory),
        on_cpu: false,
        calibrate: None,
        run_dir: Path::new("no/such/run"),
    };
    plan(recipe, &resources(), &options).expect("a plan needs no checkpoint")
}

fn bytes(items: &[MemoryItem], what: &str) -> u64 {
    items.iter().find(|item| item.what == what).unwrap_or_else(|| panic!("no {what} in {items:?}")).bytes
}

#[test]
fn adapters_on_7b_fit_80_gb() {
    let plan = on_gpu(&recipe("llama2-7b-lora.toml"), 80_000_000_000);
    assert!(plan.training.iter().all(|stage| stage.memory.peak < 80_000_000_000 && stage.knobs.is_empty()), "{plan}");
    assert!(plan.sampling.iter().all(|stage| stage.memory.peak < 80_000_000_000), "{plan}");
    insta::assert_json_snapshot!(plan);
}

#[test]
fn the_table_for_people_is_aligned() {
    insta::assert_snapshot!(on_gpu(&recipe("llama2-7b.toml"), 141_000_000_000));
}

#[test]
fn all_weights_of_7b_fit_141_gb() {
    let plan = on_gpu(&recipe("llama2-7b.toml"), 141_000_000_000);
    assert!(plan.training.iter().all(|stage| stage.memory.peak < 141_000_000_000 && stage.knobs.is_empty()), "{plan}");
    assert!(plan.sampling.iter().all(|stage| stage.memory.peak < 141_000_000_000), "{plan}");
}

#[test]
fn drawing_in_bf16_takes_half_of_what_it_takes_in_f32() {
    let mut wide = recipe("llama2-7b.toml");
    let narrow = on_gpu(&wide, 141_000_000_000);
    wide.evaluate.as_mut().expect("it evaluates").draw.dtype = Dtype::Float32;
    wide.sample.as_mut().expect("it samples").draw.dtype = Dtype::Float32;
    let wide = on_gpu(&wide, 141_000_000_000);
    for (narrow, wide) in narrow.sampling.iter().zip(&wide.sampling) {
        for what in ["weights", "KV cache"] {
            assert_eq!(2 * bytes(&narrow.memory.items, what), bytes(&wide.memory.items, what), "{}: {what}", wide.stage);
        }
        // 32 layers' keys and values of 4096 each, 16 rows of 1024 tokens and 256 new ones.
        assert_eq!(bytes(&wide.memory.items, "KV cache"), 4 * 2 * 32 * 4096 * 16 * (1024 + 256));
    }
}

#[test]
fn frozen_weights_are_loaded_as_they_compute_and_trained_ones_in_f32() {
    let [full, adapters] = ["llama2-7b.toml", "llama2-7b-lora.toml"].map(|name| on_gpu(&recipe(name), 141_000_000_000));
    assert_eq!(adapters.training[0].memory.loading, 2 * adapters.parameters);
    // The f32 weights stay as masters, and beside them are the bf16 ones that they are rounded to.
    assert_eq!(full.training[0].memory.loading, 6 * full.parameters);
}

#[test]
fn a_peak_is_no_more_than_its_items_and_no_less_than_what_stays() {
    for name in ["llama2-7b.toml", "llama2-7b-lora.toml"] {
        for stage in on_gpu(&recipe(name), 141_000_000_000).training {
            let items = &stage.memory.items;
            let stays = bytes(items, "weights") + bytes(items, "f32 masters") + bytes(items, "moments") + bytes(items, "reference");
            assert!(stage.memory.peak <= items.iter().map(|item| item.bytes).sum() && stage.memory.peak > stays, "{:?}", stage.memory);
        }
    }
}

#[test]
fn weights_and_activations_are_those_counted_by_hand() {
    let mut full = recipe("llama2-7b.toml");
    let train = &mut full.sft.as_mut().expect("it fine-tunes").train;
    (train.dtype, train.gradient_checkpointing) = (Dtype::Float32, false);
    let plan = on_gpu(&full, 141_000_000_000);
    // Llama2-7B has 6,738,415,616 weights; the control token adds a row to embedding and head.
    assert_eq!(plan.parameters, 6_738_415_616 + 2 * 4096);
    let sft = &plan.training[0];
    assert_eq!(bytes(&sft.memory.items, "weights"), 4 * plan.parameters);
    assert_eq!(bytes(&sft.memory.items, "moments"), 8 * plan.parameters);
    // Of each cell: x, normed x, q, k, v, o, x, normed x of 4096; gate, up, their product of 11,008; 32 lse and two scales.
    let cells = sft.counts.largest_micro_batch as u64;
    assert_eq!(sft.memory.activations_per_block, 4 * cells * (8 * 4096 + 3 * 11_008 + 32 + 2));
    assert_eq!(bytes(&sft.memory.items, "activations of the blocks"), 32 * sft.memory.activations_per_block);
}

#[test]
fn knobs_are_turned_in_the_order_of_their_cost_until_the_stage_fits() {
    let mut full = recipe("llama2-7b.toml");
    let preference = full.preference.as_mut().expect("it trains policies");
    preference.reference = ReferenceChoice::Live;
    let train = &mut preference.train;
    (train.batch_size, train.gradient_accumulation_steps) = (8, 4);
    (train.dtype, train.gradient_checkpointing) = (Dtype::Float32, false);
    // With all gradients there and their sum, bf16 beside f32 masters takes as much as f32.
    turned(
        &on_gpu(&full, 80_000_000_000),
        &[
            "gradient_checkpointing = true",
            "batch_size = 4, gradient_accumulation_steps = 8",
            "reference = \"precomputed\"",
            "a [lora] table (r = 16)",
        ],
    );

    let mut adapters = recipe("llama2-7b-lora.toml");
    let train = &mut adapters.preference.as_mut().expect("it trains policies").train;
    (train.batch_size, train.gradient_accumulation_steps, train.dtype) = (8, 4, Dtype::Float32);
    turned(
        &on_gpu(&adapters, 20_000_000_000),
        &[
            "gradient_checkpointing = true",
            "batch_size = 4, gradient_accumulation_steps = 8",
            "batch_size = 2, gradient_accumulation_steps = 16",
            "batch_size = 1, gradient_accumulation_steps = 32",
            "dtype = \"bfloat16\"",
        ],
    );
}

/// Of the first policy: each knob saves something, and with the last one it fits.
fn turned(plan: &Plan, expected: &[&str]) {
    let knobs = &plan.training[1].knobs;
    let names: Vec<&str> = knobs.iter().map(|knob| knob.set.as_str()).collect();
    assert_eq!(names, expected, "{plan}");
    assert!(knobs.windows(2).all(|pair| pair[1].peak < pair[0].peak));
    let fits: Vec<bool> = knobs.iter().map(|Knob { fits, .. }| *fits).collect();
    assert!(fits.iter().rev().skip(1).all(|fits| !fits) && fits.last() == Some(&true), "{plan}");
}

#[test]
fn a_missing_checkpoint_is_named_with_the_way_around_it() {
    let options =
        PlanOptions { shape: None, read_data: true, memory: None, on_cpu: true, calibrate: None, run_dir: Path::new("no/such/run") };
    let message = plan(&recipe("llama2-7b.toml"), &resources(), &options).expect_err("nobody has it here").to_string();
    assert!(message.contains("checkpoints/Llama-2-7b-hf") && message.contains("--shape 7b"), "{message}");
}

#[test]
fn a_plan_of_data_counts_what_is_dropped_and_what_sharing_saves() {
    let mut quickstart = Recipe::from_toml(QUICKSTART, "quickstart").expect("the recipe parses");
    quickstart.base.checkpoint = fixture("llama2-mha").display().to_string();
    quickstart.encoding.max_length = 100;
    let options =
        PlanOptions { shape: None, read_data: true, memory: None, on_cpu: true, calibrate: None, run_dir: Path::new("no/such/run") };
    let plan = plan(&quickstart, &resources(), &options).expect("the data are embedded");
    let sft = &plan.training[0].counts;
    assert!(sft.dropped.values().sum::<usize>() > 0 && sft.examples > Some(0), "{sft:?}");
    assert_eq!(sft.steps, sft.examples.map(|n| n.div_ceil(16) * 2));
    let policy = &plan.training[1].counts;
    assert!(policy.cells.expect("counted") < policy.cells_not_shared.expect("counted"));
    assert!(policy.assumed.is_some(), "nobody has drawn the responses yet");
}

#[test]
fn passes_are_laid_out_as_the_step_loop_does() {
    let triple = |row: usize, response: usize| EncodedTriple {
        row: row.to_string(),
        prompt: vec![row as u32 + 3; 10],
        chosen: vec![1; response],
        rejected: vec![1; response],
        toxic: Some(vec![1; response]),
        toxic_prompt: None,
    };
    let triples: Vec<EncodedTriple> = (0..5).map(|row| triple(row, 4 + row)).collect();
    let options = TrainOptions { batch_size: 2, gradient_accumulation_steps: 2, shuffle: false, ..TrainOptions::default() };
    let objective = Objective::Adpo(Adpo::default());
    let waves = |on_cpu: bool| preference_passes(&triples, &objective, &options, on_cpu).collect::<Vec<_>>();
    let [on_gpu, on_cpu] = [false, true].map(waves);
    let micro: Vec<usize> = on_gpu.iter().map(|wave| wave.passes.iter().map(|pass| pass.sequences).sum()).collect();
    assert_eq!(micro, [6, 6, 3], "two steps, of two micro-batches and of one");
    assert_eq!(on_gpu.iter().map(|wave| (wave.passes.len(), wave.after_others)).collect::<Vec<_>>(), [(1, false), (1, true), (1, false)]);
    // A prompt of 10 once, three responses of 4 behind it: pairs are 55 of the prompt and 3 · (4 · 10 + 10) of the responses.
    let first = on_cpu[0].passes[0];
    assert_eq!((first.cells, first.targets, first.tokens, first.pairs), (22, 12, 42, 205));
    let passes: Vec<usize> = on_cpu.iter().flat_map(|wave| wave.passes.iter().map(|pass| pass.sequences)).collect();
    assert_eq!(passes, [3; 5], "each triple of a micro-batch is a part of its own");
}
