//! Calls of slow paths without cost for the fast path.
//!
//! An ordinary call makes the compiler assume that half of the registers are lost, so every
//! function with a barrier in it saves registers before its first instruction, also where the
//! barrier has nothing to do. These calls go through stubs that keep all general registers; on
//! other architectures they are ordinary calls.
//!
//! # Invariants
//!
//! 1. The entry functions never unwind: instead of a panic they return 0, and the caller panics.
//! 2. A stub keeps all general registers but `rax`. All else that a call may change by the System V
//!    ABI the call sites declare lost: the flags, and every vector, mask, tile, MMX and x87
//!    register. Naming `xmm` loses the whole of the `ymm` and `zmm` of its number. All 32 are
//!    named, and the mask registers, because a call site may be inlined into a function that is
//!    compiled for AVX-512 whatever the crate is compiled for. Control words (`MXCSR`, x87) are
//!    kept by every function.
//! 3. A call site does not say `nostack`: so no red zone is in use there, and the compiler's unwind
//!    information holds at the call. Where a function needs a frame for that alone, the compiler
//!    makes it on the slow path or outside the loop (docs/performance.md has the listings). The
//!    stub aligns the stack itself: LLVM 21 is seen to narrow the frame that aligns it to other
//!    calls of the function.
//! 4. A stub describes its frame (CFI), so that profilers, debuggers and backtraces go through it.

use crate::inner::mutator::Mutator;
use gc_core::remembered::Sort;
use gc_core::word::{GoodWord, Word};
use std::hint::cold_path;
use std::sync::atomic::AtomicU64;

/// The good word for a stale one, healed in its slot; 0 if there is none.
extern "C" fn heal_entry(m: &Mutator<'_>, slot: &AtomicU64, word: u64) -> u64 {
    m.heal_slow(slot, Word::new(word)).map_or(0, GoodWord::bits)
}

/// The start of `bytes` new bytes; 0 if the reserved memory is used up.
extern "C" fn bump_entry(m: &Mutator<'_>, bytes: u64) -> u64 {
    m.try_bump_slow(bytes as usize).unwrap_or(0)
}

extern "C" fn log_entry(m: &Mutator<'_>, word: u64) -> u64 {
    m.log_slow(Word::new(word));
    0
}

/// `slot` has the [`Sort`] in its three lowest bits, which no slot's address has.
extern "C" fn remember_entry(m: &Mutator<'_>, slot: u64, word: u64) -> u64 {
    m.remember_slow(slot & !7, Sort::ALL[(slot & 7) as usize], Word::new(word));
    0
}

#[cfg(target_arch = "x86_64")]
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
                    ".cfi_startproc",
                    "push rbp",
                    ".cfi_def_cfa_offset 16",
                    ".cfi_offset rbp, -16",
                    "mov rbp, rsp",
                    ".cfi_def_cfa_register rbp",
                    "push rcx",
                    "push rdx",
                    "push rsi",
                    "push rdi",
                    "push r8",
                    "push r9",
                    "push r10",
                    "push r11",
                    ".cfi_offset rcx, -24",
                    ".cfi_offset rdx, -32",
                    ".cfi_offset rsi, -40",
                    ".cfi_offset rdi, -48",
                    ".cfi_offset r8, -56",
                    ".cfi_offset r9, -64",
                    ".cfi_offset r10, -72",
                    ".cfi_offset r11, -80",
                    "and rsp, -16",
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
                    ".cfi_restore r11",
                    ".cfi_restore r10",
                    ".cfi_restore r9",
                    ".cfi_restore r8",
                    ".cfi_restore rdi",
                    ".cfi_restore rsi",
                    ".cfi_restore rdx",
                    ".cfi_restore rcx",
                    "pop rbp",
                    ".cfi_def_cfa rsp, 8",
                    ".cfi_restore rbp",
                    "ret",
                    ".cfi_endproc",
                    entry = sym $entry,
                )
            }
        };
    }

    stub!(heal_stub, heal_entry);
    stub!(bump_stub, bump_entry);
    stub!(log_stub, log_entry);
    stub!(remember_stub, remember_entry);

    macro_rules! call {
        ($stub:ident, $a:expr, $b:expr, $c:expr) => {{
            let result: u64;
            // SAFETY: invariants 1 to 4; the arguments are those of the stub's entry function,
            // which is safe to call.
            unsafe {
                asm!(
                    "call {stub}",
                    stub = sym $stub,
                    in("rdi") $a, in("rsi") $b, in("rdx") $c, lateout("rax") result,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                    out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                    out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                    out("xmm16") _, out("xmm17") _, out("xmm18") _, out("xmm19") _,
                    out("xmm20") _, out("xmm21") _, out("xmm22") _, out("xmm23") _,
                    out("xmm24") _, out("xmm25") _, out("xmm26") _, out("xmm27") _,
                    out("xmm28") _, out("xmm29") _, out("xmm30") _, out("xmm31") _,
                    out("k0") _, out("k1") _, out("k2") _, out("k3") _,
                    out("k4") _, out("k5") _, out("k6") _, out("k7") _,
                    out("mm0") _, out("mm1") _, out("mm2") _, out("mm3") _,
                    out("mm4") _, out("mm5") _, out("mm6") _, out("mm7") _,
                    out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                    out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                );
            }
            result
        }};
    }

    #[inline(always)]
    pub(crate) fn heal(m: &Mutator<'_>, slot: &AtomicU64, word: Word) -> u64 {
        call!(heal_stub, std::ptr::from_ref(m), std::ptr::from_ref(slot), word.bits())
    }

    #[inline(always)]
    pub(crate) fn bump(m: &Mutator<'_>, bytes: u64) -> u64 {
        call!(bump_stub, std::ptr::from_ref(m), bytes, 0_u64)
    }

    #[inline(always)]
    pub(crate) fn log(m: &Mutator<'_>, word: Word) {
        call!(log_stub, std::ptr::from_ref(m), word.bits(), 0_u64);
    }

    #[inline(always)]
    pub(crate) fn remember(m: &Mutator<'_>, slot: u64, word: Word) {
        call!(remember_stub, std::ptr::from_ref(m), slot, word.bits());
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::arch::x86_64::*;
        use std::backtrace::Backtrace;
        use std::hint::black_box;
        use std::sync::atomic::{AtomicUsize, Ordering};

        /// Changes all that a function may change. `kind`: 1 with AVX, 2 with AVX-512.
        extern "C" fn wipe_entry(kind: u64, _: u64, _: u64) -> u64 {
            // SAFETY: the caller says what the processor has; each block says what it changes.
            unsafe {
                match kind {
                    2 => wipe_512(),
                    1 => wipe_256(),
                    _ => wipe_128(),
                }
                asm!(
                    "mov rcx, -1", "mov rdx, -1", "mov rsi, -1", "mov rdi, -1", "mov r8, -1", "mov r9, -1", "mov r10, -1", "mov r11, -1",
                    out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                );
            }
            7
        }

        unsafe fn wipe_128() {
            // SAFETY: changes registers that every function may change, and says so.
            unsafe {
                asm!(
                    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                    "xorps xmm\\n, xmm\\n",
                    ".endr",
                    clobber_abi("C"),
                );
            }
        }

        #[target_feature(enable = "avx")]
        unsafe fn wipe_256() {
            // SAFETY: as above.
            unsafe { asm!("vzeroall", clobber_abi("C")) }
        }

        #[target_feature(enable = "avx512f")]
        unsafe fn wipe_512() {
            // SAFETY: as above.
            unsafe {
                asm!(
                    "vzeroall",
                    ".irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
                    "vpxord zmm\\n, zmm\\n, zmm\\n",
                    ".endr",
                    ".irp n, 0,1,2,3,4,5,6,7",
                    "kxorw k\\n, k\\n, k\\n",
                    ".endr",
                    clobber_abi("C"),
                );
            }
        }

        stub!(wipe_stub, wipe_entry);

        /// Else every function with a barrier in it would have to save them.
        #[test]
        fn a_stub_keeps_the_general_registers() {
            let mut kept: [u64; 8] = std::array::from_fn(|index| index as u64 + 1);
            let [c, d, si, di, r8, r9, r10, r11] = &mut kept;
            *di = 0; // the argument: which vectors there are
            // SAFETY: a call of a stub, with all declared that it changes and all to be looked at.
            unsafe {
                asm!(
                    "call {stub}",
                    stub = sym wipe_stub,
                    inout("rcx") *c, inout("rdx") *d, inout("rsi") *si, inout("rdi") *di,
                    inout("r8") *r8, inout("r9") *r9, inout("r10") *r10, inout("r11") *r11,
                    clobber_abi("C"),
                );
            }
            assert_eq!(kept, [1, 2, 3, 0, 5, 6, 7, 8]);
        }

        /// Variables that are in registers right here. Without an instruction, and for all that the
        /// compiler knows with new values: so it can neither make them again after a call nor put
        /// them where they go in the end before it.
        macro_rules! in_registers {
            ($class:ident: $($variable:ident)*) => {
                // SAFETY: no instruction.
                unsafe { asm!(concat!("/*", $("{", stringify!($variable), "}",)* "*/"), $($variable = inout($class) $variable,)* options(nomem, nostack)) }
            };
        }

        /// A function that has values in registers while it makes a call that says in `kind` what
        /// it wipes.
        macro_rules! holder {
            ($name:ident, $features:literal, $vector:ty, $set:ident, $class:ident, $kind:literal, [$($variable:ident)*]) => {
                #[target_feature(enable = $features)]
                #[inline(never)]
                fn $name(seed: i64) -> (u64, Vec<$vector>) {
                    let mut next = seed;
                    $(let mut $variable = $set(next); next += 1;)*
                    black_box(next);
                    in_registers!($class: $($variable)*);
                    let result = call!(wipe_stub, $kind, 0_u64, 0_u64);
                    in_registers!($class: $($variable)*);
                    (result, vec![$($variable),*])
                }
            };
        }
        holder!(hold_128, "sse2", __m128i, _mm_set1_epi64x, xmm_reg, 0_u64, [a b c d e f g h i j k l m n]);
        holder!(hold_256, "avx2", __m256i, _mm256_set1_epi64x, ymm_reg, 1_u64, [a b c d e f g h i j k l m n]);
        holder!(
            hold_512, "avx512f,avx512vl,avx512bw,avx512dq", __m512i, _mm512_set1_epi64, zmm_reg, 2_u64,
            [a b c d e f g h i j k l m n o p q r s t u v w x y z aa bb]
        );

        fn mask(number: i64) -> u8 {
            1 << (number % 8)
        }
        holder!(hold_masks, "avx512f,avx512vl,avx512bw,avx512dq", u8, mask, kreg, 2_u64, [a b c d e f]);

        fn lanes<V, const N: usize>(vector: V) -> [i64; N] {
            assert_eq!(size_of::<V>(), 8 * N);
            // SAFETY: a vector of so many integers.
            unsafe { std::mem::transmute_copy(&vector) }
        }

        /// Call sites are inlined into functions that are compiled for what the processor has, and
        /// these keep values in all of its registers.
        #[test]
        fn vectors_and_masks_are_kept_over_a_call() {
            let seed = black_box(100_i64);
            // SAFETY: every x86-64 has the feature.
            let (result, vectors) = unsafe { hold_128(seed) };
            assert_eq!(result, 7);
            (0..14).for_each(|index| assert_eq!(lanes::<_, 2>(vectors[index]), [seed + index as i64; 2]));
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the feature is there.
                let (result, vectors) = unsafe { hold_256(seed) };
                assert_eq!(result, 7);
                (0..14).for_each(|index| assert_eq!(lanes::<_, 4>(vectors[index]), [seed + index as i64; 4]));
            } else {
                println!("this processor has no AVX2: nothing to keep in its registers");
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
            {
                // SAFETY: the features are there.
                let (result, vectors) = unsafe { hold_512(seed) };
                assert_eq!(result, 7);
                (0..28).for_each(|index| assert_eq!(lanes::<_, 8>(vectors[index]), [seed + index as i64; 8]));
                // SAFETY: the features are there.
                let (result, masks) = unsafe { hold_masks(0) };
                assert_eq!((result, masks.as_slice()), (7, &[1, 2, 4, 8, 16, 32][..]));
            } else {
                println!("this processor has no AVX-512: nothing to keep in its registers");
            }
        }

        extern "C" fn trace_entry(out: &mut String, _: u64, _: u64) -> u64 {
            *out = Backtrace::force_capture().to_string();
            1
        }

        stub!(trace_stub, trace_entry);

        #[inline(never)]
        fn asks_for_a_trace(out: &mut String) -> u64 {
            call!(trace_stub, std::ptr::from_mut(out), 0_u64, 0_u64) + 1
        }

        #[test]
        fn a_backtrace_goes_through_a_stub() {
            let mut trace = String::new();
            assert_eq!(asks_for_a_trace(&mut trace), 2);
            let wanted = ["trace_entry", "trace_stub", "asks_for_a_trace", "a_backtrace_goes_through_a_stub"];
            let mut rest = trace.as_str();
            for function in wanted {
                let at = rest.find(function);
                rest = &rest[at.unwrap_or_else(|| panic!("no {function} in its place in\n{trace}"))..];
            }
        }

        extern "C" fn one_entry(_: u64, _: u64, _: u64) -> u64 {
            1
        }

        stub!(one_stub, one_entry);

        static STEPS: AtomicUsize = AtomicUsize::new(0);
        static STEPS_IN_STUB: AtomicUsize = AtomicUsize::new(0);
        static STRAYS: AtomicUsize = AtomicUsize::new(0);

        mod unwind {
            pub(crate) type Visit = extern "C" fn(*mut Context, *mut libc::c_void) -> i32;
            #[repr(C)]
            pub(crate) struct Context(u8);
            unsafe extern "C" {
                #[link_name = "_Unwind_Backtrace"]
                pub(crate) safe fn backtrace(visit: Visit, arg: *mut libc::c_void) -> i32;
                #[link_name = "_Unwind_GetIP"]
                pub(crate) fn ip(context: *mut Context) -> usize;
                #[link_name = "_Unwind_FindEnclosingFunction"]
                pub(crate) safe fn enclosing(ip: usize) -> usize;
            }
        }

        extern "C" fn look_for_the_stepper(context: *mut unwind::Context, found: *mut libc::c_void) -> i32 {
            // SAFETY: the unwinder's own pointer, and the one that was handed to it.
            let (ip, found) = unsafe { (unwind::ip(context), &mut *found.cast::<bool>()) };
            *found |= unwind::enclosing(ip.wrapping_sub(1)) == step_through_a_call as *const () as usize;
            0
        }

        /// At a breakpoint: begins or ends to step. After each instruction: what a profiler's
        /// sample does that came right here.
        extern "C" fn on_trap(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
            const TRAP: i64 = 0x100;
            // SAFETY: the kernel's own pointers.
            let (code, registers) =
                unsafe { ((*info).si_code, &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs) };
            if code != libc::TRAP_TRACE {
                registers[libc::REG_EFL as usize] ^= TRAP;
                return;
            }
            let mut found = false;
            unwind::backtrace(look_for_the_stepper, std::ptr::from_mut(&mut found).cast());
            STEPS.fetch_add(1, Ordering::Relaxed);
            let (stub, ip) = (one_stub as *const () as usize, registers[libc::REG_RIP as usize] as usize);
            STEPS_IN_STUB.fetch_add(usize::from((stub..stub + 64).contains(&ip)), Ordering::Relaxed);
            STRAYS.fetch_add(usize::from(!found), Ordering::Relaxed);
        }

        #[inline(never)]
        fn step_through_a_call(argument: u64) -> u64 {
            // SAFETY: the signal of a breakpoint is handled.
            unsafe { asm!("int3") };
            let result = call!(one_stub, argument, 0_u64, 0_u64);
            // SAFETY: as above.
            unsafe { asm!("int3") };
            result + 1
        }

        /// From each instruction, as a sampling profiler asks for it: also between a push and what
        /// says that it has been.
        #[test]
        fn every_instruction_of_a_call_can_be_unwound_from() {
            // SAFETY: the handler does what the system allows; the disposition is put back.
            let before = unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_trap as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO;
                let mut before = std::mem::zeroed();
                assert_eq!(libc::sigaction(libc::SIGTRAP, &raw const action, &raw mut before), 0);
                before
            };
            // What the unwinder loads when it first runs is loaded before a handler needs it.
            drop(Backtrace::force_capture());
            assert_eq!(step_through_a_call(black_box(3)), 2);
            // SAFETY: what was there.
            assert_eq!(unsafe { libc::sigaction(libc::SIGTRAP, &raw const before, std::ptr::null_mut()) }, 0);
            let [steps, in_stub, strays] = [&STEPS, &STEPS_IN_STUB, &STRAYS].map(|count| count.load(Ordering::Relaxed));
            assert!(in_stub >= 20, "{in_stub} of {steps} steps were seen in the stub");
            assert_eq!(strays, 0, "of {steps} places: the caller was not found from them");
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod imp {
    use super::*;

    pub(crate) fn heal(m: &Mutator<'_>, slot: &AtomicU64, word: Word) -> u64 {
        heal_entry(m, slot, word.bits())
    }

    pub(crate) fn bump(m: &Mutator<'_>, bytes: u64) -> u64 {
        bump_entry(m, bytes)
    }

    pub(crate) fn log(m: &Mutator<'_>, word: Word) {
        log_entry(m, word.bits());
    }

    pub(crate) fn remember(m: &Mutator<'_>, slot: u64, word: Word) {
        remember_entry(m, slot, word.bits());
    }
}

#[cold]
#[inline(never)]
fn no_good_word(m: &Mutator<'_>, word: Word) -> ! {
    if m.inner().memory.space.owns(word.bits()) {
        panic!("heap corrupted: a stale reference {:#x} to an object that was dead (a missed barrier)", word.bits());
    }
    panic!("a reference of one heap was used with a mutator of another");
}

#[cold]
#[inline(never)]
#[track_caller]
fn past_the_room(m: &Mutator<'_>, bytes: u64) -> ! {
    let left = m.tlabs.active.rest();
    panic!(
        "placed {bytes} bytes past the reserved room ({left} bytes are left of the thread's block): \
         `reserve` must count every object"
    );
}

impl Mutator<'_> {
    /// Resolves a stale word that was loaded from a slot, and heals the slot.
    #[inline(always)]
    pub(crate) fn heal(&self, slot: &AtomicU64, word: Word) -> GoodWord {
        cold_path();
        match imp::heal(self, slot, word) {
            0 => no_good_word(self, word),
            good => GoodWord::of_bits(good),
        }
    }

    /// The next `bytes` where the TLAB has not got them.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn bump_slow(&self, bytes: usize) -> u64 {
        cold_path();
        match imp::bump(self, bytes as u64) {
            0 => past_the_room(self, bytes as u64),
            start => start,
        }
    }

    /// Remembers a slot of an old object, by its address, that is given a young word.
    #[inline(always)]
    pub(crate) fn remember_call(&self, slot: u64, sort: Sort, word: GoodWord) {
        cold_path();
        imp::remember(self, slot | sort as u64, word.word());
    }

    /// Logs a word that is about to be overwritten.
    #[inline(always)]
    pub(crate) fn log(&self, word: Word) {
        cold_path();
        imp::log(self, word);
    }
}
