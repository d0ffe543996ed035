//! Operators' calls: one request carries every operation of the catalogue.
use bytes::Bytes;

message! {
    /// Run an operation of [`crate::operation`].
    pub struct Call {
        /// Number of the operation.
        pub operation: u16,
        /// Its arguments, encoded.
        pub args: Bytes,
    }

    /// The result of an operation.
    pub struct Called {
        /// The result, encoded.
        pub result: Bytes,
    }
}
