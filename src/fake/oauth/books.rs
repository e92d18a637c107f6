//! What one simulated provider knows: its clients, its people, what it handed out and what became of it. Why one lock: every
//! step of a flow must see all of it as of one moment, or "used once" would not be true.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::faults::Fault;
use super::people::{self, Person};
use super::rows::{Row, Turns};
use crate::ids::random_name;

/// A registered client.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Client {
    pub client_id: String,
    /// None: a public client.
    pub client_secret: Option<String>,
    pub redirect_uris: Vec<String>,
    /// Whether the device flow is switched on (GitHub).
    pub device: bool,
    /// Whether its tokens expire and come with refresh tokens (GitHub: a GitHub App, not an OAuth App).
    pub expiring: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            client_id: String::new(),
            client_secret: None,
            redirect_uris: Vec::new(),
            device: true,
            expiring: false,
        }
    }
}

/// What a test may set. Absent: as the real one does.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Sign in as this person and consent, without a page.
    pub auto: Option<String>,
    /// With `auto`: deny instead.
    pub auto_deny: bool,
    pub access_s: Option<u64>,
    pub refresh_s: Option<u64>,
    pub code_s: Option<u64>,
    pub device_s: Option<u64>,
    /// Seconds between polls of a device; 0: poll as you like.
    pub interval_s: Option<u64>,
    /// Polls that are pending although the person has answered.
    pub pending: u64,
    pub refresh: Option<Turns>,
    pub reuse_kills: Option<bool>,
    pub code_reuse_kills: Option<bool>,
    pub iss: Option<bool>,
    /// Scopes that the person leaves standing; absent: all that were asked for.
    pub grant_only: Option<Vec<String>>,
    /// `RS256` or `ES256`.
    pub alg: Option<String>,
    /// WeChat: whether there are union ids.
    pub unionid: Option<bool>,
    /// OSChina, Gitee: whether userinfo takes a bearer token.
    pub bearer: Option<bool>,
    /// Qwen: the platform's address for this account.
    pub resource_url: Option<String>,
    /// Qwen: its tokens open every model.
    pub any_model: bool,
    /// What its own addresses begin with, where that is not `http://<Host>`.
    pub origin: Option<String>,
}

/// What a client asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub client_id: String,
    pub redirect_uri: String,
    pub scopes: Vec<String>,
    pub state: Option<String>,
    pub nonce: Option<String>,
    /// Challenge and whether it is plain.
    pub challenge: Option<(String, bool)>,
    /// Google: `access_type=offline`, and whether consent was asked for again.
    pub offline: bool,
    pub prompted: bool,
}

/// A flow whose person has not answered yet.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub ask: Ask,
    pub person: Option<String>,
    /// The user code, in a device flow.
    pub device: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Code {
    pub ask: Ask,
    pub person: String,
    pub until_ms: u64,
    /// The family that came of it.
    pub used: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Device {
    pub ask: Ask,
    pub device_code: String,
    pub until_ms: u64,
    pub interval_s: u64,
    pub polled_ms: Option<u64>,
    pub pending: u64,
    /// Who allowed it; `Some(None)`: denied.
    pub answer: Option<Option<String>>,
    pub used: bool,
}

/// Everything that came of one consent.
#[derive(Clone, Debug)]
pub struct Family {
    pub client_id: String,
    pub person: String,
    pub scopes: Vec<String>,
    /// Why it is dead.
    pub killed: Option<&'static str>,
    pub refreshes: u64,
    /// Of a client alone: there is no person.
    pub machine: bool,
}

#[derive(Clone, Debug)]
pub struct Access {
    pub family: u64,
    pub until_ms: Option<u64>,
    pub revoked: bool,
}

#[derive(Clone, Debug)]
pub struct Refresh {
    pub family: u64,
    pub until_ms: Option<u64>,
    /// It is the one to be used next.
    pub current: bool,
    pub uses: u64,
}

/// What was handed out.
#[derive(Clone, Debug)]
pub struct Issued {
    pub family: u64,
    pub client_id: String,
    pub person: String,
    pub scopes: Vec<String>,
    pub nonce: Option<String>,
    pub access: String,
    pub expires_in: Option<u64>,
    pub refresh: Option<String>,
    pub refresh_in: Option<u64>,
    pub machine: bool,
}

/// How good a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    Expired,
    Revoked,
}

/// Counters: what tests look at.
#[derive(Default)]
pub struct Counts {
    pub endpoints: BTreeMap<&'static str, u64>,
    pub grants: BTreeMap<String, u64>,
    pub errors: BTreeMap<String, u64>,
    pub reuses: u64,
    pub last: BTreeMap<&'static str, Value>,
}

pub struct State {
    pub row: &'static Row,
    pub clients: BTreeMap<String, Client>,
    pub people: BTreeMap<String, Person>,
    pub settings: Settings,
    pub faults: Vec<Fault>,
    pub tickets: HashMap<String, Ticket>,
    pub codes: HashMap<String, Code>,
    /// By user code.
    pub devices: BTreeMap<String, Device>,
    pub families: BTreeMap<u64, Family>,
    pub access: BTreeMap<String, Access>,
    pub refresh: BTreeMap<String, Refresh>,
    /// Client and person that have consented before.
    pub consented: BTreeSet<(String, String)>,
    pub counts: Counts,
    next_family: u64,
}

impl State {
    pub fn new(row: &'static Row) -> Self {
        let client = default_client(row);
        Self {
            row,
            clients: BTreeMap::from([(client.client_id.clone(), client)]),
            people: people::made_up(),
            settings: Settings::default(),
            faults: Vec::new(),
            tickets: HashMap::new(),
            codes: HashMap::new(),
            devices: BTreeMap::new(),
            families: BTreeMap::new(),
            access: BTreeMap::new(),
            refresh: BTreeMap::new(),
            consented: BTreeSet::new(),
            counts: Counts::default(),
            next_family: 1,
        }
    }

    /// Forgets everything but the clients.
    pub fn reset(&mut self) {
        let clients = std::mem::take(&mut self.clients);
        *self = Self { clients, ..Self::new(self.row) };
    }

    /// Whether the client's tokens expire.
    fn expiring(&self, client_id: &str) -> bool {
        self.clients.get(client_id).is_some_and(|client| client.expiring)
    }

    /// How refresh tokens turn, for this client.
    pub fn turns(&self, client_id: &str) -> Turns {
        match (self.settings.refresh, self.expiring(client_id)) {
            (Some(set), _) => set,
            (None, true) => Turns::Rotate,
            (None, false) => self.row.refresh,
        }
    }

    /// Opens a family and hands out its first tokens.
    pub fn found(&mut self, ask: &Ask, person: &str, machine: bool, now: u64) -> Issued {
        let id = self.next_family;
        self.next_family += 1;
        let scopes = match &self.settings.grant_only {
            Some(only) => ask.scopes.iter().filter(|scope| only.contains(scope)).cloned().collect(),
            None => ask.scopes.clone(),
        };
        let consent = (ask.client_id.clone(), person.to_owned());
        let again = !self.consented.insert(consent) && !ask.prompted;
        let offline = match (self.row.style, self.row.offline) {
            (super::rows::Style::Google, _) => ask.offline && !again,
            (_, Some(scope)) => scopes.iter().any(|given: &String| given == scope),
            (_, None) => true,
        };
        let has_refresh = offline && !machine && self.turns(&ask.client_id) != Turns::Never;
        self.families.insert(
            id,
            Family {
                client_id: ask.client_id.clone(),
                person: person.to_owned(),
                scopes,
                killed: None,
                refreshes: 0,
                machine,
            },
        );
        let refresh = has_refresh.then(|| self.new_refresh(id, now));
        let mut issued = self.new_access(id, now);
        issued.refresh_in = refresh.as_ref().and_then(|_| self.refresh_life());
        issued.refresh = refresh;
        issued.nonce.clone_from(&ask.nonce);
        issued
    }

    /// A new access token of a family.
    pub fn new_access(&mut self, family: u64, now: u64) -> Issued {
        let (client_id, person, scopes, machine) = match self.families.get(&family) {
            Some(known) => {
                (known.client_id.clone(), known.person.clone(), known.scopes.clone(), known.machine)
            }
            None => (String::new(), String::new(), Vec::new(), false),
        };
        let mark = match (self.row.style, self.expiring(&client_id)) {
            (super::rows::Style::GitHub, true) => "ghu_",
            _ => self.row.marks.0,
        };
        let access = random_name(mark, 40);
        let life = match self.settings.access_s.unwrap_or(self.row.access_s) {
            0 if self.expiring(&client_id) => Some(28_800),
            0 => None,
            life => Some(life),
        };
        let until_ms = life.map(|life| now + life * 1000);
        self.access.insert(access.clone(), Access { family, until_ms, revoked: false });
        Issued {
            family,
            client_id,
            person,
            scopes,
            nonce: None,
            access,
            expires_in: life,
            refresh: None,
            refresh_in: None,
            machine,
        }
    }

    /// Life of a refresh token in seconds, where it ends.
    pub fn refresh_life(&self) -> Option<u64> {
        Some(self.settings.refresh_s.unwrap_or(self.row.refresh_s)).filter(|life| *life > 0)
    }

    /// A new refresh token of a family; the earlier ones are spent.
    pub fn new_refresh(&mut self, family: u64, now: u64) -> String {
        for other in self.refresh.values_mut().filter(|other| other.family == family) {
            other.current = false;
        }
        let token = random_name(self.row.marks.1, 40);
        let until_ms = self.refresh_life().map(|life| now + life * 1000);
        self.refresh.insert(token.clone(), Refresh { family, until_ms, current: true, uses: 0 });
        token
    }

    pub fn kill(&mut self, family: u64, why: &'static str) {
        if let Some(family) = self.families.get_mut(&family) {
            family.killed.get_or_insert(why);
        }
    }

    /// An access token's family and standing.
    pub fn standing(&self, access: &str, now: u64) -> Option<(u64, Standing)> {
        let known = self.access.get(access)?;
        let dead = self.families.get(&known.family).is_none_or(|family| family.killed.is_some());
        let standing = match known.until_ms {
            _ if known.revoked || dead => Standing::Revoked,
            Some(until) if until <= now => Standing::Expired,
            _ => Standing::Good,
        };
        Some((known.family, standing))
    }

    /// Everything that a test may want to know.
    pub fn report(&self) -> Value {
        let alive = self.families.values().filter(|family| family.killed.is_none()).count();
        let families = self.families.iter().map(|(id, family)| {
            json!({"id":id,"client_id":family.client_id,"person":family.person,"scopes":family.scopes,
                "alive":family.killed.is_none(),"killed":family.killed,"refreshes":family.refreshes})
        });
        let refresh: Map<String, Value> = self
            .refresh
            .iter()
            .map(|(token, known)| {
                (token.clone(), json!({"family":known.family,"uses":known.uses,"current":known.current}))
            })
            .collect();
        let access: Map<String, Value> = self
            .access
            .iter()
            .map(|(token, known)| (token.clone(), json!({"family":known.family,"until_ms":known.until_ms})))
            .collect();
        let faults: Vec<Value> =
            self.faults.iter().map(|fault| json!({"on":fault.on,"times":fault.times})).collect();
        json!({
            "endpoints": self.counts.endpoints, "grants": self.counts.grants, "errors": self.counts.errors,
            "refresh_reuses": self.counts.reuses,
            "families": {"alive": alive, "killed": self.families.len() - alive,
                "list": families.collect::<Vec<_>>()},
            "access_tokens": access, "refresh_tokens": refresh, "last": self.counts.last,
            "clients": self.clients.keys().collect::<Vec<_>>(), "people": self.people.keys().collect::<Vec<_>>(),
            "user_codes": self.devices.keys().collect::<Vec<_>>(), "faults": faults,
        })
    }
}

/// The client that is there without being registered, with the callbacks of a gateway on its usual port.
fn default_client(row: &Row) -> Client {
    let hosts = ["127.0.0.1", "localhost"];
    let paths = [
        "/api/v1/oauth/callback".to_owned(),
        format!("/auth/{}/callback", row.name),
        "/huggingface-callback".to_owned(),
        "/huggingface-callback/html".to_owned(),
    ];
    let uris =
        hosts.iter().flat_map(|host| paths.iter().map(move |path| format!("http://{host}:8080{path}")));
    let secret = (row.auth != super::rows::Auth::Public).then(|| format!("secret-{}", row.name));
    Client {
        client_id: format!("weir-{}", row.name),
        client_secret: secret,
        redirect_uris: uris.collect(),
        ..Client::default()
    }
}
