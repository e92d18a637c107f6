//! The listener. Why one for all platforms: a test writes ten base URLs of one port into a configuration, and the books
//! of all of them are in one place. Each request goes one way: find the front, who calls, what is wanted, what shall go
//! wrong, what the account may, answer, render, pace.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::fake::answer;
use crate::fake::counters::Counters;
use crate::fake::fault::{Class, Refusal};
use crate::fake::oauth;
use crate::fake::script::Script;
use crate::fake::socket;
use crate::fake::stream::Body;
use crate::fake::wire::openai_like::rows::ROWS;
use crate::fake::wire::{Asked, Front, Native};
use crate::ids::random_name;

/// Largest request body, in bytes.
const BODY_MAX: usize = 64 << 20;

/// How to play.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub script: Script,
}

/// Everything that outlives a request.
pub struct World {
    pub clock: Clock,
    pub counters: Counters,
    pub providers: oauth::Providers,
    pub site: oauth::Site,
    script: ArcSwap<Script>,
    /// Who first sent each text with `@once`.
    firsts: Mutex<HashMap<(&'static str, String), String>>,
    request_ids: Mutex<HashSet<String>>,
    tokens: Mutex<HashMap<String, Token>>,
    /// How many scripts there were: an older token is one from before the last of them.
    scripts: AtomicU64,
}

/// A token that was handed out.
struct Token {
    key: String,
    /// End of its life, in milliseconds since 1970.
    until_ms: u64,
    script: u64,
}

impl World {
    fn new(settings: Settings, clock: Clock) -> Self {
        let providers = oauth::Providers::default();
        providers.set_up(&settings.script.idp);
        Self {
            clock,
            counters: Counters::default(),
            providers,
            site: oauth::Site::default(),
            script: ArcSwap::from_pointee(settings.script),
            firsts: Mutex::default(),
            request_ids: Mutex::default(),
            tokens: Mutex::default(),
            scripts: AtomicU64::new(0),
        }
    }

    /// The script as of now.
    pub fn script(&self) -> Arc<Script> {
        self.script.load_full()
    }

    /// Whether `key` is the first that sent `text` to this platform.
    pub fn first(&self, platform: &'static str, text: &str, key: &str) -> bool {
        let mut firsts = self.firsts.lock();
        firsts.entry((platform, text.to_owned())).or_insert_with(|| key.to_owned()) == key
    }

    /// Whether this request id was never seen.
    pub fn new_request_id(&self, id: &str) -> bool {
        self.request_ids.lock().insert(id.to_owned())
    }

    /// Hands out a token for `key`, good for `life_s` seconds.
    pub fn new_token(&self, key: &str, life_s: u64) -> String {
        let until_ms = self.clock.wall_millis() + life_s * 1000;
        let token = random_name(&format!("24.{life_s}."), 32);
        let script = self.scripts.load(Ordering::SeqCst);
        self.tokens.lock().insert(token.clone(), Token { key: key.to_owned(), until_ms, script });
        token
    }

    /// Whose token this is, and whether it still holds. An account marked `expired` lost the tokens from before the
    /// script said so.
    pub fn token_holder(&self, token: &str) -> Option<(String, bool)> {
        let tokens = self.tokens.lock();
        let known = tokens.get(token)?;
        let script = self.script();
        let expired = script.account("baidu-v1", &known.key).0.expired;
        let older = known.script < self.scripts.load(Ordering::SeqCst);
        Some((known.key.clone(), known.until_ms > self.clock.wall_millis() && !(expired && older)))
    }

    fn reset(&self) {
        self.counters.reset();
        self.firsts.lock().clear();
        self.request_ids.lock().clear();
    }
}

/// Platforms that are not OpenAI-like, with their base paths.
const OTHERS: [(&str, &str); 4] = [
    ("claude", "/v1"),
    ("gemini", "/v1beta"),
    ("dashscope", "/api/v1"),
    ("baidu-v1", "/rpc/2.0/ai_custom/v1/wenxinworkshop"),
];

/// The base URL of every platform at `addr`, to be put into `weir.yaml`.
pub fn endpoints(addr: SocketAddr) -> Vec<(String, String)> {
    // Spark's version depends on the model, so it belongs to the request's path and not to the base.
    let rows = ROWS.iter().map(|row| (row.name, if row.name == "spark" { "" } else { row.base }));
    let http =
        rows.chain(OTHERS).map(|(name, base)| (name.to_owned(), format!("http://{addr}/{name}{base}")));
    http.chain([(socket::NAME.to_owned(), format!("ws://{addr}/{}", socket::NAME))]).collect()
}

/// Serves until dropped; every connection ends with it.
pub async fn serve(listener: TcpListener, settings: Settings, clock: Clock) -> io::Result<()> {
    let world = Arc::new(World::new(settings, clock));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&world)));
                }
                // Out of file descriptors, or a caller that is gone: try again a little later.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, world: Arc<World>) {
    // A platform on the other side of the world has no use for Nagle either.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| handle(request, Arc::clone(&world)));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).pipeline_flush(false);
    builder.http2().timer(TokioTimer::new());
    // A broken connection is the caller's, or was asked for; either way there is nobody to tell.
    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

/// The connection shall close without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer, as asked")]
pub struct Hang;

async fn handle(mut request: Request<Incoming>, world: Arc<World>) -> Result<Response<Body>, Hang> {
    let upgrade = socket::upgrade(&mut request);
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        return Ok(plain(413, "body too large or broken"));
    };
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let asked =
        Arc::new(Asked { method: parts.method, target, headers: parts.headers, body: body.to_bytes() });
    let path = parts.uri.path();
    let now = world.clock.wall_millis();
    if let Some(what) = path.strip_prefix("/_fake/idp") {
        return Ok(native(oauth::control(&world.providers, &asked, what, now).await));
    }
    if let Some(what) = path.strip_prefix("/_fake/site") {
        return Ok(native(world.site.control(&asked, what)));
    }
    if let Some(control) = path.strip_prefix("/_fake/") {
        return Ok(control_panel(&asked, control, &world));
    }
    world.counters.note(&asked);
    if let Some(rest) = path.strip_prefix("/spark-ws") {
        return Ok(socket::answer(&asked, path, rest, upgrade, &world));
    }
    if let Some(below) = path.strip_prefix("/idp/") {
        return world.providers.answer(&asked, below, now).await;
    }
    // RFC 8414: the well-known part goes between host and path.
    if let Some(name) = path.strip_prefix("/.well-known/oauth-authorization-server/idp/") {
        let below = format!("{name}/.well-known/oauth-authorization-server");
        return world.providers.answer(&asked, &below, now).await;
    }
    if let Some(below) = path.strip_prefix("/site-api") {
        return site_api(&asked, below, &world).await;
    }
    if let Some(below) = path.strip_prefix("/site").filter(|below| below.is_empty() || below.starts_with('/'))
    {
        return Ok(native(oauth::site_page(&world.site, &asked, below)));
    }
    match Front::of(path) {
        Some((front, rest)) => answer::answer(front, &asked, rest, &world).await,
        None => Ok(plain(404, "no such platform; see /_fake/platforms")),
    }
}

/// The login site's own API: who somebody is, and OpenAI's wire.
async fn site_api(asked: &Asked, below: &str, world: &World) -> Result<Response<Body>, Hang> {
    let (token, username) = match oauth::site_api(&world.site, asked) {
        Ok(known) => known,
        Err(refusal) => return Ok(native(refusal)),
    };
    if below == "/me" {
        return Ok(native(Native::json(200, &json!({ "username": username }))));
    }
    let mut headers = asked.headers.clone();
    if let Ok(bearer) = http::HeaderValue::from_str(&format!("Bearer {token}")) {
        headers.insert(http::header::AUTHORIZATION, bearer);
    }
    let (method, target, body) = (asked.method.clone(), asked.target.clone(), asked.body.clone());
    let asked = Arc::new(Asked { method, target, headers, body });
    match ROWS.iter().find(|row| row.name == "openai") {
        Some(row) => answer::answer(Front::OpenAiLike(row), &asked, below, world).await,
        None => Ok(plain(404, "no such platform")),
    }
}

/// What tests read and set.
fn control_panel(asked: &Asked, what: &str, world: &World) -> Response<Body> {
    match (&asked.method, what) {
        (&Method::GET, "counters") => native(Native::json(200, &world.counters.report())),
        (&Method::GET, "times") => native(Native::json(200, &world.counters.times())),
        (&Method::GET, "requests") => {
            let last = asked.query("last").and_then(|last| last.parse().ok()).unwrap_or(usize::MAX);
            native(Native::json(200, &world.counters.requests(last)))
        }
        (&Method::GET, "platforms") => {
            let others = OTHERS.iter().map(|(name, _)| *name).chain([socket::NAME]);
            let names: Vec<&str> = ROWS.iter().map(|row| row.name).chain(others).collect();
            native(Native::json(200, &json!(names)))
        }
        (&Method::POST, "script") => match Script::parse(&String::from_utf8_lossy(&asked.body)) {
            Ok(script) => {
                world.providers.set_up(&script.idp);
                world.script.store(Arc::new(script));
                world.scripts.fetch_add(1, Ordering::SeqCst);
                native(Native::json(200, &json!({"ok":true})))
            }
            Err(error) => plain(400, &error),
        },
        (&Method::POST, "reset") => {
            world.reset();
            native(Native::json(200, &json!({"ok":true})))
        }
        _ => {
            plain(404, "counters, times, requests?last=N, platforms, script (POST), reset (POST), idp, site")
        }
    }
}

fn plain(status: u16, text: &str) -> Response<Body> {
    let headers = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
    native(Native { status, headers, body: Bytes::copy_from_slice(text.as_bytes()) })
}

fn native(native: Native) -> Response<Body> {
    respond(native.status, &native.headers, Body::whole(native.body, 0, None))
}

/// Puts a response together.
pub fn respond(status: u16, headers: &[(&'static str, String)], body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let mut all = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if let Ok(value) = http::HeaderValue::from_str(value) {
            all.append(*name, value);
        }
    }
    *response.headers_mut() = all;
    response
}

/// What an account's standing says before anything is read.
pub fn standing(
    account: &crate::fake::script::Account,
    listed: bool,
    script: &Script,
) -> Result<(), Refusal> {
    if account.revoked || (script.only_listed && !listed) {
        return Err(Refusal::of(Class::AuthInvalid));
    }
    if account.no_credit {
        return Err(Refusal::of(Class::QuotaExhausted));
    }
    Ok(())
}
