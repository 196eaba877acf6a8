//! Calls to slow paths that cost the fast path nothing.
//!
//! An ordinary call makes the compiler assume that half of the registers are lost, so every function with a barrier in
//! it saves registers before its first instruction, also where the barrier has nothing to do. These calls go through
//! stubs that keep all general registers; on other architectures, and where 512-bit vectors are enabled, they are
//! ordinary calls.
//!
//! # Invariants
//!
//! 1. The entry functions never unwind: what would panic is answered with 0, and the caller panics.
//! 2. A stub keeps all registers but `rax` and the vector and mask registers, which the call sites declare lost: those of
//!    AVX-512 too, because a call site may be inlined into a function that is compiled for it.
//! 3. A call site first moves the stack pointer below the red zone, so the stub may use the stack although the call site
//!    says `nostack` (which is what keeps the caller free of a frame); the stub aligns the stack itself.

use super::Mutator;
use std::hint::cold_path;
use std::sync::atomic::AtomicU64;

/// The good word for a stale one, healed in its slot; 0 where there is none.
extern "C" fn heal_entry(m: &Mutator<'_>, slot: &AtomicU64, word: u64) -> u64 {
    m.heal_slow(slot, word).unwrap_or(0)
}

/// The start of `bytes` new bytes; 0 where the room is used up.
extern "C" fn bump_entry(m: &Mutator<'_>, bytes: u64) -> u64 {
    m.try_bump_slow(bytes as usize).unwrap_or(0)
}

extern "C" fn log_entry(m: &Mutator<'_>, word: u64) -> u64 {
    m.log_slow(word);
    0
}

#[cfg(all(target_arch = "x86_64", not(target_feature = "avx512f")))]
mod imp {
    use super::*;
    use std::arch::{asm, naked_asm};

    macro_rules! stub {
        ($name:ident, $entry:ident) => {
            /// # Safety
            /// Called by `call!` alone.
            #[unsafe(naked)]
            unsafe extern "C" fn $name() {
                naked_asm!(
                    "push rbp",
                    "mov rbp, rsp",
                    "push rcx",
                    "push rdx",
                    "push rsi",
                    "push rdi",
                    "push r8",
                    "push r9",
                    "push r10",
                    "push r11",
                    "and rsp, -16",
                    "cld",
                    "call {entry}",
                    "lea rsp, [rbp - 64]",
                    "pop r11",
                    "pop r10",
                    "pop r9",
                    "pop r8",
                    "pop rdi",
                    "pop rsi",
                    "pop rdx",
                    "pop rcx",
                    "pop rbp",
                    "ret",
                    entry = sym $entry,
                )
            }
        };
    }

    stub!(heal_stub, heal_entry);
    stub!(bump_stub, bump_entry);
    stub!(log_stub, log_entry);

    macro_rules! call {
        ($stub:ident, $a:expr, $b:expr, $c:expr) => {{
            let result: u64;
            // SAFETY: invariants 1 to 3; the arguments are those of the stub's entry function, which is safe to call.
            unsafe {
                asm!(
                    "lea rsp, [rsp - 128]",
                    "call {stub}",
                    "lea rsp, [rsp + 128]",
                    stub = sym $stub,
                    in("rdi") $a, in("rsi") $b, in("rdx") $c, lateout("rax") result,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                    out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                    out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                    // A call site may be inlined into a function that is compiled for AVX-512.
                    out("xmm16") _, out("xmm17") _, out("xmm18") _, out("xmm19") _,
                    out("xmm20") _, out("xmm21") _, out("xmm22") _, out("xmm23") _,
                    out("xmm24") _, out("xmm25") _, out("xmm26") _, out("xmm27") _,
                    out("xmm28") _, out("xmm29") _, out("xmm30") _, out("xmm31") _,
                    out("k1") _, out("k2") _, out("k3") _, out("k4") _,
                    out("k5") _, out("k6") _, out("k7") _,
                    options(nostack),
                );
            }
            result
        }};
    }

    #[inline(always)]
    pub(super) fn heal(m: &Mutator<'_>, slot: &AtomicU64, word: u64) -> u64 {
        call!(heal_stub, std::ptr::from_ref(m), std::ptr::from_ref(slot), word)
    }

    #[inline(always)]
    pub(super) fn bump(m: &Mutator<'_>, bytes: u64) -> u64 {
        call!(bump_stub, std::ptr::from_ref(m), bytes, 0_u64)
    }

    #[inline(always)]
    pub(super) fn log(m: &Mutator<'_>, word: u64) {
        call!(log_stub, std::ptr::from_ref(m), word, 0_u64);
    }
}

#[cfg(not(all(target_arch = "x86_64", not(target_feature = "avx512f"))))]
mod imp {
    use super::*;

    pub(super) fn heal(m: &Mutator<'_>, slot: &AtomicU64, word: u64) -> u64 {
        heal_entry(m, slot, word)
    }

    pub(super) fn bump(m: &Mutator<'_>, bytes: u64) -> u64 {
        bump_entry(m, bytes)
    }

    pub(super) fn log(m: &Mutator<'_>, word: u64) {
        log_entry(m, word);
    }
}

#[cold]
#[inline(never)]
fn no_good_word(m: &Mutator<'_>, word: u64) -> ! {
    if m.heap().space.owns(word) {
        panic!("heap corrupted: a stale reference {word:#x} to an object that was dead (a missed barrier)");
    }
    panic!("a reference of one heap was used with a mutator of another");
}

#[cold]
#[inline(never)]
#[track_caller]
fn past_the_room(m: &Mutator<'_>, bytes: u64) -> ! {
    let left = m.limit.get().saturating_sub(m.top.get());
    panic!(
        "placed {bytes} bytes past the reserved room ({left} bytes are left of the thread's block): \
         `reserve` must count every object"
    );
}

impl Mutator<'_> {
    /// Resolves a stale word that was loaded from a slot, and heals the slot.
    #[inline(always)]
    pub(crate) fn heal(&self, slot: &AtomicU64, word: u64) -> u64 {
        cold_path();
        match imp::heal(self, slot, word) {
            0 => no_good_word(self, word),
            good => good,
        }
    }

    /// The next `bytes` where the TLAB has not got them.
    #[inline(always)]
    #[track_caller]
    pub(super) fn bump_slow(&self, bytes: usize) -> u64 {
        cold_path();
        match imp::bump(self, bytes as u64) {
            0 => past_the_room(self, bytes as u64),
            start => start,
        }
    }

    /// Logs a word that is about to be overwritten.
    #[inline(always)]
    pub(crate) fn log(&self, word: u64) {
        cold_path();
        imp::log(self, word);
    }
}
