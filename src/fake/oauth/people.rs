//! Made-up people, and what each provider tells of them. Why a few with names: a test signs in as `cy` to meet a person
//! without an e-mail address, as `bob` to meet an id that a float cannot hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::books::Issued;
use super::rows::Style;

/// One of them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Person {
    pub username: String,
    pub name: String,
    pub email: Option<String>,
    pub email_verified: bool,
    /// GitHub: shown in `/user`, not only in `/user/emails`.
    pub email_public: bool,
    pub id: u64,
    /// Blocked, silenced, suspended.
    pub active: bool,
    pub trust_level: u8,
    pub pro: bool,
}

impl Default for Person {
    fn default() -> Self {
        Self {
            username: String::new(),
            name: String::new(),
            email: None,
            email_verified: true,
            email_public: false,
            id: 1,
            active: true,
            trust_level: 2,
            pro: false,
        }
    }
}

/// `ann`; `bob`, whose id is 2^53 + 1; `cy`, who has no e-mail address; `dot`, who is blocked and unverified.
pub fn made_up() -> BTreeMap<String, Person> {
    let person = |username: &str, name: &str, id: u64| {
        let email = Some(format!("{username}@example.com"));
        Person { username: username.to_owned(), name: name.to_owned(), id, email, ..Person::default() }
    };
    let ann = person("ann", "Ann Lee", 583_231);
    let bob = Person { pro: true, ..person("bob", "Bob <b>&\"O'Neil\"", 9_007_199_254_740_993) };
    let cy = Person { email: None, ..person("cy", "陈 Cy", 124) };
    let dot = Person { active: false, email_verified: false, trust_level: 0, ..person("dot", "Dot", 31_337) };
    [ann, bob, cy, dot].into_iter().map(|person| (person.username.clone(), person)).collect()
}

/// Hex digits that stand for `of`.
fn digest(of: &str, length: usize) -> String {
    let bytes = Sha256::digest(of.as_bytes());
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(length);
    text
}

impl Person {
    /// The subject at OpenID Connect providers.
    pub fn sub(&self, style: Style) -> String {
        match style {
            Style::Google => format!("1{:020}", self.id),
            Style::HuggingFace => digest(&format!("hf {}", self.id), 24),
            _ => format!("sub-{}", self.id),
        }
    }

    /// WeChat's, for one application.
    pub fn openid(&self, client_id: &str) -> String {
        format!("o{}", digest(&format!("{client_id} {}", self.id), 27))
    }

    /// For all applications of one owner.
    pub fn unionid(&self) -> String {
        format!("u{}", digest(&format!("union {}", self.id), 27))
    }

    fn picture(&self) -> String {
        format!("https://pictures.example/{}.png", self.id)
    }

    /// Claims of an ID token and of OpenID Connect's userinfo.
    pub fn claims(&self, style: Style, scopes: &[String]) -> Value {
        let has = |scope: &str| scopes.iter().any(|given| given == scope);
        let mut told = json!({"sub": self.sub(style)});
        let Some(members) = told.as_object_mut() else { return told };
        if has("profile") {
            members.insert("name".to_owned(), json!(self.name));
            members.insert("picture".to_owned(), json!(self.picture()));
            if style != Style::Google {
                members.insert("preferred_username".to_owned(), json!(self.username));
            }
        }
        if let (true, Some(email)) = (has("email"), &self.email) {
            members.insert("email".to_owned(), json!(email));
            members.insert("email_verified".to_owned(), json!(self.email_verified));
        }
        told
    }

    /// What userinfo says. `old`: at the provider's older address.
    pub fn told(&self, style: Style, issued: &Issued, unionid: bool, old: bool) -> Value {
        let Self { username, name, email, id, .. } = self;
        match style {
            Style::GitHub => {
                json!({"login":username,"id":id,"node_id":format!("U_{id}"),"avatar_url":self.picture(),
                "name":name,"email":email.as_ref().filter(|_| self.email_public),"type":"User","site_admin":false})
            }
            Style::Gitee => json!({"id":id,"login":username,"name":name,"avatar_url":self.picture(),
                "html_url":format!("https://gitee.example/{username}"),"email":email}),
            Style::OsChina => {
                json!({"id":id,"email":email,"name":name,"gender":"male","avatar":self.picture(),
                "location":"","url":""})
            }
            Style::LinuxDo => json!({"id":id,"username":username,"name":name,
                "avatar_template":format!("https://pictures.example/{{size}}/{id}.png"),"active":self.active,
                "trust_level":self.trust_level,"silenced":!self.active,"external_ids":null,
                "api_key":"CANARY-linuxdo-api-key-must-never-be-kept"}),
            Style::Feishu => {
                let flat = json!({"name":name,"en_name":username,"avatar_url":self.picture(),
                    "open_id":format!("ou_{}", digest(&format!("{} {id}", issued.client_id), 32)),
                    "union_id":format!("on_{}", digest(&format!("union {id}"), 32)),
                    "user_id":digest(&format!("tenant {id}"), 8),"tenant_key":"736588c92lxf175d",
                    "email":email,"enterprise_email":email,"mobile":"+8613000000000"});
                if old { flat } else { json!({"code":0,"msg":"success","data":flat}) }
            }
            Style::WeChat => {
                let mut told = json!({"openid":self.openid(&issued.client_id),"nickname":name,"sex":0,"province":"",
                    "city":"","country":"","headimgurl":self.picture(),"privilege":[]});
                if let (true, Some(members)) = (unionid, told.as_object_mut()) {
                    members.insert("unionid".to_owned(), json!(self.unionid()));
                }
                told
            }
            Style::AiHubMix => self.account(issued),
            Style::Google if old => {
                json!({"id":self.sub(style),"email":email,"verified_email":self.email_verified,
                "name":name,"picture":self.picture()})
            }
            Style::HuggingFace => self.member(issued),
            Style::Google | Style::Oidc | Style::Qwen => self.claims(style, &issued.scopes),
        }
    }

    fn account(&self, issued: &Issued) -> Value {
        let mut told = json!({"id":self.id,"username":self.username,"email":self.email.clone().unwrap_or_default(),
            "created_time":1_640_995_200,"status":if self.active { 1 } else { 2 }});
        if let (true, Some(members)) =
            (issued.scopes.iter().any(|scope| scope == "balance"), told.as_object_mut())
        {
            members.insert("quota".to_owned(), json!(1_000_000));
            members.insert("used_quota".to_owned(), json!(250_000));
            members.insert("balance_formatted".to_owned(), json!("750.00"));
        }
        told
    }

    fn member(&self, issued: &Issued) -> Value {
        let mut told = self.claims(Style::HuggingFace, &issued.scopes);
        let Some(members) = told.as_object_mut() else { return told };
        let has = |scope: &str| issued.scopes.iter().any(|given| given == scope);
        if has("profile") {
            members.insert(
                "profile".to_owned(),
                json!(format!("https://huggingface.example/{}", self.username)),
            );
            members.insert("website".to_owned(), json!(""));
            members.insert("isPro".to_owned(), json!(self.pro));
            members.insert(
                "orgs".to_owned(),
                json!([{"sub":"63f0000000000000000000ac","name":"Acme","preferred_username":"acme","plan":"team",
                    "roleInOrg":"admin"}]),
            );
        }
        if has("read-billing") {
            members.insert("canPay".to_owned(), json!(true));
        }
        told
    }

    /// The address list of GitHub and Gitee.
    pub fn emails(&self, style: Style) -> Value {
        let Some(email) = &self.email else { return json!([]) };
        let other = format!("{}@users.noreply.example", self.username);
        match style {
            Style::GitHub => json!([
                {"email":other,"primary":false,"verified":true,"visibility":null},
                {"email":email,"primary":true,"verified":self.email_verified,"visibility":"private"}]),
            _ => json!([{"email":email,"state":if self.email_verified { "confirmed" } else { "unconfirmed" },
                "scope":["primary","notified"]}]),
        }
    }
}
