//! The simulated providers as rows. Why data: their facts are easier to check against the vendors' pages in a table than in
//! code, and a vendor's paths are kept as they are, below the provider's own prefix, so that a test changes only the host.

/// What an endpoint is for. Its name is what counters, faults and `last` call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    Authorize,
    Token,
    /// Only where refreshing has an address of its own (WeChat).
    Refresh,
    UserInfo,
    Emails,
    Device,
    DevicePage,
    Revoke,
    /// GitHub's own way to revoke.
    AppTokens,
    Jwks,
    Discovery,
    Introspect,
    /// WeChat's `sns/auth`.
    Check,
    TopUp,
    Apps,
    WhoAmI,
    /// The way back to the client; only for faults.
    Redirect,
}

impl Endpoint {
    const NAMES: [(Endpoint, &'static str); 17] = [
        (Endpoint::Authorize, "authorize"),
        (Endpoint::Token, "token"),
        (Endpoint::Refresh, "refresh"),
        (Endpoint::UserInfo, "userinfo"),
        (Endpoint::Emails, "emails"),
        (Endpoint::Device, "device"),
        (Endpoint::DevicePage, "device_page"),
        (Endpoint::Revoke, "revoke"),
        (Endpoint::AppTokens, "app_tokens"),
        (Endpoint::Jwks, "jwks"),
        (Endpoint::Discovery, "discovery"),
        (Endpoint::Introspect, "introspect"),
        (Endpoint::Check, "check"),
        (Endpoint::TopUp, "topup"),
        (Endpoint::Apps, "apps"),
        (Endpoint::WhoAmI, "whoami"),
        (Endpoint::Redirect, "redirect"),
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(known, _)| *known == self).map_or("", |(_, name)| name)
    }

    pub fn named(name: &str) -> Option<Endpoint> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(endpoint, _)| *endpoint)
    }
}

/// Whose words a provider speaks: replies, errors and people are shaped by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    GitHub,
    Google,
    Gitee,
    OsChina,
    LinuxDo,
    Feishu,
    WeChat,
    HuggingFace,
    Oidc,
    Qwen,
    AiHubMix,
}

/// Where a token request carries its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    Form,
    FormOrQuery,
    Json,
    /// GET.
    Query,
}

/// How a client says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    Parameters,
    Basic,
    Either,
    /// No secret anywhere.
    Public,
}

/// What of RFC 7636 there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pkce {
    None,
    S256,
    S256OrPlain,
}

/// Which redirect URIs pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    Exact,
    /// The registered one or below it (GitHub); of loopback addresses with any port.
    Below,
    /// Exact, but of loopback hosts with any port (Hugging Face).
    ExactAnyLoopbackPort,
}

/// What comes of a refresh token when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Turns {
    /// A new one comes, the old one is spent.
    Rotate,
    /// The same one comes back.
    Same,
    /// None comes back; the old one holds on.
    Omit,
    /// There are none.
    Never,
}

/// One provider.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub style: Style,
    /// Method, path below `/idp/<name>`, purpose. A path that ends in `*` stands for all that begin so.
    pub routes: &'static [(&'static str, &'static str, Endpoint)],
    pub carries: Carries,
    pub auth: Auth,
    /// What the client's id and secret are called.
    pub names: (&'static str, &'static str),
    pub pkce: Pkce,
    pub redirects: Redirects,
    /// Scopes that exist; none are looked at when empty.
    pub scopes: &'static [&'static str],
    pub comma_scopes: bool,
    /// The scope that a refresh token needs.
    pub offline: Option<&'static str>,
    pub refresh: Turns,
    /// A refresh token that is used twice kills its family.
    pub reuse_kills: bool,
    /// A code that is used twice kills what came from it.
    pub code_reuse_kills: bool,
    /// Life of an access token in seconds; 0: for ever.
    pub access_s: u64,
    /// Life of a refresh token in seconds; 0: for ever.
    pub refresh_s: u64,
    pub code_s: u64,
    /// What tokens begin with.
    pub marks: (&'static str, &'static str),
    pub state_needed: bool,
    /// Whether the way back names the issuer (RFC 9207).
    pub iss: bool,
    pub id_tokens: bool,
    /// Whether userinfo takes `Authorization: Bearer`, and whether it takes the token in the query.
    pub userinfo: (bool, bool),
    /// The simulated platform that takes these tokens, and the scopes of which it wants one; it takes none when empty.
    pub platform: Option<(&'static str, &'static [&'static str])>,
}

const MONTH: u64 = 30 * 86_400;

const BASE: Row = Row {
    name: "",
    style: Style::Oidc,
    routes: &[],
    carries: Carries::Form,
    auth: Auth::Parameters,
    names: ("client_id", "client_secret"),
    pkce: Pkce::None,
    redirects: Redirects::Exact,
    scopes: &[],
    comma_scopes: false,
    offline: None,
    refresh: Turns::Rotate,
    reuse_kills: false,
    code_reuse_kills: false,
    access_s: 3600,
    refresh_s: MONTH,
    code_s: 600,
    marks: ("at-", "rt-"),
    state_needed: false,
    iss: false,
    id_tokens: false,
    userinfo: (true, false),
    platform: None,
};

const WECHAT: Row = Row {
    style: Style::WeChat,
    carries: Carries::Query,
    names: ("appid", "secret"),
    comma_scopes: true,
    refresh: Turns::Same,
    access_s: 7200,
    code_s: 300,
    marks: ("76_", "76_r"),
    userinfo: (false, true),
    ..BASE
};

/// All of them.
pub static ROWS: [Row; 12] = [
    Row {
        name: "github",
        style: Style::GitHub,
        routes: &[
            ("GET", "/login/oauth/authorize", Endpoint::Authorize),
            ("POST", "/login/oauth/access_token", Endpoint::Token),
            ("POST", "/login/device/code", Endpoint::Device),
            ("GET", "/login/device", Endpoint::DevicePage),
            ("GET", "/user", Endpoint::UserInfo),
            ("GET", "/user/emails", Endpoint::Emails),
            ("DELETE", "/applications/*", Endpoint::AppTokens),
        ],
        pkce: Pkce::S256,
        redirects: Redirects::Below,
        scopes: &["user", "read:user", "user:email", "repo", "public_repo", "read:org", "gist"],
        comma_scopes: true,
        refresh: Turns::Never,
        access_s: 0,
        refresh_s: 15_897_600,
        marks: ("gho_", "ghr_"),
        ..BASE
    },
    Row {
        name: "google",
        style: Style::Google,
        routes: &[
            ("GET", "/.well-known/openid-configuration", Endpoint::Discovery),
            ("GET", "/o/oauth2/v2/auth", Endpoint::Authorize),
            ("POST", "/token", Endpoint::Token),
            ("POST", "/revoke", Endpoint::Revoke),
            ("POST", "/o/oauth2/revoke", Endpoint::Revoke),
            ("GET", "/o/oauth2/revoke", Endpoint::Revoke),
            ("GET", "/v1/userinfo", Endpoint::UserInfo),
            ("GET", "/oauth2/v1/userinfo", Endpoint::UserInfo),
            ("POST", "/device/code", Endpoint::Device),
            ("GET", "/device", Endpoint::DevicePage),
            ("GET", "/oauth2/v3/certs", Endpoint::Jwks),
        ],
        auth: Auth::Either,
        pkce: Pkce::S256OrPlain,
        scopes: &[
            "openid",
            "email",
            "profile",
            "https://www.googleapis.com/auth/cloud-platform",
            "https://www.googleapis.com/auth/generative-language.retriever",
            "https://www.googleapis.com/auth/generative-language.tuning",
        ],
        refresh: Turns::Omit,
        access_s: 3599,
        refresh_s: 0,
        marks: ("ya29.a0fake", "1//0fake"),
        id_tokens: true,
        platform: Some((
            "gemini",
            &[
                "https://www.googleapis.com/auth/cloud-platform",
                "https://www.googleapis.com/auth/generative-language.retriever",
            ],
        )),
        ..BASE
    },
    Row {
        name: "gitee",
        style: Style::Gitee,
        routes: &[
            ("GET", "/oauth/authorize", Endpoint::Authorize),
            ("POST", "/oauth/token", Endpoint::Token),
            ("GET", "/api/v5/user", Endpoint::UserInfo),
            ("GET", "/api/v5/emails", Endpoint::Emails),
        ],
        carries: Carries::FormOrQuery,
        scopes: &["user_info", "emails", "projects", "groups"],
        access_s: 86_400,
        marks: ("", ""),
        userinfo: (true, true),
        ..BASE
    },
    Row {
        name: "oschina",
        style: Style::OsChina,
        routes: &[
            ("GET", "/action/oauth2/authorize", Endpoint::Authorize),
            ("POST", "/action/openapi/token", Endpoint::Token),
            ("GET", "/action/openapi/token", Endpoint::Token),
            ("GET", "/action/openapi/user", Endpoint::UserInfo),
        ],
        carries: Carries::FormOrQuery,
        access_s: 604_799,
        marks: ("", ""),
        userinfo: (true, true),
        ..BASE
    },
    Row {
        name: "linuxdo",
        style: Style::LinuxDo,
        routes: &[
            ("GET", "/oauth2/authorize", Endpoint::Authorize),
            ("POST", "/oauth2/token", Endpoint::Token),
            ("GET", "/api/user", Endpoint::UserInfo),
        ],
        auth: Auth::Basic,
        marks: ("", ""),
        ..BASE
    },
    Row {
        name: "feishu",
        style: Style::Feishu,
        routes: &[
            ("GET", "/open-apis/authen/v1/authorize", Endpoint::Authorize),
            ("POST", "/oauth/v3/token", Endpoint::Token),
            ("POST", "/open-apis/authen/v2/oauth/token", Endpoint::Token),
            ("GET", "/open-apis/authen/v1/user_info", Endpoint::UserInfo),
            ("GET", "/suite/passport/oauth/authorize", Endpoint::Authorize),
            ("POST", "/suite/passport/oauth/token", Endpoint::Token),
            ("GET", "/suite/passport/oauth/userinfo", Endpoint::UserInfo),
        ],
        carries: Carries::Json,
        pkce: Pkce::S256OrPlain,
        offline: Some("offline_access"),
        access_s: 7200,
        refresh_s: 604_800,
        code_s: 300,
        marks: ("eyJ", "eyJr"),
        ..BASE
    },
    Row {
        name: "wechat-open",
        routes: &[
            ("GET", "/connect/qrconnect", Endpoint::Authorize),
            ("GET", "/sns/oauth2/access_token", Endpoint::Token),
            ("GET", "/sns/oauth2/refresh_token", Endpoint::Refresh),
            ("GET", "/sns/userinfo", Endpoint::UserInfo),
            ("GET", "/sns/auth", Endpoint::Check),
        ],
        scopes: &["snsapi_login"],
        code_s: 600,
        ..WECHAT
    },
    Row {
        name: "wechat-mp",
        routes: &[
            ("GET", "/connect/oauth2/authorize", Endpoint::Authorize),
            ("GET", "/sns/oauth2/access_token", Endpoint::Token),
            ("GET", "/sns/oauth2/refresh_token", Endpoint::Refresh),
            ("GET", "/sns/userinfo", Endpoint::UserInfo),
            ("GET", "/sns/auth", Endpoint::Check),
        ],
        scopes: &["snsapi_userinfo", "snsapi_base"],
        ..WECHAT
    },
    Row {
        name: "huggingface",
        style: Style::HuggingFace,
        routes: &[
            ("GET", "/.well-known/openid-configuration", Endpoint::Discovery),
            ("GET", "/.well-known/oauth-authorization-server", Endpoint::Discovery),
            ("GET", "/oauth/authorize", Endpoint::Authorize),
            ("POST", "/oauth/token", Endpoint::Token),
            ("GET", "/oauth/userinfo", Endpoint::UserInfo),
            ("POST", "/oauth/device", Endpoint::Device),
            ("GET", "/oauth/device", Endpoint::DevicePage),
            ("GET", "/oauth/jwks", Endpoint::Jwks),
            ("GET", "/api/whoami-v2", Endpoint::WhoAmI),
        ],
        auth: Auth::Either,
        pkce: Pkce::S256,
        redirects: Redirects::ExactAnyLoopbackPort,
        scopes: &[
            "openid",
            "profile",
            "email",
            "read-billing",
            "read-memberships",
            "read-repos",
            "write-repos",
            "manage-repos",
            "inference-api",
            "jobs",
        ],
        access_s: 28_800,
        marks: ("hf_oauth_", "hf_r_"),
        id_tokens: true,
        platform: Some(("huggingface", &["inference-api"])),
        ..BASE
    },
    Row {
        name: "oidc",
        style: Style::Oidc,
        routes: &[
            ("GET", "/.well-known/openid-configuration", Endpoint::Discovery),
            ("GET", "/.well-known/oauth-authorization-server", Endpoint::Discovery),
            ("GET", "/authorize", Endpoint::Authorize),
            ("POST", "/token", Endpoint::Token),
            ("GET", "/userinfo", Endpoint::UserInfo),
            ("POST", "/userinfo", Endpoint::UserInfo),
            ("POST", "/device", Endpoint::Device),
            ("GET", "/device", Endpoint::DevicePage),
            ("POST", "/revoke", Endpoint::Revoke),
            ("POST", "/introspect", Endpoint::Introspect),
            ("GET", "/jwks", Endpoint::Jwks),
        ],
        auth: Auth::Either,
        pkce: Pkce::S256,
        scopes: &["openid", "profile", "email", "offline_access"],
        offline: Some("offline_access"),
        reuse_kills: true,
        code_reuse_kills: true,
        iss: true,
        id_tokens: true,
        ..BASE
    },
    Row {
        name: "qwen",
        style: Style::Qwen,
        routes: &[
            ("POST", "/api/v1/oauth2/device/code", Endpoint::Device),
            ("POST", "/api/v1/oauth2/token", Endpoint::Token),
            ("GET", "/authorize", Endpoint::DevicePage),
        ],
        auth: Auth::Public,
        pkce: Pkce::S256,
        scopes: &["openid", "profile", "email", "model.completion"],
        access_s: 21_600,
        marks: ("qw_at_", "qw_rt_"),
        platform: Some(("qwen", &["model.completion"])),
        ..BASE
    },
    Row {
        name: "aihubmix",
        style: Style::AiHubMix,
        routes: &[
            ("POST", "/api/oauth_apps", Endpoint::Apps),
            ("GET", "/api/oauth2/authorize", Endpoint::Authorize),
            ("POST", "/api/oauth2/token", Endpoint::Token),
            ("GET", "/api/oauth2/userinfo", Endpoint::UserInfo),
            ("GET", "/api/oauth2/topup", Endpoint::TopUp),
        ],
        scopes: &["profile", "balance"],
        access_s: 7200,
        marks: ("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.", "refresh_"),
        state_needed: true,
        platform: Some(("aihubmix", &[])),
        ..BASE
    },
];

impl Row {
    /// What lies at a path below the prefix. The flag: the method is right.
    pub fn at(&self, method: &str, path: &str) -> Option<(Endpoint, bool)> {
        let fits = |known: &str| match known.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => known == path,
        };
        let mut found = self.routes.iter().filter(|(_, known, _)| fits(known));
        let (_, _, first) = *found.clone().next()?;
        let right = found.find(|(wanted, _, _)| *wanted == method);
        Some(right.map_or((first, false), |(_, _, endpoint)| (*endpoint, true)))
    }

    /// The path of an endpoint, below the prefix.
    pub fn path_of(&self, endpoint: Endpoint) -> Option<&'static str> {
        self.routes.iter().find(|(_, _, known)| *known == endpoint).map(|(_, path, _)| *path)
    }
}
