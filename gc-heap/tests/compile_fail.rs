//! What must not compile, and what must.
//!
//! Each file of `compile_fail` has its `.stderr` beside it, so that it cannot fail for another reason than the one it is
//! there for; a file holds the variants of one attack, a function each, and every one of them must be in the `.stderr`.
//! Numbers are those of the soundness cases in `docs`.

#[test]
fn attacks_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}

#[test]
fn honest_programs_compile_and_run() {
    trybuild::TestCases::new().pass("tests/compile_pass/*.rs");
}
