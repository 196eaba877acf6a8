//! Trap 9: the traits that the collector trusts are unsafe.
use gc_heap::{Field, Init, SlotType, Tail, Trace};

struct Mine;

impl Trace for Mine {}
impl Field for Mine {}
impl SlotType for Mine {}
impl Tail for Mine {}
impl<'g> Init<'g> for Mine {}

fn main() {}
