//! Spark's older transport: one question per WebSocket, the URL signed with HMAC, frames with a status.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::openai_like::usual::usual;
use crate::fake::brain::{Answer, Call, Finish, Limit, Question, Role, Tool, Turn, pieces, words};
use crate::fake::fault::{Class, Refusal};
use crate::fake::server::World;
use crate::fake::stream::{Frame, Kind, Roll};
use crate::fake::wire::check::{self, Object, Range, put_in};
use crate::fake::wire::openai_like::rows::Style;
use crate::fake::wire::{Asked, Native, Scene};

/// Farthest that the signed date may be from now, in seconds.
const SKEW_S: u64 = 300;

/// Verifies the signed URL; the API key comes back. Refusals are plain HTTP.
pub fn verify(asked: &Asked, path: &str, world: &World) -> Result<String, Native> {
    let refuse = |status, words: &str| Native::json(status, &json!({ "message": words }));
    let missing = || refuse(401, "Unauthorized");
    let authorization = asked.query("authorization").ok_or_else(missing)?;
    let date = asked.query("date").unwrap_or_default();
    let host = asked.query("host").unwrap_or_default();
    let signed_at = jiff::fmt::rfc2822::parse(&date)
        .ok()
        .and_then(|time| u64::try_from(time.timestamp().as_second()).ok());
    let skew = signed_at.map(|signed| signed.abs_diff(world.clock.wall_seconds()));
    if skew.is_none_or(|skew| skew > SKEW_S) {
        return Err(refuse(
            403,
            "HMAC signature cannot be verified, a valid date or x-date header is required for HMAC Authentication",
        ));
    }
    let unreadable = || refuse(401, "HMAC signature cannot be verified");
    let origin = STANDARD
        .decode(authorization)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(unreadable)?;
    let origin = origin.strip_prefix("hmac ").unwrap_or(&origin);
    let part = |name: &str| {
        let all = origin.split(',').filter_map(|pair| pair.trim().split_once('='));
        all.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"').to_owned())
    };
    let key = part("api_key").or_else(|| part("username")).ok_or_else(unreadable)?;
    let plain = part("algorithm").as_deref() == Some("hmac-sha256")
        && part("headers").as_deref() == Some("host date request-line");
    let signature = part("signature")
        .and_then(|signature| STANDARD.decode(signature).ok())
        .filter(|_| plain)
        .ok_or_else(unreadable)?;
    if !asked.header("host").eq_ignore_ascii_case(&host) {
        return Err(refuse(401, "HMAC signature does not match"));
    }
    let script = world.script();
    let (account, listed) = script.account("spark-ws", &key);
    if key.is_empty() || (script.only_listed && !listed) {
        return Err(refuse(401, "HMAC signature cannot be verified: apikey not found"));
    }
    let secret = account.secret.clone().unwrap_or_else(|| format!("{key}-secret"));
    let text = format!("host: {host}\ndate: {date}\nGET {path} HTTP/1.1");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| unreadable())?;
    mac.update(text.as_bytes());
    mac.verify_slice(&signature).map_err(|_| refuse(401, "HMAC signature does not match"))?;
    Ok(key)
}

/// Paths and the domain that each serves; a domain's longest answer; whether it takes functions.
const DOMAINS: [(&str, &[&str], u64, bool); 8] = [
    ("/v1.1/chat", &["lite", "general"], 4096, false),
    ("/v2.1/chat", &["generalv2"], 4096, false),
    ("/v3.1/chat", &["generalv3"], 8192, false),
    ("/chat/pro-128k", &["pro-128k"], 4096, false),
    ("/v3.5/chat", &["generalv3.5"], 8192, true),
    ("/chat/max-32k", &["max-32k"], 8192, false),
    ("/v4.0/chat", &["4.0Ultra"], 8192, true),
    ("/v1/x1", &["spark-x", "x1"], 65_535, true),
];

/// Whether the path leads anywhere.
pub fn known_path(path: &str) -> bool {
    DOMAINS.iter().any(|(known, ..)| *known == path)
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::bad(message)
}

fn unknown(name: &str) -> Refusal {
    bad(format!("param validate error: unknown field '{name}'"))
}

/// Reads the one frame that the caller sends.
pub fn question(text: &str, path: &str) -> Result<Question, Refusal> {
    let body: Value = serde_json::from_str(text)
        .map_err(|error| bad(format!("message format error: {error}")).code("10003"))?;
    let body = check::as_object(&body, "message")?;
    check::only(body, &["header", "parameter", "payload"], "", unknown)?;
    let header = check::object(body, "header")?.ok_or_else(|| bad("'$.header' is required").code("10163"))?;
    check::only(header, &["app_id", "uid", "patch_id"], "header", unknown)?;
    check::text(header, "app_id")?
        .filter(|id| !id.is_empty())
        .ok_or_else(|| bad("'$.header.app_id' is required").code("10163"))?;
    if check::text(header, "uid")?.is_some_and(|uid| uid.len() > 32) {
        return Err(bad("'$.header.uid' length must be less or equal than 32").code("10163"));
    }
    let chat = check::object(body, "parameter")?.and_then(|parameter| parameter.get("chat"));
    let chat =
        chat.and_then(Value::as_object).ok_or_else(|| bad("'$.parameter.chat' is required").code("10163"))?;
    let mut question = parameters(chat, path)?;
    let payload =
        check::object(body, "payload")?.ok_or_else(|| bad("'$.payload' is required").code("10163"))?;
    check::only(payload, &["message", "functions"], "payload", unknown)?;
    if let Some(functions) = check::object(payload, "functions")? {
        declared(functions, &mut question, path)?;
    }
    let message =
        check::object(payload, "message")?.and_then(|message| message.get("text")).and_then(Value::as_array);
    texts(message.map(Vec::as_slice).unwrap_or_default(), &mut question)?;
    Ok(question)
}

fn parameters(chat: &Object, path: &str) -> Result<Question, Refusal> {
    let known = [
        "domain",
        "temperature",
        "max_tokens",
        "top_k",
        "chat_id",
        "show_ref_label",
        "search_disable",
        "thinking",
    ];
    check::only(chat, &known, "parameter.chat", unknown)?;
    let domain = check::text(chat, "domain")?
        .ok_or_else(|| bad("'$.parameter.chat.domain' is required").code("10163"))?;
    let row = DOMAINS.iter().find(|(known, ..)| *known == path);
    let Some((_, _, most, _)) = row.filter(|(_, domains, ..)| domains.contains(&domain)) else {
        return Err(bad(format!("invalid domain: {domain}")).code("10005"));
    };
    check::number(chat, "temperature", Range::above(0.0, if path == "/v1/x1" { 2.0 } else { 1.0 }))?;
    check::number(chat, "top_k", Range::closed(1.0, 6.0))?;
    let limit = check::count(chat, "max_tokens")?;
    if limit.is_some_and(|limit| limit == 0 || limit > *most) {
        return Err(bad(format!("'$.parameter.chat.max_tokens' must be in [1, {most}]")).code("10163"));
    }
    let limit = limit.map(|tokens| Limit { tokens, covers_reasoning: true });
    let reasoning = path == "/v1/x1"
        && chat.get("thinking").and_then(|thinking| thinking.get("type")) != Some(&Value::from("disabled"));
    Ok(Question {
        model: domain.to_owned(),
        n: 1,
        stream: true,
        usage: true,
        limit,
        reasoning,
        ..Question::default()
    })
}

fn declared(functions: &Object, question: &mut Question, path: &str) -> Result<(), Refusal> {
    if !DOMAINS.iter().any(|(known, _, _, can)| *known == path && *can) {
        return Err(bad("functions are not supported by this version"));
    }
    for function in functions.get("text").and_then(Value::as_array).into_iter().flatten() {
        let function = check::as_object(function, "functions")?;
        check::only(function, &["name", "description", "parameters"], "payload.functions.text", unknown)?;
        let name = check::text(function, "name")?
            .filter(|name| !name.is_empty())
            .ok_or_else(|| bad("function name is required"))?;
        let parameters = check::get(function, "parameters").cloned();
        question.tools.push(Tool { name: name.to_owned(), parameters });
    }
    Ok(())
}

/// The conversation: system first if at all, then by turns. A tool's result is a user's or a tool's turn of its own.
fn texts(texts: &[Value], question: &mut Question) -> Result<(), Refusal> {
    for (index, text) in texts.iter().enumerate() {
        let text = check::as_object(text, "text")?;
        check::only(
            text,
            &["role", "content", "function_call", "name", "content_type"],
            "payload.message.text",
            unknown,
        )?;
        let content = check::text(text, "content")?.unwrap_or_default();
        let role = check::text(text, "role")?.unwrap_or_default();
        let called = question.turns.last().and_then(|turn| turn.calls.first()).map(|call| call.name.clone());
        let last = question.turns.last().map(|turn| turn.role);
        match (role, called) {
            ("system", _)
                if index == 0
                    && matches!(
                        question.model.as_str(),
                        "generalv3.5" | "4.0Ultra" | "max-32k" | "spark-x" | "x1"
                    ) =>
            {
                question.system = content.to_owned();
            }
            ("tool" | "function", Some(name)) => {
                question.turns.push(Turn { answers: Some(name), ..Turn::new(Role::Tool, content) });
            }
            ("user", None) if last != Some(Role::User) && !content.is_empty() => {
                question.turns.push(Turn::new(Role::User, content));
            }
            ("assistant", _) if matches!(last, Some(Role::User | Role::Tool)) => {
                let mut turn = Turn::new(Role::Assistant, content);
                if let Some(call) = check::object(text, "function_call")? {
                    turn.calls.push(call_back(call)?);
                } else if content.is_empty() {
                    return Err(bad("'$.payload.message.text' content is empty").code("10163"));
                }
                question.turns.push(turn);
            }
            _ => {
                return Err(bad(format!("'$.payload.message.text[{index}]' has a wrong role or no content"))
                    .code("10163"));
            }
        }
    }
    match question.turns.last().map(|turn| turn.role) {
        Some(Role::User | Role::Tool) => Ok(()),
        _ => Err(bad("'$.payload.message.text' must end with the user's").code("10163")),
    }
}

fn call_back(call: &Object) -> Result<Call, Refusal> {
    let name = check::text(call, "name")?.ok_or_else(|| bad("function_call.name is required"))?;
    let arguments = check::text(call, "arguments")?.and_then(|text| serde_json::from_str(text).ok());
    let Some(Value::Object(arguments)) = arguments else {
        return Err(bad("function_call.arguments is no JSON object"));
    };
    Ok(Call { id: String::new(), name: name.to_owned(), arguments })
}

/// An error frame; the connection closes after it.
pub fn error_frame(refusal: &Refusal) -> String {
    let (_, _, code, message) = usual(Style::Spark, refusal.class);
    let code: u32 = refusal.code.unwrap_or(code).parse().unwrap_or(match refusal.class {
        Class::AuthInvalid | Class::TokenExpired => 11_200,
        Class::BadRequest => 10_005,
        _ => 10_010,
    });
    let message = refusal.message.as_deref().unwrap_or(message);
    let sid = crate::ids::random_name("cht000cb087@dx", 16);
    json!({"header":{"code":code,"message":message,"sid":sid,"status":2}}).to_string()
}

/// The frames of an answer, as text messages.
pub fn frames(answer: &Answer, scene: &Scene<'_>) -> Vec<Frame> {
    let mut roll = Roll::default();
    let sid = format!("cht{}@dx18793cd421fb894542", scene.id);
    let thoughts = pieces(&answer.reasoning).into_iter().map(|piece| ("reasoning_content", piece));
    let mut all: Vec<(&str, &str)> =
        thoughts.chain(pieces(&answer.text).into_iter().map(|piece| ("content", piece))).collect();
    if all.is_empty() || !answer.calls.is_empty() {
        all.push(("content", ""));
    }
    let last = all.len() - 1;
    for (seq, (name, piece)) in all.into_iter().enumerate() {
        let status = if seq == last { 2 } else { u8::from(seq > 0) };
        let mut text = Map::from_iter([("content".to_owned(), json!(""))]);
        text.insert(name.to_owned(), json!(piece));
        text.insert("role".to_owned(), json!("assistant"));
        text.insert("index".to_owned(), json!(0));
        let mut tokens = words(piece);
        if let Some(call) = answer.calls.first().filter(|_| seq == last) {
            let arguments = Value::Object(call.arguments.clone()).to_string();
            tokens += words(&call.name) + words(&arguments);
            text.insert("content_type".to_owned(), json!("text"));
            text.insert("function_call".to_owned(), json!({"name":call.name,"arguments":arguments}));
        }
        let code = if answer.finish == Finish::Filtered && seq == last { 10_019 } else { 0 };
        let message = if code == 0 { "Success" } else { "sensitive content suspected" };
        let mut told = json!({"header":{"code":code,"message":message,"sid":sid,"status":status},
            "payload":{"choices":{"status":status,"seq":seq,"text":[text]}}});
        if seq == last && !scene.no_usage {
            let counted = answer.tokens;
            put_in(
                &mut told,
                "payload",
                "usage",
                json!({"text":{"question_tokens":counted.prompt,"prompt_tokens":counted.prompt,
                "completion_tokens":counted.completion,"total_tokens":counted.total()}}),
            );
        }
        let kind = if seq == last { Kind::Finish } else { Kind::Part };
        roll.add(kind, tokens, |out| out.push_str(&told.to_string()));
    }
    roll.cut()
}
