//! The pages of sign-in: where to choose a provider, and what somebody sees of themselves.

use axum::response::Response;
use http::StatusCode;

use super::super::browser::{escaped, page};
use crate::gateway::people::{Ground, Guest, Link, SessionRecord};
use crate::secret::Secret;

/// Where a sign-in by `provider` begins.
pub(super) fn start_of(provider: &str, after: Option<&str>) -> String {
    let Some(after) = after else { return format!("/auth/{provider}") };
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    format!("/auth/{provider}?{}", query.append_pair("redirect_after", after).finish())
}

/// The providers, each a link.
pub(super) fn choose(ground: &Ground, after: Option<&str>) -> Response {
    let doors: Vec<String> = ground
        .doors()
        .map(|door| {
            let to = start_of(&door.name, after);
            format!("<li><a href=\"{}\">{}</a></li>", escaped(&to), escaped(&door.title))
        })
        .collect();
    page(StatusCode::OK, "Sign in", &format!("<p>Sign in with:</p><ul>{}</ul>", doors.concat()))
}

/// What did not work, and the way to try again.
pub(super) fn failed(status: StatusCode, why: &str) -> Response {
    let body = format!("<p>{}</p><p><a href=\"/auth\">Sign in</a></p>", escaped(why));
    page(status, "That did not work", &body)
}

/// A form of one button.
fn button(action: &str, ticket: &Secret, fields: &[(&str, &str)], text: &str) -> String {
    let hidden = |(name, value): (&str, &str)| {
        format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escaped(value))
    };
    let fields: Vec<String> =
        [("ticket", ticket.expose())].into_iter().chain(fields.iter().copied()).map(hidden).collect();
    format!("<form method=\"post\" action=\"{action}\">{}<button>{text}</button></form>", fields.concat())
}

pub(super) fn ask_logout(ticket: &Secret) -> Response {
    let here = button("/auth/logout", ticket, &[], "Sign out");
    let everywhere = button("/auth/logout", ticket, &[("everywhere", "true")], "Sign out everywhere");
    let body = format!("<p>Sign out here, or in every browser?</p><p>{here} {everywhere}</p>");
    page(StatusCode::OK, "Sign out", &body)
}

/// Ways in, sessions, and what can be done about them.
pub(super) fn account(
    ground: &Ground,
    guest: &Guest,
    sessions: &[SessionRecord],
    has_apps: bool,
) -> Response {
    let Guest { person, session, ticket } = guest;
    let name = person.name().or(person.email()).unwrap_or(&person.id);
    let links: Vec<String> =
        person.links.iter().map(|link| way_in(ground, link, ticket, person.links.len() > 1)).collect();
    let more: Vec<String> = ground
        .doors()
        .map(|door| button(&escaped(&start_of(&door.name, None)), ticket, &[], &escaped(&door.title)))
        .collect();
    let sessions: Vec<String> = sessions.iter().map(|one| browser(one, &session.id, ticket)).collect();
    let apps = if has_apps { "<p><a href=\"/account/apps\">Apps that you let in</a></p>" } else { "" };
    let body = format!(
        "<p>You are signed in as <b>{}</b>.</p><h2>Ways in</h2><ul>{}</ul><p><span class=\"quiet\">Add:</span> {}</p>\
         <h2>Browsers</h2><ul>{}</ul>{apps}<p>{} {}</p>",
        escaped(name),
        links.concat(),
        more.join(" "),
        sessions.concat(),
        button("/auth/logout", ticket, &[], "Sign out"),
        button("/auth/logout", ticket, &[("everywhere", "true")], "Sign out everywhere"),
    );
    page(StatusCode::OK, "Your account", &body)
}

fn way_in(ground: &Ground, link: &Link, ticket: &Secret, is_one_of_many: bool) -> String {
    let door = ground.doors().find(|door| door.name == link.source);
    let title = door.map_or(link.source.as_str(), |door| door.title.as_str());
    let sid = link.sids.first().map_or("", String::as_str);
    let who = link.name.as_deref().or(link.email.as_deref()).unwrap_or(sid);
    let away = match is_one_of_many {
        true => button(super::HOME, ticket, &[("do", "unlink"), ("id", &link.id)], "Take away"),
        false => String::new(),
    };
    format!("<li>{}: {} {away}</li>", escaped(title), escaped(who))
}

fn browser(session: &SessionRecord, current: &str, ticket: &Secret) -> String {
    let agent = if session.agent.is_empty() { "a program" } else { &session.agent };
    let end = match session.id == current {
        true => "<b>this one</b>".to_owned(),
        false => button(super::HOME, ticket, &[("do", "end"), ("id", &session.id)], "End"),
    };
    format!("<li><span class=\"quiet\">{}</span> {end}</li>", escaped(agent))
}
