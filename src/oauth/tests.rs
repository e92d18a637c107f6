//! The engine against answers as the providers give them, by their own documentation, and what they see of us.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::web::Outgoing;
use super::*;
use crate::secret::Secret;

/// A provider that says what it was told to say, and keeps what it was asked.
#[derive(Debug, Default)]
struct Script {
    answers: Mutex<Vec<Answer>>,
    seen: Mutex<Vec<Seen>>,
}

#[derive(Clone, Debug)]
struct Seen {
    method: String,
    url: String,
    authorization: String,
    body: String,
}

impl Seen {
    /// A parameter of the form or of the query.
    fn parameter(&self, name: &str) -> Option<String> {
        let url = url::Url::parse(&self.url).unwrap();
        let pairs: Vec<_> =
            url.query_pairs().chain(url::form_urlencoded::parse(self.body.as_bytes())).collect();
        let found: Vec<_> =
            pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.to_string()).collect();
        assert!(found.len() < 2, "{name} comes twice in {self:?}");
        found.into_iter().next()
    }
}

#[async_trait::async_trait]
impl Web for Script {
    async fn send(&self, outgoing: Outgoing) -> Result<Answer, OAuthError> {
        let authorization =
            outgoing.headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
        let body = String::from_utf8(outgoing.body).unwrap();
        let (method, url) = (outgoing.method.to_string(), outgoing.url.to_string());
        self.seen.lock().push(Seen { method, url, authorization, body });
        let mut answers = self.answers.lock();
        if answers.is_empty() {
            return Err(OAuthError::Unavailable { why: "no connection".to_owned(), after: None });
        }
        Ok(answers.remove(0))
    }
}

struct World {
    engine: Engine,
    script: Arc<Script>,
    provider: Provider,
    client: Client,
}

fn world(name: &str, answers: &[(u16, &str)]) -> World {
    let provider = Provider::compile(name, Row::built_in(name).unwrap().unwrap()).unwrap();
    of(provider, answers)
}

fn of(provider: Provider, answers: &[(u16, &str)]) -> World {
    let answers = answers.iter().map(|(status, body)| Answer {
        status: *status,
        retry_after: None,
        body: body.as_bytes().to_vec(),
    });
    let script = Arc::new(Script { answers: Mutex::new(answers.collect()), seen: Mutex::default() });
    let client = Client { id: "client 1".to_owned(), secret: Some(Secret::new("s&cret")) };
    World { engine: Engine::new(script.clone()), script, provider, client }
}

const CALLBACK: &str = "https://weir.example/auth/x/callback";

impl World {
    async fn exchange(&self) -> Result<Grant, OAuthError> {
        let verifier = Some(Secret::new("v".repeat(43))).filter(|_| self.provider.pkce);
        let code = Secret::new("the code");
        self.engine.exchange(&self.provider, &self.client, CALLBACK, &code, verifier.as_ref()).await
    }

    async fn refresh(&self) -> Result<Grant, OAuthError> {
        self.engine.refresh(&self.provider, &self.client, &Secret::new("old")).await
    }

    fn seen(&self) -> Seen {
        self.script.seen.lock().last().cloned().unwrap()
    }

    fn authorize(&self) -> Authorization {
        self.engine.authorize(&self.provider, &self.client, CALLBACK, &Secret::new("st"), &[]).unwrap()
    }
}

fn refusal(result: &Result<Grant, OAuthError>) -> Option<Refusal> {
    result.as_ref().err().and_then(OAuthError::refusal)
}

#[test]
fn every_built_in_row_is_whole() {
    for name in Provider::built_in() {
        let provider = Provider::compile(name, Row::built_in(name).unwrap().unwrap()).unwrap();
        let is_of_people =
            provider.authorize_url.is_some() && provider.userinfo_url.is_some() && provider.knows_people();
        let is_of_accounts = provider.account.as_ref().is_some_and(|account| !account.flows.is_empty());
        assert!(is_of_people || is_of_accounts, "{name} is good for nothing");
    }
}

#[tokio::test]
async fn the_usual_code_exchange_is_the_standards() {
    let world = world(
        "google",
        &[(
            200,
            r#"{"access_token":"ya29.a","expires_in":3599,"refresh_token":"1//r","scope":"openid email","token_type":"Bearer","id_token":"a.b.c"}"#,
        )],
    );
    let began = world.authorize();
    let url = began.url.to_string();
    for part in [
        "access_type=offline",
        "prompt=consent",
        "response_type=code",
        "state=st",
        "code_challenge_method=S256",
    ] {
        assert!(url.contains(part), "{part} in {url}");
    }
    assert!(!url.contains(began.verifier.unwrap().expose()), "the verifier stays here");
    let grant = world.exchange().await.unwrap();
    assert_eq!((grant.access.expose(), grant.refresh.unwrap().expose()), ("ya29.a", "1//r"));
    assert_eq!((grant.lifetime, grant.scopes.len()), (Some(Duration::from_secs(3599)), 2));
    let seen = world.seen();
    assert_eq!((seen.method.as_str(), seen.url.as_str()), ("POST", "https://oauth2.googleapis.com/token"));
    let wanted = [
        ("grant_type", "authorization_code"),
        ("code", "the code"),
        ("redirect_uri", CALLBACK),
        ("client_id", "client 1"),
        ("client_secret", "s&cret"),
        ("code_verifier", &"v".repeat(43)),
    ];
    for (name, value) in wanted {
        assert_eq!(seen.parameter(name).as_deref(), Some(value), "{name}");
    }
}

#[tokio::test]
async fn githubs_errors_come_with_200_and_its_scopes_with_commas() {
    let bad =
        r#"{"error":"bad_verification_code","error_description":"The code passed is incorrect or expired."}"#;
    let good = r#"{"access_token":"gho_x","scope":"read:user,user:email","token_type":"bearer"}"#;
    let form = "access_token=gho_y&scope=read%3Auser&token_type=bearer";
    let world = world("github", &[(200, bad), (200, good), (200, form)]);
    assert_eq!(refusal(&world.exchange().await), Some(Refusal::InvalidGrant));
    let grant = world.exchange().await.unwrap();
    assert_eq!(
        (grant.scopes.as_slice(), grant.lifetime),
        (&["read:user".to_owned(), "user:email".to_owned()][..], None)
    );
    assert_eq!(world.exchange().await.unwrap().access.expose(), "gho_y");
}

#[tokio::test]
async fn a_person_at_github_is_a_number_and_never_a_name() {
    let me = r#"{"login":"ann","id":9007199254740993,"avatar_url":"https://a","name":null,"email":null}"#;
    let emails = r#"[{"email":"x@x","verified":false,"primary":true},{"email":"ann@x.io","verified":true,"primary":false}]"#;
    let good = r#"{"access_token":"gho_x"}"#;
    let world = world("github", &[(200, good), (200, me), (200, emails)]);
    let grant = world.exchange().await.unwrap();
    let person = world.engine.who(&world.provider, &world.client, &grant, None).await.unwrap();
    assert_eq!(person.subject, "9007199254740993", "above 2^53, digit by digit");
    assert_eq!((person.name.as_deref(), person.email.as_deref()), (Some("ann"), Some("ann@x.io")));
    assert!(person.email_is_verified);
}

#[tokio::test]
async fn wechat_is_asked_by_get_under_its_own_names() {
    let good = r#"{"access_token":"A","expires_in":7200,"refresh_token":"R","openid":"oABC","scope":"snsapi_login,"}"#;
    let me = r#"{"openid":"oABC","nickname":"Ann","headimgurl":"https://h","privilege":[]}"#;
    let used = r#"{"errcode":40163,"errmsg":"code been used, rid: 1"}"#;
    let world = world("wechat-open", &[(200, good), (200, me), (200, used), (200, good)]);
    assert_eq!(
        world.authorize().url.as_str(),
        "https://open.weixin.qq.com/connect/qrconnect?appid=client+1&redirect_uri=https%3A%2F%2Fweir.example%2Fauth%2Fx%2Fcallback&response_type=code&scope=snsapi_login&state=st&lang=cn#wechat_redirect"
    );
    let grant = world.exchange().await.unwrap();
    let seen = world.seen();
    assert_eq!((seen.method.as_str(), seen.body.as_str()), ("GET", ""));
    assert_eq!(
        (seen.parameter("appid").as_deref(), seen.parameter("secret").as_deref()),
        (Some("client 1"), Some("s&cret"))
    );
    assert_eq!((seen.parameter("client_id"), seen.parameter("redirect_uri")), (None, None));
    let person = world.engine.who(&world.provider, &world.client, &grant, None).await.unwrap();
    assert_eq!(
        person.subject, "client 1/oABC",
        "without a union id: the application's own name for this person"
    );
    let seen = world.seen();
    assert_eq!(
        (seen.parameter("openid").as_deref(), seen.parameter("access_token").as_deref()),
        (Some("oABC"), Some("A"))
    );
    assert_eq!(refusal(&world.exchange().await), Some(Refusal::InvalidGrant));
    world.refresh().await.unwrap();
    let seen = world.seen();
    assert!(seen.url.starts_with("https://api.weixin.qq.com/sns/oauth2/refresh_token?"));
    assert_eq!(seen.parameter("secret"), None, "a refresh goes without it");
}

#[tokio::test]
async fn linuxdo_wants_basic_and_shows_a_key_that_nobody_reads() {
    let me = r#"{"id":124,"username":"neo","name":"Neo","active":true,"trust_level":2,"api_key":"CANARY"}"#;
    let silenced = r#"{"id":125,"username":"old","active":false}"#;
    let good = r#"{"access_token":"l","token_type":"Bearer","expires_in":"3600"}"#;
    let world = world("linuxdo", &[(200, good), (200, me), (200, silenced), (401, r#"{"message":"no"}"#)]);
    let grant = world.exchange().await.unwrap();
    assert_eq!(grant.lifetime, Some(Duration::from_secs(3600)), "a number in quotes");
    let seen = world.seen();
    assert_eq!(seen.authorization, "Basic Y2xpZW50KzE6cyUyNmNyZXQ=", "each part form-encoded first");
    assert_eq!((seen.parameter("client_id"), seen.parameter("client_secret")), (None, None));
    let person = world.engine.who(&world.provider, &world.client, &grant, None).await.unwrap();
    assert!(person.subject == "124" && !format!("{person:?}").contains("CANARY"));
    let refused = world.engine.who(&world.provider, &world.client, &grant, None).await.unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::AccessDenied));
    assert_eq!(refusal(&world.exchange().await), Some(Refusal::InvalidClient));
}

#[tokio::test]
async fn feishu_speaks_json_and_hides_its_errors_behind_200() {
    let bad = r#"{"code":20010,"error":"access_denied","error_description":"this user may not use the app"}"#;
    let good = r#"{"code":0,"access_token":"eyJ","expires_in":7200,"refresh_token":"r2","token_type":"Bearer","scope":"auth:user.id:read offline_access"}"#;
    let me = r#"{"code":0,"msg":"success","data":{"name":"Ann","open_id":"ou","union_id":"on","user_id":"u","email":"a@x"}}"#;
    let world = world("feishu", &[(200, bad), (200, good), (200, me)]);
    assert_eq!(refusal(&world.exchange().await), Some(Refusal::AccessDenied));
    let grant = world.exchange().await.unwrap();
    let body: Value = serde_json::from_str(&world.seen().body).unwrap();
    assert_eq!(body["client_secret"], json!("s&cret"));
    assert_eq!(body["grant_type"], json!("authorization_code"));
    assert_eq!(grant.refresh.as_ref().unwrap().expose(), "r2");
    let person = world.engine.who(&world.provider, &world.client, &grant, None).await.unwrap();
    assert_eq!((person.subject.as_str(), person.email_is_verified), ("on", false));
}

/// O3: whatever a token endpoint says, it is a refusal, trouble or nonsense, and never a panic or a token without an end.
#[tokio::test]
async fn o3_what_token_endpoints_say() {
    let lifetime = |text: &str| format!(r#"{{"access_token":"a","expires_in":{text}}}"#);
    for (text, seconds) in [
        ("0", 60),
        ("-1", 60),
        ("\"3600\"", 3600),
        ("1e12", 10 * 366 * 86_400),
        ("3599.5", 3599),
        ("null", 3600),
        ("\"soon\"", 3600),
    ] {
        let world = world("gitee", &[(200, &lifetime(text))]);
        assert_eq!(world.refresh().await.unwrap().lifetime, Some(Duration::from_secs(seconds)), "{text}");
    }
    let grant =
        world("gitee", &[(200, r#"{"access_token":"a","refresh_token":""}"#)]).refresh().await.unwrap();
    assert!(grant.refresh.is_none(), "an empty one is none: the old one is kept");
    for (status, body) in [(500, "{}"), (502, "<html>"), (429, "slow down"), (503, "")] {
        let failed = world("gitee", &[(status, body)]).refresh().await.unwrap_err();
        assert!(matches!(failed, OAuthError::Unavailable { .. }), "{status}: {failed:?}");
    }
    for (status, body) in [
        (200, "<html>hello</html>"),
        (200, ""),
        (200, "[1]"),
        (200, "{}"),
        (200, r#"{"access_token":7}"#),
        (404, "no"),
    ] {
        let failed = world("gitee", &[(status, body)]).refresh().await.unwrap_err();
        assert!(failed.is_transient(), "{status} {body}: {failed:?}");
        assert!(!failed.to_string().contains(body) || body.len() < 3, "what came is not passed on: {failed}");
    }
    let dead = [
        (400, r#"{"error":"invalid_grant"}"#),
        (401, r#"{"error":"invalid_grant","error_description":"x"}"#),
    ];
    for (status, body) in dead {
        assert_eq!(refusal(&world("gitee", &[(status, body)]).refresh().await), Some(Refusal::InvalidGrant));
    }
    let long = format!(r#"{{"error":"invalid_grant","error_description":"{}\u001b[31m"}}"#, "x".repeat(5000));
    let failed = world("gitee", &[(400, &long)]).refresh().await.unwrap_err().to_string();
    assert!(failed.len() < 400 && !failed.contains('\u{1b}'), "{failed}");
}

#[tokio::test]
async fn a_device_code_is_asked_about_until_it_is_used() {
    let row: Row = serde_saphyr::from_str(
        "{token_url: 'https://t.example/token', device_url: 'https://t.example/device', scopes: [a, b], client_auth: none, quirks: [device_pkce], carry: [resource_url], resource_hosts: ['*.qwen.ai']}",
    )
    .unwrap();
    let provider = Provider::compile("made-up", row).unwrap();
    let began = r#"{"device_code":"d","user_code":"ABCD-EFGH","verification_url":"https://t.example/a","expires_in":900}"#;
    let world = of(
        provider,
        &[
            (200, began),
            (428, r#"{"error":"authorization_pending"}"#),
            (429, r#"{"error":"slow_down"}"#),
            (200, ""),
            (200, r#"{"access_token":"q","expires_in":21600,"resource_url":"portal.qwen.ai"}"#),
            (200, r#"{"access_token":"q","resource_url":"evil.example/.qwen.ai"}"#),
            (401, r#"{"error":"expired_token"}"#),
        ],
    );
    let code = world.engine.device_code(&world.provider, &world.client).await.unwrap();
    assert_eq!((code.user_code.as_str(), code.interval.as_secs()), ("ABCD-EFGH", 5));
    let seen = world.seen();
    assert_eq!(seen.parameter("scope").as_deref(), Some("a b"));
    assert_eq!(seen.parameter("code_challenge_method").as_deref(), Some("S256"));
    assert_eq!(seen.parameter("client_secret"), None, "a public client has none");
    let poll = async |interval: u64| {
        let interval = Duration::from_secs(interval);
        world
            .engine
            .poll(&world.provider, &world.client, &code.device_code, code.verifier.as_ref(), interval)
            .await
    };
    let mut waits = Vec::new();
    for _ in 0..3 {
        match poll(5).await.unwrap() {
            Polled::Pending(wait) => waits.push(wait.as_secs()),
            Polled::Granted(_) => panic!("too early"),
        }
    }
    assert_eq!(waits, [5, 10, 10], "pending, slow down, nothing at all");
    assert_eq!(
        world.seen().parameter("code_verifier"),
        Some(code.verifier.as_ref().unwrap().expose().to_owned())
    );
    let Polled::Granted(grant) = poll(5).await.unwrap() else { panic!("granted") };
    assert_eq!(grant.carried["resource_url"], "https://portal.qwen.ai/v1");
    let Polled::Granted(grant) = poll(5).await.unwrap() else { panic!("granted") };
    assert!(grant.carried.is_empty(), "a host that nobody configured gets no token");
    assert_eq!(poll(5).await.unwrap_err().refusal(), Some(Refusal::ExpiredToken));
}

#[tokio::test]
async fn revocation_is_gone_is_gone() {
    let secret = Secret::new("t");
    for (status, body, is_ok) in [
        (200, "", true),
        (400, r#"{"error":"invalid_token"}"#, true),
        (503, "", false),
        (400, r#"{"error":"invalid_client"}"#, false),
    ] {
        let world = world("google", &[(status, body)]);
        let revoked = world.engine.revoke(&world.provider, &world.client, &secret, "refresh_token").await;
        assert_eq!(revoked.is_ok(), is_ok, "{status} {body}");
    }
    let world = world("github", &[(204, "")]);
    world.engine.revoke(&world.provider, &world.client, &secret, "access_token").await.unwrap();
    let seen = world.seen();
    assert_eq!((seen.method.as_str(), seen.body.as_str()), ("DELETE", r#"{"access_token":"t"}"#));
    assert_eq!(seen.url, "https://api.github.com/applications/client%201/token");
    assert!(seen.authorization.starts_with("Basic "));
}

#[test]
fn rows_that_would_send_secrets_astray_are_refused() {
    for url in [
        "http://t.example/",
        "ftp://t.example/",
        "https://u:p@t.example/",
        "https://t.example/#x",
        "//t.example",
        "x",
    ] {
        let row = Row { token_url: Some(url.to_owned()), ..Row::default() };
        assert_eq!(Provider::compile("x", row).unwrap_err().field, "token_url", "{url}");
    }
    for url in ["https://t.example/x?y=z", "http://127.0.0.1:1/", "http://[::1]/", "http://localhost:9/"] {
        let row = Row { token_url: Some(url.to_owned()), ..Row::default() };
        assert!(Provider::compile("x", row).is_ok(), "{url}");
    }
    assert!(Provider::compile("x", Row::default()).is_err());
}

#[tokio::test]
async fn an_issuer_is_asked_where_its_endpoints_are() {
    let provider = || {
        let row: Row = serde_saphyr::from_str(
            "{issuer: 'https://id.example/t1/', token_url: 'https://own.example/token'}",
        )
        .unwrap();
        Provider::compile("made-up", row).unwrap()
    };
    let document = |issuer: &str, authorize: &str, methods: &str| {
        format!(
            r#"{{"issuer":"{issuer}","authorization_endpoint":"{authorize}","token_endpoint":"https://id.example/token","jwks_uri":"https://id.example/jwks","code_challenge_methods_supported":[{methods}],"authorization_response_iss_parameter_supported":true,"id_token_signing_alg_values_supported":["RS256"]}}"#
        )
    };
    let good = document("https://id.example/t1/", "https://id.example/auth", r#""S256""#);
    let world = of(provider(), &[(200, &good)]);
    let settled = world.engine.settled(&world.provider).await.unwrap();
    assert_eq!(world.seen().url, "https://id.example/t1/.well-known/openid-configuration");
    assert_eq!(settled.authorize_url.as_ref().unwrap().as_str(), "https://id.example/auth");
    assert_eq!(
        settled.token_url.as_ref().unwrap().as_str(),
        "https://own.example/token",
        "what the operator wrote counts"
    );
    assert!(settled.pkce && settled.says_issuer);
    assert_eq!(settled.client_auth, super::row::ClientAuth::Basic, "as the standard says where it does not");
    assert!(
        settled.knows_people() && settled.scopes == ["openid", "profile", "email"],
        "nothing to be written"
    );
    let old = document("https://id.example/t1/", "https://id.example/auth", "");
    let world = of(provider(), &[(200, &old)]);
    assert!(world.engine.settled(&world.provider).await.unwrap().pkce, "whatever it says that it knows");
    for bad in [
        document("https://id.example/t1", "https://id.example/auth", ""),
        document("https://id.example/T1/", "https://id.example/auth", ""),
        document("https://id.example/t1/", "http://169.254.169.254/auth", ""),
        document("https://id.example/t1/", "https://u:p@id.example/auth", ""),
        document("https://id.example/t1/", "http://127.0.0.1:6379/auth", ""),
        document("https://id.example/t1/", "http://localhost/auth", ""),
        document("https://id.example/t1/", "https://10.0.0.1/auth", ""),
        document("https://id.example/t1/", "https://[::ffff:192.168.0.1]/auth", ""),
        document("https://id.example/t1/", "https://[fd00::1]/auth", ""),
        document("https://id.example/t1/", "https://2130706433/auth", ""),
        "{}".to_owned(),
        "<html>".to_owned(),
    ] {
        let world = of(provider(), &[(200, &bad)]);
        assert!(matches!(world.engine.settled(&world.provider).await, Err(OAuthError::Nonsense(_))), "{bad}");
    }
}

#[tokio::test]
async fn too_many_questions_are_no_refusal() {
    let limited = r#"{"error":"rate_limit_exceeded","error_description":"wait"}"#;
    let world = world("google", &[(429, limited), (429, r#"{"error":"slow_down"}"#)]);
    let failed = world.exchange().await.unwrap_err();
    assert!(matches!(failed, OAuthError::Unavailable { .. }) && failed.is_transient(), "{failed:?}");
    assert_eq!(refusal(&world.exchange().await), Some(Refusal::SlowDown));
    // A device's question goes on, and not before it was told to.
    let row = Row { client_id: Some("c".to_owned()), ..Row::built_in("qwen").unwrap().unwrap() };
    let world = of(Provider::compile("qwen", row).unwrap(), &[(429, limited)]);
    world.script.answers.lock()[0].retry_after = Some(Duration::from_secs(30));
    let code = Secret::new("device");
    let asked = world.engine.poll(&world.provider, &world.client, &code, None, Duration::from_secs(5)).await;
    assert!(matches!(asked, Ok(Polled::Pending(pause)) if pause == Duration::from_secs(30)), "{asked:?}");
}

#[tokio::test]
async fn a_token_of_another_kind_is_none() {
    for kind in ["MAC", "DPoP", "N_A", "mac"] {
        let body = format!(r#"{{"access_token":"t","token_type":"{kind}"}}"#);
        let failed = world("google", &[(200, &body)]).exchange().await;
        assert!(matches!(failed, Err(OAuthError::Nonsense(_))), "{kind}: {failed:?}");
    }
    for kind in ["\"bearer\"", "\"Bearer\"", "\"BEARER\"", "\"\"", "null"] {
        let body = format!(r#"{{"access_token":"t","token_type":{kind}}}"#);
        let granted = world("google", &[(200, &body)]).exchange().await;
        assert!(granted.is_ok(), "{kind}: {granted:?}");
    }
}

#[tokio::test]
async fn for_tokens_alone_nobody_asks_for_the_keys_of_id_tokens() {
    let world = world("huggingface", &[]);
    let settled = world.engine.settled_for_tokens(&world.provider).await.unwrap();
    assert!(settled.token_url.is_some() && world.script.seen.lock().is_empty());
    // Where something is missing that tokens need, the issuer is asked.
    let row = Row::built_in("huggingface").unwrap().unwrap();
    let world = of(Provider::compile("x", Row { device_url: None, ..row }).unwrap(), &[]);
    assert!(world.engine.settled_for_tokens(&world.provider).await.is_err());
    assert_eq!(world.script.seen.lock().len(), 1);
}
