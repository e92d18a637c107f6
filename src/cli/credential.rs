//! Credentials as operators hand them over: in a file or on standard input, never on the command line, where every user of the machine
//! can read them.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Largest credential file, in bytes.
const LARGEST_FILE: u64 = 64 * 1024;

/// The parts of a credential: a key alone, or lines of `name=value`.
pub(super) fn credential(file: &Path) -> anyhow::Result<Vec<(String, Secret)>> {
    const NAMES: [&str; 5] = ["api_key", "access_key", "secret_key", "app_id", "api_secret"];
    let mut text = Zeroizing::new(String::new());
    if file == Path::new("-") {
        std::io::stdin().lock().take(LARGEST_FILE).read_to_string(&mut text).context("standard input")?;
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("{}", file.display()))?;
        opened.take(LARGEST_FILE).read_to_string(&mut text).with_context(|| format!("{}", file.display()))?;
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let named = |line: &&str| {
        let (name, value) = line.split_once('=')?;
        NAMES.contains(&name.trim()).then(|| (name.trim().to_owned(), Secret::new(value.trim())))
    };
    match lines.as_slice() {
        [] => Ok(Vec::new()),
        [alone] if named(alone).is_none() => Ok(vec![("api_key".to_owned(), Secret::new(*alone))]),
        lines => {
            let parts = lines.iter().map(named).collect::<Option<Vec<_>>>();
            parts.with_context(|| {
                format!("a credential is a key alone, or lines of NAME=VALUE with {}", NAMES.join(", "))
            })
        }
    }
}
