//! What an authorize request asks for. The order matters: until the client and its redirect URI are known to be right, nothing
//! is sent there, not even an error (RFC 6749, 4.1.2.1; RFC 9700, 4.11).

use super::app::AppRecord;
use super::redirect;
use super::scope::GrantScopes;
use crate::opaque;
use crate::secret::Secret;

/// Longest `state` that is carried, in bytes. Whoever is not signed in yet takes the whole request along, encoded twice: it has to
/// fit into a URL still.
const MAX_STATE: usize = 768;

/// Most parameters that are looked at.
const MAX_PARAMS: usize = 64;

/// The parameters of a request, of a query or a form. One that is empty counts as not there; one that stands there twice is
/// an error of whoever asks for it (RFC 6749, 3.1).
#[derive(Clone, Debug, Default)]
pub struct Params(Vec<(String, String)>);

/// A parameter that stands there twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twice;

impl Params {
    /// From `a=b&c=d`.
    pub fn read(text: &str) -> Self {
        let pairs = url::form_urlencoded::parse(text.as_bytes()).into_owned();
        Self(pairs.filter(|(_, value)| !value.is_empty()).take(MAX_PARAMS).collect())
    }

    /// The one of that name.
    ///
    /// # Errors
    /// There are two.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Twice> {
        let mut found = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match (found.next(), found.next()) {
            (one, None) => Ok(one),
            _ => Err(Twice),
        }
    }

    /// Whether any stands there twice. `resource` may (RFC 8707, 2).
    pub fn has_twins(&self) -> bool {
        let is_twin = |(at, (name, _)): (usize, &(String, String))| {
            name != "resource" && self.0.iter().skip(at + 1).any(|(other, _)| other == name)
        };
        self.0.iter().enumerate().any(is_twin)
    }

    /// All of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why there is no consent to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing is known of where to send anybody: a page for the person, with this sentence.
    Page(&'static str),
    /// Back to the app, with an error.
    Back(Back),
}

/// An error that is the app's to know, on a way that it registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Back {
    pub client_id: String,
    /// Where to, with the error.
    pub to: Secret,
    /// The same in words.
    pub goes_to: String,
    /// What is wrong, for whoever reads it.
    pub why: &'static str,
}

impl Back {
    /// What is wrong with a request of `client_id`, on the way to `uri`, which it registered.
    pub(super) fn new(
        client_id: &str,
        uri: &str,
        issuer: &str,
        state: Option<&str>,
        (error, why): (&'static str, &'static str),
    ) -> Self {
        Self {
            client_id: client_id.to_owned(),
            to: Secret::new(answer_error(uri, issuer, state, error, why)),
            goes_to: redirect::shown(uri),
            why,
        }
    }
}

/// An authorize request that is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub redirect_uri: String,
    pub state: Option<String>,
    pub scopes: GrantScopes,
    /// PKCE, S256.
    pub challenge: Option<String>,
    /// Whether the app asks not to bother somebody who has agreed before.
    pub auto: bool,
}

/// The client that a request names, before it is known whether there is one.
pub(super) fn client(params: &Params) -> Result<&str, Trouble> {
    match params.one("client_id") {
        Ok(Some(client_id)) => Ok(client_id),
        _ => Err(Trouble::Page("The link that brought you here names no app (client_id).")),
    }
}

/// What the request asks of a person for `app`. `issuer` is our name.
pub(super) fn read(params: &Params, app: &AppRecord, issuer: &str) -> Result<Request, Trouble> {
    let Ok(Some(redirect_uri)) = params.one("redirect_uri") else {
        return Err(Trouble::Page(
            "The link that brought you here does not say where to go back to (redirect_uri).",
        ));
    };
    if !redirect::is_registered(&app.redirect_uris, app.is_public, redirect_uri) {
        return Err(Trouble::Page(
            "The link that brought you here would send you to a place that the app did not register (redirect_uri).",
        ));
    }
    let state = params.one("state").ok().flatten();
    rest(params, app, issuer, redirect_uri, state)
        .map_err(|wrong| Trouble::Back(Back::new(&app.client_id, redirect_uri, issuer, state, wrong)))
}

fn rest(
    params: &Params,
    app: &AppRecord,
    issuer: &str,
    redirect_uri: &str,
    state: Option<&str>,
) -> Result<Request, (&'static str, &'static str)> {
    let invalid = |why| Err(("invalid_request", why));
    if params.has_twins() {
        return invalid("A parameter stands there twice.");
    }
    let one = |name| params.one(name).ok().flatten();
    if one("request").is_some() || one("request_uri").is_some() {
        return Err(("request_not_supported", "Requests in a JWT are not taken."));
    }
    match one("response_type") {
        Some("code") => {}
        None => return invalid("response_type is missing."),
        Some(_) => return Err(("unsupported_response_type", "The only response_type is code.")),
    }
    if one("response_mode").is_some_and(|mode| mode != "query") {
        return invalid("The only response_mode is query.");
    }
    if state.is_some_and(|state| state.len() > MAX_STATE) {
        return invalid("state is too long.");
    }
    let challenge = challenge(params, app.is_public)?;
    // One of the two tells the app that an answer is to its own question (RFC 9700, 2.1).
    if state.is_none() && challenge.is_none() {
        return invalid("state is missing, and so is PKCE.");
    }
    if params.all("resource").any(|resource| resource != issuer) {
        return Err(("invalid_target", "The only resource is this gateway."));
    }
    let scopes = match one("scope") {
        Some(text) => {
            GrantScopes::parse(text).ok_or(("invalid_scope", "The scopes are profile, balance and chat."))?
        }
        None => GrantScopes::LEAST,
    };
    Ok(Request {
        redirect_uri: redirect_uri.to_owned(),
        state: state.map(str::to_owned),
        scopes,
        challenge,
        auto: one("auto_authorize") == Some("true"),
    })
}

fn challenge(params: &Params, is_public: bool) -> Result<Option<String>, (&'static str, &'static str)> {
    let one = |name| params.one(name).ok().flatten();
    match (one("code_challenge"), one("code_challenge_method")) {
        (Some(challenge), Some("S256")) if opaque::is_opaque(challenge) => Ok(Some(challenge.to_owned())),
        (Some(_), Some("S256")) => Err(("invalid_request", "code_challenge is not the SHA-256 of anything.")),
        // Without a method the standard means `plain`.
        (Some(_), _) | (None, Some(_)) => {
            Err(("invalid_request", "PKCE is by code_challenge_method S256 and nothing else."))
        }
        (None, None) if is_public => {
            Err(("invalid_request", "A public app needs PKCE: code_challenge is missing."))
        }
        (None, None) => Ok(None),
    }
}

/// Where a person goes with an error.
pub(super) fn answer_error(uri: &str, issuer: &str, state: Option<&str>, error: &str, why: &str) -> String {
    let mut parameters = vec![("error", error), ("error_description", why), ("iss", issuer)];
    parameters.extend(state.map(|state| ("state", state)));
    redirect::with(uri, &parameters)
}

/// Where a person goes with a code.
pub(super) fn answer_code(uri: &str, issuer: &str, state: Option<&str>, code: &str) -> String {
    let mut parameters = vec![("code", code), ("iss", issuer)];
    parameters.extend(state.map(|state| ("state", state)));
    redirect::with(uri, &parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use url::Url;

    const ISSUER: &str = "https://weir.test";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn app(is_public: bool) -> AppRecord {
        AppRecord {
            client_id: "app_1".into(),
            name: "n".into(),
            description: String::new(),
            redirect_uris: vec!["https://app.example/cb".into()],
            is_public,
            owner: "t".into(),
            added_by: None,
            created: 0,
            updated: 0,
        }
    }

    fn good() -> Vec<(&'static str, String)> {
        [
            ("client_id", "app_1"),
            ("redirect_uri", "https://app.example/cb"),
            ("response_type", "code"),
            ("state", "s"),
            ("scope", "profile chat"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec()
    }

    fn ask(pairs: &[(&str, String)], is_public: bool) -> Result<Request, Trouble> {
        let text = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let params = Params::read(&text);
        client(&params)?;
        read(&params, &app(is_public), ISSUER)
    }

    /// The error that goes back, with state and issuer beside it.
    fn error(asked: Result<Request, Trouble>, state: Option<&str>) -> String {
        let Err(Trouble::Back(Back { to, .. })) = asked else { panic!("not sent back: {asked:?}") };
        let to = to.expose();
        let url = Url::parse(to).expect("a URL");
        assert!(to.starts_with("https://app.example/cb?"), "{to}");
        let find = |name: &str| {
            url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
        };
        assert_eq!(find("iss").as_deref(), Some(ISSUER));
        assert_eq!(find("state").as_deref(), state);
        assert_eq!(find("code"), None);
        find("error").expect("an error")
    }

    fn with(name: &'static str, value: &str) -> Vec<(&'static str, String)> {
        let mut pairs = good();
        pairs.retain(|(known, _)| *known != name);
        pairs.push((name, value.to_owned()));
        pairs
    }

    #[test]
    fn a_right_request_is_read() {
        let request = ask(&good(), true).expect("right");
        assert_eq!(request.challenge.as_deref(), Some(CHALLENGE));
        assert_eq!((request.scopes.to_string().as_str(), request.auto), ("profile chat", false));
        assert!(ask(&with("auto_authorize", "true"), true).expect("right").auto);
        assert!(!ask(&with("auto_authorize", "1"), true).expect("right").auto);
        assert_eq!(ask(&with("scope", ""), true).expect("right").scopes, GrantScopes::LEAST);
        for harmless in
            [("nonce", "n"), ("prompt", "login"), ("resource", ISSUER), ("response_mode", "query")]
        {
            assert!(ask(&with(harmless.0, harmless.1), true).is_ok(), "{harmless:?}");
        }
    }

    #[test]
    fn nothing_goes_anywhere_while_client_or_redirect_are_wrong() {
        for (name, value) in [
            ("client_id", ""),
            ("redirect_uri", ""),
            ("redirect_uri", "https://evil.example/"),
            ("redirect_uri", "https://app.example/cb/"),
        ] {
            assert!(matches!(ask(&with(name, value), true), Err(Trouble::Page(_))), "{name} {value}");
        }
        for name in ["client_id", "redirect_uri"] {
            let mut twice = good();
            twice.extend(good().into_iter().filter(|(known, _)| *known == name));
            assert!(matches!(ask(&twice, true), Err(Trouble::Page(_))), "two of {name}");
        }
    }

    #[test]
    fn what_else_is_wrong_goes_back_to_the_app() {
        for (name, value, expected) in [
            ("response_type", "", "invalid_request"),
            ("response_type", "token", "unsupported_response_type"),
            ("response_type", "code token", "unsupported_response_type"),
            ("response_type", "CODE", "unsupported_response_type"),
            ("response_mode", "fragment", "invalid_request"),
            ("response_mode", "form_post", "invalid_request"),
            ("request", "eyJ", "request_not_supported"),
            ("request_uri", "https://evil.example", "request_not_supported"),
            ("scope", "admin", "invalid_scope"),
            ("scope", "profile accounts", "invalid_scope"),
            ("code_challenge_method", "", "invalid_request"),
            ("code_challenge_method", "plain", "invalid_request"),
            ("code_challenge_method", "s256", "invalid_request"),
            ("code_challenge", "", "invalid_request"),
            ("code_challenge", "short", "invalid_request"),
            ("resource", "https://elsewhere.example", "invalid_target"),
        ] {
            for is_public in [true, false] {
                assert_eq!(error(ask(&with(name, value), is_public), Some("s")), expected, "{name}={value}");
            }
        }
        let long = "x".repeat(MAX_STATE + 1);
        assert_eq!(error(ask(&with("state", &long), true), Some(&long)), "invalid_request");
        for name in ["scope", "response_type", "code_challenge", "auto_authorize"] {
            let mut twice = with(name, "code");
            twice.push((name, "code".to_owned()));
            assert_eq!(error(ask(&twice, true), Some("s")), "invalid_request", "two of {name}");
        }
        let mut twice = good();
        twice.push(("state", "other".to_owned()));
        assert_eq!(error(ask(&twice, true), None), "invalid_request");
    }

    /// PKCE does what `state` was for (RFC 9700, 2.1); whoever has neither is open to forged answers.
    #[test]
    fn state_or_pkce_and_better_both() {
        for is_public in [true, false] {
            assert!(ask(&with("state", ""), is_public).is_ok());
        }
        let mut bare = with("state", "");
        bare.retain(|(name, _)| !name.starts_with("code_challenge"));
        assert_eq!(error(ask(&bare, false), None), "invalid_request");
    }

    /// Whoever is not signed in yet comes back to all of it: it has to fit into `redirect_after`, and that into a URL.
    #[test]
    fn the_longest_request_survives_a_sign_in() {
        let mut longest = with("state", &"+".repeat(MAX_STATE));
        let uri = format!("https://app.example/{}", "?".repeat(492));
        longest.retain(|(name, _)| *name != "redirect_uri");
        longest.extend([("redirect_uri", uri), ("auto_authorize", "true".to_owned())]);
        let form = |pairs: &[(&str, String)]| {
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
        };
        let back = format!("/api/oauth2/authorize?{}", form(&longest));
        let settings = crate::oauth::Settings {
            public_url: None,
            state_ttl: std::time::Duration::from_secs(600),
            return_to: Vec::new(),
            providers: Vec::new(),
        };
        assert!(settings.place(&back).is_some(), "{} bytes", back.len());
        let sign_in = format!("/auth/some-provider?{}", form(&[("redirect_after", back)]));
        // The longest that `http::service` takes.
        assert!(sign_in.len() <= 8 * 1024, "{} bytes", sign_in.len());
    }

    #[test]
    fn only_a_confidential_app_may_go_without_pkce() {
        let mut bare = good();
        bare.retain(|(name, _)| !name.starts_with("code_challenge"));
        assert_eq!(error(ask(&bare, true), Some("s")), "invalid_request");
        assert_eq!(ask(&bare, false).expect("taken").challenge, None);
    }
}
