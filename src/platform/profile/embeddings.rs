//! Embeddings. Almost every platform that has them speaks OpenAI's shape; what differs is whether it knows `base64`, which
//! OpenAI's own SDKs ask for without being told to. So the encoding is made here where the platform cannot.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Platform, judge, set_model};
use crate::api::ask::Ask;
use crate::api::scan::{Object, Rewriter};
use crate::dialect::{Dialect, Encoded, Failure, Unsupported};
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
        let Some(path) = self.embeddings_path.clone().filter(|_| self.dialect == Dialect::Openai) else {
            return Err(Fault::unsupported("model", format!("{} has no embeddings here.", self.title)));
        };
        let mut draft = Draft::new(ask);
        rules::lacking(&mut draft, &self.embeddings_lacks, unsupported, &self.title)?;
        self.embeddings_request.iter().for_each(|step| step.apply(&mut draft));
        set_model(&mut draft, ask, model);
        let (body, mut dropped) = draft.finish();
        // What is made here is not missing.
        dropped.retain(|name| name != "encoding_format");
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
        let malformed = |why: &str| Failure::Malformed(format!("embeddings: {why}"));
        let fields = Object::scan(body).map_err(|wrong| malformed(&wrong.to_string()))?;
        let data = fields.get(body, "data").filter(|data| data.first() == Some(&b'['));
        let data = data.ok_or_else(|| malformed("no data"))?;
        let wants_base64 = ask.raw("encoding_format") == Some(b"\"base64\"");
        let data = encoded(data, wants_base64).ok_or_else(|| malformed("vectors that cannot be read"))?;
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

/// Numbers as little-endian 32-bit floats in base64.
#[expect(clippy::cast_possible_truncation, reason = "the encoding is 32 bit")]
fn to_base64(numbers: &[Value]) -> Option<String> {
    let mut bytes = Vec::with_capacity(numbers.len() * 4);
    for number in numbers {
        bytes.extend_from_slice(&(number.as_f64()? as f32).to_le_bytes());
    }
    Some(STANDARD.encode(bytes))
}

fn from_base64(text: &str) -> Option<Value> {
    let bytes = STANDARD.decode(text).ok()?;
    let floats = bytes.chunks_exact(4).map(|four| Some(f32::from_le_bytes(four.try_into().ok()?)));
    floats.collect::<Option<Vec<f32>>>().map(|floats| json!(floats))
}
