//! From the client's link to the way back: checks, sign-in, consent. What makes the way back unsafe (unknown client, foreign
//! address) ends on a page; everything else goes back as an error.

use super::books::{Ask, Client, Code, State, Ticket};
use super::call::Call;
use super::faults::Fault;
use super::pages;
use super::refusals::Why;
use super::rows::{Endpoint, Pkce, Redirects, Row, Style};
use crate::fake::wire::Native;
use crate::ids::random_name;

/// Why there is no page to sign in on.
enum Stop {
    /// Told to the person.
    Page(u16, String),
    /// Told to the client: address, state, error, words.
    Back(Box<Ask>, &'static str, String),
}

/// The client's link.
pub fn begin(call: &Call<'_>, state: &mut State, error: Option<&str>) -> Native {
    let ask = match read(call, state) {
        Ok(ask) => ask,
        Err(Stop::Page(status, words)) => return pages::problem(status, call.row.name, &words),
        Err(Stop::Back(ask, error, words)) => return back(call, state, &ask, Err((error, &words))),
    };
    if let Some(error) = error {
        return back(call, state, &ask, Err((error, "as asked")));
    }
    if let Some(person) = state.settings.auto.clone() {
        let allowed = !state.settings.auto_deny;
        return decide(call, state, &ask, &person, allowed);
    }
    let ticket = random_name("t", 24);
    state.tickets.insert(ticket.clone(), Ticket { ask, person: None, device: None });
    pages::sign_in(call.row.name, &ticket, state.people.keys(), "")
}

fn read(call: &Call<'_>, state: &State) -> Result<Ask, Stop> {
    let row = call.row;
    let show = |why: Why| Stop::Page(400, format!("{why:?}"));
    let mut client_id = call.page(row.names.0).map_err(show)?;
    if row.style == Style::Feishu && client_id.is_none() {
        client_id = call.page("app_id").map_err(show)?;
    }
    let client = client_id.and_then(|id| state.clients.get(id));
    let client = client.ok_or_else(|| match row.style {
        Style::WeChat => Stop::Page(200, "appid 参数错误".to_owned()),
        Style::Google => {
            Stop::Page(401, "Error 401: invalid_client. The OAuth client was not found.".to_owned())
        }
        _ => Stop::Page(400, "unknown client".to_owned()),
    })?;
    if row.name == "wechat-mp" && call.query.iter().any(|(name, _)| name == "client_id") {
        return Err(Stop::Page(200, String::new()));
    }
    let uri = call.page("redirect_uri").map_err(show)?;
    let uri = uri.map(str::to_owned).or_else(|| {
        // GitHub's may be left out.
        client.redirect_uris.first().filter(|_| row.style == Style::GitHub).cloned()
    });
    let state_value = call.page("state").map_err(show)?.map(str::to_owned);
    let mut ask = Ask { client_id: client.client_id.clone(), state: state_value, ..Ask::default() };
    match uri {
        Some(uri) if redirect_passes(row, client, &uri) => ask.redirect_uri = uri,
        // GitHub says so at the registered address.
        Some(_) if row.style == Style::GitHub && !client.redirect_uris.is_empty() => {
            ask.redirect_uri = client.redirect_uris.first().cloned().unwrap_or_default();
            let words = "The redirect_uri MUST match the registered callback URL for this application.";
            return Err(Stop::Back(ask.into(), "redirect_uri_mismatch", words.to_owned()));
        }
        Some(_) if row.style == Style::WeChat => {
            return Err(Stop::Page(200, "redirect_uri 参数错误".to_owned()));
        }
        Some(_) => return Err(Stop::Page(400, "Error 400: redirect_uri_mismatch".to_owned())),
        None => return Err(Stop::Page(400, "redirect_uri is missing".to_owned())),
    }
    rest(call, client, ask)
}

/// What is wrong from here on is the client's to know.
fn rest(call: &Call<'_>, client: &Client, mut ask: Ask) -> Result<Ask, Stop> {
    let row = call.row;
    if row.state_needed && ask.state.is_none() {
        return Err(Stop::Page(400, "state is missing".to_owned()));
    }
    let kind = call.page("response_type");
    let lax = row.style == Style::GitHub;
    let kind_is_right = matches!(kind, Ok(Some("code"))) || (lax && matches!(kind, Ok(None)));
    if !kind_is_right {
        return Err(match row.style {
            Style::WeChat => Stop::Page(200, "response_type 参数错误".to_owned()),
            _ => Stop::Back(ask.into(), "unsupported_response_type", "only code".to_owned()),
        });
    }
    let repeated = ["scope", "nonce", "code_challenge", "code_challenge_method", "access_type", "prompt"];
    if let Some(name) = repeated.iter().find(|name| call.page(name).is_err()) {
        return Err(Stop::Back(ask.into(), "invalid_request", format!("{name} comes twice")));
    }
    let one = |name: &str| call.page(name).ok().flatten();
    let split = |letter: char| letter.is_whitespace() || (row.comma_scopes && letter == ',');
    let scopes = one("scope").unwrap_or_default();
    ask.scopes = scopes.split(split).filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    let known = |scope: &String| row.scopes.is_empty() || row.scopes.contains(&scope.as_str());
    if !ask.scopes.iter().all(known) || (row.style == Style::WeChat && ask.scopes.len() != 1) {
        return Err(match row.style {
            Style::WeChat => Stop::Page(200, "Scope 参数错误或没有 Scope 权限".to_owned()),
            // GitHub leaves out what it does not know.
            Style::GitHub => {
                ask.scopes.retain(known);
                return pkce(call, client, ask);
            }
            _ => Stop::Back(ask.into(), "invalid_scope", "unknown scope".to_owned()),
        });
    }
    ask.nonce = one("nonce").map(str::to_owned);
    ask.offline = one("access_type") == Some("offline");
    ask.prompted = one("prompt").is_some_and(|prompt| prompt.split(' ').any(|word| word == "consent"));
    pkce(call, client, ask)
}

fn pkce(call: &Call<'_>, client: &Client, mut ask: Ask) -> Result<Ask, Stop> {
    let kind = call.row.pkce;
    if kind == Pkce::None {
        return Ok(ask);
    }
    let challenge = call.page("code_challenge").ok().flatten();
    let method = call.page("code_challenge_method").ok().flatten();
    let plain = match (challenge, method) {
        (Some(_), Some("S256")) => false,
        // Without a method it is plain (RFC 7636, 4.3).
        (Some(_), None | Some("plain")) if kind == Pkce::S256OrPlain => true,
        (None, None) if client.client_secret.is_some() => return Ok(ask),
        (None, None) => {
            return Err(Stop::Back(ask.into(), "invalid_request", "code_challenge is needed".to_owned()));
        }
        _ => {
            return Err(Stop::Back(
                ask.into(),
                "invalid_request",
                "code_challenge_method is not supported".to_owned(),
            ));
        }
    };
    let challenge = challenge.unwrap_or_default();
    if !(43..=128).contains(&challenge.len()) {
        return Err(Stop::Back(ask.into(), "invalid_request", "code_challenge is malformed".to_owned()));
    }
    ask.challenge = Some((challenge.to_owned(), plain));
    Ok(ask)
}

/// Whether codes may be sent there.
pub fn redirect_passes(row: &Row, client: &Client, uri: &str) -> bool {
    if uri.contains('#') {
        return false;
    }
    client.redirect_uris.iter().any(|known| match row.redirects {
        _ if known == uri => true,
        Redirects::Exact => false,
        Redirects::ExactAnyLoopbackPort => portless(known).is_some_and(|known| Some(known) == portless(uri)),
        Redirects::Below => below(known, uri),
    })
}

/// A loopback URL without its port.
fn portless(uri: &str) -> Option<(String, String)> {
    let rest = uri.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    let loopback = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
    (loopback && port.bytes().all(|byte| byte.is_ascii_digit())).then(|| (host.to_owned(), path.to_owned()))
}

/// Same scheme, host and port, and a path that is the registered one or under it.
fn below(known: &str, uri: &str) -> bool {
    let (known, uri) = match (portless(known), portless(uri)) {
        (Some(known), Some(uri)) => (known, uri),
        _ => match (url::Url::parse(known), url::Url::parse(uri)) {
            (Ok(known), Ok(uri)) if uri.username().is_empty() => (
                (known.origin().ascii_serialization(), known.path().to_owned()),
                (uri.origin().ascii_serialization(), uri.path().to_owned()),
            ),
            _ => return false,
        },
    };
    let under = uri.1.split('?').next().unwrap_or_default();
    let start = known.1.trim_end_matches('/');
    known.0 == uri.0
        && !under.contains("..")
        && under.strip_prefix(start).is_some_and(|more| more.is_empty() || more.starts_with('/'))
}

/// The person has answered.
pub fn decide(call: &Call<'_>, state: &mut State, ask: &Ask, person: &str, allowed: bool) -> Native {
    if !allowed {
        return back(call, state, ask, Err(("access_denied", "The person denied the request.")));
    }
    if !state.people.contains_key(person) {
        return pages::problem(400, call.row.name, "there is no such person");
    }
    let code = random_name("c", 32);
    let life = state.settings.code_s.unwrap_or(call.row.code_s);
    let until_ms = call.now + life * 1000;
    let kept = Code { ask: ask.clone(), person: person.to_owned(), until_ms, used: None };
    state.codes.insert(code.clone(), kept);
    back(call, state, ask, Ok(&code))
}

/// The way back to the client: a code, or an error with its words.
fn back(call: &Call<'_>, state: &mut State, ask: &Ask, outcome: Result<&str, (&str, &str)>) -> Native {
    let style = call.row.style;
    let fault = Fault::take(&mut state.faults, Endpoint::Redirect.name(), "");
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: &str| pairs.push((name.to_owned(), value.to_owned()));
    let forced = fault.as_ref().and_then(|fault| fault.error.as_deref());
    let outcome = match forced {
        Some(error) => Err((error, "as asked")),
        None => outcome,
    };
    match &outcome {
        Ok(code) => put("code", code),
        // WeChat comes back with the state alone.
        Err(_) if style == Style::WeChat => {}
        Err((error, words)) => {
            put("error", error);
            if style != Style::AiHubMix {
                put("error_description", words);
            }
        }
    }
    if let Some(state) = &ask.state {
        put("state", state);
    }
    if state.settings.iss.unwrap_or(call.row.iss) {
        put("iss", &super::base(call, state));
    }
    if let (Style::Google, Ok(_)) = (style, &outcome) {
        put("scope", &ask.scopes.join(" "));
        put("authuser", "0");
        put("prompt", if ask.prompted { "consent" } else { "none" });
    }
    if let Some(fault) = &fault {
        fault.divert(&mut pairs);
    }
    let Ok(mut place) = url::Url::parse(&ask.redirect_uri) else {
        return pages::problem(400, call.row.name, "redirect_uri is no URL");
    };
    place.query_pairs_mut().extend_pairs(pairs);
    // After a form, 303: the browser must not send the form on (RFC 9700, 4.12).
    let status = if call.asked.method == http::Method::POST { 303 } else { 302 };
    let headers = vec![("location", place.to_string()), ("cache-control", "no-store".to_owned())];
    Native { status, headers, body: bytes::Bytes::new() }
}

/// The sign-in form came.
pub fn signed_in(call: &Call<'_>, state: &mut State) -> Native {
    let name = call.row.name;
    let key = call.field("ticket");
    let person = call.field("username").trim();
    let Some(ticket) = state.tickets.get_mut(key) else { return stale(name) };
    let Some(known) = state.people.get(person) else {
        return pages::sign_in(name, key, state.people.keys(), "Wrong user name.");
    };
    ticket.person = Some(person.to_owned());
    let untick = call.row.style == Style::Google;
    pages::consent(name, key, &ticket.ask.client_id, &known.name, &ticket.ask.scopes, untick)
}

/// The consent form came.
pub fn consented(call: &Call<'_>, state: &mut State) -> Native {
    let name = call.row.name;
    let Some(mut ticket) = state.tickets.remove(call.field("ticket")) else { return stale(name) };
    let Some(person) = ticket.person else { return stale(name) };
    let allowed = match call.field("answer") {
        "allow" => true,
        "deny" => false,
        _ => return stale(name),
    };
    if call.row.style == Style::Google {
        let left: Vec<&str> =
            call.body.iter().filter(|(name, _)| name == "scope").map(|(_, scope)| scope.as_str()).collect();
        ticket.ask.scopes.retain(|scope| left.contains(&scope.as_str()));
    }
    let Some(code) = ticket.device else { return decide(call, state, &ticket.ask, &person, allowed) };
    let Some(device) = state.devices.get_mut(&code) else { return stale(name) };
    device.answer = Some(allowed.then_some(person));
    pages::notice(name, if allowed { "The device is connected. You may close this page." } else { "Denied." })
}

fn stale(name: &str) -> Native {
    pages::problem(400, name, "This page is out of date. Start again.")
}

/// The page for the user code, and the form on it.
pub fn device_page(call: &Call<'_>, state: &mut State) -> Native {
    let name = call.row.name;
    if call.asked.method == http::Method::GET {
        let given = call.page("user_code").ok().flatten().unwrap_or_default();
        return pages::user_code(name, given, "");
    }
    let given: String = call.field("user_code").trim().to_uppercase();
    let device = state.devices.get(&given).filter(|device| device.answer.is_none());
    let Some(device) = device.filter(|device| device.until_ms > call.now) else {
        return pages::user_code(name, &given, "That code is wrong or has expired.");
    };
    let ticket = random_name("t", 24);
    let kept = Ticket { ask: device.ask.clone(), person: None, device: Some(given) };
    state.tickets.insert(ticket.clone(), kept);
    pages::sign_in(name, &ticket, state.people.keys(), "")
}
