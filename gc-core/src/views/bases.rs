//! Placement of heaps in the address space.
//!
//! A load barrier tests an address against a mask. If the mask contains the base bits that are
//! *not* this heap's, the same test catches a reference of another heap, at no cost. That works
//! when no heap's base bits are a subset of another's: then each address of one has a bit that the
//! other's base lacks. (Of two heaps of different size, only the bits above the larger reservation
//! count: below them an offset of the larger one may have any pattern.) A family of bit sets of
//! which none contains another is largest, and leaves most room for later ones, when about half of
//! the bits are set in each (Sperner).
//!
//! So this module tries its own bases before it lets the kernel choose. The kernel's choice, on an
//! ordinary system, is just below the stack, with *all* of the upper bits set: as long as such a
//! heap lives, every other base is a subset of its bits for any heap of 256 GiB or more, and for
//! smaller ones soon. The kernel's choice is taken where no base of ours is free (ThreadSanitizer
//! forbids most addresses), if it keeps apart from the heaps that live.

use super::{ADDRESS_LIMIT, ViewsError};
use crate::sys::{self, Patience, SysError};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The live heaps of the process, as base and reservation. Inside [`sys::shared_state`] only.
static LIVE: Mutex<Vec<Claim>> = Mutex::new(Vec::new());

/// ThreadSanitizer keeps its own data at these places.
const AVOIDED: [usize; 5] = [0x0400_0000_0000, 0x0800_0000_0000, 0x1000_0000_0000, 0x2000_0000_0000, 0x4000_0000_0000];

/// After this many refusals by the kernel, bases with the same upmost bits (1 TiB) are no longer
/// tried: that part of the address space is in use, or forbidden.
const MAX_REFUSALS: u8 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    base: usize,
    /// Four spans, or sixteen: a power of two.
    bytes: usize,
}

impl Claim {
    /// Whether neither base's bits above the larger reservation are a subset of the other's.
    fn is_apart(self, other: Claim) -> bool {
        let above = !(self.bytes.max(other.bytes) - 1);
        let (a, b) = (self.base & above, other.base & above);
        a & !b != 0 && b & !a != 0
    }
}

/// A reservation of some spans whose base no other live heap's can be taken for. Dropping it unmaps
/// the whole range.
#[derive(Debug)]
pub(super) struct Base {
    claim: Claim,
    span: usize,
    /// The process that reserved it. A child made by `fork` has a copy of this value but not of the
    /// views, and may have other mappings at their addresses.
    process: u32,
}

impl Base {
    /// Reserves `spans` spans, a power of two, aligned to all of them.
    pub(super) fn reserve(span: usize, spans: usize) -> Result<Base, ViewsError> {
        let bytes = spans * span;
        let (_shared, mut live) = lock();
        let mut tried = 0;
        let mut last = None;
        let mut refusals = [0_u8; ADDRESS_LIMIT >> TOP];
        for base in candidates(bytes) {
            let claim = Claim { base, bytes };
            let refusals = &mut refusals[base >> TOP];
            if *refusals == MAX_REFUSALS || !live.iter().all(|other| claim.is_apart(*other)) {
                continue;
            }
            match sys::reserve_at(base, bytes) {
                Ok(()) => return Ok(Base::register(&mut live, claim, span)),
                Err(error) => last = Some(error),
            }
            *refusals += 1;
            tried += 1;
        }
        let base = match sys::reserve(bytes, bytes) {
            Ok(base) => base,
            Err(error) => {
                let limit = sys::address_limit().ok().flatten().filter(|_| error.errno() == libc::ENOMEM);
                return Err(match limit {
                    Some(limit) => ViewsError::AddressLimit { bytes, limit },
                    // If no other heap is alive, the cause is not a lack of distinguishable bases.
                    None if live.is_empty() => ViewsError::Sys(error),
                    None => ViewsError::NoBase { span, live: live.len(), tried: tried + 1, last: Box::new(error) },
                });
            }
        };
        let claim = Claim { base, bytes };
        if base + bytes <= ADDRESS_LIMIT && live.iter().all(|other| claim.is_apart(*other)) {
            return Ok(Base::register(&mut live, claim, span));
        }
        // SAFETY: the range was reserved just now, and nobody knows of it.
        unsafe { sys::unmap(base, bytes) }?;
        let taken = SysError::new("mmap(reserve)", &[("addr", base), ("len", bytes)], libc::EADDRINUSE);
        Err(ViewsError::NoBase { span, live: live.len(), tried: tried + 1, last: Box::new(last.unwrap_or(taken)) })
    }

    fn register(live: &mut Vec<Claim>, claim: Claim, span: usize) -> Base {
        live.push(claim);
        Base { claim, span, process: std::process::id() }
    }

    pub(super) fn address(&self) -> usize {
        self.claim.base
    }

    pub(super) fn span(&self) -> usize {
        self.span
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            return;
        }
        let (_shared, mut live) = lock();
        // SAFETY: the whole range is ours since `reserve`; the owner of the views mapped in it owns
        // this value and ends with it.
        let unmapped = Patience::short().with(|| unsafe { sys::unmap(self.claim.base, self.claim.bytes) });
        // If that is refused, the addresses are still mapped, so the claim stays, and with it the
        // guarantee for other heaps.
        if unmapped.is_ok() {
            live.retain(|claim| *claim != self.claim);
        }
    }
}

fn lock() -> (MutexGuard<'static, ()>, MutexGuard<'static, Vec<Claim>>) {
    (sys::shared_state(), LIVE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Bases for a reservation of `bytes`, best first: patterns with about half of the bits above it
/// set.
fn candidates(bytes: usize) -> impl Iterator<Item = usize> {
    let low = bytes.trailing_zeros();
    let bits = ADDRESS_LIMIT.trailing_zeros() - low;
    // Half of the bits in each group first: then the pattern is as balanced to a larger
    // reservation, which sees the upper groups only. Thus a small first heap leaves room for large
    // ones.
    let grouped = grouped(low);
    let ones = grouped.first().map_or(bits.div_ceil(2), |base| base.count_ones());
    let all = patterns(bits, ones).map(move |pattern| pattern << low);
    grouped.into_iter().chain(all).filter(|base| !AVOIDED.contains(base))
}

/// Bits 40 to 46 are the upmost group.
const TOP: u32 = 40;
/// The groups below it have this many bits.
const GROUP: u32 = 4;

/// Where to begin: well balanced, and among the addresses that ThreadSanitizer allows a program.
const FIRST: usize = 0x59;
/// Position-independent executables are loaded here, followed by their `brk(2)` heap.
const OCCUPIED: [usize; 2] = [0x55, 0x56];

/// The patterns of the bits from `low` on with half of each group set. Empty where only the upmost
/// group is left.
fn grouped(low: u32) -> Vec<usize> {
    if low > TOP {
        return Vec::new();
    }
    let mut tops: Vec<usize> = patterns(7, 4).collect();
    // Balanced ones first, and of those the ones that share upper bits: larger reservations see no
    // more than these.
    let unbalance = |top: &usize| (1..7).map(|less| ((top >> less).count_ones() * 2).abs_diff(7 - less)).sum::<u32>();
    tops.sort_by_key(|top| (OCCUPIED.contains(top), *top != FIRST, unbalance(top), top ^ FIRST));
    let mut bases: Vec<usize> = tops.into_iter().map(|top| top << TOP).collect();
    let mut at = TOP;
    // Enough for any process long before all are made: stop where the list is long, the rest comes
    // from `patterns`.
    while at > low {
        let width = GROUP.min(at - low);
        at -= width;
        let parts: Vec<usize> = patterns(width, width.div_ceil(2)).map(|part| part << at).collect();
        if bases.len() > 4096 {
            bases.iter_mut().for_each(|base| *base |= parts[0]);
        } else {
            bases = bases.iter().flat_map(|base| parts.iter().map(move |part| base | part)).collect();
        }
    }
    bases
}

/// The numbers below `1 << bits` with `ones` bits set, in order.
fn patterns(bits: u32, ones: u32) -> impl Iterator<Item = usize> {
    let first = (1_usize << ones) - 1;
    std::iter::successors(Some(first), |pattern| {
        // The next number with as many bits (HAKMEM 175); the limit below ends it. `ones` is not 0,
        // nor is `lowest`.
        let lowest = pattern & pattern.wrapping_neg();
        let ripple = pattern + lowest;
        Some(ripple | (((pattern ^ ripple) >> 2) / lowest))
    })
    .take_while(move |pattern| *pattern < 1 << bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn patterns_are_all_numbers_with_that_many_ones() {
        for bits in 1..=11_u32 {
            for ones in 1..=bits {
                let got: Vec<_> = patterns(bits, ones).collect();
                let want: Vec<_> = (0..1_usize << bits).filter(|n| n.count_ones() == ones).collect();
                assert_eq!(got, want, "{ones} of {bits}");
            }
        }
    }

    #[test]
    fn candidates_are_aligned_below_the_limit_and_not_avoided() {
        for low in 23..=45 {
            for base in candidates(1 << low).take(20_000) {
                assert_eq!(base % (1 << low), 0, "{base:#x}");
                assert!(base != 0 && base + (1 << low) <= ADDRESS_LIMIT, "{base:#x}");
                assert!(!AVOIDED.contains(&base), "{base:#x}");
            }
        }
    }

    #[test]
    fn as_many_heaps_of_one_size_keep_apart_as_there_are_half_full_patterns() {
        // 16 GiB spans: 11 bits, C(11, 6). 1 TiB spans: 5 bits, C(5, 3).
        for (low, most) in [(36, 462), (42, 10)] {
            let all: HashSet<_> = candidates(1 << low).collect();
            assert_eq!(all.len(), most);
            let claims: Vec<_> = all.iter().map(|base| Claim { base: *base, bytes: 1 << low }).collect();
            for (i, a) in claims.iter().enumerate() {
                assert!(claims[..i].iter().all(|b| a.is_apart(*b)));
            }
        }
    }

    #[test]
    fn small_heaps_leave_bases_for_large_ones() {
        let mut live: Vec<Claim> = Vec::new();
        // Rising sizes are the hard order: each newcomer sees fewer bits of those before it.
        for low in (23..=41).flat_map(|low| [low, low]).chain([42]) {
            let bytes = 1 << low;
            let mut claims = candidates(bytes).map(|base| Claim { base, bytes });
            let apart = claims.find(|claim| live.iter().all(|other| claim.is_apart(*other)));
            live.push(apart.unwrap_or_else(|| panic!("no base for {bytes:#x} beside {} heaps", live.len())));
        }
    }

    #[test]
    fn the_kernels_own_choice_would_leave_none() {
        let kernels = Claim { base: 0x7f12_0000_0000, bytes: 4 << 30 };
        let bytes = 1 << 40;
        assert!(!candidates(bytes).any(|base| Claim { base, bytes }.is_apart(kernels)));
    }
}
