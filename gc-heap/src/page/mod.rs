//! The page barrier after a flip: pages are repaired, and installed when they are.

pub(crate) mod barrier;
pub(crate) mod mapping;
pub(crate) mod repair;
pub(crate) mod serve;
