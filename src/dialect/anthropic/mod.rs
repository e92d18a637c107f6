//! Anthropic's Messages API. Why a wire of its own although Anthropic offers an OpenAI-like one: that one is documented as
//! not for production, and loses what counts here (cache figures, signed thinking, structured output).
//!
//! Signed thinking goes outward as `extra_content.anthropic.thinking_blocks` and comes back from there, or from what was
//! kept under the tool calls' ids where the caller's client dropped it ([`Recall`](super::Recall)).

mod decode;
mod encode;
mod turns;

pub use decode::Decoder;
pub use encode::encode;

/// Where our callers see what only Anthropic knows: `extra_content.anthropic`.
const VENDOR: &str = "anthropic";

/// The signed thinking within it.
const BLOCKS: &str = "thinking_blocks";
