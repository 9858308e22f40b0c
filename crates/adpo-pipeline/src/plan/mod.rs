//! What a recipe will need, before anything is loaded: memory by stage, tokens, steps, operations, and what to change where it does
//! not fit. Configuration, tokenizer and data are read, weights never.

mod compute;
mod drawing;
mod knobs;
mod memory;
mod table;
mod work;

use std::cell::Cell;
use std::path::Path;

use adpo_data::{ChatTokenizer, EncodeReport};
use adpo_model::{Dtype, LlamaConfig, LoraConfig};
use adpo_train::{PassSize, SideBySide, TrainOptions, passes_at_once};
use burn::tensor::Device;
use serde::Serialize;

use crate::PipelineError;
use crate::judge_choice::JudgeChoice;
use crate::recipe::{Pairs, Policy, Preference, Recipe, ReferenceChoice, Sft};
use crate::resources::Resources;
use crate::stages::{DrawingLoad, Load, SeedRun, check_data, stages};
pub use compute::{Compute, FORMULA};
pub(crate) use compute::{calibrate, seconds};
use drawing::Drawing;
pub use drawing::SampleMemory;
pub use knobs::Knob;
pub use memory::{MemoryItem, ReferenceMemory, StepMemory};
use memory::{Numbers, Step};
pub(crate) use memory::{Place, Trainee};
pub use work::Counts;
pub(crate) use work::Rows;
use work::{Source, Sum, Work};

/// What a plan is made for.
#[derive(Debug, Clone)]
pub struct PlanOptions<'a> {
    /// A shape to plan with in place of the recipe's checkpoint, whose tokenizer is then not asked either.
    pub shape: Option<LlamaConfig>,
    /// Whether rows are read and counted; otherwise each is taken to be as long as the recipe allows.
    pub read_data: bool,
    /// Bytes of memory that the device has.
    pub memory: Option<u64>,
    /// Whether the device is the CPU: it computes parts of a micro-batch side by side, each with gradients of its own.
    pub on_cpu: bool,
    /// The device to time a few products on.
    pub calibrate: Option<&'a Device>,
    /// The run's folder, whose triples are counted where they have been drawn.
    pub run_dir: &'a Path,
}

/// What a recipe will need.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The recipe's name.
    pub recipe: String,
    /// `cpu` or `gpu`.
    pub device: &'static str,
    /// Passes of a micro-batch that run side by side at most.
    pub passes_at_once: usize,
    /// Bytes of memory that the device has.
    pub memory: Option<u64>,
    /// Numbers of the base with the control token's row.
    pub parameters: u64,
    /// Blocks, and their width.
    pub blocks: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Operations per second of the device's matrix products, where they were timed.
    pub flops_per_second: Option<f64>,
    /// Training, in the recipe's order; policies with the same needs are one.
    pub training: Vec<TrainingPlan>,
    /// Sampling and evaluation.
    pub sampling: Vec<SamplingPlan>,
    /// What the plan leaves out.
    pub notes: Vec<String>,
}

/// A stage that trains.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingPlan {
    /// The stage, or stages with the same needs.
    pub stages: Vec<String>,
    /// Numbers that have a gradient.
    pub trained: u64,
    /// Whether they are adapters.
    pub adapters: bool,
    /// How the reference is kept.
    pub reference: ReferenceMemory,
    /// Its memory.
    pub memory: StepMemory,
    /// Its rows and steps.
    pub counts: Counts,
    /// Its operations and time, where its rows are known.
    pub compute: Option<Compute>,
    /// Where it does not fit: what to turn, one after the other, and what is then left.
    pub knobs: Vec<Knob>,
}

/// A stage that draws responses.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SamplingPlan {
    /// The stage.
    pub stage: String,
    /// Responses at once.
    pub batch_size: usize,
    /// Tokens of the longest prompt.
    pub longest_prompt: usize,
    /// Tokens of the longest response.
    pub max_new_tokens: usize,
    /// The type of the model and its cache.
    pub dtype: Dtype,
    /// Its memory.
    pub memory: SampleMemory,
}

/// What decides a training stage's memory, and what knobs turn.
#[derive(Clone)]
pub(crate) struct Setting {
    pub trainee: Trainee,
    pub reference: ReferenceMemory,
    pub train: TrainOptions,
    /// Examples that a row of the recipe becomes: its batch size counts rows.
    pub pairs: usize,
    pub place: Place,
}

impl Setting {
    /// The memory of the step that needs most, and the passes that run side by side when it does.
    pub(crate) fn largest(&self, rows: &Rows) -> (StepMemory, Vec<PassSize>) {
        let (numbers, recompute) = (Numbers::of(&self.train), self.train.gradient_checkpointing);
        let memory = |SideBySide { passes, after_others }: &SideBySide| {
            let Self { trainee, reference, place, .. } = self;
            Step { trainee, reference: *reference, passes, accumulates: *after_others, numbers, recompute, place: *place }.memory()
        };
        let mut best: Option<(StepMemory, SideBySide)> = None;
        // Memory grows with all of these: what another one exceeds in none of them cannot be the largest.
        let extent = |SideBySide { passes, after_others }: &SideBySide| {
            let sum = |of: fn(&PassSize) -> usize| passes.iter().map(of).sum::<usize>();
            [passes.len(), sum(|pass| pass.cells), sum(|pass| pass.targets), usize::from(*after_others)]
        };
        for passes in rows.passes(&self.train, self.place.on_cpu) {
            let smaller = |(_, other): &(StepMemory, SideBySide)| extent(&passes).iter().zip(extent(other)).all(|(a, b)| *a <= b);
            if best.as_ref().is_some_and(smaller) {
                continue;
            }
            let found = memory(&passes);
            if best.as_ref().is_none_or(|(other, _)| other.peak < found.peak) {
                best = Some((found, passes));
            }
        }
        best.map_or_else(|| (memory(&SideBySide::default()), Vec::new()), |(memory, largest)| (memory, largest.passes))
    }

    /// The operations of all steps on `work`, and of the reference for them.
    pub(crate) fn flops(&self, sum: &Sum) -> f64 {
        let reference = compute::reference_passes(self.reference, sum.epoch, sum.all);
        compute::flops(&self.trainee, &sum.all, &reference, self.train.gradient_checkpointing)
    }

    /// Operations of a step on these rows, the mean over all steps. A reference that is precomputed is none of a step's.
    pub(crate) fn flops_per_step(&self, rows: Rows) -> f64 {
        let reference = if self.reference == ReferenceMemory::Precomputed { ReferenceMemory::None } else { self.reference };
        let examples = rows.len();
        let work = Work { rows, examples: Some(examples), report: EncodeReport::default(), assumed: None };
        let all = Self { reference, ..self.clone() }.flops(&work.sum(&self.train, self.place.on_cpu));
        all / self.train.total_steps(examples).max(1) as f64
    }
}

/// Plans a recipe's first seed.
///
/// # Errors
/// [`PipelineError`] if configuration, tokenizer or data cannot be read; it says how to plan without them.
pub fn plan(recipe: &Recipe, resources: &Resources, options: &PlanOptions<'_>) -> Result<Plan, PipelineError> {
    let seed = recipe.seeds.first().copied().unwrap_or_default();
    let run = SeedRun {
        rest: Cell::new(0.0),
        recipe,
        resources,
        seed,
        folder: options.run_dir.join(format!("seed-{seed}")),
        // A shape that stands in for the checkpoint has no tokenizer to ask.
        has_control_token: recipe.teaches_control_token()
            || options.shape.is_some()
            || resources.knows_token(&recipe.base.checkpoint, &recipe.control.token).map_err(|problem| absent(recipe, &problem))?,
    };
    let planner = Planner::new(&run, options)?;
    let all = stages(&run);
    let mut notes = vec![
        "a peak is what is allocated at one time for the model, gradients, optimiser and kernels; what the allocator cannot use comes on \
         top (on the CPU 3 to 20 % where it was measured, a third below 500 MB; see MALLOC_ARENA_MAX in docs/gpu.md), as do a GPU's driver \
         and pool"
            .to_owned(),
        "FLOPs: ".to_owned() + FORMULA,
    ];
    if options.read_data {
        notes.extend(check_data(&run, &all)?.notes);
    }
    let (mut training, mut sampling) = (Vec::<TrainingPlan>::new(), Vec::<SamplingPlan>::new());
    let mut narrow = false;
    for stage in &all {
        match stage.load() {
            Load::Light => {}
            Load::FineTuning(section) => {
                narrow |= !section.train.dtype.is_float32();
                training.push(planner.sft(&stage.name(), section)?);
            }
            Load::PreferenceTraining(section, policy) => {
                narrow |= !section.train.dtype.is_float32();
                let plan = planner.policy(&stage.name(), section, policy)?;
                let same = |other: &&mut TrainingPlan| TrainingPlan { stages: other.stages.clone(), ..plan.clone() } == **other;
                match training.iter_mut().skip(usize::from(recipe.sft.is_some())).find(same) {
                    Some(other) => other.stages.extend(plan.stages),
                    None => training.push(plan),
                }
            }
            // Stages of one kind draw alike.
            Load::Drawing(_) if sampling.iter().any(|other| other.stage == stage.kind().name()) => {}
            Load::Drawing(load) => {
                narrow |= !load.draw.dtype.is_float32();
                sampling.push(planner.drawing(stage.kind().name(), &load, &mut notes)?);
            }
        }
    }
    if options.on_cpu && narrow {
        notes.push(
            "bfloat16 on the CPU goes by the kernels' definitions, which hold whole matrices of scores and logits: not counted here"
                .to_owned(),
        );
    }
    let base = &planner.base;
    Ok(Plan {
        recipe: recipe.name.clone(),
        device: if options.on_cpu { "cpu" } else { "gpu" },
        passes_at_once: passes_at_once(options.on_cpu),
        memory: options.memory,
        parameters: Trainee::new(base.clone(), None)?.base_numbers(),
        blocks: base.num_hidden_layers,
        hidden_size: base.hidden_size,
        flops_per_second: planner.rate,
        training,
        sampling,
        notes,
    })
}

fn absent(recipe: &Recipe, problem: &PipelineError) -> PipelineError {
    PipelineError::Recipe {
        recipe: recipe.name.clone(),
        problem: format!(
            "`base.checkpoint` = \"{}\": {problem}; to plan without the checkpoint, pass --shape 7b or --shape CONFIG.JSON",
            recipe.base.checkpoint
        ),
    }
}

struct Planner<'a> {
    run: &'a SeedRun<'a>,
    options: &'a PlanOptions<'a>,
    base: LlamaConfig,
    /// Where the base is adapters itself.
    adapters: Option<LoraConfig>,
    /// With the control token in it.
    tokenizer: Option<ChatTokenizer>,
    rate: Option<f64>,
}

impl<'a> Planner<'a> {
    fn new(run: &'a SeedRun<'a>, options: &'a PlanOptions<'a>) -> Result<Self, PipelineError> {
        let name = &run.recipe.base.checkpoint;
        let mut base = match &options.shape {
            Some(shape) => shape.clone(),
            None => run.resources.config(name).map_err(|problem| absent(run.recipe, &problem))?,
        };
        let tokenizer = match &options.shape {
            None if options.read_data => Some(run.resources.tokenizer(name)?),
            _ => None,
        };
        // As in a run: the control token gets a row where the model has none to spare.
        let with_token = tokenizer.map(|tokenizer| tokenizer.with_control_token(&run.recipe.control.token)).transpose()?;
        if run.has_control_token {
            base.vocab_size = match &with_token {
                Some((_, control)) => base.vocab_size.max(control.id as usize + 1),
                None => base.vocab_size + 1,
            };
        }
        let tokenizer = with_token.map(|(tokenizer, _)| tokenizer);
        let trainee = Trainee::new(base.clone(), None)?;
        // As many as a pass of the first training has, if all its rows were as long as they may be.
        let train = run.recipe.sft.as_ref().map(|sft| &sft.train).or(run.recipe.preference.as_ref().map(|preference| &preference.train));
        let batch_size = train.map_or(1, |train| train.batch_size);
        let cells = run.recipe.encoding.max_length * batch_size.div_ceil(passes_at_once(options.on_cpu));
        let rate = options.calibrate.map(|device| compute::calibrate(&trainee, cells, device));
        let adapters = if options.shape.is_none() { run.resources.adapters(name)? } else { None };
        Ok(Self { run, options, base, adapters, tokenizer, rate })
    }

    fn source(&self) -> Source<'_> {
        Source { run: self.run, tokenizer: self.tokenizer.as_ref(), read: self.options.read_data }
    }

    fn sft(&self, stage: &str, section: &Sft) -> Result<TrainingPlan, PipelineError> {
        let train = TrainOptions { seed: self.run.stream("sft-order"), ..section.train.clone() };
        let lora = self.sft_adapters();
        self.training(stage, &self.source().sft(section)?, self.setting(lora.as_ref(), ReferenceMemory::None, train, 1)?)
    }

    /// What SFT trains, where that is not all weights: fresh adapters, or those that the base is.
    fn sft_adapters(&self) -> Option<LoraConfig> {
        let fresh = self.run.recipe.sft.iter().flat_map(|sft| &sft.lora).map(|lora| lora.config(&[], "")).next();
        fresh.or_else(|| self.adapters.clone())
    }

    fn policy(&self, stage: &str, section: &Preference, policy: &Policy) -> Result<TrainingPlan, PipelineError> {
        let train = policy.train_options(&section.train).map_err(|problem| self.run.refuse(problem))?;
        let section = &Preference { train, ..section.clone() };
        let fresh = section.lora.as_ref().map(|lora| lora.config(&[], ""));
        // Adapters that SFT left, or that the base is, are trained on.
        let merged = self.run.recipe.sft.iter().flat_map(|sft| &sft.lora).any(|lora| lora.merge);
        let left = if merged { None } else { self.sft_adapters() };
        let lora = fresh.or(left);
        let lora = lora.as_ref();
        let mut train = TrainOptions { seed: self.run.stream("preference-order"), ..section.train.clone() };
        let pairs = if policy.pairs == Pairs::RejectedAndToxic { 2 } else { 1 };
        train.batch_size *= pairs;
        let reference = match section.reference {
            _ if !policy.objective.needs_reference() => ReferenceMemory::None,
            ReferenceChoice::Precomputed => ReferenceMemory::Precomputed,
            ReferenceChoice::Live if lora.is_some() => ReferenceMemory::SharedBase,
            ReferenceChoice::Live => ReferenceMemory::LiveCopy,
        };
        self.training(stage, &self.source().policy(section, policy)?, self.setting(lora, reference, train, pairs)?)
    }

    fn setting(
        &self,
        lora: Option<&LoraConfig>,
        reference: ReferenceMemory,
        train: TrainOptions,
        pairs: usize,
    ) -> Result<Setting, PipelineError> {
        Ok(Setting { trainee: Trainee::new(self.base.clone(), lora)?, reference, train, pairs, place: Place::new(self.options.on_cpu) })
    }

    fn training(&self, stage: &str, work: &Work, setting: Setting) -> Result<TrainingPlan, PipelineError> {
        let (memory, largest) = setting.largest(&work.rows);
        let sum = work.sum(&setting.train, setting.place.on_cpu);
        let compute = || {
            let flops = setting.flops(&sum);
            Compute { flops, seconds: self.rate.map(|rate| compute::seconds(flops, rate)) }
        };
        let too_much = self.options.memory.filter(|memory_of_device| memory.peak > *memory_of_device);
        Ok(TrainingPlan {
            stages: vec![stage.to_owned()],
            trained: setting.trainee.trained_numbers(),
            adapters: setting.trainee.has_adapters(),
            reference: setting.reference,
            counts: work.counts(&setting.train, &sum, &largest),
            compute: work.examples.map(|_| compute()),
            knobs: too_much.map_or(Ok(Vec::new()), |device| knobs::turn(&setting, work, device, self.run.recipe.encoding.max_length))?,
            memory,
        })
    }

    fn drawing(&self, stage: &str, load: &DrawingLoad<'_>, notes: &mut Vec<String>) -> Result<SamplingPlan, PipelineError> {
        let trainee = Trainee::new(self.base.clone(), None)?;
        let judge = if load.judges { self.judge(&self.run.recipe.annotate.judge, notes)? } else { None };
        let (prompt, batch_size) = (self.source().longest_prompt(load)?, load.draw.batch_size);
        let drawing = Drawing {
            trainee: &trainee,
            dtype: load.draw.dtype,
            rows: batch_size,
            on_cpu: self.options.on_cpu,
            prompt,
            new: load.draw.max_new_tokens,
            scores: load.scores,
        };
        Ok(SamplingPlan {
            stage: stage.to_owned(),
            batch_size,
            longest_prompt: prompt,
            max_new_tokens: load.draw.max_new_tokens,
            dtype: load.draw.dtype,
            memory: SampleMemory::new(&drawing, judge.into_iter().collect()),
        })
    }

    /// The weights of a judge that is a model on this machine: toxic responses are drawn until it passes one.
    fn judge(&self, judge: &JudgeChoice, notes: &mut Vec<String>) -> Result<Option<MemoryItem>, PipelineError> {
        let JudgeChoice::Llama { checkpoint, dtype, .. } = judge else { return Ok(None) };
        if let Ok(config) = self.run.resources.config(checkpoint) {
            return Ok(Some(MemoryItem::weights("the judge's weights", &Trainee::new(config, None)?, *dtype)));
        }
        notes.push(format!("the judge `{checkpoint}` is not here; its weights lie beside the sampled model's and are not counted"));
        Ok(None)
    }
}
