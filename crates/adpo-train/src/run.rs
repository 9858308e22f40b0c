//! The step loop: the one place where gradients are computed, averaged, clipped and applied.

use std::path::Path;
use std::time::Instant;

use adpo_model::kernels::on_pool;
use adpo_model::{Llama, ParameterVisitor};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::alarm::DisplacementAlarm;
use crate::checkpoint::{self, TrainerState};
use crate::metrics::{self, MetricsLog, StepMetrics, StepRecord};
use crate::optimizer::{AdamW, to_host};
use crate::order::Order;
use crate::progress::Progress;
use crate::scoring::{score_hidden, tokens};
use crate::task::{Numbered, Task, check_examples, on_cpu, parts, passes_at_once};
use crate::{TrainError, TrainOptions, gradients};

/// The end of a training run.
#[derive(Debug)]
pub struct Trained {
    /// The trained model, off autodiff, in the precision that it was trained in.
    pub model: Llama,
    /// Every step's metrics, those before a resume included.
    pub history: Vec<StepRecord>,
    /// What the run warned about, in words.
    pub warnings: Vec<String>,
}

pub(crate) fn run(model: Llama, task: &impl Task, options: &TrainOptions, folder: &Path) -> Result<Trained, TrainError> {
    options.validate()?;
    options.check_device(&model.device())?;
    if task.examples() == 0 {
        return Err(TrainError::NoExamples);
    }
    check_examples(task, model.config().vocab_size)?;
    let mut session = Session::open(model, task, options, folder)?;
    while session.state.step < session.total_steps {
        session.step()?;
    }
    session.save()?;
    let history = metrics::read(&metrics::path(folder))?;
    Ok(Trained { model: session.engine.model().valid(), history, warnings: session.warnings })
}

/// Model and optimiser: what a step changes.
pub(crate) struct Engine {
    /// Away while the optimiser has it.
    model: Option<Llama>,
    optimizer: AdamW,
    device: Device,
    max_grad_norm: f64,
    batch_size: usize,
    gradient_checkpointing: bool,
}

/// What one step found out.
pub(crate) struct Stepped {
    pub loss: f64,
    pub grad_norm: f64,
    pub metrics: StepMetrics,
    /// The quantity that is NaN or infinite; the model is then unchanged.
    pub not_finite: Option<(&'static str, f64)>,
}

impl Engine {
    pub(crate) fn new(model: Llama, mut optimizer: AdamW, options: &TrainOptions) -> Self {
        let model = optimizer.narrow(model, options.dtype).train();
        let device = model.device();
        let &TrainOptions { max_grad_norm, batch_size, gradient_checkpointing, .. } = options;
        Self { model: Some(model), optimizer, device, max_grad_norm, batch_size, gradient_checkpointing }
    }

    fn model(&self) -> &Llama {
        self.model.as_ref().expect("every step puts it back")
    }

    pub(crate) fn step(&mut self, task: &impl Task, examples: &[usize], learning_rate: f64) -> Result<Stepped, TrainError> {
        on_pool(|| self.step_on_pool(task, examples, learning_rate))
    }

    fn step_on_pool<T: Task>(&mut self, task: &T, examples: &[usize], learning_rate: f64) -> Result<Stepped, TrainError> {
        let rows = examples.iter().map(|i| task.row(*i)).collect::<Result<Vec<_>, _>>()?;
        let total_weight: f64 = rows.iter().map(|(_, row)| T::weight(row)).sum();
        let mut stepped = Stepped { loss: 0.0, grad_norm: f64::NAN, metrics: StepMetrics::default(), not_finite: None };
        let mut gradients = GradientsParams::new();
        for micro in rows.chunks(self.batch_size) {
            let on_cpu = on_cpu(&self.device);
            for side_by_side in parts(micro, T::tokens, on_cpu).chunks(passes_at_once(on_cpu)) {
                let passes: Vec<_> = side_by_side.par_iter().map(|part| self.pass(task, part, total_weight)).collect();
                // With several devices, this is where their gradients would be reduced too.
                for pass in passes {
                    let pass = pass?;
                    stepped.loss += pass.loss;
                    stepped.metrics.extend(pass.metrics);
                    gradients = gradients::add(self.model(), gradients, pass.gradients);
                }
            }
        }
        stepped.grad_norm = gradients::norm(self.model(), &gradients);
        let watched = [("loss", stepped.loss), ("grad_norm", stepped.grad_norm)];
        stepped.not_finite = watched.into_iter().find(|(_, value)| !value.is_finite());
        if stepped.not_finite.is_none() {
            let scale = gradients::clip_factor(stepped.grad_norm, self.max_grad_norm);
            // Moved out, not cloned: weights with one owner are updated in place.
            self.model = self.model.take().map(|model| self.optimizer.step(model, gradients, learning_rate, scale));
        }
        Ok(stepped)
    }

    /// Forward and backward.
    fn pass<T: Task>(&self, task: &T, rows: &[Numbered<'_, T::Row>], total_weight: f64) -> Result<Pass, TrainError> {
        // Leaves of its own (the weights are shared): two graphs that meet in a leaf wait for each other.
        let model = self.model().valid().train();
        let batch = task.batch(rows);
        let mut metrics = StepMetrics::default();
        metrics.count(&batch);
        let tokens = tokens(&batch, &self.device);
        let forward = model.forward(&tokens, self.gradient_checkpointing);
        let scores = score_hidden(&model, forward.hidden(), &batch);
        let share = task.loss(scores, &batch, rows, &mut metrics)?.div_scalar(total_weight.max(1.0));
        let loss = f64::from(to_host(share.clone().inner())[0]);
        Ok(Pass { loss, gradients: forward.backward(share), metrics })
    }
}

/// What some examples say of the weights.
struct Pass {
    loss: f64,
    gradients: GradientsParams,
    metrics: StepMetrics,
}

/// A run between two steps.
struct Session<'a, T: Task> {
    task: &'a T,
    options: &'a TrainOptions,
    folder: &'a Path,
    engine: Engine,
    state: TrainerState,
    saved_step: Option<usize>,
    order: Order<'a>,
    total_steps: usize,
    log: MetricsLog,
    progress: Progress,
    alarm: DisplacementAlarm,
    warnings: Vec<String>,
}

impl<'a, T: Task> Session<'a, T> {
    /// Starts, or goes on from the newest checkpoint in the folder.
    fn open(model: Llama, task: &'a T, options: &'a TrainOptions, folder: &'a Path) -> Result<Self, TrainError> {
        std::fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
        let device = model.device().inner().autodiff();
        let fingerprint = fingerprint(&model, task, options)?;
        let mut optimizer = AdamW::new(options);
        let mut state = TrainerState { step: 0, num_tokens: 0, fingerprint };
        let name = folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let mut model = model;
        let mut saved_step = None;
        if let Some(found) = checkpoint::newest(folder)? {
            if found.state.fingerprint != state.fingerprint {
                return Err(TrainError::checkpoint(
                    &found.folder,
                    "belongs to another run (other options, data, objective or starting weights); use a new folder, or delete this one",
                ));
            }
            model = found.load_model(model, options.dtype)?;
            found.with_moments(|state| optimizer.restore(found.state.step as u64, state, &model, options.dtype))?;
            log::info!("{name}: goes on from the checkpoint of step {}", found.state.step);
            saved_step = Some(found.state.step);
            state = found.state;
        } else {
            task.check_start(&model.clone().with_dtype(options.dtype).train(), &device)?;
        }
        // Not before it is certain that these are this run's: a kill may have left too many of them, and `save_total_limit` may be
        // smaller than it was.
        checkpoint::tidy(folder, options.checkpoints_kept())?;
        let total_steps = options.total_steps(task.examples());
        let log = MetricsLog::open(folder, state.step, options.tensorboard)?;
        let mut alarm = DisplacementAlarm::default();
        let mut warnings = Vec::new();
        for record in metrics::read(&metrics::path(folder))? {
            warnings.extend(alarm.observe(&record));
        }
        let progress = Progress::new(&name, total_steps, state.step, options.rest_of_run);
        let engine = Engine::new(model, optimizer, options);
        let order = Order::new(options, task.examples());
        Ok(Self { task, options, folder, engine, state, saved_step, order, total_steps, log, progress, alarm, warnings })
    }

    fn step(&mut self) -> Result<(), TrainError> {
        let started = Instant::now();
        let index = self.state.step;
        let examples = self.order.of_step(index);
        let learning_rate = self.options.learning_rate_at(index, self.total_steps);
        let stepped = self.engine.step(self.task, examples, learning_rate)?;
        if let Some((what, value)) = stepped.not_finite {
            return Err(TrainError::NotFinite {
                what,
                value,
                step: index + 1,
                rows: examples.iter().map(|i| Ok(T::id(&self.task.row(*i)?.1).to_owned())).collect::<Result<_, TrainError>>()?,
                checkpoint: checkpoint::newest_folder(self.folder)?,
            });
        }
        self.state.step += 1;
        let tokens = stepped.metrics.tokens;
        self.state.num_tokens += tokens as u64;
        let per_epoch = self.task.examples().div_ceil(self.options.examples_per_step());
        let epoch = self.state.step as f64 / per_epoch as f64;
        let run = [
            ("loss", stepped.loss),
            ("grad_norm", stepped.grad_norm),
            ("learning_rate", learning_rate),
            ("epoch", epoch),
            ("num_tokens", self.state.num_tokens as f64),
        ];
        let values = stepped.metrics.means().into_iter().chain(run).map(|(name, value)| (name.to_owned(), value)).collect();
        self.report(&StepRecord { step: self.state.step, values }, started.elapsed().as_secs_f64(), tokens)?;
        if self.options.save_steps.is_some_and(|every| self.state.step.is_multiple_of(every)) {
            self.save()?;
        }
        Ok(())
    }

    fn report(&mut self, record: &StepRecord, seconds: f64, tokens: usize) -> Result<(), TrainError> {
        self.log.append(record, seconds, tokens)?;
        self.progress.set(record.step, &summary(record, tokens as f64 / seconds));
        if let Some(warning) = self.alarm.observe(record) {
            self.progress.warn(&warning);
            self.warnings.push(warning);
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), TrainError> {
        if self.saved_step == Some(self.state.step) {
            return Ok(());
        }
        let model = self.engine.model().valid();
        if let Some(name) = first_not_finite(&model) {
            return Err(TrainError::Weights { step: self.state.step, name, checkpoint: checkpoint::newest_folder(self.folder)? });
        }
        self.log.sync()?;
        let moments = self.engine.optimizer.state();
        checkpoint::save(self.folder, &model, moments, &self.state, self.options.checkpoints_kept())?;
        self.saved_step = Some(self.state.step);
        Ok(())
    }
}

/// What people watch while they wait.
fn summary(record: &StepRecord, tokens_per_second: f64) -> String {
    let shown = [("loss", "loss"), ("rewards/margins", "margin"), ("kl/chosen", "kl w"), ("kl/rejected", "kl l"), ("kl/toxic", "kl t")];
    let mut text: Vec<String> = shown.iter().filter_map(|(name, short)| Some(format!("{short} {:.3}", record.get(name)?))).collect();
    text.push(format!("{tokens_per_second:.0} tok/s"));
    text.join(" ")
}

/// A parameter with a number that is NaN or infinite: an update can overflow one step before the loss shows it.
fn first_not_finite(model: &Llama) -> Option<String> {
    struct Find(Option<String>);
    impl ParameterVisitor for Find {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            if self.0.is_none() && to_host(param.val().abs().max()).first().is_some_and(|largest| !largest.is_finite()) {
                self.0 = Some(name.to_owned());
            }
        }
    }
    let mut find = Find(None);
    model.visit_trained_parameters(&mut find);
    find.0
}

fn fingerprint(model: &Llama, task: &impl Task, options: &TrainOptions) -> Result<String, TrainError> {
    let options = options.deciding();
    let mut hash = Sha256::new();
    hash.update(crate::model_hash(model));
    hash.update(serde_json::to_vec(&options).unwrap_or_default());
    hash.update(options.seed.to_le_bytes());
    hash.update(task.fingerprint()?);
    Ok(hex::encode(hash.finalize()))
}
