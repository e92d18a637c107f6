//! Accounts added while the gateway runs: over the API and from a terminal, each tenant's own, kept encrypted, and every
//! change in the audit log. Through `kill -9`, wrong keys, rotations and tampering.

use std::path::Path;

use http::Method;
use redb::ReadableTable;
use serde_json::{Value, json};

use crate::canary::Canaries;
use crate::house::{Answer, House, mint, question, until, whole};

/// A token of `tenant` that may ask models and manage accounts.
fn token(tenant: &str) -> String {
    mint(json!({"tenant": tenant, "sub": format!("{tenant}-user"), "scope": "chat accounts"}))
}

async fn ask(house: &House, token: &str, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let mut request = house.client.request(method, house.url(path)).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(body);
    }
    whole(request).await
}

/// `data` of a good answer in the envelope.
fn data(answer: &Answer) -> Value {
    let body = answer.json();
    assert_eq!((answer.status, body["code"].as_u64()), (200, Some(200)), "{body}");
    assert_eq!(body["message"], "success");
    body["data"].clone()
}

/// `message` of an error in the envelope.
fn error(answer: &Answer, status: u16) -> String {
    let body = answer.json();
    assert_eq!((answer.status, body["code"].as_u64()), (status, Some(u64::from(status))), "{body}");
    assert!(body["data"].is_null());
    body["message"].as_str().expect("a message").to_owned()
}

const ACCOUNTS: &str = "/api/v1/oauth/accounts";

async fn add(house: &House, token: &str, platform: &str, key: &str) -> String {
    let new = json!({"platform": platform, "account_name": format!("my {platform}"), "api_key": key});
    let added = data(&ask(house, token, Method::POST, ACCOUNTS, Some(&new)).await);
    added["id"].as_str().expect("an id").to_owned()
}

async fn accounts_of(house: &House, token: &str) -> Vec<Value> {
    data(&ask(house, token, Method::GET, ACCOUNTS, None).await).as_array().expect("a list").clone()
}

async fn chat(house: &House, token: &str, model: &str) -> Answer {
    let body = question(model, "hello", false);
    whole(house.client.post(house.url("/v1/chat/completions")).bearer_auth(token).json(&body)).await
}

/// What was done, oldest first, as (who, what, on).
async fn audit(house: &House) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    let mut path = "/admin/audit?limit=7".to_owned();
    loop {
        let page = house.admin(Method::GET, &path).await.json();
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        for entry in page["entries"].as_array().expect("entries") {
            assert_eq!(entry["place"], all.len());
            all.push((text(entry, "who"), text(entry, "what"), text(entry, "on")));
        }
        match page["next"].as_u64() {
            Some(next) => path = format!("/admin/audit?limit=7&after={next}"),
            None => return all,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_added_used_switched_and_removed() {
    let mut house = House::start("").await;
    let alpha = token("alpha");
    let platforms = data(&ask(&house, &alpha, Method::GET, "/api/v1/oauth/platforms", None).await);
    let openai = platforms.as_array().expect("a list").iter().find(|one| one["platform_id"] == "openai");
    let openai = openai.expect("openai");
    assert_eq!(openai["onboarding"], json!(["api_key"]));
    assert!(openai["available_models"].as_array().is_some_and(|models| !models.is_empty()));
    assert_eq!(chat(&house, &alpha, "gpt-4o").await.error(404), "model_not_found");
    let id = add(&house, &alpha, "openai", "sk-of-alpha").await;
    // At once, by the model's own name although the file names no account of the platform.
    let answer = chat(&house, &alpha, "gpt-4o").await;
    assert_eq!((answer.status, answer.header("x-weir-account")), (200, id.as_str()), "{}", answer.text());
    // The platform beside the model; the answer in the envelope, a stream without it.
    let mut beside = question("gpt-4o", "hello", false);
    beside["platform"] = json!("openai");
    let path = "/api/v1/oauth/chat/completions";
    let enveloped = data(&ask(&house, &alpha, Method::POST, path, Some(&beside)).await);
    assert!(enveloped["choices"][0]["message"]["content"].is_string(), "{enveloped}");
    beside["stream"] = json!(true);
    assert!(ask(&house, &alpha, Method::POST, path, Some(&beside)).await.events().is_whole());
    beside["platform"] = json!("nobody");
    error(&ask(&house, &alpha, Method::POST, path, Some(&beside)).await, 404);
    error(&ask(&house, &alpha, Method::POST, path, Some(&question("gpt-4o", "x", false))).await, 400);
    assert_eq!(ask(&house, &alpha, Method::GET, path, None).await.status, 405);
    // It outlives the process; so does when it was used.
    house.signal("TERM");
    assert!(house.ended().await.success());
    house.restart().await;
    let listed = accounts_of(&house, &alpha).await;
    assert_eq!(listed.len(), 1);
    let one = &listed[0];
    assert_eq!((&one["id"], &one["account_name"]), (&json!(id), &json!("my openai")));
    assert!(
        one["last_used_at"].as_u64() >= one["created_at"].as_u64() && one["last_used_at"].is_u64(),
        "{one}"
    );
    let toggle = format!("{ACCOUNTS}/{id}/toggle");
    assert_eq!(data(&ask(&house, &alpha, Method::PUT, &toggle, None).await)["is_active"], false);
    assert_eq!(chat(&house, &alpha, "gpt-4o").await.error(503), "no_account_available");
    let on = json!({"is_active": true});
    for _ in 0..2 {
        assert_eq!(data(&ask(&house, &alpha, Method::PUT, &toggle, Some(&on)).await)["is_active"], true);
    }
    assert_eq!(chat(&house, &alpha, "gpt-4o").await.status, 200);
    let refresh = ask(&house, &alpha, Method::POST, &format!("{ACCOUNTS}/{id}/refresh"), None).await;
    assert!(error(&refresh, 400).contains("nothing to refresh"));
    let path = format!("{ACCOUNTS}/{id}");
    assert_eq!(data(&ask(&house, &alpha, Method::DELETE, &path, None).await)["deleted"], true);
    error(&ask(&house, &alpha, Method::DELETE, &path, None).await, 404);
    assert_eq!(chat(&house, &alpha, "gpt-4o").await.error(404), "model_not_found");
    let done = audit(&house).await;
    let what: Vec<&str> =
        done.iter().filter(|(_, _, on)| *on == id).map(|(_, what, _)| what.as_str()).collect();
    let expected =
        ["account.added", "account.disabled", "account.enabled", "account.enabled", "account.removed"];
    assert_eq!(what, expected, "{done:?}");
    assert!(done.iter().all(|(who, _, _)| who == "alpha/alpha-user"), "{done:?}");
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_and_pages_are_bounded() {
    let house = House::start("").await;
    let alpha = token("alpha");
    let good = json!({"platform": "openai", "account_name": "a", "api_key": "sk-good"});
    for (field, wrong) in [
        ("platform", json!("nobody")),
        ("account_name", json!("")),
        ("account_name", json!("a\nb")),
        ("account_name", json!("x".repeat(257))),
        ("api_key", json!("")),
        ("api_key", json!("sk with spaces")),
        ("api_key", json!("x".repeat(9000))),
        ("api_key", json!(7)),
        ("secret_key", json!("half a pair")),
        ("models", json!([""])),
        ("limits", json!({"rpm": 0})),
        ("limits", json!({"rmp": 1})),
        ("weight", json!(0)),
        ("weight", json!("sk-canary-in-the-wrong-place")),
        ("base_url", json!("http://127.0.0.1:1/v1")),
        ("owner", json!("beta")),
        ("tenants", json!(["beta"])),
        ("admin", json!(true)),
    ] {
        let mut bad = good.clone();
        bad[field] = wrong.clone();
        let message = error(&ask(&house, &alpha, Method::POST, ACCOUNTS, Some(&bad)).await, 400);
        assert!(!message.contains("canary"), "{field}: {message}");
    }
    let wrong_kind = json!({"platform": "baidu-v1", "account_name": "a", "api_key": "sk-a"});
    let message = error(&ask(&house, &alpha, Method::POST, ACCOUNTS, Some(&wrong_kind)).await, 400);
    assert!(message.contains("access_key"), "{message}");
    let huge = json!({"platform": "openai", "account_name": "a", "api_key": "x".repeat(300_000)});
    assert_eq!(ask(&house, &alpha, Method::POST, ACCOUNTS, Some(&huge)).await.status, 413);
    assert!(accounts_of(&house, &alpha).await.is_empty());
    for number in 0..103 {
        add(&house, &alpha, "openai", &format!("sk-{number}")).await;
    }
    let mut seen = Vec::new();
    let mut path = format!("{ACCOUNTS}?limit=100000");
    loop {
        let answer = ask(&house, &alpha, Method::GET, &path, None).await;
        let page = data(&answer).as_array().expect("a list").clone();
        assert!(page.len() <= 100);
        seen.extend(page.iter().map(|one| one["id"].as_str().expect("an id").to_owned()));
        match answer.json()["next"].as_str() {
            Some(next) => path = format!("{ACCOUNTS}?limit=100000&after={next}"),
            None => break,
        }
    }
    seen.dedup();
    assert_eq!(seen.len(), 103);
    error(&ask(&house, &alpha, Method::GET, &format!("{ACCOUNTS}?limit=x"), None).await, 400);
    for list in ["accounts", "keys", "tenants", "audit"] {
        let page = house.admin(Method::GET, &format!("/admin/{list}?limit=1000000")).await;
        let name = if list == "audit" { "entries" } else { list };
        assert!(page.json()[name].as_array().expect("a list").len() <= 100, "{list}");
    }
    let tenants = house.admin(Method::GET, "/admin/tenants").await.json();
    assert_eq!(tenants["tenants"], json!([{"id": "alpha", "keys": 0, "accounts": 103}]));
}

/// A5: each endpoint that takes an id, with another tenant's: as if it were not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_a_tenants_accounts_are_not_there_for_another() {
    let house =
        House::start("accounts: [{id: of-file, platform: qwen, api_key: sk-f, owner: alpha}]\n").await;
    let (alpha, beta) = (token("alpha"), token("beta"));
    let id = add(&house, &alpha, "openai", "sk-of-alpha").await;
    let none = add(&house, &beta, "zhipu", "id.secret").await;
    for account in [id.as_str(), "of-file", "acc_0000000000000000", "..", "%00", "acc_%2e"] {
        for (method, path) in [
            (Method::PUT, format!("{ACCOUNTS}/{account}/toggle")),
            (Method::DELETE, format!("{ACCOUNTS}/{account}")),
            (Method::POST, format!("{ACCOUNTS}/{account}/refresh")),
        ] {
            let answer = ask(&house, &beta, method.clone(), &path, None).await;
            assert!(matches!(answer.status, 404 | 405), "{method} {path}: {}", answer.text());
            assert!(!answer.text().contains("alpha"), "{}", answer.text());
        }
    }
    let ids = |list: Vec<Value>| {
        list.iter().map(|one| one["id"].as_str().expect("id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(accounts_of(&house, &beta).await), [none.as_str()]);
    let mut alphas = vec![id.clone(), "of-file".to_owned()];
    alphas.sort();
    assert_eq!(ids(accounts_of(&house, &alpha).await), alphas);
    // What the owner sees, it may not change where it stands in the file.
    let refused = ask(&house, &alpha, Method::DELETE, &format!("{ACCOUNTS}/of-file"), None).await;
    assert!(error(&refused, 400).contains("configuration"));
    // Nor is it ever spent for another.
    assert_eq!(chat(&house, &beta, "gpt-4o").await.error(403), "model_not_allowed");
    assert_eq!(chat(&house, &alpha, "gpt-4o").await.status, 200);
    // Nobody without the scope, whatever else they may.
    let chatting = mint(json!({"tenant": "alpha", "scope": "chat"}));
    for (method, path) in [
        (Method::GET, "/api/v1/oauth/platforms".to_owned()),
        (Method::GET, ACCOUNTS.to_owned()),
        (Method::POST, ACCOUNTS.to_owned()),
        (Method::PUT, format!("{ACCOUNTS}/{id}/toggle")),
        (Method::DELETE, format!("{ACCOUNTS}/{id}")),
        (Method::POST, format!("{ACCOUNTS}/{id}/refresh")),
    ] {
        for (who, status) in
            [(chatting.as_str(), 403), (house.token.as_str(), 403), ("sk-weir-no", 401), ("", 401)]
        {
            error(&ask(&house, who, method.clone(), &path, None).await, status);
        }
    }
    for path in ["accounts", "tenants", "audit", "audit/verify", "keys"] {
        for (who, status) in [(alpha.as_str(), 403), ("sk-weir-no", 401)] {
            let url = house.admin_url(&format!("/admin/{path}"));
            assert_eq!(whole(house.client.get(url).bearer_auth(who)).await.status, status, "{path}");
        }
    }
    assert_eq!(ids(accounts_of(&house, &alpha).await), alphas, "nothing has changed");
}

fn credential(house: &House, text: &str) -> String {
    let path = house.folder().join("credential");
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_does_the_same_whether_the_gateway_runs_or_not() {
    let mut house = House::start("").await;
    let file = credential(&house, "sk-from-a-file\n");
    for runs in [true, false] {
        if !runs {
            house.signal("TERM");
            assert!(house.ended().await.success());
        }
        let name = format!("runs-{runs}");
        let (done, printed) = house
            .run(&[
                "account",
                "add",
                "--platform",
                "openai",
                "--name",
                &name,
                "--credential",
                &file,
                "--owner",
                "alpha",
            ])
            .await;
        assert!(done, "{printed}");
        let added: Value = serde_json::from_str(&printed).expect("JSON");
        let id = added["record"]["id"].as_str().expect("an id").to_owned();
        let (done, printed) = house.run(&["account", "test", &id]).await;
        assert!(done && printed.contains("\"ok\":true"), "{printed}");
        let (done, printed) = house.run(&["account", "toggle", &id, "--off"]).await;
        assert!(done && printed.contains("\"enabled\":false"), "{printed}");
        let (done, printed) = house.run(&["account", "list"]).await;
        assert!(done && printed.contains(&id) && printed.contains(&name), "{printed}");
        assert!(!printed.contains("sk-from-a-file"), "{printed}");
        let (done, printed) = house.run(&["account", "remove", &id]).await;
        assert!(done, "{printed}");
        let (done, printed) = house.run(&["account", "remove", &id]).await;
        assert!(!done && printed.contains("no account"), "{printed}");
        let (done, printed) = house.run(&["audit", "list"]).await;
        assert!(done && printed.contains("account.removed") && printed.contains("operator"), "{printed}");
        let (done, printed) = house.run(&["audit", "verify"]).await;
        assert!(done && printed.contains("\"broken\":null"), "{printed}");
    }
    // A pair of keys, and a credential that is none.
    let pair = credential(&house, "access_key=ak-a\nsecret_key = sk-b\n");
    let (done, printed) =
        house.run(&["account", "add", "--platform", "baidu", "--name", "b", "--credential", &pair]).await;
    assert!(done, "{printed}");
    let odd = credential(&house, "one\ntwo\n");
    let (done, printed) =
        house.run(&["account", "add", "--platform", "openai", "--name", "b", "--credential", &odd]).await;
    assert!(!done && printed.contains("NAME=VALUE") && !printed.contains("two"), "{printed}");
    house.restart().await;
    let listed = house.admin(Method::GET, "/admin/accounts").await.json();
    assert_eq!(listed["accounts"].as_array().map(Vec::len), Some(1));
}

/// Killed at any moment while accounts are being added: what was answered is there, each with its entry in the log, and
/// nothing is half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_half_added_when_the_gateway_is_killed() {
    let mut house = House::start("").await;
    let alpha = token("alpha");
    let mut answered: Vec<String> = Vec::new();
    for round in 0..5_u64 {
        let url = house.url(ACCOUNTS);
        let adding = (0..4).map(|lane| {
            let (client, url, alpha) = (house.client.clone(), url.clone(), alpha.clone());
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for number in 0.. {
                    let key = format!("sk-{round}-{lane}-{number}");
                    let new = json!({"platform": "openai", "account_name": "a", "api_key": key});
                    let Ok(answer) = client.post(&url).bearer_auth(&alpha).json(&new).send().await else {
                        break;
                    };
                    let Ok(body) = answer.json::<Value>().await else { break };
                    ids.push(body["data"]["id"].as_str().expect("an id").to_owned());
                }
                ids
            })
        });
        let adding: Vec<_> = adding.collect();
        tokio::time::sleep(std::time::Duration::from_millis(60 + round * 37)).await;
        house.kill().await;
        for lane in adding {
            answered.extend(lane.await.expect("no panic"));
        }
        house.restart().await;
    }
    let (done, listed) = house.run(&["account", "list"]).await;
    assert!(done, "{listed}");
    let listed: Vec<Value> = serde_json::from_str(&listed).expect("JSON");
    let there: Vec<&str> = listed.iter().map(|one| one["id"].as_str().expect("an id")).collect();
    assert!(!answered.is_empty(), "nothing was tried");
    for id in &answered {
        assert!(there.contains(&id.as_str()), "{id} was answered and is gone");
    }
    let added: Vec<String> = audit(&house)
        .await
        .into_iter()
        .filter(|(_, what, _)| what == "account.added")
        .map(|(_, _, on)| on)
        .collect();
    assert_eq!(added.len(), there.len());
    assert!(added.iter().all(|id| there.contains(&id.as_str())));
    let verified = house.admin(Method::GET, "/admin/audit/verify").await.json();
    assert_eq!((verified["good"].as_u64(), &verified["broken"]), (Some(added.len() as u64), &Value::Null));
    assert_eq!(chat(&house, &alpha, "gpt-4o").await.status, 200);
}

/// Somebody who can write to the file changes one entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tampered_entry_of_the_audit_log_is_named() {
    let mut house = House::start("").await;
    let alpha = token("alpha");
    for number in 0..5 {
        add(&house, &alpha, "openai", &format!("sk-{number}")).await;
    }
    house.signal("TERM");
    assert!(house.ended().await.success());
    {
        let logs: redb::TableDefinition<'_, (&str, u64), &[u8]> = redb::TableDefinition::new("logs");
        let file = house.folder().join("store").join(weir::store::FILE_NAME);
        let db = redb::Database::open(file).expect("opens");
        let change = db.begin_write().expect("write");
        {
            let mut table = change.open_table(logs).expect("a table");
            let entry = table.get(("audit", 2)).expect("read").expect("there").value().to_vec();
            let entry = String::from_utf8(entry).expect("text").replace("alpha-user", "omega-user");
            table.insert(("audit", 2), entry.as_bytes()).expect("written");
        }
        change.commit().expect("commit");
    }
    for runs in [false, true] {
        if runs {
            house.restart().await;
        }
        let (right, printed) = house.run(&["audit", "verify"]).await;
        let found: Value = serde_json::from_str(&printed).expect("JSON");
        assert!(!right, "{printed}");
        assert_eq!((&found["broken"]["place"], &found["good"]), (&json!(2), &json!(2)));
    }
}

const K1: &str = "MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE=";
const K2: &str = "MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjI=";

fn vault(keys: &[(&str, &str)]) -> String {
    let keys: Vec<String> = keys.iter().map(|(id, key)| format!("{{id: {id}, key: \"{key}\"}}")).collect();
    format!("vault: {{keys: [{}]}}\n", keys.join(", "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_vault_key_is_a_clear_error_and_loses_nothing() {
    let mut house = House::start(&vault(&[("k1", K1)])).await;
    let alpha = token("alpha");
    let id = add(&house, &alpha, "openai", "sk-of-alpha").await;
    // While it runs, such a configuration is refused, and the old one stays.
    house.write(&vault(&[("k1", K2)]));
    let refused = house.admin(Method::POST, "/admin/reload").await;
    assert!(refused.status == 400 && refused.text().contains("cannot be decrypted"), "{}", refused.text());
    assert_eq!(chat(&house, &alpha, "gpt-4o").await.status, 200);
    house.signal("TERM");
    assert!(house.ended().await.success());
    for (keys, says) in [(("k1", K2), "cannot be decrypted"), (("k2", K1), "was encrypted with the key")] {
        house.write(&vault(&[keys]));
        house.launch(&[]);
        assert!(!house.ended().await.success());
        let log = house.log();
        assert!(log.contains(says) && log.contains(&id) && !log.contains(K2), "{log}");
    }
    house.write(&vault(&[("k1", K1)]));
    house.restart().await;
    assert_eq!(chat(&house, &alpha, "gpt-4o").await.status, 200);
    assert!(!house.folder().join("store/vault.key").exists(), "no key is made where one is named");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_while_requests_run() {
    let mut house = House::start("").await;
    let (alpha, beta) = (token("alpha"), token("beta"));
    for number in 0..20 {
        add(&house, &alpha, "openai", &format!("sk-{number}")).await;
    }
    let own = std::fs::read_to_string(house.folder().join("store/vault.key")).expect("a key of its own");
    assert!(house.log().contains("made a key") && !house.log().contains(own.trim()));
    // The folder's own key still decrypts; the new one encrypts.
    house.write(&vault(&[("k2", K2)]));
    assert_eq!(house.admin(Method::POST, "/admin/reload").await.status, 200);
    let asking = async {
        for _ in 0..60 {
            assert_eq!(chat(&house, &alpha, "gpt-4o").await.status, 200);
        }
    };
    let changing = async {
        for number in 0..20 {
            add(&house, &beta, "openai", &format!("sk-b{number}")).await;
        }
    };
    let rotating = async {
        for _ in 0..3 {
            let (done, printed) = house.run(&["vault", "rotate"]).await;
            assert!(done && printed.contains("\"k2\""), "{printed}");
        }
    };
    tokio::join!(asking, changing, rotating);
    let done = audit(&house).await;
    assert_eq!(done.iter().filter(|(_, what, on)| what == "vault.rotated" && on == "k2").count(), 3);
    house.signal("TERM");
    assert!(house.ended().await.success());
    // Nothing needs the old key any more.
    std::fs::remove_file(house.folder().join("store/vault.key")).expect("removed");
    house.restart().await;
    assert_eq!(accounts_of(&house, &alpha).await.len(), 20);
    assert_eq!(chat(&house, &alpha, "gpt-4o").await.status, 200);
    assert_eq!(chat(&house, &beta, "gpt-4o").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_whose_platform_is_gone_holds_nothing_up() {
    const OWN: &str = "platforms:\n  my-vllm: {dialect: openai, base_url: \"http://$FAKE/openai/v1\", auth: bearer, models: [llama]}\n";
    let mut house = House::start(OWN).await;
    let alpha = token("alpha");
    let stranded = add(&house, &alpha, "my-vllm", "sk-v").await;
    add(&house, &alpha, "openai", "sk-a").await;
    house.signal("TERM");
    assert!(house.ended().await.success());
    house.write("");
    house.restart().await;
    assert!(
        house.log().contains(&stranded) && house.log().contains("no platform 'my-vllm'"),
        "{}",
        house.log()
    );
    assert_eq!(chat(&house, &alpha, "gpt-4o").await.status, 200);
    let listed = accounts_of(&house, &alpha).await;
    let one = listed.iter().find(|one| one["id"] == stranded.as_str()).expect("still there");
    assert_eq!(one["is_available"], false);
    // With its platform it is back, without a restart.
    house.write(OWN);
    assert_eq!(house.admin(Method::POST, "/admin/reload").await.status, 200);
    assert_eq!(house.account(&stranded).await["is_available"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_platform_no_longer_takes_is_in_the_audit_log() {
    let house = House::start("").await;
    let alpha = token("alpha");
    let id = add(&house, &alpha, "openai", "sk-of-alpha").await;
    let body = question("gpt-4o", "@error=auth_invalid", false);
    let refused =
        whole(house.client.post(house.url("/v1/chat/completions")).bearer_auth(&alpha).json(&body)).await;
    assert_eq!(refused.error(502), "upstream_auth_failed");
    until("it is noted", || async {
        audit(&house).await.contains(&("weir".to_owned(), "account.expired".to_owned(), id.clone()))
    })
    .await;
    assert_eq!(accounts_of(&house, &alpha).await[0]["is_expired"], true);
    let expired = audit(&house).await.iter().filter(|(_, what, _)| what == "account.expired").count();
    assert_eq!(expired, 1);
    // Switched on again it is tried again.
    let toggle = format!("{ACCOUNTS}/{id}/toggle");
    let on = json!({"is_active": true});
    assert_eq!(data(&ask(&house, &alpha, Method::PUT, &toggle, Some(&on)).await)["is_expired"], false);
    assert_eq!(chat(&house, &alpha, "gpt-4o").await.status, 200);
}

/// L1: no part of a credential anywhere but on its way to the platform.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_no_credential_is_in_a_log_an_answer_the_audit_or_the_file() {
    let mut canaries = Canaries::default();
    let (one, ak, sk) = (
        canaries.plant("api key", "sk-"),
        canaries.plant("access key", "ak"),
        canaries.plant("secret key", "sk"),
    );
    let by_file = canaries.plant("key from a file", "sk-");
    let mut house = House::start("log: {level: trace, format: json}\n").await;
    let alpha = token("alpha");
    let mut answers = Vec::new();
    let keys = json!({"platform": "openai", "account_name": "one", "api_key": one});
    let pair = json!({"platform": "baidu", "account_name": "two", "access_key": ak, "secret_key": sk});
    let misplaced = json!({"platform": one, "account_name": 7, "api_key": one});
    let unknown = json!({"platform": "openai", "account_name": "x", "weight": one, "api_key": one});
    for body in [&keys, &pair, &misplaced, &unknown] {
        answers.push(ask(&house, &alpha, Method::POST, ACCOUNTS, Some(body)).await);
    }
    let id = answers[0].json()["data"]["id"].as_str().expect("an id").to_owned();
    let file = credential(&house, &by_file);
    let (done, printed) =
        house.run(&["account", "add", "--platform", "qwen", "--name", "f", "--credential", &file]).await;
    std::fs::remove_file(&file).expect("removed");
    assert!(done, "{printed}");
    canaries.must_not_be_in("the command's output", printed.as_bytes());
    // What platforms say of the key, they say to us.
    for text in ["hello", "@error=auth_invalid", "@error=server_error"] {
        let body = question("gpt-4o", text, false);
        answers.push(
            whole(house.client.post(house.url("/v1/chat/completions")).bearer_auth(&alpha).json(&body)).await,
        );
    }
    answers.push(ask(&house, &alpha, Method::GET, ACCOUNTS, None).await);
    answers.push(ask(&house, &alpha, Method::PUT, &format!("{ACCOUNTS}/{id}/toggle"), None).await);
    for path in ["accounts", "audit", "tenants", "keys", "audit/verify"] {
        answers.push(house.admin(Method::GET, &format!("/admin/{path}")).await);
    }
    let (done, printed) = house.run(&["vault", "rotate"]).await;
    assert!(done, "{printed}");
    for answer in &answers {
        canaries.must_not_be_in("an answer", &answer.body);
    }
    canaries.must_not_be_in("the metrics", house.metrics().await.as_bytes());
    house.signal("TERM");
    assert!(house.ended().await.success());
    canaries.must_not_be_in("the log", house.log().as_bytes());
    look_into(&house.folder().join("store"), &canaries);
}

fn look_into(folder: &Path, canaries: &Canaries) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        canaries.must_not_be_in(&entry.path().display().to_string(), &bytes);
    }
}
