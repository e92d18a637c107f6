//! A provider as a row of data. A new one is a YAML row: `config/providers/<name>.yaml` for those built in, the `oauth:` section of
//! a platform's row for accounts, `oauth.providers` in the operator's own file. No conditions in rows: what needs an `if`
//! is a [`Quirk`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::secret::Secret;
use crate::web_url::{has_user, is_safe};

/// A provider as written. Everything may be left out; [`Provider::compile`] says what is missing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Row {
    pub title: Option<String>,
    /// Where the facts are from, and of when.
    pub source: Option<String>,
    pub date: Option<String>,
    /// An OpenID Connect issuer: where endpoints are not given, its discovery document has them; ID tokens must be its.
    pub issuer: Option<String>,
    pub authorize_url: Option<String>,
    pub token_url: Option<String>,
    /// Where refresh tokens are traded, if not where codes are.
    pub refresh_url: Option<String>,
    pub device_url: Option<String>,
    pub revoke_url: Option<String>,
    pub userinfo_url: Option<String>,
    /// Where a person's e-mail addresses are, if userinfo has none.
    pub emails_url: Option<String>,
    pub jwks_url: Option<String>,
    /// Asked for.
    pub scopes: Option<Vec<String>>,
    /// Between scopes in what is asked; answers are read with spaces and commas alike.
    pub scope_separator: Option<Separator>,
    /// Further parameters of the authorize URL.
    pub authorize: Option<BTreeMap<String, String>>,
    /// What the authorize URL must end with.
    pub authorize_suffix: Option<String>,
    /// Our parameters by other names, on the way out: `client_id: appid`.
    pub names: Option<BTreeMap<String, String>>,
    /// Parameters that this provider does not want to see, on the way to its token endpoint.
    pub omit: Option<Vec<String>>,
    pub token_request: Option<Encoding>,
    pub client_auth: Option<ClientAuth>,
    pub headers: Option<BTreeMap<String, String>>,
    /// Whether codes are bound by PKCE (S256).
    pub pkce: Option<bool>,
    /// Whether a callback must carry `iss` (RFC 9207).
    pub says_issuer: Option<bool>,
    /// Members of an answer that must be 0 or absent for it to be a success.
    pub zero: Option<Vec<String>>,
    /// The member that a successful answer is wrapped in.
    pub envelope: Option<String>,
    /// The provider's members by the standard's names, on the way in: `accessToken: access_token`.
    pub members: Option<BTreeMap<String, String>>,
    /// The provider's error codes by the standard's names: `40029: invalid_grant`.
    pub errors: Option<BTreeMap<String, String>>,
    /// How long tokens live where the answer does not say; `never`: until they are revoked.
    pub default_lifetime: Option<Lifetime>,
    /// Members of the token's answer that are kept beside the tokens.
    pub carry: Option<Vec<String>>,
    pub userinfo_auth: Option<UserinfoAuth>,
    /// Further parameters of userinfo; a value `$name` is what was carried by that name.
    pub userinfo_query: Option<BTreeMap<String, String>>,
    pub person: Option<PersonRow>,
    pub quirks: Option<Vec<Quirk>>,
    /// The public client of a device flow, where the provider has one for everybody.
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    /// Hosts that a `resource_url` in a token's answer may name; `*.` in front: any host below.
    pub resource_hosts: Option<Vec<String>>,
    /// Whether accounts' codes are traded here (the default), or only reported to whoever comes back.
    pub exchange: Option<bool>,
    /// Whether accounts come back to a callback of this provider's own, `…/api/v1/oauth/callback/<name>`: where several providers
    /// do not say who they are (`iss`), one cannot pass its people off as another's (RFC 9700, 4.4.2).
    pub own_callback: Option<bool>,
    /// What tokens of this provider are good for at a platform.
    pub account: Option<AccountRow>,
}

/// How accounts of a platform are added through this provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountRow {
    pub platform: String,
    /// Asked for instead of `scopes`.
    pub scopes: Vec<String>,
    /// Of these at least one must be granted, or the token is of no use there.
    pub needs: Vec<String>,
    pub flows: Vec<Flow>,
    /// The token says who it is and does not open the platform: its key must be given beside it.
    pub needs_key: bool,
    /// Sent with every request of such an account.
    pub headers: BTreeMap<String, String>,
    /// All that such an account serves; empty: whatever the platform does.
    pub models: Vec<String>,
}

/// A way to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// A browser, and back.
    #[serde(alias = "oauth")]
    Code,
    /// A code that is typed in elsewhere.
    #[serde(alias = "device_code")]
    Device,
}

/// Where in userinfo a person's data stand: paths with dots, the first that is there counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PersonRow {
    /// What never changes and never comes again. Each is a list of paths, all of which must be there; `$name` is what was
    /// carried or the client's id (`$client_id`).
    pub subject: Vec<Vec<String>>,
    pub name: Vec<String>,
    pub email: Vec<String>,
    /// A member that must be true for the address to count as verified; without one it never does.
    pub email_verified: Vec<String>,
    pub picture: Vec<String>,
    /// Members that must be as given, or the person may not come in (`active: true`).
    pub must: BTreeMap<String, serde_json::Value>,
}

impl PersonRow {
    /// As OpenID Connect's claims have it, where the provider is an issuer of such.
    fn standard(is_issuer: bool) -> Self {
        if !is_issuer {
            return Self::default();
        }
        let one = |name: &str| vec![name.to_owned()];
        Self {
            subject: vec![one("sub")],
            name: vec!["name".to_owned(), "preferred_username".to_owned()],
            email: one("email"),
            email_verified: one("email_verified"),
            picture: one("picture"),
            must: BTreeMap::new(),
        }
    }
}

/// What an issuer of OpenID Connect is asked for where its row does not say.
fn standard_scopes(is_issuer: bool) -> Vec<String> {
    let scopes: &[&str] = if is_issuer { &["openid", "profile", "email"] } else { &[] };
    scopes.iter().map(|&scope| scope.to_owned()).collect()
}

/// Between scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Separator {
    #[default]
    Space,
    Comma,
}

/// How the token endpoint wants to be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    #[default]
    Form,
    Json,
    /// GET, everything in the query.
    Query,
}

/// How we prove which client we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// Id and secret among the parameters.
    #[default]
    Body,
    /// HTTP Basic, form-encoded first (RFC 6749, 2.3.1).
    Basic,
    /// A public client: its id among the parameters and nothing else.
    None,
}

/// How userinfo wants to see the access token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserinfoAuth {
    #[default]
    Bearer,
    /// `?access_token=…`
    Query,
}

/// What needs code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quirk {
    /// Revocation is GitHub's: `DELETE`, Basic, the token as JSON.
    GithubRevoke,
    /// A refresh carries no client secret.
    RefreshWithoutSecret,
    /// The device flow is bound by PKCE, too.
    DevicePkce,
    /// A success may carry an error, nothing or a page of HTML: to be tried again, and no reason to drop a token.
    UnsteadyRefresh,
    /// Its ID tokens may name the issuer without `https://`.
    BareIssuer,
}

/// The life of a token that does not say how long it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    Never,
    /// Seconds.
    #[serde(untagged)]
    Seconds(u64),
}

/// Who we are to a provider.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    /// `None`: a public client.
    pub secret: Option<Secret>,
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {why}")]
pub struct RowError {
    pub field: &'static str,
    pub why: String,
}

/// A provider, ready to be asked.
#[derive(Clone, Debug)]
pub struct Provider {
    pub name: String,
    pub title: String,
    pub issuer: Option<String>,
    pub authorize_url: Option<Url>,
    pub token_url: Option<Url>,
    pub refresh_url: Option<Url>,
    pub device_url: Option<Url>,
    pub revoke_url: Option<Url>,
    pub userinfo_url: Option<Url>,
    pub emails_url: Option<Url>,
    pub jwks_url: Option<Url>,
    pub scopes: Vec<String>,
    pub scope_separator: Separator,
    pub authorize: BTreeMap<String, String>,
    pub authorize_suffix: String,
    pub names: BTreeMap<String, String>,
    pub omit: Vec<String>,
    pub token_request: Encoding,
    pub client_auth: ClientAuth,
    /// Whether its row says so, or it may follow what its issuer says.
    pub client_auth_is_given: bool,
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    pub pkce: bool,
    pub says_issuer: bool,
    /// What ID tokens are signed with, as the issuer says; empty: it does not say.
    pub algorithms: Vec<String>,
    pub zero: Vec<String>,
    pub envelope: Option<String>,
    pub members: BTreeMap<String, String>,
    pub errors: BTreeMap<String, String>,
    pub default_lifetime: Option<Duration>,
    pub carry: Vec<String>,
    pub userinfo_auth: UserinfoAuth,
    pub userinfo_query: BTreeMap<String, String>,
    pub person: PersonRow,
    pub quirks: Vec<Quirk>,
    pub client: Option<Client>,
    pub resource_hosts: Vec<String>,
    pub exchange: bool,
    pub own_callback: bool,
    pub account: Option<AccountRow>,
}

/// Where an answer does not say how long a token lives: rather asked too early than too late.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

macro_rules! merged {
    ($own:ident, $other:ident, $($field:ident),*) => {
        Row { $($field: $other.$field.or($own.$field),)* }
    };
}

impl Row {
    /// This row with what `other` says instead.
    #[must_use]
    pub fn merge(self, other: Row) -> Row {
        let own = self;
        merged!(
            own,
            other,
            title,
            source,
            date,
            issuer,
            authorize_url,
            token_url,
            refresh_url,
            device_url,
            revoke_url,
            userinfo_url,
            emails_url,
            jwks_url,
            scopes,
            scope_separator,
            authorize,
            authorize_suffix,
            names,
            omit,
            token_request,
            client_auth,
            headers,
            pkce,
            says_issuer,
            zero,
            envelope,
            members,
            errors,
            default_lifetime,
            carry,
            userinfo_auth,
            userinfo_query,
            person,
            quirks,
            client_id,
            client_secret,
            resource_hosts,
            exchange,
            own_callback,
            account
        )
    }
}

impl Provider {
    /// Checks a row.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn compile(name: &str, row: Row) -> Result<Self, RowError> {
        let is_standard = row.issuer.is_some();
        let client = row.client_id.filter(|id| !id.is_empty());
        let client = client.map(|id| Client { id, secret: row.client_secret });
        let provider = Self {
            title: row.title.unwrap_or_else(|| name.to_owned()),
            name: name.to_owned(),
            issuer: row.issuer.map(|issuer| issuer_of(&issuer)).transpose()?,
            authorize_url: endpoint("authorize_url", row.authorize_url)?,
            token_url: endpoint("token_url", row.token_url)?,
            refresh_url: endpoint("refresh_url", row.refresh_url)?,
            device_url: endpoint("device_url", row.device_url)?,
            revoke_url: endpoint("revoke_url", row.revoke_url)?,
            userinfo_url: endpoint("userinfo_url", row.userinfo_url)?,
            emails_url: endpoint("emails_url", row.emails_url)?,
            jwks_url: endpoint("jwks_url", row.jwks_url)?,
            scopes: row.scopes.unwrap_or_else(|| standard_scopes(is_standard)),
            scope_separator: row.scope_separator.unwrap_or_default(),
            authorize: row.authorize.unwrap_or_default(),
            authorize_suffix: row.authorize_suffix.unwrap_or_default(),
            names: row.names.unwrap_or_default(),
            omit: row.omit.unwrap_or_default(),
            token_request: row.token_request.unwrap_or_default(),
            client_auth_is_given: row.client_auth.is_some(),
            client_auth: row.client_auth.unwrap_or_default(),
            headers: headers(row.headers.unwrap_or_default())?,
            pkce: row.pkce.unwrap_or(true),
            says_issuer: row.says_issuer.unwrap_or(false),
            algorithms: Vec::new(),
            zero: row.zero.unwrap_or_default(),
            envelope: row.envelope,
            members: row.members.unwrap_or_default(),
            errors: row.errors.unwrap_or_default(),
            default_lifetime: match row.default_lifetime {
                None => Some(DEFAULT_LIFETIME),
                Some(Lifetime::Never) => None,
                Some(Lifetime::Seconds(seconds)) => Some(Duration::from_secs(seconds.max(60))),
            },
            carry: row.carry.unwrap_or_default(),
            userinfo_auth: row.userinfo_auth.unwrap_or_default(),
            userinfo_query: row.userinfo_query.unwrap_or_default(),
            person: row.person.unwrap_or_else(|| PersonRow::standard(is_standard)),
            quirks: row.quirks.unwrap_or_default(),
            client,
            resource_hosts: row.resource_hosts.unwrap_or_default(),
            exchange: row.exchange.unwrap_or(true),
            own_callback: row.own_callback.unwrap_or(false),
            account: row.account,
        };
        if let Some(account) = &provider.account {
            headers(account.headers.clone())?;
        }
        if provider.issuer.is_none() && provider.token_url.is_none() {
            return Err(RowError {
                field: "token_url",
                why: "is missing, and there is no `issuer` to ask for it".into(),
            });
        }
        Ok(provider)
    }

    /// The same, asking for what an account needs.
    #[must_use]
    pub fn for_accounts(&self) -> Self {
        let mut provider = self.clone();
        if let Some(account) = self.account.as_ref().filter(|account| !account.scopes.is_empty()) {
            provider.scopes.clone_from(&account.scopes);
        }
        provider
    }

    /// Whether an answer that names this issuer, or none, may be this provider's (RFC 9207, 2.4).
    pub fn may_be(&self, said: Option<&str>) -> bool {
        match (said, &self.issuer) {
            (Some(said), Some(issuer)) => said == issuer,
            (None, _) => !self.says_issuer,
            (Some(_), None) => true,
        }
    }

    /// Whether accounts' owners come back from it to the callback that all providers share, and nothing says that it was this one.
    pub fn is_silent_at_the_common_callback(&self) -> bool {
        let account = self.account.as_ref().filter(|account| account.flows.contains(&Flow::Code));
        // Hugging Face has a callback of its own, whatever its row says.
        let is_there = account.is_some_and(|account| account.platform != "huggingface");
        is_there && self.client.is_some() && !self.own_callback && !self.says_issuer
    }

    /// Whether it is asked for ID tokens: an issuer of OpenID Connect, and the scope for it.
    pub fn gives_id_tokens(&self) -> bool {
        self.issuer.is_some() && self.scopes.iter().any(|scope| scope == "openid")
    }

    /// Whether people can sign in with it.
    pub fn knows_people(&self) -> bool {
        !self.person.subject.is_empty()
    }

    /// Whether it has this quirk.
    pub fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }
}

fn is_fit(url: &Url) -> bool {
    is_safe(url) && !has_user(url) && url.fragment().is_none()
}

pub(super) fn endpoint(field: &'static str, given: Option<String>) -> Result<Option<Url>, RowError> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(None) };
    let url = Url::parse(&given).ok().filter(is_fit);
    let why = "is an https URL without user, password and fragment (http on this machine only)";
    url.map(Some).ok_or_else(|| RowError { field, why: why.to_owned() })
}

/// Compared character for character, so it is kept as it was written.
fn issuer_of(given: &str) -> Result<String, RowError> {
    let is_good = Url::parse(given).is_ok_and(|url| is_fit(&url) && url.query().is_none());
    let why = "is an https URL without query and fragment (http on this machine only)";
    if is_good { Ok(given.to_owned()) } else { Err(RowError { field: "issuer", why: why.to_owned() }) }
}

fn headers(given: BTreeMap<String, String>) -> Result<Vec<(http::HeaderName, http::HeaderValue)>, RowError> {
    let each = given.into_iter().map(|(name, value)| {
        let wrong = |_| RowError { field: "headers", why: format!("has a wrong header `{name}`") };
        Ok((
            http::HeaderName::try_from(name.as_str()).map_err(|error| wrong(error.to_string()))?,
            http::HeaderValue::try_from(value).map_err(|error| wrong(error.to_string()))?,
        ))
    });
    each.collect()
}
