//! BERT (Devlin et al. 2019, arXiv 1810.04805) as a sentence encoder: means of hidden states (Reimers & Gurevych 2019, arXiv 1908.10084).
//!
//! Texts of one length are encoded together. There is no padding, so that no text's embedding depends on its neighbours and no mask is
//! needed.

mod config;

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use crate::kernels;
use crate::layers::Linear;
use crate::llama::without_numbers;
use crate::parameters::{ParameterMap, ParameterVisitor};
pub use config::BertConfig;

/// Cells that are encoded at once: the matrix products are then as fast as they get, and the activations take 30 MB at MiniLM's width.
const CELLS: usize = 2048;

/// A BERT encoder.
#[derive(Module, Debug)]
pub struct Bert {
    words: Param<Tensor<2>>,
    positions: Param<Tensor<2>>,
    token_types: Param<Tensor<2>>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    #[module(skip)]
    config: BertConfig,
}

/// One layer: attention and feed-forward part, each added to its input and normed.
#[derive(Module, Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

/// `(x − mean) / sqrt(variance + ε) · weight + bias` (Ba et al. 2016).
#[derive(Module, Debug)]
struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    epsilon: f64,
}

impl Bert {
    /// The shape.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Means of each text's hidden states, one for each of `layers` (0: the embeddings that the first layer gets; `num_hidden_layers`: the
    /// last hidden states), each scaled to length 1, one after the other: `layers · hidden_size` numbers for each list of ids, in order. The
    /// last layer's is what sentence-transformers calls the embedding. Ids begin and end with the special tokens that the encoder was
    /// trained with.
    ///
    /// # Panics
    /// If a text has no ids, more than `max_position_embeddings`, or one outside the vocabulary; if there is no such layer.
    pub fn embed(&self, texts: &[Vec<u32>], layers: &[usize]) -> Vec<Vec<f32>> {
        assert!(layers.iter().all(|&layer| layer <= self.layers.len()), "layers are 0 to num_hidden_layers: {layers:?}");
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, ids) in texts.iter().enumerate() {
            by_length.entry(ids.len()).or_default().push(at);
        }
        let mut out = vec![Vec::new(); texts.len()];
        for (length, places) in by_length {
            for places in places.chunks((CELLS / length.max(1)).max(1)) {
                let rows: Vec<&[u32]> = places.iter().map(|&at| texts[at].as_slice()).collect();
                let mut means = Vec::new();
                self.run(&rows, |layer, x| {
                    if layers.contains(&layer) {
                        means.push((layer, pooled(x).into_data().iter::<f32>().collect::<Vec<f32>>()));
                    }
                });
                for layer in layers {
                    let (_, numbers) = means.iter().find(|(of, _)| of == layer).expect("every layer was run, and there are no others");
                    for (&at, row) in places.iter().zip(numbers.chunks_exact(self.config.hidden_size)) {
                        out[at].extend_from_slice(row);
                    }
                }
            }
        }
        out
    }

    /// The last hidden states `[rows, width, hidden]` of texts that all have `width` ids.
    ///
    /// # Panics
    /// As [`Bert::embed`], and if the texts are of different lengths.
    pub fn hidden(&self, rows: &[&[u32]]) -> Tensor<3> {
        self.run(rows, |_, _| {})
    }

    /// [`Bert::hidden`]; `see` gets the hidden states after each layer, from 0 on.
    fn run(&self, rows: &[&[u32]], mut see: impl FnMut(usize, &Tensor<3>)) -> Tensor<3> {
        let width = rows.first().map_or(0, |row| row.len());
        assert!((1..=self.config.max_position_embeddings).contains(&width), "{width} ids; there are 1 to max_position_embeddings");
        assert!(rows.iter().all(|row| row.len() == width), "all texts of a batch have {width} ids");
        let ids: Vec<i32> = rows.iter().flat_map(|row| row.iter().map(|&id| id as i32)).collect();
        let vocabulary = 0..self.config.vocab_size as i32;
        assert!(ids.iter().all(|id| vocabulary.contains(id)), "an id is outside the vocabulary");
        let (count, hidden) = (rows.len(), self.config.hidden_size);
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [count * width]), &self.words.val().device());
        let places = self.positions.val().narrow(0, 0, width) + self.token_types.val().narrow(0, 0, 1);
        let words = kernels::embedding(self.words.val(), ids).reshape([count, width, hidden]);
        let mut x: Tensor<3> =
            self.norm.forward((words + places.unsqueeze()).reshape([count * width, hidden])).reshape([count, width, hidden]);
        see(0, &x);
        for (i, layer) in self.layers.iter().enumerate() {
            let flat = layer.forward(x.reshape([count * width, hidden]), [count, width, self.config.num_attention_heads]);
            x = flat.reshape([count, width, hidden]);
            see(i + 1, &x);
        }
        x
    }

    /// Shows every parameter, by the names of checkpoints.
    pub(crate) fn visit_parameters(&self, visitor: &mut impl ParameterVisitor) {
        visitor.visit(WORDS, &self.words);
        visitor.visit(POSITIONS, &self.positions);
        visitor.visit(TOKEN_TYPES, &self.token_types);
        self.norm.visit(NORM, visitor);
        for (i, layer) in self.layers.iter().enumerate() {
            for (name, linear) in LINEARS.iter().zip(layer.linears()) {
                linear.visit(&format!("encoder.layer.{i}.{name}"), visitor);
            }
            for (name, norm) in NORMS.iter().zip([&layer.attention_norm, &layer.output_norm]) {
                norm.visit(&format!("encoder.layer.{i}.{name}"), visitor);
            }
        }
    }

    /// Replaces every parameter.
    #[must_use]
    pub(crate) fn map_parameters(self, map: &mut impl ParameterMap) -> Self {
        Self {
            words: map.map(WORDS, self.words),
            positions: map.map(POSITIONS, self.positions),
            token_types: map.map(TOKEN_TYPES, self.token_types),
            norm: self.norm.map(NORM, map),
            layers: self.layers.into_iter().enumerate().map(|(i, layer)| layer.map(&format!("encoder.layer.{i}"), map)).collect(),
            config: self.config,
        }
    }

    /// The shape without numbers: nothing is allocated, and whoever asks for it has to replace every parameter.
    pub(crate) fn blank(config: BertConfig, device: &Device) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |out, input| {
            let bias = Some(without_numbers([out], device));
            Linear { bias, ..Linear::new(without_numbers([out, input], device)) }
        };
        let norm = || LayerNorm {
            weight: without_numbers([hidden], device),
            bias: without_numbers([hidden], device),
            epsilon: config.layer_norm_eps,
        };
        let layer = || Layer {
            query: linear(hidden, hidden),
            key: linear(hidden, hidden),
            value: linear(hidden, hidden),
            attended: linear(hidden, hidden),
            attention_norm: norm(),
            intermediate: linear(inner, hidden),
            output: linear(hidden, inner),
            output_norm: norm(),
        };
        Self {
            words: without_numbers([config.vocab_size, hidden], device),
            positions: without_numbers([config.max_position_embeddings, hidden], device),
            token_types: without_numbers([config.type_vocab_size, hidden], device),
            norm: norm(),
            layers: (0..config.num_hidden_layers).map(|_| layer()).collect(),
            config,
        }
    }
}

/// Means over the cells of each text, `[rows, hidden]`, scaled to length 1.
fn pooled(x: &Tensor<3>) -> Tensor<2> {
    let mean = x.clone().mean_dim(1).squeeze_dim::<2>(1);
    let length = mean.clone().powi_scalar(2).sum_dim(1).sqrt();
    // The smallest length that sentence-transformers divides by.
    mean / length.clamp_min(1e-12)
}

const WORDS: &str = "embeddings.word_embeddings.weight";
const POSITIONS: &str = "embeddings.position_embeddings.weight";
const TOKEN_TYPES: &str = "embeddings.token_type_embeddings.weight";
const NORM: &str = "embeddings.LayerNorm";
/// Of a layer, in the order of [`Layer::linears`].
const LINEARS: [&str; 6] =
    ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "intermediate.dense", "output.dense"];
const NORMS: [&str; 2] = ["attention.output.LayerNorm", "output.LayerNorm"];

impl Layer {
    fn linears(&self) -> [&Linear; 6] {
        [&self.query, &self.key, &self.value, &self.attended, &self.intermediate, &self.output]
    }

    fn map(self, name: &str, map: &mut impl ParameterMap) -> Self {
        let [query, key, value, attended, intermediate, output] = LINEARS.map(|part| format!("{name}.{part}"));
        let [attention_norm, output_norm] = NORMS.map(|part| format!("{name}.{part}"));
        Self {
            query: self.query.map(&query, map),
            key: self.key.map(&key, map),
            value: self.value.map(&value, map),
            attended: self.attended.map(&attended, map),
            intermediate: self.intermediate.map(&intermediate, map),
            output: self.output.map(&output, map),
            attention_norm: self.attention_norm.map(&attention_norm, map),
            output_norm: self.output_norm.map(&output_norm, map),
        }
    }

    /// `x` `[rows · width, hidden]` of `[rows, width, heads]`.
    fn forward(&self, x: Tensor<2>, [rows, width, heads]: [usize; 3]) -> Tensor<2> {
        let hidden = x.dims()[1];
        let by_head = |linear: &Linear| {
            let y: Tensor<4> = linear.forward(x.clone()).reshape([rows, width, heads, hidden / heads]);
            y.swap_dims(1, 2)
        };
        let (q, k, v) = (by_head(&self.query), by_head(&self.key), by_head(&self.value));
        let scale = ((hidden / heads) as f64).sqrt();
        let attention = activation::softmax(q.matmul(k.transpose()) / scale, 3);
        let attended = attention.matmul(v).swap_dims(1, 2).reshape([rows * width, hidden]);
        let x = self.attention_norm.forward(x + self.attended.forward(attended));
        let inner = activation::gelu(self.intermediate.forward(x.clone()));
        self.output_norm.forward(x + self.output.forward(inner))
    }
}

impl LayerNorm {
    fn visit(&self, name: &str, visitor: &mut impl ParameterVisitor) {
        visitor.visit(&format!("{name}.weight"), &self.weight);
        visitor.visit(&format!("{name}.bias"), &self.bias);
    }

    fn map(self, name: &str, map: &mut impl ParameterMap) -> Self {
        Self { weight: map.map(&format!("{name}.weight"), self.weight), bias: map.map(&format!("{name}.bias"), self.bias), ..self }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let centred = x.clone() - x.mean_dim(1);
        let variance = centred.clone().powi_scalar(2).mean_dim(1);
        centred / (variance + self.epsilon).sqrt() * self.weight.val().unsqueeze() + self.bias.val().unsqueeze()
    }
}
