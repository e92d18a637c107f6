//! In which shape an error is told: by path, whoever it is that finds it (a handler, the router, whoever reads the body), since that
//! is all that a client of one API can know.

use serde_json::{Value, json};

use super::browser::doors;
use super::house::{Answer, House, Raw, start_fake};
use super::idp::owner;

/// How an error looks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `{"code", "message", "data"}`.
    Envelope,
    /// The same, where browsers come by.
    Guarded,
    /// `{"success", "message", "data"}`.
    Apps,
    /// RFC 6749, 5.2.
    OAuth,
}

use Shape::{Apps, Envelope, Guarded, OAuth, OpenAi};

/// What is sent: a method, a path and a body.
type Case = (&'static str, &'static str, &'static str);

const FORM: &str = "grant_type=authorization_code";
const HALF: &str = "{\"platform\":";
/// More than the control plane takes; written out where it is sent.
const LARGE: &str = "$LARGE";
/// Less than it says that it is.
const SLOW: &str = "$SLOW";

const CASES: [(Case, u16, Shape); 56] = [
    (("GET", "/api/v1/oauth", ""), 404, Envelope),
    (("GET", "/api/v1/oauth/", ""), 404, Envelope),
    (("GET", "/api/v1/oauth/nothing", ""), 404, Envelope),
    (("POST", "/api/v1/oauth/accounts/x/y/z", "{}"), 404, Envelope),
    (("GET", "/api/v1/oauth/c%61llback", ""), 404, Envelope),
    (("GET", "/api/v1/oauth/%FF", ""), 404, Envelope),
    (("GET", "/api/v1/oauth/initiate", ""), 405, Envelope),
    (("DELETE", "/api/v1/oauth/accounts", ""), 405, Envelope),
    (("PATCH", "/api/v1/oauth/accounts/x", "{}"), 405, Envelope),
    (("GET", "/api/v1/oauth/chat/completions", ""), 405, Envelope),
    (("OPTIONS", "/api/v1/oauth/platforms", ""), 405, Envelope),
    (("DELETE", "/api/v1/oauth/accounts/%FF", ""), 400, Envelope),
    (("PUT", "/api/v1/oauth/accounts/%FF/toggle", ""), 400, Envelope),
    (("POST", "/api/v1/oauth/accounts/%FF/refresh", ""), 400, Envelope),
    (("POST", "/api/v1/oauth/initiate", HALF), 400, Envelope),
    (("POST", "/api/v1/oauth/initiate", "[]"), 400, Envelope),
    (("POST", "/api/v1/oauth/initiate", ""), 400, Envelope),
    (("POST", "/api/v1/oauth/accounts", "\u{0}"), 400, Envelope),
    (("PUT", "/api/v1/oauth/accounts/x/toggle", HALF), 400, Envelope),
    (("POST", "/api/v1/oauth/chat/completions", HALF), 400, Envelope),
    (("POST", "/api/v1/oauth/initiate", LARGE), 413, Envelope),
    (("POST", "/api/v1/oauth/nothing", LARGE), 413, Envelope),
    (("POST", "/api/v1/oauth/accounts", SLOW), 400, Envelope),
    (("GET", "/api/v1/oauth/$LARGE", ""), 414, Envelope),
    (("DELETE", "/api/v1/oauth/callback", ""), 405, Guarded),
    (("GET", "/api/v1/oauth/callback", ""), 400, Guarded),
    (("GET", "/api/v1/oauth/callback/%FF?state=x&code=y", ""), 400, Guarded),
    (("POST", "/api/v1/oauth/callback", HALF), 400, Guarded),
    (("POST", "/api/v1/oauth/callback", "{\"url\":\"x\"}"), 400, Guarded),
    (("POST", "/api/v1/oauth/callback", LARGE), 413, Guarded),
    (("GET", "/huggingface-callback", ""), 400, Guarded),
    (("GET", "/huggingface-callback?error=access_denied&state=x", ""), 400, Guarded),
    (("GET", "/huggingface-callback?state=1a.x&code=y", ""), 400, Guarded),
    (("POST", "/huggingface-callback", "{}"), 405, Guarded),
    (("POST", "/huggingface-callback/html", "{}"), 405, Guarded),
    (("POST", "/huggingface-callback", SLOW), 400, Guarded),
    (("DELETE", "/auth", ""), 405, Guarded),
    (("GET", "/auth/%FF", ""), 400, Guarded),
    (("GET", "/auth/%FF/callback", ""), 400, Guarded),
    (("DELETE", "/auth/links/%FF", ""), 400, Guarded),
    (("GET", "/auth/a/b/c", ""), 404, Guarded),
    (("POST", "/account", LARGE), 413, Guarded),
    (("GET", "/api/oauth2/token", ""), 405, OAuth),
    (("DELETE", "/api/oauth2/revoke", ""), 405, OAuth),
    (("GET", "/api/oauth2/introspect", ""), 405, OAuth),
    (("POST", "/api/oauth2/token", LARGE), 413, OAuth),
    (("POST", "/api/oauth2/revoke", SLOW), 400, OAuth),
    (("POST", "/api/oauth2/introspect", FORM), 401, OAuth),
    (("POST", "/api/oauth2/token", "{}"), 401, OAuth),
    (("POST", "/api/oauth2/token?x=y", FORM), 400, OAuth),
    (("DELETE", "/api/oauth_apps/%FF", ""), 400, Apps),
    (("PATCH", "/api/oauth_apps", "{}"), 405, Apps),
    (("GET", "/v1/models/%FF", ""), 400, OpenAi),
    (("GET", "/v1/nothing", ""), 404, OpenAi),
    (("GET", "/api/v1/oauthx", ""), 404, OpenAi),
    (("DELETE", "/api/oauth2/grants/%FF", ""), 400, OpenAi),
];

/// Sends it as it is: no client's own idea of an address comes between.
async fn send(house: &House, (method, path, body): Case) -> Answer {
    let path = path.replace(LARGE, &"x".repeat(9 * 1024));
    let is_form = path.starts_with("/api/oauth2/");
    let kind = if is_form { "application/x-www-form-urlencoded" } else { "application/json" };
    let (body, length) = match body {
        LARGE => ("x".repeat(300 * 1024), 300 * 1024),
        SLOW => ("x".to_owned(), 2),
        body => (body.to_owned(), body.len()),
    };
    let who = if is_form { String::new() } else { format!("authorization: Bearer {}\r\n", owner()) };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {}\r\n{who}content-type: {kind}\r\ncontent-length: {length}\r\n\r\n",
        house.listen
    );
    let mut connection: Raw = house.connect().await;
    // What is too large is refused while it comes.
    connection.send(head.as_bytes()).await;
    connection.send(body.as_bytes()).await;
    connection.answer().await.expect("an answer")
}

/// What is wrong with the shape of an answer.
fn amiss(answer: &Answer, status: u16, shape: Shape) -> Option<String> {
    if answer.status != status {
        return Some(format!("{} in place of {status}", answer.status));
    }
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else { return Some("no JSON".to_owned()) };
    let mut members: Vec<&str> =
        body.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    members.sort_unstable();
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let is_right = match shape {
        OpenAi => members == ["error"] && is_text(&body["error"]["message"]),
        Envelope | Guarded => {
            members == ["code", "data", "message"]
                && body["code"] == json!(status)
                && body["data"].is_null()
                && is_text(&body["message"])
        }
        Apps => {
            members == ["data", "message", "success"]
                && body["success"] == json!(false)
                && is_text(&body["message"])
        }
        OAuth => {
            let words = ["invalid_request", "invalid_client"];
            members == ["error", "error_description"]
                && body["error"].as_str().is_some_and(|word| words.contains(&word))
        }
    };
    if !is_right {
        return Some(format!("not {shape:?}: {body}"));
    }
    let mut wanted = vec![("content-type", "application/json")];
    match shape {
        Guarded => wanted.extend([
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
        ]),
        // Apps in browsers read what went wrong.
        OAuth => wanted.extend([("cache-control", "no-store"), ("access-control-allow-origin", "*")]),
        Envelope | Apps | OpenAi => {}
    }
    let lacks = wanted.into_iter().find(|(name, value)| answer.header(name) != *value);
    lacks.map(|(name, value)| format!("{name} is '{}', not {value}", answer.header(name)))
}

async fn house() -> House {
    let fake = start_fake("");
    let doors = doors(fake, &["oidc"], Some("https://weir.test"), "tenant: alpha").await;
    let accounts = "accounts: [{id: a, platform: openai, api_key: sk-a}]\ntimeouts: {client_idle: 300ms}\n";
    House::start_beside(fake, &format!("{accounts}{doors}provider: {{enabled: true}}\n"), &[]).await
}

#[tokio::test]
async fn a_path_says_in_which_shape_its_errors_are() {
    let house = house().await;
    let mut wrong = Vec::new();
    for (case, status, shape) in CASES {
        let told = send(&house, case).await;
        if let Some(why) = amiss(&told, status, shape) {
            wrong.push(format!("{} {}: {why}", case.0, case.1));
        }
        if told.status == 405 {
            assert!(!told.header("allow").is_empty(), "{case:?}");
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} are not as they must be:\n{}",
        wrong.len(),
        CASES.len(),
        wrong.join("\n")
    );
}

/// Where no apps are served, their endpoints still answer as such endpoints do.
#[tokio::test]
async fn what_is_not_served_is_refused_in_the_same_shape() {
    let house = House::start("accounts: [{id: a, platform: openai, api_key: sk-a}]\n").await;
    for path in ["/api/oauth2/token", "/api/oauth2/revoke", "/api/oauth2/introspect"] {
        assert_eq!(amiss(&send(&house, ("POST", path, FORM)).await, 404, OAuth), None, "{path}");
    }
}
