//! `gc-bench list`: the workloads.

/// The text of `gc-bench list`: in 60 columns, for the narrowest terminal that people work in.
pub(crate) const TEXT: &str = "\
gcbench
  Ellis, Kovac and Boehm's: a long-lived tree and 500,000
  doubles, beside them trees of depth 4 to 16, built
  top-down and bottom-up and dropped. Objects: two
  references and two 32-bit integers.
  heap 256m; --size rounds [30]; one thread; an operation is
  a round, latency is of each subtree of depth 4

binary-trees
  Trees of every second depth, built bottom-up, counted,
  dropped; each thread takes its share of each depth.
  heap 512m; --size depth [20]; --threads [once 1 and once
  2]; an operation is a subtree of depth 4

message-ring
  A ring of 200,000 messages of 1 KiB, each a fresh byte
  array, filled; what dies is always the oldest.
  heap 1g; --size pushes [5,000,000]; one thread; an
  operation is a push

table-churn
  A chained hash table a thread; an operation is a random
  key, looked up (record, payload, linked record, its
  payload) or replaced (unlink, allocate a record and 24 to
  512 bytes, link it to another): death at random.
  heap 2g; --size records a thread [750,000]; --threads [2];
  --seconds [10]; --seed

lru-cache
  By name only. A cache a thread, a hash table and a list in
  the order of use; an operation is a key of a Zipf
  distribution, moved to the front, or put there while the
  last is evicted: the oldest dies, long after birth.
  heap 1.5 times --size; --size MiB alive [1024];
  --threads [2]; --skew [0.8]; --seconds [10]; --seed

tides
  By name only. Live data that rises, stays, falls and
  stays, a quarter of --period each, from an eighth of
  --size and back; an operation replaces an object of 1,000
  bytes and looks at another. Its heap is not touched
  beforehand: the page shows used, committed and resident
  memory over time.
  heap twice --size; --size MiB alive at high water [512];
  --threads [2]; --period [2.5]; --seconds [10]; --seed

robson
  By name only. Memory is filled with objects of 64 bytes,
  every other one is dropped, the rest filled with objects
  of twice the size, and so on to 256 KiB: holes too small
  for what comes next. An operation is an object made.
  heap twice --size; --size MiB alive [64]; --rounds [20];
  one thread

idle
  By name only. Nothing is allocated; ten times a second an
  object is looked at: what the heap costs all the same, in
  wake-ups (voluntary switches) and processor time of the
  collector. Its heap is not touched beforehand.
  heap four times --size; --size MiB alive [64]; --seconds
  [10]; one thread

Each has --rate operations a second and thread (those that
latency is of, and parts of what a thread does besides), due
every millisecond by a thousandth: then a latency sample is
a tick, from its due time. --rate sweep: as fast as it goes,
and then 50, 70 and 90 % of that.

Of their own, and not in a plain run:

json
  A document (a file, or what `cargo metadata` says) parsed
  into heap objects over and over by one thread, the last
  four kept, beside threads that query them.
  heap 512m; --threads [2]; --seconds [10]; --seed

pause-scaling
  Cycle after cycle with a concurrent churning thread:
  16 MiB to 4 GiB of live data, 10 to 1,000,000 roots.
  Points for which the machine lacks memory are skipped, and
  named.

primitives
  No heap: what each mechanism of the kernel costs by
  itself, from mremap and userfaultfd to membarrier.
  groups take-away, fault, batch, chunk, view, touch,
  barrier [all]; --sizes [64m,256m,1g,4g,8g]

Barriers
  load              test each loaded reference, compact
                    concurrently
  load-generations  the same, collecting young objects alone
                    most of the time
  page              unmap every page, map it again repaired
                    on the next access
  page-anonymous    the same on private memory
  stw               the baseline: the same collector with
                    the program stopped for the whole
                    collection, the load barrier's test
                    compiled in
";
