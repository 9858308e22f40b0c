//! The peak memory of a training step, counted from what the kernels keep.
//!
//! Each entry of [`Trainee::saved_per_cell`] is a tensor that one of `adpo-model/src/kernels/*/autodiff.rs` lists in its `State`; whoever
//! changes such a list changes the entry. A tensor that two operations keep is one tensor and stands here once.

use std::ops::Range;

use adpo_model::kernels::PARTS;
use adpo_model::{Dtype, LlamaConfig, LoraConfig, ModelError};
use adpo_train::{PassSize, TrainOptions};
use serde::Serialize;

/// Bytes of a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    /// Of weights, and of the activations and gradients that follow them.
    number: u64,
    /// Of the f32 copy that moves where weights are narrower.
    master: u64,
}

impl Numbers {
    pub(crate) fn of(options: &TrainOptions) -> Self {
        Self { number: options.dtype.bytes() as u64, master: if options.dtype.is_float32() { 0 } else { F32 } }
    }
}

/// Bytes of a number in f32: adapters, moments, sums of gradients, logits.
pub(super) const F32: u64 = 4;

/// The linear layers of a block, in the order of `LoraConfig::modules`.
const LAYERS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
const QKV: Range<usize> = 0..3;
const GATE_UP: Range<usize> = 4..6;
const DOWN: usize = 6;

/// Tokens of a block of logits on a GPU (`token_log_probs/cube.rs`); on the CPU a thread's block is 1 MiB (`flex.rs`).
const GPU_CHUNK: u64 = 16 * 1024;
const CPU_CHUNK: u64 = 1 << 20;

/// What a thread of the CPU keeps to rearrange products in: gemm takes as much as the cache of a core holds, 2 MiB where this was measured.
const CPU_PACKING: u64 = 2 << 20;

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
    pub numbers: Numbers,
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
    pub(crate) fn weights(what: &'static str, model: &Trainee, dtype: Dtype) -> Self {
        Self { what, bytes: dtype.bytes() as u64 * model.base_numbers() }
    }
}

/// A step's memory, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepMemory {
    /// The most that is allocated at one time, loading included.
    pub peak: u64,
    /// What a step's memory is made of, each kind at its most; not all of them are so at one time.
    pub items: Vec<MemoryItem>,
    /// The weights before the first step.
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
    pub(super) fn widths(&self) -> (u64, u64) {
        let dim = self.config.head_dim as u64;
        (self.heads() * dim, self.config.num_key_value_heads as u64 * dim)
    }
    fn embedding(&self) -> u64 {
        self.config.vocab_size as u64 * self.hidden()
    }
    pub(super) fn blocks(&self) -> usize {
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
        if self.has_adapters() { (0..self.blocks()).map(|block| self.trained_layers(block, 0..LAYERS.len())).sum() } else { 0 }
    }

    /// Trained numbers of some of a block's linear layers: their weights, or their adapters.
    fn trained_layers(&self, block: usize, layers: Range<usize>) -> u64 {
        let shapes = self.layers();
        match &self.adapters {
            None => shapes[layers].iter().map(|(input, out)| input * out).sum(),
            Some(Adapters { r, blocks }) => {
                layers.filter(|layer| blocks[block][*layer]).map(|layer| r * (shapes[layer].0 + shapes[layer].1)).sum()
            }
        }
    }

    /// Numbers of the model as it is loaded, without adapters.
    pub(crate) fn base_numbers(&self) -> u64 {
        self.config.num_parameters() as u64
    }

    /// Trained numbers of a block, of the head with the final norm, and of an embedding of its own.
    fn trained(&self, block: usize) -> u64 {
        self.trained_layers(block, 0..LAYERS.len()) + if self.has_adapters() { 0 } else { 2 * self.hidden() }
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
    fn keeps_input(&self, block: usize, mut layers: Range<usize>) -> bool {
        self.adapters.as_ref().is_none_or(|adapters| layers.any(|layer| adapters.blocks[block][layer]))
    }

    /// What a block keeps of each cell, in numbers.
    fn saved_per_cell(&self, block: usize) -> u64 {
        self.saved_by_attention(block) + self.saved_by_feed_forward(block)
    }

    fn saved_by_attention(&self, block: usize) -> u64 {
        let (d, (q, k)) = (self.hidden(), self.widths());
        [
            // rms_norm: x, the block's input, and 1 / √(mean(x²) + ε).
            d + 1,
            // linear, q_proj, k_proj and v_proj: their common input.
            if self.keeps_input(block, QKV) { d } else { 0 },
            // attention: q and k after rope, which itself keeps angles alone; v, o, lse. o is o_proj's input as well.
            q + k + k + q + self.heads(),
            // linear, each adapter's B: x·Aᵀ·s.
            self.saved_by_adapters(block, 0..GATE_UP.start),
        ]
        .iter()
        .sum()
    }

    fn saved_by_feed_forward(&self, block: usize) -> u64 {
        let (d, f) = (self.hidden(), self.inner());
        [
            // rms_norm: x with the attention's result, and its scale.
            d + 1,
            // linear, gate_proj and up_proj: their common input.
            if self.keeps_input(block, GATE_UP) { d } else { 0 },
            // swiglu: gate and up.
            2 * f,
            // linear, down_proj: its input.
            if self.keeps_input(block, DOWN..LAYERS.len()) { f } else { 0 },
            self.saved_by_adapters(block, GATE_UP.start..LAYERS.len()),
        ]
        .iter()
        .sum()
    }

    fn saved_by_adapters(&self, block: usize, layers: Range<usize>) -> u64 {
        let with_adapter = |adapters: &Adapters| adapters.blocks[block][layers].iter().filter(|has| **has).count() as u64;
        self.adapters.as_ref().map_or(0, |adapters| adapters.r * with_adapter(adapters))
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
        let gradients = if self.keeps_input(block, DOWN..LAYERS.len()) { 1 } else { 2 };
        cells(pass) * (self.hidden() + gradients * self.inner())
    }

    /// What comes and goes in a block's forward pass of which nothing is kept: stream, norm, gate and up.
    pub(super) fn working_forward(&self, cells: u64) -> u64 {
        cells * (2 * self.hidden() + 2 * self.inner())
    }

    /// Bytes that come and go in the head's backward pass: the hidden states' gradient, a share of it from each part of the vocabulary, blocks of
    /// logits.
    fn working_in_head(&self, pass: &PassSize, place: Place, numbers: Numbers) -> u64 {
        let of_targets = targets(pass) * self.hidden() * numbers.number;
        if place.on_cpu {
            return (1 + PARTS as u64) * of_targets + place.threads * CPU_CHUNK;
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
    /// The most bytes that are allocated at one time. Gradients come as activations go, so the kinds of memory are not all at their most
    /// at once: the peak is at one of the moments of [`Step::moments_of_step`].
    pub(crate) fn memory(&self) -> StepMemory {
        let (t, Numbers { number, master }) = (self.trainee, self.numbers);
        let trained = t.trained_numbers();
        let (masters, adapters) = if t.has_adapters() { (0, F32 * trained) } else { (master * trained, 0) };
        let kept = Kept {
            weights: number * t.base_numbers() + adapters,
            masters,
            moments: 2 * F32 * trained,
            // Sums of several passes are f32; where gradients are too, the first pass's become the sum.
            sums: if self.accumulates || (number < F32 && self.passes.len() > 1) { F32 * trained } else { 0 },
            reference: if self.reference == ReferenceMemory::LiveCopy { number * t.base_numbers() } else { 0 },
        };
        let moments = self.moments_of_step();
        let most = |of: fn(&Moment) -> u64| moments.iter().map(of).max().unwrap_or(0);
        let during = most(|moment| moment.gradients + moment.activations + moment.head + moment.working);
        let packing = if self.place.on_cpu { self.place.threads * CPU_PACKING } else { 0 };
        let items: Vec<MemoryItem> = [
            ("weights", kept.weights),
            ("f32 masters", kept.masters),
            ("moments", kept.moments),
            ("gradients", kept.sums + most(|moment| moment.gradients)),
            ("reference", kept.reference),
            ("activations of the blocks", most(|moment| moment.activations)),
            ("head and log-prob chunk", most(|moment| moment.head)),
            ("working memory", packing + most(|moment| moment.working)),
        ]
        .map(|(what, bytes)| MemoryItem { what, bytes })
        .into();
        let per_cell = (0..t.blocks()).map(|block| t.saved_per_cell(block)).max().unwrap_or(0);
        let cells = self.sum(cells);
        StepMemory {
            peak: (kept.weights + kept.masters + kept.moments + kept.sums + kept.reference + during + packing).max(self.loading()),
            items,
            loading: self.loading(),
            activations_per_block: number * cells * per_cell,
            activations_recomputed: number * cells * (t.hidden() * (t.blocks() as u64 + 1) + per_cell),
        }
    }

    /// Frozen weights are loaded as they compute. Those that are trained are loaded in f32, and are the masters while they become
    /// narrower one by one.
    fn loading(&self) -> u64 {
        let base = self.trainee.base_numbers();
        let Numbers { number, master } = self.numbers;
        if self.trainee.has_adapters() { number * base } else { (master + number) * base }
    }

    /// What there is besides weights and the optimiser's state: after the forward pass, with the loss and the head's gradients, as each
    /// block's gradients come, and with the embedding's.
    fn moments_of_step(&self) -> Vec<Moment> {
        let (t, number) = (self.trainee, self.numbers.number);
        let gradient = if t.has_adapters() { F32 } else { number };
        let (passes, cells) = (self.passes.len() as u64, self.sum(cells));
        let of_cells = |numbers: u64| number * cells * numbers;
        let input = of_cells(t.hidden());
        // What is kept of the blocks below `block`.
        let below = |block: usize| {
            if self.recompute { input * block as u64 } else { (0..block).map(|block| of_cells(t.saved_per_cell(block))).sum() }
        };
        let all = below(t.blocks());
        let head = number * self.sum(|pass| t.saved_by_head(pass));
        let mut gradients = passes * gradient * t.trained_head();
        let in_reference = match self.reference {
            ReferenceMemory::None | ReferenceMemory::Precomputed => 0,
            // It looks at the batch when the policy has done so, and keeps nothing.
            ReferenceMemory::SharedBase | ReferenceMemory::LiveCopy => number * t.working_forward(cells),
        };
        let in_head = self.sum(|pass| t.working_in_head(pass, self.place, self.numbers));
        let mut moments = vec![
            Moment { gradients: 0, activations: all, head, working: in_reference },
            Moment { gradients, activations: all, head: head + in_head, working: 0 },
        ];
        for block in (0..t.blocks()).rev() {
            let (below, attention) = (below(block), of_cells(t.saved_by_attention(block)));
            let with = |layers: Range<usize>| gradients + passes * gradient * t.trained_layers(block, layers);
            // As down's gradient is there and gate and up are; as those have gone back; as all have.
            let activations = below + attention + of_cells(t.saved_by_feed_forward(block));
            let working = number * self.sum(|pass| t.working_in_block(block, pass));
            moments.push(Moment { gradients: with(DOWN..LAYERS.len()), activations, head: 0, working });
            moments.push(Moment {
                gradients: with(GATE_UP.start..LAYERS.len()),
                activations: below + attention,
                head: 0,
                working: 2 * input,
            });
            gradients += passes * gradient * t.trained(block);
            moments.push(Moment { gradients, activations: below + input, head: 0, working: 2 * input });
        }
        // A tied embedding's two gradients are there at once.
        let embedding = if t.config.tie_word_embeddings && !t.has_adapters() { t.embedding() } else { t.trained_embedding() };
        gradients += passes * gradient * embedding;
        moments.push(Moment { gradients, activations: 0, head: 0, working: input });
        moments
    }

    fn sum(&self, of_pass: impl Fn(&PassSize) -> u64) -> u64 {
        self.passes.iter().map(of_pass).sum()
    }
}

/// What is there for as long as a step takes, in bytes.
struct Kept {
    weights: u64,
    masters: u64,
    moments: u64,
    /// Gradients of the passes before.
    sums: u64,
    reference: u64,
}

/// What comes and goes in a step, in bytes, at one moment of its backward pass.
struct Moment {
    gradients: u64,
    activations: u64,
    head: u64,
    working: u64,
}
