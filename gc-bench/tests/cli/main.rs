//! The built bench, run as its users run it.

mod account;
mod common;
mod compare;
mod peers;
mod primitives;
mod publish;
mod refusals;
mod runs;
mod sandbox;
