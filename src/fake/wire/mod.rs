//! The dialects, one front each. Why a closed enum: every front must be able to do all of this, and the compiler says
//! which one forgot. A front reads strictly (what the real platform refuses is refused, in its words) and renders with
//! that platform's liberties.

pub mod check;
pub mod claude;
pub mod dashscope;
pub mod ernie;
pub mod gemini;
pub mod openai_like;
pub mod spark_ws;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use crate::fake::brain::{Answer, Question, words};
use crate::fake::counters::Left;
use crate::fake::fault::Refusal;
use crate::fake::server::World;
use crate::fake::stream::Frame;
use openai_like::rows::Row;

/// A request as it came, kept for the journal.
pub struct Asked {
    pub method: Method,
    /// Path and query as sent.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    /// The header's text; empty when it is absent or no text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The token of `Authorization: Bearer`.
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization").split_once(' ')?;
        (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
    }

    /// The value of a query parameter, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The body as a JSON object.
    pub fn object(&self) -> Result<serde_json::Map<String, Value>, Refusal> {
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Err(Refusal::bad("We expected a JSON object as the body of your request.")),
            Err(error) => {
                Err(Refusal::bad(format!("We could not parse the JSON body of your request: {error}")))
            }
        }
    }

    /// For the journal: everything, with the values of credentials cut to their first characters.
    pub fn report(&self) -> Value {
        let headers = self.headers.iter().map(|(name, value)| {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let shown = match name.as_str() {
                "authorization" => match text.split_once(' ') {
                    Some((scheme, token)) => format!("{scheme} {}", masked(token)),
                    None => masked(&text),
                },
                "x-api-key" | "x-goog-api-key" | "api-key" | "cookie" | "proxy-authorization" => {
                    masked(&text)
                }
                _ => text,
            };
            json!([name.as_str(), shown])
        });
        let body = serde_json::from_slice::<Value>(&self.body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&self.body).into_owned()));
        json!({ "method": self.method.as_str(), "path": masked_target(&self.target),
            "headers": headers.collect::<Vec<_>>(), "body": body })
    }
}

fn masked(secret: &str) -> String {
    let start: String = secret.chars().take(6).collect();
    format!("{start}…")
}

/// The target with the values of query parameters that carry credentials masked.
fn masked_target(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) if matches!(name, "key" | "access_token" | "client_secret" | "authorization") => {
            format!("{name}={}", masked(value))
        }
        _ => pair.to_owned(),
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// An answer in a platform's own shape.
pub struct Native {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Native {
    /// A JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string().into(),
        }
    }

    /// With one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A stream in a platform's own shape.
pub struct Events {
    pub headers: Vec<(&'static str, String)>,
    pub frames: Vec<Frame>,
}

/// What a request wants.
pub enum Want {
    Chat(Box<Question>),
    Embed(Embed),
    /// The front has answered by itself: lists, tokens.
    Told(Native),
}

/// Texts to be embedded.
pub struct Embed {
    pub model: String,
    pub texts: Vec<String>,
    pub dimensions: usize,
    pub base64: bool,
}

impl Embed {
    /// Tokens of all texts.
    pub fn tokens(&self) -> u64 {
        self.texts.iter().map(|text| words(text)).sum()
    }

    /// A vector for each text: the same text, the same vector.
    pub fn vectors(&self) -> Vec<Vec<f32>> {
        let vector = |text: &String| {
            let seed =
                text.bytes().fold(17_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
            let value = |at: usize| {
                let mixed =
                    seed.wrapping_add(u32::try_from(at).unwrap_or(0)).wrapping_mul(2_654_435_761) >> 16;
                f32::from(u16::try_from(mixed).unwrap_or(0)) / 65_536.0 - 0.5
            };
            (0..self.dimensions).map(value).collect()
        };
        self.texts.iter().map(vector).collect()
    }
}

/// Which tokens and names an answer is rendered with.
pub struct Scene<'a> {
    /// Random characters that ids are made of.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    pub key: &'a str,
    pub left: Option<Left>,
    /// Whether usage is withheld although it is due.
    pub no_usage: bool,
}

/// Who calls, as the platform's own credential says.
#[derive(Debug)]
pub struct Caller {
    /// The key as counters and the script know it.
    pub key: String,
    /// The credential as it was sent: a new token of the same key is another one.
    pub token: String,
    /// The credential is past its time.
    pub expired: bool,
}

impl Caller {
    pub fn new(key: impl Into<String>) -> Self {
        let key = key.into();
        Self { token: key.clone(), key, expired: false }
    }
}

/// A platform's front.
#[derive(Clone, Copy)]
pub enum Front {
    OpenAiLike(&'static Row),
    Claude,
    Gemini,
    DashScope,
    /// Baidu V1.
    Ernie,
}

impl Front {
    /// The front that serves a path, and the path below it.
    pub fn of(path: &str) -> Option<(Front, &str)> {
        let (name, rest) = path.strip_prefix('/')?.split_once('/')?;
        let front = match name {
            "claude" => Front::Claude,
            "gemini" => Front::Gemini,
            "dashscope" => Front::DashScope,
            "baidu-v1" => Front::Ernie,
            _ => Front::OpenAiLike(openai_like::rows::ROWS.iter().find(|row| row.name == name)?),
        };
        path.get(path.len() - rest.len() - 1..).map(|rest| (front, rest))
    }

    pub fn name(self) -> &'static str {
        match self {
            Front::OpenAiLike(row) => row.name,
            Front::Claude => "claude",
            Front::Gemini => "gemini",
            Front::DashScope => "dashscope",
            Front::Ernie => "baidu-v1",
        }
    }

    /// Who calls. `None`: this path needs nobody.
    pub fn caller(self, asked: &Asked, rest: &str, world: &World) -> Result<Option<Caller>, Refusal> {
        match self {
            Front::OpenAiLike(row) => openai_like::auth::caller(row, asked, rest, world),
            Front::Claude => claude::caller(asked, world).map(Some),
            Front::Gemini => gemini::caller(asked, world).map(Some),
            Front::DashScope => dashscope::caller(asked, world).map(Some),
            Front::Ernie => ernie::caller(asked, rest, world),
        }
    }

    /// What the request wants, or why it is refused.
    pub fn read(self, asked: &Asked, rest: &str, world: &World, key: &str) -> Result<Want, Refusal> {
        match self {
            Front::OpenAiLike(row) => openai_like::read(row, asked, rest, world),
            Front::Claude => claude::read(asked, rest),
            Front::Gemini => gemini::read(asked, rest, key),
            Front::DashScope => dashscope::read(asked, rest),
            Front::Ernie => ernie::read(asked, rest, world),
        }
    }

    /// A refusal in the platform's words.
    pub fn refuse(self, refusal: &Refusal) -> Native {
        match self {
            Front::OpenAiLike(row) => openai_like::errors::refuse(row, refusal),
            Front::Claude => claude::refuse(refusal),
            Front::Gemini => gemini::refuse(refusal),
            Front::DashScope => dashscope::refuse(refusal),
            Front::Ernie => ernie::refuse(refusal),
        }
    }

    pub fn whole(self, question: &Question, answer: &Answer, scene: &Scene<'_>) -> Native {
        match self {
            Front::OpenAiLike(row) => openai_like::whole::render(row, question, answer, scene),
            Front::Claude => claude::whole(question, answer, scene),
            Front::Gemini => gemini::whole(question, answer, scene),
            Front::DashScope => dashscope::whole(question, answer, scene),
            Front::Ernie => ernie::whole(answer, scene),
        }
    }

    pub fn stream(self, question: &Question, answer: &Answer, scene: &Scene<'_>) -> Events {
        match self {
            Front::OpenAiLike(row) => openai_like::stream::render(row, question, answer, scene),
            Front::Claude => claude::stream(question, answer, scene),
            Front::Gemini => gemini::stream(question, answer, scene),
            Front::DashScope => dashscope::stream(question, answer, scene),
            Front::Ernie => ernie::stream(answer, scene),
        }
    }

    pub fn embed(self, embed: &Embed) -> Native {
        match self {
            Front::OpenAiLike(row) => openai_like::embed(row, embed),
            Front::Gemini => gemini::embed(embed),
            Front::DashScope => dashscope::embed(embed),
            Front::Ernie => ernie::embed(embed),
            Front::Claude => claude::refuse(&Refusal::of(crate::fake::fault::Class::NoSuchPath)),
        }
    }

    /// An event that says nothing.
    pub fn ping(self) -> Bytes {
        Bytes::from_static(match self {
            Front::Claude => b"event: ping\ndata: {\"type\":\"ping\"}\n\n",
            Front::Gemini => b": ping\r\n\r\n",
            Front::OpenAiLike(_) | Front::DashScope | Front::Ernie => b": keep-alive\n\n",
        })
    }

    /// An error after the 200. `begun`: after content, not instead of it.
    pub fn stream_error(self, refusal: &Refusal, begun: bool) -> Bytes {
        match self {
            Front::OpenAiLike(row) => openai_like::errors::in_stream(row, refusal, begun),
            Front::Claude => claude::stream_error(refusal),
            Front::Gemini => gemini::stream_error(refusal),
            Front::DashScope => dashscope::stream_error(refusal),
            Front::Ernie => ernie::stream_error(refusal),
        }
    }
}
