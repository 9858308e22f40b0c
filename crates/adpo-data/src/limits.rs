//! How much of a file is read before it is taken for an attack, or for another kind of file.

use std::sync::{PoisonError, RwLock};

/// What is said of a file beyond [`ReadLimits::unpacked`].
pub(crate) const TOO_MUCH: &str = "unpacks to far more than text does (`--max-unpacked-mib` raises the limit)";

/// Limits of reading. They hold for the whole program, and are raised by who knows the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes of a line, or of an element of a JSON array. In memory a line may take 16 times as much.
    pub line_bytes: u64,
    /// Bytes that a compressed file may unpack to; left out, 16 MiB and 100 times what it has: text packs to a tenth.
    pub unpacked_bytes: Option<u64>,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { line_bytes: 8 << 20, unpacked_bytes: None }
    }
}

static LIMITS: RwLock<Option<ReadLimits>> = RwLock::new(None);

/// The limits that hold now.
pub(crate) fn now() -> ReadLimits {
    LIMITS.read().unwrap_or_else(PoisonError::into_inner).unwrap_or_default()
}

impl ReadLimits {
    /// Makes them hold for everything that is opened from now on.
    pub fn apply(self) {
        *LIMITS.write().unwrap_or_else(PoisonError::into_inner) = Some(self);
    }

    /// Bytes that a file of so many may unpack to.
    pub(crate) fn unpacked(self, packed: u64) -> u64 {
        self.unpacked_bytes.unwrap_or_else(|| (16_u64 << 20).saturating_add(packed.saturating_mul(100)))
    }

    pub(crate) fn too_long(self) -> String {
        format!("is longer than {} MiB (`--max-line-mib` raises this)", self.line_bytes >> 20)
    }
}
