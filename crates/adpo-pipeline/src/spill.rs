//! Rows set aside in a temporary file until it is known which of them are wanted.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::PipelineError;

/// Takes rows; 8 bytes of each stay in memory. The file has no name, and is gone with this or with the process.
pub(crate) struct Spill<T> {
    file: BufWriter<File>,
    /// Where each row ends.
    ends: Vec<u64>,
    rows: PhantomData<fn(T) -> T>,
}

impl<T: Serialize + DeserializeOwned> Spill<T> {
    pub(crate) fn new() -> Result<Self, PipelineError> {
        Ok(Self { file: BufWriter::new(tempfile::tempfile().map_err(failed)?), ends: Vec::new(), rows: PhantomData })
    }

    pub(crate) fn push(&mut self, row: &T) -> Result<(), PipelineError> {
        let line = serde_json::to_vec(row).map_err(|e| failed(e.into()))?;
        self.file.write_all(&line).map_err(failed)?;
        self.ends.push(self.ends.last().copied().unwrap_or(0) + line.len() as u64);
        Ok(())
    }

    /// The rows with these numbers, in this order.
    pub(crate) fn rows(
        self,
        numbers: impl IntoIterator<Item = usize>,
    ) -> Result<impl Iterator<Item = Result<T, PipelineError>>, PipelineError> {
        let mut file = BufReader::new(self.file.into_inner().map_err(|e| failed(e.into_error()))?);
        let ends = self.ends;
        let mut buffer = Vec::new();
        let mut row = move |number: usize| {
            let start = number.checked_sub(1).map_or(0, |before| ends[before]);
            buffer.resize((ends[number] - start) as usize, 0);
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(&mut buffer)?;
            Ok(serde_json::from_slice(&buffer)?)
        };
        Ok(numbers.into_iter().map(move |number| row(number).map_err(failed)))
    }
}

fn failed(error: std::io::Error) -> PipelineError {
    PipelineError::io(&std::env::temp_dir())(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_in_any_order() -> Result<(), PipelineError> {
        let mut spill = Spill::new()?;
        ["one", "", "three\nlines\n"].iter().try_for_each(|row| spill.push(&(*row).to_owned()))?;
        let rows: Vec<String> = spill.rows([2, 0, 1, 0])?.collect::<Result<_, _>>()?;
        assert_eq!(rows, ["three\nlines\n", "one", "", "one"]);
        Ok(())
    }
}
