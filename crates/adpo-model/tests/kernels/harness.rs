//! Random inputs, and the comparison of a kernel with its definition.

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Numbers that depend on a seed alone (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// Roughly normal, of this deviation, and exact in f32.
    pub(crate) fn normal(&mut self, deviation: f64) -> f64 {
        let sum: f64 = (0..12).map(|_| (self.bits() >> 11) as f64 / (1u64 << 53) as f64).sum();
        f64::from(((sum - 6.0) * deviation) as f32)
    }

    pub(crate) fn normals(&mut self, n: usize, deviation: f64) -> Vec<f64> {
        (0..n).map(|_| self.normal(deviation)).collect()
    }
}

/// Where kernels are tested: the CPU, and the GPU that this build is for. Without a GPU, Mesa's lavapipe is one.
pub(crate) fn devices() -> Vec<Device> {
    Vec::from([
        Device::flex(),
        #[cfg(feature = "cuda")]
        Device::cuda(0),
        #[cfg(all(feature = "vulkan", not(feature = "cuda")))]
        Device::vulkan(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(all(feature = "wgpu", not(any(feature = "cuda", feature = "vulkan"))))]
        Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
    ])
}

/// An operation on flat tensors, to be reshaped inside; the result flat as well.
pub(crate) type Operation<'a> = &'a dyn Fn(&[Tensor<1>]) -> Tensor<1>;
/// Its definition on plain numbers.
pub(crate) type Definition<'a> = &'a dyn Fn(&[Vec<f64>]) -> Vec<f64>;

pub(crate) fn tensor(values: &[f64], dtype: DType, device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, dtype))
}

pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Value and gradients, with `upstream` as the gradient of the result.
fn run(operation: Operation<'_>, inputs: &[Vec<f64>], upstream: &[f64], dtype: DType, device: &Device) -> (Vec<f64>, Vec<Vec<f64>>) {
    let device = device.clone().autodiff();
    let leaves: Vec<Tensor<1>> = inputs.iter().map(|input| tensor(input, dtype, &device).require_grad()).collect();
    let y = operation(&leaves);
    // Log-probs are f32 whatever goes in.
    let mut gradients = (y.clone() * tensor(upstream, y.dtype(), &device)).sum().backward();
    let gradients = leaves.iter().map(|leaf| host(leaf.grad_remove(&mut gradients).expect("every input has a gradient"))).collect();
    (host(y.inner()), gradients)
}

/// The largest difference relative to the largest number.
pub(crate) fn off(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|x| x.is_finite()), "a number is not finite");
    let scale = expected.iter().fold(1e-30_f64, |max, x| max.max(x.abs()));
    found.iter().zip(expected).fold(0.0_f64, |max, (a, b)| max.max((a - b).abs())) / scale
}

/// The kernel in f32 within `tolerance` of its definition, value and gradients; the definition on tensors that of plain Rust.
pub(crate) fn check(what: &str, operation: Operation<'_>, definition: Definition<'_>, inputs: &[Vec<f64>], tolerance: f64) {
    let mut random = Random(inputs.iter().map(Vec::len).sum::<usize>() as u64);
    let expected = definition(inputs);
    let upstream = random.normals(expected.len(), 1.0);
    let (exact, exact_gradients) = run(operation, inputs, &upstream, DType::F64, &Device::flex());
    assert!(off(&exact, &expected) <= 1e-11, "{what}: the definition on tensors is off by {:e}", off(&exact, &expected));
    for (i, exact) in exact_gradients.iter().enumerate() {
        for _ in 0..3 {
            let direction = random.normals(inputs[i].len(), 1.0);
            let at = |step: f64| -> f64 {
                let mut moved = inputs.to_vec();
                moved[i].iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d);
                definition(&moved).iter().zip(&upstream).map(|(y, g)| y * g).sum()
            };
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            let analytic: f64 = exact.iter().zip(&direction).map(|(g, d)| g * d).sum();
            let scale = exact.iter().map(|g| g * g).sum::<f64>().sqrt() + 1e-3;
            assert!((numeric - analytic).abs() <= 1e-5 * scale, "{what}: gradient {i} gives {analytic}, differences {numeric}");
        }
    }
    for device in devices() {
        let (fast, fast_gradients) = run(operation, inputs, &upstream, DType::F32, &device);
        assert!(off(&fast, &expected) <= tolerance, "{what} on {device:?}: the kernel is off by {:e}", off(&fast, &expected));
        for (i, (exact, fast)) in exact_gradients.iter().zip(&fast_gradients).enumerate() {
            assert!(off(fast, exact) <= 3.0 * tolerance, "{what} on {device:?}: gradient {i} is off by {:e}", off(fast, exact));
        }
        // Bit-equal the second time.
        assert_eq!((fast, fast_gradients), run(operation, inputs, &upstream, DType::F32, &device), "{what} on {device:?}");
    }
    for device in devices().split_off(1) {
        for (dtype, epsilon) in [(DType::BF16, f64::powi(2.0, -8)), (DType::F16, f64::powi(2.0, -11))] {
            check_narrow(what, operation, inputs, &upstream, dtype, &device, tolerance.max(16.0 * epsilon));
        }
    }
}

/// The kernel on narrow numbers within `tolerance` of the definition on the same numbers.
fn check_narrow(
    what: &str,
    operation: Operation<'_>,
    inputs: &[Vec<f64>],
    upstream: &[f64],
    dtype: DType,
    device: &Device,
    tolerance: f64,
) {
    if !device.supports_dtype(dtype) {
        println!("{what}: {device:?} does not know {dtype:?}, not checked");
        return;
    }
    let round = |values: &Vec<f64>| host(tensor(values, dtype, device));
    let (inputs, upstream) = (inputs.iter().map(round).collect::<Vec<_>>(), round(&upstream.to_vec()));
    let (exact, exact_gradients) = run(operation, &inputs, &upstream, DType::F64, &Device::flex());
    let (narrow, narrow_gradients) = run(operation, &inputs, &upstream, dtype, device);
    assert!(off(&narrow, &exact) <= tolerance, "{what} in {dtype:?}: off by {:e}", off(&narrow, &exact));
    for (i, (exact, narrow)) in exact_gradients.iter().zip(&narrow_gradients).enumerate() {
        assert!(off(narrow, exact) <= 3.0 * tolerance, "{what} in {dtype:?}: gradient {i} is off by {:e}", off(narrow, exact));
    }
}
