//! The identity providers that come with the binary.

use super::row::{Provider, Row, RowError};

macro_rules! rows {
    ($($name:literal),+ $(,)?) => {
        const FILES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../config/providers/", $name, ".yaml")))),+];
    };
}

rows!(
    "github",
    "google",
    "gitee",
    "oschina",
    "linuxdo",
    "feishu",
    "wechat-open",
    "wechat-mp",
    "huggingface",
    "qwen",
    "aihubmix"
);

impl Row {
    /// The built-in row of that name.
    ///
    /// # Errors
    /// Where the file in the binary is malformed, which the tests rule out.
    pub fn built_in(name: &str) -> Result<Option<Row>, RowError> {
        FILES.iter().find(|(file, _)| *file == name).map(|(_, text)| parse(text)).transpose()
    }
}

impl Provider {
    /// Names of the built-in providers, in the order in which they are shown.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }
}

fn parse(text: &str) -> Result<Row, RowError> {
    serde_saphyr::from_str(text)
        .map_err(|wrong| RowError { field: "row", why: format!("cannot be read: {wrong}") })
}
