// The workloads of gc-bench for Go.
//
// `gc-bench --peer go` builds and starts this file, one process a run, and reads its standard
// output: a line `begin` where the measured part begins, `end` where it ends, and then the samples
// as one line of JSON. The work, the clock readings and the samples are those of gc-bench's own
// workloads; what is not said here is explained there. Mutators are goroutines.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Since when this program counts time. A difference to it is one reading of the monotonic clock.
var zero = time.Now()

func nowNs() int64 {
	return int64(time.Since(zero))
}

func fail(why string) {
	os.Stderr.WriteString(why + "\n")
	os.Exit(1)
}

func main() {
	// Nothing is ever written to standard input: it ends when the process ends that waits for this
	// one, and then nobody needs the result.
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	run := newRun(os.Args[1:])
	// It collects when its memory is as large as the other collectors' heaps, and only then.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(run.number("heap_bytes"))
	switch run.settings["workload"] {
	case "gcbench":
		runGcBench(run)
	case "binary-trees":
		runBinaryTrees(run)
	case "message-ring":
		runMessageRing(run)
	case "table-churn":
		runSteady(run, func(id int64) operations { return newTableChurn(run, id) })
	case "lru-cache":
		runSteady(run, func(id int64) operations { return newLruCache(run, id) })
	default:
		fail("no such workload")
	}
	run.write()
}

// ---- A run

// What a run was told (`name=value`), and the measured part.
type run struct {
	settings map[string]string
	tracks   []*track
	fromNs   int64
	toNs     int64
	cpuNs    int64
	gcNs     int64
	cycles   int64
	ops      int64
	checksum int64
	stops    stops
}

func newRun(args []string) *run {
	settings := map[string]string{}
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		settings[name] = value
	}
	return &run{settings: settings}
}

func (r *run) text(name string) string {
	value, found := r.settings[name]
	if !found {
		fail("no " + name)
	}
	return value
}

func (r *run) number(name string) int64 {
	number, err := strconv.ParseInt(r.text(name), 10, 64)
	if err != nil {
		fail(err.Error())
	}
	return number
}

func (r *run) fraction(name string) float64 {
	number, err := strconv.ParseFloat(r.text(name), 64)
	if err != nil {
		fail(err.Error())
	}
	return number
}

// The samples of one more mutator. Before the measured part, and from one goroutine.
func (r *run) track() *track {
	one := newTrack(r.number("rate"))
	r.tracks = append(r.tracks, one)
	return one
}

func processCpuNs() int64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		fail(err.Error())
	}
	return used.Utime.Nano() + used.Stime.Nano()
}

// Processor time of the collector's own workers and of its stops, as the runtime estimates it.
func collectorCpuNs() int64 {
	samples := []metrics.Sample{
		{Name: "/cpu/classes/gc/mark/dedicated:cpu-seconds"},
		{Name: "/cpu/classes/gc/mark/idle:cpu-seconds"},
		{Name: "/cpu/classes/gc/pause:cpu-seconds"},
	}
	metrics.Read(samples)
	sum := 0.0
	for _, sample := range samples {
		if sample.Value.Kind() == metrics.KindFloat64 {
			sum += sample.Value.Float64()
		}
	}
	return int64(sum * 1e9)
}

func (r *run) begin() {
	os.Stdout.WriteString("begin\n")
	r.stops.begin()
	r.cycles = r.stops.stats.NumGC
	r.gcNs = collectorCpuNs()
	r.cpuNs = processCpuNs()
	r.fromNs = nowNs()
}

func (r *run) end(ops, checksum int64) {
	r.toNs = nowNs()
	r.cpuNs = processCpuNs() - r.cpuNs
	r.gcNs = collectorCpuNs() - r.gcNs
	r.stops.end()
	r.cycles = r.stops.stats.NumGC - r.cycles
	os.Stdout.WriteString("end\n")
	r.ops, r.checksum = ops, checksum
}

func (r *run) write() {
	out := bufio.NewWriter(os.Stdout)
	mutatorsNs := r.cpuNs - r.gcNs
	if mutatorsNs < 0 {
		mutatorsNs = 0
	}
	fmt.Fprintf(out, `{"from_ns":%d,"to_ns":%d,"cpu_ns":%d,"mutators_cpu_ns":%d`, r.fromNs, r.toNs, r.cpuNs, mutatorsNs)
	fmt.Fprintf(out, `,"cycles":%d,"ops":%d,"checksum":%d,"stops":[`, r.cycles, r.ops, r.checksum)
	for i, stop := range r.stops.found {
		if i > 0 {
			out.WriteString(",")
		}
		start := stop.endNs - stop.ns
		if start < 0 {
			start = 0
		}
		fmt.Fprintf(out, `{"kind":"cycle","mutator":null,"start_ns":%d,"duration_ns":%d}`, start, stop.ns)
	}
	out.WriteString(`],"tracks":[`)
	for i, each := range r.tracks {
		if i > 0 {
			out.WriteString(",")
		}
		each.write(out)
	}
	out.WriteString("]}\n")
	if err := out.Flush(); err != nil {
		fail(err.Error())
	}
}

// The stops of all goroutines. The runtime keeps the last 256 cycles: of each the sum of its stops,
// and when the last of them ended.
type stops struct {
	stats debug.GCStats
	found []stop
	quit  chan struct{}
	ended chan struct{}
}

type stop struct {
	endNs int64
	ns    int64
}

func (s *stops) begin() {
	debug.ReadGCStats(&s.stats)
	s.found = make([]stop, 0, 1<<16)
	s.quit, s.ended = make(chan struct{}), make(chan struct{})
	go func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer close(s.ended)
		for {
			select {
			case <-ticker.C:
				s.look()
			case <-s.quit:
				s.look()
				return
			}
		}
	}()
}

// Adds the cycles since the last look.
func (s *stops) look() {
	before := s.stats.NumGC
	debug.ReadGCStats(&s.stats)
	fresh := int(s.stats.NumGC - before)
	if fresh > len(s.stats.Pause) {
		fresh = len(s.stats.Pause)
	}
	// The latest comes first.
	for i := fresh - 1; i >= 0; i-- {
		endNs := s.stats.PauseEnd[i].UnixNano() - zero.UnixNano()
		s.found = append(s.found, stop{endNs: endNs, ns: int64(s.stats.Pause[i])})
	}
}

func (s *stops) end() {
	close(s.quit)
	<-s.ended
}

// ---- Samples

const (
	subBits = 5
	sub     = 1 << subBits
	buckets = (64 - subBits + 1) * sub
)

// Samples in logarithmic buckets, 32 an octave.
type recorder struct {
	counts                    [buckets]int64
	totalNs, maxNs, over1msNs int64
}

func (r *recorder) record(ns int64) {
	shift := 63 - bits.LeadingZeros64(uint64(ns)|sub) - subBits
	r.counts[(shift<<subBits)+int(ns>>shift)]++
	r.totalNs += ns
	if ns > r.maxNs {
		r.maxNs = ns
	}
	if ns >= 1_000_000 {
		r.over1msNs += ns
	}
}

func (r *recorder) write(out *bufio.Writer) {
	fmt.Fprintf(out, `{"total_ns":%d,"max_ns":%d,"over_1ms_ns":%d,"counts":[`, r.totalNs, r.maxNs, r.over1msNs)
	comma := ""
	for i, count := range r.counts {
		if count > 0 {
			fmt.Fprintf(out, "%s[%d,%d]", comma, i, count)
			comma = ","
		}
	}
	out.WriteString("]}")
}

// Pairs of numbers outside the collected heap, in memory that was touched before.
type pairs struct {
	numbers []int64
	length  int
}

func newPairs(room int) pairs {
	memory, err := syscall.Mmap(-1, 0, room*16, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_POPULATE)
	if err != nil {
		fail("no memory for samples: " + err.Error())
	}
	return pairs{numbers: unsafe.Slice((*int64)(unsafe.Pointer(&memory[0])), room*2)}
}

func (p *pairs) push(first, second int64) {
	if p.length == len(p.numbers) {
		// What they lay in stays mapped: a slice of it may be anywhere.
		wider := newPairs(len(p.numbers))
		copy(wider.numbers, p.numbers)
		p.numbers = wider.numbers
	}
	p.numbers[p.length], p.numbers[p.length+1] = first, second
	p.length += 2
}

func (p *pairs) write(out *bufio.Writer) {
	out.WriteByte('[')
	for i, number := range p.numbers[:p.length] {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString(strconv.FormatInt(number, 10))
	}
	out.WriteByte(']')
}

const (
	none = iota
	operation
	other
)

const (
	finestNs = 20_000
	longNs   = 100_000
	tickNs   = 1_000_000
	awakeNs  = 50_000
	idle     = -1
	mostLate = 1 << 10
)

// A mutator's time in the measured part, tiled by samples; see gc-bench/src/track.rs.
type track struct {
	operations, other, ticks, responses recorder
	stretches, late                     pairs
	baseNs, lastNs, markedNs            int64
	samples, marksNs, idleNs            int64
	left, untilNs                       int64
	open                                int
	// A set rate of operations; 0: as fast as it goes.
	rate            int64
	startNs, tick   int64
	admitted, dueNs int64
	paceUntilNs     int64
	inTick          bool
}

func newTrack(rate int64) *track {
	return &track{
		stretches:   newPairs(1 << 20),
		late:        newPairs(mostLate),
		baseNs:      nowNs(),
		marksNs:     finestNs,
		left:        math.MaxInt64,
		untilNs:     math.MaxInt64,
		rate:        rate,
		paceUntilNs: math.MaxInt64,
	}
}

func (t *track) nowNs() int64 {
	return nowNs() - t.baseNs
}

// Begins the measured part, which began at `fromNs`: forgets the samples so far.
func (t *track) start(fromNs int64) {
	for _, each := range []*recorder{&t.operations, &t.other, &t.ticks, &t.responses} {
		*each = recorder{}
	}
	t.stretches.length, t.late.length = 0, 0
	t.baseNs, t.lastNs = fromNs, 0
	t.beginStretch(0)
	t.open, t.idleNs = none, 0
	now := t.nowNs()
	t.idleUntil(now)
	t.startNs, t.tick, t.admitted, t.inTick = now, 0, 0, false
	t.left = math.MaxInt64
	if t.rate > 0 {
		t.left = 0
	}
}

func (t *track) lastFor(seconds float64) {
	ns := int64(seconds * 1e9)
	t.paceUntilNs = t.startNs + ns
	t.untilNs = math.MaxInt64
	if t.rate == 0 {
		t.untilNs = t.lastNs + ns
	}
}

func (t *track) admit() bool {
	if t.left == 0 && !t.nextTick() {
		return false
	}
	t.left--
	return t.lastNs < t.untilNs
}

func (t *track) end(series int) {
	now := t.nowNs()
	ns := now - t.lastNs
	if series == operation {
		t.operations.record(ns)
	} else {
		t.other.record(ns)
	}
	t.samples++
	if now >= t.marksNs {
		t.mark(now, ns)
	}
	t.lastNs = now
	if t.rate > 0 {
		t.responses.record(atLeast0(now - t.dueNs))
	}
}

func atLeast0(ns int64) int64 {
	if ns < 0 {
		return 0
	}
	return ns
}

// Begins a sample where the last one ends, and waits until it may.
func (t *track) begin(series int) {
	if t.open != none {
		t.end(t.open)
	}
	t.open = series
	t.admit()
}

// Waits for something that happens elsewhere.
func (t *track) rest(wait func()) {
	t.finish()
	wait()
	from, now := t.lastNs, t.nowNs()
	t.idleUntil(now)
	t.startNs += now - from
	t.dueNs += now - from
	t.inTick = t.left > 0
}

func (t *track) finish() {
	if t.open != none {
		t.end(t.open)
		t.open = none
	}
	t.endTick()
}

func (t *track) endTick() {
	if t.rate > 0 && t.inTick {
		t.inTick = false
		t.ticks.record(atLeast0(t.lastNs - t.dueNs))
	}
}

func (t *track) nextTick() bool {
	t.endTick()
	if t.rate == 0 {
		return false
	}
	var upto int64
	for {
		beginsNs := t.startNs + t.tick*tickNs
		if beginsNs >= t.paceUntilNs {
			return false
		}
		t.tick++
		upto = t.tick * t.rate / 1000
		t.dueNs = beginsNs + tickNs
		if upto > t.admitted {
			break
		}
	}
	t.left = upto - t.admitted
	t.admitted = upto
	t.inTick = true
	wakesNs := t.dueNs - awakeNs
	for now := t.nowNs(); now < wakesNs; now = t.nowNs() {
		// The runtime's own timers are as coarse as a tick.
		sleep := syscall.NsecToTimespec(wakesNs - now)
		syscall.Nanosleep(&sleep, nil)
		late := t.nowNs() - t.dueNs
		if late >= longNs && t.late.length < 2*mostLate {
			t.late.push(t.dueNs, late)
		}
	}
	for t.nowNs() < t.dueNs {
	}
	t.idleUntil(t.dueNs)
	return true
}

func (t *track) idleUntil(until int64) {
	if until <= t.lastNs {
		return
	}
	if t.samples > 0 {
		t.stretches.push(t.lastNs-t.markedNs, t.samples)
	}
	t.idleNs += until - t.lastNs
	t.stretches.push(until-t.lastNs, idle)
	t.lastNs = until
	t.beginStretch(until)
}

func (t *track) beginStretch(from int64) {
	t.markedNs, t.samples, t.marksNs = from, 0, from+finestNs
}

func (t *track) mark(now, ns int64) {
	if ns >= finestNs {
		if t.samples > 1 {
			t.stretches.push(t.lastNs-t.markedNs, t.samples-1)
		}
		t.stretches.push(ns, 1)
	} else {
		t.stretches.push(now-t.markedNs, t.samples)
	}
	t.beginStretch(now)
}

func (t *track) write(out *bufio.Writer) {
	out.WriteString(`{"operations":`)
	t.operations.write(out)
	out.WriteString(`,"other":`)
	t.other.write(out)
	if t.rate > 0 {
		out.WriteString(`,"ticks":`)
		t.ticks.write(out)
		out.WriteString(`,"responses":`)
		t.responses.write(out)
	}
	if t.samples > 0 {
		t.stretches.push(t.lastNs-t.markedNs, t.samples)
	}
	out.WriteString(`,"stretches":`)
	t.stretches.write(out)
	out.WriteString(`,"late":`)
	t.late.write(out)
	out.WriteByte('}')
}

// ---- gcbench

const (
	stretchDepth   = 18
	longLivedDepth = 16
	minDepth       = 4
	maxDepth       = 16
	arrayLength    = 500_000
	unit           = 4
)

type node struct {
	left, right *node
	i, j        int32
}

type gcBench struct {
	track *track
	// The tree that is built: so that its root lies in the heap, too.
	root *node
}

func treeSize(depth int) int {
	return 1<<(depth+1) - 1
}

func (g *gcBench) populate(depth int, parent *node) {
	if depth == unit {
		g.track.begin(operation)
	}
	if depth == 0 {
		return
	}
	parent.left = &node{}
	parent.right = &node{}
	parent.j = int32(depth)
	g.populate(depth-1, parent.left)
	g.populate(depth-1, parent.right)
}

func (g *gcBench) build(depth int) *node {
	if depth == unit {
		g.track.begin(operation)
	}
	if depth == 0 {
		return &node{}
	}
	left := g.build(depth - 1)
	right := g.build(depth - 1)
	return &node{left: left, right: right}
}

func (n *node) count() int {
	if n == nil {
		return 0
	}
	return 1 + n.left.count() + n.right.count()
}

func (g *gcBench) round() {
	for depth := minDepth; depth <= maxDepth; depth += 2 {
		trees := 2 * treeSize(stretchDepth) / treeSize(depth)
		for i := 0; i < trees; i++ {
			g.root = &node{}
			g.populate(depth, g.root)
		}
		for i := 0; i < trees; i++ {
			g.root = g.build(depth)
		}
	}
	g.root = nil
}

func runGcBench(r *run) {
	own := &gcBench{track: r.track()}
	own.root = own.build(stretchDepth)
	longLived := &node{}
	own.root = longLived
	own.populate(longLivedDepth, longLived)
	array := make([]float64, arrayLength)
	for i := 0; i < arrayLength/2; i++ {
		array[i] = 1 / float64(i+1)
	}
	rounds, warmUp := r.number("size"), r.number("warm_up")
	for i := int64(0); i < warmUp; i++ {
		own.round()
	}
	r.begin()
	own.track.start(r.fromNs)
	for i := int64(0); i < rounds; i++ {
		own.round()
	}
	own.track.finish()
	r.end(rounds, int64(longLived.left.j)+int64(longLived.left.i))
	expected := 1 / float64(1001)
	if array[1000] != expected || longLived.count() != treeSize(longLivedDepth) {
		fail("what lives long has changed")
	}
}

// ---- binary-trees

const countedWhole = 9

type tree struct {
	left, right *tree
}

func build(depth int, t *track) *tree {
	if depth == unit {
		t.begin(operation)
	}
	if depth == 0 {
		return &tree{}
	}
	left := build(depth-1, t)
	return &tree{left: left, right: build(depth-1, t)}
}

func (n *tree) count() int64 {
	if n.left == nil {
		return 1
	}
	return 1 + n.left.count() + n.right.count()
}

func check(depth int, n *tree, t *track) int64 {
	if depth <= countedWhole {
		t.begin(other)
		return n.count()
	}
	return 1 + check(depth-1, n.left, t) + check(depth-1, n.right, t)
}

func share(depth int, threads int64, t *track) int64 {
	sum := int64(0)
	for d := minDepth; d <= depth; d += 2 {
		trees := (int64(1) << (depth - d + minDepth)) / threads
		for i := int64(0); i < trees; i++ {
			sum += check(d, build(d, t), t)
		}
	}
	return sum
}

func runBinaryTrees(r *run) {
	depth, threads := int(r.number("size")), r.number("threads")
	own := r.track()
	for i := int64(1); i < threads; i++ {
		r.track()
	}
	others := r.tracks[1:]
	share(int(r.number("warm_up")), 1, own)
	r.begin()
	own.start(r.fromNs)
	sum := check(depth+1, build(depth+1, own), own)
	kept := build(depth, own)
	sums := make([]int64, threads)
	var working sync.WaitGroup
	for i, t := range others {
		working.Add(1)
		go func(i int, t *track) {
			defer working.Done()
			t.start(r.fromNs)
			sums[i] = share(depth, threads, t)
			t.finish()
		}(i, t)
	}
	sum += share(depth, threads, own)
	own.rest(working.Wait)
	for _, each := range sums {
		sum += each
	}
	sum += check(depth, kept, own)
	own.finish()
	ops := int64(0)
	for _, t := range r.tracks {
		for _, count := range t.operations.counts {
			ops += count
		}
	}
	r.end(ops, sum)
}

// ---- message-ring

const messageBytes = 1024

func message(number int64) []byte {
	return bytes.Repeat([]byte{byte(number)}, messageBytes)
}

func runMessageRing(r *run) {
	held, pushes, warmUp := r.number("held"), r.number("size"), r.number("warm_up")
	ring := make([][]byte, held)
	for i := range ring {
		ring[i] = message(int64(i))
	}
	at := 0
	t := r.track()
	for i := int64(0); i < warmUp; i++ {
		ring[at] = message(i - warmUp)
		if at++; at == len(ring) {
			at = 0
		}
		t.end(operation)
	}
	r.begin()
	t.start(r.fromNs)
	for i := int64(0); i < pushes; i++ {
		t.admit()
		ring[at] = message(i)
		if at++; at == len(ring) {
			at = 0
		}
		t.end(operation)
	}
	t.finish()
	checksum := int64(0)
	for _, each := range ring {
		checksum += int64(int8(each[messageBytes/2]))
	}
	r.end(pushes, checksum)
}

// ---- Random numbers

// Marsaglia's xorshift.
type random uint64

func newRandom(r *run, id int64) random {
	seed, err := strconv.ParseUint(r.text("seed"), 10, 64)
	if err != nil {
		fail(err.Error())
	}
	state := seed + uint64(id)*7919
	if state == 0 {
		state = 1
	}
	return random(state)
}

func (r *random) next() uint64 {
	x := uint64(*r)
	x ^= x << 13
	x ^= x >> 7
	x ^= x << 17
	*r = random(x)
	return x
}

func bucket(key uint64, tableBits int) uint64 {
	return (key * 0x9e37_79b9_7f4a_7c15) >> (64 - tableBits)
}

const (
	payloadMin    = 24
	payloadSpread = 489
)

// ---- table-churn

const tableBits = 20

type record struct {
	next, link *record
	key        uint64
	payload    []byte
}

type tableChurn struct {
	table   []*record
	records uint64
	random  random
	sum     uint64
}

func newTableChurn(r *run, id int64) *tableChurn {
	c := &tableChurn{
		table:   make([]*record, 1<<tableBits),
		records: uint64(r.number("size")),
		random:  newRandom(r, id),
	}
	for key := uint64(0); key < c.records; key++ {
		c.put(key, c.random.next())
	}
	return c
}

func (c *tableChurn) put(key, random uint64) {
	own := make([]byte, payloadMin+(random>>40)%payloadSpread)
	own[0] = byte(key)
	own[len(own)-1] = byte(random)
	head := bucket(key, tableBits)
	var before *record
	for found := c.table[head]; found != nil; before, found = found, found.next {
		if found.key == key {
			if before == nil {
				c.table[head] = found.next
			} else {
				before.next = found.next
			}
			found.next, found.link = nil, nil
			break
		}
	}
	link := c.table[bucket((random>>17)%c.records, tableBits)]
	c.table[head] = &record{next: c.table[head], link: link, key: key, payload: own}
}

func (c *tableChurn) get(key uint64) {
	for found := c.table[bucket(key, tableBits)]; found != nil; found = found.next {
		if found.key == key {
			c.sum += uint64(found.payload[0])
			if link := found.link; link != nil {
				c.sum += link.key + uint64(link.payload[len(link.payload)-1])
			}
			return
		}
	}
}

func (c *tableChurn) operation() {
	random := c.random.next()
	key := (random >> 8) % c.records
	if random&1 == 0 {
		c.get(key)
	} else {
		c.put(key, random)
	}
}

func (c *tableChurn) checksum() uint64 {
	return c.sum
}

// ---- lru-cache

const (
	// As the bench counts them, whatever an entry takes here: as many entries.
	entryBytes  = 48 + 16 + payloadMin + payloadSpread/2 + 8
	keysAnEntry = 10
)

type entry struct {
	newer, older, chain *entry
	key                 uint64
	payload             []byte
}

// Evicts what was used least recently: a hash table, and a list in the order of use.
type lruCache struct {
	table              []*entry
	tableBits          int
	room, held         int64
	scale, power, keys float64
	newest, oldest     *entry
	random             random
	sum                uint64
}

func newLruCache(r *run, id int64) *lruCache {
	room := (r.number("size") << 20) / r.number("threads") / entryBytes
	if room < 1 {
		room = 1
	}
	tableBits := bits.Len64(uint64(room - 1))
	if tableBits < 1 {
		tableBits = 1
	}
	rest := 1 - r.fraction("skew")
	if math.Abs(rest) < 1e-6 {
		rest = 1e-6
	}
	keys := float64(room * keysAnEntry)
	c := &lruCache{
		table:     make([]*entry, 1<<tableBits),
		tableBits: tableBits,
		room:      room,
		scale:     math.Pow(keys+1, rest) - 1,
		power:     1 / rest,
		keys:      keys,
		random:    newRandom(r, id),
	}
	for key := int64(0); key < room; key++ {
		c.put(uint64(key))
	}
	return c
}

func (c *lruCache) key(random uint64) uint64 {
	part := float64(random>>11) / (1 << 53)
	rank := math.Pow(float64(part*c.scale)+1, c.power)
	return uint64(math.Min(rank-1, c.keys-1))
}

func (c *lruCache) unlink(e *entry) {
	if e.newer == nil {
		c.newest = e.older
	} else {
		e.newer.older = e.older
	}
	if e.older == nil {
		c.oldest = e.newer
	} else {
		e.older.newer = e.newer
	}
}

func (c *lruCache) push(e *entry) {
	e.newer, e.older = nil, c.newest
	if c.newest == nil {
		c.oldest = e
	} else {
		c.newest.newer = e
	}
	c.newest = e
}

func (c *lruCache) evict() {
	last := c.oldest
	c.unlink(last)
	head := bucket(last.key, c.tableBits)
	var before *entry
	for found := c.table[head]; found != nil; before, found = found, found.chain {
		if found == last {
			if before == nil {
				c.table[head] = found.chain
			} else {
				before.chain = found.chain
			}
			break
		}
	}
	last.newer, last.chain = nil, nil
	c.held--
}

func (c *lruCache) put(key uint64) {
	length := payloadMin + c.random.next()%payloadSpread
	if c.held == c.room {
		c.evict()
	}
	own := make([]byte, length)
	own[0] = byte(key)
	head := bucket(key, c.tableBits)
	fresh := &entry{chain: c.table[head], key: key, payload: own}
	c.table[head] = fresh
	c.push(fresh)
	c.held++
}

func (c *lruCache) operation() {
	key := c.key(c.random.next())
	for found := c.table[bucket(key, c.tableBits)]; found != nil; found = found.chain {
		if found.key == key {
			c.sum += uint64(found.payload[0]) + key
			c.unlink(found)
			c.push(found)
			return
		}
	}
	c.put(key)
}

func (c *lruCache) checksum() uint64 {
	return c.sum
}

// ---- Threads that do operations for a set time

// What a thread has, and does over and over.
type operations interface {
	operation()
	// Of what was read.
	checksum() uint64
}

// Where all threads meet.
type meeting struct {
	lock    sync.Mutex
	all     sync.Cond
	threads int64
	here    int64
	number  int64
}

func newMeeting(threads int64) *meeting {
	m := &meeting{threads: threads}
	m.all.L = &m.lock
	return m
}

func (m *meeting) meet() {
	m.lock.Lock()
	defer m.lock.Unlock()
	number := m.number
	m.here++
	if m.here == m.threads {
		m.here = 0
		m.number++
		m.all.Broadcast()
		return
	}
	for m.number == number {
		m.all.Wait()
	}
}

type part struct {
	operations int64
	sum        uint64
}

func runThread(r *run, m *meeting, id int64, t *track, fill func(int64) operations) part {
	own := fill(id)
	m.meet()
	warmNs := nowNs() + int64(r.fraction("warm_up_seconds")*1e9)
	for nowNs() < warmNs {
		own.operation()
	}
	m.meet()
	if id == 0 {
		r.begin()
	}
	m.meet()
	t.start(r.fromNs)
	t.lastFor(r.fraction("seconds"))
	operations := int64(0)
	for t.admit() {
		own.operation()
		t.end(operation)
		operations++
	}
	t.finish()
	// What each thread has is there until all have ended.
	m.meet()
	return part{operations, own.checksum()}
}

func runSteady(r *run, fill func(int64) operations) {
	threads := r.number("threads")
	m := newMeeting(threads)
	parts := make([]part, threads)
	var working sync.WaitGroup
	for id := int64(0); id < threads; id++ {
		t := r.track()
		working.Add(1)
		go func(id int64, t *track) {
			defer working.Done()
			parts[id] = runThread(r, m, id, t, fill)
		}(id, t)
	}
	working.Wait()
	ops, sum := int64(0), uint64(0)
	for _, each := range parts {
		ops += each.operations
		sum += each.sum
	}
	r.end(ops, int64(sum))
}
