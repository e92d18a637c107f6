//! The turns of a conversation as Claude wants them. Why borrowed: a message may hold 20 MB of base64, which is copied
//! once, into the body that is sent.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::Recall;
use super::super::history::{Answered, History, Turn, arguments, bad_message};
use super::super::leftovers::{Leftovers, refusal, within};
use super::super::media::{self, Media};
use super::{BLOCKS, VENDOR};
use crate::api::chat::{Content, File, KnownPart, Message, Part};
use crate::fault::Fault;
use crate::opaque::hex;

/// Anthropic's field that marks how far a prompt is to be cached.
pub(super) const CACHE_MARK: &str = "cache_control";

/// A turn of `messages`.
#[derive(Debug, Serialize)]
pub(super) struct Said<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

/// A content block.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a Value>,
    },
    Image {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a Value>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a Value>,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: &'a RawValue,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a Value>,
    },
    /// Signed thinking, exactly as Claude gave it.
    #[serde(untagged)]
    Thinking(Value),
}

/// Where an image or document is.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Source<'a> {
    Base64 { media_type: Cow<'a, str>, data: &'a str },
    Url { url: &'a str },
    Text { media_type: &'static str, data: String },
}

/// The top-level `system`: every system text, in order.
///
/// # Errors
/// A bad request that names the message that holds more than text.
pub(super) fn system<'a>(history: &History<'a>, leftovers: &mut Leftovers) -> Result<Vec<Block<'a>>, Fault> {
    let mut blocks = Vec::with_capacity(history.system.len());
    for (at, message) in &history.system {
        leftovers.message_fields(message, &[CACHE_MARK]);
        let start = blocks.len();
        texts(*at, &message.content, &mut blocks)?;
        mark_cache(message, blocks.get_mut(start..).unwrap_or_default());
    }
    Ok(blocks)
}

/// Every turn; neighbours of the same role become one. `thinking` says whether signed thinking goes along.
///
/// # Errors
/// A bad request that names the message.
pub(super) fn turns<'a>(
    history: &History<'a>,
    thinking: bool,
    recall: &dyn Recall,
    leftovers: &mut Leftovers,
) -> Result<Vec<Said<'a>>, Fault> {
    let mut said: Vec<Said<'a>> = Vec::with_capacity(history.turns.len());
    for turn in &history.turns {
        match turn {
            Turn::User { at, message } => {
                leftovers.message_fields(message, &[CACHE_MARK]);
                let mut blocks = Vec::new();
                parts(*at, &message.content, &mut blocks)?;
                if blocks.is_empty() {
                    return Err(bad_message(*at, "is empty, which the model's platform refuses"));
                }
                mark_cache(message, &mut blocks);
                add(&mut said, "user", blocks);
            }
            Turn::Assistant { at, message } => {
                leftovers.message_fields(message, &[CACHE_MARK]);
                add(&mut said, "assistant", assistant(*at, message, thinking, recall)?);
            }
            Turn::Results(results) => {
                let blocks =
                    results.iter().map(|one| result(one, leftovers)).collect::<Result<Vec<_>, _>>()?;
                add(&mut said, "user", blocks);
            }
        }
    }
    trim_prefill(&mut said);
    Ok(said)
}

fn add<'a>(said: &mut Vec<Said<'a>>, role: &'static str, blocks: Vec<Block<'a>>) {
    match said.last_mut() {
        Some(last) if last.role == role => last.content.extend(blocks),
        // An assistant turn without content (an answer that was broken off) says nothing, and must not be sent.
        _ if blocks.is_empty() => {}
        _ => said.push(Said { role, content: blocks }),
    }
}

/// A last assistant turn is the beginning of the answer; Claude refuses one that ends in white space.
fn trim_prefill(said: &mut [Said<'_>]) {
    let Some(last) = said.last_mut().filter(|last| last.role == "assistant") else { return };
    if let Some(Block::Text { text, .. }) = last.content.last_mut() {
        let kept = text.trim_end().len();
        match text {
            Cow::Borrowed(text) => *text = text.get(..kept).unwrap_or_default(),
            Cow::Owned(text) => text.truncate(kept),
        }
    }
}

fn assistant<'a>(
    at: usize,
    message: &'a Message<'a>,
    thinking: bool,
    recall: &dyn Recall,
) -> Result<Vec<Block<'a>>, Fault> {
    let mut blocks = Vec::new();
    if thinking {
        blocks.extend(signed_thinking(message, recall).into_iter().map(Block::Thinking));
    }
    let start = blocks.len();
    texts(at, &message.content, &mut blocks)?;
    if let Some(refusal) = message.refusal.as_deref() {
        text(refusal, &mut blocks);
    }
    mark_cache(message, blocks.get_mut(start..).unwrap_or_default());
    for call in &message.tool_calls {
        let input = arguments(at, call)?;
        blocks.push(Block::ToolUse { id: acceptable_id(&call.id), name: &call.function.name, input });
    }
    Ok(blocks)
}

/// The signed thinking of an assistant turn: what the caller gave back, or what was kept under its calls' ids.
pub(super) fn signed_thinking(message: &Message<'_>, recall: &dyn Recall) -> Vec<Value> {
    let echoed = |extra: Option<&Value>| thinking_blocks(within(extra, VENDOR, BLOCKS));
    let given = echoed(message.extra_content.as_ref());
    if !given.is_empty() {
        return given;
    }
    let calls = &message.tool_calls;
    let given =
        calls.iter().map(|call| echoed(call.extra_content.as_ref())).find(|blocks| !blocks.is_empty());
    given
        .or_else(|| {
            calls
                .iter()
                .filter_map(|call| recall.recall(&call.id))
                .map(|kept| echoed(Some(&kept)))
                .find(|blocks| !blocks.is_empty())
        })
        .unwrap_or_default()
}

/// Exactly the fields that Claude signed, without the `index` that the caller saw.
fn thinking_blocks(given: Option<&Value>) -> Vec<Value> {
    let blocks = given.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    blocks
        .iter()
        .filter_map(|block| {
            let field = |name: &str| block.get(name).and_then(Value::as_str);
            match field("type")? {
                "thinking" => Some(json!({
                    "type": "thinking",
                    "thinking": field("thinking")?,
                    "signature": field("signature").filter(|signature| !signature.is_empty())?,
                })),
                "redacted_thinking" => Some(json!({"type": "redacted_thinking", "data": field("data")?})),
                _ => None,
            }
        })
        .collect()
}

fn result<'a>(answered: &Answered<'a>, leftovers: &mut Leftovers) -> Result<Block<'a>, Fault> {
    leftovers.message_fields(answered.message, &[CACHE_MARK]);
    let mut content = Vec::new();
    parts(answered.at, &answered.message.content, &mut content)?;
    Ok(Block::ToolResult {
        tool_use_id: acceptable_id(&answered.call.id),
        content,
        cache_control: answered.message.rest.get(CACHE_MARK).filter(|mark| mark.is_object()),
    })
}

/// The id as it came where Claude takes it, else one made from it, the same each time.
pub(super) fn acceptable_id(id: &str) -> Cow<'_, str> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !id.is_empty() && id.len() <= 64 && id.bytes().all(safe) {
        return Cow::Borrowed(id);
    }
    let hash = Sha256::digest(id.as_bytes());
    Cow::Owned(format!("call_{}", hex(hash.get(..16).unwrap_or_default())))
}

fn text<'a>(text: &'a str, blocks: &mut Vec<Block<'a>>) {
    // Claude refuses blocks of white space.
    if !text.trim().is_empty() {
        blocks.push(Block::Text { text: Cow::Borrowed(text), cache_control: None });
    }
}

/// Text alone.
fn texts<'a>(at: usize, content: &'a Content<'a>, blocks: &mut Vec<Block<'a>>) -> Result<(), Fault> {
    match content {
        Content::None => {}
        Content::Text(words) => text(words, blocks),
        Content::Parts(parts) => {
            for part in parts {
                let start = blocks.len();
                match part {
                    Part::Known(KnownPart::Text { text: words, .. }) => text(words, blocks),
                    Part::Known(KnownPart::Refusal { refusal, .. }) => text(refusal, blocks),
                    _ => {
                        return Err(bad_message(
                            at,
                            "has a part that is not text, which this role cannot have",
                        ));
                    }
                }
                mark_part(part, blocks.get_mut(start..).unwrap_or_default());
            }
        }
    }
    Ok(())
}

/// Text, images and documents.
fn parts<'a>(at: usize, content: &'a Content<'a>, blocks: &mut Vec<Block<'a>>) -> Result<(), Fault> {
    let Content::Parts(parts) = content else { return texts(at, content, blocks) };
    let cannot = |what: &str| refusal(&format!("messages[{at}]"), what);
    for part in parts {
        let start = blocks.len();
        match part {
            Part::Known(KnownPart::Text { text: words, .. }) => text(words, blocks),
            Part::Known(KnownPart::Refusal { refusal, .. }) => text(refusal, blocks),
            Part::Known(KnownPart::ImageUrl { image_url, .. }) => {
                let media = media::read(&image_url.url).map_err(|why| bad_message(at, why))?;
                blocks.push(medium(at, media, None)?);
            }
            Part::Known(KnownPart::File { file, .. }) => blocks.push(document(at, file)?),
            Part::Known(KnownPart::InputAudio { .. }) => return Err(cannot("it does not take audio")),
            Part::Other(other) => {
                let kind = other.get("type").and_then(Value::as_str).unwrap_or("no type");
                let kind: String = kind.chars().take(64).collect();
                return Err(cannot(&format!("a part of it ({kind}) is unknown or malformed")));
            }
        }
        mark_part(part, blocks.get_mut(start..).unwrap_or_default());
    }
    Ok(())
}

fn document<'a>(at: usize, file: &'a File<'a>) -> Result<Block<'a>, Fault> {
    let Some(data) = file.file_data.as_deref() else {
        return Err(refusal(&format!("messages[{at}]"), "files must be sent inline, as 'file_data'"));
    };
    let media = media::read_file(data, file.filename.as_deref()).map_err(|why| bad_message(at, why))?;
    medium(at, media, file.filename.as_deref())
}

fn medium<'a>(at: usize, media: Media<'a>, title: Option<&'a str>) -> Result<Block<'a>, Fault> {
    let (mime, data) = match media {
        Media::Remote(url) => return Ok(Block::Image { source: Source::Url { url }, cache_control: None }),
        Media::Inline { mime, data } => (mime.to_ascii_lowercase(), data),
    };
    let inline = |media_type: Cow<'a, str>| Source::Base64 { media_type, data };
    match mime.as_str() {
        "image/jpeg" | "image/jpg" => {
            Ok(Block::Image { source: inline(Cow::Borrowed("image/jpeg")), cache_control: None })
        }
        "image/png" | "image/gif" | "image/webp" => {
            Ok(Block::Image { source: inline(Cow::Owned(mime)), cache_control: None })
        }
        "application/pdf" => {
            Ok(Block::Document { source: inline(Cow::Owned(mime)), title, cache_control: None })
        }
        "text/plain" => {
            let words = STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let data = words.ok_or_else(|| bad_message(at, "has a text file that is not base64 of UTF-8"))?;
            let source = Source::Text { media_type: "text/plain", data };
            Ok(Block::Document { source, title, cache_control: None })
        }
        _ => Err(refusal(&format!("messages[{at}]"), "it takes JPEG, PNG, GIF, WebP, PDF and plain text")),
    }
}

/// A message's own `cache_control` (an extension of Anthropic's) marks its last block.
fn mark_cache<'a>(message: &'a Message<'a>, blocks: &mut [Block<'a>]) {
    mark_last(message.rest.get(CACHE_MARK), blocks);
}

/// A part's own `cache_control` marks the block that it became, if it became one.
fn mark_part<'a>(part: &'a Part<'a>, blocks: &mut [Block<'a>]) {
    if let Part::Known(known) = part {
        mark_last(known.rest().get(CACHE_MARK), blocks);
    }
}

fn mark_last<'a>(mark: Option<&'a Value>, blocks: &mut [Block<'a>]) {
    let Some(mark) = mark.filter(|mark| mark.is_object()) else { return };
    if let Some(
        Block::Text { cache_control, .. }
        | Block::Image { cache_control, .. }
        | Block::Document { cache_control, .. },
    ) = blocks.last_mut()
    {
        *cache_control = Some(mark);
    }
}
