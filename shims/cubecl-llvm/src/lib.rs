//! The names that `cubecl-cuda` needs of `cubecl-llvm`, without LLVM: see the README beside this crate.

pub mod nvptx;
pub mod shared;

use std::convert::Infallible;
use std::fmt::{Display, Formatter, Result as Written};

use cubecl_core::ir::amd::GfxArch;
use cubecl_core::ir::nvidia::SmArch;
use cubecl_core::prelude::KernelDefinition;
use cubecl_environment::backtrace::BackTrace;
use cubecl_runtime::compiler::{CompilationError, Compiler};
use cubecl_runtime::kernel::BufferIOAttr;

use nvptx::ptx_version::PtxVersion;

/// What code would be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LlvmTarget {
    /// NVIDIA's PTX.
    Nvptx,
}

/// A compiler that compiles nothing.
#[derive(Debug, Clone)]
pub struct PlironCompiler {
    /// Read by nobody.
    pub target: LlvmTarget,
}

/// What a compiler would have to know; read by nobody.
#[derive(Debug, Clone, Default)]
pub struct PlironOptions {
    pub arch: Option<GfxArch>,
    pub sm_arch: Option<SmArch>,
    pub ptx_version: Option<PtxVersion>,
    pub grid_constants: bool,
}

/// A compiled kernel: there are none.
#[derive(Debug, Clone)]
pub struct NvptxModule {
    pub ptx: Vec<std::ffi::c_char>,
    pub entrypoint: String,
    pub ir: String,
    pub shared_memory_size: usize,
    pub io: Vec<BufferIOAttr>,
    never: Infallible,
}

/// What compiling gives: never anything.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PlironArtifact {
    NvptxCode(NvptxModule),
}

impl Display for PlironArtifact {
    fn fmt(&self, _: &mut Formatter<'_>) -> Written {
        let Self::NvptxCode(module) = self;
        match module.never {}
    }
}

impl Compiler for PlironCompiler {
    type Representation = PlironArtifact;
    type CompilationOptions = PlironOptions;

    fn compile(&mut self, _: KernelDefinition, _: &PlironOptions) -> Result<PlironArtifact, CompilationError> {
        let reason = "this build has a stand-in for LLVM: turn on the feature `cubecl/cuda-cpp` to compile kernels by NVRTC, or take \
                      `cubecl-llvm` out of `[patch.crates-io]` to build LLVM in";
        Err(CompilationError::Generic { reason: reason.into(), backtrace: BackTrace::capture() })
    }

    fn extension(&self) -> &'static str {
        "ll"
    }

    fn lang_tag(&self) -> &'static str {
        "llvm"
    }
}
