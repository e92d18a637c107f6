//! What tests set and read: `/_fake/idp/…`.

use std::collections::BTreeMap;

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::books::{Client, Settings, State};
use super::people::Person;
use super::rows::{ROWS, Row};
use super::{Desk, Providers, faults};
use crate::fake::wire::{Asked, Native};

/// A provider in the script.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Setup {
    pub clients: Vec<Client>,
    pub settings: Settings,
    pub people: BTreeMap<String, Person>,
}

impl Providers {
    /// Takes over what a script says. What it does not name stays.
    pub fn set_up(&self, setups: &BTreeMap<String, Setup>) {
        for (name, setup) in setups {
            for desk in self.named(name) {
                let mut state = desk.state.lock();
                let clients = setup.clients.iter().map(|client| (client.client_id.clone(), client.clone()));
                state.clients.extend(clients);
                state.people.extend(setup.people.clone());
                state.settings = setup.settings.clone();
            }
        }
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Desk> {
        self.0.iter().filter(move |desk| name == "all" || desk.row.name == name)
    }
}

/// One or a list.
fn several<T: serde::de::DeserializeOwned>(body: &Value) -> Result<Vec<T>, String> {
    let one = |value: &Value| serde_json::from_value(value.clone()).map_err(|error| error.to_string());
    match body {
        Value::Array(list) => list.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// Answers a control request; `what` is the path below `/_fake/idp`.
pub async fn control(providers: &Providers, asked: &Asked, what: &str, now: u64) -> Native {
    let what = what.trim_start_matches('/');
    if what.is_empty() {
        let host = asked.header("host");
        let all: Map<String, Value> =
            ROWS.iter().map(|row| (row.name.to_owned(), places(row, host))).collect();
        return Native::json(200, &Value::Object(all));
    }
    let (name, action) = what.split_once('/').unwrap_or((what, ""));
    if providers.named(name).next().is_none() {
        return said(404, "no such provider");
    }
    if asked.method == Method::GET && action.is_empty() {
        let told: Map<String, Value> = providers
            .named(name)
            .map(|desk| (desk.row.name.to_owned(), desk.state.lock().report()))
            .collect();
        let one = told.get(name).cloned();
        return Native::json(200, &one.unwrap_or(Value::Object(told)));
    }
    if asked.method != Method::POST {
        return said(405, "POST it");
    }
    let body = match asked.body.is_empty() {
        true => json!({}),
        false => match serde_json::from_slice(&asked.body) {
            Ok(body) => body,
            Err(error) => return said(400, &error.to_string()),
        },
    };
    let mut told = json!({"ok":true});
    for desk in providers.named(name) {
        let done = match action {
            "rollover" => rollover(desk, &body).await.map(|kid| told = json!({"ok":true,"kid":kid})),
            _ => change(&mut desk.state.lock(), action, &body, asked, now),
        };
        if let Err(problem) = done {
            return said(400, &problem);
        }
    }
    Native::json(200, &told)
}

fn said(status: u16, words: &str) -> Native {
    Native::json(status, &json!({ "error": words }))
}

fn places(row: &Row, host: &str) -> Value {
    let all = row.routes.iter().map(|(_, path, endpoint)| {
        (endpoint.name().to_owned(), Value::from(format!("http://{host}/idp/{}{path}", row.name)))
    });
    // The first of several is the current one.
    let mut told = Map::new();
    for (name, place) in all {
        told.entry(name).or_insert(place);
    }
    told.insert("issuer".to_owned(), Value::from(format!("http://{host}/idp/{}", row.name)));
    Value::Object(told)
}

fn change(state: &mut State, action: &str, body: &Value, asked: &Asked, now: u64) -> Result<(), String> {
    let flag = |name: &str| body.get(name).and_then(Value::as_bool) == Some(true);
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    match action {
        "clients" => {
            for client in several::<Client>(body)? {
                state.clients.insert(client.client_id.clone(), client);
            }
        }
        "settings" => settings(state, body)?,
        "people" => people(state, body)?,
        "faults" => match faults::parse(&asked.body)? {
            none if none.is_empty() => state.faults.clear(),
            more => state.faults.extend(more),
        },
        "device" => {
            let code = text("user_code").unwrap_or_default();
            let device = state.devices.get_mut(code).ok_or("no such user_code")?;
            let allowed = text("answer").unwrap_or("allow") == "allow";
            device.answer = Some(allowed.then(|| text("person").unwrap_or("ann").to_owned()));
        }
        "expire" => {
            let all = body.as_object().is_none_or(Map::is_empty);
            if all || flag("access") {
                state.access.values_mut().for_each(|token| token.until_ms = Some(now));
            }
            if flag("refresh") {
                state.refresh.values_mut().for_each(|token| token.until_ms = Some(now));
            }
            if flag("codes") {
                state.codes.values_mut().for_each(|code| code.until_ms = now);
                state.devices.values_mut().for_each(|device| device.until_ms = now);
            }
        }
        "withdraw" => {
            let whose = text("person");
            for family in state.families.values_mut() {
                if whose.is_none_or(|person| person == family.person) {
                    family.killed.get_or_insert("the person withdrew");
                }
            }
            state.consented.retain(|(_, person)| whose.is_some_and(|whose| whose != person));
        }
        "reset" => state.reset(),
        _ => return Err(format!("there is no {action:?}")),
    }
    Ok(())
}

/// Sets what is named; null goes back to what the real one does.
fn settings(state: &mut State, body: &Value) -> Result<(), String> {
    let body = body.as_object().ok_or("settings are an object")?;
    let mut all = match serde_json::to_value(&state.settings) {
        Ok(Value::Object(all)) => all,
        _ => Map::new(),
    };
    for (name, value) in body {
        if value.is_null() {
            all.shift_remove(name);
        } else {
            all.insert(name.clone(), value.clone());
        }
    }
    all.retain(|_, value| !value.is_null());
    state.settings = serde_json::from_value(Value::Object(all)).map_err(|error| error.to_string())?;
    Ok(())
}

/// Changes what is named of each person.
fn people(state: &mut State, body: &Value) -> Result<(), String> {
    for (name, changes) in body.as_object().ok_or("people are an object")? {
        let known = state.people.get(name).cloned().unwrap_or_else(|| Person {
            username: name.clone(),
            name: name.clone(),
            id: 1_000_000 + state.people.len() as u64,
            ..Person::default()
        });
        let Ok(Value::Object(mut all)) = serde_json::to_value(&known) else { continue };
        all.extend(changes.as_object().cloned().unwrap_or_default());
        let person = serde_json::from_value(Value::Object(all)).map_err(|error| error.to_string())?;
        state.people.insert(name.clone(), person);
    }
    Ok(())
}

async fn rollover(desk: &Desk, body: &Value) -> Result<String, String> {
    let drop_old = body.get("drop_old").and_then(Value::as_bool).unwrap_or(false);
    let alg = super::keys::alg(&desk.state.lock());
    let alg = body.get("alg").and_then(Value::as_str).map_or(alg, str::to_owned);
    let kid = desk.ring.roll(&alg, drop_old).await.ok_or("no key could be made")?;
    desk.state.lock().settings.alg = Some(alg);
    Ok(kid)
}
