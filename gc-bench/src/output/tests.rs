use std::os::unix::fs::symlink;

use super::*;

fn args(json: Option<&Path>, html: Option<&Path>, out: Option<&Path>) -> OutputArgs {
    let owned = |path: Option<&Path>| path.map(Path::to_owned);
    OutputArgs { json: owned(json), html: owned(html), out: owned(out), force: false }
}

/// The same, where earlier reports do not matter.
fn forced(json: Option<&Path>, html: Option<&Path>, out: Option<&Path>) -> OutputArgs {
    OutputArgs { force: true, ..args(json, html, out) }
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("gc-bench-output-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn only_what_was_asked_for_is_written() {
    let dir = scratch("asked");
    let file = dir.join("a.json");
    let both = Outputs::prepare(&args(None, None, Some(&dir))).unwrap();
    assert_eq!(both.files().count(), 2);
    let json = Outputs::prepare(&args(Some(&file), None, None)).unwrap();
    assert_eq!(json.files().collect::<Vec<_>>(), [file.as_path()]);
    let dash = Outputs::prepare(&args(Some(Path::new("-")), None, None)).unwrap();
    assert_eq!((dash.files().count(), dash.use_standard_output()), (0, true));
    let dash = Outputs::prepare(&args(None, Some(Path::new("-")), None)).unwrap();
    assert_eq!((dash.files().count(), dash.use_standard_output()), (0, true));
    let e = Outputs::prepare(&args(Some(Path::new("-")), Some(Path::new("-")), None)).expect_err("both");
    assert!(e.code() == 2 && e.line().contains("standard output cannot hold both"), "{e}");
    let dash = Outputs::prepare(&args(Some(Path::new("-")), None, Some(&dir))).unwrap();
    assert_eq!(dash.files().count(), 1);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "preparing leaves nothing behind");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn files_appear_whole_and_replace_the_last_ones() {
    let dir = scratch("whole");
    let mut outputs = Outputs::prepare(&args(None, None, Some(&dir.join("deep/er")))).unwrap();
    outputs.write("{}\n", "<p>").unwrap();
    outputs.write("{1}\n", "<b>").unwrap();
    drop(outputs);
    let read = |name: &str| fs::read_to_string(dir.join("deep/er").join(name)).unwrap();
    assert_eq!((read("gc-bench-report.json"), read("gc-bench-report.html")), ("{1}\n".into(), "<b>".into()));
    assert_eq!(fs::read_dir(dir.join("deep/er")).unwrap().count(), 2, "no temporary file is left");
    fs::remove_dir_all(dir).unwrap();
}

/// A device that were replaced by a file would be gone for the whole system.
#[test]
fn a_link_or_a_device_is_not_replaced() {
    let dir = scratch("special");
    let (file, link, full) = (dir.join("file"), dir.join("link"), Path::new("/dev/full"));
    fs::write(&file, "old").unwrap();
    symlink("file", &link).unwrap();
    Outputs::prepare(&forced(Some(&link), None, None)).unwrap().write("{}", "").unwrap();
    assert!(link.is_symlink() && fs::read_to_string(&file).unwrap() == "{}");
    let e = Outputs::prepare(&args(Some(&link), Some(&file), None)).expect_err("one file");
    assert!(e.code() == 2 && e.line().contains("cannot hold both"), "{e}");
    // By a link, so that what fails here does no harm.
    let device = dir.join("full");
    symlink(full, &device).unwrap();
    let e = Outputs::prepare(&forced(Some(&device), Some(&file), None)).unwrap().write("{1}", "<p>");
    let e = e.expect_err("no space");
    assert!(e.code() == 1 && e.line().contains("No space left"), "{e}");
    assert!(device.is_symlink() && !fs::metadata(full).unwrap().is_file());
    assert_eq!(fs::read_to_string(&file).unwrap(), "{}", "neither is written");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn an_earlier_report_is_overwritten_by_force_alone() {
    let dir = scratch("earlier");
    let (file, link, page) = (dir.join("file"), dir.join("link"), dir.join("page"));
    fs::write(&file, "old").unwrap();
    symlink("file", &link).unwrap();
    for target in [&file, &link] {
        let e = Outputs::prepare(&args(Some(target), None, None)).expect_err("it is there");
        assert!(e.code() == 2 && e.line().contains(&target.display().to_string()), "{e}");
        assert!(e.line().contains("is there already") && e.line().contains("--force"), "{e}");
        Outputs::prepare(&forced(Some(target), None, None)).expect("forced");
    }
    // Nothing is lost with an empty file, or a device.
    fs::write(&page, "").unwrap();
    Outputs::prepare(&args(Some(Path::new("/dev/null")), Some(&page), None)).expect("nothing is there");
    fs::write(&page, "old").unwrap();
    let e = Outputs::prepare(&args(Some(&file), Some(&page), None)).expect_err("both are there");
    assert!(e.line().contains("/file and ") && e.line().contains("/page are there already"), "{e}");
    assert_eq!((fs::read_to_string(&file).unwrap(), fs::read_dir(&dir).unwrap().count()), ("old".into(), 3));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_report_that_is_never_written_leaves_no_folder() {
    let dir = scratch("gone");
    drop(Outputs::prepare(&args(None, None, Some(&dir.join("deep/er")))).unwrap());
    assert!(!dir.join("deep").exists());
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_cannot_be_written_is_refused_beforehand() {
    let dir = scratch("refused");
    let file = dir.join("file");
    fs::write(&file, "x").unwrap();
    for bad in [
        args(None, None, Some(&file)),
        args(None, None, Some(&file.join("below"))),
        args(None, None, Some(Path::new("/proc/nowhere"))),
        args(Some(&dir), None, None),
        args(Some(&dir.join("no/such/folder.json")), None, None),
        args(None, Some(Path::new("")), None),
        args(Some(&dir.join("same")), Some(&dir.join("same")), None),
    ] {
        let e = Outputs::prepare(&bad).expect_err(&format!("{bad:?}"));
        assert_eq!(e.code(), 2, "{e}");
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    fs::remove_dir_all(dir).unwrap();
}
