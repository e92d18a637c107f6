//! What all signatures are made of.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

pub use crate::opaque::hex;

/// HMAC-SHA256.
pub fn hmac_sha256(key: &[u8], data: &[u8]) -> Vec<u8> {
    // A key of any length is taken, so the error cannot come; were it to, an empty signature is refused by the platform.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

/// SHA-256 as lower-case hex.
pub fn sha256_hex(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub fn percent(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// The wall clock in UTC, written as `format` says (strftime).
pub fn utc(wall_millis: u64, format: &str) -> String {
    let millis = i64::try_from(wall_millis).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).unwrap_or_default().strftime(format).to_string()
}
