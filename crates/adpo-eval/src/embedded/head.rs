//! Linear heads over hashed features, with weights of one byte each.

/// Quantised numbers.
///
/// One byte each, on a scale whose steps grow with the value: `scale · sign(q) · (q/127)²`. Most weights of a sparse
/// linear model are small and a few are large; even steps would round the small ones away.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) data: Vec<i8>,
    pub(crate) scale: f32,
    decoded: Box<[f32; 256]>,
}

impl Table {
    pub(crate) fn from_parts(data: Vec<i8>, scale: f32) -> Self {
        let decode = |byte: usize| {
            let q = f32::from(byte as u8 as i8) / 127.0;
            scale * q * q.abs()
        };
        Self { data, scale, decoded: Box::new(std::array::from_fn(decode)) }
    }

    pub(crate) fn quantise(values: &[f32]) -> Self {
        let scale = values.iter().fold(0.0_f32, |top, value| top.max(value.abs()));
        let encode = |value: &f32| {
            if scale == 0.0 { 0 } else { (value.signum() * (value.abs() / scale).sqrt() * 127.0).round() as i8 }
        };
        Self::from_parts(values.iter().map(encode).collect(), scale)
    }

    /// The number at `index`, which wraps around (table sizes are powers of two, or products with one).
    pub(crate) fn get(&self, index: u32) -> f32 {
        self.data.get(index as usize).map_or(0.0, |&byte| self.decoded[usize::from(byte as u8)])
    }
}

/// What one head sees of one exchange.
#[derive(Debug, Clone, Default)]
pub(crate) struct Features {
    /// Index into the head's table, and value.
    pub(crate) hashed: Vec<(u32, f32)>,
    /// Values with a full-precision weight each.
    pub(crate) dense: Vec<f32>,
}

impl Features {
    /// Adds one family of hashed n-grams, scaled so that a long text weighs as much as a short one.
    pub(crate) fn add(&mut self, bits: u32, salt: u64, grams: &[u64], weight: f32) {
        let value = weight / (grams.len().max(1) as f32).sqrt();
        self.hashed.extend(grams.iter().map(|&gram| (slot(bits, salt, gram), value)));
    }
}

/// Where a gram lives in a table of 2^`bits` slots.
pub(crate) fn slot(bits: u32, salt: u64, gram: u64) -> u32 {
    let spread = (gram ^ salt.wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread >> (64 - bits)) as u32
}

/// A calibrated logistic head.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) table: Table,
    pub(crate) dense: Vec<f32>,
    pub(crate) bias: f32,
    /// Slope and offset that turn the margin into calibrated log-odds (Platt 1999).
    pub(crate) calibration: (f32, f32),
}

impl Head {
    /// Uncalibrated log-odds.
    pub(crate) fn margin(&self, features: &Features) -> f32 {
        let hashed: f32 = features.hashed.iter().map(|&(index, value)| self.table.get(index) * value).sum();
        let dense: f32 = features.dense.iter().zip(&self.dense).map(|(x, w)| x * w).sum();
        self.bias + hashed + dense
    }

    pub(crate) fn probability(&self, features: &Features) -> f64 {
        let (slope, offset) = self.calibration;
        sigmoid(f64::from(slope * self.margin(features) + offset))
    }
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Kinds of context that the router tells apart: the five of DiaSafety, and everyday talk.
pub(crate) const ROUTES: usize = 6;

/// Kinds of evasion: refusal, partial, deflection.
pub(crate) const KINDS: usize = 3;

/// Weights beside each other for one slot of a [`Multinomial`].
pub(crate) const CLASSES: usize = 8;

/// Says which of `N` (at most [`CLASSES`]) kinds a text is, as probabilities.
#[derive(Debug, Clone)]
pub(crate) struct Multinomial<const N: usize> {
    /// [`CLASSES`] weights for each slot, the first `N` of them in use.
    pub(crate) table: Table,
    pub(crate) bias: [f32; N],
}

impl<const N: usize> Multinomial<N> {
    pub(crate) fn probabilities(&self, features: &Features) -> [f32; N] {
        let mut margins = self.bias;
        for &(index, value) in &features.hashed {
            for (class, margin) in margins.iter_mut().enumerate() {
                *margin += self.table.get(index * CLASSES as u32 + class as u32) * value;
            }
        }
        softmax(margins)
    }
}

pub(crate) fn softmax<const N: usize>(mut margins: [f32; N]) -> [f32; N] {
    let top = margins.iter().fold(f32::NEG_INFINITY, |top, &margin| top.max(margin));
    for margin in &mut margins {
        *margin = (*margin - top).exp();
    }
    let sum: f32 = margins.iter().sum();
    margins.map(|margin| margin / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantisation_keeps_small_weights_beside_large_ones() {
        let values = [8.0, -8.0, 0.01, -0.01, 0.0, 1.0];
        let table = Table::quantise(&values);
        for (i, value) in values.iter().enumerate() {
            let error = (table.get(i as u32) - value).abs();
            assert!(error <= 0.01 * value.abs().max(0.1) + 0.006, "{value}: off by {error}");
        }
        assert_eq!(table.get(99), 0.0);
        assert_eq!(Table::quantise(&[0.0; 3]).get(1), 0.0);
    }

    #[test]
    fn softmax_sums_to_one_for_extreme_margins() {
        let probabilities = softmax([800.0, -800.0, 0.0, 0.0, 0.0, 800.0]);
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
