//! TensorBoard's event files: TFRecords of `tensorflow.Event` messages with one scalar each.
//!
//! Written by hand: the few fields that are needed take less code than a protobuf crate takes configuration.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::TrainError;
use crate::metrics::StepRecord;

/// What TensorBoard finds its files by.
const MARK: &str = ".tfevents.";

/// The event file of a training.
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Starts a file with the steps already done. The files of earlier sessions go, and a TensorBoard that has read them forgets their
    /// steps: some of them are done again.
    pub(crate) fn create(folder: &Path, done: &[StepRecord]) -> Result<Self, TrainError> {
        for entry in std::fs::read_dir(folder).map_err(TrainError::io(folder))? {
            let path = entry.map_err(TrainError::io(folder))?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().contains(MARK)) {
                std::fs::remove_file(&path).map_err(TrainError::io(&path))?;
            }
        }
        // TensorBoard reads files in the order of their names.
        let path = folder.join(format!("events.out{MARK}{:010}.adpo", now() as u64));
        let file = File::create(&path).map_err(TrainError::io(&path))?;
        let mut events = Self { path, file };
        let (mut version, mut restart) = (event(0), event(1));
        bytes_field(&mut version, 3, b"brain.Event:2");
        // `session_log { status: START }`: from this step on, what was read before does not hold.
        bytes_field(&mut restart, 7, &[0x08, 0x01]);
        events.write(&[record(&version), record(&restart)].concat())?;
        done.iter().try_for_each(|step| events.append(step))?;
        Ok(events)
    }

    /// One event for each metric, under its name in `metrics.jsonl`.
    pub(crate) fn append(&mut self, step: &StepRecord) -> Result<(), TrainError> {
        let one = |(name, value): (&String, &f64)| {
            let (mut scalar, mut summary, mut event) = (Vec::new(), Vec::new(), event(step.step as u64));
            bytes_field(&mut scalar, 1, name.as_bytes());
            // `simple_value`, a float.
            scalar.push(0x15);
            scalar.extend((*value as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &scalar);
            bytes_field(&mut event, 5, &summary);
            record(&event)
        };
        self.write(&step.values.iter().flat_map(one).collect::<Vec<u8>>())
    }

    fn write(&mut self, records: &[u8]) -> Result<(), TrainError> {
        self.file.write_all(records).map_err(TrainError::io(&self.path))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// An `Event` with its `wall_time`, a double, and its `step`.
fn event(step: u64) -> Vec<u8> {
    let mut out = vec![0x09];
    out.extend(now().to_le_bytes());
    out.push(0x10);
    varint(&mut out, step);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of bytes, text or a message.
fn bytes_field(out: &mut Vec<u8>, number: u8, value: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// A TFRecord: the length, its checksum, the data, their checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), data, &masked_crc(data)].concat()
}

fn masked_crc(data: &[u8]) -> [u8; 4] {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// CRC-32C (Castagnoli).
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0x82f6_3b78 * (crc & 1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn numbers_are_written_seven_bits_at_a_time() {
        let written = |value| {
            let mut out = Vec::new();
            varint(&mut out, value);
            out
        };
        assert_eq!([written(0), written(127), written(128), written(300)], [vec![0], vec![127], vec![0x80, 1], vec![0xac, 2]]);
    }
}
