//! Makes programs that allocate without end and keep a bounded amount.
//!
//! A program consists of *units*: each builds some structure of objects and gives one object, whose
//! method `check` goes over all of it and stops the program where anything is not as it was made.
//! What the structures hold are *payloads*: strings, instances, closures, bound methods. Which
//! units and payloads a program has, and all their sizes, come from the seed. Threads, in pairs,
//! keep tables of units, replace them at random, and send units to each other.

use std::fmt::Write;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) seed: u64,
    /// Pairs of threads, beside the script's own.
    pub(crate) pairs: usize,
    /// Objects that all tables together hold, about.
    pub(crate) keep: usize,
    /// How long the program takes, about.
    pub(crate) seconds: f64,
}

/// A generator of numbers (splitmix64).
struct Random(u64);

impl Random {
    /// From `low` to `high`, both included.
    fn within(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (x ^ (x >> 31)) % (high - low + 1)
    }
}

/// What every program has.
const PRELUDE: &str = r#"
// From 2^52 on doubles have no fraction.
fun floor(x) {
  var near = x + 4503599627370496 - 4503599627370496;
  if (near > x) return near - 1;
  return near;
}

class Random {
  init(seed) { this.state = seed; }
  below(n) {
    var x = this.state * 16807;
    this.state = x - floor(x / 2147483647) * 2147483647;
    return floor(this.state / 2147483647 * n);
  }
}

fun hold(holds, what) { if (!holds) { print "wrong: " + what; nil(); } }

fun digit(d) {
  if (d < 5) { if (d == 0) return "0"; if (d == 1) return "1"; if (d == 2) return "2"; if (d == 3) return "3"; return "4"; }
  if (d == 5) return "5"; if (d == 6) return "6"; if (d == 7) return "7"; if (d == 8) return "8"; return "9";
}

fun text(n) {
  var s = "";
  for (var i = 0; i < 5; i = i + 1) { var high = floor(n / 10); s = digit(n - high * 10) + s; n = high; }
  return s;
}
"#;

/// The threads: `THREADS`, `SLOTS` and `SECONDS` are put in.
const THREADS: &str = r#"
class Slot { init(next, unit) { this.next = next; this.unit = unit; } }

class Table {
  init(random) { this.first = nil; for (var i = 0; i < SLOTS; i = i + 1) this.first = Slot(this.first, make(random)); }
  // Replaces some, so that what is old and what is new lie side by side.
  churn(random) {
    var slot = this.first;
    while (slot != nil) {
      if (random.below(4) == 0) { slot.unit.check(); slot.unit = make(random); }
      slot = slot.next;
    }
  }
}

var stop = false;

fun one(random) { return make(random); }

fun work(seed, out, in) {
  var random = Random(seed);
  var table = Table(random);
  var rounds = 0;
  while (true) {
    // Both of a pair have to take part in each round: each says what it has seen of the end, and
    // both go by both.
    var mine = stop and rounds > 0;
    send(out, mine);
    if (receive(in) or mine) return rounds;
    table.churn(random);
    send(out, make(random));
    table.first.unit = receive(in);
    table.first.unit.check();
    if (random.below(20) == 0) join(spawn(one, random)).check();
    rounds = rounds + 1;
  }
}

fun pair(seed) {
  var there = channel(4);
  var back = channel(4);
  return Slot(spawn(work, seed, there, back), spawn(work, seed + 1, back, there));
}

var pairs = nil;
for (var i = 0; i < PAIRS; i = i + 1) pairs = Slot(pairs, pair(i * 2 + 1));
var start = time();
var random = Random(1000);
while (time() - start < SECONDS) make(random).check();
stop = true;
var rounds = 0;
while (pairs != nil) {
  rounds = rounds + join(pairs.unit.next) + join(pairs.unit.unit);
  pairs = pairs.next;
}
hold(rounds > 0, "rounds");
print "done";
"#;

/// A payload: `make{n}(x)` makes one for a number, `is{n}(v, x)` says whether `v` is still the one
/// for `x`.
fn payload(random: &mut Random, n: usize) -> String {
    let (factor, add) = (random.within(1, 9), random.within(0, 99));
    let (make, is, before) = match random.within(0, 5) {
        0 => (format!("x * {factor} + {add}"), format!("v == x * {factor} + {add}"), String::new()),
        1 => (format!("text(x) + \"{add}\""), format!("v == text(x) + \"{add}\""), String::new()),
        2 => {
            let (classes, last, sum) = family(random, n);
            (format!("{last}(x)"), format!("v.sum() == {sum}"), classes)
        }
        3 => {
            let (classes, last, sum) = family(random, n);
            (format!("{last}(x).sum"), format!("v() == {sum}"), classes)
        }
        4 => {
            let (functions, depth) = closures(random, n, factor);
            (format!("outer{n}(x)"), format!("v({add}) == x * {factor} + {depth} + {add}"), functions)
        }
        _ => (format!("x > {add}"), format!("v == (x > {add})"), String::new()),
    };
    let before = indent(&before);
    format!(
        "var make{n}; var is{n};\nfun payload{n}() {{\n{before}  fun make(x) {{ return {make}; }}\n  fun is(v, x) {{ return {is}; }}\n\
         \x20 make{n} = make; is{n} = is;\n}}\npayload{n}();\n"
    )
}

fn indent(text: &str) -> String {
    text.lines().fold(String::new(), |text, line| text + "  " + line + "\n")
}

/// Classes that inherit from each other; the last one's name, and what its `sum()` is for `x`.
fn family(random: &mut Random, n: usize) -> (String, String, String) {
    let (mut text, mut factor, mut constant, mut fields) = (String::new(), 0, 0, 0);
    let depth = random.within(1, 4);
    for level in 0..depth {
        let (mut init, mut sum) = (String::new(), "0".to_owned());
        for _ in 0..random.within(1, 5) {
            let (by, add) = (random.within(0, 5), random.within(0, 9));
            let _ = write!(init, " this.f{fields} = x * {by} + {add};");
            let _ = write!(sum, " + this.f{fields}");
            (factor, constant, fields) = (factor + by, constant + add, fields + 1);
        }
        let (above, first, more) = match level {
            0 => (String::new(), "", ""),
            _ => (format!(" < Class{n}_{}", level - 1), " super.init(x);", "super.sum() + "),
        };
        // The fields of derived classes come first or last.
        let init = if random.within(0, 1) == 0 { format!("{first}{init}") } else { format!("{init}{first}") };
        let _ =
            writeln!(text, "class Class{n}_{level}{above} {{ init(x) {{{init} }} sum() {{ return {more}{sum}; }} }}");
    }
    (text, format!("Class{n}_{}", depth - 1), format!("x * {factor} + {constant}"))
}

/// Functions in functions that capture the variables of all around. `outer(x)(y)` is
/// `x * factor + depth + y`.
fn closures(random: &mut Random, n: usize, factor: u64) -> (String, u64) {
    let depth = random.within(1, 5);
    let mut text = format!("y + x * {factor}");
    for level in 0..depth {
        let _ = write!(text, " + v{level}");
    }
    text = format!("fun inner(y) {{ return {text}; }} return inner;");
    for level in (0..depth).rev() {
        // Some variables change after they were captured.
        let set = if random.within(0, 1) == 0 {
            "= 1;".to_owned()
        } else {
            format!("= 0; fun up() {{ v{level} = v{level} + 1; }} up();")
        };
        text = format!("fun layer{level}() {{ var v{level} {set} {text} }} return layer{level}();");
    }
    (format!("fun outer{n}(x) {{ {text} }}\n"), depth)
}

/// A unit, and how many objects it makes, about: `unit{n}(random)` gives an object with a method
/// `check`.
fn unit(random: &mut Random, n: usize, payloads: usize) -> (String, u64) {
    let p = random.within(0, payloads as u64 - 1);
    let (body, objects) = match random.within(0, 4) {
        0 => tree(random, p),
        1 => list(random, p),
        2 => scattered(random, p),
        3 => class_of_its_own(random, p),
        _ => strings(random),
    };
    let body = indent(&body);
    (format!("var unit{n};\nfun define{n}() {{\n{body}  unit{n} = unit;\n}}\ndefine{n}();\n"), objects)
}

/// A tree with payloads at its leaves.
fn tree(random: &mut Random, p: u64) -> (String, u64) {
    let arity = random.within(1, 5);
    let deepest = match arity {
        1 => random.within(10, 40),
        2 => random.within(3, 8),
        3 => random.within(2, 5),
        _ => random.within(2, 3),
    };
    let children: String = (0..arity).map(|i| format!(" this.c{i} = Tree(depth - 1, x + {i});")).collect();
    let counts: String = (0..arity).map(|i| format!(" + this.c{i}.count()")).collect();
    let text = format!(
        "class Tree {{\n  init(depth, x) {{\n    this.x = x; this.depth = depth;\n    if (depth > 0) {{{children} }} else this.leaf = make{p}(x);\n  }}\n\
         \x20 count() {{\n    if (this.depth > 0) return 1{counts};\n    hold(is{p}(this.leaf, this.x), \"leaf\");\n    return 1;\n  }}\n\
         \x20 check() {{\n    var nodes = 1;\n    for (var i = 0; i < this.depth; i = i + 1) nodes = nodes * {arity} + 1;\n    hold(this.count() == nodes, \"tree\");\n  }}\n}}\n\
         fun unit(random) {{ return Tree(random.below({}), random.below(1000)); }}\n",
        deepest + 1
    );
    // Depths are equally frequent: about the deepest's objects, over the number of depths.
    let leaves = arity.pow(u32::try_from(deepest).unwrap_or(u32::MAX).min(20));
    (text, if arity == 1 { deepest } else { leaves * 3 / deepest })
}

/// A list with payloads, that may end where it begins.
fn list(random: &mut Random, p: u64) -> (String, u64) {
    let (most, ring) = (random.within(10, 400), random.within(0, 1) == 0);
    let close = if ring { " last.next = this.first;" } else { "" };
    let text = format!(
        "class Node {{ init(x) {{ this.x = x; this.next = nil; this.payload = make{p}(x); }} }}\n\
         class List {{\n  init(n) {{\n    this.n = n; this.first = Node(n);\n    var last = this.first;\n\
         \x20   for (var i = 1; i < n; i = i + 1) {{ last.next = Node(n + i); last = last.next; }}{close}\n  }}\n\
         \x20 check() {{\n    var node = this.first;\n    for (var i = 0; i < this.n; i = i + 1) {{\n\
         \x20     hold(node.x == this.n + i and is{p}(node.payload, node.x), \"node\");\n      node = node.next;\n    }}\n\
         \x20   hold(node == {}, \"end\");\n  }}\n}}\n\
         fun unit(random) {{ return List(1 + random.below({most})); }}\n",
        if ring { "this.first" } else { "nil" }
    );
    (text, most * 3 / 2)
}

/// An object whose fields are set in one of several orders, and more of them than its class
/// expects.
fn scattered(random: &mut Random, p: u64) -> (String, u64) {
    let fields = random.within(4, 40);
    let orders = random.within(1, 4);
    let mut text = "class Bag {\n  check() {\n    var x = this.x;\n".to_owned();
    for i in 0..fields {
        let _ = writeln!(text, "    hold(is{p}(this.g{i}, x + {i}), \"field\");");
    }
    text += "  }\n}\n";
    for order in 0..orders {
        let mut places: Vec<u64> = (0..fields).collect();
        for i in (1..places.len()).rev() {
            places.swap(i, random.within(0, i as u64) as usize);
        }
        let sets: String = places.iter().map(|i| format!(" bag.g{i} = make{p}(x + {i});")).collect();
        let _ = writeln!(text, "fun set{order}(bag, x) {{{sets} }}");
    }
    let _ = writeln!(
        text,
        "fun unit(random) {{\n  var bag = Bag(); bag.x = random.below(1000);\n  var order = random.below({orders});"
    );
    for order in 0..orders {
        let _ = writeln!(text, "  if (order == {order}) set{order}(bag, bag.x);");
    }
    text += "  return bag;\n}\n";
    (text, fields * 2)
}

/// An object of a class that is made for it alone.
fn class_of_its_own(random: &mut Random, p: u64) -> (String, u64) {
    let methods = random.within(0, 8);
    let (mut text, mut calls) =
        ("fun unit(random) {\n  var x = random.below(1000);\n  class Base {\n".to_owned(), "0".to_owned());
    for i in 0..methods {
        let _ = writeln!(text, "    m{i}() {{ return x + {i}; }}");
        let _ = write!(calls, " + this.m{i}() - x - {i}");
    }
    let _ = write!(
        text,
        "    get() {{ return this.payload; }}\n  }}\n  class Derived < Base {{\n    init() {{ this.payload = make{p}(x); }}\n\
         \x20   get() {{ var get = super.get; return get(); }}\n\
         \x20   check() {{ hold({calls} == 0, \"methods\"); hold(is{p}(this.get(), x), \"payload\"); }}\n  }}\n  return Derived();\n}}\n"
    );
    (text, 12 + methods * 2)
}

/// Strings made of pieces, kept and made again.
fn strings(random: &mut Random) -> (String, u64) {
    let (most, pieces) = (random.within(5, 60), random.within(1, 6));
    let made: String =
        (0..pieces).map(|i| format!(" + text(x + {i}) + \"{}\"", "-".repeat(random.within(0, 40) as usize))).collect();
    let text = format!(
        "fun made(x) {{ return \"\"{made}; }}\n\
         class Text {{ init(x, next) {{ this.x = x; this.text = made(x); this.next = next; }} }}\n\
         class Texts {{\n  init(n) {{\n    this.n = n; this.first = nil;\n    for (var i = 0; i < n; i = i + 1) this.first = Text(n + i, this.first);\n  }}\n\
         \x20 check() {{\n    var n = 0; var text = this.first;\n    while (text != nil) {{\n\
         \x20     hold(text.text == made(text.x) and text.text != made(text.x + 1), \"text\");\n      text = text.next; n = n + 1;\n    }}\n\
         \x20   hold(n == this.n, \"texts\");\n  }}\n}}\n\
         fun unit(random) {{ return Texts(1 + random.below({most})); }}\n"
    );
    (text, most)
}

/// The program for a shape.
pub(crate) fn program(shape: &Shape) -> String {
    let mut random = Random(shape.seed);
    let mut text = format!("// Generated: {shape:?}\n{PRELUDE}\n");
    let payloads = random.within(4, 10) as usize;
    for n in 0..payloads {
        text += &payload(&mut random, n);
    }
    let units = random.within(4, 10) as usize;
    let mut objects = 0;
    for n in 0..units {
        let (unit, of_unit) = unit(&mut random, n, payloads);
        text += &unit;
        objects += of_unit;
    }
    text += "fun make(random) {\n  var unit = random.below(";
    let _ = writeln!(text, "{units});");
    for n in 0..units {
        let _ = writeln!(text, "  if (unit == {n}) return unit{n}(random);");
    }
    text += "}\n";
    let of_unit = (objects / units as u64).max(1) as usize;
    let slots = (shape.keep / (shape.pairs * 2) / of_unit).max(2);
    text += &THREADS
        .replace("SLOTS", &slots.to_string())
        .replace("PAIRS", &shape.pairs.to_string())
        .replace("SECONDS", &shape.seconds.to_string());
    text
}
