//! What is left when the store has gone before us: at a hand-over the old process lets the store go and its last streams
//! settle minutes later. It leaves their usage in a file beside the store; whoever has the store takes it in, once.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Batch;
use crate::ids::random_name;
use crate::store::{Records, StoreError};

const BEGINS: &str = "usage-";
const ENDS: &str = ".spool";

/// Why files could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} is not what was left there")]
    Damaged(String),
}

/// Leaves `batch` in `folder`.
///
/// # Errors
/// Where the file cannot be written.
pub fn leave(folder: &Path, batch: &Batch) -> std::io::Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let name = random_name(BEGINS, 20);
    let (half, whole) = (folder.join(format!("{name}.half")), folder.join(format!("{name}{ENDS}")));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
    file.write_all(&serde_json::to_vec(batch)?)?;
    file.sync_all()?;
    std::fs::rename(half, whole)
}

/// Takes in what others have left in `folder`. A file that was taken in and could not be removed counts once all the same.
///
/// # Errors
/// Where one cannot be read or added; it stays.
pub async fn take_in(folder: &Path, records: &dyn Records) -> Result<(), SpoolError> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = name.strip_suffix(ENDS).filter(|name| name.starts_with(BEGINS)) else { continue };
        let Ok(batch) = serde_json::from_slice::<Batch>(&std::fs::read(&path)?) else {
            // Kept for whoever wants to look, and not looked at again.
            std::fs::rename(&path, path.with_extension("damaged"))?;
            return Err(SpoolError::Damaged(path.display().to_string()));
        };
        records.add(name, 1, batch).await?;
        std::fs::remove_file(&path)?;
    }
    Ok(())
}
