//! What checkpoints take of the heap, as the allocator counts it. A process of its own: nothing else may allocate meanwhile.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use adpo_data::Encoded;
use adpo_model::{Dtype, Llama, LlamaConfig, StoredTensor, TensorFile};
use adpo_train::{SftExample, TrainOptions, train_sft};
use burn::tensor::{Device, Tensor, TensorData};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The counts are the whole process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const VOCAB: usize = 2048;
const WIDTH: usize = 512;
/// Bytes of the largest tensor in f32.
const LARGEST: usize = 4 * VOCAB * WIDTH;

/// 11 tensors of the largest size, and as much again in smaller ones.
fn model() -> Llama {
    let config = format!(
        r#"{{"model_type": "llama", "vocab_size": {VOCAB}, "hidden_size": {WIDTH}, "intermediate_size": {VOCAB},
            "num_hidden_layers": 3, "num_attention_heads": 8, "max_position_embeddings": 32}}"#
    );
    Llama::init(&LlamaConfig::from_json(&config, "the test's config").expect("a valid configuration"), 1, &Device::flex())
}

/// One step on eight tokens.
fn train(model: Llama, dtype: Dtype, folder: &Path) -> Llama {
    let encoded = Encoded { ids: (1..9).collect(), trained: vec![true; 8] };
    let examples = [SftExample { row: "one".into(), encoded }];
    let options = TrainOptions { batch_size: 1, dtype, ..TrainOptions::default() };
    train_sft(model, &examples[..], &options, folder).expect("the run finishes").model
}

/// In units of the largest tensor.
fn largest(bytes: usize) -> f64 {
    bytes as f64 / LARGEST as f64
}

#[test]
fn of_tensors_that_are_written_two_copies_of_one_are_in_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let values: Vec<f32> = (0..LARGEST / 4).map(|i| i as f32).collect();
    let tensors = (0..8).map(|i| Tensor::<1>::from_data(TensorData::new(values.clone(), [LARGEST / 4]), &Device::flex()) + i);
    let tensors: Vec<StoredTensor> =
        tensors.zip(0..).map(|(tensor, i)| StoredTensor::new(format!("{i}"), tensor, Dtype::Float32)).collect();
    drop(values);
    let path = folder.path().join("eight.safetensors");
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    TensorFile::write(&path, tensors).expect("written");
    let extra = largest(ALLOCATOR.peak_usage() - before);
    println!("writing 8 tensors takes {extra:.2} of one");
    assert!(extra < 3.0, "{extra:.2} tensors at the peak");

    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let file = TensorFile::open(&path).expect("it is there");
    assert_eq!(file.tensors().expect("whole").tensor("7").expect("there").data().len(), LARGEST);
    let extra = largest(ALLOCATOR.peak_usage() - before);
    assert!(extra < 0.1, "a file that is only mapped takes {extra:.2} of its tensors' heap");
}

#[test]
fn a_checkpoint_is_written_tensor_by_tensor_and_read_from_mapped_files() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for dtype in [Dtype::Float32, Dtype::Bfloat16] {
        let folder = tempfile::tempdir().expect("a folder");
        // While the unfinished checkpoint is there: the least is what is in memory between two tensors.
        let unfinished = folder.path().join("checkpoints/.step-00000001.tmp");
        let done = AtomicBool::new(false);
        let writing = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                while !unfinished.exists() {
                    assert!(!done.load(Relaxed), "the folder was never seen");
                }
                ALLOCATOR.reset_peak_usage();
                let (mut least, mut most) = (usize::MAX, 0);
                loop {
                    let (now, peak) = (ALLOCATOR.current_usage(), ALLOCATOR.peak_usage());
                    // Looked at after the numbers, so that these are of its time.
                    if !unfinished.exists() {
                        assert!(most > 0, "the folder was seen only when it was finished");
                        return most - least;
                    }
                    (least, most) = (least.min(now), peak);
                }
            });
            drop(train(model(), dtype, folder.path()));
            done.store(true, Relaxed);
            watch.join().expect("it was seen")
        });
        println!("{dtype:?}: writing takes {:.2} of the largest tensor", largest(writing));
        assert!((1.0..3.0).contains(&largest(writing)), "{dtype:?}: {:.2} tensors while it was written", largest(writing));

        let start = model();
        let bytes = |folder: &Path, name: &str| std::fs::metadata(folder.join(name)).expect("it is there").len() as usize;
        let checkpoint = folder.path().join("checkpoints/step-00000001");
        let (weights, state) = (bytes(&checkpoint, "model.safetensors"), bytes(&checkpoint, "optimizer.safetensors"));
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        drop(train(start, dtype, folder.path()));
        let reading = ALLOCATOR.peak_usage() - before;
        // The weights where the run began are dropped before the state is read.
        let held = state.max(if dtype == Dtype::Bfloat16 { 2 * weights } else { weights });
        let beyond = largest(reading.saturating_sub(held));
        println!("{dtype:?}: going on takes {:.1} tensors for weights or state, and {beyond:.2} more", largest(held));
        assert!(reading > held / 2, "the run did not go on from the checkpoint");
        assert!(beyond < 3.0, "{dtype:?}: {beyond:.2} tensors beyond weights or state");
    }
}
