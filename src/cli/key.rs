//! `weir key create`, `list` and `revoke`. The store belongs to one process: while the gateway runs, it is asked over its
//! admin port, so that a change counts at once; while it does not, the store is opened here.
//!
//! The admin port's side: `POST /admin/keys` takes a [`NewKey`] and answers `{"key", "record"}`, `GET /admin/keys` answers
//! `{"keys": [record], "next"}` page by page, `DELETE /admin/keys/{id}` answers `{"record"}`; an error is `{"error": {"message"}}`.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::keybook::{KeyRecord, NewKey};
use crate::secret::Secret;
use crate::store::{Keys, Store, StoreError};

/// For one question to the running gateway.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Who it was, in the audit log.
const COMMAND_LINE: &str = "command line";

/// Who changes the keys.
#[derive(Debug)]
pub enum KeyAdmin {
    /// This process, in the store that it has opened.
    Direct(Keys),
    /// The running gateway.
    Remote(Remote),
}

/// The running gateway's admin port.
#[derive(Debug)]
pub struct Remote {
    /// Its base, such as `http://127.0.0.1:9090/`.
    pub url: Url,
    /// A token or key with the scope `admin`, where the port asks for one.
    pub token: Option<Secret>,
    pub client: reqwest::Client,
}

/// Why a command on keys failed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the running gateway cannot be asked: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the running gateway refused (status {status}): {message}")]
    Refused { status: u16, message: String },
    #[error("not a URL of an admin port: {0}")]
    Url(Url),
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Command {
    Create(NewKey),
    List,
    /// By id.
    Revoke(String),
}

#[derive(Deserialize)]
struct Created {
    key: Secret,
    record: KeyRecord,
}

#[derive(Deserialize)]
struct Listed {
    keys: Vec<KeyRecord>,
    /// Where the next page begins.
    #[serde(default)]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Revoked {
    record: KeyRecord,
}

impl KeyAdmin {
    /// Opens the store in `dir`, or turns to the gateway that holds it.
    ///
    /// # Errors
    /// The store cannot be opened for another reason than that.
    pub async fn reach(dir: &Path, gateway: Remote) -> Result<Self, StoreError> {
        match Store::open(dir) {
            Ok(store) => Ok(Self::Direct(Keys::load(Arc::new(store)).await?)),
            Err(StoreError::Locked(_)) => Ok(Self::Remote(gateway)),
            Err(error) => Err(error),
        }
    }

    /// Makes a key at `now` (seconds since 1970).
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn create(&self, new: NewKey, now: u64) -> Result<(KeyRecord, Secret), KeyError> {
        match self {
            Self::Direct(keys) => Ok(keys.create(COMMAND_LINE, new, now).await?),
            Self::Remote(gateway) => {
                let made: Created = gateway.ask(Method::POST, None, None, Some(&new)).await?;
                Ok((made.record, made.key))
            }
        }
    }

    /// All keys, the newest first.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn list(&self) -> Result<Vec<KeyRecord>, KeyError> {
        match self {
            Self::Direct(keys) => Ok(keys.list().iter().map(|record| KeyRecord::clone(record)).collect()),
            Self::Remote(gateway) => {
                let mut keys = Vec::new();
                let mut after = None;
                loop {
                    let page: Listed = gateway.ask(Method::GET, None, after.as_deref(), None).await?;
                    keys.extend(page.keys);
                    after = page.next;
                    if after.is_none() {
                        return Ok(keys);
                    }
                }
            }
        }
    }

    /// Revokes the key `id` at `now` (seconds since 1970).
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn revoke(&self, id: &str, now: u64) -> Result<KeyRecord, KeyError> {
        match self {
            Self::Direct(keys) => Ok(keys.revoke(COMMAND_LINE, id, now).await?),
            Self::Remote(gateway) => {
                Ok(gateway.ask::<Revoked>(Method::DELETE, Some(id), None, None).await?.record)
            }
        }
    }

    /// Runs a command at `now` (seconds since 1970) and writes what came of it: JSON, or lines for a person.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn run(
        &self,
        command: Command,
        now: u64,
        as_json: bool,
        out: &mut (impl Write + Send),
    ) -> Result<(), KeyError> {
        match command {
            Command::Create(new) => {
                let (record, key) = self.create(new, now).await?;
                if as_json {
                    writeln!(out, "{}", created(&record, &key))?;
                } else {
                    writeln!(out, "{}", key.expose())?;
                    writeln!(out, "\nKey {} of tenant {}. It is shown this once.", record.id, record.tenant)?;
                }
            }
            Command::List => {
                let records = self.list().await?;
                if as_json {
                    writeln!(out, "{}", serde_json::to_string(&records)?)?;
                } else {
                    table(&records, now, out)?;
                }
            }
            Command::Revoke(id) => {
                let record = self.revoke(&id, now).await?;
                if as_json {
                    writeln!(out, "{}", serde_json::to_string(&record)?)?;
                } else {
                    writeln!(out, "Key {} ({}) is revoked.", record.id, record.name)?;
                }
            }
        }
        Ok(())
    }
}

/// A new key as JSON, for the command's output and the admin port's answer: the one place where the key itself stands.
pub fn created(record: &KeyRecord, key: &Secret) -> serde_json::Value {
    serde_json::json!({"key": key.expose(), "record": record})
}

impl Remote {
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        id: Option<&str>,
        after: Option<&str>,
        body: Option<&NewKey>,
    ) -> Result<T, KeyError> {
        let mut url = self.url.clone();
        match url.path_segments_mut() {
            // `push` escapes whatever an id may hold.
            Ok(mut path) => drop(path.pop_if_empty().extend(["admin", "keys"]).extend(id)),
            Err(()) => return Err(KeyError::Url(self.url.clone())),
        }
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after);
        }
        let mut request = self.client.request(method, url).timeout(TIMEOUT);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let bytes = answer.bytes().await?;
        if !status.is_success() {
            return Err(KeyError::Refused { status: status.as_u16(), message: message(&bytes) });
        }
        Ok(serde_json::from_slice(&bytes)?)
    }
}

pub(super) fn message(body: &[u8]) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let text = parsed.as_ref().and_then(|body| body.pointer("/error/message")?.as_str());
    text.unwrap_or("no reason given").chars().filter(|char| !char.is_control()).take(500).collect()
}

fn table(records: &[KeyRecord], now: u64, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{:<20} {:<10} {:<8} {:<20} {:<20} SCOPES", "ID", "KEY", "STATE", "TENANT", "NAME")?;
    for record in records {
        let state = match record.revoked {
            Some(_) => "revoked",
            None if record.is_live(now) => "live",
            None => "expired",
        };
        let scopes: Vec<&str> = record.scopes.iter().map(|scope| scope.as_str()).collect();
        let (id, tenant, name) = (&record.id, record.tenant.as_str(), &record.name);
        let key = format!("…{}", record.last4);
        writeln!(out, "{id:<20} {key:<10} {state:<8} {tenant:<20} {name:<20} {}", scopes.join(" "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;

    use super::*;
    use crate::keybook::{KeyBook, KeyHash, Scope};

    fn new_key(name: &str) -> NewKey {
        NewKey {
            name: name.into(),
            tenant: "research".into(),
            scopes: vec![Scope::Chat],
            models: None,
            limits: None,
            expires: None,
        }
    }

    fn remote(url: &str) -> Remote {
        drop(rustls::crypto::ring::default_provider().install_default());
        Remote {
            url: url.parse().expect("url"),
            token: Some(Secret::new("admin-token")),
            client: reqwest::Client::builder().no_proxy().build().expect("a client"),
        }
    }

    async fn output(admin: &KeyAdmin, command: Command, as_json: bool) -> String {
        let mut out = Vec::new();
        admin.run(command, 1_000, as_json, &mut out).await.expect("works");
        String::from_utf8(out).expect("text")
    }

    /// An admin port as the module's head describes it, over a real store.
    async fn serve(store: Arc<Keys>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let store = Arc::clone(&store);
                let service = service_fn(move |request| answer(Arc::clone(&store), request));
                let io = TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        format!("http://{address}")
    }

    async fn answer(
        store: Arc<Keys>,
        request: http::Request<hyper::body::Incoming>,
    ) -> Result<http::Response<Full<Bytes>>, hyper::Error> {
        let is_admin = request.headers().get("authorization").is_some_and(|it| it == "Bearer admin-token");
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let (status, body) = match (head.method.as_str(), head.uri.path()) {
            _ if !is_admin => (401, serde_json::json!({"error": {"message": "no\u{1b}[31m"}})),
            ("POST", "/admin/keys") => {
                let new = serde_json::from_slice(&body).expect("a new key");
                let (record, key) = store.create("test", new, 1_000).await.expect("made");
                (200, created(&record, &key))
            }
            ("GET", "/admin/keys") => (200, serde_json::json!({"keys": store.list()})),
            ("DELETE", path) => {
                let id = path.strip_prefix("/admin/keys/").expect("an id");
                match store.revoke("test", id, 1_000).await {
                    Ok(record) => (200, serde_json::json!({"record": record})),
                    Err(error) => (404, serde_json::json!({"error": {"message": error.to_string()}})),
                }
            }
            other => panic!("{other:?}"),
        };
        let body = Full::new(Bytes::from(body.to_string()));
        Ok(http::Response::builder().status(status).body(body).expect("an answer"))
    }

    /// The same three commands, the same way, by whichever road.
    async fn create_list_revoke(admin: &KeyAdmin, find: impl Fn(&str) -> Option<Arc<KeyRecord>>) {
        let made = output(admin, Command::Create(new_key("ci")), false).await;
        let key = made.lines().next().expect("a line");
        let record = find(key).expect("the store knows it");
        assert!(key.starts_with("sk-weir-") && record.is_live(1_000));
        let listed = output(admin, Command::List, false).await;
        assert!(listed.contains(&record.id) && listed.contains("live") && !listed.contains(key), "{listed}");
        let revoked = output(admin, Command::Revoke(record.id.clone()), false).await;
        assert!(revoked.contains(&record.id));
        assert!(!find(key).expect("still known").is_live(1_000));
        let listed: Vec<KeyRecord> =
            serde_json::from_str(&output(admin, Command::List, true).await).expect("json");
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].revoked, Some(1_000));
        let made: serde_json::Value =
            serde_json::from_str(&output(admin, Command::Create(new_key("b")), true).await).expect("json");
        assert!(find(made["key"].as_str().expect("a key")).is_some());
        let missing = admin.revoke("key_/../x?y", 1_000).await.expect_err("no such key").to_string();
        assert!(missing.contains("there is no key"), "{missing}");
    }

    #[tokio::test]
    async fn a_store_that_is_free_is_changed_here() {
        let dir = tempfile::tempdir().expect("dir");
        let admin = KeyAdmin::reach(dir.path(), remote("http://127.0.0.1:1")).await.expect("free");
        let KeyAdmin::Direct(store) = &admin else { panic!("the store is free") };
        create_list_revoke(&admin, |key| store.find(&KeyHash::of(key.as_bytes()))).await;
    }

    #[tokio::test]
    async fn a_store_in_use_is_changed_by_the_gateway_that_uses_it() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::open(dir.path()).expect("opens");
        let store = Arc::new(Keys::load(Arc::new(store)).await.expect("keys"));
        let url = serve(Arc::clone(&store)).await;
        let admin = KeyAdmin::reach(dir.path(), remote(&url)).await.expect("the gateway");
        assert!(matches!(admin, KeyAdmin::Remote(_)));
        create_list_revoke(&admin, |key| store.find(&KeyHash::of(key.as_bytes()))).await;
    }

    #[tokio::test]
    async fn a_refusal_is_told_without_the_token_or_control_characters() {
        let url =
            serve(Arc::new(Keys::load(Arc::new(Store::in_memory().expect("a store"))).await.expect("keys")))
                .await;
        let admin = KeyAdmin::Remote(Remote { token: Some(Secret::new("wrong-token")), ..remote(&url) });
        let error = admin.list().await.expect_err("refused");
        assert_eq!(error.to_string(), "the running gateway refused (status 401): no[31m");
        let down = KeyAdmin::Remote(remote("http://127.0.0.1:1"));
        let error = format!("{:?}", down.list().await.expect_err("nobody there"));
        assert!(!error.contains("admin-token"));
    }
}
