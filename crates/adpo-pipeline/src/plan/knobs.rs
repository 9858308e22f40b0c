//! Options to change where a stage does not fit into memory, the cheapest first.

use adpo_model::Dtype;
use adpo_model::LoraConfig;
use adpo_train::TrainOptions;
use serde::Serialize;

use super::memory::ReferenceMemory;
use super::work::Work;
use super::{Setting, Trainee};
use crate::PipelineError;
use crate::lora::Lora;

/// A knob, turned beside all before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Knob {
    /// What to write into the recipe.
    pub set: String,
    /// What it costs.
    pub cost: &'static str,
    /// The stage's peak in bytes with it and all before it.
    pub peak: u64,
    /// Whether that fits.
    pub fits: bool,
}

/// Turns knobs, each beside those before it, until the stage fits into `memory` or none is left. One that saves next to nothing stays.
pub(super) fn turn(setting: &Setting, work: &Work, memory: u64, max_length: usize) -> Result<Vec<Knob>, PipelineError> {
    let peak = setting.largest(&work.rows).0.peak;
    let mut panel = Panel { work, memory, setting: setting.clone(), peak, turned: Vec::new() };
    panel.recompute();
    while panel.smaller_batch() {}
    panel.precomputed_reference();
    panel.packing(max_length);
    panel.bfloat16();
    panel.adapters()?;
    Ok(panel.turned)
}

struct Panel<'a> {
    work: &'a Work,
    memory: u64,
    setting: Setting,
    peak: u64,
    turned: Vec<Knob>,
}

impl Panel<'_> {
    /// Turns a knob if the stage does not fit yet and the knob saves a hundredth at least.
    fn turn(&mut self, next: Setting, set: String, cost: &'static str) -> bool {
        let with = next.largest(&self.work.rows).0.peak;
        let saves = self.peak > self.memory && with < self.peak - self.peak / 100;
        if saves {
            self.turned.push(Knob { set, cost, peak: with, fits: with <= self.memory });
            (self.setting, self.peak) = (next, with);
        }
        saves
    }

    fn recompute(&mut self) {
        if !self.setting.train.gradient_checkpointing {
            let train = TrainOptions { gradient_checkpointing: true, ..self.setting.train.clone() };
            let cost = "the blocks' forward pass once more; the same result";
            self.turn(Setting { train, ..self.setting.clone() }, "gradient_checkpointing = true".into(), cost);
        }
    }

    /// On the CPU it goes by the kernels' definitions, which hold more than it saves.
    fn bfloat16(&mut self) {
        if self.setting.train.dtype.is_float32() && !self.setting.place.on_cpu {
            let train = TrainOptions { dtype: Dtype::Bfloat16, ..self.setting.train.clone() };
            self.turn(Setting { train, ..self.setting.clone() }, "dtype = \"bfloat16\"".into(), "rounding; weights still move in f32");
        }
    }

    fn smaller_batch(&mut self) -> bool {
        let TrainOptions { batch_size, gradient_accumulation_steps, .. } = self.setting.train;
        // As the recipe states it.
        let rows = batch_size / self.setting.pairs;
        if rows == 1 {
            return false;
        }
        let (rows, gradient_accumulation_steps) = (rows.div_ceil(2), gradient_accumulation_steps * 2);
        let batch_size = rows * self.setting.pairs;
        let train = TrainOptions { batch_size, gradient_accumulation_steps, ..self.setting.train.clone() };
        let set = format!("batch_size = {rows}, gradient_accumulation_steps = {gradient_accumulation_steps}");
        self.turn(Setting { train, ..self.setting.clone() }, set, "smaller products; the same result")
    }

    fn precomputed_reference(&mut self) {
        if self.setting.reference == ReferenceMemory::LiveCopy {
            let next = Setting { reference: ReferenceMemory::Precomputed, ..self.setting.clone() };
            self.turn(next, "reference = \"precomputed\"".into(), "a pass over the data before training; the same result");
        }
    }

    fn adapters(&mut self) -> Result<(), PipelineError> {
        if !self.setting.trainee.has_adapters() {
            let config: LoraConfig = Lora::default().config(&[], "");
            let next = Setting { trainee: Trainee::new(self.setting.trainee.config.clone(), Some(&config))?, ..self.setting.clone() };
            self.turn(next, "a [lora] table (r = 16)".into(), "another model: adapters instead of all weights");
        }
        Ok(())
    }

    fn packing(&mut self, max_length: usize) {
        if self.setting.train.packing.is_none_or(|width| width > max_length) {
            let train = TrainOptions { packing: Some(max_length), ..self.setting.train.clone() };
            self.turn(Setting { train, ..self.setting.clone() }, format!("packing = {max_length}"), "less padding; the same result");
        }
    }
}
