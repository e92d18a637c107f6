//! From a row as typed to a platform. Why once and strictly: what is wrong with a row is said when the configuration is
//! read, with the field's name, and never found out by a request.

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::tz::TimeZone;

use super::base::Base;
use super::row::{ModelRow, Row};
use super::{ModelRule, Platform};
use crate::dialect::{Dialect, Quirk, Quirks};
use crate::ids::PlatformName;
use crate::platform::auth::SchemeName;
use crate::platform::judge::{Hint, Judge, Scope};
use crate::platform::rules::Operation;

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("platform {platform:?}: {field} {why}")]
pub struct RowError {
    pub platform: String,
    pub field: String,
    pub why: String,
}

/// Sources of hints where a row names none.
const USUAL_HINTS: [Hint; 3] = [Hint::RetryAfterMs, Hint::RetryAfter, Hint::TryAgainIn];

/// Headers that a row may not set: they belong to the connection, the body or the credential.
const RESERVED_HEADERS: [&str; 6] =
    ["authorization", "connection", "content-length", "content-type", "host", "transfer-encoding"];

/// Fields that rules may not touch: they are set elsewhere, on every request.
const RESERVED_FIELDS: [&str; 3] = ["model", "messages", "stream"];

pub(super) struct Compiler {
    name: String,
}

impl Compiler {
    pub(super) fn compile(row: Row) -> Result<Platform, RowError> {
        let name = row.name.clone().unwrap_or_default();
        let compiler = Self { name };
        let is_plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        };
        if compiler.name.is_empty() || !compiler.name.bytes().all(is_plain) {
            return Err(compiler.wrong("name", "must be of a-z, 0-9, '-', '_' and '.'"));
        }
        compiler.platform(row)
    }

    fn platform(&self, row: Row) -> Result<Platform, RowError> {
        let dialect = row.dialect.ok_or_else(|| self.wrong("dialect", "is missing"))?;
        let base_url = row.base_url.as_deref().ok_or_else(|| self.wrong("base_url", "is missing"))?;
        let base = self.base(base_url, dialect)?;
        if let Some(url) = &row.token_url {
            Base::parse(url.split('?').next().unwrap_or_default())
                .map_err(|why| self.wrong("token_url", why))?;
        }
        let scheme = row.auth.unwrap_or(SchemeName::Bearer).with_token_url(row.token_url.as_deref());
        let (timezone, zone) = self.timezone(row.quota.timezone.as_deref())?;
        let quirks = row.quirks.unwrap_or_else(|| usual_quirks(dialect));
        let request = row.request.unwrap_or_default();
        let lacks = row.lacks.unwrap_or_default();
        self.check("request", "lacks", &request, &lacks)?;
        let embeddings_request = row.embeddings.request.unwrap_or_default();
        let embeddings_lacks = row.embeddings.lacks.unwrap_or_default();
        self.check("embeddings.request", "embeddings.lacks", &embeddings_request, &embeddings_lacks)?;
        let models = row.models.unwrap_or_default();
        let cooldown = row.quota.cooldown.unwrap_or_default();
        if cooldown == Scope::Platform {
            return Err(self.wrong("quota.cooldown", "must be 'model' or 'account'"));
        }
        Ok(Platform {
            name: PlatformName::from(self.name.as_str()),
            title: row.title.unwrap_or_else(|| self.name.clone()),
            description: row.description.unwrap_or_default(),
            dialect,
            scheme,
            base,
            models: offered(&models),
            timezone,
            headers: self.headers(&row.headers)?,
            account_headers: self.account_headers(row.account_headers.unwrap_or_default())?,
            chat_path: self.path("paths.chat", row.paths.chat.as_deref().unwrap_or("/chat/completions"))?,
            embeddings_path: self.embeddings_path(row.paths.embeddings.as_deref(), dialect)?,
            request,
            lacks,
            embeddings_request,
            embeddings_lacks,
            quirks: quirks.into_iter().collect(),
            rules: self.model_rules(models)?,
            judge: Judge::new(
                row.errors,
                row.retry_hint.unwrap_or_else(|| USUAL_HINTS.to_vec()),
                zone,
                cooldown,
            ),
        })
    }

    pub(super) fn wrong(&self, field: impl Into<String>, why: impl Into<String>) -> RowError {
        RowError { platform: self.name.clone(), field: field.into(), why: why.into() }
    }

    /// For changes to a platform that is compiled already.
    pub(super) fn of(platform: &Platform) -> Self {
        Self { name: platform.name.as_str().to_owned() }
    }

    pub(super) fn base(&self, url: &str, dialect: Dialect) -> Result<Base, RowError> {
        let base = Base::parse(url).map_err(|why| self.wrong("base_url", why))?;
        if base.scheme.is_websocket() != (dialect == Dialect::Spark) {
            let wanted = if dialect == Dialect::Spark { "ws or wss" } else { "http or https" };
            return Err(self.wrong("base_url", format!("must begin with {wanted} for this dialect")));
        }
        Ok(base)
    }

    fn timezone(&self, name: Option<&str>) -> Result<(String, TimeZone), RowError> {
        let name = name.unwrap_or("UTC");
        let zone = TimeZone::get(name)
            .map_err(|_| self.wrong("quota.timezone", format!("{name:?} is not known")))?;
        Ok((name.to_owned(), zone))
    }

    fn headers(&self, typed: &indexmap::IndexMap<String, String>) -> Result<HeaderMap, RowError> {
        let mut headers = HeaderMap::new();
        for (name, value) in typed {
            headers.insert(self.header_name(name)?, self.header_value(name, value)?);
        }
        Ok(headers)
    }

    fn header_name(&self, name: &str) -> Result<HeaderName, RowError> {
        let field = format!("headers.{name}");
        let parsed = HeaderName::try_from(name).map_err(|_| self.wrong(&field, "is no header name"))?;
        if RESERVED_HEADERS.contains(&parsed.as_str()) {
            return Err(self.wrong(&field, "is not the row's to set"));
        }
        Ok(parsed)
    }

    fn header_value(&self, name: &str, value: &str) -> Result<HeaderValue, RowError> {
        HeaderValue::try_from(value).map_err(|_| self.wrong(format!("headers.{name}"), "has a bad value"))
    }

    fn account_headers(&self, names: Vec<String>) -> Result<Vec<HeaderName>, RowError> {
        let names = names.iter().map(|name| {
            self.header_name(name).map_err(|wrong| RowError { field: "account_headers".to_owned(), ..wrong })
        });
        names.collect()
    }

    /// A header that comes with a kind of account, whoever's it is.
    pub(super) fn fixed_header(
        &self,
        name: &str,
        value: &str,
    ) -> Result<(HeaderName, HeaderValue), RowError> {
        Ok((self.header_name(name)?, self.header_value(name, value)?))
    }

    /// A header of one account, where `allowed` has it.
    pub(super) fn account_header(
        &self,
        allowed: &[HeaderName],
        name: &str,
        value: &str,
    ) -> Result<(HeaderName, HeaderValue), RowError> {
        let known = allowed.iter().find(|known| name.eq_ignore_ascii_case(known.as_str()));
        let Some(known) = known else {
            let names: Vec<&str> = allowed.iter().map(HeaderName::as_str).collect();
            let why = match names.as_slice() {
                [] => "is not an account's to set: this platform has no such headers".to_owned(),
                names => format!("is not an account's to set: this platform has {}", names.join(", ")),
            };
            return Err(self.wrong(format!("headers.{name}"), why));
        };
        if value.trim().is_empty() {
            return Err(self.wrong(format!("headers.{name}"), "is empty"));
        }
        Ok((known.clone(), self.header_value(name, value)?))
    }

    fn path(&self, field: &str, path: &str) -> Result<String, RowError> {
        let is_plain =
            |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'\\' | b'{' | b'}');
        if path.starts_with('/') && path.bytes().all(is_plain) {
            return Ok(path.to_owned());
        }
        Err(self.wrong(field, "must begin with '/' and hold nothing that is not plain in a URL"))
    }

    /// `None` where the platform has no embeddings.
    fn embeddings_path(&self, path: Option<&str>, dialect: Dialect) -> Result<Option<String>, RowError> {
        match (path, dialect) {
            (Some(""), _) => Ok(None),
            (Some(path), _) => self.path("paths.embeddings", path).map(Some),
            (None, Dialect::Openai) => Ok(Some("/embeddings".to_owned())),
            (None, _) => Ok(None),
        }
    }

    /// Field names that would have to be escaped in JSON, or are not the row's to touch, are refused here.
    fn check(&self, of: &str, lacks_of: &str, steps: &[Operation], lacks: &[String]) -> Result<(), RowError> {
        let touched = steps.iter().flat_map(Operation::fields).map(|field| (of, field));
        let lacked = lacks.iter().map(|field| (lacks_of, field.as_str()));
        for (of, field) in touched.chain(lacked) {
            let is_plain =
                field.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
            if field.is_empty() || !is_plain {
                return Err(self.wrong(of, format!("names {field:?}, which is no field's name")));
            }
            if RESERVED_FIELDS.contains(&field) {
                return Err(self.wrong(of, format!("must not touch '{field}'")));
            }
        }
        for step in steps {
            if let Operation::Clamp { field, min, max } = step
                && (min.is_none() && max.is_none() || min.zip(*max).is_some_and(|(min, max)| min > max))
            {
                return Err(self.wrong(of, format!("clamps '{field}' to no range")));
            }
        }
        Ok(())
    }

    fn model_rules(&self, models: Vec<ModelRow>) -> Result<Vec<ModelRule>, RowError> {
        let mut rules = Vec::new();
        for ModelRow { id, detail, .. } in models.into_iter().filter(|model| model.is_rule) {
            let field = format!("models.{id}");
            self.check(&field, &field, &detail.request, &detail.lacks)?;
            let path = detail.path.as_deref().map(|path| self.path(&field, path)).transpose()?;
            rules.push(ModelRule {
                id,
                quirks: detail.quirks.into_iter().collect::<Quirks>(),
                max_output: detail.max_output,
                efforts: detail.efforts,
                path,
                request: detail.request,
                lacks: detail.lacks,
            });
        }
        Ok(rules)
    }
}

/// What a new OpenAI-like platform most likely does: it has usage in streams where it is asked for, and knows no
/// `developer`.
fn usual_quirks(dialect: Dialect) -> Vec<Quirk> {
    match dialect {
        Dialect::Openai => vec![Quirk::AskUsage, Quirk::DeveloperToSystem],
        _ => Vec::new(),
    }
}

fn offered(models: &[ModelRow]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for model in models.iter().filter(|model| model.is_offered) {
        if !ids.contains(&model.id) {
            ids.push(model.id.clone());
        }
    }
    ids
}
