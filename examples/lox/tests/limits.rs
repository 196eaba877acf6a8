//! The book's limits, in programs too long to write down.

mod common;

use common::{MODES, Outcome, in_parallel, run_text};
use std::fmt::Write;
use std::sync::Mutex;

/// A program, and what it ends with: code, standard output, standard error.
struct Case(&'static str, String, i32, String, String);

/// `f(0)`, `f(1)`, ... with a separator between.
fn list(count: usize, separator: &str, f: impl Fn(usize) -> String) -> String {
    (0..count).map(f).collect::<Vec<_>>().join(separator)
}

fn lines(count: usize, f: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, i| {
        let _ = writeln!(text, "{}", f(i));
        text
    })
}

fn compile_cases() -> Vec<Case> {
    let wrong = |line: usize, at: &str, what: &str| format!("[line {line}] Error at '{at}': {what}\n");
    // A function of its own, so that its chunk has nothing else: n constants.
    let constants = |n: usize| format!("fun f() {{\n{}}}\nf();\nprint \"fine\";\n", lines(n, |i| format!("{i};")));
    // The callee takes a slot.
    let locals = |n: usize| format!("fun f() {{\n{}print v0;\n}}\nf();\n", lines(n, |i| format!("var v{i};")));
    let params = |n: usize| {
        let names = list(n, ", ", |i| format!("p{i}"));
        let values = "nil, ".repeat(n - 1);
        format!("fun f({names}) {{ return p{}; }}\nprint f({values}true);\n", n - 1)
    };
    // Two functions around, for more variables than one can have.
    let upvalues = |n: usize| {
        let outer = lines(254, |i| format!("var a{i} = {i};"));
        let more = lines(n - 254, |i| format!("var b{i} = 1;"));
        let use_outer = lines(254, |i| format!("s = s + a{i};"));
        let use_more = lines(n - 254, |i| format!("s = s + b{i};"));
        format!(
            "fun f() {{\n{outer}fun g() {{\n{more}fun h() {{\nvar s = 0;\n{use_outer}{use_more}return s;\n}}\n\
             return h();\n}}\nreturn g();\n}}\nprint f();\n"
        )
    };
    // `nil;` is two bytes; what else a body has is counted in the case.
    let loop_body = |n: usize| format!("while (false) {{\n{}}}\nprint \"fine\";\n", "nil;\n".repeat(n));
    let branch = |n: usize| format!("if (false) {{\n{}}}\nprint \"fine\";\n", "nil;\n".repeat(n));
    let fine = || "fine\n".to_owned();
    let none = String::new;
    vec![
        Case("constants_256", constants(256), 0, fine(), none()),
        Case("constants_257", constants(257), 65, none(), wrong(258, "256", "Too many constants in one chunk.")),
        Case("locals_255", locals(255), 0, "nil\n".into(), none()),
        Case("locals_256", locals(256), 65, none(), wrong(257, "v255", "Too many local variables in function.")),
        Case("params_255", params(255), 0, "true\n".into(), none()),
        Case(
            "params_256",
            params(256),
            65,
            none(),
            wrong(1, "p255", "Can't have more than 255 parameters.")
                + &wrong(2, "true", "Can't have more than 255 arguments."),
        ),
        Case("upvalues_256", upvalues(256), 0, "32133\n".into(), none()),
        Case("upvalues_257", upvalues(257), 65, none(), wrong(518, "b2", "Too many closure variables in function.")),
        // Condition 1, jump 3, pop 1, body, loop 1: 65535 with its operand.
        Case("loop_body_fits", loop_body(32_763), 0, fine(), none()),
        Case("loop_body_too_large", loop_body(32_764), 65, none(), wrong(32_766, "}", "Loop body too large.")),
        // Pop 1, body, jump 3.
        Case("branch_fits", branch(32_765), 0, fine(), none()),
        Case("branch_too_large", branch(32_766), 65, none(), wrong(32_768, "}", "Too much code to jump over.")),
    ]
}

fn run_cases() -> Vec<Case> {
    let none = String::new;
    // 64 calls may be under way, the script's own among them.
    let depth = |n: usize| format!("fun f(n) {{ if (n == 0) return 0; return 1 + f(n - 1); }}\nprint f({n});\n");
    let overflow = format!("Stack overflow.\n{}[line 2] in script\n", "[line 1] in f()\n".repeat(63));
    // Arguments at each of four levels, beside many variables: more registers than a byte can name.
    let names = list(200, ", ", |i| format!("p{i}"));
    let inner = list(199, ", ", |i| format!("v{i}"));
    let call = (0..4).fold("v0".to_owned(), |argument, _| format!("f({argument}, {inner})"));
    let vars = lines(239, |i| format!("var v{} = v0;", i + 1));
    let wide = format!(
        "fun f({names}) {{ return p0 + p199; }}\nfun g() {{\nvar v0 = 3;\n{vars}var r = {call};\nfun c() {{ return v239 + r; }}\n\
         return c() + v1;\n}}\nprint g();\n"
    );
    // Fields by the hundred: more than fit, more than a shape has.
    let set = |n: usize| {
        lines(n.div_ceil(100), |part| {
            let fields = list(100.min(n - part * 100), "", |i| format!("o.f{} = {};", part * 100 + i, part * 100 + i));
            format!("fun set{part}(o) {{ {fields} }}")
        })
    };
    let get = |n: usize| {
        lines(n.div_ceil(100), |part| {
            let fields = list(100.min(n - part * 100), " + ", |i| format!("o.f{}", part * 100 + i));
            format!("fun get{part}(o) {{ return {fields}; }}")
        })
    };
    let fields = |n: usize| {
        let parts = n.div_ceil(100);
        let call_set = list(parts, "", |part| format!("set{part}(o);"));
        let call_get = list(parts, " + ", |part| format!("get{part}(o)"));
        format!(
            "class A {{ m() {{ return \"m\"; }} }}\n{}{}fun sum(o) {{ return {call_get}; }}\nfun fill(o) {{ {call_set} return o; }}\n\
             var o = fill(A()); print sum(o); fill(o); o.f0 = 100; o.extra = 5; print sum(o) - 100; print o.extra + o.f{};\n\
             print o.m(); o.m = sum; print o.m(o); print sum(fill(A()));\no.missing;\n",
            set(n),
            get(n),
            n - 1
        )
    };
    let fields_out = |n: usize| {
        let (sum, more) = ((n * (n - 1) / 2).to_string(), (n * (n - 1) / 2 + 100).to_string());
        format!("{sum}\n{sum}\n{}\nm\n{more}\n{sum}\n", n + 4)
    };
    let fields_err = |n: usize| {
        let line = 2 * n.div_ceil(100) + 6;
        format!("Undefined property 'missing'.\n[line {line}] in script\n")
    };
    // Two threads at a time make a dictionary of one object.
    let raced = |n: usize| {
        let parts = n.div_ceil(100);
        let call_set = list(parts, "", |part| format!("set{part}(o);"));
        let call_get = list(parts, " + ", |part| format!("get{part}(o)"));
        format!(
            "class A {{}}\n{}{}fun sum(o) {{ return {call_get}; }}\nfun fill(o) {{ {call_set} }}\n\
             var o = A(); var t = spawn(fill, o); var u = spawn(fill, o); join(t); join(u); fill(o); print sum(o);\n",
            set(n),
            get(n)
        )
    };
    // Shapes by the thousand: each order of setting is one.
    let many_shapes = "class A {}\nfun mix(o, k) {\n  for (var i = 0; i < 8; i = i + 1) {\n    var bit = k; for (var j = 0; j < i; j = j + 1) { if (bit >= 64) bit = bit - 64; bit = bit * 2; }\n    if (bit >= 64) o.a = i; if (i == 0) o.b = k; if (bit < 64) o.c = i; if (i == 3) o.d = k; if (bit > 100) o.e = i;\n  }\n  return o.b + o.d;\n}\nvar s = 0; for (var k = 0; k < 128; k = k + 1) s = s + mix(A(), k); print s;\n";
    vec![
        Case("depth_63", depth(62), 0, "62\n".into(), none()),
        Case("depth_64", depth(63), 70, none(), overflow),
        Case("wide_frames", wide, 0, "21\n".into(), none()),
        Case("fields_60", fields(60), 70, fields_out(60), fields_err(60)),
        Case("fields_700", fields(700), 70, fields_out(700), fields_err(700)),
        Case("fields_1400", fields(1400), 70, fields_out(1400), fields_err(1400)),
        Case("fields_raced_1100", raced(1100), 0, "604450\n".into(), none()),
        Case("many_shapes", many_shapes.to_owned(), 0, "16256\n".into(), none()),
    ]
}

fn check(cases: &[Case], modes: &[&[&str]]) {
    let wrong = Mutex::new(Vec::new());
    in_parallel(cases, |Case(name, text, code, stdout, stderr)| {
        let expected = Outcome { code: Some(*code), stdout: stdout.clone(), stderr: stderr.clone() };
        for mode in modes {
            let outcome = run_text(name, text, mode);
            if outcome != expected {
                let what = format!("{name} {mode:?}:\n{outcome:?}=== expected {expected:?}");
                wrong.lock().expect("no panic").push(what);
            }
        }
    });
    let wrong = wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "{} runs differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_compiler_stops_where_the_book_s_does() {
    check(&compile_cases(), &MODES[..1]);
}

#[test]
fn what_is_nested_too_deeply_does_not_compile() {
    let deep = 1_000_000;
    let both = |open: &str, inner: &str, close: &str| open.repeat(deep) + inner + &close.repeat(deep);
    let wrong = |at: &str| format!("[line 1] Error at '{at}': Too deeply nested.\n");
    let too_deep = |name, text: String, at: &str| Case(name, text, 65, String::new(), wrong(at));
    check(
        &[
            too_deep("deep_blocks", both("{", "print 1;", "}"), "{"),
            too_deep("deep_parens", format!("print {};", both("(", "1", ")")), "("),
            too_deep("deep_nots", format!("print {};", both("!", "1", "")), "!"),
            too_deep("deep_assignments", format!("{{ var a; {} }}", both("a = ", "1;", "")), "a"),
            too_deep("deep_functions", both("fun a() {", "print 1;", "}"), "fun"),
            too_deep("deep_classes", both("class A { m() {", "print 1;", "}}"), "class"),
            too_deep("deep_loops", both("while (false) ", "print 1;", ""), "false"),
        ],
        &MODES[..1],
    );
}

#[test]
fn a_chain_of_operations_has_any_length() {
    let many = 5_000_000;
    let fine = |name, text: String, out: &str| Case(name, text, 0, format!("{out}\n"), String::new());
    check(
        &[
            fine("chain_sum", format!("{{ var a = 1; print {}a; }}", "a + ".repeat(many - 1)), "5e+06"),
            fine(
                "chain_numbers",
                format!("{{ var a = 1; var b = a{}; print b; }}", " - a * a".repeat(1_000_000)),
                "-999999",
            ),
            fine(
                "chain_comparisons",
                format!("{{ var a = 1; if (a{}) print a; else print 2; }}", " == a".repeat(1_000_000)),
                "2",
            ),
            fine("chain_calls", format!("fun f() {{ return f; }} print f{};", "()".repeat(many)), "<fn f>"),
        ],
        &MODES[..1],
    );
}

#[test]
fn chains_go_on_from_what_comes_first() {
    // Operations of all sorts on each other, to new variables, to old ones, and to globals.
    let text = "class A { init(n) { this.n = n; } add(m) { return A(this.n + m); } me() { return this; } get() { return this.value; } value() { return this.n; } }
fun id(x) { return x; } fun id2() { return id; }
var g = A(1).add(2).add(3 * 2 - 1).me().n; print g;
g = id2()(A)(4).add(1).n + 2 - g * 2 / 4; print g;
{ var a = A(1); var b = a.add(a.n + a.n + 1).add(a.n - 5).n + a.n * 2; print b;
  b = b + b - a.add(b - b + 2).add(3).n; print b; a = a.add(1).add(b); print a.n;
  print a.get()() + 1 == a.n + 1 == true; print 1 + a.n + 2 - id(3) - id2()(4); print a.n + (a.n = 10) + a.n; print a.me().add(b = 5).n + b; }
";
    let out = "8\n3\n2\n-2\n0\ntrue\n-4\n20\n20\n";
    check(&[Case("chains", text.to_owned(), 0, out.to_owned(), String::new())], &MODES);
}

#[test]
fn programs_reach_the_limits() {
    check(&run_cases(), &MODES);
}
