//! How many tokens a request will take, guessed cheaply. Why not a tokenizer: the guess only sets quota aside until the
//! platform says what was used, and a tokenizer costs more than everything else on the path.

use memchr::memmem;

use super::calibrate::Gauge;
use crate::api::ask::{Ask, Task};

/// Bytes of JSON per prompt token, about right for mixed English and Chinese chat requests.
const BYTES_PER_TOKEN: u64 = 4;

/// The fields of a request that the model reads. Their JSON counts as text: it is about what platforms add for each message.
const READ_BY_MODEL: [&str; 5] = ["messages", "tools", "functions", "response_format", "input"];

/// What one image or file counts as: platforms count pixels, not bytes of base64 or of a URL.
const TOKENS_PER_FILE: u64 = 1_000;

/// Set aside for the answer where the caller named no bound.
const DEFAULT_ANSWER: u64 = 1_024;

/// A guess at what a request will use, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    pub prompt: u64,
    pub answer: u64,
    /// The caller has said how long the answer may be.
    pub is_bounded: bool,
}

impl Estimate {
    /// Guesses for `ask`, whatever the model: [`super::calibrate`] knows by how much that is off.
    pub fn of(ask: &Ask) -> Self {
        let (inline, inline_bytes) = inline_data(ask.body());
        let files = inline.max(images(ask.body()));
        let read: usize = READ_BY_MODEL.iter().filter_map(|name| ask.raw(name)).map(<[u8]>::len).sum();
        let text = (read as u64).saturating_sub(inline_bytes);
        let prompt = text.div_ceil(BYTES_PER_TOKEN).max(1);
        let prompt = prompt.saturating_add(files.saturating_mul(TOKENS_PER_FILE));
        let answer = match ask.task {
            Task::Chat => {
                ask.max_answer_tokens.unwrap_or(DEFAULT_ANSWER).saturating_mul(u64::from(ask.choices))
            }
            Task::Embeddings => 0,
        };
        let is_bounded = ask.task == Task::Embeddings || ask.max_answer_tokens.is_some();
        Self { prompt, answer, is_bounded }
    }

    /// This guess, corrected for a model. What the caller has said of the answer's length needs no correction.
    pub fn corrected(self, gauge: Gauge) -> Self {
        Self { prompt: gauge.prompt(self.prompt), ..self }
    }

    /// Prompt and answer together.
    pub fn total(self) -> u64 {
        self.prompt.saturating_add(self.answer)
    }
}

/// Tokens that `bytes` of streamed chunks stand for, roughly: framing around a few characters of text each.
pub fn tokens_of_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// Bytes of streamed text that `tokens` stand for, at least.
pub fn bytes_of_tokens(tokens: u64) -> u64 {
    tokens.saturating_mul(BYTES_PER_TOKEN)
}

/// How many images there are, inline or by URL. Text cannot fake one: a quote inside a JSON string is always escaped.
fn images(body: &[u8]) -> u64 {
    const KEY: &[u8] = b"\"image_url\"";
    let keys = memmem::find_iter(body, KEY).filter(|at| {
        let rest = body.get(at + KEY.len()..).unwrap_or_default();
        rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
    });
    keys.count() as u64
}

/// How many inline files there are, and how many bytes of base64 they take.
fn inline_data(body: &[u8]) -> (u64, u64) {
    const MARK: &[u8] = b";base64,";
    // Too short to hold an inline file worth the search.
    if body.len() < 512 {
        return (0, 0);
    }
    memmem::find_iter(body, MARK).fold((0, 0), |(count, bytes), at| {
        let data = body.get(at + MARK.len()..).unwrap_or_default();
        let length = memchr::memchr(b'"', data).unwrap_or(data.len());
        (count + 1, bytes + length as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn prompt(body: String) -> u64 {
        Estimate::of(&Ask::chat(Bytes::from(body)).expect("valid")).prompt
    }

    #[test]
    fn a_tiny_prompt_is_tiny_whatever_stands_around_it() {
        let tiny = |more: &str| {
            format!(r#"{{"model":"gpt-4o"{more},"messages":[{{"role":"user","content":"Hi"}}]}}"#)
        };
        // OpenAI counts 8.
        assert!((7..=9).contains(&prompt(tiny(""))), "{}", prompt(tiny("")));
        let around =
            format!(r#","stream":true,"temperature":0.5,"metadata":{{"trace":"{}"}}"#, "x".repeat(400));
        assert_eq!(prompt(tiny(&around)), prompt(tiny("")));
        let tools = r#","tools":[{"type":"function","function":{"name":"get_weather"}}]"#;
        assert!(prompt(tiny(tools)) > prompt(tiny("")) + 10);
    }

    #[test]
    fn text_counts_by_its_bytes_in_short_and_in_long_conversations() {
        let with = |text: &str, turns: usize| {
            let turn = format!(r#"{{"role":"user","content":"{text}"}}"#);
            format!(r#"{{"model":"m","messages":[{}]}}"#, vec![turn; turns].join(","))
        };
        for (length, turns) in [(400, 1), (400, 20), (4_000, 20)] {
            let (guess, text) =
                (prompt(with(&"word".repeat(length / 4), turns)), (length * turns / 4) as u64);
            let spare = 8 * turns as u64 + 4;
            assert!((text..=text + spare).contains(&guess), "{guess} for {text}");
        }
        // A Chinese character is a token or less.
        assert!((70..=110).contains(&prompt(with(&"字".repeat(100), 1))));
    }

    #[test]
    fn an_image_counts_as_an_image_and_not_as_its_base64() {
        let image = "A".repeat(1_000_000);
        let body = format!(
            r#"{{"model":"m","max_tokens":50,"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}]}}"#
        );
        let estimate = Estimate::of(&Ask::chat(Bytes::from(body)).expect("valid"));
        assert!((1_000..1_200).contains(&estimate.prompt), "{estimate:?}");
        assert_eq!((estimate.answer, estimate.is_bounded), (50, true));
    }

    #[test]
    fn an_image_by_url_counts_as_much_and_a_word_about_one_does_not() {
        let with = |content: &str| {
            prompt(format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#))
        };
        let image = r#"{"type":"image_url","image_url" : {"url":"https://example.com/a.png"}}"#;
        assert!((1_000..1_100).contains(&with(&format!("[{image}]"))));
        assert!((2_000..2_100).contains(&with(&format!("[{image},{image}]"))));
        assert!(with(r#""what is an \"image_url\": tell me""#) < 50);
    }
}
