//! What must hold for every stream that any platform sends, however its bytes are cut, framed, padded or broken off.

use serde_json::{Value, json};
use weir::api::ask::Ask;
use weir::sse;

use crate::checker::{Asked, Seen, check, meaning};
use crate::fixtures::{self, Case};
use crate::golden::comparable;
use crate::stage::{Got, Reply, Stage};

/// One stream of the matrix.
pub struct Sample {
    pub title: String,
    pub case: Case,
    pub stage: Stage,
    pub reply: Reply,
}

/// Every stream of the matrix that is an answer.
pub fn samples() -> Vec<Sample> {
    let mut found = Vec::new();
    for case in fixtures::cases() {
        for answer in case.answers().into_iter().filter(|answer| answer.is_stream) {
            let title = format!("{} {}", case.title(), answer.variant);
            found.push(Sample { title, case, stage: case.stage(), reply: answer.reply });
        }
    }
    assert!(found.len() >= 60, "the streams of the matrix are gone");
    found
}

impl Sample {
    pub fn ask(&self, include_usage: bool) -> Ask {
        self.case.ask(true, include_usage).expect("an ask")
    }

    /// What a stream that was broken off is held to.
    fn broken(&self) -> Asked<'static> {
        let usage_may_lack = self.stage.platform.splices(&self.stage.model);
        Asked { usage_may_lack, ..Asked::of("smart", true) }
    }

    /// What the caller gets where the body comes in `pieces`.
    fn told<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        told(&self.stage.answer_in_pieces(&self.ask(true), &self.reply, pieces))
    }

    /// Other ways to put the same events.
    fn spellings(&self) -> Vec<(&'static str, Vec<u8>)> {
        let text = String::from_utf8(self.reply.body.clone()).expect("UTF-8").replace("\r\n", "\n");
        let with = |ends: &str| text.replace('\n', ends).into_bytes();
        let between = |what: &str| {
            text.split_inclusive("\n\n").fold(what.to_owned(), |all, event| all + event + what).into_bytes()
        };
        let in_events = |what: &str| {
            text.replace("\ndata:", &format!("\n{what}data:")).replacen("data:", &format!("{what}data:"), 1)
        };
        vec![
            ("LF", with("\n")),
            ("CRLF", with("\r\n")),
            ("CR", with("\r")),
            ("a byte order mark", ["\u{FEFF}".as_bytes(), text.as_bytes()].concat()),
            ("comments", between(": keep-alive\n\n")),
            ("comments without a gap", between(":\n")),
            ("empty lines", between("\n\n\n")),
            ("ids and retries", between("id: 7\nretry: 3000\n\n")),
            ("a comment inside of events", in_events(": ping\n").into_bytes()),
            ("no space after the colon", text.replace("data: ", "data:").into_bytes()),
        ]
    }
}

fn told(got: &Got) -> String {
    match got {
        Got::Whole(body) | Got::Stream(body) => comparable(&String::from_utf8_lossy(body)),
        Got::Refused(_, fault) => format!("refused: {fault}"),
    }
}

fn stream_of(got: Got) -> Option<Vec<u8>> {
    match got {
        Got::Stream(events) => Some(events.to_vec()),
        Got::Whole(_) | Got::Refused(..) => None,
    }
}

/// What a strict SDK reads from the caller's stream.
fn seen(sample: &Sample, include_usage: bool, pieces: &[&[u8]]) -> Result<Seen, String> {
    let got =
        sample.stage.answer_in_pieces(&sample.ask(include_usage), &sample.reply, pieces.iter().copied());
    let shown = told(&got);
    check(&stream_of(got).ok_or(shown)?, Asked::of("smart", include_usage))
}

#[test]
fn every_callers_stream_is_lawful() {
    for sample in samples() {
        for include_usage in [true, false] {
            let seen = seen(&sample, include_usage, &[&sample.reply.body]);
            let seen = seen.unwrap_or_else(|broken| panic!("{}: {broken}", sample.title));
            assert!(!seen.failed, "{}", sample.title);
        }
    }
}

#[test]
fn events_are_the_same_for_any_cut_at_any_byte() {
    for sample in samples() {
        for (spelling, body) in sample.spellings() {
            let whole = events(&[&body]);
            // All spellings but those that put events of their own say the same, names included.
            assert_eq!(whole, events(&[&sample.spellings()[0].1]), "{} {spelling}", sample.title);
            // The framing is the same for all platforms: the plain spelling at every byte, the others at some.
            let step = if spelling == "LF" { 1 } else { 7 };
            for cut in (0..=body.len()).step_by(step) {
                let (left, right) = body.split_at(cut);
                assert_eq!(events(&[left, right]), whole, "{} {spelling} cut at {cut}", sample.title);
            }
        }
    }
}

fn events(pieces: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut decoder = sse::Decoder::new(1 << 20);
    let mut all = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        while let Some(event) = decoder.next().expect("no event is too long") {
            all.push((event.name.to_vec(), event.data.to_vec()));
        }
    }
    all
}

#[test]
fn the_caller_gets_the_same_however_the_bytes_come() {
    for sample in samples() {
        let whole = sample.told([sample.reply.body.as_slice()]);
        for (spelling, body) in sample.spellings() {
            assert_eq!(sample.told([body.as_slice()]), whole, "{}: {spelling}", sample.title);
        }
        for size in [1, 2, 3, 7, 64, 1000] {
            let pieces = sample.reply.body.chunks(size);
            assert_eq!(sample.told(pieces), whole, "{}: pieces of {size}", sample.title);
        }
        for cut in (0..sample.reply.body.len()).step_by(61) {
            let (left, right) = sample.reply.body.split_at(cut);
            assert_eq!(sample.told([left, right]), whole, "{}: cut at {cut}", sample.title);
        }
    }
}

#[test]
fn a_stream_that_breaks_off_is_never_a_finished_answer() {
    for sample in samples() {
        let body = &sample.reply.body;
        let full = seen(&sample, true, &[body]).expect(&sample.title);
        let whole = sample.told([body.as_slice()]);
        // Behind each event, and here and there inside of one.
        let is_gap = |at: usize| body[..at].ends_with(b"\n\n") || body[..at].ends_with(b"\n\r\n");
        let ends = (0..=body.len()).filter(|at| at % 23 == 0 || *at == body.len() || is_gap(*at));
        let mut outcomes = [0, 0, 0];
        for end in ends {
            let got = sample.stage.answer_in_pieces(&sample.ask(true), &sample.reply, [&body[..end]]);
            let shown = told(&got);
            let Some(stream) = stream_of(got) else {
                outcomes[0] += 1;
                continue;
            };
            let part = check(&stream, sample.broken());
            let part =
                part.unwrap_or_else(|broken| panic!("{} cut at {end}: {broken}\n{shown}", sample.title));
            if part.failed {
                outcomes[1] += 1;
                assert!(part.choices.iter().all(|choice| choice["finish_reason"].is_null()), "{end} {shown}");
                let said = &shown[..shown.rfind("data: {\"error\"").expect("an error")];
                assert!(
                    whole.starts_with(said),
                    "{} cut at {end}: said otherwise before it broke",
                    sample.title
                );
            } else {
                outcomes[2] += 1;
                let (part, full) = (meaning(&part.choices), meaning(&full.choices));
                assert_eq!(part, full, "{} cut at {end}: passed off as finished", sample.title);
            }
        }
        let [refused, _, complete] = outcomes;
        assert!(refused > 0 && complete > 0, "{}: {outcomes:?}", sample.title);
    }
}

#[test]
fn a_platforms_error_in_mid_stream_is_told_and_ends_it() {
    for sample in samples() {
        let text = String::from_utf8(sample.reply.body.clone()).expect("UTF-8").replace("\r\n", "\n");
        let events: Vec<&str> = text.split_inclusive("\n\n").collect();
        for count in 1..events.len() {
            let head = events[..count].concat();
            let error = json!({"type": "error", "error": {"type": "server_error", "message": "broke", "code": 10010},
                               "error_code": 336100, "code": "InternalError", "header": {"code": 10010, "status": 2}});
            let body = format!("{head}event: error\ndata: {error}\n\n");
            let got = sample.stage.answer_in_pieces(&sample.ask(true), &sample.reply, [body.as_bytes()]);
            let shown = told(&got);
            let Some(stream) = stream_of(got) else { continue };
            let seen = check(&stream, sample.broken());
            let seen =
                seen.unwrap_or_else(|broken| panic!("{} after {count}: {broken}\n{shown}", sample.title));
            // Behind the platform's own end nothing counts any more.
            let is_over = text_is_over(&sample, &head);
            assert!(seen.failed || is_over, "{} after {count}: {shown}", sample.title);
        }
    }
}

/// Whether the answer is complete with these bytes.
fn text_is_over(sample: &Sample, head: &str) -> bool {
    let got = sample.stage.answer_in_pieces(&sample.ask(true), &sample.reply, [head.as_bytes()]);
    stream_of(got).is_some_and(|stream| check(&stream, sample.broken()).is_ok_and(|seen| !seen.failed))
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let mut compared = 0;
    for sample in samples() {
        let ask = sample.case.ask(false, false).expect("an ask");
        let streamed = seen(&sample, true, &[&sample.reply.body]).expect(&sample.title);
        let variant = sample.title.split_once(' ').map(|(_, variant)| variant.to_owned()).unwrap_or_default();
        let answers = sample.case.answers();
        let whole = answers.iter().find(|answer| !answer.is_stream && answer.variant == variant);
        // A refusal may be an error where it is whole, and the words of a filter differ.
        if let Some(whole) = whole.filter(|_| sample.case.form.is_some()) {
            let Got::Whole(body) = sample.stage.answer(&ask, &whole.reply) else {
                panic!("{}", sample.title)
            };
            same(&sample.title, &streamed, &body);
            compared += 1;
        }
        // The stream put together by us is what an SDK makes of it.
        if !sample.stage.platform.splices(&sample.stage.model) {
            let pieces = [sample.reply.body.as_slice()];
            let Got::Whole(body) = sample.stage.assemble(&ask, &sample.reply.headers, pieces) else {
                panic!("{}", sample.title)
            };
            same(&sample.title, &streamed, &body);
            compared += 1;
        }
    }
    assert!(compared > 80, "{compared}");
}

fn same(title: &str, streamed: &Seen, whole: &[u8]) {
    let whole: Value = serde_json::from_slice(whole).expect("JSON");
    let choices = whole["choices"].as_array().expect("choices");
    assert_eq!(meaning(&streamed.choices), meaning(choices), "{title}");
    // An estimate is made from bytes, which differ.
    let is_named = streamed
        .usage
        .as_ref()
        .is_some_and(|usage| usage["prompt_tokens"] == whole["usage"]["prompt_tokens"]);
    if is_named {
        assert_eq!(streamed.usage.as_ref(), Some(&whole["usage"]), "{title}");
    }
}
