//! One trial for each feature; each returns what it found, or why the feature does not work, as
//! text.

use crate::sys::{self, Access, HeapFile, RegisterMode, SysError, Uffd, UffdSource};
use crate::sys::{UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_MOVE, UFFD_FEATURE_SIGBUS};
use std::ptr;

type Trial = Result<String, String>;

/// The value by which a trial recognises the same memory.
const MARK: u64 = 0x5eed_cafe;

/// The pieces of `MADV_COLLAPSE`.
const HUGE_PAGE: usize = 2 << 20;

fn said(error: SysError) -> String {
    error.to_string()
}

/// A private file, and `count` address ranges of its size, the first of them mapped. Dropping it
/// unmaps and closes all.
struct Scratch {
    file: HeapFile,
    base: usize,
    count: usize,
}

impl Scratch {
    fn new(bytes: usize, count: usize) -> Result<Scratch, SysError> {
        let file = HeapFile::new("probe", bytes)?;
        let base = sys::reserve(bytes * count, bytes.next_power_of_two())?;
        let scratch = Scratch { file, base, count };
        scratch.map(0)?;
        Ok(scratch)
    }

    fn bytes(&self) -> usize {
        self.file.bytes()
    }

    fn place(&self, index: usize) -> usize {
        assert!(index < self.count, "a scratch has {} places", self.count);
        self.base + index * self.bytes()
    }

    fn map(&self, index: usize) -> Result<(), SysError> {
        // SAFETY: the place is ours, and no reference points into it.
        unsafe { sys::map_file_at(self.place(index), &self.file, 0, self.bytes(), Access::ReadWrite) }
    }

    /// The first word at a place that is mapped.
    fn word(&self, index: usize) -> *mut u64 {
        ptr::with_exposed_provenance_mut(self.place(index))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: the reservation is ours and ends here.
        let _ = unsafe { sys::unmap(self.base, self.count * self.bytes()) };
    }
}

pub(super) fn seals() -> Trial {
    let file = HeapFile::new("probe", sys::page_size()).map_err(said)?;
    let wanted = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    let seals = file.seals().map_err(said)?;
    if seals & wanted == wanted { Ok("sealed".into()) } else { Err(format!("seals are {seals:#x}")) }
}

pub(super) fn no_exec() -> Trial {
    let file = HeapFile::new("probe", sys::page_size()).map_err(said)?;
    if file.is_no_exec() { Ok("sealed".into()) } else { Err("the kernel does not know the flag".into()) }
}

pub(super) fn mirror() -> Trial {
    let scratch = Scratch::new(sys::page_size(), 2).map_err(said)?;
    // SAFETY: both places are ours; the second is written by the kernel only, and read once it is
    // mapped.
    unsafe {
        scratch.word(0).write_volatile(MARK);
        sys::mirror_at(scratch.place(0), scratch.bytes(), scratch.place(1)).map_err(said)?;
        same(scratch.word(1).read_volatile())
    }
}

pub(super) fn move_page_tables() -> Trial {
    let scratch = Scratch::new(sys::page_size(), 2).map_err(said)?;
    // SAFETY: both places are ours, and both are mapped when they are read.
    unsafe {
        scratch.word(0).write_volatile(MARK);
        sys::move_page_tables(scratch.place(0), scratch.bytes(), scratch.place(1))
            .map_err(|refused| said(refused.into()))?;
        same(scratch.word(1).read_volatile())?;
        same(scratch.word(0).read_volatile())
    }
}

fn same(found: u64) -> Trial {
    if found == MARK { Ok("same bytes".into()) } else { Err("the kernel answered yes, and mapped other bytes".into()) }
}

pub(super) fn remap_file_pages() -> Trial {
    let page = sys::page_size();
    let scratch = Scratch::new(2 * page, 1).map_err(said)?;
    // SAFETY: the place is ours, and mapped when it is written and read.
    unsafe {
        ptr::with_exposed_provenance_mut::<u64>(scratch.base + page).write_volatile(MARK);
        sys::remap_file_pages(scratch.base, page, 1).map_err(said)?;
        same(scratch.word(0).read_volatile()).map(|_| "same bytes (emulated or not, the kernel does not say)".into())
    }
}

/// The sources that give a descriptor on which the kernel agrees.
pub(super) fn uffd_sources() -> Vec<UffdSource> {
    UffdSource::ALL.into_iter().filter(|source| connect(*source, 0).is_ok()).collect()
}

fn connect(source: UffdSource, features: u64) -> Result<(Uffd, sys::UffdAnswer), SysError> {
    let uffd = sys::open_uffd(source)?;
    let answer = sys::uffd_api(&uffd, features)?;
    Ok((uffd, answer))
}

/// A descriptor with `features`, from the first source that gives one at all.
fn connected(features: u64) -> Result<Uffd, String> {
    let mut refusals = Vec::new();
    for source in UffdSource::ALL {
        match connect(source, 0) {
            // The kernel is the same whatever the source: what it lacks here it lacks everywhere.
            Ok(_) => return connect(source, features).map(|(uffd, _)| uffd).map_err(said),
            Err(error) => refusals.push(said(error)),
        }
    }
    Err(refusals.join("; "))
}

pub(super) fn userfaultfd() -> Trial {
    let mut open = Vec::new();
    let mut features = 0;
    let mut refusals = Vec::new();
    for source in UffdSource::ALL {
        match connect(source, 0) {
            Ok((_, answer)) => {
                features = answer.features;
                open.push(match source {
                    UffdSource::Device => "/dev/userfaultfd",
                    UffdSource::SystemCall => "system call",
                    UffdSource::SystemCallUserModeOnly => "system call with USER_MODE_ONLY",
                });
            }
            Err(error) => refusals.push(said(error)),
        }
    }
    if open.is_empty() {
        Err(refusals.join("; "))
    } else {
        Ok(format!("by {}; features {features:#x}", open.join(", ")))
    }
}

pub(super) fn minor_shmem() -> Trial {
    let uffd = connected(UFFD_FEATURE_MINOR_SHMEM)?;
    let scratch = Scratch::new(sys::page_size(), 2).map_err(said)?;
    scratch.map(1).map_err(said)?;
    let (view, bytes) = (scratch.place(1), scratch.bytes());
    // SAFETY: both places are ours and mapped. The second is touched when its page is there, so
    // that it does not fault.
    unsafe {
        scratch.word(0).write_volatile(MARK);
        sys::uffd_register(&uffd, view, bytes, RegisterMode::MINOR).map_err(said)?;
        sys::uffd_continue(&uffd, view, bytes, false).map_err(said)?;
        same(scratch.word(1).read_volatile()).map(|_| "registered and continued a page".into())
    }
}

pub(super) fn sigbus() -> Trial {
    connected(UFFD_FEATURE_SIGBUS).map(|_| "the kernel agrees".into())
}

pub(super) fn uffd_move() -> Trial {
    connected(UFFD_FEATURE_MOVE).map(|_| "the kernel agrees".into())
}

pub(super) fn pagemap_scan() -> Trial {
    let scratch = Scratch::new(2 * sys::page_size(), 1).map_err(said)?;
    // SAFETY: the place is ours and mapped.
    unsafe { scratch.word(0).write_volatile(MARK) };
    match sys::present_pages(scratch.base, scratch.bytes()).map_err(said)? {
        1 => Ok("counts what is mapped".into()),
        count => Err(format!("counts {count} pages where 1 is mapped")),
    }
}

pub(super) fn populate_write() -> Trial {
    if sys::populate_write_supported() {
        Ok("populates".into())
    } else {
        Err("the kernel does not know it; pages are touched one by one instead".into())
    }
}

pub(super) fn collapse() -> Trial {
    let scratch = Scratch::new(HUGE_PAGE, 1).map_err(said)?;
    // SAFETY: the place is ours and mapped, and no reference points into it.
    unsafe {
        sys::populate_write(scratch.base, scratch.bytes()).map_err(said)?;
        match sys::collapse(scratch.base, scratch.bytes()) {
            Ok(()) => Ok("made a huge page".into()),
            // These errors mean that no huge page was available at this moment.
            Err(error) if [libc::ENOMEM, libc::EAGAIN, libc::EBUSY].contains(&error.errno()) => {
                Ok(format!("known, but just now {}", said(error)))
            }
            Err(error) => Err(said(error)),
        }
    }
}

pub(super) fn shmem_huge_pages() -> Trial {
    match sys::shmem_huge_pages().map_err(said)?.as_str() {
        setting @ ("never" | "deny") => Err(format!("the setting is {setting}")),
        setting => Ok(format!("the setting is {setting}")),
    }
}

pub(super) fn max_map_count() -> Trial {
    sys::max_map_count().map(|count| format!("{count} mappings a process")).map_err(said)
}
