//! What do the parts of the path cost that touch no socket? Run with `cargo bench --bench pure`.

use std::hint::black_box;
use std::io::Write as _;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion};
use http::HeaderMap;
use weir::api::ask::Ask;
use weir::api::piece::Usage;
use weir::api::writer::{Naming, Writer};
use weir::clock::Clock;
use weir::config::{self, Config};
use weir::dialect::splice::{self, Splicer};
use weir::gateway::calibrate::Calibration;
use weir::gateway::estimate::Estimate;
use weir::gateway::usage::{Day, Key, Ledger, Sums};
use weir::ids::{PlatformName, TenantId};
use weir::metrics::Metrics;
use weir::pool::settings::Strategy;
use weir::pool::{Pool, Used, Want};
use weir::sse;

const PASSED_ON: &str = r#"{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini","system_fingerprint":"fp_bench","choices":[{"index":0,"delta":{"content":" river"},"logprobs":null,"finish_reason":null}]}"#;
const TRANSLATED: &str =
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" river"}}"#;

fn request() -> Bytes {
    let text = "what does a weir do to a river? ".repeat(26);
    Bytes::from(format!(
        r#"{{"model":"gpt-4o-mini","stream":true,"temperature":0.7,"max_tokens":500,"messages":[{{"role":"system","content":"You answer in few words."}},{{"role":"user","content":"{text}"}}]}}"#
    ))
}

fn long_request() -> Bytes {
    let turn = format!(r#"{{"role":"user","content":"{}"}}"#, "what does a weir do to a river? ".repeat(30));
    Bytes::from(format!(r#"{{"model":"gpt-4o-mini","messages":[{}]}}"#, vec![turn; 32].join(",")))
}

/// Accounts of two platforms: the first `accounts` of the one, and one of the other.
fn configuration(accounts: usize) -> anyhow::Result<Config> {
    let mut file = tempfile::NamedTempFile::new()?;
    writeln!(file, "accounts:\n  - {{id: claude-a, platform: claude, api_key: sk-bench}}")?;
    for number in 0..accounts {
        writeln!(
            file,
            "  - {{id: openai-{number}, platform: openai, api_key: sk-{number}, limits: {{rpm: 100000000, tpm: 100000000000, concurrency: 1000}}}}"
        )?;
    }
    config::load(Some(file.path()), &|_| None).map_err(|report| anyhow::anyhow!("{report}"))
}

fn parsing(criterion: &mut Criterion) {
    let body = request();
    criterion.bench_function("scan a request of 1 KiB", |bencher| {
        bencher.iter(|| Ask::chat(black_box(body.clone())));
    });
    let answer = Bytes::from(format!(
        r#"{{"id":"x","model":"gpt-4o","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":200,"completion_tokens":150,"total_tokens":350}}}}"#,
        "a weir holds the river back ".repeat(30)
    ));
    criterion.bench_function("splice a whole answer of 1 KiB", |bencher| {
        bencher.iter(|| {
            let scanned = weir::api::scan::Object::scan(&answer);
            splice::whole(black_box(answer.clone()), scanned, Some("smart"))
        });
    });
}

fn streaming(criterion: &mut Criterion, config: &Config) -> anyhow::Result<()> {
    let wire = format!("data: {PASSED_ON}\n\n");
    criterion.bench_function("find an event in a stream", |bencher| {
        let mut decoder = sse::Decoder::new(1 << 20);
        bencher.iter(|| {
            decoder.feed(black_box(wire.as_bytes()));
            decoder.next().map(|event| event.is_some())
        });
    });
    criterion.bench_function("pass an event on", |bencher| {
        let mut splicer = Splicer::new(Some("smart"), false, 1);
        let mut out = BytesMut::new();
        bencher.iter(|| {
            out.clear();
            splicer.push(sse::Event { name: b"", data: black_box(PASSED_ON.as_bytes()) }, &mut out)
        });
    });
    let claude = config.accounts.first().ok_or_else(|| anyhow::anyhow!("no account"))?;
    let naming = || Naming { model: "smart".into(), created: 1_700_000_000, speaks_functions: false };
    let ask = Ask::chat(request()).map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
    criterion.bench_function("translate an event of Claude's", |bencher| {
        let mut decoder = claude.platform.decoder("claude-haiku-4-5", &ask);
        let mut writer = Writer::new(naming(), false);
        let start = br#"{"type":"message_start","message":{"id":"msg_1","model":"m","content":[],"usage":{"input_tokens":1}}}"#;
        let started = decoder.push(sse::Event { name: b"message_start", data: start }, &mut writer);
        assert!(started.is_ok(), "a Claude stream begins so");
        bencher.iter(|| {
            let event = sse::Event { name: b"content_block_delta", data: black_box(TRANSLATED.as_bytes()) };
            let pushed = decoder.push(event, &mut writer);
            (pushed, writer.take())
        });
    });
    Ok(())
}

fn choosing(criterion: &mut Criterion) -> anyhow::Result<()> {
    for accounts in [4, 10_000] {
        let config = configuration(accounts)?;
        let openai = config.accounts.last().ok_or_else(|| anyhow::anyhow!("no account"))?.platform.clone();
        let pool = Pool::new(config.pool.clone(), Clock::system(), Some(1));
        pool.replace(config.accounts.clone());
        let tenant = TenantId::from("bench");
        criterion.bench_function(&format!("take and settle one account of {accounts}"), |bencher| {
            bencher.iter(|| {
                let want = Want {
                    tenant: &tenant,
                    platform: &openai.name,
                    model: "gpt-4o-mini",
                    tokens: 500,
                    strategy: Strategy::Headroom,
                    affinity: None,
                    tried: &[],
                };
                let reservation = pool.take(black_box(&want));
                assert!(reservation.is_ok(), "an account is free");
                reservation.map(|taken| taken.settle(Used { tokens: 400, estimated: false }))
            });
        });
    }
    Ok(())
}

fn judging(criterion: &mut Criterion, config: &Config) -> anyhow::Result<()> {
    let claude = config.accounts.first().ok_or_else(|| anyhow::anyhow!("no account"))?.platform.clone();
    let report = br#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit"}}"#;
    criterion.bench_function("judge a refusal", |bencher| {
        bencher.iter_batched(
            HeaderMap::new,
            |headers| claude.judge(429, &headers, black_box(report), 1_700_000_000_000),
            BatchSize::SmallInput,
        );
    });
    let usage = br#"{"prompt_tokens":200,"completion_tokens":150,"total_tokens":350,"prompt_tokens_details":{"cached_tokens":0}}"#;
    criterion.bench_function("read an answer's usage", |bencher| {
        bencher.iter(|| Usage::read(black_box(usage)));
    });
    Ok(())
}

/// What setting tokens aside, learning from an answer and keeping the books cost a request.
fn counting(criterion: &mut Criterion) -> anyhow::Result<()> {
    let platform = PlatformName::from("openai");
    let calibration = Calibration::default();
    for (name, body) in [("1 KiB", request()), ("32 KiB", long_request())] {
        let ask = Ask::chat(body).map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
        criterion.bench_function(&format!("estimate a request of {name}"), |bencher| {
            bencher.iter(|| {
                let gauge = calibration.gauge(black_box(&platform), black_box("gpt-4o-mini"));
                Estimate::of(black_box(&ask)).corrected(gauge)
            });
        });
    }
    criterion.bench_function("learn from a settled answer", |bencher| {
        let gauge = calibration.gauge(&platform, "gpt-4o-mini");
        bencher.iter(|| calibration.learn(black_box(gauge), (250, 210), Some((100, 90))));
    });
    let ledger = Ledger::new(Metrics::new()?.usage_overflow);
    let key = Key {
        day: Day::at(1_700_000_000_000),
        tenant: "research".into(),
        caller: "alice".into(),
        account: "openai-1".into(),
        platform,
        model: "gpt-4o-mini".into(),
    };
    let used = Sums { requests: 1, prompt_tokens: 210, completion_tokens: 90, ..Sums::default() };
    criterion.bench_function("book a settled answer", |bencher| {
        bencher.iter(|| ledger.note(black_box(&key).clone(), black_box(&used)));
    });
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let config = configuration(1)?;
    parsing(&mut criterion);
    streaming(&mut criterion, &config)?;
    choosing(&mut criterion)?;
    judging(&mut criterion, &config)?;
    counting(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
