//! Every line of every platform's error table, with bodies as the vendors send them. One line each: status, headers, body
//! -> verdict, scope, wait in seconds, OpenAI's code.

use std::collections::HashSet;

use super::Scope::{Account, Model, Platform as Whole};
use super::Verdict::{
    AuthInvalid, BadRequest, ContentFiltered, ContextTooLong, NotEntitled, Overloaded, QuotaExhausted,
    RateLimited, TokenExpired,
};
use super::*;
use crate::platform::profile::{Platform, Row};

/// 2026-11-21T02:00:00Z: 10:00 in Shanghai, 18:00 of the day before in Los Angeles.
const NOW: u64 = 1_795_226_400_000;

/// Until midnight in Shanghai.
const SHANGHAI_DAY: Wait = Some(14.0 * 3600.0);

/// Until the first of December, UTC.
const MONTH: Wait = Some((22.0 + 9.0 * 24.0) * 3600.0);

const FOREVER: Wait = Some(315_360_000.0);

type Wait = Option<f64>;
type Headers = &'static [(&'static str, &'static str)];
type Case<'a> = (u16, Headers, &'a str, Verdict, Scope, Wait);
type Code = (&'static str, Verdict, Scope, Wait);

fn platform(name: &str) -> Platform {
    Platform::compile(Row::built_in(name).expect("row").expect(name)).expect("compiled")
}

fn judge(platform: &Platform, status: u16, headers: &[(&'static str, &str)], body: &str) -> Judgement {
    let headers = headers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("value")))
        .collect();
    platform.judge(status, &headers, body.as_bytes(), NOW)
}

/// A platform's table under test: at the end every one of its lines must have decided some case.
struct Table {
    name: &'static str,
    platform: Platform,
    decided: HashSet<usize>,
}

impl Table {
    fn of(name: &'static str) -> Self {
        Self { name, platform: platform(name), decided: HashSet::new() }
    }

    fn case(&mut self, case: &Case) -> Judgement {
        let (status, headers, body, verdict, scope, wait) = case;
        let found = judge(&self.platform, *status, headers, body);
        let got = (found.verdict, found.scope, found.retry_after.map(|wait| wait.as_secs_f64()));
        assert_eq!(got, (*verdict, *scope, *wait), "{} {status} {body}", self.name);
        self.decided.extend(self.platform.error_line(*status, body.as_bytes()));
        found
    }

    fn cases(&mut self, cases: &[Case]) {
        for case in cases {
            self.case(case);
        }
    }

    /// Codes as the platform sends them without further words.
    fn codes(&mut self, shape: impl Fn(&str) -> String, status: u16, codes: &[Code]) {
        for (code, verdict, scope, wait) in codes {
            let found = self.case(&(status, &[], &shape(code), *verdict, *scope, *wait));
            assert_eq!(found.code.as_deref(), Some(*code), "{}", self.name);
        }
    }

    fn finish(self) {
        let lines = Row::built_in(self.name).expect("row").expect("built in").errors;
        for (index, line) in lines.iter().enumerate() {
            assert!(self.decided.contains(&index), "{}: no case for {line:?}", self.name);
        }
    }
}

fn in_error(code: &str) -> String {
    format!(r#"{{"error":{{"code":"{code}","message":"words"}}}}"#)
}

#[test]
fn openai() {
    let mut table = Table::of("openai");
    #[rustfmt::skip]
    table.cases(&[
        (429, &[("retry-after-ms", "644"), ("retry-after", "1")], r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29937, Requested 385. Please try again in 644ms. Visit https://platform.openai.com/account/rate-limits to learn more.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#, RateLimited, Model, Some(0.644)),
        (429, &[("retry-after", "7")], r#"{"error":{"message":"Rate limit reached. Please try again in 6m0s.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#, RateLimited, Model, Some(7.0)),
        (429, &[], r#"{"error":{"message":"Rate limit reached. Please try again in 1m2.5s.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#, RateLimited, Model, Some(62.5)),
        (429, &[], r#"{"error":{"message":"Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#, RateLimited, Model, Some(1.0)),
        (429, &[], r#"{"error":{"message":"Slow down","type":"rate_limit_error","param":null,"code":"slow_down"}}"#, RateLimited, Model, None),
        (429, &[], r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details. ...","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#, QuotaExhausted, Account, FOREVER),
        (429, &[("retry-after", "5")], r#"{"error":{"message":"m","type":"insufficient_quota","param":null,"code":"credit_balance_exhausted"}}"#, QuotaExhausted, Account, FOREVER),
        (429, &[], r#"{"error":{"message":"m","type":"insufficient_quota","param":null,"code":"organization_spend_limit_exceeded"}}"#, QuotaExhausted, Account, FOREVER),
        (429, &[], r#"{"error":{"message":"m","type":"insufficient_quota","param":null,"code":"project_spend_limit_exceeded"}}"#, QuotaExhausted, Account, FOREVER),
        (429, &[], r#"{"error":{"message":"m","type":"insufficient_quota","param":null,"code":"organization_usage_limit_exceeded"}}"#, QuotaExhausted, Account, FOREVER),
        (429, &[], r#"{"error":{"message":"m","type":"insufficient_quota","param":null,"code":"one_of_next_year"}}"#, QuotaExhausted, Account, FOREVER),
        (400, &[], r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}"#, BadRequest, Model, None),
        (400, &[], r#"{"error":{"message":"This model's maximum context length is 128000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#, ContextTooLong, Model, None),
        (400, &[], r#"{"error":{"message":"This model's maximum context length is 128000 tokens.","type":"invalid_request_error","param":"messages","code":null}}"#, ContextTooLong, Model, None),
        (400, &[], r#"{"error":{"message":"blocked","type":"invalid_request_error","param":null,"code":"content_policy_violation"}}"#, ContentFiltered, Model, None),
        (400, &[], r#"{"error":{"message":"Your project may not use this tier.","type":"invalid_request_error","param":"service_tier","code":null}}"#, NotEntitled, Model, None),
        (400, &[], r#"{"error":{"message":"Invalid value: 'x'.","type":"invalid_request_error","param":"service_tier","code":"invalid_value"}}"#, BadRequest, Model, None),
        (401, &[], r#"{"error":{"message":"Incorrect API key provided: sk-ab***yz. You can find your API key at https://platform.openai.com/account/api-keys.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#, AuthInvalid, Account, None),
        (401, &[], r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"mismatched_project"}}"#, AuthInvalid, Account, None),
        (403, &[], r#"{"error":{"message":"Country, region, or territory not supported","type":"request_forbidden","param":null,"code":"unsupported_country_region_territory"}}"#, Overloaded, Whole, Some(600.0)),
        (404, &[], r#"{"error":{"message":"The model `gpt-x` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#, NotEntitled, Model, None),
        (500, &[], r#"{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}"#, Overloaded, Model, None),
        (503, &[], r#"{"error":{"message":"busy","type":"service_unavailable_error","param":null,"code":"server_is_overloaded"}}"#, Overloaded, Whole, None),
        (200, &[], r#"{"error":{"message":"broke off","type":"server_error","param":null,"code":null}}"#, Overloaded, Model, None),
        (200, &[], r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}"#, BadRequest, Model, None),
    ]);
    table.finish();
}

#[test]
fn qwen_and_dashscope() {
    let mut table_qwen = Table::of("qwen");
    let mut table_dashscope = Table::of("dashscope");
    #[rustfmt::skip]
    let cases: &[Case] = &[
        (400, &[], r#"{"error":{"message":"temperature must be in [0, 2)","type":"invalid_request_error","param":null,"code":"invalid_parameter_error"},"request_id":"7f3e"}"#, BadRequest, Model, None),
        (400, &[], r#"{"code":"InvalidParameter","message":"Range of input length should be [1, 30720]","request_id":"7f3e"}"#, ContextTooLong, Model, None),
        (400, &[], r#"{"code":"Arrearage","message":"Access denied, please make sure your account is in good standing.","request_id":"7f3e"}"#, QuotaExhausted, Account, FOREVER),
        (400, &[], r#"{"error":{"message":"Access denied, please make sure your account is in good standing.","type":"Arrearage","param":null,"code":"Arrearage"}}"#, QuotaExhausted, Account, FOREVER),
        (400, &[], r#"{"code":"DataInspectionFailed","message":"Input data may contain inappropriate content."}"#, ContentFiltered, Model, None),
        (400, &[], r#"{"error":{"message":"Output data may contain inappropriate content.","type":"data_inspection_failed","param":null,"code":"data_inspection_failed"}}"#, ContentFiltered, Model, None),
        (400, &[], r#"{"error":{"message":"Output data may contain inappropriate content.","code":null}}"#, ContentFiltered, Model, None),
        (401, &[], r#"{"error":{"message":"Incorrect API key provided. ...","type":"invalid_request_error","param":null,"code":"invalid_api_key"},"request_id":"7f3e"}"#, AuthInvalid, Account, None),
        (401, &[], r#"{"code":"InvalidApiKey","message":"Invalid API-key provided.","request_id":"7f3e"}"#, AuthInvalid, Account, None),
        (401, &[], r#"{"error":{"message":"invalid access token or token expired","code":null}}"#, TokenExpired, Account, None),
        (403, &[], r#"{"code":"Model.AccessDenied","message":"no"}"#, NotEntitled, Model, None),
        (403, &[], r#"{"code":"AccessDenied.Unpurchased","message":"no"}"#, NotEntitled, Model, None),
        (403, &[], r#"{"error":{"message":"no","type":"access_denied","code":"access_denied"}}"#, NotEntitled, Model, None),
        (403, &[], r#"{"error":{"message":"The free tier of the model has been exhausted.","type":"AllocationQuota.FreeTierOnly","code":"AllocationQuota.FreeTierOnly"}}"#, QuotaExhausted, Model, FOREVER),
        (404, &[], r#"{"error":{"message":"The model `x` does not exist","type":"invalid_request_error","code":"model_not_found"}}"#, NotEntitled, Model, None),
        (400, &[], r#"{"error":{"message":"no","code":"model_not_supported"}}"#, NotEntitled, Model, None),
        (413, &[], r#"{"code":"BadRequest.TooLarge","message":"too large"}"#, BadRequest, Model, None),
        (429, &[], r#"{"error":{"message":"You exceeded your current requests list.","type":"limit_requests","code":"limit_requests"}}"#, RateLimited, Model, None),
        (429, &[("retry-after", "3")], r#"{"code":"Throttling.RateQuota","message":"Requests rate limit exceeded"}"#, RateLimited, Model, Some(3.0)),
        (429, &[], r#"{"error":{"message":"Request rate increased too quickly...","code":"limit_burst_rate"}}"#, RateLimited, Model, None),
        (429, &[], r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","code":"insufficient_quota"}}"#, RateLimited, Model, None),
        (429, &[], r#"{"code":"Throttling.AllocationQuota","message":"Allocated quota exceeded, please increase your quota limit."}"#, RateLimited, Model, None),
        (429, &[], r#"{"error":{"message":"Free allocated quota exceeded.","type":"insufficient_quota","code":"insufficient_quota"}}"#, QuotaExhausted, Model, FOREVER),
        (429, &[], r#"{"code":"Throttling.AllocationQuota","message":"Free allocated quota exceeded."}"#, QuotaExhausted, Model, FOREVER),
        (429, &[], r#"{"code":"CommodityNotPurchased","message":"no"}"#, QuotaExhausted, Account, FOREVER),
        (429, &[], r#"{"code":"PrepaidBillOverdue","message":"no"}"#, QuotaExhausted, Account, FOREVER),
        (429, &[], r#"{"code":"PostpaidBillOverdue","message":"no"}"#, QuotaExhausted, Account, FOREVER),
        (429, &[], r#"{"message":"Too many requests. Your requests are being throttled due to system capacity limits."}"#, Overloaded, Whole, None),
        (500, &[], r#"{"code":"InternalError.Algo","message":"no"}"#, Overloaded, Model, None),
        (500, &[], r#"{"code":"ModelServingError","message":"no"}"#, Overloaded, Whole, None),
        (503, &[], r#"{"code":"ModelUnavailable","message":"no"}"#, Overloaded, Whole, None),
        (200, &[], r#"{"code":"SystemError","message":"no"}"#, Overloaded, Model, None),
        (400, &[], "event:error\n:HTTP_STATUS/400\ndata:{\"code\":\"DataInspectionFailed\",\"message\":\"m\"}\n\n", ContentFiltered, Model, None),
    ];
    table_qwen.cases(cases);
    table_dashscope.cases(cases);
    // Inside a stream the true status stands in a comment: the code alone has to tell.
    table_dashscope.cases(&[
        (
            200,
            &[],
            r#"{"code":"InvalidParameter","message":"Temperature should be in [0.0, 2.0)"}"#,
            BadRequest,
            Model,
            None,
        ),
        (
            200,
            &[],
            r#"{"code":"InvalidParameter","message":"Range of input length should be [1, 30720]"}"#,
            ContextTooLong,
            Model,
            None,
        ),
    ]);
    table_qwen.finish();
    table_dashscope.finish();
}

#[test]
fn claude() {
    let mut table = Table::of("claude");
    const SPENT: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."}}"#;
    #[rustfmt::skip]
    table.cases(&[
        (400, &[], r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"},"request_id":"req_1"}"#, BadRequest, Model, None),
        (400, &[], r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#, ContextTooLong, Model, None),
        (400, &[], r#"{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}"#, ContentFiltered, Model, None),
        (400, &[], r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#, QuotaExhausted, Account, FOREVER),
        (400, &[], SPENT, QuotaExhausted, Account, MONTH),
        (400, &[], r#"{"type":"error","error":{"type":"invalid_request_error","message":"no","details":{"error_code":"organization_on_hold"}}}"#, AuthInvalid, Account, FOREVER),
        (400, &[], r#"{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}"#, ContentFiltered, Model, None),
        (401, &[], r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#, TokenExpired, Account, None),
        (401, &[], "nonsense", TokenExpired, Account, None),
        (402, &[], r#"{"type":"error","error":{"type":"billing_error","message":"pay"}}"#, QuotaExhausted, Account, FOREVER),
        (403, &[], r#"{"type":"error","error":{"type":"permission_error","message":"no"}}"#, NotEntitled, Model, None),
        (404, &[], r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-x"}}"#, NotEntitled, Model, None),
        (409, &[], r#"{"type":"error","error":{"type":"conflict_error","message":"no"}}"#, Overloaded, Model, None),
        (413, &[], r#"{"type":"error","error":{"type":"request_too_large","message":"no"}}"#, BadRequest, Model, None),
        (429, &[("retry-after", "12")], r#"{"type":"error","error":{"type":"rate_limit_error","message":"no","details":{"error_code":"ramp_limit_exceeded"}},"request_id":"req_011C"}"#, RateLimited, Model, Some(12.0)),
        (429, &[("anthropic-ratelimit-tokens-remaining", "0"), ("anthropic-ratelimit-tokens-reset", "2026-11-21T02:00:40Z")], r#"{"type":"error","error":{"type":"rate_limit_error","message":"no"}}"#, RateLimited, Model, Some(40.0)),
        (429, &[("retry-after", "12")], r#"{"type":"error","error":{"type":"rate_limit_error","message":"no","details":{"error_code":"enforced_spend_limit_reached"}}}"#, QuotaExhausted, Account, MONTH),
        (429, &[], r#"{"type":"error","error":{"type":"rate_limit_error","message":"no","details":{"error_code":"contract_spend_limit_reached"}}}"#, QuotaExhausted, Account, MONTH),
        (500, &[], r#"{"type":"error","error":{"type":"api_error","message":"no"}}"#, Overloaded, Model, None),
        (503, &[], r#"{"type":"error","error":{"type":"api_error","message":"no"}}"#, Overloaded, Whole, None),
        (504, &[], r#"{"type":"error","error":{"type":"timeout_error","message":"no"}}"#, Overloaded, Model, None),
        (529, &[], r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Overloaded, Whole, None),
        (200, &[], r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#, Overloaded, Whole, None),
        (200, &[], r#"{"type":"error","error":{"type":"rate_limit_error","message":"no"}}"#, RateLimited, Model, None),
        (200, &[], r#"{"type":"error","error":{"type":"api_error","message":"no"}}"#, Overloaded, Model, None),
    ]);
    table.finish();
}

#[test]
fn baidu() {
    let mut table = Table::of("baidu");
    let code =
        |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m","type":"t"}},"id":"as-q1"}}"#);
    #[rustfmt::skip]
    table.codes(code, 400, &[
        ("malformed_json", BadRequest, Model, None), ("invalid_model", BadRequest, Model, None),
        ("invalid_messages", BadRequest, Model, None), ("invalid_argument", BadRequest, Model, None),
        ("characters_too_long", ContextTooLong, Model, None), ("tokens_too_long", ContextTooLong, Model, None),
        ("image_url_unsafe", ContentFiltered, Model, None),
    ]);
    #[rustfmt::skip]
    table.codes(code, 401, &[
        ("invalid_iam_token", AuthInvalid, Account, None), ("invalid_appid", AuthInvalid, Account, None),
        ("invalid_model", NotEntitled, Model, None), ("no_parameter_permission", NotEntitled, Model, None),
    ]);
    #[rustfmt::skip]
    table.codes(code, 403, &[
        ("system_unsafe", ContentFiltered, Model, None), ("user_setting_unsafe", ContentFiltered, Model, None),
        ("functions_unsafe", ContentFiltered, Model, None), ("account_overdue", QuotaExhausted, Account, FOREVER),
        ("model_offline", NotEntitled, Whole, None),
        ("coding_plan_subscription_expired", QuotaExhausted, Account, FOREVER),
        ("coding_plan_api_key_not_allowed", AuthInvalid, Account, None),
    ]);
    #[rustfmt::skip]
    table.codes(code, 429, &[
        ("rpm_rate_limit_exceeded", RateLimited, Model, None), ("tpm_rate_limit_exceeded", RateLimited, Model, None),
        ("input_tpm_rate_limit_exceeded", RateLimited, Model, None),
        ("output_tpm_rate_limit_exceeded", RateLimited, Model, None),
        ("preemptible_rate_limit_exceeded", RateLimited, Model, None),
        ("user_rate_limit_exceeded", RateLimited, Account, Some(1.0)),
        ("cluster_rate_limit_exceeded", Overloaded, Whole, None),
        ("cluster_rpm_rate_limit_exceeded", Overloaded, Whole, None),
        ("cluster_tpm_rate_limit_exceeded", Overloaded, Whole, None),
        ("coding_plan_rate_limit_exceeded", RateLimited, Model, None),
        ("coding_plan_cluster_rate_limited", Overloaded, Whole, None),
    ]);
    #[rustfmt::skip]
    table.cases(&[
        (403, &[], r#"{"error":{"code":"new_one","message":"m","type":"unsafe_request"}}"#, ContentFiltered, Model, None),
        (405, &[], r#"{"error":{"code":"method_not_supported","message":"m"}}"#, BadRequest, Model, None),
        (500, &[], r#"{"error":{"code":"internal_error","message":"m","type":"Internal_error"}}"#, Overloaded, Model, None),
        (500, &[], r#"{"error":{"code":"dispatch_internal_error","message":"m","type":"Internal_error"}}"#, Overloaded, Model, None),
    ]);
    table.finish();
}

#[test]
fn baidu_v1() {
    let mut table = Table::of("baidu-v1");
    let code = |code: &str| format!(r#"{{"error_code":{code},"error_msg":"words","id":"as-1"}}"#);
    #[rustfmt::skip]
    table.codes(code, 200, &[
        ("1", Overloaded, Model, None), ("336000", Overloaded, Model, None), ("2", Overloaded, Whole, None),
        ("336100", Overloaded, Whole, None), ("3", BadRequest, Model, None), ("336101", BadRequest, Model, None),
        ("4", Overloaded, Whole, None), ("6", NotEntitled, Model, None), ("336004", NotEntitled, Model, None),
        ("13", AuthInvalid, Account, None), ("14", AuthInvalid, Account, None), ("15", Overloaded, Model, None),
        ("17", QuotaExhausted, Model, SHANGHAI_DAY), ("18", RateLimited, Model, Some(1.0)),
        ("19", QuotaExhausted, Model, FOREVER), ("100", BadRequest, Model, None), ("110", TokenExpired, Account, None),
        ("111", TokenExpired, Account, None), ("336001", BadRequest, Model, None), ("336002", BadRequest, Model, None),
        ("336003", BadRequest, Model, None), ("336005", NotEntitled, Model, None),
        ("336006", ContextTooLong, Model, None), ("336007", ContextTooLong, Model, None),
        ("336103", ContextTooLong, Model, None), ("336104", BadRequest, Model, None),
        ("336105", BadRequest, Model, None), ("336501", RateLimited, Model, None), ("336502", RateLimited, Model, None),
        ("500000", Overloaded, Model, None), ("424242", Overloaded, Model, None),
    ]);
    #[rustfmt::skip]
    table.cases(&[
        (200, &[], r#"{"error_code":336003,"error_msg":"the max input characters is 20000"}"#, ContextTooLong, Model, None),
        (200, &[], r#"{"error_code":17,"error_msg":"Open api daily request limit reached"}"#, QuotaExhausted, Model, SHANGHAI_DAY),
    ]);
    table.finish();
}

#[test]
fn zhipu() {
    let mut table = Table::of("zhipu");
    #[rustfmt::skip]
    table.codes(in_error, 429, &[
        ("1000", AuthInvalid, Account, None), ("1001", Overloaded, Model, None), ("1002", AuthInvalid, Account, None),
        ("1003", TokenExpired, Account, None), ("1004", AuthInvalid, Account, None), ("1005", AuthInvalid, Account, None),
        ("1110", AuthInvalid, Account, FOREVER), ("1111", AuthInvalid, Account, FOREVER),
        ("1112", AuthInvalid, Account, FOREVER), ("1120", AuthInvalid, Account, FOREVER),
        ("1121", AuthInvalid, Account, FOREVER), ("1113", QuotaExhausted, Account, FOREVER),
        ("1302", RateLimited, Model, None), ("1303", RateLimited, Model, None),
        ("1304", QuotaExhausted, Account, SHANGHAI_DAY), ("1305", Overloaded, Whole, None),
        ("1312", Overloaded, Whole, None), ("1308", QuotaExhausted, Account, None),
        ("1309", QuotaExhausted, Account, FOREVER), ("1310", QuotaExhausted, Account, None),
        ("1311", NotEntitled, Model, None), ("1313", RateLimited, Account, Some(7200.0)),
        ("1314", QuotaExhausted, Account, None), ("1316", QuotaExhausted, Account, Some(18000.0)),
        ("1317", QuotaExhausted, Account, Some(604_800.0)), ("1321", QuotaExhausted, Account, None),
        ("1210", BadRequest, Model, None), ("1213", BadRequest, Model, None), ("1214", BadRequest, Model, None),
        ("1215", BadRequest, Model, None), ("1231", BadRequest, Model, None), ("1211", NotEntitled, Model, None),
        ("1212", NotEntitled, Model, None), ("1220", NotEntitled, Model, None), ("1221", NotEntitled, Model, None),
        ("1222", NotEntitled, Model, None), ("1261", ContextTooLong, Model, None),
        ("1301", ContentFiltered, Model, None), ("1200", Overloaded, Model, None), ("1230", Overloaded, Model, None),
        ("1234", Overloaded, Model, None),
    ]);
    #[rustfmt::skip]
    table.cases(&[
        (401, &[], r#"{"error":{"code":"1001","message":"Header 中未收到 Authentication 参数，无法进行身份验证"}}"#, Overloaded, Model, None),
        (429, &[], r#"{"error":{"code":"1308","message":"已达到 5 小时的使用上限。您的限额将在 2026-11-21 18:00:00 重置。"}}"#, QuotaExhausted, Account, Some(8.0 * 3600.0)),
        (429, &[], r#"{"error":{"code":"1316","message":"您的限额将在 2026-11-21 12:00:00 重置。"}}"#, QuotaExhausted, Account, Some(2.0 * 3600.0)),
        (404, &[], r#"{"timestamp":"2026-11-21","status":404,"error":"Not Found","path":"/x"}"#, NotEntitled, Model, None),
        (502, &[], "<html>Bad gateway</html>", Overloaded, Model, None),
        (434, &[], "", NotEntitled, Model, None),
        (435, &[], "", BadRequest, Model, None),
        (500, &[], r#"{"error":{"message":"error id 1"}}"#, Overloaded, Model, None),
    ]);
    table.finish();
}

#[rustfmt::skip]
const SPARK_CODES: &[Code] = &[
    ("10000", BadRequest, Model, None), ("10001", BadRequest, Model, None), ("10002", BadRequest, Model, None),
    ("10003", BadRequest, Model, None), ("10004", BadRequest, Model, None), ("10163", BadRequest, Model, None),
    ("10005", BadRequest, Model, None), ("10008", Overloaded, Whole, None), ("10009", Overloaded, Whole, None),
    ("10010", Overloaded, Whole, None), ("10011", Overloaded, Whole, None), ("10012", Overloaded, Whole, None),
    ("10013", ContentFiltered, Model, None), ("10014", ContentFiltered, Model, None),
    ("10015", AuthInvalid, Account, FOREVER), ("10016", QuotaExhausted, Model, FOREVER),
    ("10018", Overloaded, Whole, None), ("10019", ContentFiltered, Model, None), ("10021", ContentFiltered, Model, None),
    ("10110", Overloaded, Whole, None), ("10222", Overloaded, Whole, None), ("10223", Overloaded, Whole, None),
    ("10404", NotEntitled, Model, None), ("10907", ContextTooLong, Model, None),
    ("11200", QuotaExhausted, Model, FOREVER), ("11201", QuotaExhausted, Model, SHANGHAI_DAY),
];

#[test]
fn spark() {
    let mut table_spark_ws = Table::of("spark-ws");
    let mut table_spark = Table::of("spark");
    table_spark.codes(in_error, 500, SPARK_CODES);
    table_spark.codes(|code| format!(r#"{{"code":{code},"message":"m","sid":"cha.."}}"#), 200, SPARK_CODES);
    table_spark_ws.codes(
        |code| format!(r#"{{"header":{{"code":{code},"message":"m","status":2}}}}"#),
        200,
        SPARK_CODES,
    );
    #[rustfmt::skip]
    let rates: &[Code] = &[
        ("10006", RateLimited, Account, None), ("10007", RateLimited, Account, None), ("10017", RateLimited, Account, None),
        ("11202", RateLimited, Account, Some(1.0)), ("11203", RateLimited, Account, None),
    ];
    table_spark.codes(in_error, 429, rates);
    #[rustfmt::skip]
    table_spark.cases(&[
        (500, &[], r#"{"error":{"message":"AppIdNoAuthError (sid: cha000ae93b@dx18f9..)","type":"api_error","param":null,"code":"11200"}}"#, QuotaExhausted, Model, FOREVER),
        (400, &[], r#"{"error":{"message":"invalid param model:spark-lite (sid: cha..)","type":"invalid_request_error","param":null,"code":"10005"}}"#, NotEntitled, Model, None),
        (200, &[], r#"{"code":11202,"message":"AppIdQpsOverFlowError","sid":"cha.."}"#, RateLimited, Account, Some(1.0)),
        (401, &[], r#"{"message":"HMAC signature cannot be verified: apikey not found"}"#, AuthInvalid, Account, None),
        (401, &[], r#"{"message":"Unauthorized"}"#, AuthInvalid, Account, None),
    ]);
    #[rustfmt::skip]
    table_spark_ws.cases(&[
        (401, &[], r#"{"message":"HMAC signature does not match"}"#, AuthInvalid, Account, None),
        (403, &[], r#"{"message":"HMAC signature cannot be verified, a valid date or x-date header is required for HMAC Authentication"}"#, Overloaded, Whole, None),
        (200, &[], r#"{"header":{"code":11202,"message":"m","status":2}}"#, RateLimited, Model, Some(1.0)),
        (200, &[], r#"{"header":{"code":11203,"message":"m","status":2}}"#, RateLimited, Model, None),
        (200, &[], r#"{"header":{"code":10005,"message":"invalid param model:spark-lite","status":2}}"#, NotEntitled, Model, None),
    ]);
    table_spark_ws.finish();
    table_spark.finish();
}

#[test]
fn gemini() {
    let mut table = Table::of("gemini");
    const PER_DAY: &str = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"You exceeded your current quota, please check your plan and billing details. ... \n* Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 20, model: gemini-2.5-flash\nPlease retry in 20.22s.",
 "details":[{"@type":"type.googleapis.com/google.rpc.Help","links":[{"description":"d","url":"https://ai.google.dev/gemini-api/docs/rate-limits"}]},
  {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":"m","quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier","quotaDimensions":{"location":"global","model":"gemini-2.5-flash"},"quotaValue":"20"}]},
  {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"20s"}]}}"#;
    #[rustfmt::skip]
    table.cases(&[
        // A hint of seconds is about the next try, not about the day; one of hours is about the day.
        (429, &[], PER_DAY, QuotaExhausted, Model, Some(6.0 * 3600.0)),
        (429, &[], r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"violations":[{"quotaId":"TokensPerDayPerProject"}]},{"retryDelay":"7200s"}]}}"#, QuotaExhausted, Model, Some(7200.0)),
        (429, &[], r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel"}]},{"retryDelay":"20s"}]}}"#, RateLimited, Model, Some(20.0)),
        (429, &[], r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"Quota exceeded, limit: 0, model: gemini-3-pro","details":[{"violations":[{"quotaId":"RequestsPerDay-FreeTier"}]}]}}"#, NotEntitled, Model, None),
        (429, &[], r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"Please retry in 20.5s."}}]"#, RateLimited, Model, Some(20.5)),
        (400, &[], r#"{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"Unknown name \"x\""}}"#, BadRequest, Model, None),
        (400, &[], r#"{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"API key not valid. Please pass a valid API key.","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}"#, AuthInvalid, Account, FOREVER),
        (400, &[], r#"{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"API key expired. Please renew the API key."}}"#, AuthInvalid, Account, FOREVER),
        (400, &[], r#"{"error":{"code":400,"status":"FAILED_PRECONDITION","message":"User location is not supported"}}"#, NotEntitled, Account, None),
        (400, &[], r#"{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}}"#, ContextTooLong, Model, None),
        (401, &[], r#"{"error":{"code":401,"status":"UNAUTHENTICATED","message":"m","details":[{"reason":"ACCESS_TOKEN_EXPIRED"}]}}"#, TokenExpired, Account, None),
        (402, &[], r#"{"error":{"code":402,"status":"RESOURCE_EXHAUSTED","message":"m"}}"#, QuotaExhausted, Account, FOREVER),
        (403, &[], r#"{"error":{"code":403,"status":"PERMISSION_DENIED","message":"m","details":[{"reason":"SERVICE_DISABLED"}]}}"#, AuthInvalid, Account, FOREVER),
        (404, &[], r#"{"error":{"code":404,"status":"NOT_FOUND","message":"models/x is not found"}}"#, NotEntitled, Model, None),
        (499, &[], r#"{"error":{"code":499,"status":"CANCELLED","message":"m"}}"#, Overloaded, Model, None),
        (500, &[], r#"{"error":{"code":500,"status":"INTERNAL","message":"m"}}"#, Overloaded, Model, None),
        (503, &[], r#"{"error":{"code":503,"status":"UNAVAILABLE","message":"The model is overloaded."}}"#, Overloaded, Whole, None),
        (504, &[], r#"{"error":{"code":504,"status":"DEADLINE_EXCEEDED","message":"m"}}"#, Overloaded, Model, None),
        // Inside a stream the code is the status.
        (200, &[], r#"{"error":{"code":503,"status":"UNAVAILABLE","message":"m"}}"#, Overloaded, Whole, None),
        (200, &[], r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m"}}"#, RateLimited, Model, None),
    ]);
    table.finish();
}

#[test]
fn doubao() {
    let mut table = Table::of("doubao");
    let code = |code: &str| {
        format!(
            r#"{{"error":{{"code":"{code}","message":"m. Request id: 0217640000000000d4e5f6","param":"","type":"BadRequest"}}}}"#
        )
    };
    #[rustfmt::skip]
    table.codes(code, 400, &[
        ("MissingParameter.X", BadRequest, Model, None), ("InvalidParameter", BadRequest, Model, None),
        ("InvalidParameter.UnsupportedParameter", BadRequest, Model, None),
        ("InvalidArgumentError.X", BadRequest, Model, None), ("InvalidImageURL.X", BadRequest, Model, None),
        ("OutofContextError", ContextTooLong, Model, None), ("SensitiveContentDetected", ContentFiltered, Model, None),
        ("SensitiveContentDetected.SevereViolation", ContentFiltered, Model, None),
        ("InputTextSensitiveContentDetected", ContentFiltered, Model, None),
        ("OutputTextSensitiveContentDetected", ContentFiltered, Model, None),
        ("InputImageSensitiveContentDetected.PolicyViolation", ContentFiltered, Model, None),
        ("InputTextRiskDetection", ContentFiltered, Model, None), ("OutputTextRiskDetection", ContentFiltered, Model, None),
        ("InvalidEndpoint.ClosedEndpoint", NotEntitled, Model, None),
        ("InvalidSubscription", QuotaExhausted, Account, FOREVER),
    ]);
    #[rustfmt::skip]
    table.codes(code, 401, &[
        ("AuthenticationError", AuthInvalid, Account, None), ("InvalidAccountStatus", AuthInvalid, Account, FOREVER),
    ]);
    #[rustfmt::skip]
    table.codes(code, 403, &[
        ("AccessDenied", NotEntitled, Model, None), ("OperationDenied.PermissionDenied", NotEntitled, Model, None),
        ("OperationDenied.ServiceNotOpen", NotEntitled, Model, None),
        ("AccountOverdueError", QuotaExhausted, Account, FOREVER),
        ("OperationDenied.ServiceOverdue", QuotaExhausted, Account, FOREVER),
    ]);
    #[rustfmt::skip]
    table.codes(code, 404, &[
        ("InvalidEndpointOrModel.NotFound", NotEntitled, Model, None),
        ("InvalidEndpointOrModel.ModelIDAccessDisabled", NotEntitled, Model, None),
        ("ModelNotOpen", NotEntitled, Model, None), ("UnsupportedModel", NotEntitled, Model, None),
    ]);
    #[rustfmt::skip]
    table.codes(code, 429, &[
        ("RateLimitExceeded.EndpointRPMExceeded", RateLimited, Model, None),
        ("RateLimitExceeded.EndpointTPMExceeded", RateLimited, Model, None),
        ("ModelAccountRpmRateLimitExceeded", RateLimited, Model, None),
        ("ModelAccountTpmRateLimitExceeded", RateLimited, Model, None),
        ("ModelAccountIpmRateLimitExceeded", RateLimited, Model, None),
        ("APIAccountRpmRateLimitExceeded", RateLimited, Account, None),
        ("AccountRateLimitExceeded", RateLimited, Account, None),
        ("InflightBatchsizeExceeded", RateLimited, Account, None), ("QuotaExceeded", QuotaExhausted, Model, None),
        ("SetLimitExceeded", QuotaExhausted, Model, FOREVER), ("ServerOverloaded", Overloaded, Whole, None),
        ("RequestBurstTooFast", Overloaded, Whole, None),
    ]);
    #[rustfmt::skip]
    table.cases(&[
        (429, &[], r#"{"error":{"code":"QuotaExceeded","message":"You have exceeded the 5-hour usage quota. It will reset at 2026-11-21 18:00:00 +0800 CST.","type":"TooManyRequests"}}"#, QuotaExhausted, Account, Some(8.0 * 3600.0)),
        (429, &[], r#"{"error":{"code":"QuotaExceeded","message":"Your free trial quota is used up.","type":"TooManyRequests"}}"#, QuotaExhausted, Model, FOREVER),
        (429, &[], r#"{"error":{"code":"QuotaExceeded","message":"The batch queue is full.","type":"TooManyRequests"}}"#, Overloaded, Whole, None),
        (500, &[], r#"{"error":{"code":"InternalServiceError","message":"m","type":"InternalServerError","param":""}}"#, Overloaded, Model, None),
        (200, &[], r#"{"error":{"code":"InternalServiceError","message":"..","type":"InternalServerError","param":""}}"#, Overloaded, Model, None),
    ]);
    table.finish();
}

#[test]
fn huggingface() {
    let mut table = Table::of("huggingface");
    #[rustfmt::skip]
    table.cases(&[
        (400, &[], r#"{"error":{"message":"The requested model 'a/b' is not supported by any provider you have enabled.","type":"invalid_request_error","param":"model","code":"model_not_supported"}}"#, NotEntitled, Model, None),
        (400, &[], r#"{"error":"Model not supported by provider together"}"#, BadRequest, Model, None),
        (400, &[], r#"{"error":{"message":"blocked","type":"invalid_request_error","code":"content_policy_violation"}}"#, ContentFiltered, Model, None),
        (400, &[], r#"{"error":{"message":"no","type":"invalid_request_error","code":"content_filter"}}"#, ContentFiltered, Model, None),
        (401, &[], r#"{"error":"Invalid username or password."}"#, TokenExpired, Account, None),
        (402, &[], r#"{"error":"You have exceeded your monthly included credits for Inference Providers. Subscribe to PRO to get 20x more monthly included credits."}"#, QuotaExhausted, Account, MONTH),
        (402, &[], r#"{"error":"Buy pre-paid credits."}"#, QuotaExhausted, Account, MONTH),
        (403, &[], r#"{"error":"This authentication method does not have sufficient permissions to call Inference Providers on behalf of user ann"}"#, AuthInvalid, Account, FOREVER),
        (403, &[], r#"{"error":"Access to model a/b is restricted"}"#, NotEntitled, Model, None),
        (404, &[], "Not Found", NotEntitled, Model, None),
        (422, &[], r#"{"error":"Input validation error: `temperature` must be positive","error_type":"validation"}"#, BadRequest, Model, None),
        (422, &[], r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096","error_type":"validation"}"#, ContextTooLong, Model, None),
        (400, &[], r#"{"error":{"message":"This model's maximum context length is 8192 tokens"}}"#, ContextTooLong, Model, None),
        (429, &[("ratelimit", "\"api\";r=0;t=55")], r#"{"error":"We had to rate limit you"}"#, RateLimited, Model, Some(55.0)),
        (503, &[], r#"{"error":"Model a/b is currently loading","estimated_time":20.0}"#, Overloaded, Model, Some(20.0)),
        (502, &[], "<html>Bad gateway</html>", Overloaded, Model, None),
        (503, &[], r#"{"error":["a","b"]}"#, Overloaded, Model, None),
    ]);
    table.finish();
}

#[test]
fn aihubmix() {
    let mut table = Table::of("aihubmix");
    #[rustfmt::skip]
    table.cases(&[
        (400, &[], r#"{"error":{"message":"Incorrect model ID. Please request to view the model page or you do not have permission to use this model (tid: 2025121504014619744820954697486)","type":"Aihubmix_api_error","param":"","code":""}}"#, NotEntitled, Model, None),
        (400, &[], r#"{"error":{"message":"invalid schema","type":"upstream_error","param":"400","code":"bad_response_status_code"}}"#, BadRequest, Model, None),
        (400, &[], r#"{"error":{"message":"prompt is too long: 210000 tokens","type":"upstream_error","param":"400","code":"bad_response_status_code"}}"#, ContextTooLong, Model, None),
        (401, &[], r#"{"error":{"message":"no key","type":"Aihubmix_api_error"}}"#, AuthInvalid, Account, None),
        (403, &[], r#"{"error":{"message":"Your account balance is insufficient. ... (tid: 2025)","type":"Aihubmix_api_error","param":"","code":"insufficient_user_quota"}}"#, QuotaExhausted, Account, FOREVER),
        (403, &[], r#"{"error":{"message":"Your account balance is insufficient.","type":"Aihubmix_api_error"}}"#, QuotaExhausted, Account, FOREVER),
        (403, &[], r#"{"error":{"message":"no","type":"new_api_error","code":"pre_consume_token_quota_failed"}}"#, QuotaExhausted, Account, FOREVER),
        (429, &[], r#"{"error":{"message":"To prevent abuse of free resources, accounts that have not been recharged can only try 10 times"}}"#, QuotaExhausted, Account, FOREVER),
        (404, &[], "404 page not found", NotEntitled, Model, None),
        (413, &[], "", BadRequest, Model, None),
        (429, &[], r#"{"error":{"message":"too many requests","type":"upstream_error","code":429}}"#, RateLimited, Model, None),
        (500, &[], r#"{"error":{"message":"m","type":"upstream_error","param":500,"code":500}}"#, Overloaded, Model, None),
        (503, &[], r#"{"error":{"message":"no available channel for model x","type":"Aihubmix_api_error"}}"#, Overloaded, Model, None),
        (400, &[], r#"{"error":{"message":"m","code":"context_length_exceeded"}}"#, ContextTooLong, Model, None),
        (400, &[], r#"{"error":{"message":"m","code":"content_filter"}}"#, ContentFiltered, Model, None),
    ]);
    table.finish();
}

#[test]
fn the_shared_table_by_status() {
    let bare = Row { models: None, errors: vec![], ..Row::built_in("openai").expect("row").expect("openai") };
    let platform = Platform::compile(bare).expect("compiled");
    for (status, verdict, scope) in [
        (400, BadRequest, Model),
        (401, AuthInvalid, Account),
        (402, QuotaExhausted, Account),
        (403, NotEntitled, Model),
        (404, NotEntitled, Model),
        (405, BadRequest, Model),
        (408, Overloaded, Model),
        (409, Overloaded, Model),
        (413, BadRequest, Model),
        (422, BadRequest, Model),
        (429, RateLimited, Model),
        (500, Overloaded, Model),
        (502, Overloaded, Model),
        (503, Overloaded, Whole),
        (529, Overloaded, Whole),
        (302, Overloaded, Model),
        (200, Overloaded, Model),
    ] {
        let found = judge(&platform, status, &[], "");
        assert_eq!((found.verdict, found.scope), (verdict, scope), "{status}");
    }
    assert_eq!(judge(&platform, 402, &[], "").retry_after, Some(NEVER));
}

#[test]
fn a_caller_at_fault_reads_the_platforms_words_without_its_secrets() {
    let openai = platform("openai");
    let body = r#"{"error":{"message":"Bad image for key sk-canary1 of org-canary2 at https://canary3.example/x by canary4@example.com","type":"invalid_request_error","param":"messages","code":"invalid_value"}}"#;
    let found = judge(&openai, 400, &[], body);
    assert!(!found.message.contains("canary"), "{}", found.message);
    assert!(found.message.starts_with("Bad image for key [masked] of [masked] at [masked]"));
    assert_eq!(found.param.as_deref(), Some("messages"));
    assert_eq!((found.status, found.openai_code()), (400, Some("invalid_value")));
    // No one else's words are the caller's to read.
    for (status, body) in [
        (401, r#"{"error":{"message":"Incorrect API key provided: plainwords","code":"invalid_api_key"}}"#),
        (500, r#"{"error":{"message":"plainwords"}}"#),
        (400, "plainwords"),
    ] {
        assert!(!judge(&openai, status, &[], body).message.contains("plainwords"));
    }
}

#[test]
fn what_the_caller_is_answered() {
    let openai = platform("openai");
    for (status, answered) in [(400, 400), (404, 404), (405, 400), (413, 413), (422, 422), (451, 400)] {
        assert_eq!(judge(&openai, status, &[], "").status, answered);
    }
    for (status, code) in [
        (401, Some("upstream_auth_failed")),
        (402, Some("insufficient_quota")),
        (404, Some("model_not_found")),
        (429, Some("rate_limit_exceeded")),
        (500, Some("upstream_error")),
        (400, None),
    ] {
        assert_eq!(judge(&openai, status, &[], "").openai_code(), code, "{status}");
    }
    let long = judge(&openai, 400, &[], r#"{"error":{"code":"context_length_exceeded"}}"#);
    assert_eq!(long.openai_code(), Some("context_length_exceeded"));
}

#[test]
fn errors_in_a_200_are_seen_and_answers_are_not_taken_for_them() {
    for error in [
        r#"{"error_code":17,"error_msg":"Open api daily request limit reached"}"#,
        r#"{"code":11202,"message":"AppIdQpsOverFlowError","sid":"cha.."}"#,
        r#"{"code":"InvalidApiKey","message":"Invalid API-key provided.","request_id":"7f3e"}"#,
        r#"{"error":{"message":"m"}}"#,
        r#"{"error":"words"}"#,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
        r#"[{"error":{"code":429}}]"#,
        r#"{"success":false,"message":"no"}"#,
        r#"{"code":10013,"message":"m","choices":[]}"#,
    ] {
        assert!(is_error(error.as_bytes()), "{error}");
    }
    for answer in [
        r#"{"code":0,"message":"Success","sid":"cha","choices":[{"message":{"role":"assistant","content":"Hi"},"index":0}]}"#,
        r#"{"id":"x","choices":[{"index":0}],"error":null}"#,
        r#"{"id":"x","choices":[{"index":0}],"error":""}"#,
        r#"{"id":"as-1","result":"Hi","error_code":0}"#,
        r#"{"code":10019,"message":"suspected","choices":[{"message":{"content":"Hi"},"index":0}]}"#,
        r#"{"output":{"text":"Hi"},"code":"","message":""}"#,
        r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#,
        r#"{"object":"list","data":[{"embedding":[1]}]}"#,
        "<html>",
        "",
        "[]",
        "[1]",
    ] {
        assert!(!is_error(answer.as_bytes()), "{answer}");
    }
}

#[test]
fn odd_bodies_and_headers_do_no_harm() {
    let platform = platform("gemini");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(300_000));
    for body in
        ["null", "1", "\"x\"", "{}", "[]", "[[]]", "{\"error\":7}", "{\"error\":{\"code\":[]}}", &deep, &huge]
    {
        for status in [0, 100, 200, 301, 400, 429, 500, 599, 999, u16::MAX] {
            let found = judge(&platform, status, &[("retry-after", "1e300")], body);
            assert!(found.message.chars().count() <= 501);
        }
    }
}

/// What metrics and golden files say is what rows of platforms may write.
#[test]
fn a_verdict_is_told_by_the_name_that_rows_give_it() {
    let all = [
        Verdict::Ok,
        RateLimited,
        QuotaExhausted,
        TokenExpired,
        AuthInvalid,
        NotEntitled,
        Overloaded,
        BadRequest,
        ContentFiltered,
        ContextTooLong,
    ];
    for verdict in all {
        let read: Verdict = serde_json::from_value(verdict.as_str().into()).expect("a verdict");
        assert_eq!(read, verdict);
    }
}
