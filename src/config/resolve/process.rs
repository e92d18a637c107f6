//! Listeners, store, vault: what the process itself needs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::super::field::Field;
use super::super::raw::{Admin, Raw};
use super::super::report::{Position, Problems};
use super::super::{Listen, Openness, StoreUrl, TlsFiles};
use super::accounts::Ids;
use crate::redis_link::Address;
use crate::secret::Secret;
use crate::vault::MasterKey;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PUBLIC: SocketAddr = SocketAddr::new(LOOPBACK, 8080);
const ADMIN: SocketAddr = SocketAddr::new(LOOPBACK, 9090);

/// The public listener.
pub(super) fn listen(raw: &Raw, problems: &Problems) -> Listen {
    let tls = raw.tls.placed().and_then(|(tls, at)| {
        for (name, field) in [("cert", &tls.cert), ("key", &tls.key)] {
            if field.is_absent() {
                problems.add_with(
                    at,
                    format!("`{name}` is missing"),
                    "TLS needs `cert` and `key`, both PEM files",
                );
            }
        }
        Some(TlsFiles { cert: tls.cert.get()?.into(), key: tls.key.get()?.into() })
    });
    Listen { address: address(&raw.listen, PUBLIC, problems), tls }
}

/// The operators' listener.
pub(super) fn admin_listen(raw: &Raw, problems: &Problems) -> SocketAddr {
    let admin = address(&raw.admin_listen, ADMIN, problems);
    // Whatever was wrong with `listen` is reported where it is read.
    let public = raw.listen.get().and_then(|typed| parsed(typed)).unwrap_or(PUBLIC);
    if admin == public && admin.port() != 0 {
        let at = if raw.admin_listen.is_absent() { &raw.listen } else { &raw.admin_listen };
        problems.add(at.at(Position::default()), "`listen` and `admin_listen` are the same address");
    }
    admin
}

/// Who reads the metrics. Left out, a listener that only this machine reaches shows them to whoever asks, as a Prometheus
/// beside it expects; one that a network reaches does not: they tell which platforms and routes there are, and how busy.
pub(super) fn metrics(raw: &Raw, listen: SocketAddr) -> Openness {
    let default = if listen.ip().is_loopback() { Openness::Open } else { Openness::Operators };
    raw.admin.get().unwrap_or(&Admin::default()).metrics.or(default)
}

fn parsed(typed: &str) -> Option<SocketAddr> {
    match typed.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::new(LOOPBACK, port.parse().ok()?)),
        None => typed.parse().ok(),
    }
}

fn address(field: &Field<String>, default: SocketAddr, problems: &Problems) -> SocketAddr {
    let Some((typed, at)) = field.placed() else { return default };
    parsed(typed).unwrap_or_else(|| {
        let port = typed.trim_start_matches(':').parse::<u16>().unwrap_or(default.port());
        problems.add_with(
            at,
            "not an address to listen on",
            format!(
                "write `127.0.0.1:{port}` for this machine alone, `0.0.0.0:{port}` or `[::]:{port}` for all"
            ),
        );
        default
    })
}

/// Where records are kept.
pub(super) fn store(field: &Field<Secret>, problems: &Problems) -> StoreUrl {
    const FORM: &str = "write `embedded:./weir-data`, `redis://host:6379` or `memory`";
    let default = StoreUrl::Embedded(PathBuf::from("./weir-data"));
    let Some((url, at)) = field.placed() else { return default };
    let typed = url.expose();
    match typed.split_once(':') {
        None if typed == "memory" => StoreUrl::Memory,
        Some(("embedded", "")) => {
            problems.add_with(at, "no folder is named", FORM);
            default
        }
        Some(("embedded", folder)) => StoreUrl::Embedded(PathBuf::from(folder)),
        Some(("redis" | "rediss" | "redis-sentinel" | "redis-cluster", _)) => match Address::parse(url) {
            Ok(address) => StoreUrl::Redis(address),
            Err(problem) => {
                problems.add(at, problem);
                default
            }
        },
        _ => {
            problems.add_with(at, "not a store", FORM);
            default
        }
    }
}

/// Keys of encryption at rest.
pub(super) fn vault(raw: &Raw, problems: &Problems) -> Vec<MasterKey> {
    let Some((vault, _)) = raw.vault.placed() else { return Vec::new() };
    let mut ids = Ids::default();
    let keys = vault.keys.get().into_iter().flatten().filter_map(Field::placed);
    keys.filter_map(|(entry, at)| {
        let id = ids.take("id", &entry.id, at, problems);
        if entry.key.is_absent() {
            problems.add(at, "`key` is missing");
        }
        let (key, at) = entry.key.placed()?;
        let key = bytes(key.expose());
        if key.is_none() {
            problems.add_with(
                at,
                "not 32 bytes in base64 or hexadecimal",
                "make one with `openssl rand -base64 32`",
            );
        }
        Some(MasterKey { id: id?.to_owned(), key: key? })
    })
    .collect()
}

/// 32 bytes from base64 (either alphabet, padded or not) or hexadecimal.
fn bytes(typed: &str) -> Option<Zeroizing<[u8; 32]>> {
    let typed = typed.trim();
    if typed.len() == 64 && typed.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        let mut key = Zeroizing::new([0; 32]);
        for (byte, pair) in key.iter_mut().zip(typed.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        return Some(key);
    }
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().find_map(|alphabet| {
        let decoded = Zeroizing::new(alphabet.decode(typed).ok()?);
        Some(Zeroizing::new(<[u8; 32]>::try_from(decoded.as_slice()).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_key_is_32_bytes_however_written() {
        let key = [0xfb; 32];
        let hex = "fb".repeat(32);
        for typed in [
            STANDARD.encode(key),
            STANDARD_NO_PAD.encode(key),
            URL_SAFE.encode(key),
            hex.clone(),
            format!("{hex}\n"),
        ] {
            assert_eq!(bytes(&typed).map(|key| *key), Some(key), "{typed}");
        }
        for bad in
            ["", "short", &STANDARD.encode([1; 31]), &"zz".repeat(32), &"+f".repeat(32), &"é".repeat(32)]
        {
            assert!(bytes(bad).is_none(), "{bad}");
        }
    }
}
