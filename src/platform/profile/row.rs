//! A row as it is typed, in our own files and in the operator's. Why every field is optional: the operator says what is
//! different, and [`Row::merge`] puts it over the built-in row of that name.

use std::fmt;

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};

use crate::dialect::{Dialect, Quirk};
use crate::platform::auth::SchemeName;
use crate::platform::judge::{Hint, Rule, Scope};
use crate::platform::rules::Operation;

/// A platform's row.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Row {
    /// The platform's name in routes and accounts. In the operator's file the key says it.
    pub name: Option<String>,
    /// Its name for people.
    pub title: Option<String>,
    pub description: Option<String>,
    /// Where the row's facts come from.
    pub source: Option<String>,
    /// When they were checked: `2026-11-21`.
    pub date: Option<String>,
    /// `http(s)://host[:port][/path]`, or `ws(s)://…` for the `spark` dialect.
    pub base_url: Option<String>,
    pub dialect: Option<Dialect>,
    pub auth: Option<SchemeName>,
    /// The token endpoint of schemes that trade their credential; default: the vendor's.
    pub token_url: Option<String>,
    /// Headers of every request.
    pub headers: IndexMap<String, String>,
    /// Headers that an account may set for itself (whose bill, which workspace); all others are refused.
    pub account_headers: Option<Vec<String>>,
    pub paths: Paths,
    /// Changes to a chat request's fields, in order.
    pub request: Option<Vec<Operation>>,
    /// Parameters of OpenAI's that the platform cannot do: refused or dropped, as the route says.
    pub lacks: Option<Vec<String>>,
    pub embeddings: Embeddings,
    pub quirks: Option<Vec<Quirk>>,
    /// The error table; the first line that fits wins, then the shared table by status.
    pub errors: Vec<Rule>,
    pub models: Option<Vec<ModelRow>>,
    pub quota: Quota,
    pub retry_hint: Option<Vec<Hint>>,
}

/// Paths under the base URL. Only for the `openai` dialect: the others know their own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// Default: `/chat/completions`.
    pub chat: Option<String>,
    /// Default: `/embeddings`; empty where the platform has none.
    pub embeddings: Option<String>,
}

/// What is particular to embeddings requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Embeddings {
    pub request: Option<Vec<Operation>>,
    pub lacks: Option<Vec<String>>,
}

/// The platform's quota.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Where its day begins; default: UTC.
    pub timezone: Option<String>,
    /// What a rate limit is about: `model` (of one account, the default) or `account`.
    pub cooldown: Option<Scope>,
}

/// One entry of `models:`. A text offers a model. A map with `id` says what is particular to the models that fit it (the
/// first that fits wins); without a `*` it also offers the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelRow {
    pub id: String,
    /// Whether it was a map: a text offers, but says nothing about the model.
    pub is_rule: bool,
    /// Whether a model of that name is offered.
    pub is_offered: bool,
    pub detail: ModelDetail,
}

/// What is particular to some models.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelDetail {
    id: Option<String>,
    /// In addition to the platform's.
    pub quirks: Vec<Quirk>,
    /// The bound on an answer, in tokens.
    pub max_output: Option<u64>,
    /// Levels of `reasoning_effort` that are taken; another becomes the nearest.
    pub efforts: Vec<String>,
    /// In place of `paths.chat`.
    pub path: Option<String>,
    /// After the platform's.
    pub request: Vec<Operation>,
    /// In addition to the platform's.
    pub lacks: Vec<String>,
}

impl<'de> Deserialize<'de> for ModelRow {
    fn deserialize<D: de::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen;

        impl<'de> Visitor<'de> for Seen {
            type Value = ModelRow;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a model's id, or a map with `id`")
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<ModelRow, E> {
                Ok(ModelRow { id: id.to_owned(), is_offered: true, ..ModelRow::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ModelRow, A::Error> {
                let detail = ModelDetail::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let id = detail.id.clone().ok_or_else(|| de::Error::missing_field("id"))?;
                let is_offered = !id.contains('*');
                Ok(ModelRow { id, is_rule: true, is_offered, detail })
            }
        }

        from.deserialize_any(Seen)
    }
}

impl Row {
    /// This row with `over` put on top: single values replace, maps are merged by key, lists replace, but lines of
    /// `errors` go before the ones beneath, and rules of `models` too (while the models offered are `over`'s alone).
    #[must_use]
    pub fn merge(self, over: Row) -> Row {
        let mut headers = self.headers;
        headers.extend(over.headers);
        let mut errors = over.errors;
        errors.extend(self.errors);
        Row {
            name: over.name.or(self.name),
            title: over.title.or(self.title),
            description: over.description.or(self.description),
            source: over.source.or(self.source),
            date: over.date.or(self.date),
            base_url: over.base_url.or(self.base_url),
            dialect: over.dialect.or(self.dialect),
            auth: over.auth.or(self.auth),
            token_url: over.token_url.or(self.token_url),
            headers,
            account_headers: over.account_headers.or(self.account_headers),
            paths: Paths {
                chat: over.paths.chat.or(self.paths.chat),
                embeddings: over.paths.embeddings.or(self.paths.embeddings),
            },
            request: over.request.or(self.request),
            lacks: over.lacks.or(self.lacks),
            embeddings: Embeddings {
                request: over.embeddings.request.or(self.embeddings.request),
                lacks: over.embeddings.lacks.or(self.embeddings.lacks),
            },
            quirks: over.quirks.or(self.quirks),
            errors,
            models: merge_models(self.models, over.models),
            quota: Quota {
                timezone: over.quota.timezone.or(self.quota.timezone),
                cooldown: over.quota.cooldown.or(self.quota.cooldown),
            },
            retry_hint: over.retry_hint.or(self.retry_hint),
        }
    }
}

fn merge_models(base: Option<Vec<ModelRow>>, over: Option<Vec<ModelRow>>) -> Option<Vec<ModelRow>> {
    let Some(mut models) = over else {
        return base;
    };
    let beneath = base.into_iter().flatten().filter(|model| model.is_rule);
    models.extend(beneath.map(|model| ModelRow { is_offered: false, ..model }));
    Some(models)
}
