//! Embeddings. Almost every platform that has them speaks OpenAI's shape; what differs is whether it knows `base64`, which
//! OpenAI's own SDKs ask for without being told to. So the encoding is made here where the platform cannot.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Platform, judge, set_model};
use crate::api::ask::Ask;
use crate::api::scan::{Object, Rewriter};
use crate::dialect::{self, Dialect, Encoded, Failure, Unsupported};
use crate::fault::Fault;
use crate::platform::rules::{self, Draft};

impl Platform {
    /// Writes an embeddings request for `model` (by the platform's own name).
    ///
    /// # Errors
    /// An unsupported request where the platform has no embeddings, or a parameter that it lacks where the route rejects.
    pub fn encode_embeddings(
        &self,
        ask: &Ask,
        model: &str,
        unsupported: Unsupported,
    ) -> Result<Encoded, Fault> {
        let path = match (self.dialect, &self.embeddings_path) {
            (Dialect::Gemini, _) => String::new(),
            (Dialect::Openai, Some(path)) => path.clone(),
            _ => return Err(Fault::unsupported("model", format!("{} has no embeddings here.", self.title))),
        };
        let mut draft = Draft::new(ask);
        rules::lacking(&mut draft, &self.embeddings_lacks, unsupported, &self.title)?;
        self.embeddings_request.iter().for_each(|step| step.apply(&mut draft));
        set_model(&mut draft, ask, model);
        let (body, mut dropped) = draft.finish();
        // What is made here is not missing.
        dropped.retain(|name| name != "encoding_format");
        if self.dialect == Dialect::Gemini {
            return gemini(&body, model, unsupported, dropped);
        }
        Ok(Encoded { path, headers: Vec::new(), body, dropped })
    }

    /// Reads an embeddings answer and gives it in OpenAI's shape, under the model's name that the caller used and in the
    /// encoding that the caller asked for.
    ///
    /// # Errors
    /// [`Failure::Reported`] where it is an error report, [`Failure::Malformed`] where it is no such answer.
    pub fn decode_embeddings(&self, body: &[u8], ask: &Ask) -> Result<Bytes, Failure> {
        if judge::is_error(body) {
            return Err(Failure::Reported(body.to_vec()));
        }
        if self.dialect == Dialect::Gemini {
            return Ok(listed(&dialect::gemini::decode_embeddings(body)?, ask));
        }
        let malformed = |why: &str| Failure::Malformed(format!("embeddings: {why}"));
        let fields = Object::scan(body).map_err(|wrong| malformed(&wrong.to_string()))?;
        let data = fields.get(body, "data").filter(|data| data.first() == Some(&b'['));
        let data = data.ok_or_else(|| malformed("no data"))?;
        let data =
            encoded(data, wants_base64(ask)).ok_or_else(|| malformed("vectors that cannot be read"))?;
        let mut out = Rewriter::new(body.len());
        out.field("object", "list");
        out.field("model", &ask.model);
        out.copy(b"data", &data);
        for (name, written, raw) in fields.iter(body) {
            if !matches!(name.as_ref(), "object" | "model" | "data") {
                out.copy(written, raw);
            }
        }
        if fields.get(body, "usage").is_none() {
            out.field("usage", &json!({"prompt_tokens": 0, "total_tokens": 0}));
        }
        Ok(out.finish().into())
    }
}

fn wants_base64(ask: &Ask) -> bool {
    ask.raw("encoding_format") == Some(b"\"base64\"")
}

/// Google's wire: input and dimensions are all that it takes.
fn gemini(
    body: &[u8],
    model: &str,
    unsupported: Unsupported,
    mut dropped: Vec<String>,
) -> Result<Encoded, Fault> {
    let fields: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|wrong| Fault::bad("input", format!("The request could not be read: {wrong}.")))?;
    for name in fields.keys() {
        match (name.as_str(), unsupported) {
            ("model" | "input" | "dimensions" | "encoding_format", _) => {}
            // The name is the caller's own, and it goes into a header.
            (_, Unsupported::Drop) => {
                dropped.push(name.chars().filter(char::is_ascii_graphic).take(64).collect())
            }
            (_, Unsupported::Reject) => {
                let sentence = format!("'{name}' is not supported by this model's platform.");
                return Err(Fault::unsupported(name.clone(), sentence));
            }
        }
    }
    let dimensions = fields.get("dimensions").and_then(Value::as_u64);
    let input = fields.get("input").unwrap_or(&Value::Null);
    let encoded = dialect::gemini::encode_embeddings(input, model, dimensions)?;
    dropped.extend(encoded.dropped);
    Ok(Encoded { dropped, ..encoded })
}

/// Vectors as OpenAI lists them. Google says nothing of usage.
fn listed(vectors: &[Vec<f32>], ask: &Ask) -> Bytes {
    let one = |(index, vector): (usize, &Vec<f32>)| {
        let vector = if wants_base64(ask) { json!(base64_of(vector)) } else { json!(vector) };
        json!({"object": "embedding", "index": index, "embedding": vector})
    };
    let data: Vec<Value> = vectors.iter().enumerate().map(one).collect();
    let usage = json!({"prompt_tokens": 0, "total_tokens": 0});
    json!({"object": "list", "data": data, "model": ask.model, "usage": usage}).to_string().into()
}

/// `data` with its vectors in the wanted encoding; as it is where it is so already.
fn encoded(data: &[u8], wants_base64: bool) -> Option<std::borrow::Cow<'_, [u8]>> {
    const KEY: &[u8] = b"\"embedding\":";
    let bare = |byte: &&u8| !byte.is_ascii_whitespace();
    // The first vector tells the encoding; the key may also be the value of `object`, which no colon follows.
    let first = memchr::memmem::find(data, KEY).and_then(|at| data.get(at + KEY.len()..)?.iter().find(bare));
    match (first, wants_base64) {
        (Some(b'['), false) | (Some(b'"'), true) => return Some(data.into()),
        _ => {}
    }
    let mut data: Vec<Value> = serde_json::from_slice(data).ok()?;
    for item in &mut data {
        let vector = item.get_mut("embedding")?;
        *vector = match (&*vector, wants_base64) {
            (Value::Array(numbers), true) => Value::String(to_base64(numbers)?),
            (Value::String(text), false) => from_base64(text)?,
            _ => continue,
        };
    }
    serde_json::to_vec(&data).ok().map(Into::into)
}

#[expect(clippy::cast_possible_truncation, reason = "the encoding is 32 bit")]
fn to_base64(numbers: &[Value]) -> Option<String> {
    let floats = numbers.iter().map(|number| Some(number.as_f64()? as f32));
    floats.collect::<Option<Vec<f32>>>().map(|floats| base64_of(&floats))
}

/// Little-endian 32-bit floats in base64, as OpenAI encodes them.
fn base64_of(floats: &[f32]) -> String {
    let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

fn from_base64(text: &str) -> Option<Value> {
    let bytes = STANDARD.decode(text).ok()?;
    let floats = bytes.chunks_exact(4).map(|four| Some(f32::from_le_bytes(four.try_into().ok()?)));
    floats.collect::<Option<Vec<f32>>>().map(|floats| json!(floats))
}
