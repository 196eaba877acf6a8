//! The system calls one by one.
#![cfg(not(loom))]

use gc_core::sys::{self, Access, HeapFile};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn word(address: usize) -> *mut u64 {
    ptr::with_exposed_provenance_mut(address)
}

#[test]
fn an_error_is_one_clear_line() {
    let error = HeapFile::new("calls", 4097).unwrap_err();
    assert_eq!(error.to_string(), "ftruncate(bytes=0x1001): Invalid argument (os error 22)");
    assert_eq!((error.call(), error.errno()), ("ftruncate", libc::EINVAL));
    assert_eq!(error.arguments().collect::<Vec<_>>(), [("bytes", 4097)]);
    let io: std::io::Error = error.into();
    assert_eq!(io.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn a_reservation_is_aligned_and_faults() {
    for align in [4096, 2 << 20, 1 << 30] {
        let base = sys::reserve(3 * 4096, align).unwrap();
        assert_eq!(base % align, 0);
        let taken = sys::reserve_at(base + 4096, 4096).unwrap_err();
        assert_eq!(taken.errno(), libc::EEXIST, "a reservation is taken");
        let line = format!("mmap(addr={:#x}, len=0x1000, flags=0x104022, offset=0x0): File exists", base + 4096);
        assert!(taken.to_string().starts_with(&line), "{taken}");
        // SAFETY: the reservation is this test's; nothing is around it that was not there before.
        unsafe { sys::unmap(base, 3 * 4096).unwrap() };
    }
    for (bytes, align) in [(0, 4096), (4096, 0), (4096, 12288), (4096, 2048), (100, 4096)] {
        assert_eq!(sys::reserve(bytes, align).unwrap_err().errno(), libc::EINVAL, "{bytes} by {align}");
    }
    assert_eq!(sys::reserve(1 << 50, 4096).unwrap_err().errno(), libc::ENOMEM);
}

#[test]
fn taking_away_moves_the_pages_and_leaves_an_empty_mapping() {
    let pages = 8;
    let bytes = pages * 4096;
    let file = HeapFile::new("calls", bytes).unwrap();
    let base = sys::reserve(2 * bytes, 4096).unwrap();
    let to = base + bytes;
    // SAFETY: the reservation is this test's, its first half a view of the file, its second one
    // after the move.
    unsafe {
        sys::map_file_at(base, &file, 0, bytes, Access::ReadWrite).unwrap();
        sys::populate_write(base, bytes).unwrap();
        word(base + 4096).write(6);
        sys::move_page_tables(base, bytes, to).unwrap();
        if let Ok(present) = sys::present_pages(base, bytes) {
            assert_eq!(present, 0, "the source has no page left");
            assert_eq!(sys::present_pages(to, bytes).unwrap(), pages);
        }
        assert_eq!(word(to + 4096).read(), 6);
        assert_eq!(word(base + 4096).read(), 6, "and fills from the file at the next touch");
        sys::release_to_reservation(to, bytes).unwrap();
        assert_eq!(sys::reserve_at(to, bytes).unwrap_err().errno(), libc::EEXIST);
        sys::unmap(base, 2 * bytes).unwrap();
    }
}

#[test]
fn a_moved_mapping_takes_its_pages_along_and_leaves_nothing() {
    let (page, file) = (sys::page_size(), HeapFile::new("a-moved-mapping", 2 * sys::page_size()).unwrap());
    let base = sys::reserve(4 * page, page).unwrap();
    // SAFETY: the reservation is this test's; what is read is mapped.
    unsafe {
        sys::map_file_at(base, &file, 0, 2 * page, Access::ReadWrite).unwrap();
        word(base + page).write_volatile(5);
        sys::move_mapping(base, 2 * page, base + 2 * page).unwrap();
        assert_eq!(word(base + 3 * page).read_volatile(), 5);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let views: Vec<_> = maps.lines().filter(|line| line.contains("memfd:a-moved-mapping")).collect();
        assert!(views.len() == 1 && views[0].starts_with(&format!("{:x}-", base + 2 * page)), "{views:?}");
        // The other way to show a page elsewhere.
        sys::remap_file_pages(base + 2 * page, page, 1).unwrap();
        assert_eq!(word(base + 2 * page).read_volatile(), 5);
        // The source is nobody's by now, perhaps another thread's.
        sys::unmap(base + 2 * page, 2 * page).unwrap();
    }
}

#[test]
fn small_pages_stay_small_and_collapse_is_refused_there() {
    const HUGE: usize = 2 << 20;
    let base = sys::reserve_writable(2 * HUGE).unwrap();
    let piece = base.next_multiple_of(HUGE);
    // SAFETY: the range is this test's.
    unsafe {
        if sys::no_huge(base, 2 * HUGE).is_ok() {
            sys::populate_write(piece, HUGE).unwrap();
            assert!(sys::collapse(piece, HUGE).is_err(), "the advice counts");
        }
        sys::unmap(base, 2 * HUGE).unwrap();
    }
}

#[test]
fn pages_are_counted_over_more_pieces_than_one_scan_returns() {
    let pages = 200;
    let base = sys::reserve_writable(pages * 4096).unwrap();
    // SAFETY: the mapping is this test's.
    unsafe {
        (0..pages).step_by(2).for_each(|page| word(base + page * 4096).write(1));
        match sys::present_pages(base, pages * 4096) {
            Ok(present) => assert_eq!(present, pages / 2),
            Err(error) => assert_eq!(error.errno(), libc::ENOTTY, "{error}"),
        }
        sys::discard(base, pages * 4096).unwrap();
        assert_eq!(word(base).read(), 0);
        sys::unmap(base, pages * 4096).unwrap();
    }
}

#[test]
fn private_memory_has_no_mirror() {
    let base = sys::reserve(2 * 4096, 4096).unwrap();
    // SAFETY: the reservation is this test's.
    unsafe {
        let error = sys::mirror_at(base, 4096, base + 4096).unwrap_err();
        let line = format!("mremap(old_size=0)(from={base:#x}, len=0x1000, to={:#x}): Invalid argument", base + 4096);
        assert!(error.to_string().starts_with(&line), "{error}");
        // Whatever the kernel did to the destination before it refused, the range is still
        // reserved.
        assert_eq!(sys::reserve_at(base + 4096, 4096).unwrap_err().errno(), libc::EEXIST);
        sys::unmap(base, 2 * 4096).unwrap();
    }
}

#[test]
fn a_sleeper_wakes_when_the_word_changes() {
    let word = Arc::new(AtomicU32::new(0));
    let sleeper = thread::spawn({
        let word = Arc::clone(&word);
        move || {
            while word.load(Ordering::Acquire) == 0 {
                assert!(sys::futex_wait(&word, 0, None));
            }
            word.load(Ordering::Acquire)
        }
    });
    // Long enough that the sleeper is asleep in most runs; either way it must end.
    thread::sleep(Duration::from_millis(20));
    word.store(5, Ordering::Release);
    let woken = sys::futex_wake(&word, u32::MAX);
    assert!(woken <= 1);
    assert_eq!(sleeper.join().unwrap(), 5);
}

#[test]
fn waking_tells_how_many_slept() {
    let word = Arc::new(AtomicU32::new(0));
    let sleepers: Vec<_> = (0..3)
        .map(|_| {
            let word = Arc::clone(&word);
            thread::spawn(move || sys::futex_wait(&word, 0, Some(Duration::from_secs(60))))
        })
        .collect();
    // The word stays 0, so each thread sleeps sooner or later and is then counted exactly once.
    let mut woken = 0;
    while woken < 3 {
        let now = sys::futex_wake(&word, 1);
        assert!(now <= 1);
        woken += now;
        thread::yield_now();
    }
    assert!(sleepers.into_iter().all(|sleeper| sleeper.join().unwrap()));
    assert_eq!(sys::futex_wake(&word, 1), 0);
}

#[test]
fn waiting_ends_with_its_time_or_at_once_for_another_value() {
    let word = AtomicU32::new(1);
    let start = Instant::now();
    assert!(!sys::futex_wait(&word, 1, Some(Duration::from_millis(30))));
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert!(sys::futex_wait(&word, 2, None), "the word is not 2");
    assert!(!sys::futex_wait(&word, 1, Some(Duration::ZERO)));
}

#[test]
fn cpu_clocks_count_work_and_not_sleep() {
    let (thread_start, process_start) = (sys::thread_cpu_time(), sys::process_cpu_time());
    thread::sleep(Duration::from_millis(50));
    assert!(sys::thread_cpu_time() - thread_start < Duration::from_millis(40), "sleep is no work");
    while sys::thread_cpu_time() - thread_start < Duration::from_millis(20) {
        std::hint::spin_loop();
    }
    assert!(sys::process_cpu_time() - process_start >= Duration::from_millis(20));
}

#[test]
fn memory_and_limits_are_plausible() {
    let (total, available) = (sys::total_memory().unwrap(), sys::available_memory().unwrap());
    assert!(available > 0 && available <= total, "{available} of {total}");
    assert!(total > 64 << 20 && total < 1 << 50);
    assert!(sys::max_map_count().unwrap() >= 1000);
    assert!(sys::page_size().is_power_of_two() && sys::page_size() >= 4096);
    assert!(sys::kernel_release().unwrap().starts_with(|first: char| first.is_ascii_digit()));
}
