//! What tokens open at the provider itself (userinfo and the like), and how they end: revocation, introspection.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::books::{Client, Family, Issued, Standing, State};
use super::call::Call;
use super::people::Person;
use super::refusals::{Why, plain_json, refuse_token};
use super::rows::{Endpoint, Style};
use super::token;
use crate::fake::wire::Native;
use crate::ids::random_name;

/// Whose token this is.
fn holder(call: &Call<'_>, state: &State) -> Result<(Person, Issued), Why> {
    if call.row.style == Style::GitHub && call.asked.header("user-agent").is_empty() {
        return Err(Why::NoAgent);
    }
    let token = call.token(state.settings.bearer.unwrap_or(true)).ok_or(Why::NoToken)?;
    let (id, standing) = state.standing(token, call.now).ok_or(Why::Token)?;
    match standing {
        Standing::Good => {}
        Standing::Expired => return Err(Why::TokenExpired),
        Standing::Revoked => return Err(Why::Token),
    }
    let Family { client_id, person, scopes, machine, .. } =
        state.families.get(&id).cloned().ok_or(Why::Token)?;
    let known = state.people.get(&person).cloned().ok_or(Why::TokenScope)?;
    let issued = Issued {
        family: id,
        client_id,
        person,
        scopes,
        nonce: None,
        access: token.to_owned(),
        expires_in: None,
        refresh: None,
        refresh_in: None,
        machine,
    };
    Ok((known, issued))
}

/// Userinfo, the address list, `sns/auth`, top-up, whoami.
pub fn tell(call: &Call<'_>, state: &State) -> Native {
    match told(call, state) {
        Ok(native) => native,
        Err(why) => refuse_token(call.row.style, &why),
    }
}

fn told(call: &Call<'_>, state: &State) -> Result<Native, Why> {
    let style = call.row.style;
    let (person, issued) = holder(call, state)?;
    let has = |scope: &str| issued.scopes.iter().any(|given| given == scope);
    if style == Style::WeChat {
        let openid = call.page("openid")?.unwrap_or_default();
        if openid != person.openid(&issued.client_id) {
            return Err(Why::OpenId);
        }
    }
    Ok(match call.endpoint {
        Endpoint::Emails if style == Style::GitHub && !has("user:email") && !has("user") => {
            return Err(Why::TokenScope);
        }
        Endpoint::Emails if style == Style::Gitee && !has("emails") => return Err(Why::TokenScope),
        Endpoint::Emails => Native::json(200, &person.emails(style)),
        Endpoint::Check => plain_json(&json!({"errcode":0,"errmsg":"ok"})),
        Endpoint::TopUp => {
            let place = format!("https://topup.example/?user={}", person.id);
            Native::json(200, &json!({ "topup_url": place }))
        }
        Endpoint::WhoAmI => Native::json(
            200,
            &json!({"type":"user","id":person.sub(style),"name":person.username,"fullname":person.name,
                "isPro":person.pro,"canPay":true,"orgs":[],"auth":{"type":"oauth"}}),
        ),
        _ => match style {
            Style::WeChat if has("snsapi_base") => return Err(Why::TokenScope),
            Style::HuggingFace | Style::Oidc if !has("openid") => return Err(Why::TokenScope),
            _ => {
                let unionid = state.settings.unionid.unwrap_or(true);
                let body = person.told(style, &issued, unionid, call.old());
                if style == Style::WeChat { plain_json(&body) } else { Native::json(200, &body) }
            }
        },
    })
}

/// RFC 7009, and Google's kin of it: no client, and 400 for what it does not know.
pub fn revoke(call: &Call<'_>, state: &mut State) -> Result<Native, Why> {
    let given = if call.row.style == Style::Google {
        let query = call.page("token")?.unwrap_or_default();
        let body = call.field("token");
        if body.is_empty() { query.to_owned() } else { body.to_owned() }
    } else {
        call.needed("token")?.to_owned()
    };
    let owner = match call.row.style {
        Style::Google => None,
        _ => Some(token::client(call, state)?),
    };
    let known = end(state, &given, owner.as_ref(), call.row.style == Style::Google);
    if !known && call.row.style == Style::Google {
        return Ok(Native::json(
            400,
            &json!({"error":"invalid_token","error_description":"Token expired or revoked"}),
        ));
    }
    Ok(Native::json(200, &json!({})))
}

/// Ends a token: a refresh token with its family, an access token alone or (`all`) with its family.
fn end(state: &mut State, given: &str, owner: Option<&Client>, all: bool) -> bool {
    let refresh = state.refresh.get(given).map(|known| known.family);
    let access = state.access.get(given).map(|known| known.family);
    let Some(family) = refresh.or(access) else { return false };
    let of = state.families.get(&family);
    let own = owner.is_none_or(|client| of.is_some_and(|family| family.client_id == client.client_id));
    if !own || of.is_none_or(|family| family.killed.is_some()) {
        return false;
    }
    if refresh.is_some() || all {
        state.kill(family, "revoked");
    } else if let Some(known) = state.access.get_mut(given) {
        known.revoked = true;
    }
    true
}

/// GitHub: `DELETE /applications/{client_id}/token` (or `/grant`), HTTP Basic, JSON.
pub fn app_tokens(call: &Call<'_>, state: &mut State) -> Native {
    let not_found = || Native::json(404, &json!({"message":"Not Found","status":"404"}));
    let mut parts = call.path.trim_start_matches("/applications/").split('/');
    let (Some(id), Some(what @ ("token" | "grant"))) = (parts.next(), parts.next()) else {
        return not_found();
    };
    let encoded = call.asked.header("authorization").strip_prefix("Basic ").unwrap_or_default();
    let proof = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let client = state.clients.get(id).cloned();
    let secret = client.as_ref().and_then(|client| client.client_secret.clone()).unwrap_or_default();
    let Some(client) = client.filter(|_| proof == Some(format!("{id}:{secret}"))) else {
        return not_found();
    };
    let given = call.field("access_token");
    if given.is_empty() {
        return Native::json(422, &json!({"message":"Validation Failed","status":"422"}));
    }
    if !end(state, given, Some(&client), what == "grant") {
        return not_found();
    }
    Native { status: 204, headers: Vec::new(), body: bytes::Bytes::new() }
}

/// RFC 7662.
pub fn introspect(call: &Call<'_>, state: &State) -> Result<Native, Why> {
    let client = token::client(call, state)?;
    let given = call.needed("token")?;
    let dead = || Native::json(200, &json!({"active":false}));
    let Some((family, Standing::Good)) = state.standing(given, call.now) else { return Ok(dead()) };
    let (Some(family), Some(access)) = (state.families.get(&family), state.access.get(given)) else {
        return Ok(dead());
    };
    if family.client_id != client.client_id {
        return Ok(dead());
    }
    let person = state.people.get(&family.person);
    let sub = person.map_or_else(|| family.client_id.clone(), |person| person.sub(call.row.style));
    Ok(Native::json(
        200,
        &json!({"active":true,"scope":family.scopes.join(" "),"client_id":family.client_id,"sub":sub,
            "username":family.person,"exp":access.until_ms.map(|until| until / 1000),
            "iss":super::base(call, state),"token_type":"Bearer"}),
    ))
}

/// AiHubMix: an application is made by its developer.
pub fn apps(call: &Call<'_>, state: &mut State) -> Native {
    if call.asked.bearer().is_none() {
        return Native::json(401, &json!({"success":false,"message":"无权进行此操作，未提供 access token"}));
    }
    let fields: Value = serde_json::from_slice(&call.asked.body).unwrap_or_default();
    let (name, uri) = (fields.get("name"), fields.get("redirect_uri").and_then(Value::as_str));
    let safe = |uri: &str| {
        uri.starts_with("https://")
            || uri.starts_with("http://localhost")
            || uri.starts_with("http://127.0.0.1")
    };
    let (Some(name), Some(uri)) = (name, uri.filter(|uri| safe(uri))) else {
        return Native::json(200, &json!({"success":false,"message":"参数错误"}));
    };
    let (id, secret) = (random_name("client_", 16), random_name("secret_", 24));
    let client = Client {
        client_id: id.clone(),
        client_secret: Some(secret.clone()),
        redirect_uris: vec![uri.to_owned()],
        ..Client::default()
    };
    state.clients.insert(id.clone(), client);
    Native::json(
        200,
        &json!({"success":true,"message":"","data":{"id":state.clients.len(),"name":name,"client_id":id,
            "client_secret":secret,"redirect_uri":uri,"created_time":call.now / 1000}}),
    )
}
