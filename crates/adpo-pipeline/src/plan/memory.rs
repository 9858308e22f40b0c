//! The peak memory of a training step, counted from what the kernels keep.
//!
//! Each entry of [`Trainee::saved_per_cell`] is a tensor that one of `adpo-model/src/kernels/*/autodiff.rs` lists in its `State`; whoever
//! changes such a list changes the entry. A tensor that two operations keep is one tensor and stands here once.

use adpo_model::{LlamaConfig, LoraConfig, ModelError};
use adpo_train::{PassSize, TrainOptions};
use serde::Serialize;

/// Bytes of a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Precision {
    /// Of weights, and of the activations and gradients that follow them.
    number: u64,
    /// Of the f32 copy that moves where weights are narrower.
    master: u64,
}

impl Precision {
    pub(crate) fn of(options: &TrainOptions) -> Self {
        if options.bf16 { Self { number: 2, master: F32 } } else { Self { number: F32, master: 0 } }
    }
}

/// Bytes of a number in f32: adapters, moments, sums of gradients, logits.
const F32: u64 = 4;

/// The linear layers of a block, in the order of `LoraConfig::modules`.
const LAYERS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
const QKV: std::ops::Range<usize> = 0..3;
const GATE_UP: std::ops::Range<usize> = 4..6;
const DOWN: usize = 6;

/// Tokens of a block of logits on a GPU (`token_log_probs/cube.rs`); on the CPU a thread's block is 1 MiB (`flex.rs`).
const GPU_CHUNK: u64 = 16 * 1024;
const CPU_CHUNK: u64 = 1 << 20;

/// Where a step runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub on_cpu: bool,
    /// Threads that a CPU kernel spreads over.
    pub threads: u64,
}

impl Place {
    pub(crate) fn new(on_cpu: bool) -> Self {
        Self { on_cpu, threads: if on_cpu { rayon::current_num_threads() as u64 } else { 1 } }
    }
}

/// A model and what of it is trained.
#[derive(Debug, Clone)]
pub(crate) struct Trainee {
    pub config: LlamaConfig,
    /// Adapters on these layers of each block, and the rows of one token; all else is then frozen.
    adapters: Option<Adapters>,
}

#[derive(Debug, Clone)]
struct Adapters {
    r: u64,
    blocks: Vec<[bool; LAYERS.len()]>,
}

/// How the reference of a preference loss is kept while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceMemory {
    /// None is needed.
    None,
    /// Log-probs computed beforehand.
    Precomputed,
    /// The policy's own base with its adapters off.
    SharedBase,
    /// A second copy of the weights.
    LiveCopy,
}

/// Everything that a step's memory depends on.
pub(crate) struct Step<'a> {
    pub trainee: &'a Trainee,
    pub reference: ReferenceMemory,
    /// Passes that run at the same time.
    pub passes: &'a [PassSize],
    /// Whether gradients of earlier passes of the step are waiting.
    pub accumulates: bool,
    pub precision: Precision,
    /// Whether blocks keep their inputs alone and are computed again.
    pub recompute: bool,
    pub place: Place,
}

/// One line of a step's memory, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryItem {
    /// What it is.
    pub what: &'static str,
    /// How much of it there is at most.
    pub bytes: u64,
}

impl MemoryItem {
    /// A model that is only asked.
    pub(crate) fn weights(what: &'static str, model: &Trainee) -> Self {
        Self { what, bytes: F32 * model.base_numbers() }
    }
}

/// A step's memory, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepMemory {
    /// The sum over all items, or `loading` if that is more.
    pub peak: u64,
    /// What a step's memory is made of.
    pub items: Vec<MemoryItem>,
    /// The weights before the first step: they are f32 until they are made narrower one by one.
    pub loading: u64,
    /// What one block keeps of the largest micro-batch for its backward pass.
    pub activations_per_block: u64,
    /// What all blocks keep where each keeps its input alone and is computed again.
    pub activations_recomputed: u64,
}

impl Trainee {
    pub(crate) fn new(config: LlamaConfig, lora: Option<&LoraConfig>) -> Result<Self, ModelError> {
        let adapters = lora.map(|lora| {
            let names = lora.modules(&config)?;
            let has = |block: usize, layer: &str| {
                names.iter().any(|name| name.starts_with(&format!("model.layers.{block}.")) && name.ends_with(&format!(".{layer}")))
            };
            let blocks = (0..config.num_hidden_layers).map(|block| LAYERS.map(|layer| has(block, layer))).collect();
            Ok::<_, ModelError>(Adapters { r: lora.r as u64, blocks })
        });
        Ok(Self { adapters: adapters.transpose()?, config })
    }

    pub(crate) fn has_adapters(&self) -> bool {
        self.adapters.is_some()
    }

    fn hidden(&self) -> u64 {
        self.config.hidden_size as u64
    }
    fn inner(&self) -> u64 {
        self.config.intermediate_size as u64
    }
    fn heads(&self) -> u64 {
        self.config.num_attention_heads as u64
    }
    /// Width of all queries, of all keys.
    fn widths(&self) -> (u64, u64) {
        let dim = self.config.head_dim as u64;
        (self.heads() * dim, self.config.num_key_value_heads as u64 * dim)
    }
    fn embedding(&self) -> u64 {
        self.config.vocab_size as u64 * self.hidden()
    }
    fn blocks(&self) -> usize {
        self.config.num_hidden_layers
    }

    /// (in, out) of a block's linear layers.
    fn layers(&self) -> [(u64, u64); LAYERS.len()] {
        let (d, f, (q, k)) = (self.hidden(), self.inner(), self.widths());
        [(d, q), (d, k), (d, k), (q, d), (d, f), (d, f), (f, d)]
    }

    /// Numbers of the linear layers of one block.
    pub(crate) fn block_products(&self) -> u64 {
        self.layers().iter().map(|(input, out)| input * out).sum()
    }

    /// Numbers of all adapters.
    pub(crate) fn adapter_numbers(&self) -> u64 {
        (0..self.blocks()).map(|block| self.block_adapters(block)).sum()
    }

    fn block_adapters(&self, block: usize) -> u64 {
        let Some(Adapters { r, blocks }) = &self.adapters else { return 0 };
        blocks[block].iter().zip(self.layers()).filter(|(has, _)| **has).map(|(_, (input, out))| r * (input + out)).sum()
    }

    /// Numbers of the model as it is loaded, without adapters.
    pub(crate) fn base_numbers(&self) -> u64 {
        let heads = if self.config.tie_word_embeddings { 1 } else { 2 };
        heads * self.embedding() + self.blocks() as u64 * (self.block_products() + 2 * self.hidden()) + self.hidden()
    }

    /// Trained numbers of a block, of the head with the final norm, and of an embedding of its own.
    fn trained(&self, block: usize) -> u64 {
        if self.has_adapters() { self.block_adapters(block) } else { self.block_products() + 2 * self.hidden() }
    }
    fn trained_head(&self) -> u64 {
        if self.has_adapters() { self.hidden() } else { self.embedding() + self.hidden() }
    }
    fn trained_embedding(&self) -> u64 {
        match (self.has_adapters(), self.config.tie_word_embeddings) {
            (true, _) => self.hidden(),
            (false, false) => self.embedding(),
            (false, true) => 0,
        }
    }

    /// Numbers that have a gradient and two moments.
    pub(crate) fn trained_numbers(&self) -> u64 {
        (0..self.blocks()).map(|block| self.trained(block)).sum::<u64>() + self.trained_head() + self.trained_embedding()
    }

    /// Whether an input of these layers is kept: by the gradient of a weight that is trained, or by an adapter.
    fn keeps_input(&self, block: usize, mut layers: std::ops::Range<usize>) -> bool {
        self.adapters.as_ref().is_none_or(|adapters| layers.any(|layer| adapters.blocks[block][layer]))
    }

    /// What a block keeps of each cell, in numbers.
    fn saved_per_cell(&self, block: usize) -> u64 {
        let (d, f, (q, k)) = (self.hidden(), self.inner(), self.widths());
        let where_kept = |numbers: u64, kept: bool| if kept { numbers } else { 0 };
        [
            // rms_norm: x, the block's input, and 1 / √(mean(x²) + ε).
            d + 1,
            // linear, q_proj, k_proj and v_proj: their common input.
            where_kept(d, self.keeps_input(block, QKV)),
            // attention: q and k after rope, which itself keeps angles alone; v, o, lse. o is o_proj's input as well.
            q + k + k + q + self.heads(),
            // rms_norm: x with the attention's result, and its scale.
            d + 1,
            // linear, gate_proj and up_proj: their common input.
            where_kept(d, self.keeps_input(block, GATE_UP)),
            // swiglu: gate and up.
            2 * f,
            // linear, down_proj: its input.
            where_kept(f, self.keeps_input(block, DOWN..DOWN + 1)),
            // linear, each adapter's B: x·Aᵀ·s.
            self.adapters.as_ref().map_or(0, |adapters| adapters.r * adapters.blocks[block].iter().filter(|has| **has).count() as u64),
        ]
        .iter()
        .sum()
    }

    /// What the head keeps of a pass besides blocks: the final norm's input and scale; of each target its hidden state and lse; with
    /// adapters a copy of the head in which the token's row is the trained one.
    fn saved_by_head(&self, pass: &PassSize) -> u64 {
        let copy = if self.has_adapters() { self.embedding() } else { 0 };
        cells(pass) * (self.hidden() + 1) + targets(pass) * (self.hidden() + 1) + copy
    }

    /// What comes and goes as the backward pass goes through a block: the residual stream's gradient, and those of gate and up
    /// while both are still there, of which one takes the place of down's input where that was kept.
    fn working_in_block(&self, block: usize, pass: &PassSize) -> u64 {
        let gradients = if self.keeps_input(block, DOWN..DOWN + 1) { 1 } else { 2 };
        cells(pass) * (self.hidden() + gradients * self.inner())
    }

    /// What comes and goes in a block's forward pass of which nothing is kept: stream, norm, gate and up.
    fn working_forward(&self, cells: u64) -> u64 {
        cells * (2 * self.hidden() + 2 * self.inner())
    }

    /// Bytes that come and go in the head's backward pass: the hidden states' gradient, a share of it per thread, blocks of logits.
    fn working_in_head(&self, pass: &PassSize, place: Place, precision: Precision) -> u64 {
        let of_targets = targets(pass) * self.hidden() * precision.number;
        if place.on_cpu {
            return (1 + place.threads) * of_targets + place.threads * CPU_CHUNK;
        }
        2 * of_targets + 2 * targets(pass) * GPU_CHUNK.min(self.config.vocab_size as u64) * F32
    }
}

fn cells(pass: &PassSize) -> u64 {
    pass.cells as u64
}

fn targets(pass: &PassSize) -> u64 {
    pass.targets as u64
}

impl Step<'_> {
    /// Kinds are not there all at once: gradients come as activations go. Their sum is the peak all the same, because the one kind's
    /// holes do not serve the other, in glibc's heap and in a GPU's pool; docs/gpu.md has the measurements.
    pub(crate) fn memory(&self) -> StepMemory {
        let (t, Precision { number, master }) = (self.trainee, self.precision);
        let trained = t.trained_numbers();
        let (masters, gradient, adapters) = if t.has_adapters() { (0, F32, F32 * trained) } else { (master * trained, number, 0) };
        // A tied embedding's two gradients are there at once.
        let second = if t.config.tie_word_embeddings && !t.has_adapters() { t.embedding() } else { 0 };
        // Sums of several passes are f32; where gradients are too, the first pass's become the sum.
        let sums = self.accumulates || (number < F32 && self.passes.len() > 1);
        let accumulated = if sums { F32 * trained } else { 0 };
        let per_cell: Vec<u64> = (0..t.blocks()).map(|block| t.saved_per_cell(block)).collect();
        let block = per_cell.iter().copied().max().unwrap_or(0);
        // The blocks' inputs, what the last one gave, and one block's activations.
        let recomputed = t.hidden() * (t.blocks() as u64 + 1) + block;
        let cells = self.sum(cells);
        let in_blocks = self.sum(|pass| (0..t.blocks()).map(|block| t.working_in_block(block, pass)).max().unwrap_or(0));
        let in_reference = match self.reference {
            ReferenceMemory::None | ReferenceMemory::Precomputed => 0,
            // It looks at the batch when the policy has done so, and keeps nothing.
            ReferenceMemory::SharedBase | ReferenceMemory::LiveCopy => t.working_forward(cells),
        };
        let head = number * self.sum(|pass| t.saved_by_head(pass)) + self.sum(|pass| t.working_in_head(pass, self.place, self.precision));
        let loading = F32 * t.base_numbers();
        let items: Vec<MemoryItem> = [
            ("weights", number * t.base_numbers() + adapters),
            ("f32 masters", masters),
            ("moments", 2 * F32 * trained),
            ("gradients", accumulated + self.passes.len() as u64 * gradient * (trained + second)),
            ("reference", if self.reference == ReferenceMemory::LiveCopy { number * t.base_numbers() } else { 0 }),
            ("activations of the blocks", number * cells * if self.recompute { recomputed } else { per_cell.iter().sum() }),
            ("head and log-prob chunk", head),
            ("working memory", number * in_blocks.max(in_reference)),
        ]
        .map(|(what, bytes)| MemoryItem { what, bytes })
        .into();
        StepMemory {
            peak: items.iter().map(|item| item.bytes).sum::<u64>().max(loading),
            items,
            loading,
            activations_per_block: number * cells * block,
            activations_recomputed: number * cells * recomputed,
        }
    }

    fn sum(&self, of_pass: impl Fn(&PassSize) -> u64) -> u64 {
        self.passes.iter().map(of_pass).sum()
    }
}

/// Memory of sampling, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SampleMemory {
    /// The sum.
    pub peak: u64,
    /// What it is made of.
    pub items: Vec<MemoryItem>,
}

impl SampleMemory {
    /// Of `rows` at once, prompts of up to `prompt` tokens, each answered by up to `new`; `others` are models beside it.
    pub(crate) fn new(trainee: &Trainee, rows: usize, prompt: usize, new: usize, others: Vec<MemoryItem>) -> Self {
        let (rows, prompt, new) = (rows as u64, prompt as u64, new as u64);
        let (_, keys) = trainee.widths();
        let item = |what, numbers: u64| MemoryItem { what, bytes: F32 * numbers };
        let mut items = vec![
            item("weights", trainee.base_numbers()),
            // Keys and values of all layers, for the longest prompt and answer from the start.
            item("KV cache", 2 * trainee.blocks() as u64 * rows * (prompt + new) * keys),
            item("working memory", trainee.working_forward(rows * prompt).max(2 * rows * trainee.config.vocab_size as u64)),
        ];
        items.extend(others);
        Self { peak: items.iter().map(|item| item.bytes).sum(), items }
    }
}
