//! Which features of the kernel a heap can use here, determined by trying each.
//!
//! The kernel's version tells little: features are backported, compiled out, disabled by the
//! administrator, or refused by a container's seccomp filter. So each feature is used once, on a
//! few pages that are unmapped afterwards. A filter that refuses with an error is reported as the
//! reason; one that kills the process kills it here as it would in the heap.
//!
//! ```
//! let can = gc_core::probe::Capabilities::probe();
//! println!("{can}");
//! assert!(can.iter().all(|item| !item.name.is_empty()));
//! ```

mod trials;

use crate::sys::{self, UffdSource};
use std::fmt;

/// Whether a feature works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It works.
    Yes {
        /// In what way, or how much of it.
        how: String,
    },
    /// It does not work.
    No {
        /// What the kernel answered.
        why: String,
        /// The first kernel that has it, such as `Linux 5.13`.
        since: &'static str,
    },
}

impl Support {
    /// Whether the feature works.
    pub fn is_yes(&self) -> bool {
        matches!(self, Support::Yes { .. })
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Support::Yes { how } => write!(f, "yes, {how}"),
            Support::No { why, .. } => write!(f, "no: {why}"),
        }
    }
}

/// One probed feature.
#[derive(Clone, Debug)]
pub struct Item {
    /// The feature, as its manual page names it.
    pub name: &'static str,
    /// The first kernel that has it.
    pub since: &'static str,
    /// What a heap uses it for.
    pub purpose: &'static str,
    /// Whether it works here.
    pub support: Support,
}

/// Declares the features, each with the trial that answers for it, so that the struct, its probe
/// and its iterator stay consistent.
macro_rules! capabilities {
    ($($field:ident: $name:literal, $since:literal, $purpose:literal, $trial:expr;)+) => {
        /// The answer to "what can this kernel do for me", from [`Capabilities::probe`].
        #[derive(Clone, Debug)]
        pub struct Capabilities {
            kernel: String,
            uffd_sources: Vec<UffdSource>,
            $(
                #[doc = concat!($name, " (", $since, "): ", $purpose, ".")]
                pub $field: Item,
            )+
        }

        impl Capabilities {
            /// Tries everything once; a few milliseconds. Leaves no mapping, descriptor or memory
            /// behind.
            pub fn probe() -> Capabilities {
                Capabilities {
                    kernel: sys::kernel_release().unwrap_or_else(|_| "of unknown release".into()),
                    uffd_sources: trials::uffd_sources(),
                    $(
                        $field: {
                            let trial: fn() -> Result<String, String> = $trial;
                            let support = match trial() {
                                Ok(how) => Support::Yes { how },
                                Err(why) => Support::No { why, since: $since },
                            };
                            Item { name: $name, since: $since, purpose: $purpose, support }
                        },
                    )+
                }
            }

            /// Every item, in the order of the table.
            pub fn iter(&self) -> impl Iterator<Item = &Item> {
                [$(&self.$field),+].into_iter()
            }
        }
    };
}

capabilities! {
    memfd_seals: "memfd_create, F_SEAL_GROW|SHRINK|SEAL", "Linux 3.17",
        "a heap that nobody can resize", trials::seals;
    memfd_no_exec: "MFD_NOEXEC_SEAL", "Linux 6.3",
        "a heap that nobody can execute", trials::no_exec;
    mirror: "mremap, old_size=0, shared memory", "Linux 2.6",
        "a second view without the descriptor", trials::mirror;
    move_page_tables: "MREMAP_DONTUNMAP, shared memory", "Linux 5.13",
        "the flip of the page barrier", trials::move_page_tables;
    userfaultfd: "userfaultfd", "Linux 4.3",
        "faults of absent pages, for the page barrier", trials::userfaultfd;
    uffd_minor_shmem: "UFFD_FEATURE_MINOR_SHMEM", "Linux 5.14",
        "faults of pages that the file has, and UFFDIO_CONTINUE", trials::minor_shmem;
    uffd_sigbus: "UFFD_FEATURE_SIGBUS", "Linux 4.14",
        "faults served by the faulting thread itself", trials::sigbus;
    uffd_move: "UFFD_FEATURE_MOVE", "Linux 6.8",
        "pages moved instead of copied, anonymous memory only", trials::uffd_move;
    pagemap_scan: "PAGEMAP_SCAN", "Linux 6.7",
        "the check that a flip left no page mapped", trials::pagemap_scan;
    populate_write: "MADV_POPULATE_WRITE", "Linux 5.14",
        "committing memory ahead of its use", trials::populate_write;
    collapse: "MADV_COLLAPSE, shared memory", "Linux 6.1",
        "2 MiB pages whatever the system's setting", trials::collapse;
    shmem_huge_pages: "shmem_enabled", "Linux 4.8",
        "2 MiB pages from the first touch on", trials::shmem_huge_pages;
    remap_file_pages: "remap_file_pages", "Linux 2.6",
        "a nonlinear view; emulated since Linux 4.0, for comparison", trials::remap_file_pages;
    max_map_count: "vm.max_map_count", "Linux 2.6",
        "the number of mappings a heap may be split into", trials::max_map_count;
}

impl Capabilities {
    /// The release of the running kernel.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// The ways to a userfaultfd descriptor that are open to this process, best first.
    pub fn uffd_sources(&self) -> &[UffdSource] {
        &self.uffd_sources
    }
}

/// A table, one line for each feature.
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: fn(&Item) -> String| self.iter().map(|item| text(item).chars().count()).max().unwrap_or(0);
        let name = width(|item| item.name.into());
        let since = width(|item| item.since.into());
        let purpose = width(|item| item.purpose.into());
        writeln!(f, "Linux {}", self.kernel)?;
        for item in self.iter() {
            let Item { name: n, since: s, purpose: p, support } = item;
            writeln!(f, "{n:name$}  {s:since$}  {p:purpose$}  {support}")?;
        }
        Ok(())
    }
}
