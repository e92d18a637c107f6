//! Thinking, which every vendor switches in its own way. OpenAI's word for it is `reasoning_effort`; a vendor's own field,
//! where the caller sends it, always wins.

use serde_json::json;

use super::Scene;
use crate::api::scan;
use crate::dialect::{Quirk, Quirks};
use crate::platform::rules::Draft;

/// OpenAI's levels, from least to most.
const LEVELS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// Translates `reasoning_effort` as the model wants it.
pub fn apply<'a>(draft: &mut Draft<'a>, scene: &Scene<'a>) {
    effort(draft, scene);
    let is_silent = draft.get("enable_thinking").is_none();
    if scene.quirks.has(Quirk::NoThinkingUnlessStream) && !scene.stream && is_silent {
        draft.set("enable_thinking", &false);
    }
}

/// Whether the caller wants a model to think that does so only where told.
pub fn is_wanted(draft: &Draft<'_>, quirks: Quirks) -> bool {
    match draft.get("enable_thinking").and_then(scan::as_bool) {
        Some(said) => said,
        None => {
            quirks.has(Quirk::QwenThinking)
                && draft.text("reasoning_effort").is_some_and(|level| !is_off(&level))
        }
    }
}

fn is_off(level: &str) -> bool {
    matches!(level, "none" | "minimal")
}

fn effort<'a>(draft: &mut Draft<'a>, scene: &Scene<'a>) {
    let Some(level) = draft.text("reasoning_effort").map(std::borrow::Cow::into_owned) else {
        return;
    };
    let has_switch = scene.quirks.has(Quirk::ThinkingSwitch);
    if scene.quirks.has(Quirk::QwenThinking) {
        qwen(draft, scene, &level);
    } else if scene.efforts.is_empty() {
        if has_switch {
            switch(draft, !is_off(&level));
        }
    } else if !scene.efforts.contains(&level) {
        match nearest(scene.efforts, &level) {
            _ if has_switch && is_off(&level) => switch(draft, false),
            Some(near) => draft.set("reasoning_effort", near),
            None => {}
        }
    }
}

/// Qwen: a flag and a budget in tokens.
fn qwen(draft: &mut Draft<'_>, scene: &Scene<'_>, level: &str) {
    let is_on = !is_off(level);
    if is_on && scene.quirks.has(Quirk::NoThinkingUnlessStream) && !scene.stream {
        draft.drop_named("reasoning_effort");
        return;
    }
    draft.remove("reasoning_effort");
    if draft.get("enable_thinking").is_some() {
        return;
    }
    draft.set("enable_thinking", &is_on);
    let budget = match level {
        "low" => 1024,
        "medium" => 8192,
        // Above that the model's own bound holds.
        _ => return,
    };
    if draft.get("thinking_budget").is_none() {
        draft.set("thinking_budget", &budget);
    }
}

/// `thinking: {"type": …}`, in place of a level.
fn switch(draft: &mut Draft<'_>, is_on: bool) {
    draft.remove("reasoning_effort");
    if draft.get("thinking").is_none() {
        draft.set("thinking", &json!({"type": if is_on { "enabled" } else { "disabled" }}));
    }
}

/// The level among `taken` that lies nearest to `level`; the higher of two equally near. `None` where it is no level of
/// OpenAI's: then the platform shall judge it.
fn nearest<'a>(taken: &'a [String], level: &str) -> Option<&'a str> {
    let rank = |name: &str| LEVELS.iter().position(|level| *level == name);
    let wanted = rank(level)?;
    taken
        .iter()
        .filter_map(|name| rank(name).map(|rank| (name.as_str(), rank)))
        .min_by_key(|(_, rank)| (rank.abs_diff(wanted), *rank < wanted))
        .map(|(name, _)| name)
}
