//! The resampling that every interval of a report rests on: 10,000 draws of 2,000 prompts.
//!
//! ```text
//! cargo bench -p adpo-eval --bench bootstrap
//! ```

use std::hint::black_box;

use adpo_eval::statistics::{bootstrap_crossed, bootstrap_mean, sign_flip};
use criterion::{Criterion, criterion_group, criterion_main};

const PROMPTS: i32 = 2_000;
const DRAWS: usize = 10_000;

fn resampling(criterion: &mut Criterion) {
    let scores: Vec<f64> = (0..PROMPTS).map(|i| f64::from(i * 37 % 101) / 101.0).collect();
    let differences: Vec<f64> = scores.iter().map(|score| score - 0.48).collect();
    let seeds = vec![scores.clone(); 5];
    let mut group = criterion.benchmark_group("2,000 prompts x 10,000");
    group.sample_size(10);
    group.bench_function("bootstrap_mean", |bench| bench.iter(|| bootstrap_mean(black_box(&scores), DRAWS, 1)));
    group.bench_function("bootstrap_crossed, 5 seeds", |bench| bench.iter(|| bootstrap_crossed(black_box(&seeds), DRAWS, 1)));
    group.bench_function("sign_flip", |bench| bench.iter(|| sign_flip(black_box(&differences), DRAWS, 1)));
    group.finish();
}

criterion_group!(benches, resampling);
criterion_main!(benches);
