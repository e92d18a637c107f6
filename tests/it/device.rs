//! Accounts by a code that somebody types in elsewhere, against strict simulated providers: the whole way to a chat completion, what
//! providers say instead of yes, who may ask how it stands, how many may wait, and who asks when several gateways could.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::house::{Answer, House, start_fake, until, whole};
use super::idp::{Idp, accounts, ask, caller, chat, data, error, initiate, owner};
use super::misfortune::is_slow_wanted;
use super::replicas::Redis;

/// Qwen's and Hugging Face's sign-in are the fake's.
const OAUTH: &str = "oauth:\n  providers:\n    qwen: {client_id: weir-qwen, token_url: \"http://$FAKE/idp/qwen/api/v1/oauth2/token\", \
    device_url: \"http://$FAKE/idp/qwen/api/v1/oauth2/device/code\", resource_hosts: [\"127.0.0.1\"]}\n    \
    huggingface: {client_id: weir-huggingface, client_secret: secret-huggingface, issuer: \"http://$FAKE/idp/huggingface\", \
    authorize_url: \"http://$FAKE/idp/huggingface/oauth/authorize\", token_url: \"http://$FAKE/idp/huggingface/oauth/token\", \
    device_url: \"http://$FAKE/idp/huggingface/oauth/device\", userinfo_url: \"http://$FAKE/idp/huggingface/oauth/userinfo\", \
    jwks_url: \"http://$FAKE/idp/huggingface/oauth/jwks\"}\n";

async fn house() -> (House, Idp) {
    let house = House::start(OAUTH).await;
    let qwen = Idp::of(&house, "qwen");
    qwen.tell("settings", json!({"interval_s": 1})).await;
    (house, qwen)
}

fn wish(name: &str) -> Value {
    json!({"platform": "qwen", "account_name": name})
}

/// What is shown to whoever begins.
async fn begin(house: &House, token: &str, ask: Value) -> Value {
    let begun = initiate(house, token, ask).await;
    assert_eq!(begun.header("cache-control"), "no-store");
    let told = data(&begun);
    for name in ["auth_url", "state", "user_code", "verification_uri"] {
        assert!(told[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {told}");
    }
    assert!(told["interval"].as_u64().is_some_and(|seconds| seconds > 0), "{told}");
    told
}

async fn look(house: &House, token: &str, state: &str) -> Answer {
    ask(house, token, "GET", &format!("/api/v1/oauth/status?state={state}"), None).await
}

/// Waits until a sign-in is over, and gives back how it ended.
async fn over(house: &House, told: &Value) -> Value {
    let state = told["state"].as_str().expect("a state");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let standing = data(&look(house, &owner(), state).await);
        if standing["status"] != "pending" {
            return standing;
        }
        assert!(Instant::now() < deadline, "still {standing}");
        sleep(Duration::from_millis(200)).await;
    }
}

async fn answer(qwen: &Idp, told: &Value, answer: &str) {
    qwen.tell("device", json!({"user_code": told["user_code"], "person": "ann", "answer": answer})).await;
}

#[tokio::test]
async fn from_the_code_to_a_chat_completion_where_the_token_says() {
    let (house, qwen) = house().await;
    let platforms = data(&ask(&house, &owner(), "GET", "/api/v1/oauth/platforms", None).await);
    let of = |name: &str| {
        let found = platforms.as_array().expect("a list").iter().find(|one| one["platform_id"] == name);
        found.expect("a platform")["onboarding"].clone()
    };
    assert_eq!(of("qwen"), json!(["api_key", "device_code"]));
    assert_eq!(of("huggingface"), json!(["api_key", "oauth", "device_code"]));
    assert_eq!(of("baidu-v1"), json!(["client_credentials"]));
    let told = begin(&house, &owner(), wish("mine")).await;
    assert!(told["auth_url"].as_str().expect("text").contains(told["user_code"].as_str().expect("text")));
    let state = told["state"].as_str().expect("text");
    let standing = data(&look(&house, &owner(), state).await);
    assert_eq!((&standing["status"], standing["expires_in"].as_u64().is_some()), (&json!("pending"), true));
    // Nobody asks how it stands: the account is there all the same, a moment after the person agreed.
    answer(&qwen, &told, "allow").await;
    until("it is there", || async { !accounts(&house, &owner()).await.is_empty() }).await;
    let done = over(&house, &told).await;
    let listed = &accounts(&house, &owner()).await[0];
    assert_eq!(done["account"], json!({"id": listed["id"], "account_name": "mine", "platform_id": "qwen"}));
    assert_eq!(listed["models"], json!(["coder-model"]));
    assert_eq!((&listed["consent"]["provider"], &listed["is_expired"]), (&json!("qwen"), &json!(false)));
    // One code: one exchange, over and done.
    let polls = qwen.asked("token").await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(qwen.asked("token").await, polls, "nobody asks on");
    assert_eq!(whole(chat(&house, "qwen/coder-model")).await.status, 200);
    let seen = house.requests().await;
    let last = seen.last().expect("a request");
    assert!(last["path"].as_str().expect("a path").starts_with("/qwen/v1/"), "where the token says: {last}");
    let header = json!(["x-dashscope-authtype", "qwen-oauth"]);
    assert!(last["headers"].as_array().expect("headers").contains(&header), "{last}");
    // A renewal that names another place: not one that a token may go to.
    let trap = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    trap.set_nonblocking(true).expect("a socket");
    let place = format!("http://localhost:{}/qwen", trap.local_addr().expect("bound").port());
    qwen.tell("settings", json!({"interval_s": 1, "resource_url": place})).await;
    qwen.tell("expire", json!({"access": true})).await;
    assert_eq!(whole(chat(&house, "qwen/coder-model")).await.status, 200);
    assert_eq!(whole(chat(&house, "qwen/coder-model")).await.status, 200);
    assert_eq!(qwen.grants("refresh_token").await, 1);
    assert!(trap.accept().is_err(), "the token was taken elsewhere");
}

#[tokio::test]
async fn whoever_says_no_or_comes_late() {
    let (house, qwen) = house().await;
    let told = begin(&house, &owner(), wish("no")).await;
    answer(&qwen, &told, "deny").await;
    assert_eq!(over(&house, &told).await["status"], "denied");
    // Its time is over before anybody types it in: by the provider's word, and by the clock.
    let told = begin(&house, &owner(), wish("late")).await;
    qwen.tell("expire", json!({"codes": true})).await;
    assert_eq!(over(&house, &told).await["status"], "expired");
    if is_slow_wanted() {
        qwen.tell("settings", json!({"interval_s": 1, "device_s": 2})).await;
        let told = begin(&house, &owner(), wish("later")).await;
        qwen.tell("faults", json!({"on": "token", "times": null, "error": "authorization_pending"})).await;
        assert_eq!(over(&house, &told).await["status"], "expired");
        qwen.tell("faults", json!([])).await;
    }
    // A code that the provider never heard of.
    qwen.tell("settings", json!({"interval_s": 1})).await;
    let told = begin(&house, &owner(), wish("forgotten")).await;
    qwen.tell("reset", json!({})).await;
    assert_eq!(over(&house, &told).await["status"], "expired");
    assert!(accounts(&house, &owner()).await.is_empty());
    // Less than what is needed there was agreed to.
    let hugging = Idp::of(&house, "huggingface");
    hugging
        .tell("settings", json!({"interval_s": 1, "auto": "ann", "grant_only": ["openid", "profile"]}))
        .await;
    let wish = json!({"platform": "huggingface", "account_name": "x", "flow": "device_code"});
    let told = begin(&house, &owner(), wish).await;
    let ended = over(&house, &told).await;
    assert!(
        ended["status"] == "failed" && ended["message"].as_str().expect("text").contains("inference-api")
    );
    assert!(accounts(&house, &owner()).await.is_empty());
}

/// S2: a token that says that it is good somewhere inside is taken to its platform and nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_a_token_leads_nowhere_inside() {
    let house = House::start(&OAUTH.replace(", resource_hosts: [\"127.0.0.1\"]", "")).await;
    let qwen = Idp::of(&house, "qwen");
    let trap = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    trap.set_nonblocking(true).expect("a socket");
    let port = trap.local_addr().expect("bound").port();
    for place in [
        format!("http://127.0.0.1:{port}/v1"),
        format!("2130706433:{port}"),
        format!("localhost:{port}"),
        format!("https://portal.qwen.ai@127.0.0.1:{port}/v1"),
        format!("[::ffff:127.0.0.1]:{port}"),
        "169.254.169.254".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        qwen.tell("settings", json!({"interval_s": 1, "auto": "ann", "resource_url": place})).await;
        let told = begin(&house, &owner(), wish("x")).await;
        let ended = over(&house, &told).await;
        assert_eq!(ended["status"], "done", "{place}");
        let id = ended["account"]["id"].as_str().expect("an id");
        let answered = whole(chat(&house, "qwen/coder-model")).await;
        assert_eq!(answered.status, 200, "{place}: {}", answered.text());
        data(&ask(&house, &owner(), "DELETE", &format!("/api/v1/oauth/accounts/{id}"), None).await);
    }
    assert!(trap.accept().is_err(), "somebody came");
}

/// Too often: five seconds more from then on, and no less. Trouble of the provider's own is waited out.
#[tokio::test]
async fn whoever_asks_too_often_or_at_the_wrong_time() {
    let (house, qwen) = house().await;
    for (fault, pace) in [
        (json!({"on": "token", "error": "slow_down"}), 6),
        (json!({"on": "token", "status": 502}), 2),
        (json!({"on": "token", "html": true}), 2),
        (json!({"on": "token", "nothing": true}), 2),
        (json!({"on": "token", "body": ""}), 2),
    ] {
        let told = begin(&house, &owner(), wish("slow")).await;
        qwen.tell("faults", fault.clone()).await;
        let state = told["state"].as_str().expect("text").to_owned();
        let slower = || async { data(&look(&house, &owner(), &state).await)["interval"] == pace };
        until("the pace is another", slower).await;
        answer(&qwen, &told, "allow").await;
        assert_eq!(over(&house, &told).await["status"], "done", "{fault}");
        let id = accounts(&house, &owner()).await[0]["id"].as_str().expect("an id").to_owned();
        let path = format!("/api/v1/oauth/accounts/{id}");
        assert_eq!(data(&ask(&house, &owner(), "DELETE", &path, None).await)["revoked"], false);
    }
}

#[tokio::test]
async fn what_cannot_begin_is_told_at_once() {
    let (house, qwen) = house().await;
    for (fault, status) in [
        (json!({"on": "device", "status": 500}), 502),
        (json!({"on": "device", "html": true}), 502),
        (json!({"on": "device", "error": "invalid_client"}), 400),
        (json!({"on": "device", "set": {"verification_uri": "javascript:alert(1)"}}), 502),
        (json!({"on": "device", "drop": ["device_code"]}), 502),
        (json!({"on": "device", "big": 2_000_000}), 502),
        (json!({"on": "device", "status": 302, "location": "http://127.0.0.1:1/"}), 502),
    ] {
        qwen.tell("faults", fault.clone()).await;
        let refused = initiate(&house, &owner(), wish("x")).await;
        error(&refused, status);
        assert!(!refused.text().contains("127.0.0.1"), "{fault}: {}", refused.text());
    }
    for (wish, why) in [
        (json!({"platform": "qwen", "account_name": "x", "flow": "oauth"}), "no such flow"),
        (json!({"platform": "qwen", "account_name": ""}), "account_name"),
        (json!({"platform": "qwen", "account_name": "x", "redirect_after": "//evil"}), "redirect_after"),
        (json!({"platform": "qwen", "account_name": "x", "flow": "magic"}), "wrong kind"),
    ] {
        let why_not = error(&initiate(&house, &owner(), wish).await, 400);
        assert!(why_not.contains(why), "{why_not}");
    }
    // A page with a script for an address is no page, where there is another one without.
    let complete = json!({"verification_uri_complete": "javascript:alert(1)"});
    qwen.tell("faults", json!({"on": "device", "set": complete})).await;
    let told = begin(&house, &owner(), wish("x")).await;
    assert!(told["verification_uri_complete"].is_null() && told["auth_url"] == told["verification_uri"]);
    // Whose it is, is a secret of theirs.
    let state = told["state"].as_str().expect("text");
    for stranger in [caller("alice", "beta"), caller("bob", "alpha")] {
        error(&look(&house, &stranger, state).await, 404);
    }
    for made_up in ["", "x", &"x".repeat(4000), "..", "%00", &format!("{state}x")] {
        error(&look(&house, &owner(), made_up).await, 404);
    }
    let chat_only = super::house::mint(json!({"scope": "chat"}));
    error(&look(&house, &chat_only, state).await, 403);
    error(&initiate(&house, &chat_only, wish("x")).await, 403);
    assert_eq!(data(&look(&house, &owner(), state).await)["status"], "pending");
}

/// Ten thousand that begin are refused, and what they began before goes on; nobody else feels it.
#[tokio::test]
async fn whoever_begins_without_end_is_told_so() {
    let (house, qwen) = house().await;
    let first = begin(&house, &owner(), wish("first")).await;
    let tries = if is_slow_wanted() { 10_000 } else { 300 };
    let mut begun = 1;
    for number in 0..tries {
        let answer = initiate(&house, &owner(), wish(&format!("a{number}"))).await;
        if answer.status == 200 {
            begun += 1;
            continue;
        }
        assert!(error(&answer, 429).contains("not finished"));
        let wait: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=900).contains(&wait), "{wait}");
    }
    assert_eq!((begun, qwen.asked("device").await), (20, 20), "and the provider was not asked either");
    assert_eq!(initiate(&house, &caller("bob", "alpha"), wish("b")).await.status, 200, "bob is not alice");
    answer(&qwen, &first, "allow").await;
    assert_eq!(over(&house, &first).await["status"], "done");
    assert_eq!(
        initiate(&house, &owner(), wish("again")).await.status,
        200,
        "one is over: there is room for one"
    );
    error(&initiate(&house, &owner(), wish("again")).await, 429);
}

/// The same of very many at the same moment, at two gateways of one store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn very_many_at_once_are_no_more_than_one_after_another() {
    let redis = Redis::start(&[]);
    let fake = start_fake("");
    let fragment = format!("{}{OAUTH}", redis.store());
    let one = House::start_beside(fake, &fragment, &[]).await;
    let other = House::start_beside(fake, &fragment, &[]).await;
    let qwen = Idp::of(&one, "qwen");
    qwen.tell("settings", json!({"interval_s": 1})).await;
    let at_once = async |count: usize| {
        let all = (0..count).map(|number| {
            let house = if number % 2 == 0 { &one } else { &other };
            async move { initiate(house, &owner(), wish(&format!("a{number}"))).await }
        });
        let answers = futures_util::future::join_all(all).await;
        let (begun, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        for answer in refused {
            assert!(error(answer, 429).contains("not finished"));
        }
        begun.into_iter().map(data).collect::<Vec<Value>>()
    };
    let begun = at_once(300).await;
    assert_eq!((begun.len(), qwen.asked("device").await), (20, 20));
    answer(&qwen, &begun[7], "deny").await;
    assert_eq!(over(&other, &begun[7]).await["status"], "denied");
    assert_eq!((at_once(60).await.len(), qwen.asked("device").await), (1, 21), "one is over: one may begin");
}

/// A provider in trouble begins nothing, so nothing of it counts.
#[tokio::test]
async fn what_could_not_begin_takes_no_place() {
    let (house, qwen) = house().await;
    qwen.tell("faults", json!({"on": "device", "status": 500, "times": null})).await;
    for number in 0..30 {
        error(&initiate(&house, &owner(), wish(&format!("a{number}"))).await, 502);
    }
    qwen.tell("faults", json!([])).await;
    for number in 0..20 {
        begin(&house, &owner(), wish(&format!("b{number}"))).await;
    }
    error(&initiate(&house, &owner(), wish("c")).await, 429);
}

/// Two gateways, one store: the provider is asked at its own pace, and when the one that began is gone the other goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_asks_and_the_other_goes_on_without_it() {
    let redis = Redis::start(&[]);
    let fake = start_fake("");
    let fragment = format!("{}{OAUTH}", redis.store());
    let mut one = House::start_beside(fake, &fragment, &[]).await;
    let other = House::start_beside(fake, &fragment, &[]).await;
    let qwen = Idp::of(&one, "qwen");
    qwen.tell("settings", json!({"interval_s": 2})).await;
    let told = begin(&one, &owner(), wish("shared")).await;
    let began = Instant::now();
    // Whoever looks, and wherever: the pace is the provider's, and it never says that it is asked too often.
    let state = told["state"].as_str().expect("text");
    while began.elapsed() < Duration::from_secs(8) {
        for house in [&one, &other] {
            assert_eq!(data(&look(house, &owner(), state).await)["status"], "pending");
        }
        sleep(Duration::from_millis(100)).await;
    }
    let asked = qwen.asked("token").await;
    assert!((2..=4).contains(&asked), "{asked} times in eight seconds");
    assert!(qwen.books().await["errors"]["slow_down"].is_null());
    one.kill().await;
    answer(&qwen, &told, "allow").await;
    assert_eq!(over(&other, &told).await["status"], "done");
    assert_eq!(accounts(&other, &owner()).await.len(), 1);
}

/// AK and SK, which stand for a client of Baidu's: tokens are asked for with them, again when one ends, and by hand.
#[tokio::test]
async fn client_credentials() {
    let row = "platforms:\n  baidu-v1: {base_url: \"http://$FAKE/baidu-v1/rpc/2.0/ai_custom/v1/wenxinworkshop\", \
        token_url: \"http://$FAKE/baidu-v1/oauth/2.0/token\"}\n";
    let house = House::start(row).await;
    let path = "/api/v1/oauth/accounts";
    let add = async |more: Value| {
        let mut new = json!({"platform": "baidu-v1", "account_name": "b"});
        new.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        ask(&house, &owner(), "POST", path, Some(&new)).await
    };
    for wrong in [
        json!({"api_key": "k"}),
        json!({"access_key": "ak"}),
        json!({"access_key": "a b", "secret_key": "s"}),
    ] {
        error(&add(wrong).await, 400);
    }
    let added = data(&add(json!({"access_key": "ak-one", "secret_key": "sk-one"})).await);
    let id = added["id"].as_str().expect("an id").to_owned();
    let model = "baidu-v1/ERNIE-Speed-8K";
    for _ in 0..3 {
        let answered = whole(chat(&house, model)).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
    }
    let exchanges = || async {
        let is_one =
            |seen: &&Value| seen["path"].as_str().is_some_and(|path| path.contains("/oauth/2.0/token"));
        house.requests().await.iter().filter(is_one).count()
    };
    assert_eq!(exchanges().await, 1, "one token for all of them");
    // Whoever asks by hand without end does not ask the platform without end.
    sleep(Duration::from_secs(5)).await;
    let refreshed = ask(&house, &owner(), "POST", &format!("{path}/{id}/refresh"), None).await;
    assert_eq!(data(&refreshed)["id"], json!(id));
    data(&ask(&house, &owner(), "POST", &format!("{path}/{id}/refresh"), None).await);
    assert_eq!(exchanges().await, 2, "asked for again, by hand, and not again at once");
    assert_eq!(whole(chat(&house, model)).await.status, 200);
    assert_eq!(exchanges().await, 2, "and that one is used");
    let listed = accounts(&house, &owner()).await;
    assert!(!listed[0].to_string().contains("sk-one"));
    error(&ask(&house, &caller("eve", "beta"), "POST", &format!("{path}/{id}/refresh"), None).await, 404);
}
