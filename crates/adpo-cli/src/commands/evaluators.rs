use std::path::Path;

use adpo_data::write_file;
use adpo_eval::train::{Corpus, ValidateOptions, Validation, WEIGHT_SETS, left_out, train, train_encoder, validate, word_filter};
use adpo_eval::{Agreement, EmbeddedJudge, Interval, Judge};
use adpo_model::DeviceChoice;
use adpo_pipeline::{JudgeChoice, MiniLm};
use anyhow::{Context, Result, bail};

use crate::args::{TrainEvaluatorsArgs, ValidateArgs, WordsArgs};
use crate::assets;

/// Rebuilds both weight sets, or the heads over MiniLM, and the record of their agreement; the same rows on the same machine give the same
/// bytes.
pub(crate) fn rebuild(args: &TrainEvaluatorsArgs) -> Result<()> {
    let corpus = corpus(args.data_dir.as_deref())?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    if let Some(folder) = &args.minilm {
        return rebuild_minilm(&corpus, folder, &args.out);
    }
    let mut figures = Vec::new();
    for name in WEIGHT_SETS {
        let judge = train(&corpus, name)?;
        write_file(args.out.join(format!("{name}.bin")), judge.to_bytes())?;
        super::print(&format!("{name}: learnt from {} keys, fingerprint {}", judge.training_rows().len(), judge.fingerprint()))?;
        figures.extend(validate(&judge, &corpus, ValidateOptions::default()).figures);
        figures.extend(left_out(&corpus, &judge)?);
    }
    Ok(write_file(args.out.join("agreement.json"), serde_json::to_string_pretty(&figures)? + "\n")?)
}

fn rebuild_minilm(corpus: &Corpus, folder: &str, out: &Path) -> Result<()> {
    let encoder = MiniLm::load(&super::resources(None, false, DeviceChoice::Cpu)?, folder)?;
    let judge = train_encoder(corpus, Box::new(encoder))?;
    write_file(out.join("minilm.bin"), judge.to_bytes())?;
    super::print(&format!("minilm: learnt from {} keys, fingerprint {}", judge.training_rows().len(), judge.fingerprint()))?;
    let figures = validate(&judge, corpus, ValidateOptions::default()).figures;
    Ok(write_file(out.join("minilm-agreement.json"), serde_json::to_string_pretty(&figures)? + "\n")?)
}

/// Rebuilds the filter of known words; the same lists give the same bytes.
pub(crate) fn words(args: &WordsArgs) -> Result<()> {
    let mut words = String::new();
    for path in &args.lists {
        words += &std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        words.push('\n');
    }
    Ok(write_file(&args.out, word_filter(&words)?)?)
}

/// Prints how far a judge agrees with people, and fails where that is less than recorded.
pub(crate) fn check(args: &ValidateArgs) -> Result<()> {
    let corpus = corpus(args.data_dir.as_deref())?;
    let judge: Box<dyn Judge> = match args.judge.as_str() {
        "annotator" => Box::new(EmbeddedJudge::annotator()?),
        other => {
            let choice: JudgeChoice = other.parse().map_err(anyhow::Error::msg)?;
            choice.open(&super::resources(None, false, DeviceChoice::Cpu)?, EmbeddedJudge::evaluator, &super::judge_cache())?
        }
    };
    let options = ValidateOptions { quick: args.quick };
    let found = validate(judge.as_ref(), &corpus, options);
    super::still_there(judge.as_ref())?;
    super::print(&if args.json { serde_json::to_string_pretty(&found)? } else { table(&found) })?;
    let shortfalls = found.shortfalls(&judge.agreement(), options);
    if !shortfalls.is_empty() {
        bail!("agreement is below the recorded one:\n  {}", shortfalls.join("\n  "));
    }
    Ok(())
}

fn corpus(data_dir: Option<&Path>) -> Result<Corpus> {
    let data_dir = data_dir.context("no data folder is known; pass --data-dir or set ADPO_DATA")?;
    Ok(Corpus::read(data_dir, assets::DIALOGUES)?)
}

fn table(found: &Validation) -> String {
    let show = |interval: &Interval| format!("{:.3} [{:.3}, {:.3}]", interval.estimate, interval.low, interval.high);
    let mut lines = vec![format!("# Agreement of `{}` with labels", found.judge), String::new()];
    let head = "| measure | data | rows | AUC | accuracy | kappa | macro-F1 |\n|---|---|---|---|---|---|---|";
    let row = |f: &Agreement| {
        let numbers = [&f.auc, &f.accuracy, &f.kappa, &f.macro_f1].map(show).join(" | ");
        format!("| {} | {} | {} | {numbers} |", f.measure, f.data, f.rows)
    };
    lines.push(head.to_owned());
    lines.extend(found.figures.iter().map(row));
    if !found.left_out.is_empty() {
        let told = "\nRecorded at training: the same questions, answered by models and role plays that the heads did not learn from.\n";
        lines.extend([told.to_owned(), head.to_owned()]);
        lines.extend(found.left_out.iter().map(row));
    }
    let looked =
        "\nLooked at while features were chosen: bucket 5, FED and USR about a dozen times, the rows with the giver left out three times.";
    lines.push(looked.to_owned());
    lines.push("\n| goal | figure | at least (bias: at most) | found | |\n|---|---|---|---|---|".to_owned());
    for goal in &found.goals {
        lines.push(format!("| {} | {} | {} | {} | {} |", goal.what, goal.figure, goal.goal, show(&goal.found), goal.verdict.name()));
    }
    lines.push("\n| refusal rate of a model, judged minus labelled | |\n|---|---|".to_owned());
    lines.extend(found.refusal_bias.iter().map(|(model, bias)| format!("| {model} | {} |", show(bias))));
    lines.push("\n| group of people in the same sentences | AUC of abuse |\n|---|---|".to_owned());
    lines.extend(found.terms.iter().map(|(term, auc)| format!("| {term} | {} |", show(auc))));
    lines.push("\n| calibration | data | ECE | rows: mean score → rate, by tenths |\n|---|---|---|---|".to_owned());
    for c in &found.calibration {
        let bins = c.bins.iter().filter(|bin| bin.0 > 0).map(|(n, score, rate)| format!("{n}: {score:.2} → {rate:.2}"));
        lines.push(format!("| {} | {} | {:.3} | {} |", c.measure, c.data, c.ece, bins.collect::<Vec<_>>().join(", ")));
    }
    for (state, n) in &found.unscored {
        lines.push(format!("\n{n} rows without a score: {state}."));
    }
    lines.join("\n") + "\n"
}
