//! The barriers: the work of a load or store besides the access itself.

pub(crate) mod heal;
pub(crate) mod slow_call;
