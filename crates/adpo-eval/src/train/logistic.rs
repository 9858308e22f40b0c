//! Logistic regression by AdaGrad on sparse rows, and Platt calibration. One thread, one fixed order: the same rows
//! give the same bits.

use crate::embedded::head::{Features, Head, ROUTES, Router, Table, sigmoid, softmax};
use crate::statistics::SplitMix;

/// A training row; weights let small sources count as much as large ones.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) features: Features,
    pub(crate) label: bool,
    pub(crate) weight: f32,
}

/// How long and how hard to fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fit {
    pub(crate) epochs: u32,
    pub(crate) rate: f32,
    /// Shrinks each weight that a row touches.
    pub(crate) decay: f32,
}

/// A parameter vector with AdaGrad's sums of squares (Duchi, Hazan & Singer 2011).
struct Weights {
    values: Vec<f32>,
    squares: Vec<f32>,
}

impl Weights {
    fn new(len: usize) -> Self {
        Self { values: vec![0.0; len], squares: vec![1e-6; len] }
    }

    fn step(&mut self, index: usize, gradient: f32, fit: &Fit) {
        let gradient = gradient + fit.decay * self.values[index];
        self.squares[index] += gradient * gradient;
        self.values[index] -= fit.rate * gradient / self.squares[index].sqrt();
    }
}

/// Fits a head with a table of `slots` (0: dense features alone); it comes back quantised and not yet calibrated.
pub(crate) fn fit(rows: &[Row], slots: usize, fit: Fit, seed: u64) -> Head {
    let dense_len = rows.first().map_or(0, |row| row.features.dense.len());
    let (mut table, mut dense, mut bias) = (Weights::new(slots), Weights::new(dense_len), Weights::new(1));
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut random = SplitMix::new(seed);
    for epoch in 0..fit.epochs {
        random.shuffle(&mut order);
        let fit = Fit { rate: fit.rate / (1.0 + epoch as f32 / 2.0).sqrt(), ..fit };
        for &i in &order {
            let Row { features, label, weight } = &rows[i];
            let hashed: f32 = features.hashed.iter().map(|&(at, x)| table.values[at as usize] * x).sum();
            let plain: f32 = features.dense.iter().zip(&dense.values).map(|(x, w)| x * w).sum();
            let margin = f64::from(bias.values[0] + hashed + plain);
            let error = weight * (sigmoid(margin) as f32 - f32::from(*label));
            for &(at, x) in &features.hashed {
                table.step(at as usize, error * x, &fit);
            }
            for (at, &x) in features.dense.iter().enumerate() {
                if x != 0.0 {
                    dense.step(at, error * x, &fit);
                }
            }
            bias.step(0, error, &Fit { decay: 0.0, ..fit });
        }
    }
    Head { table: Table::quantise(&table.values), dense: dense.values, bias: bias.values[0], calibration: (1.0, 0.0) }
}

/// Fits the router: multinomial logistic regression, eight weights per slot.
pub(crate) fn fit_router(rows: &[(Features, usize, f32)], slots: usize, fit: Fit, seed: u64) -> Router {
    let (mut table, mut bias) = (Weights::new(8 * slots), Weights::new(ROUTES));
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut random = SplitMix::new(seed);
    for epoch in 0..fit.epochs {
        random.shuffle(&mut order);
        let fit = Fit { rate: fit.rate / (1.0 + epoch as f32 / 2.0).sqrt(), ..fit };
        for &i in &order {
            let (features, route, weight) = &rows[i];
            let mut margins: [f32; ROUTES] = std::array::from_fn(|k| bias.values[k]);
            for &(at, x) in &features.hashed {
                let weights = &table.values[at as usize * 8..][..ROUTES];
                margins.iter_mut().zip(weights).for_each(|(margin, w)| *margin += w * x);
            }
            let mut errors = softmax(margins);
            errors[*route] -= 1.0;
            for (k, error) in errors.iter().enumerate() {
                for &(at, x) in &features.hashed {
                    table.step(at as usize * 8 + k, weight * error * x, &fit);
                }
                bias.step(k, weight * error, &Fit { decay: 0.0, ..fit });
            }
        }
    }
    Router { table: Table::quantise(&table.values), bias: std::array::from_fn(|k| bias.values[k]) }
}

/// Slope and offset that make margins into log-odds (Platt 1999), by Newton's method on rows not used for fitting.
///
/// Targets are smoothed as Platt proposes, so that perfectly separated rows do not give an infinite slope.
pub(crate) fn calibrate(rows: &[(f32, bool, f32)]) -> (f32, f32) {
    let total = |label: bool| rows.iter().filter(|row| row.1 == label).map(|row| f64::from(row.2)).sum::<f64>();
    let count = |label: bool| rows.iter().filter(|row| row.1 == label).count() as f64;
    if total(true) == 0.0 || total(false) == 0.0 {
        return (1.0, 0.0);
    }
    let (high, low) = ((count(true) + 1.0) / (count(true) + 2.0), 1.0 / (count(false) + 2.0));
    let (mut slope, mut offset) = (1.0_f64, 0.0_f64);
    for _ in 0..50 {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-3, 0.0, 1e-3);
        for &(margin, label, weight) in rows {
            let (x, weight) = (f64::from(margin), f64::from(weight));
            let p = sigmoid(slope * x + offset);
            let error = weight * (p - if label { high } else { low });
            let curve = weight * p * (1.0 - p);
            ga += error * x;
            gb += error;
            haa += curve * x * x;
            hab += curve * x;
            hbb += curve;
        }
        let determinant = haa * hbb - hab * hab;
        let (da, db) = ((hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant);
        // Half steps when the full one is wild: the loss is convex, so this still arrives.
        let damping = (1.0 / da.abs().max(db.abs())).min(1.0);
        slope -= damping * da;
        offset -= damping * db;
        if da.abs() + db.abs() < 1e-9 {
            break;
        }
    }
    // A head that is worse than chance on these rows must not be turned round.
    (slope.max(0.05) as f32, offset as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(at: u32, label: bool) -> Row {
        let features = Features { hashed: vec![(at, 1.0)], dense: vec![1.0] };
        Row { features, label, weight: 1.0 }
    }

    #[test]
    fn a_separable_problem_is_separated_and_repeats_to_the_bit() {
        let rows: Vec<Row> = (0..40).map(|i| row(i % 4, i % 4 < 2)).collect();
        let options = Fit { epochs: 10, rate: 0.3, decay: 0.0 };
        let head = fit(&rows, 4, options, 1);
        assert!(rows.iter().all(|row| (head.margin(&row.features) > 0.0) == row.label));
        assert_eq!(fit(&rows, 4, options, 1).table.data, head.table.data);
    }

    #[test]
    fn calibration_recovers_known_slope_and_offset() {
        let truth = |x: f64| sigmoid(2.0 * x - 1.0);
        let mut rows = Vec::new();
        for i in 0..200 {
            let x = f64::from(i) / 50.0 - 2.0;
            rows.push((x as f32, true, truth(x) as f32));
            rows.push((x as f32, false, 1.0 - truth(x) as f32));
        }
        let (slope, offset) = calibrate(&rows);
        assert!((slope - 2.0).abs() < 0.1 && (offset + 1.0).abs() < 0.1, "{slope} {offset}");
    }

    #[test]
    fn one_sided_rows_leave_the_margin_alone() {
        assert_eq!(calibrate(&[(1.0, true, 1.0)]), (1.0, 0.0));
    }
}
