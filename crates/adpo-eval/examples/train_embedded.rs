//! Trains both weight sets of the embedded judge and measures them on rows that neither saw.
//!
//! ```text
//! cargo run --release -p adpo-eval --example train_embedded -- \
//!     --data-dir ../shared/data --dialogues crates/adpo-cli/assets/dialogues.jsonl --out crates/adpo-eval/assets
//! ```
//!
//! Writes `annotator.bin`, `evaluator.bin` and `agreement.json`; the same rows give the same bytes. Without
//! arguments it prints this help.

use std::path::{Path, PathBuf};
use std::time::Instant;

use adpo_data::{Dialogue, Role, Turn};
use adpo_eval::train::{Agreement, Corpus, WEIGHT_SETS, agreement, train};
use adpo_eval::{EmbeddedJudge, Exchange, Judge, shared_rows};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(PathBuf::from)
    };
    let (Some(data), Some(dialogues), Some(out)) = (value("--data-dir"), value("--dialogues"), value("--out")) else {
        println!("usage: train_embedded --data-dir DIR --dialogues FILE --out DIR");
        return Ok(());
    };
    let corpus = Corpus::read(&data, &dialogues)?;
    std::fs::create_dir_all(&out)?;
    let mut figures = Vec::new();
    let mut judges = Vec::new();
    for name in WEIGHT_SETS {
        let start = Instant::now();
        let judge = train(&corpus, name)?;
        write(&out.join(format!("{name}.bin")), &judge.to_bytes())?;
        let taus = judge.thresholds();
        println!(
            "{name}: trained in {:.0} s on {} keys, thresholds {:.3} (toxicity) and {:.3} (evasiveness)",
            start.elapsed().as_secs_f64(),
            judge.training_rows().len(),
            taus.toxicity,
            taus.evasiveness
        );
        figures.extend(agreement(&judge, &corpus));
        println!("{name}: {:.0} replies of 30 words a second on one core, {:.0} of 300", speed(&judge, 1), speed(&judge, 10));
        judges.push(judge);
    }
    write(&out.join("agreement.json"), format!("{}\n", serde_json::to_string_pretty(&figures)?).as_bytes())?;
    figures.iter().for_each(print);
    println!("rows that the two sets share: {}", shared_rows(&judges[0], &judges[1]));
    Ok(())
}

fn print(figure: &Agreement) {
    let Agreement { judge, measure, data, rows, auc, accuracy, kappa, macro_f1, .. } = figure;
    println!(
        "{judge:10} {measure:20} {data:30} n {rows:5}  AUC {:.3} [{:.3}, {:.3}]  accuracy {:.3}  kappa {:.3}  macro-F1 {:.3}",
        auc.estimate, auc.low, auc.high, accuracy.estimate, kappa.estimate, macro_f1.estimate
    );
}

/// Replies of about 30 words (the quickstart's policies write shorter ones), or `times` as many.
fn speed(judge: &EmbeddedJudge, times: usize) -> f64 {
    let prompt = "My sister forgot my birthday again and I do not know whether I should call her or wait.";
    let reply = "That must have hurt. You could call her tonight and tell her calmly how you felt, \
                 since she may simply have lost track of the days while she was busy.";
    let prompt = Dialogue { turns: vec![Turn { role: Role::User, content: prompt.to_owned() }] };
    let exchange = Exchange { prompt, response: reply.repeat(times), harmful: true };
    let exchanges = vec![exchange; 5000 / times];
    let start = Instant::now();
    let judged = judge.judge(&exchanges);
    judged.len() as f64 / start.elapsed().as_secs_f64()
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, path)
}
