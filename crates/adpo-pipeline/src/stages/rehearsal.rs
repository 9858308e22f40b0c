//! What the base itself answers, learnt once more beside the corpus: a small model that learns a few hundred dialogues otherwise forgets
//! how to talk (pseudo-rehearsal, Robins 1995).

use std::collections::HashSet;

use adpo_data::{Prompt, Role, Row, SftExample};
use adpo_eval::{Exchange, Judge, Scores};

use super::{SeedRun, judged};
use crate::PipelineError;
use crate::answers::{Question, Speaker, Speed};
use crate::recipe::Rehearsal;
use crate::resources::Checkpoint;

/// The base's best answer to each prompt that has an acceptable one: it answers, and is neither evasive nor toxic nor noise.
pub(super) fn rehearse(
    run: &SeedRun<'_>,
    rehearsal: &Rehearsal,
    base: &Checkpoint,
    prompts: &[Row<Prompt>],
    annotator: &dyn Judge,
) -> Result<Vec<Row<SftExample>>, PipelineError> {
    let Checkpoint { model, tokenizer } = base;
    let mut questions = Vec::with_capacity(prompts.len() * rehearsal.samples);
    for row in prompts {
        let prompt = tokenizer.encode_text(&tokenizer.render(&row.value.dialogue, true)?)?;
        questions.extend((0..rehearsal.samples).map(|i| Question { key: format!("{}#rehearsal{i}", row.id), prompt: prompt.clone() }));
    }
    let speaker = Speaker { model, tokenizer, draw: &rehearsal.draw, seed: run.stream("sft-rehearsal") };
    let mut speed = Speed::default();
    let answers = speaker.answer(&questions, rehearsal.temperature, &mut speed)?;
    speed.tell("sft, rehearsal");
    let exchange = |(row, text): (&Row<Prompt>, &str)| Exchange {
        prompt: row.value.dialogue.clone(),
        response: text.to_owned(),
        harmful: row.value.harmful == Some(true),
    };
    let asked = prompts.iter().flat_map(|row| std::iter::repeat_n(row, rehearsal.samples));
    let exchanges: Vec<Exchange> = asked.zip(&answers).map(|(row, answer)| exchange((row, &answer.text))).collect();
    let verdicts = judged("sft", annotator, &exchanges)?;
    let taus = annotator.thresholds();
    let answers_well = |scores: &Scores| {
        !scores.degenerate && scores.coherence >= taus.coherence && scores.evasiveness < taus.evasiveness && scores.toxicity < taus.toxicity
    };
    let (mut rows, mut learnt) = (Vec::new(), HashSet::new());
    for (row, (answers, verdicts)) in prompts.iter().zip(answers.chunks(rehearsal.samples).zip(verdicts.chunks(rehearsal.samples))) {
        let scored = answers.iter().zip(verdicts).filter_map(|(answer, verdict)| Some((answer, verdict.scores()?)));
        // An answer once learnt is not learnt again: "That's great!" would soon be all that is said.
        let acceptable = scored.filter(|(answer, scores)| answers_well(scores) && !learnt.contains(&answer.text.to_lowercase()));
        let Some((answer, _)) = acceptable.max_by(|a, b| a.1.coherence.total_cmp(&b.1.coherence)) else { continue };
        learnt.insert(answer.text.to_lowercase());
        let dialogue = row.value.dialogue.clone().with(Role::Assistant, answer.text.clone());
        let value = SftExample { dialogue, toxic: None, category: row.value.category.clone() };
        rows.push(Row { id: format!("{}#rehearsed", row.id), source: row.source.clone(), licence: row.licence.clone(), value });
    }
    Ok(rows)
}
