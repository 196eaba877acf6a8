//! The probe in a sandbox: what a seccomp filter refuses is reported with the filter's errno, and
//! nothing crashes.
//!
//! A filter binds the thread that installs it and those it starts, so each test has a thread of its
//! own for it.
#![cfg(not(loom))]

use gc_core::probe::{Capabilities, Support};
use std::{ptr, thread};

/// Instructions of classic BPF over `struct seccomp_data`: the number at offset 0, arguments from
/// 16 on.
fn load(offset: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn skip_unless(value: u32, count: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf: count, k: value }
}

fn answer(action: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: action }
}

/// Refuses these calls, by number or by number and second argument, with `errno`.
fn refuse(calls: &[(i64, Option<u32>)], errno: i32) {
    let mut filter = Vec::new();
    let refusal = answer(libc::SECCOMP_RET_ERRNO | errno as u32);
    for (number, argument) in calls {
        filter.push(load(0));
        match argument {
            None => filter.extend([skip_unless(*number as u32, 1), refusal]),
            Some(value) => filter.extend([skip_unless(*number as u32, 3), load(24), skip_unless(*value, 1), refusal]),
        }
    }
    filter.push(answer(libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program lives until the kernel has copied it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, ptr::from_ref(&program), 0, 0), 0);
    }
}

fn probe_with(calls: &'static [(i64, Option<u32>)], errno: i32) -> Capabilities {
    let probe = thread::spawn(move || {
        refuse(calls, errno);
        Capabilities::probe()
    });
    probe.join().expect("a refusal is an answer, not a crash")
}

/// `USERFAULTFD_IOC_NEW` of `/dev/userfaultfd`.
const NEW_DESCRIPTOR: u32 = 0xaa00;

#[test]
fn a_container_that_refuses_userfaultfd_is_told_from_an_old_kernel() {
    let can = probe_with(&[(libc::SYS_userfaultfd, None), (libc::SYS_ioctl, Some(NEW_DESCRIPTOR))], libc::EPERM);
    for item in [&can.userfaultfd, &can.uffd_minor_shmem, &can.uffd_sigbus, &can.uffd_move] {
        let Support::No { why, since } = &item.support else { panic!("{}: {}", item.name, item.support) };
        assert!(why.contains("userfaultfd(USER_MODE_ONLY)(): Operation not permitted (os error 1)"), "{why}");
        assert_eq!(*since, item.since);
    }
    assert!(can.uffd_sources().is_empty());
    assert!(can.memfd_seals.support.is_yes() && can.mirror.support.is_yes(), "the rest is there:\n{can}");
}

#[test]
fn a_sandbox_that_refuses_nearly_everything_is_survived() {
    let calls: &[(i64, Option<u32>)] = &[
        (libc::SYS_memfd_create, None),
        (libc::SYS_mremap, None),
        (libc::SYS_userfaultfd, None),
        (libc::SYS_ioctl, None),
        (libc::SYS_remap_file_pages, None),
    ];
    let can = probe_with(calls, libc::ENOSYS);
    let still_there = ["MADV_POPULATE_WRITE", "shmem_enabled", "vm.max_map_count"];
    for item in can.iter().filter(|item| !still_there.contains(&item.name)) {
        let Support::No { why, .. } = &item.support else { panic!("{}: {}", item.name, item.support) };
        assert!(why.contains("os error 38"), "{}: {why}", item.name);
    }
    assert!(can.max_map_count.support.is_yes());
}
