//! Matrix products on slices, by the gemm crate.

use std::marker::PhantomData;

use gemm::Parallelism;
use rayon::prelude::*;

use super::{sum, vectorised};

/// A matrix somewhere in a slice, one of its two strides usually 1.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows · columns` numbers, row by row.
    pub(in crate::kernels) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows of `columns` numbers that begin `row_stride` apart.
    pub(in crate::kernels) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert_inside(data.len(), rows, columns, row_stride);
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transpose, without a copy.
    pub(in crate::kernels) fn t(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    fn part(self, first: usize, rows: usize) -> Self {
        Self { data: &self.data[first * self.row_stride..], rows, ..self }
    }
}

/// A matrix that is written: rows of contiguous numbers, `row_stride` apart.
pub(in crate::kernels) struct MatrixMut<'a> {
    data: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is an exclusive borrow of its cells, like `&mut [f32]`.
unsafe impl Send for MatrixMut<'_> {}

impl<'a> MatrixMut<'a> {
    /// `rows · columns` numbers, row by row.
    pub(in crate::kernels) fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        assert_inside(data.len(), rows, columns, columns);
        Self { data: data.as_mut_ptr(), rows, columns, row_stride: columns, owner: PhantomData }
    }

    /// A matrix `[rows, parts · columns]` cut into `parts` blocks of columns.
    pub(in crate::kernels) fn side_by_side(data: &'a mut [f32], rows: usize, parts: usize, columns: usize) -> Vec<Self> {
        let row_stride = parts * columns;
        assert_inside(data.len(), rows, row_stride, row_stride);
        let start = data.as_mut_ptr();
        let block = |part| Self {
            // SAFETY: every block begins inside the slice; no two share a cell.
            data: unsafe { start.add(part * columns) },
            rows,
            columns,
            row_stride,
            owner: PhantomData,
        };
        (0..if rows == 0 { 0 } else { parts }).map(block).collect()
    }

    /// Blocks of `width` columns, the last one narrower.
    pub(super) fn by_columns(self, width: usize) -> Vec<Self> {
        // SAFETY: every block begins inside; no two share a cell.
        let block = |first| Self { data: unsafe { self.data.add(first) }, columns: width.min(self.columns - first), ..self };
        (0..self.columns).step_by(width).map(block).collect()
    }

    /// Blocks of `height` rows, the last one lower.
    fn by_rows(self, height: usize) -> Vec<Self> {
        // SAFETY: as above.
        let block = |first| Self { data: unsafe { self.data.add(first * self.row_stride) }, rows: height.min(self.rows - first), ..self };
        (0..self.rows).step_by(height).map(block).collect()
    }

    /// Some of its rows.
    pub(in crate::kernels) fn part(&mut self, first: usize, rows: usize) -> MatrixMut<'_> {
        assert!(first + rows <= self.rows, "the part lies in the matrix");
        // A part without rows may begin behind the slice: then it is a pointer that nobody follows.
        MatrixMut { data: self.data.wrapping_add(first * self.row_stride), rows, owner: PhantomData, ..*self }
    }

    /// One row.
    pub(in crate::kernels) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "the row lies in the matrix");
        // SAFETY: a row's cells are contiguous, inside, and exclusively ours; whoever made the matrix had them as a slice, or `zeroed_row`
        // has just written them.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.row_stride), self.columns) }
    }

    /// One row, whose cells may have had no value yet.
    fn zeroed_row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "the row lies in the matrix");
        // SAFETY: as in `row`; all bits 0 is the number 0, and nothing is read.
        unsafe { self.data.add(row * self.row_stride).write_bytes(0, self.columns) };
        self.row(row)
    }
}

fn assert_inside(length: usize, rows: usize, columns: usize, row_stride: usize) {
    assert!(rows == 0 || columns <= row_stride && (rows - 1) * row_stride + columns <= length, "the matrix lies in its slice");
}

/// Whether a product replaces what is there or is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::kernels) enum Write {
    Replace,
    Add,
}

/// `out ← (out +) lhs · rhs` on this thread; how a cell is summed depends on the length of the sum alone.
pub(in crate::kernels) fn multiply(out: MatrixMut<'_>, write: Write, lhs: Matrix<'_>, rhs: Matrix<'_>) {
    /// gemm cuts longer sums as it likes the caches and the other two lengths, so that a part of a matrix would differ from the whole.
    const LONGEST_SUM: usize = 512;
    let (m, n, k) = (out.rows, out.columns, lhs.columns);
    assert!([lhs.rows, rhs.columns, rhs.rows] == [m, n, k], "the shapes of a matrix product agree");
    if m == 0 || n == 0 {
        return;
    }
    // For these gemm takes dot products of its own, whose order of additions is another one with AVX2 than with AVX-512.
    let along_sums = lhs.column_stride == 1 && rhs.row_stride == 1;
    if along_sums && (m == 1 || n == 1 || m * n <= FEW_CELLS) {
        return dots(out, write, lhs, rhs.t());
    }
    for start in (0..k.max(1)).step_by(LONGEST_SUM) {
        // SAFETY: every (row, column) of the three matrices was checked to lie in its slice, their shapes agree, and the cells of
        // `out` are borrowed exclusively; `start` is a column of `lhs` and a row of `rhs`, or there are none.
        unsafe {
            gemm::gemm(
                m,
                n,
                k.min(start + LONGEST_SUM) - start,
                out.data,
                1,
                out.row_stride as isize,
                write == Write::Add || start > 0,
                lhs.data.as_ptr().add(start * lhs.column_stride),
                lhs.column_stride as isize,
                lhs.row_stride as isize,
                rhs.data.as_ptr().add(start * rhs.row_stride),
                rhs.column_stride as isize,
                rhs.row_stride as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

/// gemm's own bound (`gemm_basic_generic` of gemm-common 0.19).
const FEW_CELLS: usize = 256;

/// `out ← (out +) lhs · rhsᵀ`, cell by cell; both have their rows in one piece.
fn dots(mut out: MatrixMut<'_>, write: Write, lhs: Matrix<'_>, rhs: Matrix<'_>) {
    for i in 0..lhs.rows {
        let a = &lhs.data[i * lhs.row_stride..][..lhs.columns];
        let cells = if write == Write::Replace { out.zeroed_row(i) } else { out.row(i) };
        add_dots(cells, a, rhs.data, rhs.row_stride);
    }
}

vectorised! {
    /// Adds to each cell the dot product of `a` with the row of `b` that begins `stride` after the one before it.
    fn add_dots(cells: &mut [f32], a: &[f32], b: &[f32], stride: usize) {
        for (j, cell) in cells.iter_mut().enumerate() {
            let b = &b[j * stride..][..a.len()];
            *cell += sum(a.len(), |k| a[k] * b[k]);
        }
    }
}

/// `lhs · rhs`, row by row, by all threads.
///
/// Where there are columns enough, each thread makes some of them: gemm rearranges its right-hand side first, here a part per
/// thread, while every thread that made rows would rearrange all of it. Threads that have work of their own lose nothing.
pub(in crate::kernels) fn product(lhs: Matrix<'_>, rhs: Matrix<'_>) -> Vec<f32> {
    /// Columns of one step of gemm's innermost loop.
    const STEP: usize = 64;
    let (m, n, k) = (lhs.rows, rhs.columns, lhs.columns);
    let threads = rayon::current_num_threads();
    if k == 0 {
        return vec![0.0; m * n];
    }
    let mut product = Vec::with_capacity(m * n);
    // Its cells have no values yet: products that replace write them, and nobody asks for a row before.
    let out = MatrixMut { data: product.as_mut_ptr(), rows: m, columns: n, row_stride: n, owner: PhantomData };
    // Below about 2 MFLOP a second thread costs more than it brings.
    if threads == 1 || m * n * k < 1 << 20 {
        multiply(out, Write::Replace, lhs, rhs);
    } else if n >= STEP * threads {
        let width = none_alone(n, n.div_ceil(threads).next_multiple_of(STEP));
        out.by_columns(width).into_par_iter().enumerate().for_each(|(i, out)| {
            let columns = out.columns;
            multiply(out, Write::Replace, lhs, rhs.t().part(i * width, columns).t());
        });
    } else {
        let height = none_alone(m, m.div_ceil(threads));
        out.by_rows(height).into_par_iter().enumerate().for_each(|(i, out)| {
            let rows = out.rows;
            multiply(out, Write::Replace, lhs.part(i * height, rows), rhs);
        });
    }
    // SAFETY: the parts cover the matrix, and a product that replaces writes every cell of its part.
    unsafe { product.set_len(m * n) };
    product
}

/// At least `size`, so that no block of so many of `total` rows or columns is a single one: gemm sums those otherwise.
fn none_alone(total: usize, size: usize) -> usize {
    let mut size = size.max(2);
    while total % size == 1 {
        size += 1;
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_the_same_to_the_last_bit_for_any_number_of_threads() {
        // Rows alone, columns alone, sums longer than gemm takes at once, and blocks that would leave one row or column over.
        for [m, n, k] in [[2, 9000, 64], [1, 4097, 300], [4097, 1, 300], [65, 2049, 192], [9, 300, 1500], [13, 257, 2000], [700, 64, 513]] {
            let numbers = |count: usize, step: f32| (0..count).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>();
            let (lhs, rhs) = (numbers(m * k, 0.37), numbers(k * n, 0.59));
            let by = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a few threads");
                pool.install(|| product(Matrix::new(&lhs, m, k), Matrix::new(&rhs, k, n)))
            };
            let alone = by(1);
            let exact: f64 = (0..k).map(|i| f64::from(lhs[i]) * f64::from(rhs[i * n])).sum();
            assert!((f64::from(alone[0]) - exact).abs() < 1e-3, "{} is not {exact}", alone[0]);
            for threads in [2, 3, 8] {
                assert!(by(threads) == alone, "[{m}, {k}] · [{k}, {n}] differs on {threads} threads");
            }
        }
    }
}
