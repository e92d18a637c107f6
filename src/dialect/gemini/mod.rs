//! Google's `generateContent`. Why a wire of its own although Google offers an OpenAI-like one: that one hides prompt
//! blocks, thought counts and the reasons why an answer ended, and its errors have another shape.
//!
//! Thought signatures go outward as `extra_content.google.thought_signature` of the tool call that they belong to, as on
//! Google's own OpenAI-like endpoint, and come back from there or from what was kept under the call's id
//! ([`Recall`](super::Recall)).

mod contents;
mod decode;
mod embeddings;
mod encode;
mod schema;

pub use decode::Decoder;
pub use embeddings::{decode_embeddings, encode_embeddings};
pub use encode::encode;

/// Where our callers see what only Google knows: `extra_content.google`.
const VENDOR: &str = "google";

/// The signature within it.
const SIGNATURE: &str = "thought_signature";

/// The path of a model's method, to be appended to the base URL.
fn path(model: &str, method: &str) -> String {
    format!("/models/{}:{method}", in_path(bare(model)))
}

/// The model's name without the prefix that Google's own list gives it.
fn bare(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

/// One segment of a path: everything that is not plain is percent-encoded.
fn in_path(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_models_name_cannot_leave_its_segment() {
        assert_eq!(super::path("models/gemini-3.8-flash", "m"), "/models/gemini-3.8-flash:m");
        assert_eq!(super::path("a/../b?key=ü", "m"), "/models/a%2F..%2Fb%3Fkey%3D%C3%BC:m");
    }
}
