//! The command line: exit codes, the prompt, reports.

mod common;

use common::{lox, run_text};

#[test]
fn wrong_usage_is_64() {
    for arguments in [
        &["a.lox", "b.lox"][..],
        &["--gc", "none"],
        &["--heap", "1x"],
        &["--heap", "1k"],
        &["--collecting-limit", "0"],
        &["--what"],
    ] {
        let outcome = lox(arguments, b"");
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(64), ""), "{arguments:?}");
        assert!(!outcome.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_says_what_there_is() {
    let outcome = lox(&["--help"], b"");
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    for flag in [
        "--gc",
        "--heap",
        "--collecting-limit",
        "--gc-log",
        "--gc-stress",
        "--stats",
        "--source-excerpts",
        "stw",
        "COLLECTOR",
    ] {
        assert!(outcome.stdout.contains(flag), "{flag}");
    }
}

/// What the machine has stands in the message that refuses more.
#[test]
fn a_heap_near_the_memory_limit_is_warned_of_once() {
    let refused = lox(&["--heap", "1000000g"], b"");
    assert_eq!(refused.code, Some(64));
    let mut memory = refused.stderr.split("it has ").nth(1).unwrap().split(' ');
    let (number, unit) = (memory.next().unwrap().parse::<f64>().unwrap(), memory.next().unwrap());
    let shift = ["KiB", "MiB", "GiB", "TiB"].iter().position(|name| *name == unit).unwrap();
    let heap = ((number * 0.85 * 1024.0) as u64 * 1024_u64.pow(shift as u32)).to_string();
    let outcome = lox(&["--heap", &heap], b"print 1;\n");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "> 1\n> \n"));
    let lines: Vec<_> = outcome.stderr.lines().collect();
    let [warning] = lines[..] else { panic!("{lines:?}") };
    let told = ["lox: warning: a heap of ", "80 %", "bytes of memory that this process may use (/", "max_bytes"];
    assert!(told.iter().all(|part| warning.contains(part)), "{warning}");
}

#[test]
fn a_file_that_cannot_be_read_is_74() {
    for file in ["no/such/file.lox", "/"] {
        let outcome = lox(&[file], b"");
        assert_eq!(outcome.code, Some(74));
        assert_eq!(outcome.stderr, format!("Could not open file \"{file}\".\n"));
    }
}

#[test]
fn the_prompt_runs_line_after_line() {
    let input = "print 1;\nvar a = 2;\nprint a +;\nfun f() { return a * 10; }\nprint f();\nnil();\nprint a;\nclass A { m() { return a; } }\n\
                 var x = A(); x.y = 7;\nprint x.m() + x.y;\nprint undefined;\n{ var b = a; print b; }\n";
    let outcome = lox(&[], input.as_bytes());
    assert_eq!(outcome.code, Some(0));
    assert_eq!(outcome.stdout, "> 1\n> > > > 20\n> > 2\n> > > 9\n> > 2\n> \n");
    let errors = "[line 1] Error at ';': Expect expression.\nCan only call functions and classes.\n[line 1] in script\n\
                  Undefined variable 'undefined'.\n[line 1] in script\n";
    assert_eq!(outcome.stderr, errors);
}

#[test]
fn a_session_has_many_globals() {
    let mut input = String::new();
    for i in 0..3000 {
        input += &format!("var g{i} = {i};\n");
    }
    input += "print g0 + g1234 + g2999;\n";
    let outcome = lox(&["--gc-stress"], input.as_bytes());
    assert!(outcome.stdout.ends_with("> 4233\n> \n"), "{outcome:?}");
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
}

#[test]
fn excerpts_show_the_source() {
    let text = "var a = 1;\nfun f(x) {\n  return x + \"ü\" - a;\n}\nf(\"s\");\n";
    let outcome = run_text("excerpt_runtime", text, &["--source-excerpts"]);
    assert_eq!(outcome.code, Some(70));
    for part in [
        "error: Operands must be numbers.",
        "excerpt_runtime.lox:3:",
        "return x + \"ü\" - a;",
        "in f()",
        "[line 5] in script",
    ] {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
    let outcome = run_text("excerpt_compile", "var = 1;\n{ print 1\n", &["--source-excerpts"]);
    assert_eq!(outcome.code, Some(65));
    for part in ["error: Expect variable name.", "excerpt_compile.lox:1:5", "var = 1;", "Expect ';' after value."] {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
}

/// Fills the heap with what stays reachable.
const FILL: &str = "class Node {}\nfun fill() {\n  var list = nil;\n  while (true) {\n    var n = Node(); n.next = list; list = n;\n  }\n}\n\
                    print \"filling\";\nfill();\n";

#[test]
fn a_full_heap_is_a_runtime_error() {
    for gc in ["load", "page", "stw"] {
        let outcome = run_text(&format!("fill_{gc}"), FILL, &["--gc", gc]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(70), "filling\n"), "{gc}: {outcome:?}");
        assert!(
            outcome.stderr.starts_with("Out of memory.\n[line 5] in fill()\n[line 9] in script\n"),
            "{gc}: {outcome:?}"
        );
    }
}

#[test]
fn the_heap_tells_of_itself() {
    let text = "class A { init(n) { this.n = n; } }\nvar kept;\nfor (var i = 0; i < 600000; i = i + 1) kept = A(i);\nprint kept.n;\n";
    for gc in ["load", "page", "stw"] {
        let outcome = run_text(&format!("log_{gc}"), text, &["--gc", gc, "--gc-log", "--stats"]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "599999\n"), "{gc}: {outcome:?}");
        for part in ["s][gc] cycle 1: pause ", " live, ", "pauses: ", "stalls: ", "cycles: ", "memory: "] {
            assert!(outcome.stderr.contains(part), "{gc}, {part}: {}", outcome.stderr);
        }
    }
}

#[test]
fn excerpts_show_whole_characters() {
    for (name, text) in
        [("face", "😀"), ("accents", "é€;"), ("string", "print \"é\n€"), ("minus", "var é = \"€\" - 1;")]
    {
        let outcome = run_text(&format!("excerpt_{name}"), text, &["--source-excerpts"]);
        assert_eq!(outcome.code, Some(65), "{text}: {outcome:?}");
        assert!(outcome.stderr.starts_with("error: ") && !outcome.stderr.contains('\u{fffd}'), "{text}: {outcome:?}");
    }
    // What is no text at all is shown somehow.
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("excerpt_bytes.lox");
    std::fs::write(&file, b"\xff\xc3;\xe2\x82 print \xf0\x9f\x98").expect("the test's folder can be written");
    let outcome = lox(&["--source-excerpts", file.to_str().expect("UTF-8")], b"");
    assert_eq!(outcome.code, Some(65), "{outcome:?}");
}

/// Lines of many globals: `count` lines of 250 each.
fn many_globals(count: usize, end: &str) -> String {
    let line = |n: usize| (0..250).fold(String::new(), |line, i| line + &format!("var g{n}_{i};"));
    (0..count).fold(String::new(), |text, n| text + &line(n) + end + "\n")
}

#[test]
fn a_session_with_all_its_globals_goes_on() {
    let input = many_globals(70, "")
        + "var one_more; var another;\nprint 2;\ng0_1 = 3; print g0_1;\nvar g0_2 = 4; print g0_2;\n";
    let outcome = lox(&[], input.as_bytes());
    assert!(outcome.stdout.ends_with("> 2\n> 3\n> 4\n> \n"), "{outcome:?}");
    assert!(outcome.stderr.ends_with("Too many global variables in this session.\n"), "{outcome:?}");
    assert_eq!(outcome.code, Some(0));
}

#[test]
fn names_in_lines_that_do_not_compile_do_not_count() {
    let input = "print 1;\n".to_owned() + &many_globals(80, "+;") + "var a = 2; print a;\n";
    let outcome = lox(&[], input.as_bytes());
    assert!(outcome.stdout.ends_with("> 2\n> \n"), "{outcome:?}");
    assert!(!outcome.stderr.contains("Too many"), "{outcome:?}");
}

#[test]
fn a_heap_that_cannot_be_mapped_is_a_failure_of_one_line() {
    let command = format!("ulimit -v 1000000; exec {} --heap 256m /dev/null", env!("CARGO_BIN_EXE_lox"));
    let output = std::process::Command::new("sh").args(["-c", &command]).output().expect("there is a shell");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), errors.lines().count()), (Some(70), 1), "{errors}");
    assert!(errors.starts_with("lox: cannot "), "{errors}");
}
