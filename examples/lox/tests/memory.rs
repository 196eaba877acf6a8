//! What a program can no longer reach is collected, wherever on a stack it was left.

mod common;

use common::{MODES, in_parallel, lox, run_text};
use std::path::Path;
use std::sync::Mutex;

/// Makes a list that takes more than half of the heap.
const LIST: &str = "class N { init(n) { this.n = n; } }
fun list() { var l = nil; for (var i = 0; i < 130000; i = i + 1) l = N(l); return l; }
fun deep(n) { if (n > 0) return deep(n - 1); var big = list(); var x = big; return 1; }
";

/// Programs that drop one list, and make another.
const PROGRAMS: [(&str, &str); 12] = [
    ("a block's variable", "{ var a; var b; var big = list(); } var l = list();"),
    (
        "a variable of a loop's block",
        "{ var a; var b; var big; for (var i = 0; i < 130000; i = i + 1) big = N(big); }
         var l; for (var i = 0; i < 130000; i = i + 1) l = N(l);",
    ),
    ("an argument", "fun use(a, b, c, d, e, f, g, h) {} use(1, 2, 3, 4, 5, 6, 7, list()); var l = list();"),
    ("a deep call's", "deep(40); var l = list();"),
    ("a deep call's, while a thread runs", "fun g() { var l = list(); return 2; } deep(40); join(spawn(g));"),
    (
        "a deep call's in a thread that waits",
        "var c = channel(); var d = channel(); fun idle() { deep(40); send(c, 1); receive(d); }
         spawn(idle); receive(c); var l = list(); send(d, 1);",
    ),
    (
        "a deep call's in a thread that runs",
        "var c = channel(); var run = true; fun busy() { deep(40); send(c, 1); while (run) {} }
         spawn(busy); receive(c); var l = list(); run = false;",
    ),
    (
        "a block's variable in a thread that calls the VM's functions",
        "var c = channel(); var run = true; fun busy() { { var a; var big = list(); } send(c, 1); while (run) time(); }
         spawn(busy); receive(c); var l = list(); run = false;",
    ),
    (
        "an argument of a thread",
        "var c = channel(); var d = channel(); fun f(l) { l = nil; send(c, 1); receive(d); }
         spawn(f, list()); receive(c); var l = list(); send(d, 1);",
    ),
    (
        "where a difference goes",
        "fun f() { { var a; var b; var big = list(); } var x = 3; print x - size(); } fun size() { var l = list(); return 2; } f();",
    ),
    (
        "where an assignment's value goes",
        "var g; fun f() { { var big = list(); } print g = size(); } fun size() { var l = list(); return 1; } f();",
    ),
    (
        "where a field's value goes",
        "fun f() { var n = N(1); { var big = list(); } print n.n = size(); } fun size() { var l = list(); return 1; } f();",
    ),
];

#[test]
fn what_cannot_be_reached_is_collected() {
    let runs: Vec<_> = PROGRAMS.iter().flat_map(|program| ["load", "page", "stw"].map(|gc| (program, gc))).collect();
    let wrong = Mutex::new(Vec::new());
    in_parallel(&runs, |&((what, text), gc)| {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("memory {what} {gc}.lox"));
        std::fs::write(&file, format!("{LIST}{text}\nprint \"fine\";\n")).expect("the test's folder can be written");
        let outcome = lox(&["--gc", gc, "--heap", "8m", &file.display().to_string()], b"");
        if outcome.code != Some(0) || !outcome.stdout.ends_with("fine\n") || !outcome.stderr.is_empty() {
            wrong.lock().expect("no panic").push(format!("{what}, {gc}: {outcome:?}"));
        }
    });
    let wrong = wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_prompt_s_line_leaves_nothing_behind() {
    let input = format!("{}{{ var big = list(); }}\nvar l = list();\nprint \"fine\";\n", LIST);
    let outcome = lox(&["--heap", "8m"], input.as_bytes());
    assert!(outcome.stdout.ends_with("> fine\n> \n") && outcome.stderr.is_empty(), "{outcome:?}");
}

/// The table of strings grows by strings that no cycle has found dead yet, until it would be larger
/// than the heap.
#[test]
fn strings_that_die_at_once_never_fill_the_heap() {
    let text = r#"class D { init(c, next) { this.c = c; this.next = next; } }
var digits = D("0", D("1", D("2", D("3", D("4", D("5", D("6", D("7", D("8", D("9", nil))))))))));
fun churn(s, depth) { if (depth > 0) for (var a = digits; a != nil; a = a.next) churn(s + a.c, depth - 1); }
churn("", 6);
print "done";
"#;
    for mode in &MODES[..3] {
        let outcome = run_text("strings_that_die", text, mode);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "done\n"), "{mode:?}: {outcome:?}");
    }
}
