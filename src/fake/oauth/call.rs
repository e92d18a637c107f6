//! One request to a provider, read strictly: where its parameters are, that none comes twice, who the client says it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::refusals::Why;
use super::rows::{Auth, Carries, Endpoint, Row, Style};
use crate::fake::wire::Asked;

/// One request.
pub struct Call<'a> {
    pub row: &'static Row,
    pub endpoint: Endpoint,
    pub asked: &'a Asked,
    /// Path below `/idp/<name>`.
    pub path: &'a str,
    pub query: Vec<(String, String)>,
    /// Of a form or of a JSON object.
    pub body: Vec<(String, String)>,
    pub body_is: &'static str,
    pub now: u64,
}

/// Who the client says it is.
#[derive(Debug, Default)]
pub struct Presented {
    pub id: Option<String>,
    pub secret: Option<String>,
    pub basic: bool,
}

fn pairs(text: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

impl<'a> Call<'a> {
    pub fn new(row: &'static Row, endpoint: Endpoint, asked: &'a Asked, path: &'a str, now: u64) -> Self {
        let query = asked.target.split_once('?').map_or_else(Vec::new, |(_, query)| pairs(query.as_bytes()));
        let kind = asked.header("content-type").split(';').next().unwrap_or_default().trim();
        let (body_is, body) = match kind {
            "application/x-www-form-urlencoded" => ("form", pairs(&asked.body)),
            "application/json" => match serde_json::from_slice::<Map<String, Value>>(&asked.body) {
                Ok(members) => {
                    let text = |value: Value| match value {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    ("json", members.into_iter().map(|(name, value)| (name, text(value))).collect())
                }
                Err(_) => ("nothing", Vec::new()),
            },
            _ => ("nothing", Vec::new()),
        };
        Self { row, endpoint, asked, path, query, body, body_is, now }
    }

    /// The older of a provider's two sets of addresses.
    pub fn old(&self) -> bool {
        self.path.starts_with("/suite/") || self.path.starts_with("/oauth2/v1/")
    }

    /// The parameters of a token request, from where this provider looks for them.
    fn given(&self) -> Result<Vec<&(String, String)>, Why> {
        let carries = if self.old() { Carries::Form } else { self.row.carries };
        let asked_by_post = self.asked.method == http::Method::POST;
        match carries {
            Carries::Query => Ok(self.query.iter().collect()),
            Carries::Json if self.body_is != "json" => Err(Why::Parameter("body must be JSON".to_owned())),
            Carries::FormOrQuery if !asked_by_post || self.asked.body.is_empty() => {
                Ok(self.query.iter().collect())
            }
            Carries::Form | Carries::FormOrQuery if self.body_is != "form" => {
                Err(Why::Parameter("body must be a form".to_owned()))
            }
            Carries::FormOrQuery => Ok(self.query.iter().chain(&self.body).collect()),
            Carries::Form | Carries::Json => Ok(self.body.iter().collect()),
        }
    }

    /// A parameter of the token endpoint and its like; empty means absent, twice is refused.
    pub fn optional(&self, name: &str) -> Result<Option<&str>, Why> {
        let given = self.given()?;
        once(given.into_iter(), name)
    }

    pub fn needed(&self, name: &str) -> Result<&str, Why> {
        self.optional(name)?.ok_or_else(|| Why::Parameter(name.to_owned()))
    }

    /// A parameter of a page.
    pub fn page(&self, name: &str) -> Result<Option<&str>, Why> {
        once(self.query.iter(), name)
    }

    /// A field of a form that a page sent.
    pub fn field(&self, name: &str) -> &str {
        self.body.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub fn grant_type(&self) -> &str {
        self.optional("grant_type").ok().flatten().unwrap_or_default()
    }

    /// Client id and secret, wherever they are; more than one way is refused.
    pub fn presented(&self) -> Result<Presented, Why> {
        let (id, secret) = self.row.names;
        let id = self.optional(id)?.map(str::to_owned);
        let secret = self.optional(secret)?.map(str::to_owned);
        let header = self.asked.header("authorization");
        let Some(encoded) = header.strip_prefix("Basic ") else {
            return Ok(Presented { id, secret, basic: false });
        };
        if secret.is_some() {
            return Err(Why::Parameter("client authentication".to_owned()));
        }
        let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((user, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
            return Err(Why::Secret);
        };
        // Form-encoded first (RFC 6749, 2.3.1).
        let plain = |text: &str| pairs(format!("x={text}").as_bytes()).pop().map(|(_, value)| value);
        let user = plain(user).unwrap_or_default();
        if id.is_some_and(|id| id != user) {
            return Err(Why::Parameter("client_id".to_owned()));
        }
        Ok(Presented { id: Some(user), secret: plain(password), basic: true })
    }

    /// Whether the way in which the client proved itself is this provider's.
    pub fn way_is_right(&self, presented: &Presented) -> bool {
        match self.row.auth {
            Auth::Either => true,
            Auth::Basic => presented.basic,
            Auth::Parameters | Auth::Public => !presented.basic,
        }
    }

    /// The access token of a request to a resource.
    pub fn token(&self, bearer_too: bool) -> Option<&str> {
        let (bearer, query) = self.row.userinfo;
        let header = self.asked.bearer().filter(|_| bearer && bearer_too);
        // GitHub's older word for it.
        let token = || self.asked.header("authorization").strip_prefix("token ");
        let token = || token().filter(|_| self.row.style == Style::GitHub);
        let named =
            || self.query.iter().find(|(name, _)| name == "access_token").map(|(_, token)| token.as_str());
        header.or_else(token).or_else(|| named().filter(|_| query))
    }

    /// For `last` in the report.
    pub fn report(&self) -> Value {
        let members = |pairs: &[(String, String)]| -> Value {
            let mut told = Map::new();
            for (name, value) in pairs {
                let twice = told.insert(name.clone(), json!(value));
                if let Some(before) = twice {
                    told.insert(name.clone(), json!([before, value]));
                }
            }
            Value::Object(told)
        };
        let scheme = self.asked.header("authorization").split(' ').next().unwrap_or_default();
        json!({"method":self.asked.method.as_str(),"path":self.path,"query":members(&self.query),
            "body":members(&self.body),"body_is":self.body_is,"authorization":scheme,
            "accept":self.asked.header("accept"),"user_agent":self.asked.header("user-agent")})
    }
}

fn once<'p>(pairs: impl Iterator<Item = &'p (String, String)>, name: &str) -> Result<Option<&'p str>, Why> {
    let mut found = pairs.filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let first = found.next().filter(|value| !value.is_empty());
    if found.next().is_some() { Err(Why::Parameter(name.to_owned())) } else { Ok(first) }
}
