//! A platform: its row, compiled. Why one type answers everything about a platform: the gateway asks "how do I say this
//! here", "what did it mean" and "who judges", and never which platform it is talking to.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};

use super::auth::Scheme;
use super::judge::{self, Judge, Judgement};
use super::quirks::{self, Scene};
use super::rules::{self, Draft, Operation};
use crate::api::ask::Ask;
use crate::api::chat::ChatRequest;
use crate::api::functions;
use crate::api::scan::{self, Object};
use crate::dialect::{self, Dialect, Encoded, Job, Quirk, Quirks, Recall, Unsupported};
use crate::fault::{Fault, Kind};
use crate::glob;
use crate::ids::PlatformName;

mod base;
mod built_in;
mod compile;
mod embeddings;
mod row;

pub use base::{Base, BaseScheme};
pub use compile::RowError;
pub use row::{Embeddings, ModelDetail, ModelRow, Paths, Quota, Row};

/// A platform.
#[derive(Clone, Debug)]
pub struct Platform {
    pub name: PlatformName,
    /// Its name for people.
    pub title: String,
    pub description: String,
    pub dialect: Dialect,
    pub scheme: Scheme,
    pub base: Base,
    /// The models that it is known to offer.
    pub models: Vec<String>,
    /// Where its quota day begins (IANA name).
    pub timezone: String,
    headers: HeaderMap,
    account_headers: Vec<HeaderName>,
    chat_path: String,
    embeddings_path: Option<String>,
    request: Vec<Operation>,
    lacks: Vec<String>,
    embeddings_request: Vec<Operation>,
    embeddings_lacks: Vec<String>,
    quirks: Quirks,
    rules: Vec<ModelRule>,
    judge: Judge,
}

/// What is particular to the models that fit `id`.
#[derive(Clone, Debug)]
struct ModelRule {
    id: String,
    quirks: Quirks,
    max_output: Option<u64>,
    efforts: Vec<String>,
    path: Option<String>,
    request: Vec<Operation>,
    lacks: Vec<String>,
}

impl Platform {
    /// Compiles a row.
    ///
    /// # Errors
    /// The field at fault and why.
    pub fn compile(row: Row) -> Result<Platform, RowError> {
        compile::Compiler::compile(row)
    }

    /// The same platform at another address: an account's own.
    ///
    /// # Errors
    /// Where `url` is none, or of a scheme that the dialect does not speak.
    pub fn with_base_url(&self, url: &str) -> Result<Platform, RowError> {
        let base = compile::Compiler::of(self).base(url, self.dialect)?;
        Ok(Platform { base, ..self.clone() })
    }

    /// The same platform with a header of an account's own on every request.
    ///
    /// # Errors
    /// Where the row does not let accounts set it, or its value is none.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Platform, RowError> {
        let compiler = compile::Compiler::of(&self);
        let (name, value) = compiler.account_header(&self.account_headers, name, value)?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// The same platform with a header that all accounts of a kind send: a provider's row says so, not an account's owner.
    ///
    /// # Errors
    /// Where no row may set it, or its value is none.
    pub fn with_fixed_header(mut self, name: &str, value: &str) -> Result<Platform, RowError> {
        let (name, value) = compile::Compiler::of(&self).fixed_header(name, value)?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// The first rule that fits `model`.
    fn rule(&self, model: &str) -> Option<&ModelRule> {
        let bare = match model.rsplit_once(':') {
            Some((bare, _)) if self.quirks.has(Quirk::ProviderSuffix) => bare,
            _ => model,
        };
        self.rules.iter().find(|rule| glob::fits(&rule.id, bare))
    }

    /// The quirks of the platform and of `model` (by the platform's own name).
    pub fn quirks(&self, model: &str) -> Quirks {
        self.quirks.with(self.rule(model).map(|rule| rule.quirks).unwrap_or_default())
    }

    /// The bound on an answer of `model`, in tokens, where the row knows it.
    pub fn max_output(&self, model: &str) -> Option<u64> {
        self.rule(model).and_then(|rule| rule.max_output)
    }

    /// Whether `model` only streams.
    pub fn streams_only(&self, model: &str) -> bool {
        self.quirks(model).has(Quirk::StreamOnly)
    }

    /// Whether this ask must be streamed from the platform, whatever the caller wants: the model only streams, or the
    /// caller wants it to think and it thinks only in streams.
    pub fn must_stream(&self, ask: &Ask, model: &str) -> bool {
        quirks::must_stream(ask, self.quirks(model))
    }

    /// Whether answers can be passed through as they come.
    pub fn splices(&self, model: &str) -> bool {
        self.dialect == Dialect::Openai && !self.quirks(model).has(Quirk::Normalise)
    }

    /// Whether the platform has embeddings.
    pub fn has_embeddings(&self) -> bool {
        self.embeddings_path.is_some() || self.dialect == Dialect::Gemini
    }

    /// A decoder for the answer of `model` to `ask`.
    pub fn decoder(&self, model: &str, ask: &Ask) -> dialect::Decoder {
        let bound = ask.max_answer_tokens.into_iter().chain(self.max_output(model)).min();
        let bound = bound.map(|bound| bound.saturating_mul(u64::from(ask.choices)));
        dialect::Decoder::new(self.dialect, self.quirks(model)).bounded(bound)
    }

    /// Every header of a request but the credential's: the row's, the encoder's and what all requests have.
    pub fn headers(&self, encoded: &Encoded) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &encoded.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers
    }

    /// Writes a chat request for `model` (by the platform's own name).
    ///
    /// # Errors
    /// A bad request, or an unsupported parameter where the route rejects.
    pub fn encode_chat(
        &self,
        ask: &Ask,
        model: &str,
        stream: bool,
        unsupported: Unsupported,
        recall: &dyn Recall,
    ) -> Result<Encoded, Fault> {
        let modern = if self.knows_functions(model) { None } else { functions::modernised(ask)? };
        let Some(modern) = modern else { return self.encode_modern(ask, model, stream, unsupported, recall) };
        let encoded = self.encode_modern(&modern, model, stream, unsupported, recall);
        let mut encoded = encoded.map_err(|fault| match fault.get_param().map(functions::callers_word) {
            Some(word @ ("functions" | "function_call")) => {
                let word = word.to_owned();
                fault.param(word)
            }
            _ => fault,
        })?;
        for name in &mut encoded.dropped {
            *name = functions::callers_word(name).to_owned();
        }
        Ok(encoded)
    }

    /// Whether the platform takes OpenAI's deprecated `functions` as they are.
    fn knows_functions(&self, model: &str) -> bool {
        let rule = self.rule(model).map(|rule| rule.lacks.as_slice()).unwrap_or_default();
        self.dialect == Dialect::Openai && !self.lacks.iter().chain(rule).any(|name| name == "functions")
    }

    /// Writes a chat request that speaks of tools only.
    fn encode_modern(
        &self,
        ask: &Ask,
        model: &str,
        stream: bool,
        unsupported: Unsupported,
        recall: &dyn Recall,
    ) -> Result<Encoded, Fault> {
        let rule = self.rule(model);
        let scene = Scene {
            quirks: self.quirks(model),
            stream,
            unsupported,
            efforts: rule.map(|rule| rule.efforts.as_slice()).unwrap_or_default(),
            max_output: rule.and_then(|rule| rule.max_output),
        };
        let mut draft = Draft::new(ask);
        if self.dialect == Dialect::Openai {
            quirks::apply(&mut draft, &scene)?;
        }
        self.apply_rules(&mut draft, rule, unsupported)?;
        if self.dialect == Dialect::Openai {
            set_model(&mut draft, ask, model);
            let (body, dropped) = draft.finish();
            let path = rule.and_then(|rule| rule.path.as_ref()).unwrap_or(&self.chat_path).clone();
            return Ok(Encoded { path, headers: Vec::new(), body, dropped });
        }
        let job =
            Job { model, stream, unsupported, quirks: scene.quirks, max_output: scene.max_output, recall };
        let (request, mut dropped) = if draft.is_untouched() {
            (ChatRequest::parse(ask)?, Vec::new())
        } else {
            let (params, dropped) = draft.finish_params();
            (ChatRequest::with_params(ask, &params)?, dropped)
        };
        let mut encoded = self.translate(&request, &job)?;
        if let Some(path) = rule.and_then(|rule| rule.path.as_ref()) {
            encoded.path.clone_from(path);
        }
        dropped.append(&mut encoded.dropped);
        dropped.sort();
        dropped.dedup();
        Ok(Encoded { dropped, ..encoded })
    }

    fn apply_rules<'a>(
        &'a self,
        draft: &mut Draft<'a>,
        rule: Option<&'a ModelRule>,
        unsupported: Unsupported,
    ) -> Result<(), Fault> {
        rules::lacking(draft, &self.lacks, unsupported, &self.title)?;
        if let Some(rule) = rule {
            rules::lacking(draft, &rule.lacks, unsupported, &self.title)?;
        }
        let particular = rule.map(|rule| rule.request.as_slice()).unwrap_or_default();
        self.request.iter().chain(particular).for_each(|step| step.apply(draft));
        Ok(())
    }

    /// A wire that is not OpenAI's: what is left of the request goes to its encoder.
    fn translate(&self, request: &ChatRequest<'_>, job: &Job<'_>) -> Result<Encoded, Fault> {
        match self.dialect {
            Dialect::Anthropic => dialect::anthropic::encode(request, job),
            Dialect::Gemini => dialect::gemini::encode(request, job),
            Dialect::Dashscope => dialect::dashscope::encode(request, job),
            Dialect::Ernie => dialect::ernie::encode(request, job),
            Dialect::Spark => dialect::spark::encode(request, job),
            Dialect::Openai => Err(Fault::gateway(Kind::Internal, "The request could not be translated.")),
        }
    }

    /// Judges an answer that is an error: a status other than 2xx, or an error body inside a 200 (then with status 200).
    /// `wall_millis` counts from 1970.
    pub fn judge(&self, status: u16, headers: &HeaderMap, body: &[u8], wall_millis: u64) -> Judgement {
        self.judge.judge(status, headers, body, wall_millis)
    }

    /// Which line of the error table decides, for tests.
    #[cfg(test)]
    pub fn error_line(&self, status: u16, body: &[u8]) -> Option<usize> {
        self.judge.line(status, body)
    }

    /// Whether the whole body of a 200, which has been scanned already, is an error report.
    pub fn is_error_in_200(&self, body: &[u8], scanned: &Result<Object, scan::Error>) -> bool {
        judge::is_error_scanned(body, scanned)
    }
}

/// The model's name at the platform, where it is another than the caller's.
fn set_model<'a>(draft: &mut Draft<'a>, ask: &'a Ask, model: &str) {
    if ask.model != model {
        draft.set("model", model);
    }
}

#[cfg(test)]
mod tests;
