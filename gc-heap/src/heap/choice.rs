//! Which barrier a heap has: the one place that looks at [`Barrier`] when a heap is built.

use crate::collector::flip_way::ByPageBarrier;
use crate::collector::ways::{ByLoadBarrier, InOnePause, Way};
use crate::config::{Barrier, Config, HugePages};
use crate::error::BuildError;
use crate::inner::relocation::{HealOnLoad, InPause, Relocation};
use crate::page::barrier::{self, PageBarrier};
use crate::roots::region::RootMemory;
use crate::warning::BuildWarning;
use gc_core::views::{Views, ViewsError};
use std::sync::Arc;

/// What follows from the choice.
pub(super) struct Choice {
    pub(super) views: Views,
    pub(super) roots: RootMemory,
    pub(super) relocation: Arc<dyn Relocation>,
    pub(super) way: Box<dyn Way>,
    pub(super) warning: Option<BuildWarning>,
}

/// Maps the memory of a heap, for its barrier.
pub(super) fn choose(config: &Config) -> Result<Choice, BuildError> {
    let (relocation, way): (Arc<dyn Relocation>, Box<dyn Way>) = match config.barrier {
        Barrier::Load => (Arc::new(HealOnLoad), Box::new(ByLoadBarrier)),
        Barrier::StopTheWorld => (Arc::new(InPause), Box::new(InOnePause)),
        Barrier::Page => {
            let (views, roots, pages) = barrier::map(config)?;
            let warning = pages.gate.no_move().map(BuildWarning::PagesCopied);
            let (relocation, way) = (Arc::new(PageBarrier(Arc::clone(&pages))), Box::new(ByPageBarrier(pages)));
            return Ok(Choice { views: dumped(views, config)?, roots, relocation, way, warning });
        }
    };
    let map = if config.generations { Views::of_generations } else { Views::new };
    let views = dumped(map(&config.name, config.address_bytes(), config.mirror)?, config)?;
    Ok(Choice { views, roots: RootMemory::private(), relocation, way, warning: None })
}

fn dumped(mut views: Views, config: &Config) -> Result<Views, BuildError> {
    if config.dump_objects {
        views.dump(config.huge_pages != HugePages::Never).map_err(ViewsError::from)?;
    }
    Ok(views)
}
