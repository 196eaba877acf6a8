//! The built bench, run as its users run it.

mod account;
mod browser;
mod common;
mod compare;
mod curve;
mod min_heap;
mod peers;
mod primitives;
mod publish;
mod refusals;
mod report;
mod reproduce;
mod runs;
mod sandbox;
mod sweep;
