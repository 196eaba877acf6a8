//! What the views of a heap must do.
#![cfg(not(loom))]

use gc_core::probe::Capabilities;
use gc_core::sys;
use gc_core::views::{Mirror, RootRegion, SparePage, Views, ViewsError};
use std::os::fd::AsRawFd;
use std::{fs, ptr};

const MIB: usize = 1 << 20;
const MIRRORS: [Mirror; 2] = [Mirror::MmapMemfd, Mirror::MremapOldSizeZero];

fn heap(bytes: usize) -> Views {
    Views::new("views-test", bytes, Mirror::default()).unwrap()
}

fn places(heap: &Views) -> [usize; 3] {
    [heap.canonical(), heap.view(0), heap.view(1)]
}

fn at(address: usize) -> *mut u64 {
    ptr::with_exposed_provenance_mut(address)
}

fn write(address: usize, value: u64) {
    // SAFETY: tests write into views they own, at aligned offsets.
    unsafe { at(address).write_volatile(value) }
}

fn read(address: usize) -> u64 {
    // SAFETY: tests read from views they own, at aligned offsets.
    unsafe { at(address).read_volatile() }
}

/// Reads a word the way the kernel does for a system call: an address that faults is an error, not
/// a signal.
fn try_read(address: usize) -> Result<u64, i32> {
    let mut word = 0_u64;
    let here = libc::iovec { iov_base: ptr::from_mut(&mut word).cast(), iov_len: 8 };
    let there = libc::iovec { iov_base: at(address).cast(), iov_len: 8 };
    // SAFETY: `here` is a word of this frame; the kernel checks `there`.
    let got = unsafe { libc::process_vm_readv(libc::getpid(), &here, 1, &there, 1, 0) };
    if got == 8 { Ok(word) } else { Err(std::io::Error::last_os_error().raw_os_error().unwrap()) }
}

#[test]
fn a_write_through_one_view_is_seen_through_the_others() {
    for mirror in MIRRORS {
        let heap = Views::new("views-test", 3 * MIB, mirror).unwrap();
        assert_eq!(heap.mirror(), mirror);
        for (i, from) in places(&heap).into_iter().enumerate() {
            for offset in [0, 8 * (i + 1), MIB + 4096 * i, 3 * MIB - 8] {
                let value = (i * 1000 + offset) as u64;
                write(from + offset, value);
                for to in places(&heap) {
                    assert_eq!(read(to + offset), value, "{mirror:?} from {from:#x} to {to:#x} at {offset:#x}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_a_view_faults() {
    let heap = heap(3 * MIB);
    assert_eq!(heap.span(), 4 * MIB);
    for place in places(&heap) {
        assert_eq!(try_read(place + 3 * MIB - 8), Ok(0));
        assert_eq!(try_read(place + 3 * MIB), Err(libc::EFAULT), "past the end of the heap");
    }
    assert_eq!(try_read(heap.base() | (3 * heap.span())), Err(libc::EFAULT), "both color bits");
}

#[test]
fn five_views_of_two_generations_show_the_same_bytes() {
    for mirror in [Mirror::MmapMemfd, Mirror::MremapOldSizeZero] {
        let heap = Views::of_generations("two", 3 * MIB, mirror).unwrap();
        assert!(heap.has_generations() && !self::heap(3 * MIB).has_generations());
        assert_eq!((heap.span(), heap.base() % (16 * heap.span())), (4 * MIB, 0));
        let places = [heap.canonical(), heap.view(0), heap.view(1), heap.view(2), heap.view(3)];
        assert_eq!(places, [0, 1, 2, 4, 8].map(|bit| heap.base() | (bit * heap.span())));
        for (index, from) in places.into_iter().enumerate() {
            write(from + 4096 * index, index as u64 + 1);
            assert!(places.iter().all(|to| read(to + 4096 * index) == index as u64 + 1), "{mirror:?} from {index}");
        }
        for bits in [3, 5, 6, 7, 9, 10, 12, 15] {
            assert_eq!(try_read(heap.base() | (bits * heap.span())), Err(libc::EFAULT), "several color bits: {bits}");
        }
        heap.protect_view(3, false).unwrap();
        assert_eq!(try_read(heap.view(3)), Err(libc::EFAULT));
        // What cannot be accessed is left out.
        heap.populate(0, 3 * MIB).unwrap();
        assert_eq!(heap.committed_bytes().unwrap(), 3 * MIB);
        heap.uncommit(0, 3 * MIB).unwrap();
        assert!(places[..4].iter().all(|place| try_read(*place) == Ok(0)));
    }
}

#[test]
fn uncommitted_memory_reads_as_zeroes_and_is_gone() {
    let heap = heap(4 * MIB);
    for offset in (0..4 * MIB).step_by(4096) {
        write(heap.view(offset / 4096 % 2) + offset, 7);
    }
    assert_eq!(heap.committed_bytes().unwrap(), 4 * MIB);
    heap.uncommit(MIB, 2 * MIB).unwrap();
    assert_eq!(heap.committed_bytes().unwrap(), 2 * MIB);
    for place in places(&heap) {
        assert_eq!((read(place + MIB), read(place + 3 * MIB - 4096)), (0, 0));
        assert_eq!((read(place), read(place + 3 * MIB)), (7, 7), "what lies around it stays");
    }
}

#[test]
fn the_file_cannot_be_resized_nor_its_seals_changed() {
    let heap = heap(MIB);
    let fd = heap.file().unwrap().as_raw_fd();
    for bytes in [0, MIB / 2, 2 * MIB] {
        // SAFETY: the call takes no pointer.
        let done = unsafe { libc::ftruncate(fd, bytes as i64) };
        assert_eq!((done, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EPERM)), "{bytes}");
    }
    // SAFETY: the calls take no pointers.
    let (sealed, flags) =
        unsafe { (libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_WRITE), libc::fcntl(fd, libc::F_GETFD)) };
    assert_eq!(sealed, -1, "no more seals");
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    assert_eq!(heap.file().unwrap().bytes(), MIB);
    let seals = heap.file().unwrap().seals().unwrap();
    let wanted = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    assert_eq!(seals & wanted, wanted);
    assert_eq!(seals & libc::F_SEAL_EXEC != 0, heap.file().unwrap().is_no_exec());
}

#[test]
fn a_protected_view_faults_and_comes_back_with_its_bytes() {
    let heap = heap(2 * MIB);
    write(heap.canonical() + 64, 5);
    for parity in 0..2 {
        let (view, other) = (heap.view(parity), heap.view(1 - parity));
        assert_eq!(try_read(view + 64), Ok(5));
        heap.protect_view(parity, false).unwrap();
        assert_eq!(try_read(view + 64), Err(libc::EFAULT));
        assert_eq!(try_read(view + 2 * MIB - 8), Err(libc::EFAULT));
        assert_eq!((try_read(other + 64), read(heap.canonical() + 64)), (Ok(5), 5), "the others stay");
        // Allocation goes on while a view is away.
        heap.populate(0, 2 * MIB).unwrap();
        heap.protect_view(parity, true).unwrap();
        assert_eq!(read(view + 64), 5);
    }
}

#[test]
fn populating_maps_every_page_of_every_view_and_keeps_bytes() {
    let can = Capabilities::probe();
    let heap = heap(2 * MIB);
    write(heap.view(1) + MIB, 9);
    heap.populate(MIB, MIB / 2).unwrap();
    assert_eq!(heap.committed_bytes().unwrap(), MIB / 2);
    for place in places(&heap) {
        assert_eq!(read(place + MIB), 9);
        if can.pagemap_scan.support.is_yes() {
            assert_eq!(sys::present_pages(place + MIB, MIB / 2).unwrap(), MIB / 2 / 4096);
            assert_eq!(sys::present_pages(place, MIB).unwrap(), 0);
        }
    }
}

#[test]
fn collapsing_makes_huge_pages_and_keeps_bytes() {
    let can = Capabilities::probe();
    let heap = heap(4 * MIB);
    for offset in (0..4 * MIB).step_by(4096) {
        write(heap.view(0) + offset, offset as u64);
    }
    let collapsed = heap.collapse(0, 4 * MIB);
    for place in places(&heap) {
        assert!((0..4 * MIB).step_by(4096).all(|offset| read(place + offset) == offset as u64));
    }
    match collapsed {
        Ok(None) => {
            for place in places(&heap) {
                assert_eq!(huge_kib(place), 4096, "kibibytes of huge pages in the view at {place:#x}");
            }
        }
        Ok(Some(in_use)) => assert!([libc::EAGAIN, libc::EBUSY].contains(&in_use.errno()), "{in_use}"),
        // A machine without two free huge pages, or a kernel without the call.
        Err(error) if can.collapse.support.is_yes() => assert_ne!(error.errno(), libc::EINVAL, "{error}"),
        Err(error) => assert_eq!(error.errno(), libc::EINVAL, "{error}"),
    }
}

#[test]
fn a_huge_page_is_made_of_nothing_and_of_small_pages() {
    if let Err(why) = sys::collapse_supported() {
        assert!(!Capabilities::probe().collapse.support.is_yes());
        return println!("IGNORED, it cannot run here: {why}");
    }
    let heap = heap(6 * MIB);
    for offset in (0..2 * MIB).step_by(4096) {
        write(heap.view(1) + offset, offset as u64);
    }
    heap.leave_unpopulated(0);
    let committed = heap.committed_bytes().unwrap();
    for offset in [0, 2 * MIB] {
        if let Err(error) = heap.make_huge(offset) {
            assert!([libc::ENOMEM, libc::EAGAIN, libc::EBUSY].contains(&error.errno()), "{error}");
            return println!("NOT TESTED: {error}");
        }
    }
    assert_eq!((committed, heap.committed_bytes().unwrap()), (2 * MIB, 4 * MIB));
    assert_eq!(heap.huge_mapped_bytes().unwrap(), [4 * MIB, 0, 4 * MIB]);
    for place in places(&heap) {
        assert!((0..2 * MIB).step_by(4096).all(|offset| read(place + offset) == offset as u64));
        assert!((2 * MIB..4 * MIB).step_by(4096).all(|offset| read(place + offset) == 0));
    }
    // The first touch of the view that was left out has mapped it whole.
    assert_eq!(heap.huge_mapped_bytes().unwrap(), [4 * MIB; 3]);
    // A hole splits the page in every view; mapped again it is one.
    heap.uncommit(0, 64 << 10).unwrap();
    assert_eq!(heap.huge_mapped_bytes().unwrap(), [2 * MIB; 3]);
    if heap.make_huge(0).is_ok() {
        assert_eq!(heap.huge_mapped_bytes().unwrap(), [4 * MIB, 2 * MIB, 4 * MIB]);
        assert_eq!((read(heap.view(0)), read(heap.view(0) + MIB)), (0, MIB as u64));
    }
    heap.map_huge(2 * MIB).unwrap();
    assert_eq!(heap.huge_mapped_bytes().unwrap()[2], 4 * MIB);
}

#[test]
fn a_spare_page_is_given_back_each_time() {
    let spare = SparePage::new("spare-test").unwrap();
    for _ in 0..3 {
        if let Err(error) = spare.warm() {
            return println!("NOT TESTED: {error}");
        }
    }
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mapping = smaps.split_once("memfd:spare-test").expect("it is mapped").1;
    let rss = mapping.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    assert_eq!(rss.trim(), "0 kB");
    drop(spare);
    assert!(!fs::read_to_string("/proc/self/maps").unwrap().contains("memfd:spare-test"));
}

/// What `/proc/self/smaps` says about huge pages in the mapping at an address.
fn huge_kib(address: usize) -> usize {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mapping = smaps.split_once(&format!("\n{address:x}-")).expect("a mapping starts there").1;
    let line = mapping.lines().find_map(|line| line.strip_prefix("ShmemPmdMapped:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Whether the mapping that begins at an address has a flag of those that `smaps` gives.
fn has_flag(address: usize, wanted: &str) -> bool {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mapping = smaps.split_once(&format!("\n{address:x}-")).unwrap().1;
    mapping.lines().find(|line| line.starts_with("VmFlags:")).unwrap().split(' ').any(|flag| flag == wanted)
}

#[test]
fn advice_about_huge_pages_is_taken() {
    let heap = heap(4 * MIB);
    heap.advise_huge().unwrap();
    assert!(places(&heap).iter().all(|&place| has_flag(place, "hg") && !has_flag(place, "nh")));
    heap.prevent_huge().unwrap();
    assert!(places(&heap).iter().all(|&place| has_flag(place, "nh") && !has_flag(place, "hg")));
    let private = Views::anonymous(4 * MIB).unwrap();
    private.prevent_huge().unwrap();
    assert!(has_flag(private.view(0), "nh"));
}

#[test]
fn a_child_has_no_views() {
    let heap = heap(MIB);
    write(heap.canonical(), 3);
    // SAFETY: the child calls the kernel only, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let seen = places(&heap).iter().filter(|place| try_read(**place).is_ok()).count();
        // SAFETY: as above.
        unsafe { libc::_exit(seen as i32) };
    }
    let mut status = -1;
    // SAFETY: the status is a variable of this frame.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "views the child could read");
    assert_eq!(read(heap.view(0)), 3);
}

#[test]
fn dropping_a_heap_in_a_child_unmaps_nothing_there() {
    let heap = heap(MIB);
    let base = heap.base();
    // SAFETY: the child calls the kernel only, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // By the time a child drops its copy, something else may stand where the views were.
        let elsewhere = sys::reserve_at(base, 4096);
        drop(heap);
        let taken = sys::reserve_at(base, 4096).is_err_and(|error| error.errno() == libc::EEXIST);
        // SAFETY: as above.
        unsafe { libc::_exit(i32::from(elsewhere.is_err() || !taken)) };
    }
    let mut status = -1;
    // SAFETY: the status is a variable of this frame.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
}

#[test]
fn a_dropped_heap_leaves_no_mapping() {
    let heap = Views::new("gone-with-the-heap", MIB, Mirror::default()).unwrap();
    let mapped = || -> Vec<usize> {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let own = maps.lines().filter(|line| line.contains("gone-with-the-heap"));
        let address = |text: &str| usize::from_str_radix(text, 16).unwrap();
        let bytes = |line: &str| {
            let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
            address(end) - address(start)
        };
        own.map(bytes).collect()
    };
    assert_eq!(mapped(), [MIB; 3], "one mapping a view");
    drop(heap);
    assert!(mapped().is_empty());
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for bytes in [0, 1, 4097, (1 << 44) + 4096, usize::MAX & !4095] {
        let error = Views::new("views-test", bytes, Mirror::default()).unwrap_err();
        assert!(matches!(error, ViewsError::Size { bytes: said, .. } if said == bytes), "{error}");
    }
    let error = Views::new("nul\0", MIB, Mirror::default()).unwrap_err();
    assert!(matches!(error, ViewsError::Sys(error) if error.errno() == libc::EINVAL), "{error}");
}

#[test]
#[should_panic(expected = "are not in a heap of 0x100000")]
fn a_range_outside_the_heap_panics() {
    let _ = heap(MIB).uncommit(MIB - 4096, 8192);
}

#[test]
fn a_root_region_is_zeroed_memory_that_can_be_given_back() {
    let region = RootRegion::reserve(3 * 4096 + 1).unwrap();
    assert_eq!(region.len(), 4 * 4096);
    let start = region.as_ptr().expose_provenance();
    assert_eq!(start % 4096, 0);
    assert_eq!(try_read(start), Err(libc::EFAULT), "nothing is open yet");
    region.open(0, 2 * 4096).unwrap();
    assert_eq!(dumped(start, 4 * 4096), [(0, 2 * 4096)]);
    assert_eq!((try_read(start + 4096), try_read(start + 2 * 4096)), (Ok(0), Err(libc::EFAULT)));
    region.open(0, 4 * 4096).unwrap();
    for page in 0..4 {
        assert_eq!(read(start + page * 4096), 0);
        write(start + page * 4096, 1);
    }
    // The page that is named in part stays whole.
    region.discard(4096, 2 * 4096 - 8).unwrap();
    assert_eq!([0, 1, 2, 3].map(|page| read(start + page * 4096)), [1, 0, 1, 1]);
    region.close(0, 2 * 4096).unwrap();
    assert_eq!((try_read(start), try_read(start + 2 * 4096)), (Err(libc::EFAULT), Ok(1)));
    region.open(0, 2 * 4096).unwrap();
    assert_eq!(read(start), 0, "its memory has gone back");
    drop(region);
    assert_eq!(try_read(start), Err(libc::EFAULT));
    let region = RootRegion::reserve(4096).unwrap();
    let start = region.as_ptr().expose_provenance();
    assert_eq!(region.unmap().unwrap(), 4096);
    assert_eq!(try_read(start), Err(libc::EFAULT));
    assert_eq!(RootRegion::reserve(0).unwrap_err().errno(), libc::EINVAL);
}

#[test]
fn a_root_region_larger_than_memory_costs_addresses_only() {
    let region = RootRegion::reserve(1 << 40).unwrap();
    region.open(region.len() - 4096, 4096).unwrap();
    let last = region.as_ptr().expose_provenance() + region.len() - 8;
    write(last, 4);
    assert_eq!(read(last), 4);
}

/// Bytes of the mappings within a range that a core dump would have, by `VmFlags` of
/// `/proc/self/smaps`.
fn dumped(start: usize, len: usize) -> Vec<(usize, usize)> {
    let mut range = (0, 0);
    let mut found = Vec::new();
    for line in fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        let hex = |text: &str| usize::from_str_radix(text, 16).ok();
        let first = line.split_whitespace().next().unwrap_or_default();
        if let Some((low, high)) = first.split_once('-').and_then(|(low, high)| Some((hex(low)?, hex(high)?))) {
            range = (low, high);
        } else if let Some(flags) = line.strip_prefix("VmFlags:") {
            let (low, high) = (range.0.max(start), range.1.min(start + len));
            if low < high && !flags.split_whitespace().any(|flag| flag == "dd") {
                found.push((low - start, high - start));
            }
        }
    }
    // Mappings beside each other are one piece.
    found.sort_unstable();
    let mut pieces: Vec<(usize, usize)> = Vec::new();
    for (low, high) in found {
        match pieces.last_mut() {
            Some(piece) if piece.1 == low => piece.1 = high,
            _ => pieces.push((low, high)),
        }
    }
    pieces
}

#[test]
fn a_core_dump_has_what_was_noted_and_once() {
    const UNIT: usize = 256 << 10;
    for mirror in MIRRORS {
        let mut heap = Views::new("views-test", 64 * MIB, mirror).unwrap();
        let parts = |heap: &Views| {
            assert_eq!(dumped(heap.view(0), 64 * MIB), []);
            assert_eq!(dumped(heap.view(1), 64 * MIB), []);
            dumped(heap.canonical(), 64 * MIB)
        };
        assert_eq!(parts(&heap), [], "nothing is dumped that nobody asks for");
        assert_eq!(dumped(heap.base(), 4 * heap.span()), [], "nor are the addresses beside the views");
        heap.dump(false).unwrap();
        assert_eq!(parts(&heap), []);
        let dumps = std::sync::Arc::clone(heap.dumps().unwrap());
        dumps.note(0, 1);
        dumps.note(5 * UNIT + 1, 64 << 10);
        assert_eq!(parts(&heap), [(0, UNIT), (5 * UNIT, 6 * UNIT)]);
        dumps.note(UNIT, 4 * UNIT);
        assert_eq!(parts(&heap), [(0, 6 * UNIT)]);
        // Two blocks of the sixth unit are noted: it goes with the second.
        heap.uncommit(2 * UNIT, UNIT).unwrap();
        heap.uncommit(5 * UNIT, 64 << 10).unwrap();
        assert_eq!(parts(&heap), [(0, 2 * UNIT), (3 * UNIT, 6 * UNIT)]);
        heap.uncommit(5 * UNIT + (64 << 10), 64 << 10).unwrap();
        assert_eq!(parts(&heap), [(0, 2 * UNIT), (3 * UNIT, 5 * UNIT)]);
        dumps.note(0, 64 * MIB);
        assert_eq!(parts(&heap), [(0, 64 * MIB)]);
        heap.uncommit(0, 64 * MIB).unwrap();
        assert_eq!(parts(&heap), []);
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dumps.note(64 * MIB, 1)));
        assert!(refused.is_err());
    }
}

/// Each piece is two mappings, and a process has 65,530.
#[test]
fn pieces_of_a_dump_are_bounded() {
    let mut heap = heap(8 << 30);
    heap.dump(false).unwrap();
    let dumps = heap.dumps().unwrap();
    // Every fourth unit of 256 KiB that can be done without.
    (0..8 << 30).step_by(1 << 20).for_each(|offset| dumps.note_if_few(offset, 1));
    assert_eq!(dumped(heap.canonical(), 8 << 30).len(), 200);
    // Every second unit: 16,384 pieces, if nothing bounded them.
    (0..8 << 30).step_by(512 << 10).for_each(|offset| dumps.note(offset, 1));
    let pieces = dumped(heap.canonical(), 8 << 30);
    assert_eq!((pieces.len(), pieces[1]), (800, (512 << 10, 768 << 10)));
    assert_eq!(pieces[799].1, (8 << 30) - (256 << 10), "the last has all that lies between");
    heap.uncommit(0, 8 << 30).unwrap();
    assert_eq!(dumped(heap.canonical(), 8 << 30), []);
    // One piece is not split into more than half as many.
    heap.dumps().unwrap().note(0, 8 << 30);
    for offset in (0..8 << 30).step_by(512 << 10) {
        heap.uncommit(offset, 256 << 10).unwrap();
    }
    assert_eq!(dumped(heap.canonical(), 8 << 30).len(), 400);
}
