//! What an error body says, whatever its shape. Why one reader for all: bodies of one platform come in four shapes, and
//! aggregators pass on the shapes of others; where a code may stand is a closed list, so a body is read by looking there.

use serde_json::Value;

use crate::api::scan::Object;

/// Longest body that is read, in bytes. Longer ones are no error reports.
const MAX_BODY: usize = 256 * 1024;

/// Longest text of a body that is not JSON, in characters.
const MAX_TEXT: usize = 4096;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Codes, the most telling first.
    pub codes: Vec<String>,
    /// `error.type` or its like.
    pub kind: Option<String>,
    /// The platform's words.
    pub message: Option<String>,
    pub param: Option<String>,
    /// The whole, for hints that stand elsewhere in it.
    pub json: Value,
    /// The words in lower case (of a body that is not JSON: its beginning).
    lower: String,
}

impl Report {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Self {
        let body = body.get(..MAX_BODY.min(body.len())).unwrap_or_default();
        let Some(json) = parse(body) else {
            let text = String::from_utf8_lossy(body).chars().take(MAX_TEXT).collect::<String>();
            return Self { lower: text.to_lowercase(), ..Self::default() };
        };
        let mut report = Self::default();
        match json.get("error") {
            Some(error @ Value::Object(_)) => report.take_error(error),
            Some(Value::String(words)) => report.take_words(words),
            Some(Value::Array(lines)) => {
                let words: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
                report.message = Some(words.join(" ")).filter(|words| !words.is_empty());
            }
            _ => {}
        }
        report.take_root(&json);
        report.lower = report.message.as_deref().unwrap_or_default().to_lowercase();
        report.json = json;
        report
    }

    /// Whether the message holds `words`; case does not matter.
    pub fn says(&self, words: &str) -> bool {
        self.lower.contains(&words.to_lowercase())
    }

    /// The platform's words, or the beginning of a body that is not JSON, in lower case.
    pub fn text(&self) -> &str {
        &self.lower
    }

    /// `{"error": {…}}`: OpenAI and most others; Anthropic (`details.error_code`), Google (`status`, `details[]`).
    fn take_error(&mut self, error: &Value) {
        self.code(error.pointer("/details/error_code"));
        self.code(error.get("code").filter(|code| code.is_string()));
        self.code(error.get("status").filter(|status| status.is_string()));
        for detail in error.get("details").and_then(Value::as_array).into_iter().flatten() {
            self.code(detail.get("reason"));
            for violation in detail.get("violations").and_then(Value::as_array).into_iter().flatten() {
                self.code(violation.get("quotaId"));
            }
        }
        self.code(error.get("code"));
        self.kind = text(error.get("type"));
        self.message = text(error.get("message"));
        self.param = text(error.get("param")).filter(|param| param.parse::<u32>().is_err());
    }

    /// `{"error": "words"}` (Hugging Face) or `{"error": "code", "error_description": "words"}` (OAuth).
    fn take_words(&mut self, words: &str) {
        if !words.contains(' ') {
            self.code(Some(&Value::from(words)));
        }
        self.message = Some(words.to_owned()).filter(|words| !words.is_empty());
    }

    /// What stands at the top, or in a WebSocket frame's `header`.
    fn take_root(&mut self, json: &Value) {
        for name in ["/code", "/error_code", "/header/code"] {
            self.code(json.pointer(name));
        }
        let first = |names: &[&str]| names.iter().find_map(|name| text(json.pointer(name)));
        self.kind = self.kind.take().or_else(|| first(&["/error_type"]));
        self.message = first(&["/error_description"])
            .or_else(|| self.message.take())
            .or_else(|| first(&["/message", "/error_msg", "/msg", "/header/message", "/detail"]));
        self.param = self.param.take().or_else(|| first(&["/param"]));
    }

    fn code(&mut self, code: Option<&Value>) {
        let code = match code {
            Some(Value::String(code)) if !code.is_empty() => code.clone(),
            Some(Value::Number(code)) => code.to_string(),
            _ => return,
        };
        if !self.codes.contains(&code) {
            self.codes.push(code);
        }
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The JSON of a body: an object, the first of an array (Google), or the first `data:` line of an event stream.
fn parse(body: &[u8]) -> Option<Value> {
    let json = serde_json::from_slice(body).ok().or_else(|| {
        let text = std::str::from_utf8(body).ok()?;
        let data = text.lines().find_map(|line| line.strip_prefix("data:"))?;
        serde_json::from_str(data).ok()
    })?;
    match json {
        Value::Array(items) => items.into_iter().next(),
        other => Some(other),
    }
    .filter(Value::is_object)
}

/// Whether the body of a 200 is an error report and no answer: an `error`, an `error_code` or `code` other than zero
/// without anything answered beside it, or `success: false`.
pub fn is_error(body: &[u8]) -> bool {
    is_error_scanned(body, &Object::scan(body))
}

/// As [`is_error`], for a body that has been scanned already.
pub fn is_error_scanned(body: &[u8], scanned: &Result<Object, crate::api::scan::Error>) -> bool {
    match scanned {
        Ok(fields) => is_error_object(body, fields),
        // An array is no answer on any wire; with an error in it, it is a report.
        Err(crate::api::scan::Error::NotObject) => {
            parse(body).is_some_and(|first| first.get("error").is_some_and(|error| !error.is_null()))
        }
        Err(_) => false,
    }
}

fn is_error_object(body: &[u8], fields: &Object) -> bool {
    const NOTHING: [&[u8]; 5] = [b"null", b"\"\"", b"{}", b"false", b"[]"];
    const FINE: [&[u8]; 7] = [b"null", b"\"\"", b"0", b"\"0\"", b"200", b"\"200\"", b"\"Success\""];
    let has = |name: &str, but: &[&[u8]]| fields.get(body, name).is_some_and(|raw| !but.contains(&raw));
    let answers = ["choices", "output", "result", "data", "candidates", "content"];
    has("error", &NOTHING)
        || has("error_code", &FINE)
        || fields.get(body, "success") == Some(b"false")
        || (has("code", &FINE) && !answers.iter().any(|name| has(name, &NOTHING)))
}
