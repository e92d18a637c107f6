use super::super::super::laws::{law, nonsense_law, read, same_answer, streamed, whole, whole_law};
use super::super::super::{Dialect, Ending, Failure};
use serde_json::{Value, json};

const CLAUDE: Dialect = Dialect::Anthropic;

/// Events as Claude sends them, each named after its type.
fn stream(events: &[Value]) -> Vec<u8> {
    let event = |data: &Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().expect("type"));
    events.iter().map(event).collect::<String>().into_bytes()
}

fn start() -> Value {
    json!({"type":"message_start","message":{"id":"msg_01X","type":"message","role":"assistant","model":"claude-opus-5-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":1}}})
}

fn begin(index: u32, block: Value) -> Value {
    json!({"type":"content_block_start","index":index,"content_block":block})
}

fn delta(index: u32, delta: Value) -> Value {
    json!({"type":"content_block_delta","index":index,"delta":delta})
}

fn text(index: u32, words: &str) -> Value {
    delta(index, json!({"type":"text_delta","text":words}))
}

fn input(index: u32, part: &str) -> Value {
    delta(index, json!({"type":"input_json_delta","partial_json":part}))
}

fn end(index: u32) -> Value {
    json!({"type":"content_block_stop","index":index})
}

fn ping() -> Value {
    json!({"type":"ping"})
}

fn stop(reason: &str, output: u64) -> [Value; 2] {
    [
        json!({"type":"message_delta","delta":{"stop_reason":reason,"stop_sequence":null,"stop_details":null},"usage":{"output_tokens":output}}),
        json!({"type":"message_stop"}),
    ]
}

fn sample() -> Vec<Value> {
    let mut events = vec![
        start(),
        begin(0, json!({"type":"text","text":""})),
        ping(),
        text(0, "Hel"),
        text(0, "lo \u{2028}é"),
        end(0),
        begin(1, json!({"type":"tool_use","id":"toolu_01A","name":"get_weather","input":{}})),
        input(1, ""),
        input(1, "{\"city\": \"Os"),
        input(1, "lo\"}"),
        end(1),
        begin(2, json!({"type":"tool_use","id":"toolu_01B","name":"now","input":{}})),
        input(2, ""),
        end(2),
    ];
    events.extend(stop("tool_use", 55));
    events
}

fn thoughtful() -> Vec<Value> {
    let mut events = vec![
        start(),
        begin(0, json!({"type":"thinking","thinking":"","signature":""})),
        delta(0, json!({"type":"thinking_delta","thinking":"Let me "})),
        delta(0, json!({"type":"thinking_delta","thinking":"see."})),
        delta(0, json!({"type":"signature_delta","signature":"EqQB"})),
        end(0),
        begin(1, json!({"type":"redacted_thinking","data":"Zm9v"})),
        end(1),
        begin(2, json!({"type":"tool_use","id":"toolu_01A","name":"f","input":{}})),
        input(2, "{\"a\":1}"),
        end(2),
    ];
    events.extend(stop("tool_use", 9));
    events
}

#[test]
fn obeys_the_laws_of_streams() {
    law(CLAUDE, &stream(&sample()));
    law(CLAUDE, &stream(&thoughtful()));
}

#[test]
fn the_streamed_answer_is_the_whole_answer() {
    let whole = json!({"id":"msg_01X","type":"message","role":"assistant","content":[
        {"type":"text","text":"Hello \u{2028}é"},
        {"type":"tool_use","id":"toolu_01A","name":"get_weather","input":{"city":"Oslo"}},
        {"type":"tool_use","id":"toolu_01B","name":"now","input":{}}],
        "stop_reason":"tool_use","stop_sequence":null,"stop_details":null,
        "usage":{"input_tokens":25,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":55}});
    same_answer(CLAUDE, &stream(&sample()), whole.to_string().as_bytes());
    let answer = streamed(CLAUDE, &stream(&sample()));
    let message = &answer["choices"][0]["message"];
    assert_eq!(answer["id"], "msg_01X");
    assert_eq!(message["content"], "Hello \u{2028}é");
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"city\": \"Oslo\"}");
    assert_eq!(message["tool_calls"][1]["id"], "toolu_01B");
    assert_eq!(message["tool_calls"][1]["function"]["arguments"], "{}");
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(answer["usage"]["total_tokens"], 80);

    let whole = json!({"id":"msg_01X","type":"message","role":"assistant","content":[
        {"type":"thinking","thinking":"Let me see.","signature":"EqQB"},
        {"type":"redacted_thinking","data":"Zm9v"},
        {"type":"tool_use","id":"toolu_01A","name":"f","input":{"a":1}}],
        "stop_reason":"tool_use","usage":{"input_tokens":25,"output_tokens":9,"cache_read_input_tokens":0,"cache_creation_input_tokens":0}});
    same_answer(CLAUDE, &stream(&thoughtful()), whole.to_string().as_bytes());
    whole_law(CLAUDE, whole.to_string().as_bytes());
}

#[test]
fn nonsense_is_survived() {
    let words = [
        "0",
        "25",
        "{}",
        "\"text\"",
        "\"index\"",
        "\"usage\"",
        "\"content_block\"",
        "\"delta\"",
        "\"tool_use\"",
    ];
    nonsense_law(CLAUDE, &stream(&sample()), &words);
    nonsense_law(
        CLAUDE,
        &stream(&thoughtful()),
        &["\"EqQB\"", "\"thinking\"", "\"redacted_thinking\"", "\"data\"", "1"],
    );
}

#[test]
fn signed_thinking_is_shown_and_remembered_for_every_call() {
    let answer = streamed(CLAUDE, &stream(&thoughtful()));
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "Let me see.");
    assert_eq!(
        message["extra_content"],
        json!({"anthropic":{"thinking_blocks":[
            {"index":0,"type":"thinking","thinking":"Let me see.","signature":"EqQB"},
            {"index":1,"type":"redacted_thinking","data":"Zm9v"}]}})
    );
    let reading = read(CLAUDE, [&*stream(&thoughtful())]);
    let kept: Vec<&String> = reading.pieces.iter().filter(|piece| piece.starts_with("Remember")).collect();
    assert_eq!(kept.len(), 1);
    assert!(
        kept[0].contains("toolu_01A") && kept[0].contains("EqQB") && kept[0].contains("Zm9v"),
        "{kept:?}"
    );
    assert!(!kept[0].contains("\"index\""), "what goes back is what Claude gave: {kept:?}");
}

#[test]
fn blank_thinking_keeps_its_signature() {
    let mut events = vec![
        start(),
        begin(0, json!({"type":"thinking","thinking":""})),
        delta(0, json!({"type":"signature_delta","signature":"S"})),
        end(0),
        begin(1, json!({"type":"text","text":"Hi"})),
        end(1),
    ];
    events.extend(stop("end_turn", 2));
    let answer = streamed(CLAUDE, &stream(&events));
    let message = &answer["choices"][0]["message"];
    assert!(message.get("reasoning_content").is_none());
    assert_eq!(message["content"], "Hi");
    assert_eq!(message["extra_content"]["anthropic"]["thinking_blocks"][0]["signature"], "S");
}

#[test]
fn endless_thinking_is_passed_on_but_not_kept() {
    let part = "x".repeat(300_000);
    let mut events = vec![start(), begin(0, json!({"type":"thinking","thinking":""}))];
    events.extend((0..4).map(|_| delta(0, json!({"type":"thinking_delta","thinking":part}))));
    events.extend([delta(0, json!({"type":"signature_delta","signature":"S"})), end(0)]);
    events.extend(stop("end_turn", 2));
    let answer = streamed(CLAUDE, &stream(&events));
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning_content"].as_str().map(str::len), Some(1_200_000));
    assert!(message.get("extra_content").is_none());
}

#[test]
fn what_is_not_the_callers_is_skipped() {
    let mut events = vec![
        start(),
        begin(0, json!({"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}})),
        input(0, "{\"query\":\"x\"}"),
        end(0),
        begin(1, json!({"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"text":5}]})),
        end(1),
        begin(2, json!({"type":"of_tomorrow","text":"no","name":7})),
        text(2, "no"),
        end(2),
        json!({"type":"event_of_tomorrow","delta":"x"}),
        begin(3, json!({"type":"text","text":"","citations":[]})),
        text(3, "Yes"),
        delta(3, json!({"type":"citations_delta","citation":{"text":"no"}})),
        delta(3, json!({"type":"delta_of_tomorrow","text":"no"})),
        end(3),
        begin(4, json!({"type":"tool_use","id":"toolu_1","name":"f","input":{}})),
        end(4),
    ];
    events.extend(stop("tool_use", 2));
    law(CLAUDE, &stream(&events));
    let answer = streamed(CLAUDE, &stream(&events));
    assert_eq!(answer["choices"][0]["message"]["content"], "Yes");
    let calls = answer["choices"][0]["message"]["tool_calls"].as_array().expect("calls").len();
    assert_eq!(calls, 1);
}

#[test]
fn input_that_comes_at_once_is_kept() {
    let mut events =
        vec![start(), begin(0, json!({"type":"tool_use","id":"t","name":"f","input":{"a":1}})), end(0)];
    events.extend(stop("tool_use", 2));
    let answer = streamed(CLAUDE, &stream(&events));
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], "{\"a\":1}");
}

#[test]
fn usage_is_a_running_total_that_includes_the_cache() {
    let message_delta = |reason: Value, usage: Value| json!({"type":"message_delta","delta":{"stop_reason":reason},"usage":usage});
    let events = [
        json!({"type":"message_start","message":{"id":"m","usage":{"input_tokens":20,"cache_read_input_tokens":1000,"cache_creation_input_tokens":7,"output_tokens":1}}}),
        begin(0, json!({"type":"text","text":"a"})),
        end(0),
        message_delta(Value::Null, json!({"output_tokens":15})),
        message_delta(
            json!("end_turn"),
            json!({"output_tokens":55,"input_tokens":21,"output_tokens_details":{"thinking_tokens":30}}),
        ),
        json!({"type":"message_stop"}),
    ];
    let usage = streamed(CLAUDE, &stream(&events))["usage"].clone();
    assert_eq!(usage["prompt_tokens"], 1028);
    assert_eq!(usage["completion_tokens"], 55);
    assert_eq!(usage["total_tokens"], 1083);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 1000);
    assert_eq!(usage["prompt_tokens_details"]["cache_write_tokens"], 7);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 30);
    // R13.1, as it is written.
    let mut events = vec![start(), begin(0, json!({"type":"text","text":"a"})), end(0)];
    events.extend(stop("end_turn", 15));
    let usage = streamed(CLAUDE, &stream(&events))["usage"].clone();
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
        (&json!(25), &json!(15), &json!(40))
    );
}

#[test]
fn every_stop_reason_is_one_of_openais() {
    for (theirs, ours) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "stop"), // without a call: the sink corrects it
        ("refusal", "content_filter"),
        ("pause_turn", "length"),
        ("of_tomorrow", "stop"),
    ] {
        let mut events = vec![start(), begin(0, json!({"type":"text","text":"a"})), end(0)];
        events.extend(stop(theirs, 2));
        law(CLAUDE, &stream(&events));
        assert_eq!(streamed(CLAUDE, &stream(&events))["choices"][0]["finish_reason"], ours, "{theirs}");
        let body = json!({"type":"message","id":"m","content":[],"stop_reason":theirs,"usage":{}});
        let answer = whole(CLAUDE, body.to_string().as_bytes()).expect("whole");
        assert_eq!(answer["choices"][0]["finish_reason"], ours, "{theirs}");
        assert_eq!(answer["choices"][0]["message"]["content"], "");
    }
}

#[test]
fn a_refusal_tells_why() {
    let details = json!({"type":"refusal","category":"cyber","explanation":"no"});
    let body = json!({"type":"message","id":"m","content":[],"stop_reason":"refusal","stop_details":details});
    let answer = whole(CLAUDE, body.to_string().as_bytes()).expect("whole");
    assert_eq!(answer["choices"][0]["message"]["extra_content"]["anthropic"]["stop_details"], details);
}

#[test]
fn a_stream_is_cut_unless_a_stop_reason_came() {
    let events = sample();
    for count in 0..events.len() {
        let reading = read(CLAUDE, [&*stream(&events[..count])]);
        let over = count == events.len() - 1;
        let ending = if over { Ending::Complete } else { Ending::Cut };
        assert_eq!(reading.end, Ok(ending), "{count}");
        assert_eq!(reading.finishes(), usize::from(over), "{count}");
    }
    let reading = read(CLAUDE, [&*stream(&events)]);
    assert_eq!((reading.end.clone(), reading.finishes()), (Ok(Ending::Complete), 1));
    // An end mark without a reason is an end all the same.
    let reading = read(CLAUDE, [&*stream(&[start(), json!({"type":"message_stop"})])]);
    assert_eq!((reading.end.clone(), reading.finishes()), (Ok(Ending::Complete), 1));
}

#[test]
fn nothing_after_the_end_mark_matters() {
    let mut late = stream(&sample());
    let reading = read(CLAUDE, [&*late]);
    late.extend_from_slice(b"event: error\ndata: {\"type\":\"error\",\"error\":{}}\n\ndata: rubbish\n\n");
    assert_eq!(read(CLAUDE, [&*late]), reading);
}

#[test]
fn an_error_is_reported_as_it_came_and_never_finished() {
    let report =
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#;
    let event = format!("event: error\ndata: {report}\n\n");
    // At once, in the middle, and even between the reason and the end mark.
    for count in [0, 4, sample().len() - 1] {
        let mut bytes = stream(&sample()[..count]);
        bytes.extend_from_slice(event.as_bytes());
        let reading = read(CLAUDE, [&*bytes]);
        assert_eq!(reading.end, Err(Failure::Reported(report.as_bytes().to_vec())), "{count}");
        assert_eq!(reading.finishes(), 0, "{count}");
    }
    assert_eq!(whole(CLAUDE, report.as_bytes()), Err(Failure::Reported(report.as_bytes().to_vec())));
    let nameless = br#"{"error":{"message":"x"}}"#;
    assert_eq!(whole(CLAUDE, nameless), Err(Failure::Reported(nameless.to_vec())));
}

#[test]
fn what_is_no_answer_is_malformed() {
    for body in [
        "",
        "<html>",
        "[]",
        "{}",
        r#"{"type":"message","content":[{"type":"te"#,
        r#"{"type":"message","content":[]}"#,
    ] {
        assert!(matches!(whole(CLAUDE, body.as_bytes()), Err(Failure::Malformed(_))), "{body}");
    }
    let reading = read(CLAUDE, [&b"data: <html>\n\n"[..]]);
    assert!(matches!(reading.end, Err(Failure::Malformed(_))));
}
