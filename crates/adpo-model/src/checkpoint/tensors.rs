//! Safetensors files: the one place where they are mapped, and where they are written, a tensor at a time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::Tensor;
use memmap2::Mmap;
use safetensors::tensor::{Dtype as StoredDtype, SafeTensorError, SafeTensors};
use safetensors::{View, serialize_to_file};

use super::index::open;
use super::write::replace;
use crate::Dtype;
use crate::ModelError;

/// A safetensors file, mapped: of its tensors nothing is in memory but the pages that somebody looks at.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
}

impl TensorFile {
    /// Maps a file. Nobody may cut it while it is in use: that would end the process.
    ///
    /// # Errors
    /// [`ModelError::Io`] if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = open(path)?;
        // SAFETY: the map is read alone, and files that are read here are written beside and renamed, so nobody changes one that has its
        // name. One that somebody else overwrites meanwhile gives other numbers, all of which are valid f32 or bf16, since its header is
        // read once; one cut meanwhile ends the process, as SECURITY.md says.
        let map = unsafe { Mmap::map(&file) }.map_err(ModelError::io(path))?;
        Ok(Self { path: path.to_owned(), map })
    }

    /// Its tensors, after a look at the header alone: it has to describe exactly the bytes that follow.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] for a file that is cut off, has a byte too many, or whose header does not add up.
    pub fn tensors(&self) -> Result<SafeTensors<'_>, ModelError> {
        parse(&self.path, &self.map)
    }

    /// Writes a file as transformers and PEFT read it, beside and renamed. One tensor at a time is brought to the host and encoded:
    /// two copies of the largest are the most that is in memory besides the tensors themselves.
    ///
    /// # Errors
    /// [`ModelError::Io`] if there is no room, or no permission; [`ModelError::Checkpoint`] for two tensors of one name, and for numbers
    /// that are NaN or infinite, or become so in the type that they are stored in.
    pub fn write(path: &Path, tensors: Vec<StoredTensor>) -> Result<(), ModelError> {
        // transformers refuses files that do not say which framework's layout they have.
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let problem = OnceLock::new();
        let named = tensors.into_iter().map(|tensor| (tensor.name.clone(), Watched { tensor, problem: &problem }));
        replace(path, |beside| {
            serialize_to_file(named, Some(metadata), beside).map_err(|error| match error {
                SafeTensorError::IoError(error) => ModelError::io(path)(error),
                other => ModelError::checkpoint(path, other.to_string()),
            })?;
            match problem.get() {
                None => Ok(()),
                Some(problem) => Err(ModelError::checkpoint(path, problem)),
            }
        })
    }
}

/// [`TensorFile::tensors`] of bytes that are part of a program.
pub(super) fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, ModelError> {
    SafeTensors::deserialize(bytes).map_err(|e| {
        ModelError::checkpoint(
            path,
            format!("is not a whole safetensors file ({e}); copy it once more from where it came, or make it anew"),
        )
    })
}

/// A tensor on its way into a file: a handle to numbers that stay where they are until the writer comes to them.
#[derive(Debug)]
pub struct StoredTensor {
    pub(super) name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    flat: Tensor<1>,
}

impl StoredTensor {
    /// `tensor`, of whatever shape and type, under `name`; it will be stored as `dtype`.
    pub fn new<const D: usize>(name: impl Into<String>, tensor: Tensor<D>, dtype: Dtype) -> Self {
        let shape = tensor.dims().to_vec();
        let flat = tensor.reshape([shape.iter().product::<usize>()]);
        Self { name: name.into(), shape, dtype, flat }
    }
}

/// A tensor whose numbers are looked at while they are written. The trait knows no errors, so that the first one waits.
struct Watched<'p> {
    tensor: StoredTensor,
    problem: &'p OnceLock<String>,
}

impl View for Watched<'_> {
    fn dtype(&self) -> StoredDtype {
        self.tensor.dtype()
    }

    fn shape(&self) -> &[usize] {
        self.tensor.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let StoredTensor { name, dtype, flat, .. } = &self.tensor;
        let data = flat.clone().into_data();
        let mut bytes = Vec::with_capacity(self.data_len());
        let mut finite = true;
        let values = data.iter::<f32>();
        match dtype {
            Dtype::Float32 => values.for_each(|x| {
                finite &= x.is_finite();
                bytes.extend(x.to_le_bytes());
            }),
            Dtype::Float16 => values.map(half::f16::from_f32).for_each(|x| {
                finite &= x.is_finite();
                bytes.extend(x.to_le_bytes());
            }),
            Dtype::Bfloat16 => values.map(half::bf16::from_f32).for_each(|x| {
                finite &= x.is_finite();
                bytes.extend(x.to_le_bytes());
            }),
        }
        if !finite {
            let problem = format!("`{name}` would hold a number that is NaN or infinite, or too large for {}", dtype.name());
            self.problem.get_or_init(|| format!("{problem}; the model is damaged, or has to be stored in a wider type"));
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.data_len()
    }
}

impl StoredTensor {
    fn dtype(&self) -> StoredDtype {
        match self.dtype {
            Dtype::Float32 => StoredDtype::F32,
            Dtype::Float16 => StoredDtype::F16,
            Dtype::Bfloat16 => StoredDtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bytes in its file.
    pub(super) fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes()
    }
}
