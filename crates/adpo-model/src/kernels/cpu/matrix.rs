//! Matrix products on slices, by the gemm crate.

use std::marker::PhantomData;

use gemm::Parallelism;
use rayon::prelude::*;

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
    fn by_columns(self, width: usize) -> Vec<Self> {
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
        // SAFETY: row `first` is inside, or nothing of the part is ever touched.
        MatrixMut { data: unsafe { self.data.add(first * self.row_stride) }, rows, owner: PhantomData, ..*self }
    }

    /// One row.
    pub(in crate::kernels) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "the row lies in the matrix");
        // SAFETY: a row's cells are contiguous, inside, and exclusively ours.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.row_stride), self.columns) }
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

/// `out ← (out +) lhs · rhs` on this thread.
pub(in crate::kernels) fn multiply(out: MatrixMut<'_>, write: Write, lhs: Matrix<'_>, rhs: Matrix<'_>) {
    let (m, n, k) = (out.rows, out.columns, lhs.columns);
    assert!([lhs.rows, rhs.columns, rhs.rows] == [m, n, k], "the shapes of a matrix product agree");
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: every (row, column) of the three matrices was checked to lie in its slice, their shapes agree, and the cells of
    // `out` are borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data,
            1,
            out.row_stride as isize,
            write == Write::Add,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
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
    let out = MatrixMut { data: product.as_mut_ptr(), rows: m, columns: n, row_stride: n, owner: PhantomData };
    // Below about 2 MFLOP a second thread costs more than it brings.
    if threads == 1 || m * n * k < 1 << 20 {
        multiply(out, Write::Replace, lhs, rhs);
    } else if n >= STEP * threads {
        let width = n.div_ceil(threads).next_multiple_of(STEP);
        out.by_columns(width).into_par_iter().enumerate().for_each(|(i, out)| {
            let columns = out.columns;
            multiply(out, Write::Replace, lhs, rhs.t().part(i * width, columns).t());
        });
    } else {
        let height = m.div_ceil(threads);
        out.by_rows(height).into_par_iter().enumerate().for_each(|(i, out)| {
            let rows = out.rows;
            multiply(out, Write::Replace, lhs.part(i * height, rows), rhs);
        });
    }
    // SAFETY: the parts cover the matrix, and a product that replaces writes every cell of its part.
    unsafe { product.set_len(m * n) };
    product
}
