//! The bench in a sandbox: a seccomp filter that refuses some calls.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::ptr;

use crate::common::Scratch;

/// `USERFAULTFD_IOC_NEW` of `/dev/userfaultfd`.
const NEW_DESCRIPTOR: u32 = 0xaa00;

/// Both ways to a descriptor.
pub(crate) const WITHOUT_USERFAULTFD: [(i64, Option<u32>); 2] =
    [(libc::SYS_userfaultfd, None), (libc::SYS_ioctl, Some(NEW_DESCRIPTOR))];

/// An instruction of classic BPF over `struct seccomp_data`: the number at offset 0, arguments from
/// 16 on.
fn bpf(code: u32, skipped: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: skipped, k: value }
}

/// Runs the bench where these calls, by number and perhaps second argument, are answered with
/// `action`.
pub(crate) fn bench_with(scratch: &Scratch, args: &[&str], calls: &[(i64, Option<u32>)], action: u32) -> Output {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const SKIP_UNLESS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const ANSWER: u32 = libc::BPF_RET | libc::BPF_K;
    let mut filter = Vec::new();
    for (number, argument) in calls {
        filter.push(bpf(LOAD, 0, 0));
        match argument {
            None => filter.push(bpf(SKIP_UNLESS, 1, *number as u32)),
            Some(value) => {
                filter.extend([bpf(SKIP_UNLESS, 3, *number as u32), bpf(LOAD, 0, 24), bpf(SKIP_UNLESS, 1, *value)])
            }
        }
        filter.push(bpf(ANSWER, 0, action));
    }
    filter.push(bpf(ANSWER, 0, libc::SECCOMP_RET_ALLOW));
    let mut bench = Command::new(env!("CARGO_BIN_EXE_gc-bench"));
    bench.args(args).current_dir(&scratch.0);
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the program lives until the kernel has copied it.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, ptr::from_ref(&program), 0, 0) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec there are two system calls; nothing is allocated.
    unsafe { bench.pre_exec(install) };
    bench.output().expect("the bench starts")
}
