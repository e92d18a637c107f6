//! Reads Gemini's answers. Why the finish waits for all candidates: this wire has no end mark, only a reason for each
//! candidate; and a cut answer must never hold a finish.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::lenient::{self, count, flag, number, object, raw, text};
use super::super::{Ending, Failure, Quirks};
use super::{SIGNATURE, VENDOR};
use crate::api::piece::{FinishReason, Piece, Sink, Usage};
use crate::api::writer::mint_call_id;
use crate::sse::Event;

/// One event, or the whole answer. Any field may be missing: the wire leaves defaults out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow, deserialize_with = "text")]
    response_id: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "object")]
    candidates: Vec<Candidate<'a>>,
    #[serde(borrow, deserialize_with = "object")]
    prompt_feedback: Feedback<'a>,
    #[serde(deserialize_with = "object")]
    usage_metadata: Tokens,
    #[serde(borrow, deserialize_with = "raw")]
    error: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow, deserialize_with = "text")]
    block_reason: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(deserialize_with = "count")]
    index: Option<u64>,
    #[serde(borrow, deserialize_with = "object")]
    content: Content<'a>,
    #[serde(borrow, deserialize_with = "text")]
    finish_reason: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "object")]
    logprobs_result: Logprobs<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content<'a> {
    #[serde(borrow, deserialize_with = "object")]
    parts: Vec<Part<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow, deserialize_with = "text")]
    text: Cow<'a, str>,
    #[serde(deserialize_with = "flag")]
    thought: bool,
    #[serde(borrow, deserialize_with = "text")]
    thought_signature: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "object")]
    function_call: Option<Call<'a>>,
    #[serde(borrow, deserialize_with = "object")]
    inline_data: Option<Inline<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Call<'a> {
    #[serde(borrow, deserialize_with = "text")]
    id: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "text")]
    name: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "raw")]
    args: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Inline<'a> {
    #[serde(borrow, deserialize_with = "text")]
    mime_type: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "text")]
    data: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Logprobs<'a> {
    #[serde(borrow, deserialize_with = "object")]
    chosen_candidates: Vec<Token<'a>>,
    #[serde(borrow, deserialize_with = "object")]
    top_candidates: Vec<Top<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Top<'a> {
    #[serde(borrow, deserialize_with = "object")]
    candidates: Vec<Token<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Token<'a> {
    #[serde(borrow, deserialize_with = "text")]
    token: Cow<'a, str>,
    #[serde(deserialize_with = "number")]
    log_probability: f64,
}

/// Gemini's counts: running totals, of which the last one known counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Tokens {
    #[serde(deserialize_with = "count")]
    prompt_token_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    cached_content_token_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    candidates_token_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    thoughts_token_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    tool_use_prompt_token_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    total_token_count: Option<u64>,
}

impl Tokens {
    fn update(&mut self, later: Tokens) {
        let take = |old: &mut Option<u64>, new: Option<u64>| *old = new.or(*old);
        take(&mut self.prompt_token_count, later.prompt_token_count);
        take(&mut self.cached_content_token_count, later.cached_content_token_count);
        take(&mut self.candidates_token_count, later.candidates_token_count);
        take(&mut self.thoughts_token_count, later.thoughts_token_count);
        take(&mut self.tool_use_prompt_token_count, later.tool_use_prompt_token_count);
        take(&mut self.total_token_count, later.total_token_count);
    }

    /// In OpenAI's terms. The prompt's count includes the cache already; the answer's leaves the thoughts out.
    fn usage(self) -> Usage {
        Usage {
            prompt: sum(self.prompt_token_count, self.tool_use_prompt_token_count),
            completion: sum(self.candidates_token_count, self.thoughts_token_count),
            total: self.total_token_count,
            cached: self.cached_content_token_count,
            cache_write: None,
            reasoning: self.thoughts_token_count,
        }
    }
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
    }
}

/// What is known of one candidate so far.
#[derive(Debug, Default)]
struct Choice {
    began: bool,
    has_content: bool,
    calls: u32,
    reason: Option<FinishReason>,
    finished: bool,
    /// The signature of its text, for the next turn.
    signature: Option<String>,
}

/// Most choices that OpenAI's API knows.
const MOST_CHOICES: usize = 128;

/// Reads one answer.
#[derive(Debug, Default)]
pub struct Decoder {
    started: bool,
    tokens: Tokens,
    choices: Vec<Choice>,
}

impl Decoder {
    /// A decoder for one answer. No quirk changes how Gemini answers.
    pub fn new(_: Quirks) -> Self {
        Self::default()
    }

    /// See [`super::super::Decoder::push`].
    ///
    /// # Errors
    /// As there.
    pub fn push(&mut self, event: Event<'_>, sink: &mut dyn Sink) -> Result<(), Failure> {
        self.take(event.data, sink)
    }

    /// See [`super::super::Decoder::is_done`]. This wire has no end mark: the end is where the bytes end.
    pub fn is_done(&self) -> bool {
        false
    }

    /// See [`super::super::Decoder::finish`].
    pub fn finish(&mut self, _: &mut dyn Sink) -> Ending {
        let mut begun = self.choices.iter().filter(|choice| choice.began).peekable();
        if begun.peek().is_some() && begun.all(|choice| choice.finished) {
            Ending::Complete
        } else {
            Ending::Cut
        }
    }

    /// See [`super::super::Decoder::whole`].
    ///
    /// # Errors
    /// As there.
    pub fn whole(&mut self, body: &[u8], sink: &mut dyn Sink) -> Result<(), Failure> {
        if body.trim_ascii_start().starts_with(b"[") {
            // A stream without `alt=sse`, or an error report in a list.
            for chunk in lenient::json::<Vec<&RawValue>>(body)? {
                self.take(chunk.get().as_bytes(), sink)?;
            }
        } else {
            self.take(body, sink)?;
        }
        // The JSON is whole, so an answer with content is too; one without content and reason is no answer.
        for choice in self.choices.iter_mut().filter(|choice| choice.has_content) {
            choice.reason.get_or_insert(FinishReason::Stop);
        }
        self.settle(sink);
        match self.finish(sink) {
            Ending::Complete => Ok(()),
            Ending::Cut => Err(Failure::Malformed("the answer holds no finished candidate".into())),
        }
    }

    fn take(&mut self, chunk: &[u8], sink: &mut dyn Sink) -> Result<(), Failure> {
        if chunk.trim_ascii_start().starts_with(b"[") {
            let stray = Failure::Malformed("a list where an answer was due".into());
            return Err(report(chunk).map_or(stray, Failure::Reported));
        }
        let wire: Wire<'_> = lenient::json(chunk)?;
        if wire.error.is_some() {
            return Err(Failure::Reported(chunk.to_vec()));
        }
        if !std::mem::replace(&mut self.started, true) {
            let id = Some(&*wire.response_id).filter(|id| !id.is_empty());
            sink.piece(Piece::Start { id, created: None });
        }
        if wire.candidates.is_empty() && !wire.prompt_feedback.block_reason.is_empty() {
            self.blocked(sink);
        }
        for candidate in &wire.candidates {
            self.candidate(candidate, chunk, sink)?;
        }
        if wire.usage_metadata != Tokens::default() {
            self.tokens.update(wire.usage_metadata);
            sink.piece(Piece::Usage(self.tokens.usage()));
        }
        self.settle(sink);
        Ok(())
    }

    fn choice(&mut self, index: usize) -> Option<&mut Choice> {
        if index >= MOST_CHOICES {
            return None;
        }
        while self.choices.len() <= index {
            self.choices.push(Choice::default());
        }
        self.choices.get_mut(index)
    }

    /// The prompt was refused: an empty answer, as OpenAI's filter would have given.
    fn blocked(&mut self, sink: &mut dyn Sink) {
        sink.piece(Piece::Text { choice: 0, text: "" });
        if let Some(choice) = self.choice(0) {
            choice.began = true;
            choice.reason.get_or_insert(FinishReason::ContentFilter);
        }
    }

    fn candidate(
        &mut self,
        candidate: &Candidate<'_>,
        chunk: &[u8],
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let index = candidate.index.unwrap_or_default();
        let (Ok(number), Ok(position)) = (u32::try_from(index), usize::try_from(index)) else {
            return Ok(());
        };
        let Some(choice) = self.choice(position) else { return Ok(()) };
        choice.began = true;
        if let Some(value) = logprobs(&candidate.logprobs_result) {
            sink.piece(Piece::Logprobs { choice: number, value });
        }
        for part in &candidate.content.parts {
            choice.part(number, part, sink);
        }
        match outcome(&candidate.finish_reason) {
            Outcome::Open => {}
            Outcome::Done(reason) => choice.reason = Some(reason),
            Outcome::Garbled if choice.has_content => choice.reason = Some(FinishReason::Stop),
            Outcome::Garbled | Outcome::Fault => return Err(Failure::Reported(chunk.to_vec())),
        }
        Ok(())
    }

    /// Says the finishes, once every candidate that began has its reason.
    fn settle(&mut self, sink: &mut dyn Sink) {
        if self.choices.iter().any(|choice| choice.began && choice.reason.is_none()) {
            return;
        }
        for (number, choice) in (0..).zip(self.choices.iter_mut()) {
            let Some(reason) = choice.reason.filter(|_| !choice.finished) else { continue };
            choice.finished = true;
            if let Some(signature) = choice.signature.take() {
                let value = json!({VENDOR: {SIGNATURE: signature}});
                sink.piece(Piece::Extra { choice: number, name: "extra_content", value });
            }
            sink.piece(Piece::Finish { choice: number, reason });
        }
    }
}

impl Choice {
    fn part(&mut self, number: u32, part: &Part<'_>, sink: &mut dyn Sink) {
        if let Some(call) = &part.function_call {
            self.has_content = true;
            return self.call(number, call, &part.thought_signature, sink);
        }
        if let Some(inline) =
            part.inline_data.as_ref().filter(|inline| inline.mime_type.starts_with("image/"))
        {
            self.has_content = true;
            let url = format!("data:{};base64,{}", inline.mime_type, inline.data);
            let value = json!([{"type": "image_url", "image_url": {"url": url}}]);
            sink.piece(Piece::Extra { choice: number, name: "images", value });
        }
        if part.thought {
            if !part.text.is_empty() {
                sink.piece(Piece::Reasoning { choice: number, text: &part.text });
            }
            return;
        }
        if !part.thought_signature.is_empty() {
            self.signature = Some(part.thought_signature.to_string());
        }
        if !part.text.is_empty() {
            self.has_content = true;
            sink.piece(Piece::Text { choice: number, text: &part.text });
        }
    }

    /// Calls come whole on this wire, and often without an id.
    fn call(&mut self, number: u32, call: &Call<'_>, signature: &str, sink: &mut dyn Sink) {
        let key = self.calls;
        self.calls = self.calls.saturating_add(1);
        let minted = call.id.is_empty().then(mint_call_id);
        let id = minted.as_deref().unwrap_or(&call.id);
        let state = (!signature.is_empty()).then(|| json!({VENDOR: {SIGNATURE: signature}}));
        sink.piece(Piece::ToolStart {
            choice: number,
            key,
            id: Some(id),
            name: &call.name,
            extra: state.clone(),
        });
        let text = compact(call.args.map_or("{}", RawValue::get));
        sink.piece(Piece::ToolArguments { choice: number, key, text: &text });
        if let Some(value) = state {
            sink.piece(Piece::Remember { tool_call_id: id, value });
        }
    }
}

/// Google prints whole answers for people; arguments are a text of their own, which the margin of the print is no part of.
fn compact(json: &str) -> Cow<'_, str> {
    if !json.contains('\n') {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let (mut is_quoted, mut is_escaped) = (false, false);
    for character in json.chars().filter(|character| !character.is_ascii_control()) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => continue,
            _ => {}
        }
        out.push(character);
    }
    Cow::Owned(out)
}

/// What a `finishReason` means.
enum Outcome {
    Open,
    Done(FinishReason),
    /// The model wrote nonsense: worth another try where nothing usable came before.
    Garbled,
    /// The request or the account is at fault.
    Fault,
}

fn outcome(reason: &str) -> Outcome {
    match reason {
        "" | "FINISH_REASON_UNSPECIFIED" => Outcome::Open,
        "MAX_TOKENS" | "CONTINUATION" => Outcome::Done(FinishReason::Length),
        "SAFETY"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "ESCALATION"
        | "MODEL_ARMOR"
        | "RECITATION"
        | "IMAGE_RECITATION"
        | "LANGUAGE"
        | "OTHER"
        | "IMAGE_OTHER"
        | "NO_IMAGE" => Outcome::Done(FinishReason::ContentFilter),
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" | "MALFORMED_RESPONSE" => {
            Outcome::Garbled
        }
        "MISSING_THOUGHT_SIGNATURE" | "PUP_LIMITED_DISABLED" => Outcome::Fault,
        // `STOP` (also for tool calls: the sink sees those), and reasons of tomorrow.
        _ => Outcome::Done(FinishReason::Stop),
    }
}

/// OpenAI's `logprobs`, with the bytes that Gemini leaves out.
fn logprobs(result: &Logprobs<'_>) -> Option<Value> {
    if result.chosen_candidates.is_empty() {
        return None;
    }
    let entry = |token: &Token<'_>| json!({"token": token.token, "logprob": token.log_probability, "bytes": token.token.as_bytes()});
    let mut tops = result.top_candidates.iter();
    let content: Vec<Value> = result
        .chosen_candidates
        .iter()
        .map(|chosen| {
            let top: Vec<Value> =
                tops.next().map(|top| top.candidates.iter().map(entry).collect()).unwrap_or_default();
            let mut value = entry(chosen);
            if let Some(object) = value.as_object_mut() {
                object.insert("top_logprobs".to_owned(), Value::Array(top));
            }
            value
        })
        .collect();
    Some(json!({"content": content, "refusal": null}))
}

/// The error report that `body` is, if it is one, without the list that Google sometimes wraps it in.
pub(super) fn report(body: &[u8]) -> Option<Vec<u8>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Report<'a> {
        #[serde(borrow, deserialize_with = "raw")]
        error: Option<&'a RawValue>,
    }
    let bare = |body: &[u8]| {
        let report: Report<'_> = serde_json::from_slice(body).ok()?;
        report.error.map(|_| body.to_vec())
    };
    if !body.trim_ascii_start().starts_with(b"[") {
        return bare(body);
    }
    let list: Vec<&RawValue> = serde_json::from_slice(body).ok()?;
    list.first().map(|first| first.get().as_bytes()).filter(|first| first.starts_with(b"{")).and_then(bare)
}

#[cfg(test)]
mod tests;
