//! The configuration as a whole: mistakes and their places, the reference against the defaults, the examples, secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::limits::Limits;
use crate::platform::auth::Credential;

const MASTER_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn environment(name: &str) -> Option<String> {
    match name {
        "WEIR_MASTER_KEY" => Some(MASTER_KEY.to_owned()),
        "NOT_SET" => None,
        _ => Some(format!("value-of-{name}-0123456789-0123456789")),
    }
}

fn good(text: &str) -> Config {
    parse(text, "weir.yaml", &environment).unwrap_or_else(|report| panic!("{report}"))
}

fn bad(text: &str) -> String {
    parse(text, "weir.yaml", &environment).unwrap_err().to_string()
}

/// Each is one file with a mistake or several; the snapshot shows what the operator is told.
const BROKEN: &str = include_str!("broken.yaml");

#[test]
#[cfg_attr(not(feature = "browser"), ignore = "sites are in it, which this build refuses")]
fn mistakes_are_named_with_their_places() {
    let mut told = String::new();
    let mut count = 0;
    for case in BROKEN.split("\n====\n") {
        count += 1;
        writeln!(told, "{case}\n--> {}\n", bad(case).replace('\n', "\n    ")).unwrap();
    }
    assert!(count >= 20, "{count}");
    insta::assert_snapshot!(told);
}

#[test]
fn several_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let report = bad("retry: {attempts: 0, budget: 2}\nacounts: []\nlisten: nowhere\nlimits: {body: 1B}\n");
    let places: Vec<&str> = report.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        ["weir.yaml:1:19", "weir.yaml:1:30", "weir.yaml:2:1", "weir.yaml:3:9", "weir.yaml:4:16"]
    );
}

/// The reference with its examples switched on: a line that begins with `#` and not with `# ` and a word is one. An empty
/// default (`accounts: []`) gives way to the example of the same key.
fn with_examples(reference: &str) -> String {
    let is_example = |line: &str| {
        line.len() > 1 && line.starts_with('#') && (!line.starts_with("# ") || line.starts_with("#  "))
    };
    let examples: Vec<&str> =
        reference.lines().filter(|line| is_example(line)).map(|line| &line[1..]).collect();
    let mut text = String::new();
    for line in reference.lines() {
        let key = line.strip_suffix(" {}").or_else(|| line.strip_suffix(" []"));
        if key.is_some_and(|key| examples.iter().any(|example| example.starts_with(key))) {
            text.push('\n');
        } else {
            writeln!(text, "{}", if is_example(line) { &line[1..] } else { line }).unwrap();
        }
    }
    text
}

fn pem_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rcgen::KeyPair::generate().unwrap().public_key_pem()).unwrap();
    file
}

#[test]
fn the_reference_says_the_defaults() {
    let (reference, defaults) = (good(REFERENCE), load(None, &|_| None).unwrap());
    let shown = |config: &Config| -> Vec<String> {
        // Taken apart in full, so that a new setting cannot be left out here.
        let Config {
            listen,
            admin_listen,
            metrics,
            store,
            vault,
            identity,
            platforms,
            accounts,
            routes,
            implied_routes,
            retry,
            timeouts,
            sizes,
            heartbeat,
            model_field,
            prices,
            pool,
            oauth,
            browser,
            sign_in,
            provider,
            drain,
            workers,
            log,
            secret_files,
        } = config;
        let names = |platforms: &[Arc<Platform>]| -> Vec<String> {
            platforms.iter().map(|platform| super::platforms::name(platform).to_owned()).collect()
        };
        vec![
            format!(
                "{listen:?} {admin_listen:?} {metrics:?} {store:?} {vault:?} {identity:?} {accounts:?} {secret_files:?}"
            ),
            format!("{:?} {:?}", names(platforms), routes.routes()),
            format!("{retry:?} {timeouts:?} {sizes:?} {heartbeat:?} {model_field:?} {prices:?} {pool:?}"),
            format!("{drain:?} {workers:?} {log:?} {implied_routes:?} {oauth:?}"),
            format!("{browser:?} {sign_in:?} {provider:?}"),
        ]
    };
    assert_eq!(shown(&reference), shown(&defaults));
    let of = |config: &Config| config.timeouts;
    assert_eq!(of(&defaults).response_header, Duration::from_secs(600));
    assert_eq!(of(&defaults).first_token, Duration::from_secs(120));
    assert_eq!(of(&defaults).idle, Duration::from_secs(120));
    assert_eq!(of(&defaults).total, Duration::from_secs(1800));
    assert_eq!(of(&defaults).heartbeat, Duration::from_secs(15));
    assert_eq!(of(&defaults).connect, Duration::from_secs(5));
    assert_eq!(of(&defaults).request_header, Duration::from_secs(10));
    assert_eq!(of(&defaults).client_idle, Duration::from_secs(60));
    let sizes = defaults.sizes;
    assert_eq!([sizes.body, sizes.header, sizes.inflight_body_bytes], [32 << 20, 64 << 10, 512 << 20]);
    assert_eq!([sizes.answer, sizes.event], [64 << 20, 8 << 20]);
    assert_eq!((defaults.retry.attempts, defaults.retry.budget), (3, 0.2));
}

#[test]
fn the_reference_says_every_default_aloud() {
    // A default that is not written down as a live line would pass the comparison above unseen.
    let problems = report::Problems::default();
    resolved(REFERENCE, &environment, &problems).unwrap();
    let examples_only =
        ["tls", "vault", "workers", "jwt", "public_url", "topup_url", "tenant", "models", "program"];
    for (name, fields, given) in problems.structs.take() {
        let is_empty_default = name == "Limits";
        let missing: Vec<_> = fields
            .iter()
            .filter(|field| !given.iter().any(|given| given == *field) && !examples_only.contains(field))
            .collect();
        assert!(is_empty_default || missing.is_empty(), "{name}: {missing:?}");
    }
}

#[test]
#[cfg_attr(not(feature = "browser"), ignore = "sites are in it, which this build refuses")]
fn the_reference_names_every_key_and_its_examples_are_right() {
    let pem = pem_file();
    let text = with_examples(REFERENCE).replace("/etc/weir/id.pem", pem.path().to_str().unwrap());
    let problems = report::Problems::default();
    resolved(&text, &environment, &problems).unwrap();
    let mut all: BTreeMap<&str, (BTreeSet<&str>, BTreeSet<String>)> = BTreeMap::new();
    for (name, fields, given) in problems.structs.take() {
        let entry = all.entry(name).or_default();
        entry.0.extend(fields);
        entry.1.extend(given);
    }
    if let Some(report) = problems.into_report("weir.yaml") {
        panic!("{report}\n{text}");
    }
    // A platform's row is documented where the rows are.
    all.remove("Row");
    for of_row in ["AccountRow", "PersonRow", "WaitRow", "SourceRow"] {
        all.remove(of_row);
    }
    for (name, (fields, given)) in &all {
        let given: BTreeSet<&str> = given.iter().map(String::as_str).collect();
        assert_eq!(*fields, given, "{name}");
    }
    let names: Vec<&str> = all.into_keys().collect();
    assert_eq!(
        names,
        [
            "Account",
            "Admin",
            "Auth",
            "Browser",
            "Callers",
            "Claims",
            "Drain",
            "Jwt",
            "Limits",
            "Log",
            "OAuth",
            "Pool",
            "Price",
            "Provider",
            "Raw",
            "Retry",
            "Route",
            "RouteTimeouts",
            "SignIn",
            "Sizes",
            "Target",
            "Timeouts",
            "Tls",
            "Vault",
            "VaultKey"
        ]
    );
}

#[test]
#[cfg_attr(not(feature = "browser"), ignore = "sites are in it, which this build refuses")]
fn every_example_file_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "sk-from-a-file\n").unwrap();
        let mut text = std::fs::read_to_string(&path).unwrap();
        for name in ["openai_key", "claude_key"] {
            text = text.replace(&format!("/run/secrets/{name}"), secret.path().to_str().unwrap());
        }
        let config = good(&text);
        assert!(!config.accounts.is_empty(), "{}", path.display());
        assert!(config.routes.models().next().is_some(), "{}", path.display());
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "accounts-by-consent.yaml",
            "failover.yaml",
            "jwt-with-jwks.yaml",
            "openai-like.yaml",
            "sign-in-page.yaml",
            "single-key.yaml",
            "ten-platforms.yaml"
        ]
    );
}

#[test]
fn what_is_given_takes_the_place_of_the_default_and_nothing_else_does() {
    let config = good("timeouts: {idle: 90s}\nretry: {budget: 0}\nlimits: {event: 1MiB}\n");
    assert_eq!(config.timeouts.idle, Duration::from_secs(90));
    assert_eq!(config.timeouts.total, Duration::from_secs(1800));
    assert_eq!((config.retry.attempts, config.retry.budget), (3, 0.0));
    assert_eq!((config.sizes.event, config.sizes.answer), (1 << 20, 64 << 20));
    // A key without a value is as good as not there: somebody commented its content out.
    assert!(good("accounts:\nroutes:\nretry:\n").accounts.is_empty());
}

#[test]
fn accounts_come_out_whole() {
    let config = good(
        "accounts:\n\
         - {id: a, platform: qwen, api_key: '${KEY}', models: {m: own-m}, tenants: [t], owner: t, weight: 2, \
         priority: 7, enabled: false, limits: {rpm: 1_000, tpm: '${file:/dev/null}'}}\n"
            .replace("tpm: '${file:/dev/null}'", "tpm: 5")
            .as_str(),
    );
    let account = &config.accounts[0];
    assert_eq!(account.id.as_str(), "a");
    assert!(
        matches!(&account.credential, Credential::ApiKey(key) if key.expose().starts_with("value-of-KEY"))
    );
    assert_eq!(account.models, [("m".to_owned(), "own-m".to_owned())]);
    assert_eq!(account.tenants[0].as_str(), "t");
    assert_eq!(account.owner.as_ref().unwrap().as_str(), "t");
    assert_eq!(account.limits, Limits { rpm: Some(1000), tpm: Some(5), ..Limits::default() });
    assert_eq!((account.weight, account.priority, account.is_enabled), (2, 7, false));
}

#[test]
fn numbers_and_switches_may_come_from_the_environment() {
    let lookup = |name: &str| {
        Some(match name {
            "N" => "7".to_owned(),
            "YES" => "true".to_owned(),
            "TIME" => "42s".to_owned(),
            _ => "x".to_owned(),
        })
    };
    let text =
        "retry: {attempts: '${N}', deadline: '${TIME}'}\nauth: {keys: '${YES}'}\nmodel_field: '${X}'\n";
    let report = parse(text, "f", &lookup).unwrap_err().to_string();
    assert_eq!(report, "f:3:14: `${X}` is not possible here; known here: requested, resolved");
    let config = parse(text.lines().take(2).collect::<Vec<_>>().join("\n").as_str(), "f", &lookup).unwrap();
    assert_eq!((config.retry.attempts, config.retry.deadline), (7, Duration::from_secs(42)));
    assert!(config.identity.keys);
    // Only what was filled in: a quoted number is a slip.
    assert!(bad("retry: {attempts: '7'}").contains("expected a whole number, found text"));
}

#[test]
fn implied_routes_follow_the_accounts() {
    let config = good(
        "accounts:\n\
         - {id: a, platform: qwen, api_key: k}\n\
         - {id: b, platform: openai, api_key: k, models: [gpt-4o, my-finetune]}\n",
    );
    let reaches = |model: &str| -> Option<Vec<String>> {
        let route = config.routes.find(model)?;
        let name =
            |target: &crate::gateway::route::Target| super::platforms::name(&target.platform).to_owned();
        Some(route.targets.iter().map(name).collect())
    };
    assert_eq!(reaches("qwen-max").unwrap(), ["qwen"]);
    assert_eq!(reaches("my-finetune").unwrap(), ["openai"]);
    assert_eq!(reaches("qwen/qwen-max").unwrap(), ["qwen"]);
    assert_eq!(reaches("claude/anything").unwrap(), ["claude"]);
    assert_eq!(reaches("claude-sonnet-4-5"), None);
    let config = good(
        "accounts: [{id: a, platform: qwen, api_key: k}]\nroutes: [{model: x, targets: [{platform: qwen, model: qwen-max}]}]\n",
    );
    assert!(config.routes.find("qwen-max").is_none(), "with routes, names are the operator's");
    assert!(config.routes.find("qwen/qwen-max").is_some());
}

#[test]
fn a_routes_own_timeouts_replace_the_general_ones() {
    let config = good(
        "timeouts: {idle: 100s}\nroutes: [{model: x, targets: [{platform: qwen}], timeouts: {total: 60s}, strategy: sticky, unsupported: drop}]\n",
    );
    let route = config.routes.find("x").unwrap();
    assert_eq!(route.timeouts.total, Duration::from_secs(60));
    assert_eq!(route.timeouts.idle, Duration::from_secs(100));
    assert_eq!(route.strategy, pool::settings::Strategy::Sticky);
    assert_eq!(route.unsupported, crate::dialect::Unsupported::Drop);
    assert_eq!(route.targets[0].model_for("x"), "x");
}

#[test]
fn issuers_get_what_their_keys_can_verify() {
    use jsonwebtoken::Algorithm;
    let pem = pem_file();
    let config = good(&format!(
        "auth:\n  jwt:\n\
         \x20 - {{issuer: a, audience: weir, secret: '${{S}}'}}\n\
         \x20 - {{issuer: b, audience: [x, y], jwks_url: 'http://[::1]:8/keys', claims: {{tenant: org}}, leeway: 0s}}\n\
         \x20 - {{issuer: c, audience: weir, public_key: '${{file:{}}}'}}\n",
        pem.path().display()
    ));
    let [a, b, c] = config.identity.jwt.as_slice() else { panic!("{:?}", config.identity) };
    assert_eq!(a.algorithms, [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]);
    assert!(b.algorithms.contains(&Algorithm::RS256) && !b.algorithms.contains(&Algorithm::HS256));
    assert_eq!(b.audience, ["x", "y"]);
    assert_eq!((b.claims.tenant.as_deref(), b.claims.scope.as_deref()), (Some("org"), Some("scope")));
    assert_eq!(b.leeway, Duration::ZERO);
    assert_eq!(c.algorithms, [Algorithm::ES256, Algorithm::ES384]);
}

/// Every place where a secret may stand, with mistakes all around: none may be told, nor shown by `Debug`.
#[test]
fn no_secret_is_ever_told() {
    let canary = "sk-canary-1234";
    let typed = [
        format!("accounts: [{{id: a, platform: qwen, api_key: [{canary}]}}]"),
        format!("accounts: [{{id: a, platform: qwen, api_key: '{canary} x'}}]"),
        format!("accounts: [{{id: a, platform: qwen, access_key: {canary}}}]"),
        format!("accounts: [{{id: a, platform: nope, api_secret: {canary}, app_id: 5}}]"),
        format!("accounts: [{{id: a, platform: qwen, api_key: k, base_url: 'htp://u:{canary}@h'}}]"),
        format!("platforms: {{x: {{dialect: openai, base_url: 'u:{canary}@h'}}}}"),
        format!("accounts: [{canary}]"),
        format!("accounts: {canary}"),
        format!("store: redis://:{canary}@ho st"),
        format!("store: reddis://:{canary}@host"),
        format!("vault: {{keys: [{{id: k, key: {canary}}}]}}"),
        format!("auth: {{jwt: [{{issuer: i, audience: a, secret: {canary}}}]}}"),
        format!("auth: {{jwt: [{{issuer: i, audience: a, public_key: {canary}}}]}}"),
        format!("auth: {{jwt: [{{issuer: i, audience: a, jwks_url: 'https://u:{canary}@'}}]}}"),
        format!("accounts: [{{id: a, platform: qwen, api_key: \"{canary}}}]"),
        format!("accounts: [{{id: a, platform: qwen, api_key: *{canary}}}]"),
        format!("accounts: [{{id: a, platform: qwen, api_key: !{canary} x, weight: 0}}]"),
        format!("accounts: [{{id: a, platform: qwen, api_key: @{canary}}}]"),
        format!("accounts: [{{id: a, platform: qwen, api_key: \"\\z{canary}\"}}]"),
        format!("accounts: [{{id: a, platform: qwen, api_key: {canary}: x}}]"),
        format!("accounts:\n- id: a\n  api_key: |\n    {canary}\n   x\n"),
        canary.to_owned(),
        format!("retry: {{attempts: {canary}}}\ntimeouts: {{idle: {canary}}}"),
    ];
    for text in typed {
        let report = bad(&text);
        assert!(!report.contains(canary), "{text}\n{report}");
    }
    // Out of the environment it stays hidden wherever it stands, also where a typed value would be repeated.
    let lookup = |_: &str| Some(canary.to_owned());
    let text = REFERENCE.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let mut mistakes = 0;
    for (start, _) in text.match_indices(": ") {
        let end = text[start..].find('\n').map_or(text.len(), |len| start + len);
        let wrong = format!("{}: \"${{X}}\"{}", &text[..start], &text[end..]);
        if let Err(report) = parse(&wrong, "f", &lookup) {
            mistakes += 1;
            assert!(!format!("{report} {report:?}").contains(canary), "{report}");
        }
    }
    assert!(mistakes > 20, "{mistakes}");
    for (text, lookup) in [
        ("routes: [{model: '${X}', targets: [{platform: '${X}'}]}]", lookup),
        (
            "accounts: [{id: '${X}', platform: x}, {id: '${X}', platform: x, tenants: ['${X}']}]\ncallers: {tenants: {a: {}}}",
            lookup,
        ),
        (
            "auth: {jwt: [{issuer: '${X}', audience: a, algorithms: ['${X}'], secret: '${X}${X}${X}'}, {issuer: '${X}'}]}",
            lookup,
        ),
    ] {
        let report = parse(text, "f", &lookup).unwrap_err().to_string();
        assert!(!report.contains(canary) && report.contains("${X}"), "{report}");
    }
}

#[test]
fn debug_output_of_a_configuration_shows_no_secret() {
    let config = good(
        "vault: {keys: [{id: k, key: '${WEIR_MASTER_KEY}'}]}\n\
         auth: {jwt: [{issuer: i, audience: a, secret: '${S}'}]}\n\
         accounts: [{id: a, platform: qwen, api_key: '${K}'}]\n",
    );
    let shown = format!("{config:?}");
    assert!(!shown.contains("value-of") && !shown.contains("48, 49, 50"), "{shown}");
    assert_eq!(config.vault[0].key[..4], *b"0123");
}

#[test]
fn what_is_no_file_is_said_without_a_place() {
    let report = load(Some(Path::new("/does/not/exist.yaml")), &|_| None).unwrap_err();
    assert!(report.to_string().starts_with("/does/not/exist.yaml: cannot be read"), "{report}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.yaml");
    for (content, part) in [(&b" \n"[..], "is empty"), (&[0xff, 0xfe, b'a'][..], "is not UTF-8")] {
        std::fs::write(&path, content).unwrap();
        let report = load(Some(&path), &|_| None).unwrap_err().to_string();
        assert!(report.contains(part), "{report}");
    }
    std::fs::write(&path, "# nothing but this\n").unwrap();
    assert!(load(Some(&path), &|_| None).is_ok());
}

#[test]
fn ten_thousand_accounts_are_read_quickly() {
    let mut text = "accounts:\n".to_owned();
    for number in 0..10_000 {
        writeln!(
            text,
            "- {{id: a{number}, platform: qwen, api_key: '${{K}}', limits: {{rpm: 60, tpm: 1000}}}}"
        )
        .unwrap();
    }
    assert_eq!(good(&text).accounts.len(), 10_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens to a file, the answer is a configuration or a report with places in the file.
    #[test]
    fn no_file_is_too_broken(from in 0_usize..8000, len in 0_usize..60, put in "[a-z:{}\\[\\]#&*!|>'\"%@`,\\- \n\t${}0-9]{0,12}") {
        let text = with_examples(REFERENCE);
        let mut start = from.min(text.len());
        while !text.is_char_boundary(start) { start -= 1; }
        let mut end = (start + len).min(text.len());
        while !text.is_char_boundary(end) { end += 1; }
        let broken = format!("{}{put}{}", &text[..start], &text[end..]);
        if let Err(report) = parse(&broken, "f", &environment) {
            let lines = broken.lines().count() as u64 + 1;
            for problem in report.problems() {
                prop_assert!(problem.at.line <= lines, "{report}");
            }
        }
    }
}

#[test]
fn an_accounts_own_headers_are_checked_when_they_are_read() {
    let config = good(
        "accounts:\n  - {id: a, platform: openai, api_key: k, base_url: 'http://h/v1', headers: {OpenAI-Project: '${PROJECT}'}}\n  \
         - {id: b, platform: openai, api_key: k}\n",
    );
    let sent = |at: usize| {
        let headers = config.accounts[at].platform.headers(&crate::dialect::Encoded::default());
        headers.get("openai-project").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(sent(0).as_deref(), Some("value-of-PROJECT-0123456789-0123456789"));
    assert_eq!(config.accounts[0].platform.base.host, "h");
    assert_eq!(sent(1), None);
    for (platform, header, says) in [
        ("openai", "authorization: x", "this platform has openai-organization, openai-project"),
        ("zhipu", "x-any: x", "this platform has no such headers"),
        ("gemini", "x-goog-user-project: ''", "is empty"),
        ("gemini", "x-goog-user-project:", "is empty"),
    ] {
        let report = bad(&format!(
            "accounts:\n  - id: a\n    platform: {platform}\n    api_key: k\n    headers: {{{header}}}\n"
        ));
        assert!(report.starts_with("weir.yaml:5:15: ") && report.contains(says), "{report}");
    }
}
