//! The envelope of `/api/v1/oauth`: `{"code", "message", "data"}`, of answers and of errors alike.

use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::shape::Shape;
use crate::fault::Fault;

/// A fault in the envelope.
pub(super) struct Enveloped(pub Fault);

impl IntoResponse for Enveloped {
    fn into_response(self) -> Response {
        Shape::Envelope.answer(&self.0)
    }
}

/// A whole answer, which is JSON, in the envelope.
pub fn wrapped(answer: &[u8]) -> Vec<u8> {
    [br#"{"code":200,"message":"success","data":"#, answer, b"}"].concat()
}

pub(super) fn success(data: &Value) -> Response {
    axum::Json(json!({"code": 200, "message": "success", "data": data})).into_response()
}

/// A page of a list: what follows begins after `next`.
pub(super) fn page(data: &[Value], next: Option<&str>) -> Response {
    axum::Json(json!({"code": 200, "message": "success", "data": data, "next": next})).into_response()
}
