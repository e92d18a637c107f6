//! How many tokens a request will take, guessed cheaply. Why not a tokenizer: the guess only sets quota aside until the
//! platform says what was used, and a tokenizer costs more than everything else on the path.

use memchr::memmem;

use crate::api::ask::Ask;

/// Bytes of JSON per prompt token, about right for mixed English and Chinese chat requests.
const BYTES_PER_TOKEN: u64 = 4;

/// The fields of a request that the model reads. Their JSON counts as text: it is about what platforms add for each message.
const READ_BY_MODEL: [&str; 5] = ["messages", "tools", "functions", "response_format", "input"];

/// What one inline image or file counts as: platforms count pixels, not bytes of base64.
const TOKENS_PER_INLINE: u64 = 1_000;

/// Set aside for the answer where the caller named no bound.
const DEFAULT_ANSWER: u64 = 1_024;

/// A guess at what a request will use, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    pub prompt: u64,
    pub answer: u64,
}

impl Estimate {
    /// Guesses for `ask`.
    pub fn of(ask: &Ask) -> Self {
        let (inline, inline_bytes) = inline_data(ask.body());
        let read: usize = READ_BY_MODEL.iter().filter_map(|name| ask.raw(name)).map(<[u8]>::len).sum();
        let text = (read as u64).saturating_sub(inline_bytes);
        let prompt = text.div_ceil(BYTES_PER_TOKEN).max(1);
        let prompt = prompt.saturating_add(inline.saturating_mul(TOKENS_PER_INLINE));
        let answer = match ask.task {
            crate::api::ask::Task::Chat => {
                ask.max_answer_tokens.unwrap_or(DEFAULT_ANSWER).saturating_mul(u64::from(ask.choices))
            }
            crate::api::ask::Task::Embeddings => 0,
        };
        Self { prompt, answer }
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
        assert_eq!(estimate.answer, 50);
    }
}
