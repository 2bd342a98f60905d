//! The floor of storing: the same rows into the same tables with the same durability, and nothing around it.

pub mod messages;
pub mod sqlite;
