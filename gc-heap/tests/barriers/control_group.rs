//! A heap in a memory control group. A trial makes a group below that of this process, or below one
//! further up, and a child moves into it and plays a scene there. Where no group can be made (it
//! takes write access to the hierarchy), a line says so.

use crate::child::command;
use crate::common::{plain, while_repeating};
use crate::giving_back::{churn, sparse, wait_until};
use crate::harness::{Tests, tests};
use crate::memory::{check_all, table};
use gc_heap::{Barrier, BuildError, BuildWarning, Heap, HeapStats};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) const SCENES: &[(&str, fn())] = &[
    ("group-default", the_limit_is_half_for_objects),
    ("group-slows", the_default_keeps_clear_of_what_slows_down),
    ("group-short-load", || a_heap_gives_back(Barrier::Load)),
    ("group-short-page", || a_heap_gives_back(Barrier::Page)),
    ("group-enough", a_heap_keeps_its_memory),
    ("group-waits", a_heap_sees_that_threads_wait),
];

const MIB: usize = 1 << 20;

/// Names the group that a child moves into.
const GROUP: &str = "PARALLAX_GROUP";

/// Limits of a group.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// `memory.max`, or `memory.limit_in_bytes` of version 1.
    Max,
    /// `memory.high`: version 1 has none.
    High,
}

/// A group of this trial's own, removed with it.
struct Group(PathBuf);

impl Group {
    /// With so many bytes, or why there is none.
    fn new(name: &str, limit: Limit, bytes: usize) -> Result<Group, String> {
        let own = std::fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        // Trials of several barriers make groups at the same time.
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let mut refused = String::from("no hierarchy of control groups has memory");
        for line in own.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let (mounts, file): (&[&str], _) = match (controllers, limit) {
                ("", Limit::Max) => (&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], "memory.max"),
                ("", Limit::High) => (&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], "memory.high"),
                (names, Limit::Max) if names.split(',').any(|name| name == "memory") => {
                    (&["/sys/fs/cgroup/memory"], "memory.limit_in_bytes")
                }
                _ => continue,
            };
            for mount in mounts.iter().map(Path::new) {
                let own = mount.join(path.trim_start_matches('/'));
                // Version 2 lets no group have limits that is below one with processes.
                for above in own.ancestors().take_while(|above| above.starts_with(mount)) {
                    let path = above.join(format!("parallax-{}-{number}-{name}", std::process::id()));
                    let made = std::fs::create_dir(&path).map(|()| Group(path.clone()));
                    let limited = made.and_then(|group| write(&path.join(file), bytes).map(|()| group));
                    match limited {
                        Ok(group) => return Ok(group),
                        Err(error) => refused = format!("{}: {error}", path.join(file).display()),
                    }
                }
            }
        }
        Err(refused)
    }
}

/// Into a file that is there.
fn write(file: &Path, number: usize) -> std::io::Result<()> {
    std::fs::OpenOptions::new().write(true).open(file)?.write_all(number.to_string().as_bytes())
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that has ended leaves its group some moments later.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{} is still there", self.0.display());
    }
}

/// Plays a scene in a group with so many bytes; says it where none can be made.
fn plays_in_a_group(scene: &str, limit: Limit, bytes: usize) {
    let name = format!("{scene}-{limit:?}").to_lowercase();
    let group = match Group::new(&name, limit, bytes) {
        Ok(group) => group,
        Err(why) => return eprintln!("NOT TESTED: {name} in a memory control group of its own: {why}"),
    };
    let output = command(scene).env(GROUP, &group.0).output().unwrap();
    assert!(output.status.success(), "{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// Moves this process into the group that the trial has made. Returns it.
fn join() -> PathBuf {
    let group = PathBuf::from(std::env::var_os(GROUP).expect("a group"));
    write(&group.join("cgroup.procs"), 0).unwrap();
    group
}

fn the_limit_is_half_for_objects() {
    let group = join();
    let heap = Heap::builder().build().unwrap();
    assert_eq!((heap.max_bytes(), heap.warnings()), (50 * MIB, [].as_slice()));
    let near = Heap::builder().max_bytes(90 * MIB).build().unwrap();
    let [BuildWarning::NearMemoryLimit { limit, file, .. }] = near.warnings() else { panic!("{:?}", near.warnings()) };
    assert_eq!((*limit, file.parent()), (100 * MIB, Some(group.as_path())));
    let error = Heap::builder().max_bytes(101 * MIB).check().unwrap_err();
    assert!(matches!(error, BuildError::TooLarge { memory, .. } if memory == 100 * MIB), "{error}");
}

/// No limit, so what is larger is neither refused nor warned of.
fn the_default_keeps_clear_of_what_slows_down() {
    join();
    assert_eq!(Heap::builder().build().unwrap().max_bytes(), 50 * MIB);
    assert_eq!(Heap::builder().max_bytes(200 * MIB).build().unwrap().warnings(), []);
}

/// A heap that has held 40 MiB and more, mostly of garbage. Of 128 MiB it leaves its group less
/// than the 112 that it is to spare. It is never idle, which would be another reason.
fn used(barrier: Barrier, then: impl FnOnce(&Heap) + Send) {
    join();
    let heap = plain(barrier, 96 * MIB).spare_bytes(Some(112 * MIB)).idle_after(None).build().unwrap();
    let work = |m: &mut gc_heap::Mutator<'_>| {
        let kept = table(m, 4000);
        sparse(m, kept);
        churn(m, 40 * MIB);
        m.blocking(|| then(&heap));
        assert_eq!(check_all(m, kept), 4000);
    };
    heap.enter(work).unwrap();
}

/// Memory that is not even one and a half times what lives.
fn is_small(stats: HeapStats) -> bool {
    stats.committed_bytes <= 4000 * 1016 * 3 / 2 + 2 * MIB
}

fn a_heap_gives_back(barrier: Barrier) {
    used(barrier, |heap| wait_until(heap, is_small));
}

/// The collector checks every second.
fn a_heap_keeps_its_memory() {
    used(Barrier::Load, |heap| {
        std::thread::sleep(Duration::from_millis(2500));
        let stats = heap.stats();
        assert!(!is_small(stats) && stats.uncommitted_bytes == 0, "{stats:?}");
    });
}

/// Larger than what the group has left beside the heap.
const READ: usize = 160 * MIB;

/// Nobody has said how much the heap is to spare. A thread reads a file again and again that does
/// not fit beside it, and waits for its pages.
fn a_heap_sees_that_threads_wait() {
    join();
    let heap = plain(Barrier::Load, 96 * MIB).memory_stall_limit(Some(0.01)).idle_after(None).build().unwrap();
    let file = file_of(READ);
    let read = || {
        let mut part = vec![0; MIB];
        for at in (0..READ).step_by(MIB) {
            file.read_exact_at(&mut part, at as u64).unwrap();
        }
    };
    let work = |m: &mut gc_heap::Mutator<'_>| {
        let kept = table(m, 4000);
        sparse(m, kept);
        churn(m, 20 * MIB);
        m.blocking(|| while_repeating(read, || wait_until(&heap, is_small)));
        assert_eq!(check_all(m, kept), 4000);
    };
    heap.enter(work).unwrap();
}

/// A file on a disk that is gone when it is closed.
fn file_of(bytes: usize) -> File {
    let path = Path::new(FOLDER).join(format!("parallax-read-{}", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let part = vec![1; MIB];
    for _ in 0..bytes / MIB {
        file.write_all(&part).unwrap();
        file.sync_data().unwrap();
    }
    file
}

/// Where files of the tests may be.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

/// Whether the kernel can reclaim the pages of files there.
fn folder_is_on_a_disk() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.len() > 2 && Path::new(FOLDER).starts_with(fields[1]));
    above.max_by_key(|fields| fields[1].len()).is_some_and(|fields| !["tmpfs", "ramfs"].contains(&fields[2]))
}

fn a_heap_gives_memory_back_where_threads_wait() {
    let heap = Heap::builder().max_bytes(gc_heap::MIN_HEAP_BYTES).memory_stall_limit(Some(0.01)).build().unwrap();
    match heap.warnings() {
        [] if folder_is_on_a_disk() => plays_in_a_group("group-waits", Limit::Max, 96 * MIB),
        [] => eprintln!("NOT TESTED: {FOLDER} is not on a disk, so no thread waits for its files"),
        warnings => eprintln!("NOT TESTED: {}", warnings[0]),
    }
}

fn the_default_size_is_half_of_a_control_group() {
    plays_in_a_group("group-default", Limit::Max, 100 * MIB);
    plays_in_a_group("group-slows", Limit::High, 100 * MIB);
}

/// The machine has enough: what is short is the group's.
fn a_heap_spares_its_control_group() {
    plays_in_a_group("group-short-load", Limit::Max, 128 * MIB);
    plays_in_a_group("group-short-load", Limit::High, 128 * MIB);
    plays_in_a_group("group-enough", Limit::Max, 1024 * MIB);
}

fn a_heap_with_the_page_barrier_spares_its_control_group() {
    plays_in_a_group("group-short-page", Limit::Max, 128 * MIB);
}

pub(crate) const TESTS: Tests = Tests {
    once: tests![
        the_default_size_is_half_of_a_control_group,
        a_heap_spares_its_control_group,
        a_heap_gives_memory_back_where_threads_wait
    ],
    page: tests![a_heap_with_the_page_barrier_spares_its_control_group],
    ..Tests::NONE
};
