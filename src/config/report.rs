//! What is wrong with a configuration, and where. Why several problems at once: an operator who fixes one line at a time
//! against a gateway that only names the first mistake gives up on strictness; and why values are kept out: the value at
//! fault may be a credential, so a problem names keys and positions, and echoes only what cannot be one.

use std::cell::RefCell;
use std::fmt;

use crate::secret::Secret;

/// A place in the file. Lines and columns count from 1; line 0 is "no place" (a file that cannot be read, defaults).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u64,
    pub column: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub at: Position,
    /// What is wrong, as one sentence without a full stop.
    pub what: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Everything that is wrong with one file, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    file: String,
    problems: Vec<Problem>,
}

impl Report {
    /// A report of one problem with the file as a whole.
    pub fn of_file(file: &str, what: String) -> Self {
        let problem = Problem { at: Position::default(), what, help: None };
        Self { file: file.to_owned(), problems: vec![problem] }
    }

    /// The name of the file that it is about.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What is wrong, in the order of the file; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                out.write_str("\n")?;
            }
            out.write_str(&self.file)?;
            if problem.at.line > 0 {
                write!(out, ":{}:{}", problem.at.line, problem.at.column)?;
            }
            write!(out, ": {}", problem.what)?;
            if let Some(help) = &problem.help {
                write!(out, "; {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// A struct's name, its fields, and those that were given.
#[cfg(test)]
pub(super) type SeenStruct = (&'static str, &'static [&'static str], Vec<String>);

/// Where problems are collected while a file is read and resolved.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: RefCell<Vec<Problem>>,
    /// What `${…}` stood for, and how it was written: taken out of every message, whoever wrote it.
    hidden: RefCell<Vec<(Secret, String)>>,
    /// Every struct that was read.
    #[cfg(test)]
    pub structs: RefCell<Vec<SeenStruct>>,
}

/// Shorter values are not searched for: they would punch holes into ordinary words.
const SHORTEST_HIDDEN: usize = 4;

impl Problems {
    /// Notes a problem.
    pub fn add(&self, at: Position, what: impl Into<String>) {
        self.push(Problem { at, what: what.into(), help: None });
    }

    /// Notes a problem and what to do about it.
    pub fn add_with(&self, at: Position, what: impl Into<String>, help: impl Into<String>) {
        self.push(Problem { at, what: what.into(), help: Some(help.into()) });
    }

    /// Notes a problem that may or may not have a remedy.
    pub fn push(&self, mut problem: Problem) {
        for (value, typed) in self.hidden.borrow().iter() {
            problem.what = without(problem.what, value, typed);
            problem.help = problem.help.map(|help| without(help, value, typed));
        }
        problem.what = printable(problem.what);
        problem.help = problem.help.map(printable);
        self.found.borrow_mut().push(problem);
    }

    /// Keeps `value` out of every later problem; `typed` (`${NAME}`) stands in for it.
    pub fn hide(&self, value: Secret, typed: String) {
        if value.expose().len() >= SHORTEST_HIDDEN {
            self.hidden.borrow_mut().push((value, typed));
        }
    }

    /// Remembers which fields a struct has and which were given: for the test that the reference names them all.
    #[cfg(test)]
    pub fn saw_struct(
        &self,
        name: &'static str,
        fields: &'static [&'static str],
        value: &super::tree::Value,
    ) {
        if let super::tree::Value::Map(entries) = value {
            let given = entries.iter().map(|entry| entry.key.clone()).collect();
            self.structs.borrow_mut().push((name, fields, given));
        }
    }

    /// The report, if anything was wrong.
    pub fn into_report(self, file: &str) -> Option<Report> {
        let mut problems = self.found.into_inner();
        problems.sort_by_key(|problem| problem.at);
        problems.dedup();
        (!problems.is_empty()).then(|| Report { file: file.to_owned(), problems })
    }
}

fn without(text: String, value: &Secret, typed: &str) -> String {
    if text.contains(value.expose()) { text.replace(value.expose(), typed) } else { text }
}

/// Keys and names are repeated in messages; none may move the cursor of a terminal or begin a line of a log.
fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Notes a name (of a `what`) that is empty, or that could not be printed as it is.
pub(super) fn check_name(what: &str, name: &str, at: Position, problems: &Problems) {
    if name.is_empty() {
        problems.add(at, format!("{what} must not be empty"));
    } else if name.contains(char::is_control) {
        problems.add(at, format!("{what} must not hold control characters"));
    }
}

/// "did you mean …?" where one of `known` is close to `word`; else what is possible, where that is a short list.
pub(super) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const LONGEST_LIST: usize = 24;
    let known: Vec<&str> = known.into_iter().collect();
    let near = known.iter().map(|name| (distance(word, name), *name)).min();
    match near {
        Some((distance, name)) if distance <= (word.chars().count() / 3).max(1) => {
            Some(format!("did you mean `{name}`?"))
        }
        _ if known.is_empty() || known.len() > LONGEST_LIST => None,
        _ => Some(format!("known here: {}", known.join(", "))),
    }
}

/// Edits (insert, delete, replace, swap of neighbours) between two words, capitals and `-` for `_` not counted.
fn distance(left: &str, right: &str) -> usize {
    let plain = |text: &str| -> Vec<char> {
        text.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
    };
    let (left, right) = (plain(left), plain(right));
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut this = vec![row + 1];
        for (column, b) in right.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&last, column) + usize::from(a != b))
                .min(at(&last, column + 1) + 1)
                .min(at(&this, column) + 1);
            let swapped =
                row > 0 && column > 0 && left.get(row - 1) == Some(b) && right.get(column - 1) == Some(a);
            if swapped {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            this.push(best);
        }
        before_last = std::mem::replace(&mut last, this);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_one_edit_away() {
        for (typo, meant) in [
            ("acounts", "accounts"),
            ("listne", "listen"),
            ("Admin-Listen", "admin_listen"),
            ("rote", "routes"),
        ] {
            assert!(distance(typo, meant) <= 2, "{typo}: {}", distance(typo, meant));
        }
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn what_is_far_off_gets_the_list_instead_of_a_guess() {
        assert_eq!(suggestion("zzz", ["cert", "key"]).as_deref(), Some("known here: cert, key"));
        assert_eq!(suggestion("kye", ["cert", "key"]).as_deref(), Some("did you mean `key`?"));
        assert_eq!(suggestion("x", []), None);
    }

    #[test]
    fn a_hidden_value_is_taken_out_of_later_problems() {
        let problems = Problems::default();
        problems.hide(Secret::new("sk-canary"), "${KEY}".to_owned());
        problems.add_with(Position { line: 2, column: 3 }, "bad sk-canary here", "not sk-canary");
        let report = problems.into_report("weir.yaml").unwrap();
        assert_eq!(report.to_string(), "weir.yaml:2:3: bad ${KEY} here; not ${KEY}");
    }
}
