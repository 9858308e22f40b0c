//! Logistic regression with a squared penalty, by L-BFGS on sparse rows, and Platt calibration. One thread, one fixed
//! order: the same rows give the same bits.

use crate::embedded::head::{CLASSES, Features, Head, Multinomial, Table, sigmoid};

/// A training row; weights let small sources count as much as large ones.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) features: Features,
    pub(crate) label: bool,
    pub(crate) weight: f32,
}

/// Full-precision parameters of a linear model.
struct Linear {
    table: Vec<f32>,
    dense: Vec<f32>,
    bias: f32,
}

/// Fits a head with a table of `slots` (0: dense features alone); it comes back quantised and not yet calibrated.
///
/// `strength` is the inverse of the penalty (`C` of scikit-learn's `LogisticRegression`).
pub(crate) fn fit(rows: &[Row], slots: usize, strength: f64) -> Head {
    let features: Vec<&Features> = rows.iter().map(|row| &row.features).collect();
    let targets: Vec<(bool, f32)> = rows.iter().map(|row| (row.label, row.weight)).collect();
    let linear = minimise(&features, &targets, slots, strength);
    Head { table: Table::quantise(&linear.table), dense: linear.dense, bias: linear.bias, calibration: (1.0, 0.0) }
}

/// Fits one class against all others for each class, as the margins of one softmax; rows are features, class, weight.
pub(crate) fn fit_classes<const N: usize>(rows: &[(Features, usize, f32)], slots: usize, strength: f64) -> Multinomial<N> {
    let features: Vec<&Features> = rows.iter().map(|row| &row.0).collect();
    let mut table = vec![0.0; CLASSES * slots];
    let mut bias = [0.0; N];
    for class in 0..N {
        let targets: Vec<(bool, f32)> = rows.iter().map(|row| (row.1 == class, row.2)).collect();
        let linear = minimise(&features, &targets, slots, strength);
        for (slot, weight) in linear.table.into_iter().enumerate() {
            table[CLASSES * slot + class] = weight;
        }
        bias[class] = linear.bias;
    }
    Multinomial { table: Table::quantise(&table), bias }
}

/// Corrections that L-BFGS remembers, and its longest run.
const MEMORY: usize = 8;
const STEPS: usize = 60;

/// Minimises the penalised logistic loss (L-BFGS; Nocedal & Wright 2006, algorithm 7.4, Armijo steps).
///
/// Slots are scaled by their inverse document frequency before they are penalised, so that a rare phrase costs less
/// than a common one; slots that a single row uses stay out.
fn minimise(features: &[&Features], targets: &[(bool, f32)], slots: usize, strength: f64) -> Linear {
    let wide = features.first().map_or(0, |row| row.dense.len());
    let scales = inverse_frequencies(features, slots);
    let total: f64 = targets.iter().map(|row| f64::from(row.1)).sum();
    let penalty = 1.0 / (strength * total.max(1.0));
    let size = slots + wide + 1;
    // Parameters in order: slots, dense, bias. The bias alone is free of the penalty.
    let loss = |w: &[f64], gradient: &mut [f64]| -> f64 {
        gradient.fill(0.0);
        let mut sum = 0.0;
        for (row, &(label, weight)) in features.iter().zip(targets) {
            let hashed: f64 = row.hashed.iter().map(|&(at, x)| w[at as usize] * f64::from(scales[at as usize] * x)).sum();
            let dense: f64 = row.dense.iter().zip(&w[slots..]).map(|(&x, w)| w * f64::from(x)).sum();
            let signed = if label { 1.0 } else { -1.0 } * (w[size - 1] + hashed + dense);
            let weight = f64::from(weight) / total;
            sum += weight * ((-signed.abs()).exp().ln_1p() + (-signed).max(0.0));
            let error = weight * (sigmoid(-signed)) * if label { -1.0 } else { 1.0 };
            for &(at, x) in &row.hashed {
                gradient[at as usize] += error * f64::from(scales[at as usize] * x);
            }
            for (slot, &x) in gradient[slots..].iter_mut().zip(&row.dense) {
                *slot += error * f64::from(x);
            }
            gradient[size - 1] += error;
        }
        for (slot, w) in gradient[..size - 1].iter_mut().zip(w) {
            *slot += penalty * w;
            sum += 0.5 * penalty * w * w;
        }
        sum
    };
    let w = lbfgs(size, loss);
    let table = w[..slots].iter().zip(&scales).map(|(w, scale)| *w as f32 * scale).collect();
    Linear { table, dense: w[slots..size - 1].iter().map(|&w| w as f32).collect(), bias: w[size - 1] as f32 }
}

/// 1 + ln(rows / rows with the slot), over four; 0 for a slot of fewer than two rows.
fn inverse_frequencies(features: &[&Features], slots: usize) -> Vec<f32> {
    let mut seen = vec![0.0_f32; slots];
    for row in features {
        let mut used: Vec<u32> = row.hashed.iter().map(|entry| entry.0).collect();
        used.sort_unstable();
        used.dedup();
        used.into_iter().for_each(|at| seen[at as usize] += 1.0);
    }
    let n = features.len() as f32;
    seen.iter().map(|&count| if count < 2.0 { 0.0 } else { (1.0 + (n / count).ln()) / 4.0 }).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn lbfgs(size: usize, loss: impl Fn(&[f64], &mut [f64]) -> f64) -> Vec<f64> {
    let (mut w, mut gradient) = (vec![0.0; size], vec![0.0; size]);
    let mut value = loss(&w, &mut gradient);
    let mut memory: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
    for _ in 0..STEPS {
        let direction = direction(&gradient, &memory);
        let slope = dot(&direction, &gradient);
        if slope > -1e-10 {
            break;
        }
        let mut step = if memory.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1e-3) } else { 1.0 };
        let mut new_gradient = vec![0.0; size];
        let moved = loop {
            let there: Vec<f64> = w.iter().zip(&direction).map(|(w, d)| w + step * d).collect();
            let new_value = loss(&there, &mut new_gradient);
            if new_value <= value + 1e-4 * step * slope {
                break Some((there, new_value));
            }
            step *= 0.5;
            if step < 1e-6 {
                break None;
            }
        };
        let Some((there, new_value)) = moved else { break };
        let change: Vec<f64> = there.iter().zip(&w).map(|(a, b)| a - b).collect();
        let bend: Vec<f64> = new_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        if dot(&change, &bend) > 1e-14 {
            if memory.len() == MEMORY {
                memory.remove(0);
            }
            memory.push((change, bend));
        }
        let gain = value - new_value;
        (w, gradient, value) = (there, new_gradient, new_value);
        if gain < 1e-6 * value {
            break;
        }
    }
    w
}

/// The two-loop recursion.
fn direction(gradient: &[f64], memory: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for (change, bend) in memory.iter().rev() {
        let share = dot(change, &q) / dot(change, bend);
        q.iter_mut().zip(bend).for_each(|(q, y)| *q -= share * y);
        shares.push(share);
    }
    if let Some((change, bend)) = memory.last() {
        let scale = dot(change, bend) / dot(bend, bend);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((change, bend), share) in memory.iter().zip(shares.into_iter().rev()) {
        let back = dot(bend, &q) / dot(change, bend);
        q.iter_mut().zip(change).for_each(|(q, s)| *q += (share - back) * s);
    }
    q
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
        let head = fit(&rows, 4, 10.0);
        assert!(rows.iter().all(|row| (head.margin(&row.features) > 0.0) == row.label));
        assert_eq!(fit(&rows, 4, 10.0).table.data, head.table.data);
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
