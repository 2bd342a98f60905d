//! To come.
pub mod engines;
