//! The rows that come with the binary.

use super::row::Row;
use super::{Platform, RowError};

macro_rules! rows {
    ($($name:literal),+ $(,)?) => {
        /// Every row, by file name.
        pub(super) const FILES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../config/platforms/", $name, ".yaml")))),+];
    };
}

rows!(
    "qwen",
    "openai",
    "claude",
    "baidu",
    "zhipu",
    "spark",
    "gemini",
    "doubao",
    "huggingface",
    "aihubmix",
    "dashscope",
    "baidu-v1",
    "spark-ws",
);

impl Row {
    /// The built-in row of that name.
    ///
    /// # Errors
    /// Where the file in the binary is malformed, which the tests rule out.
    pub fn built_in(name: &str) -> Result<Option<Row>, RowError> {
        FILES.iter().find(|(file, _)| *file == name).map(|(file, text)| parse(file, text)).transpose()
    }
}

impl Platform {
    /// Every built-in platform, in the order in which they are shown.
    ///
    /// # Errors
    /// Where a file in the binary is malformed, which the tests rule out.
    pub fn built_in() -> Result<Vec<Platform>, RowError> {
        FILES.iter().map(|(file, text)| parse(file, text).and_then(Platform::compile)).collect()
    }
}

fn parse(file: &str, text: &str) -> Result<Row, RowError> {
    serde_saphyr::from_str(text).map_err(|wrong| RowError {
        platform: file.to_owned(),
        field: "row".to_owned(),
        why: format!("cannot be read: {wrong}"),
    })
}
