//! Rows of a Parquet file as the records that JSONL lines are: lists and structs are JSON's lists and objects.
//!
//! The file is read page by page, so that besides the columns' dictionaries a page of each column is in memory at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

use super::record::{Record, TELLING, Unit};
use crate::DataError;
use crate::files::open_file;

pub(super) struct ParquetRows {
    name: String,
    rows: RowIter<'static>,
    number: usize,
}

impl ParquetRows {
    pub(super) fn open(path: &Path, name: String) -> Result<Self, DataError> {
        let file = open_file(path)?;
        let rows = contained(|| Ok(SerializedFileReader::new(file)?.into_iter()));
        match rows {
            Ok(rows) => Ok(Self { name, rows, number: 0 }),
            Err(problem) => Err(DataError::file(name, damaged(&problem))),
        }
    }
}

impl Iterator for ParquetRows {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.number += 1;
        match contained(|| self.rows.next().transpose()) {
            Ok(row) => row.map(|row| Ok(Record::new(self.name.clone(), self.number, Unit::Row, columns(row)))),
            Err(problem) => Some(Err(Unit::Row.error(&self.name, self.number, damaged(&problem)))),
        }
    }
}

fn damaged(problem: &str) -> String {
    format!(
        "cannot be read on ({problem}); the file is cut off or damaged, or has what this reader lacks; fetch it again, or convert it to JSONL"
    )
}

/// What the library says, its panics included: there are some left in it for files that are not as they should be.
fn contained<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    // Nothing is asked of a reader that panicked: errors end the rows.
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(text.unwrap_or("the reader failed").to_owned())
        }
    }
}

/// Bytes under the name of a picture or a sound are one, even where they happen to be text.
fn columns(row: Row) -> Map<String, Value> {
    let column = |(name, field): (String, Field)| match field {
        Field::Bytes(_) if TELLING.contains(&name.as_str()) => (name, Value::Null),
        field => (name, value(field)),
    };
    row.into_columns().into_iter().map(column).collect()
}

fn object(row: Row) -> Map<String, Value> {
    row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
}

fn value(field: Field) -> Value {
    match field {
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => value.into(),
        Field::Double(value) => value.into(),
        Field::Str(text) => text.into(),
        // Some writers do not mark their text as text. What is none (images, …) is no field of any format.
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or(Value::Null, Value::from),
        Field::Group(row) => object(row).into(),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        // Nulls; dates, decimals, maps, …, which are no field of any format either.
        _ => Value::Null,
    }
}
