//! The token endpoint: who asks, for which grant, and the reply in the provider's shape.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::books::{Client, Issued, Standing, State};
use super::call::Call;
use super::refusals::{Why, plain_json};
use super::rows::{Endpoint, Style, Turns};
use crate::fake::wire::Native;

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
const EXCHANGE_GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Who asks, proven.
pub fn client(call: &Call<'_>, state: &State) -> Result<Client, Why> {
    let presented = call.presented()?;
    let id = presented.id.clone().ok_or_else(|| Why::Parameter(call.row.names.0.to_owned()))?;
    let client = state.clients.get(&id).ok_or(Why::Client)?;
    let grant = call.grant_type();
    // WeChat refreshes without it; GitHub polls without it.
    let spared = match call.row.style {
        Style::WeChat => call.endpoint == Endpoint::Refresh,
        Style::GitHub => grant == DEVICE_GRANT || call.endpoint == Endpoint::Device,
        _ => call.endpoint == Endpoint::Device,
    };
    if let Some(secret) = &client.client_secret {
        let proven = presented.secret.as_ref() == Some(secret) && call.way_is_right(&presented);
        let without = spared && presented.secret.is_none();
        if !proven && !without {
            return Err(match (call.row.style, &presented.secret) {
                (Style::WeChat, None) => Why::Parameter("secret".to_owned()),
                _ => Why::Secret,
            });
        }
    }
    Ok(client.clone())
}

/// Hands out tokens, or says why not.
pub fn grant(call: &Call<'_>, state: &mut State) -> Result<Issued, Why> {
    let client = client(call, state)?;
    let grant = call.needed("grant_type").or_else(|why| match call.row.style {
        // GitHub takes a code without being told what it is.
        Style::GitHub => Ok("authorization_code"),
        _ => Err(why),
    })?;
    let refreshes = match call.endpoint {
        Endpoint::Refresh => true,
        _ => call.row.path_of(Endpoint::Refresh).is_none(),
    };
    match grant {
        "authorization_code" if call.endpoint == Endpoint::Token && call.row.style != Style::Qwen => {
            code(call, state, &client)
        }
        "refresh_token" if refreshes => refresh(call, state, &client),
        DEVICE_GRANT if call.row.path_of(Endpoint::Device).is_some() => {
            super::device::poll(call, state, &client)
        }
        "client_credentials" if call.row.style == Style::Oidc && client.client_secret.is_some() => {
            let ask = super::books::Ask { client_id: client.client_id.clone(), ..Default::default() };
            Ok(state.found(&ask, "", true, call.now))
        }
        EXCHANGE_GRANT if call.row.style == Style::HuggingFace => exchange(call, state, &client),
        _ => Err(Why::GrantType),
    }
}

fn code(call: &Call<'_>, state: &mut State, client: &Client) -> Result<Issued, Why> {
    let given = call.needed("code")?;
    let verifier = call.optional("code_verifier")?;
    let redirect_uri = call.optional("redirect_uri")?;
    let known = state.codes.get(given).cloned().ok_or(Why::Code)?;
    if known.ask.client_id != client.client_id {
        return Err(Why::Code);
    }
    if let Some(family) = known.used {
        if state.settings.code_reuse_kills.unwrap_or(call.row.code_reuse_kills) {
            state.kill(family, "its code was used again");
        }
        return Err(Why::CodeUsed);
    }
    if known.until_ms <= call.now {
        return Err(Why::CodeExpired);
    }
    // WeChat has none at this step; GitHub's may be left out.
    let may_lack = matches!(call.row.style, Style::WeChat | Style::GitHub);
    match redirect_uri {
        Some(uri) if uri == known.ask.redirect_uri || call.row.style == Style::WeChat => {}
        None if may_lack => {}
        _ => return Err(Why::RedirectUri),
    }
    if call.row.pkce != super::rows::Pkce::None {
        fits(call, known.ask.challenge.as_ref(), verifier)?;
    }
    let issued = state.found(&known.ask, &known.person, false, call.now);
    if let Some(code) = state.codes.get_mut(given) {
        code.used = Some(issued.family);
    }
    Ok(issued)
}

/// Whether the verifier fits the challenge. A challenge without a verifier and a verifier without a challenge are both
/// refused: either would be a downgrade.
pub fn fits(call: &Call<'_>, challenge: Option<&(String, bool)>, verifier: Option<&str>) -> Result<(), Why> {
    let (challenge, plain) = match (challenge, verifier) {
        (None, None) => return Ok(()),
        // Feishu's version 2 does not look.
        (None, Some(_)) if call.path.contains("/v2/") => return Ok(()),
        (None, Some(_)) | (Some(_), None) => return Err(Why::Verifier),
        (Some((challenge, plain)), Some(_)) => (challenge, *plain),
    };
    let verifier = verifier.unwrap_or_default();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if !(43..=128).contains(&verifier.len()) || !verifier.bytes().all(allowed) {
        return Err(Why::Parameter("code_verifier".to_owned()));
    }
    let made =
        if plain { verifier.to_owned() } else { URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())) };
    if made == *challenge { Ok(()) } else { Err(Why::Verifier) }
}

fn refresh(call: &Call<'_>, state: &mut State, client: &Client) -> Result<Issued, Why> {
    let given = call.needed("refresh_token")?;
    let turns = state.turns(&client.client_id);
    let known = state.refresh.get_mut(given).ok_or(Why::Refresh)?;
    known.uses += 1;
    let known = known.clone();
    let family = state.families.get(&known.family).cloned().ok_or(Why::Refresh)?;
    if family.client_id != client.client_id {
        return Err(Why::Refresh);
    }
    if !known.current {
        state.counts.reuses += 1;
        if state.settings.reuse_kills.unwrap_or(call.row.reuse_kills) {
            state.kill(known.family, "a refresh token was used again");
        }
        return Err(Why::RefreshUsed);
    }
    if family.killed.is_some() {
        return Err(Why::Refresh);
    }
    if known.until_ms.is_some_and(|until| until <= call.now) {
        return Err(Why::RefreshExpired);
    }
    narrower(call, &family.scopes)?;
    if let Some(family) = state.families.get_mut(&known.family) {
        family.refreshes += 1;
    }
    let mut issued = match call.row.style {
        Style::WeChat => again(state, known.family, call.now),
        _ => state.new_access(known.family, call.now),
    };
    issued.refresh = match turns {
        Turns::Rotate => Some(state.new_refresh(known.family, call.now)),
        Turns::Same => Some(given.to_owned()),
        Turns::Omit | Turns::Never => None,
    };
    issued.refresh_in = issued.refresh.as_ref().and_then(|_| state.refresh_life());
    Ok(issued)
}

/// No scope that was not granted.
fn narrower(call: &Call<'_>, granted: &[String]) -> Result<(), Why> {
    let Some(scope) = call.optional("scope")? else { return Ok(()) };
    if scope.split(' ').all(|one| granted.iter().any(|known| known == one)) {
        Ok(())
    } else {
        Err(Why::Scope)
    }
}

/// WeChat: an access token that still holds lives longer; only a dead one is replaced.
fn again(state: &mut State, family: u64, now: u64) -> Issued {
    let alive = state.access.iter().find(|(token, known)| {
        known.family == family && state.standing(token, now).is_some_and(|(_, how)| how == Standing::Good)
    });
    let alive = alive.map(|(token, _)| token.clone());
    let mut issued = state.new_access(family, now);
    if let Some(old) = alive {
        let made = state.access.remove(&issued.access);
        if let (Some(known), Some(made)) = (state.access.get_mut(&old), made) {
            known.until_ms = made.until_ms;
        }
        issued.access = old;
    }
    issued
}

/// Hugging Face, Enterprise: a token for a member, named by e-mail.
fn exchange(call: &Call<'_>, state: &mut State, client: &Client) -> Result<Issued, Why> {
    if client.client_secret.is_none() {
        return Err(Why::Unauthorized);
    }
    let subject = call.needed("subject_token")?;
    if call.needed("subject_token_type")? != "urn:huggingface:token-type:user-email" {
        return Err(Why::Parameter("subject_token_type".to_owned()));
    }
    let person = state.people.iter().find(|(_, person)| person.email.as_deref() == Some(subject));
    let person = person.map(|(name, _)| name.clone()).ok_or(Why::Code)?;
    let scopes = call.optional("scope")?.unwrap_or("openid profile");
    let ask = super::books::Ask {
        client_id: client.client_id.clone(),
        scopes: scopes.split(' ').map(str::to_owned).collect(),
        ..Default::default()
    };
    let mut issued = state.found(&ask, &person, false, call.now);
    if let Some(refresh) = issued.refresh.take() {
        state.refresh.remove(&refresh);
    }
    Ok(issued)
}

/// The reply.
pub fn reply(call: &Call<'_>, state: &State, issued: &Issued, id_token: Option<String>) -> Native {
    let separator = if call.row.comma_scopes { "," } else { " " };
    let scope = issued.scopes.join(separator);
    let style = call.row.style;
    let kind = match style {
        Style::GitHub | Style::Gitee | Style::OsChina | Style::HuggingFace => "bearer",
        _ => "Bearer",
    };
    let mut told = serde_json::Map::new();
    let mut put = |name: &str, value: Value| told.insert(name.to_owned(), value);
    if style == Style::Feishu && !call.old() {
        put("code", json!(0));
    }
    put("access_token", json!(issued.access));
    if style != Style::WeChat {
        put("token_type", json!(kind));
    }
    if let Some(life) = issued.expires_in {
        put("expires_in", json!(life));
    }
    if let Some(refresh) = &issued.refresh {
        put("refresh_token", json!(refresh));
    }
    let name = if call.old() { "refresh_expires_in" } else { "refresh_token_expires_in" };
    if let (Style::GitHub | Style::Feishu | Style::Google, Some(life)) = (style, issued.refresh_in) {
        put(name, json!(life));
    }
    if !matches!(style, Style::OsChina | Style::LinuxDo | Style::Qwen) {
        put("scope", json!(scope));
    }
    if let Some(id_token) = id_token {
        put("id_token", json!(id_token));
    }
    let person = state.people.get(&issued.person);
    match (style, person) {
        (Style::Gitee, _) => {
            put("created_at", json!(call.now / 1000));
        }
        (Style::OsChina, Some(person)) => {
            put("uid", json!(person.id));
        }
        (Style::WeChat, Some(person)) => {
            put("openid", json!(person.openid(&issued.client_id)));
            if state.settings.unionid.unwrap_or(true) && scope != "snsapi_base" {
                put("unionid", json!(person.unionid()));
            }
        }
        (Style::Qwen, _) => {
            let place = state.settings.resource_url.clone();
            put("resource_url", json!(place.unwrap_or_else(|| super::origin(call, state) + "/qwen")));
        }
        (Style::HuggingFace, _) if call.grant_type() == EXCHANGE_GRANT => {
            put("issued_token_type", json!("urn:ietf:params:oauth:token-type:access_token"));
        }
        _ => {}
    }
    let told = Value::Object(told);
    match style {
        Style::WeChat => plain_json(&told),
        _ => Native::json(200, &told).with("cache-control", "no-store").with("pragma", "no-cache"),
    }
}

/// GitHub's reply, successes and refusals alike, is a form unless JSON was asked for.
pub fn as_asked(call: &Call<'_>, native: Native) -> Native {
    let wants_json = call.asked.header("accept").contains("json");
    if call.row.style != Style::GitHub || wants_json || native.status != 200 {
        return native;
    }
    let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(&native.body) else { return native };
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in &members {
        form.append_pair(name, value.as_str().unwrap_or(&value.to_string()));
    }
    let kind = "application/x-www-form-urlencoded; charset=utf-8".to_owned();
    Native { status: 200, headers: vec![("content-type", kind)], body: form.finish().into() }
}
