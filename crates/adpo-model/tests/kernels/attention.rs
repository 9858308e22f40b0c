use adpo_model::kernels::{self, AttentionMask};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::harness::{Random, check, devices, host, off, tensor};

/// rows, width, heads, kv_heads, dim
type Shape = [usize; 5];

struct Case {
    shape: Shape,
    segments: Vec<u32>,
    branches: Vec<u32>,
    deviation: f64,
}

fn definition([rows, width, heads, kv_heads, dim]: Shape, segments: &[u32], branches: &[u32], t: &[Vec<f64>]) -> Vec<f64> {
    let mut o = vec![0.0; rows * width * heads * dim];
    for row in 0..rows {
        for q in 0..width {
            for head in 0..heads {
                let cell = |at: usize| row * width + at;
                let key = |at: usize| (cell(at) * kv_heads + head / (heads / kv_heads)) * dim;
                let query = (cell(q) * heads + head) * dim;
                let seen: Vec<usize> = (0..=q)
                    .filter(|k| {
                        let (b, k) = (branches[cell(*k)], segments[cell(*k)]);
                        k == segments[cell(q)] && (b == 0 || b == branches[cell(q)])
                    })
                    .collect();
                let score = |k: usize| (0..dim).map(|i| t[0][query + i] * t[1][key(k) + i]).sum::<f64>() / (dim as f64).sqrt();
                let scores: Vec<f64> = seen.iter().map(|k| score(*k)).collect();
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
                for (k, score) in seen.iter().zip(scores) {
                    for i in 0..dim {
                        o[query + i] += (score - top).exp() / total * t[2][key(*k) + i];
                    }
                }
            }
        }
    }
    o
}

fn attend([rows, width, heads, kv_heads, dim]: Shape, segments: &[u32], branches: &[u32], t: &[Tensor<1>]) -> Tensor<1> {
    let mask = AttentionMask::new(segments, branches, rows, width, &t[0].device());
    let by = |i: usize, heads: usize| t[i].clone().reshape([rows, width, heads, dim]);
    kernels::attention(by(0, heads), by(1, kv_heads), by(2, kv_heads), &mask).reshape([rows * width * heads * dim])
}

impl Case {
    /// Every row one sequence.
    fn plain(shape: Shape, deviation: f64) -> Self {
        Self { shape, segments: vec![1; shape[0] * shape[1]], branches: vec![0; shape[0] * shape[1]], deviation }
    }

    fn check(&self, what: &str) {
        let [rows, width, heads, kv_heads, dim] = self.shape;
        let mut random = Random(width as u64);
        let q = random.normals(rows * width * heads * dim, self.deviation);
        let [k, v] = [self.deviation, 1.0].map(|deviation| random.normals(rows * width * kv_heads * dim, deviation));
        check(
            &format!("{what} {:?}", self.shape),
            &|t| attend(self.shape, &self.segments, &self.branches, t),
            &|t| definition(self.shape, &self.segments, &self.branches, t),
            &[q, k, v],
            2e-5,
        );
    }
}

#[test]
fn causal_attention_is_its_definition() {
    for shape in [[1, 1, 1, 1, 1], [2, 3, 2, 2, 5], [3, 40, 4, 2, 16], [1, 65, 6, 1, 8], [2, 130, 3, 3, 32], [1, 300, 2, 1, 64]] {
        Case::plain(shape, 1.0).check("causal");
    }
}

#[test]
fn scores_beyond_the_range_of_exp_are_no_trouble() {
    Case::plain([2, 33, 2, 2, 16], 12.0).check("extreme");
    Case::plain([1, 270, 1, 1, 4], 8.0).check("extreme");
}

#[test]
fn packed_sequences_and_padding_do_not_see_each_other() {
    let mut segments: Vec<u32> = [(1, 30), (2, 1), (3, 80), (4, 300), (0, 9)].iter().flat_map(|(s, n)| vec![*s; *n]).collect();
    segments.extend((0..420).map(|i| 5 + u32::from(i >= 257)));
    Case { shape: [2, 420, 2, 1, 8], branches: vec![0; 840], segments, deviation: 1.0 }.check("packed");
}

#[test]
fn completions_see_their_prompt_and_themselves() {
    let mut random = Random(77);
    let (mut segments, mut branches) = (Vec::new(), Vec::new());
    for segment in 1..4 {
        for (branch, length) in [(0, 20 + random.below(60)), (1, 1 + random.below(40)), (2, 30), (3, 1 + random.below(50))] {
            segments.extend(vec![segment; length]);
            branches.extend(vec![branch; length]);
        }
    }
    let width = segments.len();
    let case = Case { shape: [1, width, 4, 2, 8], segments, branches, deviation: 1.0 };
    case.check("branches");
}

/// Only there are matrix instructions without a GPU; a device that has none fails, so nothing else is tested unnoticed.
#[cfg(feature = "vulkan")]
#[test]
fn matrix_instructions_give_the_definition() {
    let device = devices().pop().expect("a device");
    // A prompt with two completions, then, where a tile begins, another sequence, then padding.
    let parts = [(1, 0, 12), (1, 1, 13), (1, 2, 7), (2, 0, 9), (0, 0, 4)];
    let by_cell = |of: fn(&(u32, u32, usize)) -> u32| parts.iter().flat_map(|part| vec![of(part); part.2]).collect::<Vec<u32>>();
    let mixed = |shape| Case { shape, segments: by_cell(|part| part.0), branches: by_cell(|part| part.1), deviation: 1.0 };
    let cases =
        [mixed([1, 45, 2, 1, 64]), mixed([1, 45, 2, 2, 16]), Case::plain([1, 20, 2, 1, 128], 1.0), Case::plain([2, 32, 1, 1, 16], 12.0)];
    for case in cases {
        let [rows, width, heads, _, dim] = case.shape;
        let q = Tensor::zeros([rows, width, heads, dim], (&device, DType::F16));
        assert!(
            kernels::attention_on_matrix_instructions(q),
            "{device:?} has none for {:?}; Mesa's lavapipe does from 26.1 on",
            case.shape
        );
        case.check("on matrix instructions");
    }
}

#[test]
fn an_completion_is_the_same_to_the_last_bit_whatever_lies_beside_it() {
    let (heads, kv_heads, dim) = (4, 2, 16);
    // (what it is, segment, branch, cells); in the second row the prompt lies elsewhere and its completions in another order.
    let rows = [
        [("prompt", 1, 0, 90), ("a", 1, 1, 70), ("b", 1, 2, 33), ("other", 2, 0, 24)],
        [("other", 1, 0, 24), ("prompt", 2, 0, 90), ("b", 2, 1, 33), ("a", 2, 2, 70)],
    ];
    let outputs = rows.map(|row| {
        let width: usize = row.iter().map(|(.., cells)| cells).sum();
        let by_cell = |of: fn(&(&str, u32, u32, usize)) -> u32| row.iter().flat_map(|part| vec![of(part); part.3]).collect::<Vec<u32>>();
        // Each part's numbers follow from its name, so they are the same in both rows.
        let numbers = |seed: u64, heads: usize| -> Vec<f64> {
            row.iter()
                .flat_map(|(name, .., cells)| Random(seed ^ u64::from(name.as_bytes()[0])).normals(cells * heads * dim, 1.0))
                .collect()
        };
        let inputs = [(1 << 20, heads), (2 << 20, kv_heads), (3 << 20, kv_heads)].map(|(seed, heads)| numbers(seed, heads));
        let inputs = inputs.map(|values| tensor(&values, DType::F32, &Device::flex()));
        let output = host(attend([1, width, heads, kv_heads, dim], &by_cell(|part| part.1), &by_cell(|part| part.2), &inputs));
        let mut rest = output.as_slice();
        let parts = row.map(|(name, .., cells)| {
            let (own, after) = rest.split_at(cells * heads * dim);
            rest = after;
            (name, own.to_vec())
        });
        std::collections::BTreeMap::from(parts)
    });
    assert!(outputs[0] == outputs[1], "the same cells, other bits");
}

#[test]
fn the_cache_is_read_where_it_lies() {
    for (shape, capacity, used) in [([1, 1, 1, 1, 3], 4, 1), ([3, 1, 4, 2, 16], 50, 37), ([5, 1, 6, 1, 32], 200, 200)] {
        let [rows, _, heads, kv_heads, dim] = shape;
        let mut random = Random(9);
        let first: Vec<usize> = (0..rows).map(|row| (row * 3).min(used - 1)).collect();
        let q = random.normals(rows * heads * dim, 1.0);
        let [keys, values] = [0, 1].map(|_| random.normals(rows * capacity * kv_heads * dim, 1.0));
        let expected: Vec<f64> = (0..rows)
            .flat_map(|row| {
                // The last query of a row of which the cells before `first` are another segment.
                let cells = |cache: &[f64]| cache[row * capacity * kv_heads * dim..][..used * kv_heads * dim].to_vec();
                let mut all = vec![0.0; used * heads * dim];
                all[(used - 1) * heads * dim..].copy_from_slice(&q[row * heads * dim..][..heads * dim]);
                let segments: Vec<u32> = (0..used).map(|at| u32::from(at >= first[row])).collect();
                let o = definition([1, used, heads, kv_heads, dim], &segments, &vec![0; used], &[all, cells(&keys), cells(&values)]);
                o[(used - 1) * heads * dim..].to_vec()
            })
            .collect();
        let f64_on_cpu = (Device::flex(), DType::F64, 1e-11);
        for (device, dtype, tolerance) in devices().into_iter().map(|device| (device, DType::F32, 1e-5)).chain([f64_on_cpu]) {
            let cache = |values: &[f64]| tensor(values, dtype, &device).reshape([rows, capacity, kv_heads, dim]);
            let first: Vec<i32> = first.iter().map(|first| *first as i32).collect();
            let first = Tensor::<1, Int>::from_data(TensorData::new(first, [rows]), &device);
            let q = tensor(&q, dtype, &device).reshape([rows, heads, dim]);
            let found = host(kernels::attention_cached(q, cache(&keys), cache(&values), first, used));
            assert!(off(&found, &expected) <= tolerance, "{shape:?} {dtype:?} on {device:?}: off by {:e}", off(&found, &expected));
        }
    }
}
