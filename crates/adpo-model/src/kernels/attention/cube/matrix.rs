//! The same passes on matrix instructions (`cubecl::cmma`), for f16 and bf16 on devices that multiply square fragments of them.
//!
//! A cube has a few planes, and each plane `fragment` rows of the cube's tile of scores. Heads lie in shared memory as they are
//! in global memory, scores in f32. No number of a fragment is ever read in registers, since where it lies is the device's secret:
//! whatever is computed number by number goes through the plane's strip of shared memory, and no sum has to be scaled once it is
//! begun. A strip belongs to one plane, so that its units wait for each other only.

mod backward;
mod forward;

use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cmma::{Matrix, MatrixIdent, MatrixLayout, execute, load, store};
use cubecl::ir::features::Plane;
use cubecl::ir::{DeviceProperties, FloatKind};
use cubecl::prelude::*;

use super::scale;
use super::sight::Cells;
use super::tile::{MEMORY, Pass};
use crate::kernels::composed::shape;
#[cfg(feature = "_source")]
use crate::kernels::cube::source::{Sources, buffer};
use crate::kernels::cube::{contiguous, element, empty, supported, vector};

/// Bytes between the rows of anything in shared memory, so that they begin in different banks: no fewer keep fragments aligned.
const PADDING: usize = 16;
/// Bytes at which whatever fragments are loaded from begins.
const ALIGNMENT: usize = 32;
/// More numbers of a head would be more sums than a plane has registers for.
const LARGEST_HEAD: usize = 128;

/// The shape of a cube's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Block {
    /// Rows and columns of a fragment, and what the instruction sums over.
    fragment: usize,
    /// Units of a plane.
    lanes: usize,
    planes: usize,
    /// Fragments in a row of scores.
    across: usize,
    /// Numbers of a head.
    dim: usize,
    /// Numbers that a unit moves at once.
    vector: usize,
}

impl Block {
    /// The largest block for a pass over heads of this size, if the device has the instructions for the element type.
    pub(super) fn new(pass: Pass, element: ElemType, dim: usize, device: &DeviceProperties) -> Option<Self> {
        let (fragment, lanes) = instruction(element, device)?;
        if dim > LARGEST_HEAD || !dim.is_multiple_of(fragment) {
            return None;
        }
        let vector = vector(device, element.size(), PADDING / element.size());
        let block = |[planes, across]: [usize; 2]| Self { fragment, lanes, planes, across, dim, vector };
        // A unit's view of its scores is 32 bits.
        let suits =
            |block: &Self| lanes >= fragment && block.columns().is_multiple_of(lanes) && block.cells().down * block.cells().across <= 32;
        let memory = device.hardware.max_shared_memory_size.min(MEMORY);
        [[4, 4], [4, 2], [2, 2]].map(block).into_iter().find(|block| suits(block) && block.bytes(pass) <= memory)
    }

    fn bytes(self, pass: Pass) -> usize {
        let (rows, columns) = (self.rows(), self.columns());
        // Heads, strips in f32 and strips of the element type; the numbers that belong to a row are few.
        let (heads, wide, narrow) = match pass {
            // Queries; keys and values.
            Pass::Forward | Pass::Cached => (rows + 2 * columns, 1, 1),
            // Queries and their gradients; keys and values.
            Pass::Queries => (2 * (rows + columns), 2, 1),
            // Keys and values; queries and their gradients.
            Pass::Keys => (2 * (rows + columns), 2, 2),
        };
        heads * self.pitch() * 2 + rows * (wide * self.wide_pitch() * 4 + narrow * self.narrow_pitch() * 2) + rows * 8 + 4
    }

    fn rows(self) -> usize {
        self.fragment * self.planes
    }

    fn columns(self) -> usize {
        self.fragment * self.across
    }

    /// Numbers from one head in shared memory to the next.
    fn pitch(self) -> usize {
        self.dim + PADDING / 2
    }

    /// Numbers from one row of a strip in f32 to the next.
    fn wide_pitch(self) -> usize {
        self.columns() + PADDING / 4
    }

    /// Numbers from one row of a strip of the element type to the next.
    fn narrow_pitch(self) -> usize {
        self.columns() + PADDING / 2
    }

    /// The scores of a unit: of each of its plane's rows, every so many columns.
    fn cells(self) -> Cells {
        Cells { down: self.fragment, across: self.columns() / self.lanes, row_step: 1, column_step: self.lanes }
    }

    fn units(self) -> CubeDim {
        CubeDim::new_2d(self.lanes as u32, self.planes as u32)
    }
}

/// (side of the largest square fragment, units of a plane), if the device multiplies such fragments of the element type, of two bytes,
/// and sums in f32, in planes of one size whose units can wait for each other.
fn instruction(element: ElemType, device: &DeviceProperties) -> Option<(usize, usize)> {
    let (features, hardware) = (&device.features, &device.hardware);
    let types = [element, element, ElemType::Float(FloatKind::F32)];
    let square = features.matmul.cmma.iter().filter(|it| [it.a_type, it.b_type, it.cd_type] == types && [it.m; 2] == [it.n, it.k]);
    let fragment = square.map(|it| it.m as usize).max()?;
    let one_size = hardware.plane_size_min == hardware.plane_size_max;
    let suits = element.size() == 2 && one_size && features.plane.contains(Plane::Sync);
    suits.then_some((fragment, hardware.plane_size_max as usize))
}

/// The block for tensors of which the last dimension is the head's size, if this pass over them is one for matrix instructions.
pub(super) fn block(tensors: &[&CubeTensor], pass: Pass) -> Option<Block> {
    let first = tensors.first()?;
    let one_dtype = tensors.iter().all(|tensor| tensor.dtype == first.dtype);
    let dim = *first.meta.shape().last()?;
    (supported(tensors) && one_dtype).then(|| Block::new(pass, element(first), dim, first.client.properties()))?
}

/// (the result, log Σ exp).
pub(super) fn forward([q, k, v]: [CubeTensor; 3], [segments, branches]: [CubeTensor; 2], block: Block) -> (CubeTensor, CubeTensor) {
    let [rows, width, heads, dim] = shape::<CubeBackend, 4>(&q);
    let kv_heads = shape::<CubeBackend, 4>(&k)[2];
    let [q, k, v] = [q, k, v].map(contiguous);
    let (o, lse) = (empty(&q, [rows, width, heads, dim], q.dtype), empty(&q, [rows, heads, width], DType::F32));
    let (client, dtypes) = (q.client.clone(), [element(&q), element(&segments)]);
    forward::attend::launch(
        &client,
        CubeCount::Static(width.div_ceil(block.rows()) as u32, heads as u32, rows as u32),
        block.units(),
        block.vector,
        q.into_buffer_arg(),
        k.into_buffer_arg(),
        v.into_buffer_arg(),
        contiguous(segments).into_buffer_arg(),
        contiguous(branches).into_buffer_arg(),
        o.clone().into_buffer_arg(),
        lse.clone().into_buffer_arg(),
        width as u32,
        (heads / kv_heads) as u32,
        scale(dim),
        block,
        dtypes,
    );
    (o, lse)
}

/// (`dq`, `dk`, `dv`) from `q`, `k`, `v`, the result's gradient, log Σ exp, [`super::along`], segments and branches.
pub(super) fn backward(inputs: [CubeTensor; 8], by_query: Block, by_key: Block) -> (CubeTensor, CubeTensor, CubeTensor) {
    let inputs = inputs.map(contiguous);
    let [q, k, v, _, _, _, segments, _] = &inputs;
    let [rows, width, heads, dim] = shape::<CubeBackend, 4>(q);
    let kv_heads = shape::<CubeBackend, 4>(k)[2];
    let (client, dtypes) = (q.client.clone(), [element(q), element(segments)]);
    let [dq, dk, dv] = [q, k, v].map(|like| empty(like, shape::<CubeBackend, 4>(like), like.dtype));
    let [q, k, v, grad, lse, along, segments, branches] = inputs.clone().map(CubeTensor::into_buffer_arg);
    backward::by_query::launch(
        &client,
        CubeCount::Static(width.div_ceil(by_query.rows()) as u32, heads as u32, rows as u32),
        by_query.units(),
        by_query.vector,
        q,
        k,
        v,
        grad,
        lse,
        along,
        segments,
        branches,
        dq.clone().into_buffer_arg(),
        width as u32,
        (heads / kv_heads) as u32,
        scale(dim),
        by_query,
        dtypes,
    );
    let [q, k, v, grad, lse, along, segments, branches] = inputs.map(CubeTensor::into_buffer_arg);
    backward::by_key::launch(
        &client,
        CubeCount::Static(width.div_ceil(by_key.rows()) as u32, kv_heads as u32, rows as u32),
        by_key.units(),
        by_key.vector,
        q,
        k,
        v,
        grad,
        lse,
        along,
        segments,
        branches,
        dk.clone().into_buffer_arg(),
        dv.clone().into_buffer_arg(),
        width as u32,
        (heads / kv_heads) as u32,
        scale(dim),
        by_key,
        dtypes,
    );
    (dq, dk, dv)
}

/// Shared memory for so many heads.
#[cube]
fn head_rows<F: Float, N: Size>(#[comptime] count: usize, #[comptime] block: Block) -> Shared<[Vector<F, N>]> {
    Shared::<[Vector<F, N>]>::new_aligned_slice(comptime!(count * block.pitch() / block.vector), ALIGNMENT)
}

/// Shared memory for the planes' strips in f32.
#[cube]
fn wide_strips(#[comptime] block: Block) -> Shared<[f32]> {
    Shared::<[f32]>::new_aligned_slice(comptime!(block.rows() * block.wide_pitch()), ALIGNMENT)
}

/// Shared memory for the planes' strips of the element type.
#[cube]
fn narrow_strips<F: Float>(#[comptime] block: Block) -> Shared<[F]> {
    Shared::<[F]>::new_aligned_slice(comptime!(block.rows() * block.narrow_pitch()), ALIGNMENT)
}

/// So many fragments of zeros, to sum into.
#[cube]
fn zeros(#[comptime] fragments: usize, #[comptime] block: Block) -> Sequence<Matrix<f32>> {
    let t = block.fragment;
    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..fragments {
        sums.push(Matrix::<f32>::from_value(MatrixIdent::Accumulator, t, t, t, MatrixLayout::Undefined, 0.0f32));
    }
    sums
}

/// The fragment of `from` that begins at `start`, of rows that lie `pitch` numbers apart.
#[cube]
fn fragment<F: Float, V: CubePrimitive>(
    from: &[V],
    start: usize,
    #[comptime] pitch: usize,
    #[comptime] ident: MatrixIdent,
    #[comptime] layout: MatrixLayout,
    #[comptime] block: Block,
) -> Matrix<F> {
    let t = block.fragment;
    // SAFETY: it is loaded before it is used.
    let mut fragment = unsafe { Matrix::<F>::uninitialized(ident, t, t, t, layout) };
    load(&mut fragment, &from[start..from.len()], pitch as u32);
    fragment
}

/// Loads `rows` heads into shared memory: row r lies `stride · r` vectors from `base`, rows from `count` on are 0.
#[cube]
fn fetch<F: Float, N: Size>(
    from: &[Vector<F, N>],
    to: &mut [Vector<F, N>],
    base: usize,
    stride: usize,
    count: usize,
    #[comptime] rows: usize,
    #[comptime] block: Block,
) {
    let pieces = comptime!(block.dim / block.vector);
    let pitch = comptime!(block.pitch() / block.vector);
    let mut i = UNIT_POS as usize;
    while i < rows * pieces {
        let (row, piece) = (i / pieces, i % pieces);
        let mut value = Vector::<F, N>::new(F::from_int(0));
        if row < count {
            value = from[base + row * stride + piece];
        }
        to[row * pitch + piece] = value;
        i += comptime!(block.lanes * block.planes);
    }
}

/// A plane's strip of `rows · columnsᵀ`.
#[cube]
fn multiply<F: Float, N: Size>(rows: &[Vector<F, N>], columns: &[Vector<F, N>], strip: &mut [f32], #[comptime] block: Block) {
    let (t, vector, pitch) = (block.fragment, block.vector, comptime!(block.pitch()));
    let first = UNIT_POS_Y as usize * t;
    let sums = zeros(block.across, block);
    for step in 0..comptime!(block.dim / t) {
        let at = (first * pitch + step * t) / vector;
        let a = fragment::<F, Vector<F, N>>(rows, at, pitch, MatrixIdent::A, MatrixLayout::RowMajor, block);
        #[unroll]
        for column in 0..block.across {
            let at = (column * t * pitch + step * t) / vector;
            let b = fragment::<F, Vector<F, N>>(columns, at, pitch, MatrixIdent::B, MatrixLayout::ColMajor, block);
            execute(&a, &b, sums.index(column), sums.index(column));
        }
    }
    let pitch = comptime!(block.wide_pitch());
    #[unroll]
    for column in 0..block.across {
        let at = first * pitch + column * t;
        let end = strip.len();
        store(&mut strip[at..end], sums.index(column), pitch as u32, MatrixLayout::RowMajor);
    }
}

/// Adds a plane's strip of weights times the first `count` of `heads` to its sums.
#[cube]
fn weigh<F: Float, N: Size>(weights: &[F], heads: &[Vector<F, N>], sums: &Sequence<Matrix<f32>>, count: usize, #[comptime] block: Block) {
    let (t, vector, pitch) = (block.fragment, block.vector, comptime!(block.pitch()));
    let narrow_pitch = comptime!(block.narrow_pitch());
    let first = UNIT_POS_Y as usize * t;
    for column in 0..min(count, block.columns()).div_ceil(t) {
        let at = first * narrow_pitch + column * t;
        let a = fragment::<F, F>(weights, at, narrow_pitch, MatrixIdent::A, MatrixLayout::RowMajor, block);
        #[unroll]
        for step in 0..comptime!(block.dim / t) {
            let at = (column * t * pitch + step * t) / vector;
            let b = fragment::<F, Vector<F, N>>(heads, at, pitch, MatrixIdent::B, MatrixLayout::RowMajor, block);
            execute(&a, &b, sums.index(step), sums.index(step));
        }
    }
}

/// Writes a plane's sums, times `factor`, where [`fetch`] would read them, through its strip: the plane's first row is that at `base`.
#[cube]
fn write<F: Float, N: Size>(
    sums: &Sequence<Matrix<f32>>,
    strip: &mut [f32],
    to: &mut [Vector<F, N>],
    base: usize,
    stride: usize,
    count: usize,
    factor: f32,
    #[comptime] block: Block,
) {
    let (t, vector, pitch) = (block.fragment, block.vector, comptime!(block.wide_pitch()));
    let pieces = comptime!(t / block.vector);
    let first = UNIT_POS_Y as usize * t;
    #[unroll]
    for step in 0..comptime!(block.dim / t) {
        // Whoever read the strip is done.
        sync_plane();
        let end = strip.len();
        store(&mut strip[first * pitch..end], sums.index(step), pitch as u32, MatrixLayout::RowMajor);
        sync_plane();
        let mut i = UNIT_POS_X as usize;
        while i < t * pieces {
            let (row, piece) = (i / pieces, i % pieces);
            let mut value = Vector::<F, N>::new(F::from_int(0));
            #[unroll]
            for number in 0..vector {
                value.insert(number, F::cast_from(strip[(first + row) * pitch + piece * vector + number] * factor));
            }
            if first + row < count {
                to[base + (first + row) * stride + step * pieces + piece] = value;
            }
            i += block.lanes;
        }
    }
}

#[cfg(feature = "_source")]
pub(super) fn sources(sources: &mut Sources) {
    let dtypes = [sources.element, Sources::INT];
    for dim in [64, 128] {
        let passes = [Pass::Forward, Pass::Queries, Pass::Keys].map(|pass| Block::new(pass, sources.element, dim, &sources.device));
        let [Some(forward), Some(by_query), Some(by_key)] = passes else { continue };
        sources.add(&format!("attention_matrix_{dim}"), forward.units(), |(settings, device, target)| {
            let [q, k, v, segments, branches, o, lse] = [(); 7].map(|()| buffer());
            let (width, group, scale) = ((), (), ());
            forward::attend::Attend::new(
                settings,
                device,
                target,
                q,
                k,
                v,
                segments,
                branches,
                o,
                lse,
                width,
                group,
                scale,
                forward.vector,
                forward,
                dtypes,
            )
        });
        sources.add(&format!("attention_matrix_by_query_{dim}"), by_query.units(), |(settings, device, target)| {
            let [q, k, v, grad, lse, along, segments, branches, dq] = [(); 9].map(|()| buffer());
            let (width, group, scale) = ((), (), ());
            backward::by_query::ByQuery::new(
                settings,
                device,
                target,
                q,
                k,
                v,
                grad,
                lse,
                along,
                segments,
                branches,
                dq,
                width,
                group,
                scale,
                by_query.vector,
                by_query,
                dtypes,
            )
        });
        sources.add(&format!("attention_matrix_by_key_{dim}"), by_key.units(), |(settings, device, target)| {
            let [q, k, v, grad, lse, along, segments, branches, dk, dv] = [(); 10].map(|()| buffer());
            let (width, group, scale) = ((), (), ());
            backward::by_key::ByKey::new(
                settings,
                device,
                target,
                q,
                k,
                v,
                grad,
                lse,
                along,
                segments,
                branches,
                dk,
                dv,
                width,
                group,
                scale,
                by_key.vector,
                by_key,
                dtypes,
            )
        });
    }
}

#[cfg(all(test, feature = "_source"))]
mod tests {
    use super::*;
    use crate::kernels::cube::source::h100;

    const PASSES: [Pass; 3] = [Pass::Forward, Pass::Queries, Pass::Keys];

    #[test]
    fn there_are_blocks_for_every_head_that_fragments_cut_on_a_large_gpu_and_smaller_ones_on_a_small_one() {
        let (large, mut small) = (h100(), h100());
        small.hardware.max_shared_memory_size = 64 * 1024;
        for kind in [FloatKind::F16, FloatKind::BF16] {
            for (pass, dim) in PASSES.into_iter().flat_map(|pass| [16, 64, 80, 128].map(|dim| (pass, dim))) {
                let [large, small] = [&large, &small].map(|device| Block::new(pass, ElemType::Float(kind), dim, device).expect("a block"));
                assert!(
                    small.bytes(pass) <= 64 * 1024 && large.rows() * large.columns() >= small.rows() * small.columns(),
                    "{pass:?} {dim}"
                );
            }
        }
    }

    #[test]
    fn what_the_instructions_do_not_fit_is_left_to_the_other_kernels() {
        let bf16 = ElemType::Float(FloatKind::BF16);
        let (device, mut apart, mut ragged) = (h100(), h100(), h100());
        apart.features.plane.remove(Plane::Sync);
        ragged.hardware.plane_size_min = 16;
        for pass in PASSES {
            for (element, dim, device) in [
                (ElemType::Float(FloatKind::F32), 64, &device),
                (bf16, 72, &device),
                (bf16, 256, &device),
                (bf16, 64, &apart),
                (bf16, 64, &ragged),
            ] {
                assert_eq!(Block::new(pass, element, dim, device), None, "{pass:?} {element:?} {dim}");
            }
        }
    }
}
