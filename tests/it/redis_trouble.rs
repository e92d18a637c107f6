//! Redis in trouble: killed, asleep, read-only, full, without its scripts. What callers see meanwhile, and that it ends by itself.

use std::time::Duration;

use tokio::time::Instant;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::house::{House, question, until, value_of, whole};
use super::replicas::{Redis, account, count, question_of, replicas, status, until_status};

/// A gateway whose every request needs the authority: leases of one are no use to the next for long.
async fn house(redis: &Redis, more: &str) -> House {
    House::start(&format!("{}{}{more}", redis.store(), account("daily_requests: 1000, concurrency: 50")))
        .await
}

async fn ask(house: &House) -> (u16, Duration) {
    let began = Instant::now();
    let found = status(house.request(&question("openai/gpt-4o", "hi", false))).await;
    (found, began.elapsed())
}

/// While Redis is gone: served from leases or refused, at once, and never for a wrong reason.
async fn is_refused_well(house: &House) {
    let took = until_status(house, 503, 429, Duration::from_secs(4)).await;
    assert!(took < Duration::from_secs(3), "leases last a second, not {took:?}");
    for _ in 0..5 {
        let began = Instant::now();
        let answer = house.chat("openai/gpt-4o", "hi").await;
        assert_eq!(answer.error(503), "pool_unavailable");
        assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|wait| wait >= 1));
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    }
    assert_eq!(house.admin(http::Method::GET, "/livez").await.status, 200);
    assert_eq!(house.admin(http::Method::GET, "/readyz").await.status, 503);
}

/// One line tells that it began, one that it is over.
fn is_told_once(house: &House) {
    let log = house.log();
    assert_eq!(log.matches("the pool's authority does not answer").count(), 1, "{log}");
    assert_eq!(log.matches("the pool's authority answers again").count(), 1, "{log}");
}

/// R12.1, R12.2: asleep. Streams go on, new requests hear it at once, and all is well within two seconds of the end.
#[tokio::test]
async fn r12_1_a_redis_that_hangs() {
    let redis = Redis::start(&[]);
    let house = house(&redis, "").await;
    assert_eq!(ask(&house).await.0, 200);
    let stream = house.stream("openai/gpt-4o", "@words=60 @gap=50 hi");
    let trouble = async {
        sleep(Duration::from_millis(300)).await;
        redis.signal("STOP");
        let stopped = Instant::now();
        for _ in 0..10 {
            let is_known = stopped.elapsed() > Duration::from_secs(1);
            let (found, took) = ask(&house).await;
            assert!(found == 200 || found == 503, "{found}");
            // Only who comes while it is not yet known may have to wait for the answer that does not come.
            let patience = Duration::from_millis(if is_known { 500 } else { 2_000 });
            assert!(took < patience, "{took:?}, {:?} after the stop", stopped.elapsed());
        }
        is_refused_well(&house).await;
    };
    let (stream, ()) = tokio::join!(stream, trouble);
    assert!(stream.events().is_whole(), "{}", stream.text());
    redis.signal("CONT");
    let took = until_status(&house, 200, 429, Duration::from_secs(10)).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    is_told_once(&house);
}

/// Q7: killed and started again with its file. Nothing that was spent is forgotten.
#[tokio::test]
async fn q7_a_redis_that_is_killed_and_comes_back() {
    let mut redis = Redis::start(&[]);
    let house = House::start(&format!("{}{}", redis.store(), account("daily_requests: 200"))).await;
    let body = question_of(100, "hi");
    assert_eq!(count(&join_all((0..20).map(|_| status(house.request(&body)))).await, 200), 20);
    redis.kill();
    is_refused_well(&house).await;
    assert!(redis.launch());
    let took = until_status(&house, 200, 429, Duration::from_secs(10)).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    is_told_once(&house);
    for _ in 0..5 {
        join_all((0..50).map(|_| status(house.request(&body)))).await;
    }
    assert_eq!(house.counted("openai", "requests").await, 200);
}

/// R12.4: scripts that the server forgot are sent again, and nobody notices.
#[tokio::test]
async fn r12_4_scripts_are_not_relied_on() {
    let redis = Redis::start(&[]);
    let house = house(&redis, "").await;
    // How often the server was asked for a script that it had forgotten.
    let missed = || {
        let told = redis.tell(&["INFO", "errorstats"]);
        let count = told.lines().find_map(|line| line.strip_prefix("errorstat_NOSCRIPT:count="));
        count.map_or(0, |count| count.trim().parse::<u64>().expect("a number"))
    };
    for _ in 0..10 {
        let before = missed();
        redis.tell(&["SCRIPT", "FLUSH"]);
        until("a script is missed", || async {
            assert_eq!(ask(&house).await.0, 200);
            missed() > before
        })
        .await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ask(&house).await.0, 200);
    assert!(!house.log().contains("does not answer"));
}

/// Q7: a server that takes no writes, or has no room, is one that does not answer.
#[tokio::test]
async fn q7_a_redis_that_takes_no_writes() {
    let redis = Redis::start(&[]);
    let house = house(&redis, "").await;
    let troubles: [(&[&str], &[&str]); 2] = [
        (&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]),
        (&["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"]),
    ];
    for (begin, end) in troubles {
        assert_eq!(ask(&house).await.0, 200);
        assert_eq!(redis.tell(begin), "OK");
        is_refused_well(&house).await;
        assert_eq!(redis.tell(end), "OK");
        let took = until_status(&house, 200, 429, Duration::from_secs(10)).await;
        assert!(took < Duration::from_secs(2), "{begin:?}: {took:?}");
    }
}

/// R12.3: who wants to go on goes on, within the limits as this process counts them.
#[tokio::test]
async fn r12_3_fail_open_goes_on_and_counts() {
    let mut redis = Redis::start(&[]);
    let fragment =
        format!("{}{}pool: {{on_outage: fail_open}}\n", redis.store(), account("daily_requests: 20"));
    let house = House::start(&fragment).await;
    let body = question_of(100, "hi");
    assert_eq!(count(&join_all((0..5).map(|_| status(house.request(&body)))).await, 200), 5);
    redis.kill();
    let deadline = Instant::now() + Duration::from_secs(4);
    while Instant::now() < deadline {
        let (found, took) = ask(&house).await;
        assert!([200, 429].contains(&found), "{found}");
        assert!(took < Duration::from_secs(2), "{took:?}");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(house.counted("openai", "requests").await, 20);
    assert!(redis.launch());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(ask(&house).await.0, 429, "what was served meanwhile counts");
}

/// R12.3 over replicas: all of them together stay within what was left when the authority fell silent.
#[tokio::test]
async fn r12_3_fail_open_shares_what_was_left() {
    let mut redis = Redis::start(&[]);
    let limits = account("daily_requests: 60");
    let houses = replicas(3, &format!("{}{limits}pool: {{on_outage: fail_open}}\n", redis.store())).await;
    let body = question_of(100, "hi");
    for house in &houses {
        until("all are known", || async { value_of(&house.metrics().await, "weir_replicas") == 3.0 }).await;
    }
    let statuses = join_all((0..15).map(|number| status(houses[number % 3].request(&body)))).await;
    assert_eq!(count(&statuses, 200), 15);
    // What each one knows is as of its last word with the authority.
    sleep(Duration::from_millis(600)).await;
    redis.kill();
    until("it is noticed", || async {
        value_of(&houses[0].metrics().await, "weir_pool_authority_up") == 0.0
    })
    .await;
    let deadline = Instant::now() + Duration::from_secs(4);
    while Instant::now() < deadline {
        let statuses = join_all((0..9).map(|number| status(houses[number % 3].request(&body)))).await;
        assert_eq!(count(&statuses, 200) + count(&statuses, 429), 9, "{statuses:?}");
        sleep(Duration::from_millis(50)).await;
    }
    let served = houses[0].counted("openai", "requests").await;
    assert!((45..=60).contains(&served), "{served} of 60");
    assert!(redis.launch());
    until("it is noticed", || async {
        value_of(&houses[0].metrics().await, "weir_pool_authority_up") == 1.0
    })
    .await;
}

/// R12.5: connections are made once.
#[tokio::test]
async fn r12_5_reloads_make_no_connections() {
    let redis = Redis::start(&[]);
    let house = house(&redis, "").await;
    let connections =
        || redis.tell(&["CLIENT", "LIST"]).lines().filter(|line| !line.contains("cmd=client")).count();
    let before = connections();
    assert!(before > 0);
    for _ in 0..30 {
        assert_eq!(house.admin(http::Method::POST, "/admin/reload").await.status / 100, 2);
    }
    assert_eq!(connections(), before);
}

/// A replica without a request notices, too, and is not ready.
#[tokio::test]
async fn an_idle_replica_notices_that_redis_is_gone() {
    let mut redis = Redis::start(&[]);
    let house = house(&redis, "").await;
    let ready = || async { house.admin(http::Method::GET, "/readyz").await.status };
    redis.kill();
    until("it is not ready", || async { ready().await == 503 }).await;
    assert!(redis.launch());
    until("it is ready", || async { ready().await == 200 }).await;
    is_told_once(&house);
}

/// A key made at one replica opens the others, and revoked at one it is refused at all, within a second.
#[tokio::test]
async fn a_key_revoked_anywhere_is_refused_everywhere() {
    let redis = Redis::start(&[]);
    let houses = replicas(3, &format!("{}{}", redis.store(), account("rpm: 10000"))).await;
    let new = serde_json::json!({"name": "k", "tenant": "alpha", "scopes": ["chat"]});
    let made =
        houses[0].client.post(houses[0].admin_url("/admin/keys")).bearer_auth(&houses[0].token).json(&new);
    let made = whole(made).await;
    assert_eq!(made.status / 100, 2, "{}", made.text());
    let (key, id) = (made.json()["key"].clone(), made.json()["record"]["id"].clone());
    let (key, id) = (key.as_str().expect("a key").to_owned(), id.as_str().expect("an id").to_owned());
    let asks = |house: &House| {
        let request = house.client.post(house.url("/v1/chat/completions")).bearer_auth(&key);
        request.json(&question("openai/gpt-4o", "hi", false))
    };
    for house in &houses {
        until("the key is known", || async { status(asks(house)).await == 200 }).await;
    }
    let revoked = houses[2].admin(http::Method::DELETE, &format!("/admin/keys/{id}")).await;
    assert_eq!(revoked.status / 100, 2, "{}", revoked.text());
    let began = Instant::now();
    assert_eq!(status(asks(&houses[2])).await, 401);
    for house in &houses {
        until("the key is refused", || async { status(asks(house)).await == 401 }).await;
    }
    assert!(began.elapsed() < Duration::from_millis(1_300), "{:?}", began.elapsed());
    // What is in Redis opens nothing.
    let dump = redis.tell(&["HGETALL", "weir:1:{records}:rows:keys"]);
    assert!(dump.contains(&id) && !dump.contains(&key["sk-weir-".len()..]));
}

/// A password is needed, wrong, right; and never seen.
#[tokio::test]
async fn a_password_is_used_and_never_shown() {
    let redis = Redis::start(&["--requirepass", "canary-of-redis"]);
    redis.tell(&[
        "--no-auth-warning",
        "-a",
        "canary-of-redis",
        "ACL",
        "SETUSER",
        "weir",
        "on",
        ">canary-of-weir",
        "~weir:*",
        "+@all",
    ]);
    let with = |login: &str| {
        redis.store().replace("redis://", &format!("redis://{login}@")) + &account("daily_requests: 10")
    };
    let house = House::start(&with("weir:canary-of-weir")).await;
    assert_eq!(ask(&house).await.0, 200);
    let wrong = House::start("").await;
    wrong.write(&with("weir:canary-that-is-wrong"));
    let (went_well, told) = wrong.run(&["key", "list"]).await;
    assert!(!went_well && told.contains("refuses the user or the password"), "{told}");
    let seen = house.log() + &wrong.log() + &told + &house.metrics().await;
    assert!(!seen.contains("canary"), "{seen}");
}

/// A server that would throw counters away is told of loudly, and refused where that is asked for.
#[tokio::test]
async fn a_server_that_may_forget_is_told_of() {
    let redis = Redis::start(&["--maxmemory-policy", "allkeys-lru"]);
    let house = house(&redis, "").await;
    until("the warning", || async { house.log().contains("maxmemory-policy allkeys-lru") }).await;
    house.write(&(redis.store().replace("\nvault", "?strict=true\nvault") + &account("rpm: 1")));
    let (went_well, told) = house.run(&["key", "list"]).await;
    assert!(!went_well && told.contains("strict=true"), "{told}");
    assert_eq!(replicas(1, &redis.store()).await.len(), 1);
}
