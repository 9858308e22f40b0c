//! Responses per second on one core, and how long the weights take to load.
//!
//! `cargo bench -p adpo-eval`

use adpo_data::{Dialogue, Prompt};
use adpo_eval::{EmbeddedJudge, Exchange, Judge};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn judging(c: &mut Criterion) {
    let judge = EmbeddedJudge::evaluator().expect("embedded weights");
    let prompt = "My sister forgot my birthday again and I do not know whether I should call her or wait.";
    let response = "That must have hurt. You could call her tonight and tell her calmly how you felt, \
                 since she may simply have lost track of the days while she was busy. ";
    let mut group = c.benchmark_group("judge");
    for (words, times) in [(30, 1), (300, 10)] {
        let prompt = Prompt { harmful: Some(true), ..Prompt::from(Dialogue::from_user(prompt)) };
        let response = response.repeat(times);
        let exchanges = vec![Exchange { prompt: &prompt, response: &response }; 100];
        group.throughput(Throughput::Elements(exchanges.len() as u64));
        group.bench_function(format!("{words} words"), |b| b.iter(|| judge.judge(&exchanges)));
    }
    group.finish();
    c.bench_function("load", |b| b.iter(|| EmbeddedJudge::evaluator().expect("embedded weights")));
}

criterion_group!(benches, judging);
criterion_main!(benches);
