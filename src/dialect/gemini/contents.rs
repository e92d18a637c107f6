//! The turns of a conversation as Gemini wants them: roles `user` and `model`, results by function name, signatures
//! beside the calls that they were given for. Why borrowed: see the same file of the `anthropic` wire.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::history::{Answered, History, Turn, arguments, bad_message};
use super::super::leftovers::{Leftovers, refusal, within};
use super::super::media::{self, Media};
use super::super::{Job, Quirk};
use super::{SIGNATURE, VENDOR};
use crate::api::chat::{Content, File, InputAudio, KnownPart, Message, Part};
use crate::fault::Fault;

/// Google's documented stand-in where a signature is lost: base64 of `skip_thought_signature_validator`.
const NO_SIGNATURE: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

/// A turn of `contents`.
#[derive(Debug, Serialize)]
pub(super) struct Said<'a> {
    role: &'static str,
    parts: Vec<Piece<'a>>,
}

/// The top-level `systemInstruction`.
#[derive(Debug, Serialize)]
pub(super) struct Instruction<'a> {
    parts: Vec<Piece<'a>>,
}

/// A part: exactly one of its kinds is there.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Piece<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<Inline<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<Remote<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_response: Option<Response<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<Cow<'a, str>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inline<'a> {
    mime_type: Cow<'a, str>,
    data: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Remote<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'static str>,
    file_uri: &'a str,
}

#[derive(Debug, Serialize)]
struct Call<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    args: &'a RawValue,
}

#[derive(Debug, Serialize)]
struct Response<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    response: Outcome<'a>,
}

/// What a function gave: an object as it came, or anything else wrapped into one.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    Object(&'a RawValue),
    Wrapped(Value),
}

/// Every system text, in order.
///
/// # Errors
/// A bad request that names the message that holds more than text.
pub(super) fn instruction<'a>(
    history: &History<'a>,
    leftovers: &mut Leftovers,
) -> Result<Option<Instruction<'a>>, Fault> {
    let mut pieces = Vec::with_capacity(history.system.len());
    for (at, message) in &history.system {
        leftovers.message_fields(message, &[]);
        texts(*at, &message.content, &mut pieces)?;
    }
    Ok(if pieces.is_empty() { None } else { Some(Instruction { parts: pieces }) })
}

/// Every turn; neighbours of the same role become one.
///
/// # Errors
/// A bad request that names the message.
pub(super) fn contents<'a>(
    history: &History<'a>,
    job: &Job<'_>,
    leftovers: &mut Leftovers,
) -> Result<Vec<Said<'a>>, Fault> {
    let mut said: Vec<Said<'a>> = Vec::with_capacity(history.turns.len());
    for turn in &history.turns {
        match turn {
            Turn::User { at, message } => {
                leftovers.message_fields(message, &[]);
                let mut pieces = Vec::new();
                parts(*at, &message.content, &mut pieces)?;
                if pieces.is_empty() {
                    return Err(bad_message(*at, "is empty, which the model's platform refuses"));
                }
                add(&mut said, "user", pieces);
            }
            Turn::Assistant { at, message } => {
                leftovers.message_fields(message, &[]);
                add(&mut said, "model", model(*at, message, job)?);
            }
            Turn::Results(results) => add(&mut said, "user", responses(results, leftovers)?),
        }
    }
    Ok(said)
}

fn add<'a>(said: &mut Vec<Said<'a>>, role: &'static str, pieces: Vec<Piece<'a>>) {
    match said.last_mut() {
        Some(last) if last.role == role => last.parts.extend(pieces),
        // An assistant turn without content (an answer that was broken off) says nothing, and must not be sent.
        _ if pieces.is_empty() => {}
        _ => said.push(Said { role, parts: pieces }),
    }
}

fn model<'a>(at: usize, message: &'a Message<'a>, job: &Job<'_>) -> Result<Vec<Piece<'a>>, Fault> {
    let mut pieces = Vec::new();
    texts(at, &message.content, &mut pieces)?;
    if let Some(refusal) = message.refusal.as_deref() {
        text(refusal, &mut pieces);
    }
    // A signature of the text belongs to its last part.
    if let (Some(last), Some(signature)) = (pieces.last_mut(), signature(message.extra_content.as_ref())) {
        last.thought_signature = Some(Cow::Borrowed(signature));
    }
    for (position, call) in message.tool_calls.iter().enumerate() {
        let given = signature(call.extra_content.as_ref()).map(Cow::Borrowed);
        let kept = || {
            let kept = job.recall.recall(&call.id)?;
            Some(Cow::Owned(signature(Some(&kept))?.to_owned()))
        };
        // Of parallel calls only the first is checked; the others must not carry the stand-in.
        let stand_in = || {
            (position == 0 && job.quirks.has(Quirk::ThoughtSignatures)).then_some(Cow::Borrowed(NO_SIGNATURE))
        };
        pieces.push(Piece {
            function_call: Some(Call {
                id: own_id(&call.id),
                name: &call.function.name,
                args: arguments(at, call)?,
            }),
            thought_signature: given.or_else(kept).or_else(stand_in),
            ..Piece::default()
        });
    }
    Ok(pieces)
}

fn signature(state: Option<&Value>) -> Option<&str> {
    within(state, VENDOR, SIGNATURE)?.as_str().filter(|signature| !signature.is_empty())
}

/// The id, unless it is of our making: Gemini gave that call none, and matches it by name and order.
fn own_id(id: &str) -> Option<&str> {
    (!id.is_empty() && !id.starts_with("call_")).then_some(id)
}

fn responses<'a>(results: &[Answered<'a>], leftovers: &mut Leftovers) -> Result<Vec<Piece<'a>>, Fault> {
    let mut pieces = Vec::with_capacity(results.len());
    let mut media = Vec::new();
    for answered in results {
        leftovers.message_fields(answered.message, &[]);
        let mut found = Vec::new();
        parts(answered.at, &answered.message.content, &mut found)?;
        // Images that a function gave stand after all responses, in the same turn.
        media.extend(found.into_iter().filter(|piece| piece.text.is_none()));
        pieces.push(Piece {
            function_response: Some(Response {
                id: own_id(&answered.call.id),
                name: &answered.call.function.name,
                response: outcome(&answered.message.content),
            }),
            ..Piece::default()
        });
    }
    pieces.extend(media);
    Ok(pieces)
}

fn outcome<'a>(content: &'a Content<'a>) -> Outcome<'a> {
    if let Content::Text(text) = content {
        let raw = serde_json::from_str::<&RawValue>(text).ok();
        if let Some(raw) = raw.filter(|raw| raw.get().starts_with('{')) {
            return Outcome::Object(raw);
        }
    }
    Outcome::Wrapped(json!({"result": content.text()}))
}

fn text<'a>(text: &'a str, pieces: &mut Vec<Piece<'a>>) {
    if !text.is_empty() {
        pieces.push(Piece { text: Some(text), ..Piece::default() });
    }
}

/// Text alone.
fn texts<'a>(at: usize, content: &'a Content<'a>, pieces: &mut Vec<Piece<'a>>) -> Result<(), Fault> {
    match content {
        Content::None => {}
        Content::Text(words) => text(words, pieces),
        Content::Parts(parts) => {
            for part in parts {
                match part {
                    Part::Known(KnownPart::Text { text: words, .. }) => text(words, pieces),
                    Part::Known(KnownPart::Refusal { refusal, .. }) => text(refusal, pieces),
                    _ => {
                        return Err(bad_message(
                            at,
                            "has a part that is not text, which this role cannot have",
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Text, images, sound, video and documents.
fn parts<'a>(at: usize, content: &'a Content<'a>, pieces: &mut Vec<Piece<'a>>) -> Result<(), Fault> {
    let Content::Parts(parts) = content else { return texts(at, content, pieces) };
    let wrong = |why| bad_message(at, why);
    for part in parts {
        match part {
            Part::Known(KnownPart::Text { text: words, .. }) => text(words, pieces),
            Part::Known(KnownPart::Refusal { refusal, .. }) => text(refusal, pieces),
            Part::Known(KnownPart::ImageUrl { image_url, .. }) => {
                pieces.push(medium(media::read(&image_url.url).map_err(wrong)?));
            }
            Part::Known(KnownPart::InputAudio { input_audio, .. }) => pieces.push(audio(at, input_audio)?),
            Part::Known(KnownPart::File { file, .. }) => pieces.push(document(at, file)?),
            Part::Other(other) => {
                let video = within(Some(other), "video_url", "url").and_then(Value::as_str);
                let Some(url) = video else {
                    let kind = other.get("type").and_then(Value::as_str).unwrap_or("no type");
                    let kind: String = kind.chars().take(64).collect();
                    let why = format!("a part of it ({kind}) is unknown or malformed");
                    return Err(refusal(&format!("messages[{at}]"), &why));
                };
                pieces.push(medium(media::read(url).map_err(wrong)?));
            }
        }
    }
    Ok(())
}

fn medium(media: Media<'_>) -> Piece<'_> {
    match media {
        Media::Inline { mime, data } => {
            let mime_type = if mime.eq_ignore_ascii_case("image/jpg") { "image/jpeg" } else { mime };
            let inline_data = Some(Inline { mime_type: Cow::Borrowed(mime_type), data });
            Piece { inline_data, ..Piece::default() }
        }
        Media::Remote(file_uri) => {
            let file_data = Some(Remote { mime_type: media::mime_of_name(file_uri), file_uri });
            Piece { file_data, ..Piece::default() }
        }
    }
}

fn audio<'a>(at: usize, audio: &'a InputAudio<'a>) -> Result<Piece<'a>, Fault> {
    if audio.data.is_empty() {
        return Err(bad_message(at, "has audio without data"));
    }
    let mime_type = match audio.format.as_str() {
        "wav" => "audio/wav",
        "mp3" => "audio/mp3",
        "aac" => "audio/aac",
        "flac" => "audio/flac",
        "ogg" => "audio/ogg",
        "aiff" => "audio/aiff",
        _ => {
            return Err(refusal(
                &format!("messages[{at}]"),
                "its audio must be wav, mp3, aac, flac, ogg or aiff",
            ));
        }
    };
    let inline_data = Some(Inline { mime_type: Cow::Borrowed(mime_type), data: &audio.data });
    Ok(Piece { inline_data, ..Piece::default() })
}

fn document<'a>(at: usize, file: &'a File<'a>) -> Result<Piece<'a>, Fault> {
    let wrong = |why| bad_message(at, why);
    if let Some(data) = file.file_data.as_deref() {
        return media::read_file(data, file.filename.as_deref()).map(medium).map_err(wrong);
    }
    // Google's own files are named by URL.
    match file.file_id.as_deref().and_then(|id| media::read(id).ok()) {
        Some(remote @ Media::Remote(_)) => Ok(medium(remote)),
        _ => Err(refusal(
            &format!("messages[{at}]"),
            "files must be sent inline, as 'file_data', or by Google's URL",
        )),
    }
}
