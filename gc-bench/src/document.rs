//! The text that `gc-bench json` works on: a file, or what `cargo metadata` says.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::failure::Failure;
use crate::json_text::{Census, error_at};

/// A document found to be JSON, by this bench's parser and by serde_json alike.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) text: String,
    pub(crate) census: Census,
}

/// Reads the file, or asks cargo.
pub(crate) fn load(file: Option<&Path>) -> Result<Document, Failure> {
    match file {
        Some(path) => {
            let bytes = fs::read(path).map_err(|e| Failure::input(format!("cannot read {}: {e}", path.display())))?;
            check(bytes, &path.display().to_string())
        }
        None => check(cargo_metadata()?, "the output of cargo metadata"),
    }
}

fn check(bytes: Vec<u8>, name: &str) -> Result<Document, Failure> {
    let text = String::from_utf8(bytes).map_err(|e| {
        let place = error_at(e.as_bytes(), e.utf8_error().valid_up_to(), "not UTF-8");
        Failure::input(format!("{name} is not JSON: {place}"))
    })?;
    let census = Census::of(&text).map_err(|e| Failure::input(format!("{name} is not JSON: {e}")))?;
    let nodes = serde_json::from_str::<Nodes>(&text).map_err(|e| Failure::input(format!("{name} is not JSON: {e}")))?.0;
    if nodes != census.nodes {
        let mine = census.nodes;
        return Err(Failure::run(format!(
            "{name} has {nodes} values to serde_json and {mine} to gc-bench's own parser"
        )));
    }
    Ok(Document { text, census })
}

fn cargo_metadata() -> Result<Vec<u8>, Failure> {
    let advice = "give `gc-bench json` a file instead";
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["metadata", "--format-version", "1"]).stdin(Stdio::null());
    // The workspace this bench was built from, where it still is; else the one around the current
    // folder.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    if manifest.is_file() {
        command.arg("--manifest-path").arg(manifest);
    }
    let output = command.output().map_err(|e| Failure::input(format!("cannot run cargo metadata: {e}; {advice}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let why = said.lines().find(|l| l.starts_with("error")).unwrap_or("it gave no reason").to_owned();
        return Err(Failure::input(format!("cargo metadata failed: {why}; {advice}")));
    }
    Ok(output.stdout)
}

/// How many values serde_json sees, equal keys included.
struct Nodes(u64);

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Count;
        impl<'de> Visitor<'de> for Count {
            type Value = Nodes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Nodes, E> {
                Ok(Nodes(1))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Nodes, E> {
                Ok(Nodes(1))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Nodes, E> {
                Ok(Nodes(1))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Nodes, E> {
                Ok(Nodes(1))
            }
            fn visit_str<E>(self, _: &str) -> Result<Nodes, E> {
                Ok(Nodes(1))
            }
            fn visit_unit<E>(self) -> Result<Nodes, E> {
                Ok(Nodes(1))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Nodes, A::Error> {
                let mut sum = 1;
                while let Some(Nodes(n)) = values.next_element()? {
                    sum += n;
                }
                Ok(Nodes(sum))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Nodes, A::Error> {
                let mut sum = 1;
                while let Some((IgnoredAny, Nodes(n))) = pairs.next_entry()? {
                    sum += n;
                }
                Ok(Nodes(sum))
            }
        }
        deserializer.deserialize_any(Count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parsers_agree_on_what_cargo_says() {
        let document = load(None).unwrap();
        assert!(document.census.nodes > 1000);
    }

    #[test]
    fn equal_keys_are_two_values() {
        assert_eq!(check(br#"{"a":1,"a":2}"#.to_vec(), "x").unwrap().census.nodes, 3);
    }

    #[test]
    fn what_cannot_be_read_or_is_broken_is_one_line_with_its_place() {
        let e = load(Some(Path::new("/no/such/file"))).expect_err("no file");
        assert!(e.code() == 2 && e.line().contains("/no/such/file"), "{e}");
        let e = check(b"{\n  \"a\": [1, 2}\n".to_vec(), "some.json").expect_err("broken");
        assert_eq!((e.code(), e.line()), (2, "some.json is not JSON: line 2, column 13: `,` or `]` expected".into()));
        let e = check(b"[\"\xff\"]".to_vec(), "some.json").expect_err("not UTF-8");
        assert_eq!(e.line(), "some.json is not JSON: line 1, column 3: not UTF-8");
    }
}
