//! The page barrier among signals, sandboxes and users: scenes that change a whole process, each in
//! a child.
//!
//! A child is this program again, told by [`SCENE`] which scene to play; it says what went wrong by
//! a panic.

use crate::common::{backing, deadline_after, set_backing, while_collecting};
use crate::harness::{Tests, tests};
use crate::{addresses, control_group, coroutines, dumps, extremes, fork, huge, limits, refusals};
use gc_heap::{AllocSize, Backing, Barrier, Heap, HeapBuilder, Mutator, Slot, SlotArray, Stress, Trace};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, Output};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Names the scene that a child plays.
pub(crate) const SCENE: &str = "PARALLAX_SCENE";

/// Set where a child's heaps are to be of anonymous memory, as those of the trial that starts it.
const ANONYMOUS: &str = "PARALLAX_SCENE_ANONYMOUS";

const SCENES: &[(&str, fn())] = &[
    ("handlers", handlers),
    ("stray", stray),
    ("refused", refused),
    ("refused-harness", refused_harness),
    ("closed-later", closed_later),
    ("nobody", nobody),
    ("hanging", hanging),
];

/// Plays a scene: what a child's `main` does. It says where it hangs before the trial that waits
/// for it has to.
pub(crate) fn play(scene: &str) -> ExitCode {
    let _deadline = deadline_after(scene, Duration::from_secs(60));
    if std::env::var_os(ANONYMOUS).is_some() {
        set_backing(Backing::Anonymous);
    }
    SCENES
        .iter()
        .chain(extremes::SCENES)
        .chain(fork::SCENES)
        .chain(huge::SCENES)
        .chain(limits::SCENES)
        .chain(refusals::SCENES)
        .chain(dumps::SCENES)
        .chain(addresses::SCENES)
        .chain(control_group::SCENES)
        .chain(coroutines::SCENES)
        .find(|(name, _)| *name == scene)
        .expect("a scene of this name")
        .1();
    ExitCode::SUCCESS
}

pub(crate) fn child(scene: &str) -> Output {
    command(scene).output().unwrap()
}

pub(crate) fn command(scene: &str) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    if backing() == Backing::Anonymous {
        command.env(ANONYMOUS, "1");
    }
    command.env(SCENE, scene);
    command
}

pub(crate) fn plays_well(scene: &str) {
    let output = child(scene);
    assert!(output.status.success(), "{scene}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[derive(Trace)]
struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

type Table = SlotArray<Option<Node>>;

pub(crate) fn builder() -> HeapBuilder {
    let stress = Stress { cycle_every: u32::MAX, ..Stress::default() };
    Heap::builder().max_bytes(16 << 20).barrier(Barrier::Page).backing(backing()).fault_cluster(1).stress(stress)
}

fn heap() -> Heap {
    builder().build().unwrap()
}

/// Reads objects that move until some of its reads have faulted. `around` is called before and
/// after each.
pub(crate) fn until_faults(heap: &Heap, mut around: impl FnMut(bool)) {
    let before = heap.faults().count;
    while_collecting(heap, Duration::ZERO, || {
        let work = |m: &mut Mutator<'_>| {
            const NODES: usize = 20_000;
            let table = m.build::<Table>(AllocSize::tail::<Table>(NODES), |m| m.place_array((), NODES, None)).unwrap();
            for index in 0..NODES {
                let m = m.reserve(AllocSize::of::<Node>()).unwrap();
                let next = index.checked_sub(1).and_then(|before| table.get(m).tail()[before].get(m));
                table.get(m).tail()[index].set(m, Some(m.place(NodeInit { id: index as u64, next })));
            }
            while heap.faults().count < before + 20 {
                m.safepoint();
                for index in (0..NODES).rev().step_by(97) {
                    around(true);
                    let node = table.get(m).tail()[index].get(m).unwrap();
                    let (id, next) = (node.id, node.next.get(m).map(|next| next.id));
                    around(false);
                    assert_eq!((id, next), (index as u64, index.checked_sub(1).map(|before| before as u64)));
                }
            }
        };
        heap.enter(work).unwrap();
    });
}

/// A page of a file that has none: touching it is a `SIGBUS` of nobody's heap.
pub(crate) fn page_without_a_file() -> *mut u8 {
    // SAFETY: a new file and a new mapping.
    unsafe {
        let file = libc::memfd_create(c"nothing".as_ptr(), 0);
        let page = libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file, 0);
        assert_ne!(page, libc::MAP_FAILED);
        page.cast()
    }
}

pub(crate) fn install(handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void)) -> libc::sigaction {
    // SAFETY: actions of this frame; the handlers below keep to what a handler may do.
    unsafe {
        let (mut new, mut old): (libc::sigaction, libc::sigaction) = (std::mem::zeroed(), std::mem::zeroed());
        new.sa_sigaction = handler as *const () as usize;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        assert_eq!(libc::sigaction(libc::SIGBUS, &raw const new, &raw mut old), 0);
        old
    }
}

static MENDED: AtomicUsize = AtomicUsize::new(0);
static PASSED_ON: AtomicUsize = AtomicUsize::new(0);
static BEFORE: AtomicUsize = AtomicUsize::new(0);

/// Of the program: gives the page that is missing, and counts.
pub(crate) extern "C" fn mend(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    MENDED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the kernel's own information; the page is the one of `page_without_a_file`.
    unsafe {
        let page = ((*info).si_addr() as usize & !4095) as *mut libc::c_void;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        libc::mmap(page, 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
    }
}

/// How often [`mend`] was called.
pub(crate) fn mended() -> usize {
    MENDED.load(Ordering::SeqCst)
}

/// Installs [`pass_on`], and tells how often it was called since.
pub(crate) fn pass_on_to() -> impl Fn() -> usize {
    let (old, before) = (install(pass_on), PASSED_ON.load(Ordering::SeqCst));
    BEFORE.store(old.sa_sigaction, Ordering::SeqCst);
    move || PASSED_ON.load(Ordering::SeqCst) - before
}

/// Of another library, installed after the heap's: passes everything on.
extern "C" fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    PASSED_ON.fetch_add(1, Ordering::SeqCst);
    let before = BEFORE.load(Ordering::SeqCst);
    // SAFETY: the handler that was there, which takes information: the heap's.
    unsafe {
        let before: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = std::mem::transmute(before);
        before(signal, info, context);
    }
}

fn handlers() {
    install(mend);
    let heap = heap();
    until_faults(&heap, |_| ());
    assert_eq!(MENDED.load(Ordering::SeqCst), 0, "a fault of the heap went to the program");
    let page = page_without_a_file();
    // SAFETY: the page is there once the program's handler has run.
    unsafe { page.write_volatile(3) };
    assert_eq!(MENDED.load(Ordering::SeqCst), 1, "a fault of the program did not reach it");
    let old = install(pass_on);
    BEFORE.store(old.sa_sigaction, Ordering::SeqCst);
    until_faults(&heap, |_| ());
    assert!(PASSED_ON.load(Ordering::SeqCst) >= 20);
    // SAFETY: as above.
    unsafe { page_without_a_file().write_volatile(3) };
    assert_eq!(MENDED.load(Ordering::SeqCst), 2);
    until_faults(&heap, |_| ());
}

/// Fails where the handler takes faults that are not its heaps', or does not know the one that was
/// there.
pub(crate) fn handlers_before_and_after() {
    plays_well("handlers");
}

fn stray() {
    let heap = heap();
    until_faults(&heap, |_| ());
    // SAFETY: the access is the fault that is tested.
    unsafe { page_without_a_file().write_volatile(1) };
}

/// Fails where the handler swallows a fault that nobody serves: the child would go on, or fault for
/// ever.
pub(crate) fn a_stray_fault_still_kills() {
    let output = child("stray");
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A thread that runs and one that waits, for longer than they may.
fn hanging() {
    fn spins() {
        loop {
            std::hint::spin_loop();
        }
    }
    let _deadline = deadline_after("a hanging scene", Duration::from_secs(1));
    let spinner = std::thread::Builder::new().name("spinner".to_owned()).spawn(spins).unwrap();
    spinner.join().unwrap();
}

/// Fails where the output of a test that hangs does not end with which test that was, and where
/// each thread is.
pub(crate) fn a_test_that_hangs_says_so_last() {
    let output = child("hanging");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    // The last but for this one: this thread's, that of the scene's own deadline, and the
    // spinner's.
    let [.., first, second, third, why] = lines[..] else { panic!("{text}") };
    assert!(why.starts_with("a hanging scene: no end after ") && lines[0] == why, "{text}");
    let last = [first, second, third];
    assert!(last.iter().any(|line| line.contains(", spinner, R, ") && line.contains("hanging::spins at ")), "{text}");
    assert!(last.iter().any(|line| line.contains("child::hanging at ") && line.contains("child.rs:")), "{text}");
    assert!(!text.contains("/rustc/") && !text.contains("/registry/"), "{text}");
}

/// Fails where the handler leaves `errno` as its calls have left it.
pub(crate) fn errno_survives_a_fault() {
    // SAFETY: this thread's own errno.
    let errno = || unsafe { libc::__errno_location() };
    until_faults(&heap(), |before| {
        // SAFETY: as above.
        unsafe {
            if before {
                *errno() = libc::EXFULL;
            } else {
                assert_eq!(*errno(), libc::EXFULL);
            }
        }
    });
}

fn alternate_stack(stack: Option<&mut [u8]>) -> libc::stack_t {
    let mut new = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    if let Some(stack) = stack {
        new = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    }
    // SAFETY: the stack outlives its use: who sets it takes it back; no handler runs on the old
    // one.
    unsafe {
        let mut old: libc::stack_t = std::mem::zeroed();
        assert_eq!(libc::sigaltstack(&raw const new, &raw mut old), 0);
        old
    }
}

/// A stack too small for the handler is replaced while the thread lives, none is made up for.
pub(crate) fn alternate_stacks_of_the_embedder() {
    let heap = heap();
    for len in [None, Some(12 << 10), Some(256 << 10)] {
        let mut stack = len.map(|len| vec![0_u8; len]);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let rusts = alternate_stack(stack.as_deref_mut());
                until_faults(&heap, |_| ());
                // SAFETY: what the standard library made for this thread, which it takes back when
                // the thread ends.
                unsafe { assert_eq!(libc::sigaltstack(&raw const rusts, ptr::null_mut()), 0) };
            });
            thread.join().unwrap();
        });
    }
}

/// A thread that Rust has not made.
pub(crate) fn threads_of_the_c_library() {
    extern "C" fn body(heap: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: the heap of the frame that waits for this thread.
        until_faults(unsafe { &*heap.cast::<Heap>() }, |_| ());
        ptr::null_mut()
    }
    let mut heap = heap();
    for _ in 0..3 {
        // SAFETY: the thread is joined before the heap ends.
        unsafe {
            let mut thread = 0;
            let heap = ptr::from_mut(&mut heap).cast();
            assert_eq!(libc::pthread_create(&raw mut thread, ptr::null(), body, heap), 0);
            assert_eq!(libc::pthread_join(thread, ptr::null_mut()), 0);
        }
    }
}

/// Of a filter: loads a word of what the kernel tells of a call.
fn load(offset: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn skip_unless(value: u32, count: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf: count, k: value }
}

fn return_(answer: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: answer }
}

fn install_filter(mut filter: Vec<libc::sock_filter>) {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program lives until the kernel has copied it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, ptr::from_ref(&program), 0, 0), 0);
    }
}

/// Closes a sandbox around this thread and those it starts: no userfaultfd, by call or by device,
/// no memfd.
fn close_sandbox(memfd: bool) {
    let refusal = return_(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    // `USERFAULTFD_IOC_NEW` of `/dev/userfaultfd` is the request 0xaa00.
    let mut filter = vec![load(0), skip_unless(libc::SYS_userfaultfd as u32, 1), refusal];
    filter.extend([load(0), skip_unless(libc::SYS_ioctl as u32, 3), load(24), skip_unless(0xaa00, 1), refusal]);
    if memfd {
        filter.extend([load(0), skip_unless(libc::SYS_memfd_create as u32, 1), refusal]);
    }
    filter.push(return_(libc::SECCOMP_RET_ALLOW));
    install_filter(filter);
}

fn refused() {
    close_sandbox(false);
    let error = Heap::builder().max_bytes(8 << 20).barrier(Barrier::Page).build().unwrap_err().to_string();
    assert!(!error.contains('\n'), "one line: {error}");
    for part in ["userfaultfd", "Operation not permitted", "seccomp", "/dev/userfaultfd", "load barrier"] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
    let heap = Heap::builder().max_bytes(8 << 20).barrier(Barrier::Load).build().unwrap();
    let id = heap.enter(|m| {
        let node = m.alloc::<Node>(|_| NodeInit { id: 7, next: None }).unwrap();
        m.collect();
        node.get(m).id
    });
    assert_eq!(id, Ok(7));
}

/// Fails where the heap falls back in silence, or does not say what was refused and what would
/// work.
pub(crate) fn a_sandbox_that_refuses_userfaultfd() {
    plays_well("refused");
}

fn refused_harness() {
    close_sandbox(false);
    // A filter stays over `exec`.
    let this = std::env::current_exe().unwrap();
    panic!("{}", Command::new(this).arg("visits_without_a_cycle").env_remove(SCENE).exec());
}

/// What cannot run counts as ignored, never as passed, and a line says why.
pub(crate) fn what_cannot_run_is_said_to_be_ignored() {
    let output = child("refused-harness");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("0 passed; 0 failed; 2 ignored"), "{text}");
    assert!(text.contains("IGNORED") && text.contains("no userfaultfd") && text.contains("load barrier"), "{text}");
}

fn closed_later() {
    let heap = heap();
    until_faults(&heap, |_| ());
    close_sandbox(true);
    until_faults(&heap, |_| ());
    std::thread::scope(|scope| scope.spawn(|| until_faults(&heap, |_| ())).join().unwrap());
    assert!(builder().build().is_err());
}

/// Fails where a descriptor is made late, after the program has closed its sandbox.
pub(crate) fn a_sandbox_closed_after_the_heap_was_built() {
    plays_well("closed-later");
}

fn nobody() {
    // SAFETY: no memory is involved.
    unsafe {
        if libc::getuid() == 0 {
            assert_eq!(libc::setgid(65534), 0);
            assert_eq!(libc::setuid(65534), 0);
        }
        assert_ne!(libc::geteuid(), 0);
    }
    until_faults(&heap(), |_| ());
}

/// Fails where the barrier asks for more than `UFFD_USER_MODE_ONLY`, which needs no privilege.
pub(crate) fn a_user_without_privileges() {
    plays_well("nobody");
}

pub(crate) const TESTS: Tests = Tests {
    page: tests![
        handlers_before_and_after,
        a_stray_fault_still_kills,
        errno_survives_a_fault,
        alternate_stacks_of_the_embedder,
        threads_of_the_c_library,
        a_sandbox_closed_after_the_heap_was_built,
        a_user_without_privileges,
    ],
    once: tests![
        a_sandbox_that_refuses_userfaultfd,
        a_test_that_hangs_says_so_last,
        what_cannot_run_is_said_to_be_ignored,
    ],
    ..Tests::NONE
};
