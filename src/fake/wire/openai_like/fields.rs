//! An OpenAI-like request, field by field, the strict way: what the platform behind would refuse is refused here.

use serde_json::Value;

use super::messages;
use super::rows::{COMMON, Choices, Row, Style, lacks};
use crate::fake::brain::{Choice, Limit, Question, Role, Tool};
use crate::fake::fault::{Class, Refusal};
use crate::fake::wire::check::{self, Object, Range};

/// An unknown field.
pub fn unknown(name: &str) -> Refusal {
    Refusal::bad(format!("Unknown parameter: '{name}'.")).at(name).code("unknown_parameter")
}

/// A field that must be there.
pub fn missing(name: &str) -> Refusal {
    Refusal::bad(format!("Missing required parameter: '{name}'.")).at(name).code("missing_required_parameter")
}

fn invalid(name: &str, message: impl Into<String>) -> Refusal {
    Refusal::bad(message).at(name).code("invalid_value")
}

/// Reads the body of a chat request.
pub fn read(row: &Row, fields: &Object, path: &str) -> Result<Question, Refusal> {
    for name in fields.keys() {
        let name = name.as_str();
        let known = (COMMON.contains(&name) && !lacks(row.style, name)) || row.fields.contains(&name);
        if !known {
            return Err(unknown(name));
        }
    }
    let model =
        check::text(fields, "model")?.filter(|model| !model.is_empty()).ok_or_else(|| missing("model"))?;
    known_model(row, model, path)?;
    let mut question = Question { model: model.to_owned(), n: 1, ..Question::default() };
    tools(row, fields, &mut question)?;
    messages::read(row, fields, &mut question)?;
    numbers(row, fields, &mut question)?;
    question.reasoning = reasoning(row, fields, model)?;
    limits(row, fields, &mut question)?;
    stops(row, fields, &mut question)?;
    format(row, fields, &mut question)?;
    streaming(row, fields, &mut question)?;
    together(row, &question)?;
    Ok(question)
}

/// Whether the model's name can be right at all on this path.
fn known_model(row: &Row, model: &str, path: &str) -> Result<(), Refusal> {
    let good = match row.style {
        Style::Spark if path.starts_with("/v1/") => {
            matches!(
                model,
                "lite" | "generalv3" | "pro-128k" | "generalv3.5" | "max-32k" | "4.0Ultra" | "kjwx"
            )
        }
        Style::Spark if path.starts_with("/v2/") => matches!(model, "spark-x" | "x1"),
        Style::Spark => model.starts_with("spark-x"),
        Style::HuggingFace => return routed(model),
        _ => true,
    };
    match row.style {
        _ if good && !model.starts_with("no-such") => Ok(()),
        Style::Spark => Err(Refusal::bad(format!("invalid param model:{model}"))),
        _ => Err(Refusal::of(Class::NotEntitled)
            .saying(format!("The model `{model}` does not exist or you do not have access to it."))),
    }
}

/// Hugging Face: `org/name`, and a provider or a policy after the last colon.
fn routed(model: &str) -> Result<(), Refusal> {
    const WAYS: [&str; 21] = [
        "fastest",
        "cheapest",
        "preferred",
        "baseten",
        "cerebras",
        "cohere",
        "deepinfra",
        "fal-ai",
        "featherless-ai",
        "fireworks-ai",
        "groq",
        "hf-inference",
        "novita",
        "nscale",
        "ovhcloud",
        "publicai",
        "replicate",
        "scaleway",
        "together",
        "wavespeed",
        "zai-org",
    ];
    let (name, way) = model.rsplit_once(':').unwrap_or((model, "fastest"));
    if !WAYS.contains(&way) {
        return Err(Refusal::of(Class::NotEntitled)
            .code("")
            .saying(format!("Model not supported by provider {way}")));
    }
    if name.contains('/') && !name.starts_with("no-such") {
        return Ok(());
    }
    Err(Refusal::of(Class::NotEntitled)
        .saying(format!("The requested model '{model}' is not supported by any provider you have enabled.")))
}

/// OpenAI's reasoning models, which refuse sampling and `max_tokens`.
fn thinks_at_openai(model: &str) -> bool {
    model.starts_with("gpt-5")
        || (model.starts_with('o') && model.chars().nth(1).is_some_and(|next| next.is_ascii_digit()))
}

fn numbers(row: &Row, fields: &Object, question: &mut Question) -> Result<(), Refusal> {
    let temperature = match (row.style, question.model.as_str()) {
        (Style::Spark, "spark-x" | "x1") => Range::above(0.0, 2.0),
        _ => row.temperature,
    };
    let temperature = check::number(fields, "temperature", temperature)?;
    let top_p = check::number(fields, "top_p", row.top_p)?;
    check::number(fields, "presence_penalty", row.presence)?;
    check::number(fields, "frequency_penalty", row.frequency)?;
    check::number(fields, "penalty_score", Range::closed(1.0, 2.0))?;
    check::number(fields, "repetition_penalty", Range::above(0.0, 10.0))?;
    if row.style == Style::Spark {
        check::number(fields, "top_k", Range::closed(1.0, 6.0))?;
        if top_p.is_some() && !question.model.starts_with("spark-x") && question.model != "x1" {
            return Err(unknown("top_p"));
        }
    }
    if row.style == Style::OpenAi && thinks_at_openai(&question.model) {
        for (name, value) in [("temperature", temperature), ("top_p", top_p)] {
            if value.is_some_and(|value| value != 1.0) {
                return Err(Refusal::bad(format!(
                    "Unsupported value: '{name}' does not support {} with this model. Only the default (1) value is supported.",
                    value.unwrap_or_default()
                ))
                .at(name)
                .code("unsupported_value"));
            }
        }
    }
    check::count(fields, "seed")?;
    let n = check::count(fields, "n")?.unwrap_or(1);
    if n < 1 || n > row.n_max {
        return Err(invalid("n", format!("Invalid 'n': {n} is not in [1, {}].", row.n_max)));
    }
    question.n = usize::try_from(n).unwrap_or(1);
    if check::count(fields, "top_logprobs")?.is_some_and(|count| count > row.top_logprobs_max) {
        return Err(invalid(
            "top_logprobs",
            format!("Invalid 'top_logprobs': at most {}.", row.top_logprobs_max),
        ));
    }
    let top = check::count(fields, "top_logprobs")?.and_then(|top| usize::try_from(top).ok());
    question.logprobs = check::flag(fields, "logprobs")?.and_then(|on| on.then_some(top.unwrap_or(0)));
    if check::get(fields, "top_logprobs").is_some() && question.logprobs.is_none() {
        return Err(invalid(
            "top_logprobs",
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
        ));
    }
    Ok(())
}

fn limits(row: &Row, fields: &Object, question: &mut Question) -> Result<(), Refusal> {
    let answer = check::count(fields, "max_tokens")?;
    let all = check::count(fields, "max_completion_tokens")?;
    if row.style == Style::OpenAi && answer.is_some() && thinks_at_openai(&question.model) {
        return Err(Refusal::bad("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
            .at("max_tokens")
            .code("unsupported_parameter"));
    }
    if answer.is_some() && all.is_some() && matches!(row.style, Style::Doubao | Style::OpenAi) {
        return Err(invalid(
            "max_tokens",
            "max_tokens and max_completion_tokens cannot be set at the same time.",
        ));
    }
    let old_qwen = ["qwen-", "qwen3-", "qwq", "qvq"].iter().any(|old| question.model.starts_with(old));
    if row.style == Style::Qwen && all.is_some() && old_qwen {
        return Err(unknown("max_completion_tokens"));
    }
    let most = match (row.style, question.model.as_str()) {
        (Style::Spark, "lite" | "pro-128k") => 4096,
        (Style::Spark, "spark-x" | "x1") => 65_535,
        (Style::Spark, _) => 8192,
        _ => 1_000_000,
    };
    for (name, value) in [("max_tokens", answer), ("max_completion_tokens", all)] {
        if value.is_some_and(|value| value < 1 || value > most) {
            return Err(invalid(name, format!("Range of {name} should be [1, {most}]")));
        }
    }
    let answer_only = matches!(row.style, Style::Qwen | Style::Doubao);
    question.limit = match (all, answer) {
        (Some(tokens), _) => Some(Limit { tokens, covers_reasoning: true }),
        (None, Some(tokens)) => Some(Limit { tokens, covers_reasoning: !answer_only }),
        (None, None) => None,
    };
    Ok(())
}

/// Reads `stop`.
pub fn stops(row: &Row, fields: &Object, question: &mut Question) -> Result<(), Refusal> {
    question.stop = match check::get(fields, "stop") {
        None => Vec::new(),
        Some(Value::String(stop)) if row.style != Style::Zhipu => vec![stop.clone()],
        Some(Value::Array(stops)) if stops.len() <= row.stop_max => {
            let texts: Option<Vec<String>> =
                stops.iter().map(|stop| stop.as_str().map(str::to_owned)).collect();
            texts.ok_or_else(|| invalid("stop", "'stop' must be a string or a list of strings."))?
        }
        Some(_) => return Err(invalid("stop", format!("'stop' takes at most {} strings.", row.stop_max))),
    };
    Ok(())
}

/// Reads tools and what goes with them.
pub fn tools(row: &Row, fields: &Object, question: &mut Question) -> Result<(), Refusal> {
    question.parallel = check::flag(fields, "parallel_tool_calls")?.unwrap_or(row.parallel);
    for tool in check::list(fields, "tools")?.into_iter().flatten() {
        let tool = check::as_object(tool, "tools")?;
        match check::text(tool, "type")? {
            Some("function") => {}
            Some("web_search") if matches!(row.style, Style::Zhipu | Style::Spark) => continue,
            Some("retrieval" | "mcp") if row.style == Style::Zhipu => continue,
            _ => return Err(invalid("tools[0].type", "Invalid value for 'tools[0].type'.")),
        }
        check::only(tool, &["type", "function"], "tools[0]", unknown)?;
        let function = check::object(tool, "function")?.ok_or_else(|| missing("tools[0].function"))?;
        check::only(
            function,
            &["name", "description", "parameters", "strict"],
            "tools[0].function",
            unknown,
        )?;
        let name = check::text(function, "name")?.ok_or_else(|| missing("tools[0].function.name"))?;
        if !check::good_name(name, "_-") || (row.style == Style::Qwen && name == "search") {
            return Err(invalid(
                "tools[0].function.name",
                format!("Invalid 'tools[0].function.name': '{name}'."),
            ));
        }
        check::object(function, "parameters")?;
        let parameters = check::get(function, "parameters").cloned();
        question.tools.push(Tool { name: name.to_owned(), parameters });
    }
    let switch = check::flag(fields, "tool_calls_switch")?.unwrap_or(false);
    if row.style == Style::Spark {
        // V1 without the switch has room for one call only.
        question.calls_listed = switch || question.model.starts_with("spark-x") || question.model == "x1";
        question.parallel &= question.calls_listed;
    }
    if row.style == Style::Spark && !question.tools.is_empty() {
        let can = matches!(question.model.as_str(), "generalv3.5" | "4.0Ultra" | "x1")
            || question.model.starts_with("spark-x");
        if !can {
            return Err(Refusal::bad("tools is not supported by this model"));
        }
    }
    question.choice = match check::get(fields, "tool_choice") {
        None => Choice::Auto,
        Some(value) => choice(row, value, question)?,
    };
    Ok(())
}

fn choice(row: &Row, value: &Value, question: &Question) -> Result<Choice, Refusal> {
    let wrong = |words: &str| Refusal::bad(words).at("tool_choice").code("invalid_value");
    if question.tools.is_empty() && value.as_str() != Some("none") && row.style == Style::OpenAi {
        return Err(wrong("'tool_choice' is only allowed when 'tools' are specified."));
    }
    match value.as_str() {
        Some("auto") => return Ok(Choice::Auto),
        _ if row.choices == Choices::AutoOnly => return Err(wrong("tool_choice 仅支持 auto")),
        Some("none") => return Ok(Choice::None),
        Some("required") if row.choices == Choices::All => return Ok(Choice::Required),
        Some(_) => {
            return Err(wrong("tool_choice is one of the strings that should be [\"none\", \"auto\"]"));
        }
        None => {}
    }
    let forced = check::as_object(value, "tool_choice")?;
    let name = match (row.style, forced.get("name"), forced.get("function")) {
        // Flat in the newer version, as OpenAI has it in the older one.
        (Style::Spark, Some(name), None) if newer_spark(&question.model) => name.as_str(),
        (Style::Spark, ..) if newer_spark(&question.model) => None,
        (_, None, Some(function)) => function.get("name").and_then(Value::as_str),
        _ => None,
    };
    let name = name.filter(|_| forced.get("type") == Some(&Value::from("function")));
    let name = name.ok_or_else(|| wrong("Invalid value for 'tool_choice'."))?;
    if question.tools.iter().all(|tool| tool.name != name) {
        return Err(wrong(&format!("Tool choice '{name}' not found in 'tools' parameter.")));
    }
    Ok(Choice::Named(name.to_owned()))
}

fn newer_spark(model: &str) -> bool {
    model.starts_with("spark-x") || model == "x1"
}

/// Whether the model thinks, by request or by nature.
fn reasoning(row: &Row, fields: &Object, model: &str) -> Result<bool, Refusal> {
    let efforts = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    let effort = check::one_of(fields, "reasoning_effort", &efforts)?;
    let asked = effort.map(|effort| effort != "none");
    let switch = check::flag(fields, "enable_thinking")?;
    let thinking = match check::object(fields, "thinking")? {
        None => None,
        Some(thinking) => {
            check::one_of(thinking, "type", &["enabled", "disabled", "auto"])?.map(|kind| kind != "disabled")
        }
    };
    Ok(match row.style {
        Style::OpenAi if !thinks_at_openai(model) && effort.is_some() => {
            return Err(Refusal::bad(
                "Unsupported parameter: 'reasoning_effort' is not supported with this model.",
            )
            .at("reasoning_effort")
            .code("unsupported_parameter"));
        }
        Style::OpenAi => asked.unwrap_or(model.starts_with('o')),
        Style::Qwen => switch.or(asked).unwrap_or(model.starts_with("qwq") || model.starts_with("qvq")),
        Style::Zhipu => {
            if model.starts_with("glm-5.3")
                && effort.is_some_and(|effort| !["low", "high", "max"].contains(&effort))
            {
                return Err(invalid("reasoning_effort", "reasoning_effort 参数有误"));
            }
            let old = ["glm-4-", "glm-4v", "glm-4."].iter().any(|start| model.starts_with(start));
            let older =
                old && !["glm-4.5", "glm-4.6", "glm-4.7"].iter().any(|start| model.starts_with(start));
            let asked = effort.map(|effort| effort != "none" && effort != "minimal");
            thinking.or(asked).unwrap_or(!older && model.starts_with("glm-"))
        }
        Style::Doubao => {
            let asked = effort.map(|effort| effort != "none" && effort != "minimal");
            thinking.or(asked).unwrap_or(model.starts_with("doubao-seed") || model.contains("thinking"))
        }
        Style::Baidu => switch.or(thinking).unwrap_or(model.starts_with("ernie-x")),
        Style::Spark => {
            let able = model.starts_with("spark-x") || model == "x1";
            if thinking.is_some() && !able {
                return Err(unknown("thinking"));
            }
            able && thinking.unwrap_or(true)
        }
        Style::HuggingFace | Style::AiHubMix => asked.unwrap_or(false),
    })
}

/// Reads `response_format`.
pub fn format(row: &Row, fields: &Object, question: &mut Question) -> Result<(), Refusal> {
    let Some(format) = check::object(fields, "response_format")? else { return Ok(()) };
    let at = "response_format";
    match check::text(format, "type")? {
        Some("text") => {}
        Some("json_object") => {
            question.json = true;
            let mentioned = |text: &str| text.to_lowercase().contains("json");
            let said = mentioned(&question.system) || question.turns.iter().any(|turn| mentioned(&turn.text));
            if !said && matches!(row.style, Style::OpenAi | Style::Qwen) {
                return Err(Refusal::bad("'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.").at("messages"));
            }
        }
        Some("json_schema") if row.json_schema => {
            let wish = check::object(format, "json_schema")?
                .ok_or_else(|| missing("response_format.json_schema"))?;
            check::only(
                wish,
                &["name", "description", "schema", "strict"],
                "response_format.json_schema",
                unknown,
            )?;
            let name =
                check::text(wish, "name")?.ok_or_else(|| missing("response_format.json_schema.name"))?;
            if !check::good_name(name, "_-") {
                return Err(invalid("response_format.json_schema.name", "Invalid name."));
            }
            let schema = check::get(wish, "schema").cloned().unwrap_or_default();
            if row.style == Style::OpenAi && check::flag(wish, "strict")? == Some(true) {
                strict(&schema)?;
            }
            question.json = true;
            question.schema = Some(schema);
        }
        _ => return Err(invalid(at, "Invalid value for 'response_format.type'.")),
    }
    Ok(())
}

/// A strict schema closes its object and requires every property.
fn strict(schema: &Value) -> Result<(), Refusal> {
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    let required = schema.get("required").and_then(Value::as_array);
    let named =
        |name: &String| required.is_some_and(|all| all.iter().any(|known| known.as_str() == Some(name)));
    let all =
        schema.get("properties").and_then(Value::as_object).is_none_or(|fields| fields.keys().all(named));
    if closed && all {
        return Ok(());
    }
    Err(Refusal::bad("Invalid schema for response_format: 'additionalProperties' is required to be supplied and to be false, and 'required' must name every property.")
        .at("response_format"))
}

fn streaming(row: &Row, fields: &Object, question: &mut Question) -> Result<(), Refusal> {
    question.stream = check::flag(fields, "stream")?.unwrap_or(false);
    if let Some(options) = check::object(fields, "stream_options")? {
        let mut known = vec!["include_usage"];
        match row.style {
            Style::OpenAi | Style::AiHubMix => known.push("include_obfuscation"),
            Style::Doubao => known.push("chunk_include_usage"),
            _ => {}
        }
        check::only(options, &known, "stream_options", unknown)?;
        if !question.stream && row.style != Style::Zhipu {
            return Err(Refusal::bad(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            )
            .at("stream_options"));
        }
        question.usage = check::flag(options, "include_usage")?.unwrap_or(false);
    }
    Ok(())
}

/// Fields that may not meet.
fn together(row: &Row, question: &Question) -> Result<(), Refusal> {
    if row.style != Style::Qwen {
        return Ok(());
    }
    let only_streams = question.model.starts_with("qwq") || question.model.starts_with("qvq");
    if question.reasoning && !question.stream {
        let words = if only_streams {
            "This model only support stream mode, please enable the stream parameter to access the model."
        } else {
            "parameter.enable_thinking must be set to false for non-streaming calls"
        };
        return Err(Refusal::bad(words));
    }
    if question.reasoning && matches!(question.choice, Choice::Named(_)) {
        return Err(Refusal::bad(
            "The tool_choice parameter does not support being set to required or object in thinking mode",
        ));
    }
    if question.reasoning && question.json && question.schema.is_none() {
        return Err(Refusal::bad("Json mode response is not supported when enable_thinking is true"));
    }
    if question.n > 1
        && (!question.tools.is_empty() || question.reasoning || !question.model.starts_with("qwen3"))
    {
        return Err(invalid("n", "n must be 1 with tools, in thinking mode, or with this model"));
    }
    let images = question.turns.iter().any(|turn| turn.role == Role::User && turn.images > 0);
    let blind =
        ["qwen-max", "qwen-plus", "qwen-turbo", "qwen-flash", "qwen-long", "qwen3-max", "qwen3-coder", "qwq"];
    if images && blind.iter().any(|start| question.model.starts_with(start)) && !question.model.contains("vl")
    {
        return Err(Refusal::bad("InternalError.Algo.InvalidParameter: input content must be a string."));
    }
    Ok(())
}
