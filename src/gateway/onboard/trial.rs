//! Whether an account works: one small question to its platform, past the pool. Why past it: what is asked about may rest,
//! be switched off or not be in the pool at all, and that is what somebody wants to know who asks.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use super::{Onboard, OnboardError};
use crate::api::ask::Ask;
use crate::gateway::attempt::{attempt, fault_of, traded_anew};
use crate::gateway::reach::Reach;
use crate::gateway::route::{Route, Target};
use crate::gateway::trip::{Aim, Trip, Trouble, Waited};
use crate::gateway::{Gateway, World};
use crate::platform::auth::TokenScope;
use crate::pool::settings::{Account, LastUsed};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trial {
    pub ok: bool,
    /// Which model was asked.
    pub model: String,
    /// What the platform's refusal means, where there was one.
    pub verdict: Option<String>,
    /// The same for people.
    pub message: String,
    pub milliseconds: u64,
}

/// One question to an account's own platform.
struct Errand {
    account: Arc<Account>,
    /// The model's name here, and the account's own for it.
    name: String,
    own: String,
    ask: Ask,
    world: Arc<World>,
}

impl Errand {
    fn way(&self) -> Result<(&Route, &Target), OnboardError> {
        let route = self.world.routes.of_platform(&self.account.platform.name);
        route.and_then(|route| Some((route, route.targets.first()?))).ok_or(OnboardError::NotFound)
    }

    fn trip<'a>(&'a self, gateway: &'a Arc<Gateway>, route: &'a Route) -> Trip<'a> {
        Trip {
            gateway,
            world: &self.world,
            ask: &self.ask,
            timeouts: route.timeouts,
            route,
            deadline: gateway.clock.now() + self.world.retry.deadline,
            waited: Waited::default(),
        }
    }

    fn aim<'a>(&self, target: &'a Target) -> Aim<'a> {
        Aim { target, account: Arc::clone(&self.account), model: self.own.clone() }
    }
}

impl Onboard {
    /// Asks the account's platform for a few words by `model`, or by the first model that it is known to serve. It costs
    /// what it costs there, and counts under no limit here.
    ///
    /// # Errors
    /// There is no such account, or no model to ask.
    pub async fn test(&self, reach: &Reach, id: &str, model: Option<&str>) -> Result<Trial, OnboardError> {
        let errand = self.errand(reach, id, model)?;
        let (route, target) = errand.way()?;
        let began = self.gateway.clock.now();
        let tried = attempt(&errand.trip(&self.gateway, route), &errand.aim(target)).await;
        let took = self.gateway.clock.now().since(began);
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let model = errand.name;
        Ok(match tried {
            Ok(_) => Trial { ok: true, model, verdict: None, message: "it answers".to_owned(), milliseconds },
            Err(trouble) => {
                let verdict = match &trouble {
                    Trouble::Judged(judgement) => Some(format!("{:?}", judgement.verdict)),
                    Trouble::Unfit(_) | Trouble::Transport(..) => None,
                };
                let message = fault_of(trouble).public().to_owned();
                Trial { ok: false, model, verdict, message, milliseconds }
            }
        })
    }

    /// Trades an account's credential for a new token, where its platform wants that: whether it gave one. `None`: it wants the
    /// credential itself.
    ///
    /// # Errors
    /// There is no such account.
    pub async fn trade_anew(&self, reach: &Reach, id: &str) -> Result<Option<bool>, OnboardError> {
        let account = self.account(reach, id).ok_or(OnboardError::NotFound)?;
        if account.platform.scheme.token_scope(&account.credential) != Some(TokenScope::Account) {
            return Ok(None);
        }
        // Which model does not matter to such a token.
        let errand = self.errand(reach, id, Some("any"))?;
        let (route, target) = errand.way()?;
        Ok(Some(traded_anew(&errand.trip(&self.gateway, route), &errand.aim(target)).await.is_ok()))
    }

    fn errand(&self, reach: &Reach, id: &str, model: Option<&str>) -> Result<Errand, OnboardError> {
        let account = self.account(reach, id).ok_or(OnboardError::NotFound)?;
        let (name, own) = model_of(&account, model)?;
        let body = json!({
            "model": format!("{}/{name}", account.platform.name),
            "messages": [{"role": "user", "content": "Say OK."}],
            "max_tokens": 16,
        });
        let invalid = |fault: crate::fault::Fault| OnboardError::Invalid(fault.public().to_owned());
        let ask = Ask::chat(Bytes::from(body.to_string())).map_err(invalid)?;
        Ok(Errand { account: Arc::new(account), name, own, ask, world: self.gateway.world() })
    }

    fn account(&self, reach: &Reach, id: &str) -> Option<Account> {
        let state = self.state.lock();
        let of_file = state.ground.accounts.iter().find(|account| account.id.as_str() == id);
        if let Some(account) = of_file {
            return reach.has(account.owner.as_ref(), None).then(|| account.clone());
        }
        let held = state.held.get(id).filter(|held| held.is_within(reach))?;
        held.account(&state.ground.platforms, &state.ground.oauth, LastUsed::default()).ok()
    }
}

/// The model's name here, and the account's own for it.
fn model_of(account: &Account, wanted: Option<&str>) -> Result<(String, String), OnboardError> {
    let known = account.models.first().cloned();
    let first = || account.platform.models.first().map(|model| (model.clone(), model.clone()));
    match wanted {
        Some(model) => {
            let listed = account.models.iter().find(|(name, _)| name == model).cloned();
            Ok(listed.unwrap_or_else(|| (model.to_owned(), model.to_owned())))
        }
        None => known
            .or_else(first)
            .ok_or_else(|| OnboardError::Invalid("No model of this account is known: name one.".to_owned())),
    }
}
