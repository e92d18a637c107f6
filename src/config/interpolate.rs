//! `${NAME}` and `${file:/path}`. Why here, on the tree, before any type is looked at: every text in the file may hold
//! one, a platform's row included, and whatever comes out of the environment must be kept out of every later message.
//!
//! What was filled in is not looked into again: a key that happens to hold `${` stays as it is.

use std::path::{Path, PathBuf};

use super::report::Problems;
use super::tree::{Node, Value};
use crate::secret::Secret;

/// Largest secret file, in bytes: larger ones are a wrong path.
const LARGEST_FILE: u64 = 1024 * 1024;

/// Where names are looked up.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Fills in every `${…}` of every text below `node`, and names the files that were read in `files`.
pub(super) fn fill_in(
    node: &mut Node,
    environment: Environment<'_>,
    problems: &Problems,
    files: &mut Vec<PathBuf>,
) {
    match &mut node.value {
        Value::Text(text) if text.value.contains("${") => {
            let at = node.at;
            match filled(&text.value, environment, files) {
                Ok(value) => {
                    let typed = std::mem::replace(&mut text.value, value);
                    problems.hide(Secret::new(text.value.as_str()), typed.clone());
                    text.typed = Some(typed);
                }
                Err(wrong) => {
                    problems.push(super::report::Problem { at, what: wrong.what, help: wrong.help });
                    // Reported once: whoever reads this value next finds one that cannot be wrong again.
                    node.value = Value::Unknown;
                }
            }
        }
        Value::List(nodes) => {
            nodes.iter_mut().for_each(|node| fill_in(node, environment, problems, files));
        }
        Value::Map(entries) => {
            entries.iter_mut().for_each(|entry| fill_in(&mut entry.node, environment, problems, files));
        }
        _ => {}
    }
}

struct Wrong {
    what: String,
    help: Option<String>,
}

fn wrong(what: String, help: &str) -> Wrong {
    Wrong { what, help: Some(help.to_owned()) }
}

fn filled(typed: &str, environment: Environment<'_>, files: &mut Vec<PathBuf>) -> Result<String, Wrong> {
    const FORM: &str = "write `${NAME}` for an environment variable or `${file:/path}` for a file";
    let mut value = String::with_capacity(typed.len());
    let mut rest = typed;
    while let Some((before, after)) = rest.split_once("${") {
        let (inner, after) =
            after.split_once('}').ok_or_else(|| wrong("`${` without its `}`".to_owned(), FORM))?;
        value.push_str(before);
        match inner.strip_prefix("file:") {
            Some(path) => value.push_str(&file(path, files)?),
            None if is_name(inner) => value.push_str(&variable(inner, environment)?),
            None => return Err(wrong(format!("`${{{inner}}}` is not a name"), FORM)),
        }
        rest = after;
    }
    value.push_str(rest);
    Ok(value)
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn variable(name: &str, environment: Environment<'_>) -> Result<String, Wrong> {
    match environment(name) {
        None => Err(wrong(
            format!("the environment variable `{name}` is not set"),
            "set it, or write the value here",
        )),
        Some(value) if value.is_empty() => Err(wrong(
            format!("the environment variable `{name}` is empty"),
            "set it, or write the value here",
        )),
        Some(value) => Ok(value),
    }
}

fn file(path: &str, files: &mut Vec<PathBuf>) -> Result<String, Wrong> {
    let path = Path::new(path);
    files.push(path.to_owned());
    let bad = |why: &str| Wrong { what: format!("the file `{}` {why}", path.display()), help: None };
    let size = std::fs::metadata(path).map_err(|error| bad(&format!("cannot be read ({})", error.kind())))?;
    if !size.is_file() || size.len() > LARGEST_FILE {
        return Err(bad("is not a file of at most 1 MiB"));
    }
    let bytes = std::fs::read(path).map_err(|error| bad(&format!("cannot be read ({})", error.kind())))?;
    let mut text = String::from_utf8(bytes).map_err(|_| bad("is not UTF-8 text"))?;
    // Editors and `echo` end a file with a newline; it is not part of the secret.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err(bad("is empty")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".to_owned()),
            "LOOP" => Some("${A}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn fill(typed: &str) -> Result<String, String> {
        filled(typed, &environment, &mut Vec::new()).map_err(|wrong| wrong.what)
    }

    #[test]
    fn names_are_filled_in_once_and_anywhere_in_a_text() {
        assert_eq!(fill("${A}").unwrap(), "one");
        assert_eq!(fill("x ${A}-${A} $A {A} y").unwrap(), "x one-one $A {A} y");
        assert_eq!(fill("${LOOP}").unwrap(), "${A}");
    }

    #[test]
    fn what_cannot_be_filled_in_says_why() {
        for (typed, part) in [
            ("${B}", "`B` is not set"),
            ("${EMPTY}", "`EMPTY` is empty"),
            ("${A", "without its `}`"),
            ("${}", "not a name"),
            ("${A:-x}", "not a name"),
            ("${1A}", "not a name"),
            ("${file:/does/not/exist}", "cannot be read"),
            ("${file:/}", "is not a file"),
        ] {
            let what = fill(typed).unwrap_err();
            assert!(what.contains(part), "{typed}: {what}");
        }
    }

    #[test]
    fn one_trailing_newline_of_a_file_is_not_part_of_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        for (written, read) in
            [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("a\nb\n\n", "a\nb\n"), (" x", " x")]
        {
            let path = folder.path().join("key");
            std::fs::write(&path, written).unwrap();
            let mut files = Vec::new();
            assert_eq!(
                filled(&format!("${{file:{}}}", path.display()), &environment, &mut files).ok().unwrap(),
                read
            );
            assert_eq!(files, [path]);
        }
        std::fs::write(folder.path().join("bin"), [0xff, 0xfe]).unwrap();
        assert!(fill(&format!("${{file:{}/bin}}", folder.path().display())).unwrap_err().contains("UTF-8"));
    }
}
