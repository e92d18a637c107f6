//! Refusals in each provider's shape. Why apart: what is refused is the same everywhere, and eleven vendors have eight ways to
//! say so, half of them with status 200.

use serde_json::{Value, json};

use super::rows::Style;
use crate::fake::wire::Native;
use crate::ids::random_name;

/// Why something is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A parameter is missing, comes twice, or makes no sense.
    Parameter(String),
    Method,
    /// The client is not known.
    Client,
    /// Its secret is wrong or came the wrong way.
    Secret,
    Code,
    CodeUsed,
    CodeExpired,
    /// Redirect URI differs from that of the authorize request.
    RedirectUri,
    Verifier,
    Refresh,
    RefreshUsed,
    RefreshExpired,
    GrantType,
    Scope,
    /// The client may not use this grant.
    Unauthorized,
    Pending,
    SlowDown(u64),
    DeviceCode,
    DeviceExpired,
    Denied,
    Server,
    /// No access token came.
    NoToken,
    Token,
    TokenExpired,
    /// The token lacks a scope.
    TokenScope,
    /// WeChat: the open id is not that of the token.
    OpenId,
    /// GitHub: no `User-Agent`.
    NoAgent,
    /// Any other error that a test asked for by name.
    Other(String),
}

impl Why {
    /// The refusal that the standard's code stands for; `grant` is the grant in question.
    pub fn named(code: &str, grant: &str) -> Why {
        match code {
            "invalid_grant" if grant == "refresh_token" => Why::Refresh,
            "invalid_grant" if grant.ends_with("device_code") => Why::DeviceCode,
            "invalid_grant" => Why::Code,
            "invalid_client" => Why::Secret,
            "invalid_request" => Why::Parameter("request".to_owned()),
            "unsupported_grant_type" => Why::GrantType,
            "invalid_scope" => Why::Scope,
            "unauthorized_client" => Why::Unauthorized,
            "authorization_pending" => Why::Pending,
            "slow_down" => Why::SlowDown(10),
            "expired_token" => Why::DeviceExpired,
            "access_denied" => Why::Denied,
            "invalid_token" => Why::Token,
            other => Why::Other(other.to_owned()),
        }
    }

    /// Status, code and words of RFC 6749, 6750 and 8628.
    fn standard(&self) -> (u16, &str, String) {
        let (status, code, words) = match self {
            Why::Parameter(name) => {
                return (400, "invalid_request", format!("missing, repeated or malformed: {name}"));
            }
            Why::Method => (405, "invalid_request", "method not allowed"),
            Why::Client => (401, "invalid_client", "unknown client"),
            Why::Secret => (401, "invalid_client", "client authentication failed"),
            Why::Code => (400, "invalid_grant", "authorization code is invalid"),
            Why::CodeUsed => (400, "invalid_grant", "authorization code was used before"),
            Why::CodeExpired => (400, "invalid_grant", "authorization code has expired"),
            Why::RedirectUri => (400, "invalid_grant", "redirect_uri differs"),
            Why::Verifier => (400, "invalid_grant", "code_verifier does not fit"),
            Why::Refresh => (400, "invalid_grant", "refresh token is invalid"),
            Why::RefreshUsed => (400, "invalid_grant", "refresh token was used before"),
            Why::RefreshExpired => (400, "invalid_grant", "refresh token has expired"),
            Why::GrantType => (400, "unsupported_grant_type", "grant type not supported"),
            Why::Scope => (400, "invalid_scope", "unknown or forbidden scope"),
            Why::Unauthorized => (400, "unauthorized_client", "not for this client"),
            Why::Pending => (400, "authorization_pending", "the person has not answered yet"),
            Why::SlowDown(_) => (400, "slow_down", "polled too often"),
            Why::DeviceCode => (400, "invalid_grant", "device code is invalid"),
            Why::DeviceExpired => (400, "expired_token", "device code has expired"),
            Why::Denied => (400, "access_denied", "the person said no"),
            Why::Server => (500, "server_error", "internal error"),
            Why::NoToken => (401, "", ""),
            Why::Token => (401, "invalid_token", "the access token is invalid"),
            Why::TokenExpired => (401, "invalid_token", "the access token expired"),
            Why::TokenScope => (403, "insufficient_scope", "the token lacks a scope"),
            Why::OpenId => (400, "invalid_request", "invalid openid"),
            Why::NoAgent => (403, "forbidden", "no user agent"),
            Why::Other(code) => (400, code.as_str(), "as asked"),
        };
        (status, code, words.to_owned())
    }

    /// The standard's code, for counters.
    pub fn code(&self) -> String {
        self.standard().1.to_owned()
    }
}

/// A refusal of the token endpoint, the device endpoint and the like. `basic`: the client used HTTP Basic.
pub fn refuse(style: Style, why: &Why, basic: bool) -> Native {
    let (status, code, words) = why.standard();
    let body = json!({"error": code, "error_description": words});
    match style {
        Style::GitHub => github(why),
        Style::Google => google(why),
        // A door of its own: an expired code is a 401 there.
        Style::Gitee if status == 400 && code == "invalid_grant" => Native::json(401, &body),
        Style::OsChina => Native::json(200, &body),
        Style::LinuxDo if code == "invalid_client" || code == "invalid_request" => {
            Native::json(status, &json!({ "message": words }))
        }
        Style::Feishu => Native::json(200, &feishu(why, code, &words)),
        Style::WeChat => wechat(why),
        Style::Qwen if matches!(why, Why::SlowDown(_)) => Native::json(429, &body),
        Style::Qwen if *why == Why::DeviceCode => Native::json(401, &body),
        _ => {
            let native = Native::json(status, &body).with("cache-control", "no-store");
            if basic && status == 401 {
                native.with("www-authenticate", "Basic realm=\"fake\"")
            } else {
                native
            }
        }
    }
}

fn github(why: &Why) -> Native {
    let (_, code, words) = why.standard();
    let (code, words) = match why {
        Why::Client | Why::Secret => (
            "incorrect_client_credentials",
            "The client_id and/or client_secret passed are incorrect.".to_owned(),
        ),
        Why::Code | Why::CodeUsed | Why::CodeExpired | Why::Verifier => {
            ("bad_verification_code", "The code passed is incorrect or expired.".to_owned())
        }
        Why::RedirectUri => (
            "redirect_uri_mismatch",
            "The redirect_uri MUST match the registered callback URL for this application.".to_owned(),
        ),
        Why::Refresh | Why::RefreshUsed | Why::RefreshExpired => {
            ("bad_refresh_token", "The refresh token passed is incorrect or expired.".to_owned())
        }
        Why::DeviceCode => ("incorrect_device_code", "The device_code provided is not valid.".to_owned()),
        Why::Unauthorized => {
            ("device_flow_disabled", "Device Flow must be explicitly enabled for this App".to_owned())
        }
        _ => (code, words),
    };
    let mut body = json!({"error":code,"error_description":words,
        "error_uri":"https://docs.github.com/apps/managing-oauth-apps/troubleshooting-oauth-app-access-token-request-errors"});
    if let (Why::SlowDown(interval), Some(members)) = (why, body.as_object_mut()) {
        members.insert("interval".to_owned(), json!(interval));
    }
    // With 200, whatever it is.
    Native::json(200, &body)
}

fn google(why: &Why) -> Native {
    let (status, code, words) = why.standard();
    let (status, code, words) = match why {
        Why::Refresh | Why::RefreshUsed | Why::RefreshExpired => {
            (400, code, "Token has been expired or revoked.".to_owned())
        }
        Why::Code | Why::CodeUsed | Why::CodeExpired => (400, code, "Malformed auth code.".to_owned()),
        Why::RedirectUri => (400, "redirect_uri_mismatch", "Bad Request".to_owned()),
        Why::Client => (401, code, "The OAuth client was not found.".to_owned()),
        Why::Secret => (401, code, "Unauthorized".to_owned()),
        Why::Pending => (428, code, "Precondition Required".to_owned()),
        Why::SlowDown(_) | Why::Denied => (403, code, "Forbidden".to_owned()),
        Why::Token => (400, code, "Token expired or revoked".to_owned()),
        _ => (status, code, words),
    };
    let mut native = Native::json(status, &json!({"error":code,"error_description":words}));
    native.headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
    native
}

fn feishu(why: &Why, code: &str, words: &str) -> Value {
    let number = match why {
        Why::Secret => 20_002,
        Why::Code => 20_003,
        Why::CodeExpired => 20_004,
        Why::CodeUsed => 20_065,
        Why::Denied => 20_010,
        Why::GrantType => 20_036,
        Why::RefreshExpired => 20_037,
        Why::Client => 20_048,
        Why::Verifier => 20_049,
        Why::Server => 20_050,
        Why::Refresh => 20_026,
        Why::RefreshUsed => 20_064,
        Why::Scope => 20_068,
        Why::RedirectUri => 20_071,
        Why::NoToken | Why::Token | Why::TokenExpired => 20_005,
        _ => 20_063,
    };
    json!({"code":number,"error":code,"error_description":words})
}

fn wechat(why: &Why) -> Native {
    let (code, words) = match why {
        Why::Client => (40_013, "invalid appid"),
        Why::Secret => (40_125, "invalid appsecret"),
        Why::Code => (40_029, "invalid code"),
        Why::CodeUsed => (40_163, "code been used"),
        Why::CodeExpired => (42_003, "oauth_code expired"),
        Why::Refresh | Why::RefreshUsed => (40_030, "invalid refresh_token"),
        Why::RefreshExpired => (42_002, "refresh_token expired"),
        Why::GrantType => (40_002, "invalid grant_type"),
        Why::Token | Why::NoToken => (40_001, "invalid credential, access_token is invalid or not latest"),
        Why::TokenExpired => (42_001, "access_token expired"),
        Why::TokenScope => (48_001, "api unauthorized"),
        Why::OpenId => (40_003, "invalid openid"),
        Why::Method => (43_001, "require GET method"),
        Why::SlowDown(_) => (45_011, "api minute-quota reach limit"),
        Why::Parameter(name) if name == "appid" => (41_002, "appid missing"),
        Why::Parameter(name) if name == "secret" => (41_004, "appsecret missing"),
        Why::Parameter(name) if name == "code" => (41_008, "missing code"),
        Why::Parameter(name) if name == "refresh_token" => (41_003, "refresh_token missing"),
        _ => (-1, "system error"),
    };
    let rid = random_name("", 8);
    plain_json(&json!({"errcode":code,"errmsg":format!("{words}, rid: {rid}")}))
}

/// JSON that says it is text.
pub fn plain_json(body: &Value) -> Native {
    Native {
        status: 200,
        headers: vec![("content-type", "text/plain".to_owned())],
        body: body.to_string().into(),
    }
}

/// A refusal of userinfo and of what else an access token opens.
pub fn refuse_token(style: Style, why: &Why) -> Native {
    let (status, code, words) = why.standard();
    match style {
        Style::GitHub if *why == Why::NoAgent => Native {
            status: 403,
            headers: vec![("content-type", "text/plain".to_owned())],
            body: "Request forbidden by administrative rules. Please make sure your request has a User-Agent header (https://docs.github.com/rest/overview/resources-in-the-rest-api#user-agent-required). Check https://developer.github.com for other possible causes.".into(),
        },
        Style::GitHub if *why == Why::NoToken => {
            Native::json(401, &json!({"message":"Requires authentication","status":"401"}))
        }
        Style::GitHub if status == 403 => {
            Native::json(404, &json!({"message":"Not Found","status":"404"}))
        }
        Style::GitHub => Native::json(401, &json!({"message":"Bad credentials","status":"401"})),
        Style::Gitee => {
            let words = match why {
                Why::TokenExpired => "401 Unauthorized: Access token is expired",
                Why::TokenScope => "403 Forbidden: Access token lacks the scope",
                _ => "401 Unauthorized: Access token does not exist",
            };
            Native::json(status, &json!({ "message": words }))
        }
        Style::OsChina => Native::json(200, &json!({"error":"invalid_token","error_description":words})),
        Style::LinuxDo => Native::json(status, &json!({ "message": words })),
        Style::Feishu => {
            Native::json(200, &json!({"code":20_005,"msg":"The user access token passed is invalid."}))
        }
        Style::WeChat => wechat(why),
        _ if code.is_empty() => {
            Native::json(status, &json!({"error":"unauthorized"})).with("www-authenticate", "Bearer realm=\"fake\"")
        }
        _ => Native::json(status, &json!({"error":code,"error_description":words})).with(
            "www-authenticate",
            format!("Bearer realm=\"fake\", error=\"{code}\", error_description=\"{words}\""),
        ),
    }
}
