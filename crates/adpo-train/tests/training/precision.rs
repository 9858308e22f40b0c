//! Training in bf16: what moves, what is kept, and what a checkpoint holds.

use std::path::Path;

use adpo_model::{Dtype, Llama};
use adpo_objective::{Adpo, Objective};
use adpo_train::{Reference, TrainOptions, Trained, train_preference, train_sft};
use burn::tensor::Device;
use safetensors::{Dtype as StoredDtype, SafeTensors};

use crate::common::{examples, lora, model, newest_checkpoint, options, triples, weights};
use crate::resume::assert_equal_runs;

const STEPS: usize = 60;

fn bf16() -> TrainOptions {
    TrainOptions { dtype: Dtype::Bfloat16, batch_size: 4, ..options() }
}

/// Small steps of equal size.
fn small_steps(dtype: Dtype, steps: usize) -> TrainOptions {
    TrainOptions {
        dtype,
        batch_size: 4,
        max_steps: Some(steps),
        learning_rate: 5e-6,
        lr_scheduler_type: adpo_train::LrScheduler::Constant,
        ..TrainOptions::default()
    }
}

fn sft(model: Llama, options: &TrainOptions) -> Trained {
    let folder = tempfile::tempdir().expect("a folder");
    train_sft(model, &examples(8), options, folder.path()).expect("the run finishes")
}

/// How many weights differ, of norms and of all others.
fn changed(a: &Llama, b: &Llama) -> [usize; 2] {
    let mut changed = [0, 0];
    for ((name, a), (_, b)) in weights(a).iter().zip(&weights(b)) {
        changed[usize::from(!name.ends_with("norm.weight"))] += a.iter().zip(b).filter(|(a, b)| a != b).count();
    }
    changed
}

#[test]
fn steps_of_5e_6_move_bf16_weights_which_they_would_not_without_masters() {
    let start = model(3).with_dtype(Dtype::Bfloat16);
    let trained = sft(model(3), &small_steps(Dtype::Bfloat16, STEPS)).model;
    let [norms, others] = changed(&trained, &start);

    // Without masters, each step ends with a rounding, and nothing else is kept. A first step of AdamW moves every weight by the
    // whole learning rate: no optimiser's state would move them further.
    let mut naive = start.clone();
    for _ in 0..STEPS {
        naive = sft(naive.with_dtype(Dtype::Float32), &small_steps(Dtype::Float32, 1)).model.with_dtype(Dtype::Bfloat16);
    }
    let [naive_norms, naive_others] = changed(&naive, &start);
    println!("changed in {STEPS} steps: norms {norms} with masters, {naive_norms} without; others {others} and {naive_others}");
    assert_eq!(naive_norms, 0, "1 - 5e-6 is 1 in bf16");
    assert!(others > 5 * naive_others, "{others} weights moved, {naive_others} without masters");

    // And they are where f32 training goes, but for gradients of rounded activations.
    let exact = sft(model(3), &small_steps(Dtype::Float32, STEPS)).model.with_dtype(Dtype::Bfloat16);
    let [_, apart] = changed(&trained, &exact);
    let [_, moved] = changed(&exact, &start);
    println!("others: {moved} move in f32, {apart} end up elsewhere in bf16");
    assert!(2 * apart < moved, "{apart} weights are elsewhere than in f32, where {moved} moved");
}

#[test]
fn a_checkpoint_holds_the_rounding_of_its_masters() {
    let folder = tempfile::tempdir().expect("a folder");
    let trained = train_sft(model(3), &examples(8), &bf16(), folder.path()).expect("the run finishes").model;
    assert_eq!(trained.dtype(), Dtype::Bfloat16);
    let checkpoint = newest_checkpoint(folder.path());
    let [saved, state] = ["model.safetensors", "optimizer.safetensors"].map(|f| std::fs::read(checkpoint.join(f)).expect("readable"));
    let (saved, state) = (SafeTensors::deserialize(&saved).expect("whole"), SafeTensors::deserialize(&state).expect("whole"));
    let config = std::fs::read_to_string(checkpoint.join("config.json")).expect("readable");
    assert!(config.contains(r#""torch_dtype": "bfloat16""#), "{config}");
    let mut beyond = 0;
    for (name, in_memory) in weights(&trained) {
        let (saved, master) = (saved.tensor(&name).expect("there"), state.tensor(&format!("master.{name}")).expect("there"));
        assert_eq!((saved.dtype(), master.dtype()), (StoredDtype::BF16, StoredDtype::F32));
        let masters = master.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let saved = saved.data().chunks_exact(2).map(|b| f32::from_bits(u32::from_le_bytes([0, 0, b[0], b[1]])));
        for ((master, saved), in_memory) in masters.zip(saved).zip(in_memory) {
            assert_eq!(saved, in_memory, "{name}");
            assert!((master - saved).abs() <= saved.abs() / 256.0, "{name}: {saved} is not the rounding of {master}");
            beyond += usize::from(master != saved);
        }
    }
    assert!(beyond > 1000, "masters say nothing that the weights do not");
}

#[test]
fn a_bf16_run_that_goes_on_from_a_checkpoint_ends_bit_equal() {
    let adpo = Objective::Adpo(Adpo::default());
    for adapters in [false, true] {
        let options =
            TrainOptions { num_train_epochs: 2, gradient_accumulation_steps: 2, save_steps: Some(2), save_total_limit: Some(9), ..bf16() };
        let train = |folder: &Path, options: &TrainOptions| {
            let start = model(3).with_dtype(Dtype::Bfloat16);
            let reference = Reference::live(start, &Device::flex());
            let policy = if adapters { model(3).with_lora(&lora(), 1).expect("it fits") } else { model(3) };
            train_preference(policy, Some(&reference), &triples(24), &adpo, options, folder).expect("the run finishes")
        };
        let (whole, cut) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let expected = train(whole.path(), &options);
        train(cut.path(), &options);
        for _ in 0..2 {
            std::fs::remove_dir_all(newest_checkpoint(cut.path())).expect("removed");
        }
        // Block-wise recompute changes no number, so a run may turn it on when memory is short.
        let resumed = train(cut.path(), &TrainOptions { gradient_checkpointing: true, ..options.clone() });
        assert_equal_runs(cut.path(), whole.path());
        assert_eq!(weights(&resumed.model), weights(&expected.model));
        assert_ne!(weights(&resumed.model), weights(&model(3).with_dtype(Dtype::Bfloat16)));
    }
}

#[test]
fn adapters_beside_bf16_weights_stay_f32() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = model(3).with_lora(&lora(), 1).expect("it fits");
    let trained = train_sft(start, &examples(8), &bf16(), folder.path()).expect("the run finishes").model;
    let rounded = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000) == x;
    let (base, adapters): (Vec<_>, Vec<_>) =
        weights(&trained).into_iter().partition(|(name, _)| !name.contains("lora_") && !name.contains("trainable_tokens"));
    assert_eq!(base, weights(&model(3).with_dtype(Dtype::Bfloat16)));
    for (name, values) in adapters {
        let wide = values.iter().filter(|value| !rounded(**value)).count();
        assert!(2 * wide > values.len(), "{name}: {wide} of {} values need f32", values.len());
    }
    let state = std::fs::read(newest_checkpoint(folder.path()).join("optimizer.safetensors")).expect("readable");
    let state = SafeTensors::deserialize(&state).expect("whole");
    assert!(state.names().iter().all(|name| !name.starts_with("master.")), "adapters are their own masters");
}

#[test]
fn a_reference_of_another_precision_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let reference = Reference::live(model(3), &Device::flex());
    let objective = Objective::Adpo(Adpo::default());
    let error = train_preference(model(3), Some(&reference), &triples(8), &objective, &bf16(), folder.path()).expect_err("f32 beside bf16");
    assert!(error.to_string().contains("dtype") && error.to_string().contains("another type"), "{error}");
}
