//! Who may do what: tenants apart, operators' endpoints shut, and nothing in a request that changes whom it comes from,
//! what it may use or where it goes (A4-A9, S1, S3, R14.4).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::house::{Answer, House, mint, mint_with, question, whole};

/// Tenants with an account each, and one that everybody may use.
const TENANTS: &str = "accounts:
  - {id: of-alpha, platform: openai, api_key: sk-alpha, tenants: [alpha], owner: alpha, models: [gpt-4o]}
  - {id: of-beta, platform: claude, api_key: sk-ant-beta, tenants: [beta], owner: beta, models: [claude-sonnet-4-5]}
  - {id: of-all, platform: qwen, api_key: sk-all, models: [qwen-plus]}";

async fn ask_as(house: &House, token: &str, body: &Value) -> Answer {
    whole(house.client.post(house.url("/v1/chat/completions")).bearer_auth(token).json(body)).await
}

#[tokio::test]
async fn a_tenant_sees_and_uses_its_own_accounts_alone() {
    let house = House::start(TENANTS).await;
    let token = |tenant: &str| mint(json!({"tenant": tenant, "scope": "chat"}));
    let models = ["openai/gpt-4o", "claude/claude-sonnet-4-5", "qwen/qwen-plus"];
    for (tenant, allowed) in [
        ("alpha", [true, false, true]),
        ("beta", [false, true, true]),
        ("gamma", [false, false, true]),
        ("", [false, false, true]),
    ] {
        let token =
            if tenant.is_empty() { mint(json!({"tenant": null, "scope": "chat"})) } else { token(tenant) };
        let list = whole(house.client.get(house.url("/v1/models")).bearer_auth(&token)).await.json();
        let listed: Vec<&str> = list["data"]
            .as_array()
            .expect("models")
            .iter()
            .filter_map(|model| model["id"].as_str())
            .collect();
        for (model, allowed) in models.iter().zip(allowed) {
            house.reset().await;
            let answer = ask_as(&house, &token, &question(model, "hi", false)).await;
            assert_eq!(answer.status == 200, allowed, "{tenant} on {model}: {}", answer.text());
            assert_eq!(house.requests().await.len(), usize::from(allowed), "{tenant} on {model}");
            let bare = model.split_once('/').expect("a platform").1;
            assert_eq!(
                listed.iter().any(|id| *id == bare || id == model),
                allowed,
                "{tenant} lists {listed:?}"
            );
            let one =
                whole(house.client.get(house.url(&format!("/v1/models/{model}"))).bearer_auth(&token)).await;
            assert_eq!(one.status == 200, allowed, "{tenant} sees {model}: {}", one.text());
        }
        // Nothing says that the others are there.
        for other in ["of-alpha", "of-beta"].iter().filter(|id| !id.ends_with(tenant) || tenant.is_empty()) {
            assert!(!list.to_string().contains(other));
        }
    }
}

/// Credentials by name, and the status that each of them gets at an operator's endpoint.
fn credentials(house: &House, key: &str, operator: &str) -> Vec<(&'static str, String, u16)> {
    vec![
        ("none", String::new(), 401),
        ("bad", "nonsense".to_owned(), 401),
        ("empty", "Bearer ".to_owned(), 401),
        ("expired", format!("Bearer {}", mint(json!({"exp": 1_700_000_000}))), 401),
        (
            "of another secret",
            format!("Bearer {}", mint_with("another secret of more than 32 bytes", json!({}))),
            401,
        ),
        ("caller", format!("Bearer {}", mint(json!({"scope": "chat"}))), 403),
        ("caller without scopes", format!("Bearer {}", mint(json!({"scope": null}))), 403),
        ("caller with scope accounts", format!("Bearer {}", mint(json!({"scope": "accounts"}))), 403),
        ("almost admin", format!("Bearer {}", mint(json!({"scope": "ADMIN admin:read adminx"}))), 403),
        ("key", format!("Bearer {key}"), 403),
        ("the operator token cut short", format!("Bearer {}", &operator[..operator.len() - 1]), 401),
        ("the operator token as basic", format!("Basic {operator}"), 401),
        ("admin", format!("Bearer {}", house.token), 200),
        ("operator", format!("Bearer {operator}"), 200),
    ]
}

#[tokio::test]
async fn every_operators_endpoint_against_every_credential() {
    let house = House::start(TENANTS).await;
    let made = house.client.post(house.admin_url("/admin/keys")).bearer_auth(&house.token);
    let made = whole(made.json(&json!({"name": "plain", "tenant": "alpha", "scopes": ["chat", "accounts"]})))
        .await
        .json();
    let key = made["key"].as_str().expect("a key").to_owned();
    let id = made["record"]["id"].as_str().expect("an id").to_owned();
    let operator = std::fs::read_to_string(house.folder().join("store/operator.token")).expect("a token");
    let credentials = credentials(&house, &key, &operator);
    let revoke = format!("/admin/keys/{id}");
    let paths = [
        (Method::GET, "/admin/accounts"),
        (Method::GET, "/admin/keys"),
        (Method::POST, "/admin/reload"),
        (Method::POST, "/admin/keys"),
        (Method::DELETE, revoke.as_str()),
    ];
    for (method, path) in paths {
        for (name, credential, expected) in &credentials {
            let send = |url: String| {
                let request = house.client.request(method.clone(), url).header("authorization", credential);
                whole(request.json(&json!({"name": "new", "tenant": "alpha", "scopes": ["chat"]})))
            };
            let answer = send(house.admin_url(path)).await;
            assert_eq!(answer.status, *expected, "{method} {path} with {name}: {}", answer.text());
            // On the callers' side there is no such thing, whoever asks.
            let public = send(house.url(path)).await;
            assert_eq!(
                public.status,
                404,
                "{method} {path} on the public port with {name}: {}",
                public.text()
            );
            assert_eq!(send(house.url("/metrics")).await.status, 404);
        }
        for spelled in [
            path.to_uppercase(),
            format!("/{path}"),
            format!("{path}/"),
            format!("/x/..{path}"),
            format!("{path}%2f"),
        ] {
            let request = house.client.request(method.clone(), house.admin_url(&spelled)).json(&json!({}));
            let answer = whole(request).await;
            assert!(matches!(answer.status, 401 | 404 | 405), "{spelled}: {}", answer.status);
        }
    }
    let wrong =
        whole(house.client.delete(house.admin_url("/admin/accounts")).bearer_auth(&house.token)).await;
    assert_eq!(wrong.status, 405);
}

#[tokio::test]
async fn an_empty_or_short_secret_refuses_to_start() {
    let house = House::start("accounts: []").await;
    for secret in [
        "\"\"",
        "''",
        "~",
        "\"   \"",
        "\"${EMPTY_SECRET_OF_A_TEST}\"",
        "short",
        "0123456789012345678901234567890",
    ] {
        let text = house.complete(&format!(
            "auth: {{jwt: [{{issuer: house, audience: weir, secret: {secret}}}]}}\naccounts: []"
        ));
        let text = text
            .replace(&house.listen.to_string(), "127.0.0.1:1")
            .replace(&house.admin.to_string(), "127.0.0.1:2");
        house.write_raw(&text);
        for command in ["check", "serve"] {
            let (good, said) = house.run(&[command]).await;
            assert!(!good, "{command} took {secret}: {said}");
            assert!(
                said.contains("secret") || said.contains("EMPTY_SECRET") || said.contains("key"),
                "{secret}: {said}"
            );
        }
        assert_eq!(house.admin(Method::POST, "/admin/reload").await.status, 400, "{secret}");
    }
    // And the gateway that ran before still takes its own tokens, and none signed with nothing.
    assert_eq!(house.get("/v1/models").await.status, 200);
    for secret in ["", " ", "short"] {
        let token = mint_with(secret, json!({}));
        let answer = whole(house.client.get(house.url("/v1/models")).bearer_auth(token)).await;
        assert_eq!(answer.status, 401);
    }
}

/// Text that some interpreter downstream might obey.
const INJECTIONS: [&str; 24] = [
    "' OR '1'='1",
    "'; DROP TABLE keys;--",
    "\" OR 1=1 --",
    "admin'/*",
    "%' AND 1=0 UNION SELECT 1 --",
    "%%%",
    "$(id)",
    "`id`",
    "${jndi:ldap://127.0.0.1/x}",
    "{{7*7}}",
    "*1\\r\\n$8\\r\\nFLUSHALL\\r\\n",
    "'); redis.call('FLUSHALL') --",
    "a\"} 1\nweir_up{x=\"",
    "x\"} 99",
    "\u{1b}[31mred\u{1b}[0m",
    "\u{1b}]0;title\u{7}",
    "line one\r\nline two",
    "a\nERROR forged line",
    "\u{9b}31m",
    "\u{202e}gnp.exe",
    "../../../etc/passwd",
    "..%2f..%2fadmin%2faccounts",
    "%0d%0aSet-Cookie: a=b",
    "\0",
];

#[tokio::test]
async fn injected_text_is_text() {
    for format in ["json", "pretty"] {
        let house = House::start(&format!(
            "log: {{level: trace, format: {format}}}\naccounts: [{{id: a, platform: openai, api_key: sk-a}}]"
        ))
        .await;
        for text in INJECTIONS {
            inject(&house, text).await;
        }
        let ok = house.post("/v1/chat/completions", &question("openai/gpt-4o", "still here", false)).await;
        assert_eq!(ok.status, 200, "{}", ok.text());
        let metrics = house.metrics().await;
        assert!(!metrics.contains("inj"), "callers' words in the metrics: {metrics}");
        house.settled().await;
        for line in house.log().split('\n').filter(|line| !line.is_empty()) {
            let is_whole = match format {
                "json" => serde_json::from_str::<Value>(line).is_ok(),
                // A time, then the level: a forged line would begin with the caller's words.
                _ => line.starts_with("20") && line.as_bytes().get(10) == Some(&b'T'),
            };
            assert!(is_whole, "a line of somebody else's making: {line:?}");
            assert!(!line.chars().any(|letter| letter.is_control()), "a terminal would obey: {line:?}");
        }
    }
}

/// Says `text` everywhere where a caller may say something.
async fn inject(house: &House, text: &str) {
    let tag = format!("inj{text}");
    // As model, as every field, as a message, as a key of the body.
    for body in [
        question(&tag, "hi", false),
        question(&format!("openai/{tag}"), "hi", false),
        json!({"model": "openai/gpt-4o", "messages": [{"role": tag, "content": tag}], "user": tag}),
        json!({"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "hi"}], tag.clone(): tag}),
        json!({"model": "openai/gpt-4o", "messages": tag}),
    ] {
        check_answer(&house.post("/v1/chat/completions", &body).await);
    }
    let encoded: String = tag.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for path in
        [format!("/v1/models/{encoded}"), format!("/{encoded}"), format!("/v1/models?{encoded}={encoded}")]
    {
        check_answer(&house.get(&path).await);
        check_answer(&house.admin(Method::GET, &path).await);
    }
    check_answer(&house.admin(Method::DELETE, &format!("/admin/keys/{encoded}")).await);
    // In header values, as far as they can stand there; and raw, where only we decide.
    for name in
        ["authorization", "x-request-id", "user-agent", "x-stainless-retry-count", "host", "content-type"]
    {
        let value = if name == "authorization" { format!("Bearer {tag}") } else { tag.clone() };
        let mut bytes =
            format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{name}: ").into_bytes();
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n\r\n");
        let answer = String::from_utf8_lossy(&house.raw(&bytes).await).into_owned();
        assert!(
            !answer.contains("Set-Cookie") && !answer.contains('\u{1b}') && !answer.contains("red\n"),
            "{answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{name} {tag}: {answer}");
    }
    let name = json!({"name": tag, "tenant": tag, "scopes": ["chat"]});
    let made = house.client.post(house.admin_url("/admin/keys")).bearer_auth(&house.token).json(&name);
    check_answer(&whole(made).await);
}

fn check_answer(answer: &Answer) {
    assert!(answer.status < 500 && answer.status != 0, "{answer:?}");
    for value in answer.headers.values() {
        // The model's name comes back as it was sent; what could end a line does not.
        assert!(value.as_bytes().iter().all(|byte| (0x20..0x7f).contains(byte)), "{value:?}");
    }
    assert!(!answer.headers.contains_key("set-cookie"));
    if answer.header("content-type").starts_with("application/json") {
        answer.json();
    }
    assert!(!answer.body.contains(&0x1b) && !answer.body.contains(&0), "{}", answer.text());
}

#[tokio::test]
async fn nothing_in_a_request_widens_what_a_caller_may() {
    let house = House::start(&format!("callers: {{default: {{rpm: 40, burst: 40}}}}\n{TENANTS}")).await;
    let narrow = mint(json!({"tenant": "alpha", "scope": "chat", "models": ["qwen/*"]}));
    house.reset().await;
    let claims = [
        ("models", json!(["*"])),
        ("weir_models", json!(["*"])),
        ("tenant", json!("beta")),
        ("tenants", json!(["beta"])),
        ("scope", json!("admin")),
        ("scopes", json!(["admin"])),
        ("owner", json!("beta")),
        ("account", json!("of-alpha")),
        ("account_id", json!("of-alpha")),
        ("platform", json!("openai")),
        ("route", json!("gpt-4o")),
        ("fallbacks", json!(["openai/gpt-4o"])),
        ("limits", json!({"rpm": 1000})),
        ("admin", json!(true)),
    ];
    for (name, value) in &claims {
        let mut body = question("openai/gpt-4o", "hi", false);
        body[*name] = value.clone();
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let request =
            house.client.post(house.url(&format!("/v1/chat/completions?{name}={}", urlencoded(&text))));
        let request =
            request.bearer_auth(&narrow).header(format!("x-weir-{}", name.replace('_', "-")), &text);
        let answer = whole(request.header(format!("x-{}", name.replace('_', "-")), &text).json(&body)).await;
        assert_eq!(answer.error(403), "model_not_allowed");
    }
    let twice = format!(
        "{{\"model\":\"qwen/qwen-plus\",\"model\":\"openai/gpt-4o\",{}",
        r#""messages":[{"role":"user","content":"hi"}]}"#
    );
    let escaped = twice.replacen("\"model\"", "\"mod\\u0065l\"", 1);
    for body in [twice, escaped] {
        let request = house.client.post(house.url("/v1/chat/completions")).bearer_auth(&narrow).body(body);
        assert_eq!(whole(request).await.status, 400);
    }
    assert_eq!(house.requests().await.len(), 0, "the platform was asked");
    // Every request above counted: what is left of 40 runs out, whatever a request says about itself.
    let mut refused = 0;
    for number in 0..60 {
        let request = house.client.post(house.url("/v1/chat/completions")).bearer_auth(&narrow);
        let request = request
            .header("x-forwarded-for", format!("10.0.0.{number}"))
            .header("x-real-ip", number.to_string());
        let request = request
            .header("x-weir-tenant", format!("t{number}"))
            .header("x-ratelimit-limit-requests", "100000");
        let mut body = question("qwen/qwen-plus", "hi", false);
        body["user"] = json!(number.to_string());
        refused += usize::from(whole(request.json(&body)).await.status == 429);
    }
    assert!(refused >= 15, "the limit was widened: {refused} refused");
}

fn urlencoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Headers in which somebody somewhere looks for a credential.
const PLACES: [&str; 18] = [
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "x-auth-token",
    "proxy-authorization",
    "x-forwarded-authorization",
    "x-original-authorization",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-access-token",
    "x-remote-user",
    "x-user",
    "cookie",
    "x-weir-token",
    "token",
    "authentication",
    "x-authorization",
    "sec-websocket-protocol",
];

#[tokio::test]
async fn only_the_bearer_says_who_calls() {
    let house = House::start(TENANTS).await;
    let good = house.token.clone();
    let body = question("qwen/qwen-plus", "hi", false);
    let places: Vec<(&str, String)> =
        PLACES.iter().flat_map(|name| [(*name, good.clone()), (*name, format!("Bearer {good}"))]).collect();
    for (name, value) in &places {
        let request = house.client.post(house.url("/v1/chat/completions")).header(*name, value);
        assert_eq!(whole(request.json(&body)).await.error(401), "invalid_api_key", "{name}");
    }
    for query in ["key", "api_key", "access_token", "token", "authorization"] {
        let request = house.client.post(house.url(&format!("/v1/chat/completions?{query}={good}")));
        assert_eq!(whole(request.json(&body)).await.status, 401, "?{query}=");
    }
    let mut inside = body.clone();
    inside["access_token"] = json!(good);
    inside["api_key"] = json!(good);
    assert_eq!(whole(house.client.post(house.url("/v1/chat/completions")).json(&inside)).await.status, 401);
    let scheme = |value: String| {
        house.client.post(house.url("/v1/chat/completions")).header("authorization", value).json(&body)
    };
    for value in [
        good.clone(),
        format!("Basic {good}"),
        format!("Token {good}"),
        format!("Bearer{good}"),
        format!("Bearer {good},{good}"),
    ] {
        assert_eq!(whole(scheme(value)).await.status, 401);
    }
    let twice =
        house.client.post(house.url("/v1/chat/completions")).bearer_auth("nonsense").bearer_auth(&good);
    assert_eq!(whole(twice.json(&body)).await.status, 401);
    assert_eq!(house.requests().await.len(), 0, "the platform was asked");
    // Beside a good bearer, another's credential changes nothing.
    let other = mint(json!({"tenant": "beta"}));
    let mut request =
        house.client.post(house.url(&format!("/v1/chat/completions?key={other}"))).bearer_auth(&good);
    for name in ["x-api-key", "x-goog-api-key", "cookie", "proxy-authorization", "x-forwarded-user"] {
        request = request.header(name, &other);
    }
    let answer = whole(request.json(&question("openai/gpt-4o", "hi", false))).await;
    assert_eq!((answer.status, answer.header("x-weir-account")), (200, "of-alpha"), "{}", answer.text());
    assert!(!house.requests().await[0].to_string().contains(&other[..20]));
}

/// A listener that nobody may ever connect to. Whoever does is counted.
async fn trap(answer: &'static str) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut piece = [0; 65_536];
                while let Ok(1..) = stream.read(&mut piece).await {
                    drop(stream.write_all(answer.as_bytes()).await);
                }
            });
        }
    });
    (address, count)
}

#[tokio::test]
async fn where_a_request_goes_is_the_configurations_affair() {
    let house = House::start(
        "accounts: [{id: a, platform: openai, api_key: sk-a}, {id: b, platform: claude, api_key: sk-ant-b}, {id: c, platform: aihubmix, api_key: sk-c}]",
    )
    .await;
    let (address, caught) = trap("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let names = ["api_base", "base_url", "custom_host", "url", "proxy", "api_key"];
    let url = format!("http://{address}/v1");
    for model in ["openai/gpt-4o", "claude/claude-sonnet-4-5", "aihubmix/gpt-5.4"] {
        for name in names {
            house.reset().await;
            let mut body = question(model, "hi", false);
            body[name] = json!(url);
            let answer = house.post("/v1/chat/completions", &body).await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            assert_eq!(answer.header("x-gateway-dropped-params"), name);
            let sent = house.requests().await;
            assert!(sent.len() == 1 && sent[0]["body"].get(name).is_none(), "{name} was sent on: {sent:?}");
            house.reset().await;
            // In the query and in headers it is nothing to us, and nothing to the platform.
            let path = format!("/v1/chat/completions?{name}={}", urlencoded(&url));
            let header = name.replace('_', "-");
            let request = house
                .client
                .post(house.url(&path))
                .bearer_auth(&house.token)
                .json(&question(model, "hi", false));
            let request = request
                .header(&header, &url)
                .header(format!("x-{header}"), &url)
                .header("x-openai-host", &url);
            let answer = whole(
                request.header("x-portkey-custom-host", &url).header("x-forwarded-host", address.to_string()),
            )
            .await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            let sent = house.requests().await;
            assert!(sent.len() == 1 && !sent[0].to_string().contains(&address.to_string()), "{sent:?}");
        }
    }
    assert_eq!(caught.load(Ordering::SeqCst), 0, "somebody was led astray");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, caught) = trap("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    for status in [300, 301, 302, 303, 307, 308] {
        let text = format!(
            "HTTP/1.1 {status} Go\r\nlocation: http://{elsewhere}/v1/chat/completions\r\nrefresh: 0; url=http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n"
        );
        let (address, asked) = trap(text.leak()).await;
        let house = House::start(&format!(
            "platforms:\n  moved: {{dialect: openai, base_url: \"http://{address}/v1\", auth: bearer, models: [m]}}\naccounts: [{{id: a, platform: moved, api_key: sk-a}}]"
        ))
        .await;
        for stream in [false, true] {
            let answer = house.post("/v1/chat/completions", &question("m", "hi", stream)).await;
            assert!(answer.status >= 400, "{}", answer.text());
            assert!(
                !answer.headers.contains_key("location") && !answer.text().contains(&elsewhere.to_string()),
                "{answer:?}"
            );
        }
        assert!(asked.load(Ordering::SeqCst) > 0);
    }
    assert_eq!(caught.load(Ordering::SeqCst), 0, "a redirect was followed");
}

#[tokio::test]
async fn a_flood_of_bad_tokens_does_not_keep_good_callers_out() {
    let house = House::start("accounts: [{id: a, platform: openai, api_key: sk-a}]").await;
    let body = question("openai/gpt-4o", "hi", false);
    let prefix = &house.token[..house.token.len() - 6].to_owned();
    let refused = futures_util::stream::iter(0..2000).map(|number| {
        let token = match number % 3 {
            0 => format!("sk-weir-{number:043}"),
            1 => format!("{prefix}{number:06}"),
            _ => mint_with("another secret of more than 32 bytes", json!({"sub": number.to_string()})),
        };
        let sent = house.client.post(house.url("/v1/chat/completions")).bearer_auth(token).json(&body);
        async move { whole(sent).await.status }
    });
    let flood = async {
        refused.buffer_unordered(32).filter(|status| std::future::ready(*status != 401)).count().await
    };
    let good = async {
        for _ in 0..100 {
            assert_eq!(house.post("/v1/chat/completions", &body).await.status, 200);
        }
    };
    let (let_in, ()) = tokio::join!(flood, good);
    assert_eq!(let_in, 0);
}
