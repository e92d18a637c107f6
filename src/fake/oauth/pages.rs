//! What a person sees. Why real pages: the gateway's flows are also driven by a real browser, which clicks `#signin`, `#allow`
//! and `#deny`. Plain forms, no script.

use crate::fake::wire::Native;

/// Text that is safe between tags and in quoted attributes.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

const STYLE: &str = "body{font:16px/1.5 sans-serif;max-width:28em;margin:3em auto;padding:0 1em}input,button{font:inherit;padding:.3em .6em}#problem{color:#a00}";

/// A page. `body` is HTML.
pub fn page(status: u16, title: &str, body: &str) -> Native {
    with_policy(status, title, body, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
}

/// A page with a policy of its own.
pub fn with_policy(status: u16, title: &str, body: &str, policy: &str) -> Native {
    let title = escaped(title);
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>"
    );
    Native {
        status,
        headers: vec![
            ("content-type", "text/html; charset=utf-8".to_owned()),
            ("content-security-policy", policy.to_owned()),
            ("referrer-policy", "no-referrer".to_owned()),
            ("cache-control", "no-store".to_owned()),
        ],
        body: html.into(),
    }
}

/// Something that cannot go back to the client.
pub fn problem(status: u16, provider: &str, words: &str) -> Native {
    page(status, provider, &format!("<p id=\"problem\">{}</p>", escaped(words)))
}

pub fn notice(provider: &str, words: &str) -> Native {
    page(200, provider, &format!("<p id=\"done\">{}</p>", escaped(words)))
}

/// Who are you?
pub fn sign_in<'a>(
    provider: &str,
    ticket: &str,
    people: impl Iterator<Item = &'a String>,
    problem: &str,
) -> Native {
    let options: String = people.map(|name| format!("<option value=\"{}\">", escaped(name))).collect();
    let problem = if problem.is_empty() {
        String::new()
    } else {
        format!("<p id=\"problem\">{}</p>", escaped(problem))
    };
    page(
        200,
        &format!("Sign in to {provider}"),
        &format!(
            "{problem}<form method=\"post\" action=\"/idp/{provider}/_signin\"><input type=\"hidden\" name=\"ticket\" value=\"{}\"><p><label>User name <input id=\"username\" name=\"username\" list=\"people\" autocomplete=\"off\" autofocus></label><datalist id=\"people\">{options}</datalist></p><p><button id=\"signin\">Sign in</button></p></form>",
            escaped(ticket)
        ),
    )
}

/// Shall it? `untick`: the person may leave scopes out.
pub fn consent(
    provider: &str,
    ticket: &str,
    client: &str,
    person: &str,
    scopes: &[String],
    untick: bool,
) -> Native {
    let line = |(index, scope): (usize, &String)| {
        let scope = escaped(scope);
        if untick {
            format!(
                "<li><label><input type=\"checkbox\" id=\"scope-{index}\" name=\"scope\" value=\"{scope}\" checked> {scope}</label></li>"
            )
        } else {
            format!("<li>{scope}</li>")
        }
    };
    let scopes: String = scopes.iter().enumerate().map(line).collect();
    page(
        200,
        &format!("{provider}: allow access?"),
        &format!(
            "<p><b id=\"client\">{}</b> asks for access to the account of <b id=\"person\">{}</b>.</p><form method=\"post\" action=\"/idp/{provider}/_consent\"><input type=\"hidden\" name=\"ticket\" value=\"{}\"><ul id=\"scopes\">{scopes}</ul><p><button id=\"allow\" name=\"answer\" value=\"allow\">Allow</button> <button id=\"deny\" name=\"answer\" value=\"deny\">Deny</button></p></form>",
            escaped(client),
            escaped(person),
            escaped(ticket)
        ),
    )
}

/// Which device?
pub fn user_code(provider: &str, given: &str, problem: &str) -> Native {
    let problem = if problem.is_empty() {
        String::new()
    } else {
        format!("<p id=\"problem\">{}</p>", escaped(problem))
    };
    page(
        200,
        &format!("{provider}: connect a device"),
        &format!(
            "{problem}<form method=\"post\" action=\"/idp/{provider}/_device\"><p><label>Code <input id=\"user_code\" name=\"user_code\" value=\"{}\" autocomplete=\"off\"></label></p><p><button id=\"continue\">Continue</button></p></form>",
            escaped(given)
        ),
    )
}
