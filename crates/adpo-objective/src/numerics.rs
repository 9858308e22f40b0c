//! `log σ`, `σ` and `log(1 − eˣ)` whose values *and* gradients stay finite and right far out.
//!
//! Written from elementary operations, so they behave alike on every Burn backend, under autodiff
//! as without it. What a backend offers itself varies: some take `log(σ(x))` apart literally, and
//! the slope of `min(x, 0)` at 0, where every preference loss starts, is a backend's free choice.

use burn::tensor::Tensor;

/// `log σ(z) = min(z, 0) − log(1 + e^{−|z|})`, elementwise. Its gradient is `σ(−z)`.
pub(crate) fn log_sigmoid(z: Tensor<1>) -> Tensor<1> {
    let upper = z.clone().greater_equal_elem(0.0);
    // −|z| as z times a constant sign, 0 counted as positive. There min(z, 0) has slope 0 and the
    // logarithm alone brings the true slope σ(0) = ½; and no two large slopes cancel anywhere on the
    // upper side, so the small gradients of well-separated examples keep their relative precision.
    let sign = upper.clone().float() * -2.0 + 1.0;
    z.clone().mask_fill(upper, 0.0) - (z * sign).exp().log1p()
}

/// `−log σ(z)`, elementwise: the softplus of `−z`.
pub(crate) fn neg_log_sigmoid(z: Tensor<1>) -> Tensor<1> {
    log_sigmoid(z).neg()
}

/// `σ(z)`, elementwise. Through the logarithm, because `s(1 − s)` loses the gradient of the upper
/// tail to rounding while `e^{log σ(z)} σ(−z)` keeps both.
pub(crate) fn sigmoid(z: Tensor<1>) -> Tensor<1> {
    log_sigmoid(z).exp()
}

/// Log-probs nearer to zero than this count as this: a certain event has infinite odds.
const CERTAIN: f64 = -1e-12;

/// `log(1 − eˣ)` for `x < 0`, elementwise; `x` above −1e-12 counts as −1e-12, with gradient 0.
///
/// Mächler, *Accurately computing log(1 − exp(−|a|))*, 2012: near zero `1 − eˣ` cancels, far from it
/// `log` of a number near 1 does, so each side of −ln 2 has a form of its own.
pub(crate) fn log1mexp(x: Tensor<1>) -> Tensor<1> {
    let certain = x.clone().greater_elem(CERTAIN);
    let x = x.mask_fill(certain, CERTAIN);
    let near = x.clone().greater_elem(-std::f64::consts::LN_2);
    // Each form only sees arguments of its own side. Elsewhere it gets a harmless stand-in: a mask
    // on the result alone would still let 0 · ∞ = NaN into the gradient.
    let y = x.clone().mask_fill(near.clone().bool_not(), -0.5).neg();
    let from_near = one_minus_exp_neg(y).log();
    let from_far = x.mask_fill(near.clone(), -1.0).exp().neg().log1p();
    from_far.mask_where(near, from_near)
}

/// `1 − e^{−y}` for `0 < y ≤ ln 2` by Horner's rule on `y(1 − y/2(1 − y/3(1 − …)))`; the first term
/// left out is below 1e-11 of the result. Burn has no `expm1`.
fn one_minus_exp_neg(y: Tensor<1>) -> Tensor<1> {
    let mut series = y.ones_like();
    for k in (2..=12).rev() {
        series = (y.clone() * series).div_scalar(-f64::from(k)).add_scalar(1.0);
    }
    y * series
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::{log_sigmoid, log1mexp, sigmoid};

    /// Values and gradients of `f` at `x`.
    fn at(f: fn(Tensor<1>) -> Tensor<1>, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let x = Tensor::<1>::from_floats(x, &Device::flex().autodiff()).require_grad();
        let y = f(x.clone());
        let gradients = y.clone().sum().backward();
        let gradient = x.grad(&gradients).expect("x was tracked");
        let read = |t: Tensor<1>| t.into_data().try_to_vec::<f32>().expect("f32 on Flex");
        (read(y), read(gradient))
    }

    fn close(found: f32, expected: f64, what: &str, at: f32) {
        let bound = 1e-6 * expected.abs().max(1.0);
        assert!((f64::from(found) - expected).abs() <= bound, "{what} at {at}: {found}, expected {expected}");
    }

    /// `edges` under the name of a function in golden.json: (x, y).
    fn edges(name: &str) -> (Vec<f64>, Vec<f64>) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/objective/golden.json");
        let text = std::fs::read_to_string(path).expect("the fixture is committed");
        let golden: serde_json::Value = serde_json::from_str(&text).expect("the fixture is JSON");
        let list = |key: &str| {
            let numbers = golden[name][key].as_array().expect("a list");
            numbers.iter().map(|n| n.as_f64().expect("a number")).collect()
        };
        (list("x"), list("y"))
    }

    #[test]
    fn log_sigmoid_and_its_gradient_are_right_up_to_800() {
        let (x, y) = edges("logsigmoid");
        let x: Vec<f32> = x.into_iter().map(|x| x as f32).collect();
        let (values, gradients) = at(log_sigmoid, &x);
        for i in 0..x.len() {
            close(values[i], y[i], "log σ", x[i]);
            close(gradients[i], 1.0 / (1.0 + f64::from(x[i]).exp()), "its gradient", x[i]);
        }
    }

    #[test]
    fn small_gradients_of_log_sigmoid_keep_their_relative_precision() {
        let x = [5.0, 10.0, 20.0, 40.0, 80.0];
        for (x, found) in x.into_iter().zip(at(log_sigmoid, &x).1) {
            let expected = 1.0 / (1.0 + f64::from(x).exp());
            assert!((f64::from(found) / expected - 1.0).abs() < 1e-6, "{found} at {x}, expected {expected}");
        }
    }

    #[test]
    fn log_sigmoid_has_limits_at_infinity() {
        let (values, gradients) = at(log_sigmoid, &[f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!(values, [0.0, f32::NEG_INFINITY]);
        assert_eq!(gradients, [0.0, 1.0]);
    }

    #[test]
    fn log_sigmoid_has_slope_one_half_exactly_at_zero() {
        assert_eq!(at(log_sigmoid, &[0.0, -0.0]).1, [0.5, 0.5]);
    }

    #[test]
    fn sigmoid_keeps_small_gradients_in_both_tails() {
        let x = [-800.0, -30.0, -3.0, 0.0, 3.0, 30.0, 800.0];
        let (values, gradients) = at(sigmoid, &x);
        for i in 0..x.len() {
            let s = 1.0 / (1.0 + f64::from(-x[i]).exp());
            close(values[i], s, "σ", x[i]);
            close(gradients[i], s * (1.0 - s), "its gradient", x[i]);
        }
        let tail = (-30.0_f64).exp();
        for i in [1, 5] {
            assert!((f64::from(gradients[i]) / tail - 1.0).abs() < 1e-5, "lost at {}", x[i]);
        }
    }

    #[test]
    fn log1mexp_is_right_on_both_sides_of_minus_ln_2() {
        let (mut x, mut y) = edges("log1mexp");
        for extra in [-0.69_f64, -0.694, -0.3, -800.0] {
            x.push(extra);
            y.push((-extra.exp_m1()).ln());
        }
        let x: Vec<f32> = x.into_iter().map(|x| x as f32).collect();
        let (values, gradients) = at(log1mexp, &x);
        for i in 0..x.len() {
            close(values[i], y[i], "log(1 − eˣ)", x[i]);
            let exact = f64::from(x[i]);
            close(gradients[i], exact.exp() / exact.exp_m1(), "its gradient", x[i]);
        }
    }

    #[test]
    fn log1mexp_of_a_certain_event_is_finite() {
        let (values, gradients) = at(log1mexp, &[0.0, -1e-20, 1e-3]);
        for value in values {
            close(value, -27.631_021_115_9, "log(1 − eˣ)", 0.0);
        }
        assert_eq!(gradients, [0.0; 3]);
    }
}
