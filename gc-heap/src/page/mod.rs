//! The page barrier after a flip: pages are repaired, and let in when they are.

pub(crate) mod repair;
pub(crate) mod serve;
