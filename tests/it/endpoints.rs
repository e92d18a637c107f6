//! What the gateway says of its endpoints is true of the real ones.

use http::Method;
use serde_json::Value;

use super::browser::open;
use super::house::{House, whole};

async fn described(house: &House, address: &str) -> Vec<(Method, String)> {
    let document = whole(house.client.get(format!("http://{address}/openapi.json"))).await;
    assert_eq!(document.status, 200, "{}", document.text());
    let document: Value = document.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    let each = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").keys();
        methods.map(move |name| (name.to_uppercase().parse().expect("a method"), path.clone()))
    });
    each.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_described_is_there() {
    let house = open(&["oidc"], "provider: {enabled: true}\n", "").await;
    for address in [house.listen.to_string(), house.admin.to_string()] {
        let all = described(&house, &address).await;
        assert!(all.len() > 20, "{all:?}");
        for (method, path) in &all {
            let real = path.replace("{provider}", "oidc").replace("{id}", "x");
            let url = format!("http://{address}{real}");
            let answer = whole(house.client.request(method.clone(), url)).await;
            assert!(![404, 405, 500].contains(&answer.status), "{method} {path}: {}", answer.text());
        }
        let page = whole(house.client.get(format!("http://{address}/docs"))).await;
        assert_eq!(page.status, 200);
        assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
        let text = page.text();
        // Aliases stand beside what they are aliases of.
        for (method, path) in all.iter().filter(|(_, path)| !path.starts_with("/models")) {
            let is_there =
                text.contains(&format!("{method} {path}<")) || text.contains(&format!("Also {path}<"));
            assert!(is_there, "{method} {path}");
        }
        assert!(!text.contains("<script") && !text.contains("src="), "nothing from elsewhere");
    }
}
