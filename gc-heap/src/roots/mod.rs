//! Memory of root slots: address ranges outside the heap, and their allocation. Data only: no
//! mutator, no barrier.

pub(crate) mod arenas;
pub(crate) mod file_region;
pub(crate) mod frames;
pub(crate) mod free_ranges;
pub(crate) mod region;
pub(crate) mod stack_region;
pub(crate) mod table;
