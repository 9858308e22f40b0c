//! The CUDA C++ of every kernel as an H100 would get it, made without a GPU.

use std::sync::Arc;

use cubecl::Compiler;
use cubecl::ir::features::{Features, MmaConfig, Plane};
use cubecl::ir::{
    DeviceIdentity, DeviceProperties, FloatKind, HardwareProperties, IntKind, MemoryDeviceProperties, TargetProperties, VectorSize,
};
use cubecl::prelude::*;
use cubecl_cpp::shared::{CompilationOptions, CppCompiler, CppSupportedFeatures};
use cubecl_cpp::target::Cuda;

use crate::kernels::{adamw, attention, embedding, rms_norm, rope, swiglu, token_log_probs};

/// (name, CUDA C++) of every kernel, for activations and weights in f32 and in bf16 and for head sizes 64 and 128, with the launch
/// configurations that an H100 gets. For checks of the code on machines without a GPU.
///
/// # Errors
/// What CubeCL has against a kernel.
pub fn cuda_sources() -> Result<Vec<(String, String)>, String> {
    let mut sources =
        Sources { device: Arc::new(h100()), element: ElemType::Float(FloatKind::F32), found: Vec::new(), problems: Vec::new() };
    for kind in [FloatKind::F32, FloatKind::BF16] {
        sources.element = ElemType::Float(kind);
        rms_norm::sources(&mut sources);
        rope::sources(&mut sources);
        swiglu::sources(&mut sources);
        attention::sources(&mut sources);
        embedding::sources(&mut sources);
        token_log_probs::sources(&mut sources);
        adamw::sources(&mut sources);
    }
    if sources.problems.is_empty() { Ok(sources.found) } else { Err(sources.problems.join("\n")) }
}

/// What a kernel is built from: settings, device, what its target can do.
pub(in crate::kernels) type Build = (KernelSettings, Arc<DeviceProperties>, Arc<TargetProperties>);

/// The kernels so far.
pub(in crate::kernels) struct Sources {
    /// The device that they are for.
    pub(in crate::kernels) device: Arc<DeviceProperties>,
    /// The element type that they are for.
    pub(in crate::kernels) element: ElemType,
    found: Vec<(String, String)>,
    problems: Vec<String>,
}

impl Sources {
    /// Ids and the like.
    pub(in crate::kernels) const INT: ElemType = ElemType::Int(IntKind::I32);
    /// Statistics and the like.
    pub(in crate::kernels) const FLOAT: ElemType = ElemType::Float(FloatKind::F32);

    /// Adds a kernel that runs with cubes of these units.
    pub(in crate::kernels) fn add<K: CubeKernel>(&mut self, name: &str, units: CubeDim, kernel: impl FnOnce(Build) -> K) {
        let settings = KernelSettings::new(*units, ExecutionMode::Checked, AddressType::U32);
        let kernel = kernel((settings, self.device.clone(), Arc::new(TargetProperties::default())));
        let name = format!("{name}_{}", if self.element == Self::FLOAT { "f32" } else { "bf16" });
        match CppCompiler::<Cuda>::default().compile(kernel.define(), &options()) {
            Ok(source) => self.found.push((name, source.to_string())),
            Err(problem) => self.problems.push(format!("{name}: {problem}")),
        }
    }

    /// Numbers that one unit moves at once, see [`super::vector`].
    pub(in crate::kernels) fn vector(&self, len: usize) -> usize {
        super::vector(&self.device, self.element.size(), len)
    }
}

/// A buffer of its own.
pub(in crate::kernels) fn buffer() -> BufferCompilationArg {
    BufferCompilationArg { inplace: None }
}

/// As cubecl-cuda compiles for compute capability 9.0.
fn options() -> CompilationOptions {
    let supports_features =
        CppSupportedFeatures { fast_math: true, dp4a: true, grid_constants: true, clusters: true, elect_sync: true, fast_tanh: true };
    CompilationOptions { supports_features, ..CompilationOptions::default() }
}

pub(in crate::kernels) fn h100() -> DeviceProperties {
    let identity = DeviceIdentity { name: "H100".into(), fingerprint: "ptx_sm90".into(), physical: None };
    let hardware = HardwareProperties {
        load_width: 128,
        vector_register_count: None,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 32,
        max_shared_memory_size: 227 * 1024,
        max_cube_count: (i32::MAX as u32, 65_535, 65_535),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: Some(132),
        num_tensor_cores: Some(4),
        min_tensor_cores_dim: Some(8),
        num_cpu_cores: None,
        last_level_cache_size: None,
        max_vector_size: VectorSize::MAX,
        cube_mma_reserved_shared_memory: 0,
    };
    let memory = MemoryDeviceProperties::new(u64::MAX, 512);
    let mut features = Features::default();
    features.plane.insert(Plane::Sync);
    for kind in [FloatKind::F16, FloatKind::BF16] {
        let [narrow, float] = [kind, FloatKind::F32].map(ElemType::Float);
        features.matmul.cmma.insert(MmaConfig { a_type: narrow, b_type: narrow, cd_type: float, m: 16, n: 16, k: 16 });
    }
    DeviceProperties::new(features, memory, hardware, cubecl::profile::TimingMethod::Device, identity)
}
