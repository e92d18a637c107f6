//! Named liberties that platforms take with OpenAI's wire, in code: everything with an `if`. Why here and not in the rows: a
//! condition in a data file is a program without a compiler. [`fields`] changes single fields of the draft, [`messages`]
//! the messages, which are parsed only where a quirk of this request needs it.

use crate::api::ask::Ask;
use crate::dialect::{Quirk, Quirks, Unsupported};
use crate::fault::Fault;
use crate::platform::rules::Draft;

mod fields;
mod messages;
mod thinking;

/// What quirks have to know besides the draft.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    pub quirks: Quirks,
    /// Whether the platform is asked for a stream.
    pub stream: bool,
    pub unsupported: Unsupported,
    /// Levels of `reasoning_effort` that the model takes; empty where its row does not say.
    pub efforts: &'a [String],
    /// The model's bound on an answer, in tokens.
    pub max_output: Option<u64>,
}

/// Applies every quirk of the scene to a chat request of OpenAI's shape.
///
/// # Errors
/// A bad request, or an unsupported parameter where the scene says to reject.
pub fn apply<'a>(draft: &mut Draft<'a>, scene: &Scene<'a>) -> Result<(), Fault> {
    fields::token_bound(draft, scene);
    fields::sampling(draft, scene)?;
    fields::tools(draft, scene)?;
    fields::stop(draft, scene)?;
    fields::user(draft, scene.quirks);
    thinking::apply(draft, scene);
    let instruction = fields::schema(draft, scene.quirks)?;
    messages::apply(draft, scene.quirks, instruction)?;
    fields::stream(draft, scene);
    Ok(())
}

/// Whether `ask` can only be answered by a stream on a model with these quirks: because the model has nothing else, or
/// because it thinks only in streams and the caller wants it to think.
pub fn must_stream(ask: &Ask, quirks: Quirks) -> bool {
    quirks.has(Quirk::StreamOnly)
        || (quirks.has(Quirk::NoThinkingUnlessStream) && thinking::is_wanted(&Draft::new(ask), quirks))
}

#[cfg(test)]
mod tests;
