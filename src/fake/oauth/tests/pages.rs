//! What a person sees and clicks.

use super::*;

/// The hidden field of a page.
pub fn ticket(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"ticket\" value=\"").unwrap_or_else(|| panic!("{page}"));
    rest.split('"').next().unwrap().to_owned()
}

async fn manual(name: &'static str) -> Idp {
    let idp = Idp::new(name).await;
    idp.set("settings", json!({"auto":null})).await;
    idp
}

#[tokio::test]
async fn sign_in_consent_and_back() {
    for name in WITH_PAGES {
        let idp = manual(name).await;
        let page = idp.get(&idp.link(&[]), &[]).await;
        assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"));
        assert_eq!(
            (page.header("referrer-policy"), page.header("cache-control")),
            ("no-referrer", "no-store")
        );
        let page = page.text();
        assert!(page.contains("id=\"username\"") && page.contains("id=\"signin\""), "{name}");
        let ticket = ticket(&page);
        let wrong = idp.form("/_signin", &[], &[("ticket", &ticket), ("username", "<b>")]).await.text();
        assert!(wrong.contains("id=\"problem\"") && !wrong.contains("<b>"), "{name}");
        let consent = idp.form("/_signin", &[], &[("ticket", &ticket), ("username", "bob")]).await.text();
        assert!(consent.contains("id=\"allow\"") && consent.contains("id=\"deny\""), "{name}");
        assert!(consent.contains("Bob &lt;b&gt;&amp;&quot;O&#39;Neil&quot;"), "{name}");
        let mut answer = vec![("ticket", ticket.as_str()), ("answer", "allow")];
        if name == "google" {
            answer.extend([("scope", "openid"), ("scope", "email")]);
        }
        let reply = idp.form("/_consent", &[], &answer).await;
        assert_eq!(reply.status, 303, "{name}");
        let place = url::Url::parse(reply.header("location")).unwrap();
        let pairs: Vec<(String, String)> = place.query_pairs().into_owned().collect();
        let told = idp.exchange(&value(&pairs, "code")).await.json();
        if name == "google" {
            // The person left the profile out.
            assert_eq!(told["scope"], "openid email");
        }
        assert_eq!(idp.report().await["families"]["list"][0]["person"], "bob", "{name}");
        assert_eq!(idp.form("/_consent", &[], &answer).await.status, 400, "{name}: a page is good once");
    }
}

#[tokio::test]
async fn the_click_on_deny_and_no_consent_before_sign_in() {
    let idp = manual("oidc").await;
    let ticket_of = async || ticket(&idp.get(&idp.link(&[]), &[]).await.text());
    let ticket = ticket_of().await;
    let early = idp.form("/_consent", &[], &[("ticket", &ticket), ("answer", "allow")]).await;
    assert_eq!((early.status, early.header("location")), (400, ""));
    let ticket = ticket_of().await;
    idp.form("/_signin", &[], &[("ticket", &ticket), ("username", "ann")]).await;
    let reply = idp.form("/_consent", &[], &[("ticket", &ticket), ("answer", "deny")]).await;
    let place = reply.header("location");
    assert!(place.contains("error=access_denied") && place.contains("iss="), "{place}");
}

#[tokio::test]
async fn only_code_and_known_scopes() {
    for name in ["google", "huggingface", "oidc", "gitee", "aihubmix"] {
        let idp = Idp::new(name).await;
        let back = idp.authorize(&[("response_type", "token")]).await;
        assert_eq!(value(&back, "error"), "unsupported_response_type", "{name}");
        let back = idp.authorize(&[("scope", "everything")]).await;
        assert_eq!(value(&back, "error"), "invalid_scope", "{name}");
    }
    let public = Idp::new("huggingface").await;
    public.set("clients", json!({"client_id":"app","redirect_uris":[BACK]})).await;
    assert_eq!(value(&public.authorize(&[]).await, "error"), "invalid_request");
    let with = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];
    let code = public.code(&with).await;
    let pairs = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
    ];
    assert_eq!(public.token_as(("app", ""), &pairs).await.status, 200);
}
