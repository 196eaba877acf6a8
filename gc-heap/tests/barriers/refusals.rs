//! System calls that are refused: what each costs, and who hears of it. A refusal concerns a whole
//! process, so each scene is a child. (`cargo run -p gc-heap --example sweep` refuses every call of
//! a program.)

use crate::child::{builder, child, install, mend, mended, page_without_a_file, pass_on_to, plays_well, until_faults};
use crate::common::backing;
use crate::harness::{Tests, tests};
use gc_core::sys::inject::{refusals, refuse, refuse_nothing};
use gc_heap::{
    AllocSize, Backing, Barrier, BuildError, BuildWarning, Bytes, EnterError, Heap, HugePages, MIN_HEAP_BYTES, Mutator,
    OutOfMemory, Root, RootStack, SlotArray, Stress, Tagged, Trace, Value,
};
use std::os::unix::process::ExitStatusExt;

pub(crate) const SCENES: &[(&str, fn())] = &[
    ("let-in", let_in),
    ("last-line", last_line),
    ("blocked", blocked),
    ("replaced", replaced),
    ("no-flip", no_flip),
    ("clean-up", clean_up),
    ("stuck-parts", stuck_parts),
    ("typed", typed),
    ("not-given-back", not_given_back),
    ("not-lent", not_lent),
    ("copied", copied),
    ("threads", threads),
    ("time-slice", time_slice),
];

/// Refused to the collector's thread when it begins: the heap works, and says so.
fn time_slice() {
    for (call, errno) in [("sched_setattr", libc::EPERM), ("sched_getattr", libc::ENOSYS)] {
        refuse(call, errno, 0, u64::MAX);
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        // By the same thread, after the call.
        heap.collect();
        let refused = heap.refusals();
        let last = refused.last.expect("it was refused in silence");
        assert_eq!((refused.count, last.call(), last.errno()), (1, call, errno));
        refuse_nothing();
    }
    let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
    heap.collect();
    assert_eq!(heap.refusals().count, 0);
}

/// Fails where a collector runs with the long time slices of its system, and nobody hears of it.
fn a_time_slice_that_is_refused_is_said() {
    plays_well("time-slice");
}

/// At every thread that a heap asks for, from the first.
fn threads() {
    const WORKERS: usize = 4;
    for barrier in [Barrier::Load, Barrier::StopTheWorld, Barrier::Page] {
        let stress = Stress { cycle_every: u32::MAX, ..Stress::default() };
        let builder = || Heap::builder().max_bytes(16 << 20).barrier(barrier).workers(WORKERS).stress(stress);
        if matches!(builder().build(), Err(BuildError::PageBarrier(_))) {
            continue;
        }
        for errno in [libc::EAGAIN, libc::EPERM] {
            refuse("pthread_create", errno, 0, 1);
            let error = builder().build().unwrap_err();
            let BuildError::Thread(refused) = &error else { panic!("{error}") };
            let names = |limit: &str| error.to_string().contains(limit);
            assert!(["RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_NPROC"].into_iter().all(names), "{error}");
            assert_eq!((refused.call(), refused.errno()), ("pthread_create", errno));
            assert!(!error.to_string().contains('\n'), "one line: {error}");
            for (skip, count) in (0..WORKERS as u64 - 1).flat_map(|skip| [(skip, 1), (skip, u64::MAX)]) {
                let heap = builder().build().unwrap();
                refuse("pthread_create", errno, skip, count);
                let before = refused_threads();
                let bytes = |number: usize| [number as u8; 100];
                heap.enter(|m| {
                    let roots: Vec<Root<Bytes>> = (0..20_000)
                        .map(|number| {
                            let m = m.reserve(AllocSize::tail::<Bytes>(100).times(2)).unwrap();
                            m.place_bytes::<Bytes>((), &[0xff; 100]);
                            Root::new(m, m.place_bytes::<Bytes>((), &bytes(number)))
                        })
                        .collect();
                    for _ in 0..3 {
                        m.collect();
                        assert!(roots.iter().enumerate().all(|(number, root)| root.get(m).tail() == bytes(number)));
                    }
                })
                .unwrap();
                assert!(refused_threads() > before, "{barrier:?}: no helper was asked for after {skip}");
                assert!(heap.stats().cycles >= 3 && heap.stats().relocations > 0, "{barrier:?}: {:?}", heap.stats());
                refuse_nothing();
            }
        }
    }
}

fn refused_threads() -> u64 {
    refusals().iter().find(|(call, _)| *call == "pthread_create").map_or(0, |(_, count)| *count)
}

/// Fails where a thread that is refused is an error without a type, or a helper's ends the heap.
fn threads_that_are_refused_are_an_error_or_done_without() {
    plays_well("threads");
}

const LET_IN: [&str; 3] = ["ioctl(UFFDIO_CONTINUE)", "ioctl(UFFDIO_MOVE)", "ioctl(UFFDIO_COPY)"];

fn let_in() {
    let heap = builder().build().unwrap();
    let errnos =
        [libc::ENOMEM, libc::EAGAIN, libc::EINTR, libc::EFAULT, libc::EINVAL, libc::EPERM, libc::EBUSY, libc::ENOENT];
    for errno in errnos {
        for (skip, count) in [(0, 1), (3, 1), (1, 20), (0, u64::MAX)] {
            // A copy is what is left where a page cannot be moved: not both.
            LET_IN[..2].iter().for_each(|call| refuse(call, errno, skip, count));
            until_faults(&heap, |_| ());
            refuse_nothing();
        }
    }
    assert!(refusals().iter().any(|(call, count)| LET_IN.contains(call) && *count > 100));
    until_faults(&heap, |_| ());
}

/// Fails where one refused `UFFDIO_CONTINUE` or `UFFDIO_MOVE` is the end of the process, or is
/// asked for again for ever.
fn a_page_that_is_refused_is_let_in_another_way() {
    plays_well("let-in");
}

fn last_line() {
    let heap = builder().build().unwrap();
    // Only while an object is read: a flip whose registration could never be ended would be the
    // last, perhaps without a fault.
    let refuse_all = |begins| {
        if begins {
            let calls = LET_IN.iter().chain(&["ioctl(UFFDIO_UNREGISTER)"]);
            calls.for_each(|call| refuse(call, libc::ENOMEM, 0, u64::MAX));
        } else {
            refuse_nothing();
        }
    };
    // Until it ends: the faults may all have come before the reads.
    loop {
        until_faults(&heap, refuse_all);
    }
}

/// Fails where a process that cannot have a page dies without a word, or does not die.
fn a_page_that_cannot_be_had_ends_the_process_with_a_line() {
    let output = child("last-line");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{said}");
    let call = if backing() == Backing::Memfd { "ioctl(UFFDIO_UNREGISTER)" } else { "ioctl(UFFDIO_COPY)" };
    let line = said.trim_end();
    assert!(!line.contains('\n') && line.starts_with("parallax: "), "{said}");
    assert!(line.contains(call) && line.ends_with("Cannot allocate memory (os error 12)"), "{said}");
}

fn block_sigbus() {
    // SAFETY: sets of this frame.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGBUS);
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()), 0);
    }
}

fn blocked() {
    let heap = builder().build().unwrap();
    heap.enter(|m| m.blocking(block_sigbus)).unwrap();
    for _ in 0..2 {
        until_faults(&heap, |_| ());
        block_sigbus();
    }
}

/// Fails where the signal is unblocked at a thread's first `enter` only.
fn a_thread_that_has_blocked_the_signal_since_is_served() {
    plays_well("blocked");
}

fn replaced() {
    let heap = builder().build().unwrap();
    until_faults(&heap, |_| ());
    // A library that hands nothing on.
    install(mend);
    let other = builder().build().unwrap();
    until_faults(&heap, |_| ());
    until_faults(&other, |_| ());
    assert_eq!(mended(), 0, "a fault of a heap went to the library");
    // SAFETY: the page is there once the library's handler has run.
    unsafe { page_without_a_file().write_volatile(3) };
    assert_eq!(mended(), 1);
    // And one that hands all to whom it found: us. What is nobody's goes round once, to the library
    // before.
    let passed = pass_on_to();
    let third = builder().build().unwrap();
    [&heap, &other, &third].into_iter().for_each(|heap| until_faults(heap, |_| ()));
    assert_eq!(passed(), 0);
    // SAFETY: as above.
    unsafe { page_without_a_file().write_volatile(3) };
    assert_eq!((passed(), mended()), (1, 2));
}

/// Fails where nobody looks whether the handler is still ours, or where two that hand on to each
/// other do so for ever.
fn a_heap_that_is_built_takes_its_signal_back() {
    plays_well("replaced");
}

fn no_flip() {
    refuse("mremap(DONTUNMAP)", libc::EPERM, 0, u64::MAX);
    let Err(BuildError::PageBarrier(why)) = builder().build() else { panic!("a heap that can never flip") };
    assert_eq!((why.refused()[0].call(), why.refused()[0].errno()), ("mremap(DONTUNMAP)", libc::EPERM));
    let line = why.to_string();
    assert!(!line.contains('\n') && line.contains("mremap") && line.contains("load barrier"), "{line}");
}

/// Fails where a sandbox that refuses what a flip does is found out when memory is short.
fn a_page_barrier_that_cannot_flip_is_refused() {
    plays_well("no-flip");
}

fn clean_up() {
    let heap = builder().build().unwrap();
    until_faults(&heap, |_| ());
    // A flip that comes to its last step, and cannot be undone. (The rehearsal's calls are refused
    // as well.)
    let (flips, before) = (heap.stats().relocations, heap.refusals().count);
    refuse("madvise(DONTNEED)", libc::EINVAL, 0, u64::MAX);
    refuse("ioctl(UFFDIO_UNREGISTER)", libc::EINVAL, 0, u64::MAX);
    #[derive(Trace)]
    struct Crumb {
        id: u64,
    }
    heap.enter(|m| {
        let mut kept = Vec::new();
        for id in 0..10_000 {
            let m = m.reserve(AllocSize::of::<Crumb>()).unwrap();
            let crumb = m.place(CrumbInit { id });
            if id % 16 == 0 {
                kept.push((id, Root::<Crumb>::new(m, crumb)));
            }
        }
        m.collect();
        m.collect();
        kept.iter().for_each(|(id, crumb)| assert_eq!(crumb.get(m).id, *id));
    })
    .unwrap();
    assert_eq!(heap.stats().relocations, flips, "flipped where the kernel refuses");
    let refused = heap.refusals();
    assert!(refused.count > before, "nobody hears of it");
    assert!(refused.last.unwrap().errno() == libc::EINVAL);
    refuse_nothing();
    until_faults(&heap, |_| ());
}

/// Fails where the undoing of a flip is taken to succeed: pages then fault that nobody serves.
fn a_flip_that_can_be_neither_done_nor_undone_is_served() {
    plays_well("clean-up");
}

/// A flip of private memory moves several parts: the move of a later one is refused, and every move
/// back.
fn stuck_parts() {
    let heap = builder().verify(true).build().unwrap();
    let mut stacks = Vec::new();
    heap.enter(|m| {
        let roots: Vec<Root<Tagged>> = (0..5000).map(|n| Root::new(m, Value::num(f64::from(n)))).collect();
        let mut undone = 0;
        for round in 0..12 {
            // Parts are opened one by one.
            let stack = RootStack::<Tagged>::with_capacity(&heap, 1 << 20).unwrap();
            (0..1000).for_each(|n| stack.push(m, Value::num(f64::from(n))));
            stacks.push(stack);
            let bytes: Vec<(u8, Root<Bytes>)> = (0..20)
                .map(|n| {
                    let m = m.reserve(AllocSize::tail::<Bytes>(5000)).unwrap();
                    (n, Root::new(m, m.place_bytes::<Bytes>((), &[n; 5000])))
                })
                .collect();
            let before = heap.refusals().count;
            for skip in [1, 2, 3, 4 + round] {
                refuse("mremap(DONTUNMAP)", libc::EPERM, skip, u64::MAX);
                m.collect();
            }
            // With the last call of a flip refused, all parts are moved back, or copied, while they
            // are registered.
            refuse("mremap(DONTUNMAP)", libc::EINVAL, 4 + round, u64::MAX);
            refuse("ioctl(UFFDIO_UNREGISTER)", libc::EINVAL, 0, u64::MAX);
            refuse("madvise(DONTNEED)", libc::EINVAL, 2, u64::MAX);
            m.collect();
            refuse_nothing();
            undone += u64::from(heap.refusals().count > before);
            assert!(bytes.iter().all(|(n, bytes)| m.bytes_for_syscall(bytes.get(m)) == [*n; 5000]));
            for stack in &stacks {
                assert!((0..1000).all(|n| stack.peek(m, n).as_num() == Some((999 - n) as f64)));
            }
            roots.iter().enumerate().for_each(|(n, root)| assert_eq!(root.get(m).as_num(), Some(n as f64)));
            m.collect();
        }
        assert!(undone > 6, "{undone} of 12 rounds had a flip refused");
    })
    .unwrap();
    until_faults(&heap, |_| ());
}

/// Fails where the process ends although all of its data are still there.
fn a_flip_of_parts_that_cannot_be_moved_back_copies_them() {
    plays_well("stuck-parts");
}

fn typed() {
    let least = || Heap::builder().max_bytes(MIN_HEAP_BYTES);
    // Questions and wishes that are refused: the heap is built.
    refuse("getrlimit", libc::EPERM, 0, u64::MAX);
    refuse("madvise(COLLAPSE)", libc::EAGAIN, 0, 1000);
    least().pretouch(true).huge_pages(HugePages::Collapse).build().unwrap();
    refuse_nothing();
    refuse("madvise(COLLAPSE)", libc::EPERM, 0, u64::MAX);
    let error = least().pretouch(true).huge_pages(HugePages::Collapse).build().unwrap_err();
    assert!(matches!(&error, BuildError::HugePages(error) if error.call() == "madvise(COLLAPSE)"), "{error}");
    // After the three that open the views.
    refuse("mprotect", libc::ENOMEM, 3, u64::MAX);
    let error = least().single_view(true).build().unwrap_err();
    assert!(matches!(&error, BuildError::SingleView(error) if error.call() == "mprotect"), "{error}");
    refuse_nothing();
    // Roots are there where nothing more is mapped.
    let heap = least().build().unwrap();
    refuse("mmap", libc::ENOMEM, 1, u64::MAX);
    let entered = heap.enter(|m| {
        let roots: Vec<_> = (0..5000).map(|id| Root::<Tagged>::new(m, Value::num(f64::from(id)))).collect();
        m.collect();
        roots.iter().enumerate().for_each(|(id, root)| assert_eq!(root.get(m).as_num(), Some(id as f64)));
    });
    assert!(entered.is_ok(), "{entered:?}");
    let other = std::thread::scope(|scope| scope.spawn(|| heap.thread().err()).join().unwrap());
    assert!(matches!(other, None | Some(EnterError::System(_))), "{other:?}");
    refuse_nothing();
    // What serves faults is not said to be addresses.
    if let Ok(heap) = least().barrier(Barrier::Page).build() {
        refuse("sigaltstack", libc::EPERM, 0, u64::MAX);
        let Err(EnterError::System(error)) = heap.enter(|_| ()) else { panic!("entered without a stack for faults") };
        assert_eq!((error.call(), error.errno()), ("sigaltstack", libc::EPERM));
    }
    refuse_nothing();
    // A limit on addresses is called so.
    let limit = libc::rlimit { rlim_cur: 8 << 30, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel reads a value of this frame.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    let why = Heap::builder().max_bytes(4 << 30).build().unwrap_err().to_string();
    assert!(why.contains("RLIMIT_AS") && why.contains("ulimit -v") && !why.contains("bases"), "{why}");
}

/// Fails where an error names something else than what was refused, or where a panic does.
fn what_is_refused_is_named() {
    plays_well("typed");
}

fn not_given_back() {
    let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
    #[derive(Trace)]
    struct Crumb {
        id: u64,
    }
    heap.enter(|m| {
        (0..50_000)
            .for_each(|id| assert_eq!(m.reserve(AllocSize::of::<Crumb>()).unwrap().place(CrumbInit { id }).id, id));
        m.collect();
    })
    .unwrap();
    let held = heap.stats().committed_bytes;
    refuse("fallocate(PUNCH_HOLE)", libc::ENOSPC, 0, u64::MAX);
    assert_eq!((heap.release_memory(), heap.stats().committed_bytes), (0, held));
    let refused = heap.refusals();
    assert!(refused.count > 0);
    assert_eq!(refused.last.map(|error| (error.call(), error.errno())), Some(("fallocate(PUNCH_HOLE)", libc::ENOSPC)));
    refuse_nothing();
    assert!(heap.release_memory() > 0 && heap.stats().committed_bytes < held);
}

/// The kernel copies pages of private memory where it cannot move them, also those that are not
/// there.
fn copied() {
    const MIB: usize = 1 << 20;
    // Each source of a descriptor is asked for moves.
    refuse("ioctl(UFFDIO_API)", libc::EINVAL, 0, 3);
    let stress = Stress { cycle_every: u32::MAX, ..Stress::default() };
    let builder = Heap::builder().max_bytes(16 * MIB).address_factor(4).stress(stress);
    let heap = match builder.barrier(Barrier::Page).backing(Backing::Anonymous).build() {
        Ok(heap) => heap,
        Err(error) => return println!("not tested: {error}"),
    };
    assert!(matches!(heap.warnings(), [BuildWarning::PagesCopied(_)]), "{:?}", heap.warnings());
    heap.enter(|m| {
        let numbers: Vec<Root<Bytes>> = (0..5000)
            .map(|number| {
                let m = m.reserve(AllocSize::tail::<Bytes>(200).times(2)).unwrap();
                m.place_bytes::<Bytes>((), &[0; 200]);
                Root::new(m, m.place_bytes::<Bytes>((), &[number as u8; 200]))
            })
            .collect();
        m.reserve(AllocSize::tail::<Bytes>(8 * MIB)).unwrap().place_bytes::<Bytes>((), &vec![1; 8 * MIB]);
        for _ in 0..5 {
            m.collect();
            heap.release_memory();
            let resident = heap.resident_bytes().unwrap();
            assert!(resident < 6 * MIB, "{resident} bytes for objects of 1 MiB");
        }
        numbers.iter().enumerate().for_each(|(number, root)| assert_eq!(root.get(m).tail(), [number as u8; 200]));
    })
    .unwrap();
    assert!(heap.stats().relocations >= 3, "{:?}", heap.stats());
}

/// Fails where a flip commits the memory of all free blocks.
fn free_blocks_get_no_memory_where_pages_are_copied() {
    plays_well("copied");
}

/// A large object needs the memory of blocks elsewhere, and the system does not take it from them.
fn not_lent() {
    type Table = SlotArray<Option<Bytes>>;
    const MIB: usize = 1 << 20;
    let heap = Heap::builder().max_bytes(16 * MIB).address_factor(2).uncommit_delay(None).build().unwrap();
    heap.enter(|m| {
        let table = m.build::<Table>(AllocSize::tail::<Table>(14), |m| m.place_array((), 14, None)).unwrap();
        let large = |m: &mut Mutator<'_>, index: usize, len: usize| {
            let m = m.reserve(AllocSize::tail::<Bytes>(len))?;
            table.get(m).tail()[index].set(m, Some(m.place_bytes::<Bytes>((), &vec![index as u8; len])));
            Ok::<_, OutOfMemory>(())
        };
        (0..14).for_each(|index| large(m, index, MIB - 64).unwrap());
        (0..14).step_by(2).for_each(|index| table.get(m).tail()[index].set(m, None));
        m.collect();
        let held = (heap.stats().committed_bytes, heap.stats().used_bytes);
        refuse("fallocate(PUNCH_HOLE)", libc::ENOSPC, 0, u64::MAX);
        // What has its memory can be used; else the heap does what one without more addresses does,
        // and nothing is lost.
        let got = large(m, 0, 5 * MIB);
        assert!(heap.refusals().count > 0 && heap.stats().committed_peak_bytes <= 16 * MIB, "{got:?}");
        table.get(m).tail()[0].set(m, None);
        m.collect();
        refuse_nothing();
        let now = (heap.stats().committed_bytes, heap.stats().used_bytes);
        assert!(now.0 >= held.0 && now.1 <= held.1 + MIB, "{held:?}, {now:?}");
        large(m, 0, 5 * MIB).unwrap();
        let slots = table.get(m).tail().iter().enumerate();
        let objects = slots.filter_map(|(index, slot)| slot.get(m).map(|object| (index, object)));
        objects.for_each(|(index, object)| assert!(object.tail() == vec![index as u8; object.tail_len()]));
    })
    .unwrap();
}

/// Fails where a run that got no memory is used, or lost.
fn memory_that_is_not_lent_is_an_error_and_the_heap_goes_on() {
    plays_well("not-lent");
}

/// Fails where memory that the system did not take back counts as given back.
fn memory_that_is_not_taken_back_is_asked_for_again() {
    plays_well("not-given-back");
}

pub(crate) const TESTS: Tests = Tests {
    page: tests![
        a_page_that_is_refused_is_let_in_another_way,
        a_page_that_cannot_be_had_ends_the_process_with_a_line,
        a_thread_that_has_blocked_the_signal_since_is_served,
        a_heap_that_is_built_takes_its_signal_back,
        a_page_barrier_that_cannot_flip_is_refused,
        a_flip_that_can_be_neither_done_nor_undone_is_served,
        a_flip_of_parts_that_cannot_be_moved_back_copies_them,
    ],
    once: tests![
        what_is_refused_is_named,
        memory_that_is_not_taken_back_is_asked_for_again,
        memory_that_is_not_lent_is_an_error_and_the_heap_goes_on,
        free_blocks_get_no_memory_where_pages_are_copied,
        threads_that_are_refused_are_an_error_or_done_without,
        a_time_slice_that_is_refused_is_said,
    ],
    ..Tests::NONE
};
