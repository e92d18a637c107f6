//! The golden matrix: for each platform and case, what goes out and what the caller gets are what the files say.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};
use weir::fault::Fault;
use weir::http::reply::refusal;
use weir::platform::judge::{Judgement, NEVER, Scope};

use crate::fixtures::{self, Answer, CANNOT, Case, Form};
use crate::stage::{Got, Stage};

/// What Weir made of one case, as files.
struct Made {
    case: Case,
    files: Vec<(String, String)>,
    wrong: Vec<String>,
}

#[test]
fn every_platform_says_and_answers_what_its_files_say() {
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    let mut wrong = Vec::new();
    for case in fixtures::cases() {
        let made = make(case);
        wrong.extend(made.wrong.iter().map(|what| format!("{}: {what}", case.title())));
        if bless {
            write(&made);
        } else {
            compare(&made, &mut wrong);
        }
        strays(&made, bless, &mut wrong);
    }
    wrong.extend(stray_folders());
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

/// Runs a case and says what is wrong with it whatever the goldens say.
fn make(case: Case) -> Made {
    let mut made = Made { case, files: Vec::new(), wrong: Vec::new() };
    let answers = case.answers();
    let stage = case.stage();
    match case.form {
        Some(_) if case.is_refused_by_us() => made.refused(&stage, &answers),
        Some(form) => made.feature(&stage, form, &answers),
        None => made.refusals(&stage, &answers),
    }
    made
}

impl Made {
    fn file(&mut self, name: String, text: String) {
        self.files.push((name, text));
    }

    /// The platform cannot do it: no request goes out, streamed or not.
    fn refused(&mut self, stage: &Stage, answers: &[Answer]) {
        if !answers.is_empty() {
            self.wrong.push("holds answers to a request that is never sent".to_owned());
        }
        for stream in [false, true] {
            let name = if stream { "expected.stream.json" } else { "expected.json" };
            match self.case.ask(stream, true).and_then(|ask| stage.request(&ask)) {
                Ok(_) => self.wrong.push("is said to be refused, and is not".to_owned()),
                Err(fault) => self.file(name.to_owned(), pretty(&json!({"refused": told(&fault)}))),
            }
        }
    }

    fn feature(&mut self, stage: &Stage, form: Form, answers: &[Answer]) {
        for stream in [false, true] {
            let is_due = form == Form::Both || (form == Form::Stream) == stream;
            let ask = match self.case.ask(stream, true) {
                Ok(ask) => ask,
                Err(fault) => return self.wrong.push(format!("a bad ask: {fault}")),
            };
            let answer = pick(answers, stage.streams(&ask));
            let request = if stream { "request.stream.json" } else { "request.json" };
            match (answer, stage.request(&ask)) {
                (None, _) if !is_due => {}
                (None, _) => self.wrong.push(format!("no answer where stream is {stream}")),
                (_, Err(fault)) => self.wrong.push(format!("cannot be asked: {fault}")),
                (Some(answer), Ok(sent)) => {
                    self.file(request.to_owned(), pretty(&sent));
                    let got = stage.answer(&ask, &answer.reply);
                    if matches!(got, Got::Refused(..)) {
                        self.wrong.push(format!("was refused: {}", shown(&got)));
                    }
                    self.got("", stream, &got);
                }
            }
        }
    }

    /// A refusal must be the same whether a stream was asked for or not.
    fn refusals(&mut self, stage: &Stage, answers: &[Answer]) {
        if answers.is_empty() {
            self.wrong.push("no answer".to_owned());
        }
        for answer in answers {
            let mut seen: Option<String> = None;
            for stream in [false, true] {
                let ask = self.case.ask(stream, true).expect("an ask");
                let is_events = answer.reply.is_events();
                // Events are what a request for a stream gets; a whole answer of one is the same as without.
                if (is_events && !stage.streams(&ask)) || (answer.is_stream && !is_events) {
                    continue;
                }
                let got = stage.answer(&ask, &answer.reply);
                let text = shown(&got);
                if let Got::Refused(judgement, _) = &got {
                    let verdict = judgement.as_ref().map_or("none", |judgement| judgement.verdict.as_str());
                    if verdict != self.case.verdict() {
                        self.wrong.push(format!("{}: the verdict is {verdict}", answer.variant));
                    }
                    if seen.as_ref().is_some_and(|before| *before != text) {
                        self.wrong.push(format!("{}: a stream is refused otherwise", answer.variant));
                    }
                    seen = Some(text);
                }
                // An answer with content is whole in its own file, and a stream in its own.
                if !matches!(got, Got::Refused(..)) && answer.is_stream != stream {
                    continue;
                }
                self.got(&answer.variant, stream, &got);
            }
            if seen.is_none() && !matches!(self.case.name, "content_filtered") {
                self.wrong.push(format!("{}: is no refusal", answer.variant));
            }
        }
    }

    fn got(&mut self, variant: &str, stream: bool, got: &Got) {
        let dot = if variant.is_empty() { "" } else { "." };
        let ending = match got {
            Got::Stream(_) => "sse",
            Got::Whole(_) | Got::Refused(..) => "json",
        };
        let name = format!("expected{dot}{variant}.{ending}");
        if ending == "json" && stream && !matches!(got, Got::Refused(..)) {
            self.wrong.push("a whole answer to a caller who asked for a stream".to_owned());
        }
        let text = shown(got);
        match self.files.iter().find(|(known, _)| *known == name) {
            Some((_, before)) if *before != text => {
                self.wrong.push(format!("{name} is made twice, otherwise"))
            }
            Some(_) => {}
            None => self.file(name, text),
        }
    }
}

/// The answer to a request for a stream, or to one that is not.
fn pick(answers: &[Answer], stream: bool) -> Option<&Answer> {
    answers.iter().find(|answer| answer.variant.is_empty() && answer.is_stream == stream)
}

/// As a file.
fn shown(got: &Got) -> String {
    match got {
        Got::Whole(body) => pretty(&serde_json::from_slice(body).expect("an answer is JSON")),
        Got::Stream(events) => comparable(std::str::from_utf8(events).expect("UTF-8")),
        Got::Refused(judgement, fault) => {
            pretty(&json!({"judged": judgement.as_ref().map(judged), "told": told(fault)}))
        }
    }
}

fn judged(judgement: &Judgement) -> Value {
    let wait = match judgement.retry_after {
        Some(NEVER) => json!("never"),
        Some(wait) => json!(wait.as_secs_f64()),
        None => Value::Null,
    };
    let scope = match judgement.scope {
        Scope::Model => "model",
        Scope::Account => "account",
        Scope::Platform => "platform",
    };
    json!({"verdict": judgement.verdict.as_str(), "scope": scope, "retry_after": wait, "code": judgement.code})
}

/// What a caller is told, where no other account could be tried.
fn told(fault: &Fault) -> Value {
    let refusal = refusal(fault);
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), json!(value.to_str().expect("text")))
    };
    let headers: serde_json::Map<String, Value> =
        refusal.headers.iter().filter(|(name, _)| *name != "content-type").map(header).collect();
    let body: Value = serde_json::from_slice(&refusal.body).expect("JSON");
    json!({"status": refusal.status.as_u16(), "headers": headers, "body": body})
}

fn pretty(value: &Value) -> String {
    comparable(&(serde_json::to_string_pretty(value).expect("JSON") + "\n"))
}

/// Ids that were minted, by their order: `chatcmpl-#0`, `call_#1`.
pub fn comparable(text: &str) -> String {
    let mut minted: Vec<&str> = Vec::new();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, prefix, len)) = [("chatcmpl-", 29), ("call_", 24)]
        .into_iter()
        .filter_map(|(prefix, len)| rest.find(prefix).map(|at| (at, prefix, len)))
        .min()
    {
        let from = at + prefix.len();
        let tail = rest[from..].bytes().take_while(u8::is_ascii_alphanumeric).count();
        let id = &rest[at..from + tail];
        out.push_str(&rest[..at]);
        if tail == len {
            let known = minted.iter().position(|known| *known == id);
            let number = known.unwrap_or(minted.len());
            if known.is_none() {
                minted.push(id);
            }
            write!(out, "{prefix}#{number}").expect("memory");
        } else {
            out.push_str(id);
        }
        rest = &rest[from + tail..];
    }
    out.push_str(rest);
    out
}

fn write(made: &Made) {
    std::fs::create_dir_all(made.case.folder()).expect("a folder");
    for (name, text) in &made.files {
        std::fs::write(made.case.folder().join(name), text).expect("a file");
    }
}

fn compare(made: &Made, wrong: &mut Vec<String>) {
    for (name, text) in &made.files {
        let title = format!("{}/{name}", made.case.title());
        match std::fs::read_to_string(made.case.folder().join(name)) {
            Err(_) => wrong.push(format!("{title}: there is no such golden")),
            Ok(golden) if golden != *text => {
                wrong.push(format!("{title}: {}", first_difference(&golden, text)))
            }
            Ok(_) => {}
        }
    }
}

fn first_difference(golden: &str, now: &str) -> String {
    let (mut before, mut after) = (golden.lines(), now.lines());
    for number in 1.. {
        match (before.next(), after.next()) {
            (None, None) => return "differs in its line ends".to_owned(),
            (one, other) if one != other => {
                let say = |line: Option<&str>| line.map_or("(end)".to_owned(), str::to_owned);
                return format!("line {number}\n    golden: {}\n    now:    {}", say(one), say(other));
            }
            _ => {}
        }
    }
    unreachable!("lines end")
}

/// Files in a case's folder that are neither answers nor made of them.
fn strays(made: &Made, bless: bool, wrong: &mut Vec<String>) {
    for name in made.case.files() {
        let is_answer = name.starts_with("answer") && name.ends_with(".http");
        if is_answer || made.files.iter().any(|(known, _)| *known == name) {
            continue;
        }
        if bless && (name.starts_with("expected") || name.starts_with("request")) {
            std::fs::remove_file(made.case.folder().join(&name)).expect("removed");
        } else {
            wrong.push(format!("{}/{name}: nobody asked for it", made.case.title()));
        }
    }
}

/// Folders that no case of the table is about.
fn stray_folders() -> Vec<String> {
    let known: BTreeSet<_> = fixtures::cases().map(Case::folder).collect();
    let mut wrong = Vec::new();
    for platform in std::fs::read_dir(fixtures::root()).expect("a folder").flatten() {
        if platform.file_name() == "_asks" {
            continue;
        }
        for case in std::fs::read_dir(platform.path()).expect("a folder").flatten() {
            if !known.contains(&case.path()) {
                wrong.push(format!("{}: no case of the table", case.path().display()));
            }
        }
    }
    wrong
}

#[test]
fn the_table_names_only_what_there_is() {
    for (platform, case) in CANNOT {
        assert!(fixtures::cases().any(|known| (known.platform, known.name) == (*platform, *case)), "{case}");
    }
    let rows: Vec<_> = weir::platform::profile::Platform::built_in()
        .expect("rows")
        .into_iter()
        .map(|row| row.name)
        .collect();
    for row in &rows {
        assert!(fixtures::PLATFORMS.iter().any(|(name, ..)| *name == row.as_str()), "no matrix for {row}");
    }
    assert_eq!(rows.len(), fixtures::PLATFORMS.len());
}
