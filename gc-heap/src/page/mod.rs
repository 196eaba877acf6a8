//! The page barrier: gated pages, their repair, and the flips that move them.

pub(crate) mod flip;
pub(crate) mod pages;
pub(crate) mod repair;
