//! What all providers insist on.

use super::*;

#[tokio::test]
async fn every_provider_goes_from_link_to_person_and_counts() {
    for name in WITH_PAGES {
        let idp = Idp::new(name).await;
        let back = idp.authorize(&[("access_type", if name == "google" { "offline" } else { "" })]).await;
        assert_eq!(value(&back, "state"), "st&te=", "{name}");
        let told = idp.exchange(&value(&back, "code")).await.json();
        assert!(!text(&told, "access_token").is_empty(), "{name}");
        let refreshes = name != "github";
        assert_eq!(told["refresh_token"].is_string(), refreshes, "{name}: {told}");
        let person = idp.who(&told).await;
        assert_eq!(person.status, 200, "{name}: {}", person.text());
        assert!(person.text().to_lowercase().contains("ann"), "{name}: {}", person.text());
        let report = idp.report().await;
        for endpoint in ["authorize", "token", "userinfo"] {
            assert_eq!(report["endpoints"][endpoint], 1, "{name}: {report}");
        }
        assert_eq!(report["families"]["alive"], 1, "{name}");
        let last = &report["last"]["token"];
        let place = if idp.wechat() { "query" } else { "body" };
        assert_eq!(last[place]["code"], value(&back, "code"), "{name}: {last}");
    }
}

#[tokio::test]
async fn a_code_is_good_once_for_its_client_at_its_address_and_for_a_while() {
    for name in WITH_PAGES {
        let idp = Idp::new(name).await;
        idp.set("clients", json!({"client_id":"other","client_secret":"o","redirect_uris":[BACK]})).await;
        let refused = |reply: Reply, what: &str| {
            assert!(!reply.text().contains("access_token"), "{name} {what}: {}", reply.text());
        };
        let code = idp.code(&[]).await;
        let grant = [("grant_type", "authorization_code"), ("code", code.as_str()), ("redirect_uri", BACK)];
        refused(idp.token_as(("other", "o"), &grant).await, "of another client");
        refused(idp.token_as(("app", "wrong"), &grant).await, "wrong secret");
        refused(idp.token_as(("nobody", "s3cret"), &grant).await, "unknown client");
        if !idp.wechat() {
            let elsewhere = [grant[0], grant[1], ("redirect_uri", "https://gw.example/cb/")];
            refused(idp.token(&elsewhere).await, "another redirect_uri");
        }
        refused(idp.token(&[grant[0], ("code", "made-up"), grant[2]]).await, "made up");
        assert!(idp.token(&grant).await.text().contains("access_token"), "{name}");
        refused(idp.token(&grant).await, "second time");
        let late = idp.code(&[]).await;
        idp.fake.hand.advance(std::time::Duration::from_secs(601));
        refused(idp.exchange(&late).await, "after its time");
    }
}

#[tokio::test]
async fn a_foreign_address_gets_nothing() {
    let spellings = [
        "https://gw.example/cb/",
        "https://gw.example/cB",
        "https://gw.example:443/cb",
        "http://gw.example/cb",
        "https://evil.example/cb",
        "https://gw.example@evil.example/cb",
        "https://gw.example/cb?x=1",
        "https://gw.example/cb#x",
        "//gw.example/cb",
        "https://gw.example/cb/../x",
    ];
    for name in WITH_PAGES {
        let idp = Idp::new(name).await;
        for uri in spellings {
            let reply = idp.get(&idp.link(&[("redirect_uri", uri)]), &[]).await;
            let place = reply.header("location");
            if name == "github" {
                // Told at the registered address; what lies below that address passes.
                let below = uri.starts_with("https://gw.example/cb") && !uri.contains(['#', '.'].as_slice());
                let below = below
                    || ["https://gw.example:443/cb", "https://gw.example/cb/", "https://gw.example/cb?x=1"]
                        .contains(&uri);
                let wanted = if below { "code=" } else { "error=redirect_uri_mismatch" };
                assert!(place.starts_with("https://gw.example") && place.contains(wanted), "{uri}: {place}");
            } else {
                assert_eq!((place, reply.text().contains("problem")), ("", true), "{name} {uri}");
            }
        }
        for more in [[("client_id", "nobody"), ("appid", "nobody")], [("client_id", ""), ("appid", "")]] {
            let more = if idp.wechat() { &more[1..] } else { &more[..1] };
            let reply = idp.get(&idp.link(more), &[]).await;
            assert_eq!((reply.header("location"), reply.text().contains("problem")), ("", true), "{name}");
        }
    }
}

#[tokio::test]
async fn only_hugging_face_and_github_take_any_loopback_port() {
    for name in WITH_PAGES {
        let idp = Idp::new(name).await;
        let uris = ["http://127.0.0.1/cb", "http://localhost:9/cb"];
        idp.set("clients", json!({"client_id":"app","client_secret":"s3cret","redirect_uris":uris})).await;
        let any = matches!(name, "huggingface" | "github");
        for (uri, passes) in [
            ("http://127.0.0.1/cb", true),
            ("http://127.0.0.1:4711/cb", any),
            ("http://localhost:4711/cb", any),
            ("http://[::1]:4711/cb", false),
            ("https://127.0.0.1:4711/cb", false),
            ("http://127.0.0.1:4711/other", false),
            ("http://127.0.0.1:4711@evil.example/cb", false),
        ] {
            let reply = idp.get(&idp.link(&[("redirect_uri", uri)]), &[]).await;
            assert_eq!(reply.header("location").contains("code="), passes, "{name} {uri}");
        }
    }
}

#[tokio::test]
async fn a_verifier_must_fit_and_nothing_is_downgraded() {
    for name in ["github", "google", "feishu", "huggingface", "oidc"] {
        let idp = Idp::new(name).await;
        let with = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];
        let grant = |code: &str, verifier: &str| {
            let pairs = [
                ("grant_type", "authorization_code".to_owned()),
                ("code", code.to_owned()),
                ("redirect_uri", BACK.to_owned()),
                ("code_verifier", verifier.to_owned()),
            ];
            pairs.map(|(name, value)| (name, value))
        };
        for (challenge, verifier, good) in [
            (&with[..], VERIFIER, true),
            (&with[..], "", false),
            (&with[..], "short", false),
            (&with[..], "wrongwrongwrongwrongwrongwrongwrongwrongwrong", false),
            (&[][..], VERIFIER, false),
        ] {
            let code = idp.code(challenge).await;
            let pairs = grant(&code, verifier);
            let pairs: Vec<(&str, &str)> =
                pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let told = idp.token(&pairs).await.text();
            assert_eq!(told.contains("access_token"), good, "{name} {verifier:?}: {told}");
        }
        // Without a method it is plain, which only some take.
        let plain = idp.get(&idp.link(&[("code_challenge", CHALLENGE)]), &[]).await;
        let takes = matches!(name, "google" | "feishu");
        assert_eq!(plain.header("location").contains("code="), takes, "{name}");
    }
}

#[tokio::test]
async fn what_comes_twice_is_refused() {
    for name in ["github", "google", "huggingface", "oidc", "aihubmix"] {
        let idp = Idp::new(name).await;
        let reply = idp.get(&format!("{}&client_id=other", idp.link(&[])), &[]).await;
        assert_eq!(reply.status, 400, "{name}");
        let code = idp.code(&[]).await;
        let twice =
            [("grant_type", "authorization_code"), ("code", &code), ("code", "x"), ("redirect_uri", BACK)];
        let told = idp.token(&twice).await.text();
        assert!(told.contains("invalid_request"), "{name}: {told}");
    }
}

#[tokio::test]
async fn the_reuse_of_a_code_kills_what_came_of_it_where_it_does() {
    for (name, kills) in [("oidc", true), ("gitee", false)] {
        let idp = Idp::new(name).await;
        let code = idp.code(&[]).await;
        let told = idp.exchange(&code).await.json();
        idp.exchange(&code).await;
        assert_eq!(idp.who(&told).await.status == 401, kills, "{name}");
        assert_eq!(idp.report().await["families"]["killed"], u64::from(kills), "{name}");
    }
}

#[tokio::test]
async fn tokens_end() {
    for name in WITH_PAGES {
        let idp = Idp::new(name).await;
        idp.set("settings", json!({"access_s":60})).await;
        let told = idp.grant(&[]).await;
        assert_eq!(told["expires_in"], 60, "{name}");
        let person = idp.who(&told).await.text();
        idp.fake.hand.advance(std::time::Duration::from_secs(60));
        let after = idp.who(&told).await;
        assert_ne!(after.text(), person, "{name}");
        let odd = matches!(name, "oschina" | "feishu" | "wechat-open" | "wechat-mp");
        assert_eq!(after.status, if odd { 200 } else { 401 }, "{name}");
        idp.set("settings", json!({"access_s":null})).await;
        let told = idp.grant(&[]).await;
        idp.set("withdraw", json!({"person":"ann"})).await;
        assert_ne!(idp.who(&told).await.text(), person, "{name}");
    }
}
