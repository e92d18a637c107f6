//! No secret anywhere: planted secrets, everything that can go wrong, the log at its most talkative; then all that came
//! out is searched (L1-L7, R10.4, R14.5).

use serde_json::{Value, json};

use crate::canary::{Canaries, random};
use crate::hostile::{Gossip, Hostile, STATUSES, WAYS};
use crate::house::{Answer, House, Raw, mint_with, question, whole};

/// Everything secret of one house.
struct Planted {
    canaries: Canaries,
    jwt_secret: String,
    accounts: String,
    script: String,
}

/// Keys of every platform, in the form that the simulated one takes.
fn plant() -> Planted {
    let mut canaries = Canaries::default();
    let jwt_secret = canaries.plant("JWT secret", "");
    let mut accounts = String::new();
    let mut add = |id: &str, credential: String| {
        let platform = id;
        accounts
            .push_str(&format!("  - {{id: acct-{id}, platform: {platform}, owner: beta, {credential}}}\n"));
    };
    for (platform, prefix) in [
        ("openai", "sk-"),
        ("claude", "sk-ant-"),
        ("gemini", "AIza"),
        ("qwen", "sk-"),
        ("doubao", ""),
        ("baidu", "bce-v3/ALTAK-"),
        ("spark", ""),
        ("huggingface", "hf_"),
        ("aihubmix", "sk-"),
        ("dashscope", "sk-"),
    ] {
        add(platform, format!("api_key: \"{}\"", canaries.plant(platform, prefix)));
    }
    let zhipu = format!("{}.{}", canaries.plant("zhipu id", ""), canaries.plant("zhipu secret", ""));
    add("zhipu", format!("api_key: \"{zhipu}\""));
    let (ak, sk) = (canaries.plant("baidu AK", ""), canaries.plant("baidu SK", ""));
    add("baidu-v1", format!("access_key: \"{ak}\", secret_key: \"{sk}\""));
    let (key, secret) = (canaries.plant("spark key", ""), canaries.plant("spark secret", ""));
    add("spark-ws", format!("app_id: abcd1234, api_key: \"{key}\", api_secret: \"{secret}\""));
    let script = format!(
        "accounts: {{\"{key}\": {{secret: \"{secret}\"}}, \"{ak}\": {{secret: \"{sk}\"}}, \"{zhipu}\": {{}}}}"
    );
    Planted { canaries, jwt_secret, accounts, script }
}

fn authentication(secret: &str) -> String {
    format!(
        "auth: {{keys: true, jwt: [{{issuer: house, audience: weir, secret: \"{secret}\", algorithms: [HS256], \
         claims: {{tenant: tenant, scope: scope, models: models}}}}]}}\n"
    )
}

/// Everything that a caller saw.
#[derive(Default)]
struct Seen(Vec<u8>);

impl Seen {
    fn note(&mut self, answer: &Answer) {
        for (name, value) in &answer.headers {
            self.0.extend_from_slice(name.as_str().as_bytes());
            self.0.extend_from_slice(b": ");
            self.0.extend_from_slice(value.as_bytes());
            self.0.push(b'\n');
        }
        self.0.extend_from_slice(&answer.body);
        self.0.push(b'\n');
    }
}

/// Plants a token's signature: its other parts are no secret by themselves, and its first characters are every token's.
fn plant_token(canaries: &mut Canaries, name: &str, token: &str) {
    canaries.watch(name, token);
    let signature = token.rsplit('.').next().expect("a signature");
    canaries.watch(name, signature);
    canaries.spell(name, &signature[..10]);
}

/// The whole configuration: every platform, and one hostile account for each way to be hostile.
fn fragment(jwt_secret: &str, accounts: &str, key: &str, hostile: &Hostile, names: &[String]) -> String {
    let models: Vec<String> = names.iter().map(|name| format!("m-{name}")).collect();
    let mut hostile_accounts = String::new();
    for (name, model) in names.iter().zip(&models) {
        hostile_accounts.push_str(&format!(
            "  - {{id: hostile-{name}, platform: hostile, api_key: \"{key}\", models: [{model}]}}\n"
        ));
    }
    format!(
        "{}log: {{level: trace, format: json}}\nretry: {{budget: 1}}\nplatforms:\n  baidu-v1: {{base_url: \"http://$FAKE/baidu-v1{ERNIE}\", \
         token_url: \"http://$FAKE/baidu-v1/oauth/2.0/token\"}}\n  hostile: {{dialect: openai, base_url: \
         \"http://{}/v1\", auth: bearer, models: [{}]}}\naccounts:\n{accounts}{hostile_accounts}",
        authentication(jwt_secret),
        hostile.address,
        models.join(", ")
    )
}

#[tokio::test]
async fn no_secret_leaves_by_any_door() {
    let Planted { mut canaries, jwt_secret, accounts, script } = plant();
    let gossip = Gossip {
        key: canaries.plant("hostile key", "sk-proj-"),
        organisation: canaries.plant("organisation", "org-"),
        email: format!("{}@{}.example", canaries.plant("e-mail", "b"), "billing"),
        host: format!("{}.corp.internal", canaries.plant("host", "h").to_lowercase()),
        file: format!("/srv/{}/serve.py", canaries.plant("file", "")),
    };
    canaries.spell("host", &gossip.host);
    let hostile = Hostile::start(gossip.clone()).await;
    let names: Vec<String> = STATUSES.iter().map(u16::to_string).chain(WAYS.map(str::to_owned)).collect();
    let models: Vec<String> = names.iter().map(|name| format!("m-{name}")).collect();
    let fragment = fragment(&jwt_secret, &accounts, &gossip.key, &hostile, &names);
    let mut house = House::start_with(&fragment, &script).await;
    house.token = mint_with(&jwt_secret, json!({"tenant": "alpha"}));
    plant_token(&mut canaries, "operator's JWT", &house.token);
    let operator = std::fs::read_to_string(house.folder().join("store/operator.token")).expect("a token");
    canaries.watch("operator token", &operator);
    // What was said, and to whom: L5 and L6.
    let mut private = Canaries::default();
    let prompt = private.plant("prompt", "prompt");
    let mut inner = Canaries::default();
    inner.spell("the platforms' address", &house.fake.to_string());
    inner.spell("the hostile platform's address", &hostile.address.to_string());
    inner.spell("an account's id", "acct-");
    inner.spell("an account's id", "hostile-");
    inner.spell("a folder", &house.folder().display().to_string());

    let mut seen = Seen::default();
    good_and_bad_questions(&house, &prompt, &mut seen).await;
    for model in &models {
        for stream in [false, true] {
            seen.note(&house.post("/v1/chat/completions", &question(model, &prompt, stream)).await);
        }
    }
    assert!(
        hostile.heads().len() >= models.len(),
        "the hostile platform was hardly asked: {}",
        hostile.heads().len()
    );
    strangers(&house, &mut canaries, &prompt, &mut seen).await;
    let mut admin = operators(&house, &mut canaries, &prompt).await;
    let broken = broken_configurations(&house, &fragment, &jwt_secret, &gossip.key).await;
    admin.0.extend_from_slice(&broken);
    house.settled().await;

    let metrics = house.metrics().await;
    let command_line = std::fs::read(format!("/proc/{}/cmdline", house.process_id())).expect("Linux");
    let check = house.run(&["check"]).await;
    assert!(check.0, "{}", check.1);
    let log = house.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is silent: {log}");
    canaries.must_not_be_in("what callers saw", &seen.0);
    canaries.must_not_be_in("what operators saw", &admin.0);
    canaries.must_not_be_in("the log", log.as_bytes());
    canaries.must_not_be_in("the metrics", metrics.as_bytes());
    canaries.must_not_be_in("the command line", &command_line);
    canaries.must_not_be_in("`weir check`", check.1.as_bytes());
    private.must_not_be_in("the log", log.as_bytes());
    private.must_not_be_in("the metrics", metrics.as_bytes());
    inner.must_not_be_in("what callers saw", &seen.0);
    inner.must_not_be_in("the metrics", metrics.as_bytes());
}

const ERNIE: &str = "/rpc/2.0/ai_custom/v1/wenxinworkshop";

/// One model of each platform.
const MODELS: [&str; 13] = [
    "openai/gpt-4o",
    "claude/claude-sonnet-4-5",
    "gemini/gemini-2.5-flash",
    "qwen/qwen-plus",
    "dashscope/qwen-plus",
    "zhipu/glm-5.2",
    "doubao/doubao-seed-2-1-pro-260915",
    "baidu/ernie-5.1",
    "baidu-v1/ERNIE-Speed-8K",
    "spark/4.0Ultra",
    "spark-ws/4.0Ultra",
    "huggingface/openai/gpt-oss-120b",
    "aihubmix/gpt-5.4",
];

/// Every platform: an answer, a stream, and every kind of failure that it has words for.
async fn good_and_bad_questions(house: &House, prompt: &str, seen: &mut Seen) {
    let listed = house.get("/v1/models").await;
    seen.note(&listed);
    for model in MODELS {
        for stream in [false, true] {
            let answer = house.post("/v1/chat/completions", &question(model, prompt, stream)).await;
            assert_eq!(answer.status, 200, "{model}: {}\n{}", answer.text(), house.log());
            assert!(answer.text().contains(prompt) || stream, "{model} did not answer the question");
            seen.note(&answer);
        }
    }
    let classes = weir_fake_classes();
    for (number, class) in classes.iter().enumerate() {
        // In turn over the platforms: a benched account's next request only says that there is none.
        let model = MODELS[number % MODELS.len()];
        for (directive, stream) in [("error", false), ("midstream_error", true), ("inband_error", true)] {
            let text = format!("{prompt} @{directive}={class}");
            seen.note(&house.post("/v1/chat/completions", &question(model, &text, stream)).await);
        }
    }
    let embeddings = json!({"model": "text-embedding-3-small", "input": prompt});
    seen.note(&house.post("/v1/embeddings", &embeddings).await);
}

fn weir_fake_classes() -> [&'static str; 13] {
    [
        "rate_limited",
        "tokens_limited",
        "concurrency",
        "daily_quota",
        "quota_exhausted",
        "token_expired",
        "auth_invalid",
        "not_entitled",
        "overloaded",
        "bad_request",
        "content_filtered",
        "context_too_long",
        "server_error",
    ]
}

/// Callers who are not let in, each with a secret of somebody's in hand, and requests that are wrong in every way.
async fn strangers(house: &House, canaries: &mut Canaries, prompt: &str, seen: &mut Seen) {
    let expired = mint_with("not the secret but long enough for it", json!({"sub": prompt}));
    plant_token(canaries, "a stranger's JWT", &expired);
    let wrong_key = canaries.plant("a stranger's key", "sk-weir-");
    let session = canaries.plant("a cookie", "session");
    for token in
        [&expired, &wrong_key, &format!("{}x", house.token), &house.token[..house.token.len() - 2].to_owned()]
    {
        for path in ["/v1/chat/completions", "/v1/models", "/admin/accounts", "/nowhere"] {
            let path = format!("{path}?key={token}&access_token={token}");
            for address in [house.url(&path), house.admin_url(&path)] {
                let request = house.client.post(address).bearer_auth(token).header("cookie", &session);
                seen.note(
                    &whole(request.header("x-api-key", token).json(&question("gpt-4o", prompt, false))).await,
                );
            }
        }
        let basic = house.client.post(house.url("/v1/chat/completions")).basic_auth(token, Some(token));
        seen.note(&whole(basic).await);
    }
    for body in [
        json!({"model": format!("no-{wrong_key}"), "messages": [{"role": "user", "content": prompt}]}),
        json!({"model": "openai/gpt-4o", "messages": prompt, "api_key": wrong_key}),
        json!({"model": "openai/gpt-4o", "messages": [{"role": wrong_key, "content": prompt}]}),
        json!({"model": "claude/claude-sonnet-4-5", "messages": [{"role": "user", "content": prompt}], "logprobs": true}),
    ] {
        // The caller's own words may come back to it, so these answers are not searched; the log is.
        drop(house.post("/v1/chat/completions", &body).await);
    }
    for bytes in [
        format!("POST /v1/{wrong_key} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("POST /v1 HTTP/1.1\r\nauthorization: Bearer {wrong_key}\r\nbad header {wrong_key}\r\n\r\n"),
        format!("{wrong_key} nonsense\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nauthorization: Bearer {wrong_key}\r\nx: {}\r\n\r\n", "y".repeat(70_000)),
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{wrong_key}{wrong_key}{wrong_key}"),
    ] {
        let mut raw = house.connect().await;
        raw.send(bytes.as_bytes()).await;
        tokio::io::AsyncWriteExt::shutdown(&mut raw.stream).await.expect("half closed");
        raw.read_to_end().await;
    }
}

/// The admin side, right and wrong.
async fn operators(house: &House, canaries: &mut Canaries, prompt: &str) -> Seen {
    let mut seen = Seen::default();
    let new = json!({"name": "k", "tenant": "alpha", "scopes": ["chat"]});
    let made =
        whole(house.client.post(house.admin_url("/admin/keys")).bearer_auth(&house.token).json(&new)).await;
    // The one place where a key is shown, once, to its maker.
    let made = made.json();
    let key = made["key"].as_str().unwrap_or_else(|| panic!("no key: {made}")).to_owned();
    canaries.watch("a Weir key", &key);
    canaries.spell("a Weir key", &key[..16]);
    let asked = house.client.post(house.url("/v1/chat/completions")).bearer_auth(&key);
    seen.note(&whole(asked.json(&question("openai/gpt-4o", prompt, false))).await);
    for path in ["/admin/accounts", "/admin/keys", "/metrics", "/healthz", "/readyz", "/admin/nothing"] {
        seen.note(&house.admin(http::Method::GET, path).await);
    }
    seen.note(&house.admin(http::Method::POST, "/admin/reload").await);
    for body in [json!({"name": key}), json!({"tenant": 3, "key": key}), Value::Null] {
        let request = house.client.post(house.admin_url("/admin/keys")).bearer_auth(&house.token);
        seen.note(&whole(request.json(&body)).await);
    }
    seen
}

/// Configurations that are wrong with a secret nearby: what `weir check`, `weir serve` and a reload say.
async fn broken_configurations(house: &House, fragment: &str, jwt: &str, key: &str) -> Vec<u8> {
    let mut said = Vec::new();
    let base = house.complete(fragment);
    for change in [
        format!("api_key: {key}\n"),
        format!("accounts: [{{id: a, platform: openai, api_key: [{key}]}}]\n"),
        format!("accounts: [{{id: a, platform: openai, api_key: {{{key}: {key}}}}}]\n"),
        format!("accounts: [{{id: a, platform: openai, apikey: {key}}}]\n"),
        format!("accounts: [{{id: a, platform: openai, api_key: \"{key}, models: [x]}}]\n"),
        format!("accounts: [{{id: a, platform: openai, api_key: {key}, secret_key: {key}}}]\n"),
        format!("accounts: {{id: a, platform: openai, api_key: {key}}}\n"),
        format!("accounts:\n\t- {key}\n"),
        format!("accounts:\n  - id: a\n platform: openai\n   api_key: {key}\n"),
        format!("accounts: [{{id: a, platform: openai, api_key: \"{key}\\q\"}}]\n"),
        format!("accounts: [{{id: a, platform: openai, api_key: &x {key}, owner: *y}}]\n"),
        format!("accounts: [{{id: a, platform: spark-ws, app_id: 1, api_key: {key}}}]\n"),
        format!("accounts: [{{id: a, platform: openai, api_key: {key}, limits: {{rpm: {key}}}}}]\n"),
        format!("accounts: [{{id: a, platform: openai, api_key: !!int {key}}}]\n"),
        format!("auth: {{jwt: [{{issuer: a, audience: b, secret: [{jwt}]}}]}}\n"),
        format!("auth: {{jwt: [{{issuer: a, audience: b, secret: {}}}]}}\n", &jwt[..20]),
        format!("auth: {{jwt: [{{issuer: a, audience: b, public_key: {jwt}}}]}}\n"),
        format!(
            "auth: {{jwt: [{{issuer: a, audience: b, jwks_url: \"https://user:{jwt}@id.example.com/\"}}]}}\n"
        ),
        format!("vault: {{keys: [{{id: k, key: {key}}}]}}\n"),
        format!("store: \"redis://user:{key}@localhost/x\"\n"),
        format!("store: \"{key}\"\n"),
        format!(
            "platforms:\n  mine: {{dialect: openai, base_url: \"http://user:{key}@127.0.0.1/v1\", auth: bearer}}\n"
        ),
        format!(
            "platforms:\n  mine: {{dialect: openai, base_url: \"http://127.0.0.1/v1?key={key}\", auth: bearer}}\n"
        ),
        format!("log: {{level: {key}}}\n"),
        format!("{key}\n"),
        format!(
            "accounts: [{{id: a, platform: openai, api_key: {key}}}, {{id: a, platform: openai, api_key: {key}}}]\n"
        ),
    ] {
        let name = change.split(':').next().expect("a key").to_owned();
        let kept: Vec<&str> = base.lines().filter(|line| !line.starts_with(&format!("{name}:"))).collect();
        // The rest of a block that is replaced goes too: only what fits on a line of its own is kept.
        let kept: Vec<&str> = kept.into_iter().filter(|line| !line.starts_with(' ')).collect();
        let kept: Vec<&str> =
            kept.into_iter().filter(|line| !matches!(*line, "platforms:" | "accounts:")).collect();
        house.write_raw(&format!("{}\n{change}", kept.join("\n")));
        let (good, text) = house.run(&["check"]).await;
        assert!(!good, "taken: {change}\n{text}");
        said.extend_from_slice(text.as_bytes());
        said.extend_from_slice(&house.admin(http::Method::POST, "/admin/reload").await.body);
    }
    // `weir serve` says the same as `weir check`; once is enough.
    let (good, text) = house.run(&["serve"]).await;
    assert!(!good);
    said.extend_from_slice(text.as_bytes());
    house.write(fragment);
    assert_eq!(house.admin(http::Method::POST, "/admin/reload").await.status, 200);
    said
}

#[test]
fn debug_of_a_configuration_shows_no_secret() {
    let Planted { mut canaries, jwt_secret, accounts, .. } = plant();
    let vault = canaries.plant("vault", "");
    let key: [u8; 32] = std::array::from_fn(|at| vault.as_bytes()[at]);
    let vault = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
    canaries.watch("vault", &String::from_utf8_lossy(&key));
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "{}vault: {{keys: [{{id: k, key: \"{vault}\"}}]}}\naccounts:\n{accounts}",
        authentication(&jwt_secret)
    );
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, text).expect("written");
    let config = weir::config::load(Some(&file), &|_| None).expect("right");
    for shown in [format!("{config:?}"), format!("{config:#?}")] {
        assert!(shown.contains("acct-openai"), "nothing shown: {shown}");
        canaries.must_not_be_in("Debug", shown.as_bytes());
    }
    for account in &config.accounts {
        canaries.must_not_be_in("Debug", format!("{:?} {:?}", account, account.credential).as_bytes());
    }
}

/// What a platform may get.
const OURS: [&str; 8] = [
    "host",
    "content-type",
    "content-length",
    "accept",
    "user-agent",
    "authorization",
    "x-api-key",
    "anthropic-version",
];

const OWNED: &str = "accounts: [{id: a-of-alpha, platform: openai, api_key: sk-a, owner: alpha}, \
                              {id: b-of-beta, platform: claude, api_key: sk-ant-b, owner: beta}]";

/// What callers and proxies in front of us send along.
const CARRIED: [&str; 41] = [
    "cookie",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-uri",
    "x-real-ip",
    "forwarded",
    "via",
    "x-stainless-lang",
    "x-stainless-retry-count",
    "openai-organization",
    "openai-project",
    "openai-beta",
    "anthropic-beta",
    "anthropic-version",
    "x-request-id",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "connection",
    "x-weir-account",
    "origin",
    "referer",
    "accept-encoding",
    "accept-language",
    "user-agent",
    "x-openai-host",
    "x-upstream-host",
    "x-custom-host",
    "x-base-url",
    "x-http-method-override",
    "x-original-url",
    "x-rewrite-url",
    "baggage",
    "traceparent",
];

/// L6: the account's id is for its owner alone; L7: nothing of the caller's goes along.
#[tokio::test]
async fn the_platform_gets_the_question_and_nothing_else_of_the_callers() {
    let house = House::start(OWNED).await;
    let secret = random();
    for model in ["openai/gpt-4o", "claude/claude-sonnet-4-5"] {
        house.reset().await;
        let mut request = house.request(&question(model, "hi", false));
        for name in CARRIED {
            request = request.header(name, &secret);
        }
        let answer = whole(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let expected = if model.starts_with("openai") { "a-of-alpha" } else { "" };
        assert_eq!(answer.header("x-weir-account"), expected);
        let requests = house.requests().await;
        assert_eq!(requests.len(), 1);
        let sent = requests[0].to_string();
        assert!(!sent.contains(&secret[..6]) && !sent.contains("eyJ"), "the caller's went along: {sent}");
        let names: Vec<&str> = requests[0]["headers"]
            .as_array()
            .expect("headers")
            .iter()
            .filter_map(|pair| pair[0].as_str())
            .collect();
        assert!(names.iter().all(|name| OURS.contains(name)), "{names:?}");
    }
}

#[tokio::test]
async fn an_accounts_id_is_for_its_owner() {
    let house = House::start(OWNED).await;
    let other = mint_for("gamma");
    for model in ["openai/gpt-4o", "claude/claude-sonnet-4-5", "openai/gpt-4o @error=bad_request"] {
        let text = model.split_once(' ').map_or("hi", |(_, text)| text);
        let model = model.split(' ').next().expect("a model");
        let asked = house.client.post(house.url("/v1/chat/completions")).bearer_auth(&other);
        let answer = whole(asked.json(&question(model, text, false))).await;
        assert_eq!(answer.header("x-weir-account"), "");
        assert!(!format!("{:?}{}", answer.headers, answer.text()).contains("-of-"), "{answer:?}");
    }
}

fn mint_for(tenant: &str) -> String {
    crate::house::mint(json!({"tenant": tenant, "scope": "chat"}))
}

/// What libraries say at `trace` is theirs to choose and may hold headers: only a module named by the operator may speak.
#[tokio::test]
async fn trace_is_our_own_word_and_not_that_of_the_libraries() {
    let house = House::start(
        "log: {level: trace, format: json}\naccounts: [{id: s, platform: spark-ws, app_id: a, api_key: k, api_secret: k-secret}]",
    )
    .await;
    assert_eq!(house.chat("spark-ws/4.0Ultra", "hi").await.status, 200);
    let mut raw = Raw::to(house.listen).await;
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    drop(raw);
    house.settled().await;
    for line in house.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        let (level, target) =
            (line["level"].as_str().expect("a level"), line["target"].as_str().expect("a target"));
        let ours = target == "weir" || target.starts_with("weir::");
        assert!(ours || matches!(level, "WARN" | "ERROR"), "a library speaks: {line}");
    }
}
