//! The house has floors, and a module may only import from lower ones (see the tour in `src/lib.rs`). Why a test: the
//! compiler does not mind an upward import, and after a few of them nothing can be understood by itself any more.

#![expect(clippy::expect_used, reason = "a test stops where its world is not as it must be")]

use std::path::{Path, PathBuf};

/// Top-level modules by floor, from the ground up. Neighbours on one floor do not import each other either.
const FLOORS: &[&[&str]] = &[
    &["clock", "fault", "glob", "ids", "limits", "metrics", "secret", "web_url"],
    &["keybook", "opaque", "redis_link", "sse"],
    &["api"],
    &["dialect"],
    &["platform"],
    &["identity", "pool", "store", "upstream", "vault"],
    &["browser", "oauth"],
    &["gateway"],
    &["config"],
    &["http"],
    &["fake"],
    &["cli"],
];

/// What may be imported although it stands on the same floor, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    // The one error names nothing else; ids and metrics are words of the ground floor.
    ("fault", "ids"),
];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The top-level modules that a line names, as `crate::module`.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices("crate::").filter_map(|(at, mark)| {
        let rest = &code[at + mark.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        Some(&rest[..end]).filter(|name| !name.is_empty())
    })
}

fn offences(module: &str, text: &str) -> Vec<String> {
    let Some(own) = floor(module) else { return vec![format!("{module} stands on no floor")] };
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for name in named(line).filter(|name| *name != module) {
            let allowed = EXCEPTIONS.contains(&(module, name)) || floor(name).is_none_or(|other| other < own);
            if !allowed {
                found.push(format!("line {}: {module} imports {name}", number + 1));
            }
        }
    }
    found
}

#[test]
fn modules_import_only_from_lower_floors() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    assert!(all.len() > 20, "the source was not found");
    let mut wrong = Vec::new();
    for path in all {
        let inner = path.strip_prefix(&source).expect("inside").with_extension("");
        let module = inner.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        // Tests may build what they test out of anything.
        let is_test = inner.components().any(|part| part.as_os_str() == "tests");
        if module == "lib" || module == "main" || is_test {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        wrong.extend(offences(&module, &text).into_iter().map(|what| format!("{}: {what}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_upward_and_a_sideways_import_are_seen() {
    assert_eq!(offences("dialect", "use crate::platform::judge::Verdict;").len(), 1);
    assert_eq!(offences("pool", "fn f() -> crate::store::Store {}").len(), 1);
    assert_eq!(offences("pool", "use crate::{ids::TenantId};").len(), 0);
    assert_eq!(offences("pool", "use crate::platform::judge::Verdict; // not crate::gateway").len(), 0);
}
