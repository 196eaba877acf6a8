//! What must not compile, and what must.
//!
//! Each file of `compile_fail` has its `.stderr` beside it, so that it cannot fail for another
//! reason than the one it is there for; a file holds the variants of one attack, a function each,
//! and every one of them must be in the `.stderr`. The number before a name is that of a trap, as
//! the file's first line has it: 1 references that leave `enter`, 2 frames that never end, 3 stores
//! round the barrier, 4 lifetimes in objects, 5 what a field may be, 6 references over a safepoint,
//! 7 locals and mutators that leave their scope, 8 references made from nothing, 9 safe
//! implementations of unsafe traits, 10 threads, 11 lifetimes in implementations, 12 finalization.
//! `own_` is what fits none of them.

#[test]
fn attacks_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}

#[test]
fn honest_programs_compile_and_run() {
    trybuild::TestCases::new().pass("tests/compile_pass/*.rs");
}
