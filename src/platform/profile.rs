//! A platform's row, compiled. (To be written.)
use crate::ids::PlatformName;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Row {
    pub base_url: Option<String>,
    pub dialect: Option<crate::dialect::Dialect>,
    pub auth: Option<String>,
    pub models: Option<Vec<String>>,
}

use crate::ids::PlatformName;

/// A compiled row.
#[derive(Clone, Debug)]
pub struct Platform {
    pub name: PlatformName,
<<<<<<< HEAD
    pub base_url: String,
    pub models: Vec<String>,
}

impl Platform {
    pub fn built_in_rows() -> Vec<(PlatformName, Row)> {
        let mut rows = Vec::new();
        for (name, models) in [
            ("openai", vec!["gpt-4o", "gpt-4o-mini"]),
            ("claude", vec!["claude-sonnet-4-5"]),
            ("qwen", vec!["qwen-max", "qwen-plus"]),
            ("gemini", vec![]),
            ("zhipu", vec![]),
            ("doubao", vec![]),
            ("baidu", vec![]),
            ("spark", vec![]),
            ("huggingface", vec![]),
            ("aihubmix", vec!["gpt-4o"]),
        ] {
            rows.push((
                PlatformName::from(name),
                Row {
                    base_url: Some(format!("https://{name}.test/v1")),
                    dialect: Some(crate::dialect::Dialect::Openai),
                    auth: Some("bearer".to_owned()),
                    models: Some(models.into_iter().map(str::to_owned).collect()),
                },
            ));
        }
        rows
    }
    pub fn compile(name: &str, row: Row) -> Result<Arc<Platform>, String> {
        Ok(Arc::new(Platform {
            name: name.into(),
            base_url: row.base_url.ok_or("base_url missing")?,
            models: row.models.unwrap_or_default(),
        }))
    }
    pub fn with_base_url(&self, base_url: &str) -> Result<Platform, String> {
        Ok(Platform { base_url: base_url.to_owned(), ..self.clone() })
    }
}
impl Platform {
    pub fn built_in() -> Vec<Arc<Platform>> {
        Self::built_in_rows()
            .into_iter()
            .filter_map(|(name, row)| Platform::compile(name.as_str(), row).ok())
            .collect()
    }
}
impl Row {
    pub fn merge(self, over: Row) -> Row {
        Row {
            base_url: over.base_url.or(self.base_url),
            dialect: over.dialect.or(self.dialect),
            auth: over.auth.or(self.auth),
            models: over.models.or(self.models),
        }
    }
=======
    /// IANA name of the zone in which the platform's day turns.
    pub timezone: String,
>>>>>>> h-pool
}
