//! A generateContent request, the strict way: proto JSON, where an unknown name is an error.

use serde_json::Value;

use super::parts::contents;
use super::{schema, thinks};
use crate::fake::brain::{Choice, Limit, Question, Tool};
use crate::fake::fault::Refusal;
use crate::fake::wire::check::{self, Object, Range};

/// An unknown name, in Google's words.
pub fn unknown(at: &str) -> impl Fn(&str) -> Refusal + '_ {
    move |name| {
        let name = name.rsplit('.').next().unwrap_or(name);
        Refusal::bad(format!(
            "Invalid JSON payload received. Unknown name \"{name}\" at '{at}': Cannot find field."
        ))
    }
}

/// A request that is wrong.
pub fn bad(message: impl Into<String>) -> Refusal {
    Refusal::bad(message)
}

/// Names of several words, wherever they stand.
const SPELT_TWICE: [&str; 40] = [
    "systemInstruction",
    "toolConfig",
    "safetySettings",
    "generationConfig",
    "cachedContent",
    "serviceTier",
    "continuationToken",
    "candidateCount",
    "stopSequences",
    "maxOutputTokens",
    "topP",
    "topK",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "responseModalities",
    "mediaResolution",
    "thinkingConfig",
    "speechConfig",
    "imageConfig",
    "thinkingBudget",
    "thinkingLevel",
    "includeThoughts",
    "functionDeclarations",
    "googleSearch",
    "codeExecution",
    "urlContext",
    "functionCallingConfig",
    "allowedFunctionNames",
    "parametersJsonSchema",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "thoughtSignature",
    "mimeType",
    "videoMetadata",
];

/// Proto JSON takes both spellings; from here on there is one.
pub fn camel(fields: &Object) -> Object {
    let rename = |name: &String| {
        let mut words = name.split('_');
        let first = words.next().unwrap_or_default().to_owned();
        words.fold(first, |mut all, word| {
            let mut letters = word.chars();
            all.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
            all.push_str(letters.as_str());
            all
        })
    };
    let known = |name: &String| Some(rename(name)).filter(|renamed| SPELT_TWICE.contains(&renamed.as_str()));
    fields.iter().map(|(name, value)| (known(name).unwrap_or_else(|| name.clone()), value.clone())).collect()
}

/// Reads the body.
pub fn question(fields: &Object, model: &str, key: &str) -> Result<Question, Refusal> {
    let fields = camel(fields);
    let known = [
        "contents",
        "systemInstruction",
        "tools",
        "toolConfig",
        "safetySettings",
        "generationConfig",
        "cachedContent",
        "serviceTier",
        "labels",
        "store",
        "continuationToken",
        "model",
    ];
    check::only(&fields, &known, "", unknown(""))?;
    let mut question =
        Question { model: model.to_owned(), n: 1, parallel: true, usage: true, ..Question::default() };
    if let Some(system) = check::object(&fields, "systemInstruction")? {
        check::only(system, &["parts", "role"], "", unknown("system_instruction"))?;
        for part in check::list(system, "parts")?.into_iter().flatten() {
            let text = part.get("text").and_then(Value::as_str);
            question
                .system
                .push_str(text.ok_or_else(|| bad("system_instruction: only text parts are supported"))?);
            question.system.push('\n');
        }
    }
    tools(&fields, &mut question)?;
    if let Some(config) = check::object(&fields, "generationConfig")? {
        generation(&camel(config), &mut question)?;
    }
    safety(&fields)?;
    contents(&fields, &mut question, key)?;
    Ok(question)
}

fn safety(fields: &Object) -> Result<(), Refusal> {
    let mut seen: Vec<&str> = Vec::new();
    for setting in check::list(fields, "safetySettings")?.into_iter().flatten() {
        let setting = check::as_object(setting, "safety_settings")?;
        let category = check::text(setting, "category")?.unwrap_or_default();
        let known =
            ["HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT", "CIVIC_INTEGRITY"];
        if !category.strip_prefix("HARM_CATEGORY_").is_some_and(|name| known.contains(&name)) {
            return Err(bad(format!("Invalid value at 'safety_settings[0].category': \"{category}\"")));
        }
        if seen.contains(&category) {
            return Err(bad("Duplicate safety settings category"));
        }
        seen.push(category);
    }
    Ok(())
}

const GENERATION: [&str; 20] = [
    "candidateCount",
    "stopSequences",
    "maxOutputTokens",
    "temperature",
    "topP",
    "topK",
    "seed",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "responseModalities",
    "mediaResolution",
    "thinkingConfig",
    "speechConfig",
    "imageConfig",
    "enableEnhancedCivicAnswers",
];

fn generation(config: &Object, question: &mut Question) -> Result<(), Refusal> {
    check::only(config, &GENERATION, "", unknown("generation_config"))?;
    check::number(config, "temperature", Range::closed(0.0, 2.0)).map_err(|_| bad("* GenerateContentRequest.generation_config.temperature: temperature must be in the range [0.0, 2.0]."))?;
    check::number(config, "topP", Range::closed(0.0, 1.0))?;
    check::number(config, "presencePenalty", Range::below(-2.0, 2.0))?;
    check::number(config, "frequencyPenalty", Range::below(-2.0, 2.0))?;
    match check::count(config, "candidateCount")?.unwrap_or(1) {
        1 => {}
        count @ 2..=8 if question.model.starts_with("gemini-2.0") => {
            question.n = usize::try_from(count).unwrap_or(1)
        }
        _ => return Err(bad("Multiple candidates is not enabled for this model")),
    }
    if let Some(limit) = check::count(config, "maxOutputTokens")? {
        if limit == 0 {
            return Err(bad(
                "* GenerateContentRequest.generation_config.max_output_tokens: must be positive",
            ));
        }
        question.limit = Some(Limit { tokens: limit, covers_reasoning: true });
    }
    let stops = check::list(config, "stopSequences")?.map(Vec::as_slice).unwrap_or_default();
    if stops.len() > 5 {
        return Err(bad(
            "* GenerateContentRequest.generation_config.stop_sequences: at most 5 are supported",
        ));
    }
    for stop in stops {
        question.stop.push(
            stop.as_str()
                .ok_or_else(|| bad("Invalid value at 'generation_config.stop_sequences'"))?
                .to_owned(),
        );
    }
    formats(config, question)?;
    thinking(config, question)
}

fn formats(config: &Object, question: &mut Question) -> Result<(), Refusal> {
    let kind = check::one_of(config, "responseMimeType", &["text/plain", "application/json", "text/x.enum"])?;
    question.json = kind == Some("application/json");
    let (old, new) = (check::get(config, "responseSchema"), check::get(config, "responseJsonSchema"));
    if old.is_some() && new.is_some() {
        return Err(bad("Only one of response_schema and response_json_schema may be set"));
    }
    if (old.is_some() || new.is_some()) && !question.json {
        return Err(bad(
            "* GenerateContentRequest.generation_config.response_mime_type: Function calling or response schema needs response mime type: 'application/json'",
        ));
    }
    if let Some(old) = old {
        schema::subset(old, "generation_config.response_schema", 0)?;
    }
    if let Some(new) = new {
        schema::json_schema(new, "generation_config.response_json_schema")?;
    }
    question.schema = old.or(new).cloned();
    if question.json && !question.tools.is_empty() && !question.model.starts_with("gemini-3") {
        return Err(bad("Function calling with a response mime type: 'application/json' is unsupported"));
    }
    Ok(())
}

fn thinking(config: &Object, question: &mut Question) -> Result<(), Refusal> {
    let Some(thinking) = check::object(config, "thinkingConfig")? else { return Ok(()) };
    let thinking = camel(thinking);
    check::only(
        &thinking,
        &["thinkingBudget", "thinkingLevel", "includeThoughts"],
        "",
        unknown("generation_config.thinking_config"),
    )?;
    let budget = check::get(&thinking, "thinkingBudget")
        .map(|budget| budget.as_i64().ok_or_else(|| bad("Invalid value at 'thinking_budget'")))
        .transpose()?;
    let level = check::one_of(&thinking, "thinkingLevel", &["MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"])?;
    if budget.is_some() && level.is_some() {
        return Err(bad("You can only set only one of thinking budget and thinking level."));
    }
    let on = budget.is_some_and(|budget| budget != 0) || level.is_some_and(|level| level != "MINIMAL");
    if (budget.is_some() || level.is_some()) && !thinks(&question.model) {
        return Err(bad("Thinking is not enabled for this model"));
    }
    if level.is_some() && question.model.starts_with("gemini-2.5") {
        return Err(bad("Thinking level is not supported for this model."));
    }
    if budget == Some(0) && question.model.contains("pro") {
        return Err(bad("Budget 0 is invalid. This model only works in thinking mode."));
    }
    question.hide_thoughts = !check::flag(&thinking, "includeThoughts")?.unwrap_or(false);
    question.reasoning =
        on || (!question.hide_thoughts && budget.is_none() && level.is_none() && thinks(&question.model));
    Ok(())
}

fn tools(fields: &Object, question: &mut Question) -> Result<(), Refusal> {
    let tools = check::list(fields, "tools")?.map(Vec::as_slice).unwrap_or_default();
    for tool in tools {
        let tool = camel(check::as_object(tool, "tools")?);
        let known =
            ["functionDeclarations", "googleSearch", "codeExecution", "urlContext", "googleSearchRetrieval"];
        check::only(&tool, &known, "", unknown("tools[0]"))?;
        for declared in check::list(&tool, "functionDeclarations")?.into_iter().flatten() {
            declare(&camel(check::as_object(declared, "function_declarations")?), question)?;
        }
    }
    let Some(config) = check::object(fields, "toolConfig")? else { return Ok(()) };
    let config = camel(config);
    check::only(&config, &["functionCallingConfig", "retrievalConfig"], "", unknown("tool_config"))?;
    let Some(calling) = check::object(&config, "functionCallingConfig")? else { return Ok(()) };
    let calling = camel(calling);
    check::only(
        &calling,
        &["mode", "allowedFunctionNames"],
        "",
        unknown("tool_config.function_calling_config"),
    )?;
    let mode = check::one_of(&calling, "mode", &["AUTO", "ANY", "NONE", "VALIDATED"])?.unwrap_or("AUTO");
    let allowed = check::list(&calling, "allowedFunctionNames")?.map(Vec::as_slice).unwrap_or_default();
    if !allowed.is_empty() && !matches!(mode, "ANY" | "VALIDATED") {
        return Err(bad(
            "allowed_function_names is only supported for function calling mode ANY or VALIDATED.",
        ));
    }
    let named = allowed.first().and_then(Value::as_str);
    if named.is_some_and(|name| question.tools.iter().all(|tool| tool.name != name)) {
        return Err(bad("allowed_function_names must be a subset of the declared functions"));
    }
    if mode == "ANY" && question.tools.is_empty() {
        return Err(bad("Function calling config is set without function_declarations."));
    }
    question.choice = match (mode, named) {
        ("NONE", _) => Choice::None,
        ("ANY", Some(name)) => Choice::Named(name.to_owned()),
        ("ANY", None) => Choice::Required,
        _ => Choice::Auto,
    };
    Ok(())
}

fn declare(declared: &Object, question: &mut Question) -> Result<(), Refusal> {
    let at = format!("tools[0].function_declarations[{}]", question.tools.len());
    let known = [
        "name",
        "description",
        "parameters",
        "parametersJsonSchema",
        "response",
        "responseJsonSchema",
        "behavior",
    ];
    check::only(declared, &known, "", unknown(&at))?;
    let name = check::text(declared, "name")?.unwrap_or_default();
    let starts = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    if !check::good_name(name, "_:.-") || !starts {
        return Err(bad(format!(
            "* GenerateContentRequest.{at}.name: Invalid function name. Must start with a letter or an underscore. Must be alphanumeric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 64."
        )));
    }
    let (old, new) = (check::get(declared, "parameters"), check::get(declared, "parametersJsonSchema"));
    if old.is_some() && new.is_some() {
        return Err(bad(format!("{at}: only one of parameters and parameters_json_schema may be set")));
    }
    if let Some(old) = old {
        schema::subset(old, &format!("{at}.parameters"), 0)?;
    }
    if let Some(new) = new {
        schema::json_schema(new, &format!("{at}.parameters_json_schema"))?;
    }
    if question.tools.iter().any(|tool| tool.name == name) {
        return Err(bad(format!("Duplicate function declaration found: {name}")));
    }
    question.tools.push(Tool { name: name.to_owned(), parameters: old.or(new).cloned() });
    Ok(())
}
