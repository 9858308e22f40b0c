use adpo_model::kernels;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::harness::{Random, check, devices, host, off, tensor};

const SHAPES: [(usize, usize, usize, f64); 8] = [
    (1, 1, 1, 1.0),
    (1, 5, 3, 1.0),
    (7, 600, 9, 1.0),
    (600, 70, 5, 1.0),
    (33, 1111, 24, 0.5),
    (3, 2000, 16, 40.0),
    (20, 513, 8, 1.0),
    (3, 40_001, 2, 1.0),
];

fn logits(hidden: &[f64], weight: &[f64], d: usize) -> Vec<Vec<f64>> {
    let row = |h: &[f64]| weight.chunks(d).map(|w| h.iter().zip(w).map(|(h, w)| h * w).sum()).collect();
    hidden.chunks(d).map(row).collect()
}

fn log_sum_exp(logits: &[f64]) -> f64 {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + logits.iter().map(|l| (l - top).exp()).sum::<f64>().ln()
}

#[test]
fn token_log_probs_are_their_definition() {
    for (n, vocab, d, deviation) in SHAPES {
        let mut random = Random(6);
        let targets: Vec<usize> = (0..n).map(|_| random.below(vocab)).collect();
        let inputs = [random.normals(n * d, deviation), random.normals(vocab * d, 1.0)];
        check(
            &format!("token_log_probs {n} × {vocab} × {d}"),
            &|t| {
                let ids: Vec<i32> = targets.iter().map(|id| *id as i32).collect();
                let targets = Tensor::<1, Int>::from_data(TensorData::new(ids, [n]), &t[0].device());
                // A vocabulary of one has nothing to learn: its gradients are 0, and the sum keeps them in the graph.
                kernels::token_log_probs(t[0].clone().reshape([n, d]), t[1].clone().reshape([vocab, d]), targets).log_probs
            },
            &|t| logits(&t[0], &t[1], d).iter().zip(&targets).map(|(l, target)| l[*target] - log_sum_exp(l)).collect(),
            &inputs,
            2e-5,
        );
    }
}

#[test]
fn what_the_head_says_beside_log_probs_is_its_definition() {
    for (n, vocab, d, deviation) in SHAPES {
        let mut random = Random(7);
        let (hidden, weight) = (random.normals(n * d, deviation), random.normals(vocab * d, 1.0));
        let all = logits(&hidden, &weight, d);
        let best = |l: &Vec<f64>| (0..vocab).fold(0, |best, i| if l[i] > l[best] { i } else { best });
        // Half of the targets are the likeliest token.
        let targets: Vec<i32> =
            all.iter().enumerate().map(|(i, l)| if i % 2 == 0 { best(l) } else { random.below(vocab) } as i32).collect();
        let expected: [Vec<f64>; 3] = [
            all.iter().map(|l| l.iter().map(|x| (x - log_sum_exp(l)).exp() * (log_sum_exp(l) - x)).sum()).collect(),
            all.iter().zip(&targets).map(|(l, target)| f64::from(best(l) as i32 == *target)).collect(),
            all.iter().map(|l| l.iter().sum::<f64>() / vocab as f64).collect(),
        ];
        let f64_on_cpu = (Device::flex(), DType::F64, 1e-10);
        for (device, dtype, tolerance) in devices().into_iter().map(|device| (device, DType::F32, 5e-5)).chain([f64_on_cpu]) {
            let ids = Tensor::<1, Int>::from_data(TensorData::new(targets.clone(), [n]), &device);
            let hidden = tensor(&hidden, dtype, &device).reshape([n, d]);
            let scores = kernels::token_log_probs(hidden, tensor(&weight, dtype, &device).reshape([vocab, d]), ids);
            for (found, expected) in [scores.entropy, scores.correct, scores.mean_logit].into_iter().zip(&expected) {
                let found = host(found);
                let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance * (1.0 + b.abs()));
                assert!(close, "{n} × {vocab} × {d} {dtype:?} on {device:?}: off by {:e}", off(&found, expected));
            }
        }
    }
}

#[test]
fn a_frozen_head_gives_the_hidden_states_the_same_gradient() {
    let (n, vocab, d) = (9, 20_001, 4);
    let mut random = Random(12);
    let (hidden, weight) = (random.normals(n * d, 1.0), random.normals(vocab * d, 1.0));
    let targets: Vec<i32> = (0..n).map(|_| random.below(vocab) as i32).collect();
    for device in devices() {
        let device = device.autodiff();
        let gradient = |frozen: bool| {
            let hidden = tensor(&hidden, DType::F32, &device).reshape([n, d]).require_grad();
            let weight = tensor(&weight, DType::F32, &device).reshape([vocab, d]).set_require_grad(!frozen);
            let targets = Tensor::<1, Int>::from_data(TensorData::new(targets.clone(), [n]), &device);
            let gradients = kernels::token_log_probs(hidden.clone(), weight, targets).log_probs.sum().backward();
            host(hidden.grad(&gradients).expect("it is tracked"))
        };
        assert!(off(&gradient(true), &gradient(false)) <= 1e-6, "{device:?}");
    }
}
