//! The documents say what is true: what they name exists.

#![expect(clippy::expect_used, reason = "a test stops where its world is not as it must be")]

use std::path::Path;

use weir::fault::Kind;

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file)
}

#[test]
fn the_readme_names_every_error_that_callers_can_see() {
    let readme = read("README.md");
    let table =
        readme.split("### Errors").nth(1).expect("a section").split("\n###").next().expect("its text");
    for kind in Kind::ALL {
        let row = kind.row();
        // Nobody is there to read it.
        if kind == Kind::ClientGone {
            continue;
        }
        assert!(table.contains(&row.status.to_string()), "{kind:?}: {}", row.status);
        assert!(table.contains(row.class), "{kind:?}: {}", row.class);
        assert!(row.code.is_none_or(|code| table.contains(code)), "{kind:?}: {:?}", row.code);
    }
}

#[test]
fn the_readme_names_every_built_in_platform() {
    let readme = read("README.md").to_lowercase();
    for platform in weir::platform::profile::Platform::built_in().expect("rows") {
        let vendor =
            platform.name.as_str().split('-').next().expect("a name").replace("huggingface", "hugging face");
        let known_as = if vendor == "dashscope" { "qwen" } else { &vendor };
        assert!(readme.contains(known_as), "{}", platform.name);
    }
}

#[test]
fn the_dashboard_asks_only_for_metrics_that_exist() {
    let metrics = read("src/metrics.rs");
    let dashboard = read("dashboards/weir.json");
    let mut asked = 0;
    for (at, _) in dashboard.match_indices("weir_") {
        let rest = &dashboard[at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = rest[..end].trim_end_matches("_bucket");
        assert!(metrics.contains(&format!("\"{name}\"")), "{name}");
        asked += 1;
    }
    assert!(asked > 10, "the dashboard was not read");
}

/// What is served is listed where the router is made, and nowhere past it.
#[test]
fn routes_are_made_in_one_place() {
    let mut makers = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.contains("axum::routing") || text.contains("Router::new()") {
                makers.push(path);
            }
        }
    }
    assert!(matches!(&makers[..], [one] if one.ends_with("plane/listed.rs")), "{makers:?}");
}
