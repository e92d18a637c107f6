//! Spark's WebSocket: the URL is signed, and the application's id stands in the frame.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Outgoing, sign, unusable};
use crate::clock::Clock;
use crate::fault::Fault;
use crate::secret::Secret;

/// Signs the URL of the upgrade and names the application in the frame (`header.app_id`).
pub fn sign(
    app_id: &str,
    api_key: &Secret,
    api_secret: &Secret,
    request: &mut Outgoing<'_>,
    clock: &Clock,
) -> Result<(), Fault> {
    let date = sign::utc(clock.wall_millis(), "%a, %d %b %Y %H:%M:%S GMT");
    let path = request.path.split('?').next().unwrap_or_default().to_owned();
    let authorization = authorization(api_key, api_secret, request.host, &path, &date);
    *request.path = format!(
        "{path}?authorization={}&date={}&host={}",
        sign::percent(&authorization),
        sign::percent(&date),
        sign::percent(request.host)
    );
    let mut frame: Value =
        serde_json::from_slice(request.body).map_err(|_| unusable("the frame to be signed is not JSON"))?;
    let Some(frame_object) = frame.as_object_mut() else {
        return Err(unusable("the frame to be signed is not an object"));
    };
    match frame_object.get_mut("header").and_then(Value::as_object_mut) {
        Some(header) => drop(header.insert("app_id".to_owned(), json!(app_id))),
        None => drop(frame_object.insert("header".to_owned(), json!({"app_id": app_id}))),
    }
    *request.body = frame.to_string().into();
    Ok(())
}

/// The query parameter `authorization`, before percent-encoding.
pub fn authorization(api_key: &Secret, api_secret: &Secret, host: &str, path: &str, date: &str) -> String {
    let signature = signature(api_secret, host, path, date);
    STANDARD.encode(format!(
        "api_key=\"{}\", algorithm=\"hmac-sha256\", headers=\"host date request-line\", signature=\"{signature}\"",
        api_key.expose()
    ))
}

/// The signature of one upgrade. The request is always a GET: that is what a WebSocket begins with.
pub fn signature(api_secret: &Secret, host: &str, path: &str, date: &str) -> String {
    let text = format!("host: {host}\ndate: {date}\nGET {path} HTTP/1.1");
    STANDARD.encode(sign::hmac_sha256(api_secret.expose().as_bytes(), text.as_bytes()))
}
