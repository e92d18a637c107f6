//! What each platform usually says for each class of refusal: status, type, code and words. Why a file of its own: it is
//! a table, read beside the vendors' pages, and the gateway's error tables are tested against it.

use super::rows::Style;
use crate::fake::fault::Class;

/// Status, `type`, `code`, message.
pub type Usual = (u16, &'static str, &'static str, &'static str);

/// What a platform usually says for a class.
pub fn usual(style: Style, class: Class) -> Usual {
    match style {
        Style::OpenAi => openai(class),
        Style::Qwen => qwen(class),
        Style::Zhipu => zhipu(class),
        Style::Doubao => doubao(class),
        Style::Baidu => baidu(class),
        Style::Spark => spark(class),
        Style::HuggingFace => huggingface(class),
        Style::AiHubMix => aihubmix(class),
    }
}

fn openai(class: Class) -> Usual {
    const BAD: &str = "invalid_request_error";
    match class {
        Class::RateLimited | Class::Concurrency => (
            429,
            "requests",
            "rate_limit_exceeded",
            "Rate limit reached for gpt-4o in organization org-x on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in {wait}.",
        ),
        Class::TokensLimited => (
            429,
            "tokens",
            "rate_limit_exceeded",
            "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29937, Requested 385. Please try again in {wait}.",
        ),
        Class::DailyQuota | Class::QuotaExhausted => (
            429,
            "insufficient_quota",
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details.",
        ),
        Class::TokenExpired | Class::AuthInvalid => (
            401,
            BAD,
            "invalid_api_key",
            "Incorrect API key provided: sk-ab***yz. You can find your API key at https://platform.openai.com/account/api-keys.",
        ),
        Class::NotEntitled => {
            (404, BAD, "model_not_found", "The model does not exist or you do not have access to it.")
        }
        Class::Overloaded => (
            503,
            "service_unavailable_error",
            "server_is_overloaded",
            "The server is currently overloaded with other requests.",
        ),
        Class::BadRequest => (400, BAD, "invalid_value", "Invalid request."),
        Class::ContentFiltered => (
            400,
            BAD,
            "content_policy_violation",
            "Your request was rejected as a result of our safety system.",
        ),
        Class::ContextTooLong => (
            400,
            BAD,
            "context_length_exceeded",
            "This model's maximum context length is 200000 tokens. However, your messages resulted in more tokens.",
        ),
        Class::ServerError => (
            500,
            "server_error",
            "",
            "The server had an error while processing your request. Sorry about that!",
        ),
        Class::NoSuchPath => (404, BAD, "", "Invalid URL."),
    }
}

fn qwen(class: Class) -> Usual {
    const BAD: &str = "invalid_request_error";
    match class {
        Class::RateLimited | Class::Concurrency => {
            (429, "limit_requests", "limit_requests", "You exceeded your current requests list.")
        }
        Class::TokensLimited => (
            429,
            "insufficient_quota",
            "insufficient_quota",
            "Allocated quota exceeded, please increase your quota limit.",
        ),
        Class::DailyQuota => {
            (429, "insufficient_quota", "insufficient_quota", "Free allocated quota exceeded.")
        }
        Class::QuotaExhausted => (
            400,
            "Arrearage",
            "Arrearage",
            "Access denied, please make sure your account is in good standing.",
        ),
        Class::TokenExpired => (401, BAD, "invalid_api_key", "invalid access token or token expired"),
        Class::AuthInvalid => (401, BAD, "invalid_api_key", "Incorrect API key provided."),
        Class::NotEntitled => {
            (404, BAD, "model_not_found", "The model does not exist or you do not have access to it.")
        }
        Class::Overloaded => (
            503,
            "ModelServingError",
            "ModelServingError",
            "Too many requests. Your requests are being throttled due to system capacity limits. Please try again later.",
        ),
        Class::BadRequest => {
            (400, BAD, "invalid_parameter_error", "InternalError.Algo.InvalidParameter: invalid parameter.")
        }
        Class::ContentFiltered => (
            400,
            "data_inspection_failed",
            "data_inspection_failed",
            "Input data may contain inappropriate content.",
        ),
        Class::ContextTooLong => (
            400,
            BAD,
            "invalid_parameter_error",
            "InternalError.Algo.InvalidParameter: Range of input length should be [1, 129024]",
        ),
        Class::ServerError => (
            500,
            "internal_error",
            "internal_error",
            "An internal error has occured, please try again later.",
        ),
        Class::NoSuchPath => (404, BAD, "", "Not Found."),
    }
}

/// Codes only; Zhipu has no types.
fn zhipu(class: Class) -> Usual {
    match class {
        Class::RateLimited | Class::TokensLimited => {
            (429, "", "1303", "您当前使用该API的频率过高，请降低频率，或联系客服增加限额。")
        }
        Class::Concurrency => {
            (429, "", "1302", "您当前使用该API的并发数过高，请降低并发，或联系客服增加限额。")
        }
        Class::DailyQuota => (429, "", "1304", "您已达到该API日调用次数限额，如有更多需求，请联系客服购买。"),
        Class::QuotaExhausted => (429, "", "1113", "您的账户已欠费，请充值后重试。"),
        Class::TokenExpired => (401, "", "1003", "Authorization Token已过期，请重新生成获取。"),
        Class::AuthInvalid => {
            (401, "", "1002", "Authorization Token非法，请确认Authorization Token正确传递。")
        }
        Class::NotEntitled => (400, "", "1211", "模型不存在，请检查模型代码。"),
        Class::Overloaded => (429, "", "1305", "当前API请求过多，请稍后重试。"),
        Class::BadRequest => (400, "", "1210", "API 调用参数有误，请检查文档。"),
        Class::ContentFiltered => (
            400,
            "",
            "1301",
            "系统检测到输入或生成内容可能包含不安全或敏感内容，请您避免输入易产生敏感内容的提示语，感谢您的配合。",
        ),
        Class::ContextTooLong => (400, "", "1261", "Prompt 超长。"),
        Class::ServerError => (500, "", "1234", "网络错误，错误id：202611211000003f2a，请联系客服。"),
        Class::NoSuchPath => (404, "", "", "Not Found"),
    }
}

/// Doubao's many kinds of 429.
fn doubao_busy(class: Class) -> (&'static str, &'static str) {
    match class {
        Class::TokensLimited => (
            "ModelAccountTpmRateLimitExceeded",
            "The tokens per minute (TPM) limit of the model for this account has been exceeded.",
        ),
        Class::Concurrency => (
            "InflightBatchsizeExceeded",
            "The maximum number of in-flight requests for this account has been reached.",
        ),
        Class::DailyQuota => (
            "SetLimitExceeded",
            "Your account has reached the set inference limit for this model, and the model service has been paused.",
        ),
        Class::Overloaded => (
            "ServerOverloaded",
            "The service is currently unable to handle additional requests due to server overload.",
        ),
        _ => (
            "ModelAccountRpmRateLimitExceeded",
            "The requests per minute (RPM) limit of the model for this account has been exceeded.",
        ),
    }
}

fn doubao(class: Class) -> Usual {
    match class {
        Class::RateLimited
        | Class::TokensLimited
        | Class::Concurrency
        | Class::DailyQuota
        | Class::Overloaded => {
            let (code, words) = doubao_busy(class);
            (429, "TooManyRequests", code, words)
        }
        Class::QuotaExhausted => (
            403,
            "Forbidden",
            "AccountOverdueError",
            "The request failed because your account has an overdue balance.",
        ),
        Class::TokenExpired | Class::AuthInvalid => (
            401,
            "Unauthorized",
            "AuthenticationError",
            "The API key or AK/SK in the request is missing or invalid.",
        ),
        Class::NotEntitled => (
            404,
            "NotFound",
            "InvalidEndpointOrModel.NotFound",
            "The model or endpoint does not exist or you do not have access to it.",
        ),
        Class::BadRequest => {
            (400, "BadRequest", "InvalidParameter", "A parameter specified in the request is not valid.")
        }
        Class::ContentFiltered => (
            400,
            "BadRequest",
            "SensitiveContentDetected",
            "The request failed because the input text may contain sensitive information.",
        ),
        Class::ContextTooLong => {
            (400, "BadRequest", "OutofContextError", "Total tokens of input text exceed max message tokens.")
        }
        Class::ServerError => (
            500,
            "InternalServerError",
            "InternalServiceError",
            "The service encountered an unexpected internal error.",
        ),
        Class::NoSuchPath => (404, "NotFound", "NotFound", "The requested resource was not found."),
    }
}

fn baidu(class: Class) -> Usual {
    match class {
        Class::RateLimited => {
            (429, "rate_limit_exceeded", "rpm_rate_limit_exceeded", "Rate limit reached for RPM")
        }
        Class::TokensLimited => {
            (429, "rate_limit_exceeded", "tpm_rate_limit_exceeded", "Rate limit reached for TPM")
        }
        Class::Concurrency => {
            (429, "rate_limit_exceeded", "user_rate_limit_exceeded", "Rate limit reached for user")
        }
        Class::DailyQuota | Class::QuotaExhausted => {
            (403, "access_denied", "account_overdue", "The account is overdue, please recharge.")
        }
        Class::TokenExpired | Class::AuthInvalid => {
            (401, "invalid_request_error", "invalid_iam_token", "IAM Certification failed")
        }
        Class::NotEntitled => (401, "access_denied", "invalid_model", "No permission to use the model"),
        Class::Overloaded => {
            (429, "rate_limit_exceeded", "cluster_rate_limit_exceeded", "The cluster is at its limit")
        }
        Class::BadRequest => (400, "invalid_request_error", "invalid_argument", "Invalid argument"),
        Class::ContentFiltered => (403, "unsafe_request", "system_unsafe", "The content is unsafe"),
        Class::ContextTooLong => {
            (400, "invalid_request_error", "tokens_too_long", "the max input tokens is exceeded")
        }
        Class::ServerError => (500, "Internal_error", "internal_error", "Internal error"),
        Class::NoSuchPath => {
            (405, "invalid_request_error", "method_not_supported", "The method is not supported")
        }
    }
}

/// The code is the meaning; the status is not. Types as in the shape with `error`.
fn spark(class: Class) -> Usual {
    match class {
        Class::RateLimited | Class::TokensLimited => (429, "", "11202", "AppIdQpsOverFlowError"),
        Class::Concurrency => (429, "", "11203", "AppIdConcOverFlowError"),
        Class::DailyQuota => (200, "", "11201", "AppIdDailyLimitError"),
        Class::QuotaExhausted | Class::NotEntitled => (500, "api_error", "11200", "AppIdNoAuthError"),
        Class::TokenExpired | Class::AuthInvalid => {
            (401, "gateway", "", "HMAC signature cannot be verified: apikey not found")
        }
        Class::Overloaded => (200, "", "10012", "EngineInternalError"),
        Class::BadRequest => (400, "invalid_request_error", "10005", "invalid param"),
        Class::ContentFiltered => (200, "", "10013", "input content moderation"),
        Class::ContextTooLong => (400, "invalid_request_error", "10907", "token count exceeds the limit"),
        Class::ServerError => (500, "api_error", "10010", "internal engine error"),
        Class::NoSuchPath => (404, "gateway", "", "no Route matched with those values"),
    }
}

/// Messages mostly; where there is a code, the error is an object.
fn huggingface(class: Class) -> Usual {
    match class {
        Class::RateLimited | Class::TokensLimited | Class::Concurrency => (
            429,
            "",
            "",
            "We had to rate limit you. To continue using our service, please log in or try again later.",
        ),
        Class::DailyQuota | Class::QuotaExhausted => (
            402,
            "",
            "",
            "You have exceeded your monthly included credits for Inference Providers. Subscribe to PRO to get 20x more monthly included credits.",
        ),
        Class::TokenExpired | Class::AuthInvalid => (401, "", "", "Invalid username or password."),
        Class::NotEntitled => (
            400,
            "invalid_request_error",
            "model_not_supported",
            "The requested model is not supported by any provider you have enabled.",
        ),
        Class::Overloaded => (503, "", "", "Model is currently loading"),
        Class::BadRequest => (422, "", "", "Input validation error"),
        Class::ContentFiltered => {
            (400, "invalid_request_error", "content_filter", "The content was filtered.")
        }
        Class::ContextTooLong => (
            400,
            "invalid_request_error",
            "context_length_exceeded",
            "This model's maximum context length is exceeded.",
        ),
        Class::ServerError => (500, "", "", "Internal Server Error"),
        Class::NoSuchPath => (404, "", "", "Not Found"),
    }
}

fn aihubmix(class: Class) -> Usual {
    const OWN: &str = "Aihubmix_api_error";
    match class {
        Class::RateLimited | Class::TokensLimited | Class::Concurrency => {
            (429, OWN, "", "Too many requests, please slow down.")
        }
        Class::DailyQuota => (403, OWN, "pre_consume_token_quota_failed", "token quota is not enough"),
        Class::QuotaExhausted => {
            (403, OWN, "insufficient_user_quota", "Your account balance is insufficient. Please top up.")
        }
        Class::TokenExpired | Class::AuthInvalid => (401, OWN, "", "Invalid token"),
        Class::NotEntitled => (
            400,
            OWN,
            "",
            "Incorrect model ID. Please request to view the model page or you do not have permission to use this model",
        ),
        Class::Overloaded => (503, OWN, "", "The service is overloaded, no available channel."),
        Class::BadRequest => (400, "upstream_error", "bad_response_status_code", "bad request"),
        Class::ContentFiltered => (400, "upstream_error", "content_filter", "The content was filtered."),
        Class::ContextTooLong => (
            400,
            "upstream_error",
            "context_length_exceeded",
            "This model's maximum context length is exceeded.",
        ),
        Class::ServerError => (500, "upstream_error", "", "internal error"),
        Class::NoSuchPath => (404, OWN, "", "Invalid URL."),
    }
}
