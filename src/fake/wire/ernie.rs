//! Baidu's retired V1: a token from AK and SK, the model in the path, every error with status 200.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::fake::brain::{Answer, Call, Choice, Finish, Limit, Question, Role, Tool, Turn, pieces, words};
use crate::fake::fault::{Class, Refusal};
use crate::fake::server::World;
use crate::fake::stream::{Kind, Roll};
use crate::fake::wire::check::{self, Object, Range, put};
use crate::fake::wire::{Asked, Caller, Embed, Events, Native, Scene, Want};
use crate::ids::random_name;

const TOKEN: &str = "/oauth/2.0/token";
const WORKSHOP: &str = "/rpc/2.0/ai_custom/v1/wenxinworkshop";
/// Life of a token: 30 days, in seconds.
pub const TOKEN_LIFE_S: u64 = 2_592_000;

/// Who calls: the holder of a token. The token's own endpoint needs none.
pub fn caller(asked: &Asked, rest: &str, world: &World) -> Result<Option<Caller>, Refusal> {
    if rest.starts_with(TOKEN) {
        return Ok(None);
    }
    let invalid =
        || Refusal::of(Class::AuthInvalid).code("110").saying("Access token invalid or no longer valid");
    let token = asked.query("access_token").ok_or_else(invalid)?;
    let (key, good) = world.token_holder(&token).ok_or_else(invalid)?;
    Ok(Some(Caller { key, token, expired: !good }))
}

/// Reads a request.
pub fn read(asked: &Asked, rest: &str, world: &World) -> Result<Want, Refusal> {
    let path = rest.split('?').next().unwrap_or_default();
    if asked.method != Method::POST {
        return Err(Refusal::bad("Unsupported openapi method").code("3"));
    }
    if path == TOKEN {
        return Ok(Want::Told(exchange(asked, world)));
    }
    let nowhere = || Refusal::of(Class::NoSuchPath);
    let below = path.strip_prefix(WORKSHOP).ok_or_else(nowhere)?;
    match (below.strip_prefix("/chat/"), below.strip_prefix("/embeddings/")) {
        (Some(model), _) if !model.is_empty() && !model.contains('/') => {
            let unknown =
                model.starts_with("no-such") || model.chars().any(|symbol| symbol.is_ascii_uppercase());
            if unknown {
                return Err(Refusal::of(Class::NotEntitled).code("336005").saying("api name does not exist"));
            }
            Ok(Want::Chat(Box::new(question(&asked.object()?, model)?)))
        }
        (_, Some(model)) => embed_ask(&asked.object()?, model).map(Want::Embed),
        _ => Err(nowhere()),
    }
}

/// A token for AK and SK, which come in the query.
fn exchange(asked: &Asked, world: &World) -> Native {
    let of = |name: &str| asked.query(name).unwrap_or_default();
    let (key, secret) = (of("client_id"), of("client_secret"));
    let refuse =
        |error: &str, words: &str| Native::json(401, &json!({"error":error,"error_description":words}));
    if of("grant_type") != "client_credentials" {
        return refuse("unsupported_grant_type", "The authorization grant type is not supported");
    }
    let script = world.script();
    let (account, listed) = script.account("baidu-v1", &key);
    if key.is_empty() || account.revoked || (script.only_listed && !listed) {
        return refuse("invalid_client", "unknown client id");
    }
    if secret.is_empty() || account.secret.as_ref().is_some_and(|known| *known != secret) {
        return refuse("invalid_client", "Client authentication failed");
    }
    let token = world.new_token(&key, TOKEN_LIFE_S);
    Native::json(
        200,
        &json!({"refresh_token":random_name("25.", 24),"expires_in":TOKEN_LIFE_S,
        "session_key":random_name("9mzd", 20),"access_token":token,"scope":"public brain_all_scope","session_secret":random_name("", 32)}),
    )
}

const FIELDS: [&str; 16] = [
    "messages",
    "system",
    "temperature",
    "top_p",
    "penalty_score",
    "stream",
    "stop",
    "max_output_tokens",
    "disable_search",
    "enable_citation",
    "response_format",
    "user_id",
    "functions",
    "tool_choice",
    "enable_trace",
    "enable_system_memory",
];

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::bad(message)
}

fn question(fields: &Object, model: &str) -> Result<Question, Refusal> {
    check::only(fields, &FIELDS, "", |name| bad(format!("unknown parameter: {name}")))?;
    let mut question = Question { model: model.to_owned(), n: 1, usage: true, ..Question::default() };
    question.system = check::text(fields, "system")?.unwrap_or_default().to_owned();
    check::number(fields, "temperature", Range::above(0.0, 1.0))?;
    check::number(fields, "top_p", Range::closed(0.0, 1.0))?;
    check::number(fields, "penalty_score", Range::closed(1.0, 2.0))?;
    if let Some(tokens) = check::count(fields, "max_output_tokens")? {
        if tokens < 2 {
            return Err(bad("max_output_tokens: the range is [2, 2048]"));
        }
        question.limit = Some(Limit { tokens, covers_reasoning: true });
    }
    let stops = check::list(fields, "stop")?.map(Vec::as_slice).unwrap_or_default();
    if stops.len() > 4 {
        return Err(bad("stop: at most 4 elements"));
    }
    question.stop = stops.iter().filter_map(|stop| stop.as_str().map(str::to_owned)).collect();
    question.json =
        check::one_of(fields, "response_format", &["json_object", "text"])? == Some("json_object");
    question.stream = check::flag(fields, "stream")?.unwrap_or(false);
    functions(fields, &mut question)?;
    messages(fields, &mut question)?;
    Ok(question)
}

fn functions(fields: &Object, question: &mut Question) -> Result<(), Refusal> {
    for function in check::list(fields, "functions")?.into_iter().flatten() {
        let function = check::as_object(function, "functions")?;
        let known = ["name", "description", "parameters", "responses", "examples"];
        check::only(function, &known, "functions", |name| bad(format!("unknown parameter: {name}")))?;
        let name = check::text(function, "name")?.filter(|name| check::good_name(name, "_-"));
        let name = name.ok_or_else(|| bad("functions.name is invalid"))?;
        check::object(function, "parameters")?.ok_or_else(|| bad("functions.parameters is required"))?;
        check::text(function, "description")?.ok_or_else(|| bad("functions.description is required"))?;
        let parameters = check::get(function, "parameters").cloned();
        question.tools.push(Tool { name: name.to_owned(), parameters });
    }
    let Some(choice) = check::object(fields, "tool_choice")? else { return Ok(()) };
    let name = choice.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
    match name {
        Some(name) if question.tools.iter().any(|tool| tool.name == name) => {
            question.choice = Choice::Named(name.to_owned());
            Ok(())
        }
        _ => Err(bad("tool_choice must name one of the functions")),
    }
}

/// An odd number of turns, the caller's first and last, by turns.
fn messages(fields: &Object, question: &mut Question) -> Result<(), Refusal> {
    let messages = check::list(fields, "messages")?.map(Vec::as_slice).unwrap_or_default();
    if messages.len() % 2 == 0 {
        return Err(bad("the length of messages must be an odd number"));
    }
    let mut called: Option<String> = None;
    for (index, message) in messages.iter().enumerate() {
        let message = check::as_object(message, "messages")?;
        let known = ["role", "content", "name", "function_call"];
        check::only(message, &known, "messages", |name| bad(format!("unknown parameter: {name}")))?;
        let content = check::text(message, "content")?.unwrap_or_default();
        let role = check::text(message, "role")?.unwrap_or_default();
        match (index % 2, role) {
            (0, "user") if called.is_none() => {
                if content.is_empty() {
                    return Err(bad("the content of message cannot be empty"));
                }
                question.turns.push(Turn::new(Role::User, content));
            }
            (0, "function") => {
                let name = check::text(message, "name")?.unwrap_or_default();
                if called.take().as_deref() != Some(name) {
                    return Err(bad("the function message must answer the function_call before it"));
                }
                question
                    .turns
                    .push(Turn { answers: Some(name.to_owned()), ..Turn::new(Role::Tool, content) });
            }
            (1, "assistant") => {
                let mut turn = Turn::new(Role::Assistant, content);
                if let Some(call) = check::object(message, "function_call")? {
                    let call = function_call(call)?;
                    called = Some(call.name.clone());
                    turn.calls.push(call);
                } else if content.is_empty() {
                    return Err(bad("the content of message cannot be empty"));
                }
                question.turns.push(turn);
            }
            _ => {
                return Err(bad(
                    "the role of message with even index in the messages must be user or function, with odd index assistant",
                ));
            }
        }
    }
    Ok(())
}

fn function_call(call: &Object) -> Result<Call, Refusal> {
    let name = check::text(call, "name")?.ok_or_else(|| bad("function_call.name is required"))?;
    let arguments = check::text(call, "arguments")?.and_then(|text| serde_json::from_str(text).ok());
    match arguments {
        Some(Value::Object(arguments)) => Ok(Call { id: String::new(), name: name.to_owned(), arguments }),
        _ => Err(bad("function_call.arguments must be a JSON object in a string")),
    }
}

fn embed_ask(fields: &Object, model: &str) -> Result<Embed, Refusal> {
    check::only(fields, &["input", "user_id"], "", |name| bad(format!("unknown parameter: {name}")))?;
    let texts = check::list(fields, "input")?
        .map(|texts| texts.iter().map(|text| text.as_str().map(str::to_owned)).collect());
    let texts: Option<Vec<String>> = texts.unwrap_or_default();
    let texts =
        texts.filter(|texts| (1..=16).contains(&texts.len())).ok_or_else(|| bad("input is invalid"))?;
    Ok(Embed { model: model.to_owned(), texts, dimensions: 8, base64: false })
}

/// The vectors.
pub fn embed(embed: &Embed) -> Native {
    let data = embed
        .vectors()
        .into_iter()
        .enumerate()
        .map(|(index, vector)| json!({"object":"embedding","embedding":vector,"index":index}));
    let tokens = embed.tokens();
    Native::json(
        200,
        &json!({"id":random_name("as-", 10),"object":"embedding_list","created":1_764_000_000,
        "data":data.collect::<Vec<_>>(),"usage":{"prompt_tokens":tokens,"total_tokens":tokens}}),
    )
}

fn usual(class: Class) -> (u32, &'static str) {
    match class {
        Class::RateLimited => (336_501, "Rate limit reached for RPM"),
        Class::TokensLimited => (336_502, "Rate limit reached for TPM"),
        Class::Concurrency => (18, "Open api qps request limit reached"),
        Class::DailyQuota => (17, "Open api daily request limit reached"),
        Class::QuotaExhausted => (19, "Open api total request limit reached"),
        Class::TokenExpired => (111, "Access token expired"),
        Class::AuthInvalid => (14, "IAM Certification failed"),
        Class::NotEntitled => (6, "No permission to access data"),
        Class::Overloaded => (336_100, "the service is under high load, please try again later"),
        Class::BadRequest => (336_003, "invalid parameter"),
        Class::ContentFiltered => (336_104, "system prompt is not allowed"),
        Class::ContextTooLong => (336_007, "the max input characters is 20000"),
        Class::ServerError => (336_000, "Internal error"),
        Class::NoSuchPath => (336_005, "api name does not exist"),
    }
}

fn body(refusal: &Refusal) -> Value {
    let (code, message) = usual(refusal.class);
    let code = refusal.code.and_then(|own| own.parse().ok()).unwrap_or(code);
    let message = refusal.message.as_deref().unwrap_or(message);
    json!({"error_code":code,"error_msg":message,"id":random_name("as-", 10)})
}

/// A refusal: status 200, whatever it says. Filtered input is no error but an answer that says so.
pub fn refuse(refusal: &Refusal) -> Native {
    if refusal.class == Class::ContentFiltered {
        return Native::json(
            200,
            &json!({"id":random_name("as-", 10),"object":"chat.completion","created":1_764_000_000,
            "result":"","is_truncated":false,"need_clear_history":true,"ban_round":-1,"finish_reason":"content_filter",
            "usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}),
        );
    }
    Native::json(200, &body(refusal))
}

/// An error after the 200: one bare line of JSON.
pub fn stream_error(refusal: &Refusal) -> Bytes {
    Bytes::from(format!("{}\n\n", body(refusal)))
}

fn finish(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop => "normal",
        Finish::StopSequence(_) => "stop",
        Finish::Length => "length",
        Finish::Calls => "function_call",
        Finish::Filtered => "content_filter",
    }
}

fn usage(answer: &Answer, so_far: u64) -> Value {
    let prompt = answer.tokens.prompt;
    json!({"prompt_tokens":prompt,"completion_tokens":so_far,"total_tokens":prompt + so_far})
}

/// The end of an answer: flags, a call, why.
fn close(told: &mut Value, answer: &Answer) {
    put(told, "finish_reason", json!(finish(answer)));
    put(told, "is_truncated", json!(answer.finish == Finish::Length));
    put(told, "need_clear_history", json!(answer.finish == Finish::Filtered));
    if answer.finish == Finish::Filtered {
        put(told, "ban_round", json!(-1));
    }
    if let Some(call) = answer.calls.first() {
        let arguments = Value::Object(call.arguments.clone()).to_string();
        told["function_call"] =
            json!({"name":call.name,"thoughts":"The user asks for it.","arguments":arguments});
    }
}

/// A whole answer.
pub fn whole(answer: &Answer, scene: &Scene<'_>) -> Native {
    let mut told = json!({"id":format!("as-{}", scene.id),"object":"chat.completion","created":scene.created,"result":answer.text});
    close(&mut told, answer);
    if !scene.no_usage {
        put(&mut told, "usage", usage(answer, answer.tokens.completion));
    }
    Native::json(200, &told)
}

/// A stream: the last event carries text, and there is no end mark.
pub fn stream(answer: &Answer, scene: &Scene<'_>) -> Events {
    let mut roll = Roll::default();
    let mut so_far = 0;
    let mut texts = pieces(&answer.text);
    let last = texts.pop().unwrap_or_default();
    let count = texts.len();
    for (index, text) in texts.into_iter().chain([last]).enumerate() {
        let end = index == count;
        let before = so_far;
        so_far = if end { answer.tokens.completion } else { so_far + words(text) };
        let mut told = json!({"id":format!("as-{}", scene.id),"object":"chat.completion","created":scene.created,
            "sentence_id":index,"is_end":end,"is_truncated":false,"result":text,"need_clear_history":false,"finish_reason":"normal"});
        if end {
            close(&mut told, answer);
        }
        if !scene.no_usage {
            put(&mut told, "usage", usage(answer, so_far));
        }
        let kind = if end { Kind::Finish } else { Kind::Part };
        roll.add(kind, so_far - before, |out| out.push_str(&format!("data: {told}\n\n")));
    }
    Events {
        headers: vec![("content-type", "text/event-stream;charset=utf-8".to_owned())],
        frames: roll.cut(),
    }
}
