//! What was noted and has not reached the store yet, as lines of a file. Why a file beside the store and no commit: a line that
//! the kernel has taken outlives the process (`kill -9` loses none), costs a request a microsecond or two and waits for no disk.
//! What a failing machine may take is what its last second noted.
//!
//! A [`Segment`] holds what goes to the store as one flush, under the process's own name and a number; it is removed once the
//! store has it. Whoever shares the folder takes in what the dead have left, and a number counts once. The system says who is
//! dead: the living hold a lock on their segments.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{DirEntry, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::prices::Prices;
use super::{Sums, batches, report};
use crate::store::{Records, StoreError};

/// As the names of the processes' sums do.
const BEGINS: &str = "usage_";
const ENDS: &str = ".journal";
const HALF: &str = ".half";

/// The first line begins so; the name and the number follow.
const HEADER: &str = "weir-usage-1";

/// Room that a new file has, in bytes, so that most lines do not make it longer.
const ROOM: u64 = 256 * 1024;

/// A segment does not grow beyond this, in bytes: the store has then been out of reach for a long time.
const MOST: u64 = 64 * 1024 * 1024;

/// After which a file that never came to be a segment is removed.
const STALE: Duration = Duration::from_secs(60);

/// Why something could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} is not what was left there")]
    Damaged(String),
}

/// Where segments stand, and whose they are.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    owner: String,
}

/// What one flush will bring to the store.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    file: File,
    end: AtomicU64,
    is_failing: AtomicBool,
}

impl Journal {
    /// A journal in `folder`, of the process that adds its usage under the name `owner`.
    pub fn new(folder: PathBuf, owner: String) -> Self {
        Self { folder, owner }
    }

    /// Begins the segment of flush `number`.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub fn begin(&self, number: u64) -> std::io::Result<Segment> {
        let path = self.folder.join(format!("{}-{number}{ENDS}", self.owner));
        let half = path.with_extension(HALF.trim_start_matches('.'));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
        // Before it has its name nobody takes it for one of the dead.
        file.try_lock().map_err(std::io::Error::from)?;
        let header = format!("{HEADER} {} {number}\n", self.owner);
        file.write_all(header.as_bytes())?;
        file.set_len(ROOM)?;
        std::fs::rename(&half, &path)?;
        let end = AtomicU64::new(header.len() as u64);
        Ok(Segment { path, file, end, is_failing: AtomicBool::new(false) })
    }
}

impl Segment {
    /// Adds one line. A line that cannot be written is told once: the usage is then lost only if the process dies.
    pub fn write(&self, key: &str, sums: &Sums) {
        let mut line = String::with_capacity(key.len() + 48);
        line.push_str(key);
        for column in sums.columns() {
            // A string takes whatever is written to it.
            let _ = write!(line, "\t{column}");
        }
        line.push('\n');
        let length = line.len() as u64;
        let at = self.end.fetch_add(length, Ordering::Relaxed);
        let written = if at.saturating_add(length) > MOST {
            Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge))
        } else {
            self.file.write_all_at(line.as_bytes(), at)
        };
        if let Err(error) = written
            && !self.is_failing.swap(true, Ordering::Relaxed)
        {
            tracing::error!(%error, "usage cannot be written down: a crash would lose it");
        }
    }

    /// Removes it: the store has it all.
    pub fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, file = %self.path.display(), "a segment of usage stays; it counts once all the same");
        }
    }
}

/// Takes in what the dead have left in `folder`.
///
/// # Errors
/// Where one cannot be read or added; it stays.
pub async fn take_in(folder: &Path, records: &dyn Records, prices: &Prices) -> Result<(), JournalError> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(BEGINS)) else { continue };
        if name.ends_with(ENDS) {
            take(&entry.path(), records, prices).await?;
        } else if name.ends_with(HALF) && is_stale(&entry) {
            gone(std::fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

async fn take(path: &Path, records: &dyn Records, prices: &Prices) -> Result<(), JournalError> {
    let file = match File::open(path) {
        // Somebody else was quicker.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    let bytes = std::fs::read(path)?;
    let Some((owner, number, sums)) = read(&String::from_utf8_lossy(&bytes)) else {
        // Kept for whoever wants to look, and not looked at again.
        std::fs::rename(path, path.with_extension("damaged"))?;
        return Err(JournalError::Damaged(path.display().to_string()));
    };
    let rows = sums.into_iter().map(|(key, mut sums)| {
        if let Some((_, [_, _, _, platform, model])) = report::parse(&key) {
            sums.cost_micros = prices.cost(&platform, &model, &sums);
        }
        (key, sums)
    });
    for (sequence, batch) in batches(number, rows.collect()) {
        records.add(&owner, sequence, batch).await?;
    }
    gone(std::fs::remove_file(path))?;
    Ok(())
}

/// Whose it is, its number, and the sums by key. Lines that were being written when their writer died are left out.
fn read(text: &str) -> Option<(String, u64, BTreeMap<String, Sums>)> {
    let mut lines = text.split('\n').map(|line| line.trim_matches('\0'));
    let mut words = lines.next()?.strip_prefix(HEADER)?.split_ascii_whitespace();
    let (owner, number) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
    let mut all: BTreeMap<String, Sums> = BTreeMap::new();
    for line in lines {
        let mut cells = line.split('\t');
        let Some(key) = cells.next().filter(|key| report::parse(key).is_some()) else { continue };
        let columns: Result<Vec<u64>, _> = cells.map(str::parse).collect();
        if let Some(columns) = columns.ok().filter(|columns| columns.len() == super::COLUMNS.len()) {
            all.entry(key.to_owned()).or_default().add(&Sums::of_columns(columns));
        }
    }
    Some((owner, number, all))
}

fn is_stale(entry: &DirEntry) -> bool {
    let changed = entry.metadata().and_then(|metadata| metadata.modified());
    changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > STALE))
}

/// That somebody else has removed it is as well.
fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    removed.or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
