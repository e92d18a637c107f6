//! One attempt: one account, one platform, one exchange, judged before anything reaches the caller. Why apart from the
//! choice of accounts: what is tried here knows nothing of what comes next, so that a refusal, whoever gives it and
//! however late, can still move on.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};

use super::Gateway;
use super::aside::{LARGE_BODY, aside};
use super::reading::{MAX_EXPLANATION, read_all, read_answer};
use super::tokens::Holder;
use super::trip::{Aim, Trip, Trouble, Victory, Won, broken};
use crate::api::ask::{Ask, Task};
use crate::dialect::{Dialect, Encoded, Unsupported};
use crate::fault::{Fault, Kind};
use crate::platform::auth::{Credential, Outgoing, Token, TokenRefused, TokenScope};
use crate::platform::judge::{Judgement, NEVER, Scope, Verdict};
use crate::platform::profile::{BaseScheme, Platform};
use crate::pool::TransportFailure;
use crate::pool::settings::Account;
use crate::upstream::{self, Patience, SendError};

/// Tries once.
///
/// # Errors
/// [`Trouble`]; the caller of this function settles and decides where to go next.
pub async fn attempt(trip: &Trip<'_>, aim: &Aim<'_>) -> Result<Victory, Trouble> {
    let is_chat = trip.ask.task == Task::Chat;
    let stream = is_chat && (trip.ask.stream || aim.platform().must_stream(trip.ask, &aim.model));
    let encoded = encode(trip, aim, stream).await?;
    let mut stale = None;
    let mut credential = aim.account.credential.clone();
    let mut is_renewed = false;
    loop {
        let token = token(trip, aim, stale.as_ref()).await?;
        let tried = exchange(trip, aim, &encoded, (&credential, token.as_deref()), stream).await;
        match tried {
            // A token of a consent: one renewal, one more try with the same account.
            Err(Trouble::Judged(judgement))
                if is_about_the_token(judgement.verdict) && token.is_none() && !is_renewed =>
            {
                is_renewed = true;
                match newer(trip, aim, &credential).await {
                    Some(newer) => credential = newer,
                    None => return Err(refused(judgement)),
                }
            }
            Err(Trouble::Judged(judgement))
                if is_about_the_token(judgement.verdict) && token.is_some() && stale.is_none() =>
            {
                stale = token;
            }
            Err(Trouble::Judged(judgement)) if token.is_none() => {
                if is_renewed
                    && is_about_the_token(judgement.verdict)
                    && let Some(renew) = trip.gateway.renew.get()
                {
                    renew.was_futile(&aim.account.id);
                }
                return Err(refused(judgement));
            }
            Err(trouble) => return Err(trouble),
            Ok(won) => return Ok(Victory { won, dropped: encoded.dropped }),
        }
    }
}

/// What a renewal of an account's credential brings, where it can be renewed.
async fn newer(trip: &Trip<'_>, aim: &Aim<'_>, stale: &Credential) -> Option<Credential> {
    trip.gateway.renew.get()?.newer(&aim.account.id, stale).await
}

/// A credential that cannot be renewed is not expired but refused.
fn refused(judgement: Judgement) -> Trouble {
    let verdict = match judgement.verdict {
        Verdict::TokenExpired => Verdict::AuthInvalid,
        other => other,
    };
    Trouble::Judged(Judgement { verdict, ..judgement })
}

fn is_about_the_token(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::TokenExpired | Verdict::AuthInvalid)
}

async fn encode(trip: &Trip<'_>, aim: &Aim<'_>, stream: bool) -> Result<Encoded, Trouble> {
    let unsupported = trip.route.unsupported;
    if trip.ask.body().len() <= LARGE_BODY {
        return encode_here(trip.gateway, trip.ask, &aim.account, &aim.model, stream, unsupported)
            .map_err(Trouble::Unfit);
    }
    let (gateway, ask) = (Arc::clone(trip.gateway), trip.ask.clone());
    let (account, model) = (Arc::clone(&aim.account), aim.model.clone());
    let encoded = aside(move || encode_here(&gateway, &ask, &account, &model, stream, unsupported)).await;
    encoded.and_then(|encoded| encoded).map_err(Trouble::Unfit)
}

fn encode_here(
    gateway: &Gateway,
    ask: &Ask,
    account: &Account,
    model: &str,
    stream: bool,
    unsupported: Unsupported,
) -> Result<Encoded, Fault> {
    match ask.task {
        Task::Chat => account.platform.encode_chat(ask, model, stream, unsupported, &gateway.recall),
        Task::Embeddings => account.platform.encode_embeddings(ask, model, unsupported),
    }
}

async fn token(
    trip: &Trip<'_>,
    aim: &Aim<'_>,
    stale: Option<&Arc<Token>>,
) -> Result<Option<Arc<Token>>, Trouble> {
    let gateway = trip.gateway;
    let scheme = &aim.platform().scheme;
    let Some(scope) = scheme.token_scope(&aim.account.credential) else { return Ok(None) };
    let Some(request) = scheme.exchange_for(&aim.account.credential, &aim.model, &gateway.clock) else {
        return Err(broken("no token can be asked for"));
    };
    let model = (scope == TokenScope::Model).then_some(aim.model.as_str());
    let exchange = || async {
        let origin =
            upstream::Origin::of_url(request.url.expose()).ok_or_else(|| broken("a bad token URL"))?;
        let wire = upstream::Request {
            origin: &origin.0,
            method: request.method.clone(),
            path: &origin.1,
            headers: request.headers.clone(),
            body: request.body.clone(),
        };
        let answer = gateway.upstream.send(wire, patience(trip)).await.map_err(|error| trouble_of(&error))?;
        let status = answer.status.as_u16();
        let mut source = answer.body;
        let body = read_all(trip, &mut source, MAX_EXPLANATION).await?;
        scheme.read_token(status, &body, &gateway.clock).map_err(no_token)
    };
    let holder = Holder { account: &aim.account.id, model, credential: &aim.account.credential };
    match gateway.tokens.token(holder, stale, exchange).await {
        Ok(token) => Ok(Some(token)),
        Err(Some(trouble)) => Err(trouble),
        Err(None) => Err(broken("the token exchange failed a moment ago")),
    }
}

/// Trades the account's credential for a token once more, though the one at hand may be good.
///
/// # Errors
/// [`Trouble`], as for an attempt.
pub async fn traded_anew(trip: &Trip<'_>, aim: &Aim<'_>) -> Result<(), Trouble> {
    let known = token(trip, aim, None).await?;
    token(trip, aim, known.as_ref()).await.map(drop)
}

fn no_token(refused: TokenRefused) -> Trouble {
    tracing::info!(%refused, "a token exchange was refused");
    Trouble::Judged(Judgement {
        verdict: refused.verdict,
        scope: Scope::Account,
        retry_after: None,
        message: String::new(),
        code: None,
        param: None,
        status: 401,
    })
}

fn patience(trip: &Trip<'_>) -> Patience {
    let left = trip.deadline.since(trip.gateway.clock.now());
    Patience {
        connect: trip.timeouts.connect.min(left),
        response_header: trip.timeouts.response_header.min(left),
    }
}

async fn exchange(
    trip: &Trip<'_>,
    aim: &Aim<'_>,
    encoded: &Encoded,
    (credential, token): (&Credential, Option<&Token>),
    stream: bool,
) -> Result<Won, Trouble> {
    let gateway = trip.gateway;
    let platform = aim.platform();
    let mut path = format!("{}{}", platform.base.path, encoded.path);
    let mut headers = platform.headers(encoded);
    headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    let mut body = encoded.body.clone();
    let origin = origin_of(platform);
    let authority = origin.authority();
    let mut outgoing = Outgoing {
        method: "POST",
        path: &mut path,
        host: &authority,
        headers: &mut headers,
        body: &mut body,
    };
    platform.scheme.apply(credential, token, &mut outgoing, &gateway.clock).map_err(Trouble::Unfit)?;
    let request = upstream::Request { origin: &origin, method: Method::POST, path: &path, headers, body };
    let asked_at = gateway.clock.now();
    let answered = if platform.dialect == Dialect::Spark {
        gateway.upstream.converse(request, patience(trip)).await
    } else {
        gateway.upstream.send(request, patience(trip)).await
    };
    trip.waited.add(gateway.clock.now().since(asked_at));
    let answer = answered.map_err(|error| trouble_of(&error))?;
    read_answer(trip, aim, answer, stream).await
}

const USER_AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));

fn origin_of(platform: &Platform) -> upstream::Origin {
    let is_tls = matches!(platform.base.scheme, BaseScheme::Https | BaseScheme::Wss);
    upstream::Origin::new(is_tls, &platform.base.host, platform.base.port)
}

fn trouble_of(error: &SendError) -> Trouble {
    let failure = match error {
        SendError::Connect(_) | SendError::ConnectTimeout => TransportFailure::Connect,
        SendError::HeaderTimeout => TransportFailure::Timeout,
        SendError::Request(_) => TransportFailure::NotTaken,
        SendError::Broken(_) => TransportFailure::Cut,
    };
    Trouble::Transport(failure, error.to_string())
}

/// What the caller is told where no further attempt follows.
pub fn fault_of(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Unfit(fault) => fault,
        Trouble::Transport(TransportFailure::Timeout, why) => {
            Fault::upstream(Kind::UpstreamTimeout, "The platform did not answer in time.").source(why)
        }
        Trouble::Transport(_, why) => Fault::upstream(
            Kind::UpstreamError,
            "The platform could not be reached or gave no usable answer.",
        )
        .source(why),
        Trouble::Judged(judgement) => fault_of_judgement(judgement),
    }
}

fn fault_of_judgement(judgement: Judgement) -> Fault {
    let code = judgement.openai_code();
    let Judgement { verdict, retry_after, message, param, status, .. } = judgement;
    let blame = |kind: Kind| {
        let sentence =
            if message.is_empty() { "The platform refused the request.".to_owned() } else { message.clone() };
        let fault = Fault::upstream(kind, sentence);
        let fault = match &param {
            Some(param) => fault.param(param.clone()),
            None => fault,
        };
        match code {
            Some(code) if kind == Kind::BadRequest => fault.code(code),
            _ => fault,
        }
    };
    match verdict {
        Verdict::Ok | Verdict::Overloaded => {
            Fault::upstream(Kind::UpstreamError, "The platform is overloaded or failed. Try again shortly.")
        }
        Verdict::RateLimited | Verdict::QuotaExhausted => {
            let sentence = "All accounts for this model are at their platform's limit.";
            let fault = Fault::upstream(Kind::RateLimited, sentence);
            match retry_after {
                Some(NEVER) => fault.no_retry(),
                wait => fault.retry_after(wait.unwrap_or(Duration::from_secs(1))),
            }
        }
        Verdict::TokenExpired | Verdict::AuthInvalid => {
            Fault::upstream(Kind::UpstreamAuth, "The platform did not accept the gateway's credential.")
        }
        Verdict::NotEntitled => {
            Fault::upstream(Kind::ModelNotFound, "The model is not available on the platform behind it.")
                .param("model")
        }
        Verdict::BadRequest if status == 404 => blame(Kind::ModelNotFound),
        Verdict::BadRequest if status == 413 => blame(Kind::TooLarge),
        Verdict::BadRequest => blame(Kind::BadRequest),
        Verdict::ContentFiltered => blame(Kind::ContentFiltered),
        Verdict::ContextTooLong => blame(Kind::ContextTooLong),
    }
}
