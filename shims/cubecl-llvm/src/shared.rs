//! What a code generator takes away from a device's features.

pub mod lowered_features {
    use cubecl_core::ir::DeviceProperties;

    /// Whose features.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum GpuTarget {
        /// NVIDIA's.
        Nvptx,
    }

    /// Takes away nothing: no kernel is compiled.
    pub fn restrict_features(_: &mut DeviceProperties, _: GpuTarget) {}
}
