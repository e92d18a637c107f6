//! What must outlive a restart: keys, accounts, audit, usage, leases. Why embedded, in one file, unless Redis is asked for:
//! a gateway that needs a database server before it can say hello is not tried out.
//!
//! [`Records`] is what can be kept, wherever; [`Store`] keeps it in a file, [`Redis`] where many processes reach it. [`Keys`] and [`Audit`] are built on top. Everything that a
//! request needs is held in memory and read from there.

mod audit;
mod embedded;
mod keys;
mod records;
mod redis;

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition};

pub use self::redis::Redis;
pub use audit::{Act, Audit, Broken, Entry, Verified};
pub use keys::Keys;
pub use records::{Expect, MAX_PAGE, Mark, Name, News, Records, Row, Write, all, sweep};

/// Name of the file in the store's directory.
pub const FILE_NAME: &str = "weir.redb";

/// Version of what is in the file. A newer one is not touched.
const SCHEMA: u64 = 2;

/// Memory that the file's pages may take, in bytes: what requests need is held in memory anyway.
const PAGE_CACHE: usize = 8 * 1024 * 1024;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("the store {} is in use by another process (is the gateway running?)", .0.display())]
    Locked(PathBuf),
    /// It is not one, or it is damaged.
    #[error("the store {} is damaged or no store at all: restore it from a backup, or move it away", path.display())]
    Corrupt { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    /// Written by a later version.
    #[error("the store {} was written by a newer version of Weir (schema {found}, this one knows {SCHEMA})", path.display())]
    Newer { path: PathBuf, found: u64 },
    /// The file system said no.
    #[error("the store {} cannot be opened: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// Reading or writing failed.
    #[error("the store failed: {0}")]
    Db(Box<redb::Error>),
    /// A record that cannot be read.
    #[error("the record {id:?} in the store cannot be read: {problem}")]
    Record { id: String, problem: String },
    /// Another process has taken over.
    #[error("the store was handed over to another process: nothing can be changed here any more")]
    Released,
    /// A condition of a change does not hold: somebody else was quicker.
    #[error("it was changed by somebody else meanwhile")]
    Conflict,
    /// The store is somewhere else, and cannot be reached.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The commit failed in which this change was one of several.
    #[error("{0}")]
    Shared(String),
    /// The process is ending.
    #[error("the store was interrupted")]
    Interrupted,
    /// There is nothing of that id.
    #[error("there is no {what} {id:?}")]
    NotFound { what: &'static str, id: String },
    /// What is to be stored makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
}

impl StoreError {
    /// A record that cannot be read or written, and why.
    pub fn record(id: &str, problem: &dyn std::fmt::Display) -> Self {
        Self::Record { id: id.to_owned(), problem: problem.to_string() }
    }
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Db(Box::new(error.into()))
    }
}

/// The embedded store. One process at a time; clones are the same store.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` once it was let go, for a successor to take over.
    db: RwLock<Option<Database>>,
    /// What is to be in the next commit.
    queue: Mutex<Vec<embedded::Job>>,
    /// Held by whoever commits.
    writing: Mutex<()>,
}

impl Store {
    /// Opens the store in the directory `dir`; makes both where they are not there, for the owner's eyes alone.
    ///
    /// # Errors
    /// In use by another process, damaged, newer than this program, or out of reach.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE_NAME);
        let file = open_file(dir, &path).map_err(|source| StoreError::Io { path: path.clone(), source })?;
        // The check reads the whole file; without it redb trusts its bytes and panics over damaged ones.
        let db = FileBackend::new(file)
            .and_then(|backend| {
                Builder::new()
                    .set_cache_size(PAGE_CACHE)
                    .set_check_integrity_on_open(true)
                    .create_with_backend(backend)
            })
            .map_err(|error| explain(error, &path))?;
        Self::over(db, &path)
    }

    /// A store that is gone with the process: for demonstrations and tests.
    ///
    /// # Errors
    /// None that is known.
    pub fn in_memory() -> Result<Self, StoreError> {
        let db = Builder::new().create_with_backend(InMemoryBackend::new())?;
        Self::over(db, Path::new("(in memory)"))
    }

    /// Lets the file go, so that another process can open it. Nothing can be read or changed here any more.
    pub fn release(&self) {
        self.0.db.write().take();
    }

    fn over(db: Database, path: &Path) -> Result<Self, StoreError> {
        check_schema(&db, path)?;
        let inner = Inner { db: RwLock::new(Some(db)), queue: Mutex::default(), writing: Mutex::new(()) };
        Ok(Self(Arc::new(inner)))
    }
}

fn open_file(dir: &Path, path: &Path) -> std::io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn explain(error: DatabaseError, path: &Path) -> StoreError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Locked(path),
        DatabaseError::Storage(StorageError::Io(source))
            if source.kind() != std::io::ErrorKind::InvalidData
                && source.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            StoreError::Io { path, source }
        }
        damaged => StoreError::Corrupt { path, source: Box::new(damaged) },
    }
}

fn check_schema(db: &Database, path: &Path) -> Result<(), StoreError> {
    let found = match db.begin_read()?.open_table(META) {
        Ok(table) => table.get("schema")?.map(|version| version.value()),
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    match found {
        Some(SCHEMA) => Ok(()),
        Some(found @ SCHEMA..) => Err(StoreError::Newer { path: path.to_owned(), found }),
        // Empty, or of an older version: one commit, so that it is the old or the new one whenever the machine stops.
        _ => {
            let change = db.begin_write()?;
            change.open_table(META)?.insert("schema", SCHEMA)?;
            embedded::prepare(&change)?;
            change.commit()?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
