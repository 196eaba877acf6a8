//! How the mutators and the collector coordinate: pauses, handshakes, requests for cycles, and each
//! mutator's record.

pub(crate) mod late;
pub(crate) mod pacing;
pub(crate) mod pause;
pub(crate) mod requests;
