//! Where output goes, and when: terminals, pipes that are full, pipes that nobody reads, full
//! devices.

mod common;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Long enough on any machine that does what it should.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program of a test, as a command.
fn program(name: &str, text: &str, arguments: &[&str]) -> Command {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.lox"));
    std::fs::write(&file, text).expect("the test's folder can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lox"));
    command.args(arguments).arg(file).stdin(Stdio::null());
    command
}

/// How a child ends by itself, if it does.
fn end(child: &mut Child) -> Option<ExitStatus> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Lines as they come.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    receive
}

/// A terminal: the side that a person has, and the one for a program.
fn terminal() -> (File, File) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("ours");
    unlockpt(&terminal).expect("ours");
    let name = ptsname(&terminal, Vec::new()).expect("it has a name");
    let name = Path::new(name.to_str().expect("ASCII")).to_owned();
    let side = OpenOptions::new().read(true).write(true).open(name).expect("its other side");
    (File::from(terminal), side)
}

#[test]
fn a_program_whose_output_nobody_reads_ends() {
    for text in ["while (true) print \"line\";", "fun f() { while (true) print \"line\"; } spawn(f); while (true) {}"] {
        let mut child = program("nobody_reads", text, &[]).stdout(Stdio::piped()).spawn().expect("lox starts");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        assert_eq!(line, "line\n");
        drop(out);
        assert_eq!(end(&mut child).and_then(|status| status.code()), Some(141), "{text}");
    }
}

#[test]
fn a_prompt_whose_output_nobody_reads_ends() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lox"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lox starts");
    drop(child.stdout.take());
    let mut input = child.stdin.take().expect("piped");
    let _ = input.write_all(b"print 1;\n");
    assert_eq!(end(&mut child).and_then(|status| status.code()), Some(141));
    let mut errors = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
    assert_eq!(errors, "");
}

#[test]
fn a_thread_that_prints_to_a_full_pipe_stops_nobody() {
    let text = "class N { init(n) { this.n = n; } }\nfun f() { while (true) print \"a line that is printed again and again\"; }\n\
                spawn(f); while (true) { var l = nil; for (var i = 0; i < 5000; i = i + 1) l = N(l); }";
    for gc in ["load", "page", "stw"] {
        let mut command = program(&format!("full_pipe_{gc}"), text, &["--gc", gc, "--gc-log", "--heap", "16m"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("lox starts");
        let log = lines(child.stderr.take().expect("piped"));
        let begin = Instant::now();
        let mut cycles = 0;
        while cycles < 50 && begin.elapsed() < PATIENCE {
            cycles += usize::from(log.recv_timeout(PATIENCE).is_ok_and(|line| line.contains("cycle")));
        }
        child.kill().expect("it runs for ever");
        let _ = child.wait();
        assert_eq!(cycles, 50, "{gc}");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    let text = "class N { init(n) { this.n = n; } }\n\
                for (var k = 0; k < 100; k = k + 1) { var l = nil; for (var i = 0; i < 10000; i = i + 1) l = N(l); }\n\
                print \"done\";";
    for gc in ["load", "page", "stw"] {
        let mut command = program(&format!("unread_log_{gc}"), text, &["--gc", gc, "--gc-log", "--heap", "4m"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("lox starts");
        let log = child.stderr.take().expect("piped");
        // Full after a few cycles.
        rustix::pipe::fcntl_setpipe_size(&log, 4096).expect("a pipe");
        let done = lines(child.stdout.take().expect("piped")).recv_timeout(PATIENCE);
        assert_eq!(done.as_deref(), Ok("done"), "{gc}");
        // All of it is written to the end, once somebody reads.
        let log = lines(log);
        assert_eq!(end(&mut child).and_then(|status| status.code()), Some(0), "{gc}");
        let cycles = log.iter().filter(|line| line.contains("MiB live")).count();
        assert!(cycles > 10, "{gc}: {cycles} cycles");
    }
}

#[test]
fn what_was_printed_shows_before_a_wait() {
    let text = "fun f() { while (true) {} }\nvar t = spawn(f); print \"waiting\"; join(t);";
    let mut child = program("before_a_wait", text, &[]).stdout(Stdio::piped()).spawn().expect("lox starts");
    let first = lines(child.stdout.take().expect("piped")).recv_timeout(PATIENCE);
    child.kill().expect("it runs for ever");
    let _ = child.wait();
    assert_eq!(first.as_deref(), Ok("waiting"));
}

#[test]
fn a_terminal_shows_each_line_at_once() {
    let (terminal, side) = terminal();
    let mut child =
        program("on_a_terminal", "print \"first\"; while (true) {}", &[]).stdout(side).spawn().expect("lox starts");
    let first = lines(terminal).recv_timeout(PATIENCE);
    child.kill().expect("it runs for ever");
    let _ = child.wait();
    assert_eq!(first.as_deref(), Ok("first"));
}

#[test]
fn a_prompt_on_a_terminal_keeps_its_history_in_a_folder_that_it_makes() {
    let (mut terminal, side) = terminal();
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("history");
    let _ = std::fs::remove_dir_all(&home);
    let mut child = Command::new(env!("CARGO_BIN_EXE_lox"))
        .env("XDG_STATE_HOME", home.join("state"))
        .env("TERM", "xterm")
        .stdin(side.try_clone().expect("a descriptor"))
        .stdout(side)
        .spawn()
        .expect("lox starts");
    let shown = lines(terminal.try_clone().expect("a descriptor"));
    // Again and again: what is typed before the prompt has set the terminal is thrown away.
    let begin = Instant::now();
    let mut answered = false;
    while !answered && begin.elapsed() < PATIENCE {
        terminal.write_all(b"print 6 * 7;\r").expect("it reads");
        while let Ok(line) = shown.recv_timeout(Duration::from_secs(1)) {
            answered |= line.trim_end().ends_with("42");
            if answered {
                break;
            }
        }
    }
    while begin.elapsed() < PATIENCE && child.try_wait().expect("it is our child").is_none() {
        terminal.write_all(&[4]).expect("it reads");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(end(&mut child).and_then(|status| status.code()), Some(0));
    let history = std::fs::read_to_string(home.join("state/lox_history")).expect("it is there");
    assert!(history.contains("print 6 * 7;"), "{history}");
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("Linux has it")
}

/// Whatever prints first: a script, one that would go on for ever, another thread, help, a prompt.
/// Where nothing is printed, nothing has failed.
#[test]
fn a_full_disk_ends_the_program_with_a_line() {
    const SAID: &str = "lox: cannot write to standard output: No space left on device (os error 28)\n";
    let printing = [
        ("print 1;", 74),
        ("while (true) print \"line\";", 74),
        ("fun f() { while (true) print \"line\"; } spawn(f); while (true) {}", 74),
        ("print 1; nil();", 74),
        ("var silent = 1;", 0),
    ];
    let run = |command: &mut Command, what: &str, code: i32| {
        let mut child = command.stdout(full()).stderr(Stdio::piped()).spawn().expect("lox starts");
        assert_eq!(end(&mut child).and_then(|status| status.code()), Some(code), "{what}");
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        assert_eq!(said, if code == 74 { SAID } else { "" }, "{what}");
    };
    for (number, (text, code)) in printing.into_iter().enumerate() {
        run(&mut program(&format!("full_disk_{number}"), text, &[]), text, code);
    }
    let lox = || Command::new(env!("CARGO_BIN_EXE_lox"));
    run(lox().arg("--help").stdin(Stdio::null()), "help", 74);
    run(lox().stdin(Stdio::null()), "prompt", 74);
}

#[test]
fn input_that_cannot_be_read_is_told() {
    let folder = File::open("/").expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_lox")).stdin(folder).output().expect("lox starts");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(74));
    assert!(said.starts_with("lox: cannot read standard input: ") && said.lines().count() == 1, "{said}");
}

/// Where standard error is full as well, the code alone tells.
#[test]
fn with_both_outputs_full_the_exit_code_tells() {
    for (text, code) in [("print 1;", 74), ("var a = nil; a();", 70), ("print ;", 65)] {
        let mut command = program(&format!("full_{code}"), text, &["--stats", "--gc-log"]);
        let status = command.stdout(full()).stderr(full()).status().expect("lox starts");
        assert_eq!(status.code(), Some(code), "{text}");
    }
    for (arguments, code) in [(&["no/such/file.lox"][..], 74), (&["--heap", "1k"], 64), (&["--what"], 64), (&[], 74)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lox"));
        let status = command.args(arguments).stdin(Stdio::null()).stdout(full()).stderr(full()).status();
        assert_eq!(status.expect("lox starts").code(), Some(code), "{arguments:?}");
    }
}
