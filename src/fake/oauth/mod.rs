//! Simulated OAuth servers: ten identity providers (two of which also hand out tokens for a platform) and two platforms' own.
//! Why: sign-in and onboarding must be tested against servers that insist on their vendors' ways, count what they were asked,
//! and go wrong on command. Written from the vendors' facts, without a line of `src/oauth`: what both sides misread alike, no
//! test would see.
//!
//! # Addresses
//! Each provider lies below `/idp/<name>` of the fake, with its vendor's own paths:
//!
//! | name | authorize | token | userinfo | more |
//! | --- | --- | --- | --- | --- |
//! | `github` | `/login/oauth/authorize` | `/login/oauth/access_token` | `/user` | `/user/emails`; device `POST /login/device/code`, page `/login/device`; `DELETE /applications/{id}/token` or `/grant` |
//! | `google` | `/o/oauth2/v2/auth` | `/token` | `/v1/userinfo`; old `/oauth2/v1/userinfo` | discovery, `/oauth2/v3/certs`, `/revoke`, device `/device/code`, page `/device`; tokens open `/gemini` |
//! | `gitee` | `/oauth/authorize` | `/oauth/token` | `/api/v5/user` | `/api/v5/emails` |
//! | `oschina` | `/action/oauth2/authorize` | `/action/openapi/token` | `/action/openapi/user` | |
//! | `linuxdo` | `/oauth2/authorize` | `/oauth2/token` (Basic) | `/api/user` | |
//! | `feishu` | `/open-apis/authen/v1/authorize` | `/oauth/v3/token` (JSON); `/open-apis/authen/v2/oauth/token` | `/open-apis/authen/v1/user_info` | legacy: `/suite/passport/oauth/{authorize,token,userinfo}` |
//! | `wechat-open` | `/connect/qrconnect` | `GET /sns/oauth2/access_token` | `/sns/userinfo` | `/sns/oauth2/refresh_token`, `/sns/auth` |
//! | `wechat-mp` | `/connect/oauth2/authorize` | as `wechat-open` | | |
//! | `huggingface` | `/oauth/authorize` | `/oauth/token` | `/oauth/userinfo` | discovery, `/oauth/jwks`, device `POST /oauth/device`, page `GET /oauth/device`, `/api/whoami-v2`; tokens open `/huggingface` |
//! | `oidc` | `/authorize` | `/token` | `/userinfo` | discovery, `/jwks`, `/revoke`, `/introspect`, device `POST /device`, page `GET /device`, client credentials; issuer `http://<host>/idp/oidc` |
//! | `qwen` | none | `/api/v1/oauth2/token` | none | device `/api/v1/oauth2/device/code`, page `/authorize`; tokens open `/qwen` (also `/qwen/v1`) for `coder-model` |
//! | `aihubmix` | `/api/oauth2/authorize` | `/api/oauth2/token` | `/api/oauth2/userinfo` | `POST /api/oauth_apps`, `/api/oauth2/topup`; tokens open nothing |
//!
//! Discovery is `/.well-known/openid-configuration`, and `/.well-known/oauth-authorization-server` below the provider or (RFC
//! 8414) `/.well-known/oauth-authorization-server/idp/<name>`. Baidu's client credentials are at `/baidu-v1/oauth/2.0/token`.
//!
//! Pages are real: `#username` (`ann`, `bob`, `cy`, `dot`), `#signin`, then `#allow` and `#deny`; for devices `#user_code`,
//! `#continue`, at the end `#done`; what is wrong stands in `#problem`. Each provider has the client `weir-<name>` with secret
//! `secret-<name>` (Qwen: none), and callbacks on ports 8080 of 127.0.0.1 and localhost.
//!
//! # Control
//! `<p>` is a provider's name or `all`; bodies are JSON.
//!
//! | request | does |
//! | --- | --- |
//! | `GET /_fake/idp` | addresses of all providers |
//! | `GET /_fake/idp/<p>` | counters: `endpoints`, `grants`, `errors`, `refresh_reuses`, `families` (`alive`, `killed`, `list`), `access_tokens`, `refresh_tokens` (`uses`, `current`, `family`), `last` request of each endpoint, `user_codes` |
//! | `POST …/<p>/clients` | registers one or a list: `client_id`, `client_secret` (absent: public), `redirect_uris`, `device`, `expiring` |
//! | `POST …/<p>/settings` | sets what is named, see `books::Settings`: `auto` (a person: no pages), `auto_deny`, `access_s`, `refresh_s`, `code_s`, `device_s`, `interval_s`, `pending`, `refresh` (`rotate`, `same`, `omit`, `never`), `reuse_kills`, `code_reuse_kills`, `iss`, `grant_only`, `alg`, `unionid`, `bearer`, `resource_url`, `any_model`, `origin`; null: as the real one |
//! | `POST …/<p>/people` | `{"ann": {"username": …}}`: changes or adds people, see `people::Person` |
//! | `POST …/<p>/faults` | one or a list, see `faults::Fault`; `[]` clears them |
//! | `POST …/<p>/device` | `{"user_code", "person", "answer": "allow" or "deny"}`: answers a device without a page |
//! | `POST …/<p>/expire` | `{"access": true, "refresh": true, "codes": true}`: ends them now |
//! | `POST …/<p>/withdraw` | `{"person"}` (absent: all): kills their families |
//! | `POST …/<p>/rollover` | `{"drop_old": bool, "alg"}`: a new signing key |
//! | `POST …/<p>/reset` | forgets everything but the clients |
//! | `GET /_fake/site`, `/_fake/site/code`, `/_fake/site/question` | the login site's state, the code of its second factor, the answer to its question; `POST /_fake/site/expire` ends its sessions |
//!
//! The same can stand in the script: `idp: {github: {clients: […], settings: {…}, people: {…}}}`.
//!
//! # Login site
//! For browser-assisted onboarding: `site`, from `/site/login` to `/site/home`; its token and its cookie open `/site-api`.

mod authorize;
mod books;
mod call;
mod control;
mod device;
mod faults;
mod keys;
mod pages;
mod people;
mod platform;
mod refusals;
mod resources;
mod rows;
mod site;
mod token;

#[cfg(test)]
mod tests;

use http::Response;
use parking_lot::Mutex;
use serde_json::json;

use crate::fake::server::{Hang, respond};
use crate::fake::stream::Body;
use crate::fake::wire::{Asked, Native};
use books::State;
use call::Call;
use faults::Fault;
use keys::Ring;
use refusals::{Why, refuse, refuse_token};
use rows::{Endpoint, ROWS, Row};

pub use control::{Setup, control};
pub use platform::{Held, entitled, narrow};
pub use site::{BUTTON, FIELD, FIELD_STEP, PASSWORD, Site, api as site_api, page as site_page};

/// One provider.
struct Desk {
    row: &'static Row,
    state: Mutex<State>,
    ring: Ring,
}

/// All of them.
pub struct Providers(Vec<Desk>);

impl Default for Providers {
    fn default() -> Self {
        let desk =
            |row: &'static Row| Desk { row, state: Mutex::new(State::new(row)), ring: Ring::default() };
        Self(ROWS.iter().map(desk).collect())
    }
}

impl Providers {
    fn desk(&self, name: &str) -> Option<&Desk> {
        self.0.iter().find(|desk| desk.row.name == name)
    }

    /// Answers a request below `/idp/`.
    pub async fn answer(&self, asked: &Asked, below: &str, now: u64) -> Result<Response<Body>, Hang> {
        let (name, _) = below.split_once('/').unwrap_or((below, ""));
        let path = below.get(name.len()..).unwrap_or_default();
        let Some(desk) = self.desk(name) else { return Ok(sent(nothing())) };
        let form = matches!(path, "/_signin" | "/_consent" | "/_device");
        let (endpoint, right) = match desk.row.at(asked.method.as_str(), path) {
            Some(found) => found,
            None if form => (Endpoint::Authorize, true),
            None => return Ok(sent(nothing())),
        };
        let call = Call::new(desk.row, endpoint, asked, path, now);
        if form {
            return Ok(sent(desk.form(&call)));
        }
        if !right {
            return Ok(sent(refuse(desk.row.style, &Why::Method, false)));
        }
        let Some(fault) = desk.count(&call) else { return Ok(sent(desk.work(&call, None).await)) };
        tokio::time::sleep(fault.delay()).await;
        let (silence, instead) = (fault.silence(), fault.instead());
        let lost = silence.is_some() || instead.is_some();
        let native = if fault.done || !lost { Some(desk.work(&call, Some(&fault)).await) } else { None };
        if let Some(wait) = silence {
            tokio::time::sleep(wait).await;
            return Err(Hang);
        }
        let bent = || native.map_or_else(nothing, |native| fault.bend(native));
        Ok(sent(instead.unwrap_or_else(bent)))
    }
}

fn nothing() -> Native {
    Native::json(404, &json!({"error":"not_found"}))
}

fn sent(native: Native) -> Response<Body> {
    respond(native.status, &native.headers, Body::whole(native.body, 0, None))
}

/// What the fake's own addresses begin with.
fn origin(call: &Call<'_>, state: &State) -> String {
    state.settings.origin.clone().unwrap_or_else(|| format!("http://{}", call.asked.header("host")))
}

/// What a provider's addresses begin with; its issuer.
fn base(call: &Call<'_>, state: &State) -> String {
    format!("{}/idp/{}", origin(call, state), call.row.name)
}

impl Desk {
    fn form(&self, call: &Call<'_>) -> Native {
        let mut state = self.state.lock();
        match call.path {
            "/_signin" => authorize::signed_in(call, &mut state),
            "/_consent" => authorize::consented(call, &mut state),
            _ => authorize::device_page(call, &mut state),
        }
    }

    /// Counts a request, and takes the fault that waits for it.
    fn count(&self, call: &Call<'_>) -> Option<Fault> {
        let mut state = self.state.lock();
        let name = call.endpoint.name();
        *state.counts.endpoints.entry(name).or_default() += 1;
        state.counts.last.insert(name, call.report());
        let grant = match call.endpoint {
            Endpoint::Token => call.grant_type().to_owned(),
            Endpoint::Refresh => "refresh_token".to_owned(),
            _ => String::new(),
        };
        if !grant.is_empty() {
            *state.counts.grants.entry(grant.clone()).or_default() += 1;
        }
        Fault::take(&mut state.faults, name, &grant)
    }

    /// What the real one would do.
    async fn work(&self, call: &Call<'_>, fault: Option<&Fault>) -> Native {
        match call.endpoint {
            Endpoint::Token | Endpoint::Refresh => token::as_asked(call, self.tokens(call, fault).await),
            Endpoint::Jwks => {
                let alg = keys::alg(&self.state.lock());
                self.ring.signer(&alg).await;
                Native::json(200, &self.ring.set())
            }
            Endpoint::Device => token::as_asked(call, self.rest(call, fault)),
            _ => self.rest(call, fault),
        }
    }

    /// Everything that needs no key.
    fn rest(&self, call: &Call<'_>, fault: Option<&Fault>) -> Native {
        let mut state = self.state.lock();
        let state = &mut *state;
        let error = fault.and_then(|fault| fault.error.as_deref());
        let why = error.map(|error| Why::named(error, ""));
        let outcome = match (call.endpoint, why) {
            (Endpoint::Authorize, _) => Ok(authorize::begin(call, state, error)),
            (Endpoint::Device | Endpoint::Revoke | Endpoint::Introspect, Some(why)) => Err(why),
            (_, Some(why)) => Ok(refuse_token(call.row.style, &why)),
            (Endpoint::DevicePage, None) => Ok(authorize::device_page(call, state)),
            (Endpoint::Device, None) => device::begin(call, state),
            (Endpoint::Revoke, None) => resources::revoke(call, state),
            (Endpoint::Introspect, None) => resources::introspect(call, state),
            (Endpoint::AppTokens, None) => Ok(resources::app_tokens(call, state)),
            (Endpoint::Apps, None) => Ok(resources::apps(call, state)),
            (Endpoint::Discovery, None) => Ok(Native::json(200, &keys::discovery(call, state))),
            (_, None) => Ok(resources::tell(call, state)),
        };
        outcome.unwrap_or_else(|why| refused(call, state, &why))
    }

    async fn tokens(&self, call: &Call<'_>, fault: Option<&Fault>) -> Native {
        let (issued, claims, alg) = {
            let mut state = self.state.lock();
            let forced = fault.and_then(|fault| fault.error.as_deref());
            let granted = match forced {
                Some(code) => Err(Why::named(code, call.grant_type())),
                None => token::grant(call, &mut state),
            };
            match granted {
                Ok(issued) => {
                    let claims = keys::claims(call, &state, &issued, fault);
                    (issued, claims, keys::alg(&state))
                }
                Err(why) => return refused(call, &mut state, &why),
            }
        };
        let id_token = match claims {
            Some(claims) => {
                let spoilt = fault.and_then(|fault| fault.jwt.as_deref());
                self.ring.signer(&alg).await.map(|key| keys::signed(&key, &claims, spoilt))
            }
            None => None,
        };
        token::reply(call, &self.state.lock(), &issued, id_token)
    }
}

fn refused(call: &Call<'_>, state: &mut State, why: &Why) -> Native {
    *state.counts.errors.entry(why.code()).or_default() += 1;
    refuse(call.row.style, why, call.asked.header("authorization").starts_with("Basic "))
}
