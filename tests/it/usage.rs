//! The books: what is settled is what the platforms count, each attempt once, whoever leaves when (Q4, Q5, R8).

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::house::{Events, House, mint, until, whole};
use crate::misfortune::is_slow_wanted;
use crate::puppet::{EVENTS_HEAD, Puppet, delta};
use crate::replicas::{Redis, replicas};

const PRICES: &str = "prices:\n  gpt-4o: {input: 2.5, output: 10}\n  \"claude/*\": {input: 3, output: 15}\n";

fn accounts() -> String {
    format!(
        "accounts:\n  - {{id: o1, platform: openai, api_key: sk-o1}}\n  - {{id: o2, platform: openai, api_key: sk-o2}}\n  \
         - {{id: c1, platform: claude, api_key: sk-ant-c1}}\n  - {{id: g1, platform: gemini, api_key: AIza-g1}}\n\
         callers: {{default: {{daily_tokens: 1000000000}}}}\n{PRICES}"
    )
}

async fn usage(house: &House, query: &str) -> Value {
    let answer = house.admin(http::Method::GET, &format!("/admin/usage?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_else(|| panic!("no {name} in {row}"))
}

fn row<'a>(report: &'a Value, column: &str, name: &str) -> &'a Value {
    let rows = report["rows"].as_array().expect("rows");
    rows.iter().find(|row| row[column] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// Requests of every kind: whole and streamed, spliced and translated, cached and thinking, refused and bad.
fn mixed(number: usize) -> Value {
    let model = ["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-flash"][number % 3];
    let text = match number % 11 {
        0 => "@words=40 long".to_owned(),
        1 => "@error=rate_limited no".to_owned(),
        2 => "@status=400 no".to_owned(),
        3 => "@no_usage silent".to_owned(),
        other => format!("request {number} of kind {other}"),
    };
    json!({
        "model": model, "stream": number.is_multiple_of(2), "max_tokens": 100,
        "messages": [{"role": "user", "content": text}],
    })
}

/// Q4: every token that the platforms count is settled once, under its account and its caller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q4_what_is_settled_is_what_the_platforms_count() {
    let mut house = House::start(&accounts()).await;
    let tokens: Vec<(String, String)> = ["alice", "bob", "carol"]
        .into_iter()
        .map(|name| {
            (name.to_owned(), mint(json!({"sub": name, "tenant": format!("t-{name}"), "scope": "chat"})))
        })
        .collect();
    let client = crate::house::client().pool_max_idle_per_host(64).build().expect("a client");
    let url = house.url("/v1/chat/completions");
    let work = (0..2400).map(|number| {
        let (_, token) = &tokens[number % tokens.len()];
        let request = client.post(&url).bearer_auth(token).json(&plain(number));
        async move {
            let answer = whole(request).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    });
    futures_util::stream::iter(work).buffer_unordered(32).collect::<Vec<()>>().await;
    house.settled().await;
    let books = house.counters().await;
    let by_account = usage(&house, "by=account").await;
    for (account, platform, key) in [
        ("o1", "openai", "sk-o1"),
        ("o2", "openai", "sk-o2"),
        ("c1", "claude", "sk-ant-c1"),
        ("g1", "gemini", "AIza-g1"),
    ] {
        let (ours, theirs) = (row(&by_account, "account", account), &books[platform][key]);
        for (our_name, their_name) in [
            ("prompt_tokens", "prompt_tokens"),
            ("completion_tokens", "completion_tokens"),
            ("requests", "requests"),
        ] {
            assert_eq!(number(ours, our_name), number(theirs, their_name), "{account} {our_name}");
        }
        assert_eq!((number(ours, "estimated"), number(ours, "failed")), (0, 0), "{ours}");
    }
    let by_caller = usage(&house, "by=tenant,caller,day").await;
    assert_eq!(by_caller["rows"].as_array().map(Vec::len), Some(3));
    for (name, _) in &tokens {
        let ours = row(&by_caller, "caller", name);
        assert_eq!((number(ours, "requests"), &ours["tenant"]), (800, &format!("t-{name}").into()));
    }
    let total = &by_account["total"];
    let sum = |column: &str| {
        by_caller["rows"].as_array().expect("rows").iter().map(|row| number(row, column)).sum::<u64>()
    };
    for column in ["requests", "prompt_tokens", "completion_tokens", "cost_micros"] {
        assert_eq!(sum(column), number(total, column), "{column}");
    }
    costs(&house).await;
    outlive(&mut house, &by_account).await;
}

/// They outlive the process, whoever reads them then.
async fn outlive(house: &mut House, by_account: &Value) {
    house.signal("TERM");
    house.ended().await;
    let (fine, text) = house.run(&["usage", "--by", "account"]).await;
    assert!(fine, "{text}");
    let later: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(later["rows"], by_account["rows"]);
    house.restart().await;
    assert_eq!(usage(house, "by=account").await["rows"], by_account["rows"]);
    let (fine, csv) = house.run(&["usage", "--by", "tenant,model", "--csv"]).await;
    assert!(
        fine && csv.starts_with("tenant,model,requests,") && csv.contains("\r\nt-alice,gpt-4o,"),
        "{csv}"
    );
}

fn plain(number: usize) -> Value {
    let mut body = mixed(number);
    let text = format!("request {number} {}", "word ".repeat(number % 40));
    body["messages"][0]["content"] = text.into();
    body
}

async fn costs(house: &House) {
    let by_model = usage(house, "by=model,platform").await;
    let spent = |model: &str| {
        let row = row(&by_model, "model", model);
        (number(row, "prompt_tokens"), number(row, "completion_tokens"), number(row, "cost_micros"))
    };
    for (model, input, output) in
        [("gpt-4o", 25, 100), ("claude-sonnet-4-5", 30, 150), ("gemini-2.5-flash", 0, 0)]
    {
        let (prompt, completion, cost) = spent(model);
        // A row is priced with each flush, to the nearest millionth.
        let exact = (prompt * input + completion * output) / 10;
        assert!(cost.abs_diff(exact) <= 100, "{model}: {cost} for {exact}");
    }
}

/// One exchange of a kind that the number says, and whether its caller stayed to the end.
async fn exchange(house: &House, client: &reqwest::Client, tokens: &[String; 2], number: usize) {
    let leaves = number % 10 == 9;
    let (model, words) = (["gpt-4o", "claude-sonnet-4-5"][number / 10 % 2], 10 + number % 50);
    let text = match number % 10 {
        7 => "@error=bad_request no".to_owned(),
        8 => format!("@error=server_error @once no {number}"),
        9 => format!("@words={words} @gap=20 go"),
        _ => format!("@words={words} go"),
    };
    let body = json!({
        "model": model, "stream": leaves || number.is_multiple_of(2), "max_tokens": 100,
        "messages": [{"role": "user", "content": text}],
    });
    let request = client.post(house.url("/v1/chat/completions")).bearer_auth(&tokens[usize::from(leaves)]);
    let mut answer = request.json(&body).send().await.expect("an answer");
    let status = answer.status().as_u16();
    match number % 10 {
        7 => assert_eq!(status, 400),
        // Some are turned away while both accounts rest.
        8 => assert!([200, 502, 503].contains(&status), "{status}"),
        _ => assert!([200, 503].contains(&status), "{status} to {number}"),
    }
    if leaves {
        for _ in 0..number / 20 % 6 {
            drop(answer.chunk().await);
        }
        return;
    }
    answer.bytes().await.expect("the whole answer");
}

/// Accounts for those who stay and for those who leave, so that what is exact and what is estimated can be told apart.
fn two_of_each() -> String {
    let each = ["stays", "leaves"].into_iter().flat_map(|tenant| {
        ["openai", "claude"].into_iter().flat_map(move |platform| {
            (0..2).map(move |number| {
                let id = format!("{tenant}-{platform}-{number}");
                format!(
                    "  - {{id: {id}, platform: {platform}, api_key: sk-ant-{id}, tenants: [{tenant}], \
                     limits: {{daily_tokens: 1000000000, concurrency: 100}}}}\n"
                )
            })
        })
    });
    each.collect()
}

/// Q4 over replicas: streams and whole answers, callers who leave, bad requests, failures and failovers. Where the platform told
/// what it took, that is what is settled, to the token; what was only estimated is settled the same in the ledger of usage and
/// in the pool's own count; and nothing is held any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q4_nothing_is_lost_between_the_platform_the_ledger_and_the_pool() {
    let exchanges = if is_slow_wanted() { 50_000 } else { 600 };
    let redis = Redis::start(&["--appendonly", "no"]);
    let fragment =
        format!("{}log: {{level: warn}}\nretry: {{budget: 1}}\naccounts:\n{}", redis.store(), two_of_each());
    let houses = replicas(3, &fragment).await;
    let tokens = ["stays", "leaves"].map(|tenant| mint(json!({"tenant": tenant})));
    let client = crate::house::client().pool_max_idle_per_host(64).build().expect("a client");
    let work = (0..exchanges).map(|number| exchange(&houses[number % 3], &client, &tokens, number));
    futures_util::stream::iter(work).buffer_unordered(48).collect::<Vec<()>>().await;
    for house in &houses {
        house.settled().await;
    }
    let books = houses[0].counters().await;
    let asked: u64 = books
        .as_object()
        .expect("platforms")
        .values()
        .flat_map(|keys| keys.as_object())
        .flatten()
        .map(|(_, numbers)| number(numbers, "requests"))
        .sum();
    until("all is in the ledger", || async {
        number(&usage(&houses[0], "by=account").await["total"], "requests") == asked
    })
    .await;
    let ledger = usage(&houses[0], "by=account").await;
    let mut told = Vec::new();
    for ours in ledger["rows"].as_array().expect("rows") {
        let id = ours["account"].as_str().expect("an id");
        let theirs = &books[id.split('-').nth(1).expect("a platform")][format!("sk-ant-{id}")];
        assert_eq!(number(ours, "requests"), number(theirs, "requests"), "{id}");
        let (prompt, completion) = (number(ours, "prompt_tokens"), number(ours, "completion_tokens"));
        if id.starts_with("stays") {
            assert_eq!(number(ours, "estimated"), 0, "{ours}");
            assert_eq!(prompt, number(theirs, "prompt_tokens"), "{id}");
            assert_eq!(completion, number(theirs, "completion_tokens"), "{id}");
        }
        told.push((
            id.to_owned(),
            number(ours, "requests"),
            number(ours, "estimated"),
            number(ours, "failed"),
        ));
        // The pool's own count, of all replicas: the same, and nothing set aside beyond it once leases have gone back.
        until(
            &format!("the pool has settled what the ledger has, {}, of {id}", prompt + completion),
            || async { redis.stock(id, "daily_tokens") == (prompt + completion, prompt + completion) },
        )
        .await;
        assert_eq!(redis.stock(id, "concurrency"), (0, 0), "{id}");
    }
    println!("(account, requests, estimated, failed): {told:?}");
    assert_eq!(told.len(), 8, "{told:?}");
    assert!(told.iter().any(|(.., failed)| *failed > 0), "{told:?}");
    let left: u64 = told.iter().map(|(_, _, estimated, _)| estimated).sum();
    assert!(left > 0, "somebody left in mid-stream: {told:?}");
}

/// R8.2: refusals, bad requests and answers without usage count once too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r8_2_every_attempt_is_counted_once_however_it_ends() {
    let house = House::start(&accounts()).await;
    for number in 0..66 {
        whole(house.request(&mixed(number))).await;
    }
    house.settled().await;
    let books = house.counters().await;
    let by_platform = usage(&house, "by=platform").await;
    for platform in ["openai", "claude", "gemini"] {
        let keys = books[platform].as_object().expect("keys");
        let asked: u64 = keys.values().map(|numbers| number(numbers, "requests")).sum();
        let ours = row(&by_platform, "platform", platform);
        assert_eq!(number(ours, "requests"), asked, "{platform}");
        assert!(number(ours, "failed") > 0, "{ours}");
    }
    let refused = usage(&house, "by=model&platform=openai").await;
    let refused = row(&refused, "model", "(refused)");
    assert_eq!((number(refused, "prompt_tokens"), number(refused, "completion_tokens")), (0, 0));
}

/// Q5: who leaves pays for what was delivered, wherever it was, and never nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q5_who_leaves_pays_for_what_was_delivered_wherever_that_was() {
    const WORDS: u64 = 400;
    for (model, platform) in [("gpt-4o", "openai"), ("claude-sonnet-4-5", "claude")] {
        // Before the first byte; at 0 (the stream is open), 1, 50 and 99 %.
        for (place, text, mark) in [
            ("before the first byte", "@first=60000".to_owned(), None),
            ("at 1 %", format!("@words={WORDS} @gap=5"), Some("w4 ")),
            ("at 50 %", format!("@words={WORDS} @gap=5"), Some("w200 ")),
            ("at 99 %", format!("@words={WORDS} @gap=5"), Some("w396 ")),
        ] {
            let house = House::start(&accounts()).await;
            let mut raw = house.connect().await;
            raw.send(&house.wire_chat(model, &format!("{text} tell me"), true)).await;
            let delivered = match mark {
                Some(mark) => {
                    raw.until(mark.as_bytes()).await;
                    mark.trim_matches(|symbol: char| !symbol.is_ascii_digit())
                        .parse::<u64>()
                        .expect("a number")
                }
                None => {
                    until("it waits", || async { house.counted(platform, "in_flight").await == 1 }).await;
                    0
                }
            };
            drop(raw);
            until("the platform is left", || async { house.counted(platform, "client_gone").await == 1 })
                .await;
            house.settled().await;
            let report = usage(&house, "by=platform").await;
            let ours = row(&report, "platform", platform);
            assert_eq!((number(ours, "requests"), number(ours, "estimated")), (1, 1), "{place}: {ours}");
            assert!(number(ours, "prompt_tokens") > 0, "{place}: never a full refund: {ours}");
            let settled = number(ours, "completion_tokens");
            assert!((delivered..=WORDS * 2).contains(&settled), "{place}: {settled} for {delivered}");
        }
    }
}

/// Between the last token and the usage: what was said is settled, and nothing is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q5_who_leaves_between_the_last_word_and_the_usage_pays_too() {
    let puppet = Puppet::start(|mut hand| async move {
        if hand.request().await.is_none() {
            return;
        }
        hand.say(EVENTS_HEAD).await;
        for _ in 0..100 {
            hand.say(delta("four ")).await;
        }
        hand.say(
            "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        )
        .await;
        // The usage never comes: the caller has gone.
        hand.request().await;
    })
    .await;
    let house = House::start(&puppet.house("")).await;
    let mut raw = house.connect().await;
    raw.send(&house.wire_chat("m", "hello there", true)).await;
    raw.until(b"\"finish_reason\":\"stop\"").await;
    drop(raw);
    until("the platform is left", || async { puppet.open() == 0 }).await;
    house.settled().await;
    let report = usage(&house, "").await;
    let total = &report["total"];
    assert_eq!((number(total, "requests"), number(total, "estimated")), (1, 1), "{total}");
    assert!((100..=150).contains(&number(total, "completion_tokens")), "{total}");
}

/// R8.1: usage that was seen earlier wins, and what came after it is added.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r8_1_usage_seen_earlier_wins() {
    let puppet = Puppet::start(|mut hand| async move {
        if hand.request().await.is_none() {
            return;
        }
        hand.say(EVENTS_HEAD).await;
        hand.say("data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word word \"}}],\"usage\":{\"prompt_tokens\":777,\"completion_tokens\":50,\"total_tokens\":827}}\n\n").await;
        hand.say(delta("mark")).await;
        hand.request().await;
    })
    .await;
    let house = House::start(&puppet.house("")).await;
    let mut raw = house.connect().await;
    raw.send(&house.wire_chat("m", "hello there", true)).await;
    raw.until(b"mark").await;
    drop(raw);
    house.settled().await;
    let total = usage(&house, "").await["total"].clone();
    assert_eq!(number(&total, "prompt_tokens"), 777);
    assert!((51..=60).contains(&number(&total, "completion_tokens")), "{total}");
}

/// After fifty settled requests an estimate is within 15 % of what the platform counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn estimates_learn_what_a_models_tokens_are() {
    let house = House::start(&accounts()).await;
    let ask = |round: usize, stream: bool| {
        // Words of eight letters: half as many tokens as four bytes each would make.
        let text = "sevenfold ".repeat(150 + round % 7 * 20);
        json!({"model": "gpt-4o", "stream": stream, "messages": [{"role": "user", "content": text}]})
    };
    for round in 0..50 {
        assert_eq!(whole(house.request(&ask(round, round % 2 == 0))).await.status, 200);
    }
    house.settled().await;
    // Who leaves at once pays the estimate of the prompt.
    let before = usage(&house, "").await["total"].clone();
    let mut body = ask(3, true);
    body["messages"][0]["content"] =
        format!("{} @first=60000", body["messages"][0]["content"].as_str().expect("text")).into();
    let bytes = house.wire("POST", "/v1/chat/completions", "", body.to_string().as_bytes());
    let mut raw = house.connect().await;
    raw.send(&bytes).await;
    until("it waits", || async { house.counted("openai", "in_flight").await == 1 }).await;
    drop(raw);
    house.settled().await;
    let after = usage(&house, "").await["total"].clone();
    let estimated = number(&after, "prompt_tokens") - number(&before, "prompt_tokens");
    let real = 210_f64;
    assert!((estimated as f64 / real - 1.0).abs() < 0.15, "{estimated} for {real}");
}

/// What an old process settles after a hand-over is not lost: its successor takes it in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_outlives_a_hand_over_is_counted() {
    let mut house = House::start(&format!("{}drain: {{delay: 0s, timeout: 60s}}\n", accounts())).await;
    let stream = house.open("gpt-4o", "@words=300 @gap=20 tell me").await;
    let mut old = house.upgrade();
    until("the successor is there", || async { house.log().matches("weir is up").count() == 2 }).await;
    let text = String::from_utf8(stream.bytes().await.expect("the rest").to_vec()).expect("text");
    assert!(Events::read(&text).is_whole(), "{text}");
    crate::house::ended(&mut old).await;
    until("it is taken in", || async { number(&usage(&house, "").await["total"], "requests") == 1 }).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let total = usage(&house, "").await["total"].clone();
    let theirs = house.counted("openai", "completion_tokens").await;
    assert_eq!((number(&total, "requests"), number(&total, "completion_tokens")), (1, theirs));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_for_operators_and_bounded_and_no_formula() {
    let house = House::start(&accounts()).await;
    let caller = mint(json!({"sub": "=cmd|' /C calc'!A0", "scope": "chat"}));
    let request = house.client.post(house.url("/v1/chat/completions")).bearer_auth(&caller);
    assert_eq!(whole(request.json(&plain(0))).await.status, 200);
    house.settled().await;
    let ask = |query: &str, token: Option<&str>| {
        let request = house.client.get(house.admin_url(&format!("/admin/usage?{query}")));
        whole(token.iter().fold(request, |request, token| request.bearer_auth(token)))
    };
    assert_eq!(ask("", None).await.status, 401);
    assert_eq!(ask("", Some(&caller)).await.status, 403);
    for bad in [
        "by=names",
        "from=today",
        "limit=0",
        "limit=10001",
        "limit=x",
        "tennant=a",
        "format=xml",
        "from=2026-02-02&to=2026-02-01",
    ] {
        ask(bad, Some(&house.token)).await.error(400);
    }
    let csv = ask("by=caller&format=csv", Some(&house.token)).await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    assert!(csv.text().contains("\r\n\"'=cmd|' /C calc'!A0\",1,0,0,"), "{}", csv.text());
    let public = house.get("/admin/usage").await;
    assert_eq!(public.status, 404, "not on the public port");
}
