//! The page barrier, as mutators, pauses and pacing see it: see [`Relocation`].

use super::mapping::register;
use super::repair::repair_everything;
use crate::config::{Backing, Config};
use crate::error::{BuildError, NoPageBarrier};
use crate::inner::HeapInner;
use crate::inner::mutator::Mutator;
use crate::inner::pacing::ENOUGH_FREE;
use crate::inner::relocation::{PageFigures, Relocation, most_for_trigger};
use crate::roots::file_region::{FileRegion, ROOT_AREA_BYTES, open_at_first};
use crate::roots::region::RootMemory;
use crate::space::pages::Pages;
use crate::space::{Block, Offset, Page};
use crate::stats::Durations;
use gc_core::fault::{FaultError, Registration};
use gc_core::views::{Gate, MIN_SPAN, Views};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The page barrier of a heap.
pub(crate) struct PageBarrier(pub(crate) Arc<Pages>);

impl Relocation for PageBarrier {
    fn takes_faults(&self) -> bool {
        true
    }

    /// There is one color.
    fn heals_slots(&self) -> bool {
        false
    }

    fn update_references(&self, inner: &HeapInner) {
        repair_everything(inner, &self.0);
    }

    fn admit(&self, inner: &HeapInner, first: Block, count: usize) {
        // A repair must find the blocks as they were at the flip, or not visit them at all.
        self.0.make_resident(inner, first, count);
    }

    fn is_admitting(&self) -> bool {
        self.0.flip.is_active()
    }

    fn opens(&self, block: Block) {
        self.0.forget_first(block);
    }

    /// After a flip: the objects in the TLABs are repaired as of the flip. Pages past them may be
    /// restored unclaimed, so no newer object may lie there: a thread that claimed such a page
    /// later would repair it. The next TLABs are admitted.
    fn retires_tlabs(&self, m: &Mutator<'_>) -> bool {
        let flip = self.0.flip.get().number();
        m.flip.replace(flip) != flip
    }

    /// How far the TLABs are filled, so that other threads can repair the objects in them.
    fn publish(&self, m: &Mutator<'_>) {
        let memory = &m.inner().memory;
        for (index, tlab) in [&m.tlabs.active, &m.tlabs.spare].into_iter().enumerate() {
            let filled = tlab.filled(memory);
            if let Some((block, fill)) = filled {
                memory.blocks.set_used_bytes(block, fill);
            }
            m.record().set_current(index, filled.map(|(block, _)| block));
        }
    }

    /// The pages are repaired, and, with anonymous memory, mapped.
    fn lend(&self, inner: &HeapInner, offset: Offset, bytes: usize) {
        let pages = &*self.0;
        if !pages.flip.is_active() {
            return;
        }
        let range = Page::holding(offset, bytes);
        for page in Page::range(range.clone()) {
            pages.repair(inner, page);
        }
        if pages.gate.is_private() {
            pages.install(range);
        }
    }

    fn trigger(&self, inner: &HeapInner, least: usize, wanted: usize) -> usize {
        let blocks = inner.memory.max_blocks();
        // While more than this is free, a plan relocates nothing, and if no block dies as a whole,
        // the cycle gains nothing.
        let useless = blocks.saturating_sub(self.0.lasting.load(Ordering::Relaxed) as usize) / 100 * ENOUGH_FREE;
        let density = f64::from(self.0.density.load(Ordering::Relaxed)) / 1000.0;
        let most = self.0.most_destinations(blocks);
        let destinations = destinations((wanted - least) as f64, density, most, blocks);
        // Mutators may not allocate the blocks reserved for the next flip.
        let kept = inner.memory.free.kept() - inner.memory.free.reserve();
        (wanted + destinations.max(kept)).min(most_for_trigger(inner)).min(useless.max(wanted + kept))
    }

    fn rehearses_start(&self) -> bool {
        self.0.gate.rehearse();
        true
    }

    /// The flip: every page is gated.
    fn start(&self, inner: &HeapInner) -> bool {
        self.0.gate_all(inner)
    }

    fn dangling(&self) -> u64 {
        self.0.dangling.load(Ordering::Relaxed)
    }

    fn figures(&self) -> PageFigures {
        PageFigures {
            faults: self.0.faults.total(),
            waits: self.0.waits.load(Ordering::Relaxed),
            by_mutators: self.0.by_mutators.load(Ordering::Relaxed),
        }
    }

    fn fault_durations(&self) -> Durations {
        self.0.faults.durations()
    }

    fn serve_faults(&self, inner: &Arc<HeapInner>) -> Result<Option<Registration>, BuildError> {
        let registered = register(inner, &self.0);
        registered.map(Some).map_err(|error| {
            let refused = if let FaultError::Sys(refused) = error { vec![refused] } else { Vec::new() };
            BuildError::PageBarrier(NoPageBarrier::new(error, refused))
        })
    }

    #[cfg(test)]
    fn state(&self) -> &dyn std::any::Any {
        &*self.0
    }
}

/// Maps the memory of a heap. The file extends beyond the heap proper, for the roots.
pub(crate) fn map(config: &Config) -> Result<(Views, RootMemory, Arc<Pages>), BuildError> {
    let roots_at = config.address_bytes().next_multiple_of(MIN_SPAN);
    let bytes = roots_at + ROOT_AREA_BYTES;
    let views = match config.backing {
        Backing::Memfd => Views::new(&config.name, bytes, config.mirror)?,
        Backing::Anonymous => Views::anonymous_in_parts(bytes, &open_at_first(roots_at))?,
    };
    let gate = Gate::new(&views)?;
    let roots = FileRegion::new(&views, roots_at);
    let pages = Pages::new(gate, views.bytes(), config.address_bytes())?;
    Ok((views, RootMemory::Gated(Arc::new(roots)), Arc::new(pages)))
}

/// Destination blocks a flip needs to free at least what is allocated until the next
/// one.
///
/// `D` blocks hold the objects of sources of density `r` and gain `D (1/r - 1)`. At most a quarter
/// of the heap is reserved for this: if that is not enough, cycles follow one another, and finally
/// a stop-the-world compaction. And at most as much as there is to move, `most`, which is little if
/// objects are large.
fn destinations(expected: f64, density: f64, most: usize, blocks: usize) -> usize {
    let wanted = expected * density / (1.0 - density).max(0.05);
    (wanted as usize).min(blocks / 4).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_gain_what_is_allocated() {
        assert_eq!(destinations(100.0, 0.5, 500, 1000), 100);
        assert_eq!(destinations(100.0, 0.0, 500, 1000), 0);
        assert_eq!(destinations(1000.0, 0.9, 500, 1000), 250, "a quarter at most");
        assert_eq!(destinations(1000.0, 0.9, 40, 1000), 40, "no more than what may be moved");
    }
}
