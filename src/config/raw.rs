//! The file as typed: one struct per section, every setting optional. Nothing is judged here; [`resolve`](super::resolve)
//! does that. `config/weir.yaml` documents every key, and a test holds it to these structs.

use serde::Deserialize;

use super::field::{Field, Named, Names, OneOrMore};
use super::quantity::{Length, Size};
use crate::browser;
use crate::dialect::Unsupported;
use crate::gateway::settings::{Heartbeat, ModelField, OnBudget};
use crate::limits::Limits;
use crate::oauth;
use crate::platform::profile::Row;
use crate::pool::settings::{OnOutage, Strategy};
use crate::secret::Secret;

macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: Field<$type>,)*
        })*
    };
}

sections! {
    /// The whole file.
    Raw {
        listen: String,
        tls: Tls,
        admin_listen: String,
        admin: Admin,
        /// A URL may hold a password.
        store: Secret,
        vault: Vault,
        auth: Auth,
        callers: Callers,
        platforms: Named<Row>,
        accounts: Vec<Field<Account>>,
        routes: Vec<Field<Route>>,
        retry: Retry,
        timeouts: Timeouts,
        limits: Sizes,
        heartbeat: Heartbeat,
        model_field: ModelField,
        on_budget: OnBudget,
        prices: Named<Price>,
        pool: Pool,
        oauth: OAuth,
        sign_in: SignIn,
        provider: Provider,
        drain: Drain,
        workers: usize,
        log: Log,
    }
    Admin {
        metrics: super::Openness,
    }
    Tls {
        cert: String,
        key: String,
    }
    Vault {
        keys: Vec<Field<VaultKey>>,
    }
    VaultKey {
        id: String,
        key: Secret,
    }
    Auth {
        jwt: Vec<Field<Jwt>>,
        keys: bool,
    }
    Jwt {
        issuer: String,
        audience: OneOrMore,
        jwks_url: String,
        jwks_file: String,
        secret: Secret,
        public_key: String,
        algorithms: Vec<Field<String>>,
        claims: Claims,
        leeway: Length,
    }
    Claims {
        tenant: String,
        models: String,
        scope: String,
    }
    Callers {
        default: Limits,
        tenants: Named<Limits>,
    }
    Account {
        id: String,
        platform: String,
        api_key: Secret,
        access_key: Secret,
        secret_key: Secret,
        app_id: String,
        api_secret: Secret,
        base_url: String,
        headers: Named<String>,
        models: Names,
        tenants: Vec<Field<String>>,
        owner: String,
        limits: Limits,
        model_limits: Named<Limits>,
        weight: u32,
        priority: u32,
        enabled: bool,
    }
    Route {
        model: String,
        targets: Vec<Field<Target>>,
        fallback: Vec<Field<Target>>,
        strategy: Strategy,
        unsupported: Unsupported,
        on_budget: OnBudget,
        timeouts: RouteTimeouts,
    }
    Target {
        platform: String,
        model: String,
        weight: u32,
    }
    RouteTimeouts {
        first_token: Length,
        idle: Length,
        total: Length,
    }
    Retry {
        attempts: u32,
        budget: f64,
        deadline: Length,
    }
    Timeouts {
        connect: Length,
        response_header: Length,
        first_token: Length,
        idle: Length,
        total: Length,
        heartbeat: Length,
        request_header: Length,
        client_idle: Length,
    }
    Sizes {
        body: Size,
        header: Size,
        inflight_body_bytes: Size,
        answer: Size,
        event: Size,
    }
    Price {
        input: f64,
        output: f64,
        cached_input: f64,
        reasoning: f64,
    }
    Pool {
        lease_ttl: Length,
        on_outage: OnOutage,
    }
    OAuth {
        public_url: String,
        state_ttl: Length,
        return_to: Vec<Field<String>>,
        providers: Named<oauth::Row>,
        browser: Browser,
    }
    Browser {
        program: String,
        window: browser::settings::Window,
        sandbox: bool,
        time_limit: Length,
        at_once: usize,
        sites: Named<browser::Row>,
    }
    SignIn {
        providers: Vec<Field<String>>,
        admit: Vec<Field<String>>,
        tenant: String,
        scopes: Vec<Field<String>>,
        models: Vec<Field<String>>,
        session_ttl: Length,
        token_ttl: Length,
        starts_per_minute: u64,
    }
    Provider {
        enabled: bool,
        topup_url: String,
        access_ttl: Length,
        refresh_ttl: Length,
    }
    Drain {
        delay: Length,
        timeout: Length,
    }
    Log {
        level: String,
        format: super::LogFormat,
    }
}
