//! Several people in one tenant: each manages the accounts and apps that they added, and what nobody in particular added. Every door of both,
//! through the real binary; and what all of them may do together, which is to be served.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::house::{Answer, House, mint, until, whole};
use super::idp::{Idp, accounts, ask, data, initiate};
use super::people_gone::{App, BACK, Person, alive, apps, chats, listed, open, put, refused, tokens};

const TENANT: &str = "tenant: acme";
const MODEL: &str = "house/doubao-seed-2-1-pro-260915";
const ACCOUNTS: &str = "/api/v1/oauth/accounts";

/// A token of the tenant's that a company's issuer made.
fn minted(sub: &str, scope: &str) -> String {
    mint(json!({"sub": sub, "tenant": "acme", "scope": scope}))
}

/// A key of the tenant's.
async fn key(house: &House) -> String {
    let new = json!({"tenant": "acme", "name": "k", "scopes": ["chat", "accounts"]});
    let key = house.client.post(house.admin_url("/admin/keys")).bearer_auth(&house.token).json(&new);
    whole(key).await.json()["key"].as_str().expect("a key").to_owned()
}

async fn add(house: &House, token: &str, name: &str) -> String {
    let new = json!({"platform": "openai", "account_name": name, "api_key": format!("sk-{name}")});
    data(&ask(house, token, "POST", ACCOUNTS, Some(&new)).await)["id"].as_str().expect("an id").to_owned()
}

async fn register(house: &House, token: &str, name: &str) -> String {
    let new = json!({"name": name, "redirect_uris": [BACK]});
    let app = ask(house, token, "POST", "/api/oauth_apps", Some(&new)).await;
    app.json()["data"]["id"].as_str().unwrap_or_else(|| panic!("{}", app.text())).to_owned()
}

/// The ids that a list has.
async fn ids(house: &House, token: &str, path: &str) -> Vec<String> {
    let list = ask(house, token, "GET", path, None).await;
    let list = list.json()["data"].as_array().unwrap_or_else(|| panic!("{}", list.text())).clone();
    list.iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

fn sorted(ids: &[&String]) -> Vec<String> {
    let mut ids: Vec<String> = ids.iter().map(|id| (*id).clone()).collect();
    ids.sort();
    ids
}

/// Every door to one account or app, the one that shuts it last.
fn doors(account: &str, app: &str) -> Vec<(&'static str, String, Option<Value>)> {
    let one = format!("{ACCOUNTS}/{account}");
    let mine = format!("/api/oauth_apps/{app}");
    vec![
        ("POST", format!("{one}/refresh"), None),
        ("PUT", format!("{one}/toggle"), None),
        ("PUT", format!("{one}/toggle"), Some(json!({"is_active": true}))),
        ("POST", format!("{mine}/secret"), None),
        ("DELETE", mine, None),
        ("DELETE", one, None),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colleagues_manage_what_they_added_themselves() {
    let house = open(TENANT).await;
    let (ann, bob) = (Person::comes(&house, "ann").await, Person::comes(&house, "bob").await);
    let key = key(&house).await;
    let (company, admin) = (minted("alice", "accounts"), minted("root", "accounts admin"));
    // Another issuer may call whomever it likes as we call ann.
    let false_ann = minted(&ann.id, "accounts");
    let account = ann.consents(&house, "mine").await;
    let (app, nobodys_app) =
        (register(&house, &ann.token, "hers").await, register(&house, &key, "ours").await);
    let (nobodys, companys) = (add(&house, &key, "n").await, add(&house, &company, "c").await);
    let new = json!({"platform": "openai", "account_name": "o", "api_key": "sk-o", "owner": "acme"});
    let by_operator = house.client.post(house.admin_url("/admin/accounts")).bearer_auth(&house.token);
    let by_operator = whole(by_operator.json(&new)).await.json()["record"]["id"].clone();
    let by_operator = by_operator.as_str().expect("an id").to_owned();
    let shared = [&nobodys, &by_operator];
    let with = |own: &[&String]| sorted(&[&shared[..], own].concat());
    for (token, own, own_apps) in [
        (&ann.token, vec![&account], vec![&app]),
        (&bob.token, vec![], vec![]),
        (&key, vec![], vec![]),
        (&company, vec![&companys], vec![]),
        (&false_ann, vec![], vec![]),
        (&admin, vec![&account, &companys], vec![&app]),
    ] {
        assert_eq!(ids(&house, token, ACCOUNTS).await, with(&own));
        let all_apps = sorted(&[&[&nobodys_app][..], &own_apps].concat());
        assert_eq!(ids(&house, token, "/api/oauth_apps").await, all_apps);
    }
    let revoked = Idp::of(&house, "oidc").asked("revoke").await;
    for stranger in [&bob.token, &key, &company, &false_ann] {
        for (method, path, body) in doors(&account, &app) {
            let refused = ask(&house, stranger, method, &path, body.as_ref()).await;
            assert_eq!(refused.status, 404, "{method} {path}: {}", refused.text());
            let never = path.replace(&account, "acc_0000000000000000").replace(&app, "app_0");
            let never = ask(&house, stranger, method, &never, body.as_ref()).await;
            assert_eq!(refused.text(), never.text(), "as one that never was");
        }
    }
    assert_eq!(Idp::of(&house, "oidc").asked("revoke").await, revoked, "nothing was said to the provider");
    // It serves all of them, whoever added it.
    for token in [&ann.token, &bob.token, &key] {
        assert_eq!(chats(&house, token, MODEL).await, 200);
    }
    // What nobody in particular added is for all of them.
    for (method, path, body) in doors(&nobodys, &nobodys_app).into_iter().take(4) {
        let expected = if path.ends_with("/refresh") { 400 } else { 200 };
        for token in [&ann.token, &bob.token, &key] {
            let answer = ask(&house, token, method, &path, body.as_ref()).await;
            assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
        }
    }
    who_is_told(&house, &ann, &account).await;
    // An admin of the tenant, and whose it is, by every door.
    let other = ann.consents(&house, "other").await;
    let other_app = register(&house, &ann.token, "other").await;
    for (token, account, app) in [(&admin, &account, &app), (&ann.token, &other, &other_app)] {
        for (method, path, body) in doors(account, app) {
            let answer = ask(&house, token, method, &path, body.as_ref()).await;
            assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        }
    }
    assert_eq!(ids(&house, &ann.token, ACCOUNTS).await, with(&[]));
}

/// Whose it is: who manages it is told, and operators are, also at a terminal.
async fn who_is_told(house: &House, ann: &Person, account: &str) {
    let mine = accounts(house, &ann.token).await.into_iter().find(|one| one["id"] == account);
    assert_eq!(mine.expect("listed")["added_by"], json!(ann.id));
    let all = listed(house, "acme").await;
    let seen = all.iter().find(|one| one["id"] == account).expect("listed");
    assert_eq!(seen["added_by"], json!({"subject": ann.id}));
    let (is_good, told) = house.run(&["account", "list"]).await;
    assert!(is_good && all.iter().all(|one| told.contains(one["id"].as_str().expect("an id"))), "{told}");
}

/// The same account at the provider, by the same name here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_colleagues_consent_makes_an_account_of_its_own() {
    let house = open(TENANT).await;
    let (ann, bob) = (Person::comes(&house, "ann").await, Person::comes(&house, "bob").await);
    let (key, admin) = (key(&house).await, minted("root", "accounts admin"));
    let consent = async |token: &str, name: &str| {
        let person = Person { token: token.to_owned(), ..Person::nobody(&house) };
        person.consents(&house, name).await
    };
    let hers = ann.consents(&house, "mine").await;
    let before = accounts(&house, &ann.token).await;
    sleep(Duration::from_millis(1100)).await;
    let his = bob.consents(&house, "mine").await;
    assert_ne!(hers, his);
    assert_eq!(accounts(&house, &ann.token).await, before, "hers is as it was");
    assert_eq!((bob.consents(&house, "mine").await, ann.consents(&house, "mine").await), (his, hers));
    // Of nobody in particular: whoever agrees renews it, and it stays everybody's.
    let ours = consent(&key, "ours").await;
    assert_eq!(
        (ann.consents(&house, "ours").await, bob.consents(&house, "ours").await),
        (ours.clone(), ours.clone())
    );
    assert_eq!(consent(&key, "ours").await, ours);
    // An admin of the tenant renews anybody's.
    let only = bob.consents(&house, "only").await;
    assert_eq!(consent(&admin, "only").await, only);
    assert!(ids(&house, &bob.token, ACCOUNTS).await.contains(&only), "and it stays his");
    // What is begun is for whoever began it, by whatever way it ends.
    let begun = ann.agrees(&house, "late").await;
    let paste = json!({"url": begun.address});
    for stranger in [&bob.token, &key, &minted(&ann.id, "accounts")] {
        let pasted = ask(&house, stranger, "POST", "/api/v1/oauth/callback", Some(&paste)).await;
        assert_eq!(pasted.status, 400, "{}", pasted.text());
    }
    let wish = json!({"platform": "house", "account_name": "device", "flow": "device_code"});
    let told = data(&initiate(&house, &ann.token, wish).await);
    let status = format!("/api/v1/oauth/status?state={}", told["state"].as_str().expect("a state"));
    let look = async |token: &str| -> Answer { ask(&house, token, "GET", &status, None).await };
    let code = json!({"user_code": told["user_code"], "person": "ann", "answer": "allow"});
    Idp::of(&house, "oidc").tell("device", code).await;
    until("it is done", async || data(&look(&ann.token).await)["status"] == "done").await;
    let id = data(&look(&ann.token).await)["account"]["id"].as_str().expect("an id").to_owned();
    for stranger in [&bob.token, &key, &admin, &minted(&ann.id, "accounts")] {
        assert_eq!(look(stranger).await.status, 404);
    }
    assert!(ids(&house, &ann.token, ACCOUNTS).await.contains(&id));
    assert!(!ids(&house, &bob.token, ACCOUNTS).await.contains(&id));
}

/// In a tenant that several share, accounts are the tenant's in what they do; an app is in the hands of whoever knows its secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_a_shared_tenant_leaves_its_accounts_there() {
    let house = open(TENANT).await;
    let (ann, bob) = (Person::comes(&house, "ann").await, Person::comes(&house, "bob").await);
    let account = ann.consents(&house, "mine").await;
    let (app, his): (App, App) = (ann.registers(&house, "hers").await, bob.registers(&house, "his").await);
    let (access, refresh) = tokens(&app.trades(&house, &bob.lets_in(&house, &app).await).await);
    let (kept, _) = tokens(&his.trades(&house, &bob.lets_in(&house, &his).await).await);
    let goes_on = async || {
        assert_eq!(chats(&house, &bob.token, MODEL).await, 200, "the tenant's accounts serve the tenant");
        assert_eq!((chats(&house, &kept, "gpt-4o").await, alive(&house).await), (200, 1));
        assert_eq!(listed(&house, "acme").await[0]["id"], json!(account));
    };
    put(&house, &ann.id, json!({"is_blocked": true})).await;
    assert_eq!(chats(&house, &access, "gpt-4o").await, 401);
    goes_on().await;
    put(&house, &ann.id, json!({"is_blocked": false})).await;
    assert_eq!(chats(&house, &access, "gpt-4o").await, 200);
    let gone = house.admin(Method::DELETE, &format!("/admin/people/{}", ann.id)).await;
    assert_eq!((gone.status, &gone.json()["is_done"]), (200, &json!(true)), "{}", gone.text());
    until("her app is out of use", async || chats(&house, &access, "gpt-4o").await == 401).await;
    assert_eq!(refused(&app.renews(&house, &refresh).await), (400, "unauthorized_client".to_owned()));
    goes_on().await;
    assert_eq!(apps(&house).await, 2, "operators see it, and an admin of the tenant");
    let admin = minted("root", "accounts admin");
    assert_eq!(ids(&house, &admin, ACCOUNTS).await, std::slice::from_ref(&account));
    for (method, path, body) in doors(&account, &app.id).into_iter().skip(4) {
        assert_eq!(ask(&house, &admin, method, &path, body.as_ref()).await.status, 200);
    }
    assert_eq!((apps(&house).await, alive(&house).await), (1, 0));
}
