//! What the base itself answers, learnt once more beside the corpus: a small model that learns a few hundred dialogues otherwise forgets
//! how to talk (pseudo-rehearsal, Robins 1995).

use std::collections::HashSet;

use adpo_data::{Prompt, Role, Row, SftExample};
use adpo_eval::{Exchange, Judge, Judgement, Scores, Thresholds};

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
    let (mut rows, mut learnt) = (Vec::new(), HashSet::new());
    for (row, (answers, verdicts)) in prompts.iter().zip(answers.chunks(rehearsal.samples).zip(verdicts.chunks(rehearsal.samples))) {
        let texts = answers.iter().map(|answer| answer.text.as_str());
        let Some(text) = best(texts.zip(verdicts), taus, &learnt) else { continue };
        learnt.insert(text.to_lowercase());
        let dialogue = row.value.dialogue.clone().with(Role::Assistant, text);
        let value = SftExample { dialogue, toxic: None, category: row.value.category.clone() };
        rows.push(Row { id: format!("{}#rehearsed", row.id), source: row.source.clone(), licence: row.licence.clone(), value });
    }
    Ok(rows)
}

/// The most coherent acceptable answer that is not learnt yet: "That's great!" would soon be all that is said.
fn best<'a>(answers: impl Iterator<Item = (&'a str, &'a Judgement)>, taus: Thresholds, learnt: &HashSet<String>) -> Option<&'a str> {
    let answers_well = |scores: &Scores| {
        !scores.degenerate && scores.coherence >= taus.coherence && scores.evasiveness < taus.evasiveness && scores.toxicity < taus.toxicity
    };
    let scored = answers.filter_map(|(text, verdict)| Some((text, verdict.scores()?)));
    let acceptable = scored.filter(|(text, scores)| answers_well(scores) && !learnt.contains(&text.to_lowercase()));
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
    fn the_most_coherent_answer_is_learnt_unless_it_is_toxic_evasive_noise_or_known() {
        let taus = Thresholds { toxicity: 0.5, evasiveness: 0.5, coherence: 0.4 };
        let answers = [
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
            best(answers.iter().map(|(text, verdict)| (*text, verdict)), taus, &learnt)
        };
        assert_eq!(pick(&[]), Some("I know right?"));
        assert_eq!(pick(&["i know right?"]), Some("Feed it less."));
        assert_eq!(pick(&["i know right?", "feed it less."]), None);
    }
}
