//! The `dashscope` wire. (To be written.)

use super::{Ending, Failure, Quirks};
use crate::api::piece::Sink;
use crate::sse::Event;

/// Reads this wire's answers.
#[derive(Debug)]
pub struct Decoder {}

impl Decoder {
    /// A decoder for one answer.
    pub fn new(_quirks: Quirks) -> Self {
        Self {}
    }

    /// See [`super::Decoder::push`].
    pub fn push(&mut self, _event: Event<'_>, _sink: &mut dyn Sink) -> Result<(), Failure> {
        Err(Failure::Malformed("not written".into()))
    }

    /// See [`super::Decoder::is_done`].
    pub fn is_done(&self) -> bool {
        false
    }

    /// See [`super::Decoder::finish`].
    pub fn finish(&mut self, _sink: &mut dyn Sink) -> Ending {
        Ending::Cut
    }

    /// See [`super::Decoder::whole`].
    pub fn whole(&mut self, _body: &[u8], _sink: &mut dyn Sink) -> Result<(), Failure> {
        Err(Failure::Malformed("not written".into()))
    }
}

/// Writes a chat request for this wire.
///
/// # Errors
/// A bad request, or an unsupported parameter where the job says to reject.
pub fn encode(
    _request: &crate::api::chat::ChatRequest,
    _job: &super::Job<'_>,
) -> Result<super::Encoded, crate::fault::Fault> {
    Err(crate::fault::Fault::gateway(crate::fault::Kind::Internal, "not written"))
}
