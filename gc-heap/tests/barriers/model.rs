//! Random operations by several mutators against a plain model of the same graph.
//!
//! Each mutator owns a graph of its own, and a model of it in ordinary Rust memory. Both are walked
//! side by side at checkpoints: the same objects (an identity is a number in the object, and one
//! address for each), the same payload, the same weak references (one may give nothing only if the
//! model says that its object is unreachable, and must after a collection). Beside that all
//! mutators replace and read the records of one shared table.

use crate::common::factor;
use crate::harness::{Tests, tests};
use crate::model_graph::{Board, BoardModel, Node, NodeInit, State, run};
use gc_heap::{AllocSize, Barrier, Heap, Mirror, Mutator, Root, Stress};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use std::sync::Mutex;

/// Which object: a root, then fields to follow.
#[derive(Clone, Debug)]
pub(crate) struct Pick {
    pub(crate) root: u16,
    pub(crate) path: Vec<u16>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    Small,
    /// More than 4 KiB.
    Medium,
    /// More than 32 KiB: runs of blocks.
    Large,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Sort {
    Node,
    Table,
    Blob,
    Watch,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Set,
    Swap,
    Exchange,
}

/// One step of a mutator.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Alloc { sort: Sort, size: Size, len: u16, from: Pick, other: Pick, to: u16 },
    Store { object: Pick, slot: u16, from: Pick, how: How },
    Count { object: Pick, value: u64 },
    Local { from: Pick },
    SetLocal { which: u16, from: Pick },
    Frame { ops: u8 },
    Root { from: Pick },
    SetRoot { which: u16, from: Pick },
    DropRoot { which: u16 },
    Push { from: Pick },
    Pop,
    Poke { depth: u16, from: Pick },
    Last { from: Pick },
    Truncate { to: u16 },
    DropTop { count: u8 },
    NewStack,
    SetWeak { object: Pick, slot: u16, from: Pick },
    ReadWeak { object: Pick, slot: u16 },
    Weak { from: Pick },
    Upgrade { which: u16 },
    DropWeak { which: u16 },
    ReplaceShared { slot: u8, bytes: u16 },
    ReadShared { slot: u8 },
    Garbage { count: u8 },
    Burst { kib: u16 },
    Blocking,
    Safepoint,
    Release,
    Collect,
    Check,
}

fn pick() -> impl Strategy<Value = Pick> {
    (any::<u16>(), prop::collection::vec(any::<u16>(), 0..4)).prop_map(|(root, path)| Pick { root, path })
}

fn size() -> impl Strategy<Value = Size> {
    prop_oneof![8 => Just(Size::Small), 2 => Just(Size::Medium), 1 => Just(Size::Large)]
}

fn sort() -> impl Strategy<Value = Sort> {
    prop_oneof![6 => Just(Sort::Node), 3 => Just(Sort::Table), 2 => Just(Sort::Blob), 1 => Just(Sort::Watch)]
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![2 => Just(How::Set), 1 => Just(How::Swap), 1 => Just(How::Exchange)]
}

fn op() -> impl Strategy<Value = Op> {
    let n = any::<u16>;
    let alloc = (sort(), size(), n(), pick(), pick(), n());
    prop_oneof![
        16 => alloc.prop_map(|(sort, size, len, from, other, to)| Op::Alloc { sort, size, len, from, other, to }),
        16 => (pick(), n(), pick(), how()).prop_map(|(object, slot, from, how)| Op::Store { object, slot, from, how }),
        2 => (pick(), any::<u64>()).prop_map(|(object, value)| Op::Count { object, value }),
        3 => pick().prop_map(|from| Op::Local { from }),
        3 => (n(), pick()).prop_map(|(which, from)| Op::SetLocal { which, from }),
        4 => (1..20_u8).prop_map(|ops| Op::Frame { ops }),
        2 => pick().prop_map(|from| Op::Root { from }),
        2 => (n(), pick()).prop_map(|(which, from)| Op::SetRoot { which, from }),
        2 => n().prop_map(|which| Op::DropRoot { which }),
        6 => pick().prop_map(|from| Op::Push { from }),
        4 => Just(Op::Pop),
        2 => (n(), pick()).prop_map(|(depth, from)| Op::Poke { depth, from }),
        2 => pick().prop_map(|from| Op::Last { from }),
        1 => n().prop_map(|to| Op::Truncate { to }),
        1 => any::<u8>().prop_map(|count| Op::DropTop { count: count % 8 }),
        1 => Just(Op::NewStack),
        4 => (pick(), n(), pick()).prop_map(|(object, slot, from)| Op::SetWeak { object, slot, from }),
        4 => (pick(), n()).prop_map(|(object, slot)| Op::ReadWeak { object, slot }),
        2 => pick().prop_map(|from| Op::Weak { from }),
        3 => n().prop_map(|which| Op::Upgrade { which }),
        1 => n().prop_map(|which| Op::DropWeak { which }),
        3 => (any::<u8>(), n()).prop_map(|(slot, bytes)| Op::ReplaceShared { slot, bytes }),
        3 => any::<u8>().prop_map(|slot| Op::ReadShared { slot }),
        8 => any::<u8>().prop_map(|count| Op::Garbage { count }),
        2 => (1..1000_u16).prop_map(|kib| Op::Burst { kib }),
        1 => Just(Op::Blocking),
        2 => Just(Op::Safepoint),
        1 => Just(Op::Release),
        1 => Just(Op::Collect),
        2 => Just(Op::Check),
    ]
}

/// A heap and what its mutators do.
#[derive(Clone, Debug)]
struct Case {
    barrier: Barrier,
    mirror: Mirror,
    workers: usize,
    max_bytes: usize,
    verify: bool,
    single_view: bool,
    stress: Stress,
    threads: Vec<Vec<Op>>,
}

fn case(barrier: Barrier) -> impl Strategy<Value = Case> {
    let mirror = prop_oneof![Just(Mirror::MmapMemfd), Just(Mirror::MremapOldSizeZero)];
    // Verification stops the world for long, so it hides races: half of the cases go without.
    let stress = (prop_oneof![1..4_u32, 4..60_u32, 60..500_u32], prop_oneof![Just(0_u32), 2..40_u32], any::<u64>());
    let stress = stress.prop_map(|(cycle_every, delay_one_in, seed)| Stress { cycle_every, delay_one_in, seed });
    let threads = prop::collection::vec(prop::collection::vec(op(), 50..400), 1..=4);
    (mirror, 1..=2_usize, 0..=8_usize, any::<bool>(), any::<bool>(), stress, threads).prop_map(
        move |(mirror, workers, mib, verify, single_view, stress, threads)| Case {
            barrier,
            mirror,
            workers,
            max_bytes: (4 + threads.len() + mib) << 20,
            verify,
            single_view,
            stress,
            threads,
        },
    )
}

fn play(case: &Case) {
    let heap = Heap::builder()
        .barrier(case.barrier)
        .backing(crate::common::backing())
        .mirror(case.mirror)
        .workers(case.workers)
        .max_bytes(case.max_bytes)
        .verify(case.verify)
        .single_view(case.single_view)
        .stress(case.stress)
        .build()
        .unwrap();
    let board = new_board(&heap);
    std::thread::scope(|scope| {
        for (number, ops) in case.threads.iter().enumerate() {
            let (heap, board) = (&heap, &board);
            let quota = case.max_bytes / 4 / case.threads.len();
            scope.spawn(move || {
                let play = |m: &mut Mutator<'_>| {
                    let mut state = State::new(heap, board, number as u64 + 1, quota);
                    run(m, &[], &mut state, &mut ops.iter(), usize::MAX);
                };
                heap.enter(play).unwrap();
            });
        }
    });
}

fn new_board(heap: &Heap) -> Mutex<BoardModel> {
    let root = heap.enter(|m| {
        let m = m.reserve(AllocSize::tail::<Board>(16) + AllocSize::of::<Node>()).unwrap();
        let nobody = NodeInit { id: 0, left: None, any: gc_heap::Value::NIL, weak: None, count: 0 };
        let nobody = m.place(nobody);
        Root::new(m, m.place_array::<Board>((), 16, nobody))
    });
    Mutex::new(BoardModel { root: root.unwrap(), records: vec![(0, None); 16] })
}

fn behaves_like_its_model(barrier: Barrier, cases: u32) {
    let config = ProptestConfig {
        cases: cases * factor(),
        max_shrink_time: 120_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/proptest-regressions/model.txt"
        )))),
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    let play = |case| {
        play(&case);
        Ok(())
    };
    TestRunner::new(config).run(&case(barrier), play).unwrap_or_else(|found| panic!("{found}"));
}

pub(crate) fn a_heap_behaves_like_its_model(barrier: Barrier) {
    behaves_like_its_model(barrier, if barrier == Barrier::StopTheWorld { 4 } else { 10 });
}

pub(crate) const TESTS: Tests = Tests { every: tests![a_heap_behaves_like_its_model], ..Tests::NONE };
