// The workloads of gc-bench for V8, in Node.js.
//
// `gc-bench --peer v8` starts this file, one process a run, and reads its standard output: a line
// `begin` where the measured part begins, `end` where it ends, and then the samples as one line of
// JSON. The work, the clock readings and the samples are those of gc-bench's own workloads; what is
// not said here is explained there.
//
// Isolates share no heap. Each mutator is a worker with an isolate of its own, and the main thread
// waits for them: so it hears when the bench ends.

'use strict';

const fs = require('node:fs');
const { PerformanceObserver, constants, performance } = require('node:perf_hooks');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');

// Memory that all threads see: where they meet, and moments by the monotonic clock.
const ARRIVED = 0, MEETING = 1;
const FROM = 0, TO = 1, CPU = 2;

// Node.js may have made the pipe one that does not wait for room.
function write(file, text) {
  const bytes = Buffer.from(text), bed = new Int32Array(new SharedArrayBuffer(4));
  for (let at = 0; at < bytes.length;) {
    try {
      at += fs.writeSync(file, bytes, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') {
        throw error;
      }
      Atomics.wait(bed, 0, 0, 1);
    }
  }
}

// Nanoseconds of the whole process.
function processCpuNs() {
  const used = process.cpuUsage();
  return (used.user + used.system) * 1000;
}

// Nanoseconds of the calling thread.
function threadCpuNs() {
  return Number(fs.readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ')[0]);
}

// Nanoseconds of this thread's fast clock, whose zero is when the thread began.
function clockNs() {
  return Math.round(performance.now() * 1e6);
}

// That zero by the monotonic clock. The latest of some estimates, none of which is too late: so no
// sample ends behind the measured part.
function clockZero() {
  let zero = 0n;
  for (let i = 0; i < 16; i++) {
    const before = process.hrtime.bigint();
    const estimate = before - BigInt(clockNs());
    zero = estimate > zero ? estimate : zero;
  }
  return zero;
}

// The remainder of whole numbers below 2^53: a quotient that small is never rounded up to the next
// whole number.
function rest(number, by) {
  return number - Math.floor(number / by) * by;
}

// What a run was told (`name=value`), and the measured part.
class Run {
  constructor({ settings, id, threads, words, moments }) {
    Object.assign(this, { settings, id, threads, words, moments });
    this.zero = clockZero();
    this.collections = [];
    this.cpuNs = 0;
    // Whatever was collected is told when the work is over: before, this thread hears nothing.
    this.observer = new PerformanceObserver((list) => this.collections.push(...list.getEntries()));
    this.observer.observe({ entryTypes: ['gc'] });
    this.track = new Track(this.number('rate'));
  }

  text(name) {
    if (!(name in this.settings)) {
      throw new Error(`no ${name}`);
    }
    return this.settings[name];
  }

  number(name) {
    return Number(this.text(name));
  }

  // Waits until all threads are here.
  meet() {
    const meeting = Atomics.load(this.words, MEETING);
    if (Atomics.add(this.words, ARRIVED, 1) + 1 === this.threads) {
      Atomics.store(this.words, ARRIVED, 0);
      Atomics.add(this.words, MEETING, 1);
      Atomics.notify(this.words, MEETING);
      return;
    }
    while (Atomics.load(this.words, MEETING) === meeting) {
      Atomics.wait(this.words, MEETING, meeting);
    }
  }

  begin() {
    write(1, 'begin\n');
    this.moments[CPU] = BigInt(processCpuNs());
    this.moments[FROM] = process.hrtime.bigint();
  }

  // Begins this thread's samples, in the measured part.
  start() {
    this.cpuNs = threadCpuNs();
    this.track.start(Number(this.moments[FROM] - this.zero));
  }

  // Ends them.
  finish() {
    this.track.finish();
    this.cpuNs = threadCpuNs() - this.cpuNs;
  }

  end() {
    this.moments[TO] = process.hrtime.bigint();
    this.moments[CPU] = BigInt(processCpuNs()) - this.moments[CPU];
    write(1, 'end\n');
  }

  // This thread's part of the result, as JSON.
  async part(ops, sum) {
    for (let turn = 0; turn < 3; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.collections.push(...this.observer.takeRecords());
    const names = {
      [constants.NODE_PERFORMANCE_GC_MINOR]: 'scavenge',
      [constants.NODE_PERFORMANCE_GC_MAJOR]: 'mark-compact',
      [constants.NODE_PERFORMANCE_GC_INCREMENTAL]: 'begin of marking',
      [constants.NODE_PERFORMANCE_GC_WEAKCB]: 'weak callbacks',
    };
    const [from, to] = [FROM, TO].map((moment) => Number(this.moments[moment] - this.zero));
    // Where several isolates run, a pause is of one thread.
    const mutator = this.threads > 1 ? this.id + 1 : null;
    let cycles = 0;
    const stops = [];
    for (const { startTime, duration, detail } of this.collections) {
      const [start, ns] = [startTime, duration].map((ms) => Math.round(ms * 1e6));
      if (start + ns <= from || start >= to) {
        continue;
      }
      const { NODE_PERFORMANCE_GC_MINOR: minor, NODE_PERFORMANCE_GC_MAJOR: major } = constants;
      cycles += detail.kind === minor || detail.kind === major ? 1 : 0;
      const kind = names[detail.kind] ?? 'collection';
      stops.push({ kind, mutator, start_ns: String(this.zero + BigInt(start)), duration_ns: ns });
    }
    const track = this.track.json();
    return { track, stops, cycles, cpuNs: this.cpuNs, ops, sum: BigInt(sum) };
  }
}

// Samples in logarithmic buckets, 32 an octave; memory of no isolate.
class Recorder {
  constructor() {
    this.counts = new Float64Array(60 * 32).fill(1);
    this.clear();
  }

  clear() {
    this.counts.fill(0);
    this.totalNs = 0;
    this.maxNs = 0;
    this.over1msNs = 0;
  }

  record(ns) {
    if (ns < 0x80000000) {
      const shift = 26 - Math.clz32(ns | 32);
      this.counts[(shift << 5) + (ns >>> shift)]++;
    } else {
      this.counts[this.longBucket(ns)]++;
    }
    this.totalNs += ns;
    if (ns > this.maxNs) {
      this.maxNs = ns;
    }
    if (ns >= 1e6) {
      this.over1msNs += ns;
    }
  }

  longBucket(ns) {
    const shift = 52 - Math.clz32(Math.floor(ns / 2 ** 26));
    return (shift << 5) + Math.floor(ns / 2 ** shift);
  }

  json() {
    const { totalNs: total_ns, maxNs: max_ns, over1msNs: over_1ms_ns } = this;
    const counts = [...this.counts.entries()].filter(([, count]) => count > 0);
    return { total_ns, max_ns, over_1ms_ns, counts };
  }
}

// Pairs of numbers, in memory of no isolate that was touched before.
class Pairs {
  constructor(room) {
    this.numbers = new Float64Array(2 * room).fill(1);
    this.length = 0;
  }

  push(first, second) {
    if (this.length === this.numbers.length) {
      const wider = new Float64Array(2 * this.length);
      wider.set(this.numbers);
      this.numbers = wider;
    }
    this.numbers[this.length] = first;
    this.numbers[this.length + 1] = second;
    this.length += 2;
  }

  json() {
    return Array.from(this.numbers.subarray(0, this.length));
  }
}

const NONE = 0, OPERATION = 1, OTHER = 2;
const FINEST_NS = 20_000, LONG_NS = 100_000, TICK_NS = 1_000_000, AWAKE_NS = 50_000;
const IDLE = -1, FOREVER = Number.MAX_SAFE_INTEGER, MOST_LATE = 1 << 10;

// A mutator's time in the measured part, tiled by samples; see gc-bench/src/track.rs.
class Track {
  constructor(rate) {
    this.operations = new Recorder();
    this.other = new Recorder();
    this.ticks = new Recorder();
    this.responses = new Recorder();
    this.stretches = new Pairs(1 << 20);
    this.late = new Pairs(MOST_LATE);
    this.bed = new Int32Array(new SharedArrayBuffer(4));
    this.baseNs = clockNs();
    this.lastNs = 0;
    this.markedNs = 0;
    this.samples = 0;
    this.marksNs = FINEST_NS;
    this.idleNs = 0;
    this.left = FOREVER;
    this.untilNs = FOREVER;
    this.open = NONE;
    // Operations a second; 0: as fast as it goes.
    this.rate = rate;
    this.startNs = 0;
    this.tick = 0;
    this.admitted = 0;
    this.dueNs = 0;
    this.paceUntilNs = FOREVER;
    this.inTick = false;
  }

  nowNs() {
    return Math.round(performance.now() * 1e6) - this.baseNs;
  }

  // Begins the measured part, which began at `fromNs` of this thread's clock: forgets the samples
  // so far.
  start(fromNs) {
    for (const recorder of [this.operations, this.other, this.ticks, this.responses]) {
      recorder.clear();
    }
    this.stretches.length = 0;
    this.late.length = 0;
    this.baseNs = fromNs;
    this.lastNs = 0;
    this.beginStretch(0);
    this.open = NONE;
    this.idleNs = 0;
    const now = this.nowNs();
    this.idleUntil(now);
    this.startNs = now;
    this.tick = 0;
    this.admitted = 0;
    this.inTick = false;
    this.left = this.rate > 0 ? 0 : FOREVER;
  }

  lastFor(seconds) {
    const ns = Math.floor(seconds * 1e9);
    this.paceUntilNs = this.startNs + ns;
    this.untilNs = this.rate > 0 ? FOREVER : this.lastNs + ns;
  }

  admit() {
    if (this.left === 0 && !this.nextTick()) {
      return false;
    }
    this.left--;
    return this.lastNs < this.untilNs;
  }

  end(series) {
    const now = this.nowNs(), ns = now - this.lastNs;
    (series === OPERATION ? this.operations : this.other).record(ns);
    this.samples++;
    if (now >= this.marksNs) {
      this.mark(now, ns);
    }
    this.lastNs = now;
    if (this.rate > 0) {
      this.responses.record(Math.max(0, now - this.dueNs));
    }
  }

  // Begins a sample where the last one ends, and waits until it may.
  begin(series) {
    if (this.open !== NONE) {
      this.end(this.open);
    }
    this.open = series;
    this.admit();
  }

  // Waits for something that happens elsewhere.
  rest(wait) {
    this.finish();
    wait();
    const from = this.lastNs, now = this.nowNs();
    this.idleUntil(now);
    this.startNs += now - from;
    this.dueNs += now - from;
    this.inTick = this.left > 0;
  }

  finish() {
    if (this.open !== NONE) {
      this.end(this.open);
      this.open = NONE;
    }
    this.endTick();
  }

  endTick() {
    if (this.rate > 0 && this.inTick) {
      this.inTick = false;
      this.ticks.record(Math.max(0, this.lastNs - this.dueNs));
    }
  }

  nextTick() {
    this.endTick();
    if (this.rate === 0) {
      return false;
    }
    let upto;
    do {
      const beginsNs = this.startNs + this.tick * TICK_NS;
      if (beginsNs >= this.paceUntilNs) {
        return false;
      }
      this.tick++;
      upto = Math.floor(this.tick * this.rate / 1000);
      this.dueNs = beginsNs + TICK_NS;
    } while (upto <= this.admitted);
    this.left = upto - this.admitted;
    this.admitted = upto;
    this.inTick = true;
    const wakesNs = this.dueNs - AWAKE_NS;
    for (let now = this.nowNs(); now < wakesNs; now = this.nowNs()) {
      Atomics.wait(this.bed, 0, 0, (wakesNs - now) / 1e6);
      const late = this.nowNs() - this.dueNs;
      if (late >= LONG_NS && this.late.length < 2 * MOST_LATE) {
        this.late.push(this.dueNs, late);
      }
    }
    while (this.nowNs() < this.dueNs) {
      // Awake, as the others are.
    }
    this.idleUntil(this.dueNs);
    return true;
  }

  idleUntil(until) {
    if (until <= this.lastNs) {
      return;
    }
    if (this.samples > 0) {
      this.stretches.push(this.lastNs - this.markedNs, this.samples);
    }
    this.idleNs += until - this.lastNs;
    this.stretches.push(until - this.lastNs, IDLE);
    this.lastNs = until;
    this.beginStretch(until);
  }

  beginStretch(from) {
    this.markedNs = from;
    this.samples = 0;
    this.marksNs = from + FINEST_NS;
  }

  mark(now, ns) {
    if (ns >= FINEST_NS) {
      if (this.samples > 1) {
        this.stretches.push(this.lastNs - this.markedNs, this.samples - 1);
      }
      this.stretches.push(ns, 1);
    } else {
      this.stretches.push(now - this.markedNs, this.samples);
    }
    this.beginStretch(now);
  }

  json() {
    if (this.samples > 0) {
      this.stretches.push(this.lastNs - this.markedNs, this.samples);
    }
    const [operations, other] = [this.operations.json(), this.other.json()];
    const paced = this.rate > 0 ? { ticks: this.ticks.json(), responses: this.responses.json() } : {};
    const [stretches, late] = [this.stretches.json(), this.late.json()];
    return JSON.stringify({ operations, other, ...paced, stretches, late });
  }
}

// Marsaglia's xorshift of 64 bits, in two halves.
class Random {
  constructor(run) {
    const state = BigInt.asUintN(64, BigInt(run.text('seed')) + BigInt(run.id) * 7919n) || 1n;
    this.high = Number(state >> 32n) | 0;
    this.low = Number(state & 0xffffffffn) | 0;
  }

  next() {
    let high = this.high, low = this.low;
    let h = high ^ (high << 13 | low >>> 19);
    let l = low ^ low << 13;
    high = h ^ h >>> 7;
    low = l ^ (l >>> 7 | h << 25);
    h = high ^ (high << 17 | low >>> 15);
    l = low ^ low << 17;
    this.high = h;
    this.low = l;
  }
}

// The upper half of the lower 64 bits of the product of a key below 2^32 and 0x9e3779b97f4a7c15.
function mixed(key) {
  const a = key >>> 16, b = key & 0xffff;
  const middle = (Math.imul(a, 0x7c15) >>> 0) + ((Math.imul(b, 0x7c15) >>> 0) >>> 16);
  const other = (Math.imul(b, 0x7f4a) >>> 0) + (middle & 0xffff);
  const high = Math.imul(a, 0x7f4a) + (middle >>> 16) + (other >>> 16);
  return high + Math.imul(key, 0x9e3779b9) >>> 0;
}

// A sum of small numbers, whole however many there are.
class Sum {
  constructor() {
    this.low = 0;
    this.whole = 0n;
  }

  add(number) {
    this.low += number;
    if (this.low >= 2 ** 52) {
      this.whole += BigInt(this.low);
      this.low = 0;
    }
  }

  value() {
    return this.whole + BigInt(this.low);
  }
}

// An array of small integers with as many bytes, in the heap: those of a Uint8Array of this size
// would lie outside it.
function bytes(length) {
  return new Array(length + 7 >>> 3);
}

const PAYLOAD_MIN = 24, PAYLOAD_SPREAD = 489;

class GcBenchNode {
  constructor() {
    this.left = null;
    this.right = null;
    this.i = 0;
    this.j = 0;
  }
}

class GcBench {
  static STRETCH_DEPTH = 18;
  static LONG_LIVED_DEPTH = 16;
  static MIN_DEPTH = 4;
  static MAX_DEPTH = 16;
  static ARRAY_LENGTH = 500_000;

  constructor(track) {
    this.track = track;
  }

  static treeSize(depth) {
    return 2 ** (depth + 1) - 1;
  }

  populate(depth, parent) {
    if (depth === 4) {
      this.track.begin(OPERATION);
    }
    if (depth === 0) {
      return;
    }
    parent.left = new GcBenchNode();
    parent.right = new GcBenchNode();
    parent.j = depth;
    this.populate(depth - 1, parent.left);
    this.populate(depth - 1, parent.right);
  }

  make(depth) {
    if (depth === 4) {
      this.track.begin(OPERATION);
    }
    const node = new GcBenchNode();
    if (depth > 0) {
      node.left = this.make(depth - 1);
      node.right = this.make(depth - 1);
    }
    return node;
  }

  static count(node) {
    return node === null ? 0 : 1 + GcBench.count(node.left) + GcBench.count(node.right);
  }

  round() {
    for (let depth = GcBench.MIN_DEPTH; depth <= GcBench.MAX_DEPTH; depth += 2) {
      const trees = Math.floor(2 * GcBench.treeSize(GcBench.STRETCH_DEPTH) / GcBench.treeSize(depth));
      for (let i = 0; i < trees; i++) {
        this.populate(depth, new GcBenchNode());
      }
      for (let i = 0; i < trees; i++) {
        this.make(depth);
      }
    }
  }

  static run(run) {
    const own = new GcBench(run.track);
    own.make(GcBench.STRETCH_DEPTH);
    const longLived = new GcBenchNode();
    own.populate(GcBench.LONG_LIVED_DEPTH, longLived);
    const array = new Array(GcBench.ARRAY_LENGTH).fill(0.5);
    for (let i = 0; i < array.length; i++) {
      array[i] = i < array.length / 2 ? 1 / (i + 1) : 0;
    }
    const rounds = run.number('size'), warmUp = run.number('warm_up');
    for (let i = 0; i < warmUp; i++) {
      own.round();
    }
    run.begin();
    run.start();
    for (let i = 0; i < rounds; i++) {
      own.round();
    }
    run.finish();
    run.end();
    if (array[1000] !== 1 / 1001 || GcBench.count(longLived) !== GcBench.treeSize(GcBench.LONG_LIVED_DEPTH)) {
      throw new Error('what lives long has changed');
    }
    return run.part(rounds, longLived.left.j + longLived.left.i);
  }
}

class Tree {
  constructor(left, right) {
    this.left = left;
    this.right = right;
  }
}

class BinaryTrees {
  static MIN_DEPTH = 4;
  static COUNTED_WHOLE = 9;

  constructor(track) {
    this.track = track;
  }

  build(depth) {
    if (depth === 4) {
      this.track.begin(OPERATION);
    }
    if (depth === 0) {
      return new Tree(null, null);
    }
    const left = this.build(depth - 1);
    return new Tree(left, this.build(depth - 1));
  }

  static count(tree) {
    return tree.left === null ? 1 : 1 + BinaryTrees.count(tree.left) + BinaryTrees.count(tree.right);
  }

  check(depth, tree) {
    if (depth <= BinaryTrees.COUNTED_WHOLE) {
      this.track.begin(OTHER);
      return BinaryTrees.count(tree);
    }
    return 1 + this.check(depth - 1, tree.left) + this.check(depth - 1, tree.right);
  }

  share(depth, threads) {
    let sum = 0;
    for (let d = BinaryTrees.MIN_DEPTH; d <= depth; d += 2) {
      const trees = Math.floor(2 ** (depth - d + BinaryTrees.MIN_DEPTH) / threads);
      for (let i = 0; i < trees; i++) {
        sum += this.check(d, this.build(d));
      }
    }
    return sum;
  }

  // The first thread has the tree that is kept. Every isolate compiles for itself, so each warms
  // up.
  static run(run) {
    const own = new BinaryTrees(run.track), { threads, id } = run, depth = run.number('size');
    own.share(run.number('warm_up'), 1);
    run.meet();
    let sum = 0, kept = null;
    if (id === 0) {
      run.begin();
      run.start();
      sum = own.check(depth + 1, own.build(depth + 1));
      kept = own.build(depth);
    }
    run.meet();
    if (id > 0) {
      run.start();
    }
    sum += own.share(depth, threads);
    if (id > 0) {
      run.finish();
      run.meet();
    } else {
      run.track.rest(() => run.meet());
      sum += own.check(depth, kept);
      run.finish();
      run.end();
    }
    run.meet();
    const ops = run.track.operations.counts.reduce((sum, count) => sum + count);
    return run.part(ops, sum);
  }
}

class MessageRing {
  static MESSAGE_BYTES = 1024;

  static message(number) {
    return bytes(MessageRing.MESSAGE_BYTES).fill(number & 0xff);
  }

  static run(run) {
    const held = run.number('held'), pushes = run.number('size'), warmUp = run.number('warm_up');
    const ring = new Array(held).fill(null), { track } = run;
    for (let i = 0; i < held; i++) {
      ring[i] = MessageRing.message(i);
    }
    let at = 0;
    for (let i = 0; i < warmUp; i++) {
      ring[at] = MessageRing.message(i - warmUp);
      at = at + 1 === held ? 0 : at + 1;
      track.end(OPERATION);
    }
    run.begin();
    run.start();
    for (let i = 0; i < pushes; i++) {
      track.admit();
      ring[at] = MessageRing.message(i);
      at = at + 1 === held ? 0 : at + 1;
      track.end(OPERATION);
    }
    run.finish();
    run.end();
    return run.part(pushes, ring.reduce((sum, message) => sum + (message[message.length >> 1] << 24 >> 24), 0));
  }
}

class TableEntry {
  constructor(next, link, key, payload) {
    this.next = next;
    this.link = link;
    this.key = key;
    this.payload = payload;
  }
}

class TableChurn {
  static TABLE_BITS = 20;

  constructor(run) {
    this.records = run.number('size');
    this.table = new Array(1 << TableChurn.TABLE_BITS).fill(null);
    this.random = new Random(run);
    this.sum = new Sum();
    for (let key = 0; key < this.records; key++) {
      this.random.next();
      this.put(key);
    }
  }

  static hash(key) {
    return mixed(key) >>> 32 - TableChurn.TABLE_BITS;
  }

  put(key) {
    const { high, low } = this.random, { table } = this;
    const own = bytes(PAYLOAD_MIN + (high >>> 8) % PAYLOAD_SPREAD).fill(0);
    own[0] = key & 0xff;
    own[own.length - 1] = low & 0xff;
    const head = TableChurn.hash(key);
    let before = null;
    for (let entry = table[head]; entry !== null; before = entry, entry = entry.next) {
      if (entry.key === key) {
        if (before === null) {
          table[head] = entry.next;
        } else {
          before.next = entry.next;
        }
        entry.next = null;
        entry.link = null;
        break;
      }
    }
    const linked = rest((high >>> 0) * 2 ** 15 + (low >>> 17), this.records);
    table[head] = new TableEntry(table[head], table[TableChurn.hash(linked)], key, own);
  }

  get(key) {
    for (let entry = this.table[TableChurn.hash(key)]; entry !== null; entry = entry.next) {
      if (entry.key === key) {
        this.sum.add(entry.payload[0]);
        const { link } = entry;
        if (link !== null) {
          this.sum.add(link.key + link.payload[link.payload.length - 1]);
        }
        return;
      }
    }
  }

  operation() {
    const { random, records } = this;
    random.next();
    // The upper 56 bits, in two steps.
    const key = rest(rest(random.high >>> 0, records) * 2 ** 24 + (random.low >>> 8), records);
    if ((random.low & 1) === 0) {
      this.get(key);
    } else {
      this.put(key);
    }
  }
}

class CacheEntry {
  constructor(chain, key, payload) {
    this.newer = null;
    this.older = null;
    this.chain = chain;
    this.key = key;
    this.payload = payload;
  }
}

// Evicts what was used least recently: a hash table, and a list in the order of use.
class LruCache {
  // As the bench counts them, whatever an entry takes here: as many entries.
  static ENTRY_BYTES = 48 + 16 + PAYLOAD_MIN + Math.floor(PAYLOAD_SPREAD / 2) + 8;
  static KEYS = 10;

  constructor(run) {
    const share = Math.floor(run.number('size') * 2 ** 20 / run.threads);
    this.room = Math.max(Math.floor(share / LruCache.ENTRY_BYTES), 1);
    this.tableBits = Math.max(32 - Math.clz32(this.room - 1), 1);
    this.table = new Array(2 ** this.tableBits).fill(null);
    const skew = run.number('skew'), power = Math.abs(1 - skew) < 1e-6 ? 1e-6 : 1 - skew;
    this.keys = this.room * LruCache.KEYS;
    if (this.keys > 2 ** 32) {
      throw new Error('more keys than this program counts');
    }
    this.scale = Math.pow(this.keys + 1, power) - 1;
    this.power = 1 / power;
    this.random = new Random(run);
    this.sum = new Sum();
    this.newest = null;
    this.oldest = null;
    this.held = 0;
    for (let key = 0; key < this.room; key++) {
      this.put(key);
    }
  }

  bucket(key) {
    return mixed(key) >>> 32 - this.tableBits;
  }

  key() {
    const { high, low } = this.random;
    const part = ((high >>> 0) * 2 ** 21 + (low >>> 11)) / 2 ** 53;
    return Math.floor(Math.min(Math.pow(part * this.scale + 1, this.power) - 1, this.keys - 1));
  }

  unlink(entry) {
    const { newer, older } = entry;
    if (newer === null) {
      this.newest = older;
    } else {
      newer.older = older;
    }
    if (older === null) {
      this.oldest = newer;
    } else {
      older.newer = newer;
    }
  }

  push(entry) {
    entry.newer = null;
    entry.older = this.newest;
    if (this.newest === null) {
      this.oldest = entry;
    } else {
      this.newest.newer = entry;
    }
    this.newest = entry;
  }

  evict() {
    const last = this.oldest, { table } = this;
    this.unlink(last);
    const head = this.bucket(last.key);
    let before = null;
    for (let entry = table[head]; entry !== null; before = entry, entry = entry.chain) {
      if (entry === last) {
        if (before === null) {
          table[head] = entry.chain;
        } else {
          before.chain = entry.chain;
        }
        break;
      }
    }
    last.newer = null;
    last.chain = null;
    this.held--;
  }

  put(key) {
    const { random, table } = this;
    random.next();
    const spread = rest(rest(random.high >>> 0, PAYLOAD_SPREAD) * 2 ** 32 + (random.low >>> 0), PAYLOAD_SPREAD);
    if (this.held === this.room) {
      this.evict();
    }
    const own = bytes(PAYLOAD_MIN + spread).fill(0);
    own[0] = key & 0xff;
    const head = this.bucket(key), entry = new CacheEntry(table[head], key, own);
    table[head] = entry;
    this.push(entry);
    this.held++;
  }

  operation() {
    this.random.next();
    const key = this.key();
    for (let entry = this.table[this.bucket(key)]; entry !== null; entry = entry.chain) {
      if (entry.key === key) {
        this.sum.add(entry.payload[0] + key);
        this.unlink(entry);
        this.push(entry);
        return;
      }
    }
    this.put(key);
  }
}

// Threads that fill a structure of their own, and do operations on it for a set time.
function steady(Structure) {
  return (run) => {
    const own = new Structure(run), { track } = run;
    run.meet();
    const warmNs = clockNs() + Math.floor(run.number('warm_up_seconds') * 1e9);
    while (clockNs() < warmNs) {
      own.operation();
    }
    run.meet();
    if (run.id === 0) {
      run.begin();
    }
    run.meet();
    run.start();
    track.lastFor(run.number('seconds'));
    let operations = 0;
    while (track.admit()) {
      own.operation();
      track.end(OPERATION);
      operations++;
    }
    run.finish();
    run.meet();
    if (run.id === 0) {
      run.end();
    }
    run.meet();
    return run.part(operations, own.sum.value());
  };
}

const WORKLOADS = {
  'gcbench': GcBench.run,
  'binary-trees': BinaryTrees.run,
  'message-ring': MessageRing.run,
  'table-churn': steady(TableChurn),
  'lru-cache': steady(LruCache),
};

// How much each isolate may take: a part of the heap's size. Of binary-trees each may take all of
// it: one thread alone builds the largest tree, which no part of the usual size would hold.
function share(workload, threads, heapBytes) {
  return Math.floor(heapBytes / 2 ** 20 / (workload === 'binary-trees' ? 1 : threads));
}

// Three semispaces of 16 MiB are V8's usual young generation; of a small heap a quarter.
function limits(heapMb) {
  const young = Math.max(Math.min(48, Math.floor(heapMb / 4)), 1);
  return { maxYoungGenerationSizeMb: young, maxOldGenerationSizeMb: Math.max(heapMb - young, 1) };
}

function fail(error) {
  write(2, `${error?.message ?? error}\n`);
  process.exit(1);
}

async function main() {
  // Nothing is ever written to standard input: it ends when the process ends that waits for this
  // one, and then nobody needs the result.
  for (const event of ['end', 'close', 'error']) {
    process.stdin.on(event, () => process.exit(1));
  }
  process.stdin.resume();
  const settings = Object.fromEntries(process.argv.slice(2).map((word) => word.split('=')));
  if (!Object.hasOwn(WORKLOADS, settings.workload)) {
    throw new Error('no such workload');
  }
  const threads = Number(settings.threads ?? 1);
  const words = new Int32Array(new SharedArrayBuffer(8));
  const moments = new BigInt64Array(new SharedArrayBuffer(24));
  const resourceLimits = limits(share(settings.workload, threads, Number(settings.heap_bytes)));
  const parts = await Promise.all(Array.from({ length: threads }, (_, id) => {
    const workerData = { settings, id, threads, words, moments };
    const worker = new Worker(__filename, { workerData, resourceLimits });
    return new Promise((resolve, reject) => {
      worker.on('message', resolve);
      worker.on('error', reject);
    });
  }));
  const sum = (of) => parts.reduce((sum, part) => sum + of(part), 0);
  const checksum = BigInt.asIntN(64, parts.reduce((sum, part) => sum + part.sum, 0n));
  const stop = ({ kind, mutator, start_ns, duration_ns }) =>
    `{"kind":"${kind}","mutator":${mutator},"start_ns":${start_ns},"duration_ns":${duration_ns}}`;
  const fields = {
    from_ns: moments[FROM],
    to_ns: moments[TO],
    cpu_ns: moments[CPU],
    mutators_cpu_ns: sum((part) => part.cpuNs),
    cycles: sum((part) => part.cycles),
    ops: sum((part) => part.ops),
    checksum,
    stops: `[${parts.flatMap((part) => part.stops.map(stop)).join(',')}]`,
    tracks: `[${parts.map((part) => part.track).join(',')}]`,
  };
  const line = Object.entries(fields).map(([name, value]) => `"${name}":${value}`).join(',');
  write(1, `{${line}}\n`);
  process.exit(0);
}

if (isMainThread) {
  main().catch(fail);
} else {
  WORKLOADS[workerData.settings.workload](new Run(workerData)).then((part) => parentPort.postMessage(part));
}
