//! Places where objects lie, S3 and files, and copying to and from them.
//!
//! [`Location`] names a place, [`Stores`] reaches it, [`copy`] encrypts to it and decrypts from it
//! in constant memory.

mod bucket;
pub mod copy;
mod error;
mod file;
mod in_place;
mod location;
pub(crate) mod recovery;
mod sink;
mod source;
mod upload;

pub use bucket::{Head, Listed, Stores};
pub use error::{Fault, StoreError};
pub use file::FileSink;
pub use object_store::aws::AmazonS3Builder;

pub use location::{Location, LocationError, SUFFIX};
pub use sink::Sink;
pub use source::{AnySource, BodyStream, ObjectSource, PlainSource, S3ecSource};
pub use upload::Upload;
