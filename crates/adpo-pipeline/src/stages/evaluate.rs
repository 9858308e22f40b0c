//! Stage 5: every system responds to the same held-out prompts, as they are and in the ways of the token audit.

use std::path::Path;
use std::sync::Arc;

use adpo_data::{EncodeReport, Prompt, Row};
use adpo_eval::{Responder, Response, TokenForm, write_responses};
use adpo_train::{Completion, completion_log_probs};
use serde::{Deserialize, Serialize};

use super::asking::{WAYS, folder as folder_of, put};
use super::seed_run::SeedRun;
use super::stage::{Artifact, DrawingLoad, Load, Stage, StageKind};
use crate::PipelineError;
use crate::corpus::{Corpus, some_of};
use crate::manifest::{Inputs, Made, Manifest, write_json};
use crate::recipe::Evaluate;
use crate::sampler::{Request, Sampler, Speed, TextCompletion};

pub(super) const RESPONSES: &str = "responses.jsonl";

/// How far a policy has moved from its reference, measured where the policy itself goes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct PolicyKl {
    /// Mean over the tokens of the policy's own responses of log πθ − log πref, in nats: an estimate of the KL divergence
    /// per token, exact in expectation where responses are drawn at temperature 1 from the whole distribution.
    #[serde(rename = "kl/policy")]
    pub kl_policy: f64,
    /// How many tokens that is.
    pub tokens: usize,
}

/// The starting model, then the policies in the recipe's order; each in every way that it is asked.
pub(super) fn stages<'a>(run: &'a SeedRun<'_>) -> Vec<Box<dyn Stage + 'a>> {
    let Some(section) = &run.recipe.evaluate else { return Vec::new() };
    let start = (run.recipe.start_system(), run.start());
    let policies = run.recipe.policies.iter().map(|policy| (policy.name.as_str(), Some(Artifact::Policy(policy.name.clone()))));
    let mut stages: Vec<Box<dyn Stage + 'a>> = Vec::new();
    for (system, model) in std::iter::once(start).chain(policies) {
        for way in ways(run, section, system) {
            stages.push(Box::new(Responding { section, system, model: model.clone(), way, start: run.start() }));
        }
    }
    stages
}

/// In which ways a system is asked.
pub(super) fn ways(run: &SeedRun<'_>, section: &Evaluate, system: &str) -> impl Iterator<Item = Option<TokenForm>> {
    let audits = run.has_control_token && section.audits(system);
    WAYS.into_iter().filter(move |way| way.is_none() || audits)
}

/// One system, asked in one way.
struct Responding<'a> {
    section: &'a Evaluate,
    system: &'a str,
    /// What has to be made for the system to be there.
    model: Option<Artifact>,
    way: Option<TokenForm>,
    start: Option<Artifact>,
}

impl Responding<'_> {
    /// What a policy says is measured against where it started.
    fn is_measured_against_start(&self, run: &SeedRun<'_>) -> bool {
        self.way.is_none() && self.system != run.recipe.start_system()
    }
}

fn corpus<'a>(run: &SeedRun<'a>) -> Corpus<'a> {
    Corpus::new(run.resources, run.shared_stream("evaluate-rows"))
}

impl Stage for Responding<'_> {
    fn kind(&self) -> StageKind {
        StageKind::Evaluate
    }

    fn name(&self) -> String {
        folder_of(self.system, self.way)
    }

    fn makes(&self) -> Artifact {
        Artifact::Responses(self.system.to_owned(), self.way)
    }

    fn needs(&self) -> Vec<Artifact> {
        let mut needs: Vec<Artifact> = self.model.iter().cloned().collect();
        needs.extend(self.start.iter().filter(|start| self.way.is_none() && !needs.contains(start)).cloned().collect::<Vec<_>>());
        needs
    }

    fn inputs(&self, run: &SeedRun<'_>) -> Result<Inputs, PipelineError> {
        let section = self.section;
        let inputs = Inputs::new()
            .value("seed", &run.seed)
            .value("sources", &section.sources)
            .value("rows", &run.shared_stream("evaluate-rows"))
            .value("samples", &(section.samples, section.temperature))
            .value("draw", &section.draw)
            .value("way", &self.way)
            .value("control", &run.recipe.control)
            .value("encoding", &run.recipe.encoding)
            .hash("data", corpus(run).hash(&section.sources)?);
        let inputs = if self.way.is_some() { inputs.value("audit_limit", &section.audit_limit) } else { inputs };
        run.hash_start(inputs)
    }

    fn work(&self, run: &SeedRun<'_>, _done: &[Manifest], folder: &Path) -> Result<Made, PipelineError> {
        let (mut prompts, mut counts) = corpus(run).prompts(&self.section.sources)?;
        if let (Some(_), Some(limit)) = (self.way, self.section.audit_limit) {
            prompts = some_of(prompts, limit, run.shared_stream("audit"));
        }
        let said = self.respond(run, prompts, folder)?;
        counts["encoding"] = serde_json::json!(said.encoding);
        let mut outputs = vec![RESPONSES];
        if self.is_measured_against_start(run) {
            write_json(&folder.join("kl.json"), &self.policy_kl(run, &said)?)?;
            outputs.push("kl.json");
        }
        let responder = Responder { model: self.system.to_owned(), control_token: self.way };
        write_responses(folder.join(RESPONSES), &responder, &said.into_responses(self.section.samples))?;
        Ok(Made { outputs, counts })
    }

    fn check_data(&self, run: &SeedRun<'_>) -> Result<(), PipelineError> {
        // All of these stages have the same prompts.
        if self.way.is_some() || self.system != run.recipe.start_system() {
            return Ok(());
        }
        corpus(run).check::<Prompt>("evaluate", &self.section.sources, |_| Ok(()))
    }

    fn load(&self) -> Load<'_> {
        Load::Drawing(DrawingLoad {
            draw: &self.section.draw,
            sources: &self.section.sources,
            stream: "evaluate-rows",
            ways: &WAYS,
            judges: false,
            scores: true,
            completions: self.section.samples,
            at_most: self.section.audit_limit.filter(|_| self.way.is_some()),
        })
    }
}

/// What a model was asked, and what it said.
struct Said {
    /// The prompts that could be encoded.
    prompts: Vec<Arc<Row<Prompt>>>,
    encoding: EncodeReport,
    /// So many for each prompt as the recipe has samples; the same number of completions.
    requests: Vec<Request>,
    completions: Vec<TextCompletion>,
}

impl Responding<'_> {
    fn respond(&self, run: &SeedRun<'_>, prompts: Vec<Arc<Row<Prompt>>>, folder: &Path) -> Result<Said, PipelineError> {
        let section = self.section;
        let (checkpoint, control) = run.system_model(self.system, section.draw.dtype)?;
        let checkpoint = checkpoint.merged();
        let checkpoint = match &control {
            Some(control) if self.way == Some(TokenForm::Exported) => checkpoint.without_control_token(control)?,
            _ => checkpoint,
        };
        let mut encoder = run.encoder(&checkpoint, control.as_ref());
        let mut requests = Vec::with_capacity(prompts.len() * section.samples);
        let mut asked = Vec::with_capacity(prompts.len());
        for (number, row) in prompts.into_iter().enumerate() {
            let (dialogue, with_token) = put(self.way, &row.value.dialogue, &run.recipe.control.token, number);
            let Some(prompt) = encoder.prompt(&row.id, &dialogue, with_token)? else { continue };
            requests.extend((0..section.samples).map(|i| Request { key: format!("{}#{i}", row.id), prompt: prompt.clone() }));
            asked.push(row);
        }
        // All systems share the random streams: a difference between two of them is not a difference of luck alone.
        let sampler =
            Sampler { model: &checkpoint.model, tokenizer: &checkpoint.tokenizer, draw: &section.draw, seed: run.stream("evaluate") };
        let mut speed = Speed::new(&self.name(), requests.len(), 0, run.rest.get());
        let completions = sampler.complete(&requests, section.temperature, &mut speed)?;
        speed.write(folder)?;
        Ok(Said { prompts: asked, encoding: encoder.report().clone(), requests, completions })
    }

    fn policy_kl(&self, run: &SeedRun<'_>, Said { requests, completions, .. }: &Said) -> Result<PolicyKl, PipelineError> {
        let rows = requests.iter().zip(completions);
        let rows: Vec<Completion<'_>> =
            rows.map(|(request, completion)| Completion { prompt: &request.prompt, completion: &completion.ids }).collect();
        let draw = &self.section.draw;
        let log_probs = |system: &str| -> Result<Vec<f64>, PipelineError> {
            // One model at a time is in memory.
            let (checkpoint, _) = run.system_model(system, draw.dtype)?;
            Ok(completion_log_probs(&checkpoint.merged().model, &rows, draw.batch_size, &run.resources.device))
        };
        let (policy, reference) = (log_probs(self.system)?, log_probs(run.recipe.start_system())?);
        let tokens = completions.iter().map(|completion| completion.ids.len()).sum::<usize>();
        let moved: f64 = policy.iter().zip(&reference).map(|(policy, reference)| policy - reference).sum();
        Ok(PolicyKl { kl_policy: moved / tokens.max(1) as f64, tokens })
    }
}

impl Said {
    fn into_responses(self, samples: usize) -> Vec<Response> {
        let prompts = self.prompts.into_iter().flat_map(|prompt| std::iter::repeat_n(prompt, samples));
        prompts.zip(self.completions).map(|(prompt, completion)| Response { prompt, text: completion.text }).collect()
    }
}
