//! DashScope's own dialect: parameters apart from the input, streams chosen by a header, usage in every event.

use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value, json};

use crate::fake::brain::{Answer, Finish, Limit, Question, pieces, words};
use crate::fake::fault::{Class, Refusal};
use crate::fake::server::World;
use crate::fake::stream::{Kind, Roll};
use crate::fake::wire::check::{self, Object, Range, put};
use crate::fake::wire::openai_like::{fields, messages, rows};
use crate::fake::wire::{Asked, Caller, Embed, Events, Native, Scene, Want};
use crate::ids::random_name;

/// Who calls.
pub fn caller(asked: &Asked, world: &World) -> Result<Caller, Refusal> {
    let key = asked.bearer().ok_or_else(|| Refusal::of(Class::AuthInvalid).saying("No API-key provided."))?;
    let listed = world.script().account("dashscope", key).1;
    if listed || (key.starts_with("sk-") && key.len() > 3) {
        return Ok(Caller::new(key));
    }
    Err(Refusal::of(Class::AuthInvalid))
}

const TEXT: &str = "/api/v1/services/aigc/text-generation/generation";
const VISION: &str = "/api/v1/services/aigc/multimodal-generation/generation";
const EMBED: &str = "/api/v1/services/embeddings/text-embedding/text-embedding";

/// Reads a request.
pub fn read(asked: &Asked, rest: &str) -> Result<Want, Refusal> {
    let path = rest.split('?').next().unwrap_or_default();
    if asked.method != Method::POST {
        return Err(Refusal::of(Class::NoSuchPath));
    }
    match path {
        TEXT | VISION => {
            let mut question = question(&asked.object()?, path == VISION)?;
            question.stream = asked.header("x-dashscope-sse").eq_ignore_ascii_case("enable");
            if question.stream && !asked.header("accept").contains("text/event-stream") {
                return Err(Refusal::bad("Accept must be text/event-stream with X-DashScope-SSE: enable"));
            }
            let only_streams = question.model.starts_with("qwq") || question.model.starts_with("qvq");
            if question.reasoning && !question.stream {
                return Err(Refusal::bad(if only_streams {
                    "This model only support stream mode, please enable the stream parameter to access the model."
                } else {
                    "parameter.enable_thinking must be set to false for non-streaming calls"
                }));
            }
            Ok(Want::Chat(Box::new(question)))
        }
        EMBED => embed_ask(&asked.object()?).map(Want::Embed),
        _ => Err(Refusal::of(Class::NoSuchPath)),
    }
}

const PARAMETERS: [&str; 23] = [
    "result_format",
    "incremental_output",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "tools",
    "tool_choice",
    "enable_search",
    "search_options",
    "enable_thinking",
    "thinking_budget",
    "repetition_penalty",
    "presence_penalty",
    "n",
    "parallel_tool_calls",
    "response_format",
    "logprobs",
    "top_logprobs",
    "vl_high_resolution_images",
    "preserve_thinking",
];

fn unknown(name: &str) -> Refusal {
    Refusal::bad(format!("InternalError.Algo.InvalidParameter: unknown parameter '{name}'"))
}

fn question(body: &Object, vision: bool) -> Result<Question, Refusal> {
    check::only(body, &["model", "input", "parameters"], "", unknown)?;
    let model = check::text(body, "model")?.filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| Refusal::bad("Model not exist."))?;
    if model.starts_with("no-such") {
        return Err(Refusal::of(Class::NotEntitled));
    }
    let input = check::object(body, "input")?
        .ok_or_else(|| Refusal::bad("Required body invalid, please check the request body format."))?;
    check::only(input, &["messages", "prompt"], "input", unknown)?;
    let nothing = Map::new();
    let parameters = check::object(body, "parameters")?.unwrap_or(&nothing);
    check::only(parameters, &PARAMETERS, "parameters", unknown)?;
    let mut question = Question { model: model.to_owned(), n: 1, usage: true, ..Question::default() };
    let row = qwen()?;
    fields::tools(row, parameters, &mut question)?;
    messages::read(row, &plainer(input, vision)?, &mut question)?;
    check::number(parameters, "temperature", Range::below(0.0, 2.0))?;
    check::number(parameters, "top_p", Range::above(0.0, 1.0))?;
    check::number(parameters, "presence_penalty", Range::closed(-2.0, 2.0))?;
    check::number(parameters, "repetition_penalty", Range::above(0.0, 10.0))?;
    if let Some(tokens) = check::count(parameters, "max_tokens")? {
        if tokens == 0 {
            return Err(Refusal::bad("Range of max_tokens should be [1, 65536]"));
        }
        question.limit = Some(Limit { tokens, covers_reasoning: false });
    }
    if check::count(parameters, "n")?.is_some_and(|n| n != 1) {
        return Err(Refusal::bad("n must be 1"));
    }
    fields::stops(row, parameters, &mut question)?;
    fields::format(row, parameters, &mut question)?;
    let always = model.starts_with("qwq") || model.starts_with("qvq");
    question.reasoning = check::flag(parameters, "enable_thinking")?.unwrap_or(always);
    let format = check::one_of(parameters, "result_format", &["text", "message"])?;
    // Vision and tools know messages only; text is the default of the rest.
    question.plain_text = format.unwrap_or(if vision { "message" } else { "text" }) == "text";
    question.repeats = !check::flag(parameters, "incremental_output")?.unwrap_or(false);
    question.listed_content = vision;
    if question.reasoning && (question.plain_text || question.repeats) {
        return Err(Refusal::bad(
            "The incremental_output parameter must be \"true\" and result_format \"message\" when enable_thinking is true",
        ));
    }
    if !question.tools.is_empty() && question.plain_text {
        return Err(Refusal::bad("result_format must be \"message\" when tools are used"));
    }
    Ok(question)
}

fn qwen() -> Result<&'static rows::Row, Refusal> {
    rows::ROWS.iter().find(|row| row.name == "qwen").ok_or_else(|| Refusal::of(Class::ServerError))
}

/// The input's messages as the compatible wire would have them.
fn plainer(input: &Object, vision: bool) -> Result<Object, Refusal> {
    if let Some(prompt) = check::text(input, "prompt")? {
        return Ok(Map::from_iter([("messages".to_owned(), json!([{"role":"user","content":prompt}]))]));
    }
    let mut messages = check::list(input, "messages")?
        .cloned()
        .ok_or_else(|| Refusal::bad("Either \"prompt\" or \"messages\" must exist"))?;
    for message in &mut messages {
        let Some(content) = message.get_mut("content") else { continue };
        match content {
            Value::Array(parts) if vision => {
                for part in parts {
                    *part = match (part.get("text"), part.get("image")) {
                        (Some(text), None) => json!({"type":"text","text":text}),
                        (None, Some(url)) => json!({"type":"image_url","image_url":{"url":url}}),
                        _ => {
                            return Err(Refusal::bad(
                                "InternalError.Algo.InvalidParameter: The item of content should be a message of a certain modal.",
                            ));
                        }
                    };
                }
            }
            Value::Array(_) => return Err(Refusal::bad("input content must be a string.")),
            _ if vision => {
                return Err(Refusal::bad(
                    "InternalError.Algo.InvalidParameter: The content field is required to be a list.",
                ));
            }
            _ => {}
        }
    }
    Ok(Map::from_iter([("messages".to_owned(), Value::Array(messages))]))
}

fn embed_ask(body: &Object) -> Result<Embed, Refusal> {
    check::only(body, &["model", "input", "parameters"], "", unknown)?;
    let model = check::text(body, "model")?.ok_or_else(|| Refusal::bad("Model not exist."))?.to_owned();
    let texts = check::object(body, "input")?.and_then(|input| input.get("texts")).and_then(Value::as_array);
    let texts = texts.map(|texts| texts.iter().map(|text| text.as_str().map(str::to_owned)).collect());
    let texts: Option<Vec<String>> = texts.unwrap_or_default();
    let texts =
        texts.filter(|texts| !texts.is_empty()).ok_or_else(|| Refusal::bad("input.texts should be array"))?;
    Ok(Embed { model, texts, dimensions: 8, base64: false })
}

/// The vectors.
pub fn embed(embed: &Embed) -> Native {
    let vectors = embed.vectors().into_iter().enumerate();
    let told: Vec<Value> =
        vectors.map(|(index, vector)| json!({"text_index":index,"embedding":vector})).collect();
    Native::json(
        200,
        &json!({"output":{"embeddings":told},"usage":{"total_tokens":embed.tokens()},"request_id":random_name("", 32)}),
    )
}

/// Status, code, message.
fn usual(class: Class) -> (u16, &'static str, &'static str) {
    match class {
        Class::RateLimited | Class::Concurrency => {
            (429, "Throttling.RateQuota", "Requests rate limit exceeded, please try again later.")
        }
        Class::TokensLimited => {
            (429, "Throttling.AllocationQuota", "Allocated quota exceeded, please increase your quota limit.")
        }
        Class::DailyQuota => (429, "Throttling.AllocationQuota", "Free allocated quota exceeded."),
        Class::QuotaExhausted => {
            (400, "Arrearage", "Access denied, please make sure your account is in good standing.")
        }
        Class::TokenExpired => (401, "InvalidApiKey", "invalid access token or token expired"),
        Class::AuthInvalid => (401, "InvalidApiKey", "Invalid API-key provided."),
        Class::NotEntitled => (404, "ModelNotFound", "Model can not be found."),
        Class::Overloaded => (
            503,
            "ModelServingError",
            "Too many requests. Your requests are being throttled due to system capacity limits. Please try again later.",
        ),
        Class::BadRequest => (
            400,
            "InvalidParameter",
            "Required parameter(s) missing or invalid, please check the request parameters.",
        ),
        Class::ContentFiltered => {
            (400, "DataInspectionFailed", "Input data may contain inappropriate content.")
        }
        Class::ContextTooLong => (400, "InvalidParameter", "Range of input length should be [1, 129024]"),
        Class::ServerError => (
            500,
            "InternalError",
            "An internal error has occured, please try again later or contact service support.",
        ),
        Class::NoSuchPath => (404, "NotFound", "url error, please check url!"),
    }
}

fn body(refusal: &Refusal) -> (u16, Value) {
    let (status, code, message) = usual(refusal.class);
    let message = refusal.message.as_deref().unwrap_or(message);
    (status, json!({"code":code,"message":message,"request_id":random_name("", 32)}))
}

/// A refusal.
pub fn refuse(refusal: &Refusal) -> Native {
    let (status, body) = body(refusal);
    Native::json(status, &body).with("x-request-id", random_name("", 32))
}

/// An error after the 200.
pub fn stream_error(refusal: &Refusal) -> Bytes {
    let (status, body) = body(refusal);
    Bytes::from(format!("id:1\nevent:error\n:HTTP_STATUS/{status}\ndata:{body}\n\n"))
}

fn finish(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop | Finish::StopSequence(_) => "stop",
        Finish::Length => "length",
        Finish::Calls => "tool_calls",
        Finish::Filtered => "content_filter",
    }
}

fn usage(answer: &Answer, so_far: u64) -> Value {
    let prompt = answer.tokens.prompt;
    let mut usage = json!({"input_tokens":prompt,"output_tokens":so_far,"total_tokens":prompt + so_far,
        "prompt_tokens_details":{"cached_tokens":0}});
    if answer.tokens.reasoning > 0 {
        put(
            &mut usage,
            "output_tokens_details",
            json!({"reasoning_tokens":answer.tokens.reasoning.min(so_far)}),
        );
    }
    usage
}

/// What an event or a whole answer says.
struct Said<'a> {
    text: &'a str,
    thinking: &'a str,
    calls: Option<Value>,
    finish: &'a str,
    tokens: u64,
}

fn output(question: &Question, answer: &Answer, scene: &Scene<'_>, said: &Said<'_>) -> Value {
    let output = if question.plain_text {
        json!({"finish_reason":said.finish,"text":said.text})
    } else {
        let content = match (question.listed_content, said.text) {
            (true, "") => json!([]),
            (true, text) => json!([{ "text": text }]),
            (false, text) => json!(text),
        };
        let mut message = json!({"role":"assistant","content":content});
        if !answer.reasoning.is_empty() {
            put(&mut message, "reasoning_content", json!(said.thinking));
        }
        if let Some(calls) = &said.calls {
            put(&mut message, "tool_calls", calls.clone());
        }
        json!({"choices":[{"finish_reason":said.finish,"message":message}]})
    };
    let mut told = json!({"output":output,"request_id":scene.id});
    if !scene.no_usage {
        put(&mut told, "usage", usage(answer, said.tokens));
    }
    told
}

fn calls(answer: &Answer) -> Option<Value> {
    let told = answer.calls.iter().enumerate().map(|(index, call)| {
        let arguments = Value::Object(call.arguments.clone()).to_string();
        json!({"index":index,"id":format!("call_{}", call.id),"type":"function","function":{"name":call.name,"arguments":arguments}})
    });
    (!answer.calls.is_empty()).then(|| Value::Array(told.collect()))
}

/// A whole answer.
pub fn whole(question: &Question, answer: &Answer, scene: &Scene<'_>) -> Native {
    let said = Said {
        text: &answer.text,
        thinking: &answer.reasoning,
        calls: calls(answer),
        finish: finish(answer),
        tokens: answer.tokens.completion,
    };
    Native::json(200, &output(question, answer, scene, &said)).with("x-request-id", scene.id.clone())
}

/// A stream. Events carry the words since the last one, or (the default) all words so far.
pub fn stream(question: &Question, answer: &Answer, scene: &Scene<'_>) -> Events {
    let mut roll = Roll::default();
    let mut number = 0;
    let mut event = |kind: Kind, tokens: u64, said: &Said<'_>| {
        number += 1;
        let data = output(question, answer, scene, said);
        roll.add(kind, tokens, |out| {
            out.push_str(&format!("id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:{data}\n\n"))
        });
    };
    let mut told = 0;
    for piece in pieces(&answer.reasoning) {
        told += words(piece);
        event(
            Kind::Part,
            words(piece),
            &Said { text: "", thinking: piece, calls: None, finish: "null", tokens: told },
        );
    }
    let mut end = 0;
    for piece in pieces(&answer.text) {
        told += words(piece);
        end += piece.len();
        let text = if question.repeats { answer.text.get(..end).unwrap_or_default() } else { piece };
        event(
            Kind::Part,
            words(piece),
            &Said { text, thinking: "", calls: None, finish: "null", tokens: told },
        );
    }
    let all = answer.tokens.completion;
    if let Some(calls) = calls(answer) {
        event(
            Kind::Part,
            all - told,
            &Said { text: "", thinking: "", calls: Some(calls), finish: "null", tokens: all },
        );
    }
    let text = if question.repeats { answer.text.as_str() } else { "" };
    let repeated = if question.repeats { calls(answer) } else { None };
    event(
        Kind::Finish,
        0,
        &Said { text, thinking: "", calls: repeated, finish: finish(answer), tokens: all },
    );
    let headers = vec![
        ("content-type", "text/event-stream;charset=UTF-8".to_owned()),
        ("x-request-id", scene.id.clone()),
        ("x-dashscope-finished", "false".to_owned()),
    ];
    Events { headers, frames: roll.cut() }
}
