//! The workloads. Each does what the peer program of the same name does (warm-up, work, checksum,
//! samples), in the style that this heap's API asks for, and owns all that is its own: its options,
//! its standard sizes, what it keeps alive.
//!
//! A new one is a file here, a variant of [`Work`] and, if it is named on the command line, an
//! entry of `options::STANDARD`.

mod binary_trees;
mod common;
mod gcbench;
mod idle;
pub(crate) mod json;
mod lru_cache;
pub(crate) mod manual;
mod message_ring;
mod options;
pub(crate) mod pause_scaling;
mod robson;
mod steady;
mod table_churn;
mod tides;
mod work;

pub(crate) use options::WorkArgs;
pub(crate) use work::Work;
