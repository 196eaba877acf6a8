// The four workloads of gc-bench for collectors of the JVM.
//
// `gc-bench --peer` compiles and starts this file, one process a run, and reads its standard
// output: a line `begin` where the measured part begins, `end` where it ends, and then the samples
// as one line of JSON. The work, the clock readings and the samples are those of gc-bench's own
// workloads, so that a row says the same of each collector. Fields that both have are explained
// there.

import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.locks.LockSupport;
import java.util.function.IntFunction;

public final class Peer {
    public static void main(String[] args) throws Exception {
        endWithTheBench();
        var run = new Run(args);
        switch (run.text("workload")) {
            case "gcbench" -> GcBench.run(run);
            case "binary-trees" -> BinaryTrees.run(run);
            case "message-ring" -> MessageRing.run(run);
            case "table-churn" -> Steady.run(run, id -> new TableChurn(run, id));
            case "lru-cache" -> Steady.run(run, id -> new LruCache(run, id));
            default -> throw new IllegalArgumentException("no such workload");
        }
        System.out.println(run.result());
    }

    // Nothing is ever written to standard input: it ends when the process ends that waits for this
    // one, and then nobody needs the result.
    private static void endWithTheBench() {
        var watcher = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {}
            } catch (java.io.IOException e) {
                // As at its end.
            }
            Runtime.getRuntime().halt(1);
        });
        watcher.setDaemon(true);
        watcher.start();
    }

    // What the command line says (`name=value`), and the measured part.
    static final class Run {
        private final String[] args;
        private Track[] tracks = {};
        private long fromNs, toNs, cpuNs, mutatorsNs, cycles, ops, checksum;

        Run(String[] args) {
            this.args = args;
        }

        String text(String name) {
            for (String arg : args) {
                if (arg.startsWith(name + "=")) {
                    return arg.substring(name.length() + 1);
                }
            }
            throw new IllegalArgumentException("no " + name);
        }

        long number(String name) {
            return Long.parseLong(text(name));
        }

        Track track() {
            return new Track(number("rate"));
        }

        private static long processCpuNs() {
            var system = ManagementFactory.getOperatingSystemMXBean();
            return ((com.sun.management.OperatingSystemMXBean) system).getProcessCpuTime();
        }

        // Collections so far. A bean of pauses counts those of the same collections.
        private static long collections() {
            long sum = 0;
            for (var bean : ManagementFactory.getGarbageCollectorMXBeans()) {
                sum += bean.getName().contains("Pauses") ? 0 : bean.getCollectionCount();
            }
            return sum;
        }

        void begin() {
            System.out.println("begin");
            System.out.flush();
            cycles = collections();
            cpuNs = processCpuNs();
            fromNs = System.nanoTime();
        }

        // A mutator's processor time so far.
        static long threadCpuNs() {
            return ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime();
        }

        synchronized void add(Track track, long cpuNs) {
            tracks = Arrays.copyOf(tracks, tracks.length + 1);
            tracks[tracks.length - 1] = track;
            mutatorsNs += cpuNs;
        }

        void end(long ops, long checksum) {
            toNs = System.nanoTime();
            cpuNs = processCpuNs() - cpuNs;
            cycles = collections() - cycles;
            System.out.println("end");
            System.out.flush();
            this.ops = ops;
            this.checksum = checksum;
        }

        String result() {
            var out = new StringBuilder("{\"from_ns\":" + fromNs + ",\"to_ns\":" + toNs);
            out.append(",\"cpu_ns\":" + cpuNs + ",\"mutators_cpu_ns\":" + mutatorsNs);
            out.append(",\"cycles\":" + cycles + ",\"ops\":" + ops + ",\"checksum\":" + checksum);
            out.append(",\"tracks\":[");
            for (int i = 0; i < tracks.length; i++) {
                out.append(i == 0 ? "" : ",");
                tracks[i].write(out);
            }
            return out.append("]}").toString();
        }
    }

    // Samples in logarithmic buckets, 32 an octave.
    static final class Recorder {
        private static final int SUB_BITS = 5;
        private static final int SUB = 1 << SUB_BITS;
        private final long[] counts = new long[(64 - SUB_BITS + 1) * SUB];
        private long totalNs, maxNs, over1msNs;

        void record(long ns) {
            int shift = 63 - Long.numberOfLeadingZeros(ns | SUB) - SUB_BITS;
            counts[(shift << SUB_BITS) + (int) (ns >>> shift)]++;
            totalNs += ns;
            if (ns > maxNs) {
                maxNs = ns;
            }
            if (ns >= 1_000_000) {
                over1msNs += ns;
            }
        }

        void clear() {
            Arrays.fill(counts, 0);
            totalNs = 0;
            maxNs = 0;
            over1msNs = 0;
        }

        void write(StringBuilder out) {
            out.append("{\"total_ns\":" + totalNs + ",\"max_ns\":" + maxNs);
            out.append(",\"over_1ms_ns\":" + over1msNs + ",\"counts\":[");
            String comma = "";
            for (int i = 0; i < counts.length; i++) {
                if (counts[i] > 0) {
                    out.append(comma + "[" + i + "," + counts[i] + "]");
                    comma = ",";
                }
            }
            out.append("]}");
        }
    }

    // A mutator's time in the measured part, tiled by samples; see gc-bench/src/track.rs. Stretches
    // lie outside the collected heap.
    static final class Track {
        static final int NONE = 0, OPERATION = 1, OTHER = 2;
        private static final long FINEST_NS = 20_000, LONG_NS = 100_000;
        private static final long TICK_NS = 1_000_000, AWAKE_NS = 50_000;
        private static final long IDLE = -1;

        private final Recorder operations = new Recorder(), other = new Recorder();
        private final Recorder ticks = new Recorder(), responses = new Recorder();
        private ByteBuffer stretches = room(1 << 20);
        private final ByteBuffer late = room(1 << 10);
        private long baseNs = System.nanoTime(), lastNs, markedNs, samples, marksNs = FINEST_NS, idleNs;
        private long left = Long.MAX_VALUE, untilNs = Long.MAX_VALUE;
        private int open = NONE;
        // A set rate of operations; 0: as fast as it goes.
        private final long rate;
        private long startNs, tick, admitted, dueNs, paceUntilNs = Long.MAX_VALUE;
        private boolean inTick;

        Track(long rate) {
            this.rate = rate;
        }

        private static ByteBuffer room(int pairs) {
            return ByteBuffer.allocateDirect(pairs * 16).order(ByteOrder.nativeOrder());
        }

        private long nowNs() {
            return System.nanoTime() - baseNs;
        }

        // Begins the measured part, which began at `fromNs`: forgets the samples so far.
        void start(long fromNs) {
            for (Recorder recorder : new Recorder[] {operations, other, ticks, responses}) {
                recorder.clear();
            }
            stretches.clear();
            late.clear();
            baseNs = fromNs;
            lastNs = 0;
            beginStretch(0);
            open = NONE;
            idleNs = 0;
            long now = nowNs();
            idleUntil(now);
            startNs = now;
            tick = 0;
            admitted = 0;
            inTick = false;
            left = rate > 0 ? 0 : Long.MAX_VALUE;
        }

        void lastFor(double seconds) {
            long ns = (long) (seconds * 1e9);
            paceUntilNs = startNs + ns;
            untilNs = rate > 0 ? Long.MAX_VALUE : lastNs + ns;
        }

        boolean admit() {
            if (left == 0 && !nextTick()) {
                return false;
            }
            left--;
            return lastNs < untilNs;
        }

        void end(int series) {
            long now = nowNs(), ns = now - lastNs;
            (series == OPERATION ? operations : other).record(ns);
            samples++;
            if (now >= marksNs) {
                mark(now, ns);
            }
            lastNs = now;
            if (rate > 0) {
                responses.record(Math.max(0, now - dueNs));
            }
        }

        // Begins a sample where the last one ends, and waits until it may.
        void begin(int series) {
            if (open != NONE) {
                end(open);
            }
            open = series;
            admit();
        }

        // Waits for something that happens elsewhere.
        void rest(Runnable wait) {
            finish();
            wait.run();
            long from = lastNs, now = nowNs();
            idleUntil(now);
            startNs += now - from;
            dueNs += now - from;
            inTick = left > 0;
        }

        void finish() {
            if (open != NONE) {
                end(open);
                open = NONE;
            }
            endTick();
        }

        private void endTick() {
            if (rate > 0 && inTick) {
                inTick = false;
                ticks.record(Math.max(0, lastNs - dueNs));
            }
        }

        private boolean nextTick() {
            endTick();
            if (rate == 0) {
                return false;
            }
            long upto;
            do {
                long beginsNs = startNs + tick * TICK_NS;
                if (beginsNs >= paceUntilNs) {
                    return false;
                }
                tick++;
                upto = tick * rate / 1000;
                dueNs = beginsNs + TICK_NS;
            } while (upto <= admitted);
            left = upto - admitted;
            admitted = upto;
            inTick = true;
            long wakesNs = dueNs - AWAKE_NS;
            for (long now = nowNs(); now < wakesNs; now = nowNs()) {
                LockSupport.parkNanos(wakesNs - now);
                woke(nowNs());
            }
            while (nowNs() < dueNs) {
                Thread.onSpinWait();
            }
            idleUntil(dueNs);
            return true;
        }

        private void woke(long wokeNs) {
            if (wokeNs - dueNs >= LONG_NS && late.hasRemaining()) {
                late.putLong(dueNs).putLong(wokeNs - dueNs);
            }
        }

        private void idleUntil(long until) {
            if (until <= lastNs) {
                return;
            }
            if (samples > 0) {
                push(lastNs - markedNs, samples);
            }
            idleNs += until - lastNs;
            push(until - lastNs, IDLE);
            lastNs = until;
            beginStretch(until);
        }

        private void beginStretch(long from) {
            markedNs = from;
            samples = 0;
            marksNs = from + FINEST_NS;
        }

        private void mark(long now, long ns) {
            if (ns >= FINEST_NS) {
                if (samples > 1) {
                    push(lastNs - markedNs, samples - 1);
                }
                push(ns, 1);
            } else {
                push(now - markedNs, samples);
            }
            beginStretch(now);
        }

        private void push(long ns, long of) {
            if (!stretches.hasRemaining()) {
                ByteBuffer wider = room(stretches.capacity() / 8);
                wider.put(stretches.flip());
                stretches = wider;
            }
            stretches.putLong(ns).putLong(of);
        }

        private static void write(StringBuilder out, ByteBuffer pairs) {
            out.append('[');
            for (int i = 0; i < pairs.position(); i += 8) {
                out.append(i == 0 ? "" : ",").append(pairs.getLong(i));
            }
            out.append(']');
        }

        void write(StringBuilder out) {
            out.append("{\"idle_ns\":" + idleNs + ",\"last_ns\":" + lastNs + ",\"operations\":");
            operations.write(out);
            out.append(",\"other\":");
            other.write(out);
            if (rate > 0) {
                out.append(",\"ticks\":");
                ticks.write(out);
                out.append(",\"responses\":");
                responses.write(out);
            }
            out.append(",\"stretches\":");
            if (samples > 0) {
                push(lastNs - markedNs, samples);
            }
            write(out, stretches);
            out.append(",\"late\":");
            write(out, late);
            out.append('}');
        }
    }

    static final class GcBench {
        private static final int STRETCH_DEPTH = 18, LONG_LIVED_DEPTH = 16, MIN_DEPTH = 4, MAX_DEPTH = 16;
        private static final int ARRAY_LEN = 500_000, UNIT = 4;

        static final class Node {
            Node left, right;
            int i, j;
        }

        private static int treeSize(int depth) {
            return (2 << depth) - 1;
        }

        private static void populate(int depth, Node parent, Track track) {
            if (depth == UNIT) {
                track.begin(Track.OPERATION);
            }
            if (depth == 0) {
                return;
            }
            parent.left = new Node();
            parent.right = new Node();
            parent.j = depth;
            populate(depth - 1, parent.left, track);
            populate(depth - 1, parent.right, track);
        }

        private static Node make(int depth, Track track) {
            if (depth == UNIT) {
                track.begin(Track.OPERATION);
            }
            var node = new Node();
            if (depth > 0) {
                node.left = make(depth - 1, track);
                node.right = make(depth - 1, track);
            }
            return node;
        }

        private static int count(Node node) {
            return node == null ? 0 : 1 + count(node.left) + count(node.right);
        }

        private static void round(Track track) {
            for (int depth = MIN_DEPTH; depth <= MAX_DEPTH; depth += 2) {
                int trees = 2 * treeSize(STRETCH_DEPTH) / treeSize(depth);
                for (int i = 0; i < trees; i++) {
                    populate(depth, new Node(), track);
                }
                for (int i = 0; i < trees; i++) {
                    make(depth, track);
                }
            }
        }

        static void run(Run run) {
            Track track = run.track();
            make(STRETCH_DEPTH, track);
            var longLived = new Node();
            populate(LONG_LIVED_DEPTH, longLived, track);
            var array = new double[ARRAY_LEN];
            for (int i = 0; i < ARRAY_LEN / 2; i++) {
                array[i] = 1.0 / (i + 1);
            }
            long rounds = run.number("size"), warmUp = run.number("warm_up");
            for (long i = 0; i < warmUp; i++) {
                round(track);
            }
            run.begin();
            long cpuNs = Run.threadCpuNs();
            track.start(run.fromNs);
            for (long i = 0; i < rounds; i++) {
                round(track);
            }
            track.finish();
            run.add(track, Run.threadCpuNs() - cpuNs);
            run.end(rounds, longLived.left.j + longLived.left.i);
            if (array[1000] != 1.0 / 1001.0 || count(longLived) != treeSize(LONG_LIVED_DEPTH)) {
                throw new AssertionError("what lives long has changed");
            }
        }
    }

    static final class BinaryTrees {
        private static final int MIN_DEPTH = 4, UNIT = 4, COUNTED_WHOLE = 9;

        static final class Tree {
            final Tree left, right;

            Tree(Tree left, Tree right) {
                this.left = left;
                this.right = right;
            }
        }

        private static Tree build(int depth, Track track) {
            if (depth == UNIT) {
                track.begin(Track.OPERATION);
            }
            if (depth == 0) {
                return new Tree(null, null);
            }
            Tree left = build(depth - 1, track);
            return new Tree(left, build(depth - 1, track));
        }

        private static long count(Tree tree) {
            return tree.left == null ? 1 : 1 + count(tree.left) + count(tree.right);
        }

        private static long check(int depth, Tree tree, Track track) {
            if (depth <= COUNTED_WHOLE) {
                track.begin(Track.OTHER);
                return count(tree);
            }
            return 1 + check(depth - 1, tree.left, track) + check(depth - 1, tree.right, track);
        }

        private static long share(int depth, long threads, Track track) {
            long sum = 0;
            for (int d = MIN_DEPTH; d <= depth; d += 2) {
                long trees = (1L << (depth - d + MIN_DEPTH)) / threads;
                for (long i = 0; i < trees; i++) {
                    sum += check(d, build(d, track), track);
                }
            }
            return sum;
        }

        static void run(Run run) {
            int depth = (int) run.number("size"), threads = (int) run.number("threads");
            Track track = run.track();
            var others = new Track[threads - 1];
            Arrays.setAll(others, i -> run.track());
            share((int) run.number("warm_up"), 1, track);
            run.begin();
            long cpuNs = Run.threadCpuNs();
            track.start(run.fromNs);
            long sum = check(depth + 1, build(depth + 1, track), track);
            Tree kept = build(depth, track);
            var sums = new long[threads - 1];
            var started = new Thread[threads - 1];
            for (int i = 0; i < started.length; i++) {
                int at = i;
                started[i] = new Thread(() -> {
                    others[at].start(run.fromNs);
                    sums[at] = share(depth, threads, others[at]);
                    others[at].finish();
                    run.add(others[at], Run.threadCpuNs());
                });
                started[i].start();
            }
            sum += share(depth, threads, track);
            track.rest(() -> {
                for (Thread thread : started) {
                    join(thread);
                }
            });
            for (long other : sums) {
                sum += other;
            }
            sum += check(depth, kept, track);
            track.finish();
            run.add(track, Run.threadCpuNs() - cpuNs);
            long ops = 0;
            for (Track each : run.tracks) {
                ops += Arrays.stream(each.operations.counts).sum();
            }
            run.end(ops, sum);
        }
    }

    static final class MessageRing {
        private static final int MESSAGE_BYTES = 1024;

        private static void push(byte[][] ring, int at, long number) {
            var message = new byte[MESSAGE_BYTES];
            Arrays.fill(message, (byte) number);
            ring[at] = message;
        }

        static void run(Run run) {
            int held = (int) run.number("held");
            long pushes = run.number("size"), warmUp = run.number("warm_up");
            var ring = new byte[held][];
            for (int i = 0; i < held; i++) {
                push(ring, i, i);
            }
            int at = 0;
            Track track = run.track();
            for (long i = 0; i < warmUp; i++) {
                push(ring, at, i - warmUp);
                at = at + 1 == held ? 0 : at + 1;
                track.end(Track.OPERATION);
            }
            run.begin();
            long cpuNs = Run.threadCpuNs();
            track.start(run.fromNs);
            for (long i = 0; i < pushes; i++) {
                track.admit();
                push(ring, at, i);
                at = at + 1 == held ? 0 : at + 1;
                track.end(Track.OPERATION);
            }
            track.finish();
            run.add(track, Run.threadCpuNs() - cpuNs);
            long checksum = 0;
            for (byte[] message : ring) {
                checksum += message[MESSAGE_BYTES / 2];
            }
            run.end(pushes, checksum);
        }
    }

    static final class TableChurn implements Operations {
        private static final int TABLE_BITS = 20, PAYLOAD_MIN = 24, PAYLOAD_SPREAD = 489;

        static final class Entry {
            Entry next, link;
            final long key;
            final byte[] payload;

            Entry(Entry next, Entry link, long key, byte[] payload) {
                this.next = next;
                this.link = link;
                this.key = key;
                this.payload = payload;
            }
        }

        private final Entry[] table = new Entry[1 << TABLE_BITS];
        private final long records;
        private final byte[] payload = new byte[PAYLOAD_MIN + PAYLOAD_SPREAD];
        private long state, sum;

        TableChurn(Run run, int id) {
            records = run.number("size");
            state = Math.max(run.number("seed") + id * 7919L, 1);
            for (long key = 0; key < records; key++) {
                put(key, random());
            }
        }

        private static int hash(long key) {
            return (int) ((key * 0x9e37_79b9_7f4a_7c15L) >>> (64 - TABLE_BITS));
        }

        private long random() {
            long x = state;
            x ^= x << 13;
            x ^= x >>> 7;
            x ^= x << 17;
            state = x;
            return x;
        }

        private void put(long key, long random) {
            int length = PAYLOAD_MIN + (int) ((random >>> 40) % PAYLOAD_SPREAD);
            payload[0] = (byte) key;
            payload[length - 1] = (byte) random;
            byte[] own = Arrays.copyOf(payload, length);
            payload[length - 1] = 0;
            int head = hash(key);
            Entry before = null;
            for (Entry entry = table[head]; entry != null; before = entry, entry = entry.next) {
                if (entry.key == key) {
                    if (before == null) {
                        table[head] = entry.next;
                    } else {
                        before.next = entry.next;
                    }
                    entry.next = null;
                    entry.link = null;
                    break;
                }
            }
            Entry link = table[hash((random >>> 17) % records)];
            table[head] = new Entry(table[head], link, key, own);
        }

        private void get(long key) {
            for (Entry entry = table[hash(key)]; entry != null; entry = entry.next) {
                if (entry.key == key) {
                    sum += entry.payload[0] & 0xff;
                    Entry link = entry.link;
                    if (link != null) {
                        sum += link.key + (link.payload[link.payload.length - 1] & 0xff);
                    }
                    return;
                }
            }
        }

        @Override
        public void operation() {
            long random = random(), key = (random >>> 8) % records;
            if ((random & 1) == 0) {
                get(key);
            } else {
                put(key, random);
            }
        }

        @Override
        public long checksum() {
            return sum;
        }
    }

    // Caches that evict what was used least recently, each with a hash table and a list in the order
    // of use.
    static final class LruCache implements Operations {
        private static final int PAYLOAD_MIN = 24, PAYLOAD_SPREAD = 489;
        // With header, length, and the slot of the table, as the bench counts them: as many entries.
        private static final long ENTRY_BYTES = 48 + 16 + PAYLOAD_MIN + PAYLOAD_SPREAD / 2 + 8, KEYS = 10;

        static final class Entry {
            Entry newer, older, chain;
            final long key;
            final byte[] payload;

            Entry(Entry chain, long key, byte[] payload) {
                this.chain = chain;
                this.key = key;
                this.payload = payload;
            }
        }

        private final int tableBits;
        private final Entry[] table;
        private final long room;
        private final double scale, power, keys;
        private final byte[] payload = new byte[PAYLOAD_MIN + PAYLOAD_SPREAD];
        private Entry newest, oldest;
        private long held, state, sum;

        LruCache(Run run, int id) {
            room = Math.max((run.number("size") << 20) / run.number("threads") / ENTRY_BYTES, 1);
            tableBits = Math.max(64 - Long.numberOfLeadingZeros(room - 1), 1);
            table = new Entry[1 << tableBits];
            double skew = Double.parseDouble(run.text("skew"));
            double rest = Math.abs(1 - skew) < 1e-6 ? 1e-6 : 1 - skew;
            keys = room * KEYS;
            scale = Math.pow(keys + 1, rest) - 1;
            power = 1 / rest;
            state = Math.max(run.number("seed") + id * 7919L, 1);
            for (long key = 0; key < room; key++) {
                put(key);
            }
        }

        private int bucket(long key) {
            return (int) ((key * 0x9e37_79b9_7f4a_7c15L) >>> (64 - tableBits));
        }

        private long random() {
            long x = state;
            x ^= x << 13;
            x ^= x >>> 7;
            x ^= x << 17;
            state = x;
            return x;
        }

        private long key(long random) {
            double part = (random >>> 11) * 0x1p-53;
            return (long) Math.min(Math.pow(part * scale + 1, power) - 1, keys - 1);
        }

        private void unlink(Entry entry) {
            Entry newer = entry.newer, older = entry.older;
            if (newer == null) {
                newest = older;
            } else {
                newer.older = older;
            }
            if (older == null) {
                oldest = newer;
            } else {
                older.newer = newer;
            }
        }

        private void push(Entry entry) {
            entry.newer = null;
            entry.older = newest;
            if (newest == null) {
                oldest = entry;
            } else {
                newest.newer = entry;
            }
            newest = entry;
        }

        private void evict() {
            Entry last = oldest;
            unlink(last);
            int head = bucket(last.key);
            Entry before = null;
            for (Entry entry = table[head]; entry != null; before = entry, entry = entry.chain) {
                if (entry.key == last.key) {
                    if (before == null) {
                        table[head] = entry.chain;
                    } else {
                        before.chain = entry.chain;
                    }
                    break;
                }
            }
            last.newer = null;
            last.chain = null;
            held--;
        }

        private void put(long key) {
            int length = PAYLOAD_MIN + (int) Long.remainderUnsigned(random(), PAYLOAD_SPREAD);
            if (held == room) {
                evict();
            }
            payload[0] = (byte) key;
            byte[] own = Arrays.copyOf(payload, length);
            int head = bucket(key);
            Entry entry = new Entry(table[head], key, own);
            table[head] = entry;
            push(entry);
            held++;
        }

        @Override
        public void operation() {
            long key = key(random());
            for (Entry entry = table[bucket(key)]; entry != null; entry = entry.chain) {
                if (entry.key == key) {
                    sum += (entry.payload[0] & 0xff) + key;
                    unlink(entry);
                    push(entry);
                    return;
                }
            }
            put(key);
        }

        @Override
        public long checksum() {
            return sum;
        }
    }

    // What a thread has, and does over and over.
    interface Operations {
        void operation();

        // Of what was read.
        long checksum();
    }

    // Threads that fill a structure of their own, and do operations on it for a set time.
    static final class Steady {
        private static long[] body(Run run, CyclicBarrier barrier, int id, IntFunction<Operations> fill) {
            Track track = run.track();
            Operations own = fill.apply(id);
            meet(barrier);
            long warmNs = System.nanoTime() + (long) (Double.parseDouble(run.text("warm_up_seconds")) * 1e9);
            while (System.nanoTime() < warmNs) {
                own.operation();
            }
            meet(barrier);
            if (id == 0) {
                run.begin();
            }
            meet(barrier);
            long cpuNs = Run.threadCpuNs();
            track.start(run.fromNs);
            track.lastFor(Double.parseDouble(run.text("seconds")));
            long operations = 0;
            while (track.admit()) {
                own.operation();
                track.end(Track.OPERATION);
                operations++;
            }
            track.finish();
            run.add(track, Run.threadCpuNs() - cpuNs);
            return new long[] {operations, own.checksum()};
        }

        static void run(Run run, IntFunction<Operations> fill) {
            int threads = (int) run.number("threads");
            var barrier = new CyclicBarrier(threads);
            var parts = new long[threads][];
            var started = new Thread[threads];
            for (int i = 0; i < threads; i++) {
                int id = i;
                started[i] = new Thread(() -> parts[id] = body(run, barrier, id, fill));
                started[i].start();
            }
            long ops = 0, sum = 0;
            for (int i = 0; i < threads; i++) {
                join(started[i]);
                ops += parts[i][0];
                sum += parts[i][1];
            }
            run.end(ops, sum);
        }
    }

    private static void join(Thread thread) {
        try {
            thread.join();
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    private static void meet(CyclicBarrier barrier) {
        try {
            barrier.await();
        } catch (InterruptedException | BrokenBarrierException e) {
            throw new AssertionError(e);
        }
    }
}
