//! L1 for sign-ins: of every kind, good and bad, with renewals and removals, and the log at its most talkative. No token, code, state,
//! cookie or secret of it all is in any log, metric, list or entry of the audit log, nor in the store's file.

use serde_json::{Value, json};

use super::canary::Canaries;
use super::house::{Answer, House, mint, until, whole};
use super::idp::{Idp, accounts, agree, ask, chat, data, initiate, owner, parameter, providers, register};
use super::login::{Login, agreed, browse};
use super::replicas::status;

const HUGGING: &str = "huggingface/deepseek-ai/DeepSeek-V4-Pro";
const HOUSE: &str = "house/doubao-seed-2-1-pro-260915";

/// What token endpoints and others are to do wrong; nothing at first.
fn faults() -> [Value; 6] {
    [
        json!([]),
        json!({"on": "token", "error": "invalid_grant"}),
        json!({"on": "token", "truncate": true}),
        json!({"on": "token", "set": {"scope": "openid"}}),
        json!({"on": "userinfo", "status": 500}),
        json!({"on": "token", "html": true}),
    ]
}

/// By browsers, with everything that can go wrong on the way back.
async fn by_browser(house: &House, idp: &Idp, platform: &str, canaries: &mut Canaries) {
    for fault in faults() {
        let back = agree(house, &owner(), json!({"platform": platform, "account_name": "x"})).await;
        canaries.watch("code", &parameter(&back.address, "code"));
        canaries.watch("state", &back.state);
        canaries.watch("cookie", back.cookie.split_once('=').expect("a value").1);
        idp.tell("faults", fault).await;
        back.come_back(house).await;
        back.come_back(house).await;
        idp.tell("faults", json!([])).await;
    }
}

/// Every token that was ever given, and what was last shown of codes: how many secrets that are.
async fn watch(idp: &Idp, canaries: &mut Canaries) -> usize {
    let books = idp.books().await;
    let mut count = 0;
    for kind in ["access_tokens", "refresh_tokens"] {
        for token in books[kind].as_object().expect("tokens").keys() {
            canaries.watch(kind, token);
            count += 1;
        }
    }
    let last = books["last"].to_string();
    for name in ["device_code", "code_verifier"] {
        let shown = last.split(&format!("\"{name}\":\"")).nth(1).and_then(|rest| rest.split('"').next());
        if let Some(shown) = shown {
            canaries.watch(name, shown);
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_nothing_of_a_sign_in_is_written_down() {
    let rows = providers(&["huggingface", "oidc", "qwen"]);
    let house = House::start(&format!("log: {{level: trace, format: json}}\n{rows}")).await;
    let [hugging, oidc, qwen] = ["huggingface", "oidc", "qwen"].map(|name| Idp::of(&house, name));
    register(&house, &oidc).await;
    let mut canaries = Canaries::default();
    for secret in ["secret-huggingface", "secret-oidc"] {
        canaries.watch("client secret", secret);
    }
    for (idp, platform, model) in [(&hugging, "huggingface", HUGGING), (&oidc, "house", HOUSE)] {
        idp.tell("settings", json!({"auto": "ann"})).await;
        by_browser(&house, idp, platform, &mut canaries).await;
        assert_eq!(status(chat(&house, model)).await, 200);
    }
    // Renewed, withdrawn, and by a device's code.
    hugging.tell("expire", json!({"access": true})).await;
    assert_eq!(status(chat(&house, HUGGING)).await, 200);
    hugging.tell("withdraw", json!({})).await;
    assert_ne!(status(chat(&house, HUGGING)).await, 200);
    qwen.tell("settings", json!({"interval_s": 1, "auto": "ann"})).await;
    let begun = data(&initiate(&house, &owner(), json!({"platform": "qwen", "account_name": "q"})).await);
    canaries.watch("state", begun["state"].as_str().expect("text"));
    let is_there =
        || async { accounts(&house, &owner()).await.iter().any(|one| one["platform_id"] == "qwen") };
    until("it is there", is_there).await;
    let mut told = String::new();
    for account in accounts(&house, &owner()).await {
        let id = account["id"].as_str().expect("an id");
        let path = format!("/api/v1/oauth/accounts/{id}");
        told += &ask(&house, &owner(), "POST", &format!("{path}/refresh"), None).await.text();
        told += &format!("{account}{}", house.account(id).await);
        told += &ask(&house, &owner(), "DELETE", &path, None).await.text();
    }
    let mut count = 0;
    for idp in [&hugging, &oidc, &qwen] {
        count += watch(idp, &mut canaries).await;
    }
    assert!(count > 15, "{count} secrets");
    told +=
        &whole(house.client.get(house.admin_url("/admin/audit")).bearer_auth(mint(json!({})))).await.text();
    told += &house.metrics().await;
    canaries.must_not_be_in("answers", told.as_bytes());
    assert!(house.log().contains("\"TRACE\"") || house.log().contains("\"DEBUG\""), "it is talkative");
    canaries.must_not_be_in("the log", house.log().as_bytes());
    let file = std::fs::read(house.folder().join("store/weir.redb")).expect("a file");
    canaries.must_not_be_in("the store", &file);
}

/// Everything that a folder holds, but the configuration, which names its secrets, and whatever is only for the owner's eyes.
fn files_below(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if !path.ends_with("weir.yaml") && !path.ends_with("credential") {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default()));
        }
    }
    found
}

fn arguments_of(process: u32) -> Vec<u8> {
    std::fs::read(format!("/proc/{process}/cmdline")).expect("a process")
}

/// What begins every JSON Web Token that is signed: ID tokens, callers' own.
const JWT: &str = "eyJhbGciOi";

/// AK and SK, a key of Weir's own and a JWT, a consent at Google with its revocation, and the command line: the other ways in and out.
async fn other_ways(house: &House, canaries: &mut Canaries) -> Vec<Answer> {
    let mut told = Vec::new();
    let made = whole(
        house
            .client
            .post(house.admin_url("/admin/keys"))
            .bearer_auth(mint(json!({})))
            .json(&json!({"name": "k", "tenant": "alpha", "scopes": ["chat", "accounts"]})),
    )
    .await;
    let key = made.json()["key"].as_str().unwrap_or_else(|| panic!("{}", made.text())).to_owned();
    canaries.watch("API key", &key);
    let jwt = owner();
    canaries.watch("JWT", jwt.rsplit('.').next().expect("a signature"));
    let [ak, sk] = ["access key", "secret key"].map(|name| canaries.plant(name, "k"));
    let baidu = json!({"platform": "baidu-v1", "account_name": "b", "access_key": ak, "secret_key": sk});
    told.push(ask(house, &key, "POST", "/api/v1/oauth/accounts", Some(&baidu)).await);
    assert_eq!(told[0].status, 200, "{}", told[0].text());
    told.push(whole(chat(house, "baidu-v1/ERNIE-Speed-8K")).await);
    for (token, platform) in [(&key, "gemini"), (&jwt, "gemini"), (&key, "aihubmix")] {
        let planted = canaries.plant("the key beside it", "sk-");
        let mut wish = json!({"platform": platform, "account_name": "g"});
        if platform == "aihubmix" {
            wish["api_key"] = json!(planted);
        }
        let back = agree(house, token, wish).await;
        canaries.watch("state", &back.state);
        canaries.watch("code", &parameter(&back.address, "code"));
        canaries.watch("cookie", back.cookie.split_once('=').expect("a value").1);
        told.push(back.come_back(house).await);
        assert_eq!(told.last().expect("one").status, 200, "{}", told.last().expect("one").text());
    }
    // Where nobody may be: each secret in the place of another.
    for (token, path) in [
        (key.as_str(), "/api/v1/oauth/status?state=x"),
        (&format!("{key}x"), "/api/v1/oauth/accounts"),
        (&format!("{jwt}x"), "/api/v1/oauth/accounts"),
        (sk.as_str(), "/api/v1/oauth/accounts"),
    ] {
        told.push(ask(house, token, "GET", path, None).await);
    }
    for secret in [&key, &sk, &jwt] {
        let wish = json!({"platform": secret, "account_name": 7, "flow": secret});
        told.push(initiate(house, &jwt, wish).await);
        let url = house.url(&format!("/huggingface-callback?state={secret}&code={secret}&error={secret}x"));
        drop(whole(house.client.get(url).header("cookie", format!("weir-begun={secret}"))).await);
    }
    told
}

/// The command, while a browser is away and after it has come back; from a terminal and by a device's code.
async fn by_command(house: &House, hugging: &Idp, canaries: &mut Canaries) {
    for flow in ["oauth", "device_code"] {
        hugging.tell("settings", json!({"auto": "ann", "interval_s": 1})).await;
        let login = Login::start(house, &["--owner", "alpha", "--name", flow, "--flow", flow]).await;
        canaries.watch("state", login.text("state"));
        let address = if flow == "oauth" { Some(agreed(&login).await) } else { None };
        if let Some(address) = &address {
            canaries.watch("code", &parameter(address, "code"));
        }
        canaries.must_not_be_in("the command's arguments", &arguments_of(login.process_id()));
        if let Some(address) = &address {
            let done = browse(address).await;
            assert_eq!(done.status, 200, "{}", done.text());
            canaries.must_not_be_in("the terminal's page", &done.body);
        }
        let (is_good, said) = login.ended().await;
        assert!(is_good, "{said}");
        watch(hugging, canaries).await;
        canaries.must_not_be_in("what the command says", said.as_bytes());
    }
}

/// Some who are in the middle of it when the store is looked into: what is kept of them opens nothing.
async fn waiting(house: &House, hugging: &Idp, canaries: &mut Canaries) {
    let key = canaries.plant("the key that waits", "sk-");
    for number in 0..5 {
        let name = format!("w{number}");
        let wish = json!({"platform": "aihubmix", "account_name": name, "api_key": key});
        let back = agree(house, &owner(), wish).await;
        canaries.watch("state", &back.state);
        canaries.watch("cookie", back.cookie.split_once('=').expect("a value").1);
    }
    hugging.tell("settings", json!({"auto": null, "interval_s": 1})).await;
    let wish = json!({"platform": "huggingface", "account_name": "w", "flow": "device_code"});
    let begun = data(&initiate(house, &owner(), wish).await);
    canaries.watch("state", begun["state"].as_str().expect("text"));
    let asked = hugging.asked("token").await;
    until("it is asked about", async || hugging.asked("token").await > asked).await;
    assert!(watch(hugging, canaries).await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_nor_of_keys_of_commands_and_of_what_goes() {
    let row = "platforms:\n  baidu-v1: {base_url: \"http://$FAKE/baidu-v1/rpc/2.0/ai_custom/v1/wenxinworkshop\", \
        token_url: \"http://$FAKE/baidu-v1/oauth/2.0/token\"}\n";
    let rows = providers(&["huggingface", "google", "aihubmix"]);
    let mut house = House::start(&format!("log: {{level: trace, format: json}}\n{rows}{row}")).await;
    let [hugging, google, hub] = ["huggingface", "google", "aihubmix"].map(|name| Idp::of(&house, name));
    for idp in [&google, &hub] {
        register(&house, idp).await;
        idp.tell("settings", json!({"auto": "ann"})).await;
    }
    let mut canaries = Canaries::default();
    for secret in ["secret-huggingface", "secret-google", "secret-aihubmix"] {
        canaries.watch("client secret", secret);
    }
    let mut told = other_ways(&house, &mut canaries).await;
    by_command(&house, &hugging, &mut canaries).await;
    google.tell("expire", json!({"access": true})).await;
    for account in accounts(&house, &owner()).await {
        let path = format!("/api/v1/oauth/accounts/{}", account["id"].as_str().expect("an id"));
        told.push(ask(&house, &owner(), "POST", &format!("{path}/refresh"), None).await);
        if account["platform_id"] == "gemini" {
            told.push(ask(&house, &owner(), "DELETE", &path, None).await);
        }
    }
    assert!(google.asked("revoke").await > 0, "what goes is revoked");
    let mut count = 0;
    for idp in [&hugging, &google, &hub] {
        count += watch(idp, &mut canaries).await;
    }
    assert!(count > 8, "{count} secrets");
    waiting(&house, &hugging, &mut canaries).await;
    canaries.spell("a token", JWT);
    for path in ["/admin/audit", "/admin/accounts", "/admin/keys", "/metrics"] {
        told.push(house.admin(http::Method::GET, path).await);
    }
    for answer in &told {
        canaries.must_not_be_in("an answer", &answer.body);
    }
    canaries.must_not_be_in("the gateway's arguments", &arguments_of(house.process_id()));
    let (is_good, said) = house.run(&["account", "list"]).await;
    assert!(is_good, "{said}");
    canaries.must_not_be_in("the list", said.as_bytes());
    house.kill().await;
    let files = files_below(house.folder());
    assert!(files.iter().any(|(name, bytes)| name.ends_with("weir.redb") && bytes.len() > 1000));
    assert!(files.iter().any(|(name, bytes)| name.ends_with("weir.log") && bytes.len() > 1000));
    for (name, bytes) in &files {
        canaries.must_not_be_in(name, bytes);
    }
}
