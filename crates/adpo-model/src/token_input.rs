//! The input of the model.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::kernels::AttentionMask;

/// A batch of token ids with everything that the model has to know of them; all `[rows, width]`.
#[derive(Debug, Clone)]
pub struct TokenInput {
    pub(crate) ids: Tensor<1, Int>,
    pub(crate) positions: Vec<u32>,
    pub(crate) mask: AttentionMask,
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

impl TokenInput {
    /// From row-major arrays of `rows · width` cells. A cell attends to the cells of its own segment up to itself;
    /// segment 0 is padding by convention, and what is computed for it means nothing.
    ///
    /// # Panics
    /// If an array is not of `rows · width` cells.
    pub fn new(rows: usize, width: usize, ids: &[u32], positions: &[u32], segments: &[u32], device: &Device) -> Self {
        let cells = rows * width;
        assert!([ids.len(), positions.len(), segments.len()] == [cells; 3], "ids, positions and segments need {cells} cells each");
        let ids: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        Self {
            ids: Tensor::from_data(TensorData::new(ids, [cells]), device),
            positions: positions.to_vec(),
            mask: AttentionMask::new(segments, &vec![0; cells], rows, width, device),
            rows,
            width,
        }
    }

    /// Completions that share their prompt's cells: within a segment, cells of branch 0 are seen by all that follow, those of
    /// another branch by their own alone. Row-major, `rows · width` cells.
    ///
    /// # Panics
    /// If there is not one branch per cell.
    #[must_use]
    pub fn with_branches(self, branches: &[u32]) -> Self {
        Self { mask: self.mask.with_branches(branches), ..self }
    }
}
