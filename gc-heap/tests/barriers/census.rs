//! Censuses and snapshots: they count what is alive, and a snapshot is a graph in which the root
//! retains all of it.

use crate::common::{Random, every_heap, factor, plain, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Array, Barrier, Bytes, Census, Ephemeron, HeapSnapshot, Mutator, OutOfMemory, Root, RootStack, Slot,
    SlotArray, Tagged, Trace, Value, WeakSlot,
};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::time::Duration;

#[derive(Trace)]
struct Leaf {
    number: u64,
}

#[derive(Trace)]
#[trace(tail = Slot<Tagged>, identity_hash)]
struct Record {
    first: Slot<Option<Leaf>>,
    many: [Slot<Option<Leaf>>; 3],
    weak: WeakSlot<Leaf>,
    pair: Ephemeron<Leaf, Bytes>,
}

/// A parsed snapshot, checked while it is read.
struct Parsed {
    /// Type, name, size.
    nodes: Vec<(String, String, u64)>,
    /// From, type, name or index, to.
    edges: Vec<(usize, String, String, usize)>,
}

fn numbers(json: &Json) -> Vec<u64> {
    json.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

impl Parsed {
    fn of(snapshot: &HeapSnapshot) -> Parsed {
        let mut text = Vec::new();
        gc_heap_tools::write_v8_snapshot(snapshot, &mut text).unwrap();
        let json: Json = serde_json::from_slice(&text).expect("the snapshot is JSON");
        let meta = &json["snapshot"]["meta"];
        let fields = |of: &str| -> Vec<String> {
            meta[of].as_array().unwrap().iter().map(|field| field.as_str().unwrap().to_owned()).collect()
        };
        let (node_fields, edge_fields) = (fields("node_fields"), fields("edge_fields"));
        let field = |fields: &[String], name: &str| fields.iter().position(|field| field == name).unwrap();
        let types = |of: &str| -> Vec<String> {
            meta[of][0].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        let (node_types, edge_types) = (types("node_types"), types("edge_types"));
        assert_eq!(meta["node_types"].as_array().unwrap().len(), node_fields.len());
        assert_eq!(meta["edge_types"].as_array().unwrap().len(), edge_fields.len());
        let strings: Vec<_> = json["strings"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        let (nodes, edges) = (numbers(&json["nodes"]), numbers(&json["edges"]));
        assert_eq!(json["snapshot"]["node_count"].as_u64().unwrap() as usize * node_fields.len(), nodes.len());
        assert_eq!(json["snapshot"]["edge_count"].as_u64().unwrap() as usize * edge_fields.len(), edges.len());
        let mut edges = edges.chunks_exact(edge_fields.len());
        let mut parsed = Parsed { nodes: Vec::new(), edges: Vec::new() };
        let mut ids = std::collections::HashSet::new();
        for (number, node) in nodes.chunks_exact(node_fields.len()).enumerate() {
            let of = |name: &str| node[field(&node_fields, name)];
            assert!(ids.insert(of("id")) && of("id") % 2 == 1, "an id twice, or not an object's");
            let name = strings[of("name") as usize].to_owned();
            parsed.nodes.push((node_types[of("type") as usize].clone(), name, of("self_size")));
            for edge in edges.by_ref().take(of("edge_count") as usize) {
                let of = |name: &str| edge[field(&edge_fields, name)];
                let sort = edge_types[of("type") as usize].clone();
                let name = match sort.as_str() {
                    "element" | "hidden" => of("name_or_index").to_string(),
                    _ => strings[of("name_or_index") as usize].to_owned(),
                };
                assert_eq!(of("to_node") % node_fields.len() as u64, 0, "an edge into the middle of a node");
                let to = of("to_node") as usize / node_fields.len();
                assert!(to < nodes.len() / node_fields.len());
                parsed.edges.push((number, sort, name, to));
            }
        }
        assert!(edges.next().is_none(), "edges of no node");
        assert_eq!(parsed.nodes[0], ("synthetic".into(), String::new(), 0));
        parsed.check(snapshot.census());
        parsed
    }

    /// The root retains everything, and the counts are those of the census.
    fn check(&self, census: &Census) {
        let mut first = vec![Vec::new(); self.nodes.len()];
        for (from, sort, _, to) in &self.edges {
            if sort != "weak" {
                first[*from].push(*to);
            }
        }
        let (mut reached, mut todo) = (vec![false; self.nodes.len()], vec![0]);
        while let Some(node) = todo.pop() {
            if !std::mem::replace(&mut reached[node], true) {
                todo.extend(&first[node]);
            }
        }
        assert!(reached.iter().all(|&reached| reached), "an object that the root does not retain");
        let mut counts: HashMap<&str, (u64, u64)> = HashMap::new();
        for (sort, name, bytes) in &self.nodes {
            if sort != "synthetic" {
                let count = counts.entry(name).or_default();
                *count = (count.0 + 1, count.1 + bytes);
            }
        }
        let expected = census.kinds().iter().map(|count| (count.kind.name(), (count.objects, count.bytes))).collect();
        assert_eq!(counts, expected);
        assert_eq!(census.objects(), counts.values().map(|count| count.0).sum::<u64>());
    }

    fn objects(&self, name: &str) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].1.ends_with(name)).collect()
    }

    /// Names of the edges between objects of two types, sorted, with their sort.
    fn between(&self, from: &str, to: &str) -> Vec<(String, String)> {
        let ends = |node: usize, name: &str| self.nodes[node].1.ends_with(name);
        let edges = self.edges.iter().filter(|edge| ends(edge.0, from) && ends(edge.3, to));
        let mut names: Vec<_> = edges.map(|edge| (edge.1.clone(), edge.2.clone())).collect();
        names.sort();
        names
    }
}

pub(crate) fn a_census_counts_what_is_alive(barrier: Barrier) {
    for heap in every_heap(barrier, 8 << 20, 1) {
        heap.enter(|m| -> Result<(), OutOfMemory> {
            let leaves = m.build::<SlotArray<Option<Leaf>>>(AllocSize::tail::<SlotArray<Option<Leaf>>>(1000), |m| {
                m.place_array((), 1000, None)
            })?;
            for number in 0..1000 {
                let m = m.reserve(AllocSize::of::<Leaf>() + AllocSize::tail::<Bytes>(100))?;
                let leaf = m.place(LeafInit { number });
                m.place_bytes::<Bytes>((), &[0; 100]); // garbage
                leaves.get(m).tail()[number as usize].set(m, Some(leaf));
            }
            let large =
                m.build::<Bytes>(AllocSize::tail::<Bytes>(1 << 20), |m| m.place_bytes((), &vec![1; 1 << 20]))?;
            for kept in [1000, 300, 0] {
                leaves.get(m).tail().iter().skip(kept).for_each(|slot| slot.set(m, None));
                let census = m.census();
                let (of_leaf, of_array) = (census.of::<Leaf>(), census.of::<SlotArray<Option<Leaf>>>());
                assert_eq!((of_leaf.objects, of_leaf.bytes), (kept as u64, 16 * kept as u64));
                assert_eq!((of_array.objects, of_array.bytes), (1, 16 + 8 * 1000));
                assert_eq!((census.of::<Bytes>().objects, census.of::<Bytes>().bytes), (1, 16 + (1 << 20)));
                assert_eq!(census.of::<Record>().objects, 0);
                assert_eq!(census.objects(), kept as u64 + 2);
                assert_eq!(census.bytes(), census.kinds().iter().map(|count| count.bytes).sum::<u64>());
                assert_eq!(census.to_string().lines().count(), census.kinds().len());
            }
            assert_eq!(large.get(m).tail_len(), 1 << 20);
            Ok(())
        })
        .unwrap()
        .unwrap();
        assert_eq!(heap.census().objects(), 0);
    }
}

fn records<'s>(m: &mut Mutator<'s>) -> Result<gc_heap::Local<'s, Record>, OutOfMemory> {
    let room = AllocSize::of::<Leaf>().times(4) + AllocSize::tail::<Bytes>(9) + AllocSize::tail::<Record>(3);
    m.build::<Record>(room, |m| {
        let [a, b, c, gone] = [1, 2, 3, 4].map(|number| m.place(LeafInit { number }));
        let bytes = m.place_bytes::<Bytes>((), b"ephemeral");
        let init = RecordInit { first: Some(a), many: [None, Some(b), Some(a)], weak: Some(a), pair: Some((b, bytes)) };
        let record = m.place_tail::<Record, _>(init, [Value::int(1), c.into(), a.into()]);
        record.tail()[0].set(m, gone.into());
        record.tail()[0].set(m, Value::NIL);
        record
    })
}

pub(crate) fn a_snapshot_is_a_graph_with_names(barrier: Barrier) {
    for heap in every_heap(barrier, 4 << 20, 2) {
        let stack = RootStack::<Tagged>::new(&heap).unwrap();
        let (snapshot, _root) = heap
            .enter(|m| {
                let record = records(m).unwrap();
                stack.push(m, record.get(m).into());
                let root = Root::<Record>::new(m, record.get(m));
                (m.heap_snapshot(), root)
            })
            .unwrap();
        let parsed = Parsed::of(&snapshot);
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(sort, name)| ((*sort).into(), (*name).into())).collect()
        };
        assert_eq!(
            parsed.between("Record", "Leaf"),
            pairs(&[
                ("element", "1"),
                ("element", "2"),
                ("property", "first"),
                ("property", "many[1]"),
                ("property", "many[2]"),
                ("weak", "pair.key"),
                ("weak", "weak"),
            ])
        );
        let name = format!("pair.value of {}", std::any::type_name::<Record>());
        assert_eq!(parsed.between("Leaf", "Bytes"), pairs(&[("internal", &name)]));
        assert!(parsed.between("Record", "Bytes").is_empty(), "the key keeps the value");
        assert_eq!((parsed.objects("Leaf").len(), parsed.objects("Record").len()), (3, 1));
        for root in ["(locals of thread 0)", "(root stack 0)", "(process-wide roots)"] {
            assert_eq!(parsed.between(root, "Record").len(), 1, "{root}");
            assert_eq!(parsed.between("(GC roots)", root).len(), 1, "{root}");
        }
        assert!(parsed.objects("(kept by this cycle)").is_empty());
    }
}

/// Threads allocate, link, move and forget while snapshots are taken, from inside and from outside.
pub(crate) fn snapshots_are_taken_while_the_program_runs(barrier: Barrier) {
    for heap in every_heap(barrier, 8 << 20, 3) {
        while_collecting(&heap, Duration::from_millis(1), || {
            std::thread::scope(|scope| {
                for seed in 0..2 {
                    let heap = &heap;
                    scope.spawn(move || heap.enter(|m| churn(m, seed).unwrap()).unwrap());
                }
                for _ in 0..5 * factor() {
                    Parsed::of(&heap.heap_snapshot());
                    let census = heap.census();
                    assert!(census.bytes() <= heap.max_bytes() as u64);
                }
            });
        });
    }
}

fn churn(m: &mut Mutator<'_>, seed: u64) -> Result<(), OutOfMemory> {
    const LEN: usize = 300;
    let mut random = Random::new(seed);
    let kept = m.build::<SlotArray<Option<Record>>>(AllocSize::tail::<SlotArray<Option<Record>>>(LEN), |m| {
        m.place_array((), LEN, None)
    })?;
    for round in 0..2000 * factor() {
        let m = &mut *m.frame();
        let record = records(m)?;
        let slots = kept.get(m).tail();
        slots[random.below(LEN)].set(m, Some(record.get(m)));
        let (from, to) = (random.below(LEN), random.below(LEN));
        slots[to].set(m, slots[from].get(m));
        if let Some(record) = slots[from].get(m) {
            record.many[0].set(m, record.many[2].swap(m, None));
            let seen = record.pair.get(m);
            assert!(seen.is_none_or(|(key, value)| key.number == 2 && value.tail() == b"ephemeral"));
        }
        if round % 5 == 0 {
            let snapshot = (round % 500 == 0).then(|| m.heap_snapshot());
            snapshot.iter().for_each(|snapshot| drop(Parsed::of(snapshot)));
        }
    }
    Ok(())
}

pub(crate) fn an_empty_heap_has_a_snapshot(barrier: Barrier) {
    let heap = plain(barrier, 4 << 20).build().unwrap();
    let parsed = Parsed::of(&heap.heap_snapshot());
    assert_eq!((parsed.nodes.len(), parsed.edges.len()), (2, 1));
}

/// Every object type's name stands in the snapshot, whatever characters it has.
pub(crate) fn names_of_generic_types(barrier: Barrier) {
    #[derive(Trace)]
    struct Of<T: 'static>(gc_heap::Plain<[u8; 3]>, std::marker::PhantomData<fn() -> T>);
    let heap = plain(barrier, 4 << 20).build().unwrap();
    heap.enter(|m| {
        for _ in 0..3 {
            m.alloc::<Of<&'static [char; 2]>>(|_| OfInit(*b"abc", std::marker::PhantomData)).unwrap();
        }
        m.alloc::<Of<String>>(|_| OfInit(*b"abc", std::marker::PhantomData)).unwrap();
        m.build::<Array<f64>>(AllocSize::tail::<Array<f64>>(2), |m| m.place_array((), 2, 0.5)).unwrap();
        let snapshot = m.heap_snapshot();
        assert_eq!(snapshot.census().of::<Of<&'static [char; 2]>>().objects, 3);
        assert_eq!(snapshot.census().of::<Of<String>>().objects, 1);
        assert_eq!(Parsed::of(&snapshot).objects("Array<f64>").len(), 1);
    })
    .unwrap();
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        a_census_counts_what_is_alive,
        a_snapshot_is_a_graph_with_names,
        snapshots_are_taken_while_the_program_runs,
        an_empty_heap_has_a_snapshot,
        names_of_generic_types
    ],
    ..Tests::NONE
};
