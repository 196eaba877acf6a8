//! The built bench, run as its users run it.

mod common;
mod refusals;
mod runs;
