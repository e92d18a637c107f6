//! The one mind behind every wire. Why shared: the same conversation must get the same answer and the same token counts
//! on every platform, so that a test can put two platforms side by side and any difference is the gateway's.

use serde_json::{Map, Value, json};

use crate::fake::fault::{Directives, filler};

/// What was asked, freed of its dialect.
#[derive(Clone, Debug, Default)]
pub struct Question {
    pub model: String,
    pub system: String,
    pub turns: Vec<Turn>,
    pub tools: Vec<Tool>,
    pub choice: Choice,
    /// Whether several calls may come at once.
    pub parallel: bool,
    pub json: bool,
    pub schema: Option<Value>,
    /// Whether the model thinks before it answers.
    pub reasoning: bool,
    pub limit: Option<Limit>,
    pub stop: Vec<String>,
    pub n: usize,
    /// How many alternatives each token's probability comes with, where probabilities are wanted.
    pub logprobs: Option<usize>,
    pub stream: bool,
    /// Whether usage was asked for in a stream.
    pub usage: bool,
    /// Whether tool calls are told as a list (Spark must be asked to).
    pub calls_listed: bool,
    /// Whether a stream is one JSON array (Gemini without `alt=sse`).
    pub in_array: bool,
    /// Whether thinking is paid for and not shown.
    pub hide_thoughts: bool,
    /// Whether the answer is bare text and no message (DashScope).
    pub plain_text: bool,
    /// Whether every event of a stream repeats all that was said (DashScope).
    pub repeats: bool,
    /// Whether content is a list of parts in the answer too (DashScope's vision).
    pub listed_content: bool,
}

/// The longest answer, in tokens.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub tokens: u64,
    /// Whether thinking counts against it.
    pub covers_reasoning: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
    Tool,
}

/// One turn of the conversation. Text of several parts is joined by a space.
#[derive(Clone, Debug)]
pub struct Turn {
    pub role: Role,
    pub text: String,
    pub images: u64,
    pub calls: Vec<Call>,
    /// For a tool's result: the call that it answers, by id or (where the wire has no ids) by name.
    pub answers: Option<String>,
}

impl Turn {
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self { role, text: text.into(), images: 0, calls: Vec::new(), answers: None }
    }
}

#[derive(Clone, Debug)]
pub struct Call {
    pub id: String,
    pub name: String,
    pub arguments: Map<String, Value>,
}

#[derive(Clone, Debug)]
pub struct Tool {
    pub name: String,
    pub parameters: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    #[default]
    Auto,
    None,
    Required,
    Named(String),
}

/// What the mind says.
#[derive(Clone, Debug)]
pub struct Answer {
    pub reasoning: String,
    pub text: String,
    pub calls: Vec<Call>,
    pub finish: Finish,
    /// Answers of the same words, for `n` above 1.
    pub copies: usize,
    pub tokens: Tokens,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    Stop,
    /// Stopped by this stop sequence.
    StopSequence(String),
    Length,
    Calls,
    Filtered,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    pub prompt: u64,
    /// Thinking included.
    pub completion: u64,
    pub reasoning: u64,
}

impl Tokens {
    pub fn total(&self) -> u64 {
        self.prompt + self.completion
    }
}

/// Tokens of an image.
const IMAGE_TOKENS: u64 = 85;
const THOUGHT: &str = "Let me think about this first.";
const CITIES: [&str; 20] = [
    "Oslo",
    "Rome",
    "Paris",
    "Berlin",
    "Madrid",
    "London",
    "Tokyo",
    "Beijing",
    "Shanghai",
    "Cairo",
    "Lima",
    "Delhi",
    "Vienna",
    "Prague",
    "Dublin",
    "Athens",
    "Lisbon",
    "Warsaw",
    "Helsinki",
    "Stockholm",
];

/// Tokens of a text: runs of letters and digits. Spaces and punctuation weigh nothing, so that it does not matter how a
/// dialect joins texts or prints JSON.
pub fn words(text: &str) -> u64 {
    let mut count = 0;
    let mut inside = false;
    for symbol in text.chars() {
        let part = symbol.is_alphanumeric();
        if part && !inside {
            count += 1;
        }
        inside = part;
    }
    count
}

/// Splits a text into pieces of one token each; punctuation and spaces stay with the word before.
pub fn pieces(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let mut start = 0;
    let mut seen = false;
    let mut inside = false;
    for (at, symbol) in text.char_indices() {
        let part = symbol.is_alphanumeric();
        if part && !inside && seen {
            all.extend(text.get(start..at));
            start = at;
        }
        seen |= part;
        inside = part;
    }
    if start < text.len() {
        all.extend(text.get(start..));
    }
    all
}

fn json_words(value: &Value) -> u64 {
    match value {
        Value::String(text) => words(text),
        Value::Array(items) => items.iter().map(json_words).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| words(name) + json_words(value)).sum(),
        other => words(&other.to_string()),
    }
}

fn call_words(call: &Call) -> u64 {
    words(&call.name)
        + call.arguments.iter().map(|(name, value)| words(name) + json_words(value)).sum::<u64>()
}

/// Tokens of the question. The same for every dialect: neither turns nor joints weigh anything.
pub fn prompt_tokens(question: &Question) -> u64 {
    let turns = question.turns.iter().map(|turn| {
        words(&turn.text) + turn.images * IMAGE_TOKENS + turn.calls.iter().map(call_words).sum::<u64>()
    });
    let tools = question.tools.iter().map(|tool| words(&tool.name) + properties(tool).count() as u64);
    words(&question.system) + turns.sum::<u64>() + tools.sum::<u64>()
}

fn properties(tool: &Tool) -> impl Iterator<Item = (&String, &Value)> {
    tool.parameters
        .as_ref()
        .and_then(|schema| schema.get("properties"))
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

/// The text of the caller's last turn: all user turns in a row, as some dialects join them.
pub fn last_words(question: &Question) -> (String, u64) {
    let users = question.turns.iter().rev().skip_while(|turn| turn.role != Role::User);
    let mut run: Vec<&Turn> = users.take_while(|turn| turn.role == Role::User).collect();
    run.reverse();
    let text: Vec<&str> = run.iter().flat_map(|turn| turn.text.split_whitespace()).collect();
    (text.join(" "), run.iter().map(|turn| turn.images).sum())
}

/// Thinks. `said` is the caller's last text without directives, `images` the images beside it.
pub fn think(question: &Question, said: &str, images: u64, asked: &Directives) -> Answer {
    let mut answer = Answer {
        reasoning: if question.reasoning { THOUGHT.to_owned() } else { String::new() },
        text: String::new(),
        calls: calls(question, said, asked),
        finish: Finish::Calls,
        copies: question.n.max(1),
        tokens: Tokens::default(),
    };
    if answer.calls.is_empty() {
        answer.finish = Finish::Stop;
        answer.text = text(question, said, images, asked);
        stop_at(question, &mut answer);
    }
    if asked.filtered {
        answer.finish = Finish::Filtered;
        answer.calls.clear();
    }
    cut(question, &mut answer);
    let reasoning = words(&answer.reasoning);
    let spoken = words(&answer.text) + answer.calls.iter().map(call_words).sum::<u64>();
    let copies = answer.copies as u64;
    answer.tokens = Tokens {
        prompt: prompt_tokens(question),
        completion: (reasoning + spoken) * copies,
        reasoning: reasoning * copies,
    };
    answer
}

fn text(question: &Question, said: &str, images: u64, asked: &Directives) -> String {
    if let Some(count) = asked.words {
        return filler(count);
    }
    let results = results(question);
    let plain = if !results.is_empty() {
        results.join(" ")
    } else if images > 0 {
        format!("I see {images} image(s).")
    } else if said.is_empty() {
        "You said nothing.".to_owned()
    } else {
        format!("You said: {said}")
    };
    match &question.schema {
        Some(schema) => sample(schema, &plain, 0).to_string(),
        None if question.json => json!({ "answer": plain }).to_string(),
        None => plain,
    }
}

/// One sentence per tool result that ends the conversation.
fn results(question: &Question) -> Vec<String> {
    let ended = question.turns.iter().rev().take_while(|turn| turn.role == Role::Tool);
    let mut said: Vec<String> = ended
        .map(|turn| {
            let about = turn.answers.as_deref().unwrap_or_default();
            let calls = question.turns.iter().rev().flat_map(|turn| turn.calls.iter());
            let call = calls
                .clone()
                .find(|call| call.id == about)
                .or_else(|| calls.clone().find(|call| call.name == about));
            let place = call.and_then(|call| call.arguments.get("city")).and_then(Value::as_str);
            let place = place.or_else(|| call.map(|call| call.name.as_str())).unwrap_or(about);
            format!("It is {} in {place}.", turn.text.trim())
        })
        .collect();
    said.reverse();
    said
}

/// The calls to make: one for each city named, where the weather is asked for or a call is demanded.
fn calls(question: &Question, said: &str, asked: &Directives) -> Vec<Call> {
    let tool = match &question.choice {
        Choice::None => None,
        Choice::Named(name) => question.tools.iter().find(|tool| &tool.name == name),
        Choice::Auto | Choice::Required => question
            .tools
            .iter()
            .find(|tool| tool.name.contains("weather") && said.to_lowercase().contains("weather"))
            .or_else(|| question.tools.first()),
    };
    let Some(tool) = tool else { return Vec::new() };
    let answered = question.turns.last().is_some_and(|turn| turn.role == Role::Tool);
    let demanded = matches!(question.choice, Choice::Required | Choice::Named(_));
    let wanted = said.to_lowercase().contains("weather") || demanded || asked.big_tool.is_some();
    if answered || !wanted {
        return Vec::new();
    }
    let mut cities: Vec<&str> =
        said.split(|symbol: char| !symbol.is_alphanumeric()).filter(|word| CITIES.contains(word)).collect();
    if cities.is_empty() {
        cities.push("Oslo");
    }
    if !question.parallel || properties(tool).next().is_none() {
        cities.truncate(1);
    }
    let calls = cities.iter().enumerate().map(|(index, city)| Call {
        id: format!("{}{index}", crate::ids::random_name("", 12)),
        name: tool.name.clone(),
        arguments: arguments(tool, city, asked.big_tool),
    });
    calls.collect()
}

fn arguments(tool: &Tool, city: &str, big: Option<usize>) -> Map<String, Value> {
    let required =
        tool.parameters.as_ref().and_then(|schema| schema.get("required")).and_then(Value::as_array);
    let needed = |name: &str| {
        name == "city" || required.is_none_or(|names| names.iter().any(|known| known.as_str() == Some(name)))
    };
    let mut arguments: Map<String, Value> = properties(tool)
        .filter(|(name, _)| needed(name))
        .map(|(name, schema)| (name.clone(), sample(schema, city, 0)))
        .collect();
    if let Some(bytes) = big {
        arguments.insert("blob".to_owned(), Value::String("x".repeat(bytes)));
    }
    arguments
}

/// A value that fits `schema`; `text` is what strings say.
fn sample(schema: &Value, text: &str, depth: u8) -> Value {
    if depth > 16 {
        return Value::Null;
    }
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|values| values.first()) {
        return first.clone();
    }
    let kind = schema.get("type").map(|kind| match kind {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap_or_default().to_lowercase(),
        other => other.as_str().unwrap_or_default().to_lowercase(),
    });
    match kind.as_deref() {
        Some("integer") => json!(1),
        Some("number") => json!(1.5),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        Some("array") => match schema.get("items") {
            Some(items) => json!([sample(items, text, depth + 1)]),
            None => json!([]),
        },
        Some("object") | None if schema.get("properties").is_some() || kind.is_some() => {
            let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            Value::Object(
                fields.map(|(name, inner)| (name.clone(), sample(inner, text, depth + 1))).collect(),
            )
        }
        _ => json!(text),
    }
}

fn stop_at(question: &Question, answer: &mut Answer) {
    let found = question.stop.iter().filter(|stop| !stop.is_empty());
    let first = found.filter_map(|stop| answer.text.find(stop.as_str()).map(|at| (at, stop))).min();
    if let Some((at, stop)) = first {
        answer.text.truncate(at);
        answer.finish = Finish::StopSequence(stop.clone());
    }
}

/// Cuts the answer to its limit.
fn cut(question: &Question, answer: &mut Answer) {
    let Some(limit) = question.limit else { return };
    let mut left = limit.tokens;
    if limit.covers_reasoning {
        left = shorten(&mut answer.reasoning, left, &mut answer.finish);
    }
    let calls: u64 = answer.calls.iter().map(call_words).sum();
    if calls > left {
        answer.calls.clear();
        answer.finish = Finish::Length;
    }
    shorten(&mut answer.text, left, &mut answer.finish);
}

/// Cuts `text` to `limit` tokens; what is left of the limit comes back.
fn shorten(text: &mut String, limit: u64, finish: &mut Finish) -> u64 {
    let all = words(text);
    if all <= limit {
        return limit - all;
    }
    let kept =
        pieces(text).iter().take(usize::try_from(limit).unwrap_or(usize::MAX)).map(|piece| piece.len()).sum();
    text.truncate(kept);
    text.truncate(text.trim_end().len());
    *finish = Finish::Length;
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Question {
        Question { turns: vec![Turn::new(Role::User, text)], parallel: true, n: 1, ..Question::default() }
    }

    fn reply(question: &Question) -> Answer {
        let (text, images) = last_words(question);
        let mut asked = Directives::default();
        let said = asked.take(&text);
        think(question, &said, images, &asked)
    }

    #[test]
    fn pieces_are_tokens_and_lose_nothing() {
        for text in ["", "  a", "You said: Hello, world!", "ä ö, ü", "...", "a  b "] {
            let all = pieces(text);
            assert_eq!(all.concat(), text);
            assert_eq!(all.len().max(1) as u64, words(text).max(1), "{text:?}");
        }
    }

    #[test]
    fn counts_do_not_depend_on_how_texts_are_joined() {
        let mut joined = ask("a b\n\nc");
        joined.system = "x y".into();
        let mut apart = ask("a b");
        apart.turns.push(Turn::new(Role::User, "c"));
        apart.system = "x\ny".into();
        assert_eq!(prompt_tokens(&joined), prompt_tokens(&apart));
        assert_eq!(reply(&joined).text, reply(&apart).text);
    }

    #[test]
    fn the_weather_of_two_cities_is_two_calls_and_one_when_parallel_is_off() {
        let mut question = ask("What is the weather in Oslo and Rome?");
        let parameters = json!({"type":"object","properties":{"city":{"type":"string"}},"required":["city"]});
        question.tools = vec![Tool { name: "get_weather".into(), parameters: Some(parameters) }];
        let answer = reply(&question);
        assert_eq!(answer.calls.len(), 2);
        assert_eq!(answer.calls[1].arguments, *json!({"city":"Rome"}).as_object().unwrap());
        assert_eq!((answer.finish, answer.text.as_str()), (Finish::Calls, ""));
        question.parallel = false;
        assert_eq!(reply(&question).calls.len(), 1);
        question.choice = Choice::None;
        assert_eq!(reply(&question).finish, Finish::Stop);
    }

    #[test]
    fn results_are_told_with_their_cities() {
        let mut question = ask("weather in Oslo and Rome");
        let mut called = Turn::new(Role::Assistant, "");
        for (id, city) in [("1", "Oslo"), ("2", "Rome")] {
            let arguments = json!({ "city": city }).as_object().unwrap().clone();
            called.calls.push(Call { id: id.into(), name: "get_weather".into(), arguments });
        }
        question.turns.push(called);
        for (id, text) in [("1", "12C"), ("2", "20C")] {
            question.turns.push(Turn { answers: Some(id.into()), ..Turn::new(Role::Tool, text) });
        }
        assert_eq!(reply(&question).text, "It is 12C in Oslo. It is 20C in Rome.");
    }

    #[test]
    fn limits_cut_and_stops_stop() {
        let mut question = ask("one two three");
        question.limit = Some(Limit { tokens: 3, covers_reasoning: true });
        let answer = reply(&question);
        assert_eq!((answer.text.as_str(), &answer.finish), ("You said: one", &Finish::Length));
        assert_eq!(answer.tokens.completion, 3);
        question.limit = None;
        question.stop = vec!["two".into()];
        assert_eq!(reply(&question).text, "You said: one ");
        assert_eq!(reply(&question).finish, Finish::StopSequence("two".into()));
    }

    #[test]
    fn a_schema_is_filled() {
        let mut question = ask("x");
        question.schema =
            Some(json!({"type":"object","properties":{"a":{"type":"STRING"},"b":{"type":"integer"},
            "c":{"type":"array","items":{"type":"boolean"}},"d":{"enum":["p","q"]}}}));
        let value: Value = serde_json::from_str(&reply(&question).text).unwrap();
        assert_eq!(value, json!({"a":"You said: x","b":1,"c":[true],"d":"p"}));
    }
}
