//! The list of models, as one caller may see it.

use serde_json::{Value, json};

use super::Gateway;
use crate::fault::{Fault, Kind};
use crate::identity::Caller;

impl Gateway {
    /// `GET /v1/models`: every name that this caller may use and some account may serve.
    pub fn list_models(&self, caller: &Caller) -> Value {
        let world = self.world();
        let data: Vec<Value> = world
            .routes
            .models()
            .into_iter()
            .filter(|listed| caller.may_use(&listed.name))
            .filter(|listed| {
                listed.platforms.iter().any(|platform| self.pool.has_any(platform, &caller.tenant))
            })
            .map(|listed| self.model(&listed.name, listed.platforms.first().map_or("weir", |name| name.as_str())))
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
        let targets = route.targets.iter().chain(&route.fallback);
        let serving =
            targets.map(|target| &target.platform.name).find(|name| self.pool.has_any(name, &caller.tenant));
        serving.map(|platform| self.model(id, platform.as_str())).ok_or_else(not_found)
    }

    fn model(&self, id: &str, owner: &str) -> Value {
        json!({"id": id, "object": "model", "created": self.began_at, "owned_by": owner})
    }
}
