//! Whether an account works: one small question to its platform, past the pool. Why past it: what is asked about may rest,
//! be switched off or not be in the pool at all, and that is what somebody wants to know who asks.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use super::{Onboard, OnboardError};
use crate::api::ask::Ask;
use crate::gateway::attempt::{attempt, fault_of};
use crate::gateway::trip::{Aim, Trip, Trouble, Waited};
use crate::ids::TenantId;
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

impl Onboard {
    /// Asks the account's platform for a few words by `model`, or by the first model that it is known to serve. It costs
    /// what it costs there, and counts under no limit here.
    ///
    /// # Errors
    /// There is no such account, or no model to ask.
    pub async fn test(
        &self,
        tenant: Option<&TenantId>,
        id: &str,
        model: Option<&str>,
    ) -> Result<Trial, OnboardError> {
        let account = self.account(tenant, id).ok_or(OnboardError::NotFound)?;
        let (name, own) = model_of(&account, model)?;
        let body = json!({
            "model": format!("{}/{name}", account.platform.name),
            "messages": [{"role": "user", "content": "Say OK."}],
            "max_tokens": 16,
        });
        let invalid = |fault: crate::fault::Fault| OnboardError::Invalid(fault.public().to_owned());
        let ask = Ask::chat(Bytes::from(body.to_string())).map_err(invalid)?;
        let world = self.gateway.world();
        let route = world.routes.of_platform(&account.platform.name);
        let target = route.and_then(|route| Some((route, route.targets.first()?)));
        let (route, target) = target.ok_or(OnboardError::NotFound)?;
        let began = self.gateway.clock.now();
        let trip = Trip {
            gateway: &self.gateway,
            world: &world,
            ask: &ask,
            timeouts: route.timeouts,
            route,
            deadline: began + world.retry.deadline,
            waited: Waited::default(),
        };
        let tried = attempt(&trip, &Aim { target, account: Arc::new(account), model: own }).await;
        let took = self.gateway.clock.now().since(began);
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Ok(match tried {
            Ok(_) => {
                Trial { ok: true, model: name, verdict: None, message: "it answers".to_owned(), milliseconds }
            }
            Err(trouble) => {
                let verdict = match &trouble {
                    Trouble::Judged(judgement) => Some(format!("{:?}", judgement.verdict)),
                    Trouble::Unfit(_) | Trouble::Transport(..) => None,
                };
                let message = fault_of(trouble).public().to_owned();
                Trial { ok: false, model: name, verdict, message, milliseconds }
            }
        })
    }

    fn account(&self, tenant: Option<&TenantId>, id: &str) -> Option<Account> {
        let state = self.state.lock();
        let of_file = state.ground.accounts.iter().find(|account| account.id.as_str() == id).cloned();
        let found = of_file.or_else(|| {
            let held = state.held.get(id)?;
            held.account(&state.ground.platforms, &state.ground.oauth, LastUsed::default()).ok()
        });
        found.filter(|account| tenant.is_none() || account.owner.as_ref() == tenant)
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
