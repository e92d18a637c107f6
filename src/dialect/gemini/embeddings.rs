//! Embeddings on Google's wire. Why always the batch method: one call for any number of inputs, and one shape to read.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{Encoded, Failure, lenient};
use super::decode::report;
use crate::fault::{Fault, Kind};

#[derive(Serialize)]
struct Batch<'a> {
    requests: Vec<One<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    model: &'a str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u64>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Serialize)]
struct Part<'a> {
    text: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    embeddings: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    values: Vec<f32>,
}

/// Writes an embeddings request. `input` is OpenAI's: a text or a list of texts.
///
/// # Errors
/// A bad request where `input` is empty or holds tokens instead of text.
pub fn encode_embeddings(input: &Value, model: &str, dimensions: Option<u64>) -> Result<Encoded, Fault> {
    let texts = match input {
        Value::String(text) => vec![text.as_str()],
        Value::Array(list) => list.iter().map(text_of).collect::<Result<_, _>>()?,
        _ => return Err(bad("'input' must be a string or an array of strings.")),
    };
    if texts.is_empty() || texts.iter().any(|text| text.is_empty()) {
        return Err(bad("'input' must not be empty, nor hold an empty string."));
    }
    let name = format!("models/{}", super::bare(model));
    let one = |text| One {
        model: &name,
        content: Content { parts: [Part { text }] },
        output_dimensionality: dimensions,
    };
    let batch = Batch { requests: texts.into_iter().map(one).collect() };
    let body = serde_json::to_vec(&batch)
        .map_err(|wrong| Fault::gateway(Kind::Internal, "The request could not be written.").source(wrong))?;
    Ok(Encoded {
        path: super::path(model, "batchEmbedContents"),
        headers: Vec::new(),
        body: Bytes::from(body),
        dropped: Vec::new(),
    })
}

fn text_of(item: &Value) -> Result<&str, Fault> {
    match item {
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Array(_) => {
            Err(bad("'input' holds tokens: the model's platform takes text only. Send strings."))
        }
        _ => Err(bad("'input' must be a string or an array of strings.")),
    }
}

fn bad(sentence: &'static str) -> Fault {
    Fault::bad("input", sentence)
}

/// Reads the answer: one vector for each input, in order.
///
/// # Errors
/// [`Failure`] where it is an error report or not of this wire.
pub fn decode_embeddings(body: &[u8]) -> Result<Vec<Vec<f32>>, Failure> {
    if let Some(report) = report(body) {
        return Err(Failure::Reported(report));
    }
    let answer: Answer = lenient::json(body)?;
    if answer.embeddings.is_empty() {
        return Err(Failure::Malformed("the answer holds no embeddings".into()));
    }
    Ok(answer.embeddings.into_iter().map(|one| one.values).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_request_for_each_text() {
        let encoded = encode_embeddings(&json!(["a", "b"]), "models/e-1", Some(256)).expect("texts");
        assert_eq!(encoded.path, "/models/e-1:batchEmbedContents");
        let body: Value = serde_json::from_slice(&encoded.body).expect("json");
        let one = |text| json!({"model": "models/e-1", "content": {"parts": [{"text": text}]}, "outputDimensionality": 256});
        assert_eq!(body, json!({"requests": [one("a"), one("b")]}));
        let encoded = encode_embeddings(&json!("a"), "e-1", None).expect("text");
        assert!(!String::from_utf8_lossy(&encoded.body).contains("outputDimensionality"));
    }

    #[test]
    fn tokens_and_emptiness_are_refused() {
        for (input, word) in [
            (json!([1, 2]), "tokens"),
            (json!([[1, 2]]), "tokens"),
            (json!([]), "empty"),
            (json!(""), "empty"),
            (json!(["a", ""]), "empty"),
            (json!({}), "must be"),
            (json!([null]), "must be"),
        ] {
            let fault = encode_embeddings(&input, "e", None).expect_err("refused");
            assert_eq!(fault.get_param(), Some("input"));
            assert!(fault.public().contains(word), "{input}: {}", fault.public());
        }
    }

    #[test]
    fn reads_vectors_and_reports() {
        assert_eq!(
            decode_embeddings(br#"{"embeddings":[{"values":[0.5,-1]},{"values":[2]}]}"#),
            Ok(vec![vec![0.5, -1.0], vec![2.0]])
        );
        for body in [r#"{"error":{"code":429}}"#, r#"[{"error":{"code":429}}]"#] {
            assert_eq!(
                decode_embeddings(body.as_bytes()),
                Err(Failure::Reported(br#"{"error":{"code":429}}"#.to_vec())),
                "{body}"
            );
        }
        for body in ["{}", r#"{"embeddings":[]}"#, "<html>"] {
            assert!(matches!(decode_embeddings(body.as_bytes()), Err(Failure::Malformed(_))), "{body}");
        }
    }
}
