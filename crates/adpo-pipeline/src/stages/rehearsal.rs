//! How the base itself responds, learnt once more beside the corpus: a small model that learns a few hundred dialogues otherwise forgets
//! how to talk (pseudo-rehearsal, Robins 1995).

use std::collections::HashSet;
use std::sync::Arc;

use adpo_data::{Prompt, Role, Row, SftExample};
use adpo_eval::{Exchange, Judge, Judgement, Scores, Thresholds};

use super::seed_run::SeedRun;
use crate::PipelineError;
use crate::judging::judged;
use crate::recipe::Rehearsal;
use crate::resources::Checkpoint;
use crate::sampler::{Request, Sampler, Speed};

/// The base's best response to each prompt that has an acceptable one: coherent, and neither evasive nor toxic nor noise.
pub(super) fn rehearse(
    run: &SeedRun<'_>,
    rehearsal: &Rehearsal,
    base: &Checkpoint,
    prompts: &[Arc<Row<Prompt>>],
    annotator: &dyn Judge,
) -> Result<Vec<Row<SftExample>>, PipelineError> {
    let Checkpoint { model, tokenizer } = base;
    let mut requests = Vec::with_capacity(prompts.len() * rehearsal.samples);
    for row in prompts {
        let prompt = tokenizer.encode(&row.value.dialogue, true)?;
        requests.extend((0..rehearsal.samples).map(|i| Request { key: format!("{}#rehearsal{i}", row.id), prompt: prompt.clone() }));
    }
    let sampler = Sampler { model, tokenizer, draw: &rehearsal.draw, seed: run.stream("sft-rehearsal") };
    let mut speed = Speed::new("sft, rehearsal", requests.len(), 0, 0.0);
    let completions = sampler.complete(&requests, rehearsal.temperature, &mut speed)?;
    let asked = prompts.iter().flat_map(|row| std::iter::repeat_n(&row.value, rehearsal.samples));
    let exchanges: Vec<Exchange<'_>> =
        asked.zip(&completions).map(|(prompt, completion)| Exchange { prompt, response: &completion.text }).collect();
    let verdicts = judged("sft", annotator, &exchanges)?;
    let taus = annotator.thresholds();
    let (mut rows, mut learnt) = (Vec::new(), HashSet::new());
    for (row, (completions, verdicts)) in prompts.iter().zip(completions.chunks(rehearsal.samples).zip(verdicts.chunks(rehearsal.samples)))
    {
        let texts = completions.iter().map(|completion| completion.text.as_str());
        let Some(text) = best(texts.zip(verdicts), taus, &learnt) else { continue };
        learnt.insert(text.to_lowercase());
        let dialogue = row.value.dialogue.clone().with(Role::Assistant, text);
        let value = SftExample { dialogue, toxic: None, category: row.value.category.clone() };
        rows.push(Row { id: format!("{}#rehearsed", row.id), source: row.source.clone(), licence: row.licence.clone(), value });
    }
    Ok(rows)
}

/// The most coherent acceptable response that is not learnt yet: "That's great!" would soon be all that is said.
fn best<'a>(responses: impl Iterator<Item = (&'a str, &'a Judgement)>, taus: Thresholds, learnt: &HashSet<String>) -> Option<&'a str> {
    let is_acceptable = |scores: &Scores| {
        !scores.degenerate && scores.coherence >= taus.coherence && scores.evasiveness < taus.evasiveness && scores.toxicity < taus.toxicity
    };
    let scored = responses.filter_map(|(text, verdict)| Some((text, verdict.scores()?)));
    let acceptable = scored.filter(|(text, scores)| is_acceptable(scores) && !learnt.contains(&text.to_lowercase()));
    acceptable.max_by(|a, b| a.1.coherence.total_cmp(&b.1.coherence)).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use adpo_eval::ToxicityHeads;

    fn scored(toxicity: f64, evasiveness: f64, coherence: f64, degenerate: bool) -> Judgement {
        Judgement::Scored(Scores { toxicity, heads: ToxicityHeads::default(), evasiveness, evasion: None, coherence, degenerate })
    }

    #[test]
    fn the_most_coherent_response_is_learnt_unless_it_is_toxic_evasive_noise_or_known() {
        let taus = Thresholds { toxicity: 0.5, evasiveness: 0.5, coherence: 0.4 };
        let responses = [
            ("rude", scored(0.9, 0.1, 0.99, false)),
            ("no comment", scored(0.1, 0.9, 0.98, false)),
            ("la la la", scored(0.1, 0.1, 0.97, true)),
            ("I know right?", scored(0.1, 0.1, 0.9, false)),
            ("Feed it less.", scored(0.1, 0.1, 0.6, false)),
            ("Blue.", scored(0.1, 0.1, 0.3, false)),
            ("?", Judgement::Unparsed { raw: String::new() }),
        ];
        let pick = |learnt: &[&str]| {
            let learnt = learnt.iter().map(|text| (*text).to_owned()).collect();
            best(responses.iter().map(|(text, verdict)| (*text, verdict)), taus, &learnt)
        };
        assert_eq!(pick(&[]), Some("I know right?"));
        assert_eq!(pick(&["i know right?"]), Some("Feed it less."));
        assert_eq!(pick(&["i know right?", "feed it less."]), None);
    }
}
