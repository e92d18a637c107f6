//! What each OpenAI-like platform takes and how it talks. Why a table: eight platforms share one wire, and the facts
//! about their differences are easier to check against the vendors' pages in rows than in code.

use crate::fake::wire::check::Range;

/// How a platform words its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    OpenAi,
    Qwen,
    Zhipu,
    Doubao,
    Baidu,
    Spark,
    HuggingFace,
    AiHubMix,
}

/// Which tool choices a platform takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choices {
    All,
    /// `auto`, `none`, a named function.
    NotRequired,
    AutoOnly,
}

/// One platform.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    /// Its base path, below its name, for `weir.yaml`.
    pub base: &'static str,
    pub style: Style,
    /// What a key begins with; empty where keys have no mark.
    pub key_prefix: &'static str,
    /// Top-level fields beside [`COMMON`].
    pub fields: &'static [&'static str],
    pub temperature: Range,
    pub top_p: Range,
    pub presence: Range,
    pub frequency: Range,
    pub n_max: u64,
    pub stop_max: usize,
    pub top_logprobs_max: u64,
    pub choices: Choices,
    pub developer: bool,
    /// Whether content may be a list of parts.
    pub parts: bool,
    /// Whether assistant turns may bring `reasoning_content` back.
    pub reasoning_back: bool,
    pub parallel: bool,
    pub json_schema: bool,
    pub embeds: bool,
    pub models: &'static [&'static str],
}

/// Fields that every platform takes.
pub const COMMON: [&str; 9] = [
    "model",
    "messages",
    "stream",
    "temperature",
    "max_tokens",
    "tools",
    "tool_choice",
    "response_format",
    "user",
];

const OPENAI_FIELDS: &[&str] = &[
    "max_completion_tokens",
    "top_p",
    "n",
    "stream_options",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "seed",
    "parallel_tool_calls",
    "reasoning_effort",
    "verbosity",
    "modalities",
    "audio",
    "prediction",
    "service_tier",
    "store",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "web_search_options",
    "moderation",
];

const BASE: Row = Row {
    name: "openai",
    base: "/v1",
    style: Style::OpenAi,
    key_prefix: "sk-",
    fields: OPENAI_FIELDS,
    temperature: Range::closed(0.0, 2.0),
    top_p: Range::closed(0.0, 1.0),
    presence: Range::closed(-2.0, 2.0),
    frequency: Range::closed(-2.0, 2.0),
    n_max: 128,
    stop_max: 4,
    top_logprobs_max: 20,
    choices: Choices::All,
    developer: true,
    parts: true,
    reasoning_back: false,
    parallel: true,
    json_schema: true,
    embeds: true,
    models: &["gpt-5.4", "gpt-4o", "gpt-4o-mini", "o4-mini", "text-embedding-3-small"],
};

/// The eight.
pub static ROWS: [Row; 8] = [
    BASE,
    Row {
        name: "qwen",
        base: "/compatible-mode/v1",
        style: Style::Qwen,
        fields: &[
            "max_completion_tokens",
            "top_p",
            "n",
            "stream_options",
            "stop",
            "presence_penalty",
            "repetition_penalty",
            "logprobs",
            "top_logprobs",
            "seed",
            "parallel_tool_calls",
            "reasoning_effort",
            "enable_thinking",
            "thinking_budget",
            "preserve_thinking",
            "enable_search",
            "search_options",
            "top_k",
            "enable_code_interpreter",
            "vl_high_resolution_images",
            "modalities",
            "audio",
            "tool_stream",
        ],
        temperature: Range::below(0.0, 2.0),
        top_p: Range::above(0.0, 1.0),
        n_max: 4,
        stop_max: 16,
        top_logprobs_max: 5,
        choices: Choices::NotRequired,
        developer: false,
        reasoning_back: true,
        parallel: false,
        models: &[
            "qwen3.8-max",
            "qwen3.8-flash",
            "qwen3-max",
            "qwen-plus",
            "qwen-max",
            "qwq-plus",
            "text-embedding-v4",
        ],
        ..BASE
    },
    Row {
        name: "zhipu",
        base: "/api/paas/v4",
        style: Style::Zhipu,
        key_prefix: "",
        fields: &[
            "top_p",
            "stream_options",
            "stop",
            "seed",
            "tool_stream",
            "thinking",
            "reasoning_effort",
            "user_id",
            "request_id",
            "do_sample",
            "sensitive_word_check",
            "meta",
        ],
        temperature: Range::closed(0.0, 1.0),
        top_p: Range::closed(0.01, 1.0),
        n_max: 1,
        stop_max: 1,
        choices: Choices::AutoOnly,
        developer: false,
        reasoning_back: true,
        json_schema: false,
        models: &["glm-5.3", "glm-5.2", "glm-4.7-flash", "glm-4-flash-250414", "glm-4.5v", "embedding-3"],
        ..BASE
    },
    Row {
        name: "doubao",
        base: "/api/v3",
        style: Style::Doubao,
        key_prefix: "",
        fields: &[
            "max_completion_tokens",
            "top_p",
            "frequency_penalty",
            "presence_penalty",
            "stop",
            "logprobs",
            "top_logprobs",
            "logit_bias",
            "parallel_tool_calls",
            "stream_options",
            "thinking",
            "reasoning_effort",
            "service_tier",
        ],
        n_max: 1,
        developer: false,
        reasoning_back: true,
        models: &["doubao-seed-2-1-pro-260915", "doubao-seed-2-1-lite-260915", "doubao-1-5-pro-32k-250115"],
        ..BASE
    },
    Row {
        name: "baidu",
        base: "/v2",
        style: Style::Baidu,
        key_prefix: "bce-v3/",
        fields: &[
            "max_completion_tokens",
            "top_p",
            "penalty_score",
            "frequency_penalty",
            "presence_penalty",
            "seed",
            "stop",
            "parallel_tool_calls",
            "stream_options",
            "web_search",
            "enable_thinking",
            "thinking",
            "thinking_budget",
        ],
        temperature: Range::above(0.0, 1.0),
        n_max: 1,
        developer: false,
        reasoning_back: true,
        models: &["ernie-5.1", "ernie-x1.1", "deepseek-v4-pro", "embedding-v1"],
        ..BASE
    },
    Row {
        name: "spark",
        base: "/v1",
        style: Style::Spark,
        key_prefix: "",
        fields: &[
            "top_k",
            "top_p",
            "presence_penalty",
            "frequency_penalty",
            "tool_calls_switch",
            "suppress_plugin",
            "keep_alive",
            "thinking",
        ],
        temperature: Range::above(0.0, 1.0),
        top_p: Range::above(0.0, 1.0),
        n_max: 1,
        developer: false,
        parts: false,
        json_schema: false,
        embeds: false,
        models: &["lite", "generalv3", "pro-128k", "generalv3.5", "max-32k", "4.0Ultra", "spark-x"],
        ..BASE
    },
    Row {
        name: "huggingface",
        style: Style::HuggingFace,
        key_prefix: "hf_",
        fields: &[
            "top_p",
            "frequency_penalty",
            "presence_penalty",
            "logprobs",
            "top_logprobs",
            "reasoning_effort",
            "seed",
            "stop",
            "stream_options",
            "tool_prompt",
        ],
        n_max: 1,
        top_logprobs_max: 5,
        developer: false,
        reasoning_back: true,
        embeds: false,
        models: &["deepseek-ai/DeepSeek-V4-Pro", "meta-llama/Llama-3.3-70B-Instruct", "openai/gpt-oss-120b"],
        ..BASE
    },
    Row {
        name: "aihubmix",
        style: Style::AiHubMix,
        reasoning_back: true,
        models: &["gpt-5.4", "claude-sonnet-4-5", "gemini-2.5-flash", "gpt-4o-mini-free"],
        ..BASE
    },
];

/// Fields of [`COMMON`] that a platform does not take after all.
pub fn lacks(style: Style, field: &str) -> bool {
    match field {
        "user" => matches!(style, Style::Zhipu | Style::Doubao | Style::Qwen | Style::HuggingFace),
        _ => false,
    }
}
