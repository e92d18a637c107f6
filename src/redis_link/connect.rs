//! A connection to whoever takes writes: made with the files that TLS needs, and for a ward of Sentinels to the server that
//! they name now. Why all Sentinels are asked at once: one that is gone must not hold up the others, and one that was cut off
//! still names the master of yesterday; the latest election counts.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind,
    RedisConnectionInfo, RedisResult, TlsCertificates, Value,
};
use rustls::CertificateError;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::address::TlsFiles;
use super::{ANSWER, Address, CONNECT, Line, LinkError, Shape};

/// A Sentinel that has not answered after so long is not heard.
const HEARING: Duration = Duration::from_millis(300);

/// Once most have answered, for the others: whoever led the election knows of it a second before they do.
const REST: Duration = Duration::from_millis(60);

/// For the server that Sentinels name: it may be the one that has just gone silent.
const WARD: Duration = Duration::from_millis(300);

/// Connects.
pub(super) async fn connect(address: &Address, answer: Duration) -> RedisResult<Line> {
    let infos = address.infos()?;
    let certificates = read(&address.files)?;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(answer));
    match &address.shape {
        Shape::One => {
            let info = infos.into_iter().next().ok_or((ErrorKind::InvalidClientConfig, "no address"))?;
            let config = config.set_connection_timeout(Some(CONNECT));
            let client = client(info, certificates.as_ref())?;
            Ok(Line::One(client.get_multiplexed_async_connection_with_config(&config).await?))
        }
        Shape::Sentinel { master } => {
            let info = find_master(&infos, master, certificates.as_ref()).await?;
            let config = config.set_connection_timeout(Some(WARD));
            let client = client(info, certificates.as_ref())?;
            let mut line = Line::One(client.get_multiplexed_async_connection_with_config(&config).await?);
            if is_master(&line.ask(&redis::cmd("ROLE")).await?) {
                return Ok(line);
            }
            Err((ErrorKind::Io, "the server that the Sentinels name takes no writes (yet)").into())
        }
        Shape::Cluster => {
            let mut client = ClusterClient::builder(infos)
                .connection_timeout(CONNECT)
                .response_timeout(ANSWER)
                .overall_response_timeout(Some(ANSWER))
                .retries(3);
            if let Some(certificates) = certificates {
                client = client.certs(certificates);
            }
            Ok(Line::Many(client.build()?.get_async_connection().await?))
        }
    }
}

fn is_master(role: &Value) -> bool {
    matches!(role, Value::Array(parts) if matches!(parts.first(), Some(Value::BulkString(word)) if word == b"master"))
}

fn client(info: ConnectionInfo, certificates: Option<&TlsCertificates>) -> RedisResult<Client> {
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates.clone()),
        None => Client::open(info),
    }
}

/// What the files hold; `None` where there are none, and the system's authorities are trusted.
fn read(files: &TlsFiles) -> RedisResult<Option<TlsCertificates>> {
    if *files == TlsFiles::default() {
        return Ok(None);
    }
    let bytes = |file: &Path| {
        std::fs::read(file).map_err(|error| {
            let detail = format!("{} ({error})", file.display());
            redis::RedisError::from((ErrorKind::InvalidClientConfig, "a file for TLS cannot be read", detail))
        })
    };
    let root_cert = files.authority.as_deref().map(bytes).transpose()?;
    if root_cert.as_ref().is_some_and(|pem| CertificateDer::pem_slice_iter(pem).next().is_none()) {
        return Err((ErrorKind::InvalidClientConfig, "the file of `ca` holds no certificate").into());
    }
    let client_tls = match &files.ours {
        Some((cert, key)) => Some(ClientTlsConfig { client_cert: bytes(cert)?, client_key: bytes(key)? }),
        None => None,
    };
    Ok(Some(TlsCertificates { client_tls, root_cert }))
}

/// Where the master of the latest election is, and how to log in there.
async fn find_master(
    sentinels: &[ConnectionInfo],
    name: &str,
    certificates: Option<&TlsCertificates>,
) -> RedisResult<ConnectionInfo> {
    let mut asked: FuturesUnordered<_> =
        sentinels.iter().map(|sentinel| ask_sentinel(sentinel, name, certificates)).collect();
    let mut latest: Option<(u64, ConnectionInfo)> = None;
    let (mut why, mut patience, mut heard) = (None, HEARING, 0);
    while let Ok(Some(answer)) = tokio::time::timeout(patience, asked.next()).await {
        match answer {
            Ok((election, info)) => {
                heard += 1;
                if heard * 2 > sentinels.len() {
                    patience = REST;
                }
                if latest.as_ref().is_none_or(|(known, _)| election > *known) {
                    latest = Some((election, info));
                }
            }
            Err(error) => why = Some(error),
        }
    }
    let none = || why.unwrap_or_else(|| (ErrorKind::InvalidClientConfig, "no Sentinel is named").into());
    latest.map(|(_, info)| info).ok_or_else(none)
}

/// What one Sentinel says: when the master was elected (a number that grows), and how it is reached.
async fn ask_sentinel(
    sentinel: &ConnectionInfo,
    name: &str,
    certificates: Option<&TlsCertificates>,
) -> RedisResult<(u64, ConnectionInfo)> {
    let work = async {
        let login = sentinel.redis_settings();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(HEARING))
            .set_response_timeout(Some(HEARING));
        // A Sentinel has no databases, and often no password.
        let open = client(sentinel.clone().set_redis_settings(RedisConnectionInfo::default()), certificates)?;
        let mut line = open.get_multiplexed_async_connection_with_config(&config).await?;
        let told = match tell_of(name, &mut line).await {
            Err(error) if error.code() == Some("NOAUTH") && login.password().is_some() => {
                let mut question = redis::cmd("AUTH");
                question.arg(login.username()).arg(login.password()).query_async::<()>(&mut line).await?;
                tell_of(name, &mut line).await?
            }
            told => told?,
        };
        let (Some((host, port)), about) = told else {
            return Err((ErrorKind::Io, "a Sentinel knows no master of that name").into());
        };
        let address = match sentinel.addr() {
            ConnectionAddr::TcpTls { insecure, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: None }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        let election = about.get("config-epoch").and_then(|number| number.parse().ok()).unwrap_or(0);
        Ok((election, sentinel.clone().set_addr(address)))
    };
    let late = || (ErrorKind::Io, "no Sentinel answers in time").into();
    tokio::time::timeout(HEARING, work).await.unwrap_or_else(|_| Err(late()))
}

/// Where the master is, and what else there is to say about it. Two questions: the first is answered anew in the middle of a
/// change, the second tells of which election that is.
type Told = (Option<(String, u16)>, HashMap<String, String>);

async fn tell_of(name: &str, line: &mut MultiplexedConnection) -> RedisResult<Told> {
    let mut questions = redis::pipe();
    questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    questions.cmd("SENTINEL").arg("MASTER").arg(name);
    questions.query_async(line).await
}

/// Why there is no connection, in words that say what to do.
pub(super) fn why_not(address: &Address, error: &redis::RedisError) -> LinkError {
    if !address.is_tls() && error.is_connection_dropped() {
        return LinkError::new(format!("Redis: {error} (does it want TLS, `rediss://` or `tls=true`?)"));
    }
    if error.is_timeout() { too_late(address) } else { LinkError::of(error) }
}

/// Why it took too long.
pub(super) fn too_late(address: &Address) -> LinkError {
    // A server that waits for the end of a line takes our greeting for the beginning of one.
    let hint = if address.is_tls() { ", or speaks no TLS on this port" } else { "" };
    LinkError::new(format!("Redis cannot be reached in time{hint}"))
}

/// Why TLS did not come about.
pub(super) fn distrust(error: &redis::RedisError) -> Option<String> {
    // The crate keeps the system's error in an `Arc`, and the system's error keeps ours; neither calls it its source.
    let kept = error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    let found = kept.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(words_for(found))
}

fn words_for(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "Redis' certificate is not signed by an authority that is trusted here; name its authority's file: `?ca=FILE`"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "Redis' certificate is for another name than the one in the store's URL".to_owned(),
        rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired) => {
            "Redis wants a certificate of ours: `?cert=FILE&key=FILE`".to_owned()
        }
        rustls::Error::AlertReceived(
            rustls::AlertDescription::UnknownCA
            | rustls::AlertDescription::BadCertificate
            | rustls::AlertDescription::DecryptError,
        ) => "Redis does not trust our certificate (`cert=FILE`)".to_owned(),
        other => format!("no TLS with Redis: {other}"),
    }
}
