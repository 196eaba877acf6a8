//! Options of the heap that no peer has. Where nobody gives one, the heap has its own choice.

use std::time::Duration;

use clap::Args;
use gc_heap::{ByteSize, HeapBuilder, MIN_HEAP_BYTES};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::size::{bytes, parse_count, parse_seconds, parse_share};

/// As on the command line, and as in the settings of a run.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Own {
    /// The memory that the heap tries to make do with: a number with k, m or g (KiB, MiB, GiB), at
    /// most its maximum [default: the maximum]
    #[arg(long = "soft-max", value_name = "SIZE", value_parser = parse_bytes)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) soft_max_bytes: Option<u64>,

    /// How many seconds memory stays free before the heap gives it back [default: the heap's own
    /// choice, 300]
    #[arg(long = "uncommit-delay", value_name = "S", value_parser = parse_seconds)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    uncommit_delay_s: Option<f64>,

    /// Memory to leave the system: while less is available, the heap makes do with little more than
    /// what lives [default: it does not look]
    #[arg(long = "spare", value_name = "SIZE", value_parser = parse_bytes)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    spare_bytes: Option<u64>,

    /// The share of time, above 0 and at most 1, for which threads may wait for memory before the
    /// heap makes do with little more than what lives [default: it does not look]
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    memory_stall_limit: Option<f64>,

    /// Addresses of the heap as a multiple of its maximum, 1 to 16: from 2 on a large object needs
    /// no run of free memory [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    address_factor: Option<u64>,
}

fn parse_bytes(text: &str) -> Result<u64, <ByteSize as std::str::FromStr>::Err> {
    text.parse().map(ByteSize::bytes)
}

impl Own {
    /// The first option that was given, by its name.
    pub(super) fn given(&self) -> Option<&'static str> {
        let options = [
            ("--soft-max", self.soft_max_bytes.is_some()),
            ("--uncommit-delay", self.uncommit_delay_s.is_some()),
            ("--spare", self.spare_bytes.is_some()),
            ("--memory-stall-limit", self.memory_stall_limit.is_some()),
            ("--address-factor", self.address_factor.is_some()),
        ];
        options.into_iter().find_map(|(name, is_given)| is_given.then_some(name))
    }

    /// A heap's builder with what was given.
    pub(super) fn apply(&self, mut builder: HeapBuilder) -> HeapBuilder {
        if let Some(bytes) = self.soft_max_bytes {
            builder = builder.soft_max_bytes(bytes as usize);
        }
        if let Some(seconds) = self.uncommit_delay_s {
            builder = builder.uncommit_delay(Some(Duration::from_secs_f64(seconds)));
        }
        if let Some(factor) = self.address_factor {
            builder = builder.address_factor(factor as usize);
        }
        builder.spare_bytes(self.spare_bytes.map(|bytes| bytes as usize)).memory_stall_limit(self.memory_stall_limit)
    }

    /// Refuses a soft maximum that says nothing, or that no heap of that size can keep.
    pub(super) fn check_soft_max(&self, heap_bytes: u64) -> Result<(), Failure> {
        let Some(soft_max) = self.soft_max_bytes else { return Ok(()) };
        let (said, most, least) = (bytes(soft_max), bytes(heap_bytes), bytes(MIN_HEAP_BYTES as u64));
        if soft_max > heap_bytes {
            return Err(Failure::input(format!(
                "a soft maximum of {said} is more than the heap's maximum of {most}: it would change nothing"
            )));
        }
        if soft_max < MIN_HEAP_BYTES as u64 {
            return Err(Failure::input(format!(
                "a soft maximum of {said} is less than the smallest heap has, {least}"
            )));
        }
        Ok(())
    }
}
