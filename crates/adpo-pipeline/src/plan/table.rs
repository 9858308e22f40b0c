//! A plan for people: one aligned table per stage.

use std::fmt::{self, Display, Formatter};

use super::memory::{MemoryItem, ReferenceMemory};
use super::{Counts, Plan, SamplingPlan, TrainingPlan};

/// How far from the device's memory a plan has to stay to be believed: its own error.
const ERROR: f64 = 0.1;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let memory = self.memory.map_or_else(|| "of unknown memory (--memory 80GB)".to_owned(), |bytes| format!("with {} GB", gb(bytes)));
        writeln!(
            f,
            "{}, on a {} {memory}: {} M parameters in {} blocks of width {}",
            self.recipe,
            self.device,
            millions(self.parameters),
            self.blocks,
            self.hidden_size
        )?;
        if self.passes_at_once > 1 {
            writeln!(f, "up to {} parts of a micro-batch run side by side, each with gradients of its own", self.passes_at_once)?;
        }
        self.training.iter().try_for_each(|stage| self.training(f, stage))?;
        self.sampling.iter().try_for_each(|stage| self.sampling(f, stage))?;
        writeln!(f)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

impl Plan {
    fn training(&self, f: &mut Formatter<'_>, stage: &TrainingPlan) -> fmt::Result {
        let what = if stage.adapters { "adapters" } else { "all weights" };
        writeln!(f, "\n{}: {what}, {} M trained", stage.stages.join(", "), millions(stage.trained))?;
        items(f, &stage.memory.items)?;
        if stage.memory.loading == stage.memory.peak {
            writeln!(f, "  {:<28}{:>10} GB, more than at any time of a step", "loading", gb(stage.memory.loading))?;
        }
        self.peak(f, stage.memory.peak)?;
        let reference = match stage.reference {
            ReferenceMemory::None => "none",
            ReferenceMemory::Precomputed => "precomputed, no weights while training",
            ReferenceMemory::SharedBase => "the policy's own base with the adapters off, no second copy",
            ReferenceMemory::LiveCopy => "a live copy of the weights",
        };
        line(f, "reference", reference)?;
        let micro = group(stage.counts.largest_micro_batch as u64);
        let memory = &stage.memory;
        let (block, recomputed) = (gb(memory.activations_per_block), gb(memory.activations_recomputed));
        line(f, "activations", &format!("{block} GB a block for {micro} cells; {recomputed} GB in all with gradient_checkpointing"))?;
        counts(f, &stage.counts)?;
        if let Some(compute) = &stage.compute {
            let time =
                compute.seconds.map_or_else(|| "not calibrated".to_owned(), |seconds| format!("about {} (an estimate)", duration(seconds)));
            let rate = self.flops_per_second.map_or_else(String::new, |rate| format!(", at {:.2} TFLOP/s of matrix products", rate / 1e12));
            line(f, "compute", &format!("{:.3e} FLOPs, {time}{rate}", compute.flops))?;
        }
        for (i, knob) in stage.knobs.iter().enumerate() {
            let fits = if knob.fits { "fits" } else { "not yet" };
            let title = if i == 0 { "turn" } else { "and" };
            line(f, title, &format!("{}: {} GB, {fits} ({})", knob.set, gb(knob.peak), knob.cost))?;
        }
        if self.memory.is_some_and(|memory| memory < memory_left(stage)) {
            line(f, "turn", "nothing is left to turn: a smaller model, or shorter rows (`encoding.max_length`)")?;
        }
        Ok(())
    }

    fn sampling(&self, f: &mut Formatter<'_>, stage: &SamplingPlan) -> fmt::Result {
        let SamplingPlan { batch_size, longest_prompt, max_new_tokens, dtype, .. } = stage;
        writeln!(
            f,
            "\n{}: {batch_size} completions at once in {}, prompts up to {longest_prompt} tokens, {max_new_tokens} new ones",
            stage.stage,
            dtype.name()
        )?;
        items(f, &stage.memory.items)?;
        self.peak(f, stage.memory.peak)?;
        if self.memory.is_some_and(|memory| stage.memory.peak > memory) {
            let narrower = if stage.dtype.is_float32() { "draw.dtype, " } else { "" };
            line(f, "turn", &format!("{narrower}draw.batch_size or draw.max_new_tokens"))?;
        }
        Ok(())
    }

    fn peak(&self, f: &mut Formatter<'_>, peak: u64) -> fmt::Result {
        let verdict = match self.memory {
            None => String::new(),
            Some(memory) if peak > memory => format!(": does not fit, {} GB too much", gb(peak - memory)),
            Some(memory) if peak as f64 > (1.0 - ERROR) * memory as f64 => {
                format!(": fits, but {} GB of room are less than the plan's error", gb(memory - peak))
            }
            Some(memory) => format!(": fits, {} GB of room", gb(memory - peak)),
        };
        writeln!(f, "  {:<28}{:>10} GB{verdict}", "peak", gb(peak))
    }
}

/// A stage's peak when all its knobs are turned.
fn memory_left(stage: &TrainingPlan) -> u64 {
    stage.knobs.last().map_or(stage.memory.peak, |knob| knob.peak)
}

fn items(f: &mut Formatter<'_>, items: &[MemoryItem]) -> fmt::Result {
    for item in items.iter().filter(|item| item.bytes > 0) {
        writeln!(f, "  {:<28}{:>10} GB", item.what, gb(item.bytes))?;
    }
    Ok(())
}

fn counts(f: &mut Formatter<'_>, counts: &Counts) -> fmt::Result {
    let known = |count: Option<usize>| count.map_or_else(|| "?".to_owned(), |count| group(count as u64));
    let dropped: usize = counts.dropped.values().sum();
    let mut rows =
        format!("{} examples, {} dropped, {} cut", known(counts.examples), group(dropped as u64), group(counts.truncated as u64));
    let reasons: Vec<String> = counts.dropped.iter().map(|(reason, count)| format!("; {count}: {reason}")).collect();
    rows += &reasons.concat();
    line(f, "rows", &rows)?;
    let apart = counts.cells_not_shared.map_or_else(String::new, |cells| format!(", {} if prompts were not shared", group(cells as u64)));
    line(f, "an epoch", &format!("{} tokens, {} cells{apart}", known(counts.tokens), known(counts.cells)))?;
    line(f, "steps", &known(counts.steps))?;
    counts.assumed.iter().try_for_each(|assumed| line(f, "assumed", assumed))
}

fn line(f: &mut Formatter<'_>, title: &str, text: &str) -> fmt::Result {
    writeln!(f, "  {title:<14}{text}")
}

fn gb(bytes: u64) -> String {
    let gb = bytes as f64 / 1e9;
    if gb < 10.0 { format!("{gb:.3}") } else { format!("{gb:.1}") }
}

fn millions(count: u64) -> String {
    let millions = count as f64 / 1e6;
    if millions < 100.0 { format!("{millions:.2}") } else { group(millions.round() as u64) }
}

/// Digits by threes.
fn group(count: u64) -> String {
    let digits = count.to_string();
    let first = digits.len() % 3;
    let mut groups: Vec<&str> = if first > 0 { vec![&digits[..first]] } else { Vec::new() };
    groups.extend((first..digits.len()).step_by(3).map(|start| &digits[start..start + 3]));
    groups.join(" ")
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}
