//! Versions of PTX.

pub mod ptx_version {
    use std::fmt::{Display, Formatter, Result};

    /// A version of PTX: there are none.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum PtxVersion {}

    impl PtxVersion {
        /// The newest that a driver loads: none that this crate could write.
        pub fn for_driver(_: i32) -> Option<Self> {
            None
        }
    }

    impl Display for PtxVersion {
        fn fmt(&self, _: &mut Formatter<'_>) -> Result {
            match *self {}
        }
    }
}
