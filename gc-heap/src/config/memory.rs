//! Options of the heap's memory: how much, of what pages, and when it is given back.

use super::{HeapBuilder, HugePages};
use gc_core::views::Mirror;
use std::time::Duration;

impl HeapBuilder {
    /// Maximum memory for objects, in bytes; rounded up to 64 KiB. From 4 MiB to the machine's
    /// memory. Default: 256 MiB, or half of the memory of the machine or its control group
    /// (`memory.max`, `memory.high`) if that is less.
    ///
    /// A control group's limit covers the whole process: besides the objects also the collector's
    /// tables, page tables for each view, and the program. With a heap of more than about 80 % of
    /// the limit, the process is killed when the heap is full, before it can return
    /// [`OutOfMemory`](crate::OutOfMemory).
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.config.max_bytes = bytes;
        self.sized = true;
        self
    }

    /// How many times its maximum the heap has in addresses, in each of its views: 1 to 16.
    /// Default: 1, an address for each byte of memory.
    ///
    /// A large object, of more than 32 KiB, is contiguous, so it needs a run of free addresses.
    /// With a factor of 1 it needs as long a run of free *memory*, and where what is free lies
    /// between others, threads wait for a pause that moves large objects. With a factor of 2 and
    /// more a run of addresses is nearly always free, and it gets its memory from free blocks
    /// elsewhere, which are uncommitted first: the heap never has more memory than
    /// [`max_bytes`](Self::max_bytes). So allocations of large objects neither fail nor wait for
    /// such a pause as long as enough memory is free, wherever that is.
    ///
    /// It costs addresses, tables (about 3 % of the addresses that are in use), and where a run
    /// gets memory from elsewhere some 0.1 ms a MiB for uncommitting, and first touches. Statistics
    /// and all other options count memory. With [`Backing::Anonymous`](crate::Backing::Anonymous)
    /// the addresses count where promised memory is limited (`RLIMIT_DATA`,
    /// `vm.overcommit_memory=2`). docs/tuning.md has more ("Fragmentation").
    ///
    /// ```
    /// use gc_heap::{BuildError, Heap};
    ///
    /// let heap = Heap::builder().max_bytes(64 << 20).address_factor(4).build()?;
    /// assert_eq!(heap.max_bytes(), 64 << 20);
    /// let refused = Heap::builder().address_factor(0).build();
    /// assert!(matches!(refused, Err(BuildError::AddressFactor { factor: 0 })));
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn address_factor(mut self, factor: usize) -> Self {
        self.config.address_factor = factor;
        self
    }

    /// The memory that the heap tries to make do with, in bytes: a soft maximum, which may be
    /// changed while the program runs
    /// ([`Heap::set_soft_max_bytes`](crate::Heap::set_soft_max_bytes)). Default: the maximum; more
    /// is the maximum, too.
    ///
    /// Cycles begin early enough that no more than this is used, evacuation frees as much as that
    /// takes, and free memory beyond is uncommitted in slices of 64 MiB, at most two a second. No
    /// thread waits because of it, and no allocation fails: what the program needs beyond, it gets
    /// up to [`max_bytes`](Self::max_bytes). If what lives takes more than four fifths of it, the
    /// heap tries to make do with a quarter more than that, so cycles do not follow one another.
    pub fn soft_max_bytes(mut self, bytes: usize) -> Self {
        self.config.soft_max_bytes = Some(bytes);
        self
    }

    /// Memory that the heap tries to leave the system, in bytes. While less is available without
    /// swapping (`MemAvailable`, or what the tightest control group has left below `memory.high`
    /// and `memory.max`), the heap makes do with a quarter more than what lives, as with a soft
    /// maximum of 0; when that begins, one cycle packs what lives. It ends when twice as much is
    /// available, after a minute at least. `None`: the heap does not look. Default: `None`. A heap
    /// that looks does so once a second: some 50 us of its collector's thread.
    pub fn spare_bytes(mut self, bytes: Option<usize>) -> Self {
        self.config.spare_bytes = bytes;
        self
    }

    /// The largest share of time, above 0 and at most 1, in which a thread may have to wait for
    /// memory before the heap makes do with little, as while less than
    /// [`spare_bytes`](Self::spare_bytes) is available: until, after a minute at least, it is half
    /// of that. Threads wait where the kernel reclaims memory for them, or reads again what it has
    /// reclaimed. The kernel says it of the last ten seconds and of all threads in the process's
    /// control group of version 2, in a process without one of all in the machine (`some avg10` of
    /// `memory.pressure`, Linux 4.20). Unlike available memory it says what a shortage costs, whose
    /// cause may be a page cache too small for what is read. `None`: the heap does not look.
    /// Default: `None`. A heap that looks does so once a second: some 20 us of its collector's
    /// thread. Where the kernel does not say it, [`Heap::warnings`](crate::Heap::warnings) does.
    ///
    /// ```
    /// let heap = gc_heap::Heap::builder().memory_stall_limit(Some(0.1)).build()?;
    /// # Ok::<(), gc_heap::BuildError>(())
    /// ```
    pub fn memory_stall_limit(mut self, share: Option<f64>) -> Self {
        self.config.memory_stall_limit = share;
        self
    }

    /// Commits the whole heap while building, so that the program pays for no first touch
    /// (microseconds per page).
    pub fn pretouch(mut self, pretouch: bool) -> Self {
        self.config.pretouch = pretouch;
        self
    }

    /// 2 MiB pages. Default: never.
    pub fn huge_pages(mut self, huge_pages: HugePages) -> Self {
        self.config.huge_pages = huge_pages;
        self
    }

    /// Whether core dumps contain the objects (and, with [`Barrier::Page`](crate::Barrier::Page),
    /// the roots): each page once. If off, a dump contains the rest of the process, such as stacks,
    /// and is as small as without the heap; an attached debugger sees everything either way.
    /// Default: on.
    ///
    /// A dump has an object at its address in the canonical view, not at the address in references:
    /// the address with both bits of the views cleared, as `docs/tuning.md` says. With
    /// [`Barrier::Page`](crate::Barrier::Page) it has the lowest 32,768 slots of each
    /// [`RootStack`](crate::RootStack).
    pub fn dump_objects(mut self, dump: bool) -> Self {
        self.config.dump_objects = dump;
        self
    }

    /// How the views are made. Default: by mapping the memfd. Hidden: for comparisons of the
    /// kernel's two ways, which give the same views.
    #[doc(hidden)]
    pub fn mirror(mut self, mirror: Mirror) -> Self {
        self.config.mirror = mirror;
        self
    }

    /// How long a block stays free before its memory is uncommitted; `None`: never. Default: five
    /// minutes.
    ///
    /// A program that allocates so slowly that no cycle begins for half as long again is packed by
    /// a cycle of its own. Of what is free then as much stays committed as it has allocated since
    /// the cycle before, and the rest is uncommitted at once: so ten minutes after a peak, with the
    /// default, it holds about what lives.
    pub fn uncommit_delay(mut self, delay: Option<Duration>) -> Self {
        self.config.uncommit_delay = delay;
        self
    }

    /// How long a heap with hardly any allocation runs before it counts as idle; `None`: never.
    /// Default: one minute.
    ///
    /// An idle program allocates nothing, so no cycle begins automatically, and its garbage would
    /// stay. If less than about a 64th of the heap was allocated between any two checks of that
    /// time (the collector checks between twice a second and once in half a minute), one cycle
    /// runs, and all free memory is uncommitted, unless [`uncommit_delay`](Self::uncommit_delay) is
    /// `None`. The next idle cycle requires that the program has allocated a sixteenth of the heap,
    /// or requested a cycle itself.
    pub fn idle_after(mut self, time: Option<Duration>) -> Self {
        self.config.idle_after = time;
        self
    }

    /// Growth of external memory, in bytes, that begins a cycle: see
    /// [`Heap::add_external`](crate::Heap::add_external). If more than this remained after the last
    /// cycle, it has to double. Default: 64 MiB.
    pub fn external_step(mut self, bytes: usize) -> Self {
        self.config.external_step = bytes.max(1);
        self
    }
}
