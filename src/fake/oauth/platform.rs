//! Access tokens as credentials at the simulated platforms. Why: onboarding is only done when the token that came of it answers
//! a chat, and a refresh only when an expired one is told so in the platform's own words.

use serde_json::{Value, json};

use super::Providers;
use super::books::Standing;
use crate::fake::wire::Native;

/// Who holds a token, as far as a platform cares.
#[derive(Debug, PartialEq, Eq)]
pub enum Held {
    /// Good, under this name in the counters and in the script: `huggingface:ann`.
    Good(String),
    /// Expired, revoked, or forgotten.
    Dead(String),
    /// Not for this platform at all (AiHubMix: its tokens open no chat).
    Foreign(String),
    /// It lacks the scope; the person's name.
    Narrow(String, String),
}

impl Providers {
    /// Whose this token is, where it looks like one that was handed out here.
    pub fn held(&self, platform: &str, token: &str, now: u64) -> Option<Held> {
        let fits = |desk: &&super::Desk| desk.row.platform.is_some_and(|(name, _)| name == platform);
        let desk = self.0.iter().find(fits)?;
        let (_, wanted) = desk.row.platform?;
        let state = desk.state.lock();
        let Some((family, standing)) = state.standing(token, now) else {
            let ours = token.starts_with(desk.row.marks.0);
            return ours.then(|| Held::Dead(format!("{}:nobody", desk.row.name)));
        };
        let family = state.families.get(&family)?;
        let name = format!("{}:{}", desk.row.name, family.person);
        let username =
            || state.people.get(&family.person).map_or_else(String::new, |one| one.username.clone());
        Some(match standing {
            _ if wanted.is_empty() => Held::Foreign(name),
            Standing::Expired | Standing::Revoked => Held::Dead(name),
            Standing::Good if !family.scopes.iter().any(|scope| wanted.contains(&scope.as_str())) => {
                Held::Narrow(name, username())
            }
            Standing::Good => Held::Good(name),
        })
    }

    /// Whether tests let OAuth accounts of this platform use any model.
    fn any_model(&self, name: &str) -> bool {
        self.desk(name).is_some_and(|desk| desk.state.lock().settings.any_model)
    }
}

/// Whether an OAuth account may use the model: Qwen's may use one.
pub fn entitled(providers: &Providers, key: &str, model: &str) -> bool {
    !key.starts_with("qwen:") || model == "coder-model" || providers.any_model("qwen")
}

/// What a platform says to a token without its scope.
pub fn narrow(platform: &str, username: &str) -> Native {
    if platform == "huggingface" {
        let words = format!(
            "This authentication method does not have sufficient permissions to call Inference Providers on behalf of user {username}"
        );
        return Native::json(403, &json!({ "error": words }));
    }
    if platform == "gemini" {
        let details: Value = json!([{"@type":"type.googleapis.com/google.rpc.ErrorInfo",
            "reason":"ACCESS_TOKEN_SCOPE_INSUFFICIENT","domain":"googleapis.com",
            "metadata":{"service":"generativelanguage.googleapis.com"}}]);
        return Native::json(
            403,
            &json!({"error":{"code":403,"message":"Request had insufficient authentication scopes.",
                "status":"PERMISSION_DENIED","details":details}}),
        );
    }
    Native::json(
        403,
        &json!({"error":{"message":"Access denied.","type":"access_denied","param":null,"code":"access_denied"}}),
    )
}
