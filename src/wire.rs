//! What travels on NATS: the grammar of subjects, the envelope of a message, and the digest of a record.
//!
//! Golden files in `tests/golden` pin all three: what one release wrote, every later one reads.

mod digest;
mod draft;
mod envelope;
pub mod rpc;
mod subject;
mod text;

pub use digest::digest;
pub use draft::{Control, Draft};
pub use envelope::{DecodeError, Head, VERSION, decode, encode, head};
pub use subject::{Subject, Subjects};
pub(crate) use text::Text;
