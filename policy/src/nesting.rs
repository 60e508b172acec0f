//! Depth checks, because Cedar recurses with its input (POL-1).
//!
//! A few kilobytes of brackets would exhaust the stack, which no error handling survives. So the
//! text is bounded before it is parsed, and the parsed tree before it is evaluated.

use serde_json::Value;

/// The byte offset at which the text opens more than `max` things that it has not closed, or
/// `None`. Counted are brackets of all kinds and `if`, which needs none to nest.
pub(crate) fn too_deep(text: &str, max: usize) -> Option<usize> {
    let (mut brackets, mut ifs) = (0usize, 0usize);
    tokens(text).find_map(|(at, token)| {
        match token {
            b"(" | b"[" | b"{" => brackets += 1,
            b")" | b"]" | b"}" => brackets = brackets.saturating_sub(1),
            // A policy ends here, and with it every `if` in it.
            b";" => ifs = 0,
            b"if" => ifs += 1,
            _ => {}
        }
        (brackets + ifs > max).then_some(at)
    })
}

/// The byte offset at which one policy has more than `max` characters of operators, or `None`:
/// a chain of them nests as brackets do.
pub(crate) fn too_long(text: &str, max: usize) -> Option<usize> {
    let mut operators = 0usize;
    tokens(text).find_map(|(at, token)| {
        match token {
            b"&" | b"|" | b"!" | b"." | b"[" | b"+" | b"-" | b"*" => operators += 1,
            b";" => operators = 0,
            _ => {}
        }
        (operators > max).then_some(at)
    })
}

/// How many levels of operators a policy, in Cedar's JSON form, has.
pub(crate) fn depth(policy: &Value) -> usize {
    let conditions = policy.get("conditions").and_then(Value::as_array);
    let conditions = conditions.map_or(&[][..], Vec::as_slice);
    // The conditions are evaluated as one chain of `&&`. Each operator is two levels of JSON: its
    // name, and its operands.
    let deepest = conditions.iter().map(json_levels).max().unwrap_or(0);
    conditions.len() + deepest.div_ceil(2)
}

fn json_levels(node: &Value) -> usize {
    match node {
        Value::Object(members) => 1 + members.values().map(json_levels).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(json_levels).max().unwrap_or(0),
        _ => 0,
    }
}

/// The words and single characters of a text outside its strings and comments.
fn tokens(text: &str) -> impl Iterator<Item = (usize, &[u8])> {
    let bytes = text.as_bytes();
    let mut next = 0;
    std::iter::from_fn(move || {
        loop {
            let at = next;
            let &byte = bytes.get(at)?;
            next = at + 1;
            match byte {
                b'"' => next = end_of_string(bytes, next),
                b'/' if bytes.get(next) == Some(&b'/') => next = end_of_line(bytes, next),
                _ => {
                    if is_word(byte) {
                        next = end_of_word(bytes, next);
                    }
                    return Some((at, bytes.get(at..next)?));
                }
            }
        }
    })
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn end_of_word(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|&byte| is_word(byte)) {
        at += 1;
    }
    at
}

fn end_of_line(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|&byte| byte != b'\n') {
        at += 1;
    }
    at
}

fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes.get(at) {
            None => return bytes.len(),
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{depth, too_deep, too_long};

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        assert_eq!(too_deep("\"((((\\\"((((\" // ((((((\n()", 1), None);
    }

    #[test]
    fn closed_brackets_do_not_count_and_open_ones_do() {
        assert_eq!(too_deep("()[]{}(())", 2), None);
        assert_eq!(too_deep("()[]{([", 2), Some(6));
    }

    #[test]
    fn ifs_count_until_the_policy_ends_and_only_as_whole_words() {
        assert_eq!(too_deep("if iffy; if gif_if;", 1), None);
        assert_eq!(too_deep("if a then if b", 1), Some(10));
    }

    #[test]
    fn an_unclosed_string_ends_with_the_text() {
        assert_eq!(too_deep("\"abc\\", 1), None);
    }

    #[test]
    fn operators_count_per_policy_and_outside_of_strings() {
        assert_eq!(too_long("a.b && \"&&&&\"; c.d && e;", 3), None);
        assert_eq!(too_long("a.b && c.d", 3), Some(8));
    }

    #[test]
    fn conditions_add_to_the_depth_of_the_deepest_one() {
        let leaf = || json!({"Var": "context"});
        let not = |arg| json!({"kind": "when", "body": {"!": {"arg": arg}}});
        assert_eq!(depth(&json!({"conditions": []})), 0);
        assert_eq!(depth(&json!({"conditions": [leaf()]})), 1 + 1);
        assert_eq!(depth(&json!({"conditions": [not(leaf())]})), 1 + 2);
        assert_eq!(depth(&json!({"conditions": [not(leaf()), leaf()]})), 2 + 2);
    }
}
