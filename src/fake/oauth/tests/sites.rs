//! The login site.

use super::*;
use crate::fake::oauth::site::{COOKIE, PASSWORD, STORED};

async fn post(fake: &Fake, path: &str, cookie: &str, pairs: Pairs<'_>) -> Reply {
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("cookie", cookie)];
    fake.send(request("POST", path, &headers, encoded(pairs))).await.unwrap()
}

#[tokio::test]
async fn password_code_question_home() {
    let fake = Fake::start().await;
    assert!(fake.get("/site/login", &[]).await.text().contains("id=\"password\""));
    assert_eq!(fake.get("/site/home", &[]).await.header("location"), "/site/login");
    let wrong = post(&fake, "/site/login", "", &[("username", "ann"), ("password", "x")]).await;
    assert_eq!((wrong.status, wrong.text().contains("id=\"problem\"")), (401, true));
    let login = post(&fake, "/site/login", "", &[("username", "ann"), ("password", PASSWORD)]).await;
    assert_eq!((login.status, login.header("location")), (303, "/site/code"));
    let cookie = login.header("set-cookie").split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with(COOKIE));
    // Nothing is open before the last step.
    assert_eq!(fake.get("/site/home", &[("cookie", &cookie)]).await.header("location"), "/site/code");
    assert_eq!(fake.get("/site-api/me", &[("cookie", &cookie)]).await.status, 401);
    assert_eq!(post(&fake, "/site/code", &cookie, &[("code", "x")]).await.status, 401);
    let code = fake.get("/_fake/site/code", &[]).await.json();
    let next = post(&fake, "/site/code", &cookie, &[("code", text(&code, "code"))]).await;
    assert_eq!(next.header("location"), "/site/question");
    let page = post(&fake, "/site/question", &cookie, &[("answer", "a hundred")]).await.text();
    assert!(page.contains("id=\"problem\""));
    let numbers = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let words: Vec<&str> = page.split(|letter: char| !letter.is_alphabetic()).collect();
    let plus = words.iter().position(|word| *word == "plus").unwrap();
    let number = |word: &str| numbers.iter().position(|known| *known == word).unwrap();
    let sum = (number(words[plus - 1]) + number(words[plus + 1])).to_string();
    let done = post(&fake, "/site/question", &cookie, &[("answer", &sum)]).await;
    assert_eq!(done.header("location"), "/site/home");
    let home = fake.get("/site/home", &[("cookie", &cookie)]).await.text();
    let (_, rest) = home.split_once(&format!("localStorage.setItem(\"{STORED}\", \"")).unwrap();
    let token = rest.split('"').next().unwrap();
    let bearer = format!("Bearer {token}");
    assert_eq!(fake.get("/site-api/me", &[("authorization", &bearer)]).await.json()["username"], "ann");
    let body = json!({"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}]});
    for header in [("authorization", bearer.as_str()), ("cookie", cookie.as_str())] {
        let reply = fake.post("/site-api/v1/chat/completions", &[header], &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let report = fake.get("/_fake/site", &[]).await.json();
    assert_eq!(report["wrong"], json!({"code":1,"password":1,"question":1}));
    fake.post("/_fake/site/expire", &[], &json!({})).await;
    assert_eq!(fake.get("/site-api/me", &[("authorization", &bearer)]).await.status, 401);
}
