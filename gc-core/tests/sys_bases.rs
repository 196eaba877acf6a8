//! Where heaps of one process stand. Alone in its binary: the bases are the process's, and other
//! tests' heaps would be in the way.
#![cfg(not(loom))]

use gc_core::views::{ADDRESS_LIMIT, Mirror, Views, ViewsError};

/// What a load barrier relies on: above the larger reservation, each base has a bit that the other
/// has not.
fn assert_apart(a: &Views, b: &Views) {
    let above = !(4 * a.span().max(b.span()) - 1);
    let (x, y) = (a.base() & above, b.base() & above);
    assert!(x & !y != 0 && y & !x != 0, "{:#x} of {:#x} and {:#x} of {:#x}", a.base(), a.span(), b.base(), b.span());
}

#[test]
fn no_heaps_base_is_a_subset_of_anothers() {
    forty_heaps_of_different_spans();
    every_heap_of_one_size_until_none_is_left();
    a_large_heap_comes_after_small_ones();
}

fn forty_heaps_of_different_spans() {
    // 2 MiB to 512 GiB, rising and falling, with sizes that are no powers of two in between.
    let sizes = (0..40).map(|i| if i % 2 == 0 { 64 << 10 << (i / 2) } else { 192 << 10 << (20 - i / 2) });
    let mut heaps: Vec<Views> = Vec::new();
    for bytes in sizes {
        let heap = Views::new("forty", bytes, Mirror::default()).unwrap();
        assert!(heap.span().is_power_of_two() && heap.span() >= bytes.max(2 << 20) && heap.bytes() == bytes);
        assert_eq!(heap.base() % (4 * heap.span()), 0);
        assert!(heap.base() + 4 * heap.span() <= ADDRESS_LIMIT);
        assert_eq!(heap.view(0), heap.base() | heap.span());
        assert_eq!(heap.view(1), heap.base() | (2 * heap.span()));
        heaps.iter().for_each(|other| assert_apart(other, &heap));
        heaps.push(heap);
    }
    let spans: std::collections::HashSet<_> = heaps.iter().map(Views::span).collect();
    assert!(spans.len() >= 15, "{} spans", spans.len());
    // A place that is given up can be had again.
    let again = heaps.swap_remove(20);
    let (base, bytes) = (again.base(), again.bytes());
    drop(again);
    heaps.push(Views::new("again", bytes, Mirror::default()).unwrap());
    assert_eq!(heaps.last().unwrap().base(), base);
}

fn every_heap_of_one_size_until_none_is_left() {
    let mut heaps: Vec<Views> = Vec::new();
    let error = loop {
        match Views::new("large", 1 << 40, Mirror::default()) {
            Ok(heap) => {
                heaps.iter().for_each(|other| assert_apart(other, &heap));
                heaps.push(heap);
            }
            Err(error) => break error,
        }
        assert!(heaps.len() <= 10, "there are ten half-full patterns of five bits");
    };
    // The program and its stack hold some of the ten.
    assert!(heaps.len() >= 5, "{} heaps of 1 TiB", heaps.len());
    assert!(matches!(error, ViewsError::NoBase { live, .. } if live == heaps.len()), "{error}");
    assert!(error.to_string().contains(&format!("beside {} live heaps", heaps.len())), "{error}");
    heaps.pop();
    heaps.push(Views::new("large", 1 << 40, Mirror::default()).expect("one was given up"));
}

fn a_large_heap_comes_after_small_ones() {
    let small: Vec<_> = (0..20).map(|_| Views::new("small", 1 << 20, Mirror::default()).unwrap()).collect();
    let large = Views::new("large", 1 << 40, Mirror::default()).unwrap();
    small.iter().for_each(|heap| assert_apart(heap, &large));
}
