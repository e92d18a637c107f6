//! What must outlive a restart, in one embedded file: records of Weir's own keys today, accounts, usage and audit beside
//! them later. Why embedded: a gateway that needs a database server before it can say hello is not tried out.
//!
//! Everything that a request needs is held in memory and read from there; the file is read when it is opened and written
//! when something changes. Writing waits for the disk: call it from a blocking task.

mod keys;

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition};

pub use keys::{create_key, list_keys, revoke_key};

/// Name of the file in the store's directory.
pub const FILE_NAME: &str = "weir.redb";

/// Version of what is in the file. A newer one is not touched.
const SCHEMA: u64 = 1;

/// Memory that the file's pages may take, in bytes: every record is held in memory anyway.
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
    /// There is nothing of that id.
    #[error("there is no key {0:?}")]
    NotFound(String),
    /// What is to be stored makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Db(Box::new(error.into()))
    }
}

/// The embedded store. One process at a time.
#[derive(Debug)]
pub struct Store {
    /// `None` once it was let go, for a successor to take over.
    db: RwLock<Option<Database>>,
    keys: keys::Index,
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
        Self::load(db, &path)
    }

    /// A store that is gone with the process: for demonstrations and tests.
    ///
    /// # Errors
    /// None that is known.
    pub fn in_memory() -> Result<Self, StoreError> {
        let db = Builder::new().create_with_backend(InMemoryBackend::new())?;
        Self::load(db, Path::new("(in memory)"))
    }

    /// Changes the file, while it is ours.
    fn change(&self, change: impl FnOnce(&Database) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.db.read().as_ref().map_or(Err(StoreError::Released), change)
    }

    /// Lets the file go, so that another process can open it. What was read is still known here; nothing can be changed.
    pub fn release(&self) {
        self.db.write().take();
    }

    fn load(db: Database, path: &Path) -> Result<Self, StoreError> {
        check_schema(&db, path)?;
        let keys = keys::Index::load(&db)?;
        Ok(Self { db: RwLock::new(Some(db)), keys })
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
        Some(found) => Err(StoreError::Newer { path: path.to_owned(), found }),
        None => {
            let change = db.begin_write()?;
            change.open_table(META)?.insert("schema", SCHEMA)?;
            change.open_table(keys::TABLE)?;
            change.commit()?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
