//! The list of models, as one caller may see it.

use serde_json::{Value, json};

use super::Gateway;
use super::route::Route;
use crate::fault::{Fault, Kind};
use crate::identity::Caller;

impl Gateway {
    /// `GET /v1/models`: every name that this caller may use and some account may serve.
    pub fn list_models(&self, caller: &Caller) -> Value {
        let world = self.world();
        let data: Vec<Value> = world
            .routes
            .models()
            .filter(|(name, _)| caller.may_use(name))
            .filter_map(|(name, route)| Some(self.model(name, self.owner(route, name, caller)?)))
            .collect();
        json!({"object": "list", "data": data})
    }

    /// `GET /v1/models/{id}`.
    ///
    /// # Errors
    /// Not found where the caller may not use it: whether it exists is not told.
    pub fn one_model(&self, caller: &Caller, id: &str) -> Result<Value, Fault> {
        let world = self.world();
        let not_found = || {
            let sentence = format!("The model '{}' does not exist here.", super::chat::printable(id));
            Fault::client(Kind::ModelNotFound, sentence).param("model")
        };
        if !caller.may_use(id) {
            return Err(not_found());
        }
        let route = world.routes.find(id).ok_or_else(not_found)?;
        self.owner(route, id, caller).map(|platform| self.model(id, platform)).ok_or_else(not_found)
    }

    /// The first platform of `route` on which this caller has an account for `model`.
    fn owner<'r>(&self, route: &'r Route, model: &str, caller: &Caller) -> Option<&'r str> {
        let targets = route.targets.iter().chain(&route.fallback);
        let mut names = targets.map(|target| (target.platform.name.clone(), target.model_for(model), target));
        let serving = names.find(|(name, model, _)| self.pool.serves(name, &caller.tenant, model));
        serving.map(|(_, _, target)| target.platform.name.as_str())
    }

    fn model(&self, id: &str, owner: &str) -> Value {
        json!({"id": id, "object": "model", "created": self.began_at, "owned_by": owner})
    }
}
