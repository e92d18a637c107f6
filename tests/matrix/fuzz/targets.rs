//! The things that are fuzzed: whatever reads bytes that somebody else wrote.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use weir::api::ask::Ask;
use weir::api::chat::ChatRequest;
use weir::api::scan::{self, Object};
use weir::clock::Clock;
use weir::config;
use weir::dialect::{NoRecall, Unsupported};
use weir::identity::settings::{ClaimNames, Issuer, KeySource};
use weir::identity::{Identity, Settings};
use weir::keybook::NoKeys;
use weir::platform::judge::Verdict;
use weir::platform::profile::Platform;
use weir::secret::Secret;
use weir::sse;

use super::dice::Dice;
use super::{SLOW, Target, mutate};
use crate::checker::{Asked, check};
use crate::fixtures::{self, Case};
use crate::laws::{Sample, samples};
use crate::stage::{Got, NOW, Reply};

/// A secret that a platform may quote, and that no caller may see.
const CANARY: &str = "sk-canary-4f7Zq0Lx9Tn2Rb8WcYv3";

#[test]
fn events_are_those_of_the_standard_for_any_bytes_and_any_cut() {
    let seeds = samples().into_iter().map(|sample| sample.reply.body).collect();
    let check = |input: &[u8], dice: &mut Dice| {
        let standard = standard_events(input);
        let whole = events(&[input], 1 << 22)?;
        if whole != standard {
            return Err(format!("not the standard's events: {whole:?}, {standard:?}"));
        }
        if events(&dice.pieces(input), 1 << 22)? != standard {
            return Err("a cut gives other events".to_owned());
        }
        // A small limit is kept, whatever comes.
        drop(events(&dice.pieces(input), dice.below(200)));
        Ok(())
    };
    Target { name: "sse", seeds, slow: SLOW, mutate: &mutate::stream, check: &check }.run();
}

/// Name and data.
type Plain = (Vec<u8>, Vec<u8>);

fn events(pieces: &[&[u8]], limit: usize) -> Result<Vec<Plain>, String> {
    let mut decoder = sse::Decoder::new(limit);
    let mut all = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        while let Some(event) = decoder.next().map_err(|wrong| wrong.to_string())? {
            if event.data.len() > limit {
                return Err("an event above the limit".to_owned());
            }
            all.push((event.name.to_vec(), event.data.to_vec()));
        }
    }
    Ok(all)
}

/// The standard's algorithm, word by word and without a thought for speed.
fn standard_events(bytes: &[u8]) -> Vec<Plain> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let (mut lines, mut line, mut at) = (Vec::new(), Vec::new(), 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\r' | b'\n' => {
                at += usize::from(bytes[at..].starts_with(b"\r\n"));
                lines.push(std::mem::take(&mut line));
            }
            byte => line.push(byte),
        }
        at += 1;
    }
    let (mut all, mut name, mut data) = (Vec::new(), Vec::new(), None::<Vec<u8>>);
    for line in lines {
        if line.is_empty() {
            let name = std::mem::take(&mut name);
            all.extend(data.take().map(|data| (name, data)));
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"data" => match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => data = Some(value.to_vec()),
            },
            b"event" => name = value.to_vec(),
            _ => {}
        }
    }
    all
}

#[test]
fn a_stream_of_anything_becomes_a_lawful_stream_or_a_refusal() {
    let samples = samples();
    let seeds: Vec<Vec<u8>> = samples.iter().map(|sample| sample.reply.body.clone()).collect();
    let check = |input: &[u8], dice: &mut Dice| {
        let platform = reader(input, dice);
        let fitting: Vec<&Sample> = samples.iter().filter(|one| fits(one.case.platform, platform)).collect();
        let sample = *dice.pick(&fitting);
        let asks = [sample.ask(true), sample.ask(false)];
        let ask = dice.pick(&asks);
        let told = |pieces: &[&[u8]]| {
            let pieces = pieces.iter().copied();
            match sample.stage.answer_in_pieces(ask, &sample.reply, pieces) {
                Got::Stream(events) => Ok(Some(events)),
                Got::Refused(..) => Ok(None),
                Got::Whole(_) => Err(format!("{}: whole in place of a stream", sample.title)),
            }
        };
        let stream = told(&[input])?;
        let in_pieces = told(&dice.pieces(input))?;
        let text = |stream: &Option<Bytes>| {
            stream.as_ref().map(|stream| crate::golden::comparable(&String::from_utf8_lossy(stream)))
        };
        if text(&stream) != text(&in_pieces) {
            return Err(format!("{}: a cut gives another stream", sample.title));
        }
        match stream {
            Some(stream) => lawful(sample, ask, input, &stream),
            None => Ok(()),
        }
    };
    Target { name: "streams", seeds, slow: SLOW, mutate: &mutate::stream, check: &check }.run();
}

/// Words that only one wire has.
const MARKS: &[(&str, &str)] = &[
    ("\"candidates\"", "gemini"),
    ("\"promptFeedback\"", "gemini"),
    ("content_block", "claude"),
    ("\"stop_reason\"", "claude"),
    ("\"output\"", "dashscope"),
    ("\"result\"", "baidu-v1"),
    ("\"header\"", "spark-ws"),
];

/// Who shall read these bytes: mostly whoever's wire they were, else OpenAI's like (`None`), and sometimes anybody.
fn reader(input: &[u8], dice: &mut Dice) -> Option<&'static str> {
    let text = String::from_utf8_lossy(input);
    let own = MARKS.iter().find(|(mark, _)| text.contains(mark)).map(|(_, platform)| *platform);
    if dice.once_in(8) { Some(dice.pick(MARKS).1) } else { own }
}

fn fits(platform: &str, reader: Option<&str>) -> bool {
    match reader {
        Some(reader) => platform == reader,
        None => MARKS.iter().all(|(_, other)| *other != platform),
    }
}

fn lawful(sample: &Sample, ask: &Ask, input: &[u8], stream: &[u8]) -> Result<(), String> {
    let title = &sample.title;
    if stream.len() > 64 * 1024 + input.len() * 300 {
        return Err(format!("{title}: {} bytes of {}", stream.len(), input.len()));
    }
    if !sample.stage.platform.splices(&sample.stage.model) {
        let asked = Asked { is_wild: true, ..Asked::of("smart", ask.include_usage) };
        let said = |why| format!("{title}: {why}\n{}", String::from_utf8_lossy(stream));
        return check(stream, asked).map(drop).map_err(said);
    }
    // What passes through is the platform's; the framing, the model and the end are ours.
    let text = std::str::from_utf8(stream).map_err(|_| format!("{title}: not UTF-8"))?;
    let body = text.strip_suffix("data: [DONE]\n\n").ok_or(format!("{title}: no end mark"))?;
    for event in body.split_terminator("\n\n") {
        let chunk = event
            .strip_prefix("data: ")
            .and_then(|data| serde_json::from_str::<Box<serde_json::value::RawValue>>(data).ok());
        if event.contains(['\n', '\r']) || chunk.is_none() {
            return Err(format!("{title}: a chunk that is none: {event}"));
        }
    }
    Ok(())
}

#[test]
fn an_answer_of_anything_becomes_an_answer_or_a_refusal() {
    let answers = whole_answers();
    let seeds: Vec<Vec<u8>> = answers.iter().map(|(_, reply)| reply.body.clone()).collect();
    let stages: Vec<_> = answers.iter().map(|(case, _)| (*case, case.stage())).collect();
    let embedding = Ask::embeddings(Bytes::from_static(br#"{"model":"m","input":"a"}"#)).expect("an ask");
    let check = |input: &[u8], dice: &mut Dice| {
        let platform = reader(input, dice);
        let fitting: Vec<_> = stages.iter().filter(|(case, _)| fits(case.platform, platform)).collect();
        let (case, stage) = dice.pick(&fitting);
        let mut reply = answers[dice.below(answers.len())].1.clone();
        (reply.status, reply.is_socket) = (200, false);
        reply.headers.insert("content-type", HeaderValue::from_static("application/json"));
        reply.body = input.to_vec();
        drop(stage.platform.decode_embeddings(input, &embedding));
        for stream in [false, true] {
            let ask = case.ask(stream, true).map_err(|fault| fault.to_string())?;
            match stage.answer(&ask, &reply) {
                Got::Refused(..) => {}
                Got::Whole(_) if stream => return Err(format!("{}: no stream", case.title())),
                Got::Whole(body) if !stage.platform.splices(&stage.model) => whole_is_sane(&body)?,
                Got::Whole(body) => drop(Object::scan(&body).map_err(|wrong| wrong.to_string())?),
                Got::Stream(body) => {
                    let asked = Asked { is_wild: true, ..Asked::of("smart", true) };
                    drop(check(&body, asked).map_err(|why| format!("{}: {why}", case.title()))?);
                }
            }
        }
        Ok(())
    };
    Target { name: "answers", seeds, slow: SLOW, mutate: &mutate::document, check: &check }.run();
}

fn whole_answers() -> Vec<(Case, Reply)> {
    let answers = fixtures::cases().flat_map(|case| {
        let whole =
            case.answers().into_iter().filter(|answer| !answer.is_stream && !answer.reply.is_events());
        whole.map(move |answer| (case, answer.reply))
    });
    answers.collect()
}

fn whole_is_sane(body: &[u8]) -> Result<(), String> {
    let answer: Value = serde_json::from_slice(body).map_err(|wrong| wrong.to_string())?;
    let choices = answer["choices"].as_array().ok_or("no choices")?;
    let has_text = |value: &Value| value.is_string() || value.is_null();
    let is_sane = |choice: &Value| {
        choice["finish_reason"].is_string()
            && has_text(&choice["message"]["content"])
            && choice["message"]["role"] == "assistant"
    };
    let counts = ["prompt_tokens", "completion_tokens", "total_tokens"];
    let are_counted = counts.iter().all(|name| answer["usage"][*name].is_u64());
    let is_named = answer["id"].is_string() && answer["created"].is_u64() && answer["model"] == "smart";
    if choices.is_empty() || !choices.iter().all(is_sane) || !are_counted || !is_named {
        return Err(format!("not an answer: {answer}"));
    }
    Ok(())
}

#[test]
fn a_request_of_anything_is_refused_or_becomes_a_sane_request_on_every_platform() {
    let seeds = asks();
    let platforms = Platform::built_in().expect("rows");
    let check = |input: &[u8], dice: &mut Dice| {
        let body = Bytes::copy_from_slice(input);
        drop(Ask::embeddings(body.clone()));
        let Ok(ask) = Ask::chat(body) else { return Ok(()) };
        drop(ChatRequest::parse(&ask));
        for platform in &platforms {
            let (model, stream) = (dice.pick(&platform.models), dice.once_in(2));
            for how in [Unsupported::Reject, Unsupported::Drop] {
                let stream = stream || platform.must_stream(&ask, model);
                let Ok(encoded) = platform.encode_chat(&ask, model, stream, how, &NoRecall) else { continue };
                let wrong =
                    |why: &str| Err(format!("{} {model}: {why}: {encoded:?}", platform.name.as_str()));
                // The limits of a JSON parser are those of our own look.
                if Object::scan(&encoded.body).is_err() {
                    return wrong("no JSON object");
                }
                if encoded.path.parse::<http::uri::PathAndQuery>().is_err() || !encoded.path.starts_with('/')
                {
                    return wrong("no path");
                }
                if encoded.body.len() > 16 * 1024 + input.len() * 12 {
                    return wrong("a much larger body");
                }
                drop(platform.headers(&encoded));
            }
        }
        Ok(())
    };
    // Every platform parses and writes it anew, twice.
    let slow = SLOW * 10;
    Target { name: "requests", seeds, slow, mutate: &mutate::document, check: &check }.run();
}

/// The asks of the matrix, and `everything.json`: every field that is known, also those that exclude each other.
fn asks() -> Vec<Vec<u8>> {
    let folder = fixtures::root().join("_asks");
    let entries = std::fs::read_dir(folder).expect("asks").flatten();
    let mut asks: Vec<Vec<u8>> = entries.map(|entry| std::fs::read(entry.path()).expect("an ask")).collect();
    asks.sort();
    asks
}

#[test]
fn a_refusal_of_anything_is_judged_and_tells_no_secret() {
    let platforms = Platform::built_in().expect("rows");
    let refusals: Vec<(Case, Reply)> =
        whole_answers().into_iter().filter(|(case, _)| case.form.is_none()).collect();
    let seeds: Vec<Vec<u8>> = refusals
        .iter()
        .map(|(_, reply)| {
            let text = String::from_utf8_lossy(&reply.body);
            text.replacen("message\":\"", &format!("message\":\"key {CANARY}: "), 1).into_bytes()
        })
        .collect();
    let check = |input: &[u8], dice: &mut Dice| {
        let platform = dice.pick(&platforms);
        let status =
            *dice.pick(&[200, 200, 400, 401, 402, 403, 404, 413, 422, 429, 434, 500, 503, 529, 301, 999]);
        let mut headers = dice.pick(&refusals).1.headers.clone();
        if let Ok(value) = HeaderValue::from_bytes(&input[..input.len().min(40)]) {
            let names = ["retry-after", "retry-after-ms", "ratelimit", "anthropic-ratelimit-requests-reset"];
            headers.insert(*dice.pick(&names), value);
        }
        let judgement = platform.judge(status, &headers, input, NOW);
        let _ = platform.is_error_in_200(input, &Object::scan(input));
        let shown = format!("{}{:?}{:?}", judgement.message, judgement.code, judgement.param);
        // Grown into another word by a mutation, it is a secret no more.
        let is_word = |at: usize| !shown[..at].ends_with(char::is_alphanumeric);
        if shown.match_indices(&CANARY[..12]).any(|(at, _)| is_word(at)) {
            return Err(format!("{}: tells a secret: {shown}", platform.name.as_str()));
        }
        if shown.len() > 8 * 1024 || shown.contains(['\n', '\r', '\u{1b}']) && !shown.contains("\\n") {
            return Err(format!("{}: words unfit for a caller: {shown:?}", platform.name.as_str()));
        }
        if judgement.verdict == Verdict::Ok {
            return Err("a refusal that is fine".to_owned());
        }
        Ok(())
    };
    Target { name: "judge", seeds, slow: SLOW, mutate: &mutate::document, check: &check }.run();
}

const JWT_SECRET: &str = "a-secret-for-tests-only-of-40-characters";

fn identity() -> Identity {
    let (clock, _) = Clock::manual(NOW);
    let issuer = Issuer {
        issuer: "https://hs.test".into(),
        audience: vec!["weir".into()],
        keys: KeySource::Secret(Secret::new(JWT_SECRET)),
        algorithms: vec![jsonwebtoken::Algorithm::HS256],
        claims: ClaimNames {
            tenant: Some("org".into()),
            models: Some("models".into()),
            scope: Some("scope".into()),
        },
        leeway: Duration::from_secs(30),
    };
    let settings = Settings { jwt: vec![issuer], keys: true, ..Settings::default() };
    Identity::new(settings, Arc::new(NoKeys), clock, reqwest::Client::new()).expect("settings")
}

fn signed(header: &[u8], claims: &[u8]) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(text.as_bytes(), &key, jsonwebtoken::Algorithm::HS256);
    format!("{text}.{}", signature.expect("signed"))
}

#[test]
fn no_token_but_a_signed_one_lets_anybody_in() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let identity = identity();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let claims = json!({"iss": "https://hs.test", "aud": "weir", "sub": "alice", "org": "o", "models": ["a*"], "scope": "chat admin",
        "iat": NOW / 1000 - 5, "nbf": NOW / 1000 - 5, "exp": NOW / 1000 + 60});
    let header = json!({"alg": "HS256", "typ": "JWT", "kid": "k"});
    let good = signed(header.to_string().as_bytes(), claims.to_string().as_bytes());
    let enter = |token: &[u8]| {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).ok()?;
        headers.insert(AUTHORIZATION, value);
        runtime.block_on(identity.verify(&headers)).ok()
    };
    assert!(enter(good.as_bytes()).is_some(), "the good token");
    let seeds = vec![
        good.clone().into_bytes(),
        header.to_string().into_bytes(),
        claims.to_string().into_bytes(),
        signed(br#"{"alg":"none"}"#, b"{}").into_bytes(),
        b"sk-weir-abc".to_vec(),
    ];
    let check = |input: &[u8], _: &mut Dice| {
        let trimmed = input.trim_ascii();
        if enter(input).is_some() && trimmed != good.as_bytes() && trimmed != b"Bearer" {
            return Err("a token that was not signed".to_owned());
        }
        // Signed with the right key, whatever it says: no panic, and nobody gets in who is not named.
        if let Some(caller) = enter(signed(header.to_string().as_bytes(), input).as_bytes()) {
            let said: Value = serde_json::from_slice(input).map_err(|_| "claims that are no JSON let in")?;
            if said["sub"] != caller.subject.as_str()
                || said["iss"] != "https://hs.test"
                || !said["exp"].is_u64()
            {
                return Err(format!("let in as {caller:?}"));
            }
        }
        if enter(signed(input, claims.to_string().as_bytes()).as_bytes()).is_some() {
            let said: Value = serde_json::from_slice(input).map_err(|_| "a header that is no JSON let in")?;
            if said["alg"] != "HS256" {
                return Err("another algorithm".to_owned());
            }
        }
        Ok(())
    };
    Target { name: "jwt", seeds, slow: SLOW, mutate: &mutate::document, check: &check }.run();
}

#[test]
fn a_configuration_of_anything_is_read_or_refused_with_a_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut seeds = vec![std::fs::read(root.join("weir.yaml")).expect("the reference")];
    let examples = std::fs::read_dir(root.join("examples")).expect("examples").flatten();
    seeds.extend(examples.map(|entry| std::fs::read(entry.path()).expect("an example")));
    seeds.sort();
    let check = |input: &[u8], _: &mut Dice| {
        let text = String::from_utf8_lossy(input);
        let environment = |name: &str| (name.len() < 20).then(|| CANARY.to_owned());
        match config::parse(&text, "weir.yaml", &environment) {
            Ok(config) if format!("{config:?}").contains(CANARY) => Err("a secret in Debug".to_owned()),
            Ok(_) => Ok(()),
            Err(report) => {
                let shown = format!("{report} {report:?}");
                if shown.contains(CANARY) { Err(format!("a secret in a report: {shown}")) } else { Ok(()) }
            }
        }
    };
    // The built-in rows are compiled each time.
    let slow = Duration::from_secs(2);
    Target { name: "config", seeds, slow, mutate: &mutate::bytes, check: &check }.run();
}

#[test]
fn our_look_at_json_agrees_with_a_parser() {
    let mut seeds = asks();
    seeds.extend(whole_answers().into_iter().map(|(_, reply)| reply.body));
    let check = |input: &[u8], _: &mut Dice| {
        let parsed = serde_json::from_slice::<Map<String, Value>>(input);
        let scanned = Object::scan(input);
        match (scanned, parsed) {
            (Ok(object), Ok(parsed)) => agree(input, &object, &parsed),
            (Err(_), Err(_))
            | (Err(scan::Error::Depth | scan::Error::Duplicate(_) | scan::Error::Fields), Ok(_)) => Ok(()),
            (Err(wrong), Ok(_)) => Err(format!("we refuse it: {wrong}")),
            // Numbers that no double holds, half a surrogate pair, and a bound on depth that counts otherwise.
            (Ok(_), Err(wrong)) => {
                let words = wrong.to_string();
                let known =
                    ["number out of range", "surrogate", "unexpected end of hex escape", "recursion limit"];
                if known.iter().any(|known| words.contains(known)) {
                    Ok(())
                } else {
                    Err(format!("the parser refuses it: {words}"))
                }
            }
        }
    };
    Target { name: "scan", seeds, slow: SLOW, mutate: &mutate::document, check: &check }.run();
}

fn agree(input: &[u8], object: &Object, parsed: &Map<String, Value>) -> Result<(), String> {
    let mut count = 0;
    for (name, _, raw) in object.iter(input) {
        count += 1;
        let ours: Value = serde_json::from_slice(raw).map_err(|wrong| format!("{name}: {wrong}"))?;
        if parsed.get(name.as_ref()) != Some(&ours) {
            return Err(format!("{name} is another value"));
        }
        let (text, number) = (scan::as_str(raw), scan::as_u64(raw));
        if text.as_deref() != ours.as_str() || number != ours.as_u64() || scan::as_bool(raw) != ours.as_bool()
        {
            return Err(format!("{name} is read otherwise"));
        }
    }
    if count == parsed.len() { Ok(()) } else { Err("another number of fields".to_owned()) }
}
