//! The integration target: one binary, one line for each file.
mod corpus;
mod corpus_rules;
