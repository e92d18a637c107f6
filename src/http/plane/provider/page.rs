//! The few pages that people see of third-party apps.

use axum::response::Response;
use http::StatusCode;

use super::super::browser::{escaped, page};
use crate::gateway::provider::{Asked, Back, GrantedApp};
use crate::secret::Secret;

/// The question.
pub(super) fn consent(asked: &Asked, name: Option<&str>) -> Response {
    let app = escaped(&asked.app.name);
    let scopes: Vec<String> =
        asked.scopes.iter().map(|scope| format!("<li>{}</li>", escaped(scope.told()))).collect();
    let description = match asked.app.description.as_str() {
        "" => String::new(),
        text => format!("<p class=\"quiet\">{app} says of itself: {}</p>", escaped(text)),
    };
    let signed_in =
        name.map(|name| format!("<p class=\"quiet\">You are signed in as {}.</p>", escaped(name)));
    let body = format!(
        "<p><b>{app}</b> wants to:</p><ul>{scopes}</ul>{description}{signed_in}\
         <p class=\"quiet\">Either answer sends you to <b>{goes_to}</b>. You can take this back at any time under \
         <a href=\"/account/apps\">your apps</a>.</p>\
         <form method=\"post\" action=\"/api/oauth2/authorize\">\
         <input type=\"hidden\" name=\"ticket\" value=\"{ticket}\">\
         <button class=\"yes\" name=\"answer\" value=\"yes\">Allow</button> \
         <button name=\"answer\" value=\"no\">Do not allow</button></form>",
        scopes = scopes.concat(),
        signed_in = signed_in.unwrap_or_default(),
        goes_to = escaped(&asked.goes_to),
        ticket = escaped(asked.ticket.expose()),
    );
    page(StatusCode::OK, &format!("{} asks for access", asked.app.name), &body)
}

/// What an app has asked for that cannot be, told to somebody who has not let it in: an address that anybody can make up leads
/// them nowhere by itself.
pub(super) fn turned_back(back: &Back) -> Response {
    let body = format!(
        "<p>{}</p><p class=\"quiet\">You have not let this app in.</p><p><a href=\"{}\">Go back to <b>{}</b></a></p>",
        escaped(back.why),
        escaped(back.to.expose()),
        escaped(&back.goes_to),
    );
    page(StatusCode::BAD_REQUEST, "This cannot go on", &body)
}

/// The apps that somebody let in.
pub(super) fn apps(granted: &[GrantedApp], ticket: &Secret, name: Option<&str>) -> Response {
    let mut body = match name {
        Some(name) => format!("<p class=\"quiet\">You are signed in as {}.</p>", escaped(name)),
        None => String::new(),
    };
    if granted.is_empty() {
        body.push_str("<p>You have let in no app.</p>");
    }
    for app in granted {
        let scopes: Vec<&str> = app.scope.iter().map(|scope| scope.told()).collect();
        body.push_str(&format!(
            "<p><b>{}</b><br><span class=\"quiet\">{}<br>since {}</span></p>\
             <form method=\"post\" action=\"/account/apps\">\
             <input type=\"hidden\" name=\"ticket\" value=\"{}\">\
             <input type=\"hidden\" name=\"client_id\" value=\"{}\">\
             <button>Take back</button></form>",
            escaped(&app.name),
            escaped(&scopes.join("; ")),
            escaped(&day(app.granted_at)),
            escaped(ticket.expose()),
            escaped(&app.client_id),
        ));
    }
    page(StatusCode::OK, "Apps that you let in", &body)
}

fn day(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(|| "long ago".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}
