//! The kernels that are measured: what each gets, and what it has to move or to compute at least.

use std::cell::RefCell;

use adpo_data::derive_seed;
use adpo_model::kernels::{self, AdamWState, AdamWStep, AttentionMask, AttentionOps, EmbeddingOps};
use adpo_model::kernels::{RmsNormOps, SwiGluOps, TokenLogProbOps};
use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::BenchShape;

/// The lengths that shapes are made of.
pub(super) struct Sizes {
    /// Cells.
    n: usize,
    /// Rows of cells.
    rows: usize,
    width: usize,
    hidden: usize,
    ffn: usize,
    heads: usize,
    kv_heads: usize,
    dim: usize,
    vocab: usize,
}

impl Sizes {
    pub(super) fn new(shape: BenchShape, tokens: usize, seq: usize) -> Self {
        let [hidden, _, heads, kv_heads, ffn, vocab] = shape.dims();
        let (width, rows) = (seq.min(tokens), (tokens / seq).max(1));
        Self { n: rows * width, rows, width, hidden, ffn, heads, kv_heads, dim: hidden / heads, vocab }
    }

    /// For comparisons; more than one tile of everything.
    pub(super) fn small() -> Self {
        Self { n: 150, rows: 2, width: 75, hidden: 128, ffn: 200, heads: 4, kv_heads: 2, dim: 64, vocab: 700 }
    }
}

/// The least that a kernel has to do.
#[derive(Clone, Copy)]
pub(super) enum Work {
    Bytes(f64),
    Flops(f64),
}

/// Makes a kernel's inputs.
pub(super) struct Numbers<'a> {
    pub(super) device: &'a Device,
    /// What they can be told apart in.
    pub(super) rounded: DType,
    pub(super) stored: DType,
}

impl Numbers<'_> {
    /// Numbers in (−1, 1), the same ones for the same `stream`, in f32 whatever the others are.
    fn wide<const D: usize>(&self, stream: u64, shape: [usize; D]) -> Tensor<D> {
        let mut bits = derive_seed(stream, "numbers");
        let next = || {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (bits >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = std::iter::repeat_with(next).take(shape.iter().product()).collect();
        Tensor::from_data(TensorData::new(values, shape), (self.device, DType::F32))
    }

    fn tensor<const D: usize>(&self, stream: u64, shape: [usize; D]) -> Tensor<D> {
        self.wide(stream, shape).cast(self.rounded).cast(self.stored)
    }

    fn ids(&self, n: usize, below: usize) -> Tensor<1, Int> {
        // Half of them are few, as words are.
        let id = |i: usize| derive_seed(9, &i.to_string()) as usize % if i.is_multiple_of(2) { below } else { below.min(20) };
        Tensor::from_data(TensorData::new((0..n).map(|i| id(i) as i32).collect::<Vec<_>>(), [n]), self.device)
    }
}

type Run = Box<dyn Fn() -> Vec<Tensor<1>>>;

/// One kernel, one way.
pub(super) struct Case {
    pub(super) kernel: &'static str,
    pub(super) pass: &'static str,
    pub(super) shape: fn(&Sizes) -> String,
    /// For elements of so many bytes.
    pub(super) work: fn(&Sizes, usize) -> Work,
    pub(super) make: fn(&Numbers<'_>, &Sizes) -> Run,
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    tensor.flatten(0, D - 1)
}

fn bytes(elements: usize, size: usize) -> Work {
    Work::Bytes(elements as f64 * size as f64)
}

/// Multiplications and additions of products of so many numbers.
fn flops(products: &[usize]) -> Work {
    Work::Flops(2.0 * products.iter().map(|n| *n as f64).product::<f64>())
}

fn n_by_hidden(s: &Sizes) -> String {
    format!("{} × {}", s.n, s.hidden)
}

fn n_by_ffn(s: &Sizes) -> String {
    format!("{} × {}", s.n, s.ffn)
}

fn heads(s: &Sizes) -> String {
    format!("{} × {} × {}/{} × {}", s.rows, s.width, s.heads, s.kv_heads, s.dim)
}

fn table(s: &Sizes) -> String {
    format!("{} of {} × {}", s.n, s.vocab, s.hidden)
}

/// A copy and a matrix product, which the others are held against, then the kernels.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = limits();
    cases.extend(layers());
    cases.extend(attention());
    cases.extend(tables());
    cases.extend(optimizer());
    cases
}

fn limits() -> Vec<Case> {
    vec![
        Case {
            kernel: "copy",
            pass: "forward",
            shape: n_by_ffn,
            work: |s, size| bytes(2 * s.n * s.ffn, size),
            make: |numbers, s| {
                let x = numbers.tensor(1, [s.n * s.ffn]);
                Box::new(move || vec![x.clone().mul_scalar(1.0)])
            },
        },
        Case {
            kernel: "linear",
            pass: "forward",
            shape: |s| format!("{} × {} × {}", s.n, s.hidden, s.ffn),
            work: |s, _| flops(&[s.n, s.hidden, s.ffn]),
            make: |numbers, s| {
                let (x, w) = (numbers.tensor(1, [s.n, s.hidden]), numbers.tensor(2, [s.ffn, s.hidden]));
                Box::new(move || vec![flat(kernels::linear(x.clone(), w.clone()))])
            },
        },
    ]
}

fn layers() -> Vec<Case> {
    vec![
        Case {
            kernel: "rms_norm",
            pass: "forward",
            shape: n_by_hidden,
            work: |s, size| bytes(2 * s.n * s.hidden, size),
            make: |numbers, s| {
                let (x, w) = (numbers.tensor(1, [s.n, s.hidden]), numbers.tensor(2, [s.hidden]));
                Box::new(move || vec![flat(kernels::rms_norm(x.clone(), w.clone(), 1e-5))])
            },
        },
        Case {
            kernel: "rms_norm",
            pass: "backward",
            shape: n_by_hidden,
            work: |s, size| bytes(3 * s.n * s.hidden, size),
            make: |numbers, s| {
                let [x, dy] = [1, 2].map(|stream| numbers.tensor(stream, [s.n, s.hidden]).into_dispatch());
                let w = numbers.tensor(3, [s.hidden]).into_dispatch();
                let (_, scale) = Dispatch::fused_rms_norm(x.clone(), w.clone(), 1e-5);
                Box::new(move || {
                    let (dx, dw) = Dispatch::fused_rms_norm_backward(x.clone(), w.clone(), scale.clone(), dy.clone());
                    vec![flat(Tensor::<2>::from_dispatch(dx)), Tensor::from_dispatch(dw)]
                })
            },
        },
        Case {
            kernel: "rope",
            pass: "forward",
            shape: heads,
            work: |s, size| bytes(2 * s.n * s.heads * s.dim, size),
            make: |numbers, s| {
                let x = numbers.tensor(1, [s.n, s.heads, s.dim]);
                let [cos, sin] = [2, 3].map(|stream| numbers.wide(stream, [s.n, s.dim / 2]));
                Box::new(move || vec![flat(kernels::rope(x.clone(), cos.clone(), sin.clone()))])
            },
        },
        Case {
            kernel: "swiglu",
            pass: "forward",
            shape: n_by_ffn,
            work: |s, size| bytes(3 * s.n * s.ffn, size),
            make: |numbers, s| {
                let [gate, up] = [1, 2].map(|stream| numbers.tensor(stream, [s.n, s.ffn]));
                Box::new(move || vec![flat(kernels::swiglu(gate.clone(), up.clone()))])
            },
        },
        Case {
            kernel: "swiglu",
            pass: "backward",
            shape: n_by_ffn,
            work: |s, size| bytes(5 * s.n * s.ffn, size),
            make: |numbers, s| {
                let [gate, up, dy] = [1, 2, 3].map(|stream| numbers.tensor(stream, [s.n, s.ffn]).into_dispatch());
                Box::new(move || {
                    let (d_gate, d_up) = Dispatch::fused_swiglu_backward(gate.clone(), up.clone(), dy.clone());
                    [d_gate, d_up].map(|d| flat(Tensor::<2>::from_dispatch(d))).into()
                })
            },
        },
    ]
}

/// Causal: half of all pairs of cells.
fn pairs(s: &Sizes) -> [usize; 4] {
    [s.rows * s.heads, s.width.div_ceil(2), s.width, s.dim]
}

fn attention() -> Vec<Case> {
    vec![
        Case {
            kernel: "attention",
            pass: "forward",
            shape: heads,
            work: |s, _| flops(&[&[2], &pairs(s)[..]].concat()),
            make: |numbers, s| {
                let [q, k, v] = queries(numbers, s);
                let ones = vec![1; s.n];
                let mask = AttentionMask::new(&ones, &vec![0; s.n], s.rows, s.width, numbers.device);
                Box::new(move || vec![flat(kernels::attention(q.clone(), k.clone(), v.clone(), &mask))])
            },
        },
        Case {
            kernel: "attention",
            pass: "backward",
            shape: heads,
            work: |s, _| flops(&[&[5], &pairs(s)[..]].concat()),
            make: |numbers, s| {
                let [q, k, v] = queries(numbers, s).map(Tensor::into_dispatch);
                let grad = numbers.tensor(4, [s.rows, s.width, s.heads, s.dim]).into_dispatch();
                let all = |value: i32| {
                    Tensor::<2, Int>::from_data(TensorData::new(vec![value; s.n], [s.rows, s.width]), numbers.device).into_dispatch()
                };
                let (segments, branches) = (all(1), all(0));
                let (o, lse) = Dispatch::fused_attention(q.clone(), k.clone(), v.clone(), segments.clone(), branches.clone());
                Box::new(move || {
                    let [q, k, v, o, lse, grad] = [&q, &k, &v, &o, &lse, &grad].map(Clone::clone);
                    let (dq, dk, dv) = Dispatch::fused_attention_backward(q, k, v, o, lse, grad, segments.clone(), branches.clone());
                    [dq, dk, dv].map(|d| flat(Tensor::<4>::from_dispatch(d))).into()
                })
            },
        },
        Case {
            kernel: "attention_cached",
            pass: "forward",
            shape: heads,
            work: |s, size| bytes(2 * s.n * s.kv_heads * s.dim, size),
            make: |numbers, s| {
                let [_, k, v] = queries(numbers, s);
                let (q, used) = (numbers.tensor(5, [s.rows, s.heads, s.dim]), s.width);
                let first = Tensor::<1, Int>::zeros([s.rows], numbers.device);
                Box::new(move || vec![flat(kernels::attention_cached(q.clone(), k.clone(), v.clone(), first.clone(), used))])
            },
        },
    ]
}

fn queries(numbers: &Numbers<'_>, s: &Sizes) -> [Tensor<4>; 3] {
    let q = numbers.tensor(1, [s.rows, s.width, s.heads, s.dim]);
    let [k, v] = [2, 3].map(|stream| numbers.tensor(stream, [s.rows, s.width, s.kv_heads, s.dim]));
    [q, k, v]
}

fn tables() -> Vec<Case> {
    vec![
        Case {
            kernel: "embedding",
            pass: "forward",
            shape: table,
            work: |s, size| bytes(2 * s.n * s.hidden, size),
            make: |numbers, s| {
                let (w, ids) = (numbers.tensor(1, [s.vocab, s.hidden]), numbers.ids(s.n, s.vocab));
                Box::new(move || vec![flat(kernels::embedding(w.clone(), ids.clone()))])
            },
        },
        Case {
            kernel: "embedding",
            pass: "backward",
            shape: table,
            work: |s, size| bytes((s.n + s.vocab) * s.hidden, size),
            make: |numbers, s| {
                let (grad, ids) = (numbers.tensor(1, [s.n, s.hidden]).into_dispatch(), numbers.ids(s.n, s.vocab).into_dispatch());
                let vocab = s.vocab;
                Box::new(move || {
                    let dw = Dispatch::fused_embedding_backward(grad.clone(), ids.clone(), vocab);
                    vec![flat(Tensor::<2>::from_dispatch(dw))]
                })
            },
        },
        Case {
            kernel: "token_log_probs",
            pass: "forward",
            shape: table,
            work: |s, _| flops(&[s.n, s.vocab, s.hidden]),
            make: |numbers, s| {
                let (h, w) = (numbers.tensor(1, [s.n, s.hidden]), numbers.tensor(2, [s.vocab, s.hidden]));
                let targets = numbers.ids(s.n, s.vocab);
                Box::new(move || {
                    let scores = kernels::token_log_probs(h.clone(), w.clone(), targets.clone());
                    vec![scores.log_probs, scores.entropy, scores.mean_logit]
                })
            },
        },
        Case {
            kernel: "token_log_probs",
            pass: "backward",
            shape: table,
            // The logits once more, then both gradients.
            work: |s, _| flops(&[3, s.n, s.vocab, s.hidden]),
            make: |numbers, s| {
                let [h, w] = [(1, s.n), (2, s.vocab)].map(|(stream, n)| numbers.tensor(stream, [n, s.hidden]).into_dispatch());
                let (targets, grad) = (numbers.ids(s.n, s.vocab).into_dispatch(), numbers.wide(3, [s.n]).into_dispatch());
                let (_, lse, ..) = Dispatch::fused_token_log_probs(h.clone(), w.clone(), targets.clone());
                Box::new(move || {
                    let [h, w, lse, grad] = [&h, &w, &lse, &grad].map(Clone::clone);
                    let (dh, dw) = Dispatch::fused_token_log_probs_backward(h, w, targets.clone(), lse, grad);
                    [dh, dw].map(|d| flat(Tensor::<2>::from_dispatch(d))).into()
                })
            },
        },
    ]
}

fn optimizer() -> Vec<Case> {
    vec![
        Case {
            kernel: "adamw",
            pass: "forward",
            shape: |s| format!("{} × {}", s.vocab, s.hidden),
            work: |s, size| Work::Bytes((s.vocab * s.hidden) as f64 * (24 + size) as f64),
            make: |numbers, s| {
                let n = s.vocab * s.hidden;
                let gradient = numbers.tensor(1, [n]);
                let second = numbers.wide(4, [n]).square();
                let state = AdamWState { parameter: numbers.wide(2, [n]), first: numbers.wide(3, [n]), second };
                // In place: between two calls nobody else holds the tensors.
                let state = RefCell::new(Some(state));
                let step = AdamWStep {
                    learning_rate: 1e-3,
                    beta1: 0.9,
                    beta2: 0.999,
                    epsilon: 1e-8,
                    weight_decay: 0.1,
                    step: 10,
                    gradient_scale: 0.5,
                };
                Box::new(move || {
                    let next = state.take().map(|state| kernels::adamw(state, gradient.clone(), step));
                    state.replace(next.clone());
                    next.map(|next| vec![next.parameter, next.first, next.second]).unwrap_or_default()
                })
            },
        },
        Case {
            kernel: "sum_of_squares",
            pass: "forward",
            shape: |s| format!("{} × {}", s.vocab, s.hidden),
            work: |s, size| bytes(s.vocab * s.hidden, size),
            make: |numbers, s| {
                let x = numbers.tensor(1, [s.vocab * s.hidden]);
                Box::new(move || vec![kernels::sum_of_squares(x.clone())])
            },
        },
    ]
}
