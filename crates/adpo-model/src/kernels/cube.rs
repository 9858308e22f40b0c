//! What the GPU implementations share: buffers, launch shapes, sums over a cube.
//!
//! Kernels are written in [CubeCL](https://github.com/tracel-ai/cubecl), which compiles them for CUDA (as C++, by NVRTC) and for
//! WGSL. They read and write their tensors' dtype (f32, bf16, f16) and compute in f32. No sum depends on the order in which
//! cubes run: there are no atomics on floats.

#[cfg(feature = "_source")]
pub(super) mod source;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::DeviceProperties;
use cubecl::prelude::*;

/// Units of a cube that works element by element, and the most of one that sums.
pub(super) const UNITS: u32 = 256;
/// Cubes along one axis of a grid: the limit of WebGPU.
const AXIS: usize = 65_535;

/// Whether the kernels apply; other dtypes go the composed way.
pub(super) fn supported(tensors: &[&CubeTensor]) -> bool {
    tensors.iter().all(|tensor| matches!(tensor.dtype, DType::F32 | DType::BF16 | DType::F16))
}

/// The tensor with its numbers in row-major order and without gaps, without a copy where they lie so already. Tensors of Burn's own
/// operations need not: CUDA's allocator pads rows.
pub(super) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// Uninitialised memory beside `like`.
pub(super) fn empty(like: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), dtype)
}

/// The element type that a kernel is compiled for.
pub(super) fn element(tensor: &CubeTensor) -> ElemType {
    dtype_to_storage_type(tensor.dtype)
}

/// Numbers that one unit moves at once: the widest load of the device that cuts rows of `len` evenly, for the widest of `tensors`.
pub(super) fn width(tensors: &[&CubeTensor], len: usize) -> usize {
    let bytes = tensors.iter().map(|tensor| tensor.dtype.size()).max().unwrap_or(4);
    tensors.first().map_or(1, |tensor| vector(tensor.client.properties(), bytes, len))
}

/// [`width`] of numbers of so many bytes on a device.
pub(super) fn vector(device: &DeviceProperties, bytes: usize, len: usize) -> usize {
    device.io_optimized_vector_sizes(bytes).filter(|width| len.is_multiple_of(*width)).max().unwrap_or(1)
}

/// A grid of at least so many cubes; a kernel leaves those at `CUBE_POS` beyond.
pub(super) fn grid(cubes: usize) -> CubeCount {
    let rows = cubes.div_ceil(AXIS).max(1);
    CubeCount::Static(cubes.div_ceil(rows).max(1) as u32, rows as u32, 1)
}

/// A grid of [`UNITS`] with a unit for each of `n` pieces; a kernel leaves those at `ABSOLUTE_POS` beyond.
pub(super) fn each(n: usize) -> (CubeCount, CubeDim) {
    (grid(n.div_ceil(UNITS as usize)), CubeDim::new_1d(UNITS))
}

/// Units of a cube that sums `len` pieces: a power of two, at least 32.
pub(super) fn units(device: &DeviceProperties, len: usize) -> u32 {
    let most = device.hardware.max_units_per_cube.min(UNITS);
    (len.next_power_of_two() as u32).clamp(32, most)
}

/// The sum of `value` over a cube of `units`, a power of two; every unit gets it.
#[cube]
pub(super) fn cube_sum(value: f32, #[comptime] units: u32) -> f32 {
    let mut shared = Shared::<[f32]>::new_slice(units as usize);
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut step = (CUBE_DIM / 2) as usize;
    while step > 0 {
        if unit < step {
            shared[unit] += shared[unit + step];
        }
        sync_cube();
        step /= 2;
    }
    let sum = shared[0];
    // The next sum may use the same memory.
    sync_cube();
    sum
}
