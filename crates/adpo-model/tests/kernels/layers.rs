use adpo_model::kernels;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::harness::{Random, check};

fn matmul_t(x: &[f64], w: &[f64], inner: usize) -> Vec<f64> {
    x.chunks(inner).flat_map(|x| w.chunks(inner).map(move |w| x.iter().zip(w).map(|(x, w)| x * w).sum())).collect()
}

#[test]
fn rms_norm_is_its_definition() {
    for (n, d, deviation) in [(1, 2, 1.0), (1, 7, 1.0), (3, 16, 1e-4), (130, 33, 1.0), (65, 688, 50.0), (700, 48, 1.0)] {
        let mut random = Random(1);
        let inputs = [random.normals(n * d, deviation), random.normals(d, 1.0)];
        check(
            &format!("rms_norm {n} × {d}"),
            &|t| kernels::rms_norm(t[0].clone().reshape([n, d]), t[1].clone(), 1e-5).reshape([n * d]),
            &|t| {
                t[0].chunks(d)
                    .flat_map(|x| {
                        let scale = (x.iter().map(|x| x * x).sum::<f64>() / d as f64 + 1e-5).sqrt().recip();
                        x.iter().zip(&t[1]).map(move |(x, w)| x * scale * w).collect::<Vec<_>>()
                    })
                    .collect()
            },
            &inputs,
            1e-5,
        );
    }
}

#[test]
fn swiglu_is_its_definition() {
    for (n, d, deviation) in [(1, 1, 1.0), (3, 17, 1.0), (40, 688, 3.0), (5, 33, 60.0)] {
        let mut random = Random(2);
        let inputs = [random.normals(n * d, deviation), random.normals(n * d, 1.0)];
        check(
            &format!("swiglu {n} × {d}"),
            &|t| kernels::swiglu(t[0].clone().reshape([n, d]), t[1].clone().reshape([n, d])).reshape([n * d]),
            &|t| t[0].iter().zip(&t[1]).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect(),
            &inputs,
            2e-6,
        );
    }
}

#[test]
fn linear_is_its_definition() {
    for (n, inner, out) in [(1, 1, 1), (1, 40, 9), (7, 33, 65), (8, 256, 100), (13, 256, 31), (17, 19, 5), (300, 96, 80)] {
        let mut random = Random(3);
        let inputs = [random.normals(n * inner, 1.0), random.normals(out * inner, 1.0)];
        check(
            &format!("linear {n} × {inner} × {out}"),
            &|t| kernels::linear(t[0].clone().reshape([n, inner]), t[1].clone().reshape([out, inner])).reshape([n * out]),
            &|t| matmul_t(&t[0], &t[1], inner),
            &inputs,
            1e-5,
        );
    }
}

#[test]
fn rope_is_its_definition() {
    for (n, heads, dim) in [(1, 1, 2), (3, 5, 6), (50, 8, 32), (90, 3, 128)] {
        let half = dim / 2;
        let mut random = Random(4);
        let angles = random.normals(n * half, 30.0);
        let table = |f: fn(f64) -> f64| -> Vec<f64> { angles.iter().map(|angle| f64::from(f(*angle) as f32)).collect() };
        let (cos, sin) = (table(f64::cos), table(f64::sin));
        let constant = |values: &[f64], like: &Tensor<1>| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), [n, half]), (&like.device(), like.dtype()))
        };
        check(
            &format!("rope {n} × {heads} × {dim}"),
            &|t| {
                let (cos, sin) = (constant(&cos, &t[0]), constant(&sin, &t[0]));
                kernels::rope(t[0].clone().reshape([n, heads, dim]), cos, sin).reshape([n * heads * dim])
            },
            &|t| {
                let rotate = |(i, x): (usize, &f64)| {
                    let (cell, at) = (i / (heads * dim), i % dim);
                    let angle = cell * half + at % half;
                    if at < half { x * cos[angle] - t[0][i + half] * sin[angle] } else { x * cos[angle] + t[0][i - half] * sin[angle] }
                };
                t[0].iter().enumerate().map(rotate).collect()
            },
            &[random.normals(n * heads * dim, 1.0)],
            1e-6,
        );
    }
}

#[test]
fn embedding_sums_the_gradients_of_repeated_ids() {
    for (n, vocab, d) in [(1, 1, 1), (9, 3, 5), (500, 40, 17), (200, 1000, 64), (400, 2, 8)] {
        let mut random = Random(5);
        let ids: Vec<i32> = (0..n).map(|_| random.below(vocab) as i32).collect();
        let at = |device: &Device| Tensor::<1, Int>::from_data(TensorData::new(ids.clone(), [n]), device);
        check(
            &format!("embedding {n} of {vocab} × {d}"),
            &|t| kernels::embedding(t[0].clone().reshape([vocab, d]), at(&t[0].device())).reshape([n * d]),
            &|t| ids.iter().flat_map(|id| t[0][*id as usize * d..][..d].to_vec()).collect(),
            &[random.normals(vocab * d, 1.0)],
            1e-5,
        );
    }
}
