//! Every quirk of OpenAI's shape, one by one.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;

struct Case {
    quirks: Vec<Quirk>,
    stream: bool,
    unsupported: Unsupported,
    efforts: Vec<String>,
    max_output: Option<u64>,
}

impl Case {
    fn of(quirks: &[Quirk]) -> Self {
        let unsupported = Unsupported::Reject;
        Self { quirks: quirks.to_vec(), stream: false, unsupported, efforts: vec![], max_output: None }
    }

    fn streamed(mut self) -> Self {
        self.stream = true;
        self
    }

    fn run(&self, mut fields: Value) -> Result<(Value, Vec<String>), Fault> {
        fields["model"] = json!("m");
        if fields["messages"].is_null() {
            fields["messages"] = json!([{"role": "user", "content": "Hi"}]);
        }
        let ask = Ask::chat(Bytes::from(fields.to_string()))?;
        let scene = Scene {
            quirks: self.quirks.iter().copied().collect(),
            stream: self.stream,
            unsupported: self.unsupported,
            efforts: &self.efforts,
            max_output: self.max_output,
        };
        let mut draft = Draft::new(&ask);
        apply(&mut draft, &scene)?;
        let (bytes, dropped) = draft.finish();
        let mut body: Value = serde_json::from_slice(&bytes).expect("json");
        body.as_object_mut().expect("object").remove("model");
        Ok((body, dropped))
    }

    fn fields(&self, fields: Value) -> (Value, Vec<String>) {
        let (mut body, dropped) = self.run(fields).expect("applied");
        body.as_object_mut().expect("object").remove("messages");
        (body, dropped)
    }

    fn messages(&self, messages: Value) -> Value {
        self.run(json!({"messages": messages})).expect("applied").0["messages"].take()
    }
}

#[test]
fn without_quirks_nothing_changes() {
    let case = Case::of(&[Quirk::WantsExtraBack, Quirk::WantsReasoningBack]);
    let fields = json!({"temperature": 0.1, "tool_choice": "required", "odd": [1]});
    assert_eq!(case.fields(fields.clone()), (fields, vec![]));
}

#[test]
fn sampling_is_left_out_and_named_unless_it_says_the_default() {
    let (body, dropped) =
        Case::of(&[Quirk::NoSampling]).fields(json!({"temperature": 0.5, "top_p": 1, "seed": 1}));
    assert_eq!(body, json!({"seed": 1}));
    assert_eq!(dropped, ["temperature"]);
    let mut case = Case::of(&[Quirk::NoSampling]);
    assert_eq!(case.fields(json!({"logprobs": false, "logit_bias": {}})), (json!({}), vec![]));
    for asked in [json!({"logprobs": true}), json!({"top_logprobs": 2}), json!({"logit_bias": {"1": 1}})] {
        let name = asked.as_object().and_then(|fields| fields.keys().next().cloned());
        let fault = case.run(asked.clone()).expect_err("no such thing");
        assert_eq!(fault.get_param(), name.as_deref());
        case.unsupported = Unsupported::Drop;
        assert_eq!(case.fields(asked), (json!({}), name.into_iter().collect()));
        case.unsupported = Unsupported::Reject;
    }
}

#[test]
fn one_bound_on_tokens_under_the_right_name_and_not_above_the_models() {
    let only = Case::of(&[Quirk::CompletionTokensOnly]);
    assert_eq!(only.fields(json!({"max_tokens": 5})).0, json!({"max_completion_tokens": 5}));
    let both = json!({"max_tokens": 5, "max_completion_tokens": 6});
    assert_eq!(Case::of(&[]).fields(both).0, json!({"max_completion_tokens": 6}));
    let mut bounded = Case::of(&[]);
    bounded.max_output = Some(4096);
    assert_eq!(bounded.fields(json!({"max_tokens": 5000})).0, json!({"max_tokens": 4096}));
    assert_eq!(bounded.fields(json!({"max_tokens": 40})).0, json!({"max_tokens": 40}));
}

#[test]
fn a_demanded_call_is_refused_or_becomes_auto_as_the_route_says() {
    let mut case = Case::of(&[Quirk::NoRequiredTool]);
    let fault = case.run(json!({"tool_choice": "required"})).expect_err("demanded");
    assert_eq!((fault.get_param(), fault.get_code()), (Some("tool_choice"), Some("unsupported_parameter")));
    case.unsupported = Unsupported::Drop;
    let (body, dropped) = case.fields(json!({"tool_choice": "required"}));
    assert_eq!((body, dropped), (json!({"tool_choice": "auto"}), vec!["tool_choice".to_owned()]));
    let named = json!({"tool_choice": {"type": "function", "function": {"name": "f"}}});
    assert_eq!(case.fields(named.clone()).0, named);
}

#[test]
fn only_auto_leaves_none_to_having_no_tools() {
    let mut case = Case::of(&[Quirk::OnlyAutoTool]);
    assert_eq!(case.fields(json!({"tools": [{}], "tool_choice": "none"})), (json!({}), vec![]));
    for choice in [json!({"type": "function"}), json!("required")] {
        let fault = case.run(json!({"tools": [{}], "tool_choice": choice})).expect_err("demanded");
        assert_eq!(fault.get_param(), Some("tool_choice"));
    }
    case.unsupported = Unsupported::Drop;
    let (body, dropped) = case.fields(json!({"tools": [{}], "tool_choice": {"type": "function"}}));
    assert_eq!(body, json!({"tools": [{}], "tool_choice": "auto"}));
    assert_eq!(dropped, ["tool_choice"]);
    assert_eq!(case.fields(json!({"tool_choice": "auto"})), (json!({"tool_choice": "auto"}), vec![]));
}

#[test]
fn a_forced_tool_is_flat_where_the_platform_wants_it_so() {
    let case = Case::of(&[Quirk::FlatToolChoice]);
    let named = json!({"tool_choice": {"type": "function", "function": {"name": "f"}}});
    assert_eq!(case.fields(named).0, json!({"tool_choice": {"type": "function", "name": "f"}}));
    assert_eq!(case.fields(json!({"tool_choice": "required"})).0, json!({"tool_choice": "required"}));
}

#[test]
fn parallel_calls_are_asked_for_only_beside_tools() {
    let case = Case::of(&[Quirk::AskParallelTools]);
    assert_eq!(case.fields(json!({"tools": [{}]})).0, json!({"tools": [{}], "parallel_tool_calls": true}));
    assert_eq!(case.fields(json!({"tools": []})).0, json!({"tools": []}));
    let said = json!({"tools": [{}], "parallel_tool_calls": false});
    assert_eq!(case.fields(said.clone()).0, said);
}

#[test]
fn stop_is_a_list_of_at_most_one() {
    let mut case = Case::of(&[Quirk::OneStop]);
    assert_eq!(case.fields(json!({"stop": "a"})).0, json!({"stop": ["a"]}));
    assert_eq!(case.fields(json!({"stop": ["a"]})).0, json!({"stop": ["a"]}));
    let fault = case.run(json!({"stop": ["a", "b"]})).expect_err("two");
    assert_eq!(fault.get_param(), Some("stop"));
    case.unsupported = Unsupported::Drop;
    assert_eq!(case.fields(json!({"stop": ["a", "b"]})), (json!({"stop": ["a"]}), vec!["stop".to_owned()]));
}

#[test]
fn a_user_goes_by_user_id_within_bounds() {
    let case = Case::of(&[Quirk::UserId]);
    assert_eq!(case.fields(json!({"user": "alice-1"})).0, json!({"user_id": "alice-1"}));
    assert_eq!(case.fields(json!({"user": "bob"})), (json!({}), vec!["user".to_owned()]));
    assert_eq!(case.fields(json!({"user": "x".repeat(129)})).0, json!({}));
}

#[test]
fn qwen_thinks_by_flag_and_budget_and_only_in_streams() {
    let case = Case::of(&[Quirk::QwenThinking, Quirk::NoThinkingUnlessStream]);
    assert_eq!(case.fields(json!({})).0, json!({"enable_thinking": false}));
    assert_eq!(case.fields(json!({"enable_thinking": true})).0, json!({"enable_thinking": true}));
    let (body, dropped) = case.fields(json!({"reasoning_effort": "high"}));
    assert_eq!((body, dropped), (json!({"enable_thinking": false}), vec!["reasoning_effort".to_owned()]));
    let case = case.streamed();
    let on = |body: Value| {
        let mut body = case.fields(body).0;
        assert_eq!(body["stream"].take(), json!(true));
        body.as_object_mut().expect("object").remove("stream");
        body
    };
    assert_eq!(on(json!({})), json!({}));
    assert_eq!(on(json!({"reasoning_effort": "none"})), json!({"enable_thinking": false}));
    for (level, budget) in [("low", 1024), ("medium", 8192)] {
        let thinks = json!({"enable_thinking": true, "thinking_budget": budget});
        assert_eq!(on(json!({"reasoning_effort": level})), thinks);
    }
    for level in ["high", "max"] {
        assert_eq!(on(json!({"reasoning_effort": level})), json!({"enable_thinking": true}));
    }
    let own = json!({"reasoning_effort": "high", "thinking_budget": 5});
    assert_eq!(on(own), json!({"thinking_budget": 5, "enable_thinking": true}));
    let off = json!({"reasoning_effort": "high", "enable_thinking": false});
    assert_eq!(on(off), json!({"enable_thinking": false}));
}

#[test]
fn a_model_that_thinks_only_in_streams_must_stream_when_it_is_to_think() {
    let quirks: Quirks = [Quirk::QwenThinking, Quirk::NoThinkingUnlessStream].into_iter().collect();
    let ask = |extra: &str| {
        Ask::chat(Bytes::from(format!(r#"{{"model":"m","messages":[{{}}]{extra}}}"#))).expect("ask")
    };
    assert!(!must_stream(&ask(""), quirks));
    assert!(must_stream(&ask(r#","enable_thinking":true"#), quirks));
    assert!(must_stream(&ask(r#","reasoning_effort":"low""#), quirks));
    assert!(!must_stream(&ask(r#","reasoning_effort":"low","enable_thinking":false"#), quirks));
    assert!(!must_stream(&ask(r#","reasoning_effort":"none""#), quirks));
    assert!(must_stream(&ask(""), [Quirk::StreamOnly].into_iter().collect()));
}

#[test]
fn a_switch_takes_the_place_of_the_level() {
    let case = Case::of(&[Quirk::ThinkingSwitch]);
    assert_eq!(case.fields(json!({"reasoning_effort": "low"})).0, json!({"thinking": {"type": "enabled"}}));
    assert_eq!(case.fields(json!({"reasoning_effort": "none"})).0, json!({"thinking": {"type": "disabled"}}));
    let own = json!({"reasoning_effort": "low", "thinking": {"type": "auto"}});
    assert_eq!(case.fields(own).0, json!({"thinking": {"type": "auto"}}));
}

#[test]
fn a_level_that_the_model_lacks_becomes_the_nearest() {
    let mut case = Case::of(&[Quirk::ThinkingSwitch]);
    case.efforts = ["low", "high", "max"].map(str::to_owned).to_vec();
    for (asked, sent) in
        [("low", "low"), ("medium", "high"), ("high", "high"), ("xhigh", "max"), ("max", "max")]
    {
        assert_eq!(
            case.fields(json!({"reasoning_effort": asked})).0,
            json!({"reasoning_effort": sent}),
            "{asked}"
        );
    }
    assert_eq!(
        case.fields(json!({"reasoning_effort": "minimal"})).0,
        json!({"thinking": {"type": "disabled"}})
    );
    assert_eq!(case.fields(json!({"reasoning_effort": "odd"})).0, json!({"reasoning_effort": "odd"}));
    case.quirks.clear();
    assert_eq!(case.fields(json!({"reasoning_effort": "none"})).0, json!({"reasoning_effort": "low"}));
}

#[test]
fn usage_is_asked_for_in_every_stream_and_never_outside_of_one() {
    let case = Case::of(&[Quirk::AskUsage]);
    assert_eq!(case.fields(json!({"stream": true, "stream_options": {"include_usage": true}})).0, json!({}));
    assert_eq!(case.fields(json!({"stream": false})).0, json!({"stream": false}));
    let case = case.streamed();
    let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
    assert_eq!(case.fields(json!({})).0, asked);
    assert_eq!(case.fields(asked.clone()).0, asked);
    let more =
        json!({"stream": true, "stream_options": {"include_usage": false, "include_obfuscation": false}});
    assert_eq!(
        case.fields(more).0,
        json!({"stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false}})
    );
}

#[test]
fn a_schema_becomes_words_where_the_platform_has_no_schemas() {
    let case = Case::of(&[Quirk::SchemaAsJsonObject]);
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    let (body, _) = case.run(json!({"response_format": format})).expect("applied");
    assert_eq!(body["response_format"], json!({"type": "json_object"}));
    assert_eq!(body["messages"][0]["role"], "system");
    assert!(body["messages"][0]["content"].as_str().expect("text").contains(&schema.to_string()));
    let plain = json!({"response_format": {"type": "json_object"}});
    assert_eq!(case.fields(plain.clone()).0, plain);
    let system = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]);
    let (body, _) = case.run(json!({"response_format": format, "messages": system})).expect("applied");
    assert_eq!(body["messages"].as_array().expect("list").len(), 2);
    assert!(
        body["messages"][0]["content"]
            .as_str()
            .expect("text")
            .starts_with("Be brief.\n\nAnswer with one JSON")
    );
}

#[test]
fn developers_speak_as_the_system() {
    let developer = json!([{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}]);
    assert_eq!(Case::of(&[Quirk::DeveloperToSystem]).messages(developer.clone())[0]["role"], "system");
    assert_eq!(Case::of(&[]).messages(developer)[0]["role"], "developer");
}

#[test]
fn thinking_and_vendor_state_go_back_only_where_wanted() {
    let turn = json!([{"role": "assistant", "content": "a", "reasoning_content": "r", "extra_content": {"x": 1},
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"google": {}}}]}]);
    let bare = json!([{"role": "assistant", "content": "a",
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}]);
    assert_eq!(Case::of(&[]).messages(turn.clone()), bare);
    assert_eq!(Case::of(&[Quirk::WantsReasoningBack, Quirk::WantsExtraBack]).messages(turn.clone()), turn);
    assert_eq!(Case::of(&[Quirk::WantsReasoningBack]).messages(turn.clone())[0]["reasoning_content"], "r");
    assert_eq!(Case::of(&[Quirk::WantsExtraBack]).messages(turn)[0]["extra_content"], json!({"x": 1}));
}

#[test]
fn calls_without_arguments_have_an_empty_object() {
    let call = |arguments: &str| json!([{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}]);
    let case = Case::of(&[Quirk::WantsExtraBack, Quirk::WantsReasoningBack]);
    assert_eq!(case.messages(call("")), call("{}"));
    assert_eq!(case.messages(call("{\"a\":1}")), call("{\"a\":1}"));
}

#[test]
fn the_callers_bytes_stay_where_the_look_was_mistaken() {
    let body = br#"{"model":"m","messages":[ {"role":"user","content":"the word \"developer\" and \"arguments\":\"\""} ]}"#;
    let ask = Ask::chat(Bytes::from_static(body)).expect("ask");
    let scene = Scene {
        quirks: [Quirk::DeveloperToSystem].into_iter().collect(),
        stream: false,
        unsupported: Unsupported::Reject,
        efforts: &[],
        max_output: None,
    };
    let mut draft = Draft::new(&ask);
    apply(&mut draft, &scene).expect("applied");
    assert_eq!(draft.finish().0.as_ptr(), ask.body().as_ptr());
}

#[test]
fn content_is_text_or_refused() {
    let case = Case::of(&[Quirk::TextContent]);
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": null}]);
    let text = json!([{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": ""}]);
    assert_eq!(case.messages(parts), text);
    let image =
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}]);
    let fault = case.run(json!({"messages": image})).expect_err("image");
    assert_eq!(fault.get_param(), Some("messages[0].content[0]"));
}

#[test]
fn one_system_message_leads() {
    let case = Case::of(&[Quirk::OneSystemFirst]);
    let scattered = json!([{"role": "user", "content": "u"}, {"role": "system", "content": "a"},
        {"role": "system", "content": "b"}]);
    assert_eq!(
        case.messages(scattered),
        json!([{"role": "system", "content": "a\n\nb"}, {"role": "user", "content": "u"}])
    );
    let fine = json!([{"role": "system", "content": [{"type": "text", "text": "a"}]}, {"role": "user", "content": "u"}]);
    assert_eq!(case.messages(fine.clone()), fine);
}

#[test]
fn system_text_folds_into_the_first_user_message() {
    let case = Case::of(&[Quirk::SystemIntoUser]);
    let two = json!([{"role": "system", "content": "a"}, {"role": "system", "content": "b"},
        {"role": "user", "content": "u"}]);
    assert_eq!(case.messages(two), json!([{"role": "user", "content": "a\n\nb\n\nu"}]));
    let alone = json!([{"role": "system", "content": "a"}]);
    assert_eq!(case.messages(alone), json!([{"role": "user", "content": "a"}]));
    let parts = json!([{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "u"}]}]);
    assert_eq!(
        case.messages(parts),
        json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "u"}]}])
    );
}

#[test]
fn roles_alternate_but_calls_and_results_stay() {
    let case = Case::of(&[Quirk::AlternateRoles]);
    let turns = json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "x"}, {"role": "tool", "tool_call_id": "2", "content": "y"}]);
    let merged = case.messages(turns.clone());
    assert_eq!(merged.as_array().expect("list").len(), 5);
    assert_eq!(merged[0], json!({"role": "user", "content": "a\n\nb"}));
    assert_eq!(merged[2]["tool_calls"], turns[3]["tool_calls"]);
}

#[test]
fn messages_that_cannot_be_read_are_a_bad_request() {
    let body = br#"{"model":"m","messages":["\ud800 \"developer\""]}"#;
    let ask = Ask::chat(Bytes::from_static(body)).expect("scanned");
    let quirks = [Quirk::TextContent].into_iter().collect();
    let scene =
        Scene { quirks, stream: false, unsupported: Unsupported::Reject, efforts: &[], max_output: None };
    assert!(apply(&mut Draft::new(&ask), &scene).is_err());
}

#[test]
fn an_answer_sent_back_as_the_next_turn_brings_no_empty_fields_of_its_own() {
    let turns = json!([
        {"role": "assistant", "content": "a", "refusal": null, "annotations": [], "function_call": null},
        {"role": "assistant", "content": null, "refusal": "I won't"},
        {"role": "user", "content": "\"refusal\""},
    ]);
    let left = json!([
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "I won't"},
        {"role": "user", "content": "\"refusal\""},
    ]);
    assert_eq!(Case::of(&[Quirk::Normalise]).messages(turns.clone()), left);
    assert_eq!(Case::of(&[]).messages(turns.clone()), turns);
}
