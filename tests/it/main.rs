//! The integration target: one binary, one line for each file. What is tested is the program, started as processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::string_slice,
    reason = "a test fails by panicking and may say what it saw; clippy knows tests only by their attribute"
)]

mod arrows;
mod audit;
mod auditors;
mod backup;
mod bots;
mod cassandra;
mod chat;
mod client;
mod cluster;
mod compose;
mod conversations;
mod copy;
mod corpus;
mod corpus_rules;
mod cql;
mod dlq;
mod doctor;
mod events;
mod export;
mod foreign;
mod golden;
mod groups;
mod harm;
mod harness;
mod ingest;
mod late;
mod memory;
#[path = "../cassandra/node.rs"]
mod node;
mod pages;
mod poison;
mod process;
#[allow(clippy::disallowed_methods, reason = "the lines of a proxy end with it; they belong to no role")]
#[path = "../chaos/proxy.rs"]
mod proxy;
mod readme;
mod refusals;
mod replay;
mod restart;
mod retention;
mod shapes;
mod socket;
mod steady;
