//! The mark bitmap under every interleaving of several markers:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
#![cfg(loom)]

mod support;

use gc_core::bitmap::MarkBitmap;
use gc_core::units::Granule;
use loom::thread;
use std::sync::Arc;
use support::check;

/// Three markers set one bit by `set`, and each a neighbour of its own.
fn mark(set: fn(&MarkBitmap, Granule) -> bool) {
    let map = Arc::new(MarkBitmap::new(64).unwrap());
    let work = move |map: &MarkBitmap, own: usize| (set(map, Granule::new(own)), set(map, Granule::new(9)));
    let others = [1, 2].map(|own| {
        let map = Arc::clone(&map);
        thread::spawn(move || work(&map, own))
    });
    let mut wins = u32::from(work(&map, 3).1);
    for other in others {
        let (own, shared) = other.join().unwrap();
        assert!(own, "nobody else sets this bit");
        wins += u32::from(shared);
    }
    assert_eq!(wins, 1, "exactly one marker scans an object");
    assert!([1, 2, 3, 9].map(Granule::new).into_iter().all(|bit| map.get(bit)), "a mark was lost");
}

#[test]
fn exactly_one_marker_wins_and_no_mark_is_lost() {
    check(2, || mark(MarkBitmap::set));
}

/// What makes `set_alone` right is that nobody else writes the word, not that loads and stores are
/// atomic.
#[test]
#[should_panic(expected = "exactly one marker")]
fn several_markers_must_not_use_the_operation_for_one() {
    check(3, || mark(MarkBitmap::set_alone));
}
