//! To be filled in this hour.
