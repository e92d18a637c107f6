//! A Redis user that may do what Weir does, and nothing else: the line that the README gives is enough, and no word of it is
//! too many.

use http::Method;
use serde_json::json;

use super::house::{House, mint, until, whole};
use super::replicas::{Redis, account};

/// The README's line, with our password.
fn rule() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let line =
        readme.lines().find(|line| line.starts_with("ACL SETUSER weir ")).expect("the line in the README");
    line.split(' ')
        .map(|word| if word.starts_with('>') { ">secret".to_owned() } else { word.to_owned() })
        .collect()
}

/// Everything that a gateway asks of its store.
async fn use_all(house: &House) {
    for _ in 0..3 {
        assert_eq!(house.chat("openai/gpt-4o", "hi").await.status, 200);
    }
    let new = json!({"name": "k", "tenant": "alpha", "scopes": ["chat"]});
    let made = house.client.post(house.admin_url("/admin/keys")).bearer_auth(&house.token).json(&new);
    let made = whole(made).await;
    assert_eq!(made.status / 100, 2, "{}", made.text());
    let id = made.json()["record"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(house.admin(Method::DELETE, &format!("/admin/keys/{id}")).await.status / 100, 2);
    let token = mint(json!({"scope": "chat accounts"}));
    let new = json!({"platform": "qwen", "account_name": "mine", "api_key": "sk-mine"});
    let accounts = house.url("/api/v1/oauth/accounts");
    let added = whole(house.client.post(&accounts).bearer_auth(&token).json(&new)).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let id = added.json()["data"]["id"].as_str().expect("an id").to_owned();
    let removed = whole(house.client.delete(format!("{accounts}/{id}")).bearer_auth(&token)).await;
    assert_eq!(removed.status, 200, "{}", removed.text());
    for path in ["/admin/keys", "/admin/audit", "/admin/audit/verify", "/admin/usage?by=account"] {
        assert_eq!(house.admin(Method::GET, path).await.status, 200, "{path}");
    }
    house.chat("openai/gpt-4o", "@error=rate_limited hi").await;
    let (is_fine, told) = house.run(&["key", "list"]).await;
    assert!(is_fine, "{told}");
}

#[tokio::test]
async fn a_user_that_may_do_only_what_weir_does() {
    let redis = Redis::start(&[]);
    let words = rule();
    assert_eq!(redis.tell(&words.iter().map(String::as_str).collect::<Vec<_>>()), "OK");
    // Room for the answers of 256 replicas: then the oldest has to go.
    let answers: Vec<String> =
        (0..256).flat_map(|number| [format!("old{number}"), "1 1 x".to_owned()]).collect();
    let mut fill = vec!["HSET", "weir:1:{acct:a}:answers"];
    fill.extend(answers.iter().map(String::as_str));
    assert_eq!(redis.tell(&fill), "256");
    redis.tell(&["CONFIG", "RESETSTAT"]);
    redis.tell(&["ACL", "LOG", "RESET"]);
    let store = redis.store().replace("redis://", "redis://weir:secret@");
    let house = House::start(&(store + &account("daily_requests: 1000, concurrency: 5, rpm: 1000"))).await;
    use_all(&house).await;
    assert_eq!(redis.tell(&["ACL", "LOG"]), "", "nothing was refused");
    assert!(!house.log().contains("NOPERM"), "{}", house.log());
    assert!(!house.log().contains("does not tell"), "{}", house.log());
    // What is allowed is made use of. Our own questions here are for INFO and ACL.
    for word in words.iter().filter_map(|word| word.strip_prefix('+')).filter(|word| *word != "info") {
        until(&format!("{word} is used"), || async {
            redis.tell(&["INFO", "commandstats"]).contains(&format!("cmdstat_{word}:"))
        })
        .await;
    }
    // Another's keys are out of reach, and so is everything else.
    let as_weir = |words: &[&str]| {
        redis.tell(&[&["--no-auth-warning", "--user", "weir", "--pass", "secret"], words].concat())
    };
    assert!(as_weir(&["SET", "other", "1"]).contains("NOPERM"));
    assert!(as_weir(&["FLUSHALL"]).contains("NOPERM"));
    assert!(as_weir(&["CONFIG", "SET", "maxmemory", "1"]).contains("NOPERM"));
}
