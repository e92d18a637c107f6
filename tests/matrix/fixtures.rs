//! What the folders hold, and the table of what they must hold: a platform or a case without its files is a failure, and
//! so is a file that nobody asked for.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};
use weir::api::ask::Ask;
use weir::fault::Fault;
use weir::platform::profile::{Platform, Row};

use crate::stage::{Reply, Stage};

/// How a case of something that a platform can do is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Whole,
    Stream,
    Both,
}

/// What a platform can do.
pub const FEATURES: &[(&str, Form)] = &[
    ("plain", Form::Whole),
    ("stream", Form::Stream),
    ("tools", Form::Both),
    ("parallel_tools", Form::Both),
    ("vision", Form::Whole),
    ("reasoning", Form::Both),
    ("structured_output", Form::Whole),
];

/// What a platform can refuse, by the verdict that it deserves.
pub const REFUSALS: &[&str] = &[
    "rate_limited",
    "quota_exhausted",
    "token_expired",
    "auth_invalid",
    "not_entitled",
    "overloaded",
    "bad_request",
    "content_filtered",
    "context_too_long",
];

/// A platform, its usual model, and cases with a model of their own.
type Listed = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The ten platforms and the older wires of three of them, each with its usual model and the models of particular cases.
#[rustfmt::skip]
pub const PLATFORMS: &[Listed] = &[
    ("openai", "gpt-5.4", &[("vision", "gpt-4o"), ("structured_output", "gpt-4.1")]),
    ("aihubmix", "claude-opus-5-5", &[("tools", "gemini-3.8-flash"), ("parallel_tools", "gemini-3.8-flash"), ("vision", "gpt-4o"), ("structured_output", "gpt-4.1")]),
    ("claude", "claude-sonnet-4-5", &[("reasoning", "claude-opus-5-5")]),
    ("gemini", "gemini-2.5-flash", &[("parallel_tools", "gemini-3.8-flash"), ("reasoning", "gemini-3.8-flash")]),
    ("qwen", "qwen-plus", &[("vision", "qwen3-vl-plus"), ("reasoning", "qwen3.8-max")]),
    ("dashscope", "qwen-plus", &[("vision", "qwen3-vl-plus")]),
    ("baidu", "ernie-5.1", &[("vision", "ernie-4.5-turbo-vl"), ("reasoning", "ernie-x1.1")]),
    ("baidu-v1", "ERNIE-4.0-8K", &[]),
    ("zhipu", "glm-4.6", &[("vision", "glm-4.6v"), ("reasoning", "glm-5.3")]),
    ("spark", "generalv3.5", &[("reasoning", "spark-x")]),
    ("spark-ws", "generalv3.5", &[("reasoning", "spark-x")]),
    ("doubao", "doubao-seed-2-1-pro-260915", &[]),
    ("huggingface", "deepseek-ai/DeepSeek-V4-Pro", &[("stream", "deepseek-ai/DeepSeek-V4-Pro:novita"), ("vision", "Qwen/Qwen3-VL-8B-Instruct")]),
];

/// What a platform cannot do: the request is refused, with a golden of the refusal and no answer.
pub const CANNOT: &[(&str, &str)] =
    &[("baidu-v1", "vision"), ("spark", "vision"), ("spark-ws", "vision"), ("spark-ws", "structured_output")];

/// Where a refusal's verdict is another than its folder says, and why.
#[rustfmt::skip]
pub const ANOTHER_VERDICT: &[(&str, &str, &str, &str)] = &[
    ("openai", "token_expired", "auth_invalid", "an expired token has no sign of its own"),
    ("aihubmix", "token_expired", "auth_invalid", "keys do not expire, they are deleted"),
    ("baidu", "token_expired", "auth_invalid", "an expired bearer has no sign of its own"),
    ("doubao", "token_expired", "auth_invalid", "a temporary key that has ended has no sign of its own"),
    ("spark", "token_expired", "auth_invalid", "passwords do not expire; a wrong one is told in two ways"),
    ("spark-ws", "token_expired", "overloaded", "a signature that is too old means that our clock is off"),
];

/// One case of one platform.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub platform: &'static str,
    pub name: &'static str,
    /// `None`: a refusal.
    pub form: Option<Form>,
}

/// One answer of a case.
pub struct Answer {
    /// What stands between `answer` and the ending: empty, or the name of a variant.
    pub variant: String,
    /// Whether it is the answer to a request for a stream.
    pub is_stream: bool,
    pub reply: Reply,
}

/// Every case that must exist.
pub fn cases() -> impl Iterator<Item = Case> {
    PLATFORMS.iter().flat_map(|(platform, ..)| {
        let features = FEATURES.iter().map(|(name, form)| (*name, Some(*form)));
        let refusals = REFUSALS.iter().map(|name| (*name, None));
        features.chain(refusals).map(|(name, form)| Case { platform, name, form })
    })
}

/// The folder of all platforms.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/platforms")
}

impl Case {
    pub fn folder(self) -> PathBuf {
        root().join(self.platform).join(self.name)
    }

    /// For messages.
    pub fn title(self) -> String {
        format!("{}/{}", self.platform, self.name)
    }

    pub fn is_refused_by_us(self) -> bool {
        CANNOT.contains(&(self.platform, self.name))
    }

    /// The platform's own name of the model.
    pub fn model(self) -> &'static str {
        let (_, usual, particular) =
            PLATFORMS.iter().find(|(name, ..)| *name == self.platform).expect("a platform");
        particular.iter().find(|(case, _)| *case == self.name).map_or(*usual, |(_, model)| *model)
    }

    pub fn stage(self) -> Stage {
        let row = Row::built_in(self.platform).expect("readable").expect("built in");
        Stage::new(Platform::compile(row).expect("compiled"), self.model())
    }

    /// The verdict that a refusal deserves.
    pub fn verdict(self) -> &'static str {
        let other = ANOTHER_VERDICT
            .iter()
            .find(|(platform, name, ..)| (*platform, *name) == (self.platform, self.name));
        other.map_or(self.name, |(_, _, verdict, _)| *verdict)
    }

    /// What the caller sends; with or without `stream`, whatever the file says.
    pub fn ask(self, stream: bool, include_usage: bool) -> Result<Ask, Fault> {
        Ask::chat(Bytes::from(self.ask_json(stream, include_usage).to_string()))
    }

    pub fn ask_json(self, stream: bool, include_usage: bool) -> Value {
        let name = if self.form.is_none() { "plain" } else { self.name };
        let text = std::fs::read(root().join("_asks").join(format!("{name}.json"))).expect("an ask");
        let mut ask: Value = serde_json::from_slice(&text).expect("JSON");
        let fields = ask.as_object_mut().expect("an object");
        fields.shift_remove("stream");
        fields.shift_remove("stream_options");
        if stream {
            fields.insert("stream".to_owned(), json!(true));
        }
        if stream && include_usage {
            fields.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
        ask
    }

    /// The answers in the folder, in order of their names.
    pub fn answers(self) -> Vec<Answer> {
        let mut found = Vec::new();
        for name in self.files() {
            let Some(middle) =
                name.strip_prefix("answer").and_then(|rest| rest.strip_suffix(".http")).map(str::to_owned)
            else {
                continue;
            };
            let reply = Reply::parse(&std::fs::read(self.folder().join(&name)).expect("a file"));
            let (variant, is_stream) = match middle.strip_suffix(".stream") {
                Some(variant) => (variant, true),
                None => (middle.as_str(), false),
            };
            let variant = variant.trim_start_matches('.').to_owned();
            found.push(Answer { variant, is_stream, reply });
        }
        found
    }

    /// The names of the files in the folder; none where there is no folder.
    pub fn files(self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder()) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}
