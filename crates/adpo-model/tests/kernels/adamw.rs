use adpo_model::kernels::{AdamWState, AdamWStep, adamw, sum_of_squares};
use burn::tensor::{DType, Device};

use crate::harness::{Random, devices, host, off, tensor};

#[test]
fn three_steps_of_adamw_are_their_definition() {
    for n in [1, 17, 40_000] {
        let mut random = Random(8);
        let start = random.normals(n, 1.0);
        let gradients = [1.0, 1e-3, 30.0].map(|deviation| random.normals(n, deviation));
        let (mut p, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
        let step = |step| AdamWStep {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step,
            gradient_scale: 0.25,
        };
        for (t, gradient) in (1..).zip(&gradients) {
            for i in 0..n {
                let g = gradient[i] * 0.25;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let (first, second) = (m[i] / (1.0 - 0.9_f64.powi(t)), v[i] / (1.0 - 0.999_f64.powi(t)));
                p[i] = p[i] * (1.0 - 1e-3) - 1e-2 * first / (second.sqrt() + 1e-8);
            }
        }
        let f64_on_cpu = (Device::flex(), DType::F64, 1e-12);
        for (device, dtype, tolerance) in devices().into_iter().map(|device| (device, DType::F32, 1e-5)).chain([f64_on_cpu]) {
            let zeros = || tensor(&vec![0.0; n], dtype, &device);
            let mut state = AdamWState { parameter: tensor(&start, dtype, &device), first: zeros(), second: zeros() };
            // A second holder must not see the parameter change.
            let held = state.parameter.clone();
            for (t, gradient) in (1..).zip(&gradients) {
                state = adamw(state, tensor(gradient, dtype, &device), step(t));
            }
            assert_eq!(host(held), start);
            for (found, expected) in [(state.parameter, &p), (state.first, &m), (state.second, &v)] {
                let off = off(&host(found), expected);
                assert!(off <= tolerance, "{n} {dtype:?} on {device:?}: off by {off:e}");
            }
        }
    }
}

#[test]
fn the_sum_of_squares_is_that_of_f64() {
    for n in [1, 100, 100_001] {
        let x = Random(10).normals(n, 3.0);
        let expected: f64 = x.iter().map(|x| x * x).sum();
        let f64_on_cpu = (Device::flex(), DType::F64, 1e-12);
        for (device, dtype, tolerance) in devices().into_iter().map(|device| (device, DType::F32, 1e-6)).chain([f64_on_cpu]) {
            let found = host(sum_of_squares(tensor(&x, dtype, &device)))[0];
            assert!((found - expected).abs() <= tolerance * expected, "{n} {dtype:?} on {device:?}: {found} instead of {expected}");
        }
    }
}
