//! The probe answers, and leaves nothing behind.
#![cfg(not(loom))]

use gc_core::probe::{Capabilities, Support};
use std::fs;

/// Descriptors and mappings of this process. The test is alone in its binary, so nobody else opens
/// any meanwhile.
fn possessions() -> (usize, usize) {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
    let heaps = fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| line.contains("memfd:")).count();
    (descriptors, heaps)
}

#[test]
fn probing_answers_every_item_and_leaves_nothing_behind() {
    let before = possessions();
    let can = Capabilities::probe();
    assert_eq!(possessions(), before);
    println!("{can}");

    let table = can.to_string();
    assert_eq!(table.lines().count(), 1 + can.iter().count());
    for item in can.iter() {
        assert!(table.contains(item.name) && table.contains(item.purpose), "{} is missing", item.name);
        assert!(item.since.starts_with("Linux "), "{}", item.since);
        if let Support::No { why, since } = &item.support {
            assert!(!why.is_empty());
            assert_eq!(*since, item.since);
        }
    }
    assert_eq!(can.userfaultfd.support.is_yes(), !can.uffd_sources().is_empty());
    // No descriptor, no feature of one.
    for item in [&can.uffd_minor_shmem, &can.uffd_sigbus, &can.uffd_move] {
        assert!(can.userfaultfd.support.is_yes() || !item.support.is_yes(), "{}", item.name);
    }
    // What every supported kernel has: without these there is no heap at all.
    assert!(can.memfd_seals.support.is_yes(), "{}", can.memfd_seals.support);
    assert!(can.max_map_count.support.is_yes(), "{}", can.max_map_count.support);
}
