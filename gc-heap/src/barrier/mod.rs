//! The barriers: what a load and a store do beyond the load and the store.

pub(crate) mod heal;
pub(crate) mod slow_call;
