//! One vector: one scenario or one fault, one file.

use serde_json::{Map, Value, json};

/// One file of `spec/vectors`: `{"about", "input", "expect"}`.
pub struct Case {
    /// Path under `spec/vectors`, with `/`.
    pub path: String,
    about: String,
    input: Map<String, Value>,
    expect: Map<String, Value>,
    cddl: Vec<(&'static str, Vec<u8>)>,
}

impl Case {
    /// A case with nothing in it yet.
    pub(super) fn new(path: &str, about: &str) -> Self {
        Self {
            path: format!("{path}.json"),
            about: about.to_owned(),
            input: Map::new(),
            expect: Map::new(),
            cddl: Vec::new(),
        }
    }

    /// What is given.
    pub(super) fn input(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.input.insert(name.to_owned(), value.into());
        self
    }

    /// Bytes that are given.
    pub(super) fn given(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.input(name, hex(bytes))
    }

    /// What comes out.
    pub(super) fn expect(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.expect.insert(name.to_owned(), value.into());
        self
    }

    /// Bytes that come out.
    pub(super) fn gives(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.expect(name, hex(bytes))
    }

    /// Bytes that come out, and that `wire.cddl` has a rule for.
    pub(super) fn gives_item(
        mut self,
        name: &str,
        rule: &'static str,
        bytes: impl AsRef<[u8]>,
    ) -> Self {
        self.cddl.push((rule, bytes.as_ref().to_vec()));
        self.gives(name, bytes)
    }

    /// The items for which `wire.cddl` has a rule.
    #[must_use]
    pub fn cddl(&self) -> &[(&'static str, Vec<u8>)] {
        &self.cddl
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "{:#}\n",
            json!({ "about": self.about, "input": self.input, "expect": self.expect })
        )
    }
}

/// Bytes as they stand in vectors: lower-case hexadecimal.
pub(super) fn hex(bytes: impl AsRef<[u8]>) -> String {
    use std::fmt::Write as _;
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
