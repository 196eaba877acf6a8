use super::*;

/// Writes down what it is told, as JSON again.
#[derive(Default)]
struct Echo {
    stack: Vec<serde_json::Value>,
    keys: Vec<String>,
}

impl Sink for Echo {
    type Error = ();
    fn null(&mut self) -> Result<(), ()> {
        self.stack.push(serde_json::Value::Null);
        Ok(())
    }
    fn bool(&mut self, value: bool) -> Result<(), ()> {
        self.stack.push(value.into());
        Ok(())
    }
    fn number(&mut self, value: f64) -> Result<(), ()> {
        self.stack.push(value.into());
        Ok(())
    }
    fn string(&mut self, value: &str) -> Result<(), ()> {
        self.stack.push(value.into());
        Ok(())
    }
    fn key(&mut self, value: &str) -> Result<(), ()> {
        self.keys.push(value.into());
        Ok(())
    }
    fn array(&mut self, values: usize) -> Result<(), ()> {
        let values = self.stack.split_off(self.stack.len() - values);
        self.stack.push(values.into());
        Ok(())
    }
    fn object(&mut self, pairs: usize) -> Result<(), ()> {
        let values = self.stack.split_off(self.stack.len() - pairs);
        let keys = self.keys.split_off(self.keys.len() - pairs);
        self.stack.push(keys.into_iter().zip(values).collect::<serde_json::Map<_, _>>().into());
        Ok(())
    }
}

fn floats(v: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match v {
        Value::Number(n) => n.as_f64().unwrap().into(),
        Value::Array(a) => a.iter().map(floats).collect::<Vec<_>>().into(),
        Value::Object(o) => o.iter().map(|(k, v)| (k.clone(), floats(v))).collect::<serde_json::Map<_, _>>().into(),
        other => other.clone(),
    }
}

#[test]
fn what_serde_json_reads_is_read_the_same() {
    for text in [
        "null",
        " [ ] ",
        "{}",
        "[1,-2.5e3,0,-0,1E+2,0.1]",
        r#"{"a":[true,false,null,{"b":"c"}],"":{}, "a b":[[],[[]]]}"#,
        r#""plain""#,
        r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00 é €""#,
        "\n\t [ \r\n 1 , 2 ]\n",
    ] {
        let mut echo = Echo::default();
        parse(text, &mut echo).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let expected: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(echo.stack, [floats(&expected)], "{text}");
    }
}

#[test]
fn what_serde_json_refuses_is_refused_with_its_place() {
    let deep = "[".repeat(200);
    for (text, line, column) in [
        ("", 1, 1),
        ("[1,2", 1, 5),
        ("[1,]", 1, 4),
        ("[1 2]", 1, 4),
        ("{\"a\":1,\n \"é\" 2}", 2, 6),
        ("{\"a\":1,}", 1, 8),
        ("{a:1}", 1, 2),
        ("tru", 1, 1),
        ("[01]", 1, 3),
        ("1.", 1, 3),
        ("-", 1, 2),
        ("1e999", 1, 1),
        ("\"a\nb\"", 1, 3),
        ("\"\\x\"", 1, 2),
        ("\"\\ud800\"", 1, 2),
        ("\"\\ud800\\u0041\"", 1, 2),
        ("\"\\u12g4\"", 1, 4),
        ("\"abc", 1, 5),
        ("[]\n\n]", 3, 1),
        ("[1}", 1, 3),
        (&deep, 1, 128),
    ] {
        assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
        let e = Census::of(text).expect_err(text);
        assert_eq!((e.line, e.column), (line, column), "{text}: {e}");
    }
}

#[test]
fn a_census_counts_values_and_not_keys() {
    let census = Census::of(r#"{"a":[1,2,"xyz"],"b":null}"#).unwrap();
    assert_eq!(census.nodes, 6);
    // The object, two keys, the array, the string.
    assert_eq!(census.heap_bytes, (16 + 32) + 2 * 24 + (16 + 24) + 24);
}
